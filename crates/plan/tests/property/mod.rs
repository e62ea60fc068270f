//! What holds for every plan, whatever document it was made from; the fuzz target, the corpus and the golden plans
//! ask the same.

use plan::cgroup::HostCgroups;
use plan::{Act, Hook, Host, Kept, Plan, Refused, Request, Source, Step, compile};
use spec::{NamespaceKind, Spec};

/// A host with v1 hierarchies and the unified tree beside them.
const HYBRID: &str = r#"{
    "hierarchies": [
        {"controllers": ["cpu", "cpuacct"], "mount": "/sys/fs/cgroup/cpu,cpuacct", "own": "/"},
        {"controllers": ["cpuset"], "mount": "/sys/fs/cgroup/cpuset", "own": "/"},
        {"controllers": ["memory"], "mount": "/sys/fs/cgroup/memory", "own": "/user"},
        {"controllers": ["devices"], "mount": "/sys/fs/cgroup/devices", "own": "/user"},
        {"controllers": ["freezer"], "mount": "/sys/fs/cgroup/freezer", "own": "/"},
        {"controllers": ["blkio"], "mount": "/sys/fs/cgroup/blkio", "own": "/"},
        {"controllers": ["pids"], "mount": "/sys/fs/cgroup/pids", "own": "/"},
        {"name": "systemd", "mount": "/sys/fs/cgroup/systemd", "own": "/user"}
    ],
    "unified": {"mount": "/sys/fs/cgroup/unified", "own": "/"}
}"#;

/// A host with the unified tree alone.
const UNIFIED: &str = r#"{
    "unified": {
        "mount": "/sys/fs/cgroup", "own": "/user.slice/session.scope",
        "controllers": ["cpuset", "cpu", "io", "memory", "hugetlb", "pids"]
    }
}"#;

/// Two hosts, as the room `probe` would tell them.
pub(crate) fn hosts() -> [(&'static str, Host); 2] {
    let cgroups = |text| serde_json::from_str::<HostCgroups>(text).expect("a host");
    let all = (1 << spec::CAPABILITIES.len()) - 1;
    let sys_resource = 1 << 24;
    let sigpipe = 1 << 12;
    [
        (
            "hybrid",
            Host {
                cgroups: cgroups(HYBRID),
                caller: None,
                inner: None,
                bounding: all & !sys_resource,
                ignored_signals: sigpipe | 1,
                has_kcore: true,
                modules: plan::Modules::default(),
            },
        ),
        (
            "v2",
            Host {
                cgroups: cgroups(UNIFIED),
                caller: None,
                inner: None,
                bounding: all,
                ignored_signals: 0,
                has_kcore: false,
                modules: plan::Modules::default(),
            },
        ),
    ]
}

/// What the command line asks beside the document.
pub(crate) fn request() -> Request {
    Request { id: "web".into(), bundle: "/srv/bundle".into(), gated: true, ..Request::default() }
}

/// Parses, checks and compiles on a host: the plan, or the one line that says why there is none.
pub(crate) fn plan(bytes: &[u8], host: &Host, request: &Request) -> Result<(Spec, Plan), String> {
    let spec = Spec::parse(bytes).map_err(|invalid| format!("config.json: {invalid}"))?;
    spec.check().map_err(|invalid| format!("config.json: {invalid}"))?;
    let plan = compile(&spec, host, request).map_err(|refused: Refused| refused.to_string())?;
    Ok((spec, plan))
}

/// Compiles on every host, with and without the flags that change a plan; panics where a promise is broken.
#[allow(dead_code, reason = "each of the tests that share this module uses a part of it")]
pub(crate) fn hold(bytes: &[u8]) {
    let other = Request {
        no_pivot: true,
        keep_keyring: true,
        gated: false,
        preserve_fds: 2,
        listen_fds: 1,
        notify: Some("/run/cofferdam/web/notify".into()),
        pid_file: Some("/run/web.pid".into()),
        pidfd_socket: Some("/run/web.sock".into()),
        filter: Kept::Missing,
        ..request()
    };
    for (_, host) in hosts() {
        let attended = Request { preserve_fds: 1, attended: true, ..request() };
        for request in [request(), other.clone(), attended] {
            match plan(bytes, &host, &request) {
                Err(line) => {
                    assert!(!line.chars().any(char::is_control), "one printable line: {line:?}");
                    assert!(line.len() < 8192, "no wall of text: {line}");
                }
                Ok((spec, made)) => {
                    keeps_order(&spec, &made, &request);
                    let again = plan(bytes, &host, &request).map(|(_, again)| told(&again));
                    assert_eq!(again, Ok(told(&made)), "the same document makes the same plan");
                    keeps_filter(bytes, &host, &request, &made);
                }
            }
        }
    }
}

/// A filter that was kept makes the plan that compiling it makes, but for keeping it once more.
fn keeps_filter(bytes: &[u8], host: &Host, request: &Request, made: &Plan) {
    let keeps = |act: &Act| matches!(act, Act::Remember(_));
    let Some(at) = made.acts.iter().position(keeps) else {
        assert!(request.filter == Kept::Nowhere || made.filter().is_none(), "a filter is not kept");
        return;
    };
    let Act::Remember(key) = &made.acts[at] else { unreachable!("it was just found") };
    let filter = made.filter().and_then(|filter| filter.pack(key)).expect("there is one, and a key");
    let request = Request { filter: Kept::Found(filter), ..request.clone() };
    let (spec, again) = plan(bytes, host, &request).expect("what is kept changes nothing");
    assert_eq!(plan::filter_key(&spec).as_ref(), Some(key));
    let mut without = made.clone();
    without.acts.remove(at);
    assert_eq!(told(&again), told(&without));
}

fn told(plan: &Plan) -> (String, String) {
    let text = plan.to_string();
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "what is printed is text: {text:?}");
    (text, serde_json::to_string(plan).expect("a plan is data"))
}

