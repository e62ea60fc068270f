//! Whatever is put in: one clear line says what is wrong, the exit code is 1, and nothing is left behind.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use serde_json::{Value, json};
use tests::{Bundle, Output, Runtime, Snapshot, needs};

/// How long a large document may take to be carried out or refused: it is read, not pondered.
const PATIENCE: Duration = Duration::from_secs(25);

/// Fails unless the command ended with 1, and printed one line: the program's name and `told`.
#[track_caller]
fn assert_refused(output: &Output, told: &str) {
    output.code(1);
    assert_eq!((&*output.stdout, &*output.stderr), ("", &*format!("cofferdam: {told}\n")));
}

/// Runs the bundle and expects this reason.
#[track_caller]
fn refuses(bundle: &Bundle, reason: &str) {
    let container = bundle.container(&Runtime::under_test());
    assert_refused(&container.run(), &format!("run {}: {reason}", bundle.id()));
    assert_eq!(Snapshot::take(bundle).lines(), [""; 0], "{reason}");
}

type Change = fn(&mut Value);

/// Changes of runc's default configuration, with what is said of each after `config.json: `.
const CONFIGS: &[(Change, &str)] = &[
    // Wrong types.
    (|config| *config = json!([]), "expected an object, not a list"),
    (|config| *config = Value::Null, "expected an object, not null"),
    (|config| config["ociVersion"] = json!(1), "ociVersion: expected a string, not 1"),
    (|config| config["process"]["args"] = json!(5), "process.args: expected a list, not 5"),
    (
        |config| config["process"]["args"] = json!(["/bin/true", 1]),
        "process.args[1]: expected a string, not 1",
    ),
    (
        |config| config["process"]["user"]["uid"] = json!(-1),
        "process.user.uid: expected a whole number from 0 to 4294967295, not -1",
    ),
    (|config| config["mounts"] = json!({}), "mounts: expected a list, not an object"),
    (|config| config["hostname"] = json!(["a"]), "hostname: expected a string, not a list"),
    // Words that mean nothing.
    (|config| config["ociVersion"] = json!("9.0.0"), "ociVersion: \"9.0.0\" is not a version 1 document"),
    (
        |config| config["linux"]["namespaces"][0]["type"] = json!("moon"),
        "linux.namespaces[0].type: expected one of cgroup, ipc, mount, network, pid, time, user, uts, not \"moon\"",
    ),
    (
        |config| config["linux"]["rootfsPropagation"] = json!("sideways"),
        "linux.rootfsPropagation: \"sideways\" is no kind of propagation",
    ),
    (
        |config| {
            config["linux"]["devices"] = json!([{"path": "/dev/x", "type": "q", "major": 1, "minor": 3}]);
        },
        "linux.devices[0].type: expected one of b, c, u, p, not \"q\"",
    ),
    // What must be there.
    (|config| remove(config, "root"), "root: is missing"),
    (|config| remove(config, "process"), "process: is missing"),
    (|config| remove(config, "ociVersion"), "ociVersion: is missing"),
    (|config| config["root"]["path"] = json!(""), "root.path: is empty"),
    (|config| config["process"]["args"] = json!([]), "process.args: is empty: there is no program to run"),
    // What contradicts itself, or what was said before.
    (
        |config| config["linux"]["namespaces"][1]["type"] = json!("pid"),
        "linux.namespaces[1]: \"pid\" is listed twice",
    ),
    (
        |config| {
            config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 2, "hard": 1}]);
        },
        "process.rlimits[0]: soft limit 2 is above hard limit 1",
    ),
    (
        |config| {
            let limit = json!({"type": "RLIMIT_NOFILE", "soft": 1, "hard": 1});
            config["process"]["rlimits"] = json!([limit, limit]);
        },
        "process.rlimits[1]: RLIMIT_NOFILE is listed twice",
    ),
    // What would reach out of the container.
    (
        |config| config["linux"]["sysctl"] = json!({"kernel.panic": "1"}),
        "linux.sysctl[\"kernel.panic\"]: would change the host: it belongs to no namespace",
    ),
    (
        |config| config["linux"]["sysctl"] = json!({"net/../../kernel/core_pattern": "x"}),
        "linux.sysctl[\"net/../../kernel/core_pattern\"]: is no name of a kernel parameter",
    ),
    (
        |config| config["linux"]["maskedPaths"] = json!(["proc/kcore"]),
        "linux.maskedPaths[0]: \"proc/kcore\" is not absolute",
    ),
    (|config| config["process"]["cwd"] = json!("tmp"), "process.cwd: \"tmp\" is not absolute"),
    // What the kernel could not be told.
    (|config| config["process"]["args"] = json!(["/bin/true", "a\0b"]), "process.args[1]: holds a NUL byte"),
    (|config| config["process"]["env"] = json!(["FOO"]), "process.env[0]: \"FOO\" is not NAME=VALUE"),
    (|config| config["hostname"] = json!("a".repeat(65)), "hostname: is 65 bytes long, the kernel takes 64"),
    (
        |config| config["linux"]["resources"]["memory"] = json!({"limit": -5}),
        "linux.resources.memory.limit: -5 is neither -1 nor a number of bytes",
    ),
];

