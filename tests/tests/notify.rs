//! A service manager that wants to hear when the program is ready (sd_notify(3)): who hears what, and when.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::io::{IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::Signal;
use tests::{Bundle, LIMIT, Lines, Process, Runtime, Snapshot, channel, needs, ready_within};

/// The socket that systemd would listen at.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn new(bundle: &Bundle) -> Self {
        let path = bundle.dir().join("manager");
        Self { socket: UnixDatagram::bind(&path).expect("listen"), path }
    }

    /// How a service manager starts its services: with the address in their environment.
    fn launcher(&self) -> [String; 2] {
        ["env".to_owned(), format!("NOTIFY_SOCKET={}", self.path.display())]
    }

    /// The next message, with what came beside it.
    fn hears(&self) -> (String, Vec<OwnedFd>) {
        assert!(ready_within(&self.socket, LIMIT), "nothing is said");
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut words = [0; 4096];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let told =
            recvmsg(&self.socket, &mut [IoSliceMut::new(&mut words)], &mut ancillary, flags).expect("hear");
        let fds = ancillary.drain().flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => fds.collect(),
            _ => Vec::new(),
        });
        (String::from_utf8_lossy(&words[..told.bytes]).into_owned(), fds.collect())
    }

    fn is_quiet(&self) -> bool {
        self.socket.set_nonblocking(true).expect("do not wait");
        let quiet = self.socket.recv(&mut [0; 64]).is_err();
        self.socket.set_nonblocking(false).expect("wait again");
        quiet
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        fs::remove_file(&self.path).expect("remove the socket");
    }
}

/// A program that shows where it would speak, and ends when something is written into its pipe. The test speaks in its
/// place, through the container's own mounts: busybox cannot.
struct Speaker {
    bundle: Bundle,
    pipe: fs::File,
}

impl Speaker {
    fn new(name: &str) -> Self {
        let look = "stat -c '%F %a' $NOTIFY_SOCKET; grep -c '/run/notify ro,nosuid,nodev,noexec' /proc/self/mountinfo";
        let bundle =
            Bundle::new(name).shell(&format!("{look}; echo $NOTIFY_SOCKET; read end < /pipe; exit 3"));
        let path = bundle.rootfs().join("pipe");
        mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o666), 0).expect("make a pipe");
        let pipe = fs::File::options().read(true).write(true).open(&path).expect("open the pipe");
        Self { bundle, pipe }
    }

    fn says(pid: i32, words: &str) {
        let socket = UnixDatagram::unbound().expect("a socket");
        let there = format!("/proc/{pid}/root/run/notify/notify.sock");
        socket.send_to(words.as_bytes(), there).expect("speak");
    }

    fn ends(&self) {
        (&self.pipe).write_all(b"end\n").expect("write");
    }
}

const SHOWN: [&str; 3] = ["socket 777", "1", "/run/notify/notify.sock"];

fn see(lines: &mut Lines) {
    for shown in SHOWN {
        assert_eq!(lines.next_within(LIMIT).as_deref(), Some(shown));
    }
}

fn assert_runs(process: &Process, why: &str) {
    assert!(!ready_within(process, Duration::ZERO), "{why}: {}", process.complaint());
}

/// In the foreground we stay, and are whom the service manager watches.
#[test]
fn root_run_passes_on_that_the_program_is_ready() {
    needs!(Root, Busybox);
    let speaker = Speaker::new("foreground");
    let before = Snapshot::take(&speaker.bundle);
    let manager = Manager::new(&speaker.bundle);
    let (mut lines, stdout) = channel();
    let container = speaker.bundle.container(&Runtime::under_test());
    let command = container.command(&["run", "--bundle", "BUNDLE", "ID"]);
    let run = command.launched_by(&manager.launcher()).stdout(stdout).spawn();
    see(&mut lines);
    let pid = container.pid().expect("it runs");
    Speaker::says(pid, "STATUS=not yet");
    Speaker::says(pid, "READY=1\nMAINPID=1\nSTATUS=mine");
    assert_eq!(manager.hears().0, "READY=1\n");
    assert_eq!(manager.hears().0, format!("MAINPID={}\n", run.pid()));
    // The rest of its life it may speak, and nobody is told.
    Speaker::says(pid, "READY=1");
    run.signal(Signal::WINCH);
    assert_eq!(container.status().as_deref(), Some("running"));
    speaker.ends();
    run.wait().code(3);
    assert!(manager.is_quiet());
    drop(manager);
    before.assert_same();
}

