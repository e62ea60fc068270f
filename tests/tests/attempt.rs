//! `try`: a container from nothing, gone without a trace.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use tests::trace::{Fate, kill_after};
use tests::{Bundle, Invocation, LIMIT, Output, Runtime, channel, needs};

/// `try` with the bundle's name, so that whatever it left would be seen.
fn trial<'a>(bundle: &'a Bundle, words: &[&str]) -> Invocation<'a> {
    let words: Vec<&str> = ["try", "--name", bundle.id()].iter().chain(words).copied().collect();
    Runtime::under_test().command(bundle, &words)
}

fn attempt(bundle: &Bundle, words: &[&str]) -> Output {
    let output = trial(bundle, words).run();
    bundle.assert_nothing_left();
    output
}

/// One line of complaint and perhaps a hint, exit 1, nothing printed, nothing left.
#[track_caller]
fn refused(bundle: &Bundle, words: &[&str], why: &str) {
    let output = attempt(bundle, words);
    output.code(1);
    let lines: Vec<&str> = output.stderr.lines().collect();
    assert!(lines.len() == 1 || lines.len() == 2 && lines[1].starts_with("hint: "), "{output}");
    assert!(lines[0].contains(why), "{why:?} is not in {output}");
    assert_eq!(output.stdout, "");
}

#[test]
fn root_try_shows_what_was_shut_in() {
    needs!(Root);
    let bundle = Bundle::new("show");
    let output = attempt(&bundle, &["-m", "64m", "--cpus", "0.25", "--pids", "20"]);
    assert_eq!(output.success().stderr, "");
    let text = &output.stdout;
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    let has = |row: &[&str]| assert!(rows.iter().any(|one| one.starts_with(row)), "no {row:?} in\n{text}");
    has(&["host", "name", bundle.id()]);
    has(&["user", "0,", "group", "0"]);
    for mount in [["w", "/", "tmpfs"], ["r", "/usr", ""], ["r", "/sys", "sysfs"], ["w", "/proc", "proc"]] {
        has(&mount[..if mount[2].is_empty() { 2 } else { 3 }]);
    }
    has(&["lo"]);
    has(&["has", "chown", "dac_override"]);
    has(&["memory", "64", "MiB"]);
    has(&["cpus", "0.250"]);
    has(&["processes", "20"]);
    for namespace in ["mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        has(&[namespace, "its", "own"]);
    }
    has(&["user", "the", "host's"]);
    let after = rows.iter().skip_while(|row| row.first() != Some(&"Processes")).skip(1);
    let processes: Vec<_> = after.take_while(|row| !row.is_empty()).collect();
    assert_eq!(processes, [&["1", "sh"]], "the host's processes are not among them");
}

#[test]
fn root_try_ends_as_its_program_does() {
    needs!(Root);
    let bundle = Bundle::new("status");
    for status in [0, 1, 7, 255] {
        attempt(&bundle, &["--", "sh", "-c", &format!("exit {status}")]).code(status);
    }
    assert_eq!(attempt(&bundle, &["cat", "/proc/1/comm"]).success().stdout, "cat\n");
}

#[test]
fn root_try_limits_are_in_the_control_groups() {
    needs!(Root);
    let bundle = Bundle::new("limits");
    let script = "cd /sys/fs/cgroup; cat memory.max memory/memory.limit_in_bytes 2>/dev/null;
        cat cpu.max 2>/dev/null || echo $(cat cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us);
        cat pids.max pids/pids.max 2>/dev/null";
    let limited = |cpus, script| {
        attempt(&bundle, &["-m", "64m", "--cpus", cpus, "--pids", "20", "--", "sh", "-c", script])
    };
    // Only one of each pair is there, so the shell's last status says nothing.
    assert_eq!(limited("1.5", script).stdout, "67108864\n150000 100000\n20\n");
    assert_eq!(limited("0.001", script).stdout, "67108864\n1000 1000000\n20\n");
    let bomb = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21; do sleep 100 & done";
    assert_ne!(limited("1", bomb).code, 0, "the twentieth process may not be born");
}

