//! What was planned is what the kernel shows: containers of the documents that the plan's golden tests plan are made
//! on this very host, and every step of `cofferdam plan --json` is looked for in /proc, before the program is there
//! and once it is.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use plan::{Act, Idmap, Mount, Program, Propagation, PropagationKind, Source, Step};
use serde::Deserialize;
use serde_json::{Value, json};
use spec::{MountOption, NamespaceKind, RlimitKind};
use tests::{Bundle, Container, MARKER, Runtime, needs};

/// As much of `cofferdam plan --json` as is looked for.
#[derive(Debug, Deserialize)]
struct Plan {
    rootfs: String,
    acts: Vec<Act>,
    steps: Vec<Step>,
    namespaces: Vec<NamespaceKind>,
    program: Program,
    cgroup: Groups,
}

#[derive(Debug, Deserialize)]
struct Groups {
    groups: Vec<Group>,
}

#[derive(Debug, Deserialize)]
struct Group {
    version: String,
    controllers: Vec<String>,
    mount: String,
    path: String,
    #[serde(default)]
    settings: Vec<Setting>,
}

#[derive(Debug, Deserialize)]
struct Setting {
    file: String,
    value: String,
}

#[test]
fn root_runc_spec_is_as_planned() {
    needs!(Root, Busybox);
    shown("runc-spec", None);
}

#[test]
fn root_docker_is_as_planned() {
    needs!(Root, Busybox);
    shown("docker-20.10", None);
    shown("docker-28", None);
}

#[test]
fn root_docker_with_user_namespaces_is_as_planned() {
    needs!(Root, Busybox);
    shown("docker-userns", None);
}

#[test]
fn root_a_pod_is_as_planned() {
    needs!(Root, Busybox);
    let runtime = Runtime::under_test();
    let holder = Bundle::new("holder");
    let container = holder.container(&runtime);
    container.create().success();
    let pid = container.pid();
    shown("k8s-pause", pid);
    shown("k8s-app", pid);
}

#[test]
fn root_a_pod_with_user_namespaces_is_as_planned() {
    needs!(Root, Busybox);
    let runtime = Runtime::under_test();
    let holder = bundle_of("docker-userns", None);
    let container = holder.container(&runtime);
    container.create().success();
    shown("k8s-userns", container.pid());
}

#[test]
fn root_privileged_is_as_planned() {
    needs!(Root, Busybox);
    shown("privileged", None);
}

#[test]
fn root_read_only_is_as_planned() {
    needs!(Root, Busybox);
    shown("read-only", None);
}

#[test]
fn root_sysctls_are_as_planned() {
    needs!(Root, Busybox);
    shown("sysctls", None);
}

#[test]
fn root_limits_are_as_planned() {
    needs!(Root, Busybox);
    shown("rlimits", None);
}

#[test]
fn root_propagation_is_as_planned() {
    needs!(Root, Busybox);
    for how in ["private", "rslave", "rshared", "unbindable"] {
        shown(&format!("propagation-{how}"), None);
    }
}

/// Makes a container of a golden document, and compares. `holder` is a process whose namespaces may be joined.
fn shown(name: &str, holder: Option<i32>) {
    let bundle = bundle_of(name, holder);
    let container = bundle.container(&Runtime::under_test());
    let told = container.call(&["plan", "--json", "--id", "ID", "BUNDLE"]);
    let plan: Plan = serde_json::from_str(&told.success().stdout).expect("a plan is JSON");
    // What is shared is shared with a mount namespace of the test's, not with the host's.
    let apart = ["unshare", "--mount", "--propagation", "private"];
    container.command(&["create", "--bundle", "BUNDLE", "ID"]).launched_by(&apart).run().success();
    assert_eq!(container.status().as_deref(), Some("created"), "{name}");
    let seen = Seen::of(&container, &plan);
    seen.compare_all(&plan, false);
    container.start().success();
    assert_eq!(container.status().as_deref(), Some("running"), "{name}");
    let started = Seen::of(&container, &plan);
    started.compare_all(&plan, true);
    assert_eq!(started.mounts, seen.mounts, "{name}: becoming the program mounts nothing");
}

