//! What a profile means, said once more and in the simplest way: no tree, no halves, no instructions.
#![allow(dead_code, reason = "each test takes what it needs")]

use std::collections::HashMap;

use filter::seccomp::{Action, Arch, Condition, Operator, Profile};

use crate::machine::Call;

const X32_BIT: u32 = 0x4000_0000;
const ENOSYS: u32 = 0x0005_0026;

/// What may happen to a call.
#[derive(Debug)]
pub(crate) struct Meaning {
    /// Actions of all rules that hold, most particular first; else one: the default, ENOSYS, or the end.
    pub(crate) answers: Vec<u32>,
    /// Whether rules disagree about this very call.
    pub(crate) disputed: bool,
    /// Whether several alternatives are about its number, and not all of them by equality.
    pub(crate) mixed: bool,
}

fn certain(answer: u32) -> Meaning {
    Meaning { answers: vec![answer], disputed: false, mixed: false }
}

/// The rules about one number, each with all its conditions.
type Alternatives = Vec<(Vec<Condition>, Action)>;

/// A profile on a kernel of one architecture.
pub(crate) struct Reader<'a> {
    profile: &'a Profile<'a>,
    arches: Vec<Arch>,
    /// What was read before: the largest number of an architecture, and the rules about a number.
    largest: HashMap<Arch, u32>,
    read: HashMap<(Arch, u32), Alternatives>,
}

impl<'a> Reader<'a> {
    /// A profile, on a kernel of the architecture `native`.
    pub(crate) fn new(profile: &'a Profile<'a>, native: Arch) -> Self {
        let arches: Vec<_> = [native].into_iter().chain(profile.arches.iter().copied()).collect();
        let largest = arches.iter().map(|arch| (*arch, largest(profile, *arch))).collect();
        Self { profile, arches, largest, read: HashMap::new() }
    }

    /// What it means for a call.
    pub(crate) fn meaning(&mut self, call: &Call) -> Meaning {
        let (profile, arches) = (self.profile, &self.arches);
        let x32 = call.audit == Arch::X32.audit() && call.number & X32_BIT != 0;
        let default = profile.default.value();
        let open = matches!(profile.default, Action::Allow | Action::Log | Action::Trace(_));
        let Some(arch) =
            arches.iter().copied().find(|arch| arch.audit() == call.audit && (*arch == Arch::X32) == x32)
        else {
            // A tracer's way to skip a call is no call of an architecture that is not asked for.
            let skipped = call.number == u32::MAX && arches.contains(&Arch::X86_64) && x32;
            return certain(if skipped { default } else { Action::KillThread.value() });
        };
        let largest = self.largest[&arch];
        if !open && largest > 0 && call.number > largest {
            return certain(ENOSYS);
        }
        // Numbers above both halves are x86-64's, when x32 is asked for too, and have no meaning else.
        if arch == Arch::X86_64 && call.number >= 2 * X32_BIT && !arches.contains(&Arch::X32) {
            return certain(Action::KillThread.value());
        }
        let alternatives =
            self.read.entry((arch, call.number)).or_insert_with(|| alternatives(profile, arch, call.number));
        let width = width(arch);
        let equal = |one: &Condition| matches!(one.operator, Operator::Eq | Operator::MaskedEq);
        let mixed = alternatives.len() > 1 && !alternatives.iter().all(|(list, _)| list.iter().all(equal));
        let holds = |(list, _): &&(Vec<Condition>, Action)| list.iter().all(|one| holds(*one, width, call));
        let matches: Vec<_> = alternatives.iter().filter(holds).collect();
        let disputed = matches.iter().any(|(_, action)| *action != matches[0].1);
        let free = matches.iter().find(|(conditions, _)| conditions.is_empty());
        match (free, matches.first()) {
            (Some((_, action)), _) => certain(action.value()),
            (None, Some(_)) => Meaning {
                answers: matches.iter().map(|(_, action)| action.value()).collect(),
                disputed,
                mixed,
            },
            (None, None) => Meaning { mixed, ..certain(default) },
        }
    }
}

fn largest(profile: &Profile, arch: Arch) -> u32 {
    let carried = |name| carrier(arch, name).and_then(|(carrier, _)| arch.call(carrier));
    let names = profile.rules.iter().flat_map(|rule| &rule.names);
    names.filter_map(|name| arch.call(name).max(carried(name))).max().unwrap_or(0)
}

fn width(arch: Arch) -> u64 {
    let narrow = [Arch::X86, Arch::X32, Arch::Arm, Arch::Mipsel, Arch::Mipsel64n32, Arch::Sh];
    if narrow.contains(&arch) { 0xffff_ffff } else { u64::MAX }
}

/// The alternatives of all rules that are about a number.
fn alternatives(profile: &Profile, arch: Arch, number: u32) -> Alternatives {
    let mut found = Vec::new();
    for rule in profile.rules.iter().filter(|rule| rule.action != profile.default) {
        let twice = (0..6).any(|index| rule.conditions.iter().filter(|one| one.index == index).count() > 1);
        let lists: Vec<Vec<Condition>> = if twice {
            rule.conditions.iter().map(|one| vec![*one]).collect()
        } else {
            vec![rule.conditions.clone()]
        };
        for list in &lists {
            let free = |one: &Condition| one.operator == Operator::MaskedEq && one.value & width(arch) == 0;
            let list: Vec<_> = list.iter().copied().filter(|one| !free(one)).collect();
            for name in &rule.names {
                if arch.call(name) == Some(number) {
                    found.push((list.clone(), rule.action));
                }
                // Where another call carries it, its first argument says which it is.
                if let Some((carrier, which)) = carrier(arch, name)
                    && arch.call(carrier) == Some(number)
                {
                    let mut list = list.clone();
                    list.retain(|one| one.index != 0);
                    list.push(Condition { index: 0, operator: Operator::Eq, value: which, second: 0 });
                    found.push((list, rule.action));
                }
            }
        }
    }
    found
}

fn holds(condition: Condition, width: u64, call: &Call) -> bool {
    let argument = call.arguments[usize::from(condition.index)] & width;
    let (value, second) = (condition.value & width, condition.second & width);
    match condition.operator {
        Operator::Ne => argument != value,
        Operator::Lt => argument < value,
        Operator::Le => argument <= value,
        Operator::Eq => argument == value,
        Operator::Ge => argument >= value,
        Operator::Gt => argument > value,
        Operator::MaskedEq => argument & value == second & value,
    }
}

const SOCKET: [&str; 20] = [
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];
const IPC: [(&str, u64); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

fn carrier(arch: Arch, name: &str) -> Option<(&'static str, u64)> {
    if !matches!(arch, Arch::X86 | Arch::Mipsel | Arch::Ppc64le | Arch::Sh) {
        return None;
    }
    if let Some(at) = SOCKET.iter().position(|one| *one == name) {
        return Some(("socketcall", at as u64 + 1));
    }
    IPC.iter().find(|(one, _)| *one == name).map(|(_, which)| ("ipc", *which))
}
