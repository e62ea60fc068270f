//! Zstandard, as a stream: frames one after the other, those among them skipped that hold something else.
//!
//! The checksum at a frame's end is not looked at: whoever reads a layer compares it with its digest.

use std::io::{self, BufRead, Read};

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// What a frame may ask us to hold in memory, in bytes: as much as zstd(1) grants one that it does not know.
const LARGEST_WINDOW: u64 = 128 << 20;

/// A stream without its packing.
pub(super) struct Zstd<R> {
    packed: R,
    frame: FrameDecoder,
    is_within: bool,
}

impl<R: BufRead> Zstd<R> {
    pub(super) fn new(packed: R) -> Self {
        let mut frame = FrameDecoder::new();
        frame.set_max_window_size(LARGEST_WINDOW);
        Self { packed, frame, is_within: false }
    }

    /// Goes to the next frame with content; false at the end.
    fn next_frame(&mut self) -> io::Result<bool> {
        while !self.packed.fill_buf()?.is_empty() {
            match self.frame.reset(&mut self.packed) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => self.skip(length.into())?,
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(false)
    }

    fn skip(&mut self, length: u64) -> io::Result<()> {
        let skipped = io::copy(&mut (&mut self.packed).take(length), &mut io::sink())?;
        if skipped < length { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.is_within {
                while self.frame.can_collect() == 0 && !self.frame.is_finished() {
                    let one = BlockDecodingStrategy::UptoBlocks(1);
                    self.frame.decode_blocks(&mut self.packed, one).map_err(io::Error::other)?;
                }
                let count = self.frame.read(buffer)?;
                if count > 0 || buffer.is_empty() {
                    return Ok(count);
                }
            }
            self.is_within = self.next_frame()?;
            if !self.is_within {
                return Ok(0);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::expect_used, reason = "a test states what it expects")]
mod tests {
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn frame(content: &[u8]) -> Vec<u8> {
        compress_to_vec(content, CompressionLevel::Fastest)
    }

    fn unpacked(packed: &[u8]) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        Zstd::new(packed).read_to_end(&mut plain).map(|_| plain)
    }

    #[test]
    fn frames_are_read_to_the_last_one() {
        let content: Vec<u8> = (0..400_000u32).flat_map(|at| (at / 7).to_le_bytes()).collect();
        let skipped = [&0x184d_2a53_u32.to_le_bytes()[..], &5_u32.to_le_bytes(), b"hello"].concat();
        let (first, empty, last) = (frame(&content), frame(b""), frame(b"end"));
        let whole = [&skipped[..], &first, &empty, &skipped, &last, &skipped].concat();
        assert_eq!(unpacked(&whole).expect("it is whole"), [&content[..], b"end"].concat());
        assert_eq!(unpacked(b"").expect("nothing is whole"), b"");
        for end in [1, first.len() - 1, first.len() + 1, whole.len() - 1] {
            assert!(
                unpacked(&whole[skipped.len()..][..end.min(whole.len() - skipped.len() - 1)]).is_err(),
                "{end}"
            );
        }
    }

    /// A head of a few bytes that asks for a gigabyte of memory.
    #[test]
    fn a_window_beyond_measure_is_refused() {
        let mut head = 0xfd2f_b528_u32.to_le_bytes().to_vec();
        // No content size, not in one piece; a window of 2 to the power of 10 + 20.
        head.extend([0, 20 << 3]);
        let refused = unpacked(&head).expect_err("it is too large");
        assert!(refused.to_string().contains("window"), "{refused}");
    }
}
