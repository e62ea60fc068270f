//! `sweep`: groups whose record is lost are found by their mark and removed; those of others, and those that somebody lives
//! in, stay.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::json;
use tests::trace::{Fate, kill_after};
use tests::{
    Bundle, Container, Delegated, Groups, Home, LIMIT, Runtime, Snapshot, figure, gone_within, needs,
};

fn sleeper(name: &str) -> Bundle {
    Bundle::new(name).shell("exec sleep 1000")
}

fn running(bundle: &Bundle) -> Container<'_> {
    let container = bundle.container(&Runtime::under_test());
    container.create().success();
    container.start().success();
    container
}

/// All that is known of its containers, as an administrator removes it who believes that nothing is there.
fn wipe(bundle: &Bundle) {
    fs::remove_dir_all(bundle.state_root()).expect("remove the state root");
}

/// What a sweep says that works.
fn swept(container: &Container<'_>, words: &[&str]) -> String {
    let output = container.call(&[&["sweep"], words].concat());
    output.success();
    output.stdout.clone()
}

fn kill(pid: i32) {
    let process = Pid::from_raw(pid).expect("a pid");
    if let Ok(pidfd) = pidfd_open(process, PidfdFlags::empty()) {
        // Gone is as good.
        let _is_gone = pidfd_send_signal(pidfd, Signal::KILL);
    }
    assert!(gone_within(pid, LIMIT), "{pid} was killed and lives on");
}

/// Where a process is, in every hierarchy.
fn directories(groups: &Groups) -> Vec<PathBuf> {
    let mut names = vec!["cpu", "memory", "pids", "freezer", "devices", "cpuset", "blkio", ""];
    names.retain(|name| name.is_empty() || !Groups::unified_only());
    let mut found: Vec<_> = names.into_iter().filter_map(|name| groups.directory(name)).collect();
    found.retain(|directory| directory.exists());
    assert!(!found.is_empty());
    found
}

#[test]
fn root_groups_without_a_record_are_swept() {
    needs!(Root, Busybox, Groups);
    let bundle = sleeper("sweep").edit(|config| {
        config["linux"]["resources"]["memory"] = json!({"limit": 64 << 20});
    });
    let before = Snapshot::take(&bundle);
    let container = running(&bundle);
    let pid = container.pid().expect("it lives");
    let directories = directories(&Groups::of(pid));
    wipe(&bundle);
    kill(pid);
    let told = swept(&container, &["--dry-run"]);
    assert!(told.starts_with(&format!("would remove {}: /sys/fs/cgroup/", bundle.id())), "{told}");
    for directory in &directories {
        assert!(told.contains(&directory.display().to_string()), "{told}: {}", directory.display());
    }
    assert!(directories.iter().all(|directory| directory.exists()), "nothing was done");
    let told = swept(&container, &[]);
    assert!(told.starts_with(&format!("removed {}: /sys/fs/cgroup/", bundle.id())), "{told}");
    assert_eq!(swept(&container, &[]), "", "nothing is left");
    before.assert_same();
}

/// The directories above that were made for it go too.
#[test]
fn root_what_was_made_above_is_swept_too() {
    needs!(Root, Busybox, Groups);
    let bundle = sleeper("sweep-deep");
    let path = format!("/{}-above/middle/{}", bundle.id(), bundle.id());
    let bundle = bundle.edit(|config| config["linux"]["cgroupsPath"] = json!(path));
    let before = Snapshot::take(&bundle);
    let container = running(&bundle);
    let pid = container.pid().expect("it lives");
    wipe(&bundle);
    kill(pid);
    swept(&container, &[]);
    before.assert_same();
}

#[test]
fn root_a_sweep_leaves_who_lives() {
    needs!(Root, Busybox, Groups);
    let bundle = sleeper("sweep-living");
    let before = Snapshot::take(&bundle);
    let container = running(&bundle);
    let pid = container.pid().expect("it lives");
    wipe(&bundle);
    for words in [&["--dry-run"][..], &[]] {
        let told = swept(&container, words);
        assert_eq!(told, format!("left {}: process {pid} is in its groups\n", bundle.id()));
    }
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    // The id is free all the same, and whoever takes it is told about the groups.
    let output = container.create();
    output.code(1);
    assert!(output.stderr.contains("container's cgroup is not empty"), "{output}");
    kill(pid);
    assert!(swept(&container, &[]).starts_with("removed "));
    before.assert_same();
}

