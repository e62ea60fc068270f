//! `wait`, and exit statuses that are kept for those who ask when it is over.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use serde_json::Value;
use tests::{Bundle, Container, LIMIT, Output, Process, Runtime, Snapshot, adopt, gone_within, needs, until};

const DENY: &str = env!("CARGO_BIN_EXE_deny");

fn record(bundle: &Bundle, container: &Container<'_>) -> Value {
    let path = bundle.state_root().join(container.id()).join("state.json");
    serde_json::from_str(&fs::read_to_string(path).expect("the record")).expect("JSON")
}

/// The number of the keeper that the record names.
fn keeper(bundle: &Bundle, container: &Container<'_>) -> Option<i32> {
    let pid = record(bundle, container)["keeper"]["pid"].as_i64()?;
    Some(i32::try_from(pid).expect("a pid"))
}

fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).expect("a pid"), signal).expect("signal a process of the test");
}

fn reap(pid: i32) {
    assert!(gone_within(pid, LIMIT), "{pid} still runs");
    let reaped = waitpid(Pid::from_raw(pid), WaitOptions::empty());
    assert!(reaped.expect("it is ours to reap").is_some());
}

fn wait(container: &Container<'_>) -> Output {
    container.call(&["wait", "ID"])
}

#[track_caller]
fn prints(output: &Output, status: u8) {
    output.success();
    assert_eq!((&*output.stdout, &*output.stderr), (&*format!("{status}\n"), ""));
}

#[track_caller]
fn is_not_told(output: &Output) {
    output.code(1);
    assert_eq!(output.stdout, "");
    assert!(output.stderr.contains("its exit status was not kept"), "{output}");
}

/// Waits until a process that waits has a pidfd of its own.
fn until_it_waits(process: &Process) {
    let has_pidfd = || {
        let fds = fs::read_dir(format!("/proc/{}/fd", process.pid())).expect("its descriptors").flatten();
        let links = fds.filter_map(|fd| fs::read_link(fd.path()).ok());
        let mut links = links.filter_map(|link| link.to_str().map(str::to_owned));
        links.any(|link| link.contains("pidfd"))
    };
    until(has_pidfd, || "a wait");
}

#[test]
fn root_wait_prints_how_the_program_ended() {
    needs!(Root, Busybox);
    for (line, status) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("exit 255", 255),
        ("kill -TERM $$; sleep 9", 143),
        ("kill -KILL $$", 137),
    ] {
        // A child, so that signals are not lost on the first process of a pid namespace.
        let idle = "while [ ! -e /tmp/go ]; do sleep 0.05; done";
        let bundle = Bundle::new("ended").shell(&format!("{idle}; sh -c '{line}'; exit $?"));
        let before = Snapshot::take(&bundle);
        let container = bundle.container(&Runtime::under_test());
        container.call(&["run", "--detach", "--bundle", "BUNDLE", "ID"]).success();
        let waiting = container.command(&["wait", "ID"]).spawn();
        until_it_waits(&waiting);
        fs::write(bundle.rootfs().join("tmp/go"), "").expect("say go");
        prints(&waiting.wait(), status);
        // And again when it is over, as often as anybody asks.
        prints(&wait(&container), status);
        prints(&wait(&container), status);
        let state = container.state().expect("a state");
        assert_eq!(state["status"], "stopped");
        container.delete().success();
        let gone = wait(&container);
        gone.code(1);
        assert!(gone.stderr.contains("container does not exist"), "{gone}");
        before.assert_same();
    }
}

/// What is killed as the first process is told as a shell would tell it.
#[test]
fn root_wait_tells_a_signal_by_128_and_its_number() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("signal").args(&["/bin/sleep", "1000"]);
    let container = bundle.container(&Runtime::under_test());
    container.call(&["run", "--detach", "--bundle", "BUNDLE", "ID"]).success();
    let waiting = container.command(&["wait", "ID"]).spawn();
    until_it_waits(&waiting);
    container.kill("KILL").success();
    prints(&waiting.wait(), 137);
    prints(&wait(&container), 137);
    let file = bundle.state_root().join(container.id()).join("exit.json");
    let kept: Value = serde_json::from_str(&fs::read_to_string(file).expect("it was kept")).expect("JSON");
    assert_eq!((&kept["version"], &kept["signal"], &kept["status"]), (&1.into(), &9.into(), &Value::Null));
    assert_eq!(container.state().expect("a state")["annotations"]["io.cofferdam.exit"], "137");
}

