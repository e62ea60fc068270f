//! Metadata: a stream cut into blocks of 8 KiB, each compressed if that makes it smaller.

use flate2::Compression as Level;
use flate2::write::ZlibEncoder;
use std::io::Write as _;

use super::Compression;

/// A stream that is being written.
#[derive(Debug)]
pub(super) struct Meta {
    compression: Compression,
    written: Vec<u8>,
    open: Vec<u8>,
}

/// A place in a stream: where its block begins among the compressed, and the byte in that block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) block: u32,
    pub(super) offset: u16,
}

pub(super) const SIZE: usize = 8192;
/// In the head of a block: it is not compressed.
const PLAIN: u16 = 0x8000;

impl Meta {
    pub(super) fn new(compression: Compression) -> Self {
        Self { compression, written: Vec::new(), open: Vec::new() }
    }

    /// Where the next byte will be.
    pub(super) fn place(&self) -> Place {
        Place { block: self.written.len() as u32, offset: self.open.len() as u16 }
    }

    pub(super) fn put(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(SIZE - self.open.len()));
            self.open.extend(now);
            rest = later;
            if self.open.len() == SIZE {
                self.close();
            }
        }
    }

    fn close(&mut self) {
        let block = std::mem::take(&mut self.open);
        let (bytes, head) = match pack(self.compression, &block) {
            Some(packed) => (packed, 0),
            None => (block, PLAIN),
        };
        self.written.extend((bytes.len() as u16 | head).to_le_bytes());
        self.written.extend(bytes);
    }

    /// The whole stream.
    pub(super) fn finish(mut self) -> Vec<u8> {
        if !self.open.is_empty() {
            self.close();
        }
        self.written
    }
}

/// A block made smaller; none where it cannot be, or is not to be.
pub(super) fn pack(compression: Compression, block: &[u8]) -> Option<Vec<u8>> {
    match compression {
        Compression::None => None,
        Compression::Gzip => {
            let mut encoder = ZlibEncoder::new(Vec::with_capacity(block.len()), Level::new(9));
            // Memory takes everything.
            let packed = encoder.write_all(block).and_then(|()| encoder.finish()).ok()?;
            (packed.len() < block.len()).then_some(packed)
        }
    }
}

/// A table of records, as blocks at `at` and an index behind them; the bytes of both, and where the index lies.
pub(super) fn table(compression: Compression, records: &[u8], at: u64) -> (Vec<u8>, u64) {
    let mut bytes = Vec::new();
    let mut index = Vec::new();
    for block in records.chunks(SIZE) {
        index.extend((at + bytes.len() as u64).to_le_bytes());
        let mut meta = Meta::new(compression);
        meta.put(block);
        bytes.extend(meta.finish());
    }
    let place = at + bytes.len() as u64;
    bytes.extend(index);
    (bytes, place)
}
