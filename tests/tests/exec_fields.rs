//! Every field of process.json, and the flags beside it: what the kernel then shows of the process.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tests::{Bundle, Container, Runtime, needs};

fn running(bundle: &Bundle) -> Container<'_> {
    let container = bundle.container(&Runtime::under_test());
    container.create().success();
    container.start().success();
    container
}

/// What /proc shows of a process that stays.
struct Shown(String);

impl Shown {
    /// Runs the process of a document, with these flags, and leaves it there.
    fn of(container: &Container<'_>, bundle: &Bundle, flags: &[&str], process: &Value) -> Self {
        let (document, file) = (bundle.dir().join("process.json"), bundle.dir().join("exec.pid"));
        fs::write(&document, process.to_string()).expect("write process.json");
        let words =
            [&["exec", "--detach", "--process", text(&document), "--pid-file", text(&file)], flags, &["ID"]];
        let exec = container.call(&words.concat());
        assert_eq!(exec.success().stderr, "", "nothing was done otherwise");
        Self(fs::read_to_string(&file).expect("the pid file"))
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.0)).expect("read a file of the process")
    }

    fn link(&self, file: &str) -> String {
        text(&fs::read_link(format!("/proc/{}/{file}", self.0)).expect("read a link of the process"))
            .to_owned()
    }

    /// A line of its status, its blanks made one.
    fn status(&self, name: &str) -> String {
        let status = self.read("status");
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.expect("the kernel tells it").split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Soft and hard, as the kernel prints them.
    fn limit(&self, name: &str) -> (String, String) {
        let limits = self.read("limits");
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel tells it");
        let mut words = line.split_whitespace().map(str::to_owned);
        (words.next().expect("a soft limit"), words.next().expect("a hard limit"))
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the bundle's path is ASCII")
}

/// Names as the specification and as the kernel has them.
const LIMITS: [(&str, &str); 16] = [
    ("RLIMIT_AS", "Max address space"),
    ("RLIMIT_CORE", "Max core file size"),
    ("RLIMIT_CPU", "Max cpu time"),
    ("RLIMIT_DATA", "Max data size"),
    ("RLIMIT_FSIZE", "Max file size"),
    ("RLIMIT_LOCKS", "Max file locks"),
    ("RLIMIT_MEMLOCK", "Max locked memory"),
    ("RLIMIT_MSGQUEUE", "Max msgqueue size"),
    ("RLIMIT_NICE", "Max nice priority"),
    ("RLIMIT_NOFILE", "Max open files"),
    ("RLIMIT_NPROC", "Max processes"),
    ("RLIMIT_RSS", "Max resident set"),
    ("RLIMIT_RTPRIO", "Max realtime priority"),
    ("RLIMIT_RTTIME", "Max realtime timeout"),
    ("RLIMIT_SIGPENDING", "Max pending signals"),
    ("RLIMIT_STACK", "Max stack size"),
];

/// What this process may set at most: without CAP_SYS_RESOURCE no limit can be raised.
fn ceiling(kernel: &str) -> u64 {
    let limits = fs::read_to_string("/proc/self/limits").expect("read our limits");
    let line = limits.lines().find_map(|line| line.strip_prefix(kernel)).expect("the kernel tells it");
    line.split_whitespace().nth(1).expect("a hard limit").parse().unwrap_or(u64::MAX)
}

#[test]
fn root_every_field_of_a_process_document_is_what_the_kernel_shows() {
    needs!(Root, Busybox);
    // Another than init's, in everything.
    let bundle = Bundle::new("exec-fields").shell("exec sleep 1000").edit(|config| {
        config["process"]["noNewPrivileges"] = json!(false);
        config["process"]["rlimits"] = json!([]);
    });
    let container = running(&bundle);
    let wanted: Vec<(&str, &str, u64)> = LIMITS
        .iter()
        .enumerate()
        .map(|(at, (name, kernel))| {
            // What the program needs to begin with stays high.
            let least =
                if ["RLIMIT_AS", "RLIMIT_DATA", "RLIMIT_STACK"].contains(name) { 64 << 20 } else { 40 };
            (*name, *kernel, (least + at as u64).min(ceiling(kernel)))
        })
        .collect();
    let limits: Vec<Value> = wanted
        .iter()
        .map(|(name, _, hard)| json!({"type": name, "hard": hard, "soft": hard - hard.min(&1)}))
        .collect();
    let document = json!({
        "user": {"uid": 33, "gid": 44, "umask": 0o137, "additionalGids": [55, 66]},
        "args": ["/bin/sleep", "1000"],
        "env": ["PATH=/bin", "A=1", "B=2", "A=3", "EMPTY=", "HOME=/nowhere"],
        "cwd": "/tmp/../var",
        "capabilities": {
            "bounding": ["CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_AUDIT_WRITE"],
            "permitted": ["CAP_KILL", "CAP_NET_BIND_SERVICE"],
            "effective": ["CAP_KILL"],
            "inheritable": ["CAP_NET_BIND_SERVICE"],
            "ambient": ["CAP_NET_BIND_SERVICE"],
        },
        "rlimits": limits,
        "noNewPrivileges": true,
        "oomScoreAdj": 321,
        "apparmorProfile": "",
        "selinuxLabel": "",
        "consoleSize": {"height": 25, "width": 80},
    });
    let shown = Shown::of(&container, &bundle, &[], &document);
    assert_eq!(shown.read("cmdline"), "/bin/sleep\x001000\0");
    assert_eq!(shown.read("environ"), "PATH=/bin\0A=3\0B=2\0EMPTY=\0HOME=/nowhere\0");
    assert_eq!(shown.link("cwd"), format!("{}/var", shown.link("root").trim_end_matches('/')));
    assert_eq!(shown.status("Uid"), "33 33 33 33");
    assert_eq!(shown.status("Gid"), "44 44 44 44");
    assert_eq!(shown.status("Groups"), "55 66");
    assert_eq!(shown.status("Umask"), "0137");
    assert_eq!(shown.status("NoNewPrivs"), "1");
    assert_eq!(shown.read("oom_score_adj"), "321\n");
    // CAP_KILL 5, CAP_NET_BIND_SERVICE 10, CAP_AUDIT_WRITE 29. A program of another user than root has what is ambient.
    let bit = |bits: &[u32]| format!("{:016x}", bits.iter().fold(0_u64, |all, bit| all | 1 << bit));
    assert_eq!(shown.status("CapBnd"), bit(&[5, 10, 29]));
    for set in ["CapPrm", "CapEff", "CapInh", "CapAmb"] {
        assert_eq!(shown.status(set), bit(&[10]), "{set}");
    }
    for (name, kernel, hard) in wanted {
        let told = |number: u64| if number == u64::MAX { "unlimited".to_owned() } else { number.to_string() };
        assert_eq!(shown.limit(kernel), (told(hard - hard.min(1)), told(hard)), "{name}");
    }
    let session = |file: &str| file.rsplit_once(") ").expect("a name").1.split(' ').nth(3).map(str::to_owned);
    assert_eq!(session(&shown.read("stat")), Some(shown.0.clone()), "it leads a session of its own");
    container.delete_force().success();
}

#[test]
fn root_flags_come_on_top_of_a_process_document() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("exec-top").shell("exec sleep 1000");
    let container = running(&bundle);
    let document = json!({
        "user": {"uid": 33, "gid": 44, "additionalGids": [55]},
        "args": ["/bin/sleep", "1000"], "env": ["A=1"], "cwd": "/tmp",
        "capabilities": {"bounding": ["CAP_KILL"]},
    });
    let flags = [
        "--user",
        "0:7",
        "--additional-gids",
        "66",
        "--additional-gids",
        "77",
        "--env",
        "A=2",
        "--env",
        "B=3",
        "--cwd",
        "/var",
        "--no-new-privs",
        "--cap",
        "CAP_CHOWN",
    ];
    let shown = Shown::of(&container, &bundle, &flags, &document);
    assert_eq!((shown.status("Uid").as_str(), shown.status("Gid").as_str()), ("0 0 0 0", "7 7 7 7"));
    assert_eq!(shown.status("Groups"), "55 66 77");
    assert!(shown.read("environ").starts_with("A=2\0B=3\0"), "{}", shown.read("environ"));
    assert!(shown.link("cwd").ends_with("/var"));
    assert_eq!(shown.status("NoNewPrivs"), "1");
    assert_eq!(shown.status("CapBnd"), format!("{:016x}", 1 << 5 | 1), "CAP_CHOWN 0, CAP_KILL 5");
    assert_eq!(shown.status("CapPrm"), format!("{:016x}", 1), "and no more than was asked for");
    assert_eq!(shown.status("CapInh"), "0".repeat(16));
    container.delete_force().success();
}

