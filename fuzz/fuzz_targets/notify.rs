//! What a program says to its service manager: `cargo +nightly fuzz run notify` in this folder's parent.
#![no_main]

#[path = "../../crates/state/tests/heard/mod.rs"]
mod heard;

libfuzzer_sys::fuzz_target!(|words: &[u8]| {
    let _heard = heard::hold(words);
});
