//! Measures cofferdam beside other runtimes, all in turns in one loop, and beside the floor.
//!
//! Touches: a mount namespace of its own with a tmpfs for bundle and state; cgroups through the runtimes it starts.
//! Never:   judges: it prints. Wall time belongs to the machine and its load; the ratio to the floor is what lasts.
//! Begin with [`measure`].

mod arguments;
mod joins;
mod packages;
mod place;
mod report;
mod runtime;
mod sample;
mod shims;

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use sys::Side;

use crate::arguments::{Arguments, Wish};
use crate::place::Place;
use crate::report::Report;
use crate::runtime::Runtime;

/// What went wrong, in words: nothing here acts upon its kind.
type Error = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let done = match Wish::parse(std::env::args_os().skip(1)) {
        Ok(Wish::Measure(arguments)) => apart(&arguments, measure),
        Ok(Wish::Shims(arguments)) => apart(&arguments, shims::measure),
        Ok(Wish::Packages(arguments)) => apart(&arguments, packages::measure),
        Ok(Wish::Joins { rounds, gap }) => joins::measure(rounds, Duration::from_millis(gap))
            .and_then(|table| Ok(io::stdout().write_all(table.as_bytes()).map(|()| ExitCode::SUCCESS)?)),
        Ok(Wish::Peak(command)) => sample::tell_peak(&command),
        Ok(Wish::Help) => {
            write!(io::stdout(), "{}", arguments::HELP).map(|()| ExitCode::SUCCESS).map_err(Error::from)
        }
        Err(error) => Err(error),
    };
    done.unwrap_or_else(|error| {
        say(&format!("bench: {error}"));
        ExitCode::FAILURE
    })
}

/// One line of progress. Standard output is kept for the tables.
fn say(line: &str) {
    // Without a standard error there is nobody to hear that there is none.
    _ = writeln!(io::stderr(), "{line}");
}

/// Measures in a mount namespace of its own, so that this machine's mounts stay as they are.
fn apart(
    arguments: &Arguments,
    measure: fn(&Arguments, &Path) -> Result<ExitCode, Error>,
) -> Result<ExitCode, Error> {
    let work = std::env::temp_dir().join(format!("cofferdam-bench-{}", std::process::id()));
    std::fs::create_dir(&work).map_err(|error| format!("{}: {error}", work.display()))?;
    let birth = sys::Birth { namespaces: sys::namespace::MOUNT, ..sys::Birth::default() };
    match sys::fork_into(&birth) {
        Ok(Side::Child(_)) => measure(arguments, &work),
        Ok(Side::Parent(_, child)) => {
            let exit = child.reap()?;
            remove(&work)?;
            Ok(ExitCode::from(exit.code()))
        }
        Err(failed) => {
            remove(&work)?;
            Err(format!("a mount namespace of its own, which only root may have: {failed}").into())
        }
    }
}

fn remove(work: &Path) -> Result<(), Error> {
    Ok(std::fs::remove_dir(work).map_err(|error| format!("{}: {error}", work.display()))?)
}

fn measure(arguments: &Arguments, work: &Path) -> Result<ExitCode, Error> {
    // Containers are orphans once `create` has ended: they become our children, and we reap them.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let place = Place::prepare(work, arguments.hybrid)?;
    say(&format!("bench: {}, state on tmpfs in a mount namespace of its own", place.view));

    let mut runtimes = vec![Runtime::floor(&arguments.floor, &place)?];
    let mut complete = true;
    for (name, path) in &arguments.runtimes {
        match Runtime::prove(name, path, &place) {
            Ok(runtime) => runtimes.push(runtime),
            Err(error) => {
                complete = false;
                say(&format!("bench: left out: {name} ({}): {error}", path.display()));
            }
        }
    }

    let mut report = Report::new(&place);
    for (rounds, gap) in
        [(arguments.rounds, Duration::ZERO), (arguments.spaced, Duration::from_millis(arguments.gap))]
    {
        if rounds > 0 {
            take_turns(&runtimes, &place, rounds, gap, &mut report)?;
        }
    }
    for runtime in &runtimes {
        say(&format!("bench: memory and system calls of {}", runtime.name));
        let peak = sample::peak(runtime, &place)?;
        let calls = match sample::system_calls(runtime, &place) {
            Ok(calls) => Some(calls),
            Err(error) => {
                say(&format!("bench: system calls of {} are not counted: {error}", runtime.name));
                None
            }
        };
        report.weigh(runtime, peak, calls);
    }

    let told = if arguments.json { report.json() } else { report.table() };
    io::stdout().write_all(told.as_bytes())?;
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Every runtime once per round, and another one first in each, so that nobody always follows the slowest.
fn take_turns(
    runtimes: &[Runtime],
    place: &Place,
    rounds: u32,
    gap: Duration,
    report: &mut Report,
) -> Result<(), Error> {
    const WARM_UP: u32 = 5;
    let names = runtimes.iter().map(|runtime| runtime.name.as_str()).collect::<Vec<_>>().join(", ");
    say(&format!("bench: {rounds} rounds, {} ms apart: {names}", gap.as_millis()));
    for round in 0..WARM_UP + rounds {
        let first = round as usize % runtimes.len();
        for runtime in runtimes[first..].iter().chain(&runtimes[..first]) {
            let id = format!("bench-{}-{round}", std::process::id());
            for (case, took) in runtime.live(&id, place, gap)? {
                if round >= WARM_UP {
                    report.add(case, gap, &runtime.name, took);
                }
            }
        }
    }
    report.rounds(gap, rounds);
    Ok(())
}
