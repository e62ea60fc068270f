//! What a container is doing, and the commands that change it.

use cgroup::Cgroup;
use spec::Status;
use state::{Entry, Init, Phase};
use sys::{Doing, Errno, Failed, Pidfd, SIGKILL};

use crate::identity::same;
use crate::{Containers, Error, Written, crowd};

/// A container as its record and the kernel tell it.
#[derive(Debug)]
pub struct Known {
    /// What it is doing.
    pub status: Status,
    /// Its record.
    pub record: Written,
    /// Its first process, while it lives.
    pub(crate) init: Option<Pidfd>,
    /// How it ended, where that was kept.
    pub ended: Option<state::Ended>,
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

    /// The same, for those who tell of it: also how it ended.
    fn with_end(entry: &Entry) -> Result<Self, Error> {
        let mut known = Self::of(entry)?.ok_or_else(Error::not_found)?;
        if known.status == Status::Stopped {
            // What cannot be read of its end does not hide the rest.
            match entry.ended() {
                Ok(ended) => known.ended = ended,
                Err(unreadable) => known.record.warnings.push(unreadable.to_string()),
            }
        }
        Ok(known)
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
        Ok(Some(Self { status, record, init, ended: None }))
    }
}

/// The process that the record means, if it still lives: not another one that was given its number.
fn living(init: &Init) -> Result<Option<Pidfd>, Failed> {
    match same(init)? {
        Some(process) if !process.has_exited()? => Ok(Some(process)),
        _ => Ok(None),
    }
}

impl Containers {
    /// One container.
    pub fn find(&self, id: &str) -> Result<Known, Error> {
        Known::with_end(&self.look(id)?)
    }

    /// All containers with the user ids that own them, in the order of their ids, each with what went wrong if it
    /// cannot be read.
    #[allow(clippy::type_complexity, reason = "a name would not tell more")]
    pub fn all(&self) -> Result<Vec<(String, u32, Result<Known, Error>)>, Error> {
        let Some(store) = self.store()? else { return Ok(Vec::new()) };
        let known = |id: &str| Known::with_end(&store.again()?.look(id)?);
        let ids = store.ids()?;
        Ok(ids
            .into_iter()
            .map(|(id, owner)| {
                let found = known(&id);
                (id, owner, found)
            })
            .collect())
    }

    /// Sends a signal to init; SIGKILL to all processes where they have no pid namespace of their own to die with.
    pub fn kill(&self, id: &str, signal: i32) -> Result<(), Error> {
        let known = self.find(id)?;
        let groups_die = signal == SIGKILL && !known.record.own_pids;
        let Some(init) = known.init.as_ref().filter(|_| known.status != Status::Stopped) else {
            // Init took nobody with it.
            if groups_die && known.record.init.is_some() {
                let groups = known.groups()?;
                if !groups.processes()?.is_empty() {
                    return Ok(groups.kill_all()?);
                }
            }
            return Err(Error::state("container not running"));
        };
        if groups_die {
            let groups = known.groups()?;
            if !groups.is_none() {
                return Ok(groups.kill_all()?);
            }
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

    /// Sends a signal to all processes, whether init lives or not; SIGKILL as the kernel can do it, none forgotten.
    pub fn kill_all(&self, id: &str, signal: i32) -> Result<(), Error> {
        let known = self.find(id)?;
        let groups = known.groups()?;
        if signal == SIGKILL && !groups.is_none() {
            return Ok(groups.kill_all()?);
        }
        let all = if groups.is_none() { crowd::of(&known)? } else { groups.processes()? };
        for pid in all {
            let told = Pidfd::open(pid).and_then(|process| process.signal(signal));
            match told {
                // It has ended since it was listed.
                Err(failed) if matches!(failed.errno(), Some(Errno::SRCH | Errno::NOENT)) => {}
                told => told.doing(|| format!("signal {pid}"))?,
            }
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

    /// Numbers of all processes in the container's cgroups, as we see them, sorted; where an ordinary user's has none, of
    /// those in its pid namespace.
    pub fn processes(&self, id: &str) -> Result<Vec<i32>, Error> {
        let known = self.find(id)?;
        let groups = known.groups()?;
        if groups.is_none() { crowd::of(&known) } else { Ok(groups.processes()?) }
    }
}
