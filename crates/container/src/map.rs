//! Maps: what a child in a new user namespace needs of its parent, who alone has rights outside.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use path::{Procfs, open_host};
use plan::{Handle, Idmap, Maps, map};
use rustix::fs::{CWD, OFlags};
use rustix::io::read;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{chroot, fchdir};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use spec::RlimitKind;
use sys::{Birth, Called, Doing, Errno, Failed, Newborn, Side, fork_into};

/// Writes both maps, whole, each by one write(2): the kernel takes a map once, or not at all.
pub(crate) fn write(pid: i32, maps: &Maps) -> Result<(), Failed> {
    let proc = Procfs::host()?;
    for (file, map) in [("uid_map", &maps.users), ("gid_map", &maps.groups)] {
        proc.write(&format!("{pid}/{file}"), &map::lines(map)).doing(|| format!("map ids by {file}"))?;
    }
    Ok(())
}

/// Makes sure that a process is in a user namespace with these maps: a document may tell those of one that it joins.
pub(crate) fn compare(pid: i32, maps: &Maps) -> Result<(), Failed> {
    for (file, map, field) in
        [("uid_map", &maps.users, "linux.uidMappings"), ("gid_map", &maps.groups, "linux.gidMappings")]
    {
        let shown = probe::read_text(&format!("/proc/{pid}/{file}"))?;
        let same = shown.split_whitespace().eq(map::lines(map).split_whitespace());
        if !same {
            let shown = shown.split_whitespace().collect::<Vec<_>>().join(" ");
            let why = format!("config.json: {field}: the namespace that is joined has {shown}");
            return Err(Failed::refused(why));
        }
    }
    Ok(())
}

/// Writes the `oom_score_adj` of a process, by its number or `self`, which takes a right over the host to lower.
pub(crate) fn score(whose: &str, score: i32) -> Result<(), Failed> {
    Procfs::host()?.write(&format!("{whose}/oom_score_adj"), &score.to_string()).doing(|| "set oom_score_adj")
}

/// Makes sure that our own hard limit is no lower, for a child that could not raise it.
pub(crate) fn raise(kind: RlimitKind, hard: u64) -> Result<(), Failed> {
    confine::raise(kind, hard).doing(|| format!("set rlimit {kind:?}").to_lowercase())
}

/// What of the host a child of ours needs, as it sees it: with its mounts, and our rights.
///
/// A copy of the host's mounts in a user namespace has its flags locked, and what they hide stays hidden: whoever rules
/// there cannot make writable, or uncover, what the host had protected. Trees opened in our own namespace would not have
/// that. Nothing of the container's has run yet, and nothing of it is mounted.
pub(crate) fn open_inside(pid: i32, handles: &[Handle]) -> Result<Vec<OwnedFd>, Failed> {
    if handles.is_empty() {
        // And an ordinary user could not even go there.
        return Ok(Vec::new());
    }
    let users = UserNamespaces::of(pid, handles)?;
    let directory = OFlags::PATH | OFlags::DIRECTORY;
    let (root, here) = (open_host("/", directory)?, open_host(".", directory)?);
    let ours = open_host("/proc/self/ns/mnt", OFlags::RDONLY)?;
    let theirs = open_host(&format!("/proc/{pid}/ns/mnt"), OFlags::RDONLY)?;
    enter(&theirs)?;
    let opened = handles.iter().map(|handle| match handle {
        Handle::Path(path) => open(path),
        Handle::Mapped(idmap) => users.mount(idmap),
    });
    let opened = opened.collect();
    // Root and working directory are the namespace's own after setns(2), whatever ours were.
    enter(&ours)?;
    fchdir(&root).called(|| "fchdir(root)")?;
    chroot(".").called(|| "chroot(root)")?;
    fchdir(&here).called(|| "fchdir(bundle)")?;
    opened
}

/// A user namespace for each map of mounts; a mount takes its map from one.
struct UserNamespaces(Vec<(Option<Maps>, OwnedFd)>);

impl UserNamespaces {
    /// Those that the mounts need; the container's own is that of the process.
    fn of(pid: i32, handles: &[Handle]) -> Result<Self, Failed> {
        let mut all: Vec<(Option<Maps>, OwnedFd)> = Vec::new();
        for handle in handles {
            let Handle::Mapped(Idmap { maps, .. }) = handle else { continue };
            if all.iter().any(|(known, _)| known == maps) {
                continue;
            }
            let users = match maps {
                Some(maps) => with_maps(maps).doing(|| "make a user namespace for a mount")?,
                None => open_host(&format!("/proc/{pid}/ns/user"), OFlags::RDONLY)?,
            };
            all.push((maps.clone(), users));
        }
        Ok(Self(all))
    }

    /// A mount that is attached nowhere, with its ids mapped.
    fn mount(&self, idmap: &Idmap) -> Result<OwnedFd, Failed> {
        let Idmap { path, recursive, maps, deep } = idmap;
        let users = self.0.iter().find(|(known, _)| known == maps).map(|(_, users)| users);
        let users = users.ok_or_else(|| Failed::refused("nobody made a user namespace for this mount"))?;
        let depth = if *recursive { OpenTreeFlags::AT_RECURSIVE } else { OpenTreeFlags::empty() };
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | depth;
        let map = || {
            let tree = open_tree(CWD, path.as_str(), flags).called(|| format!("open_tree({path:?})"))?;
            match sys::map_mount(tree.as_fd(), users.as_fd(), *deep) {
                Err(failed) if failed.errno() == Some(Errno::INVAL) => Err(Failed::refused(format!(
                    "{failed}: its file system, or one mounted below it, does not support mapped ids"
                ))),
                mapped => mapped.map(|()| tree),
            }
        };
        map().doing(|| format!("map the ids of {path}"))
    }
}

/// A user namespace with these maps and nobody in it: whoever it took to make it is gone again.
fn with_maps(maps: &Maps) -> Result<OwnedFd, Failed> {
    let (line, ours) = pipe_with(PipeFlags::CLOEXEC).called(|| "pipe2()")?;
    let birth = Birth { namespaces: sys::namespace::USER, ..Birth::default() };
    let (pid, process) = match fork_into(&birth)? {
        Side::Child(newborn) => sys::leave(linger(&newborn, &line)),
        Side::Parent(pid, process) => (pid, process),
    };
    drop(line);
    let made = write(pid, maps).and_then(|()| open_host(&format!("/proc/{pid}/ns/user"), OFlags::RDONLY));
    drop(ours);
    match process.reap() {
        Ok(_) => made,
        Err(second) => made.and(Err(second)),
    }
}

/// Lives as long as its parent holds the other end of the line.
fn linger(newborn: &Newborn, line: &OwnedFd) -> u8 {
    let mut kept = [line.as_raw_fd().cast_unsigned()];
    if newborn.keep(0, &mut kept).is_err() {
        return 1;
    }
    let mut nothing = [0];
    loop {
        match read(line, &mut nothing) {
            Err(Errno::INTR) => {}
            _ => return 0,
        }
    }
}

/// Without OPEN_TREE_CLONE this is a look-up as for any mount: an automount on the way happens.
fn open(path: &str) -> Result<OwnedFd, Failed> {
    match open_tree(CWD, path, OpenTreeFlags::OPEN_TREE_CLOEXEC) {
        Err(Errno::NOSYS | Errno::PERM) => open_host(path, OFlags::PATH),
        opened => opened.called(|| format!("open_tree({path:?})")),
    }
    .doing(|| format!("open {path} for the container"))
}

fn enter(namespace: &OwnedFd) -> Result<(), Failed> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount)).called(|| "setns(mnt)")
}
