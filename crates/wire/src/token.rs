//! Tokens: how one container shows another who it is.
//!
//! Both share some bytes. The one has a token made for the other, and hands it over; the other has it looked at. What is in
//! a token says nothing to either: when it was made, and a code over that, over both names and over the shared bytes,
//! under a key that never leaves the daemon.

use std::fmt;
use std::time::Duration;

use base64ct::{Base64, Encoding as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::container::Name;

/// 40 bytes: when it was made, in seconds, and the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Token([u8; 40]);

/// What the daemon makes of a token that it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It is good.
    Ok,
    /// It was not made here, or between others, or over other bytes.
    Invalid,
    /// It was made here, too long ago.
    Expired,
    /// It was made here, and later than now.
    Future,
}

/// What codes are made with: 32 random bytes, new with every start of the daemon.
pub struct Key([u8; 32]);

/// Who, for whom, and over what.
#[derive(Clone, Copy, Debug)]
pub struct Maker<'a> {
    /// Who has it made.
    pub user: &'a Name,
    /// Whom it is shown to.
    pub target: &'a Name,
    /// What both know.
    pub shared: &'a [u8],
}

/// A text that is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoToken;

impl Key {
    /// A key of these bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Makes a token. `now` is on any clock that never goes back; its whole seconds count.
    pub fn create(&self, now: Duration, maker: &Maker<'_>) -> Token {
        let mut token = [0; 40];
        token[..8].copy_from_slice(&now.as_secs().to_be_bytes());
        token[8..].copy_from_slice(&self.code(now.as_secs(), maker).finalize().into_bytes());
        Token(token)
    }

    /// Looks at a token. The reference looks at the time first, and so tells whoever forges one when its clock began; here
    /// what was not made by this key is invalid, whatever time it claims.
    pub fn verify(&self, now: Duration, validity: Duration, token: &Token, maker: &Maker<'_>) -> Verdict {
        let Some((time, code)) = token.0.split_first_chunk() else { return Verdict::Invalid };
        let time = u64::from_be_bytes(*time);
        if self.code(time, maker).verify_slice(code).is_err() {
            return Verdict::Invalid;
        }
        match now.as_secs().checked_sub(time) {
            None => Verdict::Future,
            Some(age) if Duration::from_secs(age) > validity => Verdict::Expired,
            Some(_) => Verdict::Ok,
        }
    }

    /// The code over the time, in milliseconds, and over the codes of all else: so that no two triples run together to the
    /// same bytes.
    fn code(&self, seconds: u64, maker: &Maker<'_>) -> Hmac<Sha256> {
        let Maker { user, target, shared } = *maker;
        let mut code = self.begin();
        code.update(&(u128::from(seconds) * 1000).to_be_bytes());
        for part in [user.as_str().as_bytes(), target.as_str().as_bytes(), shared] {
            code.update(&self.begin().chain_update(part).finalize().into_bytes());
        }
        code
    }

    fn begin(&self) -> Hmac<Sha256> {
        // A key that is shorter than a block is filled with zeroes, as RFC 2104 has it.
        let mut block = [0; 64];
        block[..32].copy_from_slice(&self.0);
        Hmac::new(&block.into())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("Key")
    }
}

impl TryFrom<String> for Token {
    type Error = NoToken;

    fn try_from(text: String) -> Result<Self, NoToken> {
        let mut token = [0; 40];
        match Base64::decode(&text, &mut token) {
            Ok(bytes) if bytes.len() == 40 => Ok(Self(token)),
            _ => Err(NoToken),
        }
    }
}

impl From<Token> for String {
    fn from(token: Token) -> Self {
        Base64::encode_string(&token.0)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&String::from(*self))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, to)
    }
}

impl fmt::Display for NoToken {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("no token: base64 of 40 bytes is due")
    }
}
