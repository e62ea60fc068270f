//! From what was asked and what the host has, to what will be done.

mod namespaces;
mod program;
mod root;

use std::collections::{BTreeMap, BTreeSet};

use namespaces::{Joined, Namespaces};
pub(crate) use program::{Confined, program};
use serde::Serialize;
use spec::{Linux, NamespaceKind, Process, Spec};

use crate::cgroup::{self, CgroupPlan};
use crate::hook::{Later, Moments};
use crate::map::{Handle, Maps};
use crate::mount::{Mount, Source};
use crate::refuse;
use crate::rootless::{self, Ordinary};
use crate::step::{Act, Master, Program, Step, Walk};
use crate::{Filter, Host, Manner, Refused, Request, console, notify, seccomp};

/// What will be done: the parent's acts, the child's steps, and what both need to know.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// The container's id.
    pub id: String,
    /// The bundle directory.
    pub bundle: String,
    /// The root file system on the host, absolute.
    pub rootfs: String,
    /// The parent's acts, in order.
    pub acts: Vec<Act>,
    /// What a forerunner does, in order, before init is born of it in the new namespaces, as our child; empty where init
    /// is born of us.
    pub forerunner: Vec<Step>,
    /// The child's steps, in order.
    pub steps: Vec<Step>,
    /// The cgroups.
    pub cgroup: CgroupPlan,
    /// Namespaces that init is born into, new.
    pub namespaces: Vec<NamespaceKind>,
    /// What of the host the child needs and has no right to open: for the parent to hand over.
    pub handles: Vec<Handle>,
    /// Whether init is the first process of a pid namespace: its death is then everybody's.
    pub own_pids: bool,
    /// What is executed at the end.
    pub program: Program,
    /// Descriptors from 3 on that the program keeps.
    pub preserve_fds: u32,
    /// Signals that the program gets with their default action although our caller ignores them.
    pub default_signals: u64,
    /// Signals that the program gets unblocked although our caller blocks them.
    pub unblocked_signals: u64,
    /// How init runs, and each later process that does not say otherwise.
    pub manner: Manner,
    /// Hooks that other commands run, or this one when all else is done.
    pub later: Later,
    /// Copied into `state`.
    pub annotations: BTreeMap<String, String>,
    /// What is not done as asked, where the specification lets it pass.
    pub warnings: Vec<String>,
}

/// SIGHUP, SIGINT, SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGTERM, SIGSTKFLT, SIGCHLD, SIGURG, SIGPROF,
/// SIGSYS and 34: what ends a program, or is its own doing, reaches it whoever started us. These are the ones that
/// runc's programs get unblocked too (Go's runtime needs them); all others stay as the caller has them.
pub(crate) const UNBLOCKED: u64 = {
    const NUMBERS: [u64; 16] = [1, 2, 3, 4, 5, 6, 7, 8, 11, 15, 16, 17, 23, 27, 31, 34];
    let (mut set, mut at) = (0, 0);
    while at < NUMBERS.len() {
        set |= 1 << (NUMBERS[at] - 1);
        at += 1;
    }
    set
};

/// Whoever comes into a user namespace has every capability there, whatever its maker had: all that we know.
pub(crate) const EVERY: u64 = (1 << spec::CAPABILITIES.len()) - 1;

