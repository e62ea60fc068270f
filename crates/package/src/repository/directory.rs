//! The directory of a repository, by its handle.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags, RenameFlags, Statx, StatxFlags, flock, fsync,
    linkat, openat, renameat_with, statx, unlinkat,
};
use sys::{Called as _, Errno};

use crate::error::{Error, Kind, shown};
use crate::key::fill_random;
use crate::source::hex;

/// How often a scan by somebody else may come between a draft's birth and its lock.
const MOST_TRIES: usize = 16;

#[derive(Debug)]
pub(super) struct Directory(OwnedFd);

/// Which file it is, whatever its name. The number of one that was removed may be given to another: their births differ,
/// where the file system tells them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: (u32, u32),
    inode: u64,
    born: (i64, u32),
}

impl From<&Statx> for Identity {
    fn from(stat: &Statx) -> Self {
        Self {
            device: (stat.stx_dev_major, stat.stx_dev_minor),
            inode: stat.stx_ino,
            born: (stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec),
        }
    }
}

impl Directory {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory =
            openat(CWD, path, flags, Mode::empty()).called(|| format!("open({})", shown(path)))?;
        Ok(Self(directory))
    }

    /// The directory itself.
    pub(super) fn handle(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// The names of all that is in it, in order.
    pub(super) fn names(&self) -> Result<Vec<OsString>, Error> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.0).called(|| "open(repository)")? {
            let entry = entry.called(|| "getdents64(repository)")?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// Opens a regular file to read; with its size.
    ///
    /// Whatever else bears the name is not opened at all: that alone may start a watchdog, or wait for ever.
    pub(super) fn read(&self, name: &OsStr) -> Result<(File, Identity, u64), Error> {
        is_regular(&self.look(name).called(|| call("statx", name))?)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = openat(&self.0, name, flags, Mode::empty()).called(|| call("openat", name))?;
        let stat = look_at(&file).called(|| call("statx", name))?;
        is_regular(&stat)?;
        Ok((file.into(), Identity::from(&stat), stat.stx_size))
    }

    fn look(&self, name: &OsStr) -> Result<Statx, Errno> {
        statx(&self.0, name, AtFlags::SYMLINK_NOFOLLOW, LOOKED_AT)
    }

    /// Removes a file, if it is still this one. One that is gone is removed.
    pub(super) fn remove(&self, name: &OsStr, identity: &Identity) -> Result<(), Error> {
        match self.look(name) {
            Ok(stat) if Identity::from(&stat) != *identity => {
                return Err(Error::invalid(format!(
                    "{} is another file than the one that was installed",
                    told(name)
                )));
            }
            Ok(_) => self.unlink(name)?,
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno).called(|| call("statx", name)).map_err(Error::from),
        }
        self.sync()
    }

    /// Removes a draft that nobody writes any more.
    pub(super) fn clear(&self, name: &OsStr) -> Result<(), Error> {
        let (file, ..) = self.read(name)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            // Whoever has made it and not locked it yet will find it locked, and make another.
            Ok(()) => match self.unlink(name) {
                Err(error) if error.kind() == Kind::Kernel(Some(Errno::NOENT)) => Ok(()),
                unlinked => unlinked,
            },
            Err(Errno::WOULDBLOCK) => Err(Error::new(Kind::Exists, "is being written by an installation")),
            Err(errno) => Err(errno).called(|| call("flock", name)).map_err(Error::from),
        }
    }

    fn unlink(&self, name: &OsStr) -> Result<(), Error> {
        unlinkat(&self.0, name, AtFlags::empty()).called(|| call("unlinkat", name)).map_err(Error::from)
    }

    fn sync(&self) -> Result<(), Error> {
        fsync(&self.0).called(|| "fsync(repository)").map_err(Error::from)
    }

    /// Gives a file another name that nothing has yet; whether it still has the first one too.
    fn rename(&self, from: &OsStr, to: &OsStr) -> Result<bool, Error> {
        let named = match renameat_with(&self.0, from, &self.0, to, RenameFlags::NOREPLACE) {
            // The file system cannot rename without replacing. It can link: never over another file either.
            Err(Errno::INVAL) => linkat(&self.0, from, &self.0, to, AtFlags::empty()).map(|()| true),
            renamed => renamed.map(|()| false),
        };
        match named {
            Err(Errno::EXIST) => {
                Err(Error::new(Kind::Exists, format!("a file {} is there already", told(to))))
            }
            named => named.called(|| call("renameat2", to)).map_err(Error::from),
        }
    }
}

