//! From a tree to an image.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use super::contents::{BLOCK, Contents, Stored};
use super::directory::{Entry, run};
use super::meta::{Meta, Place, SIZE, table};
use crate::crew;
use crate::error::{Doing as _, Error};
use crate::image::device_of;
use crate::tree::{Id, Kind, Tree, without_prefix};

/// How blocks are made smaller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all: the quickest to read, where there is room.
    None,
    /// zlib, which every kernel with squashfs reads.
    #[default]
    Gzip,
}

/// Writes an image of the tree into the file from `start` on; its size, a multiple of 4096 bytes. `each` hears how many
/// bytes of contents have been read since it heard last. Contents are read and packed by as many threads as there are
/// processors; however many that are, the image is the same.
pub fn write(
    tree: &Tree,
    file: &File,
    start: u64,
    compression: Compression,
    each: &mut dyn FnMut(u64),
) -> Result<u64, Error> {
    write_by(crew::hands(), tree, file, start, compression, each)
}

fn write_by(
    hands: usize,
    tree: &Tree,
    file: &File,
    start: u64,
    compression: Compression,
    each: &mut dyn FnMut(u64),
) -> Result<u64, Error> {
    let tree = tree.sorted();
    let mut out = Out { file, start, at: HEAD };
    let contents = Contents::store(&tree, &mut out, compression, hands, each)?;
    let mut writer = Writer {
        out,
        contents,
        compression,
        inodes: Meta::new(compression),
        directories: Meta::new(compression),
        numbers: numbers(&tree),
        names: names(&tree),
        places: BTreeMap::new(),
        owners: Vec::new(),
        xattrs: Xattrs::new(compression),
        tree: &tree,
    };
    let root = writer.tree(Tree::ROOT, writer.numbers.len() as u32 + 1)?;
    writer.finish(root)
}

const BLOCK_LOG: u16 = 17;
const NONE: u32 = u32::MAX;
const NOWHERE: u64 = u64::MAX;

/// Files are numbered from 1 on, a directory after all that is in it, so that the root comes last.
fn numbers(tree: &Tree) -> BTreeMap<Id, u32> {
    let mut order = BTreeMap::new();
    // The tree is sorted: whoever has a greater number lies deeper, or later on the same level.
    for id in (0..tree.nodes.len()).rev() {
        let number = order.len() as u32 + 1;
        order.insert(Id(id), number);
    }
    order
}

/// How many names each file has.
fn names(tree: &Tree) -> BTreeMap<Id, u32> {
    let mut names = BTreeMap::new();
    for node in &tree.nodes {
        if let Kind::Directory(below) = &node.kind {
            for id in below.values() {
                *names.entry(*id).or_default() += 1;
            }
        }
    }
    names
}

struct Writer<'a> {
    tree: &'a Tree,
    out: Out<'a>,
    contents: Contents<'a>,
    compression: Compression,
    inodes: Meta,
    directories: Meta,
    numbers: BTreeMap<Id, u32>,
    names: BTreeMap<Id, u32>,
    /// Inodes that are written.
    places: BTreeMap<Id, Place>,
    owners: Vec<u32>,
    xattrs: Xattrs,
}

/// A directory's names, stored.
struct Listing<'n> {
    start: Place,
    size: u32,
    index: Vec<Mark<'n>>,
}

/// Where a block of names begins: in the listing, among the compressed blocks, and with which name.
struct Mark<'n> {
    at: u32,
    block: u32,
    name: &'n [u8],
}

