//! From a tree to an image.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read as _, Seek as _, SeekFrom, Write as _};

use super::directory::{Entry, run};
use super::meta::{Meta, Place, SIZE, pack, table};
use crate::error::{Doing as _, Error};
use crate::tree::{Content, Id, Kind, Node, Tree};

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
/// bytes of contents have been read since it heard last.
pub fn write(
    tree: &Tree,
    file: &File,
    start: u64,
    compression: Compression,
    each: &mut dyn FnMut(u64),
) -> Result<u64, Error> {
    let tree = tree.sorted();
    let mut writer = Writer {
        out: Out::new(file, start)?,
        compression,
        inodes: Meta::new(compression),
        directories: Meta::new(compression),
        numbers: numbers(&tree),
        names: names(&tree),
        places: BTreeMap::new(),
        fragment: Vec::new(),
        fragments: Vec::new(),
        owners: Vec::new(),
        xattrs: Xattrs::new(compression),
        each,
        tree: &tree,
    };
    let root = writer.tree(Tree::ROOT, writer.numbers.len() as u32 + 1, 0)?;
    writer.finish(root)
}

const BLOCK: usize = 128 << 10;
const BLOCK_LOG: u16 = 17;
/// In the size of a block: it is not compressed.
const PLAIN: u32 = 1 << 24;
const NONE: u32 = u32::MAX;
const NOWHERE: u64 = u64::MAX;
/// Directories within directories: who writes them goes as deep himself, and a stack has an end.
const DEEPEST: usize = 256;

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
    compression: Compression,
    inodes: Meta,
    directories: Meta,
    numbers: BTreeMap<Id, u32>,
    names: BTreeMap<Id, u32>,
    /// Inodes that are written.
    places: BTreeMap<Id, Place>,
    /// Ends of files that share a block.
    fragment: Vec<u8>,
    /// Blocks of such ends: where they lie, and their size.
    fragments: Vec<(u64, u32)>,
    owners: Vec<u32>,
    xattrs: Xattrs,
    each: &'a mut dyn FnMut(u64),
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

/// The content of a file, stored.
struct Stored {
    start: u64,
    sizes: Vec<u32>,
    sparse: u64,
    fragment: Option<(u32, u32)>,
}

