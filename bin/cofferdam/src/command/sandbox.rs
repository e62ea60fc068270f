//! `sandbox limits`.

use std::ffi::{CString, OsStr, OsString};
use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use container::read_resources;
use microvm::{Asked, GuestFigures, Happened, Overhead, Program, Sandboxes, Shown, Split};
use plan::sandbox::{Driver, SandboxPlan, bytes_told};
use sys::Strings;

use super::{Complaint, Outcome, print, text};
use crate::invocation::{Action, Format, Global, Sandbox, Subject, Wished};
use crate::log::Log;
use crate::manager;
use crate::root::{Origin, StateRoot};

pub(super) fn run(global: &Global, sandbox: Sandbox, log: &mut Log) -> Outcome {
    let Sandbox { id, action } = sandbox;
    let verb = verb(&action);
    acted(global, &id, action, log).map_err(|complaint| {
        let told = match id.as_str() {
            "" => format!("sandbox limits {verb}: {}", complaint.told),
            id => format!("sandbox limits {verb} {id}: {}", complaint.told),
        };
        Complaint { told, ..complaint }
    })
}

fn verb(action: &Action) -> &'static str {
    match action {
        Action::Plan(..) => "plan",
        Action::Apply { .. } => "apply",
        Action::Update(_) => "update",
        Action::Helper(_) => "helper",
        Action::Show { .. } => "show",
        Action::Watch(_) => "watch",
        Action::Destroy => "destroy",
        Action::Sweep => "sweep",
    }
}

fn acted(global: &Global, id: &str, action: Action, log: &mut Log) -> Outcome {
    let sandboxes = sandboxes(global)?;
    match action {
        Action::Plan(wished, format) => planned(global, *wished, format),
        Action::Apply { wished, subject, order, pid_file } => {
            let plan = measured(global, *wished, &subject)?;
            let applied = sandboxes.apply(&plan, &subject_of(subject)?, &order)?;
            for told in &applied.not_enforced {
                log.warning(&format!("not enforced: {told}"));
            }
            for note in &applied.notes {
                log.warning(note);
            }
            if let Some(path) = pid_file {
                write_pid(&path, applied.pid)?;
            }
            print(&format!("{}\n", applied.pid))
        }
        Action::Update(change) => Ok(sandboxes.update(id, &change).map(|()| 0)?),
        Action::Helper(subject) => {
            let pid = sandboxes.help(id, &subject_of(subject)?)?;
            print(&format!("{pid}\n"))
        }
        Action::Show { guest, format } => {
            let guest = guest.as_deref().map(guest_figures).transpose()?;
            let shown = sandboxes.show(id, guest)?;
            match format {
                Format::Json => print(&(json(&shown)? + "\n")),
                Format::Table => print(&told(&shown)?),
            }
        }
        Action::Watch(format) => watch(&sandboxes, id, format),
        Action::Destroy => Ok(sandboxes.destroy(id).map(|()| 0)?),
        Action::Sweep => sweep(&sandboxes),
    }
}

fn sandboxes(global: &Global) -> Result<Sandboxes, Complaint> {
    let root = StateRoot::find(global.root.as_deref())?;
    Ok(Sandboxes::under(&text(&root.directory, "--root")?, root.origin == Origin::User))
}

fn planned(global: &Global, wished: Wished, format: Format) -> Outcome {
    let plan = plan(global, wished)?;
    match format {
        Format::Json => print(&(json(&plan)? + "\n")),
        Format::Table => print(&plan.to_string()),
    }
}

fn plan(global: &Global, wished: Wished) -> Result<SandboxPlan, Complaint> {
    let Wished { mut wish, resources } = wished;
    if let Some(path) = resources {
        wish.resources = read_resources(&text(&path, "--resources")?)?;
    }
    if global.systemd_cgroup {
        if wish.driver == Some(Driver::Cgroupfs) {
            return Err(Complaint::new("--systemd-cgroup and --driver cgroupfs: one of the two"));
        }
        wish.driver = Some(Driver::Systemd);
    }
    let asked = Asked { rootless: global.rootless, buses: manager::buses(global.rootless)? };
    Ok(microvm::plan(&wish, &asked)?)
}

