//! Why something was not done, in the words that the published client knows: it breaks on any other.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::container::{Container, Name};
use crate::notification::Status;

/// One failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Error {
    /// The daemon's configuration is wrong.
    Configuration {
        /// Where, and how.
        context: String,
    },
    /// A container is in two repositories.
    DuplicateContainer {
        /// Which.
        container: Container,
    },
    /// There is no such container, or it is not in the state for this.
    InvalidContainer {
        /// Which.
        container: Container,
    },
    /// What was given for the program is refused.
    InvalidArguments {
        /// Why.
        cause: String,
    },
    /// A container is mounted already.
    MountBusy {
        /// Which.
        container: Container,
    },
    /// A container cannot be unmounted.
    UmountBusy {
        /// The one that keeps it.
        container: Container,
    },
    /// A container runs already.
    StartContainerStarted {
        /// The one that runs.
        container: Container,
    },
    /// A container has no program.
    StartContainerResource {
        /// Which.
        container: Container,
    },
    /// Another package, whose files are needed, is not there.
    StartContainerMissingResource {
        /// Who needs it.
        container: Container,
        /// What it is called.
        resource: Name,
        /// Which versions would do.
        version: String,
    },
    /// A container could not be started.
    StartContainerFailed {
        /// Which.
        container: Container,
        /// Why.
        error: String,
    },
    /// A container does not run.
    StopContainerNotStarted {
        /// Which.
        container: Container,
    },
    /// There is no such repository.
    InvalidRepository {
        /// Which.
        repository: String,
    },
    /// A container is installed already.
    InstallDuplicate {
        /// Which.
        container: Container,
    },
    /// A container ended that the daemon does not live without.
    CriticalContainer {
        /// Which.
        container: Container,
        /// How.
        status: Status,
    },
    /// Anything else.
    Unexpected {
        /// What, from the wish to its cause.
        error: String,
    },
}

impl Error {
    /// Anything that has no word of its own.
    pub fn unexpected(error: impl fmt::Display) -> Self {
        Self::Unexpected { error: error.to_string() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration { context } => write!(to, "configuration: {context}"),
            Self::DuplicateContainer { container } => write!(to, "{container} is in two repositories"),
            Self::InvalidContainer { container } => {
                write!(to, "{container}: no such container, or not in the state for this")
            }
            Self::InvalidArguments { cause } => to.write_str(cause),
            Self::MountBusy { container } => write!(to, "{container} is mounted already"),
            Self::UmountBusy { container } => write!(to, "{container} keeps it, or is not mounted"),
            Self::StartContainerStarted { container } => write!(to, "{container} runs already"),
            Self::StartContainerResource { container } => write!(to, "{container} has no program of its own"),
            Self::StartContainerMissingResource { container, resource, version } => {
                write!(to, "{container} needs {resource} {version}, which is not installed")
            }
            Self::StartContainerFailed { container, error } => write!(to, "{container}: {error}"),
            Self::StopContainerNotStarted { container } => write!(to, "{container} does not run"),
            Self::InvalidRepository { repository } => write!(to, "{repository:?}: no such repository"),
            Self::InstallDuplicate { container } => write!(to, "{container} is installed already"),
            Self::CriticalContainer { container, status } => {
                write!(to, "{container}, which is critical, {status}")
            }
            Self::Unexpected { error } => to.write_str(error),
        }
    }
}

impl std::error::Error for Error {}
