//! Filters that the kernel runs: device rules compiled to eBPF.
//!
//! Touches: nothing; rules come in, instructions go out.
//! Never:   loads a program, asks the host which kernel it is.
//! Begin with [`device::List`].

pub mod device;
