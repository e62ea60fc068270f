//! What happens to a container's groups, as descriptors to wait for: memory ran out; the last process is gone.
//!
//! Whoever waits does it in one poll(2) with what else he waits for: [`Watch::sources`] tells what for, and
//! [`Watch::take`] what it was. Nothing is lost on who is slow: the kernel counts.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use plan::cgroup::Version;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::OFlags;
use sys::{Called, Doing, Errno, Failed};

use crate::place::is_gone;
use crate::read::value_of;
use crate::{Cgroup, Group};

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The limit of memory was reached and nothing could be reclaimed.
    OutOfMemory,
    /// The last process is gone, or the groups are. Nothing comes after this.
    Ended,
}

/// A watch over a container's groups, from when it is opened.
#[derive(Debug)]
pub struct Watch<'a> {
    memory: Option<Memory<'a>>,
    /// `cgroup.events` of the unified tree, which v1 has nothing like.
    population: Option<OwnedFd>,
    /// Told to be over.
    ended: bool,
    /// How often memory ran out and was not told yet.
    pending: u64,
}

/// Who tells that memory ran out.
#[derive(Debug)]
enum Memory<'a> {
    /// v1 signals an eventfd, and once more when the group is removed.
    V1 { signal: OwnedFd, group: &'a Group },
    /// v2 counts in a file, which can be polled.
    V2 { events: OwnedFd, killed: u64 },
}

/// How long the signal of a removal may come after the removal: by a work queue, behind a grace period of RCU. Only who
/// looks after the groups are gone, and finds a single signal, waits for this, most often for a part of it.
const REMOVAL: Duration = Duration::from_secs(1);

impl Cgroup {
    /// Begins to watch. What happened before is not told.
    pub fn watch(&self) -> Result<Watch<'_>, Failed> {
        let memory = match self.managing("memory") {
            None => None,
            Some(group) => Some(match group.version {
                Version::V1 => {
                    Memory::V1 { signal: group.signal_of_memory().doing(|| "watch memory")?, group }
                }
                Version::V2 => {
                    let events =
                        group.place.file("memory.events", OFlags::RDONLY).doing(|| "watch memory")?;
                    let killed = kills(&events)?.unwrap_or(0);
                    Memory::V2 { events, killed }
                }
            }),
        };
        let population =
            self.unified().map(|group| group.place.file("cgroup.events", OFlags::RDONLY)).transpose()?;
        Ok(Watch { memory, population, ended: false, pending: 0 })
    }
}

impl Group {
    /// An eventfd that is signalled when memory runs out (Documentation/admin-guide/cgroup-v1/memory.rst, 10).
    fn signal_of_memory(&self) -> Result<OwnedFd, Failed> {
        let signal = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).called(|| "eventfd(0)")?;
        let control = self.place.file("memory.oom_control", OFlags::RDONLY)?;
        let order = format!("{} {}", signal.as_raw_fd(), control.as_raw_fd());
        self.place.write("cgroup.event_control", &order)?;
        Ok(signal)
    }
}

impl Watch<'_> {
    /// Whether the watch itself tells that the last process is gone. Where it does not, v1 without the unified tree,
    /// it ends when the groups are removed, and who knows the processes may look earlier.
    pub fn tells_the_end(&self) -> bool {
        self.population.is_some()
    }

    /// What to wait for with poll(2).
    pub fn sources(&self) -> Vec<PollFd<'_>> {
        let memory = self.memory.as_ref().map(|memory| match memory {
            Memory::V1 { signal, .. } => PollFd::new(signal, PollFlags::IN),
            Memory::V2 { events, .. } => PollFd::new(events, PollFlags::PRI),
        });
        let population = self.population.as_ref().map(|events| PollFd::new(events, PollFlags::PRI));
        memory.into_iter().chain(population).collect()
    }

    /// What has happened and was not told yet; none where nothing has. Does not wait for something to happen.
    pub fn take(&mut self) -> Result<Option<Event>, Failed> {
        // Why the last process is gone comes before that it is.
        if self.pending == 0 && !self.ended {
            let is_over = self.is_over()?;
            self.pending = self.count()?;
            self.ended |= is_over;
        }
        if self.pending > 0 {
            self.pending -= 1;
            return Ok(Some(Event::OutOfMemory));
        }
        Ok(self.ended.then_some(Event::Ended))
    }

    fn is_over(&self) -> Result<bool, Failed> {
        let Some(events) = &self.population else { return Ok(false) };
        match text(events.as_fd(), "cgroup.events")? {
            Some(text) => Ok(value_of(&text, "populated") == Some(0)),
            None => Ok(true),
        }
    }

    /// How often memory ran out since this was asked.
    fn count(&mut self) -> Result<u64, Failed> {
        match &mut self.memory {
            None => Ok(0),
            Some(Memory::V1 { signal, group }) => {
                let count = signals(signal)?;
                if count == 0 || group.place.is_there(group.place.path())? {
                    return Ok(count);
                }
                self.ended = true;
                // One of the signals is that of the removal. A single one may be that, or one before it.
                if count == 1 && !comes_soon(signal)? {
                    return Ok(0);
                }
                Ok(count.max(2) - 1)
            }
            Some(Memory::V2 { events, killed }) => {
                let Some(now) = kills(events)? else {
                    self.ended = true;
                    return Ok(0);
                };
                let more = now.saturating_sub(*killed);
                *killed = now;
                Ok(more)
            }
        }
    }
}

/// How often an eventfd was signalled since it was read.
fn signals(signal: &OwnedFd) -> Result<u64, Failed> {
    let mut count = [0; 8];
    match rustix::io::read(signal, &mut count) {
        Ok(_) => Ok(u64::from_ne_bytes(count)),
        Err(Errno::AGAIN) => Ok(0),
        Err(errno) => Err(Failed::call("read(eventfd)", errno)),
    }
}

fn comes_soon(signal: &OwnedFd) -> Result<bool, Failed> {
    let limit = Timespec::try_from(REMOVAL).map_err(|_| Errno::INVAL).called(|| "poll(eventfd)")?;
    match poll(&mut [PollFd::new(signal, PollFlags::IN)], Some(&limit)) {
        Ok(count) => Ok(count > 0),
        Err(Errno::INTR) => Ok(false),
        Err(errno) => Err(Failed::call("poll(eventfd)", errno)),
    }
}

/// The count of `memory.events`; none once the group is gone.
fn kills(events: &OwnedFd) -> Result<Option<u64>, Failed> {
    Ok(text(events.as_fd(), "memory.events")?.map(|text| value_of(&text, "oom_kill").unwrap_or(0)))
}

/// A small file from its beginning, which also says that the change was seen; none once the group is gone.
fn text(file: BorrowedFd<'_>, name: &str) -> Result<Option<String>, Failed> {
    let mut text = [0; 1024];
    match rustix::io::pread(file, &mut text, 0).called(|| format!("read({name})")) {
        Ok(length) => Ok(Some(String::from_utf8_lossy(&text[..length]).into_owned())),
        Err(failed) if is_gone(&failed) => Ok(None),
        Err(failed) => Err(failed),
    }
}
