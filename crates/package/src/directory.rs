//! A directory by its handle, and what is written into it: drafts, which bear their names once they are whole.
//!
//! A draft has no name at all where the file system knows such files (`O_TMPFILE`): then nothing is left of it, whatever
//! ends its writer. Where it has one, that is `.cofferdam-RANDOM.part`, and its writer holds it locked: one that nobody
//! holds locked is left over, and whoever comes next removes it.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags, RenameFlags, Statx, StatxFlags, chmod, flock,
    fsync, linkat, mkdirat, openat, renameat, renameat_with, statx, unlinkat,
};
use sys::{Called as _, ENDING, Errno, Failed, Held};

use crate::error::{Error, Kind, shown};
use crate::key::fill_random;
use crate::source::hex;

/// How often a scan by somebody else may come between a draft's birth and its lock.
const MOST_TRIES: usize = 16;

#[derive(Debug)]
pub(crate) struct Directory(OwnedFd);

/// Which file it is, whatever its name. The number of one that was removed may be given to another: their births differ,
/// where the file system tells them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
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

/// The directory that a path leads into.
pub(crate) fn above(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

impl Directory {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory =
            openat(CWD, path, flags, Mode::empty()).called(|| format!("open({})", shown(path)))?;
        Ok(Self(directory))
    }

    /// The directory itself.
    pub(crate) fn handle(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// The names of all that is in it, in order.
    pub(crate) fn names(&self) -> Result<Vec<OsString>, Error> {
        let names = names(self.0.as_fd())?;
        let mut names: Vec<_> =
            names.iter().map(|name| OsStr::from_bytes(name.to_bytes()).to_owned()).collect();
        names.sort();
        Ok(names)
    }

    /// Opens a regular file to read; with its size.
    ///
    /// Whatever else bears the name is not opened at all: that alone may start a watchdog, or wait for ever.
    pub(crate) fn read(&self, name: &OsStr) -> Result<(File, Identity, u64), Error> {
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
    pub(crate) fn remove(&self, name: &OsStr, identity: &Identity) -> Result<(), Error> {
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
    pub(crate) fn clear(&self, name: &OsStr) -> Result<(), Error> {
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

    /// Removes the drafts that nobody writes any more, be they files or directories.
    fn sweep(&self) -> Result<(), Error> {
        for name in self.names()?.iter().filter(|name| is_draft(name)) {
            // One that is locked is being written; one that cannot be removed is somebody else's, who can.
            let _left = self.clear(name).or_else(|_| self.clear_tree(name));
        }
        Ok(())
    }

    fn clear_tree(&self, name: &OsStr) -> Result<(), Error> {
        let directory = openat(&self.0, name, DIRECTORY, Mode::empty()).called(|| call("openat", name))?;
        flock(&directory, FlockOperation::NonBlockingLockExclusive).called(|| call("flock", name))?;
        empty(directory.as_fd())?;
        self.remove_tree(name)
    }

    /// Makes a directory that is a draft, and holds it locked as long as it is open; its name.
    pub(crate) fn make_tree(&self) -> Result<(OsString, OwnedFd), Error> {
        self.sweep()?;
        for _ in 0..MOST_TRIES {
            let name = draft_name()?;
            mkdirat(&self.0, &name, Mode::RWXU).called(|| call("mkdirat", &name))?;
            let directory = openat(&self.0, &name, DIRECTORY, Mode::empty());
            let directory = directory.called(|| call("openat", &name))?;
            if lock(directory.as_fd(), &name)? {
                return Ok((name, directory));
            }
        }
        Err(Error::invalid(SWEPT_AWAY))
    }

    /// Gives a directory its name, which nothing but an empty directory may have.
    pub(crate) fn publish_tree(&self, from: &OsStr, to: &OsStr) -> Result<(), Error> {
        let renamed = match renameat_with(&self.0, from, &self.0, to, RenameFlags::NOREPLACE) {
            // The file system knows the plain call alone.
            Err(Errno::INVAL) => renameat(&self.0, from, &self.0, to),
            renamed => renamed,
        };
        match renamed {
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {
                Err(Error::new(Kind::Exists, format!("{} is there already", told(to))))
            }
            renamed => renamed.called(|| call("renameat2", to)).map_err(Error::from),
        }
    }

    /// Removes a directory that is empty.
    pub(crate) fn remove_tree(&self, name: &OsStr) -> Result<(), Error> {
        unlinkat(&self.0, name, AtFlags::REMOVEDIR).called(|| call("rmdir", name)).map_err(Error::from)
    }

    fn unlink(&self, name: &OsStr) -> Result<(), Error> {
        unlinkat(&self.0, name, AtFlags::empty()).called(|| call("unlinkat", name)).map_err(Error::from)
    }

    fn sync(&self) -> Result<(), Error> {
        fsync(&self.0).called(|| "fsync(directory)").map_err(Error::from)
    }

    /// Gives a file another name that nothing has yet; whether it still has the first one too.
    fn rename(&self, from: &OsStr, to: &OsStr) -> Result<bool, Error> {
        let named = match renameat_with(&self.0, from, &self.0, to, RenameFlags::NOREPLACE) {
            // The file system cannot rename without replacing. It can link: never over another file either.
            Err(Errno::INVAL) => linkat(&self.0, from, &self.0, to, AtFlags::empty()).map(|()| true),
            renamed => renamed.map(|()| false),
        };
        match named {
            Err(Errno::EXIST) => Err(is_there(to)),
            named => named.called(|| call("renameat2", to)).map_err(Error::from),
        }
    }
}

/// A file that is being written, and holds a lock on itself. It goes with this value, unless it gets a name for good.
#[derive(Debug)]
pub(crate) struct Draft {
    directory: Arc<Directory>,
    /// What it is called meanwhile, where it is called anything.
    name: Option<OsString>,
    /// The file, open to read and write.
    pub(crate) file: File,
}

impl Draft {
    /// One that can be seen while it is written, for whoever finds it to tell or to remove.
    pub(crate) fn new(directory: &Arc<Directory>, mode: Mode) -> Result<Self, Error> {
        for _ in 0..MOST_TRIES {
            let name = draft_name()?;
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = openat(&directory.0, &name, flags, mode).called(|| call("openat", &name))?;
            let is_ours = lock(file.as_fd(), &name);
            let mut draft =
                Self { directory: Arc::clone(directory), name: Some(name), file: File::from(file) };
            match is_ours {
                Ok(true) => return Ok(draft),
                // It has been removed.
                Ok(false) => draft.name = None,
                Err(error) => return Err(draft.discard(error)),
            }
        }
        Err(Error::invalid(SWEPT_AWAY))
    }

    /// One without a name, where the file system knows such.
    pub(crate) fn unnamed(directory: &Arc<Directory>, mode: Mode) -> Result<Self, Error> {
        match openat(&directory.0, ".", OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC, mode) {
            Ok(file) => Ok(Self { directory: Arc::clone(directory), name: None, file: file.into() }),
            Err(Errno::NOTSUP | Errno::ISDIR) => {
                directory.sweep()?;
                Self::new(directory, mode)
            }
            Err(errno) => Err(errno).called(|| "openat(\".\", O_TMPFILE)").map_err(Error::from),
        }
    }

    /// The same draft by another descriptor of its file.
    pub(crate) fn with(&self, file: File) -> Self {
        Self { directory: Arc::clone(&self.directory), name: self.name.clone(), file }
    }

    /// What a fork of ours needs open to write it, and to remove it.
    pub(crate) fn handles(&self) -> [BorrowedFd<'_>; 2] {
        [self.file.as_fd(), self.directory.handle()]
    }

    /// Gives it its name, for good, which nothing else may have. Its content must be on disk.
    pub(crate) fn publish(mut self, name: &OsStr) -> Result<Identity, Error> {
        let stat = look_at(&self.file).called(|| call("statx", name))?;
        let named = match &self.name {
            Some(draft) => self.directory.rename(draft, name).map(|is_there| {
                if !is_there {
                    self.name = None;
                }
            }),
            None => self.link(name),
        };
        if let Err(error) = named {
            return Err(self.discard(error));
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

    /// The same, over any file that has the name already. Its content must be on disk.
    pub(crate) fn replace(mut self, name: &OsStr) -> Result<(), Error> {
        // Between two names nobody is to end us but by force.
        let held = Held::take(ENDING)?;
        match self.take_place(name) {
            Ok(()) => self.name = None,
            Err(error) => return Err(self.discard(error)),
        }
        drop(held);
        self.directory.sync()
    }

    fn take_place(&mut self, name: &OsStr) -> Result<(), Error> {
        if self.name.is_none() {
            match self.link(name) {
                Err(error) if error.kind() == Kind::Exists => {}
                linked => return linked,
            }
            // A link never replaces anything: it takes another name in between.
            self.directory.sweep()?;
            flock(&self.file, FlockOperation::NonBlockingLockExclusive).called(|| call("flock", name))?;
            let between = draft_name()?;
            self.link(&between)?;
            self.name = Some(between);
        }
        let from = self.name.as_deref().unwrap_or(name);
        renameat(&self.directory.0, from, &self.directory.0, name)
            .called(|| call("renameat", name))
            .map_err(Error::from)
    }

    /// Gives a file that has no name this one.
    fn link(&self, name: &OsStr) -> Result<(), Error> {
        let file = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        match linkat(CWD, file, &self.directory.0, name, AtFlags::SYMLINK_FOLLOW) {
            Err(Errno::EXIST) => Err(is_there(name)),
            linked => linked.called(|| call("linkat", name)).map_err(Error::from),
        }
    }

    /// The file alone: nobody will ever see it, and it goes with the last who has it open.
    pub(crate) fn nameless(mut self) -> Result<File, Error> {
        if let Some(name) = self.name.take() {
            self.directory.unlink(&name)?;
        }
        self.file.try_clone().map_err(|error| Error::io("fcntl(F_DUPFD_CLOEXEC)", &error))
    }

    /// Removes it, for a reason, which comes back with what went wrong in that.
    pub(crate) fn discard(&mut self, error: Error) -> Error {
        let Some(name) = self.name.take() else { return error };
        match self.directory.unlink(&name) {
            Ok(()) => error,
            Err(left) => Error::new(error.kind(), format!("{error}; then {left}")),
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // What stays is unlocked as soon as it is closed, and removed by whoever comes next.
            let _left = self.directory.unlink(name);
        }
    }
}

/// Locks a draft, unless somebody has taken it for left behind.
fn lock(draft: BorrowedFd<'_>, name: &OsStr) -> Result<bool, Error> {
    match flock(draft, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(look_at(draft).called(|| call("statx", name))?.stx_nlink > 0),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno).called(|| call("flock", name)).map_err(Error::from),
    }
}

fn is_there(name: &OsStr) -> Error {
    Error::new(Kind::Exists, format!("a file {} is there already", told(name)))
}

/// The names in a directory, in its own order.
pub(crate) fn names(directory: BorrowedFd<'_>) -> Result<Vec<CString>, Failed> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory).called(|| "opendir()")? {
        let entry = entry.called(|| "readdir()")?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

/// Removes all that is in a directory.
pub(crate) fn empty(directory: BorrowedFd<'_>) -> Result<(), Failed> {
    for name in names(directory)? {
        match unlinkat(directory, &name, AtFlags::empty()) {
            Err(Errno::ISDIR) => {
                let below = openat(directory, &name, HANDLE | OFlags::DIRECTORY, Mode::empty())
                    .called(|| format!("openat({name:?})"))?;
                // It may have its last mode already, which need not let its owner in.
                chmod(by_handle(&below), Mode::RWXU).called(|| format!("chmod({name:?})"))?;
                let below =
                    openat(&below, ".", DIRECTORY, Mode::empty()).called(|| format!("openat({name:?})"))?;
                empty(below.as_fd())?;
                unlinkat(directory, &name, AtFlags::REMOVEDIR).called(|| format!("rmdir({name:?})"))?;
            }
            removed => removed.called(|| format!("unlink({name:?})"))?,
        }
    }
    Ok(())
}

/// A directory that is to be read, and is not reached by a link.
pub(crate) const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Whatever it is, without opening it.
pub(crate) const HANDLE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A name for what a handle is of: it leads there and nowhere else, also where that is a link.
pub(crate) fn by_handle(handle: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", handle.as_raw_fd())
}

const SWEPT_AWAY: &str = "somebody else's scans remove every draft as soon as it is made";

fn draft_name() -> Result<OsString, Error> {
    let mut random = [0; 8];
    fill_random(&mut random)?;
    Ok(OsString::from(format!("{PREFIX}{}{SUFFIX}", hex(&random))))
}

const PREFIX: &str = ".cofferdam-";
const SUFFIX: &str = ".part";

/// Whether it is the name of a draft of ours.
pub(crate) fn is_draft(name: &OsStr) -> bool {
    let random = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX));
    random.is_some_and(|random| {
        random.len() == 16 && random.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// A file's name, in quotes and on one line.
pub(crate) fn told(name: &OsStr) -> String {
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
