//! Stopping all processes of a container where they are, and letting them go on.

use plan::cgroup::Version;
use sys::{Doing, Errno, Failed};

use crate::place::is_gone;
use crate::read::value_of;
use crate::wait::{Deadline, Events, Missing};
use crate::{Cgroup, Group};

impl Cgroup {
    /// Stops every process. When it cannot be done in time, they all go on.
    pub fn freeze(&self) -> Result<(), Failed> {
        let group = self.freezer()?;
        let frozen = match group.version {
            Version::V1 => group.freeze_v1(),
            Version::V2 => group.freeze_v2(),
        };
        match frozen {
            Err(failed) => match group.thaw() {
                Ok(()) => Err(failed),
                Err(thawing) => Err(failed.while_doing(&format!("(could not be thawed again: {thawing})"))),
            },
            Ok(()) => Ok(()),
        }
        .doing(|| "freeze")
    }

    /// Lets them go on.
    pub fn thaw(&self) -> Result<(), Failed> {
        self.freezer()?.thaw().doing(|| "thaw")
    }

    /// Whether they were stopped through this group; one above it that is frozen does not count. Without a
    /// freezer, or once the group is gone: no.
    pub fn is_frozen(&self) -> Result<bool, Failed> {
        self.freezer_group().map_or(Ok(false), Group::is_frozen)
    }

    /// On hybrid hosts v1's freezer, where it is there: that is where everybody else looks.
    pub(crate) fn freezer_group(&self) -> Option<&Group> {
        self.managing("freezer").or_else(|| self.unified())
    }

    fn freezer(&self) -> Result<&Group, Failed> {
        self.freezer_group().ok_or_else(|| {
            Failed::refused(if self.is_none() {
                "the container has no control groups, its maker may not make any"
            } else {
                "this host has no freezer"
            })
        })
    }
}

impl Group {
    pub(crate) fn is_frozen(&self) -> Result<bool, Failed> {
        let shown = match self.version {
            Version::V1 if self.has("freezer") => self.place.read("freezer.self_freezing"),
            Version::V1 => return Ok(false),
            Version::V2 => self.place.read("cgroup.freeze"),
        };
        match shown {
            Ok(text) => Ok(text.trim() == "1"),
            // Before Linux 5.2 v2 could not freeze.
            Err(failed) if is_gone(&failed) => Ok(false),
            Err(failed) => Err(failed),
        }
    }

    pub(crate) fn thaw(&self) -> Result<(), Failed> {
        match self.version {
            Version::V1 => self.place.write("freezer.state", "THAWED"),
            Version::V2 => self.place.write("cgroup.freeze", "0"),
        }
    }

    fn freeze_v2(&self) -> Result<(), Failed> {
        let deadline = Deadline::start();
        self.place.write("cgroup.freeze", "1")?;
        Events::open(&self.place)?.wait(&deadline, |text| value_of(text, "frozen") == Some(1))?;
        Ok(())
    }

    fn freeze_v1(&self) -> Result<(), Failed> {
        let mut waiting = Missing::FreezingOnV1.back_off();
        loop {
            // Written again each time: a process that was moved in meanwhile may have been missed.
            match self.place.write("freezer.state", "FROZEN") {
                Err(failed) if failed.errno() != Some(Errno::BUSY) => return Err(failed),
                _ => {}
            }
            if self.place.read("freezer.state")?.trim() == "FROZEN" {
                return Ok(());
            }
            waiting.pause()?;
        }
    }
}
