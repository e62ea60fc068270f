//! User namespaces: whose the container's ids are outside, and what is done for somebody who has no rights there.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use serde_json::{Value, json};
use tests::{Bundle, Container, Runtime, needs, until};

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

/// Starts a container whose namespaces others join.
fn hold(container: &Container<'_>) -> i32 {
    container.call(&["run", "--detach", "--bundle", "BUNDLE", "ID"]).success();
    container.pid().expect("it runs")
}

const HOLD: [&str; 2] = ["/bin/sleep", "1000"];

fn join(config: &mut Value, kinds: &[&str], pid: i32) {
    let list = config["linux"]["namespaces"].as_array_mut().expect("a list");
    list.retain(|one| !kinds.contains(&one["type"].as_str().expect("a type")));
    for kind in kinds {
        let file = match *kind {
            "mount" => "mnt",
            "network" => "net",
            other => other,
        };
        list.push(json!({"type": kind, "path": format!("/proc/{pid}/ns/{file}")}));
    }
}

fn of(pid: &str, file: &str) -> String {
    let link = fs::read_link(format!("/proc/{pid}/ns/{file}")).expect("a namespace");
    link.into_os_string().into_string().expect("ASCII")
}

/// All kinds that a container may take from another, which has a user namespace or none; with a new user namespace of
/// one's own, with the other's, and with none.
#[test]
fn root_namespaces_of_every_kind_are_joined() {
    needs!(Root, Busybox);
    let kinds = ["ipc", "uts", "network", "pid", "time", "cgroup"];
    let files = ["ipc", "uts", "net", "pid", "time", "cgroup"];
    for (name, has_users, takes, maps) in [
        ("plain", false, &kinds[..], false),
        // Who does not own a pid or ipc namespace cannot mount its /proc or queues.
        ("own-users", false, &["uts", "network", "time", "cgroup"][..], true),
        ("their-users", true, &["ipc", "uts", "network", "pid", "time", "cgroup", "user"][..], false),
        ("their-users-alone", true, &["user"][..], false),
        ("their-users-told", true, &["user", "network"][..], true),
    ] {
        let other = if has_users { mapped("holder") } else { Bundle::new("holder") };
        let other = other.namespace("time").namespace("cgroup").args(&HOLD);
        let held = other.container(&Runtime::under_test());
        let pid = hold(&held);
        let line = "for f in ipc uts net pid time cgroup user; do readlink /proc/self/ns/$f; done; id -u; cat /proc/self/uid_map; hostname";
        let mut bundle =
            if has_users || maps { Bundle::new(name).given_to(FIRST) } else { Bundle::new(name) };
        if maps {
            bundle = if has_users { bundle.edit(map) } else { bundle.namespace("user").edit(map) };
        }
        let bundle = bundle.namespace("time").namespace("cgroup").shell(line).edit(|config| {
            join(config, takes, pid);
            if takes.contains(&"uts") {
                config.as_object_mut().expect("a document").remove("hostname");
            }
        });
        let container = bundle.container(&Runtime::under_test());
        let output = container.run();
        let shown = lines(&output.success().stdout);
        for (index, (kind, file)) in kinds.iter().zip(files).enumerate() {
            let is_joined = shown[index] == of(&pid.to_string(), file);
            assert_eq!(is_joined, takes.contains(kind), "{name}: {kind}: {output}");
            assert_ne!(shown[index], of("self", file), "{name}: {kind}: {output}");
        }
        let users = &shown[6];
        assert_eq!(*users == of(&pid.to_string(), "user"), has_users || !maps, "{name}: {output}");
        assert_eq!(*users == of("self", "user"), !has_users && !maps, "{name}: {output}");
        assert_eq!(shown[7], "0", "{name}: {output}");
        let map = if has_users || maps { format!("0 {FIRST} {SIZE}") } else { "0 0 4294967295".into() };
        assert_eq!(shown[8], map, "{name}: {output}");
    }
}

