//! Throw-away bundles: a directory with a busybox root file system and a config.json.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use crate::snapshot::{self, Snapshot};
use crate::{Container, MARKER, Runtime, copy_program};

/// The names that busybox answers to in a bundle's /bin.
const APPLETS: &[&str] = &[
    "[", "cat", "chmod", "chown", "cp", "cut", "dd", "df", "echo", "env", "false", "find", "free", "grep",
    "head", "hostname", "httpd", "id", "ifconfig", "ionice", "ip", "ipcs", "kill", "ln", "ls", "mkdir",
    "mkfifo", "mknod", "mount", "mv", "nc", "nproc", "pgrep", "ps", "pwd", "readlink", "rm", "rmdir", "sed",
    "seq", "sh", "sleep", "sort", "stat", "stty", "su", "tail", "test", "timeout", "top", "touch", "tr",
    "true", "tty", "ulimit", "umount", "uname", "wc", "wget", "whoami", "xargs", "yes",
];

/// A bundle that lives as long as this value. When it goes, whatever still carries its name is removed, and the test
/// fails if there was something besides the bundle's own directory.
#[derive(Debug)]
pub struct Bundle {
    id: String,
    dir: PathBuf,
    config: Value,
    layer: Option<PathBuf>,
    containers: AtomicU32,
    may_leave: bool,
}

impl Bundle {
    /// A bundle with runc's default configuration, without terminal, and `/bin/true` to run. `name` is for people.
    pub fn new(name: &str) -> Self {
        let mut bundle = Self::bare(name);
        let bin = bundle.rootfs().join("bin");
        for dir in ["bin", "dev", "etc", "proc", "sys", "tmp", "root", "run", "var"] {
            fs::create_dir(bundle.rootfs().join(dir)).expect("make the root file system");
        }
        // A copy, not a link: what a hostile test writes to its busybox stays its own.
        copy_program("/bin/busybox", bin.join("busybox"));
        for applet in APPLETS {
            symlink("busybox", bin.join(applet)).expect("link a busybox applet");
        }
        let etc = bundle.rootfs().join("etc");
        fs::write(
            etc.join("passwd"),
            "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
        )
        .expect("write passwd");
        fs::write(etc.join("group"), "root:x:0:\nnogroup:x:65534:\n").expect("write group");
        bundle.config["process"]["args"] = json!(["/bin/true"]);
        bundle.write();
        bundle
    }

    /// A bundle whose root file system is a writable layer over the directory `lower`, which stays as it is. The
    /// overlay is mounted in a mount namespace that the runtime alone runs in: the host never sees it.
    pub fn over(lower: &Path, name: &str) -> Self {
        let mut bundle = Self::bare(name);
        for dir in ["upper", "work"] {
            fs::create_dir(bundle.dir.join(dir)).expect("make the layer");
        }
        bundle.layer = Some(lower.to_owned());
        bundle.edit(|config| config["root"]["readonly"] = json!(false))
    }

    fn bare(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = format!("cdt-{}-{count}-{name}", std::process::id());
        let dir = std::env::temp_dir().join(&id);
        fs::DirBuilder::new().mode(0o755).create(&dir).expect("make the bundle's directory");
        for inner in ["rootfs", "output"] {
            fs::create_dir(dir.join(inner)).expect("make the bundle's directories");
        }
        let config = default_config(&id);
        let bundle = Self { id, dir, config, layer: None, containers: AtomicU32::new(0), may_leave: false };
        bundle.write();
        bundle
    }

