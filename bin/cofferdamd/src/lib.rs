//! What may be typed, for the program and for its manual.

pub mod flags;
