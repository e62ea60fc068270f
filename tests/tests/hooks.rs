//! Hooks: when each kind is run, where, with what, and what becomes of a container whose hook does not do its part.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::{Bundle, LIMIT, Output, Runtime, Snapshot, gone_within, needs, until};

const KINDS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

const SETKEY: &str = env!("CARGO_BIN_EXE_setkey");

/// Writes down what a hook sees: `$1` is the directory, `$2` the kind. The shell itself opens what tells of it: there may
/// be no /proc in which it goes by its number.
const WITNESS: &str = r#"
box=/bin/busybox out=$1/$2
fds=
for fd in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do test -e /proc/self/fd/$fd && fds="$fds $fd"; done
echo $fds > $out.fds
$box cat > $out.state
exec 3< /proc/self/environ 4< /proc/self/cmdline 5< /proc/self/cgroup
$box cat <&3 > $out.env
$box cat <&4 > $out.args
$box cat <&5 > $out.cgroup
$box pwd -P > $out.cwd
for ns in mnt net pid uts ipc; do $box readlink /proc/self/ns/$ns; done > $out.ns
while read -r name value; do test $name = SigBlk: && blocked=$value; done < /proc/self/status
echo $blocked > $out.signals
$box ls proc/version rootfs/proc/version > $out.seen 2> $out.unseen
echo $2 >> $1/order
"#;

/// A bundle whose hooks can write into `seen`, which is /seen inside.
fn bundle(name: &str) -> Bundle {
    let bundle = Bundle::new(name).args(&["/bin/sleep", "1000"]);
    let seen = bundle.dir().join("seen");
    fs::create_dir(&seen).expect("a directory for what hooks see");
    bundle.mount("/seen", "none", seen.to_str().expect("ASCII"), &["bind"])
}

/// Where hooks of this kind write.
fn place(bundle: &Bundle, kind: &str) -> String {
    if kind == "startContainer" {
        "/seen".to_owned()
    } else {
        bundle.dir().join("seen").to_str().expect("ASCII").to_owned()
    }
}

/// A hook that runs a line for the shell, with `$1` the place to write to and `$2` the kind.
fn shell(bundle: &Bundle, kind: &str, line: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", line, "hook", place(bundle, kind), kind]})
}

fn with(bundle: Bundle, hooks: &[(&str, Value)]) -> Bundle {
    bundle.edit(|config| {
        for (kind, hook) in hooks {
            match &mut config["hooks"][*kind] {
                Value::Array(list) => list.push(hook.clone()),
                other => *other = json!([hook]),
            }
        }
    })
}

fn witnessed(bundle: Bundle) -> Bundle {
    let hooks: Vec<_> = KINDS
        .map(|kind| {
            let mut hook = shell(&bundle, kind, WITNESS);
            hook["env"] = json!(["B=2", "A=1", "A=3", "odd"]);
            (kind, hook)
        })
        .into();
    with(bundle, &hooks)
}

fn seen(bundle: &Bundle, what: &str) -> String {
    fs::read_to_string(bundle.dir().join("seen").join(what)).unwrap_or_else(|error| panic!("{what}: {error}"))
}

fn order(bundle: &Bundle) -> Vec<String> {
    let path = bundle.dir().join("seen/order");
    let text = if path.exists() { fs::read_to_string(path).expect("the order") } else { String::new() };
    text.lines().map(str::to_owned).collect()
}

fn namespaces(pid: &str) -> String {
    ["mnt", "net", "pid", "uts", "ipc"]
        .map(|kind| {
            let link = fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("a namespace");
            format!("{}\n", link.display())
        })
        .concat()
}

