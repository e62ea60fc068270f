//! The directories of one daemon, and what an earlier one has left there.
//!
//! ```text
//! run_dir/NAME:VERSION                  an image's mount
//! run_dir/.cofferdam/                   locked as long as we live
//! run_dir/.cofferdam/state/NAME/        the engine's record of a container
//! run_dir/.cofferdam/bundle/NAME/       its bundle
//! ```
//!
//! All that a daemon makes can be found by these: the engine's records tell of processes and control groups, mounts are
//! below `run_dir`, mapped devices bear a name that only we give.

use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use engine::{Here, Task, detach_rootfs};
use path::{mount_points, open_host};
use rustix::fs::{AtFlags, CWD, Dir, FlockOperation, OFlags, flock, fstat, unlinkat};
use sys::{Called as _, Doing as _, Errno, Failed, Mask};

use super::sockets;
use crate::config::Config;
use crate::log;
use crate::words::{Failure, Kind};

/// The directories of this daemon, which are nobody else's as long as this is there.
#[derive(Debug)]
pub(super) struct House {
    run: String,
    own: String,
    pub(super) data: String,
    pub(super) sockets: String,
    pub(super) cgroup: String,
    /// How the names of our mapped devices begin.
    pub(super) devices: String,
    /// How many files a program may have open, where we may have more.
    pub(super) files: Option<(u64, u64)>,
    /// How long to try for a loop device.
    pub(super) loops: Duration,
    mask: Mask,
    lock: OwnedFd,
}

/// How long the workers of a daemon that was killed may take to follow it.
const PATIENCE: Duration = Duration::from_secs(10);

impl House {
    /// Takes the directories over, and removes what an earlier daemon has left in them.
    pub(super) fn take(config: &Config, mask: Mask, files: Option<(u64, u64)>) -> Result<Self, Failure> {
        let run = text(&config.run_dir)?;
        let own = format!("{run}/.cofferdam");
        for directory in [&own, &format!("{own}/state"), &format!("{own}/bundle")] {
            provide(directory)?;
        }
        let lock = open_host(&own, OFlags::RDONLY | OFlags::DIRECTORY)?;
        if !lock_within(&lock, PATIENCE).doing(|| format!("lock {own}"))? {
            return Err(Failure::new(Kind::Busy, format!("{run}: another daemon uses it")));
        }
        let told = fstat(&lock).called(|| format!("fstat({own:?})"))?;
        let house = Self {
            data: text(&config.data_dir)?,
            sockets: text(&config.socket_dir)?,
            cgroup: config.cgroup.clone(),
            devices: format!("cofferdamd-{:x}-{:x}-", told.st_dev, told.st_ino),
            files,
            loops: config.loop_device_timeout,
            mask,
            lock,
            run,
            own,
        };
        house.sweep()?;
        Ok(house)
    }

    /// What a worker keeps open that mounts: as long as it lives, the directories are not another daemon's.
    pub(super) fn lock(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }

    /// Where a package's image is mounted.
    pub(super) fn image(&self, container: &str) -> String {
        format!("{}/{container}", self.run)
    }

    /// The bundle of a container.
    pub(super) fn bundle(&self, name: &str) -> String {
        format!("{}/bundle/{name}", self.own)
    }

    /// A container of the engine's.
    pub(super) fn task(&self, name: &str) -> Task {
        let root = format!("{}/state", self.own);
        Task::Here(Here { root, id: name.to_owned(), mask: self.mask, bus: None })
    }

    /// Makes the group above the containers': otherwise each of them would, and remove it when it goes.
    pub(super) fn provide_group(&self) -> Result<(), Failure> {
        Ok(engine::provide_group(&self.cgroup)?)
    }

