//! Control groups: which directories, which files in them, and what is written.
//!
//! The cgroupfs way: we make the directories ourselves. On a v1 host every hierarchy gets a group; on a hybrid
//! host the unified tree gets one more, without settings, for `cgroup.kill`, `cgroup.events` and
//! `CLONE_INTO_CGROUP`; on a v2 host that is the only one.

use std::fmt;

use filter::device::List;
use serde::{Deserialize, Serialize};
use spec::{NamespaceKind, Resources, Spec};

use crate::resources::{self, Wanted};
use crate::{Refused, clean, systemd};

/// What this host has mounted, and where we are in it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct HostCgroups {
    /// The v1 hierarchies.
    #[serde(default)]
    pub hierarchies: Vec<HostHierarchy>,
    /// The v2 tree.
    #[serde(default)]
    pub unified: Option<HostUnified>,
    /// Whether a group that may not be made is left out, when nothing was asked of it. Limits of ours that
    /// nobody asked for need no authority that a rootless caller does not have.
    #[serde(default)]
    pub rootless: bool,
    /// The service manager that is to make the groups, where one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub systemd: Option<systemd::Manager>,
}

/// One v1 hierarchy.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct HostHierarchy {
    /// Its controllers, `["cpu", "cpuacct"]`; none for a named one.
    #[serde(default)]
    pub controllers: Vec<String>,
    /// Its name, `systemd`, if it has one.
    #[serde(default)]
    pub name: Option<String>,
    /// Where it is mounted.
    pub mount: String,
    /// Our own group, relative to what is mounted there.
    pub own: String,
}

/// The v2 tree.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct HostUnified {
    /// Where it is mounted.
    pub mount: String,
    /// Our own group, relative to what is mounted there.
    pub own: String,
    /// `cgroup.controllers` at the mount.
    #[serde(default)]
    pub controllers: Vec<String>,
}

/// How a host mounts its control groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// No control groups at all.
    None,
    /// v1 hierarchies only.
    V1,
    /// v1 hierarchies with the controllers, and the unified tree beside them.
    Hybrid,
    /// The unified tree only.
    V2,
}

impl HostCgroups {
    /// Which of the ways this host goes.
    pub fn mode(&self) -> Mode {
        match (self.hierarchies.is_empty(), self.unified.is_some()) {
            (true, false) => Mode::None,
            (true, true) => Mode::V2,
            (false, false) => Mode::V1,
            (false, true) => Mode::Hybrid,
        }
    }

    /// Whether there is the unified tree and nothing else.
    pub fn unified_only(&self) -> bool {
        self.mode() == Mode::V2
    }
}

impl HostHierarchy {
    /// What its directory in a container's /sys/fs/cgroup is called: its controllers joined by commas, or its name.
    pub fn directory_name(&self) -> String {
        match &self.name {
            Some(name) if self.controllers.is_empty() => name.clone(),
            _ => self.controllers.join(","),
        }
    }
}

impl CgroupPlan {
    /// Whether init may have to be born elsewhere and moved: from where it is born to where a user's manager has its
    /// units is no way for a user, and where one process is allowed there is the one that the unit was made around.
    pub(crate) fn may_be_moved(&self) -> bool {
        let is_full = |group: &Group| {
            group.version == Version::V2
                && group.settings.iter().any(|setting| setting.file == "pids.max" && setting.value == "1")
        };
        self.unit.as_ref().is_some_and(|unit| {
            unit.held.bus.is_user || (unit.held.is_scope() && self.groups.iter().any(is_full))
        })
    }

    /// The container's directory in one of the host's hierarchies.
    pub fn directory_in(&self, hierarchy: &HostHierarchy) -> Option<String> {
        let group = self.groups.iter().find(|group| group.mount == hierarchy.mount)?;
        Some(format!("{}/{}", group.mount, group.path))
    }
}

impl Group {
    /// Whether init moves itself in, by writing `0` to `tasks`; into the unified tree it is born.
    pub fn joins_by_tasks(&self) -> bool {
        self.version == Version::V1
    }
}

/// The groups of one container, in the order in which they are made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CgroupPlan {
    /// The unit that a service manager makes first, and the groups with it; none where we make them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<systemd::Unit>,
    /// One per hierarchy.
    pub groups: Vec<Group>,
    /// What was asked for: kept for a later update, which changes some of it. The settings tell it in the kernel's words.
    #[serde(skip)]
    pub limits: Resources,
    /// The field for which a caller must have groups who may lack the right to make any.
    #[serde(skip)]
    pub asked: Option<&'static str>,
    /// What was asked for and has no effect on this kernel.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Which generation a hierarchy is of.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Version {
    /// One hierarchy for some controllers, or for a name.
    V1,
    /// The unified tree.
    V2,
}

