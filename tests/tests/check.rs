//! What `check` says of this machine, and whether it is so: it says that containers run exactly where one runs.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tests::{Bundle, Output, Runtime, needs};

const DENY: &str = env!("CARGO_BIN_EXE_deny");

fn line<'a>(report: &'a Value, name: &str) -> &'a Value {
    let lines = report["lines"].as_array().expect("a report has lines");
    lines.iter().find(|line| line["name"] == name).unwrap_or_else(|| panic!("{name}: not told\n{report:#}"))
}

fn report(output: &Output) -> Value {
    let report: Value = serde_json::from_str(&output.stdout).expect("check prints JSON");
    assert_eq!(report["runs"], output.code == 0, "{output}");
    report
}

#[test]
fn root_containers_run_here_and_check_says_so() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("check");
    let container = bundle.container(&Runtime::under_test());
    container.run().success();
    let output = container.call(&["check", "--format", "json"]);
    output.success();
    let report = report(&output);
    assert_eq!(line(&report, "user")["grade"], "ok");
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("read the release");
    let told = line(&report, "version")["told"].as_str().expect("told is text");
    assert!(told.starts_with(release.trim()), "{told}");
    // For people the same lines, and the sum.
    let text = container.call(&["check"]);
    text.success();
    let count = report["lines"].as_array().expect("lines").len();
    assert_eq!(text.stdout.lines().filter(|line| line.starts_with("  ")).count(), count, "{text}");
    assert!(text.stdout.contains("\nContainers can run here"), "{text}");
    assert!(text.stderr.is_empty(), "{text}");
}

/// Whether root may make groups below its own without power over modes: not at the top of a hierarchy.
fn own_groups_are_open() -> bool {
    let groups = fs::read_to_string("/proc/self/cgroup").expect("read our groups");
    let is_v2 = Path::new("/sys/fs/cgroup/cgroup.procs").exists();
    groups.lines().all(|line| {
        let mut words = line.splitn(3, ':').skip(1);
        let (names, own) = (words.next().expect("names"), words.next().expect("a path"));
        let mount = match names.strip_prefix("name=").unwrap_or(names) {
            "" if is_v2 => "",
            "" => "unified",
            names => names,
        };
        let group = fs::metadata(format!("/sys/fs/cgroup/{mount}{own}")).expect("our group");
        group.permissions().mode() & 0o200 != 0
    })
}

/// Each capability that `check` calls needed is, and one that it calls lost is not.
#[test]
fn root_without_what_is_needed_check_says_so_and_run_fails() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("lacking");
    for (lacking, runs) in [
        ("dac_override", own_groups_are_open()),
        ("net_admin", false),
        ("setgid", false),
        ("setpcap", false),
        ("sys_admin", false),
        ("sys_ptrace", true),
    ] {
        let container = bundle.another(&Runtime::under_test());
        let [bounding, inheritable] = ["bounding-set", "inh-caps"].map(|set| format!("--{set}=-{lacking}"));
        let launcher = ["setpriv", &bounding, &inheritable];
        let told = container.command(&["check", "--format=json"]).launched_by(&launcher).run();
        let report = report(&told);
        let name = format!("CAP_{}", lacking.to_uppercase());
        let line = line(&report, "capabilities");
        assert!(line["told"].as_str().is_some_and(|told| told.contains(&name)), "{line}");
        assert_eq!((told.code == 0, line["grade"] == "degraded"), (runs, runs), "{lacking}: {told}");
        let run = container.command(&["run", "--bundle", "BUNDLE", "ID"]).launched_by(&launcher).run();
        assert_eq!(run.code == 0, runs, "{lacking}: {run}");
    }
}

/// Whatever stands between us and the kernel: where `check` says that containers run, one does, and nowhere else.
#[test]
fn root_check_agrees_with_run_in_every_sandbox() {
    needs!(Root, Busybox);
    // Root of a user namespace has no group 5 there.
    let bundle = Bundle::new("sandbox").edit(|config| {
        for options in config["mounts"].as_array_mut().into_iter().flatten().map(|one| &mut one["options"]) {
            let named = |option: &Value| option.as_str().is_some_and(|option| option.starts_with("gid="));
            options.as_array_mut().into_iter().for_each(|options| options.retain(|one| !named(one)));
        }
    });
    for (launcher, name, grade, runs) in [
        (&[DENY, "EPERM", "clone3", "--"][..], "clone3", "missing", false),
        (&[DENY, "ENOSYS", "clone3", "--"], "clone3", "missing", false),
        (&[DENY, "EPERM", "openat2", "--"], "openat2", "degraded", true),
        (&[DENY, "ENOSYS", "openat2", "--"], "openat2", "degraded", true),
        (&[DENY, "ENOSYS", "close_range", "--"], "close_range", "degraded", true),
        (&[DENY, "EPERM", "open_tree,fsopen", "--"], "open_tree, fsopen", "degraded", true),
        (&[DENY, "ENOSYS", "mount_setattr", "--"], "mount_setattr", "degraded", true),
        (&[DENY, "ENOSYS", "pidfd_open", "--"], "pidfd_open", "missing", false),
        (&[DENY, "EPERM", "keyctl", "--"], "session keyrings", "missing", false),
        (&["unshare", "--user", "--map-root-user"], "user", "degraded", true),
    ] {
        let container = bundle.another(&Runtime::under_test());
        let told = container.command(&["check", "--format=json"]).launched_by(launcher).run();
        assert_eq!(line(&report(&told), name)["grade"], grade, "{launcher:?}: {told}");
        assert_eq!(told.code == 0, runs, "{launcher:?}: {told}");
        let run = container.command(&["run", "--bundle", "BUNDLE", "ID"]).launched_by(launcher).run();
        assert_eq!(run.code == 0, runs, "{launcher:?}: {run}");
    }
}

#[test]
fn root_an_ordinary_user_is_told_what_he_lacks() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("user");
    // Where the runtime was built he may not be able to go. By cp(1), for what we open to write, a child that another
    // test forks just then has open too, and it could not be executed.
    let program = bundle.dir().join("cofferdam");
    let copied = Command::new("cp").arg(Runtime::under_test().program()).arg(&program).status();
    assert!(copied.is_ok_and(|copied| copied.success()), "copy the runtime");
    let container = bundle.container(&Runtime::at(&program));
    let launcher = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let told = container.command(&["check", "-f", "json"]).launched_by(&launcher).run();
    let report = report(&told);
    assert!(line(&report, "user")["told"].as_str().is_some_and(|told| told.starts_with("65534")), "{told}");
    assert_eq!(line(&report, "/etc/subuid")["grade"], "degraded", "{told}");
    assert_eq!(line(&report, "delegation")["grade"], "degraded", "{told}");
    assert!(told.stderr.is_empty(), "{told}");
    // He has rights to all that is asked of the kernel, so the answers are root's.
    let own = report_of_root(&bundle);
    for name in ["clone3", "openat2", "mount_setattr", "open_tree, fsopen", "pidfd_open"] {
        assert_eq!(line(&report, name), line(&own, name), "{name}");
    }
}

fn report_of_root(bundle: &Bundle) -> Value {
    report(&bundle.container(&Runtime::under_test()).call(&["check", "--format", "json"]))
}
