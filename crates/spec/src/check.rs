//! What is wrong from the document alone, whatever the host and whatever we can do: in the order of the document,
//! the first fault wins. docs/leniency.md lists what is let pass because runc lets it pass.

use std::collections::BTreeSet;

use crate::error::{quoted, step};
use crate::sysctl::{home, sysctl_path};
use crate::{
    Device, DeviceKind, Hook, Hooks, IdMapping, Invalid, Linux, MemoryPolicy, Mount, MountOption,
    NamespaceKind, NetDevice, Process, Resources, Scheduler, Seccomp, Spec, TimeOffset, option, propagation,
};

type Checked = Result<(), Invalid>;

/// The kinds of namespace that the document lists, new or joined.
type Kinds = BTreeSet<NamespaceKind>;

impl Spec {
    /// Refuses what no host could make right.
    pub fn check(&self) -> Checked {
        let none = Linux::default();
        let linux = self.linux.as_ref().unwrap_or(&none);
        let kinds: Kinds = linux.namespaces.iter().map(|namespace| namespace.kind).collect();

        version(&self.oci_version)?;
        self.process.as_ref().ok_or_else(|| missing("process"))?.check()?;
        let root = self.root.as_ref().ok_or_else(|| missing("root"))?;
        filled(&root.path, || "root.path".into())?;
        clean(&root.path, || "root.path".into())?;
        uts_name(self.hostname.as_deref(), "hostname", &kinds)?;
        uts_name(self.domainname.as_deref(), "domainname", &kinds)?;
        each(&self.mounts, "mounts", |mount, path| mount_check(mount, path, &kinds))?;
        self.hooks.as_ref().map_or(Ok(()), hooks)?;
        linux_check(linux, &kinds)
    }
}

impl Process {
    /// Refuses what no host could make right. Paths in the error begin with `process`; a document that holds
    /// nothing but a process is read the same way.
    pub fn check(&self) -> Checked {
        let user = &self.user;
        real_id(user.uid, || "process.user.uid".into())?;
        real_id(user.gid, || "process.user.gid".into())?;
        for (index, gid) in user.additional_gids.iter().enumerate() {
            real_id(*gid, || format!("process.user.additionalGids[{index}]"))?;
        }
        if self.args.is_empty() {
            return refuse("process.args", "is empty: there is no program to run");
        }
        all_clean(&self.args, "process.args")?;
        for (index, entry) in self.env.iter().enumerate() {
            variable(entry, || format!("process.env[{index}]"))?;
        }
        absolute(&self.cwd, || "process.cwd".into())?;
        let mut seen = BTreeSet::new();
        for (index, limit) in self.rlimits.iter().enumerate() {
            let path = || format!("process.rlimits[{index}]");
            if !seen.insert(limit.kind.name()) {
                return refuse(path(), format!("{} is listed twice", limit.kind.name()));
            }
            if limit.soft > limit.hard {
                return refuse(
                    path(),
                    format!("soft limit {} is above hard limit {}", limit.soft, limit.hard),
                );
            }
        }
        maybe_clean(self.apparmor_profile.as_deref(), "process.apparmorProfile")?;
        if let Some(adjustment) = self.oom_score_adj {
            within(adjustment, -1000, 1000, "process.oomScoreAdj")?;
        }
        self.scheduler.as_ref().map_or(Ok(()), scheduler)?;
        maybe_clean(self.selinux_label.as_deref(), "process.selinuxLabel")?;
        if let Some(io) = &self.io_priority {
            known(&io.class, IO_CLASSES, || "process.ioPriority.class".into())?;
            within(io.priority, 0, 7, "process.ioPriority.priority")?;
        }
        if let Some(affinity) = &self.exec_cpu_affinity {
            numbers(affinity.initial.as_deref(), "process.execCPUAffinity.initial")?;
            numbers(affinity.last.as_deref(), "process.execCPUAffinity.final")?;
        }
        Ok(())
    }
}

fn version(version: &str) -> Checked {
    if version.is_empty() {
        return Err(missing("ociVersion"));
    }
    match major(version) {
        None => refuse("ociVersion", format!("{} is not a semantic version such as 1.3.0", quoted(version))),
        Some("1") => Ok(()),
        Some(_) => refuse("ociVersion", format!("{} is not a version 1 document", quoted(version))),
    }
}

