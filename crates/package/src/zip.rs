//! The zip archive around a package: the small part of the format that packages use, and nothing beside it.
//!
//! Our own, because the libraries read far more than may be in a package, and check less: a package is three
//! entries, stored, in one piece, without encryption, Zip64, descriptors or second disks. Here every byte of the file
//! belongs to exactly one record, both headers of an entry agree, no name comes twice and nothing overlaps; what two
//! readers could understand in two ways is refused. `fs.img` is used in place, by its offset: nothing is unpacked.

#![allow(
    clippy::cast_possible_truncation,
    reason = "constants, and lengths that were bounded before they are cast"
)]

use std::ops::Range;

use crate::error::Error;
use crate::source::{Source, u16_at, u32_at};

/// What the entries of a package are named.
pub(crate) const NAMES: [&str; 3] = ["manifest.yaml", "signature.yaml", "fs.img"];

/// The archive's directory, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Directory {
    /// The archive's comment, which tells the version of the format.
    pub(crate) comment: Vec<u8>,
    entries: Vec<Entry>,
}

/// One entry, as both of its headers tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    /// Where its content lies in the file.
    pub(crate) content: Range<u64>,
    /// Of its content.
    pub(crate) crc: u32,
    /// Where its local header begins.
    start: u64,
}

const END: u32 = 0x0605_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const LOCAL: u32 = 0x0403_4b50;
const END_SIZE: u64 = 22;
const CENTRAL_SIZE: usize = 46;
const LOCAL_SIZE: usize = 30;
/// The bit that says that a name is UTF-8; ours are ASCII, so it changes nothing.
const UTF8: u16 = 1 << 11;
/// The extra field of Zip64.
const ZIP64: u16 = 1;
/// The padding field of the Android and Rust tools: an alignment, and zeros up to it.
const PADDING: u16 = 0xa11e;
/// The longest comment that is looked for; `version: 0.9.2` has 15 bytes.
const LONGEST_COMMENT: u64 = 256;

impl Directory {
    /// Reads and checks the directory and all headers. No content is read.
    pub(crate) fn read(file: &(impl Source + ?Sized)) -> Result<Self, Error> {
        let end = End::find(file)?;
        let mut bytes = vec![0; usize::from(end.size)];
        file.read_at(&mut bytes, end.directory)?;
        let mut entries = Vec::new();
        let mut rest = bytes.as_slice();
        for _ in 0..end.count {
            let (entry, after) = Entry::central(rest)?;
            if entries.iter().any(|known: &Central| known.name == entry.name) {
                return Err(Error::damaged(format!("entry {:?} comes twice", entry.name)));
            }
            entries.push(entry);
            rest = after;
        }
        if !rest.is_empty() {
            return Err(Error::damaged("more bytes than entries in the zip directory"));
        }
        entries.sort_by_key(|entry| entry.offset);
        let mut at = 0;
        let mut checked = Vec::new();
        for central in entries {
            if u64::from(central.offset) != at {
                return Err(Error::damaged(format!(
                    "entry {:?} begins at byte {}, where {at} was due: entries must neither overlap nor leave gaps",
                    central.name, central.offset
                )));
            }
            let entry = central.local(file, end.directory)?;
            at = entry.content.end;
            checked.push(entry);
        }
        if at != end.directory {
            return Err(Error::damaged(format!("bytes {at} to {} belong to no entry", end.directory)));
        }
        Ok(Self { comment: end.comment, entries: checked })
    }

