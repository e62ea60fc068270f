//! From the words as typed to the flags of the table, in the order they were given.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use super::{Flag, HELP, Takes, Verb};

/// What was given: flags in their order, and the words that are none.
#[derive(Debug)]
pub struct Given {
    known: &'static [Flag],
    flags: Vec<(&'static Flag, Value)>,
    words: Vec<OsString>,
    help: bool,
    ended: bool,
}

#[derive(Debug)]
enum Value {
    Switch(bool),
    Text(String),
    Path(OsString),
    Number(i64),
}

/// The command line was not understood, or asks for what is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misuse {
    told: String,
    /// What may help, for a second line.
    pub hint: Option<String>,
    /// The exit status.
    pub status: u8,
}

impl Given {
    /// Takes the flags that stand before the first word, and leaves that word and all after it in `arguments`.
    pub fn leading(
        known: &'static [Flag],
        arguments: &mut impl Iterator<Item = OsString>,
    ) -> (Self, Option<OsString>, Result<(), Misuse>) {
        let mut given = Self { known, flags: Vec::new(), words: Vec::new(), help: false, ended: false };
        while let Some(argument) = arguments.next() {
            match kind(&argument) {
                Kind::End => {
                    given.ended = true;
                    return (given, arguments.next(), Ok(()));
                }
                Kind::Word => return (given, Some(argument), Ok(())),
                Kind::Bad => {
                    let shown = argument.to_string_lossy();
                    let misuse = Misuse::new(format!("bad flag syntax: {shown}"));
                    return (given, None, Err(misuse));
                }
                Kind::Flag { name, value } => {
                    if let Err(misuse) = given.take(name, value, arguments) {
                        return (given, None, Err(misuse));
                    }
                }
            }
        }
        (given, None, Ok(()))
    }

    /// Takes everything that follows the name of the command.
    ///
    /// Flags may follow the words, as runc has it (`delete web1 --force`): after the first word, what is
    /// not in the table is a word itself, so that `kill web1 -9` reaches the parser of signals. Where runc
    /// 1.1 also gives up at a word right after a switch (`run -d web1 --bundle b`), this goes on.
    pub fn read(verb: &'static Verb, mut arguments: impl Iterator<Item = OsString>) -> Result<Self, Misuse> {
        let (mut given, first, outcome) = Self::leading(verb.flags, &mut arguments);
        outcome?;
        let Some(first) = first else { return Ok(given) };
        given.words.push(first);
        let mut ended = given.ended || verb.stops;
        while let Some(argument) = arguments.next() {
            match kind(&argument) {
                Kind::Flag { name, value } if !ended && given.find(name).is_some() => {
                    given.take(name, value, &mut arguments)?;
                }
                Kind::End if !ended => ended = true,
                _ => given.words.push(argument),
            }
        }
        Ok(given)
    }

    fn find(&self, name: &[u8]) -> Option<&'static Flag> {
        self.known.iter().chain([&HELP]).find(|flag| flag.is_named(name))
    }

    fn take(
        &mut self,
        name: &[u8],
        value: Option<&[u8]>,
        rest: &mut impl Iterator<Item = OsString>,
    ) -> Result<(), Misuse> {
        // One dash, however many were typed: runc's words, which callers match.
        let shown = String::from_utf8_lossy(name);
        let Some(flag) = self.find(name) else {
            return Err(Misuse::new(format!("flag provided but not defined: -{shown}")));
        };
        let value = match (flag.takes, value) {
            (Takes::Nothing, None) => Value::Switch(true),
            (Takes::Nothing, Some(value)) => Value::Switch(boolean(value).ok_or_else(|| {
                let value = String::from_utf8_lossy(value);
                Misuse::new(format!("invalid boolean value {value:?} for -{shown}: parse error"))
            })?),
            (takes, Some(value)) => typed(takes, &shown, OsStr::from_bytes(value).to_owned())?,
            (takes, None) => match rest.next() {
                Some(value) => typed(takes, &shown, value)?,
                None => return Err(Misuse::new(format!("flag needs an argument: -{shown}"))),
            },
        };
        if flag.long == HELP.long {
            self.help = matches!(value, Value::Switch(true));
        }
        self.flags.push((flag, value));
        Ok(())
    }

    /// Whether `--help` was asked for.
    pub fn is_help(&self) -> bool {
        self.help
    }

    /// The first flag given that nothing here carries out yet.
    pub fn unbuilt(&self) -> Option<&'static Flag> {
        self.flags.iter().map(|(flag, _)| *flag).find(|flag| flag.unbuilt)
    }

    /// The names of the flags given, in their order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.flags.iter().map(|(flag, _)| flag.long)
    }

    /// The words that are no flags.
    pub fn words(&mut self) -> Vec<OsString> {
        std::mem::take(&mut self.words)
    }

    /// How many words there are.
    pub fn count(&self) -> usize {
        self.words.len()
    }

    /// Whether the switch `long` is on.
    pub fn is_on(&self, long: &str) -> bool {
        matches!(self.last(long), Some(Value::Switch(true)))
    }

    /// What the switch `long` was last set to; none where it was not given.
    pub fn switch(&self, long: &str) -> Option<bool> {
        match self.last(long) {
            Some(Value::Switch(is_on)) => Some(*is_on),
            _ => None,
        }
    }

    /// Every number given for `long`, in order.
    pub fn numbers(&self, long: &str) -> impl Iterator<Item = i64> {
        self.all(long)
            .filter_map(|value| if let Value::Number(number) = value { Some(*number) } else { None })
    }

    /// The last text given for `long`.
    pub fn text(&self, long: &str) -> Option<&str> {
        match self.last(long) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The last number given for `long`.
    pub fn number(&self, long: &str) -> Option<i64> {
        match self.last(long) {
            Some(Value::Number(number)) => Some(*number),
            _ => None,
        }
    }

    /// The last path given for `long`; an empty one is as good as none.
    pub fn path(&self, long: &str) -> Option<PathBuf> {
        match self.last(long) {
            Some(Value::Path(path)) if !path.is_empty() => Some(path.into()),
            _ => None,
        }
    }

    /// Every text given for `long`, in order.
    pub fn texts(&self, long: &str) -> impl Iterator<Item = &str> {
        self.all(long)
            .filter_map(|value| if let Value::Text(text) = value { Some(text.as_str()) } else { None })
    }

    /// Every path given for `long`, in order.
    pub fn paths(&self, long: &str) -> impl Iterator<Item = &OsStr> {
        self.all(long)
            .filter_map(|value| if let Value::Path(path) = value { Some(path.as_os_str()) } else { None })
    }

    fn last(&self, long: &str) -> Option<&Value> {
        debug_assert!(self.known.iter().any(|flag| flag.long == long), "--{long} is not in the table");
        self.flags.iter().rev().find(|(flag, _)| flag.long == long).map(|(_, value)| value)
    }

    fn all(&self, long: &str) -> impl Iterator<Item = &Value> {
        debug_assert!(self.known.iter().any(|flag| flag.long == long), "--{long} is not in the table");
        self.flags.iter().filter(move |(flag, _)| flag.long == long).map(|(_, value)| value)
    }
}