#[test]
fn root_try_sets_variables_user_and_capabilities() {
    needs!(Root);
    let bundle = Bundle::new("who");
    let print = "echo $A-$HOME-$HOSTNAME; id -u; id -g; grep Cap /proc/self/status";
    let caps = |sets: [&str; 5]| {
        let names = ["Inh", "Prm", "Eff", "Bnd", "Amb"];
        let lines: Vec<_> =
            names.iter().zip(sets).map(|(name, set)| format!("Cap{name}:\t00000000{set}\n")).collect();
        lines.concat()
    };
    let docker = "a80425fb";
    let none = "00000000";
    let output = attempt(&bundle, &["-e", "A=b", "-e", "HOME=/c", "--", "sh", "-c", print]);
    let expected = format!("b-/c-{}\n0\n0\n{}", bundle.id(), caps([none, docker, docker, docker, none]));
    assert_eq!(output.success().stdout, expected);
    let output = attempt(&bundle, &["--user", "1000:2000", "--", "sh", "-c", print]);
    let expected = format!("-/-{}\n1000\n2000\n{}", bundle.id(), caps([none, none, none, docker, none]));
    assert_eq!(output.success().stdout, expected);
}

#[test]
fn root_try_writes_into_its_own_tmpfs_alone() {
    needs!(Root);
    let bundle = Bundle::new("write");
    let write = "for d in / /etc /tmp /root /usr /usr/bin; do
        if echo x 2>/dev/null > $d/cofferdam-was-here; then echo $d; fi; done";
    assert_eq!(attempt(&bundle, &["--", "sh", "-c", write]).stdout, "/\n/etc\n/tmp\n/root\n");
    assert_eq!(attempt(&bundle, &["--read-only", "--", "sh", "-c", write]).stdout, "");
    for dir in ["/", "/etc", "/tmp", "/root", "/usr", "/usr/bin"] {
        assert!(!Path::new(dir).join("cofferdam-was-here").exists(), "{dir}");
    }
    let look =
        "grep -v ':\\*:::::::$' /etc/shadow; find /home /boot /etc/ssl/private -mindepth 1 2>/dev/null";
    assert_eq!(attempt(&bundle, &["--", "sh", "-c", look]).stdout, "", "nothing of the host's secrets");
}

#[test]
fn root_try_shows_directories_of_the_host() {
    needs!(Root);
    let bundle = Bundle::new("volume");
    let volume = bundle.dir().join("volume");
    fs::create_dir(&volume).expect("make a volume");
    fs::write(volume.join("in"), "from the host\n").expect("write into it");
    let copy = "cat /data/in; cat /data/in > /data/out";
    // Relative to the directory that it is typed in, which is the bundle's.
    let output = attempt(&bundle, &["-v", "volume:/data", "--", "sh", "-c", copy]);
    assert_eq!(output.success().stdout, "from the host\n");
    let out = volume.join("out");
    assert_eq!(fs::read_to_string(&out).expect("it was written"), "from the host\n");
    fs::remove_file(&out).expect("remove it");
    let output = attempt(&bundle, &["-v", "volume:/data:ro", "--", "sh", "-c", copy]);
    assert_eq!(output.stdout, "from the host\n");
    assert!(output.code != 0 && !out.exists(), "{output}");
}

#[test]
fn root_a_read_only_volume_has_nothing_writable_below_it() {
    needs!(Root);
    let bundle = Bundle::new("below");
    fs::create_dir_all(bundle.dir().join("volume/b l")).expect("make a volume");
    let mounted = "mount -t tmpfs below 'volume/b l' && exec \"$@\"";
    let launcher = ["unshare", "--mount", "--propagation", "private", "sh", "-c", mounted, "sh"];
    let script = "grep -c ' /data/b.040l tmpfs ' /proc/self/mounts; touch '/data/b l/x'";
    let run = |volume| {
        let output = trial(&bundle, &["-v", volume, "--", "sh", "-c", script]).launched_by(&launcher).run();
        bundle.assert_nothing_left();
        assert_eq!(output.stdout, "1\n", "{output}");
        output
    };
    run("volume:/data").success();
    assert!(run("volume:/data:ro").stderr.contains("Read-only file system"));
}

#[test]
fn root_try_takes_a_directory_as_it_is() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("rootfs");
    let write = ["--rootfs", "rootfs", "--", "/bin/sh", "-c", "cat /etc/group; echo kept > /kept"];
    let output = attempt(&bundle, &write);
    assert_eq!(output.success().stdout, "root:x:0:\nnogroup:x:65534:\n");
    assert_eq!(fs::read_to_string(bundle.rootfs().join("kept")).expect("it was written"), "kept\n");
    let output = attempt(&bundle, &["--rootfs", "rootfs", "--read-only", "--", "rm", "/kept"]);
    assert_ne!(output.code, 0, "{output}");
    let output = attempt(&bundle, &["--rootfs", "rootfs"]);
    assert!(output.success().stdout.contains("Namespaces"), "busybox can show it too: {output}");
}

/// Packs `words` in the bundle's directory.
fn tar(bundle: &Bundle, words: &[&str]) {
    let status = Command::new("tar").current_dir(bundle.dir()).args(words).status().expect("run tar");
    assert!(status.success(), "tar {words:?}: {status}");
}

