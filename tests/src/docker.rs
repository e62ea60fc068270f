//! A dockerd of a test's own, in mount and network namespaces of its own, with a runtime of the test's choice as the only
//! one that it knows.
//!
//! Everything of it lies in a bundle's directory and carries the bundle's name; the host's dockerd, if there is one, is
//! not touched. The image `box` is the bundle's root file system.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::Value;

use crate::pty::{SESSION, stream};
use crate::runtime::{Invocation, Output, Process};
use crate::{Bundle, LIMIT, Lines, Runtime, channel};

/// Debian's client: another one may come first in `PATH`.
const CLIENT: &str = "/usr/bin/docker";

/// The client's configuration is nobody's, and a build without BuildKit is asked for by name.
const ENVIRONMENT: [&str; 3] = ["env", "DOCKER_CONFIG=/proc/nonexistent", "DOCKER_BUILDKIT=0"];

/// In which dockerd starts: nothing that it mounts leaves its mount namespace, and its network is nobody's.
const NAMESPACES: [&str; 5] = ["unshare", "--mount", "--net", "--propagation", "private"];

/// A dockerd that runs as long as this value.
#[derive(Debug)]
pub struct Docker {
    // Ended before the bundle looks for what is left.
    daemon: Option<Process>,
    bundle: Bundle,
}

impl Docker {
    /// Starts one whose containers `runtime` runs, also those of BuildKit, which looks for `runc` in `PATH`.
    pub fn with(runtime: &Runtime, name: &str) -> Self {
        Self::with_flags(runtime, name, "", &[])
    }

