//! `linux.resources` in the words of the kernel's files.

use filter::device::{Access, Devices, Kind, List};
use spec::{BlockIo, Cpu, Memory, Resources, ThrottleDevice};

use crate::Refused;
use crate::cgroup::{DeviceProgram, Rule, Setting, Version};

/// What shall be written, by controller, in order.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    settings: Vec<(&'static str, Setting)>,
    unified: Vec<(String, Setting)>,
    /// Whether anything was asked for beside the device list, which everybody gets.
    pub(crate) has_limits: bool,
    /// What has no effect.
    pub(crate) warnings: Vec<String>,
}

/// Stands for `linux.resources.unified` among the controllers: its own files, after all others.
pub(crate) const UNIFIED: &str = "unified";

/// The order in which v2's controllers are written.
pub(crate) const V2_ORDER: [&str; 8] = ["pids", "memory", "io", "cpu", "cpuset", "hugetlb", "rdma", UNIFIED];

impl Wanted {
    pub(crate) fn add(&mut self, controller: &'static str, setting: Setting) {
        self.has_limits |= controller != "devices";
        self.settings.push((controller, setting));
    }

    /// The settings of one controller; they are not left afterwards.
    pub(crate) fn take(&mut self, controller: &str) -> Vec<Setting> {
        self.settings
            .extract_if(.., |(wanted, _)| *wanted == controller)
            .map(|(_, setting)| setting)
            .collect()
    }

    /// The settings of `unified`, if the host has what they need.
    pub(crate) fn take_unified(&mut self, there: &[String]) -> Result<Vec<Setting>, Refused> {
        for (controller, setting) in &self.unified {
            if controller != "cgroup" && !setting.file.ends_with(".pressure") && !there.contains(controller) {
                let reason = format!("this host has no {controller} controller");
                return Err(Refused::new(&setting.field, reason));
            }
        }
        Ok(self.unified.drain(..).map(|(_, setting)| setting).collect())
    }

    /// What nobody has taken.
    pub(crate) fn first(&self) -> Option<(&'static str, &Setting)> {
        self.settings.first().map(|(controller, setting)| (*controller, setting))
    }

    /// The first setting of a controller that is not there; devices have none on version 2.
    pub(crate) fn beyond(&self, has: impl Fn(&str) -> bool) -> Option<(&str, &Setting)> {
        let settings = self.settings.iter().map(|(controller, setting)| (*controller, setting));
        let unified = self.unified.iter().map(|(controller, setting)| (controller.as_str(), setting));
        let is_core = |controller: &str| controller == "cgroup";
        settings.chain(unified).find(|(controller, _)| !is_core(controller) && !has(controller))
    }

    fn ignored(&mut self, field: &str, reason: &str) {
        self.warnings.push(format!("linux.resources.{field}: ignored: {reason}"));
    }
}

fn refused(field: &str, reason: impl Into<String>) -> Refused {
    Refused::new(format!("linux.resources.{field}"), reason)
}

#[allow(clippy::needless_pass_by_value, reason = "callers hand over numbers")]
pub(crate) fn must(field: &str, file: impl Into<String>, value: impl ToString) -> Setting {
    let field = format!("linux.resources.{field}");
    Setting { file: file.into(), value: value.to_string(), rule: Rule::Must, field }
}

impl Setting {
    fn rule(mut self, rule: Rule) -> Self {
        self.rule = rule;
        self
    }
}

/// A number that stands for "untouched" when it is 0 or absent, as Go's encoders write it.
pub(crate) fn set<T: Default + PartialEq>(number: Option<T>) -> Option<T> {
    number.filter(|number| *number != T::default())
}

/// The settings for v1 hierarchies.
pub(crate) fn v1(resources: &Resources, devices: &List) -> Result<Wanted, Refused> {
    let mut wanted = v1_limits(resources)?;
    v1_devices(devices, &mut wanted);
    Ok(wanted)
}

