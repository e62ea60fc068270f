//! What holds for every profile that can be written: its filter is one that the kernel takes, and means what the
//! profile says. The fuzz targets and the corpus ask the same.
#![allow(dead_code, reason = "each test takes what it needs")]

use filter::seccomp::{Action, Arch, Condition, Operator, Profile, Rule, compile, key};

use crate::calls;
use crate::machine::{check, run};
use crate::meaning::Reader;

/// Names that one byte chooses from: with conditions of their own, carried by others, of one machine alone, unknown.
const NAMES: [&str; 16] = [
    "read",
    "write",
    "openat",
    "personality",
    "clone",
    "socket",
    "socketcall",
    "accept4",
    "semop",
    "ipc",
    "set_tls",
    "ioctl",
    "open",
    "clone3",
    "execve",
    "no_such_call",
];

/// Bytes, one after the other; zeros after the last.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(*first)
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.next() % list.len()]
    }

    fn value(&mut self) -> u64 {
        let kind = self.next();
        let small = self.next() as u64;
        match kind % 6 {
            0 => small,
            1 => u64::MAX - small,
            2 => small << 32,
            3 => (small << 32) | 0xffff_ffff,
            4 => 0x7e02_0000,
            _ => 1 << (small % 64),
        }
    }

    fn action(&mut self) -> Action {
        let number = self.next() as u16;
        Action::parse(self.pick(&Action::NAMES), Some(number)).unwrap_or(Action::Allow)
    }

    fn condition(&mut self) -> Condition {
        let operator = Operator::parse(self.pick(&Operator::NAMES)).unwrap_or(Operator::Eq);
        Condition { index: self.next() as u8 % 6, operator, value: self.value(), second: self.value() }
    }

    fn rule(&mut self) -> Rule<'static> {
        let names = (0..=self.next() % 3).map(|_| self.pick(&NAMES)).collect();
        let action = self.action();
        let conditions = (0..self.next() % 4).map(|_| self.condition()).collect();
        Rule { names, action, conditions }
    }
}

/// Makes a profile of any bytes, for a kernel of an architecture.
pub(crate) fn make(bytes: &[u8]) -> (Profile<'static>, Arch) {
    let mut bytes = Bytes(bytes);
    let native = bytes.pick(&[Arch::X86_64, Arch::Aarch64]);
    let default = bytes.action();
    let beside: &[Arch] = match native {
        Arch::X86_64 => &[Arch::X86, Arch::X32, Arch::X86_64, Arch::Aarch64],
        _ => &[Arch::Arm, Arch::Aarch64, Arch::X86_64, Arch::X86],
    };
    let arches = (0..bytes.next() % 4).map(|_| bytes.pick(beside)).collect();
    let mut rules = Vec::new();
    while !bytes.0.is_empty() && rules.len() < 8 {
        rules.push(bytes.rule());
    }
    (Profile { default, arches, rules }, native)
}

/// Makes a profile, and compares its filter with its meaning.
pub(crate) fn hold(bytes: &[u8]) {
    let (profile, native) = make(bytes);
    let Ok(program) = compile(&profile, native) else { return };
    assert_eq!(compile(&profile, native).as_ref(), Ok(&program), "one profile, two programs");
    assert_eq!(key(&profile, native), key(&profile.clone(), native));
    check(&program);
    let mut reader = Reader::new(&profile, native);
    calls::each(&profile, native, |call| {
        let (told, meaning) = (run(&program, &call), reader.meaning(&call));
        assert!(
            meaning.answers.contains(&told.answer),
            "{call:x?}: {:#x}, not {meaning:x?}: {profile:#?}",
            told.answer
        );
        assert!(!told.astray);
    });
}
