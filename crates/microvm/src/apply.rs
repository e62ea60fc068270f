//! Apply: from a plan to a monitor that lives in its limits.

use cgroup::{Cgroup, Mark, Paths};
use container::identity::written;
use container::undisturbed;
use container::unit::{self, Placeholder};
use plan::cgroup::{CgroupPlan, Version};
use plan::sandbox::{Pattern, SandboxPlan};
use plan::systemd::Held;
use rustix::process::getpid;
use state::Entry;
use sys::{Doing, Failed, Mask, Pidfd};

use crate::birth::{Born, Program, bear, or_by_manager};
use crate::destroy::dissolve;
use crate::threads::{self, Found};
use crate::{Error, Kind, Phase, Record, Sandboxes, not_found};

/// Whom limits are for.
#[derive(Debug)]
pub enum Subject {
    /// A process that runs, by its number. What it has touched already stays charged where it was.
    Running(i32),
    /// A program, which is born in its limits.
    Program(Program),
}

/// What is asked beside the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// How threads are named that are the guest's processors.
    pub patterns: Vec<Pattern>,
    /// How many of them there will be; one at least, where that is not said.
    pub vcpus: Option<u32>,
    /// How long to wait for them, in milliseconds.
    pub patience: u32,
}

impl Default for Order {
    fn default() -> Self {
        Self { patterns: Pattern::known(), vcpus: None, patience: 10_000 }
    }
}

/// A monitor in its limits.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// Its number.
    pub pid: i32,
    /// What does not hold, and why.
    pub not_enforced: Vec<String>,
    /// What somebody should know.
    pub notes: Vec<String>,
}

impl Sandboxes {
    /// Carries out a plan. What fails is undone; a monitor that ran before is put back where it was.
    ///
    /// Signals stay blocked meanwhile. What a killed `apply` has left is removed first.
    pub fn apply(&self, plan: &SandboxPlan, subject: &Subject, order: &Order) -> Result<Applied, Error> {
        undisturbed(|mask| self.apply_blocked(plan, subject, order, *mask))
    }

    fn apply_blocked(
        &self,
        plan: &SandboxPlan,
        subject: &Subject,
        order: &Order,
        mask: Mask,
    ) -> Result<Applied, Error> {
        self.sweep_unfinished()?;
        let runs = match subject {
            Subject::Running(pid) => Some(running(*pid)?),
            Subject::Program(_) => None,
        };
        let entry = Some(self.claim(&plan.id)?);
        let mut making = Making {
            root: &self.root,
            plan,
            order,
            mask,
            record: None,
            entry,
            groups: Vec::new(),
            unit: None,
            placeholder: None,
            born: None,
            runs,
        };
        match making.carry_out(subject) {
            Ok(applied) => Ok(applied),
            Err(error) => Err(error.and_left(&making.undo())),
        }
    }
}

/// A monitor that is there already, held so that its number cannot become another's.
fn running(pid: i32) -> Result<(i32, Pidfd), Error> {
    if pid == getpid().as_raw_nonzero().get() {
        return Err(Error::new(Kind::Invalid, format!("--pid {pid}: is this process itself")));
    }
    let process = Pidfd::open(pid).map_err(|failed| {
        Error::new(Kind::Invalid, format!("--pid {pid}: there is no such process: {failed}"))
    })?;
    if process.has_exited()? {
        return Err(Error::new(Kind::Program, format!("--pid {pid}: has ended")));
    }
    Ok((pid, process))
}

/// A sandbox in the making.
struct Making<'a> {
    root: &'a str,
    plan: &'a SandboxPlan,
    order: &'a Order,
    mask: Mask,
    entry: Option<Entry>,
    record: Option<Record>,
    /// Those that were made, in order.
    groups: Vec<Cgroup>,
    unit: Option<Held>,
    placeholder: Option<Placeholder>,
    born: Option<Born>,
    runs: Option<(i32, Pidfd)>,
}

