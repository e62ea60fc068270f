//! What a container has used: one form for both generations of control groups, whoever is to be told.
//!
//! Begin with [`Cgroup::statistics`](crate::Cgroup::statistics). What this host does not count is none, or 0.

mod details;
mod parse;
mod v1;
mod v2;

pub use details::{BlockDetails, Details, MemoryDetails};
pub use parse::NodePages;
pub(crate) use parse::pressure as pressure_of;

use std::collections::BTreeMap;

use plan::cgroup::Version;
use sys::{Errno, Failed};

use crate::place::is_gone;
use crate::{Cgroup, Group};

/// What a container has used since it was made, and uses now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statistics {
    /// Processor time.
    pub cpu: Cpu,
    /// Where it may run (v1).
    pub cpuset: Option<Cpuset>,
    /// Memory.
    pub memory: Memory,
    /// Processes and threads.
    pub pids: Pids,
    /// Block devices.
    pub block: Block,
    /// Huge pages, by size: `2MB`.
    pub huge_pages: BTreeMap<String, HugePages>,
    /// RDMA, by device and kind: what is in use.
    pub rdma: BTreeMap<String, BTreeMap<String, u64>>,
    /// The same: what may be; the highest number is no limit.
    pub rdma_limits: BTreeMap<String, BTreeMap<String, u64>>,
    /// What only some machines have a number of (v2), by the kernel's word for it: `sev`.
    pub misc: BTreeMap<String, Gauge>,
}

/// Processor time, in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cpu {
    /// All of it.
    pub total: u64,
    /// In programs.
    pub user: u64,
    /// In the kernel.
    pub kernel: u64,
    /// All of it, by processor (v1).
    pub per_cpu: Vec<u64>,
    /// In programs, by processor (v1).
    pub per_cpu_user: Vec<u64>,
    /// In the kernel, by processor (v1).
    pub per_cpu_kernel: Vec<u64>,
    /// What the limit did.
    pub throttling: Throttling,
    /// Time lost waiting for processors.
    pub pressure: Option<Pressure>,
}

/// What a limit of processor time did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttling {
    /// Periods that have passed.
    pub periods: u64,
    /// Periods in which the limit was reached.
    pub throttled: u64,
    /// Nanoseconds spent waiting for the next period.
    pub time: u64,
    /// Periods in which saved time was used.
    pub bursts: u64,
    /// Nanoseconds of saved time used.
    pub burst_time: u64,
}

/// Processors and memory nodes (v1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpuset {
    /// Processors.
    pub cpus: Vec<u16>,
    /// Memory nodes.
    pub mems: Vec<u16>,
    /// The switches, by the rest of their file's name: `cpu_exclusive`.
    pub switches: BTreeMap<String, i64>,
}

/// Memory, in bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// Pages of files.
    pub cache: u64,
    /// Memory.
    pub usage: Gauge,
    /// Memory and swap together, as v1 counts.
    pub with_swap: Gauge,
    /// Swap alone (v2).
    pub swap: Option<Gauge>,
    /// The kernel's own memory (v1).
    pub kernel: Gauge,
    /// Buffers of TCP (v1).
    pub kernel_tcp: Gauge,
    /// Every field of `memory.stat`.
    pub raw: BTreeMap<String, u64>,
    /// Every field of `memory.events` (v2) or `memory.oom_control` (v1).
    pub events: BTreeMap<String, u64>,
    /// Time lost waiting for memory.
    pub pressure: Option<Pressure>,
}

/// Something with a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauge {
    /// The limit. No limit is the highest number on v2, and the highest multiple of a page that has 63 bits on v1.
    pub limit: u64,
    /// In use.
    pub usage: u64,
    /// The most that was in use; 0 where the kernel does not keep it.
    pub max: u64,
    /// How often the limit was reached.
    pub failures: u64,
}

/// Processes and threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pids {
    /// How many there are.
    pub current: u64,
    /// How many there may be.
    pub limit: Option<u64>,
}

