//! The keeper: a process that outlives the command, waits for init's end, and writes down how it ended.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, read, write};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{chdir, setsid};
use rustix::thread::set_name;
use state::{Ended, Entry, Shelf};
use sys::{Called, Doing, Failed, Mask, Newborn, Pidfd, Side, restore_mask};

use crate::birth::Born;
use crate::identity::written;
use crate::wait::exit_of;

/// The command's end of it.
#[derive(Debug)]
pub(crate) struct Keeper {
    /// Whom the record names.
    pub(crate) id: state::Init,
    process: Pidfd,
    line: OwnedFd,
}

impl Keeper {
    /// Forks it. It does nothing, and ends when we do, until it is let go.
    pub(crate) fn fork(entry: &Entry, init: &Born, mask: &Mask) -> Result<Self, Failed> {
        let shelf = entry.shelf()?;
        let (line, end) = pipe_with(PipeFlags::CLOEXEC).called(|| "pipe2()")?;
        match sys::fork().doing(|| "fork a keeper of the exit status")? {
            Side::Child(newborn) => {
                let kept = settle(&newborn, init, &shelf, &line, mask)
                    .and_then(|is_wanted| if is_wanted { keep(init, &shelf) } else { Ok(()) });
                // There is nobody to tell: who asks later finds nothing kept, and says so.
                sys::leave(u8::from(kept.is_err()))
            }
            Side::Parent(pid, process) => Ok(Self { id: written(pid, &process)?, process, line: end }),
        }
    }

    /// It is written down: from here on it is on its own.
    pub(crate) fn release(&self) -> Result<(), Failed> {
        write(&self.line, b"g").map(drop).called(|| "write(keeper)")
    }

    /// Ends it, for a container that comes to nothing.
    pub(crate) fn end(&self) -> Result<(), Failed> {
        self.process.end()
    }
}

/// Gives up all that ties it to its parent's caller: streams, directory, session, descriptors. Whether it is let go.
fn settle(
    newborn: &Newborn,
    init: &Born,
    shelf: &Shelf,
    line: &OwnedFd,
    mask: &Mask,
) -> Result<bool, Failed> {
    let null =
        open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).called(|| "open(\"/dev/null\")")?;
    rustix::stdio::dup2_stdin(&null).called(|| "dup2(0)")?;
    rustix::stdio::dup2_stdout(&null).called(|| "dup2(1)")?;
    rustix::stdio::dup2_stderr(&null).called(|| "dup2(2)")?;
    drop(null);
    let kept = [init.process.as_fd().as_raw_fd(), shelf.as_raw_fd(), line.as_raw_fd()];
    newborn.keep(3, &mut kept.map(i32::cast_unsigned))?;
    setsid().called(|| "setsid()")?;
    chdir("/").called(|| "chdir(\"/\")")?;
    set_name(c"cofferdam-keep").called(|| "prctl(PR_SET_NAME)")?;
    restore_mask(mask)?;
    let mut word = [0; 1];
    loop {
        match read(line, &mut word) {
            Err(Errno::INTR) => {}
            told => return told.map(|length| length == 1).called(|| "read(keeper)"),
        }
    }
}

/// Waits, and writes.
fn keep(init: &Born, shelf: &Shelf) -> Result<(), Failed> {
    match exit_of(&init.process, init.pid)? {
        Some(exit) => shelf.put(&Ended::now(exit)),
        None => Ok(()),
    }
}
