//! A procfs nobody can redirect (CVE-2025-52881, CVE-2019-16884, CVE-2019-19921).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, fstat, fstatfs, open, openat, openat2};
use rustix::io::write;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use sys::{Called, Doing, Errno, Failed};

use crate::walk;

/// The root of a procfs, known to be one.
#[derive(Debug)]
pub struct Procfs(OwnedFd);

impl AsFd for Procfs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<Procfs> for OwnedFd {
    fn from(proc: Procfs) -> Self {
        proc.0
    }
}

/// The inode of a procfs's root; a directory further down, bound over /proc, has another one.
const ROOT_INODE: u64 = 1;

impl Procfs {
    /// The host's /proc. Taken before anything of the container's is mounted, and while we are in a mount namespace
    /// that was copied from the host's: nobody in a container could have touched it.
    ///
    /// Where it is no whole procfs (an overmounted one, say), a fresh one is made that is attached nowhere.
    pub fn host() -> Result<Self, Failed> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if let Ok(proc) = open("/proc", flags, Mode::empty()) {
            let proc = Self(proc);
            if proc.is_whole()? {
                return Ok(proc);
            }
        }
        Self::fresh().doing(|| "/proc is no whole procfs; make one")
    }

    /// A new procfs of the calling process's pid namespace, attached nowhere.
    pub fn fresh() -> Result<Self, Failed> {
        let fs = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC).called(|| "fsopen(\"proc\")")?;
        fsconfig_create(&fs).called(|| "fsconfig(\"proc\", CREATE)")?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map(Self).called(|| "fsmount(\"proc\")")
    }

    fn is_whole(&self) -> Result<bool, Failed> {
        let fs = fstatfs(&self.0).called(|| "fstatfs(\"/proc\")")?;
        let inode = fstat(&self.0).called(|| "fstat(\"/proc\")")?.st_ino;
        Ok(fs.f_type == PROC_SUPER_MAGIC && inode == ROOT_INODE)
    }

    /// Opens a file below /proc, `self/oom_score_adj` for instance. Nothing mounted over a part of the path is
    /// entered (`EXDEV`), and no magic link is followed (`ELOOP`).
    pub fn open(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Failed> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
        match openat2(&self.0, path, flags, Mode::empty(), how) {
            Err(Errno::NOSYS | Errno::PERM) => {
                walk::open(self.0.as_fd(), path, flags, how).doing(|| format!("look up /proc/{path}"))
            }
            opened => opened.called(|| format!("openat2(\"/proc/{path}\")")),
        }
    }

    /// Writes a whole value to a file below /proc, in one write(2), as the kernel wants it there.
    pub fn write(&self, path: &str, value: &str) -> Result<(), Failed> {
        let file = self.open(path, OFlags::WRONLY)?;
        write(&file, value.as_bytes()).map(drop).called(|| format!("write(\"/proc/{path}\", {value:?})"))
    }
}

/// Opens a path of the host as its caller wrote it, links followed; for use by descriptor from then on.
pub fn open_host(path: &str, flags: OFlags) -> Result<OwnedFd, Failed> {
    openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty()).called(|| format!("open({path:?})"))
}
