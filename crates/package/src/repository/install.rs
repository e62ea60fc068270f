//! Installing, piece by piece.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{MemfdFlags, Mode, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};
use sys::{Called as _, Errno};

use super::{Opened, admit};
use crate::directory::{Directory, Draft};
use crate::error::{Error, Kind};
use crate::key::PublicKey;
use crate::manifest::Manifest;
use crate::npk::Package;

/// A package that is being written. If this value goes, nothing is left of it.
#[derive(Debug)]
pub struct Install {
    /// None once something went wrong.
    written: Option<Written>,
    count: u64,
    room: Room,
    key: Option<PublicKey>,
}

/// A package that is whole, verified and on disk, and is to bear its name. If this value goes, nothing is left of it.
#[derive(Debug)]
pub struct Ready {
    pub(super) manifest: Manifest,
    pub(super) text: Vec<u8>,
    pub(super) written: Written,
    pub(super) room: Room,
}

#[derive(Debug)]
pub(super) enum Written {
    Draft(Draft),
    Memory(File),
}

impl Install {
    pub(super) fn begin(
        directory: Option<&Arc<Directory>>,
        room: Room,
        key: Option<PublicKey>,
    ) -> Result<Self, Error> {
        let written = match directory {
            Some(directory) => Written::Draft(Draft::new(directory, Mode::from(0o644))?),
            None => Written::Memory(memory()?),
        };
        Ok(Self { written: Some(written), count: 0, room, key })
    }

    /// Appends a piece. After an error nothing is left of the installation, and nothing more is taken.
    pub fn write(&mut self, piece: &[u8]) -> Result<(), Error> {
        let Some(written) = &mut self.written else {
            return Err(Error::invalid("the installation has been broken off"));
        };
        let left = self.room.size - self.count;
        let appended = if piece.len() as u64 > left {
            Err(Error::invalid(format!("is longer than the {} bytes that were told of it", self.room.size)))
        } else {
            let all = written.file().write_all(piece);
            all.map_err(|error| {
                Error::io(format!("write(package, {} at {})", piece.len(), self.count), &error)
            })
        };
        match appended {
            Ok(()) => {
                self.count += piece.len() as u64;
                Ok(())
            }
            Err(error) => Err(self.written.take().map_or(error.clone(), |written| written.discard(error))),
        }
    }

    /// Ends it: the length must be the one that was told, and with a key the signature that key's. The whole image is
    /// read and checked, and the package is on disk in the end. `each` hears how many bytes have been read since it
    /// heard last.
    pub fn close(self, each: impl FnMut(u64)) -> Result<Ready, Error> {
        self.end(|package, written| {
            package.check(each)?;
            if let Written::Draft(draft) = written {
                draft.file.sync_all().map_err(|error| Error::io("fsync(package)", &error))?;
            }
            Ok(())
        })
    }

    /// [`Install::close`] where a fork of ours has written and closed it, and has forgotten its own [`Ready`]: the image is
    /// not read once more.
    pub fn close_forked(mut self) -> Result<Ready, Error> {
        if let Some(written) = &mut self.written {
            let told = written.file().metadata().map_err(|error| Error::io("fstat(package)", &error))?;
            self.count = told.len();
        }
        self.end(|_, _| Ok(()))
    }

    /// The same installation, for a fork of ours alone: it ends with whichever of the two goes first.
    pub fn in_fork(&self) -> Result<Self, Error> {
        let again =
            |file: &File| file.try_clone().map_err(|error| Error::io("fcntl(F_DUPFD_CLOEXEC)", &error));
        let written = match &self.written {
            Some(Written::Draft(draft)) => Some(Written::Draft(draft.with(again(&draft.file)?))),
            Some(Written::Memory(file)) => Some(Written::Memory(again(file)?)),
            None => None,
        };
        let room = Room { reserved: Arc::clone(&self.room.reserved), size: self.room.size };
        Ok(Self { written, count: self.count, room, key: self.key.clone() })
    }

