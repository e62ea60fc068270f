//! From anybody's config.json to a plan: `cargo +nightly fuzz run plan` in this folder's parent.
#![no_main]

#[path = "../../crates/plan/tests/property/mod.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| property::hold(bytes));
