//! What holds of any bytes at all. A fuzz target and a test over its corpus share it.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each target takes the one that it is for")]

use package::verity::Superblock;
use package::{Manifest, Package, Places};

/// What is read of a package lies within it, and it can be checked whole.
pub fn package(bytes: &[u8]) {
    let Ok(package) = Package::read(bytes) else { return };
    let (whole, image) = (package.whole_image(), package.image());
    assert!(whole.end <= bytes.len() as u64 && whole.start % 4096 == 0);
    assert!(image.is_ok_and(|image| image.start == whole.start && image.end <= whole.end));
    assert!(package.manifest().len() < bytes.len());
    drop(package.check(|_| ()));
}

/// A manifest that is read can be lowered, or is refused in one line; what it is lowered to keeps the engine's own rules.
pub fn manifest(bytes: &[u8]) {
    match Manifest::read("a.yaml", bytes) {
        Err(error) => assert!(!error.to_string().contains('\n'), "{error:?}"),
        Ok(manifest) => {
            let places = Places { rootfs: "/mnt".into(), data: Some("/data".into()), ..Places::default() };
            match manifest.to_spec(&places) {
                Err(error) => assert!(!error.to_string().contains('\n'), "{error:?}"),
                // The engine may refuse a value that it knows better about; it must not be surprised by it.
                Ok(spec) => drop(spec.check()),
            }
        }
    }
}

/// A superblock that is read is written again as it was.
pub fn superblock(bytes: &[u8]) {
    let Some((blocks, rest)) = bytes.split_first_chunk::<8>() else { return };
    let mut block = [0; 4096];
    let count = rest.len().min(block.len());
    block[..count].copy_from_slice(&rest[..count]);
    if let Ok(superblock) = Superblock::parse(&block, u64::from_le_bytes(*blocks)) {
        assert_eq!(superblock.to_bytes(), block);
    }
}
