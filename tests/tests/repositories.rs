//! Repositories among others: killed after any system call, starved of room, raced, crowded; and what they keep in
//! memory, mounted.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use package::compose::{Format, Recipe, pack};
use package::repository::{Repository, Rules, Scan, sweep};
use package::squashfs::Compression;
use package::tree::Tree;
use package::{Draft, Manifest, PublicKey, Seal, SecretKey, generate_pair};
use tests::trace::{Fate, kill_after};
use tests::{Bundle, Invocation, LIMIT, Lines, Runtime, Snapshot, figure, needs};

const DEPOT: &str = env!("CARGO_BIN_EXE_depot");
const BLOCK: usize = 4096;

/// A directory for packages, a key, and a place for what containers keep.
struct Depot {
    bundle: Bundle,
}

impl Depot {
    fn new() -> Self {
        let bundle = Bundle::new("depot");
        for name in ["packages", "data"] {
            fs::create_dir(bundle.dir().join(name)).expect("a directory");
        }
        generate_pair(bundle.dir(), "k").expect("a pair of keys");
        Self { bundle }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.bundle.dir().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("a path in text").to_owned()
    }

    /// Writes a signed package with an image of so many blocks to a file.
    fn write(&self, file: &str, version: &str, blocks: usize) {
        let key = SecretKey::read(&self.path("k.key")).expect("a key");
        let file = fs::File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(self.path(file))
            .expect("a file");
        let draft = Draft::begin(file, manifest(version).into_bytes(), true).expect("a draft");
        let mut image = draft.file();
        image.seek(SeekFrom::Start(draft.start())).expect("a place");
        for block in 0..blocks {
            image.write_all(&[u8::try_from(block % 251).unwrap_or_default(); BLOCK]).expect("an image");
        }
        let seal = Seal { key: &key, uuid: [1; 16], salt: [2; 32] };
        draft.finish((blocks * BLOCK) as u64, Some(&seal), |_| ()).expect("a package");
    }

    /// A call of the program on the directory of packages.
    fn call(&self, words: &[&str]) -> Invocation<'_> {
        let (packages, key) = (self.text("packages"), self.text("k.pub"));
        let all = [&[packages.as_str(), key.as_str()], words].concat();
        Runtime::at(Path::new(DEPOT)).command(&self.bundle, &all).without_globals()
    }

    fn open(&self) -> (Repository, Scan) {
        let key = PublicKey::read(&self.path("k.pub")).expect("a key");
        let rules = Rules { key: Some(key), ..Rules::default() };
        Repository::open(&self.path("packages"), rules).expect("a directory that can be listed")
    }

    /// What is installed, once a scan has looked: every package whole, and no file beside them.
    fn installed(&self) -> Vec<String> {
        let (repository, scan) = self.open();
        assert!(scan.skipped.is_empty(), "{scan:?}");
        let installed: Vec<String> = repository.entries().keys().cloned().collect();
        for container in &installed {
            let opened = repository.package(container).expect("it is verified");
            opened.package.check(|_| ()).expect("it is whole");
        }
        let files: Vec<_> = installed.iter().map(|container| format!("{container}.npk")).collect();
        assert_eq!(self.names("packages"), files);
        installed
    }

    fn names(&self, directory: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(directory)).expect("a directory");
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

fn manifest(version: &str) -> String {
    format!("name: a\nversion: {version}\ninit: /a\nuid: 1000\ngid: 1000\n")
}

