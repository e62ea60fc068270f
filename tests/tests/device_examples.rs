//! The examples, as who comes to the project first sees them: `make run-device` packs them, starts them and lists them.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tests::{Device, LIMIT, Packages, gone_within, needs, patience, skipped, until};

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Debian's redis as the example has it; none where it cannot be had, with the reason.
fn redis() -> Result<PathBuf, String> {
    let output =
        Command::new(project().join("examples/redis/tree")).output().expect("run examples/redis/tree");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    match output.status.code() {
        Some(0) => Ok(text(&output.stdout).into()),
        Some(3) => Err(text(&output.stderr)),
        _ => panic!("examples/redis/tree: {output:?}"),
    }
}

/// Says something to redis; the first line of its answer.
fn ask(socket: &Path, command: &str) -> String {
    let mut stream = UnixStream::connect(socket).expect("connect to redis");
    stream.set_read_timeout(Some(LIMIT * patience())).expect("a limit");
    stream.write_all(format!("{command}\r\n").as_bytes()).expect("write to redis");
    let mut lines = BufReader::new(stream).lines();
    let mut next = || lines.next().expect("an answer").expect("a line");
    let first = next();
    if first.starts_with('$') { next() } else { first }
}

#[test]
fn root_redis_answers_and_keeps_what_it_was_told() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    let tree = match redis() {
        Ok(tree) => tree,
        Err(reason) => return skipped(&reason),
    };
    let mut device = Device::new();
    let manifest = project().join("examples/redis/manifest.yaml");
    let text = |path: &Path| path.display().to_string();
    device.packages.expect(&["pack", "-m", &text(&manifest), "-r", &text(&tree), "-o", "store/redis.npk"]);
    let socket = device.path("data/redis/redis.sock");
    let is_ready = |device: &Device| device.log().contains("ready to accept connections");
    device.begin();
    until(|| is_ready(&device), || device.log());
    assert_eq!(ask(&socket, "PING"), "+PONG");
    assert_eq!(ask(&socket, "SET tide low"), "+OK");
    let mut listener = device.listener();
    listener.kill("redis:0.0.1", 15);
    assert_eq!(listener.hears_exit("redis:0.0.1"), json!({"exit": {"code": 0}}), "{}", device.log());
    fs::write(device.path("log"), "").expect("a log");
    listener.start("redis:0.0.1");
    until(|| is_ready(&device), || device.log());
    assert_eq!(ask(&socket, "GET tide"), "low");
    device.end();
}

/// All of it: the script packs, starts, waits for redis and lists; at SIGTERM it ends in order, and nothing is left.
#[test]
fn root_the_examples_run() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    let device = Device::new();
    let has_redis = redis().is_ok();
    let log = File::create(device.path("log")).expect("a log");
    let mut command = Command::new(project().join("script/run-device"));
    command.arg(device.path("")).env("COFFERCTL", Packages::program()).env("COFFERDAMD", Device::program());
    command
        .env(tests::MARKER, device.id())
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("dup"))
        .stderr(log);
    let mut script = command.spawn().expect("start run-device");
    let pid = i32::try_from(script.id()).expect("a process id is an i32");
    let is_gone = || gone_within(pid, std::time::Duration::ZERO);
    // It says what it has packed: each may take its time, and Debian's redis has been looked for.
    for example in fs::read_dir(project().join("examples")).expect("the examples").flatten() {
        let name = example.file_name().into_string().expect("a name");
        if example.path().join("manifest.yaml").exists() && (has_redis || name != "redis") {
            let packed = || device.log().contains(&format!("    {name}-"));
            until(|| packed() || is_gone(), || format!("{name}: {}", device.log()));
        }
    }
    until(|| device.log().contains("\ntokens ") || is_gone(), || device.log());
    assert!(!is_gone(), "{}", device.log());
    let wanted = [
        "hello again, from a resource",
        "\"token_verification\":\"Ok\"",
        "seccomp:0.0.1: mount ended with 159",
        "persistence:0.0.1: started 1 times",
        "crashing:0.0.1 is started anew in",
        "\nredis        0.0.1",
        "redis.sock: PONG",
    ];
    for wanted in wanted.iter().filter(|wanted| has_redis || !wanted.contains("redis")) {
        until(|| device.log().contains(wanted), || format!("{wanted}: {}", device.log()));
    }
    kill_process(Pid::from_raw(pid).expect("a process has a number"), Signal::TERM).expect("kill");
    assert!(gone_within(pid, LIMIT * patience()), "{}", device.log());
    assert_eq!(script.wait().expect("wait").code(), Some(0), "{}", device.log());
    device.assert_nothing_is_left();
    let group = format!("cofferdam-{}", device.id());
    let left =
        Command::new("find").args(["/sys/fs/cgroup", "-name", &group]).output().expect("run find").stdout;
    assert!(left.is_empty(), "{}", String::from_utf8_lossy(&left));
}
