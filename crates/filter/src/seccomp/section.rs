//! The program: one section for each architecture that a filter can tell from others, and in it a balanced tree over the
//! numbers. What an argument has no say in is a range of numbers with one answer; neighbours with the same answer
//! are one range, so that the tree of a long list of allowed calls is small.

use std::collections::HashMap;

use super::Condition;
use super::arch::X32_BIT;
use super::assemble::{Assembly, Instruction, Jump, Label, Test};
use super::decide::{Case, Named};
use super::{Action, Arch, Profile};

/// `offsetof(struct seccomp_data, nr)` and `arch`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;

/// `SECCOMP_RET_ERRNO | ENOSYS`, which is 38.
const UNKNOWN: u32 = 0x0005_0026;

/// What follows from a number, or from a range of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaf {
    /// This value.
    Answer(u32),
    /// What the arguments say: the case at this place of the list.
    Case(usize),
}

/// Numbers from here up to the next range.
#[derive(Clone, Copy, Debug)]
struct Range {
    from: u32,
    leaf: Leaf,
}

/// Branches that are in the program, by whether they look at both halves of an argument: calls that ask the same
/// questions share them.
type Shared = HashMap<(bool, Vec<(Vec<Condition>, Action)>), Label>;

/// The whole program; `arches` begins with the kernel's own.
pub(super) fn program(profile: &Profile, named: &Named, arches: &[Arch]) -> Vec<Instruction> {
    let mut code = Assembly::default();
    let mut entry = code.answer(Action::KillThread.value());
    let mut done: Vec<u32> = Vec::new();
    let mut sections = Vec::new();
    for arch in arches {
        if !done.contains(&arch.audit()) {
            done.push(arch.audit());
            let kin: Vec<_> = arches.iter().filter(|one| one.audit() == arch.audit()).copied().collect();
            sections.push((*arch, kin));
        }
    }
    let (mut tests, mut shared) = (Vec::new(), Shared::new());
    // Written from the end: the kernel's own section comes out first.
    for (arch, kin) in sections.into_iter().rev() {
        tests.push((arch.audit(), section(&mut code, &mut shared, profile, named, &kin)));
    }
    for (audit, label) in tests {
        let test = Test { load: None, mask: u32::MAX, jump: Jump::Equal, with: audit };
        entry = code.test(test, label, entry);
    }
    code.load_for(ARCH, entry);
    code.finish()
}

/// The section of one `AUDIT_ARCH_*`: of x86-64 and x32 together, of any other alone.
fn section(
    code: &mut Assembly,
    shared: &mut Shared,
    profile: &Profile,
    named: &Named,
    kin: &[Arch],
) -> Label {
    let stub = |arch: Arch| named.largest(arch).filter(|_| !profile.default.is_open());
    let mut ranges = background(profile.default.value(), kin, stub);
    let mut cases = Vec::new();
    for arch in kin {
        for case in named.cases(*arch) {
            cases.push((*arch, case));
        }
    }
    for (at, (_, case)) in cases.iter().enumerate() {
        let leaf = match case.branches.as_slice() {
            [(conditions, action)] if conditions.is_empty() => Leaf::Answer(action.value()),
            _ => Leaf::Case(at),
        };
        cut(&mut ranges, case.number, leaf);
    }
    if let [arch] = kin
        && arch.has_multiplex()
        && stub(*arch).is_some()
    {
        cut(&mut ranges, 0, Leaf::Answer(UNKNOWN));
    }
    ranges.dedup_by(|next, one| next.leaf == one.leaf);

    let labels: Vec<_> =
        cases.iter().rev().map(|(arch, case)| branches(code, shared, profile, *arch, case)).collect();
    let label = tree(code, &ranges, &|code, leaf| match leaf {
        Leaf::Answer(value) => code.answer(value),
        // The list of labels runs backwards, as the program does.
        Leaf::Case(at) => match labels.iter().rev().nth(at).copied().flatten() {
            Some(label) => label,
            None => code.answer(profile.default.value()),
        },
    });
    code.load_for(NUMBER, label)
}

