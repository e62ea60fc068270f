//! Repositories: a directory, or memory, where packages are kept that have been installed.
//!
//! Touches: the directory that it is opened with, and there no file but its own; memory files; what containers keep,
//!          where that is to be wiped.
//! Never:   fails for a file that is no package; believes today what it verified yesterday.
//! Begin with [`Repository::open`] or [`Repository::in_memory`], then [`Repository::begin`] to install.
//!
//! Any file of the directory that is a package is an entry, whatever it is called; we call ours `NAME:VERSION.npk`. An
//! installation grows in a draft, `.cofferdam-RANDOM.part`, locked by whoever writes it. It bears its name once it is
//! whole, verified and on disk: power that is lost at any moment leaves the old state or the new one, and perhaps a
//! draft, which nobody holds locked any more and the next scan removes.
//!
//! ```text
//! Repository::begin ─▶ Install ─close─▶ Ready ─Repository::accept─▶ Entry
//!   limits             pieces            length, signature,           the name
//!                                        hashes, fsync
//! ```

mod install;
mod kept;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::sync::Arc;

use self::install::{Limits, Reserved, Written};
use crate::directory::{self, Directory, Identity};
use crate::error::{Error, Kind};
use crate::key::PublicKey;
use crate::manifest::Manifest;
use crate::npk::{Package, Verity};

pub use install::{Install, Ready};
pub use kept::{Aside, Swept, sweep};

/// What is taken into a repository.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Whose packages; anybody's without a key.
    pub key: Option<PublicKey>,
    /// How many packages at most.
    pub packages: Option<u32>,
    /// How many bytes at most, of all their files.
    pub bytes: Option<u64>,
}

/// Packages that have been installed.
#[derive(Debug)]
pub struct Repository {
    /// Where; none in memory.
    directory: Option<Arc<Directory>>,
    rules: Rules,
    entries: BTreeMap<String, Entry>,
    /// What those have been promised who install right now.
    reserved: Arc<Reserved>,
}

/// A package that is installed.
#[derive(Debug)]
pub struct Entry {
    /// Its manifest, as it was when the repository was opened, or it was installed.
    pub manifest: Manifest,
    /// The manifest's own bytes.
    pub text: Vec<u8>,
    /// The bytes of its file.
    pub size: u64,
    place: Place,
}

#[derive(Debug)]
enum Place {
    File(OsString, Identity),
    Memory(File),
}

/// A package to be mounted.
#[derive(Debug)]
pub struct Opened {
    /// The package, by the descriptor that was verified.
    pub package: Package<File>,
    /// Its manifest.
    pub manifest: Manifest,
    /// What dm-verity is to be told; none in a repository without a key.
    pub verity: Option<Verity>,
}

/// What a scan found beside packages.
#[derive(Debug, Default)]
pub struct Scan {
    /// Files that are no entry, in the order of their names. They stay as they are.
    pub skipped: Vec<Skipped>,
    /// Drafts of installations that were broken off. They are gone.
    pub removed: Vec<OsString>,
}

/// A file that is no entry.
#[derive(Debug)]
pub struct Skipped {
    /// Its name.
    pub file: OsString,
    /// Why.
    pub reason: Error,
}

impl Repository {
    /// Opens a directory, and looks at every file in it. Of two with the same package that one counts whose name comes
    /// first.
    ///
    /// An error only if there is no directory that can be listed.
    pub fn open(directory: &Path, rules: Rules) -> Result<(Self, Scan), Error> {
        let directory = Arc::new(Directory::open(directory)?);
        let mut repository = Self { directory: Some(Arc::clone(&directory)), ..Self::in_memory(rules) };
        let mut scan = Scan::default();
        for file in directory.names()? {
            if directory::is_draft(&file) {
                match directory.clear(&file) {
                    Ok(()) => scan.removed.push(file),
                    Err(reason) => scan.skipped.push(Skipped { file, reason }),
                }
            } else if let Err(reason) = repository.add(&directory, &file) {
                scan.skipped.push(Skipped { file, reason });
            }
        }
        Ok((repository, scan))
    }

    /// A repository that is empty, and goes with its last descriptor.
    pub fn in_memory(rules: Rules) -> Self {
        Self { directory: None, rules, entries: BTreeMap::new(), reserved: Arc::default() }
    }

    fn add(&mut self, directory: &Directory, name: &OsStr) -> Result<(), Error> {
        let (file, identity, size) = directory.read(name)?;
        let Opened { package, manifest, .. } = admit(file, self.rules.key.as_ref())?;
        self.is_new(&manifest.container())?;
        let place = Place::File(name.to_owned(), identity);
        let text = package.manifest().to_vec();
        self.entries.insert(manifest.container(), Entry { manifest, text, size, place });
        Ok(())
    }

