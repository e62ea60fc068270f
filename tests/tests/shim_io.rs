//! The shim's surroundings: loggers and files in place of FIFOs, and what options change.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use containerd_shim_protos::api::CreateTaskResponse;
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use serde_json::{Value, json};
use tests::player::{options, refused};
use tests::{Fifo, Groups, LIMIT, Player, Service, Shim, Streams, figure, gone_within, needs, patience};

/// Runs until it is killed.
const STAYS: &str = "exec sleep 1000";

/// gRPC's numbers.
const UNKNOWN: i32 = 2;
const INVALID: i32 = 3;
const NOT_FOUND: i32 = 5;
const ABORTED: i32 = 10;
const UNIMPLEMENTED: i32 = 12;

fn player(name: &str) -> Player {
    Player::new(&Shim::under_test(), name)
}

/// A logger: a script with `$kept`, the beginning of the names of files that are its own.
struct Logger {
    program: PathBuf,
    kept: PathBuf,
}

impl Logger {
    fn new(dir: &Path, name: &str, lines: &str) -> Self {
        let (program, kept) = (dir.join(name), dir.join(format!("{name}-kept")));
        fs::write(&program, format!("#!/bin/sh\nkept={}\n{lines}\n", kept.display()))
            .expect("write a logger");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("let it run");
        Self { program, kept }
    }

    fn streams(&self, scheme: &str, query: &str) -> Streams {
        let uri = format!("{scheme}://{}{query}", self.program.display());
        Streams { stdout: uri.clone(), stderr: uri, ..Streams::none() }
    }

    fn kept(&self, kind: &str) -> String {
        fs::read_to_string(self.kept.with_extension(kind)).unwrap_or_default()
    }
}

/// Says that it is ready, and writes both outputs down until they end.
const WRITES: &str = "trap '' TERM; echo \"$CONTAINER_ID $*\" > $kept.args
exec 5>&-
cat <&3 > $kept.out & cat <&4 > $kept.err
wait; echo over > $kept.end";

#[test]
fn root_shim_loggers() {
    needs!(Root, Busybox, Shim);
    let player = player("shim-logger");
    let keeps = player.place(STAYS);
    let service = player.start(&keeps);
    let ours = !Shim::under_test().is_stock();

    // Of the first process and of one that was added: each has one of its own.
    let init = Logger::new(&keeps.dir, "init", WRITES);
    service.run(&keeps, &init.streams("binary", ""));
    let exec = Logger::new(&keeps.dir, "exec", WRITES);
    service
        .exec(&keeps.id, "e", "echo out; echo err >&2; exit 2", &exec.streams("binary", "?a=b"))
        .expect("exec");
    service.start(&keeps.id, "e").expect("start");
    assert_eq!(service.wait(&keeps.id, "e").get().expect("wait").exit_status, 2);
    service.delete(&keeps.id, "e").expect("delete");
    assert_eq!((exec.kept("out").as_str(), exec.kept("err").as_str()), ("out\n", "err\n"));
    assert_eq!((exec.kept("end").as_str(), exec.kept("args").as_str()), ("over\n", "e a b\n"));
    assert_eq!(init.kept("end"), "", "that of the first goes on");

    // One that ends before it was ready has not logged, for who asks strictly.
    let ends = Logger::new(&keeps.dir, "ends", "exit 0");
    if ours {
        let place = player.place(STAYS);
        let why =
            refused(service.create(&place, &ends.streams("binary-v2", "")), UNKNOWN, "it never was ready");
        assert!(why.contains("did not call ready"), "{why}");
    }
    let missing = Logger { program: "/no/such/logger".into(), kept: PathBuf::new() };
    let place = player.place(STAYS);
    let why = refused(service.create(&place, &missing.streams("binary", "")), UNKNOWN, "there is none");
    assert!(why.to_lowercase().contains("no such file"), "{why}");

    // Who loses his logger is told as by any pipe that nobody reads.
    let dies = Logger::new(&keeps.dir, "dies", "exec 5>&-; read -r line <&3; exit 0");
    let place = player.place("trap '' PIPE; echo one; while echo more 2>/dev/null; do :; done; exit 7");
    service.run(&place, &dies.streams("binary", ""));
    assert_eq!(service.wait(&place.id, "").get().expect("wait").exit_status, 7);
    service.delete(&place.id, "").expect("delete");

    player.finish(&service, &keeps);
    assert_eq!(init.kept("end"), "over\n");
    player.close(service, &[&keeps]);
}

