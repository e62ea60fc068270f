//! Sweep: what is left of containers whose record is lost.

use cgroup::{Cgroup, Mark};
use plan::cgroup::HostCgroups;
use state::{Entry, Store};

use crate::{Containers, Error, Kind, check_id, unit};

/// The groups of a container that has no record.
#[derive(Debug)]
pub struct Stray {
    /// The container's id.
    pub id: String,
    /// The directories that were there.
    pub directories: Vec<String>,
    /// What became of them.
    pub fate: Fate,
}

/// What became of a container's groups.
#[derive(Debug)]
pub enum Fate {
    /// They are gone.
    Removed,
    /// They would be, had that been asked for.
    Removable,
    /// Somebody lives in them, so they stay; the numbers are of those who have one here.
    Inhabited(Vec<i32>),
    /// They could not be removed, or not all of them.
    Left(Error),
}

impl Containers {
    /// Finds the control groups that were made for containers of this state root and have lost their record: the root was
    /// wiped, say. Removes them, with the unit that they belong to, where `removes` says so and no process is in them.
    ///
    /// Nothing is touched that does not bear our mark for this root, and no process is ever killed.
    pub fn sweep(&self, host: &HostCgroups, removes: bool) -> Result<Vec<Stray>, Error> {
        let device = Store::device(&self.root)?;
        let mut strays = Vec::new();
        for mark in Mark::all(host)? {
            if mark.root == self.root && mark.device == device && check_id(&mark.id).is_ok() {
                strays.extend(self.sweep_one(&mark, removes)?);
            }
        }
        Ok(strays)
    }

    fn sweep_one(&self, mark: &Mark, removes: bool) -> Result<Option<Stray>, Error> {
        if self.has_record(&mark.id)? {
            return Ok(None);
        }
        // As long as we have the id, nobody makes a container of this name, in these groups.
        let claim = if removes { Some(self.claim(&mark.id)?) } else { None };
        let stray = match claim {
            Some(Claim::Lost) => None,
            _ => judge(mark, removes)?,
        };
        if let Some(Claim::Held(entry)) = claim {
            entry.remove()?;
        }
        Ok(stray)
    }

    fn has_record(&self, id: &str) -> Result<bool, Error> {
        match self.look(id) {
            Ok(entry) => is_recorded(&entry),
            Err(error) if error.kind() == Kind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn claim(&self, id: &str) -> Result<Claim, Error> {
        let entry = match Store::provide(&self.root, self.is_sticky)?.claim(id) {
            // Of a sweep, or of a `create`, that was killed at once; or a `create` that has begun just now.
            Err(state::Error::Exists) => match self.lock(id) {
                Err(error) if error.kind() == Kind::NotFound => return Ok(Claim::Lost),
                locked => locked?,
            },
            claimed => claimed?,
        };
        Ok(if is_recorded(&entry)? { Claim::Lost } else { Claim::Held(entry) })
    }
}

/// An id, for as long as its groups are looked at.
enum Claim {
    Held(Entry),
    /// Somebody else has made a container of that name meanwhile.
    Lost,
}

/// A record that cannot be read is one: `delete --force` is for that.
fn is_recorded(entry: &Entry) -> Result<bool, Error> {
    match entry.read::<cgroup::Paths>() {
        Ok(record) => Ok(record.is_some()),
        Err(state::Error::Unreadable(_)) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// None where they have gone meanwhile, or are another's by now.
fn judge(mark: &Mark, removes: bool) -> Result<Option<Stray>, Error> {
    let Some(groups) = mark.groups()? else { return Ok(None) };
    let directories = groups.directories()?;
    let fate = match groups.inhabitants()? {
        Some(processes) => Fate::Inhabited(processes),
        None if !removes => Fate::Removable,
        None => match remove(mark, &groups) {
            Ok(()) => Fate::Removed,
            Err(error) => Fate::Left(error),
        },
    };
    Ok(Some(Stray { id: mark.id.clone(), directories, fate }))
}

/// Who comes in just now keeps his group: rmdir(2) leaves it to him.
fn remove(mark: &Mark, groups: &Cgroup) -> Result<(), Error> {
    if let Some(held) = &mark.unit {
        unit::stop(held)?;
    }
    Ok(groups.remove()?)
}
