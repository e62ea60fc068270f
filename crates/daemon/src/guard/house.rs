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
use path::open_host;
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
    mask: Mask,
    lock: OwnedFd,
}

/// How long the workers of a daemon that was killed may take to follow it.
const PATIENCE: Duration = Duration::from_secs(10);

impl House {
    /// Takes the directories over, and removes what an earlier daemon has left in them.
    pub(super) fn take(config: &Config, mask: Mask) -> Result<Self, Failure> {
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
        self.remove_group()?;
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

    /// Removes the group above all containers', should it be there still: with the last of them the engine has removed it, and
    /// who is in it keeps it.
    pub(super) fn remove_group(&self) -> Result<(), Failure> {
        for mount in group_mounts(&String::from_utf8_lossy(&mountinfo()?)) {
            let group = format!("{mount}/{}", self.cgroup);
            match unlinkat(CWD, group.as_str(), AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT | Errno::BUSY | Errno::NOTEMPTY) => {}
                Err(errno) => return Err(Failed::call(format!("rmdir({group:?})"), errno).into()),
            }
        }
        Ok(())
    }

    /// What is mounted below our directory, the last first.
    fn mounts(&self) -> Result<Vec<String>, Failure> {
        let text = mountinfo()?;
        let run = std::fs::canonicalize(&self.run)
            .map_err(|error| Failure::new(Kind::Other, format!("realpath({:?}): {error}", self.run)))?;
        let mut mounts = mount_points(&String::from_utf8_lossy(&text));
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

fn mountinfo() -> Result<Vec<u8>, Failed> {
    let file = "/proc/self/mountinfo";
    std::fs::read(file).map_err(|error| io(format!("read({file:?})"), &error))
}

/// Where the hierarchies of control groups are mounted.
fn group_mounts(mountinfo: &str) -> Vec<String> {
    let is_group = |line: &&str| {
        let kind = line.split_once(" - ").and_then(|(_, rest)| rest.split(' ').next());
        matches!(kind, Some("cgroup" | "cgroup2"))
    };
    let lines: Vec<&str> = mountinfo.lines().filter(is_group).collect();
    mount_points(&lines.join("\n"))
}

/// Where something is mounted, in the order of the mounts.
fn mount_points(mountinfo: &str) -> Vec<String> {
    mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(unescaped).collect()
}

/// The kernel writes blanks, tabs, ends of lines and backslashes as octal numbers.
fn unescaped(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (code, letter)| text.replace(code, letter))
}

/// Makes a directory that only root enters, or finds it.
pub(super) fn provide(path: &str) -> Result<(), Failed> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made.map_err(|error| io(format!("mkdir({path:?})"), &error)),
    }
}

/// Removes a directory in which nothing is left; one that is gone is no error.
pub(super) fn remove_directory(path: &str) -> Result<(), Failed> {
    match unlinkat(CWD, path, AtFlags::REMOVEDIR) {
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
        removed => removed.called(|| format!("rmdir({path:?})")),
    }
}

/// Removes a bundle: two files, and nothing that was mounted.
pub(super) fn remove_bundle(path: &str) -> Result<(), Failed> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(|error| io(format!("remove({path:?})"), &error)),
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

pub(super) fn io(call: String, error: &std::io::Error) -> Failed {
    Failed::call(call, Errno::from_io_error(error).unwrap_or(Errno::IO))
}

fn text(path: &Path) -> Result<String, Failure> {
    let text = path.to_str().map(|path| path.trim_end_matches('/').to_owned());
    text.ok_or_else(|| Failure::new(Kind::Invalid, format!("{}: is not UTF-8", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_as_the_kernel_writes_them() {
        let text = "22 1 0:20 / /run rw shared:3 - tmpfs tmpfs rw\n\
                    23 22 7:0 / /run/a\\040b\\134c/x:1.0.0 ro,nosuid - squashfs /dev/loop0 ro\n";
        assert_eq!(mount_points(text), ["/run", "/run/a b\\c/x:1.0.0"]);
        let text = format!("{text}24 22 0:26 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw\n");
        assert_eq!(group_mounts(&text), ["/sys/fs/cgroup/unified"]);
    }
}
