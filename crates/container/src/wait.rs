//! Wait: until a container has ended, and how.

use rustix::fs::{CWD, readlinkat};
use spec::Status;
use state::Entry;
use sys::{Errno, Exit, Failed, Pidfd};

use crate::identity::{same, stat_field};
use crate::{Containers, Error, Known, Written};

impl Containers {
    /// Waits until init has ended, in whatever state the container is; how it ended. Never a guess: an error where
    /// neither the kernel nor anybody who kept it can tell. Takes no lock, and any number may wait.
    pub fn wait(&self, id: &str) -> Result<Exit, Error> {
        let entry = self.look(id)?;
        let known = Known::of(&entry)?.ok_or_else(Error::not_found)?;
        let Known { record, init, status, .. } = &known;
        let Some(written) = &record.init else {
            return Err(Error::state(match status {
                Status::Creating => "cannot wait for a container that is being created",
                _ => "cannot wait for a container that was never created whole",
            }));
        };
        // While it is there, dead or alive, the kernel tells; the descriptor is ours before it is reaped.
        let process = match init {
            Some(_) => None,
            None => same(written)?,
        };
        if let Some(process) = init.as_ref().or(process.as_ref())
            && let Some(exit) = exit_of(process, written.pid)?
        {
            return Ok(exit);
        }
        kept(&entry, record)?.ok_or_else(|| {
            Error::state("the container has ended, and its exit status was not kept (see --keep-status)")
        })
    }

    /// Writes down how a container ended, for those who ask later.
    pub fn keep(&self, id: &str, exit: Exit) -> Result<(), Error> {
        Ok(self.look(id)?.shelf()?.put(&state::Ended::now(exit))?)
    }
}

/// What was written down, once whoever is about to write it has done so.
fn kept(entry: &Entry, record: &Written) -> Result<Option<Exit>, Error> {
    let read = || entry.ended().map(|ended| ended.and_then(|ended| ended.exit()));
    if let Some(exit) = read()? {
        return Ok(Some(exit));
    }
    let Some(keeper) = &record.keeper else { return Ok(None) };
    match same(keeper)? {
        Some(keeper) => keeper.wait_exit(None)?,
        None => true,
    };
    Ok(read()?)
}

/// Waits until a process has ended, whoever its parent is, and tells how; none if the kernel does not. `pid` is its number.
pub(crate) fn exit_of(process: &Pidfd, pid: i32) -> Result<Option<Exit>, Failed> {
    process.wait_exit(None)?;
    if let Some(exit) = process.exit()? {
        return Ok(Some(exit));
    }
    // Nobody has reaped it, or the kernel is older: as long as it is a zombie, /proc tells those who may look into it, and
    // tells others 0. What was read is its own if it was not reaped meanwhile.
    let looked = readlinkat(CWD, format!("/proc/{pid}/ns/pid"), Vec::new());
    let may_look = !matches!(looked, Err(Errno::ACCESS | Errno::PERM));
    let status = if may_look { stat_field(pid, 52)? } else { None };
    if !process.is_reaped()? {
        return Ok(status.and_then(|status| Exit::of_wait(i32::try_from(status).ok()?)));
    }
    process.exit()
}
