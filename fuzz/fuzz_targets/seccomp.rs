//! From any bytes to a profile, and from the profile to a filter that means what it says:
//! `cargo +nightly fuzz run seccomp` in this folder's parent.
#![no_main]

#[path = "../../crates/filter/tests/calls/mod.rs"]
mod calls;
#[path = "../../crates/filter/tests/machine/mod.rs"]
mod machine;
#[path = "../../crates/filter/tests/meaning/mod.rs"]
mod meaning;
#[path = "../../crates/filter/tests/property/mod.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| property::hold(bytes));