/// The golden document, made runnable here: the host's paths are the bundle's own, and what this machine does not
/// have, nobody is asked for.
fn bundle_of(name: &str, holder: Option<i32>) -> Bundle {
    let golden =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../crates/plan/tests/plans/{name}.json"));
    let text = fs::read_to_string(&golden).expect("the document is there");
    let mut document: Value = serde_json::from_str(&text).expect("it is JSON");
    let bundle = Bundle::new(name);
    document["root"]["path"] = json!("rootfs");
    document["process"]["args"] = json!(["/bin/sleep", "1000"]);
    document["process"]["env"]
        .as_array_mut()
        .expect("a list")
        .push(json!(format!("{MARKER}={}", bundle.id())));
    if document["linux"]["cgroupsPath"].is_string() {
        document["linux"]["cgroupsPath"] = json!(format!("/{}", bundle.id()));
    }
    let status = fs::read_to_string("/proc/self/status").expect("proc is there");
    let ours = bits(&status, "CapBnd");
    for (_, set) in document["process"]["capabilities"].as_object_mut().into_iter().flatten() {
        let set = set.as_array_mut().expect("a list");
        set.retain(|name| {
            let number = spec::capability(name.as_str().expect("a name")).expect("a capability");
            ours & (1 << number) != 0
        });
    }
    let score = fs::read_to_string("/proc/self/oom_score_adj").expect("proc is there");
    let score: i64 = score.trim().parse().expect("a number");
    let is_lower = document["process"]["oomScoreAdj"].as_i64().is_some_and(|wanted| wanted < score);
    let sys_resource = spec::capability("CAP_SYS_RESOURCE").expect("a capability");
    if is_lower && ours & (1 << sys_resource) == 0 {
        document["process"]["oomScoreAdj"] = json!(score);
    }
    let limits = fs::read_to_string("/proc/self/limits").expect("proc is there");
    for limit in document["process"]["rlimits"].as_array_mut().into_iter().flatten() {
        let kind = RlimitKind::deserialize(&limit["type"]).expect("a limit");
        let (_, most) = limit_of(&limits, kind);
        for field in ["soft", "hard"] {
            limit[field] = json!(limit[field].as_u64().expect("a number").min(most));
        }
    }
    for namespace in document["linux"]["namespaces"].as_array_mut().expect("a list") {
        if namespace["path"].is_string() {
            let kind = NamespaceKind::deserialize(&namespace["type"]).expect("a kind");
            let holder = holder.expect("a process whose namespaces are joined");
            namespace["path"] = json!(format!("/proc/{holder}/ns/{}", file_of(kind)));
        }
    }
    for mount in document["mounts"].as_array_mut().into_iter().flatten() {
        if mount["type"] == "bind" {
            let source = mount["source"].as_str().expect("a path").trim_start_matches('/');
            let source = bundle.dir().join("host").join(source);
            provide(&source);
            mount["source"] = json!(source);
        }
    }
    let root = document["linux"]["uidMappings"][0]["hostID"].as_u64();
    let bundle = bundle.edit(|config| *config = document);
    match root.and_then(|id| u32::try_from(id).ok()) {
        Some(id) => bundle.given_to(id),
        None => bundle,
    }
}

/// A file where engines keep a file, a directory with something in it elsewhere.
fn provide(source: &Path) {
    let name = source.file_name().and_then(|name| name.to_str()).expect("a name");
    fs::create_dir_all(source.parent().expect("a parent")).expect("make the host's directories");
    if ["resolv.conf", "hostname", "hosts", "etc-hosts", "0", "file"].contains(&name) {
        fs::write(source, name).expect("make the host's file");
    } else {
        fs::create_dir_all(source.join("deeper")).expect("make the host's directory");
        fs::write(source.join("here"), name).expect("make a file in it");
    }
}

fn is_open(act: &Act, kind: NamespaceKind) -> bool {
    matches!(act, Act::Open { kind: of, .. } if *of == kind)
}

fn file_of(kind: NamespaceKind) -> &'static str {
    match kind {
        NamespaceKind::Mount => "mnt",
        NamespaceKind::Network => "net",
        other => other.name(),
    }
}

/// The value of a line of /proc/PID/status.
fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("{name} is not in {status}")).trim()
}

fn bits(status: &str, name: &str) -> u64 {
    u64::from_str_radix(field(status, name), 16).expect("a mask")
}

/// A line of /proc/PID/limits: soft and hard.
fn limit_of(limits: &str, kind: RlimitKind) -> (u64, u64) {
    let title = match kind {
        RlimitKind::As => "Max address space",
        RlimitKind::Core => "Max core file size",
        RlimitKind::Cpu => "Max cpu time",
        RlimitKind::Data => "Max data size",
        RlimitKind::Fsize => "Max file size",
        RlimitKind::Locks => "Max file locks",
        RlimitKind::Memlock => "Max locked memory",
        RlimitKind::Msgqueue => "Max msgqueue size",
        RlimitKind::Nice => "Max nice priority",
        RlimitKind::Nofile => "Max open files",
        RlimitKind::Nproc => "Max processes",
        RlimitKind::Rss => "Max resident set",
        RlimitKind::Rtprio => "Max realtime priority",
        RlimitKind::Rttime => "Max realtime timeout",
        RlimitKind::Sigpending => "Max pending signals",
        RlimitKind::Stack => "Max stack size",
    };
    let line = limits.lines().find_map(|line| line.strip_prefix(title)).expect("a limit");
    let mut words = line.split_whitespace().map(|word| match word {
        "unlimited" => u64::MAX,
        number => number.parse().expect("a number"),
    });
    (words.next().expect("soft"), words.next().expect("hard"))
}

/// A line of mountinfo.
#[derive(Clone, Debug, PartialEq)]
struct Line {
    /// The part of the file system that is shown.
    root: String,
    at: String,
    options: Vec<String>,
    /// `shared:N`, `master:N`, `unbindable`.
    spread: Vec<String>,
    kind: String,
    source: String,
    sup: Vec<String>,
}

