//! What the unified tree counts, and v1 does not: pressure too where the controllers are on v1.

use sys::Failed;

use super::parse::{io, keyed, nested, number, pressure, throttling};
use super::{Cpu, Gauge, HugePages, Memory, Pids, Pressure, Statistics};
use crate::Group;
use crate::read::value_of;

impl Group {
    pub(super) fn count_v2(&self, all: &mut Statistics) -> Result<(), Failed> {
        for controller in &self.controllers {
            match controller.as_str() {
                "memory" => self.memory_v2(&mut all.memory)?,
                "pids" => self.count_pids(all)?,
                "io" => {
                    let stat = self.shown("io.stat")?.unwrap_or_default();
                    (all.block.bytes, all.block.operations) = io(&stat);
                }
                "hugetlb" => {
                    for size in self.page_sizes("current")? {
                        let events = self.shown(&format!("hugetlb.{size}.events"))?.unwrap_or_default();
                        let pages = HugePages {
                            usage: self.number(&format!("hugetlb.{size}.current"))?,
                            max: 0,
                            failures: value_of(&events, "max").unwrap_or(0),
                            limit: self.number(&format!("hugetlb.{size}.max"))?,
                            reserved: self.number(&format!("hugetlb.{size}.rsvd.current"))?,
                        };
                        all.huge_pages.insert(size, pages);
                    }
                }
                "rdma" => self.count_rdma(all)?,
                "misc" => self.count_misc(all)?,
                _ => {}
            }
        }
        // Time is counted with and without the controller; on a hybrid host v1 has told already, by processor.
        if all.cpu.total == 0 {
            self.cpu_v2(&mut all.cpu)?;
        }
        all.cpu.pressure = self.pressure("cpu.pressure")?;
        all.memory.pressure = self.pressure("memory.pressure")?;
        all.block.pressure = self.pressure("io.pressure")?;
        Ok(())
    }

    fn cpu_v2(&self, cpu: &mut Cpu) -> Result<(), Failed> {
        let stat = keyed(&self.shown("cpu.stat")?.unwrap_or_default());
        let time = |key: &str| stat.get(key).copied().unwrap_or(0).saturating_mul(1000);
        (cpu.total, cpu.user, cpu.kernel) = (time("usage_usec"), time("user_usec"), time("system_usec"));
        cpu.throttling = throttling(&stat);
        Ok(())
    }

    fn memory_v2(&self, memory: &mut Memory) -> Result<(), Failed> {
        memory.raw = keyed(&self.shown("memory.stat")?.unwrap_or_default());
        memory.cache = memory.raw.get("file").copied().unwrap_or(0);
        memory.events = keyed(&self.shown("memory.events")?.unwrap_or_default());
        memory.usage = self.gauge_v2("memory", memory.events.get("max").copied())?;
        let swap = self.shown("memory.swap.events")?.unwrap_or_default();
        let swap = self.gauge_v2("memory.swap", value_of(&swap, "max"))?;
        memory.with_swap = together(memory.usage, swap);
        memory.swap = Some(swap);
        Ok(())
    }

    pub(super) fn gauge_v2(&self, name: &str, failures: Option<u64>) -> Result<Gauge, Failed> {
        Ok(Gauge {
            limit: self.number(&format!("{name}.max"))?,
            usage: self.number(&format!("{name}.current"))?,
            max: self.number(&format!("{name}.peak"))?,
            failures: failures.unwrap_or(0),
        })
    }

    pub(super) fn count_pids(&self, all: &mut Statistics) -> Result<(), Failed> {
        let limit = self.shown("pids.max")?.and_then(|text| number(&text)).filter(|limit| *limit != u64::MAX);
        all.pids = Pids { current: self.number("pids.current")?, limit };
        Ok(())
    }

    pub(super) fn count_rdma(&self, all: &mut Statistics) -> Result<(), Failed> {
        all.rdma = nested(&self.shown("rdma.current")?.unwrap_or_default());
        all.rdma_limits = nested(&self.shown("rdma.max")?.unwrap_or_default());
        Ok(())
    }

    /// A line for each thing that this machine has a number of; its limit and its failures are in files of their own.
    fn count_misc(&self, all: &mut Statistics) -> Result<(), Failed> {
        let of = |file: &str| -> Result<_, Failed> { Ok(keyed(&self.shown(file)?.unwrap_or_default())) };
        let (limits, peaks, events) = (of("misc.max")?, of("misc.peak")?, of("misc.events")?);
        for (name, usage) in of("misc.current")? {
            let gauge = Gauge {
                limit: limits.get(&name).copied().unwrap_or(u64::MAX),
                usage,
                max: peaks.get(&name).copied().unwrap_or(0),
                failures: events.get(&format!("{name}.max")).copied().unwrap_or(0),
            };
            all.misc.insert(name, gauge);
        }
        Ok(())
    }

    /// None where the kernel does not keep it, or was told at boot not to.
    fn pressure(&self, file: &str) -> Result<Option<Pressure>, Failed> {
        Ok(self.shown(file)?.map(|text| pressure(&text)).filter(|pressure| *pressure != Pressure::default()))
    }
}

/// As v1 counts. The two peaks may have been at different times, so there is none of both.
fn together(memory: Gauge, swap: Gauge) -> Gauge {
    let limit = match (memory.limit, swap.limit) {
        (_, u64::MAX) | (u64::MAX, _) => u64::MAX,
        (memory, swap) => memory.saturating_add(swap),
    };
    Gauge { limit, usage: memory.usage.saturating_add(swap.usage), max: 0, failures: memory.failures }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_swap_are_counted_together_as_on_v1() {
        let gauge = |limit, usage| Gauge { limit, usage, max: 9, failures: 0 };
        for (memory, swap, limit) in [(5, 7, 12), (5, u64::MAX, u64::MAX), (u64::MAX, 7, u64::MAX)] {
            let sum = together(gauge(memory, 2), gauge(swap, 3));
            assert_eq!((sum.limit, sum.usage, sum.max), (limit, 5, 0));
        }
    }
}
