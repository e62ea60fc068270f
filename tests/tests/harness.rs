//! The harness itself: it must see what is left behind, or no test that stands on it proves anything.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;

use tests::{Bundle, LIMIT, MARKER, Runtime, Snapshot, channel, needs};

#[test]
fn root_a_container_lives_and_leaves_nothing() {
    needs!(Root, Busybox);
    let (mut lines, stdout) = channel();
    let bundle = Bundle::new("life").shell("echo up; cat /proc/1/comm; id -u");
    let before = Snapshot::take(&bundle);
    let container = bundle.container(&Runtime::under_test());
    container.command(&["create", "--bundle", "BUNDLE", "ID"]).stdout(stdout).run().success();
    assert_eq!(container.status().as_deref(), Some("created"));
    assert!(!before.changes().is_empty(), "a created container has a process at least");
    container.start().success();
    for line in ["up", "sh", "0"] {
        assert_eq!(lines.next_within(LIMIT).as_deref(), Some(line));
    }
    assert!(container.ended());
    assert_eq!(container.status().as_deref(), Some("stopped"));
    container.delete().success();
    before.assert_same();
}

#[test]
fn root_a_process_that_was_left_behind_is_seen() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("process").may_leave();
    let mut left = Command::new("/bin/busybox")
        .args(["sleep", "1000"])
        .env(MARKER, bundle.id())
        .spawn()
        .expect("start a process");
    let lines = Snapshot::take(&bundle).lines();
    assert!(matches!(&*lines, [line] if line.contains("sleep 1000")), "{lines:?}");
    drop(bundle);
    assert_eq!(left.wait().expect("wait").code(), None, "the bundle kills what it finds");
}

#[test]
fn root_a_cgroup_that_was_left_behind_is_seen() {
    needs!(Root, Busybox, Freezer);
    let bundle = Bundle::new("cgroup");
    let hierarchy =
        ["/sys/fs/cgroup/freezer", "/sys/fs/cgroup"].into_iter().find(|dir| Path::new(dir).exists());
    let cgroup = Path::new(hierarchy.expect("there is a freezer")).join(bundle.id());
    fs::create_dir(&cgroup).expect("make a cgroup");
    let failed = catch_unwind(AssertUnwindSafe(|| drop(bundle))).expect_err("the test fails");
    let told = failed.downcast::<String>().expect("with a message");
    assert!(told.contains(&format!("cgroup {}", cgroup.display())), "{told}");
    assert!(!cgroup.exists(), "and it is removed");
}

#[test]
fn root_a_state_directory_that_was_left_behind_is_seen() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("state").may_leave();
    fs::create_dir_all(bundle.state_root().join("somebody")).expect("make a state directory");
    assert_eq!(
        Snapshot::take(&bundle).lines(),
        [format!("state {}/somebody", bundle.state_root().display())]
    );
}
