//! Copies of directories: what lies under a tmpfs goes into it, before anybody sees it.
//!
//! Everything is opened by one name in a directory that is open already, and no link is followed: whoever may write to
//! the source can change what is copied, never where from.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, Uid, XattrFlags, chmod,
    chownat, fchmod, fstat, ftruncate, lgetxattr, linkat, llistxattr, lsetxattr, mkdirat, mknodat, openat,
    readlinkat, seek, statat, symlinkat, utimensat,
};
use rustix::io::{read, write};
use sys::{Called, Doing, Errno, Failed};

use crate::attach::name_of;

/// A directory to be copied.
#[derive(Debug)]
pub(crate) struct Below {
    pub(crate) directory: OwnedFd,
    /// Whether the copy's own directory belongs to whom it says already.
    pub(crate) is_owned: bool,
}

/// Makes an empty directory one with all that is in another, and with its owner, times and attributes.
pub(crate) fn tree(below: &Below, to: &OwnedFd) -> Result<(), Failed> {
    let own = fstat(to).called(|| "fstat()")?;
    let copy = || {
        Copy::default().directory(&below.directory, to, "")?;
        if below.is_owned { own_and_name(to, c"", &own, AtFlags::EMPTY_PATH, "") } else { Ok(()) }
    };
    copy().doing(|| "copy up")
}

const READ: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);

#[derive(Default)]
struct Copy {
    /// Files with several names, by device and inode: where the first of them was made.
    linked: BTreeMap<(u64, u64), OwnedFd>,
}

/// One name in the directory that is copied, and in the one that is made.
struct Entry<'a> {
    from: &'a OwnedFd,
    to: &'a OwnedFd,
    name: &'a CStr,
    stat: Stat,
    path: &'a str,
}

impl Copy {
    /// `path` is for people.
    fn directory(&mut self, from: &OwnedFd, to: &OwnedFd, path: &str) -> Result<(), Failed> {
        let call = |what: &str| format!("{what}({path:?})");
        // A handle cannot be read; the directory that it is of can be opened by it.
        let list = openat(from, ".", READ | OFlags::DIRECTORY, Mode::empty()).called(|| call("openat"))?;
        let own = fstat(&list).called(|| call("fstat"))?;
        for entry in Dir::read_from(&list).called(|| call("getdents64"))? {
            let entry = entry.called(|| call("getdents64"))?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let path = format!("{path}/{}", name.to_string_lossy());
            let stat = match statat(&list, name, AtFlags::SYMLINK_NOFOLLOW) {
                // It went while we looked: then it is not there.
                Err(Errno::NOENT) => continue,
                stat => stat.called(|| format!("fstatat({path:?})"))?,
            };
            self.entry(&Entry { from: &list, to, name, stat, path: &path })?;
        }
        let (source, target) = (name_of(list.as_fd()), name_of(to.as_fd()));
        own_and_name(to, c"", &own, AtFlags::EMPTY_PATH, path)?;
        attributes(format!("{source}/.").as_bytes(), format!("{target}/.").as_bytes(), path)?;
        keep_times(to, c".", &own, AtFlags::empty(), path)
    }

    fn entry(&mut self, entry: &Entry<'_>) -> Result<(), Failed> {
        let Entry { from, to, name, stat, path } = entry;
        let call = |what: &str| format!("{what}({path:?})");
        let kind = FileType::from_raw_mode(stat.st_mode);
        let id = (stat.st_dev, stat.st_ino);
        let has_names = stat.st_nlink > 1 && kind != FileType::Directory;
        if has_names && let Some(first) = self.linked.get(&id) {
            let first = name_of(first.as_fd());
            return linkat(rustix::fs::CWD, first.as_str(), to, *name, AtFlags::SYMLINK_FOLLOW)
                .called(|| call("linkat"));
        }
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        match kind {
            FileType::Directory => {
                mkdirat(to, *name, Mode::from_raw_mode(0o700)).called(|| call("mkdirat"))?;
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let source = openat(from, *name, flags, Mode::empty()).called(|| call("openat"))?;
                let target = openat(to, *name, flags, Mode::empty()).called(|| call("openat"))?;
                self.directory(&source, &target, path)?;
                return chmod(format!("{}/.", name_of(target.as_fd())), mode).called(|| call("chmod"));
            }
            FileType::RegularFile => file(entry)?,
            FileType::Symlink => {
                let text = readlinkat(from, *name, Vec::new()).called(|| call("readlinkat"))?;
                symlinkat(text.as_c_str(), to, *name).called(|| call("symlinkat"))?;
            }
            kind => mknodat(to, *name, kind, Mode::empty(), stat.st_rdev).called(|| call("mknodat"))?,
        }
        own_and_name(to, name, stat, AtFlags::SYMLINK_NOFOLLOW, path)?;
        let below = |at: &OwnedFd| {
            let mut place = name_of(at.as_fd()).into_bytes();
            place.push(b'/');
            place.extend_from_slice(name.to_bytes());
            place
        };
        let (source, target) = (below(from), below(to));
        if kind != FileType::Symlink {
            // After the owner: a change of owner takes set-user-ID bits away. Nobody but us sees this tree.
            chmod(target.as_slice(), mode).called(|| call("chmod"))?;
        }
        attributes(&source, &target, path)?;
        keep_times(to, name, stat, AtFlags::SYMLINK_NOFOLLOW, path)?;
        if has_names {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let first = openat(to, *name, flags, Mode::empty()).called(|| call("openat"))?;
            self.linked.insert(id, first);
        }
        Ok(())
    }
}

