//! Killing what is inside, and removing the groups.

use plan::cgroup::Version;
use sys::{Doing, Errno, Failed, Pidfd, SIGKILL};

use crate::place::is_gone;
use crate::read::value_of;
use crate::wait::{Deadline, Events, Missing};
use crate::{Cgroup, Group};

impl Cgroup {
    /// Kills every process, those included that are being forked. They may still be dying on return;
    /// [`Cgroup::remove`] waits for them.
    pub fn kill_all(&self) -> Result<(), Failed> {
        self.kill_together().doing(|| "kill all")?;
        // A process that is frozen by v1 dies only once it may run.
        match self.managing("freezer").filter(|group| group.version == Version::V1).map(Group::thaw) {
            Some(Err(failed)) if !is_gone(&failed) => Err(failed).doing(|| "thaw the killed"),
            _ => Ok(()),
        }
    }

    fn kill_together(&self) -> Result<(), Failed> {
        if let Some(unified) = self.unified() {
            match unified.place.write("cgroup.kill", "1") {
                Ok(()) => return Ok(()),
                // Before Linux 5.14, or the group is gone; a threaded group cannot either.
                Err(failed) if is_gone(&failed) || failed.errno() == Some(Errno::OPNOTSUPP) => {}
                Err(failed) => return Err(failed),
            }
        }
        self.kill_one_by_one()
    }

    /// Frozen, nobody forks, and no number passes to another process between our look and our kill: a frozen
    /// process cannot exit. Without a freezer the list is read until it is empty of the living.
    fn kill_one_by_one(&self) -> Result<(), Failed> {
        let frozen = match self.freezer_group() {
            Some(_) => self.freeze().is_ok(),
            None => false,
        };
        let killed = self.kill_listed(frozen);
        if frozen {
            match self.thaw() {
                Err(failed) if !is_gone(&failed) => return Err(failed),
                _ => {}
            }
        }
        killed
    }

    fn kill_listed(&self, once: bool) -> Result<(), Failed> {
        let mut waiting = Missing::EmptinessOnV1.back_off();
        loop {
            let mut living = false;
            for pid in self.processes()? {
                let process = match Pidfd::open(pid) {
                    Ok(process) => process,
                    // Gone; or no process but a thread of one, as a threaded group lists them.
                    Err(failed)
                        if matches!(failed.errno(), Some(Errno::SRCH | Errno::INVAL | Errno::NOENT)) =>
                    {
                        continue;
                    }
                    Err(failed) => return Err(failed),
                };
                // Opened, it cannot become somebody else: if it is listed still, it is the one that was meant.
                if !once && !self.processes()?.contains(&pid) {
                    continue;
                }
                match process.signal(SIGKILL) {
                    Ok(()) => living |= !process.has_exited()?,
                    Err(failed) if failed.errno() == Some(Errno::SRCH) => {}
                    Err(failed) => return Err(failed),
                }
            }
            if once || !living {
                return Ok(());
            }
            waiting.pause()?;
        }
    }

    /// Removes the groups, all below them, and what was made above them if nobody else uses it. Waits for dying
    /// processes. What is gone already is no error; all that is one is told.
    pub fn remove(&self) -> Result<(), Failed> {
        let mut refused = self.remove_groups(self.groups.iter().collect());
        for group in &self.groups {
            refused.extend(group.remove_ancestors().err());
        }
        together(refused).doing(|| "remove the control groups")
    }

    /// What could not be removed.
    pub(crate) fn remove_groups(&self, mut left: Vec<&Group>) -> Vec<Failed> {
        // One that will not go is no reason to leave the others.
        let mut refused = Vec::new();
        let mut sweep = |left: &mut Vec<&Group>, remove: fn(&Group) -> Result<bool, Failed>| {
            left.retain(|group| match remove(group) {
                Ok(is_gone) => !is_gone,
                Err(failed) => {
                    refused.push(failed);
                    false
                }
            });
        };
        // Most often nobody is in them any more, and nothing below.
        sweep(&mut left, |group| gone(group.place.unmake(group.place.path())));
        if let (false, Some(unified)) = (left.is_empty(), self.unified())
            && let Err(failed) = unified.wait_empty()
        {
            // The unified tree tells when the last process is gone, and it is gone from all hierarchies then.
            refused.push(failed);
            return refused;
        }
        let mut waiting = Missing::EmptinessOnV1.back_off();
        loop {
            sweep(&mut left, Group::remove_tree);
            let Some(group) = left.first() else { return refused };
            if let Err(failed) = waiting.pause() {
                refused.push(group.still_there(failed));
                return refused;
            }
        }
    }
}

/// All of them in one.
pub(crate) fn together(failures: Vec<Failed>) -> Result<(), Failed> {
    let mut failures = failures.into_iter();
    let Some(first) = failures.next() else { return Ok(()) };
    let others: Vec<String> = failures.map(|failed| failed.to_string()).collect();
    Err(if others.is_empty() { first } else { first.while_doing(&format!("({})", others.join("; "))) })
}

/// Whether a directory is gone; `EBUSY` is "not yet".
fn gone(removed: Result<(), Failed>) -> Result<bool, Failed> {
    match removed {
        Ok(()) => Ok(true),
        Err(failed) if is_gone(&failed) => Ok(true),
        Err(failed) if matches!(failed.errno(), Some(Errno::BUSY | Errno::NOTEMPTY)) => Ok(false),
        Err(failed) => Err(failed),
    }
}

impl Group {
    /// Whether all of it is gone, the children first.
    fn remove_tree(&self) -> Result<bool, Failed> {
        let mut all_gone = true;
        for path in self.place.tree()?.iter().rev() {
            all_gone &= gone(self.place.unmake(path))?;
        }
        Ok(all_gone)
    }

    pub(crate) fn remove_ancestors(&self) -> Result<(), Failed> {
        for path in self.ancestors.iter().rev() {
            if !gone(self.place.unmake(path))? {
                break;
            }
        }
        Ok(())
    }

    fn wait_empty(&self) -> Result<(), Failed> {
        let emptied = Events::open(&self.place).and_then(|events| {
            events.wait(&Deadline::start(), |text| value_of(text, "populated") == Some(0))
        });
        match emptied {
            Err(failed) if is_gone(&failed) => Ok(()),
            Err(failed) => Err(self.still_there(failed)),
            Ok(()) => Ok(()),
        }
    }

    fn still_there(&self, failed: Failed) -> Failed {
        match self.processes() {
            Ok(pids) if !pids.is_empty() => {
                failed.while_doing(&format!("processes {pids:?} are still there"))
            }
            _ => failed,
        }
    }
}