/// A logger that never is ready holds up its own container, and that one can be deleted.
#[test]
fn root_shim_gives_up_a_logger() {
    needs!(Root, Busybox, Shim);
    if Shim::under_test().is_stock() {
        return;
    }
    let player = player("shim-unready");
    let calm = player.place(STAYS);
    let service = player.start(&calm);
    service.run(&calm, &Streams::none());
    let here = Fifo::new(&calm.dir, "here");
    let mut heres = here.reader();
    let line = format!("echo $$ > {}; exec sleep 1000", here.path().display());
    let never = Logger::new(&calm.dir, "never", &line);
    let place = player.place(STAYS);
    let request = service.creation(&place, &never.streams("binary", ""));
    let creating = service.ask::<_, CreateTaskResponse>("Create", &request);
    let logger: i32 = heres.next_within(LIMIT).and_then(|pid| pid.parse().ok()).expect("the logger runs");
    assert_eq!(service.status(&calm.id, ""), "RUNNING");
    refused(service.delete(&place.id, ""), NOT_FOUND, "it was never created");
    refused(creating.get(), ABORTED, "nobody wants it any more");
    assert!(gone_within(logger, LIMIT), "its logger goes with it");
    player.finish(&service, &calm);
    player.close(service, &[&calm, &place]);
}

#[test]
fn root_shim_files_and_other_schemes() {
    needs!(Root, Busybox, Shim);
    let player = player("shim-schemes");
    let place = player.place("echo out; echo err >&2; read -r line; echo \"$line\"; exit 3");
    let service = player.start(&place);
    let file = place.dir.join("a/b/log");
    let input = Fifo::new(&place.dir, "in");
    let uri = format!("file://{}", file.display());
    let stdin = input.path().display().to_string();
    let streams = Streams { stdin, stdout: uri.clone(), stderr: uri, ..Streams::none() };
    let holder = input.holder();
    service.run(&place, &streams);
    tests::player::say(&mut input.writer(), "typed\n");
    drop(holder);
    assert_eq!(service.wait(&place.id, "").get().expect("wait").exit_status, 3);
    service.delete(&place.id, "").expect("delete");
    let told = fs::read_to_string(&file).expect("the shim made it");
    assert_eq!(told.lines().count(), 3, "{told}");
    assert!(["out", "err", "typed"].iter().all(|word| told.lines().any(|line| line == *word)), "{told}");

    if Shim::under_test().is_stock() {
        return player.close(service, &[&place]);
    }
    let unread = Fifo::new(&place.dir, "unread");
    for (uri, code) in [
        (format!("file://{}", unread.path().display()), UNKNOWN),
        ("nonsense:///x".to_owned(), INVALID),
        ("ttrpc+unix:///x?streaming_id=1".to_owned(), UNIMPLEMENTED),
    ] {
        let place = player.place(STAYS);
        let streams = Streams { stdout: uri.clone(), stderr: uri.clone(), ..Streams::none() };
        // Nobody waits for a reader who may never come.
        refused(service.create(&place, &streams), code, &uri);
    }
    player.close(service, &[&place]);
}

/// TOML inside a message, which is what CRI sends to a handler of another name than runc's.
fn toml(text: &str) -> Any {
    let mut any = Any::new();
    any.type_url = "runtimeoptions.v1.Options".into();
    any.value = [&[26, u8::try_from(text.len()).expect("it is short")], text.as_bytes()].concat();
    any
}

#[test]
fn root_shim_streams_have_an_owner() {
    needs!(Root, Busybox, Shim);
    let player = player("shim-owner");
    let first = player.place(STAYS);
    let service = player.start(&first);
    let own = options(|options| (options.io_uid, options.io_gid) = (1234, 5678));
    let mut all = vec![own];
    if !Shim::under_test().is_stock() {
        all.push(toml("IoUid = 1234\nIoGid = 5678\n"));
    }
    for options in all {
        // The engine gives them to the process's own user, as runc does, and leaves them their group.
        let line = "stat -L -c %u:%g /proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2";
        let place =
            player.place_with(line, |config| config["process"]["user"] = json!({"uid": 1234, "gid": 1234}));
        let (input, out, err) =
            (Fifo::new(&place.dir, "in"), Fifo::new(&place.dir, "out"), Fifo::new(&place.dir, "err"));
        let path = |fifo: &Fifo| fifo.path().display().to_string();
        let streams =
            Streams { stdin: path(&input), stdout: path(&out), stderr: path(&err), ..Streams::none() };
        let _holder = input.holder();
        let mut outs = out.reader();
        let _errs = err.reader();
        let mut request = service.creation(&place, &streams);
        request.options = MessageField::some(options);
        let _made: CreateTaskResponse = service.call("Create", &request).expect("create");
        service.start(&place.id, "").expect("start");
        assert_eq!(outs.rest_within(LIMIT), "1234:5678\n".repeat(3));
        service.wait(&place.id, "").get().expect("wait");
        service.delete(&place.id, "").expect("delete");
    }
    player.close(service, &[&first]);
}