#[test]
fn root_an_installation_killed_at_any_point_leaves_the_old_state_or_the_new() {
    needs!(Root, Busybox);
    let depot = Depot::new();
    depot.write("packages/a:1.0.0.npk", "1.0.0", 3);
    depot.write("new.npk", "2.0.0", 3);
    let new = depot.text("new.npk");
    let (mut calls, mut drafts, mut states) = (Vec::new(), 0, Vec::new());
    for count in 0.. {
        let fate = kill_after(depot.call(&["install", &new, "4096"]), count);
        let left = depot.names("packages").iter().any(|name| name.starts_with('.'));
        drafts += usize::from(left);
        let installed = depot.installed();
        let is_new = installed == ["a:1.0.0", "a:2.0.0"];
        assert!(is_new || installed == ["a:1.0.0"], "after {count} calls: {installed:?}");
        states.push(is_new);
        if is_new {
            fs::remove_file(depot.path("packages/a:2.0.0.npk")).expect("it is there");
        }
        match fate {
            Fate::Killed { call } => calls.push(call.cast_signed()),
            Fate::Ended { code, .. } => {
                assert_eq!((code, is_new), (0, true));
                break;
            }
        }
    }
    figure(&format!(
        "{} points at which an installation was killed, {drafts} with a draft left",
        calls.len()
    ));
    // A tracer that lost its tracee would find nothing wrong.
    assert!(calls.len() > 40 && drafts > 5, "{} points, {drafts} drafts", calls.len());
    let first = states.iter().position(|is_new| *is_new).expect("it is installed in the end");
    assert!(states[first..].iter().all(|is_new| *is_new), "what was installed is gone again: {states:?}");
    is_synchronised(&calls);
}

/// What killing cannot show, since the kernel outlives it: all is on disk before it bears its name, and so is the name
/// before anybody hears of it.
fn is_synchronised(calls: &[i64]) {
    let ours = [libc::SYS_fsync, libc::SYS_renameat2, libc::SYS_write];
    let mut order: Vec<i64> = calls.iter().copied().filter(|call| ours.contains(call)).collect();
    order.dedup();
    // The pieces, and `written` behind the first fsync; then `installed`.
    let expected = [
        libc::SYS_write,
        libc::SYS_fsync,
        libc::SYS_write,
        libc::SYS_renameat2,
        libc::SYS_fsync,
        libc::SYS_write,
    ];
    assert_eq!(order, expected);
}

#[test]
fn root_an_uninstallation_killed_at_any_point_leaves_the_old_state_or_the_new() {
    needs!(Root, Busybox);
    let depot = Depot::new();
    depot.write("a.npk", "1.0.0", 3);
    let data = depot.text("data");
    let (mut points, mut interrupted) = (0, 0);
    for count in 0.. {
        fs::copy(depot.path("a.npk"), depot.path("packages/a:1.0.0.npk")).expect("a package");
        fs::create_dir_all(depot.path("data/a/deep")).expect("a directory");
        fs::write(depot.path("data/a/deep/x"), "kept").expect("a file");
        let fate = kill_after(depot.call(&["uninstall", "a:1.0.0", &data]), count);
        let installed = depot.installed();
        let swept = sweep(&depot.path("data"), |container| installed.iter().any(|one| one == container))
            .expect("a sweep");
        assert!(swept.skipped.is_empty(), "{swept:?}");
        interrupted += swept.wiped.len() + swept.put_back.len();
        let kept = fs::read(depot.path("data/a/deep/x")).ok();
        match (installed.is_empty(), kept.as_deref()) {
            (true, None) => assert_eq!(depot.names("data"), Vec::<String>::new()),
            (false, Some(b"kept")) => assert_eq!(depot.names("data"), ["a"]),
            state => panic!("after {count} calls: {state:?}"),
        }
        match fate {
            Fate::Killed { .. } => points += 1,
            Fate::Ended { code, .. } => {
                assert_eq!((code, installed.is_empty()), (0, true));
                break;
            }
        }
    }
    figure(&format!("{points} points at which an uninstallation was killed, {interrupted} ended by a sweep"));
    assert!(points > 40 && interrupted > 5, "{points} points, {interrupted} swept");
}

#[test]
fn root_a_full_disk_is_one_error_and_leaves_nothing() {
    needs!(Root, Busybox);
    let depot = Depot::new();
    depot.write("large.npk", "1.0.0", 100);
    depot.write("small.npk", "2.0.0", 2);
    let script = r#"
        mount -t tmpfs -o size=128k none "$2" || exit 99
        "$1" "$2" "$3" install "$4" 4096; echo "code $?"; ls -A "$2"
        "$1" "$2" "$3" install "$5" 4096; echo "code $?"; ls -A "$2"
        mount -t tmpfs -o nr_inodes=1 none "$2" || exit 99
        "$1" "$2" "$3" install "$5" 4096; echo "code $?"; ls -A "$2"
    "#;
    let words = [
        DEPOT,
        &depot.text("packages"),
        &depot.text("k.pub"),
        &depot.text("large.npk"),
        &depot.text("small.npk"),
    ];
    let mut shell = Command::new("unshare");
    shell.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]).args(words);
    let output = shell.stdin(Stdio::null()).output().expect("run a shell");
    assert_eq!(
        text(&output.stdout),
        "code 1\nwritten\ninstalled a:2.0.0\ncode 0\na:2.0.0.npk\ncode 1\n",
        "{}",
        text(&output.stderr)
    );
    let errors = text(&output.stderr);
    let errors: Vec<&str> = errors.lines().collect();
    let [large, inodes] = errors.as_slice() else { panic!("{errors:?}") };
    assert!(large.starts_with("depot: write(package, 4096 at 1"), "{large}");
    assert!(inodes.starts_with("depot: openat(\".cofferdam-"), "{inodes}");
    for error in errors {
        assert!(error.to_lowercase().ends_with(": no space left on device (os error 28)"), "{error}");
    }
}

