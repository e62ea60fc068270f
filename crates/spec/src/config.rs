//! config.json, field by field, as runtime-spec 1.3 words it.
//!
//! A field that is absent, or `null` as Go writes it, is the empty value of its type; where "absent" and
//! "empty" mean different things the field is an `Option`. Unknown keys are ignored, as the specification asks.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::strict::{Object, is_false, map, nullable, word, worded};

/// The whole document.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(remote = "Self", rename_all = "camelCase")]
pub struct Spec {
    /// Version of the specification that the document follows.
    #[serde(default, deserialize_with = "nullable")]
    pub oci_version: String,
    /// What runs inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// The container's root file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Root>,
    /// Name in the UTS namespace.
    #[serde(default, deserialize_with = "worded", skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// NIS domain name in the UTS namespace.
    #[serde(default, deserialize_with = "worded", skip_serializing_if = "Option::is_none")]
    pub domainname: Option<String>,
    /// Mounts, in order.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Programs run at points of the container's life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Hooks>,
    /// Words for other programs.
    #[serde(default, deserialize_with = "map", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// What only Linux has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linux: Option<Linux>,
}

/// The root file system.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(remote = "Self", rename_all = "camelCase")]
pub struct Root {
    /// Absolute, or relative to the bundle.
    pub path: String,
    /// Whether `/` is read-only inside.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_false")]
    pub readonly: bool,
}

/// The program and all that is set for it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(remote = "Self", rename_all = "camelCase")]
pub struct Process {
    /// Whether the program gets a pseudo-terminal.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_false")]
    pub terminal: bool,
    /// Size of that terminal, in characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console_size: Option<ConsoleSize>,
    /// Who the program runs as.
    #[serde(default, deserialize_with = "nullable")]
    pub user: User,
    /// The program and its arguments.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// The command line as one string; Windows only.
    #[serde(default, deserialize_with = "worded", skip_serializing_if = "Option::is_none")]
    pub command_line: Option<String>,
    /// Environment, `NAME=VALUE`.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Working directory, absolute.
    #[serde(default, deserialize_with = "nullable")]
    pub cwd: String,
    /// The five capability sets; absent means that all are empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// Resource limits, each kind once.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub rlimits: Vec<Rlimit>,
    /// `PR_SET_NO_NEW_PRIVS`.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_false")]
    pub no_new_privileges: bool,
    /// AppArmor profile for the program.
    #[serde(default, deserialize_with = "worded", skip_serializing_if = "Option::is_none")]
    pub apparmor_profile: Option<String>,
    /// -1000 (never killed) to 1000 (killed first); set only when present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    /// `sched_setattr(2)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<Scheduler>,
    /// SELinux label for the program.
    #[serde(default, deserialize_with = "worded", skip_serializing_if = "Option::is_none")]
    pub selinux_label: Option<String>,
    /// `ioprio_set(2)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_priority: Option<IoPriority>,
    /// CPUs of an exec'd process before and after it joined the cgroup.
    #[serde(default, rename = "execCPUAffinity", skip_serializing_if = "Option::is_none")]
    pub exec_cpu_affinity: Option<CpuAffinity>,
}

/// Size of a terminal in characters.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(remote = "Self")]
pub struct ConsoleSize {
    /// Rows.
    pub height: u16,
    /// Columns.
    pub width: u16,
}

/// Who a process runs as, in the container's own numbers.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(remote = "Self", rename_all = "camelCase")]
pub struct User {
    /// User id.
    #[serde(default, deserialize_with = "nullable")]
    pub uid: u32,
    /// Group id.
    #[serde(default, deserialize_with = "nullable")]
    pub gid: u32,
    /// File mode creation mask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub umask: Option<u32>,
    /// Supplementary groups.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub additional_gids: Vec<u32>,
    /// A name; Windows only.
    #[serde(default, deserialize_with = "worded", skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
}

/// capabilities(7): names such as `CAP_CHOWN`, unknown ones included.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(remote = "Self")]
pub struct Capabilities {
    /// Upper bound of what execve(2) can give.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub bounding: Vec<String>,
    /// What the kernel checks.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub effective: Vec<String>,
    /// Kept over execve(2) where the file agrees.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub inheritable: Vec<String>,
    /// What may become effective.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub permitted: Vec<String>,
    /// Kept over execve(2) by an ordinary user.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub ambient: Vec<String>,
}

