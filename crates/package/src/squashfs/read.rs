//! From an image to what is in it. Nothing that stands in an image is believed before it is checked.

use std::collections::BTreeMap;
use std::ops::Range;

use super::meta::SIZE;
use super::names::Names;
use super::stream::{Blocks, Cursor, inflate};
use crate::error::Error;
use crate::image::{
    self, Attributes, Entry, FileSystem, Inode, InodeOf, LARGEST_VALUE, LONGEST_TARGET, Piece, numbers_of,
};
use crate::source::{Source, u16_at, u32_at, u64_at};
use crate::tree::{Kind, PREFIXES};

/// An image that is being read. What it holds in memory does not grow with the image: some blocks of metadata, the owners, one
/// block of ends.
#[derive(Debug)]
pub struct Image<S> {
    pub(super) blocks: Blocks<S>,
    pub(super) head: Head,
    owners: Vec<u32>,
    /// Where the values of attributes begin, and how many sets there are.
    attributes: Option<(u64, u32)>,
    /// The block of ends that was read last, by its number.
    ends: Option<(u32, Vec<u8>)>,
}

/// The superblock.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) inodes: u32,
    block: u32,
    fragments: u32,
    owners: u16,
    root: u64,
    used: u64,
    owner_table: u64,
    xattr_table: u64,
    inode_table: u64,
    pub(super) directory_table: u64,
    fragment_table: u64,
    /// Where the listings of directories end at the latest.
    pub(super) directories_end: u64,
}

/// Where the names of a directory lie.
#[derive(Clone, Debug)]
pub struct Listing {
    pub(super) start: Cursor,
    pub(super) size: u64,
}

/// Where the content of a file lies.
#[derive(Clone, Debug)]
pub struct Stored {
    /// How many bytes it has.
    pub size: u64,
    start: u64,
    fragment: Option<(u32, u32)>,
    /// The sizes of its blocks, behind its inode.
    sizes: Cursor,
}

const HEAD: usize = 96;
pub(crate) const MAGIC: u32 = 0x7371_7368;
const NONE: u32 = u32::MAX;
const NOWHERE: u64 = u64::MAX;
/// By their numbers in the superblock, from 1 on.
const COMPRESSIONS: [&str; 6] = ["gzip", "lzma", "lzo", "xz", "lz4", "zstd"];
/// In the size of a block of data: it is not compressed.
const PLAIN: u32 = 1 << 24;
/// Records in one block of a table, and their size.
const RECORDS: u32 = 512;
const RECORD: u16 = 16;
/// More than this no file has.
const MOST_ATTRIBUTES: u32 = 4096;
/// In the kind of an attribute: what follows is where its value lies.
const ELSEWHERE: u16 = 0x100;

impl Head {
    fn parse(bytes: &[u8; HEAD], length: u64) -> Result<Self, Error> {
        let (magic, block, version) =
            (u32_at(bytes, 0), u32_at(bytes, 12), (u16_at(bytes, 28), u16_at(bytes, 30)));
        if magic != MAGIC {
            return Err(Error::damaged("is no squashfs image"));
        }
        if version != (4, 0) {
            return Err(Error::unsupported(format!("squashfs {}.{}: 4.0 is read", version.0, version.1)));
        }
        let compression = u16_at(bytes, 20);
        if compression != 1 {
            let name = usize::from(compression).checked_sub(1).and_then(|at| COMPRESSIONS.get(at));
            let name = name.map_or_else(|| format!("number {compression}"), |name| (*name).to_owned());
            return Err(Error::unsupported(format!("is compressed by {name}: gzip and none are read")));
        }
        let log = u32::from(u16_at(bytes, 22));
        if !(12..=20).contains(&log) || block != 1 << log {
            return Err(Error::damaged(format!("blocks of {block} bytes, 2 to the power of {log}")));
        }
        let used = u64_at(bytes, 40);
        if used > length || used < HEAD as u64 {
            return Err(Error::damaged(format!("{used} bytes are used of {length}")));
        }
        let mut head = Self {
            inodes: u32_at(bytes, 4),
            block,
            fragments: u32_at(bytes, 16),
            owners: u16_at(bytes, 26),
            root: u64_at(bytes, 32),
            used,
            owner_table: u64_at(bytes, 48),
            xattr_table: u64_at(bytes, 56),
            inode_table: u64_at(bytes, 64),
            directory_table: u64_at(bytes, 72),
            fragment_table: u64_at(bytes, 80),
            directories_end: 0,
        };
        let tables = [HEAD as u64, head.inode_table, head.directory_table, head.owner_table, used];
        if !tables.is_sorted() {
            return Err(Error::damaged("the tables do not lie behind each other"));
        }
        let behind = [head.owner_table, head.xattr_table, head.fragment_table, u64_at(bytes, 88)];
        let first = behind.into_iter().filter(|table| *table >= head.directory_table).min();
        head.directories_end = first.unwrap_or(used).min(used);
        Ok(head)
    }
}

