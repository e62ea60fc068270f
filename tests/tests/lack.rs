//! Too little memory: what still works with very little, and what is said where it was too little.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;

use serde_json::json;
use tests::{Bundle, Runtime, Snapshot, figure, needs, until};

fn limited(name: &str, bytes: u64) -> Bundle {
    Bundle::new(name)
        .edit(|config| config["linux"]["resources"]["memory"] = json!({"limit": bytes, "swap": bytes}))
}

/// What we put into the container's account before the program is there must not count.
#[test]
fn root_a_mebibyte_is_enough_for_a_small_program() {
    needs!(Root, Busybox, Groups);
    let mut least = None;
    for kib in [1024, 768, 512, 384, 320, 256, 192] {
        let bundle = limited(&format!("lack-{kib}"), kib << 10).args(&["/bin/true"]);
        let before = Snapshot::take(&bundle);
        let container = bundle.container(&Runtime::under_test());
        let output = container.call(&["run", "--bundle", "BUNDLE", "ID"]);
        before.assert_same();
        if output.code != 0 {
            assert!(kib < 1024, "{output}");
            break;
        }
        least = Some(kib);
    }
    figure(&format!("a limit of {} KiB is enough for busybox true", least.expect("a mebibyte")));
}

/// A limit that nothing can live with: whoever is killed for it, we say so, with the limit and the peak.
#[test]
fn root_who_is_killed_for_memory_before_the_program_runs_is_told_so() {
    needs!(Root, Busybox, Groups);
    let bundle = limited("lack-none", 16 << 10);
    let before = Snapshot::take(&bundle);
    for command in ["create", "run"] {
        let container = bundle.container(&Runtime::under_test());
        let output = container.call(&[command, "--bundle", "BUNDLE", "ID"]);
        output.code(1);
        let words = "container init was OOM-killed (memory limit too low?): memory limit of 16 KiB reached, peak 16 KiB";
        assert!(output.stderr.contains(words), "{command}: {output}");
        assert_eq!(output.stderr.lines().count(), 1, "{output}");
        // Undone, like everything that fails.
        before.assert_same();
    }
}

/// Whatever the limit, a program that did not run is told as such, or ran: never a silence that looks like its end.
#[test]
fn root_no_limit_is_so_odd_that_nothing_is_said() {
    needs!(Root, Busybox, Groups);
    for kib in (16..=256).step_by(16) {
        let bundle = limited(&format!("lack-odd-{kib}"), kib << 10).args(&["/bin/true"]);
        let container = bundle.container(&Runtime::under_test());
        let output = container.call(&["run", "--bundle", "BUNDLE", "ID"]);
        match output.code {
            // 137: the program itself was killed, on its first page.
            0 | 137 => assert_eq!(output.stderr, "", "{kib} KiB"),
            code => {
                assert_eq!(code, 1, "{output}");
                assert!(
                    output.stderr.contains("OOM-killed (memory limit too low?): memory limit of "),
                    "{kib} KiB: {output}"
                );
            }
        }
    }
}

#[test]
fn root_an_exec_that_is_killed_for_memory_is_told_so() {
    needs!(Root, Busybox, Groups);
    // What lies in memory and is nobody's makes the limit large, and a score counts as a share of it: below a few hundred KiB,
    // the kernel's own counts of two small processes are less exact than that.
    let line = "dd if=/dev/zero of=/dev/shm/full bs=1M count=8; exec sleep 1000";
    // v1 refuses less than is there, and v2 kills, unless we are asked to look before.
    let bundle = limited("lack-exec", 32 << 20).shell(line).edit(|config| {
        config["linux"]["resources"]["memory"]["checkBeforeUpdate"] = json!(true);
    });
    let container = bundle.container(&Runtime::under_test());
    container.create().success();
    container.start().success();
    // Until it sleeps it needs more from time to time, and would be the one that gets none.
    let stat = format!("/proc/{}/stat", container.pid().expect("it runs"));
    let sleeps = || fs::read_to_string(&stat).is_ok_and(|stat| stat.contains("(sleep) S "));
    until(sleeps, || "an init that sleeps");
    // Room for what is there, and for nobody else.
    let mut limit: u64 = 10 << 20;
    while limit > 8 << 20 {
        let text = limit.to_string();
        if container.call(&["update", "--memory", &text, "--memory-swap", &text, "ID"]).code != 0 {
            break;
        }
        limit -= 64 << 10;
    }
    // Of two the kernel takes the one with the higher score: never init.
    let exec = container.command(&["exec", "ID", "/bin/true"]);
    let output = exec.launched_by(&["choom", "-n", "1000", "--"]).run();
    assert!(
        output.code == 255
            && output.stderr.contains("the process was OOM-killed (memory limit too low?): memory limit of "),
        "{limit}: {output}"
    );
    assert_eq!(container.status().as_deref(), Some("running"));
    container.call(&["update", "--memory", "32m", "--memory-swap", "32m", "ID"]).success();
    container.call(&["exec", "ID", "/bin/true"]).success();
    container.delete_force().success();
}
