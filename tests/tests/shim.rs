//! The shim's contract, asked by a test that plays containerd: answers of `start`, the rules of each state, the order of events.
//!
//! All of it holds for containerd's own shim as well; where ours promises more, the test says so.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use containerd_shim_protos::api::{CreateTaskResponse, Empty, StateRequest, StateResponse};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::shim::oci::ProcessDetails;
use rustix::process::Signal;
use serde_json::{Value, json};
use tests::containerd::signal;
use tests::player::{mount, options, refused};
use tests::{
    Bundle, Call, Fifo, Groups, LIMIT, Player, Refused, Runtime, Service, Shim, Streams, figure, gone_within,
    needs, patience,
};

/// Runs until it is killed.
const STAYS: &str = "exec sleep 1000";

/// gRPC's numbers.
const UNKNOWN: i32 = 2;
const INVALID: i32 = 3;
const NOT_FOUND: i32 = 5;
const EXISTS: i32 = 6;
const STATE: i32 = 9;
const ABORTED: i32 = 10;
const UNIMPLEMENTED: i32 = 12;

fn player(name: &str) -> Player {
    Player::new(&Shim::under_test(), name)
}

fn number(pid: u32) -> i32 {
    i32::try_from(pid).expect("a pid")
}

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).expect("it lives").count()
}

/// KiB that a process has in memory.
fn resident(pid: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn sha256(words: &str) -> String {
    let mut child = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("run sha256sum");
    child.stdin.take().expect("a pipe").write_all(words.as_bytes()).expect("say it");
    let told = child.wait_with_output().expect("it ends").stdout;
    String::from_utf8_lossy(&told[..64]).into_owned()
}

#[test]
fn root_shim_start_answers_every_containerd() {
    needs!(Root, Busybox, Shim);
    let shim = Shim::under_test();
    for call in [Call::Old, Call::Middle, Call::Bootstrap] {
        if shim.is_stock() && call != Call::Middle {
            // Each of those speaks to the containerd of its age alone.
            continue;
        }
        let player = Player::playing(&shim, "shim-start", call);
        let group = json!({"io.kubernetes.cri.sandbox-id": "pod"});
        let first = player.place_with(STAYS, |config| config["annotations"] = group.clone());
        let second = player.place_with(STAYS, |config| config["annotations"] = group);
        let answer = player.start_with(&first, None);
        let address = answer.read(call);
        if call == Call::Bootstrap {
            let result = answer.result();
            assert_eq!((result.version, result.protocol.as_str()), (3, "ttrpc"), "{result}");
        }
        let salt = format!("{}/{}/pod", player.address(), player.namespace());
        assert_eq!(address, format!("unix:///run/containerd/s/{}", sha256(&salt)));
        let socket = player.apart().path(address.trim_start_matches("unix://"));
        assert_eq!(socket.metadata().expect("it listens").permissions().mode() & 0o777, 0o600);
        assert_eq!(player.start_with(&second, None).said, answer.said, "a pod has one shim");
        if !shim.is_stock() {
            // By this file the containerds of 1.6 and 1.7 find a shim again.
            let kept =
                |place: &tests::Place| fs::read(place.dir.join("address")).expect("the address is kept");
            assert_eq!(kept(&first), kept(&second));
            assert!(call == Call::Bootstrap || kept(&first) == answer.said, "as it was answered");
        }

        if call == Call::Middle && !shim.is_stock() {
            // The one answer that 1.7 and 2.0 both take, bare or in JSON.
            let told: Value = serde_json::from_slice(&answer.said).unwrap_or(json!({"version": 2}));
            assert_eq!(told["version"], 2);
        }
        let service = player.start(&second);
        assert_eq!(service.address, address);
        let who = service.who("nobody");
        assert_eq!(who.task_pid, 0);
        let proc = Path::new("/proc").join(who.shim_pid.to_string());
        for stream in ["0", "1"] {
            assert_eq!(proc.join("fd").join(stream).read_link().expect("a stream"), Path::new("/dev/null"));
        }
        assert_eq!(proc.join("cwd").read_link().expect("a directory"), first.dir);
        let stat = fs::read_to_string(proc.join("stat")).expect("it lives");
        let group = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(2)).expect("a group");
        assert_eq!(group, who.shim_pid.to_string(), "it leads a process group");
        let score = |pid: &str| -> i32 {
            let told = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("a score");
            told.trim().parse().expect("a number")
        };
        assert_eq!(score(&who.shim_pid.to_string()), (score("self") + 1).min(1000));
        if !shim.is_stock() {
            // One service by both of its names, on one socket.
            let other = player.connect(&address, "containerd.task.v3.Task");
            assert_eq!(other.who("nobody").shim_pid, who.shim_pid);
        }
        let sandbox = player.connect(&address, "containerd.runtime.sandbox.v1.Sandbox");
        let none: Result<Empty, Refused> = sandbox.call("CreateSandbox", &Empty::new());
        assert_eq!(none.expect_err("there is no such service").code, UNIMPLEMENTED);
        drop(sandbox);
        player.close(service, &[&first, &second]);
        assert!(!socket.exists(), "it takes its socket with it");
    }
}

/// What stands in the way of a `start`: a socket that nobody listens at any more, and another `start` at the same time.
#[test]
fn root_shim_start_takes_over() {
    needs!(Root, Busybox, Shim);
    let player = player("shim-over");
    let place = player.place(STAYS);
    let service = player.start(&place);
    signal(number(service.who("").shim_pid), Signal::KILL);
    assert!(service.ended());
    let again = player.start(&place);
    assert_eq!(again.address, service.address);
    player.close(again, &[&place]);

    let annotate = |config: &mut Value| config["annotations"] = json!({"io.containerd.runc.v2.group": "g"});
    let places: Vec<_> = (0..8).map(|_| player.place_with(STAYS, annotate)).collect();
    if Shim::under_test().is_stock() {
        // Two of these at once may each unlink the other's socket there.
        return;
    }
    let addresses: Vec<String> = std::thread::scope(|scope| {
        let player = &player;
        let address = |place| player.start_with(place, None).read(Call::Middle);
        let starts: Vec<_> = places.iter().map(|place| scope.spawn(move || address(place))).collect();
        starts.into_iter().map(|start| start.join().expect("it starts")).collect()
    });
    assert!(addresses.iter().all(|address| *address == addresses[0]), "{addresses:?}");
    let service = player.connect(&addresses[0], tests::player::TASKS);
    let running = tests::containerd::processes_of(player.namespace(), Shim::under_test().file_name());
    assert_eq!(running, [number(service.who("").shim_pid)], "one of eight stays");
    player.close(service, &places.iter().collect::<Vec<_>>());
}

#[test]
fn root_shim_actions_on_the_command_line() {
    needs!(Root, Busybox, Shim);
    let player = player("shim-words");
    let place = player.place(STAYS);
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    let version = player.act(&place, &words(&["-v"]), &[]);
    assert!(version.code == 0 && !version.said.is_empty(), "{version:?}");
    let wrong = player.act(&place, &words(&["-no-such-flag"]), &[]);
    assert!(wrong.code != 0 && !wrong.complaint.is_empty(), "{wrong:?}");
    let nameless = player.act(&place, &words(&["-id", "x", "start"]), &[]);
    assert!(nameless.code != 0, "a namespace is mandatory: {nameless:?}");
    if !Shim::under_test().is_stock() {
        let info = player.act(&place, &words(&["-info"]), &[]);
        let told =
            containerd_shim_protos::types::introspection::RuntimeInfo::parse_from_bytes(&info.success().said)
                .expect("a RuntimeInfo");
        let features = told.features.get_or_default();
        assert_eq!(features.type_url, "types.containerd.io/opencontainers/runtime-spec/1/features/Features");
        let features: Value = serde_json::from_slice(&features.value).expect("features are JSON");
        let namespaces = features["linux"]["namespaces"].as_array().expect("a list");
        assert!(namespaces.contains(&json!("user")), "{features}");
        assert!(
            features["mountOptions"].as_array().is_some_and(|all| all.contains(&json!("rro"))),
            "{features}"
        );
        assert_eq!(features["linux"]["mountExtensions"]["idmap"]["enabled"], true, "{features}");
        // Nothing was ever made: there is nothing to remove, and that is no error.
        let deleted = player.delete(&place).deletion();
        assert_eq!((deleted.pid, deleted.exit_status), (0, 137));
        assert!(deleted.exited_at.is_some());
    }
}

