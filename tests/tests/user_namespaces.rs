//! User namespaces: whose the container's ids are outside, and what is done for somebody who has no rights there.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use serde_json::{Value, json};
use tests::{Bundle, Runtime, needs};

/// What docker, with its user namespaces switched on, maps.
const FIRST: u32 = 100_000;
const SIZE: u32 = 65_536;

fn map(config: &mut Value) {
    let map = json!([{"containerID": 0, "hostID": FIRST, "size": SIZE}]);
    config["linux"]["uidMappings"] = map.clone();
    config["linux"]["gidMappings"] = map;
}

/// A bundle with a user namespace, and a root file system that belongs to its root.
fn mapped(name: &str) -> Bundle {
    Bundle::new(name).namespace("user").edit(map).given_to(FIRST)
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn root_the_containers_root_is_nobody_outside() {
    needs!(Root, Busybox);
    let line = "cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups; id; stat -c %u:%g /tmp /; touch /tmp/made";
    let bundle = mapped("root").shell(line).edit(|config| config["root"]["readonly"] = json!(false));
    let output = bundle.container(&Runtime::under_test()).run();
    output.success();
    let map = format!("0 {FIRST} {SIZE}");
    let wanted = [&map, &map, "allow", "uid=0(root) gid=0(root)", "0:0", "0:0"];
    assert_eq!(lines(&output.stdout), wanted, "{output}");
    let made = fs::metadata(bundle.rootfs().join("tmp/made")).expect("it was made");
    assert_eq!((made.uid(), made.gid()), (FIRST, FIRST));
}

#[test]
fn root_the_program_is_any_mapped_user() {
    needs!(Root, Busybox);
    let user = json!({"uid": 65535, "gid": 7, "additionalGids": [0, 65535]});
    let bundle = mapped("user").shell("id -u; id -g; id -G").edit(|config| config["process"]["user"] = user);
    let container = bundle.container(&Runtime::under_test());
    let output = container.run();
    assert_eq!(lines(&output.success().stdout), ["65535", "7", "7 0 65535"], "{output}");
}

/// A root file system and a source where the container's root could never go by name.
#[test]
fn root_paths_that_the_containers_root_cannot_reach_are_bound() {
    needs!(Root, Busybox);
    let bundle = mapped("unreachable");
    let closed = bundle.dir().join("closed");
    fs::create_dir_all(closed.join("data")).expect("make a directory");
    fs::write(closed.join("data/file"), "seen").expect("write a file");
    fs::write(closed.join("alone"), "alone").expect("write a file");
    chown(&closed, Some(4711), Some(4711)).expect("give it away");
    for private in [&closed, bundle.dir()] {
        fs::set_permissions(private, fs::Permissions::from_mode(0o700)).expect("close it");
    }
    let source = |name: &str| closed.join(name).to_str().expect("ASCII").to_owned();
    let bundle = bundle
        .mount("/run", "bind", &source("data"), &["rbind", "ro"])
        .mount("/etc/group", "bind", &source("alone"), &["bind"])
        .shell("cat /run/file /etc/group; touch /run/x 2>&1 | grep -o Read-only; ls /dev | grep -v core; echo gone >/dev/null; head -c 3 /dev/zero | wc -c");
    let output = bundle.container(&Runtime::under_test()).run();
    let wanted =
        "seenaloneRead-only fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero 3";
    assert_eq!(lines(&output.success().stdout).join(" "), wanted, "{output}");
}

/// What the host protects stays protected from whoever rules the user namespace: no tree is handed over that was
/// copied where its flags are free.
#[test]
fn root_what_the_host_has_read_only_stays_so() {
    needs!(Root, Busybox);
    let bundle = mapped("locked");
    let source = bundle.dir().join("protected");
    fs::create_dir_all(source.join("hidden")).expect("make a directory");
    fs::write(source.join("hidden/secret"), "secret").expect("write a file");
    for part in [&source, &source.join("hidden")] {
        chown(part, Some(FIRST), Some(FIRST)).expect("give it away");
    }
    let path = source.to_str().expect("ASCII").to_owned();
    let bundle = bundle
        .mount("/run", "bind", &path, &["rbind"])
        .edit(|config| {
            for set in ["bounding", "effective", "permitted"] {
                config["process"]["capabilities"][set] = json!(spec::CAPABILITIES);
            }
        })
        .shell("mount -o remount,bind,rw /run; umount /run/hidden; touch /run/x; cat /run/hidden/secret");
    let script = format!(
        "mount --bind {path} {path} && mount -o remount,bind,ro {path} && mount -t tmpfs none {path}/hidden && exec \"$@\""
    );
    let container = bundle.container(&Runtime::under_test());
    let output = container
        .command(&["run", "--bundle", "BUNDLE", "ID"])
        .launched_by(&["unshare", "--mount", "--propagation", "private", "sh", "-c", &script, "sh"])
        .run();
    assert_ne!(output.code, 0, "{output}");
    assert!(!output.stdout.contains("secret") && !source.join("x").exists(), "{output}");
    assert!(
        output.stderr.contains("permission denied") || output.stderr.contains("Operation not permitted"),
        "{output}"
    );
    assert!(output.stderr.contains("Read-only"), "{output}");
}

#[test]
fn root_limits_and_scores_are_set_with_the_hosts_rights() {
    needs!(Root, Busybox);
    let bundle = mapped("limits")
        .shell("grep -E 'locked|pending' /proc/self/limits | tr -s ' '; cat /proc/self/oom_score_adj");
    let bundle = bundle.edit(|config| {
        config["process"]["rlimits"] = json!([
            {"type": "RLIMIT_MEMLOCK", "soft": 4096, "hard": 8192},
            {"type": "RLIMIT_SIGPENDING", "soft": 7, "hard": 8},
        ]);
        config["process"]["oomScoreAdj"] = json!(77);
    });
    let output = bundle.container(&Runtime::under_test()).run();
    let wanted = ["Max locked memory 4096 8192 bytes", "Max pending signals 7 8 signals", "77"];
    let shown: Vec<String> = lines(&output.success().stdout);
    let mut shown: Vec<&str> = shown.iter().map(String::as_str).collect();
    shown.sort_unstable_by_key(|line| wanted.iter().position(|wanted| wanted == line));
    assert_eq!(shown, wanted, "{output}");
}

/// A sysfs shows a network namespace: one that the container does not own it cannot mount.
#[test]
fn root_without_a_network_of_its_own_sys_is_the_hosts() {
    needs!(Root, Busybox);
    let bundle = mapped("sys").shell("ls /sys/class/net; touch /sys/x 2>&1 | grep -o Read-only");
    let bundle = bundle.edit(|config| {
        let list = config["linux"]["namespaces"].as_array_mut().expect("a list");
        list.retain(|one| one["type"] != "network");
    });
    let output = bundle.container(&Runtime::under_test()).run();
    let mut wanted: Vec<String> = fs::read_dir("/sys/class/net")
        .expect("the host's interfaces")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("ASCII"))
        .collect();
    wanted.sort();
    wanted.push("Read-only".into());
    assert_eq!(lines(&output.success().stdout), wanted, "{output}");
}

