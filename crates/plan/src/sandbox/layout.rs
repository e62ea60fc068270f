//! Which groups there are, and who lives in which.
//!
//! | | v1 and hybrid | v2 |
//! |---|---|---|
//! | limits | the sandbox's group in each hierarchy | the sandbox's group |
//! | monitor | there too | `vmm` below it, as a group that hands controllers on takes nobody |
//! | its threads that are processors | there too; by themselves where the overhead is elsewhere | with it, or in the threaded group `vmm/vcpus` |
//! | helpers | `overhead` below it, or elsewhere | `overhead` below it, or elsewhere |

use filter::device::List;
use serde::Serialize;
use spec::{Memory, Resources};

use super::cpus::PERIOD;
use super::{Cpus, Driver, Host, Layout, Parts, Path, SandboxPlan, Vcpus, Wish, memory};
use crate::cgroup::{CgroupPlan, Group, Mode, Place, Rule, Setting, Version};
use crate::resources::device_program;
use crate::systemd::Property;
use crate::update::devices::files;
use crate::{DeviceChange, Refused, cgroup, systemd};

/// A group that somebody is to be in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Spot {
    /// Which generation.
    pub version: Version,
    /// The hierarchy's controllers (v1), or the group's (v2).
    pub controllers: Vec<String>,
    /// Where the hierarchy is mounted.
    pub mount: String,
    /// The directory, relative to that.
    pub path: String,
}

impl Spot {
    fn of(group: &Group) -> Self {
        Self {
            version: group.version,
            controllers: group.controllers.clone(),
            mount: group.mount.clone(),
            path: group.path.clone(),
        }
    }
}

/// Controllers whose limits are of threads, not of processes.
const OF_THREADS: [&str; 3] = ["cpu", "cpuacct", "cpuset"];

/// What a threaded group can have (cgroups(7), "Thread mode").
const THREADED: [&str; 3] = ["cpu", "cpuset", "pids"];

fn is_of_threads(group: &Group) -> bool {
    group.version == Version::V1 && group.controllers.iter().any(|one| OF_THREADS.contains(&one.as_str()))
}

pub(super) fn plan(wish: &Wish, host: &Host, path: &Path, parts: Parts) -> Result<SandboxPlan, Refused> {
    let Parts { devices, memory, shares, resources, mut notes } = parts;
    let is_v2 = host.cgroups.unified_only();
    let is_elsewhere = wish.layout == Layout::OverheadElsewhere;
    let is_threaded = wish.vcpus == Vcpus::Threaded;
    refuse(wish, path, is_v2)?;
    let list = devices.list();
    let cpus = Cpus::of(&shares)?;
    // Where the guest's processors have a group of their own and the overhead is not to be counted, the limits are theirs.
    let are_apart = is_v2 && is_threaded && is_elsewhere;
    let mut limits = resources.clone();
    limit_cpus(&mut limits, &cpus);
    let theirs = Resources { cpu: limits.cpu.clone(), ..Resources::default() };
    if are_apart {
        limits.cpu = None;
    }
    let mut sandbox = groups(host, path, &limits, &list, &wish.id)?;
    notes.append(&mut sandbox.warnings);
    if host.cgroups.rootless {
        let none = Resources::default();
        let asks_devices = !wish.handed.is_empty() || !wish.resources.devices.is_empty();
        let asks_groups = wish.path.is_some() || is_elsewhere || is_threaded || wish.memory.helpers.is_some();
        insist(&mut sandbox, asks_devices || asks_groups || limits != none || theirs != none);
        if asks_devices {
            insist_on_devices(&mut sandbox);
        }
    }

    let vmm = is_v2.then(|| below(&sandbox, "vmm", |_| true));
    let vcpus = match &vmm {
        Some(vmm) if is_threaded => Some(threaded(vmm, host, path, &theirs, &list, are_apart)?),
        _ => None,
    };
    let overhead = overhead(wish, host, path, &sandbox, &list, is_v2)?;
    let (vmm_in, threads_in) = spots(&sandbox, vmm.as_ref(), vcpus.as_ref(), overhead.as_ref(), is_elsewhere);
    let helpers_in = if wish.helpers { helped(&sandbox, overhead.as_ref()) } else { Vec::new() };
    notes.extend(whole(wish, is_v2).map(str::to_owned));
    Ok(SandboxPlan {
        id: wish.id.clone(),
        driver: path.driver(),
        layout: wish.layout,
        sandbox,
        vmm,
        vcpus,
        overhead,
        vmm_in,
        threads_in,
        helpers_in,
        devices,
        memory,
        shares,
        pin: wish.pin,
        resources,
        notes,
    })
}

