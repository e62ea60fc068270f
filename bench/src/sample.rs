//! What one run weighs: memory, and system calls.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::process::{Command, ExitCode, Stdio};

use crate::Error;
use crate::place::Place;
use crate::runtime::Runtime;

/// The largest resident set, in KiB, of the processes of one run: the median of several.
///
/// A copy of this program starts each run, because a process begins with the size of the one that started it, and
/// this one has grown. That copy's own size, about that of the floor, is the least that can be told.
pub(crate) fn peak(runtime: &Runtime, place: &Place) -> Result<u64, Error> {
    let mut peaks = Vec::new();
    for round in 0..9 {
        let run = runtime.run(&format!("bench-{}-peak-{round}", std::process::id()), place);
        let output = Command::new(std::env::current_exe()?)
            .arg("--peak")
            .arg(run.get_program())
            .args(run.get_args())
            .stderr(Stdio::inherit())
            .output()?;
        let told = String::from_utf8_lossy(&output.stdout);
        peaks.push(
            told.trim()
                .parse::<u64>()
                .map_err(|_| format!("{} under --peak: {}", runtime.name, output.status))?,
        );
    }
    peaks.sort_unstable();
    Ok(peaks[peaks.len() / 2])
}

/// `bench --peak COMMAND...`: runs it once and prints the peak.
pub(crate) fn tell_peak(command: &[OsString]) -> Result<ExitCode, Error> {
    let (program, arguments) = command.split_first().ok_or("--peak wants a command")?;
    let status = Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    if !status.success() {
        return Err(format!("{}: {status}", program.display()).into());
    }
    writeln!(io::stdout(), "{}", sys::peak_of_children()?)?;
    Ok(ExitCode::SUCCESS)
}

/// The system calls of one run, by name, those of the container's own program among them.
pub(crate) struct Calls {
    pub(crate) by_name: BTreeMap<String, u64>,
}

/// Calls that make nothing: a runtime makes them to be sure of what it holds, to look before it acts, or to keep
/// something from leaking. Told by name alone, so the loader's own few are among them.
const CHECKS: &[&str] = &[
    "access",
    "close_range",
    "faccessat",
    "faccessat2",
    "fstat",
    "fstatfs",
    "getcwd",
    "getdents64",
    "lsetxattr",
    "lstat",
    "newfstatat",
    "openat2",
    "readlink",
    "readlinkat",
    "stat",
    "statfs",
    "statx",
];

impl Calls {
    pub(crate) fn total(&self) -> u64 {
        self.by_name.values().sum()
    }

    pub(crate) fn checks(&self) -> u64 {
        self.by_name.iter().filter(|(name, _)| CHECKS.contains(&name.as_str())).map(|(_, count)| count).sum()
    }
}

/// Counted by strace in a run of its own, which is not timed.
pub(crate) fn system_calls(runtime: &Runtime, place: &Place) -> Result<Calls, Error> {
    let told = place.state.join("strace");
    let run = runtime.run(&format!("bench-{}-calls", std::process::id()), place);
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-c", "-U", "calls,name", "-o"])
        .arg(&told)
        .arg(run.get_program())
        .args(run.get_args());
    let status = strace
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .map_err(|error| format!("strace: {error}"))?;
    if !status.success() {
        return Err(format!("{} under strace: {status}", runtime.name).into());
    }
    Ok(Calls { by_name: counts(&fs::read_to_string(&told)?) })
}

/// Reads the table that strace prints of its columns `calls` and `name`.
fn counts(table: &str) -> BTreeMap<String, u64> {
    let lines = table.lines().filter_map(|line| {
        let (count, name) = line.trim().split_once(' ')?;
        Some((name.trim().to_owned(), count.parse().ok()?))
    });
    lines.filter(|(name, _)| name != "total").collect()
}

#[cfg(test)]
mod tests {
    use super::{Calls, counts};

    #[test]
    fn the_table_of_strace_is_read_without_its_frame() {
        let table = "    calls syscall\n--------- ----------------\n       41 mount\n        2 fstat\n\
                     --------- ----------------\n       43 total\n";
        let calls = Calls { by_name: counts(table) };
        assert_eq!(calls.by_name, [("fstat".into(), 2), ("mount".into(), 41)].into());
        assert_eq!((calls.total(), calls.checks()), (43, 2));
    }
}