fn remove(config: &mut Value, key: &str) {
    config.as_object_mut().expect("a configuration is an object").remove(key).expect("it is there");
}

#[test]
fn root_a_bad_configuration_is_told_by_its_field() {
    needs!(Root, Busybox);
    for (change, reason) in CONFIGS {
        refuses(&Bundle::new("field").edit(change), &format!("config.json: {reason}"));
    }
}

/// Documents for `exec --process`, with what is said of each after `process.json: `.
const PROCESSES: &[(&str, &str)] = &[
    ("", "is empty"),
    ("{", "line 1, column 1: ends too early (while parsing an object)"),
    ("[]", "expected an object, not a list"),
    ("null", "expected an object, not null"),
    (r#"{"args":["a"],"cwd":"/"}{}"#, "line 1, column 25: more text follows after the document"),
    (r#"{"args":["a"],"cwd":"/","cwd":"/tmp"}"#, "cwd: is given twice"),
    // A whole configuration is no process: its fields stand one level too deep.
    (
        r#"{"ociVersion":"1.3.0","process":{"args":["a"],"cwd":"/"}}"#,
        "args: is empty: there is no program to run",
    ),
    // Wrong types.
    (r#"{"args":"a","cwd":"/"}"#, "args: expected a list, not \"a\""),
    (r#"{"args":["a",1],"cwd":"/"}"#, "args[1]: expected a string, not 1"),
    (r#"{"args":["a"],"cwd":7}"#, "cwd: expected a string, not 7"),
    (
        r#"{"args":["a"],"cwd":"/","user":{"uid":-1}}"#,
        "user.uid: expected a whole number from 0 to 4294967295, not -1",
    ),
    (r#"{"args":["a"],"cwd":"/","user":[0,0]}"#, "user: expected an object, not a list"),
    (
        r#"{"args":["a"],"cwd":"/","capabilities":["CAP_KILL"]}"#,
        "capabilities: expected an object, not a list",
    ),
    // What must be there.
    (r#"{"cwd":"/"}"#, "args: is empty: there is no program to run"),
    (r#"{"args":["a"]}"#, "cwd: is empty"),
    // What the kernel could not be told.
    (r#"{"args":["a\u0000b"],"cwd":"/"}"#, "args[0]: holds a NUL byte"),
    (r#"{"args":["a"],"cwd":"tmp"}"#, "cwd: \"tmp\" is not absolute"),
    (r#"{"args":["a"],"cwd":"/","env":["A"]}"#, "env[0]: \"A\" is not NAME=VALUE"),
    (r#"{"args":["a"],"cwd":"/","env":["A=1","=b"]}"#, "env[1]: \"=b\" has no name before the ="),
    (r#"{"args":["a"],"cwd":"/","user":{"uid":4294967295}}"#, "user.uid: 4294967295 is no id"),
    (
        r#"{"args":["a"],"cwd":"/","user":{"additionalGids":[1,4294967295]}}"#,
        "user.additionalGids[1]: 4294967295 is no id",
    ),
    (
        r#"{"args":["a"],"cwd":"/","rlimits":[{"type":"RLIMIT_CPU","hard":1,"soft":2}]}"#,
        "rlimits[0]: soft limit 2 is above hard limit 1",
    ),
    (
        r#"{"args":["a"],"cwd":"/","rlimits":[{"type":"RLIMIT_CPU","hard":1,"soft":1},{"type":"RLIMIT_CPU","hard":1,"soft":1}]}"#,
        "rlimits[1]: RLIMIT_CPU is listed twice",
    ),
    (r#"{"args":["a"],"cwd":"/","oomScoreAdj":1001}"#, "oomScoreAdj: 1001 is not from -1000 to 1000"),
];

/// Documents that are right, and ask for what the kernel refuses.
const REFUSED: &[(&str, &str)] = &[
    (r#"{"args":["a"],"cwd":"/"}"#, "exec: \"a\": executable file not found in $PATH"),
    (r#"{"args":["/a"],"cwd":"/"}"#, "exec: \"/a\": access(\"/a\"): no such file or directory (os error 2)"),
    (
        r#"{"args":["/bin"],"cwd":"/"}"#,
        "exec: \"/bin\": is a directory: execve(): permission denied (os error 13)",
    ),
    (
        r#"{"args":["/bin/true"],"cwd":"/nowhere"}"#,
        "go to the working directory: chdir(\"/nowhere\"): no such file or directory (os error 2)",
    ),
    (
        r#"{"args":["/bin/true"],"cwd":"/etc/passwd"}"#,
        "go to the working directory: chdir(\"/etc/passwd\"): not a directory (os error 20)",
    ),
    (
        r#"{"args":["/bin/true"],"cwd":"/","rlimits":[{"type":"RLIMIT_NOFILE","hard":99999999999,"soft":1}]}"#,
        "set rlimit nofile: prlimit(7, 1, 99999999999): operation not permitted (os error 1)",
    ),
    (
        r#"{"args":["/bin/true"],"cwd":"/","capabilities":{"effective":["CAP_KILL"],"bounding":["CAP_KILL"]}}"#,
        "apply capabilities: capset(effective 0x20, permitted 0x0, inheritable 0x0): operation not permitted \
         (os error 1)",
    ),
];

#[test]
fn root_a_bad_process_is_told_by_its_field() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("process").shell("exec sleep 1000");
    let container = bundle.container(&Runtime::under_test());
    container.create().success();
    container.start().success();
    let alive = Snapshot::take(&bundle);
    let (path, pid) = (bundle.dir().join("process.json"), bundle.dir().join("pid"));
    let [file, pid_file] = [&path, &pid].map(|path| path.to_str().expect("the bundle's path is ASCII"));
    let refuses = |file: &str, reason: &str| {
        for mode in [&[][..], &["--detach"]] {
            let words = [&["exec", "--pid-file", pid_file, "--process", file], mode, &["ID"]].concat();
            let output = container.call(&words);
            output.code(255);
            let told = format!("cofferdam: exec {}: {reason}\n", bundle.id());
            assert_eq!((&*output.stdout, &*output.stderr), ("", &*told));
            assert!(!pid.exists(), "{reason}: a pid file was left");
            alive.assert_same();
        }
    };
    for (text, reason) in PROCESSES {
        fs::write(&path, text).expect("write process.json");
        refuses(file, &format!("process.json: {reason}"));
    }
    for (text, reason) in REFUSED {
        fs::write(&path, text).expect("write process.json");
        refuses(file, reason);
    }
    fs::write(&path, b"{\"args\":[\"\xff\"]}").expect("write process.json");
    refuses(file, "process.json: byte 10 is not UTF-8");
    fs::write(&path, " ".repeat(40 << 20)).expect("write process.json");
    refuses(file, &format!("{file}: has 41943040 bytes, more than 33554432"));
    fs::remove_file(&path).expect("remove process.json");
    refuses(file, &format!("{file}: no such file"));
    let dir = bundle.dir().to_str().expect("the bundle's path is ASCII");
    refuses(dir, &format!("read(\"{dir}\"): is a directory (os error 21)"));
    container.delete_force().success();
}

#[test]
fn root_what_is_no_configuration_at_all_is_told_by_its_place() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("text");
    let texts: [(&[u8], &str); 6] = [
        (b"", "is empty"),
        (b"{", "line 1, column 1: ends too early (while parsing an object)"),
        (b"{\n  \"hostname\": \"a\",\n}", "line 3, column 1: trailing comma"),
        (b"\x01\x02", "line 1, column 1: expected value"),
        (b"{\"hostname\": \"a\", \"hostname\": \"b\"}", "hostname: is given twice"),
        (b"{\"hostname\": \"\xff\"}", "byte 14 is not UTF-8"),
    ];
    for (text, reason) in texts {
        fs::write(bundle.dir().join("config.json"), text).expect("write config.json");
        refuses(&bundle, &format!("config.json: {reason}"));
    }
    fs::remove_file(bundle.dir().join("config.json")).expect("remove config.json");
    refuses(&bundle, "config.json: the bundle has none");
}

#[test]
fn root_what_the_host_has_not_is_told_by_the_call_that_failed() {
    needs!(Root, Busybox);
    let missing = "no such file or directory (os error 2)";
    let bundle = Bundle::new("call").edit(|config| config["root"]["path"] = json!("nowhere"));
    let root = format!("{}/nowhere", bundle.dir().display());
    refuses(&bundle, &format!("take {root} as the root: open(\"{root}\"): {missing}"));
    let bundle = Bundle::new("call").edit(|config| config["root"]["path"] = json!("/etc/passwd"));
    refuses(&bundle, "take /etc/passwd as the root: open(\"/etc/passwd\"): not a directory (os error 20)");
    let bundle = Bundle::new("call").mount("/tmp", "bind", "/no/such", &["bind"]);
    refuses(&bundle, &format!("mount /no/such on /tmp: open_tree(\"/no/such\"): {missing}"));
    let bundle = Bundle::new("call").mount("/tmp", "moonfs", "none", &[]);
    refuses(&bundle, "mount moonfs on /tmp: fsopen(\"moonfs\"): no such device (os error 19)");
    let path = |path: &str| {
        let namespace = json!({"type": "network", "path": path});
        Bundle::new("call").edit(|config| config["linux"]["namespaces"][1] = namespace)
    };
    let field = "config.json: linux.namespaces[1].path";
    refuses(&path("/no/such"), &format!("{field}: open(\"/no/such\"): {missing}"));
    refuses(
        &path("/proc/self/ns/uts"),
        &format!("{field}: join network namespace /proc/self/ns/uts: is a namespace of another kind: uts"),
    );
}

#[test]
fn root_a_target_that_points_outside_stays_inside() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("target")
        .mount("/../../../tmp/up", "tmpfs", "tmpfs", &[])
        .mount("/away/in", "tmpfs", "tmpfs", &[])
        .shell("grep -c -e ' /tmp/up tmpfs' -e ' /run/in tmpfs' /proc/mounts");
    // Absolute, it means the container's /run, and whatever it means on the host stays as it is.
    symlink("/run", bundle.rootfs().join("away")).expect("make a link");
    let output = bundle.container(&Runtime::under_test()).run();
    assert_eq!(output.success().stdout, "2\n");
    assert!(!fs::exists("/run/in").expect("look at the host's /run"));
}

/// Six hundred thousand masked paths, or variables, once took hours: each was looked for among all before it.
#[test]
fn root_ten_megabytes_in_one_list_are_no_work_for_hours() {
    needs!(Root, Busybox);
    let many = |name: &str| (0..600_000).map(|number| format!("{name}{number}")).collect::<Vec<_>>();
    let run = |bundle: &Bundle| {
        let container = bundle.container(&Runtime::under_test());
        container.command(&["run", "--bundle", "BUNDLE", "ID"]).within(PATIENCE).run()
    };
    let bundle =
        Bundle::new("masks").edit(|config| config["linux"]["maskedPaths"] = json!(many("/proc/none")));
    run(&bundle).success();
    let environment: Vec<_> = many("A").into_iter().map(|name| name + "=12345").collect();
    let bundle = Bundle::new("variables").edit(|config| config["process"]["env"] = json!(environment));
    let told = "exec /bin/true: argument list too long (os error 7)";
    assert_refused(&run(&bundle), &format!("run {}: {told}", bundle.id()));
    let bundle = Bundle::new("bytes");
    fs::write(bundle.dir().join("config.json"), " ".repeat(40 << 20)).expect("write config.json");
    let told = "config.json: has 41943040 bytes, more than 33554432";
    assert_refused(&run(&bundle), &format!("run {}: {told}", bundle.id()));
}

#[test]
fn root_a_bad_id_is_refused() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("id");
    let create = |id: &str| {
        bundle.container(&Runtime::under_test()).command(&["create", "--bundle", "BUNDLE", id]).run()
    };
    for id in [".hidden", "..", "a/b", "a b", "a\nb", "é"] {
        let told = format!("create {}: invalid container ID format: {id:?}", id.escape_debug());
        assert_refused(&create(id), &told);
    }
    let long = "a".repeat(256);
    assert_refused(&create(&long), &format!("create {long}: a container id has at most 255 bytes"));
    assert_refused(&create(""), "create : container id cannot be empty");
    assert_eq!(Snapshot::take(&bundle).lines(), [""; 0]);
}

#[test]
fn root_a_missing_bundle_is_named() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("bundle");
    let container = bundle.container(&Runtime::under_test());
    let told = "open the bundle: chdir(\"/no/such\"): no such file or directory (os error 2)";
    for verb in ["create", "run"] {
        let output = container.call(&[verb, "--bundle", "/no/such", "ID"]);
        assert_refused(&output, &format!("{verb} {}: {told}", bundle.id()));
    }
}

/// `--preserve-fds 5` with none open made the program keep what the engine had opened at those numbers, its lock among
/// them: `delete` then waited for ever.
#[test]
fn root_a_descriptor_that_is_not_there_is_not_preserved() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("descriptors");
    let container = bundle.container(&Runtime::under_test());
    for count in ["1", "5", "4294967295"] {
        let output = container.call(&["create", "--bundle", "BUNDLE", "--preserve-fds", count, "ID"]);
        let told = format!("--preserve-fds {count}: descriptor 3 is not open");
        assert_refused(&output, &format!("create {}: {told}", bundle.id()));
    }
}

#[test]
fn root_the_wrong_state_is_told_in_runcs_words() {
    needs!(Root, Busybox, Freezer);
    let bundle = Bundle::new("state").shell("mkfifo /dev/fifo; read line < /dev/fifo");
    let container = bundle.container(&Runtime::under_test());
    let id = bundle.id();
    let refused = |words: &[&str], told: &str| {
        assert_refused(&container.call(words), &format!("{} {id}: {told}", words[0]));
    };
    for words in
        [&["start", "ID"] as &[_], &["state", "ID"], &["kill", "ID"], &["pause", "ID"], &["ps", "ID"]]
    {
        refused(words, "container does not exist");
    }
    refused(&["delete", "ID"], "container does not exist");
    container.create().success();
    refused(&["create", "--bundle", "BUNDLE", "ID"], "container with given ID already exists");
    refused(&["run", "--bundle", "BUNDLE", "ID"], "container with given ID already exists");
    refused(&["resume", "ID"], "container not paused");
    container.start().success();
    refused(&["start", "ID"], "cannot start an already running container");
    refused(&["delete", "ID"], &format!("cannot delete container {id} that is not stopped: running"));
    container.call(&["pause", "ID"]).success();
    refused(&["start", "ID"], "cannot start a container in the paused state");
    refused(&["pause", "ID"], "container not running");
    refused(&["delete", "ID"], &format!("cannot delete container {id} that is not stopped: paused"));
    container.call(&["resume", "ID"]).success();
    container.kill("KILL").success();
    assert!(container.ended());
    refused(&["start", "ID"], "cannot start a container that has stopped");
    refused(&["pause", "ID"], "container not running");
    refused(&["kill", "ID"], "container not running");
    container.delete().success();
    assert_eq!(Snapshot::take(&bundle).lines(), [""; 0]);
}

/// A script that runs what follows it in a mount namespace of its own, with a small tmpfs at its first argument that is
/// full to the last byte.
const FULL: &str = r#"
    mount -t tmpfs -o size=64k,nr_inodes=64 tmpfs "$1" &&
    { dd if=/dev/zero of="$1/fill" bs=4k >/dev/null 2>&1; shift; "$@"; code=$?; ls -A "$0"; exit $code; }
"#;

#[test]
fn root_a_full_disk_leaves_nothing() {
    needs!(Root, Busybox);
    let full = |mountpoint: &str| {
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", FULL, mountpoint, mountpoint]
            .map(str::to_owned)
    };
    let bundle = Bundle::new("full");
    let container = bundle.container(&Runtime::under_test());
    let state = bundle.state_root();
    fs::create_dir(&state).expect("make a state root");
    let state = state.to_str().expect("the path is ASCII");
    let output = container.command(&["run", "--bundle", "BUNDLE", "ID"]).launched_by(&full(state)).run();
    output.code(1);
    let told = "write the state record: write(\".state.json\"): no space left on device (os error 28)";
    assert_eq!(output.stderr, format!("cofferdam: run {}: {told}\n", bundle.id()));
    assert_eq!(output.stdout, "fill\n", "what is in the state root afterwards");

    let place = bundle.dir().join("pid");
    fs::create_dir(&place).expect("make a directory");
    let place = place.to_str().expect("the path is ASCII");
    let file = format!("{place}/file");
    let words = ["create", "--bundle", "BUNDLE", "--pid-file", &file, "ID"];
    let output = container.command(&words).launched_by(&full(place)).run();
    output.code(1);
    let told =
        format!("write the pid file {file}: write(\"{place}/.file\"): no space left on device (os error 28)");
    assert_eq!(output.stderr, format!("cofferdam: create {}: {told}\n", bundle.id()));
    assert_eq!(output.stdout, "fill\n", "what is beside the pid file afterwards");
    assert_eq!(Snapshot::take(&bundle).lines(), [""; 0]);
}

#[test]
fn root_a_record_that_cannot_be_read_is_told() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("record");
    let container = bundle.container(&Runtime::under_test());
    let id = bundle.id();
    let record = bundle.state_root().join(id).join("state.json");
    let records: [(&[u8], &str); 5] = [
        (b"", "is cut off"),
        (b"{\"version\":1,\"phase\":", "is cut off"),
        (b"[]", "is no JSON object"),
        (b"{\"version\":1}", "missing field `phase` at line 1 column 13"),
        (
            b"{\"version\":2,\"phase\":\"asleep\"}",
            "is of version 2, written by a newer cofferdam; this one reads up to 1",
        ),
    ];
    for (text, reason) in records {
        fs::create_dir_all(record.parent().expect("it has one")).expect("make a state directory");
        fs::write(&record, text).expect("write a record");
        let told = |verb: &str| format!("{verb} {id}: state.json: {reason}");
        for verb in ["state", "start", "kill", "delete", "pause", "resume", "ps"] {
            assert_refused(&container.call(&[verb, "ID"]), &told(verb));
        }
        let listed = container.call(&["list", "--quiet"]);
        assert_eq!((listed.code, &*listed.stdout), (0, ""));
        assert_eq!(listed.stderr, format!("cofferdam: warning: load container {id}: state.json: {reason}\n"));
        let removed = container.delete_force();
        if reason.contains("newer") {
            // What a newer one wrote, a newer one must remove: this one does not know what else there is.
            assert_refused(&removed, &told("delete"));
            fs::remove_dir_all(record.parent().expect("it has one")).expect("remove it by hand");
        } else {
            removed.success();
            let told = "its directory is gone, what else there was of it is not known";
            assert_eq!(
                removed.stderr,
                format!("cofferdam: warning: delete {id}: state.json: {reason}; {told}\n")
            );
        }
        assert_eq!(Snapshot::take(&bundle).lines(), [""; 0]);
    }
}
