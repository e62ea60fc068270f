//! Mounts: from the document's options to what the kernel is asked for.

use serde::{Deserialize, Serialize};
use spec::{
    Flag, Link, MOUNT_ATTR__ATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NODIRATIME, MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID, MOUNT_ATTR_NOSYMFOLLOW, MOUNT_ATTR_RDONLY, MS_NOATIME, MS_NODIRATIME, MS_PRIVATE,
    MS_RELATIME, MS_SHARED, MS_SILENT, MS_SLAVE, MS_STRICTATIME, MS_UNBINDABLE, MountOption, NamespaceKind,
    Spec, option,
};

use crate::cgroup::{CgroupPlan, HostCgroups};
use crate::map::{Idmap, Maps};
use crate::step::Step;
use crate::{Refused, clean};

/// One mount, ready to be made.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Mount {
    /// Where: absolute inside the container, cleaned.
    pub target: String,
    /// Of what.
    pub source: Source,
    /// `MOUNT_ATTR_*` bits set.
    pub set: u64,
    /// `MOUNT_ATTR_*` bits cleared.
    pub clear: u64,
    /// Those of them that the document names. The others stay where another user namespace locked them.
    #[serde(default)]
    pub named: u64,
    /// The same for it and all mounts below it: set, and cleared.
    #[serde(default)]
    pub all: (u64, u64),
    /// The SELinux label that its directory gets.
    #[serde(default)]
    pub label: Option<String>,
    /// A tmpfs that begins with what lies in the directory under it.
    #[serde(default)]
    pub copies_up: bool,
    /// What happens where it meets symbolic links.
    #[serde(default)]
    pub links: Links,
    /// What of the host is bound there with all that is mounted below it, all read-only, where the kernel permits no mount of its
    /// own.
    pub or_bind: Option<String>,
    /// Whether it is left out where what is to be bound is not there: the group of an ordinary user, say.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_optional: bool,
    /// Propagation changes, in order, once it is attached.
    pub propagation: Vec<Propagation>,
}

impl Mount {
    /// The path of the host that is bound, or may be.
    pub fn host_path(&self) -> Option<&String> {
        match &self.source {
            // What is not followed, or may not be there, is not opened for the child: it looks for itself.
            Source::Bind { path, .. } => {
                (!self.links.source && !self.links.copied && !self.is_optional).then_some(path)
            }
            Source::Mapped(_) => None,
            Source::New { .. } => self.or_bind.as_ref(),
        }
    }
}

/// Symbolic links that a bind mount does not follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Links {
    /// A source that is a link is made again in place of the mount.
    pub copied: bool,
    /// A source that is a link is itself mounted.
    pub source: bool,
    /// A target that is a link is itself covered.
    pub target: bool,
}

/// A change of what is mounted somewhere already.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Remount {
    /// Where: absolute inside the container, cleaned.
    pub target: String,
    /// `MOUNT_ATTR_*` bits set.
    pub set: u64,
    /// `MOUNT_ATTR_*` bits cleared.
    pub clear: u64,
    /// Those of them that the document names. The others stay where another user namespace locked them.
    pub named: u64,
    /// The same for it and all mounts below it: set, and cleared.
    pub all: (u64, u64),
    /// Flags of the superblock: `ro`, `rw`, `sync`.
    pub flags: Vec<String>,
    /// Options of the file system: `size=64k`.
    pub data: Vec<(String, Option<String>)>,
    /// Propagation changes, in order.
    pub propagation: Vec<Propagation>,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Source {
    /// A file system of its own.
    New {
        /// Its type: `tmpfs`.
        kind: String,
        /// What mountinfo shows as its source.
        name: String,
        /// Flags of the superblock: `ro`, `sync`.
        flags: Vec<String>,
        /// Options of the file system: `size=64k`.
        data: Vec<(String, Option<String>)>,
    },
    /// A path of the host, with ids mapped.
    Mapped(Idmap),
    /// A path of the host.
    Bind {
        /// Absolute, links followed.
        path: String,
        /// Whether what is mounted below it comes along.
        recursive: bool,
    },
}

/// How mounts made later spread between copies of a mount (mount_namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Propagation {
    /// Which way.
    pub kind: PropagationKind,
    /// Whether all mounts below get it too.
    pub recursive: bool,
}

/// The four ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[allow(missing_docs, reason = "the names are the man page's")]
pub enum PropagationKind {
    Private,
    Shared,
    Slave,
    Unbindable,
}

