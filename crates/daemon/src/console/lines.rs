//! Lines out of a stream, and between them bytes that are none.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// What is read at once, at most.
const PIECE: usize = 64 << 10;

/// The reading half of a connection.
#[derive(Debug)]
pub(super) struct Lines<R> {
    from: R,
    /// What was read: taken up to `start`, and without a line's end from there up to `seen`.
    buffer: Vec<u8>,
    start: usize,
    seen: usize,
    longest: usize,
}

/// Why there is no line.
#[derive(Debug)]
pub(super) enum NoLine {
    /// The peer has closed its side.
    Ended,
    /// It is longer than is allowed.
    TooLong,
    /// The stream is broken.
    Broken(io::Error),
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Lines of no more than `longest` bytes, without their ends.
    pub(super) fn new(from: R, longest: usize) -> Self {
        Self { from, buffer: Vec::new(), start: 0, seen: 0, longest }
    }

    /// The next line, without its end.
    pub(super) async fn next(&mut self) -> Result<Vec<u8>, NoLine> {
        loop {
            let end = self.buffer[self.seen..].iter().position(|byte| *byte == b'\n');
            let end = end.map(|end| self.seen + end);
            if end.unwrap_or(self.buffer.len()) - self.start > self.longest {
                return Err(NoLine::TooLong);
            }
            if let Some(end) = end {
                let line = self.buffer[self.start..end].to_vec();
                (self.start, self.seen) = (end + 1, end + 1);
                return Ok(line);
            }
            self.seen = self.buffer.len();
            if self.read().await.map_err(NoLine::Broken)? == 0 {
                return Err(NoLine::Ended);
            }
        }
    }

    /// Bytes that are no line: at least one, and no more than `most`; none where the stream has ended.
    pub(super) async fn bytes(&mut self, most: u64) -> io::Result<Vec<u8>> {
        if self.start == self.buffer.len() && self.read().await? == 0 {
            return Ok(Vec::new());
        }
        let there = &self.buffer[self.start..];
        let count = usize::try_from(most).unwrap_or(usize::MAX).min(there.len());
        let bytes = there[..count].to_vec();
        self.start += count;
        self.seen = self.start;
        Ok(bytes)
    }

    /// Reads what there is, behind what was not taken yet.
    async fn read(&mut self) -> io::Result<usize> {
        self.buffer.drain(..self.start);
        self.seen -= self.start;
        self.start = 0;
        if self.buffer.is_empty() {
            // A long line is not kept in mind for ever.
            self.buffer.shrink_to(PIECE);
        }
        self.buffer.reserve(PIECE);
        (&mut self.from).take(PIECE as u64).read_buf(&mut self.buffer).await
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test states what it expects")]
mod tests {
    use tokio::io::{AsyncWriteExt as _, duplex};

    use super::*;

    /// Hands the same bytes over in pieces of each size, and looks at what comes of them.
    fn each_way(bytes: &[u8], look: impl AsyncFn(Lines<tokio::io::DuplexStream>)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for size in (1..40).chain([PIECE, 3 * PIECE]) {
            runtime.block_on(async {
                let (mut to, from) = duplex(size);
                let bytes = bytes.to_vec();
                // Who has heard enough may go before the end.
                let writing = tokio::spawn(async move { to.write_all(&bytes).await.is_ok() });
                look(Lines::new(from, 10)).await;
                writing.await.unwrap();
            });
        }
    }

    #[test]
    fn lines_and_bytes_are_told_apart_in_pieces_of_any_size() {
        each_way(b"one\n\n0123456789\n\nwo\nthree\nrest", async |mut lines| {
            for line in [b"one".as_slice(), b"", b"0123456789"] {
                assert_eq!(lines.next().await.unwrap(), line);
            }
            let mut bytes = Vec::new();
            while bytes.len() < 3 {
                let more = lines.bytes(3 - bytes.len() as u64).await.unwrap();
                assert!(!more.is_empty());
                bytes.extend(more);
            }
            assert_eq!(bytes, b"\nwo");
            assert_eq!(lines.next().await.unwrap(), b"");
            assert_eq!(lines.next().await.unwrap(), b"three");
            assert!(matches!(lines.next().await, Err(NoLine::Ended)), "a rest without an end is no line");
        });
    }

    #[test]
    fn a_line_is_too_long_whether_it_ends_or_not() {
        for bytes in [b"one\n01234567890\n".as_slice(), b"one\n01234567890"] {
            each_way(bytes, async |mut lines| {
                assert_eq!(lines.next().await.unwrap(), b"one");
                assert!(matches!(lines.next().await, Err(NoLine::TooLong)));
            });
        }
    }

    #[test]
    fn nothing_comes_after_the_end() {
        each_way(b"x", async |mut lines| {
            assert_eq!(lines.bytes(9).await.unwrap(), b"x");
            assert_eq!(lines.bytes(9).await.unwrap(), b"");
        });
    }
}
