//! Exec: one more process in a container.

use std::os::fd::{AsFd, OwnedFd};

use cgroup::{Cgroup, Systemd};
use init::{Inherited, Report};
use path::Procfs;
use plan::{Act, Below, ExecPlan, ExecRequest, Step, compile_exec};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, unlinkat};
use spec::{Capabilities, Invalid, Process, Spec, State, Status};
use sys::{Called, Doing, Errno, Exit, Failed, Mask, Pidfd, SignalFd, Strings, block_signals, restore_mask};

use crate::agent::Line;
use crate::birth::{Birthplace, Born, Mover};
use crate::bundle::read_document;
use crate::console::{Console, Front, Introduced};
use crate::create::write_pid;
use crate::door::Door;
use crate::hooks::{Blocked, state_of};
use crate::join::Others;
use crate::lack::{self, Limited};
use crate::supervise::{Beside, follow};
use crate::terminal::Terminal;
use crate::{Containers, Error, Kind, Known, map};

/// What is asked of `exec`: a process, and what is changed in it.
#[derive(Clone, Debug, Default)]
pub struct ExecOrder {
    /// The container's id.
    pub id: String,
    /// The document to take the process from; the bundle's config.json without it.
    pub document: Option<String>,
    /// The document itself, for a caller who has no file of it.
    pub text: Option<Vec<u8>>,
    /// Program and arguments, in place of the document's unless empty.
    pub args: Vec<String>,
    /// The working directory in place of the document's.
    pub cwd: Option<String>,
    /// More variables.
    pub env: Vec<String>,
    /// The user in place of the document's.
    pub uid: Option<u32>,
    /// The group in place of the document's.
    pub gid: Option<u32>,
    /// More groups.
    pub additional_gids: Vec<u32>,
    /// The AppArmor profile in place of the document's.
    pub apparmor: Option<String>,
    /// The SELinux label in place of the document's.
    pub process_label: Option<String>,
    /// More capabilities.
    pub capabilities: Vec<String>,
    /// Whether privileges can be gained, in place of the document's word.
    pub no_new_privileges: Option<bool>,
    /// Descriptors from 3 on that the program keeps.
    pub preserve_fds: u32,
    /// Where the number of the process is written.
    pub pid_file: Option<String>,
    /// Control groups below the container's, `[CONTROLLER[,CONTROLLER]:]PATH` each.
    pub cgroups: Vec<String>,
    /// Whether a paused container is entered too.
    pub ignore_paused: bool,
    /// Whether the process has a terminal; a document of its own may ask for one too.
    pub terminal: bool,
    /// Whether nobody of ours stays with the process.
    pub detached: bool,
    /// Who gets the master end of its terminal.
    pub console_socket: Option<String>,
    /// Whether it goes over the line of our [`Door`].
    pub console_line: bool,
    /// Who gets a pidfd of it.
    pub pidfd_socket: Option<String>,
}

impl ExecOrder {
    fn has_document(&self) -> bool {
        self.text.is_some() || self.document.is_some()
    }
}

/// A process that runs in a container, and its parent: us. Signals are blocked in the calling thread until it is let
/// go of.
#[derive(Debug)]
pub struct Executed {
    /// Its number on the host.
    pub pid: i32,
    /// What was not done as asked.
    pub warnings: Vec<String>,
    process: Pidfd,
    mask: Mask,
    /// Its terminal, where it came to us.
    terminal: Option<Terminal>,
}

impl Executed {
    /// Leaves the process alone, to whoever becomes its parent.
    pub fn leave(self) -> Result<(), Error> {
        Ok(restore_mask(&self.mask)?)
    }

    /// Waits until it is no more, and forwards every signal that reaches us.
    pub fn supervise(self) -> Result<Exit, Error> {
        let exit = follow(self.pid, &self.process, Beside { terminal: self.terminal, ready: None }, &mut Ok)?;
        restore_mask(&self.mask)?;
        Ok(exit)
    }
}

