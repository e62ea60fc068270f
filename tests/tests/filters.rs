//! Filters of system calls, as the kernel carries them out: each action, when they are loaded, and who gets them.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;

use serde_json::{Value, json};
use tests::{Bundle, Runtime, Snapshot, needs};

/// A document that allows all but these calls.
fn filtered(bundle: Bundle, action: &str, names: &[&str]) -> Bundle {
    bundle.edit(|config| {
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": names, "action": action}],
        });
    })
}

const MAKE: [&str; 2] = ["mkdir", "mkdirat"];

fn locked(bundle: Bundle, locked: bool) -> Bundle {
    bundle.edit(|config| config["process"]["noNewPrivileges"] = json!(locked))
}

#[test]
fn root_each_action_is_the_kernels() {
    needs!(Root, Busybox);
    let line = "/bin/busybox mkdir /tmp/made; echo $?; test -d /tmp/made; echo $?";
    // What mkdir ends with, and whether there is a directory; 159 is 128 and SIGSYS.
    let seen = [
        ("SCMP_ACT_ALLOW", "0\n0\n"),
        ("SCMP_ACT_LOG", "0\n0\n"),
        ("SCMP_ACT_ERRNO", "1\n1\n"),
        // Nobody traces it: as if the call did not exist.
        ("SCMP_ACT_TRACE", "1\n1\n"),
        ("SCMP_ACT_TRAP", "159\n1\n"),
        ("SCMP_ACT_KILL", "159\n1\n"),
        ("SCMP_ACT_KILL_THREAD", "159\n1\n"),
        ("SCMP_ACT_KILL_PROCESS", "159\n1\n"),
    ];
    let mut runtimes = vec![Runtime::under_test()];
    runtimes.extend(Runtime::find("runc"));
    for runtime in &runtimes {
        for (action, shown) in seen {
            for lock in [true, false] {
                let bundle = filtered(Bundle::new("filter-action").shell(line), action, &MAKE);
                let bundle = locked(bundle, lock).mount("/tmp", "tmpfs", "tmpfs", &[]);
                let before = Snapshot::take(&bundle);
                let output = bundle.container(runtime).run();
                let program = runtime.program().display();
                assert_eq!(output.stdout, shown, "{program}: {action}, locked {lock}: {output}");
                before.assert_same();
            }
        }
    }
}

#[test]
fn root_a_program_that_is_killed_ends_with_159() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("filter-killed").args(&["/bin/busybox", "mkdir", "/tmp/made"]);
    let bundle = filtered(bundle, "SCMP_ACT_KILL_PROCESS", &MAKE);
    let before = Snapshot::take(&bundle);
    bundle.container(&Runtime::under_test()).run().code(159);
    before.assert_same();
}

/// With no new privileges the filter comes after all that we do ourselves: a profile that forbids what we need then is
/// none of the program's business.
#[test]
fn root_the_filter_comes_last_where_privileges_are_locked() {
    needs!(Root, Busybox);
    let ours =
        ["prctl", "setgroups", "setresuid", "setresgid", "capset", "close_range", "rt_sigprocmask", "chdir"];
    let status = "grep -E '^(Seccomp|Seccomp_filters|NoNewPrivs):' /proc/self/status";
    for lock in [true, false] {
        let names = if lock { &ours[..] } else { &MAKE[..] };
        let bundle = filtered(Bundle::new("filter-last"), "SCMP_ACT_ERRNO", names);
        let bundle = locked(bundle.args(&["/bin/busybox", "sh", "-c", status]), lock);
        let before = Snapshot::take(&bundle);
        let shown = bundle.container(&Runtime::under_test()).run().success().stdout.replace('\t', "");
        assert_eq!(shown, format!("NoNewPrivs:{}\nSeccomp:2\nSeccomp_filters:1\n", u8::from(lock)));
        before.assert_same();
    }
}

/// Every process that joins the container is filtered as its first one is, whatever its bundle says by now.
#[test]
fn root_exec_is_filtered_too() {
    needs!(Root, Busybox);
    let mut bundle = filtered(Bundle::new("filter-exec").shell("exec sleep 1000"), "SCMP_ACT_ERRNO", &MAKE);
    bundle = bundle.mount("/tmp", "tmpfs", "tmpfs", &[]);
    let before = Snapshot::take(&bundle);
    {
        let container = bundle.container(&Runtime::under_test());
        container.create().success();
        container.start().success();
        let config = bundle.dir().join("config.json");
        let text = fs::read_to_string(&config).expect("a document");
        let mut document: Value = serde_json::from_str(&text).expect("it is JSON");
        document["linux"].as_object_mut().expect("an object").remove("seccomp");
        fs::write(&config, document.to_string()).expect("it is ours");
        let document = bundle.dir().join("process.json");
        let process =
            json!({"args": ["/bin/busybox", "mkdir", "/tmp/made"], "cwd": "/", "user": {"uid": 0, "gid": 0}});
        fs::write(&document, process.to_string()).expect("it is ours");
        let document = document.to_str().expect("a path").to_owned();
        for words in [
            &["exec", "ID", "/bin/busybox", "mkdir", "/tmp/made"][..],
            &["exec", "--process", &document, "ID"],
        ] {
            let output = container.call(words);
            output.code(1);
            assert!(output.stderr.contains("Operation not permitted"), "{}", output.stderr);
        }
        container.delete_force().success();
    }
    fs::remove_file(bundle.dir().join("process.json")).expect("it was ours");
    before.assert_same();
}

