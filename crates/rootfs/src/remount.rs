//! Changes of what is mounted already.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use plan::Remount;
use rustix::mount::{
    FsPickFlags, MountFlags, fsconfig_reconfigure, fsconfig_set_flag, fsconfig_set_string, fspick,
    mount_remount,
};
use sys::{Called, Doing, Failed};

use crate::attach::{self, Change, is_missing};
use crate::{Rootfs, mount};

impl Rootfs {
    /// Changes the mount at a place: its file system first, then what it is in this place.
    pub fn remount(&mut self, remount: &Remount) -> Result<(), Failed> {
        self.change_mount(remount).doing(|| format!("remount {}", remount.target))
    }

    fn change_mount(&mut self, remount: &Remount) -> Result<(), Failed> {
        let handle = self.root.resolve(&remount.target)?;
        if !remount.target.starts_with("/proc") {
            mount::refuse_inside_proc(&handle, &remount.target)?;
        }
        if !(remount.flags.is_empty() && remount.data.is_empty()) {
            match reconfigure(&handle, remount) {
                Err(failed) if is_missing(&failed) => reconfigure_old(handle.as_fd(), remount)?,
                changed => changed?,
            }
        }
        let Remount { set, clear, named, .. } = *remount;
        attach::change_or_spare(handle.as_fd(), Change { set, clear, named })?;
        if remount.all != (0, 0) {
            attach::change_below(handle.as_fd(), remount.all.0, remount.all.1)?;
        }
        for how in &remount.propagation {
            attach::propagate(handle.as_fd(), *how)?;
        }
        self.spent.push(handle);
        Ok(())
    }
}

/// By fspick(2), which changes what is told, and nothing else.
fn reconfigure(place: &OwnedFd, remount: &Remount) -> Result<(), Failed> {
    let flags = FsPickFlags::FSPICK_EMPTY_PATH | FsPickFlags::FSPICK_CLOEXEC;
    let context = fspick(place, "", flags).called(|| "fspick()")?;
    let configure = || {
        for flag in &remount.flags {
            fsconfig_set_flag(&context, flag.as_str()).called(|| format!("fsconfig({flag:?})"))?;
        }
        for (key, value) in &remount.data {
            match value {
                Some(value) => fsconfig_set_string(&context, key.as_str(), value.as_str())
                    .called(|| format!("fsconfig({key:?}, {value:?})"))?,
                None => {
                    fsconfig_set_flag(&context, key.as_str()).called(|| format!("fsconfig({key:?})"))?;
                }
            }
        }
        fsconfig_reconfigure(&context).called(|| "fsconfig(CMD_RECONFIGURE)")
    };
    configure().map_err(|failed| failed.while_doing(&attach::why(&context, "its file system")))
}

/// By mount(2), which takes back what it is not told: what the mount has now is told again.
fn reconfigure_old(place: BorrowedFd<'_>, remount: &Remount) -> Result<(), Failed> {
    let data = std::ffi::CString::new(attach::joined(&remount.data))
        .map_err(|_| Failed::refused("a mount option holds a NUL byte"))?;
    let mut flags = attach::flags_now(place)? | attach::old_super(&remount.flags);
    if remount.flags.iter().any(|flag| flag == "rw") {
        flags -= MountFlags::RDONLY;
    }
    mount_remount(attach::name_of(place).as_str(), flags, data.as_c_str())
        .called(|| format!("mount(MS_REMOUNT, {flags:?}, {data:?})"))
}
