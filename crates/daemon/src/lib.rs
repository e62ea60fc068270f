//! The device daemon: packages installed, started, supervised; the console.
//!
//! Two processes: the guard, which may do everything and knows few words, and the talker, which may do nothing and talks
//! to the world. [`words`] is all that they say to each other.

pub mod actor;
pub mod config;
pub mod console;
pub mod guard;
pub mod log;
mod race;
pub mod talk;
pub mod words;