/// The first number of a semantic version; none if it is not one.
fn major(version: &str) -> Option<&str> {
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let number = |part: &str| !part.is_empty() && digits(part) && (part == "0" || !part.starts_with('0'));
    let word = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let (version, build) =
        version.split_once('+').map_or((version, None), |(front, build)| (front, Some(build)));
    let (core, pre) = version.split_once('-').map_or((version, None), |(front, pre)| (front, Some(pre)));
    let fits = core.split('.').count() == 3
        && core.split('.').all(number)
        && pre.is_none_or(|pre| pre.split('.').all(|part| word(part) && (!digits(part) || number(part))))
        && build.is_none_or(|build| build.split('.').all(word));
    core.split('.').next().filter(|_| fits)
}

fn variable(entry: &str, path: impl Fn() -> String) -> Checked {
    clean(entry, &path)?;
    match entry.find('=') {
        Some(0) => refuse(path(), format!("{} has no name before the =", quoted(entry))),
        Some(_) => Ok(()),
        None => refuse(path(), format!("{} is not NAME=VALUE", quoted(entry))),
    }
}

fn scheduler(of: &Scheduler) -> Checked {
    known(&of.policy, POLICIES, || "process.scheduler.policy".into())?;
    let policy = of.policy.as_str();
    if let (Some(nice), "SCHED_OTHER" | "SCHED_BATCH") = (of.nice, policy) {
        within(nice, -20, 19, "process.scheduler.nice")?;
    }
    if of.priority.unwrap_or(0) != 0 && !matches!(policy, "SCHED_FIFO" | "SCHED_RR") {
        return refuse("process.scheduler.priority", format!("needs SCHED_FIFO or SCHED_RR, not {policy}"));
    }
    for (index, flag) in of.flags.iter().enumerate() {
        known(flag, SCHEDULER_FLAGS, || format!("process.scheduler.flags[{index}]"))?;
    }
    for (name, value) in [("runtime", of.runtime), ("deadline", of.deadline), ("period", of.period)] {
        if value.unwrap_or(0) != 0 && policy != "SCHED_DEADLINE" {
            return refuse(
                format!("process.scheduler.{name}"),
                format!("needs SCHED_DEADLINE, not {policy}"),
            );
        }
    }
    Ok(())
}

fn uts_name(name: Option<&str>, path: &str, kinds: &Kinds) -> Checked {
    let Some(name) = name else { return Ok(()) };
    clean(name, || path.into())?;
    if name.len() > UTS_LONGEST {
        return refuse(path, format!("is {} bytes long, the kernel takes {UTS_LONGEST}", name.len()));
    }
    needs(kinds, NamespaceKind::Uts, path)
}

fn mount_check(mount: &Mount, path: &str, kinds: &Kinds) -> Checked {
    filled(&mount.destination, || format!("{path}.destination"))?;
    clean(&mount.destination, || format!("{path}.destination"))?;
    maybe_clean(mount.kind.as_deref(), &format!("{path}.type"))?;
    maybe_clean(mount.source.as_deref(), &format!("{path}.source"))?;
    all_clean(&mount.options, &format!("{path}.options"))?;

    let meanings = || mount.options.iter().map(|name| option(name));
    let bind = meanings().any(|meaning| matches!(meaning, Some(MountOption::Bind { .. })));
    if let (true, Some(index)) = (bind, meanings().position(|meaning| meaning.is_none())) {
        let word = mount.options.get(index).map_or("", String::as_str);
        return refuse(
            format!("{path}.options[{index}]"),
            format!("{} is an option of a file system, which a bind mount does not make", quoted(word)),
        );
    }
    mappings(&mount.uid_mappings, &format!("{path}.uidMappings"))?;
    mappings(&mount.gid_mappings, &format!("{path}.gidMappings"))?;
    let mapped = match (mount.uid_mappings.is_empty(), mount.gid_mappings.is_empty()) {
        (false, true) => return refuse(format!("{path}.gidMappings"), "is missing beside uidMappings"),
        (true, false) => return refuse(format!("{path}.uidMappings"), "is missing beside gidMappings"),
        (none, _) => !none,
    };
    let asked = meanings().position(|meaning| matches!(meaning, Some(MountOption::Idmap { .. })));
    if !bind && (mapped || asked.is_some()) {
        return refuse(path, "only a bind mount can map ids");
    }
    match asked {
        Some(index) if !mapped && !kinds.contains(&NamespaceKind::User) => refuse(
            format!("{path}.options[{index}]"),
            "there are neither mappings nor a user namespace to take them from",
        ),
        _ => Ok(()),
    }
}