    /// The entry of this name.
    pub(crate) fn find(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// The same; an error where there is none.
    pub(crate) fn require(&self, name: &str) -> Result<&Entry, Error> {
        self.find(name).ok_or_else(|| Error::damaged(format!("has no entry {name:?}")))
    }
}

/// The record at the end.
struct End {
    comment: Vec<u8>,
    directory: u64,
    size: u16,
    count: u16,
}

impl End {
    fn find(file: &(impl Source + ?Sized)) -> Result<Self, Error> {
        let length = file.length()?;
        let tail = length.min(END_SIZE + LONGEST_COMMENT);
        let mut bytes = vec![0; usize::try_from(tail).unwrap_or_default()];
        file.read_at(&mut bytes, length - tail)?;
        // A record is one only if its comment ends with the file. Two of them could be read by two readers.
        let size = END_SIZE as usize;
        let is_end = |at: &usize| {
            u32_at(&bytes, *at) == END && *at + size + usize::from(u16_at(&bytes, at + 20)) == bytes.len()
        };
        let mut found = (0..(bytes.len() + 1).saturating_sub(size)).filter(is_end);
        let (at, second) = (found.next(), found.next());
        let at = at.ok_or_else(|| Error::damaged("is no zip archive: it does not end as one"))?;
        if second.is_some() {
            return Err(Error::damaged("has two ends of a zip archive"));
        }
        let field = |offset| u16_at(&bytes, at + offset);
        if field(4) != 0 || field(6) != 0 || field(8) != field(10) {
            return Err(Error::damaged("is one of several disks of a zip archive"));
        }
        let start = length - tail + at as u64;
        let (size, directory) = (u32_at(&bytes, at + 12), u64::from(u32_at(&bytes, at + 16)));
        let count = field(10);
        if usize::from(count) > NAMES.len() {
            return Err(Error::damaged(format!("has {count} entries, more than a package can")));
        }
        if directory + u64::from(size) != start {
            return Err(Error::damaged("the zip directory does not end where its end record begins"));
        }
        let size =
            u16::try_from(size).map_err(|_| Error::damaged(format!("a zip directory of {size} bytes")))?;
        Ok(Self { comment: bytes[at + END_SIZE as usize..].to_vec(), directory, size, count })
    }
}

/// An entry as the directory tells it.
struct Central {
    name: String,
    flags: u16,
    crc: u32,
    size: u32,
    offset: u32,
}

impl Entry {
    /// The first entry of the directory, and the bytes after it.
    fn central(bytes: &[u8]) -> Result<(Central, &[u8]), Error> {
        let torn = || Error::damaged("the zip directory ends within an entry");
        let header = bytes.get(..CENTRAL_SIZE).ok_or_else(torn)?;
        if u32_at(header, 0) != CENTRAL {
            return Err(Error::damaged("the zip directory holds something else than entries"));
        }
        let [name, extra, comment] = [28, 30, 32].map(|at| usize::from(u16_at(header, at)));
        let rest = &bytes[CENTRAL_SIZE..];
        let name_bytes = rest.get(..name).ok_or_else(torn)?;
        let name = known_name(name_bytes)?;
        let central = Central {
            flags: u16_at(header, 8),
            crc: u32_at(header, 16),
            size: u32_at(header, 24),
            offset: u32_at(header, 42),
            name,
        };
        let of = |what: &str| format!("entry {:?} {what}", central.name);
        match u16_at(header, 10) {
            0 => {}
            method => {
                return Err(Error::damaged(of(&format!("is compressed (method {method}), not stored"))));
            }
        }
        if central.flags & !UTF8 != 0 {
            return Err(Error::damaged(of(&format!("has the flags {:#x}", central.flags))));
        }
        if u32_at(header, 20) != central.size {
            return Err(Error::damaged(of("is stored in another size than it has")));
        }
        if central.size == u32::MAX || central.offset == u32::MAX {
            return Err(Error::unsupported(of("needs Zip64: packages of 4 GiB and more are not read")));
        }
        if comment != 0 || u16_at(header, 34) != 0 {
            return Err(Error::damaged(of("has a comment, or lies on another disk")));
        }
        let extra_bytes = rest.get(name_bytes.len()..name_bytes.len() + extra).ok_or_else(torn)?;
        check_extra(extra_bytes, &central.name)?;
        Ok((central, &rest[name_bytes.len() + extra..]))
    }
}

impl Central {
    /// The same entry by its local header, which must agree; its content must end before `limit`.
    fn local(self, file: &(impl Source + ?Sized), limit: u64) -> Result<Entry, Error> {
        let start = u64::from(self.offset);
        let mut header = [0; LOCAL_SIZE];
        file.read_at(&mut header, start)?;
        let differs = || Error::damaged(format!("the two headers of entry {:?} differ", self.name));
        let [name, extra] = [26, 28].map(|at| usize::from(u16_at(&header, at)));
        let is_same = u32_at(&header, 0) == LOCAL
            && u16_at(&header, 6) == self.flags
            && u16_at(&header, 8) == 0
            && u32_at(&header, 14) == self.crc
            && u32_at(&header, 18) == self.size
            && u32_at(&header, 22) == self.size
            && name == self.name.len();
        if !is_same {
            return Err(differs());
        }
        let mut rest = vec![0; name + extra];
        file.read_at(&mut rest, start + LOCAL_SIZE as u64)?;
        if rest[..name] != *self.name.as_bytes() {
            return Err(differs());
        }
        check_extra(&rest[name..], &self.name)?;
        let begin = start + (LOCAL_SIZE + name + extra) as u64;
        let content = begin..begin + u64::from(self.size);
        if content.end > limit {
            return Err(Error::damaged(format!("entry {:?} ends after the zip directory begins", self.name)));
        }
        Ok(Entry { name: self.name, content, crc: self.crc, start })
    }
}

/// What no signature covers has no place in a package: other names are refused, and with them `../x` and its kin.
fn known_name(bytes: &[u8]) -> Result<String, Error> {
    NAMES.into_iter().find(|name| name.as_bytes() == bytes).map(str::to_owned).ok_or_else(|| {
        let name = spec::quoted(&String::from_utf8_lossy(bytes));
        Error::damaged(format!("entry {name} belongs in no package"))
    })
}

/// Extra fields are of no use to us, but they must be whole, and must not change what the header says.
fn check_extra(mut bytes: &[u8], name: &str) -> Result<(), Error> {
    let torn = || Error::damaged(format!("an extra field of entry {name:?} is torn"));
    while !bytes.is_empty() {
        let size = usize::from(u16_at(bytes.get(..4).ok_or_else(torn)?, 2));
        let data = bytes[4..].get(..size).ok_or_else(torn)?;
        match u16_at(bytes, 0) {
            ZIP64 => {
                return Err(Error::unsupported(format!("entry {name:?} needs Zip64, which is not read")));
            }
            PADDING if data.iter().skip(2).any(|byte| *byte != 0) => {
                return Err(Error::damaged(format!("the padding before entry {name:?} is not empty")));
            }
            _ => {}
        }
        bytes = &bytes[4 + size..];
    }
    Ok(())
}

/// An entry that is about to be written: its headers, byte for byte as the reference's tools write them.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    name: &'static str,
    crc: u32,
    size: u32,
    offset: u32,
    extra: Vec<u8>,
}

