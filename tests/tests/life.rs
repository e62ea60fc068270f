//! A container's life under more than one hand: who wins, and who is not mistaken for whom.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tests::trace::{Fate, kill_after};
use tests::{Bundle, LIMIT, Runtime, Snapshot, adopt, channel, gone_within, needs};

/// A number that was given to another process must not make that one the container's.
#[test]
fn root_a_reused_pid_is_not_the_container() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("reused").shell("exec sleep 1000");
    let before = Snapshot::take(&bundle);
    let container = bundle.container(&Runtime::under_test());
    container.create().success();
    container.start().success();
    container.kill("KILL").success();
    assert!(container.ended());

    let mut other =
        Command::new("/bin/sleep").arg("1000").stdin(Stdio::null()).spawn().expect("another process");
    let path = bundle.state_root().join(container.id()).join("state.json");
    let text = fs::read_to_string(&path).expect("the record");
    let mut record: Value = serde_json::from_str(&text).expect("JSON");
    record["init"]["pid"] = other.id().into();
    fs::write(&path, record.to_string()).expect("write the record");

    assert_eq!(container.status().as_deref(), Some("stopped"));
    container.kill("KILL").code(1);
    container.delete().success();
    assert_eq!(other.try_wait().expect("ask"), None, "the other process lives on");
    other.kill().expect("end it");
    other.wait().expect("reap it");
    before.assert_same();
}

/// Whoever stops a container that waits for `start` need not wait until SIGKILL is due: it ends as a program would that such
/// a signal kills. Others wait no longer than `start` does, and go astray there, as with runc.
#[test]
fn root_a_container_that_waits_hears_who_stops_it() {
    needs!(Root, Busybox);
    adopt();
    let filter = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["rt_sigprocmask"], "action": "SCMP_ACT_ERRNO"}]});
    // A filter that comes before the privileges go is in force while init waits.
    for (filter, locked) in [(None, true), (Some(&filter), false), (Some(&filter), true)] {
        let bundle = Bundle::new("stopped").args(&["/bin/busybox", "sleep", "1000"]).edit(|config| {
            config["process"]["noNewPrivileges"] = json!(locked);
            if let Some(filter) = filter {
                config["linux"]["seccomp"] = filter.clone();
            }
        });
        let before = Snapshot::take(&bundle);
        for (signal, number) in [("TERM", 15), ("INT", 2), ("HUP", 1), ("QUIT", 3)] {
            let container = bundle.another(&Runtime::under_test());
            // Whoever ignores such signals, as nohup(1) does, does so for itself.
            let create = container.command(&["create", "--keep-status", "--bundle", "BUNDLE", "ID"]);
            create.launched_by(&["env", "--ignore-signal=HUP,TERM"]).run().success();
            container.kill("USR1").success();
            assert_eq!(container.status().as_deref(), Some("created"), "{signal}");
            container.kill(signal).success();
            assert!(container.ended(), "{signal}");
            assert_eq!(container.call(&["wait", "ID"]).success().stdout, format!("{}\n", 128 + number));
            container.delete().success();
        }
        let container = bundle.another(&Runtime::under_test());
        container.create().success();
        container.kill("USR1").success();
        container.start().success();
        assert_eq!(container.status().as_deref(), Some("running"));
        // The program is its namespace's first process, and catches nothing.
        container.kill("TERM").success();
        assert_eq!(container.status().as_deref(), Some("running"));
        container.delete_force().success();
        before.assert_same();
    }
}

#[test]
fn root_of_two_starts_one_wins() {
    needs!(Root, Busybox);
    let runtime = Runtime::under_test();
    for _ in 0..20 {
        let bundle = Bundle::new("starts").shell("exec sleep 1000");
        let container = bundle.container(&runtime);
        container.create().success();
        let both = [(); 2].map(|()| container.command(&["start", "ID"]).spawn());
        let outputs = both.map(tests::Process::wait);
        let won = outputs.iter().filter(|output| output.code == 0).count();
        assert_eq!(won, 1, "{}\n{}", outputs[0].printed(), outputs[1].printed());
        let lost = outputs.iter().find(|output| output.code != 0).expect("one lost");
        assert!(lost.stderr.contains("cannot start an already running container"), "{}", lost.stderr);
        container.delete_force().success();
    }
}

