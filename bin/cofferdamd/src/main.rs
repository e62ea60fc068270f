//! The daemon of devices, as a service manager starts it.
#![cfg_attr(not(test), no_main)]

use cofferdamd::flags::{Given, TABLE, What};
use sys::print;

#[cfg(not(test))]
sys::entry!(entry);

/// The C library calls this: a container inherits nothing of what Rust's own start-up sets.
#[cfg_attr(test, allow(dead_code, reason = "the test harness brings an entry of its own"))]
fn entry() -> u8 {
    sys::begin("cofferdamd", obey)
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
