//! An ordinary user's containers: somebody by a number, without a right over the host.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tests::{Bundle, Container, Invocation, Output, Runtime, gone_within, needs};

/// Nobody that this host knows.
const USER: u32 = 61_001;

/// A bundle of the user's own, a runtime that he may execute, and a runtime directory.
struct Home {
    bundle: Bundle,
    program: PathBuf,
}

impl Home {
    fn new(name: &str) -> Self {
        Self::of(Bundle::new(name))
    }

    /// What `spec --rootless` changes, changed in the test's own document.
    fn of(bundle: Bundle) -> Self {
        let bundle = bundle.given_to(USER).edit(|config| {
            let linux = &mut config["linux"];
            let list = linux["namespaces"].as_array_mut().expect("a list");
            list.retain(|one| one["type"] != "network");
            list.push(json!({"type": "user"}));
            let map = json!([{"containerID": 0, "hostID": USER, "size": 1}]);
            linux["uidMappings"] = map.clone();
            linux["gidMappings"] = map;
            linux.as_object_mut().expect("an object").remove("resources");
            linux.as_object_mut().expect("an object").remove("cgroupsPath");
            for mount in config["mounts"].as_array_mut().expect("a list") {
                if let Some(options) = mount["options"].as_array_mut() {
                    options
                        .retain(|option| !option.as_str().is_some_and(|option| option.starts_with("gid=")));
                }
            }
        });
        // By cp(1): what we open to write, a child that another test forks just then has open too, and it could not be
        // executed.
        let program = bundle.dir().join("cofferdam");
        let copied = Command::new("cp").arg(Runtime::under_test().program()).arg(&program).status();
        assert!(copied.is_ok_and(|copied| copied.success()), "copy the runtime");
        let home = Self { bundle, program };
        for directory in [home.runtime_directory(), home.bundle.state_root()] {
            fs::create_dir(&directory).expect("make a directory");
            fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).expect("close it");
            chown(&directory, Some(USER), Some(USER)).expect("give it away");
        }
        home
    }

    fn edit(self, change: impl FnOnce(&mut Value)) -> Self {
        Self { bundle: self.bundle.edit(change), ..self }
    }

    fn shell(self, line: &str) -> Self {
        Self { bundle: self.bundle.shell(line), ..self }
    }

    /// Maps the user's own id, and ten more.
    fn with_more_ids(self) -> Self {
        self.edit(|config| {
            let map = json!([
                {"containerID": 0, "hostID": USER, "size": 1},
                {"containerID": 1, "hostID": FIRST, "size": 10},
            ]);
            config["linux"]["uidMappings"] = map.clone();
            config["linux"]["gidMappings"] = map;
        })
    }

    fn runtime_directory(&self) -> PathBuf {
        self.bundle.dir().join("runtime")
    }

    fn container(&self) -> Container<'_> {
        self.bundle.container(&Runtime::at(&self.program))
    }

    /// How the user runs something.
    fn as_user(&self) -> Vec<String> {
        let runtime = format!("XDG_RUNTIME_DIR={}", self.runtime_directory().display());
        let user = format!("--reuid={USER}");
        let group = format!("--regid={USER}");
        ["env", &runtime, "setpriv", &user, &group, "--clear-groups"].map(str::to_owned).to_vec()
    }

    fn command<'a>(&'a self, container: &Container<'a>, words: &[&str]) -> Invocation<'a> {
        container.command(words).launched_by(&self.as_user())
    }

    fn call(&self, container: &Container<'_>, words: &[&str]) -> Output {
        self.command(container, words).run()
    }

    fn run(&self) -> Output {
        self.call(&self.container(), &["run", "--bundle", "BUNDLE", "ID"])
    }

    /// What a refused container says, and that it left nothing.
    fn refusal(&self) -> String {
        let output = self.run();
        output.code(1);
        self.bundle.assert_nothing_left();
        output.stderr
    }
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
    call(&["create", "--bundle", "BUNDLE", "ID"]).success();
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

impl Home {
    fn args(self, args: &[&str]) -> Self {
        Self { bundle: self.bundle.args(args), ..self }
    }
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
        let told = Home::new(&format!("refused{number}")).edit(change).refusal();
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
    let home = Home::new("more").with_more_ids().shell(line).edit(|config| config["process"]["user"] = user);
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
    let home = Home::new("alone").with_more_ids();
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
