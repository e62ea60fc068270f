//! What is told about a container: to hooks and agents in the specification's words, to people and engines in
//! runc's.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::pretty::pretty;

/// The specification's state document, which hooks read from stdin.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The version that the engine implements.
    pub oci_version: String,
    /// The container's name.
    pub id: String,
    /// Where the container is in its life.
    pub status: Status,
    /// Its first process, as the reader sees it; 0 and left out when there is none.
    #[serde(default, skip_serializing_if = "none")]
    pub pid: i32,
    /// Where its config.json lies.
    pub bundle: String,
    /// Those of its config.json.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl State {
    /// On one line.
    pub fn to_line(&self) -> String {
        // Cannot fail: plain data with strings for keys.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// What the commands `state` and `list` print.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The version that the engine implements.
    pub oci_version: String,
    /// The container's name.
    pub id: String,
    /// Its first process; 0 when there is none.
    pub pid: i32,
    /// Where the container is in its life.
    pub status: Status,
    /// Where its config.json lies.
    pub bundle: String,
    /// Its root file system, absolute.
    pub rootfs: String,
    /// When it was created: RFC 3339, nanoseconds, UTC.
    pub created: String,
    /// Those of its config.json.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Who owns its state directory; `state` leaves it empty.
    pub owner: String,
}

impl Report {
    /// As `state` prints it: two spaces for each level, no newline at the end.
    pub fn to_pretty(&self) -> String {
        pretty(self, b"  ")
    }
}

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Being made; only hooks ever see it.
    Creating,
    /// Made, waiting for `start`.
    Created,
    /// The program runs.
    Running,
    /// Frozen; runc's word, which the specification allows beside its own.
    Paused,
    /// The first process is gone.
    Stopped,
}

impl Status {
    /// The word that documents and messages use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(self.name())
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn none(pid: &i32) -> bool {
    *pid == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_runcs_keys_in_runcs_order() {
        let report = Report {
            oci_version: "1.3.0".into(),
            id: "web".into(),
            pid: 0,
            status: Status::Stopped,
            bundle: "/b".into(),
            rootfs: "/b/rootfs".into(),
            created: "2026-01-02T03:04:05.000000006Z".into(),
            annotations: [("a".to_owned(), "b".to_owned())].into(),
            owner: String::new(),
        };
        let told = r#"{
  "ociVersion": "1.3.0",
  "id": "web",
  "pid": 0,
  "status": "stopped",
  "bundle": "/b",
  "rootfs": "/b/rootfs",
  "created": "2026-01-02T03:04:05.000000006Z",
  "annotations": {
    "a": "b"
  },
  "owner": ""
}"#;
        assert_eq!(report.to_pretty(), told);
        let bare = Report { annotations: BTreeMap::new(), ..report };
        assert!(!bare.to_pretty().contains("annotations"));
    }

    #[test]
    fn a_hook_reads_one_line_without_what_is_not_there() {
        let state = State {
            oci_version: "1.3.0".into(),
            id: "web".into(),
            status: Status::Stopped,
            pid: 0,
            bundle: "/b".into(),
            annotations: BTreeMap::new(),
        };
        assert_eq!(state.to_line(), r#"{"ociVersion":"1.3.0","id":"web","status":"stopped","bundle":"/b"}"#);
        let alive = State { pid: 7, status: Status::Creating, ..state };
        assert!(alive.to_line().contains(r#""status":"creating","pid":7"#));
    }

    #[test]
    fn a_status_is_written_as_it_is_named() {
        for status in [Status::Creating, Status::Created, Status::Running, Status::Paused, Status::Stopped] {
            assert_eq!(serde_json::to_value(status).ok(), Some(status.name().into()));
        }
    }
}