#[test]
fn root_try_unpacks_an_archive() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("tar");
    let write = fs::write(bundle.rootfs().join("etc/odd"), "odd\n");
    write.expect("write");
    std::os::unix::fs::chown(bundle.rootfs().join("etc/odd"), Some(12), Some(34)).expect("chown");
    tar(&bundle, &["-C", "rootfs", "-cf", "plain.tar", "."]);
    tar(&bundle, &["-C", "rootfs", "-czf", "packed.tgz", "."]);
    for file in ["plain.tar", "packed.tgz"] {
        let look = "stat -c '%u %g' /etc/odd; readlink /bin/sh; touch /here";
        let output = attempt(&bundle, &["--tar", file, "--", "sh", "-c", look]);
        assert_eq!(output.success().stdout, "12 34\nbusybox\n");
    }
    let archive = fs::File::open(bundle.dir().join("packed.tgz")).expect("open");
    let output = trial(&bundle, &["--tar", "/dev/stdin", "--", "echo", "ok"]).stdin(archive).run();
    assert_eq!(output.success().stdout, "ok\n");
}

#[test]
fn root_try_lets_nothing_out_of_an_archive() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("hostile");
    fs::write(bundle.dir().join("x"), "x").expect("write");
    std::os::unix::fs::symlink(bundle.dir(), bundle.dir().join("out")).expect("symlink");
    let why = "would lie outside of the root file system";
    tar(&bundle, &["-P", "--transform", "s,^x,../../escaped,", "-cf", "dots.tar", "x"]);
    refused(&bundle, &["--tar", "dots.tar", "--", "true"], why);
    tar(&bundle, &["-cf", "link.tar", "out"]);
    tar(&bundle, &["-P", "--transform", "s,^x,out/escaped,", "-rf", "link.tar", "x"]);
    refused(&bundle, &["--tar", "link.tar", "--", "true"], why);
    let escaped = fs::read_dir(bundle.dir()).expect("list").flatten();
    assert!(escaped.map(|entry| entry.file_name()).all(|name| name != "escaped"));
}

#[test]
fn root_try_refuses_what_it_cannot_use() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("bad");
    let write = |name: &str, bytes: &[u8]| fs::write(bundle.dir().join(name), bytes).expect("write");
    write("text", &b"no archive\n".repeat(100));
    write("empty", b"");
    write("packed.xz", b"\xfd7zXZ\0....");
    tar(&bundle, &["-C", "rootfs", "-cf", "whole.tar", "."]);
    let whole = fs::read(bundle.dir().join("whole.tar")).expect("read");
    write("cut.tar", &whole[..whole.len() / 2]);
    for (words, why) in [
        (&["--rootfs", "nowhere"][..], "--rootfs nowhere: No such file"),
        (&["--rootfs", "text"], "is no directory"),
        (&["--rootfs", "/"], "--rootfs /: "),
        (&["--tar", "nowhere"], "--tar nowhere: No such file"),
        (&["--tar", "rootfs"], "--tar rootfs: "),
        (&["--tar", "text"], "is no tar archive"),
        (&["--tar", "empty"], "holds nothing"),
        (&["--tar", "packed.xz"], "is packed by xz"),
        (&["--tar", "cut.tar"], "--tar cut.tar: "),
        (&["-v", "nowhere:/x"], "--volume nowhere: No such file"),
        (&["-v", "rootfs:/usr/new/x", "--", "true"], "read-only file system"),
        (&["-m", "much"], "--memory: "),
        (&["--cpus", "none"], "--cpus: "),
        (&["--pids", "0"], "--pids: "),
        (&["--", "no-such-program"], "no-such-program"),
        (&["--", "/etc/passwd"], "/etc/passwd"),
    ] {
        refused(&bundle, words, why);
    }
}

