//! `exec`: one more process, in the same place as the first.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use rustix::process::Signal;
use serde_json::json;
use tests::{Bundle, Container, LIMIT, Output, Runtime, Snapshot, channel, needs};

fn running<'a>(bundle: &'a Bundle, runtime: &Runtime) -> Container<'a> {
    let container = bundle.container(runtime);
    container.create().success();
    container.start().success();
    container
}

fn shell(container: &Container<'_>, flags: &[&str], line: &str) -> Output {
    let words = [&["exec"], flags, &["ID", "/bin/sh", "-c", line]].concat();
    container.call(&words)
}

#[test]
fn root_exec_ends_as_its_program() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("exec-status").shell("exec sleep 1000");
    let before = Snapshot::take(&bundle);
    let container = running(&bundle, &Runtime::under_test());
    for (line, code) in [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143)] {
        shell(&container, &[], line).code(code);
    }
    for program in ["nosuch", "/nosuch", "/etc"] {
        let output = container.call(&["exec", "ID", program]);
        output.code(255);
        assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
    }
    container.call(&["exec", "ID"]).code(255);
    for (flag, told, there) in [
        ("--apparmor=x", "apparmorProfile: this host does not run AppArmor", "/sys/module/apparmor"),
        ("--process-label=x", "selinuxLabel: this host does not run SELinux", "/sys/fs/selinux/enforce"),
    ] {
        if !Path::new(there).exists() {
            let output = container.call(&["exec", flag, "ID", "true"]);
            output.code(255);
            assert!(output.stderr.contains(told), "{}", output.stderr);
        }
    }
    container.delete_force().success();
    before.assert_same();
}

#[test]
fn root_exec_goes_by_the_containers_state() {
    needs!(Root, Busybox, Freezer);
    let bundle = Bundle::new("exec-states").shell("exec sleep 1000");
    let before = Snapshot::take(&bundle);
    let container = bundle.container(&Runtime::under_test());
    container.call(&["exec", "ID", "true"]).code(255);
    container.create().success();
    assert_eq!(shell(&container, &[], "echo in").success().stdout, "in\n");
    assert_eq!(container.status().as_deref(), Some("created"));
    container.start().success();
    container.call(&["pause", "ID"]).success();
    let refused = container.call(&["exec", "ID", "true"]);
    refused.code(255);
    assert!(refused.stderr.contains("cannot exec in a paused container"), "{}", refused.stderr);
    let late = container.command(&["exec", "--ignore-paused", "ID", "/bin/echo", "late"]).spawn();
    container.call(&["resume", "ID"]).success();
    // Whichever came first, the two of them do not stand in each other's way.
    assert_eq!(late.wait().success().stdout, "late\n");
    container.kill("KILL").success();
    assert!(container.ended());
    let refused = container.call(&["exec", "ID", "true"]);
    refused.code(255);
    assert!(refused.stderr.contains("cannot exec in a stopped container"), "{}", refused.stderr);
    container.delete().success();
    before.assert_same();
}

#[test]
fn root_exec_is_where_init_is() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("exec-where").namespace("cgroup").shell("exec sleep 1000");
    let container = running(&bundle, &Runtime::under_test());
    let file = bundle.dir().join("exec.pid").display().to_string();
    let told = &["exec", "--detach", "--pid-file", &file, "ID", "/bin/sleep", "1000"];
    container.call(told).success();
    let pid = fs::read_to_string(&file).expect("the pid file");
    let init = container.pid().expect("init lives");
    for kind in ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"] {
        let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("a namespace");
        assert_eq!(of(&pid), of(&init.to_string()), "{kind}");
    }
    let groups = |pid: &str| fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("its cgroups");
    assert_eq!(groups(&pid), groups(&init.to_string()));
    let fds = shell(&container, &[], "echo /proc/self/fd/*");
    assert_eq!(fds.success().stdout, "/proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2 /proc/self/fd/3\n");
    container.delete_force().success();
}

