//! The contents of all files, as blocks.
//!
//! Which blocks there are follows from the sizes alone. So it is planned before a byte is read; then blocks are read and packed
//! by several threads, and stored in the order of the plan, whichever is ready first.

use std::collections::BTreeMap;
use std::io::Read as _;

use super::meta::pack;
use super::write::{Compression, Out};
use crate::crew::{self, Spare};
use crate::error::{Doing as _, Error};
use crate::tree::{Content, DEEPEST, Id, Kind, Tree, too_deep};

pub(super) const BLOCK: usize = 128 << 10;
/// In the size of a block: it is not compressed.
const PLAIN: u32 = 1 << 24;
/// What is read of one file at once: some blocks.
const AT_ONCE: u64 = 8 * BLOCK as u64;

/// Where all contents lie.
#[derive(Debug)]
pub(super) struct Contents<'a> {
    plan: Plan<'a>,
    /// For each run of the plan where it lies, and the words that tell the sizes of its blocks.
    runs: Vec<(u64, Vec<u32>)>,
    /// Where the last one ends.
    end: u64,
}

/// Where the content of a file lies.
#[derive(Debug)]
pub(super) struct Stored<'a> {
    pub(super) start: u64,
    /// The words of its whole blocks; zero for one that is a hole.
    pub(super) sizes: &'a [u32],
    /// The bytes of holes.
    pub(super) sparse: u64,
    /// Its end: the number of a block of ends, and the byte in it.
    pub(super) fragment: Option<(u32, u32)>,
}

/// What is to be stored, in order.
#[derive(Debug, Default)]
struct Plan<'a> {
    runs: Vec<Run<'a>>,
    /// The run that a file's whole blocks are, or the next one where it has none; and where its end is.
    files: BTreeMap<Id, (usize, Option<(u32, u32)>)>,
    /// Ends that share a block which is not full yet, and their bytes.
    open: Vec<Piece<'a>>,
    filled: u64,
    fragments: u32,
}

/// Some bytes of a file.
#[derive(Clone, Copy, Debug)]
struct Piece<'a> {
    id: Id,
    content: &'a Content,
    from: u64,
    size: u64,
}

/// Blocks that lie behind each other.
#[derive(Debug)]
enum Run<'a> {
    /// The whole blocks of a file.
    Whole(Piece<'a>),
    /// One block: the ends of files.
    Ends(Vec<Piece<'a>>),
}

/// Blocks of a run that are read at once.
#[derive(Clone, Debug)]
enum Job<'a> {
    /// Some whole blocks of a file.
    Whole(Piece<'a>),
    Ends(&'a [Piece<'a>]),
}

/// Blocks as they are stored.
#[derive(Debug)]
struct Packed {
    bytes: Vec<u8>,
    words: Vec<u32>,
    /// How many bytes were read.
    read: u64,
}

impl<'a> Contents<'a> {
    /// Stores the contents of a tree, which is sorted.
    pub(super) fn store(
        tree: &'a Tree,
        out: &mut Out<'_>,
        compression: Compression,
        hands: usize,
        each: &mut dyn FnMut(u64),
    ) -> Result<Self, Error> {
        let plan = Plan::of(tree)?;
        let mut runs: Vec<(u64, Vec<u32>)> = Vec::with_capacity(plan.runs.len());
        let spare = Spare::default();
        crew::in_order(
            hands,
            plan.jobs(),
            |(run, job)| Ok((run, job.pack(tree, compression, &spare)?)),
            |(run, packed)| {
                if run == runs.len() {
                    runs.push((out.at(), Vec::new()));
                }
                runs[run].1.extend(packed.words);
                out.put(&packed.bytes)?;
                spare.give(packed.bytes);
                each(packed.read);
                Ok(())
            },
        )?;
        Ok(Self { plan, runs, end: out.at() })
    }

    /// Where the content of a file lies.
    pub(super) fn of(&self, id: Id) -> Stored<'_> {
        let (run, fragment) = self.plan.files[&id];
        let start = self.runs.get(run).map_or(self.end, |(start, _)| *start);
        let sizes = match self.plan.runs.get(run) {
            Some(Run::Whole(piece)) if piece.id == id => self.runs[run].1.as_slice(),
            _ => &[],
        };
        let holes = sizes.iter().filter(|word| **word == 0).count();
        Stored { start, sizes, sparse: (holes * BLOCK) as u64, fragment }
    }

    /// The blocks of ends in the order of their numbers: where each lies, and the word that tells its size.
    pub(super) fn fragments(&self) -> Vec<(u64, u32)> {
        let both = self.plan.runs.iter().zip(&self.runs);
        both.filter(|(run, _)| matches!(run, Run::Ends(_)))
            .flat_map(|(_, (start, words))| words.iter().map(|word| (*start, *word)))
            .collect()
    }
}

