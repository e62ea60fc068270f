//! D-Bus in words: values, messages, addresses and the greeting, as bytes and back. Of the specification 0.43 it is what a
//! client needs that calls methods and hears signals; descriptors are not passed.
//!
//! Touches: nothing.
//! Never:   panics, or makes more of a message than its bytes are worth, whatever they say.
//! Begin with [`Message::call`] and [`Message::decode`].

mod address;
mod greeting;
mod message;
mod read;
mod signature;
mod value;
mod write;

use std::fmt;

pub use address::{Address, addresses};
pub use greeting::{answered, greeting};
pub use message::{Kind, LARGEST, Message};
pub use value::Value;

/// Bytes or words that are none of D-Bus, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed(&'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(self.0)
    }
}

impl std::error::Error for Malformed {}