#[test]
fn root_any_number_may_wait_in_any_state() {
    needs!(Root, Busybox, Freezer);
    let bundle = Bundle::new("many").shell("while [ ! -e /tmp/go ]; do sleep 0.05; done; exit 3");
    let before = Snapshot::take(&bundle);
    let container = bundle.container(&Runtime::under_test());
    let mut waiting = Vec::new();
    let mut more = || {
        let new: Vec<_> = (0..8).map(|_| container.command(&["wait", "ID"]).spawn()).collect();
        new.iter().for_each(until_it_waits);
        waiting.extend(new);
    };
    container.create().success();
    more();
    container.start().success();
    more();
    container.call(&["pause", "ID"]).success();
    more();
    container.call(&["resume", "ID"]).success();
    fs::write(bundle.rootfs().join("tmp/go"), "").expect("say go");
    assert_eq!(waiting.len(), 24);
    for process in waiting {
        prints(&process.wait(), 3);
    }
    container.delete().success();
    before.assert_same();
}

/// `create` leaves no keeper: whoever calls it reaps. Where it was not asked to stay, nobody guesses.
#[test]
fn root_a_status_that_nobody_kept_is_not_guessed() {
    needs!(Root, Busybox);
    adopt();
    for (flags, is_kept) in [(&[][..], false), (&["--keep-status"], true)] {
        let bundle = Bundle::new("kept").shell("exit 5");
        let before = Snapshot::take(&bundle);
        let container = bundle.container(&Runtime::under_test());
        container.call(&[&["create"], flags, &["--bundle", "BUNDLE", "ID"]].concat()).success();
        let pid = container.pid().expect("init waits");
        assert_eq!(keeper(&bundle, &container).is_some(), is_kept);
        container.start().success();
        assert!(gone_within(pid, LIMIT));
        // A zombie tells it to everybody who may look.
        prints(&wait(&container), 5);
        reap(pid);
        let after = wait(&container);
        if is_kept {
            prints(&after, 5);
        } else {
            is_not_told(&after);
        }
        assert_eq!(
            container.state().expect("a state")["annotations"]["io.cofferdam.exit"].is_string(),
            is_kept
        );
        container.delete().success();
        before.assert_same();
    }
}

/// A kernel before 6.15 tells nobody but the parent, once init was reaped.
#[test]
fn root_an_older_kernel_does_not_make_wait_guess() {
    needs!(Root, Busybox);
    adopt();
    for errno in ["ENOTTY", "EPERM"] {
        let bundle = Bundle::new("older").shell("exit 5");
        let container = bundle.container(&Runtime::under_test());
        container.create().success();
        let pid = container.pid().expect("init waits");
        let denied = || container.command(&["wait", "ID"]).launched_by(&[DENY, errno, "ioctl", "--"]);
        let waiting = denied().spawn();
        until_it_waits(&waiting);
        container.start().success();
        prints(&waiting.wait(), 5);
        prints(&denied().run(), 5);
        reap(pid);
        is_not_told(&denied().run());
        container.delete().success();
    }
}

