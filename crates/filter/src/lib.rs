//! Filters that the kernel runs: device rules compiled to eBPF, seccomp profiles to classic BPF.
//!
//! Touches: nothing; rules come in, instructions go out.
//! Never:   loads a program, asks the host which kernel it is.
//! Begin with [`device::List`] and [`seccomp::compile`].

pub mod device;
pub mod seccomp;
