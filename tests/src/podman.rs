//! Podman with storage of a test's own, in mount and network namespaces that last as long as the test, with a runtime of
//! the test's choice.
//!
//! Everything of it lies in a bundle's directory and carries the bundle's name. The image `box` is the bundle's root
//! file system.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::runtime::{Invocation, Output, Process};
use crate::{Bundle, LIMIT, Lines, Runtime, channel, gone_within};

/// Without these podman asks for more than a host without `CAP_SYS_RESOURCE` may give.
const CONFIGURATION: &str =
    "[containers]\ndefault_ulimits = [\"nofile=20000:20000\", \"nproc=32768:32768\"]\n";

/// On version 1 podman goes by the directories below /sys/fs/cgroup, also where they are no hierarchies: whatever somebody made
/// there, it gets one with the hierarchies alone.
const HIERARCHIES: &str = r#"
if [ "$(stat -fc %T /sys/fs/cgroup)" = tmpfs ]; then
    mkdir "$1/groups"
    mount -t tmpfs tmpfs "$1/groups"
    for each in /sys/fs/cgroup/*; do
        name=$(basename "$each")
        if [ -L "$each" ]; then
            cp -P "$each" "$1/groups/$name"
        elif mountpoint -q "$each"; then
            mkdir "$1/groups/$name"
            mount --bind "$each" "$1/groups/$name"
        fi
    done
    mount --move "$1/groups" /sys/fs/cgroup
fi
"#;

/// Podman, as long as this value.
#[derive(Debug)]
pub struct Podman {
    /// Holds the namespaces, and goes before the bundle looks for what is left.
    holder: Option<Process>,
    bundle: Bundle,
    runtime: Runtime,
}

impl Podman {
    /// Makes one whose containers `runtime` runs.
    pub fn with(runtime: &Runtime, name: &str) -> Self {
        let bundle = Bundle::new(name);
        fs::write(bundle.dir().join("containers.conf"), CONFIGURATION).expect("write containers.conf");
        let (mut lines, stdout) = channel();
        let line = format!(
            "set -e; ip link set lo up; mkdir -p /run/netns; mount -t tmpfs tmpfs /run/netns
                 {HIERARCHIES}
                 echo ready; exec sleep 1000000"
        );
        let dir = bundle.dir().display().to_string();
        let holder = Runtime::at(Path::new("/bin/sh"))
            .command(&bundle, &["-c", &line, "sh", &dir])
            .without_globals()
            .launched_by(&["unshare", "--mount", "--net", "--propagation", "private"])
            .stdout(stdout)
            .spawn();
        assert_eq!(lines.next_within(LIMIT).as_deref(), Some("ready"), "{}", holder.complaint());
        let podman = Self { holder: Some(holder), bundle, runtime: runtime.clone() };
        let archive = podman.bundle.pack().display().to_string();
        podman.call(&["import", &archive, "box"]).success();
        podman
    }

    /// The directory of all that is its own.
    pub fn dir(&self) -> &Path {
        self.bundle.dir()
    }

    /// The name that all that is its own carries.
    pub fn id(&self) -> &str {
        self.bundle.id()
    }

    /// A command, about to be run.
    pub fn command(&self, words: &[&str]) -> Invocation<'_> {
        let dir = |below: &str| self.dir().join(below).display().to_string();
        let holder = self.holder.as_ref().map_or(0, Process::pid).to_string();
        let configuration = format!("CONTAINERS_CONF={}", dir("containers.conf"));
        let launcher = ["nsenter", "--target", &holder, "--mount", "--net", "--", "env", &configuration];
        let mut command = Runtime::at(Path::new("/usr/bin/podman"))
            .command(&self.bundle, words)
            .without_globals()
            .launched_by(&launcher);
        let own = [
            ("--root", dir("storage")),
            ("--runroot", dir("run")),
            ("--tmpdir", dir("tmp")),
            ("--runtime", self.runtime.program().display().to_string()),
            ("--cgroup-manager", "cgroupfs".to_owned()),
            ("--storage-driver", "vfs".to_owned()),
            ("--events-backend", "file".to_owned()),
        ];
        for (flag, value) in own {
            command = command.global(flag).global(value);
        }
        command
    }

    /// Runs a command to its end.
    pub fn call(&self, words: &[&str]) -> Output {
        self.command(words).run()
    }

    /// `podman VERB` with the flag that puts the container's groups below ours.
    pub fn make(&self, verb: &[&str], words: &[&str]) -> Output {
        let parent = format!("/{}", self.id());
        self.call(&[verb, &["--cgroup-parent", &parent], words].concat())
    }

    /// `podman run --rm` of a line for the shell in the image `box`, after these flags.
    pub fn shell(&self, flags: &[&str], line: &str) -> Output {
        self.make(&["run", "--rm"], &[flags, &["box", "sh", "-c", line]].concat())
    }

    /// `podman run --detach` of a line for the shell in the image `box`; the container's id.
    #[track_caller]
    pub fn detach(&self, flags: &[&str], line: &str) -> String {
        let output = self.make(&["run", "--detach"], &[flags, &["box", "sh", "-c", line]].concat());
        output.success();
        output.stdout.trim_end().to_owned()
    }

    /// What `podman inspect` knows of a container.
    #[track_caller]
    pub fn inspect(&self, container: &str) -> Value {
        let output = self.call(&["inspect", container]);
        output.success();
        let mut all: Vec<Value> = serde_json::from_str(&output.stdout).expect("inspect prints JSON");
        all.remove(0)
    }

    /// What a container prints, from the beginning on.
    pub fn follow(&self, container: &str) -> (Lines, Process) {
        let (lines, stdout) = channel();
        let logs = self.command(&["logs", "--follow", container]).stdout(stdout).spawn();
        (lines, logs)
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // What still runs must end before its groups can go; the bundle does that.
            return;
        }
        drop(self.holder.take());
        // These are podman's own, for conmon and for pods, and it leaves them. What a container leaves in them keeps
        // them, and is found.
        let below = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
        for group in below(Path::new("/sys/fs/cgroup")).map(|hierarchy| hierarchy.join(self.id())) {
            await_end(&group.join("conmon"));
            for own in below(&group).filter(|own| is_podmans(own)).chain([group.clone()]) {
                fs::remove_dir(own).unwrap_or_default();
            }
        }
    }
}

/// Containers have groups of another name.
fn is_podmans(group: &Path) -> bool {
    let name = group.file_name().unwrap_or_default().to_string_lossy();
    group.is_dir() && !name.starts_with("libpod-")
}

/// Waits for those in a group who clean up after a container that is no more.
fn await_end(group: &Path) {
    let processes = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let numbers = processes.lines().filter_map(|line| line.parse().ok());
    for process in numbers {
        assert!(gone_within(process, LIMIT), "process {process} of podman does not end");
    }
}
