//! The commands and their flags, and how they are read: long names after two dashes, a value after `=` or as the next
//! argument, `--` as the end of flags.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use usage::complete::{Shell, Wanted};
use usage::{Flag, HELP, Table, Takes, Verb};

/// The program.
pub static TABLE: Table = Table {
    program: "cofferctl",
    about: "make, read, check and run packages",
    global: &[HELP, Flag::switch("version", "print the version").short('v')],
    verbs: VERBS,
    argument,
};

/// The argument of a command, by the word that stands for it in the usage line.
fn argument(verb: &'static Verb, count: usize) -> Wanted {
    match verb.usage.split(' ').nth(count) {
        Some("[COMMAND]") => Wanted::verbs(&TABLE),
        Some("DIR") => Wanted::Directory,
        Some("PACKAGE") => Wanted::File,
        Some("SHELL") => Wanted::of_words(Shell::NAMES),
        _ => Wanted::nothing(),
    }
}

const KEY: Flag = Flag::path("key", "FILE", "the secret key that signs").short('k');
const PUBLIC: Flag = Flag::path("key", "FILE", "the public key that must have signed").short('k');
const OUT: Flag = Flag::path("out", "PATH", "the package, or the directory for NAME-VERSION.npk")
    .short('o')
    .default("the current directory");

const MOST_BYTES: Flag =
    Flag::text("max-bytes", "SIZE", "refuse what comes to more bytes unpacked").default("16GiB");
const MOST_FILES: Flag =
    Flag::number("max-files", "COUNT", "refuse what comes to more files").default("1000000");

/// The commands.
pub static VERBS: &[Verb] = &[
    Verb {
        long: "\
Without --root a package has no files but the places that its manifest mounts on. Of an image, the
configuration makes a manifest, unless there is one. --max-bytes and --max-files are for images,
whose layers may be a thousand times what they seem; the bytes are those of all layers together.",
        flags: &[
            Flag::path("manifest-path", "FILE", "the manifest; may be missing with --from-oci").short('m'),
            Flag::path("root", "DIR", "the files; none without it").short('r'),
            Flag::path(
                "from-oci",
                "PATH",
                "the files of an image: an OCI layout, or what docker save writes",
            )
            .short('i'),
            Flag::text("name", "NAME", "what to call an image's package").short('n').default("as the image"),
            Flag::text("set-version", "VERSION", "its version")
                .short('V')
                .default("the image's tag, or 0.0.1"),
            Flag::number("uid", "UID", "who runs what the image runs as root").short('u').default("1000"),
            Flag::number("gid", "GID", "the group").short('g').default("1000"),
            KEY,
            OUT,
            Flag::text("compression", "HOW", "how blocks are made smaller: gzip or none")
                .short('c')
                .default("gzip")
                .words(&["gzip", "none"]),
            Flag::text(
                "image",
                "KIND",
                "the file system: squashfs, or erofs, which the reference does not read",
            )
            .default("squashfs")
            .words(&["squashfs", "erofs"]),
            MOST_BYTES,
            MOST_FILES,
        ],
        ..Verb::new("pack", "", 0, "make a package of a manifest and a directory, or of an image")
    },
    Verb {
        long: "\
The exit status is that of the program, 128 and the signal's number where a signal ended it. With
--key each block of the image is checked by the kernel as it is read.",
        flags: &[
            PUBLIC,
            Flag::switch(
                "check",
                "read the whole image once, where this host cannot check it block by block",
            )
            .short('c'),
            Flag::text("id", "ID", "what to call the container").short('i').default("the package's name"),
            Flag::path("data", "DIR", "where the package has a directory that persists").short('d'),
            Flag::path("state", "DIR", "where the state of containers is kept")
                .short('s')
                .default("/run/cofferdam"),
        ],
        ..Verb::new("run", "PACKAGE", 1, "run a package in the foreground")
    },
    Verb {
        flags: &[Flag::switch("manifest", "print the manifest alone, byte for byte").short('m')],
        ..Verb::new("inspect", "PACKAGE", 1, "print what a package says of itself")
    },
    Verb {
        long: "\
The directory is made, or is there and empty. The package is checked whole before a file is made,
and if anything fails, none of them stays. A package that comes to more bytes or files than
--max-bytes and --max-files say is refused before there is one.",
        flags: &[PUBLIC, MOST_BYTES, MOST_FILES],
        ..Verb::new("unpack", "PACKAGE DIR", 2, "write a package's files into a directory")
    },
    Verb {
        long: "Signature, manifest, and every block of the image.",
        flags: &[PUBLIC],
        ..Verb::new("verify", "PACKAGE", 1, "check a package whole")
    },
    Verb {
        flags: &[KEY, OUT],
        ..Verb::new(
            "sign",
            "PACKAGE",
            1,
            "make a signed package of one that nobody has signed, or others have",
        )
    },
    Verb {
        flags: &[Flag::path("out", "DIR", "where").short('o').default("the current directory")],
        ..Verb::new("gen-key", "NAME", 1, "make a pair of keys, NAME.key and NAME.pub")
    },
    Verb::COMPLETION,
    Verb { least: 0, ..Verb::new("help", "[COMMAND]", 1, "print the commands, or the flags of one") },
];

