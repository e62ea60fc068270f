//! Directories, locks and records.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags, fchmod, flock, fstat, mkdirat, openat,
    renameat, stat, statat, unlinkat,
};
use rustix::io::write;
use serde::{Serialize, de::DeserializeOwned};
use sys::{Called, Doing, Errno, Failed, read_whole};

use crate::exit::{EXIT, EXIT_DRAFT};
use crate::record::{Record, VERSION, Versioned};

/// What can go wrong with a container's state.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// There is one with this id already.
    Exists,
    /// There is none with this id.
    NotFound,
    /// Its record cannot be read: why.
    Unreadable(String),
    /// What was kept of its end cannot be read: why.
    Ended(String),
    /// A call failed.
    Failed(Failed),
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        Self::Failed(failed)
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exists => to.write_str("container with given ID already exists"),
            Self::NotFound => to.write_str("container does not exist"),
            Self::Unreadable(why) => write!(to, "state.json: {why}"),
            Self::Ended(why) => write!(to, "{EXIT}: {why}"),
            Self::Failed(failed) => failed.fmt(to),
        }
    }
}

impl std::error::Error for Error {}

/// The state root.
#[derive(Debug)]
pub struct Store {
    directory: OwnedFd,
}

/// One container's directory, locked while this lives.
#[derive(Debug)]
pub struct Entry {
    directory: OwnedFd,
    root: OwnedFd,
    id: String,
    is_locked: bool,
    /// Of the file system that it is on; known once it is locked.
    device: u64,
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const RECORD: &str = "state.json";
const DRAFT: &str = ".state.json";
pub(crate) const GATE: &str = "gate";
/// The directory of the notify socket, in a container's.
pub const NOTIFY: &str = "notify";
pub(crate) const NOTIFY_SOCKET: &str = "notify/notify.sock";

impl Store {
    /// Opens the state root; none where there is no such directory.
    pub fn open(path: &str) -> Result<Option<Self>, Failed> {
        match openat(CWD, path, DIRECTORY.difference(OFlags::NOFOLLOW), Mode::empty()) {
            Ok(directory) => Ok(Some(Self { directory })),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(Failed::call(format!("open({path:?})"), errno)),
        }
    }

    /// Opens the state root, made if it is missing, with the directories above it, 0700; with the sticky bit if that
    /// is asked for.
    pub fn provide(path: &str, is_sticky: bool) -> Result<Self, Failed> {
        if let Some(store) = Self::open(path)? {
            return Ok(store);
        }
        let mut so_far = String::new();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            so_far.push('/');
            so_far.push_str(part);
            match mkdirat(CWD, so_far.as_str(), Mode::from_raw_mode(0o700)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(Failed::call(format!("mkdir({so_far:?})"), errno)),
            }
        }
        let store = Self::open(path)?.ok_or_else(|| Failed::call(format!("open({path:?})"), Errno::NOENT))?;
        if is_sticky {
            fchmod(&store.directory, Mode::from_raw_mode(0o1700)).called(|| format!("chmod({path:?})"))?;
        }
        Ok(store)
    }

    /// Claims an id: makes its directory and locks it. Of two who claim the same one, one gets [`Error::Exists`].
    pub fn claim(self, id: &str) -> Result<Entry, Error> {
        match mkdirat(&self.directory, id, Mode::from_raw_mode(0o711)) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Err(Error::Exists),
            Err(errno) => return Err(Failed::call(format!("mkdirat({id:?})"), errno).into()),
        }
        self.lock(id)
    }

    /// One container's directory, locked; waits while another command holds it.
    ///
    /// `delete` of a half-made container may have taken the directory away meanwhile: that is [`Error::NotFound`].
    pub fn lock(self, id: &str) -> Result<Entry, Error> {
        let mut entry = self.look(id)?;
        loop {
            match flock(&entry.directory, FlockOperation::LockExclusive) {
                Err(Errno::INTR) => {}
                locked => break locked.called(|| "flock(state directory)")?,
            }
        }
        let stat = fstat(&entry.directory).called(|| "fstat(state directory)")?;
        if stat.st_nlink == 0 {
            return Err(Error::NotFound);
        }
        (entry.is_locked, entry.device) = (true, stat.st_dev);
        Ok(entry)
    }

    /// One container's directory, not locked: for commands that only look.
    pub fn look(self, id: &str) -> Result<Entry, Error> {
        let directory = match openat(&self.directory, id, DIRECTORY, Mode::empty()) {
            Ok(directory) => directory,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Err(Error::NotFound),
            Err(errno) => return Err(Failed::call(format!("openat({id:?})"), errno).into()),
        };
        Ok(Entry { directory, root: self.directory, id: id.to_owned(), is_locked: false, device: 0 })
    }

    /// The number of the file system that a state root is on, or would be: of the nearest directory that is there.
    pub fn device(path: &str) -> Result<u64, Failed> {
        let mut path = path;
        loop {
            match stat(if path.is_empty() { "/" } else { path }) {
                Ok(stat) => return Ok(stat.st_dev),
                Err(Errno::NOENT) if !path.is_empty() => {
                    path = path.rsplit_once('/').map_or("", |(above, _)| above);
                }
                Err(errno) => return Err(Failed::call(format!("stat({path:?})"), errno)),
            }
        }
    }

    /// Another handle of the same root: for one container after the other.
    pub fn again(&self) -> Result<Self, Failed> {
        let directory = rustix::io::fcntl_dupfd_cloexec(&self.directory, 0).called(|| "dup(state root)")?;
        Ok(Self { directory })
    }

    /// All ids, sorted, each with the user id that owns its directory.
    pub fn ids(&self) -> Result<Vec<(String, u32)>, Failed> {
        let mut ids = Vec::new();
        for item in Dir::read_from(&self.directory).called(|| "open(state root)")? {
            let item = item.called(|| "getdents(state root)")?;
            let Ok(name) = item.file_name().to_str() else { continue };
            if name.starts_with('.') {
                continue;
            }
            let Ok(stat) = statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                ids.push((name.to_owned(), stat.st_uid));
            }
        }
        ids.sort();
        Ok(ids)
    }
}