/// The same without the devices.
pub(crate) fn v1_limits(resources: &Resources) -> Result<Wanted, Refused> {
    let mut wanted = Wanted::default();
    if let Some(memory) = &resources.memory {
        v1_memory(memory, &mut wanted)?;
    }
    if let Some(cpu) = &resources.cpu {
        v1_cpu(cpu, &mut wanted)?;
        cpusets(cpu, Version::V1, &mut wanted)?;
    }
    pids(resources, &mut wanted);
    if let Some(block) = &resources.block_io {
        v1_block(block, &mut wanted)?;
    }
    huge_pages(resources, "limit_in_bytes", "rsvd.limit_in_bytes", &mut wanted)?;
    if let Some(network) = &resources.network {
        if let Some(class) = set(network.class_id) {
            wanted.add("net_cls", must("network.classID", "net_cls.classid", class));
        }
        for (index, priority) in network.priorities.iter().enumerate() {
            let field = format!("network.priorities[{index}]");
            let name = word(&field, &priority.name)?;
            let value = format!("{name} {}", priority.priority);
            wanted.add("net_prio", must(&field, "net_prio.ifpriomap", value));
        }
    }
    rdma(resources, &mut wanted)?;
    if !resources.unified.is_empty() {
        return Err(refused(
            "unified",
            "invalid configuration: the controllers of this host are on cgroup v1",
        ));
    }
    Ok(wanted)
}

/// The settings for the unified tree, all but the devices.
pub(crate) fn v2(resources: &Resources) -> Result<Wanted, Refused> {
    let mut wanted = Wanted::default();
    pids(resources, &mut wanted);
    if let Some(memory) = &resources.memory {
        v2_memory(memory, &mut wanted)?;
    }
    if let Some(block) = &resources.block_io {
        v2_block(block, &mut wanted)?;
    }
    if let Some(cpu) = &resources.cpu {
        v2_cpu(cpu, &mut wanted)?;
        cpusets(cpu, Version::V2, &mut wanted)?;
    }
    huge_pages(resources, "max", "rsvd.max", &mut wanted)?;
    if let Some(network) = &resources.network {
        if set(network.class_id).is_some() {
            return Err(refused("network.classID", "cgroup v2 has no network classes"));
        }
        if !network.priorities.is_empty() {
            return Err(refused("network.priorities", "cgroup v2 has no network priorities"));
        }
    }
    rdma(resources, &mut wanted)?;
    for (file, value) in &resources.unified {
        let field = format!("unified[{file:?}]");
        let Some((controller, _)) = file.split_once('.').filter(|_| !file.contains(['/', '\0'])) else {
            return Err(refused(&field, "is no name of a control group file"));
        };
        wanted.has_limits = true;
        for line in value.lines().filter(|line| !line.is_empty()) {
            wanted.unified.push((controller.to_owned(), must(&field, file, line)));
        }
    }
    Ok(wanted)
}

fn pids(resources: &Resources, wanted: &mut Wanted) {
    if let Some(limit) = resources.pids.as_ref().and_then(|pids| pids.limit) {
        let value = if limit < 0 { "max".to_owned() } else { limit.max(1).to_string() };
        wanted.add("pids", must("pids.limit", "pids.max", value));
    }
}

fn cpusets(cpu: &Cpu, on: Version, wanted: &mut Wanted) -> Result<(), Refused> {
    for (field, name, value) in [("cpu.cpus", "cpus", &cpu.cpus), ("cpu.mems", "mems", &cpu.mems)] {
        let Some(value) = set(value.as_ref().map(String::as_str)) else { continue };
        // The kernel would read as far as that, and be content.
        if value.contains('\0') {
            return Err(refused(field, format!("{value:?} is no list of numbers")));
        }
        let setting = must(field, format!("cpuset.{name}"), value);
        // On v1 the hierarchy may be mounted with `noprefix`, as that of the old file system of cpusets was.
        let short = Rule::OrElse { file: name.into(), value: value.into() };
        wanted.add("cpuset", if on == Version::V1 { setting.rule(short) } else { setting });
    }
    Ok(())
}

