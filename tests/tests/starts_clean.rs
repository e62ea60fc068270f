//! The program starts clean: what it sees of itself under runc, it sees here, from the same bundle and the same caller.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};
use tests::{Bundle, LIMIT, Runtime, channel, needs};

/// What a program sees: by the place where it looked.
type Sight = BTreeMap<String, String>;

/// Files that the program, a `cat`, prints of itself.
const FILES: &[&str] = &[
    "status",
    "limits",
    "stat",
    "environ",
    "oom_score_adj",
    "personality",
    "coredump_filter",
    "timerslack_ns",
    "loginuid",
    "fdinfo/0",
    "fdinfo/1",
    "fdinfo/2",
];

/// Lines of status that differ from one moment to the next, or tell of the program's size.
const VOLATILE: &[&str] =
    &["Vm", "Rss", "Huge", "FDSize", "SigQ", "voluntary", "nonvoluntary", "CoreDumping", "THP", "Threads"];

/// A caller that gives away nothing of its own.
const PLAIN: &[&str] = &[];

/// A caller in a state of its own: every signal ignored and blocked, descriptors left open, a mask, a soft limit, a score,
/// a priority, an affinity, a personality.
const STRANGE: &[&str] = &[
    "sh",
    "-c",
    "umask 077; ulimit -Sn 700; echo 321 > /proc/self/oom_score_adj; exec 5< /dev/null 9< /etc/passwd; \
     exec nice -n 5 taskset -c 0 setarch -R \
     env --ignore-signal --block-signal \"$@\"",
    "sh",
];

/// All that the program of this configuration sees.
fn sight(runtime: &Runtime, caller: &[&str], edit: &dyn Fn(&mut Value)) -> Sight {
    let mut bundle = Bundle::new("clean").may_leave();
    bundle.change(|config| edit(config));
    bundle.change(|config| {
        let masked = config["linux"]["maskedPaths"].as_array_mut().expect("a list");
        masked.retain(|path| path != "/proc/keys");
    });
    let id = bundle.id().to_owned();
    let mut seen = Sight::new();
    let mut run = |args: &[&str]| {
        bundle.change(|config| config["process"]["args"] = json!(args));
        let container = bundle.container(runtime);
        let created = container.command(&["create", "--bundle", "BUNDLE", "ID"]).launched_by(caller).run();
        created.success();
        container.start().success();
        assert!(container.ended());
        created.printed().replace(&id, "ID")
    };
    for file in FILES {
        let text = run(&["/bin/cat", &format!("/proc/self/{file}")]);
        match *file {
            "stat" => {
                // Parent, group, session, terminal, its group; at the end priority, nice, and how it is scheduled.
                let words: Vec<&str> = text.rsplit_once(')').expect("a name").1.split_whitespace().collect();
                let picked = [1, 2, 3, 4, 5, 15, 16, 35, 37, 38].map(|at| words[at]);
                seen.insert("stat".into(), picked.join(" "));
            }
            "environ" => {
                seen.insert("environ".into(), text.replace('\0', "\n"));
            }
            "fdinfo/0" | "fdinfo/1" | "fdinfo/2" => {
                let flags = text.lines().find(|line| line.starts_with("flags:")).expect("flags");
                seen.insert((*file).into(), flags.to_owned());
            }
            "status" => {
                for line in text.lines() {
                    let (name, value) = line.split_once(':').expect("a name");
                    if !VOLATILE.iter().any(|volatile| name.starts_with(volatile)) {
                        seen.insert(format!("status {name}"), value.trim().to_owned());
                    }
                }
            }
            _ => {
                seen.insert((*file).into(), text);
            }
        }
    }
    seen.insert("descriptors".into(), run(&["/bin/ls", "/proc/self/fd"]));
    seen.insert("directory".into(), run(&["/bin/readlink", "/proc/self/cwd"]));
    seen.insert("stdin".into(), run(&["/bin/readlink", "/proc/self/fd/0"]));
    let keys = run(&["/bin/cat", "/proc/keys"]);
    let own = keys.lines().filter(|line| line.contains("_ses.ID"));
    // Flags, when it ends, who may do what with it, whose it is, what it is; its number and its users are of the moment.
    let own = own.map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        [&words[1..2], &words[3..]].concat().join(" ")
    });
    seen.insert("keyring".into(), own.collect::<Vec<_>>().join("\n"));
    seen
}

