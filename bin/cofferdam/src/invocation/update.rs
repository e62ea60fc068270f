//! What `update` needs: limits, as a document or by flags.

use std::path::PathBuf;

use spec::Resources;

use super::attempt::whole;
use crate::flags::{Given, Misuse};

/// What `update` needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// The container.
    pub id: String,
    /// The limits.
    pub limits: Limits,
}

/// Where the limits are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Limits {
    /// In a document; `-` is standard input.
    Document(PathBuf),
    /// In the flags.
    Given(Box<Resources>),
}

impl Update {
    /// With a document, no other flag counts, and none is looked at.
    pub(super) fn of(given: &Given, id: String) -> Result<Self, Misuse> {
        let limits = match given.path("resources") {
            Some(document) => Limits::Document(document),
            None => Limits::Given(Box::new(resources(given)?)),
        };
        Ok(Self { id, limits })
    }
}

fn resources(given: &Given) -> Result<Resources, Misuse> {
    let mut resources = Resources::default();
    let memory = resources.memory.get_or_insert_default();
    memory.limit = read(given, "memory", bytes)?;
    memory.reservation = read(given, "memory-reservation", bytes)?;
    memory.swap = read(given, "memory-swap", bytes)?;
    memory.kernel = read(given, "kernel-memory", bytes)?;
    memory.kernel_tcp = read(given, "kernel-memory-tcp", bytes)?;
    let cpu = resources.cpu.get_or_insert_default();
    cpu.period = read(given, "cpu-period", count)?;
    cpu.quota = read(given, "cpu-quota", signed)?;
    cpu.burst = read(given, "cpu-burst", count)?;
    cpu.shares = read(given, "cpu-share", count)?;
    cpu.realtime_period = read(given, "cpu-rt-period", count)?;
    cpu.realtime_runtime = read(given, "cpu-rt-runtime", signed)?;
    cpu.idle = read(given, "cpu-idle", signed)?;
    cpu.cpus = read(given, "cpuset-cpus", list)?;
    cpu.mems = read(given, "cpuset-mems", list)?;
    resources.pids.get_or_insert_default().limit = given.number("pids-limit");
    resources.block_io.get_or_insert_default().weight =
        given.number("blkio-weight").map(weight).transpose()?;
    Ok(resources)
}

/// An empty value is as good as none.
fn read<T>(given: &Given, flag: &str, take: fn(&str) -> Result<T, String>) -> Result<Option<T>, Misuse> {
    let typed = given.text(flag).filter(|typed| !typed.is_empty());
    typed.map(take).transpose().map_err(|why| Misuse::new(format!("invalid value for {flag}: {why}")))
}

fn count(typed: &str) -> Result<u64, String> {
    whole(typed).ok_or_else(|| format!("{typed:?} is no whole number"))
}

fn signed(typed: &str) -> Result<i64, String> {
    let digits = typed.strip_prefix('-').unwrap_or(typed);
    // The sign belongs to the number: the lowest one has no positive twin.
    match whole::<u64>(digits) {
        Some(_) => typed.parse().map_err(|_| format!("{typed:?} is out of range")),
        None => Err(format!("{typed:?} is no whole number")),
    }
}

#[allow(clippy::unnecessary_wraps, reason = "one of several")]
fn list(typed: &str) -> Result<String, String> {
    Ok(typed.to_owned())
}

fn weight(weight: i64) -> Result<u16, Misuse> {
    u16::try_from(weight)
        .map_err(|_| Misuse::new(format!("invalid value for blkio-weight: {weight} is out of range")))
}

/// -1, or a size as runc's callers write it: `64m`, `1.5g`, `512 KiB`. Both the units and the words are runc's.
fn bytes(typed: &str) -> Result<i64, String> {
    if typed == "-1" {
        return Ok(-1);
    }
    size(typed).ok_or_else(|| format!("invalid size: '{typed}'"))
}

pub(super) fn size(typed: &str) -> Option<i64> {
    let end = typed.rfind(|letter: char| letter.is_ascii_digit() || letter == '.')? + 1;
    let (number, unit) = typed.split_at(end);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let (unit, rest) = match unit.as_bytes() {
        [] | [b'b'] => (1_u128, &[][..]),
        [b'k', rest @ ..] => (1 << 10, rest),
        [b'm', rest @ ..] => (1 << 20, rest),
        [b'g', rest @ ..] => (1 << 30, rest),
        [b't', rest @ ..] => (1 << 40, rest),
        [b'p', rest @ ..] => (1 << 50, rest),
        _ => return None,
    };
    if !matches!(rest, b"" | b"b" | b"ib") {
        return None;
    }
    let (ones, parts) = number.split_once('.').unwrap_or((number, ""));
    // More digits of a fraction than a byte of the largest unit has tell nothing.
    if (ones.is_empty() && parts.is_empty()) || parts.len() > 18 {
        return None;
    }
    let value = |digits: &str| if digits.is_empty() { Some(0) } else { whole::<u64>(digits) };
    let scale = 10_u128.pow(u32::try_from(parts.len()).ok()?);
    let total = u128::from(value(ones)?) * unit + u128::from(value(parts)?) * unit / scale;
    i64::try_from(total).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_runc_reads_them() {
        for (typed, expected) in [
            ("-1", -1),
            ("0", 0),
            ("4096", 4096),
            ("1b", 1),
            ("64k", 64 << 10),
            ("64K", 64 << 10),
            ("64kb", 64 << 10),
            ("64KiB", 64 << 10),
            ("64 mb", 64 << 20),
            ("1.5g", 3 << 29),
            ("1.5", 1),
            (".5k", 512),
            ("1.k", 1024),
            ("1t", 1 << 40),
            ("1p", 1 << 50),
        ] {
            assert_eq!(bytes(typed), Ok(expected), "{typed}");
        }
        for typed in [
            "",
            " ",
            "x",
            "k",
            "-2",
            "-1k",
            "+1",
            "1e3",
            "1bb",
            "1kib ",
            "1ik",
            "1kk",
            "1e",
            "1  k",
            "1,5k",
            ".",
            "1.2.3",
            "9223372036854775808",
            "8192p",
            "99999999999999999999",
            "ü",
            "1ü",
            "1\0",
            "0x10",
        ] {
            assert!(bytes(typed).is_err(), "{typed:?}");
        }
        assert_eq!(bytes("9223372036854775807"), Ok(i64::MAX));
    }

    #[test]
    fn numbers_are_whole() {
        assert_eq!(count("18446744073709551615"), Ok(u64::MAX));
        assert_eq!(signed("-9223372036854775808"), Ok(i64::MIN));
        for typed in ["", "x", "-", "--1", "+1", " 1", "1 ", "0x1", "1.5", "9223372036854775808"] {
            assert!(signed(typed).is_err(), "{typed:?}");
        }
        assert!(count("-1").is_err() && count("18446744073709551616").is_err());
        assert!(weight(-1).is_err() && weight(65_536).is_err());
    }
}
