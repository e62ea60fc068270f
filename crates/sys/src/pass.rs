//! Descriptors passed over a socket (unix(7), `SCM_RIGHTS`).

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, send, sendmsg,
};

use crate::{Called, Errno, Failed};

/// Sends one descriptor with a word that says what it is, in one message; what of a long word a stream has no room for
/// follows when there is. `EPIPE` where nobody listens any more; no signal.
pub fn send_fd(socket: BorrowedFd<'_>, word: &str, fd: BorrowedFd<'_>) -> Result<(), Failed> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = [fd];
    if !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(Failed::refused("there is no space for one descriptor"));
    }
    let mut rest = loop {
        match sendmsg(socket, &[IoSlice::new(word.as_bytes())], &mut ancillary, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            sent => break word.as_bytes().get(sent.called(|| "sendmsg(SCM_RIGHTS)")?..).unwrap_or_default(),
        }
    };
    while !rest.is_empty() {
        match send(socket, rest, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            sent => rest = rest.get(sent.called(|| "send()")?..).unwrap_or_default(),
        }
    }
    Ok(())
}

/// Receives one descriptor that was sent before; never waits (`EAGAIN`). More than one, or none, is refused.
pub fn receive_fd(socket: BorrowedFd<'_>) -> Result<OwnedFd, Failed> {
    // Room for two: the second one would be lost in silence otherwise.
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut word = [0; 256];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    recvmsg(socket, &mut [IoSliceMut::new(&mut word)], &mut ancillary, flags)
        .called(|| "recvmsg(SCM_RIGHTS)")?;
    let mut fds = ancillary.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => fds.collect(),
        _ => Vec::new(),
    });
    match (fds.next(), fds.next()) {
        (Some(fd), None) => Ok(fd),
        _ => Err(Failed::refused("not one descriptor came over the socket")),
    }
}
