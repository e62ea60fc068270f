//! Memory is hard to find: v1's levels, and triggers of pressure stall information.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use plan::cgroup::Version;
use rustix::event::PollFlags;
use rustix::fs::OFlags;
use sys::{Called, Doing, Errno, Failed};

use super::{Event, Removal, Strain, text};
use crate::Group;
use crate::place::is_gone;

/// v1's three levels, each an eventfd that is signalled at its level and at those above.
#[derive(Debug)]
pub(super) struct Levels<'a> {
    group: &'a Group,
    signals: Vec<OwnedFd>,
    tally: Tally,
}

const LEVELS: [Strain; 3] = [Strain::Low, Strain::Medium, Strain::Critical];

impl<'a> Levels<'a> {
    /// None where the group is not v1's.
    pub(super) fn watch(group: &'a Group) -> Result<Option<Self>, Failed> {
        if group.version != Version::V1 {
            return Ok(None);
        }
        // `hierarchy`: also when somebody inside watches a group of his own.
        let signal =
            |level: Strain| group.signal_for("memory.pressure_level", &format!("{},hierarchy", level.name()));
        let signals = LEVELS.into_iter().map(signal).collect::<Result<_, _>>();
        Ok(Some(Self { group, signals: signals.doing(|| "watch pressure")?, tally: Tally::default() }))
    }

    pub(super) fn signals(&self) -> &[OwnedFd] {
        &self.signals
    }

    /// Adds what has come since this was asked; whether the group is gone.
    pub(super) fn count(
        &mut self,
        removal: &mut Removal,
        events: &mut VecDeque<Event>,
    ) -> Result<bool, Failed> {
        let mut is_over = false;
        // The lowest first: one that comes in between is counted above before it is below, and never taken for a lower one.
        for (signal, total) in self.signals.iter().zip(&mut self.tally.totals) {
            let (count, is_gone) = removal.count(signal, self.group)?;
            *total += count;
            is_over |= is_gone;
        }
        for (strain, times) in LEVELS.into_iter().zip(self.tally.take()) {
            if times > 0 {
                events.push_back(Event::Pressure { strain, times });
            }
        }
        Ok(is_over)
    }
}

/// How often each level was signalled, and told.
#[derive(Debug, Default)]
struct Tally {
    totals: [u64; 3],
    told: [u64; 3],
}

impl Tally {
    /// How often each level was reached, and none above it, since this was asked.
    fn take(&mut self) -> [u64; 3] {
        let above = [self.totals[1], self.totals[2], 0];
        let mut times = [0; 3];
        for level in 0..3 {
            let reached = self.totals[level].saturating_sub(above[level]);
            times[level] = reached.saturating_sub(self.told[level]);
            self.told[level] = self.told[level].max(reached);
        }
        times
    }
}

/// A trigger (Documentation/accounting/psi.rst): time lost in microseconds, in a window. One of two seconds is for those
/// without CAP_SYS_RESOURCE too (Linux 6.5).
const TRIGGERS: [(&str, &str); 2] = [("some", "some 300000 2000000"), ("full", "full 100000 2000000")];

/// One trigger of the unified tree.
#[derive(Debug)]
pub(super) struct Stall {
    kind: &'static str,
    file: OwnedFd,
    heard: bool,
}

impl AsFd for Stall {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Stall {
    /// None where the kernel keeps no pressure, or was told at boot not to; or lets nobody of our rights ask.
    pub(super) fn watch(group: &Group) -> Result<Vec<Self>, Failed> {
        let mut stalls = Vec::with_capacity(TRIGGERS.len());
        for (kind, order) in TRIGGERS {
            let file = match group.place.file("memory.pressure", OFlags::RDWR | OFlags::NONBLOCK) {
                Err(failed) if is_unkept(&failed) => return Ok(Vec::new()),
                opened => opened?,
            };
            match rustix::io::write(&file, order.as_bytes())
                .called(|| format!("write(memory.pressure, {order:?})"))
            {
                Err(failed) if is_unkept(&failed) => return Ok(Vec::new()),
                written => written.doing(|| "watch pressure")?,
            };
            stalls.push(Self { kind, file, heard: false });
        }
        Ok(stalls)
    }

    /// On a group that is gone everything is answered, errors too.
    pub(super) fn hear(&mut self, answer: PollFlags) {
        self.heard |= answer.contains(PollFlags::PRI) && !answer.contains(PollFlags::ERR);
    }

    pub(super) fn take(&mut self) -> Result<Option<Event>, Failed> {
        if !std::mem::take(&mut self.heard) {
            return Ok(None);
        }
        let Some(text) = text(self.file.as_fd(), "memory.pressure")? else { return Ok(None) };
        let total = |stall: crate::statistics::Stall| stall.total;
        let seen = crate::statistics::pressure_of(&text);
        let strain = match self.kind {
            "some" => Strain::Some { total: seen.some.map_or(0, total) },
            _ => Strain::Full { total: seen.full.map_or(0, total) },
        };
        Ok(Some(Event::Pressure { strain, times: 1 }))
    }
}

fn is_unkept(failed: &Failed) -> bool {
    is_gone(failed)
        || matches!(failed.errno(), Some(Errno::OPNOTSUPP | Errno::PERM | Errno::ACCESS | Errno::INVAL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_told_once_and_as_itself() {
        let mut tally = Tally::default();
        assert_eq!(tally.take(), [0, 0, 0]);
        // Twice low, once medium, three times critical: each signals those below too.
        tally.totals = [6, 4, 3];
        assert_eq!(tally.take(), [2, 1, 3]);
        assert_eq!(tally.take(), [0, 0, 0]);
        // A critical one came between our looks at low and at critical.
        tally.totals = [6, 5, 4];
        assert_eq!(tally.take(), [0, 0, 1]);
        tally.totals = [7, 5, 4];
        assert_eq!(tally.take(), [0, 0, 0], "it is not told as a low one");
        tally.totals = [8, 5, 4];
        assert_eq!(tally.take(), [1, 0, 0]);
    }
}
