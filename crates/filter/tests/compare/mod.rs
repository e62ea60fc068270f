//! Every call through a filter of ours and through libseccomp's, and what of the differences is known: see `oracle`.
#![allow(dead_code, reason = "each test takes what it needs")]

use std::collections::HashSet;

use filter::seccomp::{Arch, Profile, compile};

use crate::calls;
use crate::machine::{self, run};
use crate::meaning::Reader;
use crate::peer;

/// What a comparison counted.
#[derive(Debug, Default)]
pub(crate) struct Count {
    pub(crate) profiles: usize,
    /// Numbers, each of an architecture and in a profile.
    pub(crate) numbers: usize,
    /// Numbers with arguments.
    pub(crate) calls: usize,
    /// Rules disagree about them.
    pub(crate) disputed: usize,
    /// and we with libseccomp.
    pub(crate) otherwise: usize,
    /// libseccomp compares the architecture with a number.
    pub(crate) astray: usize,
    /// libseccomp has lost a branch.
    pub(crate) lost: usize,
}

impl Count {
    /// Both together.
    pub(crate) fn add(&mut self, other: &Self) {
        self.profiles += other.profiles;
        self.numbers += other.numbers;
        self.calls += other.calls;
        self.disputed += other.disputed;
        self.otherwise += other.otherwise;
        self.astray += other.astray;
        self.lost += other.lost;
    }
}

impl std::fmt::Display for Count {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { profiles, numbers, calls, disputed, otherwise, astray, lost } = self;
        write!(
            to,
            "{profiles} profiles, {numbers} system calls, {calls} argument vectors, 0 unexplained differences"
        )?;
        write!(
            to,
            "; rules disagree about {disputed}, of which libseccomp's tree answers {otherwise} otherwise"
        )?;
        write!(to, "; its filters are astray in {astray}, and have lost a branch in {lost}")
    }
}

const ENOSYS: u32 = 0x0005_0026;

/// The names that this libseccomp knows; newer ones it ignores, and only a look at the meaning can be had of them.
/// (Docker's profile is newer than the libseccomp of a stable distribution.)
pub(crate) fn known<'a>(profile: &Profile<'a>) -> Profile<'a> {
    let mut known = profile.clone();
    for rule in &mut known.rules {
        rule.names.retain(|name| peer::knows(name));
    }
    known.rules.retain(|rule| !rule.names.is_empty());
    known
}

/// Every call through both filters. Nothing if libseccomp does not take the profile.
pub(crate) fn compare(what: &str, profile: &Profile, native: Arch) -> Option<Count> {
    let theirs = peer::compile(profile, native).ok()?;
    let ours = compile(profile, native).unwrap_or_else(|refused| panic!("{what}: {refused}"));
    machine::check(&ours);
    machine::check(&theirs);
    let (mut count, mut reader) = (Count { profiles: 1, ..Count::default() }, Reader::new(profile, native));
    let mut numbers = HashSet::new();
    calls::each(profile, native, |call| {
        count.calls += 1;
        count.numbers += usize::from(numbers.insert((call.audit, call.number)));
        let answer = run(&ours, &call).answer;
        let meaning = reader.meaning(&call);
        assert!(
            meaning.answers.contains(&answer),
            "{what}: {call:x?}: {answer:#x}, not one of {meaning:x?}: {profile:#?}"
        );
        let theirs = run(&theirs, &call);
        let expected = if meaning.answers == [ENOSYS] { ENOSYS } else { theirs.answer };
        count.disputed += usize::from(meaning.disputed);
        if answer != expected {
            match (meaning.disputed, theirs.astray, meaning.mixed) {
                (true, ..) => count.otherwise += 1,
                (_, true, _) => count.astray += 1,
                (_, _, true) => count.lost += 1,
                _ => panic!("{what}: {call:x?}: {answer:#x}, not {expected:#x}: {profile:#?}"),
            }
        }
    });
    Some(count)
}
