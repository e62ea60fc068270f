//! One table of commands and flags: what is parsed, what `--help` prints, what man pages and completions say.
//!
//! The parser takes what runc's takes: long names after one dash or two, a value after `=` or as the next
//! argument, `--` as the end of flags. Begin with [`TABLE`] and [`Given::read`].

mod given;
mod table;

pub use given::{Given, Misuse};
pub(crate) use given::{boolean, text};
pub use table::{GLOBAL, TABLE, VERBS};
pub use usage::{Flag, HELP, Takes, Verb};

/// The version of the runtime specification that is spoken.
const SPEC: &str = "1.3.0";

/// What `--version` prints; dockerd reads the words before the values.
pub fn version() -> String {
    let commit =
        option_env!("COFFERDAM_COMMIT").map(|commit| format!("commit: {commit}\n")).unwrap_or_default();
    format!("cofferdam version {}\n{commit}spec: {SPEC}\n", env!("CARGO_PKG_VERSION"))
}

/// What `cofferdam --help` prints.
pub fn of_program() -> String {
    TABLE.help()
}

/// What `cofferdam COMMAND --help` prints.
pub fn of_verb(verb: &Verb) -> String {
    TABLE.help_of(verb)
}

#[cfg(test)]
mod tests;
