//! Control groups: what a container may use, and what it used.
//!
//! Touches: the directories that the plan names, below the mounts that it names, and nothing beside them.
//! Never:   starts a process, moves a running one where it could be born or walk by itself, remembers what the
//!          kernel can tell.
//! Begin with [`Cgroup::create`].

mod change;
mod create;
mod delegate;
mod devices;
mod end;
mod freeze;
mod join;
mod mark;
pub mod metrics;
mod place;
mod read;
mod record;
pub mod statistics;
mod systemd;
mod wait;
mod watch;

pub use change::Change;
pub use join::{Join, join_self};
pub use mark::Mark;
pub use record::{Paths, Record};
pub use statistics::Statistics;
pub use systemd::{Systemd, UnitChange};
pub use watch::{Event, Strain, Watch};

use plan::cgroup::Version;

use crate::place::Place;

/// The control groups of one container: one directory in every hierarchy of the host.
#[derive(Debug)]
pub struct Cgroup {
    groups: Vec<Group>,
    omitted: Vec<sys::Failed>,
}

/// One of its directories.
#[derive(Debug)]
struct Group {
    version: Version,
    controllers: Vec<String>,
    place: Place,
    /// Directories above it that were made for it, the topmost first.
    ancestors: Vec<String>,
    /// Whether we made it just now; a group that was opened or that was there already is none of those.
    is_new: bool,
}

impl Group {
    fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|there| there == controller)
    }
}

impl Cgroup {
    /// Whether there are none: an ordinary user may have been allowed to make none.
    pub fn is_none(&self) -> bool {
        self.groups.is_empty()
    }

    /// The group that manages `controller`: on v1 the one in its hierarchy, on v2 the only one.
    fn managing(&self, controller: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.has(controller))
    }

    /// The group in the unified tree, on v2 and on hybrid hosts.
    fn unified(&self) -> Option<&Group> {
        self.groups.iter().find(|group| group.version == Version::V2)
    }
}
