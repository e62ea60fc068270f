//! A containerd of a test's own, in a mount namespace of its own, with the shim of the test's choice where it looks first.
//!
//! Everything of it lies in a bundle's directory and in a /run that is nobody else's; its namespace is the bundle's name. The
//! image `box` is the bundle's root file system, imported as an OCI layout.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::{Value, json};

use crate::pty::{SESSION, stream};
use crate::runtime::{Invocation, Output, Process};
use crate::{Apart, Bundle, LIMIT, Lines, Runtime, Shim, channel, groups, patience};

/// The image's name.
pub const IMAGE: &str = "docker.io/library/box:latest";

/// Which containerd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// Debian bookworm's 1.6, installed.
    Bookworm,
    /// Debian trixie's 1.7, as `script/containerd-peers` unpacked it.
    Trixie,
    /// The newest that Debian has, in sid, likewise.
    Sid,
}

impl Age {
    /// Where its programs are.
    pub fn bin(self) -> PathBuf {
        let cache = std::env::var_os("COFFERDAM_CACHE").unwrap_or_else(|| "/var/cache/cofferdam".into());
        let beside = Path::new(&cache).join("containerd");
        match self {
            Self::Bookworm => "/usr/bin".into(),
            Self::Trixie => beside.join("trixie"),
            Self::Sid => beside.join("sid"),
        }
    }
}

/// What a test of tasks has no use for. Names that a version does not know do no harm.
const UNUSED: &[&str] = &[
    "io.containerd.grpc.v1.cri",
    "io.containerd.cri.v1.images",
    "io.containerd.cri.v1.runtime",
    "io.containerd.podsandbox.controller.v1.podsandbox",
    "io.containerd.internal.v1.opt",
    "io.containerd.internal.v1.tracing",
    "io.containerd.tracing.processor.v1.otlp",
    "io.containerd.nri.v1.nri",
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.blockfile",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.erofs",
    "io.containerd.snapshotter.v1.zfs",
];

/// A containerd that runs as long as this value.
#[derive(Debug)]
pub struct Containerd {
    // Ended before the bundle looks for what is left.
    daemon: Option<Process>,
    notice: UnixDatagram,
    apart: Apart,
    bundle: Bundle,
    age: Age,
    shim: Shim,
}

