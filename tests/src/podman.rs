//! Podman with storage of a test's own, in mount and network namespaces that last as long as the test, with a runtime of
//! the test's choice.
//!
//! Everything of it lies in a bundle's directory and carries the bundle's name. The image `box` is the bundle's root
//! file system.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::Value;

use crate::pty::{SESSION, stream};
use crate::runtime::{Invocation, Output, Process};
use crate::{Bundle, LIMIT, Lines, MARKER, Runtime, USER, channel, copy_program, gone_within};

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

/// What plugins of networks remember in /var/lib is the test's own.
const LIBRARY: &str =
    r#"mount -t overlay -o "lowerdir=/var/lib,upperdir=$1/upper,workdir=$1/work" overlay /var/lib"#;

/// Makes an ordinary user known, and the devices of networks and file systems his too, as on most hosts.
const KNOWN: &str = r#"
    mkdir "$1/etc"
    mount -t tmpfs tmpfs "$1/etc"
    { cat /etc/passwd; echo "cdt:x:$uid:$uid::$1/home:/bin/sh"; } > "$1/etc/passwd"
    { cat /etc/group; echo "cdt:x:$uid:"; } > "$1/etc/group"
    : > "$1/etc/subuid"
    [ "$grants" = 0 ] || echo "cdt:710000:$grants" > "$1/etc/subuid"
    cp "$1/etc/subuid" "$1/etc/subgid"
    for file in passwd group subuid subgid; do
        [ -e "/etc/$file" ] && mount --bind "$1/etc/$file" "/etc/$file"
    done
    mknod -m 666 "$1/etc/tun" c 10 200
    mount --bind "$1/etc/tun" /dev/net/tun
    umount -l "$1/etc"
"#;

/// Podman, as long as this value.
#[derive(Debug)]
pub struct Podman {
    /// Holds the namespaces, and goes before the bundle looks for what is left.
    holder: Option<Process>,
    bundle: Bundle,
    runtime: Runtime,
    /// Whether an ordinary user calls it.
    is_users: bool,
}

impl Podman {
    /// Makes one whose containers `runtime` runs.
    pub fn with(runtime: &Runtime, name: &str) -> Self {
        Self::with_configuration(runtime, name, "")
    }

    /// The same with more of a containers.conf(5).
    pub fn with_configuration(runtime: &Runtime, name: &str, more: &str) -> Self {
        let bundle = Bundle::new(name);
        for own in ["upper", "work"] {
            fs::create_dir(bundle.dir().join(own)).expect("make a directory");
        }
        Self::new(runtime.clone(), bundle, more, &format!("{HIERARCHIES}\n{LIBRARY}"))
    }

    /// One that an ordinary user calls, whom /etc knows in its mount namespace, and gives as many ids to as `grants` says.
    pub fn of_user(runtime: &Runtime, name: &str, grants: u32) -> Self {
        let bundle = Bundle::new(name);
        let program = bundle.dir().join("cofferdam");
        copy_program(runtime.program(), &program);
        for own in ["home", "runtime", "storage", "run", "tmp"].map(|name| bundle.dir().join(name)) {
            fs::create_dir(&own).expect("make a directory");
            fs::set_permissions(&own, fs::Permissions::from_mode(0o700)).expect("close it");
            chown(&own, Some(USER), Some(USER)).expect("give it away");
        }
        let before = format!("uid={USER}; grants={grants}; {HIERARCHIES}\n{KNOWN}");
        Self::new(Runtime::at(&program), bundle, "", &before)
    }

