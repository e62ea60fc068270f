//! The command line: what Docker, Podman and people call in place of runc.
//!
//! Touches: its arguments, the log file that `--log` names, and the standard streams.
//! Never:   enters a container, or decides what the engine below may decide.
//! Begin with [`invocation::Invocation`], and [`flags`] for the table that it is read by.
//!
//! A library beside its program, so that what writes man pages and completions reads the table that parses.

pub mod activation;
pub mod check;
pub mod command;
pub mod complete;
pub mod figures;
pub mod flags;
pub mod invocation;
pub mod list;
pub mod log;
pub mod manager;
pub mod ps;
pub mod root;
