//! The same profile through libseccomp, in the way in which runc asks it.
#![allow(dead_code, reason = "each test takes what it needs")]

use std::io::{Read as _, Seek as _};

use filter::seccomp::{Action, Arch, Condition, Instruction, Operator, Profile};
use libseccomp::error::SeccompError;
use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};

fn action(of: Action) -> ScmpAction {
    match of {
        Action::KillThread => ScmpAction::KillThread,
        Action::KillProcess => ScmpAction::KillProcess,
        Action::Trap => ScmpAction::Trap,
        Action::Errno(number) => ScmpAction::Errno(number.into()),
        Action::Trace(number) => ScmpAction::Trace(number),
        Action::Allow => ScmpAction::Allow,
        Action::Log => ScmpAction::Log,
        Action::Notify => ScmpAction::Notify,
    }
}

fn comparison(of: &Condition) -> ScmpArgCompare {
    let (operator, value) = match of.operator {
        Operator::Ne => (ScmpCompareOp::NotEqual, of.value),
        Operator::Lt => (ScmpCompareOp::Less, of.value),
        Operator::Le => (ScmpCompareOp::LessOrEqual, of.value),
        Operator::Eq => (ScmpCompareOp::Equal, of.value),
        Operator::Ge => (ScmpCompareOp::GreaterEqual, of.value),
        Operator::Gt => (ScmpCompareOp::Greater, of.value),
        Operator::MaskedEq => (ScmpCompareOp::MaskedEqual(of.value), of.second),
    };
    ScmpArgCompare::new(of.index.into(), operator, value)
}

/// Its name of an architecture.
pub(crate) fn arch(of: Arch) -> ScmpArch {
    of.name().parse().expect("an architecture that libseccomp knows")
}

/// Whether it knows a call wherever we do. Of those that another call carries it hides the direct number.
pub(crate) fn knows(name: &str) -> bool {
    let arches = [Arch::X86_64, Arch::X32, Arch::X86, Arch::Aarch64, Arch::Arm];
    let hides = |of: Arch| {
        ScmpSyscall::from_name_by_arch(name, arch(of))
            .is_ok_and(|one| one.as_raw_syscall() < -99 && one.as_raw_syscall() > -300)
    };
    arches.iter().all(|arch| number(name, *arch) == arch.call(name) || hides(*arch))
}

/// Its number of a call, where there is one that the kernel sees.
pub(crate) fn number(name: &str, of: Arch) -> Option<u32> {
    let number = ScmpSyscall::from_name_by_arch(name, arch(of)).ok()?.as_raw_syscall();
    u32::try_from(number).ok()
}

/// Its filter, without the part for calls newer than the profile, which runc puts before it.
pub(crate) fn compile(profile: &Profile, native: Arch) -> Result<Vec<Instruction>, SeccompError> {
    let mut filter = ScmpFilterContext::new(action(profile.default))?;
    if native != Arch::X86_64 {
        filter.remove_arch(ScmpArch::X8664)?;
        filter.add_arch(arch(native))?;
    }
    for one in &profile.arches {
        filter.add_arch(arch(*one))?;
    }
    let names: usize = profile.rules.iter().map(|rule| rule.names.len()).sum();
    if names > 32 {
        filter.set_ctl_optimize(2)?;
    }
    for rule in profile.rules.iter().filter(|rule| rule.action != profile.default) {
        let twice = (0..6).any(|index| rule.conditions.iter().filter(|one| one.index == index).count() > 1);
        for name in &rule.names {
            let Ok(call) = ScmpSyscall::from_name(name) else { continue };
            let comparisons: Vec<_> = rule.conditions.iter().map(comparison).collect();
            if comparisons.is_empty() {
                filter.add_rule(action(rule.action), call)?;
            }
            for list in comparisons.chunks(if twice { 1 } else { 6 }) {
                filter.add_rule_conditional(action(rule.action), call, list)?;
            }
        }
    }
    let mut file = tempfile::tempfile().expect("a file");
    filter.export_bpf(&file)?;
    let mut bytes = Vec::new();
    file.rewind().expect("its beginning");
    file.read_to_end(&mut bytes).expect("what libseccomp wrote");
    Ok(bytes.chunks(8).map(instruction).collect())
}

fn instruction(bytes: &[u8]) -> Instruction {
    let [low, high, jt, jf, k @ ..] = bytes else { panic!("half an instruction") };
    let k = k.try_into().map(u32::from_ne_bytes).expect("an operand");
    Instruction { code: u16::from_ne_bytes([*low, *high]), jt: *jt, jf: *jf, k }
}
