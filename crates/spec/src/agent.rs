//! What an agent is told that answers system calls in the kernel's place: the specification's containerProcessState.

use serde::{Deserialize, Serialize};

use crate::state::State;

/// Goes to the agent together with the descriptors that it names.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessState {
    /// The version that the engine implements.
    pub oci_version: String,
    /// What the descriptors are, in the order in which they go with it.
    pub fds: Vec<String>,
    /// The process whose calls the agent is asked about, as we see it.
    pub pid: i32,
    /// What the document wants the agent to know; left out where that is nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub metadata: String,
    /// The container.
    pub state: State,
}

impl ProcessState {
    /// The name of the descriptor at which calls are heard and answered.
    pub const SECCOMP_FD: &str = "seccompFd";

    /// On one line.
    pub fn to_line(&self) -> String {
        // Cannot fail: plain data with strings for keys.
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Status;

    #[test]
    fn an_agent_reads_the_words_of_the_specification() {
        let state = State {
            oci_version: "1.3.0".into(),
            id: "web".into(),
            status: Status::Creating,
            pid: 7,
            bundle: "/b".into(),
            annotations: [("a".to_owned(), "b".to_owned())].into(),
        };
        let told = ProcessState {
            oci_version: "1.3.0".into(),
            fds: vec![ProcessState::SECCOMP_FD.into()],
            pid: 7,
            metadata: "m".into(),
            state,
        };
        let inner = r#"{"ociVersion":"1.3.0","id":"web","status":"creating","pid":7,"bundle":"/b","annotations":{"a":"b"}}"#;
        let line =
            format!(r#"{{"ociVersion":"1.3.0","fds":["seccompFd"],"pid":7,"metadata":"m","state":{inner}}}"#);
        assert_eq!(told.to_line(), line);
        let silent = ProcessState { metadata: String::new(), ..told };
        assert_eq!(silent.to_line(), line.replace(r#""metadata":"m","#, ""));
    }
}