impl Propagation {
    /// `rslave` and its kin.
    pub fn named(name: &str) -> Option<Self> {
        let (kind, recursive) = spec::propagation(name)?;
        let kind = match kind {
            MS_PRIVATE => PropagationKind::Private,
            MS_SHARED => PropagationKind::Shared,
            MS_SLAVE => PropagationKind::Slave,
            MS_UNBINDABLE => PropagationKind::Unbindable,
            _ => return None,
        };
        Some(Self { kind, recursive })
    }

    /// The `MS_*` bit of mount(2), which mount_setattr(2) takes as well.
    pub fn bit(self) -> u64 {
        match self.kind {
            PropagationKind::Private => MS_PRIVATE,
            PropagationKind::Shared => MS_SHARED,
            PropagationKind::Slave => MS_SLAVE,
            PropagationKind::Unbindable => MS_UNBINDABLE,
        }
    }
}

/// What becomes of the attributes of something that is mounted already.
struct Change {
    set: u64,
    clear: u64,
    named: u64,
}

/// The options of one mount, sorted out.
#[derive(Default)]
struct Options {
    set: u64,
    clear: u64,
    /// Whether any word speaks of this mount alone.
    is_told: bool,
    /// The `MS_*` bits of access times that are asked for: that of `relatime` is no bit in `set`.
    times: u64,
    all: (u64, u64),
    flags: Vec<String>,
    bind: Option<bool>,
    /// Whether ids are mapped, and of all mounts below too.
    idmap: Option<bool>,
    remounts: bool,
    copies_up: bool,
    links: Links,
    /// Where the first word about links stands.
    link_word: Option<usize>,
    propagation: Vec<Propagation>,
    data: Vec<(String, Option<String>)>,
}

fn sort_out(options: &[String]) -> Options {
    let mut sorted = Options::default();
    for (index, name) in options.iter().enumerate() {
        match option(name) {
            Some(MountOption::Flag(flag)) => sorted.apply(name, flag),
            Some(MountOption::Bind { recursive }) => sorted.bind = Some(recursive),
            Some(MountOption::Propagation { .. }) => sorted.propagation.extend(Propagation::named(name)),
            Some(MountOption::Idmap { recursive }) => {
                sorted.idmap = Some(recursive || sorted.idmap == Some(true));
            }
            Some(MountOption::Nothing) => {}
            Some(MountOption::Recursive { set, clear }) => {
                let (all_set, all_clear) = sorted.all;
                sorted.all = (all_set & !clear | set, (all_clear | clear) & !set);
            }
            Some(MountOption::Remount) => sorted.remounts = true,
            Some(MountOption::CopyUp) => sorted.copies_up = true,
            Some(MountOption::Link(link)) => {
                sorted.link_word.get_or_insert(index);
                match link {
                    Link::Copied => sorted.links.copied = true,
                    Link::Source => sorted.links.source = true,
                    Link::Target => sorted.links.target = true,
                }
            }
            None => sorted.data.push(match name.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (name.clone(), None),
            }),
        }
    }
    sorted
}

impl Mount {
    fn of(target: String, source: Source, set: u64) -> Self {
        let links = Links::default();
        let propagation = Vec::new();
        Self {
            target,
            source,
            set,
            clear: 0,
            named: 0,
            all: (0, 0),
            or_bind: None,
            is_optional: false,
            label: None,
            copies_up: false,
            links,
            propagation,
        }
    }
}

impl Options {
    fn mount(&self, target: String, source: Source) -> Mount {
        let &Self { set, clear, all, .. } = self;
        let propagation = self.propagation.clone();
        Mount { clear, named: clear, all, propagation, ..Mount::of(target, source, set) }
    }

    /// As mount(2) has it for what is mounted already: what is not said is taken back, but access times are kept as they
    /// are unless a way to keep them is asked for; `atime` and its kin ask for none.
    fn change(&self) -> Change {
        const TIMES: u64 = MOUNT_ATTR__ATIME | MOUNT_ATTR_NODIRATIME;
        const OTHERS: u64 = MOUNT_ATTR_RDONLY
            | MOUNT_ATTR_NOSUID
            | MOUNT_ATTR_NODEV
            | MOUNT_ATTR_NOEXEC
            | MOUNT_ATTR_NOSYMFOLLOW;
        let times = if self.times == 0 { 0 } else { MOUNT_ATTR__ATIME | MOUNT_ATTR_NODIRATIME & !self.set };
        let set = if self.times == 0 { self.set & !TIMES } else { self.set };
        let named = self.clear & !TIMES | times;
        Change { set, clear: OTHERS & !set | named, named }
    }