impl Containers {
    /// Runs one more process in a container; returns once it is the program. What fails is undone.
    ///
    /// The caller is in the container's namespaces afterwards, with the container's root as its own: for a process that
    /// has nothing more to do than to wait.
    pub fn exec(&self, order: &ExecOrder) -> Result<Executed, Error> {
        let document = match (&order.text, &order.document) {
            (Some(text), _) => Some(parse_process(text)?),
            (None, path) => path.as_deref().map(read_process).transpose()?,
        };
        let entry = self.lock(&order.id)?;
        let known = Known::of(&entry)?.ok_or_else(Error::not_found)?;
        let init = match known.status {
            Status::Paused if !order.ignore_paused => {
                let why = "cannot exec in a paused container (use --ignore-paused to override)";
                return Err(Error::state(why));
            }
            Status::Created | Status::Running | Status::Paused => known.init.as_ref(),
            _ => None,
        };
        let init = init.ok_or_else(stopped)?;
        let plan_exec = || {
            let process = match document {
                Some(process) => process,
                None => bundle_process(&known.record.bundle)?,
            };
            let origin = if order.has_document() { "process.json" } else { "config.json" };
            prepare(process, origin, order, &known)
        };
        let (plan, others) = plan_exec().map_err(|error| gone(init, error))?;
        let mask = block_signals()?;
        let born = Prepared::open(&known, &plan, others, order, self.door.as_ref())
            .and_then(|place| place.bear(init, mask, &plan, &known, self.door.as_ref()))
            .map_err(|error| gone(init, error))
            .and_then(|born| match entry.release() {
                Ok(()) => Ok(born),
                Err(failed) => Err(born.undo(failed.into())),
            });
        let executed = born.and_then(|born| born.finish(known.status, mask, plan.warnings));
        executed.map_err(|error| match restore_mask(&mask) {
            Ok(()) => error,
            Err(failed) => error.and_left(&[failed]),
        })
    }
}

fn stopped() -> Error {
    Error::state("cannot exec in a stopped container")
}

/// Whatever fails while init is no more, fails for that.
fn gone(init: &Pidfd, error: Error) -> Error {
    if init.has_exited().unwrap_or(false) { stopped() } else { error }
}

fn read_process(path: &str) -> Result<Process, Error> {
    parse_process(&read_document(path, &format!("{path}: no such file"))?)
}

fn parse_process(text: &[u8]) -> Result<Process, Error> {
    let process =
        Process::parse(text).map_err(|invalid| told("process.json", &invalid.path, &invalid.reason))?;
    checked(process, "process.json")
}

fn bundle_process(bundle: &str) -> Result<Process, Error> {
    let text = read_document(&format!("{bundle}/config.json"), "config.json: the bundle has none")?;
    let process = Spec::parse(&text)?.process;
    process.ok_or_else(|| Error::new(Kind::Invalid, "config.json: process: is missing"))
}

fn checked(process: Process, origin: &str) -> Result<Process, Error> {
    match process.check() {
        Ok(()) => Ok(process),
        Err(Invalid { path, reason }) => Err(told(origin, &path, &reason)),
    }
}

/// A document that is a process has its fields at the top.
fn told(origin: &str, path: &str, reason: &str) -> Error {
    let path = if origin == "process.json" { path.trim_start_matches("process.") } else { path };
    let text =
        if path.is_empty() { format!("{origin}: {reason}") } else { format!("{origin}: {path}: {reason}") };
    Error::new(Kind::Invalid, text)
}

fn prepare(
    mut process: Process,
    origin: &str,
    order: &ExecOrder,
    known: &Known,
) -> Result<(ExecPlan, Others), Error> {
    if !order.args.is_empty() {
        process.args.clone_from(&order.args);
    }
    if let Some(cwd) = &order.cwd {
        process.cwd.clone_from(cwd);
    }
    // The bundle's word on it is for the container's first process.
    process.terminal = order.terminal || (order.text.is_none() && order.has_document() && process.terminal);
    process.env.extend(order.env.iter().cloned());
    process.user.uid = order.uid.unwrap_or(process.user.uid);
    process.user.gid = order.gid.unwrap_or(process.user.gid);
    process.user.additional_gids.extend(&order.additional_gids);
    process.no_new_privileges = order.no_new_privileges.unwrap_or(process.no_new_privileges);
    if !order.capabilities.is_empty() {
        add_capabilities(process.capabilities.get_or_insert_default(), &order.capabilities);
    }
    if order.apparmor.is_some() {
        process.apparmor_profile.clone_from(&order.apparmor);
    }
    if order.process_label.is_some() {
        process.selinux_label.clone_from(&order.process_label);
    }
    let process = checked(process, origin)?;
    let mut host = probe::host()?;
    if known.record.manner.with(&process).has_labels() {
        host.modules = probe::modules();
    }
    let others = Others::of(known.pid())?;
    let request = ExecRequest {
        id: known.record.id.clone(),
        keep_keyring: known.record.keeps_keyring,
        other_user_namespace: others.has_users(),
        keeps_groups: others.has_users() && probe::denies_groups(&known.pid().to_string())?,
        other_cgroup_namespace: others.cgroup.is_some(),
        filter: known.record.filter.clone(),
        preserve_fds: order.preserve_fds,
        manner: known.record.manner.clone(),
        detached: order.detached,
        console_socket: order.console_socket.clone(),
        console_line: order.console_line,
    };
    let plan = compile_exec(&process, &host, &request).map_err(|refused| match refused.path.as_str() {
        "" => Error::from(refused),
        path => told(origin, path, &refused.reason),
    })?;
    Ok((plan, others))
}

