//! The namespaces: which are made at birth, which later, which are joined, and in what order.

use spec::{Linux, NamespaceKind, Process};

use super::{Plan, keyring};
use crate::step::Step;
use crate::{Refused, Request, cgroup, map};

/// The document's namespaces: made at birth, made later, or joined.
pub(super) struct Namespaces<'a> {
    pub(super) born: Vec<NamespaceKind>,
    pub(super) cgroup: bool,
    time: bool,
    pub(super) joined: Vec<Joined<'a>>,
    /// Whether there is a user namespace among them.
    pub(super) users: bool,
}

/// A namespace that is there already.
pub(super) struct Joined<'a> {
    pub(super) kind: NamespaceKind,
    pub(super) path: &'a str,
    pub(super) field: String,
}

impl<'a> Namespaces<'a> {
    pub(super) fn sort(linux: &'a Linux) -> Result<Self, Refused> {
        let mut sorted = Self {
            born: Vec::new(),
            cgroup: false,
            time: false,
            joined: Vec::new(),
            users: map::has_users(linux),
        };
        for (index, namespace) in linux.namespaces.iter().enumerate() {
            match (&namespace.path, namespace.kind) {
                (Some(path), kind) if !path.is_empty() => {
                    let field = format!("linux.namespaces[{index}].path");
                    sorted.joined.push(Joined { kind, path, field });
                }
                // Its roots are the cgroups that a process is in, so it comes after joining them.
                (_, NamespaceKind::Cgroup) => sorted.cgroup = true,
                // Its clocks are set by whoever makes it, before anybody lives in it: no clone(2) could.
                (_, NamespaceKind::Time) => sorted.time = true,
                (_, kind) => sorted.born.push(kind),
            }
        }
        if sorted.fresh(NamespaceKind::Mount) || sorted.joins(NamespaceKind::Mount) {
            Ok(sorted)
        } else {
            Err(Refused::new(
                "linux.namespaces",
                "a mount namespace is needed: without one every mount would be the host's",
            ))
        }
    }

    /// Whether processes that are none of ours may see the child before it is the program.
    pub(super) fn has_neighbours(&self) -> bool {
        !self.joined.is_empty() || !self.fresh(NamespaceKind::Pid)
    }

    pub(super) fn fresh(&self, kind: NamespaceKind) -> bool {
        self.born.contains(&kind)
    }

    pub(super) fn joins(&self, kind: NamespaceKind) -> bool {
        self.joined.iter().any(|joined| joined.kind == kind)
    }

    /// Namespaces of others are joined before a new user namespace takes the rights over them, and new ones belong to a
    /// user namespace that was joined before they were made: neither is for the process that is cloned into them.
    pub(super) fn need_forerunner(&self) -> bool {
        self.users && !self.joined.is_empty()
    }

    /// What is joined, in order: a mount namespace after all that look at /proc, the user namespace last, since it takes
    /// our rights over the others.
    pub(super) fn joins_in_order(&self) -> impl Iterator<Item = Step> {
        let mut kinds: Vec<NamespaceKind> = self.joined.iter().map(|joined| joined.kind).collect();
        kinds.sort_by_key(|kind| match kind {
            NamespaceKind::User => 2,
            NamespaceKind::Mount => 1,
            _ => 0,
        });
        kinds.into_iter().map(Step::Join)
    }
}

impl Plan {
    /// The order is the kernel's: what needs privilege over the host's files comes first, a cgroup namespace after
    /// the cgroups, sysctls through the host's /proc before anything of the container's is mounted.
    pub(super) fn enter_namespaces(
        &mut self,
        process: &Process,
        linux: &Linux,
        namespaces: &Namespaces<'_>,
        request: &Request,
    ) -> Result<(), Refused> {
        let mut groups = self.cgroup.groups.iter();
        let joins_groups = groups.any(cgroup::Group::joins_by_tasks).then_some(Step::JoinGroups);
        let joins_groups =
            joins_groups.into_iter().chain(self.cgroup.may_be_moved().then_some(Step::AwaitGroup));
        if namespaces.need_forerunner() {
            // A cgroup namespace is joined from inside the cgroups, which init is then born in.
            self.forerunner = joins_groups.chain(namespaces.joins_in_order()).collect();
        } else {
            self.steps.extend(joins_groups);
        }
        let steps = &mut self.steps;
        steps.push(Step::AllCpus);
        if !namespaces.users {
            steps.extend(process.oom_score_adj.map(Step::OomScore));
        }
        steps.push(Step::Session);
        if self.manner.has_labels() {
            steps.push(Step::Procfs);
        }
        if !namespaces.users {
            steps.extend(self.manner.keyring(keyring(request, false)));
        }
        if !namespaces.need_forerunner() {
            steps.extend(namespaces.joins_in_order().filter(|step| *step != Step::Join(NamespaceKind::Pid)));
        }
        if namespaces.cgroup {
            steps.push(Step::CgroupNamespace);
        }
        if namespaces.time {
            let line = |(clock, offset): (&String, &spec::TimeOffset)| {
                format!("{clock} {} {}", offset.secs, offset.nanosecs)
            };
            steps.push(Step::Clocks(linux.time_offsets.iter().map(line).collect()));
        }
        if namespaces.fresh(NamespaceKind::Network) {
            steps.push(Step::Loopback);
        }
        if !linux.net_devices.is_empty() {
            // Before the parameters: they may be those of a device.
            steps.push(Step::AwaitDevices);
        }
        for (key, value) in &linux.sysctl {
            let path = spec::sysctl_path(key).ok_or_else(|| {
                Refused::new(format!("linux.sysctl{}", spec::step(key)), "is no name of a kernel parameter")
            })?;
            steps.push(Step::Sysctl { path, value: value.clone() });
        }
        Ok(())
    }
}