    /// A later word takes back what an earlier one said.
    fn apply(&mut self, name: &str, flag: Flag) {
        self.set = self.set & !flag.attr_clear | flag.attr_set;
        self.clear = (self.clear | flag.attr_clear) & !flag.attr_set;
        self.is_told = true;
        self.times = (self.times & !flag.flags_clear) | flag.flags_set & TIMES;
        self.flags.retain(|known| bits(known) & flag.flags_clear == 0);
        // The kernel's log is no property of a file system: fsconfig(2) has no word for it.
        let is_told = flag.attr_set | flag.attr_clear == 0 && flag.flags_set & !MS_SILENT != 0;
        if is_told && !self.flags.iter().any(|known| known == name) {
            self.flags.push(name.to_owned());
        }
    }
}

/// The `MS_*` bits that ask for a way to keep access times.
const TIMES: u64 = MS_NOATIME | MS_NODIRATIME | MS_RELATIME | MS_STRICTATIME;

/// The `MS_*` bits that a word of the superblock sets.
fn bits(name: &str) -> u64 {
    match option(name) {
        Some(MountOption::Flag(flag)) => flag.flags_set,
        _ => 0,
    }
}

/// Files of /proc that lxcfs and its like may cover; anything else there would hide the truth from us or the container.
const COVERABLE: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// File systems that stand for a namespace: one superblock for many mounts, whose own flags are not ours to set.
const VIRTUAL: [&str; 7] = ["proc", "sysfs", "tmpfs", "mqueue", "devpts", "cgroup", "cgroup2"];

/// What the mounts of a document become.
pub(crate) struct Mounts {
    /// Steps, in the document's order.
    pub(crate) steps: Vec<Step>,
    /// Mounts that are made read-only at the end, so that others could be made below them.
    pub(crate) seals: Vec<Step>,
    /// Whether /dev is the host's, which is then left as it is.
    pub(crate) dev_is_bound: bool,
}

pub(crate) fn compile(
    spec: &Spec,
    bundle: &str,
    cgroups: (&HostCgroups, &CgroupPlan),
    binds_sys: bool,
) -> Result<Mounts, Refused> {
    let mut mounts = Mounts { steps: Vec::new(), seals: Vec::new(), dev_is_bound: false };
    for (index, mount) in spec.mounts.iter().enumerate() {
        let at = format!("mounts[{index}]");
        let target = clean::absolute(&mount.destination);
        check_target(&at, &target)?;
        let options = sort_out(&mount.options);
        let kind = mount.kind.as_deref().unwrap_or("");
        let is_bind = options.bind.is_some() || kind == "bind";
        if let (Some(word), false) = (options.link_word, is_bind && !options.remounts) {
            return Err(Refused::new(
                format!("{at}.options[{word}]"),
                format!(
                    "{:?} is an option of a bind mount",
                    mount.options.get(word).map_or("", String::as_str)
                ),
            ));
        }
        if options.remounts {
            mounts.remount(&at, is_bind, kind, target, options)?;
        } else if is_bind {
            mounts.bind(&at, mount, target, &options, bundle)?;
        } else if let Some(path) = shared_tree(kind, spec, cgroups.0) {
            mounts.steps.push(Step::Mount(options.mount(target, Source::Bind { path, recursive: true })));
        } else if kind == "cgroup" || (kind == "cgroup2" && cgroups.0.unified_only()) {
            mounts.control_groups(target, &options, cgroups);
        } else if kind.is_empty() {
            return Err(Refused::new(
                format!("{at}.type"),
                "is missing, and the options say neither bind nor rbind",
            ));
        } else {
            mounts.fresh(kind, mount.source.as_deref().unwrap_or("none"), target, &options);
            if let ("sysfs", true, Some(Step::Mount(last))) = (kind, binds_sys, mounts.steps.last_mut()) {
                last.or_bind = Some("/sys".to_owned());
            }
        }
    }
    Ok(mounts)
}

