//! What the arguments of our commands may be; the rest of completion is the table's.

use usage::complete::{Shell, Wanted, Word};
use usage::{Verb, signal};

use crate::flags::TABLE;

/// The argument of a command, by the word that stands for it in the usage line.
pub(crate) fn argument(verb: &'static Verb, count: usize) -> Wanted {
    match (verb.name, count) {
        ("completion", 0) => Wanted::of_words(Shell::NAMES),
        ("help", 0) => Wanted::verbs(&TABLE),
        ("kill", 1) => Wanted::Words(
            signal::names().map(|name| Word { word: name.to_owned(), told: "signal" }).collect(),
        ),
        ("plan", 0) => Wanted::Directory,
        // These give the id.
        ("create" | "run" | "restore", _) => Wanted::nothing(),
        (_, 0) if verb.usage.starts_with("ID") => Wanted::Container { root: None },
        _ => Wanted::nothing(),
    }
}

#[cfg(test)]
mod tests;
