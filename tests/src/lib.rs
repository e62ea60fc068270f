//! The second ring's harness: what every test that needs root on a real kernel stands on.
//!
//! Touches: directories of its own below /tmp, processes it started, and cgroups and mounts that carry their name.
//! Never:   changes the host's mount table or services, sleeps in place of an event, skips without saying so.
//! Begin with [`Bundle`], then [`Runtime::under_test`] and [`Bundle::container`].
//!
//! Everything one test makes carries the test's own marker, the name of its bundle: the container's id, its cgroups,
//! the paths of its mounts, a variable in the environment of each of its processes. So tests run side by side and still
//! see what they left behind; a bundle that goes out of scope looks, and fails its test when there is something.
//!
//! Environment: `COFFERDAM` names the runtime under test, `COFFERDAM_SHIM` the containerd shim, `COFFERDAM_SKIPS` a file that takes one line for each skipped
//! test, `COFFERDAM_NO_SKIPS=1` makes every skip a failure, `COFFERDAM_CACHE` is where the Debian root file system lies,
//! `COFFERDAM_VM` says that this is the virtual machine of `make test-vm`, `COFFERDAM_PATIENCE` how many times as long to wait as on a machine of its own,
//! `COFFERDAM_ROUNDS` how many lives a shim is tested with, one after the other.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::missing_panics_doc,
    reason = "a harness fails the test it serves by panicking, and tells why where the test's output goes"
)]

mod agent;
mod apart;
mod bundle;
pub mod callers;
pub mod containerd;
pub mod debian;
mod device;
pub mod differences;
mod docker;
mod groups;
mod guard;
mod home;
mod needs;
mod packages;
pub mod player;
mod podman;
pub mod pty;
mod publisher;
mod receiver;
mod rpc;
mod runtime;
mod shim;
mod snapshot;
pub mod trace;
mod wait;

pub use agent::{Agent, Answer, Conduct, Heard};
pub use apart::Apart;
pub use bundle::Bundle;
pub use containerd::{Age, Containerd};
pub use device::{Client, Device};
pub use docker::Docker;
pub use groups::{Groups, Limit};
pub use guard::Guard;
pub use home::{AS_GUEST_USER, Delegated, GUEST_USER, Home, USER};
pub use needs::{Need, figure, skipped};
pub use packages::Packages;
pub use player::{Call, Fifo, Place, Player, Service, Streams};
pub use podman::Podman;
pub use publisher::{Event, Publisher};
pub use receiver::{Received, Receiver};
pub use rpc::{Line, Pending, Refused};
pub use runtime::{Container, Invocation, Output, Process, Runtime};
pub use shim::Shim;
pub use snapshot::Snapshot;
pub use wait::{Lines, adopt, channel, gone_within, patience, ready_within, until};

use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// How long a single command may take before its test has failed: far beyond anything a healthy one needs.
pub const LIMIT: Duration = Duration::from_secs(30);

/// The variable by which every process of a test is known, whatever became of its parent.
pub const MARKER: &str = "COFFERDAM_TEST";

/// Copies a program by cp(1): what we open to write, a child that another test forks just then has open too, and as long as it
/// has, nobody can execute it (`ETXTBSY`).
pub fn copy_program(from: impl AsRef<Path>, to: impl AsRef<Path>) {
    let (from, to) = (from.as_ref(), to.as_ref());
    let copied = Command::new("cp").args([from, to]).status();
    assert!(copied.is_ok_and(|copied| copied.success()), "copy {} to {}", from.display(), to.display());
}