/// What was typed.
#[derive(Debug, Default)]
pub struct Given {
    values: Vec<(&'static str, OsString)>,
    arguments: Vec<OsString>,
    /// Whether the help of the command is asked for.
    pub help: bool,
}

impl Given {
    /// Reads what follows a command's name.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in a line.
    pub fn read(verb: &Verb, rest: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let mut given = Self::default();
        let mut rest = rest;
        let mut is_over = false;
        while let Some(word) = rest.next() {
            let bytes = word.as_bytes();
            if is_over
                || verb.stops && !given.arguments.is_empty()
                || !bytes.starts_with(b"-")
                || bytes == b"-"
            {
                given.arguments.push(word);
            } else if bytes == b"--" {
                is_over = true;
            } else if bytes == b"--help" || bytes == b"-h" {
                given.help = true;
            } else {
                given.flag(verb, bytes, &mut rest)?;
            }
        }
        let count = given.arguments.len();
        if !given.help && (count < verb.least || verb.most.is_some_and(|most| count > most)) {
            let due = verb.most.unwrap_or(verb.least);
            return Err(format!("{} takes {due} arguments, and {count} were given", verb.name));
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
        let is = |flag: &&Flag| match name.strip_prefix(b"--") {
            Some(long) => flag.long.as_bytes() == long,
            None => name.len() == 2 && flag.is_named(&name[1..]),
        };
        let flag =
            verb.flags.iter().find(is).ok_or_else(|| format!("{}: no such flag: {}", verb.name, told()))?;
        if self.values.iter().any(|(known, _)| *known == flag.long) {
            return Err(format!("--{} is given twice", flag.long));
        }
        let value = match (flag.takes == Takes::Nothing, value) {
            (true, None) => OsString::new(),
            (true, Some(_)) => return Err(format!("--{} takes no value", flag.long)),
            (false, Some(value)) => value,
            (false, None) => rest.next().ok_or_else(|| format!("--{} needs a value", flag.long))?,
        };
        self.values.push((flag.long, value));
        Ok(())
    }

    /// The value of a flag.
    pub fn value(&self, name: &str) -> Option<&OsStr> {
        self.values.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_os_str())
    }

    /// All arguments.
    pub fn arguments(&self) -> &[OsString] {
        &self.arguments
    }

    /// The argument at this place, which [`Given::read`] has counted.
    pub fn argument(&self, at: usize) -> PathBuf {
        self.arguments.get(at).map(PathBuf::from).unwrap_or_default()
    }
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
    fn what_may_be_typed_next_is_offered() {
        use usage::complete::Asked;
        let answer = |words: &[&str]| {
            let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
            Asked::of(&TABLE, Shell::Bash, &words).answer(&[])
        };
        for (words, told) in [
            (["ver"].as_slice(), "words\nverify\n"),
            (&["help", "gen"], "words\ngen-key\n"),
            (&["pack", "--from"], "words\n--from-oci\n"),
            (&["pack", "--root", ""], "directories\n"),
            (&["pack", "-k", ""], "files\n"),
            (&["pack", "--compression", ""], "words\ngzip\nnone\n"),
            (&["unpack", ""], "files\n"),
            (&["unpack", "a.npk", ""], "directories\n"),
            (&["unpack", "a.npk", "to", ""], "words\n"),
            (&["completion", "z"], "words\nzsh\n"),
        ] {
            assert_eq!(answer(words), told, "{words:?}");
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