impl<'a> Plan<'a> {
    fn of(tree: &'a Tree) -> Result<Self, Error> {
        let mut plan = Self::default();
        plan.add(tree, Tree::ROOT, 0)?;
        plan.close();
        Ok(plan)
    }

    /// A file, or all that is below a directory, in the order of the names.
    fn add(&mut self, tree: &'a Tree, id: Id, depth: usize) -> Result<(), Error> {
        if depth > DEEPEST {
            return Err(Error::invalid(too_deep()));
        }
        match &tree.node(id).kind {
            Kind::Directory(names) => names.iter().try_for_each(|(name, below)| {
                self.add(tree, *below, depth + 1)
                    .doing(|| String::from_utf8_lossy(name).escape_debug().to_string())
            }),
            // By another name it has been met.
            Kind::File(_) if self.files.contains_key(&id) => Ok(()),
            Kind::File(content) => {
                let (run, rest) = (self.runs.len(), content.size() % BLOCK as u64);
                let whole = Piece { id, content, from: 0, size: content.size() - rest };
                if whole.size > 0 {
                    self.runs.push(Run::Whole(whole));
                }
                let end = (rest > 0).then(|| self.share(Piece { from: whole.size, size: rest, ..whole }));
                self.files.insert(id, (run, end));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The end of a file goes into a block with others: which, and where in it.
    fn share(&mut self, end: Piece<'a>) -> (u32, u32) {
        if self.filled + end.size > BLOCK as u64 {
            self.close();
        }
        let place = (self.fragments, self.filled as u32);
        self.filled += end.size;
        self.open.push(end);
        place
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.runs.push(Run::Ends(std::mem::take(&mut self.open)));
            self.filled = 0;
            self.fragments += 1;
        }
    }

    /// What is to be done, with the number of the run that it is of.
    fn jobs(&self) -> impl Iterator<Item = (usize, Job<'_>)> + Clone {
        self.runs.iter().enumerate().flat_map(|(number, run)| {
            let (whole, ends) = match run {
                Run::Whole(piece) => (Some(piece.cut()), None),
                Run::Ends(ends) => (None, Some(Job::Ends(ends))),
            };
            whole.into_iter().flatten().map(Job::Whole).chain(ends).map(move |job| (number, job))
        })
    }
}

impl Piece<'_> {
    /// As much of it at a time as is read at once.
    fn cut(self) -> impl Iterator<Item = Self> + Clone {
        (0..self.size.div_ceil(AT_ONCE)).map(move |number| {
            let from = number * AT_ONCE;
            Self { from: self.from + from, size: AT_ONCE.min(self.size - from), ..self }
        })
    }

    /// Hands it out in blocks.
    fn read(&self, block: &mut [u8], mut each: impl FnMut(&[u8])) -> Result<(), Error> {
        let mut from = self.content.open_at(self.from)?;
        let mut left = self.size;
        while left > 0 {
            let count = left.min(block.len() as u64);
            let room = &mut block[..count as usize];
            from.read_exact(room).map_err(|error| match error.kind() {
                std::io::ErrorKind::UnexpectedEof => Error::invalid("became shorter while it was read"),
                _ => Error::io("read(content)", &error),
            })?;
            each(room);
            left -= count;
        }
        Ok(())
    }
}

impl Job<'_> {
    fn pack(self, tree: &Tree, compression: Compression, spare: &Spare) -> Result<Packed, Error> {
        let mut packed = Packed { bytes: spare.take(0), words: Vec::new(), read: 0 };
        let mut block = spare.take(BLOCK);
        match self {
            Self::Whole(piece) => piece
                .read(&mut block, |block| {
                    if block.iter().all(|byte| *byte == 0) {
                        packed.words.push(0);
                    } else {
                        packed.add(block, compression);
                    }
                    packed.read += block.len() as u64;
                })
                .doing(|| tree.path(piece.id))?,
            Self::Ends(ends) => {
                let mut room = block.as_mut_slice();
                for end in ends {
                    let (here, rest) = room.split_at_mut(end.size as usize);
                    end.read(here, |_| ()).doing(|| tree.path(end.id))?;
                    packed.read += end.size;
                    room = rest;
                }
                let filled = BLOCK - room.len();
                packed.add(&block[..filled], compression);
            }
        }
        spare.give(block);
        Ok(packed)
    }
}

impl Packed {
    fn add(&mut self, block: &[u8], compression: Compression) {
        if let Some(packed) = pack(compression, block) {
            self.words.push(packed.len() as u32);
            self.bytes.extend(packed);
        } else {
            self.words.push(block.len() as u32 | PLAIN);
            self.bytes.extend(block);
        }
    }
}
