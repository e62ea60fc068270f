//! Statistics as runc prints them, key by key: what is 0 is left out where Go's encoder would leave it out.

use std::collections::BTreeMap;

use container::statistics::{self, Transfer};
use container::{Statistics, Strain};
use serde::{Serialize, Serializer};

/// One line of `events`, without its end.
#[derive(Debug, Serialize)]
pub struct Line<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Told<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Told<'a> {
    Figures(Box<Data<'a>>),
    Lack {
        limit: u64,
        usage: u64,
        max: u64,
    },
    Pressure {
        level: &'static str,
        times: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        total: Option<u64>,
    },
}

impl<'a> Line<'a> {
    /// What a container uses.
    pub fn figures(id: &'a str, all: &'a Statistics) -> Self {
        Self { kind: "stats", id, data: Some(Told::Figures(Box::new(Data::of(all)))) }
    }

    /// A container lacked memory; how much there is, for those who want to hear it.
    pub fn out_of_memory(id: &'a str, memory: Option<statistics::Gauge>) -> Self {
        let told = |memory: statistics::Gauge| Told::Lack {
            limit: memory.limit,
            usage: memory.usage,
            max: memory.max,
        };
        Self { kind: "oom", id, data: memory.map(told) }
    }

    /// Memory is hard to find.
    pub fn pressure(id: &'a str, strain: Strain, times: u64) -> Self {
        let total = match strain {
            Strain::Some { total } | Strain::Full { total } => Some(total),
            Strain::Low | Strain::Medium | Strain::Critical => None,
        };
        Self { kind: "pressure", id, data: Some(Told::Pressure { level: strain.name(), times, total }) }
    }

    /// All processes are frozen.
    pub fn frozen(id: &'a str) -> Self {
        Self { kind: "frozen", id, data: None }
    }

    /// They go on.
    pub fn thawed(id: &'a str) -> Self {
        Self { kind: "thawed", id, data: None }
    }

    /// The line as text.
    pub fn to_text(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}

#[derive(Debug, Serialize)]
struct Data<'a> {
    cpu: Cpu<'a>,
    cpuset: Cpuset<'a>,
    memory: Memory<'a>,
    pids: Pids,
    blkio: Block<'a>,
    hugetlb: BTreeMap<&'a str, HugePages>,
    intel_rdt: Nothing,
    /// Kept apart by runc's own configuration, which no caller can reach.
    network_interfaces: (),
}

#[derive(Debug, Serialize)]
struct Nothing {}

#[derive(Debug, Serialize)]
struct Cpu<'a> {
    usage: CpuUsage<'a>,
    throttling: Throttling,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Pressure>,
}

#[derive(Debug, Serialize)]
struct CpuUsage<'a> {
    #[serde(skip_serializing_if = "is_zero")]
    total: u64,
    #[serde(skip_serializing_if = "is_empty")]
    percpu: &'a [u64],
    #[serde(skip_serializing_if = "is_empty")]
    percpu_kernel: &'a [u64],
    #[serde(skip_serializing_if = "is_empty")]
    percpu_user: &'a [u64],
    kernel: u64,
    user: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Throttling {
    #[serde(skip_serializing_if = "is_zero")]
    periods: u64,
    #[serde(skip_serializing_if = "is_zero")]
    throttled_periods: u64,
    #[serde(skip_serializing_if = "is_zero")]
    throttled_time: u64,
}

#[derive(Debug, Serialize)]
struct Cpuset<'a> {
    #[serde(skip_serializing_if = "is_empty")]
    cpus: &'a [u16],
    cpu_exclusive: i64,
    #[serde(skip_serializing_if = "is_empty")]
    mems: &'a [u16],
    mem_hardwall: i64,
    mem_exclusive: i64,
    memory_migrate: i64,
    memory_spread_page: i64,
    memory_spread_slab: i64,
    memory_pressure: i64,
    sched_load_balance: i64,
    sched_relax_domain_level: i64,
}

#[derive(Debug, Serialize)]
struct Memory<'a> {
    #[serde(skip_serializing_if = "is_zero")]
    cache: u64,
    usage: Gauge,
    swap: Gauge,
    kernel: Gauge,
    #[serde(rename = "kernelTCP")]
    kernel_tcp: Gauge,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    raw: &'a BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Pressure>,
}

#[derive(Debug, Serialize)]
struct Gauge {
    limit: u64,
    #[serde(skip_serializing_if = "is_zero")]
    usage: u64,
    #[serde(skip_serializing_if = "is_zero")]
    max: u64,
    failcnt: u64,
}

