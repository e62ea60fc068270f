//! What else people and programs ask of Docker: more limits, what containers made, compositions, and services of a swarm.
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::path::Path;

use tests::callers::{RARE_LIMITS, RARE_LIMITS_LOOK, RARE_LIMITS_SEEN};
use tests::{Docker, LIMIT, Runtime, channel, needs};

fn docker(name: &str) -> Docker {
    Docker::with(&Runtime::under_test(), name)
}

#[test]
fn root_docker_limits_more() {
    needs!(Root, Busybox, Docker, GroupsV1);
    let docker = docker("docker-limits2");
    let told = docker.shell(&[&RARE_LIMITS[..], &["--cgroupns=host"]].concat(), RARE_LIMITS_LOOK);
    assert_eq!(told.lines(), RARE_LIMITS_SEEN, "{told}");

    let stop = "trap 'exit 6' USR1; echo up; while :; do sleep 0.1; done";
    let id = docker.detach(&["--stop-signal", "USR1", "--ipc", "private", "--domainname", "example"], stop);
    let (mut logs, _following) = docker.follow(&id);
    assert_eq!(logs.next_within(LIMIT).as_deref(), Some("up"));
    docker.call(&["stop", &id]).success();
    assert_eq!(docker.inspect(&id)["State"]["ExitCode"], 6);
    docker.call(&["rm", &id]).success();

    let limits = fs::read_to_string("/proc/self/status").expect("our status");
    let bounding = limits.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).expect("our bounding set");
    let bounding = u64::from_str_radix(bounding, 16).expect("a set is hexadecimal");
    let whole =
        docker.shell(&["--privileged"], "test -e /dev/loop-control && grep Seccomp: /proc/self/status");
    if bounding & (1 << 24) == 0 {
        // What the host withholds from us, no container can have.
        whole.code(125);
        assert!(whole.stderr.contains("operation not permitted"), "{whole}");
    } else {
        assert_eq!(whole.lines(), ["Seccomp:\t0"], "{whole}");
    }
    docker.shell(&["--ulimit", "nofile=20:20"], "test $(ulimit -n) = 20").success();
}

#[test]
fn root_docker_reads_writes_and_keeps() {
    needs!(Root, Busybox, Docker);
    let docker = docker("docker-keeps");
    let note = docker.dir().join("note");
    fs::write(&note, "hello\n").expect("write a note");
    let stdin = || File::open(&note).expect("open the note");
    let piped = docker.command(&["run", "--rm", "-i", "box", "cat"]).stdin(stdin()).run();
    assert_eq!(piped.lines(), ["hello"], "{piped}");
    let line = "read word; echo got $word; exit 4";
    let id = docker.detach(&["--interactive"], line);
    let attached = docker.command(&["attach", &id]).stdin(stdin()).run();
    attached.code(4);
    // What is said in a hurry the client may miss, whose input has come to its end.
    assert_eq!(docker.call(&["logs", &id]).lines(), ["got hello"]);
    docker.call(&["rm", &id]).success();

    docker.detach(
        &["--name", "kept"],
        "echo made > /srv; echo up; trap 'exit 0' TERM; while :; do sleep 0.1; done",
    );
    let (mut logs, _following) = docker.follow("kept");
    assert_eq!(logs.next_within(LIMIT).as_deref(), Some("up"));
    let path = note.display().to_string();
    docker.call(&["cp", &path, "kept:/var/note"]).success();
    let inside = docker.call(&["exec", "-i", "kept", "cat", "/var/note"]);
    assert_eq!(inside.lines(), ["hello"], "{inside}");
    let back = docker.dir().join("back");
    docker.call(&["cp", "kept:/srv", &back.display().to_string()]).success();
    assert_eq!(fs::read_to_string(&back).expect("it was copied"), "made\n");
    let changed = docker.call(&["diff", "kept"]);
    assert!(changed.lines().contains(&"A /srv") && changed.lines().contains(&"A /var/note"), "{changed}");
    docker.call(&["commit", "kept", "second"]).success();
    docker.call(&["rename", "kept", "other"]).success();
    docker.call(&["rm", "--force", "other"]).success();
    let committed = docker.call(&["run", "--rm", "second", "cat", "/srv", "/var/note"]);
    assert_eq!(committed.lines(), ["made", "hello"], "{committed}");
}

