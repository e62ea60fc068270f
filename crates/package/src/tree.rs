//! A tree of files that will be an image: what it is made of, in memory, with contents where they are.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek as _, SeekFrom};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, lgetxattr, llistxattr, major, minor, open};
use sys::Called as _;

use crate::error::{Error, shown};

/// Names a file in a [`Tree`]; two names of one file are hard links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(pub(crate) usize);

/// Files, the root directory first.
#[derive(Clone, Debug)]
pub struct Tree {
    pub(crate) nodes: Vec<Node>,
}

/// One file.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime: u32,
    /// Extended attributes by their whole names: those below `user.`, `trusted.` and `security.`.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What a file is, wherever its names and its content are.
#[derive(Clone, Debug)]
pub enum Kind<Names = BTreeMap<Vec<u8>, Id>, Bytes = Content> {
    /// Names, and what bears them.
    Directory(Names),
    /// Content.
    File(Bytes),
    /// Where it leads.
    Link(Vec<u8>),
    /// A character device: major, minor.
    Char(u32, u32),
    /// A block device: major, minor.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

impl<Names, Bytes> Kind<Names, Bytes> {
    /// Which it is, as squashfs numbers them.
    pub(crate) fn number(&self) -> u16 {
        match self {
            Self::Directory(_) => 1,
            Self::File(_) => 2,
            Self::Link(_) => 3,
            Self::Block(..) => 4,
            Self::Char(..) => 5,
            Self::Fifo => 6,
            Self::Socket => 7,
        }
    }
}

/// What is in a regular file.
#[derive(Clone, Debug)]
pub enum Content {
    /// These bytes.
    Bytes(Vec<u8>),
    /// So many bytes of the host's file.
    At(PathBuf, u64),
    /// A part of a file that holds many.
    Part {
        /// The file.
        file: Arc<File>,
        /// Where it begins.
        start: u64,
        /// How many bytes.
        size: u64,
    },
}

impl Content {
    /// How many bytes there are.
    pub fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::At(_, size) | Self::Part { size, .. } => *size,
        }
    }

    /// Something to read them from.
    pub(crate) fn open(&self) -> Result<Box<dyn Read + '_>, Error> {
        self.open_at(0)
    }

    /// The same from this byte on.
    pub(crate) fn open_at(&self, from: u64) -> Result<Box<dyn Read + '_>, Error> {
        Ok(match self {
            Self::Bytes(bytes) => {
                let from = usize::try_from(from).ok().and_then(|from| bytes.get(from..));
                Box::new(from.unwrap_or_default())
            }
            Self::At(path, _) => {
                // Between our look and this it may have become something else.
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
                let opened = open(path, flags, Mode::empty()).called(|| format!("open({})", shown(path)))?;
                let mut file = File::from(opened);
                if from > 0 {
                    let sought = file.seek(SeekFrom::Start(from));
                    sought.map_err(|error| Error::on_path("lseek", path, &error))?;
                }
                Box::new(file)
            }
            Self::Part { file, start, size } => {
                Box::new(Part { file, at: start + from.min(*size), end: start + size })
            }
        })
    }
}

