//! Listings of directories.

use super::meta::Place;

/// One name in a listing.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) name: &'a [u8],
    /// Where the file's inode lies.
    pub(super) place: Place,
    pub(super) number: u32,
    /// The kind of inode, of the seven plain ones.
    pub(super) kind: u16,
}

/// Names under one head.
const MOST: usize = 256;

/// A listing: runs of names whose inodes lie in one block, and have numbers that are near each other.
pub(super) fn listing(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = entries;
    while let Some(first) = rest.first() {
        let fits =
            |entry: &&Entry<'_>| entry.place.block == first.place.block && difference(entry, first).is_some();
        let count = rest.iter().take(MOST).take_while(fits).count();
        let (run, later) = rest.split_at(count);
        bytes.extend((count as u32 - 1).to_le_bytes());
        bytes.extend(first.place.block.to_le_bytes());
        bytes.extend(first.number.to_le_bytes());
        for entry in run {
            bytes.extend(entry.place.offset.to_le_bytes());
            bytes.extend(difference(entry, first).unwrap_or_default().to_le_bytes());
            bytes.extend(entry.kind.to_le_bytes());
            bytes.extend((entry.name.len() as u16 - 1).to_le_bytes());
            bytes.extend(entry.name);
        }
        rest = later;
    }
    bytes
}

fn difference(entry: &Entry<'_>, first: &Entry<'_>) -> Option<i16> {
    (i64::from(entry.number) - i64::from(first.number)).try_into().ok()
}