    fn new(runtime: Runtime, bundle: Bundle, more: &str, before: &str) -> Self {
        let networks = bundle.dir().join("networks");
        fs::create_dir(&networks).expect("make a directory for networks");
        let networks = if more.is_empty() {
            String::new()
        } else {
            format!("{more}network_config_dir = \"{}\"\n", networks.display())
        };
        let configuration = format!("{CONFIGURATION}{networks}");
        fs::write(bundle.dir().join("containers.conf"), configuration).expect("write containers.conf");
        let (mut lines, stdout) = channel();
        let line = format!(
            "set -e; ip link set lo up; mount -t tmpfs tmpfs /run; mkdir /run/netns /run/lock
                 mount -t tmpfs -o mode=1777 tmpfs /dev/shm
                 {before}
                 echo ready; exec sleep 1000000"
        );
        let dir = bundle.dir().display().to_string();
        let is_users = bundle.dir().join("home").exists();
        let holder = Runtime::at(Path::new("/bin/sh"))
            .command(&bundle, &["-c", &line, "sh", &dir])
            .without_globals()
            .launched_by(&["unshare", "--mount", "--net", "--propagation", "private"])
            .stdout(stdout)
            .spawn();
        assert_eq!(lines.next_within(LIMIT).as_deref(), Some("ready"), "{}", holder.complaint());
        let podman = Self { holder: Some(holder), bundle, runtime, is_users };
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

    /// Hands out subordinate ids in its mount namespace: a line of subuid(5).
    pub fn give_ids(&self, line: &str) {
        let script =
            r#"set -e; echo "$1" > "$2"; for file in subuid subgid; do mount --bind "$2" "/etc/$file"; done"#;
        let file = self.dir().join("ids").display().to_string();
        let holder = self.holder.as_ref().map_or(0, Process::pid).to_string();
        let given = Command::new("nsenter")
            .args(["--target", &holder, "--mount", "--", "sh", "-c", script, "sh", line, &file])
            .status();
        assert!(given.is_ok_and(|given| given.success()), "hand out ids");
    }

    /// Starts it in front of a terminal, which is its session's own.
    pub fn seat(&self, words: &[&str], slave: &OwnedFd) -> Process {
        let stdin = stream(slave);
        self.command(words).first_launched_by(&SESSION).stdin(stdin).stdout(stream(slave)).spawn()
    }

    /// A command, about to be run.
    pub fn command(&self, words: &[&str]) -> Invocation<'_> {
        let dir = |below: &str| self.dir().join(below).display().to_string();
        let holder = self.holder.as_ref().map_or(0, Process::pid).to_string();
        let configuration = format!("CONTAINERS_CONF={}", dir("containers.conf"));
        let enter = ["nsenter", "--target", &holder, "--mount", "--net", "--", "env", &configuration];
        let mut launcher = enter.map(str::to_owned).to_vec();
        if self.is_users {
            let own = [format!("HOME={}", dir("home")), format!("XDG_RUNTIME_DIR={}", dir("runtime"))];
            launcher.extend(own);
            let become_user =
                ["setpriv", &format!("--reuid={USER}"), &format!("--regid={USER}"), "--clear-groups"];
            launcher.extend(become_user.map(str::to_owned));
        }
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

    /// `podman VERB` with the flag that puts the container's groups below ours; an ordinary user's container has none, and
    /// is known by its environment, if it is no pod.
    pub fn make(&self, verb: &[&str], words: &[&str]) -> Output {
        let (parent, marker) = (format!("/{}", self.id()), format!("{MARKER}={}", self.id()));
        let flag = match (self.is_users, verb) {
            (false, _) => ["--cgroup-parent", &parent],
            (true, ["run" | "create", ..]) => ["--env", &marker],
            (true, _) => ["--log-level", "error"],
        };
        self.call(&[verb, &flag, words].concat())
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
        if self.is_users {
            self.end_pause();
        }
        let groups = groups(self.id());
        for group in &groups {
            await_end(&group.join("conmon"));
        }
        if let Some(holder) = self.holder.take() {
            let state = format!("/proc/{}/root/run/cofferdam", holder.pid());
            // What begins with a dot is no container's.
            let is_containers = |entry: &PathBuf| !entry.to_string_lossy().contains("/.");
            let left: Vec<_> = entries(Path::new(&state)).filter(is_containers).collect();
            assert!(left.is_empty(), "the runtime remembers what podman removed: {left:?}");
        }
        // These are podman's own, for conmon and for pods, and it leaves them. What a container leaves in them keeps
        // them, and is found.
        for group in groups {
            for own in entries(&group).filter(|own| is_podmans(own)).chain([group.clone()]) {
                fs::remove_dir(own).unwrap_or_default();
            }
        }
    }
}

impl Podman {
    /// Ends the process that holds an ordinary user's user namespace from one command of his to the next.
    fn end_pause(&self) {
        let file = self.dir().join("tmp/pause.pid");
        let pid = fs::read_to_string(&file).ok().and_then(|text| Pid::from_raw(text.trim().parse().ok()?));
        let Some(pid) = pid else { panic!("{}: no process holds the user namespace", file.display()) };
        let ended =
            pidfd_open(pid, PidfdFlags::empty()).and_then(|pidfd| pidfd_send_signal(pidfd, Signal::KILL));
        ended.expect("end the process that holds the user namespace");
    }
}

fn entries(dir: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// Where groups of this name are, or were, at the top of each hierarchy.
fn groups(name: &str) -> Vec<PathBuf> {
    entries(Path::new("/sys/fs/cgroup")).map(|hierarchy| hierarchy.join(name)).collect()
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