impl Header {
    /// Of an entry whose local header begins at `offset`.
    pub(crate) fn new(name: &'static str, crc: u32, size: u64, offset: u64) -> Result<Self, Error> {
        let fits = |number: u64| {
            u32::try_from(number).ok().filter(|number| *number != u32::MAX).ok_or_else(|| {
                Error::unsupported(format!("{name} of {size} bytes: a package has less than 4 GiB"))
            })
        };
        Ok(Self { name, crc, size: fits(size)?, offset: fits(offset)?, extra: Vec::new() })
    }

    /// The same with padding, so that the content begins at `at`.
    pub(crate) fn padded_to(mut self, at: u64) -> Result<Self, Error> {
        let before = u64::from(self.offset) + (LOCAL_SIZE + self.name.len()) as u64;
        let data =
            at.checked_sub(before + 4).and_then(|size| u16::try_from(size).ok()).filter(|size| *size >= 2);
        let data = data.ok_or_else(|| Error::invalid(format!("{} cannot begin at byte {at}", self.name)))?;
        self.extra.extend(PADDING.to_le_bytes());
        self.extra.extend(data.to_le_bytes());
        self.extra.extend(ALIGNMENT.to_le_bytes());
        self.extra.resize(4 + usize::from(data), 0);
        Ok(self)
    }

    /// The header before the content.
    pub(crate) fn local(&self) -> Vec<u8> {
        let mut bytes = LOCAL.to_le_bytes().to_vec();
        self.common(&mut bytes);
        bytes.extend(self.name.as_bytes());
        bytes.extend(&self.extra);
        bytes
    }

    /// What both headers have in common, from the version that is needed to the length of the extra fields.
    fn common(&self, bytes: &mut Vec<u8>) {
        bytes.extend(10u16.to_le_bytes());
        bytes.extend([0; 4]); // no flags, stored
        bytes.extend(NO_TIME);
        bytes.extend(self.crc.to_le_bytes());
        bytes.extend(self.size.to_le_bytes());
        bytes.extend(self.size.to_le_bytes());
        // A name of ours is short, and padding was made of 16 bits.
        bytes.extend((self.name.len() as u16).to_le_bytes());
        bytes.extend((self.extra.len() as u16).to_le_bytes());
    }

    fn central(&self, bytes: &mut Vec<u8>) {
        bytes.extend(CENTRAL.to_le_bytes());
        bytes.extend([10, 3]); // made by version 1.0, on Unix
        self.common(bytes);
        bytes.extend([0; 6]); // no comment, first disk, binary
        bytes.extend(0x81a4_0000u32.to_le_bytes()); // a regular file, 0644
        bytes.extend(self.offset.to_le_bytes());
        bytes.extend(self.name.as_bytes());
        bytes.extend(&self.extra);
    }
}

/// The directory and the end of an archive; the directory begins at `at`.
pub(crate) fn directory(headers: &[Header], comment: &str, at: u64) -> Result<Vec<u8>, Error> {
    let start = u32::try_from(at).map_err(|_| Error::unsupported("a package has less than 4 GiB"))?;
    let mut bytes = Vec::new();
    for header in headers {
        header.central(&mut bytes);
    }
    let size = bytes.len() as u32;
    let count = headers.len() as u16;
    bytes.extend(END.to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(count.to_le_bytes());
    bytes.extend(count.to_le_bytes());
    bytes.extend(size.to_le_bytes());
    bytes.extend(start.to_le_bytes());
    bytes.extend((comment.len() as u16).to_le_bytes());
    bytes.extend(comment.as_bytes());
    Ok(bytes)
}

/// The bytes of a local header without padding.
pub(crate) fn plain_size(name: &str) -> u64 {
    (LOCAL_SIZE + name.len()) as u64
}

/// Where contents begin that are mounted.
pub(crate) const ALIGNMENT: u16 = 4096;
/// The least that a padding field takes: its head, and the alignment.
pub(crate) const LEAST_PADDING: u64 = 6;
/// The first of January 1980, the day on which DOS was born.
const NO_TIME: [u8; 4] = [0, 0, 0x21, 0];
