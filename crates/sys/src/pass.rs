//! Descriptors passed over a socket (unix(7), `SCM_RIGHTS`).

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, send, sendmsg,
};

use crate::{Called, Errno, Failed, last_errno};

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

/// The number of the process that listened, or connected, at the other end of a socket; 0 where our pid namespace does not
/// have it.
pub fn peer(socket: BorrowedFd<'_>) -> Result<i32, Failed> {
    credentials(socket).map(|peer| peer.pid)
}

/// Whose it is: the effective user at the time of that call.
pub fn peer_user(socket: BorrowedFd<'_>) -> Result<u32, Failed> {
    credentials(socket).map(|peer| peer.uid)
}

/// socket(7), `SO_PEERCRED`. rustix's form of the call has no value for a pid of 0.
fn credentials(socket: BorrowedFd<'_>) -> Result<libc::ucred, Failed> {
    let mut peer = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut size = u32::try_from(size_of::<libc::ucred>()).unwrap_or(0);
    // SAFETY: `peer` and `size` live on this frame until the call returns, and `size` is that of `peer`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut size,
        )
    };
    if result == -1 { Err(Failed::call("getsockopt(SO_PEERCRED)", last_errno())) } else { Ok(peer) }
}