/// In how far the monitor is not apart from its guest's processors, although that was asked for.
fn whole(wish: &Wish, is_v2: bool) -> Option<&'static str> {
    match (wish.layout, is_v2, wish.vcpus) {
        (Layout::AllInOne, ..) | (_, true, Vcpus::Threaded) => None,
        (_, true, Vcpus::Together) => Some(
            "the guest's processors are not apart from their monitor: on cgroup v2 that takes a threaded group \
             (--vcpus threaded); limits of processors hold for all of its threads",
        ),
        (_, false, _) => Some(
            "memory, devices and all else but processors are a process's, not a thread's: there the monitor is in \
             the sandbox, whole",
        ),
    }
}

fn refuse(wish: &Wish, path: &Path, is_v2: bool) -> Result<(), Refused> {
    if wish.vcpus == Vcpus::Threaded && !is_v2 {
        return Err(Refused::asked(
            "--vcpus threaded: is a mode of cgroup v2; on v1 threads go where --layout overhead-elsewhere puts them",
        ));
    }
    if wish.memory.helpers.is_some() && !wish.helpers {
        return Err(Refused::asked("--helper-memory: there are no helpers without --helpers"));
    }
    if wish.layout == Layout::OverheadElsewhere && path.driver() == Driver::Systemd {
        return Err(Refused::asked(
            "--layout overhead-elsewhere: is not to be had of systemd, whose scopes end with their last process; see docs/roadmap.md",
        ));
    }
    Ok(())
}

/// The sandbox's own groups.
fn groups(
    host: &Host,
    path: &Path,
    resources: &Resources,
    list: &List,
    id: &str,
) -> Result<CgroupPlan, Refused> {
    let told = |refused: Refused| {
        let path = refused.path.strip_prefix("linux.resources.").unwrap_or(&refused.path);
        let place = if path.is_empty() { String::new() } else { format!("{path}: ") };
        Refused::asked(format!("{place}{}", refused.reason))
    };
    match (path, &host.cgroups.systemd) {
        (Path::Unit(given), Some(manager)) => {
            let mode = host.cgroups.mode();
            let unit = systemd::unit_of_sandbox(id, given, manager, mode, resources, list).map_err(told)?;
            cgroup::managed(unit, &host.cgroups, manager, resources, list).map_err(told)
        }
        (Path::Groups { path, is_absolute, is_given }, _) => {
            let place = Place { path: path.clone(), is_absolute: *is_absolute, is_given: *is_given };
            cgroup::on(&host.cgroups, resources, list, &place).map_err(told)
        }
        (Path::Unit(_), None) => Err(Refused::asked(format!("{path}: systemd was not asked for its groups"))),
    }
}

/// Whoever may not make groups goes without, if nothing was asked of them; whoever asked for something must have it.
fn insist(plan: &mut CgroupPlan, is_asked: bool) {
    plan.asked = is_asked.then_some("the limits of this sandbox");
    plan.groups.iter_mut().for_each(|group| group.required = is_asked);
}

/// Devices that were asked for by name are not passed over where their rules cannot be had.
fn insist_on_devices(plan: &mut CgroupPlan) {
    for group in &mut plan.groups {
        let forgiven = group.settings.iter_mut().filter(|one| one.rule == Rule::MayForbid);
        forgiven.for_each(|one| one.rule = Rule::Must);
        group.devices.iter_mut().for_each(|program| program.optional = false);
    }
}

