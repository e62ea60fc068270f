//! Maps of ids: whom a user namespace's users and groups are outside.

use std::fmt::Write;

use serde::{Deserialize, Serialize};
use spec::{IdMapping, Linux, NamespaceKind, Process, Spec};

use crate::Refused;

/// Both maps of a user namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Maps {
    /// Users.
    pub users: Vec<IdMapping>,
    /// Groups.
    pub groups: Vec<IdMapping>,
}

/// A mount whose files belong to others than on their file system.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Idmap {
    /// What is bound, a path of the host.
    pub path: String,
    /// Whether what is mounted below it comes along.
    pub recursive: bool,
    /// Whose whom is here: ids of the file system inside, of the host outside. None: as the container's user namespace
    /// has it.
    pub maps: Option<Maps>,
    /// Whether what is mounted below it is mapped too.
    pub deep: bool,
}

/// Something of the host that the parent hands to the child, in the table of the plan.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Handle {
    /// A path, to be bound or gone to.
    Path(String),
    /// A mount, made and mapped with the parent's rights, attached nowhere.
    Mapped(Idmap),
}

/// map_write() of the kernel takes less than a page, and the smallest page has this many bytes.
const PAGE: usize = 4096;

/// A map as /proc/PID/uid_map takes it: one line for each range.
pub fn lines(map: &[IdMapping]) -> String {
    let mut text = String::new();
    for IdMapping { container_id, host_id, size } in map {
        // Writing to a string does not fail.
        let _never = writeln!(text, "{container_id} {host_id} {size}");
    }
    text
}

/// Whether the document asks for a user namespace, new or joined.
pub(crate) fn has_users(linux: &Linux) -> bool {
    linux.namespaces.iter().any(|one| one.kind == NamespaceKind::User)
}

fn maps(map: &[IdMapping], id: u32) -> bool {
    map.iter().any(|line| id.checked_sub(line.container_id).is_some_and(|beyond| beyond < line.size))
}

impl Maps {
    /// The maps of a document; none where it has none.
    pub(crate) fn of(linux: &Linux) -> Result<Option<Self>, Refused> {
        if linux.uid_mappings.is_empty() && linux.gid_mappings.is_empty() {
            return Ok(None);
        }
        let both = Self { users: linux.uid_mappings.clone(), groups: linux.gid_mappings.clone() };
        for (map, path) in [(&both.users, "linux.uidMappings"), (&both.groups, "linux.gidMappings")] {
            if !maps(map, 0) {
                return Err(Refused::new(path, "does not map 0: somebody must own what is made in the root"));
            }
        }
        both.fit("linux")?;
        Ok(Some(both))
    }

    /// The maps of a mount; none where it has none.
    pub(crate) fn of_mount(mount: &spec::Mount, at: &str) -> Result<Option<Self>, Refused> {
        if mount.uid_mappings.is_empty() {
            return Ok(None);
        }
        let both = Self { users: mount.uid_mappings.clone(), groups: mount.gid_mappings.clone() };
        both.fit(at)?;
        Ok(Some(both))
    }

    /// Refuses maps that the kernel would not take for their length.
    fn fit(&self, at: &str) -> Result<(), Refused> {
        for (map, name) in [(&self.users, "uidMappings"), (&self.groups, "gidMappings")] {
            let bytes = lines(map).len();
            if bytes >= PAGE {
                let why = format!("is {bytes} bytes as text, and the kernel takes {}", PAGE - 1);
                return Err(Refused::new(format!("{at}.{name}"), why));
            }
        }
        Ok(())
    }

    /// Refuses ids that are nobody inside: the kernel would, one by one and late.
    pub(crate) fn check(&self, spec: &Spec, process: &Process) -> Result<(), Refused> {
        let user = &process.user;
        self.user(user.uid, || "process.user.uid".into())?;
        self.group(user.gid, || "process.user.gid".into())?;
        for (index, &gid) in user.additional_gids.iter().enumerate() {
            self.group(gid, || format!("process.user.additionalGids[{index}]"))?;
        }
        for (index, mount) in spec.mounts.iter().enumerate() {
            for (at, option) in mount.options.iter().enumerate() {
                let path = || format!("mounts[{index}].options[{at}]");
                match option.split_once('=') {
                    Some(("uid", id)) => id.parse().map_or(Ok(()), |id| self.user(id, path))?,
                    Some(("gid", id)) => id.parse().map_or(Ok(()), |id| self.group(id, path))?,
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn user(&self, id: u32, path: impl FnOnce() -> String) -> Result<(), Refused> {
        known(&self.users, id, path, "linux.uidMappings maps no user")
    }

    fn group(&self, id: u32, path: impl FnOnce() -> String) -> Result<(), Refused> {
        known(&self.groups, id, path, "linux.gidMappings maps no group")
    }
}

fn known(map: &[IdMapping], id: u32, path: impl FnOnce() -> String, why: &str) -> Result<(), Refused> {
    if maps(map, id) { Ok(()) } else { Err(Refused::new(path(), format!("{why} {id}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_one_line_for_each_range() {
        let map = [
            IdMapping { container_id: 0, host_id: 100_000, size: 65_536 },
            IdMapping { container_id: 65_536, host_id: 0, size: 1 },
        ];
        assert_eq!(lines(&map), "0 100000 65536\n65536 0 1\n");
        assert!(maps(&map, 0) && maps(&map, 65_536) && !maps(&map, 65_537));
    }
}