impl Making<'_> {
    fn carry_out(&mut self, subject: &Subject) -> Result<Applied, Error> {
        self.check_free()?;
        let mut record = Record::intent(self.plan, self.order.patterns.clone())?;
        if let Some((pid, _)) = &self.runs {
            record.moved_from = Some(former(*pid, &record.vmm_in)?);
        }
        record.write(self.entry()?)?;
        self.record = Some(record.clone());
        self.start_unit()?;
        self.make_groups(&mut record)?;
        self.record = Some(record.clone());
        let (pid, identity) = match subject {
            Subject::Program(program) => self.bear(program, &record)?,
            Subject::Running(pid) => self.adopt(*pid, &record)?,
        };
        self.placeholder.take().map_or(Ok(()), Placeholder::end)?;
        if !record.vmm_in.groups.is_empty() {
            Cgroup::open(&record.vmm_in)?.check_holds(pid).doing(|| "look where the monitor is")?;
        }
        record.vmm = Some(identity);
        record.phase = Phase::Complete;
        record.write(self.entry()?)?;
        if let Some(born) = &self.born {
            born.execute()?;
        }
        self.place_threads(pid, &record)?;
        self.check_alive()?;
        Ok(Applied { pid, not_enforced: record.not_enforced, notes: record.notes })
    }

    fn entry(&self) -> Result<&Entry, Error> {
        self.entry.as_ref().ok_or_else(not_found)
    }

    /// What is there already is somebody else's: limits of ours would hit them, and removing it would end them.
    fn check_free(&self) -> Result<(), Error> {
        for plan in [Some(&self.plan.sandbox), self.plan.overhead.as_ref()].into_iter().flatten() {
            if let Some(path) = Paths::taken(plan)? {
                let why = format!("{path} is there already, and is not ours");
                return Err(Error::new(Kind::Exists, why));
            }
        }
        Ok(())
    }

    fn start_unit(&mut self) -> Result<(), Error> {
        let Some(unit) = &self.plan.sandbox.unit else { return Ok(()) };
        self.placeholder = Some(Placeholder::fork(&self.mask)?);
        // What fails on the way is taken back by who was asked; a unit of another's is not ours to stop.
        unit::start(unit, self.placeholder.as_ref())?;
        self.unit = Some(unit.held.clone());
        Ok(())
    }

    fn make_groups(&mut self, record: &mut Record) -> Result<(), Error> {
        let resident = self.placeholder.as_ref().map(|placeholder| placeholder.pid);
        let mark = self.mark(&record.sandbox, record.unit.clone())?;
        let sandbox = Cgroup::create_around(&self.plan.sandbox, resident, Some(&mark))?;
        let omitted = |record: &mut Record, groups: &Cgroup| {
            record.not_enforced.extend(groups.omitted().iter().map(ToString::to_string));
        };
        record.sandbox.keep(&sandbox);
        omitted(record, &sandbox);
        let is_none = sandbox.is_none();
        self.groups.push(sandbox);
        if is_none {
            record.not_enforced.insert(0, "there are no groups, as the caller may not make any".into());
        }
        if let Some(overhead) = self.plan.overhead.as_ref().filter(|_| !is_none) {
            let leaf = if record.elsewhere.groups.is_empty() {
                self.leaf(overhead)?
            } else {
                let mark = self.mark(&record.elsewhere, None)?;
                Cgroup::create_around(overhead, None, Some(&mark))?
            };
            record.elsewhere.keep(&leaf);
            omitted(record, &leaf);
            self.groups.push(leaf);
        }
        for plan in [&self.plan.vmm, &self.plan.vcpus].into_iter().flatten().filter(|_| !is_none) {
            let leaf = self.leaf(plan)?;
            self.groups.push(leaf);
        }
        let mut made = Paths::default();
        for groups in &self.groups {
            made.groups.extend(groups.paths().groups);
        }
        for places in [&mut record.vmm_in, &mut record.threads_in, &mut record.helpers_in] {
            *places = std::mem::take(places).among(&made);
        }
        Ok(())
    }

    /// Whose these groups are, should the record be lost.
    fn mark(&self, groups: &Paths, unit: Option<Held>) -> Result<Mark, Error> {
        Ok(Mark {
            root: self.root.to_owned(),
            device: self.entry()?.device(),
            id: self.plan.id.clone(),
            groups: groups.clone(),
            unit,
        })
    }

    /// A group below the sandbox's. As long as a placeholder is in the one above, no controllers are handed
    /// down; in the first leaf that there is it disturbs nobody.
    fn leaf(&self, plan: &CgroupPlan) -> Result<Cgroup, Error> {
        let unified = plan.groups.iter().find(|group| group.version == Version::V2);
        let (Some(placeholder), Some(unified)) = (&self.placeholder, unified) else {
            return Ok(Cgroup::create(plan)?);
        };
        let mut bare = plan.clone();
        let (controllers, settings) = (unified.controllers.clone(), unified.settings.clone());
        for group in bare.groups.iter_mut().filter(|group| group.version == Version::V2) {
            group.controllers.clear();
            group.settings.clear();
        }
        let leaf = Cgroup::create(&bare)?;
        if controllers.is_empty() {
            return Ok(leaf);
        }
        if unified.threaded {
            leaf.hand_down(&controllers)?;
        } else {
            leaf.join_unified(placeholder.pid)?;
            leaf.hand_down(&controllers)?;
        }
        leaf.write_unified(&settings)?;
        Ok(leaf)
    }

    fn bear(&mut self, program: &Program, record: &Record) -> Result<(i32, state::Init), Error> {
        let unit = self.unit.as_ref();
        let born =
            bear(&record.vmm_in, unit, program, &self.mask).doing(|| "bear the monitor in its groups")?;
        let identity = written(born.pid, &born.process)?;
        let pid = born.pid;
        self.born = Some(born);
        Ok((pid, identity))
    }

    fn adopt(&self, pid: i32, record: &Record) -> Result<(i32, state::Init), Error> {
        let Some((_, process)) = &self.runs else { return Err(not_found()) };
        let identity = written(pid, process)?;
        let moved = Cgroup::open(&record.vmm_in)?.adopt(pid);
        let moved = or_by_manager(moved, &record.vmm_in, self.unit.as_ref(), pid);
        self.check_alive()?;
        moved.doing(|| format!("move process {pid} into its groups"))?;
        Ok((pid, identity))
    }

    /// The threads that are processors, each to its place.
    fn place_threads(&self, pid: i32, record: &Record) -> Result<(), Error> {
        if record.threads_in.groups.is_empty() && !record.pin {
            return Ok(());
        }
        let process = self.monitor()?;
        // Of one that ran before, they are there, or they will not be.
        let is_new = self.born.is_some();
        let patience = if is_new || self.order.vcpus.is_some() { self.order.patience } else { 0 };
        match threads::wait(process, pid, record, self.order.vcpus, patience)? {
            Found::Enough => threads::place(pid, record),
            Found::Ended => Ok(()),
            Found::TooFew(count) => {
                let wanted = self.order.vcpus.unwrap_or(1);
                let names: Vec<String> = record.patterns.iter().map(|one| format!("\"{one}\"")).collect();
                let why = format!(
                    "process {pid} has {count} threads that are named like a guest's processors, not {wanted}: {}",
                    names.join(", ")
                );
                Err(Error::new(Kind::Invalid, why))
            }
        }
    }

    fn monitor(&self) -> Result<&Pidfd, Error> {
        let born = self.born.as_ref().map(|born| &born.process);
        born.or(self.runs.as_ref().map(|(_, process)| process)).ok_or_else(not_found)
    }

    /// One that dies while it is put into its place leaves no sandbox behind.
    fn check_alive(&self) -> Result<(), Error> {
        let process = self.monitor()?;
        if !process.has_exited()? {
            return Ok(());
        }
        let how = match (&self.born, &self.runs) {
            (Some(born), _) => {
                format!("the monitor, process {}, ended at once: {:?}", born.pid, process.reap()?)
            }
            (None, Some((pid, _))) => format!("the monitor, process {pid}, has ended"),
            (None, None) => "the monitor has ended".to_owned(),
        };
        Err(Error::new(Kind::Program, how))
    }

    /// Takes everything back; what could not be.
    fn undo(&mut self) -> Vec<Failed> {
        let mut left = Vec::new();
        if let Some(born) = self.born.take() {
            match born.process.is_reaped() {
                Ok(true) => {}
                _ => left.extend(born.end().err()),
            }
        }
        left.extend(self.placeholder.take().and_then(|placeholder| placeholder.end().err()));
        let former = self.record.as_ref().and_then(|record| record.moved_from.as_ref());
        left.extend(dissolve(&self.groups, self.unit.take().as_ref(), former));
        if left.is_empty() {
            left.extend(self.entry.take().and_then(|entry| entry.remove().err()));
        }
        left
    }
}

/// Where a process is in the hierarchies that it is about to be moved in.
fn former(pid: i32, places: &Paths) -> Result<Paths, Error> {
    let text =
        probe::read_text(&format!("/proc/{pid}/cgroup")).doing(|| format!("look where process {pid} is"))?;
    let mut former = places.clone();
    for group in &mut former.groups {
        group.ancestors.clear();
        let is_it = |names: &str| match group.version {
            Version::V2 => names.is_empty(),
            Version::V1 => names.split(',').any(|name| group.controllers.iter().any(|one| one == name)),
        };
        let line = text.lines().find_map(|line| {
            let (names, path) = line.split_once(':')?.1.split_once(':')?;
            is_it(names).then(|| path.trim_matches('/').to_owned())
        });
        let missing = || Failed::refused(format!("/proc/{pid}/cgroup: nothing about {}", group.mount));
        group.path = line.ok_or_else(missing)?;
    }
    Ok(former)
}
