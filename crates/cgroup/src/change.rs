//! Other limits for groups that are there, and the way back.

use plan::Update;
use sys::{Errno, Failed};

use crate::place::{Place, is_gone};
use crate::{Cgroup, Group, devices};

/// A change of limits in the making. What was in a file before something was written to it is kept until this goes.
#[derive(Debug)]
pub struct Change<'a> {
    cgroup: &'a Cgroup,
    /// For each group, what leads back.
    undo: Vec<Vec<Former>>,
    /// The same for devices.
    devices: Option<devices::Former>,
}

/// A write that leads back.
#[derive(Clone, Debug)]
struct Former {
    file: String,
    value: String,
    /// What has the same effect, where the kernel refuses the value itself.
    equal: Option<String>,
}

impl Cgroup {
    /// Begins a change.
    pub fn change(&self) -> Change<'_> {
        Change { cgroup: self, undo: vec![Vec::new(); self.groups.len()], devices: None }
    }
}

impl Change<'_> {
    /// Writes the new limits. When this fails, some are written and some are not: [`Change::take_back`] is next.
    pub fn make(&mut self, update: &Update) -> Result<(), Failed> {
        for ((group, settings), undo) in self.cgroup.groups.iter().zip(&update.settings).zip(&mut self.undo) {
            group.set(settings, &mut |place, file, value| remember(undo, place, file, value))?;
        }
        match &update.devices {
            Some(change) => self.cgroup.change_devices(change, &mut self.devices),
            None => Ok(()),
        }
    }

    /// Writes back what was there; says what could not be.
    pub fn take_back(self) -> Vec<Failed> {
        let devices = self.devices.and_then(|former| self.cgroup.devices_back(former).err());
        let groups = self.cgroup.groups.iter().zip(self.undo);
        devices.into_iter().chain(groups.flat_map(|(group, undo)| group.put_back(undo))).collect()
    }
}

/// Keeps what a file holds now, unless that was done before.
fn remember(undo: &mut Vec<Former>, place: &Place, file: &str, value: &str) {
    let key = key_of(file, value);
    if undo.iter().any(|known| known.file == file && key_of(file, &known.value) == key) {
        return;
    }
    // What cannot be read cannot be there (the write will say so), or is an order and no limit (`memory.reclaim`).
    let Ok(shown) = place.read(file) else { return };
    let value = former(file, key, &shown);
    let equal = if value == "\n" { effective(place, file) } else { None };
    undo.push(Former { file: file.to_owned(), value, equal });
}

/// An empty set of v2 is the parent's, and a group with processes that once had its own must have one: this is the same set by
/// name.
fn effective(place: &Place, file: &str) -> Option<String> {
    let shown = place.read(&format!("{file}.effective")).ok()?;
    Some(shown.trim_end().to_owned())
}

/// What must be written to have again what is shown.
fn former(file: &str, key: Option<&str>, shown: &str) -> String {
    let begins_with = |word: &str| shown.lines().find(|line| line.split(' ').next() == Some(word));
    if let Some(key) = key {
        return match begins_with(key) {
            Some(line) => line.trim_end().to_owned(),
            None => format!("{key} {}", unlimited(file)),
        };
    }
    match file {
        "memory.oom_control" => {
            let line = begins_with("oom_kill_disable").unwrap_or("oom_kill_disable 0");
            line.rsplit(' ').next().unwrap_or("0").to_owned()
        }
        // "root invalid (Cpu list in cpuset.cpus not exclusive)"
        "cpuset.cpus.partition" => shown.split_whitespace().next().unwrap_or("member").to_owned(),
        // The line for all devices that have none of their own.
        _ if begins_with("default").is_some() => {
            begins_with("default").unwrap_or_default().trim_end().to_owned()
        }
        // No write at all is no way to empty a list.
        _ if shown.trim().is_empty() => "\n".to_owned(),
        _ => shown.trim_end().to_owned(),
    }
}

