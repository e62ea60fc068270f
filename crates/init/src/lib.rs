//! The child: from its birth to the program, one step of the plan after the other.
//!
//! Touches: its own process, and the descriptors it was born with.
//! Never:   decides anything, logs, panics, takes a lock, starts another thread; what fails is reported and it exits.
//! Begin with [`run`].

mod attend;
mod forerun;
mod hook;
mod join;
mod program;
mod report;
mod stdio;
mod terminal;

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use path::{Procfs, Root};
use plan::{Console, Filter, Hook, Propagation, PropagationKind, Step, Walk};
use rootfs::{Handles, Rootfs};
use rustix::fs::{Mode, OFlags, openat};
use rustix::process::{Signal, getpid, set_parent_process_death_signal, setsid, umask};
use rustix::system::{setdomainname, sethostname};
use rustix::thread::{CpuSet, LinkNameSpaceType, move_into_link_name_space, sched_setaffinity};
use spec::{NamespaceKind, RlimitKind, State, Status};
use state::Gate;
use sys::{Called, Doing, Errno, Failed, Mask, Newborn, Side, Strings};

pub use forerun::forerun;
pub use hook::{IMPATIENCE, Manner, run_hook, run_hooks};
pub use join::{Opened, bit};
pub use report::{Listener, Parent, Report, Word};
use terminal::Terminal;

/// More descriptors than we ever have open at a time: below this many, what has done its work is closed before the limit counts.
const MANY: u64 = 256;

/// What the child was born with. The parent made all of it before, so that little is left to allocate.
#[derive(Debug)]
pub struct Inherited {
    /// The line to the parent.
    pub report: Report,
    /// The doors to the v1 cgroups.
    pub doors: Vec<cgroup::Join>,
    /// Where to wait for `start`.
    pub gate: Option<Gate>,
    /// Where the master end of its terminal goes.
    pub console: Option<OwnedFd>,
    /// The host's /proc, for a child that is born where it cannot be opened any more.
    pub proc: Option<Procfs>,
    /// Namespaces of others, to be joined.
    pub namespaces: Vec<Opened>,
    /// The cgroup namespace to join.
    pub cgroup_namespace: Option<OwnedFd>,
    /// What hooks are told of the container, where the plan has some for the child.
    pub state: Option<State>,
    /// The signal mask that the program gets.
    pub mask: Mask,
    /// The program's arguments.
    pub arguments: Strings,
    /// The program's environment.
    pub environment: Strings,
}

impl Inherited {
    /// Closes everything that is not in here, but what the caller of `--preserve-fds` named. First what the child was
    /// born with: the parent's end of the line, by which its death is heard, the lock of the state directory, directories
    /// of the host. Later its own tools, when they are not needed any more.
    fn keep_only(&self, newborn: &Newborn, preserve_fds: u32, birth: Option<&Report>) -> Result<(), Failed> {
        let doors = self.doors.iter().map(|door| door.as_fd().as_raw_fd());
        let gate = self.gate.iter().map(|gate| gate.as_fd().as_raw_fd());
        let proc = self.proc.iter().map(|proc| proc.as_fd().as_raw_fd());
        let lines = self.console.iter().chain(&self.cgroup_namespace).map(AsRawFd::as_raw_fd);
        let others = proc.chain(lines);
        let mut kept: Vec<u32> = doors
            .chain(gate)
            .chain(others)
            .chain(self.namespaces.iter().map(AsRawFd::as_raw_fd))
            .chain(birth.map(AsRawFd::as_raw_fd))
            .chain([self.report.as_raw_fd()])
            .map(i32::cast_unsigned)
            .collect();
        newborn.keep(3 + preserve_fds, &mut kept)
    }
}

impl Inherited {
    /// All descriptors in it: for the parent, which has no more use for them once the child is born.
    pub fn into_handles(self) -> impl Iterator<Item = OwnedFd> {
        let doors = self.doors.into_iter().map(OwnedFd::from);
        let others = self.gate.map(OwnedFd::from).into_iter().chain(self.proc.map(OwnedFd::from));
        let namespaces = self.namespaces.into_iter().map(OwnedFd::from);
        let others = others.chain(self.console).chain(self.cgroup_namespace).chain(namespaces);
        doors.chain(others).chain([OwnedFd::from(self.report)])
    }
}