impl Writer<'_> {
    /// Writes a file with all below it, which is not too deep: that was seen with its content; the place of its inode.
    fn tree(&mut self, id: Id, parent: u32) -> Result<Place, Error> {
        if let Some(place) = self.places.get(&id) {
            return Ok(*place);
        }
        let tree = self.tree;
        let node = tree.node(id);
        let place = match &node.kind {
            Kind::Directory(names) => self.directory(id, names, parent)?,
            Kind::File(content) => self.file(id, content.size())?,
            Kind::Link(target) => {
                if target.is_empty() || target.len() > 65535 {
                    return Err(Error::invalid(format!("a link to {} bytes", target.len())));
                }
                let mut fields = self.link_count(id).to_le_bytes().to_vec();
                fields.extend((target.len() as u32).to_le_bytes());
                fields.extend(target);
                self.small(id, 3, &fields)?
            }
            Kind::Block(major, minor) => self.device(id, 4, *major, *minor)?,
            Kind::Char(major, minor) => self.device(id, 5, *major, *minor)?,
            Kind::Fifo => self.small(id, 6, &self.link_count(id).to_le_bytes())?,
            Kind::Socket => self.small(id, 7, &self.link_count(id).to_le_bytes())?,
        };
        self.places.insert(id, place);
        Ok(place)
    }

    fn link_count(&self, id: Id) -> u32 {
        self.names.get(&id).copied().unwrap_or(1)
    }

    /// The head that all inodes have; where it lies.
    fn head(&mut self, id: Id, kind: u16) -> Result<Place, Error> {
        let node = self.tree.node(id);
        let (uid, gid) = (self.owner(node.uid)?, self.owner(node.gid)?);
        let place = self.inodes.place();
        for field in [kind, node.mode & 0o7777, uid, gid] {
            self.inodes.put(&field.to_le_bytes());
        }
        self.inodes.put(&node.mtime.to_le_bytes());
        self.inodes.put(&self.numbers[&id].to_le_bytes());
        Ok(place)
    }

    fn owner(&mut self, number: u32) -> Result<u16, Error> {
        let known = self.owners.iter().position(|known| *known == number);
        let index = known.unwrap_or_else(|| {
            self.owners.push(number);
            self.owners.len() - 1
        });
        u16::try_from(index).map_err(|_| Error::invalid("files of more than 65536 users and groups"))
    }

    /// An inode without content: its fields, and its attributes in the longer form of it.
    fn small(&mut self, id: Id, kind: u16, fields: &[u8]) -> Result<Place, Error> {
        let xattr = self.xattrs.add(&self.tree.node(id).xattrs)?;
        let place = self.head(id, if xattr == NONE { kind } else { kind + LONG })?;
        self.inodes.put(fields);
        if xattr != NONE {
            self.inodes.put(&xattr.to_le_bytes());
        }
        Ok(place)
    }

    fn device(&mut self, id: Id, kind: u16, major: u32, minor: u32) -> Result<Place, Error> {
        let device = device_of(major, minor)?;
        let fields = [self.link_count(id).to_le_bytes(), device.to_le_bytes()].concat();
        self.small(id, kind, &fields)
    }

    fn directory(&mut self, id: Id, names: &BTreeMap<Vec<u8>, Id>, parent: u32) -> Result<Place, Error> {
        let number = self.numbers[&id];
        let mut entries = Vec::new();
        let mut directories = 0u32;
        for (name, below) in names {
            let place = self
                .tree(*below, number)
                .doing(|| String::from_utf8_lossy(name).escape_debug().to_string())?;
            let kind = self.tree.node(*below).kind.number();
            directories += u32::from(kind == 1);
            entries.push(Entry { name, place, number: self.numbers[below], kind });
        }
        let Listing { start, size, index } = self.listing(&entries)?;
        let xattr = self.xattrs.add(&self.tree.node(id).xattrs)?;
        let links = directories + 2;
        if let (Ok(size), NONE, true) = (u16::try_from(size), xattr, index.is_empty()) {
            let place = self.head(id, 1)?;
            self.inodes.put(&start.block.to_le_bytes());
            self.inodes.put(&links.to_le_bytes());
            self.inodes.put(&size.to_le_bytes());
            self.inodes.put(&start.offset.to_le_bytes());
            self.inodes.put(&parent.to_le_bytes());
            return Ok(place);
        }
        let place = self.head(id, 1 + LONG)?;
        for field in [links, size, start.block, parent] {
            self.inodes.put(&field.to_le_bytes());
        }
        self.inodes.put(&(index.len() as u16).to_le_bytes());
        self.inodes.put(&start.offset.to_le_bytes());
        self.inodes.put(&xattr.to_le_bytes());
        for Mark { at, block, name } in index {
            for field in [at, block, name.len() as u32 - 1] {
                self.inodes.put(&field.to_le_bytes());
            }
            self.inodes.put(name);
        }
        Ok(place)
    }

    /// Writes a directory's names, and notes where each block of them begins: the kernel reads a long listing from there
    /// on, and not from its beginning, for every file that is opened.
    fn listing<'n>(&mut self, entries: &[Entry<'n>]) -> Result<Listing<'n>, Error> {
        let start = self.directories.place();
        let mut index = Vec::new();
        let mut size = 0usize;
        let mut last = start.block;
        let mut rest = entries;
        while let Some(first) = rest.first() {
            let place = self.directories.place();
            // The number of marks has 16 bits; what is not marked is found by reading on.
            if place.block != last && index.len() < usize::from(u16::MAX) {
                index.push(Mark { at: size as u32, block: place.block, name: first.name });
                last = place.block;
            }
            let (bytes, later) = run(rest, SIZE - usize::from(place.offset));
            self.directories.put(&bytes);
            size += bytes.len();
            rest = later;
        }
        let size = u32::try_from(size + 3).map_err(|_| Error::invalid("a directory of 4 GiB"))?;
        Ok(Listing { start, size, index })
    }

    fn file(&mut self, id: Id, size: u64) -> Result<Place, Error> {
        let xattr = self.xattrs.add(&self.tree.node(id).xattrs)?;
        let links = self.link_count(id);
        let Stored { start, sparse, fragment, .. } = self.contents.of(id);
        let (fragment, offset) = fragment.unwrap_or((NONE, 0));
        let place = match (u32::try_from(start), u32::try_from(size)) {
            (Ok(start), Ok(size)) if links == 1 && xattr == NONE => {
                let place = self.head(id, 2)?;
                for field in [start, fragment, offset, size] {
                    self.inodes.put(&field.to_le_bytes());
                }
                place
            }
            _ => {
                let place = self.head(id, 2 + LONG)?;
                for field in [start, size, sparse] {
                    self.inodes.put(&field.to_le_bytes());
                }
                for field in [links, fragment, offset, xattr] {
                    self.inodes.put(&field.to_le_bytes());
                }
                place
            }
        };
        for size in self.contents.of(id).sizes {
            self.inodes.put(&size.to_le_bytes());
        }
        Ok(place)
    }

    /// Everything behind the data, and the superblock before it.
    fn finish(mut self, root: Place) -> Result<u64, Error> {
        let inode_table = self.out.at();
        self.out.put(&self.inodes.finish())?;
        let directory_table = self.out.at();
        self.out.put(&self.directories.finish())?;
        let fragments = self.contents.fragments();
        let records: Vec<u8> = fragments
            .iter()
            .flat_map(|(start, size)| [start.to_le_bytes(), u64::from(*size).to_le_bytes()].concat())
            .collect();
        let (bytes, fragment_table) = table(self.compression, &records, self.out.at());
        self.out.put(&bytes)?;
        let owners: Vec<u8> = self.owners.iter().flat_map(|owner| owner.to_le_bytes()).collect();
        let (bytes, owner_table) = table(self.compression, &owners, self.out.at());
        self.out.put(&bytes)?;
        let xattr_table = match self.xattrs.finish(self.compression, self.out.at()) {
            Some((bytes, table)) => {
                self.out.put(&bytes)?;
                table
            }
            None => NOWHERE,
        };
        let used = self.out.at();
        let root = u64::from(root.block) << 16 | u64::from(root.offset);
        let plain = if self.compression == Compression::None { ALL_PLAIN } else { 0 };
        let mut head = Vec::new();
        for field in [MAGIC, self.numbers.len() as u32, 0, BLOCK as u32, fragments.len() as u32] {
            head.extend(field.to_le_bytes());
        }
        let without = if xattr_table == NOWHERE { NO_XATTRS } else { 0 };
        for field in [GZIP, BLOCK_LOG, plain | without, self.owners.len() as u16, 4, 0] {
            head.extend(field.to_le_bytes());
        }
        let tables = [owner_table, xattr_table, inode_table, directory_table, fragment_table, NOWHERE];
        for field in [root, used].into_iter().chain(tables) {
            head.extend(field.to_le_bytes());
        }
        self.out.finish(&head)
    }
}

