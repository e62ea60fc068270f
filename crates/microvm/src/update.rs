//! Changes of a sandbox that is there: devices come and go, containers get other processors, the monitor has other threads.

use cgroup::{Cgroup, Paths, UnitChange};
use container::identity::same;
use container::undisturbed;
use plan::cgroup::{Mode, Setting};
use plan::sandbox::{
    Cpus, Device, DeviceTable, Handed, Host, Layout, Share, cpu_settings, device_change, unit_cpus,
    unit_devices,
};
use plan::systemd::Held;
use plan::{DeviceChange, Update};
use spec::Resources;
use state::Entry;
use sys::{Doing, Failed, Mask, Pidfd};

use crate::birth::bear;
use crate::{Error, Kind, Phase, Record, Sandboxes, Subject, destroy, host, not_found, threads};

/// What is to be other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Devices that the guest is given.
    pub add: Vec<Handed>,
    /// Devices that it is given no longer.
    pub remove: Vec<Handed>,
    /// What containers were given of the host's processors; nothing, of one that is gone.
    pub shares: Vec<(String, Option<Share>)>,
}

impl Sandboxes {
    /// Makes a change, all of it or nothing. Threads that have come meanwhile are put into their place.
    pub fn update(&self, id: &str, change: &Change) -> Result<(), Error> {
        undisturbed(|_| self.update_blocked(id, change))
    }

    fn update_blocked(&self, id: &str, change: &Change) -> Result<(), Error> {
        let entry = self.lock(id)?;
        let (record, pid, _) = alive(Record::read(&entry)?)?;
        let mut wanted = record.clone();
        change_devices(&mut wanted.devices, change)?;
        for (name, share) in &change.shares {
            match share {
                Some(share) => drop(wanted.shares.insert(name.clone(), share.clone())),
                None if wanted.shares.remove(name).is_some() => {}
                None => return Err(Error::new(Kind::Invalid, format!("{name:?} was given no processors"))),
            }
        }
        make(&record, &wanted, &entry)?;
        if !wanted.threads_in.groups.is_empty() || wanted.pin {
            threads::place(pid, &wanted)?;
        }
        Ok(())
    }

    /// Puts a helper, such as virtiofsd(1), where helpers of this sandbox are; its number.
    pub fn help(&self, id: &str, subject: &Subject) -> Result<i32, Error> {
        undisturbed(|mask| self.help_blocked(id, subject, mask))
    }

    fn help_blocked(&self, id: &str, subject: &Subject, mask: &Mask) -> Result<i32, Error> {
        let entry = self.lock(id)?;
        let (record, ..) = alive(Record::read(&entry)?)?;
        if record.helpers_in.groups.is_empty() {
            return Err(Error::new(
                Kind::Invalid,
                "this sandbox was made without a group for helpers (--helpers)",
            ));
        }
        match subject {
            Subject::Running(pid) => {
                Cgroup::open(&record.helpers_in)?.adopt(*pid).doing(|| format!("move process {pid}"))?;
                Ok(*pid)
            }
            Subject::Program(program) => {
                let born = bear(&record.helpers_in, record.unit.as_ref(), program, mask)
                    .doing(|| "bear a helper in its groups")?;
                born.execute().map_err(|error| match born.end() {
                    Ok(()) => error,
                    Err(failed) => error.and_left(&[failed]),
                })?;
                Ok(born.pid)
            }
        }
    }
}

/// The record of a sandbox whose monitor runs, and the monitor with its number.
pub(crate) fn alive(record: Option<Record>) -> Result<(Record, i32, Pidfd), Error> {
    let record = record.filter(|record| record.phase == Phase::Complete).ok_or_else(not_found)?;
    let pid = record.vmm.as_ref().map(|vmm| vmm.pid);
    match (pid, record.vmm.as_ref().map(same).transpose()?.flatten()) {
        (Some(pid), Some(process)) if !process.has_exited()? => Ok((record, pid, process)),
        _ => Err(Error::new(Kind::Program, "the monitor has ended")),
    }
}