#[test]
fn root_each_kind_of_hook_is_run_in_its_place_and_time() {
    needs!(Root, Busybox);
    let bundle = witnessed(bundle("kinds"));
    let bundle = bundle.edit(|config| config["annotations"] = json!({"org.example.a": "b \"c\""}));
    let before = Snapshot::take(&bundle);
    let container = bundle.container(&Runtime::under_test());
    container.create().success();
    assert_eq!(order(&bundle), KINDS[..3]);
    let pid = container.pid().expect("init waits").to_string();
    let inside = namespaces(&pid);
    let group = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("its cgroup");
    container.start().success();
    assert_eq!(order(&bundle), KINDS[..5]);
    container.delete_force().success();
    assert_eq!(order(&bundle), KINDS);

    let outside = namespaces("self");
    let own = fs::read_to_string("/proc/self/cgroup").expect("our cgroup");
    let dir = bundle.dir().to_str().expect("ASCII");
    let root = format!("{dir}/rootfs");
    for kind in KINDS {
        let is_inside = kind.ends_with("Container");
        let of = |what: &str| seen(&bundle, &format!("{kind}.{what}"));
        assert_eq!(of("fds"), "0 1 2\n", "{kind}");
        assert_eq!(of("env"), "B=2\0A=1\0A=3\0odd\0", "{kind}");
        assert!(of("args").starts_with("sh\0-c\0"), "{kind}");
        assert_eq!(of("ns"), *if is_inside { &inside } else { &outside }, "{kind}");
        assert_eq!(of("cgroup"), *if is_inside { &group } else { &own }, "{kind}");
        assert_eq!(of("signals"), "0000000000000000\n", "{kind}");
        let (cwd, version) = match kind {
            "createContainer" => (root.as_str(), "proc/version\n"),
            "startContainer" => ("/", "proc/version\n"),
            _ => (dir, ""),
        };
        assert_eq!((of("cwd").trim_end(), &*of("seen")), (cwd, version), "{kind}");

        let state: Value = serde_json::from_str(&of("state")).expect("a state");
        let status = match kind {
            "startContainer" => "created",
            "poststart" => "running",
            "poststop" => "stopped",
            _ => "creating",
        };
        let mut expected = json!({
            "ociVersion": "1.3.0", "id": container.id(), "status": status, "bundle": dir,
            "annotations": {"org.example.a": "b \"c\""},
        });
        if kind != "poststop" {
            expected["pid"] = if is_inside { json!(1) } else { json!(pid.parse::<i32>().expect("a number")) };
        }
        assert_eq!(state, expected, "{kind}");
    }
    before.assert_same();
}

/// The same order where nobody waits for `start`, and several of a kind come as they are listed.
#[test]
fn root_run_runs_all_hooks_in_order() {
    needs!(Root, Busybox);
    for words in [&["run"][..], &["run", "--detach"]] {
        let bundle = bundle("order").args(&["/bin/true"]);
        let line = |number: usize| format!("echo $2 {number} >> $1/order");
        let hooks: Vec<_> = KINDS
            .iter()
            .flat_map(|kind| {
                (0..3).map(|number| (*kind, shell(&bundle, kind, &line(number)))).collect::<Vec<_>>()
            })
            .collect();
        let bundle = with(bundle, &hooks);
        let container = bundle.container(&Runtime::under_test());
        container.call(&[words, &["--bundle", "BUNDLE", "ID"]].concat()).success();
        if words.len() > 1 {
            assert!(container.ended());
            container.delete().success();
        }
        let expected: Vec<_> =
            KINDS.iter().flat_map(|kind| (0..3).map(move |number| format!("{kind} {number}"))).collect();
        assert_eq!(order(&bundle), expected);
    }
}

/// Nothing said of the environment is an empty one; but for startContainer it is the program's.
#[test]
fn root_a_hook_without_an_environment_has_none() {
    needs!(Root, Busybox);
    let bundle = bundle("env").env("OWN=1");
    let hooks: Vec<_> = KINDS
        .map(|kind| {
            (kind, shell(&bundle, kind, "exec 3< /proc/self/environ; /bin/busybox cat <&3 > $1/$2.env; true"))
        })
        .into();
    let bundle = with(bundle, &hooks);
    let container = bundle.container(&Runtime::under_test());
    container.create().success();
    container.start().success();
    let pid = container.pid().expect("it runs");
    let program = fs::read_to_string(format!("/proc/{pid}/environ")).expect("its environment");
    container.delete_force().success();
    assert!(program.contains("OWN=1\0") && program.contains("HOME=/root\0"), "{program}");
    for kind in KINDS {
        let expected = if kind == "startContainer" { &*program } else { "" };
        assert_eq!(seen(&bundle, &format!("{kind}.env")), expected, "{kind}");
    }
}

