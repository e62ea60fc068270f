//! `run` in the foreground: signals go in, the exit status comes out, orphans are reaped.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::os::fd::AsRawFd;

use rustix::process::Signal;
use tests::{Bundle, LIMIT, Runtime, Snapshot, channel, needs, until};

#[test]
fn root_the_status_is_the_programs() {
    needs!(Root, Busybox);
    let runtime = Runtime::under_test();
    for (line, code) in
        [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -9 $$; kill -9 -1; exit 3", 3)]
    {
        let bundle = Bundle::new("status").shell(line);
        let before = Snapshot::take(&bundle);
        bundle.container(&runtime).run().code(code);
        before.assert_same();
    }
}

/// The first process of a pid namespace is spared the signals that it does not handle, so this program is not it: its
/// parent, a shell, ends as it did.
#[test]
fn root_a_program_killed_by_a_signal_counts_from_128() {
    needs!(Root, Busybox);
    for (signal, code) in [("KILL", 137), ("TERM", 143), ("SEGV", 139)] {
        let bundle = Bundle::new("killed").shell(&format!("sh -c 'kill -{signal} $$'; exit $?"));
        bundle.container(&Runtime::under_test()).run().code(code);
    }
}

#[test]
fn root_init_killed_from_outside_counts_from_128() {
    needs!(Root, Busybox);
    let (mut lines, stdout) = channel();
    let bundle = Bundle::new("outside").shell("echo up; exec sleep 1000");
    let container = bundle.container(&Runtime::under_test());
    let run = container.command(&["run", "--bundle", "BUNDLE", "ID"]).stdout(stdout).spawn();
    assert_eq!(lines.next_within(LIMIT).as_deref(), Some("up"));
    container.kill("KILL").success();
    run.wait().code(137);
}

#[test]
fn root_every_signal_is_forwarded() {
    needs!(Root, Busybox);
    for (name, signal) in [
        ("HUP", Signal::HUP),
        ("INT", Signal::INT),
        ("QUIT", Signal::QUIT),
        ("TERM", Signal::TERM),
        ("USR1", Signal::USR1),
        ("USR2", Signal::USR2),
        ("CONT", Signal::CONT),
    ] {
        let (mut lines, stdout) = channel();
        let line = format!(
            "trap 'echo got {name}; exit 42' {name}; echo up; while :; do sleep 1000 & wait $!; done"
        );
        let bundle = Bundle::new("forward").shell(&line);
        let before = Snapshot::take(&bundle);
        let container = bundle.container(&Runtime::under_test());
        let run = container.command(&["run", "--bundle", "BUNDLE", "ID"]).stdout(stdout).spawn();
        assert_eq!(lines.next_within(LIMIT).as_deref(), Some("up"));
        run.signal(signal);
        assert_eq!(lines.next_within(LIMIT), Some(format!("got {name}")));
        run.wait().code(42);
        before.assert_same();
    }
}

/// Without a pid namespace, a process that loses its parent comes to us; init's exit is told apart from its exit.
#[test]
fn root_orphans_are_reaped_and_not_mistaken_for_init() {
    needs!(Root, Busybox);
    let (mut lines, stdout) = channel();
    let orphan = "sh -c '(echo orphan $(cut -d\" \" -f4 /proc/self/stat >/dev/null; echo); exit 9) & exit 0'; echo done; read end; exit 5";
    let mut bundle = Bundle::new("orphans").shell(orphan);
    bundle.change(|config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().expect("namespaces");
        namespaces.retain(|namespace| namespace["type"] != "pid");
        // A procfs of the host's pid namespace is the host's to show.
        let mounts = config["mounts"].as_array_mut().expect("mounts");
        mounts.retain(|mount| mount["destination"] != "/proc");
        config["linux"]["maskedPaths"] = serde_json::json!([]);
        config["linux"]["readonlyPaths"] = serde_json::json!([]);
    });
    let before = Snapshot::take(&bundle);
    let container = bundle.container(&Runtime::under_test());
    let (read, write) = std::io::pipe().expect("a pipe");
    let run = container.command(&["run", "--bundle", "BUNDLE", "ID"]).stdin(read).stdout(stdout).spawn();
    let mut seen = [lines.next_within(LIMIT), lines.next_within(LIMIT)].map(Option::unwrap_or_default);
    seen.sort();
    assert_eq!(seen.map(|line| line.trim().to_owned()), ["done", "orphan"]);
    // The orphan has ended, or ends now; a zombie of ours would be listed as our child as long as we live.
    let children = format!("/proc/{0}/task/{0}/children", run.pid());
    let init = container.pid().expect("init lives").to_string();
    let left = || fs::read_to_string(&children).unwrap_or_default();
    until(|| left().split_whitespace().all(|child| child == init), || format!("init alone, but {}", left()));
    drop(write);
    run.wait().code(5);
    before.assert_same();
}

