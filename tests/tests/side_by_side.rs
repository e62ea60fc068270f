//! Debian's runc and the runtime under test, side by side: each command, in each state that a container can be in.
//!
//! Compared are exit code, standard output, standard error, a file where one is written, and the state afterwards.
//! docs/differences.md lists what may differ, and why; a line there that is no longer so fails. With
//! `COFFERDAM_PRINT_DIFFERENCES=1` the test prints the rows to be pasted instead, and passes.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod session;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;
use serde_json::{Value, json};
use session::{SESSIONS, Session};
use tests::differences::{Difference, Table, hunks, lines, normal, tell};
use tests::{
    Bundle, Container, LIMIT, Lines, Output, Runtime, Snapshot, channel, figure, gone_within, needs,
};

const WORKERS: usize = 2;

/// How long a process may take to die of a signal that kills it. A frozen one may not die at all.
const DYING: Duration = Duration::from_secs(2);

/// How long a command may take before it is said to hang; none waits for anything but its own work.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a container is when the command meets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Never made.
    None,
    Created,
    Running,
    Paused,
    /// Its process has exited.
    Stopped,
    /// An empty state directory: the runtime was cut off at the very beginning.
    Empty,
    /// A state directory in which each file is half as long as it was.
    Truncated,
    /// Running, but the `run` in the foreground that made it was killed.
    Killed,
    /// Half created: a hook killed the runtime.
    Hooked,
}

impl State {
    const ALL: [Self; 9] = [
        Self::None,
        Self::Created,
        Self::Running,
        Self::Paused,
        Self::Stopped,
        Self::Empty,
        Self::Truncated,
        Self::Killed,
        Self::Hooked,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Empty => "empty",
            Self::Truncated => "truncated",
            Self::Killed => "killed",
            Self::Hooked => "hooked",
        }
    }
}

/// Where a command is tried.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    /// In every state.
    Everywhere,
    /// Without a container: what it says depends on no state.
    Alone,
    /// In a container that runs: what it says depends on what the process does there.
    Inside,
}
use Where::{Alone, Everywhere, Inside};

