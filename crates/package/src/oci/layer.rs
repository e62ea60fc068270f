//! One layer, laid over those before it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use tar::EntryType;

use super::blobs::Blobs;
use super::packing::Packed;
use super::records::{Item, entries};
use crate::directory::Directory;
use crate::error::{Doing as _, Error};
use crate::limits::Left;
use crate::source::hex;
use crate::tree::{Content, DEEPEST, Id, Kind, Node, Tree, is_stored, too_deep};

/// A layer that is to be unpacked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unpack<'a> {
    pub(super) blobs: &'a Blobs,
    /// What the image calls it.
    pub(super) name: &'a str,
    /// What it has once it is unpacked.
    pub(super) digest: &'a str,
    /// Where there is room for it.
    pub(super) spool: &'a Arc<Directory>,
}

/// Lays a layer over a tree.
pub(super) fn apply(
    tree: &mut Tree,
    unpack: &Unpack<'_>,
    left: &mut Left,
    each: &mut dyn FnMut(u64),
) -> Result<(), Error> {
    let file = Arc::new(unpack.run(left, each)?);
    // What a layer takes away is below it, wherever in the layer that stands: it goes first.
    walk(&file, |_, path| {
        left.file()?;
        take_away(tree, path)
    })?;
    walk(&file, |entry, path| add(tree, &file, entry, path))
}

impl Unpack<'_> {
    /// The layer without its packing, in an unnamed file, checked against its digest.
    fn run(&self, left: &mut Left, each: &mut dyn FnMut(u64)) -> Result<File, Error> {
        let mut hash = Sha256::new();
        let content = self.blobs.part(self.name)?;
        let file = Packed::new(content.open()?)?.unpack(self.spool, left, |piece| {
            hash.update(piece);
            each(piece.len() as u64);
        })?;
        if self.digest.strip_prefix("sha256:") != Some(hex(&hash.finalize()).as_str()) {
            return Err(Error::damaged("is not what the image's configuration tells"));
        }
        Ok(file)
    }
}

/// Hands every entry to `each`, with its path.
fn walk(file: &File, mut each: impl FnMut(&mut Item<'_>, &[u8]) -> Result<(), Error>) -> Result<(), Error> {
    entries(file, "breaks off or is damaged", |entry| {
        let path = entry.path_bytes().into_owned();
        each(entry, &path).doing(|| spec::quoted(&String::from_utf8_lossy(&path)))
    })
}

/// Those above, and the last.
type Names<'a> = (Vec<&'a [u8]>, Option<&'a [u8]>);

/// A path cut into its names, the last of them apart; none for the root itself.
fn names(path: &[u8]) -> Result<Names<'_>, Error> {
    let mut all: Vec<&[u8]> =
        path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    if all.contains(&b"..".as_slice()) {
        return Err(Error::damaged("leads upwards"));
    }
    // Without an end a path of a megabyte would be half a million directories.
    if all.len() > DEEPEST {
        return Err(Error::damaged(too_deep()));
    }
    let last = all.pop();
    Ok((all, last))
}

/// The longest target of a link that Linux stores.
const LONGEST_TARGET: usize = 4095;

/// The mark of what a layer takes away.
const WHITEOUT: &[u8] = b".wh.";
/// The mark of a directory that shows nothing of the layers below.
const OPAQUE: &[u8] = b".wh..wh..opq";

fn take_away(tree: &mut Tree, path: &[u8]) -> Result<(), Error> {
    let (parents, Some(name)) = names(path)? else { return Ok(()) };
    let Some(gone) = name.strip_prefix(WHITEOUT) else { return Ok(()) };
    let Some(directory) = resolve(tree, &parents)? else { return Ok(()) };
    if name == OPAQUE {
        if let Kind::Directory(names) = &mut tree.node_mut(directory).kind {
            names.clear();
        }
    } else if !gone.starts_with(WHITEOUT) {
        tree.remove(directory, gone);
    }
    Ok(())
}

