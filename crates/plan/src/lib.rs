//! What will be done, as data.
//!
//! Touches: nothing.
//! Never:   opens a file, asks for the time, makes a system call.
//! Begin with [`cgroup::compile`].

pub mod cgroup;
pub mod resources;
