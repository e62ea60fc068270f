//! The manifest: what a package is called, what it runs, and what it may do.
//!
//! Every field and rule of Northstar 0.9, with these differences, each of which refuses what the reference accepts and
//! then trips over: the names `.` and `..`, targets and directories with `..` in them, names of sockets with `/`. And
//! these, which it refuses and means to accept: the priority of `round_robin`.

mod json;
mod lower;
mod seccomp;
mod upkeep;

use std::collections::BTreeMap;

use spec::{BlockIo, Cpu, Memory, Rlimit, RlimitKind, Scheduler, ThrottleDevice, WeightDevice};

pub use lower::Places;
pub use upkeep::{Restart, Stop, Upkeep, When};

use crate::error::{Error, Kind};
use crate::field::{Field, Object};
use crate::version::Version;
use crate::yaml::Node;

/// A manifest that keeps all rules.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// What it is called; good for the name of a directory.
    pub name: String,
    /// Which of that name.
    pub version: Version,
    /// What it may ask of the daemon; none where it gets no line to it.
    pub console: Option<Vec<String>>,
    /// The program; none in a package that only lends its files to others.
    pub init: Option<String>,
    /// The arguments after the program's own name.
    pub args: Vec<String>,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// The user that it runs as.
    pub uid: u16,
    /// The group that it runs as.
    pub gid: u16,
    /// How it is scheduled.
    pub sched: Option<Scheduler>,
    /// What is mounted, by the place: what lies above comes first.
    pub mounts: BTreeMap<String, Mount>,
    /// Whether the daemon starts it by itself.
    pub autostart: Option<Autostart>,
    /// What it may use.
    pub cgroups: Option<Cgroups>,
    /// Which network it sees.
    pub network: Network,
    /// Which system calls it may make.
    pub seccomp: Option<Seccomp>,
    /// Labels.
    pub selinux: Option<Selinux>,
    /// What of root's power it keeps.
    pub capabilities: Vec<String>,
    /// More groups, by name.
    pub suppl_groups: Vec<String>,
    /// Limits of setrlimit(2).
    pub rlimits: Vec<Rlimit>,
    /// Sockets that are made for it.
    pub sockets: BTreeMap<String, Socket>,
    /// Where its output goes.
    pub io: Io,
    /// Where its program begins. The reference knows `/` alone: this stands in `custom.cofferdam.cwd`, where it lets be
    /// what it does not know.
    pub cwd: String,
    /// What the daemon does when it ends, and how it ends it; of `custom.cofferdam` too.
    pub upkeep: Upkeep,
}

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mount {
    /// A path of the host's.
    Bind {
        /// Which; nothing is mounted where the host has none.
        host: String,
        /// How.
        options: Options,
    },
    /// Devices, which are in the image.
    Dev,
    /// A directory that outlives the container.
    Persist,
    /// procfs.
    Proc,
    /// sysfs.
    Sysfs,
    /// A directory of another package, read-only.
    Resource {
        /// Its name.
        name: String,
        /// Its version, as `>=1.0.0`.
        version: String,
        /// Which of its directories, absolute.
        dir: String,
        /// How.
        options: Options,
    },
    /// The sockets of all containers.
    Sockets,
    /// Memory.
    Tmpfs {
        /// Bytes.
        size: u64,
    },
}

/// How something is bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// It may be written to.
    pub rw: bool,
    /// No program is executed from it.
    pub noexec: bool,
    /// Set-user-id bits are without effect.
    pub nosuid: bool,
    /// Devices are without effect.
    pub nodev: bool,
    /// What is mounted below comes along.
    pub rec: bool,
}

/// What the daemon makes of a failure to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Autostart {
    /// A warning.
    Relaxed,
    /// Its own end.
    Critical,
}

