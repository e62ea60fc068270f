//! Other devices for a container that runs, and the way back.

use std::os::fd::AsFd;

use plan::DeviceChange;
use plan::cgroup::{DeviceProgram, Setting, Version};
use sys::{DeviceFilter, Doing, Errno, Failed};

use crate::{Cgroup, Group};

/// What leads back to the devices that were in force.
#[derive(Debug)]
pub(crate) enum Former {
    Files { back: Vec<Setting>, turns: bool },
    Program { new: DeviceFilter, old: Vec<DeviceFilter> },
}

impl Cgroup {
    /// Writes the new list, or puts the new program in the place of the old one. `former` is set as soon as there is
    /// something to take back.
    pub(crate) fn change_devices(
        &self,
        change: &DeviceChange,
        former: &mut Option<Former>,
    ) -> Result<(), Failed> {
        match change {
            DeviceChange::Files { there, back, turns } => {
                *former = Some(Former::Files { back: back.clone(), turns: *turns });
                self.write_devices(there, *turns)
            }
            DeviceChange::Program(program) => match self.unified() {
                Some(group) => group.swap_program(program, former).doing(|| "devices"),
                None => Err(Failed::refused("devices: there is no unified control group")),
            },
        }
    }

    pub(crate) fn devices_back(&self, former: Former) -> Result<(), Failed> {
        match (former, self.unified()) {
            (Former::Files { back, turns }, _) => self.write_devices(&back, turns),
            (Former::Program { new, old }, Some(group)) => group.unswap_program(&new, &old),
            (Former::Program { .. }, None) => Ok(()),
        }
    }

    /// Where the default turns, nobody runs between the first write and the last: he would find all devices open, or
    /// all of them shut.
    fn write_devices(&self, settings: &[Setting], turns: bool) -> Result<(), Failed> {
        let Some(group) = self.managing("devices").filter(|group| group.version == Version::V1) else {
            return Err(Failed::refused("devices: there is no control group that guards devices"));
        };
        let pauses = turns && !self.is_frozen()?;
        if pauses {
            self.freeze().doing(|| "devices")?;
        }
        let written = group.set(settings, &mut |_, _, _| {});
        let resumed = if pauses { self.thaw() } else { Ok(()) };
        written.and(resumed)
    }
}

impl Group {
    /// At no moment is the group without either. Of several programs ours is the one to replace: those of a service
    /// manager stay, and a use of a device must pass all. The only one is replaced whoever made it: a hook for a
    /// graphics card puts its own in the place of ours.
    fn swap_program(&self, program: &DeviceProgram, former: &mut Option<Former>) -> Result<(), Failed> {
        let new = DeviceFilter::load(&program.program)?;
        let directory = self.place.directory()?;
        let attached = DeviceFilter::attached(directory.as_fd())?;
        let mut old = Vec::new();
        let mut others = Vec::new();
        for one in attached {
            if one.is_ours()? { old.push(one) } else { others.push(one) }
        }
        if old.is_empty() && others.len() == 1 {
            old = others;
        }
        match old.as_slice() {
            [one] => new.replace(directory.as_fd(), one)?,
            _ => new.attach(directory.as_fd())?,
        }
        let surplus = if old.len() == 1 { &[] } else { old.as_slice() };
        let detached = surplus.iter().try_for_each(|one| one.detach(directory.as_fd()));
        *former = Some(Former::Program { new, old });
        detached
    }

    fn unswap_program(&self, new: &DeviceFilter, old: &[DeviceFilter]) -> Result<(), Failed> {
        let directory = self.place.directory()?;
        match old {
            [one] => one.replace(directory.as_fd(), new),
            several => {
                for one in several {
                    match one.attach(directory.as_fd()) {
                        // It was not detached.
                        Err(failed) if failed.errno() == Some(Errno::INVAL) => {}
                        attached => attached?,
                    }
                }
                new.detach(directory.as_fd())
            }
        }
    }
}