#[test]
fn root_shim_tells_one_life() {
    needs!(Root, Busybox, Shim);
    let player = player("shim-life");
    let place = player.place("echo out; echo err >&2; exit 7");
    let (out, err) = (Fifo::new(&place.dir, "out"), Fifo::new(&place.dir, "err"));
    let (mut outs, mut errs) = (out.reader(), err.reader());
    let path = |fifo: &Fifo| fifo.path().display().to_string();
    let streams = Streams { stdout: path(&out), stderr: path(&err), ..Streams::none() };
    let service = player.start(&place);
    let pid = service.create(&place, &streams).expect("create");
    assert!(Path::new("/proc").join(pid.to_string()).exists(), "init waits");
    assert_eq!(fs::read_to_string(place.dir.join("init.pid")).expect("it is written"), pid.to_string());
    assert_eq!(service.who(&place.id).task_pid, pid);
    let state = service.state(&place.id, "").expect("state");
    assert_eq!(
        (state.id.as_str(), state.bundle.as_str()),
        (place.id.as_str(), place.dir.to_str().expect("ASCII"))
    );
    assert_eq!((state.stdout, state.stderr, state.pid), (path(&out), path(&err), pid));
    assert_eq!(service.status(&place.id, ""), "CREATED");
    let waiting = service.wait(&place.id, "");
    assert_eq!(service.start(&place.id, "").expect("start"), pid);
    let exit = waiting.get().expect("wait");
    assert_eq!(exit.exit_status, 7);
    assert_eq!(outs.rest_within(LIMIT), "out\n");
    assert_eq!(errs.rest_within(LIMIT), "err\n");
    assert_eq!(service.status(&place.id, ""), "STOPPED");
    let state = service.state(&place.id, "").expect("state");
    assert_eq!((state.exit_status, state.pid), (7, pid));
    assert_eq!(service.pids(&place.id).expect("pids").processes.len(), 0);
    let again = service.wait(&place.id, "").get().expect("wait once more");
    let deleted = service.delete(&place.id, "").expect("delete");
    assert_eq!((deleted.exit_status, deleted.pid), (7, pid));
    let told = player.publisher.await_one(&place.id, "delete");
    let exited = player.publisher.await_one(&place.id, "exit");
    for at in [&exit.exited_at, &again.exited_at, &state.exited_at, &deleted.exited_at] {
        assert_eq!(at.as_ref(), exited.exited_at.as_ref(), "one end has one time");
    }
    assert_eq!((told.status, told.pid, &told.exited_at), (7, pid, &exited.exited_at));
    assert_eq!(player.publisher.topics(&place.id), ["create", "start", "exit", "delete"]);
    let created = player.publisher.await_one(&place.id, "create");
    assert_eq!(created.told, [place.dir.display().to_string(), path(&out)]);
    assert!(player.publisher.events().iter().all(|event| event.namespace == player.namespace()));
    assert_eq!(player.publisher.disorder(), [""; 0]);
    player.close(service, &[&place]);
}

/// What may be asked in which state, one after the other, by the code of the answer; 0 is yes.
#[rustfmt::skip]
const RULES: &[(&str, &[(&str, i32)])] = &[
    ("created", &[
        ("create", EXISTS), ("pause", STATE), ("resume", STATE), ("exec", 0), ("update", 0), ("kill 0", 0),
        ("delete", 0),
    ]),
    ("created", &[("checkpoint", UNIMPLEMENTED), ("kill 9", 0)]),
    ("running", &[
        ("create", EXISTS), ("start", STATE), ("resume", STATE), ("delete", STATE), ("exec", 0), ("update", 0),
        ("pids", 0), ("stats", 0), ("kill 0", 0), ("kill 999", INVALID), ("checkpoint", UNIMPLEMENTED), ("pause", 0),
    ]),
    ("paused", &[
        ("start", STATE), ("pause", STATE), ("exec", STATE), ("delete", STATE), ("update", 0), ("stats", 0),
        ("resume", 0),
    ]),
    ("stopped", &[
        ("kill 15", NOT_FOUND), ("kill 9", NOT_FOUND), ("start", STATE), ("pause", STATE), ("resume", STATE),
        ("exec", STATE), ("pids", 0), ("wait", 0), ("delete", 0),
    ]),
    ("deleted", &[
        ("state", NOT_FOUND), ("kill 9", NOT_FOUND), ("delete", NOT_FOUND), ("start", NOT_FOUND), ("exec", NOT_FOUND),
        ("pids", NOT_FOUND), ("stats", NOT_FOUND), ("pause", NOT_FOUND), ("wait", NOT_FOUND), ("update", NOT_FOUND),
    ]),
];

#[test]
fn root_shim_rules_of_each_state() {
    needs!(Root, Busybox, Shim, Freezer);
    let player = player("shim-rules");
    for (state, rules) in RULES {
        let place = player.place(STAYS);
        let service = player.start(&place);
        bring(&service, &place, state);
        for (wish, code) in *rules {
            let what = format!("{wish} when {state}");
            let answer = ask(&service, &place, wish);
            if *code == 0 {
                answer.unwrap_or_else(|refused| panic!("{what}: {refused:?}"));
            } else if !(Shim::under_test().is_stock() && *wish == "checkpoint") {
                refused(answer, *code, &what);
            }
        }
        if service.state(&place.id, "").is_ok() {
            player.finish(&service, &place);
        }
        player.close(service, &[&place]);
        if !Shim::under_test().is_stock() {
            // Of what was only created that tells the deletion before the end.
            assert_eq!(player.publisher.disorder(), [""; 0]);
        }
    }
}

/// Makes a task and brings it into this state.
fn bring(service: &Service, place: &tests::Place, state: &str) {
    let id = &place.id;
    service.create(place, &Streams::none()).expect("create");
    if state == "created" {
        return;
    }
    service.start(id, "").expect("start");
    match state {
        "paused" => service.pause(id).expect("pause"),
        "stopped" | "deleted" => {
            service.kill(id, "", 9, false).expect("kill");
            assert_eq!(service.wait(id, "").get().expect("wait").exit_status, 137);
            if state == "deleted" {
                service.delete(id, "").expect("delete");
            }
        }
        _ => {}
    }
}

fn ask(service: &Service, place: &tests::Place, wish: &str) -> Result<(), Refused> {
    let id = &place.id;
    match wish.split_once(' ').unwrap_or((wish, "")) {
        ("create", _) => service.create(place, &Streams::none()).map(drop),
        ("start", _) => service.start(id, "").map(drop),
        ("state", _) => service.state(id, "").map(drop),
        ("pause", _) => service.pause(id),
        ("resume", _) => service.resume(id),
        ("exec", _) => service.exec(id, "e1", "true", &Streams::none()),
        ("update", _) => service.update(id, &json!({"cpu": {"shares": 512}})),
        ("pids", _) => service.pids(id).map(drop),
        ("stats", _) => service.stats(id).map(drop),
        ("wait", _) => service.wait(id, "").get().map(drop),
        ("checkpoint", _) => service.checkpoint(id, &place.dir.join("checkpoint")),
        ("delete", _) => service.delete(id, "").map(drop),
        ("kill", number) => service.kill(id, "", number.parse().expect("a number"), false),
        (other, _) => panic!("no such wish: {other}"),
    }
}