/// Control groups.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cgroups {
    /// The group above the container's.
    pub parent: Option<String>,
    /// Whether the daemon tells of memory that ran out.
    pub oom_monitor: bool,
    /// Processor time.
    pub cpu: Option<Cpu>,
    /// Memory.
    pub memory: Option<Memory>,
    /// Block devices.
    pub block_io: Option<BlockIo>,
    /// Files and what is written to them.
    pub attrs: BTreeMap<String, String>,
}

/// Which network a container sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// One of its own, with a loopback interface and no other.
    #[default]
    Own,
    /// The host's.
    Host,
    /// One that ip-netns(8) knows by this name.
    Named(String),
}

/// Which system calls a container may make: these, execve(2), and no others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seccomp {
    /// Whether those are among them that nearly every program needs.
    pub is_default: bool,
    /// More, by name.
    pub allow: BTreeMap<String, Allowed>,
}

/// What one system call may be called with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// Anything.
    Any,
    /// One argument is one of these values, or has no bits beside this mask.
    Argument {
        /// Which, from 0 on.
        index: u32,
        /// Those allowed.
        values: Vec<u64>,
        /// The bits allowed.
        mask: Option<u64>,
    },
}

/// SELinux labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selinux {
    /// Of the image.
    pub mount_context: Option<String>,
    /// Of the program.
    pub exec: Option<String>,
}

/// A Unix socket that is made before the program starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// `stream`, `datagram` or `seq_packet`.
    pub kind: String,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Whether peers' credentials come along.
    pub passcred: bool,
}

/// Where output goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Io {
    /// Standard output.
    pub stdout: Output,
    /// Standard error.
    pub stderr: Output,
}

/// Where one stream goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// Nowhere.
    #[default]
    Discard,
    /// Into the daemon's log.
    Pipe,
    /// Where the daemon's own goes.
    Inherit,
}

const FIELDS: [&str; 21] = [
    "name",
    "version",
    "console",
    "init",
    "args",
    "env",
    "uid",
    "gid",
    "sched",
    "mounts",
    "autostart",
    "cgroups",
    "network",
    "seccomp",
    "selinux",
    "capabilities",
    "suppl_groups",
    "rlimits",
    "sockets",
    "io",
    "custom",
];

impl Manifest {
    /// Reads a manifest, YAML or JSON. `file` is what errors call it: `hello.yaml:12:3: env.A: has ...`.
    pub fn read(file: &str, bytes: &[u8]) -> Result<Self, Error> {
        let read = Node::parse(bytes).and_then(|node| Self::of(&Field::root(&node)));
        read.map_err(|error| Error::new(Kind::Invalid, format!("{file}:{error}")))
    }

    fn of(root: &Field<'_>) -> Result<Self, Error> {
        let all = root.object(&FIELDS)?;
        let init = all.maybe("init", |init| init.text_of(1..=4096).map(str::to_owned))?;
        if init.is_none() {
            refuse_in_resource(&all)?;
        }
        let ours = upkeep::ours(&all)?;
        let cgroups = all.maybe("cgroups", cgroups)?;
        Ok(Self {
            name: all.need("name")?.name()?.to_owned(),
            version: version(&all.need("version")?)?,
            console: all.maybe("console", console)?,
            init,
            args: all.maybe("args", texts)?.unwrap_or_default(),
            env: all.maybe("env", env)?.unwrap_or_default(),
            uid: all.need("uid")?.number_in(1..=u16::MAX)?,
            gid: all.need("gid")?.number_in(1..=u16::MAX)?,
            sched: all.maybe("sched", sched)?,
            mounts: all.maybe("mounts", mounts)?.unwrap_or_default(),
            autostart: all.maybe("autostart", |field| {
                Ok(match field.word(&["relaxed", "critical"])? {
                    "relaxed" => Autostart::Relaxed,
                    _ => Autostart::Critical,
                })
            })?,
            cgroups,
            network: all.maybe("network", network)?.unwrap_or_default(),
            seccomp: all.maybe("seccomp", seccomp)?,
            selinux: all.maybe("selinux", selinux)?,
            capabilities: all.maybe("capabilities", capabilities)?.unwrap_or_default(),
            suppl_groups: all.maybe("suppl_groups", groups)?.unwrap_or_default(),
            rlimits: all.maybe("rlimits", rlimits)?.unwrap_or_default(),
            sockets: all.maybe("sockets", sockets)?.unwrap_or_default(),
            io: all.maybe("io", io)?.unwrap_or_default(),
            cwd: upkeep::cwd(ours.as_ref())?,
            upkeep: upkeep::upkeep(ours.as_ref())?,
        })
    }