/// Without arguments the path is the name; startContainer's are found inside, createContainer's outside.
#[test]
fn root_a_hook_without_arguments_is_called_by_its_path() {
    needs!(Root, Busybox);
    let bundle = bundle("bare");
    let script = |at: &Path, out: &str| {
        let line = format!("#!/bin/sh\nexec 3< /proc/self/cmdline\n/bin/busybox cat <&3 > {out}\ntrue\n");
        fs::write(at, line).expect("a script");
        fs::set_permissions(at, fs::Permissions::from_mode(0o755)).expect("a mode");
    };
    let host = bundle.dir().join("hook");
    script(&host, &format!("{}/createContainer", place(&bundle, "")));
    script(&bundle.rootfs().join("bin/hook"), "/seen/startContainer");
    let bundle = with(
        bundle,
        &[("createContainer", json!({"path": host})), ("startContainer", json!({"path": "/bin/hook"}))],
    );
    let container = bundle.container(&Runtime::under_test());
    container.create().success();
    container.start().success();
    assert_eq!(seen(&bundle, "createContainer"), format!("/bin/sh\0{}\0", host.display()));
    assert_eq!(seen(&bundle, "startContainer"), "/bin/sh\0/bin/hook\0");
    container.delete_force().success();
}

/// Docker's: told the pid, the engine sets the network up while init waits.
#[test]
fn root_a_prestart_hook_like_libnetworks_sets_the_network_up() {
    needs!(Root, Busybox);
    let bundle = bundle("setkey").shell("cat /proc/sys/net/ipv4/ip_default_ttl; exec sleep 1000");
    let socket = bundle.dir().join("engine.sock");
    let engine = UnixListener::bind(&socket).expect("the engine's socket");
    let args = json!(["libnetwork-setkey", socket, bundle.id()]);
    let bundle = with(bundle, &[("prestart", json!({"path": SETKEY, "args": args}))]);
    let container = bundle.container(&Runtime::under_test());
    let create = container.command(&["create", "--bundle", "BUNDLE", "ID"]).spawn();
    let (mut hook, _) = engine.accept().expect("the hook");
    let mut told = String::new();
    hook.read_to_string(&mut told).expect("what it says");
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(told["ContainerID"], bundle.id());
    assert_eq!(container.status().as_deref(), Some("creating"));
    let key = told["Key"].as_str().expect("a key");
    let inode = |path: &str| fs::metadata(path).expect("a namespace").ino();
    let theirs = inode(key);
    assert_ne!(theirs, inode("/proc/self/ns/net"));
    // The engine enters it, as libnetwork does to move its end of a veth into it.
    let ttl = "echo 77 > /proc/sys/net/ipv4/ip_default_ttl";
    let status =
        std::process::Command::new("nsenter").arg(format!("--net={key}")).args(["sh", "-c", ttl]).status();
    assert!(status.expect("nsenter").success());
    hook.write_all(b"success").expect("answer");
    drop(hook);
    let created = create.wait();
    created.success();
    container.start().success();
    let pid = container.pid().expect("it runs");
    assert_eq!(inode(&format!("/proc/{pid}/ns/net")), theirs);
    until(|| created.printed() == "77\n", || format!("77, but {:?}", created.printed()));
    container.delete_force().success();
}

/// What NVIDIA's does: enters the mount namespace of the pid it is told, finds the root with its mounts, and binds files
/// into it, though it will be read-only. The host sees nothing of it.
#[test]
fn root_a_hook_like_nvidias_binds_files_into_the_root() {
    needs!(Root, Busybox);
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let bundle = bundle("nvidia").shell("cat /opt/driver/lib.so");
        fs::create_dir_all(bundle.rootfs().join("opt")).expect("a directory");
        fs::write(bundle.dir().join("lib.so"), "driver\n").expect("a library");
        let line = r#"
            read -r state
            pid=${state#*\"pid\":}; pid=${pid%%,*}
            enter="/usr/bin/nsenter --mount=/proc/$pid/ns/mnt"
            test $2 = createContainer && enter=
            root=${1%/seen}/rootfs
            $enter /bin/busybox test -e $root/proc/version || exit 3
            $enter /bin/busybox test -c $root/dev/null || exit 4
            $enter /bin/busybox mkdir -p $root/opt/driver || exit 5
            $enter /bin/busybox touch $root/opt/driver/lib.so || exit 6
            $enter /bin/busybox mount -o bind ${1%/seen}/lib.so $root/opt/driver/lib.so || exit 7
        "#;
        let hook = shell(&bundle, kind, line);
        let bundle = with(bundle, &[(kind, hook)]);
        let before = Snapshot::take(&bundle);
        let output = bundle.container(&Runtime::under_test()).run();
        assert_eq!(output.success().stdout, "driver\n", "{kind}");
        before.assert_same();
        let left = fs::read_to_string(bundle.rootfs().join("opt/driver/lib.so")).expect("the place");
        assert_eq!(left, "", "{kind}: the host sees what was bound");
    }
}

