//! Images: `cargo +nightly fuzz run erofs` in this folder's parent.
#![no_main]

#[path = "../../crates/package/tests/hold/mod.rs"]
mod hold;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hold::erofs(bytes));