/// Walks the child's part of the plan. Comes back only if it could not become the program, with the exit status.
pub fn run(plan: &Walk<'_>, newborn: Newborn, inherited: Inherited) -> u8 {
    let kept = inherited.keep_only(&newborn, plan.preserve_fds, None);
    let mut child = Child::new(plan, newborn, inherited);
    match kept.and_then(|()| child.walk()) {
        Ok(()) => 0,
        Err(failed) => {
            child.complain(&failed);
            1
        }
    }
}

struct Child<'a> {
    plan: &'a Walk<'a>,
    newborn: Newborn,
    inherited: Inherited,
    /// Paths of the host that the parent opened for us.
    handles: Handles,
    /// Namespaces that only their own user namespace may permit to join.
    denied: Vec<Opened>,
    rootfs: Option<Rootfs>,
    /// The root of a child that was born inside.
    inside: Option<Root>,
    /// Whether setgroups(2) is denied.
    keeps_groups: bool,
    /// Whether the host's mounts stayed shared with the host.
    shared: bool,
    /// Whether the working directory was entered as root.
    has_arrived: bool,
    /// Whether the signal mask is the program's.
    is_unmasked: bool,
    /// The line to `start`, once it has knocked.
    line: Option<OwnedFd>,
}

impl<'a> Child<'a> {
    fn new(plan: &'a Walk<'a>, newborn: Newborn, inherited: Inherited) -> Self {
        Self {
            plan,
            newborn,
            inherited,
            handles: Handles::default(),
            denied: Vec::new(),
            rootfs: None,
            inside: None,
            keeps_groups: false,
            shared: false,
            has_arrived: false,
            is_unmasked: false,
            line: None,
        }
    }
}

