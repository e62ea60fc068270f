//! Docker runs its containers on the runtime under test: what people do with it every day, and what it says when
//! something fails. Its words and exit codes are those that it has with runc.
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::time::Duration;

use tests::callers::sits_at_a_terminal;
use tests::{Docker, Output, Runtime, needs};

fn docker(name: &str) -> Docker {
    Docker::with(&Runtime::under_test(), name)
}

#[track_caller]
fn assert_tells(output: &Output, code: i32, words: &str) {
    output.code(code);
    assert!(output.stderr.contains(words), "{words:?} is not in:\n{output}");
}

#[test]
fn root_docker_runs_and_tells_how_it_ended() {
    needs!(Root, Busybox, Docker);
    let docker = docker("docker-run");
    let flags = ["-e", "COLOUR=blue", "-w", "/tmp", "--hostname", "box1"];
    let output = docker.shell(&flags, "echo $COLOUR $PWD $(hostname)");
    assert_eq!(output.success().stdout, "blue /tmp box1\n");
    docker.shell(&[], "exit 7").code(7);
    docker.shell(&[], "kill -9 $$; sleep 1; exit 8").code(8);
    docker.shell(&["--init"], "kill -9 $$").code(137);

    let not_found = "executable file not found in $PATH";
    assert_tells(&docker.call(&["run", "--rm", "box", "nosuch"]), 127, not_found);
    let no_file = "no such file or directory";
    assert_tells(&docker.call(&["run", "--rm", "box", "/no/such"]), 127, no_file);
    assert_tells(&docker.call(&["run", "--rm", "box", "/etc/passwd"]), 126, "permission denied");
    docker.call(&["run", "--rm", "box", "/etc"]).code(126);
    docker.call(&["run", "--rm", "--no-such-flag", "box"]).code(125);
    docker.shell(&["--network", "nosuch"], "true").code(125);
}

#[test]
fn root_docker_stops_kills_restarts_and_removes() {
    needs!(Root, Busybox, Docker);
    let docker = docker("docker-life");
    let line = "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.1; done";
    let polite = docker.detach(&["--name", "polite"], line);
    let (mut logs, _following) = docker.follow("polite");
    assert_eq!(logs.next_within(tests::LIMIT).as_deref(), Some("up"));
    docker.call(&["stop", "--time", "20", "polite"]).success();
    let state = &docker.inspect(&polite)["State"];
    assert_eq!((&state["Status"], &state["ExitCode"]), (&"exited".into(), &3.into()), "{state}");
    assert_eq!(docker.call(&["logs", "polite"]).success().stdout, "up\nbye\n");

    let deaf = docker.detach(&["--name", "deaf"], "trap '' TERM; while :; do sleep 0.1; done");
    docker.call(&["stop", "--time", "0", "deaf"]).success();
    assert_eq!(docker.inspect(&deaf)["State"]["ExitCode"], 137);
    docker.call(&["start", "deaf"]).success();
    docker.call(&["kill", "deaf"]).success();
    assert_eq!(docker.call(&["wait", "deaf"]).success().stdout, "137\n");
    docker.call(&["restart", "--time", "0", "polite"]).success();
    assert_eq!(docker.inspect(&polite)["State"]["Running"], true);
    docker.call(&["rm", "--force", "polite", "deaf"]).success();

    let again = docker.detach(&["--restart", "on-failure:2"], "exit 5");
    docker.await_event(&again, "die", 3);
    let gone = docker.inspect(&again);
    assert_eq!((&gone["RestartCount"], &gone["State"]["ExitCode"]), (&2.into(), &5.into()), "{gone:#}");
    docker.call(&["rm", "--force", &again]).success();
}

