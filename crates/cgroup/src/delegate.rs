//! Handing a group over to who manages it from inside (cgroups(7), "Delegation").

use std::os::fd::AsFd;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Uid, chownat, openat};
use sys::{Called, Doing, Errno, Failed, read_whole};

use crate::Group;

/// Where the kernel lists the files that go with the directory; since Linux 4.15.
const LIST: &str = "/sys/kernel/cgroup/delegate";

/// Those that every list has.
const ALWAYS: &str = "cgroup.procs\ncgroup.threads\ncgroup.subtree_control\n";

impl Group {
    /// Gives the directory, and the files that go with it, to a user. All others stay ours: limits are not for those
    /// whom they limit.
    pub(crate) fn hand_over(&self, owner: u32) -> Result<(), Failed> {
        self.give(owner).doing(|| format!("hand {} over to {owner}", self.place.path()))
    }

    fn give(&self, owner: u32) -> Result<(), Failed> {
        let directory = self.place.directory()?;
        let give = |file: &str, flags| {
            chownat(directory.as_fd(), file, Some(Uid::from_raw(owner)), None, flags)
                .called(|| format!("fchownat({file:?}, {owner})"))
        };
        give("", AtFlags::EMPTY_PATH)?;
        for file in listed()?.split_whitespace() {
            match give(file, AtFlags::SYMLINK_NOFOLLOW) {
                // The list is of all that any group may have.
                Err(failed) if failed.errno() == Some(Errno::NOENT) => {}
                given => given?,
            }
        }
        Ok(())
    }
}

fn listed() -> Result<String, Failed> {
    let file = match openat(CWD, LIST, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(ALWAYS.to_owned()),
        opened => opened.called(|| format!("open({LIST:?})"))?,
    };
    let text = read_whole(&file, LIST, 4096, 4096)?;
    String::from_utf8(text).map_err(|_| Failed::refused(format!("{LIST} is not UTF-8")))
}
