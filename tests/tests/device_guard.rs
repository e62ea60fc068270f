//! The daemon's guard alone: what it does when it is asked, and what it leaves.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use daemon::words::{Command, Kind, Start, Status, Word};
use tests::{Guard, Packages, needs};

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_guard"))
}

/// A package `NAME:1.0.0` with a script as its program; what is not told keeps its default.
fn pack(packages: &Packages, name: &str, script: &str, more: &str) {
    let text = format!(
        "name: {name}\nversion: 1.0.0\ninit: /bin/sh\nargs: [-c, '{script}']\nenv: {{PATH: /bin}}\nuid: 1000\ngid: 1000\n\
         io: {{stdout: pipe, stderr: pipe}}\n{more}"
    );
    fs::write(packages.path("a.yaml"), text).expect("a manifest");
    let file = format!("{name}.npk");
    packages.expect(&["pack", "-m", "a.yaml", "-r", "root", "-k", "k.key", "-o", &file]);
}

fn signal(container: &str, signal: i32) -> Word {
    Word::Signal { container: container.to_owned(), signal }
}

fn umount(container: &str) -> Word {
    Word::Umount { container: container.to_owned() }
}

fn mount(container: &str) -> Word {
    Word::Mount { container: container.to_owned() }
}

/// Nothing of the daemon's is left: no process, no group, no device, no mount, no socket.
#[track_caller]
fn assert_gone(packages: &Packages) {
    assert_eq!(packages.left(), Vec::<String>::new());
    for directory in ["run", "socket"] {
        let left: Vec<_> = fs::read_dir(packages.path(directory)).expect("a directory").flatten().collect();
        let left = left.iter().filter(|entry| entry.file_name() != ".cofferdam");
        assert_eq!(left.map(fs::DirEntry::path).collect::<Vec<_>>(), Vec::<std::path::PathBuf>::new());
    }
    for directory in ["state", "bundle"] {
        let path = packages.path("run/.cofferdam").join(directory);
        let left = fs::read_dir(path)
            .expect("a directory")
            .flatten()
            .filter(|entry| entry.file_name() != ".filters");
        assert_eq!(left.map(|entry| entry.path()).collect::<Vec<_>>(), Vec::<std::path::PathBuf>::new());
    }
    let marker = format!("COFFERDAM_TEST={}", packages.id);
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        let is_ours = environment.split(|byte| *byte == 0).any(|one| one == marker.as_bytes());
        assert!(!is_ours, "{} is left", entry.path().display());
    }
}

#[test]
fn root_a_package_lives_and_dies_by_the_guards_words() {
    needs!(Root, Busybox, Cofferctl);
    let packages = Packages::new();
    pack(&packages, "a", "echo $NORTHSTAR_CONTAINER; busybox id -u; exit 7", "");
    let mut guard = Guard::begin(&packages, program());
    assert_eq!(guard.install("a.npk", "repo"), Ok("a:1.0.0".to_owned()));
    assert!(packages.path("repo/a:1.0.0.npk").is_file());
    assert_eq!(guard.refused(&umount("a:1.0.0")).kind, Kind::NotMounted);
    guard.start("a:1.0.0");
    assert_eq!(guard.ended("a:1.0.0"), Status::Exit(7));
    guard.logs("a:1.0.0: a:1.0.0\na:1.0.0: 1000\n");
    assert_eq!(guard.refused(&mount("a:1.0.0")).kind, Kind::Mounted);
    let all = guard.survey();
    assert_eq!(all.len(), 1);
    assert!(all[0].is_mounted && all[0].process.is_none() && all[0].repository == "repo");
    guard.done(&umount("a:1.0.0"));
    guard.done(&Word::Uninstall { container: "a:1.0.0".to_owned(), wipe: false });
    assert_eq!(guard.refused(&mount("a:1.0.0")).kind, Kind::NotInstalled);
    assert_eq!(guard.leave(None), Some(0));
    assert_gone(&packages);
}

