//! Command lines as data: what a program takes, and from that its help, its completion and its manual.
//!
//! Touches: nothing; tables in, text out.
//! Never:   reads a command line for its program: what a word means there is the program's.
//! Begin with [`Table`].

pub mod complete;
mod help;
pub mod signal;

use complete::Wanted;

/// A program as it is typed: flags, commands and the flags of those.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// The name that is typed.
    pub program: &'static str,
    /// What it does, in a few words.
    pub about: &'static str,
    /// The flags that stand before the command.
    pub global: &'static [Flag],
    /// The commands.
    pub verbs: &'static [Verb],
    /// What the argument of a command may be, by its number from 0 on.
    pub argument: fn(&'static Verb, usize) -> Wanted,
}

impl Table {
    /// The command of this name.
    pub fn find(&self, name: &str) -> Option<&'static Verb> {
        self.verbs.iter().find(|verb| verb.name == name)
    }
}

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
    pub const fn switch(long: &'static str, help: &'static str) -> Self {
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

    /// A flag with a text.
    pub const fn text(long: &'static str, value: &'static str, help: &'static str) -> Self {
        Self { takes: Takes::Text(value), ..Self::switch(long, help) }
    }

    /// A flag with the name of a file; `DIR` as its word is a directory.
    pub const fn path(long: &'static str, value: &'static str, help: &'static str) -> Self {
        Self { takes: Takes::Path(value), ..Self::switch(long, help) }
    }

    /// A flag with a number.
    pub const fn number(long: &'static str, value: &'static str, help: &'static str) -> Self {
        Self { takes: Takes::Number(value), ..Self::switch(long, help) }
    }

    /// With a letter that means the same.
    #[must_use]
    pub const fn short(self, short: char) -> Self {
        Self { short: Some(short), ..self }
    }

    /// Every occurrence counts.
    #[must_use]
    pub const fn repeated(self) -> Self {
        Self { repeats: true, ..self }
    }

    /// Accepted, and not told.
    #[must_use]
    pub const fn hidden(self) -> Self {
        Self { hidden: true, ..self }
    }

    /// Refused by its name.
    #[must_use]
    pub const fn unbuilt(self) -> Self {
        Self { unbuilt: true, ..self }
    }

    /// With what holds without it.
    #[must_use]
    pub const fn default(self, default: &'static str) -> Self {
        Self { default, ..self }
    }

    /// With the words that its value may be.
    #[must_use]
    pub const fn words(self, words: &'static [&'static str]) -> Self {
        Self { words, ..self }
    }

    /// Whether it is meant by this name, without the dashes.
    pub fn is_named(&self, name: &[u8]) -> bool {
        if self.long.as_bytes() == name {
            return true;
        }
        let mut buffer = [0; 4];
        self.short.is_some_and(|short| short.encode_utf8(&mut buffer).as_bytes() == name)
    }
}

impl Verb {
    /// What every program with commands has: its completion, in the words of a shell.
    pub const COMPLETION: Self = Self {
        long: "\
The script goes where the shell looks for such; \"make install\" puts it there. It asks this program
what may be typed next: with WORDS, those after the program's name, that is what is printed.",
        most: None,
        stops: true,
        ..Self::new(
            "completion",
            "SHELL [-- WORDS]",
            1,
            "print what completes command lines in bash, fish or zsh",
        )
    };

    /// A command with `arguments` of them, no more and no fewer, and without flags.
    pub const fn new(name: &'static str, usage: &'static str, arguments: usize, about: &'static str) -> Self {
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
}

/// What every command has, and the program itself.
pub const HELP: Flag = Flag::switch("help", "print this text").short('h');