/// The order of steps on which everything rests.
fn keeps_order(spec: &Spec, plan: &Plan, request: &Request) {
    let steps = &plan.steps;
    let at = |is: fn(&Step) -> bool| steps.iter().position(is);
    let last = |is: fn(&Step) -> bool| steps.iter().rposition(is);
    let root = at(|step| matches!(step, Step::Root(_))).expect("a root is taken");
    let pivot = at(|step| matches!(step, Step::Pivot | Step::MoveRoot)).expect("the root is entered");
    assert!(root < pivot);

    for (index, step) in steps.iter().enumerate() {
        let place = match place(step) {
            Place::Host => index < pivot,
            Place::Root => root < index && index < pivot,
            Place::Inside => pivot < index,
            Place::Anywhere => true,
        };
        assert!(place, "step {index} stands at the wrong place: {step:?}");
    }
    let covered = |step: &Step| matches!(step, Step::Mask(_) | Step::ReadOnly(_));
    let making = |step: &Step| {
        matches!(
            step,
            Step::Mount(_) | Step::Node(_) | Step::Link { .. } | Step::Console(_) | Step::Directory(_)
        )
    };
    if let (Some(first), Some(made)) = (at(covered), last(making)) {
        assert!(made < first, "what is covered stays covered: {steps:#?}");
    }
    let made = steps.iter().filter_map(|step| match step {
        Step::Mount(mount) => Some(mount.target.as_str()),
        Step::Remount(remount) => Some(remount.target.as_str()),
        _ => None,
    });
    let mut made = made.inspect(|target| {
        assert!(target.starts_with('/') && !target.contains("//") && !target.contains("/../"), "{target}");
    });
    for mount in &spec.mounts {
        let wanted = mount.destination.trim_matches('/');
        let is_plain = !wanted.split('/').any(|part| matches!(part, "" | "." | ".."));
        if is_plain {
            assert!(
                made.any(|target| &target[1..] == wanted),
                "{wanted} is mounted in the document's order: {steps:#?}"
            );
        }
    }

    let user = at(|step| matches!(step, Step::Become { .. })).expect("the program has a user");
    let before_user = |step: &Step| {
        matches!(step, Step::Bound(_) | Step::Limit { .. } | Step::Hostname(_) | Step::Scheduler(_))
    };
    assert!(last(before_user).is_none_or(|before| before < user), "privilege is used before it is given up");
    let kept = at(|step| matches!(step, Step::Capabilities(_)));
    assert!(kept.is_some_and(|keep| user < keep), "capabilities are always decided, by the user");
    let end: &[Step] =
        if request.gated { &[Step::Ready, Step::Gate, Step::Execute] } else { &[Step::Ready, Step::Execute] };
    // The hooks of startContainer and the filter apart, which come last of all.
    let apart = |step: &Step| matches!(step, Step::StartHook(_) | Step::Filter(_) | Step::Attend(_));
    let bare: Vec<Step> = steps.iter().filter(|step| !apart(step)).cloned().collect();
    assert!(bare.ends_with(end), "{steps:#?}");
    assert_eq!(
        at(|step| matches!(step, Step::Heed(_))).is_some(),
        request.gated,
        "who waits hears: {steps:#?}"
    );
    let attends = at(|step| *step == Step::Attend(3));
    assert_eq!(attends.is_some(), request.attended, "whoever asked for an attendant has one: {steps:#?}");
    let waits = at(|step| *step == Step::Gate);
    assert!(attends.is_none() || waits < attends, "one process waits for start: {steps:#?}");
    keeps_hooks(spec, plan);
    if let Some(filter) = at(|step| matches!(step, Step::Filter(_))) {
        if steps.contains(&Step::NoNewPrivileges) {
            let has_agent = plan.acts.iter().any(|act| matches!(act, Act::Agent(_)));
            let runs = if has_agent {
                at(|step| matches!(step, Step::Gate | Step::StartHook(_) | Step::Execute))
            } else {
                at(|step| matches!(step, Step::StartHook(_) | Step::Execute))
            };
            assert_eq!(
                Some(filter + 1),
                runs,
                "the filter is the last thing before anything of the container's runs: {steps:#?}"
            );
        } else {
            let drop = at(|step| matches!(step, Step::Bound(_))).unwrap_or(user);
            assert!(filter < drop, "the filter needs a capability that is gone: {steps:#?}");
            let heed = at(|step| matches!(step, Step::Heed(_)));
            assert!(heed.is_none_or(|heed| heed < filter), "the filter may forbid it: {steps:#?}");
        }
    }

    keeps_acts(plan, root);
    keeps_agent(plan);
}