/// What docs/differences.md lists under "What a program sees": each is checked, then taken for equal.
fn set_aside(runc: &mut Sight, ours: &mut Sight, is_strange: bool) {
    // Signals 32 to 34, which C libraries keep for themselves, stay ignored there.
    let ignored = |sight: &Sight| u64::from_str_radix(&sight["status SigIgn"], 16).expect("a mask");
    assert_eq!((ignored(runc) & !(0b111 << 31), ignored(ours)), (0, 0), "signals that are ignored");
    // The caller's affinity stays there; here the program may use all that its cpuset has.
    let all = fs::read_to_string("/proc/self/status").expect("our status");
    let all = all.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("a list").trim();
    assert_eq!(ours["status Cpus_allowed_list"], all);
    for name in ["status SigIgn", "status Cpus_allowed", "status Cpus_allowed_list"] {
        assert!(runc.remove(name).is_some() && ours.remove(name).is_some(), "{name}");
    }
    // Debian's runc raises the soft limit of open files for itself, and does not put it back.
    let files = |sight: &Sight| {
        let line = sight["limits"].lines().find(|line| line.starts_with("Max open files")).expect("a line");
        line.split_whitespace().nth(3).expect("a number").to_owned()
    };
    if is_strange && files(runc) != files(ours) {
        assert_eq!(files(ours), "700", "the caller's soft limit");
        for sight in [runc, ours] {
            let limits = sight.remove("limits").expect("limits");
            let others: Vec<&str> =
                limits.lines().filter(|line| !line.starts_with("Max open files")).collect();
            sight.insert("limits".into(), others.join("\n"));
        }
    }
}

fn compare(caller: &[&str], edit: &dyn Fn(&mut Value)) {
    let mut runc = sight(&Runtime::runc(), caller, edit);
    let mut ours = sight(&Runtime::under_test(), caller, edit);
    set_aside(&mut runc, &mut ours, !caller.is_empty());
    let mut differences = Vec::new();
    for (place, theirs) in &runc {
        let own = ours.get(place);
        if own != Some(theirs) {
            differences.push(format!("{place}: under runc {theirs:?}, here {own:?}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert_eq!(runc.len(), ours.len());
    assert!(runc.len() > 40, "only {} places were looked at", runc.len());
}

/// Without the limits that the default sets, so that those of the caller show.
fn bare(config: &mut Value) {
    config["process"]["rlimits"] = Value::Null;
}

fn ordinary(config: &mut Value) {
    bare(config);
    config["process"]["user"] = json!({"uid": 1000, "gid": 1000, "additionalGids": [7]});
    config["process"]["noNewPrivileges"] = json!(false);
    config["process"]["cwd"] = json!("/tmp");
}

#[test]
fn root_the_program_starts_clean() {
    needs!(Root, Busybox, Runc);
    compare(PLAIN, &|_| {});
    compare(PLAIN, &ordinary);
}

#[test]
fn root_the_program_starts_clean_whoever_calls() {
    needs!(Root, Busybox, Runc);
    compare(STRANGE, &bare);
    compare(STRANGE, &ordinary);
}

#[test]
fn root_the_program_starts_clean_without_capabilities() {
    needs!(Root, Busybox, Runc);
    compare(STRANGE, &|config| config["process"]["capabilities"] = Value::Null);
}

/// What we hold while the container is made is ours: a limit that leaves room for the program's own few descriptors is enough.
#[test]
fn root_a_low_limit_of_descriptors_is_for_the_program() {
    needs!(Root, Busybox);
    for limit in [7, 20, 50] {
        let bundle = Bundle::new("few").shell("ulimit -n; exec sleep 1000").edit(|config| {
            config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": limit, "hard": limit}]);
        });
        let container = bundle.container(&Runtime::under_test());
        let (mut lines, stdout) = channel();
        let run = container.command(&["run", "--detach", "--bundle", "BUNDLE", "ID"]).stdout(stdout).run();
        run.success();
        assert_eq!(lines.next_within(LIMIT), Some(limit.to_string()), "{run}");
        let inside = container.command(&["exec", "ID", "sh", "-c", "ulimit -n"]).run();
        assert_eq!(inside.success().stdout, format!("{limit}\n"), "{inside}");
        container.command(&["delete", "--force", "ID"]).run().success();
    }
}
