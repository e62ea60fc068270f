//! The device daemon's configuration: `cargo +nightly fuzz run daemon` in this folder's parent.
#![no_main]

#[path = "../../crates/daemon/tests/hold/mod.rs"]
mod hold;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hold::config(bytes));