/// Of a monitor that runs, what it takes beside its guest's memory need not be told.
fn measured(global: &Global, mut wished: Wished, subject: &Subject) -> Result<SandboxPlan, Complaint> {
    let memory = &mut wished.wish.memory;
    if let (Subject::Running(pid), Some(guest), None) = (subject, memory.guest, memory.overhead) {
        let found = microvm::measure(*pid, guest)?;
        let found = found.ok_or_else(|| Complaint::new(format!("--pid {pid}: there is no such process")))?;
        let split = found.split.ok_or_else(|| {
            let why =
                "has no memory yet that is as large as its guest's: wait until it has, or give --overhead";
            Complaint::new(format!("--pid {pid}: {why}"))
        })?;
        memory.overhead = Some(split.overhead);
    }
    plan(global, wished)
}

fn subject_of(subject: Subject) -> Result<microvm::Subject, Complaint> {
    Ok(match subject {
        Subject::Running(pid) => microvm::Subject::Running(pid),
        Subject::Program(words) => microvm::Subject::Program(program(words)?),
    })
}

fn program(words: Vec<OsString>) -> Result<Program, Complaint> {
    let nul = |_| Complaint::new("an argument holds a NUL byte");
    let file = words.first().map(|name| found(name)).transpose()?.unwrap_or_default();
    let words: Vec<CString> =
        words.into_iter().map(|word| CString::new(word.into_vec()).map_err(nul)).collect::<Result<_, _>>()?;
    Ok(Program {
        file: CString::new(file.into_vec()).map_err(nul)?,
        arguments: Strings::from(words),
        environment: sys::environment(),
    })
}

/// A program's file, looked for as a shell would.
fn found(name: &OsStr) -> Result<OsString, Complaint> {
    if name.as_bytes().contains(&b'/') {
        return Ok(name.to_owned());
    }
    probe::find(&name.to_string_lossy(), &std::env::var_os("PATH").unwrap_or_default())
        .map(Into::into)
        .ok_or_else(|| Complaint::new(format!("{}: there is no such program in $PATH", name.display())))
}

fn write_pid(path: &Path, pid: i32) -> Result<(), Complaint> {
    fs::write(path, pid.to_string())
        .map_err(|error| Complaint::new(format!("--pid-file {}: {error}", path.display())))
}

/// More than any guest has to say.
const LARGEST: u64 = 1 << 20;

fn guest_figures(path: &Path) -> Result<GuestFigures, Complaint> {
    let told = |why: String| Complaint::new(format!("--guest {}: {why}", path.display()));
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().take(LARGEST).read_to_string(&mut text)
    } else {
        fs::File::open(path).and_then(|file| file.take(LARGEST).read_to_string(&mut text))
    };
    read.map_err(|error| told(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| told(error.to_string()))
}

fn watch(sandboxes: &Sandboxes, id: &str, format: Format) -> Outcome {
    let watched = sandboxes.watched(id)?;
    let mut events = watched.events()?;
    let mut happened = Happened::Watching { pid: watched.pid() };
    loop {
        let told = match format {
            Format::Json => {
                serde_json::to_string(&happened).map_err(|error| Complaint::new(error.to_string()))? + "\n"
            }
            Format::Table => happening(happened),
        };
        print(&told)?;
        if matches!(happened, Happened::Ended { .. }) {
            return Ok(0);
        }
        happened = events.wait()?;
    }
}

fn happening(happened: Happened) -> String {
    match happened {
        Happened::Watching { pid } => format!("watching process {pid}\n"),
        Happened::OutOfMemory => "out of memory: the limit on the host was reached\n".into(),
        Happened::Ended { oom_kills: 0, .. } => "ended\n".into(),
        Happened::Ended { oom_kills, .. } => {
            format!("ended; killed for memory: {oom_kills} by the host, at the sandbox's limit\n")
        }
    }
}