#[derive(Debug, Serialize)]
struct Pids {
    #[serde(skip_serializing_if = "is_zero")]
    current: u64,
    #[serde(skip_serializing_if = "is_zero")]
    limit: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Block<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_service_bytes_recursive: Vec<Entry<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_serviced_recursive: Vec<Entry<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_queue_recursive: Vec<Entry<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_service_time_recursive: Vec<Entry<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_wait_time_recursive: Vec<Entry<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_merged_recursive: Vec<Entry<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_time_recursive: Vec<Entry<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sectors_recursive: Vec<Entry<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Pressure>,
}

#[derive(Debug, Serialize)]
struct Entry<'a> {
    #[serde(skip_serializing_if = "is_zero")]
    major: u64,
    #[serde(skip_serializing_if = "is_zero")]
    minor: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    op: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    value: u64,
}

#[derive(Debug, Serialize)]
struct HugePages {
    #[serde(skip_serializing_if = "is_zero")]
    usage: u64,
    #[serde(skip_serializing_if = "is_zero")]
    max: u64,
    failcnt: u64,
}

#[derive(Debug, Serialize)]
struct Pressure {
    #[serde(skip_serializing_if = "Option::is_none")]
    some: Option<Stall>,
    #[serde(skip_serializing_if = "Option::is_none")]
    full: Option<Stall>,
}

#[derive(Debug, Serialize)]
struct Stall {
    avg10: Share,
    avg60: Share,
    avg300: Share,
    total: u64,
}

/// Per cent. Go writes a whole number without a point.
#[derive(Debug)]
struct Share(f64);

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        #[allow(clippy::cast_possible_truncation, reason = "the kernel's shares go from 0 to 100")]
        if self.0.fract() == 0.0 { to.serialize_i64(self.0 as i64) } else { to.serialize_f64(self.0) }
    }
}

impl<'a> Data<'a> {
    fn of(all: &'a Statistics) -> Self {
        Self {
            cpu: Cpu::of(&all.cpu),
            cpuset: Cpuset::of(all.cpuset.as_ref()),
            memory: Memory::of(&all.memory),
            pids: Pids { current: all.pids.current, limit: all.pids.limit.unwrap_or(0) },
            blkio: Block::of(&all.block),
            hugetlb: all
                .huge_pages
                .iter()
                .map(|(size, pages)| (size.as_str(), HugePages::of(*pages)))
                .collect(),
            intel_rdt: Nothing {},
            network_interfaces: (),
        }
    }
}

impl<'a> Cpu<'a> {
    fn of(cpu: &'a statistics::Cpu) -> Self {
        Self {
            usage: CpuUsage {
                total: cpu.total,
                percpu: &cpu.per_cpu,
                percpu_kernel: &cpu.per_cpu_kernel,
                percpu_user: &cpu.per_cpu_user,
                kernel: cpu.kernel,
                user: cpu.user,
            },
            throttling: Throttling {
                periods: cpu.throttling.periods,
                throttled_periods: cpu.throttling.throttled,
                throttled_time: cpu.throttling.time,
            },
            psi: cpu.pressure.map(Pressure::of),
        }
    }
}

impl<'a> Cpuset<'a> {
    fn of(cpuset: Option<&'a statistics::Cpuset>) -> Self {
        let switch = |name| cpuset.and_then(|cpuset| cpuset.switches.get(name)).copied().unwrap_or(0);
        Self {
            cpus: cpuset.map(|cpuset| cpuset.cpus.as_slice()).unwrap_or_default(),
            cpu_exclusive: switch("cpu_exclusive"),
            mems: cpuset.map(|cpuset| cpuset.mems.as_slice()).unwrap_or_default(),
            mem_hardwall: switch("mem_hardwall"),
            mem_exclusive: switch("mem_exclusive"),
            memory_migrate: switch("memory_migrate"),
            memory_spread_page: switch("memory_spread_page"),
            memory_spread_slab: switch("memory_spread_slab"),
            memory_pressure: switch("memory_pressure"),
            sched_load_balance: switch("sched_load_balance"),
            sched_relax_domain_level: switch("sched_relax_domain_level"),
        }
    }
}

impl<'a> Memory<'a> {
    fn of(memory: &'a statistics::Memory) -> Self {
        Self {
            cache: memory.cache,
            usage: Gauge::of(memory.usage),
            swap: Gauge::of(memory.with_swap),
            kernel: Gauge::of(memory.kernel),
            kernel_tcp: Gauge::of(memory.kernel_tcp),
            raw: &memory.raw,
            psi: memory.pressure.map(Pressure::of),
        }
    }
}