/// A caller with two files open for the program, and one that is not for it.
const HANDING: &[&str] =
    &["/bin/sh", "-c", r#"echo three >three; exec 3<three 4</dev/zero 9</etc/passwd; exec "$@""#, "sh"];

#[test]
fn root_exec_hands_on_the_descriptors_that_are_named() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("exec-handed").shell("exec sleep 1000");
    let container = running(&bundle);
    let exec = |count: &str, line: &str| {
        let words = ["exec", "--preserve-fds", count, "ID", "/bin/sh", "-c", line];
        container.command(&words).launched_by(HANDING).run()
    };
    let kept = exec(
        "2",
        "cat <&3; head -c 2 <&4 | wc -c; for n in 3 4 5 6 7 8 9; do [ -e /proc/$$/fd/$n ] && echo $n; done; true",
    );
    assert_eq!(kept.success().stdout, "three\n2\n3\n4\n");
    let kept = exec("0", "for n in 3 4 5 6 7 8 9; do [ -e /proc/$$/fd/$n ] && echo $n; done; true");
    assert_eq!(kept.success().stdout, "");
    let refused = exec("3", "true");
    refused.code(255);
    let told = format!("cofferdam: exec {}: --preserve-fds 3: descriptor 5 is not open\n", bundle.id());
    assert_eq!(refused.stderr, told);
    container.delete_force().success();
}
