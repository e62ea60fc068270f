//! Steps: the parent's acts and the child's steps.

use serde::{Deserialize, Serialize};
use spec::{NamespaceKind, RlimitKind};

use crate::hook::Hook;
use crate::label::Label;
use crate::map::{Handle, Maps};
use crate::mount::{Mount, Propagation, Remount};
use crate::{Agent, Filter};

/// What the parent does, in order. Each act that leaves something behind knows its undoing.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub enum Act {
    /// Claims the id with its state directory, locked.
    Claim,
    /// Writes the intent record: from here on `delete` finds everything.
    Intend,
    /// Has a service manager make the unit of the plan, around a process of ours that does nothing.
    Unit,
    /// Makes the cgroup number n of the plan, with its limits.
    Group(usize),
    /// Binds the start gate in the state directory.
    Listen,
    /// Confines itself to these CPUs, with the child that is to be born.
    StayOn(Numbers),
    /// Opens a namespace that is joined, before any is.
    Open {
        /// Of this kind.
        kind: NamespaceKind,
        /// As the document writes it, a path on the host.
        path: String,
        /// The field that names it.
        field: String,
    },
    /// Has init born in the pid namespace that was opened.
    Enter,
    /// Makes the directory in which the program finds a socket to say that it is ready.
    Notify,
    /// Listens at that socket.
    Hear,
    /// Makes the line that the master end of the program's terminal goes over.
    Console(Master),
    /// Clones init into new namespaces; by a forerunner, if the plan has steps for one.
    Clone(Vec<NamespaceKind>),
    /// Ends the process that the unit was made around, now that init is in it.
    Relieve,
    /// Makes sure that its own hard limit is no lower: who is born in a user namespace cannot raise it any more.
    Ceiling {
        /// Of this resource.
        kind: RlimitKind,
        /// What the kernel will be asked for.
        hard: u64,
    },
    /// Writes the child's `oom_score_adj`, which it could not lower itself.
    Score(i32),
    /// Writes the maps of the child's user namespace.
    Map(Maps),
    /// Has the maps of the child's user namespace written, with no right of ours but to our own ids.
    MapAsUser {
        /// Both.
        maps: Maps,
        /// Whether the one user in it is our own: that map we write; newuidmap(1) writes another.
        own_user: bool,
        /// The same for the group and newgidmap(1). The kernel then wants setgroups(2) denied in there.
        own_group: bool,
    },
    /// Moves network devices of the host's into init's network namespace, and lets it go on. Undone, they are as they were.
    Devices {
        /// Each by its name on the host, and its name inside, which may hold `%d`.
        devices: Vec<(String, String)>,
        /// The namespace, where it is one that is there already.
        namespace: Option<String>,
    },
    /// Makes sure that the user namespace that was joined has the maps that the document tells.
    Compare(Maps),
    /// Waits until the child asks, and hands it the descriptors of the plan's table, opened in its mount namespace with
    /// our rights.
    Hand,
    /// Waits until init has its mounts, and writes down that it lives and that hooks begin.
    Meet,
    /// Runs a hook, in the parent's own namespaces and cgroup.
    Hook(Hook),
    /// Lets init go on from where it waits for its parent.
    Part,
    /// Takes over the listener of init's filter, and hands it to the agent.
    Agent(Agent),
    /// Forks a process that will write down how init ended.
    Keep,
    /// Keeps the filter for the next container that asks for the same one, under this key. Whether that can be done does
    /// not matter to this one.
    Remember(String),
    /// Completes the record with what the child's birth told, before the child may run.
    Complete,
    /// Sends a pidfd of init to whoever listens at a socket.
    Introduce(String),
    /// Writes the number of init to a file.
    Tell(String),
}

/// Where the master end of a terminal goes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Master {
    /// To whoever listens at this socket of the host.
    Socket(String),
    /// To us, who stay, and copy between it and our caller's terminal.
    Us,
    /// Over a line that our caller has brought.
    Line,
}

