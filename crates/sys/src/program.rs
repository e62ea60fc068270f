//! A program of ours, from its entry to its exit status.

use std::io::Write as _;

use crate::open_streams;

/// What a program's entry has to do around `obey`, which tells an error in a line: its standard streams are open, the line
/// goes to standard error after the program's name, and the exit status is 1 then.
pub fn begin(program: &str, obey: impl FnOnce() -> Result<u8, String>) -> u8 {
    // Before anything else is opened: a closed standard stream would be the next descriptor.
    let outcome = open_streams().map_err(|failed| failed.to_string()).and_then(|()| obey());
    outcome.unwrap_or_else(|told| {
        tell(&format!("{program}: {told}"));
        1
    })
}

/// Writes a line to standard error. Where nobody listens, the exit status tells.
pub fn tell(line: &str) {
    std::io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap_or_default();
}

/// Writes a text to standard output, all of it; the exit status.
pub fn print(text: &str) -> Result<u8, String> {
    let mut stream = std::io::stdout();
    let written = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
    written.map(|()| 0).map_err(|error| format!("write(standard output): {error}"))
}
