//! Where a package's bytes come from.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use crate::error::Error;

/// Bytes that are read by their place: a file, or memory.
pub trait Source {
    /// How many there are now.
    fn length(&self) -> Result<u64, Error>;

    /// Fills the buffer with those from `at` on; an error where they end before it is full.
    fn read_at(&self, buffer: &mut [u8], at: u64) -> Result<(), Error>;
}

impl Source for File {
    fn length(&self) -> Result<u64, Error> {
        let stat = self.metadata().map_err(|error| Error::io("fstat(package)", &error))?;
        if !stat.is_file() {
            return Err(Error::invalid("is no regular file"));
        }
        Ok(stat.len())
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> Result<(), Error> {
        self.read_exact_at(buffer, at).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Error::damaged(short(buffer.len(), at)),
            _ => Error::io(format!("pread(package, {}, {at})", buffer.len()), &error),
        })
    }
}

impl Source for [u8] {
    fn length(&self) -> Result<u64, Error> {
        Ok(self.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> Result<(), Error> {
        let start = usize::try_from(at).ok();
        let range = start.and_then(|start| self.get(start..)?.get(..buffer.len()));
        buffer.copy_from_slice(range.ok_or_else(|| Error::damaged(short(buffer.len(), at)))?);
        Ok(())
    }
}

impl<T: Source + ?Sized> Source for &T {
    fn length(&self) -> Result<u64, Error> {
        (**self).length()
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> Result<(), Error> {
        (**self).read_at(buffer, at)
    }
}

fn short(count: usize, at: u64) -> String {
    format!("ends before byte {}", at.saturating_add(count as u64))
}

/// Numbers as the formats here store them, least significant byte first. The callers' buffers are of fixed size and the
/// offsets constants; a field beyond the end reads as zero, which no check lets through.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|field| field.try_into().ok()).map_or(0, u16::from_le_bytes)
}

/// See [`u16_at`].
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|field| field.try_into().ok()).map_or(0, u32::from_le_bytes)
}

/// See [`u16_at`].
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|field| field.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// Bytes in hexadecimal, lower case.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |half: u8| char::from(DIGITS[usize::from(half & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

/// Thirty-two bytes out of 64 hexadecimal digits of either case.
pub(crate) fn unhex(text: &str) -> Option<[u8; 32]> {
    let digit = |digit: char| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let digits: Vec<u8> = text.chars().map(digit).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    if digits.len() == 64 { bytes.try_into().ok() } else { None }
}
