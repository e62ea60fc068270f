//! The agent: who is asked about the calls that a filter neither lets pass nor answers itself.

use std::fmt;

use filter::seccomp::{Action, Profile};
use serde::{Deserialize, Serialize};
use spec::Seccomp;

use crate::Refused;

/// Who answers, and how the listener gets there: the descriptor at which calls are heard.
///
/// The process that loads the filter is stopped by it from then on, too, at whatever call the agent is to be asked about:
/// on its way to the agent the listener takes only calls that the filter lets pass.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Agent {
    /// The stream socket of the host's at which it listens, absolute; behind an `@` a name that no file has (unix(7)), as
    /// with runc.
    pub path: String,
    /// What the document wants it to know; empty where that is nothing.
    pub metadata: String,
    /// From the process to its parent.
    pub handover: Handover,
    /// What becomes of the process's own copy. As long as that is open, nobody would hear of the agent's death.
    pub discard: Discard,
}

/// How a process hands its listener over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Handover {
    /// It sends it: sendmsg(2), with `SCM_RIGHTS`.
    Send,
    /// It says its number by write(2), and the parent takes it: `pidfd_getfd(2)`, which asks for the right to trace.
    Tell,
}

/// How a process lets go of its own copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Discard {
    /// By close(2). Where the agent is asked about dup3(2) as well, it is asked about that; should it end just then, the
    /// process waits until somebody ends it, as with runc.
    Close,
    /// By dup3(2): another descriptor takes its number.
    Replace,
}

impl fmt::Display for Agent {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let handover = match self.handover {
            Handover::Send => "sent",
            Handover::Tell => "told by number",
        };
        let discard = match self.discard {
            Discard::Close => "closed",
            Discard::Replace => "replaced",
        };
        write!(to, "listener {handover} to the parent, {discard}")
    }
}

/// Finds the agent of a profile; nothing where no rule asks one.
///
/// runc's processes write the listener's number, so it refuses `SCMP_ACT_NOTIFY` for write(2), and hangs where a rule
/// has it fail.
pub(crate) fn compile(
    seccomp: &Seccomp,
    profile: &Profile<'_>,
    bundle: &str,
) -> Result<Option<Agent>, Refused> {
    if !profile.rules.iter().any(|rule| rule.action == Action::Notify) {
        return Ok(None);
    }
    let field = "linux.seccomp.listenerPath";
    let path = seccomp.listener_path.as_deref().filter(|path| !path.is_empty());
    let path = path.ok_or_else(|| Refused::new(field, "is missing, and SCMP_ACT_NOTIFY needs it"))?;
    let handover = if profile.makes("sendmsg") {
        Handover::Send
    } else if profile.makes("write") {
        Handover::Tell
    } else {
        let why = "let neither sendmsg nor write pass, by which the agent's listener is handed over";
        return Err(Refused::new("linux.seccomp.syscalls", why));
    };
    let is_replaced = !profile.makes("close") && profile.makes("dup3");
    Ok(Some(Agent {
        path: if path.starts_with(['/', '@']) { path.to_owned() } else { format!("{bundle}/{path}") },
        metadata: seccomp.listener_metadata.clone().unwrap_or_default(),
        handover,
        discard: if is_replaced { Discard::Replace } else { Discard::Close },
    }))
}

#[cfg(test)]
mod tests {
    use filter::seccomp::{Condition, Operator, Rule};

    use super::*;

    fn agent(path: &str, default: Action, rules: &[(&str, Action)]) -> Result<Option<Agent>, String> {
        let seccomp = Seccomp { listener_path: Some(path.into()), ..Seccomp::default() };
        let rules = rules.iter().map(|(name, action)| Rule {
            names: vec![name],
            action: *action,
            conditions: Vec::new(),
        });
        let profile = Profile { default, arches: Vec::new(), rules: rules.collect() };
        compile(&seccomp, &profile, "/b").map_err(|refused| refused.to_string())
    }

    fn ways(default: Action, rules: &[(&str, Action)]) -> Option<(Handover, Discard)> {
        let agent = agent("/s", default, rules).unwrap_or_default();
        agent.map(|agent| (agent.handover, agent.discard))
    }

    use Action::{Allow, Errno, Log, Notify, Trace};

    #[test]
    fn nothing_on_the_way_to_the_agent_asks_it() {
        let asked = ("mkdir", Notify);
        assert_eq!(ways(Allow, &[asked]), Some((Handover::Send, Discard::Close)));
        assert_eq!(ways(Log, &[asked]), Some((Handover::Send, Discard::Close)));
        for caught in [Notify, Errno(1), Trace(1)] {
            let sent = ("sendmsg", caught);
            assert_eq!(ways(Allow, &[asked, sent]), Some((Handover::Tell, Discard::Close)));
            let closed = ("close", caught);
            assert_eq!(ways(Allow, &[asked, closed]), Some((Handover::Send, Discard::Replace)));
            assert_eq!(
                ways(Allow, &[asked, closed, ("dup3", caught)]),
                Some((Handover::Send, Discard::Close)),
                "the agent has the listener by then"
            );
        }
        let list = [asked, ("write", Allow), ("close", Allow)];
        assert_eq!(ways(Errno(38), &list), Some((Handover::Tell, Discard::Close)));
    }

    #[test]
    fn one_that_could_never_be_reached_is_refused() {
        let why = "config.json: linux.seccomp.syscalls: let neither sendmsg nor write pass, by which the agent's listener \
                   is handed over";
        assert_eq!(agent("/s", Errno(1), &[("mkdir", Notify)]), Err(why.to_owned()));
        let why = "config.json: linux.seccomp.listenerPath: is missing, and SCMP_ACT_NOTIFY needs it";
        assert_eq!(agent("", Allow, &[("mkdir", Notify)]), Err(why.to_owned()));
    }

    #[test]
    fn a_path_is_the_bundles_unless_it_is_absolute() {
        let path = |path| agent(path, Allow, &[("mkdir", Notify)]).ok().flatten().map(|agent| agent.path);
        assert_eq!(path("/run/a.sock").as_deref(), Some("/run/a.sock"));
        assert_eq!(path("a.sock").as_deref(), Some("/b/a.sock"));
        assert_eq!(path("@a").as_deref(), Some("@a"));
        assert_eq!(agent("/s", Allow, &[("mkdir", Errno(1))]), Ok(None));
    }

    #[test]
    fn a_call_with_conditions_may_be_caught() {
        let condition = Condition { index: 0, operator: Operator::Eq, value: 7, second: 0 };
        let rule = |name, action, conditions| Rule { names: vec![name], action, conditions };
        let with = |rules| Profile { default: Allow, arches: Vec::new(), rules };
        let caught = with(vec![rule("sendmsg", Notify, vec![condition])]);
        assert!(!caught.makes("sendmsg") && caught.makes("write"));
        let freed = with(vec![rule("sendmsg", Notify, vec![condition]), rule("sendmsg", Log, Vec::new())]);
        assert!(freed.makes("sendmsg"), "what has no condition wins");
    }
}
