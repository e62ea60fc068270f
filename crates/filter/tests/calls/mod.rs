//! Calls to ask filters about: every number, and around every value that a condition names.
#![allow(dead_code, reason = "each test takes what it needs")]

use std::collections::{BTreeMap, BTreeSet};

use filter::seccomp::{Arch, Condition, Operator, Profile};

use crate::machine::Call;

/// Numbers at random, the same ones in each run.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.roll() % limit as u64) as usize
    }

    pub(crate) fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

/// Most calls asked about one number.
const EACH: usize = 400;

/// Asks about every number of every architecture that the filter can tell from others.
pub(crate) fn each(profile: &Profile, native: Arch, mut ask: impl FnMut(Call)) {
    let mut dice = Dice::new(7);
    let arches: BTreeSet<u32> =
        [native, Arch::X86_64, Arch::X86, Arch::Aarch64, Arch::Arm].iter().map(|arch| arch.audit()).collect();
    for audit in arches {
        let pools = pools(profile, audit);
        for number in numbers(profile, audit) {
            let none = BTreeMap::new();
            let pool = pools.get(&number).unwrap_or(&none);
            let combinations = pool.values().map(Vec::len).product::<usize>();
            for turn in 0..combinations.min(EACH) {
                let mut arguments = [0x0102_0304_0506_0708; 6];
                let mut rest = turn;
                for (index, values) in pool {
                    arguments[usize::from(*index)] = if combinations <= EACH {
                        let at = rest % values.len();
                        rest /= values.len();
                        values[at]
                    } else {
                        *dice.pick(values)
                    };
                }
                ask(Call { number, audit, arguments });
            }
        }
    }
    // An architecture that nobody has.
    ask(Call { number: 1, audit: 0xdead_beef, arguments: [0; 6] });
}

fn of(audit: u32) -> impl Iterator<Item = Arch> {
    Arch::ALL.into_iter().filter(move |arch| arch.audit() == audit)
}

fn numbers(profile: &Profile, audit: u32) -> BTreeSet<u32> {
    let mut numbers: BTreeSet<u32> = (0..=520).collect();
    numbers.extend((0..=560).map(|number| 0x4000_0000 + number));
    numbers.extend([0x0f_0001, 0x0f_0002, 0x0f_0005, 0x0f_0006, 0x3fff_ffff, 0x7fff_ffff, 0x8000_0000]);
    numbers.extend([0x8000_0001, 0xbfff_ffff, 0xc000_0000, 0xffff_fffe, 0xffff_ffff]);
    for arch in of(audit) {
        let named = profile.rules.iter().flat_map(|rule| &rule.names).filter_map(|name| arch.call(name));
        numbers.extend(named.flat_map(|number| [number.saturating_sub(1), number, number.saturating_add(1)]));
    }
    numbers
}

/// For each number that conditions are about, and each argument: the values worth a try.
fn pools(profile: &Profile, audit: u32) -> BTreeMap<u32, BTreeMap<u8, Vec<u64>>> {
    let mut pools: BTreeMap<u32, BTreeMap<u8, Vec<u64>>> = BTreeMap::new();
    for rule in &profile.rules {
        for name in &rule.names {
            for arch in of(audit) {
                // The rule may be about the calls that carry this one, too.
                for (name, carries) in [(*name, false), ("socketcall", true), ("ipc", true)] {
                    let Some(number) = arch.call(name) else { continue };
                    let pool = pools.entry(number).or_default();
                    if carries {
                        pool.entry(0).or_default().extend(0..=25);
                    }
                    for condition in &rule.conditions {
                        pool.entry(condition.index).or_default().extend(values(*condition));
                    }
                }
            }
        }
    }
    for values in pools.values_mut().flat_map(BTreeMap::values_mut) {
        values.sort_unstable();
        values.dedup();
    }
    pools
}

fn values(condition: Condition) -> Vec<u64> {
    let Condition { value, second, .. } = condition;
    let mut values =
        vec![value, value.wrapping_add(1), value.wrapping_sub(1), value ^ (1 << 32), value & 0xffff_ffff];
    values.extend([value | 0xffff_ffff_0000_0000, value ^ (1 << 63), 0, u64::MAX]);
    if condition.operator == Operator::MaskedEq {
        values.extend([
            second,
            second | !value,
            second & value,
            (second & value) ^ (value & value.wrapping_neg()),
            !value,
        ]);
    }
    values
}
