//! The daemon of devices, as its clients see it: packages come, run, end and go, and nothing is left of them.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tests::{Client, Device, figure, gone_within, needs, until};

/// A program that waits for its end.
const WAITS: &str = "exec sleep 1000000";

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn kill_pid(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).expect("a process has a number"), signal).expect("kill");
}

#[test]
fn root_a_package_comes_runs_ends_and_goes() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    let mut device = Device::new();
    device.begin();
    let package = device.pack("a", WAITS, "");
    let (mut client, mut listener) = (device.client(), device.listener());
    assert_eq!(client.ask(&json!("ident")), json!({"ident": "extern:0.0.0"}));
    assert_eq!(client.ask(&json!("repositories")), json!({"repositories": ["default", "memory"]}));
    for repository in ["default", "memory"] {
        let ok = json!({"install": {"ok": {"container": "a:1.0.0"}}});
        assert_eq!(client.install(&package, repository), ok);
        assert_eq!(client.ask(&json!("list")), json!({"list": ["a:1.0.0"]}));
        let data = client.inspect("a:1.0.0");
        assert_eq!((&data["mounted"], &data["process"]), (&json!(false), &Value::Null));
        assert_eq!((&data["repository"], &data["manifest"]["uid"]), (&json!(repository), &json!(1000)));

        client.start("a:1.0.0");
        let data = client.inspect("a:1.0.0");
        assert_eq!(data["mounted"], true);
        let pid = data["process"]["pid"].as_i64().expect("a process");
        assert!(Path::new(&format!("/proc/{pid}")).exists());
        client.kill("a:1.0.0", 15);
        assert_eq!(listener.hears_exit("a:1.0.0"), json!({"signalled": {"signal": 15}}));
        assert_eq!(client.inspect("a:1.0.0")["process"], Value::Null);

        let umount = client.ask(&json!({"umount": {"containers": ["a:1.0.0"]}}));
        assert_eq!(umount, json!({"umount": [{"ok": {"container": "a:1.0.0"}}]}));
        let uninstall = client.ask(&json!({"uninstall": {"container": "a:1.0.0", "wipe": false}}));
        assert_eq!(uninstall, json!({"uninstall": {"ok": {"container": "a:1.0.0"}}}));
        assert_eq!(client.ask(&json!("list")), json!({"list": []}));
    }
    let heard: Vec<_> =
        listener.news.iter().map(|news| news.as_object().and_then(|news| news.keys().next())).collect();
    assert!(heard.iter().flatten().any(|what| *what == "install"), "{heard:?}");
    assert!(fs::read_dir(device.path("store")).expect("the repository").next().is_none());
    device.end();
}

#[test]
fn root_what_is_installed_survives_the_daemon_and_starts_by_itself() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    let mut device = Device::new();
    device.add("a", WAITS, "autostart: relaxed\n");
    device.add("b", "exit 3", "autostart: relaxed\n");
    for _ in 0..3 {
        device.begin();
        let mut client = device.client();
        let log = |line| device.log().contains(line);
        until(|| log("b:1.0.0 has ended: exit status 3") && log("started a:1.0.0"), || device.log());
        assert_eq!(client.ask(&json!("list")), json!({"list": ["a:1.0.0", "b:1.0.0"]}));
        assert!(client.inspect("a:1.0.0")["process"]["pid"].is_u64());
        fs::remove_file(device.path("log")).expect("a log");
        device.end();
    }
}

#[test]
fn root_a_container_that_fails_is_started_anew() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    let mut device = Device::new();
    device.add(
        "a",
        "echo x >> /data/starts; exit 101",
        "mounts: {/data: {type: persist}}\n\
         custom: {cofferdam: {restart: on-failure, restart_delay: 20ms, restart_most: 20s, restart_attempts: 4}}\n",
    );
    device.begin();
    let mut listener = device.listener();
    listener.start("a:1.0.0");
    for _ in 0..5 {
        assert_eq!(listener.hears_exit("a:1.0.0"), json!({"exit": {"code": 101}}));
    }
    until(|| device.log().contains("a:1.0.0 has ended too often"), || device.log());
    assert_eq!(fs::read_to_string(device.path("data/a/starts")).expect("what it kept").lines().count(), 5);
    device.end();
}