/// One limit of setrlimit(2).
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(remote = "Self")]
pub struct Rlimit {
    /// Which.
    #[serde(rename = "type")]
    pub kind: RlimitKind,
    /// Ceiling of `soft`.
    pub hard: u64,
    /// What the kernel enforces.
    pub soft: u64,
}

/// The sixteen resources of getrlimit(2).
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Hash, Serialize)]
#[serde(remote = "Self")]
#[allow(missing_docs, reason = "the names are the man page's")]
pub enum RlimitKind {
    #[serde(rename = "RLIMIT_AS")]
    As,
    #[serde(rename = "RLIMIT_CORE")]
    Core,
    #[serde(rename = "RLIMIT_CPU")]
    Cpu,
    #[serde(rename = "RLIMIT_DATA")]
    Data,
    #[serde(rename = "RLIMIT_FSIZE")]
    Fsize,
    #[serde(rename = "RLIMIT_LOCKS")]
    Locks,
    #[serde(rename = "RLIMIT_MEMLOCK")]
    Memlock,
    #[serde(rename = "RLIMIT_MSGQUEUE")]
    Msgqueue,
    #[serde(rename = "RLIMIT_NICE")]
    Nice,
    #[serde(rename = "RLIMIT_NOFILE")]
    Nofile,
    #[serde(rename = "RLIMIT_NPROC")]
    Nproc,
    #[serde(rename = "RLIMIT_RSS")]
    Rss,
    #[serde(rename = "RLIMIT_RTPRIO")]
    Rtprio,
    #[serde(rename = "RLIMIT_RTTIME")]
    Rttime,
    #[serde(rename = "RLIMIT_SIGPENDING")]
    Sigpending,
    #[serde(rename = "RLIMIT_STACK")]
    Stack,
}

impl RlimitKind {
    /// The word that the document uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::As => "RLIMIT_AS",
            Self::Core => "RLIMIT_CORE",
            Self::Cpu => "RLIMIT_CPU",
            Self::Data => "RLIMIT_DATA",
            Self::Fsize => "RLIMIT_FSIZE",
            Self::Locks => "RLIMIT_LOCKS",
            Self::Memlock => "RLIMIT_MEMLOCK",
            Self::Msgqueue => "RLIMIT_MSGQUEUE",
            Self::Nice => "RLIMIT_NICE",
            Self::Nofile => "RLIMIT_NOFILE",
            Self::Nproc => "RLIMIT_NPROC",
            Self::Rss => "RLIMIT_RSS",
            Self::Rtprio => "RLIMIT_RTPRIO",
            Self::Rttime => "RLIMIT_RTTIME",
            Self::Sigpending => "RLIMIT_SIGPENDING",
            Self::Stack => "RLIMIT_STACK",
        }
    }
}

/// `sched_setattr(2)` in the specification's words.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(remote = "Self")]
pub struct Scheduler {
    /// `SCHED_OTHER` and its kin.
    pub policy: String,
    /// -20 to 19.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nice: Option<i32>,
    /// For `SCHED_FIFO` and `SCHED_RR`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// `SCHED_FLAG_RESET_ON_FORK` and its kin.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// Nanoseconds, for `SCHED_DEADLINE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<u64>,
    /// Nanoseconds, for `SCHED_DEADLINE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<u64>,
    /// Nanoseconds, for `SCHED_DEADLINE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<u64>,
}

/// `ioprio_set(2)`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(remote = "Self")]
pub struct IoPriority {
    /// `IOPRIO_CLASS_RT`, `_BE` or `_IDLE`.
    pub class: String,
    /// 0 (first) to 7.
    #[serde(default, deserialize_with = "nullable")]
    pub priority: i32,
}

/// CPU lists as in cpuset(7), `0-3,7`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(remote = "Self")]
pub struct CpuAffinity {
    /// Until the process is in its cgroup.
    #[serde(default, deserialize_with = "worded", skip_serializing_if = "Option::is_none")]
    pub initial: Option<String>,
    /// From then on.
    #[serde(default, deserialize_with = "worded", rename = "final", skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
}

