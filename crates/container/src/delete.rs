//! Delete: from whatever is left of a container to nothing.

use cgroup::Cgroup;
use init::Manner;
use sys::{Doing, Errno, SIGKILL};

use crate::hooks::Aftermath;
use crate::identity::same;
use crate::{Containers, Error, Kind, Known, Status, unit};

/// What `delete` found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// A container, now gone; which hooks of poststop failed, and why.
    Whole(Vec<String>),
    /// A directory without a record: `create` was killed before it made anything else.
    Empty,
    /// With force: a directory whose record could not be read, and why; what else there was of it is not known.
    Unreadable(String),
    /// With force: nothing at all.
    Nothing,
}

/// What a process may take to die once it was killed, in milliseconds: the kernel may be writing its core or its pages.
const DEATH: u32 = 10_000;

/// What a keeper may take to write a file, in milliseconds; somebody may have stopped it.
const WRITING: u32 = 1_000;

impl Containers {
    /// Removes a stopped or created container; with `force`, whatever state it is in.
    pub fn delete(&self, id: &str, force: bool) -> Result<Removed, Error> {
        let entry = match self.lock(id) {
            Err(error) if force && error.kind() == Kind::NotFound => return Ok(Removed::Nothing),
            locked => locked?,
        };
        let known = match Known::of(&entry) {
            Ok(Some(known)) => known,
            Ok(None) => {
                entry.remove()?;
                return Ok(Removed::Empty);
            }
            Err(error) if force && error.kind() == Kind::Invalid && !entry.is_newer()? => {
                entry.remove()?;
                return Ok(Removed::Unreadable(error.to_string()));
            }
            Err(error) => return Err(error),
        };
        if !force && !matches!(known.status, Status::Stopped | Status::Created) {
            let status = known.status.name();
            return Err(Error::state(format!("cannot delete container {id} that is not stopped: {status}")));
        }
        end(&known)?;
        let_keeper_go(&known)?;
        // The record goes last: if we are killed in the middle of a hook, the next `delete` runs them again.
        let warnings = Aftermath::of(&known.record).map(|hooks| hooks.run(Manner::default()));
        entry.remove()?;
        let warnings = warnings.unwrap_or_default();
        Ok(Removed::Whole(warnings.iter().map(ToString::to_string).collect()))
    }
}

fn end(known: &Known) -> Result<(), Error> {
    let groups = known.groups()?;
    kill(&groups, known)?;
    remove_groups(&groups, known)
}

/// Kills init, with all who die with it, and waits for its end.
pub(crate) fn kill(groups: &Cgroup, known: &Known) -> Result<(), Error> {
    if let Some(init) = &known.init {
        match init.signal(SIGKILL) {
            // It has ended since we looked, and its parent has reaped it.
            Err(failed) if failed.errno() == Some(Errno::SRCH) => {}
            signalled => signalled.doing(|| "kill init")?,
        }
        if known.status == Status::Paused {
            groups.thaw()?;
        }
        if !init.wait_exit(Some(DEATH))? {
            return Err(Error::state(format!("init is still alive {} s after SIGKILL", DEATH / 1000)));
        }
    }
    Ok(())
}

/// Init is no more, and whoever waited for its end has heard it: it has one file to write.
fn let_keeper_go(known: &Known) -> Result<(), Error> {
    let Some(keeper) = known.record.keeper.as_ref().map(same).transpose()?.flatten() else { return Ok(()) };
    if !keeper.wait_exit(Some(WRITING))? {
        keeper.signal(SIGKILL).doing(|| "kill the keeper of the exit status")?;
        keeper.wait_exit(Some(DEATH))?;
    }
    Ok(())
}

fn remove_groups(groups: &Cgroup, known: &Known) -> Result<(), Error> {
    // A pid namespace dies with its first process. Others, and a create that was killed, may leave somebody.
    if !known.record.own_pids || known.record.init.is_none() {
        groups.kill_all()?;
    }
    if let Some(held) = &known.record.unit {
        unit::stop(held)?;
    }
    Ok(groups.remove()?)
}