    fn is_new(&self, container: &str) -> Result<(), Error> {
        match self.entries.get(container).map(|entry| &entry.place) {
            None => Ok(()),
            Some(Place::Memory(_)) => Err(Error::new(Kind::Exists, format!("{container} is installed"))),
            Some(Place::File(file, _)) => {
                let told = format!("{container} is installed, as {}", directory::told(file));
                Err(Error::new(Kind::Exists, told))
            }
        }
    }

    /// What is installed, by `NAME:VERSION`.
    pub fn entries(&self) -> &BTreeMap<String, Entry> {
        &self.entries
    }

    /// Opens a package to mount it: by a descriptor of its own, which is verified now, whatever the file was before.
    pub fn package(&self, container: &str) -> Result<Opened, Error> {
        let file = match &self.entry(container)?.place {
            Place::Memory(file) => {
                file.try_clone().map_err(|error| Error::io("fcntl(F_DUPFD_CLOEXEC)", &error))?
            }
            Place::File(name, _) => self.directory()?.read(name)?.0,
        };
        let opened = admit(file, self.rules.key.as_ref())?;
        let found = opened.manifest.container();
        if found != container {
            return Err(Error::damaged(format!("the file of {container} has become {found}")));
        }
        Ok(opened)
    }

    /// What [`Repository::package`] needs open, for a fork of ours that keeps nothing else.
    pub fn handles(&self, container: &str) -> Vec<BorrowedFd<'_>> {
        match self.entries.get(container).map(|entry| &entry.place) {
            Some(Place::Memory(file)) => vec![file.as_fd()],
            _ => self.directory.iter().map(|directory| directory.handle()).collect(),
        }
    }

    /// Begins to install a package of `size` bytes, if there is room for it. What it may take is set aside until the
    /// [`Install`] and the [`Ready`] that comes out of it are gone.
    pub fn begin(&mut self, size: u64) -> Result<Install, Error> {
        let limits = Limits { packages: self.rules.packages, bytes: self.rules.bytes };
        let held = self.entries.values().map(|entry| entry.size).sum();
        let room = Reserved::take(&self.reserved, limits, self.entries.len() as u64, held, size)?;
        Install::begin(self.directory.as_ref(), room, self.rules.key.clone())
    }

    /// Takes a package in that was begun here; its `NAME:VERSION`. Refused where it is installed already: of two that
    /// install the same, the first wins.
    pub fn accept(&mut self, ready: Ready) -> Result<String, Error> {
        let Ready { manifest, text, written, room } = ready;
        if !room.is_of(&self.reserved) {
            return Err(Error::invalid("was written for another repository"));
        }
        let container = manifest.container();
        self.is_new(&container)?;
        let place = match written {
            Written::Memory(file) => Place::Memory(file),
            Written::Draft(draft) => {
                let name = OsString::from(format!("{container}.npk"));
                let identity = draft.publish(&name)?;
                Place::File(name, identity)
            }
        };
        self.entries.insert(container.clone(), Entry { manifest, text, size: room.size(), place });
        Ok(container)
    }

    /// Removes a package. With `data`, the directory where containers keep theirs, what those of this name have kept is
    /// wiped too, whatever their version. Power that is lost on the way leaves both or neither, once [`sweep`] has
    /// looked.
    ///
    /// A file that has taken the package's place stays, and is told. Where it is only the wiping that goes wrong, the
    /// package is gone all the same, and [`sweep`] tries again.
    pub fn uninstall(&mut self, container: &str, data: Option<&Path>) -> Result<(), Error> {
        self.take_out(container, data)?.map_or(Ok(()), Aside::remove)
    }

    /// [`Repository::uninstall`] but for the wiping, which may take its time: what is to be wiped still, set aside where
    /// nobody finds it but [`sweep`].
    pub fn take_out(&mut self, container: &str, data: Option<&Path>) -> Result<Option<Aside>, Error> {
        let entry = self.entry(container)?;
        let aside = match data {
            Some(data) => Aside::put(data, &entry.manifest.name, container)?,
            None => None,
        };
        if let Place::File(name, identity) = &entry.place
            && let Err(error) = self.directory()?.remove(name, identity)
        {
            return Err(match aside {
                Some(aside) => aside.put_back(error),
                None => error,
            });
        }
        self.entries.remove(container);
        Ok(aside)
    }

    fn entry(&self, container: &str) -> Result<&Entry, Error> {
        let entry = self.entries.get(container);
        entry.ok_or_else(|| {
            Error::new(Kind::NotFound, format!("{} is not installed", spec::quoted(container)))
        })
    }

    fn directory(&self) -> Result<&Arc<Directory>, Error> {
        self.directory.as_ref().ok_or_else(|| Error::invalid("a repository in memory has no files"))
    }
}

/// Reads a package and verifies it, all but the image, of which the kernel checks each block as it is read.
fn admit(file: File, key: Option<&PublicKey>) -> Result<Opened, Error> {
    let package = Package::read(file)?;
    let verity = key.map(|key| package.verify(key)).transpose()?;
    let manifest = Manifest::read("manifest.yaml", package.manifest())?;
    Ok(Opened { package, manifest, verity })
}
