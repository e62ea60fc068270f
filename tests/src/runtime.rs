//! The runtime under test as a process: commands, their output, and an end to each.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::Value;

use crate::{Bundle, LIMIT, MARKER, ready_within};

/// A program that speaks runc's command line.
#[derive(Clone, Debug)]
pub struct Runtime {
    program: PathBuf,
}

impl Runtime {
    /// The runtime that the tests are about: what `COFFERDAM` names, or the newest release build of the workspace.
    pub fn under_test() -> Self {
        if let Some(program) = std::env::var_os("COFFERDAM") {
            let program = PathBuf::from(program);
            assert!(
                program.is_absolute() && program.exists(),
                "COFFERDAM={}: no such program",
                program.display()
            );
            return Self { program };
        }
        let newest = newest_build("cofferdam");
        Self { program: newest.expect("there is no release build of cofferdam to test: run `make build`") }
    }

    /// The program at this path: a copy that a hostile container may try to write to, for one.
    pub fn at(program: &Path) -> Self {
        Self { program: program.to_owned() }
    }

    /// The first program of that name in `PATH`.
    pub fn find(name: &str) -> Option<Self> {
        let path = std::env::var_os("PATH")?;
        let program =
            std::env::split_paths(&path).map(|dir| dir.join(name)).find(|program| program.is_file())?;
        Some(Self { program })
    }

    /// The runc that Debian ships, to compare with; a test that calls this begins with `needs!(Runc)`.
    pub fn runc() -> Self {
        Self::find("runc").expect("runc is in PATH, as needs!(Runc) has seen")
    }

    /// The program's path.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// A command to be run with the bundle's state root; `words` follow the global flags.
    pub fn command<'a>(&self, bundle: &'a Bundle, words: &[&str]) -> Invocation<'a> {
        Invocation {
            program: self.program.clone(),
            bundle,
            globals: vec!["--root".into(), bundle.state_root().into()],
            words: words.iter().map(Into::into).collect(),
            dir: bundle.dir().to_owned(),
            stdin: None,
            stdout: None,
            limit: LIMIT,
            launcher: Vec::new(),
        }
    }
}

/// The newest release build of a program of this workspace.
pub(crate) fn newest_build(name: &str) -> Option<PathBuf> {
    builds(name).into_iter().max_by_key(|(_, built)| *built).map(|(program, _)| program)
}

/// The release builds of a program of this workspace, with the time of each.
fn builds(name: &str) -> Vec<(PathBuf, SystemTime)> {
    let workspace =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the workspace");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    let inner = fs::read_dir(&target).into_iter().flatten().flatten().map(|entry| entry.path());
    std::iter::once(target.clone())
        .chain(inner)
        .map(|dir| dir.join("release").join(name))
        .filter_map(|program| Some((program.clone(), program.metadata().ok()?.modified().ok()?)))
        .collect()
}

/// One command line, about to be run.
#[derive(Debug)]
pub struct Invocation<'a> {
    program: PathBuf,
    bundle: &'a Bundle,
    globals: Vec<OsString>,
    words: Vec<OsString>,
    dir: PathBuf,
    stdin: Option<Stdio>,
    stdout: Option<Stdio>,
    limit: Duration,
    launcher: Vec<OsString>,
}