/// One directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    /// Which generation.
    pub version: Version,
    /// v1: the hierarchy's controllers, or its `name=`. v2: the controllers that the group shall have.
    pub controllers: Vec<String>,
    /// Where the hierarchy is mounted.
    pub mount: String,
    /// The directory, relative to the mount; never empty, no `..`, no leading slash.
    pub path: String,
    /// v1 cpuset: CPUs and memory nodes are taken from the parent, as an empty set may not be joined.
    #[serde(skip_serializing_if = "is_false")]
    pub copy_cpuset: bool,
    /// What is written, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<Setting>,
    /// v2: who may use which device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub devices: Option<DeviceProgram>,
    /// v2: to whom the group is handed over: the user, as the host knows it, who manages it from inside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<u32>,
    /// v2: whether it takes threads of the processes above it, and no process of its own (cgroups(7), "Thread mode").
    #[serde(skip_serializing_if = "is_false")]
    pub threaded: bool,
    /// Whether there is no container without this group.
    pub required: bool,
}

/// One write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// The file in the group's directory.
    pub file: String,
    /// What is written, in one write.
    pub value: String,
    /// What to do when the kernel says no.
    #[serde(skip_serializing_if = "Rule::is_must")]
    pub rule: Rule,
    /// The field that asked for it.
    pub field: String,
}

/// What to do when the kernel refuses a setting.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Then there is no container.
    #[default]
    Must,
    /// A kernel without that file is fine: what it lacks is off.
    MayLack,
    /// `EINVAL` may mean that a setting still to come must be there first; tried once more after all others.
    Again,
    /// Where the file is missing, another one is written.
    OrElse {
        /// The other file.
        file: String,
        /// What is written there.
        value: String,
    },
    /// Left out, and told, where the caller lacks the right: device rules of version 1 take root.
    MayForbid,
    /// Refused when this file already shows as much as the limit allows.
    AboveUse {
        /// The file that shows the use.
        file: String,
        /// The limit in bytes.
        limit: u64,
    },
}

impl Rule {
    fn is_must(&self) -> bool {
        *self == Self::Must
    }
}

/// The device list as a program for v2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceProgram {
    /// What holds for a device that no exception covers.
    pub default: &'static str,
    /// What goes against the default, `c 1:3 rwm`.
    pub exceptions: Vec<String>,
    /// The instructions, `struct bpf_insn` as numbers.
    #[serde(skip)]
    pub program: Vec<u64>,
    /// Whether the container may live without it, because it would let everything pass.
    pub optional: bool,
}

/// From what was asked and what the host has to what will be made. Pure.
pub fn compile(spec: &Spec, host: &HostCgroups, id: &str) -> Result<CgroupPlan, Refused> {
    let linux = spec.linux.as_ref();
    let given = linux.and_then(|linux| linux.cgroups_path.as_deref()).filter(|path| !path.is_empty());
    let none = Resources::default();
    let resources = linux.and_then(|linux| linux.resources.as_ref()).unwrap_or(&none);
    let devices = resources::device_list(resources)?;
    let mut plan = match &host.systemd {
        Some(manager) => {
            let unit = systemd::unit(spec, given, manager, host.mode(), id)?;
            managed(unit, host, manager, resources, &devices)
        }
        None => on(host, resources, &devices, &Place::of(given, id)?),
    }?;
    for group in plan.groups.iter_mut().filter(|_| host.unified_only()) {
        group.owner = delegated(spec);
    }
    Ok(plan)
}

/// The groups at a place, with these limits and devices.
pub(crate) fn on(
    host: &HostCgroups,
    resources: &Resources,
    devices: &List,
    place: &Place,
) -> Result<CgroupPlan, Refused> {
    match host.mode() {
        Mode::None => Err(Refused::new("linux.cgroupsPath", "no control groups are mounted on this host")),
        Mode::V2 => unified(host, resources, devices, place),
        Mode::V1 | Mode::Hybrid => hierarchies(host, resources, devices, place),
    }
}