    /// The text of a manifest as Northstar's clients want it: JSON, values with a tag as maps of one key, and no field
    /// that says nothing. What stands in `custom` is as it was.
    pub fn json(bytes: &[u8]) -> Result<serde_json::Value, Error> {
        Ok(json::of(&Node::parse(bytes)?))
    }

    /// `NAME:VERSION`, by which a container is known.
    pub fn container(&self) -> String {
        format!("{}:{}", self.name, self.version)
    }
}

/// Without a program there is nothing that these could be for.
fn refuse_in_resource(all: &Object<'_>) -> Result<(), Error> {
    for name in ["args", "capabilities", "env", "suppl_groups", "autostart", "cgroups", "io", "seccomp"] {
        if let Some(field) = all.find(name) {
            return Err(field.wrong("a package without init has no use for it"));
        }
    }
    Ok(())
}

fn version(field: &Field<'_>) -> Result<Version, Error> {
    Version::parse(field.text()?).map_err(|error| field.wrong(error))
}

const PERMISSIONS: [&str; 15] = [
    "ident",
    "inspect",
    "install",
    "kill",
    "list",
    "notifications",
    "mount",
    "repositories",
    "shutdown",
    "start",
    "start_command",
    "token_create",
    "token_verification",
    "umount",
    "uninstall",
];

fn console(field: &Field<'_>) -> Result<Vec<String>, Error> {
    let permissions = field.object(&["permissions"])?.need("permissions")?;
    let Ok(list) = permissions.list() else {
        permissions.word(&["full"])?;
        return Ok(PERMISSIONS.map(str::to_owned).to_vec());
    };
    let mut all = Vec::new();
    for item in list {
        let word = item.word(&PERMISSIONS)?.to_owned();
        if !all.contains(&word) {
            all.push(word);
        }
    }
    Ok(all)
}

fn texts(field: &Field<'_>) -> Result<Vec<String>, Error> {
    field.list()?.iter().map(|item| item.text().map(str::to_owned)).collect()
}

/// The variables that every container is given, and no manifest or caller may set.
pub const RESERVED: [&str; 4] =
    ["NORTHSTAR_NAME", "NORTHSTAR_VERSION", "NORTHSTAR_CONTAINER", "NORTHSTAR_CONSOLE"];

fn env(field: &Field<'_>) -> Result<BTreeMap<String, String>, Error> {
    let mut all = BTreeMap::new();
    for (key, value) in field.entries()? {
        if key.is_empty() || key.len() > 64 || key.contains('=') {
            return Err(value.wrong("a name has 1 to 64 bytes, and no \"=\" among them"));
        }
        if RESERVED.contains(&key) {
            return Err(value.wrong("is set by the engine"));
        }
        all.insert(key.to_owned(), value.text_of(0..=1024)?.to_owned());
    }
    if all.len() > 64 {
        return Err(field.wrong(format!("{} variables; 64 are allowed", all.len())));
    }
    Ok(all)
}

