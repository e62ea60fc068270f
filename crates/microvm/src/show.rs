//! Show: what a sandbox is now.

use std::collections::BTreeMap;

use cgroup::Cgroup;
use container::identity::same;
use plan::sandbox::DeviceTable;
use serde::Serialize;
use sys::{Doing, Failed};

use crate::figures::{Figures, GuestFigures, HostFigures, figures};
use crate::overhead::{self, Overhead};
use crate::{Error, Phase, Record, Sandboxes, destroy, not_found, threads};

/// A sandbox, as it is found.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Shown {
    /// Its record.
    #[serde(skip)]
    pub record: Record,
    /// Its id.
    pub id: String,
    /// `running`, `ended` or `unfinished`.
    pub status: &'static str,
    /// The monitor's number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// Who made the groups.
    pub driver: &'static str,
    /// Which limits hold for what is not the guest's.
    pub layout: &'static str,
    /// systemd's unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Directories of the groups with the limits.
    pub groups: Vec<String>,
    /// Limits, as the kernel's files show them.
    pub limits: BTreeMap<String, String>,
    /// Who may use which device, and for whom.
    pub devices: DeviceTable,
    /// The guest's processors.
    pub vcpus: Vec<Vcpu>,
    /// What the monitor takes beside the guest's memory, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measured: Option<Overhead>,
    /// What was used.
    pub figures: Figures,
    /// What does not hold, and why.
    pub not_enforced: Vec<String>,
    /// What somebody should know.
    pub notes: Vec<String>,
}

/// A processor of the guest's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Vcpu {
    /// Its number.
    pub number: u32,
    /// The thread that it is.
    pub tid: i32,
    /// Whether it is in a group of its own, apart from the monitor's other threads.
    pub is_apart: bool,
}

/// Files that are worth showing, by their controller.
const FILES: [(&str, &str); 11] = [
    ("memory", "memory.max"),
    ("memory", "memory.limit_in_bytes"),
    ("cpu", "cpu.max"),
    ("cpu", "cpu.weight"),
    ("cpu", "cpu.cfs_quota_us"),
    ("cpu", "cpu.cfs_period_us"),
    ("cpu", "cpu.shares"),
    ("cpuset", "cpuset.cpus"),
    ("cpuset", "cpuset.mems"),
    ("pids", "pids.max"),
    ("io", "io.max"),
];

impl Sandboxes {
    /// Looks at a sandbox; the guest's figures are the caller's to bring.
    pub fn show(&self, id: &str, guest: Option<GuestFigures>) -> Result<Shown, Error> {
        let entry = self.look(id)?;
        let record = Record::read(&entry)?.ok_or_else(not_found)?;
        let process = record.vmm.as_ref().map(same).transpose()?.flatten();
        let is_alive = process.as_ref().map_or(Ok(false), |one| one.has_exited().map(|ended| !ended))?;
        let status = match record.phase {
            Phase::Intent => "unfinished",
            Phase::Complete if is_alive => "running",
            Phase::Complete => "ended",
        };
        let pid = record.vmm.as_ref().filter(|_| is_alive).map(|vmm| vmm.pid);
        let groups = destroy::groups(&record)?;
        let limits = limits(&record)?;
        let measured = match (pid, record.memory.guest) {
            (Some(pid), guest) => overhead::of_process(pid, guest.unwrap_or(0))?,
            _ => None,
        };
        Ok(Shown {
            id: record.id.clone(),
            status,
            pid,
            driver: record.driver.name(),
            layout: record.layout.name(),
            unit: record.unit.as_ref().map(|held| held.unit.clone()),
            groups: record
                .sandbox
                .groups
                .iter()
                .map(|group| format!("{}/{}", group.mount, group.path))
                .collect(),
            limits,
            devices: record.devices.clone(),
            vcpus: pid.map_or(Ok(Vec::new()), |pid| vcpus(pid, &record))?,
            measured,
            figures: figures(used(&record, &groups)?, guest),
            not_enforced: record.not_enforced.clone(),
            notes: record.notes.clone(),
            record,
        })
    }
}

/// All that is the sandbox's: of the whole of it, and of what is elsewhere.
fn used(record: &Record, groups: &[Cgroup]) -> Result<HostFigures, Error> {
    let mut all = HostFigures::default();
    for (at, groups) in groups.iter().enumerate() {
        let one = HostFigures::of(&groups.statistics().doing(|| "read the statistics")?);
        all = if at == 0 { one } else { all.with(one) };
    }
    let oom_kills = counting(record)?.iter().map(Cgroup::oom_kills).sum::<Result<u64, _>>()?;
    Ok(HostFigures { oom_kills, ..all })
}

/// The groups that count whom the kernel has killed for memory. On v1 each does so for itself, and not for those below it.
pub(crate) fn counting(record: &Record) -> Result<Vec<Cgroup>, Failed> {
    let mut groups = destroy::groups(record)?;
    let are_helpers_below = record.elsewhere.groups.is_empty() && !record.helpers_in.groups.is_empty();
    if record.is_v1() && are_helpers_below {
        groups.push(Cgroup::open(&record.helpers_in)?);
    }
    Ok(groups)
}

/// What this host has of the files; a sandbox that is gone shows none.
fn limits(record: &Record) -> Result<BTreeMap<String, String>, Error> {
    let mut limits: BTreeMap<String, String> = BTreeMap::new();
    // The processors' own limits come last: they are the ones that were asked for.
    for places in [&record.sandbox, &record.threads_in] {
        let groups = Cgroup::open(places)?;
        for (controller, file) in FILES {
            if let Ok(Some(shown)) = groups.shown(controller, file)
                && (!limits.contains_key(file) || !(shown.is_empty() || shown.starts_with("max")))
            {
                limits.insert(file.to_owned(), shown);
            }
        }
    }
    Ok(limits)
}

fn vcpus(pid: i32, record: &Record) -> Result<Vec<Vcpu>, Error> {
    let apart = Cgroup::open(&record.threads_in)?.threads()?;
    let threads = threads::list(pid, &record.patterns)?;
    let vcpu = |thread: &threads::Thread| Vcpu {
        number: thread.vcpu,
        tid: thread.tid,
        is_apart: apart.contains(&thread.tid),
    };
    Ok(threads.iter().map(vcpu).collect())
}