fn lines(mountinfo: &str) -> Vec<Line> {
    let words = |text: &str| text.split(',').map(str::to_owned).collect();
    let line = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let before: Vec<&str> = before.split(' ').collect();
        let after: Vec<&str> = after.split(' ').collect();
        Some(Line {
            root: (*before.get(3)?).to_owned(),
            at: (*before.get(4)?).to_owned(),
            options: words(before.get(5)?),
            // Numbers of peer groups differ from run to run.
            spread: before[6..]
                .iter()
                .map(|word| word.split(':').next().unwrap_or(word).to_owned())
                .collect(),
            kind: (*after.first()?).to_owned(),
            source: (*after.get(1)?).to_owned(),
            sup: words(after.get(2)?),
        })
    };
    mountinfo.lines().map(|text| line(text).unwrap_or_else(|| panic!("{text}"))).collect()
}

/// A container as the kernel shows it.
struct Seen {
    pid: i32,
    status: String,
    limits: String,
    cgroup: String,
    mounts: Vec<Line>,
    ours: Vec<Line>,
    rootfs: String,
    container: String,
}

impl Seen {
    fn of(container: &Container<'_>, plan: &Plan) -> Self {
        let pid = container.pid().expect("it has a process");
        let read =
            |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).expect("a file of its process");
        Self {
            pid,
            status: read("status"),
            limits: read("limits"),
            cgroup: read("cgroup"),
            mounts: lines(&read("mountinfo")),
            ours: lines(&fs::read_to_string("/proc/self/mountinfo").expect("our mounts")),
            rootfs: plan.rootfs.clone(),
            container: container.id().to_owned(),
        }
    }

    /// A path of the container, from here.
    fn inside(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.pid))
    }

    /// What a command prints for the root of the container's user namespace, with our own programs and files.
    fn as_root(&self, words: &[&str]) -> String {
        let output = Command::new("nsenter")
            .args(["--user", "--setuid", "0", "--setgid", "0", "--target", &self.pid.to_string(), "--"])
            .args(words)
            .output()
            .expect("nsenter runs");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// What a command prints in the container's namespaces, with our own programs and files.
    fn entered(&self, words: &[&str]) -> String {
        let output = Command::new("nsenter")
            .args(["--net", "--uts", "--ipc", "--target", &self.pid.to_string(), "--"])
            .args(words)
            .output()
            .expect("nsenter runs");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    }

    fn namespace(&self, kind: NamespaceKind) -> PathBuf {
        let link = format!("/proc/{}/ns/{}", self.pid, file_of(kind));
        fs::read_link(&link).expect("a namespace")
    }

    fn own_namespace(kind: NamespaceKind) -> PathBuf {
        fs::read_link(format!("/proc/self/ns/{}", file_of(kind))).expect("a namespace")
    }

    /// `is_program`: the program runs; without it init still waits.
    fn compare_all(&self, plan: &Plan, is_program: bool) {
        for act in &plan.acts {
            self.compare_act(act, plan);
        }
        self.compare_namespaces(plan);
        // The root is mount number 0: those of the document come after it, in their order.
        let mut at = 0;
        for (index, step) in plan.steps.iter().enumerate() {
            let later = &plan.steps[index + 1..];
            if let Step::Mount(mount) = step {
                at = self.compare_mount(mount, later, at);
            } else {
                self.compare_step(step, plan, is_program);
            }
        }
        self.nothing_else_is_mounted(plan);
        if !plan.steps.contains(&Step::NoNewPrivileges) {
            assert_eq!(field(&self.status, "NoNewPrivs"), "0");
        }
    }

    fn compare_act(&self, act: &Act, plan: &Plan) {
        match act {
            Act::Group(index) => self.compare_group(&plan.cgroup.groups[*index]),
            Act::Clone(kinds) => assert_eq!(kinds, &plan.namespaces),
            Act::Open { kind, path, .. } => {
                assert_eq!(self.namespace(*kind), fs::read_link(path).expect("a namespace"), "{act:?}");
            }
            Act::Enter => assert!(plan.acts.iter().any(|act| is_open(act, NamespaceKind::Pid))),
            Act::Ceiling { kind, hard } => {
                let is_lower = |step: &Step| matches!(step, Step::Limit { kind: of, hard: most, .. } if of == kind && most <= hard);
                assert!(plan.steps.iter().any(is_lower), "{act:?}");
            }
            Act::Score(score) => {
                let shown = fs::read_to_string(format!("/proc/{}/oom_score_adj", self.pid)).expect("a score");
                assert_eq!(shown.trim(), score.to_string());
            }
            Act::Hand => assert!(plan.steps.contains(&Step::Await)),
            Act::Map(maps) | Act::Compare(maps) | Act::MapAsUser { maps, .. } => {
                for (file, map) in [("uid_map", &maps.users), ("gid_map", &maps.groups)] {
                    let shown = fs::read_to_string(format!("/proc/{}/{file}", self.pid)).expect("a map");
                    let shown: Vec<&str> = shown.split_whitespace().collect();
                    let wanted = plan::map::lines(map);
                    assert_eq!(shown, wanted.split_whitespace().collect::<Vec<_>>(), "{file}");
                }
            }
            // Their effect is what `state` and `start` live on, files and hooks that no plan here asks for.
            Act::Meet
            | Act::Hook(_)
            | Act::Part
            | Act::Keep
            | Act::Claim
            | Act::Intend
            | Act::Listen
            | Act::Remember(_)
            | Act::Complete
            | Act::Tell(_) => {}
            Act::Console(_) | Act::Introduce(_) | Act::Notify | Act::Hear => {
                unreachable!("no flag here asks for it")
            }
            Act::Unit | Act::Relieve => unreachable!("no systemd was asked for it: tests/tests/systemd.rs"),
            Act::Agent(_) => unreachable!("the documents here have no agent to ask"),
            Act::Devices { .. } => unreachable!("the documents here name no network device"),
            Act::StayOn(_) => unreachable!("an act of exec: no plan of create has it"),
        }
    }

    fn compare_group(&self, group: &Group) {
        let wanted = format!("/{}", group.path);
        let names = group.controllers.join(",");
        let line = self.cgroup.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            let is_it = if group.version == "v2" {
                controllers.is_empty()
            } else {
                controllers.trim_start_matches("name=") == names.trim_start_matches("name=")
            };
            is_it.then_some(path)
        });
        assert_eq!(line, Some(wanted.as_str()), "{group:?} in\n{}", self.cgroup);
        for Setting { file, value } in &group.settings {
            // Lists of devices are compared by what they let through, in the tests of the room cgroup.
            if file.starts_with("devices.") {
                continue;
            }
            let path = format!("{}/{}/{file}", group.mount, group.path);
            let shown = fs::read_to_string(&path).expect("a file of the group");
            assert_eq!(shown.trim(), value, "{path}");
        }
    }

    fn compare_namespaces(&self, plan: &Plan) {
        let all = [
            NamespaceKind::Cgroup,
            NamespaceKind::Ipc,
            NamespaceKind::Mount,
            NamespaceKind::Network,
            NamespaceKind::Pid,
            NamespaceKind::Time,
            NamespaceKind::User,
            NamespaceKind::Uts,
        ];
        for kind in all {
            let is_new = plan.namespaces.contains(&kind)
                || kind == NamespaceKind::Cgroup && plan.steps.contains(&Step::CgroupNamespace)
                || kind == NamespaceKind::Time
                    && plan.steps.iter().any(|step| matches!(step, Step::Clocks(_)));
            let is_joined = plan.acts.iter().any(|act| is_open(act, kind));
            let is_ours = self.namespace(kind) == Self::own_namespace(kind);
            assert_eq!(is_ours, !is_new && !is_joined, "{kind:?}: new {is_new}, joined {is_joined}");
        }
    }

    /// Whom an id is outside the container's user namespace.
    fn outside(&self, file: &str, id: &str) -> String {
        let id: u64 = id.parse().expect("a number");
        let map = fs::read_to_string(format!("/proc/{}/{file}", self.pid)).expect("a map");
        let found = map.lines().find_map(|line| {
            let range: Vec<u64> =
                line.split_whitespace().map(|word| word.parse().expect("a number")).collect();
            let beyond = id.checked_sub(range[0]).filter(|beyond| *beyond < range[2])?;
            Some(range[1] + beyond)
        });
        found.unwrap_or_else(|| panic!("{id} is not in {map}")).to_string()
    }

    /// Finds the mount at or after `from`, compares it, and tells where the next one is to be looked for.
    fn compare_mount(&self, mount: &Mount, later: &[Step], from: usize) -> usize {
        let at = self.mounts.iter().skip(from).position(|line| line.at == mount.target);
        let at =
            from + at.unwrap_or_else(|| panic!("not shown, or not in order: {mount:#?}\n{:#?}", self.mounts));
        let line = &self.mounts[at];
        let is_sealed = later.iter().any(|step| matches!(step, Step::Seal(path) if *path == mount.target));
        let inherited = match &mount.source {
            Source::New { kind, name, flags, data } => {
                assert_eq!(line.kind, *kind, "{mount:?}: {line:?}");
                let named = if name.is_empty() { "none" } else { name };
                assert_eq!(line.source, named, "{mount:?}: {line:?}");
                for flag in flags {
                    assert!(line.sup.contains(flag), "{flag}: {line:?}");
                }
                for (key, value) in data {
                    let outside = match (key.as_str(), value) {
                        ("uid", Some(id)) => Some(self.outside("uid_map", id)),
                        ("gid", Some(id)) => Some(self.outside("gid_map", id)),
                        (_, value) => value.clone(),
                    };
                    assert!(has_data(line, key, outside.as_deref()), "{key}={value:?}: {line:?}");
                }
                Vec::new()
            }
            Source::Bind { path, .. } | Source::Mapped(Idmap { path, .. }) => {
                let source = fs::metadata(path).expect("the source is there");
                let is_covered = later.iter().any(|step| match step {
                    Step::Mount(other) => other.target == mount.target,
                    Step::Mask(path) => *path == mount.target,
                    _ => false,
                });
                if !is_covered {
                    let target = fs::metadata(self.inside(&mount.target)).expect("the target is there");
                    assert_eq!((target.dev(), target.ino()), (source.dev(), source.ino()), "{mount:?}");
                }
                self.ours_at(path).options.clone()
            }
        };
        // What another user namespace has set stays, but for what the document names.
        let is_locked = self.namespace(NamespaceKind::User) != Self::own_namespace(NamespaceKind::User);
        for (name, meaning) in spec::options() {
            let MountOption::Flag(flag) = meaning else { continue };
            if flag.attr_set == 0 {
                continue;
            }
            let is_shown = if *name == "strictatime" {
                !line.options.iter().any(|word| word == "relatime" || word == "noatime")
            } else {
                line.options.iter().any(|word| word == name)
            };
            let is_wanted = if mount.set & flag.attr_set != 0 || *name == "ro" && is_sealed {
                true
            } else if mount.clear & !mount.named & flag.attr_set != 0 && is_locked {
                inherited.iter().any(|word| word == name)
            } else if mount.clear & flag.attr_set != 0 {
                false
            } else if mount.set & spec::MOUNT_ATTR__ATIME & flag.attr_clear != 0 {
                // Another way to keep access times was asked for.
                false
            } else if *name == "strictatime" {
                matches!(mount.source, Source::Bind { .. })
                    && !inherited.iter().any(|word| word == "relatime" || word == "noatime")
            } else {
                inherited.iter().any(|word| word == name)
            };
            assert_eq!(is_shown, is_wanted, "{name}: {mount:?}: {line:?}");
        }
        // What `/` becomes in the end, with all below it, counts for this mount as well.
        let everywhere = later.iter().find_map(|step| match step {
            Step::Propagate(how) if how.recursive => Some(how),
            _ => None,
        });
        if let Some(last) = everywhere.or(mount.propagation.last()) {
            Self::compare_propagation(line, *last);
        }
        at + 1
    }

    /// Our own mount on which a path lies.
    fn ours_at(&self, path: &str) -> &Line {
        let below =
            |line: &&Line| line.at == "/" || path == line.at || path.starts_with(&format!("{}/", line.at));
        self.ours.iter().filter(below).max_by_key(|line| line.at.len()).expect("every path lies on a mount")
    }

    fn compare_propagation(line: &Line, how: Propagation) {
        let has = |word: &str| line.spread.iter().any(|shown| shown == word);
        match how.kind {
            PropagationKind::Private => assert!(line.spread.is_empty(), "{how:?}: {line:?}"),
            PropagationKind::Shared => assert!(has("shared"), "{how:?}: {line:?}"),
            // A slave of nobody is private.
            PropagationKind::Slave => assert!(!has("shared") && !has("unbindable"), "{how:?}: {line:?}"),
            PropagationKind::Unbindable => assert!(has("unbindable"), "{how:?}: {line:?}"),
        }
    }

    /// The topmost mount at a place.
    fn top(&self, path: &str) -> Option<&Line> {
        self.mounts.iter().rfind(|line| line.at == path)
    }

    #[allow(clippy::too_many_lines, reason = "one arm for each step, in the order of the type")]
    fn compare_step(&self, step: &Step, plan: &Plan, is_program: bool) {
        let status = |name: &str| field(&self.status, name);
        match step {
            Step::Mount(_) => unreachable!("compared by its order"),
            Step::Remount(remount) => {
                let line = self.top(&remount.target).expect("a mount");
                let is_read_only = line.options.contains(&"ro".to_owned());
                assert_eq!(is_read_only, remount.set & spec::MOUNT_ATTR_RDONLY != 0, "{line:?}");
            }
            Step::JoinCgroupNamespace | Step::Inside | Step::Cpus(_) | Step::Procfs => {
                unreachable!("steps of exec: no plan of create has them")
            }
            // What hooks do shows elsewhere: tests/tests/hooks.rs.
            Step::Meet | Step::CreateHook(_) | Step::StartHook(_) => {}
            Step::Console(_) => unreachable!("the documents here ask for no terminal"),
            // The groups were compared one by one.
            Step::JoinGroups => assert!(plan.acts.iter().any(|act| matches!(act, Act::Group(_)))),
            Step::AllCpus => {
                let shown = status("Cpus_allowed_list");
                let place = fs::read_to_string(format!("/proc/{}/cpuset", self.pid)).expect("a cpuset");
                // v2: a group without the controller has its parent's.
                let set = Path::new(place.trim()).ancestors().find_map(|place| {
                    let place = place.strip_prefix("/").expect("it begins at the root");
                    ["cpuset", ""].iter().find_map(|mount| {
                        let dir = Path::new("/sys/fs/cgroup").join(mount).join(place);
                        let mut files = ["cpuset.effective_cpus", "cpuset.cpus.effective"].iter();
                        files.find_map(|file| fs::read_to_string(dir.join(file)).ok())
                    })
                });
                assert_eq!(shown, set.expect("some cpuset is in force").trim());
            }
            // Compared where it was opened.
            Step::Join(kind) => assert!(plan.acts.iter().any(|act| is_open(act, *kind)), "{step:?}"),
            Step::Conceal => {
                // Who hides has files in /proc that are the host's root's; the program's are its user's.
                let owner = fs::metadata(format!("/proc/{}/status", self.pid)).expect("a process").uid();
                let user = status("Uid").split_whitespace().next().expect("a user").to_owned();
                assert_eq!(owner.to_string(), if is_program { user } else { "0".to_owned() });
            }
            Step::OomScore(score) => {
                let shown = fs::read_to_string(format!("/proc/{}/oom_score_adj", self.pid)).expect("a score");
                assert_eq!(shown.trim(), score.to_string());
            }
            Step::Session => {
                let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).expect("a process");
                let words: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
                // State, parent, group, session.
                let pid = self.pid.to_string();
                assert_eq!(words[2..4], [pid.as_str(), pid.as_str()], "{stat}");
            }
            // What was handed over is compared where it is used.
            Step::Await => assert!(plan.acts.contains(&Act::Hand)),
            Step::KeepGroups => {
                let path = format!("/proc/{}/setgroups", self.pid);
                assert_eq!(fs::read_to_string(path).expect("a word").trim(), "deny");
            }
            Step::Rule => {
                assert_ne!(self.namespace(NamespaceKind::User), Self::own_namespace(NamespaceKind::User));
            }
            Step::Keyring { name, others } => {
                assert_eq!(*name, format!("_ses.{}", self.container));
                // Its user alone sees it.
                let keys = if *others {
                    self.as_root(&["cat", "/proc/keys"])
                } else {
                    fs::read_to_string("/proc/keys").expect("keys")
                };
                assert!(keys.lines().any(|line| line.contains("keyring") && line.contains(name)), "{keys}");
            }
            Step::CgroupNamespace => {
                let ours = Self::own_namespace(NamespaceKind::Cgroup);
                assert_ne!(self.namespace(NamespaceKind::Cgroup), ours);
            }
            Step::Clocks(offsets) => {
                let shown = fs::read_to_string(format!("/proc/{}/timens_offsets", self.pid)).expect("clocks");
                let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
                let shown: Vec<_> = shown.lines().map(words).collect();
                assert!(
                    offsets.iter().all(|offset| shown.contains(&words(offset))),
                    "{offsets:?}: {shown:?}"
                );
            }
            Step::Loopback => {
                // Its address is a local one only while the interface is up.
                let routes = fs::read_to_string(format!("/proc/{}/net/fib_trie", self.pid)).expect("routes");
                assert!(routes.contains("127.0.0.1"), "{routes}");
            }
            Step::Sysctl { path, value } => {
                let shown = self.entered(&["cat", &format!("/proc/sys/{path}")]);
                let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
                assert_eq!(words(&shown), words(value), "{path}");
            }
            Step::Detach(how) => {
                let asked_later = plan.steps.iter().any(|step| matches!(step, Step::Propagate(_)));
                if !asked_later {
                    Self::compare_propagation(self.top("/").expect("a root"), *how);
                }
            }
            Step::Propagate(how) => Self::compare_propagation(self.top("/").expect("a root"), *how),
            Step::Root(path) => {
                assert_eq!(*path, self.rootfs);
                let (root, source) = (
                    fs::metadata(self.inside("/")).expect("a root"),
                    fs::metadata(path).expect("a directory"),
                );
                assert_eq!((root.dev(), root.ino()), (source.dev(), source.ino()));
                assert!(self.top("/").is_some_and(|line| path.ends_with(&line.root)), "{:?}", self.top("/"));
            }
            Step::Pivot | Step::MoveRoot => {
                let roots = self.mounts.iter().filter(|line| line.at == "/").count();
                assert_eq!(roots, 1, "nothing of the host's is left: {:#?}", self.mounts);
            }
            Step::Node(node) if node.is_bound => {
                let same = |path: &Path| fs::metadata(path).map(|it| (it.dev(), it.ino())).expect("a node");
                assert_eq!(same(&self.inside(&node.path)), same(Path::new(&node.path)), "{node:?}");
            }
            Step::Node(node) => {
                let shown = fs::symlink_metadata(self.inside(&node.path)).expect("a node");
                assert_eq!(shown.mode(), node.mode, "{node:?}");
                assert_eq!((shown.uid(), shown.gid()), (node.uid, node.gid), "{node:?}");
                if !shown.file_type().is_fifo() {
                    let number = rustix::fs::makedev(node.major, node.minor);
                    assert_eq!(shown.rdev(), number, "{node:?}");
                }
            }
            Step::Link { path, target, .. } => {
                let shown = fs::read_link(self.inside(path)).expect("a link");
                assert_eq!(shown, Path::new(target), "{path}");
            }
            Step::Directory(path) => assert!(self.inside(path).is_dir(), "{path}"),
            Step::Seal(path) => {
                let line = self.top(path).expect("a mount");
                assert!(line.options.contains(&"ro".to_owned()), "{line:?}");
                assert!(
                    line.sup.contains(&"rw".to_owned()),
                    "the mount is sealed, not what it shows: {line:?}"
                );
            }
            Step::SealRoot => {
                let line = self.top("/").expect("a root");
                assert!(line.options.contains(&"ro".to_owned()), "{line:?}");
            }
            Step::ReadOnly(path) => {
                if self.inside(path).exists() {
                    let is_masked = plan.steps.contains(&Step::Mask(path.clone()));
                    let line = self.top(path).unwrap_or_else(|| panic!("{path} is no mount"));
                    assert!(is_masked || line.options.contains(&"ro".to_owned()), "{line:?}");
                }
            }
            Step::Mask(path) => self.compare_mask(path),
            Step::Hostname(name) => assert_eq!(self.entered(&["uname", "-n"]), *name),
            Step::AwaitGroup => unreachable!("no systemd was asked for it: tests/tests/systemd.rs"),
            Step::AwaitDevices => unreachable!("the documents here name no network device"),
            Step::Label(_) | Step::LabelMasks(_) => {
                unreachable!("no document of these names a label: this host may run no security module")
            }
            Step::Domainname(name) => {
                assert_eq!(self.entered(&["cat", "/proc/sys/kernel/domainname"]), *name);
            }
            Step::Scheduler(how) => {
                let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).expect("a process");
                let words: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
                assert_eq!(words[38], how.policy.to_string(), "{stat}");
                assert_eq!(words[37], how.priority.to_string(), "{stat}");
            }
            Step::IoPriority { class, level } => {
                let shown = self.entered(&["ionice", "-p", &self.pid.to_string()]);
                let names = ["", "realtime", "best-effort", "idle"];
                let name = names[usize::from(*class)];
                assert!(shown.starts_with(name), "{shown}");
                assert!(name == "idle" || shown.ends_with(&level.to_string()), "{shown}");
            }
            Step::Personality(domain) => {
                let shown = fs::read_to_string(format!("/proc/{}/personality", self.pid)).expect("a domain");
                assert_eq!(shown.trim(), format!("{domain:08x}"));
            }
            Step::MemoryPolicy { nodes, .. } => {
                let shown = fs::read_to_string(format!("/proc/{}/numa_maps", self.pid)).expect("a map");
                let policy = shown.split_whitespace().nth(1).expect("a policy");
                assert!(policy.ends_with(&nodes.to_string()), "{policy}");
            }
            Step::Limit { kind, soft, hard } => {
                assert_eq!(limit_of(&self.limits, *kind), (*soft, *hard), "{kind:?}");
            }
            Step::Umask(mask) => assert_eq!(status("Umask"), format!("{mask:04o}")),
            Step::NoNewPrivileges => assert_eq!(status("NoNewPrivs"), "1"),
            Step::Filter(_) => {
                // Where privileges are locked it is the last step, and init waits before it.
                let is_loaded = is_program || !plan.steps.contains(&Step::NoNewPrivileges);
                assert_eq!(status("Seccomp"), if is_loaded { "2" } else { "0" });
                assert_eq!(status("Seccomp_filters"), if is_loaded { "1" } else { "0" });
            }
            Step::Bound(dropped) => {
                let ours = fs::read_to_string("/proc/self/status").expect("proc is there");
                // Whoever comes into a user namespace begins with all of them.
                let is_mapped = plan.steps.contains(&Step::Rule);
                let before =
                    if is_mapped { (1 << spec::CAPABILITIES.len()) - 1 } else { bits(&ours, "CapBnd") };
                assert_eq!(bits(&self.status, "CapBnd"), before & !dropped);
            }
            Step::Become { uid, gid, groups } => {
                let four =
                    |file: &str, id: &u32| [(); 4].map(|()| self.outside(file, &id.to_string())).join("\t");
                assert_eq!(status("Uid"), four("uid_map", uid));
                assert_eq!(status("Gid"), four("gid_map", gid));
                let mut shown: Vec<u32> =
                    status("Groups").split_whitespace().map(|id| id.parse().expect("an id")).collect();
                let outside = |id: &u32| self.outside("gid_map", &id.to_string()).parse().expect("an id");
                let mut groups: Vec<u32> = groups.iter().map(outside).collect();
                shown.sort_unstable();
                groups.sort_unstable();
                assert_eq!(shown, groups);
            }
            Step::Capabilities(kept) => {
                let is_root = plan.steps.iter().any(|step| matches!(step, Step::Become { uid: 0, .. }));
                let shown = ["CapEff", "CapPrm", "CapInh", "CapAmb"].map(|set| bits(&self.status, set));
                let wanted = match (is_program, is_root) {
                    (false, _) => [kept.effective, kept.permitted, kept.inheritable, kept.ambient],
                    // capabilities(7): root's program has all that is bounding or inheritable; where privileges are
                    // locked, no more than it had.
                    (true, true) => {
                        let all = bits(&self.status, "CapBnd") | kept.inheritable;
                        let is_locked = plan.steps.contains(&Step::NoNewPrivileges);
                        let now = if is_locked { all & kept.permitted } else { all };
                        [now, now, kept.inheritable, kept.ambient]
                    }
                    // Everybody else's has what is ambient.
                    (true, false) => [kept.ambient, kept.ambient, kept.inheritable, kept.ambient],
                };
                assert_eq!(shown, wanted, "{shown:x?} instead of {wanted:x?}");
            }
            Step::Home(uid) => {
                if is_program {
                    let home = if *uid == 0 { "HOME=/root" } else { "HOME=/" };
                    assert!(self.environment().contains(&home.to_owned()), "{:?}", self.environment());
                }
            }
            Step::Go(path) => {
                let here = fs::metadata(format!("/proc/{}/cwd", self.pid)).expect("a directory");
                let there = fs::metadata(self.inside(path)).expect("the directory");
                assert_eq!((here.dev(), here.ino()), (there.dev(), there.ino()), "{path}");
            }
            Step::Heed(signals) => {
                if !is_program {
                    assert_eq!(bits(&self.status, "SigCgt"), *signals);
                    assert_eq!(bits(&self.status, "SigBlk") & signals, 0);
                }
            }
            Step::Ready | Step::Gate => {
                let program = fs::read_link(format!("/proc/{}/exe", self.pid)).expect("a program");
                assert_eq!(program == Path::new("/bin/busybox"), is_program, "{}", program.display());
            }
            // Only the daemon's containers have it, and its tests look at it.
            Step::Attend(_) => panic!("nobody asked for an attendant"),
            Step::Execute => {
                if is_program {
                    let shown = fs::read(format!("/proc/{}/cmdline", self.pid)).expect("a command line");
                    let wanted: String = plan.program.args.iter().flat_map(|word| [word, "\0"]).collect();
                    assert_eq!(String::from_utf8_lossy(&shown), wanted);
                    let shown = self.environment();
                    let mut shown = shown.iter();
                    for pair in &plan.program.env {
                        assert!(shown.any(|known| known == pair), "{pair} in its place");
                    }
                }
            }
        }
    }

    fn environment(&self) -> Vec<String> {
        let bytes = fs::read(format!("/proc/{}/environ", self.pid)).expect("an environment");
        let text = String::from_utf8(bytes).expect("text");
        text.split_terminator('\0').map(str::to_owned).collect()
    }

    /// What is masked reads as empty, and cannot be written.
    fn compare_mask(&self, path: &str) {
        let place = self.inside(path);
        let Ok(shown) = fs::symlink_metadata(&place) else { return };
        let line = self.top(path).unwrap_or_else(|| panic!("{path} is there and not masked"));
        if shown.is_dir() {
            assert_eq!(line.kind, "tmpfs", "{line:?}");
            assert!(line.options.contains(&"ro".to_owned()), "{line:?}");
            assert_eq!(fs::read_dir(&place).expect("a directory").count(), 0, "{path}");
        } else {
            assert!(shown.file_type().is_char_device(), "{path}");
            assert_eq!(shown.rdev(), rustix::fs::makedev(1, 3), "{path}");
        }
    }

    /// Every mount was planned, or came along with one that brings all below it.
    fn nothing_else_is_mounted(&self, plan: &Plan) {
        let brought: Vec<&str> = plan
            .steps
            .iter()
            .filter_map(|step| match step {
                Step::Mount(Mount { target, source: Source::Bind { recursive: true, .. }, .. })
                | Step::ReadOnly(target) => Some(target.as_str()),
                _ => None,
            })
            .collect();
        for line in &self.mounts {
            let is_planned = line.at == "/"
                || plan.steps.iter().any(|step| match step {
                    Step::Mount(mount) => mount.target == line.at,
                    Step::Mask(path) | Step::ReadOnly(path) => *path == line.at,
                    Step::Node(node) => node.is_bound && node.path == line.at,
                    _ => false,
                })
                || brought.iter().any(|path| line.at.starts_with(&format!("{path}/")));
            assert!(is_planned, "nobody planned {line:?}");
        }
    }
}

/// Whether a file system shows an option of its own; each has its way to write numbers, and leaves out its defaults.
fn has_data(line: &Line, key: &str, value: Option<&str>) -> bool {
    let shown = |word: &str| line.sup.iter().any(|shown| shown == word);
    match (line.kind.as_str(), key, value) {
        ("devpts", "newinstance", None) | ("cgroup", "none", None) => true,
        ("devpts" | "tmpfs", "mode" | "ptmxmode", Some(mode)) => {
            let mode = mode.trim_start_matches('0');
            shown(&format!("{key}={mode}")) || (line.kind == "tmpfs" && mode == "1777")
        }
        ("tmpfs", "size", Some(size)) => {
            let (number, unit) = size.split_at(size.trim_end_matches(['k', 'm', 'g']).len());
            let number: u64 = number.parse().expect("a size");
            let bytes = match unit {
                "" => number,
                "k" => number << 10,
                "m" => number << 20,
                _ => number << 30,
            };
            shown(&format!("size={}k", bytes >> 10))
        }
        (_, key, None) => shown(key),
        (_, key, Some(value)) => shown(&format!("{key}={value}")),
    }
}
