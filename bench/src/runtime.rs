//! Those who are measured, and what they are asked to do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use sys::Pidfd;

use crate::Error;
use crate::place::{PROOF, Place};

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Case {
    /// One command from nothing to nothing.
    Run,
    Create,
    Start,
    Delete,
    /// The three before, added up.
    Life,
}

impl Case {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Create => "create",
            Self::Start => "start",
            Self::Delete => "delete",
            Self::Life => "create + start + delete",
        }
    }
}

/// A program that makes containers.
pub(crate) struct Runtime {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) version: String,
    pub(crate) bytes: u64,
    /// The floor knows no bundle and no commands.
    is_floor: bool,
}

impl Runtime {
    pub(crate) fn floor(path: &Path, place: &Place) -> Result<Self, Error> {
        let floor = Self {
            name: "floor".into(),
            path: path.into(),
            version: "the system calls alone".into(),
            bytes: size(path)?,
            is_floor: true,
        };
        floor.timed(&mut floor.run("bench-proof", place))?;
        Ok(floor)
    }

    /// A runtime that has shown that a container of its really runs.
    pub(crate) fn prove(name: &str, path: &Path, place: &Place) -> Result<Self, Error> {
        let path = path.canonicalize()?;
        let version = Command::new(&path).arg("--version").output()?;
        let version =
            String::from_utf8_lossy(&version.stdout).lines().next().unwrap_or("of unknown version").into();
        let runtime = Self { name: name.into(), bytes: size(&path)?, path, version, is_floor: false };

        let id = format!("bench-{}-proof", std::process::id());
        let output = runtime.command(place).arg("run").arg("--bundle").arg(&place.proof).arg(&id).output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() || said != PROOF {
            let errors = String::from_utf8_lossy(&output.stderr);
            return Err(format!(
                "{}: said {said:?} and {:?}, not {PROOF:?}",
                output.status,
                errors.trim_end()
            )
            .into());
        }
        Ok(runtime)
    }

    /// Everything that this runtime can be timed at, once, with a pause before each command.
    pub(crate) fn live(
        &self,
        id: &str,
        place: &Place,
        gap: Duration,
    ) -> Result<Vec<(Case, Duration)>, Error> {
        sleep(gap);
        let run = self.timed(&mut self.run(id, place))?;
        if self.is_floor {
            return Ok(vec![(Case::Run, run)]);
        }
        let lived = self.live_by_steps(id, place, gap);
        if lived.is_err() {
            // The error that we have is the one to tell; this only keeps the machine clean.
            _ = self.command(place).arg("delete").arg("--force").arg(id).status();
        }
        let (create, start, delete) = lived?;
        Ok(vec![
            (Case::Run, run),
            (Case::Create, create),
            (Case::Start, start),
            (Case::Delete, delete),
            (Case::Life, create + start + delete),
        ])
    }

    fn live_by_steps(
        &self,
        id: &str,
        place: &Place,
        gap: Duration,
    ) -> Result<(Duration, Duration, Duration), Error> {
        let pid_file = place.state.join(format!("{}.pid", self.name));
        sleep(gap);
        let mut create = self.command(place);
        create.arg("create").arg("--bundle").arg(&place.bundle).arg("--pid-file").arg(&pid_file).arg(id);
        let create = self.timed(&mut create)?;
        let pid = fs::read_to_string(&pid_file)?;
        let container = Pidfd::open(pid.trim().parse().map_err(|_| format!("pid file says {pid:?}"))?)?;

        sleep(gap);
        let start = self.timed(self.command(place).arg("start").arg(id))?;
        // It became our child when `create` had ended; a zombie would keep its cgroup busy.
        container.reap()?;

        sleep(gap);
        let delete = self.timed(self.command(place).arg("delete").arg(id))?;
        Ok((create, start, delete))
    }

    /// One run of /bin/true.
    pub(crate) fn run(&self, id: &str, place: &Place) -> Command {
        if self.is_floor {
            let mut command = Command::new(&self.path);
            command.arg(place.bundle.join("rootfs")).arg(id).arg(place.unified.as_deref().unwrap_or("-"));
            command.args(&place.hierarchies);
            return command;
        }
        let mut command = self.command(place);
        command.arg("run").arg("--bundle").arg(&place.bundle).arg(id);
        command
    }

    fn command(&self, place: &Place) -> Command {
        let mut command = Command::new(&self.path);
        command.arg("--root").arg(place.state.join(&self.name));
        command
    }

    /// From the spawn to the exit status. Standard error is ours, so that a failure can be read.
    fn timed(&self, command: &mut Command) -> Result<Duration, Error> {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let begin = Instant::now();
        let status = command.status()?;
        let took = begin.elapsed();
        if status.success() { Ok(took) } else { Err(format!("{}: {command:?}: {status}", self.name).into()) }
    }
}

fn size(path: &Path) -> Result<u64, Error> {
    Ok(fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?.len())
}
