//! Hooks that a command runs itself, in its own namespaces and cgroup: all but those of init.

use init::{IMPATIENCE, Manner, run_hook, run_hooks};
use plan::Hook;
use spec::{State, Status, VERSION};
use sys::{Failed, Mask, SignalFd};

use crate::{Error, Kind, Written};

/// What a hook reads of a container. A pid of 0 is left out.
pub(crate) fn state_of(record: &Written, status: Status, pid: i32) -> State {
    State {
        oci_version: VERSION.to_owned(),
        id: record.id.clone(),
        status,
        pid,
        bundle: record.bundle.clone(),
        annotations: record.annotations.clone(),
    }
}

/// How hooks are run by a command that has blocked all signals: those that ask it to end are heard all the same.
#[derive(Debug)]
pub(crate) struct Blocked {
    mask: Mask,
    pub(crate) signals: SignalFd,
}

impl Blocked {
    /// `mask`: what hooks get.
    pub(crate) fn new(mask: Mask) -> Result<Self, Failed> {
        Ok(Self { mask, signals: SignalFd::of(IMPATIENCE)? })
    }

    pub(crate) fn manner(&self) -> Manner<'_> {
        Manner { mask: Some(&self.mask), signals: Some(&self.signals), ..Manner::default() }
    }
}

/// Runs hooks until one fails.
pub(crate) fn run<'a>(
    hooks: impl IntoIterator<Item = &'a Hook>,
    state: &State,
    manner: Manner<'_>,
) -> Result<(), Error> {
    run_hooks(hooks, state, manner).map_err(|failed| Error::new(Kind::Hook, failed.to_string()))
}

/// What is run once a container is gone, by whoever took it away.
#[derive(Debug)]
pub(crate) struct Aftermath {
    hooks: Vec<Hook>,
    state: State,
}

impl Aftermath {
    /// None for a container that has no such hooks, or never came as far as its hooks.
    pub(crate) fn of(record: &Written) -> Option<Self> {
        let has_begun = record.hooks_begun || record.phase == state::Phase::Complete;
        (has_begun && !record.hooks.poststop.is_empty()).then(|| Self {
            hooks: record.hooks.poststop.clone(),
            state: state_of(record, Status::Stopped, 0),
        })
    }

    /// Runs them all, whichever fails; what failed.
    pub(crate) fn run(&self, manner: Manner<'_>) -> Vec<Failed> {
        self.hooks.iter().filter_map(|hook| run_hook(hook, &self.state, manner).err()).collect()
    }
}
