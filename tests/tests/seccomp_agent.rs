//! The agent of `SCMP_ACT_NOTIFY`: who is told what, what it can answer, and what happens where it does not.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;
use serde_json::{Value, json};
use tests::{
    Agent, Answer, Bundle, Conduct, Container, Home, LIMIT, Output, Runtime, Snapshot, channel, needs,
    ready_within, until,
};

const MAKE: [&str; 2] = ["mkdir", "mkdirat"];

/// ENOMEDIUM: nobody else says so of a directory.
const NO_MEDIUM: i32 = 123;
const SAYS_NO: &str = "mkdir: can't create directory '/dev/made': No medium found\n";
const SAYS_NOTHING: &str = "mkdir: can't create directory '/dev/made': Function not implemented\n";

fn refuses(call: &str) -> Answer {
    if call.starts_with("mkdir") { Answer::Fail(NO_MEDIUM) } else { Answer::Continue }
}

/// Has an agent in the bundle's directory asked about these calls.
fn asked(bundle: Bundle, locked: bool, names: &[&str]) -> Bundle {
    let path = bundle.dir().join("agent");
    bundle.edit(|config| ask(config, path.to_str().expect("ASCII"), locked, names))
}

fn ask(config: &mut Value, path: &str, locked: bool, names: &[&str]) {
    config["process"]["noNewPrivileges"] = json!(locked);
    config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": path,
        "listenerMetadata": "for the agent",
        "syscalls": [{"names": names, "action": "SCMP_ACT_NOTIFY"}],
    });
}

/// What the program has open, and what it is told of a directory that it makes.
const TRIES: &str = "ls /proc/self/fd | wc -l; mkdir /dev/made 2>&1";

fn tried(output: &Output) {
    assert_eq!(output.stdout, format!("4\n{SAYS_NO}"), "{output}");
}

fn exec(container: &Container<'_>, line: &str) -> Output {
    container.call(&["exec", "ID", "/bin/sh", "-c", line])
}

#[test]
fn root_an_agent_answers_for_the_program() {
    needs!(Root, Busybox);
    let runtimes = [Some(Runtime::under_test()), Runtime::find("runc")];
    for runtime in runtimes.iter().flatten() {
        for locked in [false, true] {
            let bundle = asked(Bundle::new("agent-run").shell(TRIES), locked, &MAKE);
            let before = Snapshot::take(&bundle);
            let agent = Agent::new(&bundle, Conduct::Answers(refuses));
            let output = bundle.container(runtime).run();
            output.code(1);
            tried(&output);
            assert_eq!(agent.heard().calls.len(), 1, "{:?}", agent.heard());
            drop(agent);
            before.assert_same();
        }
    }
}

/// What the agent is told, in the words of the specification and as runc has them.
#[test]
fn root_an_agent_is_told_of_the_container() {
    needs!(Root, Busybox);
    let runtimes = [Some(Runtime::under_test()), Runtime::find("runc")];
    for runtime in runtimes.iter().flatten() {
        for locked in [false, true] {
            let bundle = asked(Bundle::new("agent-state").args(&["/bin/sleep", "1000"]), locked, &MAKE);
            let bundle = bundle.edit(|config| config["annotations"] = json!({"who": "asks"}));
            let before = Snapshot::take(&bundle);
            let agent = Agent::new(&bundle, Conduct::Answers(refuses));
            let container = bundle.container(runtime);
            container.create().success();
            let init = container.pid().expect("it waits");
            // It is reached by create, and need not have listened yet.
            until(|| agent.heard().states.len() == 1, || "a word of the agent's");
            container.start().success();
            let file = bundle.dir().join("pid");
            let file = file.to_str().expect("ASCII");
            let joins = ["exec", "--pid-file", file, "ID", "/bin/sh", "-c", TRIES];
            tried(&container.call(&joins));
            let joined: i32 = fs::read_to_string(file).expect("a number").parse().expect("a number");
            fs::remove_file(file).expect("it was ours");
            let mut heard = agent.heard();
            for state in &mut heard.states {
                // Each runtime has the version that it has.
                assert!(
                    state["ociVersion"].is_string() && state["ociVersion"] == state["state"]["ociVersion"]
                );
                state.as_object_mut().expect("an object").remove("ociVersion");
                state["state"].as_object_mut().expect("an object").remove("ociVersion");
            }
            let told = |pid: i32, status: &str| {
                json!({
                    "fds": ["seccompFd"], "pid": pid, "metadata": "for the agent",
                    "state": {
                        "id": bundle.id(), "status": status, "pid": init, "bundle": bundle.dir(),
                        "annotations": {"who": "asks"},
                    },
                })
            };
            let program = runtime.program().display();
            assert_eq!(heard.states, [told(init, "creating"), told(joined, "running")], "{program}");
            container.delete_force().success();
            drop(agent);
            before.assert_same();
        }
    }
}

