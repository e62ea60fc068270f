//! erofs, the other file system that an image may be: written here, not packed; read by the kernel where a package runs, and here
//! where it is unpacked.
//!
//! Where memory is dearer than storage it is the better one: a block is where it is, and goes from the disk to who reads it
//! without being unpacked. The reference knows squashfs alone, so such a package runs here and nowhere else.
//!
//! The layout is that of the kernel's Documentation/filesystems/erofs.rst and fs/erofs/erofs_fs.h: the superblock in the first
//! block; inodes, each followed by its attributes and, where it fits into the same block, by the end of its content; then
//! whole blocks of contents and listings. What is written depends on the tree alone.
#![allow(
    clippy::cast_possible_truncation,
    reason = "the format's fields are narrow; what may not fit is checked first"
)]

mod read;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use crate::error::{Doing as _, Error};
use crate::image::device_of;
use crate::source::Source;
use crate::squashfs;
use crate::tree::{Content, DEEPEST, Id, Kind, Node, Tree, too_deep, without_prefix};

pub use read::{Image, Names, Stored};

/// Whether the image in this range says that it is one of these. Whether it is, the kernel sees.
pub fn is_one(file: &(impl Source + ?Sized), image: &Range<u64>) -> Result<bool, Error> {
    let mut magic = [0; 4];
    if image.end - image.start < BLOCK {
        return Ok(false);
    }
    // A squashfs begins before this one's superblock, and may hold anything where that is.
    file.read_at(&mut magic, image.start)?;
    if magic == squashfs::MAGIC.to_le_bytes() {
        return Ok(false);
    }
    file.read_at(&mut magic, image.start + HEAD)?;
    Ok(magic == MAGIC.to_le_bytes())
}

/// Writes an image of the tree into the file from `start` on, which holds nothing there yet; its size, a multiple of 4096
/// bytes. `each` hears how many bytes of contents have been read since it heard last.
pub fn write(tree: &Tree, file: &File, start: u64, each: &mut dyn FnMut(u64)) -> Result<u64, Error> {
    let tree = tree.sorted();
    let plan = Plan::of(&tree)?;
    let mut writer = Writer { tree: &tree, plan: &plan, file, start, block: plan.inodes_end / BLOCK, each };
    for (number, node) in tree.nodes.iter().enumerate() {
        writer.inode(Id(number), node)?;
    }
    let blocks = writer.block;
    writer.put(HEAD, &plan.superblock(blocks)?)?;
    let end = start + blocks * BLOCK;
    // The last block may end with nothing, and the file before it.
    let length = file.metadata().map_err(|error| Error::io("fstat(image)", &error))?.len();
    if length < end {
        file.set_len(end).map_err(|error| Error::io("ftruncate(image)", &error))?;
    }
    Ok(blocks * BLOCK)
}

const BLOCK: u64 = 4096;
const BLOCK_BITS: u8 = 12;
/// Where the superblock lies, behind room for who boots from it.
const HEAD: u64 = 1024;
const MAGIC: u32 = 0xe0f5_e1e2;
/// Inodes are told by their place, in steps of so many bytes.
const SLOT: u64 = 32;
/// The long kind of an inode, which has times and 32 bits for owners.
const INODE: u64 = 64;
/// What stands before the attributes of a file.
const ATTRIBUTES_HEAD: usize = 12;
/// An entry of a listing, without its name.
const ENTRY: usize = 12;

/// Blocks that are read at once.
const AT_ONCE: u64 = 64;

/// How the content of a file is stored: in whole blocks alone, or with its end behind the inode.
const PLAIN: u16 = 0;
const INLINE: u16 = 2;

/// Where each inode goes.
struct Plan {
    places: Vec<Place>,
    /// Where the blocks of contents begin.
    inodes_end: u64,
}

struct Place {
    at: u64,
    /// Its content, or its listing, or its target.
    size: u64,
    is_inline: bool,
    attributes: Vec<u8>,
    names: u32,
    /// The directory that a directory is in, and how many there are above it.
    above: Id,
    depth: usize,
}

impl Plan {
    fn of(tree: &Tree) -> Result<Self, Error> {
        let mut places = Vec::new();
        let mut at = BLOCK;
        for node in &tree.nodes {
            let attributes = attributes(node)?;
            let size = match &node.kind {
                Kind::Directory(names) => listing_size(names),
                Kind::File(content) => content.size(),
                Kind::Link(target) => target.len() as u64,
                _ => 0,
            };
            let head = INODE + attributes.len() as u64;
            let whole = head + size % BLOCK;
            let is_inline = !size.is_multiple_of(BLOCK) && whole <= BLOCK;
            // The end of a content must not cross into another block; attributes may.
            if is_inline && at % BLOCK + whole > BLOCK {
                at = at.next_multiple_of(BLOCK);
            }
            places.push(Place { at, size, is_inline, attributes, names: 0, above: Tree::ROOT, depth: 0 });
            at = (at + if is_inline { whole } else { head }).next_multiple_of(INODE);
        }
        for (number, node) in tree.nodes.iter().enumerate() {
            let Kind::Directory(names) = &node.kind else { continue };
            // A tree that is sorted has each directory before what is in it.
            let depth = places[number].depth + 1;
            places[number].names += 2;
            for below in names.values() {
                if matches!(tree.node(*below).kind, Kind::Directory(_)) {
                    if depth > DEEPEST {
                        return Err(Error::invalid(too_deep()));
                    }
                    places[below.0].depth = depth;
                    places[below.0].above = Id(number);
                    places[number].names += 1;
                } else {
                    places[below.0].names += 1;
                }
            }
        }
        Ok(Self { places, inodes_end: at.next_multiple_of(BLOCK) })
    }

