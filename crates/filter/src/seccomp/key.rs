//! The name under which a compiled filter may be kept: equal for equal questions only.

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::{Arch, Profile};

/// Raised whenever [`compile`](super::compile) may answer otherwise than before: with its rules, and with the table.
/// The test `programs_have_not_changed_behind_the_version` notices.
const VERSION: u32 = 1;

/// A digest (SHA-256) over all that a filter is made from. Printed in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(pub(super) [u8; 32]);

impl Key {
    /// What was printed.
    pub fn parse(text: &str) -> Option<Self> {
        let (digits, rest) = text.as_bytes().as_chunks::<2>();
        let mut key = [0; 32];
        if digits.len() != key.len() || !rest.is_empty() {
            return None;
        }
        for (byte, digits) in key.iter_mut().zip(digits) {
            *byte = u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
        }
        Some(Self(key))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(to, "{byte:02x}"))
    }
}

/// The key of a profile for a kernel of an architecture. Each list is preceded by its length and each text by
/// its own, so that no two profiles are written the same.
pub fn key(profile: &Profile, native: Arch) -> Key {
    let mut text = Text(Vec::with_capacity(16 << 10));
    text.word(env!("CARGO_PKG_VERSION"));
    text.number(VERSION);
    text.word(native.name());
    text.number(profile.default.value());
    text.length(profile.arches.len());
    for arch in &profile.arches {
        text.word(arch.name());
    }
    text.length(profile.rules.len());
    for rule in &profile.rules {
        text.number(rule.action.value());
        text.length(rule.names.len());
        for name in &rule.names {
            text.word(name);
        }
        text.length(rule.conditions.len());
        for condition in &rule.conditions {
            let super::Condition { index, operator, value, second } = *condition;
            text.0.extend([index, operator as u8]);
            text.0.extend(value.to_le_bytes());
            text.0.extend(second.to_le_bytes());
        }
    }
    Key(Sha256::digest(text.0).into())
}

/// What a digest is made over.
struct Text(Vec<u8>);

impl Text {
    fn number(&mut self, number: u32) {
        self.0.extend(number.to_le_bytes());
    }

    fn length(&mut self, length: usize) {
        self.0.extend((length as u64).to_le_bytes());
    }

    fn word(&mut self, word: &str) {
        self.length(word.len());
        self.0.extend(word.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Action, Condition, Operator, Rule};
    use super::*;

    fn profile() -> Profile<'static> {
        let condition = Condition { index: 0, operator: Operator::Eq, value: 1, second: 2 };
        Profile {
            default: Action::Errno(1),
            arches: vec![Arch::X86],
            rules: vec![Rule { names: vec!["a", "bc"], action: Action::Allow, conditions: vec![condition] }],
        }
    }

    #[test]
    fn every_field_has_a_say() {
        let edits: [fn(&mut Profile); 13] = [
            |_| (),
            |profile| profile.default = Action::Errno(2),
            |profile| profile.arches.clear(),
            |profile| profile.arches = vec![Arch::X32],
            |profile| profile.rules[0].action = Action::Log,
            |profile| profile.rules[0].names = vec!["ab", "c"],
            |profile| profile.rules[0].names = vec!["a\u{2}\0\0\0\0\0\0\0bc"],
            |profile| profile.rules[0].conditions.clear(),
            |profile| profile.rules[0].conditions[0].index = 1,
            |profile| profile.rules[0].conditions[0].operator = Operator::Ne,
            |profile| profile.rules[0].conditions[0].value = 3,
            |profile| profile.rules[0].conditions[0].second = 3,
            |profile| profile.rules.push(profile.rules[0].clone()),
        ];
        let mut keys: Vec<_> = edits
            .iter()
            .map(|edit| {
                let mut profile = profile();
                edit(&mut profile);
                key(&profile, Arch::X86_64).to_string()
            })
            .collect();
        keys.push(key(&profile(), Arch::Aarch64).to_string());
        keys.sort();
        assert!(keys.is_sorted_by(|one, next| one < next), "two profiles have one key: {keys:#?}");
        assert_eq!(key(&profile(), Arch::X86_64), key(&profile(), Arch::X86_64));
        assert!(keys.iter().all(|key| key.len() == 64));
    }

    #[test]
    fn a_key_is_read_as_it_is_printed() {
        let key = key(&profile(), Arch::X86_64);
        let text = key.to_string();
        assert_eq!(Key::parse(&text), Some(key));
        for bad in ["", &text[1..], &text[2..], &format!("{text}00"), &text.replace(&text[..1], "+")] {
            assert_eq!(Key::parse(bad), None, "{bad}");
        }
    }
}
