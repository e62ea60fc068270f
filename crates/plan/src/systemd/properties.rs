//! Limits as properties of a unit. The same limits are written to the files afterwards, so that what the manager knows and
//! what the kernel does are the same, and what the manager has no property for is in force as well.

use dbus::Value;
use filter::device::{Access, Exception, Kind, List};
use spec::{BlockIo, Cpu, Memory, Resources};

use super::{Manager, Property};
use crate::Refused;
use crate::cgroup::{Mode, Rule, Setting};
use crate::resources::{self, set};

/// The version of systemd from which on it knows a property, or a value of it.
mod since {
    /// `CPUQuotaPeriodUSec`
    pub(super) const PERIOD: u32 = 242;
    /// `AllowedCPUs`, `AllowedMemoryNodes`
    pub(super) const CPUSETS: u32 = 244;
    /// `CPUWeight=0`, for idle
    pub(super) const IDLE: u32 = 252;
    /// `OOMPolicy` of a scope
    pub(super) const OOM_POLICY: u32 = 253;
}

/// What the manager counts processor time by.
const SECOND: u64 = 1_000_000;
/// It keeps whole percents.
const PERCENT: u64 = SECOND / 100;
/// The kernel's period, where none is asked for.
const PERIOD: u64 = 100_000;

/// Properties for all limits of a new unit, device rules included.
pub(super) fn limits(
    resources: &Resources,
    list: &List,
    manager: &Manager,
    mode: Mode,
) -> Result<Vec<Property>, Refused> {
    let mut properties = Vec::new();
    // A user's manager may not load programs, and on version 1 not write device rules.
    if !manager.bus.is_user {
        devices(list, mode, &mut properties)?;
    }
    properties.extend(changes(resources, manager.version, mode)?);
    Ok(properties)
}

/// Properties for the limits that are named, for a unit that may be there already.
pub fn changes(resources: &Resources, version: u32, mode: Mode) -> Result<Vec<Property>, Refused> {
    let to = &mut Vec::new();
    if let Some(memory) = &resources.memory {
        of_memory(memory, mode, to)?;
    }
    if let Some(cpu) = &resources.cpu {
        of_cpu(cpu, version, mode, to)?;
    }
    if let Some(limit) = resources.pids.as_ref().and_then(|pids| pids.limit) {
        // 0 would be refused; the file is given 1 too.
        add(to, "TasksMax", Value::Uint64(u64::try_from(limit).map_or(u64::MAX, |limit| limit.max(1))));
    }
    if let Some(block) = &resources.block_io {
        of_blocks(block, mode, to);
    }
    for (file, value) in &resources.unified {
        of_file(file, value.trim(), resources, version, to)
            .map_err(|why| Refused::new(format!("linux.resources.unified[{file:?}]"), why))?;
    }
    Ok(std::mem::take(to))
}

/// Properties for other device rules, all of them, for a unit that has some already.
pub fn device_changes(resources: &Resources, mode: Mode) -> Result<Vec<Property>, Refused> {
    device_list_changes(&resources::device_list(resources)?, mode)
}

/// The same for a list that is compiled already.
pub(crate) fn device_list_changes(list: &List, mode: Mode) -> Result<Vec<Property>, Refused> {
    if mode != Mode::V2 {
        let why =
            "systemd writes its own list again on cgroup v1, to the distress of who uses a device meanwhile";
        return Err(Refused::new("linux.resources.devices", why));
    }
    // An empty list takes all entries away; others are added to those that are there.
    let mut properties = vec![Property::new("DeviceAllow", Value::Array("(ss)".into(), Vec::new()))];
    devices(list, mode, &mut properties)?;
    Ok(properties)
}

/// What a property is when nobody asks for anything.
pub fn unlimited(property: &Property) -> Property {
    let value = match property.name.as_str() {
        "MemoryLow" | "MemoryMin" => Value::Uint64(0),
        "OOMPolicy" => Value::Text("continue".into()),
        _ => match &property.value {
            Value::Array(element, _) => Value::Array(element.clone(), Vec::new()),
            _ => Value::Uint64(u64::MAX),
        },
    };
    Property { name: property.name.clone(), value }
}

/// A quota that the manager can keep: it counts whole percents, and the file must not say anything else, or the one
/// who writes last would win.
pub(crate) fn rounded(resources: &Resources) -> Resources {
    let mut resources = resources.clone();
    if let Some(cpu) = &mut resources.cpu
        && let Some(quota) = cpu.quota.and_then(|quota| u64::try_from(quota).ok()).filter(|quota| *quota > 0)
    {
        let period = set(cpu.period).unwrap_or(PERIOD);
        cpu.quota = Some(kept(quota, period).1);
    }
    if let Some(value) = resources.unified.get_mut("cpu.max") {
        let words: Vec<&str> = value.split_whitespace().collect();
        let period = words.get(1).map_or(Some(PERIOD), |period| period.parse().ok());
        // What is no quota is refused where it is made a property.
        if let (Some(Ok(quota)), Some(period)) = (words.first().map(|quota| quota.parse()), period) {
            *value = format!("{} {period}", kept(quota, period).1);
        }
    }
    resources
}