fn add(tree: &mut Tree, file: &Arc<File>, entry: &mut Item<'_>, path: &[u8]) -> Result<(), Error> {
    let (parents, name) = names(path)?;
    let Some(name) = name else {
        // The root itself: what it is stays, how it is changes.
        let node = node(entry, Kind::Directory(BTreeMap::new()))?;
        dress(tree, Tree::ROOT, node);
        return Ok(());
    };
    if name.starts_with(WHITEOUT) {
        return Ok(());
    }
    let directory = provide(tree, &parents)?;
    let kind = match entry.header().entry_type() {
        EntryType::Directory => Kind::Directory(BTreeMap::new()),
        EntryType::Regular | EntryType::Continuous => {
            let (start, size) = (entry.raw_file_position(), entry.size());
            Kind::File(Content::Part { file: Arc::clone(file), start, size })
        }
        EntryType::Symlink => Kind::Link(target(entry)?),
        EntryType::Link => {
            let target = target(entry)?;
            let (parents, last) = names(&target)?;
            let found = resolve(tree, &parents)?.and_then(|directory| tree.find(directory, last?));
            let told = || {
                format!(
                    "is a hard link to {}, which is not there",
                    spec::quoted(&String::from_utf8_lossy(&target))
                )
            };
            return tree.link(directory, name, found.ok_or_else(|| Error::damaged(told()))?);
        }
        kind @ (EntryType::Char | EntryType::Block) => {
            let number = |number: std::io::Result<Option<u32>>| {
                number.ok().flatten().ok_or_else(|| Error::damaged("is a device without numbers"))
            };
            let (major, minor) =
                (number(entry.header().device_major())?, number(entry.header().device_minor())?);
            if kind == EntryType::Char { Kind::Char(major, minor) } else { Kind::Block(major, minor) }
        }
        EntryType::Fifo => Kind::Fifo,
        EntryType::XGlobalHeader => return Ok(()),
        other => return Err(Error::unsupported(format!("is an entry of the kind {other:?}"))),
    };
    let node = node(entry, kind)?;
    let there = tree.find(directory, name).filter(|id| matches!(tree.node(*id).kind, Kind::Directory(_)));
    match (there, &node.kind) {
        (Some(id), Kind::Directory(_)) => dress(tree, id, node),
        _ => {
            tree.add(directory, name, node)?;
        }
    }
    Ok(())
}

/// A directory that is there already gets another owner, mode, and so on.
fn dress(tree: &mut Tree, id: Id, as_is: Node) {
    let node = tree.node_mut(id);
    (node.mode, node.uid, node.gid, node.mtime, node.xattrs) =
        (as_is.mode, as_is.uid, as_is.gid, as_is.mtime, as_is.xattrs);
}

fn target(entry: &Item<'_>) -> Result<Vec<u8>, Error> {
    let target = entry.link_name_bytes().filter(|target| !target.is_empty());
    let target = target.ok_or_else(|| Error::damaged("is a link to nowhere"))?;
    if target.len() > LONGEST_TARGET {
        return Err(Error::damaged(format!("is a link to {} bytes", target.len())));
    }
    Ok(target.into_owned())
}

fn node(entry: &mut Item<'_>, kind: Kind) -> Result<Node, Error> {
    let damaged =
        |error: std::io::Error| Error::damaged(format!("its header: {}", spec::tame(&error.to_string())));
    let id = |id: u64| u32::try_from(id).map_err(|_| Error::damaged(format!("an owner {id}")));
    let header = entry.header();
    let mode = header.mode().map_err(damaged)? & 0o7777;
    let mut node = Node::new(kind, u16::try_from(mode).unwrap_or_default());
    node.uid = id(header.uid().map_err(damaged)?)?;
    node.gid = id(header.gid().map_err(damaged)?)?;
    // Times beyond what 32 bits hold are nobody's: the last second is as good.
    node.mtime = u32::try_from(header.mtime().map_err(damaged)?).unwrap_or(u32::MAX);
    if let Some(extensions) = entry.pax_extensions().map_err(damaged)? {
        for extension in extensions {
            let extension = extension.map_err(damaged)?;
            let key = extension.key_bytes();
            if key.starts_with(b"GNU.sparse") {
                return Err(Error::unsupported("is stored with holes"));
            }
            if let Some(name) = key.strip_prefix(b"SCHILY.xattr.")
                && is_stored(name)
            {
                node.xattrs.insert(name.to_vec(), extension.value_bytes().to_vec());
            }
            let number = || {
                std::str::from_utf8(extension.value_bytes()).ok().and_then(|text| text.parse::<u64>().ok())
            };
            match key {
                b"uid" => node.uid = id(number().unwrap_or(u64::MAX))?,
                b"gid" => node.gid = id(number().unwrap_or(u64::MAX))?,
                _ => {}
            }
        }
    }
    Ok(node)
}