impl Gauge {
    fn of(gauge: statistics::Gauge) -> Self {
        Self { limit: gauge.limit, usage: gauge.usage, max: gauge.max, failcnt: gauge.failures }
    }
}

impl<'a> Block<'a> {
    fn of(block: &'a statistics::Block) -> Self {
        let entries = |transfers: &'a [Transfer]| transfers.iter().map(Entry::of).collect();
        Self {
            io_service_bytes_recursive: entries(&block.bytes),
            io_serviced_recursive: entries(&block.operations),
            io_queue_recursive: entries(&block.queued),
            io_service_time_recursive: entries(&block.service_time),
            io_wait_time_recursive: entries(&block.wait_time),
            io_merged_recursive: entries(&block.merged),
            io_time_recursive: entries(&block.time),
            sectors_recursive: entries(&block.sectors),
            psi: block.pressure.map(Pressure::of),
        }
    }
}

impl<'a> Entry<'a> {
    fn of(transfer: &'a Transfer) -> Self {
        Self { major: transfer.major, minor: transfer.minor, op: &transfer.operation, value: transfer.value }
    }
}

impl HugePages {
    fn of(pages: statistics::HugePages) -> Self {
        Self { usage: pages.usage, max: pages.max, failcnt: pages.failures }
    }
}

impl Pressure {
    fn of(pressure: statistics::Pressure) -> Self {
        Self { some: pressure.some.map(Stall::of), full: pressure.full.map(Stall::of) }
    }
}

impl Stall {
    fn of(stall: statistics::Stall) -> Self {
        Self {
            avg10: Share(stall.avg10),
            avg60: Share(stall.avg60),
            avg300: Share(stall.avg300),
            total: stall.total,
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_empty<T>(list: &&[T]) -> bool {
    list.is_empty()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test may end where its input is not what it says.
mod tests {
    use super::*;

    /// What runc 1.1.5 prints where nothing was counted.
    #[test]
    fn what_is_zero_is_left_out_as_go_leaves_it_out() {
        let gauge = r#"{"limit":0,"failcnt":0}"#;
        let cpuset = r#"{"cpu_exclusive":0,"mem_hardwall":0,"mem_exclusive":0,"memory_migrate":0,"memory_spread_page":0,"memory_spread_slab":0,"memory_pressure":0,"sched_load_balance":0,"sched_relax_domain_level":0}"#;
        let expected = format!(
            r#"{{"type":"stats","id":"web","data":{{"cpu":{{"usage":{{"kernel":0,"user":0}},"throttling":{{}}}},"cpuset":{cpuset},"memory":{{"usage":{gauge},"swap":{gauge},"kernel":{gauge},"kernelTCP":{gauge}}},"pids":{{}},"blkio":{{}},"hugetlb":{{}},"intel_rdt":{{}},"network_interfaces":null}}}}"#
        );
        assert_eq!(Line::figures("web", &Statistics::default()).to_text().unwrap(), expected);
    }

    #[test]
    fn every_figure_has_its_key() {
        let mut all = Statistics::default();
        all.cpu.total = 5;
        all.cpu.throttling.throttled = 3;
        let stall = statistics::Stall { avg10: 0.25, avg60: 100.0, avg300: 0.0, total: 9 };
        all.cpu.pressure = Some(statistics::Pressure { some: Some(stall), full: None });
        all.pids = statistics::Pids { current: 2, limit: Some(7) };
        let transfer = Transfer { major: 8, minor: 0, operation: "Read".into(), value: 4096 };
        all.block.bytes.push(transfer);
        all.huge_pages.insert(
            "2MB".into(),
            statistics::HugePages { usage: 1, max: 2, failures: 3, ..statistics::HugePages::default() },
        );
        all.memory.raw.insert("rss".into(), u64::MAX);
        let text = Line::figures("web", &all).to_text().unwrap();
        for part in [
            r#""usage":{"total":5,"kernel":0,"user":0},"throttling":{"throttledPeriods":3}"#,
            r#""psi":{"some":{"avg10":0.25,"avg60":100,"avg300":0,"total":9}}"#,
            r#""pids":{"current":2,"limit":7}"#,
            r#""blkio":{"ioServiceBytesRecursive":[{"major":8,"op":"Read","value":4096}]}"#,
            r#""hugetlb":{"2MB":{"usage":1,"max":2,"failcnt":3}}"#,
            r#""raw":{"rss":18446744073709551615}"#,
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_lack_of_memory_has_no_data() {
        assert_eq!(Line::out_of_memory("web", None).to_text().unwrap(), r#"{"type":"oom","id":"web"}"#);
    }
}