#[test]
fn root_shim_execs() {
    needs!(Root, Busybox, Shim);
    let player = player("shim-execs");
    let place = player.place(STAYS);
    let id = &place.id;
    let service = player.start(&place);
    let none = Streams::none();
    service.run(&place, &none);
    service.exec(id, "a", "exit 5", &none).expect("exec");
    refused(service.exec(id, "a", "exit 6", &none), EXISTS, "an id that is taken");
    refused(service.start(id, "b"), NOT_FOUND, "an exec that nobody added");
    refused(service.kill(id, "b", 9, false), NOT_FOUND, "an exec that nobody added");
    refused(service.delete(id, "b"), NOT_FOUND, "an exec that nobody added");
    refused(service.state(id, "b"), NOT_FOUND, "an exec that nobody added");
    assert_eq!(service.status(id, "a"), "CREATED");
    if !Shim::under_test().is_stock() {
        refused(service.kill(id, "a", 9, false), STATE, "an exec that was not started");
    }
    let pid = service.start(id, "a").expect("start");
    let exit = service.wait(id, "a").get().expect("wait");
    assert_eq!(exit.exit_status, 5);
    refused(service.kill(id, "a", 9, false), NOT_FOUND, "an exec that has ended");
    refused(service.start(id, "a"), STATE, "an exec that has ended");
    assert_eq!(service.status(id, "a"), "STOPPED");
    let state = service.state(id, "a").expect("state");
    assert_eq!((state.id.as_str(), state.pid, state.exit_status), ("a", pid, 5));
    let deleted = service.delete(id, "a").expect("delete");
    assert_eq!((deleted.pid, deleted.exit_status, &deleted.exited_at), (pid, 5, &exit.exited_at));
    refused(service.delete(id, "a"), NOT_FOUND, "deleted once");

    // The id is free again, and a program that is not there is said so by its start.
    let missing = json!(["/no/such/program"]);
    service.execing(id, "a", &missing, &none).get().expect("exec");
    let said = refused(service.start(id, "a"), NOT_FOUND_OR_UNKNOWN, "there is no such program");
    assert!(said.contains("no such file") || said.contains("No such file"), "{said}");
    service.wait(id, "a").get().expect("what never started has ended");
    service.delete(id, "a").expect("delete");

    service.exec(id, "long", STAYS, &none).expect("exec");
    let long = service.start(id, "long").expect("start");
    refused(service.delete(id, "long"), STATE, "it runs");
    let pids = service.pids(id).expect("pids").processes;
    let told = pids.iter().find(|process| process.pid == long).expect("it is listed");
    let details = told.info.as_ref().expect("an exec is told by its id");
    assert!(details.type_url.ends_with("containerd.runc.v1.ProcessDetails"), "{details}");
    assert_eq!(ProcessDetails::parse_from_bytes(&details.value).expect("details").exec_id, "long");
    service.kill(id, "long", 15, true).expect("`all` is nothing to an exec");
    assert_eq!(service.wait(id, "long").get().expect("wait").exit_status, 143);
    assert_eq!(service.status(id, ""), "RUNNING");
    // One that nobody deletes goes with its container.
    service.exec(id, "never", "true", &none).expect("exec");
    service.kill(id, "", 9, false).expect("kill");
    service.wait(id, "").get().expect("wait");
    refused(service.start(id, "never"), STATE, "there is no container to be in");
    service.delete(id, "").expect("delete");
    player.publisher.await_one(id, "delete");
    let wanted = [
        "create",
        "start",
        "exec-added:a",
        "exec-started:a",
        "exit:a",
        "exec-added:a",
        "exec-added:long",
        "exec-started:long",
        "exit:long",
        "exec-added:never",
        "exit",
        "delete",
    ];
    assert_eq!(player.publisher.topics(id), wanted, "and no deletion of an exec is ever told");
    player.close(service, &[&place]);
}

/// Either is what users of an exec expect.
const NOT_FOUND_OR_UNKNOWN: i32 = UNKNOWN;

#[test]
fn root_shim_create_fails_and_leaves_nothing() {
    needs!(Root, Busybox, Shim);
    let player = player("shim-fails");
    let missing = player.place_with(STAYS, |config| config["process"]["args"] = json!(["/no/such/program"]));
    let service = player.start(&missing);
    let none = Streams::none();
    let said = if let Err(refused) = service.create(&missing, &none) {
        refused.message
    } else {
        let said = service.start(&missing.id, "").expect_err("there is no such program").message;
        player.finish(&service, &missing);
        said
    };
    assert!(said.contains("no such file") || said.contains("No such file"), "{said}");
    assert!(!player.publisher.topics(&missing.id).contains(&"start".to_owned()));

    let mounts = player.place(STAYS);
    let mut request = service.creation(&mounts, &none);
    request.rootfs.push(mount("bind", &player.rootfs(), &["rbind", "ro"]));
    request.rootfs.push(mount("bind", Path::new("/no/such/source"), &["rbind"]));
    let answer: Result<CreateTaskResponse, _> = service.call("Create", &request);
    answer.expect_err("there is no such source");
    assert_eq!(player.apart().left().iter().filter(|left| left.starts_with("mount")).count(), 0);
    let twice: Result<CreateTaskResponse, _> = service.call("Create", &request);
    assert_ne!(twice.expect_err("nor now").code, EXISTS, "an id that failed is free");
    assert_eq!(player.publisher.topics(&mounts.id), [""; 0]);

    let named = player.place(STAYS);
    let mut request = service.creation(&named, &none);
    request.options = MessageField::some(options(|options| options.binary_name = "no-runc".into()));
    let answer: Result<CreateTaskResponse, _> = service.call("Create", &request);
    let said = refused(answer, INVALID, "there is no such runtime");
    assert!(said.contains("\"no-runc\""), "{said}");
    if !Shim::under_test().is_stock() {
        let mut any = Any::new();
        any.type_url = "example.com/Unheard".into();
        any.value = vec![8, 1];
        request.options = MessageField::some(any);
        let answer: Result<CreateTaskResponse, _> = service.call("Create", &request);
        refused(answer, INVALID, "options of a kind that nobody knows");
    }
    player.close(service, &[&missing, &mounts, &named]);
}

/// The root file system as containerd hands it over: mounts, which the shim makes and takes away.
#[test]
fn root_shim_mounts_the_root() {
    needs!(Root, Busybox, Shim);
    let player = player("shim-root");
    let place = player.place_with("cat /note; echo more > /note && cat /note; exit 3", |config| {
        config["root"] = json!({"path": "rootfs", "readonly": false});
    });
    for dir in ["upper", "work-dir"] {
        fs::create_dir(place.dir.join(dir)).expect("make a layer");
    }
    fs::write(place.dir.join("upper/note"), "less\n").expect("write a note");
    let service = player.start(&place);
    let out = Fifo::new(&place.dir, "out");
    let mut outs = out.reader();
    let mut request = service.creation(&place, &Streams::out(out.path()));
    let layer = |name: &str, dir: &Path| format!("{name}={}", dir.display());
    let layers = [
        layer("lowerdir", &player.rootfs()),
        layer("upperdir", &place.dir.join("upper")),
        layer("workdir", &place.dir.join("work-dir")),
    ];
    request.rootfs.push(mount("overlay", Path::new("overlay"), &layers.each_ref().map(String::as_str)));
    request.options = MessageField::some(options(|_| ()));
    let made: CreateTaskResponse = service.call("Create", &request).expect("create");
    assert!(player.apart().left().iter().any(|left| left.ends_with("rootfs")), "it is mounted");
    assert_eq!(service.start(&place.id, "").expect("start"), made.pid);
    assert_eq!(service.wait(&place.id, "").get().expect("wait").exit_status, 3);
    assert_eq!(outs.rest_within(LIMIT), "less\nmore\n");
    service.delete(&place.id, "").expect("delete");
    assert_eq!(player.apart().left().iter().filter(|left| left.starts_with("mount")).count(), 0);
    player.close(service, &[&place]);
}

#[test]
fn root_shim_kills_what_was_only_created() {
    needs!(Root, Busybox, Shim);
    let player = player("shim-created");
    let place = player.place(STAYS);
    let service = player.start(&place);
    let pid = service.create(&place, &Streams::none()).expect("create");
    let waiting = service.wait(&place.id, "");
    service.kill(&place.id, "", 9, false).expect("kill");
    assert_eq!(waiting.get().expect("wait").exit_status, 137);
    assert!(gone_within(number(pid), LIMIT));
    let exit = player.publisher.await_one(&place.id, "exit");
    assert_eq!((exit.status, exit.pid), (137, pid));
    refused(service.start(&place.id, ""), STATE, "it has ended");
    service.delete(&place.id, "").expect("delete");
    player.publisher.await_one(&place.id, "delete");
    assert_eq!(player.publisher.topics(&place.id), ["create", "exit", "delete"]);
    player.close(service, &[&place]);
}

/// Without a pid namespace nobody but the shim ends what init leaves behind.
#[test]
fn root_shim_ends_everybody_where_pids_are_the_hosts() {
    needs!(Root, Busybox, Shim);
    let player = player("shim-hostpid");
    let place = player.place_with("sleep 1000 & echo $!; exec sleep 1000", |config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().expect("a list");
        namespaces.retain(|one| one["type"] != "pid");
    });
    let out = Fifo::new(&place.dir, "out");
    let mut outs = out.reader();
    let service = player.start(&place);
    let init = service.run(&place, &Streams::out(out.path()));
    let other: i32 = outs.next_within(LIMIT).expect("it tells").parse().expect("a pid");
    let mut pids: Vec<u32> =
        service.pids(&place.id).expect("pids").processes.iter().map(|process| process.pid).collect();
    pids.sort_unstable();
    let mut wanted = vec![init, u32::try_from(other).expect("a pid")];
    wanted.sort_unstable();
    assert_eq!(pids, wanted);
    service.exec(&place.id, "e", STAYS, &Streams::none()).expect("exec");
    service.start(&place.id, "e").expect("start");
    service.kill(&place.id, "", 15, false).expect("kill");
    assert_eq!(service.wait(&place.id, "").get().expect("wait").exit_status, 143);
    player.publisher.await_one(&place.id, "exit");
    assert!(gone_within(other, LIMIT), "it goes with init");
    player.publisher.await_one(&place.id, "exit:e");
    service.delete(&place.id, "").expect("delete");
    if !Shim::under_test().is_of_16() {
        assert_eq!(player.publisher.disorder(), [""; 0], "execs end before their container");
    }
    player.close(service, &[&place]);
}

