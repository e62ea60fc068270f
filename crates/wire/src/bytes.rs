//! Bytes in a message: base64 with its padding.

use std::fmt;

use base64ct::{Base64, Encoding as _};
use serde::{Deserialize, Serialize};

/// Bytes that both sides of a token know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bytes(pub Vec<u8>);

/// A text that is not base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoBase64;

impl TryFrom<String> for Bytes {
    type Error = NoBase64;

    fn try_from(text: String) -> Result<Self, NoBase64> {
        Base64::decode_vec(&text).map(Self).map_err(|_| NoBase64)
    }
}

impl From<Bytes> for String {
    fn from(bytes: Bytes) -> Self {
        Base64::encode_string(&bytes.0)
    }
}

impl fmt::Display for NoBase64 {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("no base64")
    }
}
