//! Files that are kept for the next container: what took time to make and can be made again.
//!
//! They lie in `.filters` below the state root. Nothing depends on them: who finds none makes anew, and who cannot write
//! goes without.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags, Stat, flock, fstat, mkdirat, openat, renameat,
    statat, unlinkat,
};
use rustix::io::{read, write};
use rustix::process::{Uid, geteuid};
use sys::{Called, Errno, Failed};

/// The directory of the files that are kept, if it is there and ours.
#[derive(Debug)]
pub struct Kept {
    directory: OwnedFd,
    /// Whose it is: ours.
    owner: Uid,
}

/// Its name in the state root. No id of a container begins with a dot.
const DIRECTORY: &str = ".filters";
/// A file that is being written, by whoever has the lock.
const DRAFT: &str = ".draft";
/// Most files that are kept; before one more comes the oldest goes.
const MOST: usize = 64;
/// More than any of them has: a filter of 4096 instructions, and what goes with it.
const LARGEST: usize = 64 << 10;

impl Kept {
    /// Opens the directory below a state root. None where it is missing, no directory, or somebody else's, or where
    /// others have any right in it: what is in it is loaded into containers.
    pub fn open(root: &str) -> Result<Option<Self>, Failed> {
        let path = format!("{root}/{DIRECTORY}");
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = match openat(CWD, path.as_str(), flags, Mode::empty()) {
            Ok(directory) => directory,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(errno) => return Err(Failed::call(format!("open({path:?})"), errno)),
        };
        let stat = fstat(&directory).called(|| format!("fstat({path:?})"))?;
        let owner = geteuid();
        Ok(belongs(&stat, FileType::Directory, owner).then_some(Self { directory, owner }))
    }

    /// The same, made if it is missing. The state root is not made for its sake.
    pub fn provide(root: &str) -> Result<Option<Self>, Failed> {
        let path = format!("{root}/{DIRECTORY}");
        match mkdirat(CWD, path.as_str(), Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => Self::open(root),
            Err(errno) => Err(Failed::call(format!("mkdir({path:?})"), errno)),
        }
    }

    /// What is kept under a name; none where nothing is, or where it is not ours, or larger than any of ours.
    pub fn find(&self, name: &str) -> Result<Option<Vec<u8>>, Failed> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match openat(&self.directory, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::LOOP) => return Ok(None),
            Err(errno) => return Err(Failed::call(format!("openat({name:?})"), errno)),
        };
        let stat = fstat(&file).called(|| format!("fstat({name:?})"))?;
        match usize::try_from(stat.st_size) {
            Ok(size) if size <= LARGEST && belongs(&stat, FileType::RegularFile, self.owner) => {
                let mut bytes = vec![0; size];
                // It was put there whole, and nobody writes it again: what one read does not bring is not ours.
                let length = read(&file, bytes.as_mut_slice()).called(|| format!("read({name:?})"))?;
                bytes.truncate(length);
                Ok(Some(bytes))
            }
            _ => Ok(None),
        }
    }

    /// Keeps this under a name, put in place by rename. Whether it was done: who finds another at it leaves it to
    /// them, without waiting.
    ///
    /// There is one draft and one writer. The lock goes with the process that holds it; what a writer left that was killed,
    /// the next one removes.
    pub fn keep(&self, name: &str, bytes: &[u8]) -> Result<bool, Failed> {
        match flock(&self.directory, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::AGAIN) => return Ok(false),
            locked => locked.called(|| format!("flock({DIRECTORY:?})"))?,
        }
        let put = self.make_room().and_then(|()| self.put(name, bytes));
        if put.is_err() {
            // The first failure is the one to tell, and the next writer does not mind.
            let _second = unlinkat(&self.directory, DRAFT, AtFlags::empty());
        }
        // A process that was forked meanwhile may hold a copy of the handle, and with it the lock.
        let freed = flock(&self.directory, FlockOperation::Unlock)
            .called(|| format!("flock({DIRECTORY:?}, LOCK_UN)"));
        put.and(freed).map(|()| true)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), Failed> {
        match unlinkat(&self.directory, DRAFT, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(Failed::call(format!("unlinkat({DRAFT:?})"), errno)),
        }
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let draft = openat(&self.directory, DRAFT, flags, Mode::from_raw_mode(0o600))
            .called(|| format!("openat({DRAFT:?})"))?;
        let mut rest = bytes;
        while !rest.is_empty() {
            let written = write(&draft, rest).called(|| format!("write({DRAFT:?})"))?;
            rest = rest.get(written..).unwrap_or_default();
        }
        renameat(&self.directory, DRAFT, &self.directory, name).called(|| format!("renameat({name:?})"))
    }

    /// Removes the oldest until there is a place for one more.
    fn make_room(&self) -> Result<(), Failed> {
        let mut files = Vec::new();
        for item in Dir::read_from(self.directory.as_fd()).called(|| format!("open({DIRECTORY:?})"))? {
            let item = item.called(|| format!("getdents({DIRECTORY:?})"))?;
            let name = item.file_name();
            if !name.to_bytes().starts_with(b".")
                && let Ok(stat) = statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW)
                && FileType::from_raw_mode(stat.st_mode) != FileType::Directory
            {
                files.push(((stat.st_mtime, stat.st_mtime_nsec), name.to_owned()));
            }
        }
        files.sort();
        let surplus = (files.len() + 1).saturating_sub(MOST);
        for (_, name) in files.into_iter().take(surplus) {
            unlinkat(&self.directory, &name, AtFlags::empty()).called(|| format!("unlinkat({name:?})"))?;
        }
        Ok(())
    }
}

/// Whether it is of this type and belongs to the owner, and nobody else has any right in it.
fn belongs(stat: &Stat, kind: FileType, owner: Uid) -> bool {
    FileType::from_raw_mode(stat.st_mode) == kind
        && stat.st_uid == owner.as_raw()
        && !Mode::from_raw_mode(stat.st_mode).intersects(Mode::RWXG | Mode::RWXO)
}
