//! From decisions to instructions. Jumps of classic BPF go forward only, and a conditional one no further than 255
//! instructions; so a program is written from its end to its beginning, when each target is already there, and a jump
//! that would be too long goes by way of an unconditional one.

use std::collections::HashMap;

/// One instruction: `struct sock_filter` of `linux/filter.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// Instructions to skip if the comparison holds.
    pub jt: u8,
    /// Instructions to skip if it does not.
    pub jf: u8,
    /// Its operand.
    pub k: u32,
}

/// `BPF_LD | BPF_W | BPF_ABS`: the accumulator becomes a word of `struct seccomp_data`.
pub(super) const LOAD: u16 = 0x20;
/// `BPF_ALU | BPF_AND | BPF_K`.
pub(super) const AND: u16 = 0x54;
/// `BPF_JMP | BPF_JA`.
pub(super) const GOTO: u16 = 0x05;
/// `BPF_RET | BPF_K`.
pub(super) const RETURN: u16 = 0x06;

/// The longest conditional jump, in instructions.
const FAR: usize = 255;

/// How the accumulator is compared with the operand, unsigned: `BPF_JMP | BPF_K` and the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub(super) enum Jump {
    /// Equal.
    Equal = 0x15,
    /// Greater.
    Above = 0x25,
    /// Greater or equal.
    AtLeast = 0x35,
    /// Any bit of the operand is set.
    AnyBit = 0x45,
}

impl Jump {
    /// All of them.
    pub(super) const ALL: [Self; 4] = [Self::Equal, Self::Above, Self::AtLeast, Self::AnyBit];
}

/// A place in the program, counted from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Label(usize);

/// One comparison, with what comes before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Test {
    /// Which word of `struct seccomp_data` is loaded first, by its offset in bytes; the accumulator stays as it is without.
    pub(super) load: Option<u32>,
    /// Which bits of it count.
    pub(super) mask: u32,
    /// How it is compared,
    pub(super) jump: Jump,
    /// and with what.
    pub(super) with: u32,
}

/// A program in the making, last instruction first.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    code: Vec<Instruction>,
    tests: HashMap<(Test, Label, Label), Label>,
    returns: HashMap<u32, Label>,
}

impl Assembly {
    /// Ends with this value. A place that does so already is taken if a conditional jump reaches it.
    pub(super) fn answer(&mut self, value: u32) -> Label {
        if let Some(label) = self.returns.get(&value).copied()
            && self.distance(label) < FAR
        {
            return label;
        }
        let label = self.push(RETURN, 0, 0, value);
        self.returns.insert(value, label);
        label
    }

    /// Goes on at `yes` if the comparison holds, and at `no` otherwise.
    pub(super) fn test(&mut self, test: Test, yes: Label, no: Label) -> Label {
        if yes == no {
            return yes;
        }
        if let Some(label) = self.tests.get(&(test, yes, no)) {
            return *label;
        }
        let (mut near_yes, mut near_no) = (yes, no);
        // Each step inserted moves the other target one further off; after both are near they stay so.
        if self.distance(near_no) >= FAR {
            near_no = self.go(near_no);
        }
        if self.distance(near_yes) > FAR {
            near_yes = self.go(near_yes);
        }
        let skip = |label| u8::try_from(self.distance(label)).unwrap_or(u8::MAX);
        let (jt, jf) = (skip(near_yes), skip(near_no));
        let mut label = self.push(test.jump as u16, jt, jf, test.with);
        if test.mask != u32::MAX {
            label = self.push(AND, 0, 0, test.mask);
        }
        if let Some(offset) = test.load {
            label = self.load(offset);
        }
        self.tests.insert((test, yes, no), label);
        label
    }

    /// Loads a word of `struct seccomp_data` before what was written last.
    pub(super) fn load(&mut self, offset: u32) -> Label {
        self.push(LOAD, 0, 0, offset)
    }

    /// Loads a word, and goes on at a place that may be anywhere behind.
    pub(super) fn load_for(&mut self, offset: u32, next: Label) -> Label {
        if self.distance(next) > 0 {
            self.go(next);
        }
        self.load(offset)
    }

    /// The program, first instruction first.
    pub(super) fn finish(mut self) -> Vec<Instruction> {
        self.code.reverse();
        self.code
    }

    fn go(&mut self, to: Label) -> Label {
        let skip = u32::try_from(self.distance(to)).unwrap_or(u32::MAX);
        self.push(GOTO, 0, 0, skip)
    }

    /// Instructions between the one that is written next and a place.
    fn distance(&self, to: Label) -> usize {
        self.code.len() - to.0 - 1
    }

    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        self.code.push(Instruction { code, jt, jf, k });
        Label(self.code.len() - 1)
    }
}