/// The commands as typed. `ID` and `BUNDLE` are put in; words before the command are global flags.
const COMMANDS: &[(Where, &[&str])] = &[
    // The ways of life.
    (Everywhere, &["create", "--bundle", "BUNDLE", "ID"]),
    (Everywhere, &["run", "--detach", "--bundle", "BUNDLE", "ID"]),
    (Everywhere, &["start", "ID"]),
    (Everywhere, &["state", "ID"]),
    (Everywhere, &["list"]),
    (Everywhere, &["list", "--quiet"]),
    (Everywhere, &["list", "--format", "json"]),
    (Everywhere, &["ps", "ID"]),
    (Everywhere, &["ps", "--format", "json", "ID"]),
    (Everywhere, &["ps", "ID", "-o", "pid,comm"]),
    (Everywhere, &["kill", "ID"]),
    (Everywhere, &["kill", "ID", "KILL"]),
    (Everywhere, &["kill", "ID", "9"]),
    (Everywhere, &["kill", "ID", "SIGUSR1"]),
    (Everywhere, &["kill", "ID", "0"]),
    (Everywhere, &["kill", "--all", "ID", "KILL"]),
    (Everywhere, &["pause", "ID"]),
    (Everywhere, &["resume", "ID"]),
    (Everywhere, &["update", "--pids-limit", "50", "ID"]),
    (Everywhere, &["events", "--stats", "ID"]),
    (Everywhere, &["delete", "ID"]),
    (Everywhere, &["delete", "--force", "ID"]),
    (Everywhere, &["--log-format", "json", "start", "ID"]),
    // Wrong words, which are refused before anybody looks at a container.
    (Everywhere, &["kill", "ID", "NOSUCH"]),
    (Alone, &["kill", "ID", "--all", "-9"]),
    (Alone, &["kill", "ID", "99"]),
    (Alone, &["kill", "ID", "-1"]),
    (Alone, &["kill", "ID", "KILL", "more"]),
    (Alone, &["update"]),
    (Alone, &["update", "--memory", "x", "ID"]),
    (Alone, &["update", "--cpu-share", "x", "ID"]),
    (Alone, &["update", "--pids-limit", "x", "ID"]),
    (Alone, &["events"]),
    (Alone, &["events", "--interval", "0s", "ID"]),
    (Alone, &["events", "--interval", "x", "ID"]),
    (Alone, &["create"]),
    (Alone, &["create", "ID", "more"]),
    (Alone, &["create", "--no-such-flag", "ID"]),
    (Alone, &["create", "--bundle", "/nonexistent", "ID"]),
    (Alone, &["create", "--bundle", "BUNDLE", "ID/slash"]),
    (Alone, &["create", "--bundle", "BUNDLE", "ID with space"]),
    (Alone, &["create", "--bundle", "BUNDLE", ""]),
    (Alone, &["create", "--bundle", "BUNDLE", ".."]),
    (Alone, &["create", "--bundle", "BUNDLE", "--console-socket", "/nonexistent", "ID"]),
    (Alone, &["run", "--bundle", "BUNDLE", "--console-socket", "/nonexistent", "ID"]),
    (Alone, &["run", "--detach", "--bundle", "BUNDLE", "--console-socket", "/nonexistent", "ID"]),
    (Alone, &["create", "--bundle", "TERMINAL", "ID"]),
    (Alone, &["create", "--bundle", "TERMINAL", "--console-socket", "/nonexistent/socket", "ID"]),
    (Alone, &["create", "--bundle", "TERMINAL", "--console-socket", "TERMINAL/config.json", "ID"]),
    (Alone, &["run", "--detach", "--bundle", "TERMINAL", "ID"]),
    (Alone, &["run", "--bundle", "TERMINAL", "--console-socket", "/nonexistent", "ID"]),
    (Everywhere, &["exec", "--tty", "--detach", "ID", "true"]),
    (Alone, &["create", "--bundle", "BUNDLE", "--pid-file", "/nonexistent/pid", "ID"]),
    (Alone, &["create", "--bundle", "BUNDLE", "--preserve-fds", "x", "ID"]),
    (Alone, &["create", "--bundle", "BUNDLE", "--preserve-fds", "5", "ID"]),
    (Alone, &["run"]),
    (Alone, &["run", "ID", "more"]),
    (Alone, &["run", "--no-such-flag", "ID"]),
    (Alone, &["run", "--detach", "ID", "--bundle", "BUNDLE"]),
    (Alone, &["run", "--bundle", "/nonexistent", "--bundle", "BUNDLE", "--detach", "ID"]),
    (Alone, &["create", "-b", "/nonexistent", "--bundle", "BUNDLE", "ID"]),
    (Alone, &["create", "--bundle", "BUNDLE", ".ID"]),
    (Alone, &["start"]),
    (Alone, &["start", "ID", "more"]),
    (Alone, &["start", "--no-such-flag", "ID"]),
    (Alone, &["state"]),
    (Alone, &["state", "ID", "more"]),
    (Alone, &["state", "--no-such-flag", "ID"]),
    (Alone, &["state", "--no-such-flag", "--", "ID"]),
    (Alone, &["list", "more"]),
    (Alone, &["list", "--format", "xml"]),
    (Alone, &["list", "--no-such-flag"]),
    (Alone, &["ps"]),
    (Alone, &["ps", "--format", "xml", "ID"]),
    (Alone, &["kill"]),
    (Alone, &["delete"]),
    (Alone, &["delete", "ID", "more"]),
    (Alone, &["delete", "--no-such-flag", "ID"]),
    (Alone, &["pause"]),
    (Alone, &["pause", "ID", "more"]),
    (Alone, &["resume"]),
    (Alone, &["resume", "ID", "more"]),
    (Alone, &["spec", "more"]),
    (Alone, &["spec", "--bundle", "/nonexistent"]),
    (Alone, &["spec", "--bundle", "BUNDLE"]),
    (Alone, &["features", "more"]),
    (Alone, &["features"]),
    (Alone, &["--version"]),
    (Alone, &["-v"]),
    (Alone, &["--help"]),
    (Alone, &["help"]),
    (Alone, &["create", "--help"]),
    (Alone, &["no-such-command"]),
    (Alone, &["--no-such-flag"]),
    (Alone, &["--log-format", "xml", "state", "ID"]),
    (Alone, &["--log-format", "json", "state"]),
    (Alone, &["--log", "LOG", "state", "ID"]),
    (Alone, &["--log", "LOG", "--log-format", "json", "state", "ID"]),
    (Alone, &["--log", "/nonexistent/log", "state", "ID"]),
    (Alone, &["--root", "", "list"]),
    (Alone, &["--root", "BUNDLE/nowhere", "list"]),
    (Alone, &["--rootless", "perhaps", "list"]),
    // One more process: in each state, then how it ends, then what its flags say.
    (Everywhere, &["exec", "ID", "/bin/echo", "in"]),
    (Everywhere, &["exec", "--detach", "ID", "/bin/true"]),
    (Inside, &["exec", "ID", "/bin/sh", "-c", "exit 3"]),
    (Inside, &["exec", "ID", "/bin/sh", "-c", "kill -KILL $$"]),
    (Inside, &["exec", "ID", "/bin/sh", "-c", "trap 'exit 7' TERM; kill -TERM $$; exit 1"]),
    (Inside, &["exec", "ID", "/bin/sh", "-c", "echo out; echo err >&2; exit 255"]),
    (Inside, &["exec", "ID", "no-such-program"]),
    (Inside, &["exec", "ID", "/no/such/program"]),
    (Inside, &["exec", "ID", "/etc/passwd"]),
    (Inside, &["exec", "ID", "/etc"]),
    (Inside, &["exec", "ID", ""]),
    (Inside, &["exec", "ID"]),
    (Inside, &["exec", "--detach", "ID", "no-such-program"]),
    (Inside, &["exec", "--ignore-paused", "ID", "/bin/echo", "in"]),
    (Inside, &["exec", "--cwd", "/tmp", "ID", "/bin/pwd"]),
    (Inside, &["exec", "--cwd", "tmp", "ID", "/bin/pwd"]),
    (Inside, &["exec", "--cwd", "/no/where", "ID", "/bin/pwd"]),
    (Inside, &["exec", "--env", "A=b", "--env", "A=c", "ID", "/bin/sh", "-c", "echo $A $TERM"]),
    (Inside, &["exec", "--user", "1000:1001", "ID", "/bin/sh", "-c", "id -u; id -G; echo $HOME"]),
    (Inside, &["exec", "--user", "65534", "ID", "/bin/sh", "-c", "id -u; id -G; echo $HOME"]),
    (Inside, &["exec", "--user", "nobody", "ID", "/bin/true"]),
    (Inside, &["exec", "--user", "1x", "ID", "/bin/true"]),
    (Inside, &["exec", "--additional-gids", "5", "-g", "6", "ID", "/bin/sh", "-c", "id -G"]),
    (Inside, &["exec", "--additional-gids", "-1", "ID", "/bin/true"]),
    (Inside, &["exec", "--cap", "CAP_NET_ADMIN", "ID", "/bin/grep", "Cap", "/proc/self/status"]),
    (Inside, &["exec", "--user", "1000", "--cap", "CAP_KILL", "ID", "/bin/grep", "Cap", "/proc/self/status"]),
    (Inside, &["exec", "--cap", "CAP_MOON", "ID", "/bin/true"]),
    (Inside, &["exec", "--no-new-privs", "ID", "/bin/grep", "NoNewPrivs", "/proc/self/status"]),
    (Inside, &["exec", "--preserve-fds", "5", "ID", "/bin/true"]),
    (Inside, &["exec", "--pid-file", "/no/where/pid", "ID", "/bin/true"]),
    (Inside, &["exec", "--process", "/no/where/process.json", "ID"]),
    (Inside, &["exec", "--process", "BUNDLE/config.json", "ID"]),
    (Inside, &["exec", "--cgroup", "/", "ID", "/bin/echo", "in"]),
    (Inside, &["exec", "--cgroup", "..", "ID", "/bin/true"]),
    (Inside, &["exec", "--cgroup", "moon:/", "ID", "/bin/true"]),
    (Inside, &["exec", "--cgroup", "a", "--cgroup", "b", "ID", "/bin/true"]),
    (Alone, &["exec"]),
    (Alone, &["exec", "--no-such-flag", "ID", "/bin/true"]),
];