#[test]
fn root_of_two_creates_one_wins() {
    needs!(Root, Busybox);
    let runtime = Runtime::under_test();
    for _ in 0..20 {
        let bundle = Bundle::new("creates").shell("exec sleep 1000");
        let container = bundle.container(&runtime);
        let both = [(); 2].map(|()| container.command(&["create", "--bundle", "BUNDLE", "ID"]).spawn());
        let outputs = both.map(tests::Process::wait);
        let won = outputs.iter().filter(|output| output.code == 0).count();
        assert_eq!(won, 1, "{}\n{}", outputs[0].printed(), outputs[1].printed());
        assert_eq!(container.status().as_deref(), Some("created"), "the winner's container is whole");
        container.delete_force().success();
    }
}

#[test]
fn root_of_two_deletes_both_find_it_gone() {
    needs!(Root, Busybox);
    let runtime = Runtime::under_test();
    for _ in 0..20 {
        let bundle = Bundle::new("deletes").shell("exec sleep 1000");
        let before = Snapshot::take(&bundle);
        let container = bundle.container(&runtime);
        container.create().success();
        let both = [(); 2].map(|()| container.command(&["delete", "--force", "ID"]).spawn());
        for output in both.map(tests::Process::wait) {
            output.success();
        }
        before.assert_same();
    }
}

/// A start that is killed after it knocked leaves no container between created and running.
#[test]
fn root_a_start_that_was_killed_leaves_a_stopped_or_a_running_container() {
    needs!(Root, Busybox);
    let runtime = Runtime::under_test();
    let mut points = 0;
    for count in (1..).step_by(3) {
        let bundle = Bundle::new("start-killed").shell("exec sleep 1000");
        let container = bundle.container(&runtime);
        container.create().success();
        let fate = tests::trace::kill_after(container.command(&["start", "ID"]), count);
        let status = container.status().expect("it is known");
        assert!(["created", "running", "stopped"].contains(&status.as_str()), "{status}");
        if status == "created" {
            // It may have knocked already, and init be about to hear that it hung up.
            let output = container.start();
            let status = if output.code == 0 { "running" } else { "stopped" };
            assert_eq!(container.status().as_deref(), Some(status), "{output}");
            assert!(output.code == 0 || output.stderr.contains("container that has stopped"), "{output}");
        }
        container.delete_force().success();
        points += 1;
        if !matches!(fate, tests::trace::Fate::Killed { .. }) {
            break;
        }
    }
    assert!(points > 5, "only {points} points");
}

