//! The command line for packages.
#![cfg_attr(not(test), no_main)]

mod command;
mod flags;
mod progress;
mod run;

use std::io::Write as _;

use flags::{Given, VERBS};

#[cfg(not(test))]
sys::entry!(entry);

/// The C library calls this: a container inherits nothing of what Rust's own start-up sets.
#[cfg_attr(test, allow(dead_code, reason = "the test harness brings an entry of its own"))]
fn entry() -> u8 {
    // Before anything else is opened: a closed standard stream would be the next descriptor.
    let outcome = match sys::open_streams() {
        Ok(()) => obey(),
        Err(failed) => Err(failed.to_string()),
    };
    outcome.unwrap_or_else(|told| {
        let line = format!("cofferctl: {told}\n");
        // Where nobody listens, the exit status tells.
        std::io::stderr().write_all(line.as_bytes()).unwrap_or_default();
        1
    })
}

/// Tells what is not as one may think, where the command goes on.
fn warn(told: &str) {
    let line = format!("cofferctl: warning: {told}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap_or_default();
}

/// Does what was typed; the exit status.
fn obey() -> Result<u8, String> {
    let mut arguments = std::env::args_os().skip(1);
    let name = arguments.next().map(|name| name.to_string_lossy().into_owned());
    match name.as_deref() {
        None | Some("help" | "--help" | "-h") => print(&flags::of_program()),
        Some("--version" | "-v") => print(&format!("cofferctl version {}\n", env!("CARGO_PKG_VERSION"))),
        Some(name) => {
            let verb = VERBS.iter().find(|verb| verb.name == name);
            let verb = verb
                .ok_or_else(|| format!("no such command: {}; see \"cofferctl help\"", spec::quoted(name)))?;
            let given = Given::read(verb, arguments)?;
            if given.help {
                return print(&flags::of_verb(verb));
            }
            if verb.name == "run" {
                return run::run(&given).map_err(|told| format!("run: {told}"));
            }
            print(&command::run(verb, &given)?)
        }
    }
}

fn print(text: &str) -> Result<u8, String> {
    let mut stream = std::io::stdout();
    let written = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
    written.map(|()| 0).map_err(|error| format!("write(standard output): {error}"))
}
