//! Other limits for a container that is there: what is written, and what is in force afterwards.
//!
//! What is not asked for is left alone. A value that the kernel keeps in one file with another, or checks against
//! another, is written together with that other one, as it is in force.

pub(crate) mod devices;

pub use devices::DeviceChange;

use spec::{Cpu, InterfacePriority, Memory, Network, Resources, ThrottleDevice, WeightDevice};

use crate::cgroup::{Rule, Setting, Version};
use crate::resources::{self, Wanted, set};
use crate::{Refused, systemd};

/// One hierarchy that a container has a group in.
#[derive(Clone, Copy, Debug)]
pub struct Hierarchy<'a> {
    /// Which generation.
    pub version: Version,
    /// The controllers that the group has.
    pub controllers: &'a [String],
}

/// A change of limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// What is written: a list for each hierarchy, in their order.
    pub settings: Vec<Vec<Setting>>,
    /// Who may use which device from now on; none where that is not asked for, or is so already.
    pub devices: Option<DeviceChange>,
    /// The limits that are in force then.
    pub limits: Resources,
    /// What has no effect.
    pub warnings: Vec<String>,
    /// What is written, in the document's words.
    pub written: Resources,
}

/// From the limits that are asked for, and those in force, to what will be written. Pure.
///
/// 0 and absent mean "untouched"; here, unlike when a container is made, for `pids.limit` too: callers in Go have
/// always written 0 for what they do not care about. Paths of what is refused begin with the field of the resources.
pub fn compile_update(
    asked: &Resources,
    in_force: &Resources,
    hierarchies: &[Hierarchy<'_>],
) -> Result<Update, Refused> {
    compiled(asked, in_force, hierarchies, Resources::clone)
}

/// The same for a container whose unit a service manager has made, and whose limits it must be able to keep.
pub fn compile_managed_update(
    asked: &Resources,
    in_force: &Resources,
    hierarchies: &[Hierarchy<'_>],
) -> Result<Update, Refused> {
    let mut update = compiled(asked, in_force, hierarchies, systemd::rounded)?;
    update.settings.iter_mut().for_each(|settings| systemd::in_its_scale(settings));
    Ok(update)
}

fn compiled(
    asked: &Resources,
    in_force: &Resources,
    hierarchies: &[Hierarchy<'_>],
    kept: fn(&Resources) -> Resources,
) -> Result<Update, Refused> {
    let limits = merged(asked, in_force);
    let mut completed = kept(&completed(asked, &limits));
    if let Some(memory) = &mut completed.memory {
        // A killer that was never taken away need not come back.
        let is_gone = in_force.memory.as_ref().and_then(|memory| memory.disable_oom_killer) == Some(true);
        memory.disable_oom_killer = memory.disable_oom_killer.filter(|disabled| *disabled || is_gone);
    }
    let at_top = |mut refused: Refused| {
        refused.path = field(&refused.path);
        refused
    };
    let mut update = settings(&completed, hierarchies, limits).map_err(at_top)?;
    update.devices = devices::change(asked, in_force, hierarchies).map_err(at_top)?;
    for setting in update.settings.iter_mut().flatten() {
        setting.field = field(&setting.field);
        // In force is what an earlier update left, and the kernel checks each value against the others: the right
        // order follows from numbers that others may have changed meanwhile.
        if setting.file.starts_with("cpu.") && setting.rule == Rule::Must {
            setting.rule = Rule::Again;
        }
    }
    for warning in &mut update.warnings {
        *warning = field(warning);
    }
    Ok(update)
}

/// The resources come as a document of their own.
fn field(path: &str) -> String {
    path.strip_prefix("linux.resources.").unwrap_or(path).to_owned()
}

fn settings(asked: &Resources, hierarchies: &[Hierarchy<'_>], limits: Resources) -> Result<Update, Refused> {
    let on_v1 = hierarchies.iter().any(|hierarchy| hierarchy.version == Version::V1);
    let mut wanted = if on_v1 { resources::v1_limits(asked)? } else { resources::v2(asked)? };
    if on_v1 && oom_killer_returns(asked) {
        wanted.add("memory", resources::must("memory.disableOOMKiller", "memory.oom_control", 0));
    }
    let mut settings = Vec::with_capacity(hierarchies.len());
    for hierarchy in hierarchies {
        settings.push(match (hierarchy.version, on_v1) {
            (Version::V1, _) => of_controllers(&mut wanted, hierarchy.controllers),
            // The unified tree of a hybrid host gets no settings.
            (Version::V2, true) => Vec::new(),
            (Version::V2, false) => in_order(&mut wanted, hierarchy.controllers)?,
        });
    }
    wanted.nothing_left()?;
    Ok(Update { settings, devices: None, limits, warnings: wanted.warnings, written: asked.clone() })
}

fn of_controllers(wanted: &mut Wanted, controllers: &[String]) -> Vec<Setting> {
    controllers.iter().flat_map(|controller| wanted.take(controller)).collect()
}

fn in_order(wanted: &mut Wanted, controllers: &[String]) -> Result<Vec<Setting>, Refused> {
    let mut settings = Vec::new();
    for controller in resources::V2_ORDER {
        if controller == resources::UNIFIED {
            settings.append(&mut wanted.take_unified(controllers)?);
        } else if controllers.iter().any(|there| there == controller) {
            settings.append(&mut wanted.take(controller));
        }
    }
    Ok(settings)
}

/// When a container is made, `false` is what the kernel begins with.
fn oom_killer_returns(asked: &Resources) -> bool {
    asked.memory.as_ref().is_some_and(|memory| memory.disable_oom_killer == Some(false))
}

/// What was asked for, with those values in force that go together with it.
fn completed(asked: &Resources, limits: &Resources) -> Resources {
    let mut asked = asked.clone();
    asked.devices = Vec::new();
    if let Some(pids) = &mut asked.pids {
        pids.limit = set(pids.limit);
    }
    if let (Some(cpu), Some(limits)) = (&mut asked.cpu, &limits.cpu) {
        if set(cpu.quota).is_some() || set(cpu.period).is_some() {
            (cpu.quota, cpu.period) = (limits.quota, limits.period);
        }
        // An idle group takes no weight.
        if set(cpu.shares).is_some() {
            cpu.idle = limits.idle;
        }
    }
    if let (Some(memory), Some(limits)) = (&mut asked.memory, &limits.memory) {
        let both = lifts_both(memory);
        if set(memory.limit).is_some() || set(memory.swap).is_some() {
            (memory.limit, memory.swap) = (limits.limit, limits.swap.filter(|_| !both));
        }
        memory.check_before_update = limits.check_before_update;
    }
    asked
}

/// No limit of memory, without a word about swap, means none of both.
fn lifts_both(memory: &Memory) -> bool {
    memory.limit == Some(-1) && set(memory.swap).is_none()
}

/// What holds afterwards.
fn merged(asked: &Resources, in_force: &Resources) -> Resources {
    let mut limits = in_force.clone();
    if !asked.devices.is_empty() {
        limits.devices.clone_from(&asked.devices);
    }
    if let Some(memory) = &asked.memory {
        merge_memory(limits.memory.get_or_insert_default(), memory);
    }
    if let Some(cpu) = &asked.cpu {
        merge_cpu(limits.cpu.get_or_insert_default(), cpu);
    }
    if let Some(limit) = asked.pids.as_ref().and_then(|pids| set(pids.limit)) {
        limits.pids.get_or_insert_default().limit = Some(limit);
    }
    if let Some(block) = &asked.block_io {
        let limits = limits.block_io.get_or_insert_default();
        over(&mut limits.weight, set(block.weight));
        weights(&mut limits.weight_device, &block.weight_device);
        throttles(&mut limits.throttle_read_bps_device, &block.throttle_read_bps_device);
        throttles(&mut limits.throttle_write_bps_device, &block.throttle_write_bps_device);
        throttles(&mut limits.throttle_read_iops_device, &block.throttle_read_iops_device);
        throttles(&mut limits.throttle_write_iops_device, &block.throttle_write_iops_device);
    }
    for page in &asked.hugepage_limits {
        put(&mut limits.hugepage_limits, page, |one, other| one.page_size == other.page_size);
    }
    if let Some(network) = &asked.network {
        merge_network(limits.network.get_or_insert_default(), network);
    }
    limits.rdma.extend(asked.rdma.iter().map(|(device, limit)| (device.clone(), limit.clone())));
    limits.unified.extend(asked.unified.iter().map(|(file, value)| (file.clone(), value.clone())));
    limits
}

fn merge_memory(limits: &mut Memory, asked: &Memory) {
    over(&mut limits.limit, set(asked.limit));
    over(&mut limits.swap, if lifts_both(asked) { Some(-1) } else { set(asked.swap) });
    over(&mut limits.reservation, set(asked.reservation));
    over(&mut limits.swappiness, asked.swappiness);
    over(&mut limits.disable_oom_killer, asked.disable_oom_killer);
    over(&mut limits.check_before_update, asked.check_before_update);
}

fn merge_cpu(limits: &mut Cpu, asked: &Cpu) {
    // The kernel goes back to the default share when a group begins or ends to be idle.
    if asked.idle.is_some() {
        limits.shares = None;
    }
    over(&mut limits.shares, set(asked.shares));
    over(&mut limits.quota, set(asked.quota));
    over(&mut limits.period, set(asked.period));
    over(&mut limits.burst, asked.burst);
    over(&mut limits.realtime_runtime, set(asked.realtime_runtime));
    over(&mut limits.realtime_period, set(asked.realtime_period));
    over(&mut limits.idle, asked.idle);
    over(&mut limits.cpus, asked.cpus.clone().filter(|list| !list.is_empty()));
    over(&mut limits.mems, asked.mems.clone().filter(|list| !list.is_empty()));
}

fn merge_network(limits: &mut Network, asked: &Network) {
    over(&mut limits.class_id, set(asked.class_id));
    for priority in &asked.priorities {
        let same = |one: &InterfacePriority, other: &InterfacePriority| one.name == other.name;
        put(&mut limits.priorities, priority, same);
    }
}

fn over<T>(limit: &mut Option<T>, asked: Option<T>) {
    if asked.is_some() {
        *limit = asked;
    }
}

fn weights(limits: &mut Vec<WeightDevice>, asked: &[WeightDevice]) {
    for device in asked {
        put(limits, device, |one, other| (one.major, one.minor) == (other.major, other.minor));
    }
}

fn throttles(limits: &mut Vec<ThrottleDevice>, asked: &[ThrottleDevice]) {
    for device in asked {
        put(limits, device, |one, other| (one.major, one.minor) == (other.major, other.minor));
    }
}

/// In place of what is there for the same thing, or after all others.
fn put<T: Clone>(limits: &mut Vec<T>, asked: &T, is_same: impl Fn(&T, &T) -> bool) {
    match limits.iter_mut().find(|limit| is_same(limit, asked)) {
        Some(limit) => limit.clone_from(asked),
        None => limits.push(asked.clone()),
    }
}