/// Directories of a control group of this name: of each controller, or the one.
fn groups(name: &str) -> Vec<PathBuf> {
    let mount = Path::new("/sys/fs/cgroup");
    let parts: &[&str] = if Groups::unified_only() { &["."] } else { &["memory", "pids"] };
    parts
        .iter()
        .map(|part| mount.join(part).join(name))
        .filter(|group| group.parent().is_some_and(Path::exists))
        .collect()
}

/// The shim in a group that it was told, and no shim where there is none.
#[test]
fn root_shim_lives_in_a_group() {
    needs!(Root, Busybox, Shim, Groups);
    let player = player("shim-group");
    let place = player.place(STAYS);
    let told = options(|options| options.shim_cgroup = format!("/{}", player.namespace()));
    let failed = player.start_with(&place, Some(told.clone()));
    assert!(failed.code != 0 && failed.said.is_empty(), "there is no such group: {failed:?}");
    if !Shim::under_test().is_stock() {
        assert!(failed.complaint.contains("ShimCgroup"), "{failed:?}");
        assert_eq!(player.apart().left(), [""; 0], "no socket is left of it");
    }

    let groups = groups(player.namespace());
    for group in &groups {
        fs::create_dir(group).expect("make a group");
    }
    let answer = player.start_with(&place, Some(told));
    let service = player.connect(&answer.success().read(tests::Call::Middle), tests::player::TASKS);
    let shim = service.who("").shim_pid.to_string();
    for group in &groups {
        let inside = fs::read_to_string(group.join("cgroup.procs")).expect("its processes");
        assert!(inside.lines().any(|pid| pid == shim), "{} has {inside:?}, not {shim}", group.display());
    }
    player.close(service, &[&place]);
    for group in &groups {
        // Whoever was in it may be on his way out.
        fs::remove_dir(group).expect("nobody is left in it");
    }
}

/// `SCHED_CORE`: cores are shared with nobody, or it is said why not.
#[test]
fn root_shim_shares_no_cores() {
    needs!(Root, Busybox, Shim);
    if Shim::under_test().is_stock() {
        return;
    }
    let mut player = player("shim-cores");
    player.set("SCHED_CORE", "1");
    let place = player.place(STAYS);
    let answer = player.start_with(&place, None);
    if answer.code == 0 {
        let service = player.connect(&answer.read(tests::Call::Middle), tests::player::TASKS);
        service.run(&place, &Streams::none());
        player.finish(&service, &place);
        return player.close(service, &[&place]);
    }
    // Processors without threads, or a kernel without the call: the machine says so, and nothing is left of the attempt.
    assert!(answer.complaint.contains("prctl(PR_SCHED_CORE)"), "{answer:?}");
    assert_eq!(player.apart().left(), [""; 0]);
    figure(&format!("SCHED_CORE here: {}", answer.complaint.trim()));
}

/// A systemd that takes calls and answers none holds up the container that asks it, and nobody else.
#[test]
fn root_shim_is_not_stuck_with_systemd() {
    needs!(Root, Busybox, Shim);
    if Shim::under_test().is_stock() {
        return;
    }
    let mut player = player("shim-mute");
    let bus = player.dir().join("bus");
    let _mute = UnixListener::bind(&bus).expect("listen in systemd's place");
    player.set("DBUS_SYSTEM_BUS_ADDRESS", &format!("unix:path={}", bus.display()));
    let calm = player.place(STAYS);
    let service = player.start(&calm);
    service.run(&calm, &Streams::none());
    let place = player.place_with(STAYS, |config: &mut Value| {
        config["linux"]["cgroupsPath"] = json!(format!("system.slice:{}:t", player.namespace()));
    });
    let mut request = service.creation(&place, &Streams::none());
    request.options = MessageField::some(options(|options| options.systemd_cgroup = true));
    let creating = service.ask::<_, CreateTaskResponse>("Create", &request);
    let answers = |service: &Service| {
        let began = Instant::now();
        assert_eq!(service.status(&calm.id, ""), "RUNNING");
        service.exec(&calm.id, "e", "exit 4", &Streams::none()).expect("exec");
        service.start(&calm.id, "e").expect("start");
        assert_eq!(service.wait(&calm.id, "e").get().expect("wait").exit_status, 4);
        service.delete(&calm.id, "e").expect("delete");
        began.elapsed()
    };
    let took = answers(&service);
    assert!(took < Duration::from_secs(2) * patience(), "{took:?}");
    assert!(creating.poll(Duration::from_millis(100)).is_none(), "nobody has answered it");
    let began = Instant::now();
    refused(service.delete(&place.id, ""), NOT_FOUND, "it was never created");
    assert!(began.elapsed() < Duration::from_secs(3) * patience(), "{:?}", began.elapsed());
    refused(creating.get(), ABORTED, "nobody wants it any more");
    player.finish(&service, &calm);
    player.close(service, &[&calm, &place]);
}
