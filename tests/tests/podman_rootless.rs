//! Podman as an ordinary user, with subordinate ids and without: somebody who has no rights over the host, and whose
//! runtime is root of the user namespace that podman made.
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use tests::{LIMIT, Output, Podman, Runtime, USER, needs};

/// As useradd(8) hands them out.
const MANY: u32 = 65536;

fn podman(name: &str, grants: u32) -> Podman {
    Podman::of_user(&Runtime::under_test(), name, grants)
}

fn words(output: &Output) -> Vec<&str> {
    output.success().stdout.split_whitespace().collect()
}

/// What works for everybody, whatever ids he was given.
fn lives(podman: &Podman) {
    let output = podman.shell(&["--network", "none"], "exit 7");
    assert_eq!(output.code(7).stderr, "", "what is not the container's would be taken for it");
    let run = |program: &str| podman.make(&["run", "--rm"], &["--network", "none", "box", program]);
    for (program, code, told) in [
        ("nosuch", 127, "executable file not found in $PATH"),
        ("/no/such", 127, "no such file or directory"),
        ("/etc/passwd", 126, "permission denied"),
        ("/etc", 126, ""),
    ] {
        let output = run(program);
        assert!(output.code(code).stderr.contains(told), "{output}");
    }
    podman.make(&["run", "--rm"], &["--no-such-flag", "box", "true"]).code(125);

    let line = "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.1; done";
    podman.detach(&["--network", "none", "--name", "polite", "--init"], line);
    let (mut logs, _following) = podman.follow("polite");
    assert_eq!(logs.next_within(LIMIT).as_deref(), Some("up"), "nobody but the container prints");
    let output =
        podman.call(&["exec", "-w", "/tmp", "-e", "A=b", "polite", "sh", "-c", "echo $PWD $A; exit 9"]);
    assert_eq!(output.code(9).stdout, "/tmp b\n");
    podman.call(&["exec", "polite", "nosuch"]).code(127);
    podman.call(&["exec", "polite", "/etc/passwd"]).code(126);
    let top = podman.call(&["top", "polite", "args"]);
    assert!(top.success().stdout.contains("while :; do"), "{top}");
    podman.call(&["stop", "--time", "20", "polite"]).success();
    assert_eq!(podman.inspect("polite")["State"]["ExitCode"], 3);
    assert_eq!(podman.call(&["logs", "polite"]).success().stdout, "up\nbye\n");
    podman.call(&["start", "polite"]).success();
    podman.call(&["kill", "polite"]).success();
    assert_eq!(podman.call(&["wait", "polite"]).success().stdout, "137\n");
    podman.call(&["restart", "--time", "0", "polite"]).success();
    podman.call(&["rm", "--force", "--time", "0", "polite"]).success();
}

/// Files, limits and privileges.
fn confines(podman: &Podman) {
    let flags = ["--network", "none", "--volume", "named:/data"];
    podman.shell(&flags, "echo kept > /data/x").success();
    let output = podman.shell(&["--network", "none", "-v", "named:/data:ro"], "cat /data/x; ! touch /data/y");
    assert_eq!(output.success().stdout, "kept\n");
    let shared = podman.dir().join("home/shared");
    fs::create_dir(&shared).expect("make a directory to share");
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o777)).expect("open it");
    let volume = format!("{}:/shared", shared.display());
    podman.shell(&["--network", "none", "-v", &volume], "echo x > /shared/note").success();
    assert_eq!(fs::metadata(shared.join("note")).expect("it wrote").uid(), USER, "root inside is the user");

    let strict = [
        "--network=none",
        "--read-only",
        "--tmpfs=/scratch",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
        "--ulimit=nofile=100:200",
        "--hostname=box1",
        "--sysctl=net.ipv4.ip_unprivileged_port_start=81",
    ];
    let look = "touch /scratch/x && ! touch /x && hostname && ulimit -n && grep -h -e CapEff -e NoNew -e Seccomp: \
                /proc/self/status && cat /proc/sys/net/ipv4/ip_unprivileged_port_start";
    let output = podman.shell(&strict, look);
    let wanted = ["box1", "100", "CapEff:", "0000000000000000", "NoNewPrivs:", "1", "Seccomp:", "2", "81"];
    assert_eq!(words(&output), wanted, "{output}");
    let output = podman.shell(
        &["--network", "none", "--privileged"],
        "test -e /dev/loop-control && grep Seccomp: /proc/self/status",
    );
    assert_eq!(words(&output), ["Seccomp:", "0"], "{output}");
    let net = fs::read_link("/proc/self/ns/net").expect("our network").display().to_string();
    let output =
        podman.shell(&["--network", "host"], "readlink /proc/self/ns/net; ! touch /sys/fs/cgroup/pids/x");
    assert_ne!(words(&output), [net], "podman's host is the test's own");

    let check = ["--network", "none", "--health-cmd", "test -e /tmp/well", "--health-interval", "disable"];
    let sick = podman.detach(&check, "while :; do sleep 0.1; done");
    podman.call(&["healthcheck", "run", &sick]).code(1);
    podman.call(&["exec", &sick, "touch", "/tmp/well"]).success();
    podman.call(&["healthcheck", "run", &sick]).success();
    let look = "readlink /proc/self/ns/net";
    let joined = podman.shell(&["--network", &format!("container:{sick}")], look);
    let theirs = podman.call(&["exec", &sick, "sh", "-c", look]);
    assert_eq!(words(&joined), words(&theirs), "one network");
    podman.call(&["rm", "--force", "--time", "0", &sick]).success();
}

