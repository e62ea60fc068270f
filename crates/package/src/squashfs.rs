//! squashfs 4.0, the image of a package: written here; read by the kernel where a package runs, and here where it is unpacked.
//!
//! Our own, because the library that there is (backhand 0.25) stores neither extended attributes nor hard links, and an
//! image of Docker's has both: file capabilities are attributes. What is written depends on the tree alone, so the same
//! tree is the same bytes, by any number of threads; what they compress with is the zlib that the house has already.
//!
//! The layout is that of the kernel's Documentation/filesystems/squashfs.rst: superblock, data with fragments, inodes,
//! directories, and the tables of fragments, owners and attributes, all but the data in blocks of 8 KiB.
#![allow(
    clippy::cast_possible_truncation,
    reason = "the format's fields are narrow; what may not fit is checked first"
)]

mod contents;
mod directory;
mod meta;
mod names;
mod read;
mod stream;
mod write;

pub use names::Names;
pub(crate) use read::MAGIC;
pub use read::{Image, Listing, Stored};
pub use write::{Compression, write};
