//! What the halves say to each other: the talker asks by a [`Word`], the guard answers and tells by a [`Told`].
//!
//! Touches: the one socket between the halves, through [`Line`].
//! Never:   carries a path of the host's: a package is named by `NAME:VERSION`, and where things are the guard knows.
//! Begin with [`Word`].
//!
//! Every word has a number, which its answer bears: many may be under way. What the guard tells of its own accord bears
//! [`UNASKED`]. Both halves are one program, so there is no version to agree upon; the guard believes the talker nothing
//! all the same, and what it cannot read ends the talker.

mod line;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use sys::Exit;
use wire::Memory;

pub use line::{Assembly, Heard, LARGEST_TOLD, LARGEST_WORD, Line, MOST_DESCRIPTORS, packets, read};

/// The number of what nobody asked for.
pub const UNASKED: u64 = 0;

/// A word or an answer with its number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Numbered<T> {
    /// The word's, and its answer's; [`UNASKED`] without one.
    pub number: u64,
    /// What is said.
    pub what: T,
}

/// What the talker may ask for. One answer comes for each, [`Told::Failed`] where nothing is said of another; after it
/// nothing of the word is under way any more. A package is meant by its `NAME:VERSION`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Word {
    /// What is there: a [`Told::Package`] for each package, then [`Told::Surveyed`]. What happens later is told later.
    Survey,
    /// Installs a package of `size` bytes that comes through a pipe, whose reading end comes with the word:
    /// [`Told::Installed`]. Closing the other end early breaks it off.
    Install {
        /// The repository's name in the configuration.
        repository: String,
        /// Bytes.
        size: u64,
    },
    /// Removes a package that is not mounted: [`Told::Done`].
    Uninstall {
        /// Which.
        container: String,
        /// With all that containers of its name have kept.
        wipe: bool,
    },
    /// Mounts a package's image: [`Told::Done`].
    Mount {
        /// Which.
        container: String,
        /// Whether its program is about to run, and is worth being read ahead.
        is_to_run: bool,
    },
    /// Takes the mount away; it must not be in use: [`Told::Done`].
    Umount {
        /// Which.
        container: String,
    },
    /// Runs a package's program: [`Told::Started`] once it runs. One descriptor comes with the word where the manifest has
    /// a console: the container's end of a stream socket.
    Start(Start),
    /// Sends a signal to a running container's program: [`Told::Done`].
    Signal {
        /// Which.
        container: String,
        /// signal(7), 1 to 31.
        signal: i32,
    },
    /// Remembers of a container that has ended that it was asked to, and is not to be started anew: [`Told::Done`].
    Rest {
        /// Which.
        container: String,
    },
    /// Freezes all processes of a running container: [`Told::Done`].
    Freeze {
        /// Which.
        container: String,
    },
    /// Thaws them: [`Told::Done`].
    Thaw {
        /// Which.
        container: String,
    },
    /// What a running container uses: [`Told::Statistics`].
    Statistics {
        /// Which.
        container: String,
    },
    /// The daemon is to end: whatever runs is killed, whatever is mounted is unmounted, and both halves end. No answer.
    Leave {
        /// Why that is a failure, and the exit status 1; none where it is none.
        failure: Option<String>,
    },
}

/// What is to run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// Which package, which must be mounted.
    pub container: String,
    /// What runs in place of what the manifest says.
    pub command: Option<Command>,
    /// For each mount of the kind `resource`, by its target: the package that it is of, which must be mounted.
    pub resources: BTreeMap<String, String>,
}

/// A program with all that it is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// Its path in the container.
    pub init: String,
    /// Its arguments, without its own name.
    pub arguments: Vec<String>,
    /// Its environment, without what the guard adds: `NORTHSTAR_*`.
    pub environment: BTreeMap<String, String>,
}

/// What the guard answers, and what it tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Told {
    /// It was done.
    Done,
    /// It was not, and nothing is left of it.
    Failed(Failure),
    /// One of the packages that there are.
    Package(Installed),
    /// Those were all.
    Surveyed {
        /// The repositories' names.
        repositories: Vec<String>,
    },
    /// A package was installed.
    Installed(Installed),
    /// A program runs.
    Started {
        /// The number of the container's first process.
        pid: u32,
    },
    /// What a container uses: keys as the console protocol has them.
    Statistics(serde_json::Value),
    /// Unasked: a container's program has ended, and of the container nothing is left but the mount.
    Exited {
        /// Which.
        container: String,
        /// How.
        status: Status,
    },
    /// Unasked: a container that wants to hear of it has come to a limit of its memory.
    Memory {
        /// Which.
        container: String,
        /// How often what has happened to it since it was made.
        counts: Memory,
    },
    /// Unasked: somebody wants the daemon to end. All is to be stopped in order, and then [`Word::Leave`] said; whoever
    /// takes too long is not waited for.
    Shutdown,
}