impl Misuse {
    /// A misuse that ends with status 1.
    pub fn new(told: impl Into<String>) -> Self {
        Self { told: told.into(), hint: None, status: 1 }
    }

    /// The same, with a line that may help.
    #[must_use]
    pub fn hinting(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The same, ending with another status.
    #[must_use]
    pub fn exiting(self, status: u8) -> Self {
        Self { status, ..self }
    }

    /// What was asked for will come, and is not there yet.
    pub fn unbuilt(what: impl fmt::Display) -> Self {
        Self::new(format!("{what}: not built yet, see docs/roadmap.md"))
    }
}

impl fmt::Display for Misuse {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&self.told)
    }
}

impl std::error::Error for Misuse {}

enum Kind<'a> {
    Bad,
    End,
    Flag { name: &'a [u8], value: Option<&'a [u8]> },
    Word,
}

fn kind(argument: &OsStr) -> Kind<'_> {
    let bytes = argument.as_bytes();
    let body = match bytes {
        b"--" => return Kind::End,
        [b'-', b'-', body @ ..] | [b'-', body @ ..] if !body.is_empty() => body,
        _ => return Kind::Word,
    };
    if let [b'-' | b'=', ..] = body {
        return Kind::Bad;
    }
    let mut parts = body.splitn(2, |byte| *byte == b'=');
    Kind::Flag { name: parts.next().unwrap_or_default(), value: parts.next() }
}

fn typed(takes: Takes, shown: &str, value: OsString) -> Result<Value, Misuse> {
    if let Takes::Path(_) = takes {
        return Ok(Value::Path(value));
    }
    let text = text(value).map_err(|misuse| Misuse::new(format!("-{shown}: {misuse}")))?;
    if let Takes::Number(_) = takes {
        return match number(&text) {
            Ok(number) => Ok(Value::Number(number)),
            Err(why) => Err(Misuse::new(format!("invalid value {text:?} for flag -{shown}: {why}"))),
        };
    }
    Ok(Value::Text(text))
}

/// Text, where a path's liberty would end up in a JSON document that cannot hold it.
pub(crate) fn text(word: OsString) -> Result<String, Misuse> {
    String::from_utf8(word.into_vec())
        .map_err(|error| Misuse::new(format!("{:?} is not UTF-8", String::from_utf8_lossy(error.as_bytes()))))
}

/// What Go's flag package takes for a boolean, since callers of runc may write any of it.
pub(crate) fn boolean(value: &[u8]) -> Option<bool> {
    match value {
        b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True" => Some(true),
        b"0" | b"f" | b"F" | b"false" | b"FALSE" | b"False" => Some(false),
        _ => None,
    }
}

/// A whole number as Go's flag package takes it: with a sign, and in base 2, 8 or 16 by its prefix.
fn number(text: &str) -> Result<i64, &'static str> {
    let (sign, digits) = match text.as_bytes() {
        [b'-', ..] => ("-", text.get(1..)),
        [b'+', ..] => ("", text.get(1..)),
        _ => ("", Some(text)),
    };
    let digits = digits.unwrap_or_default();
    let lower = digits.to_ascii_lowercase();
    let (base, digits) = if let Some(digits) = lower.strip_prefix("0x") {
        (16, digits)
    } else if let Some(digits) = lower.strip_prefix("0b") {
        (2, digits)
    } else if let Some(digits) = lower.strip_prefix("0o") {
        (8, digits)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, lower.get(1..).unwrap_or_default())
    } else {
        (10, lower.as_str())
    };
    if digits.starts_with(['+', '-']) {
        return Err("parse error");
    }
    i64::from_str_radix(&format!("{sign}{digits}"), base).map_err(|error| match error.kind() {
        std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => "value out of range",
        _ => "parse error",
    })
}
