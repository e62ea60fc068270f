//! Descriptors that are waited for.

use std::os::fd::{AsFd, AsRawFd};

use sys::Failed;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Waits until something can be read.
pub(crate) fn to_read<T: AsFd + AsRawFd>(fd: T) -> Result<AsyncFd<T>, Failed> {
    register(fd, Interest::READABLE)
}

/// Waits until something can be written.
pub(crate) fn to_write<T: AsFd + AsRawFd>(fd: T) -> Result<AsyncFd<T>, Failed> {
    register(fd, Interest::WRITABLE)
}

// The library's form that is not deprecated is unsafe, since a number of no descriptor could be registered. Here it is the
// number of one that is owned or borrowed, by its type.
#[allow(deprecated, reason = "the type says that it is a descriptor")]
fn register<T: AsFd + AsRawFd>(fd: T, interest: Interest) -> Result<AsyncFd<T>, Failed> {
    AsyncFd::with_interest(fd, interest).map_err(|why| lost(&why))
}

/// An error of the library's, as one of ours.
pub(crate) fn lost(why: &std::io::Error) -> Failed {
    Failed::refused(format!("wait for a descriptor: {why}"))
}