#[test]
fn root_a_sweep_touches_nothing_of_others() {
    needs!(Root, Busybox, Groups);
    let (bundle, other) = (sleeper("sweep-mine"), sleeper("sweep-other"));
    let before = [Snapshot::take(&bundle), Snapshot::take(&other)];
    let container = running(&bundle);
    let stopped = running(&other);
    let pid = stopped.pid().expect("it lives");
    // Beside ours, of the same names but for an end; and one below, made by somebody in the container.
    let foreign: Vec<PathBuf> = directories(&Groups::of(pid))
        .iter()
        .map(|directory| PathBuf::from(format!("{}-foreign", directory.display())))
        .collect();
    for directory in &foreign {
        fs::create_dir(directory).expect("make a group");
    }
    // Two that have a record, one of which is no more.
    stopped.kill("KILL").success();
    assert!(stopped.ended());
    for one in [&container, &stopped] {
        assert_eq!(swept(one, &[]), "");
    }
    assert_eq!(
        (container.status().as_deref(), stopped.status().as_deref()),
        (Some("running"), Some("stopped"))
    );
    // One without, of another root.
    wipe(&other);
    assert_eq!(swept(&container, &[]), "");
    let told = swept(&stopped, &[]);
    assert!(told.starts_with(&format!("removed {}: ", other.id())) && !told.contains("foreign"), "{told}");
    for directory in &foreign {
        fs::remove_dir(directory).expect("it is there");
    }
    container.delete_force().success();
    before.iter().for_each(Snapshot::assert_same);
}

/// The same path of a state root on another file system, as a container has it, is another root.
#[test]
fn root_the_same_path_elsewhere_is_another_root() {
    needs!(Root, Busybox, Groups);
    let bundle = sleeper("sweep-elsewhere");
    let before = Snapshot::take(&bundle);
    let container = running(&bundle);
    let pid = container.pid().expect("it lives");
    wipe(&bundle);
    kill(pid);
    let root = bundle.state_root();
    let elsewhere = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        r#"mkdir "$0" && mount -t tmpfs elsewhere "$0" && exec "$@""#,
        root.to_str().expect("a path"),
    ];
    let output = container.command(&["sweep"]).launched_by(&elsewhere).run();
    assert_eq!(output.success().stdout, "");
    assert!(swept(&container, &[]).starts_with("removed "));
    before.assert_same();
}

