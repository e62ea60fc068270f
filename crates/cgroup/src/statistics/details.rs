//! What is set, and what few ask for: read apart from the figures, which are asked for once a second.

use std::collections::BTreeMap;

use plan::cgroup::Version;
use sys::Failed;

use super::Transfer;
use super::parse::{NodePages, keyed, numa, transfers};
use crate::{Cgroup, Group};

/// What Northstar's inspect shows beside the figures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Details {
    /// The text of `cpu.stat`; none without a controller for processors.
    pub cpu: Option<String>,
    /// Memory; none without a controller for it.
    pub memory: Option<MemoryDetails>,
    /// Block devices; none without a controller for them.
    pub block: Option<BlockDetails>,
}

/// Of memory.
#[derive(Clone, Debug, PartialEq)]
pub struct MemoryDetails {
    /// Which generation counts it.
    pub version: Version,
    /// What is left to it when there is little, in bytes: `memory.soft_limit_in_bytes`, `memory.low`.
    pub soft_limit: u64,
    /// v1's switches and numbers, by the rest of their file's name: `swappiness`, `use_hierarchy`, `move_charge_at_immigrate`.
    pub numbers: BTreeMap<&'static str, u64>,
    /// v1's `memory.oom_control`.
    pub oom_control: BTreeMap<String, u64>,
    /// Pages by memory node, by the kernel's word (v1): `total`, `hierarchical_anon`.
    pub numa: BTreeMap<String, NodePages>,
    /// The text of `memory.kmem.slabinfo` (v1, before Linux 5.16).
    pub slabs: String,
}

/// Of block devices, by the rest of their file's name: `io_merged`, `throttle.read_bps_device`.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockDetails {
    /// Which generation counts it.
    pub version: Version,
    /// Files with lines for each device (v1).
    pub devices: BTreeMap<&'static str, Vec<Transfer>>,
    /// Files with one number (v1).
    pub numbers: BTreeMap<&'static str, u64>,
}

/// With and without what is below, where both are counted.
const DEVICES: [&str; 18] = [
    "io_merged",
    "io_queued",
    "io_service_bytes",
    "io_serviced",
    "io_service_time",
    "io_wait_time",
    "sectors",
    "time",
    "leaf_weight_device",
    "weight_device",
    "throttle.io_service_bytes",
    "throttle.io_service_bytes_recursive",
    "throttle.io_serviced",
    "throttle.io_serviced_recursive",
    "throttle.read_bps_device",
    "throttle.read_iops_device",
    "throttle.write_bps_device",
    "throttle.write_iops_device",
];

impl Cgroup {
    /// What few ask for. What this host does not have is left at 0.
    pub fn details(&self) -> Result<Details, Failed> {
        let of = |v1: &str, v2: &str| self.managing(v1).or_else(|| self.managing(v2));
        Ok(Details {
            cpu: of("cpu", "cpu").map(Group::processor_text).transpose()?,
            memory: of("memory", "memory").map(Group::memory_details).transpose()?,
            block: of("blkio", "io").map(Group::block_details).transpose()?,
        })
    }
}

impl Group {
    fn processor_text(&self) -> Result<String, Failed> {
        Ok(self.shown("cpu.stat")?.unwrap_or_default())
    }

    fn memory_details(&self) -> Result<MemoryDetails, Failed> {
        let mut details = MemoryDetails {
            version: self.version,
            soft_limit: 0,
            numbers: BTreeMap::new(),
            oom_control: BTreeMap::new(),
            numa: BTreeMap::new(),
            slabs: String::new(),
        };
        if self.version == Version::V2 {
            details.soft_limit = self.number("memory.low")?;
            return Ok(details);
        }
        details.soft_limit = self.number("memory.soft_limit_in_bytes")?;
        for name in ["swappiness", "use_hierarchy", "move_charge_at_immigrate"] {
            details.numbers.insert(name, self.number(&format!("memory.{name}"))?);
        }
        details.oom_control = keyed(&self.shown("memory.oom_control")?.unwrap_or_default());
        details.numa = numa(&self.shown("memory.numa_stat")?.unwrap_or_default());
        details.slabs = self.shown("memory.kmem.slabinfo")?.unwrap_or_default();
        Ok(details)
    }

    fn block_details(&self) -> Result<BlockDetails, Failed> {
        let mut details =
            BlockDetails { version: self.version, devices: BTreeMap::new(), numbers: BTreeMap::new() };
        if self.version == Version::V2 {
            return Ok(details);
        }
        // BFQ has its own under a name of its own, and knows nothing of a leaf's weight.
        let either = |name: &str| match self.shown(&format!("blkio.{name}"))? {
            None => self.shown(&format!("blkio.bfq.{name}")),
            shown => Ok(shown),
        };
        for name in DEVICES {
            details.devices.insert(name, transfers(&either(name)?.unwrap_or_default()));
        }
        for name in ["weight", "leaf_weight"] {
            let number = either(name)?.and_then(|text| super::parse::number(&text));
            details.numbers.insert(name, number.unwrap_or(0));
        }
        Ok(details)
    }
}
