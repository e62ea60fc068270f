//! What this host can and cannot do for containers, as data for a person to be told.
//!
//! Nothing here is an error: what cannot be read is not known, and that is a finding as well.

mod callers;
mod people;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use plan::cgroup::HostCgroups;
use plan::systemd::Manager;
use rustix::fs::{Access, access, fstatfs};
use rustix::process::{Pid, PidfdFlags, getegid, geteuid, pidfd_open};
use rustix::system::uname;
use sys::{Answer, Call};

pub use callers::{Callers, Docker};
pub use people::{Mapper, People};

use crate::read_text;

/// What was found.
#[derive(Clone, Debug)]
pub struct Survey {
    /// The kernel's release, `6.1.0-18-amd64`.
    pub release: String,
    /// Its machine, `x86_64`.
    pub machine: String,
    /// What it answers to each call.
    pub calls: Vec<(Call, Answer)>,
    /// Whether a pidfd has an inode of its own.
    pub has_pidfs: bool,
    /// `vm.memfd_noexec`, where there is such a setting.
    pub memfd_noexec: Option<u64>,
    /// Who asks.
    pub caller: Caller,
    /// Namespaces, by the name that /proc/self/ns has for them.
    pub namespaces: Vec<Namespace>,
    /// What keeps ordinary users from namespaces of their own.
    pub users: Users,
    /// The hierarchies of control groups; or why they are not known.
    pub cgroups: Result<HostCgroups, String>,
    /// What they have and let us do.
    pub groups: Groups,
    /// The active security modules; none where nobody tells.
    pub modules: Option<Vec<String>>,
    /// /proc/filesystems: what the kernel knows now, without those that a module would bring.
    pub file_systems: Vec<String>,
    /// Whether systemd is the host's init.
    pub has_systemd: bool,
    /// The service manager that makes control groups for the caller, or why there is none; none where nobody asked it yet,
    /// which is not this room's to do.
    pub manager: Option<Result<Manager, String>>,
    /// The programs that map the ids of ordinary users, and who may have them.
    pub people: People,
    /// Where criu is.
    pub criu: Option<String>,
    /// Who calls us.
    pub callers: Callers,
}

/// Who asks, and with what rights.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Whether the user namespace is the one that the kernel started with.
    pub is_first: bool,
    /// The effective capabilities.
    pub effective: u64,
    /// What any program below us can have at most.
    pub bounding: u64,
    /// The last capability that the kernel knows.
    pub last: u32,
    /// Whether a seccomp filter is upon us.
    pub is_filtered: bool,
    /// Whether `no_new_privs` is set: no set-uid program has its power.
    pub no_new_privs: bool,
}

/// One kind of namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// `mnt`, as in /proc/self/ns.
    pub name: &'static str,
    /// Whether the kernel has it.
    pub is_there: bool,
    /// How many each user may have, /proc/sys/user/max_*_namespaces.
    pub limit: Option<u64>,
}

/// Settings about namespaces of ordinary users.
#[derive(Clone, Copy, Debug, Default)]
pub struct Users {
    /// `kernel.unprivileged_userns_clone`, which Debian's kernels have.
    pub may_clone: Option<bool>,
    /// `kernel.apparmor_restrict_unprivileged_userns`, which Ubuntu's kernels have.
    pub is_restricted: Option<bool>,
}

/// Our own control groups.
#[derive(Clone, Copy, Debug, Default)]
pub struct Groups {
    /// Whether groups of the unified hierarchy have `cgroup.kill`; none where no group was there to look at.
    pub has_kill: Option<bool>,
    /// Whether we may make groups below our own, in each hierarchy.
    pub is_ours: bool,
}

const CALLS: [Call; 12] = [
    Call::Clone3,
    Call::CloneIntoCgroup,
    Call::PidfdOpen,
    Call::PidfdSendSignal,
    Call::OpenTree,
    Call::MountSetattr,
    Call::Openat2,
    Call::CloseRange,
    Call::Keyctl,
    Call::Bpf,
    Call::Seccomp,
    Call::Landlock,
];

/// Looks around. `path` is where programs are looked for, and `home` where the caller keeps his configuration.
pub fn survey(path: &OsStr, home: Option<&Path>) -> Survey {
    let name = uname();
    let caller = caller();
    let is_rootless = caller.uid != 0 || !caller.is_first;
    let cgroups = crate::groups::probe(is_rootless).map_err(|failed| failed.to_string());
    Survey {
        release: name.release().to_string_lossy().into_owned(),
        machine: name.machine().to_string_lossy().into_owned(),
        calls: CALLS.iter().map(|call| (*call, call.answer())).collect(),
        has_pidfs: has_pidfs(),
        memfd_noexec: number("/proc/sys/vm/memfd_noexec"),
        namespaces: namespaces(),
        users: Users {
            may_clone: number("/proc/sys/kernel/unprivileged_userns_clone").map(|value| value != 0),
            is_restricted: number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
                .map(|value| value != 0),
        },
        groups: cgroups.as_ref().map(groups).unwrap_or_default(),
        cgroups,
        modules: read_text("/sys/kernel/security/lsm").ok().map(|text| split(&text, ',')),
        file_systems: file_systems(&read_text("/proc/filesystems").unwrap_or_default()),
        has_systemd: exists("/run/systemd/system"),
        manager: None,
        people: people::look(caller.uid, path),
        criu: find("criu", path).map(|path| path.display().to_string()),
        callers: callers::look(home),
        caller,
    }
}