#[test]
fn root_the_end_is_in_order_and_has_an_end() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    let mut device = Device::new();
    device.add(
        "well",
        "trap 'echo asked > /data/x; exit 0' TERM; touch /data/ready; while :; do sleep 0.01; done",
        "mounts: {/data: {type: persist}}\n",
    );
    device.add(
        "deaf",
        "trap '' TERM; touch /data/ready; while :; do sleep 0.01; done",
        "mounts: {/data: {type: persist}}\ncustom: {cofferdam: {stop_timeout: 300ms}}\n",
    );
    device.begin();
    let mut client = device.client();
    let mut listener = device.listener();
    for name in ["well", "deaf"] {
        client.start(&format!("{name}:1.0.0"));
        until(|| device.path(&format!("data/{name}/ready")).exists(), || device.log());
    }
    let begun = Instant::now();
    assert_eq!(client.ask(&json!("shutdown")), json!("shutdown"));
    listener.hears(|news| news == "shutdown");
    assert_eq!(listener.hears_exit("well:1.0.0"), json!({"exit": {"code": 0}}));
    assert_eq!(listener.hears_exit("deaf:1.0.0"), json!({"signalled": {"signal": 9}}));
    assert_eq!(device.wait().code(), Some(0), "{}", device.log());
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert_eq!(fs::read_to_string(device.path("data/well/x")).expect("it was asked"), "asked\n");
    device.assert_nothing_is_left();
}

#[test]
fn root_a_container_asks_by_a_line_of_its_own() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    let mut device = Device::new();
    let script = r#"say() { echo "$1" >&"$NORTHSTAR_CONSOLE"; read -r x <&"$NORTHSTAR_CONSOLE"; echo "$x" >> /data/said; }
say '{"connect":{"version":"0.9.2","subscribe_notifications":false}}'
say '{"request":"ident"}'
say '{"request":"list"}'
say '{"request":"shutdown"}'"#;
    let manifest = "name: a\nversion: 1.0.0\ninit: /bin/sh\nargs: [/ask]\nenv: {PATH: /bin}\nuid: 1000\ngid: 1000\n\
                    console: {permissions: [ident]}\nmounts: {/data: {type: persist}}\n";
    fs::write(device.path("root/ask"), script).expect("a script");
    let package = device.pack_manifest("a", manifest, &[]);
    device.begin();
    let mut listener = device.listener();
    listener.install(&package, "memory");
    listener.start("a:1.0.0");
    assert_eq!(listener.hears_exit("a:1.0.0"), json!({"exit": {"code": 0}}));
    let said = fs::read_to_string(device.path("data/a/said")).expect("what it was told");
    let told: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).expect("a message")).collect();
    let expected = [
        json!({"connect_ack": null}),
        json!({"response": {"ident": "a:1.0.0"}}),
        json!({"response": {"permission_denied": "list"}}),
        json!({"response": {"permission_denied": "shutdown"}}),
    ];
    assert_eq!(told, expected);
    device.end();
}

#[test]
fn root_a_resource_is_another_packages_directory() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    let mut device = Device::new();
    for version in ["0.9.0", "1.2.0", "1.10.0", "2.0.0"] {
        fs::create_dir_all(device.path("root/deep/er")).expect("a directory");
        fs::write(device.path("root/deep/er/version"), version).expect("a file");
        let text = format!("name: r\nversion: {version}\nuid: 1000\ngid: 1000\n");
        let package = device.pack_manifest("r", &text, &[]);
        fs::copy(package, device.path("store").join(version)).expect("copy a package");
    }
    device.add(
        "a",
        "cat /r/version > /data/x; touch /r/no 2>/dev/null; echo $? >> /data/x",
        "mounts:\n  /data: {type: persist}\n  /r: {type: resource, name: r, version: '^1', dir: /deep/er, options: 'noexec,nodev'}\n",
    );
    device.begin();
    let mut listener = device.listener();
    listener.start("a:1.0.0");
    listener.hears_exit("a:1.0.0");
    assert_eq!(fs::read_to_string(device.path("data/a/x")).expect("what it read"), "1.10.01\n");
    device.end();
}

