//! mount_setattr(2), which rustix lacks.

use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::{Called, Errno, Failed, last_errno};

/// struct mount_attr of mount_setattr(2), as of Linux 5.12.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

/// Sets and clears `MOUNT_ATTR_*` bits of the mount that `mount` is a handle of; `recursive`: of all below it too, or of
/// none. `ENOSYS` before Linux 5.12.
pub fn change_mount(mount: BorrowedFd<'_>, set: u64, clear: u64, recursive: bool) -> Result<(), Failed> {
    let how = if recursive { ", AT_RECURSIVE" } else { "" };
    let call = || format!("mount_setattr(+{set:#x}, -{clear:#x}{how})");
    set_attributes(mount, &Attributes { set, clear, ..Attributes::default() }, recursive).called(call)
}

/// Gives the files of the mount that `mount` is a handle of to others, as the maps of the user namespace `users` have it;
/// `recursive`: of all below it too. The mount must not have been attached yet. `EINVAL` where a file system knows no
/// mapped mounts, `ENOSYS` before Linux 5.12.
pub fn map_mount(mount: BorrowedFd<'_>, users: BorrowedFd<'_>, recursive: bool) -> Result<(), Failed> {
    const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;
    let how = if recursive { ", AT_RECURSIVE" } else { "" };
    let users = u64::from(users.as_raw_fd().cast_unsigned());
    let attributes = Attributes { set: MOUNT_ATTR_IDMAP, userns: users, ..Attributes::default() };
    set_attributes(mount, &attributes, recursive).called(|| format!("mount_setattr(MOUNT_ATTR_IDMAP{how})"))
}

/// Changes the propagation of the mount that `mount` is a handle of, to one of mount(2)'s `MS_SHARED` and its kin.
pub fn propagate_mount(mount: BorrowedFd<'_>, propagation: u64, recursive: bool) -> Result<(), Failed> {
    let call = || format!("mount_setattr(propagation {propagation:#x})");
    set_attributes(mount, &Attributes { propagation, ..Attributes::default() }, recursive).called(call)
}

fn set_attributes(mount: BorrowedFd<'_>, attributes: &Attributes, recursive: bool) -> Result<(), Errno> {
    const AT_RECURSIVE: i32 = 0x8000;
    let flags = libc::AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string, `attributes` is borrowed for the call and the size passed is its own;
    // the kernel only reads both.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attributes),
            size_of::<Attributes>(),
        )
    };
    if result == -1 { Err(last_errno()) } else { Ok(()) }
}
