//! What subscribers hear.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::container::Container;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Notification {
    /// A container's limits were felt.
    CGroup(Container, Pressed),
    /// A container ended, and what it held is free again.
    Exit(Container, Status),
    /// A package was brought.
    Install(Container),
    /// The daemon ends.
    Shutdown,
    /// A container was started.
    Started(Container),
    /// A package was taken away.
    Uninstall(Container),
}

/// Which limit was felt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pressed {
    /// That of memory.
    Memory(Memory),
}

/// How often, since the container began: the counts of `memory.events`; none where the kernel does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Memory was reclaimed below the soft limit.
    pub low: Option<u64>,
    /// The high mark was passed.
    pub high: Option<u64>,
    /// The limit was about to be passed.
    pub max: Option<u64>,
    /// Memory ran out.
    pub oom: Option<u64>,
    /// A process was killed over it.
    pub oom_kill: Option<u64>,
    /// Memory is hard to find: what this is told for, if it is no lack. Ours: clients of the reference pass over it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pressure: Option<Pressure>,
}

/// How hard memory is to find, in the kernel's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pressure {
    /// Some processes wait for it (cgroup v2).
    Some,
    /// All do (v2).
    Full,
    /// Swap is used, or files in use are dropped (v1).
    Medium,
    /// It is about to run out (v1).
    Critical,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// By itself.
    Exit {
        /// What it says of it.
        code: i32,
    },
    /// By a signal.
    Signalled {
        /// Its number.
        signal: u32,
    },
}

impl Status {
    /// Whether it is good.
    pub fn is_success(&self) -> bool {
        *self == Self::Exit { code: 0 }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit { code } => write!(to, "exited with {code}"),
            Self::Signalled { signal } => write!(to, "was ended by signal {signal}"),
        }
    }
}

impl fmt::Display for Pressure {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Self::Some => "some",
            Self::Full => "full",
            Self::Medium => "medium",
            Self::Critical => "critical",
        })
    }
}

impl fmt::Display for Notification {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CGroup(container, Pressed::Memory(memory)) => {
                write!(to, "{container}: memory")?;
                let Memory { low, high, max, oom, oom_kill, pressure } = memory;
                let counts =
                    [("low", low), ("high", high), ("max", max), ("oom", oom), ("oom_kill", oom_kill)];
                counts.iter().try_for_each(|(name, count)| match count {
                    Some(count) => write!(to, " {name} {count}"),
                    None => Ok(()),
                })?;
                pressure.map_or(Ok(()), |pressure| write!(to, ", pressure {pressure}"))
            }
            Self::Exit(container, status) => write!(to, "{container} {status}"),
            Self::Install(container) => write!(to, "{container} was installed"),
            Self::Shutdown => to.write_str("the daemon shuts down"),
            Self::Started(container) => write!(to, "{container} was started"),
            Self::Uninstall(container) => write!(to, "{container} was uninstalled"),
        }
    }
}
