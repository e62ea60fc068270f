//! What this host can do: [`Host`], read before a plan is made.
//!
//! Touches: /proc/self, /proc/kcore and /sys/fs/cgroup, reading; for a survey also /proc/sys and /etc.
//! Never:   changes anything; tries a call out on the caller's own namespaces.
//! Begin with [`host`]; [`survey()`] asks much more, for people, and no plan waits for it.

mod groups;
pub mod survey;

use plan::{Host, Modules};
use rustix::fs::{CWD, Mode, OFlags, access, openat, statfs};
pub use survey::survey;
use sys::{Called, Doing, Failed, read_whole};

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
    Ok(Host {
        cgroups: groups::probe()?,
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

/// A small file of the kernel's, whole.
pub fn read_text(path: &str) -> Result<String, Failed> {
    let file = openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .called(|| format!("open({path:?})"))?;
    let text = read_whole(&file, path, 8192, usize::MAX)?;
    String::from_utf8(text).map_err(|_| Failed::refused(format!("{path} is not UTF-8")))
}
