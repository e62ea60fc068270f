//! What a container uses, as containerd's messages have it: one for each generation of control groups.

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::well_known_types::timestamp::Timestamp;
use containerd_shim_protos::protobuf::{Message as _, MessageField};
use engine::{Statistics, metrics};
use state::Moment;

/// A point in time, as a message.
pub(crate) fn timestamp(at: Moment) -> Timestamp {
    let nanos = i32::try_from(at.nanoseconds).unwrap_or(0);
    Timestamp { seconds: at.seconds, nanos, ..Timestamp::default() }
}

/// The message that tells of these figures.
pub(crate) fn message(all: &Statistics, is_unified: bool) -> Result<Any, String> {
    let (name, value) = if is_unified {
        ("io.containerd.cgroups.v2.Metrics", v2::of(&metrics::v2::Metrics::from(all)).write_to_bytes())
    } else {
        ("io.containerd.cgroups.v1.Metrics", v1::of(&metrics::v1::Metrics::from(all)).write_to_bytes())
    };
    let value = value.map_err(|why| why.to_string())?;
    Ok(Any { type_url: name.to_owned(), value, ..Any::default() })
}

/// Copies fields of one name from a value to a message.
macro_rules! copied {
    ($from:expr, $type:ident { $($field:ident),* $(,)? } $($other:ident: $value:expr),* $(,)?) => {
        $type { $($field: $from.$field.clone(),)* $($other: $value,)* ..$type::default() }
    };
}

mod v1 {
    use containerd_shim_protos::cgroups::metrics::{
        BlkIOEntry, BlkIOStat, CPUStat, CPUUsage, HugetlbStat, MemoryEntry, MemoryOomControl, MemoryStat,
        Metrics, PidsStat, RdmaEntry, RdmaStat, Throttle,
    };

    use super::{MessageField, metrics};

    pub(super) fn of(all: &metrics::v1::Metrics) -> Metrics {
        Metrics {
            hugetlb: all
                .hugetlb
                .iter()
                .map(|one| copied!(one, HugetlbStat { usage, max, failcnt, pagesize }))
                .collect(),
            pids: MessageField::some(copied!(all.pids, PidsStat { current, limit })),
            cpu: MessageField::some(CPUStat {
                usage: MessageField::some(copied!(all.cpu.usage, CPUUsage { total, kernel, user, per_cpu })),
                throttling: MessageField::some(copied!(
                    all.cpu.throttling,
                    Throttle { periods, throttled_periods, throttled_time }
                )),
                ..CPUStat::default()
            }),
            memory: MessageField::some(memory(&all.memory)),
            blkio: MessageField::some(block(&all.blkio)),
            rdma: MessageField::some(rdma(&all.rdma)),
            memory_oom_control: MessageField::some(copied!(
                all.memory_oom_control,
                MemoryOomControl { oom_kill_disable, under_oom, oom_kill }
            )),
            ..Metrics::default()
        }
    }

    fn memory(all: &metrics::v1::MemoryStat) -> MemoryStat {
        let entry = |one: &metrics::v1::MemoryEntry| {
            MessageField::some(copied!(one, MemoryEntry { limit, usage, max, failcnt }))
        };
        copied!(all, MemoryStat { cache, rss, rss_huge, mapped_file, dirty, writeback, pg_pg_in, pg_pg_out, pg_fault, pg_maj_fault, inactive_anon, active_anon, inactive_file, active_file, unevictable, hierarchical_memory_limit, hierarchical_swap_limit, total_cache, total_rss, total_rss_huge, total_mapped_file, total_dirty, total_writeback, total_pg_pg_in, total_pg_pg_out, total_pg_fault, total_pg_maj_fault, total_inactive_anon, total_active_anon, total_inactive_file, total_active_file, total_unevictable }
            usage: entry(&all.usage),
            swap: entry(&all.swap),
            kernel: entry(&all.kernel),
            kernel_tcp: entry(&all.kernel_tcp),
        )
    }

    fn block(all: &metrics::v1::BlkIOStat) -> BlkIOStat {
        let entries = |all: &[metrics::v1::BlkIOEntry]| {
            all.iter().map(|one| copied!(one, BlkIOEntry { op, device, major, minor, value })).collect()
        };
        BlkIOStat {
            io_service_bytes_recursive: entries(&all.io_service_bytes_recursive),
            io_serviced_recursive: entries(&all.io_serviced_recursive),
            io_queued_recursive: entries(&all.io_queued_recursive),
            io_service_time_recursive: entries(&all.io_service_time_recursive),
            io_wait_time_recursive: entries(&all.io_wait_time_recursive),
            io_merged_recursive: entries(&all.io_merged_recursive),
            io_time_recursive: entries(&all.io_time_recursive),
            sectors_recursive: entries(&all.sectors_recursive),
            ..BlkIOStat::default()
        }
    }