const MAGIC: u32 = 0x7371_7368;
/// Also the word for images where nothing is compressed.
const GZIP: u16 = 1;
/// Inodes, data, fragments, attributes and owners are not compressed.
const ALL_PLAIN: u16 = 0x1 | 0x2 | 0x8 | 0x100 | 0x800;
const NO_XATTRS: u16 = 0x200;
/// From the number of an inode's plain kind to the one with more fields.
const LONG: u16 = 7;

/// Sets of attributes: files with the same ones share a set.
struct Xattrs {
    values: Meta,
    /// Where each set lies, how many attributes it has, and how many bytes.
    sets: Vec<(Place, u32, u32)>,
    known: BTreeMap<BTreeMap<Vec<u8>, Vec<u8>>, u32>,
}

impl Xattrs {
    fn new(compression: Compression) -> Self {
        Self { values: Meta::new(compression), sets: Vec::new(), known: BTreeMap::new() }
    }

    /// The number of a set; [`NONE`] for the empty one.
    fn add(&mut self, set: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<u32, Error> {
        if set.is_empty() {
            return Ok(NONE);
        }
        if let Some(index) = self.known.get(set) {
            return Ok(*index);
        }
        let mut bytes = Vec::new();
        for (name, value) in set {
            let (kind, rest) = prefix(name).ok_or_else(|| {
                let name = spec::quoted(&String::from_utf8_lossy(name));
                Error::unsupported(format!("an attribute {name}: squashfs stores user, trusted and security"))
            })?;
            let size = u32::try_from(value.len()).ok().filter(|size| *size <= 65536);
            let size =
                size.ok_or_else(|| Error::invalid(format!("an attribute of {} bytes", value.len())))?;
            bytes.extend(kind.to_le_bytes());
            bytes.extend((rest.len() as u16).to_le_bytes());
            bytes.extend(rest);
            bytes.extend(size.to_le_bytes());
            bytes.extend(value);
        }
        let index = self.sets.len() as u32;
        self.sets.push((self.values.place(), set.len() as u32, bytes.len() as u32));
        self.values.put(&bytes);
        self.known.insert(set.clone(), index);
        Ok(index)
    }

    /// The table as it is stored at `at`, and where its head lies; none where there are no attributes.
    fn finish(self, compression: Compression, at: u64) -> Option<(Vec<u8>, u64)> {
        if self.sets.is_empty() {
            return None;
        }
        let count = self.sets.len() as u32;
        let mut bytes = self.values.finish();
        let records: Vec<u8> = self
            .sets
            .iter()
            .flat_map(|(place, count, size)| {
                let place = u64::from(place.block) << 16 | u64::from(place.offset);
                [place.to_le_bytes().as_slice(), &count.to_le_bytes(), &size.to_le_bytes()].concat()
            })
            .collect();
        let (sets, index) = table(compression, &records, at + bytes.len() as u64);
        let blocks = (index - at) as usize - bytes.len();
        bytes.extend(&sets[..blocks]);
        let head = at + bytes.len() as u64;
        bytes.extend(at.to_le_bytes());
        bytes.extend(count.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(&sets[blocks..]);
        Some((bytes, head))
    }
}

/// The number of an attribute's prefix, and its name behind it.
fn prefix(name: &[u8]) -> Option<(u16, &[u8])> {
    let found = without_prefix(name).filter(|(_, rest)| !rest.is_empty() && rest.len() <= 255);
    found.map(|(number, rest)| (number as u16, rest))
}

/// The file that the image is written into.
#[derive(Debug)]
pub(super) struct Out<'a> {
    file: &'a File,
    start: u64,
    at: u64,
}

/// The superblock's size.
const HEAD: u64 = 96;

impl Out<'_> {
    /// Where the next byte will be, from the image's beginning.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.write(bytes, self.at)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Fills the last block, and writes the head.
    fn finish(mut self, head: &[u8]) -> Result<u64, Error> {
        let size = self.at.next_multiple_of(4096);
        self.put(&vec![0; (size - self.at) as usize])?;
        self.write(head, 0)?;
        Ok(size)
    }