/// A hundred programs that have ended before anybody could say that they started.
#[test]
fn root_shim_starts_are_told_before_ends() {
    needs!(Root, Busybox, Shim);
    let player = player("shim-quick");
    let place = player.place(STAYS);
    let id = &place.id;
    let service = player.start(&place);
    let none = Streams::none();
    service.run(&place, &none);
    // The one of 1.6 gives each end a second to be heard by every start that is under way.
    let count: usize = if Shim::under_test().is_stock() { 16 } else { 100 };
    let execs: Vec<String> = (0..count).map(|number| format!("e{number}")).collect();
    let added: Vec<_> =
        execs.iter().map(|exec| service.execing(id, exec, &json!(["/bin/true"]), &none)).collect();
    for added in added {
        added.get().expect("exec");
    }
    let waits: Vec<_> = execs.iter().map(|exec| service.wait(id, exec)).collect();
    let starts: Vec<_> = execs.iter().map(|exec| service.starting(id, exec)).collect();
    let pids: Vec<u32> = starts.into_iter().map(|start| start.get().expect("start").pid).collect();
    for wait in waits {
        assert_eq!(wait.get().expect("wait").exit_status, 0);
    }
    player.publisher.await_many(count, LIMIT * 2, |event| event.topic == "/tasks/exit");
    for (exec, pid) in execs.iter().zip(&pids) {
        assert_eq!(player.publisher.await_one(id, &format!("exec-started:{exec}")).pid, *pid);
        assert_eq!(player.publisher.await_one(id, &format!("exit:{exec}")).pid, *pid);
        service.delete(id, exec).expect("delete");
    }
    assert_eq!(player.publisher.disorder(), [""; 0]);
    // And inits, each with a shim that is its own group's.
    for _ in 0..5 {
        let quick = player.place_with("exit 0", |config| config["process"]["args"] = json!(["/bin/true"]));
        service.run(&quick, &none);
        service.wait(&quick.id, "").get().expect("wait");
        service.delete(&quick.id, "").expect("delete");
        player.publisher.await_one(&quick.id, "delete");
        assert_eq!(player.publisher.topics(&quick.id), ["create", "start", "exit", "delete"]);
    }
    player.finish(&service, &place);
    player.close(service, &[&place]);
}

/// Fifty execs start while init is killed: whoever started ends before init does, and whoever did not is refused.
#[test]
fn root_shim_execs_race_with_the_end() {
    needs!(Root, Busybox, Shim);
    let player = player("shim-race");
    let none = Streams::none();
    for round in 0..4 {
        let place = player.place(STAYS);
        let id = &place.id;
        let service = player.start(&place);
        service.run(&place, &none);
        let execs: Vec<String> = (0..50).map(|number| format!("e{number}")).collect();
        for exec in &execs {
            service.exec(id, exec, STAYS, &none).expect("exec");
        }
        let starts: Vec<_> = execs.iter().map(|exec| service.starting(id, exec)).collect();
        // Somewhere in the middle, and elsewhere each time.
        player.publisher.await_many(5 + 10 * round, LIMIT, |event| {
            event.container == *id && event.topic == "/tasks/exec-started"
        });
        service.kill(id, "", 9, false).expect("kill");
        assert_eq!(service.wait(id, "").get().expect("wait").exit_status, 137);
        let mut started = 0;
        for (start, exec) in starts.into_iter().zip(&execs) {
            let answer = start.get();
            service.wait(id, exec).get().expect("either way it has ended");
            started += usize::from(answer.is_ok());
            service.delete(id, exec).expect("delete");
        }
        service.delete(id, "").expect("delete");
        player.publisher.await_one(id, "delete");
        let topics = player.publisher.topics(id);
        let count = |topic: &str| topics.iter().filter(|told| told.starts_with(topic)).count();
        assert_eq!(count("exec-started:"), started, "round {round}: {topics:?}");
        assert_eq!(count("exit:"), started, "round {round}: {topics:?}");
        if !Shim::under_test().is_of_16() {
            assert_eq!(player.publisher.disorder(), [""; 0], "round {round}");
        }
        player.close(service, &[&place]);
    }
}

/// So few pids go round that every number comes again: no end is taken for another's.
#[test]
fn root_shim_pids_come_again() {
    needs!(Root, Busybox, Shim);
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("a release");
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    if (numbers.next(), numbers.next()) < (Some(6), Some(14)) {
        return tests::skipped("before 6.14 kernel.pid_max is the host's");
    }
    if Shim::under_test().is_stock() {
        // That of 2.1 tells the end of another here, or of nobody: containerd's issue 13049.
        return;
    }
    let player = Player::with_few_pids(&Shim::under_test(), "shim-reuse", 400);
    let place = player.place(STAYS);
    let id = &place.id;
    let service = player.start(&place);
    let none = Streams::none();
    service.run(&place, &none);
    let mut seen = std::collections::BTreeMap::new();
    for round in 0..40_u32 {
        let execs: Vec<String> = (0..8).map(|number| format!("r{round}e{number}")).collect();
        let status = |number: usize| u32::try_from(number + 1).expect("a status");
        for (number, exec) in execs.iter().enumerate() {
            service.exec(id, exec, &format!("exit {}", status(number)), &none).expect("exec");
        }
        let starts: Vec<_> = execs.iter().map(|exec| service.starting(id, exec)).collect();
        for start in starts {
            *seen.entry(start.get().expect("start").pid).or_insert(0) += 1;
        }
        for (number, exec) in execs.iter().enumerate() {
            assert_eq!(service.wait(id, exec).get().expect("wait").exit_status, status(number), "{exec}");
            assert_eq!(service.delete(id, exec).expect("delete").exit_status, status(number));
        }
    }
    let most = seen.values().max().copied().unwrap_or_default();
    assert!(most > 1, "no pid came again: {seen:?}");
    figure(&format!("320 execs had {} pids, one of them {most} times", seen.len()));
    assert_eq!(service.status(id, ""), "RUNNING");
    player.finish(&service, &place);
    player.publisher.await_one(id, "delete");
    assert_eq!(player.publisher.disorder(), [""; 0]);
    player.close(service, &[&place]);
}

/// A containerd that stands still hears everything, in order, when it goes on.
#[test]
fn root_shim_publishes_to_one_that_stood_still() {
    needs!(Root, Busybox, Shim);
    let player = player("shim-still");
    let place = player.place(STAYS);
    let id = &place.id;
    let service = player.start(&place);
    let none = Streams::none();
    service.run(&place, &none);
    player.publisher.await_one(id, "start");
    player.publisher.hold();
    let execs: Vec<String> = (0..20).map(|number| format!("e{number}")).collect();
    for exec in &execs {
        service.exec(id, exec, "exit 4", &none).expect("exec");
        service.start(id, exec).expect("nobody waits for containerd's ear");
        assert_eq!(service.wait(id, exec).get().expect("wait").exit_status, 4);
        service.delete(id, exec).expect("delete");
    }
    assert!(player.publisher.of(id).len() <= 3, "it stands still");
    player.publisher.release();
    player.publisher.await_many(20, LIMIT, |event| event.topic == "/tasks/exit");
    let told: Vec<String> = player.publisher.topics(id)[2..].to_vec();
    let kinds = |exec: &String| ["exec-added", "exec-started", "exit"].map(|kind| format!("{kind}:{exec}"));
    assert_eq!(told, execs.iter().flat_map(kinds).collect::<Vec<_>>());
    player.finish(&service, &place);
    player.close(service, &[&place]);
}

/// A containerd that was killed and comes back hears what happened meanwhile.
#[test]
fn root_shim_publishes_to_one_that_comes_back() {
    needs!(Root, Busybox, Shim);
    let mut player = player("shim-back");
    let place = player.place(STAYS);
    let id = place.id.clone();
    let service = player.start(&place);
    let none = Streams::none();
    service.run(&place, &none);
    player.publisher.await_one(&id, "start");
    player.publisher.goes_away();
    service.exec(&id, "e", "exit 4", &none).expect("exec");
    service.start(&id, "e").expect("start");
    assert_eq!(service.wait(&id, "e").get().expect("wait").exit_status, 4);
    service.kill(&id, "", 9, false).expect("kill");
    service.wait(&id, "").get().expect("wait");
    player.publisher.comes_back();
    player.publisher.await_many(1, LIMIT, |event| event.topic == "/tasks/exit" && event.exec.is_empty());
    player.publisher.await_one(&id, "exit:e");
    if !Shim::under_test().is_stock() {
        // What is sent again there, others overtake.
        assert_eq!(
            player.publisher.topics(&id),
            ["create", "start", "exec-added:e", "exec-started:e", "exit:e", "exit"]
        );
    }
    service.delete(&id, "").expect("delete");
    player.close(service, &[&place]);
}

