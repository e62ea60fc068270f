//! The system call filter: from the document's words to the program that is loaded.

use std::fmt;

use filter::seccomp::{
    Action, Arch, Condition, Instruction, Key, Operator, Profile, Rule, compile as compile_profile, key,
    pack, unpack,
};
use serde::{Deserialize, Serialize};
use spec::{Process, Seccomp, SeccompRule, Spec};

use crate::step::Step;
use crate::{Agent, Refused, agent};

/// A filter, ready to be loaded.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Filter {
    /// Its instructions, each in one number: code in the lowest 16 bits, then jt, jf, and the operand in the upper half.
    pub program: Vec<u64>,
    /// `SECCOMP_FILTER_FLAG_*`, as seccomp(2) takes them.
    pub flags: u32,
    /// Who answers the calls that it neither lets pass nor answers itself.
    #[serde(default)]
    pub agent: Option<Agent>,
}

impl Filter {
    /// What the filter decides is logged (`SECCOMP_FILTER_FLAG_LOG`).
    const LOG: u32 = 1 << 1;
    /// Speculation is not held up on its account (`SECCOMP_FILTER_FLAG_SPEC_ALLOW`).
    const SPEC_ALLOW: u32 = 1 << 2;
    /// The kernel answers with a descriptor at which calls are heard (`SECCOMP_FILTER_FLAG_NEW_LISTENER`).
    const NEW_LISTENER: u32 = 1 << 3;
    /// Who waits for the agent's answer, once it has heard of the call, is interrupted by nothing but its own end
    /// (`SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`).
    const WAIT_KILLABLE: u32 = 1 << 5;
}

/// What is known of a filter from an earlier container that asked for the same one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Kept {
    /// Nothing, and nobody keeps filters.
    #[default]
    Nowhere,
    /// Nothing yet, under its key.
    Missing,
    /// What is kept under its key: a filter, if it is whole.
    Found(Vec<u8>),
}

/// The name under which the filter that a document asks for is kept. None where it asks for none, or for one that
/// [`compile()`](crate::compile()) refuses.
pub fn filter_key(spec: &Spec) -> Option<String> {
    let seccomp = spec.linux.as_ref()?.seccomp.as_ref().filter(|asked| asks(asked))?;
    Some(key(&profile(seccomp).ok()?, Arch::NATIVE?).to_string())
}

impl fmt::Display for Filter {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "filter  system calls, by {} instructions", self.program.len())?;
        for (flag, name) in [(Self::LOG, "logged"), (Self::SPEC_ALLOW, "speculation allowed")] {
            if self.flags & flag != 0 {
                write!(to, ", {name}")?;
            }
        }
        if self.flags & Self::WAIT_KILLABLE != 0 {
            write!(to, ", waits for answers killable")?;
        }
        if let Some(agent) = &self.agent {
            write!(to, ", {agent}")?;
        }
        Ok(())
    }
}

impl Filter {
    /// A program that is loaded with these flags.
    fn new(program: &[Instruction], flags: u32, agent: Option<Agent>) -> Self {
        let packed = program.iter().map(|one| {
            u64::from(one.code) | u64::from(one.jt) << 16 | u64::from(one.jf) << 24 | u64::from(one.k) << 32
        });
        Self { program: packed.collect(), flags, agent }
    }

    /// What is to be kept of it under its key, for [`Kept::Found`]; none for what is no key.
    pub fn pack(&self, key: &str) -> Option<Vec<u8>> {
        let program = self.program.iter().map(|packed| {
            let [low, high, jt, jf, k @ ..] = packed.to_le_bytes();
            let code = u16::from_le_bytes([low, high]);
            Instruction { code, jt, jf, k: u32::from_le_bytes(k) }
        });
        Some(pack(&Key::parse(key)?, &program.collect::<Vec<_>>()))
    }
}

/// Puts the filter where it belongs among the child's steps. With no new privileges anybody may load it, so it comes last
/// of all before the programs of the container's own, whose profile need not allow what we do on the way: the hooks of
/// `startContainer`, which may come with the image, are filtered as the program is. Otherwise it takes a capability that
/// is about to be dropped. Where there is an agent, it does not wait for `start`: our parent is there before.
pub(crate) fn place(filter: Option<Filter>, process: &Process, steps: &mut Vec<Step>) {
    let goes = |step: &Step| matches!(step, Step::Bound(_) | Step::Become { .. });
    let has_agent = filter.as_ref().is_some_and(|filter| filter.agent.is_some());
    let runs = |step: &Step| match step {
        Step::StartHook(_) | Step::Execute => true,
        Step::Gate => has_agent,
        _ => false,
    };
    let at = if process.no_new_privileges { None } else { steps.iter().position(goes) };
    let at = at.or_else(|| steps.iter().position(runs)).unwrap_or(steps.len());
    steps.splice(at..at, filter.map(Step::Filter));
}

