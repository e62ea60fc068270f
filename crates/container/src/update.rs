//! Update: other limits for a container that is there.

use plan::{Hierarchy, Refused, Update, compile_update};
use spec::{Resources, Status};
use sys::{block_signals, restore_mask};

use crate::life::Known;
use crate::{Containers, Error, Kind};

impl Containers {
    /// Changes the limits that are asked for, all of them or none; says what has no effect. A limit that the kernel
    /// refuses is told, and what had been written before it is taken back.
    ///
    /// Signals are blocked meanwhile. Who kills us all the same finds each limit as it was or as it should be, and
    /// the container undisturbed; the same update again leads to the end.
    pub fn update(&self, id: &str, asked: &Resources) -> Result<Vec<String>, Error> {
        let mask = block_signals()?;
        let outcome = self.update_blocked(id, asked);
        match (outcome, restore_mask(&mask)) {
            (Ok(_), Err(failed)) => Err(failed.into()),
            (Err(error), Err(failed)) => Err(error.and_left(&[failed])),
            (outcome, Ok(())) => outcome,
        }
    }

    fn update_blocked(&self, id: &str, asked: &Resources) -> Result<Vec<String>, Error> {
        let entry = self.lock(id)?;
        let mut known = Known::of(&entry)?.ok_or_else(Error::not_found)?;
        match known.status {
            Status::Created | Status::Running | Status::Paused => {}
            _ => return Err(Error::state("container not running")),
        }
        let update = plan(asked, &known)?;
        let groups = known.groups()?;
        let mut change = groups.change();
        known.record.limits = update.limits.clone();
        let changed = change.make(&update).and_then(|()| entry.write(&known.record));
        match changed {
            Ok(()) => Ok(update.warnings),
            Err(failed) => Err(Error::from(failed).and_left(&change.take_back())),
        }
    }
}

fn plan(asked: &Resources, known: &Known) -> Result<Update, Error> {
    let groups = &known.record.cgroup.groups;
    let hierarchies: Vec<Hierarchy<'_>> = groups
        .iter()
        .map(|group| Hierarchy { version: group.version, controllers: &group.controllers })
        .collect();
    compile_update(asked, &known.record.limits, &hierarchies)
        .map_err(|Refused { path, reason }| Error::new(Kind::Invalid, format!("{path}: {reason}")))
}
