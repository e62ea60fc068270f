//! The machine that runs classic BPF, as far as seccomp(2) lets a filter use it.
#![allow(dead_code, reason = "each test takes what it needs")]

use filter::seccomp::{Arch, Instruction};

/// What a filter looks at: `struct seccomp_data`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) number: u32,
    pub(crate) audit: u32,
    pub(crate) arguments: [u64; 6],
}

/// What a run told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) answer: u32,
    /// Instructions walked.
    pub(crate) steps: usize,
    /// Whether an argument was looked at.
    pub(crate) curious: bool,
    /// Whether the architecture was compared with what is none: the program has lost its way.
    pub(crate) astray: bool,
}

impl Call {
    /// The word at an offset, on a machine whose first byte of a word is its lowest.
    fn word(&self, offset: u32) -> u32 {
        assert!(offset.is_multiple_of(4) && offset < 64, "a load at {offset}");
        let half = |value: u64, upper: bool| (value >> if upper { 32 } else { 0 }) as u32;
        match offset {
            0 => self.number,
            4 => self.audit,
            8 | 12 => 0x5555_5555,
            _ => half(self.arguments[(offset as usize - 16) / 8], offset % 8 == 4),
        }
    }
}

/// Runs a filter, and fails where the kernel would not have loaded it.
pub(crate) fn run(program: &[Instruction], call: &Call) -> Run {
    let (mut at, mut accumulator, mut steps) = (0, 0, 0);
    let (mut loaded, mut curious, mut astray) = (0, false, false);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        steps += 1;
        at += 1;
        let mut jump = |holds: bool| {
            at += usize::from(if holds { jt } else { jf });
            astray |= loaded == 4 && Arch::ALL.iter().all(|arch| arch.audit() != k);
        };
        match code {
            0x20 => {
                accumulator = call.word(k);
                loaded = k;
                curious |= k >= 16;
            }
            0x54 => accumulator &= k,
            0x05 => at += k as usize,
            0x15 => jump(accumulator == k),
            0x25 => jump(accumulator > k),
            0x35 => jump(accumulator >= k),
            0x45 => jump(accumulator & k != 0),
            0x06 => return Run { answer: k, steps, curious, astray },
            _ => panic!("instruction {at} has code {code:#x}"),
        }
    }
}

/// What the kernel checks before it loads a filter: jumps within, an answer at the end, known instructions only.
pub(crate) fn check(program: &[Instruction]) {
    assert!(!program.is_empty() && program.len() <= 4096, "{} instructions", program.len());
    for (at, one) in program.iter().enumerate() {
        let furthest = match one.code {
            0x05 => one.k as usize,
            0x15 | 0x25 | 0x35 | 0x45 => usize::from(one.jt.max(one.jf)),
            0x20 | 0x54 => 0,
            0x06 => continue,
            code => panic!("instruction {at} has code {code:#x}"),
        };
        assert!(at + 1 + furthest < program.len(), "instruction {at} leaves the program: {one:?}");
    }
}
