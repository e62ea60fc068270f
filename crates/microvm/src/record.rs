//! What is written down of a sandbox. The format is in docs/sandbox-limits.md.

use std::collections::BTreeMap;

use cgroup::Paths;
use plan::cgroup::Version;
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
                Paths::survey(overhead)?.with_parents()
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

    /// Whether the groups are in hierarchies of version 1.
    pub(crate) fn is_v1(&self) -> bool {
        self.sandbox.groups.iter().any(|group| group.version == Version::V1)
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

#[cfg(test)]
mod tests {
    use cgroup::Record as Place;
    use plan::sandbox::{Held as Wanted, Origin};
    use plan::systemd::Bus;
    use state::Init;

    use super::*;

    fn places(path: &str) -> Paths {
        Paths {
            groups: vec![Place {
                version: Version::V2,
                controllers: vec!["cpu".into(), "memory".into()],
                mount: "/sys/fs/cgroup".into(),
                path: path.into(),
                ancestors: vec!["machine.slice".into()],
            }],
        }
    }

    /// Every field has a value that is not its default: one that is not written, or not read, is missed.
    fn full() -> Result<Record, Box<dyn std::error::Error>> {
        let bus = Bus { address: "unix:path=/run/systemd/private".into(), is_direct: true, is_user: false };
        let share =
            Share { cpus: Some("0-3".into()), mems: Some("0".into()), quota: Some(-1), period: Some(7) };
        let device =
            Wanted { device: "c 136:* rw".parse()?, by: vec![Origin::Default, Origin::Added, Origin::Added] };
        Ok(Record {
            version: VERSION,
            phase: Phase::Complete,
            id: "vm1".into(),
            driver: Driver::Systemd,
            layout: Layout::OverheadElsewhere,
            unit: Some(Held {
                unit: "vm-1.scope".into(),
                bus,
                version: 257,
                description: "Cofferdam sandbox vm1".into(),
            }),
            sandbox: places("vm1"),
            elsewhere: places("cofferdam-overhead/vm1"),
            vmm_in: places("vm1/vmm"),
            threads_in: places("vm1/vmm/vcpus"),
            helpers_in: places("vm1/overhead"),
            patterns: Pattern::known(),
            devices: DeviceTable { held: vec![device] },
            shares: BTreeMap::from([("web".into(), share)]),
            pin: true,
            memory: Sized { guest: Some(1), overhead: Some(2), limit: Some(3), helpers: Some(4) },
            resources: Resources::parse(
                br#"{"pids": {"limit": 9}, "devices": [{"allow": false, "access": "rwm"}]}"#,
            )?,
            vmm: Some(Init { pid: 4711, birthmark: Some(42), start_time: None }),
            moved_from: Some(places("user.slice")),
            not_enforced: vec!["devices: why".into()],
            notes: vec!["a note".into()],
        })
    }

    #[test]
    fn point_13_a_record_reloads_to_the_same_value() -> Result<(), Box<dyn std::error::Error>> {
        let record = full()?;
        let text = serde_json::to_vec(&record)?;
        assert_eq!(Record::parse(&text), Ok(record.clone()));
        let again = serde_json::to_vec(&Record::parse(&text)?)?;
        assert_eq!(again, text, "and is written as it was");
        let intent = Record { phase: Phase::Intent, vmm: None, unit: None, moved_from: None, ..record };
        assert_eq!(Record::parse(&serde_json::to_vec(&intent)?), Ok(intent));
        Ok(())
    }

    #[test]
    fn what_is_no_record_of_ours_is_told() {
        for (text, told) in [
            (
                &b"{\"version\": 2}"[..],
                "is of version 2, written by a newer cofferdam; this one reads up to 1",
            ),
            (b"{\"version\": 1}", "missing field"),
            (b"{", "EOF"),
            (b"[]", "invalid"),
            (b"", "EOF"),
        ] {
            let parsed = Record::parse(text);
            assert!(parsed.as_ref().is_err_and(|why| why.contains(told)), "{parsed:?}");
        }
    }
}
