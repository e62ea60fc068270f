use std::collections::BTreeSet;

use super::*;

fn lists() -> impl Iterator<Item = (&'static str, &'static [Flag])> {
    VERBS.iter().map(|verb| (verb.name, verb.flags)).chain([("", GLOBAL)])
}

#[test]
fn no_command_stands_twice() {
    let names: BTreeSet<_> = VERBS.iter().map(|verb| verb.name).collect();
    assert_eq!(names.len(), VERBS.len());
}

#[test]
fn no_flag_means_two_things() {
    for (name, flags) in lists() {
        let mut seen = BTreeSet::new();
        for flag in flags {
            assert!(seen.insert(flag.long.to_owned()), "{name}: --{}", flag.long);
            if let Some(short) = flag.short {
                assert!(seen.insert(short.to_string()), "{name}: -{short}");
            }
        }
        assert!(name.is_empty() || !seen.contains("help") && !seen.contains("h"), "{name}: --help");
    }
}

#[test]
fn every_flag_and_command_is_told() {
    for (name, flags) in lists() {
        for flag in flags {
            assert!(!flag.help.is_empty() && !flag.help.ends_with('.'), "{name}: --{}", flag.long);
            assert!(flag.takes != Takes::Nothing || flag.default.is_empty(), "{name}: --{}", flag.long);
        }
    }
    for verb in VERBS {
        assert!(!verb.about.is_empty() && !verb.about.ends_with('.'), "{}", verb.name);
        assert!(verb.most.is_none_or(|most| most >= verb.least), "{}", verb.name);
    }
}

#[test]
fn help_fits_a_terminal() {
    for text in VERBS.iter().map(of_verb).chain([of_program()]) {
        for line in text.lines() {
            assert!(line.chars().count() <= 110, "{line}");
            assert_eq!(line.trim_end(), line);
        }
    }
}

/// The flags that runc 1.1.5 prints for each command: callers of runc may give any of them.
#[test]
fn every_flag_of_runc_is_known() {
    let list = include_str!("../../tests/fixtures/runc-1.1.5-flags.txt");
    let mut count = 0;
    for line in list.lines() {
        let mut words = line.split(' ');
        let (command, names) = (words.next().unwrap_or_default(), words);
        let (_, flags) = lists().find(|(name, _)| *name == command.trim_matches('-')).unwrap_or(("", &[]));
        for name in names {
            let (name, takes) = name.strip_suffix('=').map_or((name, false), |name| (name, true));
            let flag = flags.iter().find(|flag| flag.is_named(name.as_bytes()));
            assert!(flag.is_some(), "{command}: {name}");
            assert_eq!(flag.map(|flag| flag.takes != Takes::Nothing), Some(takes), "{command}: {name}");
            count += 1;
        }
    }
    assert!(count > 100, "only {count} flags were read");
}