/// Who has a listener hands it over to its parent, once, while that listens for it; and waits until the agent has it.
fn keeps_agent(plan: &Plan) {
    let has_listener = plan.filter().is_some_and(|filter| filter.flags & (1 << 3) != 0);
    let agent = plan.filter().and_then(|filter| filter.agent.as_ref());
    let acts: Vec<_> = plan.acts.iter().filter(|act| matches!(act, Act::Agent(_))).collect();
    assert_eq!(has_listener, agent.is_some(), "{plan:#?}");
    assert_eq!(acts, agent.cloned().map(Act::Agent).iter().collect::<Vec<_>>());
    let Some(agent) = agent else { return };
    assert!(agent.path.starts_with(['/', '@']), "{agent:?}");
    let step = |wanted: fn(&Step) -> bool| plan.steps.iter().position(wanted);
    let act = |wanted: &Act| plan.acts.iter().position(|act| act == wanted);
    let handed = act(&Act::Agent(agent.clone())).expect("it is among them");
    let is_early = step(|step| matches!(step, Step::Filter(_))) < step(|step| *step == Step::Ready);
    assert_eq!(is_early, Some(handed) < act(&Act::Complete), "{plan:#?}");
    // Each of the two waits for one word: that of being ready, and that of being filtered.
    let part = if is_early { handed + 1 } else { handed - 1 };
    assert_eq!(plan.acts.get(part), Some(&Act::Part), "{:?}", plan.acts);
}