#[cfg(target_arch = "x86_64")]
mod answered {
    use super::*;
    use tests::trace::{answer, answer_nth};

    #[test]
    fn root_a_disk_that_fails_is_one_error_and_leaves_nothing() {
        needs!(Root, Busybox);
        let depot = Depot::new();
        depot.write("new.npk", "2.0.0", 3);
        let new = depot.text("new.npk");
        for (call, nth, words) in [
            (libc::SYS_write, 1, "write(package, 4096 at 0)"),
            (libc::SYS_write, 2, "write(package, 4096 at 4096)"),
            (libc::SYS_fsync, 1, "fsync(package)"),
            (libc::SYS_renameat2, 1, "renameat2(\"a:2.0.0.npk\")"),
            (libc::SYS_fsync, 2, "fsync(directory)"),
        ] {
            let output = answer_nth(depot.call(&["install", &new, "4096"]), call, nth, libc::EIO);
            let told = output.stderr.to_lowercase();
            assert_eq!(
                (output.code, told.trim()),
                (1, format!("depot: {words}: input/output error (os error 5)").as_str())
            );
            assert_eq!(depot.names("packages"), Vec::<String>::new(), "{words}");
        }
    }

    #[test]
    fn root_a_file_system_that_cannot_rename_without_replacing_takes_packages_too() {
        needs!(Root, Busybox);
        let depot = Depot::new();
        depot.write("new.npk", "2.0.0", 3);
        let new = depot.text("new.npk");
        let install = || depot.call(&["install", &new, "4096"]);
        answer(install(), libc::SYS_renameat2, libc::EINVAL).success();
        assert_eq!(depot.names("packages"), ["a:2.0.0.npk"]);
        assert_eq!(depot.installed(), ["a:2.0.0"]);
        // Nor is a file replaced there.
        fs::rename(depot.path("packages/a:2.0.0.npk"), depot.path("moved")).expect("it is there");
        fs::write(depot.path("packages/a:2.0.0.npk"), "foreign").expect("a file");
        let output = answer(install(), libc::SYS_renameat2, libc::EINVAL);
        assert_eq!(
            (output.code, output.stderr.as_str()),
            (1, "depot: a file \"a:2.0.0.npk\" is there already\n")
        );
        assert_eq!(depot.names("packages"), ["a:2.0.0.npk"]);
    }

    #[test]
    fn root_a_kernel_that_knows_no_memory_without_execution_takes_packages_too() {
        needs!(Root, Busybox);
        let depot = Depot::new();
        depot.write("new.npk", "2.0.0", 3);
        let words = ["-", "-", "install", &depot.text("new.npk"), "4096"];
        let command = Runtime::at(Path::new(DEPOT)).command(&depot.bundle, &words).without_globals();
        let output = answer(command, libc::SYS_memfd_create, libc::EINVAL);
        assert_eq!(output.success().stdout, "written\ninstalled a:2.0.0\n");
    }
}

