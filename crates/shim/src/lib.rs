//! The containerd shim: containers of our engine as containerd's tasks.
//!
//! Touches: its socket, the bundle's directory, fifos and loggers that it is told, containerd's socket for events.
//! Never:   executes a runtime; starts a thread; waits for what may block, which workers do (room `engine`); matches an exit by
//!          the number of a process.
//! Begin with [`run`].
//!
//! containerd calls `start` in a bundle, and reads the address of a socket from it. Behind that is the *server*, one for a
//! container or for all of a pod's, which lives until the last of them is gone and containerd tells it to go. `delete` takes
//! away what a dead server left. docs/shim.md tells more.

mod address;
mod arguments;
mod bootstrap;
mod delete;
mod events;
mod info;
mod log;
mod options;
mod pending;
mod ready;
mod server;
mod start;
mod stats;
mod streams;
mod task;
mod wire;

use crate::arguments::{Action, Arguments};

/// What the program was called with.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The arguments, without the program's name.
    pub arguments: Vec<String>,
    /// `TTRPC_ADDRESS`: where containerd takes events.
    pub events: Option<String>,
    /// `GRPC_ADDRESS`, which containerd 1.7 and later set.
    pub grpc: Option<String>,
    /// `SCHED_CORE`: whether what we start shares its cores with nobody else.
    pub core_scheduling: bool,
    /// `DBUS_SYSTEM_BUS_ADDRESS`.
    pub bus: Option<String>,
}

/// Does what the arguments say; the exit status.
pub fn run(surroundings: &Surroundings) -> u8 {
    let done = Arguments::read(surroundings.arguments.iter().cloned()).and_then(|arguments| {
        if arguments.version {
            return info::version();
        }
        if arguments.info {
            return info::info();
        }
        if arguments.namespace.is_empty() {
            return Err("shim namespace cannot be empty".to_owned());
        }
        match arguments.action {
            Action::Start => start::start(&arguments, surroundings),
            Action::Delete => delete::delete(&arguments, surroundings),
            Action::Serve => server::serve(&arguments, surroundings),
        }
    });
    match done {
        Ok(()) => 0,
        Err(why) => {
            // Nobody may be left to hear it.
            let line = format!("containerd-shim-cofferdam-v2: {why}\n");
            let _unheard = rustix::io::write(rustix::stdio::stderr(), line.as_bytes());
            1
        }
    }
}

/// The state root of a namespace's containers.
fn state_root(prefix: &str, namespace: &str) -> String {
    let prefix = if prefix.is_empty() { STATE } else { prefix };
    format!("{}/{namespace}", prefix.trim_end_matches('/'))
}

const STATE: &str = "/run/containerd/cofferdam";
