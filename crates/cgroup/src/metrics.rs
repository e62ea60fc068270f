//! The figures as others have them. containerd's metrics: a message for each generation of control groups, field by field and by
//! the messages' own names, as plain values; whoever speaks protobuf copies them. [`northstar`] has JSON.
//!
//! Not filled, because control groups do not tell it: traffic of the network, counts of sleeping and running tasks
//! (taskstats), names of block devices.

pub mod northstar;
pub mod v1;
pub mod v2;

use std::collections::BTreeMap;

use serde::Serialize;

/// A process limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PidsStat {
    /// How many there are.
    pub current: u64,
    /// How many there may be; what no limit is written as differs between the messages.
    pub limit: u64,
}

/// RDMA.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RdmaStat {
    /// What is in use.
    pub current: Vec<RdmaEntry>,
    /// What may be.
    pub limit: Vec<RdmaEntry>,
}

/// One device of RDMA.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RdmaEntry {
    /// Its name.
    pub device: String,
    /// Handles.
    pub hca_handles: u32,
    /// Objects.
    pub hca_objects: u32,
}

impl RdmaStat {
    fn of(all: &crate::Statistics) -> Self {
        Self { current: entries(&all.rdma), limit: entries(&all.rdma_limits) }
    }
}

fn entries(devices: &BTreeMap<String, BTreeMap<String, u64>>) -> Vec<RdmaEntry> {
    // The highest number stands for no limit in the smaller type too.
    let small = |kinds: &BTreeMap<String, u64>, kind: &str| {
        u32::try_from(kinds.get(kind).copied().unwrap_or(0)).unwrap_or(u32::MAX)
    };
    let entry = |(device, kinds): (&String, &BTreeMap<String, u64>)| RdmaEntry {
        device: device.clone(),
        hca_handles: small(kinds, "hca_handle"),
        hca_objects: small(kinds, "hca_object"),
    };
    devices.iter().map(entry).collect()
}

/// Takes fields out of the kernel's keyed file; those that are not there are 0.
macro_rules! keyed {
    ($raw:expr, $type:ident { $($field:ident: $key:literal),* $(,)? } $($rest:tt)*) => {
        $type { $($field: $raw.get($key).copied().unwrap_or(0),)* $($rest)* }
    };
}
use keyed;
