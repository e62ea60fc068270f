//! The commands and their flags, and how they are read: long names after two dashes, a value after `=` or as the next
//! argument, `--` as the end of flags.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use usage::complete::{Shell, Wanted};
use usage::{Flag, HELP, Table, Takes, Verb, signal};

/// The program.
pub static TABLE: Table = Table {
    program: "cofferctl",
    about: "make, read, check and run packages, and speak to the daemon that keeps them",
    global: &[HELP, Flag::switch("version", "print the version").short('v')],
    verbs: VERBS,
    argument,
};

/// The argument of a command, by the word that stands for it in the usage line.
fn argument(verb: &'static Verb, count: usize) -> Wanted {
    // The last word stands for as many as there are, unless what follows is another program's.
    let is_more = verb.most.is_none() && !verb.stops;
    let mut words = verb.usage.split(' ');
    let word = words.nth(count).or_else(|| verb.usage.split(' ').next_back().filter(|_| is_more));
    match word {
        Some("CONTAINER" | "CONTAINERS") => Wanted::Container { root: None },
        Some("[COMMAND]") => Wanted::verbs(&TABLE),
        Some("DIR") => Wanted::Directory,
        Some("PACKAGE" | "PACKAGE|CONTAINER") => Wanted::File,
        Some("[SIGNAL]") => Wanted::of_words(&signal::names().collect::<Vec<_>>()),
        Some("SHELL") => Wanted::of_words(Shell::NAMES),
        _ => Wanted::nothing(),
    }
}

const URL: Flag = Flag::text("url", "URL", "where the daemon is: unix:///PATH or tcp://HOST[:PORT]")
    .short('u')
    .default("unix:///run/cofferdamd.sock");
