//! How a container ended, kept beside its record. The format is in docs/state.md.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::fs::{Mode, OFlags, openat, renameat};
use rustix::io::write;
use serde::{Deserialize, Serialize};
use sys::{Called, Doing, Errno, Exit, Failed};

use crate::record::is_object;
use crate::store::{Entry, Error};
use crate::time::Moment;

pub(crate) const EXIT: &str = "exit.json";
pub(crate) const EXIT_DRAFT: &str = ".exit.json";

/// The version of the format, and the newest that is read.
const VERSION: u32 = 1;

/// How the first process ended.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Ended {
    version: u32,
    /// Its exit status; none where a signal ended it.
    pub status: Option<i32>,
    /// The signal that ended it; none where it exited.
    pub signal: Option<i32>,
    /// When that was noticed: RFC 3339 with nanoseconds, UTC.
    pub at: String,
}

impl Ended {
    /// By this exit, just now.
    pub fn now(exit: Exit) -> Self {
        let (status, signal) = match exit {
            Exit::Status(status) => (Some(status), None),
            Exit::Signal(signal) => (None, Some(signal)),
        };
        Self { version: VERSION, status, signal, at: Moment::now().rfc3339_nano() }
    }

    /// The exit; none where the file tells neither.
    pub fn exit(&self) -> Option<Exit> {
        self.status.map(Exit::Status).or(self.signal.map(Exit::Signal))
    }

    /// Reads the file's text, or says in one line why it cannot be read.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        match serde_json::from_slice::<Self>(text) {
            Ok(_) if !is_object(text) => Err("is no JSON object".to_owned()),
            Ok(ended) if ended.version > VERSION => {
                Err(format!("is of version {}, written by a newer cofferdam", ended.version))
            }
            Ok(ended) if ended.exit().is_none() => Err("tells neither a status nor a signal".to_owned()),
            Ok(ended) => Ok(ended),
            Err(_) if !text.is_empty() && !is_object(text) => Err("is no JSON object".to_owned()),
            Err(why) => Err(why.to_string().escape_debug().to_string()),
        }
    }
}

/// A container's directory, for whoever outlives the command that opened it: another descriptor, so that the lock is not
/// held with it.
#[derive(Debug)]
pub struct Shelf(OwnedFd);

impl Shelf {
    /// Writes down how it ended: a draft first, then by rename. No directory is no error: the container was deleted.
    pub fn put(&self, ended: &Ended) -> Result<(), Failed> {
        let text =
            serde_json::to_vec(ended).map_err(|why| Failed::refused(format!("write {EXIT}: {why}")))?;
        let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let put = || {
            let draft = openat(&self.0, EXIT_DRAFT, flags, Mode::from_raw_mode(0o600))
                .called(|| format!("openat({EXIT_DRAFT:?})"))?;
            write(&draft, &text).called(|| format!("write({EXIT_DRAFT:?})"))?;
            renameat(&self.0, EXIT_DRAFT, &self.0, EXIT).called(|| format!("renameat({EXIT:?})"))
        };
        match put() {
            Err(failed) if failed.errno() == Some(Errno::NOENT) => Ok(()),
            put => put.doing(|| "write down how it ended"),
        }
    }
}

impl AsFd for Shelf {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Shelf {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Entry {
    /// The directory alone, to write into it later.
    pub fn shelf(&self) -> Result<Shelf, Failed> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(self.directory(), ".", flags, Mode::empty()).map(Shelf).called(|| "openat(\".\")")
    }

    /// How the container ended; none where nobody has written it down.
    pub fn ended(&self) -> Result<Option<Ended>, Error> {
        match self.text(EXIT)? {
            Some(text) => Ended::parse(&text).map(Some).map_err(Error::Ended),
            None => Ok(None),
        }
    }
}
