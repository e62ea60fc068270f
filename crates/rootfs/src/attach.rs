//! Mounts that are born detached and become visible in one place, [`Tree::attach`]; and the old way, for kernels
//! and filters that lack the new one.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use plan::{Propagation, PropagationKind};
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount,
    mount_bind, mount_bind_recursive, mount_change, mount_remount, move_mount, open_tree,
};
use spec::{Flag, MOUNT_ATTR__ATIME, MountOption, option, options};
use sys::{Called, Doing, Errno, Failed, Spent, change_mount, propagate_mount};

/// A mount that nobody sees yet.
#[derive(Debug)]
pub(crate) enum Tree {
    /// By handle: fsmount(2) or open_tree(2) made it.
    Detached(OwnedFd),
    /// By name, made where it will stand: for kernels or filters without the new calls.
    Later(Old),
}

/// What mount(2) will be asked for.
#[derive(Debug)]
pub(crate) enum Old {
    Fresh { kind: String, name: String, data: String, flags: MountFlags },
    Bind { path: String, recursive: bool, flags: Option<(u64, u64)> },
}

/// Whether this answer means that the call itself is not there: the kernel's, or a filter's around us.
pub(crate) fn is_missing(failed: &Failed) -> bool {
    matches!(failed.errno(), Some(Errno::NOSYS | Errno::PERM))
}

/// A handle that names the same thing in /proc: mount(2) knows no descriptors.
pub(crate) fn name_of(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// A copy of what is mounted at a path of the host, links followed.
pub(crate) fn clone_tree(path: &str, recursive: bool) -> Result<Tree, Failed> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    match open_tree(CWD, path, flags).called(|| format!("open_tree({path:?})")) {
        Ok(tree) => Ok(Tree::Detached(tree)),
        Err(failed) if is_missing(&failed) => {
            Ok(Tree::Later(Old::Bind { path: path.to_owned(), recursive, flags: None }))
        }
        Err(failed) => Err(failed),
    }
}

/// A copy of what a handle names.
pub(crate) fn clone_handle(place: &OwnedFd, recursive: bool) -> Result<Tree, Failed> {
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    match open_tree(place, "", flags).called(|| "open_tree()") {
        Ok(tree) => Ok(Tree::Detached(tree)),
        Err(failed) if is_missing(&failed) => {
            Ok(Tree::Later(Old::Bind { path: name_of(place.as_fd()), recursive, flags: None }))
        }
        Err(failed) => Err(failed),
    }
}

/// A new file system of this type.
pub(crate) fn fresh(
    kind: &str,
    name: &str,
    flags: &[String],
    data: &[(String, Option<String>)],
    attributes: u64,
    spent: &mut Spent,
) -> Result<Tree, Failed> {
    let context = match fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).called(|| format!("fsopen({kind:?})")) {
        Ok(context) => context,
        Err(failed) if is_missing(&failed) => {
            let flags = old_flags(attributes) | old_super(flags);
            return Ok(Tree::Later(Old::Fresh {
                kind: kind.to_owned(),
                name: name.to_owned(),
                data: joined(data),
                flags,
            }));
        }
        Err(failed) => return Err(failed),
    };
    configure(&context, name, flags, data).map_err(|failed| failed.while_doing(&why(&context, kind)))?;
    let attributes = MountAttrFlags::from_bits_retain(u32::try_from(attributes).unwrap_or(u32::MAX));
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .called(|| format!("fsmount({kind:?})"))?;
    spent.push(context);
    Ok(Tree::Detached(mount))
}

fn configure(
    context: &OwnedFd,
    name: &str,
    flags: &[String],
    data: &[(String, Option<String>)],
) -> Result<(), Failed> {
    // What mountinfo shows as the source.
    fsconfig_set_string(context, "source", name).called(|| format!("fsconfig(\"source\", {name:?})"))?;
    for flag in flags {
        fsconfig_set_flag(context, flag.as_str()).called(|| format!("fsconfig({flag:?})"))?;
    }
    for (key, value) in data {
        match value {
            Some(value) => fsconfig_set_string(context, key.as_str(), value.as_str())
                .called(|| format!("fsconfig({key:?}, {value:?})"))?,
            None => fsconfig_set_flag(context, key.as_str()).called(|| format!("fsconfig({key:?})"))?,
        }
    }
    fsconfig_create(context).called(|| "fsconfig(CMD_CREATE)")
}

/// What the file system wrote into its log about the last call, or its type if it wrote nothing.
fn why(context: &OwnedFd, kind: &str) -> String {
    let mut log = [0u8; 512];
    match rustix::io::read(context, &mut log) {
        Ok(length) if length > 2 => {
            // "e something": a level, a space, the text.
            let text = String::from_utf8_lossy(log.get(2..length).unwrap_or_default());
            text.trim_end().replace('\n', " ")
        }
        _ => kind.to_owned(),
    }
}

impl Tree {
    /// Sets and clears attributes before anybody sees the mount.
    pub(crate) fn change(&mut self, set: u64, clear: u64) -> Result<(), Failed> {
        match self {
            Self::Detached(tree) => change_handle(tree.as_fd(), set, clear),
            Self::Later(Old::Bind { flags, .. }) => {
                *flags = Some((set, clear));
                Ok(())
            }
            Self::Later(Old::Fresh { .. }) => Ok(()),
        }
    }

