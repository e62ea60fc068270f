//! Second ways: each system call that an old kernel lacks, or a sandbox denies, is denied, and the container must be
//! the same one, or be refused with one clear error.
//!
//! The filter is inherited by the container, which minds none of these calls. `CLONE_INTO_CGROUP` is a flag of clone3(2)
//! behind a pointer, where no filter sees it: its second way is walked in `exec_cgroup.rs`.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;

use serde_json::{Value, json};
use tests::{Bundle, Output, Runtime, needs};

const DENY: &str = env!("CARGO_BIN_EXE_deny");

/// All of the calls that mount by handle.
const MOUNTS: &str = "fsopen,fsmount,open_tree,move_mount,mount_setattr";

/// A container with one of everything that a root file system can be asked for, and a program that tells what it sees.
fn bundle() -> Bundle {
    let bundle = Bundle::new("second").edit(|config| {
        config["root"]["readonly"] = json!(true);
        config["process"]["oomScoreAdj"] = json!(77);
        config["linux"]["sysctl"] = json!({"kernel.domainname": "tuned"});
        for path in ["/hidden/directory", "/hidden/file", "/link/file"] {
            config["linux"]["maskedPaths"].as_array_mut().expect("the default has masks").push(json!(path));
        }
        config["linux"]["readonlyPaths"].as_array_mut().expect("the default has some").push(json!("/writable/part"));
        config["linux"]["devices"] = json!([
            {"path": "/dev/nodes/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 7, "gid": 8},
        ]);
    });
    let root = bundle.rootfs();
    fs::create_dir_all(root.join("hidden/directory")).expect("make a directory");
    fs::write(root.join("hidden/directory/inside"), "hidden").expect("write a file");
    fs::write(root.join("hidden/file"), "hidden").expect("write a file");
    fs::create_dir(root.join("writable")).expect("make a directory");
    std::os::unix::fs::symlink("/hidden", root.join("link")).expect("make a link");
    let host = bundle.dir().join("host");
    fs::create_dir_all(host.join("part")).expect("make a volume");
    fs::write(host.join("file"), "the host's").expect("write a file");
    let volume = host.to_str().expect("ASCII").to_owned();
    let file = format!("{volume}/file");
    let bundle = bundle
        .mount("/writable", "bind", &volume, &["rbind", "rw", "nosuid", "noatime"])
        .mount("/var", "bind", &volume, &["bind", "ro", "nodev", "noexec", "rprivate"])
        .mount("/new/file", "bind", &file, &["bind", "ro"])
        .mount("/tmp", "tmpfs", "tmpfs", &["ro", "nosuid", "size=64k", "mode=1777"])
        .mount("/run", "tmpfs", "tmpfs", &["noexec", "strictatime", "rslave"])
        .mount("/run/below", "tmpfs", "tmpfs", &["nosuid", "nodev", "relatime"]);
    fs::create_dir(bundle.rootfs().join("new")).expect("make a directory");
    bundle.shell(
        "cat /proc/self/mountinfo; ls -ln /dev /dev/nodes; ls -lnd /tmp /run /run/below; \
         cat /proc/sys/kernel/domainname /proc/self/oom_score_adj /proc/keys /hidden/* /new/file; ls -A /hidden/*; \
         for place in / /tmp /run /run/below /dev /dev/shm /var /writable /writable/part /proc/sys/kernel; do \
         if echo > $place/try; then echo can write $place; rm $place/try; else echo cannot write $place; fi; done; \
         if echo > /new/file; then echo can write the file; fi; echo > /hidden/file; cat /hidden/file; \
         ls /proc/self/fd | wc -l; echo done",
    )
}

/// What the container told, without the numbers that differ from one to the next.
fn told(run: &Output, id: &str) -> String {
    let line = |line: &str| match line.split_once(" - ") {
        // Mount id, parent id, device: everything else must be the same, down to the options.
        Some((mount, kind)) if line.contains(" / ") || line.contains(" /") => {
            let mount = mount.splitn(4, ' ').nth(3).unwrap_or(mount);
            format!("{mount} - {kind}")
        }
        _ => line.to_owned(),
    };
    let lines: Vec<_> = run.stdout.lines().map(|text| line(text).replace(id, "ID")).collect();
    let times = |line: &str| {
        // ls prints the minute: all else of the line stays.
        let words: Vec<_> = line.split_whitespace().collect();
        if line.starts_with(['c', 'd', 'l', 'p', '-']) && words.len() > 8 {
            // A device has two numbers where a file has its size.
            let date = if words[4].ends_with(',') { 6 } else { 5 };
            words[..date].iter().chain(&words[date + 3..]).copied().collect::<Vec<_>>().join(" ")
        } else {
            line.to_owned()
        }
    };
    lines.iter().map(|line| times(line)).collect::<Vec<_>>().join("\n")
}

fn run_denied(bundle: &Bundle, errno: &str, calls: &str) -> (Output, String) {
    let container = bundle.another(&Runtime::under_test());
    let command = container.command(&["run", "--bundle", "BUNDLE", "ID"]);
    let run = if calls.is_empty() { command } else { command.launched_by(&[DENY, errno, calls, "--"]) }.run();
    let told = told(&run, container.id());
    (run, told)
}

#[test]
fn root_a_second_way_leads_to_the_same_container() {
    needs!(Root, Busybox);
    let bundle = bundle();
    let (plain, expected) = run_denied(&bundle, "", "");
    plain.success();
    assert!(expected.ends_with("\ndone"), "{plain}");
    for told in
        ["cannot write /\n", "can write /run/below", "cannot write /writable/part", "cannot write /tmp"]
    {
        assert!(expected.contains(told), "{told:?} is not in {expected}");
    }
    let calls = [
        "fsopen",
        "fsmount",
        "fsopen,fsmount",
        "open_tree",
        "move_mount",
        "mount_setattr",
        MOUNTS,
        "openat2",
        "close_range",
        "faccessat2",
        "memfd_create",
        "pidfd_send_signal",
    ];
    let everything = format!("{MOUNTS},openat2,close_range,faccessat2");
    for errno in ["ENOSYS", "EPERM"] {
        for calls in calls.iter().chain([&everything.as_str()]) {
            let (run, told) = run_denied(&bundle, errno, calls);
            assert_eq!(run.code, 0, "{errno} for {calls}: {run}");
            assert_eq!(told, expected, "{errno} for {calls}");
        }
    }
    let (run, told) = run_denied(&bundle, "ENOSYS", "keyctl");
    run.success();
    assert_eq!(told, expected, "a kernel without keys");
}

#[test]
fn root_what_has_no_second_way_is_refused_with_one_error() {
    needs!(Root, Busybox);
    let bundle = bundle();
    for errno in ["ENOSYS", "EPERM"] {
        for (calls, named) in [
            ("clone3", "clone3("),
            ("sched_setaffinity", "sched_setaffinity("),
            // No read-only view, and no sealed copy either: nothing of ours may run inside from a file it could write.
            ("open_tree,memfd_create", "memfd_create("),
        ] {
            let (run, _) = run_denied(&bundle, errno, calls);
            assert_eq!(run.code, 1, "{errno} for {calls}: {run}");
            assert_eq!(run.stderr.lines().count(), 1, "{errno} for {calls}: one clear error: {run}");
            assert!(run.stderr.contains(named), "{errno} for {calls}: {run}");
            assert_eq!(run.stdout, "", "{errno} for {calls}: the program ran");
            bundle.assert_nothing_left();
        }
    }
}

#[test]
fn root_the_second_way_is_told() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("told");
    let container = bundle.container(&Runtime::under_test());
    let deny = [DENY, "ENOSYS", MOUNTS, "--"];
    let create = container.command(&["create", "--bundle", "BUNDLE", "ID"]).launched_by(&deny).run();
    create.success();
    let state = container.call(&["state", "ID"]);
    let state: Value = serde_json::from_str(&state.success().stdout).expect("JSON");
    let told = state["annotations"]["io.cofferdam.warnings"].as_str().unwrap_or_default();
    assert!(told.contains("mount(2)"), "{state}");
    // The sealed copy of our own executable: nothing on the host's disk is open for those inside.
    let exe = fs::read_link(format!("/proc/{}/exe", container.pid().expect("it was created")));
    let exe = exe.expect("read the link to the executable");
    assert!(exe.to_string_lossy().contains("memfd:"), "{}", exe.display());
    container.start().success();
    assert!(container.ended());
}

