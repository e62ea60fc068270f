//! An image's files, written into a directory.
//!
//! Each is made by one name in a directory that is held open, and no link is followed: no path out of an image reaches a
//! system call, and who may rename what is there already changes nothing of where the rest goes.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chmod, chownat, fchmod,
    fchown, fsetxattr, futimens, linkat, makedev, mkdirat, mknodat, open, openat, setxattr, symlinkat,
    utimensat,
};
use sys::{Called as _, Errno, Failed};

use crate::directory::{DIRECTORY, Directory, HANDLE, above, by_handle, empty, names};
use crate::error::{Doing as _, Error, Kind, shown};
use crate::image::{FileSystem, InodeOf, Piece, Step, Walk};
use crate::limits::Limits;
use crate::tree::Kind as Is;

/// Looks through all names, inodes and attributes of an image, as long as they keep within the limits; the bytes of its files'
/// contents, holes included.
pub fn survey<F: FileSystem>(image: &mut F, limits: Limits) -> Result<u64, Error> {
    let root = image.root()?;
    let mut walk = Walk::from(image, &root)?;
    let (mut size, mut left) = (0, limits.begin());
    while let Some(step) = walk.next(image)? {
        if !matches!(step, Step::Leave) {
            // One more name of a file is one more entry of a directory, and there may be millions of one.
            left.file()?;
        }
        let (Step::Enter(_, inode) | Step::Meet(_, inode)) = &step else { continue };
        // A set of attributes may be shared by all files, and is written for each.
        let attributes = image.xattrs(inode)?;
        left.bytes(attributes.values().map(|value| value.len() as u64).sum())?;
        if let Is::File(stored) = &inode.kind {
            left.bytes(F::size(stored))?;
            size += F::size(stored);
        }
    }
    Ok(size)
}

/// Writes all files of an image into a directory, which is made, or is there and empty: with contents, holes, hard links,
/// attributes, owners, modes and times. If it exceeds the limits there is no file; if anything else fails, nothing of it
/// stays. `each` hears how many bytes of contents have been written since it heard last; what it says against that ends it.
///
/// A directory that is made gets its name in the end: who is killed meanwhile leaves one beside it that is hidden, and goes
/// with the next.
pub fn unpack<F: FileSystem>(
    image: &mut F,
    to: &Path,
    limits: Limits,
    each: &mut dyn FnMut(u64) -> Result<(), Error>,
) -> Result<(), Error> {
    // Names that must not be are found before there is a file.
    survey(image, limits)?;
    let place = Place::take(to)?;
    let done = Unpacking { place: &place, linked: HashMap::new(), open: Vec::new(), each }.run(image);
    done.and_then(|()| place.publish()).map_err(|error| match place.give_back() {
        Ok(()) => error,
        Err(left) => Error::new(error.kind(), format!("{error}; then {left}")),
    })
}

/// Nobody else looks in while it is not what it is to be.
const OURS: Mode = Mode::RWXU;

/// The directory that files go into: one that was there, or a draft that gets its name in the end.
struct Place {
    directory: OwnedFd,
    draft: Option<Unnamed>,
}

/// A directory that is not yet called what it is to be called.
struct Unnamed {
    above: Directory,
    draft: OsString,
    name: OsString,
}

impl Place {
    fn take(path: &Path) -> Result<Self, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match open(path, flags, Mode::empty()) {
            Ok(directory) if names(directory.as_fd())?.is_empty() => Ok(Self { directory, draft: None }),
            Ok(_) => Err(Error::new(Kind::Exists, format!("{} is not empty", shown(path)))),
            // A link that leads nowhere is there too.
            Err(Errno::NOENT) if path.symlink_metadata().is_err() => Self::make(path),
            Err(errno) => Err(Failed::call(format!("open({})", shown(path)), errno).into()),
        }
    }

    fn make(path: &Path) -> Result<Self, Error> {
        let name = path.file_name().ok_or_else(|| Error::invalid(format!("{} is no name", shown(path))))?;
        let above = Directory::open(above(path))?;
        let (draft, directory) = above.make_tree()?;
        Ok(Self { directory, draft: Some(Unnamed { above, draft, name: name.to_owned() }) })
    }

    /// Shows it, whole.
    fn publish(&self) -> Result<(), Error> {
        self.draft.as_ref().map_or(Ok(()), |made| made.above.publish_tree(&made.draft, &made.name))
    }

    /// Leaves it as it was found.
    fn give_back(&self) -> Result<(), Error> {
        empty(self.directory.as_fd())?;
        self.draft.as_ref().map_or(Ok(()), |made| made.above.remove_tree(&made.draft))
    }
}

