//! config.json from anybody: `cargo +nightly fuzz run config` in this folder's parent.
#![no_main]

#[path = "../../crates/spec/tests/property/mod.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _told = property::hold(bytes);
});
