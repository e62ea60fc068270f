//! The floor: a program that makes only the system calls that one run of the default bundle needs, each once.
//!
//! It is no runtime: it reads no configuration, keeps no record, checks nothing, and resolves paths as a fool
//! would. What it costs is what the kernel asks for such a container; all that a runtime costs beyond it is the
//! runtime's own. Device rules are left out, as pid file and record are, so the floor lies a little too low.
//!
//!     floor ROOTFS NAME UNIFIED [HIERARCHY...]
//!
//! ROOTFS holds /bin/true and the mount points, NAME is the name of the cgroup, UNIFIED the mount point of cgroup
//! v2 or `-`, each HIERARCHY the name of a v1 hierarchy's directory below /sys/fs/cgroup.
#![no_main]

use std::ffi::CString;
use std::io::Write as _;
use std::os::fd::AsFd;

use rustix::fs::{CWD, Dev, FileType, Mode, OFlags, makedev, mkdir, mknodat, open, rmdir, symlink};
use rustix::io::{Errno, read, write};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, mount_change,
    mount_remount, unmount,
};
use rustix::process::{chdir, pivot_root, setsid, umask};
use rustix::system::sethostname;
use rustix::thread::{
    CapabilitySet, CapabilitySets, remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};
use sys::{
    Birth, Called, Exit, Failed, Side, Strings, execute, fork_into, loopback_up, namespace, unshare_cgroup,
};

sys::entry!(floor);

fn floor() -> u8 {
    match run() {
        Ok(code) => code,
        Err(failed) => {
            // Nobody is left to tell it to if this fails too; the exit status says that it went wrong.
            _ = writeln!(std::io::stderr(), "floor: {failed}");
            125
        }
    }
}

/// What was asked for, as the calls want it.
struct Asked {
    rootfs: String,
    /// The new cgroup in the unified tree.
    unified: Option<String>,
    /// The v1 hierarchies, and the new cgroup in each.
    hierarchies: Vec<(String, String)>,
}

fn asked() -> Option<Asked> {
    let mut words = std::env::args().skip(1);
    let rootfs = words.next()?;
    let name = words.next()?;
    let unified = words.next().filter(|mount| mount != "-").map(|mount| format!("{mount}/{name}"));
    let hierarchies = words.map(|hierarchy| {
        let cgroup = format!("/sys/fs/cgroup/{hierarchy}/{name}");
        (hierarchy, cgroup)
    });
    Some(Asked { rootfs, unified, hierarchies: hierarchies.collect() })
}