/// Links that are followed before it is a ring.
const MOST_LINKS: usize = 40;

/// A directory by its names, links followed within the tree; none where there is none.
fn resolve(tree: &Tree, path: &[&[u8]]) -> Result<Option<Id>, Error> {
    let mut rest: Vec<Vec<u8>> = path.iter().rev().map(|name| name.to_vec()).collect();
    let mut above = vec![Tree::ROOT];
    let mut links = 0;
    while let Some(name) = rest.pop() {
        let here = above.last().copied().unwrap_or(Tree::ROOT);
        if name == b".." {
            if above.len() > 1 {
                above.pop();
            }
            continue;
        }
        let Some(id) = tree.find(here, &name) else { return Ok(None) };
        match &tree.node(id).kind {
            Kind::Directory(_) => above.push(id),
            Kind::Link(target) => {
                links += 1;
                if links > MOST_LINKS {
                    return Err(Error::damaged("links lead in a ring"));
                }
                if target.starts_with(b"/") {
                    above.truncate(1);
                }
                let parts =
                    target.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
                rest.extend(parts.rev().map(<[u8]>::to_vec));
            }
            _ => return Ok(None),
        }
    }
    Ok(above.last().copied())
}

/// A directory by its names, made where it is missing; what is in the way and no directory is replaced.
fn provide(tree: &mut Tree, path: &[&[u8]]) -> Result<Id, Error> {
    if let Some(there) = resolve(tree, path)? {
        return Ok(there);
    }
    for count in 1..=path.len() {
        if resolve(tree, &path[..count])?.is_none() {
            let above = resolve(tree, &path[..count - 1])?.unwrap_or(Tree::ROOT);
            tree.add(above, path[count - 1], Node::directory(0o755))?;
        }
    }
    Ok(resolve(tree, path)?.unwrap_or(Tree::ROOT))
}

/// What an image's program is, by the path that a shell would find it at: see [`super::Image::manifest`].
pub(super) fn find_program(tree: &Tree, name: &str, path: &str, cwd: &str) -> Option<String> {
    let is_program = |path: &str| {
        let (parents, last) = names(path.as_bytes()).ok()?;
        let id = tree.find(resolve(tree, &parents).ok()??, last?)?;
        // A link may lead anywhere; the kernel will follow it.
        matches!(tree.node(id).kind, Kind::File(_) | Kind::Link(_)).then(|| path.to_owned())
    };
    if name.contains('/') {
        let path = if name.starts_with('/') { name.to_owned() } else { format!("{cwd}/{name}") };
        return is_program(&path.replace("/./", "/"));
    }
    path.split(':')
        .filter(|directory| directory.starts_with('/'))
        .find_map(|directory| is_program(&format!("{directory}/{name}")))
}

/// The content of a small file in the image.
pub(super) fn text_of(tree: &Tree, path: &str) -> Option<String> {
    let (parents, last) = names(path.as_bytes()).ok()?;
    let id = tree.find(resolve(tree, &parents).ok()??, last?)?;
    let Kind::File(content) = &tree.node(id).kind else { return None };
    let mut text = String::new();
    content.open().ok()?.take(1 << 20).read_to_string(&mut text).ok()?;
    Some(text)
}
