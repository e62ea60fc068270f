//! From a wish to a plan: the host is looked at, as far as the wish wants to know.

use std::collections::BTreeMap;

use plan::sandbox::{Driver, Host, Node, Path, SandboxPlan, Wish, compile};
use plan::systemd::Bus;
use rustix::fs::{FileType, major, minor, stat};
use sys::{Doing, Failed};

use crate::{Error, Kind, check_id};

/// What is asked beside the wish.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// `--rootless`: whether missing rights on groups are passed over where nothing was asked of them; found out without it.
    pub rootless: Option<bool>,
    /// Where service managers may be, the best first, for a path that is a unit's.
    pub buses: Vec<Bus>,
}

/// Looks at the host, and compiles. Nothing is changed.
pub fn plan(wish: &Wish, asked: &Asked) -> Result<SandboxPlan, Error> {
    check_id(&wish.id)?;
    Ok(compile(wish, &look(wish, asked)?)?)
}

fn look(wish: &Wish, asked: &Asked) -> Result<Host, Error> {
    let mut cgroups = probe::host()?.cgroups;
    cgroups.rootless = asked.rootless.unwrap_or(cgroups.rootless);
    if Path::parse(wish.path.as_deref(), wish.driver, &wish.id)?.driver() == Driver::Systemd {
        let manager = container::manager(&asked.buses).map_err(|error| {
            let told = error.to_string();
            Error::new(Kind::Invalid, told.strip_prefix("--systemd-cgroup: ").unwrap_or(&told).to_owned())
        })?;
        cgroups.systemd = Some(manager);
    }
    let nodes = nodes(&wish.nodes());
    let wants_mapper = wish.needs.disks.iter().any(|disk| disk.path.starts_with("/dev/"));
    let device_mapper = if wants_mapper { device_mapper()? } else { None };
    Ok(Host { cgroups, nodes, device_mapper })
}

/// What these paths lead to, links followed; or why nobody knows.
pub(crate) fn nodes(paths: &[String]) -> BTreeMap<String, Result<Node, String>> {
    let node = |path: &String| {
        let found = match stat(path.as_str()) {
            Ok(found) => found,
            Err(errno) => return Err(Failed::call("stat()", errno).to_string()),
        };
        let is_block = match FileType::from_raw_mode(found.st_mode) {
            FileType::BlockDevice => true,
            FileType::CharacterDevice => false,
            _ => return Err("is no device node".to_owned()),
        };
        Ok(Node { is_block, major: major(found.st_rdev), minor: minor(found.st_rdev) })
    };
    paths.iter().map(|path| (path.clone(), node(path))).collect()
}

fn device_mapper() -> Result<Option<u32>, Failed> {
    let text = probe::read_text("/proc/devices").doing(|| "look for the device mapper")?;
    Ok(major_of(&text, "device-mapper"))
}

/// A block driver's number in the text of /proc/devices.
fn major_of(devices: &str, driver: &str) -> Option<u32> {
    let blocks = devices.split_once("Block devices:")?.1;
    blocks.lines().find_map(|line| {
        let (number, name) = line.trim().split_once(' ')?;
        (name == driver).then(|| number.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::major_of;

    #[test]
    fn a_driver_is_found_among_the_block_devices() {
        let text = "Character devices:\n  1 mem\n253 device-mapper\n\nBlock devices:\n  8 sd\n252 device-mapper\n254 mdp\n";
        assert_eq!(major_of(text, "device-mapper"), Some(252));
        assert_eq!(major_of(text, "mem"), None);
        assert_eq!(major_of("Character devices:\n252 device-mapper\n", "device-mapper"), None);
    }
}
