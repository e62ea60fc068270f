//! A directory below a mount, and the files in it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{Access, AtFlags, CWD, Dir, FileType, Mode, OFlags, accessat, mkdirat, openat, unlinkat};
use sys::{Called, Errno, Failed};

/// A path below an opened mount.
///
/// It is walked anew by every call, which costs less than a descriptor of its own would: no link can be made in
/// a cgroup file system, and the plan has no `..` in its paths, so it cannot lead anywhere else.
#[derive(Debug)]
pub(crate) struct Place {
    /// The directory that the mount lies in: on most hosts one for all hierarchies.
    base: Rc<OwnedFd>,
    /// The mount, for records and errors.
    mounted: String,
    path: String,
}

/// Directories with mounts in them, each opened once.
#[derive(Debug, Default)]
pub(crate) struct Bases(Vec<(String, Rc<OwnedFd>)>);

impl Bases {
    /// A directory below a mount.
    pub(crate) fn place(&mut self, mount: &str, path: &str) -> Result<Place, Failed> {
        let base = split(mount).0;
        let known = self.0.iter().find(|(name, _)| name == base).map(|(_, fd)| Rc::clone(fd));
        let base = if let Some(known) = known {
            known
        } else {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let fd = Rc::new(openat(CWD, base, flags, Mode::empty()).called(|| format!("open({base:?})"))?);
            self.0.push((base.to_owned(), Rc::clone(&fd)));
            fd
        };
        Ok(Place { base, mounted: mount.to_owned(), path: path.to_owned() })
    }
}

/// A mount's parent directory, and its name there; a v2 host's /sys/fs/cgroup is one too.
fn split(mount: &str) -> (&str, &str) {
    match mount.trim_end_matches('/').rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some(parts) => parts,
        None => ("/", mount),
    }
}

/// What mkdir(2) found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Made {
    /// Nothing; it is new.
    New,
    /// A directory of that name.
    There,
    /// Not even the directory above.
    NoParent,
}

impl Place {
    pub(crate) fn mounted(&self) -> &str {
        &self.mounted
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Another directory below the same mount.
    pub(crate) fn beside(&self, path: String) -> Self {
        Self { base: Rc::clone(&self.base), mounted: self.mounted.clone(), path }
    }

    /// The directories above this one, the topmost first; not the mount itself.
    pub(crate) fn above(&self) -> impl Iterator<Item = &str> {
        self.path.match_indices('/').map(|(end, _)| &self.path[..end])
    }

    /// A path below the mount, as it is walked from the base.
    fn below_base(&self, path: &str) -> String {
        let name = split(&self.mounted).1;
        if path.is_empty() { name.to_owned() } else { format!("{name}/{path}") }
    }

    /// The full name of the directory.
    pub(crate) fn full(&self) -> String {
        self.name(&self.path)
    }

    /// A full name, for errors.
    fn name(&self, path: &str) -> String {
        format!("{}/{path}", self.mounted)
    }

    pub(crate) fn make(&self, path: &str) -> Result<Made, Failed> {
        match mkdirat(&*self.base, self.below_base(path), Mode::from_raw_mode(0o755)) {
            Ok(()) => Ok(Made::New),
            Err(Errno::EXIST) => Ok(Made::There),
            Err(Errno::NOENT) => Ok(Made::NoParent),
            Err(errno) => Err(Failed::call(format!("mkdir({:?})", self.name(path)), errno)),
        }
    }

    /// Whether a directory is there.
    pub(crate) fn is_there(&self, path: &str) -> Result<bool, Failed> {
        match accessat(&*self.base, self.below_base(path), Access::EXISTS, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(Failed::call(format!("access({:?})", self.name(path)), errno)),
        }
    }

    /// Removes a directory; `EBUSY` while there are processes or children.
    pub(crate) fn unmake(&self, path: &str) -> Result<(), Failed> {
        unlinkat(&*self.base, self.below_base(path), AtFlags::REMOVEDIR)
            .called(|| format!("rmdir({:?})", self.name(path)))
    }

    /// The directory itself.
    pub(crate) fn directory(&self) -> Result<OwnedFd, Failed> {
        self.open_below(&self.path, OFlags::PATH | OFlags::DIRECTORY)
    }

    /// A file of the directory.
    pub(crate) fn file(&self, file: &str, flags: OFlags) -> Result<OwnedFd, Failed> {
        self.open_below(&format!("{}/{file}", self.path), flags)
    }

    fn open_below(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Failed> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&*self.base, self.below_base(path), flags, Mode::empty())
            .called(|| format!("open({:?})", self.name(path)))
    }