/// -1 or a number of bytes; 0 and absent are "untouched".
fn bytes(field: &str, value: Option<i64>) -> Result<Option<i64>, Refused> {
    match set(value) {
        Some(value) if value < -1 => {
            Err(refused(field, format!("{value} is neither -1 nor a number of bytes")))
        }
        value => Ok(value),
    }
}

fn gone(memory: &Memory, wanted: &mut Wanted) {
    for (field, value) in [("memory.kernel", memory.kernel), ("memory.kernelTCP", memory.kernel_tcp)] {
        if set(value).is_some() {
            wanted.ignored(field, "the kernel has no such limit any more");
        }
    }
    if memory.use_hierarchy == Some(false) {
        wanted.ignored("memory.useHierarchy", "children always count");
    }
}

fn v1_memory(memory: &Memory, wanted: &mut Wanted) -> Result<(), Refused> {
    const MEMORY: &str = "memory.limit_in_bytes";
    const SWAP: &str = "memory.memsw.limit_in_bytes";
    let limit = bytes("memory.limit", memory.limit)?;
    let swap = bytes("memory.swap", memory.swap)?;
    if let (Some(limit @ 1..), Some(swap @ 0..)) = (limit, swap)
        && swap < limit
    {
        return Err(refused(
            "memory.swap",
            format!("{swap} is less than the memory limit {limit}, which it includes"),
        ));
    }
    // The kernel wants memory <= memory and swap at every moment. In a new group both are unlimited, so memory
    // goes first; in one that is there already it may be the other way round, and then the kernel says EINVAL.
    if let Some(limit) = limit {
        wanted.add("memory", must("memory.limit", MEMORY, limit).rule(Rule::Again));
    }
    match (limit, swap) {
        (_, Some(swap)) => wanted.add("memory", must("memory.swap", SWAP, swap)),
        (Some(-1), None) => {
            wanted.add("memory", must("memory.limit", SWAP, -1).rule(Rule::MayLack));
        }
        _ => {}
    }
    if let Some(reservation) = bytes("memory.reservation", memory.reservation)? {
        wanted.add("memory", must("memory.reservation", "memory.soft_limit_in_bytes", reservation));
    }
    if memory.disable_oom_killer == Some(true) {
        wanted.add("memory", must("memory.disableOOMKiller", "memory.oom_control", 1));
    }
    if let Some(swappiness) = memory.swappiness {
        // Docker writes -1 for "untouched" into this unsigned field.
        if swappiness != u64::MAX {
            if swappiness > 100 {
                return Err(refused("memory.swappiness", format!("{swappiness} is not between 0 and 100")));
            }
            wanted.add("memory", must("memory.swappiness", "memory.swappiness", swappiness));
        }
    }
    gone(memory, wanted);
    Ok(())
}

fn v2_memory(memory: &Memory, wanted: &mut Wanted) -> Result<(), Refused> {
    let limit = bytes("memory.limit", memory.limit)?;
    let swap = v2_swap(limit, bytes("memory.swap", memory.swap)?)?;
    if let Some(swap) = swap {
        let rule = if swap == "max" || swap == "0" { Rule::MayLack } else { Rule::Must };
        wanted.add("memory", must("memory.swap", "memory.swap.max", swap).rule(rule));
    }
    let unlimited = |bytes: i64| u64::try_from(bytes).map_or("max".to_owned(), |bytes| bytes.to_string());
    if let Some(limit) = limit {
        let rule = match u64::try_from(limit) {
            Ok(limit) if memory.check_before_update == Some(true) => {
                Rule::AboveUse { file: "memory.current".into(), limit }
            }
            _ => Rule::Must,
        };
        wanted.add("memory", must("memory.limit", "memory.max", unlimited(limit)).rule(rule));
    }
    if let Some(reservation) = bytes("memory.reservation", memory.reservation)? {
        wanted.add("memory", must("memory.reservation", "memory.low", unlimited(reservation)));
    }
    if memory.disable_oom_killer == Some(true) {
        wanted.ignored("memory.disableOOMKiller", "cgroup v2 has no such switch");
    }
    if memory.swappiness.is_some_and(|swappiness| swappiness != u64::MAX) {
        wanted.ignored("memory.swappiness", "cgroup v2 has no such value");
    }
    gone(memory, wanted);
    Ok(())
}

