//! The console: the program's terminal, mounted where programs look for it.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, fstat, openat};
use sys::{Called, Doing, Errno, Failed};

use crate::{Rootfs, attach};

const CONSOLE: &str = "/dev/console";

impl Rootfs {
    /// Mounts the program's end of a terminal on /dev/console, which is made where it is missing.
    ///
    /// Both are handles: a link in the place of one of them would mount something of procfs where the container can
    /// write, or the terminal somewhere outside (CVE-2025-52565).
    pub fn mount_console(&mut self, terminal: &OwnedFd) -> Result<(), Failed> {
        self.either_way(|rootfs| rootfs.cover_console(terminal)).doing(|| format!("mount it on {CONSOLE}"))
    }

    fn cover_console(&mut self, terminal: &OwnedFd) -> Result<(), Failed> {
        let (parent, name) = self.parent(CONSOLE)?;
        let place = provide(parent, name)?;
        let tree = attach::clone_handle(terminal, false, self.stage.is_some())?;
        let handle = tree.attach(&place, self.stage.as_ref())?;
        self.spent.extend([place, handle]);
        Ok(())
    }
}

/// What stands there already is not opened, and may be anything that a file can be mounted on.
fn provide(parent: &OwnedFd, name: &str) -> Result<OwnedFd, Failed> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(parent, name, flags, Mode::from_raw_mode(0o666)) {
        Ok(_) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(Failed::call(format!("openat({name:?}, O_CREAT)"), errno)),
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = openat(parent, name, flags, Mode::empty()).called(|| format!("openat({name:?})"))?;
    let mode = fstat(place.as_fd()).called(|| format!("fstat({name:?})"))?.st_mode;
    match FileType::from_raw_mode(mode) {
        FileType::Symlink => Err(Failed::refused("it is a link")),
        FileType::Directory => Err(Failed::refused("it is a directory")),
        _ => Ok(place),
    }
}