#[test]
fn root_a_killed_keeper_keeps_nothing() {
    needs!(Root, Busybox);
    adopt();
    let bundle = Bundle::new("killed").args(&["/bin/sleep", "1000"]);
    let before = Snapshot::take(&bundle);
    let container = bundle.container(&Runtime::under_test());
    container.call(&["run", "--detach", "--bundle", "BUNDLE", "ID"]).success();
    let (pid, keeper) = (container.pid().expect("it runs"), keeper(&bundle, &container).expect("a keeper"));
    let waiting = container.command(&["wait", "ID"]).spawn();
    until_it_waits(&waiting);
    signal(keeper, Signal::KILL);
    reap(keeper);
    container.kill("KILL").success();
    reap(pid);
    // Who waited before the end was told by the kernel, or says that it was not.
    let early = waiting.wait();
    if early.code == 0 {
        prints(&early, 137);
    } else {
        is_not_told(&early);
    }
    is_not_told(&wait(&container));
    container.delete().success();
    before.assert_same();
}

/// A keeper that somebody stopped does not hold `delete` up for long.
#[test]
fn root_a_stopped_keeper_is_ended_by_delete() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("stopped").args(&["/bin/sleep", "1000"]);
    let before = Snapshot::take(&bundle);
    let container = bundle.container(&Runtime::under_test());
    container.call(&["run", "--detach", "--bundle", "BUNDLE", "ID"]).success();
    let keeper = keeper(&bundle, &container).expect("a keeper");
    signal(keeper, Signal::STOP);
    container.delete_force().success();
    assert!(gone_within(keeper, Duration::ZERO));
    before.assert_same();
}

#[test]
fn root_deleting_ends_the_waiting() {
    needs!(Root, Busybox);
    for detached in [false, true] {
        let bundle = Bundle::new("deleted").args(&["/bin/sleep", "1000"]);
        let before = Snapshot::take(&bundle);
        let container = bundle.container(&Runtime::under_test());
        if detached {
            container.call(&["run", "--detach", "--bundle", "BUNDLE", "ID"]).success();
        } else {
            container.create().success();
        }
        let waiting: Vec<_> = (0..4).map(|_| container.command(&["wait", "ID"]).spawn()).collect();
        waiting.iter().for_each(until_it_waits);
        container.delete_force().success();
        for process in waiting {
            prints(&process.wait(), 137);
        }
        before.assert_same();
    }
}

/// It is nobody's burden: no stream, no directory, no session, no cgroup of the container, one thread.
#[test]
fn root_a_keeper_holds_what_it_needs_and_nothing_more() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("keeper").args(&["/bin/sleep", "1000"]);
    let container = bundle.container(&Runtime::under_test());
    container.call(&["run", "--detach", "--bundle", "BUNDLE", "ID"]).success();
    let keeper = keeper(&bundle, &container).expect("a keeper");
    let proc = Path::new("/proc").join(keeper.to_string());
    let text = |name: &str| fs::read_to_string(proc.join(name)).expect("a file of its own");
    // It is there before it has settled; its name comes then.
    until(|| text("comm") == "cofferdam-keep\n", || format!("a name of its own, not {}", text("comm")));
    assert_eq!(text("cgroup"), fs::read_to_string("/proc/self/cgroup").expect("ours"));
    assert_eq!(fs::read_dir(proc.join("task")).expect("its threads").count(), 1);
    assert_eq!(fs::read_link(proc.join("cwd")).expect("a directory"), Path::new("/"));
    let stat = text("stat");
    let session =
        stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(3)).expect("a session");
    assert_eq!(session, keeper.to_string());
    let mut links: Vec<String> = fs::read_dir(proc.join("fd"))
        .expect("its descriptors")
        .map(|fd| fs::read_link(fd.expect("one").path()).expect("a link").display().to_string())
        .map(|link| if link.contains("pidfd") { "pidfd".to_owned() } else { link })
        .collect();
    links.sort();
    let directory = bundle.state_root().join(container.id()).display().to_string();
    let mut expected = ["/dev/null", "/dev/null", "/dev/null", "pidfd", &directory].map(str::to_owned);
    expected.sort();
    links.retain(|link| !link.starts_with("pipe:"));
    assert_eq!(links, expected);
    container.delete_force().success();
    assert!(gone_within(keeper, LIMIT));
}

