//! What holds of any bytes holds of those that the fuzzer begins with.
#![allow(clippy::expect_used, clippy::panic, reason = "a test states what it expects")]

mod hold;

#[test]
fn the_corpus_holds() {
    let directory = format!("{}/../../fuzz/corpus/wire", env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for entry in std::fs::read_dir(directory).expect("a corpus") {
        hold::message(&std::fs::read(entry.expect("an entry").path()).expect("a file"));
        count += 1;
    }
    assert!(count > 0);
}
