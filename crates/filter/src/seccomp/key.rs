//! The name under which a compiled filter may be kept: equal for equal questions only.

use std::fmt::{self, Write as _};

use sha2::{Digest as _, Sha256};

use super::{Arch, Profile};

/// Raised whenever [`compile`](super::compile) may answer otherwise than before: with its rules, and with the table.
const VERSION: u32 = 1;

/// A digest (SHA-256) over all that a filter is made from. Printed in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key([u8; 32]);

impl fmt::Display for Key {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(to, "{byte:02x}"))
    }
}

/// The key of a profile for a kernel of an architecture. Each list is preceded by its length and each text by
/// its own, so that no two profiles are written the same.
pub fn key(profile: &Profile, native: Arch) -> Key {
    let mut text = String::new();
    // Writing into a string cannot fail.
    let _infallible = describe(profile, native, &mut text);
    Key(Sha256::digest(text).into())
}

fn describe(profile: &Profile, native: Arch, to: &mut String) -> fmt::Result {
    let release = env!("CARGO_PKG_VERSION");
    writeln!(to, "cofferdam {release} filter {VERSION} {}", native.name())?;
    writeln!(to, "{} {}", profile.default.value(), profile.arches.len())?;
    for arch in &profile.arches {
        writeln!(to, "{}", arch.name())?;
    }
    writeln!(to, "{}", profile.rules.len())?;
    for rule in &profile.rules {
        writeln!(to, "{} {} {}", rule.action.value(), rule.names.len(), rule.conditions.len())?;
        for name in &rule.names {
            writeln!(to, "{} {name}", name.len())?;
        }
        for condition in &rule.conditions {
            let super::Condition { index, operator, value, second } = condition;
            writeln!(to, "{index} {} {value} {second}", *operator as u8)?;
        }
    }
    Ok(())
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
            |profile| profile.rules[0].names = vec!["a\n2 bc"],
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
}
