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
        let before = self.buffer.len();
        let read = (&mut self.from).take(PIECE as u64).read_buf(&mut self.buffer).await?;
        debug_assert_eq!(self.buffer.len(), before + read);
        Ok(read)
    }
}
