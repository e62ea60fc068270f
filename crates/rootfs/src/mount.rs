//! Mounts of the document.

use std::borrow::Cow;
use std::os::fd::{AsFd, OwnedFd};

use path::{Root, Wanted};
use plan::{Idmap, Mount, Source};
use rustix::fs::{FileType, OFlags, PROC_SUPER_MAGIC, fstat, fstatfs};
use spec::MOUNT_ATTR_RDONLY;
use sys::{Called, Doing, Errno, Failed};

use crate::Rootfs;
use crate::attach::{self, Fresh, Tree};

impl Rootfs {
    /// Makes one mount.
    pub fn mount(&mut self, mount: &Mount) -> Result<(), Failed> {
        self.make_mount(mount).doing(|| format!("mount {} on {}", told(&mount.source), mount.target))
    }

    fn make_mount(&mut self, mount: &Mount) -> Result<(), Failed> {
        let (handle, place) = match &mount.source {
            Source::New { kind, name, flags, data } => {
                let (place, is_new) = self.place_fresh(kind, &mount.target)?;
                let data = if is_new { data.into() } else { with_mode(kind, data, &place)? };
                let fresh = Fresh { kind, name, flags, data: &data, set: mount.set };
                let mounted = |rootfs: &mut Self| {
                    let tree = fresh.make(&mut rootfs.spent, rootfs.stage.is_some())?;
                    tree.attach(&place, rootfs.stage.as_ref())
                };
                let otherwise = mount.or_bind.as_deref();
                let made = if otherwise.is_some() { mounted(self) } else { self.either_way(mounted) };
                match (made, otherwise) {
                    (Err(failed), Some(path)) if failed.errno() == Some(Errno::PERM) => {
                        self.bind(path, true, mount)?
                    }
                    (made, _) => (made?, place),
                }
            }
            Source::Bind { path, recursive } => self.bind(path, *recursive, mount)?,
            Source::Mapped(idmap) => {
                let tree = Tree::Detached(self.handles.take(idmap)?);
                self.attach_bind(tree, mount)?
            }
        };
        self.spent.push(place);
        self.forget_below(&mount.target);
        for how in &mount.propagation {
            attach::propagate(handle.as_fd(), *how)?;
        }
        if is_tmpfs(&mount.source) {
            self.kept.push((mount.target.clone(), handle));
        } else {
            self.spent.push(handle);
        }
        Ok(())
    }

    /// Binds a path of the host: the mount, and the place that it covers.
    fn bind(&mut self, path: &str, recursive: bool, mount: &Mount) -> Result<(OwnedFd, OwnedFd), Failed> {
        self.either_way(|rootfs| {
            let tree = rootfs.clone_host(path, recursive)?;
            rootfs.attach_bind(tree, mount)
        })
    }

    fn attach_bind(&mut self, mut tree: Tree, mount: &Mount) -> Result<(OwnedFd, OwnedFd), Failed> {
        if mount.set | mount.clear != 0 {
            tree.change(mount.set, mount.clear)?;
        }
        let place = self.place_bind(&tree, &mount.target)?;
        Ok((tree.attach(&place, self.stage.as_ref())?, place))
    }

    /// Where a new file system goes, and whether that place is new. proc and sysfs go where the container's root really
    /// has a directory of that name: were /proc a link, masks and labels would land elsewhere (CVE-2023-27561,
    /// CVE-2019-19921).
    fn place_fresh(&mut self, kind: &str, target: &str) -> Result<(OwnedFd, bool), Failed> {
        if matches!(kind, "proc" | "sysfs") {
            return match self.root.resolve_plain(target) {
                Err(failed) if failed.errno() == Some(Errno::NOENT) => {
                    self.root.provide(target, Wanted::Directory)?;
                    self.root.resolve_plain(target)
                }
                resolved => resolved,
            }
            .map(|place| (place, false))
            .doing(|| format!("{target} must be a directory, not a link"));
        }
        let is_deep = target.rfind('/').is_some_and(|slash| slash > 0);
        if !is_deep {
            return self.directory(target);
        }
        // Most often the mount before this one has made the directory that this one needs another in.
        let (parent, name) = self.parent(target)?;
        match Root::provide_in(parent, name)? {
            Some(made) => Ok(made),
            None => self.directory(target),
        }
    }

