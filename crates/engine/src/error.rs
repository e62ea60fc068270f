//! What went wrong, and what a door makes of it.

use std::fmt;

use sys::Failed;

/// A failure: the path from the wish to the call, as the rooms below tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: Kind,
    text: String,
}

/// What to do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Choose another id.
    Exists,
    /// Correct what was given.
    Invalid,
    /// There is none.
    NotFound,
    /// The task is not in the state for this.
    State,
    /// See what it says.
    Other,
}

impl Error {
    /// A failure in words.
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    /// What to do about it.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The same, with what went wrong after it.
    pub(crate) fn and_then(mut self, second: &Failed) -> Self {
        self.text = format!("{}; then {second}", self.text);
        self
    }

    /// As a worker says it: a letter for the kind before the text.
    pub(crate) fn said(&self) -> String {
        let letter = KINDS.iter().find(|(_, kind)| *kind == self.kind).map_or('o', |(letter, _)| *letter);
        format!("{letter}{}", self.text)
    }

    /// The same from what was said.
    pub(crate) fn heard(said: &str) -> Self {
        let mut letters = said.chars();
        let letter = letters.next();
        let kind =
            KINDS.iter().find(|(known, _)| Some(*known) == letter).map_or(Kind::Other, |(_, kind)| *kind);
        Self::new(kind, letters.as_str())
    }
}

const KINDS: [(char, Kind); 5] = [
    ('e', Kind::Exists),
    ('i', Kind::Invalid),
    ('n', Kind::NotFound),
    ('s', Kind::State),
    ('o', Kind::Other),
];

impl fmt::Display for Error {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&self.text)
    }
}

impl std::error::Error for Error {}

impl From<container::Error> for Error {
    fn from(error: container::Error) -> Self {
        let kind = match error.kind() {
            container::Kind::Exists => Kind::Exists,
            container::Kind::Invalid => Kind::Invalid,
            container::Kind::NotFound => Kind::NotFound,
            container::Kind::State => Kind::State,
            _ => Kind::Other,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        Self::new(Kind::Other, failed.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_heard() {
        for (_, kind) in KINDS {
            let error = Error::new(kind, "mount proc: é");
            assert_eq!(Error::heard(&error.said()), error);
        }
        assert_eq!(Error::heard(""), Error::new(Kind::Other, ""));
    }
}
