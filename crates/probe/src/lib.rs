//! What this host can do: [`Host`], read before a plan is made.
//!
//! Touches: /proc/self, /proc/kcore and /sys/fs/cgroup, reading; for a survey also /proc/sys and /etc.
//! Never:   changes anything; tries a call out on the caller's own namespaces.
//! Begin with [`host`]; [`survey()`] asks much more, for people, and no plan waits for it.

mod groups;
pub mod survey;

use plan::{Caller, Host, Inner, Modules};
use rustix::fs::{CWD, Mode, OFlags, access, openat, stat, statfs};
pub use survey::{find, survey};
use sys::{Called, Doing, Errno, Failed, read_whole};

/// Asks the kernel what a plan depends on.
pub fn host() -> Result<Host, Failed> {
    probe().doing(|| "probe the host")
}

fn probe() -> Result<Host, Failed> {
    let status = read_text("/proc/self/status")?;
    let hex = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let value = line.and_then(|value| u64::from_str_radix(value.trim(), 16).ok());
        value.ok_or_else(|| Failed::refused(format!("/proc/self/status: no {field}")))
    };
    // Real, effective, saved, of files.
    let effective = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let value = line.and_then(|ids| ids.split_ascii_whitespace().nth(1)?.parse().ok());
        value.ok_or_else(|| Failed::refused(format!("/proc/self/status: no {field}")))
    };
    let (uid, gid) = (effective("Uid")?, effective("Gid")?);
    let caller = (uid != 0).then_some(Caller { uid, gid });
    let is_inner = caller.is_none() && is_mapped()?;
    let inner = if is_inner { Some(Inner { denies_groups: denies_groups("self")? }) } else { None };
    Ok(Host {
        cgroups: groups::probe(caller.is_some() || is_inner)?,
        inner,
        caller,
        bounding: hex("CapBnd")?,
        ignored_signals: hex("SigIgn")?,
        modules: Modules::default(),
        has_kcore: access("/proc/kcore", rustix::fs::Access::EXISTS).is_ok(),
    })
}

/// Which security modules this host runs: for documents that name a label, others need not ask.
pub fn modules() -> Modules {
    let apparmor = read_text("/sys/module/apparmor/parameters/enabled");
    let selinux = statfs("/sys/fs/selinux").is_ok_and(|fs| fs.f_type == SELINUX_MAGIC);
    Modules { apparmor: apparmor.is_ok_and(|text| text.trim() == "Y"), selinux }
}

/// <linux/magic.h>.
const SELINUX_MAGIC: rustix::fs::FsWord = 0xf97c_ff8c;

/// Whether we are in a user namespace that somebody made, and in which the numbers of users mean others: its root is not the
/// host's (user_namespaces(7)).
pub fn is_mapped() -> Result<bool, Failed> {
    const NAMESPACE: &str = "/proc/self/ns/user";
    match stat(NAMESPACE) {
        Ok(first) if first.st_ino == USER_NS_INIT_INO => Ok(false),
        // A kernel without user namespaces.
        Err(Errno::NOENT) => Ok(false),
        other => {
            other.called(|| format!("stat({NAMESPACE:?})"))?;
            Ok(!is_first(&read_text("/proc/self/uid_map")?))
        }
    }
}

/// Whether setgroups(2) is denied in the user namespace of a process, by its number or `self`.
pub fn denies_groups(process: &str) -> Result<bool, Failed> {
    Ok(read_text(&format!("/proc/{process}/setgroups"))?.trim() == "deny")
}

/// <linux/nsfs.h>: the number of the user namespace that the kernel starts with.
const USER_NS_INIT_INO: u64 = 0xefff_fffd;

/// Whether the map is the one that the kernel starts with: every user is itself.
fn is_first(map: &str) -> bool {
    map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

/// A small file of the kernel's, whole.
pub fn read_text(path: &str) -> Result<String, Failed> {
    let file = openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .called(|| format!("open({path:?})"))?;
    let text = read_whole(&file, path, 8192, usize::MAX)?;
    String::from_utf8(text).map_err(|_| Failed::refused(format!("{path} is not UTF-8")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_map_is_recognised() {
        assert!(is_first("         0          0 4294967295\n"));
        assert!(!is_first("         0       1000          1\n"));
        assert!(!is_first("         0          0 4294967295\n 1 1 1\n"));
        assert!(!is_first(""));
    }
}