/// Whether a filter among the child's steps is loaded while its parent does not yet know that all is in place.
pub(crate) fn comes_before_ready(steps: &[Step]) -> bool {
    let before = steps.iter().take_while(|step| **step != Step::Ready);
    before.into_iter().any(|step| matches!(step, Step::Filter(_)))
}

/// Compiles what the document asks for, unless that was done already; nothing where it asks for no filter. With it comes
/// the key under which it is to be kept, where it is not and somebody keeps filters.
pub(crate) fn compile(
    seccomp: Option<&Seccomp>,
    kept: &Kept,
    bundle: &str,
) -> Result<Option<(Filter, Option<String>)>, Refused> {
    let Some(seccomp) = seccomp.filter(|asked| asks(asked)) else { return Ok(None) };
    let native = Arch::NATIVE.ok_or_else(|| {
        Refused::new("linux.seccomp", "this build does not know its own architecture's calls")
    })?;
    let profile = profile(seccomp)?;
    let agent = agent::compile(seccomp, &profile, bundle)?;
    let flags = flags(seccomp, agent.is_some());
    let key = (*kept != Kept::Nowhere).then(|| key(&profile, native));
    let found = match (kept, &key) {
        (Kept::Found(bytes), Some(key)) => unpack(key, bytes),
        _ => None,
    };
    if let Some(program) = found {
        return Ok(Some((Filter::new(&program, flags, agent), None)));
    }
    let program = compile_profile(&profile, native)
        .map_err(|refused| Refused::new(format!("linux.seccomp.{}", refused.field), refused.reason))?;
    Ok(Some((Filter::new(&program, flags, agent), key.map(|key| key.to_string()))))
}

/// Whether a section asks for a filter: without a word on the default and without rules it does not, as runc has it.
fn asks(seccomp: &Seccomp) -> bool {
    !seccomp.default_action.is_empty() || !seccomp.syscalls.is_empty()
}

/// TSYNC means nothing for a process of one thread, so it never meets the listener, with which the kernel does not take it
/// alone; WAIT_KILLABLE_RECV means nothing without an agent. A document that does not speak of flags at all gets
/// SPEC_ALLOW, as with runc; every kernel that we run on has it.
fn flags(seccomp: &Seccomp, has_agent: bool) -> u32 {
    let listener = if has_agent { Filter::NEW_LISTENER } else { 0 };
    let Some(asked) = &seccomp.flags else { return listener | Filter::SPEC_ALLOW };
    asked.iter().fold(listener, |flags, name| match name.as_str() {
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" if has_agent => flags | Filter::WAIT_KILLABLE,
        "SECCOMP_FILTER_FLAG_LOG" => flags | Filter::LOG,
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => flags | Filter::SPEC_ALLOW,
        _ => flags,
    })
}

fn profile(seccomp: &Seccomp) -> Result<Profile<'_>, Refused> {
    let below = |field: &str| format!("linux.seccomp.{field}");
    let default = action(&seccomp.default_action, seccomp.default_errno_ret, || {
        (below("defaultAction"), below("defaultErrnoRet"))
    })?;
    let arches = seccomp.architectures.iter().enumerate().map(|(at, name)| {
        Arch::parse(name)
            .ok_or_else(|| Refused::new(below(&format!("architectures[{at}]")), "is no known architecture"))
    });
    let rules = seccomp.syscalls.iter().enumerate().map(|(at, asked)| rule(at, asked));
    Ok(Profile {
        default,
        arches: arches.collect::<Result<_, _>>()?,
        rules: rules.collect::<Result<_, _>>()?,
    })
}

fn rule(at: usize, asked: &SeccompRule) -> Result<Rule<'_>, Refused> {
    let at = format!("linux.seccomp.syscalls[{at}]");
    let action =
        action(&asked.action, asked.errno_ret, || (format!("{at}.action"), format!("{at}.errnoRet")))?;
    let conditions = asked.args.iter().enumerate().map(|(argument, condition)| {
        let field = |name: &str| format!("{at}.args[{argument}].{name}");
        let operator = Operator::parse(&condition.op)
            .ok_or_else(|| Refused::new(field("op"), "is no known operator"))?;
        let index = u8::try_from(condition.index).ok().filter(|index| *index < 6);
        let index = index.ok_or_else(|| Refused::new(field("index"), "is not from 0 to 5"))?;
        Ok(Condition { index, operator, value: condition.value, second: condition.value_two })
    });
    let names = asked.names.iter().map(String::as_str).collect();
    Ok(Rule { names, action, conditions: conditions.collect::<Result<_, Refused>>()? })
}

