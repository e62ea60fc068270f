//! What went wrong with a package.

use std::fmt;
use std::path::Path;

use sys::{Errno, Failed};

/// One failure: what to do about it, and the path from the wish to its cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: Kind,
    text: String,
}

/// What to do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Get the package anew: its bytes are not what they were when it was made, or never were a package.
    Damaged,
    /// Choose another name.
    Exists,
    /// Make room.
    Full,
    /// Begin again: whoever asked for it has taken that back.
    Interrupted,
    /// Correct what was given.
    Invalid,
    /// See what the kernel says; its number, where it said one.
    Kernel(Option<Errno>),
    /// Raise this limit, if what exceeds it is meant: `max-bytes` or `max-files` of [`Limits`](crate::Limits).
    Limit(&'static str),
    /// Name one that is there.
    NotFound,
    /// Do not trust it: nobody whose key was given has signed this.
    Untrusted,
    /// It is meant well, and nothing here carries it out.
    Unsupported,
}

impl Error {
    /// A failure in words.
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    pub(crate) fn damaged(text: impl Into<String>) -> Self {
        Self::new(Kind::Damaged, text)
    }

    pub(crate) fn invalid(text: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, text)
    }

    pub(crate) fn unsupported(text: impl Into<String>) -> Self {
        Self::new(Kind::Unsupported, text)
    }

    pub(crate) fn untrusted(text: impl Into<String>) -> Self {
        Self::new(Kind::Untrusted, text)
    }

    /// What the standard library says of a call on a file.
    pub fn io(call: impl Into<String>, error: &std::io::Error) -> Self {
        Failed::io(call, error).into()
    }

    /// The same of a call on a path: `open("/a/b")`.
    pub fn on_path(call: &str, path: &Path, error: &std::io::Error) -> Self {
        Self::io(format!("{call}({})", shown(path)), error)
    }

    /// What to do about it.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The same, as one step of something larger.
    #[must_use]
    pub fn while_doing(mut self, what: &str) -> Self {
        self.text = format!("{what}: {}", self.text);
        self
    }
}

/// A path in quotes, on one line.
pub(crate) fn shown(path: &Path) -> String {
    spec::quoted(&path.to_string_lossy())
}

/// Names what a failed step was part of.
pub(crate) trait Doing<T> {
    fn doing<S: AsRef<str>>(self, what: impl FnOnce() -> S) -> Result<T, Error>;
}

impl<T> Doing<T> for Result<T, Error> {
    fn doing<S: AsRef<str>>(self, what: impl FnOnce() -> S) -> Result<T, Error> {
        self.map_err(|error| error.while_doing(what().as_ref()))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&self.text)
    }
}

impl std::error::Error for Error {}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        Self::new(Kind::Kernel(failed.errno()), failed.to_string())
    }
}