/// An agent that lets every call pass is asked about all of them, ours on the way to the program among them: everything
/// that Docker's profile names, but write(2), of which runc and we say that it cannot be asked about.
#[test]
fn root_an_agent_may_be_asked_about_everything() {
    needs!(Root, Busybox);
    let published = include_str!("../../crates/plan/tests/plans/docker-seccomp.json");
    let published: Value = serde_json::from_str(published).expect("a document");
    let rules = published["linux"]["seccomp"]["syscalls"].as_array().expect("rules").iter();
    let all = rules.flat_map(|rule| rule["names"].as_array().expect("names"));
    let all: Vec<&str> =
        all.map(|name| name.as_str().expect("a name")).filter(|name| *name != "write").collect();
    let bundles = ["execve", "openat", "open", "read", "close"];
    // What a rootless network that is made of answers asks about: bypass4netns.
    let network = ["bind", "close", "connect", "sendmsg", "sendto", "setsockopt", "getpeername"];
    for names in [&bundles[..], &network, &all] {
        for locked in [false, true] {
            let bundle = asked(Bundle::new("agent-all").shell(TRIES), locked, &[&MAKE[..], names].concat());
            let before = Snapshot::take(&bundle);
            let mut agent = Agent::new(&bundle, Conduct::Answers(refuses));
            tried(&bundle.container(&Runtime::under_test()).run());
            let calls = agent.heard().calls;
            assert!(names.len() < 8 || calls.len() > 50, "{calls:?}");

            let bundle = bundle.args(&["/bin/sleep", "1000"]);
            let container = bundle.container(&Runtime::under_test());
            container.create().success();
            container.start().success();
            tried(&exec(&container, TRIES));
            container.delete_force().success();
            agent.die();
            before.assert_same();
        }
    }
}

fn pipe(bundle: &Bundle) -> fs::File {
    let path = bundle.rootfs().join("pipe");
    mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o666), 0).expect("make a pipe");
    fs::File::options().read(true).write(true).open(&path).expect("open the pipe")
}

#[test]
fn root_an_agent_that_is_not_there_is_one_error() {
    needs!(Root, Busybox);
    for locked in [false, true] {
        let bundle = asked(Bundle::new("agent-none").args(&["/bin/sleep", "1000"]), locked, &MAKE);
        let path = bundle.dir().join("agent").display().to_string();
        let before = Snapshot::take(&bundle);
        let container = bundle.container(&Runtime::under_test());
        let why = |what: &str, reason: &str| {
            format!(
                "cofferdam: {what} {}: linux.seccomp.listenerPath: connect the seccomp agent {path}: \
                 connect(\"{path}\"): {reason}\n",
                container.id()
            )
        };
        for verb in ["create", "run"] {
            let pid = bundle.dir().join("pid").display().to_string();
            let output = container.call(&[verb, "--pid-file", &pid, "--bundle", "BUNDLE", "ID"]);
            assert_eq!(output.code(1).stderr, why(verb, "no such file or directory (os error 2)"));
            before.assert_same();
            assert!(!bundle.dir().join("pid").exists() && container.state().is_none());
        }
        // A listener that has gone leaves its name behind.
        drop(UnixListener::bind(&path).expect("listen"));
        let output = container.run();
        assert_eq!(output.code(1).stderr, why("run", "connection refused (os error 111)"));
        fs::remove_file(&path).expect("it was ours");

        let agent = Agent::new(&bundle, Conduct::Answers(refuses));
        container.create().success();
        container.start().success();
        drop(agent);
        let alive = Snapshot::take(&bundle);
        let output = exec(&container, "echo joined");
        assert_eq!(output.code(255).stderr, why("exec", "no such file or directory (os error 2)"));
        alive.assert_same();
        assert_eq!(container.status().as_deref(), Some("running"));
        container.delete_force().success();
        before.assert_same();
    }
}

