//! Waiting: for the kernel's event where it has one, and by a bounded back-off where it has none.

use std::os::fd::{AsFd, OwnedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use sys::{Called, Errno, Failed};

use crate::place::Place;

/// How long processes get to die or to stop.
const PATIENCE: Duration = Duration::from_secs(10);

/// When patience ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    pub(crate) fn start() -> Self {
        Self::after(PATIENCE)
    }

    pub(crate) fn after(patience: Duration) -> Self {
        Self(Instant::now() + patience)
    }

    pub(crate) fn is_over(self) -> bool {
        self.left().is_none()
    }

    fn left(self) -> Option<Duration> {
        Some(self.0.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
    }

    /// Waits until a descriptor may be ready; whoever finds that it is not waits again. `ETIMEDOUT` at the end.
    pub(crate) fn poll(self, fd: impl AsFd, flags: PollFlags, call: &str) -> Result<(), Failed> {
        let left = self.left().ok_or_else(|| Failed::call(call, Errno::TIMEDOUT))?;
        let left = Timespec::try_from(left).map_err(|_| Errno::INVAL).called(|| call)?;
        match poll(&mut [PollFd::new(&fd, flags)], Some(&left)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(Failed::call(call, errno)),
        }
    }
}

/// `cgroup.events` of a v2 group: the kernel wakes who polls it whenever it changes.
#[derive(Debug)]
pub(crate) struct Events(OwnedFd);

impl Events {
    pub(crate) fn open(place: &Place) -> Result<Self, Failed> {
        place.file("cgroup.events", OFlags::RDONLY).map(Self)
    }

    /// Waits until the file's text is as wished. A group that is removed meanwhile fails with `ENODEV`.
    pub(crate) fn wait(&self, deadline: &Deadline, wished: impl Fn(&str) -> bool) -> Result<(), Failed> {
        loop {
            let mut text = [0; 256];
            let length = rustix::io::pread(&self.0, &mut text, 0).called(|| "read(cgroup.events)")?;
            if wished(&String::from_utf8_lossy(&text[..length])) {
                return Ok(());
            }
            deadline.poll(&self.0, PollFlags::PRI, "poll(cgroup.events)")?;
        }
    }
}

/// Events that the kernel does not have. Every wait without one names what it misses.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Missing {
    /// v1 tells nobody when its last process is frozen.
    FreezingOnV1,
    /// v1 tells nobody when its last process is gone (but for `release_agent`, which is the whole host's).
    EmptinessOnV1,
    /// Nobody tells when there is room again in the queue of a listener, or when a service manager listens that executes
    /// itself anew, as it does when it is upgraded.
    ListenerOfBus,
}

impl Missing {
    pub(crate) fn back_off(self) -> BackOff {
        self.back_off_within(PATIENCE)
    }

    pub(crate) fn back_off_within(self, patience: Duration) -> BackOff {
        let (first, longest) = match self {
            Self::FreezingOnV1 | Self::EmptinessOnV1 => {
                (Duration::from_micros(50), Duration::from_millis(16))
            }
            Self::ListenerOfBus => (Duration::from_millis(1), Duration::from_millis(64)),
        };
        BackOff { missing: self, deadline: Deadline::after(patience), next: first, longest }
    }
}

/// Pauses that double up to the longest, until patience ends.
#[derive(Debug)]
pub(crate) struct BackOff {
    missing: Missing,
    deadline: Deadline,
    next: Duration,
    longest: Duration,
}

impl BackOff {
    pub(crate) fn pause(&mut self) -> Result<(), Failed> {
        let Some(left) = self.deadline.left() else {
            let what = match self.missing {
                Missing::FreezingOnV1 => "the processes do not freeze",
                Missing::EmptinessOnV1 => "the processes do not go away",
                Missing::ListenerOfBus => "nobody listens",
            };
            return Err(Failed::call(what, Errno::TIMEDOUT));
        };
        sleep(self.next.min(left));
        self.next = (self.next * 2).min(self.longest);
        Ok(())
    }
}
