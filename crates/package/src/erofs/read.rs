//! From an image to what is in it, as [`super::write`] and mkfs.erofs make them: nothing packed, blocks of 4096 bytes. Nothing that
//! stands in an image is believed before it is checked.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{
    ATTRIBUTES_HEAD, BLOCK, BLOCK_BITS, ENTRY, HEAD, INLINE, INODE, MAGIC, NUMBERS, PLAIN, SLOT, mode,
};
use crate::error::Error;
use crate::image::{
    Attributes, Entry, FileSystem, Inode, InodeOf, LONGEST_TARGET, Piece, numbers_of, target,
};
use crate::source::{Source, u16_at, u32_at, u64_at};
use crate::tree::{Kind, PREFIXES};

/// An image that is being read. What it holds in memory does not grow with the image.
#[derive(Debug)]
pub struct Image<S> {
    file: S,
    /// Where the image begins in the file.
    start: u64,
    head: Head,
}

/// The superblock.
#[derive(Clone, Debug)]
struct Head {
    root: u64,
    /// The time of inodes that tell none.
    built: i64,
    /// Nothing of the image lies behind this many bytes.
    used: u64,
    /// Where attributes lie that several files share.
    shared: u64,
}

/// Where the bytes of a content or a listing lie: whole blocks, and an end behind the inode.
#[derive(Clone, Copy, Debug)]
pub struct Stored {
    size: u64,
    /// How many of them lie in blocks.
    whole: u64,
    blocks: u64,
    end: u64,
}

/// A directory whose names are being read.
#[derive(Debug)]
pub struct Names {
    stored: Stored,
    /// The block that comes next.
    at: u64,
    block: Vec<u8>,
    /// The entry of the block that comes next, and how many there are.
    next: usize,
    count: usize,
    /// The number that `.` must lead to, then `..`; and whether they were met.
    own: [(u64, bool); 2],
}

/// The superblock's size.
const HEAD_SIZE: usize = 128;
/// What an image may tell of itself that changes nothing: its checksum, and that times of inodes are of their contents.
const WITH_CHECKSUM: u32 = 1;
/// The short kind of an inode.
const SHORT: u64 = 32;
/// Bytes of a content that are read at once.
const AT_ONCE: u64 = 128 << 10;

impl Head {
    fn parse(bytes: &[u8; HEAD_SIZE], length: u64) -> Result<Self, Error> {
        if u32_at(bytes, 0) != MAGIC {
            return Err(Error::damaged("is no erofs image"));
        }
        let incompatible = u32_at(bytes, 80);
        if incompatible != 0 {
            let told = format!("is an erofs with features {incompatible:#x}: one that is not packed is read");
            return Err(Error::unsupported(told));
        }
        let (bits, slots, directories) = (bytes[12], bytes[13], bytes[90]);
        if (bits, slots, directories) != (BLOCK_BITS, 0, 0) {
            return Err(Error::unsupported(format!(
                "blocks of 2 to the power of {bits} bytes: 4096 are read"
            )));
        }
        let used = u64::from(u32_at(bytes, 36)) * BLOCK;
        if used > length || used == 0 {
            return Err(Error::damaged(format!("{used} bytes are used of {length}")));
        }
        if u32_at(bytes, 40) != 0 {
            return Err(Error::unsupported(format!("inodes from block {} on", u32_at(bytes, 40))));
        }
        Ok(Self {
            root: u16_at(bytes, 14).into(),
            built: u64_at(bytes, 24).cast_signed(),
            used,
            shared: u64::from(u32_at(bytes, 44)) * BLOCK,
        })
    }
}

impl<S: Source> Image<S> {
    /// Opens the image in this range of a file.
    pub fn read(file: S, range: Range<u64>) -> Result<Self, Error> {
        let length = crate::image::length(&file, &range)?;
        if length < BLOCK {
            return Err(Error::damaged(format!("an image of {length} bytes")));
        }
        let mut first = [0; BLOCK as usize];
        file.read_at(&mut first, range.start)?;
        let mut bytes = [0; HEAD_SIZE];
        bytes.copy_from_slice(&first[HEAD as usize..HEAD as usize + HEAD_SIZE]);
        let head = Head::parse(&bytes, length)?;
        if u32_at(&bytes, 8) & WITH_CHECKSUM != 0 {
            first[HEAD as usize + 4..HEAD as usize + 8].fill(0);
            if crc32c(&first[HEAD as usize..]) != u32_at(&bytes, 4) {
                return Err(Error::damaged("the superblock is not what its checksum tells"));
            }
        }
        Ok(Self { file, start: range.start, head })
    }

