//! `debug.commands`: programs of the administrator's beside each container, for those who look for faults.
//!
//! Each is a worker that becomes the program: it has our rights, reads nothing, and what it writes goes into the log by the container's
//! name. It is there before the container's program is. When that has gone, it is asked to end, and killed if it does not; with us it
//! is killed at once.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use engine::{Error, Kind, Work};
use sys::{Mask, SIGTERM};

use super::Guard;
use super::output::{self, Output};
use super::run::{self, Phase};
use crate::log;
use crate::words::Failure;

/// How long a program may take whose container has gone: what it has seen, it may want to write down.
const PATIENCE: Duration = Duration::from_secs(5);

/// Programs whose container is no more. They are gone once nobody is left who could write.
#[derive(Debug)]
pub(super) struct Parting {
    pub(super) output: Output,
    programs: Vec<Work>,
    pub(super) until: Instant,
}

impl Parting {
    /// Asks them to end.
    pub(super) fn begin(programs: Vec<Work>, output: Output) -> Self {
        for program in &programs {
            if let Err(failed) = run::signal(program.process(), SIGTERM) {
                log::say(&format!("debug.commands: {failed}"));
            }
        }
        Self { output, programs, until: Instant::now() + PATIENCE }
    }

    /// Kills whoever is left; what they have written is still told.
    pub(super) fn end(self) {
        self.programs.iter().for_each(Work::end);
        self.output.finish();
    }
}

impl Guard<'_> {
    /// Begins the programs that are to be there before the container's.
    pub(super) fn accompany(&mut self, name: &str) {
        let Some(container) = self.containers.get_mut(name) else { return };
        container.phase = Phase::Accompanying;
        match begin(&self.mask, &self.commands, &container.package, container.pid) {
            Ok((output, programs)) => {
                container.awaited = programs.len();
                container.outputs.insert(OUTPUT, output);
                for program in programs {
                    self.hire(program, None, super::Task::Accompany(name.to_owned()));
                }
            }
            Err(failure) => self.give_up(name, failure),
        }
    }

    /// A program is there, or is not to be had.
    pub(super) fn accompanied(&mut self, name: &str, program: Work, outcome: Result<(), Failure>) {
        let Some(container) = self.containers.get_mut(name).filter(|one| one.phase == Phase::Accompanying)
        else {
            // Another one was not to be had, and the container has gone for that.
            return program.end();
        };
        container.companions.push(program);
        container.awaited = container.awaited.saturating_sub(1);
        match outcome {
            Ok(()) if container.awaited == 0 => self.launch(name),
            Ok(()) => {}
            Err(failure) => self.give_up(name, failure),
        }
    }

    /// They have written something, or nobody is left who could.
    pub(super) fn heed_parting(&mut self, place: usize) {
        if let Some(one) = self.parting.get_mut(place)
            && !one.output.pass()
        {
            one.until = Instant::now();
        }
    }

    /// Kills whose time is over, and forgets who has gone.
    pub(super) fn part(&mut self, is_over: bool) {
        let now = Instant::now();
        let (gone, left) = self.parting.drain(..).partition(|one| is_over || one.until <= now);
        self.parting = left;
        Vec::into_iter(gone).for_each(Parting::end);
    }
}

/// What their output is called among a container's.
pub(super) const OUTPUT: &str = "debug";

/// Begins all of them; what they write, and themselves.
fn begin(
    mask: &Mask,
    commands: &[String],
    container: &str,
    pid: i32,
) -> Result<(Output, Vec<Work>), Failure> {
    let (theirs, output) = output::piped(container)?;
    let begun = commands.iter().map(|command| {
        let words = words(command, container, pid);
        Work::run(mask, &[theirs.as_fd()], |_| Err(become_program(&words, &theirs)))
    });
    Ok((output, begun.collect::<Result<_, Error>>()?))
}

/// Its words: between them are blanks, and there is no way to have one in a word.
fn words(command: &str, container: &str, pid: i32) -> Vec<String> {
    let pid = pid.to_string();
    command
        .split_whitespace()
        .map(|word| word.replace("<PID>", &pid).replace("<CONTAINER>", container))
        .collect()
}

/// Executes it. Whoever listens to the worker hears nothing more then: its line is closed.
fn become_program(words: &[String], output: &OwnedFd) -> Error {
    let to = || output.try_clone().map(|output| Stdio::from(File::from(output)));
    let execute = || -> io::Error {
        let Some((program, arguments)) = words.split_first() else {
            return io::ErrorKind::InvalidInput.into();
        };
        match (to(), to()) {
            (Ok(out), Ok(err)) => {
                Command::new(program).args(arguments).stdin(Stdio::null()).stdout(out).stderr(err).exec()
            }
            (Err(error), _) | (_, Err(error)) => error,
        }
    };
    Error::new(Kind::Other, format!("debug.commands: {}: {}", words.join(" "), execute()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_taken_by_what_is_meant() {
        assert_eq!(
            words(" strace  -f -p <PID> -o /tmp/<CONTAINER>.<PID>", "a:1.0.0", 7),
            ["strace", "-f", "-p", "7", "-o", "/tmp/a:1.0.0.7"]
        );
    }
}