    fn number(&self, id: Id) -> u64 {
        self.places[id.0].at / SLOT
    }

    fn superblock(&self, blocks: u64) -> Result<[u8; 128], Error> {
        let blocks = u32::try_from(blocks).map_err(|_| Error::invalid("an image of 16 TiB"))?;
        let mut bytes = [0; 128];
        bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        // Times of inodes are those of their contents.
        bytes[8..12].copy_from_slice(&2u32.to_le_bytes());
        bytes[12] = BLOCK_BITS;
        bytes[14..16].copy_from_slice(&(self.number(Tree::ROOT) as u16).to_le_bytes());
        bytes[16..24].copy_from_slice(&(self.places.len() as u64).to_le_bytes());
        bytes[36..40].copy_from_slice(&blocks.to_le_bytes());
        Ok(bytes)
    }
}

struct Writer<'a> {
    tree: &'a Tree,
    plan: &'a Plan,
    file: &'a File,
    start: u64,
    /// The next one that is free.
    block: u64,
    each: &'a mut dyn FnMut(u64),
}

impl Writer<'_> {
    fn inode(&mut self, id: Id, node: &Node) -> Result<(), Error> {
        let place = &self.plan.places[id.0];
        let whole = if place.is_inline { place.size / BLOCK } else { place.size.div_ceil(BLOCK) };
        let first = u32::try_from(self.block).map_err(|_| Error::invalid("an image of 16 TiB"))?;
        let (kind, place_or_device) = match &node.kind {
            Kind::Directory(_) => (mode::DIRECTORY, first),
            Kind::File(_) => (mode::FILE, first),
            Kind::Link(_) => (mode::LINK, first),
            Kind::Char(major, minor) => (mode::CHAR, device_of(*major, *minor)?),
            Kind::Block(major, minor) => (mode::BLOCK, device_of(*major, *minor)?),
            Kind::Fifo => (mode::FIFO, 0),
            Kind::Socket => (mode::SOCKET, 0),
        };
        let layout = if place.is_inline { INLINE } else { PLAIN };
        let mut bytes = Vec::with_capacity(INODE as usize + place.attributes.len());
        bytes.extend((1 | (layout << 1)).to_le_bytes());
        bytes.extend(count_of(&place.attributes).to_le_bytes());
        bytes.extend((kind | node.mode).to_le_bytes());
        bytes.extend([0; 2]);
        bytes.extend(place.size.to_le_bytes());
        bytes.extend(place_or_device.to_le_bytes());
        bytes.extend((id.0 as u32 + 1).to_le_bytes());
        bytes.extend(node.uid.to_le_bytes());
        bytes.extend(node.gid.to_le_bytes());
        bytes.extend(u64::from(node.mtime).to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(place.names.to_le_bytes());
        bytes.extend([0; 16]);
        bytes.extend(&place.attributes);
        let end = match &node.kind {
            Kind::Directory(names) => {
                let listing = self.listing(id, names);
                self.content(&Content::Bytes(listing), place.size, whole)?
            }
            Kind::Link(target) => self.content(&Content::Bytes(target.clone()), place.size, whole)?,
            Kind::File(content) => {
                let told = |error: Error| match content {
                    Content::At(path, _) => error.while_doing(&crate::error::shown(path)),
                    _ => error,
                };
                let end = self.content(content, place.size, whole).map_err(told)?;
                (self.each)(place.size);
                end
            }
            _ => Vec::new(),
        };
        bytes.extend(end);
        self.put(place.at, &bytes).doing(|| "inodes")
    }

    /// Stores so many blocks of a content; what comes behind them.
    fn content(&mut self, content: &Content, size: u64, whole: u64) -> Result<Vec<u8>, Error> {
        let mut from = content.open()?;
        let mut piece = Vec::new();
        let mut read = |piece: &mut Vec<u8>, want: u64| {
            piece.clear();
            let read = (&mut from).take(want).read_to_end(piece);
            read.map_err(|error| Error::io("read(content)", &error))?;
            if (piece.len() as u64) < want {
                return Err(Error::invalid("became shorter while it was read"));
            }
            Ok(())
        };
        let (mut left, end) = (size, self.block + whole);
        while self.block < end {
            let blocks = (end - self.block).min(AT_ONCE);
            let want = left.min(blocks * BLOCK);
            read(&mut piece, want)?;
            self.put(self.block * BLOCK, &piece)?;
            left -= want;
            self.block += blocks;
        }
        read(&mut piece, left)?;
        Ok(piece)
    }

    /// The names of a directory: blocks of entries with the names behind them, all in the order of their bytes.
    fn listing(&self, id: Id, names: &BTreeMap<Vec<u8>, Id>) -> Vec<u8> {
        let own: [(&[u8], Id); 2] = [(b".", id), (b"..", self.plan.places[id.0].above)];
        let mut bytes = Vec::new();
        for run in runs(names) {
            bytes.resize(bytes.len().next_multiple_of(BLOCK as usize), 0);
            let mut name_at = run.len() * ENTRY;
            let mut tail: Vec<u8> = Vec::new();
            for name in run {
                let own = own.iter().find(|(known, _)| *known == name).map(|(_, id)| *id);
                let below = own.or_else(|| names.get(name).copied()).unwrap_or(id);
                bytes.extend(self.plan.number(below).to_le_bytes());
                bytes.extend((name_at as u16).to_le_bytes());
                bytes.extend([kind_of(&self.tree.node(below).kind), 0]);
                name_at += name.len();
                tail.extend(name);
            }
            bytes.extend(tail);
        }
        bytes
    }

    fn put(&self, at: u64, bytes: &[u8]) -> Result<(), Error> {
        let written = self.file.write_all_at(bytes, self.start + at);
        written.map_err(|error| Error::io(format!("pwrite(image, {} at {at})", bytes.len()), &error))
    }
}