fn hooks(hooks: &Hooks) -> Checked {
    each(&hooks.prestart, "hooks.prestart", hook)?;
    each(&hooks.create_runtime, "hooks.createRuntime", hook)?;
    each(&hooks.create_container, "hooks.createContainer", hook)?;
    each(&hooks.start_container, "hooks.startContainer", hook)?;
    each(&hooks.poststart, "hooks.poststart", hook)?;
    each(&hooks.poststop, "hooks.poststop", hook)
}

fn hook(hook: &Hook, path: &str) -> Checked {
    absolute(&hook.path, || format!("{path}.path"))?;
    all_clean(&hook.args, &format!("{path}.args"))?;
    all_clean(&hook.env, &format!("{path}.env"))?;
    match hook.timeout {
        Some(seconds) if seconds <= 0 => {
            refuse(format!("{path}.timeout"), format!("{seconds} is not above 0"))
        }
        _ => Ok(()),
    }
}

fn linux_check(linux: &Linux, kinds: &Kinds) -> Checked {
    mappings(&linux.uid_mappings, "linux.uidMappings")?;
    mappings(&linux.gid_mappings, "linux.gidMappings")?;
    if !linux.uid_mappings.is_empty() {
        needs(kinds, NamespaceKind::User, "linux.uidMappings")?;
    }
    if !linux.gid_mappings.is_empty() {
        needs(kinds, NamespaceKind::User, "linux.gidMappings")?;
    }
    for (name, value) in &linux.sysctl {
        sysctl(name, value, kinds)?;
    }
    linux.resources.as_ref().map_or(Ok(()), resources)?;
    maybe_clean(linux.cgroups_path.as_deref(), "linux.cgroupsPath")?;
    namespaces(linux)?;
    each(&linux.devices, "linux.devices", device)?;
    net_devices(linux, kinds)?;
    linux.seccomp.as_ref().map_or(Ok(()), seccomp)?;
    if let Some(kind) = linux.rootfs_propagation.as_deref().filter(|kind| propagation(kind).is_none()) {
        return refuse("linux.rootfsPropagation", format!("{} is no kind of propagation", quoted(kind)));
    }
    for (paths, name) in
        [(&linux.masked_paths, "linux.maskedPaths"), (&linux.readonly_paths, "linux.readonlyPaths")]
    {
        for (index, path) in paths.iter().enumerate() {
            absolute(path, || format!("{name}[{index}]"))?;
        }
        if !paths.is_empty() {
            needs(kinds, NamespaceKind::Mount, name)?;
        }
    }
    maybe_clean(linux.mount_label.as_deref(), "linux.mountLabel")?;
    intel_rdt(linux)?;
    linux.memory_policy.as_ref().map_or(Ok(()), memory_policy)?;
    if let Some(personality) = &linux.personality {
        known(&personality.domain, PERSONALITIES, || "linux.personality.domain".into())?;
    }
    time_offsets(linux, kinds)
}

fn mappings(lines: &[IdMapping], path: &str) -> Checked {
    if lines.len() > MAPPINGS_MOST {
        return refuse(path, format!("has {} lines, the kernel takes {MAPPINGS_MOST}", lines.len()));
    }
    for (index, line) in lines.iter().enumerate() {
        if line.size == 0 {
            return refuse(format!("{path}[{index}].size"), "is 0");
        }
        let last = u64::from(line.container_id.max(line.host_id)) + u64::from(line.size) - 1;
        if last >= u64::from(u32::MAX) {
            return refuse(format!("{path}[{index}]"), "reaches past the last id, 4294967294");
        }
    }
    overlap(lines, |line| line.container_id, path)?;
    overlap(lines, |line| line.host_id, path)
}

