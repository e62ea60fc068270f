//! What something is packed by, told by how it begins and not by how it is called.

use std::fs::File;
use std::io::{BufReader, Cursor, Read, Write as _};
use std::sync::Arc;

use rustix::fs::Mode;

use super::zstd::Zstd;
use crate::directory::{Directory, Draft};
use crate::error::Error;
use crate::limits::Left;

/// What layers and whole images are packed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    None,
    Gzip,
    Zstd,
    /// One that is known by name.
    Other(&'static str),
}

impl Packing {
    /// By the first bytes of a content, which may be fewer than four.
    fn of(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // A frame, or one to be skipped, which may come first.
            [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => Self::Zstd,
            [0xfd, b'7', b'z', b'X'] => Self::Other("xz"),
            [b'B', b'Z', b'h', b'1'..=b'9'] => Self::Other("bzip2"),
            _ => Self::None,
        }
    }
}

/// A content that is read, with or without its packing.
pub(super) struct Packed<'a> {
    pub(super) packing: Packing,
    head: Vec<u8>,
    rest: BufReader<Box<dyn Read + 'a>>,
}

impl<'a> Packed<'a> {
    pub(super) fn new(content: Box<dyn Read + 'a>) -> Result<Self, Error> {
        let mut rest = BufReader::with_capacity(256 << 10, content);
        let mut head = Vec::new();
        let read = (&mut rest).take(4).read_to_end(&mut head);
        read.map_err(|error| Error::io("read(image)", &error))?;
        Ok(Self { packing: Packing::of(&head), head, rest })
    }

    /// Writes it without its packing into an unnamed file in `spool`, as long as it keeps within what is left. `see` is
    /// handed every piece that is written.
    pub(super) fn unpack(
        self,
        spool: &Arc<Directory>,
        left: &mut Left,
        mut see: impl FnMut(&[u8]),
    ) -> Result<File, Error> {
        let packed = Cursor::new(self.head).chain(self.rest);
        let mut plain: Box<dyn Read> = match self.packing {
            Packing::None => Box::new(packed),
            Packing::Gzip => Box::new(flate2::read::MultiGzDecoder::new(packed)),
            Packing::Zstd => Box::new(Zstd::new(packed)),
            Packing::Other(how) => {
                return Err(Error::unsupported(format!("is packed by {how}; gzip and zstd are read")));
            }
        };
        let mut file = Draft::unnamed(spool, Mode::from(0o600))?.nameless()?;
        let mut buffer = vec![0; 256 << 10];
        loop {
            let count = plain
                .read(&mut buffer)
                .map_err(|error| Error::damaged(format!("unpacking: {}", spec::tame(&error.to_string()))))?;
            if count == 0 {
                return Ok(file);
            }
            left.bytes(count as u64)?;
            see(&buffer[..count]);
            file.write_all(&buffer[..count]).map_err(|error| Error::io("write(spool)", &error))?;
        }
    }
}