/// One mount.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(remote = "Self", rename_all = "camelCase")]
pub struct Mount {
    /// Where, inside the container.
    pub destination: String,
    /// File system type; without meaning for bind mounts.
    #[serde(default, deserialize_with = "worded", rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Device, name or (bind mounts) host path.
    #[serde(default, deserialize_with = "worded", skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Options as in fstab(5).
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// Map of user ids of an idmapped mount.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub uid_mappings: Vec<IdMapping>,
    /// Map of group ids of an idmapped mount.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub gid_mappings: Vec<IdMapping>,
}

/// One line of /`proc/PID/uid_map`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(remote = "Self", rename_all = "camelCase")]
pub struct IdMapping {
    /// First id inside.
    #[serde(rename = "containerID")]
    pub container_id: u32,
    /// First id outside.
    #[serde(rename = "hostID")]
    pub host_id: u32,
    /// How many.
    pub size: u32,
}

/// Programs run at points of the container's life.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(remote = "Self", rename_all = "camelCase")]
pub struct Hooks {
    /// Deprecated; like `create_runtime`, just before it.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub prestart: Vec<Hook>,
    /// After the namespaces are there, before `pivot_root`; in the runtime's namespaces.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub create_runtime: Vec<Hook>,
    /// The same moment, in the container's namespaces.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub create_container: Vec<Hook>,
    /// After `start`, before the program; in the container.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub start_container: Vec<Hook>,
    /// After the program started; in the runtime's namespaces.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub poststart: Vec<Hook>,
    /// After the container was destroyed; in the runtime's namespaces.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub poststop: Vec<Hook>,
}

/// One hook.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(remote = "Self")]
pub struct Hook {
    /// The program, absolute.
    pub path: String,
    /// Its whole argument vector, `argv[0]` included.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Its whole environment.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Seconds until it is killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
}

/// What only Linux has.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(remote = "Self", rename_all = "camelCase")]
pub struct Linux {
    /// Map of user ids of the user namespace.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub uid_mappings: Vec<IdMapping>,
    /// Map of group ids of the user namespace.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub gid_mappings: Vec<IdMapping>,
    /// Kernel parameters of the container's namespaces.
    #[serde(default, deserialize_with = "map", skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctl: BTreeMap<String, String>,
    /// What the container may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// The control group, in the form that its manager wants.
    #[serde(default, deserialize_with = "worded", skip_serializing_if = "Option::is_none")]
    pub cgroups_path: Option<String>,
    /// Namespaces made or joined, each kind once.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<Namespace>,
    /// Nodes below /dev.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// Network devices moved in, by their name on the host.
    #[serde(default, deserialize_with = "map", skip_serializing_if = "BTreeMap::is_empty")]
    pub net_devices: BTreeMap<String, NetDevice>,
    /// The system call filter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<Seccomp>,
    /// Propagation of `/` inside.
    #[serde(default, deserialize_with = "worded", skip_serializing_if = "Option::is_none")]
    pub rootfs_propagation: Option<String>,
    /// Paths that read as empty.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub masked_paths: Vec<String>,
    /// Paths that cannot be written.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub readonly_paths: Vec<String>,
    /// SELinux label of the mounts.
    #[serde(default, deserialize_with = "worded", skip_serializing_if = "Option::is_none")]
    pub mount_label: Option<String>,
    /// Cache and memory bandwidth of the processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intel_rdt: Option<IntelRdt>,
    /// `set_mempolicy(2)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_policy: Option<MemoryPolicy>,
    /// personality(2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub personality: Option<Personality>,
    /// Offsets of the time namespace's clocks, by clock.
    #[serde(default, deserialize_with = "map", skip_serializing_if = "BTreeMap::is_empty")]
    pub time_offsets: BTreeMap<String, TimeOffset>,
}