impl Child<'_> {
    fn walk(&mut self) -> Result<(), Failed> {
        self.follow_parent()?;
        // Before a filter may forbid it, and before any of them is heeded.
        sys::default_signals(self.plan.default_signals)?;
        for step in self.plan.steps {
            self.take(step)?;
        }
        Ok(())
    }

    fn take(&mut self, step: &Step) -> Result<(), Failed> {
        match step {
            Step::JoinGroups => self.join_groups(),
            Step::AllCpus => allow_all(),
            Step::AwaitGroup => self.inherited.report.pause().doing(|| "wait for the cgroup"),
            Step::Cpus(cpus) => confine::stay_on(cpus),
            Step::Join(kind) => self.join(*kind),
            Step::Conceal => confine::conceal(),
            Step::OomScore(score) => confine::score(self.proc()?, *score).doing(|| "set oom_score_adj"),
            Step::Session => setsid().map(drop).called(|| "setsid()"),
            Step::Procfs => self.proc().map(drop),
            Step::Label(label) => confine::label(self.proc()?, label),
            Step::Await => self.wait_for_parent(),
            Step::KeepGroups => {
                self.keeps_groups = true;
                Ok(())
            }
            Step::Rule => self.rule(),
            Step::Keyring { name, others } => join_keyring(name, *others),
            Step::JoinCgroupNamespace => self.join_cgroup_namespace(),
            Step::Inside => self.look_inside(),
            Step::CgroupNamespace => sys::unshare_cgroup(),
            Step::Clocks(offsets) => self.set_clocks(offsets).doing(|| "make a time namespace"),
            Step::AwaitDevices => self.inherited.report.pause().doing(|| "wait for network devices"),
            Step::Loopback => sys::loopback_up().doing(|| "bring lo up"),
            Step::Sysctl { path, value } => {
                confine::tune(self.proc()?, path, value).doing(|| format!("set sysctl {path}"))
            }
            Step::Detach(how) => self.detach(*how),
            Step::Root(path) => self.take_root(path),
            Step::Mount(mount) => self.rootfs()?.mount(mount),
            Step::Remount(remount) => self.rootfs()?.remount(remount),
            Step::Node(node) => self.rootfs()?.node(node),
            Step::Link { path, target, replace } => self.rootfs()?.link(path, target, *replace),
            Step::Directory(path) => self.rootfs()?.provide_directory(path),
            Step::Seal(path) => self.rootfs()?.seal(path),
            Step::SealRoot => self.rootfs()?.seal_root(),
            Step::ReadOnly(path) => self.rootfs()?.protect(path),
            Step::LabelMasks(label) => {
                self.rootfs()?.label_masks(label);
                Ok(())
            }
            Step::Mask(path) => self.rootfs()?.mask(path),
            Step::Meet => self.meet(),
            Step::CreateHook(hook) => self.hook(hook, Status::Creating),
            Step::StartHook(hook) => self.hook(hook, Status::Created),
            Step::Console(console) => self.open_terminal(console).doing(|| "open a terminal"),
            Step::Pivot => self.pivot(),
            Step::MoveRoot => self.rootfs()?.move_root(),
            Step::Propagate(how) => self.rootfs()?.propagate(*how),
            Step::Hostname(name) => sethostname(name.as_bytes()).called(|| format!("sethostname({name:?})")),
            Step::Domainname(name) => {
                setdomainname(name.as_bytes()).called(|| format!("setdomainname({name:?})"))
            }
            Step::Home(uid) => self.add_home(*uid),
            Step::Go(path) => {
                self.has_arrived = program::approach(path)?;
                Ok(())
            }
            Step::Limit { kind, soft, hard } => {
                if *kind == RlimitKind::Nofile && *soft < MANY {
                    self.rootfs.iter_mut().for_each(Rootfs::spare);
                }
                confine::limit(*kind, *soft, *hard).doing(|| format!("set rlimit {kind:?}").to_lowercase())
            }
            Step::Umask(mask) => {
                confine::mask_modes(*mask);
                Ok(())
            }
            Step::NoNewPrivileges => confine::lock(),
            Step::Filter(filter) => self.filter(filter),
            Step::Scheduler(how) => confine::schedule(how),
            Step::IoPriority { class, level } => confine::serve(*class, *level),
            Step::Personality(domain) => confine::behave(*domain),
            Step::MemoryPolicy { mode, nodes } => confine::place(*mode, nodes),
            Step::Bound(dropped) => confine::bound(*dropped).doing(|| "drop capabilities"),
            Step::Become { uid, gid, groups } => {
                stdio::settle(self.root()?, *uid)?;
                let groups = (!self.keeps_groups).then_some(groups.as_slice());
                confine::become_user(*uid, *gid, groups).doing(|| format!("become user {uid}:{gid}"))
            }
            Step::Capabilities(kept) => confine::keep(kept).doing(|| "apply capabilities"),
            Step::Heed(signals) => sys::heed_signals(*signals).doing(|| "heed signals"),
            Step::Ready => self.ready(),
            Step::Gate => self.wait(),
            Step::Attend(line) => self.attend(*line),
            Step::Execute => self.execute(),
        }
    }

    fn join(&mut self, kind: NamespaceKind) -> Result<(), Failed> {
        let namespaces = &mut self.inherited.namespaces;
        let at = namespaces.iter().position(|opened| opened.kind() == kind);
        let Some(opened) = at.map(|at| namespaces.swap_remove(at)) else {
            return Err(Failed::refused("the plan joins a namespace that nobody opened"));
        };
        if kind == NamespaceKind::Mount {
            // The host's /proc is taken while it can be trusted.
            self.proc()?;
            opened.refuse_ours()?;
        }
        let waits = self.plan.steps.contains(&Step::Join(NamespaceKind::User));
        match opened.join() {
            Err(failed) if waits && kind != NamespaceKind::User && failed.errno() == Some(Errno::PERM) => {
                self.denied.push(opened);
                Ok(())
            }
            Ok(()) if kind == NamespaceKind::User => {
                self.denied.drain(..).try_for_each(|opened| opened.join())
            }
            joined => joined,
        }
    }

    fn join_groups(&mut self) -> Result<(), Failed> {
        cgroup::join_self(std::mem::take(&mut self.inherited.doors)).doing(|| "join the cgroups")
    }

    fn detach(&mut self, how: Propagation) -> Result<(), Failed> {
        self.shared = how.kind == PropagationKind::Shared;
        Rootfs::detach(how).doing(|| format!("make the host's mounts {how}"))
    }

    fn wait_for_parent(&mut self) -> Result<(), Failed> {
        let handles = self.inherited.report.wait().doing(|| "wait for the maps")?;
        if handles.len() != self.plan.handles.len() {
            return Err(Failed::refused("the parent handed over other descriptors than the plan's"));
        }
        self.handles = self.plan.handles.iter().cloned().zip(handles).collect();
        Ok(())
    }

    /// The kernel takes the signal of our parent's death back from whoever becomes somebody else.
    fn rule(&mut self) -> Result<(), Failed> {
        confine::become_root(self.keeps_groups).doing(|| "become root of the user namespace")?;
        self.follow_parent()
    }

    /// Whoever kills our parent now, ends us; if that has happened already, the line is closed.
    fn follow_parent(&self) -> Result<(), Failed> {
        set_parent_process_death_signal(Some(Signal::KILL)).called(|| "prctl(PR_SET_PDEATHSIG)")?;
        self.inherited.report.parent_lives()
    }

    fn take_root(&mut self, path: &str) -> Result<(), Failed> {
        // What is made in it gets the modes that the plan says.
        umask(Mode::empty());
        let handles = std::mem::take(&mut self.handles);
        let rootfs = Rootfs::take(path, handles, self.shared).doing(|| format!("take {path} as the root"))?;
        self.rootfs = Some(rootfs);
        Ok(())
    }

    fn meet(&mut self) -> Result<(), Failed> {
        self.inherited.report.meet()?;
        self.rootfs()?.look_again();
        Ok(())
    }

    /// Runs a hook as what we are by now, and in the root as long as that is not ours yet.
    fn hook(&mut self, hook: &Hook, status: Status) -> Result<(), Failed> {
        let state = self.inherited.state.as_ref();
        let state = state.ok_or_else(|| Failed::refused("the plan has hooks that are told nothing"))?;
        let mask = self.inherited.mask.without(self.plan.unblocked_signals);
        let manner = Manner {
            cwd: self.rootfs.as_ref().map(|rootfs| rootfs.root().as_fd()),
            mask: Some(&mask),
            environment: Some(&self.inherited.environment),
            newborn: Some(&self.newborn),
            signals: None,
        };
        let state = State { status, pid: getpid().as_raw_pid(), ..state.clone() };
        run_hook(hook, &state, manner)?;
        if let Some(rootfs) = &mut self.rootfs {
            rootfs.look_again();
        }
        Ok(())
    }

    /// The line is closed behind the master end: nothing more is said over it.
    fn open_terminal(&mut self, console: &Console) -> Result<(), Failed> {
        let line = self.inherited.console.take();
        let line =
            line.ok_or_else(|| Failed::refused("the plan has a terminal, and nobody to give it to"))?;
        let terminal = Terminal::open(self.root()?)?;
        if let Some((rows, columns)) = console.size {
            terminal.resize(rows, columns)?;
        }
        if console.mounted {
            self.rootfs()?.mount_console(&terminal.slave)?;
        }
        terminal.settle(&line)
    }

    fn pivot(&mut self) -> Result<(), Failed> {
        let shared = self.shared;
        self.rootfs()?.pivot(shared).doing(|| "pivot into the root")
    }

    /// The kernel takes offsets as long as nobody lives in the namespace, and lets its maker move in afterwards.
    fn set_clocks(&mut self, offsets: &[String]) -> Result<(), Failed> {
        sys::unshare_time()?;
        if !offsets.is_empty() {
            self.proc()?.write("self/timens_offsets", &offsets.join("\n"))?;
        }
        let path = "/proc/self/ns/time_for_children";
        let namespace = path::open_host(path, OFlags::RDONLY)?;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Time)).called(|| "setns(time)")
    }

    fn join_cgroup_namespace(&mut self) -> Result<(), Failed> {
        let namespace = self.inherited.cgroup_namespace.take();
        let namespace = namespace
            .ok_or_else(|| Failed::refused("the plan joins a cgroup namespace that nobody opened"))?;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::ControlGroup))
            .called(|| "setns()")
            .doing(|| "join the cgroup namespace")
    }

    fn look_inside(&mut self) -> Result<(), Failed> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(rustix::fs::CWD, "/", flags, Mode::empty()).called(|| "open(\"/\")")?;
        self.inside = Some(Root::from(root));
        Ok(())
    }

    /// The container's root, made by this process or found.
    fn root(&self) -> Result<&Root, Failed> {
        let made = self.rootfs.as_ref().map(Rootfs::root);
        made.or(self.inside.as_ref()).ok_or_else(|| Failed::refused("the plan has no root before this step"))
    }

    /// The host's /proc, taken before anything of the container's is mounted; nothing but a label is written through it
    /// after the root was entered.
    fn proc(&mut self) -> Result<&Procfs, Failed> {
        match &mut self.inherited.proc {
            Some(proc) => Ok(proc),
            none => Ok(none.insert(Procfs::host()?)),
        }
    }

    fn rootfs(&mut self) -> Result<&mut Rootfs, Failed> {
        self.rootfs.as_mut().ok_or_else(|| Failed::refused("the plan has no root before this step"))
    }

    fn add_home(&mut self, uid: u32) -> Result<(), Failed> {
        let home = program::home(self.root()?, uid)?;
        self.inherited.environment.push(home);
        Ok(())
    }

    fn ready(&mut self) -> Result<(), Failed> {
        program::enter(self.plan.cwd, self.has_arrived)?;
        let program = program::find(&self.inherited.arguments, &self.inherited.environment)?;
        self.inherited.arguments.program(program);
        let fallbacks = self.rootfs.as_ref().map_or_else(Vec::new, |rootfs| rootfs.fallbacks().to_vec());
        // Whatever of ours is open now, the gate and the lines apart, somebody inside might reach: init waits.
        std::mem::forget((self.rootfs.take(), self.inside.take(), self.inherited.proc.take()));
        self.inherited.keep_only(&self.newborn, self.plan.preserve_fds, None)?;
        // From here on our parent may end; until it has written us down, its end is ours all the same, by the line.
        set_parent_process_death_signal(None).called(|| "prctl(PR_SET_PDEATHSIG, 0)")?;
        self.inherited.report.ready(&fallbacks)
    }

    fn wait(&mut self) -> Result<(), Failed> {
        let gate = self
            .inherited
            .gate
            .take()
            .ok_or_else(|| Failed::refused("the plan has a gate, and none was handed over"))?;
        self.line = gate.wait().doing(|| "wait for start")?;
        if self.line.is_none() {
            return Err(Failed::refused("start hung up before it said go"));
        }
        Ok(())
    }

    /// From here on we are two: who comes back is the program to be.
    fn attend(&self, line: u32) -> Result<(), Failed> {
        let line = self.newborn.take(line)?;
        match self.newborn.fork().doing(|| "bear the program")? {
            Side::Child(_) => Ok(()),
            Side::Parent(pid, program) => sys::leave(attend::attend(&self.newborn, &line, pid, &program)),
        }
    }

    fn execute(&mut self) -> Result<(), Failed> {
        self.unmask()?;
        let Inherited { arguments, environment, .. } = &self.inherited;
        let errno = arguments.execute(environment);
        Err(program::not_executed(arguments, errno))
    }

    /// Sets the signal mask before the filter may forbid it.
    fn filter(&mut self, filter: &Filter) -> Result<(), Failed> {
        self.unmask()?;
        let listener = confine::filter(filter).doing(|| "load the seccomp filter")?;
        match (listener, &filter.agent) {
            (None, None) => Ok(()),
            (Some(listener), Some(agent)) => {
                let handed = self.inherited.report.filtered(listener, agent);
                handed.doing(|| "hand over the listener of the seccomp filter")
            }
            _ => Err(Failed::refused("the plan has a listener without an agent, or an agent without one")),
        }
    }

    fn unmask(&mut self) -> Result<(), Failed> {
        if !self.is_unmasked {
            sys::restore_mask(&self.inherited.mask.without(self.plan.unblocked_signals))?;
            self.is_unmasked = true;
        }
        Ok(())
    }

    /// Says why over whichever line is open; nobody may be left to hear it.
    fn complain(&mut self, failed: &Failed) {
        match &self.line {
            Some(line) => report::tell_start(line, failed),
            None => self.inherited.report.failed(failed),
        }
    }
}

/// The kernel takes from "all" what the cpuset allows.
fn allow_all() -> Result<(), Failed> {
    let mut all = CpuSet::new();
    (0..CpuSet::MAX_CPU).for_each(|cpu| all.set(cpu));
    sched_setaffinity(None, &all).called(|| "sched_setaffinity(all)")
}

fn join_keyring(name: &str, others: bool) -> Result<(), Failed> {
    let name = std::ffi::CString::new(name).map_err(|_| Failed::refused("the id holds a NUL byte"))?;
    sys::join_keyring(&name, others).doing(|| "join a session keyring")
}