/// A container of a pod with a user namespace lives as any other.
#[test]
fn root_a_life_beside_another() {
    needs!(Root, Busybox);
    let other = mapped("holder").args(&HOLD);
    let held = other.container(&Runtime::under_test());
    let pid = hold(&held);
    let bundle = Bundle::new("beside").given_to(FIRST).args(&["/bin/sleep", "1000"]).edit(|config| {
        join(config, &["user", "network", "ipc", "pid"], pid);
        config["process"]["oomScoreAdj"] = json!(55);
    });
    let container = bundle.container(&Runtime::under_test());
    container.create().success();
    container.start().success();
    let init = container.pid().expect("it runs").to_string();
    assert_eq!(of(&init, "pid"), of(&pid.to_string(), "pid"));
    let score = fs::read_to_string(format!("/proc/{init}/oom_score_adj")).expect("it runs");
    assert_eq!(score.trim(), "55");
    let output = container.call(&[
        "exec",
        "ID",
        "/bin/sh",
        "-c",
        "id -u; ls /sys/class/net; readlink /proc/self/ns/user",
    ]);
    assert_eq!(lines(&output.success().stdout), ["0", "lo", &of(&init, "user")], "{output}");
    container.kill("KILL").success();
    assert!(container.ended());
    container.delete().success();
}

/// A mount namespace by path: what the container mounts is there, for everybody who lives there; never in our own.
#[test]
fn root_a_mount_namespace_is_joined() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("mounts").shell("readlink /proc/self/ns/mnt; ls /");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut apart = std::process::Command::new("unshare")
        .args(["--mount", "--propagation", "private", "cat"])
        .stdin(reader)
        .spawn()
        .expect("unshare runs");
    let pid = i32::try_from(apart.id()).expect("a number");
    until(|| of(&pid.to_string(), "mnt") != of("self", "mnt"), || "a mount namespace");
    let mounts = of(&pid.to_string(), "mnt");
    let bundle = bundle.edit(|config| join(config, &["mount"], pid));
    let output = bundle.container(&Runtime::under_test()).run();
    let shown = lines(&output.success().stdout);
    assert_eq!(shown[0], mounts, "{output}");
    assert!(shown.contains(&"bin".to_owned()) && !shown.contains(&"home".to_owned()), "{output}");
    drop(writer);
    apart.wait().expect("our own child");
    let ours = Bundle::new("our-mounts").edit(|config| {
        let list = config["linux"]["namespaces"].as_array_mut().expect("a list");
        list.retain(|one| one["type"] != "mount");
        list.push(json!({"type": "mount", "path": "/proc/self/ns/mnt"}));
    });
    let output = ours.container(&Runtime::under_test()).run();
    assert_eq!(output.code, 1, "{output}");
    assert!(
        output
            .stderr
            .contains("config.json: linux.namespaces[4].path: is our own: every mount would be the host's"),
        "{output}"
    );
}

/// One clear error with the field, and nothing left: wrong kind, no namespace, gone; other maps than told.
#[test]
fn root_namespaces_that_cannot_be_joined_are_told_by_field() {
    needs!(Root, Busybox);
    let runtime = Runtime::under_test();
    let other = mapped("holder").args(&HOLD);
    let held = other.container(&Runtime::under_test());
    let pid = hold(&held);
    for with_users in [false, true] {
        for (path, why) in [
            (
                "/proc/self/ns/uts",
                "join network namespace /proc/self/ns/uts: is a namespace of another kind: uts",
            ),
            ("/dev/null", "join network namespace /dev/null: is no namespace"),
            ("/proc/self/ns/gone", "open(\"/proc/self/ns/gone\"): no such file or directory"),
        ] {
            let bundle = if with_users { mapped("wrong") } else { Bundle::new("wrong") };
            let bundle = bundle.edit(|config| {
                let list = config["linux"]["namespaces"].as_array_mut().expect("a list");
                list.retain(|one| one["type"] != "network");
                list.insert(0, json!({"type": "network", "path": path}));
            });
            let output = bundle.container(&runtime).create();
            assert_eq!(output.code, 1, "{output}");
            assert_eq!(output.stderr.lines().count(), 1, "{output}");
            assert!(
                output.stderr.contains(&format!("config.json: linux.namespaces[0].path: {why}")),
                "{output}"
            );
            bundle.assert_nothing_left();
        }
    }
    let bundle = Bundle::new("told").given_to(FIRST).edit(|config| {
        map(config);
        config["linux"]["gidMappings"][0]["size"] = json!(9);
        join(config, &["user"], pid);
    });
    let output = bundle.container(&runtime).create();
    assert_eq!(output.code, 1, "{output}");
    let why = format!("config.json: linux.gidMappings: the namespace that is joined has 0 {FIRST} {SIZE}");
    assert!(output.stderr.contains(&why), "{output}");
    bundle.assert_nothing_left();
}