/// The order of the parent's acts, and that each one has somebody in the child who waits for it. `root` is the step that
/// takes it.
fn keeps_acts(plan: &Plan, root: usize) {
    let (acts, steps) = (&plan.acts, &plan.steps);
    let at = |is: fn(&Step) -> bool| steps.iter().position(is);
    assert!(matches!(acts.first(), Some(Act::Claim)) && matches!(acts.get(1), Some(Act::Intend)), "{acts:?}");
    let clone = acts.iter().position(|act| matches!(act, Act::Clone(_))).expect("init is born");
    let complete = acts.iter().position(|act| matches!(act, Act::Complete)).expect("the record is completed");
    let maps =
        acts.iter().position(|act| matches!(act, Act::Map(_) | Act::MapAsUser { .. } | Act::Compare(_)));
    let hand = acts.iter().position(|act| matches!(act, Act::Hand));
    assert!(maps.is_none_or(|maps| clone < maps && Some(maps) < hand), "{acts:?}");
    assert!(hand.is_none_or(|hand| clone < hand && hand < complete), "{acts:?}");
    let open = acts.iter().rposition(|act| matches!(act, Act::Open { .. }));
    assert!(open.is_none_or(|open| open < clone), "{acts:?}");
    let joins = |step: &&Step| matches!(step, Step::Join(_));
    let joined = plan.forerunner.iter().chain(steps).filter(joins).count();
    let entered = acts.iter().filter(|act| matches!(act, Act::Enter)).count();
    let opened = acts.iter().filter(|act| matches!(act, Act::Open { .. })).count();
    assert_eq!(joined + entered, opened, "what is opened is joined, once: {plan:#?}");
    let user = plan.forerunner.iter().position(|step| *step == Step::Join(NamespaceKind::User));
    let last = plan.forerunner.iter().rposition(|step| matches!(step, Step::Join(_)));
    assert!(user.is_none() || user == last, "it takes the rights over the others: {plan:#?}");
    let awaited = at(|step| matches!(step, Step::Await));
    assert_eq!(hand.is_some(), awaited.is_some(), "who waits is served, and nobody else");
    assert!(awaited.is_none_or(|awaited| awaited < root), "the root may be reached by a handle alone");
    let groups = acts.iter().rposition(|act| matches!(act, Act::Group(_)));
    assert!(groups.is_none_or(|group| group < clone) && clone < complete, "{acts:?}");
    assert!(
        acts.iter().skip(complete + 1).all(|act| matches!(
            act,
            Act::Part | Act::Agent(_) | Act::Introduce(_) | Act::Tell(_) | Act::Relieve
        )),
        "{acts:?}"
    );
    let unit = acts.iter().position(|act| matches!(act, Act::Unit));
    let relieve = acts.iter().position(|act| matches!(act, Act::Relieve));
    let first = acts.iter().position(|act| matches!(act, Act::Group(_)));
    assert_eq!(unit.is_some(), plan.cgroup.unit.is_some(), "{acts:?}");
    assert!(unit.is_none() || (unit < first && relieve.is_none_or(|relieve| clone < relieve)), "{acts:?}");
    assert!(
        unit.is_some() || (relieve.is_none() && at(|step| *step == Step::AwaitGroup).is_none()),
        "{acts:?}"
    );
    let line = acts.iter().position(|act| matches!(act, Act::Console(_)));
    let terminal = at(|step| matches!(step, Step::Console(_)));
    assert_eq!(line.is_some(), terminal.is_some(), "a terminal has somebody at its other end: {acts:?}");
    assert!(line.is_none_or(|line| line < clone), "{acts:?}");
    let session = at(|step| matches!(step, Step::Session));
    assert!(terminal.is_none_or(|terminal| session.is_some_and(|session| session < terminal)), "{steps:#?}");
}