/// Detached, it waits for the program, and for the service manager to have heard it: that one closes what it was sent.
#[test]
fn root_whoever_leaves_waits_until_the_service_manager_has_heard() {
    needs!(Root, Busybox);
    for verb in ["run", "start"] {
        let speaker = Speaker::new("leaves");
        let before = Snapshot::take(&speaker.bundle);
        let manager = Manager::new(&speaker.bundle);
        let (mut lines, stdout) = channel();
        let container = speaker.bundle.container(&Runtime::under_test());
        let process = if verb == "run" {
            let command = container.command(&["run", "--detach", "--bundle", "BUNDLE", "ID"]);
            command.launched_by(&manager.launcher()).stdout(stdout).spawn()
        } else {
            let command = container.command(&["create", "--bundle", "BUNDLE", "ID"]);
            command.launched_by(&manager.launcher()).stdout(stdout).run().success();
            container.command(&["start", "ID"]).launched_by(&manager.launcher()).spawn()
        };
        see(&mut lines);
        assert_runs(&process, "the program is not ready");
        let pid = container.pid().expect("it runs");
        // Whoever waits for the program holds nobody else up.
        container.call(&["exec", "ID", "true"]).success();
        Speaker::says(pid, "READY=1");
        assert_eq!(manager.hears().0, "READY=1\n");
        assert_eq!(manager.hears().0, format!("MAINPID={pid}\n"));
        let (barrier, fds) = manager.hears();
        assert_eq!((barrier.as_str(), fds.len()), ("BARRIER=1", 1));
        assert_runs(&process, "the service manager has not heard");
        drop(fds);
        process.wait().code(0);
        speaker.ends();
        assert!(container.ended());
        container.delete().success();
        drop(manager);
        before.assert_same();
    }
}

/// A program that never says that it is ready ends the waiting when it ends.
#[test]
fn root_a_program_that_says_nothing_may_end() {
    needs!(Root, Busybox);
    let speaker = Speaker::new("silent");
    let manager = Manager::new(&speaker.bundle);
    let (mut lines, stdout) = channel();
    let container = speaker.bundle.container(&Runtime::under_test());
    let command = container.command(&["run", "--detach", "--bundle", "BUNDLE", "ID"]);
    let run = command.launched_by(&manager.launcher()).stdout(stdout).spawn();
    see(&mut lines);
    speaker.ends();
    run.wait().code(0);
    assert!(manager.is_quiet());
    container.delete().success();
}

/// A container that was created without a service manager does not know of one; and a service manager that is not there
/// keeps nobody from running.
#[test]
fn root_one_without_the_other() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("without").shell("echo \"<$NOTIFY_SOCKET>\"; exec sleep 1000");
    let before = Snapshot::take(&bundle);
    let manager = Manager::new(&bundle);
    let container = bundle.container(&Runtime::under_test());
    container.create().success();
    container.command(&["start", "ID"]).launched_by(&manager.launcher()).run().success();
    container.delete_force().success();

    let nobody = ["env", "NOTIFY_SOCKET=/nonexistent/manager"];
    let run = container.command(&["run", "--detach", "--bundle", "BUNDLE", "ID"]).launched_by(&nobody).run();
    assert!(run.success().stderr.contains("reach the service manager at NOTIFY_SOCKET"), "{run}");
    container.delete_force().success();
    drop(manager);
    before.assert_same();
}