/// Whoever is asked and is no more, has said no: nobody waits for ever.
#[test]
fn root_calls_fail_once_the_agent_is_gone() {
    needs!(Root, Busybox);
    for locked in [false, true] {
        let line = "echo runs; cat /pipe; mkdir /dev/made 2>&1";
        let bundle = asked(Bundle::new("agent-dies").shell(line), locked, &MAKE);
        let before = Snapshot::take(&bundle);
        let mut agent = Agent::new(&bundle, Conduct::Answers(refuses));
        let mut pipe = Some(pipe(&bundle));
        let (mut lines, stdout) = channel();
        let container = bundle.container(&Runtime::under_test());
        let run = container.command(&["run", "--bundle", "BUNDLE", "ID"]).stdout(stdout).spawn();
        assert_eq!(lines.next_within(LIMIT).as_deref(), Some("runs"));
        // One line for cat, and its end.
        pipe.as_mut().expect("it is open").write_all(b"again\n").expect("write");
        assert_eq!(lines.next_within(LIMIT).as_deref(), Some("again"));
        agent.die();
        pipe.take();
        assert_eq!(lines.next_within(LIMIT).map(|line| line + "\n").as_deref(), Some(SAYS_NOTHING));
        run.wait().code(1);
        fs::remove_file(bundle.rootfs().join("pipe")).expect("it was ours");
        before.assert_same();
    }
}

/// The same where a call is waiting for its answer while the agent ends.
#[test]
fn root_a_call_that_waits_fails_once_the_agent_is_gone() {
    needs!(Root, Busybox);
    for flags in [json!([]), json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", "SECCOMP_FILTER_FLAG_TSYNC"])] {
        let bundle = asked(Bundle::new("agent-waits").shell("mkdir /dev/made 2>&1"), true, &MAKE);
        let bundle = bundle.edit(|config| config["linux"]["seccomp"]["flags"] = flags);
        let before = Snapshot::take(&bundle);
        let mut agent = Agent::new(&bundle, Conduct::Answers(|_| Answer::Never));
        let container = bundle.container(&Runtime::under_test());
        let run = container.command(&["run", "--bundle", "BUNDLE", "ID"]).spawn();
        until(|| !agent.heard().calls.is_empty(), || "a word of the agent's");
        agent.die();
        assert_eq!(run.wait().stdout, SAYS_NOTHING);
        before.assert_same();
    }
}

/// One that closes what it was handed, before our child has let go of its own copy. The calls that it would be asked about
/// meanwhile are those by which that is done.
#[test]
fn root_an_agent_that_forgets_stops_nobody() {
    needs!(Root, Busybox);
    for names in [&MAKE[..], &["close"], &["sendmsg", "close"]] {
        for locked in [false, true] {
            let names = [names, &["mkdir"]].concat();
            let bundle = asked(Bundle::new("agent-forgets").shell("mkdir /dev/made 2>&1"), locked, &names);
            let before = Snapshot::take(&bundle);
            let agent = Agent::new(&bundle, Conduct::Forgets);
            let output = bundle.container(&Runtime::under_test()).run();
            assert!(output.stdout.ends_with(SAYS_NOTHING), "{names:?}: {output}");
            drop(agent);
            before.assert_same();
        }
    }
    // Where there is no call left to let go by, our child waits as long as nobody ends us.
    let bundle = asked(Bundle::new("agent-stuck"), true, &["close", "dup3"]);
    let before = Snapshot::take(&bundle);
    let agent = Agent::new(&bundle, Conduct::Forgets);
    let run = bundle.container(&Runtime::under_test()).command(&["run", "--bundle", "BUNDLE", "ID"]).spawn();
    until(|| !agent.heard().states.is_empty(), || "a word of the agent's");
    run.signal(Signal::TERM);
    assert!(run.wait().code(1).stderr.contains("ended by signal 15"));
    drop(agent);
    before.assert_same();
    // Our child waits for its parent by read(2): it cannot, and says so, before its parent lets it go on or after.
    let bundle = asked(Bundle::new("agent-unread"), true, &["read"]);
    let before = Snapshot::take(&bundle);
    let agent = Agent::new(&bundle, Conduct::Forgets);
    let output = bundle.container(&Runtime::under_test()).run();
    let why =
        "hand over the listener of the seccomp filter: read(report): function not implemented (os error 38)";
    assert!(output.code(1).stderr.contains(why), "{output}");
    drop(agent);
    before.assert_same();
}

