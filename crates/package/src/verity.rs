//! The hash tree behind a file system image, as dm-verity reads it: superblock, levels, root.
//!
//! The layout is that of cryptsetup's format 1 with the reference's parameters: SHA-256 over the salt and a block of
//! 4096 bytes, the superblock right behind the data, the topmost level first. Nothing signs the superblock but the
//! root hash that it leads to, so whoever hands us a package writes its fields; here they are checked, each one.

#![allow(
    clippy::cast_possible_truncation,
    reason = "constants, and lengths that were bounded before they are cast"
)]

use std::fs::File;
use std::ops::Range;

use sha2::{Digest as _, Sha256};

use crate::crew::{self, Spare};
use crate::error::Error;
use crate::source::{Source, u16_at, u32_at, u64_at};

/// The size of data and hash blocks.
pub const BLOCK: u64 = 4096;
pub(crate) const BLOCK_SIZE: usize = BLOCK as usize;
/// The digests in one block.
const PER_BLOCK: u64 = BLOCK / 32;

/// A SHA-256 digest.
pub type Hash = [u8; 32];

/// The head of a hash tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// A name for the tree, of no meaning.
    pub uuid: [u8; 16],
    /// How many blocks the tree covers.
    pub data_blocks: u64,
    /// What is hashed before each block, at most 256 bytes.
    pub salt: Vec<u8>,
}

impl Superblock {
    /// Reads the head of a tree over `data_blocks` blocks; all else is refused.
    pub fn parse(bytes: &[u8; BLOCK_SIZE], data_blocks: u64) -> Result<Self, Error> {
        let wrong = |what: &str| Err(Error::damaged(format!("verity superblock: {what}")));
        if bytes[..8] != *b"verity\0\0" {
            return wrong("is none: the magic is missing");
        }
        if (u32_at(bytes, 8), u32_at(bytes, 12)) != (1, 1) {
            return wrong(&format!(
                "version {}, hash type {}; 1 and 1 are read",
                u32_at(bytes, 8),
                u32_at(bytes, 12)
            ));
        }
        if bytes[32..64] != *ALGORITHM {
            return wrong("the algorithm is not sha256");
        }
        if [u32_at(bytes, 64), u32_at(bytes, 68)] != [BLOCK as u32; 2] {
            return wrong(&format!(
                "blocks of {} and {} bytes; {BLOCK} are read",
                u32_at(bytes, 64),
                u32_at(bytes, 68)
            ));
        }
        if u64_at(bytes, 72) != data_blocks {
            return wrong(&format!("{} data blocks, where the image has {data_blocks}", u64_at(bytes, 72)));
        }
        let salt = usize::from(u16_at(bytes, 80));
        if salt > LARGEST_SALT {
            return wrong(&format!("a salt of {salt} bytes; there is room for {LARGEST_SALT}"));
        }
        let (salt, rest) = bytes[SALT..].split_at(salt);
        if bytes[82..SALT].iter().chain(rest).any(|byte| *byte != 0) {
            return wrong("bytes that must be zero are not");
        }
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&bytes[16..32]);
        Ok(Self { uuid, data_blocks, salt: salt.to_vec() })
    }

    /// The block as it is stored. A salt longer than there is room for is cut; [`Superblock::parse`] lets none in.
    pub fn to_bytes(&self) -> [u8; BLOCK_SIZE] {
        let mut bytes = [0; BLOCK_SIZE];
        let salt = &self.salt[..self.salt.len().min(LARGEST_SALT)];
        bytes[..8].copy_from_slice(b"verity\0\0");
        bytes[8..12].copy_from_slice(&1u32.to_le_bytes());
        bytes[12..16].copy_from_slice(&1u32.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.uuid);
        bytes[32..64].copy_from_slice(ALGORITHM);
        bytes[64..68].copy_from_slice(&(BLOCK as u32).to_le_bytes());
        bytes[68..72].copy_from_slice(&(BLOCK as u32).to_le_bytes());
        bytes[72..80].copy_from_slice(&self.data_blocks.to_le_bytes());
        bytes[80..82].copy_from_slice(&(salt.len() as u16).to_le_bytes());
        bytes[SALT..SALT + salt.len()].copy_from_slice(salt);
        bytes
    }

    /// The bytes of the tree behind the superblock.
    pub fn tree_size(&self) -> u64 {
        levels(self.data_blocks).iter().sum::<u64>() * BLOCK
    }
}

const ALGORITHM: &[u8; 32] = b"sha256\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
const SALT: usize = 88;
const LARGEST_SALT: usize = 256;

/// The blocks of each level of a tree, leaves first; none over a single block, whose digest is the root.
fn levels(data_blocks: u64) -> Vec<u64> {
    let mut all = Vec::new();
    let mut count = data_blocks;
    while count > 1 {
        count = count.div_ceil(PER_BLOCK);
        all.push(count);
    }
    all
}

/// A hash tree: what is stored, and the root that is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// The digest above all.
    pub root: Hash,
    /// The levels as they are stored, topmost first.
    pub stored: Vec<u8>,
}

