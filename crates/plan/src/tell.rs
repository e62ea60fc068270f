//! The plan as people read it: numbered acts and steps, each with its undoing.

use std::borrow::Cow;
use std::fmt;

use spec::{CAPABILITIES, Flag, IdMapping, MOUNT_ATTR__ATIME, MountOption, option};

use crate::compile::Plan;
use crate::hook::Hook;
use crate::label::Label;
use crate::manner::{IO_CLASSES, MEMORY_MODES, POLICIES};
use crate::map::Maps;
use crate::mount::{Mount, Propagation, PropagationKind, Remount, Source};
use crate::step::{Act, Capabilities, Console, Master, Node, Numbers, Scheduling, Step};

impl fmt::Display for Plan {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(to, "create {} from {}", self.id, plain(&self.bundle))?;
        let mut number = 0;
        let mut line = |to: &mut fmt::Formatter<'_>, what: &str, undo: &str| {
            number += 1;
            let what = plain(what);
            if undo.is_empty() {
                writeln!(to, "{number:3}  {what}")
            } else {
                writeln!(to, "{number:3}  {what:<72}  | undo: {undo}")
            }
        };
        writeln!(to, "\nthe parent")?;
        for act in &self.acts {
            line(to, &self.told(act), act.undoing())?;
        }
        if !self.forerunner.is_empty() {
            writeln!(to, "\na forerunner, of which init is born")?;
            for step in &self.forerunner {
                line(to, &step.to_string(), "")?;
            }
        }
        writeln!(to, "\nthe child (what it did in its namespaces goes with them)")?;
        for step in &self.steps {
            line(to, &step.to_string(), "")?;
        }
        let Self { program, later, warnings, .. } = self;
        writeln!(to, "\nthe program\n     {:?} in {}", program.args, plain(&program.cwd))?;
        for pair in &program.env {
            writeln!(to, "     {}", plain(pair))?;
        }
        if !later.poststart.is_empty() || !later.poststop.is_empty() {
            writeln!(to, "\nafterwards")?;
        }
        for hook in later.poststart.iter().chain(&later.poststop) {
            writeln!(to, "     {}", plain(&hook.to_string()))?;
        }
        for warning in warnings {
            writeln!(to, "\nwarning: {}", plain(warning))?;
        }
        Ok(())
    }
}

/// Words of the document on one line: what would end it, or steer the terminal, is escaped.
fn plain(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) {
        let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
        text.chars().map(escaped).collect()
    } else {
        text.into()
    }
}

