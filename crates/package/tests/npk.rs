//! Packages from people who mean well, and from others.
#![allow(clippy::expect_used, clippy::cast_possible_truncation, reason = "a test states what it expects")]

mod common;

use common::{MANIFEST, image, key, package as packed, public};
use package::{Error, Kind, Package, SecretKey, Verity};

/// What a package amounts to: the manifest, what dm-verity is told, the image.
fn whole(bytes: &[u8]) -> Result<(Vec<u8>, Verity, Vec<u8>), Error> {
    let package = Package::read(bytes)?;
    let verity = package.verify(public())?;
    package.check(|_| ())?;
    let image = package.image()?;
    Ok((package.manifest().to_vec(), verity, bytes[image.start as usize..image.end as usize].to_vec()))
}

/// What is said of a package that must not be taken.
fn refusal(bytes: &[u8]) -> (Kind, String) {
    let error = whole(bytes).expect_err("it is damaged");
    assert!(!error.to_string().contains('\n'), "{error}");
    (error.kind(), error.to_string())
}

#[test]
fn what_was_packed_is_read_again() {
    for blocks in [1, 2, 128, 129, 200] {
        let image = image(blocks);
        let bytes = packed(&image, Some(&key()));
        let (manifest, verity, read) = whole(&bytes).expect("it is whole");
        assert_eq!((manifest.as_slice(), read), (MANIFEST, image));
        assert_eq!(verity.superblock.data_blocks, blocks as u64);
    }
}

#[test]
fn the_same_is_packed_to_the_same_bytes() {
    assert_eq!(packed(&image(3), Some(&key())), packed(&image(3), Some(&key())));
}

#[test]
fn an_unsigned_package_is_checked_by_its_checksum_and_verified_by_nobody() {
    let mut bytes = packed(&image(2), None);
    assert_eq!(Package::read(bytes.as_slice()).and_then(|package| package.check(|_| ())), Ok(()));
    let error =
        Package::read(bytes.as_slice()).and_then(|package| package.verify(public())).expect_err("nobody");
    assert_eq!((error.kind(), error.to_string().as_str()), (Kind::Untrusted, "is not signed"));
    bytes[5000] ^= 1;
    let error =
        Package::read(bytes.as_slice()).and_then(|package| package.check(|_| ())).expect_err("a flipped bit");
    assert_eq!(error.to_string(), "fs.img is not what its checksum tells");
}

#[test]
fn every_flipped_byte_is_seen_or_says_nothing() {
    let good = packed(&image(2), Some(&key()));
    let expected = whole(&good).expect("it is whole");
    let mut silent = 0;
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= if at % 2 == 0 { 0x01 } else { 0xff };
        if let Ok(read) = whole(&bytes) {
            // What zip keeps for others: times, attributes, who made it.
            assert_eq!(
                (read.0, read.1.root, read.2),
                (expected.0.clone(), expected.1.root, expected.2.clone())
            );
            silent += 1;
        }
    }
    // Three entries twice, a few bytes each.
    assert!(silent < 150, "{silent} flips changed nothing");
}

#[test]
fn every_truncation_is_refused() {
    let good = packed(&image(2), Some(&key()));
    for length in 0..good.len() {
        assert!(whole(&good[..length]).is_err(), "{length}");
    }
}

#[test]
fn what_stands_before_or_behind_a_package_is_refused() {
    let good = packed(&image(1), Some(&key()));
    assert!(whole(&[b"#!/bin/sh\n".as_slice(), &good].concat()).is_err());
    assert!(whole(&[good.as_slice(), b"x"].concat()).is_err());
    // Two archives in one file: one reader may take the first, another one the second.
    assert!(whole(&[good.as_slice(), &good].concat()).is_err());
}

#[test]
fn another_key_is_told_apart_from_damage() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("b.key");
    std::fs::write(&path, [8; 32]).expect("a key");
    let other = SecretKey::read(&path).expect("32 bytes");
    let (kind, text) = refusal(&packed(&image(1), Some(&other)));
    assert_eq!(kind, Kind::Untrusted);
    assert_eq!(text, "signature.yaml: the signature is not by this key, or not over this text");
}

/// A package with one place patched, checksums of small entries mended.
fn patched(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut all = packed(&image(2), Some(&key()));
    all[at..at + bytes.len()].copy_from_slice(bytes);
    all
}

/// Where the image of two blocks ends, and the superblock begins.
const SUPERBLOCK: usize = 4096 + 2 * 4096;