#[test]
fn root_shim_input_ends_when_it_is_closed() {
    needs!(Root, Busybox, Shim);
    let player = player("shim-input");
    let place = player.place("cat; echo end; exit 2");
    let id = &place.id;
    let (input, out) = (Fifo::new(&place.dir, "in"), Fifo::new(&place.dir, "out"));
    let mut outs = out.reader();
    let streams = Streams { stdin: input.path().display().to_string(), ..Streams::out(out.path()) };
    let service = player.start(&place);
    // containerd's own waits for somebody who writes.
    let holder = Shim::under_test().is_stock().then(|| input.holder());
    service.create(&place, &streams).expect("create waits for nobody who writes");
    // Clients come and go; what the first said is there for the process that starts later.
    let mut writer = input.writer();
    tests::player::say(&mut writer, "one\n");
    drop(writer);
    service.start(id, "").expect("start");
    assert_eq!(outs.next_within(LIMIT).as_deref(), Some("one"));
    let mut writer = input.writer();
    drop(holder);
    tests::player::say(&mut writer, "two\n");
    assert_eq!(outs.next_within(LIMIT).as_deref(), Some("two"));
    service.close_io(id, "").expect("close");
    service.close_io(id, "").expect("close again");
    // Its own end is closed, the client's is not.
    tests::player::say(&mut writer, "three\n");
    assert_eq!(outs.next_within(LIMIT).as_deref(), Some("three"));
    assert_eq!(service.status(id, ""), "RUNNING");
    drop(writer);
    assert_eq!(outs.rest_within(LIMIT), "end\n");
    assert_eq!(service.wait(id, "").get().expect("wait").exit_status, 2);
    service.delete(id, "").expect("delete");

    if Shim::under_test().is_stock() {
        return player.close(service, &[&place]);
    }
    // Closed before it was started, and nobody ever wrote.
    let early = player.place("cat; exit 3");
    let input = Fifo::new(&early.dir, "in");
    let streams = Streams { stdin: input.path().display().to_string(), ..Streams::none() };
    service.create(&early, &streams).expect("create");
    service.close_io(&early.id, "").expect("close");
    service.start(&early.id, "").expect("start");
    assert_eq!(service.wait(&early.id, "").get().expect("wait").exit_status, 3);
    service.delete(&early.id, "").expect("delete");
    player.close(service, &[&place, &early]);
}

#[test]
fn root_shim_output_outlives_its_readers() {
    needs!(Root, Busybox, Shim);
    let player = player("shim-output");
    let place = player.place("while read -r word; do echo \"got $word\"; done; echo last");
    let id = &place.id;
    let (input, out) = (Fifo::new(&place.dir, "in"), Fifo::new(&place.dir, "out"));
    let streams = Streams { stdin: input.path().display().to_string(), ..Streams::out(out.path()) };
    let service = player.start(&place);
    let mut outs = out.reader();
    let holder = input.holder();
    service.run(&place, &streams);
    let mut writer = input.writer();
    drop(holder);
    let mut say = |words: &str| tests::player::say(&mut writer, words);
    say("one\n");
    assert_eq!(outs.next_within(LIMIT).as_deref(), Some("got one"));
    drop(outs);
    // Nobody reads; it is kept for whoever comes.
    say("two\n");
    say("three\n");
    let mut outs = out.reader();
    assert_eq!(outs.next_within(LIMIT).as_deref(), Some("got two"));
    assert_eq!(outs.next_within(LIMIT).as_deref(), Some("got three"));
    drop(writer);
    service.close_io(id, "").expect("close");
    assert_eq!(outs.rest_within(LIMIT), "last\n");
    service.wait(id, "").get().expect("wait");
    service.delete(id, "").expect("delete");

    // A plain file in a FIFO's place.
    let plain = player.place("echo appended; echo too >&2");
    let file = plain.dir.join("file");
    fs::write(&file, "before\n").expect("write a file");
    let both = file.display().to_string();
    let uri = Streams { stdout: both.clone(), stderr: both, ..Streams::none() };
    service.run(&plain, &uri);
    service.wait(&plain.id, "").get().expect("wait");
    service.delete(&plain.id, "").expect("delete");
    let written = fs::read_to_string(&file).expect("it is there");
    let mut written: Vec<&str> = written.lines().collect();
    written[1..].sort_unstable();
    if Shim::under_test().is_stock() {
        // It may close the file when the first of two streams has ended.
        assert_eq!(written[..2], ["before", "appended"]);
        return player.close(service, &[&place, &plain]);
    }

    assert_eq!(written, ["before", "appended", "too"]);

    // One that speaks before anybody has come to read, and of whom nobody wants to hear the errors.
    let late = player.place("echo early; echo error >&2; read -r word; exit 3");
    let (input, out) = (Fifo::new(&late.dir, "in"), Fifo::new(&late.dir, "out"));
    let path = |fifo: &Fifo| fifo.path().display().to_string();
    let streams = Streams { stdin: path(&input), stdout: path(&out), ..Streams::none() };
    service.run(&late, &streams);
    let mut outs = out.reader();
    assert_eq!(outs.next_within(LIMIT).as_deref(), Some("early"));
    service.close_io(&late.id, "").expect("close");
    assert_eq!(outs.rest_within(LIMIT), "");
    assert_eq!(service.wait(&late.id, "").get().expect("wait").exit_status, 3);
    service.delete(&late.id, "").expect("delete");

    // One that has ended before anybody comes: who comes reads it, as long as the task is there.
    let gone = player.place("echo before the end; exit 4");
    let out = Fifo::new(&gone.dir, "out");
    service.run(&gone, &Streams::out(out.path()));
    assert_eq!(service.wait(&gone.id, "").get().expect("wait").exit_status, 4);
    assert_eq!(out.reader().rest_within(LIMIT), "before the end\n");
    service.delete(&gone.id, "").expect("delete");
    player.close(service, &[&place, &plain, &late, &gone]);
}

#[test]
fn root_shim_terminal_loses_no_line() {
    needs!(Root, Busybox, Shim);
    let lines: u32 = if patience() > 1 { 20_000 } else { 1_000_000 };
    let player = player("shim-lines");
    let place = player.place(STAYS);
    let id = &place.id;
    let service = player.start(&place);
    service.run(&place, &Streams::none());
    let (input, out) = (Fifo::new(&place.dir, "in"), Fifo::new(&place.dir, "out"));
    let mut outs = out.reader();
    let streams = Streams::terminal(input.path(), out.path());
    service.exec(id, "e", &format!("stty -onlcr; seq {lines}"), &streams).expect("exec");
    let began = Instant::now();
    service.start(id, "e").expect("start");
    service.resize(id, "e", 80, 24).expect("resize");
    let told = outs.rest_within(LIMIT * 6);
    figure(&format!("{lines} lines through a terminal: {} ms", began.elapsed().as_millis()));
    assert_eq!(service.wait(id, "e").get().expect("wait").exit_status, 0);
    let mut count = 0;
    for (line, number) in told.lines().zip(1..=lines) {
        assert_eq!(line.parse(), Ok(number));
        count = number;
    }
    assert_eq!(count, lines, "every line to the last");
    service.delete(id, "e").expect("delete");
    player.finish(&service, &place);
    player.close(service, &[&place]);
}

/// A child that an exec leaves behind holds its output: who waits for the exec waits for it, but not for ever.
#[test]
fn root_shim_cuts_what_a_child_holds() {
    needs!(Root, Busybox, Shim);
    let player = player("shim-holds");
    let place = player.place(STAYS);
    let id = &place.id;
    let service = player.start(&place);
    service.run(&place, &Streams::none());
    let before = descriptors(service.who("").shim_pid);
    let out = Fifo::new(&place.dir, "out");
    let mut outs = out.reader();
    service.exec(id, "e", "sleep 1000 & echo left; exit 6", &Streams::out(out.path())).expect("exec");
    service.start(id, "e").expect("start");
    assert_eq!(outs.next_within(LIMIT).as_deref(), Some("left"));
    assert_eq!(service.wait(id, "e").get().expect("wait").exit_status, 6);
    let began = Instant::now();
    assert_eq!(service.delete(id, "e").expect("delete").exit_status, 6);
    let took = began.elapsed();
    figure(&format!("an exec whose child holds its output is deleted after {} ms", took.as_millis()));
    assert!(took < Duration::from_secs(13) * patience(), "{took:?}");
    assert_eq!(outs.rest_within(LIMIT), "", "the reader is let go");
    if !Shim::under_test().is_stock() {
        assert_eq!(descriptors(service.who("").shim_pid), before, "and the shim as well");
    }
    player.finish(&service, &place);
    player.close(service, &[&place]);
}

