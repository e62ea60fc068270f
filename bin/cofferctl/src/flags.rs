//! The commands and their flags, and how they are read: long names after two dashes, a value after `=` or as the next
//! argument, `--` as the end of flags.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

/// A flag, as it is typed and as it is told.
#[derive(Debug)]
pub(crate) struct Flag {
    long: &'static str,
    short: u8,
    /// What follows it; empty where nothing does.
    value: &'static str,
    help: &'static str,
}

/// A command.
#[derive(Debug)]
pub(crate) struct Verb {
    pub(crate) name: &'static str,
    usage: &'static str,
    arguments: usize,
    about: &'static str,
    flags: &'static [Flag],
}

const fn flag(long: &'static str, short: u8, value: &'static str, help: &'static str) -> Flag {
    Flag { long, short, value, help }
}

const KEY: Flag = flag("key", b'k', "FILE", "the secret key that signs");
const PUBLIC: Flag = flag("key", b'k', "FILE", "the public key that must have signed");
const OUT: Flag =
    flag("out", b'o', "PATH", "the package, or the directory for NAME-VERSION.npk (default: here)");

pub(crate) const VERBS: &[Verb] = &[
    Verb {
        name: "pack",
        usage: "",
        arguments: 0,
        about: "make a package of a manifest and a directory",
        flags: &[
            flag("manifest-path", b'm', "FILE", "the manifest; may be missing with --from-oci"),
            flag("root", b'r', "DIR", "the files; none without it"),
            flag(
                "from-oci",
                b'i',
                "PATH",
                "the files of an image: an OCI layout, as a directory or archive, or a docker archive",
            ),
            flag("name", b'n', "NAME", "what to call an image's package (default: as the image)"),
            flag("set-version", b'V', "VERSION", "its version (default: the image's tag, or 0.0.1)"),
            flag("uid", b'u', "UID", "who runs what the image runs as root (default: 1000)"),
            flag("gid", b'g', "GID", "the group (default: 1000)"),
            KEY,
            OUT,
            flag("compression", b'c', "HOW", "gzip or none (default: gzip)"),
        ],
    },
    Verb {
        name: "run",
        usage: "PACKAGE",
        arguments: 1,
        about: "run a package in the foreground",
        flags: &[
            PUBLIC,
            flag(
                "check",
                b'c',
                "",
                "read the whole image once, where this host cannot check it block by block",
            ),
            flag("id", b'i', "ID", "what to call the container (default: the package's name)"),
            flag("data", b'd', "DIR", "where the package has a directory that persists"),
            flag("state", b's', "DIR", "where the state of containers is kept (default: /run/cofferdam)"),
        ],
    },
    Verb {
        name: "inspect",
        usage: "PACKAGE",
        arguments: 1,
        about: "print what a package says of itself",
        flags: &[flag("manifest", b'm', "", "print the manifest alone, byte for byte")],
    },
    Verb {
        name: "unpack",
        usage: "PACKAGE DIR",
        arguments: 2,
        about: "write a package's files into a directory, which is made, or there and empty",
        flags: &[PUBLIC],
    },
    Verb {
        name: "verify",
        usage: "PACKAGE",
        arguments: 1,
        about: "check a package whole: signature, manifest, every block of the image",
        flags: &[PUBLIC],
    },
    Verb {
        name: "sign",
        usage: "PACKAGE",
        arguments: 1,
        about: "make a signed package of one that is signed by nobody, or by others",
        flags: &[KEY, OUT],
    },
    Verb {
        name: "gen-key",
        usage: "NAME",
        arguments: 1,
        about: "make a pair of keys, NAME.key and NAME.pub",
        flags: &[flag("out", b'o', "DIR", "where (default: here)")],
    },
];

/// What was typed.
#[derive(Debug, Default)]
pub(crate) struct Given {
    values: Vec<(&'static str, OsString)>,
    arguments: Vec<OsString>,
    pub(crate) help: bool,
}

impl Given {
    /// Reads what follows a command's name.
    pub(crate) fn read(verb: &Verb, rest: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let mut given = Self::default();
        let mut rest = rest;
        let mut is_over = false;
        while let Some(word) = rest.next() {
            let bytes = word.as_bytes();
            if is_over || !bytes.starts_with(b"-") || bytes == b"-" {
                given.arguments.push(word);
            } else if bytes == b"--" {
                is_over = true;
            } else if bytes == b"--help" || bytes == b"-h" {
                given.help = true;
            } else {
                given.flag(verb, bytes, &mut rest)?;
            }
        }
        if !given.help && given.arguments.len() != verb.arguments {
            let count = given.arguments.len();
            return Err(format!("{} takes {} arguments, and {count} were given", verb.name, verb.arguments));
        }
        Ok(given)
    }