const JSON: Flag = Flag::switch("json", "print what the daemon says as JSON").short('j');
const TIMEOUT: Flag =
    Flag::text("timeout", "TIME", "how long the daemon may take to answer").short('t').default("10s");
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
        long: "\
A file of that name is read. Where there is none, or --url is given, it is a container, and the
daemon is asked.",
        flags: &[
            Flag::switch("manifest", "print the manifest alone, of a file byte for byte").short('m'),
            URL,
            JSON,
            TIMEOUT,
        ],
        ..Verb::new(
            "inspect",
            "PACKAGE|CONTAINER",
            1,
            "print what a package says of itself, or what the daemon knows of a container",
        )
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
    Verb {
        flags: &[URL, JSON, TIMEOUT],
        ..Verb::new("list", "", 0, "list the packages that the daemon keeps")
    },
    Verb {
        long: "\
Arguments and a program are in place of the manifest's, variables beside its own; for any of these
the daemon asks for another permission.",
        flags: &[
            Flag::text("init", "PATH", "another program; <INIT> in it is the manifest's").short('i'),
            Flag::text("env", "NAME=VALUE", "a variable, beside the manifest's own").short('e').repeated(),
            URL,
            JSON,
            TIMEOUT,
        ],
        most: None,
        stops: true,
        ..Verb::new("start", "CONTAINER [ARGUMENTS]", 1, "have the daemon start a container")
    },
    Verb {
        long: "\
SIGTERM, and if it still runs after the time of --kill-after, SIGKILL; it is stopped when this ends.",
        flags: &[
            Flag::text("kill-after", "TIME", "how long it may take to end by itself")
                .short('k')
                .default("10s"),
            URL,
            TIMEOUT,
        ],
        ..Verb::new("stop", "CONTAINER", 1, "end a container, and wait until it has")
    },
    Verb {
        flags: &[URL, JSON, TIMEOUT],
        most: Some(2),
        ..Verb::new(
            "kill",
            "CONTAINER [SIGNAL]",
            1,
            "send a container a signal, SIGTERM if no other is named",
        )
    },
    Verb {
        long: "\
REPOSITORY may be missing where the daemon has one alone.",
        flags: &[URL, JSON, TIMEOUT],
        most: Some(2),
        ..Verb::new("install", "PACKAGE [REPOSITORY]", 1, "bring the daemon a package")
    },
    Verb {
        flags: &[
            Flag::switch("wipe", "and what containers of that name have kept").short('w'),
            URL,
            JSON,
            TIMEOUT,
        ],
        ..Verb::new("uninstall", "CONTAINER", 1, "have the daemon take a package away")
    },
    Verb {
        flags: &[URL, JSON, TIMEOUT],
        most: None,
        ..Verb::new("mount", "CONTAINERS", 1, "have the daemon mount images")
    },
    Verb {
        flags: &[URL, JSON, TIMEOUT],
        most: None,
        ..Verb::new("umount", "CONTAINERS", 1, "have the daemon unmount them")
    },
    Verb {
        flags: &[URL, JSON, TIMEOUT],
        ..Verb::new("repositories", "", 0, "list the daemon's repositories")
    },
    Verb {
        flags: &[
            Flag::number("number", "COUNT", "end after so many").short('n').default("no end"),
            URL,
            JSON,
            TIMEOUT,
        ],
        ..Verb::new("notifications", "", 0, "print what happens, as it happens")
    },
    Verb { flags: &[URL, JSON, TIMEOUT], ..Verb::new("ident", "", 0, "print what the daemon calls us") },
    Verb {
        flags: &[URL, JSON, TIMEOUT],
        ..Verb::new(
            "token",
            "TARGET SHARED",
            2,
            "have a token made, by which TARGET knows us if it knows SHARED too",
        )
    },
    Verb {
        long: "Ok, Invalid, Expired or Future; the exit status is 0 for the first alone.",
        flags: &[URL, JSON, TIMEOUT],
        ..Verb::new("verify-token", "TOKEN USER SHARED", 3, "have a token looked at that USER has shown us")
    },
    Verb {
        flags: &[URL, TIMEOUT],
        ..Verb::new("shutdown", "", 0, "end the daemon, and every container with it")
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
            let due = match verb.most {
                Some(most) if most == verb.least => most.to_string(),
                Some(most) => format!("{} to {most}", verb.least),
                None => format!("{} or more", verb.least),
            };
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
        if !flag.repeats && self.value(flag.long).is_some() {
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

    /// Every value of a flag that may be repeated.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &OsStr> {
        self.values.iter().filter(move |(known, _)| *known == name).map(|(_, value)| value.as_os_str())
    }

    /// The value of a flag.
    pub fn value(&self, name: &str) -> Option<&OsStr> {
        self.values(name).next()
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
            Asked::of(&TABLE, Shell::Bash, &words).answer(&["a".to_owned(), "b:1.0.0".to_owned()])
        };
        for (words, told) in [
            (["veri"].as_slice(), "words\nverify\nverify-token\n"),
            (&["help", "gen"], "words\ngen-key\n"),
            (&["pack", "--from"], "words\n--from-oci\n"),
            (&["pack", "--root", ""], "directories\n"),
            (&["pack", "-k", ""], "files\n"),
            (&["pack", "--compression", ""], "words\ngzip\nnone\n"),
            (&["unpack", ""], "files\n"),
            (&["unpack", "a.npk", ""], "directories\n"),
            (&["unpack", "a.npk", "to", ""], "words\n"),
            (&["completion", "z"], "words\nzsh\n"),
            (&["stop", ""], "words\na\nb:1.0.0\n"),
            (&["umount", "a", "b"], "words\nb:1.0.0\n"),
            (&["start", "a", ""], "words\n"),
            (&["kill", "a", "US"], "words\nUSR1\nUSR2\n"),
            (&["install", ""], "files\n"),
            (&["start", "--en"], "words\n--env\n"),
        ] {
            assert_eq!(answer(words), told, "{words:?}");
        }
    }

    #[test]
    fn what_repeats_is_read_in_order() {
        let given = read("start", &["-e", "A=1", "--env=B=2", "a", "-e", "C"]).expect("it is good");
        assert_eq!(given.values("env").collect::<Vec<_>>(), ["A=1", "B=2"]);
        assert_eq!(given.arguments(), ["a", "-e", "C"]);
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
        for (verb, told) in [
            ("kill", "kill takes 1 to 2 arguments, and 0 were given"),
            ("mount", "mount takes 1 or more arguments, and 0 were given"),
        ] {
            assert_eq!(read(verb, &[]).expect_err("it is wrong"), told);
        }
    }
}
