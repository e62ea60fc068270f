//! The agent that answers system calls in the kernel's place: how it is reached, and what it is told.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use plan::Agent;
use spec::{ProcessState, State, VERSION};
use sys::{Doing, Errno, Failed, send_fd};

use crate::console::dial;

/// How long an agent may take to answer our call, and then to read what we say. Whoever asks for a container can be
/// served by nobody meanwhile: what is beyond this is no agent any more.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection to an agent.
#[derive(Debug)]
pub(crate) struct Line {
    socket: OwnedFd,
    agent: Agent,
}

impl Line {
    /// Calls it.
    pub(crate) fn to(agent: &Agent) -> Result<Self, Failed> {
        let socket = dial(&agent.path, Some(PATIENCE))
            .map_err(slow)
            .doing(|| format!("linux.seccomp.listenerPath: connect the seccomp agent {}", agent.path))?;
        Ok(Self { socket, agent: agent.clone() })
    }

    /// Hands it the listener of a process of this container. Neither connection nor listener stays open here: should the
    /// agent end, calls that it is asked about fail with ENOSYS, and nobody waits for ever.
    pub(crate) fn give(self, listener: OwnedFd, pid: i32, state: State) -> Result<(), Failed> {
        let Self { socket, agent } = self;
        let told = ProcessState {
            oci_version: VERSION.to_owned(),
            fds: vec![ProcessState::SECCOMP_FD.to_owned()],
            pid,
            metadata: agent.metadata,
            state,
        };
        let sent = send_fd(socket.as_fd(), &told.to_line(), listener.as_fd());
        drop(listener);
        sent.map_err(slow).doing(|| {
            format!("linux.seccomp.listenerPath: hand the listener to the seccomp agent {}", agent.path)
        })
    }
}

/// What the kernel says of a deadline is to try again.
fn slow(failed: Failed) -> Failed {
    if failed.errno() == Some(Errno::AGAIN) {
        return failed.while_doing(&format!("nobody took it within {} s", PATIENCE.as_secs()));
    }
    failed
}
