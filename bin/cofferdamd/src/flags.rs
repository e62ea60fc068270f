//! The flags of the daemon, and how they are read: a value after `=` or as the next argument.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use usage::complete::Wanted;
use usage::{Flag, HELP, Table, Takes};

/// The program.
pub static TABLE: Table = Table {
    program: "cofferdamd",
    about: "keep signed packages of a device installed, started and supervised",
    global: &[
        Flag::path("config", "FILE", "the configuration").short('c').default(CONFIG),
        Flag::switch(
            "disable-mount-namespace",
            "mount images where the host sees them, and not in a mount namespace of the daemon's own",
        )
        .short('d'),
        Flag::switch("check", "read the configuration, say what is wrong with it, and end"),
        HELP,
        Flag::switch("version", "print the version").short('v'),
    ],
    verbs: &[],
    argument: |_, _| Wanted::nothing(),
};

/// Where the configuration is, if nobody says otherwise.
const CONFIG: &str = "/etc/cofferdam/cofferdamd.toml";

/// What was typed.
#[derive(Debug, PartialEq, Eq)]
pub struct Given {
    /// The configuration.
    pub config: PathBuf,
    /// Whether images are mounted where the host sees them.
    pub shares_mounts: bool,
    /// What is to be done.
    pub what: What,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum What {
    /// What a daemon does.
    #[default]
    Serve,
    /// To look at the configuration.
    Check,
    /// To print the help.
    Help,
    /// To print the version.
    Version,
}

impl Given {
    /// Reads the words after the program's name.
    ///
    /// # Errors
    ///
    /// What is wrong with them, in a line.
    pub fn read(mut words: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let (mut config, mut shares_mounts, mut what) = (None, false, What::Serve);
        while let Some(word) = words.next() {
            let told = spec::quoted(&word.to_string_lossy());
            let (name, value) = split(&word);
            let flag = TABLE.global.iter().find(|flag| is_meant(flag, name));
            let flag = flag.ok_or_else(|| format!("no such flag: {told}; see \"cofferdamd --help\""))?;
            if flag.takes == Takes::Nothing && value.is_some() {
                return Err(format!("--{} takes no value", flag.long));
            }
            match flag.long {
                "config" => {
                    let path = value.or_else(|| words.next());
                    let path = path.ok_or_else(|| "--config needs a value".to_owned())?;
                    if config.replace(PathBuf::from(path)).is_some() {
                        return Err("--config is given twice".to_owned());
                    }
                }
                "disable-mount-namespace" => shares_mounts = true,
                "check" => what = What::Check,
                "version" => what = What::Version,
                _ => what = What::Help,
            }
        }
        Ok(Self { config: config.unwrap_or_else(|| CONFIG.into()), shares_mounts, what })
    }
}

/// A flag, and what stands behind its `=`.
fn split(word: &OsStr) -> (&[u8], Option<OsString>) {
    let bytes = word.as_bytes();
    match bytes.iter().position(|byte| *byte == b'=') {
        Some(at) => (&bytes[..at], Some(OsString::from_vec(bytes[at + 1..].to_vec()))),
        None => (bytes, None),
    }
}

fn is_meant(flag: &Flag, name: &[u8]) -> bool {
    match name.strip_prefix(b"--") {
        Some(long) => flag.long.as_bytes() == long,
        None => name.len() == 2 && name.starts_with(b"-") && flag.is_named(&name[1..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<Given, String> {
        Given::read(words.iter().map(OsString::from))
    }

    #[test]
    fn flags_are_read_in_every_form() {
        let told = |config: &str, what| Ok(Given { config: config.into(), shares_mounts: false, what });
        let serve = |config: &str| told(config, What::Serve);
        assert_eq!(read(&[]), serve(CONFIG));
        for words in [["--config", "a"].as_slice(), &["-c", "a"], &["--config=a"], &["-c=a"]] {
            assert_eq!(read(words), serve("a"), "{words:?}");
        }
        assert_eq!(read(&["--check", "-c", "a"]), told("a", What::Check));
        assert!(read(&["-d"]).is_ok_and(|given| given.shares_mounts));
        assert_eq!(read(&["-h"]).map(|given| given.what), Ok(What::Help));
    }

    #[test]
    fn what_is_typed_wrongly_is_told() {
        for (words, told) in [
            (["serve"].as_slice(), "no such flag: \"serve\"; see \"cofferdamd --help\""),
            (&["-c"], "--config needs a value"),
            (&["-c", "a", "--config", "b"], "--config is given twice"),
            (&["--check=yes"], "--check takes no value"),
            (&["-cc", "a"], "no such flag: \"-cc\"; see \"cofferdamd --help\""),
        ] {
            assert_eq!(read(words), Err(told.to_owned()), "{words:?}");
        }
    }
}
