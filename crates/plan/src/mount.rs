//! Mounts: from the document's options to what the kernel is asked for.

use serde::{Deserialize, Serialize};
use spec::{
    Flag, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY, MS_PRIVATE, MS_SHARED,
    MS_SILENT, MS_SLAVE, MS_UNBINDABLE, MountOption, Spec, option,
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
    /// `MOUNT_ATTR_*` bits that were asked to be clear.
    pub clear: u64,
    /// What of the host is bound there with all that is mounted below it, where the kernel permits no mount of its own.
    pub or_bind: Option<String>,
    /// Propagation changes, in order, once it is attached.
    pub propagation: Vec<Propagation>,
}

impl Mount {
    /// The path of the host that is bound, or may be.
    pub fn host_path(&self) -> Option<&String> {
        match &self.source {
            Source::Bind { path, .. } => Some(path),
            Source::Mapped(_) => None,
            Source::New { .. } => self.or_bind.as_ref(),
        }
    }
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

/// The options of one mount, sorted out.
#[derive(Default)]
struct Options {
    set: u64,
    clear: u64,
    flags: Vec<String>,
    bind: Option<bool>,
    /// Whether ids are mapped, and of all mounts below too.
    idmap: Option<bool>,
    propagation: Vec<Propagation>,
    data: Vec<(String, Option<String>)>,
}

fn sort_out(at: &str, options: &[String]) -> Result<Options, Refused> {
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
            Some(MountOption::Recursive { .. } | MountOption::Remount | MountOption::CopyUp) => {
                return Err(Refused::new(
                    format!("{at}.options[{index}]"),
                    format!("{name:?} is not built yet, see docs/roadmap.md"),
                ));
            }
            None => sorted.data.push(match name.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (name.clone(), None),
            }),
        }
    }
    Ok(sorted)
}

impl Options {
    /// A later word takes back what an earlier one said.
    fn apply(&mut self, name: &str, flag: Flag) {
        self.set = self.set & !flag.attr_clear | flag.attr_set;
        self.clear = (self.clear | flag.attr_clear) & !flag.attr_set;
        self.flags.retain(|known| bits(known) & flag.flags_clear == 0);
        // The kernel's log is no property of a file system: fsconfig(2) has no word for it.
        let is_told = flag.attr_set | flag.attr_clear == 0 && flag.flags_set & !MS_SILENT != 0;
        if is_told && !self.flags.iter().any(|known| known == name) {
            self.flags.push(name.to_owned());
        }
    }
}

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
        let options = sort_out(&at, &mount.options)?;
        let kind = mount.kind.as_deref().unwrap_or("");
        if options.bind.is_some() || kind == "bind" {
            mounts.bind(&at, mount, target, options, bundle)?;
        } else if kind == "cgroup" || (kind == "cgroup2" && cgroups.0.unified_only()) {
            mounts.control_groups(target, &options, cgroups);
        } else if kind.is_empty() {
            return Err(Refused::new(
                format!("{at}.type"),
                "is missing, and the options say neither bind nor rbind",
            ));
        } else {
            mounts.fresh(kind, mount.source.as_deref().unwrap_or("none"), target, options);
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

impl Mounts {
    fn bind(
        &mut self,
        at: &str,
        mount: &spec::Mount,
        target: String,
        options: Options,
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
            (deep, maps) => Source::Mapped(Idmap { path, recursive, maps, deep: deep.unwrap_or(false) }),
        };
        self.push(target, source, options.set, options.clear, options.propagation);
        Ok(())
    }

    fn fresh(&mut self, kind: &str, name: &str, target: String, options: Options) {
        let mut set = options.set;
        let mut flags = options.flags;
        let read_only = set & MOUNT_ATTR_RDONLY != 0;
        if kind == "tmpfs" && read_only {
            set &= !MOUNT_ATTR_RDONLY;
            self.seals.push(Step::Seal(target.clone()));
        } else if read_only && !VIRTUAL.contains(&kind) {
            flags.push("ro".to_owned());
        }
        let source = Source::New { kind: kind.to_owned(), name: name.to_owned(), flags, data: options.data };
        self.push(target, source, set, options.clear, options.propagation);
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
            return self.push(target, source, options.set, options.clear, options.propagation.clone());
        }
        let attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
        let read_only = options.set & MOUNT_ATTR_RDONLY;
        let data = vec![("mode".to_owned(), Some("755".to_owned()))];
        let tmpfs = Source::New { kind: "tmpfs".into(), name: "tmpfs".into(), flags: Vec::new(), data };
        self.push(target.clone(), tmpfs, attributes, 0, options.propagation.clone());
        for hierarchy in &host.hierarchies {
            let directory = hierarchy.directory_name();
            let below = format!("{target}/{directory}");
            // The container's own directory. In a cgroup namespace a mount of the whole hierarchy would show the same,
            // and say the same in mountinfo; it costs more.
            let Some(path) = plan.directory_in(hierarchy) else { continue };
            let source = Source::Bind { path, recursive: false };
            self.push(below, source, attributes | read_only, 0, Vec::new());
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

    fn push(&mut self, target: String, source: Source, set: u64, clear: u64, propagation: Vec<Propagation>) {
        self.steps.push(Step::Mount(Mount { target, source, set, clear, or_bind: None, propagation }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_options_win_over_earlier_ones() -> Result<(), Refused> {
        let options: Vec<String> = ["ro", "nosuid", "rw", "noatime", "relatime"].map(str::to_owned).into();
        let sorted = sort_out("mounts[0]", &options)?;
        assert_eq!(sorted.set, MOUNT_ATTR_NOSUID);
        assert_eq!(sorted.clear, MOUNT_ATTR_RDONLY | spec::MOUNT_ATTR__ATIME);
        Ok(())
    }

    #[test]
    fn a_word_of_the_superblock_can_be_taken_back() -> Result<(), Refused> {
        let options: Vec<String> =
            ["sync", "dirsync", "silent", "sync", "iversion", "async", "acl"].map(str::to_owned).into();
        let sorted = sort_out("mounts[0]", &options)?;
        assert_eq!(sorted.flags, ["dirsync", "iversion"]);
        assert_eq!(sorted.data, [("acl".to_owned(), None)]);
        Ok(())
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
