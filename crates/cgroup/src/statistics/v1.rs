//! What v1's hierarchies count.

use sys::Failed;

use super::parse::{keyed, list, numbers, per_cpu, throttling, transfers};
use super::{Cpu, Cpuset, Gauge, HugePages, Memory, Statistics, Transfer};
use crate::Group;
use crate::read::value_of;

/// A tick of `cpuacct.stat`: the kernel shows 100 of them to programs, whatever it counts in.
const TICK: u64 = 10_000_000;

/// The switches of a cpuset.
const SWITCHES: [&str; 9] = [
    "cpu_exclusive",
    "mem_hardwall",
    "mem_exclusive",
    "memory_migrate",
    "memory_spread_page",
    "memory_spread_slab",
    "memory_pressure",
    "sched_load_balance",
    "sched_relax_domain_level",
];

impl Group {
    pub(super) fn count_v1(&self, all: &mut Statistics) -> Result<(), Failed> {
        for controller in &self.controllers {
            match controller.as_str() {
                "cpuacct" => self.accounts(&mut all.cpu)?,
                "cpu" => {
                    let stat = self.shown("cpu.stat")?.unwrap_or_default();
                    all.cpu.throttling = throttling(&keyed(&stat));
                }
                "cpuset" => all.cpuset = Some(self.cpuset()?),
                "memory" => self.memory_v1(&mut all.memory)?,
                "pids" => self.count_pids(all)?,
                "blkio" => self.block_v1(all)?,
                "hugetlb" => {
                    for size in self.page_sizes("usage_in_bytes")? {
                        let pages = HugePages {
                            usage: self.number(&format!("hugetlb.{size}.usage_in_bytes"))?,
                            max: self.number(&format!("hugetlb.{size}.max_usage_in_bytes"))?,
                            failures: self.number(&format!("hugetlb.{size}.failcnt"))?,
                            limit: self.number(&format!("hugetlb.{size}.limit_in_bytes"))?,
                            reserved: self.number(&format!("hugetlb.{size}.rsvd.usage_in_bytes"))?,
                        };
                        all.huge_pages.insert(size, pages);
                    }
                }
                "rdma" => self.count_rdma(all)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn accounts(&self, cpu: &mut Cpu) -> Result<(), Failed> {
        cpu.total = self.number("cpuacct.usage")?;
        cpu.per_cpu = numbers(&self.shown("cpuacct.usage_percpu")?.unwrap_or_default());
        (cpu.per_cpu_user, cpu.per_cpu_kernel) =
            per_cpu(&self.shown("cpuacct.usage_all")?.unwrap_or_default());
        let stat = self.shown("cpuacct.stat")?.unwrap_or_default();
        cpu.user = value_of(&stat, "user").unwrap_or(0).saturating_mul(TICK);
        cpu.kernel = value_of(&stat, "system").unwrap_or(0).saturating_mul(TICK);
        Ok(())
    }

    fn cpuset(&self) -> Result<Cpuset, Failed> {
        // Where the hierarchy is mounted with `noprefix`, the names are short.
        let prefix = if self.shown("cpuset.cpus")?.is_some() { "cpuset." } else { "" };
        let shown = |name: &str| self.shown(&format!("{prefix}{name}"));
        let mut cpuset = Cpuset {
            cpus: list(&shown("cpus")?.unwrap_or_default()),
            mems: list(&shown("mems")?.unwrap_or_default()),
            ..Cpuset::default()
        };
        for name in SWITCHES {
            let text = shown(name)?.unwrap_or_default();
            if let Ok(value) = text.trim().parse() {
                cpuset.switches.insert(name.to_owned(), value);
            }
        }
        Ok(cpuset)
    }

    fn memory_v1(&self, memory: &mut Memory) -> Result<(), Failed> {
        memory.raw = keyed(&self.shown("memory.stat")?.unwrap_or_default());
        memory.cache = memory.raw.get("cache").copied().unwrap_or(0);
        memory.usage = self.gauge("memory")?;
        memory.with_swap = self.gauge("memory.memsw")?;
        memory.kernel = self.gauge("memory.kmem")?;
        memory.kernel_tcp = self.gauge("memory.kmem.tcp")?;
        memory.events = keyed(&self.shown("memory.oom_control")?.unwrap_or_default());
        Ok(())
    }

    pub(super) fn gauge(&self, name: &str) -> Result<Gauge, Failed> {
        Ok(Gauge {
            limit: self.number(&format!("{name}.limit_in_bytes"))?,
            usage: self.number(&format!("{name}.usage_in_bytes"))?,
            max: self.number(&format!("{name}.max_usage_in_bytes"))?,
            failures: self.number(&format!("{name}.failcnt"))?,
        })
    }

    /// Who schedules a device counts for it: BFQ, CFQ before Linux 5.0, or the throttle that all pass through. The first
    /// that has counted something is asked, as runc does.
    fn block_v1(&self, all: &mut Statistics) -> Result<(), Failed> {
        let read = |file: &str| -> Result<Vec<Transfer>, Failed> {
            Ok(transfers(&self.shown(&format!("blkio.{file}"))?.unwrap_or_default()))
        };
        let block = &mut all.block;
        for (prefix, end) in
            [("bfq.", "_recursive"), ("", "_recursive"), ("throttle.", "_recursive"), ("throttle.", "")]
        {
            let of = |name: &str| read(&format!("{prefix}{name}{end}"));
            block.operations = of("io_serviced")?;
            if block.operations.is_empty() {
                continue;
            }
            block.bytes = of("io_service_bytes")?;
            if prefix != "throttle." {
                block.queued = of("io_queued")?;
                block.service_time = of("io_service_time")?;
                block.wait_time = of("io_wait_time")?;
                block.merged = of("io_merged")?;
                block.time = of("time")?;
                block.sectors = of("sectors")?;
            }
            break;
        }
        Ok(())
    }
}
