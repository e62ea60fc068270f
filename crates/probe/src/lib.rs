//! What this host can do: [`Host`], read before a plan is made.
//!
//! Touches: /proc/self, /proc/kcore and /sys/fs/cgroup, reading; for a survey also /proc/sys and /etc.
//! Never:   changes anything; tries a call out on the caller's own namespaces.
//! Begin with [`host`]; [`survey()`] asks much more, for people, and no plan waits for it.

mod features;
mod groups;
pub mod survey;

pub use features::features;
use plan::{Caller, Host, Inner, Modules};
use rustix::fs::{access, statfs};
pub use survey::{find, survey};
use sys::{Doing, Failed};

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
    let is_inner = caller.is_none() && sys::is_mapped()?;
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

/// Whether setgroups(2) is denied in the user namespace of a process, by its number or `self`.
pub fn denies_groups(process: &str) -> Result<bool, Failed> {
    Ok(read_text(&format!("/proc/{process}/setgroups"))?.trim() == "deny")
}

/// A small file of the kernel's, whole.
pub fn read_text(path: &str) -> Result<String, Failed> {
    String::from_utf8(sys::read_path(path, 8192, usize::MAX)?)
        .map_err(|_| Failed::refused(format!("{path} is not UTF-8")))
}