#[test]
fn root_detached_runs_on_without_us() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("detached").shell("exec sleep 1000");
    let before = Snapshot::take(&bundle);
    let container = bundle.container(&Runtime::under_test());
    let file = bundle.dir().join("pid").display().to_string();
    container.command(&["run", "--detach", "--bundle", "BUNDLE", "--pid-file", &file, "ID"]).run().success();
    assert_eq!(container.status().as_deref(), Some("running"));
    let told = fs::read_to_string(bundle.dir().join("pid")).expect("the pid file");
    assert_eq!(
        told,
        container.pid().expect("init lives").to_string(),
        "the number alone, without a line's end"
    );
    container.delete_force().success();
    before.assert_same();
}

#[test]
fn root_a_kept_container_stays_after_its_end() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("kept").shell("exit 4");
    let container = bundle.container(&Runtime::under_test());
    container.command(&["run", "--keep", "--bundle", "BUNDLE", "ID"]).run().code(4);
    assert_eq!(container.status().as_deref(), Some("stopped"));
    container.delete().success();
}

#[test]
fn root_a_program_that_is_not_there_is_told_and_undone() {
    needs!(Root, Busybox);
    let runtime = Runtime::under_test();
    for (args, why) in [
        (["nosuch"], r#"exec: "nosuch": executable file not found in $PATH"#),
        (["/nosuch"], r#"exec: "/nosuch": "#),
        (["/etc"], r#"exec: "/etc": "#),
    ] {
        let bundle = Bundle::new("missing").args(&args);
        fs::create_dir_all(bundle.rootfs().join("etc")).expect("a directory");
        let file = bundle.dir().join("pid").display().to_string();
        let before = Snapshot::take(&bundle);
        for verb in ["run", "create"] {
            let container = bundle.another(&runtime);
            let output = container.command(&[verb, "--bundle", "BUNDLE", "--pid-file", &file, "ID"]).run();
            output.code(1);
            assert!(output.stderr.contains(why), "{verb}: {}", output.stderr);
            assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
        }
        assert!(!bundle.dir().join("pid").exists(), "no pid file of what never was");
        before.assert_same();
    }
}

#[test]
fn root_preserved_descriptors_reach_the_program_and_no_others() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("preserve").shell("ls /proc/self/fd | tr '\\n' ' '");
    let (read, _write) = std::io::pipe().expect("a pipe");
    let number = read.as_raw_fd();
    // A launcher puts the pipe where it is to be found, and one more beside it that is not named.
    let line = format!("exec 3</proc/{}/fd/{number} 4</dev/null 5<&-; exec \"$@\"", std::process::id());
    let launcher = ["/bin/sh", "-c", line.as_str(), "sh"];
    let runtime = Runtime::under_test();
    let container = bundle.container(&runtime);
    let output = container
        .command(&["run", "--preserve-fds", "1", "--bundle", "BUNDLE", "ID"])
        .launched_by(&launcher)
        .run();
    // ls itself opens the directory as the next number.
    assert_eq!(output.success().stdout.trim(), "0 1 2 3 4", "{}", output.printed());
    let output = bundle
        .another(&runtime)
        .command(&["run", "--preserve-fds", "3", "--bundle", "BUNDLE", "ID"])
        .launched_by(&launcher)
        .run();
    output.code(1);
    assert!(output.stderr.contains("--preserve-fds 3: descriptor 5 is not open"), "{}", output.stderr);
}

/// Sockets that a service manager opened are the program's if we are the one it meant; others follow them.
#[test]
fn root_listening_descriptors_come_first() {
    needs!(Root, Busybox);
    let show = "ls /proc/self/fd | tr '\\n' ' '; echo \"$LISTEN_FDS,$LISTEN_PID,$LISTEN_FDNAMES\"";
    let bundle = Bundle::new("listen").env("LISTEN_PID=7").shell(show);
    let runtime = Runtime::under_test();
    let run = |manager: &str, count: &str| {
        let line = format!("exec 3</dev/null 4</dev/zero 5</dev/null 6<&-; {manager} exec \"$@\"");
        let words = ["run", "--preserve-fds", count, "--bundle", "BUNDLE", "ID"];
        bundle.another(&runtime).command(&words).launched_by(&["/bin/sh", "-c", line.as_str(), "sh"]).run()
    };
    let manager = "LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=a:b";
    // ls itself opens the directory as the next number.
    assert_eq!(run(manager, "1").success().stdout.trim(), "0 1 2 3 4 5 6 2,1,");
    assert_eq!(run(manager, "0").success().stdout.trim(), "0 1 2 3 4 5 2,1,");
    for others in ["LISTEN_PID=1 LISTEN_FDS=2", "LISTEN_FDS=2", "LISTEN_PID=$$ LISTEN_FDS=x", ""] {
        assert_eq!(run(others, "0").success().stdout.trim(), "0 1 2 3 ,7,", "{others}");
    }
    for (manager, count, why) in [
        ("LISTEN_PID=$$ LISTEN_FDS=4", "0", "LISTEN_FDS=4: descriptor 6 is not open"),
        ("LISTEN_PID=$$ LISTEN_FDS=2", "2", "--preserve-fds 2: descriptor 6 is not open"),
    ] {
        let output = run(manager, count);
        output.code(1);
        assert!(output.stderr.contains(why), "{}", output.stderr);
    }
}
