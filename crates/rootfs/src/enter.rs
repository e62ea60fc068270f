//! The way in.

use std::os::fd::{AsFd, OwnedFd};

use plan::{Propagation, PropagationKind};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{UnmountFlags, mount_move, unmount};
use rustix::process::{chdir, chroot, fchdir, pivot_root};
use sys::{Called, Doing, Errno, Failed};

use crate::{Rootfs, attach};

impl Rootfs {
    /// Makes the root `/` and lets go of the host's mounts. `shared`: the host's mounts stayed shared, and letting go
    /// of them must not reach the host.
    pub fn pivot(&mut self, shared: bool) -> Result<(), Failed> {
        self.strike_stage()?;
        let old = if shared { Some(open_old()?) } else { None };
        fchdir(self.root.as_fd()).called(|| "fchdir(root)")?;
        // The old root comes to lie on top of the new one, where the next call takes it away again.
        pivot_root(".", ".").called(|| "pivot_root(\".\", \".\")")?;
        if let Some(old) = old {
            fchdir(&old).called(|| "fchdir(old root)")?;
            attach::propagate_path(".", Propagation { kind: PropagationKind::Slave, recursive: true })?;
        }
        unmount(".", UnmountFlags::DETACH).called(|| "umount2(\".\", MNT_DETACH)")?;
        chdir("/").called(|| "chdir(\"/\")")
    }

    /// Moves the root to `/` without pivoting, for hosts whose root is a ramfs. The old root stays where it was, but for
    /// its proc and sysfs.
    pub fn move_root(&mut self) -> Result<(), Failed> {
        self.strike_stage()?;
        self.strip_host().doing(|| "take the host's proc and sysfs away")?;
        fchdir(self.root.as_fd()).called(|| "fchdir(root)")?;
        mount_move(".", "/").called(|| "mount(\".\", \"/\", MS_MOVE)")?;
        chroot(".").called(|| "chroot(\".\")")?;
        chdir("/").called(|| "chdir(\"/\")")
    }
}

fn open_old() -> Result<OwnedFd, Failed> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, "/", flags, Mode::empty()).called(|| "open(\"/\")")
}

/// Makes the mount that a path lies on private, found by asking from the path upwards: only the root of a mount
/// takes the change.
pub(crate) fn privatise(path: &str) -> Result<(), Failed> {
    let private = Propagation { kind: PropagationKind::Private, recursive: false };
    let mut at = path;
    loop {
        match attach::propagate_path(if at.is_empty() { "/" } else { at }, private) {
            Err(failed) if failed.errno() == Some(Errno::INVAL) && !at.is_empty() => {
                at = at.rsplit_once('/').map_or("", |(parent, _)| parent);
            }
            changed => return changed.doing(|| format!("make the mount of {path} private")),
        }
    }
}