/// What numbers mean that no rule is about: the default action, beyond the largest number named ENOSYS, and where the
/// other half of x86-64's numbers is not asked for, the end. A tracer skips a call by the number -1: that is no call of
/// x32.
fn background(default: u32, kin: &[Arch], stub: impl Fn(Arch) -> Option<u32>) -> Vec<Range> {
    let answer = |from, value| Range { from, leaf: Leaf::Answer(value) };
    let bad = Action::KillThread.value();
    let part = |ranges: &mut Vec<Range>, arch: Arch, from: u32| {
        ranges.push(answer(from, default));
        if let Some(last) = stub(arch) {
            ranges.push(answer(last + 1, UNKNOWN));
        }
    };
    let mut ranges = Vec::new();
    let (wide, x32) = (kin.contains(&Arch::X86_64), kin.contains(&Arch::X32));
    if !wide && !x32 {
        for arch in kin {
            part(&mut ranges, *arch, 0);
        }
        return ranges;
    }
    // Bit 30 tells the two apart; bit 31 above it is set in no call that exists.
    if wide {
        part(&mut ranges, Arch::X86_64, 0);
    } else {
        ranges.push(answer(0, bad));
    }
    if x32 {
        part(&mut ranges, Arch::X32, X32_BIT);
    } else {
        ranges.push(answer(X32_BIT, bad));
    }
    let above = match stub(Arch::X86_64) {
        Some(_) if wide => UNKNOWN,
        _ if x32 => default,
        _ => bad,
    };
    ranges.push(answer(2 * X32_BIT, above));
    match stub(Arch::X32) {
        Some(_) if x32 => ranges.push(answer(3 * X32_BIT, UNKNOWN)),
        _ if x32 => ranges.push(answer(3 * X32_BIT, default)),
        _ => ranges.extend([answer(3 * X32_BIT, bad), answer(u32::MAX, default)]),
    }
    ranges
}

/// Gives one number a leaf of its own.
fn cut(ranges: &mut Vec<Range>, number: u32, leaf: Leaf) {
    let after = ranges.partition_point(|range| range.from <= number);
    let Some(around) = after.checked_sub(1).and_then(|at| ranges.get(at)).copied() else { return };
    let ends = ranges.get(after).is_some_and(|next| next.from == number + 1) || number == u32::MAX;
    let mut pieces = vec![Range { from: number, leaf }];
    if !ends {
        pieces.push(Range { from: number + 1, leaf: around.leaf });
    }
    let from = if around.from == number { after - 1 } else { after };
    ranges.splice(from..after, pieces);
}

/// The branches of a case, each with what follows where it does not hold.
fn branches(
    code: &mut Assembly,
    shared: &mut Shared,
    profile: &Profile,
    arch: Arch,
    case: &Case,
) -> Option<Label> {
    if matches!(case.branches.as_slice(), [(conditions, _)] if conditions.is_empty()) {
        return None;
    }
    let key = (arch.is_wide(), case.branches.clone());
    if let Some(label) = shared.get(&key) {
        return Some(*label);
    }
    let mut otherwise = code.answer(profile.default.value());
    for (conditions, action) in case.branches.iter().rev() {
        let mut label = code.answer(action.value());
        for condition in conditions.iter().rev() {
            label = condition.assemble(arch, code, label, otherwise);
        }
        otherwise = label;
    }
    shared.insert(key, otherwise);
    Some(otherwise)
}

/// A balanced tree over ranges; the accumulator holds the number.
fn tree(code: &mut Assembly, ranges: &[Range], leaf: &impl Fn(&mut Assembly, Leaf) -> Label) -> Label {
    let test = |jump, with| Test { load: None, mask: u32::MAX, jump, with };
    match ranges {
        [] => code.answer(Action::KillThread.value()),
        [only] => leaf(code, only.leaf),
        // One number between two halves of a range.
        [around, one, rest] if around.leaf == rest.leaf && rest.from == one.from + 1 => {
            let (yes, no) = (leaf(code, one.leaf), leaf(code, around.leaf));
            code.test(test(Jump::Equal, one.from), yes, no)
        }
        _ => {
            let (lower, upper) = ranges.split_at(ranges.len() / 2);
            let from = upper.first().map_or(0, |range| range.from);
            let upper = tree(code, upper, leaf);
            let lower = tree(code, lower, leaf);
            code.test(test(Jump::AtLeast, from), upper, lower)
        }
    }
}
