//! Start: from a process that waits to the program.

use std::ffi::OsStr;

use init::Manner;
use spec::Status;
use state::{Entry, Knock, Notify};
use sys::{Errno, Failed, Pidfd};

use crate::hooks::{self, state_of};
use crate::identity::stat_field;
use crate::ready::{self, Ready};
use crate::{Containers, Error, Kind, Known, delete, lack};

/// No event tells that somebody else's child has executed a program: it is asked for this often, every so many
/// milliseconds. Its end is an event, and waited for meanwhile.
const ASKED: u32 = 100;
const PAUSE: u32 = 10;

impl Containers {
    /// Lets a created container's program run; returns once it does, or with the reason why it does not.
    ///
    /// Where a service manager wants to hear that the program is ready (`manager` is its address) and the program knows
    /// whom to tell, this returns once it has told, or is no more.
    pub fn start(&self, id: &str, manager: Option<&OsStr>) -> Result<(), Error> {
        let entry = self.lock(id)?;
        let known = Known::of(&entry)?.ok_or_else(Error::not_found)?;
        match known.status {
            Status::Created => {}
            Status::Stopped => return Err(stopped()),
            Status::Running => return Err(overtaken(&known)?),
            other => {
                return Err(Error::state(format!("cannot start a container in the {other} state")));
            }
        }
        let knock = match Knock::at(&entry) {
            Ok(knock) => knock,
            // Nobody waits at the gate that is still there: an earlier start was killed before it had said go.
            Err(failed) if failed.errno() == Some(Errno::CONNREFUSED) => {
                entry.remove_gate()?;
                return Err(overtaken(&known)?);
            }
            Err(failed) => return Err(failed.into()),
        };
        let ready = listen(&entry, manager)?;
        entry.remove_gate()?;
        match knock.go() {
            Ok(None) => {}
            Ok(Some(why)) => return Err(Error::new(Kind::Program, why)),
            // It took an earlier caller, who was killed, or was killed itself.
            Err(failed) if matches!(failed.errno(), Some(Errno::CONNRESET | Errno::PIPE)) => {
                return Err(overtaken(&known)?);
            }
            Err(failed) => return Err(failed.into()),
        }
        // Who attends the program never becomes it, and tells how it ended by a line of its own.
        let may_lack = lack::is_limited(&known.record.limits) && !known.record.attended;
        if let Some(init) = known.init.as_ref().filter(|_| may_lack)
            && lack::has_died(init, known.pid())?
        {
            let otherwise = "container init was killed before its program ran";
            return Err(lack::why("container init", otherwise, &known.groups()?, 0));
        }
        let has_hooks = !known.record.hooks.poststart.is_empty();
        if has_hooks || ready.is_some() {
            // A hook may well ask us for something that waits for the lock; and so may whoever waits for the program.
            entry.release()?;
        }
        if has_hooks {
            poststart(&known)?;
        }
        match (ready, &known.init) {
            (Some(ready), Some(init)) => Ok(ready.wait(init, known.pid())?),
            _ => Ok(()),
        }
    }
}

/// At the notify socket, if there is anybody to speak there and anybody to pass it on to.
fn listen(entry: &Entry, manager: Option<&OsStr>) -> Result<Option<Ready>, Error> {
    let Some(address) = manager else { return Ok(None) };
    let manager = ready::manager(address)?;
    Ok(Notify::listen(entry)?.map(|notify| Ready::between(notify, manager)))
}

fn stopped() -> Error {
    Error::state("cannot start a container that has stopped")
}

/// What to say of an init that lives and does not wait for us: it is the program; or an earlier start was killed, and
/// it is about to be the program, if the word was said, or to end. We hold the lock, so no start is under way.
fn overtaken(known: &Known) -> Result<Error, Failed> {
    if let Some(init) = &known.init
        && has_ended(init, known.pid())?
    {
        return Ok(stopped());
    }
    Ok(Error::state("cannot start an already running container"))
}

fn has_ended(init: &Pidfd, pid: i32) -> Result<bool, Failed> {
    for _ in 0..ASKED {
        if stat_field(pid, 9)?.is_some_and(|flags| !lack::is_forked(flags)) {
            return init.has_exited();
        }
        if init.wait_exit(Some(PAUSE))? {
            return Ok(true);
        }
    }
    // Hooks of startContainer may take their time; the word was said.
    Ok(false)
}

/// Runs the hooks of a program that runs now. One that fails is its end, as with runc.
fn poststart(known: &Known) -> Result<(), Error> {
    // The status was `created` when we looked.
    let state = state_of(&known.record, Status::Running, known.pid());
    hooks::run(&known.record.hooks.poststart, &state, Manner::default()).map_err(|error| {
        let kill = || {
            let groups = known.groups()?;
            delete::kill(&groups, known)?;
            if known.record.own_pids { Ok(()) } else { Ok::<_, Error>(groups.kill_all()?) }
        };
        match kill() {
            Ok(()) => error,
            Err(second) => error.and_then(&second),
        }
    })
}
