//! `--systemd-cgroup`: units that systemd makes, their properties and their groups' files, and what is left of them. But for
//! the first test they need a host with systemd and version 2 of control groups, such as `make test-vm` has.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::json;
use tests::trace::{Fate, kill_after};
use tests::{
    AS_GUEST_USER, Bundle, Container, GUEST_USER, Invocation, LIMIT, Output, Runtime, figure, needs,
};

/// systemd answers nobody while it is reloaded, as one test here has it be, and in a virtual machine that takes its time.
const LONG: Duration = LIMIT.saturating_mul(5);

/// Asks systemd for the groups.
fn managed<'a>(container: &Container<'a>, words: &[&str]) -> Invocation<'a> {
    container.command(words).global("--systemd-cgroup").within(LONG)
}

/// A command that has systemd do something.
fn call(container: &Container<'_>, words: &[&str]) -> Output {
    container.command(words).within(LONG).run()
}

fn create(container: &Container<'_>) -> Output {
    managed(container, &["create", "--bundle", "BUNDLE", "ID"]).run()
}

/// The unit of a container whose document says nothing about it.
fn scope(container: &Container<'_>) -> String {
    format!("cofferdam-{}.scope", container.id())
}

/// While systemd executes itself anew, as one test here has it do, systemctl fails: it is asked again.
fn systemctl(words: &[&str]) -> String {
    for _ in 0..100 {
        let output = Command::new("systemctl").args(words).output().expect("run systemctl");
        if output.status.success() {
            return String::from_utf8_lossy(&output.stdout).trim().to_owned();
        }
    }
    panic!("systemctl {words:?} fails");
}

fn property(unit: &str, name: &str) -> String {
    systemctl(&["show", "--property", name, "--value", unit])
}

/// Fails if systemd knows any unit whose name has this in it.
#[track_caller]
fn no_unit_of(marker: &str) {
    let units = systemctl(&["list-units", "--all", "--full", "--plain", "--no-legend"]);
    let left: Vec<&str> = units.lines().filter(|line| line.contains(marker)).collect();
    assert!(left.is_empty(), "units left: {left:?}");
}