fn change_devices(table: &mut DeviceTable, change: &Change) -> Result<(), Error> {
    let device = |handed: &Handed| -> Result<Device, Error> {
        let paths: Vec<String> = match handed {
            Handed::Node { path, .. } => vec![path.clone()],
            Handed::Numbers(_) => Vec::new(),
        };
        let host = Host { nodes: host::nodes(&paths), ..Host::default() };
        Ok(handed.device(&host)?)
    };
    for handed in &change.add {
        table.add(device(handed)?);
    }
    for handed in &change.remove {
        table.remove(device(handed)?)?;
    }
    Ok(())
}

/// Writes what differs, and the record; or nothing, where something is refused.
fn make(record: &Record, wanted: &Record, entry: &Entry) -> Result<(), Error> {
    let all = destroy::groups(record)?;
    let of_cpus = Cgroup::open(places_of_cpus(record))?;
    let mut updates: Vec<(&Cgroup, Update)> = Vec::new();
    let (before, after) = (cpus(record)?, cpus(wanted)?);
    if before != after {
        updates.push((&of_cpus, cpu_update(record, &of_cpus, &before, &after)?));
    }
    let (known, list) = (record.devices.list(), wanted.devices.list());
    if known != list {
        for groups in &all {
            let devices = Some(device_change(&known, &list, !record.is_v1()));
            updates.push((groups, update(Vec::new(), devices)));
        }
    }
    let properties = record.unit.clone().map(|held| unit_change(held, record, wanted)).transpose()?;

    let mut changes = Vec::with_capacity(updates.len());
    let mut write = || -> Result<(), Failed> {
        for (groups, update) in &updates {
            let mut change = groups.change();
            let made = change.make(update);
            changes.push(change);
            made?;
        }
        properties.as_ref().map_or(Ok(()), UnitChange::make)?;
        wanted.write(entry)
    };
    let Err(failed) = write() else { return Ok(()) };
    let mut left: Vec<Failed> =
        properties.and_then(|properties| properties.take_back().err()).into_iter().collect();
    left.extend(changes.into_iter().rev().flat_map(cgroup::Change::take_back));
    Err(Error::from(failed).and_left(&left))
}

/// What the containers have together; systemd keeps whole percents.
fn cpus(record: &Record) -> Result<Cpus, Error> {
    let cpus = Cpus::of(&record.shares)?;
    Ok(if record.unit.is_some() { cpus.in_percents() } else { cpus })
}

/// Where limits of processors are: with the threads that are the guest's, where these have a group for it.
fn places_of_cpus(record: &Record) -> &Paths {
    let is_theirs =
        record.layout == Layout::OverheadElsewhere && !record.is_v1() && !record.threads_in.groups.is_empty();
    if is_theirs { &record.threads_in } else { &record.sandbox }
}

fn cpu_update(record: &Record, groups: &Cgroup, before: &Cpus, after: &Cpus) -> Result<Update, Error> {
    let mut above = (String::new(), String::new());
    if record.is_v1() {
        let shown = |file| groups.shown_above("cpuset", file).map(Option::unwrap_or_default);
        above = (shown("cpuset.cpus")?, shown("cpuset.mems")?);
    }
    let of = |group: &cgroup::Record| cpu_settings(before, after, group.version, &group.controllers, &above);
    Ok(update(places_of_cpus(record).groups.iter().map(of).collect(), None))
}

fn update(settings: Vec<Vec<Setting>>, devices: Option<DeviceChange>) -> Update {
    let none = Resources::default();
    Update { settings, devices, limits: none.clone(), warnings: Vec::new(), written: none }
}

/// The same as properties of the sandbox's unit, and those that were in force.
fn unit_change(held: Held, record: &Record, wanted: &Record) -> Result<UnitChange, Error> {
    let mode = if record.is_v1() { Mode::Hybrid } else { Mode::V2 };
    let (mut there, mut former) = unit_cpus(&cpus(record)?, &cpus(wanted)?, held.version, mode)?;
    let (known, list) = (record.devices.list(), wanted.devices.list());
    if known != list && !held.bus.is_user {
        there.extend(unit_devices(&list, mode)?);
        former.extend(unit_devices(&known, mode)?);
    }
    Ok(UnitChange { held, wanted: there, former })
}