/// Commands whose container runs something of its own: what the command is called, and what is run.
const PROGRAMS: &[(&str, &[&str])] = &[
    ("run: echo hello", &["/bin/echo", "hello"]),
    ("run: exit 3", &["/bin/sh", "-c", "exit 3"]),
    ("run: killed by TERM", &["/bin/sh", "-c", "trap 'exit 7' TERM; kill -TERM $$; exit 1"]),
    ("run: both outputs", &["/bin/sh", "-c", "echo out; echo err >&2"]),
    ("run: no such program", &["no-such-program"]),
    ("run: no such path", &["/no/such/program"]),
    ("run: not executable", &["/etc/passwd"]),
    ("run: a directory", &["/etc"]),
    ("run: no arguments", &[]),
];

/// The same in a user namespace, with the root file system given to its root.
const MAPPED: &[(&str, &[&str])] = &[
    (
        "run, mapped: who it is",
        &["/bin/sh", "-c", "id; id -G; cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups"],
    ),
    (
        "run, mapped: whose files",
        &["/bin/sh", "-c", "stat -c '%n %u:%g %a %F' / /tmp /proc /sys /dev /dev/*"],
    ),
    (
        "run, mapped: its rights",
        &["/bin/sh", "-c", "grep -E 'Cap|Groups|NoNew|Seccomp' /proc/self/status; umask; ulimit -n"],
    ),
    (
        "run, mapped: its mounts",
        &["/bin/sh", "-c", "cut -d' ' -f 4,5 /proc/self/mountinfo | grep -v cdt | sort -u"],
    ),
    (
        "run, mapped: what it may not",
        &["/bin/sh", "-c", "mknod /tmp/m c 1 3; chown 70000 /tmp; mount -t tmpfs t /tmp; exit 4"],
    ),
    ("run, mapped: no such program", &["no-such-program"]),
];

