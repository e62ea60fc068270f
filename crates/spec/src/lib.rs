//! The OCI runtime specification's documents, parsed into what cannot be wrong.
//!
//! Touches: nothing; bytes come in, values go out.
//! Never:   reads a file, asks the host, decides what a field means for the kernel.
//! Begin with [`Spec::parse`], then [`Spec::check`].

mod check;
mod config;
mod error;
mod options;
mod parse;
mod strict;
mod sysctl;

pub use config::*;
pub use error::{Invalid, quoted, step};
pub use options::*;
pub use sysctl::sysctl_path;
