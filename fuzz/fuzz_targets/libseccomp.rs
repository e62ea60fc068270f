//! From any bytes to a profile, and from the profile to two filters, ours and libseccomp's, through which every call goes:
//! `cargo +nightly fuzz run libseccomp` in this folder's parent. It needs libseccomp's own files (libseccomp-dev).
#![no_main]

#[path = "../../crates/filter/tests/calls/mod.rs"]
mod calls;
#[path = "../../crates/filter/tests/compare/mod.rs"]
mod compare;
#[path = "../../crates/filter/tests/machine/mod.rs"]
mod machine;
#[path = "../../crates/filter/tests/meaning/mod.rs"]
mod meaning;
#[path = "../../crates/filter/tests/peer/mod.rs"]
mod peer;
#[path = "../../crates/filter/tests/property/mod.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (profile, native) = property::make(bytes);
    // No kernel but that of x86-64 runs programs of x32, and libseccomp takes what it is told.
    let _counted = compare::compare("made of bytes", &compare::known(&profile), native);
});