/// A start that comes while init ends, because an earlier start was killed before it said go, was told that the
/// container runs already.
#[test]
fn root_a_start_after_a_killed_start_is_told_how_that_ended() {
    needs!(Root, Busybox);
    let runtime = Runtime::under_test();
    let signal = |pid: i32, signal| {
        kill_process(Pid::from_raw(pid).expect("a pid"), signal).expect("signal init");
    };
    let bundle = Bundle::new("start-whole").shell("exec sleep 1000");
    let container = bundle.container(&runtime);
    container.create().success();
    let Fate::Ended { calls, .. } = kill_after(container.command(&["start", "ID"]), usize::MAX) else {
        panic!("it was not to be killed")
    };
    container.delete_force().success();

    let (mut stopped, mut running) = (0, 0);
    for count in calls.saturating_sub(25).. {
        let bundle = Bundle::new("start-late").shell("exec sleep 1000");
        let container = bundle.container(&runtime);
        container.create().success();
        let pid = container.pid().expect("init waits");
        // Init hears neither the word nor that its caller is gone before the second one has come.
        signal(pid, Signal::STOP);
        let fate = kill_after(container.command(&["start", "ID"]), count);
        let second = container.command(&["start", "ID"]).spawn();
        // Time to say the wrong thing, for one that does.
        let _answered = tests::ready_within(&second, Duration::from_millis(100));
        signal(pid, Signal::CONT);
        let output = second.wait();
        match (container.status().as_deref(), output.code) {
            (Some("stopped"), 1) => {
                assert!(output.stderr.contains("container that has stopped"), "{count}: {output}");
                stopped += 1;
            }
            (Some("running"), 1) => {
                assert!(output.stderr.contains("already running"), "{count}: {output}");
                running += 1;
            }
            (Some("running"), 0) => {}
            other => panic!("after {count} calls: {other:?}\n{output}"),
        }
        container.delete_force().success();
        let Fate::Killed { call } = fate else { panic!("it was to be killed") };
        // The next one would wait for init.
        if i64::try_from(call) == Ok(libc::SYS_sendto) {
            break;
        }
    }
    assert!(stopped > 0 && running > 0, "{stopped} stopped, {running} running");
}

#[test]
fn root_paused_is_seen_and_undone() {
    needs!(Root, Busybox, Freezer);
    let bundle = Bundle::new("paused").shell("exec sleep 1000");
    let before = Snapshot::take(&bundle);
    let container = bundle.container(&Runtime::under_test());
    container.create().success();
    container.start().success();
    container.call(&["resume", "ID"]).code(1);
    container.call(&["pause", "ID"]).success();
    assert_eq!(container.status().as_deref(), Some("paused"));
    container.call(&["pause", "ID"]).code(1);
    container.delete().code(1);
    container.call(&["resume", "ID"]).success();
    assert_eq!(container.status().as_deref(), Some("running"));
    container.call(&["pause", "ID"]).success();
    container.delete_force().success();
    before.assert_same();
}

#[test]
fn root_the_json_log_has_the_last_error() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("log");
    let log = bundle.dir().join("log.json");
    let container = bundle.container(&Runtime::under_test());
    container
        .command(&["start", "ID"])
        .global("--log")
        .global(&log)
        .global("--log-format")
        .global("json")
        .run()
        .code(1);
    let text = fs::read_to_string(&log).expect("the log");
    let last: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    assert_eq!(last["level"], "error");
    assert!(last["msg"].as_str().is_some_and(|msg| msg.contains("container does not exist")), "{text}");
    assert!(last["time"].is_string(), "{text}");
}

/// A tmpfs takes over the mode of the directory that it covers, and has its own where there was none.
#[test]
fn root_a_tmpfs_takes_over_a_mode_only_from_what_it_covers() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("modes")
        .mount("/there", "tmpfs", "tmpfs", &["nosuid"])
        .mount("/deep/new", "tmpfs", "tmpfs", &["nosuid"])
        .mount("/new", "tmpfs", "tmpfs", &["nosuid"])
        .shell("stat -c '%n %a' /there /deep/new /new");
    let there = bundle.rootfs().join("there");
    fs::create_dir(&there).expect("a directory");
    fs::set_permissions(&there, fs::Permissions::from_mode(0o751)).expect("its mode");
    fs::create_dir(bundle.rootfs().join("deep")).expect("a directory");
    let output = bundle.container(&Runtime::under_test()).run();
    assert_eq!(output.success().stdout, "/there 751\n/deep/new 1777\n/new 1777\n");
}

