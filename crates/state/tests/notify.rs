//! The corpus of the fuzz target `notify`.
#![allow(clippy::expect_used, clippy::panic, reason = "a test states what it expects")]

mod heard;

use std::fs;
use std::path::Path;

#[test]
fn the_corpus_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/notify");
    let (mut good, mut bad) = (0, 0);
    for entry in fs::read_dir(folder).expect("the corpus is there") {
        let path = entry.expect("the folder can be read").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("names are text").to_owned();
        let told = heard::hold(&fs::read(&path).expect("an input can be read"));
        // Inputs that the fuzzer adds are named by their hash and may be either.
        match name.split('-').next() {
            Some("good") => {
                good += 1;
                assert!(told.is_some(), "{name} was not heard");
            }
            Some("bad") => {
                bad += 1;
                assert_eq!(told, None, "{name}");
            }
            _ => {}
        }
    }
    assert!(good >= 3 && bad >= 6, "the corpus has {good} good and {bad} bad inputs");
}
