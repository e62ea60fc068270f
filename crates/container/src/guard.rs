//! The guard: a process that sets a terminal as it was when we did not live to.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::io::{read, write};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::setsid;
use rustix::termios::{OptionalActions, Termios, tcsetattr};
use sys::{Birth, Called, Doing, Errno, Failed, Pidfd, Side, fork_into};

/// A child of ours that holds the terminal and one end of a pipe, and nothing else.
#[derive(Debug)]
pub(crate) struct Guard {
    pipe: OwnedFd,
    process: Pidfd,
}

impl Guard {
    /// Posts one. All signals are blocked in us, and so in it; in a session of its own it may write to a terminal that
    /// has another job in front, and nobody who ends our process group ends it too.
    pub(crate) fn set(tty: &OwnedFd, before: &Termios) -> Result<Self, Failed> {
        let (ours, pipe) = pipe_with(PipeFlags::CLOEXEC).called(|| "pipe2(O_CLOEXEC)")?;
        match fork_into(&Birth::default()).doing(|| "post a guard over the terminal")? {
            Side::Child(newborn) => {
                let mut kept = [tty, &ours].map(|fd| fd.as_raw_fd().cast_unsigned());
                let alone = newborn.keep(0, &mut kept).is_ok() && setsid().is_ok();
                sys::leave(u8::from(!alone || !watch(tty, &ours, before)))
            }
            Side::Parent(_, process) => Ok(Self { pipe, process }),
        }
    }

    /// Lets it go: all is as it was.
    pub(crate) fn dismiss(self) -> Result<(), Failed> {
        match write(&self.pipe, b"d") {
            // It was ended by somebody else, who had to use force.
            Err(Errno::PIPE) => {}
            told => told.map(drop).called(|| "write(guard)")?,
        }
        match self.process.reap() {
            // Whoever follows the program has reaped it, with everybody else.
            Err(failed) if failed.errno() == Some(Errno::CHILD) => Ok(()),
            reaped => reaped.map(drop),
        }
    }
}

/// Waits for a word from us, or for our end, which closes the pipe.
fn watch(tty: &OwnedFd, pipe: &OwnedFd, before: &Termios) -> bool {
    let mut word = [0; 1];
    loop {
        match read(pipe.as_fd(), &mut word) {
            Err(Errno::INTR) => {}
            Ok(1) => return true,
            _ => return tcsetattr(tty, OptionalActions::Now, before).is_ok(),
        }
    }
}
