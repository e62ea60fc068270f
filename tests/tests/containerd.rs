//! Tasks under containerd, as people ask for them by its own client: three ages of it, with the shim under test.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tests::containerd::{IMAGE, signal};
use tests::pty::Screen;
use tests::{Age, Containerd, LIMIT, Output, Process, Shim, debian, gone_within, needs};

/// Waits for a USR1 or for its end; ends well on TERM.
const STAYS: &str = "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done";

fn containerd(name: &str) -> Containerd {
    Containerd::with(Age::Bookworm, &Shim::under_test(), name)
}

fn lines(output: &Output) -> Vec<&str> {
    output.success().stdout.lines().collect()
}

/// What every age must serve: exit codes, a detached task with an exec in it, its end and its removal.
fn smoke(age: Age, name: &str) {
    let containerd = Containerd::with(age, &Shim::under_test(), name);
    for code in [0, 1, 7, 255] {
        containerd.shell(&["--rm"], "codes", &format!("exit {code}")).code(code);
    }
    let told = containerd.shell(&["--rm"], "says", "echo out; echo err >&2");
    assert_eq!((told.stdout.as_str(), told.stderr.as_str()), ("out\n", "err\n"), "{told}");

    let mut events = containerd.events();
    containerd.shell(&["-d"], "stays", STAYS).success();
    let (status, pid) = containerd.task("stays").expect("it is listed");
    assert_eq!(status, "RUNNING");
    let inside =
        containerd.call(&["tasks", "exec", "--exec-id", "e1", "stays", "/bin/sh", "-c", "echo in; exit 3"]);
    assert_eq!(inside.code(3).stdout, "in\n");
    let words = containerd.dir().join("words");
    fs::write(&words, "said\n").expect("write what it reads");
    let reads = containerd.ctr(&["tasks", "exec", "--exec-id", "e2", "stays", "/bin/cat"]);
    let reads = reads.stdin(File::open(&words).expect("it was written")).run();
    assert_eq!(lines(&reads), ["said"], "its input comes to an end");
    let ps = containerd.call(&["tasks", "ps", "stays"]);
    assert!(lines(&ps).iter().any(|line| line.starts_with(&pid.to_string())), "{ps}");
    let state = containerd.call(&["shim", "--id", "stays", "state"]);
    assert!(state.success().stdout.contains("RUNNING") || state.stdout.contains("\"status\": 2"), "{state}");
    containerd.call(&["tasks", "kill", "stays"]).success();
    assert!(gone_within(pid, LIMIT), "TERM ends it");
    let topics = events.until("exit");
    let wanted = ["create", "start", "exec-added:e1", "exec-started:e1", "exit:e1"];
    assert_eq!(topics[..5], wanted);
    assert_eq!(topics[5..], ["exec-added:e2", "exec-started:e2", "exit:e2", "exit"]);
    deleted(&containerd, "stays", 0);
    assert_eq!(events.until("delete"), ["delete"]);
    containerd.call(&["containers", "delete", "stays"]).success();
    assert_eq!(containerd.shims(), [0; 0]);
}

#[test]
fn root_containerd_16_serves() {
    needs!(Root, Busybox, Containerd, Shim);
    smoke(Age::Bookworm, "containerd-16");
}

#[test]
fn root_containerd_17_serves() {
    needs!(Root, Busybox, Containerd17, Shim);
    smoke(Age::Trixie, "containerd-17");
}

#[test]
fn root_containerd_newest_serves() {
    needs!(Root, Busybox, ContainerdNewest, Shim);
    smoke(Age::Sid, "containerd-2");
}

