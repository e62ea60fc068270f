//! What the device daemon's guard hears: `cargo +nightly fuzz run words` in this folder's parent.
#![no_main]

#[path = "../../crates/daemon/tests/hold/mod.rs"]
mod hold;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hold::word(bytes));
