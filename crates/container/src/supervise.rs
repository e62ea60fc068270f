//! Foreground: signals go in, the exit status comes out, orphans are reaped.

use rustix::process::{Pid, getpid, set_child_subreaper};
use sys::{Called, Errno, Exit, Pidfd, Reaped, SignalFd, restore_mask};

use crate::terminal::Terminal;
use crate::{Containers, Created, Error};

pub(crate) const SIGCHLD: i32 = 17;
pub(crate) const SIGURG: i32 = 23;
pub(crate) const SIGWINCH: i32 = 28;

/// Makes processes that lose their parent in the container come to us, not to the host's init.
pub(crate) fn adopt_orphans() -> Result<(), Error> {
    let ourselves: Pid = getpid();
    Ok(set_child_subreaper(Some(ourselves)).called(|| "prctl(PR_SET_CHILD_SUBREAPER)")?)
}

impl Containers {
    /// Becomes the one to whom the container's orphans come; to be called before it is created.
    pub fn adopt_orphans(&self) -> Result<(), Error> {
        adopt_orphans()
    }

    /// Waits until init is no more, forwards every signal that reaches us to it, and reaps what comes to us.
    pub fn supervise(&self, created: &mut Created) -> Result<Exit, Error> {
        let exit = self.attend(created, Ok)?;
        restore_mask(&created.mask)?;
        Ok(exit)
    }

    /// The same, with signals blocked also afterwards, and with a say in what is sent to init for each that reaches us.
    pub fn attend(
        &self,
        created: &mut Created,
        mut translate: impl FnMut(i32) -> Result<i32, Error>,
    ) -> Result<Exit, Error> {
        follow(created.pid, &created.init, created.terminal.take(), &mut translate)
    }
}

/// Waits for our child, forwards what reaches us and what is typed, and reaps it and whoever else comes to us.
pub(crate) fn follow(
    pid: i32,
    process: &Pidfd,
    mut terminal: Option<Terminal>,
    translate: &mut dyn FnMut(i32) -> Result<i32, Error>,
) -> Result<Exit, Error> {
    let signals = SignalFd::open()?;
    loop {
        if let Some(terminal) = &mut terminal {
            terminal.copy(&signals)?;
        }
        match signals.next_signal()? {
            SIGCHLD => {
                if let Some(exit) = reap(pid)? {
                    terminal.map_or(Ok(()), |terminal| terminal.end(&signals))?;
                    return Ok(exit);
                }
            }
            SIGWINCH => terminal.iter().for_each(Terminal::resize),
            // It says nothing to a process without sockets of ours.
            SIGURG => {}
            signal => match process.signal(translate(signal)?) {
                Err(failed) if failed.errno() != Some(Errno::SRCH) => return Err(failed.into()),
                _ => {}
            },
        }
    }
}

/// Reaps everybody who waits for it; init's exit if it was among them. One SIGCHLD may stand for many.
fn reap(wanted: i32) -> Result<Option<Exit>, Error> {
    let mut exit = None;
    loop {
        match sys::reap_any()? {
            Reaped::Process(pid, how) if pid == wanted => exit = Some(how),
            Reaped::Process(..) => {}
            Reaped::NoneYet | Reaped::NoChild => return Ok(exit),
        }
    }
}