impl Writer<'_> {
    /// Writes a file with all below it; the place of its inode.
    fn tree(&mut self, id: Id, parent: u32, depth: usize) -> Result<Place, Error> {
        if let Some(place) = self.places.get(&id) {
            return Ok(*place);
        }
        if depth > DEEPEST {
            return Err(Error::invalid(format!("more than {DEEPEST} directories within directories")));
        }
        let tree = self.tree;
        let node = tree.node(id);
        let place = match &node.kind {
            Kind::Directory(names) => self.directory(id, names, parent, depth)?,
            Kind::File(content) => {
                let stored = self.content(content)?;
                self.file(id, content.size(), &stored)?
            }
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
        if major > 0xfff || minor > 0xf_ffff {
            return Err(Error::invalid(format!("a device {major}:{minor}, whose numbers are too great")));
        }
        let number = (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12);
        let fields = [self.link_count(id).to_le_bytes(), number.to_le_bytes()].concat();
        self.small(id, kind, &fields)
    }

    fn directory(
        &mut self,
        id: Id,
        names: &BTreeMap<Vec<u8>, Id>,
        parent: u32,
        depth: usize,
    ) -> Result<Place, Error> {
        let number = self.numbers[&id];
        let mut entries = Vec::new();
        let mut directories = 0u32;
        for (name, below) in names {
            let place = self
                .tree(*below, number, depth + 1)
                .doing(|| String::from_utf8_lossy(name).escape_debug().to_string())?;
            let kind = plain_kind(self.tree.node(*below));
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

    fn file(&mut self, id: Id, size: u64, stored: &Stored) -> Result<Place, Error> {
        let xattr = self.xattrs.add(&self.tree.node(id).xattrs)?;
        let links = self.link_count(id);
        let (fragment, offset) = stored.fragment.unwrap_or((NONE, 0));
        let place = match (u32::try_from(stored.start), u32::try_from(size)) {
            (Ok(start), Ok(size)) if links == 1 && xattr == NONE => {
                let place = self.head(id, 2)?;
                for field in [start, fragment, offset, size] {
                    self.inodes.put(&field.to_le_bytes());
                }
                place
            }
            _ => {
                let place = self.head(id, 2 + LONG)?;
                for field in [stored.start, size, stored.sparse] {
                    self.inodes.put(&field.to_le_bytes());
                }
                for field in [links, fragment, offset, xattr] {
                    self.inodes.put(&field.to_le_bytes());
                }
                place
            }
        };
        for size in &stored.sizes {
            self.inodes.put(&size.to_le_bytes());
        }
        Ok(place)
    }

    /// Stores a file's content: whole blocks by themselves, the rest with others'.
    fn content(&mut self, content: &Content) -> Result<Stored, Error> {
        let mut stored = Stored { start: self.out.at(), sizes: Vec::new(), sparse: 0, fragment: None };
        let mut reader = content.open()?;
        let mut left = content.size();
        let mut block = Vec::with_capacity(BLOCK);
        while left > 0 {
            block.clear();
            let want = left.min(BLOCK as u64);
            reader
                .by_ref()
                .take(want)
                .read_to_end(&mut block)
                .map_err(|error| Error::io("read(content)", &error))?;
            if (block.len() as u64) < want {
                return Err(Error::invalid("became shorter while it was read"));
            }
            left -= want;
            (self.each)(want);
            if block.len() < BLOCK {
                stored.fragment = Some(self.share(&block)?);
            } else if block.iter().all(|byte| *byte == 0) {
                stored.sparse += BLOCK as u64;
                stored.sizes.push(0);
            } else {
                stored.sizes.push(self.block(&block)?);
            }
        }
        Ok(stored)
    }

    /// Stores a block; the word that tells its size.
    fn block(&mut self, block: &[u8]) -> Result<u32, Error> {
        if let Some(packed) = pack(self.compression, block) {
            self.out.put(&packed)?;
            return Ok(packed.len() as u32);
        }
        self.out.put(block)?;
        Ok(block.len() as u32 | PLAIN)
    }

    /// The end of a file goes into a block with others: which, and where in it.
    fn share(&mut self, rest: &[u8]) -> Result<(u32, u32), Error> {
        if self.fragment.len() + rest.len() > BLOCK {
            self.close_fragment()?;
        }
        let place = (self.fragments.len() as u32, self.fragment.len() as u32);
        self.fragment.extend(rest);
        Ok(place)
    }

    fn close_fragment(&mut self) -> Result<(), Error> {
        let block = std::mem::take(&mut self.fragment);
        if !block.is_empty() {
            let start = self.out.at();
            let size = self.block(&block)?;
            self.fragments.push((start, size));
        }
        Ok(())
    }

    /// Everything behind the data, and the superblock before it.
    fn finish(mut self, root: Place) -> Result<u64, Error> {
        self.close_fragment()?;
        let inode_table = self.out.at();
        self.out.put(&self.inodes.finish())?;
        let directory_table = self.out.at();
        self.out.put(&self.directories.finish())?;
        let fragments: Vec<u8> = self
            .fragments
            .iter()
            .flat_map(|(start, size)| [start.to_le_bytes(), u64::from(*size).to_le_bytes()].concat())
            .collect();
        let (bytes, fragment_table) = table(self.compression, &fragments, self.out.at());
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
        for field in [MAGIC, self.numbers.len() as u32, 0, BLOCK as u32, self.fragments.len() as u32] {
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

fn plain_kind(node: &Node) -> u16 {
    match node.kind {
        Kind::Directory(_) => 1,
        Kind::File(_) => 2,
        Kind::Link(_) => 3,
        Kind::Block(..) => 4,
        Kind::Char(..) => 5,
        Kind::Fifo => 6,
        Kind::Socket => 7,
    }
}

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
    let all = [b"user.".as_slice(), b"trusted.", b"security."];
    let found = (0u16..).zip(all).find_map(|(kind, prefix)| Some((kind, name.strip_prefix(prefix)?)));
    found.filter(|(_, rest)| !rest.is_empty() && rest.len() <= 255)
}

/// The file that the image is written into.
struct Out<'a> {
    file: BufWriter<&'a File>,
    start: u64,
    at: u64,
}

/// The superblock's size.
const HEAD: u64 = 96;

impl<'a> Out<'a> {
    fn new(file: &'a File, start: u64) -> Result<Self, Error> {
        let mut file = BufWriter::with_capacity(1 << 20, file);
        file.seek(SeekFrom::Start(start + HEAD)).map_err(|error| Error::io("lseek(image)", &error))?;
        Ok(Self { file, start, at: HEAD })
    }

    /// Where the next byte will be, from the image's beginning.
    fn at(&self) -> u64 {
        self.at
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all(bytes).map_err(|error| Error::io("write(image)", &error))?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Fills the last block, and writes the head.
    fn finish(mut self, head: &[u8]) -> Result<u64, Error> {
        let size = self.at.next_multiple_of(4096);
        self.put(&vec![0; (size - self.at) as usize])?;
        let written = self.file.seek(SeekFrom::Start(self.start)).and_then(|_| self.file.write_all(head));
        written.and_then(|()| self.file.flush()).map_err(|error| Error::io("write(image)", &error))?;
        Ok(size)
    }
}