/// A hook that must not succeed, and what is said of it after its field and path.
type Failing = (&'static str, fn(&Bundle) -> Value, &'static str);

const FAILING: [Failing; 7] = [
    (
        "status",
        |_| json!({"path": "/bin/sh", "args": ["sh", "-c", "echo out; echo 'err\u{1b}[2J' >&2; exit 3"]}),
        "/bin/sh: exit status 3: \"out\\nerr\\u{1b}[2J\"",
    ),
    (
        "signal",
        |_| json!({"path": "/bin/sh", "args": ["sh", "-c", "kill -TERM $$"]}),
        "/bin/sh: killed by signal 15",
    ),
    (
        "missing",
        |_| json!({"path": "/bin/no-such-hook"}),
        "/bin/no-such-hook: execve(): no such file or directory (os error 2)",
    ),
    ("directory", |_| json!({"path": "/bin"}), "/bin: execve(): permission denied (os error 13)"),
    ("mode", |_| json!({"path": "/etc/passwd"}), "/etc/passwd: execve(): permission denied (os error 13)"),
    (
        "hangs",
        |_| json!({"path": "/bin/sh", "args": ["sh", "-c", "echo on it; sleep 1000; echo woke up"], "timeout": 1}),
        "/bin/sh: still running after 1 s, killed: \"on it\"",
    ),
    (
        "floods",
        |_| json!({"path": "/bin/sh", "args": ["sh", "-c", "i=0; while [ $i -lt 20000 ]; do echo 0123456789; i=$((i+1)); done; exit 1"]}),
        "/bin/sh: exit status 1: \"",
    ),
];

fn complains(output: &Output, told: &str) {
    output.code(1);
    let line = output.stderr.trim_end();
    assert!(line.contains(told), "{line}\ndoes not say\n{told}");
    assert!(line.lines().count() == 1 && line.len() < 8192, "one line: {line}");
}

/// Whatever goes wrong with a hook of create: nothing is left, those of poststop are run, and what is wrong is told.
#[test]
fn root_a_failing_hook_of_create_leaves_nothing() {
    needs!(Root, Busybox);
    for kind in ["prestart", "createRuntime", "createContainer"] {
        for (name, hook, told) in FAILING {
            let bundle = bundle(name);
            let (hook, stop) =
                (hook(&bundle), shell(&bundle, "poststop", "echo $2 >> $1/order; cat > $1/state"));
            let bundle = with(bundle, &[(kind, hook), ("poststop", stop)]);
            let before = Snapshot::take(&bundle);
            let container = bundle.container(&Runtime::under_test());
            complains(
                &container.create(),
                &format!("create {}: error running {kind} hook #0: {told}", bundle.id()),
            );
            assert_eq!(container.status(), None, "{kind} {name}");
            assert_eq!(order(&bundle), ["poststop"], "{kind} {name}");
            let state: Value = serde_json::from_str(&seen(&bundle, "state")).expect("a state");
            assert_eq!((state["status"].as_str(), state.get("pid")), (Some("stopped"), None));
            before.assert_same();
        }
    }
}

