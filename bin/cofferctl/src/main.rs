//! The command line for packages.

mod command;
mod flags;
mod progress;

use std::io::Write as _;
use std::process::ExitCode;

use flags::{Given, VERBS};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let name = arguments.next().map(|name| name.to_string_lossy().into_owned());
    let outcome = match name.as_deref() {
        None | Some("help" | "--help" | "-h") => print(&flags::of_program()),
        Some("--version" | "-v") => print(&format!("cofferctl version {}\n", env!("CARGO_PKG_VERSION"))),
        Some(name) => match VERBS.iter().find(|verb| verb.name == name) {
            None => Err(format!("no such command: {}; see \"cofferctl help\"", spec::quoted(name))),
            Some(verb) => Given::read(verb, arguments).and_then(|given| {
                let text = if given.help { flags::of_verb(verb) } else { command::run(verb, &given)? };
                print(&text)
            }),
        },
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(told) => {
            let line = format!("cofferctl: {told}\n");
            // Where nobody listens, the exit status tells.
            std::io::stderr().write_all(line.as_bytes()).unwrap_or_default();
            ExitCode::FAILURE
        }
    }
}

fn print(text: &str) -> Result<(), String> {
    let mut stream = std::io::stdout();
    let written = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
    written.map_err(|error| format!("write(standard output): {error}"))
}