#[test]
fn root_a_life_in_a_user_namespace() {
    needs!(Root, Busybox, Freezer);
    let bundle = mapped("life").args(&["/bin/sleep", "1000"]);
    let container = bundle.container(&Runtime::under_test());
    container.create().success();
    let waiting = container.call(&["exec", "ID", "/bin/sh", "-c", "id -u; cat /proc/self/uid_map"]);
    assert_eq!(lines(&waiting.success().stdout), ["0".to_owned(), format!("0 {FIRST} {SIZE}")], "{waiting}");
    container.start().success();
    let pid = container.pid().expect("it runs");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    assert!(status.contains(&format!("Uid:\t{FIRST}\t{FIRST}\t{FIRST}\t{FIRST}")), "{status}");
    let line = "id -u; id -g; id -G; cat /proc/self/oom_score_adj; readlink /proc/self/ns/user; grep CapBnd /proc/self/status";
    let exec = ["exec", "--user", "5:6", "--additional-gids", "9", "ID", "/bin/sh", "-c", line];
    let output = container.call(&exec);
    let namespace = fs::read_link(format!("/proc/{pid}/ns/user")).expect("it runs");
    let score = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("it runs");
    let bounding = status.lines().find(|line| line.starts_with("CapBnd")).expect("a set").replace('\t', " ");
    let wanted = ["5", "6", "6 9", score.trim(), namespace.to_str().expect("ASCII"), &bounding];
    assert_eq!(lines(&output.success().stdout), wanted, "{output}");
    let unmapped = container.call(&["exec", "--user", "70000", "ID", "/bin/true"]);
    assert!(unmapped.code == 255 && unmapped.stderr.contains("invalid argument"), "{unmapped}");
    container.call(&["pause", "ID"]).success();
    container.call(&["resume", "ID"]).success();
    let ps = container.call(&["ps", "ID"]);
    assert!(ps.success().stdout.contains("sleep 1000"), "{ps}");
    container.kill("KILL").success();
    assert!(container.ended());
    container.delete().success();
}

/// Clocks run ahead for the program, for its children, and for who joins it later; also where its own root made them.
#[test]
fn root_clocks_are_the_containers_own() {
    needs!(Root, Busybox);
    for bundle in [Bundle::new("clocks"), mapped("mapped-clocks")] {
        let bundle = bundle.namespace("time").args(&["/bin/sleep", "1000"]).edit(|config| {
            config["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1_000_000_000, "nanosecs": 0}});
        });
        let container = bundle.container(&Runtime::under_test());
        container.call(&["run", "--detach", "--bundle", "BUNDLE", "ID"]).success();
        let pid = container.pid().expect("it runs");
        let output = container.call(&[
            "exec",
            "ID",
            "/bin/sh",
            "-c",
            "cut -d. -f1 /proc/uptime; readlink /proc/self/ns/time",
        ]);
        let shown = lines(&output.success().stdout);
        let uptime: u64 = shown[0].parse().expect("a number");
        assert!(uptime > 1_000_000_000, "{output}");
        let namespace = fs::read_link(format!("/proc/{pid}/ns/time")).expect("it runs");
        assert_eq!(Path::new(&shown[1]), namespace);
        assert_ne!(namespace, fs::read_link("/proc/self/ns/time").expect("ours"));
        assert_eq!(namespace, fs::read_link(format!("/proc/{pid}/ns/time_for_children")).expect("it runs"));
        // Another container may join it.
        let path = format!("/proc/{pid}/ns/time");
        let other = Bundle::new("joins-clocks").shell("cut -d. -f1 /proc/uptime").edit(|config| {
            let list = config["linux"]["namespaces"].as_array_mut().expect("a list");
            list.push(json!({"type": "time", "path": path}));
        });
        let output = other.container(&Runtime::under_test()).run();
        let uptime: u64 = output.success().stdout.trim().parse().expect("a number");
        assert!(uptime > 1_000_000_000, "{output}");
    }
}