/// A directory that is being filled.
struct Level<F: FileSystem> {
    name: Vec<u8>,
    directory: OwnedFd,
    inode: InodeOf<F>,
}

struct Unpacking<'a, F: FileSystem> {
    place: &'a Place,
    /// Where the first name of each file that has several is: its directory's names, and its own.
    linked: HashMap<u64, Vec<Vec<u8>>>,
    open: Vec<Level<F>>,
    each: &'a mut dyn FnMut(u64) -> Result<(), Error>,
}

impl<F: FileSystem> Unpacking<'_, F> {
    fn run(mut self, image: &mut F) -> Result<(), Error> {
        let inode = image.root()?;
        let mut walk = Walk::from(image, &inode)?;
        let directory = self.place.directory.try_clone().map_err(|error| Error::io("dup()", &error))?;
        self.open.push(Level { name: Vec::new(), directory, inode });
        while let Some(step) = walk.next(image)? {
            // Also for files without content.
            (self.each)(0)?;
            let path = self.path(&step);
            self.step(image, step).doing(|| path)?;
        }
        Ok(())
    }

    /// A path in quotes, from the root of the image.
    fn path(&self, step: &Step<InodeOf<F>>) -> String {
        let last: &[u8] = match step {
            Step::Enter(name, _) | Step::Meet(name, _) | Step::Again(name, _) => name,
            Step::Leave => b"",
        };
        let names = self.open.iter().skip(1).map(|level| level.name.as_slice());
        let names: Vec<&[u8]> = names.chain([last]).filter(|name| !name.is_empty()).collect();
        spec::quoted(&format!("/{}", String::from_utf8_lossy(&names.join(b"/".as_slice()))))
    }

    fn step(&mut self, image: &mut F, step: Step<InodeOf<F>>) -> Result<(), Error> {
        if let Step::Leave = step {
            // The walk leaves what it has entered.
            let Some(level) = self.open.pop() else { return Ok(()) };
            return dress(image, level.directory.as_fd(), &level.inode);
        }
        let Some(Level { directory: here, .. }) = self.open.last() else { return Ok(()) };
        match step {
            Step::Leave => {}
            Step::Enter(name, inode) => {
                mkdirat(here, &name, OURS).called(|| "mkdirat()")?;
                let directory = openat(here, &name, DIRECTORY, Mode::empty()).called(|| "openat()")?;
                self.open.push(Level { name, directory, inode });
            }
            Step::Meet(name, inode) => {
                match &inode.kind {
                    Is::File(stored) => {
                        let file = write(image, here, &name, stored, self.each)?;
                        dress(image, file.as_fd(), &inode)?;
                    }
                    _ => node(image, here, &name, &inode)?,
                }
                if inode.links > 1 {
                    let above = self.open.iter().skip(1).map(|level| level.name.clone());
                    self.linked.insert(inode.number, above.chain([name]).collect());
                }
            }
            Step::Again(name, inode) => {
                let first = self.linked.get(&inode.number);
                let first = first.and_then(|path| path.split_last());
                let (last, above) = first.ok_or_else(|| Error::damaged("is a hard link to nothing"))?;
                let mut from = None;
                for part in above {
                    let below = from.as_ref().unwrap_or(&self.place.directory);
                    let next = openat(below, part, HANDLE | OFlags::DIRECTORY, Mode::empty());
                    from = Some(next.called(|| "open(its first name)")?);
                }
                let from = from.as_ref().unwrap_or(&self.place.directory);
                linkat(from, last, here, &name, AtFlags::empty()).called(|| "linkat()")?;
            }
        }
        Ok(())
    }
}

