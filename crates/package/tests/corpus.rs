//! What holds of any bytes holds of those that the fuzzers begin with.
#![allow(clippy::expect_used, reason = "a test states what it expects")]

mod hold;

fn each(name: &str, hold: fn(&[u8])) {
    let directory = format!("{}/../../fuzz/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for entry in std::fs::read_dir(directory).expect("a corpus") {
        hold(&std::fs::read(entry.expect("an entry").path()).expect("a file"));
        count += 1;
    }
    assert!(count > 0, "{name}");
}

#[test]
fn the_corpora_hold() {
    each("package", hold::package);
    each("manifest", hold::manifest);
    each("superblock", hold::superblock);
    each("squashfs", hold::squashfs);
    each("erofs", hold::erofs);
    each("layer", hold::layer);
}
