//! A tar archive on disk: what it tells of its entries. Their contents are not read, but where they lie is checked.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt as _;

use tar::{Archive, Entry};

use crate::error::Error;

/// What may be told of one entry: long names, and attributes of up to 64 KiB each. All of it is held in memory.
const MOST: u64 = 1 << 20;

/// The bytes of an archive for who reads it from head to head.
#[derive(Debug)]
pub(super) struct Records<'a> {
    file: &'a File,
    at: u64,
    /// What may still be read of the entry at hand.
    left: &'a Cell<u64>,
}

/// One entry.
pub(super) type Item<'a> = Entry<'a, Records<'a>>;

/// Hands every entry to `each`. What is wrong with the archive is told after `torn`.
pub(super) fn entries(
    file: &File,
    torn: &str,
    mut each: impl FnMut(&mut Item<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    // What is wrong is told with the bytes that are wrong.
    let damaged = |error: io::Error| Error::damaged(format!("{torn}: {}", spec::tame(&error.to_string())));
    let length = file.metadata().map_err(|error| Error::io("fstat(archive)", &error))?.len();
    let left = Cell::new(MOST);
    let mut archive = Archive::new(Records { file, at: 0, left: &left });
    for entry in archive.entries_with_seek().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        // Nobody reads the content to step over it, so nobody would see that it is not there.
        let end = entry.raw_file_position().checked_add(entry.size());
        if end.is_none_or(|end| end > length) {
            return Err(Error::damaged(format!("{torn}: ends within a file of {} bytes", entry.size())));
        }
        each(&mut entry)?;
        left.set(MOST);
    }
    Ok(())
}

impl Read for Records<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        let left = self.left.get().checked_sub(count as u64);
        self.left
            .set(left.ok_or_else(|| io::Error::other(format!("more than {MOST} bytes tell of one file")))?);
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Records<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            // Nobody asks for it.
            SeekFrom::End(_) => None,
        };
        self.at = at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}