    fn rdma(all: &metrics::RdmaStat) -> RdmaStat {
        let entries = |all: &[metrics::RdmaEntry]| {
            all.iter().map(|one| copied!(one, RdmaEntry { device, hca_handles, hca_objects })).collect()
        };
        RdmaStat { current: entries(&all.current), limit: entries(&all.limit), ..RdmaStat::default() }
    }
}

mod v2 {
    use containerd_shim_protos::cgroups_v2::metrics::{
        CPUStat, HugeTlbStat, IOEntry, IOStat, MemoryEvents, MemoryStat, Metrics, PSIData, PSIStats,
        PidsStat, RdmaEntry, RdmaStat,
    };

    use super::{MessageField, metrics};

    pub(super) fn of(all: &metrics::v2::Metrics) -> Metrics {
        Metrics {
            pids: MessageField::some(copied!(all.pids, PidsStat { current, limit })),
            cpu: MessageField::some(
                copied!(all.cpu, CPUStat { usage_usec, user_usec, system_usec, nr_periods, nr_throttled, throttled_usec, nr_bursts, burst_usec } psi: pressure(all.cpu.psi.as_ref())),
            ),
            memory: MessageField::some(
                copied!(all.memory, MemoryStat { anon, file, kernel_stack, slab, sock, shmem, file_mapped, file_dirty, file_writeback, anon_thp, inactive_anon, active_anon, inactive_file, active_file, unevictable, slab_reclaimable, slab_unreclaimable, pgfault, pgmajfault, workingset_refault, workingset_activate, workingset_nodereclaim, pgrefill, pgscan, pgsteal, pgactivate, pgdeactivate, pglazyfree, pglazyfreed, thp_fault_alloc, thp_collapse_alloc, usage, usage_limit, swap_usage, swap_limit, max_usage, swap_max_usage } psi: pressure(all.memory.psi.as_ref())),
            ),
            rdma: MessageField::some(rdma(&all.rdma)),
            io: MessageField::some(IOStat {
                usage: all
                    .io
                    .usage
                    .iter()
                    .map(|one| copied!(one, IOEntry { major, minor, rbytes, wbytes, rios, wios }))
                    .collect(),
                psi: pressure(all.io.psi.as_ref()),
                ..IOStat::default()
            }),
            hugetlb: all
                .hugetlb
                .iter()
                .map(|one| copied!(one, HugeTlbStat { current, max, pagesize }))
                .collect(),
            memory_events: MessageField::some(copied!(
                all.memory_events,
                MemoryEvents { low, high, max, oom, oom_kill }
            )),
            ..Metrics::default()
        }
    }

    fn pressure(told: Option<&metrics::v2::PSIStats>) -> MessageField<PSIStats> {
        let data = |data: Option<&metrics::v2::PSIData>| {
            let data = data.map(|data| copied!(data, PSIData { avg10, avg60, avg300, total }));
            data.map_or_else(MessageField::none, MessageField::some)
        };
        let stats = told.map(|told| PSIStats {
            some: data(told.some.as_ref()),
            full: data(told.full.as_ref()),
            ..PSIStats::default()
        });
        stats.map_or_else(MessageField::none, MessageField::some)
    }

    fn rdma(all: &metrics::RdmaStat) -> RdmaStat {
        let entries = |all: &[metrics::RdmaEntry]| {
            all.iter().map(|one| copied!(one, RdmaEntry { device, hca_handles, hca_objects })).collect()
        };
        RdmaStat { current: entries(&all.current), limit: entries(&all.limit), ..RdmaStat::default() }
    }
}

#[cfg(test)]
mod tests {
    use containerd_shim_protos::{cgroups, cgroups_v2};

    use super::*;

    #[test]
    fn figures_arrive_in_either_message() -> Result<(), Box<dyn std::error::Error>> {
        let mut all = Statistics::default();
        all.cpu.total = 2_000_000;
        all.pids.current = 3;
        all.memory.raw.insert("anon".to_owned(), 4096);
        all.memory.raw.insert("total_rss".to_owned(), 8192);
        let one = message(&all, false)?;
        let read = cgroups::metrics::Metrics::parse_from_bytes(&one.value)?;
        assert_eq!(one.type_url, "io.containerd.cgroups.v1.Metrics");
        assert_eq!((read.cpu.usage.total, read.memory.total_rss, read.pids.current), (2_000_000, 8192, 3));
        let other = message(&all, true)?;
        let read = cgroups_v2::metrics::Metrics::parse_from_bytes(&other.value)?;
        assert_eq!(other.type_url, "io.containerd.cgroups.v2.Metrics");
        assert_eq!((read.cpu.usage_usec, read.memory.anon, read.pids.limit), (2000, 4096, u64::MAX));
        Ok(())
    }
}