/// A package that is installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Installed {
    /// `NAME:VERSION`.
    pub container: String,
    /// Where.
    pub repository: String,
    /// The manifest's text, which was verified where the repository has a key.
    pub manifest: String,
    /// Whether its image is mounted.
    pub is_mounted: bool,
    /// Its program, while that runs.
    pub process: Option<Process>,
    /// How its program ended, where it has run since the daemon started, and does no more.
    pub ended: Option<Ended>,
}

/// How a program ended that runs no more: for a talker who was not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ended {
    /// How.
    pub status: Status,
    /// Whether a signal was sent before by which one asks a program to end.
    pub was_asked: bool,
}

/// A program that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// The number of the container's first process.
    pub pid: u32,
    /// For how long it has run, in nanoseconds.
    pub uptime: u64,
    /// The packages whose directories it has mounted, by target.
    pub resources: BTreeMap<String, String>,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Status {
    /// By exit(2), with this status.
    Exit(i32),
    /// By this signal.
    Signal(i32),
}

/// Why something was not done: the path from the wish to the call, on one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// What to make of it.
    pub kind: Kind,
    /// The package that it is about, where that is another than the one asked for, or was not known before: the one that
    /// uses a mount, the one that was to be installed.
    pub container: Option<String>,
    /// The whole story.
    pub text: String,
}

/// What to make of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// What was said cannot be meant.
    Invalid,
    /// There is no such repository.
    NoRepository,
    /// It is not installed.
    NotInstalled,
    /// It is installed already, in whatever repository.
    Duplicate,
    /// The repository takes no more.
    Full,
    /// It is mounted already.
    Mounted,
    /// It is not mounted.
    NotMounted,
    /// It is in use, or something of it is under way.
    Busy,
    /// It, or another version of it, runs already.
    Running,
    /// It does not run.
    NotRunning,
    /// The container could not be made, or its program not be run.
    Start,
    /// See the text.
    Other,
}

impl Failure {
    /// A failure in words.
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self { kind, container: None, text: text.into() }
    }

    /// The same, about this package.
    #[must_use]
    pub fn about(mut self, container: impl Into<String>) -> Self {
        self.container = Some(container.into());
        self
    }

    /// The same, as one step of something larger.
    #[must_use]
    pub fn while_doing(mut self, what: &str) -> Self {
        self.text = format!("{what}: {}", self.text);
        self
    }
}

impl fmt::Display for Status {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(status) => write!(to, "exit status {status}"),
            Self::Signal(signal) => write!(to, "signal {signal}"),
        }
    }
}

impl From<Exit> for Status {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Status(status) => Self::Exit(status),
            Exit::Signal(signal) => Self::Signal(signal),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

impl From<engine::Error> for Failure {
    fn from(error: engine::Error) -> Self {
        Self::new(Kind::Other, error.to_string())
    }
}

impl From<package::Error> for Failure {
    fn from(error: package::Error) -> Self {
        let kind = match error.kind() {
            package::Kind::Full => Kind::Full,
            package::Kind::NotFound => Kind::NotInstalled,
            _ => Kind::Other,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<sys::Failed> for Failure {
    fn from(failed: sys::Failed) -> Self {
        Self::new(Kind::Other, failed.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_reads_as_it_was_meant() -> Result<(), serde_json::Error> {
        let word =
            Numbered { number: 7, what: Word::Signal { container: "hello:0.0.1".to_owned(), signal: 15 } };
        let text = serde_json::to_string(&word)?;
        assert_eq!(text, r#"{"number":7,"what":{"signal":{"container":"hello:0.0.1","signal":15}}}"#);
        assert_eq!(serde_json::from_str::<Numbered<Word>>(&text)?, word);
        Ok(())
    }

    #[test]
    fn what_is_not_known_is_not_believed() {
        for text in [
            r#"{"number":7,"what":"reboot"}"#,
            r#"{"number":7,"what":{"mount":{"container":"a:1.0.0","path":"/etc"}}}"#,
            r#"{"number":-1,"what":"survey"}"#,
            r#"{"number":1,"what":"survey","more":1}"#,
        ] {
            assert!(serde_json::from_str::<Numbered<Word>>(text).is_err(), "{text}");
        }
    }
}