impl Plan {
    fn told(&self, act: &Act) -> String {
        match act {
            Act::Claim => format!("claim   the id {}", self.id),
            Act::Intend => "record  what is about to be made".to_owned(),
            Act::Unit => match &self.cgroup.unit {
                Some(unit) => format!("unit    {unit}"),
                None => "unit".to_owned(),
            },
            Act::Relieve => "end     the process that the unit was made around".to_owned(),
            Act::Group(index) => match self.cgroup.groups.get(*index) {
                Some(group) => format!("group   {group}"),
                None => format!("group   {index}"),
            },
            Act::Listen => "listen  at the start gate".to_owned(),
            Act::Devices { devices, .. } => {
                let told = devices.iter().map(|(host, inside)| format!("{host} as {inside}"));
                format!("move    network devices in: {}", told.collect::<Vec<_>>().join(", "))
            }
            Act::StayOn(cpus) => format!("stay    on CPUs {cpus}"),
            Act::Open { kind, path, .. } => format!("open    {} namespace {path}", kind.name()),
            Act::Enter => "enter   the pid namespace, to bear init there".to_owned(),
            Act::Clone(kinds) => {
                let kinds: Vec<String> =
                    kinds.iter().map(|kind| format!("{kind:?}").to_lowercase()).collect();
                format!("clone   into new namespaces: {}", kinds.join(" "))
            }
            Act::Ceiling { kind, hard } => {
                format!(
                    "raise   our own limit of {} to {hard}, if it is lower",
                    format!("{kind:?}").to_lowercase()
                )
            }
            Act::Score(score) => format!("write   its oom_score_adj {score}"),
            Act::Map(maps) => format!("map     {}", ranges(maps)),
            Act::MapAsUser { maps, own_user, own_group } => {
                let by = |own: &bool, other: &'static str| if *own { "ourselves" } else { other };
                let (users, groups) = (by(own_user, "newuidmap"), by(own_group, "newgidmap"));
                format!("map     {} (by {users} and {groups})", ranges(maps))
            }
            Act::Compare(maps) => format!("compare the maps with {}", ranges(maps)),
            Act::Hand => format!("hand    {} handles of the host's to the child", self.handles.len()),
            Act::Meet => "meet    init with its mounts made, record it".to_owned(),
            Act::Hook(hook) => hook.to_string(),
            Act::Part => "part    from init".to_owned(),
            Act::Agent(agent) => format!("hand    its listener to the agent at {}", agent.path),
            Act::Keep => "fork    a keeper of the exit status".to_owned(),
            Act::Remember(_) => "keep    the filter for the next that asks for it".to_owned(),
            Act::Complete => "record  init".to_owned(),
            Act::Notify => "make    the directory of the notify socket".to_owned(),
            Act::Hear => "listen  at the notify socket".to_owned(),
            Act::Console(Master::Socket(path)) => format!("connect the console socket {path}"),
            Act::Console(Master::Us) => "take    the caller's terminal".to_owned(),
            Act::Console(Master::Line) => "take    the caller's line for the terminal".to_owned(),
            Act::Introduce(path) => format!("send    a pidfd of init to {path}"),
            Act::Tell(path) => format!("write   the pid to {path}"),
        }
    }
}

fn ranges(Maps { users, groups }: &Maps) -> String {
    let told = |map: &[IdMapping]| {
        let ranges = map.iter().map(|line| {
            let IdMapping { container_id, host_id, size } = line;
            format!("{container_id}+{size} -> {host_id}")
        });
        ranges.collect::<Vec<_>>().join(", ")
    };
    format!("users {}; groups {}", told(users), told(groups))
}

