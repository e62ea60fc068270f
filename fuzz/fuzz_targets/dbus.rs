//! Messages of D-Bus, and what comes before them: `cargo +nightly fuzz run dbus` in this folder's parent.
#![no_main]

#[path = "../../crates/dbus/tests/heard/mod.rs"]
mod heard;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| heard::hold(bytes));