    /// Where a bind mount goes: a directory for a directory, a file for anything else.
    fn place_bind(&mut self, tree: &Tree, target: &str) -> Result<OwnedFd, Failed> {
        let Some(source) = tree.handle() else {
            return Err(Failed::refused("a new file system is no bind mount"));
        };
        let mode = fstat(source).called(|| "fstat(source)")?.st_mode;
        if target == "/proc" {
            refuse_false_proc(source)?;
        }
        let wanted = if FileType::from_raw_mode(mode) == FileType::Directory {
            Wanted::Directory
        } else {
            Wanted::File
        };
        let place = match wanted {
            Wanted::Directory => self.place_fresh("", target)?.0,
            Wanted::File => {
                let place = self.root.provide(target, Wanted::File)?;
                if !target.starts_with("/proc/") {
                    refuse_inside_proc(&place, target)?;
                }
                place
            }
        };
        Ok(place)
    }

    /// Makes a mount read-only that was made before, now that all below it is in place.
    pub fn seal(&mut self, target: &str) -> Result<(), Failed> {
        let kept = self.kept.iter().rposition(|(at, _)| at == target);
        let handle = match kept {
            Some(index) => self.kept.swap_remove(index).1,
            None => self.root.resolve(target)?,
        };
        attach::change_handle(handle.as_fd(), MOUNT_ATTR_RDONLY, 0).doing(|| format!("seal {target}"))?;
        self.spent.push(handle);
        Ok(())
    }

    /// Makes `/` read-only.
    pub fn seal_root(&self) -> Result<(), Failed> {
        attach::change_handle(self.root.as_fd(), MOUNT_ATTR_RDONLY, 0).doing(|| "seal /")
    }

    /// Changes the propagation of `/`.
    pub fn propagate(&self, how: plan::Propagation) -> Result<(), Failed> {
        attach::propagate_path("/", how).doing(|| format!("make / {how}"))
    }

    /// Makes a directory where there is none.
    pub fn provide_directory(&self, path: &str) -> Result<(), Failed> {
        if path == "/" {
            return Ok(());
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        match self.root.open(path, flags) {
            Err(failed) if failed.errno() == Some(Errno::NOENT) => {
                self.root.provide(path, Wanted::Directory).map(drop).doing(|| format!("make {path}"))
            }
            found => found.map(drop).doing(|| format!("make {path}")),
        }
    }
}

type Data = [(String, Option<String>)];

/// A tmpfs over a directory takes over its mode, unless it is told one.
fn with_mode<'a>(kind: &str, data: &'a Data, place: &OwnedFd) -> Result<Cow<'a, Data>, Failed> {
    if kind != "tmpfs" || data.iter().any(|(key, _)| key == "mode") {
        return Ok(data.into());
    }
    let mode = fstat(place).called(|| "fstat(target)")?.st_mode & 0o7777;
    let mode = ("mode".to_owned(), Some(format!("{mode:o}")));
    Ok(data.iter().cloned().chain([mode]).collect::<Vec<_>>().into())
}

fn is_tmpfs(source: &Source) -> bool {
    matches!(source, Source::New { kind, .. } if kind == "tmpfs")
}

fn told(source: &Source) -> &str {
    match source {
        Source::New { kind, .. } => kind,
        Source::Bind { path, .. } | Source::Mapped(Idmap { path, .. }) => path,
    }
}

/// The plan lets nothing be mounted inside /proc by name; here the same holds for a link that leads there.
pub(crate) fn refuse_inside_proc(place: &OwnedFd, target: &str) -> Result<(), Failed> {
    match fstatfs(place).called(|| "fstatfs(target)")?.f_type {
        PROC_SUPER_MAGIC => Err(Failed::refused(format!("{target} leads into /proc"))),
        _ => Ok(()),
    }
}

/// Only a procfs may stand on /proc: with anything else there, what is written below it goes astray
/// (CVE-2019-16884).
fn refuse_false_proc(source: &OwnedFd) -> Result<(), Failed> {
    match fstatfs(source).called(|| "fstatfs(source)")?.f_type {
        PROC_SUPER_MAGIC => Ok(()),
        _ => Err(Failed::refused("/proc takes nothing but a procfs")),
    }
}
