//! The system call filter: from the document's words to the program that is loaded.

use std::fmt;

use filter::seccomp::{Action, Arch, Condition, Operator, Profile, Rule, compile as compile_profile};
use serde::{Deserialize, Serialize};
use spec::{Process, Seccomp, SeccompRule};

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

/// Compiles what the document of a bundle asks for; nothing where it asks for no filter.
pub(crate) fn compile(seccomp: Option<&Seccomp>, bundle: &str) -> Result<Option<Filter>, Refused> {
    // runc's way of saying "no filter".
    let Some(seccomp) =
        seccomp.filter(|asked| !asked.default_action.is_empty() || !asked.syscalls.is_empty())
    else {
        return Ok(None);
    };
    let native = Arch::NATIVE.ok_or_else(|| {
        Refused::new("linux.seccomp", "this build does not know its own architecture's calls")
    })?;
    let profile = profile(seccomp)?;
    let agent = agent::compile(seccomp, &profile, bundle)?;
    let program = compile_profile(&profile, native)
        .map_err(|refused| Refused::new(format!("linux.seccomp.{}", refused.field), refused.reason))?;
    let packed = program.iter().map(|one| {
        u64::from(one.code) | u64::from(one.jt) << 16 | u64::from(one.jf) << 24 | u64::from(one.k) << 32
    });
    Ok(Some(Filter { program: packed.collect(), flags: flags(seccomp, agent.is_some()), agent }))
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
    // The number of an action that carries none is skipped, as runc does: see docs/leniency.md.
    let carries = matches!(name, "SCMP_ACT_ERRNO" | "SCMP_ACT_TRACE");
    let number = match number.filter(|_| carries).map(u16::try_from) {
        None => None,
        Some(Ok(number)) => Some(number),
        Some(Err(_)) => return Err(Refused::new(fields().1, "a filter's answer holds no more than 65535")),
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
        compile(Some(&asked), "/b").expect("a filter").expect("one is asked for")
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
        compile(Some(&asked), "/b").expect("a filter").expect("one is asked for")
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
        assert_eq!(compile(Some(&Seccomp::default()), "/b"), Ok(None));
        assert_eq!(compile(None, "/b"), Ok(None));
    }
}