/// One namespace.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(remote = "Self")]
pub struct Namespace {
    /// Which.
    #[serde(rename = "type")]
    pub kind: NamespaceKind,
    /// The one to join; a new one is made without it.
    #[serde(default, deserialize_with = "worded", skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// namespaces(7) in the specification's words.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(remote = "Self", rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names are the man page's")]
pub enum NamespaceKind {
    Cgroup,
    Ipc,
    Mount,
    Network,
    Pid,
    Time,
    User,
    Uts,
}

impl NamespaceKind {
    /// The word that the document uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup",
            Self::Ipc => "ipc",
            Self::Mount => "mount",
            Self::Network => "network",
            Self::Pid => "pid",
            Self::Time => "time",
            Self::User => "user",
            Self::Uts => "uts",
        }
    }
}

/// One node below /dev.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(remote = "Self", rename_all = "camelCase")]
pub struct Device {
    /// Where, inside the container.
    pub path: String,
    /// What.
    #[serde(rename = "type")]
    pub kind: DeviceKind,
    /// Major number.
    #[serde(default, deserialize_with = "nullable")]
    pub major: i64,
    /// Minor number.
    #[serde(default, deserialize_with = "nullable")]
    pub minor: i64,
    /// Permission bits; 0666 without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_mode: Option<u32>,
    /// Owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
}

/// mknod(1) letters.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(remote = "Self")]
pub enum DeviceKind {
    /// Block device.
    #[serde(rename = "b")]
    Block,
    /// Character device.
    #[serde(rename = "c")]
    Char,
    /// Unbuffered character device: the same thing on Linux.
    #[serde(rename = "u")]
    Unbuffered,
    /// Named pipe.
    #[serde(rename = "p")]
    Fifo,
}

/// What a network device is called inside.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(remote = "Self")]
pub struct NetDevice {
    /// Its new name; the old one without it.
    #[serde(default, deserialize_with = "worded", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Offset of one clock.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(remote = "Self")]
pub struct TimeOffset {
    /// Seconds.
    #[serde(default, deserialize_with = "nullable")]
    pub secs: i64,
    /// Nanoseconds.
    #[serde(default, deserialize_with = "nullable")]
    pub nanosecs: u32,
}

/// personality(2).
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(remote = "Self")]
pub struct Personality {
    /// `LINUX` or `LINUX32`.
    pub domain: String,
    /// None are defined.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
}

/// `set_mempolicy(2)`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(remote = "Self")]
pub struct MemoryPolicy {
    /// `MPOL_BIND` and its kin.
    #[serde(default, deserialize_with = "nullable")]
    pub mode: String,
    /// Node list, `0-1`.
    #[serde(default, deserialize_with = "nullable")]
    pub nodes: String,
    /// `MPOL_F_STATIC_NODES` and its kin.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
}

/// resctrl.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(remote = "Self", rename_all = "camelCase")]
pub struct IntelRdt {
    /// Directory of the class of service.
    #[serde(
        default,
        deserialize_with = "worded",
        rename = "closID",
        skip_serializing_if = "Option::is_none"
    )]
    pub clos_id: Option<String>,
    /// Lines for `schemata`.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub schemata: Vec<String>,
    /// The L3 line.
    #[serde(default, deserialize_with = "worded", skip_serializing_if = "Option::is_none")]
    pub l3_cache_schema: Option<String>,
    /// The memory bandwidth line.
    #[serde(default, deserialize_with = "worded", skip_serializing_if = "Option::is_none")]
    pub mem_bw_schema: Option<String>,
    /// Whether a monitoring group is made.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_false")]
    pub enable_monitoring: bool,
    /// Cache monitoring, of earlier versions.
    #[serde(default, rename = "enableCMT", deserialize_with = "nullable", skip_serializing_if = "is_false")]
    pub enable_cmt: bool,
    /// Bandwidth monitoring, of earlier versions.
    #[serde(default, rename = "enableMBM", deserialize_with = "nullable", skip_serializing_if = "is_false")]
    pub enable_mbm: bool,
}

