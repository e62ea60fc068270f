//! What holds of any bytes at all. A fuzz target and a test over its corpus share it.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::panic,
    reason = "each target takes the one that it is for"
)]

use std::fs;

use package::image::{FileSystem, Piece, Step, Walk};
use package::squashfs::{self, Compression};
use package::tree::Kind;
use package::verity::Superblock;
use package::{Limits, Manifest, Package, Places, erofs, oci};
use sha2::{Digest as _, Sha256};

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

/// See [`image`].
pub fn squashfs(bytes: &[u8]) {
    image(squashfs::Image::read(bytes, 0..bytes.len() as u64));
}

/// See [`image`]. Who makes an image knows its checksum, so it is right here.
pub fn erofs(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    if let Some(compatible) = bytes.get_mut(1024 + 8) {
        *compatible &= !1;
    }
    image(erofs::Image::read(bytes.as_slice(), 0..bytes.len() as u64));
}

/// An image is read to its end, or refused in one line: names are names, contents are as long as they are said to be.
fn image<F: FileSystem>(opened: Result<F, package::Error>) {
    let read = || -> Result<(), package::Error> {
        let mut image = opened?;
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
            if let Kind::File(stored) = &inode.kind {
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
                assert_eq!(size, F::size(stored));
            }
        }
        assert_eq!(depth, 0);
        Ok(())
    };
    if let Err(error) = read() {
        assert!(!error.to_string().contains('\n'), "{error:?}");
    }
}

/// A layer of an image is read, or refused in one line, and keeps within its limits; what is made of it is an image of ours.
/// Whoever makes a layer knows its digest and its checksums, so they are right here.
pub fn layer(bytes: &[u8]) {
    let layer = with_checksums(bytes);
    let limits = Limits { bytes: 1 << 20, files: 1000 };
    let directory = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
    let blob = |bytes: &[u8]| {
        let digest =
            Sha256::digest(bytes).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        let path = directory.path().join("blobs/sha256").join(&digest);
        fs::write(path, bytes).unwrap_or_else(|error| panic!("{error}"));
        format!("sha256:{digest}")
    };
    fs::create_dir_all(directory.path().join("blobs/sha256")).unwrap_or_else(|error| panic!("{error}"));
    let layer = blob(&layer);
    let config = blob(format!("{{\"rootfs\": {{\"diff_ids\": [\"{layer}\"]}}}}").as_bytes());
    let index =
        format!("{{\"config\": {{\"digest\": \"{config}\"}}, \"layers\": [{{\"digest\": \"{layer}\"}}]}}");
    fs::write(directory.path().join("index.json"), index).unwrap_or_else(|error| panic!("{error}"));
    let mut heard = 0;
    let read = oci::read(directory.path(), directory.path(), limits, &mut |bytes| heard += bytes);
    assert!(heard <= limits.bytes);
    let image = match read {
        Err(error) => return assert!(!error.to_string().contains('\n'), "{error:?}"),
        Ok(image) => image,
    };
    let write = |file: &fs::File| {
        package::squashfs::write(&image.tree, file, 0, Compression::None, &mut |_| ())?;
        fs::read(directory.path().join("image")).map_err(|error| package::Error::io("read", &error))
    };
    let create =
        |name| fs::File::create(directory.path().join(name)).unwrap_or_else(|error| panic!("{error}"));
    match write(&create("image")) {
        Ok(bytes) => self::squashfs(&bytes),
        Err(error) => assert!(!error.to_string().contains('\n'), "{error:?}"),
    }
    match erofs::write(&image.tree, &create("erofs"), 0, &mut |_| ()) {
        Ok(_) => {
            self::erofs(&fs::read(directory.path().join("erofs")).unwrap_or_else(|error| panic!("{error}")));
        }
        Err(error) => assert!(!error.to_string().contains('\n'), "{error:?}"),
    }
}

/// The same with the checksum of each head as it is due: nobody finds one by chance.
fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if bytes.starts_with(b"\x1f\x8b") || bytes.starts_with(b"\x28\xb5\x2f\xfd") {
        return bytes;
    }
    let mut at = 0;
    while let Some(head) = bytes.get_mut(at..at + 512) {
        if head.iter().any(|byte| *byte != 0) {
            head[148..156].fill(b' ');
            let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
            head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        let size = std::str::from_utf8(&head[124..135]).ok();
        let size = size.and_then(|size| usize::from_str_radix(size.trim(), 8).ok()).unwrap_or_default();
        at = at.saturating_add(512).saturating_add(size.min(1 << 30).next_multiple_of(512));
    }
    bytes
}
