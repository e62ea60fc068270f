//! Who is in a container that has no control groups to ask.

use std::ffi::OsStr;

use rustix::fs::stat;
use sys::{Errno, Failed};

use crate::{Error, Known};

/// The processes in init's pid namespace, sorted; init alone where that is not its own.
pub(crate) fn of(known: &Known) -> Result<Vec<i32>, Error> {
    let init = known.pid();
    if init == 0 {
        return Ok(Vec::new());
    }
    if !known.record.own_pids {
        return Ok(vec![init]);
    }
    let Some(wanted) = pid_namespace(init)? else { return Ok(Vec::new()) };
    let entries = std::fs::read_dir("/proc")
        .map_err(|error| Failed::refused(format!("list the processes in /proc: {error}")))?;
    let number = |name: &OsStr| name.to_str()?.parse::<i32>().ok();
    let mut inside = Vec::new();
    for pid in entries.flatten().filter_map(|entry| number(&entry.file_name())) {
        if pid_namespace(pid)? == Some(wanted) {
            inside.push(pid);
        }
    }
    inside.sort_unstable();
    Ok(inside)
}

/// Which it is by device and inode; none of a process that is no more, or is not ours to look at and so not inside.
fn pid_namespace(pid: i32) -> Result<Option<(u64, u64)>, Failed> {
    let path = format!("/proc/{pid}/ns/pid");
    match stat(path.as_str()) {
        Ok(found) => Ok(Some((found.st_dev, found.st_ino))),
        Err(Errno::NOENT | Errno::SRCH | Errno::ACCESS | Errno::PERM) => Ok(None),
        Err(errno) => Err(Failed::call(format!("stat({path:?})"), errno)),
    }
}