#[test]
fn root_try_goes_when_it_is_told_to() {
    needs!(Root);
    let bundle = Bundle::new("signals");
    fs::create_dir(bundle.dir().join("volume")).expect("make a volume");
    fs::write(bundle.dir().join("volume/text"), "up\n").expect("write into it");
    let ends_by = |words: &[&str], signals: &[Signal], code: i32| {
        let (mut lines, stdout) = channel();
        let process = trial(&bundle, &[&["-v", "volume:/data", "--"], words].concat()).stdout(stdout).spawn();
        assert_eq!(lines.next_within(LIMIT).as_deref(), Some("up"));
        for signal in signals {
            process.signal(*signal);
        }
        process.wait().code(code);
        bundle.assert_nothing_left();
        lines.next_within(LIMIT)
    };
    // The first process of a pid namespace has no default actions, and try makes up for them.
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129), (Signal::QUIT, 131)] {
        assert_eq!(ends_by(&["tail", "-f", "/data/text"], &[signal], code), None);
    }
    let sleep = "cat /data/text; while :; do sleep 0.01; done";
    let catches = format!("trap 'echo caught; exit 3' TERM; {sleep}");
    assert_eq!(ends_by(&["sh", "-c", &catches], &[Signal::TERM], 3).as_deref(), Some("caught"));
    // Whoever asks twice means it.
    let ignores = format!("trap '' INT TERM; {sleep}");
    assert_eq!(ends_by(&["sh", "-c", &ignores], &[Signal::INT, Signal::TERM], 143), None);
}

#[test]
fn root_try_ends_while_it_unpacks() {
    needs!(Root);
    let bundle = Bundle::new("unpacking");
    // An archive that never comes to its end: the header of a file, and a pipe that stays open behind it.
    let (reader, writer) = std::io::pipe().expect("pipe");
    let process = trial(&bundle, &["--tar", "/dev/stdin", "--", "true"]).stdin(reader).spawn();
    fs::create_dir(bundle.dir().join("d")).expect("mkdir");
    tar(&bundle, &["-cf", "d.tar", "d"]);
    let header = fs::read(bundle.dir().join("d.tar")).expect("read");
    let mut writer = fs::File::from(std::os::fd::OwnedFd::from(writer));
    process.signal(Signal::TERM);
    // Each entry asks whether somebody wants it to end; the signal came before this one.
    std::io::Write::write_all(&mut writer, &header[..512].repeat(4)).expect("write");
    drop(writer);
    let output = process.wait();
    output.code(143);
    bundle.assert_nothing_left();
}

#[test]
fn root_what_a_killed_try_leaves_the_next_removes() {
    needs!(Root);
    let bundle = Bundle::new("killed");
    let (mut lines, stdout) = channel();
    let process = trial(&bundle, &["--", "sh", "-c", "echo up; sleep 1000"]).stdout(stdout).spawn();
    assert_eq!(lines.next_within(LIMIT).as_deref(), Some("up"));
    // While it lives it is left in peace.
    let other = format!("{}.other", bundle.id());
    let next = || Runtime::under_test().command(&bundle, &["try", "--name", &other, "--", "true"]).run();
    let status = || {
        let output = Runtime::under_test().command(&bundle, &["state", bundle.id()]).run();
        (output.code, output.stdout.contains(r#""status": "running""#))
    };
    assert_eq!(next().success().stderr, "");
    assert_eq!(status(), (0, true));
    process.signal(Signal::KILL);
    process.wait().code(137);
    assert_eq!(status(), (0, true), "nobody is there to end it");
    assert_eq!(next().success().stderr, "");
    bundle.assert_nothing_left();
}

#[test]
fn root_a_name_alone_does_not_make_it_ours_to_remove() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("namesake").args(&["sleep", "1000"]);
    let runtime = Runtime::under_test();
    let container = bundle.container(&runtime);
    container.create().success();
    let stale = bundle.state_root().join(format!(".try-{}", bundle.id()));
    fs::create_dir(&stale).expect("make what a killed try leaves");
    let other = format!("{}.other", bundle.id());
    runtime.command(&bundle, &["try", "--name", &other, "--", "true"]).run().success();
    assert!(!stale.exists(), "the directory was a dead one's");
    assert_eq!(container.status().as_deref(), Some("created"), "the container was not");
}

/// Every so many system calls of `try` one is its last; all of them would take minutes, and those of the engine's own
/// commands are tried without a gap in kill_points.rs.
const STRIDE: usize = 5;

#[test]
fn root_a_try_killed_at_any_point_is_swept() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("points");
    let next = format!("{}.next", bundle.id());
    let mut points = 0;
    for count in (0..).step_by(STRIDE) {
        let fate = kill_after(trial(&bundle, &["--rootfs", "rootfs", "--", "/bin/true"]), count);
        let words = ["try", "--name", &next, "--rootfs", "rootfs", "--", "/bin/true"];
        let swept = Runtime::under_test().command(&bundle, &words).run();
        assert_eq!(swept.success().stderr, "", "after {count} system calls, {fate:?}");
        bundle.assert_nothing_left();
        match fate {
            Fate::Killed { .. } => points += 1,
            Fate::Ended { code, .. } => {
                assert_eq!(code, 0);
                break;
            }
        }
    }
    // A tracer that lost its tracee would find nothing wrong with anything.
    assert!(points > 20, "only {points} points");
}