impl Containerd {
    /// Starts one of this age, whose tasks this shim serves.
    pub fn with(age: Age, shim: &Shim, name: &str) -> Self {
        // containerd's own shims are made for the containerd of their age.
        let shim = &if shim.is_stock() { Shim::stock_of(age) } else { shim.clone() };
        let bundle = Bundle::new(name);
        let bin = bundle.dir().join("bin");
        fs::create_dir(&bin).expect("make a folder for PATH");
        symlink(shim.program(), bin.join(shim.file_name())).expect("link the shim");
        let dir = |below: &str| bundle.dir().join(below).display().to_string();
        let configuration = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = {UNUSED:?}\n\
             [grpc]\naddress = {:?}\n[ttrpc]\naddress = {:?}\n[debug]\nlevel = \"info\"\n\
             [plugins.\"io.containerd.internal.v1.opt\"]\npath = {:?}\n",
            dir("root"),
            dir("run/state"),
            dir("c.sock"),
            dir("c.sock.ttrpc"),
            dir("opt"),
        );
        fs::create_dir(bundle.dir().join("conf")).expect("make a directory");
        fs::write(bundle.dir().join("conf/config.toml"), configuration).expect("write its configuration");
        let notice = UnixDatagram::bind(bundle.dir().join("notice")).expect("bind a socket for readiness");
        notice.set_read_timeout(Some(LIMIT * patience())).expect("limit the wait for readiness");
        let apart = Apart::of(&bundle);
        let mut containerd = Self { daemon: None, notice, apart, bundle, age, shim: shim.clone() };
        containerd.start();
        let layout = layout(&containerd.bundle.dir().join("layout"), &containerd.bundle.rootfs());
        containerd.import(&layout);
        containerd
    }

    /// Starts the daemon, and waits until it says that it is ready.
    pub fn start(&mut self) {
        let dir = self.dir();
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("PATH={}:{}:{path}", dir.join("bin").display(), self.age.bin().display());
        let socket = format!("NOTIFY_SOCKET={}", dir.join("notice").display());
        let mut launcher = self.apart.launcher(dir);
        launcher.extend([socket, path]);
        let configuration = dir.join("conf/config.toml").display().to_string();
        let daemon = Runtime::at(&self.age.bin().join("containerd"))
            .command(&self.bundle, &["--config", &configuration])
            .without_globals()
            .launched_by(&launcher)
            .spawn();
        let mut word = [0; 256];
        loop {
            let heard = self.notice.recv(&mut word);
            let length = heard.unwrap_or_else(|error| {
                panic!("containerd is not ready: {error}\n{}", daemon.complaint());
            });
            if word[..length].starts_with(b"READY=1") {
                break;
            }
        }
        self.daemon = Some(daemon);
    }

    /// Ends the daemon by this signal, and nothing else: shims and containers live on.
    pub fn stop(&mut self, signal: Signal) {
        let Some(daemon) = self.daemon.take() else { return };
        daemon.signal(signal);
        if let Err(killed) = daemon.outcome() {
            assert!(std::thread::panicking(), "containerd did not end:\n{killed}");
        }
    }

    fn import(&self, layout: &Path) {
        let path = layout.display().to_string();
        self.ctr(&["images", "import", &path]).within(LIMIT * 4).run().success();
    }

    /// Imports the root file system in this directory as an image.
    pub fn import_rootfs(&self, rootfs: &Path) {
        self.import(&layout_of(&self.dir().join("layout-more"), rootfs, "docker.io/library/more:latest"));
    }

    /// The directory of all that is its own.
    pub fn dir(&self) -> &Path {
        self.bundle.dir()
    }

    /// Its namespace, and the name that all that is its own carries.
    pub fn id(&self) -> &str {
        self.bundle.id()
    }

    /// Where it runs.
    pub fn apart(&self) -> &Apart {
        &self.apart
    }

    /// A line for its client, about to be run.
    pub fn ctr(&self, words: &[&str]) -> Invocation<'_> {
        Runtime::at(&self.age.bin().join("ctr"))
            .command(&self.bundle, words)
            .without_globals()
            .global("--address")
            .global(self.dir().join("c.sock"))
            .global("--namespace")
            .global(self.id())
            .launched_by(&self.apart.launcher(self.dir()))
    }

    /// Runs the client to its end.
    pub fn call(&self, words: &[&str]) -> Output {
        self.ctr(words).run()
    }

    /// `ctr run` of a line for the shell in the image, by the shim under test, after these flags.
    pub fn shell(&self, flags: &[&str], id: &str, line: &str) -> Output {
        self.running(flags, id, line).run()
    }

    /// The same, about to be run.
    pub fn running(&self, flags: &[&str], id: &str, line: &str) -> Invocation<'_> {
        let runtime = self.shim.runtime();
        let words = [&["run", "--runtime", &runtime], flags, &[IMAGE, id, "/bin/sh", "-c", line]].concat();
        self.ctr(&words)
    }

    /// Puts the client in front of a terminal, which is its session's own.
    pub fn seat(&self, command: Invocation<'_>, slave: &OwnedFd) -> Process {
        command.first_launched_by(&SESSION).stdin(stream(slave)).stdout(stream(slave)).spawn()
    }

    /// The status and the pid that `ctr tasks ls` shows of a task.
    pub fn task(&self, id: &str) -> Option<(String, i32)> {
        let output = self.call(&["tasks", "ls"]);
        let rows = output.success().stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let row = rows.into_iter().find(|row| row.first() == Some(&id))?;
        Some((row[2].to_owned(), row[1].parse().expect("a pid")))
    }

    /// The processes that are shims of this containerd.
    pub fn shims(&self) -> Vec<i32> {
        processes_of(self.id(), self.shim.file_name())
    }

    /// Listens to events until the returned value goes. What is told from now on is heard.
    pub fn events(&self) -> Heard {
        let (lines, stdout) = channel();
        let process = self.ctr(&["events"]).stdout(stdout).spawn();
        // Nobody says when a subscription stands: something is done, again and again, until it is heard.
        let mut number = 0;
        loop {
            number += 1;
            self.call(&["images", "label", IMAGE, &format!("number={number}")]).success();
            if lines.has_within(Duration::from_millis(200)) {
                break;
            }
            assert!(number < 100, "ctr events hears nothing: {}", process.complaint());
        }
        Heard { lines, _process: process }
    }

    /// What it has logged since it was started last.
    pub fn log(&self) -> String {
        self.daemon.as_ref().map(Process::complaint).unwrap_or_default()
    }

    /// Fails the test if something of a task is left: mounts, files below /run/containerd, shims.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        let left = self.apart.left();
        let shims = self.shims();
        assert!(left.is_empty() && shims.is_empty(), "left behind: shims {shims:?}\n  {}", left.join("\n  "));
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let panicking = std::thread::panicking();
        if panicking {
            eprintln!("containerd:\n{}", self.log());
        }
        self.stop(Signal::TERM);
        groups::forget(self.id());
        if !panicking {
            self.assert_nothing_left();
        }
    }
}

