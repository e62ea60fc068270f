//! Lines of the console protocol: `cargo +nightly fuzz run wire` in this folder's parent.
#![no_main]

#[path = "../../crates/wire/tests/hold/mod.rs"]
mod hold;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hold::message(bytes));
