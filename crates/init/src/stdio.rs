//! Standard streams and other descriptors that the program gets.

use std::os::fd::AsRawFd;

use rustix::fs::{Dir, FileType, Gid, Mode, OFlags, Uid, fchown, fstat, major, minor, openat};
use sys::{Called, Errno, Failed};

/// Makes the standard streams the user's, so that /dev/stdout can be opened again by a program that is not root.
///
/// The null device is nobody's. Streams that cannot change hands (a read-only file system, a user that is not mapped)
/// stay what they are, as runc leaves them.
pub(crate) fn give(uid: u32) -> Result<(), Failed> {
    for stream in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
        let Ok(stat) = fstat(stream) else { continue };
        let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
        if stat.st_uid == uid || (is_device && (major(stat.st_rdev), minor(stat.st_rdev)) == (1, 3)) {
            continue;
        }
        match fchown(stream, Some(Uid::from_raw(uid)), None::<Gid>) {
            Ok(()) | Err(Errno::PERM | Errno::ROFS | Errno::INVAL) => {}
            Err(errno) => return Err(Failed::call(format!("fchown({}, {uid})", stream.as_raw_fd()), errno)),
        }
    }
    Ok(())
}

/// Marks every open descriptor from `first` on close-on-exec, one by one: for Linux before 5.11.
pub(crate) fn mark_each(first: u32) -> Result<(), Failed> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let list = openat(rustix::fs::CWD, "/proc/self/fd", flags, Mode::empty())
        .called(|| "open(\"/proc/self/fd\")")?;
    for item in Dir::read_from(&list).called(|| "getdents(\"/proc/self/fd\")")? {
        let item = item.called(|| "getdents(\"/proc/self/fd\")")?;
        let number = item.file_name().to_str().ok().and_then(|name| name.parse::<u32>().ok());
        if let Some(number) = number.filter(|number| *number >= first) {
            sys::mark_one_cloexec(number)?;
        }
    }
    Ok(())
}
