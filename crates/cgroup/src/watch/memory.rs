//! Memory ran out.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use plan::cgroup::Version;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd};
use rustix::fs::OFlags;
use sys::{Called, Doing, Failed};

use super::{Removal, text};
use crate::Group;
use crate::read::value_of;

/// Who tells it.
#[derive(Debug)]
pub(super) enum Memory<'a> {
    /// v1 signals an eventfd, and once more when the group is removed.
    V1 { signal: OwnedFd, group: &'a Group },
    /// v2 counts in a file, which can be polled.
    V2 { events: OwnedFd, killed: u64 },
}

impl<'a> Memory<'a> {
    pub(super) fn watch(group: &'a Group) -> Result<Self, Failed> {
        match group.version {
            Version::V1 => {
                group.signal_for("memory.oom_control", "").map(|signal| Self::V1 { signal, group })
            }
            Version::V2 => group.place.file("memory.events", OFlags::RDONLY).and_then(|events| {
                let killed = kills(&events)?.unwrap_or(0);
                Ok(Self::V2 { events, killed })
            }),
        }
        .doing(|| "watch memory")
    }

    pub(super) fn source(&self) -> PollFd<'_> {
        match self {
            Self::V1 { signal, .. } => PollFd::new(signal, PollFlags::IN),
            Self::V2 { events, .. } => PollFd::new(events, PollFlags::PRI),
        }
    }

    /// How often memory ran out since this was asked, and whether the group is gone.
    pub(super) fn count(&mut self, removal: &mut Removal) -> Result<(u64, bool), Failed> {
        match self {
            Self::V1 { signal, group } => removal.count(signal, group),
            Self::V2 { events, killed } => {
                let Some(now) = kills(events)? else { return Ok((0, true)) };
                let more = now.saturating_sub(*killed);
                *killed = now;
                Ok((more, false))
            }
        }
    }
}

/// The count of `memory.events`; none once the group is gone.
fn kills(events: &OwnedFd) -> Result<Option<u64>, Failed> {
    Ok(text(events.as_fd(), "memory.events")?.map(|text| value_of(&text, "oom_kill").unwrap_or(0)))
}

impl Group {
    /// An eventfd that is signalled when something happens that this file is about
    /// (Documentation/admin-guide/cgroup-v1/memory.rst, 9 to 11).
    pub(super) fn signal_for(&self, file: &str, arguments: &str) -> Result<OwnedFd, Failed> {
        let signal = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).called(|| "eventfd(0)")?;
        let source = self.place.file(file, OFlags::RDONLY)?;
        let order = format!("{} {} {arguments}", signal.as_raw_fd(), source.as_raw_fd());
        self.place.write("cgroup.event_control", order.trim_end())?;
        Ok(signal)
    }
}
