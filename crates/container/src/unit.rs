//! A unit of a service manager's, in the making: it needs a process to begin with, and init is not there yet.

use std::os::fd::{AsRawFd, OwnedFd};

use cgroup::Systemd;
use plan::systemd::{Held, Unit};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::read;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::chdir;
use rustix::thread::set_name;
use sys::{Called, Doing, Errno, Failed, Mask, Newborn, Pidfd, Side, restore_mask};

/// A process of ours that does nothing, and ends when we do.
#[derive(Debug)]
pub struct Placeholder {
    /// Its number, for the manager.
    pub pid: i32,
    process: Pidfd,
    /// What it waits at.
    _line: OwnedFd,
}

impl Placeholder {
    /// Forks it.
    pub fn fork(mask: &Mask) -> Result<Self, Failed> {
        let (line, ours) = pipe_with(PipeFlags::CLOEXEC).called(|| "pipe2()")?;
        match sys::fork().doing(|| "fork a process to make a unit around")? {
            Side::Child(newborn) => sys::leave(u8::from(rest(&newborn, &line, mask).is_err())),
            Side::Parent(pid, process) => Ok(Self { pid, process, _line: ours }),
        }
    }

    /// Ends it.
    pub fn end(self) -> Result<(), Failed> {
        self.process.end()
    }
}

/// Holds nothing of its parent's, and waits until that is no more.
fn rest(newborn: &Newborn, line: &OwnedFd, mask: &Mask) -> Result<(), Failed> {
    let null =
        open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).called(|| "open(\"/dev/null\")")?;
    rustix::stdio::dup2_stdin(&null).called(|| "dup2(0)")?;
    rustix::stdio::dup2_stdout(&null).called(|| "dup2(1)")?;
    rustix::stdio::dup2_stderr(&null).called(|| "dup2(2)")?;
    newborn.keep(3, &mut [line.as_raw_fd().cast_unsigned()])?;
    chdir("/").called(|| "chdir(\"/\")")?;
    set_name(c"cofferdam-hold").called(|| "prctl(PR_SET_NAME)")?;
    restore_mask(mask)?;
    let mut word = [0; 1];
    loop {
        match read(line, &mut word) {
            Err(Errno::INTR) => {}
            told => return told.map(drop).called(|| "read(hold)"),
        }
    }
}

/// Has the manager make a unit.
pub fn start(unit: &Unit, placeholder: Option<&Placeholder>) -> Result<Systemd, Failed> {
    let mut systemd = Systemd::reach(&unit.held.bus).doing(|| "--systemd-cgroup")?;
    systemd.start(unit, placeholder.map(|placeholder| placeholder.pid))?;
    Ok(systemd)
}

/// Takes it away again; on a line of its own, since the one it was made on may be what failed.
pub fn stop(held: &Held) -> Result<(), Failed> {
    Systemd::reach(&held.bus)
        .and_then(|mut systemd| systemd.stop(held))
        .doing(|| format!("remove the unit {}", held.unit))
}
