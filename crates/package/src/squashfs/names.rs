//! Listings of directories, read.

use super::read::Listing;
use super::stream::{Blocks, Cursor};
use crate::error::Error;
use crate::image::Entry;
use crate::source::{Source, u16_at, u32_at};

/// A directory whose names are being read.
#[derive(Debug)]
pub struct Names {
    at: Cursor,
    /// Bytes of the listing that still come.
    left: u64,
    /// The names that still come under the last head: how many, where their inodes lie, the number that theirs are told from.
    run: (u32, u32, u32),
}

/// Names under one head.
const MOST: u32 = 256;

impl Names {
    pub(super) fn of(listing: &Listing) -> Self {
        Self { at: listing.start.clone(), left: listing.size, run: (0, 0, 0) }
    }

    /// The next name.
    pub(super) fn next<S: Source>(&mut self, blocks: &mut Blocks<S>) -> Result<Option<Entry>, Error> {
        if self.run.0 == 0 {
            if self.left == 0 {
                return Ok(None);
            }
            let head: [u8; 12] = self.take(blocks)?;
            let count = u32_at(&head, 0);
            if count >= MOST {
                return Err(Error::damaged(format!("{count} names under one head of a listing")));
            }
            self.run = (count + 1, u32_at(&head, 4), u32_at(&head, 8));
        }
        let fields: [u8; 8] = self.take(blocks)?;
        let size = usize::from(u16_at(&fields, 6)) + 1;
        self.count(size)?;
        let name = self.at.bytes(blocks, size)?;
        let (left, block, number) = self.run;
        self.run.0 = left - 1;
        let difference = i32::from(i16::from_le_bytes([fields[2], fields[3]]));
        Ok(Some(Entry {
            name,
            reference: u64::from(block) << 16 | u64::from(u16_at(&fields, 0)),
            number: number.wrapping_add_signed(difference).into(),
            kind: u16_at(&fields, 4),
        }))
    }

    fn take<const COUNT: usize, S: Source>(&mut self, blocks: &mut Blocks<S>) -> Result<[u8; COUNT], Error> {
        self.count(COUNT)?;
        self.at.take(blocks)
    }

    fn count(&mut self, size: usize) -> Result<(), Error> {
        let left = self.left.checked_sub(size as u64);
        self.left = left.ok_or_else(|| Error::damaged("a listing ends within a name"))?;
        Ok(())
    }
}