/// v1 counts memory and swap together, v2 swap alone.
pub(crate) fn v2_swap(limit: Option<i64>, swap: Option<i64>) -> Result<Option<String>, Refused> {
    match (limit, swap) {
        (Some(-1), None) | (_, Some(-1)) => Ok(Some("max".into())),
        (_, None) => Ok(None),
        (None, Some(_)) => Err(refused("memory.swap", "needs a limit of memory, which it includes")),
        // There is nothing to take off: it is a limit of swap then, as runc has it.
        (Some(-1), Some(swap)) => Ok(Some(swap.to_string())),
        (Some(limit), Some(swap)) if swap < limit => Err(refused(
            "memory.swap",
            format!("{swap} is less than the memory limit {limit}, which it includes"),
        )),
        (Some(limit), Some(swap)) => Ok(Some((swap - limit).to_string())),
    }
}

fn idle(cpu: &Cpu) -> Result<Option<i64>, Refused> {
    match cpu.idle {
        Some(idle) if !(0..=1).contains(&idle) => {
            Err(refused("cpu.idle", format!("{idle} is neither 0 nor 1")))
        }
        idle => Ok(idle),
    }
}

fn v1_cpu(cpu: &Cpu, wanted: &mut Wanted) -> Result<(), Refused> {
    // The real-time budget must be there before the first process is.
    if let Some(period) = set(cpu.realtime_period) {
        wanted.add("cpu", must("cpu.realtimePeriod", "cpu.rt_period_us", period).rule(Rule::Again));
    }
    if let Some(runtime) = set(cpu.realtime_runtime) {
        wanted.add("cpu", must("cpu.realtimeRuntime", "cpu.rt_runtime_us", runtime));
    }
    if let Some(shares) = set(cpu.shares) {
        // The kernel would clamp without a word.
        if shares < 2 {
            return Err(refused("cpu.shares", "the minimum allowed cpu-shares is 2"));
        }
        if shares > 262_144 {
            return Err(refused("cpu.shares", "the maximum allowed cpu-shares is 262144"));
        }
        wanted.add("cpu", must("cpu.shares", "cpu.shares", shares));
    }
    if let Some(period) = set(cpu.period) {
        wanted.add("cpu", must("cpu.period", "cpu.cfs_period_us", period).rule(Rule::Again));
    }
    if let Some(quota) = set(cpu.quota) {
        wanted.add("cpu", must("cpu.quota", "cpu.cfs_quota_us", quota).rule(Rule::Again));
    }
    if let Some(burst) = cpu.burst {
        wanted.add("cpu", must("cpu.burst", "cpu.cfs_burst_us", burst).rule(Rule::MayLack));
    }
    if let Some(idle) = idle(cpu)? {
        wanted.add("cpu", must("cpu.idle", "cpu.idle", idle));
    }
    Ok(())
}