/// Docker's default profile lets an ordinary shell live, and its own rules show.
#[test]
fn root_dockers_profile_fits_a_shell() {
    needs!(Root, Busybox);
    let published = include_str!("../../crates/plan/tests/plans/docker-seccomp.json");
    let published: Value = serde_json::from_str(published).expect("a document");
    let line = "/bin/busybox ls /proc/self/fd > /dev/null && /bin/busybox unshare -m true; echo $?; \
                /bin/busybox ps | /bin/busybox wc -l > /dev/null; echo $?";
    for lock in [true, false] {
        let bundle = Bundle::new("filter-docker").shell(line);
        let bundle = bundle.edit(|config| config["linux"]["seccomp"] = published["linux"]["seccomp"].clone());
        let bundle = locked(bundle, lock);
        let before = Snapshot::take(&bundle);
        let output = bundle.container(&Runtime::under_test()).run();
        assert_eq!(output.success().stdout, "1\n0\n", "{output}");
        before.assert_same();
    }
}

/// The flags go to the kernel beside the filter, where nothing inside shows them: `--debug` does.
#[test]
fn root_debug_tells_the_flags_of_the_filter() {
    needs!(Root, Busybox);
    for (flags, told) in [(json!(null), 4), (json!([]), 0), (json!(["SECCOMP_FILTER_FLAG_LOG"]), 2)] {
        let bundle = filtered(Bundle::new("filter-flags"), "SCMP_ACT_ERRNO", &MAKE)
            .edit(|config| config["linux"]["seccomp"]["flags"] = flags);
        let container = bundle.container(&Runtime::under_test());
        let output = container.command(&["run", "--bundle", "BUNDLE", "ID"]).global("--debug").run();
        let line = format!("msg=\"seccomp filter flags: {told}\"");
        assert!(output.success().stderr.contains(&line), "{line}: {output}");
    }
}

/// A hook of `startContainer` is the image's own as the program is. That we may not ask for threads then is no matter.
#[test]
fn root_hooks_inside_are_filtered_too() {
    needs!(Root, Busybox);
    for lock in [true, false] {
        let bundle = Bundle::new("filter-hook").mount("/tmp", "tmpfs", "tmpfs", &[]).edit(|config| {
            let args = ["sh", "-c", "! mkdir /tmp/made"];
            config["hooks"] = json!({"startContainer": [{"path": "/bin/sh", "args": args}]});
        });
        let names = ["mkdir", "mkdirat", "unshare"];
        let bundle = locked(filtered(bundle, "SCMP_ACT_ERRNO", &names), lock);
        let before = Snapshot::take(&bundle);
        bundle.container(&Runtime::under_test()).run().success();
        before.assert_same();
    }
}

/// Where no rule asks an agent, there is nothing to hand over, and nobody need listen.
#[test]
fn root_an_agent_that_nothing_asks_is_passed_over() {
    needs!(Root, Busybox);
    let bundle = filtered(Bundle::new("filter-agent"), "SCMP_ACT_ERRNO", &MAKE).edit(|config| {
        config["linux"]["seccomp"]["listenerPath"] = json!("/nonexistent/agent");
        config["linux"]["seccomp"]["listenerMetadata"] = json!("for nobody");
    });
    bundle.container(&Runtime::under_test()).run().success();
}

/// `features` promises the actions and the flags that a filter can have here.
#[test]
fn root_features_promise_the_flags_that_are_handed_on() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("filter-features");
    let output = bundle.container(&Runtime::under_test()).call(&["features"]);
    let features: Value = serde_json::from_str(&output.success().stdout).expect("it is JSON");
    let seccomp = &features["linux"]["seccomp"];
    let flags = ["TSYNC", "SPEC_ALLOW", "LOG"].map(|name| format!("SECCOMP_FILTER_FLAG_{name}"));
    let supported = seccomp["supportedFlags"].as_array().expect("a list");
    assert!(flags.iter().all(|flag| supported.contains(&json!(flag))), "{seccomp}");
    let killable = json!("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV");
    // Since Linux 5.19: WAIT_KILLABLE_RECV and NEW_LISTENER.
    assert_eq!(supported.contains(&killable), sys::has_filter_flags(1 << 5 | 1 << 3), "{seccomp}");
    assert!(seccomp["knownFlags"].as_array().is_some_and(|known| known.contains(&killable)), "{seccomp}");
    assert!(seccomp["actions"].as_array().is_some_and(|known| known.contains(&json!("SCMP_ACT_NOTIFY"))));
}
