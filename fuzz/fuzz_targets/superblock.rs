//! Superblocks of hash trees: `cargo +nightly fuzz run superblock` in this folder's parent.
#![no_main]

#[path = "../../crates/package/tests/hold/mod.rs"]
mod hold;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hold::superblock(bytes));