/// While the hook of one container blocks its creation, the shim answers for it and for others.
#[test]
fn root_shim_is_never_stuck() {
    needs!(Root, Busybox, Shim);
    if Shim::under_test().is_stock() {
        // The one of 1.6 holds one lock for all while it creates.
        return;
    }
    let player = player("shim-stuck");
    let calm = player.place(STAYS);
    let service = player.start(&calm);
    let none = Streams::none();
    service.run(&calm, &none);
    let (here, go) = (Fifo::new(&calm.dir, "here"), Fifo::new(&calm.dir, "go"));
    let (mut heres, mut goes) = (here.reader(), go.holder());
    let hook = format!("echo here > {}; read -r word < {}", here.path().display(), go.path().display());
    let stuck = player.place_with(STAYS, |config| {
        config["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", hook]}]});
    });
    let creating = service.ask::<_, CreateTaskResponse>("Create", &service.creation(&stuck, &none));
    assert_eq!(heres.next_within(LIMIT).as_deref(), Some("here"));

    let limit = Duration::from_secs(1);
    let mut slowest = Duration::ZERO;
    let mut within = |what: &str, ask: &mut dyn FnMut()| {
        let began = Instant::now();
        ask();
        let took = began.elapsed();
        slowest = slowest.max(took);
        assert!(took < limit * patience(), "{what} took {took:?}");
    };
    within("State", &mut || assert_eq!(service.status(&calm.id, ""), "RUNNING"));
    within("State of what is being created", &mut || {
        let mut request = StateRequest::new();
        request.id = stuck.id.clone();
        // Whether it knows it already is its own affair; that it answers is not.
        let _either: Result<StateResponse, Refused> = service.ask("State", &request).within(limit);
    });
    within("Connect", &mut || drop(service.who(&stuck.id)));
    within("Pids", &mut || assert_eq!(service.pids(&calm.id).expect("pids").processes.len(), 1));
    within("Stats", &mut || drop(service.stats(&calm.id).expect("stats")));
    within("Exec", &mut || service.exec(&calm.id, "e", "exit 4", &none).expect("exec"));
    within("Start", &mut || assert_ne!(service.start(&calm.id, "e").expect("start"), 0));
    within("Wait", &mut || {
        assert_eq!(service.wait(&calm.id, "e").within(limit).expect("wait").exit_status, 4);
    });
    within("Delete", &mut || drop(service.delete(&calm.id, "e").expect("delete")));
    within("Kill", &mut || service.kill(&calm.id, "", 9, false).expect("kill"));
    within("Wait", &mut || {
        assert_eq!(service.wait(&calm.id, "").within(limit).expect("wait").exit_status, 137);
    });
    within("Delete", &mut || drop(service.delete(&calm.id, "").expect("delete")));
    let other = player.place(STAYS);
    within("Create", &mut || assert_ne!(service.run(&other, &none), 0));
    figure(&format!("the slowest answer while a hook blocks: {} ms", slowest.as_millis()));
    assert!(creating.poll(Duration::ZERO).is_none(), "it is still being created");
    goes.write_all(b"go\n").expect("it reads");
    creating.get().expect("create");
    player.finish(&service, &stuck);
    player.finish(&service, &other);
    player.close(service, &[&calm, &stuck, &other]);
}

/// A creation that is stuck in a hook ends with its deletion, or with its shim; the hook goes with it.
#[test]
fn root_shim_gives_up_what_is_stuck() {
    needs!(Root, Busybox, Shim);
    if Shim::under_test().is_stock() {
        return;
    }
    let player = player("shim-unwanted");
    let calm = player.place(STAYS);
    let service = player.start(&calm);
    let none = Streams::none();
    service.run(&calm, &none);
    let annotate =
        |config: &mut Value| config["annotations"] = json!({"io.containerd.runc.v2.group": calm.id});
    let stuck = |name: &str| {
        let here = Fifo::new(&calm.dir, name);
        let mut heres = here.reader();
        // The shell becomes the one that stays: its pid is the hook's.
        let hook = format!("echo $$ > {}; exec sleep 1000", here.path().display());
        let place = player.place_with(STAYS, |config| {
            annotate(config);
            config["root"] = json!({"path": "rootfs"});
            config["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", hook]}]});
        });
        let mut request = service.creation(&place, &none);
        request.rootfs.push(mount("bind", &player.rootfs(), &["rbind", "ro"]));
        let creating = service.ask::<_, CreateTaskResponse>("Create", &request);
        let hook: i32 = heres.next_within(LIMIT).and_then(|pid| pid.parse().ok()).expect("the hook runs");
        (place, creating, hook)
    };

    let (place, creating, hook) = stuck("one");
    let began = Instant::now();
    refused(service.delete(&place.id, ""), NOT_FOUND, "it was never created");
    let took = began.elapsed();
    figure(&format!("a creation that is stuck is taken back after {} ms", took.as_millis()));
    assert!(took < Duration::from_secs(3) * patience(), "containerd waits for 5 seconds: {took:?}");
    refused(creating.get(), ABORTED, "nobody wants it any more");
    assert!(gone_within(hook, LIMIT), "its hook goes with it");
    assert_eq!(player.apart().left().iter().filter(|left| left.starts_with("mount")).count(), 0);
    assert_eq!(player.publisher.topics(&place.id), [""; 0]);
    assert_eq!(service.status(&calm.id, ""), "RUNNING");
    // The id is free again.
    let again = player.delete(&place).deletion();
    assert_eq!(again.pid, 0);

    let (place, creating, hook) = stuck("two");
    signal(number(service.who("").shim_pid), Signal::KILL);
    assert!(service.ended());
    drop(creating);
    let began = Instant::now();
    player.delete(&place).success();
    let took = began.elapsed();
    assert!(took < Duration::from_secs(3) * patience(), "containerd waits for 5 seconds: {took:?}");
    assert!(gone_within(hook, LIMIT), "nobody is left who runs it");
    player.delete(&calm).success();
}

/// The caller's deadline is the caller's: what was begun is finished.
#[test]
fn root_shim_finishes_what_nobody_waits_for() {
    needs!(Root, Busybox, Shim);
    if Shim::under_test().is_stock() {
        // It kills runc, and runc its container, when the caller's time is over.
        return;
    }
    let player = player("shim-deadline");
    let place = player.place(STAYS);
    let service = player.start(&place);
    let (here, go) = (Fifo::new(&place.dir, "here"), Fifo::new(&place.dir, "go"));
    let (mut heres, mut goes) = (here.reader(), go.holder());
    let hook = format!("echo here > {}; read -r word < {}", here.path().display(), go.path().display());
    let slow = player.place_with(STAYS, |config| {
        config["hooks"] = json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", hook]}]});
    });
    let creation = service.creation(&slow, &Streams::none());
    let creating =
        service.ask_within::<_, CreateTaskResponse>("Create", &creation, Duration::from_millis(10));
    assert_eq!(heres.next_within(LIMIT).as_deref(), Some("here"));
    // containerd gives up, and its connection with it.
    drop(creating);
    let other = player.connect(&service.address, tests::player::TASKS);
    drop(service);
    goes.write_all(b"go\n").expect("it reads");
    player.publisher.await_one(&slow.id, "create");
    other.start(&slow.id, "").expect("it was created");
    player.finish(&other, &slow);
    player.close(other, &[&place, &slow]);
}

#[test]
fn root_shim_freezes_and_thaws() {
    needs!(Root, Busybox, Shim, Freezer);
    let player = player("shim-freeze");
    let place = player.place(STAYS);
    let id = &place.id;
    let service = player.start(&place);
    let none = Streams::none();
    service.run(&place, &none);
    service.exec(id, "e", STAYS, &none).expect("exec");
    service.pause(id).expect("pause");
    assert_eq!(service.status(id, ""), "PAUSED");
    assert_eq!(service.status(id, "e"), "PAUSED");
    refused(service.start(id, "e"), STATE, "nothing starts in a frozen container");
    service.resume(id).expect("resume");
    service.pause(id).expect("pause again");
    // It dies of KILL although it is frozen.
    service.kill(id, "", 9, false).expect("kill");
    if Shim::under_test().is_stock() && service.wait(id, "").poll(Duration::from_secs(1)).is_none() {
        service.resume(id).expect("thaw it");
    }
    assert_eq!(service.wait(id, "").get().expect("wait").exit_status, 137);
    service.delete(id, "").expect("delete");
    player.publisher.await_one(id, "delete");
    let topics = player.publisher.topics(id);
    assert_eq!(topics[..6], ["create", "start", "exec-added:e", "paused", "resumed", "paused"]);
    player.close(service, &[&place]);
}