fn check_target(at: &str, target: &str) -> Result<(), Refused> {
    let path = || format!("{at}.destination");
    if target == "/" {
        return Err(Refused::new(path(), "is the root file system itself"));
    }
    if target.starts_with("/proc/") && !COVERABLE.contains(&target) {
        return Err(Refused::new(path(), format!("{target} is inside /proc")));
    }
    Ok(())
}

/// Where the host's unified tree is, if that is what a mount without a cgroup namespace of its own would show. Such a
/// mount is the host's: made anew, it would take the host's options away from the whole tree (`nsdelegate`,
/// `memory_recursiveprot`), as they are no mount's own.
fn shared_tree(kind: &str, spec: &Spec, host: &HostCgroups) -> Option<String> {
    let is_tree = kind == "cgroup2" || (kind == "cgroup" && host.unified_only());
    let mut namespaces = spec.linux.iter().flat_map(|linux| &linux.namespaces);
    if !is_tree || namespaces.any(|one| one.kind == NamespaceKind::Cgroup) {
        return None;
    }
    host.unified.as_ref().map(|unified| unified.mount.clone())
}

impl Mounts {
    /// The attributes of its source stay where no word speaks of any; as soon as one does, what is not said is taken back.
    fn bind(
        &mut self,
        at: &str,
        mount: &spec::Mount,
        target: String,
        options: &Options,
        bundle: &str,
    ) -> Result<(), Refused> {
        if let Some((key, _)) = options.data.first() {
            return Err(Refused::new(
                format!("{at}.options"),
                format!("{key:?} is no option of a bind mount"),
            ));
        }
        let source = mount.source.as_deref().filter(|source| !source.is_empty());
        let source = source.ok_or_else(|| Refused::new(format!("{at}.source"), "a bind mount needs one"))?;
        let path = if source.starts_with('/') { source.to_owned() } else { format!("{bundle}/{source}") };
        self.dev_is_bound |= target == "/dev";
        let recursive = options.bind.unwrap_or(false);
        let maps = Maps::of_mount(mount, at)?;
        let source = match (options.idmap, maps) {
            (None, None) => Source::Bind { path, recursive },
            (deep, maps) => {
                if let Some(word) = options.link_word {
                    let why = "no link is meant itself where ids are mapped";
                    return Err(Refused::new(format!("{at}.options[{word}]"), why));
                }
                Source::Mapped(Idmap { path, recursive, maps, deep: deep.unwrap_or(false) })
            }
        };
        let links = options.links;
        let Change { set, clear, named } =
            if options.is_told { options.change() } else { Change { set: 0, clear: 0, named: 0 } };
        let mount = Mount { set, clear, named, links, ..options.mount(target, source) };
        self.steps.push(Step::Mount(mount));
        Ok(())
    }

    /// What is not said is taken back, also where nothing is. A file system that stands for a namespace, or is the host's
    /// too, keeps its own flags unless it is told options of its own.
    fn remount(
        &mut self,
        at: &str,
        is_bind: bool,
        kind: &str,
        target: String,
        options: Options,
    ) -> Result<(), Refused> {
        if let (true, Some((key, _))) = (is_bind, options.data.first()) {
            return Err(Refused::new(
                format!("{at}.options"),
                format!("{key:?} is no option of a bind mount"),
            ));
        }
        let Change { set, clear, named } = options.change();
        let Options { all, mut flags, data, propagation, .. } = options;
        if is_bind {
            flags.clear();
        } else if !VIRTUAL.contains(&kind) {
            if set & MOUNT_ATTR_RDONLY != 0 {
                flags.push("ro".to_owned());
            } else if named & MOUNT_ATTR_RDONLY != 0 {
                flags.push("rw".to_owned());
            }
        }
        let remount = Remount { target, set, clear, named, all, flags, data, propagation };
        self.steps.push(Step::Remount(remount));
        Ok(())
    }

    fn fresh(&mut self, kind: &str, name: &str, target: String, options: &Options) {
        let mut set = options.set;
        let mut flags = options.flags.clone();
        let read_only = set & MOUNT_ATTR_RDONLY != 0;
        if kind == "tmpfs" && read_only {
            set &= !MOUNT_ATTR_RDONLY;
            self.seals.push(Step::Seal(target.clone()));
        } else if read_only && !VIRTUAL.contains(&kind) {
            flags.push("ro".to_owned());
        }
        let source =
            Source::New { kind: kind.to_owned(), name: name.to_owned(), flags, data: options.data.clone() };
        let copies_up = options.copies_up && kind == "tmpfs";
        self.steps.push(Step::Mount(Mount { set, copies_up, ..options.mount(target, source) }));
    }

