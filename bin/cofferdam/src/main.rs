//! The command line: what Docker, Podman and people call in place of runc.
#![cfg_attr(not(test), no_main)]

use cofferdam::command;
use cofferdam::invocation::Invocation;
use cofferdam::log::Log;

#[cfg(not(test))]
sys::entry!(entry);

/// The C library calls this; see `sys::entry` for what Rust's own start-up would cost a container.
#[cfg_attr(test, allow(dead_code, reason = "the test harness brings an entry of its own"))]
fn entry() -> u8 {
    // Before anything else is opened: a closed standard stream would be the next descriptor.
    if let Err(failed) = sys::open_streams() {
        Log::default().error(&failed.to_string(), None);
        return 1;
    }
    let Invocation { global, command } = Invocation::read(std::env::args_os().skip(1));
    let command = command.map_err(command::Complaint::from).and_then(|command| {
        command::check_descriptors(&command)?;
        Ok(command)
    });
    let mut log = match Log::open(&global) {
        Ok(log) => log,
        Err(failed) => {
            // With no file to write to, the stream alone hears of it.
            Log::default().error(&failed.to_string(), None);
            return 1;
        }
    };
    match command.and_then(|command| command::run(&global, command, &mut log)) {
        Ok(status) => status,
        Err(complaint) => {
            log.error(&complaint.told, complaint.hint.as_deref());
            complaint.status
        }
    }
}