/// Two containers with namespaces in common.
fn shares(podman: &Podman) {
    let flags = ["--name", "pod", "--share", "net,ipc,uts,pid", "--network", "none"];
    let infra = ["--infra-image", "box", "--infra-command", "/bin/sleep 100000"];
    podman.make(&["pod", "create"], &[&flags[..], &infra[..]].concat()).success();
    let line = "while :; do sleep 0.1; done";
    podman.detach(&["--pod", "pod", "--name", "first"], line);
    let look = "for kind in net ipc uts pid user mnt; do readlink /proc/self/ns/$kind; done";
    let theirs = podman.call(&["exec", "first", "sh", "-c", look]);
    let ours = podman.shell(&["--pod", "pod"], look);
    let (theirs, ours) = (words(&theirs), words(&ours));
    assert_eq!(theirs[..5], ours[..5]);
    assert_ne!(theirs[5], ours[5], "the mount namespace is its own");
    podman.call(&["pod", "rm", "--force", "--time", "0", "pod"]).success();
}

fn builds(podman: &Podman) {
    let context = podman.dir().join("context");
    fs::create_dir(&context).expect("make a context");
    let file = "FROM localhost/box\nRUN echo built by $(id -u) > /built && mkdir -p /srv/x\nWORKDIR /srv/x\nRUN pwd >> /built\nCMD cat /built\n";
    fs::write(context.join("Dockerfile"), file).expect("write a Dockerfile");
    let path = context.display().to_string();
    let flags = ["build", "--no-cache", "--isolation", "oci", "--network", "none", "--tag", "built", &path];
    podman.call(&flags).success();
    let output = podman.make(&["run", "--rm"], &["--network", "none", "built"]);
    assert_eq!(output.success().stdout, "built by 0\n/srv/x\n");
}

#[test]
fn root_podman_of_a_user_with_ids_of_his_own() {
    needs!(Root, Busybox, Podman, Uidmap);
    let podman = podman("user-many", MANY);
    let output = podman.shell(&["--network", "none"], "id -u; cat /proc/self/uid_map");
    let user = USER.to_string();
    assert_eq!(words(&output), ["0", "0", &user, "1", "1", "710000", "65536"], "{output}");
    lives(&podman);

    let output = podman.shell(
        &["--network", "none", "--tmpfs", "/scratch", "--user", "33:44"],
        "id -u; id -g; touch /scratch/x; stat -c %u /scratch/x",
    );
    assert_eq!(words(&output), ["33", "44", "33"], "{output}");
    let id = podman.detach(&["--network", "none"], "while :; do sleep 0.1; done");
    let output = podman.call(&["exec", "-u", "65534:65534", &id, "sh", "-c", "id -u; id -g"]);
    assert_eq!(words(&output), ["65534", "65534"], "{output}");
    podman.call(&["rm", "--force", "--time", "0", &id]).success();
    for (how, who, first) in [("keep-id", &*user, "0 1"), ("nomap", "0", "0 1"), ("auto", "0", "0 1")] {
        let line = "id -u; xargs < /proc/self/uid_map; touch /scratch/x; stat -c %u /scratch/x";
        let output = podman.shell(&["--network", "none", "--tmpfs", "/scratch", "--userns", how], line);
        let lines: Vec<_> = output.success().stdout.lines().collect();
        assert_eq!((lines[0], lines[2]), (who, who), "{how}: {output}");
        assert!(lines[1].starts_with(first), "{how}: {output}");
    }
}

#[test]
fn root_podman_of_a_user_confines_and_builds() {
    needs!(Root, Busybox, Podman, Uidmap);
    let podman = podman("user-more", MANY);
    confines(&podman);
    shares(&podman);
    builds(&podman);
}

#[test]
fn root_podman_of_a_user_without_ids_of_his_own() {
    needs!(Root, Busybox, Podman);
    let podman = podman("user-alone", 0);
    let output = podman.shell(&["--network", "none"], "id -u; cat /proc/self/uid_map /proc/self/setgroups");
    let user = USER.to_string();
    assert_eq!(words(&output), ["0", "0", &user, "1", "deny"], "{output}");
    lives(&podman);
    let other = podman.shell(&["--network", "none", "--user", "33:44"], "true");
    other.code(126);
    assert!(other.stderr.contains("invalid argument"), "{other}");
    builds(&podman);
}

/// slirp4netns makes a network in the container's namespace from outside, between `create` and `start`.
#[test]
fn root_podman_of_a_user_has_a_network() {
    needs!(Root, Busybox, Podman, Uidmap, Slirp);
    let podman = podman("user-slirp", MANY);
    let output = podman.shell(&["--network", "slirp4netns"], "ip -o -4 addr | grep -o 'inet [0-9.]*'");
    assert_eq!(words(&output), ["inet", "127.0.0.1", "inet", "10.0.2.100"], "{output}");
    let line = "echo hello > /tmp/index.html; httpd -p 80 -h /tmp; echo up; while :; do sleep 0.1; done";
    let id = podman.detach(&["--network", "slirp4netns", "--publish", "127.0.0.1:8099:80"], line);
    let (mut logs, _following) = podman.follow(&id);
    assert_eq!(logs.next_within(LIMIT).as_deref(), Some("up"));
    let output = podman.shell(&["--network", "host"], "wget -q -O - http://127.0.0.1:8099/");
    assert_eq!(output.success().stdout, "hello\n");
    podman.call(&["rm", "--force", "--time", "0", &id]).success();
}
