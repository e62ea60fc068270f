//! What holds of any bytes at all. A fuzz target and a test over its corpus share it.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each target takes the one that it is for")]

use package::squashfs::{Image, Piece, Step, Walk, What};
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

/// An image is read to its end, or refused in one line: names are names, contents are as long as they are said to be.
pub fn squashfs(bytes: &[u8]) {
    let read = || -> Result<(), package::Error> {
        let mut image = Image::read(bytes, 0..bytes.len() as u64)?;
        let root = image.root()?;
        let mut walk = Walk::from(&image, &root)?;
        let (mut depth, mut budget) = (1, 64u64 << 20);
        while let Some(step) = walk.next(&mut image)? {
            let (name, inode) = match step {
                Step::Leave => {
                    depth -= 1;
                    continue;
                }
                Step::Enter(name, inode) => {
                    depth += 1;
                    (name, inode)
                }
                Step::Meet(name, inode) | Step::Again(name, inode) => (name, inode),
            };
            assert!(!name.is_empty() && !name.contains(&b'/') && name != b".." && name != b".");
            assert!(image.xattrs(&inode)?.values().all(|value| value.len() <= 64 << 10));
            if let What::File(stored) = &inode.kind {
                let mut size = 0;
                image.content(stored, &mut |piece| {
                    let count = match piece {
                        Piece::Bytes(bytes) => bytes.len() as u64,
                        Piece::Hole(count) => count,
                    };
                    size += count;
                    // A file may be far greater than its image; one image in a while is enough of that.
                    budget = budget.saturating_sub(count.min(1 << 20));
                    if budget == 0 {
                        Err(package::Error::new(package::Kind::Invalid, "enough"))
                    } else {
                        Ok(())
                    }
                })?;
                assert_eq!(size, stored.size);
            }
        }
        assert_eq!(depth, 0);
        Ok(())
    };
    if let Err(error) = read() {
        assert!(!error.to_string().contains('\n'), "{error:?}");
    }
}