    /// What everything of this bundle carries in its name; also the id of its first container.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The bundle's directory, for `--bundle`.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The root file system, on the host.
    pub fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    /// The directory for `--root`: each bundle has a state root of its own, made by the runtime.
    pub fn state_root(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// The root file system as an archive, for those who import images.
    pub(crate) fn pack(&self) -> PathBuf {
        let archive = self.dir.join("rootfs.tar");
        let packed = Command::new("tar")
            .args(["--create", "--file"])
            .arg(&archive)
            .arg("--directory")
            .arg(self.rootfs())
            .arg(".")
            .status();
        assert!(packed.expect("run tar").success(), "pack the root file system");
        archive
    }

    /// Where the output of commands is kept.
    pub(crate) fn outputs(&self) -> PathBuf {
        self.dir.join("output")
    }

    /// The directory that an overlay is laid over, if this is such a bundle.
    pub(crate) fn layer(&self) -> Option<&Path> {
        self.layer.as_deref()
    }

    /// The configuration as it stands in config.json.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// Changes the configuration, and writes it.
    #[must_use]
    pub fn edit(mut self, change: impl FnOnce(&mut Value)) -> Self {
        self.change(change);
        self
    }

    /// Changes the configuration of a bundle already in use.
    pub fn change(&mut self, change: impl FnOnce(&mut Value)) {
        change(&mut self.config);
        self.write();
    }

    /// The program and its arguments.
    #[must_use]
    pub fn args(self, args: &[&str]) -> Self {
        self.edit(|config| config["process"]["args"] = json!(args))
    }

    /// A line for the shell, in place of program and arguments.
    #[must_use]
    pub fn shell(self, line: &str) -> Self {
        self.args(&["/bin/sh", "-c", line])
    }

    /// One more variable, `NAME=VALUE`.
    #[must_use]
    pub fn env(self, variable: &str) -> Self {
        self.edit(|config| push(&mut config["process"]["env"], json!(variable)))
    }

    /// One more mount, after those of the default.
    #[must_use]
    pub fn mount(self, destination: &str, kind: &str, source: &str, options: &[&str]) -> Self {
        let mount = json!({"destination": destination, "type": kind, "source": source, "options": options});
        self.edit(|config| push(&mut config["mounts"], mount))
    }

    /// One more capability, in all sets that the default has.
    #[must_use]
    pub fn cap(self, name: &str) -> Self {
        self.edit(|config| {
            for set in ["bounding", "effective", "permitted"] {
                push(&mut config["process"]["capabilities"][set], json!(name));
            }
        })
    }

    /// One more namespace; leaves it be if it is there.
    #[must_use]
    pub fn namespace(self, kind: &str) -> Self {
        let entry = json!({"type": kind});
        self.edit(|config| {
            let list = config["linux"]["namespaces"].as_array_mut().expect("the default has namespaces");
            if !list.contains(&entry) {
                list.push(entry);
            }
        })
    }

    /// Makes a user and group of the host the owner of the root file system, as whoever maps ids to it would.
    #[must_use]
    pub fn given_to(self, id: u32) -> Self {
        give(&self.rootfs(), id);
        self
    }

    /// Says that something may be left behind, as by a runtime that is not under test: it is removed without a word.
    #[must_use]
    pub fn may_leave(mut self) -> Self {
        self.may_leave = true;
        self
    }

    /// The bundle's first container, to be handled by `runtime`; its id is the bundle's.
    pub fn container<'a>(&'a self, runtime: &Runtime) -> Container<'a> {
        Container::new(runtime.clone(), self, self.id.clone())
    }

    /// One more container of this bundle, with an id of its own.
    pub fn another<'a>(&'a self, runtime: &Runtime) -> Container<'a> {
        let count = self.containers.fetch_add(1, Ordering::Relaxed);
        Container::new(runtime.clone(), self, format!("{}.{count}", self.id))
    }

    /// Looks for whatever of this bundle outlived its containers, and fails if there is something.
    pub fn assert_nothing_left(&self) {
        let left = Snapshot::take(self).lines();
        assert!(left.is_empty(), "{}: left behind:\n  {}", self.id, left.join("\n  "));
    }

    fn write(&self) {
        let text = serde_json::to_string_pretty(&self.config).expect("a value is always JSON");
        fs::write(self.dir.join("config.json"), text).expect("write config.json");
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let left = if self.may_leave { Vec::new() } else { Snapshot::take(self).lines() };
        snapshot::sweep(self);
        fs::remove_dir_all(&self.dir).expect("remove the bundle's directory");
        // A test that fails already has said what matters; a second panic would end all tests.
        if !std::thread::panicking() {
            assert!(left.is_empty(), "{}: left behind:\n  {}", self.id, left.join("\n  "));
        }
    }
}

fn give(path: &Path, id: u32) {
    lchown(path, Some(id), Some(id)).expect("give it away");
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path).expect("a directory") {
            give(&entry.expect("an entry").path(), id);
        }
    }
}

fn push(list: &mut Value, entry: Value) {
    match list {
        Value::Array(entries) => entries.push(entry),
        other => *other = json!([entry]),
    }
}

/// What `runc spec` writes, without a terminal and with our marker in the environment.
fn default_config(marker: &str) -> Value {
    let caps = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": source, "options": options});
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "TERM=xterm",
                format!("{MARKER}={marker}"),
            ],
            "cwd": "/",
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "cofferdam",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", "devpts",
                &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
        ],
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}
