//! Limits for a sandbox: the control groups that a virtual machine's monitor (VMM) lives in, and what it may use of the host.
//!
//! A virtual machine shuts its guest in; these groups shut in the program that runs it. Begin with [`compile`].

mod cpus;
mod devices;
mod layout;
mod memory;
mod place;
mod tell;
mod vcpus;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use spec::Resources;

use crate::Refused;
use crate::cgroup::{CgroupPlan, HostCgroups, Mode};

pub use cpus::{Cpus, PERIOD, Share};
pub use devices::{Device, DeviceTable, Disk, Handed, Held, Needs, Origin};
pub use layout::{Spot, cpu_settings, device_change, unit_cpus, unit_devices};
pub use memory::{Asked, Sized, told as bytes_told};
pub use place::{Driver, Path};
pub use vcpus::{Pattern, UnknownPattern};

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// The sandbox's id.
    pub id: String,
    /// Where its groups are: a path in the hierarchies, or `slice:prefix:name`. Without it the id is the path.
    pub path: Option<String>,
    /// Who makes them; without it the path's form tells.
    pub driver: Option<Driver>,
    /// Which limits hold for what is not the guest's.
    pub layout: Layout,
    /// Whether the threads that are the guest's processors get a group of their own on cgroup v2.
    pub vcpus: Vcpus,
    /// Whether there is a group for helpers, such as virtiofsd(1).
    pub helpers: bool,
    /// Sizes, in bytes.
    pub memory: Asked,
    /// What the containers in the guest were given of the host's processors, by their names.
    pub shares: BTreeMap<String, Share>,
    /// Whether each processor of the guest gets one of the host's, as long as there are as many.
    pub pin: bool,
    /// Further limits, and the caller's device rules.
    pub resources: Resources,
    /// Devices that are handed to the guest.
    pub handed: Vec<Handed>,
    /// What the VMM itself needs.
    pub needs: Needs,
}

/// Which limits hold for what is not the guest's: the monitor's own threads, and helpers.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// The sandbox's, all of them.
    #[default]
    AllInOne,
    /// None of its processor's: these are the guest's alone, as far as threads can be told apart.
    OverheadElsewhere,
}

impl Layout {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::AllInOne => "all-in-one",
            Self::OverheadElsewhere => "overhead-elsewhere",
        }
    }
}

/// Where on cgroup v2 the threads are that are the guest's processors.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Vcpus {
    /// Where the monitor is.
    #[default]
    Together,
    /// In a threaded group below the monitor's: of processors, memory nodes and their number alone, as memory is the process's.
    Threaded,
}

/// What this host has, as far as a sandbox wants to know.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// Its control groups, with the service manager where one is asked.
    pub cgroups: HostCgroups,
    /// Device nodes by path, as [`Wish::nodes`] asks for them: what they are, or why that cannot be told.
    pub nodes: BTreeMap<String, Result<Node, String>>,
    /// The major number of the device mapper, as /proc/devices has it; none where it is not loaded.
    pub device_mapper: Option<u32>,
}

/// A device node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// Whether it is a block device.
    pub is_block: bool,
    /// Its major number.
    pub major: u32,
    /// Its minor number.
    pub minor: u32,
}

/// What will be made.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SandboxPlan {
    /// The sandbox's id.
    pub id: String,
    /// Who makes the groups.
    pub driver: Driver,
    /// Which limits hold for what is not the guest's.
    pub layout: Layout,
    /// The groups that have the limits.
    pub sandbox: CgroupPlan,
    /// v2: the leaf below them that the monitor lives in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vmm: Option<CgroupPlan>,
    /// v2: the threaded group of the guest's processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vcpus: Option<CgroupPlan>,
    /// The groups of what is not the guest's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overhead: Option<CgroupPlan>,
    /// Where the monitor is born: one in each hierarchy.
    pub vmm_in: Vec<Spot>,
    /// Where its threads go that are the guest's processors; nowhere, where they are with it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub threads_in: Vec<Spot>,
    /// Where helpers are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub helpers_in: Vec<Spot>,
    /// Who may use which device, and for whom.
    pub devices: DeviceTable,
    /// Memory, as it adds up.
    #[serde(skip_serializing_if = "Sized::is_none")]
    pub memory: Sized,
    /// What the containers in the guest were given.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub shares: BTreeMap<String, Share>,
    /// Whether processors are pinned.
    pub pin: bool,
    /// Limits that are not the containers'.
    pub resources: Resources,
    /// What somebody should know who reads the wish and not the manual.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Wish {
    /// The device nodes that must be looked at before a plan can be made.
    pub fn nodes(&self) -> Vec<String> {
        self.needs.nodes().into_iter().chain(self.handed.iter().filter_map(Handed::path)).collect()
    }
}

/// From what was asked and what the host has to what will be made. Pure.
pub fn compile(wish: &Wish, host: &Host) -> Result<SandboxPlan, Refused> {
    let path = Path::parse(wish.path.as_deref(), wish.driver, &wish.id)?;
    if path.driver() == Driver::Systemd && host.cgroups.systemd.is_none() {
        return Err(Refused::asked(format!("{path}: systemd was not asked for its groups")));
    }
    if host.cgroups.mode() == Mode::None {
        return Err(Refused::asked("no control groups are mounted on this host"));
    }
    let mut notes = Vec::new();
    let devices = DeviceTable::of(wish, host, &mut notes)?;
    let memory = Sized::of(&wish.memory, limit_of(&wish.resources)?)?;
    let mut shares = wish.shares.clone();
    let mut resources = plain(&wish.resources, &mut shares);
    if let Some(limit) = memory.limit {
        resources.memory.get_or_insert_default().limit = Some(memory::signed(limit)?);
    }
    layout::plan(wish, host, &path, Parts { devices, memory, shares, resources, notes })
}

/// What was made of a wish before its groups are.
struct Parts {
    devices: DeviceTable,
    memory: Sized,
    shares: BTreeMap<String, Share>,
    resources: Resources,
    notes: Vec<String>,
}

/// What the caller's document has of a limit of memory; -1 is none.
fn limit_of(resources: &Resources) -> Result<Option<u64>, Refused> {
    match resources.memory.as_ref().and_then(|memory| memory.limit) {
        None | Some(0 | -1) => Ok(None),
        Some(limit) => u64::try_from(limit).map(Some).map_err(|_| {
            Refused::asked(format!("memory.limit: {limit} is neither -1 nor a number of bytes"))
        }),
    }
}

/// The document without what is told elsewhere: its devices are in the table, and its processors are one more share.
fn plain(resources: &Resources, shares: &mut BTreeMap<String, Share>) -> Resources {
    let mut plain = Resources { devices: Vec::new(), ..resources.clone() };
    if let Some(cpu) = &mut plain.cpu {
        let share = Share {
            cpus: cpu.cpus.take().filter(|list| !list.is_empty()),
            mems: cpu.mems.take().filter(|list| !list.is_empty()),
            quota: cpu.quota.take().filter(|quota| *quota != 0),
            period: cpu.period.take().filter(|period| *period != 0),
        };
        if !share.is_empty() {
            shares.insert("resources".into(), share);
        }
    }
    plain
}
