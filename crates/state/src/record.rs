//! What is written down of a container. The format is in docs/state.md.

use std::collections::BTreeMap;

use plan::systemd::Held;
use plan::{Filter, Later, Manner};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use spec::Resources;

/// The version that this build writes, and the newest that it reads.
pub(crate) const VERSION: u32 = 1;

/// One container. `Groups` is the cgroup room's own account of what it made.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Record<Groups> {
    /// Version of this format.
    pub version: u32,
    /// How far `create` came.
    pub phase: Phase,
    /// The container's id.
    pub id: String,
    /// The bundle directory, absolute.
    pub bundle: String,
    /// The root file system on the host, absolute.
    pub rootfs: String,
    /// When init was born, RFC 3339 with nanoseconds, UTC; empty until then.
    pub created: String,
    /// The document's annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The first process; none until it is born.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<Init>,
    /// Whether init is the first process of a pid namespace of its own.
    pub own_pids: bool,
    /// Whether the program is not init, but its child.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub attended: bool,
    /// Whether it kept its caller's session keyring.
    #[serde(default)]
    pub keeps_keyring: bool,
    /// The system call filter, which every process that joins gets too.
    #[serde(default)]
    pub filter: Option<Filter>,
    /// How init runs, and each later process that does not say otherwise.
    #[serde(default)]
    pub manner: Manner,
    /// Hooks that are run after `create`.
    #[serde(default)]
    pub hooks: Later,
    /// Whether any hook has been or is about to be run: those of poststop are owed from then on.
    #[serde(default)]
    pub hooks_begun: bool,
    /// The process that writes down how init ends; none where nobody was asked to.
    #[serde(default)]
    pub keeper: Option<Init>,
    /// The cgroups that were or will be made.
    pub cgroup: Groups,
    /// The unit that a service manager was or will be asked for; none where the cgroups are our own work.
    #[serde(default)]
    pub unit: Option<Held>,
    /// The limits in force: what config.json asked for, and every update since.
    #[serde(default)]
    pub limits: Resources,
    /// What was not done as asked, or done by a second way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl<Groups: DeserializeOwned> Record<Groups> {
    /// Reads a record, or says in one line why it cannot be read.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let version = || serde_json::from_slice::<Versioned>(text).map(|document| document.version);
        let why = match (serde_json::from_slice::<Self>(text), version()) {
            (Ok(record), _) if record.version <= VERSION && is_object(text) => return Ok(record),
            (_, Ok(version)) if version > VERSION => {
                format!(
                    "is of version {version}, written by a newer cofferdam; this one reads up to {VERSION}"
                )
            }
            (Err(why), _) if why.is_eof() => "is cut off".to_owned(),
            _ if !is_object(text) => "is no JSON object".to_owned(),
            (Err(why), _) => why.to_string(),
            (Ok(_), _) => "has no version".to_owned(),
        };
        // What somebody wrote into the file must not steer the terminal that it is told on.
        Err(why.chars().flat_map(tame).collect())
    }
}

/// A list of a record's values, in order, would do for serde.
pub(crate) fn is_object(text: &[u8]) -> bool {
    text.trim_ascii_start().starts_with(b"{")
}

fn tame(letter: char) -> impl Iterator<Item = char> {
    let escaped = letter.is_control().then(|| letter.escape_default());
    let plain = (!letter.is_control()).then_some(letter);
    escaped.into_iter().flatten().chain(plain)
}

/// The one field that every version has.
#[derive(Deserialize)]
pub(crate) struct Versioned {
    pub(crate) version: u32,
}

/// How far `create` came.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Things are about to be made; what exists of them is for `delete` to find out.
    Intent,
    /// Init was born and is known.
    Complete,
}

/// A process, the first one or its keeper, so that another one with its number cannot be taken for it.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Init {
    /// Its number in our pid namespace.
    pub pid: i32,
    /// The inode of its pidfd, which no other process of this boot has (Linux 6.9).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub birthmark: Option<u64>,
    /// Clock ticks from boot to its birth, field 22 of /proc/PID/stat; before Linux 6.9.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<u64>,
}
