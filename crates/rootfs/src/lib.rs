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

use std::os::fd::OwnedFd;

use path::Root;
use plan::Propagation;
use rustix::fs::{CWD, Mode, OFlags, openat};
use sys::{Called, Doing, Failed};

/// The root of a container in the making. All paths below are the container's, resolved inside it.
#[derive(Debug)]
pub struct Rootfs {
    root: Root,
    /// One empty, read-only directory for all masks: its superblock is made once.
    empty: Option<OwnedFd>,
    /// Mounts that are sealed at the end, by the handle that they were made with.
    kept: Vec<(String, OwnedFd)>,
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
        Ok(Self { root: Root::from(root), empty: None, kept: Vec::new(), fallbacks: Vec::new() })
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