#[test]
fn root_docker_pauses_and_executes() {
    needs!(Root, Busybox, Docker);
    let docker = docker("docker-exec");
    let id = docker.detach(&["--name", "long"], "while :; do sleep 0.1; done");
    let flags = ["exec", "-u", "65534:65534", "-w", "/tmp", "-e", "A=b", "long"];
    let output = docker.call(&[&flags[..], &["sh", "-c", "echo $(id -u) $(id -g) $PWD $A"]].concat());
    assert_eq!(output.success().stdout, "65534 65534 /tmp b\n");
    docker.call(&["exec", "long", "sh", "-c", "exit 9"]).code(9);
    let missing = docker.call(&["exec", "long", "nosuch"]);
    missing.code(126);
    assert!(missing.stdout.contains("executable file not found in $PATH"), "{missing}");
    let denied = docker.call(&["exec", "long", "/etc/passwd"]);
    denied.code(126);
    assert!(denied.stdout.contains("permission denied"), "{denied}");

    docker.call(&["pause", "long"]).success();
    assert_eq!(docker.inspect(&id)["State"]["Paused"], true);
    docker.call(&["exec", "long", "true"]).code(1);
    docker.call(&["unpause", "long"]).success();
    docker.call(&["exec", "long", "true"]).success();
    let top = docker.call(&["top", "long"]);
    assert!(top.success().stdout.contains("while :; do"), "{top}");
    docker.call(&["rm", "--force", "long"]).success();
}

#[test]
fn root_docker_watches_health() {
    needs!(Root, Busybox, Docker);
    let docker = docker("docker-health");
    let check = ["--health-cmd", "test -e /tmp/well", "--health-interval", "100ms", "--health-retries", "1"];
    let id = docker.detach(&check, "while :; do sleep 0.1; done");
    docker.await_event(&id, "health_status: unhealthy", 1);
    docker.call(&["exec", &id, "touch", "/tmp/well"]).success();
    docker.await_event(&id, "health_status: healthy", 1);
    docker.call(&["rm", "--force", &id]).success();
}

#[test]
fn root_docker_limits() {
    needs!(Root, Busybox, Docker, GroupsV1);
    let docker = docker("docker-limits");
    let group = "/sys/fs/cgroup";
    let look = format!(
        "cat {group}/memory/memory.limit_in_bytes {group}/memory/memory.memsw.limit_in_bytes \
         {group}/cpu/cpu.cfs_quota_us {group}/cpu/cpu.shares {group}/cpuset/cpuset.cpus {group}/pids/pids.max"
    );
    let flags =
        ["-m", "64m", "--cpus", "0.5", "--cpu-shares", "512", "--cpuset-cpus", "1", "--pids-limit", "30"];
    let output = docker.shell(&flags, &look);
    assert_eq!(output.success().stdout, "67108864\n134217728\n50000\n512\n1\n30\n");

    let greedy = docker.detach(&["-m", "16m", "--memory-swap", "16m"], "head -c 64m /dev/zero | tail");
    docker.call(&["wait", &greedy]).success();
    assert_eq!(docker.inspect(&greedy)["State"]["OOMKilled"], true);
    docker.call(&["rm", &greedy]).success();

    let device = block_device();
    let (bytes, times) = (format!("{device}:1mb"), format!("{device}:70"));
    let throttle = ["--device-read-bps", &bytes, "--device-write-iops", &times];
    let look = format!(
        "cat {group}/blkio/blkio.throttle.read_bps_device {group}/blkio/blkio.throttle.write_iops_device"
    );
    let output = docker.shell(&throttle, &look);
    let rates: Vec<_> = output.success().stdout.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    assert_eq!(rates, ["1048576", "70"], "{output}");

    let id = docker.detach(&["-m", "64m"], "while :; do sleep 0.1; done");
    let flags =
        ["update", "-m", "128m", "--memory-swap", "256m", "--cpu-shares", "256", "--pids-limit", "40"];
    docker.call(&[&flags[..], &[&id]].concat()).success();
    let look =
        format!("cat {group}/memory/memory.limit_in_bytes {group}/cpu/cpu.shares {group}/pids/pids.max");
    let output = docker.call(&["exec", &id, "sh", "-c", &look]);
    assert_eq!(output.success().stdout, "134217728\n256\n40\n");
    let stats = docker.call(&["stats", "--no-stream", "--format", "{{.MemUsage}} {{.PIDs}}", &id]);
    assert!(stats.success().stdout.contains("/ 128MiB 2") || stats.stdout.contains("/ 128MiB 3"), "{stats}");
    docker.call(&["rm", "--force", &id]).success();
}