    /// The same with more flags for dockerd, and with shell commands in its namespaces before it starts.
    pub fn with_flags(runtime: &Runtime, name: &str, before: &str, flags: &[&str]) -> Self {
        let bundle = Bundle::new(name);
        let bin = bundle.dir().join("bin");
        fs::create_dir(&bin).expect("make a folder for PATH");
        symlink(runtime.program(), bin.join("runc")).expect("link the runtime as runc");
        let notice = UnixDatagram::bind(bundle.dir().join("notice")).expect("bind a socket for readiness");
        notice.set_read_timeout(Some(LIMIT)).expect("limit the wait for readiness");

        let dir = |below: &str| bundle.dir().join(below).display().to_string();
        let script = format!(
            "set -e; ip link set lo up; {before}\n\
             export PATH={}:$PATH NOTIFY_SOCKET={}; exec dockerd \"$@\"",
            bin.display(),
            dir("notice"),
        );
        let parent = format!("/{}", bundle.id());
        let own = [
            ("--data-root", dir("data")),
            ("--exec-root", dir("exec")),
            ("--host", format!("unix://{}", dir("socket"))),
            ("--pidfile", dir("pid")),
            ("--cgroup-parent", parent),
        ];
        let mut words: Vec<String> = vec!["-c".into(), script, "dockerd".into()];
        words.extend(own.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]));
        let fixed = [
            "--iptables=false",
            "--ip6tables=false",
            "--ip-forward=false",
            "--storage-driver=vfs",
            "--log-level=warn",
        ];
        words.extend(fixed.iter().chain(flags).map(|&flag| flag.to_owned()));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let daemon = Runtime::at(Path::new("/bin/sh"))
            .command(&bundle, &words)
            .without_globals()
            .launched_by(&NAMESPACES)
            .spawn();
        let mut word = [0; 64];
        let heard = notice.recv(&mut word);
        assert!(heard.is_ok(), "dockerd is not ready: {heard:?}\n{}", daemon.complaint());

        let docker = Self { daemon: Some(daemon), bundle };
        docker.import();
        docker
    }

    /// Makes the image `box`.
    fn import(&self) {
        let path = self.bundle.pack().display().to_string();
        self.call(&["import", "--change", "CMD [\"/bin/sh\"]", &path, "box"]).success();
    }

    /// The directory of all that is its own.
    pub fn dir(&self) -> &Path {
        self.bundle.dir()
    }

    /// The name that all that is its own carries.
    pub fn id(&self) -> &str {
        self.bundle.id()
    }

    /// The client's command, about to be run.
    pub fn command(&self, words: &[&str]) -> Invocation<'_> {
        let host = format!("unix://{}", self.dir().join("socket").display());
        Runtime::at(Path::new(CLIENT))
            .command(&self.bundle, words)
            .without_globals()
            .global("--host")
            .global(host)
            .launched_by(&ENVIRONMENT)
    }

    /// Runs another program than Debian's client to its end: it is told itself where dockerd listens.
    pub fn run_by(&self, program: &Path, words: &[&str]) -> Output {
        let command = Runtime::at(program).command(&self.bundle, words).without_globals();
        command.launched_by(&ENVIRONMENT).within(LIMIT * 2).run()
    }

    /// Starts the client in front of a terminal, which is its session's own.
    pub fn seat(&self, words: &[&str], slave: &OwnedFd) -> Process {
        let launcher = [&SESSION[..], &ENVIRONMENT].concat();
        self.command(words).launched_by(&launcher).stdin(stream(slave)).stdout(stream(slave)).spawn()
    }

    /// Runs the client to its end.
    pub fn call(&self, words: &[&str]) -> Output {
        self.command(words).run()
    }

    /// `docker run --rm` of a line for the shell in the image `box`, after these flags.
    pub fn shell(&self, flags: &[&str], line: &str) -> Output {
        let words = [&["run", "--rm"], flags, &["box", "sh", "-c", line]].concat();
        self.call(&words)
    }

    /// `docker run --detach` of a line for the shell in the image `box`; the container's id.
    #[track_caller]
    pub fn detach(&self, flags: &[&str], line: &str) -> String {
        let words = [&["run", "--detach"], flags, &["box", "sh", "-c", line]].concat();
        let output = self.call(&words);
        output.success();
        output.stdout.trim_end().to_owned()
    }

    /// What `docker inspect` knows of a container.
    #[track_caller]
    pub fn inspect(&self, container: &str) -> Value {
        let output = self.call(&["inspect", container]);
        output.success();
        let mut all: Vec<Value> = serde_json::from_str(&output.stdout).expect("inspect prints JSON");
        all.remove(0)
    }

    /// Waits until dockerd has told of this container, now or before, so many times that `status` happened to it.
    #[track_caller]
    pub fn await_event(&self, container: &str, status: &str, times: usize) {
        let (mut lines, stdout) = channel();
        let filter = format!("container={container}");
        let words = ["events", "--since", "0", "--filter", &filter, "--format", "{{.Status}}"];
        let _events = self.command(&words).stdout(stdout).spawn();
        let mut told = 0;
        while told < times {
            let line = lines.next_within(LIMIT).expect("dockerd tells what happens");
            told += usize::from(line == status);
        }
    }

    /// What a container prints, from the beginning on.
    pub fn follow(&self, container: &str) -> (Lines, Process) {
        let (lines, stdout) = channel();
        let logs = self.command(&["logs", "--follow", container]).stdout(stdout).spawn();
        (lines, logs)
    }

    /// What dockerd has logged.
    pub fn log(&self) -> String {
        self.daemon.as_ref().map(Process::complaint).unwrap_or_default()
    }

    fn stop(&mut self) -> Result<(), Output> {
        let Some(daemon) = self.daemon.take() else { return Ok(()) };
        daemon.signal(Signal::TERM);
        let ended = daemon.outcome().map(drop);
        // These are dockerd's own, and it leaves them. What a container left in them keeps them, and is found.
        for group in parents(self.id()) {
            for own in [group.join("buildkit"), group] {
                fs::remove_dir(own).unwrap_or_default();
            }
        }
        ended
    }
}

/// The groups at the top of each hierarchy that bear this name.
fn parents(name: &str) -> Vec<PathBuf> {
    let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    hierarchies.map(|entry| entry.path().join(name)).filter(|group| group.is_dir()).collect()
}

impl Drop for Docker {
    fn drop(&mut self) {
        let log = if std::thread::panicking() { self.log() } else { String::new() };
        if !log.is_empty() {
            eprintln!("dockerd:\n{log}");
        }
        if let Err(killed) = self.stop() {
            assert!(std::thread::panicking(), "dockerd did not end:\n{killed}");
        }
    }
}
