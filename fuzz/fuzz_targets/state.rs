//! A record from anybody: `cargo +nightly fuzz run state` in this folder's parent.
#![no_main]

#[path = "../../crates/state/tests/property/mod.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _told = property::hold(bytes);
});
