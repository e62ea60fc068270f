//! The command line for packages, and for the daemon that keeps them.
#![cfg_attr(not(test), no_main)]

mod client;
mod command;
mod device;
mod progress;
mod run;

use cofferctl::flags::{Given, TABLE};
use sys::print;
use usage::Verb;
use usage::complete::{Asked, Shell, Wanted};

#[cfg(not(test))]
sys::entry!(entry);

/// The C library calls this: a container inherits nothing of what Rust's own start-up sets.
#[cfg_attr(test, allow(dead_code, reason = "the test harness brings an entry of its own"))]
fn entry() -> u8 {
    sys::begin("cofferctl", obey)
}

/// Tells what is not as one may think, where the command goes on.
fn warn(told: &str) {
    sys::tell(&format!("cofferctl: warning: {told}"));
}

/// Does what was typed; the exit status.
fn obey() -> Result<u8, String> {
    let mut arguments = std::env::args_os().skip(1);
    let name = arguments.next().map(|name| name.to_string_lossy().into_owned());
    let name = match name.as_deref() {
        None | Some("--help" | "-h") => return print(&TABLE.help()),
        Some("--version" | "-v") => {
            return print(&format!("cofferctl version {}\n", env!("CARGO_PKG_VERSION")));
        }
        Some(name) => name,
    };
    let verb = find(name)?;
    let given = Given::read(verb, arguments)?;
    if given.help {
        return print(&TABLE.help_of(verb));
    }
    match verb.name {
        "completion" => print(&completion(&given)?),
        "help" => match given.arguments() {
            [] => print(&TABLE.help()),
            [name, ..] => print(&TABLE.help_of(find(&name.to_string_lossy())?)),
        },
        "run" => run::run(&given).map_err(|told| format!("run: {told}")),
        name if device::is_meant(name, &given) => {
            device::run(name, &given).map_err(|told| format!("{name}: {told}"))
        }
        _ => print(&command::run(verb, &given)?),
    }
}

fn find(name: &str) -> Result<&'static Verb, String> {
    let told = || format!("no such command: {}; see \"cofferctl help\"", spec::quoted(name));
    TABLE.find(name).ok_or_else(told)
}

/// The script for a shell, or what may stand in place of the last of these words.
fn completion(given: &Given) -> Result<String, String> {
    let words: Vec<String> =
        given.arguments().iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let (shell, rest) = words.split_first().ok_or("completion: SHELL is missing")?;
    let shell = Shell::named(shell)
        .ok_or_else(|| format!("completion: {shell:?} is none of {}", Shell::NAMES.join(", ")))?;
    match rest {
        [] => Ok(shell.script("cofferctl")),
        [end, words @ ..] if end == "--" => {
            let asked = Asked::of(&TABLE, shell, words);
            let there = match asked.wanted {
                Wanted::Container { .. } => device::names(words),
                _ => Vec::new(),
            };
            Ok(asked.answer(&there))
        }
        [word, ..] => Err(format!("completion: {word:?}: the words stand after --")),
    }
}

/// What went wrong, in words.
#[allow(clippy::needless_pass_by_value, reason = "map_err hands it over")]
pub(crate) fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}