impl<S: Source> Image<S> {
    /// Opens the image in this range of a file.
    pub fn read(file: S, range: Range<u64>) -> Result<Self, Error> {
        let length = image::length(&file, &range)?;
        if length < HEAD as u64 {
            return Err(Error::damaged(format!("an image of {length} bytes")));
        }
        let mut bytes = [0; HEAD];
        file.read_at(&mut bytes, range.start)?;
        let head = Head::parse(&bytes, length)?;
        let blocks = Blocks::new(file, range.start, head.used);
        let mut image = Self { blocks, head, owners: Vec::new(), attributes: None, ends: None };
        image.read_owners()?;
        image.attributes = image.read_attributes()?;
        Ok(image)
    }

    fn read_owners(&mut self) -> Result<(), Error> {
        let table = self.head.owner_table;
        for first in (0..usize::from(self.head.owners)).step_by(SIZE / 4) {
            let count = (usize::from(self.head.owners) - first).min(SIZE / 4);
            let place = self.pointer(table, (first / (SIZE / 4)) as u64)?;
            let bytes = Cursor::new(place, 0, table).bytes(&mut self.blocks, count * 4)?;
            self.owners.extend(bytes.chunks_exact(4).map(|owner| u32_at(owner, 0)));
        }
        Ok(())
    }

    fn read_attributes(&self) -> Result<Option<(u64, u32)>, Error> {
        let table = self.head.xattr_table;
        if table == NOWHERE {
            return Ok(None);
        }
        let mut head = [0; 16];
        self.blocks.raw(&mut head, table, self.head.used)?;
        Ok(Some((u64_at(&head, 0), u32_at(&head, 8))))
    }

    /// Where a block of a table begins, as the index at the table's end tells it.
    fn pointer(&self, index: u64, block: u64) -> Result<u64, Error> {
        let mut bytes = [0; 8];
        // Neither comes near the end of 64 bits: who reads it says that it lies outside.
        self.blocks.raw(&mut bytes, index.saturating_add(block * 8), self.head.used)?;
        Ok(u64_at(&bytes, 0))
    }

    /// A record of a table whose index lies at `index`.
    fn record(&mut self, index: u64, number: u32) -> Result<[u8; RECORD as usize], Error> {
        let place = self.pointer(index, (number / RECORDS).into())?;
        let offset = u16::try_from(number % RECORDS).unwrap_or_default() * RECORD;
        Cursor::new(place, offset, self.head.used).take(&mut self.blocks)
    }

    /// The inode at a reference into their table.
    fn at(&mut self, reference: u64) -> Result<InodeOf<Self>, Error> {
        let mut at = Cursor::at(reference, self.head.inode_table, self.head.directory_table)?;
        let head: [u8; 16] = at.take(&mut self.blocks)?;
        let (kind, number) = (u16_at(&head, 0), u32_at(&head, 12));
        if number == 0 || number > self.head.inodes {
            return Err(Error::damaged(format!("an inode {number} of {}", self.head.inodes)));
        }
        let (kind, links, xattrs) = match kind {
            1 => self.directory(&mut at)?,
            8 => self.long_directory(&mut at)?,
            2 => self.file(at)?,
            9 => self.long_file(at)?,
            3..=7 => self.small(&mut at, kind, false)?,
            10..=14 => self.small(&mut at, kind - 7, true)?,
            _ => return Err(Error::damaged(format!("an inode of the kind {kind}"))),
        };
        Ok(Inode {
            kind,
            mode: u16_at(&head, 2) & 0o7777,
            uid: self.owner(u16_at(&head, 4))?,
            gid: self.owner(u16_at(&head, 6))?,
            mtime: u32_at(&head, 8).into(),
            number: number.into(),
            links,
            xattrs: xattrs.into(),
        })
    }

    fn owner(&self, index: u16) -> Result<u32, Error> {
        // The last number means that the owner stays as it is, to the kernel.
        let owner = self.owners.get(usize::from(index)).copied().filter(|owner| *owner != u32::MAX);
        owner.ok_or_else(|| Error::damaged(format!("an owner {index} of {}", self.owners.len())))
    }

    fn directory(&mut self, at: &mut Cursor) -> Result<Fields, Error> {
        let fields: [u8; 16] = at.take(&mut self.blocks)?;
        let size = u16_at(&fields, 8).into();
        let listing = self.listing(u32_at(&fields, 0), u16_at(&fields, 10), size);
        Ok((Kind::Directory(listing), u32_at(&fields, 4), NONE))
    }

