//! Filters that are kept below the state root: found by the next container that asks for the same one, and by no other;
//! not trusted where anything is odd about them; missed by nobody where they cannot be had.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;

use serde_json::json;
use tests::{Bundle, Runtime, Snapshot, needs};

const COMPILED: &str = "compiled";
const KEPT: &str = "kept from before";

type Damage = fn(&mut Vec<u8>);

/// A container that may not make directories, and says so.
fn filtered(name: &str, action: &str) -> Bundle {
    let bundle = Bundle::new(name).shell("mkdir /tmp/made 2> /dev/null; echo $?");
    bundle.mount("/tmp", "tmpfs", "tmpfs", &[]).edit(|config| {
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": action}],
        });
    })
}

/// Runs it; where its filter came from. Wherever that is: it is carried out.
fn run(bundle: &Bundle) -> &'static str {
    let container = bundle.container(&Runtime::under_test());
    let output = container.command(&["run", "--bundle", "BUNDLE", "ID"]).global("--debug").run();
    assert_eq!(output.success().stdout, "1\n", "the filter does not hold: {output}");
    let told = output.stderr.lines().find(|line| line.contains("seccomp filter: ")).expect("a line on it");
    [COMPILED, KEPT].into_iter().find(|how| told.contains(how)).expect("one of the two")
}

fn directory(bundle: &Bundle) -> PathBuf {
    bundle.state_root().join(".filters")
}

fn names(bundle: &Bundle) -> Vec<String> {
    let entries = fs::read_dir(directory(bundle)).expect("a directory").flatten();
    entries.map(|entry| entry.file_name().into_string().expect("a plain name")).collect()
}

/// The one file that is kept.
fn file(bundle: &Bundle) -> PathBuf {
    let names = names(bundle);
    assert_eq!(names.len(), 1, "{names:?}");
    directory(bundle).join(&names[0])
}

#[test]
fn root_a_filter_is_compiled_once() {
    needs!(Root, Busybox);
    let mut bundle = filtered("kept-once", "SCMP_ACT_ERRNO");
    let before = Snapshot::take(&bundle);
    assert_eq!(run(&bundle), COMPILED);
    assert_eq!(run(&bundle), KEPT);
    assert_eq!(file(&bundle).file_name().expect("a name").len(), 64);
    // Another profile is another filter; what is not the profile has no say.
    bundle.change(|config| config["linux"]["seccomp"]["defaultAction"] = json!("SCMP_ACT_LOG"));
    assert_eq!(run(&bundle), COMPILED);
    bundle.change(|config| config["linux"]["seccomp"]["flags"] = json!(["SECCOMP_FILTER_FLAG_LOG"]));
    assert_eq!(run(&bundle), KEPT);
    assert_eq!(names(&bundle).len(), 2);
    // No command takes it for a container.
    let container = bundle.container(&Runtime::under_test());
    assert_eq!(container.call(&["list", "--quiet"]).success().stdout, "");
    assert!(container.call(&["list"]).success().stdout.lines().count() == 1, "only the heading");
    for word in ["state", "delete", "start"] {
        let output = container.command(&[word, ".filters"]).run();
        assert!(output.code(1).stderr.contains("invalid container ID format"), "{output}");
    }
    // Looking and planning keep nothing.
    fs::remove_dir_all(directory(&bundle)).expect("it is ours");
    container.call(&["plan", "BUNDLE"]).success();
    assert!(!directory(&bundle).exists());
    before.assert_same();
}

