//! What `try` needs: limits, variables and mounts as people write them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::flags::{Given, Misuse, text};

/// What `try` needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Try {
    /// What to run; empty where it is shown what was shut in.
    pub command: Vec<String>,
    /// The most processors, in thousandths.
    pub cpus: Option<u32>,
    /// Variables, as NAME=VALUE.
    pub env: Vec<String>,
    /// The most memory, in bytes.
    pub memory: Option<u64>,
    /// The container's name; made up where there is none.
    pub name: Option<String>,
    /// The most processes.
    pub pids: Option<u32>,
    /// Nothing can be written in the root file system.
    pub read_only: bool,
    /// A directory to use as the root file system.
    pub rootfs: Option<PathBuf>,
    /// An archive to unpack as the root file system; never beside `rootfs`.
    pub tar: Option<PathBuf>,
    /// Give the command a terminal.
    pub tty: bool,
    /// Who runs the command.
    pub user: User,
    /// Directories of the host.
    pub volumes: Vec<Volume>,
}

/// Who runs a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// A directory of the host, seen in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// On the host.
    pub source: PathBuf,
    /// In the container; absolute.
    pub target: PathBuf,
    /// Whether the container may only read it.
    pub read_only: bool,
}

impl Try {
    pub(super) fn of(given: &Given, words: impl Iterator<Item = OsString>) -> Result<Self, Misuse> {
        let attempt = Self {
            command: words.map(text).collect::<Result<_, _>>()?,
            cpus: given.text("cpus").map(cpus).transpose()?,
            env: given.texts("env").map(variable).collect::<Result<_, _>>()?,
            memory: given.text("memory").map(memory).transpose()?,
            name: given.text("name").map(str::to_owned),
            pids: given.number("pids").map(pids).transpose()?,
            read_only: given.is_on("read-only"),
            rootfs: given.path("rootfs"),
            tar: given.path("tar"),
            tty: given.is_on("tty"),
            user: given.text("user").map(user).transpose()?.unwrap_or_default(),
            volumes: given.paths("volume").map(volume).collect::<Result<_, _>>()?,
        };
        if attempt.rootfs.is_some() && attempt.tar.is_some() {
            return Err(Misuse::new("--rootfs and --tar: only one root file system can be used"));
        }
        Ok(attempt)
    }
}

fn memory(size: &str) -> Result<u64, Misuse> {
    let refused = || Misuse::new(format!("--memory: {size:?} is no size such as 64m"));
    let (digits, shift) = match size.as_bytes().last() {
        Some(b'b' | b'B') => (size.get(..size.len() - 1), 0),
        Some(b'k' | b'K') => (size.get(..size.len() - 1), 10),
        Some(b'm' | b'M') => (size.get(..size.len() - 1), 20),
        Some(b'g' | b'G') => (size.get(..size.len() - 1), 30),
        _ => (Some(size), 0),
    };
    let bytes = digits.and_then(whole::<u64>).and_then(|number| number.checked_mul(1 << shift));
    match bytes {
        // The kernel's control files hold signed numbers.
        Some(bytes) if bytes > 0 && i64::try_from(bytes).is_ok() => Ok(bytes),
        _ => Err(refused()),
    }
}

/// Thousandths, counted by hand: a fraction in binary would make 0.7 processors 699 of them.
fn cpus(count: &str) -> Result<u32, Misuse> {
    let (ones, parts) = count.split_once('.').unwrap_or((count, "0"));
    let thousandths = || {
        let ones = whole::<u32>(if ones.is_empty() { "0" } else { ones })?;
        if parts.is_empty() || parts.len() > 3 {
            return None;
        }
        let parts = whole::<u32>(&format!("{parts:0<3}"))?;
        ones.checked_mul(1000)?.checked_add(parts)
    };
    match thousandths() {
        Some(cpus) if cpus > 0 => Ok(cpus),
        _ => Err(Misuse::new(format!("--cpus: {count:?} is no number of processors such as 0.5"))),
    }
}

fn pids(count: i64) -> Result<u32, Misuse> {
    u32::try_from(count)
        .ok()
        .filter(|count| *count > 0)
        .ok_or_else(|| Misuse::new(format!("--pids: {count} is no number of processes")))
}