/// What the child does, in order, until it is the program.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub enum Step {
    /// Moves itself into the v1 cgroups whose `tasks` the parent opened.
    JoinGroups,
    /// May run on every CPU that its cpuset has, whatever our caller was confined to.
    AllCpus,
    /// May run on these CPUs only.
    Cpus(Numbers),
    /// Joins a namespace that the parent opened. What only its own user namespace permits is tried again after that one.
    Join(NamespaceKind),
    /// Is not to be traced or looked into by others, until it is the program (`PR_SET_DUMPABLE`).
    Conceal,
    /// Writes its `oom_score_adj`.
    OomScore(i32),
    /// Leads a session of its own.
    Session,
    /// Takes the host's /proc while it is there, for labels to be written through it.
    Procfs,
    /// Writes a label of a security module.
    Label(Label),
    /// Asks its parent for the maps of its user namespace, and for the descriptors of the plan's table, and waits.
    Await,
    /// Is in a user namespace that denies setgroups(2): the groups of its caller stay, whoever it becomes.
    KeepGroups,
    /// Becomes the root of its user namespace, in no other group.
    Rule,
    /// Joins a new session keyring of this name.
    Keyring {
        /// The name.
        name: String,
        /// Whether others than its owner may search it: in a user namespace exec comes as somebody else.
        others: bool,
    },
    /// Waits until its parent has it in its cgroup, wherever it was born.
    AwaitGroup,
    /// Joins the cgroup namespace that the parent opened, now that it is in its cgroups.
    JoinCgroupNamespace,
    /// Takes `/` as the root: the process was born inside.
    Inside,
    /// Makes the cgroups that it is in the roots of a new cgroup namespace.
    CgroupNamespace,
    /// Makes a time namespace, sets its clocks, each by a line of /proc/PID/timens_offsets, and enters it.
    Clocks(Vec<String>),
    /// Brings the loopback interface up.
    Loopback,
    /// Waits until its parent has moved network devices in.
    AwaitDevices,
    /// Writes a kernel parameter of its namespaces.
    Sysctl {
        /// Below /proc/sys, with slashes.
        path: String,
        /// The text written.
        value: String,
    },
    /// Sets the propagation of the copied host's mounts, all of them.
    Detach(Propagation),
    /// Takes a directory of the host as the root, by a mount of its own.
    Root(String),
    /// Mounts something below the root.
    Mount(Mount),
    /// Changes what is mounted below the root.
    Remount(Remount),
    /// Makes a device node below the root.
    Node(Node),
    /// Makes a symbolic link below the root.
    Link {
        /// Where.
        path: String,
        /// What it says.
        target: String,
        /// Whether what is there already is replaced; it is left alone otherwise.
        replace: bool,
    },
    /// Says that all mounts are made, and waits until the parent has run its hooks.
    Meet,
    /// Runs a hook, in the container's namespaces and cgroup, found where the host has it, with the root as its working
    /// directory.
    CreateHook(Hook),
    /// Opens a terminal in the container's devpts, hands its master end over, and makes the other end the standard streams
    /// and the session's own.
    Console(Console),
    /// Goes into the root and lets go of the host's mounts.
    Pivot,
    /// Moves the root to `/` without pivoting (`--no-pivot`).
    MoveRoot,
    /// Sets the propagation of `/`.
    Propagate(Propagation),
    /// Makes the working directory if it is missing.
    Directory(String),
    /// Makes the mount at this place read-only, now that all below it is in place.
    Seal(String),
    /// Makes `/` read-only.
    SealRoot,
    /// Sets the host name.
    Hostname(String),
    /// Sets the NIS domain name.
    Domainname(String),
    /// Makes a path read-only, if it exists.
    ReadOnly(String),
    /// The directories that masks are of bear this SELinux label.
    LabelMasks(String),
    /// Makes a path read as empty, if it exists.
    Mask(String),
    /// Sets a resource limit.
    Limit {
        /// Which.
        kind: RlimitKind,
        /// What the kernel enforces.
        soft: u64,
        /// Its ceiling.
        hard: u64,
    },
    /// Sets the file mode creation mask.
    Umask(u32),
    /// Gives up gaining privileges by execve(2), for ever.
    NoNewPrivileges,
    /// Has its system calls filtered from here on, for ever.
    Filter(Filter),
    /// Is scheduled in this way.
    Scheduler(Scheduling),
    /// Has its disk operations served in this order.
    IoPriority {
        /// 1 is realtime, 2 best effort, 3 idle.
        class: u16,
        /// 0 (first) to 7.
        level: u16,
    },
    /// Takes this execution domain, `PER_*`.
    Personality(u32),
    /// Places its memory.
    MemoryPolicy {
        /// `MPOL_*`, with `MPOL_F_*` bits.
        mode: u32,
        /// On these nodes.
        nodes: Numbers,
    },
    /// Drops capabilities from the bounding set: bit n for capability n.
    Bound(u64),
    /// Becomes user and group, with these supplementary groups.
    Become {
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
        /// Supplementary groups.
        groups: Vec<u32>,
    },
    /// Keeps exactly these capabilities.
    Capabilities(Capabilities),
    /// Looks up this user's home directory in the container's /etc/passwd, for `HOME`.
    Home(u32),
    /// Goes to the working directory as root; [`Step::Ready`] tries again as the user.
    Go(String),
    /// Lets these signals end it while it waits (bit n-1 for signal n).
    Heed(u64),
    /// Finds the program, and reports that all is ready.
    Ready,
    /// Waits for `start`.
    Gate,
    /// Bears the program's process, and stays the first of its pid namespace: it reaps whoever ends there, hands on the
    /// signals that it gets, and tells by this descriptor how the program ended.
    Attend(u32),
    /// Runs a hook, inside, as what the program will be.
    StartHook(Hook),
    /// Becomes the program.
    Execute,
}