#[test]
fn root_containerd_terminals() {
    needs!(Root, Busybox, Containerd, Shim);
    let containerd = containerd("containerd-pty");
    let (mut screen, slave) = Screen::open(31, 97);
    let command = containerd.running(
        &["--rm", "-t"],
        "seat",
        "tty; until [ \"$(stty size)\" = '31 97' ]; do sleep 0.05; done; stty size; read word; echo got $word; read word; exit 5",
    );
    let run = containerd.seat(command, &slave);
    drop(slave);
    screen.shows("/dev/pts/0");
    resized(&mut screen, &run, "31 97");
    screen.types("hello\n");
    screen.shows("got hello");
    screen.types("end\n");
    assert_eq!(run.wait().code, 5);

    containerd.shell(&["-d"], "stays", STAYS).success();
    let (mut screen, slave) = Screen::open(24, 80);
    let line = "echo up; until [ \"$(stty size 2>/dev/null)\" = '40 120' ]; do sleep 0.05; done; echo resized; \
                read -r word; exit 6";
    let command = containerd.ctr(&["tasks", "exec", "-t", "--exec-id", "e1", "stays", "/bin/sh", "-c", line]);
    let exec = containerd.seat(command, &slave);
    screen.shows("up");
    screen.resize(40, 120);
    resized(&mut screen, &exec, "resized");
    screen.types("end\n");
    assert_eq!(exec.wait().code, 6);
    end(&containerd, "stays");
}

/// Waits until the container has seen its window, and shows this. ctr may have told of it before there was one, or before it
/// listened to changes, and says nothing of either: it is told again.
fn resized(screen: &mut Screen, ctr: &Process, shown: &str) {
    let end = Instant::now() + LIMIT;
    while !screen.shows_within(shown, Duration::from_millis(200)) {
        assert!(Instant::now() < end, "the window is never seen");
        signal(ctr.pid(), Signal::WINCH);
    }
}

/// Ends and removes a task and its container.
fn end(containerd: &Containerd, id: &str) {
    containerd.call(&["tasks", "kill", "-s", "SIGKILL", id]).success();
    let (_, pid) = containerd.task(id).expect("it is listed");
    assert!(gone_within(pid, LIMIT), "KILL ends it");
    deleted(containerd, id, 137);
    containerd.call(&["containers", "delete", id]).success();
}

/// Removes a task that has ended, or is about to: nothing but the answer of this says when containerd knows.
fn deleted(containerd: &Containerd, id: &str, code: i32) {
    let limit = Instant::now() + LIMIT;
    let answer = loop {
        let answer = containerd.call(&["tasks", "delete", id]);
        if !answer.stderr.contains("must be stopped") || limit < Instant::now() {
            break answer;
        }
    };
    let told = format!("task {id} exit with non-zero exit code {code}");
    assert_eq!(answer.success().stderr.contains(&told), code != 0, "{answer}");
}

#[test]
fn root_containerd_streams() {
    needs!(Root, Busybox, Containerd, Shim);
    let containerd = containerd("containerd-streams");
    containerd.shell(&["--rm", "--null-io"], "null", "echo nobody hears; cat; exit 4").code(4);

    let file = containerd.dir().join("logs/deep/file");
    let uri = format!("file://{}", file.display());
    containerd.shell(&["-d", "--log-uri", &uri], "file", "echo out; echo err >&2; exit 2").success();
    removed(&containerd, "file", 2);
    let told = fs::read_to_string(&file).expect("the shim made it");
    let mut told: Vec<&str> = told.lines().collect();
    told.sort_unstable();
    assert_eq!(told, ["err", "out"]);

    let logger = containerd.dir().join("logger");
    let kept = containerd.dir().join("kept");
    let script = format!(
        "#!/bin/sh\ntrap '' TERM\necho \"$CONTAINER_ID $CONTAINER_NAMESPACE $*\" > {0}.args\nenv | cut -d= -f1 | sort > {0}.env\n\
         exec 5>&-\ncat <&3 > {0}.out &\ncat <&4 > {0}.err\nwait\necho end > {0}.end\n",
        kept.display()
    );
    fs::write(&logger, script).expect("write a logger");
    fs::set_permissions(&logger, fs::Permissions::from_mode(0o755)).expect("let it run");
    let uri = format!("binary://{}?colour=blue", logger.display());
    containerd.shell(&["-d", "--log-uri", &uri], "binary", "echo out; echo err >&2").success();
    removed(&containerd, "binary", 0);
    let read = |kind: &str| fs::read_to_string(kept.with_extension(kind)).unwrap_or_default();
    assert_eq!(
        (read("out").as_str(), read("err").as_str(), read("end").as_str()),
        ("out\n", "err\n", "end\n")
    );
    assert_eq!(read("args").trim_end(), format!("binary {} colour blue", containerd.id()));
    assert!(!read("env").contains("TTRPC_ADDRESS"), "a logger has no more than it needs: {}", read("env"));
}