impl Invocation<'_> {
    /// One more global flag, or its value, before the command.
    #[must_use]
    pub fn global(mut self, word: impl Into<OsString>) -> Self {
        self.globals.push(word.into());
        self
    }

    /// No global flags at all: not even the bundle's state root.
    #[must_use]
    pub fn without_globals(mut self) -> Self {
        self.globals.clear();
        self
    }

    /// The directory to run in; the bundle's own unless told.
    #[must_use]
    pub fn dir(mut self, dir: &Path) -> Self {
        dir.clone_into(&mut self.dir);
        self
    }

    /// What the runtime, and a container it starts, reads; `/dev/null` unless told.
    #[must_use]
    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.stdin = Some(stdin.into());
        self
    }

    /// Where the runtime, and a container it starts, prints; a file that [`Output`] shows unless told.
    #[must_use]
    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.stdout = Some(stdout.into());
        self
    }

    /// How long the command may take.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// A program that is to execute the command line appended to it, for instance in a namespace.
    #[must_use]
    pub fn launched_by<S: AsRef<OsStr>>(mut self, launcher: &[S]) -> Self {
        self.launcher = launcher.iter().map(|word| word.as_ref().to_owned()).collect();
        self
    }

    /// One more launcher, which executes the one that there is.
    #[must_use]
    pub(crate) fn first_launched_by(mut self, launcher: &[&str]) -> Self {
        self.launcher.splice(0..0, launcher.iter().map(Into::into));
        self
    }

    /// One more launcher, which the one before it executes.
    #[must_use]
    pub(crate) fn then_launched_by(mut self, launcher: &[&str]) -> Self {
        self.launcher.extend(launcher.iter().map(Into::into));
        self
    }

    /// Runs the command to its end.
    pub fn run(self) -> Output {
        self.spawn().wait()
    }

    /// Starts the command.
    pub fn spawn(self) -> Process {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mut line = self.launcher;
        if let Some(lower) = self.bundle.layer()
            && self.words.first().is_some_and(|word| word == "create" || word == "run")
        {
            line.extend(under_overlay(lower, self.bundle));
        }
        line.push(self.program.into());
        line.extend(self.globals);
        line.extend(self.words);

        // Files, not pipes: a container that stays alive keeps the runtime's output open, and a pipe would then never
        // come to its end.
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let file = |kind: &str| {
            let path = self.bundle.outputs().join(format!("{count}.{kind}"));
            let file =
                File::options().create_new(true).append(true).open(&path).expect("make a file for output");
            (path, file)
        };
        let (out, out_file) = file("stdout");
        let (err, err_file) = file("stderr");
        let told = line.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
        let child = Command::new(&line[0])
            .args(&line[1..])
            .current_dir(&self.dir)
            .env(MARKER, self.bundle.id())
            .stdin(self.stdin.unwrap_or_else(Stdio::null))
            .stdout(self.stdout.unwrap_or_else(|| out_file.into()))
            .stderr(err_file)
            .spawn()
            .unwrap_or_else(|error| panic!("{told}: {error}"));
        let pidfd =
            pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).expect("pidfd_open of our own child");
        Process { child, pidfd, out, err, limit: self.limit, told, reaped: false }
    }
}

/// A launcher that lays an overlay over the bundle's root file system in a mount namespace of its own.
fn under_overlay(lower: &Path, bundle: &Bundle) -> Vec<OsString> {
    let dir = bundle.dir();
    let mut options = OsString::from("lowerdir=");
    options.push(lower);
    options.push(",upperdir=");
    options.push(dir.join("upper"));
    options.push(",workdir=");
    options.push(dir.join("work"));
    let script = r#"mount -t overlay -o "$1" overlay "$2" && shift 2 && exec "$@""#;
    let mut line: Vec<OsString> =
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
            .map(OsString::from)
            .to_vec();
    line.push(options);
    line.push(bundle.rootfs().into());
    line
}

/// A command that runs. It is killed when this value goes while it still does.
#[derive(Debug)]
pub struct Process {
    child: Child,
    pidfd: OwnedFd,
    out: PathBuf,
    err: PathBuf,
    limit: Duration,
    told: String,
    reaped: bool,
}

impl Process {
    /// Its process id: for printing, and for ptrace, which knows no pidfd.
    pub fn pid(&self) -> i32 {
        Pid::from_child(&self.child).as_raw_pid()
    }

    /// The command line.
    pub fn told(&self) -> &str {
        &self.told
    }

    /// Sends a signal to the runtime itself.
    pub fn signal(&self, signal: Signal) {
        pidfd_send_signal(&self.pidfd, signal).expect("signal our own child");
    }

    /// Waits for its end. One that takes too long is killed, and the test fails.
    pub fn wait(self) -> Output {
        let (limit, told) = (self.limit, self.told.clone());
        self.outcome().unwrap_or_else(|killed| panic!("still ran after {limit:?}, killed: {told}\n{killed}"))
    }

    /// Waits for its end. One that takes too long is killed, and what it had printed is the error.
    pub fn outcome(mut self) -> Result<Output, Output> {
        if ready_within(&self.pidfd, self.limit) {
            return Ok(self.collect());
        }
        self.signal(Signal::KILL);
        Err(self.collect())
    }

    /// Says that somebody else has waited for the process: the tracer.
    pub(crate) fn reaped(&mut self) {
        self.reaped = true;
    }

    fn collect(&mut self) -> Output {
        let status = self.child.wait().expect("wait for our own child");
        self.reaped = true;
        let code = status.code().unwrap_or_else(|| 128 + status.signal().expect("it exited or was killed"));
        Output {
            code,
            stdout: text(&self.out),
            stderr: text(&self.err),
            out: self.out.clone(),
            told: self.told.clone(),
        }
    }

