//! Conditions on arguments. An argument has 64 bits and the filter's machine 32: each is looked at in halves.

use std::cmp::{Ordering, Reverse};

use super::Arch;
use super::assemble::{Assembly, Jump, Label, Test};

/// How an argument is compared, unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    /// Not equal to the value.
    Ne,
    /// Less than it.
    Lt,
    /// Less than it or equal.
    Le,
    /// Equal to it.
    Eq,
    /// Greater than it or equal.
    Ge,
    /// Greater than it.
    Gt,
    /// Under the value as a mask equal to the second value.
    MaskedEq,
}

impl Operator {
    /// The words that [`Operator::parse`] knows.
    pub const NAMES: [&str; 7] = [
        "SCMP_CMP_EQ",
        "SCMP_CMP_GE",
        "SCMP_CMP_GT",
        "SCMP_CMP_LE",
        "SCMP_CMP_LT",
        "SCMP_CMP_MASKED_EQ",
        "SCMP_CMP_NE",
    ];

    /// By the specification's word.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "SCMP_CMP_NE" => Self::Ne,
            "SCMP_CMP_LT" => Self::Lt,
            "SCMP_CMP_LE" => Self::Le,
            "SCMP_CMP_EQ" => Self::Eq,
            "SCMP_CMP_GE" => Self::Ge,
            "SCMP_CMP_GT" => Self::Gt,
            "SCMP_CMP_MASKED_EQ" => Self::MaskedEq,
            _ => return None,
        })
    }
}

/// One condition on an argument.
///
/// Of two rules that both hold, the more particular one wins, as it does with libseccomp wherever that has an order of its
/// own: the one whose first argument has the higher index; then equality (and its kin) before an upper bound
/// before a lower one; then the smaller upper bound, else the greater value; then the next argument in the same way; at
/// last the shorter list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Condition {
    /// Which argument, 0 to 5.
    pub index: u8,
    /// How it is compared.
    pub operator: Operator,
    /// What with, or the mask.
    pub value: u64,
    /// With [`Operator::MaskedEq`], what is to be left under the mask.
    pub second: u64,
}

impl Condition {
    /// The same condition, written in one way: the datum under its mask, and nothing where nothing is looked at.
    pub(super) fn plain(self) -> Self {
        let second = if self.operator == Operator::MaskedEq { self.second & self.value } else { 0 };
        Self { second, ..self }
    }

    /// As an architecture sees it.
    pub(super) fn seen(self, arch: Arch) -> Self {
        let width = if arch.is_wide() { u64::MAX } else { u64::from(u32::MAX) };
        Self { value: self.value & width, second: self.second & width, ..self }
    }

    /// Whether it holds for every argument.
    pub(super) fn is_empty(self) -> bool {
        self.operator == Operator::MaskedEq && self.value == 0
    }

    /// Which of two comes first; see [`Condition`].
    pub(super) fn order(self, other: Self) -> Ordering {
        let rank = |one: Self| {
            let kind = match one.operator {
                Operator::MaskedEq | Operator::Eq | Operator::Ne => 0,
                Operator::Le | Operator::Lt => 1,
                Operator::Ge | Operator::Gt => 2,
            };
            let datum = if one.operator == Operator::MaskedEq { one.second } else { one.value };
            let datum = if kind == 1 { datum } else { u64::MAX - datum };
            (Reverse(one.index), kind, datum, one.operator as u8, one.value)
        };
        rank(self).cmp(&rank(other))
    }

    /// Goes on at `yes` where it holds, and at `no` otherwise.
    pub(super) fn assemble(self, arch: Arch, code: &mut Assembly, yes: Label, no: Label) -> Label {
        let sides = Sides { arch, index: self.index, value: self.value };
        match self.operator {
            Operator::Eq => sides.equal(code, yes, no),
            Operator::Ne => sides.equal(code, no, yes),
            Operator::Gt => sides.greater(code, Jump::Above, yes, no),
            Operator::Le => sides.greater(code, Jump::Above, no, yes),
            Operator::Ge => sides.greater(code, Jump::AtLeast, yes, no),
            Operator::Lt => sides.greater(code, Jump::AtLeast, no, yes),
            Operator::MaskedEq => {
                // The lower half first: flags live there, so that most tests end with it.
                let high = sides.masked(code, true, self.second, yes, no);
                sides.masked(code, false, self.second, high, no)
            }
        }
    }
}

/// The halves of an argument and of what it is compared with.
#[derive(Clone, Copy, Debug)]
struct Sides {
    arch: Arch,
    index: u8,
    value: u64,
}

impl Sides {
    fn test(self, high: bool, mask: u32, jump: Jump, with: u32) -> Test {
        /// `offsetof(struct seccomp_data, args)`.
        const ARGUMENTS: u32 = 16;
        let half = if high == self.arch.is_big_endian() { 0 } else { 4 };
        Test { load: Some(ARGUMENTS + 8 * u32::from(self.index) + half), mask, jump, with }
    }

    fn equal(self, code: &mut Assembly, yes: Label, no: Label) -> Label {
        let mut next = yes;
        if self.arch.is_wide() {
            next = code.test(self.test(true, u32::MAX, Jump::Equal, high(self.value)), next, no);
        }
        code.test(self.test(false, u32::MAX, Jump::Equal, low(self.value)), next, no)
    }

    fn greater(self, code: &mut Assembly, jump: Jump, yes: Label, no: Label) -> Label {
        let next = code.test(self.test(false, u32::MAX, jump, low(self.value)), yes, no);
        if !self.arch.is_wide() {
            return next;
        }
        let same = self.test(true, u32::MAX, Jump::Equal, high(self.value));
        // What was loaded for the first comparison is there for the second.
        let same = code.test(Test { load: None, ..same }, next, no);
        code.test(self.test(true, u32::MAX, Jump::Above, high(self.value)), yes, same)
    }

    fn masked(self, code: &mut Assembly, upper: bool, datum: u64, yes: Label, no: Label) -> Label {
        let (mask, datum) =
            if upper { (high(self.value), high(datum)) } else { (low(self.value), low(datum)) };
        if mask == 0 {
            yes
        } else if datum == 0 {
            code.test(self.test(upper, u32::MAX, Jump::AnyBit, mask), no, yes)
        } else {
            code.test(self.test(upper, mask, Jump::Equal, datum), yes, no)
        }
    }
}

fn high(value: u64) -> u32 {
    u32::try_from(value >> 32).unwrap_or(u32::MAX)
}

fn low(value: u64) -> u32 {
    u32::try_from(value & u64::from(u32::MAX)).unwrap_or(u32::MAX)
}