fn sched(field: &Field<'_>) -> Result<Scheduler, Error> {
    let (form, value) = {
        let policy = field.object(&[])?.need("policy")?;
        let (form, value) = policy.form()?;
        (form.to_owned(), value.unwrap_or(policy))
    };
    let nice = |policy: &str| {
        let nice = value.object(&["nice"])?.need("nice")?.number_in(-20..=19)?;
        Ok(Scheduler { policy: policy.into(), nice: Some(nice), ..Scheduler::default() })
    };
    let priority = |policy: &str| {
        let priority = value.object(&["priority"])?.need("priority")?.number_in(1..=99)?;
        Ok(Scheduler { policy: policy.into(), priority: Some(priority), ..Scheduler::default() })
    };
    match form.as_str() {
        "other" => nice("SCHED_OTHER"),
        "batch" => nice("SCHED_BATCH"),
        "fifo" => priority("SCHED_FIFO"),
        "round_robin" => priority("SCHED_RR"),
        "idle" => Ok(Scheduler { policy: "SCHED_IDLE".into(), ..Scheduler::default() }),
        // Without a runtime there is none; the format has no place for one, and the reference's fails always.
        "deadline" => Ok(Scheduler { policy: "SCHED_DEADLINE".into(), ..Scheduler::default() }),
        _ => Err(value.wrong(format!(
            "{} is none of other, fifo, round_robin, batch, idle, deadline",
            spec::quoted(&form)
        ))),
    }
}

fn mounts(field: &Field<'_>) -> Result<BTreeMap<String, Mount>, Error> {
    let mut all = BTreeMap::new();
    for (target, value) in field.entries()? {
        value.check_path(target)?;
        let mount = mount(&value)?;
        if let Mount::Bind { .. } = mount {
            let is_bind = |(_, known): &(&String, &Mount)| matches!(known, Mount::Bind { .. });
            let mut binds = all.iter().filter(is_bind);
            if let Some((other, _)) =
                binds.find(|(other, _)| is_below(target, other) || is_below(other, target))
            {
                return Err(value.wrong(format!("overlaps with the bind mount on {}", spec::quoted(other))));
            }
        }
        if all.insert(tidy(target), mount).is_some() {
            return Err(value.wrong("is mounted on twice"));
        }
    }
    Ok(all)
}

/// A path without what says nothing: `//a/./b/` is `/a/b`.
fn tidy(path: &str) -> String {
    let parts = path.split('/').filter(|part| !part.is_empty() && *part != ".");
    parts.fold(String::new(), |path, part| path + "/" + part)
}

fn is_below(path: &str, above: &str) -> bool {
    let (path, above) = (tidy(path), tidy(above));
    path == above || path.strip_prefix(&above).is_some_and(|rest| rest.starts_with('/'))
}

fn mount(field: &Field<'_>) -> Result<Mount, Error> {
    let all = field.object(&[])?;
    let kind = all
        .need("type")?
        .word(&["bind", "dev", "persist", "proc", "resource", "sockets", "sysfs", "tmpfs"])?;
    match kind {
        "bind" => {
            let all = field.object(&["type", "host", "options"])?;
            let host = all.need("host")?.text_of(1..=4096)?.to_owned();
            Ok(Mount::Bind { host, options: all.maybe("options", options)?.unwrap_or_default() })
        }
        "resource" => {
            let all = field.object(&["type", "name", "version", "dir", "options"])?;
            let version = all.need("version")?;
            let wanted = version.text()?;
            semver::VersionReq::parse(wanted).map_err(|error| version.wrong(error))?;
            let options = all.maybe("options", |field| {
                let options = options(field)?;
                if options.rec {
                    Err(field.wrong("a resource cannot be bound with \"rec\""))
                } else {
                    Ok(options)
                }
            });
            Ok(Mount::Resource {
                name: all.need("name")?.name()?.to_owned(),
                version: wanted.to_owned(),
                dir: all.need("dir")?.path()?.to_owned(),
                options: options?.unwrap_or_default(),
            })
        }
        "tmpfs" => Ok(Mount::Tmpfs { size: field.object(&["type", "size"])?.need("size")?.size()? }),
        "dev" => Ok(Mount::Dev),
        "persist" => Ok(Mount::Persist),
        "proc" => Ok(Mount::Proc),
        "sysfs" => Ok(Mount::Sysfs),
        _ => Ok(Mount::Sockets),
    }
}