/// Every hook is run once, in the order and by whom the specification says; who has none meets nobody.
fn keeps_hooks(spec: &Spec, plan: &Plan) {
    let hooks = spec.hooks.clone().unwrap_or_default();
    let named = |kind: &str, count: usize| -> Vec<String> {
        (0..count).map(|at| format!("hooks.{kind}[{at}]")).collect()
    };
    let fields = |hooks: &[Hook]| -> Vec<String> { hooks.iter().map(|hook| hook.field.clone()).collect() };
    let outside: Vec<Hook> = plan
        .acts
        .iter()
        .filter_map(|act| match act {
            Act::Hook(hook) => Some(hook.clone()),
            _ => None,
        })
        .collect();
    let mut both = named("prestart", hooks.prestart.len());
    both.extend(named("createRuntime", hooks.create_runtime.len()));
    assert_eq!(fields(&outside), both);
    let of_steps = |pick: fn(&Step) -> Option<&Hook>| -> Vec<Hook> {
        plan.steps.iter().filter_map(pick).cloned().collect()
    };
    let create = of_steps(|step| if let Step::CreateHook(hook) = step { Some(hook) } else { None });
    assert_eq!(fields(&create), named("createContainer", hooks.create_container.len()));
    let start = of_steps(|step| if let Step::StartHook(hook) = step { Some(hook) } else { None });
    assert_eq!(fields(&start), named("startContainer", hooks.start_container.len()));
    assert_eq!(fields(&plan.later.poststart), named("poststart", hooks.poststart.len()));
    assert_eq!(fields(&plan.later.poststop), named("poststop", hooks.poststop.len()));
    for hook in outside.iter().chain(&create).chain(&start) {
        assert!(!hook.args.is_empty() && hook.timeout != Some(0), "{hook:?}");
    }
    let meets = !outside.is_empty() || !create.is_empty();
    let step = plan.steps.iter().position(|step| *step == Step::Meet);
    let first = plan.steps.iter().position(|step| matches!(step, Step::CreateHook(_)));
    assert!(step.is_some() == meets && first.is_none_or(|first| step < Some(first)), "{:#?}", plan.steps);
    let act = |wanted: &Act| plan.acts.iter().position(|act| act == wanted);
    let hook = plan.acts.iter().position(|act| matches!(act, Act::Hook(_)));
    let (meet, part) = (act(&Act::Meet), act(&Act::Part));
    let parts = plan.acts.iter().filter(|act| matches!(act, Act::Part)).count();
    let agents = plan.acts.iter().filter(|act| matches!(act, Act::Agent(_))).count();
    assert!(
        meet.is_some() == meets && parts == usize::from(meets) + agents && meet <= part,
        "{:?}",
        plan.acts
    );
    assert!(hook.is_none_or(|hook| meet < Some(hook) && Some(hook) < part), "{:?}", plan.acts);
}

/// Which paths a step may mean.
enum Place {
    /// The host's: before the root is entered.
    Host,
    /// Those below the root, from outside.
    Root,
    /// The container's own.
    Inside,
    /// None.
    Anywhere,
}

fn place(step: &Step) -> Place {
    match step {
        Step::JoinGroups
        | Step::Join(_)
        | Step::OomScore(_)
        | Step::Procfs
        | Step::AwaitDevices
        | Step::AwaitGroup
        | Step::CgroupNamespace
        | Step::Clocks(_)
        | Step::JoinCgroupNamespace
        | Step::Sysctl { .. }
        | Step::Detach(_)
        | Step::Await
        | Step::Root(_) => Place::Host,
        Step::Mount(mount) => match &mount.source {
            Source::New { .. } | Source::Bind { .. } | Source::Mapped(_) => Place::Root,
        },
        Step::Remount(_)
        | Step::Node(_)
        | Step::Meet
        | Step::CreateHook(_)
        | Step::Link { .. }
        | Step::Directory(_)
        | Step::Seal(_)
        | Step::SealRoot
        | Step::ReadOnly(_)
        | Step::Console(_)
        | Step::Mask(_) => Place::Root,
        Step::Propagate(_)
        | Step::Inside
        | Step::Home(_)
        | Step::Go(_)
        | Step::Ready
        | Step::Gate
        | Step::Attend(_)
        | Step::StartHook(_)
        | Step::Execute => Place::Inside,
        Step::AllCpus
        | Step::Heed(_)
        | Step::Label(_)
        | Step::LabelMasks(_)
        | Step::Conceal
        | Step::Cpus(_)
        | Step::Domainname(_)
        | Step::Scheduler(_)
        | Step::IoPriority { .. }
        | Step::Personality(_)
        | Step::MemoryPolicy { .. }
        | Step::Session
        | Step::Rule
        | Step::KeepGroups
        | Step::Keyring { .. }
        | Step::Loopback
        | Step::Pivot
        | Step::MoveRoot
        | Step::Hostname(_)
        | Step::Limit { .. }
        | Step::Umask(_)
        | Step::NoNewPrivileges
        | Step::Bound(_)
        | Step::Become { .. }
        | Step::Capabilities(_)
        | Step::Filter(_) => Place::Anywhere,
    }
}
