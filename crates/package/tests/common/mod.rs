//! A small package to begin with.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    reason = "each test takes what it needs, and states what it expects"
)]

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::sync::OnceLock;

use package::{Draft, PublicKey, Seal, SecretKey};

pub const MANIFEST: &[u8] = b"name: hello\nversion: 0.0.1\ninit: /hello\nuid: 1000\ngid: 1000\n";

/// An image of so many blocks, of which no two are alike.
pub fn image(blocks: usize) -> Vec<u8> {
    (0..blocks * 4096).map(|at| ((at / 4096) * 31 + at % 251) as u8).collect()
}

/// A key, always the same.
pub fn key() -> SecretKey {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("a.key");
    std::fs::write(&path, [7; 32]).expect("a key");
    SecretKey::read(&path).expect("32 bytes")
}

pub fn public() -> &'static PublicKey {
    static PUBLIC: OnceLock<PublicKey> = OnceLock::new();
    PUBLIC.get_or_init(|| key().public())
}

/// A package around an image, signed or not.
pub fn package(image: &[u8], key: Option<&SecretKey>) -> Vec<u8> {
    package_of(MANIFEST, image, key)
}

/// The same with a manifest.
pub fn package_of(manifest: &[u8], image: &[u8], key: Option<&SecretKey>) -> Vec<u8> {
    let seal = key.map(|key| Seal { key, uuid: [1; 16], salt: [2; 32] });
    let draft = Draft::begin(tempfile::tempfile().expect("a file"), manifest.to_vec(), key.is_some())
        .expect("a draft");
    let mut file = draft.file();
    file.seek(SeekFrom::Start(draft.start())).expect("a place");
    file.write_all(image).expect("an image");
    let mut file = draft.finish(image.len() as u64, seal.as_ref(), |_| ()).expect("a package");
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).expect("the start");
    file.read_to_end(&mut bytes).expect("all of it");
    bytes
}
