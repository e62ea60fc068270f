//! What is written down of a sandbox. The format is in docs/sandbox-limits.md.

use std::collections::BTreeMap;

use cgroup::Paths;
use plan::sandbox::{DeviceTable, Driver, Layout, Pattern, SandboxPlan, Share, Sized};
use plan::systemd::Held;
use serde::{Deserialize, Serialize};
use spec::Resources;
use state::{Entry, Init};
use sys::Failed;

use crate::{Error, Kind};

/// The version that this build writes, and the newest that it reads.
const VERSION: u32 = 1;

/// One sandbox.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Record {
    /// Version of this format.
    pub version: u32,
    /// How far `apply` came.
    pub phase: Phase,
    /// The sandbox's id.
    pub id: String,
    /// Who made the groups.
    pub driver: Driver,
    /// Which limits hold for what is not the guest's.
    pub layout: Layout,
    /// systemd's unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<Held>,
    /// The groups with the limits.
    pub sandbox: Paths,
    /// Those of what is not the guest's, where they are outside of the sandbox's.
    #[serde(default)]
    pub elsewhere: Paths,
    /// Where the monitor is.
    pub vmm_in: Paths,
    /// Where its threads go that are the guest's processors.
    #[serde(default)]
    pub threads_in: Paths,
    /// Where helpers go.
    #[serde(default)]
    pub helpers_in: Paths,
    /// Names of the threads that are processors.
    #[serde(default)]
    pub patterns: Vec<Pattern>,
    /// Who may use which device, and for whom.
    pub devices: DeviceTable,
    /// What the containers in the guest were given of the host's processors.
    #[serde(default)]
    pub shares: BTreeMap<String, Share>,
    /// Whether each processor of the guest has one of the host's, as long as there are as many.
    #[serde(default)]
    pub pin: bool,
    /// Memory, as it adds up.
    #[serde(default)]
    pub memory: Sized,
    /// Further limits.
    #[serde(default)]
    pub resources: Resources,
    /// The monitor; none until it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vmm: Option<Init>,
    /// Where a monitor was before that is not born here: a failure takes it back there, and does not end it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_from: Option<Paths>,
    /// What does not hold, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_enforced: Vec<String>,
    /// What somebody should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// How far `apply` came.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Things are about to be made.
    Intent,
    /// The monitor is in its groups.
    Complete,
}

/// The one field that every version has.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl Record {
    /// What is about to be made. No group is there yet.
    pub(crate) fn intent(plan: &SandboxPlan, patterns: Vec<Pattern>) -> Result<Self, Failed> {
        let is_inside = |path: &str| {
            plan.sandbox
                .groups
                .iter()
                .any(|group| path.strip_prefix(&group.path).is_some_and(|rest| rest.starts_with('/')))
        };
        let elsewhere = match &plan.overhead {
            Some(overhead) if !overhead.groups.iter().all(|group| is_inside(&group.path)) => {
                Paths::survey(overhead)?
            }
            _ => Paths::default(),
        };
        Ok(Self {
            version: VERSION,
            phase: Phase::Intent,
            id: plan.id.clone(),
            driver: plan.driver,
            layout: plan.layout,
            unit: plan.sandbox.unit.as_ref().map(|unit| unit.held.clone()),
            sandbox: Paths::survey(&plan.sandbox)?,
            elsewhere,
            vmm_in: Paths::of_spots(&plan.vmm_in),
            threads_in: Paths::of_spots(&plan.threads_in),
            helpers_in: Paths::of_spots(&plan.helpers_in),
            patterns,
            devices: plan.devices.clone(),
            shares: plan.shares.clone(),
            pin: plan.pin,
            memory: plan.memory,
            resources: plan.resources.clone(),
            vmm: None,
            moved_from: None,
            not_enforced: Vec::new(),
            notes: plan.notes.clone(),
        })
    }

    /// Reads a record, or says in one line why it cannot be read.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        match (serde_json::from_slice::<Self>(text), serde_json::from_slice::<Versioned>(text)) {
            (Ok(record), _) if record.version <= VERSION => Ok(record),
            (_, Ok(Versioned { version })) if version > VERSION => Err(format!(
                "is of version {version}, written by a newer cofferdam; this one reads up to {VERSION}"
            )),
            (Err(why), _) => Err(why.to_string()),
            (Ok(_), _) => Err("has no version".into()),
        }
    }

    pub(crate) fn write(&self, entry: &Entry) -> Result<(), Failed> {
        let text =
            serde_json::to_vec(self).map_err(|why| Failed::refused(format!("write the record: {why}")))?;
        entry.write_text(&text)
    }

    /// The record of an entry; none where `apply` was killed before it wrote one.
    pub(crate) fn read(entry: &Entry) -> Result<Option<Self>, Error> {
        let Some(text) = entry.read_text()? else { return Ok(None) };
        let told = |why| Error::new(Kind::Invalid, format!("state.json of {}: {why}", entry.id()));
        Self::parse(&text).map(Some).map_err(told)
    }
}