#[test]
fn root_a_signal_is_told_as_a_signal() {
    needs!(Root, Busybox, Cofferctl);
    let packages = Packages::new();
    pack(&packages, "a", "exec busybox sleep 1000", "");
    let mut guard = Guard::begin(&packages, program());
    guard.install("a.npk", "mem").expect("a package");
    guard.start("a:1.0.0");
    assert_eq!(guard.refused(&umount("a:1.0.0")).container.as_deref(), Some("a:1.0.0"));
    assert!(guard.refused(&signal("a:1.0.0", 99)).text.contains("invalid argument"));
    guard.done(&signal("a:1.0.0", 9));
    assert_eq!(guard.ended("a:1.0.0"), Status::Signal(9));
    assert_eq!(guard.refused(&signal("a:1.0.0", 9)).kind, Kind::NotRunning);
    assert_eq!(guard.leave(Some("critical")), Some(1));
    assert_gone(&packages);
}

#[test]
fn root_a_program_that_cannot_be_executed_is_not_started() {
    needs!(Root, Busybox, Cofferctl);
    let packages = Packages::new();
    pack(&packages, "a", "true", "");
    let mut guard = Guard::begin(&packages, program());
    guard.install("a.npk", "repo").expect("a package");
    guard.done(&mount("a:1.0.0"));
    let command = Command { init: "/bin/none".to_owned(), ..Command::default() };
    let start = Start { container: "a:1.0.0".to_owned(), command: Some(command), ..Start::default() };
    let failure = guard.refused(&Word::Start(start));
    assert_eq!(failure.kind, Kind::Start, "{failure}");
    assert!(failure.text.contains("/bin/none"), "{failure}");
    // And nothing of it is in the way of the next.
    guard.start_mounted(Start { container: "a:1.0.0".to_owned(), ..Start::default() }, Vec::new());
    assert_eq!(guard.ended("a:1.0.0"), Status::Exit(0));
    assert_eq!(guard.leave(None), Some(0));
    assert_gone(&packages);
}

#[test]
fn root_containers_outlive_the_talker() {
    needs!(Root, Busybox, Cofferctl);
    let packages = Packages::new();
    pack(&packages, "a", "exec busybox sleep 1000", "");
    let mut guard = Guard::begin(&packages, program());
    guard.install("a.npk", "repo").expect("a package");
    let pid = guard.start("a:1.0.0");
    // What nobody of ours would ever say.
    guard.say_nonsense();
    guard.next_talker();
    let all = guard.survey();
    let process = all[0].process.as_ref().expect("a process");
    assert_eq!(i32::try_from(process.pid), Ok(pid));
    guard.done(&signal("a:1.0.0", 9));
    assert_eq!(guard.ended("a:1.0.0"), Status::Signal(9));
    assert_eq!(guard.leave(None), Some(0));
    assert_gone(&packages);
}

#[test]
fn root_what_persists_is_the_containers_alone() {
    needs!(Root, Busybox, Cofferctl);
    let packages = Packages::new();
    pack(&packages, "a", "busybox touch /keep/x", "mounts:\n  /keep: {type: persist}\n");
    let mut guard = Guard::begin(&packages, program());
    guard.install("a.npk", "repo").expect("a package");
    guard.start("a:1.0.0");
    assert_eq!(guard.ended("a:1.0.0"), Status::Exit(0), "{}", guard.log());
    let kept = packages.path("data/a/x").metadata().expect("what persists");
    assert_eq!((kept.uid(), kept.gid()), (1000, 1000));
    guard.done(&umount("a:1.0.0"));
    guard.done(&Word::Uninstall { container: "a:1.0.0".to_owned(), wipe: true });
    assert!(!packages.path("data/a").exists() && !packages.path("repo/a:1.0.0.npk").exists());
    assert_eq!(guard.leave(None), Some(0));
    assert_gone(&packages);
}
