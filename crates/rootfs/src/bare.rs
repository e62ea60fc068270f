//! What would show a bare /proc or /sys to whoever is inside, where the old root stays beneath the new one.
//!
//! The kernel lets a user namespace mount proc or sysfs where one without masks is in its mount namespace already, seen
//! or not (mount_namespaces(7)). Pivoting takes the host's away; moving the root does not.

use std::os::fd::{AsFd, AsRawFd};

use plan::{Propagation, PropagationKind};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use sys::{Called, Doing, Errno, Failed, read_whole};

use crate::{Rootfs, attach};

/// A line of /proc/self/mountinfo, as proc_pid_mountinfo(5) has it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    id: u64,
    parent: u64,
    at: String,
    /// Whether it is all of a proc or a sysfs.
    is_bare: bool,
}

impl Rootfs {
    /// Takes every proc and sysfs away that does not lie in the root, from the calling process's mount namespace alone.
    pub(crate) fn strip_host(&self) -> Result<(), Failed> {
        let number = self.root.as_fd().as_raw_fd();
        let told = text(&format!("/proc/self/fdinfo/{number}"))?;
        let ours = told.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
        let ours = ours.ok_or_else(|| Failed::refused("fdinfo does not tell the mount of the root"))?;
        let lines: Vec<Line> = text("/proc/self/mountinfo")?.lines().filter_map(line).collect();
        // What was mounted last lies on top.
        outside(&lines, ours)?.into_iter().rev().try_for_each(|at| take_away(&at))
    }
}

fn take_away(at: &str) -> Result<(), Failed> {
    // A shared mount would go from the host as well.
    attach::propagate_path(at, Propagation { kind: PropagationKind::Slave, recursive: true })
        .doing(|| format!("make {at} ours alone"))?;
    match unmount(at, UnmountFlags::DETACH) {
        // Whoever owns another user namespace has locked it where it is: it is covered, and so no longer bare.
        Err(Errno::INVAL | Errno::PERM) => {
            let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
            mount("tmpfs", at, "tmpfs", flags, None).called(|| format!("mount(tmpfs, {at:?})"))
        }
        done => done.called(|| format!("umount2({at:?}, MNT_DETACH)")),
    }
}

/// Where bare ones lie that are none of the root's, in the order in which they were mounted.
fn outside(lines: &[Line], root: u64) -> Result<Vec<String>, Failed> {
    let mut inside = vec![root];
    // A mount may come before its parent in the table, if that was moved: as often as something is found.
    loop {
        let more = lines.iter().filter(|line| inside.contains(&line.parent) && !inside.contains(&line.id));
        let more: Vec<u64> = more.map(|line| line.id).collect();
        if more.is_empty() {
            break;
        }
        inside.extend(more);
    }
    let place =
        lines.iter().find(|line| line.id == root).map(|line| format!("{}/", line.at.trim_end_matches('/')));
    let place = place.ok_or_else(|| Failed::refused("mountinfo does not show the root"))?;
    let bare = lines.iter().filter(|line| line.is_bare && !inside.contains(&line.id));
    bare.map(|line| {
        // No path leads there: the root covers it.
        if line.at.starts_with(&place) {
            return Err(Failed::refused(format!(
                "{} is the host's, and would be bare beneath the root",
                line.at
            )));
        }
        Ok(line.at.clone())
    })
    .collect()
}

/// "36 35 98:0 /root /mount/point options tags - type source super"
fn line(text: &str) -> Option<Line> {
    let (before, after) = text.split_once(" - ")?;
    let mut before = before.split(' ');
    let (id, parent) = (before.next()?.parse().ok()?, before.next()?.parse().ok()?);
    let is_whole = before.nth(1)? == "/";
    let at = String::from_utf8_lossy(&path::unescape(before.next()?)).into_owned();
    let kind = after.split(' ').next()?;
    Some(Line { id, parent, at, is_bare: is_whole && matches!(kind, "proc" | "sysfs") })
}

fn text(path: &str) -> Result<String, Failed> {
    let file = openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .called(|| format!("open({path:?})"))?;
    let bytes = read_whole(&file, path, 1 << 16, 64 << 20)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
1 1 8:1 / / rw - ext4 /dev/sda rw
2 1 0:2 / /proc rw shared:3 - proc proc rw
3 1 0:3 / /sys rw - sysfs sysfs rw
4 1 0:2 /sys /mnt/a\\040part rw - proc proc rw
5 1 0:2 / /mnt/a\\040whole rw - proc proc rw
6 1 8:1 /bundle/rootfs /bundle/rootfs rw - ext4 /dev/sda rw
7 8 0:9 / /bundle/rootfs/deep/proc rw - proc proc rw
8 6 0:8 / /bundle/rootfs/deep rw - tmpfs tmpfs rw
";

    fn lines(table: &str) -> Vec<Line> {
        table.lines().filter_map(line).collect()
    }

    #[test]
    fn whole_ones_of_the_hosts_are_found() {
        let found = outside(&lines(TABLE), 6).map_err(|failed| failed.to_string());
        assert_eq!(found, Ok(["/proc", "/sys", "/mnt/a whole"].map(str::to_owned).to_vec()));
    }

    #[test]
    fn one_beneath_the_root_is_refused() {
        let table = format!("9 1 0:2 / /bundle/rootfs/proc rw - proc proc rw\n{TABLE}");
        let found = outside(&lines(&table), 6).map_err(|failed| failed.to_string());
        let told = "/bundle/rootfs/proc is the host's, and would be bare beneath the root";
        assert_eq!(found, Err(told.to_owned()));
    }
}