/// The inheritable set gets nothing that its document does not ask for (CVE-2022-29162); the ambient one only where
/// there is an inheritable one.
fn add_capabilities(sets: &mut Capabilities, more: &[String]) {
    for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
        set.extend_from_slice(more);
    }
    if !sets.inheritable.is_empty() {
        sets.ambient.extend_from_slice(more);
    }
}

/// All that is the host's and needed later, opened while the host's paths are ours.
struct Prepared {
    groups: Cgroup,
    refuge: Option<i32>,
    unified: Option<OwnedFd>,
    /// The user's service manager, with its unit and the group below that, if the container has its group from one.
    manager: Option<(Systemd, String, String)>,
    doors: Vec<cgroup::Join>,
    others: Others,
    proc: Option<Procfs>,
    pid_file: Option<PidFile>,
    introduced: Option<Introduced>,
    console: Option<Console>,
    agent: Option<Line>,
    limited: Option<Limited>,
}

/// Where the number goes, by handle: the container's root will be ours.
struct PidFile {
    directory: OwnedFd,
    name: String,
}

impl PidFile {
    fn open(path: &str) -> Result<Self, Failed> {
        let (directory, name) = path.rsplit_once('/').unwrap_or((".", path));
        let directory = if directory.is_empty() { "/" } else { directory };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = openat(CWD, directory, flags, Mode::empty()).called(|| format!("open({directory:?})"));
        Ok(Self { directory: opened.doing(|| format!("write the pid file {path}"))?, name: name.to_owned() })
    }
}

impl Prepared {
    fn open(
        known: &Known,
        plan: &ExecPlan,
        others: Others,
        order: &ExecOrder,
        door: Option<&Door>,
    ) -> Result<Self, Error> {
        let wrong = |why| Error::new(Kind::Invalid, why);
        let below = Below::parse(&order.cgroups).map_err(wrong)?;
        let groups = match &below {
            Some(below) => Cgroup::open(&known.record.cgroup.below(below).map_err(wrong)?)?,
            None => known.groups()?,
        };
        let held = known.record.unit.as_ref().filter(|held| held.bus.is_user);
        let below_unit = || {
            let (own, named) = (&known.record.cgroup, groups.paths());
            let path = |paths: &cgroup::Paths| paths.groups.first().map(|group| group.path.clone());
            let (own, named) = (path(own).unwrap_or_default(), path(&named).unwrap_or_default());
            named.strip_prefix(&own).unwrap_or_default().to_owned()
        };
        let manager = held.map(|held| Ok((Systemd::reach(&held.bus)?, held.unit.clone(), below_unit())));
        let scores = plan.steps.iter().any(|step| matches!(step, Step::OomScore(_) | Step::Label(_)));
        Ok(Self {
            limited: Limited::of(known, &groups)?,
            unified: groups.unified_dir()?,
            manager: manager.transpose().map_err(|failed: Failed| Error::from(failed))?,
            doors: groups.join_handles()?,
            groups,
            // Whoever names a group gets that one or none.
            refuge: if below.is_none() { Some(known.pid()) } else { None },
            others,
            proc: if scores { Some(Procfs::host()?) } else { None },
            pid_file: order.pid_file.as_deref().map(PidFile::open).transpose()?,
            introduced: order.pidfd_socket.as_deref().map(Introduced::to).transpose()?,
            console: plan.master.as_ref().map(|master| Console::reach(master, door)).transpose()?,
            agent: plan.agent().map(Line::to).transpose()?,
        })
    }

    fn bear(
        self,
        init: &Pidfd,
        mask: Mask,
        plan: &ExecPlan,
        known: &Known,
        door: Option<&Door>,
    ) -> Result<Joined, Error> {
        let nul = |_| Failed::refused("an argument holds a NUL byte");
        let arguments = Strings::new(&plan.program.args).map_err(nul)?;
        let environment = Strings::new(&plan.program.env).map_err(nul)?;
        let (report, line) = Report::pair()?;
        for act in &plan.before {
            match act {
                Act::Ceiling { kind, hard } => map::raise(*kind, *hard)?,
                // Its own, which its child is born with.
                Act::Score(score) => map::score("self", *score)?,
                Act::StayOn(cpus) => confine::stay_on(cpus)?,
                _ => return Err(Failed::refused("exec plans what is for create alone").into()),
            }
        }
        self.others.join(init)?;
        let Self {
            groups,
            refuge,
            unified,
            mut manager,
            doors,
            others,
            proc,
            pid_file,
            introduced,
            console,
            agent,
            limited,
        } = self;
        let (console, front) = console.map_or((None, None), |Console { line, front }| (Some(line), front));
        let inherited = Inherited {
            report,
            doors,
            gate: None,
            console,
            proc,
            namespaces: Vec::new(),
            cgroup_namespace: others.cgroup,
            state: None,
            mask,
            arguments,
            environment,
        };
        let mover = manager.as_mut().map(|(systemd, unit, below)| Mover {
            systemd,
            unit: unit.clone(),
            below: below.clone(),
        });
        let births = door.map(|door| door.births.as_fd());
        let place = Birthplace {
            namespaces: 0,
            forerunner: None,
            groups: &groups,
            unified,
            init: refuge,
            mover,
            births,
        };
        let born = place.bear(&plan.walk(), inherited, line)?;
        let asked = agent.map(|line| Asked {
            line,
            // As runc tells it, of one that waits for `start` too: it is not init's listener.
            state: state_of(&known.record, Status::Running, known.pid()),
            is_early: plan.is_filtered_early(),
        });
        Ok(Joined {
            born,
            groups,
            limited,
            pid_file,
            has_written: false,
            introduced,
            front,
            terminal: None,
            asked,
        })
    }
}