    /// Behind it is an index of its names, for those who look for one of them.
    fn long_directory(&mut self, at: &mut Cursor) -> Result<Fields, Error> {
        let fields: [u8; 24] = at.take(&mut self.blocks)?;
        let listing = self.listing(u32_at(&fields, 8), u16_at(&fields, 18), u32_at(&fields, 4));
        Ok((Kind::Directory(listing), u32_at(&fields, 0), u32_at(&fields, 20)))
    }

    /// The size of a listing counts three bytes for `.` and `..`, which are not stored.
    fn listing(&self, block: u32, offset: u16, size: u32) -> Listing {
        let size = u64::from(size).saturating_sub(3);
        let place = self.head.directory_table.saturating_add(block.into());
        Listing { start: Cursor::new(place, offset, self.head.directories_end), size }
    }

    fn file(&mut self, mut at: Cursor) -> Result<Fields, Error> {
        let fields: [u8; 16] = at.take(&mut self.blocks)?;
        let fragment = (u32_at(&fields, 4), u32_at(&fields, 8));
        let stored = self.stored(u32_at(&fields, 0).into(), u32_at(&fields, 12).into(), fragment, at)?;
        Ok((Kind::File(stored), 1, NONE))
    }

    fn long_file(&mut self, mut at: Cursor) -> Result<Fields, Error> {
        let fields: [u8; 40] = at.take(&mut self.blocks)?;
        let fragment = (u32_at(&fields, 28), u32_at(&fields, 32));
        let stored = self.stored(u64_at(&fields, 0), u64_at(&fields, 8), fragment, at)?;
        Ok((Kind::File(stored), u32_at(&fields, 24), u32_at(&fields, 36)))
    }

    fn stored(&self, start: u64, size: u64, fragment: (u32, u32), sizes: Cursor) -> Result<Stored, Error> {
        if i64::try_from(size).is_err() {
            return Err(Error::damaged(format!("a file of {size} bytes")));
        }
        if fragment.0 != NONE && fragment.0 >= self.head.fragments {
            return Err(Error::damaged(format!("a block of ends {} of {}", fragment.0, self.head.fragments)));
        }
        let fragment = Some(fragment).filter(|fragment| fragment.0 != NONE);
        Ok(Stored { size, start, fragment, sizes })
    }

    /// Links, devices, pipes and sockets, by the plain one of their two numbers.
    fn small(&mut self, at: &mut Cursor, kind: u16, is_long: bool) -> Result<Fields, Error> {
        let links = u32::from_le_bytes(at.take(&mut self.blocks)?);
        let kind = match kind {
            3 => Kind::Link(self.target(at)?),
            4 | 5 => {
                let number = u32::from_le_bytes(at.take(&mut self.blocks)?);
                let (major, minor) = numbers_of(number);
                if kind == 4 { Kind::Block(major, minor) } else { Kind::Char(major, minor) }
            }
            6 => Kind::Fifo,
            _ => Kind::Socket,
        };
        let xattrs = if is_long { u32::from_le_bytes(at.take(&mut self.blocks)?) } else { NONE };
        Ok((kind, links, xattrs))
    }

    fn target(&mut self, at: &mut Cursor) -> Result<Vec<u8>, Error> {
        let size = u32::from_le_bytes(at.take(&mut self.blocks)?);
        if u64::from(size) > LONGEST_TARGET {
            return Err(Error::damaged(format!("a link to {size} bytes")));
        }
        image::target(at.bytes(&mut self.blocks, size as usize)?)
    }

    /// A block of data without its packing; it lies before the inodes.
    fn data(&self, at: u64, word: u32) -> Result<Vec<u8>, Error> {
        let size = word & !PLAIN;
        if size == 0 || size > self.head.block {
            return Err(Error::damaged(format!("a block of data of {size} bytes")));
        }
        let mut bytes = vec![0; size as usize];
        self.blocks.raw(&mut bytes, at, self.head.inode_table)?;
        if word & PLAIN == 0 { inflate(&bytes, self.head.block as usize) } else { Ok(bytes) }
    }

    /// The end of a file, in a block with those of others.
    fn end(&mut self, fragment: u32, offset: u32, size: u64) -> Result<&[u8], Error> {
        if self.ends.as_ref().is_none_or(|(known, _)| *known != fragment) {
            let record = self.record(self.head.fragment_table, fragment)?;
            self.ends = Some((fragment, self.data(u64_at(&record, 0), u32_at(&record, 8))?));
        }
        let block = self.ends.as_ref().map_or([].as_slice(), |(_, block)| block);
        let range = usize::try_from(size).ok().and_then(|size| {
            let start = offset as usize;
            block.get(start..start.checked_add(size)?)
        });
        range.ok_or_else(|| {
            Error::damaged(format!("{size} bytes at {offset} of a block of ends of {}", block.len()))
        })
    }