/// The kinds of files in their modes, as inode(7) tells them.
mod mode {
    pub(super) const FIFO: u16 = 0o010_000;
    pub(super) const CHAR: u16 = 0o020_000;
    pub(super) const DIRECTORY: u16 = 0o040_000;
    pub(super) const BLOCK: u16 = 0o060_000;
    pub(super) const FILE: u16 = 0o100_000;
    pub(super) const LINK: u16 = 0o120_000;
    pub(super) const SOCKET: u16 = 0o140_000;
}

/// The same in a listing.
fn kind_of(kind: &Kind) -> u8 {
    match kind {
        Kind::File(_) => 1,
        Kind::Directory(_) => 2,
        Kind::Char(..) => 3,
        Kind::Block(..) => 4,
        Kind::Fifo => 5,
        Kind::Socket => 6,
        Kind::Link(_) => 7,
    }
}

/// A directory's names with its own two, as many at a time as fit into a block.
fn runs(names: &BTreeMap<Vec<u8>, Id>) -> Vec<Vec<&[u8]>> {
    let mut all: Vec<&[u8]> = names.keys().map(Vec::as_slice).chain([b".".as_slice(), b".."]).collect();
    all.sort_unstable();
    let (mut runs, mut run, mut size) = (Vec::new(), Vec::new(), 0);
    for name in all {
        if size + ENTRY + name.len() > BLOCK as usize {
            runs.push(std::mem::take(&mut run));
            size = 0;
        }
        size += ENTRY + name.len();
        run.push(name);
    }
    runs.push(run);
    runs
}

fn listing_size(names: &BTreeMap<Vec<u8>, Id>) -> u64 {
    let runs = runs(names);
    let last: usize = runs.last().map_or(0, |run| run.iter().map(|name| ENTRY + name.len()).sum());
    (runs.len() as u64 - 1) * BLOCK + last as u64
}

/// The numbers of [`PREFIXES`](crate::tree::PREFIXES).
const NUMBERS: [u8; 3] = [1, 4, 6];

/// What a file bears, as it follows its inode; nothing where it bears nothing.
fn attributes(node: &Node) -> Result<Vec<u8>, Error> {
    if node.xattrs.is_empty() {
        return Ok(Vec::new());
    }
    let mut bytes = vec![0; ATTRIBUTES_HEAD];
    for (name, value) in &node.xattrs {
        let told = || spec::quoted(&String::from_utf8_lossy(name));
        let (prefix, rest) = without_prefix(name).ok_or_else(|| {
            Error::unsupported(format!("an attribute {}: user, trusted and security are stored", told()))
        })?;
        let length = u8::try_from(rest.len())
            .map_err(|_| Error::invalid(format!("an attribute with a name of {} bytes", rest.len())))?;
        let size = u16::try_from(value.len())
            .map_err(|_| Error::invalid(format!("an attribute of {} bytes", value.len())))?;
        bytes.extend([length, NUMBERS[prefix]]);
        bytes.extend(size.to_le_bytes());
        bytes.extend(rest);
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    if (bytes.len() - ATTRIBUTES_HEAD) / 4 + 1 > usize::from(u16::MAX) {
        return Err(Error::invalid(format!("{} bytes of attributes of one file", bytes.len())));
    }
    Ok(bytes)
}

/// How long they are, as an inode tells it.
fn count_of(attributes: &[u8]) -> u16 {
    attributes.len().checked_sub(ATTRIBUTES_HEAD).map_or(0, |rest| (rest / 4 + 1) as u16)
}