/// A block device of this host, by a path to its node.
fn block_device() -> String {
    let names = fs::read_dir("/sys/block").expect("read /sys/block").flatten();
    let mut name = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let name = name.find(|name| !name.starts_with("loop") && !name.starts_with("ram"));
    format!("/dev/{}", name.unwrap_or_else(|| "loop0".into()))
}

#[test]
fn root_docker_confines() {
    needs!(Root, Busybox, Docker);
    let docker = docker("docker-confine");
    let output = docker.shell(&["--user", "33:44", "--group-add", "55"], "id -u; id -g; id -G");
    assert_eq!(output.success().stdout, "33\n44\n44 55\n");
    docker.shell(&["--read-only", "--tmpfs", "/scratch"], "echo x > /scratch/x && ! echo x > /x").success();
    let caps = "grep CapEff /proc/self/status";
    let output = docker.shell(&["--cap-drop", "ALL", "--cap-add", "CHOWN"], caps);
    assert_eq!(output.success().stdout, "CapEff:\t0000000000000001\n");
    let output = docker.shell(&["--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE"], caps);
    let held = effective(&output);
    assert!(held & (1 << 24) == 0 && held & (1 << 21) != 0, "{output}");
    let output = docker.shell(&["--security-opt", "no-new-privileges"], "grep NoNewPrivs /proc/self/status");
    assert_eq!(output.success().stdout, "NoNewPrivs:\t1\n");

    let seccomp = "grep Seccomp: /proc/self/status";
    assert_eq!(docker.shell(&[], seccomp).success().stdout, "Seccomp:\t2\n");
    let open = ["--security-opt", "seccomp=unconfined"];
    assert_eq!(docker.shell(&open, seccomp).success().stdout, "Seccomp:\t0\n");
    let profile = docker.dir().join("profile.json");
    let words = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":28}]}"#;
    fs::write(&profile, words).expect("write a profile");
    let output = docker.shell(&["--security-opt", &format!("seccomp={}", profile.display())], "mkdir /tmp/x");
    assert_tells(&output, 1, "No space left on device");

    let output = docker
        .shell(&["--device", "/dev/null:/dev/hole:rw"], "echo x > /dev/hole && stat -c %t:%T /dev/hole");
    assert_eq!(output.success().stdout, "1:3\n");
    docker.shell(&[], "mknod /tmp/d b 7 0 && ! cat /tmp/d").success();
    let output = docker.shell(
        &["--sysctl", "net.ipv4.ip_unprivileged_port_start=81"],
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start",
    );
    assert_eq!(output.success().stdout, "81\n");
    let output = docker.shell(&["--cgroupns", "private"], "cut -d: -f3 /proc/self/cgroup | sort -u");
    assert_eq!(output.success().stdout, "/\n");
    let output = docker.shell(
        &["--ulimit", "nofile=500:600", "--shm-size", "1m"],
        "ulimit -n; ulimit -Hn; df -k /dev/shm | tail -n 1",
    );
    assert!(output.success().stdout.starts_with("500\n600\nshm                       1024"), "{output}");
}

/// The set that a line `CapEff:` tells.
fn effective(output: &Output) -> u64 {
    let set = output.success().stdout.trim_end().trim_start_matches("CapEff:\t");
    u64::from_str_radix(set, 16).expect("a set is hexadecimal")
}

