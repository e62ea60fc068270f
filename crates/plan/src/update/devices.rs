//! Another list of devices for a container that is there.
//!
//! The list that is asked for takes the place of the one in force, as a whole: everybody's devices come with it, as when
//! a container is made. The same list again changes nothing at all. Callers send the list of config.json with every update
//! of something else, and what others have allowed on top of ours meanwhile, for a graphics card say, must survive that.

use filter::device::{Kind, List};
use spec::Resources;

use super::Hierarchy;
use crate::Refused;
use crate::cgroup::{DeviceProgram, Rule, Setting, Version};
use crate::resources::{device_list, device_program};

/// From the devices in force to others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceChange {
    /// v1's files.
    Files {
        /// What is written, in order.
        there: Vec<Setting>,
        /// What leads back.
        back: Vec<Setting>,
        /// Whether the default changes. There is no single write for that, so nobody may run meanwhile.
        turns: bool,
    },
    /// v2's program, which takes the place of the one that is attached.
    Program(DeviceProgram),
}

pub(super) fn change(
    asked: &Resources,
    in_force: &Resources,
    hierarchies: &[Hierarchy<'_>],
) -> Result<Option<DeviceChange>, Refused> {
    if asked.devices.is_empty() || asked.devices == in_force.devices {
        return Ok(None);
    }
    let (wanted, known) = (device_list(asked)?, device_list(in_force)?);
    if wanted == known {
        return Ok(None);
    }
    let on_v1 = hierarchies.iter().any(|hierarchy| hierarchy.version == Version::V1);
    let is_there = if on_v1 {
        hierarchies.iter().any(|hierarchy| hierarchy.controllers.iter().any(|one| one == "devices"))
    } else {
        !hierarchies.is_empty()
    };
    if !is_there {
        return Err(Refused::new("devices", "this container has no control group that guards devices"));
    }
    if !on_v1 {
        return Ok(Some(DeviceChange::Program(device_program(&wanted, false))));
    }
    Ok(Some(files(&known, &wanted)))
}

/// From one list to another in v1's files.
pub(crate) fn files(known: &List, wanted: &List) -> DeviceChange {
    let writes = |from: &List, to| from.steps_to(to).iter().map(write).collect();
    DeviceChange::Files {
        there: writes(known, wanted),
        back: writes(wanted, known),
        turns: known.allow != wanted.allow,
    }
}

fn write(rule: &filter::device::Rule) -> Setting {
    let file = if rule.allow { "devices.allow" } else { "devices.deny" };
    let value = match rule.devices.kind {
        Kind::All => "a".to_owned(),
        _ => format!("{} {}", rule.devices, rule.access),
    };
    Setting { file: file.into(), value, rule: Rule::Must, field: "devices".into() }
}
