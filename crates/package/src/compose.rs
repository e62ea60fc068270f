//! From a manifest and a tree to a package.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::Mode;

use crate::directory::{self, Directory, above};
use crate::erofs;
use crate::error::{Doing as _, Error, shown};
use crate::key::SecretKey;
use crate::manifest::{Manifest, Mount};
use crate::npk::{Draft, Package, Seal};
use crate::signature::sha256;
use crate::source::Source as _;
use crate::squashfs::{self, Compression};
use crate::tree::{Kind, Node, Tree};

/// What a package is made of.
#[derive(Debug)]
pub struct Recipe<'a> {
    /// The manifest, read.
    pub manifest: &'a Manifest,
    /// The manifest, as it stands in its file; it goes into the package byte for byte.
    pub text: &'a [u8],
    /// The files. Places for the manifest's mounts are added.
    pub tree: Tree,
    /// What the image is.
    pub format: Format,
    /// Who signs; without a key there is neither signature nor hash tree.
    pub key: Option<&'a SecretKey>,
}

/// What an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// squashfs, which the reference reads too; how it is made smaller.
    Squashfs(Compression),
    /// erofs, which is not packed here.
    Erofs,
}

/// How far a long work is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// So many bytes more of the contents are in the image.
    Stored(u64),
    /// So many bytes more of the image are hashed.
    Hashed(u64),
}

/// Packs; the path of the package: `out` itself, or `NAME-VERSION.npk` in it where it is a directory. The same recipe
/// makes the same bytes. What bears the name already is replaced, in one step, when the package is whole and on disk.
pub fn pack(recipe: &Recipe<'_>, out: &Path, each: &mut dyn FnMut(Progress)) -> Result<PathBuf, Error> {
    let Recipe { manifest, text, format, key, .. } = recipe;
    let mut tree = recipe.tree.clone();
    prepare(&mut tree, manifest)?;
    write(out, manifest, |file| {
        let draft = Draft::begin(file, text.to_vec(), key.is_some())?;
        let mut stored = |bytes| each(Progress::Stored(bytes));
        let (file, start) = (draft.file(), draft.start());
        let size = match format {
            Format::Squashfs(compression) => squashfs::write(&tree, file, start, *compression, &mut stored),
            Format::Erofs => erofs::write(&tree, file, start, &mut stored),
        };
        let size = size.doing(|| "fs.img")?;
        seal(draft, size, text, *key, each)
    })
}

/// Signs a package anew, or for the first time: the same manifest and image, a hash tree and a signature.
pub fn sign(
    package: &Package<File>,
    manifest: &Manifest,
    key: &SecretKey,
    out: &Path,
    each: &mut dyn FnMut(Progress),
) -> Result<PathBuf, Error> {
    let image = package.image()?;
    let text = package.manifest();
    write(out, manifest, |file| {
        let draft = Draft::begin(file, text.to_vec(), true)?;
        let mut at = draft.start();
        crate::verity::pieces(package.file(), image.clone(), |piece| {
            use std::os::unix::fs::FileExt as _;
            draft.file().write_all_at(piece, at).map_err(|error| Error::io("write(image)", &error))?;
            at += piece.len() as u64;
            each(Progress::Stored(piece.len() as u64));
            Ok(())
        })?;
        // An image of another's may end anywhere; blocks are whole.
        let size = (image.end - image.start).next_multiple_of(crate::verity::BLOCK);
        let end = draft.start() + size;
        if draft.file().length()? < end {
            draft.file().set_len(end).map_err(|error| Error::io("ftruncate(image)", &error))?;
        }
        seal(draft, size, text, Some(key), each)
    })
}