#[test]
fn root_the_published_client_is_served() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd, Nstar);
    let mut device = Device::new();
    device.add(
        "a",
        WAITS,
        "mounts: {/proc: {type: proc}, /t: {type: tmpfs, size: 1MiB}}\nsched: {policy: !other {nice: 3}}\n",
    );
    device.begin();
    let url = format!("unix://{}", device.path("console").display());
    let nstar = |words: &[&str]| {
        let output =
            Command::new("northstar-nstar").arg("--url").arg(&url).args(words).output().expect("run nstar");
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "nstar {words:?}: {out}{err}\n{}", device.log());
        out + &err
    };
    let package = device.pack("b", WAITS, "").display().to_string();
    let listed = nstar(&["list"]);
    assert!(listed.contains("default") && !listed.contains("memory"), "{listed}");
    nstar(&["install", &package, "memory"]);
    nstar(&["start", "a"]);
    nstar(&["start", "b:1.0.0", "A=b", "/bin/sleep", "1000"]);
    assert!(nstar(&["inspect", "a"]).contains("\"pid\""));
    let listed = nstar(&["list"]);
    assert!(listed.contains("default") && listed.contains("memory"), "{listed}");
    assert!(nstar(&["repositories"]).contains("memory"));
    assert!(nstar(&["ident"]).contains("extern:0.0.0"));
    let token = nstar(&["token", "extern", "aGVsbG8h"]);
    let token = token.split_whitespace().next_back().expect("a token");
    assert!(nstar(&["verify-token", token, "extern", "aGVsbG8h"]).contains("Ok"));
    let mut listener = device.listener();
    nstar(&["kill", "a"]);
    assert_eq!(listener.hears_exit("a:1.0.0"), json!({"signalled": {"signal": 15}}));
    nstar(&["kill", "b", "9"]);
    assert_eq!(listener.hears_exit("b:1.0.0"), json!({"signalled": {"signal": 9}}));
    nstar(&["umount", "a"]);
    nstar(&["mount", "a"]);
    nstar(&["uninstall", "--wipe", "b"]);
    nstar(&["shutdown"]);
    assert_eq!(device.wait().code(), Some(0), "{}", device.log());
    device.assert_nothing_is_left();
}

#[test]
fn root_the_talker_is_replaced_and_containers_live_on() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    let mut device = Device::new();
    device.add("a", WAITS, "");
    device.add("b", "exit 0", "autostart: relaxed\n");
    device.begin();
    device.client().start("a:1.0.0");
    until(|| device.log().contains("b:1.0.0 has ended"), || device.log());
    let pid = device.client().inspect("a:1.0.0")["process"]["pid"].clone();
    for signal in [Signal::KILL, Signal::TERM, Signal::INT] {
        let talker = device.talker();
        kill_pid(talker, signal);
        if signal == Signal::KILL {
            assert!(gone_within(talker, tests::LIMIT));
        }
        // The listener is the guard's, and is never closed: whoever comes in between waits.
        let mut client = device.client();
        let data = client.inspect("a:1.0.0");
        assert_eq!((&data["process"]["pid"], &data["mounted"]), (&pid, &json!(true)), "{}", device.log());
        assert!(data["process"]["uptime"].as_u64().is_some_and(|uptime| uptime > 0));
        assert_eq!(
            client.try_start("a:1.0.0")["start"]["error"]["error"]["start_container_started"]["container"],
            "a:1.0.0"
        );
    }
    assert_eq!(device.log().matches("started b:1.0.0").count(), 1, "autostart is for the daemon's start");
    let mut listener = device.listener();
    listener.kill("a:1.0.0", 15);
    listener.hears_exit("a:1.0.0");
    device.end();
}

