//! Update: other limits for a container that is there.

use cgroup::{Cgroup, UnitChange};
use plan::cgroup::{Mode, Version};
use plan::systemd::{Held, Property, changes, device_changes, unlimited};
use plan::{Hierarchy, Refused, Update, compile_managed_update, compile_update};
use spec::{Resources, Status};
use sys::Failed;

use crate::life::Known;
use crate::{Containers, Error, Kind, undisturbed};

impl Containers {
    /// Changes the limits that are asked for, all of them or none; says what has no effect. A limit that the kernel
    /// refuses is told, and what had been written before it is taken back.
    ///
    /// Signals are blocked meanwhile. Who kills us all the same finds each limit as it was or as it should be, and
    /// the container undisturbed; the same update again leads to the end.
    pub fn update(&self, id: &str, asked: &Resources) -> Result<Vec<String>, Error> {
        undisturbed(|_| self.update_blocked(id, asked))
    }

    fn update_blocked(&self, id: &str, asked: &Resources) -> Result<Vec<String>, Error> {
        let entry = self.lock(id)?;
        let mut known = Known::of(&entry)?.ok_or_else(Error::not_found)?;
        match known.status {
            Status::Created | Status::Running | Status::Paused => {}
            _ => return Err(Error::state("container not running")),
        }
        let groups = known.groups()?;
        recall(&mut known.record.limits, asked, &groups)?;
        let update = plan(asked, &known)?;
        let mut change = groups.change();
        let properties =
            known.record.unit.clone().map(|held| unit_change(held, &update, &known)).transpose()?;
        known.record.limits = update.limits.clone();
        // The kernel first: what it refuses, or kills for, no manager has heard of. The manager then writes the same again, by
        // itself and a moment later.
        let changed = change
            .make(&update)
            .and_then(|()| properties.as_ref().map_or(Ok(()), UnitChange::make))
            .and_then(|()| entry.write(&known.record));
        match changed {
            Ok(()) => Ok(update.warnings),
            Err(failed) => {
                let mut left: Vec<Failed> =
                    properties.and_then(|known| known.take_back().err()).into_iter().collect();
                left.extend(change.take_back());
                Err(Error::from(failed).and_left(&left))
            }
        }
    }
}

/// What goes together with what is asked for and is not in the record, because an earlier release wrote that or `unified` brought
/// the limit. Version 2 keeps both in one file, or tells one by the other: what its files show is in force.
fn recall(limits: &mut Resources, asked: &Resources, groups: &Cgroup) -> Result<(), Failed> {
    // "max" is no number: nothing is limited.
    let number = |shown: Option<&str>| shown.and_then(|word| word.parse::<i64>().ok());
    if asked.cpu.as_ref().is_some_and(|cpu| cpu.quota.is_some() || cpu.period.is_some())
        && let Some(shown) = groups.shown("cpu", "cpu.max")?
    {
        let mut words = shown.split_whitespace();
        let (quota, period) = (number(words.next()), number(words.next()));
        let cpu = limits.cpu.get_or_insert_default();
        cpu.quota = cpu.quota.or(quota);
        cpu.period = cpu.period.or_else(|| u64::try_from(period?).ok());
    }
    if asked.memory.as_ref().is_some_and(|memory| memory.swap.is_some())
        && let Some(shown) = groups.shown("memory", "memory.max")?
    {
        let memory = limits.memory.get_or_insert_default();
        memory.limit = memory.limit.or(number(Some(&shown)));
    }
    Ok(())
}

/// The same limits as properties of the container's unit, and those that were in force.
fn unit_change(held: Held, update: &Update, known: &Known) -> Result<UnitChange, Error> {
    let on_v1 = known.record.cgroup.groups.iter().any(|group| group.version == Version::V1);
    let mode = if on_v1 { Mode::V1 } else { Mode::V2 };
    let told = |resources: &Resources| changes(resources, held.version, mode).map_err(refused);
    let mut wanted = told(&update.written)?;
    let in_force = told(&known.record.limits)?;
    let before = |property: &Property| {
        let known = in_force.iter().find(|known| known.name == property.name).cloned();
        known.unwrap_or_else(|| unlimited(property))
    };
    let mut former: Vec<Property> = wanted.iter().map(before).collect();
    if update.devices.is_some() && !held.bus.is_user {
        let told = |resources: &Resources| device_changes(resources, mode).map_err(refused);
        wanted.extend(told(&update.limits)?);
        former.extend(told(&known.record.limits)?);
    }
    Ok(UnitChange { held, wanted, former })
}

fn plan(asked: &Resources, known: &Known) -> Result<Update, Error> {
    let groups = &known.record.cgroup.groups;
    let hierarchies: Vec<Hierarchy<'_>> = groups
        .iter()
        .map(|group| Hierarchy { version: group.version, controllers: &group.controllers })
        .collect();
    let compile = if known.record.unit.is_some() { compile_managed_update } else { compile_update };
    compile(asked, &known.record.limits, &hierarchies).map_err(refused)
}

fn refused(Refused { path, reason }: Refused) -> Error {
    let path = path.strip_prefix("linux.resources.").unwrap_or(&path);
    Error::new(Kind::Invalid, format!("{path}: {reason}"))
}