#[test]
fn root_exec_does_what_its_flags_say() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("exec-flags").shell("exec sleep 1000");
    let container = running(&bundle, &Runtime::under_test());
    let flags = ["--env", "A=b", "--cwd", "/tmp", "--user", "33:44", "--additional-gids", "55"];
    let shown = shell(&container, &flags, "echo $A $PWD $(id -u) $(id -G)");
    assert_eq!(shown.success().stdout, "b /tmp 33 44 55\n");
    let status = shell(&container, &[], "grep -E '^(Cap|NoNew)' /proc/1/status; ulimit -n");
    let own = shell(&container, &[], "grep -E '^(Cap|NoNew)' /proc/self/status; ulimit -n");
    assert_eq!(own.success().stdout, status.success().stdout, "as init has it");
    let more = shell(&container, &["--cap", "CAP_NET_ADMIN"], "grep ^Cap /proc/self/status");
    // CAP_AUDIT_WRITE 29, CAP_KILL 5, CAP_NET_BIND_SERVICE 10, and CAP_NET_ADMIN 12.
    let set = format!("{:016x}", (1_u64 << 29) | (1 << 5) | (1 << 10) | (1 << 12));
    let none = "0".repeat(16);
    let wanted =
        format!("CapInh:\t{none}\nCapPrm:\t{set}\nCapEff:\t{set}\nCapBnd:\t{set}\nCapAmb:\t{none}\n");
    assert_eq!(more.success().stdout, wanted);
    for (flag, value) in [("--user", "root"), ("--user", "1x"), ("--cwd", "tmp"), ("--env", "A")] {
        container.call(&["exec", flag, value, "ID", "true"]).code(255);
    }
    // CVE-2024-21626: no descriptor of ours leads out. The one that is of the container's own root leads there.
    let inside = container.call(&["exec", "ID", "/bin/ls", "/"]).success().stdout.clone();
    for number in 3..40 {
        let cwd = format!("/proc/self/fd/{number}");
        let output = container.call(&["exec", "--cwd", &cwd, "ID", "/bin/ls", "../.."]);
        if output.code != 255 {
            assert_eq!(output.success().stdout, inside, "{number}");
        }
    }
    container.delete_force().success();
}

#[test]
fn root_exec_takes_a_document_or_says_what_is_wrong_with_it() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("exec-document").shell("exec sleep 1000");
    let container = running(&bundle, &Runtime::under_test());
    let before = Snapshot::take(&bundle);
    let path = bundle.dir().join("process.json");
    let file = path.display().to_string();
    let run = |text: String| {
        fs::write(&path, text).expect("write process.json");
        container.call(&["exec", "--process", &file, "ID"])
    };
    let good = json!({
        "args": ["/bin/sh", "-c", "echo $(umask) $(id -u) $HOME; grep NoNew /proc/self/status; ulimit -n"],
        "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 65534, "gid": 5, "umask": 63},
        "noNewPrivileges": true, "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 77, "soft": 66}],
    });
    let shown = run(good.to_string());
    assert_eq!(shown.success().stdout, "0077 65534 /\nNoNewPrivs:\t1\n66\n");
    for (text, why) in [
        ("{".to_owned(), "process.json: line 1"),
        (r#"{"args":7}"#.to_owned(), "process.json: args: expected a list"),
        (r#"{"args":[],"cwd":"/"}"#.to_owned(), "process.json: args: is empty"),
        (r#"{"args":["a"],"cwd":"x"}"#.to_owned(), "process.json: cwd: "),
        (r#"{"args":["a"],"cwd":"/","oomScoreAdj":1001}"#.to_owned(), "process.json: oomScoreAdj: "),
    ] {
        let output = run(text);
        output.code(255);
        assert!(output.stderr.contains(why), "{why}: {}", output.stderr);
        assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
    }
    fs::remove_file(&path).expect("remove it");
    container.call(&["exec", "--process", &file, "ID"]).code(255);
    before.assert_same();
    container.delete_force().success();
}

#[test]
fn root_exec_forwards_signals_and_passes_stdin() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("exec-signals").shell("exec sleep 1000");
    let container = running(&bundle, &Runtime::under_test());
    let (mut lines, stdout) = channel();
    let line = "trap 'echo got; exit 42' USR1; echo up; while :; do sleep 1000 & wait $!; done";
    let exec = container.command(&["exec", "ID", "/bin/sh", "-c", line]).stdout(stdout).spawn();
    assert_eq!(lines.next_within(LIMIT).as_deref(), Some("up"));
    exec.signal(Signal::USR1);
    assert_eq!(lines.next_within(LIMIT).as_deref(), Some("got"));
    exec.wait().code(42);
    let (read, mut write) = std::io::pipe().expect("a pipe");
    let exec = container.command(&["exec", "ID", "/bin/cat"]).stdin(read).spawn();
    std::io::Write::write_all(&mut write, b"through\n").expect("write to the pipe");
    drop(write);
    assert_eq!(exec.wait().success().stdout, "through\n");
    container.delete_force().success();
}

#[test]
fn root_delete_and_exec_at_once_leave_nothing() {
    needs!(Root, Busybox);
    let runtime = Runtime::under_test();
    for _ in 0..20 {
        let bundle = Bundle::new("exec-delete").shell("exec sleep 1000");
        let before = Snapshot::take(&bundle);
        let container = running(&bundle, &runtime);
        let execs = [(); 4].map(|()| container.command(&["exec", "ID", "/bin/sleep", "1000"]).spawn());
        container.delete_force().success();
        for exec in execs {
            let output = exec.wait();
            assert!([137, 255].contains(&output.code), "{output}");
        }
        before.assert_same();
    }
}
