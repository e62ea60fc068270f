//! From what was asked and what the host has, to what will be done.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use spec::{Linux, NamespaceKind, Process, Spec};

use crate::cgroup::{self, CgroupPlan};
use crate::hook::{Later, Moments};
use crate::map::{self, Handle, Maps};
use crate::mount::{self, Mount, Propagation, PropagationKind, Source};
use crate::refuse;
use crate::rootless::{self, Ordinary};
use crate::step::{Act, Capabilities, Master, Program, Step, Walk};
use crate::{Filter, Host, Manner, Refused, Request, clean, console, device, label, notify, seccomp};

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
    if request.gated {
        plan.steps.push(Step::Gate);
    }
    plan.steps.extend(moments.before_program.iter().cloned());
    plan.steps.push(Step::Execute);
    if request.gated {
        heed(&mut plan.steps);
    }
    seccomp::place(filter, process, &mut plan.steps);
    plan.handles = handles(&plan, namespaces.users && ordinary.is_none());
    let master = console::master(process, request.detached, request.console_socket.as_ref())?;
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

/// SIGHUP, SIGINT, SIGQUIT and SIGTERM end a container that waits for `start`, as they end runc's: who stops one then
/// need not wait until SIGKILL is due. That is set before a filter may forbid it.
fn heed(steps: &mut Vec<Step>) {
    const SIGNALS: u64 = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14;
    let goes = |step: &Step| matches!(step, Step::Bound(_) | Step::Become { .. } | Step::Ready);
    let at = steps.iter().position(goes).unwrap_or(steps.len());
    steps.insert(at, Step::Heed(SIGNALS));
}

/// The document's namespaces: made at birth, made later, or joined.
struct Namespaces<'a> {
    born: Vec<NamespaceKind>,
    cgroup: bool,
    time: bool,
    joined: Vec<Joined<'a>>,
    /// Whether there is a user namespace among them.
    users: bool,
}

/// A namespace that is there already.
struct Joined<'a> {
    kind: NamespaceKind,
    path: &'a str,
    field: String,
}