impl Tree {
    /// Hashes all blocks in `data`, whose length is a multiple of [`BLOCK`], and builds the tree above them. `each` is
    /// handed every piece as it is read.
    pub fn build(
        file: &(impl Source + ?Sized),
        data: Range<u64>,
        salt: &[u8],
        mut each: impl FnMut(&[u8]),
    ) -> Result<Self, Error> {
        let mut digests = Vec::new();
        pieces(file, data, |piece| {
            each(piece);
            digests.extend(piece.chunks(BLOCK_SIZE).map(|block| digest(salt, block)));
            Ok(())
        })?;
        Self::above(digests, salt)
    }

    /// The tree above the digests of all data blocks.
    pub(crate) fn above(mut digests: Vec<Hash>, salt: &[u8]) -> Result<Self, Error> {
        let mut stored: Vec<Vec<u8>> = Vec::new();
        while digests.len() > 1 {
            let mut level = digests.concat();
            level.resize(level.len().next_multiple_of(BLOCK_SIZE), 0);
            digests = level.chunks(BLOCK_SIZE).map(|block| digest(salt, block)).collect();
            stored.push(level);
        }
        let root =
            digests.first().copied().ok_or_else(|| Error::damaged("the file system image is empty"))?;
        stored.reverse();
        Ok(Self { root, stored: stored.concat() })
    }
}

/// Checks every block of `data` against the tree stored at `tree`, and the tree against its root: what the kernel does
/// block by block as they are read, all at once. `each` is handed every piece of the data as it is read.
pub fn check(
    file: &(impl Source + ?Sized),
    data: Range<u64>,
    tree: u64,
    salt: &[u8],
    root: &Hash,
    each: impl FnMut(&[u8]),
) -> Result<(), Error> {
    let leaves = levels((data.end - data.start) / BLOCK).first().copied().unwrap_or_default();
    let built = Tree::build(file, data, salt, each)?;
    let mut stored = vec![0; built.stored.len()];
    file.read_at(&mut stored, tree)?;
    // The leaves come last. Those that differ tell where the image does.
    let leaves = stored.len().saturating_sub((leaves * BLOCK) as usize);
    let other = (leaves..stored.len()).find(|at| stored[*at] != built.stored[*at]);
    if let Some(at) = other {
        let block = (at - leaves) / 32;
        return Err(Error::damaged(format!("block {block} of the image and its hash in the tree differ")));
    }
    if stored != built.stored {
        return Err(Error::damaged("the hash tree is not that of the image"));
    }
    if built.root != *root {
        return Err(Error::damaged("the image's root hash is another than the signed one"));
    }
    Ok(())
}

/// Hands a range of a file to `each`, piece by piece.
pub(crate) fn pieces(
    file: &(impl Source + ?Sized),
    range: Range<u64>,
    mut each: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut buffer = vec![0; PIECE];
    cut(range).try_for_each(|piece| {
        let room = &mut buffer[..(piece.end - piece.start) as usize];
        file.read_at(room, piece.start)?;
        each(room)
    })
}

/// What is written into a package of a range of its file.
pub(crate) struct Sums {
    /// Its checksum.
    pub(crate) crc: crc32fast::Hasher,
    /// The digest of each block, where there was a salt for it.
    pub(crate) digests: Vec<Hash>,
}

/// Reads a range of a file by as many threads as there are processors. `each` hears how many bytes have been read since it
/// heard last.
pub(crate) fn sums(
    file: &File,
    range: Range<u64>,
    salt: Option<&[u8]>,
    mut each: impl FnMut(u64),
) -> Result<Sums, Error> {
    let mut all = Sums { crc: crc32fast::Hasher::new(), digests: Vec::new() };
    let spare = Spare::default();
    let sum = |piece: Range<u64>| {
        let mut bytes = spare.take((piece.end - piece.start) as usize);
        file.read_at(&mut bytes, piece.start)?;
        let mut sums = Sums { crc: crc32fast::Hasher::new(), digests: Vec::new() };
        sums.crc.update(&bytes);
        sums.digests
            .extend(salt.iter().flat_map(|salt| bytes.chunks(BLOCK_SIZE).map(|block| digest(salt, block))));
        let count = bytes.len() as u64;
        spare.give(bytes);
        Ok((sums, count))
    };
    crew::in_order(crew::hands(), cut(range), sum, |(sums, count)| {
        all.crc.combine(&sums.crc);
        all.digests.extend(sums.digests);
        each(count);
        Ok(())
    })?;
    Ok(all)
}

/// A range in the pieces that are read at once.
fn cut(range: Range<u64>) -> impl Iterator<Item = Range<u64>> + Clone {
    let pieces = (range.end.saturating_sub(range.start)).div_ceil(PIECE as u64);
    (0..pieces).map(move |number| {
        let start = range.start + number * PIECE as u64;
        start..range.end.min(start + PIECE as u64)
    })
}

/// Read at once; a multiple of [`BLOCK`].
const PIECE: usize = 256 << 10;

fn digest(salt: &[u8], block: &[u8]) -> Hash {
    Sha256::new().chain_update(salt).chain_update(block).finalize().into()
}