/// One thing to try.
#[derive(Clone, Copy)]
enum Try {
    Command {
        words: &'static [&'static str],
        state: State,
    },
    Program {
        told: &'static str,
        args: &'static [&'static str],
    },
    /// In a user namespace.
    Mapped {
        told: &'static str,
        args: &'static [&'static str],
    },
    /// Somebody at a terminal.
    Sat(Session),
    /// `spec`, into an empty directory, and what it wrote.
    Spec {
        words: &'static [&'static str],
    },
}

impl Try {
    fn all() -> Vec<Self> {
        let commands = COMMANDS.iter().flat_map(|(place, words)| {
            let states = match place {
                Everywhere => &State::ALL[..],
                Alone => &[State::None],
                Inside => &[State::Running],
            };
            states.iter().map(|state| Self::Command { words, state: *state })
        });
        let programs = PROGRAMS.iter().map(|(told, args)| Self::Program { told, args });
        let mapped = MAPPED.iter().map(|(told, args)| Self::Mapped { told, args });
        let specs = [&["spec"] as &[_], &["spec", "--rootless"]].map(|words| Self::Spec { words });
        let sessions = SESSIONS.iter().map(|session| Self::Sat(*session));
        commands.chain(programs).chain(mapped).chain(sessions).chain(specs).collect()
    }

    fn told(self) -> String {
        match self {
            Self::Command { words, .. } | Self::Spec { words } if words.contains(&"") => words
                .iter()
                .map(|word| if word.is_empty() { "''" } else { word })
                .collect::<Vec<_>>()
                .join(" "),
            Self::Command { words, .. } | Self::Spec { words } => words.join(" "),
            Self::Program { told, .. } | Self::Mapped { told, .. } | Self::Sat(Session { told, .. }) => {
                told.to_owned()
            }
        }
    }

    fn state(self) -> State {
        match self {
            Self::Command { state, .. } => state,
            Self::Program { .. } | Self::Mapped { .. } | Self::Sat(_) | Self::Spec { .. } => State::None,
        }
    }

