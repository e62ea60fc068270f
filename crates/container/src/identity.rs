//! Identity: how a process is written down, so that it is known again when its number may be another's.

use state::Init;
use sys::{Errno, Failed, Pidfd};

/// A process, as it is written down.
pub fn written(pid: i32, process: &Pidfd) -> Result<Init, Failed> {
    let birthmark = process.birthmark()?;
    let start_time = if birthmark.is_none() { start_time(pid)? } else { None };
    Ok(Init { pid, birthmark, start_time })
}

/// The process that was written down, if it is there, also as a zombie: not another one that was given its number.
pub fn same(init: &Init) -> Result<Option<Pidfd>, Failed> {
    let process = match Pidfd::open(init.pid) {
        Ok(process) => process,
        Err(failed) if failed.errno() == Some(Errno::SRCH) => return Ok(None),
        Err(failed) => return Err(failed),
    };
    let is_it = match init.birthmark {
        Some(birthmark) => process.birthmark()? == Some(birthmark),
        None => start_time(init.pid)? == init.start_time,
    };
    Ok(if is_it { Some(process) } else { None })
}

/// When a process was born, in clock ticks since boot; none if there is no such process.
pub(crate) fn start_time(pid: i32) -> Result<Option<u64>, Failed> {
    stat_field(pid, 22)
}

/// A field of /proc/PID/stat, as proc_pid_stat(5) numbers them from the third on; none if there is no such process.
pub(crate) fn stat_field(pid: i32, number: usize) -> Result<Option<u64>, Failed> {
    match probe::read_text(&format!("/proc/{pid}/stat")) {
        Ok(stat) => Ok(field_of(&stat, number)),
        Err(failed) if matches!(failed.errno(), Some(Errno::NOENT | Errno::SRCH)) => Ok(None),
        Err(failed) => Err(failed),
    }
}

/// The same of its text.
pub(crate) fn field_of(stat: &str, number: usize) -> Option<u64> {
    // The name, second, is in parentheses and may hold anything; the third comes after the last one.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}