/// What a child walks, whoever planned it.
#[derive(Clone, Copy, Debug)]
pub struct Walk<'a> {
    /// The steps, in order.
    pub steps: &'a [Step],
    /// What of the host the parent hands over.
    pub handles: &'a [Handle],
    /// Where the program starts.
    pub cwd: &'a str,
    /// Descriptors from 3 on that the program keeps.
    pub preserve_fds: u32,
    /// Signals that get their default action back.
    pub default_signals: u64,
    /// Signals that are unblocked.
    pub unblocked_signals: u64,
}

/// Ranges of CPUs or memory nodes, each by its first and last number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Numbers(pub Vec<(u16, u16)>);

impl Numbers {
    /// Each number, in the order of the list.
    pub fn each(&self) -> impl Iterator<Item = u16> {
        self.0.iter().flat_map(|&(first, last)| first..=last)
    }
}

/// How a process is scheduled, as `sched_setattr(2)` takes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Scheduling {
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*` bits.
    pub flags: u64,
    /// -20 to 19.
    pub nice: i32,
    /// Of the realtime policies.
    pub priority: u32,
    /// Nanoseconds, as the two below: `SCHED_DEADLINE` alone has them.
    pub runtime: u64,
    /// Until when it is to have run.
    pub deadline: u64,
    /// How often.
    pub period: u64,
}

/// The terminal of a program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Console {
    /// Rows and columns; without, they are zero until somebody says how many there are.
    pub size: Option<(u16, u16)>,
    /// Whether it is mounted on /dev/console too.
    pub mounted: bool,
}

/// Four capability sets; bit n for capability n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Capabilities {
    /// What the kernel checks.
    pub effective: u64,
    /// What may become effective.
    pub permitted: u64,
    /// Kept over execve(2) where the file agrees.
    pub inheritable: u64,
    /// Kept over execve(2) by an ordinary user.
    pub ambient: u64,
}

/// A device node, or a pipe.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Node {
    /// Where, inside the container.
    pub path: String,
    /// File type and permission bits, as mknod(2) takes them.
    pub mode: u32,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Whether the host's node of that name is bound there: in a user namespace nobody may make one.
    pub is_bound: bool,
}

/// What is executed at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Program {
    /// Argument vector; the first one is looked up in `PATH` of `env`.
    pub args: Vec<String>,
    /// Environment, each name once.
    pub env: Vec<String>,
    /// Working directory.
    pub cwd: String,
}