struct Part<'a> {
    file: &'a File,
    at: u64,
    end: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let rest = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let most = buffer.len().min(rest);
        let count = self.file.read_at(&mut buffer[..most], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Node {
    /// A file of root's, from the beginning of time.
    pub fn new(kind: Kind, mode: u16) -> Self {
        Self { kind, mode, uid: 0, gid: 0, mtime: 0, xattrs: BTreeMap::new() }
    }

    /// A directory with nothing in it.
    pub fn directory(mode: u16) -> Self {
        Self::new(Kind::Directory(BTreeMap::new()), mode)
    }
}

impl Default for Tree {
    fn default() -> Self {
        Self { nodes: vec![Node::directory(0o755)] }
    }
}

impl Tree {
    /// The root directory.
    pub const ROOT: Id = Id(0);

    /// A file.
    pub fn node(&self, id: Id) -> &Node {
        &self.nodes[id.0]
    }

    /// A file, to be changed.
    pub fn node_mut(&mut self, id: Id) -> &mut Node {
        &mut self.nodes[id.0]
    }

    /// All files, those without a name included.
    pub fn nodes_mut(&mut self) -> impl Iterator<Item = &mut Node> {
        self.nodes.iter_mut()
    }

    /// The bytes of all contents.
    pub fn size(&self) -> u64 {
        let size = |node: &Node| if let Kind::File(content) = &node.kind { content.size() } else { 0 };
        self.nodes.iter().map(size).sum()
    }

    /// A path that leads to a file, in quotes.
    pub(crate) fn path(&self, id: Id) -> String {
        let mut names: Vec<&[u8]> = Vec::new();
        let mut here = id;
        while let Some((above, name)) = self.above(here) {
            names.push(name);
            here = above;
        }
        names.reverse();
        spec::quoted(&format!("/{}", String::from_utf8_lossy(&names.join(b"/".as_slice()))))
    }

    /// The first directory that a file is in, and its name there.
    fn above(&self, id: Id) -> Option<(Id, &[u8])> {
        self.nodes.iter().enumerate().find_map(|(number, node)| match &node.kind {
            Kind::Directory(names) => {
                let found = names.iter().find(|(_, below)| **below == id);
                found.map(|(name, _)| (Id(number), name.as_slice()))
            }
            _ => None,
        })
    }

    /// What bears this name in a directory.
    pub fn find(&self, directory: Id, name: &[u8]) -> Option<Id> {
        match &self.node(directory).kind {
            Kind::Directory(names) => names.get(name).copied(),
            _ => None,
        }
    }

    /// Names a new file in a directory; what bore the name before loses it.
    pub fn add(&mut self, directory: Id, name: &[u8], node: Node) -> Result<Id, Error> {
        let id = Id(self.nodes.len());
        self.link(directory, name, id)?;
        self.nodes.push(node);
        Ok(id)
    }

    /// Gives a file one more name. A directory has one: more would make a ring of the tree.
    pub fn link(&mut self, directory: Id, name: &[u8], id: Id) -> Result<(), Error> {
        if matches!(self.nodes.get(id.0), Some(Node { kind: Kind::Directory(_), .. })) {
            return Err(Error::invalid("is a directory, which has no second name"));
        }
        if name.is_empty()
            || name.len() > LONGEST_NAME
            || name == b"."
            || name == b".."
            || name.contains(&b'/')
        {
            let name = spec::quoted(&String::from_utf8_lossy(name));
            return Err(Error::invalid(format!("{name} is no name for a file")));
        }
        match &mut self.node_mut(directory).kind {
            Kind::Directory(names) => {
                names.insert(name.to_vec(), id);
                Ok(())
            }
            _ => Err(Error::invalid("is no directory, and has files in it")),
        }
    }

    /// Takes a name from a directory, with all that is below it; whether there was one.
    pub fn remove(&mut self, directory: Id, name: &[u8]) -> bool {
        match &mut self.node_mut(directory).kind {
            Kind::Directory(names) => names.remove(name).is_some(),
            _ => false,
        }
    }

    /// A directory by its path from the root; those that are missing are made like `like`. Links are not followed: what
    /// is in the way is replaced.
    pub fn directories(&mut self, path: &[u8], like: &Node) -> Result<Id, Error> {
        let mut here = Self::ROOT;
        for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".") {
            let next = self.find(here, part).filter(|id| matches!(self.node(*id).kind, Kind::Directory(_)));
            here = match next {
                Some(id) => id,
                None => self.add(here, part, like.clone())?,
            };
        }
        Ok(here)
    }

    /// What is below a directory of the host's, as it is: links not followed, hard links found, times left out.
    pub fn of_directory(path: &Path) -> Result<Self, Error> {
        let mut tree = Self::default();
        let mut known = BTreeMap::new();
        tree.nodes[0] = node_of(path, true)?.0;
        let mut open = vec![(Self::ROOT, path.to_owned())];
        while let Some((directory, path)) = open.pop() {
            let entries =
                std::fs::read_dir(&path).map_err(|error| Error::on_path("opendir", &path, &error))?;
            for entry in entries {
                let entry = entry.map_err(|error| Error::on_path("readdir", &path, &error))?;
                let (name, below) = (entry.file_name().into_vec(), entry.path());
                let (node, inode) = node_of(&below, false)?;
                let is_directory = matches!(node.kind, Kind::Directory(_));
                if let Some(id) = inode.and_then(|inode| known.get(&inode).copied()) {
                    tree.link(directory, &name, id)?;
                    continue;
                }
                let id = tree.add(directory, &name, node)?;
                known.extend(inode.map(|inode| (inode, id)));
                if is_directory {
                    open.push((id, below));
                }
            }
        }
        // Entries come in the directory's own order, which is not the same tomorrow; names do.
        Ok(tree.sorted())
    }

    /// The same tree with files numbered in the order of their names.
    #[must_use]
    pub fn sorted(&self) -> Self {
        let mut order = vec![Self::ROOT];
        let mut place = BTreeMap::from([(Self::ROOT, Self::ROOT)]);
        let mut at = 0;
        while let Some(id) = order.get(at).copied() {
            if let Kind::Directory(names) = &self.node(id).kind {
                for below in names.values() {
                    if !place.contains_key(below) {
                        place.insert(*below, Id(order.len()));
                        order.push(*below);
                    }
                }
            }
            at += 1;
        }
        let mut nodes: Vec<Node> = order.iter().map(|id| self.node(*id).clone()).collect();
        for node in &mut nodes {
            if let Kind::Directory(names) = &mut node.kind {
                for id in names.values_mut() {
                    *id = place[id];
                }
            }
        }
        Self { nodes }
    }
}

