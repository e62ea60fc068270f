//! Podman runs its containers on the runtime under test: what people do with it every day, and what it says when
//! something fails. Its words and exit codes are those that it has with runc.
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;

use tests::{LIMIT, Output, Podman, Runtime, needs};

fn podman(name: &str) -> Podman {
    Podman::with(&Runtime::under_test(), name)
}

#[track_caller]
fn assert_tells(output: &Output, code: i32, words: &str) {
    output.code(code);
    assert!(output.stderr.contains(words), "{words:?} is not in:\n{output}");
}

#[test]
fn root_podman_runs_and_tells_how_it_ended() {
    needs!(Root, Busybox, Podman);
    let podman = podman("podman-run");
    let flags = ["-e", "COLOUR=blue", "-w", "/tmp", "--hostname", "box1"];
    let output = podman.shell(&flags, "echo $COLOUR $PWD $(hostname)");
    assert_eq!(output.success().stdout, "blue /tmp box1\n");
    podman.shell(&[], "exit 7").code(7);
    podman.shell(&["--init"], "kill -9 $$").code(137);
    let run = |program: &str| podman.make(&["run", "--rm"], &["box", program]);
    assert_tells(&run("nosuch"), 127, "executable file not found in $PATH");
    assert_tells(&run("/no/such"), 127, "no such file or directory");
    assert_tells(&run("/etc/passwd"), 126, "permission denied");
    run("/etc").code(126);
    podman.make(&["run", "--rm"], &["--network", "nosuch", "box", "true"]).code(125);
}

#[test]
fn root_podman_stops_pauses_executes_and_removes() {
    needs!(Root, Busybox, Podman);
    let podman = podman("podman-life");
    let line = "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.1; done";
    let polite = podman.detach(&["--name", "polite"], line);
    let (mut logs, _following) = podman.follow("polite");
    assert_eq!(logs.next_within(LIMIT).as_deref(), Some("up"));

    let flags = ["exec", "-u", "65534:65534", "-w", "/tmp", "-e", "A=b", "polite"];
    let output = podman.call(&[&flags[..], &["sh", "-c", "echo $(id -u) $(id -g) $PWD $A"]].concat());
    assert_eq!(output.success().stdout, "65534 65534 /tmp b\n");
    podman.call(&["exec", "polite", "sh", "-c", "exit 9"]).code(9);
    podman.call(&["exec", "polite", "nosuch"]).code(127);
    podman.call(&["exec", "polite", "/etc/passwd"]).code(126);
    let session = podman.call(&["exec", "--detach", "polite", "sh", "-c", "echo done > /tmp/done"]);
    session.success();

    podman.call(&["pause", "polite"]).success();
    assert_eq!(podman.inspect(&polite)["State"]["Status"], "paused");
    podman.call(&["exec", "polite", "true"]).code(255);
    podman.call(&["unpause", "polite"]).success();
    let top = podman.call(&["top", "polite", "args"]);
    assert!(top.success().stdout.contains("while :; do"), "{top}");
    podman.call(&["stop", "--time", "20", "polite"]).success();
    let state = &podman.inspect(&polite)["State"];
    assert_eq!((&state["Status"], &state["ExitCode"]), (&"exited".into(), &3.into()), "{state}");
    podman.call(&["start", "polite"]).success();
    podman.call(&["kill", "polite"]).success();
    assert_eq!(podman.call(&["wait", "polite"]).success().stdout, "137\n");
    podman.call(&["restart", "--time", "0", "polite"]).success();
    podman.call(&["rm", "--force", "--time", "0", "polite"]).success();

    let check = ["--health-cmd", "test -e /tmp/well", "--health-interval", "disable"];
    let sick = podman.detach(&check, "while :; do sleep 0.1; done");
    podman.call(&["healthcheck", "run", &sick]).code(1);
    podman.call(&["exec", &sick, "touch", "/tmp/well"]).success();
    podman.call(&["healthcheck", "run", &sick]).success();
    podman.call(&["rm", "--force", "--time", "0", &sick]).success();
}

#[test]
fn root_podman_limits() {
    needs!(Root, Busybox, Podman, GroupsV1);
    let podman = podman("podman-limits");
    let group = "/sys/fs/cgroup";
    let look = format!(
        "cat {group}/memory/memory.limit_in_bytes {group}/memory/memory.memsw.limit_in_bytes \
         {group}/cpu/cpu.cfs_quota_us {group}/cpu/cpu.shares {group}/cpuset/cpuset.cpus {group}/pids/pids.max"
    );
    let flags =
        ["-m", "64m", "--cpus", "0.5", "--cpu-shares", "512", "--cpuset-cpus", "1", "--pids-limit", "30"];
    let output = podman.shell(&flags, &look);
    assert_eq!(output.success().stdout, "67108864\n134217728\n50000\n512\n1\n30\n");
    let greedy = podman.detach(&["-m", "16m", "--memory-swap", "16m"], "head -c 64m /dev/zero | tail");
    assert_eq!(podman.call(&["wait", &greedy]).success().stdout, "137\n");
    podman.call(&["rm", &greedy]).success();

    let id = podman.detach(&["-m", "64m"], "while :; do sleep 0.1; done");
    let update = podman.call(&["update", "-m", "128m", "--memory-swap", "256m", "--cpu-shares", "256", &id]);
    update.success();
    let look = format!("cat {group}/memory/memory.limit_in_bytes {group}/cpu/cpu.shares");
    let output = podman.call(&["exec", &id, "sh", "-c", &look]);
    assert_eq!(output.success().stdout, "134217728\n256\n");
    podman.call(&["rm", "--force", "--time", "0", &id]).success();
}

