//! Commands: from what was asked to what the rooms do, and to what is printed.

mod attempt;
mod create;
mod documents;
mod events;
mod exec;
mod look;
mod sandbox;
mod update;

use std::io::Write as _;
use std::path::Path;

use container::{Containers, Error};
use plan::systemd::Bus;
use sys::Failed;
use usage::signal;

use crate::activation;
use crate::flags::{self, Misuse};
use crate::invocation::{Command, Global};
use crate::log::Log;
use crate::manager;
use crate::root::{Origin, StateRoot};

/// Why a command ended with another status than 0, for the log and the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// One line, the path from the wish to the call.
    pub told: String,
    /// What may help, for a second line.
    pub hint: Option<String>,
    /// The exit status.
    pub status: u8,
}

impl Complaint {
    fn new(told: impl Into<String>) -> Self {
        Self { told: told.into(), hint: None, status: 1 }
    }
}

impl From<Misuse> for Complaint {
    fn from(misuse: Misuse) -> Self {
        Self { told: misuse.to_string(), hint: misuse.hint, status: misuse.status }
    }
}

impl From<Failed> for Complaint {
    fn from(failed: Failed) -> Self {
        Self::new(failed.to_string())
    }
}

impl From<Error> for Complaint {
    fn from(error: Error) -> Self {
        Self::new(error.to_string())
    }
}

type Outcome = Result<u8, Complaint>;

/// Runs one command; its exit status.
pub fn run(global: &Global, command: Command, log: &mut Log) -> Outcome {
    match command {
        Command::Help(text) => print(&text),
        Command::Version => print(&flags::version()),
        Command::Check { format } => look::check(format),
        Command::Completion { shell, words: None } => print(&shell.script("cofferdam")),
        Command::Completion { shell, words: Some(words) } => look::complete(shell, &words),
        Command::Spec { bundle, rootless } => documents::write_template(bundle.as_deref(), rootless),
        Command::Features => documents::features(),
        Command::Plan { bundle, id, json } => documents::plan(global, &bundle, id, json),
        Command::Create(order) => create::create(global, order, log),
        Command::Run(order) => create::run(global, order, log),
        Command::Events(events) => events::events(&containers(global)?, &events),
        Command::Exec(exec) => exec::exec(&containers(global)?, exec, log),
        Command::Try(attempt) => attempt::run(global, &attempt, log),
        Command::Sandbox(sandbox) => sandbox::run(global, sandbox, log),
        Command::Start { id } => create::start(global, &id),
        Command::Wait { id } => look::wait(&containers(global)?, &id),
        Command::Kill { all, id, signal } => kill(&containers(global)?, all, &id, &signal),
        Command::Delete { force, id } => look::delete(&containers(global)?, &id, force, log),
        Command::Pause { id } => told("pause", &id, containers(global)?.pause(&id)),
        Command::Resume { id } => told("resume", &id, containers(global)?.resume(&id)),
        Command::State { id } => look::state(&containers(global)?, &id),
        Command::List { format, quiet } => look::list(&containers(global)?, format, quiet, log),
        Command::Sweep { dry_run } => look::sweep(&containers(global)?, !dry_run),
        Command::Update(update) => update::update(&containers(global)?, &update, log),
        Command::Ps { arguments, format, id } => look::ps(&containers(global)?, &id, format, &arguments),
    }
}

/// Checks that the descriptors of `--preserve-fds` are there: to be called before anything is opened, or what is ours
/// would be handed on in their place.
pub fn check_descriptors(command: &Command) -> Result<(), Complaint> {
    let listening = activation::listen_fds();
    let (verb, id, listening, count, status) = match command {
        Command::Create(create) => ("create", &create.id, listening, create.preserve_fds, 1),
        Command::Run(run) => ("run", &run.create.id, listening, run.create.preserve_fds, 1),
        Command::Exec(exec) => ("exec", &exec.id, 0, exec.preserve_fds, exec::FAILURE),
        _ => return Ok(()),
    };
    let closed = |first: u32, count: u32, asked: &str| match sys::first_closed(first, count) {
        None => Ok(()),
        Some(number) => {
            let told = format!("{verb} {id}: {asked}{count}: descriptor {number} is not open");
            Err(Complaint { status, ..Complaint::new(told) })
        }
    };
    closed(3, listening, "LISTEN_FDS=")?;
    closed(3_u32.saturating_add(listening), count, "--preserve-fds ")
}

/// Where the service manager may be that is to make the control groups, if it is to.
fn systemd(global: &Global) -> Result<Option<Vec<Bus>>, Complaint> {
    Ok(if global.systemd_cgroup { Some(manager::buses(global.rootless)?) } else { None })
}

fn containers(global: &Global) -> Result<Containers, Complaint> {
    let root = StateRoot::find(global.root.as_deref())?;
    let sticky = root.origin == Origin::User;
    Ok(Containers::under(text(&root.directory, "--root")?).sticky(sticky))
}

/// Paths that go into records and messages are text.
fn text(path: &Path, what: &str) -> Result<String, Complaint> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| Complaint::new(format!("{what} {}: is not UTF-8", path.display())))
}

/// A file that is to be made, as an absolute path: the command changes to the bundle before it makes it.
fn absolute(path: &Path, what: &str) -> Result<String, Complaint> {
    let path = std::path::absolute(path)
        .map_err(|error| Complaint::new(format!("{what} {}: {error}", path.display())))?;
    text(&path, what)
}

fn told<T>(verb: &str, id: &str, outcome: Result<T, Error>) -> Outcome {
    outcome.map(|_| 0).map_err(|error| error.while_doing(&format!("{verb} {id}")).into())
}

fn kill(containers: &Containers, all: bool, id: &str, signal: &str) -> Outcome {
    // The container is looked for before the signal is, as runc does.
    containers.find(id).map_err(|error| error.while_doing(&format!("kill {id}")))?;
    let number = signal::parse(signal).ok_or_else(|| Complaint::new(format!("unknown signal {signal:?}")))?;
    match containers.kill(id, number) {
        // `--all` is of the past; it meant that nobody left to kill is no error.
        Err(error) if all && error.kind() == container::Kind::State => Ok(0),
        outcome => told("kill", id, outcome),
    }
}

fn print(text: &str) -> Outcome {
    match std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush()) {
        Ok(()) => Ok(0),
        Err(error) => Err(Complaint::new(format!("write to stdout: {error}"))),
    }
}
