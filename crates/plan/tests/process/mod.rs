//! What holds for process.json, whatever it contains, and for the plan of the `exec` that it asks for; the fuzz target and
//! the corpus test ask the same.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a property that does not hold ends the test, or the fuzzer"
)]

use plan::{ExecPlan, ExecRequest, Host, Step, compile_exec};
use spec::{Capabilities, Process};

/// Parses, checks and plans: the plans, with and without what a request may change, or the one line that says why there
/// is none. Panics where a promise is broken.
pub(crate) fn hold(bytes: &[u8]) -> Result<Vec<ExecPlan>, String> {
    let told = judge(bytes);
    if let Err(line) = &told {
        assert!(!line.is_empty() && !line.chars().any(char::is_control), "one printable line: {line:?}");
        assert!(line.len() < 8192, "no wall of text: {line}");
    }
    told
}

fn judge(bytes: &[u8]) -> Result<Vec<ExecPlan>, String> {
    let mut process = Process::parse(bytes).map_err(|invalid| invalid.to_string())?;
    let written = serde_json::to_vec(&process).expect("a process can be written");
    assert_eq!(Process::parse(&written).as_ref(), Ok(&process), "what we write we read");
    process.check().map_err(|invalid| invalid.to_string())?;
    let all = (1 << spec::CAPABILITIES.len()) - 1;
    let host = Host { bounding: all, ..Host::default() };
    let request = ExecRequest { id: "web".into(), ..ExecRequest::default() };
    let other =
        ExecRequest { keep_keyring: true, other_cgroup_namespace: true, preserve_fds: 2, ..request.clone() };
    let mut plans = Vec::new();
    for request in [request, other] {
        let plan = compile_exec(&process, &host, &request)
            .map_err(|refused| format!("{}: {}", refused.path, refused.reason))?;
        keeps_order(&process, &plan, &request);
        plans.push(plan);
    }
    // Nothing becomes inheritable that was not asked for.
    process.capabilities =
        Some(Capabilities { permitted: vec!["CAP_KILL".into()], ..Capabilities::default() });
    if let Ok(plan) = compile_exec(&process, &host, &ExecRequest::default()) {
        let kept = plan.steps.iter().find_map(|step| match step {
            Step::Capabilities(kept) => Some(kept),
            _ => None,
        });
        assert!(kept.is_some_and(|kept| kept.inheritable == 0 && kept.ambient == 0), "{:#?}", plan.steps);
    }
    Ok(plans)
}

/// The order of steps on which everything rests.
fn keeps_order(process: &Process, plan: &ExecPlan, request: &ExecRequest) {
    let steps = &plan.steps;
    let at = |is: fn(&Step) -> bool| steps.iter().position(is);
    assert!(steps.ends_with(&[Step::Ready, Step::Execute]), "{steps:#?}");
    assert_eq!(plan.program.args, process.args);
    assert!(plan.program.cwd.starts_with('/'), "{}", plan.program.cwd);
    let user = at(|step| matches!(step, Step::Become { .. })).expect("the program has a user");
    assert_eq!(steps.get(user + 1), Some(&Step::Conceal), "it is concealed again where its ids change");
    let kept = at(|step| matches!(step, Step::Capabilities(_))).expect("capabilities are always decided");
    assert!(user < kept, "by the user");
    let bound = at(|step| matches!(step, Step::Bound(_)));
    assert!(bound.is_none_or(|bound| bound < user), "privilege is used before it is given up");
    let groups = at(|step| matches!(step, Step::JoinGroups)).expect("it joins the container's groups");
    let namespace = at(|step| matches!(step, Step::JoinCgroupNamespace));
    assert_eq!(namespace.is_some(), request.other_cgroup_namespace);
    assert!(
        namespace.is_none_or(|namespace| groups < namespace),
        "a cgroup namespace comes after the cgroups"
    );
    let inside = at(|step| matches!(step, Step::Inside)).expect("it is born inside");
    let score = at(|step| matches!(step, Step::OomScore(_)));
    assert_eq!(score.is_some(), process.oom_score_adj.is_some());
    assert!(
        score.is_none_or(|score| score < inside),
        "through the host's /proc, before anything of the container's"
    );
    let names: Vec<&str> = plan.program.env.iter().filter_map(|pair| Some(pair.split_once('=')?.0)).collect();
    let mut once = names.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), names.len(), "each variable once: {names:?}");
}
