//! The daemon of devices, as a service manager starts it.
#![cfg_attr(not(test), no_main)]

use std::io::Write as _;

use cofferdamd::flags::{Given, TABLE, What};

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
        let line = format!("cofferdamd: {told}\n");
        // Where nobody listens, the exit status tells.
        std::io::stderr().write_all(line.as_bytes()).unwrap_or_default();
        1
    })
}

/// Does what was typed; the exit status.
fn obey() -> Result<u8, String> {
    let given = Given::read(std::env::args_os().skip(1))?;
    match given.what {
        What::Help => print(&TABLE.help()),
        What::Version => print(&format!("cofferdamd version {}\n", env!("CARGO_PKG_VERSION"))),
        What::Check => daemon::check(&given.config).map(|()| 0).map_err(|failed| failed.to_string()),
        What::Serve => daemon::run(&given.config, given.shares_mounts).map_err(|failed| failed.to_string()),
    }
}

fn print(text: &str) -> Result<u8, String> {
    let mut stream = std::io::stdout();
    let written = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
    written.map(|()| 0).map_err(|error| format!("write(standard output): {error}"))
}
