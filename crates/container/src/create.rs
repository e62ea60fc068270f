//! Create: from a plan to a process that waits to become the program, or has become it.

mod answered;
mod meeting;

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cgroup::{Cgroup, Mark, Paths, Systemd};
use init::{Inherited, Opened, Report};
use plan::{Act, Handle, Maps, Plan, Step};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, renameat, unlinkat};
use rustix::io::write;
use spec::{NamespaceKind, Status};
use state::{Entry, Gate, Moment, Notify, Phase, Record, Store};
use sys::{Called, Doing, Errno, Failed, Mask, Pidfd, SignalFd, Strings, block_signals, restore_mask};

use crate::birth::{Birthplace, Born, Mover};
use crate::console::{Console, Front, Introduced};
use crate::devices::Devices;
use crate::hooks::{Aftermath, Blocked, state_of};
use crate::identity::written;
use crate::keeper::Keeper;
use crate::lack;
use crate::mapper::Mapper;
use crate::ready::{self, Ready};
use crate::terminal::Terminal;
use crate::undo::Undo;
use crate::unit::{self, Placeholder};
use crate::{Containers, Error, Kind, Written, map};

/// A container whose init was born, and its parent: us.
#[derive(Debug)]
pub struct Created {
    /// The container's id.
    pub id: String,
    /// Init's number.
    pub pid: i32,
    pub(crate) init: Pidfd,
    pub(crate) mask: Mask,
    /// The program's terminal, where it came to us.
    pub(crate) terminal: Option<Terminal>,
    /// Where the program says that it is ready.
    notify: Option<Notify>,
    /// Where that is passed on to.
    pub(crate) ready: Option<Ready>,
    /// What was not done as asked.
    pub warnings: Vec<String>,
}

impl Containers {
    /// Carries out a plan. With a gate in it the program waits for [`Containers::start`]; without one it runs when this
    /// returns. What fails is undone.
    ///
    /// Signals stay blocked in the calling thread until the [`Created`] is let go of, so that none ends us half-way.
    pub fn create(&self, plan: &Plan) -> Result<Created, Error> {
        let mask = block_signals()?;
        self.create_blocked(plan, mask).map_err(|error| match restore_mask(&mask) {
            Ok(()) => error,
            Err(failed) => error.and_left(&[failed]),
        })
    }

    /// The same for a caller who has blocked all signals already, and keeps them so: `mask` is what the program gets.
    pub fn create_blocked(&self, plan: &Plan, mask: Mask) -> Result<Created, Error> {
        let mut made = Making {
            containers: self,
            plan,
            mask,
            undo: Undo::default(),
            gate: None,
            namespaces: Vec::new(),
            line: None,
            front: None,
            terminal: None,
            notify: None,
            systemd: None,
        };
        let outcome = made.carry_out();
        let created = match outcome {
            Ok(record) => made.finish(record),
            Err(error) => Err(error),
        };
        created.map_err(|error| error.and_left(&made.undo.run()))
    }
}

impl Created {
    /// Passes on to the service manager at this address that the program is ready, once it says so.
    pub fn report_to(&mut self, address: &OsStr) -> Result<(), Error> {
        let manager = ready::manager(address)?;
        self.ready = self.notify.take().map(|notify| Ready::between(notify, manager));
        Ok(())
    }

    /// Leaves the container alone, to whoever becomes its parent; but not before the program is ready, if anybody wants
    /// to hear that.
    pub fn leave(self) -> Result<(), Error> {
        restore_mask(&self.mask)?;
        match self.ready {
            Some(ready) => Ok(ready.wait(&self.init, self.pid)?),
            None => Ok(()),
        }
    }
}

/// A container in the making.
struct Making<'a> {
    containers: &'a Containers,
    plan: &'a Plan,
    mask: Mask,
    undo: Undo,
    gate: Option<Gate>,
    /// Namespaces of others, opened.
    namespaces: Vec<Opened>,
    /// The child's end of the line that its terminal's master end goes over.
    line: Option<OwnedFd>,
    /// Ours, if it comes to us.
    front: Option<Front>,
    terminal: Option<Terminal>,
    notify: Option<Notify>,
    /// The manager that has made the unit.
    systemd: Option<Systemd>,
}