/// A weight, 10 to 1000, on the manager's scale. That has a curve of its own for BFQ, 1 to 1000: up to the default of 100 they are the
/// same, and 10000 is 1000. What lies outside stays outside.
fn io_weight(weight: u16) -> u64 {
    match weight {
        0..10 => 0,
        10..=100 => weight.into(),
        _ => 100 + (u64::from(weight) - 100) * 11,
    }
}

/// Has the files say what the manager writes: into BFQ's the weight itself, into the other one that on its scale.
pub(crate) fn in_its_scale(settings: &mut [Setting]) {
    for setting in settings.iter_mut().filter(|setting| setting.file == "io.bfq.weight") {
        // Weights of single devices have a number before them, and the manager is not told of those.
        if let (Rule::OrElse { value, .. }, Ok(weight)) = (&mut setting.rule, setting.value.parse()) {
            *value = io_weight(weight).to_string();
        }
    }
}

/// Microseconds in each second, and in each period.
fn kept(quota: u64, period: u64) -> (u64, i64) {
    let wide = |number: u64| u128::from(number);
    let per_second = wide(quota) * wide(SECOND) / wide(period.max(1));
    let per_second = per_second.next_multiple_of(wide(PERCENT)).max(wide(PERCENT));
    let quota = per_second * wide(period) / wide(SECOND);
    (u64::try_from(per_second).unwrap_or(u64::MAX), i64::try_from(quota).unwrap_or(i64::MAX))
}

fn add(to: &mut Vec<Property>, name: &str, value: Value) {
    to.push(Property::new(name, value));
}

/// Bytes, or -1 for as many as there are.
fn bytes(value: i64) -> Value {
    Value::Uint64(u64::try_from(value).unwrap_or(u64::MAX))
}

fn of_memory(memory: &Memory, mode: Mode, to: &mut Vec<Property>) -> Result<(), Refused> {
    if let Some(limit) = set(memory.limit) {
        add(to, if mode == Mode::V2 { "MemoryMax" } else { "MemoryLimit" }, bytes(limit));
    }
    if mode == Mode::V2 {
        if let Some(reservation) = set(memory.reservation) {
            add(to, "MemoryLow", bytes(reservation));
        }
        if let Some(swap) = resources::v2_swap(set(memory.limit), set(memory.swap))? {
            add(to, "MemorySwapMax", Value::Uint64(swap.parse().unwrap_or(u64::MAX)));
        }
    }
    Ok(())
}

fn of_cpu(cpu: &Cpu, version: u32, mode: Mode, to: &mut Vec<Property>) -> Result<(), Refused> {
    let is_idle = cpu.idle == Some(1);
    match set(cpu.shares) {
        Some(shares) if mode != Mode::V2 => add(to, "CPUShares", Value::Uint64(shares)),
        _ if mode != Mode::V2 => {}
        _ if is_idle && version >= since::IDLE => add(to, "CPUWeight", Value::Uint64(0)),
        Some(shares) if !is_idle => add(to, "CPUWeight", Value::Uint64(resources::weight_of(shares))),
        _ => {}
    }
    if set(cpu.quota).is_some() || set(cpu.period).is_some() {
        quota(set(cpu.quota), set(cpu.period), version, to);
    }
    if mode == Mode::V2 {
        for (field, name, list) in
            [("cpus", "AllowedCPUs", &cpu.cpus), ("mems", "AllowedMemoryNodes", &cpu.mems)]
        {
            if let Some(list) = list.as_deref().filter(|list| !list.is_empty()) {
                let mask =
                    mask(list).map_err(|why| Refused::new(format!("linux.resources.cpu.{field}"), why))?;
                if version >= since::CPUSETS {
                    add(to, name, mask);
                }
            }
        }
    }
    Ok(())
}

fn quota(quota: Option<i64>, period: Option<u64>, version: u32, to: &mut Vec<Property>) {
    if let Some(period) = period.filter(|_| version >= since::PERIOD) {
        add(to, "CPUQuotaPeriodUSec", Value::Uint64(period));
    }
    let quota = quota.and_then(|quota| u64::try_from(quota).ok());
    let per_second = quota.map_or(u64::MAX, |quota| kept(quota, period.unwrap_or(PERIOD)).0);
    add(to, "CPUQuotaPerSecUSec", Value::Uint64(per_second));
}

/// A list of numbers and ranges as a mask, the lowest byte first.
fn mask(list: &str) -> Result<Value, String> {
    let ranges = spec::numbers(list.trim()).map_err(|entry| format!("{entry:?} is no number or range"))?;
    let mut mask = Vec::new();
    for number in ranges.iter().flat_map(|&(first, last)| first..=last) {
        let byte = usize::from(number / 8);
        if mask.len() <= byte {
            mask.resize(byte + 1, 0);
        }
        if let Some(byte) = mask.get_mut(byte) {
            *byte |= 1_u8 << (number % 8);
        }
    }
    Ok(Value::bytes(&mask))
}