#[test]
fn root_what_is_kept_is_not_trusted() {
    needs!(Root, Busybox);
    let bundle = filtered("kept-trust", "SCMP_ACT_ERRNO");
    let other = filtered("kept-other", "SCMP_ACT_TRAP");
    let before = Snapshot::take(&bundle);
    assert_eq!(run(&bundle), COMPILED);
    let path = file(&bundle);
    let good = fs::read(&path).expect("it is kept");

    let damage: [(&str, Damage); 5] = [
        ("a byte is another", |bytes| bytes[100] ^= 1),
        ("its digest is another", |bytes| *bytes.last_mut().expect("a byte") ^= 1),
        ("it is cut off", |bytes| bytes.truncate(60)),
        ("it is longer", |bytes| bytes.push(0)),
        ("it is empty", Vec::clear),
    ];
    for (what, damage) in damage {
        let mut bytes = good.clone();
        damage(&mut bytes);
        fs::write(&path, bytes).expect("it is ours");
        assert_eq!((run(&bundle), run(&bundle)), (COMPILED, KEPT), "{what}");
        assert_eq!(fs::read(&path).expect("it is kept again"), good, "{what}");
    }

    // Whole, and another question's: what a hostile copy would be, or the file of another version.
    let container = other.container(&Runtime::under_test());
    container.run();
    fs::copy(file(&other), &path).expect("both are ours");
    assert_eq!((run(&bundle), run(&bundle)), (COMPILED, KEPT), "another's");

    for mode in [0o644, 0o602, 0o620] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("it is ours");
        assert_eq!((run(&bundle), run(&bundle)), (COMPILED, KEPT), "a file of mode {mode:o}");
    }
    chown(&path, Some(4711), None).expect("we are root");
    assert_eq!((run(&bundle), run(&bundle)), (COMPILED, KEPT), "a file of another's");

    for mode in [0o755, 0o770] {
        fs::set_permissions(directory(&bundle), Permissions::from_mode(mode)).expect("it is ours");
        assert_eq!((run(&bundle), run(&bundle)), (COMPILED, COMPILED), "a directory of mode {mode:o}");
    }
    fs::set_permissions(directory(&bundle), Permissions::from_mode(0o700)).expect("it is ours");
    chown(directory(&bundle), Some(4711), None).expect("we are root");
    assert_eq!((run(&bundle), run(&bundle)), (COMPILED, COMPILED), "a directory of another's");
    chown(directory(&bundle), Some(0), None).expect("we are root");
    assert_eq!(run(&bundle), KEPT);
    before.assert_same();
}

#[test]
fn root_who_can_keep_nothing_compiles() {
    needs!(Root, Busybox);
    let bundle = filtered("kept-nowhere", "SCMP_ACT_ERRNO");
    let before = Snapshot::take(&bundle);
    fs::create_dir(bundle.state_root()).expect("it is ours");
    fs::write(directory(&bundle), "").expect("a file in its place");
    assert_eq!((run(&bundle), run(&bundle)), (COMPILED, COMPILED));
    fs::remove_file(directory(&bundle)).expect("it is ours");

    // A directory where the file would be: rename(2) fails.
    assert_eq!(run(&bundle), COMPILED);
    let path = file(&bundle);
    fs::remove_file(&path).expect("it is ours");
    fs::create_dir(&path).expect("it is ours");
    assert_eq!((run(&bundle), run(&bundle)), (COMPILED, COMPILED));
    assert_eq!(names(&bundle).len(), 1, "no draft stays");
    fs::remove_dir(&path).expect("it is ours");

    // Somebody is at it, and does not come to an end.
    let held = fs::File::open(directory(&bundle)).expect("a directory");
    held.lock().expect("a lock");
    assert_eq!((run(&bundle), run(&bundle)), (COMPILED, COMPILED));
    drop(held);

    // What a killed command left goes with the next that keeps something.
    fs::write(directory(&bundle).join(".draft"), "half").expect("it is ours");
    assert_eq!((run(&bundle), run(&bundle)), (COMPILED, KEPT));
    assert_eq!(file(&bundle), path);
    before.assert_same();
}

#[test]
fn root_many_at_once_keep_one_filter() {
    needs!(Root, Busybox);
    let bundle = filtered("kept-many", "SCMP_ACT_ERRNO");
    let before = Snapshot::take(&bundle);
    for _ in 0..3 {
        let containers: Vec<_> = (0..6).map(|_| bundle.another(&Runtime::under_test())).collect();
        let runs: Vec<_> = containers
            .iter()
            .map(|container| container.command(&["run", "--bundle", "BUNDLE", "ID"]).spawn())
            .collect();
        for run in runs {
            assert_eq!(run.wait().success().stdout, "1\n");
        }
        assert_eq!(run(&bundle), KEPT);
        fs::remove_file(file(&bundle)).expect("it is ours");
    }
    before.assert_same();
}