    /// Tries it with one runtime, and says what was seen; the error is why the container could not be brought there.
    fn with(self, runtime: &Runtime) -> Result<Seen, String> {
        let bundle = Bundle::new("side").may_leave();
        match self {
            Self::Program { args, .. } => {
                let bundle = bundle.args(args);
                let container = bundle.container(runtime);
                let output = Ok(container.run());
                Ok(Seen::of(&output, None, container, &bundle, runtime, None))
            }
            Self::Mapped { args, .. } => {
                let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
                let bundle = bundle.args(args).namespace("user").given_to(100_000).edit(|config| {
                    config["linux"]["uidMappings"] = map.clone();
                    config["linux"]["gidMappings"] = map;
                });
                let container = bundle.container(runtime);
                let output = Ok(container.run());
                Ok(Seen::of(&output, None, container, &bundle, runtime, None))
            }
            Self::Sat(session) => {
                let bundle = session.bundle(bundle);
                let container = bundle.container(runtime);
                let output = session.hold(&bundle, &container);
                Ok(Seen::of(&output, None, container, &bundle, runtime, None))
            }
            Self::Spec { words } => {
                let dir = bundle.dir().join("empty");
                fs::create_dir(&dir).expect("make an empty directory");
                let container = bundle.container(runtime);
                let output = Ok(container.command(words).dir(&dir).run());
                let file = fs::read_to_string(dir.join("config.json")).ok();
                Ok(Seen::of(&output, file, container, &bundle, runtime, None))
            }
            Self::Command { words, state } => {
                let terminal = words.iter().any(|word| word.contains("TERMINAL"));
                let (bundle, _up) = stage(bundle, state, runtime)?;
                let bundle = bundle.edit(|config| config["process"]["terminal"] = json!(terminal));
                let container = bundle.container(runtime);
                let pid = container.pid();
                let log = bundle.dir().join("log");
                let (log, dir) = (text(&log), text(bundle.dir()));
                // Even a wrong id carries the marker: a runtime that takes it is found out.
                let words: Vec<String> = words
                    .iter()
                    .map(|word| match word.strip_prefix("ID") {
                        Some(rest) => format!("{}{rest}", bundle.id()),
                        None if *word == ".ID" => format!(".{}", bundle.id()),
                        None => word.replace("LOG", &log).replace("BUNDLE", &dir).replace("TERMINAL", &dir),
                    })
                    .collect();
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                let output = container.command(&words).within(PATIENCE).spawn().outcome();
                // What is created and not started may die of any signal: that depends on the runtime's own handlers.
                let is_deadly = words.contains(&"kill")
                    && (state == State::Created || words.iter().any(|word| matches!(*word, "KILL" | "9")));
                if let Some(pid) =
                    pid.filter(|_| is_deadly && output.as_ref().is_ok_and(|output| output.code == 0))
                {
                    // Whether it died is told by the state afterwards.
                    let _died: bool = gone_within(pid, DYING);
                }
                let file = fs::read_to_string(&log).ok();
                Ok(Seen::of(&output, file, container, &bundle, runtime, pid))
            }
        }
    }
}

/// Brings the bundle's container into a state. The lines are what it prints: they keep its output open.
fn stage(bundle: Bundle, state: State, runtime: &Runtime) -> Result<(Bundle, Option<Lines>), String> {
    // It says when it runs, and ends when somebody writes into the fifo. One process throughout: reading is the shell's.
    mknodat(CWD, bundle.rootfs().join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0)
        .expect("make a fifo");
    // Where the command itself may start it, it is silent: whether it prints in time is nobody's difference.
    let line = if state == State::None { "read line < /fifo" } else { "echo up; read line < /fifo" };
    let mut bundle = bundle.shell(line);
    if state == State::Hooked {
        let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", "kill -KILL $PPID"]}]);
        bundle.change(|config| config["hooks"] = json!({"createRuntime": hook}));
    }
    let mut up = None;
    {
        let container = bundle.container(runtime);
        match state {
            State::None => {}
            State::Empty => {
                fs::create_dir_all(bundle.state_root().join(bundle.id())).expect("make a state directory");
            }
            State::Hooked => {
                let output = container.create();
                if output.code != 128 + 9 {
                    return Err(format!("no hook killed it: {output}"));
                }
                // What the dead runtime had started ends by itself, or it is part of what the command meets.
                let _rest: Vec<String> = Snapshot::take(&bundle).lines();
            }
            State::Killed => {
                let (mut lines, stdout) = channel();
                let process = container.command(&["run", "--bundle", "BUNDLE", "ID"]).stdout(stdout).spawn();
                if lines.next_within(LIMIT).as_deref() != Some("up") {
                    return Err(format!("does not come up: {}", process.wait()));
                }
                // The container may print before its runtime has noted that it runs. Nobody tells when it has: ask.
                let end = Instant::now() + LIMIT;
                while container.status().as_deref() != Some("running") {
                    assert!(Instant::now() < end, "does not become running");
                }
                process.signal(Signal::KILL);
                process.wait();
                up = Some(lines);
            }
            State::Created | State::Running | State::Paused | State::Stopped | State::Truncated => {
                let (mut lines, stdout) = channel();
                good(&container.command(&["create", "--bundle", "BUNDLE", "ID"]).stdout(stdout).run())?;
                if state != State::Created {
                    good(&container.start())?;
                    if lines.next_within(LIMIT).as_deref() != Some("up") {
                        return Err("does not come up".into());
                    }
                }
                if state == State::Paused {
                    good(&container.call(&["pause", "ID"]))?;
                }
                if matches!(state, State::Stopped | State::Truncated) {
                    // Opened for both, it opens at once, and holds the line until somebody reads it.
                    let mut fifo = File::options()
                        .read(true)
                        .write(true)
                        .open(bundle.rootfs().join("fifo"))
                        .expect("open the fifo");
                    fifo.write_all(b"go\n").expect("write into the fifo");
                    if !container.ended() {
                        return Err("does not end".into());
                    }
                }
                if state == State::Truncated {
                    truncate(&bundle.state_root().join(bundle.id()));
                }
                up = Some(lines);
            }
        }
        container.leave();
    }
    if state == State::Hooked {
        bundle.change(|config| config["hooks"] = json!({}));
    }
    Ok((bundle, up))
}