#[test]
fn root_a_new_talker_takes_up_who_is_to_be_started_anew() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    let mut device = Device::new();
    let upkeep = "custom: {cofferdam: {restart: always, restart_delay: 1h}}\n";
    device.add("slow", "exit 1", upkeep);
    device.add("asked", WAITS, "custom: {cofferdam: {restart: always, restart_delay: 1ms}}\n");
    let anew =
        "mounts: {/data: {type: persist}}\ncustom: {cofferdam: {restart: on-failure, restart_delay: 1s}}\n";
    device.add("a", "echo x >> /data/starts; exit 1", anew);
    device.begin();
    let mut listener = device.listener();
    for name in ["slow:1.0.0", "asked:1.0.0", "a:1.0.0"] {
        listener.start(name);
    }
    listener.kill("asked:1.0.0", 15);
    for name in ["slow:1.0.0", "asked:1.0.0", "a:1.0.0"] {
        listener.hears_exit(name);
    }
    kill_pid(device.talker(), Signal::KILL);
    let starts = || fs::read_to_string(device.path("data/a/starts")).unwrap_or_default().lines().count();
    until(|| starts() > 1, || device.log());
    // Who was asked to end stays down; and whose time has not come.
    assert_eq!(device.log().matches("started asked:1.0.0").count(), 1);
    assert_eq!(device.log().matches("started slow:1.0.0").count(), 1);
    device.end();
}

/// What was said on it is lost with the talker: the container hears that, and does not wait for an answer.
#[test]
fn root_a_containers_line_ends_with_the_talker() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    let mut device = Device::new();
    let script =
        r#"echo begun > /data/x; cat <&"$NORTHSTAR_CONSOLE"; echo over >> /data/x; exec sleep 1000000"#;
    device.add("a", script, "console: {permissions: [ident]}\nmounts: {/data: {type: persist}}\n");
    device.begin();
    device.client().start("a:1.0.0");
    let said = || fs::read_to_string(device.path("data/a/x")).unwrap_or_default();
    until(|| said() == "begun\n", said);
    kill_pid(device.talker(), Signal::KILL);
    until(|| said() == "begun\nover\n", said);
    let mut listener = device.listener();
    listener.kill("a:1.0.0", 9);
    listener.hears_exit("a:1.0.0");
    device.end();
}

#[test]
fn root_who_is_killed_while_he_waits_stays_down_for_every_talker() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    let mut device = Device::new();
    // As long as it takes to kill both what waits and the talker, on the slowest machine.
    let upkeep =
        format!("custom: {{cofferdam: {{restart: always, restart_delay: {}s}}}}\n", 3 * tests::patience());
    device.add("a", "exit 1", &upkeep);
    device.add("later", "exit 1", &upkeep);
    device.begin();
    let mut listener = device.listener();
    for name in ["a:1.0.0", "later:1.0.0"] {
        listener.start(name);
        listener.hears_exit(name);
    }
    listener.kill("a:1.0.0", 15);
    kill_pid(device.talker(), Signal::KILL);
    // The same time was up for both.
    until(|| device.log().matches("started later:1.0.0").count() == 2, || device.log());
    assert_eq!(device.log().matches("started a:1.0.0").count(), 1, "{}", device.log());
    // It may be started all the same.
    device.client().start("a:1.0.0");
    device.end();
}

/// A service manager has the kernel spare the daemon when memory runs out: not what the daemon runs.
#[test]
fn vm_a_program_is_not_spared_for_its_daemons_sake() {
    needs!(Vm, Cofferctl, Cofferdamd);
    let mut device = Device::new();
    device.add("a", WAITS, "");
    device.begin();
    let score = |pid: i32| format!("/proc/{pid}/oom_score_adj");
    fs::write(score(device.pid()), "-900").expect("root may spare anybody");
    let mut client = device.client();
    client.start("a:1.0.0");
    let pid = client.inspect("a:1.0.0")["process"]["pid"].as_i64().expect("a process");
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("its children");
    for pid in std::iter::once(pid.to_string()).chain(children.split_whitespace().map(str::to_owned)) {
        let told = fs::read_to_string(score(pid.parse().expect("a number"))).expect("a score");
        assert_eq!(told.trim(), "0", "of {pid}");
    }
    assert!(!children.is_empty(), "the program is there");
    device.end();
}