/// Compiles a checked document (see `Spec::check`). Pure: no file, no clock, no system call.
pub fn compile(spec: &Spec, host: &Host, request: &Request) -> Result<Plan, Refused> {
    let root = spec.root.as_ref().ok_or_else(|| Refused::new("root", "is missing"))?;
    let process = spec.process.as_ref().ok_or_else(|| Refused::new("process", "is missing"))?;
    let empty = Linux::default();
    let linux = spec.linux.as_ref().unwrap_or(&empty);
    refuse::unbuilt(spec)?;
    let namespaces = Namespaces::sort(linux)?;
    let maps = Maps::of(linux)?;
    if let Some(maps) = &maps {
        maps.check(spec, process)?;
    }
    let ordinary = host.caller.map(|caller| Ordinary::sort(caller, spec, maps.as_ref())).transpose()?;
    let cgroup = cgroup::compile(spec, &host.cgroups, &request.id)?;
    let rootfs = if root.path.starts_with('/') {
        root.path.clone()
    } else {
        format!("{}/{}", request.bundle, root.path)
    };
    let moments = Moments::of(spec);
    let (filter, to_keep) =
        seccomp::compile(linux.seccomp.as_ref(), &request.filter, &request.bundle)?.unzip();
    let mut plan = Plan {
        id: request.id.clone(),
        bundle: request.bundle.clone(),
        rootfs,
        acts: Vec::new(),
        forerunner: Vec::new(),
        steps: Vec::new(),
        namespaces: namespaces.born.clone(),
        handles: Vec::new(),
        own_pids: namespaces.fresh(NamespaceKind::Pid),
        program: program(process),
        preserve_fds: request.listen_fds.saturating_add(request.preserve_fds),
        default_signals: host.ignored_signals,
        unblocked_signals: UNBLOCKED,
        manner: Manner::of(spec),
        later: moments.later.clone(),
        annotations: spec.annotations.clone(),
        warnings: cgroup.warnings.clone(),
        cgroup,
    };
    if request.notify.is_some() {
        plan.program.set("NOTIFY_SOCKET", notify::SOCKET);
    }
    if request.listen_fds > 0 {
        // The program is process 1 of its pid namespace; where it is not, it is told the same, as runc tells it.
        plan.program.set("LISTEN_FDS", &request.listen_fds.to_string());
        plan.program.set("LISTEN_PID", "1");
    }
    plan.enter_namespaces(process, linux, &namespaces, request)?;
    plan.build_root(spec, host, request, &namespaces, &moments)?;
    if (namespaces.users || host.inner.is_some()) && !namespaces.cgroup {
        rootless::show_groups(&mut plan.steps);
    }
    if ordinary.is_some() || host.inner.is_some() {
        rootless::protect(&mut plan.steps, ordinary.is_some());
    }
    let keeps_groups = host.denies_groups()
        || request.keeps_groups
        || ordinary.as_ref().is_some_and(|ordinary| ordinary.keeps_groups);
    let umask = process.user.umask.unwrap_or(0o022);
    let bounding = if namespaces.users { host.bounding | EVERY } else { host.bounding };
    plan.manner.check_labels(host)?;
    let Confined { steps, warnings } =
        Confined::compile(process, bounding, &plan.program, &plan.manner, Some(umask))?;
    plan.steps.extend(steps);
    plan.warnings.extend(warnings);
    plan.warnings.extend(rootless::left_out(process, host));
    if namespaces.has_neighbours() {
        let maps_are_ours = !(namespaces.users && ordinary.is_some());
        conceal(&mut plan.steps, maps_are_ours);
        if !plan.forerunner.is_empty() {
            conceal(&mut plan.forerunner, maps_are_ours);
        }
    }
    if keeps_groups {
        rootless::keep_groups(&mut plan.steps);
    }
    plan.steps.push(Step::Ready);
    plan.steps.extend(request.gated.then_some(Step::Gate));
    plan.steps.extend(attendant(request, &plan)?);
    plan.steps.extend(moments.before_program.iter().cloned());
    plan.steps.push(Step::Execute);
    if request.gated {
        heed(&mut plan.steps);
    }
    seccomp::place(filter, process, &mut plan.steps);
    plan.handles = handles(&plan, namespaces.users && ordinary.is_none());
    let master =
        console::master(process, request.detached, request.console_socket.as_ref(), request.console_line)?;
    let mapping = maps.map(|maps| match ordinary {
        _ if namespaces.joins(NamespaceKind::User) => Act::Compare(maps),
        Some(ordinary) => ordinary.map(maps),
        None => Act::Map(maps),
    });
    plan.acts = acts(&plan, &namespaces, (process, linux), mapping, &moments, master, request);
    if let Some(key) = to_keep.flatten() {
        // While init is at its own work: nobody waits for this.
        let at = plan.acts.iter().position(|act| *act == Act::Complete).unwrap_or(plan.acts.len());
        plan.acts.insert(at, Act::Remember(key));
    }
    Ok(plan)
}

