//! Copying, without a thread: it is gone on with whenever there is something to read and room to write.

use crate::ready::{to_read, to_write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use rustix::io::{read, write};
use rustix::pipe::{SpliceFlags, splice};
use sys::Errno;
use tokio::io::unix::AsyncFd;

use super::Sink;

/// As much as a pipe holds.
const MUCH: usize = 64 << 10;

/// What is read from a terminal at once.
const SOME: usize = 4 << 10;

/// From pipe to pipe, until the end of the one, or the loss of the other and then none: the kernel passes pages on, nothing is
/// copied.
pub(super) async fn spliced(from: OwnedFd, sink: Sink) -> Option<Sink> {
    let from = to_read(from).ok()?;
    let to = to_write(sink.to.as_fd()).ok()?;
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    loop {
        // Nothing is read before something was written once: a fifo that nobody has opened yet has no end.
        let mut readable = from.readable().await.ok()?;
        match splice(from.get_ref(), None, &sink.to, None, MUCH, flags) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if has_room(sink.to.as_fd()) => readable.clear_ready(),
            Err(Errno::AGAIN) => room(&to).await?,
            Err(_) => return None,
        }
    }
    drop(to);
    Some(sink)
}

/// Output has come to its end. Whoever reads a fifo is told so by its closing, and finds what is in it. If nobody reads it now,
/// what is in it would be lost: it is kept for who comes.
pub(super) async fn left(mut sink: Sink) {
    if sink.held.take().is_none() || !is_unread(&sink.to) {
        return;
    }
    // Who comes after this is told of, and who came before it is there. If it cannot be had, nothing more can be done.
    let Ok(openings) = openings(&sink.to) else { return };
    let Ok(told) = to_read(openings.as_fd()) else { return };
    while has_no_reader(&sink.to) {
        let Ok(mut readable) = told.readable().await else { return };
        // What they say is no more than that.
        while read(&openings, &mut [0; 256]).is_ok_and(|length| length > 0) {}
        readable.clear_ready();
    }
}

/// What can be read whenever somebody opens this file.
fn openings(file: &OwnedFd) -> Result<OwnedFd, Errno> {
    let openings = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    inotify::add_watch(&openings, format!("/proc/self/fd/{}", file.as_raw_fd()), inotify::WatchFlags::OPEN)?;
    Ok(openings)
}

fn is_unread(fifo: &OwnedFd) -> bool {
    rustix::io::ioctl_fionread(fifo).is_ok_and(|bytes| bytes > 0)
}

fn has_no_reader(fifo: &OwnedFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut fds = [PollFd::new(fifo, PollFlags::OUT)];
    poll(&mut fds, Some(&now)).is_ok() && fds.iter().any(|fd| fd.revents().contains(PollFlags::ERR))
}

fn has_room(to: BorrowedFd<'_>) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut fds = [PollFd::from_borrowed_fd(to, PollFlags::OUT)];
    poll(&mut fds, Some(&now)).is_ok_and(|count| count > 0)
}

/// Waits until something can be written.
async fn room(to: &AsyncFd<BorrowedFd<'_>>) -> Option<()> {
    loop {
        let mut writable = to.writable().await.ok()?;
        if has_room(*to.get_ref()) {
            return Some(());
        }
        writable.clear_ready();
    }
}

/// From a terminal to wherever its output goes, or nowhere, until the last of its processes is gone (`EIO`).
pub(super) async fn shown(master: &OwnedFd, mut sink: Option<Sink>) -> Option<Sink> {
    let from = to_read(master.as_fd()).ok()?;
    let mut buffer = [0; SOME];
    loop {
        let mut readable = from.readable().await.ok()?;
        let length = match read(master, &mut buffer) {
            Ok(0) => return sink,
            Ok(length) => length,
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => {
                readable.clear_ready();
                continue;
            }
            Err(_) => return sink,
        };
        if let Some(to) = &sink
            && !write_all(to.to.as_fd(), buffer.get(..length).unwrap_or_default()).await
        {
            sink = None;
        }
    }
}

/// From whoever types to a terminal.
pub(super) async fn typed(from: OwnedFd, master: &OwnedFd) {
    let Ok(from) = to_read(from) else { return };
    let mut buffer = [0; SOME];
    loop {
        let Ok(mut readable) = from.readable().await else { return };
        let length = match read(from.get_ref(), &mut buffer) {
            Ok(0) => return,
            Ok(length) => length,
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => {
                readable.clear_ready();
                continue;
            }
            Err(_) => return,
        };
        if !write_all(master.as_fd(), buffer.get(..length).unwrap_or_default()).await {
            return;
        }
    }
}

/// Writes all of it; whether somebody could still read it.
async fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match write(to, bytes) {
            Ok(length) => bytes = bytes.get(length..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                // Rarely: only who is slow is registered, and only as long as he is.
                let Ok(waiting) = rustix::io::fcntl_dupfd_cloexec(to, 3) else { return false };
                let Ok(waiting) = to_write(waiting) else { return false };
                if waiting.writable().await.is_err() {
                    return false;
                }
            }
            Err(_) => return false,
        }
    }
    true
}
