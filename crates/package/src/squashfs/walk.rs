//! All names of an image, each directory before what is in it.

use std::collections::{HashMap, HashSet};

use super::meta::SIZE;
use super::read::{Image, Inode, Listing, What};
use super::stream::Cursor;
use crate::error::{Doing as _, Error};
use crate::source::{Source, u16_at, u32_at};

/// A walk through an image. It ends, whatever the image says: a directory is entered once, a file has no more names than
/// it tells, and the listings together are no longer than their table can be.
#[derive(Debug)]
pub struct Walk {
    open: Vec<Open>,
    /// Files that were met, by number.
    met: HashSet<u32>,
    /// Those that say they have several names: where the inode lies, and how many names were met.
    linked: HashMap<u32, (u64, u32)>,
    /// Bytes of listings that may still come.
    left: u64,
}

/// What comes next.
#[derive(Debug)]
pub enum Step {
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
struct Open {
    name: Vec<u8>,
    at: Cursor,
    left: u64,
    /// The names that still come under the last head: how many, where their inodes lie, the number that theirs are told from.
    run: (u32, u32, u32),
    last: Option<Vec<u8>>,
}

/// A name in a listing.
struct Entry {
    name: Vec<u8>,
    reference: u64,
    number: u32,
    kind: u16,
}

/// Directories within directories, as many as are written.
const DEEPEST: usize = 256;
/// Names under one head.
const MOST: u32 = 256;
/// The longest name that Linux takes.
const LONGEST: usize = 255;

impl Walk {
    /// A walk from this directory on.
    pub fn from<S: Source>(image: &Image<S>, root: &Inode) -> Result<Self, Error> {
        // No block of metadata takes less than three bytes.
        let table = image.head.directories_end.saturating_sub(image.head.directory_table);
        let left = (table / 3).saturating_mul(SIZE as u64);
        let mut walk = Self { open: Vec::new(), met: HashSet::new(), linked: HashMap::new(), left };
        walk.met.insert(root.number);
        if let What::Directory(listing) = &root.kind {
            walk.enter(Vec::new(), listing)?;
        }
        Ok(walk)
    }

    /// The next step; none at the end.
    pub fn next<S: Source>(&mut self, image: &mut Image<S>) -> Result<Option<Step>, Error> {
        let Some(open) = self.open.last_mut() else { return Ok(None) };
        let entry = match open.next(image) {
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

    fn step<S: Source>(&mut self, image: &mut Image<S>, entry: Entry) -> Result<Step, Error> {
        let inode = image.inode(entry.reference)?;
        if inode.number != entry.number || inode.kind.plain() != entry.kind {
            return Err(Error::damaged("its listing tells of another file"));
        }
        let is_new = self.met.insert(inode.number);
        if let What::Directory(listing) = &inode.kind {
            if !is_new {
                return Err(Error::damaged("is a directory in a second place"));
            }
            self.enter(entry.name.clone(), listing)?;
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

    fn enter(&mut self, name: Vec<u8>, listing: &Listing) -> Result<(), Error> {
        if self.open.len() >= DEEPEST {
            return Err(Error::damaged(format!("more than {DEEPEST} directories within directories")));
        }
        self.left = self
            .left
            .checked_sub(listing.size)
            .ok_or_else(|| Error::damaged("listings that are longer than their table"))?;
        let at = listing.start.clone();
        self.open.push(Open { name, at, left: listing.size, run: (0, 0, 0), last: None });
        Ok(())
    }
}

impl Open {
    /// The next name.
    fn next<S: Source>(&mut self, image: &mut Image<S>) -> Result<Option<Entry>, Error> {
        if self.run.0 == 0 {
            if self.left == 0 {
                return Ok(None);
            }
            let head: [u8; 12] = self.take(image)?;
            let count = u32_at(&head, 0);
            if count >= MOST {
                return Err(Error::damaged(format!("{count} names under one head of a listing")));
            }
            self.run = (count + 1, u32_at(&head, 4), u32_at(&head, 8));
        }
        let fields: [u8; 8] = self.take(image)?;
        let size = usize::from(u16_at(&fields, 6)) + 1;
        if size > LONGEST {
            return Err(Error::damaged(format!("a name of {size} bytes")));
        }
        self.count(size)?;
        let name = self.at.bytes(&mut image.blocks, size)?;
        self.check(&name)?;
        let (left, block, number) = self.run;
        self.run.0 = left - 1;
        self.last = Some(name.clone());
        let difference = i32::from(i16::from_le_bytes([fields[2], fields[3]]));
        Ok(Some(Entry {
            name,
            reference: u64::from(block) << 16 | u64::from(u16_at(&fields, 0)),
            number: number.wrapping_add_signed(difference),
            kind: u16_at(&fields, 4),
        }))
    }

    /// Names stand in order, which the kernel relies on when it looks for one; so none can come twice.
    fn check(&self, name: &[u8]) -> Result<(), Error> {
        let told = || spec::quoted(&String::from_utf8_lossy(name));
        if name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0) {
            return Err(Error::damaged(format!("{} is no name for a file", told())));
        }
        match &self.last {
            Some(last) if last.as_slice() == name => Err(Error::damaged(format!("{} comes twice", told()))),
            Some(last) if last.as_slice() > name => {
                Err(Error::damaged(format!("{} stands out of order", told())))
            }
            _ => Ok(()),
        }
    }

    fn take<const COUNT: usize, S: Source>(&mut self, image: &mut Image<S>) -> Result<[u8; COUNT], Error> {
        self.count(COUNT)?;
        self.at.take(&mut image.blocks)
    }

    fn count(&mut self, size: usize) -> Result<(), Error> {
        let left = self.left.checked_sub(size as u64);
        self.left = left.ok_or_else(|| Error::damaged("a listing ends within a name"))?;
        Ok(())
    }
}

impl What {
    /// Its kind as listings tell it.
    fn plain(&self) -> u16 {
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
