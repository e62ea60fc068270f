//! The control groups of a process, as the host's files show them: the same question for both generations.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

const MOUNTS: &str = "/sys/fs/cgroup";

/// The control groups that a process is in.
#[derive(Clone, Debug)]
pub struct Groups(Vec<(String, String)>);

impl Groups {
    /// Whether this host has the unified tree and nothing else.
    pub fn unified_only() -> bool {
        Path::new(MOUNTS).join("cgroup.controllers").exists()
    }

    /// Those of a process.
    pub fn of(pid: i32) -> Self {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("the groups of a process");
        let line = |line: &str| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            Some((controllers.to_owned(), path.to_owned()))
        };
        Self(text.lines().filter_map(line).collect())
    }

    /// The directory with a controller's files; the unified tree's, by the name of "".
    pub fn directory(&self, controller: &str) -> Option<PathBuf> {
        let wanted = if Self::unified_only() { "" } else { controller };
        let (_, path) = self.0.iter().find(|(names, _)| names.split(',').any(|one| one == wanted))?;
        let mount = match (Self::unified_only(), controller) {
            (true, _) => MOUNTS.into(),
            (false, "") => Path::new(MOUNTS).join("unified"),
            (false, controller) => Path::new(MOUNTS).join(controller),
        };
        Some(mount.join(path.trim_start_matches('/')))
    }

    /// What a file shows, `memory.max` or `cpu.cfs_quota_us`; none where this host does not have it.
    pub fn shown(&self, file: &str) -> Option<String> {
        let controller = match file.split('.').next()? {
            "" => return None,
            "cgroup" => "",
            controller => controller,
        };
        Some(fs::read_to_string(self.directory(controller)?.join(file)).ok()?.trim().to_owned())
    }

    /// What is in force, in the words of config.json; nothing where this host has no such limit.
    pub fn limit(&self, limit: Limit) -> String {
        let is_unified = Self::unified_only();
        let shown = |v1: &str, v2: &str| {
            let text = self.shown(if is_unified { v2 } else { v1 }).unwrap_or_default();
            // The most that v1 can count, and v2's word for it.
            if matches!(text.as_str(), "9223372036854771712" | "max") { "-1".to_owned() } else { text }
        };
        let of_both = |part: usize| {
            let text = shown("", "cpu.max");
            text.split(' ').nth(part).map(|one| if one == "max" { "-1" } else { one }.to_owned())
        };
        match limit {
            Limit::Memory => shown("memory.limit_in_bytes", "memory.max"),
            Limit::Swap if is_unified => {
                let parts = ["memory.max", "memory.swap.max"].map(|file| shown("", file).parse::<i64>());
                match parts {
                    [Ok(memory), Ok(swap)] if memory >= 0 && swap >= 0 => (memory + swap).to_string(),
                    _ => "-1".into(),
                }
            }
            Limit::Swap => shown("memory.memsw.limit_in_bytes", ""),
            Limit::Reservation => shown("memory.soft_limit_in_bytes", "memory.low"),
            Limit::Swappiness => shown("memory.swappiness", ""),
            Limit::OomKiller => shown("memory.oom_control", ""),
            Limit::Share => shown("cpu.shares", "cpu.weight"),
            Limit::Quota if is_unified => of_both(0).unwrap_or_default(),
            Limit::Quota => shown("cpu.cfs_quota_us", ""),
            Limit::Period if is_unified => of_both(1).unwrap_or_default(),
            Limit::Period => shown("cpu.cfs_period_us", ""),
            Limit::Burst => shown("cpu.cfs_burst_us", "cpu.max.burst"),
            Limit::Idle => shown("cpu.idle", "cpu.idle"),
            Limit::Cpus => shown("cpuset.cpus", "cpuset.cpus"),
            Limit::Mems => shown("cpuset.mems", "cpuset.mems"),
            Limit::Pids => shown("pids.max", "pids.max"),
            Limit::BlockWeight => {
                let text = shown("blkio.bfq.weight", "io.bfq.weight");
                let text = if text.is_empty() { shown("", "io.weight") } else { text };
                text.trim_start_matches("default ").to_owned()
            }
            Limit::Throttle => shown("blkio.throttle.read_bps_device", "io.max"),
            Limit::Devices if is_unified => self.programs().join("\n"),
            Limit::Devices => {
                let text = shown("devices.list", "");
                // The kernel lists devices in the order in which they were allowed.
                let mut lines: Vec<&str> = text.lines().collect();
                lines.sort_unstable();
                lines.join("\n")
            }
        }
    }

    /// Everything that is in force.
    pub fn limits(&self) -> Vec<(Limit, String)> {
        Limit::ALL.map(|limit| (limit, self.limit(limit))).to_vec()
    }

    /// The device programs of the unified tree's group, each by the digest of its instructions.
    pub fn programs(&self) -> Vec<String> {
        let Some(directory) = self.directory("") else { return Vec::new() };
        let directory = File::open(directory).expect("open a group");
        let programs = sys::DeviceFilter::attached(directory.as_fd()).expect("ask a group for its programs");
        let digest = |program: &sys::DeviceFilter| {
            let path = format!("/proc/self/fdinfo/{}", program.as_fd().as_raw_fd());
            let text = fs::read_to_string(path).expect("what is known of a program");
            let line = text.lines().find_map(|line| line.strip_prefix("prog_tag:"));
            line.expect("its digest").trim().to_owned()
        };
        programs.iter().map(digest).collect()
    }
}