/// A file of a unit's group.
fn file(unit: &str, name: &str) -> String {
    let group = property(unit, "ControlGroup");
    let path = PathBuf::from(format!("/sys/fs/cgroup{group}/{name}"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
}

/// The groups of a process.
fn groups(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("a process").trim().to_owned()
}

fn sleeper(name: &str) -> Bundle {
    Bundle::new(name).shell("exec sleep 1000")
}

/// A host whose systemd is hidden: for one without there is nothing to hide.
const HIDDEN: &str = r#"
    for place in /run/systemd /run/dbus; do
        if [ -d $place ]; then mount -t tmpfs hidden $place || exit 1; fi
    done
    exec "$@""#;

#[test]
fn root_without_a_manager_nothing_is_done() {
    needs!(Root, Busybox);
    let bundle = sleeper("no-systemd");
    let container = bundle.container(&Runtime::under_test());
    let hide = ["unshare", "--mount", "--propagation", "private", "sh", "-c", HIDDEN, "sh"];
    for words in [&["create", "--bundle", "BUNDLE", "ID"][..], &["plan", "BUNDLE"]] {
        let output = managed(&container, words).launched_by(&hide).run();
        output.code(1);
        let told = "--systemd-cgroup: systemd is not running here, or cannot be reached: /run/systemd/private: \
                    connect(\"/run/systemd/private\"): no such file or directory (os error 2)";
        assert!(output.stderr.contains(told), "{output}");
    }
    assert!(!bundle.state_root().join(bundle.id()).exists(), "nothing was made");
    let checked = container.command(&["check"]).without_globals().launched_by(&hide).run();
    assert!(checked.stdout.contains("--systemd-cgroup"), "{checked}");
}

/// As its document in the next test has them.
#[track_caller]
fn has_properties_of_all_limits(unit: &str) {
    for (name, shown) in [
        ("MemoryMax", "67108864"),
        ("MemoryLow", "33554432"),
        ("MemorySwapMax", "33554432"),
        ("MemoryHigh", "60000000"),
        ("CPUWeight", "59"),
        ("CPUQuotaPerSecUSec", "250ms"),
        ("CPUQuotaPeriodUSec", "50ms"),
        ("AllowedCPUs", "0"),
        ("AllowedMemoryNodes", "0"),
        ("TasksMax", "50"),
        ("IOWeight", "2300"),
        ("OOMPolicy", "kill"),
        ("Delegate", "yes"),
        ("DevicePolicy", "strict"),
        ("TimeoutStopUSec", "7s"),
        ("CollectMode", "inactive-or-failed"),
    ] {
        assert_eq!(property(unit, name), shown, "{name}");
    }
    assert!(property(unit, "DeviceAllow").contains("/dev/char/10:229 rw"));
}

#[test]
fn vm_a_scope_has_the_limits_of_its_group() {
    needs!(Vm);
    let bundle = sleeper("limits").namespace("cgroup").edit(|config| {
        config["linux"]["resources"] = json!({
            "devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"}],
            "memory": {"limit": 64 << 20, "swap": 96 << 20, "reservation": 32 << 20},
            "cpu": {"shares": 512, "quota": 12_345, "period": 50_000, "cpus": "0", "mems": "0"},
            "pids": {"limit": 50},
            "blockIO": {"weight": 300},
            "unified": {"memory.high": "60000000", "memory.oom.group": "1"},
        });
        config["annotations"] = json!({
            "org.systemd.property.TimeoutStopSec": "7",
            "org.systemd.property.After": "['basic.target']",
        });
    });
    let name = bundle.id().rsplit_once('-').expect("dashes").0.replace('-', "");
    let path = format!("{name}-inner.slice:libpod:{}", bundle.id());
    let bundle = bundle.edit(|config| config["linux"]["cgroupsPath"] = json!(path));
    let container = bundle.container(&Runtime::under_test());
    create(&container).success();
    let unit = format!("libpod-{}.scope", bundle.id());

    let expected = format!("/{name}.slice/{name}-inner.slice/{unit}");
    assert_eq!(property(&unit, "ControlGroup"), expected);
    let pid = container.pid().expect("it lives");
    assert_eq!(groups(pid), format!("0::{expected}"));
    // The process that it was made around is gone.
    assert_eq!(file(&unit, "cgroup.procs"), pid.to_string());
    has_properties_of_all_limits(&unit);
    let shows = |pairs: &[(&str, &str)]| {
        for (name, shown) in pairs {
            assert_eq!(file(&unit, name), *shown, "{name}");
        }
    };
    let limits = [
        ("memory.max", "67108864"),
        ("memory.low", "33554432"),
        ("memory.swap.max", "33554432"),
        ("cpu.weight", "59"),
        ("cpu.max", "12500 50000"),
        ("cpuset.cpus", "0"),
        ("pids.max", "50"),
        ("memory.oom.group", "1"),
    ];
    shows(&limits);

    container.start().success();
    container.call(&["exec", "ID", "/bin/true"]).success();
    let seen = container.call(&["exec", "ID", "/bin/cat", "/proc/self/cgroup"]);
    assert_eq!(seen.stdout, "0::/\n", "{seen}");
    let words = [
        "update",
        "--memory",
        "128m",
        "--memory-swap",
        "-1",
        "--cpu-quota",
        "33333",
        "--pids-limit",
        "77",
        "ID",
    ];
    call(&container, &words).success();
    let updated = [
        ("memory.max", "134217728"),
        ("memory.swap.max", "max"),
        ("cpu.max", "33500 50000"),
        ("pids.max", "77"),
        ("cpu.weight", "59"),
    ];
    shows(&updated);
    for (name, shown) in [
        ("MemoryMax", "134217728"),
        ("MemorySwapMax", "infinity"),
        ("CPUQuotaPerSecUSec", "670ms"),
        ("TasksMax", "77"),
        ("MemoryLow", "33554432"),
    ] {
        assert_eq!(property(&unit, name), shown, "{name}");
    }
    // What systemd writes when it is reloaded is what is there.
    systemctl(&["daemon-reload"]);
    shows(&updated);
    // What the kernel refuses is taken back on both sides.
    let refused = call(&container, &["update", "--memory", "256m", "--cpuset-cpus", "999", "ID"]);
    assert_ne!(refused.code, 0);
    shows(&updated);
    assert_eq!(
        (property(&unit, "MemoryMax").as_str(), property(&unit, "AllowedCPUs").as_str()),
        ("134217728", "0")
    );

    container.call(&["pause", "ID"]).success();
    assert_eq!(container.status().as_deref(), Some("paused"));
    container.call(&["resume", "ID"]).success();
    let stats = container.call(&["events", "--stats", "ID"]);
    assert!(stats.success().stdout.contains("\"pids\":{\"current\":1,\"limit\":77}"), "{stats}");
    container.kill("KILL").success();
    assert!(container.ended());
    call(&container, &["delete", "ID"]).success();
    no_unit_of(bundle.id());
    systemctl(&["stop", &format!("{name}.slice")]);
}