/// An action by its word; `fields` names where the word and its number stand.
fn action(name: &str, number: Option<u32>, fields: impl Fn() -> (String, String)) -> Result<Action, Refused> {
    // The number of an action that carries none is skipped, as runc does: see docs/leniency.md. The kernel would make the
    // largest error number of any larger one.
    let most = match name {
        "SCMP_ACT_ERRNO" => Some((4095, "is more than 4095, the largest error number")),
        "SCMP_ACT_TRACE" => Some((65535, "is more than 65535, and a filter's answer holds no more")),
        _ => None,
    };
    let number = match (number, most) {
        (Some(number), Some((most, why))) => match u16::try_from(number) {
            Ok(number) if number <= most => Some(number),
            _ => return Err(Refused::new(fields().1, format!("{number} {why}"))),
        },
        _ => None,
    };
    Action::parse(name, number).ok_or_else(|| Refused::new(fields().0, "is no known action"))
}

#[cfg(test)]
#[allow(clippy::expect_used, reason = "a test states what it expects")]
mod tests {
    use super::*;

    fn filter(flags: Option<&[&str]>) -> Filter {
        let flags = flags.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        let asked = Seccomp { default_action: "SCMP_ACT_ALLOW".into(), flags, ..Seccomp::default() };
        compiled(&asked, &Kept::Nowhere).0
    }

    fn compiled(asked: &Seccomp, kept: &Kept) -> (Filter, Option<String>) {
        compile(Some(asked), kept, "/b").expect("a filter").expect("one is asked for")
    }

    fn with_agent(flags: Option<&[&str]>) -> Filter {
        let flags = flags.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        let names = vec!["mkdir".to_owned()];
        let rule = SeccompRule { names, action: "SCMP_ACT_NOTIFY".into(), ..SeccompRule::default() };
        let asked = Seccomp {
            default_action: "SCMP_ACT_ALLOW".into(),
            flags,
            listener_path: Some("/s".into()),
            syscalls: vec![rule],
            ..Seccomp::default()
        };
        compiled(&asked, &Kept::Nowhere).0
    }

    #[test]
    fn a_listener_takes_a_flag_of_its_own() {
        let listens = Filter::NEW_LISTENER;
        assert_eq!(with_agent(None).flags, listens | Filter::SPEC_ALLOW);
        assert_eq!(with_agent(Some(&["SECCOMP_FILTER_FLAG_TSYNC"])).flags, listens);
        let killable = with_agent(Some(&["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]));
        assert_eq!(killable.flags, listens | Filter::WAIT_KILLABLE);
    }

    #[test]
    fn flags_are_those_of_the_document() {
        assert_eq!(filter(None).flags, Filter::SPEC_ALLOW);
        assert_eq!(filter(Some(&[])).flags, 0);
        assert_eq!(filter(Some(&["SECCOMP_FILTER_FLAG_LOG"])).flags, Filter::LOG);
        let all = ["TSYNC", "LOG", "SPEC_ALLOW", "WAIT_KILLABLE_RECV"];
        let all = all.map(|name| format!("SECCOMP_FILTER_FLAG_{name}"));
        let all: Vec<_> = all.iter().map(String::as_str).collect();
        assert_eq!(filter(Some(&all)).flags, Filter::LOG | Filter::SPEC_ALLOW);
    }

    #[test]
    fn an_instruction_is_packed_as_the_kernel_has_it() {
        // It loads the architecture first, and ends with the end of the thread.
        let program = filter(None).program;
        assert_eq!(program.first(), Some(&0x0000_0004_0000_0020));
        assert_eq!(program.last(), Some(&0x0000_0000_0000_0006));
    }

    #[test]
    fn a_section_that_asks_for_nothing_is_none() {
        assert_eq!(compile(Some(&Seccomp::default()), &Kept::Missing, "/b"), Ok(None));
        assert_eq!(compile(None, &Kept::Missing, "/b"), Ok(None));
    }

    /// What is kept is taken if it is whole, and only under its own key; else it is made anew, to be kept.
    #[test]
    fn a_filter_that_was_kept_is_the_one_that_is_compiled() {
        let asks = |default: &str| Seccomp { default_action: default.into(), ..Seccomp::default() };
        let (asked, other) = (asks("SCMP_ACT_ALLOW"), asks("SCMP_ACT_LOG"));
        let (fresh, key) = compiled(&asked, &Kept::Missing);
        let key = key.expect("it is to be kept");
        let linux = spec::Linux { seccomp: Some(asked.clone()), ..spec::Linux::default() };
        let spec = Spec { linux: Some(linux), ..Spec::default() };
        assert_eq!(filter_key(&spec).as_ref(), Some(&key));
        assert_eq!(compiled(&asked, &Kept::Nowhere), (fresh.clone(), None));
        let bytes = fresh.pack(&key).expect("it is a key");
        assert_eq!(compiled(&asked, &Kept::Found(bytes.clone())), (fresh.clone(), None));
        for bad in [Vec::new(), bytes[1..].to_vec(), bytes[..bytes.len() - 1].to_vec(), vec![0; 4096]] {
            assert_eq!(compiled(&asked, &Kept::Found(bad)), (fresh.clone(), Some(key.clone())));
        }
        let (theirs, their_key) = compiled(&other, &Kept::Found(bytes));
        assert_ne!(theirs, fresh);
        assert!(their_key.is_some_and(|theirs| theirs != key));
    }
}