    /// Fills the buffer with the image's bytes from `at` on.
    fn raw(&self, buffer: &mut [u8], at: u64) -> Result<(), Error> {
        let end = at.checked_add(buffer.len() as u64).filter(|end| *end <= self.head.used);
        if end.is_none() {
            return Err(Error::damaged(format!(
                "{} bytes at {at}, beyond byte {}",
                buffer.len(),
                self.head.used
            )));
        }
        // The range was checked against the file's length when the image was opened.
        self.file.read_at(buffer, self.start.saturating_add(at))
    }

    /// Where the inode of this number lies.
    fn place(&self, number: u64) -> Result<u64, Error> {
        let place = number.checked_mul(SLOT).filter(|place| *place < self.head.used);
        place.ok_or_else(|| Error::damaged(format!("an inode {number}, which is nowhere")))
    }

    fn numbered(&self, number: u64) -> Result<InodeOf<Self>, Error> {
        let at = self.place(number)?;
        let mut head = [0; INODE as usize];
        self.raw(&mut head[..SHORT as usize], at)?;
        let format = u16_at(&head, 0);
        let (is_long, layout) = (format & 1 == 1, format >> 1);
        if is_long {
            self.raw(&mut head, at)?;
        }
        let size = if is_long { u64_at(&head, 8) } else { u32_at(&head, 8).into() };
        let attributes = attributes_size(u16_at(&head, 2));
        let behind = at + if is_long { INODE } else { SHORT } + attributes;
        let word = u32_at(&head, 16);
        let told = u16_at(&head, 4);
        let stored = |image: &Self| image.stored(layout, size, word, behind);
        let kind = match told & 0o170_000 {
            mode::DIRECTORY => Kind::Directory(stored(self)?),
            mode::FILE => Kind::File(stored(self)?),
            mode::LINK => Kind::Link(self.target(&stored(self)?)?),
            mode::CHAR => device(Kind::Char, word),
            mode::BLOCK => device(Kind::Block, word),
            mode::FIFO => Kind::Fifo,
            mode::SOCKET => Kind::Socket,
            _ => return Err(Error::damaged(format!("an inode of the mode {told:o}"))),
        };
        let (uid, gid) = if is_long {
            (u32_at(&head, 24), u32_at(&head, 28))
        } else {
            (u16_at(&head, 24).into(), u16_at(&head, 26).into())
        };
        // The last number means that the owner stays as it is, to the kernel.
        if uid == u32::MAX || gid == u32::MAX {
            return Err(Error::damaged(format!("an owner {uid}:{gid}")));
        }
        Ok(Inode {
            kind,
            mode: told & 0o7777,
            uid,
            gid,
            mtime: if is_long { u64_at(&head, 32).cast_signed() } else { self.head.built },
            number,
            links: if is_long { u32_at(&head, 44) } else { u16_at(&head, 6).into() },
            xattrs: if attributes == 0 { 0 } else { behind - attributes },
        })
    }

    /// Where so many bytes lie, by an inode's layout, the word in it and the place behind it. Those of a block and the
    /// end must lie within the image, and the end within its block, as the kernel has it.
    fn stored(&self, layout: u16, size: u64, word: u32, behind: u64) -> Result<Stored, Error> {
        if layout != PLAIN && layout != INLINE {
            return Err(Error::unsupported(format!("is stored in the layout {layout}: packed or in chunks")));
        }
        let whole = if layout == INLINE { size.saturating_sub(1) / BLOCK * BLOCK } else { size };
        let (blocks, rest) = (u64::from(word) * BLOCK, size - whole);
        if whole > 0 && blocks.checked_add(whole).is_none_or(|end| end > self.head.used) {
            return Err(Error::damaged(format!("{size} bytes from block {word} on, beyond the image")));
        }
        if rest > 0 && (behind % BLOCK + rest > BLOCK || behind + rest > self.head.used) {
            return Err(Error::damaged(format!("{rest} bytes behind an inode, which lead out of its block")));
        }
        Ok(Stored { size, whole, blocks, end: behind })
    }