/// What `ctr events` tells.
#[derive(Debug)]
pub struct Heard {
    lines: Lines,
    _process: Process,
}

impl Heard {
    /// The next event of a task: its topic below /tasks/, and what it tells.
    pub fn one(&mut self) -> (String, Value) {
        loop {
            let line = self.lines.next_within(LIMIT).expect("ctr tells what happens");
            let Some((_, event)) = line.split_once(" /tasks/") else { continue };
            let (topic, told) = event.split_once(' ').expect("a topic and what it tells");
            return (topic.to_owned(), serde_json::from_str(told).expect("an event is JSON"));
        }
    }

    /// The topics of what comes, up to this one; with each the process it is about, if that is an exec.
    pub fn until(&mut self, last: &str) -> Vec<String> {
        let mut topics = Vec::new();
        loop {
            let (topic, told) = self.one();
            let container = told["container_id"].as_str().unwrap_or_default();
            let exec = told["exec_id"].as_str().or(told["id"].as_str()).filter(|exec| *exec != container);
            topics.push(exec.map_or(topic.clone(), |exec| format!("{topic}:{exec}")));
            if topics.last().is_some_and(|topic| topic == last) {
                return topics;
            }
        }
    }
}

/// Sends a signal to a process by its number.
pub fn signal(pid: i32, signal: Signal) {
    let pid = Pid::from_raw(pid).expect("a process has a number above 0");
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("it lives");
    pidfd_send_signal(pidfd, signal).expect("it is ours");
}

/// The processes of this name with this marker in their environment.
pub fn processes_of(marker: &str, name: &str) -> Vec<i32> {
    let wanted = format!("{}={marker}", crate::MARKER);
    let all = fs::read_dir("/proc").expect("read /proc").flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| {
            let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let (environ, line) = (read("environ"), read("cmdline"));
            let program = line.split(|byte| *byte == 0).next().unwrap_or_default();
            program.ends_with(name.as_bytes())
                && environ.split(|byte| *byte == 0).any(|one| one == wanted.as_bytes())
        })
        .collect()
}

/// An OCI layout as an archive, whose one image `box` is this root file system.
fn layout(dir: &Path, rootfs: &Path) -> PathBuf {
    layout_of(dir, rootfs, IMAGE)
}

fn layout_of(dir: &Path, rootfs: &Path, name: &str) -> PathBuf {
    let blobs = dir.join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("make a layout");
    let layer = dir.join("layer");
    tar(rootfs, &layer);
    let kind = |kind: &str| format!("application/vnd.oci.image.{kind}");
    let layer = keep(&blobs, &layer, &kind("layer.v1.tar"));
    let written = |value: &Value| {
        let path = dir.join("written");
        fs::write(&path, value.to_string()).expect("write a document");
        path
    };
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }, "os": "linux",
        "config": {"Env": [path], "Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
    });
    let config = keep(&blobs, &written(&config), &kind("config.v1+json"));
    let manifest = json!({
        "schemaVersion": 2, "mediaType": kind("manifest.v1+json"), "config": config, "layers": [layer],
    });
    let mut manifest = keep(&blobs, &written(&manifest), &kind("manifest.v1+json"));
    manifest["annotations"] = json!({"io.containerd.image.name": name});
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    fs::write(dir.join("index.json"), index.to_string()).expect("write the index");
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("write the layout's mark");
    let archive = dir.with_extension("tar");
    tar(dir, &archive);
    archive
}

/// Moves a file among the blobs; its descriptor.
fn keep(blobs: &Path, file: &Path, kind: &str) -> Value {
    let told = Command::new("sha256sum").arg(file).output().expect("run sha256sum").stdout;
    let digest = String::from_utf8_lossy(&told[..64]).into_owned();
    let size = file.metadata().expect("it is there").len();
    fs::rename(file, blobs.join(&digest)).expect("move a blob");
    json!({"mediaType": kind, "digest": format!("sha256:{digest}"), "size": size})
}

fn tar(dir: &Path, archive: &Path) {
    let mut command = Command::new("tar");
    command.args(["--create", "--file"]).arg(archive).arg("--directory").arg(dir).arg("--one-file-system");
    assert!(command.arg(".").status().expect("run tar").success(), "pack {}", dir.display());
}