fn v2_cpu(cpu: &Cpu, wanted: &mut Wanted) -> Result<(), Refused> {
    if set(cpu.realtime_period).is_some() {
        return Err(refused("cpu.realtimePeriod", "cgroup v2 has no real-time budgets"));
    }
    if set(cpu.realtime_runtime).is_some() {
        return Err(refused("cpu.realtimeRuntime", "cgroup v2 has no real-time budgets"));
    }
    let idle = idle(cpu)?;
    // The kernel refuses a weight for an idle group.
    if let (Some(shares), None | Some(0)) = (set(cpu.shares), idle) {
        wanted.add("cpu", must("cpu.shares", "cpu.weight", weight_of(shares)));
    }
    let (quota, period) = (set(cpu.quota), set(cpu.period));
    if quota.is_some() || period.is_some() {
        let quota = quota.filter(|quota| *quota > 0).map_or("max".to_owned(), |quota| quota.to_string());
        let field = if cpu.quota.is_some() { "cpu.quota" } else { "cpu.period" };
        let value = format!("{quota} {}", period.unwrap_or(100_000));
        wanted.add("cpu", must(field, "cpu.max", value).rule(Rule::Again));
    }
    if let Some(burst) = cpu.burst {
        wanted.add("cpu", must("cpu.burst", "cpu.max.burst", burst));
    }
    if let Some(idle) = idle {
        wanted.add("cpu", must("cpu.idle", "cpu.idle", idle));
    }
    Ok(())
}

/// v1 shares (2 to 262144, default 1024) as a v2 weight (1 to 10000, default 100): a curve that meets both ends
/// and the default. A straight line would give a default container 39, less than everything around it.
pub(crate) fn weight_of(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            #[allow(clippy::cast_precision_loss, reason = "below 2^18")]
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 10000")]
            let weight = 10_f64.powf(exponent).ceil() as u64;
            weight
        }
    }
}

/// They were CFQ's. runc fails to write them on v1, and skips them on v2.
const NO_LEAVES: &str = "leaf weights went with Linux 5.0";

fn v1_block(block: &BlockIo, wanted: &mut Wanted) -> Result<(), Refused> {
    // CFQ's names, or those of BFQ that replaced it.
    let either = |setting: Setting, file: &str| {
        let value = setting.value.clone();
        setting.rule(Rule::OrElse { file: file.into(), value })
    };
    if let Some(weight) = set(block.weight) {
        let setting = must("blockIO.weight", "blkio.weight", weight);
        wanted.add("blkio", either(setting, "blkio.bfq.weight"));
    }
    if set(block.leaf_weight).is_some() {
        return Err(refused("blockIO.leafWeight", NO_LEAVES));
    }
    for (index, device) in block.weight_device.iter().enumerate() {
        let field = format!("blockIO.weightDevice[{index}]");
        let number = block_number(&field, device.major, device.minor)?;
        if let Some(weight) = set(device.weight) {
            let setting = must(&field, "blkio.weight_device", format!("{number} {weight}"));
            wanted.add("blkio", either(setting, "blkio.bfq.weight_device"));
        }
        if set(device.leaf_weight).is_some() {
            return Err(refused(&format!("{field}.leafWeight"), NO_LEAVES));
        }
    }
    for (name, limits, file, _) in throttles(block) {
        for (index, limit) in limits.iter().enumerate() {
            let field = format!("blockIO.{name}[{index}]");
            let number = block_number(&field, limit.major, limit.minor)?;
            wanted.add("blkio", must(&field, file, format!("{number} {}", limit.rate)));
        }
    }
    Ok(())
}

/// BFQ's range, 10 to 1000, as that of the other files. What lies outside stays outside, for the kernel to refuse.
pub(crate) fn io_weight(weight: u16) -> u64 {
    u64::from(weight).checked_sub(10).map_or(0, |above| 1 + above * 9999 / 990)
}