/// The first process of a pid namespace dies of no signal that it does not catch, and whoever loses his parent is left to it:
/// few programs are written for that.
fn attendant(request: &Request, plan: &Plan) -> Result<Option<Step>, Refused> {
    if !request.attended {
        return Ok(None);
    }
    if !plan.own_pids {
        return Err(Refused::new(
            "linux.namespaces",
            "has no new pid namespace, whose first process could attend",
        ));
    }
    let line = plan.preserve_fds.checked_sub(1);
    let line = line.ok_or_else(|| Refused::new("process", "is attended, and nobody is told of its end"))?;
    Ok(Some(Step::Attend(3 + line)))
}

/// SIGHUP, SIGINT, SIGQUIT and SIGTERM end a container that waits for `start`, as they end runc's: who stops one then
/// need not wait until SIGKILL is due. That is set before a filter may forbid it.
fn heed(steps: &mut Vec<Step>) {
    const SIGNALS: u64 = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14;
    let goes = |step: &Step| matches!(step, Step::Bound(_) | Step::Become { .. } | Step::Ready);
    let at = steps.iter().position(goes).unwrap_or(steps.len());
    steps.insert(at, Step::Heed(SIGNALS));
}

fn acts(
    plan: &Plan,
    namespaces: &Namespaces<'_>,
    (process, linux): (&Process, &Linux),
    mapping: Option<Act>,
    moments: &Moments,
    master: Option<Master>,
    request: &Request,
) -> Vec<Act> {
    let mut acts = vec![Act::Claim, Act::Intend];
    acts.extend(namespaces.joined.iter().map(|Joined { kind, path, field }| Act::Open {
        kind: *kind,
        path: (*path).to_owned(),
        field: field.clone(),
    }));
    acts.extend(plan.cgroup.unit.as_ref().map(|_| Act::Unit));
    acts.extend((0..plan.cgroup.groups.len()).map(Act::Group));
    if request.gated {
        acts.push(Act::Listen);
    }
    if request.notify.is_some() {
        acts.push(Act::Notify);
        // Where `start` comes, it is `start` who listens.
        acts.extend((!request.gated).then_some(Act::Hear));
    }
    acts.extend(master.map(Act::Console));
    if namespaces.joins(NamespaceKind::Pid) && plan.forerunner.is_empty() {
        acts.push(Act::Enter);
    }
    if namespaces.users {
        let limits = process.rlimits.iter();
        acts.extend(limits.map(|limit| Act::Ceiling { kind: limit.kind, hard: limit.hard }));
    }
    acts.push(Act::Clone(plan.namespaces.clone()));
    // On version 1 init walks into the unit's groups by itself, and has done so when it is ready.
    let relieve = plan.cgroup.unit.as_ref().filter(|unit| unit.held.is_scope()).map(|_| Act::Relieve);
    let is_born_there = plan.cgroup.groups.iter().any(|group| group.version == cgroup::Version::V2);
    acts.extend(relieve.clone().filter(|_| is_born_there));
    if namespaces.users {
        acts.extend(process.oom_score_adj.map(Act::Score));
    }
    let linux = linux.net_devices.iter();
    let devices: Vec<_> = linux
        .map(|(host, device)| (host.clone(), device.name.clone().unwrap_or_else(|| host.clone())))
        .collect();
    if !devices.is_empty() {
        let mut joined = namespaces.joined.iter();
        let network = joined.find(|joined| joined.kind == NamespaceKind::Network);
        let namespace = network.map(|joined| joined.path.to_owned());
        acts.push(Act::Devices { devices, namespace });
    }
    acts.extend(mapping);
    if plan.steps.contains(&Step::Await) {
        acts.push(Act::Hand);
    }
    if moments.meets() {
        acts.push(Act::Meet);
        acts.extend(moments.outside.iter().cloned());
        acts.push(Act::Part);
    }
    let agent = plan.filter().and_then(|filter| filter.agent.clone());
    let mut agent = agent.map(Act::Agent);
    if seccomp::comes_before_ready(&plan.steps) {
        // It waits until the agent has been reached.
        acts.extend(agent.take().into_iter().flat_map(|agent| [agent, Act::Part]));
    }
    if request.keep_status {
        acts.push(Act::Keep);
    }
    acts.push(Act::Complete);
    acts.extend(relieve.filter(|_| !is_born_there));
    acts.extend(agent.into_iter().flat_map(|agent| [Act::Part, agent]));
    acts.extend(request.pidfd_socket.clone().map(Act::Introduce));
    acts.extend(request.pid_file.clone().map(Act::Tell));
    acts
}