fn limit_cpus(resources: &mut Resources, cpus: &Cpus) {
    if *cpus == Cpus::default() {
        return;
    }
    let cpu = resources.cpu.get_or_insert_default();
    cpu.cpus.clone_from(&cpus.cpus);
    cpu.mems.clone_from(&cpus.mems);
    if let Some(quota) = cpus.quota {
        (cpu.quota, cpu.period) = (Some(quota), Some(PERIOD));
    }
}

/// Groups of this name below those of a plan, without limits of their own.
fn below(plan: &CgroupPlan, name: &str, is_wanted: impl Fn(&Group) -> bool) -> CgroupPlan {
    let child = |group: &Group| Group {
        path: format!("{}/{name}", group.path),
        settings: Vec::new(),
        devices: None,
        owner: None,
        threaded: false,
        ..group.clone()
    };
    let groups = plan.groups.iter().filter(|group| is_wanted(group)).map(child).collect();
    CgroupPlan { groups, asked: plan.asked, ..CgroupPlan::default() }
}

/// The group of the guest's processors, with their limits where these are theirs alone.
fn threaded(
    vmm: &CgroupPlan,
    host: &Host,
    path: &Path,
    theirs: &Resources,
    list: &List,
    are_apart: bool,
) -> Result<CgroupPlan, Refused> {
    let mut vcpus = below(vmm, "vcpus", |_| true);
    let settings = if are_apart { groups(host, path, theirs, list, "vcpus")?.groups } else { Vec::new() };
    let mut settings = settings.into_iter().map(|group| group.settings);
    for group in &mut vcpus.groups {
        group.threaded = true;
        group.controllers.retain(|one| THREADED.contains(&one.as_str()));
        group.settings = settings.next().unwrap_or_default();
    }
    Ok(vcpus)
}

/// The groups of what is neither the guest nor its limits' business.
fn overhead(
    wish: &Wish,
    host: &Host,
    path: &Path,
    sandbox: &CgroupPlan,
    list: &List,
    is_v2: bool,
) -> Result<Option<CgroupPlan>, Refused> {
    let limit = wish.memory.helpers.map(memory::signed).transpose()?;
    let memory = limit.map(|limit| Memory { limit: Some(limit), ..Memory::default() });
    let resources = Resources { memory, ..Resources::default() };
    if wish.layout == Layout::OverheadElsewhere {
        let is_absolute = matches!(path, Path::Groups { is_absolute: true, .. });
        let place = Place { path: format!("cofferdam-overhead/{}", wish.id), is_absolute, is_given: false };
        let mut plan = cgroup::on(&host.cgroups, &resources, list, &place)?;
        if !wish.helpers {
            plan.groups.retain(is_of_threads);
        }
        if host.cgroups.rootless {
            insist(&mut plan, true);
        }
        return Ok((!plan.groups.is_empty()).then_some(plan));
    }
    if !wish.helpers {
        return Ok(None);
    }
    // On v1 a set of processors must hold all sets below it, and a device that is allowed later is not allowed below:
    // there the helpers have no group of their own.
    let is_wanted = |group: &Group| {
        is_v2 || !group.controllers.iter().any(|one| matches!(one.as_str(), "cpuset" | "devices"))
    };
    let mut plan = below(sandbox, "overhead", is_wanted);
    if limit.is_some() {
        let limited = cgroup::on(
            &host.cgroups,
            &resources,
            &List::default(),
            &Place { path: "overhead".into(), is_absolute: true, is_given: false },
        )?;
        for group in &mut plan.groups {
            let same = limited.groups.iter().find(|one| one.mount == group.mount);
            let of_memory = |setting: &&Setting| setting.file.starts_with("memory.");
            group.settings =
                same.iter().flat_map(|one| one.settings.iter().filter(of_memory)).cloned().collect();
        }
    }
    Ok(Some(plan))
}

