//! The ground: kernel calls that rustix lacks, handle types, and the failed call as an error.
//!
//! Touches: the kernel, through the descriptors and numbers it is given.
//! Never:   decides anything; remembers anything; starts a thread.
//! Begin with [`Failed`].
//!
//! This is the only crate with `unsafe` in it: raw system calls take pointers and return descriptors that
//! somebody must own, and no safe interface exists for those that stand here.
#![allow(unsafe_code)]

mod error;

pub use error::{Called, Doing, Failed};
pub use rustix::io::Errno;
