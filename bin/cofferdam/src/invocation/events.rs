//! What `events` needs.

use std::time::Duration;

use super::attempt::whole;
use crate::flags::{Given, Misuse};

/// What `events` needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Events {
    /// The container.
    pub id: String,
    /// How often figures are printed.
    pub interval: Duration,
    /// Print them once, at once, and nothing else.
    pub once: bool,
    /// Tell more than runc does.
    pub details: bool,
}

const INTERVAL: Duration = Duration::from_secs(5);

impl Events {
    /// Words and order of the checks are runc's.
    pub(super) fn of(given: &Given, id: String) -> Result<Self, Misuse> {
        let interval = match given.text("interval") {
            None => INTERVAL,
            Some(typed) => duration(typed).ok_or_else(|| {
                Misuse::new(format!("invalid value {typed:?} for flag -interval: parse error"))
            })?,
        };
        if interval.is_zero() {
            return Err(Misuse::new("duration interval must be greater than 0"));
        }
        Ok(Self { id, interval, once: given.is_on("stats"), details: given.is_on("details") })
    }
}

/// A length of time as Go writes it: `5s`, `1.5h`, `1h2m3s`, `100ms`. One below zero is told as zero.
fn duration(typed: &str) -> Option<Duration> {
    let (is_negative, mut rest) = match typed.as_bytes() {
        [b'-', ..] => (true, typed.get(1..)?),
        [b'+', ..] => (false, typed.get(1..)?),
        _ => (false, typed),
    };
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanoseconds = 0_u128;
    while !rest.is_empty() {
        let number;
        (number, rest) = rest.split_at(until(rest, |letter| letter.is_ascii_digit() || letter == '.'));
        let unit;
        (unit, rest) = rest.split_at(until(rest, |letter| !letter.is_ascii_digit() && letter != '.'));
        nanoseconds = nanoseconds.checked_add(part(number, unit)?)?;
    }
    // Go counts in 63 bits.
    let nanoseconds = i64::try_from(nanoseconds).ok()?.unsigned_abs();
    Some(Duration::from_nanos(if is_negative { 0 } else { nanoseconds }))
}

fn until(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|letter| !belongs(letter)).unwrap_or(text.len())
}

/// One number with its unit, in nanoseconds; what is less than one is cut off.
fn part(number: &str, unit: &str) -> Option<u128> {
    let unit = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000_u128,
        _ => return None,
    };
    let (ones, parts) = number.split_once('.').unwrap_or((number, ""));
    if ones.is_empty() && parts.is_empty() {
        return None;
    }
    // Digits behind the eighteenth cannot make a nanosecond.
    let parts = parts.bytes().all(|byte| byte.is_ascii_digit()).then(|| parts.get(..18).unwrap_or(parts))?;
    let value = |digits: &str| if digits.is_empty() { Some(0) } else { whole::<u64>(digits) };
    let scale = 10_u128.pow(u32::try_from(parts.len()).ok()?);
    Some(u128::from(value(ones)?) * unit + u128::from(value(parts)?) * unit / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read_as_go_reads_them() {
        for (typed, nanoseconds) in [
            ("0", 0),
            ("0s", 0),
            ("-5s", 0),
            ("+5s", 5_000_000_000),
            ("1ns", 1),
            ("1us", 1000),
            ("1µs", 1000),
            ("1μs", 1000),
            ("100ms", 100_000_000),
            ("1.5s", 1_500_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("1h2m3s4ms", 3_723_004_000_000),
            ("1.0000000000000000000001h", 3_600_000_000_000),
            ("0.1ns", 0),
        ] {
            assert_eq!(duration(typed), Some(Duration::from_nanos(nanoseconds)), "{typed}");
        }
        for typed in [
            "", "-", "x", "5", "s", ".s", "5 s", "5S", "1.2.3s", "5s5", "--5s", "1d", "3000000h", "1e3s",
            "5sx",
        ] {
            assert_eq!(duration(typed), None, "{typed:?}");
        }
    }
}
