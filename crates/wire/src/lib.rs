//! The console protocol of Northstar in words: messages as JSON and back.
//!
//! Touches: nothing.
//! Never:   reads or writes: it is given bytes, and gives bytes.