/// The word was said; what stays is a stopped container, as with runc, and `start` says why.
#[test]
fn root_a_failing_start_container_hook_is_told_by_start() {
    needs!(Root, Busybox);
    for (name, hook, told) in FAILING {
        let bundle = bundle(name);
        let hook = hook(&bundle);
        let bundle = with(bundle, &[("startContainer", hook)]);
        let before = Snapshot::take(&bundle);
        let container = bundle.container(&Runtime::under_test());
        container.create().success();
        complains(
            &container.start(),
            &format!("start {}: error running startContainer hook #0: {told}", bundle.id()),
        );
        assert!(container.ended());
        assert_eq!(container.status().as_deref(), Some("stopped"));
        container.delete().success();
        complains(
            &container.run(),
            &format!("run {}: error running startContainer hook #0: {told}", bundle.id()),
        );
        before.assert_same();
    }
}

#[test]
fn root_a_failing_poststart_hook_ends_the_container() {
    needs!(Root, Busybox);
    for (name, hook, told) in FAILING {
        let bundle = bundle(name);
        let (hook, stop) = (hook(&bundle), shell(&bundle, "poststop", "echo $2 >> $1/order"));
        let bundle = with(bundle, &[("poststart", hook), ("poststop", stop)]);
        let before = Snapshot::take(&bundle);
        let container = bundle.container(&Runtime::under_test());
        container.create().success();
        complains(
            &container.start(),
            &format!("start {}: error running poststart hook #0: {told}", bundle.id()),
        );
        assert_eq!(container.status().as_deref(), Some("stopped"));
        container.delete().success();
        assert_eq!(order(&bundle), ["poststop"]);
        complains(&container.run(), &format!("run {}: error running poststart hook #0: {told}", bundle.id()));
        assert_eq!((container.status(), order(&bundle).len()), (None, 2));
        before.assert_same();
    }
}

/// One after the other fails: all are run, each is told, and `delete` has done its part.
#[test]
fn root_failing_poststop_hooks_are_told_and_hold_nobody_up() {
    needs!(Root, Busybox);
    let bundle = bundle("poststop");
    let mut hooks: Vec<_> = FAILING.iter().map(|(_, hook, _)| ("poststop", hook(&bundle))).collect();
    hooks.push(("poststop", shell(&bundle, "poststop", "echo last >> $1/order")));
    let bundle = with(bundle, &hooks);
    let before = Snapshot::take(&bundle);
    let container = bundle.container(&Runtime::under_test());
    container.create().success();
    let log = bundle.dir().join("log");
    let output = container.command(&["delete", "ID"]).global("--log").global(&log).run();
    output.success();
    assert_eq!(container.status(), None);
    assert_eq!(order(&bundle), ["last"]);
    let told = fs::read_to_string(&log).expect("the log");
    for (at, (name, _, words)) in FAILING.iter().enumerate() {
        let first = words.split(": ").nth(1).expect("a reason");
        assert!(
            told.contains(&format!("error running poststop hook #{at}:")) && told.contains(first),
            "{name}: {told}"
        );
    }
    assert_eq!(told.lines().count(), FAILING.len(), "{told}");
    before.assert_same();
}

/// What a hook leaves unread is no error, and what it never reads holds nobody up: a state larger than any pipe.
#[test]
fn root_a_hook_need_not_read_its_state() {
    needs!(Root, Busybox);
    for line in
        ["exit 0", "exec 0<&-; exec sleep 0.2", "exec sleep 0.2", "head -c 10 > /dev/null", "wc -c > $1/size"]
    {
        let bundle = bundle("large").args(&["/bin/true"]);
        let bundle = bundle.edit(|config| config["annotations"] = json!({"large": "x".repeat(3 << 20)}));
        let hooks: Vec<_> = KINDS.map(|kind| (kind, shell(&bundle, kind, line))).into();
        let bundle = with(bundle, &hooks);
        let before = Snapshot::take(&bundle);
        bundle.container(&Runtime::under_test()).run().success();
        if line.starts_with("wc") {
            assert!(seen(&bundle, "size").trim().parse::<usize>().expect("a number") > 3 << 20);
        }
        before.assert_same();
    }
}

