//! An ordinary user's containers: somebody by a number, without a right over the host.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use serde_json::{Value, json};
use tests::{Delegated, Home, Output, USER, gone_within, needs};

/// Maps the user's own id, and ten more.
fn map_more(config: &mut Value) {
    let map = json!([
        {"containerID": 0, "hostID": USER, "size": 1},
        {"containerID": 1, "hostID": FIRST, "size": 10},
    ]);
    config["linux"]["uidMappings"] = map.clone();
    config["linux"]["gidMappings"] = map;
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn root_an_ordinary_user_is_root_inside() {
    needs!(Root, Busybox);
    let line = "id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups; touch /tmp/made; ls /dev | tr '\n' ' '; echo x >/dev/null; head -c 3 /dev/zero | wc -c; touch /dev/mqueue/q && echo made";
    let home = Home::new("root").shell(line).edit(|config| config["root"]["readonly"] = json!(false));
    let output = home.run();
    output.success();
    let map = format!("0 {USER} 1");
    let devices = "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero 3";
    let shown: Vec<String> =
        lines(&output.stdout).into_iter().map(|line| line.replace("core ", "")).collect();
    assert_eq!(shown, ["0", "0", &map, &map, "deny", devices, "made"], "{output}");
    let made = fs::metadata(home.bundle.rootfs().join("tmp/made")).expect("it was made");
    assert_eq!((made.uid(), made.gid()), (USER, USER));
}

/// Every command, with the state where the user's own is kept.
#[test]
fn root_an_ordinary_user_has_the_whole_life() {
    needs!(Root, Busybox);
    let home = Home::new("life").args(&["sleep", "1000"]);
    let container = home.container();
    let call = |words: &[&str]| home.command(&container, words).without_globals().run();
    let created = call(&["create", "--bundle", "BUNDLE", "ID"]);
    assert_eq!(created.success().stderr, "", "what goes there, engines take for the container's");
    let root = home.runtime_directory().join("cofferdam");
    let mode = fs::metadata(&root).expect("the state root").permissions().mode();
    assert_eq!(mode & 0o7777, 0o1700, "the sticky bit keeps it from those who clean up");
    let state =
        |words: &[&str]| -> Value { serde_json::from_str(&call(words).success().stdout).expect("JSON") };
    let created = state(&["state", "ID"]);
    assert_eq!(created["status"], "created");
    let warned = created["annotations"]["io.cofferdam.warnings"].as_str().unwrap_or_default();
    assert!(warned.starts_with("no control groups: mkdir("), "{created}");
    let inside = call(&["exec", "ID", "sh", "-c", "id -u; cat /proc/self/setgroups; echo $$"]);
    assert_eq!(lines(&inside.success().stdout), ["0", "deny", "2"], "{inside}");
    call(&["start", "ID"]).success();
    assert_eq!(state(&["state", "ID"])["status"], "running");
    let listed = call(&["list", "--quiet"]);
    assert_eq!(listed.success().stdout.trim(), container.id(), "{listed}");
    let inside = call(&["exec", "ID", "cat", "/proc/1/cmdline"]);
    assert_eq!(inside.success().stdout, "sleep\x001000\x00", "{inside}");
    let inside = call(&["exec", "--additional-gids", "7", "ID", "true"]);
    assert!(
        inside.code(255).stderr.contains("user.additionalGids: cannot set any additional groups"),
        "{inside}"
    );
    let pid = state(&["state", "ID"])["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).expect("a pid");
    assert_eq!(state(&["ps", "--format", "json", "ID"]), json!([pid]));
    let paused = call(&["pause", "ID"]);
    assert!(paused.code(1).stderr.contains("the container has no control groups"), "{paused}");
    let deleted = call(&["delete", "ID"]);
    assert!(deleted.code(1).stderr.contains("not stopped: running"), "{deleted}");
    call(&["kill", "ID", "KILL"]).success();
    assert!(gone_within(pid, tests::LIMIT));
    assert_eq!(state(&["state", "ID"])["status"], "stopped");
    call(&["delete", "ID"]).success();
    call(&["run", "--detach", "--bundle", "BUNDLE", "ID"]).success();
    call(&["delete", "--force", "ID"]).success();
    assert_eq!(fs::read_dir(&root).expect("the state root").count(), 0);
}

#[test]
fn root_what_takes_root_is_refused_by_name() {
    needs!(Root, Busybox);
    let cases: [(Change, &str); 7] = [
        (
            |config| {
                let list = config["linux"]["namespaces"].as_array_mut().expect("a list");
                list.retain(|one| one["type"] != "user");
                for map in ["uidMappings", "gidMappings"] {
                    config["linux"].as_object_mut().expect("an object").remove(map);
                }
            },
            "linux.namespaces: rootless container requires user namespaces",
        ),
        (
            |config| {
                for map in ["uidMappings", "gidMappings"] {
                    config["linux"].as_object_mut().expect("an object").remove(map);
                }
            },
            "linux.namespaces[4]: a new user namespace needs linux.uidMappings and linux.gidMappings",
        ),
        (|config| config["linux"]["resources"] = json!({"pids": {"limit": 7}}), "linux.resources"),
        (|config| config["linux"]["cgroupsPath"] = json!("/cdt-nobodys"), "linux.cgroupsPath"),
        (
            |config| config["process"]["user"]["additionalGids"] = json!([0]),
            "process.user.additionalGids: cannot set any additional groups",
        ),
        (|config| config["linux"]["netDevices"] = json!({"lo": {}}), "linux.netDevices"),
        (|config| config["mounts"][0]["options"] = json!(["idmap"]), "mounts[0]"),
    ];
    for (number, (change, why)) in cases.into_iter().enumerate() {
        let home = Home::new(&format!("refused{number}")).edit(change);
        let output = home.run();
        let told = &output.code(1).stderr;
        home.bundle.assert_nothing_left();
        assert!(told.contains(why), "{why}: {told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
}

const FIRST: u32 = 710_000;

type Change = fn(&mut Value);

/// Runs as the user whom /etc knows, and gives ids to, in a mount namespace of the test's own.
fn with_grants(home: &Home, words: &[&str], grants: &str) -> Output {
    let script = r#"
        set -e
        mount -t tmpfs none "$1"
        { cat /etc/passwd; echo "cdt:x:$2:$2::/:/bin/sh"; } > "$1/passwd"
        echo "$3" > "$1/subuid"
        cp "$1/subuid" "$1/subgid"
        for file in passwd subuid subgid; do
            [ -e "/etc/$file" ] && mount --bind "$1/$file" "/etc/$file"
        done
        umount -l "$1"
        shift 3
        exec "$@""#;
    let place = home.bundle.dir().join("etc");
    if !place.exists() {
        fs::create_dir(&place).expect("make a directory");
    }
    let user = USER.to_string();
    let place = place.to_str().expect("ASCII").to_owned();
    let before =
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", &place, &user, grants];
    let launcher: Vec<String> = before.iter().map(|word| (*word).to_owned()).chain(home.as_user()).collect();
    home.container().command(words).launched_by(&launcher).run()
}

const RUN: [&str; 4] = ["run", "--bundle", "BUNDLE", "ID"];

#[test]
fn root_more_ids_come_by_newuidmap() {
    needs!(Root, Busybox, Uidmap);
    assert!(Path::new("/etc/subuid").exists() && Path::new("/etc/subgid").exists(), "uidmap brings them");
    let line = "cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups; id -u; id -G";
    let user = json!({"uid": 3, "gid": 4, "additionalGids": [5, 10]});
    let home = Home::new("more").edit(map_more).shell(line).edit(|config| config["process"]["user"] = user);
    let output = with_grants(&home, &RUN, &format!("cdt:{FIRST}:10"));
    let (own, more) = (format!("0 {USER} 1"), format!("1 {FIRST} 10"));
    let wanted = [&own, &more, &own, &more, "allow", "3", "4 5 10"];
    assert_eq!(lines(&output.success().stdout), wanted, "{output}");

    let refused = with_grants(&home, &RUN, &format!("cdt:{FIRST}:5"));
    let told = &refused.code(1).stderr;
    assert!(told.contains("linux.uidMappings: /usr/bin/newuidmap: exit status 1"), "{refused}");
    assert!(told.contains("/etc/subuid tells what the caller may map"), "{refused}");
    home.bundle.assert_nothing_left();
}

#[test]
fn root_more_ids_do_not_come_by_themselves() {
    needs!(Root, Busybox);
    let home = Home::new("alone").edit(map_more);
    let container = home.container();
    let path = format!("PATH={}", home.bundle.dir().display());
    // setpriv finds itself and the runtime by whole paths.
    let mut launcher = home.as_user();
    launcher.extend(["env".to_owned(), path]);
    let output = container.command(&RUN).launched_by(&launcher).run();
    let told = &output.code(1).stderr;
    assert!(told.contains("linux.uidMappings: maps more than the caller's own id"), "{output}");
    assert!(told.contains("newuidmap is not in PATH"), "{output}");
    home.bundle.assert_nothing_left();
}

#[test]
fn root_groups_that_were_given_to_the_user_are_used() {
    needs!(Root, Busybox);
    let home = Home::new("given").args(&["sleep", "1000"]);
    let name = format!("{}-own", home.bundle.id());
    let groups = Delegated::to_user(&name);
    let home = home.edit(|config| {
        config["linux"]["cgroupsPath"] = json!(format!("/{name}/web"));
        config["linux"]["resources"] = json!({"pids": {"limit": 7}});
    });
    let container = home.container();
    let call = |words: &[&str]| {
        let launcher: Vec<String> = groups.launcher().into_iter().chain(home.as_user()).collect();
        container.command(words).launched_by(&launcher).run()
    };
    let output = call(&["run", "--detach", "--bundle", "BUNDLE", "ID"]);
    output.success();
    // Device rules of version 1 take root.
    let left_out = |line: &str| !line.contains("linux.resources.devices: ");
    assert_eq!(output.stderr.lines().find(|line| left_out(line)), None, "{output}");
    let pids = groups.paths.iter().find_map(|path| fs::read_to_string(path.join("web/pids.max")).ok());
    assert_eq!(pids.as_deref().map(str::trim), Some("7"));
    let listed = call(&["ps", "--format", "json", "ID"]);
    let pid = container.pid().expect("it runs");
    assert_eq!(listed.success().stdout.trim(), format!("[{pid}]"), "{listed}");
    call(&["exec", "ID", "true"]).success();
    call(&["delete", "--force", "ID"]).success();
    assert!(groups.paths.iter().all(|path| !path.join("web").exists()), "its groups are gone");
    drop(groups);
}

#[test]
fn root_false_asks_for_groups_and_true_is_the_users_own_word() {
    needs!(Root, Busybox);
    let home = Home::new("word");
    let run = |word: &str| {
        home.command(&home.container(), &["run", "--bundle", "BUNDLE", "ID"])
            .global("--rootless")
            .global(word)
            .run()
    };
    run("true").success();
    let refused = run("false");
    assert!(refused.code(1).stderr.contains("mkdir("), "{refused}");
    home.bundle.assert_nothing_left();
}

/// As Podman has it for everybody but root: a user namespace of its own making, in which the runtime is root.
#[test]
fn root_root_of_a_users_namespace_asks_for_no_groups() {
    needs!(Root, Busybox);
    let home = Home::new("inner").shell("id -u; cat /proc/self/uid_map").edit(|config| {
        let linux = &mut config["linux"];
        let list = linux["namespaces"].as_array_mut().expect("a list");
        list.retain(|one| one["type"] != "user");
        list.push(json!({"type": "network"}));
        for map in ["uidMappings", "gidMappings"] {
            linux.as_object_mut().expect("an object").remove(map);
        }
        linux["resources"] = json!({"devices": [{"allow": false, "access": "rwm"}]});
    });
    let mut launcher = home.as_user();
    launcher.extend(["unshare", "--user", "--map-root-user", "--mount"].map(str::to_owned));
    let run = ["run", "--bundle", "BUNDLE", "ID"];
    let output = home.container().command(&run).launched_by(&launcher).run();
    assert_eq!(lines(&output.success().stdout), ["0", &format!("0 {USER} 1")], "{output}");
    let refused =
        home.container().command(&run).global("--rootless").global("false").launched_by(&launcher).run();
    assert!(refused.code(1).stderr.contains("mkdir("), "{refused}");
    home.bundle.assert_nothing_left();
}

#[test]
fn root_an_ordinary_user_tries() {
    needs!(Root, Busybox);
    let home = Home::new("try");
    let call = |words: &[&str]| home.command(&home.container(), words).without_globals().run();
    let output =
        call(&["try", "--", "sh", "-c", "id -u; cat /proc/self/uid_map; touch /tmp/x && hostname; exit 7"]);
    let shown = lines(&output.code(7).stdout);
    assert_eq!(shown[..2], ["0", "0 0 1"], "{output}");
    assert!(shown[2].starts_with("try-"), "{output}");
    let left = fs::read_dir(home.runtime_directory().join("cofferdam")).expect("the state root").count();
    assert_eq!(left, 0, "nothing is left");
    let limited = call(&["try", "--pids", "7", "--", "true"]);
    assert!(limited.code(1).stderr.contains("linux.resources: needs control groups"), "{limited}");
    let other = call(&["try", "--user", "1000", "--", "true"]);
    assert!(other.code(1).stderr.contains("process.user.uid"), "{other}");
    let rootfs = home.bundle.rootfs();
    let output = call(&["try", "--rootfs", rootfs.to_str().expect("ASCII"), "--", "/bin/echo", "hello"]);
    assert_eq!(output.success().stdout, "hello\n", "{output}");
}

/// A program of the user's own is not the one that runs in the container: that one nobody can write.
#[test]
fn root_a_users_own_program_is_copied_and_sealed() {
    needs!(Root, Busybox);
    for (owner, is_copied) in [(0, false), (USER, true)] {
        let home = Home::new("sealed").args(&["true"]);
        chown(home.program(), Some(owner), Some(owner)).expect("give it away");
        let container = home.container();
        home.command(&container, &["create", "--bundle", "BUNDLE", "ID"]).run().success();
        let pid = container.pid().expect("it waits");
        let runs = fs::read_link(format!("/proc/{pid}/exe")).expect("its program");
        let wanted = if is_copied { Path::new("/memfd:cofferdam (deleted)") } else { home.program() };
        assert_eq!(runs, wanted);
        home.command(&container, &["delete", "ID"]).run().success();
    }
}

/// Two containers with namespaces in common, as a pod has them.
#[test]
fn root_an_ordinary_users_container_joins_another() {
    needs!(Root, Busybox);
    let home = Home::new("pod").args(&["sleep", "1000"]);
    let first = home.container();
    home.command(&first, &["run", "--detach", "--bundle", "BUNDLE", "ID"]).run().success();
    let pid = first.pid().expect("it runs");
    let other = Home::new("joins").shell("id -u; cat /proc/1/comm").edit(|config| {
        for one in config["linux"]["namespaces"].as_array_mut().expect("a list") {
            let kind = one["type"].as_str().expect("a kind").to_owned();
            if matches!(kind.as_str(), "user" | "pid" | "ipc") {
                one["path"] = json!(format!("/proc/{pid}/ns/{kind}"));
            }
        }
    });
    let output = other.run();
    assert_eq!(output.success().stdout, "0\nsleep\n", "{output}");
}
