//! Whoever listens at a socket for one descriptor, as the callers of runc do.

use std::fs;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::{Bundle, LIMIT, ready_within};

/// A socket at a path, removed with this value.
#[derive(Debug)]
pub struct Receiver {
    listener: UnixListener,
    path: PathBuf,
}

/// All that came over one connection, until its other end was closed.
#[derive(Debug)]
pub struct Received {
    /// The payload.
    pub words: Vec<u8>,
    /// How many messages it came in.
    pub messages: usize,
    /// The descriptors.
    pub fds: Vec<OwnedFd>,
}

impl Receiver {
    /// Listens in the bundle's directory.
    pub fn new(bundle: &Bundle, name: &str) -> Self {
        let path = bundle.dir().join(name);
        let listener = UnixListener::bind(&path).expect("listen at a socket");
        Self { listener, path }
    }

    /// For the command line.
    pub fn path(&self) -> &str {
        self.path.to_str().expect("the bundle's path is ASCII")
    }

    /// Where it is.
    pub fn place(&self) -> &Path {
        &self.path
    }

    /// The next caller.
    pub fn caller(&self) -> UnixStream {
        assert!(ready_within(&self.listener, LIMIT), "nobody called at {}", self.path.display());
        self.listener.accept().expect("take a call").0
    }

    /// Takes one call and listens to it to its end.
    pub fn receive(&self) -> Received {
        let caller = self.caller();
        let mut received = Received { words: Vec::new(), messages: 0, fds: Vec::new() };
        loop {
            assert!(ready_within(&caller, LIMIT), "the caller says nothing more, and stays");
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let mut words = [0; 4096];
            let told =
                recvmsg(&caller, &mut [IoSliceMut::new(&mut words)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
                    .expect("receive a message");
            if told.bytes == 0 {
                return received;
            }
            received.messages += 1;
            received.words.extend_from_slice(&words[..told.bytes]);
            for message in ancillary.drain() {
                if let RecvAncillaryMessage::ScmRights(fds) = message {
                    received.fds.extend(fds);
                }
            }
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // A test may have taken it away itself.
        let _gone = fs::remove_file(&self.path);
    }
}