/// Two services that find each other by name, as docker-compose(1) makes them.
#[test]
fn root_docker_composes() {
    needs!(Root, Busybox, Docker, Compose);
    let rules = ["--iptables=true", "--ip-forward=true"];
    let docker = Docker::with_flags(&Runtime::under_test(), "docker-compose", "", &rules);
    let file = docker.dir().join("compose.yml");
    let composition = r#"
version: "3.7"
services:
  web:
    image: box
    command: sh -c 'echo one > /tmp/name; httpd -p 80 -h /tmp; touch /tmp/up; while :; do sleep 0.1; done'
    init: true
    healthcheck: {test: ["CMD", "test", "-e", "/tmp/up"], interval: 100ms, retries: 300}
    volumes: ["data:/data"]
  asks:
    image: box
    command: sh -c 'until wget -q -O - http://web/name; do sleep 0.1; done; touch /data/x'
    volumes: ["data:/data"]
    depends_on: [web]
volumes: {data: {}}
"#;
    fs::write(&file, composition).expect("write a composition");
    let compose = |words: &[&str]| {
        let (host, file) =
            (format!("unix://{}", docker.dir().join("socket").display()), file.display().to_string());
        let own = ["--host", &host, "--file", &file, "--project-name", "box"];
        let words = [&own[..], words].concat();
        docker.run_by(Path::new("/usr/bin/docker-compose"), &words)
    };
    compose(&["up", "--detach"]).success();
    let asks = docker.call(&["wait", "box_asks_1"]);
    assert_eq!(asks.lines(), ["0"], "{asks}");
    assert_eq!(docker.call(&["logs", "box_asks_1"]).lines(), ["one"]);
    let inside = compose(&["exec", "-T", "web", "sh", "-c", "ls /data"]);
    assert_eq!(inside.lines(), ["x"], "{inside}");
    compose(&["up", "--detach", "--scale", "web=2"]).success();
    let found = compose(&["ps", "--quiet", "web"]);
    assert_eq!(found.lines().len(), 2, "{found}");
    compose(&["down", "--volumes", "--timeout", "5"]).success();
    let left = docker.call(&["ps", "--all", "--quiet"]);
    assert_eq!(left.lines(), [""; 0], "{left}");
}

/// A swarm of one: whoever dies is replaced.
#[test]
fn root_docker_serves_a_swarm() {
    needs!(Root, Busybox, Docker);
    let docker = docker("docker-swarm");
    let init = ["swarm", "init", "--advertise-addr", "127.0.0.1", "--listen-addr", "127.0.0.1:2377"];
    docker.call(&init).success();
    let image = docker.call(&["image", "inspect", "--format", "{{.Id}}", "box"]);
    let (mut events, stdout) = channel();
    let filter = ["events", "--since", "0", "--filter", "type=container", "--filter", "event=start"];
    let words = [&filter[..], &["--filter", "event=destroy", "--format", "{{.Status}} {{.ID}}"]].concat();
    let _watching = docker.command(&words).stdout(stdout).spawn();
    let mut next = |wanted: &str| loop {
        let line = events.next_within(LIMIT * 2).expect("dockerd tells what happens");
        if let Some(id) = line.strip_prefix(wanted) {
            return id.trim().to_owned();
        }
    };
    let service =
        ["service", "create", "--detach", "--no-resolve-image", "--network", "host", "--replicas", "2"];
    let line =
        ["--name", "many", image.lines()[0], "sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"];
    docker.call(&[&service[..], &["--restart-delay", "10ms"], &line].concat()).success();
    let first = next("start");
    let second = next("start");
    assert_ne!(first, second);
    docker.call(&["kill", &first]).success();
    let third = next("start");
    assert_ne!(third, second, "another one comes in its place");
    docker.call(&["service", "scale", "--detach", "many=1"]).success();
    next("destroy");
    docker.call(&["service", "rm", "many"]).success();
    next("destroy");
    next("destroy");
    docker.call(&["swarm", "leave", "--force"]).success();
}