#[test]
fn root_shim_updates_and_measures() {
    needs!(Root, Busybox, Shim, Groups);
    let player = player("shim-stats");
    let place =
        player.place("dd if=/dev/zero of=/dev/null bs=1M count=2000 2>/dev/null; echo done; exec sleep 1000");
    let id = &place.id;
    let out = Fifo::new(&place.dir, "out");
    let mut outs = out.reader();
    let service = player.start(&place);
    let pid = service.run(&place, &Streams::out(out.path()));
    assert_eq!(outs.next_within(LIMIT).as_deref(), Some("done"));
    let limit: i64 = 64 << 20;
    service.update(id, &json!({"memory": {"limit": limit}, "pids": {"limit": 77}})).expect("update");
    let groups = Groups::of(number(pid));
    let file = if Groups::unified_only() { "memory.max" } else { "memory.limit_in_bytes" };
    assert_eq!(groups.shown(file), Some(limit.to_string()));
    let stats = service.stats(id).expect("stats");
    if Groups::unified_only() {
        assert_eq!(stats.type_url, "io.containerd.cgroups.v2.Metrics");
        let told = containerd_shim_protos::cgroups_v2::metrics::Metrics::parse_from_bytes(&stats.value)
            .expect("metrics");
        assert_eq!((told.pids.current, told.pids.limit), (1, 77), "{told}");
        assert!(told.cpu.usage_usec > 0 && told.memory.usage > 0, "{told}");
        assert_eq!(told.memory.usage_limit, limit.unsigned_abs());
    } else {
        assert_eq!(stats.type_url, "io.containerd.cgroups.v1.Metrics");
        let told = containerd_shim_protos::cgroups::metrics::Metrics::parse_from_bytes(&stats.value)
            .expect("metrics");
        assert_eq!((told.pids.current, told.pids.limit), (1, 77), "{told}");
        assert!(told.cpu.usage.total > 1_000_000 && told.memory.usage.usage > 0, "{told}");
        assert_eq!(told.memory.usage.limit, limit.unsigned_abs());
        assert_eq!(told.memory.hierarchical_memory_limit, limit.unsigned_abs());
    }
    if !Shim::under_test().is_stock() {
        // Of this the one of 1.6 dies.
        let mut request = containerd_shim_protos::api::UpdateTaskRequest::new();
        request.id = id.clone();
        let none: Result<Empty, Refused> = service.call("Update", &request);
        none.expect_err("there are no resources");
    }
    player.finish(&service, &place);
    player.close(service, &[&place]);
}

/// The kernel ends somebody for memory: that is told, and before the exit it caused.
#[test]
fn root_shim_tells_of_oom_before_the_exit() {
    needs!(Root, Busybox, Shim, Groups);
    let player = player("shim-oom");
    let place = player.place_with("x=0123456789abcdef; while :; do x=$x$x; done", |config| {
        config["linux"]["resources"]["memory"] = json!({"limit": 16 << 20});
    });
    let service = player.start(&place);
    service.run(&place, &Streams::none());
    assert_eq!(service.wait(&place.id, "").get().expect("wait").exit_status, 137);
    player.publisher.await_one(&place.id, "oom");
    player.publisher.await_one(&place.id, "exit");
    service.delete(&place.id, "").expect("delete");
    player.publisher.await_one(&place.id, "delete");
    if !Shim::under_test().is_stock() {
        assert_eq!(player.publisher.topics(&place.id), ["create", "start", "oom", "exit", "delete"]);
    }
    player.close(service, &[&place]);
}

/// A shim that was killed: `delete` ends what it ran, and touches nothing of the others.
#[test]
fn root_shim_delete_cleans_up_after_it() {
    needs!(Root, Busybox, Shim);
    let player = player("shim-dead");
    let none = Streams::none();
    let other = player.place(STAYS);
    let others = player.start(&other);
    let alive = others.run(&other, &none);
    let place = player.place_with(STAYS, |config| config["root"] = json!({"path": "rootfs"}));
    let service = player.start(&place);
    let mut request = service.creation(&place, &none);
    request.rootfs.push(mount("bind", &player.rootfs(), &["rbind", "ro"]));
    let made: CreateTaskResponse = service.call("Create", &request).expect("create");
    service.start(&place.id, "").expect("start");
    signal(number(service.who("").shim_pid), Signal::KILL);
    assert!(service.ended());
    assert!(Path::new("/proc").join(made.pid.to_string()).exists(), "a container outlives its shim");
    let deleted = player.delete(&place).deletion();
    assert_eq!((deleted.pid, deleted.exit_status), (made.pid, 137));
    assert!(deleted.exited_at.is_some());
    assert!(gone_within(number(made.pid), LIMIT), "but not its removal");
    assert_eq!(player.apart().left().iter().filter(|left| left.starts_with("mount")).count(), 0);
    let groups = Path::new("/sys/fs/cgroup");
    let of_it = ["memory", "pids", ""].map(|name| groups.join(name).join(player.namespace()).join(&place.id));
    assert!(of_it.iter().all(|group| !group.exists()), "{of_it:?}");
    assert!(place.dir.join("config.json").exists(), "the bundle is containerd's");
    player.delete(&place).success();
    assert_eq!(others.status(&other.id, ""), "RUNNING");
    assert_eq!(others.who(&other.id).task_pid, alive);
    player.finish(&others, &other);
    player.close(others, &[&other]);
    if Shim::under_test().is_stock() {
        // It leaves the socket of a shim that was killed to the next one.
        fs::remove_file(player.apart().path(service.address.trim_start_matches("unix://")))
            .expect("it is there");
    }
}

/// An upgrade replaces the program while pods run. Their shims go on as what they are, and take in who still comes to the pod; the new
/// program serves whoever is new, and takes away what a dead old one has left.
#[test]
fn root_shim_is_replaced_while_pods_run() {
    needs!(Root, Busybox, Shim);
    let installed = Bundle::new("shim-installed");
    let old = Shim::under_test().installed_in(installed.dir());
    let player = Player::new(&old, "shim-replaced");
    let none = Streams::none();
    let pod = json!({"io.kubernetes.cri.sandbox-id": "pod"});
    let first = player.place_with(STAYS, |config| config["annotations"] = pod.clone());
    let before = player.start(&first);
    before.run(&first, &none);
    let doomed = player.place(STAYS);
    let lost = player.start(&doomed);
    let orphan = lost.run(&doomed, &none);

    let upgrade = Shim::under_test().installed_in(installed.dir());
    assert_eq!(upgrade.program(), old.program());
    before.exec(&first.id, "more", "exit 3", &none).expect("exec");
    let ended = before.wait(&first.id, "more");
    before.start(&first.id, "more").expect("start");
    assert_eq!(ended.get().expect("its end").exit_status, 3);
    before.delete(&first.id, "more").expect("delete");
    let second = player.place_with(STAYS, |config| config["annotations"] = pod);
    let same = player.start(&second);
    assert_eq!(same.who("").shim_pid, before.who("").shim_pid);
    same.run(&second, &none);
    let new = player.place(STAYS);
    let after = player.start(&new);
    after.run(&new, &none);

    signal(number(lost.who("").shim_pid), Signal::KILL);
    assert!(lost.ended());
    let deleted = player.delete(&doomed).deletion();
    assert_eq!((deleted.pid, deleted.exit_status), (orphan, 137));
    assert!(gone_within(number(orphan), LIMIT));
    if old.is_stock() {
        // It leaves the socket of a shim that was killed to the next one.
        fs::remove_file(player.apart().path(lost.address.trim_start_matches("unix://")))
            .expect("it is there");
    }
    player.finish(&after, &new);
    player.close(after, &[&new]);
    player.finish(&same, &second);
    player.finish(&before, &first);
    player.close(before, &[&first, &second]);
}

/// What the shim keeps of its tasks is what `cofferdam` reads.
#[test]
fn root_shim_keeps_what_cofferdam_reads() {
    needs!(Root, Busybox, Shim);
    if Shim::under_test().is_stock() {
        return;
    }
    let player = player("shim-kept");
    let place = player.place(STAYS);
    let service = player.start(&place);
    let pid = service.run(&place, &Streams::none());
    let root = player.apart().path(Path::new("/run/containerd/cofferdam").join(player.namespace()));
    let asked = |words: &[&str]| {
        let mut command = Command::new(Runtime::under_test().program());
        let output = command.arg("--root").arg(&root).args(words).output().expect("run it");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("it says text")
    };
    assert_eq!(asked(&["list", "-q"]).trim(), place.id);
    let state: Value = serde_json::from_str(&asked(&["state", &place.id])).expect("a state is JSON");
    assert_eq!((&state["status"], &state["pid"]), (&json!("running"), &json!(pid)));
    assert!(asked(&["events", "--stats", &place.id]).contains("\"type\":\"stats\""));
    player.finish(&service, &place);
    assert_eq!(asked(&["list", "-q"]), "");
    player.close(service, &[&place]);
}