    /// Removes whatever is left of an earlier daemon that nobody let end in order. What cannot be removed is told, and keeps
    /// us from beginning.
    fn sweep(&self) -> Result<(), Failure> {
        for name in engine::containers(&format!("{}/state", self.own))? {
            let removed = self.task(&name).delete_now(None);
            for warning in removed.map_err(|error| Failure::from(error).while_doing(&left(&name)))? {
                log::say(&format!("{}: {warning}", left(&name)));
            }
            log::say(&left(&name));
        }
        engine::remove_group(&self.cgroup)?;
        for mount in self.mounts()? {
            detach_rootfs(&mount)?;
            log::say(&format!("unmounted {mount}, which an earlier daemon left"));
        }
        for device in package::mount::remove_left(&self.devices)? {
            log::say(&format!("removed the mapped device {device}, which an earlier daemon left"));
        }
        for socket in sockets::sweep(&self.sockets).doing(|| "remove what is left of sockets")? {
            log::say(&format!("removed the socket {socket}, which an earlier daemon left"));
        }
        let bundles = format!("{}/bundle", self.own);
        for name in names(&bundles)? {
            remove_bundle(&format!("{bundles}/{name}"))?;
        }
        for name in names(&self.run)?.iter().filter(|name| name.contains(':')) {
            remove_directory(&format!("{}/{name}", self.run))?;
        }
        Ok(())
    }

    /// What is mounted below our directory, the last first.
    fn mounts(&self) -> Result<Vec<String>, Failure> {
        let table = "/proc/self/mountinfo";
        let text = std::fs::read(table).map_err(|error| Failed::io(format!("read({table:?})"), &error))?;
        let run = std::fs::canonicalize(&self.run)
            .map_err(|error| Failure::new(Kind::Other, format!("realpath({:?}): {error}", self.run)))?;
        let text = String::from_utf8_lossy(&text);
        let points = mount_points(&text).map(|point| String::from_utf8_lossy(&point).into_owned());
        let mut mounts: Vec<String> = points.collect();
        mounts.retain(|mount| Path::new(mount).starts_with(&run) && Path::new(mount) != run);
        mounts.reverse();
        Ok(mounts)
    }
}

/// flock(2) has no deadline, and nothing tells that a lock is free: it is asked for again and again. Whether it is ours.
fn lock_within(lock: &OwnedFd, patience: Duration) -> Result<bool, Failed> {
    const PAUSE: Duration = Duration::from_millis(10);
    let end = Instant::now() + patience;
    loop {
        match flock(lock, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if Instant::now() < end => std::thread::sleep(PAUSE),
            Err(Errno::WOULDBLOCK) => return Ok(false),
            locked => return locked.map(|()| true).called(|| "flock()"),
        }
    }
}

fn left(name: &str) -> String {
    format!("removed the container {name}, which an earlier daemon left")
}

/// Makes a directory that only root enters, or finds it.
pub(super) fn provide(path: &str) -> Result<(), Failed> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made.map_err(|error| Failed::io(format!("mkdir({path:?})"), &error)),
    }
}

/// Removes a directory in which nothing is left; one that is gone is no error.
pub(super) fn remove_directory(path: &str) -> Result<(), Failed> {
    match unlinkat(CWD, path, AtFlags::REMOVEDIR) {
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
        removed => removed.called(|| format!("rmdir({path:?})")),
    }
}

/// Removes a bundle: a file, and nothing that was mounted.
pub(super) fn remove_bundle(path: &str) -> Result<(), Failed> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(|error| Failed::io(format!("remove({path:?})"), &error)),
    }
}

fn names(directory: &str) -> Result<Vec<String>, Failed> {
    let handle = open_host(directory, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let mut names = Vec::new();
    for entry in Dir::new(handle).called(|| format!("open({directory:?})"))? {
        let entry = entry.called(|| format!("getdents64({directory:?})"))?;
        let name = entry.file_name().to_string_lossy();
        if name != "." && name != ".." {
            names.push(name.into_owned());
        }
    }
    Ok(names)
}

fn text(path: &Path) -> Result<String, Failure> {
    let text = path.to_str().map(|path| path.trim_end_matches('/').to_owned());
    text.ok_or_else(|| Failure::new(Kind::Invalid, format!("{}: is not UTF-8", path.display())))
}