/// The contents of a file, with its holes.
fn file(entry: &Entry<'_>) -> Result<(), Failed> {
    let Entry { from, to, name, stat, path } = entry;
    let call = |what: &str| format!("{what}({path:?})");
    let source = openat(from, *name, READ, Mode::empty()).called(|| call("openat"))?;
    let now = fstat(&source).called(|| call("fstat"))?;
    if (now.st_dev, now.st_ino) != (stat.st_dev, stat.st_ino) {
        return Err(Failed::refused(format!("{path}: was exchanged while it was copied")));
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = openat(to, *name, flags, Mode::from_raw_mode(0o600)).called(|| call("openat"))?;
    let mut piece = vec![0; 64 << 10];
    let mut at = 0;
    loop {
        at = match seek(&source, SeekFrom::Data(at)) {
            Ok(data) => data,
            // Nothing but a hole is left.
            Err(Errno::NXIO) => break,
            Err(errno) => return Err(Failed::call(call("lseek"), errno)),
        };
        let end = seek(&source, SeekFrom::Hole(at)).called(|| call("lseek"))?;
        seek(&source, SeekFrom::Start(at)).called(|| call("lseek"))?;
        seek(&target, SeekFrom::Start(at)).called(|| call("lseek"))?;
        while at < end {
            let most = usize::try_from(end - at).unwrap_or(usize::MAX).min(piece.len());
            let room = piece.get_mut(..most).unwrap_or_default();
            let length = read(&source, room).called(|| call("read"))?;
            if length == 0 {
                break;
            }
            let mut left = piece.get(..length).unwrap_or_default();
            while !left.is_empty() {
                let written = write(&target, left).called(|| call("write"))?;
                left = left.get(written..).unwrap_or_default();
            }
            at += length as u64;
        }
    }
    let size = u64::try_from(now.st_size).unwrap_or(0);
    ftruncate(&target, size).called(|| call("ftruncate"))?;
    fchmod(&target, Mode::from_raw_mode(0o600)).called(|| call("fchmod"))
}

fn own_and_name(at: &OwnedFd, name: &CStr, stat: &Stat, flags: AtFlags, path: &str) -> Result<(), Failed> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    chownat(at, name, Some(uid), Some(gid), flags)
        .called(|| format!("fchownat({path:?}, {}:{})", stat.st_uid, stat.st_gid))
}

fn keep_times(at: &OwnedFd, name: &CStr, stat: &Stat, flags: AtFlags, path: &str) -> Result<(), Failed> {
    let time = |seconds, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or(0),
    };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    };
    utimensat(at, name, &times, flags).called(|| format!("utimensat({path:?})"))
}

/// Extended attributes, file capabilities and access control lists among them. Those that a tmpfs does not have are left
/// out, as cp(1) leaves them: before Linux 6.6 it has none of `user.*`.
fn attributes(source: &[u8], target: &[u8], path: &str) -> Result<(), Failed> {
    let call = |what: &str| format!("{what}({path:?})");
    let mut names = vec![0; LONGEST];
    let length = match llistxattr(source, names.as_mut_slice()) {
        Err(Errno::NOTSUP) => return Ok(()),
        listed => listed.called(|| call("llistxattr"))?,
    };
    let mut value = vec![0; if length == 0 { 0 } else { LONGEST }];
    for name in names.get(..length).unwrap_or_default().split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        let length = match lgetxattr(source, name, value.as_mut_slice()) {
            // Gone since, or not for us to see.
            Err(Errno::NODATA | Errno::NOTSUP) => continue,
            got => got.called(|| call("lgetxattr"))?,
        };
        let value = value.get(..length).unwrap_or_default();
        match lsetxattr(target, name, value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(errno) => return Err(Failed::call(format!("lsetxattr({path:?}, {name:?})"), errno)),
        }
    }
    Ok(())
}

/// `XATTR_SIZE_MAX` and `XATTR_LIST_MAX`.
const LONGEST: usize = 64 << 10;
