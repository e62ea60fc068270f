//! Standard streams and other descriptors that the program gets.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use path::Root;
use rootfs::is_null;
use rustix::fs::{Gid, OFlags, Uid, fchown, fstat};
use sys::{Called, Errno, Failed};

/// Makes the standard streams the container's: the host's null device becomes the container's, and all others are
/// given to the user, so that /dev/stdout can be opened again by a program that is not root.
///
/// Streams that cannot change hands (a read-only file system, a user that is not mapped) stay what they are, as runc
/// leaves them.
pub(crate) fn settle(root: &Root, uid: u32) -> Result<(), Failed> {
    let mut null = None;
    for stream in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
        let stat = fstat(stream).called(|| "fstat(standard stream)")?;
        if is_null(&stat) {
            let null = match &null {
                Some(null) => null,
                None => null.insert(open_null(root)?),
            };
            replace(stream, null)?;
        } else if stat.st_uid != uid {
            match fchown(stream, Some(Uid::from_raw(uid)), None::<Gid>) {
                Ok(()) | Err(Errno::PERM | Errno::ROFS | Errno::INVAL) => {}
                Err(errno) => {
                    return Err(Failed::call(format!("fchown({}, {uid})", stream.as_raw_fd()), errno));
                }
            }
        }
    }
    Ok(())
}

fn replace(stream: BorrowedFd<'_>, null: &OwnedFd) -> Result<(), Failed> {
    match stream.as_raw_fd() {
        0 => rustix::stdio::dup2_stdin(null),
        1 => rustix::stdio::dup2_stdout(null),
        _ => rustix::stdio::dup2_stderr(null),
    }
    .called(|| "dup2(\"/dev/null\")")
}

fn open_null(root: &Root) -> Result<OwnedFd, Failed> {
    let null = root.open("/dev/null", OFlags::RDWR)?;
    let stat = fstat(&null).called(|| "fstat(\"/dev/null\")")?;
    if !is_null(&stat) {
        return Err(Failed::refused("/dev/null is not character device 1:3"));
    }
    // It was opened so that a pipe in its place could not hold us up; the program gets it as it expects it.
    rustix::fs::fcntl_setfl(&null, OFlags::RDWR).called(|| "fcntl(F_SETFL)")?;
    Ok(null)
}