/// A limit as config.json has it, whatever the generation of the host calls its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// `memory.limit`, in bytes, or -1.
    Memory,
    /// `memory.swap`: memory and swap together.
    Swap,
    /// `memory.reservation`
    Reservation,
    /// `memory.swappiness`, on version 1.
    Swappiness,
    /// `memory.disableOOMKiller`, on version 1.
    OomKiller,
    /// `cpu.shares` as the file shows it: see [`Limit::share`].
    Share,
    /// `cpu.quota` in microseconds, or -1.
    Quota,
    /// `cpu.period`
    Period,
    /// `cpu.burst`
    Burst,
    /// `cpu.idle`
    Idle,
    /// `cpu.cpus`
    Cpus,
    /// `cpu.mems`
    Mems,
    /// `pids.limit`, or -1.
    Pids,
    /// `blockIO.weight` as the file shows it: see [`Limit::block_weight`].
    BlockWeight,
    /// `blockIO.throttle*`, as the file of the generation shows them.
    Throttle,
    /// `devices`: the list of version 1, or what tells one program of version 2 from another.
    Devices,
}

impl Limit {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Memory,
        Self::Swap,
        Self::Reservation,
        Self::Swappiness,
        Self::OomKiller,
        Self::Share,
        Self::Quota,
        Self::Period,
        Self::Burst,
        Self::Idle,
        Self::Cpus,
        Self::Mems,
        Self::Pids,
        Self::BlockWeight,
        Self::Throttle,
        Self::Devices,
    ];

    /// What shows for `cpu.shares`: on version 2 the weight that runc and crun write for it since 1.3.2 and 1.23.
    pub fn share(shares: u32) -> String {
        if !Groups::unified_only() {
            return shares.to_string();
        }
        let log = f64::from(shares).log2();
        10_f64.powf((log * log + 125.0 * log) / 612.0 - 7.0 / 34.0).ceil().to_string()
    }

    /// What shows for `blockIO.weight` on a host of which `groups` are.
    pub fn block_weight(weight: u32, groups: &Groups) -> String {
        let has_scale_of_its_own = Groups::unified_only() && groups.shown("io.bfq.weight").is_none();
        if has_scale_of_its_own { (1 + (weight - 10) * 9999 / 990).to_string() } else { weight.to_string() }
    }
}

/// Removes the groups of this name at the top of each hierarchy, which a daemon made for its containers' and leaves. What a
/// container left in them keeps them, and is found.
pub(crate) fn forget(name: &str) {
    let hierarchies = fs::read_dir(MOUNTS).into_iter().flatten().flatten().map(|entry| entry.path());
    for group in hierarchies.chain([MOUNTS.into()]).map(|mount| mount.join(name)) {
        fs::remove_dir(group).unwrap_or_default();
    }
}