/// The kernel takes each id once on either side.
fn overlap(lines: &[IdMapping], first: impl Fn(&IdMapping) -> u32, path: &str) -> Checked {
    let mut spans: Vec<(u64, u64, usize)> =
        lines.iter().enumerate().map(|(index, line)| (first(line).into(), line.size.into(), index)).collect();
    spans.sort_unstable();
    for pair in spans.windows(2) {
        if let [(low, size, one), (high, _, next)] = pair
            && low + size > *high
        {
            let later = one.max(next);
            return refuse(format!("{path}[{later}]"), format!("overlaps with line {}", one.min(next)));
        }
    }
    Ok(())
}

fn sysctl(name: &str, value: &str, kinds: &Kinds) -> Checked {
    let at = || format!("linux.sysctl{}", step(name));
    let Some(path) = sysctl_path(name) else { return refuse(at(), "is no name of a kernel parameter") };
    clean(value, at)?;
    if path == "kernel/hostname" {
        return refuse(at(), "is set by hostname");
    }
    match home(&path) {
        Some(kind) if kinds.contains(&kind) => Ok(()),
        Some(kind) => refuse(at(), format!("would change the host: there is no {} namespace", kind.name())),
        None => refuse(at(), "would change the host: it belongs to no namespace"),
    }
}

fn resources(of: &Resources) -> Checked {
    for (index, rule) in of.devices.iter().enumerate() {
        let path = |field: &str| format!("linux.resources.devices[{index}].{field}");
        if let Some(kind) = &rule.kind {
            known(kind, RULE_KINDS, || path("type"))?;
        }
        for (field, number) in [("major", rule.major), ("minor", rule.minor)] {
            if number.is_some_and(|number| number < -1) {
                return refuse(path(field), "is below -1, which stands for all");
            }
        }
        match rule.access.as_deref() {
            None => return Err(missing(path("access"))),
            Some(letters) if !letters.is_empty() && !letters.contains(['r', 'w', 'm']) => {
                return refuse(path("access"), format!("{} has none of r, w and m", quoted(letters)));
            }
            Some(_) => {}
        }
    }
    if let Some(cpu) = &of.cpu {
        maybe_clean(cpu.cpus.as_deref(), "linux.resources.cpu.cpus")?;
        maybe_clean(cpu.mems.as_deref(), "linux.resources.cpu.mems")?;
    }
    for (index, limit) in of.hugepage_limits.iter().enumerate() {
        let number = limit.page_size.trim_end_matches('B').trim_end_matches(['K', 'M', 'G']);
        let size = limit.page_size.strip_prefix(number).unwrap_or_default();
        if !matches!(size, "KB" | "MB" | "GB")
            || number.is_empty()
            || !number.bytes().all(|byte| byte.is_ascii_digit())
        {
            return refuse(
                format!("linux.resources.hugepageLimits[{index}].pageSize"),
                format!("{} is no size such as 64KB, 2MB or 1GB", quoted(&limit.page_size)),
            );
        }
    }
    if let Some(network) = &of.network {
        for (index, priority) in network.priorities.iter().enumerate() {
            interface(&priority.name, || format!("linux.resources.network.priorities[{index}].name"))?;
        }
    }
    for (name, value) in &of.unified {
        let at = || format!("linux.resources.unified{}", step(name));
        if matches!(name.as_str(), "" | "." | "..") || name.contains(['/', '\0']) {
            return refuse(at(), "is not the name of a file");
        }
        clean(value, at)?;
    }
    Ok(())
}