/// Block devices: a list for each thing that is counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Block {
    /// Bytes.
    pub bytes: Vec<Transfer>,
    /// Operations.
    pub operations: Vec<Transfer>,
    /// Operations waiting now.
    pub queued: Vec<Transfer>,
    /// Nanoseconds of service.
    pub service_time: Vec<Transfer>,
    /// Nanoseconds in queues.
    pub wait_time: Vec<Transfer>,
    /// Operations that were merged with others.
    pub merged: Vec<Transfer>,
    /// Milliseconds of the device's time.
    pub time: Vec<Transfer>,
    /// Sectors.
    pub sectors: Vec<Transfer>,
    /// Time lost waiting for devices.
    pub pressure: Option<Pressure>,
}

/// One number of one device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// The device's major number.
    pub major: u64,
    /// Its minor number.
    pub minor: u64,
    /// `Read`, `Write`, `Sync`, `Async`, `Discard`, `Total`; empty where it makes no difference.
    pub operation: String,
    /// How much.
    pub value: u64,
}

/// Huge pages of one size, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HugePages {
    /// In use.
    pub usage: u64,
    /// The most that was in use (v1).
    pub max: u64,
    /// How often the limit was reached.
    pub failures: u64,
    /// How much there may be.
    pub limit: u64,
    /// Reserved, in use or not.
    pub reserved: u64,
}

/// Pressure stall information.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    /// Some processes waited.
    pub some: Option<Stall>,
    /// All of them did.
    pub full: Option<Stall>,
}

/// How much time was lost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stall {
    /// Per cent, of the last 10 seconds.
    pub avg10: f64,
    /// Per cent, of the last minute.
    pub avg60: f64,
    /// Per cent, of the last 5 minutes.
    pub avg300: f64,
    /// Microseconds, in all.
    pub total: u64,
}

impl Cgroup {
    /// How much memory there may be, is, and was at most; none without a controller for it, or once the group is gone.
    pub fn memory(&self) -> Result<Option<Gauge>, Failed> {
        let Some(group) = self.managing("memory") else { return Ok(None) };
        if !group.place.is_there(group.place.path())? {
            return Ok(None);
        }
        match group.version {
            Version::V1 => group.gauge("memory"),
            Version::V2 => group.gauge_v2("memory", None),
        }
        .map(Some)
    }

    /// What the container has used. What is not counted on this host is left at 0.
    pub fn statistics(&self) -> Result<Statistics, Failed> {
        let mut all = Statistics::default();
        for group in &self.groups {
            match group.version {
                Version::V1 => group.count_v1(&mut all)?,
                Version::V2 => group.count_v2(&mut all)?,
            }
        }
        Ok(all)
    }
}

impl Group {
    /// The text of a file; none where this kernel, or this group, does not have it.
    pub(crate) fn shown(&self, file: &str) -> Result<Option<String>, Failed> {
        match self.place.read(file) {
            Ok(text) => Ok(Some(text)),
            Err(failed) if is_gone(&failed) || failed.errno() == Some(Errno::OPNOTSUPP) => Ok(None),
            Err(failed) => Err(failed),
        }
    }

    /// The only number in a file; 0 where there is none.
    fn number(&self, file: &str) -> Result<u64, Failed> {
        Ok(self.shown(file)?.and_then(|text| parse::number(&text)).unwrap_or(0))
    }

    /// Sizes of huge pages, as the names of the files tell them.
    fn page_sizes(&self, end: &str) -> Result<Vec<String>, Failed> {
        let size = |name: &String| {
            let size = name.strip_prefix("hugetlb.")?.strip_suffix(end)?.strip_suffix('.')?;
            (!size.contains('.')).then(|| size.to_owned())
        };
        match self.place.files() {
            // Removed meanwhile, as any of the files may be.
            Err(failed) if is_gone(&failed) => Ok(Vec::new()),
            files => Ok(files?.iter().filter_map(size).collect()),
        }
    }
}