impl Act {
    /// What a failed create, or `delete`, does about it; empty where nothing is left behind.
    pub fn undoing(&self) -> &'static str {
        match self {
            Self::Claim => "remove the state directory",
            Self::Unit => "stop it, reset it",
            Self::Group(_) => "kill what is in it, remove it",
            Self::Clone(_) => "kill and reap init",
            Self::Devices { .. } => "move them back",
            Self::Tell(_) => "remove the file",
            Self::Keep => "kill and reap it",
            Self::Meet => "run the hooks of poststop",
            Self::Console(Master::Us) => "set it as it was",
            Self::Intend
            | Self::Listen
            | Self::Notify
            | Self::Hear
            | Self::Open { .. }
            | Self::Enter
            | Self::Relieve
            | Self::Ceiling { .. }
            | Self::Score(_)
            | Self::Map(_)
            | Self::Compare(_)
            | Self::Hand
            | Self::MapAsUser { .. }
            | Self::Hook(_)
            | Self::Part
            | Self::Agent(_)
            | Self::Console(_)
            | Self::Introduce(_)
            | Self::StayOn(_)
            | Self::Remember(_)
            | Self::Complete => "",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::JoinGroups => write!(to, "join    its cgroups, by tasks"),
            Self::AllCpus => write!(to, "allow   all CPUs of its cpuset"),
            Self::Cpus(cpus) => write!(to, "allow   CPUs {cpus}"),
            Self::Join(kind) => write!(to, "join    {} namespace", kind.name()),
            Self::Conceal => write!(to, "hide    from its neighbours"),
            Self::OomScore(score) => write!(to, "write   oom_score_adj {score}"),
            Self::Session => write!(to, "lead    a session"),
            Self::Procfs => write!(to, "keep    the host's /proc, for labels"),
            Self::Label(label) => label.fmt(to),
            Self::LabelMasks(label) => write!(to, "label   masks {label}"),
            Self::Await => {
                write!(to, "await   what its parent alone can do: maps of ids, handles of the host's")
            }
            Self::KeepGroups => write!(to, "keep    the caller's groups, since setgroups is denied"),
            Self::Rule => write!(to, "become  root of the user namespace"),
            Self::Keyring { name, others } => {
                let whose = if *others { ", which others may search" } else { "" };
                write!(to, "join    session keyring {name}{whose}")
            }
            Self::AwaitGroup => write!(to, "await   its cgroup"),
            Self::JoinCgroupNamespace => write!(to, "join    cgroup namespace"),
            Self::Inside => write!(to, "root    / as it is"),
            Self::CgroupNamespace => write!(to, "unshare cgroup"),
            Self::Clocks(offsets) => {
                write!(to, "enter   a time namespace")?;
                offsets.iter().try_for_each(|offset| write!(to, ", {offset}"))
            }
            Self::AwaitDevices => write!(to, "await   network devices"),
            Self::Loopback => write!(to, "up      lo"),
            Self::Sysctl { path, value } => write!(to, "write   /proc/sys/{path} {value:?}"),
            Self::Detach(how) => write!(to, "make    the host's mounts {how}"),
            Self::Root(path) => write!(to, "root    {path}"),
            Self::Mount(mount) => mount.fmt(to),
            Self::Remount(remount) => remount.fmt(to),
            Self::Node(node) => node.fmt(to),
            Self::Link { path, target, .. } => write!(to, "link    {path} -> {target}"),
            Self::Console(console) => console.fmt(to),
            Self::Pivot => write!(to, "pivot   into the root"),
            Self::MoveRoot => write!(to, "move    the root to /"),
            Self::Propagate(how) => write!(to, "make    / {how}"),
            Self::Directory(path) => write!(to, "make    {path} if it is missing"),
            Self::Seal(path) => write!(to, "seal    {path} read-only"),
            Self::SealRoot => write!(to, "seal    / read-only"),
            Self::Hostname(name) => write!(to, "name    the host {name}"),
            Self::Domainname(name) => write!(to, "name    the NIS domain {name}"),
            Self::ReadOnly(path) => write!(to, "protect {path} from writing"),
            Self::Mask(path) => write!(to, "mask    {path}"),
            Self::Limit { kind, soft, hard } => {
                write!(to, "limit   {} {soft} {hard}", format!("{kind:?}").to_lowercase())
            }
            Self::Umask(mask) => write!(to, "umask   {mask:04o}"),
            Self::NoNewPrivileges => write!(to, "lock    no new privileges"),
            Self::Filter(filter) => filter.fmt(to),
            Self::Scheduler(how) => write!(to, "run     {how}"),
            Self::IoPriority { class, level } => {
                let class = class.checked_sub(1).and_then(|at| IO_CLASSES.get(usize::from(at)));
                write!(to, "serve   its disks by {} {level}", class.unwrap_or(&"class 0"))
            }
            Self::Personality(domain) => write!(to, "be      of personality {domain:#x}"),
            Self::MemoryPolicy { mode, nodes } => place(to, *mode, nodes),
            Self::Bound(dropped) => write!(to, "drop    from the bounding set: {}", Bits(*dropped)),
            Self::Become { uid, gid, groups } => {
                write!(to, "become  {uid}:{gid}")?;
                if groups.is_empty() { Ok(()) } else { write!(to, " groups {groups:?}") }
            }
            Self::Capabilities(kept) => kept.fmt(to),
            Self::Home(uid) => write!(to, "find    the home of user {uid}"),
            Self::Go(path) => write!(to, "go      to {path}"),
            Self::Heed(signals) => {
                let numbers: Vec<_> = (1..=64).filter(|signal| signals & (1 << (signal - 1)) != 0).collect();
                write!(to, "heed    signals {numbers:?}")
            }
            Self::Ready => write!(to, "find    the program, report ready"),
            Self::Gate => write!(to, "wait    for start"),
            Self::Attend(line) => write!(to, "attend  the program, and tell its end by descriptor {line}"),
            Self::Meet => write!(to, "meet    the parent, wait for its hooks"),
            Self::CreateHook(hook) | Self::StartHook(hook) => hook.fmt(to),
            Self::Execute => write!(to, "exec    the program"),
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Profile(name) => write!(to, "label   the program with the AppArmor profile {name}"),
            Self::Program(label) => write!(to, "label   the program {label}"),
            Self::Keys(label) if label.is_empty() => write!(to, "label   keys as usual"),
            Self::Keys(label) => write!(to, "label   keys {label}"),
        }
    }
}

