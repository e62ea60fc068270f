//! The console protocol of Northstar 0.9 in words: messages as lines of JSON and back, permissions, tokens.
//!
//! Touches: nothing: bytes come in, bytes go out; a token is given its key and its time.
//! Never:   says a word that the published client does not know.
//! Begin with [`Message::read`] and [`Message::line`].
//!
//! Every message is one JSON value on one line. A client begins with [`Connect`], and then sends requests, which are answered
//! one after the other; notifications come in between.

mod address;
mod bytes;
mod container;
mod error;
mod message;
mod notification;
mod permission;
mod request;
mod response;
mod token;

pub use address::{Address, NoAddress};
pub use bytes::{Bytes, NoBase64};
pub use container::{Container, Name, Unnamed};
pub use error::Error;
pub use message::{Connect, Malformed, Message, Nack};
pub use notification::{Memory, Notification, Pressed, Pressure, Status};
pub use permission::{Permission, Permissions};
pub use request::{Request, Start};
pub use response::{Data, Inspected, Installed, Outcome, Process, Response};
pub use semver::Version;
pub use token::{Key, Maker, NoToken, Token, Verdict};

/// The version of the protocol that is spoken here.
pub const VERSION: Version = Version::new(0, 9, 2);

/// Whether a client of this version is understood: those of 0.9.0 and later are, pre-releases like the release to come.
pub fn is_understood(version: &Version) -> bool {
    (version.major, version.minor) >= (VERSION.major, VERSION.minor)
}