    /// Some bytes of a content, which must not cross from its blocks into its end.
    fn piece(&self, stored: &Stored, at: u64, size: u64) -> Result<Vec<u8>, Error> {
        let place = if at < stored.whole { stored.blocks + at } else { stored.end + (at - stored.whole) };
        // No more than is read at once.
        let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
        self.raw(&mut bytes, place)?;
        Ok(bytes)
    }

    fn target(&self, stored: &Stored) -> Result<Vec<u8>, Error> {
        if stored.size > LONGEST_TARGET {
            return Err(Error::damaged(format!("a link to {} bytes", stored.size)));
        }
        let mut bytes = self.piece(stored, 0, stored.whole)?;
        bytes.extend(self.piece(stored, stored.whole, stored.size - stored.whole)?);
        target(bytes)
    }

    /// One attribute from `at` on, where nothing lies behind `end`; where the next one is.
    fn attribute(&self, at: u64, end: u64, all: &mut Attributes) -> Result<u64, Error> {
        let beyond = || Error::damaged("an attribute that leads out of its place");
        let mut head = [0; 4];
        let name_at = at.checked_add(4).filter(|name| *name <= end).ok_or_else(beyond)?;
        self.raw(&mut head, at)?;
        let (name, value) = (u64::from(head[0]), u64::from(u16_at(&head, 2)));
        let behind = name_at.checked_add(name + value).filter(|behind| *behind <= end).ok_or_else(beyond)?;
        let prefix = match head[1] {
            2 | 3 => return Err(Error::unsupported("a list of who may do what (a POSIX ACL)")),
            kind => NUMBERS.iter().position(|number| *number == kind).map(|at| PREFIXES[at]),
        };
        let prefix = prefix.ok_or_else(|| Error::damaged(format!("an attribute of the kind {}", head[1])))?;
        // Both are lengths of 16 bits at most.
        let mut bytes = vec![0; usize::try_from(name + value).unwrap_or_default()];
        self.raw(&mut bytes, name_at)?;
        let value = bytes.split_off(usize::from(head[0]));
        all.add(prefix, &bytes, value)?;
        Ok(behind.next_multiple_of(4))
    }
}

/// The bytes between an inode and the end of its content, as the inode tells them.
fn attributes_size(count: u16) -> u64 {
    u64::from(count).checked_sub(1).map_or(0, |rest| ATTRIBUTES_HEAD as u64 + rest * 4)
}

fn device<N, B>(kind: fn(u32, u32) -> Kind<N, B>, word: u32) -> Kind<N, B> {
    let (major, minor) = numbers_of(word);
    kind(major, minor)
}

/// The checksum of a superblock's block, by Castagnoli's polynomial, neither end inverted twice.
fn crc32c(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |sum, byte| {
        let shift = |sum: u32, _| (sum >> 1) ^ (0x82f6_3b78 & (sum & 1).wrapping_neg());
        (0..8).fold(sum ^ u32::from(*byte), shift)
    })
}

impl<S: Source> FileSystem for Image<S> {
    type Listing = Stored;
    type Stored = Stored;
    type Names = Names;

    fn top(&mut self) -> Result<InodeOf<Self>, Error> {
        self.numbered(self.head.root)
    }

    fn inode(&mut self, entry: &Entry) -> Result<InodeOf<Self>, Error> {
        self.numbered(entry.reference)
    }

    /// No two listings lie in one place.
    fn room(&self) -> u64 {
        self.head.used
    }

    fn enter(&self, inode: &InodeOf<Self>, above: u64) -> Option<(Names, u64)> {
        let Kind::Directory(stored) = inode.kind else { return None };
        let own = [(inode.number, false), (above, false)];
        Some((Names { stored, at: 0, block: Vec::new(), next: 0, count: 0, own }, stored.size))
    }

