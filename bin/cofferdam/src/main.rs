//! The command line: what Docker, Podman and people call in place of runc.

use std::io::{self, Write as _};
use std::process::ExitCode;

use cofferdam::flags::{self, Misuse};
use cofferdam::invocation::{Command, Global, Invocation};
use cofferdam::log::Log;

fn main() -> ExitCode {
    let Invocation { global, command } = Invocation::read(std::env::args_os().skip(1));
    let mut log = match Log::open(&global) {
        Ok(log) => log,
        Err(failed) => {
            // With no file to write to, the stream alone hears of it.
            Log::default().error(&failed.to_string(), None);
            return ExitCode::FAILURE;
        }
    };
    match command.and_then(|command| dispatch(&global, command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(misuse) => {
            log.error(&misuse.to_string(), misuse.hint.as_deref());
            ExitCode::from(misuse.status)
        }
    }
}

fn dispatch(_global: &Global, command: Command) -> Result<(), Misuse> {
    let text = match command {
        Command::Help(text) => text,
        Command::Version => flags::version(),
        _ => return Err(Misuse::unbuilt("this command")),
    };
    io::stdout().write_all(text.as_bytes()).map_err(|error| Misuse::new(format!("write to stdout: {error}")))
}
