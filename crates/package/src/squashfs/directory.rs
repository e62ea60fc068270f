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

/// The first names of a listing under one head: those whose inodes lie in one block and have numbers that are near each
/// other, and no more than begin within `room` bytes. What is left comes under further heads.
pub(super) fn run<'a, 'b>(entries: &'b [Entry<'a>], room: usize) -> (Vec<u8>, &'b [Entry<'a>]) {
    let Some(first) = entries.first() else { return (Vec::new(), entries) };
    let mut bytes = vec![0; 12];
    let mut count = 0u32;
    for entry in entries.iter().take(MOST) {
        let Some(difference) = difference(entry, first) else { break };
        if entry.place.block != first.place.block || (bytes.len() > room && count > 0) {
            break;
        }
        bytes.extend(entry.place.offset.to_le_bytes());
        bytes.extend(difference.to_le_bytes());
        bytes.extend(entry.kind.to_le_bytes());
        bytes.extend((entry.name.len() as u16 - 1).to_le_bytes());
        bytes.extend(entry.name);
        count += 1;
    }
    bytes[..4].copy_from_slice(&(count - 1).to_le_bytes());
    bytes[4..8].copy_from_slice(&first.place.block.to_le_bytes());
    bytes[8..12].copy_from_slice(&first.number.to_le_bytes());
    (bytes, &entries[count as usize..])
}

fn difference(entry: &Entry<'_>, first: &Entry<'_>) -> Option<i16> {
    (i64::from(entry.number) - i64::from(first.number)).try_into().ok()
}
