//! What else people and programs ask of Podman as root: terminals, users, more limits, what containers made.
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs::{self, File};

use tests::callers::{RARE_LIMITS, RARE_LIMITS_LOOK, RARE_LIMITS_SEEN, sits_at_a_terminal};
use tests::{LIMIT, Podman, Runtime, channel, needs};

fn podman(name: &str) -> Podman {
    Podman::with(&Runtime::under_test(), name)
}

#[test]
fn root_podman_sits_at_a_terminal() {
    needs!(Root, Busybox, Podman);
    let podman = podman("podman-tty");
    let parent = format!("--cgroup-parent=/{}", podman.id());
    sits_at_a_terminal(|words, slave| podman.seat(words, slave), &[&parent]);
}

#[test]
fn root_podman_limits_more() {
    needs!(Root, Busybox, Podman, GroupsV1);
    let podman = podman("podman-limits2");
    let told = podman.shell(&RARE_LIMITS, RARE_LIMITS_LOOK);
    assert_eq!(told.lines(), RARE_LIMITS_SEEN, "{told}");
    // With one limit given, podman asks for more of the others than a host without CAP_SYS_RESOURCE may give.
    let few = ["--ulimit", "nofile=20:20", "--ulimit", "nproc=900:900"];
    podman.shell(&few, "test $(ulimit -n) = 20").success();
    let whole = podman.shell(&["--cgroupns", "private"], "cut -d: -f3 /proc/self/cgroup | sort -u");
    assert_eq!(whole.lines(), ["/"], "{whole}");
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
    assert_eq!(piped.lines(), ["hello"], "{piped}");
    let stay = "echo made > /srv; echo up; trap 'exit 0' TERM; while :; do sleep 0.1; done";
    podman.detach(&["--name", "kept"], stay);
    let (mut logs, _following) = podman.follow("kept");
    assert_eq!(logs.next_within(LIMIT).as_deref(), Some("up"));
    podman.call(&["cp", &note.display().to_string(), "kept:/var/note"]).success();
    assert_eq!(podman.call(&["exec", "kept", "cat", "/var/note"]).lines(), ["hello"]);
    let back = podman.dir().join("back");
    podman.call(&["cp", "kept:/srv", &back.display().to_string()]).success();
    assert_eq!(fs::read_to_string(&back).expect("it was copied"), "made\n");
    let changed = podman.call(&["diff", "kept"]);
    assert!(changed.lines().contains(&"A /srv") && changed.lines().contains(&"A /var/note"), "{changed}");
    podman.call(&["commit", "kept", "second"]).success();
    podman.call(&["rename", "kept", "other"]).success();
    podman.call(&["rm", "--force", "--time", "5", "other"]).success();
    let committed = podman.make(&["run", "--rm"], &["second", "cat", "/srv", "/var/note"]);
    assert_eq!(committed.lines(), ["made", "hello"], "{committed}");
    podman.shell(&["-v", "named:/data"], "echo kept > /data/x").success();
    assert_eq!(podman.shell(&["-v", "named:/data:ro"], "cat /data/x").lines(), ["kept"]);

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
    assert_eq!(theirs.lines(), ["0", "0 1000000 2000", "0"], "{theirs}");
    assert_eq!(ours.lines(), ["0", "0 1002000 3000", "0"], "{ours}");
    let joined = podman.shell(&["--userns", &format!("container:{first}")], "xargs < /proc/self/uid_map");
    assert_eq!(joined.lines(), ["0 1000000 2000"], "{joined}");
    // podman 4.3 may still be taking its mounts away when it comes to the directory.
    let remove = |words: &[&str]| {
        let mut removed = podman.call(words);
        for _ in 0..20 {
            if removed.stderr.contains("userdata/shm: device or resource busy") {
                removed = podman.call(words);
            }
        }
        removed.success();
    };
    remove(&["rm", "--force", "--time", "0", &first]);
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
    assert!(member.lines()[0].ends_with(" 500"), "{member}");
    remove(&["pod", "rm", "--force", "--time", "0", "pod"]);
}
