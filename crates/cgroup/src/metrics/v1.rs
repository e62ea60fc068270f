//! `io.containerd.cgroups.v1.Metrics`.
#![allow(missing_docs, reason = "the names are those of the message, and mostly the kernel's")]

use serde::Serialize;

use super::{PidsStat, RdmaStat, keyed};
use crate::Statistics;
use crate::statistics::{Gauge, HugePages, Transfer};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Metrics {
    pub hugetlb: Vec<HugetlbStat>,
    pub pids: PidsStat,
    pub cpu: CPUStat,
    pub memory: MemoryStat,
    pub blkio: BlkIOStat,
    pub rdma: RdmaStat,
    pub memory_oom_control: MemoryOomControl,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HugetlbStat {
    pub usage: u64,
    /// The most that was in use.
    pub max: u64,
    pub failcnt: u64,
    pub pagesize: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CPUStat {
    pub usage: CPUUsage,
    pub throttling: Throttle,
}

/// In nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CPUUsage {
    pub total: u64,
    pub kernel: u64,
    pub user: u64,
    pub per_cpu: Vec<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Throttle {
    pub periods: u64,
    pub throttled_periods: u64,
    pub throttled_time: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryStat {
    pub cache: u64,
    pub rss: u64,
    pub rss_huge: u64,
    pub mapped_file: u64,
    pub dirty: u64,
    pub writeback: u64,
    pub pg_pg_in: u64,
    pub pg_pg_out: u64,
    pub pg_fault: u64,
    pub pg_maj_fault: u64,
    pub inactive_anon: u64,
    pub active_anon: u64,
    pub inactive_file: u64,
    pub active_file: u64,
    pub unevictable: u64,
    pub hierarchical_memory_limit: u64,
    pub hierarchical_swap_limit: u64,
    pub total_cache: u64,
    pub total_rss: u64,
    pub total_rss_huge: u64,
    pub total_mapped_file: u64,
    pub total_dirty: u64,
    pub total_writeback: u64,
    pub total_pg_pg_in: u64,
    pub total_pg_pg_out: u64,
    pub total_pg_fault: u64,
    pub total_pg_maj_fault: u64,
    pub total_inactive_anon: u64,
    pub total_active_anon: u64,
    pub total_inactive_file: u64,
    pub total_active_file: u64,
    pub total_unevictable: u64,
    pub usage: MemoryEntry,
    pub swap: MemoryEntry,
    pub kernel: MemoryEntry,
    pub kernel_tcp: MemoryEntry,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryEntry {
    pub limit: u64,
    pub usage: u64,
    pub max: u64,
    pub failcnt: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryOomControl {
    pub oom_kill_disable: u64,
    pub under_oom: u64,
    pub oom_kill: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BlkIOStat {
    pub io_service_bytes_recursive: Vec<BlkIOEntry>,
    pub io_serviced_recursive: Vec<BlkIOEntry>,
    pub io_queued_recursive: Vec<BlkIOEntry>,
    pub io_service_time_recursive: Vec<BlkIOEntry>,
    pub io_wait_time_recursive: Vec<BlkIOEntry>,
    pub io_merged_recursive: Vec<BlkIOEntry>,
    pub io_time_recursive: Vec<BlkIOEntry>,
    pub sectors_recursive: Vec<BlkIOEntry>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BlkIOEntry {
    pub op: String,
    /// Empty: whoever knows the devices' names tells them by the numbers.
    pub device: String,
    pub major: u64,
    pub minor: u64,
    pub value: u64,
}

impl From<&Statistics> for Metrics {
    fn from(all: &Statistics) -> Self {
        let huge = |(size, pages): (&String, &HugePages)| HugetlbStat {
            usage: pages.usage,
            max: pages.max,
            failcnt: pages.failures,
            pagesize: size.clone(),
        };
        let (cpu, throttling) = (&all.cpu, all.cpu.throttling);
        Self {
            hugetlb: all.huge_pages.iter().map(huge).collect(),
            // No limit is 0 here.
            pids: PidsStat { current: all.pids.current, limit: all.pids.limit.unwrap_or(0) },
            cpu: CPUStat {
                usage: CPUUsage {
                    total: cpu.total,
                    kernel: cpu.kernel,
                    user: cpu.user,
                    per_cpu: cpu.per_cpu.clone(),
                },
                throttling: Throttle {
                    periods: throttling.periods,
                    throttled_periods: throttling.throttled,
                    throttled_time: throttling.time,
                },
            },
            memory: MemoryStat::of(all),
            blkio: BlkIOStat::of(all),
            rdma: RdmaStat::of(all),
            memory_oom_control: keyed!(
                all.memory.events,
                MemoryOomControl {
                    oom_kill_disable: "oom_kill_disable",
                    under_oom: "under_oom",
                    oom_kill: "oom_kill",
                }
            ),
        }
    }
}

impl MemoryStat {
    fn of(all: &Statistics) -> Self {
        let memory = &all.memory;
        keyed!(memory.raw, Self {
            cache: "cache",
            rss: "rss",
            rss_huge: "rss_huge",
            mapped_file: "mapped_file",
            dirty: "dirty",
            writeback: "writeback",
            pg_pg_in: "pgpgin",
            pg_pg_out: "pgpgout",
            pg_fault: "pgfault",
            pg_maj_fault: "pgmajfault",
            inactive_anon: "inactive_anon",
            active_anon: "active_anon",
            inactive_file: "inactive_file",
            active_file: "active_file",
            unevictable: "unevictable",
            hierarchical_memory_limit: "hierarchical_memory_limit",
            hierarchical_swap_limit: "hierarchical_memsw_limit",
            total_cache: "total_cache",
            total_rss: "total_rss",
            total_rss_huge: "total_rss_huge",
            total_mapped_file: "total_mapped_file",
            total_dirty: "total_dirty",
            total_writeback: "total_writeback",
            total_pg_pg_in: "total_pgpgin",
            total_pg_pg_out: "total_pgpgout",
            total_pg_fault: "total_pgfault",
            total_pg_maj_fault: "total_pgmajfault",
            total_inactive_anon: "total_inactive_anon",
            total_active_anon: "total_active_anon",
            total_inactive_file: "total_inactive_file",
            total_active_file: "total_active_file",
            total_unevictable: "total_unevictable",
        }
            usage: memory.usage.into(),
            swap: memory.with_swap.into(),
            kernel: memory.kernel.into(),
            kernel_tcp: memory.kernel_tcp.into(),
        )
    }
}

impl From<Gauge> for MemoryEntry {
    fn from(gauge: Gauge) -> Self {
        Self { limit: gauge.limit, usage: gauge.usage, max: gauge.max, failcnt: gauge.failures }
    }
}

impl BlkIOStat {
    fn of(all: &Statistics) -> Self {
        let block = &all.block;
        Self {
            io_service_bytes_recursive: entries(&block.bytes),
            io_serviced_recursive: entries(&block.operations),
            io_queued_recursive: entries(&block.queued),
            io_service_time_recursive: entries(&block.service_time),
            io_wait_time_recursive: entries(&block.wait_time),
            io_merged_recursive: entries(&block.merged),
            io_time_recursive: entries(&block.time),
            sectors_recursive: entries(&block.sectors),
        }
    }
}

fn entries(transfers: &[Transfer]) -> Vec<BlkIOEntry> {
    let entry = |one: &Transfer| BlkIOEntry {
        op: one.operation.clone(),
        device: String::new(),
        major: one.major,
        minor: one.minor,
        value: one.value,
    };
    transfers.iter().map(entry).collect()
}
