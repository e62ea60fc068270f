//! Commands that look, and `delete`, which looks first.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use container::{Containers, Ended, Fate, Known, Removed};
use spec::{Report as State, VERSION};

use super::{Complaint, Outcome, containers, print, told};
use crate::check::Report;
use crate::invocation::{Format, Global};
use crate::list;
use crate::log::Log;
use crate::manager;
use crate::ps;
use usage::complete::{Asked, Shell, Wanted};

fn shown(known: &Known, owner: String) -> State {
    State {
        oci_version: VERSION.to_owned(),
        id: known.record.id.clone(),
        pid: known.pid(),
        status: known.status,
        bundle: known.record.bundle.clone(),
        rootfs: known.record.rootfs.clone(),
        created: known.record.created.clone(),
        annotations: annotations(known),
        owner,
    }
}

/// The document's annotations, and what was not done as asked: nothing of that is told once and then forgotten.
fn annotations(known: &Known) -> BTreeMap<String, String> {
    let mut annotations = known.record.annotations.clone();
    if !known.record.warnings.is_empty() {
        annotations.insert("io.cofferdam.warnings".to_owned(), known.record.warnings.join("; "));
    }
    // For a stopped container whose exit status was kept: as `wait` prints it.
    if let Some(exit) = known.ended.as_ref().and_then(Ended::exit) {
        annotations.insert("io.cofferdam.exit".to_owned(), exit.code().to_string());
    }
    annotations
}

/// The exit status alone on its line, as those print it who wait for Docker's containers.
pub(super) fn wait(containers: &Containers, id: &str) -> Outcome {
    let exit = containers.wait(id).map_err(|error| error.while_doing(&format!("wait {id}")))?;
    print(&format!("{}\n", exit.code()))
}

pub(super) fn state(containers: &Containers, id: &str) -> Outcome {
    let known = containers.find(id).map_err(|error| error.while_doing(&format!("state {id}")))?;
    print(&shown(&known, String::new()).to_pretty())
}

pub(super) fn list(containers: &Containers, format: Format, quiet: bool, log: &mut Log) -> Outcome {
    let mut all = Vec::new();
    let mut names = Vec::new();
    for (id, owner, known) in containers.all()? {
        match known {
            Ok(known) => all.push(shown(&known, owner_name(owner, &mut names))),
            Err(error) => log.warning(&format!("load container {id}: {error}")),
        }
    }
    match format {
        _ if quiet => print(&list::ids(&all)),
        Format::Json => print(&list::json(&all).map_err(|error| Complaint::new(error.to_string()))?),
        Format::Table => print(&list::table(&all)),
    }
}

/// A line for each container; what could not be removed is told as an error, all of it.
pub(super) fn sweep(containers: &Containers, removes: bool) -> Outcome {
    let told = |error: container::Error| error.while_doing("sweep");
    let host = probe::host().map_err(|failed| told(failed.into()))?;
    let strays = containers.sweep(&host.cgroups, removes).map_err(told)?;
    let mut refused = Vec::new();
    for stray in strays {
        let (id, directories) = (&stray.id, stray.directories.join(", "));
        print(&match stray.fate {
            Fate::Removed => format!("removed {id}: {directories}\n"),
            Fate::Removable => format!("would remove {id}: {directories}\n"),
            Fate::Inhabited(processes) => format!("left {id}: {}\n", inhabitants(&processes)),
            Fate::Left(error) => {
                refused.push(format!("{id}: {error}"));
                format!("left {id}: {error}\n")
            }
        })?;
    }
    if refused.is_empty() { Ok(0) } else { Err(Complaint::new(format!("sweep: {}", refused.join("; ")))) }
}

fn inhabitants(processes: &[i32]) -> String {
    match processes {
        [] => "processes of another pid namespace are in its groups".to_owned(),
        [one] => format!("process {one} is in its groups"),
        many => {
            let numbers: Vec<String> = many.iter().map(ToString::to_string).collect();
            format!("processes {} are in its groups", numbers.join(", "))
        }
    }
}

pub(super) fn check(format: Format) -> Outcome {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let mut survey = probe::survey(&path, home.as_deref());
    let manager = manager::buses(None).map_err(|failed| failed.to_string());
    let manager = manager.and_then(|buses| container::manager(&buses).map_err(|error| error.to_string()));
    survey.manager = Some(manager);
    let report = Report::of(&survey);
    print(&match format {
        Format::Json => report.json().map_err(|error| Complaint::new(error.to_string()))?,
        Format::Table => report.to_string(),
    })?;
    Ok(u8::from(!report.runs))
}

/// What may be typed next. Who cannot look into the state root is offered no container, and told nothing: the person is
/// in the midst of a line.
pub(super) fn complete(shell: Shell, words: &[String]) -> Outcome {
    let asked = Asked::of(&crate::flags::TABLE, shell, words);
    let ids = match &asked.wanted {
        Wanted::Container { root } => ids(root.as_deref()).unwrap_or_default(),
        _ => Vec::new(),
    };
    print(&asked.answer(&ids))
}

fn ids(root: Option<&str>) -> Result<Vec<String>, Complaint> {
    let root = root.map(PathBuf::from);
    let all = containers(&Global { root, ..Global::default() })?.all()?;
    Ok(all.into_iter().map(|(id, ..)| id).collect())
}

/// The user's name in the host's /etc/passwd, or `#` and the number where it has none.
fn owner_name(uid: u32, known: &mut Vec<(u32, String)>) -> String {
    if let Some((_, name)) = known.iter().find(|(number, _)| *number == uid) {
        return name.clone();
    }
    let passwd = probe::read_text("/etc/passwd").unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    let name = name.unwrap_or_else(|| format!("#{uid}"));
    known.push((uid, name.clone()));
    name
}

pub(super) fn ps(containers: &Containers, id: &str, format: Format, arguments: &[OsString]) -> Outcome {
    let pids = containers.processes(id).map_err(|error| error.while_doing(&format!("ps {id}")))?;
    if format == Format::Json {
        return print(&ps::json(&pids));
    }
    let listed = Command::new("ps").args(arguments).stdin(Stdio::null()).output();
    let listed = listed.map_err(|error| Complaint::new(format!("ps {id}: execute ps: {error}")))?;
    if !listed.status.success() {
        let why = String::from_utf8_lossy(&listed.stderr);
        return Err(Complaint::new(format!("ps {id}: {}: {}", listed.status, why.trim())));
    }
    print(&ps::table(&String::from_utf8_lossy(&listed.stdout), &pids)?)
}

pub(super) fn delete(containers: &Containers, id: &str, force: bool, log: &mut Log) -> Outcome {
    match containers.delete(id, force) {
        Ok(Removed::Unreadable(why)) => {
            log.warning(&format!(
                "delete {id}: {why}; its directory is gone, what else there was of it is not known"
            ));
            Ok(0)
        }
        Ok(Removed::Whole(warnings)) => {
            // As the specification asks: told, and no failure.
            for warning in warnings {
                log.warning(&format!("delete {id}: {warning}"));
            }
            Ok(0)
        }
        // As runc has it: there was no container, only what a create that was killed left of one.
        Ok(Removed::Empty) if !force => Err(Complaint::new(format!("delete {id}: container does not exist"))),
        outcome => told("delete", id, outcome),
    }
}
