//! The guest's processors: threads of the monitor that are named so. They come and go as they like, and are looked for by
//! name each time.

use std::fs;
use std::os::fd::OwnedFd;

use cgroup::Cgroup;
use plan::sandbox::{Cpus, Pattern};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};
use sys::{Called, Doing, Errno, Failed, Pidfd, read_whole};

use crate::{Error, Record};

/// A thread that is a processor of the guest's.
#[derive(Debug)]
pub(crate) struct Thread {
    pub(crate) tid: i32,
    pub(crate) vcpu: u32,
    /// Its directory in /proc, which is its own as long as it lives, whoever gets its number then.
    directory: OwnedFd,
}

/// What came of waiting for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// As many as were wanted.
    Enough,
    /// Not so many when patience ended.
    TooFew(usize),
    /// The monitor has ended.
    Ended,
}

/// How long a pause between two looks gets at most, in milliseconds. Nobody tells when a process has another thread, but its
/// end wakes us.
const LONGEST: u32 = 64;

/// Waits until the monitor has so many processors, one at least.
pub(crate) fn wait(
    process: &Pidfd,
    pid: i32,
    record: &Record,
    wanted: Option<u32>,
    patience: u32,
) -> Result<Found, Error> {
    let wanted = usize::try_from(wanted.unwrap_or(1)).unwrap_or(usize::MAX);
    let (mut spent, mut pause) = (0, 1);
    loop {
        let count = list(pid, &record.patterns)?.len();
        if count >= wanted {
            return Ok(Found::Enough);
        }
        if process.wait_exit(Some(pause))? {
            return Ok(Found::Ended);
        }
        if spent >= patience {
            return Ok(Found::TooFew(count));
        }
        spent += pause;
        pause = (pause * 2).min(LONGEST);
    }
}

/// Those that there are now; none once the monitor is gone.
pub(crate) fn list(pid: i32, patterns: &[Pattern]) -> Result<Vec<Thread>, Failed> {
    let path = format!("/proc/{pid}/task");
    let told = |error: &std::io::Error| match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(errno) => Failed::call(format!("readdir({path:?})"), errno),
        None => Failed::refused(format!("readdir({path:?}): {error}")),
    };
    let entries = match fs::read_dir(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| told(&error))?,
    };
    let mut threads = Vec::new();
    for entry in entries {
        let entry = match entry {
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => break,
            entry => entry.map_err(|error| told(&error))?,
        };
        let Some(tid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Some(directory) = open(&format!("{path}/{tid}"))? else { continue };
        let Some(name) = name(&directory)? else { continue };
        if let Some(vcpu) = patterns.iter().find_map(|pattern| pattern.vcpu(&name)) {
            threads.push(Thread { tid, vcpu, directory });
        }
    }
    threads.sort_by_key(|thread| (thread.vcpu, thread.tid));
    Ok(threads)
}

/// A directory of /proc; none once it is gone.
fn open(path: &str) -> Result<Option<OwnedFd>, Failed> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match openat(CWD, path, flags, Mode::empty()) {
        Err(Errno::NOENT | Errno::SRCH) => Ok(None),
        opened => opened.map(Some).called(|| format!("open({path:?})")),
    }
}

/// A thread's name; none once it is gone.
fn name(directory: &OwnedFd) -> Result<Option<String>, Failed> {
    let file = match openat(directory, "comm", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT | Errno::SRCH) => return Ok(None),
        opened => opened.called(|| "open(comm)")?,
    };
    match read_whole(&file, "comm", 64, 4096) {
        Err(failed) if failed.errno() == Some(Errno::SRCH) => Ok(None),
        text => Ok(Some(String::from_utf8_lossy(&text?).trim_end_matches('\n').to_owned())),
    }
}

/// How often threads are looked for again that have come meanwhile.
const TRIES: usize = 16;

/// Puts each into its place, and on its processor. Looks again until all are there: one that has come meanwhile is found then,
/// and one that has gone is missed by nobody.
pub(crate) fn place(pid: i32, record: &Record) -> Result<(), Error> {
    let groups = Cgroup::open(&record.threads_in)?;
    for _ in 0..TRIES {
        let threads = list(pid, &record.patterns)?;
        let there = groups.threads()?;
        let is_placed = record.threads_in.groups.is_empty();
        let missing: Vec<&Thread> =
            threads.iter().filter(|thread| !is_placed && !there.contains(&thread.tid)).collect();
        for thread in &missing {
            put(&groups, thread)?;
        }
        if missing.is_empty() {
            return pin(&threads, record);
        }
    }
    Err(Failed::refused(format!("process {pid} gets other threads as fast as they are placed")).into())
}

fn put(groups: &Cgroup, thread: &Thread) -> Result<(), Error> {
    match groups.adopt_thread(thread.tid) {
        // It has gone, before or after its number was written.
        Err(failed) if failed.errno() == Some(Errno::SRCH) => Ok(()),
        Err(failed) if name(&thread.directory)?.is_some() => {
            Err(failed.while_doing(&format!("move processor {}, thread {}", thread.vcpu, thread.tid)).into())
        }
        Err(_) | Ok(()) => Ok(()),
    }
}

/// One processor of the host's for each of the guest's, if there are as many; otherwise all for all, as before.
pub(crate) fn pin(threads: &[Thread], record: &Record) -> Result<(), Error> {
    if !record.pin {
        return Ok(());
    }
    let all = Cpus::of(&record.shares)?.each();
    let pairs = all.as_ref().filter(|all| all.len() == threads.len());
    for (at, thread) in threads.iter().enumerate() {
        let own = pairs.and_then(|all| all.get(at)).map(|one| vec![*one]);
        let set = own.or_else(|| all.clone()).unwrap_or_else(|| (0..MOST).collect());
        stay_on(thread, &set)?;
    }
    Ok(())
}

/// The kernel takes those of them that there are.
const MOST: u16 = 1024;

fn stay_on(thread: &Thread, cpus: &[u16]) -> Result<(), Failed> {
    let mut set = CpuSet::new();
    for cpu in cpus.iter().filter(|cpu| **cpu < MOST) {
        set.set(usize::from(*cpu));
    }
    match sched_setaffinity(Pid::from_raw(thread.tid), &set) {
        Err(Errno::SRCH) => Ok(()),
        set => set
            .called(|| format!("sched_setaffinity({})", thread.tid))
            .doing(|| format!("pin processor {}", thread.vcpu)),
    }
}