/// Time is up for what the hook forked into its group, too; who made a group of his own is on his own.
#[test]
fn root_a_hook_out_of_time_takes_its_children_with_it() {
    needs!(Root, Busybox);
    for kind in ["createRuntime", "createContainer"] {
        let bundle = bundle("children");
        let line = "sleep 1000 & echo $! > $1/child; sleep 1000 & wait";
        let mut hook = shell(&bundle, kind, line);
        hook["timeout"] = json!(1);
        let bundle = with(bundle, &[(kind, hook)]);
        let before = Snapshot::take(&bundle);
        let output = bundle.container(&Runtime::under_test()).create();
        complains(&output, "still running after 1 s");
        if kind == "createRuntime" {
            let child = seen(&bundle, "child").trim().parse().expect("a pid");
            assert!(gone_within(child, LIMIT));
        }
        before.assert_same();
    }
}

/// A hook that leaves a daemon behind has ended all the same, though its output is still open.
#[test]
fn root_a_hook_may_leave_a_daemon() {
    needs!(Root, Busybox);
    let bundle = bundle("daemon").args(&["/bin/true"]);
    let fifo = bundle.dir().join("seen/fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a fifo");
    let hook =
        shell(&bundle, "createRuntime", "(read line < $1/fifo; echo late; echo $line > $1/late) & exit 0");
    let bundle = with(bundle, &[("createRuntime", hook)]);
    bundle.container(&Runtime::under_test()).run().success();
    fs::write(&fifo, "go\n").expect("wake it");
    let end = Instant::now() + LIMIT;
    // It lost its reader before it wrote: SIGPIPE may have ended it, and that is its business.
    while Snapshot::take(&bundle).lines().iter().any(|line| line.contains("process")) {
        assert!(Instant::now() < end, "it lives on");
    }
}

/// Whoever is tired of a hook ends the runtime, and the hook with it; what was made is undone.
#[test]
fn root_a_signal_ends_the_waiting_for_a_hook() {
    needs!(Root, Busybox);
    for (kind, signal) in
        [("prestart", Signal::TERM), ("createContainer", Signal::INT), ("startContainer", Signal::HUP)]
    {
        let bundle = bundle("tired");
        let hook = shell(&bundle, kind, "echo up > $1/up; exec sleep 1000");
        let bundle = with(bundle, &[(kind, hook)]);
        let before = Snapshot::take(&bundle);
        let container = bundle.container(&Runtime::under_test());
        let run = container.command(&["run", "--bundle", "BUNDLE", "ID"]).spawn();
        let end = Instant::now() + LIMIT;
        while !bundle.dir().join("seen/up").exists() {
            assert!(Instant::now() < end, "the hook does not come up");
        }
        run.signal(signal);
        let output = run.wait();
        complains(&output, &format!("signal {}", signal.as_raw()));
        before.assert_same();
    }
}

/// `delete --force` after a kill in the middle of a hook: nothing is left, and those of poststop are run.
#[test]
fn root_a_runtime_killed_within_a_hook_leaves_what_delete_finds() {
    needs!(Root, Busybox);
    for kind in KINDS {
        let bundle = bundle("killed");
        let hang = shell(&bundle, kind, "echo up >> $1/up; test -e $1/second && exit; exec sleep 1000");
        let stop = shell(&bundle, "poststop", "echo $2 >> $1/order");
        let bundle = with(bundle, &[(kind, hang), ("poststop", stop)]);
        let before = Snapshot::take(&bundle);
        let container = bundle.container(&Runtime::under_test());
        let words: &[&str] = match kind {
            "startContainer" | "poststart" => {
                container.create().success();
                &["start", "ID"]
            }
            "poststop" => {
                container.create().success();
                &["delete", "ID"]
            }
            _ => &["create", "--bundle", "BUNDLE", "ID"],
        };
        let process = container.command(words).spawn();
        let end = Instant::now() + LIMIT;
        while !bundle.dir().join("seen/up").exists() {
            assert!(Instant::now() < end, "{kind} does not come up");
        }
        process.signal(Signal::KILL);
        process.wait().code(128 + 9);
        fs::write(bundle.dir().join("seen/second"), "").expect("say that it is the second time");
        container.delete_force().success();
        assert_eq!(order(&bundle), ["poststop"], "{kind}");
        before.assert_same();
    }
}