/// One that hangs up before it was told anything: either it is noticed, or nobody answers later.
#[test]
fn root_an_agent_that_hangs_up_leaves_nothing() {
    needs!(Root, Busybox);
    let bundle = asked(Bundle::new("agent-hangs-up").shell("mkdir /dev/made 2>&1"), false, &MAKE);
    let before = Snapshot::take(&bundle);
    let agent = Agent::new(&bundle, Conduct::HangsUp);
    for _ in 0..10 {
        let output = bundle.container(&Runtime::under_test()).run();
        let told = "linux.seccomp.listenerPath: hand the listener to the seccomp agent";
        assert!(output.stdout == SAYS_NOTHING || output.stderr.contains(told), "{output}");
        output.code(1);
        assert!(bundle.container(&Runtime::under_test()).state().is_none());
    }
    drop(agent);
    before.assert_same();
}

/// One that listens and takes no call is no agent any more, after a while.
#[test]
fn root_an_agent_that_takes_no_call_is_given_up() {
    needs!(Root, Busybox);
    let bundle = asked(Bundle::new("agent-deaf"), true, &MAKE);
    let before = Snapshot::take(&bundle);
    let path = bundle.dir().join("agent");
    let queue = Queue::full(&path);
    let output = bundle.container(&Runtime::under_test()).run();
    let why = format!(
        "linux.seccomp.listenerPath: connect the seccomp agent {0}: nobody took it within 10 s: connect(\"{0}\"): ",
        path.display()
    );
    assert!(output.code(1).stderr.contains(&why), "{output}");
    drop(queue);
    before.assert_same();
}

/// A socket whose queue of callers has no more room.
struct Queue {
    path: PathBuf,
    _fds: Vec<std::os::fd::OwnedFd>,
}

impl Queue {
    fn full(path: &std::path::Path) -> Self {
        use rustix::net::{
            AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = || socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).expect("a socket");
        let address = SocketAddrUnix::new(path).expect("an address");
        let mut fds = vec![socket()];
        bind(&fds[0], &address).expect("bind");
        listen(&fds[0], 0).expect("listen");
        loop {
            let caller = socket();
            let is_full = connect(&caller, &address).is_err();
            fds.push(caller);
            if is_full {
                return Self { path: path.to_owned(), _fds: fds };
            }
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        fs::remove_file(&self.path).expect("remove the socket");
    }
}

fn hesitates(call: &str) -> Answer {
    if call == "capset" { Answer::Never } else { Answer::Continue }
}

/// Where our own calls are the agent's to answer, and it does not, whoever is tired of waiting may end us.
#[test]
fn root_whoever_waits_for_an_agent_can_be_ended() {
    needs!(Root, Busybox);
    let bundle = asked(Bundle::new("agent-slow").args(&["/bin/sleep", "1000"]), false, &["capset"]);
    let before = Snapshot::take(&bundle);
    let mut agent = Agent::new(&bundle, Conduct::Answers(hesitates));
    let container = bundle.container(&Runtime::under_test());
    let create = container.command(&["create", "--bundle", "BUNDLE", "ID"]).spawn();
    until(|| !agent.heard().calls.is_empty(), || "a word of the agent's");
    assert!(!ready_within(&create, Duration::ZERO), "{}", create.complaint());
    create.signal(Signal::TERM);
    assert!(create.wait().code(1).stderr.contains("ended by signal 15"));
    assert!(container.state().is_none());
    agent.die();
    before.assert_same();

    let mut agent = Agent::new(&bundle, Conduct::Answers(|_| Answer::Continue));
    container.create().success();
    container.start().success();
    agent.die();
    let mut agent = Agent::new(&bundle, Conduct::Answers(hesitates));
    let alive = Snapshot::take(&bundle);
    let exec = container.command(&["exec", "ID", "/bin/true"]).spawn();
    until(|| !agent.heard().calls.is_empty(), || "a word of the agent's");
    assert!(!ready_within(&exec, Duration::ZERO), "{}", exec.complaint());
    exec.signal(Signal::TERM);
    assert!(exec.wait().code(255).stderr.contains("ended by signal 15"));
    alive.assert_same();
    agent.die();
    container.delete_force().success();
    before.assert_same();
}

/// Hooks inside are asked about as the program is, and are left no descriptor of ours; those outside are nobody's matter.
#[test]
fn root_hooks_inside_are_asked_about_too() {
    needs!(Root, Busybox);
    for locked in [false, true] {
        let bundle = Bundle::new("agent-hooks").shell("mkdir /dev/made 2>&1");
        let said = bundle.dir().join("said").display().to_string();
        let outside = format!("mkdir {said} && echo made > {said}/poststart");
        let bundle = asked(bundle, locked, &MAKE).edit(|config| {
            let inside = "test $(ls /proc/self/fd | wc -l) = 4 && ! mkdir /dev/made 2> /dev/said && \
                          grep -q 'No medium found' /dev/said";
            config["hooks"] = json!({
                "startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", inside]}],
                "poststart": [{"path": "/bin/sh", "args": ["sh", "-c", outside]}],
            });
        });
        let before = Snapshot::take(&bundle);
        let agent = Agent::new(&bundle, Conduct::Answers(refuses));
        let output = bundle.container(&Runtime::under_test()).run();
        assert_eq!(output.code(1).stdout, SAYS_NO, "{output}");
        assert_eq!(agent.heard().calls.len(), 2, "{:?}", agent.heard());
        drop(agent);
        fs::remove_dir_all(&said).expect("the hook has made it");
        before.assert_same();
    }
}