fn place(to: &mut fmt::Formatter<'_>, mode: u32, nodes: &Numbers) -> fmt::Result {
    let known = usize::try_from(mode & 0x1fff).ok().and_then(|at| MEMORY_MODES.get(at));
    write!(to, "place   its memory by {}", known.unwrap_or(&"an unknown mode"))?;
    match mode & !0x1fff {
        0 => {}
        flags => write!(to, " flags {flags:#x}")?,
    }
    if nodes.0.is_empty() { Ok(()) } else { write!(to, " on nodes {nodes}") }
}

impl fmt::Display for Node {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.mode & 0o170_000 {
            0o060_000 => 'b',
            0o010_000 => 'p',
            _ => 'c',
        };
        let verb = if self.is_bound { "bind" } else { "node" };
        write!(
            to,
            "{verb}    {}  {kind} {}:{} {:04o}",
            self.path,
            self.major,
            self.minor,
            self.mode & 0o7777
        )?;
        if (self.uid, self.gid) == (0, 0) { Ok(()) } else { write!(to, " {}:{}", self.uid, self.gid) }
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "keep    effective: {}", Bits(self.effective))?;
        let others =
            [("permitted", self.permitted), ("inheritable", self.inheritable), ("ambient", self.ambient)];
        for (name, bits) in others {
            if name == "permitted" && bits == self.effective {
                write!(to, "; permitted: the same")?;
            } else {
                write!(to, "; {name}: {}", Bits(bits))?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Numbers {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            if first == last {
                write!(to, "{comma}{first}")?;
            } else {
                write!(to, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Scheduling {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let policy = usize::try_from(self.policy).ok().and_then(|at| POLICIES.get(at));
        write!(to, "under {}", policy.unwrap_or(&"an unknown policy"))?;
        let values = [
            ("priority", u64::from(self.priority)),
            ("runtime", self.runtime),
            ("deadline", self.deadline),
            ("period", self.period),
        ];
        if self.nice != 0 {
            write!(to, " nice {}", self.nice)?;
        }
        for (name, value) in values.into_iter().filter(|(_, value)| *value != 0) {
            write!(to, " {name} {value}")?;
        }
        if self.flags == 0 { Ok(()) } else { write!(to, " flags {:#x}", self.flags) }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "hook    {} {} {:?}", self.field, self.path, self.args)?;
        match self.timeout {
            Some(seconds) => write!(to, " for {seconds} s at most"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Console {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "open    a terminal")?;
        if let Some((rows, columns)) = self.size {
            write!(to, " of {rows} rows and {columns} columns")?;
        }
        to.write_str(if self.mounted { ", also on /dev/console" } else { "" })
    }
}

/// Capabilities by name, without their prefix.
struct Bits(u64);

impl fmt::Display for Bits {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names =
            (0..64_usize).filter(|bit| self.0 & (1 << bit) != 0).map(|bit| match CAPABILITIES.get(bit) {
                Some(name) => name.trim_start_matches("CAP_").to_lowercase(),
                None => bit.to_string(),
            });
        let names: Vec<String> = names.collect();
        to.write_str(if names.is_empty() { "none" } else { "" })?;
        to.write_str(&names.join(" "))
    }
}

impl fmt::Display for Propagation {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            PropagationKind::Private => "private",
            PropagationKind::Shared => "shared",
            PropagationKind::Slave => "slave",
            PropagationKind::Unbindable => "unbindable",
        };
        write!(to, "{}{kind}", if self.recursive { "r" } else { "" })
    }
}

/// The words of fstab(5) for mount attributes: what sets one, and what takes it back.
const ATTRIBUTES: [(&str, &str); 8] = [
    ("ro", "rw"),
    ("nosuid", "suid"),
    ("nodev", "dev"),
    ("noexec", "exec"),
    ("noatime", ""),
    ("strictatime", ""),
    ("nodiratime", "diratime"),
    ("nosymfollow", "symfollow"),
];

impl fmt::Display for Mount {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::New { kind, data, flags, .. } => {
                write!(to, "mount   {kind} on {}", self.target)?;
                of_superblock(to, flags, data)?;
            }
            Source::Mapped(idmap) => {
                let verb = if idmap.recursive { "rbind" } else { "bind" };
                write!(to, "{verb:<7} {} on {}", idmap.path, self.target)?;
                match &idmap.maps {
                    Some(maps) => write!(to, ", {}", ranges(maps))?,
                    None => write!(to, ", ids as the user namespace has them")?,
                }
                write!(to, "{}", if idmap.deep { ", also below" } else { "" })?;
            }
            Source::Bind { path, recursive } => {
                write!(to, "{:<7} {path} on {}", if *recursive { "rbind" } else { "bind" }, self.target)?;
            }
        }
        attributes(to, "", self.set, self.clear)?;
        attributes(to, "r", self.all.0, self.all.1)?;
        if let Some(label) = &self.label {
            write!(to, " labelled {label}")?;
        }
        let words = [
            (self.copies_up, "tmpcopyup"),
            (self.links.copied, "copy-symlink"),
            (self.links.source, "src-nofollow"),
            (self.links.target, "dest-nofollow"),
        ];
        for (_, word) in words.into_iter().filter(|(asked, _)| *asked) {
            write!(to, " {word}")?;
        }
        if let Some(path) = &self.or_bind {
            write!(to, ", or bind {path}")?;
        }
        self.propagation.iter().try_for_each(|how| write!(to, " {how}"))
    }
}