    pub(crate) fn write(&self, file: &str, value: &str) -> Result<(), Failed> {
        let fd = self.file(file, OFlags::WRONLY)?;
        self.write_to(fd.as_fd(), file, value)
    }

    /// A cgroup file takes each write for a whole, wherever it is.
    pub(crate) fn write_to(&self, fd: BorrowedFd<'_>, file: &str, value: &str) -> Result<(), Failed> {
        let call = || format!("write({:?}, {value:?})", self.name(&format!("{}/{file}", self.path)));
        match rustix::io::write(fd, value.as_bytes()).called(call)? {
            written if written == value.len() => Ok(()),
            written => Err(Failed::refused(format!("{}: only {written} bytes were taken", call()))),
        }
    }

    pub(crate) fn read(&self, file: &str) -> Result<String, Failed> {
        self.read_at(&self.path, file)
    }

    /// A file of a directory above or below this one. The kernel makes the text of such a file at once and hands
    /// over as much as there is room for: less than that was all.
    pub(crate) fn read_at(&self, path: &str, file: &str) -> Result<String, Failed> {
        self.text_of(path, file, |read, room| read < room)
    }

    /// A list of processes, which comes in pieces.
    pub(crate) fn list_at(&self, path: &str, file: &str) -> Result<String, Failed> {
        self.text_of(path, file, |read, _| read == 0)
    }

    fn text_of(&self, path: &str, file: &str, is_all: fn(usize, usize) -> bool) -> Result<String, Failed> {
        let path = if path.is_empty() { file.to_owned() } else { format!("{path}/{file}") };
        let fd = self.open_below(&path, OFlags::RDONLY)?;
        let (mut text, mut room) = (Vec::new(), [0; 4096]);
        loop {
            let read = rustix::io::read(&fd, &mut room).called(|| format!("read({:?})", self.name(&path)))?;
            text.extend_from_slice(&room[..read]);
            if is_all(read, room.len()) {
                return Ok(String::from_utf8_lossy(&text).into_owned());
            }
        }
    }

    pub(crate) fn write_at(&self, path: &str, file: &str, value: &str) -> Result<(), Failed> {
        let path = if path.is_empty() { file.to_owned() } else { format!("{path}/{file}") };
        let fd = self.open_below(&path, OFlags::WRONLY)?;
        let call = || format!("write({:?}, {value:?})", self.name(&path));
        rustix::io::write(&fd, value.as_bytes()).called(call).map(drop)
    }

    /// The names of the directory's files.
    pub(crate) fn files(&self) -> Result<Vec<String>, Failed> {
        let call = || format!("getdents({:?})", self.name(&self.path));
        let directory = self.open_below(&self.path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut files = Vec::new();
        for entry in Dir::new(directory).called(call)? {
            let entry = entry.called(call)?;
            if entry.file_type() == FileType::RegularFile {
                files.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        files.sort_unstable();
        Ok(files)
    }

    /// This directory and all below it, each before its children. What vanishes meanwhile is left out.
    pub(crate) fn tree(&self) -> Result<Vec<String>, Failed> {
        let mut all = vec![self.path.clone()];
        let mut next = 0;
        while let Some(path) = all.get(next).cloned() {
            next += 1;
            let call = || format!("getdents({:?})", self.name(&path));
            let directory = match self.open_below(&path, OFlags::RDONLY | OFlags::DIRECTORY) {
                Ok(directory) => directory,
                Err(failed) if is_gone(&failed) => continue,
                Err(failed) => return Err(failed),
            };
            for entry in Dir::new(directory).called(call)? {
                let entry = match entry {
                    Ok(entry) => entry,
                    Err(Errno::NOENT | Errno::NODEV) => break,
                    Err(errno) => return Err(Failed::call(call(), errno)),
                };
                let name = entry.file_name().to_string_lossy();
                if entry.file_type() == FileType::Directory && name != "." && name != ".." {
                    all.push(if path.is_empty() { name.into_owned() } else { format!("{path}/{name}") });
                }
            }
        }
        Ok(all)
    }
}

/// Whether a directory has been removed meanwhile: by name it is not there, and an open file of it says `ENODEV`.
pub(crate) fn is_gone(failed: &Failed) -> bool {
    matches!(failed.errno(), Some(Errno::NOENT | Errno::NODEV))
}