/// In a user namespace the listener comes over the line, which asks for no right over the process; by number it takes one
/// that root has at birth.
#[test]
fn root_an_agent_answers_in_a_user_namespace() {
    needs!(Root, Busybox);
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 1000}]);
    for names in [&MAKE[..], &["mkdir", "mkdirat", "sendmsg"]] {
        for (locked, uid) in [(false, 0), (true, 0), (true, 7)] {
            let bundle = asked(Bundle::new("agent-users").shell(TRIES), locked, names).given_to(100_000);
            let bundle = bundle.namespace("user").edit(|config| {
                config["linux"]["uidMappings"] = map.clone();
                config["linux"]["gidMappings"] = map.clone();
                config["process"]["user"] = json!({"uid": uid, "gid": uid});
            });
            let before = Snapshot::take(&bundle);
            let agent = Agent::new(&bundle, Conduct::Answers(refuses));
            tried(&bundle.container(&Runtime::under_test()).run());
            let bundle = bundle.args(&["/bin/sleep", "1000"]);
            let container = bundle.container(&Runtime::under_test());
            container.create().success();
            container.start().success();
            let joined = exec(&container, TRIES);
            if names.len() == 2 {
                tried(&joined);
            } else {
                // We have joined the namespace, and have no right any more over who was born with us outside.
                let why = "pidfd_getfd";
                assert!(joined.code(255).stderr.contains(why), "{joined}");
            }
            container.delete_force().success();
            drop(agent);
            before.assert_same();
        }
    }
}

#[test]
fn root_an_ordinary_user_has_agents_too() {
    needs!(Root, Busybox);
    for names in [&MAKE[..], &["mkdir", "mkdirat", "sendmsg"]] {
        for locked in [false, true] {
            let home = Home::new("agent-home").shell(TRIES);
            let path = home.bundle.dir().join("agent").display().to_string();
            let home = home.edit(|config| ask(config, &path, locked, names));
            let before = Snapshot::take(&home.bundle);
            let agent = Agent::new(&home.bundle, Conduct::Answers(refuses));
            tried(&home.run());
            drop(agent);
            before.assert_same();
        }
    }
}

/// As with runc, `@` begins a name that no file has; a relative path is one in the bundle, for `exec` as well.
#[test]
fn root_an_agent_is_found_by_other_names() {
    needs!(Root, Busybox);
    let bundle = asked(Bundle::new("agent-names").args(&["/bin/sleep", "1000"]), true, &MAKE);
    let before = Snapshot::take(&bundle);
    let name = format!("{}-agent", bundle.id());
    for path in [format!("@{name}"), "agent".to_owned()] {
        let is_name = path.starts_with('@');
        let mut config = bundle.config().clone();
        config["linux"]["seccomp"]["listenerPath"] = json!(path);
        fs::write(bundle.dir().join("config.json"), config.to_string()).expect("it is ours");
        let conduct = Conduct::Answers(refuses);
        let agent = if is_name { Agent::without_file(&name, conduct) } else { Agent::new(&bundle, conduct) };
        let container = bundle.container(&Runtime::under_test());
        container.create().success();
        container.start().success();
        let elsewhere = container.command(&["exec", "ID", "/bin/sh", "-c", TRIES]);
        tried(&elsewhere.dir(&std::env::temp_dir()).run());
        container.delete_force().success();
        drop(agent);
    }
    before.assert_same();
}
