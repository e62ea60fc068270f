//! Images that are read: what is in one, whichever file system it is.
//!
//! A [`FileSystem`] tells where inodes, names and contents lie, and believes none of it before it is checked; what holds of every
//! tree of files is checked here, in one place.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use crate::error::{Doing as _, Error};
use crate::source::Source;
use crate::tree::{DEEPEST, Kind, LONGEST_NAME, too_deep};

/// A file system that is read.
pub trait FileSystem {
    /// Where the names of a directory lie.
    type Listing: Clone + std::fmt::Debug;
    /// Where the content of a file lies.
    type Stored: Clone + std::fmt::Debug;
    /// A directory whose names are being read.
    type Names: std::fmt::Debug;

    /// The inode of the root, whatever it is.
    fn top(&mut self) -> Result<InodeOf<Self>, Error>;

    /// The root directory.
    fn root(&mut self) -> Result<InodeOf<Self>, Error> {
        let root = self.top()?;
        match root.kind {
            Kind::Directory(_) => Ok(root),
            _ => Err(Error::damaged("the root is no directory")),
        }
    }

    /// The inode that a name leads to.
    fn inode(&mut self, entry: &Entry) -> Result<InodeOf<Self>, Error>;

    /// The bytes that all listings of the image together can have.
    fn room(&self) -> u64;

    /// Begins to read the names of a directory, which is in the one with the number `above`; with the bytes of its listing.
    fn enter(&self, inode: &InodeOf<Self>, above: u64) -> Option<(Self::Names, u64)>;

    /// The next name, as it stands there; none at the end.
    fn next(&mut self, names: &mut Self::Names) -> Result<Option<Entry>, Error>;

    /// The attributes of a file, by their whole names.
    fn xattrs(&mut self, inode: &InodeOf<Self>) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Error>;

    /// The bytes of a content.
    fn size(stored: &Self::Stored) -> u64;

    /// Hands over the content of a file, piece after piece.
    fn content(
        &mut self,
        stored: &Self::Stored,
        each: &mut dyn FnMut(Piece<'_>) -> Result<(), Error>,
    ) -> Result<(), Error>;
}

/// One file of an image.
#[derive(Clone, Debug)]
pub struct Inode<Listing, Stored> {
    /// What it is.
    pub kind: Kind<Listing, Stored>,
    /// Permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Which file it is: two names with the same number are hard links.
    pub number: u64,
    /// How many names it says it has.
    pub links: u32,
    /// Where its attributes are, in the format's own words.
    pub(crate) xattrs: u64,
}

/// One file of an image of this format.
pub type InodeOf<F> = Inode<<F as FileSystem>::Listing, <F as FileSystem>::Stored>;

/// A name in a listing.
#[derive(Debug)]
pub struct Entry {
    /// The name, of which nothing is known.
    pub(crate) name: Vec<u8>,
    /// Where its inode lies, in the format's own words.
    pub(crate) reference: u64,
    /// The number that the inode must have.
    pub(crate) number: u64,
    /// What it must be, as [`Kind::number`] tells it.
    pub(crate) kind: u16,
}

/// A piece of a file's content.
#[derive(Debug)]
pub enum Piece<'a> {
    /// These bytes.
    Bytes(&'a [u8]),
    /// So many zeros that were never stored.
    Hole(u64),
}

/// A walk through an image: all names, each directory before what is in it. It ends, whatever the image says: a directory is
/// entered once, a file has no more names than it tells, and the listings together are no longer than they can be.
#[derive(Debug)]
pub struct Walk<F: FileSystem> {
    open: Vec<Open<F::Names>>,
    /// Files that were met, by number.
    met: HashSet<u64>,
    /// Those that say they have several names: where the inode lies, and how many names were met.
    linked: HashMap<u64, (u64, u32)>,
    /// Bytes of listings that may still come.
    left: u64,
}

/// What comes next.
#[derive(Debug)]
pub enum Step<Inode> {
    /// A directory, and then what is in it.
    Enter(Vec<u8>, Inode),
    /// Any other file.
    Meet(Vec<u8>, Inode),
    /// One more name of a file that was met.
    Again(Vec<u8>, Inode),
    /// The end of the directory that was entered last; of the root, in the end.
    Leave,
}

/// A directory that is being read.
#[derive(Debug)]
struct Open<Names> {
    name: Vec<u8>,
    number: u64,
    names: Names,
    last: Option<Vec<u8>>,
}

impl<F: FileSystem> Walk<F> {
    /// A walk from this directory on.
    pub fn from(image: &F, root: &InodeOf<F>) -> Result<Self, Error> {
        let mut walk =
            Self { open: Vec::new(), met: HashSet::new(), linked: HashMap::new(), left: image.room() };
        walk.met.insert(root.number);
        walk.enter(image, Vec::new(), root)?;
        Ok(walk)
    }

    /// The next step; none at the end.
    pub fn next(&mut self, image: &mut F) -> Result<Option<Step<InodeOf<F>>>, Error> {
        let Some(open) = self.open.last_mut() else { return Ok(None) };
        let entry = image.next(&mut open.names).and_then(|entry| {
            if let Some(entry) = &entry {
                open.check(&entry.name)?;
            }
            Ok(entry)
        });
        let entry = match entry {
            Ok(Some(entry)) => entry,
            Ok(None) => {
                self.open.pop();
                return Ok(Some(Step::Leave));
            }
            Err(error) => return Err(error.while_doing(&self.path(b""))),
        };
        let path = self.path(&entry.name);
        self.step(image, entry).doing(|| path).map(Some)
    }