    /// Makes the mount visible at `place` and returns a handle of its root.
    pub(crate) fn attach(self, place: &OwnedFd) -> Result<OwnedFd, Failed> {
        match self {
            Self::Detached(tree) => {
                let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
                let moved = move_mount(&tree, "", place, "", flags);
                // mount(2) says ENOTDIR here, which dockerd makes a hint of; move_mount(2) has one answer for all.
                let moved = match moved {
                    Err(Errno::INVAL) if is_directory(&tree)? != is_directory(place)? => Err(Errno::NOTDIR),
                    moved => moved,
                };
                moved.called(|| "move_mount()")?;
                Ok(tree)
            }
            Self::Later(old) => old.attach(place),
        }
    }
}

fn is_directory(file: &OwnedFd) -> Result<bool, Failed> {
    let stat = fstat(file).called(|| "fstat()")?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

impl Old {
    fn attach(self, place: &OwnedFd) -> Result<OwnedFd, Failed> {
        let target = name_of(place.as_fd());
        let change = match self {
            Self::Fresh { kind, name, data, flags } => {
                let data = std::ffi::CString::new(data)
                    .map_err(|_| Failed::refused("a mount option holds a NUL byte"))?;
                let call = || format!("mount({name:?}, {kind:?}, {data:?})");
                mount(name.as_str(), target.as_str(), kind.as_str(), flags, data.as_c_str()).called(call)?;
                None
            }
            Self::Bind { path, recursive, flags } => {
                if recursive {
                    mount_bind_recursive(path.as_str(), target.as_str())
                        .called(|| format!("mount({path:?}, MS_BIND|MS_REC)"))?;
                } else {
                    mount_bind(path.as_str(), target.as_str())
                        .called(|| format!("mount({path:?}, MS_BIND)"))?;
                }
                flags
            }
        };
        let root = top_of(place)?;
        if let Some((set, clear)) = change {
            change_handle(root.as_fd(), set, clear)?;
        }
        Ok(root)
    }
}

/// The root of what is mounted on top of a place that we hold a handle of.
///
/// A handle stays below what is mounted over it later. `..` and the way back would lead up, but through names; the
/// link in /proc is followed to the same place and then, as any path is, up to what is mounted there.
pub(crate) fn top_of(place: &OwnedFd) -> Result<OwnedFd, Failed> {
    let name = name_of(place.as_fd());
    openat(CWD, name.as_str(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .called(|| format!("open({name:?})"))
}

/// mount_setattr(2), or a remount where that is not there.
pub(crate) fn change_handle(mount: BorrowedFd<'_>, set: u64, clear: u64) -> Result<(), Failed> {
    // The kernel takes a way to keep access times only when the whole field is cleared for it.
    let clear = if set & MOUNT_ATTR__ATIME != 0 { clear | MOUNT_ATTR__ATIME } else { clear };
    match change_mount(mount, set, clear, false) {
        Err(failed) if failed.errno() == Some(Errno::NOSYS) => remount(mount, set, clear),
        changed => changed,
    }
}

fn remount(mount: BorrowedFd<'_>, set: u64, clear: u64) -> Result<(), Failed> {
    let kept = rustix::fs::fstatvfs(mount).called(|| "fstatvfs(mount)")?.f_flag;
    // The ST_* flags of statvfs(3) have the values of the MS_* flags for the four that matter here.
    let kept = MountFlags::from_bits_truncate(u32::try_from(kept.bits()).unwrap_or(0) & 0b1111);
    let flags = kept & !old_flags(clear) | old_flags(set);
    let name = name_of(mount);
    mount_remount(name.as_str(), flags | MountFlags::BIND, c"")
        .called(|| format!("mount(MS_REMOUNT|MS_BIND, {flags:?})"))
}

/// The `MS_*` flags for `MOUNT_ATTR_*` bits.
fn old_flags(attributes: u64) -> MountFlags {
    let told = options().iter().filter_map(|(_, meaning)| match meaning {
        MountOption::Flag(Flag { attr_set, flags_set, .. }) if attributes & attr_set != 0 => Some(*flags_set),
        _ => None,
    });
    flags(told.fold(0, |all, flag| all | flag))
}

/// The `MS_*` flags for words of the superblock, `sync` and its kin.
fn old_super(words: &[String]) -> MountFlags {
    let told = words.iter().filter_map(|word| match option(word)? {
        MountOption::Flag(flag) => Some(flag.flags_set),
        _ => None,
    });
    flags(told.fold(0, |all, flag| all | flag))
}

fn flags(bits: u64) -> MountFlags {
    // All MS_* flags that have a word lie in the lower half.
    MountFlags::from_bits_retain(u32::try_from(bits).unwrap_or(0))
}

fn joined(data: &[(String, Option<String>)]) -> String {
    let options = data.iter().map(|(key, value)| match value {
        Some(value) => format!("{key}={value}"),
        None => key.clone(),
    });
    options.collect::<Vec<_>>().join(",")
}

/// Changes the propagation of the mount at a path.
pub(crate) fn propagate_path(path: &str, how: Propagation) -> Result<(), Failed> {
    let mut flags = match how.kind {
        PropagationKind::Private => MountPropagationFlags::PRIVATE,
        PropagationKind::Shared => MountPropagationFlags::SHARED,
        PropagationKind::Slave => MountPropagationFlags::DOWNSTREAM,
        PropagationKind::Unbindable => MountPropagationFlags::UNBINDABLE,
    };
    if how.recursive {
        flags |= MountPropagationFlags::REC;
    }
    mount_change(path, flags).called(|| format!("mount({path:?}, {flags:?})"))
}

/// The same by handle of the mount's root.
pub(crate) fn propagate(mount: BorrowedFd<'_>, how: Propagation) -> Result<(), Failed> {
    match propagate_mount(mount, how.bit(), how.recursive) {
        Err(failed) if is_missing(&failed) => propagate_path(&name_of(mount), how),
        changed => changed,
    }
    .doing(|| format!("make it {how}"))
}