/// The groups of a unit: where its manager puts them, with what it gives them.
pub(crate) fn managed(
    unit: systemd::Unit,
    host: &HostCgroups,
    manager: &systemd::Manager,
    resources: &Resources,
    devices: &List,
) -> Result<CgroupPlan, Refused> {
    let resources = &systemd::rounded(resources);
    let path = clean::relative(&unit.group);
    let mut host = host.clone();
    let is_v2 = host.unified_only();
    if let (Some(unified), Some(there), true) = (&mut host.unified, &manager.controllers, is_v2) {
        resources::v2(resources)?.within(there)?;
        unified.controllers.retain(|controller| there.contains(controller));
    }
    let place = Place { path, is_absolute: true, is_given: true };
    let mut plan = on(&host, resources, devices, &place)?;
    for group in plan.groups.iter_mut().filter(|group| group.version == Version::V2) {
        // The manager hands down what it knows; who writes to its groups for others does so when they are asked for.
        let asked = |controller: &String| {
            let is_its = |setting: &Setting| setting.file.split('.').next() == Some(controller);
            systemd::CONTROLLERS.contains(&controller.as_str()) || group.settings.iter().any(is_its)
        };
        group.controllers =
            group.controllers.iter().filter(|controller| asked(controller)).cloned().collect();
        systemd::in_its_scale(&mut group.settings);
    }
    plan.unit = Some(unit);
    Ok(plan)
}

fn hierarchies(
    host: &HostCgroups,
    resources: &Resources,
    devices: &List,
    place: &Place,
) -> Result<CgroupPlan, Refused> {
    let mut wanted = resources::v1(resources, devices)?;
    let limited = wanted.has_limits;
    let asked = asked(host, place, limited);
    let required = !host.rootless || asked.is_some();
    let mut groups = Vec::with_capacity(host.hierarchies.len() + 1);
    for hierarchy in &host.hierarchies {
        let mut settings = Vec::new();
        for controller in &hierarchy.controllers {
            let mut own = wanted.take(controller);
            if host.rootless && controller == "devices" {
                for setting in &mut own {
                    setting.rule = Rule::MayForbid;
                }
            }
            settings.append(&mut own);
        }
        let mut controllers = hierarchy.controllers.clone();
        controllers.extend(hierarchy.name.as_ref().map(|name| format!("name={name}")));
        groups.push(Group {
            version: Version::V1,
            copy_cpuset: controllers.iter().any(|controller| controller == "cpuset"),
            controllers,
            mount: hierarchy.mount.clone(),
            path: place.below(&hierarchy.own)?,
            settings,
            devices: None,
            owner: None,
            threaded: false,
            required,
        });
    }
    wanted.nothing_left()?;
    if let Some(unified) = &host.unified {
        groups.push(Group {
            version: Version::V2,
            controllers: Vec::new(),
            mount: unified.mount.clone(),
            path: place.below(&unified.own)?,
            copy_cpuset: false,
            settings: Vec::new(),
            devices: None,
            owner: None,
            threaded: false,
            required,
        });
    }
    Ok(CgroupPlan { unit: None, groups, limits: resources.clone(), asked, warnings: wanted.warnings })
}

/// Why a rootless caller needs his groups, if he does.
fn asked(host: &HostCgroups, place: &Place, is_limited: bool) -> Option<&'static str> {
    let asked = if is_limited { Some("linux.resources") } else { place.is_given.then_some(FIELD) };
    asked.filter(|_| host.rootless)
}

/// What a container gets on a v2 host where it is there, limits or none: the statistics come with it.
const USEFUL: [&str; 8] = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc"];

fn unified(
    host: &HostCgroups,
    resources: &Resources,
    devices: &List,
    place: &Place,
) -> Result<CgroupPlan, Refused> {
    let Some(tree) = &host.unified else {
        return Err(Refused::new("linux.cgroupsPath", "no unified control groups are mounted on this host"));
    };
    let mut wanted = resources::v2(resources)?;
    let asked = asked(host, place, wanted.has_limits);
    let required = !host.rootless || asked.is_some();
    let mut settings = Vec::new();
    for controller in resources::V2_ORDER {
        if controller == resources::UNIFIED {
            settings.append(&mut wanted.take_unified(&tree.controllers)?);
        } else if tree.controllers.iter().any(|there| there == controller) {
            settings.append(&mut wanted.take(controller));
        }
    }
    wanted.nothing_left()?;
    // Our own group has processes, and the kernel gives controllers only to children of groups without any
    // (but for the root): so the container is put beside us, not below.
    let own = tree.own.rsplit_once('/').map_or("", |(parent, _)| parent);
    let group = Group {
        version: Version::V2,
        controllers: tree
            .controllers
            .iter()
            .filter(|there| USEFUL.contains(&there.as_str()))
            .cloned()
            .collect(),
        mount: tree.mount.clone(),
        path: place.below(own)?,
        copy_cpuset: false,
        settings,
        devices: Some(resources::device_program(devices, host.rootless)),
        owner: None,
        threaded: false,
        required,
    };
    let limits = resources.clone();
    Ok(CgroupPlan { unit: None, groups: vec![group], limits, asked, warnings: wanted.warnings })
}