    /// What it has written to standard error so far.
    pub fn complaint(&self) -> String {
        text(&self.err)
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.reaped {
            match pidfd_send_signal(&self.pidfd, Signal::KILL) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(errno) => panic!("kill {}: {errno}", self.told),
            }
            self.child.wait().expect("wait for our own child");
        }
    }
}

fn text(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).expect("read a command's output")).into_owned()
}

/// What a command left: its exit code and what was printed until then.
#[derive(Debug)]
pub struct Output {
    /// The exit code, or 128 and the number of the signal that ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    out: PathBuf,
    told: String,
}

impl Output {
    /// Fails the test unless the command ended with 0.
    #[track_caller]
    pub fn success(&self) -> &Self {
        self.code(0)
    }

    /// Fails the test unless the command ended with `code`.
    #[track_caller]
    pub fn code(&self, code: i32) -> &Self {
        assert_eq!(self.code, code, "{}\n{self}", self.told);
        self
    }

    /// The lines of standard output. Fails the test unless the command ended with 0.
    #[track_caller]
    pub fn lines(&self) -> Vec<&str> {
        self.success().stdout.lines().collect()
    }

    /// Standard output as it is now: a detached container goes on printing after its runtime has gone.
    pub fn printed(&self) -> String {
        text(&self.out)
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            to,
            "exit {}\nstdout: {}\nstderr: {}",
            self.code,
            self.stdout.trim_end(),
            self.stderr.trim_end()
        )
    }
}

/// A container of a bundle. When this value goes, so does the container, by `delete --force`.
#[derive(Debug)]
pub struct Container<'a> {
    runtime: Runtime,
    bundle: &'a Bundle,
    id: String,
    is_left: bool,
}

impl<'a> Container<'a> {
    pub(crate) fn new(runtime: Runtime, bundle: &'a Bundle, id: String) -> Self {
        Self { runtime, bundle, id, is_left: false }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// `words` as a command about to be run; `ID` and `BUNDLE` among them stand for this container's.
    pub fn command(&self, words: &[&str]) -> Invocation<'a> {
        let dir = self.bundle.dir().to_str().expect("the bundle's path is ASCII");
        let words: Vec<_> = words
            .iter()
            .map(|word| match *word {
                "ID" => &self.id,
                "BUNDLE" => dir,
                other => other,
            })
            .collect();
        self.runtime.command(self.bundle, &words)
    }

    /// Runs a command to its end, as [`Self::command`] reads it.
    pub fn call(&self, words: &[&str]) -> Output {
        self.command(words).run()
    }

    /// `create`.
    pub fn create(&self) -> Output {
        self.call(&["create", "--bundle", "BUNDLE", "ID"])
    }

    /// `start`.
    pub fn start(&self) -> Output {
        self.call(&["start", "ID"])
    }

    /// `run` in the foreground.
    pub fn run(&self) -> Output {
        self.call(&["run", "--bundle", "BUNDLE", "ID"])
    }

    /// `kill`.
    pub fn kill(&self, signal: &str) -> Output {
        self.call(&["kill", "ID", signal])
    }

    /// `delete`.
    pub fn delete(&self) -> Output {
        self.call(&["delete", "ID"])
    }

    /// `delete --force`.
    pub fn delete_force(&self) -> Output {
        self.call(&["delete", "--force", "ID"])
    }

    /// What `state` prints; none if it fails.
    pub fn state(&self) -> Option<Value> {
        let output = self.call(&["state", "ID"]);
        (output.code == 0).then(|| {
            serde_json::from_str(&output.stdout)
                .unwrap_or_else(|error| panic!("state is not JSON: {error}\n{output}"))
        })
    }

    /// The status that `state` prints; none if it fails.
    pub fn status(&self) -> Option<String> {
        Some(self.state()?["status"].as_str().expect("a state has a status").to_owned())
    }

    /// The container's first process, as the host counts; none if `state` fails or says 0.
    pub fn pid(&self) -> Option<i32> {
        let pid = self.state()?["pid"].as_i64().expect("a state has a pid");
        i32::try_from(pid).ok().filter(|pid| *pid != 0)
    }

    /// Leaves the container as it is, for somebody else to handle; in the end its bundle removes it.
    pub fn leave(mut self) {
        self.is_left = true;
    }

    /// Waits until the container's first process has exited; true if it did within the usual limit.
    pub fn ended(&self) -> bool {
        self.pid().is_none_or(|pid| crate::gone_within(pid, LIMIT))
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        if !self.is_left && self.bundle.state_root().join(&self.id).exists() {
            // What this fails to remove, the bundle will find and report; why, only we know.
            let gone = self.delete_force();
            if gone.code != 0 {
                eprintln!("{gone}");
            }
        }
    }
}