/// Waits for a task's end and removes it and its container.
fn removed(containerd: &Containerd, id: &str, code: i32) {
    if let Some((_, pid)) = containerd.task(id) {
        assert!(gone_within(pid, LIMIT), "{id} ends");
    }
    deleted(containerd, id, code);
    containerd.call(&["containers", "delete", id]).success();
}

#[test]
fn root_containerd_pauses_and_measures() {
    needs!(Root, Busybox, Containerd, Shim, Freezer, Groups);
    let containerd = containerd("containerd-pause");
    let mut events = containerd.events();
    containerd.shell(&["-d"], "stays", STAYS).success();
    containerd.call(&["tasks", "pause", "stays"]).success();
    assert_eq!(containerd.task("stays").expect("it is listed").0, "PAUSED");
    let refused = containerd.call(&["tasks", "exec", "--exec-id", "e1", "stays", "/bin/true"]);
    assert_ne!(refused.code, 0, "nothing is executed in a paused container: {refused}");
    containerd.call(&["tasks", "resume", "stays"]).success();
    assert_eq!(containerd.task("stays").expect("it is listed").0, "RUNNING");
    let topics = events.until("resumed");
    assert_eq!(topics, ["create", "start", "paused", "resumed"]);

    let metrics = containerd.call(&["tasks", "metrics", "--format", "json", "stays"]);
    let told: Value = serde_json::from_str(&metrics.success().stdout).expect("metrics are JSON");
    let usage = &told["memory"]["usage"];
    let (pids, memory) =
        (&told["pids"]["current"], if tests::Groups::unified_only() { usage } else { &usage["usage"] });
    assert!(pids.as_u64() >= Some(1) && memory.as_u64() > Some(0), "{told}");
    let refused = containerd.call(&["tasks", "checkpoint", "stays"]);
    if !Shim::under_test().is_stock() {
        assert_ne!(refused.code, 0, "{refused}");
        assert!(
            refused.stderr.contains("not implemented") || refused.stderr.contains("not supported"),
            "{refused}"
        );
    }
    end(&containerd, "stays");
}

#[test]
fn root_containerd_tells_who_ran_out_of_memory() {
    needs!(Root, Busybox, Containerd, Shim, Groups);
    let containerd = containerd("containerd-oom");
    let mut events = containerd.events();
    // The shell's variable grows until the kernel ends it.
    let grows = "x=0123456789abcdef; while :; do x=$x$x; done";
    let run = containerd.shell(&["--rm", "--memory-limit", "16777216"], "eats", grows);
    assert_eq!(run.code, 137, "{run}");
    let topics = events.until("delete");
    assert_eq!(topics[..2], ["create", "start"]);
    assert!(topics.contains(&"oom".to_owned()), "{topics:?}");
    assert!(topics.contains(&"exit".to_owned()), "{topics:?}");
}