fn namespaces(linux: &Linux) -> Checked {
    let mut seen = Kinds::new();
    for (index, namespace) in linux.namespaces.iter().enumerate() {
        if !seen.insert(namespace.kind) {
            return refuse(
                format!("linux.namespaces[{index}]"),
                format!("{} is listed twice", quoted(namespace.kind.name())),
            );
        }
        if let Some(path) = &namespace.path {
            absolute(path, || format!("linux.namespaces[{index}].path"))?;
        }
        let mapped = !linux.uid_mappings.is_empty() && !linux.gid_mappings.is_empty();
        if namespace.kind == NamespaceKind::User && namespace.path.is_none() && !mapped {
            return refuse(
                format!("linux.namespaces[{index}]"),
                "a new user namespace needs linux.uidMappings and linux.gidMappings",
            );
        }
    }
    Ok(())
}

fn device(device: &Device, path: &str) -> Checked {
    absolute(&device.path, || format!("{path}.path"))?;
    if device.kind != DeviceKind::Fifo {
        for (name, number, most) in [("major", device.major, MAJOR_MOST), ("minor", device.minor, MINOR_MOST)]
        {
            if !(0..=most).contains(&number) {
                return refuse(format!("{path}.{name}"), format!("{number} is not from 0 to {most}"));
            }
        }
    }
    for (name, id) in [("uid", device.uid), ("gid", device.gid)] {
        if let Some(id) = id {
            real_id(id, || format!("{path}.{name}"))?;
        }
    }
    Ok(())
}

fn net_devices(linux: &Linux, kinds: &Kinds) -> Checked {
    let mut inside = BTreeSet::new();
    for (host, NetDevice { name }) in &linux.net_devices {
        let at = || format!("linux.netDevices{}", step(host));
        needs(kinds, NamespaceKind::Network, "linux.netDevices")?;
        interface(host, at)?;
        let name = name.as_ref().unwrap_or(host);
        interface(name, || at() + ".name")?;
        // With %d the kernel picks the number, so such names do not collide.
        if !name.contains("%d") && !inside.insert(name) {
            return refuse(at() + ".name", format!("{} is taken by another device", quoted(name)));
        }
    }
    Ok(())
}

/// A name that the kernel takes for a network interface.
fn interface(name: &str, path: impl FnOnce() -> String) -> Checked {
    let odd = name.contains(['/', ':', '\0']) || name.contains(char::is_whitespace);
    if matches!(name, "" | "." | "..") || odd || name.len() > INTERFACE_LONGEST {
        return refuse(path(), format!("{} is no name of a network interface", quoted(name)));
    }
    Ok(())
}

fn seccomp(of: &Seccomp) -> Checked {
    // runc's way of saying "no filter".
    if of.default_action.is_empty() && of.syscalls.is_empty() {
        return Ok(());
    }
    known(&of.default_action, ACTIONS, || "linux.seccomp.defaultAction".into())?;
    if of.default_action == "SCMP_ACT_NOTIFY" {
        return refuse(
            "linux.seccomp.defaultAction",
            "SCMP_ACT_NOTIFY would also stop the hand-over to the agent",
        );
    }
    for (index, name) in of.architectures.iter().enumerate() {
        known(name, ARCHITECTURES, || format!("linux.seccomp.architectures[{index}]"))?;
    }
    for (index, name) in of.flags.iter().flatten().enumerate() {
        known(name, FILTER_FLAGS, || format!("linux.seccomp.flags[{index}]"))?;
    }
    maybe_clean(of.listener_path.as_deref(), "linux.seccomp.listenerPath")?;
    // An empty text is none, as with runc.
    let is_missing = of.listener_path.as_deref().is_none_or(str::is_empty);
    if is_missing && of.listener_metadata.as_deref().is_some_and(|told| !told.is_empty()) {
        return refuse("linux.seccomp.listenerMetadata", "needs listenerPath");
    }
    for (index, rule) in of.syscalls.iter().enumerate() {
        let at = || format!("linux.seccomp.syscalls[{index}]");
        known(&rule.action, ACTIONS, || at() + ".action")?;
        if rule.action == "SCMP_ACT_NOTIFY" {
            if is_missing {
                return refuse(at() + ".action", "SCMP_ACT_NOTIFY needs listenerPath");
            }
            if rule.names.iter().any(|name| name == "write") {
                return refuse(
                    at() + ".action",
                    "SCMP_ACT_NOTIFY cannot be used for the write syscall: it would also stop our own report",
                );
            }
        }
        for (argument, condition) in rule.args.iter().enumerate() {
            if condition.index > 5 {
                return refuse(
                    format!("{}.args[{argument}].index", at()),
                    format!("{} is not from 0 to 5", condition.index),
                );
            }
            known(&condition.op, OPERATORS, || format!("{}.args[{argument}].op", at()))?;
        }
    }
    Ok(())
}