impl Entry {
    /// The container's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The number of the file system that a locked one is on.
    pub fn device(&self) -> u64 {
        self.device
    }

    /// Writes the record: a draft first, then by rename, so that a reader sees the old one or the new one.
    pub fn write<G: Serialize>(&self, record: &Record<G>) -> Result<(), Failed> {
        let text =
            serde_json::to_vec(record).map_err(|why| Failed::refused(format!("write {RECORD}: {why}")))?;
        self.write_text(&text)
    }

    /// The same for who keeps a record of another kind, which is text here.
    pub fn write_text(&self, text: &[u8]) -> Result<(), Failed> {
        let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let put = || {
            let draft = openat(&self.directory, DRAFT, flags, Mode::from_raw_mode(0o600))
                .called(|| format!("openat({DRAFT:?})"))?;
            let mut rest = text;
            while !rest.is_empty() {
                let written = write(&draft, rest).called(|| format!("write({DRAFT:?})"))?;
                rest = rest.get(written..).unwrap_or_default();
            }
            renameat(&self.directory, DRAFT, &self.directory, RECORD)
                .called(|| format!("renameat({RECORD:?})"))
        };
        put().doing(|| "write the state record")
    }

    /// Reads the record; none where `create` was killed before it wrote one.
    pub fn read<G: DeserializeOwned>(&self) -> Result<Option<Record<G>>, Error> {
        match self.text(RECORD)? {
            Some(text) => Record::parse(&text).map(Some).map_err(Error::Unreadable),
            None => Ok(None),
        }
    }

    /// The record's text; none where there is none yet.
    pub fn read_text(&self) -> Result<Option<Vec<u8>>, Failed> {
        self.text(RECORD)
    }

    /// A file's text; none where there is no such file.
    pub(crate) fn text(&self, name: &str) -> Result<Option<Vec<u8>>, Failed> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        match openat(&self.directory, name, flags, Mode::empty()) {
            Ok(file) => Ok(Some(read_whole(&file, name, 4096, usize::MAX)?)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(Failed::call(format!("openat({name:?})"), errno)),
        }
    }

    /// Lets the next command have the container, whoever else still holds a copy of this handle: a child that was born
    /// frozen, say.
    pub fn release(self) -> Result<(), Failed> {
        flock(&self.directory, FlockOperation::Unlock).called(|| "flock(state directory, LOCK_UN)")
    }

    /// Whether the start gate is still there: the container was created and not started.
    pub fn has_gate(&self) -> Result<bool, Failed> {
        match statat(&self.directory, GATE, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(Failed::call(format!("fstatat({GATE:?})"), errno)),
        }
    }

    /// Whether another command holds the lock; never waits.
    pub fn is_locked_elsewhere(&self) -> Result<bool, Failed> {
        if self.is_locked {
            return Ok(false);
        }
        match flock(&self.directory, FlockOperation::NonBlockingLockShared) {
            Err(Errno::AGAIN) => return Ok(true),
            locked => locked.called(|| "flock(state directory, LOCK_SH)")?,
        }
        Ok(false)
    }

    /// Whether the record says that it is of a version that this build does not know.
    pub fn is_newer(&self) -> Result<bool, Error> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file =
            openat(&self.directory, RECORD, flags, Mode::empty()).called(|| format!("openat({RECORD:?})"))?;
        let version = serde_json::from_slice::<Versioned>(&read_whole(&file, RECORD, 4096, usize::MAX)?);
        Ok(version.is_ok_and(|document| document.version > VERSION))
    }

    /// Takes the start gate away.
    pub fn remove_gate(&self) -> Result<(), Failed> {
        self.unlink(GATE)
    }

    /// Removes the directory with all that is ours in it.
    pub fn remove(self) -> Result<(), Failed> {
        for name in [GATE, DRAFT, RECORD] {
            self.unlink(name)?;
        }
        // How it ended is seldom kept, and few have a notify socket, so they are looked for only when something is left. A keeper whom nobody could wait
        // for may be writing it just now: each of its two names once.
        let mut tries = 3;
        loop {
            match unlinkat(&self.root, self.id.as_str(), AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => return Ok(()),
                Err(Errno::NOTEMPTY) if tries > 0 => tries -= 1,
                Err(errno) => return Err(Failed::call(format!("rmdir({:?})", self.id), errno)),
            }
            for name in [EXIT_DRAFT, EXIT] {
                self.unlink(name)?;
            }
            self.remove_notify()?;
        }
    }

    /// The socket, and the directory that it lies in.
    fn remove_notify(&self) -> Result<(), Failed> {
        match unlinkat(&self.directory, NOTIFY_SOCKET, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(Failed::call(format!("unlinkat({NOTIFY_SOCKET:?})"), errno)),
        }
        match unlinkat(&self.directory, NOTIFY, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(Failed::call(format!("rmdir({NOTIFY:?})"), errno)),
        }
    }

    fn unlink(&self, name: &str) -> Result<(), Failed> {
        match unlinkat(&self.directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(Failed::call(format!("unlinkat({name:?})"), errno)),
        }
    }

    pub(crate) fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

impl Record<()> {
    /// The version that this build writes.
    pub const VERSION: u32 = VERSION;
}
