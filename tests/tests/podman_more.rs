//! What else people and programs ask of Podman as root: terminals, users, more limits, what containers made.
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs::{self, File};

use tests::pty::Screen;
use tests::{LIMIT, Output, Podman, Runtime, channel, needs};

fn podman(name: &str) -> Podman {
    Podman::with(&Runtime::under_test(), name)
}

fn lines(output: &Output) -> Vec<&str> {
    output.success().stdout.lines().collect()
}

#[test]
fn root_podman_sits_at_a_terminal() {
    needs!(Root, Busybox, Podman);
    let podman = podman("podman-tty");
    let (mut screen, slave) = Screen::open(31, 91);
    let parent = format!("--cgroup-parent=/{}", podman.id());
    let words = ["run", "--rm", "-it", &parent, "-e", "PS1=ready> ", "--name", "seat", "box", "sh", "-i"];
    let run = podman.seat(&words, &slave);
    screen.shows("ready> ");
    screen.types("sh -c 'echo wai''ting; sleep 1000'\n");
    screen.shows("waiting");
    screen.types("\x03");
    screen.shows("ready> ");
    screen.types("until stty size | grep -v '^0 0'; do sleep 0.1; done\n");
    screen.shows("31 91");
    screen.shows("ready> ");
    let (mut second, other) = Screen::open(11, 41);
    let exec = podman.seat(&["exec", "-it", "-e", "PS1=joined> ", "seat", "sh", "-i"], &other);
    second.shows("joined> ");
    second.types("test -t 0 && echo ter''minal\n");
    second.shows("terminal");
    second.types("exit 4\n");
    exec.wait().code(4);
    screen.types("exit 3\n");
    run.wait().code(3);
}

#[test]
fn root_podman_limits_more() {
    needs!(Root, Busybox, Podman, GroupsV1);
    let podman = podman("podman-limits2");
    let memory = "/sys/fs/cgroup/memory/memory";
    let look = format!(
        "cat {memory}.memsw.limit_in_bytes {memory}.soft_limit_in_bytes {memory}.swappiness; \
         grep kill_disable {memory}.oom_control; cd /sys/fs/cgroup; cat cpu/cpu.cfs_period_us cpu/cpu.cfs_quota_us \
         cpuset/cpuset.mems; grep 42: devices/devices.list"
    );
    let flags = [
        "--memory=64m",
        "--memory-swap=96m",
        "--memory-reservation=32m",
        "--memory-swappiness=10",
        "--oom-kill-disable",
        "--cpu-period=50000",
        "--cpu-quota=20000",
        "--cpuset-mems=0",
        "--device-cgroup-rule=c 42:* rwm",
    ];
    let told = podman.shell(&flags, &look);
    let wanted = ["100663296", "33554432", "10", "oom_kill_disable 1", "50000", "20000", "0", "c 42:* rwm"];
    assert_eq!(lines(&told), wanted, "{told}");
    // With one limit given, podman asks for more of the others than a host without CAP_SYS_RESOURCE may give.
    let few = ["--ulimit", "nofile=20:20", "--ulimit", "nproc=900:900"];
    podman.shell(&few, "test $(ulimit -n) = 20").success();
    let whole = podman.shell(&["--cgroupns", "private"], "cut -d: -f3 /proc/self/cgroup | sort -u");
    assert_eq!(lines(&whole), ["/"], "{whole}");
    let profile = podman.dir().join("profile.json");
    let words = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":28}]}"#;
    fs::write(&profile, words).expect("write a profile");
    let option = format!("seccomp={}", profile.display());
    let output = podman.shell(&["--security-opt", &option], "mkdir /tmp/x");
    assert!(output.code(1).stderr.contains("No space left on device"), "{output}");
}

