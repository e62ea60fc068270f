//! The start gate: a socket in the state directory, at which init waits and `start` knocks.
//!
//! Whoever knocks must say "go": init takes one caller, and a caller that hangs up before, because it was killed, ends
//! the container, so that none is ever left between created and running. The line stays open until init has become
//! the program, which closes it; words that come over it before say why it could not.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::read;
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen,
    send, socket_with,
};
use sys::{Called, Doing, Errno, Failed};

use crate::store::{Entry, GATE};

/// The waiting side, handed to init.
#[derive(Debug)]
pub struct Gate(OwnedFd);

/// The knocking side.
#[derive(Debug)]
pub struct Knock(OwnedFd);

const GO: &[u8] = b"go";

/// Longer words than these are cut.
const WORDS: usize = 4096;

fn new_socket() -> Result<OwnedFd, Failed> {
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .called(|| "socket(AF_UNIX)")
}

/// A socket's name may have 107 bytes, and a state root more: the directory goes by its descriptor.
fn address(directory: BorrowedFd<'_>) -> Result<SocketAddrUnix, Failed> {
    let path = format!("/proc/self/fd/{}/{GATE}", directory.as_raw_fd());
    SocketAddrUnix::new(path.as_str()).called(|| format!("sockaddr_un({path:?})"))
}

impl Gate {
    /// Binds the gate in a container's directory.
    pub fn bind(entry: &Entry) -> Result<Self, Failed> {
        let make = || {
            let socket = new_socket()?;
            bind(&socket, &address(entry.directory())?).called(|| "bind(gate)")?;
            listen(&socket, 1).called(|| "listen(gate)")?;
            Ok(Self(socket))
        };
        make().doing(|| "set up the start gate")
    }

    /// Waits until somebody says "go"; the line back to them, or none if they hung up first.
    pub fn wait(self) -> Result<Option<OwnedFd>, Failed> {
        let caller = loop {
            match accept_with(&self.0, SocketFlags::CLOEXEC) {
                Err(Errno::INTR) => {}
                accepted => break accepted.called(|| "accept(gate)")?,
            }
        };
        let mut said = [0; GO.len()];
        let length = read(&caller, &mut said).called(|| "read(gate)")?;
        Ok((said.get(..length) == Some(GO)).then_some(caller))
    }
}

impl AsFd for Gate {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<Gate> for OwnedFd {
    fn from(gate: Gate) -> Self {
        gate.0
    }
}

impl Knock {
    /// Knocks; `ECONNREFUSED` where nobody waits any more.
    pub fn at(entry: &Entry) -> Result<Self, Failed> {
        let make = || {
            let socket = new_socket()?;
            connect(&socket, &address(entry.directory())?).called(|| "connect(gate)")?;
            Ok(Self(socket))
        };
        make().doing(|| "knock at the start gate")
    }

    /// Says "go" and waits until init has become the program; the words that init left where it could not.
    /// `ECONNRESET` or `EPIPE` where init ended without hearing it.
    pub fn go(&self) -> Result<Option<String>, Failed> {
        // Who does not listen any more is no reason for a signal.
        send(&self.0, GO, SendFlags::NOSIGNAL).called(|| "send(gate)").doing(|| "open the start gate")?;
        let mut words = vec![0; WORDS];
        loop {
            match read(&self.0, words.as_mut_slice()) {
                Err(Errno::INTR) => {}
                Ok(0) => return Ok(None),
                Ok(length) => {
                    return Ok(Some(
                        String::from_utf8_lossy(words.get(..length).unwrap_or_default()).into_owned(),
                    ));
                }
                Err(errno) => return Err(Failed::call("read(gate)", errno)),
            }
        }
    }
}
