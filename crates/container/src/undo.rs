//! What a failed create takes back.

use cgroup::Cgroup;
use plan::systemd::Held;
use rustix::fs::unlink;
use state::Entry;
use sys::{Called, Failed};

use crate::birth::Born;
use crate::devices::Devices;
use crate::hooks::{Aftermath, Blocked};
use crate::keeper::Keeper;
use crate::unit::{self, Placeholder};

/// What was made so far. Undone backwards, all of it, whatever fails on the way.
#[derive(Debug, Default)]
pub(crate) struct Undo {
    pub(crate) entry: Option<Entry>,
    /// The unit of the cgroups, once its manager was asked for it.
    pub(crate) unit: Option<Held>,
    pub(crate) placeholder: Option<Placeholder>,
    pub(crate) cgroup: Option<Cgroup>,
    pub(crate) init: Option<Born>,
    /// Network devices that were moved in.
    pub(crate) devices: Option<Devices>,
    pub(crate) keeper: Option<Keeper>,
    pub(crate) pid_file: Option<String>,
    /// The hooks that are owed once all is gone, and how hooks are run.
    pub(crate) aftermath: Option<Aftermath>,
    pub(crate) blocked: Option<Blocked>,
}

impl Undo {
    /// Takes everything back; what could not be.
    pub(crate) fn run(&mut self) -> Vec<Failed> {
        let mut left = Vec::new();
        if let Some(path) = self.pid_file.take() {
            left.extend(unlink(path.as_str()).called(|| format!("unlink({path:?})")).err());
        }
        // Before init, with which their namespace may go, and they with it.
        if let Some(devices) = self.devices.take() {
            left.extend(devices.back());
        }
        if let Some(keeper) = self.keeper.take() {
            left.extend(keeper.end().err());
        }
        if let Some(init) = self.init.take() {
            left.extend(init.end().err());
        }
        if let Some(placeholder) = self.placeholder.take() {
            left.extend(placeholder.end().err());
        }
        let cgroup = self.cgroup.take();
        left.extend(cgroup.as_ref().and_then(|cgroup| cgroup.kill_all().err()));
        if let Some(held) = self.unit.take() {
            left.extend(unit::stop(&held).err());
        }
        left.extend(cgroup.and_then(|cgroup| cgroup.remove().err()));
        // As long as something of the container is left, its record must be, for `delete` to find it.
        if let Some(entry) = self.entry.take().filter(|_| left.is_empty()) {
            if let (Some(aftermath), Some(blocked)) = (self.aftermath.take(), &self.blocked) {
                left.extend(aftermath.run(blocked.manner()));
            }
            left.extend(entry.remove().err());
        }
        left
    }
}