/// The device or interface that a line is about, in a file with a line for each.
fn key_of<'a>(file: &str, value: &'a str) -> Option<&'a str> {
    let (key, _) = value.split_once(' ')?;
    let is_by_name = matches!(file, "net_prio.ifpriomap" | "rdma.max" | "misc.max" | "dmem.max")
        || matches!(file, "dmem.low" | "dmem.min");
    (is_by_name || key.contains(':')).then_some(key)
}

/// What stands for "no line" in such a file.
fn unlimited(file: &str) -> &'static str {
    match file {
        "io.max" => "rbps=max wbps=max riops=max wiops=max",
        "io.latency" => "target=0",
        "rdma.max" => "hca_handle=max hca_object=max",
        "misc.max" | "dmem.max" => "max",
        file if file.contains("weight") => "default",
        _ => "0",
    }
}

impl Group {
    fn put_one_back(&self, former: &Former) -> Result<(), Failed> {
        match (self.place.write(&former.file, &former.value), &former.equal) {
            (Err(failed), Some(equal)) if failed.errno() == Some(Errno::NOSPC) => {
                self.place.write(&former.file, equal)
            }
            (written, _) => written,
        }
    }

    /// In whatever order the kernel takes it: each time round, what it refuses waits for the others.
    fn put_back(&self, undo: Vec<Former>) -> Vec<Failed> {
        let mut left: Vec<Former> = undo.into_iter().rev().collect();
        loop {
            let tried = left.len();
            let mut failures = Vec::new();
            left.retain(|former| match self.put_one_back(former) {
                Ok(()) => false,
                // The group is gone, and its limits with it.
                Err(failed) if is_gone(&failed) => false,
                Err(failed) => {
                    failures.push(failed);
                    true
                }
            });
            if left.is_empty() || left.len() == tried {
                return failures;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_back_is_in_the_files_own_words() {
        for (file, value, shown, back) in [
            ("memory.limit_in_bytes", "1", "9223372036854771712\n", "9223372036854771712"),
            ("memory.max", "1", "max\n", "max"),
            ("cpu.max", "50000 100000", "max 100000\n", "max 100000"),
            ("cpu.cfs_quota_us", "1000", "-1\n", "-1"),
            ("cpuset.cpus", "0", "\n", "\n"),
            ("cpuset.cpus", "0", "0-3,7\n", "0-3,7"),
            ("memory.oom_control", "1", "oom_kill_disable 0\nunder_oom 0\noom_kill 7\n", "0"),
            ("memory.oom_control", "0", "oom_kill_disable 1\nunder_oom 0\noom_kill 7\n", "1"),
            ("cpuset.cpus.partition", "member", "root invalid (no cpus)\n", "root"),
            ("io.weight", "50", "default 100\n8:0 200\n", "default 100"),
            ("io.weight", "8:0 50", "default 100\n8:0 200\n", "8:0 200"),
            ("io.weight", "8:16 50", "default 100\n8:0 200\n", "8:16 default"),
            ("blkio.bfq.weight", "50", "100\n", "100"),
            ("blkio.bfq.weight_device", "8:0 50", "", "8:0 default"),
            ("blkio.throttle.read_bps_device", "8:0 50", "8:0 1000\n8:16 7\n", "8:0 1000"),
            ("blkio.throttle.read_bps_device", "8:0 50", "8:10 1000\n", "8:0 0"),
            ("io.max", "8:0 rbps=1", "", "8:0 rbps=max wbps=max riops=max wiops=max"),
            ("io.max", "8:0 rbps=1", "8:0 rbps=5 wbps=max\n", "8:0 rbps=5 wbps=max"),
            ("net_prio.ifpriomap", "eth0 5", "lo 0\neth0 2\n", "eth0 2"),
            ("rdma.max", "mlx5_0 hca_handle=1", "", "mlx5_0 hca_handle=max hca_object=max"),
            ("hugetlb.2MB.max", "0", "max\n", "max"),
        ] {
            assert_eq!(former(file, key_of(file, value), shown), back, "{file}={value}");
        }
    }
}
