//! Mounts that are born detached and become visible in one place, [`Tree::attach`]; and the old way, for kernels
//! and filters that lack the new one.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use plan::{Propagation, PropagationKind};
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, mkdirat, openat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
    mount, mount_bind, mount_bind_recursive, mount_change, mount_move, mount_remount, move_mount, open_tree,
    unmount,
};
use spec::{
    Flag, MOUNT_ATTR__ATIME, MOUNT_ATTR_NOSYMFOLLOW, MOUNT_ATTR_RDONLY, MountOption, option, options,
};
use sys::{Called, Doing, Errno, Failed, Spent, change_mount, propagate_mount};

use crate::copy::{self, Below};
use crate::enter;

/// A mount that nobody sees yet.
#[derive(Debug)]
pub(crate) enum Tree {
    /// By handle: fsmount(2) or open_tree(2) made it.
    Detached(OwnedFd),
    /// What mount(2) will be asked for, for kernels or filters without the new calls.
    Later(Old),
}

/// What mount(2) will be asked for.
#[derive(Debug)]
pub(crate) enum Old {
    Fresh { kind: String, name: String, data: String, flags: MountFlags, set: u64, then: Then },
    Bind { source: OwnedFd, recursive: bool, change: Option<Change>, then: Then },
}

/// What becomes of the attributes of a mount.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    pub(crate) set: u64,
    pub(crate) clear: u64,
    /// What of `clear` was asked for. The rest stays where another user namespace locked it.
    pub(crate) named: u64,
}

impl Change {
    /// Nothing is written through it any more.
    pub(crate) const READ_ONLY: Self = Self { set: MOUNT_ATTR_RDONLY, clear: 0, named: 0 };

    /// Makes it by a call that takes the bits to be cleared.
    fn make(self, by: impl Fn(u64) -> Result<(), Failed>) -> Result<(), Failed> {
        let mut clear = self.clear;
        loop {
            let spared = match by(clear) {
                // nosymfollow is never locked; before Linux 5.14 nobody knows it, and nothing has it.
                Err(failed) if failed.errno() == Some(Errno::PERM) => {
                    (failed, self.named | clear & MOUNT_ATTR_NOSYMFOLLOW)
                }
                Err(failed) if failed.errno() == Some(Errno::INVAL) => {
                    (failed, clear & !(MOUNT_ATTR_NOSYMFOLLOW & !self.named))
                }
                made => return made,
            };
            match spared {
                (failed, rest) if rest == clear => return Err(failed),
                (_, rest) => clear = rest,
            }
        }
    }
}

/// What is done to a mount once it is made, and before anybody sees it.
#[derive(Debug, Default)]
pub(crate) struct Then {
    /// Attributes set and cleared with all mounts below.
    all: Option<(u64, u64)>,
    /// The directory that it begins as a copy of.
    below: Option<Below>,
}

/// Whether this answer means that the call itself is not there: the kernel's, or a filter's around us.
pub(crate) fn is_missing(failed: &Failed) -> bool {
    matches!(failed.errno(), Some(Errno::NOSYS | Errno::PERM))
}

/// A handle that names the same thing in /proc: mount(2) knows no descriptors.
pub(crate) fn name_of(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

const CLONE: OpenTreeFlags = OpenTreeFlags::OPEN_TREE_CLONE.union(OpenTreeFlags::OPEN_TREE_CLOEXEC);

fn depth(recursive: bool) -> OpenTreeFlags {
    if recursive { OpenTreeFlags::AT_RECURSIVE } else { OpenTreeFlags::empty() }
}

/// A copy of what is mounted at a path of the host, links followed.
pub(crate) fn clone_tree(path: &str, recursive: bool, old: bool) -> Result<Tree, Failed> {
    clone_path(path, recursive, true, old)
}

/// The same; a link at the end of the path is meant itself.
pub(crate) fn clone_link(path: &str, recursive: bool, old: bool) -> Result<Tree, Failed> {
    clone_path(path, recursive, false, old)
}

fn clone_path(path: &str, recursive: bool, follow: bool, old: bool) -> Result<Tree, Failed> {
    if old {
        let nofollow = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
        let source = openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC | nofollow, Mode::empty())
            .called(|| format!("open({path:?})"))?;
        return Ok(Tree::Later(Old::Bind { source, recursive, change: None, then: Then::default() }));
    }
    let nofollow = if follow { OpenTreeFlags::empty() } else { OpenTreeFlags::AT_SYMLINK_NOFOLLOW };
    let tree = open_tree(CWD, path, CLONE | depth(recursive) | nofollow)
        .called(|| format!("open_tree({path:?})"))?;
    Ok(Tree::Detached(tree))
}