fn options(field: &Field<'_>) -> Result<Options, Error> {
    let mut all = Options::default();
    for word in field.text()?.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        match word {
            "rw" => all.rw = true,
            "noexec" => all.noexec = true,
            "nosuid" => all.nosuid = true,
            "nodev" => all.nodev = true,
            "rec" => all.rec = true,
            _ => {
                let word = spec::quoted(word);
                return Err(field.wrong(format!("{word} is none of rw, noexec, nosuid, nodev, rec")));
            }
        }
    }
    Ok(all)
}

fn cgroups(field: &Field<'_>) -> Result<Cgroups, Error> {
    let all = field.object(&[])?;
    let mut attrs = BTreeMap::new();
    let mut take = |field: &Field<'_>| {
        for (file, value) in field.entries()? {
            let is_file = file.contains('.')
                && file.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
            if !is_file || file.starts_with('.') || file.starts_with("cgroup.") {
                return Err(value.wrong("is no file of a controller, such as memory.high"));
            }
            attrs.insert(file.to_owned(), value.text()?.to_owned());
        }
        Ok(())
    };
    let mut section = |name| {
        all.maybe(name, |section| {
            let section = section.object(&[])?;
            section.maybe("attrs", &mut take)?;
            Ok(section)
        })
    };
    let (cpu, memory, blkio) = (section("cpu")?, section("memory")?, section("blkio")?);
    let monitor = memory.as_ref().map(|memory| memory.maybe("oom_monitor", Field::truth));
    Ok(Cgroups {
        parent: all.maybe("parent", |field| parent(field))?,
        oom_monitor: monitor.transpose()?.flatten().unwrap_or_default(),
        cpu: cpu.as_ref().map(cpu_limits).transpose()?,
        memory: memory.as_ref().map(memory_limits).transpose()?,
        block_io: blkio.as_ref().map(block_limits).transpose()?,
        attrs,
    })
}

/// A group's path below the root of all groups; it is a name more than a path, and leads nowhere but down.
fn parent(field: &Field<'_>) -> Result<String, Error> {
    let path = field.text_of(1..=4096)?;
    if path.split('/').any(|part| part == "..") {
        return Err(field.wrong(format!("{} leads upwards", spec::quoted(path))));
    }
    Ok(tidy(path))
}

fn cpu_limits(all: &Object<'_>) -> Result<Cpu, Error> {
    let text = |field: &Field<'_>| field.text_or_number();
    Ok(Cpu {
        cpus: all.maybe("cpus", text)?,
        mems: all.maybe("mems", text)?,
        shares: all.maybe("shares", Field::number)?,
        quota: all.maybe("quota", Field::number)?,
        period: all.maybe("period", Field::number)?,
        realtime_runtime: all.maybe("realtime_runtime", Field::number)?,
        realtime_period: all.maybe("realtime_period", Field::number)?,
        ..Cpu::default()
    })
}

fn memory_limits(all: &Object<'_>) -> Result<Memory, Error> {
    Ok(Memory {
        limit: all.maybe("memory_hard_limit", Field::number)?,
        reservation: all.maybe("memory_soft_limit", Field::number)?,
        swap: all.maybe("memory_swap_limit", Field::number)?,
        kernel: all.maybe("kernel_memory_limit", Field::number)?,
        kernel_tcp: all.maybe("kernel_tcp_memory_limit", Field::number)?,
        swappiness: all.maybe("swappiness", Field::number)?,
        ..Memory::default()
    })
}

