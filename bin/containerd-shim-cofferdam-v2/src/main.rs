//! `containerd-shim-cofferdam-v2`: what containerd calls to run containers by `io.containerd.cofferdam.v2`.
#![cfg_attr(not(test), no_main)]

use shim::Surroundings;

#[cfg(not(test))]
sys::entry!(entry);

/// The C library calls this; see `sys::entry` for what Rust's own start-up would cost.
#[cfg_attr(test, allow(dead_code, reason = "the test harness brings an entry of its own"))]
fn entry() -> u8 {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    shim::run(&Surroundings {
        arguments: std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect(),
        events: variable("TTRPC_ADDRESS"),
        grpc: variable("GRPC_ADDRESS"),
        core_scheduling: variable("SCHED_CORE").is_some(),
        bus: variable("DBUS_SYSTEM_BUS_ADDRESS"),
    })
}
