//! Resolution inside a root.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, readlinkat};
use sys::{Called, Doing, Errno, Failed};

use crate::walk;

/// A directory that is `/` for every path resolved through it: absolute links begin at it, `..` stops at it.
#[derive(Debug)]
pub struct Root(OwnedFd);

/// What [`Root::provide`] makes where there is nothing yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A directory, 0755.
    Directory,
    /// An empty regular file, 0644.
    File,
}

/// Renames under way make openat2(2) answer EAGAIN; who meets more than this many at one place is being played with.
const RETRIES: usize = 128;

/// As many links as the kernel itself follows.
const LINKS: usize = 40;

impl From<OwnedFd> for Root {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Root {
    /// The file or directory at `path`, all links followed inside the root, as an `O_PATH` handle.
    pub fn resolve(&self, path: &str) -> Result<OwnedFd, Failed> {
        self.open(path, OFlags::PATH)
    }

    /// The same, but a link at the end is not followed: the handle is of the link itself.
    pub fn resolve_link(&self, path: &str) -> Result<OwnedFd, Failed> {
        self.open(path, OFlags::PATH | OFlags::NOFOLLOW)
    }

    /// The directory at `path`; no part of the path may be a link (`ELOOP`, or `ENOTDIR` for the last part).
    pub fn resolve_plain(&self, path: &str) -> Result<OwnedFd, Failed> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.open_how(path, flags, ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS)
    }

    /// Opens what `path` names, all links followed inside the root.
    pub fn open(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Failed> {
        // No device or pipe is ever meant here, and neither may hold us up or become our terminal.
        let flags =
            if flags.contains(OFlags::PATH) { flags } else { flags | OFlags::NONBLOCK | OFlags::NOCTTY };
        self.open_how(path, flags | OFlags::CLOEXEC, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
    }

    fn open_how(&self, path: &str, flags: OFlags, how: ResolveFlags) -> Result<OwnedFd, Failed> {
        for _ in 0..RETRIES {
            match openat2(&self.0, path, flags, Mode::empty(), how) {
                Err(Errno::AGAIN) => {}
                // Linux before 5.6, or a filter around us that does not know the call (some of them say EPERM).
                Err(Errno::NOSYS | Errno::PERM) => return walk::open(self.0.as_fd(), path, flags, how),
                opened => return opened.called(|| format!("openat2({path:?})")),
            }
        }
        Err(Failed::call(format!("openat2({path:?})"), Errno::AGAIN))
    }

    /// The same as [`Root::resolve`], and makes what is missing on the way: directories, and at the end what is wanted.
    ///
    /// A link that leads to something missing is followed inside the root, and the thing is made there.
    pub fn provide(&self, path: &str, wanted: Wanted) -> Result<OwnedFd, Failed> {
        let mut path = path.to_owned();
        for _ in 0..LINKS {
            match self.resolve(&path) {
                Err(failed) if failed.errno() == Some(Errno::NOENT) => {}
                resolved => return resolved,
            }
            match self.make_missing(&path, wanted)? {
                Made::Handle(fd) => return Ok(fd),
                Made::Link(leads_to) => path = leads_to,
            }
        }
        Err(Failed::call(format!("openat2({path:?})"), Errno::LOOP))
    }

    /// Makes the end of a path that is missing, and before it, if need be, what leads there.
    fn make_missing(&self, path: &str, wanted: Wanted) -> Result<Made, Failed> {
        let (parent, name) = split(path)?;
        let at = self.provide(parent, Wanted::Directory)?;
        match make_one(at.as_fd(), name, wanted).doing(|| format!("make {path}")) {
            // Missing, and yet something bears the name: a link that leads nowhere.
            Err(failed) if matches!(failed.errno(), Some(Errno::NOTDIR | Errno::LOOP)) => {
                let link = readlinkat(&at, name, Vec::new()).called(|| format!("readlinkat({name:?})"))?;
                let link = link.to_string_lossy();
                Ok(Made::Link(if link.starts_with('/') {
                    link.into_owned()
                } else {
                    format!("{parent}/{link}")
                }))
            }
            made => made.map(Made::Handle),
        }
    }

    /// Makes the directory `name` in one that was resolved before, and opens it, with whether it is new; none where a
    /// link bears the name, or something that is no directory: then the whole path is for [`Root::provide`].
    pub fn provide_in(at: &OwnedFd, name: &str) -> Result<Option<(OwnedFd, bool)>, Failed> {
        match make_directory(at.as_fd(), name).doing(|| format!("make {name}")) {
            Err(failed) if matches!(failed.errno(), Some(Errno::NOTDIR | Errno::LOOP)) => Ok(None),
            made => made.map(Some),
        }
    }
}

/// The directory part of a path, and its last name.
pub fn split(path: &str) -> Result<(&str, &str), Failed> {
    let trimmed = path.trim_end_matches('/');
    let (parent, name) = trimmed.rsplit_once('/').unwrap_or(("", trimmed));
    if matches!(name, "" | "." | "..") {
        return Err(Failed::refused(format!("{path:?} does not end in a name")));
    }
    Ok((if parent.is_empty() { "/" } else { parent }, name))
}

enum Made {
    Handle(OwnedFd),
    Link(String),
}

/// Makes `name` in `at` and opens what is there then, which may be somebody else's, but never the end of a link.
fn make_one(at: BorrowedFd<'_>, name: &str, wanted: Wanted) -> Result<OwnedFd, Failed> {
    if wanted == Wanted::Directory {
        return make_directory(at, name).map(|(directory, _)| directory);
    }
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    openat(at, name, flags, Mode::from_raw_mode(0o644)).called(|| format!("openat({name:?}, O_CREAT)"))?;
    openat(at, name, HANDLE, Mode::empty()).called(|| format!("openat({name:?})"))
}

const HANDLE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The directory, and whether it is new.
fn make_directory(at: BorrowedFd<'_>, name: &str) -> Result<(OwnedFd, bool), Failed> {
    let is_new = match mkdirat(at, name, Mode::from_raw_mode(0o755)) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(errno) => return Err(Failed::call(format!("mkdirat({name:?})"), errno)),
    };
    let directory = openat(at, name, HANDLE | OFlags::DIRECTORY, Mode::empty());
    directory.map(|directory| (directory, is_new)).called(|| format!("openat({name:?})"))
}