#[test]
fn root_devices_are_bound_where_they_cannot_be_made() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("nodes").shell(
        "head -c 3 /dev/zero | wc -c; echo into >/dev/null; cat /dev/null; echo full >/dev/full; \
         for name in null zero full random urandom tty; do stat -c '%n %t:%T' /dev/$name; done",
    );
    for calls in ["mknodat", &format!("mknodat,{MOUNTS}")] {
        let (run, told) = run_denied(&bundle, "EPERM", calls);
        run.success();
        let expected =
            "3\n/dev/null 1:3\n/dev/zero 1:5\n/dev/full 1:7\n/dev/random 1:8\n/dev/urandom 1:9\n/dev/tty 5:0";
        assert_eq!(told, expected, "{calls}: {run}");
    }
}

#[test]
fn root_a_covered_part_of_proc_is_seen_by_hand_too() {
    needs!(Root, Busybox);
    let bundle = bundle();
    // One file of the same procfs over another: device and type are the same, the mount alone is not.
    let script = r#"mount --bind /proc/sys/kernel/hostname /proc/sys/kernel/domainname && exec "$@""#;
    for calls in ["openat2", "openat2,statx"] {
        let launcher = ["unshare", "--mount", "--uts", "sh", "-c", script, "sh", DENY, "ENOSYS", calls, "--"];
        let container = bundle.another(&Runtime::under_test());
        let run = container.command(&["run", "--bundle", "BUNDLE", "ID"]).launched_by(&launcher).run();
        run.code(1);
        assert!(
            run.stderr.contains("kernel/domainname") && run.stderr.contains("os error 18"),
            "{calls}: {run}"
        );
    }
}