/// A file that is being written, and holds a lock on itself. It goes with this value, unless it is published.
#[derive(Debug)]
pub(super) struct Draft {
    directory: Arc<Directory>,
    name: OsString,
    /// The file, open to read and write.
    pub(super) file: File,
    is_there: bool,
}

impl Draft {
    pub(super) fn new(directory: &Arc<Directory>) -> Result<Self, Error> {
        for _ in 0..MOST_TRIES {
            let mut random = [0; 8];
            fill_random(&mut random)?;
            let name = OsString::from(format!("{PREFIX}{}{SUFFIX}", hex(&random)));
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file =
                openat(&directory.0, &name, flags, Mode::from(0o644)).called(|| call("openat", &name))?;
            let draft = Self { directory: Arc::clone(directory), name, file: file.into(), is_there: true };
            if draft.lock()? {
                return Ok(draft);
            }
        }
        Err(Error::invalid("somebody else's scans remove every draft as soon as it is made"))
    }

    /// Locks the file, unless a scan has taken it for left behind.
    fn lock(&self) -> Result<bool, Error> {
        match flock(&self.file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(look_at(&self.file).called(|| call("statx", &self.name))?.stx_nlink > 0),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(errno) => Err(errno).called(|| call("flock", &self.name)).map_err(Error::from),
        }
    }

    /// The same draft by another descriptor of its file.
    pub(super) fn with(&self, file: File) -> Self {
        Self {
            directory: Arc::clone(&self.directory),
            name: self.name.clone(),
            file,
            is_there: self.is_there,
        }
    }

    /// What a fork of ours needs open to write it, and to remove it.
    pub(super) fn handles(&self) -> [BorrowedFd<'_>; 2] {
        [self.file.as_fd(), self.directory.handle()]
    }

    /// Gives it its name, for good. Its content must be on disk.
    pub(super) fn publish(mut self, name: &OsStr) -> Result<Identity, Error> {
        let stat = look_at(&self.file).called(|| call("statx", &self.name))?;
        match self.directory.rename(&self.name, name) {
            Ok(is_there) => self.is_there = is_there,
            Err(error) => return Err(self.discard(error)),
        }
        if let Err(error) = self.directory.sync() {
            // Whoever hears of a failure takes it for not installed.
            return Err(match self.directory.unlink(name) {
                Ok(()) => error,
                Err(left) => Error::new(error.kind(), format!("{error}; then {left}")),
            });
        }
        Ok(Identity::from(&stat))
    }

    /// Removes it, for a reason, which comes back with what went wrong in that.
    pub(super) fn discard(&mut self, error: Error) -> Error {
        if !std::mem::take(&mut self.is_there) {
            return error;
        }
        match self.directory.unlink(&self.name) {
            Ok(()) => error,
            Err(left) => Error::new(error.kind(), format!("{error}; then {left}")),
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.is_there {
            // What stays is unlocked as soon as it is closed, and removed by the next scan.
            let _left = self.directory.unlink(&self.name);
        }
    }
}

const PREFIX: &str = ".cofferdam-";
const SUFFIX: &str = ".part";

/// Whether it is the name of a draft of ours.
pub(super) fn is_draft(name: &OsStr) -> bool {
    let random = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX));
    random.is_some_and(|random| {
        random.len() == 16 && random.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// A file's name, in quotes and on one line.
pub(super) fn told(name: &OsStr) -> String {
    shown(Path::new(name))
}

fn call(name: &str, file: &OsStr) -> String {
    format!("{name}({})", told(file))
}

const LOOKED_AT: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME);

fn look_at(file: impl AsFd) -> Result<Statx, Errno> {
    statx(file, "", AtFlags::EMPTY_PATH, LOOKED_AT)
}

fn is_regular(stat: &Statx) -> Result<(), Error> {
    let what = match FileType::from_raw_mode(stat.stx_mode.into()) {
        FileType::RegularFile => return Ok(()),
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a fifo",
        FileType::Socket => "a socket",
        _ => "a device",
    };
    Err(Error::invalid(format!("is {what}")))
}