/// A shim ends on TERM and leaves its containers alone; on USR1 it writes down what it knows.
#[test]
fn root_shim_hears_signals() {
    needs!(Root, Busybox, Shim);
    if Shim::under_test().is_stock() {
        return;
    }
    let player = player("shim-signals");
    let place = player.place(STAYS);
    let service = player.start(&place);
    let pid = service.run(&place, &Streams::none());
    player.logs();
    let shim = number(service.who("").shim_pid);
    signal(shim, Signal::USR1);
    let end = Instant::now() + LIMIT;
    let mut told = String::new();
    while !told.contains(&place.id) {
        // Each answer comes after what it was asked before.
        assert_eq!(service.status(&place.id, ""), "RUNNING");
        told += &player.logs();
        assert!(Instant::now() < end, "nothing is said of the task: {told}");
    }
    assert!(told.lines().all(|line| line.starts_with("time=") && line.len() < 4096), "{told}");
    signal(shim, Signal::TERM);
    assert!(gone_within(shim, LIMIT), "it ends");
    assert!(!gone_within(number(pid), Duration::ZERO), "its container does not");
    player.delete(&place).success();
    assert!(gone_within(number(pid), LIMIT));
}

/// The groups of a task by systemd: a scope in a slice, which goes with it.
#[test]
fn vm_shim_groups_by_systemd() {
    needs!(Root, Busybox, Shim, Vm);
    let player = player("shim-systemd");
    let scope = format!("{}-t.scope", player.namespace());
    let place = player.place_with(STAYS, |config| {
        config["linux"]["cgroupsPath"] = json!(format!("system.slice:{}:t", player.namespace()));
        config["linux"]["resources"]["memory"] = json!({"limit": 64 << 20});
    });
    let service = player.start(&place);
    let mut request = service.creation(&place, &Streams::none());
    request.options = MessageField::some(options(|options| options.systemd_cgroup = true));
    let made: CreateTaskResponse = service.call("Create", &request).expect("create");
    service.start(&place.id, "").expect("start");
    let group = fs::read_to_string(format!("/proc/{}/cgroup", made.pid)).expect("its group");
    assert!(group.trim_end().ends_with(&format!("/system.slice/{scope}")), "{group}");
    let dir = Path::new("/sys/fs/cgroup/system.slice").join(&scope);
    let limit = fs::read_to_string(dir.join("memory.max")).expect("a limit");
    assert_eq!(limit.trim(), (64 << 20).to_string());
    let stats = service.stats(&place.id).expect("stats");
    assert_eq!(stats.type_url, "io.containerd.cgroups.v2.Metrics");
    service.exec(&place.id, "e", "exit 4", &Streams::none()).expect("exec");
    service.start(&place.id, "e").expect("start");
    assert_eq!(service.wait(&place.id, "e").get().expect("wait").exit_status, 4);
    player.finish(&service, &place);
    assert!(!dir.exists(), "systemd's unit goes with it");
    player.close(service, &[&place]);
}

/// Five hundred tasks in groups of fifty, which end at once: nothing is missing, doubled, out of order or left.
#[test]
fn root_shim_storm() {
    needs!(Root, Busybox, Shim);
    let (groups, tasks) = if patience() > 1 { (2, 10) } else { (10, 50) };
    let player = player("shim-storm");
    let mut memory = Vec::new();
    let mut all = Vec::new();
    let annotation = json!({"io.containerd.runc.v2.group": "storm"});
    let keeper = player.place_with(STAYS, |config| config["annotations"] = annotation.clone());
    let service = player.start(&keeper);
    let shim = service.who("").shim_pid;
    service.run(&keeper, &Streams::none());
    let before = descriptors(shim);
    for _ in 0..groups {
        let go = Fifo::new(&keeper.dir, &format!("go{}", memory.len()));
        let mut holder = go.holder();
        let line = "read -r word < /go; exit 3";
        let places: Vec<_> = (0..tasks)
            .map(|_| {
                player.place_with(line, |config| {
                    config["annotations"] = annotation.clone();
                    let mount = json!({"destination": "/go", "type": "bind", "source": go.path(), "options": ["bind"]});
                    config["mounts"].as_array_mut().expect("a list").push(mount);
                })
            })
            .collect();
        fs::write(player.rootfs().join("go"), "").expect("make a place for the FIFO");
        let out = places[0].dir.join("out");
        fs::write(&out, "").expect("make a file for output");
        let streams = Streams::out(&out);
        let creations: Vec<_> = places
            .iter()
            .map(|place| service.ask::<_, CreateTaskResponse>("Create", &service.creation(place, &streams)))
            .collect();
        for creation in creations {
            creation.within(LIMIT * 4).expect("create");
        }
        let starts: Vec<_> = places.iter().map(|place| service.starting(&place.id, "")).collect();
        for start in starts {
            start.within(LIMIT * 4).expect("start");
        }
        let waits: Vec<_> = places.iter().map(|place| service.wait(&place.id, "")).collect();
        // All of them read from one FIFO, a line each.
        holder.write_all("\n".repeat(tasks).as_bytes()).expect("they read");
        for wait in waits {
            assert_eq!(wait.get().expect("wait").exit_status, 3);
        }
        let deletions: Vec<_> = places.iter().map(|place| service.deleting(&place.id, "")).collect();
        for deletion in deletions {
            assert_eq!(deletion.within(LIMIT * 4).expect("delete").exit_status, 3);
        }
        let count = (memory.len() + 1) * tasks;
        player.publisher.await_many(count, LIMIT * 2, |event| event.topic == "/tasks/delete");
        if !Shim::under_test().is_stock() {
            assert_eq!(descriptors(shim), before, "no descriptor is left");
        }
        memory.push(resident(shim));
        all.extend(places);
    }
    for place in &all {
        assert_eq!(player.publisher.topics(&place.id), ["create", "start", "exit", "delete"]);
    }
    assert_eq!(player.publisher.disorder(), [""; 0]);
    figure(&format!("memory of the shim after each group of {tasks}, KiB: {memory:?}"));
    if !Shim::under_test().is_stock() {
        let (first, last) = (memory[memory.len() / 5], memory[memory.len() - 1]);
        assert!(last <= first + 512, "it grows: {memory:?}");
    }
    player.finish(&service, &keeper);
    player.close(service, &[&keeper]);
}

/// Lives one after the other, each with a shim of its own: create, exec, kill, delete. `COFFERDAM_ROUNDS=1000` is the whole of it.
#[test]
fn root_shim_rounds() {
    needs!(Root, Busybox, Shim);
    let asked = std::env::var("COFFERDAM_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    let rounds: u32 = asked.unwrap_or(if patience() > 1 { 5 } else { 50 });
    let player = player("shim-rounds");
    let none = Streams::none();
    let began = Instant::now();
    for round in 0..rounds {
        let place = player.place_with(STAYS, |config| config["root"] = json!({"path": "rootfs"}));
        let id = &place.id;
        let service = player.start(&place);
        let mut request = service.creation(&place, &none);
        request.rootfs.push(mount("bind", &player.rootfs(), &["rbind", "ro"]));
        let _made: CreateTaskResponse = service.call("Create", &request).expect("create");
        service.start(id, "").expect("start");
        let out = Fifo::new(&place.dir, "out");
        let mut outs = out.reader();
        service.exec(id, "e", "echo here; exit 4", &Streams::out(out.path())).expect("exec");
        service.start(id, "e").expect("start");
        assert_eq!(service.wait(id, "e").get().expect("wait").exit_status, 4);
        assert_eq!(outs.rest_within(LIMIT), "here\n", "round {round}");
        service.delete(id, "e").expect("delete");
        player.finish(&service, &place);
        player.close(service, &[&place]);
        fs::remove_dir_all(&place.dir).expect("the bundle is containerd's");
    }
    let each = began.elapsed().as_millis() / u128::from(rounds);
    figure(&format!("{rounds} lives, each with a shim of its own: {each} ms each"));
    player.publisher.await_many(rounds as usize, LIMIT, |event| event.topic == "/tasks/delete");
    assert_eq!(player.publisher.disorder(), [""; 0]);
    let running = tests::containerd::processes_of(player.namespace(), Shim::under_test().file_name());
    assert_eq!(running, [0; 0], "no shim is left");
    player.assert_nothing_left();
}
