//! Metadata, read: blocks by their place, and streams that go on from block to block.

use std::io::Read as _;
use std::rc::Rc;

use flate2::read::ZlibDecoder;

use super::meta::SIZE;
use crate::error::Error;
use crate::source::{Source, u16_at};

/// The bytes of an image, and the blocks of metadata that were read last.
#[derive(Debug)]
pub(super) struct Blocks<S> {
    file: S,
    /// Where the image begins in the file.
    start: u64,
    /// Nothing of the image lies behind this many bytes.
    used: u64,
    kept: Vec<Option<(u64, Rc<Block>)>>,
}

/// A block of metadata without its packing.
#[derive(Debug)]
struct Block {
    bytes: Vec<u8>,
    /// Where the next one begins.
    next: u64,
}

/// Blocks that are kept. Inodes lie in the order of the names, so few are enough.
const KEPT: usize = 64;
/// In the head of a block: it is not compressed.
const PLAIN: u16 = 0x8000;

impl<S: Source> Blocks<S> {
    pub(super) fn new(file: S, start: u64, used: u64) -> Self {
        Self { file, start, used, kept: (0..KEPT).map(|_| None).collect() }
    }

    /// Fills the buffer with the image's bytes from `at` on, all of which must lie before `end`.
    pub(super) fn raw(&self, buffer: &mut [u8], at: u64, end: u64) -> Result<(), Error> {
        let last = at.checked_add(buffer.len() as u64).filter(|last| *last <= end.min(self.used));
        if last.is_none() {
            return Err(Error::damaged(format!("{} bytes at {at}, beyond byte {end}", buffer.len())));
        }
        // The range was checked against the file's length when the image was opened.
        self.file.read_at(buffer, self.start.saturating_add(at))
    }

    fn block(&mut self, at: u64, end: u64) -> Result<Rc<Block>, Error> {
        let slot = usize::try_from(at % KEPT as u64).unwrap_or_default();
        if let Some(Some((known, block))) = self.kept.get(slot)
            && *known == at
            && block.next <= end
        {
            return Ok(Rc::clone(block));
        }
        let block = Rc::new(self.read_block(at, end)?);
        if let Some(kept) = self.kept.get_mut(slot) {
            *kept = Some((at, Rc::clone(&block)));
        }
        Ok(block)
    }

    fn read_block(&self, at: u64, end: u64) -> Result<Block, Error> {
        let mut head = [0; 2];
        self.raw(&mut head, at, end)?;
        let head = u16_at(&head, 0);
        let size = usize::from(head & !PLAIN);
        if size == 0 || size > SIZE {
            return Err(Error::damaged(format!("a block of metadata of {size} bytes at {at}")));
        }
        let mut bytes = vec![0; size];
        self.raw(&mut bytes, at + 2, end)?;
        if head & PLAIN == 0 {
            bytes = inflate(&bytes, SIZE)?;
        }
        if bytes.is_empty() {
            return Err(Error::damaged(format!("an empty block of metadata at {at}")));
        }
        Ok(Block { bytes, next: at + 2 + size as u64 })
    }
}

/// What a block was before it was compressed; it must not have been more than `most` bytes.
pub(super) fn inflate(packed: &[u8], most: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let read = ZlibDecoder::new(packed).take(most as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| Error::damaged(format!("a block that zlib does not read: {error}")))?;
    if bytes.len() > most {
        return Err(Error::damaged(format!("a block that is more than {most} bytes")));
    }
    Ok(bytes)
}

/// A place in a stream that is read on from there.
#[derive(Clone, Debug)]
pub(super) struct Cursor {
    block: u64,
    offset: usize,
    /// No block of the stream ends behind this.
    end: u64,
    open: Option<Rc<Block>>,
}

impl Cursor {
    /// At the byte `offset` of the block that begins at `block` of the image.
    pub(super) fn new(block: u64, offset: u16, end: u64) -> Self {
        Self { block, offset: offset.into(), end, open: None }
    }

    /// At a reference: the block from the stream's beginning, and the byte in it.
    pub(super) fn at(reference: u64, start: u64, end: u64) -> Result<Self, Error> {
        let block = start.checked_add(reference >> 16).filter(|block| *block < end);
        let block = block.ok_or_else(|| Error::damaged(format!("a reference {reference:#x} to nowhere")))?;
        let [low, high, ..] = reference.to_le_bytes();
        Ok(Self::new(block, u16::from_le_bytes([low, high]), end))
    }

    /// Fills the buffer, and stands behind what it took.
    pub(super) fn fill<S: Source>(&mut self, blocks: &mut Blocks<S>, buffer: &mut [u8]) -> Result<(), Error> {
        let mut done = 0;
        while done < buffer.len() {
            let block = match &self.open {
                Some(block) => Rc::clone(block),
                None => blocks.block(self.block, self.end)?,
            };
            let rest = block.bytes.get(self.offset..).unwrap_or_default();
            if rest.is_empty() && self.offset > block.bytes.len() {
                return Err(Error::damaged(format!("a place behind the end of the block at {}", self.block)));
            }
            let count = rest.len().min(buffer.len() - done);
            buffer[done..done + count].copy_from_slice(&rest[..count]);
            done += count;
            self.offset += count;
            // A block has at least one byte, and the next one lies behind it: this comes to an end.
            if self.offset == block.bytes.len() {
                (self.block, self.offset, self.open) = (block.next, 0, None);
            } else {
                self.open = Some(block);
            }
        }
        Ok(())
    }

    /// The next so many bytes.
    pub(super) fn take<const COUNT: usize, S: Source>(
        &mut self,
        blocks: &mut Blocks<S>,
    ) -> Result<[u8; COUNT], Error> {
        let mut bytes = [0; COUNT];
        self.fill(blocks, &mut bytes)?;
        Ok(bytes)
    }

    /// The same where their count is the image's to tell, and has been checked.
    pub(super) fn bytes<S: Source>(
        &mut self,
        blocks: &mut Blocks<S>,
        count: usize,
    ) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; count];
        self.fill(blocks, &mut bytes)?;
        Ok(bytes)
    }
}
