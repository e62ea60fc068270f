//! What went wrong with a container.

use std::fmt;

use plan::Refused;
use spec::Invalid;
use sys::{Errno, Failed};

/// One failure: what to do about it, and the path from the wish to the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: Kind,
    text: String,
}

/// What to do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Choose another id.
    Exists,
    /// See what the hook says.
    Hook,
    /// Correct what was given.
    Invalid,
    /// See what the kernel says; its number, where it said one.
    Kernel(Option<Errno>),
    /// There is none.
    NotFound,
    /// The program could not be executed.
    Program,
    /// The container is not in the state for this.
    State,
}

impl Error {
    /// A failure in words.
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    pub(crate) fn not_found() -> Self {
        Self::new(Kind::NotFound, "container does not exist")
    }

    pub(crate) fn state(text: impl Into<String>) -> Self {
        Self::new(Kind::State, text)
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

    /// The same, with what went wrong after it.
    pub(crate) fn and_then(mut self, second: &Self) -> Self {
        self.text = format!("{}; then {second}", self.text);
        self
    }

    /// The same, with what could not be undone after it.
    #[must_use]
    pub fn and_left(mut self, left: &[Failed]) -> Self {
        for failed in left {
            self.text = format!("{}; undoing it: {failed}", self.text);
        }
        self
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

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        Self::new(Kind::Invalid, refused.to_string())
    }
}

impl From<Invalid> for Error {
    fn from(invalid: Invalid) -> Self {
        Self::new(Kind::Invalid, format!("config.json: {invalid}"))
    }
}

impl From<state::Error> for Error {
    fn from(error: state::Error) -> Self {
        match error {
            state::Error::Exists => Self::new(Kind::Exists, error.to_string()),
            state::Error::NotFound => Self::not_found(),
            state::Error::Failed(failed) => failed.into(),
            unreadable => Self::new(Kind::Invalid, unreadable.to_string()),
        }
    }
}