#[test]
fn root_containerd_groups_ten_in_one_shim() {
    needs!(Root, Busybox, Containerd, Shim);
    let containerd = containerd("containerd-group");
    let ids: Vec<String> = (0..10).map(|number| format!("pod{number}")).collect();
    for id in &ids {
        let group = ["-d", "--annotation", "io.containerd.runc.v2.group=g"];
        containerd.shell(&group, id, STAYS).success();
    }
    assert_eq!(containerd.shims().len(), 1, "ten containers of a group have one shim");
    for id in &ids[1..] {
        end(&containerd, id);
        assert_eq!(containerd.shims().len(), 1, "it serves those that are left");
    }
    end(&containerd, &ids[0]);
    containerd.assert_nothing_left();
}

#[test]
fn root_containerd_runs_a_hundred_at_once() {
    needs!(Root, Busybox, Containerd, Shim);
    let containerd = containerd("containerd-hundred");
    thread::scope(|scope| {
        for worker in 0..10 {
            let containerd = &containerd;
            scope.spawn(move || {
                let ids: Vec<String> = (0..10).map(|number| format!("w{worker}n{number}")).collect();
                let runs: Vec<_> = ids
                    .iter()
                    .map(|id| {
                        containerd.running(&["--rm"], id, "echo here; exit 9").within(LIMIT * 6).spawn()
                    })
                    .collect();
                for run in runs {
                    assert_eq!(run.wait().code(9).stdout, "here\n");
                }
            });
        }
    });
    containerd.assert_nothing_left();
}

#[test]
fn root_containerd_attaches_again() {
    needs!(Root, Busybox, Containerd, Shim);
    let containerd = containerd("containerd-attach");
    let line = "while read -r word && [ \"$word\" != end ]; do echo \"got $word\"; done; exit 8";
    let (mut screen, slave) = Screen::open(24, 80);
    let run = containerd.seat(containerd.running(&["-t"], "talks", line), &slave);
    screen.types("one\n");
    screen.shows("got one");
    // The client goes away as a client does whose connection broke.
    run.signal(Signal::KILL);
    run.wait();
    drop((screen, slave));
    assert_eq!(containerd.task("talks").expect("it is listed").0, "RUNNING");
    let (mut screen, slave) = Screen::open(24, 80);
    let attached = containerd.seat(containerd.ctr(&["tasks", "attach", "talks"]), &slave);
    screen.types("two\n");
    screen.shows("got two");
    // What a session's leader says last may be lost with its terminal, by the kernel: it says nothing more.
    screen.types("end\n");
    assert_eq!(attached.wait().code, 8);
    // ctr removes what it was attached to.
    containerd.call(&["containers", "delete", "talks"]).success();
}

#[test]
fn root_containerd_cleans_up_after_a_killed_shim() {
    needs!(Root, Busybox, Containerd, Shim);
    let containerd = containerd("containerd-crash");
    let mut events = containerd.events();
    containerd.shell(&["-d"], "stays", STAYS).success();
    let (_, pid) = containerd.task("stays").expect("it is listed");
    let [shim] = containerd.shims()[..] else { panic!("one shim: {:?}", containerd.shims()) };
    signal(shim, Signal::KILL);
    // init goes with it: the action `delete` sees to that.
    assert!(gone_within(pid, LIMIT), "a container does not outlive its shim's cleaning");
    let mut told = Vec::new();
    let status = loop {
        let (topic, event) = events.one();
        told.push(topic.clone());
        if topic == "exit" {
            break event["exit_status"].as_u64();
        }
    };
    assert_eq!(status, Some(137), "{told:?}");
    assert_eq!(events.until("delete"), ["delete"]);
    containerd.call(&["containers", "delete", "stays"]).success();
    // The client's, and the client has gone.
    fs::remove_dir_all(containerd.apart().path("/run/containerd/fifo")).expect("ctr made FIFOs");
    if Shim::under_test().is_stock() {
        fs::remove_dir_all(containerd.apart().path("/run/containerd/s")).expect("it leaves its socket");
    }
    containerd.assert_nothing_left();
}

