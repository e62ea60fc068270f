//! What happens to a container's groups, as descriptors to wait for: memory ran out, or is hard to find; all were frozen;
//! the last process is gone.
//!
//! Whoever waits does it in one poll(2) with what else he waits for: [`Watch::sources`] tells what for, [`Watch::hear`]
//! is told the answers, and [`Watch::take`] tells what it was. Nothing is lost on who is slow: the kernel counts.

mod memory;
mod pressure;

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use sys::{Called, Errno, Failed};

use self::memory::Memory;
use self::pressure::{Levels, Stall};
use crate::place::is_gone;
use crate::read::value_of;
use crate::{Cgroup, Group};

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The limit of memory was reached and nothing could be reclaimed.
    OutOfMemory,
    /// Memory is hard to find.
    Pressure {
        /// How hard.
        strain: Strain,
        /// How often the kernel has said so since it was told last.
        times: u64,
    },
    /// All processes are frozen (v2; v1 has no event for it).
    Frozen,
    /// They are not frozen any more.
    Thawed,
    /// The last process is gone, or the groups are. Nothing comes after this.
    Ended,
}

/// How hard it is to find memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strain {
    /// v1: memory is reclaimed.
    Low,
    /// v1: swap is used, or files in use are dropped.
    Medium,
    /// v1: memory is about to run out.
    Critical,
    /// v2: some processes have waited for memory for 15 per cent of two seconds.
    Some {
        /// Microseconds that were lost so, in all.
        total: u64,
    },
    /// v2: all of them have, for 5 per cent of two seconds.
    Full {
        /// Microseconds that were lost so, in all.
        total: u64,
    },
}

impl Strain {
    /// The kernel's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::Critical => "critical",
            Self::Some { .. } => "some",
            Self::Full { .. } => "full",
        }
    }
}

/// A watch over a container's groups, from when it is opened.
#[derive(Debug)]
pub struct Watch<'a> {
    memory: Option<Memory<'a>>,
    levels: Option<Levels<'a>>,
    stalls: Vec<Stall>,
    /// `cgroup.events` of the unified tree, which v1 has nothing like.
    population: Option<OwnedFd>,
    /// Whether they are frozen, as it was told; none where nobody wants to hear it.
    frozen: Option<bool>,
    removal: Removal,
    /// Told to be over.
    ended: bool,
    /// How often memory ran out and was not told yet.
    lacks: u64,
    /// What else was not told yet.
    others: VecDeque<Event>,
}