    /// A path in quotes, from the root of the image.
    fn path(&self, name: &[u8]) -> String {
        let mut path = Vec::new();
        for part in self.open.iter().skip(1).map(|open| open.name.as_slice()).chain([name]) {
            path.push(b'/');
            path.extend(part);
        }
        spec::quoted(&String::from_utf8_lossy(&path))
    }

    fn step(&mut self, image: &mut F, entry: Entry) -> Result<Step<InodeOf<F>>, Error> {
        let inode = image.inode(&entry)?;
        if inode.number != entry.number || inode.kind.number() != entry.kind {
            return Err(Error::damaged("its listing tells of another file"));
        }
        let is_new = self.met.insert(inode.number);
        if matches!(inode.kind, Kind::Directory(_)) {
            if !is_new {
                return Err(Error::damaged("is a directory in a second place"));
            }
            self.enter(image, entry.name.clone(), &inode)?;
            return Ok(Step::Enter(entry.name, inode));
        }
        if is_new {
            if inode.links > 1 {
                self.linked.insert(inode.number, (entry.reference, 1));
            }
            return Ok(Step::Meet(entry.name, inode));
        }
        match self.linked.get_mut(&inode.number) {
            Some((reference, count)) if *reference == entry.reference && *count < inode.links => {
                *count += 1;
                Ok(Step::Again(entry.name, inode))
            }
            _ => Err(Error::damaged("is a file with more names than it tells")),
        }
    }

    fn enter(&mut self, image: &F, name: Vec<u8>, inode: &InodeOf<F>) -> Result<(), Error> {
        // The root is in none.
        if self.open.len() > DEEPEST {
            return Err(Error::damaged(too_deep()));
        }
        let above = self.open.last().map_or(inode.number, |open| open.number);
        let Some((names, size)) = image.enter(inode, above) else { return Ok(()) };
        self.left = self
            .left
            .checked_sub(size)
            .ok_or_else(|| Error::damaged("listings that are longer than their table"))?;
        self.open.push(Open { name, number: inode.number, names, last: None });
        Ok(())
    }
}

impl<Names> Open<Names> {
    /// Names stand in order, which the kernel relies on when it looks for one; so none can come twice.
    fn check(&mut self, name: &[u8]) -> Result<(), Error> {
        let told = || spec::quoted(&String::from_utf8_lossy(name));
        if name.len() > LONGEST_NAME {
            return Err(Error::damaged(format!("a name of {} bytes", name.len())));
        }
        if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0) {
            return Err(Error::damaged(format!("{} is no name for a file", told())));
        }
        match &self.last {
            Some(last) if last.as_slice() == name => {
                return Err(Error::damaged(format!("{} comes twice", told())));
            }
            Some(last) if last.as_slice() > name => {
                return Err(Error::damaged(format!("{} stands out of order", told())));
            }
            _ => {}
        }
        self.last = Some(name.to_vec());
        Ok(())
    }
}

/// The attributes of one file, as they are read.
#[derive(Debug)]
pub(crate) struct Attributes {
    all: BTreeMap<Vec<u8>, Vec<u8>>,
    room: usize,
}

/// What Linux takes for a name of an attribute, and for its value.
const LONGEST_ATTRIBUTE: usize = 255;
pub(crate) const LARGEST_VALUE: usize = 64 << 10;
/// What all of a file's are held in memory with. No file system that we know takes as much.
const ROOM: usize = 1 << 20;

impl Attributes {
    pub(crate) fn new() -> Self {
        Self { all: BTreeMap::new(), room: ROOM }
    }

    /// One more, by its prefix and the rest of its name.
    pub(crate) fn add(&mut self, prefix: &str, rest: &[u8], value: Vec<u8>) -> Result<(), Error> {
        if rest.is_empty() || prefix.len() + rest.len() > LONGEST_ATTRIBUTE {
            return Err(Error::damaged(format!("an attribute with a name of {} bytes", rest.len())));
        }
        let name = [prefix.as_bytes(), rest].concat();
        if name.contains(&0) {
            return Err(Error::damaged("an attribute with a zero in its name"));
        }
        self.room = self
            .room
            .checked_sub(name.len() + value.len())
            .ok_or_else(|| Error::damaged(format!("more than {ROOM} bytes of attributes")))?;
        let told = spec::quoted(&String::from_utf8_lossy(&name));
        if self.all.insert(name, value).is_some() {
            return Err(Error::damaged(format!("two attributes {told}")));
        }
        Ok(())
    }

    pub(crate) fn all(self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        self.all
    }
}

/// The target of a link, which is as long as it says.
pub(crate) fn target(bytes: Vec<u8>) -> Result<Vec<u8>, Error> {
    if bytes.is_empty() {
        return Err(Error::damaged("a link to 0 bytes"));
    }
    if bytes.contains(&0) {
        return Err(Error::damaged("a link to a name with a zero in it"));
    }
    Ok(bytes)
}

/// The bytes of a range of a file, all of which must be there.
pub(crate) fn length(file: &impl Source, range: &Range<u64>) -> Result<u64, Error> {
    let length = range.end.checked_sub(range.start);
    let length = length.filter(|_| file.length().is_ok_and(|all| range.end <= all));
    length.ok_or_else(|| Error::damaged("the image reaches beyond its file"))
}

/// The longest target of a link that an image may tell of.
pub(crate) const LONGEST_TARGET: u64 = 65535;

/// A device's numbers, as Linux encodes them in 32 bits.
pub(crate) fn numbers_of(device: u32) -> (u32, u32) {
    ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xf_ff00))
}

/// The same the other way round.
pub(crate) fn device_of(major: u32, minor: u32) -> Result<u32, Error> {
    if major > 0xfff || minor > 0xf_ffff {
        return Err(Error::invalid(format!("a device {major}:{minor}, whose numbers are too great")));
    }
    Ok((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12))
}