fn of_blocks(block: &BlockIo, mode: Mode, to: &mut Vec<Property>) {
    let Some(weight) = set(block.weight) else { return };
    if mode == Mode::V2 {
        add(to, "IOWeight", Value::Uint64(io_weight(weight)));
    } else {
        add(to, "BlockIOWeight", Value::Uint64(weight.into()));
    }
}

/// A file of `unified` that the manager has a property for. All of them are written to the files as well.
fn of_file(
    file: &str,
    value: &str,
    resources: &Resources,
    version: u32,
    to: &mut Vec<Property>,
) -> Result<(), String> {
    let number = || match value {
        "max" => Ok(u64::MAX),
        value => value.parse::<u64>().map_err(|_| format!("{value:?} is neither max nor a number")),
    };
    let is_idle = resources.unified.get("cpu.idle").is_some_and(|idle| idle.trim() == "1");
    let bytes =
        |name: &str, to: &mut Vec<Property>| number().map(|number| replace(to, name, Value::Uint64(number)));
    match file {
        "memory.min" => bytes("MemoryMin", to)?,
        "memory.low" => bytes("MemoryLow", to)?,
        "memory.high" => bytes("MemoryHigh", to)?,
        "memory.max" => bytes("MemoryMax", to)?,
        "memory.swap.max" => bytes("MemorySwapMax", to)?,
        "memory.oom.group" if version >= since::OOM_POLICY => {
            let policy = if value == "1" { "kill" } else { "continue" };
            replace(to, "OOMPolicy", Value::Text(policy.into()));
        }
        "pids.max" => replace(to, "TasksMax", Value::Uint64(number()?.max(1))),
        "cpu.idle" if is_idle && version >= since::IDLE => replace(to, "CPUWeight", Value::Uint64(0)),
        "cpu.weight" if !is_idle => replace(to, "CPUWeight", Value::Uint64(number()?)),
        "cpu.max" => {
            let mut words = value.split_whitespace();
            let wrong = || format!("{value:?} is no quota and period");
            let time = match words.next() {
                Some("max") => None,
                Some(time) => Some(time.parse::<i64>().ok().filter(|time| *time > 0).ok_or_else(wrong)?),
                None => return Err(wrong()),
            };
            let period = words.next().map(|word| word.parse::<u64>().ok().filter(|period| *period > 0));
            let period = period.map(|period| period.ok_or_else(wrong)).transpose()?;
            to.retain(|known| !known.name.starts_with("CPUQuota"));
            quota(time, period, version, to);
        }
        "cpuset.cpus" | "cpuset.mems" if version >= since::CPUSETS => {
            let name = if file == "cpuset.cpus" { "AllowedCPUs" } else { "AllowedMemoryNodes" };
            replace(to, name, mask(value)?);
        }
        _ => {}
    }
    Ok(())
}

/// What `unified` says comes after all else.
fn replace(to: &mut Vec<Property>, name: &str, value: Value) {
    to.retain(|known| known.name != name);
    add(to, name, value);
}

/// The device list, as far as the manager can tell it. On version 2 its program and ours both decide, and ours is exact:
/// the manager's may let more pass, never less. On version 1 there is one list, and the manager writes it again whenever it
/// is reloaded.
fn devices(list: &List, mode: Mode, to: &mut Vec<Property>) -> Result<(), Refused> {
    let inexact = |what: &str| match mode {
        Mode::V2 => Ok(()),
        _ => Err(Refused::new(
            "linux.resources.devices",
            format!("systemd has no words for {what} on cgroup v1, and would lift it"),
        )),
    };
    if list.allow {
        if !list.exceptions.is_empty() {
            inexact("a rule that forbids what another one allows")?;
        }
        add(to, "DevicePolicy", Value::Text("auto".into()));
        add(to, "DeviceAllow", Value::Array("(ss)".into(), Vec::new()));
        return Ok(());
    }
    let mut rules: Vec<(String, Access)> = Vec::new();
    for Exception { devices, access } in &list.exceptions {
        let kinds: &[&str] = match devices.kind {
            Kind::All => &["block", "char"],
            Kind::Block => &["block"],
            Kind::Char => &["char"],
        };
        for kind in kinds {
            let name = match (devices.major, devices.minor) {
                (Some(major), Some(minor)) => format!("/dev/{kind}/{major}:{minor}"),
                (Some(major), None) => format!("{kind}-{major}"),
                (None, None) => format!("{kind}-*"),
                (None, Some(_)) => {
                    inexact("one minor number of every driver")?;
                    format!("{kind}-*")
                }
            };
            match rules.iter_mut().find(|(known, _)| *known == name) {
                Some((_, letters)) => *letters = letters.with(*access),
                None => rules.push((name, *access)),
            }
        }
    }
    let pair = |(name, access): (String, Access)| {
        Value::Struct(vec![Value::Text(name), Value::Text(access.to_string())])
    };
    add(to, "DevicePolicy", Value::Text("strict".into()));
    add(to, "DeviceAllow", Value::Array("(ss)".into(), rules.into_iter().map(pair).collect()));
    Ok(())
}