/// The longest name that Linux takes. squashfs could store one byte more, and nobody would read it.
pub(crate) const LONGEST_NAME: usize = 255;
/// Directories within directories, of what is written and of what is read: some go as deep themselves, and a stack has an end.
pub(crate) const DEEPEST: usize = 256;

/// What is told of more than [`DEEPEST`].
pub(crate) fn too_deep() -> String {
    format!("more than {DEEPEST} directories within directories")
}

/// A file of the host's; its device and inode where it has several names.
fn node_of(path: &Path, is_root: bool) -> Result<(Node, Option<(u64, u64)>), Error> {
    let stat = if is_root { std::fs::metadata(path) } else { path.symlink_metadata() };
    let stat = stat.map_err(|error| Error::on_path("stat", path, &error))?;
    let kind = stat.file_type();
    let device = (major(stat.rdev()), minor(stat.rdev()));
    let kind = match () {
        () if kind.is_dir() => Kind::Directory(BTreeMap::new()),
        () if kind.is_symlink() => {
            let target =
                std::fs::read_link(path).map_err(|error| Error::on_path("readlink", path, &error))?;
            Kind::Link(target.into_os_string().into_vec())
        }
        () if kind.is_char_device() => Kind::Char(device.0, device.1),
        () if kind.is_block_device() => Kind::Block(device.0, device.1),
        () if kind.is_fifo() => Kind::Fifo,
        () if kind.is_socket() => Kind::Socket,
        () => Kind::File(Content::At(path.to_owned(), stat.len())),
    };
    if is_root && !matches!(kind, Kind::Directory(_)) {
        return Err(Error::invalid(format!("{} is no directory", shown(path))));
    }
    let has_several = stat.nlink() > 1 && !matches!(kind, Kind::Directory(_));
    let mut node = Node::new(kind, (stat.mode() & 0o7777) as u16);
    (node.uid, node.gid) = (stat.uid(), stat.gid());
    // What the root of the tree bears is of the directory that it happens to lie in.
    if !is_root {
        node.xattrs = xattrs(path)?;
    }
    Ok((node, has_several.then(|| (stat.dev(), stat.ino()))))
}

/// The attributes of a file that squashfs can store.
fn xattrs(path: &Path) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Error> {
    let mut all = BTreeMap::new();
    let mut list = vec![0; 64 << 10];
    let count = match llistxattr(path, list.as_mut_slice()) {
        Ok(count) => count,
        Err(sys::Errno::NOTSUP) => return Ok(all),
        Err(errno) => return Err(sys::Failed::call(format!("llistxattr({})", shown(path)), errno).into()),
    };
    for name in list[..count].split(|byte| *byte == 0).filter(|name| is_stored(name)) {
        let mut value = vec![0; 64 << 10];
        let count =
            lgetxattr(path, std::ffi::OsStr::from_bytes(name), value.as_mut_slice()).called(|| {
                format!("lgetxattr({}, {})", shown(path), spec::quoted(&String::from_utf8_lossy(name)))
            })?;
        value.truncate(count);
        all.insert(name.to_vec(), value);
    }
    Ok(all)
}

/// What the names of attributes begin with that images have a place for, as squashfs numbers them. Those below `system.` are
/// the kernel's own view of other things, ACLs for instance, which images do not have.
pub(crate) const PREFIXES: [&str; 3] = ["user.", "trusted.", "security."];

/// Which of [`PREFIXES`] an attribute has, and its name behind it.
pub(crate) fn without_prefix(name: &[u8]) -> Option<(usize, &[u8])> {
    let mut all = PREFIXES.iter().enumerate();
    all.find_map(|(number, prefix)| Some((number, name.strip_prefix(prefix.as_bytes())?)))
}

/// Whether images have a place for an attribute of this name.
pub(crate) fn is_stored(name: &[u8]) -> bool {
    without_prefix(name).is_some_and(|(_, rest)| !rest.is_empty())
}
