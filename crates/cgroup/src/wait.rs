//! Waiting: for the kernel's event where it has one, and by a bounded back-off where it has none.

use std::os::fd::OwnedFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use sys::{Called, Errno, Failed};

use crate::place::Place;

/// How long processes get to die or to stop.
const PATIENCE: Duration = Duration::from_secs(10);

/// When patience ends.
#[derive(Debug)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    pub(crate) fn start() -> Self {
        Self(Instant::now() + PATIENCE)
    }

    fn left(&self) -> Option<Duration> {
        Some(self.0.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
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
            let Some(left) = deadline.left() else {
                return Err(Failed::call("poll(cgroup.events)", Errno::TIMEDOUT));
            };
            let left = Timespec::try_from(left).map_err(|_| Errno::INVAL).called(|| "poll(cgroup.events)")?;
            match poll(&mut [PollFd::new(&self.0, PollFlags::PRI)], Some(&left)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(Failed::call("poll(cgroup.events)", errno)),
            }
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
}

impl Missing {
    pub(crate) fn back_off(self) -> BackOff {
        BackOff { missing: self, deadline: Deadline::start(), next: Duration::from_micros(50) }
    }
}

/// Pauses that double, from 50 µs to 16 ms, until patience ends.
#[derive(Debug)]
pub(crate) struct BackOff {
    missing: Missing,
    deadline: Deadline,
    next: Duration,
}

impl BackOff {
    pub(crate) fn pause(&mut self) -> Result<(), Failed> {
        let Some(left) = self.deadline.left() else {
            let what = match self.missing {
                Missing::FreezingOnV1 => "the processes do not freeze",
                Missing::EmptinessOnV1 => "the processes do not go away",
            };
            return Err(Failed::call(what, Errno::TIMEDOUT));
        };
        sleep(self.next.min(left));
        self.next = (self.next * 2).min(Duration::from_millis(16));
        Ok(())
    }
}
