//! The root file system: mounts, devices, links, masks, and the way in.
//!
//! Touches: the calling process's own mount namespace.
//! Never:   follows a link out of the root, mounts by name what it has looked at by handle, runs in the host's mount namespace.
//! Begin with [`Rootfs::take`].

mod attach;
mod bare;
mod console;
mod copy;
mod device;
mod enter;
mod handles;
mod mask;
mod mount;
mod remount;

pub use handles::Handles;
pub use mask::is_null;

use std::os::fd::OwnedFd;

use path::{Root, Wanted};
use plan::Propagation;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::mount::mount_bind_recursive;
use sys::{Called, Doing, Errno, Failed, Spent};

/// The root of a container in the making. All paths below are the container's, resolved inside it.
#[derive(Debug)]
pub struct Rootfs {
    root: Root,
    /// Paths of the host that were opened for us.
    handles: Handles,
    /// One empty, read-only directory for all masks: its superblock is made once.
    empty: Option<OwnedFd>,
    /// The SELinux label of that directory.
    mask_label: Option<String>,
    /// The null device, once it was proven to be one.
    null: Option<OwnedFd>,
    /// Mounts that are sealed at the end, by the handle that they were made with.
    kept: Vec<(String, OwnedFd)>,
    /// The directory that something was made in last: most things go where the last one went. Forgotten when a mount
    /// may have covered it.
    near: Option<(String, OwnedFd)>,
    /// Where mounts are prepared, once the new mount calls turned out not to be there.
    stage: Option<attach::Stage>,
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
    pub fn take(path: &str, handles: Handles, shared: bool) -> Result<Self, Failed> {
        if shared {
            enter::privatise(path)?;
        }
        let place = match handles.find(path) {
            Some(handle) => dup(handle)?,
            None => openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .called(|| format!("open({path:?})"))?,
        };
        let tree = match handles.find(path) {
            Some(handle) => attach::clone_handle(handle, true, false),
            None => attach::clone_tree(path, true, false),
        };
        let (root, is_old) = match tree.and_then(|tree| tree.attach(&place, None)) {
            Err(failed) if attach::is_missing(&failed) => (bind_on_itself(path)?, true),
            attached => (attached.doing(|| format!("bind {path} on itself"))?, false),
        };
        let mut spent = Spent::default();
        spent.push(place);
        let mut rootfs = Self {
            root: Root::from(root),
            handles,
            empty: None,
            mask_label: None,
            null: None,
            kept: Vec::new(),
            near: None,
            stage: None,
            spent,
            fallbacks: Vec::new(),
        };
        if is_old {
            rootfs.set_stage()?;
        }
        Ok(rootfs)
    }

    /// Does something with the new mount calls, or with mount(2) from the first time on that one of them is missing.
    fn either_way<T>(&mut self, act: impl Fn(&mut Self) -> Result<T, Failed>) -> Result<T, Failed> {
        match act(self) {
            Err(first) if self.stage.is_none() && attach::is_missing(&first) => {
                // What is denied to us altogether is denied to the second way too; the first one is worth telling.
                if self.set_stage().is_err() {
                    return Err(first);
                }
                act(self).map_err(|second| if second.errno() == first.errno() { first } else { second })
            }
            done => done,
        }
    }

    /// A copy of what is mounted at a path of the host.
    fn clone_host(&self, path: &str, recursive: bool) -> Result<attach::Tree, Failed> {
        let is_old = self.stage.is_some();
        match self.handles.find(path) {
            Some(handle) => attach::clone_handle(handle, recursive, is_old),
            None => attach::clone_tree(path, recursive, is_old),
        }
    }

    fn set_stage(&mut self) -> Result<(), Failed> {
        self.stage = Some(attach::Stage::set()?);
        self.fallbacks.push("mount(2) instead of the calls that mount by handle");
        Ok(())
    }

    /// Takes away what mounts were prepared in, before the root is entered.
    fn strike_stage(&mut self) -> Result<(), Failed> {
        match self.stage.take() {
            Some(stage) => stage.strike(),
            None => Ok(()),
        }
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

    /// Forgets what was found below the root: others have been there, and may have mounted over it.
    pub fn look_again(&mut self) {
        self.spent.extend(self.near.take().map(|(_, fd)| fd));
    }

    /// Closes all that was needed for mounts: what is opened from now on gets a low number, as a low limit wants it.
    pub fn spare(&mut self) {
        self.spent.extend(self.near.take().map(|(_, fd)| fd));
        self.spent.extend(self.kept.drain(..).map(|(_, fd)| fd));
        self.spent.extend([self.empty.take(), self.null.take()].into_iter().flatten());
        self.handles = Handles::default();
        self.spent.close();
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

fn dup(handle: &OwnedFd) -> Result<OwnedFd, Failed> {
    fcntl_dupfd_cloexec(handle, 0).called(|| "dup()")
}

/// A mount of a directory on top of itself, by mount(2).
fn bind_on_itself(path: &str) -> Result<OwnedFd, Failed> {
    let bind = || {
        mount_bind_recursive(path, path).called(|| format!("mount({path:?}, MS_BIND|MS_REC)"))?;
        openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .called(|| format!("open({path:?})"))
    };
    bind().doing(|| format!("bind {path} on itself"))
}
