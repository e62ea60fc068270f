//! The command line for packages: the table that it is read by, for the program and for what makes its manual.
//!
//! Touches: nothing.
//! Never:   does what was typed: that is the program's.
//! Begin with [`flags::TABLE`].

pub mod flags;