/// The system call filter.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(remote = "Self", rename_all = "camelCase")]
pub struct Seccomp {
    /// For system calls that no rule names.
    #[serde(default, deserialize_with = "nullable")]
    pub default_action: String,
    /// Error number of that action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_errno_ret: Option<u32>,
    /// `SCMP_ARCH_X86_64` and its kin.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub architectures: Vec<String>,
    /// `SECCOMP_FILTER_FLAG_LOG` and its kin; absent is not the same as empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<Vec<String>>,
    /// Socket of the agent that is asked.
    #[serde(default, deserialize_with = "worded", skip_serializing_if = "Option::is_none")]
    pub listener_path: Option<String>,
    /// Words for that agent.
    #[serde(default, deserialize_with = "worded", skip_serializing_if = "Option::is_none")]
    pub listener_metadata: Option<String>,
    /// The rules.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub syscalls: Vec<SeccompRule>,
}

/// One rule of the filter.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(remote = "Self", rename_all = "camelCase")]
pub struct SeccompRule {
    /// System calls.
    #[serde(default, deserialize_with = "nullable")]
    pub names: Vec<String>,
    /// `SCMP_ACT_ALLOW` and its kin.
    pub action: String,
    /// Error number of that action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno_ret: Option<u32>,
    /// Conditions on the arguments.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<SeccompArg>,
}

/// One condition on an argument.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(remote = "Self", rename_all = "camelCase")]
pub struct SeccompArg {
    /// 0 to 5.
    pub index: u32,
    /// Compared with.
    pub value: u64,
    /// The datum of `SCMP_CMP_MASKED_EQ`.
    #[serde(default, deserialize_with = "nullable")]
    pub value_two: u64,
    /// `SCMP_CMP_EQ` and its kin.
    pub op: String,
}

/// What the container may use.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(remote = "Self", rename_all = "camelCase")]
pub struct Resources {
    /// Rules about device nodes, in order.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DeviceRule>,
    /// Memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// Processor time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// Number of processes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<Pids>,
    /// Block devices.
    #[serde(default, rename = "blockIO", skip_serializing_if = "Option::is_none")]
    pub block_io: Option<BlockIo>,
    /// Huge pages.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub hugepage_limits: Vec<HugepageLimit>,
    /// Network classes and priorities (v1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// RDMA, by device.
    #[serde(default, deserialize_with = "map", skip_serializing_if = "BTreeMap::is_empty")]
    pub rdma: BTreeMap<String, Rdma>,
    /// Files of the v2 group, by name.
    #[serde(default, deserialize_with = "map", skip_serializing_if = "BTreeMap::is_empty")]
    pub unified: BTreeMap<String, String>,
}

/// One rule about device nodes.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(remote = "Self")]
pub struct DeviceRule {
    /// Allowed or denied.
    #[serde(default, deserialize_with = "nullable")]
    pub allow: bool,
    /// `a`, `b` or `c`; all without it.
    #[serde(default, deserialize_with = "worded", rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// All without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub major: Option<i64>,
    /// All without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minor: Option<i64>,
    /// Letters of `rwm`. Without it the rule is refused, as runc does: "nothing" and "all" are equally near.
    #[serde(default, deserialize_with = "worded", skip_serializing_if = "Option::is_none")]
    pub access: Option<String>,
}

/// Memory, in bytes; -1 is "no limit".
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(remote = "Self", rename_all = "camelCase")]
pub struct Memory {
    /// Most that may be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
    /// What is left to the group when memory is short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<i64>,
    /// Most of memory and swap together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swap: Option<i64>,
    /// Kernel memory; gone from the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<i64>,
    /// TCP buffers; gone from the kernel.
    #[serde(default, rename = "kernelTCP", skip_serializing_if = "Option::is_none")]
    pub kernel_tcp: Option<i64>,
    /// 0 to 100 (v1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swappiness: Option<u64>,
    /// Whether a process waits instead of being killed (v1).
    #[serde(default, rename = "disableOOMKiller", skip_serializing_if = "Option::is_none")]
    pub disable_oom_killer: Option<bool>,
    /// Whether children count (v1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub use_hierarchy: Option<bool>,
    /// Whether a limit below the present use is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check_before_update: Option<bool>,
}