    /// What a fork of ours needs open to write it.
    pub fn handles(&self) -> Vec<BorrowedFd<'_>> {
        match &self.written {
            Some(Written::Draft(draft)) => draft.handles().to_vec(),
            Some(Written::Memory(file)) => vec![file.as_fd()],
            None => Vec::new(),
        }
    }

    fn end(
        mut self,
        check: impl FnOnce(&Package<File>, &mut Written) -> Result<(), Error>,
    ) -> Result<Ready, Error> {
        let Some(mut written) = self.written.take() else {
            return Err(Error::invalid("the installation has been broken off"));
        };
        match self.admit(&mut written, check) {
            Ok((manifest, text)) => Ok(Ready { manifest, text, written, room: self.room }),
            Err(error) => Err(written.discard(error)),
        }
    }

    fn admit(
        &self,
        written: &mut Written,
        check: impl FnOnce(&Package<File>, &mut Written) -> Result<(), Error>,
    ) -> Result<(Manifest, Vec<u8>), Error> {
        if self.count != self.room.size {
            let told = format!("ends after {} of {} bytes", self.count, self.room.size);
            return Err(Error::damaged(told));
        }
        if let Written::Memory(file) = written {
            // Nobody, and be it through /proc, changes what is read from now on.
            seal(file)?;
        }
        let file = written.file().try_clone().map_err(|error| Error::io("fcntl(F_DUPFD_CLOEXEC)", &error))?;
        let Opened { package, manifest, .. } = admit(file, self.key.as_ref())?;
        check(&package, written)?;
        let text = package.manifest().to_vec();
        Ok((manifest, text))
    }
}

/// A fork of ours may have done it.
fn seal(file: &File) -> Result<(), Error> {
    if fcntl_get_seals(file).called(|| "fcntl(F_GET_SEALS)")?.contains(SEALS) {
        return Ok(());
    }
    Ok(fcntl_add_seals(file, SEALS).called(|| "fcntl(F_ADD_SEALS)")?)
}

impl Ready {
    /// What it is called, `NAME:VERSION`.
    pub fn container(&self) -> String {
        self.manifest.container()
    }
}

impl Written {
    fn file(&mut self) -> &mut File {
        match self {
            Self::Draft(draft) => &mut draft.file,
            Self::Memory(file) => file,
        }
    }

    fn discard(self, error: Error) -> Error {
        match self {
            Self::Draft(mut draft) => draft.discard(error),
            Self::Memory(_) => error,
        }
    }
}

const SEALS: SealFlags =
    SealFlags::SEAL.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::WRITE);

/// A file in memory. That nobody may execute it is said where the kernel knows the word (6.3): `vm.memfd_noexec=2` asks
/// for it.
fn memory() -> Result<File, Error> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = match memfd_create("package", flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => memfd_create("package", flags),
        made => made,
    };
    Ok(file.called(|| "memfd_create(\"package\")")?.into())
}

/// How much a repository holds at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) packages: Option<u32>,
    pub(super) bytes: Option<u64>,
}

/// What is promised to installations that go on: so two of them cannot both take the last room.
#[derive(Debug, Default)]
pub(super) struct Reserved {
    packages: AtomicU64,
    bytes: AtomicU64,
}

/// Room for one package, given back in the end.
#[derive(Debug)]
pub(super) struct Room {
    reserved: Arc<Reserved>,
    size: u64,
}

impl Reserved {
    /// Sets room aside for `size` bytes beside the `held` bytes of `count` packages. Called by the repository's one
    /// owner, so that nothing is taken between the look and the taking.
    pub(super) fn take(
        this: &Arc<Self>,
        limits: Limits,
        count: u64,
        held: u64,
        size: u64,
    ) -> Result<Room, Error> {
        let packages = count + this.packages.load(Ordering::Relaxed);
        if let Some(most) = limits.packages
            && packages >= most.into()
        {
            let told = format!("the repository takes {most} packages, and has or awaits {packages}");
            return Err(Error::new(Kind::Full, told));
        }
        let bytes = held.saturating_add(this.bytes.load(Ordering::Relaxed));
        if let Some(most) = limits.bytes
            && bytes.saturating_add(size) > most
        {
            let told =
                format!("the repository takes {most} bytes, and has or awaits {bytes}: no room for {size}");
            return Err(Error::new(Kind::Full, told));
        }
        if bytes.checked_add(size).is_none() {
            return Err(Error::invalid(format!("no package has {size} bytes")));
        }
        this.packages.fetch_add(1, Ordering::Relaxed);
        this.bytes.fetch_add(size, Ordering::Relaxed);
        Ok(Room { reserved: Arc::clone(this), size })
    }
}

impl Room {
    pub(super) fn is_of(&self, reserved: &Arc<Reserved>) -> bool {
        Arc::ptr_eq(&self.reserved, reserved)
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.reserved.packages.fetch_sub(1, Ordering::Relaxed);
        self.reserved.bytes.fetch_sub(self.size, Ordering::Relaxed);
    }
}