    fn flag(
        &mut self,
        verb: &Verb,
        word: &[u8],
        rest: &mut impl Iterator<Item = OsString>,
    ) -> Result<(), String> {
        let told = || String::from_utf8_lossy(word).escape_debug().to_string();
        let (name, value) = match word.iter().position(|byte| *byte == b'=') {
            Some(at) => (&word[..at], Some(OsString::from_vec(word[at + 1..].to_vec()))),
            None => (word, None),
        };
        let is = |flag: &&Flag| {
            name.strip_prefix(b"--") == Some(flag.long.as_bytes()) || name == [b'-', flag.short].as_slice()
        };
        let flag =
            verb.flags.iter().find(is).ok_or_else(|| format!("{}: no such flag: {}", verb.name, told()))?;
        if self.values.iter().any(|(known, _)| *known == flag.long) {
            return Err(format!("--{} is given twice", flag.long));
        }
        let value = match (flag.value.is_empty(), value) {
            (true, None) => OsString::new(),
            (true, Some(_)) => return Err(format!("--{} takes no value", flag.long)),
            (false, Some(value)) => value,
            (false, None) => rest.next().ok_or_else(|| format!("--{} needs a value", flag.long))?,
        };
        self.values.push((flag.long, value));
        Ok(())
    }

    /// The value of a flag.
    pub(crate) fn value(&self, name: &str) -> Option<&OsStr> {
        self.values.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_os_str())
    }

    /// The argument at this place, which [`Given::read`] has counted.
    pub(crate) fn argument(&self, at: usize) -> PathBuf {
        self.arguments.get(at).map(PathBuf::from).unwrap_or_default()
    }
}

/// The help of the program.
pub(crate) fn of_program() -> String {
    let mut text = "Usage: cofferctl COMMAND\n\nMakes, reads and checks packages.\n\nCommands:\n".to_owned();
    for verb in VERBS {
        // Writing to a string cannot fail.
        writeln!(text, "  {:<10} {}", verb.name, verb.about).unwrap_or_default();
    }
    text + "\n\"cofferctl COMMAND --help\" tells more.\n"
}

/// The help of a command.
pub(crate) fn of_verb(verb: &Verb) -> String {
    let mut text = format!("Usage: cofferctl {} [FLAGS] {}", verb.name, verb.usage).trim_end().to_owned();
    write!(text, "\n\n{}\n\nFlags:\n", capital(verb.about)).unwrap_or_default();
    for flag in verb.flags {
        let name = format!("-{}, --{} {}", char::from(flag.short), flag.long, flag.value);
        writeln!(text, "  {name:<26} {}", flag.help).unwrap_or_default();
    }
    writeln!(text, "  {:<26} print this text", "-h, --help").unwrap_or_default();
    text
}

fn capital(text: &str) -> String {
    let (first, rest) = text.split_at(1);
    format!("{}{rest}.", first.to_uppercase())
}

#[cfg(test)]
#[allow(clippy::expect_used, reason = "a test states what it expects")]
mod tests {
    use super::*;

    fn read(verb: &str, words: &[&str]) -> Result<Given, String> {
        let verb = VERBS.iter().find(|known| known.name == verb).expect("it is there");
        Given::read(verb, words.iter().map(OsString::from))
    }

    #[test]
    fn flags_come_before_and_behind_arguments() {
        for words in [["--key=a", "b"].as_slice(), &["b", "--key", "a"], &["-k", "a", "--", "b"]] {
            let given = read("verify", words).expect("it is good");
            assert_eq!((given.value("key"), given.argument(0)), (Some(OsStr::new("a")), "b".into()));
        }
    }

    #[test]
    fn what_is_typed_wrongly_is_told() {
        for (words, told) in [
            (["b", "c"].as_slice(), "verify takes 1 arguments, and 2 were given"),
            (&["b", "--bogus"], "verify: no such flag: --bogus"),
            (&["b", "--key"], "--key needs a value"),
            (&["b", "-k", "a", "-k", "b"], "--key is given twice"),
        ] {
            assert_eq!(read("verify", words).expect_err("it is wrong"), told);
        }
    }
}
