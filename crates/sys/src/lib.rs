//! The ground: kernel calls that rustix lacks, handle types, and the failed call as an error.
//!
//! Touches: the kernel, through the descriptors and numbers it is given.
//! Never:   decides anything; remembers anything; starts a thread.
//! Begin with [`Failed`].
//!
//! This is the only crate with `unsafe` in it: raw system calls take pointers and return descriptors that
//! somebody must own, and no safe interface exists for those that stand here.
#![allow(unsafe_code)]

mod answer;
mod block;
mod bpf;
mod clone;
mod error;
mod exec;
mod mapped;
mod misc;
mod mount;
mod pass;
mod pidfd;
mod program;
mod read;
mod schedule;
mod seccomp;
mod signal;
mod spent;
mod usage;

pub use answer::{Answer, Call};
pub use block::{LoopDevice, Mapped};
pub use bpf::DeviceFilter;
pub use clone::{Birth, Newborn, Side, fork, fork_into, kind_of_namespace, namespace};
pub use error::{Called, Doing, Failed};
pub use exec::{Strings, environment, execute, execute_fd, protected_view, seal};
pub use mapped::{is_first_map, is_mapped};
pub use misc::{
    first_closed, join_keyring, leave, loopback_up, open_streams, raise_limit, set_groups, set_limit,
    unshare_cgroup, unshare_mounts, unshare_time, unshare_users,
};
pub use mount::{change_mount, map_mount, propagate_mount};
pub use pass::{peer, peer_user, receive_fd, send_fd};
pub use pidfd::{Exit, Pidfd, Reaped, exited_child, reap_any};
pub use program::{begin, print, tell};
pub use read::{read_path, read_whole};
pub use rustix::io::Errno;
pub use schedule::{
    Scheduling, set_io_priority, set_memory_policy, set_personality, set_scheduler, share_cores_with_nobody,
};
pub use seccomp::{has_filter_flags, load_filter};
pub use signal::{
    ENDING, Held, Mask, SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGKILL, SIGSTOP, SIGTERM, SIGURG, SIGUSR1,
    SIGWINCH, SignalFd, asks_to_end, block_signals, default_signals, heed_signals, restore_mask,
    unblock_signals,
};
pub use spent::Spent;
pub use usage::peak_of_children;

/// Makes `$run`, a `fn() -> u8`, the program's entry: the C library calls it directly.
///
/// Rust's own start-up would cost a dozen system calls, ignore SIGPIPE and handle SIGSEGV on a stack of its own;
/// a container must inherit none of that. `std::env` works all the same, the C library hands it the arguments.
#[macro_export]
macro_rules! entry {
    ($run:path) => {
        // SAFETY: `main` has the type that the C library calls it with, and no other symbol bears the name:
        // the crate is `no_main`.
        #[unsafe(no_mangle)]
        extern "C" fn main(_count: i32, _arguments: *const *const u8) -> i32 {
            i32::from($run())
        }
    };
}

/// The error number that the last libc call left.
fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