    fn next(&mut self, names: &mut Names) -> Result<Option<Entry>, Error> {
        loop {
            if names.next == names.count && !names.turn(self)? {
                if names.own.iter().any(|(_, was_met)| !was_met) {
                    return Err(Error::damaged("a directory without . or .."));
                }
                return Ok(None);
            }
            let entry = names.entry()?;
            let own = [b".".as_slice(), b".."].iter().position(|own| *own == entry.name);
            let Some(own) = own.and_then(|own| names.own.get_mut(own)) else { return Ok(Some(entry)) };
            if std::mem::replace(&mut own.1, true) || own.0 != entry.reference || entry.kind != DIRECTORY {
                return Err(Error::damaged("a directory whose . or .. leads elsewhere"));
            }
        }
    }

    fn xattrs(&mut self, inode: &InodeOf<Self>) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Error> {
        let mut all = Attributes::new();
        if inode.xattrs == 0 {
            return Ok(all.all());
        }
        let mut count = [0; 2];
        self.raw(&mut count, self.place(inode.number)? + 2)?;
        let end = inode.xattrs + attributes_size(u16::from_le_bytes(count));
        let mut head = [0; ATTRIBUTES_HEAD];
        self.raw(&mut head, inode.xattrs)?;
        let mut at = inode.xattrs + ATTRIBUTES_HEAD as u64;
        let own = at + u64::from(head[4]) * 4;
        if own > end {
            return Err(Error::damaged("more shared attributes than there is room for"));
        }
        while at < own {
            let mut word = [0; 4];
            self.raw(&mut word, at)?;
            let place = self.head.shared + u64::from(u32::from_le_bytes(word)) * 4;
            self.attribute(place, self.head.used, &mut all)?;
            at += 4;
        }
        while at < end {
            at = self.attribute(at, end, &mut all)?;
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
        let mut at = 0;
        while at < stored.size {
            let end = if at < stored.whole { stored.whole } else { stored.size };
            let size = AT_ONCE.min(end - at);
            each(Piece::Bytes(&self.piece(stored, at, size)?))?;
            at += size;
        }
        Ok(())
    }
}

/// A directory, as [`Kind::number`] tells it.
const DIRECTORY: u16 = 1;

impl Names {
    /// Goes to the next block of the listing; false at the end.
    fn turn<S: Source>(&mut self, image: &Image<S>) -> Result<bool, Error> {
        if self.at >= self.stored.size {
            return Ok(false);
        }
        let size = BLOCK.min(self.stored.size - self.at);
        self.block = image.piece(&self.stored, self.at, size)?;
        self.at += size;
        // Names begin behind the last entry: the first one tells how many there are.
        let names = usize::from(u16_at(&self.block, 8));
        if names < ENTRY || names % ENTRY != 0 || names >= self.block.len() {
            return Err(Error::damaged(format!("a block of a listing with names from byte {names} on")));
        }
        (self.next, self.count) = (0, names / ENTRY);
        Ok(true)
    }

    /// The next entry of the block; there is one.
    fn entry(&mut self) -> Result<Entry, Error> {
        let here = self.next * ENTRY;
        self.next += 1;
        let start = usize::from(u16_at(&self.block, here + 8));
        let is_last = self.next == self.count;
        let end = if is_last { self.block.len() } else { usize::from(u16_at(&self.block, here + ENTRY + 8)) };
        let name = self.block.get(start..end).filter(|_| start >= self.count * ENTRY);
        let name =
            name.ok_or_else(|| Error::damaged(format!("a name from byte {start} to {end} of a block")))?;
        // Behind the last one the block is filled with zeros.
        let name = match name.iter().position(|byte| *byte == 0) {
            Some(length) if is_last && name[length..].iter().all(|byte| *byte == 0) => &name[..length],
            _ => name,
        };
        let number = u64_at(&self.block, here);
        let kind = match self.block.get(here + 10) {
            Some(1) => 2,
            Some(2) => DIRECTORY,
            Some(3) => 5,
            Some(4) => 4,
            Some(5) => 6,
            Some(6) => 7,
            Some(7) => 3,
            kind => return Err(Error::damaged(format!("a name of a file of the kind {kind:?}"))),
        };
        Ok(Entry { name: name.to_vec(), reference: number, number, kind })
    }
}