/// Owners of the same files through mounts with maps of their own, of the container, and none; and what is written there
/// belongs outside to whom the map says.
#[test]
fn root_mounts_have_maps_of_their_own() {
    needs!(Root, Busybox);
    for is_mapped in [false, true] {
        let bundle = if is_mapped { mapped("idmap") } else { Bundle::new("idmap") };
        let source = bundle.dir().join("source");
        let below = source.join("below");
        fs::create_dir_all(&below).expect("a directory");
        for (name, id) in [("zero", 0), ("five", 5), ("far", 200_000)] {
            fs::write(source.join(name), "").expect("a file");
            chown(source.join(name), Some(id), Some(id)).expect("give it away");
        }
        fs::set_permissions(&source, fs::Permissions::from_mode(0o777)).expect("open it");
        let path = source.to_str().expect("ASCII").to_owned();
        // Inside, the ids of the host that a container without maps has are its own.
        let first = if is_mapped { FIRST } else { 0 };
        let own = json!([{"containerID": 0, "hostID": first, "size": SIZE}]);
        let odd = json!([{"containerID": 5, "hostID": first + 50, "size": 1}, {"containerID": 0, "hostID": first + 7, "size": 1}]);
        let line = "for m in /tmp /run /var; do stat -c %u:%g $m/zero $m/five $m/far; done; touch /run/made; stat -c %u:%g /var/below";
        let bundle = bundle
            .edit(|config| {
                let list = config["mounts"].as_array_mut().expect("a list");
                let bind = |target: &str, options: &[&str], map: &Value| {
                    let mut mount = json!({"destination": target, "source": path, "options": options});
                    if !map.is_null() {
                        mount["uidMappings"] = map.clone();
                        mount["gidMappings"] = map.clone();
                    }
                    mount
                };
                list.push(bind("/tmp", &["rbind"], &Value::Null));
                // Without a user namespace there are no maps of the container to take.
                let (options, map): (&[&str], _) =
                    if is_mapped { (&["rbind", "idmap"], Value::Null) } else { (&["bind"], own) };
                list.push(bind("/run", options, &map));
                list.push(bind("/var", &["rbind", "ridmap"], &odd));
            })
            .shell(line);
        let script = format!("mount -t tmpfs -o mode=755 none {path}/below && exec \"$@\"");
        let container = bundle.container(&Runtime::under_test());
        let output = container
            .command(&["run", "--bundle", "BUNDLE", "ID"])
            .launched_by(&["unshare", "--mount", "--propagation", "private", "sh", "-c", &script, "sh"])
            .run();
        let nobody = "65534:65534";
        let plain = if is_mapped { [nobody, nobody, nobody] } else { ["0:0", "5:5", "200000:200000"] };
        let wanted: Vec<&str> =
            plain.into_iter().chain(["0:0", "5:5", nobody, "7:7", "50:50", nobody, "7:7"]).collect();
        let shown = lines(&output.success().stdout);
        // 200000 lies in the container's maps, but not where the mount leads.
        assert_eq!(shown, wanted, "{is_mapped}: {output}");
        let made = fs::metadata(source.join("made")).expect("it was made");
        assert_eq!((made.uid(), made.gid()), (0, 0), "the file system has it as the container's root has it");
    }
}

#[test]
fn root_a_file_system_without_maps_is_told() {
    needs!(Root, Busybox);
    let map = json!([{"containerID": 0, "hostID": 5, "size": 1}]);
    let mount = json!({
        "destination": "/tmp", "source": "/proc/sys", "options": ["bind", "idmap"],
        "uidMappings": map, "gidMappings": map,
    });
    let bundle =
        Bundle::new("no-idmap").edit(|config| config["mounts"].as_array_mut().expect("a list").push(mount));
    let output = bundle.container(&Runtime::under_test()).create();
    assert_eq!(output.code, 1, "{output}");
    let why = "map the ids of /proc/sys: mount_setattr(MOUNT_ATTR_IDMAP): invalid argument (os error 22): \
               its file system, or one mounted below it, does not support mapped ids";
    assert!(output.stderr.contains(why), "{output}");
    bundle.assert_nothing_left();
}