/// Hooks may ask us for what waits for the lock: it is not held while those of poststart run.
#[test]
fn root_a_poststart_hook_may_call_the_runtime() {
    needs!(Root, Busybox);
    let runtime = Runtime::under_test();
    for words in [&["start"][..], &["run", "--detach"]] {
        let bundle = bundle("calls");
        let line = format!(
            "{} --root {} exec {} touch /seen/inside",
            runtime.program().display(),
            bundle.state_root().display(),
            bundle.id()
        );
        let hook = shell(&bundle, "poststart", &line);
        let bundle = with(bundle, &[("poststart", hook)]);
        let container = bundle.container(&runtime);
        if words == ["start"] {
            container.create().success();
            container.start().success();
        } else {
            container.call(&["run", "--detach", "--bundle", "BUNDLE", "ID"]).success();
        }
        assert!(bundle.dir().join("seen/inside").exists());
        container.delete_force().success();
    }
}

/// A container that joins others' pid namespace: hooks of the runtime are not born in it.
#[test]
fn root_hooks_stay_out_of_a_joined_pid_namespace() {
    needs!(Root, Busybox);
    let runtime = Runtime::under_test();
    let first = Bundle::new("first").args(&["/bin/sleep", "1000"]);
    let pause = first.container(&runtime);
    pause.create().success();
    let path = format!("/proc/{}/ns/pid", pause.pid().expect("it waits"));
    let bundle = witnessed(bundle("joined"));
    let bundle = bundle.edit(|config| {
        config["linux"]["namespaces"][0] = json!({"type": "pid", "path": path});
    });
    let before = Snapshot::take(&bundle);
    let container = bundle.container(&runtime);
    container.create().success();
    container.start().success();
    let pid = container.pid().expect("it runs");
    container.delete_force().success();
    let outside = namespaces("self");
    for kind in ["prestart", "createRuntime", "poststart", "poststop"] {
        assert_eq!(seen(&bundle, &format!("{kind}.ns")), outside, "{kind}");
    }
    let state = |kind: &str| -> Value {
        serde_json::from_str(&seen(&bundle, &format!("{kind}.state"))).expect("a state")
    };
    assert_eq!(state("prestart")["pid"], pid);
    let inner = state("createContainer")["pid"].as_i64().expect("a pid");
    assert!(inner > 1 && inner != i64::from(pid), "{inner} as the joined namespace counts, {pid} here");
    assert_eq!(state("startContainer")["pid"], inner);
    before.assert_same();
    pause.delete_force().success();
}

/// With a user namespace, those of the container are the container's root, and no other.
#[test]
fn root_hooks_of_the_container_are_in_its_user_namespace() {
    needs!(Root, Busybox);
    let bundle = bundle("mapped");
    fs::set_permissions(bundle.dir().join("seen"), fs::Permissions::from_mode(0o777)).expect("a mode");
    // Its root is nobody to the bundle.
    fs::create_dir(bundle.rootfs().join("seen")).expect("a place for the mount");
    let hooks: Vec<_> =
        KINDS.map(|kind| (kind, shell(&bundle, kind, "/bin/busybox cat /proc/self/uid_map > $1/$2"))).into();
    let bundle = with(bundle, &hooks).edit(|config| {
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
        config["linux"]["uidMappings"] = map.clone();
        config["linux"]["gidMappings"] = map;
        config["linux"]["namespaces"].as_array_mut().expect("a list").push(json!({"type": "user"}));
    });
    let before = Snapshot::take(&bundle);
    let container = bundle.container(&Runtime::under_test());
    container.create().success();
    container.start().success();
    container.delete_force().success();
    for kind in KINDS {
        let shown: Vec<u64> =
            seen(&bundle, kind).split_whitespace().map(|word| word.parse().expect("a number")).collect();
        let expected = if kind.ends_with("Container") { [0, 100_000, 65_536] } else { [0, 0, 4_294_967_295] };
        assert_eq!(shown, expected, "{kind}");
    }
    before.assert_same();
}

/// A failing hook is found out within its time, not after somebody's patience.
#[test]
fn root_hooks_take_no_time_of_their_own() {
    needs!(Root, Busybox);
    let bundle = bundle("quick").args(&["/bin/true"]);
    let hooks: Vec<_> = KINDS.map(|kind| (kind, json!({"path": "/bin/true", "timeout": 1000}))).into();
    let bundle = with(bundle, &hooks);
    let begun = Instant::now();
    bundle.container(&Runtime::under_test()).run().success();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}