#[test]
fn root_what_a_killed_guard_has_left_is_removed_at_the_next_start() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    let mut device = Device::new();
    device.add(
        "a",
        WAITS,
        "sockets: {s: {type: stream, mode: 0o600}}\nmounts: {/tmp: {type: tmpfs, size: 1MiB}}\n",
    );
    device.add("b", WAITS, "");
    for _ in 0..3 {
        device.begin();
        let mut client = device.client();
        for name in ["a:1.0.0", "b:1.0.0"] {
            client.start(name);
        }
        let pid = client.inspect("a:1.0.0")["process"]["pid"].as_i64().expect("a process");
        device.signal(Signal::KILL);
        device.wait();
        device.begin();
        let mut client = device.client();
        let data = client.inspect("a:1.0.0");
        assert_eq!((&data["process"], &data["mounted"]), (&Value::Null, &json!(false)), "{}", device.log());
        assert!(gone_within(i32::try_from(pid).expect("a number"), tests::LIMIT), "a container is left");
        client.start("a:1.0.0");
        device.end();
    }
}

/// How often something is done that is done again and again.
fn rounds() -> usize {
    std::env::var("COFFERDAM_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(8)
}

/// A storm: clients who install, start, kill, mount, unmount and uninstall at once, while one half of the daemon or the other is
/// killed in the middle of it. In the end the daemon answers, and nothing is left.
#[test]
fn root_a_storm_passes() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    let mut device = Device::new();
    let names = ["a", "b", "c", "d"];
    let packages: Vec<_> = names.iter().map(|name| device.pack(name, "sleep 0.05", "")).collect();
    device.begin();
    let console = device.path("console");
    let (is_over, whirls) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (mut talkers, mut guards) = (0, 0);
    std::thread::scope(|scope| {
        for (name, package) in names.iter().zip(&packages) {
            let (console, is_over, whirls) = (&console, &is_over, &whirls);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    whirls.fetch_add(usize::from(whirl(console, name, package)), Ordering::Relaxed);
                }
            });
        }
        // Whatever happens here, those out there end.
        let storm = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..rounds() {
                // Somewhere in the middle of what they are at: each time elsewhere.
                for _ in 0..(round * 7919) % 37 {
                    drop(Client::try_connect(&console));
                }
                if round % 2 == 0 {
                    kill_pid(device.talker(), Signal::KILL);
                    talkers += 1;
                } else {
                    device.signal(Signal::KILL);
                    device.wait();
                    device.begin();
                    guards += 1;
                }
            }
            until(|| whirls.load(Ordering::Relaxed) > 0, || "a whole round of a client's");
        }));
        is_over.store(true, Ordering::Relaxed);
        storm.unwrap_or_else(|why| std::panic::resume_unwind(why));
    });
    let whole = whirls.load(Ordering::Relaxed);
    figure(&format!("{whole} whole rounds in a storm, with {talkers} talkers and {guards} guards killed"));
    assert!(device.client().ask(&json!("list"))["list"].is_array());
    device.end();
}

/// One round of a client, and whether it came to its end: what is refused, or cut short, is part of the storm.
fn whirl(console: &Path, name: &str, package: &Path) -> bool {
    let container = format!("{name}:1.0.0");
    let bytes = fs::read(package).expect("a package");
    let install = json!({"request": {"install": {"repository": "default", "size": bytes.len()}}});
    let containers = json!({"containers": [container]});
    let requests = [
        json!({"mount": containers}),
        json!({"start": {"container": container, "init": null, "arguments": [], "environment": {}}}),
        json!({"inspect": {"container": container}}),
        json!({"kill": {"container": container, "signal": 9}}),
        json!({"umount": containers}),
        json!({"uninstall": {"container": container, "wipe": true}}),
    ];
    let Some(mut client) = Client::try_connect(console) else { return false };
    let sent = client.try_send(format!("{install}\n").as_bytes()) && client.try_send(&bytes);
    let answered = sent && client.message().is_some();
    let mut ask = |request: &Value| {
        client.try_send(format!("{}\n", json!({"request": request})).as_bytes()) && client.message().is_some()
    };
    answered && requests.iter().all(&mut ask)
}