    fn attribute(&mut self, at: &mut Cursor, start: u64, all: &mut Attributes) -> Result<(), Error> {
        let head: [u8; 4] = at.take(&mut self.blocks)?;
        let kind = u16_at(&head, 0);
        let prefix = PREFIXES.get(usize::from(kind & !ELSEWHERE));
        let prefix = prefix.ok_or_else(|| Error::damaged(format!("an attribute of the kind {kind}")))?;
        let rest = at.bytes(&mut self.blocks, u16_at(&head, 2).into())?;
        let mut value = self.value(at)?;
        if kind & ELSEWHERE != 0 {
            if value.len() != 8 {
                return Err(Error::damaged(format!("a reference of {} bytes to an attribute", value.len())));
            }
            let mut there = Cursor::at(u64_at(&value, 0), start, self.head.xattr_table)?;
            value = self.value(&mut there)?;
        }
        all.add(prefix, &rest, value)
    }

    fn value(&mut self, at: &mut Cursor) -> Result<Vec<u8>, Error> {
        let size = u32::from_le_bytes(at.take(&mut self.blocks)?);
        if size as usize > LARGEST_VALUE {
            return Err(Error::damaged(format!("an attribute of {size} bytes")));
        }
        at.bytes(&mut self.blocks, size as usize)
    }
}

impl<S: Source> FileSystem for Image<S> {
    type Listing = Listing;
    type Stored = Stored;
    type Names = Names;

    fn top(&mut self) -> Result<InodeOf<Self>, Error> {
        self.at(self.head.root)
    }

    fn inode(&mut self, entry: &Entry) -> Result<InodeOf<Self>, Error> {
        self.at(entry.reference)
    }

    /// No block of metadata takes less than three bytes.
    fn room(&self) -> u64 {
        let table = self.head.directories_end.saturating_sub(self.head.directory_table);
        (table / 3).saturating_mul(SIZE as u64)
    }

    fn enter(&self, inode: &InodeOf<Self>, _: u64) -> Option<(Names, u64)> {
        let Kind::Directory(listing) = &inode.kind else { return None };
        Some((Names::of(listing), listing.size))
    }

    fn next(&mut self, names: &mut Names) -> Result<Option<Entry>, Error> {
        names.next(&mut self.blocks)
    }

    fn xattrs(&mut self, inode: &InodeOf<Self>) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Error> {
        let mut all = Attributes::new();
        let set = u32::try_from(inode.xattrs).ok().filter(|set| *set != NONE);
        let Some(set) = set else { return Ok(all.all()) };
        let (start, sets) = self.attributes.unwrap_or_default();
        if set >= sets {
            return Err(Error::damaged(format!("a set of attributes {set} of {sets}")));
        }
        let record = self.record(self.head.xattr_table.saturating_add(16), set)?;
        let (place, count) = (u64_at(&record, 0), u32_at(&record, 8));
        if count > MOST_ATTRIBUTES {
            return Err(Error::damaged(format!("{count} attributes of one file")));
        }
        let mut at = Cursor::at(place, start, self.head.xattr_table)?;
        for _ in 0..count {
            self.attribute(&mut at, start, &mut all)?;
        }
        Ok(all.all())
    }

    fn size(stored: &Stored) -> u64 {
        stored.size
    }

    fn content(
        &mut self,
        stored: &Stored,
        each: &mut dyn FnMut(Piece<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (mut left, mut at) = (stored.size, stored.start);
        let mut sizes = stored.sizes.clone();
        let whole = u64::from(self.head.block);
        while left > 0 && (left >= whole || stored.fragment.is_none()) {
            let length = left.min(whole);
            let word = u32::from_le_bytes(sizes.take(&mut self.blocks)?);
            if word == 0 {
                each(Piece::Hole(length))?;
            } else {
                let block = self.data(at, word)?;
                if block.len() as u64 != length {
                    let count = block.len();
                    return Err(Error::damaged(format!("a block of {count} bytes, where {length} are due")));
                }
                each(Piece::Bytes(&block))?;
                at += u64::from(word & !PLAIN);
            }
            left -= length;
        }
        match stored.fragment {
            Some((fragment, offset)) if left > 0 => each(Piece::Bytes(self.end(fragment, offset, left)?)),
            _ => Ok(()),
        }
    }
}

/// What an inode is, how many names it has, and its set of attributes.
type Fields = (Kind<Listing, Stored>, u32, u32);
