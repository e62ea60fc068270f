//! Foreground: signals go in, the exit status comes out, orphans are reaped.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, getpid, set_child_subreaper};
use sys::{Called, Errno, Exit, Failed, Pidfd, Reaped, SIGCHLD, SIGURG, SIGWINCH, SignalFd, restore_mask};

use crate::ready::Ready;
use crate::terminal::{Terminal, Woken};
use crate::{Containers, Created, Error};

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
        let beside = Beside { terminal: created.terminal.take(), ready: created.ready.take() };
        follow(created.pid, &created.init, beside, &mut translate)
    }
}

/// What we attend to beside the process itself.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    pub(crate) terminal: Option<Terminal>,
    pub(crate) ready: Option<Ready>,
}

fn wait(signals: &SignalFd, ready: Option<&Ready>) -> Result<Woken, Failed> {
    let Some(ready) = ready else { return Ok(Woken::Signal) };
    loop {
        let mut fds = [PollFd::new(signals, PollFlags::IN), PollFd::new(ready, PollFlags::IN)];
        match poll(&mut fds, None) {
            Err(Errno::INTR) => continue,
            polled => polled.called(|| "poll(signalfd)")?,
        };
        let [signal, _] = fds.map(|fd| !fd.revents().is_empty());
        return Ok(if signal { Woken::Signal } else { Woken::Word });
    }
}

/// Waits for our child, forwards what reaches us and what is typed, and reaps it and whoever else comes to us.
pub(crate) fn follow(
    pid: i32,
    process: &Pidfd,
    Beside { mut terminal, mut ready }: Beside,
    translate: &mut dyn FnMut(i32) -> Result<i32, Error>,
) -> Result<Exit, Error> {
    let signals = SignalFd::open()?;
    loop {
        let woken = match &mut terminal {
            Some(terminal) => terminal.copy(&signals, ready.as_ref())?,
            None => wait(&signals, ready.as_ref())?,
        };
        if woken == Woken::Word {
            // A service manager that has gone wants to hear nothing more.
            ready =
                ready.and_then(|mut ready| ready.pass(getpid().as_raw_nonzero().get()).ok().map(|()| ready));
            continue;
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