fn text(path: &Path) -> String {
    path.to_str().expect("the path is ASCII").to_owned()
}

fn good(output: &Output) -> Result<(), String> {
    if output.code == 0 { Ok(()) } else { Err(output.to_string()) }
}

/// Makes each file in a directory half as long.
fn truncate(dir: &Path) {
    for entry in fs::read_dir(dir).expect("read the state directory").flatten() {
        let data = entry.metadata().expect("look at a state file");
        if data.is_file() {
            let file = File::options().write(true).open(entry.path()).expect("open a state file");
            file.set_len(data.len() / 2).expect("truncate a state file");
        }
    }
}

/// What was seen of one try: text by stream.
type Streams = [(&'static str, String); 5];

struct Seen {
    streams: Streams,
    /// What was there after the container had been deleted by force.
    left: Vec<String>,
}

impl Seen {
    fn of(
        output: &Result<Output, Output>,
        file: Option<String>,
        container: Container<'_>,
        bundle: &Bundle,
        runtime: &Runtime,
        pid: Option<i32>,
    ) -> Self {
        let after = container.status().unwrap_or_else(|| "none".into());
        let name =
            |path: &Path| path.file_name().expect("a program has a name").to_string_lossy().into_owned();
        let mut names = vec![
            (text(&bundle.state_root()), "ROOT"),
            (text(bundle.dir()), "BUNDLE"),
            (bundle.id().to_owned(), "ID"),
            (text(runtime.program()), "RUNTIME"),
            (name(runtime.program()), "RUNTIME"),
        ];
        names.extend(pid.or_else(|| container.pid()).map(|pid| (pid.to_string(), "PID")));
        drop(container);
        let (exit, output) = match output {
            Ok(output) => (format!("{}\n", output.code), output),
            Err(output) => ("hangs\n".into(), output),
        };
        let streams = [
            ("exit", exit),
            ("stdout", without_load(&normal(&shape(&output.stdout), &names))),
            ("stderr", normal(&output.stderr, &names)),
            ("file", normal(&file.unwrap_or_default(), &names)),
            ("state", format!("{after}\n")),
        ];
        // What the other one leaves is nobody's complaint here, and looking takes a while.
        let is_ours = runtime.program() != Runtime::runc().program();
        let left = if is_ours { Snapshot::take(bundle).lines() } else { Vec::new() };
        Self { streams, left }
    }
}

/// The document of `features` as the keys in it, one a line, each with the type of its value; other texts as they are.
fn shape(text: &str) -> String {
    fn walk(value: &Value, path: &str, lines: &mut Vec<String>) {
        match value {
            Value::Object(object) => {
                let dot = if path.is_empty() { "" } else { "." };
                object.iter().for_each(|(key, value)| walk(value, &format!("{path}{dot}{key}"), lines));
            }
            Value::Array(_) => lines.push(format!("{path}: list")),
            Value::Bool(_) => lines.push(format!("{path}: boolean")),
            Value::String(_) => lines.push(format!("{path}: text")),
            other => lines.push(format!("{path}: {other}")),
        }
    }
    match serde_json::from_str::<Value>(text) {
        Ok(document) if document.get("ociVersionMax").is_some() => {
            let mut lines = Vec::new();
            walk(&document, "", &mut lines);
            // Their order is Go's and ours, and nobody's business; how the text ends is somebody's.
            lines.sort();
            let end = if text.ends_with("}\n") { "" } else { " (no newline)" };
            lines.join("\n") + end + "\n"
        }
        _ => text.to_owned(),
    }
}

/// A table of `ps` without the column that tells how busy a process was, which stands between its parent and its start,
/// and without the spaces that stand before a short number.
fn without_load(text: &str) -> String {
    let plain = |line: &str| {
        let line = Some(line.trim_start()).filter(|line| line.starts_with("PID ")).unwrap_or(line);
        let mut words: Vec<_> = line.split(' ').collect();
        if let Some(pid) = words.iter().position(|word| *word == "PID")
            && words.get(pid + 3) == Some(&"TIME")
        {
            words[pid + 2] = "LOAD";
        }
        words.join(" ")
    };
    text.split_inclusive('\n').map(plain).collect()
}

/// All that was seen, by all workers.
#[derive(Default)]
struct Found {
    seen: BTreeSet<Difference>,
    tried: BTreeSet<(String, String)>,
    failures: Vec<String>,
}

impl Found {
    fn note(&mut self, what: Try, runc: Result<Seen, String>, ours: Result<Seen, String>) {
        let (command, state) = (what.told(), what.state());
        let (runc, ours) = match (runc, ours) {
            (Ok(runc), Ok(ours)) => (runc, ours),
            (runc, ours) => {
                for (name, failed) in [("runc", runc.err()), ("the runtime under test", ours.err())] {
                    let told = failed
                        .map(|reason| format!("{name} cannot be brought to {}: {reason}", state.name()));
                    self.failures.extend(told);
                }
                return;
            }
        };
        // What is left of a state that somebody broke by hand is for that somebody to remove.
        if !ours.left.is_empty() && !matches!(state, State::Empty | State::Truncated) {
            self.failures.push(format!(
                "{command}, {}: left behind:\n    {}",
                state.name(),
                ours.left.join("\n    ")
            ));
        }
        self.tried.insert((command.clone(), state.name().to_owned()));
        for ((stream, runc), (_, ours)) in runc.streams.into_iter().zip(ours.streams) {
            for (runc, ours) in hunks(&runc, &ours) {
                let (command, state) = (command.clone(), state.name().to_owned());
                self.seen.insert(Difference { command, state, stream: stream.to_owned(), runc, ours });
            }
        }
    }
}

#[test]
fn root_commands_say_what_runc_says() {
    needs!(Root, Busybox, Runc, Freezer);
    let (runc, ours) = (Runtime::runc(), Runtime::under_test());
    let (tries, next, found) = (Try::all(), AtomicUsize::new(0), Mutex::new(Found::default()));
    let work = || {
        while let Some(what) = tries.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (runc, ours) = (what.with(&runc), what.with(&ours));
            found.lock().expect("no worker panics with the lock").note(*what, runc, ours);
        }
    };
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(work);
        }
    });
    let found = found.into_inner().expect("no worker panics with the lock");
    figure(&format!("{} pairs of command and state compared with runc", found.tried.len()));

    if std::env::var_os("COFFERDAM_PRINT_DIFFERENCES").is_some_and(|value| value == "1") {
        print!("{}", tell(&lines(&found.seen, &found.tried)));
        assert!(found.failures.is_empty(), "{}", tell(&found.failures));
        return;
    }
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/differences.md");
    let document = fs::read_to_string(document).expect("read docs/differences.md");
    let complaints = Table::parse(&document).expect("docs/differences.md").judge(&found.seen, &found.tried);
    let complaints: Vec<_> = found.failures.into_iter().chain(complaints).collect();
    assert!(
        complaints.is_empty(),
        "{} complaints, docs/differences.md:\n{}",
        complaints.len(),
        tell(&complaints)
    );
}
