//! What it takes to get a process into a control group, by each of the ways there are.
//!
//! The pause between two of them is the point: who moves a process by its number waits for a grace period of RCU, unless
//! somebody has waited for one just now.

use std::fmt::Write as _;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use cgroup::Systemd;
use plan::systemd::{Bus, Held, Property, Unit};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{read, write};
use rustix::pipe::{PipeFlags, pipe_with};
use sys::{Birth, Pidfd, Side, fork_into};

use crate::Error;
use crate::report::Row;

const MOUNTS: &str = "/sys/fs/cgroup";

/// One way into a group.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// None: it stays where it is born.
    Stay,
    /// clone3(2) with `CLONE_INTO_CGROUP`.
    Born,
    /// The process itself, with one thread, writes `0` to `tasks`.
    Walk,
    /// Somebody writes its number to `cgroup.procs`.
    Moved,
    /// systemd makes a scope around it; the path is the unit's name. It is stopped again, which is not timed.
    Managed,
}

/// A way into a group of one of the host's hierarchies.
struct Case {
    name: String,
    way: Way,
    group: PathBuf,
    took: Vec<f64>,
}

/// Measures each way `rounds` times, in turns, `gap` apart; the table.
pub(crate) fn measure(rounds: u32, gap: Duration) -> Result<String, Error> {
    let mut cases = cases()?;
    let outcome = take_turns(&mut cases, rounds, gap);
    for group in groups(&cases) {
        fs::remove_dir(&group).map_err(|error| format!("rmdir {}: {error}", group.display()))?;
    }
    outcome?;
    let mut table = format!("\ninto a control group, {} ms apart, {rounds} rounds (ms)\n\n", gap.as_millis());
    writeln!(table, "| way | median | min | p99 |\n|---|---|---|---|")?;
    for case in &cases {
        if let Some(row) = Row::of(&case.took) {
            writeln!(table, "| {} | {:.3} | {:.3} | {:.3} |", case.name, row.median, row.min, row.p99)?;
        }
    }
    Ok(table)
}

/// The ways that this host has, each group made.
fn cases() -> Result<Vec<Case>, Error> {
    let name = format!("bench-{}-joins", std::process::id());
    let (v2, v1) = (
        ["", "unified"]
            .map(|tree| Path::new(MOUNTS).join(tree))
            .into_iter()
            .find(|tree| tree.join("cgroup.controllers").exists()),
        ["pids", "cpu", "systemd"]
            .map(|one| Path::new(MOUNTS).join(one))
            .into_iter()
            .find(|one| one.join("tasks").exists()),
    );
    let mut cases = Vec::new();
    for (generation, mount, ways) in
        [("v2", v2, [Way::Born, Way::Moved]), ("v1", v1, [Way::Walk, Way::Moved])]
    {
        let Some(mount) = mount else { continue };
        let group = mount.join(&name);
        fs::create_dir(&group).map_err(|error| format!("mkdir {}: {error}", group.display()))?;
        for way in ways {
            let told = match way {
                Way::Born => "fork, born there by CLONE_INTO_CGROUP",
                Way::Walk => "the child's own 0 into tasks",
                Way::Moved | Way::Stay | Way::Managed => "its number into cgroup.procs",
            };
            cases.push(Case {
                name: format!("{generation}: {told}"),
                way,
                group: group.clone(),
                took: Vec::new(),
            });
        }
    }
    if Path::new(MANAGER).exists() {
        let (way, group) = (Way::Managed, PathBuf::from(format!("{name}.scope")));
        let name = "systemd: a scope around it, asked for and there".into();
        cases.push(Case { name, way, group, took: Vec::new() });
    }
    let stays = Case { name: "fork alone".into(), way: Way::Stay, group: PathBuf::new(), took: Vec::new() };
    cases.insert(0, stays);
    Ok(cases)
}

fn groups(cases: &[Case]) -> Vec<PathBuf> {
    let mut groups: Vec<PathBuf> =
        cases.iter().map(|case| case.group.clone()).filter(|group| group.is_absolute()).collect();
    groups.dedup();
    groups
}