fn block_limits(all: &Object<'_>) -> Result<BlockIo, Error> {
    let throttles = |name| all.need(name)?.list()?.iter().map(throttle).collect::<Result<Vec<_>, Error>>();
    Ok(BlockIo {
        weight: all.maybe("weight", Field::number)?,
        leaf_weight: all.maybe("leaf_weight", Field::number)?,
        weight_device: all.need("weight_device")?.list()?.iter().map(weight).collect::<Result<_, Error>>()?,
        throttle_read_bps_device: throttles("throttle_read_bps_device")?,
        throttle_write_bps_device: throttles("throttle_write_bps_device")?,
        throttle_read_iops_device: throttles("throttle_read_iops_device")?,
        throttle_write_iops_device: throttles("throttle_write_iops_device")?,
    })
}

/// The numbers of a device; the kernel's have 12 and 20 bits.
fn device(all: &Object<'_>) -> Result<(i64, i64), Error> {
    Ok((all.need("major")?.number_in(0..=0xfff)?, all.need("minor")?.number_in(0..=0xf_ffff)?))
}

fn throttle(field: &Field<'_>) -> Result<ThrottleDevice, Error> {
    let all = field.object(&[])?;
    let (major, minor) = device(&all)?;
    Ok(ThrottleDevice { major, minor, rate: all.need("rate")?.number()? })
}

fn weight(field: &Field<'_>) -> Result<WeightDevice, Error> {
    let all = field.object(&[])?;
    let (major, minor) = device(&all)?;
    let (weight, leaf_weight) =
        (all.maybe("weight", Field::number)?, all.maybe("leaf_weight", Field::number)?);
    Ok(WeightDevice { major, minor, weight, leaf_weight })
}

fn network(field: &Field<'_>) -> Result<Network, Error> {
    match field.form()? {
        ("host", _) => Ok(Network::Host),
        ("namespace", Some(name)) => {
            let text = name.text_of(1..=256)?;
            // It becomes the name of a file.
            if text.contains('/') || [".", ".."].contains(&text) {
                return Err(name.wrong(format!("{} is no name of a network namespace", spec::quoted(text))));
            }
            Ok(Network::Named(text.to_owned()))
        }
        _ => Err(field.wrong("host, or !namespace with a name, is due")),
    }
}

fn seccomp(field: &Field<'_>) -> Result<Seccomp, Error> {
    let all = field.object(&["profile", "allow"])?;
    let is_default =
        all.maybe("profile", |field| field.word(&["default"]).map(|_| true))?.unwrap_or_default();
    let allow = all.maybe("allow", |field| {
        field.entries()?.iter().map(|(name, value)| Ok(((*name).to_owned(), allowed(value)?))).collect()
    })?;
    Ok(Seccomp { is_default, allow: allow.unwrap_or_default() })
}

fn allowed(field: &Field<'_>) -> Result<Allowed, Error> {
    match field.form()? {
        ("any", None) => Ok(Allowed::Any),
        ("args", Some(rule)) => {
            let all = rule.object(&["index", "values", "mask"])?;
            let values = all.maybe("values", |field| {
                let values: Vec<u64> =
                    field.list()?.iter().map(Field::number).collect::<Result<_, Error>>()?;
                if values.len() > 50 { Err(field.wrong("50 values are allowed")) } else { Ok(values) }
            })?;
            let mask = all.maybe("mask", Field::number)?;
            if values.is_none() && mask.is_none() {
                return Err(rule.wrong("values, a mask, or both are due"));
            }
            let index = all.need("index")?.number_in(0..=5)?;
            Ok(Allowed::Argument { index, values: values.unwrap_or_default(), mask })
        }
        _ => Err(field.wrong("any, or !args with a rule, is due")),
    }
}

fn selinux(field: &Field<'_>) -> Result<Selinux, Error> {
    let all = field.object(&["mount_context", "exec"])?;
    let label = |field: &Field<'_>| {
        let text = field.text_of(1..=65535)?;
        if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":_".contains(&byte)) {
            return Err(field.wrong("holds more than letters, digits, \":\" and \"_\""));
        }
        Ok(text.to_owned())
    };
    Ok(Selinux { mount_context: all.maybe("mount_context", label)?, exec: all.maybe("exec", label)? })
}

