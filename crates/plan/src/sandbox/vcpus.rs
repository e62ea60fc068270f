//! Which threads of a monitor are the guest's processors: by their names, as there is no other sign.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A name of threads, with `#` for the processor's number: `CPU #/KVM`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    before: String,
    after: String,
}

/// It has no place for a number, or more than one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownPattern(String);

impl fmt::Display for UnknownPattern {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{:?} is no name of threads with one # for a number", self.0)
    }
}

impl std::error::Error for UnknownPattern {}

/// As qemu (with `debug-threads=on`), Cloud Hypervisor, Firecracker and crosvm name them.
const KNOWN: [&str; 5] = ["CPU #/KVM", "CPU #/TCG", "vcpu#", "fc_vcpu #", "crosvm_vcpu#"];

impl Pattern {
    /// Those of the monitors that are known.
    pub fn known() -> Vec<Self> {
        KNOWN.iter().filter_map(|text| text.parse().ok()).collect()
    }

    /// The processor that a thread of this name is.
    pub fn vcpu(&self, name: &str) -> Option<u32> {
        let number = name.strip_prefix(&self.before)?.strip_suffix(&self.after)?;
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| number.parse().ok()).flatten()
    }
}

impl FromStr for Pattern {
    type Err = UnknownPattern;

    fn from_str(text: &str) -> Result<Self, UnknownPattern> {
        let (before, after) = text.split_once('#').ok_or_else(|| UnknownPattern(text.into()))?;
        if after.contains('#') || (before.is_empty() && after.is_empty()) {
            return Err(UnknownPattern(text.into()));
        }
        Ok(Self { before: before.into(), after: after.into() })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}#{}", self.before, self.after)
    }
}

impl TryFrom<String> for Pattern {
    type Error = UnknownPattern;

    fn try_from(text: String) -> Result<Self, UnknownPattern> {
        text.parse()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_known_by_their_threads_names() {
        let vcpu = |name: &str| Pattern::known().iter().find_map(|pattern| pattern.vcpu(name));
        for (name, number) in [
            ("CPU 0/KVM", Some(0)),
            ("CPU 11/TCG", Some(11)),
            ("vcpu3", Some(3)),
            ("fc_vcpu 2", Some(2)),
            ("crosvm_vcpu1", Some(1)),
            ("CPU /KVM", None),
            ("CPU 1/KVMX", None),
            ("vcpu", None),
            ("vcpu-1", None),
            ("vcpu 1", None),
            ("qemu-system-x86", None),
            ("worker", None),
        ] {
            assert_eq!(vcpu(name), number, "{name}");
        }
        for wrong in ["", "#", "vcpu", "a#b#"] {
            assert!(wrong.parse::<Pattern>().is_err(), "{wrong}");
        }
        assert_eq!("my #.".parse::<Pattern>().map(|pattern| pattern.vcpu("my 7.")), Ok(Some(7)));
    }
}
