//! What clients are answered.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::container::Container;
use crate::error::Error;
use crate::request::Request;
use crate::token::{Token, Verdict};

/// One response; its kind is that of the request, or the permission was missing: the client panics over any other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// What the peer is called.
    Ident(Container),
    /// What there is to know of a container.
    Inspect(Inspected),
    /// A package was brought.
    Install(Installed),
    /// A signal was sent.
    Kill(Outcome),
    /// Which containers there are.
    List(Vec<Container>),
    /// As many as were asked for, in that order.
    Mount(Vec<Outcome>),
    /// Nothing was done: the request, for which the permission is missing.
    PermissionDenied(Request),
    /// Which repositories there are.
    Repositories(Vec<String>),
    /// The daemon ends.
    Shutdown,
    /// A container was started.
    Start(Outcome),
    /// A token was made.
    Token(Token),
    /// A token was looked at.
    TokenVerification(Verdict),
    /// As many as were asked for, in that order.
    Umount(Vec<Outcome>),
    /// A package was taken away.
    Uninstall(Outcome),
}

/// How something ended that was done to a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is done.
    Ok {
        /// To whom.
        container: Container,
    },
    /// It is not.
    Error {
        /// To whom.
        container: Container,
        /// Why.
        error: Error,
    },
}

/// How it ended to bring a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Installed {
    /// It is there.
    Ok {
        /// What it is called.
        container: Container,
    },
    /// It is not.
    Error {
        /// Why.
        error: Error,
    },
}

/// How it ended to look at a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Inspected {
    /// It is there.
    Ok {
        /// What it is called.
        container: Container,
        /// What there is to know of it.
        data: Box<Data>,
    },
    /// It is not.
    Error {
        /// What was asked for.
        container: Container,
        /// Why.
        error: Error,
    },
}

/// What there is to know of a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Data {
    /// Its manifest, in which the published client bears no field that Northstar 0.9 does not know, but below `custom`.
    pub manifest: Value,
    /// Where it is kept.
    pub repository: String,
    /// Whether its image is mounted.
    pub mounted: bool,
    /// Its process, while it runs.
    #[serde(default)]
    pub process: Option<Process>,
}

/// A container's process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// Its number on the host.
    pub pid: u32,
    /// Since when it runs, in nanoseconds.
    pub uptime: u64,
    /// What it uses: free of form.
    pub statistics: Value,
}

impl From<(Container, Result<(), Error>)> for Outcome {
    fn from((container, done): (Container, Result<(), Error>)) -> Self {
        match done {
            Ok(()) => Self::Ok { container },
            Err(error) => Self::Error { container, error },
        }
    }
}

impl From<Result<Container, Error>> for Installed {
    fn from(done: Result<Container, Error>) -> Self {
        match done {
            Ok(container) => Self::Ok { container },
            Err(error) => Self::Error { error },
        }
    }
}