/// Where the container joins a pid namespace, its keeper does not.
#[test]
fn root_a_keeper_stays_out_of_a_joined_pid_namespace() {
    needs!(Root, Busybox);
    adopt();
    let runtime = Runtime::under_test();
    let first = Bundle::new("first").args(&["/bin/sleep", "1000"]);
    let pause = first.container(&runtime);
    pause.create().success();
    let joined = format!("/proc/{}/ns/pid", pause.pid().expect("it waits"));
    let bundle = Bundle::new("joined").shell("sleep 0.2; exit 4").edit(|config| {
        config["linux"]["namespaces"][0]["path"] = joined.clone().into();
    });
    let before = Snapshot::take(&bundle);
    let container = bundle.container(&runtime);
    let file = bundle.dir().join("init.pid");
    let words = ["run", "--detach", "--pid-file", file.to_str().expect("text"), "--bundle", "BUNDLE", "ID"];
    container.call(&words).success();
    let keeper = keeper(&bundle, &container).expect("a keeper");
    // It may have ended by now; then there is nothing to see, but that it has done its work.
    if let Ok(namespace) = fs::read_link(format!("/proc/{keeper}/ns/pid")) {
        assert_eq!(namespace, fs::read_link("/proc/self/ns/pid").expect("ours"));
    }
    prints(&wait(&container), 4);
    // Nobody leaves a pid namespace, its first process either, who was not reaped.
    reap(fs::read_to_string(file).expect("the pid file").parse().expect("a number"));
    container.delete().success();
    before.assert_same();
    pause.delete_force().success();
}

/// `run` in the foreground knows how it ended, and `--keep` keeps that too.
#[test]
fn root_run_keeps_the_status_of_what_it_keeps() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("keep").shell("exit 9");
    let container = bundle.container(&Runtime::under_test());
    container.call(&["run", "--keep", "--bundle", "BUNDLE", "ID"]).code(9);
    assert_eq!(keeper(&bundle, &container), None);
    prints(&wait(&container), 9);
    container.delete().success();
}

/// A file that somebody broke is told, and hides nothing else.
#[test]
fn root_a_broken_exit_file_is_told() {
    needs!(Root, Busybox);
    for (text, told) in [
        ("", "EOF while parsing"),
        ("[]", "is no JSON object"),
        (
            r#"{"version":2,"status":1,"signal":null,"at":""}"#,
            "is of version 2, written by a newer cofferdam",
        ),
        (r#"{"version":1,"status":null,"signal":null,"at":""}"#, "tells neither a status nor a signal"),
    ] {
        let bundle = Bundle::new("broken").args(&["/bin/true"]);
        let before = Snapshot::take(&bundle);
        let container = bundle.container(&Runtime::under_test());
        container.call(&["run", "--keep", "--bundle", "BUNDLE", "ID"]).success();
        fs::write(bundle.state_root().join(container.id()).join("exit.json"), text).expect("break it");
        let output = wait(&container);
        output.code(1);
        assert!(output.stderr.contains("exit.json: ") && output.stderr.contains(told), "{output}");
        let state = container.state().expect("a state all the same");
        let warnings = state["annotations"]["io.cofferdam.warnings"].as_str().expect("a warning");
        assert!(warnings.contains("exit.json: "), "{warnings}");
        container.delete().success();
        before.assert_same();
    }
}

#[test]
fn root_fifty_detached_containers_leave_nothing() {
    needs!(Root, Busybox);
    let runtime = Runtime::under_test();
    let bundle = Bundle::new("fifty").shell("exit $(hostname)");
    let before = Snapshot::take(&bundle);
    let mut bundle = bundle;
    for status in 0..50_u8 {
        bundle.change(|config| config["hostname"] = status.to_string().into());
        let container = bundle.another(&runtime);
        container.call(&["run", "--detach", "--bundle", "BUNDLE", "ID"]).success();
        prints(&wait(&container), status);
        let keeper = keeper(&bundle, &container).expect("a keeper");
        container.delete().success();
        assert!(gone_within(keeper, Duration::ZERO), "the keeper outlives delete");
    }
    before.assert_same();
}
