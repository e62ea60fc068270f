//! The OCI runtime specification's documents, parsed into what cannot be wrong.
//!
//! Touches: nothing; bytes come in, values go out.
//! Never:   reads a file, asks the host, decides what a field means for the kernel.
//! Begin with [`Spec::parse`], then [`Spec::check`].

mod agent;
mod capability;
mod check;
mod config;
mod error;
mod features;
mod numbers;
mod options;
mod parse;
mod pretty;
mod state;
mod strict;
mod sysctl;
mod template;

pub use agent::ProcessState;
pub use capability::{CAPABILITIES, capability};
pub use config::*;
pub use error::{Invalid, quoted, step, tame};
pub use features::*;
pub use numbers::numbers;
pub use options::*;
pub use state::{Report, State, Status};
pub use sysctl::sysctl_path;
pub use template::VERSION;