/// Device rules of a live container, which systemd has a program of its own for.
#[test]
fn vm_a_device_is_allowed_live() {
    needs!(Vm);
    let bundle = sleeper("devices").edit(|config| {
        config["linux"]["devices"] = json!([{"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11}]);
    });
    let container = bundle.container(&Runtime::under_test());
    create(&container).success();
    container.start().success();
    let opens = || container.call(&["exec", "ID", "/bin/sh", "-c", ": >/dev/kmsg"]).code == 0;
    assert!(!opens(), "nobody has allowed it");
    let resources = bundle.dir().join("resources.json");
    let rules = json!({"devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "rwm"}]});
    fs::write(&resources, rules.to_string()).expect("write the limits");
    call(&container, &["update", "--resources", resources.to_str().expect("a path"), "ID"]).success();
    assert!(opens(), "{}", property(&scope(&container), "DeviceAllow"));
    systemctl(&["daemon-reload"]);
    assert!(opens());
    call(&container, &["delete", "--force", "ID"]).success();
    no_unit_of(bundle.id());
}

/// One process is allowed, and the unit was made around another one.
#[test]
fn vm_a_scope_for_one_process() {
    needs!(Vm);
    let bundle = Bundle::new("one")
        .args(&["/bin/cat", "/proc/self/cgroup"])
        .namespace("cgroup")
        .edit(|config| config["linux"]["resources"]["pids"] = json!({"limit": 1}));
    let container = bundle.container(&Runtime::under_test());
    let output = managed(&container, &["run", "--bundle", "BUNDLE", "ID"]).run();
    assert_eq!(output.success().stdout, "0::/\n");
    no_unit_of(bundle.id());
}

#[test]
fn vm_a_slice_of_its_own() {
    needs!(Vm);
    let bundle = sleeper("slice");
    let slice = format!("{}.slice", bundle.id().replace('-', "_"));
    let bundle = bundle.edit(|config| config["linux"]["cgroupsPath"] = json!(format!("::{slice}")));
    let container = bundle.container(&Runtime::under_test());
    create(&container).success();
    let pid = container.pid().expect("it lives");
    assert_eq!(groups(pid), format!("0::/{slice}"));
    assert!(property(&slice, "Wants").contains("system.slice"));
    container.start().success();
    container.call(&["exec", "ID", "/bin/true"]).success();
    call(&container, &["delete", "--force", "ID"]).success();
    no_unit_of(&slice);
}

#[test]
fn vm_systemctl_stops_a_container() {
    needs!(Vm);
    let bundle = Bundle::new("stop").shell("trap 'exit 7' TERM; while :; do sleep 1000 & wait; done");
    let container = bundle.container(&Runtime::under_test());
    let running = managed(&container, &["run", "--keep", "--bundle", "BUNDLE", "ID"]).spawn();
    let marker = format!("/proc/{}", running.pid());
    // The program runs once it has a child of its own.
    while !container.call(&["ps", "ID"]).stdout.contains("sleep 1000") {
        assert!(Path::new(&marker).exists(), "{}", running.complaint());
    }
    systemctl(&["stop", &scope(&container)]);
    running.wait().code(7);
    assert_eq!(container.status().as_deref(), Some("stopped"));
    no_unit_of(bundle.id());
    call(&container, &["delete", "ID"]).success();
}

#[test]
fn vm_systemd_is_reloaded_during_creation() {
    needs!(Vm);
    let bundle = sleeper("reload");
    // Beside them two that work without end and keep what they have.
    let busy = Bundle::new("busy").shell("while :; do /bin/true; done").edit(|config| {
        config["linux"]["resources"]["cpu"] = json!({"quota": 10_000, "period": 100_000});
        config["linux"]["resources"]["memory"] = json!({"limit": 32 << 20});
    });
    let busy: Vec<_> = [&busy, &busy].iter().map(|busy| busy.another(&Runtime::under_test())).collect();
    let kept = |container: &Container<'_>| {
        let pid = container.pid().expect("it lives");
        (pid, groups(pid), ["cpu.max", "memory.max"].map(|name| file(&scope(container), name)))
    };
    for container in &busy {
        create(container).success();
        call(container, &["start", "ID"]).success();
    }
    let before: Vec<_> = busy.iter().map(kept).collect();
    for round in 0..8 {
        let container = bundle.another(&Runtime::under_test());
        // Executed anew, it hangs up on everybody.
        let how = if round % 4 == 3 { "daemon-reexec" } else { "daemon-reload" };
        thread::scope(|scope| {
            let reloaded = scope.spawn(|| systemctl(&[how]));
            create(&container).success();
            reloaded.join().expect("systemd is reloaded");
        });
        let reloaded = thread::scope(|scope| {
            let reloaded = scope.spawn(|| systemctl(&[how]));
            call(&container, &["update", "--pids-limit", "33", "ID"]).success();
            reloaded.join()
        });
        reloaded.expect("systemd is reloaded");
        assert_eq!(property(&scope(&container), "TasksMax"), "33");
        container.start().success();
        container.call(&["exec", "ID", "/bin/true"]).success();
        call(&container, &["delete", "--force", "ID"]).success();
    }
    no_unit_of(bundle.id());
    assert_eq!(busy.iter().map(kept).collect::<Vec<_>>(), before);
    for container in &busy {
        assert_eq!(container.status().as_deref(), Some("running"));
        call(container, &["delete", "--force", "ID"]).success();
    }
}

/// A scope around a process of the test's own.
struct Foreign(Child);

impl Foreign {
    fn start(unit: &str, description: &str) -> Self {
        let child = Command::new("systemd-run")
            .args(["--scope", "--quiet", "--unit", unit, "--description", description])
            .args(["sleep", "1000"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("run systemd-run");
        let foreign = Self(child);
        while !file_of(unit).is_some_and(|procs| procs.contains(&foreign.0.id().to_string())) {}
        foreign
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        self.0.kill().expect("kill our own child");
        self.0.wait().expect("reap our own child");
    }
}

fn file_of(unit: &str) -> Option<String> {
    let group = property(unit, "ControlGroup");
    (!group.is_empty())
        .then(|| fs::read_to_string(format!("/sys/fs/cgroup{group}/cgroup.procs")).ok())
        .flatten()
}

#[test]
fn vm_a_unit_of_anothers_is_left_alone() {
    needs!(Vm);
    let bundle = sleeper("foreign");
    let container = bundle.container(&Runtime::under_test());
    let unit = scope(&container);
    let ours = format!("Cofferdam container {}", container.id());
    let told = ["is not ours", "with 1 process(es) in it"];
    for (description, told) in ["something else", &ours].into_iter().zip(told) {
        let mut foreign = Foreign::start(&unit, description);
        let output = create(&container);
        output.code(1);
        assert!(output.stderr.contains(told) && output.stderr.contains(&unit), "{output}");
        assert!(foreign.0.try_wait().expect("our own child").is_none(), "it lives on");
        assert!(!bundle.state_root().join(bundle.id()).exists(), "nothing is left of ours");
        drop(foreign);
        while !property(&unit, "ActiveState").starts_with("inactive") {}
    }
    create(&container).success();
    call(&container, &["delete", "--force", "ID"]).success();
    no_unit_of(bundle.id());
}

/// A unit of ours that failed and stayed.
#[test]
fn vm_a_failed_unit_makes_room() {
    needs!(Vm);
    let bundle = sleeper("failed");
    let container = bundle.container(&Runtime::under_test());
    let unit = scope(&container);
    let ours = format!("Cofferdam container {}", container.id());
    let words = [
        "--scope",
        "--unit",
        &unit,
        "--description",
        &ours,
        "--property",
        "RuntimeMaxSec=1",
        "sleep",
        "1000",
    ];
    let ended = Command::new("systemd-run").args(words).output().expect("run systemd-run");
    assert!(!ended.status.success(), "systemd ends it");
    while property(&unit, "ActiveState") != "failed" {}
    create(&container).success();
    assert_eq!(property(&unit, "ActiveState"), "active");
    call(&container, &["delete", "--force", "ID"]).success();
    no_unit_of(bundle.id());
}

/// Killed as it returns from any of its system calls, `create` leaves nothing that `delete --force` does not find.
#[test]
fn vm_a_killed_create_leaves_nothing() {
    needs!(Vm);
    let bundle = sleeper("killed");
    let container = bundle.container(&Runtime::under_test());
    let mut points = 0;
    // In the virtual machine each point costs a second: a step that shares no factor with the lengths of loops.
    for count in (1..).step_by(11) {
        let fate = kill_after(managed(&container, &["create", "--bundle", "BUNDLE", "ID"]), count);
        points += 1;
        call(&container, &["delete", "--force", "ID"]).success();
        // A placeholder that outlived its parent for a moment is on its way out.
        let mut looks = 0;
        while looks < 100 && property(&scope(&container), "ActiveState") == "active" {
            looks += 1;
        }
        no_unit_of(bundle.id());
        bundle.assert_nothing_left();
        if let Fate::Ended { code, .. } = fate {
            assert_eq!(code, 0);
            break;
        }
    }
    figure(&format!("systemd: create was killed at {points} points"));
    assert!(points > 10, "a tracer that lost its tracee would find nothing");
}

#[test]
fn vm_twenty_at_once() {
    needs!(Vm);
    let bundle = sleeper("many");
    let runtime = Runtime::under_test();
    let containers: Vec<_> = (0..20).map(|_| bundle.another(&runtime)).collect();
    let make: Vec<_> = containers
        .iter()
        .map(|container| managed(container, &["run", "--detach", "--bundle", "BUNDLE", "ID"]).spawn())
        .collect();
    for made in make {
        made.wait().success();
    }
    for container in &containers {
        assert_eq!(container.status().as_deref(), Some("running"));
        assert!(groups(container.pid().expect("it lives")).ends_with(&scope(container)));
    }
    let end: Vec<_> = containers
        .iter()
        .map(|container| container.command(&["delete", "--force", "ID"]).within(LONG).spawn())
        .collect();
    for ended in end {
        ended.wait().success();
    }
    no_unit_of(bundle.id());
}

fn as_user(more: &[&str]) -> Vec<String> {
    AS_GUEST_USER.iter().chain(more).map(|&word| word.to_owned()).collect()
}

/// A bundle that the user can run.
fn users(name: &str) -> Bundle {
    let bundle = sleeper(name).namespace("user").namespace("cgroup").given_to(GUEST_USER).edit(|config| {
        let linux = &mut config["linux"];
        linux["namespaces"].as_array_mut().expect("a list").retain(|one| one["type"] != "network");
        let map = json!([{"containerID": 0, "hostID": GUEST_USER, "size": 1}]);
        (linux["uidMappings"], linux["gidMappings"]) = (map.clone(), map);
        linux["resources"] = json!({"memory": {"limit": 64 << 20}, "pids": {"limit": 40}});
        for mount in config["mounts"].as_array_mut().expect("a list") {
            if let Some(options) = mount["options"].as_array_mut() {
                options.retain(|option| !option.as_str().is_some_and(|option| option.starts_with("gid=")));
            }
        }
    });
    fs::create_dir(bundle.state_root()).expect("make a directory");
    chown(bundle.state_root(), Some(GUEST_USER), Some(GUEST_USER)).expect("give it away");
    bundle
}

/// From elsewhere in the tree the user's manager moves whom it may not be born there; from a unit of that manager there is
/// a way.
#[test]
fn vm_a_users_manager_makes_a_scope() {
    needs!(Vm);
    for (name, from) in [("away", &[][..]), ("home", &["systemd-run", "--user", "--scope", "--quiet"])] {
        let bundle = users(name);
        let container = bundle.container(&Runtime::under_test());
        let user = as_user(from);
        let run = |words: &[&str]| container.command(words).launched_by(&user).within(LONG).run();
        managed(&container, &["create", "--bundle", "BUNDLE", "ID"]).launched_by(&user).run().success();
        let pid = container.pid().expect("it lives");
        let path = format!("/user.slice/user-1000.slice/user@1000.service/user.slice/{}", scope(&container));
        assert_eq!(groups(pid), format!("0::{path}"), "{name}");
        let shown = |file: &str| {
            let text = fs::read_to_string(format!("/sys/fs/cgroup{path}/{file}"));
            text.expect("a file of the group").trim().to_owned()
        };
        assert_eq!((shown("memory.max").as_str(), shown("pids.max").as_str()), ("67108864", "40"));
        run(&["start", "ID"]).success();
        let seen = run(&["exec", "ID", "/bin/cat", "/proc/self/cgroup"]);
        assert_eq!(seen.success().stdout, "0::/\n", "{name}");
        run(&["update", "--memory", "128m", "ID"]).success();
        assert_eq!(shown("memory.max"), "134217728");
        run(&["pause", "ID"]).success();
        run(&["resume", "ID"]).success();
        run(&["delete", "--force", "ID"]).success();
        assert!(!Path::new(&format!("/sys/fs/cgroup{path}")).exists(), "{name}");
    }
}

/// In a unit that the user's manager hands over, our own hands make the groups, beside the process that does it.
#[test]
fn vm_a_user_makes_groups_in_what_was_handed_over() {
    needs!(Vm);
    let bundle = users("handed");
    let container = bundle.container(&Runtime::under_test());
    let unit = format!("{}-handed", bundle.id());
    // The first process goes below, as whoever is handed a unit does: a group with processes hands no controllers on.
    let line = "top=/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup); mkdir $top/own; echo $$ > $top/own/cgroup.procs; \
                echo ready; while read -r line; do eval \"$line\"; echo \"ended $?\"; done";
    let words =
        ["systemd-run", "--user", "--scope", "--quiet", "--property", "Delegate=yes", "--unit", &unit];
    let shell = as_user(&[&words[..], &["sh", "-c", line]].concat());
    let mut host = Shell::start(&shell);
    let program = Runtime::under_test().program().display().to_string();
    let root = bundle.state_root().display().to_string();
    let mut call = |words: &str| host.call(&format!("{program} --root {root} {words} < /dev/null"));
    let id = container.id();
    call(&format!("run --detach --bundle {} {id}", bundle.dir().display()));
    let pid = container.pid().expect("it lives");
    let group = groups(pid);
    let path = group.strip_prefix("0::").expect("the unified tree").to_owned();
    assert!(path.ends_with(&format!("/{unit}.scope/{id}")), "{path}");
    let shown = |file: &str| {
        let text = fs::read_to_string(format!("/sys/fs/cgroup{path}/{file}"));
        text.expect("a file of the group").trim().to_owned()
    };
    assert_eq!((shown("memory.max").as_str(), shown("pids.max").as_str()), ("67108864", "40"));
    call(&format!("update --memory 128m --pids-limit 50 {id}"));
    assert_eq!((shown("memory.max").as_str(), shown("pids.max").as_str()), ("134217728", "50"));
    call(&format!("exec {id} /bin/true"));
    call(&format!("pause {id}"));
    assert_eq!(shown("cgroup.events"), "populated 1\nfrozen 1");
    call(&format!("resume {id}"));
    call(&format!("events --stats {id}"));
    call(&format!("delete --force {id}"));
    assert!(!Path::new(&format!("/sys/fs/cgroup{path}")).exists());
}

/// A shell that does what it is sent, line by line.
struct Shell {
    child: Child,
    told: BufReader<ChildStdout>,
}

impl Shell {
    fn start(words: &[String]) -> Self {
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("run a shell");
        let told = BufReader::new(child.stdout.take().expect("its output"));
        let mut shell = Self { child, told };
        assert_eq!(shell.line(), "ready\n");
        shell
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.told.read_line(&mut line).expect("a line");
        line
    }

    /// Fails if the command does.
    #[track_caller]
    fn call(&mut self, command: &str) {
        let stdin = self.child.stdin.as_mut().expect("its input");
        writeln!(stdin, "{command} > /dev/null").expect("write to a shell");
        assert_eq!(self.line(), "ended 0\n", "{command}");
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().expect("reap our own child");
    }
}

#[test]
fn vm_a_user_hears_which_controller_he_lacks() {
    needs!(Vm);
    let bundle = users("lacks").edit(|config| config["linux"]["resources"]["cpu"] = json!({"cpus": "0"}));
    let container = bundle.container(&Runtime::under_test());
    let output =
        managed(&container, &["create", "--bundle", "BUNDLE", "ID"]).launched_by(&as_user(&[])).run();
    output.code(1);
    let told =
        "config.json: linux.resources.cpu.cpus: the user's systemd was not given the cpuset controller, but ";
    assert!(output.stderr.contains(told), "{output}");
}
