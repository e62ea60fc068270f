//! Killed for memory before the program ran: by which limit, and how much there was.

use cgroup::Cgroup;
use path::Procfs;
use rustix::fs::OFlags;
use spec::Resources;
use sys::{Errno, Failed, Pidfd, read_whole};

use crate::identity::{field_of, stat_field};
use crate::{Error, Kind, Known};

/// `PF_FORKNOEXEC` of linux/sched.h, as field 9 of /proc/PID/stat shows it: born by fork, and no other program since.
const FORKED: u64 = 0x40;

/// How long a process that has closed its line may take to be no more, in milliseconds.
const DEATH: u32 = 10_000;

/// Whether a limit of memory was asked for. Without one nobody looks for what only a limit does.
pub(crate) fn is_limited(limits: &Resources) -> bool {
    limits.memory.as_ref().and_then(|memory| memory.limit).is_some_and(|limit| limit > 0)
}

/// Whether a process has closed its line because it died, and not because it became its program. The kernel takes the
/// mark of a fork away before it closes what execve(2) closes.
pub(crate) fn has_died(process: &Pidfd, pid: i32) -> Result<bool, Failed> {
    match stat_field(pid, 9)? {
        Some(flags) if is_forked(flags) => process.wait_exit(Some(DEATH)),
        _ => Ok(false),
    }
}

/// The same for a process that is born by one who sees another /proc by then than the host's.
pub(crate) struct Limited {
    /// How many the kernel had killed before.
    kills: u64,
    /// The host's, which will not be ours.
    proc: Procfs,
}

impl Limited {
    /// None where there is no limit of memory.
    pub(crate) fn of(known: &Known, groups: &Cgroup) -> Result<Option<Self>, Failed> {
        if !is_limited(&known.record.limits) {
            return Ok(None);
        }
        Ok(Some(Self { kills: groups.oom_kills()?, proc: Procfs::host()? }))
    }

    /// Of a child of ours: whether it has died.
    pub(crate) fn has_died(&self, process: &Pidfd, pid: i32) -> Result<bool, Failed> {
        let path = format!("{pid}/stat");
        let file = self.proc.open(&path, OFlags::RDONLY | OFlags::CLOEXEC)?;
        let text = read_whole(&file, &path, 1024, 4096)?;
        match field_of(&String::from_utf8_lossy(&text), 9) {
            Some(flags) if is_forked(flags) => process.wait_exit(Some(DEATH)),
            _ => Ok(false),
        }
    }

    /// How many the kernel had killed for memory before it was born.
    pub(crate) fn kills(&self) -> u64 {
        self.kills
    }
}

/// Whether the flags are those of a process that was born and has not executed anything yet.
pub(crate) fn is_forked(flags: u64) -> bool {
    flags & FORKED != 0
}

/// Why a process was killed that said nothing, `who` it was: for memory, if the kernel has killed more than it had
/// `before`.
pub(crate) fn why(who: &str, otherwise: &str, groups: &Cgroup, before: u64) -> Error {
    match groups.oom_kills() {
        Ok(kills) if kills > before => {
            // Words of runc's, which are looked for.
            let mut text = format!("{who} was OOM-killed (memory limit too low?)");
            if let Ok(Some(memory)) = groups.memory() {
                text = format!("{text}: {}", reached(memory.limit, memory.max));
            }
            Error::new(Kind::Kernel(Some(Errno::NOMEM)), text)
        }
        _ => Error::new(Kind::Kernel(None), otherwise),
    }
}

fn reached(limit: u64, peak: u64) -> String {
    // v1's highest number is a multiple of a page, v2's is all ones.
    if limit > i64::MAX.unsigned_abs() / 2 {
        return "the memory limit of a control group above the container's was reached".to_owned();
    }
    let limit = size(limit);
    if peak == 0 {
        return format!("memory limit of {limit} reached");
    }
    format!("memory limit of {limit} reached, peak {}", size(peak))
}

fn size(bytes: u64) -> String {
    for (unit, name) in [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
        if bytes >= unit && bytes.is_multiple_of(unit) {
            return format!("{} {name}", bytes / unit);
        }
    }
    format!("{bytes} bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_told_as_people_write_them() {
        for (limit, peak, told) in [
            (1 << 20, 1020 << 10, "memory limit of 1 MiB reached, peak 1020 KiB"),
            (4096, 4096, "memory limit of 4 KiB reached, peak 4 KiB"),
            (3 << 30, 5, "memory limit of 3 GiB reached, peak 5 bytes"),
            (1 << 20, 0, "memory limit of 1 MiB reached"),
            (u64::MAX, 5, "the memory limit of a control group above the container's was reached"),
            (
                9_223_372_036_854_771_712,
                5,
                "the memory limit of a control group above the container's was reached",
            ),
        ] {
            assert_eq!(reached(limit, peak), told);
        }
    }
}
