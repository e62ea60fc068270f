//! The ordinary user: what he may ask for, and how his ids are mapped.

use spec::{IdMapping, Linux, MOUNT_ATTR_RDONLY, NamespaceKind, Spec};

use crate::map::Maps;
use crate::step::{Act, Step};
use crate::{Caller, Host, Mount, Refused, Source, clean};

/// An ordinary user's container.
pub(crate) struct Ordinary {
    own_user: bool,
    own_group: bool,
    /// Whether setgroups(2) will be denied in it.
    pub(crate) keeps_groups: bool,
}

impl Ordinary {
    /// Refuses what takes root's rights over the host.
    pub(crate) fn sort(caller: Caller, spec: &Spec, maps: Option<&Maps>) -> Result<Self, Refused> {
        let empty = Linux::default();
        let linux = spec.linux.as_ref().unwrap_or(&empty);
        let Some(users) = linux.namespaces.iter().find(|one| one.kind == NamespaceKind::User) else {
            let why = "rootless container requires user namespaces: add one with its maps, or be root";
            return Err(Refused::new("linux.namespaces", why));
        };
        let is_new = users.path.as_deref().is_none_or(str::is_empty);
        if let Some((device, _)) = linux.net_devices.iter().next() {
            let path = format!("linux.netDevices{}", spec::step(device));
            return Err(Refused::new(path, "moving a device of the host's takes root"));
        }
        for (index, mount) in spec.mounts.iter().enumerate() {
            let is_mapped = |option: &String| matches!(option.as_str(), "idmap" | "ridmap");
            if !mount.uid_mappings.is_empty() || mount.options.iter().any(is_mapped) {
                let why = "mapping the ids of a mount takes root";
                return Err(Refused::new(format!("mounts[{index}].uidMappings"), why));
            }
        }
        let is_own = |map: &[IdMapping], id: u32| matches!(map, [one] if one.size == 1 && one.host_id == id);
        let own_user = maps.is_some_and(|maps| is_own(&maps.users, caller.uid));
        let own_group = maps.is_some_and(|maps| is_own(&maps.groups, caller.gid));
        let keeps_groups = is_new && own_group;
        check_groups(spec.process.as_ref(), "process.user.additionalGids", keeps_groups)?;
        Ok(Self { own_user, own_group, keeps_groups })
    }

    /// The act that has the maps written.
    pub(crate) fn map(&self, maps: Maps) -> Act {
        Act::MapAsUser { maps, own_user: self.own_user, own_group: self.own_group }
    }
}

/// Refuses groups that nobody could be put into.
pub(crate) fn check_groups(
    process: Option<&spec::Process>,
    path: &str,
    keeps_groups: bool,
) -> Result<(), Refused> {
    let asked = process.is_some_and(|process| !process.user.additional_gids.is_empty());
    if asked && keeps_groups {
        let why = "cannot set any additional groups: with one's own group alone in linux.gidMappings, setgroups is denied";
        return Err(Refused::new(path, why));
    }
    Ok(())
}

/// What is told where whoever made our user namespace took the groups from us: as with runc that is not the document's fault,
/// which engines write that know of root's groups.
pub(crate) fn left_out(process: &spec::Process, host: &Host) -> Option<String> {
    let others = process.user.additional_gids.iter().any(|gid| *gid != process.user.gid);
    let why = "process.user.additionalGids: left out: setgroups is denied in our user namespace";
    (host.denies_groups() && others).then(|| why.to_owned())
}

/// Shows the host's control groups where a mount of their own is asked for. In a user namespace the kernel has one only for
/// who has a namespace of groups too.
pub(crate) fn show_groups(steps: &mut [Step]) {
    for step in steps {
        if let Step::Mount(Mount { source, .. }) = step
            && matches!(source, Source::New { kind, .. } if kind == "cgroup2")
        {
            *source = Source::Bind { path: GROUPS.to_owned(), recursive: true };
        }
    }
}

/// Makes read-only, with all that is mounted below, whatever of the host's /sys a container sees: a control group that the
/// user was given outside is his to write inside too, and whoever breaks out of limits writes there (CVE-2023-25809).
///
/// `is_ordinary` tells an ordinary user's container, whose namespaces are never those that a sysfs of its own takes, from one of
/// root's in a user namespace.
pub(crate) fn protect(steps: &mut [Step], is_ordinary: bool) {
    let mounts = steps.iter_mut().filter_map(|step| match step {
        Step::Mount(mount) => Some(mount),
        _ => None,
    });
    for mount in mounts {
        if let Some(path) = mount.or_bind.take_if(|_| is_ordinary) {
            // Where the kernel might permit one of its own, it does not to him.
            mount.source = Source::Bind { path, recursive: true };
        }
        let shows_host = |path: &str| path == SYS || path.starts_with("/sys/");
        if let Source::Bind { path, .. } = &mount.source
            && shows_host(&clean::absolute(path))
        {
            let (set, clear) = mount.all;
            mount.all = (set | MOUNT_ATTR_RDONLY, clear & !MOUNT_ATTR_RDONLY);
            mount.clear &= !MOUNT_ATTR_RDONLY;
        }
    }
}

const SYS: &str = "/sys";
const GROUPS: &str = "/sys/fs/cgroup";

/// Says so before the first step that would leave the caller's groups.
pub(crate) fn keep_groups(steps: &mut Vec<Step>) {
    let leaves = |step: &Step| matches!(step, Step::Rule | Step::Become { .. });
    let at = steps.iter().position(leaves).unwrap_or(steps.len());
    steps.insert(at, Step::KeepGroups);
}