fn v2_block(block: &BlockIo, wanted: &mut Wanted) -> Result<(), Refused> {
    // BFQ has its own file with v1's range; the other one has its own range.
    if let Some(weight) = set(block.weight) {
        let rule = Rule::OrElse { file: "io.weight".into(), value: io_weight(weight).to_string() };
        wanted.add("io", must("blockIO.weight", "io.bfq.weight", weight).rule(rule));
    }
    if set(block.leaf_weight).is_some() {
        wanted.ignored("blockIO.leafWeight", "cgroup v2 has no such value");
    }
    for (index, device) in block.weight_device.iter().enumerate() {
        let field = format!("blockIO.weightDevice[{index}]");
        let number = block_number(&field, device.major, device.minor)?;
        if let Some(weight) = set(device.weight) {
            let value = format!("{number} {}", io_weight(weight));
            let rule = Rule::OrElse { file: "io.weight".into(), value };
            wanted.add("io", must(&field, "io.bfq.weight", format!("{number} {weight}")).rule(rule));
        }
        if set(device.leaf_weight).is_some() {
            wanted.ignored(&format!("{field}.leafWeight"), "cgroup v2 has no such value");
        }
    }
    for (name, limits, _, key) in throttles(block) {
        for (index, limit) in limits.iter().enumerate() {
            let field = format!("blockIO.{name}[{index}]");
            let number = block_number(&field, limit.major, limit.minor)?;
            // 0 was v1's word for "no limit".
            let rate = set(Some(limit.rate)).map_or("max".to_owned(), |rate| rate.to_string());
            wanted.add("io", must(&field, "io.max", format!("{number} {key}={rate}")));
        }
    }
    Ok(())
}

/// The four lists of ceilings: field, devices, v1 file, v2 key.
fn throttles(block: &BlockIo) -> [(&'static str, &[ThrottleDevice], &'static str, &'static str); 4] {
    [
        ("throttleReadBpsDevice", &block.throttle_read_bps_device, "blkio.throttle.read_bps_device", "rbps"),
        (
            "throttleWriteBpsDevice",
            &block.throttle_write_bps_device,
            "blkio.throttle.write_bps_device",
            "wbps",
        ),
        (
            "throttleReadIOPSDevice",
            &block.throttle_read_iops_device,
            "blkio.throttle.read_iops_device",
            "riops",
        ),
        (
            "throttleWriteIOPSDevice",
            &block.throttle_write_iops_device,
            "blkio.throttle.write_iops_device",
            "wiops",
        ),
    ]
}

fn block_number(field: &str, major: i64, minor: i64) -> Result<String, Refused> {
    if major < 0 || minor < 0 {
        return Err(refused(field, format!("{major}:{minor} is no device")));
    }
    Ok(format!("{major}:{minor}"))
}

fn huge_pages(resources: &Resources, used: &str, reserved: &str, wanted: &mut Wanted) -> Result<(), Refused> {
    for (index, limit) in resources.hugepage_limits.iter().enumerate() {
        let field = format!("hugepageLimits[{index}]");
        let size = &limit.page_size;
        let is_size = size.strip_suffix("KB").or(size.strip_suffix("MB")).or(size.strip_suffix("GB"));
        if !is_size
            .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
        {
            return Err(refused(&format!("{field}.pageSize"), format!("{size:?} is no size such as 2MB")));
        }
        wanted.add("hugetlb", must(&field, format!("hugetlb.{size}.{used}"), limit.limit));
        let reservation = must(&field, format!("hugetlb.{size}.{reserved}"), limit.limit);
        wanted.add("hugetlb", reservation.rule(Rule::MayLack));
    }
    Ok(())
}

fn rdma(resources: &Resources, wanted: &mut Wanted) -> Result<(), Refused> {
    for (device, limits) in &resources.rdma {
        let field = format!("rdma[{device:?}]");
        let mut words = vec![word(&field, device)?.to_owned()];
        words.extend(limits.hca_handles.map(|handles| format!("hca_handle={handles}")));
        words.extend(limits.hca_objects.map(|objects| format!("hca_object={objects}")));
        wanted.add("rdma", must(&field, "rdma.max", words.join(" ")));
    }
    Ok(())
}

/// A name that is written in front of other words.
fn word<'a>(field: &str, name: &'a str) -> Result<&'a str, Refused> {
    if name.is_empty() || name.contains(|letter: char| letter.is_whitespace() || letter == '\0') {
        return Err(refused(field, format!("{name:?} is no name of a device")));
    }
    Ok(name)
}

