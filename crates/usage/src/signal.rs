//! Signals by name or number, as runc's `kill` takes them.

/// The number of `signal`: digits with a sign at most, or a name with or without SIG, in any case.
///
/// A number is not looked at further: for one that does not exist, kill(2) has the better answer.
pub fn parse(signal: &str) -> Option<i32> {
    if let Ok(number) = signal.parse::<i64>() {
        // One too large for the kernel's int is as unknown there as any other.
        return Some(i32::try_from(number).unwrap_or(i32::MAX));
    }
    let name = signal.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

/// The names that a shell offers.
pub fn names() -> impl Iterator<Item = &'static str> {
    NAMES.iter().map(|(name, _)| *name)
}

/// The names that runc knows, by the numbers of x86-64 and of aarch64. No real-time signals, and one name
/// for each.
const NAMES: [(&str, i32); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_the_same() {
        for typed in ["9", "+9", "KILL", "SIGKILL", "kill", "sigkill", "SigKill", "09"] {
            assert_eq!(parse(typed), Some(9), "{typed}");
        }
    }

    #[test]
    fn every_signal_has_its_place() {
        for ((name, number), expected) in NAMES.iter().zip(1..) {
            assert_eq!((parse(name), *number), (Some(expected), expected), "{name}");
        }
    }

    /// runc 1.1.5 said so of the first five when they were typed; it has no other names than [`NAMES`].
    #[test]
    fn what_runc_does_not_know_is_unknown() {
        for typed in [
            "FOO",
            "RTMIN+1",
            "SIGIOT",
            " 9",
            "99999999999999999999999",
            "RTMIN",
            "CLD",
            "SIG",
            "SIGSIGKILL",
            "9 ",
            "0x9",
            "",
        ] {
            assert_eq!(parse(typed), None, "{typed}");
        }
    }

    #[test]
    fn numbers_are_left_to_the_kernel() {
        for (typed, number) in [("0", 0), ("999", 999), ("-9", -9), ("99999999999", i32::MAX)] {
            assert_eq!(parse(typed), Some(number), "{typed}");
        }
    }
}
