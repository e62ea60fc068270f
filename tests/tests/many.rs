//! Five hundred containers, twenty at a time, fewer where a machine is computed by another: none stands in another's way, and nothing is left.
//!
//! All five hundred there too, by our own hands and by systemd's, by hand: `script/test-vm many --ignored --nocapture --test-threads=1`.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use tests::{Bundle, Container, LIMIT, Runtime, Snapshot, channel, figure, needs, patience};

const CONTAINERS: usize = 500;

/// Where a machine is computed by another.
const FEW: usize = 60;
const AT_ONCE: usize = 20;

#[test]
fn root_hundreds_of_containers_leave_nothing() {
    needs!(Root, Busybox);
    let runtime = Runtime::under_test();
    let host = Snapshot::whole();
    {
        let bundle = Bundle::new("many").shell("echo $$");
        let containers = if patience() > 1 { FEW } else { CONTAINERS };
        twenty_at_a_time(containers, |number| {
            let container = bundle.another(&runtime);
            if number.is_multiple_of(2) { step_by_step(&container) } else { at_a_stroke(&container) }
        });
        bundle.assert_nothing_left();
    }
    host.assert_same();
}

fn twenty_at_a_time(containers: usize, work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    let worker = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= containers {
                break;
            }
            work(number);
        }
    };
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(worker);
        }
    });
}

#[test]
#[ignore = "takes minutes: script/test-vm many --ignored --nocapture --test-threads=1"]
fn vm_five_hundred_watched_containers_leave_nothing() {
    needs!(Vm);
    all_are_watched(&[]);
}

#[test]
#[ignore = "takes minutes: script/test-vm many --ignored --nocapture --test-threads=1"]
fn vm_five_hundred_watched_scopes_leave_nothing() {
    needs!(Vm);
    all_are_watched(&["--systemd-cgroup"]);
}

/// Each with limits, a device program and somebody who watches it.
fn all_are_watched(flags: &[&str]) {
    let runtime = Runtime::under_test();
    let host = Snapshot::whole();
    let begin = Instant::now();
    {
        let bundle = Bundle::new("many").shell("exec sleep 1000").edit(|config| {
            let resources = &mut config["linux"]["resources"];
            resources["memory"] = serde_json::json!({"limit": 64 << 20});
            resources["pids"] = serde_json::json!({"limit": 20});
        });
        twenty_at_a_time(CONTAINERS, |_| watched(&bundle.another(&runtime), flags));
        bundle.assert_nothing_left();
        let units = Command::new("systemctl").args(["list-units", "--all", "--full", "--plain"]).output();
        let units = units.expect("run systemctl").stdout;
        let units = String::from_utf8_lossy(&units);
        assert!(!units.contains(bundle.id()), "{units}");
    }
    host.assert_same();
    figure(&format!("many: {CONTAINERS} containers {flags:?} in {:?}", begin.elapsed()));
}

fn watched(container: &Container<'_>, flags: &[&str]) {
    // Twenty computed programs share what is left of two processors.
    let long = LIMIT * 20;
    let create = container.command(&["create", "--bundle", "BUNDLE", "ID"]).within(long);
    flags.iter().fold(create, |create, flag| create.global(*flag)).run().success();
    container.command(&["start", "ID"]).within(long).run().success();
    let (mut lines, stdout) = channel();
    let events =
        container.command(&["events", "--interval", "500ms", "ID"]).stdout(stdout).within(long).spawn();
    assert!(lines.next_within(long).is_some_and(|line| line.contains(r#""limit":67108864"#)));
    container.command(&["delete", "--force", "ID"]).within(long).run().success();
    // Where deleting takes its time, the lines fill the pipe, and who writes them waits for us.
    while lines.next_within(long).is_some() {}
    events.wait().success();
}

fn step_by_step(container: &Container<'_>) {
    let created = container.create();
    created.success();
    container.start().success();
    assert!(container.ended());
    assert_eq!(created.printed(), "1\n");
    container.delete().success();
    assert_eq!(container.state(), None);
}

fn at_a_stroke(container: &Container<'_>) {
    assert_eq!(container.run().success().stdout, "1\n");
    assert_eq!(container.state(), None);
}