impl<'a> Namespaces<'a> {
    fn sort(linux: &'a Linux) -> Result<Self, Refused> {
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
    fn has_neighbours(&self) -> bool {
        !self.joined.is_empty() || !self.fresh(NamespaceKind::Pid)
    }

    fn fresh(&self, kind: NamespaceKind) -> bool {
        self.born.contains(&kind)
    }

    fn joins(&self, kind: NamespaceKind) -> bool {
        self.joined.iter().any(|joined| joined.kind == kind)
    }

    /// Namespaces of others are joined before a new user namespace takes the rights over them, and new ones belong to a
    /// user namespace that was joined before they were made: neither is for the process that is cloned into them.
    fn need_forerunner(&self) -> bool {
        self.users && !self.joined.is_empty()
    }

    /// What is joined, in order: a mount namespace after all that look at /proc, the user namespace last, since it takes
    /// our rights over the others.
    fn joins_in_order(&self) -> impl Iterator<Item = Step> {
        let mut kinds: Vec<NamespaceKind> = self.joined.iter().map(|joined| joined.kind).collect();
        kinds.sort_by_key(|kind| match kind {
            NamespaceKind::User => 2,
            NamespaceKind::Mount => 1,
            _ => 0,
        });
        kinds.into_iter().map(Step::Join)
    }
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

pub(crate) fn program(process: &Process) -> Program {
    let mut env: Vec<String> = Vec::with_capacity(process.env.len() + 1);
    let mut places = BTreeMap::new();
    for pair in &process.env {
        let name = pair.split_once('=').map_or(pair.as_str(), |(name, _)| name);
        let place = *places.entry(name).or_insert(env.len());
        // The last of a name wins, in the place of the first.
        match env.get_mut(place) {
            Some(known) => known.clone_from(pair),
            None => env.push(pair.clone()),
        }
    }
    let has_home = has_home(&env);
    if !has_home {
        env.retain(|pair| !pair.starts_with("HOME="));
    }
    Program { args: process.args.clone(), env, cwd: clean::absolute(&process.cwd) }
}

impl Program {
    /// Sets a variable, in the place of one of this name.
    fn set(&mut self, name: &str, value: &str) {
        let pair = format!("{name}={value}");
        let is_it = |known: &&mut String| known.split_once('=').is_some_and(|(known, _)| known == name);
        match self.env.iter_mut().find(is_it) {
            Some(known) => *known = pair,
            None => self.env.push(pair),
        }
    }
}

fn has_home(env: &[String]) -> bool {
    env.iter().any(|pair| pair.strip_prefix("HOME=").is_some_and(|home| !home.is_empty()))
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

    /// The order is the kernel's: what needs privilege over the host's files comes first, a cgroup namespace after
    /// the cgroups, sysctls through the host's /proc before anything of the container's is mounted.
    fn enter_namespaces(
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

    fn build_root(
        &mut self,
        spec: &Spec,
        host: &Host,
        request: &Request,
        namespaces: &Namespaces<'_>,
        moments: &Moments,
    ) -> Result<(), Refused> {
        let empty = Linux::default();
        let linux = spec.linux.as_ref().unwrap_or(&empty);
        let (detach, afterwards) = root_propagation(linux)?;
        // A new sysfs shows a network namespace, and is for those alone who rule it.
        let is_inside = namespaces.users || host.inner.is_some();
        let or_bind = is_inside && !namespaces.fresh(NamespaceKind::Network);
        let notify = request.notify.as_ref().map(|directory| notify::mount(spec, directory));
        let spec = notify.as_ref().unwrap_or(spec);
        let mounts = mount::compile(spec, &request.bundle, (&host.cgroups, &self.cgroup), or_bind)?;
        let steps = &mut self.steps;
        steps.push(Step::Detach(detach));
        let is_mapped = |step: &Step| matches!(step, Step::Mount(Mount { source: Source::Mapped(_), .. }));
        if namespaces.users || mounts.steps.iter().any(is_mapped) {
            steps.push(Step::Await);
        }
        if namespaces.users {
            // What needs the owner of the host's files has been done: from here on they are somebody else's.
            steps.push(Step::Rule);
            steps.extend(self.manner.keyring(keyring(request, true)));
        }
        steps.push(Step::Root(self.rootfs.clone()));
        let label = label::of_mounts(spec, host)?;
        steps.extend(mounts.steps.into_iter().map(|step| match (step, label) {
            (Step::Mount(mut mount), Some(label)) => {
                label::label(&mut mount, label);
                Step::Mount(mount)
            }
            (step, _) => step,
        }));
        if !mounts.dev_is_bound {
            steps.extend(device::compile(spec, host.has_kcore, is_inside)?);
        }
        // Hooks may bind more into the root: it is whole, not sealed yet, and nothing in it is covered.
        if moments.meets() {
            steps.push(Step::Meet);
            steps.extend(moments.before_root.iter().cloned());
        }
        steps.extend(spec.process.as_ref().and_then(|process| console::step(process, true)));
        steps.push(Step::Directory(self.program.cwd.clone()));
        steps.extend(mounts.seals);
        if spec.root.as_ref().is_some_and(|root| root.readonly) {
            steps.push(Step::SealRoot);
        }
        steps.extend(unique(&linux.readonly_paths).map(Step::ReadOnly));
        if let (Some(label), false) = (label, linux.masked_paths.is_empty()) {
            steps.push(Step::LabelMasks(label.to_owned()));
        }
        steps.extend(unique(&linux.masked_paths).map(Step::Mask));
        steps.push(if request.no_pivot { Step::MoveRoot } else { Step::Pivot });
        steps.extend(afterwards.map(Step::Propagate));
        let named = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
        steps.extend(named(&spec.hostname).map(Step::Hostname));
        steps.extend(named(&spec.domainname).map(Step::Domainname));
        Ok(())
    }
}

/// What the process gives up and becomes, the same for a container's first and for those that join it later.
pub(crate) struct Confined {
    pub(crate) steps: Vec<Step>,
    pub(crate) warnings: Vec<String>,
}

impl Confined {
    /// `bounding_now` is what it can give up. Without `umask` it keeps its own.
    pub(crate) fn compile(
        process: &Process,
        bounding_now: u64,
        program: &Program,
        manner: &Manner,
        umask: Option<u32>,
    ) -> Result<Self, Refused> {
        let (mut steps, mut warnings) = (Vec::new(), manner.warnings());
        if !has_home(&program.env) {
            steps.push(Step::Home(process.user.uid));
        }
        steps.push(Step::Go(program.cwd.clone()));
        let limits = process.rlimits.iter();
        steps.extend(limits.map(|limit| Step::Limit {
            kind: limit.kind,
            soft: limit.soft,
            hard: limit.hard,
        }));
        steps.extend(umask.map(Step::Umask));
        steps.extend(manner.profile());
        if process.no_new_privileges {
            steps.push(Step::NoNewPrivileges);
        }
        steps.extend(manner.steps()?);
        steps.extend(manner.program_label());
        let user = &process.user;
        let identity = Step::Become { uid: user.uid, gid: user.gid, groups: user.additional_gids.clone() };
        // Without the object there are none, as with runc: not those that our caller happens to have.
        let none = spec::Capabilities::default();
        let asked = process.capabilities.as_ref().unwrap_or(&none);
        let mut unknown = Vec::new();
        let mut set = |names: &[String]| {
            let mut bits = 0;
            for name in names {
                match spec::capability(name) {
                    Some(number) => bits |= 1 << number,
                    None => unknown.push(name.clone()),
                }
            }
            bits
        };
        let bounding: u64 = set(&asked.bounding);
        let kept = Capabilities {
            effective: set(&asked.effective),
            permitted: set(&asked.permitted),
            inheritable: set(&asked.inheritable),
            ambient: set(&asked.ambient),
        };
        // The kernel keeps over execve(2) only what is permitted and inheritable too; runc's own template asks for more,
        // and runc drops it without a word.
        let raised = kept.ambient & kept.permitted & kept.inheritable;
        if raised != kept.ambient {
            let lost = (0_usize..64).filter(|bit| (kept.ambient & !raised) & (1 << bit) != 0);
            let lost: Vec<&str> = lost.filter_map(|bit| spec::CAPABILITIES.get(bit).copied()).collect();
            let why = "not both permitted and inheritable";
            let lost = lost.join(", ");
            warnings
                .push(format!("process.capabilities.ambient: can't raise ambient capability {lost}: {why}"));
        }
        let kept = Capabilities { ambient: raised, ..kept };
        unknown.sort();
        unknown.dedup();
        if !unknown.is_empty() {
            warnings.push(format!("process.capabilities: ignoring unknown {}", unknown.join(", ")));
        }
        let dropped = bounding_now & !bounding;
        steps.extend((dropped != 0).then_some(Step::Bound(dropped)));
        steps.push(identity);
        steps.push(Step::Capabilities(kept));
        Ok(Self { steps, warnings })
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

/// What the copied host's mounts become, and what `/` becomes inside.
///
/// Nothing that the container mounts reaches the host, unless it was asked for: then the host's mounts stay shared.
fn root_propagation(linux: &Linux) -> Result<(Propagation, Option<Propagation>), Refused> {
    let slave = Propagation { kind: PropagationKind::Slave, recursive: true };
    let Some(name) = linux.rootfs_propagation.as_deref().filter(|name| !name.is_empty()) else {
        return Ok((slave, None));
    };
    let asked = Propagation::named(name).ok_or_else(|| {
        let known = "private, shared, slave or unbindable, or one of these with an r before it";
        Refused::new("linux.rootfsPropagation", format!("{name:?} is not one of {known}"))
    })?;
    let everywhere = Propagation { recursive: true, ..asked };
    Ok(match asked.kind {
        PropagationKind::Slave | PropagationKind::Private => (everywhere, None),
        PropagationKind::Shared => (everywhere, Some(asked)),
        PropagationKind::Unbindable => {
            (Propagation { kind: PropagationKind::Private, recursive: true }, Some(asked))
        }
    })
}

/// Each path once, in the order in which they come. A document may list a million: looking through those before for each
/// would take hours.
fn unique(paths: &[String]) -> impl Iterator<Item = String> {
    let mut seen = BTreeSet::new();
    paths.iter().map(|path| clean::absolute(path)).filter(move |path| seen.insert(path.clone()))
}