/// A copy of what a handle names.
pub(crate) fn clone_handle(place: &OwnedFd, recursive: bool, old: bool) -> Result<Tree, Failed> {
    if old {
        let source = rustix::io::fcntl_dupfd_cloexec(place, 0).called(|| "dup()")?;
        return Ok(Tree::Later(Old::Bind { source, recursive, change: None, then: Then::default() }));
    }
    let flags = CLONE | OpenTreeFlags::AT_EMPTY_PATH | depth(recursive);
    open_tree(place, "", flags).map(Tree::Detached).called(|| "open_tree()")
}

/// A file system to be made.
#[derive(Debug)]
pub(crate) struct Fresh<'a> {
    pub(crate) kind: &'a str,
    pub(crate) name: &'a str,
    pub(crate) flags: &'a [String],
    pub(crate) data: &'a [(String, Option<String>)],
    pub(crate) set: u64,
}

impl Fresh<'_> {
    /// Makes it, or what mount(2) will be asked for.
    pub(crate) fn make(&self, spent: &mut Spent, old: bool) -> Result<Tree, Failed> {
        let &Self { kind, name, flags, data, set } = self;
        if old {
            return Ok(Tree::Later(Old::Fresh {
                kind: kind.to_owned(),
                name: name.to_owned(),
                data: joined(data),
                flags: old_super(flags),
                set,
                then: Then::default(),
            }));
        }
        let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).called(|| format!("fsopen({kind:?})"))?;
        configure(&context, name, flags, data).map_err(|failed| failed.while_doing(&why(&context, kind)))?;
        let attributes = MountAttrFlags::from_bits_retain(u32::try_from(set).unwrap_or(u32::MAX));
        let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
            .called(|| format!("fsmount({kind:?})"))?;
        spent.push(context);
        Ok(Tree::Detached(mount))
    }
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
pub(crate) fn why(context: &OwnedFd, kind: &str) -> String {
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
    pub(crate) fn change(&mut self, what: Change) -> Result<(), Failed> {
        match self {
            Self::Detached(tree) => what.make(|clear| change_new(tree.as_fd(), what.set, clear)),
            Self::Later(Old::Bind { change, .. }) => {
                *change = Some(what);
                Ok(())
            }
            Self::Later(Old::Fresh { .. }) => Ok(()),
        }
    }

    /// Sets and clears attributes of the mount and of all below it.
    pub(crate) fn change_all(&mut self, (set, clear): (u64, u64)) -> Result<(), Failed> {
        match self {
            Self::Detached(tree) => change_below(tree.as_fd(), set, clear),
            Self::Later(Old::Bind { then, .. } | Old::Fresh { then, .. }) => {
                then.all = Some((set, clear));
                Ok(())
            }
        }
    }

    /// Begins it as a copy of a directory.
    pub(crate) fn fill(&mut self, below: &Below) -> Result<(), Failed> {
        match self {
            Self::Detached(tree) => copy::tree(below, tree),
            Self::Later(Old::Bind { then, .. } | Old::Fresh { then, .. }) => {
                let directory = rustix::io::fcntl_dupfd_cloexec(&below.directory, 0).called(|| "dup()")?;
                then.below = Some(Below { directory, is_owned: below.is_owned });
                Ok(())
            }
        }
    }

    /// A handle of what is mounted; none of a file system that mount(2) has yet to make.
    pub(crate) fn handle(&self) -> Option<&OwnedFd> {
        match self {
            Self::Detached(handle) | Self::Later(Old::Bind { source: handle, .. }) => Some(handle),
            Self::Later(Old::Fresh { .. }) => None,
        }
    }

    /// Makes the mount visible at `place` and returns a handle of its root.
    pub(crate) fn attach(self, place: &OwnedFd, stage: Option<&Stage>) -> Result<OwnedFd, Failed> {
        match (self, stage) {
            (Self::Detached(tree), _) => {
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
            (Self::Later(old), Some(stage)) => stage.attach(old, place),
            (Self::Later(_), None) => Err(Failed::refused("mount(2) has no place to prepare a mount in")),
        }
    }
}

fn is_directory(file: &OwnedFd) -> Result<bool, Failed> {
    let stat = fstat(file).called(|| "fstat()")?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

/// Where mounts are prepared when only mount(2) is there: a tmpfs of our own, in which the container has no part.
///
/// A handle of a place stays below what is mounted over it, and mount(2) returns none. To ask for the new mount by the
/// place's name would be to trust the name, which the container may exchange. So it is mounted here first, where names
/// are ours, gets its handle and its attributes, and is then moved, as a whole, onto the place's handle.
#[derive(Debug)]
pub(crate) struct Stage(OwnedFd);

/// A directory that the kernel has kept empty for twenty years: nobody misses it, and no container can exchange it.
const COVERED: &str = "/proc/tty/ldisc";

const DIRECTORY: &str = "directory";
const FILE: &str = "file";

impl Stage {
    /// Sets one up over [`COVERED`], in our own mount namespace.
    pub(crate) fn set() -> Result<Self, Failed> {
        let path = COVERED;
        // Where the host's mounts stayed shared it must not appear there.
        enter::privatise(path)?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("tmpfs", path, "tmpfs", flags, c"mode=700,size=64k")
            .called(|| format!("mount(\"tmpfs\", {path:?})"))?;
        let stage = openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .called(|| format!("open({path:?})"))?;
        mkdirat(&stage, DIRECTORY, Mode::from_raw_mode(0o700)).called(|| "mkdirat(stage)")?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        openat(&stage, FILE, flags, Mode::from_raw_mode(0o600)).called(|| "openat(stage, O_CREAT)")?;
        Ok(Self(stage))
    }

    /// Takes it away.
    pub(crate) fn strike(self) -> Result<(), Failed> {
        drop(self.0);
        unmount(COVERED, UnmountFlags::DETACH).called(|| format!("umount2({COVERED:?}, MNT_DETACH)"))
    }

    fn attach(&self, old: Old, place: &OwnedFd) -> Result<OwnedFd, Failed> {
        let mode = fstat(place).called(|| "fstat(target)")?.st_mode;
        let spot = if FileType::from_raw_mode(mode) == FileType::Directory { DIRECTORY } else { FILE };
        let at = format!("{}/{spot}", name_of(self.0.as_fd()));
        let (change, then) = match old {
            Old::Fresh { kind, name, data, flags, set, then } => {
                let data = std::ffi::CString::new(data)
                    .map_err(|_| Failed::refused("a mount option holds a NUL byte"))?;
                let call = || format!("mount({name:?}, {kind:?}, {data:?})");
                // Read-only is said of the mount, afterwards: said here it would be said of the file system.
                let flags = flags | old_flags(set & !MOUNT_ATTR_RDONLY);
                mount(name.as_str(), at.as_str(), kind.as_str(), flags, data.as_c_str()).called(call)?;
                ((set & MOUNT_ATTR_RDONLY != 0).then_some(Change::READ_ONLY), then)
            }
            Old::Bind { source, recursive, change, then } => {
                let source = name_of(source.as_fd());
                let bind = if recursive { mount_bind_recursive } else { mount_bind };
                bind(source.as_str(), at.as_str()).called(|| format!("mount({source:?}, MS_BIND)"))?;
                (change, then)
            }
        };
        // What is mounted there may be a symbolic link.
        let root = openat(&self.0, spot, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
            .called(|| format!("openat(stage, {spot:?})"))?;
        if let Some(below) = then.below {
            copy::tree(&below, &root)?;
        }
        if let Some(change) = change {
            change_or_spare(root.as_fd(), change)?;
        }
        if let Some((set, clear)) = then.all {
            change_below(root.as_fd(), set, clear)?;
        }
        mount_move(name_of(root.as_fd()).as_str(), name_of(place.as_fd()).as_str())
            .called(|| "mount(MS_MOVE)")?;
        Ok(root)
    }
}

/// The same as [`change_handle`], where others may have locked what was not asked to go.
pub(crate) fn change_or_spare(mount: BorrowedFd<'_>, change: Change) -> Result<(), Failed> {
    change.make(|clear| change_handle(mount, change.set, clear))
}

/// Changes the attributes of a mount that stands in its place: mount_setattr(2), or a remount where that is not there.
pub(crate) fn change_handle(mount: BorrowedFd<'_>, set: u64, clear: u64) -> Result<(), Failed> {
    match change_new(mount, set, clear) {
        Err(failed) if is_missing(&failed) => remount(mount, set, clear),
        changed => changed,
    }
}

/// The same of all mounts below it too: there is no second way, since mount(2) changes one at a time, and what is
/// mounted there meanwhile would be left out.
pub(crate) fn change_below(mount: BorrowedFd<'_>, set: u64, clear: u64) -> Result<(), Failed> {
    let clear = if set & MOUNT_ATTR__ATIME != 0 { clear | MOUNT_ATTR__ATIME } else { clear };
    change_mount(mount, set, clear, true).map_err(|failed| match failed.errno() {
        Some(Errno::NOSYS) => failed.while_doing("change all mounts below (needs Linux 5.12)"),
        Some(Errno::INVAL) if (set | clear) & MOUNT_ATTR_NOSYMFOLLOW != 0 => {
            failed.while_doing("change all mounts below (nosymfollow needs Linux 5.14)")
        }
        Some(Errno::PERM) if clear != 0 => {
            failed.while_doing("change all mounts below (what another user namespace locked stays set)")
        }
        _ => failed.while_doing("change all mounts below"),
    })
}

fn change_new(mount: BorrowedFd<'_>, set: u64, clear: u64) -> Result<(), Failed> {
    // The kernel takes a way to keep access times only when the whole field is cleared for it.
    let clear = if set & MOUNT_ATTR__ATIME != 0 { clear | MOUNT_ATTR__ATIME } else { clear };
    change_mount(mount, set, clear, false)
}

fn remount(mount: BorrowedFd<'_>, set: u64, clear: u64) -> Result<(), Failed> {
    // What was there stays, but for what is told: in another user namespace the kernel lets nobody take it back.
    let mut flags = flags_now(mount)? & !old_flags(clear) | old_flags(set);
    if (set | clear) & MOUNT_ATTR__ATIME != 0 {
        flags -= MountFlags::NOATIME | MountFlags::RELATIME | MountFlags::STRICTATIME;
        // relatime is the word for no bit at all.
        flags |= match set & MOUNT_ATTR__ATIME {
            0 => MountFlags::RELATIME,
            asked => old_flags(asked),
        };
    }
    let name = name_of(mount);
    mount_remount(name.as_str(), flags | MountFlags::BIND, c"")
        .called(|| format!("mount(MS_REMOUNT|MS_BIND, {flags:?})"))
}

/// What a mount has, as mount(2) would be told it.
pub(crate) fn flags_now(mount: BorrowedFd<'_>) -> Result<MountFlags, Failed> {
    let kept = rustix::fs::fstatvfs(mount).called(|| "fstatvfs(mount)")?.f_flag.bits();
    let links = if kept & ST_NOSYMFOLLOW == 0 { 0 } else { MOUNT_ATTR_NOSYMFOLLOW };
    Ok(flags(kept & KEPT) | old_flags(links) | times(kept))
}

/// The `ST_*` flags of statvfs(3) that have the values of the `MS_*` flags: ro, nosuid, nodev, noexec and nodiratime.
const KEPT: u64 = 0b1111 | 2048;
/// The others, <linux/statfs.h>.
const ST_NOATIME: u64 = 1024;
const ST_RELATIME: u64 = 4096;
const ST_NOSYMFOLLOW: u64 = 8192;

fn times(kept: u64) -> MountFlags {
    if kept & ST_NOATIME != 0 {
        MountFlags::NOATIME
    } else if kept & ST_RELATIME != 0 {
        MountFlags::RELATIME
    } else {
        MountFlags::STRICTATIME
    }
}

/// The `MS_*` flags for `MOUNT_ATTR_*` bits.
pub(crate) fn old_flags(attributes: u64) -> MountFlags {
    let told = options().iter().filter_map(|(_, meaning)| match meaning {
        MountOption::Flag(Flag { attr_set, flags_set, .. }) if attributes & attr_set != 0 => Some(*flags_set),
        _ => None,
    });
    flags(told.fold(0, |all, flag| all | flag))
}

/// The `MS_*` flags for words of the superblock, `sync` and its kin.
pub(crate) fn old_super(words: &[String]) -> MountFlags {
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

pub(crate) fn joined(data: &[(String, Option<String>)]) -> String {
    let options = data.iter().map(|(key, value)| match value {
        // A label has commas of its own; the kernel takes it in quotes, and takes them off.
        Some(value) if key == "context" => format!("{key}=\"{value}\""),
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
