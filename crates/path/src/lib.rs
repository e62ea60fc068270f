//! The two audited ways to a file: [`Root`], from which no link leads out, and [`Procfs`], which nobody can redirect.
//!
//! Touches: the directory handles it is given, and /proc of the host.
//! Never:   hands out a path; follows a link out of a root; trusts a file system by its name.
//! Begin with [`Root::resolve`].

mod mounts;
mod procfs;
mod root;
mod walk;

pub use mounts::{mount_points, unescape};
pub use procfs::{Procfs, open_host};
pub use root::{Root, Wanted, split};