    fn write(&self, bytes: &[u8], at: u64) -> Result<(), Error> {
        let written = self.file.write_all_at(bytes, self.start + at);
        written.map_err(|error| Error::io(format!("pwrite(image, {} at {at})", bytes.len()), &error))
    }
}

#[cfg(test)]
#[allow(clippy::expect_used, reason = "a test states what it expects")]
mod tests {
    use super::*;
    use crate::tree::{Content, Node};

    /// Files of all sizes around those of blocks and of what is read at once, with holes, and names of the same file.
    fn tree() -> Tree {
        let mut tree = Tree::default();
        let sizes =
            [0, 1, 70_000, BLOCK - 1, BLOCK, BLOCK + 1, 8 * BLOCK, 8 * BLOCK + 5, 20 * BLOCK + 70_000];
        for (number, size) in sizes.into_iter().cycle().take(40).enumerate() {
            let bytes = (0..size).map(|at| if at / BLOCK % 3 == 1 { 0 } else { (at * number / 7) as u8 });
            let node = Node::new(Kind::File(Content::Bytes(bytes.collect())), 0o644);
            let above = format!("{}/{number}", number % 3);
            let above = tree.directories(above.as_bytes(), &Node::directory(0o755)).expect("directories");
            let id = tree.add(above, b"file", node).expect("a file");
            tree.link(Tree::ROOT, format!("hard-{}", 99 - number).as_bytes(), id).expect("a name");
        }
        tree
    }