/// Processor time.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(remote = "Self", rename_all = "camelCase")]
pub struct Cpu {
    /// Share beside the neighbours; 1024 is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shares: Option<u64>,
    /// Microseconds per period; negative is "no limit".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<i64>,
    /// Microseconds saved up at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
    /// Microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<u64>,
    /// Microseconds (v1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realtime_runtime: Option<i64>,
    /// Microseconds (v1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realtime_period: Option<u64>,
    /// CPU list, `0-3,7`.
    #[serde(default, deserialize_with = "worded", skip_serializing_if = "Option::is_none")]
    pub cpus: Option<String>,
    /// Memory node list.
    #[serde(default, deserialize_with = "worded", skip_serializing_if = "Option::is_none")]
    pub mems: Option<String>,
    /// 1: `SCHED_IDLE` for the whole group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<i64>,
}

/// Number of processes.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(remote = "Self")]
pub struct Pids {
    /// Most at a time; absent or negative is "no limit".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

/// Block devices.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(remote = "Self", rename_all = "camelCase")]
pub struct BlockIo {
    /// 10 to 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// The same for the group's own processes (v1 CFQ).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaf_weight: Option<u16>,
    /// Weights by device.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub weight_device: Vec<WeightDevice>,
    /// Bytes per second read.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub throttle_read_bps_device: Vec<ThrottleDevice>,
    /// Bytes per second written.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub throttle_write_bps_device: Vec<ThrottleDevice>,
    /// Operations per second read.
    #[serde(
        default,
        rename = "throttleReadIOPSDevice",
        deserialize_with = "nullable",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub throttle_read_iops_device: Vec<ThrottleDevice>,
    /// Operations per second written.
    #[serde(
        default,
        rename = "throttleWriteIOPSDevice",
        deserialize_with = "nullable",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub throttle_write_iops_device: Vec<ThrottleDevice>,
}

/// Weight of one block device.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(remote = "Self", rename_all = "camelCase")]
pub struct WeightDevice {
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// 10 to 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// The same for the group's own processes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaf_weight: Option<u16>,
}

/// Ceiling of one block device.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(remote = "Self")]
pub struct ThrottleDevice {
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// Per second.
    pub rate: u64,
}

/// Huge pages of one size.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(remote = "Self", rename_all = "camelCase")]
pub struct HugepageLimit {
    /// `2MB`, `1GB`.
    pub page_size: String,
    /// Bytes.
    pub limit: u64,
}

/// Network classes and priorities (v1).
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(remote = "Self")]
pub struct Network {
    /// Class of the container's packets.
    #[serde(default, rename = "classID", skip_serializing_if = "Option::is_none")]
    pub class_id: Option<u32>,
    /// Priorities by interface.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub priorities: Vec<InterfacePriority>,
}

/// Priority on one interface.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(remote = "Self")]
pub struct InterfacePriority {
    /// The interface.
    pub name: String,
    /// Its priority.
    pub priority: u32,
}

/// RDMA resources of one device.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(remote = "Self", rename_all = "camelCase")]
pub struct Rdma {
    /// Handles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hca_handles: Option<u32>,
    /// Objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hca_objects: Option<u32>,
}

/// serde's derived code takes `["rootfs", true]` for a struct and `{"pid": null}` for a word; Go's does not, and
/// neither do we. `remote = "Self"` leaves that code under an inherent name, and these stand before it.
macro_rules! strictly {
    ($wrap:ident: $($name:ident),+ $(,)?) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                strictly!(@$wrap $name, from)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                $name::serialize(self, to)
            }
        }
    )+};
    (@object $name:ident, $from:ident) => { $name::deserialize(Object($from)) };
    (@word $name:ident, $from:ident) => { word($from, |text| $name::deserialize(text)) };
}

strictly! { object:
    Spec, Root, Process, ConsoleSize, User, Capabilities, Rlimit, Scheduler, IoPriority,
    CpuAffinity, Mount, IdMapping, Hooks, Hook, Linux, Namespace, Device, NetDevice, TimeOffset,
    Personality, MemoryPolicy, IntelRdt, Seccomp, SeccompRule, SeccompArg, Resources, DeviceRule,
    Memory, Cpu, Pids, BlockIo, WeightDevice, ThrottleDevice, HugepageLimit, Network,
    InterfacePriority, Rdma,
}

strictly! { word:
    RlimitKind, NamespaceKind, DeviceKind,
}
