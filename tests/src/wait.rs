//! Waiting on descriptors with an end to it: a test that would hang fails instead.
//!
//! Each limit is of a machine that runs at its own pace; on one that is computed by another, `COFFERDAM_PATIENCE` says
//! how many times as long to wait.

use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read};
use rustix::process::{Pid, PidfdFlags, pidfd_open, set_child_subreaper};

use crate::LIMIT;

/// True once `fd` is readable or hung up; false when `limit`, times the patience, went by first.
pub fn ready_within(fd: impl AsFd, limit: Duration) -> bool {
    let end = Instant::now() + limit * patience();
    loop {
        let left =
            Timespec::try_from(end.saturating_duration_since(Instant::now())).expect("a limit of seconds");
        let mut fds = [PollFd::new(&fd, PollFlags::IN)];
        match poll(&mut fds, Some(&left)) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(Errno::INTR) => {}
            Err(errno) => panic!("poll: {errno}"),
        }
    }
}

/// Asks again and again whether something holds that no descriptor tells of, at most as long as a command may take. What is
/// awaited is told where it does not come. Between two questions the processor is left to those who are waited for.
#[track_caller]
pub fn until<T: std::fmt::Display>(holds: impl Fn() -> bool, awaited: impl FnOnce() -> T) {
    let end = Instant::now() + LIMIT * patience();
    while !holds() {
        assert!(Instant::now() < end, "does not come: {}", awaited());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// How many times as long as elsewhere everything may take here.
pub fn patience() -> u32 {
    let told = std::env::var("COFFERDAM_PATIENCE");
    told.map_or(1, |told| told.parse().expect("COFFERDAM_PATIENCE is a number"))
}

/// True once the process `pid` has exited, reaped or not; false when it still runs after `limit`.
pub fn gone_within(pid: i32, limit: Duration) -> bool {
    let Some(pid) = Pid::from_raw(pid) else { return true };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => ready_within(pidfd, limit),
        Err(Errno::SRCH) => true,
        Err(errno) => panic!("pidfd_open({pid:?}): {errno}"),
    }
}

/// Makes orphans come to us, so that it is for the test to say when a container's init is reaped. The host's first process
/// takes its time, or none at all: then a kernel before 6.15 tells nobody else how it ended.
pub fn adopt() {
    set_child_subreaper(Pid::from_raw(1)).expect("prctl(PR_SET_CHILD_SUBREAPER)");
}

/// A pipe for what a container prints: the end to read here, the end to hand to [`crate::Invocation::stdout`].
pub fn channel() -> (Lines, Stdio) {
    let (reader, writer) = std::io::pipe().expect("pipe");
    (Lines { reader: reader.into(), seen: Vec::new() }, writer.into())
}

/// What a container prints, line by line, as events to wait for.
#[derive(Debug)]
pub struct Lines {
    reader: OwnedFd,
    seen: Vec<u8>,
}

impl From<OwnedFd> for Lines {
    fn from(reader: OwnedFd) -> Self {
        Self { reader, seen: Vec::new() }
    }
}

impl Lines {
    /// Whether there is something to tell, or nobody left who could write, within this limit.
    pub fn has_within(&self, limit: Duration) -> bool {
        !self.seen.is_empty() || ready_within(&self.reader, limit)
    }

    /// Everything until everybody who could write has gone, what was seen and not told included.
    pub fn rest_within(&mut self, limit: Duration) -> String {
        let end = Instant::now() + limit;
        let mut buffer = vec![0; 1 << 16];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let so_far = self.seen.len();
            assert!(ready_within(&self.reader, left), "no end within {limit:?}, after {so_far} bytes");
            match read(&self.reader, &mut buffer) {
                Ok(0) => return String::from_utf8_lossy(&std::mem::take(&mut self.seen)).into_owned(),
                Ok(count) => self.seen.extend_from_slice(&buffer[..count]),
                Err(errno) if errno.kind() == ErrorKind::Interrupted => {}
                Err(errno) => panic!("read: {errno}"),
            }
        }
    }

    /// The next whole line, without its end; none when everybody who could write has gone.
    pub fn next_within(&mut self, limit: Duration) -> Option<String> {
        loop {
            if let Some(end) = self.seen.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.seen.drain(..=end).collect();
                return Some(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            assert!(ready_within(&self.reader, limit), "nothing was printed within {limit:?}");
            let mut buffer = [0; 4096];
            match read(&self.reader, &mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.seen.extend_from_slice(&buffer[..count]),
                Err(errno) if errno.kind() == ErrorKind::Interrupted => {}
                Err(errno) => panic!("read: {errno}"),
            }
        }
    }
}