impl Making<'_> {
    fn carry_out(&mut self) -> Result<Written, Error> {
        let mut record = None;
        for act in &self.plan.acts {
            match act {
                Act::Claim => self.undo.entry = Some(self.claim()?),
                Act::Intend => record = Some(self.intend()?),
                Act::Unit => self.start_unit()?,
                Act::Relieve => self.undo.placeholder.take().map_or(Ok(()), Placeholder::end)?,
                // All groups are made by the first of these acts: each knows the next one's place.
                Act::Group(0) => self.make_groups(record.as_mut())?,
                Act::Group(_) => {}
                Act::Listen => self.gate = Some(Gate::bind(self.entry()?)?),
                Act::Open { kind, path, field } => self.namespaces.push(Opened::open(*kind, path, field)?),
                Act::Notify => Notify::provide(self.entry()?)?,
                Act::Hear => self.notify = Notify::listen(self.entry()?)?,
                Act::Console(master) => {
                    let Console { line, front } = Console::reach(master, self.containers.door.as_ref())?;
                    (self.line, self.front) = (Some(line), front);
                }
                Act::StayOn(cpus) => confine::stay_on(cpus)?,
                Act::Enter => self.enter()?,
                Act::Clone(kinds) => self.clone(kinds, record.as_ref())?,
                Act::Ceiling { kind, hard } => map::raise(*kind, *hard)?,
                Act::Score(score) => map::score(&self.born()?.pid.to_string(), *score)?,
                Act::Devices { devices, namespace } => self.attach(devices, namespace.as_deref())?,
                Act::Map(maps) => map::write(self.born()?.pid, maps)?,
                Act::MapAsUser { maps, own_user, own_group } => {
                    self.map_as_user(maps, *own_user, *own_group, record.as_ref())?;
                }
                Act::Compare(maps) => map::compare(self.born()?.pid, maps)?,
                Act::Hand => self.hand()?,
                Act::Meet => self.meet(record.as_mut())?,
                Act::Hook(hook) => self.hook(hook, record.as_ref())?,
                Act::Keep => self.keep()?,
                Act::Part => self.born()?.release()?,
                Act::Agent(agent) => self.answer(agent, record.as_ref())?,
                Act::Remember(key) => {
                    // Not kept, it is compiled again for the next one: this one has it.
                    let _kept = self.containers.keep_filter(key, self.plan);
                }
                Act::Complete => self.complete(record.as_mut())?,
                Act::Introduce(path) => self.introduce(path)?,
                Act::Tell(path) => self.tell(path)?,
            }
        }
        record.ok_or_else(|| Failed::refused("the plan writes no record").into())
    }

    /// The child may go on: its record is complete.
    fn finish(&mut self, record: Written) -> Result<Created, Error> {
        let born = self.born()?;
        if self.plan.acts.contains(&Act::Listen) {
            born.release()?;
        } else {
            born.execute(self.signals())?;
            // A line that is closed says that the program runs, or that nothing will. Who attends the program never becomes it,
            // and tells how it ended by a line of its own.
            let may_lack = lack::is_limited(&record.limits) && !record.attended;
            if may_lack && lack::has_died(&born.process, born.pid)? {
                return Err(self.died());
            }
            self.poststart(&record)?;
        }
        let init = self.undo.init.take().ok_or_else(|| Failed::refused("init is gone"))?;
        self.undo = Undo::default();
        Ok(Created {
            pid: init.pid,
            init: init.process,
            id: self.plan.id.clone(),
            mask: self.mask,
            terminal: self.terminal.take(),
            notify: self.notify.take(),
            ready: None,
            warnings: record.warnings,
        })
    }

    fn claim(&self) -> Result<Entry, Error> {
        let store = Store::provide(&self.containers.root, self.containers.is_sticky)
            .doing(|| "open the state directory")?;
        Ok(store.claim(&self.plan.id)?)
    }

    fn entry(&self) -> Result<&Entry, Error> {
        self.undo.entry.as_ref().ok_or_else(|| Failed::refused("the plan claims no id before this").into())
    }

    /// From here on `delete` finds everything, whenever we are killed.
    fn intend(&self) -> Result<Written, Error> {
        let plan = self.plan;
        let record = Record {
            version: Record::VERSION,
            phase: Phase::Intent,
            id: plan.id.clone(),
            bundle: plan.bundle.clone(),
            rootfs: plan.rootfs.clone(),
            created: String::new(),
            annotations: plan.annotations.clone(),
            init: None,
            own_pids: plan.own_pids,
            attended: plan.steps.iter().any(|step| matches!(step, Step::Attend(_))),
            keeper: None,
            filter: plan.filter().cloned(),
            manner: plan.manner.clone(),
            hooks: plan.later.clone(),
            hooks_begun: false,
            keeps_keyring: !plan.steps.iter().any(|step| matches!(step, Step::Keyring { .. })),
            cgroup: Paths::survey(&plan.cgroup)?,
            unit: plan.cgroup.unit.as_ref().map(|unit| unit.held.clone()),
            limits: plan.cgroup.limits.clone(),
            warnings: plan.warnings.clone(),
        };
        self.entry()?.write(&record)?;
        Ok(record)
    }

    fn start_unit(&mut self) -> Result<(), Error> {
        let unit = self.plan.cgroup.unit.as_ref();
        let unit = unit.ok_or_else(|| Failed::refused("the plan has no unit"))?;
        if unit.held.is_scope() {
            self.undo.placeholder = Some(Placeholder::fork(&self.mask)?);
        }
        // What fails on the way is taken back by who was asked; a unit of another's is not ours to stop.
        self.systemd = Some(unit::start(unit, self.undo.placeholder.as_ref())?);
        self.undo.unit = Some(unit.held.clone());
        Ok(())
    }

    fn make_groups(&mut self, record: Option<&mut Written>) -> Result<(), Error> {
        let resident = self.undo.placeholder.as_ref().map(|placeholder| placeholder.pid);
        let mark = record.as_deref().map(|record| self.mark(record)).transpose()?;
        let groups = Cgroup::create_around(&self.plan.cgroup, resident, mark.as_ref())?;
        if let Some(record) = record {
            record.cgroup.keep(&groups);
            match groups.omitted() {
                [first, ..] if groups.is_none() => {
                    record.warnings.push(format!("no control groups: {first}"));
                }
                omitted => record.warnings.extend(omitted.iter().map(ToString::to_string)),
            }
        }
        self.undo.cgroup = Some(groups);
        Ok(())
    }

    /// Whose the groups are, should the record be lost.
    fn mark(&self, record: &Written) -> Result<Mark, Error> {
        Ok(Mark {
            root: self.containers.root.clone(),
            device: self.entry()?.device(),
            id: record.id.clone(),
            groups: record.cgroup.clone(),
            unit: record.unit.clone(),
        })
    }

    fn clone(&mut self, kinds: &[NamespaceKind], record: Option<&Written>) -> Result<(), Error> {
        let groups = self.undo.cgroup.as_ref().ok_or_else(|| Failed::refused("the plan has no cgroups"))?;
        let program = &self.plan.program;
        let nul = |_| Failed::refused("an argument holds a NUL byte");
        let (report, line) = Report::pair()?;
        let inherited = Inherited {
            report,
            doors: groups.join_handles()?,
            gate: self.gate.take(),
            console: self.line.take(),
            proc: None,
            namespaces: std::mem::take(&mut self.namespaces),
            cgroup_namespace: None,
            state: record
                .filter(|_| self.plan.has_hooks())
                .map(|record| state_of(record, Status::Creating, 0)),
            mask: self.mask,
            arguments: Strings::new(&program.args).map_err(nul)?,
            environment: Strings::new(&program.env).map_err(nul)?,
        };
        let place = Birthplace {
            namespaces: kinds.iter().fold(0, |all, kind| all | init::bit(*kind)),
            forerunner: self.plan.forerunner_walk(),
            groups,
            unified: groups.unified_dir()?,
            init: None,
            mover: match (&mut self.systemd, &self.plan.cgroup.unit) {
                (Some(systemd), Some(unit)) => {
                    Some(Mover { systemd, unit: unit.held.unit.clone(), below: String::new() })
                }
                _ => None,
            },
            births: self.containers.door.as_ref().map(|door| door.births.as_fd()),
        };
        self.undo.init = Some(place.bear(&self.plan.walk(), inherited, line)?);
        if self.plan.has_hooks() || self.plan.filter().is_some_and(|filter| filter.agent.is_some()) {
            self.undo.blocked = Some(Blocked::new(self.mask.without(self.plan.unblocked_signals))?);
        }
        let acts = &self.plan.acts;
        let maps = self.plan.handles.iter().any(|handle| matches!(handle, Handle::Mapped(_)));
        let bears_more = self.plan.has_hooks() || acts.contains(&Act::Keep) || maps;
        if bears_more && acts.contains(&Act::Enter) {
            // Who is born from here on is ours, and not the container's.
            Opened::open(NamespaceKind::Pid, "/proc/self/ns/pid", "linux.namespaces")?.join()?;
        }
        Ok(())
    }

    fn keep(&mut self) -> Result<(), Error> {
        let keeper = Keeper::fork(self.entry()?, self.born()?, &self.mask)?;
        self.undo.keeper = Some(keeper);
        Ok(())
    }

    /// Children are born in the pid namespace from here on.
    fn enter(&mut self) -> Result<(), Error> {
        let at = self.namespaces.iter().position(|opened| opened.kind() == NamespaceKind::Pid);
        let Some(at) = at else {
            return Err(Failed::refused("the plan enters a pid namespace that nobody opened").into());
        };
        // Whoever lives where our child goes may not trace it, or reach what it has open (CVE-2016-9962).
        confine::conceal()?;
        Ok(self.namespaces.swap_remove(at).join()?)
    }

    fn born(&self) -> Result<&Born, Failed> {
        self.undo.init.as_ref().ok_or_else(|| Failed::refused("the plan has no clone before this"))
    }

    fn hand(&self) -> Result<(), Error> {
        let born = self.born()?;
        born.hand(|| map::open_inside(born.pid, &self.plan.handles), || self.died())
    }

    fn map_as_user(
        &self,
        maps: &Maps,
        own_user: bool,
        own_group: bool,
        record: Option<&Written>,
    ) -> Result<(), Error> {
        let record = record.ok_or_else(|| Failed::refused("the plan maps ids before it has a record"))?;
        let pid = self.born()?.pid;
        let state = state_of(record, Status::Creating, pid);
        let mapper = Mapper { pid, state: &state, mask: &self.mask };
        Ok(mapper.map(maps, own_user, own_group)?)
    }

    fn signals(&self) -> Option<&SignalFd> {
        self.undo.blocked.as_ref().map(|blocked| &blocked.signals)
    }

    /// Moves network devices in. Init waits meanwhile, so that nobody sees half of them.
    fn attach(&mut self, wanted: &[(String, String)], namespace: Option<&str>) -> Result<(), Error> {
        let devices = Devices::reach(self.born()?.pid, namespace).doing(|| "linux.netDevices")?;
        let devices = self.undo.devices.insert(devices);
        for (host, inside) in wanted {
            devices.attach(host, inside).doing(|| format!("linux.netDevices{}", spec::step(host)))?;
        }
        match self.born()?.release() {
            // It has failed meanwhile, and says why when it is listened to.
            Err(failed) if failed.errno() == Some(Errno::PIPE) => Ok(()),
            released => Ok(released?),
        }
    }

    fn complete(&mut self, record: Option<&mut Written>) -> Result<(), Error> {
        let (Some(record), Some(born)) = (record, &self.undo.init) else {
            return Err(Failed::refused("the plan completes a record before it has one").into());
        };
        record.warnings.extend(born.ready(self.signals(), || self.died())?);
        if record.init.is_none() {
            record.init = Some(written(born.pid, &born.process)?);
        }
        self.terminal = self.front.take().map(Front::take).transpose()?;
        record.keeper = self.undo.keeper.as_ref().map(|keeper| keeper.id);
        record.phase = Phase::Complete;
        record.created = Moment::now().rfc3339_nano();
        self.entry()?.write(record)?;
        self.undo.aftermath = Aftermath::of(record);
        self.undo.keeper.as_ref().map_or(Ok(()), |keeper| Ok(keeper.release()?))
    }

    /// The child said nothing and is gone: somebody killed it, and the kernel tells if it was for memory.
    fn died(&self) -> Error {
        let otherwise = "container init was killed before it was ready";
        match &self.undo.cgroup {
            Some(groups) => lack::why("container init", otherwise, groups, 0),
            None => Error::new(Kind::Kernel(None), otherwise),
        }
    }

    fn introduce(&self, path: &str) -> Result<(), Error> {
        Ok(Introduced::to(path)?.send("standard", &self.born()?.process)?)
    }

    fn tell(&mut self, path: &str) -> Result<(), Error> {
        write_pid(CWD, path, self.born()?.pid).doing(|| format!("write the pid file {path}"))?;
        self.undo.pid_file = Some(path.to_owned());
        Ok(())
    }
}

/// The number alone, without a line's end, put in place by rename: whoever sees the file sees the number.
pub(crate) fn write_pid(at: BorrowedFd<'_>, path: &str, pid: i32) -> Result<(), Failed> {
    let (directory, name) = path.rsplit_once('/').unwrap_or((".", path));
    let draft = format!("{directory}/.{name}");
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = openat(at, draft.as_str(), flags, Mode::from_raw_mode(0o666))
        .called(|| format!("open({draft:?})"))?;
    let put = write(&file, pid.to_string().as_bytes())
        .called(|| format!("write({draft:?})"))
        .and_then(|_| renameat(at, draft.as_str(), at, path).called(|| format!("rename({draft:?})")));
    if put.is_err() {
        // The first failure is the one to tell; a draft that stays is told by it too.
        let _second = unlinkat(at, draft.as_str(), AtFlags::empty());
    }
    put
}
