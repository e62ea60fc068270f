//! Fifty containers that behave as badly as they may, and fifty clients who send anything but what they should: whoever
//! behaves notices nothing.
//!
//! A minute of it, by hand: `COFFERDAM_STORM=60 cargo test -p tests --test device_storm`.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::io::Write as _;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{Device, LIMIT, figure, needs, until};

const OF_EACH: usize = 10;
const CLIENTS: usize = 50;

/// How containers behave: a name, a script, and what the manifest has for it. Each has a user of its own, whose processes
/// are counted.
const MANNERS: [(&str, &str, &str); 5] = [
    ("waits", "exec sleep 1000000", ""),
    (
        "crashes",
        "exit 1",
        "custom: {cofferdam: {restart: on-failure, restart_delay: 50ms, restart_most: 200ms}}\n",
    ),
    (
        "floods",
        "while true; do echo 0123456789012345678901234567890123456789; printf \"\\\\377\\\\000\"; done",
        "cgroups: {cpu: {quota: 1000, period: 100000}}\n",
    ),
    (
        "forks",
        "f() { f | f & }; f; exec sleep 1000000",
        "rlimits: {nproc: {soft: 30, hard: 30}}\ncgroups: {cpu: {quota: 1000, period: 100000}}\n",
    ),
    (
        "eats",
        "x=x; while true; do x=$x$x; done",
        "cgroups: {memory: {oom_monitor: true, memory_hard_limit: 10000000}}\n\
         custom: {cofferdam: {restart: on-failure, restart_delay: 200ms, restart_most: 1s}}\n",
    ),
];

fn length() -> Duration {
    let told = std::env::var("COFFERDAM_STORM").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(told.unwrap_or(10))
}

fn names(manner: &'static str) -> impl Iterator<Item = String> {
    (0..OF_EACH).map(move |number| format!("{manner}-{number}"))
}

#[test]
fn root_a_storm_of_containers_and_clients_harms_nobody() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd, Groups);
    let mut device = Device::new();
    for (kind, (manner, script, more)) in MANNERS.iter().enumerate() {
        for (number, name) in names(manner).enumerate() {
            let uid = 20_000 + kind * OF_EACH + number;
            let text = format!(
                "name: {name}\nversion: 1.0.0\ninit: /bin/sh\nargs: [-c, {script:?}]\nenv: {{PATH: /bin}}\nuid: {uid}\ngid: 1000\n\
                 io: {{stdout: pipe, stderr: discard}}\nautostart: relaxed\n{more}"
            );
            let package = device.pack_manifest(&name, &text, &["-c", "none"]);
            fs::rename(package, device.path("store").join(format!("{name}.npk"))).expect("move a package");
        }
    }
    device.begin();
    let console = device.path("console");
    until(|| process_numbers(&device).iter().all(Value::is_number), || device.log());
    let waiting = process_numbers(&device);
    let talker = device.talker();

    let over = Instant::now() + length();
    let (rude, slowest) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (console, rude) = (&console, &rude);
            scope.spawn(move || {
                while Instant::now() < over {
                    // That the daemon hangs up is what is wanted.
                    let _answer = misbehave(console, number);
                    rude.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let polite = || {
            let mut client = device.client();
            while Instant::now() < over {
                let asked = Instant::now();
                let listed = client.ask(&json!("list"));
                assert_eq!(listed["list"].as_array().map(Vec::len), Some(MANNERS.len() * OF_EACH));
                let took = u64::try_from(asked.elapsed().as_micros()).expect("microseconds");
                slowest.fetch_max(took, Ordering::Relaxed);
            }
        };
        polite();
    });

    assert_eq!(process_numbers(&device), waiting, "who waits still does: {}", device.log());
    assert_eq!(device.talker(), talker, "nobody was replaced: {}", device.log());
    let (rude, slowest) = (rude.into_inner(), Duration::from_micros(slowest.into_inner()));
    figure(&format!("a storm of {:?}: {rude} rude clients, a list within {slowest:?}", length()));
    assert!(slowest < LIMIT, "an answer took {slowest:?}");
    device.end();
}

/// The first processes of all that wait; nothing in place of one that does not run.
fn process_numbers(device: &Device) -> Vec<Value> {
    let mut client = device.client();
    names("waits").map(|name| client.inspect(&format!("{name}:1.0.0"))["process"]["pid"].take()).collect()
}

/// What a client must not do, each in its own way.
fn misbehave(console: &Path, number: usize) -> std::io::Result<()> {
    let mut line = UnixStream::connect(console)?;
    line.set_write_timeout(Some(LIMIT))?;
    let hello = b"{\"connect\":{\"version\":\"0.9.2\",\"subscribe_notifications\":true}}\n";
    match number % 6 {
        // What is no message at all.
        0 => line.write_all(&[0xff, 0, b'\n', 0xfe])?,
        // Half a message.
        1 => line.write_all(&hello[..20])?,
        // More questions than may be asked, whose answers nobody takes.
        2 => {
            line.write_all(hello)?;
            line.write_all(&b"{\"request\":\"list\"}\n".repeat(2_000))?;
        }
        // A line without end.
        3 => {
            line.write_all(hello)?;
            line.write_all(&vec![b'['; 4 << 20])?;
        }
        // A package that is none, and less of it than was told.
        4 => {
            line.write_all(hello)?;
            line.write_all(b"{\"request\":{\"install\":{\"repository\":\"default\",\"size\":100000}}}\n")?;
            line.write_all(&[b'P'; 4096])?;
        }
        // Somebody from the future, who goes on as if he had been let in.
        _ => {
            line.write_all(b"{\"connect\":{\"version\":\"0.8.0\",\"subscribe_notifications\":true}}\n")?;
            line.write_all(b"{\"request\":\"shutdown\"}\n")?;
        }
    }
    line.shutdown(Shutdown::Both)
}
