//! A throw-away bundle: a directory in the state root, covered by a tmpfs that only this process sees.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, flock, fstat, mkdirat, openat, unlinkat};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::chdir;
use spec::Spec;
use state::Store;
use sys::{Called, Doing, Errno, Failed};

use crate::life::Known;
use crate::{Containers, Error, Kind};

/// The bundle's directory. Its lock is held as long as this lives, and tells whoever comes later whether we do.
#[derive(Debug)]
pub struct Throwaway {
    path: String,
    _lock: OwnedFd,
}

impl Containers {
    /// A bundle for a container of this id, in a directory whose name is `prefix`, which begins with a dot as no id does,
    /// and the id. The calling process gets a mount namespace of its own, and a tmpfs there that nobody else sees.
    pub fn throwaway(&self, prefix: &str, id: &str) -> Result<Throwaway, Failed> {
        check(id)?;
        Store::provide(&self.root, self.is_sticky).doing(|| "open the state directory")?;
        Throwaway::make(format!("{}/{prefix}{id}", self.root))
    }

    /// Removes what is left of those who were killed: the container that still runs, if it is theirs, and the directory.
    /// What could not be removed is told, and stays for the next.
    pub fn sweep_throwaways(&self, prefix: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(&self.root) else { return Vec::new() };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let swept = names.filter_map(|name| {
            let id = name.strip_prefix(prefix)?;
            let done = self.sweep_throwaway(&format!("{}/{name}", self.root), id);
            done.err().map(|error| format!("remove what is left of {id}: {error}"))
        });
        swept.collect()
    }

    fn sweep_throwaway(&self, path: &str, id: &str) -> Result<(), Error> {
        let lock = match openat(CWD, path, DIRECTORY, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(()),
            opened => opened.called(|| format!("open({path:?})"))?,
        };
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            // Its maker lives.
            Err(Errno::WOULDBLOCK) => return Ok(()),
            locked => locked.called(|| format!("flock({path:?})"))?,
        }
        let real = std::fs::canonicalize(path)
            .map_err(|error| Failed::refused(format!("resolve {path:?}: {error}")))?;
        match self.find(id) {
            // The name alone proves nothing: somebody may have given it to a container of theirs since.
            Ok(known) if Path::new(&known.record.bundle) == real => {
                self.delete(id, true)?;
            }
            Ok(_) => {}
            Err(error) if error.kind() == Kind::NotFound => self.remove_unwritten(id)?,
            Err(error) => return Err(error),
        }
        Ok(remove_directory(path)?)
    }

    /// An entry in the state directory that has no record: its maker was killed between the two. Whoever holds the lock
    /// while there is none knows that nobody is about to write it.
    fn remove_unwritten(&self, id: &str) -> Result<(), Error> {
        let Some(store) = self.store()? else { return Ok(()) };
        let entry = match store.lock(id) {
            Err(state::Error::NotFound) => return Ok(()),
            locked => locked?,
        };
        if Known::of(&entry)?.is_none() {
            entry.remove()?;
        }
        Ok(())
    }
}

impl Throwaway {
    fn make(path: String) -> Result<Self, Failed> {
        let place = Self { _lock: claim(&path)?, path };
        match place.cover() {
            Ok(()) => Ok(place),
            Err(failed) => match place.remove() {
                Ok(()) => Err(failed),
                Err(second) => Err(failed.while_doing(&format!("{second}; before that"))),
            },
        }
    }

    fn cover(&self) -> Result<(), Failed> {
        sys::unshare_mounts()?;
        let path = self.path.as_str();
        // Bounded by half the memory, as every tmpfs: a full one is an error, not the host's end.
        mount("cofferdam", path, "tmpfs", MountFlags::empty(), c"mode=0700")
            .called(|| format!("mount(\"tmpfs\", {path:?})"))?;
        let rootfs = format!("{path}/rootfs");
        mkdirat(CWD, rootfs.as_str(), Mode::from_raw_mode(0o755)).called(|| format!("mkdir({rootfs:?})"))?;
        // The directory above is nobody's way in: in the container this is the root, which everybody may read.
        rustix::fs::chmod(rootfs.as_str(), Mode::from_raw_mode(0o755)).called(|| format!("chmod({rootfs:?})"))
    }

    /// The bundle's directory.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The root file system that was made for it.
    pub fn rootfs(&self) -> PathBuf {
        Path::new(&self.path).join("rootfs")
    }

    /// Writes the bundle's document.
    pub fn write_config(&self, spec: &Spec) -> Result<(), Failed> {
        let path = format!("{}/config.json", self.path);
        std::fs::write(&path, spec.to_pretty())
            .map_err(|error| Failed::refused(format!("write {path}: {error}")))
    }

    /// Takes the directory away, with all that was in it.
    pub fn remove(self) -> Result<(), Failed> {
        // The plan went into the bundle.
        chdir("/").called(|| "chdir(\"/\")")?;
        match unmount(self.path.as_str(), UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            // It was never mounted.
            Ok(()) | Err(Errno::INVAL) => {}
            Err(errno) => return Err(Failed::call(format!("umount({:?})", self.path), errno)),
        }
        remove_directory(&self.path)
    }
}

/// The name becomes part of a path before the engine looks at it.
fn check(id: &str) -> Result<(), Failed> {
    if id.contains('/') || id.len() > 200 {
        return Err(Failed::refused(format!("{id:?} is no name for a container")));
    }
    Ok(())
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn claim(path: &str) -> Result<OwnedFd, Failed> {
    loop {
        match mkdirat(CWD, path, Mode::from_raw_mode(0o700)) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                return Err(Failed::refused("somebody runs a container of this name already"));
            }
            Err(errno) => return Err(Failed::call(format!("mkdir({path:?})"), errno)),
        }
        // Somebody who sweeps may have taken it for a dead one's before we held the lock: then it is made anew.
        let lock = match openat(CWD, path, DIRECTORY, Mode::empty()) {
            Err(Errno::NOENT) => continue,
            opened => opened.called(|| format!("open({path:?})"))?,
        };
        flock(&lock, FlockOperation::LockExclusive).called(|| format!("flock({path:?})"))?;
        if fstat(&lock).called(|| format!("fstat({path:?})"))?.st_nlink != 0 {
            return Ok(lock);
        }
    }
}

fn remove_directory(path: &str) -> Result<(), Failed> {
    match unlinkat(CWD, path, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(Failed::call(format!("rmdir({path:?})"), errno)),
    }
}
