//! What openat2(2) does, by hand: for Linux before 5.6, and under filters that do not know the call.
//!
//! One part at a time, each by handle, none through a link that the kernel follows. `..` goes back to the handle
//! that we came from and never asks the kernel for a parent, so a directory that is moved away meanwhile leads
//! nowhere else.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, StatxFlags, fstat, fstatfs, openat,
    readlinkat, statx,
};
use rustix::io::read;
use sys::{Called, Errno, Failed};

const LINKS: usize = 40;
const STEP: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens `path` below `root`. Of `how` it keeps `IN_ROOT`, `NO_SYMLINKS`, `NO_MAGICLINKS` and, for a root that is a
/// procfs, `NO_XDEV`.
pub(crate) fn open(
    root: BorrowedFd<'_>,
    path: &str,
    flags: OFlags,
    how: ResolveFlags,
) -> Result<OwnedFd, Failed> {
    let call = || format!("openat({path:?})");
    let mount =
        if how.contains(ResolveFlags::NO_XDEV) { Some(mount_id(root, root).called(call)?) } else { None };
    if path.is_empty() {
        return Err(Failed::call(call(), Errno::NOENT));
    }
    let mut todo: VecDeque<String> = parts(path);
    let mut trail: Vec<(OwnedFd, String)> = Vec::new();
    let mut links = 0;
    while let Some(part) = todo.pop_front() {
        if part == ".." || part == "." {
            if let Some((here, _)) = trail.last() {
                be_directory(here).called(call)?;
            }
            if part == ".." {
                trail.pop();
            }
            continue;
        }
        let here = trail.last().map_or(root, |(fd, _)| fd.as_fd());
        let step = openat(here, part.as_str(), STEP, Mode::empty()).called(call)?;
        let stat = fstat(&step).called(call)?;
        stay_on(mount, root, &step).called(call)?;
        let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
        if is_link && !(todo.is_empty() && flags.contains(OFlags::NOFOLLOW)) {
            links += 1;
            if links > LINKS || how.contains(ResolveFlags::NO_SYMLINKS) {
                return Err(Failed::call(call(), Errno::LOOP));
            }
            let target = readlinkat(&step, "", Vec::new()).called(call)?.to_string_lossy().into_owned();
            if how.contains(ResolveFlags::NO_MAGICLINKS) && is_magic(&step, &target).called(call)? {
                return Err(Failed::call(call(), Errno::LOOP));
            }
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
        if flags.contains(OFlags::DIRECTORY) {
            be_directory(&last).called(call)?;
        }
        return Ok(last);
    }
    // O_NOFOLLOW: whoever put a link in its place since we looked gets ELOOP.
    let opened = openat(parent, name.as_str(), flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        .called(call)?;
    stay_on(mount, root, &opened).called(call)?;
    Ok(opened)
}

/// Links of procfs that lead to a file whatever their text says. Those that are plain text are relative (`self`, `net`,
/// `mounts`); the others show a path, or a kind of file and a number: `pipe:[7]`.
fn is_magic(link: &OwnedFd, text: &str) -> Result<bool, Errno> {
    Ok((text.starts_with('/') || text.contains(":[")) && fstatfs(link)?.f_type == PROC_SUPER_MAGIC)
}

/// Fails where a handle is not of the mount that it should be of.
fn stay_on(mount: Option<u64>, root: BorrowedFd<'_>, fd: &OwnedFd) -> Result<(), Errno> {
    match mount {
        Some(mount) if mount_id(root, fd.as_fd())? != mount => Err(Errno::XDEV),
        _ => Ok(()),
    }
}

/// The mount that a handle is of: a device number does not tell a procfs from another part of it that is mounted over
/// it. `proc` is the root of a procfs, for Linux before 5.8.
fn mount_id(proc: BorrowedFd<'_>, fd: BorrowedFd<'_>) -> Result<u64, Errno> {
    if let Ok(told) = statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)
        && told.stx_mask & StatxFlags::MNT_ID.bits() != 0
    {
        return Ok(told.stx_mnt_id);
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let info = openat(proc, format!("self/fdinfo/{}", fd.as_raw_fd()), flags, Mode::empty())?;
    let mut text = [0u8; 512];
    let length = read(&info, &mut text)?;
    let text = String::from_utf8_lossy(text.get(..length).unwrap_or_default());
    let told = text.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
    told.ok_or(Errno::NOTSUP)
}

fn be_directory(fd: &OwnedFd) -> Result<(), Errno> {
    match FileType::from_raw_mode(fstat(fd)?.st_mode) {
        FileType::Directory => Ok(()),
        _ => Err(Errno::NOTDIR),
    }
}

/// The parts of a path; a slash at its end, or a dot, is kept as a dot: only a directory may stand before it.
fn parts(path: &str) -> VecDeque<String> {
    let mut parts: VecDeque<String> =
        path.split('/').filter(|part| !part.is_empty() && *part != ".").map(str::to_owned).collect();
    if path.ends_with('/') || path.ends_with("/.") {
        parts.push_back(".".to_owned());
    }
    parts
}
