//! One more process in a container that is there already.

use serde::Serialize;
use spec::Process;

use crate::compile::{Confined, EVERY, UNBLOCKED, conceal_again, program};
use crate::step::{Act, Master, Program, Step, Walk};
use crate::{Agent, Filter, Host, Manner, Refused, console, rootless, seccomp};

/// What is asked beside the process itself.
#[derive(Clone, Debug, Default)]
pub struct ExecRequest {
    /// The container's id.
    pub id: String,
    /// Whether the container kept its caller's session keyring.
    pub keep_keyring: bool,
    /// Whether the container has a user namespace that is not ours.
    pub other_user_namespace: bool,
    /// Whether setgroups(2) is denied in it.
    pub keeps_groups: bool,
    /// Whether the container has a cgroup namespace that is not ours.
    pub other_cgroup_namespace: bool,
    /// The container's system call filter.
    pub filter: Option<Filter>,
    /// Descriptors from 3 on that the program keeps.
    pub preserve_fds: u32,
    /// How the container's processes run, where this one's document is silent.
    pub manner: Manner,
    /// Whether nobody of ours stays with the process.
    pub detached: bool,
    /// `--console-socket`: who gets the master end of the process's terminal.
    pub console_socket: Option<String>,
    /// Whether our caller has brought a line for that master end.
    pub console_line: bool,
}

/// What the new process does. Its parent has joined the namespaces before it was born.
#[derive(Clone, Debug, Serialize)]
pub struct ExecPlan {
    /// What the parent does before it joins the namespaces.
    pub before: Vec<Act>,
    /// The child's steps, in order.
    pub steps: Vec<Step>,
    /// Who gets the master end of its terminal; none where it has none.
    pub master: Option<Master>,
    /// What is executed at the end.
    pub program: Program,
    /// Descriptors from 3 on that the program keeps.
    pub preserve_fds: u32,
    /// Signals that the program gets with their default action although our caller ignores them.
    pub default_signals: u64,
    /// What is not done as asked, where the specification lets it pass.
    pub warnings: Vec<String>,
}

/// Compiles a checked process (see `Process::check`). Pure: no file, no clock, no system call.
///
/// The order is the kernel's: a cgroup namespace comes after the cgroups, and all that needs privilege before it goes.
pub fn compile_exec(process: &Process, host: &Host, request: &ExecRequest) -> Result<ExecPlan, Refused> {
    rootless::check_groups(Some(process), "process.user.additionalGids", request.keeps_groups)?;
    let master =
        console::master(process, request.detached, request.console_socket.as_ref(), request.console_line)?;
    let program = program(process);
    let manner = request.manner.with(process);
    manner.check_labels(host)?;
    let (cpus, last) = manner.cpus()?;
    let mut steps = vec![Step::JoinGroups, last.map_or(Step::AllCpus, Step::Cpus)];
    let mut before: Vec<Act> = cpus.map(Act::StayOn).into_iter().collect();
    if request.other_user_namespace {
        let limits = process.rlimits.iter();
        before.extend(limits.map(|limit| Act::Ceiling { kind: limit.kind, hard: limit.hard }));
        before.extend(process.oom_score_adj.map(Act::Score));
    } else {
        steps.extend(process.oom_score_adj.map(Step::OomScore));
    }
    steps.push(Step::Session);
    if request.other_user_namespace {
        steps.push(Step::Rule);
    }
    if !request.keep_keyring {
        let name = format!("_ses.{}", request.id);
        let keyring = Step::Keyring { name, others: request.other_user_namespace };
        steps.extend(manner.keyring(Some(keyring)));
    }
    if request.other_cgroup_namespace {
        steps.push(Step::JoinCgroupNamespace);
    }
    steps.push(Step::Inside);
    steps.extend(console::step(process, false));
    let bounding = if request.other_user_namespace { host.bounding | EVERY } else { host.bounding };
    let Confined { steps: confining, mut warnings } =
        Confined::compile(process, bounding, &program, &manner, process.user.umask)?;
    steps.extend(confining);
    warnings.extend(rootless::left_out(process, host));
    if request.keeps_groups || host.denies_groups() {
        rootless::keep_groups(&mut steps);
    }
    conceal_again(&mut steps);
    steps.extend([Step::Ready, Step::Execute]);
    seccomp::place(request.filter.clone(), process, &mut steps);
    Ok(ExecPlan {
        before,
        steps,
        master,
        program,
        preserve_fds: request.preserve_fds,
        default_signals: host.ignored_signals,
        warnings,
    })
}

impl ExecPlan {
    /// What the child walks.
    pub fn walk(&self) -> Walk<'_> {
        Walk {
            steps: &self.steps,
            handles: &[],
            cwd: &self.program.cwd,
            preserve_fds: self.preserve_fds,
            default_signals: self.default_signals,
            unblocked_signals: UNBLOCKED,
        }
    }

    /// Who is handed the listener of the process's filter.
    pub fn agent(&self) -> Option<&Agent> {
        self.steps.iter().find_map(|step| match step {
            Step::Filter(filter) => filter.agent.as_ref(),
            _ => None,
        })
    }

    /// Whether that comes before the process says that all is in place.
    pub fn is_filtered_early(&self) -> bool {
        seccomp::comes_before_ready(&self.steps)
    }
}
