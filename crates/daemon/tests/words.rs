//! What the halves say to each other, whatever bytes come.
#![allow(clippy::unwrap_used, reason = "a test states what it expects")]

mod hold;

#[test]
fn the_corpus_holds() {
    let directory = format!("{}/../../fuzz/corpus/words", env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        hold::word(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 0, "there is no corpus");
}