fn capabilities(field: &Field<'_>) -> Result<Vec<String>, Error> {
    let mut all: Vec<String> = Vec::new();
    for item in field.list()? {
        let name = item.text()?;
        if spec::capability(name).is_none() {
            return Err(item.wrong(format!("{} is no capability", spec::quoted(name))));
        }
        once(&mut all, name, &item)?;
    }
    Ok(all)
}

fn groups(field: &Field<'_>) -> Result<Vec<String>, Error> {
    let mut all = Vec::new();
    for item in field.list()? {
        once(&mut all, item.text_of(1..=64)?, &item)?;
    }
    if all.len() > 64 {
        return Err(field.wrong(format!("{} groups; 64 are allowed", all.len())));
    }
    Ok(all)
}

fn once(all: &mut Vec<String>, name: &str, item: &Field<'_>) -> Result<(), Error> {
    if all.iter().any(|known| known == name) {
        return Err(item.wrong(format!("{name} stands there twice")));
    }
    all.push(name.to_owned());
    Ok(())
}

fn rlimits(field: &Field<'_>) -> Result<Vec<Rlimit>, Error> {
    let mut all = Vec::new();
    for (name, value) in field.entries()? {
        let kind =
            KINDS.iter().find(|kind| kind.name().trim_start_matches("RLIMIT_").to_ascii_lowercase() == name);
        let kind = *kind.ok_or_else(|| value.wrong("no such limit"))?;
        let limit = value.object(&["soft", "hard"])?;
        let of = |name| Ok::<_, Error>(limit.maybe(name, Field::number)?.unwrap_or(u64::MAX));
        let (soft, hard) = (of("soft")?, of("hard")?);
        if soft > hard {
            return Err(value.wrong("the soft limit is above the hard one"));
        }
        all.push(Rlimit { kind, hard, soft });
    }
    Ok(all)
}

const KINDS: [RlimitKind; 16] = [
    RlimitKind::As,
    RlimitKind::Core,
    RlimitKind::Cpu,
    RlimitKind::Data,
    RlimitKind::Fsize,
    RlimitKind::Locks,
    RlimitKind::Memlock,
    RlimitKind::Msgqueue,
    RlimitKind::Nice,
    RlimitKind::Nofile,
    RlimitKind::Nproc,
    RlimitKind::Rss,
    RlimitKind::Rtprio,
    RlimitKind::Rttime,
    RlimitKind::Sigpending,
    RlimitKind::Stack,
];

fn sockets(field: &Field<'_>) -> Result<BTreeMap<String, Socket>, Error> {
    let mut all = BTreeMap::new();
    for (name, value) in field.entries()? {
        // It becomes the name of a file, and of a variable.
        if name.is_empty() || name.len() > 64 || name.contains(['/', '=', ':']) || [".", ".."].contains(&name)
        {
            return Err(value.wrong("is no name of a socket"));
        }
        let socket = value.object(&["type", "mode", "uid", "gid", "passcred"])?;
        let id = |field: &Field<'_>| field.number_in(1..=u32::MAX);
        all.insert(
            name.to_owned(),
            Socket {
                kind: socket.need("type")?.word(&["stream", "datagram", "seq_packet"])?.to_owned(),
                mode: socket.need("mode")?.number_in(0..=0o7777)?,
                uid: socket.maybe("uid", id)?,
                gid: socket.maybe("gid", id)?,
                passcred: socket.maybe("passcred", Field::truth)?.unwrap_or_default(),
            },
        );
    }
    Ok(all)
}

fn io(field: &Field<'_>) -> Result<Io, Error> {
    let all = field.object(&["stdout", "stderr"])?;
    let output = |name| {
        Ok::<_, Error>(match all.need(name)?.word(&["discard", "pipe", "inherit"])? {
            "discard" => Output::Discard,
            "pipe" => Output::Pipe,
            _ => Output::Inherit,
        })
    };
    Ok(Io { stdout: output("stdout")?, stderr: output("stderr")? })
}