    /// v2: the one hierarchy. v1: a tmpfs with one mount for each, and links for controllers that share one.
    fn control_groups(
        &mut self,
        target: String,
        options: &Options,
        (host, plan): (&HostCgroups, &CgroupPlan),
    ) {
        if host.unified_only() {
            let source = Source::New {
                kind: "cgroup2".into(),
                name: "cgroup".into(),
                flags: Vec::new(),
                data: Vec::new(),
            };
            return self.steps.push(Step::Mount(options.mount(target, source)));
        }
        let attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
        let read_only = options.set & MOUNT_ATTR_RDONLY;
        let data = vec![("mode".to_owned(), Some("755".to_owned()))];
        let tmpfs = Source::New { kind: "tmpfs".into(), name: "tmpfs".into(), flags: Vec::new(), data };
        let propagation = options.propagation.clone();
        self.steps.push(Step::Mount(Mount { propagation, ..Mount::of(target.clone(), tmpfs, attributes) }));
        for hierarchy in &host.hierarchies {
            let directory = hierarchy.directory_name();
            let below = format!("{target}/{directory}");
            // The container's own directory. In a cgroup namespace a mount of the whole hierarchy would show the same,
            // and say the same in mountinfo; it costs more.
            let Some(path) = plan.directory_in(hierarchy) else { continue };
            let source = Source::Bind { path, recursive: false };
            let is_optional = plan.groups.iter().any(|group| !group.required);
            let mount = Mount::of(below, source, attributes | read_only);
            self.steps.push(Step::Mount(Mount { is_optional, ..mount }));
            for controller in hierarchy.controllers.iter().filter(|name| **name != directory) {
                let link = Step::Link {
                    path: format!("{target}/{controller}"),
                    target: directory.clone(),
                    replace: false,
                };
                self.steps.push(link);
            }
        }
        if read_only != 0 {
            self.seals.push(Step::Seal(target));
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_options_win_over_earlier_ones() {
        let options: Vec<String> = ["ro", "nosuid", "rw", "noatime", "relatime"].map(str::to_owned).into();
        let sorted = sort_out(&options);
        assert_eq!(sorted.set, MOUNT_ATTR_NOSUID);
        assert_eq!(sorted.clear, MOUNT_ATTR_RDONLY | spec::MOUNT_ATTR__ATIME);
    }

    /// What is mounted is changed as mount(2) does it with these words.
    #[test]
    fn what_is_not_said_is_taken_back_but_for_access_times() {
        const OTHERS: u64 = 0x20_000f;
        let rows: &[(&[&str], u64, u64, u64)] = &[
            (&["ro"], MOUNT_ATTR_RDONLY, OTHERS & !1, 0),
            (&["dev"], 0, OTHERS, MOUNT_ATTR_NODEV),
            (&["silent"], 0, OTHERS, 0),
            (&["atime", "diratime", "norelatime"], 0, OTHERS, 0),
            (&["noatime", "atime"], 0, OTHERS, 0),
            (&["relatime"], 0, OTHERS | 0xf0, 0xf0),
            (&["nodiratime"], 0x80, OTHERS | 0x70, 0x70),
            (&["nodiratime", "strictatime", "rw"], 0xa0, OTHERS | 0x70, 0x71),
        ];
        for (words, set, clear, named) in rows {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            let change = sort_out(&words).change();
            assert_eq!((change.set, change.clear, change.named), (*set, *clear, *named), "{words:?}");
        }
    }

    #[test]
    fn a_word_of_the_superblock_can_be_taken_back() {
        let options: Vec<String> =
            ["sync", "dirsync", "silent", "sync", "iversion", "async", "acl"].map(str::to_owned).into();
        let sorted = sort_out(&options);
        assert_eq!(sorted.flags, ["dirsync", "iversion"]);
        assert_eq!(sorted.data, [("acl".to_owned(), None)]);
    }

    #[test]
    fn propagation_is_known_by_name() {
        assert!(
            Propagation::named("rprivate").is_some_and(|p| p.recursive && p.kind == PropagationKind::Private)
        );
        assert!(Propagation::named("shared").is_some_and(|p| !p.recursive));
        assert_eq!(Propagation::named("relatime"), None);
    }
}
