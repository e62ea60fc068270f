//! Maps: what a child in a new user namespace needs of its parent, who alone has rights outside.

use std::os::fd::{AsFd, OwnedFd};

use path::{Procfs, open_host};
use plan::{Maps, map};
use rustix::fs::{CWD, OFlags};
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::process::{chroot, fchdir};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use spec::RlimitKind;
use sys::{Called, Doing, Failed};

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

/// Handles of paths of the host, as a child of ours sees them: with its mounts, and our rights.
///
/// A copy of the host's mounts in a user namespace has its flags locked, and what they hide stays hidden: whoever rules
/// there cannot make writable, or uncover, what the host had protected. Trees opened in our own namespace would not have
/// that. Nothing of the container's has run yet, and nothing of it is mounted.
pub(crate) fn open_inside(pid: i32, paths: &[String]) -> Result<Vec<OwnedFd>, Failed> {
    let directory = OFlags::PATH | OFlags::DIRECTORY;
    let (root, here) = (open_host("/", directory)?, open_host(".", directory)?);
    let ours = open_host("/proc/self/ns/mnt", OFlags::RDONLY)?;
    let theirs = open_host(&format!("/proc/{pid}/ns/mnt"), OFlags::RDONLY)?;
    enter(&theirs)?;
    let opened = paths.iter().map(|path| open(path)).collect();
    // Root and working directory are the namespace's own after setns(2), whatever ours were.
    enter(&ours)?;
    fchdir(&root).called(|| "fchdir(root)")?;
    chroot(".").called(|| "chroot(root)")?;
    fchdir(&here).called(|| "fchdir(bundle)")?;
    opened
}

/// Without OPEN_TREE_CLONE this is a look-up as for any mount: an automount on the way happens.
fn open(path: &str) -> Result<OwnedFd, Failed> {
    match open_tree(CWD, path, OpenTreeFlags::OPEN_TREE_CLOEXEC) {
        Err(sys::Errno::NOSYS | sys::Errno::PERM) => open_host(path, OFlags::PATH),
        opened => opened.called(|| format!("open_tree({path:?})")),
    }
    .doing(|| format!("open {path} for the container"))
}

fn enter(namespace: &OwnedFd) -> Result<(), Failed> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount)).called(|| "setns(mnt)")
}