#[test]
fn root_podman_reads_writes_and_keeps() {
    needs!(Root, Busybox, Podman);
    let podman = podman("podman-keeps");
    let note = podman.dir().join("note");
    fs::write(&note, "hello\n").expect("write a note");
    let parent = format!("--cgroup-parent=/{}", podman.id());
    let words = ["run", "--rm", "-i", &parent, "box", "cat"];
    let piped = podman.command(&words).stdin(File::open(&note).expect("open the note")).run();
    assert_eq!(lines(&piped), ["hello"], "{piped}");
    let stay = "echo made > /srv; echo up; trap 'exit 0' TERM; while :; do sleep 0.1; done";
    podman.detach(&["--name", "kept"], stay);
    let (mut logs, _following) = podman.follow("kept");
    assert_eq!(logs.next_within(LIMIT).as_deref(), Some("up"));
    podman.call(&["cp", &note.display().to_string(), "kept:/var/note"]).success();
    assert_eq!(lines(&podman.call(&["exec", "kept", "cat", "/var/note"])), ["hello"]);
    let back = podman.dir().join("back");
    podman.call(&["cp", "kept:/srv", &back.display().to_string()]).success();
    assert_eq!(fs::read_to_string(&back).expect("it was copied"), "made\n");
    let changed = podman.call(&["diff", "kept"]);
    assert!(lines(&changed).contains(&"A /srv") && lines(&changed).contains(&"A /var/note"), "{changed}");
    podman.call(&["commit", "kept", "second"]).success();
    podman.call(&["rename", "kept", "other"]).success();
    podman.call(&["rm", "--force", "--time", "5", "other"]).success();
    let committed = podman.make(&["run", "--rm"], &["second", "cat", "/srv", "/var/note"]);
    assert_eq!(lines(&committed), ["made", "hello"], "{committed}");
    podman.shell(&["-v", "named:/data"], "echo kept > /data/x").success();
    assert_eq!(lines(&podman.shell(&["-v", "named:/data:ro"], "cat /data/x")), ["kept"]);

    let (mut events, stdout) = channel();
    let died = ["events", "--filter", "event=died", "--filter", "container=again", "--format", "{{.Status}}"];
    let _watching = podman.command(&died).stdout(stdout).spawn();
    let again = podman.detach(&["--restart", "on-failure:2", "--name", "again"], "exit 5");
    for _ in 0..3 {
        assert_eq!(events.next_within(LIMIT).as_deref(), Some("died"));
    }
    podman.call(&["rm", "--force", "--time", "0", &again]).success();
}

/// Ranges of ids that nobody else has, from what root was given for containers.
#[test]
fn root_podman_finds_ids_by_itself() {
    needs!(Root, Busybox, Podman, Uidmap);
    let podman = podman("podman-auto");
    podman.give_ids("containers:1000000:1048576");
    let look = "id -u; xargs < /proc/self/uid_map; touch /tmp/x && stat -c %u /tmp/x";
    let first = podman.detach(&["--userns=auto:size=2000"], "while :; do sleep 0.1; done");
    let theirs = podman.call(&["exec", &first, "sh", "-c", look]);
    let ours = podman.shell(&["--userns=auto:size=3000"], look);
    assert_eq!(lines(&theirs), ["0", "0 1000000 2000", "0"], "{theirs}");
    assert_eq!(lines(&ours), ["0", "0 1002000 3000", "0"], "{ours}");
    let joined = podman.shell(&["--userns", &format!("container:{first}")], "xargs < /proc/self/uid_map");
    assert_eq!(lines(&joined), ["0 1000000 2000"], "{joined}");
    podman.call(&["rm", "--force", "--time", "0", &first]).success();
    podman
        .make(
            &["pod", "create"],
            &[
                "--name",
                "pod",
                "--userns=auto:size=500",
                "--infra-image",
                "box",
                "--infra-command",
                "/bin/sleep 100000",
            ],
        )
        .success();
    let member = podman.shell(&["--pod", "pod"], "xargs < /proc/self/uid_map; ls -ln /proc/self/fd | wc -l");
    assert!(lines(&member)[0].ends_with(" 500"), "{member}");
    podman.call(&["pod", "rm", "--force", "--time", "0", "pod"]).success();
}
