//! An agent that answers system calls in the kernel's place, as those do that listen at `linux.seccomp.listenerPath`.
//!
//! It speaks to the kernel by libseccomp: what we hand over is what others understand.

use std::fs;
use std::io::{IoSliceMut, PipeWriter};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use libseccomp::{ScmpArch, ScmpNotifReq, ScmpNotifResp, ScmpNotifRespFlags};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::Value;

use crate::{Bundle, LIMIT, ready_within};

/// What an agent says about a call.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// It is made.
    Continue,
    /// It fails with this error number.
    Fail(i32),
    /// Nothing: whoever made it waits.
    Never,
}

/// How an agent goes about its work.
#[derive(Clone, Copy, Debug)]
pub enum Conduct {
    /// It answers calls by their names.
    Answers(fn(&str) -> Answer),
    /// It takes the listener, and closes it.
    Forgets,
    /// It takes a call, and hangs up before anything is said.
    HangsUp,
}

/// All that an agent was told.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// What came with each listener.
    pub states: Vec<Value>,
    /// Names of the calls that it was asked about.
    pub calls: Vec<String>,
}

/// One that listens in a thread of the test until this value goes. It serves its callers one after the other.
#[derive(Debug)]
pub struct Agent {
    heard: Arc<Mutex<Heard>>,
    path: PathBuf,
    life: Option<(PipeWriter, JoinHandle<()>)>,
}

impl Agent {
    /// Listens in the bundle's directory; whoever finds the socket may call.
    pub fn new(bundle: &Bundle, conduct: Conduct) -> Self {
        let path = bundle.dir().join("agent");
        let listener = UnixListener::bind(&path).expect("listen at a socket");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("it is ours");
        Self::at(listener, path, conduct)
    }

    /// Listens at a name that no file has.
    pub fn without_file(name: &str, conduct: Conduct) -> Self {
        let address = SocketAddr::from_abstract_name(name).expect("a name");
        Self::at(UnixListener::bind_addr(&address).expect("listen at a socket"), PathBuf::new(), conduct)
    }

    fn at(listener: UnixListener, path: PathBuf, conduct: Conduct) -> Self {
        let heard = Arc::new(Mutex::new(Heard::default()));
        let (end, alive) = std::io::pipe().expect("pipe");
        let desk = Desk { listener, end: end.into(), conduct, heard: Arc::clone(&heard), held: Vec::new() };
        let thread = thread::spawn(move || desk.serve());
        Self { heard, path, life: Some((alive, thread)) }
    }

    /// For the document.
    pub fn path(&self) -> &str {
        self.path.to_str().expect("the bundle's path is ASCII")
    }

    /// What it was told so far.
    pub fn heard(&self) -> Heard {
        self.heard.lock().expect("the agent lives").clone()
    }

    /// Ends it; what it has open is closed.
    pub fn die(&mut self) {
        if let Some((alive, thread)) = self.life.take() {
            drop(alive);
            let ended = thread.join();
            // A test that fails already has said what matters.
            assert!(ended.is_ok() || thread::panicking(), "the agent panicked");
            let _none = fs::remove_file(&self.path);
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.die();
    }
}

/// What the agent's thread has before it.
struct Desk {
    listener: UnixListener,
    /// Hangs up when the agent is to end.
    end: OwnedFd,
    conduct: Conduct,
    heard: Arc<Mutex<Heard>>,
    held: Vec<OwnedFd>,
}

impl Desk {
    fn serve(mut self) {
        loop {
            let mut fds =
                vec![PollFd::new(&self.end, PollFlags::IN), PollFd::new(&self.listener, PollFlags::IN)];
            fds.extend(self.held.iter().map(|held| PollFd::new(held, PollFlags::IN)));
            poll(&mut fds, None).expect("poll");
            let seen: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
            if !seen[0].is_empty() {
                return;
            }
            for (held, seen) in self.held.iter().zip(&seen[2..]) {
                if seen.contains(PollFlags::IN) {
                    self.answer(held);
                }
            }
            // Nobody is left whose calls it could hear of.
            let mut seen_of = seen[2..].iter();
            self.held.retain(|_| !seen_of.next().is_some_and(|seen| seen.contains(PollFlags::HUP)));
            if !seen[1].is_empty() {
                let (caller, _) = self.listener.accept().expect("take a call");
                if !matches!(self.conduct, Conduct::HangsUp) {
                    self.take(&caller);
                }
            }
        }
    }

    /// One message is the state, with the listener beside it.
    fn take(&mut self, caller: &UnixStream) {
        assert!(ready_within(caller, LIMIT), "the caller says nothing");
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut words = vec![0; 1 << 16];
        let told =
            recvmsg(caller, &mut [IoSliceMut::new(&mut words)], &mut ancillary, RecvFlags::CMSG_CLOEXEC);
        let length = told.expect("receive a message").bytes;
        let fds: Vec<OwnedFd> = ancillary
            .drain()
            .flat_map(|message| match message {
                RecvAncillaryMessage::ScmRights(fds) => fds.collect(),
                _ => Vec::new(),
            })
            .collect();
        if length == 0 {
            // A runtime that was killed before it had anything to say.
            return;
        }
        let state: Value = serde_json::from_slice(&words[..length]).expect("one whole document");
        let named = state["fds"].as_array().map(Vec::len);
        assert_eq!(named, Some(fds.len()), "{state}");
        self.heard.lock().expect("nobody panics with it").states.push(state);
        if matches!(self.conduct, Conduct::Answers(_)) {
            self.held.extend(fds);
        }
    }

    fn answer(&self, held: &OwnedFd) {
        let Conduct::Answers(answer) = self.conduct else { return };
        // Whoever made the call may be gone by now, before or after we have heard of it.
        let Ok(asked) = ScmpNotifReq::receive(held.as_raw_fd()) else { return };
        let call = asked.data.syscall.get_name_by_arch(ScmpArch::Native).expect("a call with a name");
        let none = ScmpNotifRespFlags::empty();
        let said = match answer(&call) {
            Answer::Continue => Some(ScmpNotifResp::new_continue(asked.id, none)),
            Answer::Fail(errno) => Some(ScmpNotifResp::new_error(asked.id, -errno, none)),
            Answer::Never => None,
        };
        self.heard.lock().expect("nobody panics with it").calls.push(call);
        let _gone = said.map(|said| said.respond(held.as_raw_fd()));
    }
}