#[test]
fn root_podman_confines() {
    needs!(Root, Busybox, Podman);
    let podman = podman("podman-confine");
    let output = podman.shell(&["--user", "33:44", "--group-add", "55"], "id -u; id -g; id -G");
    assert_eq!(output.success().stdout, "33\n44\n44 55\n");
    podman.shell(&["--read-only", "--tmpfs", "/scratch"], "echo x > /scratch/x && ! echo x > /x").success();
    let caps = "grep CapEff /proc/self/status";
    let output = podman.shell(&["--cap-drop", "ALL", "--cap-add", "CHOWN"], caps);
    assert_eq!(output.success().stdout, "CapEff:\t0000000000000001\n");
    let output = podman.shell(&["--security-opt", "no-new-privileges"], "grep NoNewPrivs /proc/self/status");
    assert_eq!(output.success().stdout, "NoNewPrivs:\t1\n");
    let seccomp = "grep Seccomp: /proc/self/status";
    assert_eq!(podman.shell(&[], seccomp).success().stdout, "Seccomp:\t2\n");
    let output =
        podman.shell(&["--privileged"], "test -e /dev/loop-control && grep Seccomp: /proc/self/status");
    assert_eq!(output.success().stdout, "Seccomp:\t0\n");
    let output = podman.shell(&["--device", "/dev/null:/dev/hole:rw"], "stat -c %t:%T /dev/hole");
    assert_eq!(output.success().stdout, "1:3\n");
    let output =
        podman.shell(&["--ulimit", "nofile=500:600", "--ulimit", "nproc=900:900"], "ulimit -n; ulimit -Hn");
    assert_eq!(output.success().stdout, "500\n600\n");
}

#[test]
fn root_podman_shares_namespaces_in_pods() {
    needs!(Root, Busybox, Podman);
    let podman = podman("podman-pods");
    podman
        .make(
            &["pod", "create"],
            &[
                "--name",
                "pod",
                "--share",
                "net,ipc,uts,pid",
                "--infra-image",
                "box",
                "--infra-command",
                "/bin/sleep 100000",
            ],
        )
        .success();
    let first = podman.make(
        &["run", "--detach"],
        &["--pod", "pod", "--name", "first", "box", "sh", "-c", "while :; do sleep 0.1; done"],
    );
    first.success();
    let look =
        "ps | grep -c 'while :'; for kind in net ipc uts pid mnt; do readlink /proc/self/ns/$kind; done";
    let theirs = podman.call(&["exec", "first", "sh", "-c", look]);
    let second = podman.make(&["run", "--rm"], &["--pod", "pod", "box", "sh", "-c", look]);
    let (theirs, ours): (Vec<_>, Vec<_>) =
        (theirs.success().stdout.lines().collect(), second.success().stdout.lines().collect());
    assert_eq!(theirs[1..5], ours[1..5]);
    assert_ne!(theirs[5], ours[5], "the mount namespace is its own");
    podman.call(&["pod", "rm", "--force", "--time", "0", "pod"]).success();

    let volume = podman.dir().join("shared");
    fs::create_dir(&volume).expect("make a directory to share");
    let volume = format!("{}:/shared", volume.display());
    podman.shell(&["-v", &volume], "echo from inside > /shared/note").success();
    let note = fs::read_to_string(podman.dir().join("shared/note")).expect("read what was written");
    assert_eq!(note, "from inside\n");
}

#[test]
fn root_podman_maps_users() {
    needs!(Root, Busybox, Podman);
    let podman = podman("podman-maps");
    let maps = ["--uidmap", "0:300000:65536", "--gidmap", "0:300000:65536"];
    let output = podman.shell(&maps, "id -u; cat /proc/self/uid_map; touch /tmp/x && stat -c %u /tmp/x");
    let words: Vec<_> = output.success().stdout.split_whitespace().collect();
    assert_eq!(words, ["0", "0", "300000", "65536", "0"], "{output}");
}

#[test]
fn root_podman_builds() {
    needs!(Root, Busybox, Podman);
    let podman = podman("podman-build");
    let context = podman.dir().join("context");
    fs::create_dir(&context).expect("make a context");
    let file = "FROM localhost/box\nRUN echo built by $(id -u) > /built && mkdir -p /srv/x\nWORKDIR /srv/x\nRUN pwd >> /built\nCMD cat /built\n";
    fs::write(context.join("Dockerfile"), file).expect("write a Dockerfile");
    let path = context.display().to_string();
    podman.make(&["build", "--no-cache", "--isolation", "oci", "--tag", "built"], &[&path]).success();
    let output = podman.make(&["run", "--rm"], &["built"]);
    assert_eq!(output.success().stdout, "built by 0\n/srv/x\n");
}