fn caller() -> Caller {
    let status = read_text("/proc/self/status").unwrap_or_default();
    let map = read_text("/proc/self/uid_map").unwrap_or_default();
    let last = number("/proc/sys/kernel/cap_last_cap").and_then(|last| last.try_into().ok());
    let flag = |name| field(&status, name).is_some_and(|value| value != "0");
    let set = |name| field(&status, name).and_then(|value| u64::from_str_radix(value, 16).ok()).unwrap_or(0);
    Caller {
        uid: geteuid().as_raw(),
        gid: getegid().as_raw(),
        is_first: sys::is_first_map(map.as_bytes()),
        effective: set("CapEff"),
        bounding: set("CapBnd"),
        last: last.unwrap_or(0),
        is_filtered: flag("Seccomp"),
        no_new_privs: flag("NoNewPrivs"),
    }
}

/// The value of `name` in /proc/self/status.
fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
}

/// The names in /proc/self/ns, with those in /proc/sys/user.
fn namespaces() -> Vec<Namespace> {
    let names = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];
    let look = |name: &'static str| Namespace {
        name,
        is_there: exists(&format!("/proc/self/ns/{name}")),
        limit: number(&format!("/proc/sys/user/max_{name}_namespaces")),
    };
    names.map(look).to_vec()
}

/// Of linux/magic.h: the file system of pidfds.
const PID_FS_MAGIC: i64 = 0x5049_4446;

fn has_pidfs() -> bool {
    let own = Pid::from_raw(rustix::process::getpid().as_raw_pid());
    let pidfd = own.and_then(|own| pidfd_open(own, PidfdFlags::empty()).ok());
    pidfd.and_then(|pidfd| fstatfs(pidfd).ok()).is_some_and(|fs| fs.f_type == PID_FS_MAGIC)
}

fn groups(cgroups: &HostCgroups) -> Groups {
    let unified = cgroups.unified.as_ref().map(|unified| format!("{}{}", unified.mount, unified.own));
    let first = cgroups.hierarchies.iter().map(|hierarchy| format!("{}{}", hierarchy.mount, hierarchy.own));
    let may_write = |group: String| access(group, Access::WRITE_OK).is_ok();
    Groups {
        has_kill: unified
            .as_deref()
            .and_then(group_below)
            .map(|group| exists(&format!("{group}/cgroup.kill"))),
        is_ours: first.chain(unified).all(may_write),
    }
}

/// A group that is not the root, which lacks most files: this one, or the first below it.
fn group_below(own: &str) -> Option<String> {
    if exists(&format!("{own}/cgroup.events")) {
        return Some(own.to_owned());
    }
    let entries = std::fs::read_dir(own).ok()?;
    let mut groups = entries.flatten().map(|entry| entry.path().join("cgroup.events"));
    groups.find(|events| events.exists())?.parent().map(|group| group.display().to_string())
}

/// The last word of each line, "nodev\tproc".
fn file_systems(text: &str) -> Vec<String> {
    text.lines().filter_map(|line| line.split_whitespace().last()).map(str::to_owned).collect()
}

fn split(text: &str, at: char) -> Vec<String> {
    text.trim().split(at).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn number(path: &str) -> Option<u64> {
    read_text(path).ok()?.trim().parse().ok()
}

fn exists(path: &str) -> bool {
    access(path, Access::EXISTS).is_ok()
}

/// The first program of this name.
/// A program in `path`, a list as `PATH` has it; relative directories in it do not count.
pub fn find(name: &str, path: &OsStr) -> Option<PathBuf> {
    let found = std::env::split_paths(path).map(|directory| directory.join(name));
    found
        .into_iter()
        .find(|file| file.is_absolute() && access(file, Access::EXEC_OK).is_ok() && file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_a_process_is_read_by_whole_names() {
        let status = "CapEff:\t000001ff\nSeccomp:\t2\nSeccomp_filters:\t1\nNoNewPrivs:\t0\n";
        assert_eq!(field(status, "Seccomp"), Some("2"));
        assert_eq!(field(status, "CapEff"), Some("000001ff"));
        assert_eq!(field(status, "Cap"), None);
    }

    #[test]
    fn file_systems_are_told_with_and_without_a_device() {
        assert_eq!(file_systems("nodev\tproc\n\text4\nnodev\toverlay\n"), ["proc", "ext4", "overlay"]);
    }

    #[test]
    fn a_survey_of_this_host_reads_what_every_linux_has() {
        let survey = survey(OsStr::new("/usr/bin:/bin"), None);
        assert!(survey.release.contains('.') && !survey.machine.is_empty());
        assert!(survey.namespaces.iter().any(|namespace| namespace.name == "mnt" && namespace.is_there));
        assert!(survey.file_systems.iter().any(|name| name == "proc"));
        assert_eq!(survey.calls.len(), CALLS.len());
    }
}