/// To whom the group belongs: whoever sees it as the root of a cgroup namespace of his own, through a mount that can be
/// written, is meant to manage it. Nobody, where that is root: it is root's already. Never on v1, where a user could then
/// lift limits.
fn delegated(spec: &Spec) -> Option<u32> {
    let linux = spec.linux.as_ref()?;
    let is_fresh = |namespace: &&spec::Namespace| {
        namespace.kind == NamespaceKind::Cgroup && namespace.path.as_deref().is_none_or(str::is_empty)
    };
    linux.namespaces.iter().find(is_fresh)?;
    let is_writable = |mount: &&spec::Mount| {
        let is_last_word = |word: &&String| matches!(word.as_str(), "ro" | "rw" | "rro" | "rrw");
        matches!(mount.kind.as_deref(), Some("cgroup" | "cgroup2"))
            && clean::absolute(&mount.destination) == "/sys/fs/cgroup"
            && !mount.options.iter().rfind(is_last_word).is_some_and(|word| word.ends_with("ro"))
    };
    spec.mounts.iter().find(is_writable)?;
    let uid = spec.process.as_ref()?.user.uid;
    let owner = if linux.uid_mappings.is_empty() {
        uid
    } else {
        linux.uid_mappings.iter().find_map(|map| {
            let at = uid.checked_sub(map.container_id).filter(|at| *at < map.size)?;
            map.host_id.checked_add(at)
        })?
    };
    (owner != 0).then_some(owner)
}

/// `cgroupsPath`, or what stands for it.
pub(crate) struct Place {
    /// In its clean form.
    pub(crate) path: String,
    /// Whether it begins at the mount.
    pub(crate) is_absolute: bool,
    /// Whether somebody asked for it.
    pub(crate) is_given: bool,
}

const FIELD: &str = "linux.cgroupsPath";

impl Place {
    fn of(given: Option<&str>, id: &str) -> Result<Self, Refused> {
        let path = given.unwrap_or(id);
        if path.contains(['\0', '\n']) {
            return Err(Refused::new(
                FIELD,
                format!("{path:?} has a character that no control group may have"),
            ));
        }
        if given.is_some() && !path.contains('/') && path.matches(':').count() == 2 {
            let reason = format!("{path:?} is slice:prefix:name, which only --systemd-cgroup understands");
            return Err(Refused::new(FIELD, reason));
        }
        let clean = clean::relative(path);
        if clean.is_empty() {
            let reason = format!("{path:?} is no group of the container's own");
            return Err(Refused::new(FIELD, reason));
        }
        Ok(Self { path: clean, is_absolute: path.starts_with('/'), is_given: given.is_some() })
    }

    /// The path in a hierarchy where we ourselves are in `own`.
    fn below(&self, own: &str) -> Result<String, Refused> {
        let own = if self.is_absolute { String::new() } else { clean::relative(own) };
        if own.contains(['\0', '\n']) {
            return Err(Refused::new(FIELD, format!("our own group {own:?} has a strange name")));
        }
        Ok(if own.is_empty() { self.path.clone() } else { format!("{own}/{}", self.path) })
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

impl fmt::Display for CgroupPlan {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, group) in self.groups.iter().enumerate() {
            if number > 0 {
                writeln!(to)?;
            }
            write!(to, "{group}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Group {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}/{}", self.mount, self.path)?;
        if self.copy_cpuset {
            write!(to, "  cpuset of the parent")?;
        }
        for (number, setting) in self.settings.iter().enumerate() {
            let separator = if number == 0 { "  " } else { ", " };
            write!(to, "{separator}{}={}", setting.file, setting.value)?;
        }
        if let Some(devices) = &self.devices {
            write!(to, "  devices: {}", devices.default)?;
            for exception in &devices.exceptions {
                write!(to, ", but {exception}")?;
            }
        }
        if let Some(owner) = self.owner {
            write!(to, "  handed over to {owner}")?;
        }
        if self.threaded {
            write!(to, "  threaded")?;
        }
        Ok(())
    }
}

impl Wanted {
    /// Refuses in the name of the first field whose controller a user was not given.
    fn within(&self, there: &[String]) -> Result<(), Refused> {
        let has = |controller: &str| there.iter().any(|there| there == controller);
        let Some((controller, setting)) = self.beyond(has) else { return Ok(()) };
        let given = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
        let why = format!(
            "the user's systemd was not given the {controller} controller, but {given}; see Delegate= of user@.service"
        );
        Err(Refused::new(&setting.field, why))
    }

    /// Refuses in the name of the first field whose controller this host does not have.
    pub(crate) fn nothing_left(&self) -> Result<(), Refused> {
        match self.first() {
            None => Ok(()),
            Some((controller, setting)) => {
                Err(Refused::new(&setting.field, format!("this host has no {controller} controller")))
            }
        }
    }
}
