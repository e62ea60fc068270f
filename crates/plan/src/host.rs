//! What `compile` is told beside the document.

use serde::Serialize;

use crate::cgroup::HostCgroups;
use crate::label::Modules;
use crate::seccomp::Kept;

/// What this host can do, as the room `probe` found it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Host {
    /// Control group hierarchies, and where we are in them.
    pub cgroups: HostCgroups,
    /// The ordinary user that we are; none where we are root, be it of a user namespace.
    pub caller: Option<Caller>,
    /// The user namespace that we are root of; none where it is the host's.
    pub inner: Option<Inner>,
    /// Our bounding set: bit n for capability n. What is not in it, nobody below us can have.
    pub bounding: u64,
    /// Signals that our caller ignores: bit n-1 for signal n.
    pub ignored_signals: u64,
    /// Whether the kernel offers its memory as /proc/kcore; /dev/core then leads there.
    pub has_kcore: bool,
    /// Security modules, where labels are asked for.
    pub modules: Modules,
}

/// An ordinary user: somebody without root's rights over the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Caller {
    /// The effective user id.
    pub uid: u32,
    /// The effective group id.
    pub gid: u32,
}

/// A user namespace in which we are root: somebody without root's rights over the host, who may have been given some of its ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Inner {
    /// Whether setgroups(2) is denied in it, and so in all below it.
    pub denies_groups: bool,
}

impl Host {
    /// Whether whoever made our user namespace took the setting of groups from it.
    pub(crate) fn denies_groups(&self) -> bool {
        self.inner.is_some_and(|inner| inner.denies_groups)
    }
}

/// What was asked for on the command line, or by a door.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Request {
    /// The container's id.
    pub id: String,
    /// The bundle directory, absolute and without links.
    pub bundle: String,
    /// Whether setgroups(2) is denied in the user namespace that is joined.
    pub keeps_groups: bool,
    /// `--no-new-keyring`: keep the caller's session keyring.
    pub keep_keyring: bool,
    /// `--no-pivot`: move the root instead of pivoting into it.
    pub no_pivot: bool,
    /// `NOTIFY_SOCKET`: the directory of the host that holds the socket at which the program says that it is ready.
    pub notify: Option<String>,
    /// `LISTEN_FDS`: sockets from descriptor 3 on that were opened for the program.
    pub listen_fds: u32,
    /// `--preserve-fds`: descriptors after those that the program keeps.
    pub preserve_fds: u32,
    /// Whether the program is no first process of a pid namespace, but is looked after by one. The last of the descriptors
    /// that are kept is then not the program's: by it is told how that ended.
    pub attended: bool,
    /// Whether the program waits for `start`.
    pub gated: bool,
    /// Whether nobody of ours stays with the program.
    pub detached: bool,
    /// `--console-socket`: who gets the master end of the program's terminal.
    pub console_socket: Option<String>,
    /// Whether our caller has brought a line for that master end.
    pub console_line: bool,
    /// `--pidfd-socket`: who gets a pidfd of init.
    pub pidfd_socket: Option<String>,
    /// Whether a process of ours is to write down how init ended.
    pub keep_status: bool,
    /// Where the number of init is written, absolute.
    pub pid_file: Option<String>,
    /// What is kept of the document's filter, under [`filter_key`](crate::filter_key).
    pub filter: Kept,
}