/// From its first step on, nobody beside it looks into the child, which is ours still: its memory, and what it has open
/// (CVE-2016-9962). The maps of an ordinary user's child are written by that user, who may not write into the files in
/// /proc of one that hides: it hides once it rules.
fn conceal(steps: &mut Vec<Step>, maps_are_ours: bool) {
    if maps_are_ours {
        steps.insert(0, Step::Conceal);
    }
    conceal_again(steps);
}

/// Where ids change, the kernel makes of a process what `fs.suid_dumpable` says, and that may be "to be traced".
pub(crate) fn conceal_again(steps: &mut Vec<Step>) {
    let changes =
        |step: &Step| matches!(step, Step::Become { .. } | Step::Rule | Step::Join(NamespaceKind::User));
    for at in (0..steps.len()).rev().filter(|&at| steps.get(at).is_some_and(changes)).collect::<Vec<_>>() {
        steps.insert(at + 1, Step::Conceal);
    }
}

impl Plan {
    /// What the child walks.
    pub fn walk(&self) -> Walk<'_> {
        Walk {
            steps: &self.steps,
            handles: &self.handles,
            cwd: &self.program.cwd,
            preserve_fds: self.preserve_fds,
            default_signals: self.default_signals,
            unblocked_signals: self.unblocked_signals,
        }
    }

    /// The system call filter, if there is one.
    pub fn filter(&self) -> Option<&Filter> {
        self.steps.iter().find_map(|step| match step {
            Step::Filter(filter) => Some(filter),
            _ => None,
        })
    }

    /// Whether any hook is to be run, now or later.
    pub fn has_hooks(&self) -> bool {
        let Later { poststart, poststop } = &self.later;
        let starts = |step: &Step| matches!(step, Step::StartHook(_));
        !poststart.is_empty()
            || !poststop.is_empty()
            || self.acts.contains(&Act::Meet)
            || self.steps.iter().any(starts)
    }

    /// What a forerunner walks, where init is born of one.
    pub fn forerunner_walk(&self) -> Option<Walk<'_>> {
        let walk = Walk { steps: &self.forerunner, handles: &[], ..self.walk() };
        (!self.forerunner.is_empty()).then_some(walk)
    }
}

/// What a child cannot open itself: mounts with ids of their own; and, `by_others`, the paths that it has to reach, its
/// root, what is bound, nodes of devices, each once.
fn handles(plan: &Plan, by_others: bool) -> Vec<Handle> {
    let mut seen = BTreeSet::new();
    let mut once =
        |path: &String| (by_others && seen.insert(path.clone())).then(|| Handle::Path(path.clone()));
    let needed = plan.steps.iter().filter_map(|step| match step {
        Step::Root(path) => once(path),
        Step::Mount(Mount { source: Source::Mapped(idmap), .. }) => Some(Handle::Mapped(idmap.clone())),
        Step::Mount(mount) => mount.host_path().and_then(&mut once),
        Step::Node(node) if node.is_bound => once(&node.path),
        _ => None,
    });
    needed.collect()
}

fn keyring(request: &Request, others: bool) -> Option<Step> {
    let name = || format!("_ses.{}", request.id);
    (!request.keep_keyring).then(|| Step::Keyring { name: name(), others })
}
