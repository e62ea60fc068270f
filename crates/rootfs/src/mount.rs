//! Mounts of the document.

use std::borrow::Cow;
use std::os::fd::{AsFd, OwnedFd};

use path::{Root, Wanted};
use plan::{Idmap, Mount, Source};
use rustix::fs::{
    Access, CWD, FileType, OFlags, PROC_SUPER_MAGIC, XattrFlags, access, fstat, fstatfs, readlinkat,
    setxattr, symlinkat,
};
use spec::MOUNT_ATTR_RDONLY;
use sys::{Called, Doing, Errno, Failed};

use crate::Rootfs;
use crate::attach::{self, Change, Fresh, Tree};
use crate::copy::Below;

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
                if data.iter().any(is_long) && self.stage.is_none() {
                    self.set_stage()?;
                }
                let fresh = Fresh { kind, name, flags, data: &data, set: mount.set };
                let below = if mount.copies_up && !is_new {
                    let directory = rustix::io::fcntl_dupfd_cloexec(&place, 0).called(|| "dup()")?;
                    let is_owned = data.iter().any(|(key, _)| matches!(key.as_str(), "uid" | "gid"));
                    Some(Below { directory, is_owned })
                } else {
                    None
                };
                let provide = |rootfs: &mut Self| {
                    let mut tree = fresh.make(&mut rootfs.spent, rootfs.stage.is_some())?;
                    if let Some(below) = &below {
                        tree.fill(below)?;
                    }
                    change_all(&mut tree, mount)?;
                    tree.attach(&place, rootfs.stage.as_ref())
                };
                let otherwise = mount.or_bind.as_deref();
                let made = if otherwise.is_some() { provide(self) } else { self.either_way(provide) };
                match (made, otherwise) {
                    (Err(failed), Some(path)) if failed.errno() == Some(Errno::PERM) => {
                        self.bind(path, true, &read_only(mount))?
                    }
                    (made, _) => (made?, place),
                }
            }
            Source::Mapped(idmap) => {
                let tree = Tree::Detached(self.handles.take(idmap)?);
                self.attach_bind(tree, mount)?
            }
            Source::Bind { path, recursive } => {
                if mount.links.copied && self.copy_link(path, &mount.target)? {
                    return Ok(());
                }
                if mount.is_optional && access(path.as_str(), Access::EXISTS) == Err(Errno::NOENT) {
                    return Ok(());
                }
                self.bind(path, *recursive, mount)?
            }
        };
        if let Some(label) = &mount.label {
            // By the handle's name: there is no such call for one that is opened as a path alone.
            let value = [label.as_bytes(), b"\0"].concat();
            setxattr(attach::name_of(handle.as_fd()), "security.selinux", &value, XattrFlags::empty())
                .called(|| format!("setxattr(\"security.selinux\", {label:?})"))?;
        }
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
            let tree = if mount.links.source {
                attach::clone_link(path, recursive, rootfs.stage.is_some())?
            } else {
                rootfs.clone_host(path, recursive)?
            };
            rootfs.attach_bind(tree, mount)
        })
    }

    fn attach_bind(&mut self, mut tree: Tree, mount: &Mount) -> Result<(OwnedFd, OwnedFd), Failed> {
        let Mount { set, clear, named, .. } = *mount;
        if set | clear != 0 {
            tree.change(Change { set, clear, named })?;
        }
        change_all(&mut tree, mount)?;
        let place = self.place_bind(&tree, &mount.target, mount.links.target)?;
        Ok((tree.attach(&place, self.stage.as_ref())?, place))
    }

    /// Makes a source that is a symbolic link again in the container, and says whether it was one.
    fn copy_link(&mut self, source: &str, target: &str) -> Result<bool, Failed> {
        let link = match readlinkat(CWD, source, Vec::new()) {
            Err(Errno::INVAL) => return Ok(false),
            read => read.called(|| format!("readlink({source:?})"))?,
        };
        let (parent, name) = self.parent(target)?;
        match symlinkat(link.as_c_str(), parent, name) {
            Err(Errno::EXIST) => match readlinkat(parent, name, Vec::new()) {
                Ok(there) if there == link => Ok(true),
                _ => Err(Failed::refused(format!("something else than a link to {link:?} is there already"))),
            },
            made => made.map(|()| true).called(|| format!("symlinkat({link:?}, {name:?})")),
        }
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
            .doing(|| {
                format!("{kind} must be mounted on ordinary directory, not by way of a link: {target}")
            });
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
    fn place_bind(&mut self, tree: &Tree, target: &str, nofollow: bool) -> Result<OwnedFd, Failed> {
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
        if nofollow && let Some(link) = self.link_at(target)? {
            refuse_inside_proc(&link, target)?;
            return Ok(link);
        }
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

    /// The symbolic link at a place, if there is one.
    fn link_at(&self, target: &str) -> Result<Option<OwnedFd>, Failed> {
        let place = match self.root.resolve_link(target) {
            Err(failed) if failed.errno() == Some(Errno::NOENT) => return Ok(None),
            resolved => resolved?,
        };
        let mode = fstat(&place).called(|| "fstat(target)")?.st_mode;
        Ok((FileType::from_raw_mode(mode) == FileType::Symlink).then_some(place))
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

/// The same with all that is mounted below it read-only: what stands in for a file system of the container's own is the
/// host's.
fn read_only(mount: &Mount) -> Mount {
    let (set, clear) = mount.all;
    let all = (set | MOUNT_ATTR_RDONLY, clear & !MOUNT_ATTR_RDONLY);
    Mount { all, clear: mount.clear & !MOUNT_ATTR_RDONLY, ..mount.clone() }
}

fn change_all(tree: &mut Tree, mount: &Mount) -> Result<(), Failed> {
    if mount.all == (0, 0) { Ok(()) } else { tree.change_all(mount.all) }
}

/// fsconfig(2) takes values of 255 bytes at most, mount(2) a page of them; overlays name many directories.
fn is_long((_, value): &(String, Option<String>)) -> bool {
    value.as_ref().is_some_and(|value| value.len() > 255)
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
