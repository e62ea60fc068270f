//! One table of commands and flags: what is parsed, what `--help` prints, what man pages and completions say.
//!
//! The parser takes what runc's takes: long names after one dash or two, a value after `=` or as the next
//! argument, `--` as the end of flags. Begin with [`VERBS`] and [`Given::read`].

mod given;
mod help;
mod table;

pub use given::{Given, Misuse};
pub(crate) use given::{boolean, text};
pub use help::{of_program, of_verb, version};
pub use table::{GLOBAL, VERBS};

/// A flag, as it is typed and as it is told.
#[derive(Debug, PartialEq, Eq)]
pub struct Flag {
    /// The name after the dashes.
    pub long: &'static str,
    /// One letter that means the same.
    pub short: Option<char>,
    /// What follows the name.
    pub takes: Takes,
    /// Whether every occurrence counts, and not the last one alone.
    pub repeats: bool,
    /// Whether `--help` is silent about it: accepted for the sake of old callers.
    pub hidden: bool,
    /// Whether giving it is refused, because nothing here carries it out yet.
    pub unbuilt: bool,
    /// What holds when it is not given, as `--help` tells it; empty where nothing needs telling.
    pub default: &'static str,
    /// What it is for, in a few words.
    pub help: &'static str,
    /// The words that its value may be, where these are all or the most of them; a shell offers them.
    pub words: &'static [&'static str],
}

/// What follows a flag's name, with the word that stands for it in `--help`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Nothing, or `=true` and `=false`.
    Nothing,
    /// Any text that is UTF-8.
    Text(&'static str),
    /// The name of a file, in whatever bytes.
    Path(&'static str),
    /// A whole number.
    Number(&'static str),
}

/// A command, as it is typed and as it is told.
#[derive(Debug, PartialEq, Eq)]
pub struct Verb {
    /// The first word after the global flags.
    pub name: &'static str,
    /// The arguments, as the usage line shows them.
    pub usage: &'static str,
    /// The fewest arguments it takes.
    pub least: usize,
    /// The most arguments it takes; none where there is no end.
    pub most: Option<usize>,
    /// What it does, in one line.
    pub about: &'static str,
    /// What it does, in full; empty where the one line is all there is to say.
    pub long: &'static str,
    /// Its flags, besides `--help`.
    pub flags: &'static [Flag],
    /// Whether flags end at the first argument, because what follows belongs to another program.
    pub stops: bool,
    /// Whether it is refused by name, because nothing here carries it out yet.
    pub unbuilt: bool,
    /// The exit status when it fails for another reason than how it was typed.
    pub failure: u8,
}

impl Flag {
    /// A switch.
    const fn switch(long: &'static str, help: &'static str) -> Self {
        Self {
            long,
            short: None,
            takes: Takes::Nothing,
            repeats: false,
            hidden: false,
            unbuilt: false,
            default: "",
            help,
            words: &[],
        }
    }

    const fn text(long: &'static str, value: &'static str, help: &'static str) -> Self {
        Self { takes: Takes::Text(value), ..Self::switch(long, help) }
    }

    const fn path(long: &'static str, value: &'static str, help: &'static str) -> Self {
        Self { takes: Takes::Path(value), ..Self::switch(long, help) }
    }

    const fn number(long: &'static str, value: &'static str, help: &'static str) -> Self {
        Self { takes: Takes::Number(value), ..Self::switch(long, help) }
    }

    const fn short(self, short: char) -> Self {
        Self { short: Some(short), ..self }
    }

    const fn repeated(self) -> Self {
        Self { repeats: true, ..self }
    }

    const fn hidden(self) -> Self {
        Self { hidden: true, ..self }
    }

    const fn unbuilt(self) -> Self {
        Self { unbuilt: true, ..self }
    }

    const fn default(self, default: &'static str) -> Self {
        Self { default, ..self }
    }

    const fn words(self, words: &'static [&'static str]) -> Self {
        Self { words, ..self }
    }

    pub(crate) fn is_named(&self, name: &[u8]) -> bool {
        if self.long.as_bytes() == name {
            return true;
        }
        let mut buffer = [0; 4];
        self.short.is_some_and(|short| short.encode_utf8(&mut buffer).as_bytes() == name)
    }
}

impl Verb {
    /// A command with `arguments` of them, no more and no fewer, and without flags.
    const fn new(name: &'static str, usage: &'static str, arguments: usize, about: &'static str) -> Self {
        Self {
            name,
            usage,
            least: arguments,
            most: Some(arguments),
            about,
            long: "",
            flags: &[],
            stops: false,
            unbuilt: false,
            failure: 1,
        }
    }

    /// The command of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        VERBS.iter().find(|verb| verb.name == name)
    }
}

/// What every command has, and the program itself.
pub const HELP: Flag = Flag::switch("help", "print this text").short('h');

#[cfg(test)]
mod tests;
