//! The program says that it is ready, and we tell the service manager (sd_notify(3)).

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, send, socket_with,
};
use rustix::pipe::{PipeFlags, pipe_with};
use state::Notify;
use sys::{Called, Doing, Errno, Failed, Pidfd, send_fd};

/// Between the program and the service manager.
#[derive(Debug)]
pub(crate) struct Ready {
    notify: Notify,
    manager: OwnedFd,
    /// Whether it was passed on: what the program says after that is heard, and goes no further.
    is_told: bool,
}

/// How long a service manager may take to say that it has heard us. One that never does is older than the question.
const BARRIER: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

/// The service manager, at the address that `NOTIFY_SOCKET` tells.
pub(crate) fn manager(address: &OsStr) -> Result<OwnedFd, Failed> {
    let dial = || {
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
            .called(|| "socket(AF_UNIX)")?;
        let name = match address.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddrUnix::new_abstract_name(name),
            None => SocketAddrUnix::new(address.as_bytes()),
        };
        let call = || format!("connect(\"{}\")", address.display());
        connect(&socket, &name.called(call)?).called(call)?;
        Ok(socket)
    };
    dial().doing(|| "reach the service manager at NOTIFY_SOCKET")
}

impl Ready {
    pub(crate) fn between(notify: Notify, manager: OwnedFd) -> Self {
        Self { notify, manager, is_told: false }
    }

    /// Hears what was said, and passes it on if it is that the program is ready. `main` is whom the service manager is
    /// to watch from then on.
    pub(crate) fn pass(&mut self, main: i32) -> Result<(), Failed> {
        let heard = self.notify.hear()?;
        let Some(line) = heard.filter(|_| !self.is_told) else { return Ok(()) };
        for words in [format!("{line}\n"), format!("MAINPID={main}\n")] {
            send(&self.manager, words.as_bytes(), SendFlags::NOSIGNAL)
                .called(|| format!("send({words:?})"))
                .doing(|| "tell the service manager")?;
        }
        self.is_told = true;
        Ok(())
    }

    /// Waits until the program is ready or no more, and, since we are about to end, until the service manager has heard
    /// it: it asks the kernel who spoke, and the kernel does not know those who have gone.
    pub(crate) fn wait(mut self, process: &Pidfd, main: i32) -> Result<(), Failed> {
        loop {
            let mut fds = [PollFd::new(&self.notify, PollFlags::IN), PollFd::new(process, PollFlags::IN)];
            match poll(&mut fds, None) {
                Err(Errno::INTR) => continue,
                polled => polled.called(|| "poll(notify)")?,
            };
            let [said, ended] = fds.map(|fd| !fd.revents().is_empty());
            if said {
                self.pass(main)?;
                if self.is_told {
                    return self.barrier();
                }
            }
            if ended && !said {
                return Ok(());
            }
        }
    }

    /// The service manager closes what it was sent once it has read all that came before.
    fn barrier(&self) -> Result<(), Failed> {
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC).called(|| "pipe2(O_CLOEXEC)")?;
        send_fd(self.manager.as_fd(), "BARRIER=1", theirs.as_fd()).doing(|| "tell the service manager")?;
        drop(theirs);
        let mut fds = [PollFd::new(&ours, PollFlags::IN)];
        poll(&mut fds, Some(&BARRIER)).map(drop).called(|| "poll(barrier)")
    }
}

impl AsFd for Ready {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.notify.as_fd()
    }
}
