//! Whom the program's terminal goes to, and sockets of the host's that are sent a descriptor.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use path::open_host;
use plan::Master;
use rustix::fs::OFlags;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, socketpair};
use sys::{Called, Doing, Failed, Pidfd, receive_fd, send_fd};

use crate::door::Door;
use crate::terminal::{Caller, Terminal};

/// What came of a plan's terminal before the program was born.
#[derive(Debug)]
pub(crate) struct Console {
    /// The child's end of the line.
    pub(crate) line: OwnedFd,
    /// Ours, where the terminal comes to us.
    pub(crate) front: Option<Front>,
}

/// We are the ones who get the master end.
#[derive(Debug)]
pub(crate) struct Front {
    line: OwnedFd,
    caller: Caller,
}

impl Console {
    /// The line, with somebody at its other end.
    pub(crate) fn reach(master: &Master, door: Option<&Door>) -> Result<Self, Failed> {
        match master {
            Master::Line => {
                let door = door.ok_or_else(|| Failed::refused("the plan has a line that nobody brought"))?;
                Ok(Self { line: door.line()?, front: None })
            }
            Master::Socket(path) => {
                let line = dial(path, None).doing(|| format!("connect the console socket {path}"))?;
                Ok(Self { line, front: None })
            }
            Master::Us => {
                let caller = Caller::find().doing(|| "take the caller's terminal")?;
                let (child, line) =
                    socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                        .called(|| "socketpair(AF_UNIX)")?;
                Ok(Self { line: child, front: Some(Front { line, caller }) })
            }
        }
    }
}

impl Front {
    /// Takes over what the child sent; from here on our caller's terminal passes everything on.
    pub(crate) fn take(self) -> Result<Terminal, Failed> {
        let master = receive_fd(self.line.as_fd()).doing(|| "receive the master end")?;
        Terminal::between(self.caller, master)
    }
}

/// Who is sent a pidfd.
#[derive(Debug)]
pub(crate) struct Introduced {
    socket: OwnedFd,
    path: String,
}

impl Introduced {
    /// Whoever listens at this socket.
    pub(crate) fn to(path: &str) -> Result<Self, Failed> {
        let socket = dial(path, None).doing(|| format!("connect the pidfd socket {path}"))?;
        Ok(Self { socket, path: path.to_owned() })
    }

    /// Sends it; `word` says of what kind the process is.
    pub(crate) fn send(&self, word: &str, process: &Pidfd) -> Result<(), Failed> {
        let sent = send_fd(self.socket.as_fd(), word, process.as_fd());
        sent.doing(|| format!("send a pidfd to {}", self.path))
    }
}

/// The longest name that a socket's address has room for, without the byte that ends it.
const NAME: usize = 107;

/// Connects to a stream socket of the host's. With `patience`, whoever listens but does not take the call, or does not read
/// what is said, is waited for no longer than that: `EAGAIN`.
pub(crate) fn dial(path: &str, patience: Option<Duration>) -> Result<OwnedFd, Failed> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .called(|| "socket(AF_UNIX)")?;
    if patience.is_some() {
        set_socket_timeout(&socket, Timeout::Send, patience).called(|| "setsockopt(SO_SNDTIMEO)")?;
    }
    let call = || format!("connect({path:?})");
    let address = |name: &str| SocketAddrUnix::new(name).called(|| format!("sockaddr_un({name:?})"));
    if let Some(name) = path.strip_prefix('@') {
        let address = SocketAddrUnix::new_abstract_name(name.as_bytes());
        connect(&socket, &address.called(|| format!("sockaddr_un({path:?})"))?).called(call)?;
    } else if path.len() <= NAME {
        connect(&socket, &address(path)?).called(call)?;
    } else {
        // A handle's name is short enough, whatever it is a handle of.
        let place = open_host(path, OFlags::PATH)?;
        connect(&socket, &address(&format!("/proc/self/fd/{}", place.as_raw_fd()))?).called(call)?;
    }
    Ok(socket)
}
