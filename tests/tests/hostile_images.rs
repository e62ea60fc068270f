//! Images that mean harm: each starts or is refused with one line, and none gets out, waits for ever, or leaves anything.
//!
//! Judged from the host's side: a directory beside the root file system stays as it was, nobody inside reads what is in
//! it, the runtime's own file stays as it was, and the host's snapshot is the same. docs/threats.md has the attacks that
//! made a name; here are the rest, as tables.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use serde_json::{Value, json};
use tests::{Bundle, Output, Runtime, Snapshot, copy_program, needs};

const SECRET: &str = "the host's own";

/// None of them gives anybody a reason to ponder.
const PATIENCE: Duration = Duration::from_secs(15);

/// What comes of an image.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    /// The program runs, and prints this.
    Runs(&'static str),
    /// There is no container, and one line, which ends so, says why.
    Refused(&'static str),
    /// What the image calls its program is the runtime itself, read-only: what it says depends on how it was linked.
    RunsUs,
}
use Outcome::{Refused, Runs, RunsUs};

/// An image is made from a plain one by this; the second path is outside of it.
type Spoil = fn(&Path, &Path);
/// What the configuration asks of it.
type Ask = fn(&mut Value);

struct Case {
    what: &'static str,
    spoil: Spoil,
    ask: Ask,
    outcome: Outcome,
}

fn case(what: &'static str, spoil: Spoil, ask: Ask, outcome: Outcome) -> Case {
    Case { what, spoil, ask, outcome }
}

fn script(path: impl AsRef<Path>, text: &str) {
    fs::write(&path, text).expect("write a script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("make it executable");
}

fn link(to: impl AsRef<Path>, from: PathBuf) {
    if from.is_symlink() || from.is_file() {
        fs::remove_file(&from).expect("make room");
    } else if from.is_dir() {
        fs::remove_dir_all(&from).expect("make room");
    }
    symlink(to, from).expect("make a link");
}

fn node(path: impl AsRef<Path>, kind: FileType, number: u64) {
    let path = path.as_ref();
    if path.exists() {
        fs::remove_file(path).expect("make room");
    }
    mknodat(CWD, path, kind, Mode::from_raw_mode(0o755), number).expect("make a node");
}

fn entry(config: &mut Value) {
    config["process"]["args"] = json!(["/entry", "state", "x"]);
}

/// Everything below a directory but what a test of this bundle may change: names, kinds and sizes.
fn listing(bundle: &Bundle) -> Vec<String> {
    fn walk(path: &Path, list: &mut Vec<String>) {
        for entry in fs::read_dir(path).expect("list a directory").flatten() {
            let stat = fs::symlink_metadata(entry.path()).expect("it is there");
            list.push(format!("{} {:?} {}", entry.path().display(), stat.file_type(), stat.len()));
            if stat.is_dir() {
                walk(&entry.path(), list);
            }
        }
    }
    let mut list = Vec::new();
    walk(&bundle.dir().join("outside"), &mut list);
    let secret = fs::read_to_string(bundle.dir().join("outside/secret")).expect("the secret is there");
    list.push(secret);
    list.sort();
    list
}

fn hold(cases: &[Case]) {
    // Not the runtime itself, but a copy, which may be lost.
    let spare = Bundle::new("hostile-runtime");
    let victim = spare.dir().join("runtime");
    copy_program(Runtime::under_test().program(), &victim);
    let stamp = || {
        let stat = fs::metadata(&victim).expect("the runtime is there");
        (stat.len(), stat.modified().expect("a time"), stat.permissions().mode())
    };
    let good = stamp();
    for case in cases {
        let mut bundle = Bundle::new("hostile").shell("echo ran");
        let outside = bundle.dir().join("outside");
        fs::create_dir(&outside).expect("make a directory outside the root");
        fs::write(outside.join("secret"), SECRET).expect("write the secret");
        (case.spoil)(&bundle.rootfs(), &outside);
        bundle.change(case.ask);
        let (before, list) = (Snapshot::take(&bundle), listing(&bundle));
        let output = bundle
            .container(&Runtime::at(&victim))
            .command(&["run", "--bundle", "BUNDLE", "ID"])
            .within(PATIENCE)
            .run();
        judge(case, &bundle, &output);
        assert_eq!(listing(&bundle), list, "{}: outside the root", case.what);
        assert_eq!(stamp(), good, "{}: the runtime is another", case.what);
        before.assert_same();
    }
}

fn judge(case: &Case, bundle: &Bundle, output: &Output) {
    let what = case.what;
    let told = format!("{}{}", output.stdout, output.stderr);
    assert!(!told.contains(SECRET), "{what}: it read what is the host's: {output}");
    match case.outcome {
        Runs(shown) => assert_eq!(output.success().stdout, shown, "{what}: {output}"),
        Refused(reason) => {
            output.code(1);
            assert_eq!(output.stderr.lines().count(), 1, "{what}: {output}");
            let line = output.stderr.trim_end();
            assert!(line.starts_with(&format!("cofferdam: run {}: ", bundle.id())), "{what}: {output}");
            assert!(line.ends_with(reason), "{what}: {output}");
        }
        RunsUs => assert!(!output.stdout.contains("ran"), "{what}: {output}"),
    }
}

#[test]
fn root_programs_that_are_the_runtime_or_none() {
    needs!(Root, Busybox);
    hold(&[
        case("a link to the runtime", |root, _| link("/proc/self/exe", root.join("entry")), entry, RunsUs),
        case(
            "a script by the runtime",
            |root, _| script(root.join("entry"), "#!/proc/self/exe\n"),
            entry,
            RunsUs,
        ),
        case(
            "a script by a link to the runtime",
            |root, _| {
                link("/proc/self/exe", root.join("bin/interpreter"));
                script(root.join("entry"), "#!/bin/interpreter run\n");
            },
            entry,
            RunsUs,
        ),
        case(
            "a script by itself",
            |root, _| script(root.join("entry"), "#!/entry\n"),
            entry,
            Refused("too many levels of symbolic links (os error 40)"),
        ),
        case(
            "a script by nobody",
            |root, _| script(root.join("entry"), "#!/nobody\n"),
            entry,
            Refused("no such file or directory (os error 2)"),
        ),
        case(
            "a script of no line",
            |root, _| script(root.join("entry"), ""),
            entry,
            Refused("exec format error (os error 8)"),
        ),
        case(
            "a link to itself",
            |root, _| link("/entry", root.join("entry")),
            entry,
            Refused("too many levels of symbolic links (os error 40)"),
        ),
        case(
            "a link out",
            |root, outside| link(outside.join("secret"), root.join("entry")),
            entry,
            Refused("no such file or directory (os error 2)"),
        ),
        case(
            "a link up",
            |root, _| link("../../../../outside/secret", root.join("entry")),
            entry,
            Refused("no such file or directory (os error 2)"),
        ),
        case(
            "a link to nothing",
            |root, _| link("/nothing", root.join("entry")),
            entry,
            Refused("no such file or directory (os error 2)"),
        ),
        case(
            "a directory",
            |root, _| fs::create_dir(root.join("entry")).expect("made"),
            entry,
            Refused("permission denied (os error 13)"),
        ),
        case(
            "a pipe",
            |root, _| node(root.join("entry"), FileType::Fifo, 0),
            entry,
            Refused("permission denied (os error 13)"),
        ),
        case(
            "a device without end",
            |root, _| node(root.join("entry"), FileType::CharacterDevice, makedev(1, 5)),
            entry,
            Refused("permission denied (os error 13)"),
        ),
        case(
            "the image's own root",
            |_, _| (),
            |config| config["process"]["args"] = json!(["/"]),
            Refused("permission denied (os error 13)"),
        ),
    ]);
}

const PROC: Outcome = Refused("/proc: openat2(\"/proc\"): not a directory (os error 20)");
const SYS: Outcome = Refused("/sys: openat2(\"/sys\"): not a directory (os error 20)");

#[test]
fn root_directories_of_the_kernel_that_are_links() {
    needs!(Root, Busybox);
    hold(&[
        case("/dev is a link out", |root, outside| link(outside, root.join("dev")), |_| (), Runs("ran\n")),
        case("/dev climbs", |root, _| link("../../../outside", root.join("dev")), |_| (), Runs("ran\n")),
        case(
            "/dev is a directory of the image by its path",
            |root, _| link("/tmp", root.join("dev")),
            |_| (),
            Runs("ran\n"),
        ),
        case(
            "/dev is a directory of the image",
            |root, _| link("tmp", root.join("dev")),
            |_| (),
            Runs("ran\n"),
        ),
        case(
            "/dev is itself",
            |root, _| link("dev", root.join("dev")),
            |_| (),
            Refused(r#"openat2("/dev"): too many levels of symbolic links (os error 40)"#),
        ),
        case("/dev leads nowhere", |root, _| link("/nowhere", root.join("dev")), |_| (), Runs("ran\n")),
        case(
            "/dev is a file",
            |root, _| {
                fs::remove_dir(root.join("dev")).expect("gone");
                fs::write(root.join("dev"), "").expect("made");
            },
            |_| (),
            Refused("mount tmpfs on /dev: move_mount(): not a directory (os error 20)"),
        ),
        case(
            "/dev is the kernel's way",
            |root, _| link("/proc/self/cwd", root.join("dev")),
            |_| (),
            Refused(r#"openat2("/dev"): too many levels of symbolic links (os error 40)"#),
        ),
        case("/proc is a link out", |root, outside| link(outside, root.join("proc")), |_| (), PROC),
        case("/proc climbs", |root, _| link("../../../outside", root.join("proc")), |_| (), PROC),
        case(
            "/proc is a directory of the image by its path",
            |root, _| link("/tmp", root.join("proc")),
            |_| (),
            PROC,
        ),
        case("/proc is a directory of the image", |root, _| link("tmp", root.join("proc")), |_| (), PROC),
        case("/proc is itself", |root, _| link("proc", root.join("proc")), |_| (), PROC),
        case("/proc leads nowhere", |root, _| link("/nowhere", root.join("proc")), |_| (), PROC),
        case("/proc is /sys", |root, _| link("sys", root.join("proc")), |_| (), PROC),
        case("/sys is a link out", |root, outside| link(outside, root.join("sys")), |_| (), SYS),
        case("/sys climbs", |root, _| link("../../../outside", root.join("sys")), |_| (), SYS),
        case(
            "/sys is a directory of the image by its path",
            |root, _| link("/tmp", root.join("sys")),
            |_| (),
            SYS,
        ),
        case("/sys is a directory of the image", |root, _| link("tmp", root.join("sys")), |_| (), SYS),
        case("/sys is itself", |root, _| link("sys", root.join("sys")), |_| (), SYS),
        case("/sys is /proc", |root, _| link("proc", root.join("sys")), |_| (), SYS),
    ]);
}

/// A path of this many bytes, of directories that there could be.
fn long(bytes: usize) -> String {
    let mut path = String::new();
    while path.len() < bytes {
        let room = (bytes - path.len() - 1).min(200);
        path.push('/');
        path.push_str(&"d".repeat(room));
    }
    path
}

#[test]
fn root_names_of_two_lines() {
    needs!(Root, Busybox);
    hold(&[
        case(
            "a working directory of two lines",
            |root, _| fs::create_dir(root.join("one\ntwo")).expect("made"),
            |config| {
                config["process"]["cwd"] = json!("/one\ntwo");
                config["process"]["args"] = json!(["/bin/sh", "-c", "pwd"]);
            },
            Runs("/one\ntwo\n"),
        ),
        case(
            "a working directory of two lines that is a file",
            |root, _| fs::write(root.join("one\ntwo"), "").expect("made"),
            |config| config["process"]["cwd"] = json!("/one\ntwo"),
            Refused(r#"make /one\ntwo: openat2("/one\ntwo"): not a directory (os error 20)"#),
        ),
        case(
            "a program of two lines",
            |root, _| {
                script(root.join("bin/one\ntwo"), "#!/bin/sh\necho two\n");
            },
            |config| config["process"]["args"] = json!(["/bin/one\ntwo"]),
            Runs("two\n"),
        ),
        case(
            "no program of two lines",
            |_, _| (),
            |config| config["process"]["args"] = json!(["/bin/none\ncofferdam: all is well"]),
            Refused("no such file or directory (os error 2)"),
        ),
        case(
            "a mount at two lines",
            |_, _| (),
            |config| {
                let mount = json!({"destination": "/one\ntwo", "type": "tmpfs", "source": "tmpfs"});
                config["mounts"].as_array_mut().expect("a list").push(mount);
                config["root"]["readonly"] = json!(false);
                config["process"]["args"] = json!(["/bin/sh", "-c", "grep -c one.012two /proc/self/mounts"]);
            },
            Runs("1\n"),
        ),
        case(
            "a mount at two lines that are a file",
            |root, _| fs::write(root.join("one\ntwo"), "").expect("made"),
            |config| {
                let mount = json!({"destination": "/one\ntwo", "type": "tmpfs", "source": "tmpfs"});
                config["mounts"].as_array_mut().expect("a list").push(mount);
            },
            Refused(r"mount tmpfs on /one\ntwo: move_mount(): not a directory (os error 20)"),
        ),
    ]);
}

#[test]
fn root_names_without_end() {
    needs!(Root, Busybox);
    hold(&[
        case(
            "an argument of many lines",
            |_, _| (),
            |config| {
                config["process"]["args"] =
                    json!(["/bin/sh", "-c", "echo \"${#1}\"", "sh", "line\n".repeat(20_000)]);
            },
            Runs("100000\n"),
        ),
        case(
            "an argument that no kernel takes",
            |_, _| (),
            |config| config["process"]["args"] = json!(["/bin/true", "x".repeat(200_000)]),
            Refused("argument list too long (os error 7)"),
        ),
        case(
            "a program of 4095 bytes",
            |_, _| (),
            |config| config["process"]["args"] = json!([long(4095)]),
            Refused("no such file or directory (os error 2)"),
        ),
        case(
            "a program of 5000 bytes",
            |_, _| (),
            |config| config["process"]["args"] = json!([long(5000)]),
            Refused("file name too long (os error 36)"),
        ),
        case(
            "a working directory of 4000 bytes, which is made",
            |_, _| (),
            |config| {
                config["process"]["cwd"] = json!(long(4000));
                config["root"]["readonly"] = json!(false);
                config["process"]["args"] = json!(["/bin/sh", "-c", "pwd | wc -c"]);
            },
            Runs("4001\n"),
        ),
        case(
            "a working directory of 5000 bytes",
            |_, _| (),
            |config| config["process"]["cwd"] = json!(long(5000)),
            Refused("file name too long (os error 36)"),
        ),
        case(
            "a mount at 4000 bytes, which is made",
            |_, _| (),
            |config| {
                let mount = json!({"destination": long(4000), "type": "tmpfs", "source": "tmpfs"});
                config["mounts"].as_array_mut().expect("a list").push(mount);
                config["root"]["readonly"] = json!(false);
            },
            Runs("ran\n"),
        ),
        case(
            "a mount at 5000 bytes",
            |_, _| (),
            |config| {
                let mount = json!({"destination": long(5000), "type": "tmpfs", "source": "tmpfs"});
                config["mounts"].as_array_mut().expect("a list").push(mount);
                config["root"]["readonly"] = json!(false);
            },
            Refused("file name too long (os error 36)"),
        ),
        case(
            "a name of 300 bytes in a mount's path",
            |_, _| (),
            |config| {
                let mount = json!({"destination": format!("/{}", "n".repeat(300)), "type": "tmpfs", "source": "tmpfs"});
                config["mounts"].as_array_mut().expect("a list").push(mount);
                config["root"]["readonly"] = json!(false);
            },
            Refused("file name too long (os error 36)"),
        ),
    ]);
}

fn home(config: &mut Value) {
    let env = config["process"]["env"].as_array_mut().expect("a list");
    env.retain(|one| !one.as_str().is_some_and(|one| one.starts_with("HOME=")));
    config["process"]["args"] = json!(["/bin/sh", "-c", "echo home $HOME"]);
}

#[test]
fn root_lists_of_users_that_are_none() {
    needs!(Root, Busybox);
    hold(&[
        case("a plain list", |_, _| (), home, Runs("home /root\n")),
        case(
            "no list",
            |root, _| fs::remove_file(root.join("etc/passwd")).expect("gone"),
            home,
            Runs("home /\n"),
        ),
        case("a pipe", |root, _| node(root.join("etc/passwd"), FileType::Fifo, 0), home, Runs("home /\n")),
        case(
            "a device without end",
            |root, _| node(root.join("etc/passwd"), FileType::CharacterDevice, makedev(1, 5)),
            home,
            Runs("home /\n"),
        ),
        case(
            "a disk",
            |root, _| node(root.join("etc/passwd"), FileType::BlockDevice, makedev(7, 250)),
            home,
            Runs("home /\n"),
        ),
        case(
            "a file of a terabyte",
            |root, _| {
                fs::File::create(root.join("etc/passwd")).expect("made").set_len(1 << 40).expect("it grows");
            },
            home,
            Runs("home /\n"),
        ),
        case(
            "a line of 40 megabytes",
            |root, _| fs::write(root.join("etc/passwd"), vec![b'x'; 40 << 20]).expect("made"),
            home,
            Runs("home /\n"),
        ),
        case(
            "a link out",
            |root, outside| link(outside.join("secret"), root.join("etc/passwd")),
            home,
            Runs("home /\n"),
        ),
        case(
            "a link up",
            |root, _| link("../../outside/secret", root.join("etc/passwd")),
            home,
            Runs("home /\n"),
        ),
        case("a link to itself", |root, _| link("passwd", root.join("etc/passwd")), home, Runs("home /\n")),
        case(
            "a link to our own memory",
            |root, _| link("/proc/self/mem", root.join("etc/passwd")),
            home,
            Refused(r#"read("/etc/passwd"): input/output error (os error 5)"#),
        ),
        case(
            "a directory",
            |root, _| {
                fs::remove_file(root.join("etc/passwd")).expect("gone");
                fs::create_dir(root.join("etc/passwd")).expect("made");
            },
            home,
            Refused(r#"read("/etc/passwd"): is a directory (os error 21)"#),
        ),
        case(
            "a home of two lines' worth",
            |root, _| fs::write(root.join("etc/passwd"), "root:x:0:0:root:/a\rb\0c:/bin/sh\n").expect("made"),
            home,
            Refused("/etc/passwd holds a NUL byte"),
        ),
        case(
            "a directory of etc that is a link out",
            |root, outside| link(outside, root.join("etc")),
            home,
            Runs("home /\n"),
        ),
    ]);
}