fn sweep(sandboxes: &Sandboxes) -> Outcome {
    let mut failed = Vec::new();
    let mut told = String::new();
    for (id, outcome) in sandboxes.sweep()? {
        match outcome {
            Ok(()) => told.extend([&id, "\n"]),
            Err(error) => failed.push(format!("{id}: {error}")),
        }
    }
    print(&told)?;
    if failed.is_empty() { Ok(0) } else { Err(Complaint::new(failed.join("; "))) }
}

fn json<T: serde::Serialize>(value: &T) -> Result<String, Complaint> {
    serde_json::to_string_pretty(value).map_err(|error| Complaint::new(error.to_string()))
}

/// For people.
fn told(shown: &Shown) -> Result<String, Complaint> {
    let mut text = String::new();
    write_shown(&mut text, shown).map_err(|error| Complaint::new(error.to_string()))?;
    Ok(text)
}

fn write_shown(text: &mut String, shown: &Shown) -> std::fmt::Result {
    let pid = shown.pid.map_or(String::new(), |pid| format!(", process {pid}"));
    writeln!(text, "sandbox {}: {}{pid}, {}, {}", shown.id, shown.status, shown.driver, shown.layout)?;
    if let Some(unit) = &shown.unit {
        writeln!(text, "unit: {unit}")?;
    }
    writeln!(text, "groups:")?;
    for group in &shown.groups {
        writeln!(text, "  {group}")?;
    }
    writeln!(text, "limits:")?;
    for (file, value) in &shown.limits {
        writeln!(text, "  {file} {value}")?;
    }
    writeln!(text, "devices: none, but")?;
    for held in &shown.devices.held {
        let by: Vec<&str> = held.by.iter().map(|by| by.name()).collect();
        writeln!(text, "  {:<16} {}", held.device.to_string(), by.join(" "))?;
    }
    for vcpu in &shown.vcpus {
        let place = if vcpu.is_apart { "in a group of processors" } else { "with the monitor" };
        writeln!(text, "processor {}: thread {}, {place}", vcpu.number, vcpu.tid)?;
    }
    write_figures(text, shown)?;
    for told in &shown.not_enforced {
        writeln!(text, "not enforced: {told}")?;
    }
    for note in &shown.notes {
        writeln!(text, "note: {note}")?;
    }
    Ok(())
}

fn write_figures(text: &mut String, shown: &Shown) -> std::fmt::Result {
    let figures = &shown.figures;
    writeln!(
        text,
        "host: {} bytes, at most {}; {} ns; {} threads",
        figures.host.memory, figures.host.peak, figures.host.cpu, figures.host.pids
    )?;
    if let Some(guest) = figures.guest {
        writeln!(text, "guest: {} bytes; {} ns", guest.memory, guest.cpu)?;
    }
    if let (Some(memory), Some(cpu)) = (figures.memory_overhead, figures.cpu_overhead) {
        writeln!(text, "what the guest does not see: {memory} bytes; {cpu} ns")?;
    }
    if let Some(Overhead { resident, split }) = shown.measured {
        write!(text, "monitor: {} resident", bytes_told(resident))?;
        if let Some(Split { guest, overhead }) = split {
            write!(text, ", {} of it the guest's; overhead {}", bytes_told(guest), bytes_told(overhead))?;
        }
        writeln!(text)?;
    }
    let guests = figures.guest.map_or(0, |guest| guest.oom_kills);
    match figures.killer {
        microvm::Killer::Nobody => Ok(()),
        microvm::Killer::Host => {
            writeln!(
                text,
                "killed for memory: {} by the host, at the sandbox's limit",
                figures.host.oom_kills
            )
        }
        microvm::Killer::Guest => {
            writeln!(text, "killed for memory: {guests} in the guest, by its own kernel")
        }
        microvm::Killer::Both => writeln!(
            text,
            "killed for memory: {} by the host, at the sandbox's limit; {guests} in the guest",
            figures.host.oom_kills
        ),
    }
}