impl Cgroup {
    /// Begins to watch for a lack of memory and for the end. What happened before is not told.
    pub fn watch(&self) -> Result<Watch<'_>, Failed> {
        let population =
            self.unified().map(|group| group.place.file("cgroup.events", OFlags::RDONLY)).transpose()?;
        Ok(Watch {
            memory: self.managing("memory").map(Memory::watch).transpose()?,
            levels: None,
            stalls: Vec::new(),
            population,
            frozen: None,
            removal: Removal(None),
            ended: false,
            lacks: 0,
            others: VecDeque::new(),
        })
    }

    /// The same, and for pressure and freezing too. Fails where this kernel tells nothing of pressure.
    pub fn watch_closely(&self) -> Result<Watch<'_>, Failed> {
        let mut watch = self.watch()?;
        watch.levels = self.managing("memory").map(Levels::watch).transpose()?.flatten();
        watch.stalls = self.unified().map(Stall::watch).transpose()?.unwrap_or_default();
        if watch.levels.is_none() && watch.stalls.is_empty() {
            return Err(Failed::refused("this kernel does not tell that memory is hard to find"));
        }
        // On a hybrid host v1's freezer is used, which tells nobody.
        if self.managing("freezer").is_none()
            && let Some(group) = self.unified()
        {
            watch.frozen = Some(group.is_frozen()?);
        }
        Ok(watch)
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
        let signals = self.levels.iter().flat_map(Levels::signals).map(|one| PollFd::new(one, PollFlags::IN));
        let stalls = self.stalls.iter().map(|stall| PollFd::new(stall, PollFlags::PRI));
        let population = self.population.as_ref().map(|events| PollFd::new(events, PollFlags::PRI));
        stalls.chain(self.memory.as_ref().map(Memory::source)).chain(signals).chain(population).collect()
    }

    /// What poll(2) has answered for the sources, in their order. A trigger of pressure answers once, and only to who
    /// polls it: nobody else could tell us. All other sources can be asked again.
    pub fn hear(&mut self, answers: &[PollFlags]) {
        for (stall, answer) in self.stalls.iter_mut().zip(answers) {
            stall.hear(*answer);
        }
    }

    /// What has happened and was not told yet; none where nothing has. Does not wait for something to happen.
    pub fn take(&mut self) -> Result<Option<Event>, Failed> {
        if self.lacks == 0 && self.others.is_empty() && !self.ended {
            self.look()?;
        }
        if self.lacks > 0 {
            self.lacks -= 1;
            return Ok(Some(Event::OutOfMemory));
        }
        Ok(self.others.pop_front().or(self.ended.then_some(Event::Ended)))
    }

    /// Why the last process is gone comes before that it is: so what is looked at first is told last.
    fn look(&mut self) -> Result<(), Failed> {
        let is_over = self.is_over()?;
        if let Some(levels) = &mut self.levels {
            self.ended |= levels.count(&mut self.removal, &mut self.others)?;
        }
        if let Some(memory) = &mut self.memory {
            let is_gone;
            (self.lacks, is_gone) = memory.count(&mut self.removal)?;
            self.ended |= is_gone;
        }
        for stall in &mut self.stalls {
            self.others.extend(stall.take()?);
        }
        self.ended |= is_over;
        Ok(())
    }

    fn is_over(&mut self) -> Result<bool, Failed> {
        let Some(events) = &self.population else { return Ok(false) };
        let Some(text) = text(events.as_fd(), "cgroup.events")? else { return Ok(true) };
        let frozen = value_of(&text, "frozen") == Some(1);
        if self.frozen.is_some_and(|known| known != frozen) {
            self.frozen = Some(frozen);
            self.others.push_back(if frozen { Event::Frozen } else { Event::Thawed });
        }
        Ok(value_of(&text, "populated") == Some(0))
    }
}

/// How long the signals of a removal may come after the removal: by a work queue, behind a grace period of RCU. Only who
/// looks after the groups are gone, and finds a single signal, waits for this, most often for a part of it.
const PATIENCE: Duration = Duration::from_secs(1);

/// v1 signals each eventfd once more when its group is removed. This is until when that is waited for.
#[derive(Debug)]
struct Removal(Option<Instant>);

impl Removal {
    /// How often an eventfd was signalled for what it is for, and whether its group is gone.
    fn count(&mut self, signal: &OwnedFd, group: &Group) -> Result<(u64, bool), Failed> {
        let count = signals(signal)?;
        if count == 0 || group.place.is_there(group.place.path())? {
            return Ok((count, false));
        }
        // One of the signals is that of the removal. A single one may be that, or one before it.
        if count == 1 && !self.comes_soon(signal)? {
            return Ok((0, true));
        }
        Ok((count.max(2) - 1, true))
    }

    fn comes_soon(&mut self, signal: &OwnedFd) -> Result<bool, Failed> {
        let until = *self.0.get_or_insert_with(|| Instant::now() + PATIENCE);
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(|_| Errno::INVAL).called(|| "poll(eventfd)")?;
        match poll(&mut [PollFd::new(signal, PollFlags::IN)], Some(&left)) {
            Ok(count) => Ok(count > 0),
            Err(Errno::INTR) => Ok(false),
            Err(errno) => Err(Failed::call("poll(eventfd)", errno)),
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

/// A small file from its beginning, which also says that the change was seen; none once the group is gone.
fn text(file: BorrowedFd<'_>, name: &str) -> Result<Option<String>, Failed> {
    let mut text = [0; 1024];
    match rustix::io::pread(file, &mut text, 0).called(|| format!("read({name})")) {
        Ok(length) => Ok(Some(String::from_utf8_lossy(&text[..length]).into_owned())),
        Err(failed) if is_gone(&failed) => Ok(None),
        Err(failed) => Err(failed),
    }
}