fn seal(
    draft: Draft,
    size: u64,
    text: &[u8],
    key: Option<&SecretKey>,
    each: &mut dyn FnMut(Progress),
) -> Result<File, Error> {
    // A salt is to keep others from preparing blocks that collide. It need not be secret, and nothing keeps it from being
    // the same for the same manifest: so the same package is the same bytes.
    let salt = sha256(&[b"salt of ".as_slice(), text].concat());
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&sha256(&[b"uuid of ".as_slice(), text].concat())[..16]);
    (uuid[6], uuid[8]) = (uuid[6] & 0x0f | 0x40, uuid[8] & 0x3f | 0x80);
    let seal = key.map(|key| Seal { key, uuid, salt });
    draft.finish(size, seal.as_ref(), |bytes| each(Progress::Hashed(bytes)))
}

/// Writes a package without a name, and gives it its name once it is on disk. Nothing stays of one that could not be made.
fn write(
    out: &Path,
    manifest: &Manifest,
    contents: impl FnOnce(File) -> Result<File, Error>,
) -> Result<PathBuf, Error> {
    let path = if out.is_dir() {
        out.join(format!("{}-{}.npk", manifest.name, manifest.version))
    } else {
        out.to_owned()
    };
    let name = path.file_name().ok_or_else(|| Error::invalid(format!("{} is no name", shown(&path))))?;
    let place = Arc::new(Directory::open(above(&path))?);
    let mut draft = directory::Draft::unnamed(&place, Mode::from(0o644))?;
    let file = draft.file.try_clone().map_err(|error| Error::io("fcntl(F_DUPFD_CLOEXEC)", &error))?;
    let made = contents(file)
        .and_then(|file| file.sync_all().map_err(|error| Error::on_path("fsync", &path, &error)));
    match made {
        Ok(()) => draft.replace(name).doing(|| shown(&path))?,
        Err(error) => return Err(draft.discard(error)),
    }
    Ok(path)
}

/// Adds the places that the manifest mounts on. What is in the tree already stays.
pub fn prepare(tree: &mut Tree, manifest: &Manifest) -> Result<(), Error> {
    let owner = (u32::from(manifest.uid), u32::from(manifest.gid));
    let given = |mut node: Node| {
        (node.uid, node.gid) = owner;
        node
    };
    // Where the engine puts the devices that every container has.
    tree.directories(b"dev", &given(Node::directory(0o755)))?;
    for (target, mount) in &manifest.mounts {
        let mode = match mount {
            Mount::Bind { options, .. } if options.rw => 0o755,
            Mount::Bind { .. } | Mount::Resource { .. } => 0o555,
            Mount::Persist | Mount::Sockets | Mount::Tmpfs { .. } | Mount::Dev => 0o755,
            Mount::Proc | Mount::Sysfs => 0o444,
        };
        // A file of the host's is bound on a file.
        if matches!(mount, Mount::Bind { .. }) && is_file(tree, target) {
            continue;
        }
        let directory = tree.directories(target.as_bytes(), &given(Node::directory(mode)))?;
        if let Mount::Dev = mount {
            for (name, major, minor) in DEVICES {
                tree.add(directory, name.as_bytes(), given(Node::new(Kind::Char(major, minor), 0o666)))?;
            }
            if manifest.mounts.get("/proc") == Some(&Mount::Proc) {
                for (name, target) in STREAMS {
                    let link = Node::new(Kind::Link(target.as_bytes().to_vec()), 0o777);
                    tree.add(directory, name.as_bytes(), given(link))?;
                }
            }
        }
    }
    Ok(())
}

/// Whether a path from the root is a regular file's, no link on the way.
fn is_file(tree: &Tree, path: &str) -> bool {
    let mut parts = path.split('/').filter(|part| !part.is_empty() && *part != ".");
    let found = parts.try_fold(Tree::ROOT, |here, part| tree.find(here, part.as_bytes()));
    found.is_some_and(|id| matches!(tree.node(id).kind, Kind::File(_)))
}

const DEVICES: [(&str, u32, u32); 6] =
    [("full", 1, 7), ("null", 1, 3), ("random", 1, 8), ("tty", 5, 0), ("urandom", 1, 9), ("zero", 1, 5)];
const STREAMS: [(&str, &str); 4] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];