/// containerd goes and comes back: one task stays, one ends meanwhile, one is in the middle of a stream.
fn restarted(age: Age, name: &str, by: Signal) {
    let mut containerd = Containerd::with(age, &Shim::under_test(), name);
    let file = containerd.dir().join("stream");
    let uri = format!("file://{}", file.display());
    containerd.shell(&["-d"], "stays", STAYS).success();
    containerd.shell(&["-d"], "ends", "while [ ! -e /end ]; do sleep 0.05; done; exit 11").success();
    let counts = "n=0; while [ ! -e /end ]; do n=$((n+1)); echo $n; sleep 0.02; done; echo last $n";
    containerd.shell(&["-d", "--log-uri", &uri], "counts", counts).success();
    let pid = |id: &str| containerd.task(id).expect("it is listed").1;
    let (stays, ends, counts) = (pid("stays"), pid("ends"), pid("counts"));
    containerd.stop(by);
    fs::write(format!("/proc/{ends}/root/end"), "").expect("tell it to end");
    assert!(gone_within(ends, LIMIT), "it ends while there is no containerd");
    containerd.start();
    assert_eq!(containerd.task("stays").expect("it is listed"), ("RUNNING".into(), stays));
    let inside = containerd.call(&["tasks", "exec", "--exec-id", "e1", "stays", "/bin/echo", "in"]);
    assert_eq!(lines(&inside), ["in"]);
    if let Some((status, _)) = containerd.task("ends") {
        assert_eq!(status, "STOPPED");
        deleted(&containerd, "ends", 11);
    }
    containerd.call(&["containers", "delete", "ends"]).success();
    fs::write(format!("/proc/{counts}/root/end"), "").expect("tell it to end");
    assert!(gone_within(counts, LIMIT), "it ends");
    deleted(&containerd, "counts", 0);
    containerd.call(&["containers", "delete", "counts"]).success();
    let told = fs::read_to_string(&file).expect("the shim wrote it");
    let told: Vec<&str> = told.lines().collect();
    let wanted: Vec<String> = (1..told.len()).map(|number| number.to_string()).collect();
    assert_eq!(told[..told.len() - 1], wanted, "no line is lost");
    assert_eq!(told[told.len() - 1], format!("last {}", wanted.len()));
    end(&containerd, "stays");
    // Those of a task that containerd itself removed when it came back: its client made them, and has gone.
    fs::remove_dir_all(containerd.apart().path("/run/containerd/fifo")).expect("ctr made FIFOs");
    containerd.assert_nothing_left();
}

#[test]
fn root_containerd_16_restarts() {
    needs!(Root, Busybox, Containerd, Shim);
    restarted(Age::Bookworm, "containerd-restart16", Signal::TERM);
}

#[test]
fn root_containerd_16_killed_comes_back() {
    needs!(Root, Busybox, Containerd, Shim);
    restarted(Age::Bookworm, "containerd-kill16", Signal::KILL);
}

#[test]
fn root_containerd_17_killed_comes_back() {
    needs!(Root, Busybox, Containerd17, Shim);
    restarted(Age::Trixie, "containerd-kill17", Signal::KILL);
}

#[test]
fn root_containerd_newest_killed_comes_back() {
    needs!(Root, Busybox, ContainerdNewest, Shim);
    restarted(Age::Sid, "containerd-kill2", Signal::KILL);
}

/// A whole distribution in place of a busybox.
#[test]
fn root_containerd_runs_debian() {
    needs!(Root, Busybox, Containerd, Shim, Debian);
    let containerd = containerd("containerd-debian");
    containerd.import_rootfs(&debian::rootfs());
    let words =
        ["run", "--rm", "--runtime", &Shim::under_test().runtime(), "docker.io/library/more:latest", "deb"];
    let line = "import os; print(os.getpid(), open('/etc/debian_version').read().split('.')[0])";
    let told = containerd.call(&[&words[..], &["/usr/bin/python3", "-c", line]].concat());
    assert_eq!(lines(&told), ["1 12"]);
    assert!(containerd.call(&["images", "ls", "-q"]).stdout.contains(IMAGE));
}