/// CVE-2025-52881 and its kin by way of a link in the image: nothing is mounted inside /proc.
#[test]
fn root_a_link_into_proc_is_no_place_for_a_mount() {
    needs!(Root, Busybox);
    for target in ["/way/kernel", "/way"] {
        let bundle = Bundle::new("into-proc").mount(target, "tmpfs", "tmpfs", &[]).shell("true");
        std::os::unix::fs::symlink("/proc/sys", bundle.rootfs().join("way")).expect("a link");
        let before = Snapshot::take(&bundle);
        let output = bundle.container(&Runtime::under_test()).run();
        output.code(1);
        assert!(output.stderr.contains("leads into /proc"), "{}", output.stderr);
        before.assert_same();
    }
}

/// Where the host's pid namespace is shared, init takes nobody with it: SIGKILL is for all, also after its end.
#[test]
fn root_kill_reaches_who_outlived_init_in_the_hosts_pids() {
    needs!(Root, Busybox);
    let bundle =
        Bundle::new("outlived").shell("sleep 1000 & sleep 1000 & echo up; exec sleep 1000").edit(|config| {
            let namespaces =
                config["linux"]["namespaces"].as_array_mut().expect("the default has namespaces");
            namespaces.retain(|namespace| namespace["type"] != "pid");
        });
    let before = Snapshot::take(&bundle);
    let container = bundle.container(&Runtime::under_test());
    let (mut lines, stdout) = channel();
    container.command(&["create", "--bundle", "BUNDLE", "ID"]).stdout(stdout).run().success();
    container.start().success();
    assert_eq!(lines.next_within(LIMIT).as_deref(), Some("up"));
    let init = container.pid().expect("init");
    kill_process(Pid::from_raw(init).expect("a number"), Signal::KILL).expect("kill init alone");
    assert!(container.ended());
    let listed = container.call(&["ps", "--format", "json", "ID"]);
    let others: Vec<i32> = serde_json::from_str(&listed.success().stdout).expect("numbers");
    let others: Vec<i32> = others.into_iter().filter(|pid| *pid != init).collect();
    assert_eq!(others.len(), 2, "two live on: {listed}");
    container.kill("TERM").code(1);
    container.kill("KILL").success();
    assert!(others.iter().all(|pid| gone_within(*pid, LIMIT)), "somebody lives on");
    container.delete().success();
    before.assert_same();
}

/// What may be executed is asked of the kernel as execve(2) will see it: with the capabilities that the program has.
#[test]
fn root_a_user_with_dac_override_executes_what_is_roots() {
    needs!(Root, Busybox);
    let set = ["bounding", "effective", "permitted", "inheritable", "ambient"];
    let mut bundle = Bundle::new("override").args(&["/bin/busybox", "true"]).edit(|config| {
        config["process"]["user"] = serde_json::json!({"uid": 1000, "gid": 100});
    });
    let program = bundle.rootfs().join("bin/busybox");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o744)).expect("its mode");
    let denied = bundle.container(&Runtime::under_test()).run();
    assert!(denied.code(1).stderr.contains("permission denied"), "{denied}");
    bundle.change(|config| {
        for name in set {
            config["process"]["capabilities"][name] = serde_json::json!(["CAP_DAC_OVERRIDE"]);
        }
    });
    bundle.container(&Runtime::under_test()).run().success();
}

/// `--debug` writes lines with a level on the stream, or where there is a log into that.
#[test]
fn root_debug_tells_what_was_planned_and_who_init_is() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("debug").shell("true");
    let words = |text: &str| {
        for word in ["level=debug", ": planned, ", ": created, init is ", ": ended with 0"] {
            assert!(text.contains(word), "{word}: {text}");
        }
    };
    let container = bundle.container(&Runtime::under_test());
    let run = || container.command(&["run", "--bundle", "BUNDLE", "ID"]);
    let output = run().global("--debug").run();
    words(&output.success().stderr);
    let log = bundle.dir().join("log");
    let output = run().global("--debug").global("--log").global(&log).run();
    assert_eq!(output.success().stderr, "");
    words(&fs::read_to_string(&log).expect("the log"));
    assert_eq!(run().run().success().stderr, "");
}
