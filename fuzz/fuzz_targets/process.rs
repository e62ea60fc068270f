//! process.json from anybody, and the plan of the exec that it asks for: `cargo +nightly fuzz run process` in this folder's
//! parent.
#![no_main]

#[path = "../../crates/plan/tests/process/mod.rs"]
mod process;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _told = process::hold(bytes);
});