    #[test]
    fn an_image_is_the_same_by_any_number_of_threads() {
        let tree = tree();
        // What is not packed is the same whichever zlib we have.
        for (compression, sum) in [(Compression::None, Some(0xc8a9_6dd6)), (Compression::Gzip, None)] {
            let mut first = None;
            for hands in [1, 2, 3, 8, 40] {
                let file = tempfile::NamedTempFile::new().expect("a file");
                let mut heard = 0;
                let size =
                    write_by(hands, &tree, file.as_file(), 4096, compression, &mut |bytes| heard += bytes)
                        .expect("it is written");
                assert_eq!(heard, tree.size());
                let bytes = std::fs::read(file.path()).expect("an image");
                assert_eq!(bytes.len() as u64, 4096 + size);
                assert!(*first.get_or_insert_with(|| bytes.clone()) == bytes, "{compression:?} by {hands}");
                assert!(
                    sum.is_none_or(|sum| sum == crc32fast::hash(&bytes)),
                    "{:#x}",
                    crc32fast::hash(&bytes)
                );
            }
        }
    }

    #[test]
    fn a_file_that_becomes_shorter_is_told_by_its_path() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("short");
        std::fs::write(&path, vec![7; 20 * BLOCK]).expect("a file");
        let mut tree = Tree::default();
        for size in [20 * BLOCK + 1, 21 * BLOCK] {
            let above = tree.directories(b"a/b", &Node::directory(0o755)).expect("directories");
            let node = Node::new(Kind::File(Content::At(path.clone(), size as u64)), 0o644);
            tree.add(above, b"short", node).expect("a file");
            for hands in [1, 3] {
                let file = tempfile::tempfile().expect("a file");
                let told = write_by(hands, &tree, &file, 0, Compression::None, &mut |_| ());
                let told = told.expect_err("it is refused").to_string();
                assert_eq!(told, "\"/a/b/short\": became shorter while it was read");
            }
        }
    }
}