/// One process in a container, with these calls denied; what it told, and how it ended.
fn exec_denied(container: &tests::Container<'_>, errno: &str, calls: &str) -> Output {
    let line = "for kind in /proc/self/ns/*; do readlink $kind; done; cat /proc/self/cgroup /proc/self/oom_score_adj; ls /proc/self/fd | wc -l; \
                grep -E '^(Cap|NoNew|Uid|Groups)' /proc/self/status; pwd; id -u; hostname; echo done";
    let command = container.command(&["exec", "--user", "5:6", "--cwd", "/tmp", "ID", "/bin/sh", "-c", line]);
    if calls.is_empty() { command } else { command.launched_by(&[DENY, errno, calls, "--"]) }.run()
}

#[test]
fn root_a_second_way_leads_into_the_same_container() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("into")
        .namespace("cgroup")
        .shell("exec sleep 1000")
        .edit(|config| config["process"]["oomScoreAdj"] = json!(77));
    let container = bundle.container(&Runtime::under_test());
    container.create().success();
    container.start().success();
    let alive = tests::Snapshot::take(&bundle);
    let expected = exec_denied(&container, "", "").success().stdout.clone();
    assert!(expected.ends_with("\ndone\n"), "{expected}");
    let init = container.pid().expect("init lives");
    for kind in ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"] {
        let of = fs::read_link(format!("/proc/{init}/ns/{kind}")).expect("a namespace");
        assert!(expected.contains(&*of.to_string_lossy()), "{kind} is init's: {expected}");
    }
    for (errno, calls) in [
        ("EINVAL", "setns-many"),
        ("ENOSYS", "setns-many"),
        ("ENOSYS", "setns-many,openat2,close_range,faccessat2,open_tree,mount_setattr,keyctl"),
        ("EPERM", "openat2,close_range,faccessat2,open_tree,mount_setattr"),
        ("ENOSYS", "keyctl"),
    ] {
        let exec = exec_denied(&container, errno, calls);
        exec.success();
        assert_eq!(exec.stdout, expected, "{errno} for {calls}");
    }
    for (errno, calls, named) in [
        ("EPERM", "setns-many", "setns(pidfd"),
        ("EPERM", "setns", "setns("),
        ("ENOSYS", "setns", "setns("),
        ("ENOSYS", "clone3", "clone3("),
        ("EPERM", "sched_setaffinity", "sched_setaffinity("),
        ("ENOSYS", "pidfd_open", "pidfd_open("),
        ("EPERM", "open_tree,memfd_create", "memfd_create("),
    ] {
        let exec = exec_denied(&container, errno, calls);
        exec.code(255);
        assert_eq!(
            (exec.stdout.as_str(), exec.stderr.lines().count()),
            ("", 1),
            "{errno} for {calls}: {exec}"
        );
        assert!(exec.stderr.contains(named), "{errno} for {calls}: {exec}");
        alive.assert_same();
    }
}
