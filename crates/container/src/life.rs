//! What a container is doing, and the commands that change it.

use std::ffi::OsStr;

use cgroup::Cgroup;
use init::Manner;
use spec::Status;
use state::{Entry, Init, Knock, Notify, Phase};
use sys::{Doing, Errno, Failed, Pidfd};

use crate::hooks::{self, state_of};
use crate::ready::{self, Ready};
use crate::undo::SIGKILL;
use crate::{Containers, Error, Kind, Written, delete};

/// A container as its record and the kernel tell it.
#[derive(Debug)]
pub struct Known {
    /// What it is doing.
    pub status: Status,
    /// Its record.
    pub record: Written,
    /// Its first process, while it lives.
    pub(crate) init: Option<Pidfd>,
}

impl Known {
    /// The first process's number, 0 once it is no more.
    pub fn pid(&self) -> i32 {
        match (self.status, &self.record.init) {
            (Status::Stopped, _) | (_, None) => 0,
            (_, Some(init)) => init.pid,
        }
    }

    pub(crate) fn groups(&self) -> Result<Cgroup, Failed> {
        Cgroup::open(&self.record.cgroup)
    }

    /// What the record and the kernel say now; none where there is no record.
    pub(crate) fn of(entry: &Entry) -> Result<Option<Self>, Error> {
        let Some(record) = entry.read::<cgroup::Paths>()? else { return Ok(None) };
        let init = match &record.init {
            Some(init) => living(init)?,
            None => None,
        };
        let status = match (&init, record.phase) {
            (_, Phase::Intent) if entry.is_locked_elsewhere()? => Status::Creating,
            (None, _) | (_, Phase::Intent) => Status::Stopped,
            (Some(_), _) if Cgroup::open(&record.cgroup)?.is_frozen()? => Status::Paused,
            (Some(_), _) if entry.has_gate()? => Status::Created,
            (Some(_), _) => Status::Running,
        };
        Ok(Some(Self { status, record, init }))
    }
}

/// The process that the record means, if it still lives: not another one that was given its number.
fn living(init: &Init) -> Result<Option<Pidfd>, Failed> {
    let process = match Pidfd::open(init.pid) {
        Ok(process) => process,
        Err(failed) if failed.errno() == Some(Errno::SRCH) => return Ok(None),
        Err(failed) => return Err(failed),
    };
    let is_it = match init.birthmark {
        Some(birthmark) => process.birthmark()? == Some(birthmark),
        None => start_time(init.pid)? == init.start_time,
    };
    Ok(if is_it && !process.has_exited()? { Some(process) } else { None })
}

/// When a process was born, in clock ticks since boot; none if there is no such process.
pub(crate) fn start_time(pid: i32) -> Result<Option<u64>, Failed> {
    // The name, second, is in parentheses and may hold anything; after the last one, this is field 20 of the rest.
    match probe::read_text(&format!("/proc/{pid}/stat")) {
        Ok(stat) => {
            Ok(stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(19)?.parse().ok()))
        }
        Err(failed) if matches!(failed.errno(), Some(Errno::NOENT | Errno::SRCH)) => Ok(None),
        Err(failed) => Err(failed),
    }
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

/// At the notify socket, if there is anybody to speak there and anybody to pass it on to.
fn listen(entry: &Entry, manager: Option<&OsStr>) -> Result<Option<Ready>, Error> {
    let Some(address) = manager else { return Ok(None) };
    let manager = ready::manager(address)?;
    Ok(Notify::listen(entry)?.map(|notify| Ready::between(notify, manager)))
}

impl Containers {
    /// One container.
    pub fn find(&self, id: &str) -> Result<Known, Error> {
        Known::of(&self.look(id)?)?.ok_or_else(Error::not_found)
    }

    /// All containers with the user ids that own them, in the order of their ids, each with what went wrong if it
    /// cannot be read.
    #[allow(clippy::type_complexity, reason = "a name would not tell more")]
    pub fn all(&self) -> Result<Vec<(String, u32, Result<Known, Error>)>, Error> {
        let Some(store) = self.store()? else { return Ok(Vec::new()) };
        let known = |id: &str| Known::of(&store.again()?.look(id)?)?.ok_or_else(Error::not_found);
        let ids = store.ids()?;
        Ok(ids
            .into_iter()
            .map(|(id, owner)| {
                let found = known(&id);
                (id, owner, found)
            })
            .collect())
    }

    /// Lets a created container's program run; returns once it does, or with the reason why it does not.
    ///
    /// Where a service manager wants to hear that the program is ready (`manager` is its address) and the program knows
    /// whom to tell, this returns once it has told, or is no more.
    pub fn start(&self, id: &str, manager: Option<&OsStr>) -> Result<(), Error> {
        let entry = self.lock(id)?;
        let known = Known::of(&entry)?.ok_or_else(Error::not_found)?;
        match known.status {
            Status::Created => {}
            Status::Stopped => return Err(Error::state("cannot start a container that has stopped")),
            Status::Running => return Err(Error::state("cannot start an already running container")),
            other => {
                return Err(Error::state(format!("cannot start a container in the {other} state")));
            }
        }
        let knock = match Knock::at(&entry) {
            Ok(knock) => knock,
            // Nobody waits at the gate that is still there: an earlier start was killed after it had said go.
            Err(failed) if failed.errno() == Some(Errno::CONNREFUSED) => {
                entry.remove_gate()?;
                return Err(Error::state("cannot start an already running container"));
            }
            Err(failed) => return Err(failed.into()),
        };
        let ready = listen(&entry, manager)?;
        entry.remove_gate()?;
        if let Some(why) = knock.go()? {
            return Err(Error::new(Kind::Program, why));
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

    /// Sends a signal to init; SIGKILL to all processes where they have no pid namespace of their own to die with.
    pub fn kill(&self, id: &str, signal: i32) -> Result<(), Error> {
        let known = self.find(id)?;
        let Some(init) = known.init.as_ref().filter(|_| known.status != Status::Stopped) else {
            return Err(Error::state("container not running"));
        };
        if signal == SIGKILL && !known.record.own_pids {
            return Ok(known.groups()?.kill_all()?);
        }
        match init.signal(signal) {
            Ok(()) => {}
            Err(failed) if failed.errno() == Some(Errno::SRCH) => {
                return Err(Error::state("container not running"));
            }
            Err(failed) => return Err(failed.while_doing("signal init").into()),
        }
        // A v1 freezer holds even what was killed.
        if signal == SIGKILL && known.status == Status::Paused {
            known.groups()?.thaw()?;
        }
        Ok(())
    }

    /// Freezes all processes.
    pub fn pause(&self, id: &str) -> Result<(), Error> {
        let known = Known::of(&self.lock(id)?)?.ok_or_else(Error::not_found)?;
        match known.status {
            Status::Created | Status::Running => Ok(known.groups()?.freeze().doing(|| "freeze")?),
            _ => Err(Error::state("container not running")),
        }
    }

    /// Thaws all processes.
    pub fn resume(&self, id: &str) -> Result<(), Error> {
        let known = Known::of(&self.lock(id)?)?.ok_or_else(Error::not_found)?;
        match known.status {
            Status::Paused => Ok(known.groups()?.thaw().doing(|| "thaw")?),
            _ => Err(Error::state("container not paused")),
        }
    }

    /// Numbers of all processes in the container's cgroups, as we see them, sorted.
    pub fn processes(&self, id: &str) -> Result<Vec<i32>, Error> {
        Ok(self.find(id)?.groups()?.processes()?)
    }
}