/// A group that was there before us bears no mark, and stays.
#[test]
fn root_a_group_that_was_there_is_not_swept() {
    needs!(Root, Busybox, Groups);
    let bundle = sleeper("sweep-given");
    let path = format!("{}-given", bundle.id());
    let bundle = bundle.edit(|config| config["linux"]["cgroupsPath"] = json!(format!("/{path}")));
    let mount = if Groups::unified_only() { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/memory" };
    let given = Path::new(mount).join(&path);
    fs::create_dir(&given).expect("make a group");
    let container = running(&bundle);
    let pid = container.pid().expect("it lives");
    wipe(&bundle);
    kill(pid);
    let told = swept(&container, &[]);
    assert!(!told.contains(given.to_str().expect("a path")), "{told}");
    assert_eq!(told.is_empty(), Groups::unified_only(), "the others were ours: {told}");
    fs::remove_dir(&given).expect("it is still there");
}

/// Killed at any point, and with its record lost besides, `create` leaves nothing that a sweep does not find: but for the one
/// group that it had made and not marked yet.
#[test]
fn root_a_create_killed_at_any_point_is_swept() {
    needs!(Root, Busybox, Groups);
    let (mut swept_up, mut unmarked) = (0, 0);
    for count in (0..).step_by(if tests::patience() > 1 { 5 } else { 1 }) {
        let bundle = sleeper("sweep-killed");
        let before = Snapshot::take(&bundle);
        let container = bundle.container(&Runtime::under_test());
        let fate = kill_after(container.command(&["create", "--bundle", "BUNDLE", "ID"]), count);
        let pid = container.pid();
        // What is left of it may have ended by itself; init may wait at its gate.
        if bundle.state_root().exists() {
            wipe(&bundle);
        }
        let mut told = swept(&container, &[]);
        while let Some((_, inhabitants)) = told.split_once("left ") {
            for word in inhabitants.split([' ', ',']) {
                word.parse().into_iter().for_each(kill);
            }
            told = swept(&container, &[]);
        }
        pid.into_iter().for_each(kill);
        told.push_str(&swept(&container, &[]));
        swept_up += usize::from(told.contains("removed "));
        let left = before.changes();
        if !left.is_empty() {
            let [one] = left.as_slice() else { panic!("after {count} calls: {left:#?}") };
            let path =
                one.strip_prefix("new: cgroup ").unwrap_or_else(|| panic!("after {count} calls: {one}"));
            fs::remove_dir(path).expect("it is empty");
            unmarked += 1;
        }
        before.assert_same();
        if let Fate::Ended { .. } = fate {
            figure(&format!(
                "sweep: {count} points, groups found after {swept_up}, one unmarked after {unmarked}"
            ));
            break;
        }
    }
    assert!(swept_up > 3 && unmarked <= 1, "{swept_up} swept, {unmarked} unmarked");
}

/// The mark of somebody who may not set root's: on the unified tree, which alone has one for him. It speaks for that one directory.
#[test]
fn root_an_ordinary_user_sweeps_his_own() {
    needs!(Root, Busybox, Groups);
    let home = Home::new("sweep-user").args(&["sleep", "1000"]);
    let name = format!("{}-own", home.bundle.id());
    let delegated = Delegated::to_user(&name);
    let unified = delegated.paths.last().expect("a hierarchy").join("web");
    if !unified.with_file_name("cgroup.subtree_control").exists() {
        tests::skipped("no unified tree");
        return;
    }
    let home = home.edit(|config| config["linux"]["cgroupsPath"] = json!(format!("/{name}/web")));
    let container = home.container();
    let call = |words: &[&str]| {
        let launcher: Vec<String> = delegated.launcher().into_iter().chain(home.as_user()).collect();
        container.command(words).launched_by(&launcher).run()
    };
    call(&["run", "--detach", "--bundle", "BUNDLE", "ID"]).success();
    let pid = container.pid().expect("it runs");
    let marks = |names: &[&str]| names.iter().map(|name| mark(&unified, name)).collect::<Vec<_>>();
    assert_eq!(marks(&["trusted.cofferdam", "user.cofferdam"]), [false, true]);
    let record = home.bundle.state_root().join(home.bundle.id());
    fs::remove_dir_all(&record).expect("lose the record");
    let told = call(&["sweep"]);
    let living = format!("left {}: process {pid} is in its groups\n", home.bundle.id());
    assert_eq!(told.success().stdout, living, "{told}");
    kill(pid);
    // Root does not take a user's word.
    let told = container.call(&["sweep"]);
    assert_eq!(told.success().stdout, "", "{told}");
    let told = call(&["sweep"]);
    assert_eq!(
        told.success().stdout,
        format!("removed {}: {}\n", home.bundle.id(), unified.display()),
        "{told}"
    );
    assert!(!unified.exists());
    for path in delegated.paths.iter().map(|path| path.join("web")).filter(|path| path.exists()) {
        assert!(!Groups::unified_only(), "{}", path.display());
        fs::remove_dir(&path).expect("what the mark of one directory cannot say of the others");
    }
    drop(delegated);
}

/// Whether a directory has an extended attribute.
fn mark(directory: &Path, name: &str) -> bool {
    rustix::fs::lgetxattr(directory, name, &mut [0_u8; 4096]).is_ok()
}

/// A slice lives on without processes: the unit goes with its group.
#[test]
fn vm_a_unit_without_a_record_is_swept() {
    needs!(Vm);
    let systemctl = |words: &[&str]| {
        let output = Command::new("systemctl").args(words).output().expect("run systemctl");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let bundle = sleeper("sweep-slice");
    let slice = format!("{}.slice", bundle.id().replace('-', "_"));
    let bundle = bundle.edit(|config| config["linux"]["cgroupsPath"] = json!(format!("::{slice}")));
    let container = bundle.container(&Runtime::under_test());
    let long = LIMIT * 5;
    container
        .command(&["create", "--bundle", "BUNDLE", "ID"])
        .global("--systemd-cgroup")
        .within(long)
        .run()
        .success();
    let pid = container.pid().expect("it lives");
    wipe(&bundle);
    let told = container.command(&["sweep"]).within(long).run();
    assert!(told.success().stdout.contains(&format!("process {pid} is in its groups")), "{told}");
    kill(pid);
    assert_eq!(systemctl(&["is-active", &slice]), "active");
    let told = container.command(&["sweep"]).within(long).run();
    assert_eq!(told.success().stdout, format!("removed {}: /sys/fs/cgroup/{slice}\n", bundle.id()));
    assert_eq!(systemctl(&["is-active", &slice]), "inactive");
}