impl fmt::Display for Remount {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "change  {}", self.target)?;
        of_superblock(to, &self.flags, &self.data)?;
        attributes(to, "", self.set, self.clear)?;
        attributes(to, "r", self.all.0, self.all.1)?;
        self.propagation.iter().try_for_each(|how| write!(to, " {how}"))
    }
}

fn of_superblock(
    to: &mut fmt::Formatter<'_>,
    flags: &[String],
    data: &[(String, Option<String>)],
) -> fmt::Result {
    for flag in flags {
        write!(to, " {flag}")?;
    }
    data.iter().try_for_each(|(key, value)| match value {
        Some(value) => write!(to, " {key}={value}"),
        None => write!(to, " {key}"),
    })
}

/// `prefix` is `r` for those of all mounts below.
fn attributes(to: &mut fmt::Formatter<'_>, prefix: &str, set: u64, clear: u64) -> fmt::Result {
    for (word, opposite) in ATTRIBUTES {
        let Some(MountOption::Flag(Flag { attr_set: bit, .. })) = option(word) else { continue };
        if set & bit != 0 {
            write!(to, " {prefix}{word}")?;
        } else if clear & bit == bit && !opposite.is_empty() {
            write!(to, " {prefix}{opposite}")?;
        }
    }
    let keeps_times = clear & MOUNT_ATTR__ATIME == MOUNT_ATTR__ATIME && set & MOUNT_ATTR__ATIME == 0;
    if keeps_times && !prefix.is_empty() { write!(to, " {prefix}relatime") } else { Ok(()) }
}