fn take_turns(cases: &mut [Case], rounds: u32, gap: Duration) -> Result<(), Error> {
    for _ in 0..rounds {
        for case in cases.iter_mut() {
            sleep(gap);
            case.took.push(case.way.take(&case.group)?.as_secs_f64() * 1000.0);
        }
    }
    Ok(())
}

impl Way {
    /// Once; how long it took whoever waits for it.
    fn take(self, group: &Path) -> Result<Duration, Error> {
        let directory =
            (self == Self::Born).then(|| open(group, OFlags::PATH | OFlags::DIRECTORY)).transpose()?;
        let tasks = (self == Self::Walk).then(|| open(&group.join("tasks"), OFlags::WRONLY)).transpose()?;
        let procs =
            (self == Self::Moved).then(|| open(&group.join("cgroup.procs"), OFlags::WRONLY)).transpose()?;
        // The line is there before, as ours is for a container.
        let mut scope = (self == Self::Managed).then(|| Scope::reach(group)).transpose()?;
        let (word, says) = pipe_with(PipeFlags::CLOEXEC)?;
        let (waits, hold) = pipe_with(PipeFlags::CLOEXEC)?;
        let begin = Instant::now();
        let side = fork_into(&Birth { cgroup: directory.as_ref().map(AsFd::as_fd), ..Birth::default() })?;
        let (pid, child) = match side {
            Side::Child(_) => {
                drop((hold, word));
                sys::leave(live(tasks.as_ref(), &says, &waits))
            }
            Side::Parent(pid, child) => (pid, child),
        };
        let mut took = begin.elapsed();
        drop(says);
        if let Some(procs) = procs {
            let begin = Instant::now();
            write(&procs, pid.to_string().as_bytes())?;
            took = begin.elapsed();
        }
        if self == Self::Walk {
            let mut nanoseconds = [0; 8];
            if read(&word, &mut nanoseconds)? < nanoseconds.len() {
                return Err("the child could not write to tasks".into());
            }
            took = Duration::from_nanos(u64::from_ne_bytes(nanoseconds));
        }
        if let Some(scope) = &mut scope {
            took = scope.start(pid)?;
        }
        drop(hold);
        end(&child)?;
        if let Some(mut scope) = scope {
            scope.systemd.stop(&scope.unit.held)?;
        }
        Ok(took)
    }
}

/// Where systemd itself listens.
const MANAGER: &str = "/run/systemd/private";

/// A scope, and the line to who makes it.
struct Scope {
    systemd: Systemd,
    unit: Unit,
}

impl Scope {
    fn reach(name: &Path) -> Result<Self, Error> {
        let bus = Bus { address: format!("unix:path={MANAGER}"), is_direct: true, is_user: false };
        let systemd = Systemd::reach(&bus)?;
        let unit = name.to_string_lossy().into_owned();
        let description = format!("{unit} of a bench");
        let property = |name: &str, value| Property { name: name.into(), value };
        let properties = vec![
            property("Description", dbus::Value::Text(description.clone())),
            property("Delegate", dbus::Value::Bool(true)),
            property("DefaultDependencies", dbus::Value::Bool(false)),
        ];
        let group = format!("/system.slice/{unit}");
        let held = Held { unit, bus, version: 0, description };
        Ok(Self { systemd, unit: Unit { held, group, properties } })
    }

    fn start(&mut self, pid: i32) -> Result<Duration, Error> {
        let begin = Instant::now();
        self.systemd.start(&self.unit, Some(pid))?;
        Ok(begin.elapsed())
    }
}

/// The child: goes where it is to go, tells how long that took, and waits for its parent.
fn live(tasks: Option<&OwnedFd>, says: &OwnedFd, waits: &OwnedFd) -> u8 {
    if let Some(tasks) = tasks {
        let begin = Instant::now();
        if write(tasks, b"0").is_err() {
            return 1;
        }
        let took = u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        if write(says, &took.to_ne_bytes()).is_err() {
            return 1;
        }
    }
    u8::from(read(waits, &mut [0; 1]).is_err())
}

fn end(child: &Pidfd) -> Result<(), Error> {
    match child.reap()?.code() {
        0 => Ok(()),
        code => Err(format!("the child ended with {code}").into()),
    }
}

fn open(path: &Path, flags: OFlags) -> Result<OwnedFd, Error> {
    Ok(openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| format!("{}: {error}", path.display()))?)
}
