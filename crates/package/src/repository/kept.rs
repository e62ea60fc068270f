//! What containers keep, and how it is wiped with their package: one directory for all versions of a name.
//!
//! It is first set aside, as `.wipe-NAME:VERSION`; then the package goes; then what was set aside. Whoever finds such a
//! directory later can tell by the package whether that was to be.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::Skipped;
use crate::error::{Error, Kind, shown};

const PREFIX: &str = ".wipe-";

/// A directory that is about to be wiped.
#[derive(Debug)]
pub struct Aside {
    from: PathBuf,
    aside: PathBuf,
}

impl Aside {
    /// Sets a name's directory aside; none if there is none.
    pub(super) fn put(data: &Path, name: &str, container: &str) -> Result<Option<Self>, Error> {
        let (from, aside) = (data.join(name), data.join(format!("{PREFIX}{container}")));
        // Somebody may have been interrupted here before: it was to be wiped then, and is now.
        remove(&aside)?;
        match fs::rename(&from, &aside) {
            Ok(()) => {
                sync(data)?;
                Ok(Some(Self { from, aside }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::on_path("rename", &from, &error)),
        }
    }

    /// Puts it back, for a reason, which comes back with what went wrong in that.
    pub(super) fn put_back(self, error: Error) -> Error {
        match fs::rename(&self.aside, &self.from) {
            Ok(()) => error,
            Err(left) => {
                Error::new(error.kind(), format!("{error}; then rename({}): {left}", shown(&self.aside)))
            }
        }
    }

    /// Wipes it.
    pub fn remove(self) -> Result<(), Error> {
        remove(&self.aside)
    }
}

/// What was found set aside.
#[derive(Debug, Default)]
pub struct Swept {
    /// Wiped: the package is gone, as was meant.
    pub wiped: Vec<OsString>,
    /// Put back: the package is still installed.
    pub put_back: Vec<OsString>,
    /// Could be neither.
    pub skipped: Vec<Skipped>,
}

/// Ends what an interrupted [`uninstall`](super::Repository::uninstall) began in the directory where containers keep
/// theirs. To be called when all repositories are open, and nothing runs yet. `is_installed` tells of a `NAME:VERSION`.
pub fn sweep(data: &Path, is_installed: impl Fn(&str) -> bool) -> Result<Swept, Error> {
    let listed = |error| Error::on_path("readdir", data, &error);
    let mut swept = Swept::default();
    for entry in fs::read_dir(data).map_err(listed)? {
        let file = entry.map_err(listed)?.file_name();
        let Some(container) = file.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
        let Some((name, _)) = container.split_once(':') else { continue };
        let (aside, from) = (data.join(&file), data.join(name));
        let (done, list) = if is_installed(container) {
            (put_back(&aside, &from), &mut swept.put_back)
        } else {
            (remove(&aside), &mut swept.wiped)
        };
        match done {
            Ok(()) => list.push(file),
            Err(reason) => swept.skipped.push(Skipped { file, reason }),
        }
    }
    sync(data)?;
    Ok(swept)
}

fn put_back(aside: &Path, to: &Path) -> Result<(), Error> {
    // rename(2) would replace a directory that is empty.
    if to.symlink_metadata().is_ok() {
        return Err(Error::new(Kind::Exists, format!("{} is there again", shown(to))));
    }
    fs::rename(aside, to).map_err(|error| Error::on_path("rename", to, &error))
}

/// Removes a directory with all that is in it; links are removed, and not followed.
fn remove(directory: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::on_path("remove", directory, &error))
        }
        _ => Ok(()),
    }
}

fn sync(directory: &Path) -> Result<(), Error> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|error| Error::on_path("fsync", directory, &error))
}
