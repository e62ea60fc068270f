//! Destroy: all inside are ended, and the groups removed; and what becomes of those that a killed `apply` has left.

use cgroup::{Cgroup, Paths};
use container::identity::same;
use container::{Containers, Fate, Stray, unit};
use plan::systemd::Held;
use state::{Entry, Store};
use sys::{Doing, Errno, Failed, SIGKILL};

use crate::{Error, Kind, Phase, Record, Sandboxes};

/// A sandbox that was of no use any more, and what came of removing it.
pub type Swept = (String, Result<(), Error>);

impl Sandboxes {
    /// Ends the monitor and all that is with it, and removes the groups. What is gone already is no error; all that is one
    /// is told, and the record stays then, so that it can be tried again.
    pub fn destroy(&self, id: &str) -> Result<(), Error> {
        dismantle(self.lock(id)?)
    }

    /// Removes sandboxes whose monitor has ended, what killed commands have left of others, and groups that bear our mark and
    /// have lost their record; says which, and what could not be removed. Nothing else is touched, and of groups without a
    /// record nobody who lives in them is ended.
    pub fn sweep(&self) -> Result<Vec<Swept>, Error> {
        let mut swept = Vec::new();
        for id in self.ids()? {
            swept.extend(self.sweep_one(&id, true).transpose().map(|outcome| (id, outcome)));
        }
        swept.extend(self.sweep_marked()?);
        Ok(swept)
    }

    /// Groups of sandboxes that have lost their record, by their mark.
    fn sweep_marked(&self) -> Result<Vec<Swept>, Error> {
        if Store::open(&self.root)?.is_none() {
            return Ok(Vec::new());
        }
        let strays = Containers::under(self.root.as_str()).sweep(&probe::host()?.cgroups, true)?;
        let outcome = |stray: Stray| {
            let outcome = match stray.fate {
                Fate::Removed | Fate::Removable => Ok(()),
                Fate::Inhabited(pids) => Err(Error::new(
                    Kind::Exists,
                    format!(
                        "its record is lost, and processes {pids:?} live in {}",
                        stray.directories.join(", ")
                    ),
                )),
                Fate::Left(error) => Err(error),
            };
            (stray.id, outcome)
        };
        Ok(strays.into_iter().map(outcome).collect())
    }

    /// The same for those alone that were never whole.
    pub(crate) fn sweep_unfinished(&self) -> Result<(), Error> {
        for id in self.ids()? {
            self.sweep_one(&id, false).map_err(|error| error.while_doing(&format!("sweep {id}")))?;
        }
        Ok(())
    }

    /// Removes a sandbox that is of no use; none where it is of use, or gone.
    fn sweep_one(&self, id: &str, counts_ended: bool) -> Result<Option<()>, Error> {
        let swept = || {
            let entry = self.look(id)?;
            if entry.is_locked_elsewhere()? || !is_stale(&entry, counts_ended)? {
                return Ok(None);
            }
            // It shares the lock that is wanted now.
            drop(entry);
            // Whoever had the lock before us may have made a whole one of it meanwhile.
            let entry = self.lock(id)?;
            if is_stale(&entry, counts_ended)? { dismantle(entry).map(Some) } else { Ok(None) }
        };
        match swept() {
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            swept => swept,
        }
    }
}

/// Whether a sandbox is of no use, if nobody works on it: it was never whole, or (where that counts) its monitor has ended.
fn is_stale(entry: &Entry, counts_ended: bool) -> Result<bool, Error> {
    // What cannot be read, a newer version's say, is not ours to judge.
    let Ok(record) = Record::read(entry) else { return Ok(false) };
    let Some(record) = record else { return Ok(true) };
    Ok(match (record.phase, &record.vmm) {
        (Phase::Intent, _) | (Phase::Complete, None) => true,
        (Phase::Complete, Some(vmm)) => {
            counts_ended && same(vmm)?.map_or(Ok(true), |process| process.has_exited())?
        }
    })
}

/// A locked entry and all that it tells of.
fn dismantle(entry: Entry) -> Result<(), Error> {
    if let Some(record) = Record::read(&entry)? {
        undo(&record)?;
    }
    Ok(entry.remove()?)
}

/// From whatever is left of a sandbox to nothing.
fn undo(record: &Record) -> Result<(), Error> {
    // An `apply` that was never through has no right to end who ran before it.
    let former = record.moved_from.as_ref().filter(|_| record.phase == Phase::Intent);
    let mut left = dissolve(&groups(record)?, record.unit.as_ref(), former);
    if former.is_none() {
        left.extend(end_alone(record).err());
    }
    match left.split_first() {
        None => Ok(()),
        Some((first, rest)) => Err(Error::from(first.clone()).and_left(rest)),
    }
}

/// Ends everybody inside, or puts them back to where they were before; then takes unit and groups away. All of it is tried,
/// and what could not be done is returned. Only if somebody could not be put back, nothing else is done to him.
pub(crate) fn dissolve(groups: &[Cgroup], unit: Option<&Held>, former: Option<&Paths>) -> Vec<Failed> {
    let mut left = Vec::new();
    match former {
        Some(former) => {
            if let Err(failed) = back(groups, former) {
                return vec![failed];
            }
        }
        None => left.extend(groups.iter().filter_map(|groups| end_all(groups).err())),
    }
    left.extend(unit.and_then(|held| unit::stop(held).err()));
    // The last made first.
    left.extend(groups.iter().rev().filter_map(|groups| groups.remove().err()));
    left
}

/// What a monitor may take to die, in milliseconds: the kernel may be taking back a guest's memory.
const DEATH: u32 = 30_000;

/// A monitor that nobody could shut in is ended by itself.
fn end_alone(record: &Record) -> Result<(), Failed> {
    let Some(vmm) = record.vmm.as_ref().filter(|_| record.vmm_in.groups.is_empty()) else { return Ok(()) };
    let Some(process) = same(vmm)? else { return Ok(()) };
    match process.signal(SIGKILL) {
        Err(failed) if failed.errno() == Some(Errno::SRCH) => return Ok(()),
        sent => sent.doing(|| "end the monitor")?,
    }
    if process.wait_exit(Some(DEATH))? {
        return Ok(());
    }
    Err(Failed::refused(format!("the monitor, process {}, is still alive after SIGKILL", vmm.pid)))
}

/// All groups that are a sandbox's own, by those that hold the others.
pub(crate) fn groups(record: &Record) -> Result<Vec<Cgroup>, Failed> {
    [&record.sandbox, &record.elsewhere]
        .into_iter()
        .filter(|paths| !paths.groups.is_empty())
        .map(Cgroup::open)
        .collect()
}

/// Ends everybody inside, ourselves excepted.
fn end_all(groups: &Cgroup) -> Result<(), Failed> {
    groups.step_out()?;
    groups.kill_all()
}

/// Puts everybody inside back to where the monitor came from: they were not born here.
fn back(groups: &[Cgroup], former: &Paths) -> Result<(), Failed> {
    const TRIES: usize = 64;
    let home = Cgroup::open_foreign(former)?;
    for _ in 0..TRIES {
        let mut inside = Vec::new();
        for groups in groups {
            inside.extend(groups.everybody()?);
        }
        if inside.is_empty() {
            return Ok(());
        }
        for pid in inside {
            match home.adopt(pid) {
                // It has ended meanwhile.
                Err(failed) if failed.errno() == Some(Errno::SRCH) => {}
                moved => moved.doing(|| format!("put process {pid} back"))?,
            }
        }
    }
    Err(Failed::refused("processes come as fast as they are put back"))
}