/// What every container may do: make any node, and use those without which nothing runs. Docker, Podman and
/// containerd count on it, as every runtime before us has appended these to what the document says.
const EVERYBODY: [(Kind, Option<u32>, Option<u32>, Access); 10] = [
    (Kind::Char, None, None, Access::MKNOD),
    (Kind::Block, None, None, Access::MKNOD),
    (Kind::Char, Some(1), Some(3), Access::ALL), // null
    (Kind::Char, Some(1), Some(8), Access::ALL), // random
    (Kind::Char, Some(1), Some(7), Access::ALL), // full
    (Kind::Char, Some(5), Some(0), Access::ALL), // tty
    (Kind::Char, Some(1), Some(5), Access::ALL), // zero
    (Kind::Char, Some(1), Some(9), Access::ALL), // urandom
    (Kind::Char, Some(136), None, Access::ALL),  // pts
    (Kind::Char, Some(5), Some(2), Access::ALL), // ptmx
];

/// /dev/net/tun, which VPN containers have always been able to use.
const TUN: (Kind, Option<u32>, Option<u32>, Access) = (Kind::Char, Some(10), Some(200), Access::ALL);

/// The list that the document's rules and everybody's leave behind.
pub(crate) fn device_list(resources: &Resources) -> Result<List, Refused> {
    let mut rules = Vec::with_capacity(resources.devices.len() + EVERYBODY.len() + 1);
    for (index, rule) in resources.devices.iter().enumerate() {
        rules.push(device_rule(index, rule)?);
    }
    for (kind, major, minor, access) in EVERYBODY.into_iter().chain([TUN]) {
        let devices = Devices { kind, major, minor };
        rules.push(filter::device::Rule { allow: true, devices, access });
    }
    List::of(&rules).map_err(|hole| {
        // A default that cannot be added is the fault of the wildcard that stands in its way.
        let field = if hole.index < resources.devices.len() {
            format!("devices[{}]", hole.index)
        } else {
            "devices".to_owned()
        };
        refused(&field, hole.to_string())
    })
}

pub(crate) fn device_rule(index: usize, rule: &spec::DeviceRule) -> Result<filter::device::Rule, Refused> {
    let field = |name: &str| format!("devices[{index}].{name}");
    let kind = match rule.kind.as_deref() {
        None | Some("" | "a") => Kind::All,
        Some("b") => Kind::Block,
        Some("c") => Kind::Char,
        Some(other) => return Err(refused(&field("type"), format!("{other:?} is none of a, b and c"))),
    };
    let number = |name: &str, number: Option<i64>| match number {
        None | Some(-1) => Ok(None),
        Some(number) => u32::try_from(number)
            .map(Some)
            .map_err(|_| refused(&field(name), format!("{number} is no device number"))),
    };
    let access = match rule.access.as_deref() {
        None | Some("") => return Err(refused(&field("access"), "cannot be empty")),
        Some(letters) => Access::parse(letters)
            .ok_or_else(|| refused(&field("access"), format!("{letters:?} has none of r, w and m")))?,
    };
    let devices = Devices { kind, major: number("major", rule.major)?, minor: number("minor", rule.minor)? };
    Ok(filter::device::Rule { allow: rule.allow, devices, access })
}

/// v1 keeps the list itself: one word sets its default and empties it, then one write per exception.
fn v1_devices(list: &List, wanted: &mut Wanted) {
    let (default, exception) =
        if list.allow { ("devices.allow", "devices.deny") } else { ("devices.deny", "devices.allow") };
    wanted.add("devices", must("devices", default, "a"));
    for one in &list.exceptions {
        wanted.add("devices", must("devices", exception, one));
    }
}

/// v2 runs a program instead.
pub(crate) fn device_program(list: &List, rootless: bool) -> DeviceProgram {
    DeviceProgram {
        default: if list.allow { "allow" } else { "deny" },
        exceptions: list.exceptions.iter().map(ToString::to_string).collect(),
        program: list.compile().into_iter().map(filter::device::Insn::encode).collect(),
        optional: rootless || list.is_open(),
    }
}
