//! Device nodes and links.

use std::os::fd::OwnedFd;

use plan::Node;
use rustix::fs::{
    AtFlags, Dev, FileType, Gid, Mode, OFlags, Uid, chownat, fstat, major, makedev, minor, mknodat, openat,
    symlinkat, unlinkat,
};
use sys::{Called, Doing, Errno, Failed};

use crate::Rootfs;

impl Rootfs {
    /// Makes a device node; where mknod(2) is not permitted, the host's node of that name is bound there.
    pub fn node(&mut self, node: &Node) -> Result<(), Failed> {
        self.make_node(node).doing(|| format!("make {}", node.path))
    }

    fn make_node(&mut self, node: &Node) -> Result<(), Failed> {
        let (parent, name) = self.parent(&node.path)?;
        let kind = FileType::from_raw_mode(node.mode);
        let device = makedev(node.major, node.minor);
        if node.is_bound {
            let place = make_place(parent, name)?;
            return self.either_way(|rootfs| rootfs.bind_node(node, &place));
        }
        match mknodat(parent, name, kind, Mode::from_raw_mode(node.mode & 0o7777), device) {
            Ok(()) => {}
            Err(Errno::EXIST) => return check_node(parent, name, kind, device),
            Err(Errno::PERM) => {
                let place = make_place(parent, name)?;
                self.fallbacks.push("bind instead of mknod(2)");
                return self.either_way(|rootfs| rootfs.bind_node(node, &place));
            }
            Err(errno) => return Err(Failed::call(format!("mknodat({name:?})"), errno)),
        }
        if (node.uid, node.gid) == (0, 0) {
            return Ok(());
        }
        let (uid, gid) = (Uid::from_raw(node.uid), Gid::from_raw(node.gid));
        chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .called(|| format!("fchownat({name:?})"))
    }

    fn bind_node(&mut self, node: &Node, place: &OwnedFd) -> Result<(), Failed> {
        let tree = self.clone_host(&node.path, false)?;
        if let Some(handle) = tree.handle() {
            check_kind(handle, node)?;
        }
        let handle = tree.attach(place, self.stage.as_ref())?;
        self.spent.push(handle);
        Ok(())
    }

    /// Makes a symbolic link; `replace` takes away what is there, otherwise it is left alone.
    pub fn link(&mut self, path: &str, target: &str, replace: bool) -> Result<(), Failed> {
        self.make_link(path, target, replace).doing(|| format!("link {path}"))
    }

    fn make_link(&mut self, path: &str, target: &str, replace: bool) -> Result<(), Failed> {
        let (parent, name) = self.parent(path)?;
        let call = || format!("symlinkat({name:?})");
        match symlinkat(target, parent, name) {
            Err(Errno::EXIST) if !replace => Ok(()),
            Err(Errno::EXIST) => {
                unlinkat(parent, name, AtFlags::empty()).called(|| format!("unlinkat({name:?})"))?;
                symlinkat(target, parent, name).called(call)
            }
            made => made.called(call),
        }
    }
}

/// An empty file to bind a node on.
fn make_place(parent: &OwnedFd, name: &str) -> Result<OwnedFd, Failed> {
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    openat(parent, name, flags, Mode::from_raw_mode(0o644))
        .called(|| format!("openat({name:?}, O_CREAT)"))?;
    openat(parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        .called(|| format!("openat({name:?})"))
}

/// A node that is there already must be the same.
fn check_node(parent: &OwnedFd, name: &str, kind: FileType, device: Dev) -> Result<(), Failed> {
    let there = openat(parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        .called(|| format!("openat({name:?})"))?;
    if is_node(&there, kind, device)? {
        return Ok(());
    }
    let (major, minor) = (major(device), minor(device));
    Err(Failed::refused(format!("something else than {major}:{minor} is there already")))
}

/// The host's node that is bound must be the one that was asked for.
fn check_kind(handle: &OwnedFd, node: &Node) -> Result<(), Failed> {
    let Node { path, mode, major, minor, .. } = node;
    if is_node(handle, FileType::from_raw_mode(*mode), makedev(*major, *minor))? {
        return Ok(());
    }
    Err(Failed::refused(format!("the host's {path} is not {major}:{minor}")))
}

fn is_node(there: &OwnedFd, kind: FileType, device: Dev) -> Result<bool, Failed> {
    let stat = fstat(there).called(|| "fstat(node)")?;
    Ok(FileType::from_raw_mode(stat.st_mode) == kind && (kind == FileType::Fifo || stat.st_rdev == device))
}
