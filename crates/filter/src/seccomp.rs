//! Seccomp profiles, compiled to the classic BPF that seccomp(2) takes.
//!
//! A filter looks at the architecture first, then finds the number of the call in a balanced tree. Only a call that a
//! condition names has its arguments looked at, and only after its number was found: so the kernel can tell
//! from the program alone which calls are always allowed, and (since 5.11) does not run it for them at all.
//!
//! What a profile means is what runc makes of it with libseccomp; where that depends on accidents of
//! libseccomp's own tree, [`compile`] says what holds here.

mod arch;
mod assemble;
mod condition;
mod decide;
mod kept;
mod key;
mod section;
mod table;

use std::fmt;

pub use arch::Arch;
pub use assemble::Instruction;
pub use condition::{Condition, Operator};
pub use kept::{pack, unpack};
pub use key::{Key, key};

/// The longest program that the kernel takes (`BPF_MAXINSNS`), in instructions.
pub const MOST: usize = 4096;

/// What happens to a call. The numbers are what the kernel's answer carries: an error number, or a tracer's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// The thread dies of SIGSYS; `SCMP_ACT_KILL` is the same.
    KillThread,
    /// The process dies of SIGSYS.
    KillProcess,
    /// The thread gets SIGSYS.
    Trap,
    /// The call fails with this error number.
    Errno(u16),
    /// The tracer decides; without one the call fails with ENOSYS.
    Trace(u16),
    /// The call is made.
    Allow,
    /// The call is made, and logged.
    Log,
    /// The agent at the listener decides.
    Notify,
}

impl Action {
    /// The words that [`Action::parse`] knows.
    pub const NAMES: [&str; 9] = [
        "SCMP_ACT_ALLOW",
        "SCMP_ACT_ERRNO",
        "SCMP_ACT_KILL",
        "SCMP_ACT_KILL_PROCESS",
        "SCMP_ACT_KILL_THREAD",
        "SCMP_ACT_LOG",
        "SCMP_ACT_NOTIFY",
        "SCMP_ACT_TRACE",
        "SCMP_ACT_TRAP",
    ];

    /// The specification's word, with the number for those that carry one: EPERM without. Nothing for other words.
    pub fn parse(name: &str, number: Option<u16>) -> Option<Self> {
        const EPERM: u16 = 1;
        let number = number.unwrap_or(EPERM);
        Some(match name {
            "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Self::KillThread,
            "SCMP_ACT_KILL_PROCESS" => Self::KillProcess,
            "SCMP_ACT_TRAP" => Self::Trap,
            "SCMP_ACT_ERRNO" => Self::Errno(number),
            "SCMP_ACT_TRACE" => Self::Trace(number),
            "SCMP_ACT_ALLOW" => Self::Allow,
            "SCMP_ACT_LOG" => Self::Log,
            "SCMP_ACT_NOTIFY" => Self::Notify,
            _ => return None,
        })
    }

    /// What a filter returns for it: `SECCOMP_RET_*` of `linux/seccomp.h`.
    pub fn value(self) -> u32 {
        match self {
            Self::KillThread => 0,
            Self::KillProcess => 0x8000_0000,
            Self::Trap => 0x0003_0000,
            Self::Errno(number) => 0x0005_0000 | u32::from(number),
            Self::Notify => 0x7fc0_0000,
            Self::Trace(number) => 0x7ff0_0000 | u32::from(number),
            Self::Log => 0x7ffc_0000,
            Self::Allow => 0x7fff_0000,
        }
    }

    /// Whether a call that gets this by default is to be made, or answered by somebody who knows it.
    fn is_open(self) -> bool {
        matches!(self, Self::Allow | Self::Log | Self::Trace(_))
    }
}

/// Calls, and what happens to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule<'a> {
    /// Their names; those that no architecture knows are ignored.
    pub names: Vec<&'a str>,
    /// What happens.
    pub action: Action,
    /// On which conditions: all of them, unless two are about the same argument: then any.
    pub conditions: Vec<Condition>,
}

/// What a filter is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile<'a> {
    /// What happens to calls that no rule is about.
    pub default: Action,
    /// Architectures beside the kernel's own, in any order; calls of all others end the thread.
    pub arches: Vec<Arch>,
    /// The rules.
    pub rules: Vec<Rule<'a>>,
}

impl Profile<'_> {
    /// Whether a call of this name is made at once, whatever its arguments: it is neither answered in the kernel's place
    /// nor anybody asked about it. For a call that no architecture carries by another one.
    pub fn makes(&self, name: &str) -> bool {
        let made = |action: Action| matches!(action, Action::Allow | Action::Log);
        let about =
            || self.rules.iter().filter(|rule| rule.action != self.default && rule.names.contains(&name));
        match about().find(|rule| rule.conditions.is_empty()) {
            Some(rule) => made(rule.action),
            None => made(self.default) && about().all(|rule| made(rule.action)),
        }
    }
}

/// A profile that cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What is wrong, below `linux.seccomp`: `syscalls[3].names[0]`.
    pub field: String,
    /// Why.
    pub reason: String,
}

impl Refused {
    fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { field: field.into(), reason: reason.into() }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}: {}", self.field, self.reason)
    }
}

impl std::error::Error for Refused {}

/// Compiles a profile for a kernel of the architecture `native`. The same profile always gives the same program.
///
/// * A rule whose action is the default one is skipped.
/// * For one call an unconditional rule wins, the first one where there are several; else of the rules whose conditions
///   hold the most particular one: see [`Condition`]. Two rules that ask for different things on the very same conditions
///   are refused.
/// * Numbers above the largest one that the profile names for the architecture fail with ENOSYS: they are newer than the
///   profile, and libraries know how to do without. Not so where the default action makes the call (or lets a tracer).
/// * On architectures of 32 bits, x32 among them, conditions see the lower halves of arguments and values.
/// * Where `socketcall` or `ipc` carries a call, a rule about the call is also one about the carrier; its condition
///   on the carrier's first argument, which tells the call, takes the place of its own.
pub fn compile(profile: &Profile, native: Arch) -> Result<Vec<Instruction>, Refused> {
    for (at, arch) in profile.arches.iter().enumerate() {
        if arch.is_big_endian() != native.is_big_endian() {
            let reason = format!("{} has another order of bytes than this kernel", arch.name());
            return Err(Refused::new(format!("architectures[{at}]"), reason));
        }
    }
    let named = decide::resolve(profile)?;
    let mut arches = vec![native];
    for arch in &profile.arches {
        if !arches.contains(arch) {
            arches.push(*arch);
        }
    }
    let program = section::program(profile, &named, &arches);
    if program.len() > MOST {
        let reason = format!("make a filter of {} instructions, and the kernel takes {MOST}", program.len());
        return Err(Refused::new("syscalls", reason));
    }
    Ok(program)
}
