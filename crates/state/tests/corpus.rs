//! The corpus of the fuzz target `state`.
#![allow(clippy::expect_used, clippy::panic, reason = "a test states what it expects")]

mod property;

use std::fs;
use std::path::Path;

use property::hold;

#[test]
fn the_corpus_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/state");
    let (mut good, mut bad) = (0, 0);
    for entry in fs::read_dir(folder).expect("the corpus is there") {
        let path = entry.expect("the folder can be read").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("names are text").to_owned();
        let told = hold(&fs::read(&path).expect("an input can be read"));
        // Inputs that the fuzzer adds are named by their hash and may be either.
        match name.split('-').next() {
            Some("good") => {
                good += 1;
                assert_eq!(told, Ok(()), "{name}");
            }
            Some("bad") => {
                bad += 1;
                assert!(told.is_err(), "{name} passed");
            }
            _ => {}
        }
    }
    assert!(good >= 4 && bad >= 12, "the corpus has {good} good and {bad} bad inputs");
}

#[test]
fn a_newer_record_is_told_as_such_whatever_else_is_in_it() {
    let newer = br#"{"version":2,"phase":"half","whatever":[]}"#;
    let told = hold(newer);
    let words = "is of version 2, written by a newer cofferdam; this one reads up to 1";
    assert_eq!(told, Err(words.to_owned()));
}