/// An agent that answers for the process, and what it is told.
struct Asked {
    line: Line,
    state: State,
    /// Whether the process is filtered before it is ready, or after.
    is_early: bool,
}

/// The process in the container, and what was written about it.
struct Joined {
    born: Born,
    groups: Cgroup,
    limited: Option<Limited>,
    pid_file: Option<PidFile>,
    has_written: bool,
    introduced: Option<Introduced>,
    /// Our end of the line that its terminal's master end comes over.
    front: Option<Front>,
    terminal: Option<Terminal>,
    asked: Option<Asked>,
}

impl Joined {
    fn finish(mut self, status: Status, mask: Mask, mut warnings: Vec<String>) -> Result<Executed, Error> {
        match self.see_through(status, mask, &mut warnings) {
            Ok(()) => {
                let Born { pid, process, .. } = self.born;
                Ok(Executed { pid, warnings, process, mask, terminal: self.terminal })
            }
            Err(error) => Err(self.undo(error)),
        }
    }

    fn see_through(&mut self, status: Status, mask: Mask, warnings: &mut Vec<String>) -> Result<(), Error> {
        // The agent may be asked about any call of it from then on.
        let blocked = self.asked.is_some().then(|| Blocked::new(mask)).transpose()?;
        let signals = blocked.as_ref().map(|blocked| &blocked.signals);
        // In a paused container it says nothing until that is resumed: whoever is tired of waiting may end us.
        if status == Status::Paused {
            restore_mask(&mask)?;
        }
        let early = self.asked.take_if(|asked| asked.is_early);
        let answered = early
            .map_or(Ok(()), |asked| self.answer(asked, signals).and_then(|()| Ok(self.born.release()?)));
        let ready = answered.and_then(|()| self.born.ready(signals, || self.died()));
        if status == Status::Paused {
            block_signals()?;
        }
        warnings.extend(ready?);
        if let Some(asked) = self.asked.take() {
            self.born.release()?;
            self.answer(asked, signals)?;
        }
        self.terminal = self.front.take().map(Front::take).transpose()?;
        if let Some(introduced) = &self.introduced {
            introduced.send("setns", &self.born.process)?;
        }
        if let Some(file) = &self.pid_file {
            write_pid(file.directory.as_fd(), &file.name, self.born.pid).doing(|| "write the pid file")?;
            self.has_written = true;
        }
        self.born.execute(signals)?;
        match &self.limited {
            Some(limited) if limited.has_died(&self.born.process, self.born.pid)? => Err(self.died()),
            _ => Ok(()),
        }
    }

    fn answer(&self, asked: Asked, signals: Option<&SignalFd>) -> Result<(), Error> {
        let listener = self.born.listener(signals, || self.died())?;
        Ok(asked.line.give(listener, self.born.pid, asked.state)?)
    }

    fn died(&self) -> Error {
        let before = self.limited.as_ref().map_or(0, Limited::kills);
        lack::why("the process", "the process was killed before it was ready", &self.groups, before)
    }

    /// Takes everything back; what could not be is told too.
    fn undo(self, error: Error) -> Error {
        let mut left = Vec::new();
        if let Some(file) = self.pid_file.as_ref().filter(|_| self.has_written) {
            let gone = unlinkat(&file.directory, file.name.as_str(), AtFlags::empty());
            left.extend(gone.called(|| format!("unlink({:?})", file.name)).err());
        }
        match self.born.end() {
            // Whoever is no more, and was reaped, needs neither.
            Err(failed) if failed.errno() == Some(Errno::SRCH) => {}
            ended => left.extend(ended.err()),
        }
        error.and_left(&left)
    }
}