pub(super) fn variable(pair: &str) -> Result<String, Misuse> {
    match pair.split_once('=') {
        Some((name, _)) if !name.is_empty() => Ok(pair.to_owned()),
        _ => Err(Misuse::new(format!("--env: {pair:?} is not NAME=VALUE"))),
    }
}

fn user(who: &str) -> Result<User, Misuse> {
    let (user, group) = who.split_once(':').unwrap_or((who, "0"));
    // The highest number is the kernel's "no change".
    let id = |text: &str| whole::<u32>(text).filter(|id| *id != u32::MAX);
    match (id(user), id(group)) {
        (Some(uid), Some(gid)) => Ok(User { uid, gid }),
        _ => Err(Misuse::new(format!("--user: {who:?} is not UID[:GID], in numbers"))),
    }
}

fn volume(words: &OsStr) -> Result<Volume, Misuse> {
    let mut parts = words.as_bytes().split(|byte| *byte == b':').map(OsStr::from_bytes);
    let (source, target, mode, rest) = (parts.next(), parts.next(), parts.next(), parts.next());
    let read_only = match mode.map(OsStr::as_bytes) {
        None | Some(b"rw") => Some(false),
        Some(b"ro") => Some(true),
        Some(_) => None,
    };
    match (source, target, read_only, rest) {
        (Some(source), Some(target), Some(read_only), None)
            if !source.is_empty() && target.as_bytes().starts_with(b"/") =>
        {
            Ok(Volume { source: source.into(), target: target.into(), read_only })
        }
        _ => Err(Misuse::new(format!(
            "--volume: {} is neither SOURCE:/TARGET nor SOURCE:/TARGET:ro",
            words.display()
        ))),
    }
}

/// Digits and nothing else: `parse` alone would take a plus sign too.
pub(super) fn whole<T: std::str::FromStr>(text: &str) -> Option<T> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test may end where its input is not what it says.
mod tests {
    use super::*;

    #[test]
    fn sizes_are_counted_in_powers_of_1024() {
        for (typed, bytes) in [("1", 1), ("512b", 512), ("4k", 4096), ("64M", 64 << 20), ("2g", 2 << 30)] {
            assert_eq!(memory(typed), Ok(bytes), "{typed}");
        }
        for typed in
            ["", "0", "k", "-1", "+1", "1kb", "1.5g", "99999999999g", "9223372036854775808", "ü", "1ü"]
        {
            assert!(memory(typed).is_err(), "{typed}");
        }
    }

    #[test]
    fn processors_are_counted_in_thousandths() {
        for (typed, thousandths) in [("1", 1000), ("0.5", 500), (".25", 250), ("2.125", 2125), ("0.7", 700)] {
            assert_eq!(cpus(typed), Ok(thousandths), "{typed}");
        }
        for typed in ["", "0", "0.0", ".", "1.", "-1", "1.2345", "1e3", "5000000"] {
            assert!(cpus(typed).is_err(), "{typed}");
        }
    }

    #[test]
    fn users_are_numbers() {
        assert_eq!(user("1000"), Ok(User { uid: 1000, gid: 0 }));
        assert_eq!(user("1:2"), Ok(User { uid: 1, gid: 2 }));
        for typed in ["", "root", "1:", ":1", "1:2:3", "-1", "4294967295", "4294967296"] {
            assert!(user(typed).is_err(), "{typed}");
        }
    }

    #[test]
    fn volumes_have_a_source_and_an_absolute_target() {
        let told = |typed: &str| volume(OsStr::new(typed));
        let made = |read_only| Volume { source: "a".into(), target: "/b".into(), read_only };
        assert_eq!(told("a:/b"), Ok(made(false)));
        assert_eq!(told("a:/b:rw"), Ok(made(false)));
        assert_eq!(told("a:/b:ro"), Ok(made(true)));
        for typed in ["", "a", "a:b", ":/b", "a:/b:z", "a:/b:ro:", "a:"] {
            assert!(told(typed).is_err(), "{typed}");
        }
        let raw = volume(OsStr::from_bytes(b"\xff:/b")).unwrap();
        assert_eq!(raw.source.as_os_str().as_bytes(), b"\xff");
    }

    #[test]
    fn variables_have_a_name() {
        assert_eq!(variable("A=").as_deref(), Ok("A="));
        assert!(variable("A").is_err());
        assert!(variable("=b").is_err());
    }
}