#[test]
fn root_docker_shares_files_and_namespaces() {
    needs!(Root, Busybox, Docker);
    let docker = docker("docker-share");
    let shared = docker.dir().join("shared");
    fs::create_dir(&shared).expect("make a directory to share");
    let volume = format!("{}:/shared", shared.display());
    docker.shell(&["-v", &volume], "echo from inside > /shared/note").success();
    let note = fs::read_to_string(shared.join("note")).expect("read what the container wrote");
    assert_eq!(note, "from inside\n");
    docker.shell(&["-v", &format!("{volume}:ro")], "! touch /shared/x").success();
    docker.shell(&["-v", "named:/data"], "echo kept > /data/x").success();
    assert_eq!(docker.shell(&["-v", "named:/data"], "cat /data/x").success().stdout, "kept\n");

    let first = docker.detach(&["--ipc", "shareable", "--hostname", "first"], "while :; do sleep 0.1; done");
    let of_first = format!("container:{first}");
    let join = ["--network", &of_first, "--pid", &of_first, "--ipc", &of_first];
    let output = docker.shell(
        &join,
        "ps | grep -c 'while :'; for kind in net pid ipc uts; do readlink /proc/self/ns/$kind; done",
    );
    let (count, kinds) = output.success().stdout.split_once('\n').expect("two parts");
    assert_ne!(count, "0", "{output}");
    let theirs = docker.call(&[
        "exec",
        &first,
        "sh",
        "-c",
        "for kind in net pid ipc uts; do readlink /proc/self/ns/$kind; done",
    ]);
    let (ours, theirs): (Vec<_>, Vec<_>) = (kinds.lines().collect(), theirs.stdout.lines().collect());
    assert_eq!(ours[..3], theirs[..3]);
    assert_ne!(ours[3], theirs[3], "the uts namespace is its own");
    docker.call(&["rm", "--force", &first]).success();

    let net = fs::read_link("/proc/self/ns/uts").expect("our uts namespace").display().to_string();
    let output =
        docker.shell(&["--uts", "host", "--pid", "host", "--network", "host"], "readlink /proc/self/ns/uts");
    assert_eq!(output.success().stdout.trim_end(), net);
}

#[test]
fn root_docker_builds() {
    needs!(Root, Busybox, Docker);
    let docker = docker("docker-build");
    let context = docker.dir().join("context");
    fs::create_dir(&context).expect("make a context");
    let file = "FROM box\nRUN echo built by $(id -u) > /built && mkdir -p /srv/x\nWORKDIR /srv/x\nRUN pwd >> /built\nCMD cat /built\n";
    fs::write(context.join("Dockerfile"), file).expect("write a Dockerfile");
    let path = context.display().to_string();
    for kit in ["0", "1"] {
        let tag = format!("built:{kit}");
        let build = docker.command(&["build", "--no-cache", "--tag", &tag, &path]);
        let output = build
            .launched_by(&["env", "DOCKER_CONFIG=/proc/nonexistent", &format!("DOCKER_BUILDKIT={kit}")])
            .within(Duration::from_mins(2))
            .run();
        output.success();
        let output = docker.call(&["run", "--rm", &tag]);
        assert_eq!(output.success().stdout, "built by 0\n/srv/x\n", "by kit {kit}");
    }
    fs::write(context.join("Dockerfile"), "FROM box\nRUN exit 7\n").expect("write a Dockerfile");
    let output = docker.call(&["build", &path]);
    assert_tells(&output, 7, "returned a non-zero code: 7");
}

#[test]
fn root_docker_remaps_users() {
    needs!(Root, Busybox, Docker);
    // The files that hand out ids are dockerd's own, in its mount namespace.
    let before = "mount -t tmpfs tmpfs /mnt; echo daemon:200000:65536 > /mnt/ids; \
        for file in subuid subgid; do mount --bind /mnt/ids /etc/$file; done";
    let docker =
        Docker::with_flags(&Runtime::under_test(), "docker-remap", before, &["--userns-remap=daemon"]);
    let output = docker.shell(&[], "id -u; cat /proc/self/uid_map");
    let words: Vec<_> = output.success().stdout.split_whitespace().collect();
    assert_eq!(words, ["0", "0", "200000", "65536"], "{output}");
    docker
        .shell(
            &["-m", "64m", "--tmpfs", "/scratch", "--device", "/dev/loop-control"],
            "echo x > /scratch/x && test -c /dev/loop-control",
        )
        .success();
    docker.shell(&["--network", "none"], "touch /tmp/x && stat -c %u /tmp/x").success();
    let id = docker.detach(&[], "while :; do sleep 0.1; done");
    assert_eq!(docker.call(&["exec", &id, "id", "-u"]).success().stdout, "0\n");
    docker.call(&["rm", "--force", &id]).success();
}

#[test]
fn root_docker_sits_at_a_terminal() {
    needs!(Root, Busybox, Docker);
    let docker = docker("docker-tty");
    sits_at_a_terminal(|words, slave| docker.seat(words, slave), &[]);
}