fn intel_rdt(linux: &Linux) -> Checked {
    let Some(rdt) = &linux.intel_rdt else { return Ok(()) };
    if let Some(name) = rdt.clos_id.as_deref() {
        clean(name, || "linux.intelRdt.closID".into())?;
        if matches!(name, "." | "..") || (name.contains('/') && name != "/") {
            return refuse(
                "linux.intelRdt.closID",
                format!("{} is not the name of a directory", quoted(name)),
            );
        }
    }
    all_clean(&rdt.schemata, "linux.intelRdt.schemata")?;
    maybe_clean(rdt.l3_cache_schema.as_deref(), "linux.intelRdt.l3CacheSchema")?;
    maybe_clean(rdt.mem_bw_schema.as_deref(), "linux.intelRdt.memBwSchema")
}

fn memory_policy(policy: &MemoryPolicy) -> Checked {
    known(&policy.mode, MEMORY_MODES, || "linux.memoryPolicy.mode".into())?;
    numbers(Some(&policy.nodes), "linux.memoryPolicy.nodes")?;
    let empty = policy.nodes.trim_matches([',', ' ']).is_empty();
    match policy.mode.as_str() {
        "MPOL_DEFAULT" | "MPOL_LOCAL" if !empty => {
            return refuse("linux.memoryPolicy.nodes", format!("{} takes no nodes", policy.mode));
        }
        "MPOL_DEFAULT" | "MPOL_LOCAL" | "MPOL_PREFERRED" => {}
        mode if empty => return refuse("linux.memoryPolicy.nodes", format!("{mode} needs at least one")),
        _ => {}
    }
    for (index, flag) in policy.flags.iter().enumerate() {
        known(flag, MEMORY_FLAGS, || format!("linux.memoryPolicy.flags[{index}]"))?;
    }
    Ok(())
}

fn time_offsets(linux: &Linux, kinds: &Kinds) -> Checked {
    for (clock, TimeOffset { nanosecs, .. }) in &linux.time_offsets {
        let at = || format!("linux.timeOffsets{}", step(clock));
        needs(kinds, NamespaceKind::Time, "linux.timeOffsets")?;
        if linux.namespaces.iter().any(|one| one.kind == NamespaceKind::Time && one.path.is_some()) {
            return refuse("linux.timeOffsets", "a time namespace that is joined keeps its own");
        }
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            return refuse(at(), "is no clock of a time namespace: monotonic and boottime are");
        }
        if *nanosecs > 999_999_999 {
            return refuse(at() + ".nanosecs", format!("{nanosecs} is a second or more"));
        }
    }
    Ok(())
}

fn refuse(path: impl Into<String>, reason: impl Into<String>) -> Checked {
    Err(Invalid::new(path, reason))
}

fn missing(path: impl Into<String>) -> Invalid {
    Invalid::new(path, "is missing")
}

/// Checks each entry under its own path.
fn each<T>(list: &[T], path: &str, check: impl Fn(&T, &str) -> Checked) -> Checked {
    list.iter().enumerate().try_for_each(|(index, entry)| check(entry, &format!("{path}[{index}]")))
}

/// The kernel's strings end at the first NUL: what follows one would be lost in silence.
fn clean(text: &str, path: impl FnOnce() -> String) -> Checked {
    if text.contains('\0') { refuse(path(), "holds a NUL byte") } else { Ok(()) }
}

fn maybe_clean(text: Option<&str>, path: &str) -> Checked {
    text.map_or(Ok(()), |text| clean(text, || path.into()))
}

fn all_clean(texts: &[String], path: &str) -> Checked {
    texts.iter().enumerate().try_for_each(|(index, text)| clean(text, || format!("{path}[{index}]")))
}

fn filled(text: &str, path: impl FnOnce() -> String) -> Checked {
    if text.is_empty() { refuse(path(), "is empty") } else { Ok(()) }
}