/// Makes a regular file, and writes its content.
fn write<F: FileSystem>(
    image: &mut F,
    here: &OwnedFd,
    name: &[u8],
    stored: &F::Stored,
    each: &mut dyn FnMut(u64) -> Result<(), Error>,
) -> Result<File, Error> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(openat(here, name, flags, Mode::RUSR | Mode::WUSR).called(|| "openat()")?);
    let mut at = 0;
    image.content(stored, &mut |piece| {
        let count = match piece {
            Piece::Hole(count) => count,
            Piece::Bytes(bytes) => {
                file.write_all_at(bytes, at)
                    .map_err(|error| Error::io(format!("pwrite({} at {at})", bytes.len()), &error))?;
                bytes.len() as u64
            }
        };
        at += count;
        each(count)
    })?;
    // It may end with a hole.
    file.set_len(at).map_err(|error| Error::io(format!("ftruncate({at})"), &error))?;
    Ok(file)
}

/// Gives a file or directory its owner, attributes, mode and times, in this order: a new owner takes set-user-id and
/// capabilities away.
fn dress<F: FileSystem>(image: &mut F, file: BorrowedFd<'_>, inode: &InodeOf<F>) -> Result<(), Error> {
    let (uid, gid) = (Uid::from_raw(inode.uid), Gid::from_raw(inode.gid));
    fchown(file, Some(uid), Some(gid)).called(|| format!("fchown({}:{})", inode.uid, inode.gid))?;
    for (name, value) in image.xattrs(inode)? {
        fsetxattr(file, &name, &value, XattrFlags::empty())
            .called(|| format!("fsetxattr({})", told(&name)))?;
    }
    fchmod(file, Mode::from_raw_mode(inode.mode.into())).called(|| format!("fchmod({:o})", inode.mode))?;
    futimens(file, &times(inode.mtime)).called(|| "futimens()")?;
    Ok(())
}

/// Makes a link, a device, a pipe or a socket, with all that [`dress`] gives.
fn node<F: FileSystem>(image: &mut F, here: &OwnedFd, name: &[u8], inode: &InodeOf<F>) -> Result<(), Error> {
    let make = |kind, device| mknodat(here, name, kind, Mode::empty(), device).called(|| "mknodat()");
    match &inode.kind {
        Is::Link(target) => {
            symlinkat(target.as_slice(), here, name).called(|| format!("symlink({})", told(target)))?;
        }
        Is::Char(major, minor) => make(FileType::CharacterDevice, makedev(*major, *minor))?,
        Is::Block(major, minor) => make(FileType::BlockDevice, makedev(*major, *minor))?,
        Is::Fifo => make(FileType::Fifo, 0)?,
        Is::Socket => make(FileType::Socket, 0)?,
        // Others have taken these.
        Is::Directory(_) | Is::File(_) => {}
    }
    let handle = openat(here, name, HANDLE, Mode::empty()).called(|| "openat()")?;
    let (uid, gid) = (Uid::from_raw(inode.uid), Gid::from_raw(inode.gid));
    chownat(&handle, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)
        .called(|| format!("chown({}:{})", inode.uid, inode.gid))?;
    for (name, value) in image.xattrs(inode)? {
        setxattr(by_handle(&handle), &name, &value, XattrFlags::empty())
            .called(|| format!("setxattr({})", told(&name)))?;
    }
    // Linux has no modes of links.
    if !matches!(inode.kind, Is::Link(_)) {
        chmod(by_handle(&handle), Mode::from_raw_mode(inode.mode.into()))
            .called(|| format!("chmod({:o})", inode.mode))?;
    }
    utimensat(here, name, &times(inode.mtime), AtFlags::SYMLINK_NOFOLLOW).called(|| "utimensat()")?;
    Ok(())
}

fn told(bytes: &[u8]) -> String {
    spec::quoted(&String::from_utf8_lossy(bytes))
}

/// The last change alone is known.
fn times(mtime: i64) -> Timestamps {
    let time = Timespec { tv_sec: mtime, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}
