//! Doors: a process that stays, and forks a worker for each thing that may take its time. The worker is us.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use sys::{Called, Doing, Errno, Failed, Pidfd, send_fd};

/// What the one that we work for has given us.
///
/// Whoever is born is its child, not ours (`CLONE_PARENT`): it hears of the exit by the pidfd that it is sent, whatever has
/// become of us by then, and nobody but it reaps.
#[derive(Debug)]
pub struct Door {
    /// Where it is told who was born: the number as a word, with a pidfd.
    pub births: OwnedFd,
    /// Where the master end of the program's terminal goes.
    pub console: Option<OwnedFd>,
}

impl Door {
    /// Tells a birth, before anything else is done with the child.
    pub(crate) fn announce(births: BorrowedFd<'_>, pid: i32, process: &Pidfd) -> Result<(), Failed> {
        send_fd(births, &pid.to_string(), process.as_fd()).doing(|| "tell who was born")
    }

    /// The line of the terminal, for the child.
    pub(crate) fn line(&self) -> Result<OwnedFd, Failed> {
        let line = self.console.as_ref();
        let line =
            line.ok_or_else(|| Failed::refused("the plan has a terminal, and no line was brought for it"))?;
        rustix::io::fcntl_dupfd_cloexec(line, 3).called(|| "fcntl(F_DUPFD_CLOEXEC)")
    }
}

/// Kills a process that was born of us, and waits for its end. One that is not our child is its parent's to reap.
pub(crate) fn end(process: &Pidfd, is_sibling: bool) -> Result<(), Failed> {
    if !is_sibling {
        return process.end();
    }
    match process.signal(sys::SIGKILL) {
        Err(failed) if failed.errno() == Some(Errno::SRCH) => Ok(()),
        Err(failed) => Err(failed),
        Ok(()) => process.wait_exit(None).map(drop),
    }
}