#[test]
fn root_of_two_installers_at_once_one_wins() {
    needs!(Root, Busybox);
    let depot = Depot::new();
    for round in 0..20 {
        let version = format!("{round}.0.0");
        depot.write("new.npk", &version, 3);
        let mut installers: Vec<(Child, Lines)> = (0..2).map(|_| installer(&depot)).collect();
        for (_, lines) in &mut installers {
            assert_eq!(lines.next_within(LIMIT).as_deref(), Some("written"));
        }
        // Whoever looks meanwhile leaves both alone.
        let (_, scan) = depot.open();
        let busy = scan
            .skipped
            .iter()
            .filter(|skipped| skipped.reason.to_string() == "is being written by an installation");
        assert_eq!((busy.count(), scan.removed.len()), (2, 0), "{scan:?}");
        for (child, _) in &mut installers {
            drop(child.stdin.take());
        }
        let outputs: Vec<Output> = installers
            .into_iter()
            .map(|(child, _)| child.wait_with_output().expect("wait for an installer"))
            .collect();
        let won = outputs.iter().filter(|output| output.status.success()).count();
        let lost = format!("depot: a file \"a:{version}.npk\" is there already\n");
        let told: Vec<String> = outputs.iter().map(|output| text(&output.stderr)).collect();
        assert!(won == 1 && told.contains(&lost) && told.contains(&String::new()), "{told:?}");
        assert_eq!(depot.installed(), [format!("a:{version}")]);
        for file in [format!("packages/a:{version}.npk"), "new.npk".to_owned()] {
            fs::remove_file(depot.path(&file)).expect("it is there");
        }
    }
}

/// An installer that waits before its last step, and what it prints.
fn installer(depot: &Depot) -> (Child, Lines) {
    let mut child = Command::new(DEPOT)
        .args([&depot.text("packages"), &depot.text("k.pub"), "install", &depot.text("new.npk"), "4096"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run an installer");
    let lines = Lines::from(OwnedFd::from(child.stdout.take().expect("a pipe")));
    (child, lines)
}

#[test]
fn root_three_hundred_packages_are_scanned() {
    needs!(Root, Busybox);
    let depot = Depot::new();
    for number in 0..300 {
        depot.write(&format!("packages/{number}"), &format!("1.0.{number}"), 2);
    }
    for number in 0..100 {
        fs::write(depot.path(&format!("packages/stray-{number}")), "stray").expect("a file");
    }
    let begun = Instant::now();
    let (repository, scan) = depot.open();
    let took = begun.elapsed();
    assert_eq!((repository.entries().len(), scan.skipped.len()), (300, 100));
    figure(&format!("300 packages and 100 stray files scanned in {} ms", took.as_millis()));
    // None of them is kept open.
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -n 16; exec \"$@\"", "sh", DEPOT]);
    let output =
        shell.args([&depot.text("packages"), &depot.text("k.pub"), "scan"]).output().expect("run sh");
    let told = text(&output.stdout);
    assert_eq!(told.lines().filter(|line| line.starts_with("entry ")).count(), 300, "{told}");
}

#[test]
fn root_a_package_in_memory_is_mounted() {
    needs!(Root, Busybox);
    mounts_from_memory(None);
}

#[test]
fn vm_a_package_in_memory_is_mounted_by_dm_verity() {
    needs!(Vm);
    let loaded = Command::new("modprobe").args(["-a", "loop", "squashfs", "dm-verity"]).status();
    assert!(loaded.expect("run modprobe").success());
    mounts_from_memory(Some("k.pub"));
}

fn mounts_from_memory(key: Option<&str>) {
    let depot = Depot::new();
    let host = Snapshot::take(&depot.bundle);
    fs::create_dir(depot.path("files")).expect("a directory");
    fs::write(depot.path("files/hello"), "hello").expect("a file");
    let text = manifest("1.0.0");
    let secret = SecretKey::read(&depot.path("k.key")).expect("a key");
    let recipe = Recipe {
        manifest: &Manifest::read("manifest.yaml", text.as_bytes()).expect("a manifest"),
        text: text.as_bytes(),
        tree: Tree::of_directory(&depot.path("files")).expect("a tree"),
        format: Format::Squashfs(Compression::Gzip),
        key: key.map(|_| &secret),
    };
    pack(&recipe, &depot.path("a.npk"), &mut |_| ()).expect("a package");
    let key = key.map_or_else(|| "-".to_owned(), |key| depot.text(key));
    let command =
        Runtime::at(Path::new(DEPOT)).command(&depot.bundle, &["-", &key, "mount", &depot.text("a.npk")]);
    let output = command.without_globals().run();
    let mut names = output.success().lines();
    names.sort_unstable();
    assert_eq!(names, ["dev", "hello"]);
    host.assert_same();
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