fn absolute(text: &str, path: impl Fn() -> String) -> Checked {
    filled(text, &path)?;
    clean(text, &path)?;
    if text.starts_with('/') { Ok(()) } else { refuse(path(), format!("{} is not absolute", quoted(text))) }
}

/// The last number is no id: the kernel uses it for "unchanged".
fn real_id(id: u32, path: impl FnOnce() -> String) -> Checked {
    if id == u32::MAX { refuse(path(), format!("{id} is no id")) } else { Ok(()) }
}

fn within(number: i32, low: i32, high: i32, path: &str) -> Checked {
    if (low..=high).contains(&number) {
        Ok(())
    } else {
        refuse(path, format!("{number} is not from {low} to {high}"))
    }
}

fn known(word: &str, words: &[&str], path: impl FnOnce() -> String) -> Checked {
    if words.contains(&word) {
        Ok(())
    } else {
        refuse(path(), format!("expected one of {}, not {}", words.join(", "), quoted(word)))
    }
}

fn needs(kinds: &Kinds, kind: NamespaceKind, path: &str) -> Checked {
    if kinds.contains(&kind) {
        Ok(())
    } else {
        refuse(path, format!("needs a {} namespace, and linux.namespaces has none", kind.name()))
    }
}

/// A list such as `0-3,7`; blanks around entries and empty entries are let pass.
fn numbers(list: Option<&str>, path: &str) -> Checked {
    match crate::numbers(list.unwrap_or_default()) {
        Ok(_) => Ok(()),
        Err(entry) => refuse(path, format!("{} is not a number or a range such as 0-3", quoted(entry))),
    }
}

/// `__NEW_UTS_LEN`.
const UTS_LONGEST: usize = 64;
/// `IFNAMSIZ` without its NUL.
const INTERFACE_LONGEST: usize = 15;
/// `UID_GID_MAP_MAX_EXTENTS`, since Linux 4.15.
const MAPPINGS_MOST: usize = 340;
/// The kernel's device numbers have 12 bits for the driver...
const MAJOR_MOST: i64 = (1 << 12) - 1;
/// ...and 20 for the device.
const MINOR_MOST: i64 = (1 << 20) - 1;

const IO_CLASSES: &[&str] = &["IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE"];
const PERSONALITIES: &[&str] = &["LINUX", "LINUX32"];
const RULE_KINDS: &[&str] = &["a", "b", "c"];
const POLICIES: &[&str] =
    &["SCHED_OTHER", "SCHED_FIFO", "SCHED_RR", "SCHED_BATCH", "SCHED_ISO", "SCHED_IDLE", "SCHED_DEADLINE"];
const SCHEDULER_FLAGS: &[&str] = &[
    "SCHED_FLAG_RESET_ON_FORK",
    "SCHED_FLAG_RECLAIM",
    "SCHED_FLAG_DL_OVERRUN",
    "SCHED_FLAG_KEEP_POLICY",
    "SCHED_FLAG_KEEP_PARAMS",
    "SCHED_FLAG_UTIL_CLAMP_MIN",
    "SCHED_FLAG_UTIL_CLAMP_MAX",
];
/// What `set_mempolicy(2)` is asked for.
pub(crate) const MEMORY_MODES: &[&str] = &[
    "MPOL_DEFAULT",
    "MPOL_PREFERRED",
    "MPOL_BIND",
    "MPOL_INTERLEAVE",
    "MPOL_LOCAL",
    "MPOL_PREFERRED_MANY",
    "MPOL_WEIGHTED_INTERLEAVE",
];
/// And how its nodes are counted.
pub(crate) const MEMORY_FLAGS: &[&str] =
    &["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"];
pub(crate) const ACTIONS: &[&str] = &[
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];
pub(crate) const OPERATORS: &[&str] = &[
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_LE",
    "SCMP_CMP_LT",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_CMP_NE",
];
/// In the order in which runc tells them.
pub(crate) const FILTER_FLAGS: &[&str] = &[
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];
pub(crate) const ARCHITECTURES: &[&str] = &[
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
];

#[cfg(test)]
mod tests;
