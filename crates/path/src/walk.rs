//! What openat2(2) does, by hand: for Linux before 5.6, and under filters that do not know the call.
//!
//! One part at a time, each by handle, none through a link that the kernel follows. `..` goes back to the handle
//! that we came from and never asks the kernel for a parent, so a directory that is moved away meanwhile leads
//! nowhere else.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat, readlinkat};
use sys::{Called, Errno, Failed};

const LINKS: usize = 40;
const STEP: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens `path` below `root`. Of `how` it keeps `IN_ROOT`, `NO_SYMLINKS`, `NO_MAGICLINKS` (a magic link is read as the
/// text it shows, inside the root) and `NO_XDEV` (by device number).
pub(crate) fn open(
    root: BorrowedFd<'_>,
    path: &str,
    flags: OFlags,
    how: ResolveFlags,
) -> Result<OwnedFd, Failed> {
    let call = || format!("openat({path:?})");
    let device = fstat(root).called(call)?.st_dev;
    let mut todo: VecDeque<String> = parts(path);
    let mut trail: Vec<(OwnedFd, String)> = Vec::new();
    let mut links = 0;
    while let Some(part) = todo.pop_front() {
        if part == ".." {
            trail.pop();
            continue;
        }
        let here = trail.last().map_or(root, |(fd, _)| fd.as_fd());
        let step = openat(here, part.as_str(), STEP, Mode::empty()).called(call)?;
        let stat = fstat(&step).called(call)?;
        if how.contains(ResolveFlags::NO_XDEV) && stat.st_dev != device {
            return Err(Failed::call(call(), Errno::XDEV));
        }
        let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
        if is_link && !(todo.is_empty() && flags.contains(OFlags::NOFOLLOW)) {
            links += 1;
            if links > LINKS || how.contains(ResolveFlags::NO_SYMLINKS) {
                return Err(Failed::call(call(), Errno::LOOP));
            }
            let target = readlinkat(&step, "", Vec::new()).called(call)?.to_string_lossy().into_owned();
            if target.starts_with('/') {
                trail.clear();
            }
            for part in parts(&target).into_iter().rev() {
                todo.push_front(part);
            }
            continue;
        }
        trail.push((step, part));
    }
    let last = trail.pop();
    let parent = trail.last().map_or(root, |(fd, _)| fd.as_fd());
    let Some((last, name)) = last else {
        // The path led back to the root.
        return openat(root, ".", flags | OFlags::CLOEXEC, Mode::empty()).called(call);
    };
    if flags.contains(OFlags::PATH) {
        let stat = fstat(&last).called(call)?;
        if flags.contains(OFlags::DIRECTORY) && FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Err(Failed::call(call(), Errno::NOTDIR));
        }
        return Ok(last);
    }
    // O_NOFOLLOW: whoever put a link in its place since we looked gets ELOOP.
    openat(parent, name.as_str(), flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).called(call)
}

fn parts(path: &str) -> VecDeque<String> {
    path.split('/').filter(|part| !part.is_empty() && *part != ".").map(str::to_owned).collect()
}
