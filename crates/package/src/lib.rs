//! Packages: a program's files, what it may do, and the signature over both, in one file of Northstar's format.
//!
//! Touches: the files and directories it is given; loop devices and the device mapper; /etc/group.
//! Never:   believes a length, an offset or a hash out of a package before it is checked; starts a thread, but while it packs.
//! Begin with [`Package::read`], [`Draft::begin`] to write one, or [`repository::Repository`] to keep many.

pub mod compose;
mod crew;
mod directory;
pub mod erofs;
mod error;
mod field;
pub mod image;
mod key;
mod limits;
mod manifest;
pub mod mount;
mod npk;
pub mod oci;
pub mod places;
pub mod repository;
mod signature;
mod size;
mod source;
pub mod squashfs;
pub mod tree;
pub mod unpack;
pub mod verity;
mod version;
mod yaml;
mod zip;

pub use error::{Error, Kind};
pub use key::{PublicKey, SecretKey, generate_pair};
pub use limits::Limits;
pub use manifest::{
    Allowed, Autostart, Cgroups, Io, Manifest, Mount, Network, Options, Output, Places, RESERVED, Restart,
    Seccomp, Selinux, Socket, Stop, Upkeep, When,
};
pub use npk::{Draft, Package, Seal, Verity};
pub use signature::Hashes;
pub use size::size;
pub use source::Source;
pub use version::Version;