fn run() -> Result<u8, Failed> {
    let asked = asked().ok_or_else(|| Failed::refused("usage: floor ROOTFS NAME UNIFIED [HIERARCHY...]"))?;
    for (hierarchy, cgroup) in &asked.hierarchies {
        make(cgroup, 0o755)?;
        if hierarchy.split(',').any(|controller| controller == "cpuset") {
            inherit(cgroup, "cpuset.cpus")?;
            inherit(cgroup, "cpuset.mems")?;
        }
    }
    let unified = match &asked.unified {
        Some(cgroup) => {
            make(cgroup, 0o755)?;
            Some(
                open(cgroup, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
                    .called(|| format!("open({cgroup:?})"))?,
            )
        }
        None => None,
    };
    let birth = Birth {
        namespaces: namespace::PID | namespace::NETWORK | namespace::IPC | namespace::UTS | namespace::MOUNT,
        cgroup: unified.as_ref().map(AsFd::as_fd),
        sibling: false,
    };
    let exit = match fork_into(&birth)? {
        Side::Child(_) => return Err(inside(&asked)),
        Side::Parent(_, pidfd) => pidfd.reap()?,
    };
    for cgroup in asked.hierarchies.iter().map(|(_, cgroup)| cgroup).chain(&asked.unified) {
        rmdir(cgroup).called(|| format!("rmdir({cgroup:?})"))?;
    }
    if let Exit::Signal(signal) = exit {
        return Err(Failed::refused(format!("/bin/true was killed by signal {signal}")));
    }
    Ok(exit.code())
}

/// A new cpuset is empty, and nobody can enter it before it has what its parent has.
fn inherit(cgroup: &str, file: &str) -> Result<(), Failed> {
    let parent = format!("{cgroup}/../{file}");
    let own = format!("{cgroup}/{file}");
    let mut value = [0; 256];
    let from = open(&parent, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .called(|| format!("open({parent:?})"))?;
    let length = read(&from, &mut value).called(|| format!("read({parent:?})"))?;
    put(&own, &value[..length])
}

fn put(file: &str, value: &[u8]) -> Result<(), Failed> {
    let to =
        open(file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).called(|| format!("open({file:?})"))?;
    write(&to, value).called(|| format!("write({file:?})")).map(drop)
}

fn make(path: &str, mode: u32) -> Result<(), Failed> {
    mkdir(path, Mode::from_raw_mode(mode)).called(|| format!("mkdir({path:?})"))
}

/// The child: comes back only with what went wrong.
fn inside(asked: &Asked) -> Failed {
    match prepare(asked) {
        Ok(()) => {
            let program = c"/bin/true";
            let environment = [
                c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into(),
                c"TERM=xterm".into(),
            ];
            let errno = execute(
                program,
                &Strings::from(vec![program.into()]),
                &Strings::from(Vec::from(environment)),
            );
            Failed::call("execve(\"/bin/true\")", errno)
        }
        Err(failed) => failed,
    }
}

fn prepare(asked: &Asked) -> Result<(), Failed> {
    for (_, cgroup) in &asked.hierarchies {
        // By itself, through `tasks`, and with one thread: the one way that does not wait for the lock.
        put(&format!("{cgroup}/tasks"), b"0")?;
    }
    unshare_cgroup()?;
    setsid().called(|| "setsid()")?;
    loopback_up()?;
    sethostname(b"bench").called(|| "sethostname(\"bench\")")?;
    mounts(asked)?;
    devices()?;
    change_root()?;
    hide()?;
    drop_rights()
}

const NO_SUID: MountFlags = MountFlags::NOSUID;
const HARMLESS: MountFlags = MountFlags::NOSUID.union(MountFlags::NOEXEC).union(MountFlags::NODEV);

/// The mounts of the default bundle, in its order, on names relative to the root file system.
fn mounts(asked: &Asked) -> Result<(), Failed> {
    let rootfs = &asked.rootfs;
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .called(|| "mount(\"/\", rslave)")?;
    mount_bind_recursive(rootfs, rootfs).called(|| format!("mount({rootfs:?}, bind)"))?;
    chdir(rootfs).called(|| format!("chdir({rootfs:?})"))?;

    attach("proc", "proc", MountFlags::empty(), None)?;
    attach("tmpfs", "dev", NO_SUID | MountFlags::STRICTATIME, Some("mode=755,size=65536k"))?;
    umask(Mode::empty());
    make("dev/pts", 0o755)?;
    let pts = "newinstance,ptmxmode=0666,mode=0620,gid=5";
    attach("devpts", "dev/pts", NO_SUID | MountFlags::NOEXEC, Some(pts))?;
    make("dev/shm", 0o755)?;
    attach("tmpfs", "dev/shm", HARMLESS, Some("mode=1777,size=65536k"))?;
    make("dev/mqueue", 0o755)?;
    attach("mqueue", "dev/mqueue", HARMLESS, None)?;
    attach("sysfs", "sys", HARMLESS | MountFlags::RDONLY, None)?;

    let read_only = HARMLESS | MountFlags::RDONLY | MountFlags::RELATIME;
    if asked.hierarchies.is_empty() {
        return attach("cgroup2", "sys/fs/cgroup", read_only, None);
    }
    attach("tmpfs", "sys/fs/cgroup", HARMLESS, Some("mode=755"))?;
    for (hierarchy, _) in &asked.hierarchies {
        let target = format!("sys/fs/cgroup/{hierarchy}");
        make(&target, 0o755)?;
        let which = if hierarchy == "systemd" { "none,name=systemd" } else { hierarchy };
        attach("cgroup", &target, read_only, Some(which))?;
    }
    mount_remount("sys/fs/cgroup", MountFlags::BIND | read_only, "")
        .called(|| "mount(\"sys/fs/cgroup\", remount)")
}

fn attach(kind: &str, target: &str, flags: MountFlags, data: Option<&str>) -> Result<(), Failed> {
    let data = data.map(CString::new).transpose().map_err(|_| Failed::refused("a NUL byte in mount data"))?;
    mount(kind, target, kind, flags, data.as_deref())
        .called(|| format!("mount({kind:?}, {target:?}, {data:?})"))
}

fn devices() -> Result<(), Failed> {
    let nodes =
        [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
    for (name, major, minor) in nodes {
        let path = format!("dev/{name}");
        let device: Dev = makedev(major, minor);
        mknodat(CWD, &path, FileType::CharacterDevice, Mode::from_raw_mode(0o666), device)
            .called(|| format!("mknod({path:?})"))?;
    }
    let links = [
        ("/proc/self/fd", "dev/fd"),
        ("/proc/self/fd/0", "dev/stdin"),
        ("/proc/self/fd/1", "dev/stdout"),
        ("/proc/self/fd/2", "dev/stderr"),
        ("/proc/kcore", "dev/core"),
        ("pts/ptmx", "dev/ptmx"),
    ];
    for (to, link) in links {
        symlink(to, link).called(|| format!("symlink({to:?}, {link:?})"))?;
    }
    Ok(())
}

/// Makes the working directory the root, and lets go of the old one, which lies below it for two calls.
fn change_root() -> Result<(), Failed> {
    pivot_root(".", ".").called(|| "pivot_root(\".\", \".\")")?;
    unmount(".", UnmountFlags::DETACH).called(|| "umount2(\".\", MNT_DETACH)")?;
    chdir("/").called(|| "chdir(\"/\")")?;
    read_only("/")
}

fn read_only(path: &str) -> Result<(), Failed> {
    mount_remount(path, MountFlags::BIND | MountFlags::RDONLY, "")
        .called(|| format!("mount({path:?}, remount, ro)"))
}

/// The read-only and masked paths of the default bundle; those that this kernel lacks cost one call each.
fn hide() -> Result<(), Failed> {
    for path in ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"] {
        match mount_bind_recursive(path, path) {
            Err(Errno::NOENT) => {}
            bound => {
                bound.called(|| format!("mount({path:?}, bind)"))?;
                let flags = MountFlags::BIND | MountFlags::RDONLY;
                mount_remount(path, flags, "").called(|| format!("mount({path:?}, remount, ro)"))?;
            }
        }
    }
    let masked = [
        "/proc/acpi",
        "/proc/asound",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/proc/sched_debug",
        "/sys/firmware",
        "/proc/scsi",
    ];
    for path in masked {
        match mount_bind("/dev/null", path) {
            Err(Errno::NOENT) => {}
            Err(Errno::NOTDIR) => attach("tmpfs", path, MountFlags::RDONLY, None)?,
            bound => bound.called(|| format!("mount(\"/dev/null\", {path:?}, bind)"))?,
        }
    }
    Ok(())
}

fn drop_rights() -> Result<(), Failed> {
    const NOFILE: u32 = 7;
    sys::set_limit(NOFILE, 1024, 1024)?;
    let kept = CapabilitySet::AUDIT_WRITE | CapabilitySet::KILL | CapabilitySet::NET_BIND_SERVICE;
    // Up to CAP_CHECKPOINT_RESTORE (5.9), the last one; an older kernel says EINVAL at the first that it lacks.
    for number in 0..=40 {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if kept.contains(capability) {
            continue;
        }
        match remove_capability_from_bounding_set(capability) {
            Err(Errno::INVAL) => break,
            dropped => dropped.called(|| format!("prctl(PR_CAPBSET_DROP, {number})"))?,
        }
    }
    set_no_new_privs(true).called(|| "prctl(PR_SET_NO_NEW_PRIVS)")?;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).called(|| "capset()")
}