#[test]
fn absurd_superblocks_are_refused_field_by_field() {
    for (at, bytes, told) in [
        (0, b"VERITY".as_slice(), "verity superblock: is none: the magic is missing"),
        (8, &[9], "verity superblock: version 9, hash type 1; 1 and 1 are read"),
        (12, &[0], "verity superblock: version 1, hash type 0; 1 and 1 are read"),
        (32, b"md5", "verity superblock: the algorithm is not sha256"),
        (64, &[0, 0], "verity superblock: blocks of 0 and 4096 bytes; 4096 are read"),
        (68, &[0xff; 4], "verity superblock: blocks of 4096 and 4294967295 bytes; 4096 are read"),
        (72, &[0xff; 8], "verity superblock: 18446744073709551615 data blocks, where the image has 2"),
        (72, &[0; 8], "verity superblock: 0 data blocks, where the image has 2"),
        (80, &[0xff, 0xff], "verity superblock: a salt of 65535 bytes; there is room for 256"),
        (80, &[1, 1], "verity superblock: a salt of 257 bytes; there is room for 256"),
        (82, &[1], "verity superblock: bytes that must be zero are not"),
        (4095, &[1], "verity superblock: bytes that must be zero are not"),
    ] {
        assert_eq!(refusal(&patched(SUPERBLOCK + at, bytes)), (Kind::Damaged, told.to_owned()));
    }
}

#[test]
fn a_flipped_block_is_named() {
    let (kind, told) = refusal(&patched(4096 + 4096 + 17, b"x"));
    assert_eq!(
        (kind, told.as_str()),
        (Kind::Damaged, "block 1 of the image and its hash in the tree differ")
    );
}

/// Where a record of the archive's directory begins, by its index.
fn record(bytes: &[u8], index: usize) -> usize {
    let found: Vec<usize> =
        (0..bytes.len() - 4).filter(|at| bytes[*at..].starts_with(b"PK\x01\x02")).collect();
    found[index]
}

/// What is said of a package whose directory, and whose local headers where `local` says so, hold other bytes.
fn with_header(index: usize, at: usize, bytes: &[u8]) -> String {
    let mut all = packed(&image(2), Some(&key()));
    let record = record(&all, index);
    all[record + at..record + at + bytes.len()].copy_from_slice(bytes);
    refusal(&all).1
}

#[test]
fn tricks_of_zip_are_refused_by_name() {
    assert_eq!(with_header(0, 10, &[8]), "entry \"manifest.yaml\" is compressed (method 8), not stored");
    assert_eq!(with_header(0, 8, &[1]), "entry \"manifest.yaml\" has the flags 0x1");
    assert_eq!(
        with_header(0, 20, &[0xff; 4]),
        "entry \"manifest.yaml\" is stored in another size than it has"
    );
    let told = with_header(0, 20, &[0xff; 8]);
    assert_eq!(told, "entry \"manifest.yaml\" needs Zip64: packages of 4 GiB and more are not read");
    assert_eq!(with_header(0, 46, b"../../etc/abc"), "entry \"../../etc/abc\" belongs in no package");
    assert_eq!(
        with_header(1, 42, &[0; 4]).split(',').next(),
        Some("entry \"signature.yaml\" begins at byte 0")
    );
    assert_eq!(
        with_header(2, 24, &[0, 0, 0, 0x7f]),
        "entry \"fs.img\" is stored in another size than it has"
    );
    assert_eq!(with_header(2, 30, &[0xff, 0xff]), "the zip directory ends within an entry");
}

#[test]
fn a_name_that_comes_twice_is_refused() {
    let mut all = packed(&image(1), Some(&key()));
    let record = record(&all, 1);
    // `signature.yaml` is one letter longer: the record is made anew under the manifest's name.
    let mut second = all[record..record + 46].to_vec();
    second[28] = 13;
    second.extend(b"manifest.yaml");
    let size = u32::from_le_bytes(all[all.len() - 25..all.len() - 21].try_into().expect("four"));
    let end = all.len() - 37;
    all[end + 12..end + 16].copy_from_slice(&(size - 1).to_le_bytes());
    all.splice(record..record + 60, second);
    assert_eq!(refusal(&all).1, "entry \"manifest.yaml\" comes twice");
}

#[test]
fn old_formats_and_strange_comments_are_refused() {
    let with_comment = |comment: &str| {
        let mut all = packed(&image(1), Some(&key()));
        all.truncate(all.len() - 15);
        let length = all.len();
        all[length - 2..].copy_from_slice(&(comment.len() as u16).to_le_bytes());
        all.extend(comment.as_bytes());
        Package::read(all.as_slice()).map(|package| package.version().to_owned())
    };
    for good in ["0.9.0", "0.9.99", "0.10.0", "1.0.0", "99.1.1", "1.0.0-rc.1"] {
        let read = with_comment(&format!("version: {good}\n")).expect("it is read");
        assert!(good.starts_with(&read), "{read}");
    }
    let error = with_comment("version: 0.8.9\n").expect_err("too old");
    assert_eq!(error.to_string(), "the archive's comment: format 0.8.9: packages are read from 0.9 on");
    for bad in ["", "version: x", "[[[[", "version", "version: 0.9", "\u{fffd}"] {
        let error = with_comment(bad).expect_err(bad);
        assert_eq!(error.kind(), Kind::Damaged, "{error}");
    }
}
