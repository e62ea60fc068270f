//! `io.containerd.cgroups.v2.Metrics`.
#![allow(missing_docs, reason = "the names are those of the message, and mostly the kernel's")]

use serde::Serialize;

use super::{PidsStat, RdmaStat, keyed};
use crate::Statistics;
use crate::statistics::{Pressure, Stall};

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Metrics {
    pub pids: PidsStat,
    pub cpu: CPUStat,
    pub memory: MemoryStat,
    pub rdma: RdmaStat,
    pub io: IOStat,
    pub hugetlb: Vec<HugeTlbStat>,
    pub memory_events: MemoryEvents,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CPUStat {
    pub usage_usec: u64,
    pub user_usec: u64,
    pub system_usec: u64,
    pub nr_periods: u64,
    pub nr_throttled: u64,
    pub throttled_usec: u64,
    pub psi: Option<PSIStats>,
    pub nr_bursts: u64,
    pub burst_usec: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MemoryStat {
    pub anon: u64,
    pub file: u64,
    pub kernel_stack: u64,
    pub slab: u64,
    pub sock: u64,
    pub shmem: u64,
    pub file_mapped: u64,
    pub file_dirty: u64,
    pub file_writeback: u64,
    pub anon_thp: u64,
    pub inactive_anon: u64,
    pub active_anon: u64,
    pub inactive_file: u64,
    pub active_file: u64,
    pub unevictable: u64,
    pub slab_reclaimable: u64,
    pub slab_unreclaimable: u64,
    pub pgfault: u64,
    pub pgmajfault: u64,
    pub workingset_nodereclaim: u64,
    pub pgrefill: u64,
    pub pgscan: u64,
    pub pgsteal: u64,
    pub pgactivate: u64,
    pub pgdeactivate: u64,
    pub pglazyfree: u64,
    pub pglazyfreed: u64,
    pub thp_fault_alloc: u64,
    pub thp_collapse_alloc: u64,
    pub workingset_refault: u64,
    pub workingset_activate: u64,
    pub usage: u64,
    pub usage_limit: u64,
    pub swap_usage: u64,
    pub swap_limit: u64,
    pub max_usage: u64,
    pub swap_max_usage: u64,
    pub psi: Option<PSIStats>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryEvents {
    pub low: u64,
    pub high: u64,
    pub max: u64,
    pub oom: u64,
    pub oom_kill: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct IOStat {
    pub usage: Vec<IOEntry>,
    pub psi: Option<PSIStats>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct IOEntry {
    pub major: u64,
    pub minor: u64,
    pub rbytes: u64,
    pub wbytes: u64,
    pub rios: u64,
    pub wios: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HugeTlbStat {
    pub current: u64,
    /// The limit.
    pub max: u64,
    pub pagesize: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PSIStats {
    pub some: Option<PSIData>,
    pub full: Option<PSIData>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct PSIData {
    pub avg10: f64,
    pub avg60: f64,
    pub avg300: f64,
    pub total: u64,
}

impl From<&Statistics> for Metrics {
    fn from(all: &Statistics) -> Self {
        let huge = |(size, pages): (&String, &crate::statistics::HugePages)| HugeTlbStat {
            current: pages.usage,
            max: pages.limit,
            pagesize: size.clone(),
        };
        Self {
            pids: PidsStat { current: all.pids.current, limit: all.pids.limit.unwrap_or(u64::MAX) },
            cpu: CPUStat::of(all),
            memory: MemoryStat::of(all),
            rdma: RdmaStat::of(all),
            io: IOStat::of(all),
            hugetlb: all.huge_pages.iter().map(huge).collect(),
            memory_events: keyed!(
                all.memory.events,
                MemoryEvents { low: "low", high: "high", max: "max", oom: "oom", oom_kill: "oom_kill" }
            ),
        }
    }
}

impl CPUStat {
    fn of(all: &Statistics) -> Self {
        let (cpu, throttling) = (&all.cpu, all.cpu.throttling);
        Self {
            usage_usec: cpu.total / 1000,
            user_usec: cpu.user / 1000,
            system_usec: cpu.kernel / 1000,
            nr_periods: throttling.periods,
            nr_throttled: throttling.throttled,
            throttled_usec: throttling.time / 1000,
            psi: stats(cpu.pressure),
            nr_bursts: throttling.bursts,
            burst_usec: throttling.burst_time / 1000,
        }
    }
}

impl MemoryStat {
    fn of(all: &Statistics) -> Self {
        let memory = &all.memory;
        let raw = &memory.raw;
        let swap = memory.swap.unwrap_or_default();
        // One number until Linux 5.9, and two since.
        let sum = |key: &str| {
            let of = |key: &str| raw.get(key).copied();
            of(key).unwrap_or_else(|| {
                of(&format!("{key}_anon")).unwrap_or(0) + of(&format!("{key}_file")).unwrap_or(0)
            })
        };
        keyed!(raw, Self {
            anon: "anon",
            file: "file",
            kernel_stack: "kernel_stack",
            slab: "slab",
            sock: "sock",
            shmem: "shmem",
            file_mapped: "file_mapped",
            file_dirty: "file_dirty",
            file_writeback: "file_writeback",
            anon_thp: "anon_thp",
            inactive_anon: "inactive_anon",
            active_anon: "active_anon",
            inactive_file: "inactive_file",
            active_file: "active_file",
            unevictable: "unevictable",
            slab_reclaimable: "slab_reclaimable",
            slab_unreclaimable: "slab_unreclaimable",
            pgfault: "pgfault",
            pgmajfault: "pgmajfault",
            workingset_nodereclaim: "workingset_nodereclaim",
            pgrefill: "pgrefill",
            pgscan: "pgscan",
            pgsteal: "pgsteal",
            pgactivate: "pgactivate",
            pgdeactivate: "pgdeactivate",
            pglazyfree: "pglazyfree",
            pglazyfreed: "pglazyfreed",
            thp_fault_alloc: "thp_fault_alloc",
            thp_collapse_alloc: "thp_collapse_alloc",
        }
            workingset_refault: sum("workingset_refault"),
            workingset_activate: sum("workingset_activate"),
            usage: memory.usage.usage,
            usage_limit: memory.usage.limit,
            swap_usage: swap.usage,
            swap_limit: swap.limit,
            max_usage: memory.usage.max,
            swap_max_usage: swap.max,
            psi: stats(memory.pressure),
        )
    }
}

impl IOStat {
    fn of(all: &Statistics) -> Self {
        let mut usage: Vec<IOEntry> = Vec::new();
        let lists = [(&all.block.bytes, true), (&all.block.operations, false)];
        for (one, is_bytes) in
            lists.into_iter().flat_map(|(list, is_bytes)| list.iter().map(move |one| (one, is_bytes)))
        {
            let at = usage.iter().position(|entry| (entry.major, entry.minor) == (one.major, one.minor));
            let at = at.unwrap_or_else(|| {
                usage.push(IOEntry { major: one.major, minor: one.minor, ..IOEntry::default() });
                usage.len() - 1
            });
            let Some(entry) = usage.get_mut(at) else { continue };
            match (one.operation.as_str(), is_bytes) {
                ("Read", true) => entry.rbytes = one.value,
                ("Write", true) => entry.wbytes = one.value,
                ("Read", false) => entry.rios = one.value,
                ("Write", false) => entry.wios = one.value,
                // The message has no place for what was discarded.
                _ => {}
            }
        }
        Self { usage, psi: stats(all.block.pressure) }
    }
}

fn stats(pressure: Option<Pressure>) -> Option<PSIStats> {
    let data = |stall: Stall| PSIData {
        avg10: stall.avg10,
        avg60: stall.avg60,
        avg300: stall.avg300,
        total: stall.total,
    };
    pressure.map(|pressure| PSIStats { some: pressure.some.map(data), full: pressure.full.map(data) })
}
