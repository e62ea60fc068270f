//! The root file system: mounts, devices, links, masks, and the way in.
//!
//! Touches: the calling process's own mount namespace.
//! Never:   follows a link out of the root, mounts by name what it has looked at by handle, runs in the host's mount namespace.
//! Begin with [`Rootfs::take`].

mod attach;
mod device;
mod enter;
mod mask;
mod mount;

pub use mask::is_null;

use std::os::fd::OwnedFd;

use path::{Root, Wanted};
use plan::Propagation;
use rustix::fs::{CWD, Mode, OFlags, openat};
use sys::{Called, Doing, Errno, Failed, Spent};

/// The root of a container in the making. All paths below are the container's, resolved inside it.
#[derive(Debug)]
pub struct Rootfs {
    root: Root,
    /// One empty, read-only directory for all masks: its superblock is made once.
    empty: Option<OwnedFd>,
    /// The null device, once it was proven to be one.
    null: Option<OwnedFd>,
    /// Mounts that are sealed at the end, by the handle that they were made with.
    kept: Vec<(String, OwnedFd)>,
    /// The directory that something was made in last: most things go where the last one went. Forgotten when a mount
    /// may have covered it.
    near: Option<(String, OwnedFd)>,
    /// Handles that have done their work.
    spent: Spent,
    /// What was done otherwise than planned, because the kernel or a filter around us refused the first way.
    fallbacks: Vec<&'static str>,
}

impl Rootfs {
    /// Takes a directory of the host as the root: a mount of its own on top of it.
    ///
    /// `shared`: the host's mounts stayed shared, so the one that this directory lies on is made private first, or
    /// everything that follows would be mounted on the host too.
    pub fn take(path: &str, shared: bool) -> Result<Self, Failed> {
        if shared {
            enter::privatise(path)?;
        }
        let tree = attach::clone_tree(path, true)?;
        let place = openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .called(|| format!("open({path:?})"))?;
        let root = tree.attach(&place).doing(|| format!("bind {path} on itself"))?;
        let mut spent = Spent::default();
        spent.push(place);
        Ok(Self {
            root: Root::from(root),
            empty: None,
            null: None,
            kept: Vec::new(),
            near: None,
            spent,
            fallbacks: Vec::new(),
        })
    }

    /// The directory of a path, made where it is missing, and the path's last name.
    fn parent<'a>(&mut self, path: &'a str) -> Result<(&OwnedFd, &'a str), Failed> {
        let (parent, name) = path::split(path)?;
        if self.near.as_ref().is_none_or(|(near, _)| near != parent) {
            let (opened, _) = self.directory(parent)?;
            let before = self.near.replace((parent.to_owned(), opened));
            self.spent.extend(before.map(|(_, fd)| fd));
        }
        match &self.near {
            Some((_, fd)) => Ok((fd, name)),
            None => Err(Failed::refused("the directory was forgotten")),
        }
    }

    /// A directory, made where it is missing, and whether it was. The plan lets nothing be mounted or made inside /proc by
    /// name; where a part of the path is a link, the same holds for where it leads.
    fn directory(&self, path: &str) -> Result<(OwnedFd, bool), Failed> {
        let is_missing = match self.root.resolve_plain(path) {
            Err(failed) if failed.errno() == Some(Errno::NOENT) => true,
            Err(failed) if matches!(failed.errno(), Some(Errno::LOOP | Errno::NOTDIR)) => false,
            resolved => return resolved.map(|place| (place, false)),
        };
        let place = self.root.provide(path, Wanted::Directory)?;
        mount::refuse_inside_proc(&place, path)?;
        Ok((place, is_missing))
    }

    /// Forgets the directory that something was made in last, if a mount there covers it or what leads to it.
    fn forget_below(&mut self, target: &str) {
        let is_covered = |near: &str| {
            near.strip_prefix(target).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if self.near.as_ref().is_some_and(|(near, _)| is_covered(near)) {
            self.spent.extend(self.near.take().map(|(_, fd)| fd));
        }
    }

    /// The root, for reading files of the container's.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// What was done by a second way, in the order in which it happened.
    pub fn fallbacks(&self) -> &[&'static str] {
        &self.fallbacks
    }

    /// Changes the propagation of the calling namespace's mounts before the root is taken.
    pub fn detach(how: Propagation) -> Result<(), Failed> {
        attach::propagate_path("/", how)
    }
}