/// Where the monitor is born, and where its threads go that are processors.
fn spots(
    sandbox: &CgroupPlan,
    vmm: Option<&CgroupPlan>,
    vcpus: Option<&CgroupPlan>,
    overhead: Option<&CgroupPlan>,
    is_elsewhere: bool,
) -> (Vec<Spot>, Vec<Spot>) {
    if let Some(vmm) = vmm {
        let threads = vcpus.map(|vcpus| vcpus.groups.iter().map(Spot::of).collect()).unwrap_or_default();
        return (vmm.groups.iter().map(Spot::of).collect(), threads);
    }
    let elsewhere = |group: &Group| {
        let others = overhead.filter(|_| is_elsewhere && is_of_threads(group))?;
        others.groups.iter().find(|other| other.mount == group.mount)
    };
    let vmm_in = sandbox.groups.iter().map(|group| Spot::of(elsewhere(group).unwrap_or(group))).collect();
    let threads_in = sandbox.groups.iter().filter(|group| elsewhere(group).is_some()).map(Spot::of).collect();
    (vmm_in, threads_in)
}

/// Where helpers are: in the overhead's groups, and in the sandbox's where it has none.
fn helped(sandbox: &CgroupPlan, overhead: Option<&CgroupPlan>) -> Vec<Spot> {
    let theirs = |group: &Group| {
        let other = overhead.and_then(|plan| plan.groups.iter().find(|other| other.mount == group.mount));
        Spot::of(other.unwrap_or(group))
    };
    sandbox.groups.iter().map(theirs).collect()
}

/// From one list of devices to another, for a sandbox that is there.
pub fn device_change(known: &List, wanted: &List, is_v2: bool) -> DeviceChange {
    if is_v2 { DeviceChange::Program(device_program(wanted, false)) } else { files(known, wanted) }
}

/// What must be written for other processors, for one group; nothing where nothing changes. `above` is what stands for any:
/// the processors and memory nodes of the group above (v1), which cannot be left out there.
pub fn cpu_settings(
    before: &Cpus,
    after: &Cpus,
    version: Version,
    controllers: &[String],
    above: &(String, String),
) -> Vec<Setting> {
    let has = |controller: &str| controllers.iter().any(|one| one == controller);
    let write = |file: &str, value: String| Setting {
        file: file.into(),
        value,
        rule: Rule::Must,
        field: "processors of the sandbox".into(),
    };
    let mut settings = Vec::new();
    if has("cpuset") {
        for (file, old, new, any) in [
            ("cpuset.cpus", &before.cpus, &after.cpus, &above.0),
            ("cpuset.mems", &before.mems, &after.mems, &above.1),
        ] {
            if old != new {
                let any = if version == Version::V1 { any.clone() } else { "\n".into() };
                settings.push(write(file, new.clone().unwrap_or(any)));
            }
        }
    }
    if has("cpu") && before.quota != after.quota {
        match version {
            Version::V1 => {
                settings.push(write("cpu.cfs_period_us", PERIOD.to_string()));
                settings.push(write("cpu.cfs_quota_us", after.quota.unwrap_or(-1).to_string()));
            }
            Version::V2 => {
                let quota = after.quota.map_or("max".to_owned(), |quota| quota.to_string());
                settings.push(write("cpu.max", format!("{quota} {PERIOD}")));
            }
        }
    }
    settings
}

/// Properties of a sandbox's unit for another list of devices.
pub fn unit_devices(list: &List, mode: Mode) -> Result<Vec<Property>, Refused> {
    systemd::device_list_changes(list, mode)
}

/// Properties of a sandbox's unit for other processors, and those that lead back; nothing where nothing changes.
pub fn unit_cpus(
    before: &Cpus,
    after: &Cpus,
    version: u32,
    mode: Mode,
) -> Result<(Vec<Property>, Vec<Property>), Refused> {
    if before == after {
        return Ok((Vec::new(), Vec::new()));
    }
    let told = |cpus: &Cpus| {
        let mut resources = Resources::default();
        limit_cpus(&mut resources, cpus);
        systemd::changes(&resources, version, mode)
    };
    let (before, after) = (told(before)?, told(after)?);
    let lacking = |from: &[Property], to: &[Property]| -> Vec<Property> {
        let is_lacking = |one: &&Property| !to.iter().any(|known| known.name == one.name);
        from.iter().filter(is_lacking).map(systemd::unlimited).collect()
    };
    let (lifted, back) = (lacking(&before, &after), lacking(&after, &before));
    Ok((after.into_iter().chain(lifted).collect(), before.into_iter().chain(back).collect()))
}
