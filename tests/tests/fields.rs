//! Every field that docs/fields.md calls honoured, with this test for a proof: one edit of the configuration, one look
//! at the container or the kernel, with the edit and without it.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};
use tests::{
    Agent, Answer, Bundle, Conduct, Container, LIMIT, Runtime, channel, copy_program, figure, needs, skipped,
};

/// One edit, and what it changes.
struct Entry {
    /// As docs/fields.md writes them: the field, those above it that mean nothing without it, and those below that
    /// show in the same look.
    fields: &'static [&'static str],
    /// Made with the edit and without it, so that there is something to see.
    base: fn(&mut Value, &Bundle),
    edit: fn(&mut Value, &Bundle),
    look: Look,
    /// What is seen with the edit; without it, something else.
    sees: String,
}

/// Where to look.
enum Look {
    /// What a line for the shell prints.
    Inside(&'static str),
    /// What the program of the configuration prints.
    Printed,
    /// What hooks wrote into `seen/said` of the bundle by the time that the container is gone.
    Said,
    /// A line of /proc/PID/status while init waits: all is set, and execve(2) has changed nothing yet.
    Waiting(&'static str),
    /// The first line of a file of its control group: controller and file on v1, file on v2; with what v2 shows.
    Group(Option<(&'static str, &'static str)>, Option<(&'static str, &'static str)>),
    /// A key of what `state` prints.
    Told(&'static str),
    /// What a line for the shell prints, with an agent in the bundle's directory that fails every `mkdir` with ENOMEDIUM, and
    /// what that is told beside.
    Answered(&'static str),
    /// What a program of the host prints about init while it waits: `NUMBER` stands for its number.
    Asked(&'static [&'static str]),
    /// What a line for the shell prints that `exec` runs in the container.
    Joined(&'static str),
    /// A line of /proc/PID/status of an `exec` whose process runs.
    Joiner(&'static str),
    /// What a line for the shell prints, on a host of the test's own with a network device `left`.
    OnHost(&'static str),
    /// Nothing on this host, because of this.
    Nowhere(String),
}

fn nothing(_: &mut Value, _: &Bundle) {}

fn entry(
    fields: &'static [&'static str],
    edit: fn(&mut Value, &Bundle),
    look: Look,
    sees: impl Into<String>,
) -> Entry {
    Entry { fields, base: nothing, edit, look, sees: sees.into() }
}

impl Entry {
    fn on(self, base: fn(&mut Value, &Bundle)) -> Self {
        Self { base, ..self }
    }
}

#[test]
fn root_fields() {
    needs!(Root, Busybox);
    let mut wrong = Vec::new();
    for entry in entries() {
        if let Err(why) = prove(&entry) {
            wrong.push(format!("{}: {why}", entry.fields.join(", ")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// docs/fields.md and the table below name the same fields.
#[test]
fn every_honoured_field_is_in_the_table() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/fields.md");
    let text = fs::read_to_string(file).expect("the document is there");
    let rows = text.lines().filter(|row| row.starts_with("| `") && row.contains("`root_fields`"));
    let promised: BTreeSet<&str> = rows.filter_map(|row| row.split('`').nth(1)).collect();
    let entries = entries();
    let proven: BTreeSet<&str> = entries.iter().flat_map(|entry| entry.fields.iter().copied()).collect();
    let lacking: Vec<_> = promised.difference(&proven).collect();
    let unknown: Vec<_> = proven.difference(&promised).collect();
    assert!(
        lacking.is_empty() && unknown.is_empty(),
        "docs/fields.md promises {lacking:#?}, and does not know {unknown:#?}"
    );
}

/// Looks with the edit and without it.
fn prove(entry: &Entry) -> Result<(), String> {
    let runtime = Runtime::under_test();
    let without = Bundle::new("without");
    let without = {
        let mut config = without.config().clone();
        (entry.base)(&mut config, &without);
        without.edit(|document| *document = config)
    };
    let mut sees = entry.sees.clone();
    if let (Look::Group(_, Some((_, unified))), true) = (&entry.look, is_unified()) {
        (*unified).clone_into(&mut sees);
    }
    let before = match look(&entry.look, without, &runtime) {
        Ok(shown) => shown,
        // The virtual machine shows what it can: version 1 is seen elsewhere, and it has no such cards.
        Err(lacking)
            if std::env::var_os("COFFERDAM_VM").is_some()
                && (lacking.starts_with(OTHER_GENERATION) || lacking == NO_RDMA) =>
        {
            figure(&format!("{}: {lacking}", entry.fields.join(", ")));
            return Ok(());
        }
        Err(lacking) => {
            skipped(&format!("{}: {lacking}", entry.fields.join(", ")));
            return Ok(());
        }
    };
    let with = Bundle::new("with");
    let with = {
        let mut config = with.config().clone();
        (entry.base)(&mut config, &with);
        (entry.edit)(&mut config, &with);
        with.edit(|document| *document = config)
    };
    let sees = sees.replace("ID", with.id());
    let after = look(&entry.look, with, &runtime)?;
    if after != sees {
        return Err(format!("shows {after:?} instead of {sees:?}"));
    }
    if before == after { Err(format!("shows {after:?} without the field as well")) } else { Ok(()) }
}

/// How the reason begins why a host of one generation of control groups does not show a field of the other's.
const OTHER_GENERATION: &str = "looked for on a host with control groups of version";

/// The reason of a host without network cards of this kind.
const NO_RDMA: &str = "there is no such device";

/// What is seen; or why this host cannot show it.
fn look(look: &Look, bundle: Bundle, runtime: &Runtime) -> Result<String, String> {
    let printed = |bundle: &Bundle| {
        let output = bundle.container(runtime).run();
        assert!(output.stderr.is_empty() || output.code == 0, "{output}");
        output.stdout.trim().to_owned()
    };
    match look {
        Look::Inside(line) => Ok(printed(&bundle.shell(line))),
        Look::Printed => Ok(printed(&bundle)),
        Look::Said => {
            // Whether it succeeds is part of neither look: a hook whose time is up may be its end.
            let container = bundle.container(runtime);
            let ended = container.run();
            assert_eq!(container.status(), None, "{ended}");
            Ok(fs::read_to_string(bundle.dir().join("seen/said")).unwrap_or_default().trim().to_owned())
        }
        Look::Waiting(name) => {
            let container = waiting(&bundle, runtime);
            let pid = container.pid().expect("init waits");
            let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            Ok(line.expect("such a line").trim().to_owned())
        }
        Look::Group(v1, v2) => {
            let place = match (is_unified(), v1, v2) {
                (true, _, Some((file, _))) => format!("/sys/fs/cgroup/{}/{file}", bundle.id()),
                (false, Some((controller, file)), _) => {
                    if !Path::new("/sys/fs/cgroup").join(controller).exists() {
                        return Err(format!("no {controller} controller"));
                    }
                    format!("/sys/fs/cgroup/{controller}/{}/{file}", bundle.id())
                }
                (true, _, None) => return Err(format!("{OTHER_GENERATION} 1")),
                (false, None, _) => return Err(format!("{OTHER_GENERATION} 2")),
            };
            let id = format!("/{}", bundle.id());
            let bundle = bundle.edit(|config| config["linux"]["cgroupsPath"] = json!(id));
            let _container = waiting(&bundle, runtime);
            match fs::read_to_string(&place) {
                Ok(text) => Ok(text.lines().next().unwrap_or_default().to_owned()),
                Err(error) => Err(format!("{place}: {error}")),
            }
        }
        Look::Told(key) => {
            let container = waiting(&bundle, runtime);
            Ok(container.state().expect("its state")[key].to_string())
        }
        Look::Answered(line) => {
            let says = |call: &str| match call {
                "mkdir" | "mkdirat" => Answer::Fail(123),
                _ => Answer::Continue,
            };
            let agent = Agent::new(&bundle, Conduct::Answers(says));
            let shown = printed(&bundle.shell(line));
            let told =
                agent.heard().states.iter().map(|state| state["metadata"].to_string()).collect::<String>();
            Ok(format!("{shown}\n{}", told.trim_matches('"')))
        }
        Look::Asked(words) => {
            let container = waiting(&bundle, runtime);
            let pid = container.pid().expect("init waits").to_string();
            let words: Vec<_> = words.iter().map(|word| word.replace("NUMBER", &pid)).collect();
            let output = std::process::Command::new(&words[0]).args(&words[1..]).output();
            let output = output.map_err(|error| format!("{}: {error}", words[0]))?;
            let text = String::from_utf8(output.stdout).expect("text").replace(&pid, "NUMBER");
            // A newer chrt(1) tells the time slice of every policy.
            let lines: Vec<_> =
                text.lines().filter(|line| !line.contains("current runtime parameter:")).collect();
            Ok(lines.join("\n").trim().to_owned())
        }
        Look::Joined(line) => {
            let container = waiting(&bundle, runtime);
            let output = container.call(&["exec", "ID", "/bin/sh", "-c", line]);
            assert!(output.stderr.is_empty() || output.code == 0, "{output}");
            Ok(output.stdout.trim().to_owned())
        }
        Look::Joiner(name) => {
            let container = waiting(&bundle, runtime);
            let (mut heard, prints) = channel();
            let line = ["exec", "ID", "/bin/sh", "-c", "echo in; exec sleep 1000"];
            let exec = container.command(&line).stdout(prints).spawn();
            assert_eq!(heard.next_within(LIMIT).as_deref(), Some("in"));
            let status = fs::read_to_string(format!("/proc/{}/status", exec.pid())).expect("its status");
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            Ok(line.expect("such a line").trim().to_owned())
        }
        Look::OnHost(line) => {
            let script = "ip link add left type veth peer name right && exec \"$@\"";
            let launcher = ["unshare", "--net", "sh", "-c", script, "sh"];
            let lacks =
                ["unshare", "--net", "ip", "link", "add", "left", "type", "veth", "peer", "name", "right"];
            let made = std::process::Command::new(lacks[0]).args(&lacks[1..]).status();
            if !made.is_ok_and(|status| status.success()) {
                return Err("no pairs of virtual network devices".into());
            }
            let bundle = bundle.shell(line);
            let container = bundle.container(runtime);
            let run = container.command(&["run", "--bundle", "BUNDLE", "ID"]).launched_by(&launcher).run();
            assert!(run.stderr.is_empty() || run.code == 0, "{run}");
            Ok(run.stdout.trim().to_owned())
        }
        Look::Nowhere(why) => Err(why.clone()),
    }
}

fn waiting<'a>(bundle: &'a Bundle, runtime: &Runtime) -> Container<'a> {
    let container = bundle.container(runtime);
    container.create().success();
    container
}

fn is_unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// A whole disk of this host, `254:0`.
fn disk() -> Option<(u64, u64, String)> {
    let mut disks: Vec<_> = fs::read_dir("/sys/block").ok()?.filter_map(Result::ok).collect();
    disks.sort_by_key(std::fs::DirEntry::file_name);
    let name = |disk: &std::fs::DirEntry| disk.file_name().to_string_lossy().into_owned();
    let is_disk = |name: &str| ["vd", "sd", "nvme", "xvd"].iter().any(|kind| name.starts_with(kind));
    let disk = disks.into_iter().find(|disk| is_disk(&name(disk)))?;
    let numbers = fs::read_to_string(disk.path().join("dev")).ok()?;
    let (major, minor) = numbers.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?, name(&disk)))
}

fn entries() -> Vec<Entry> {
    [
        process(),
        ids(),
        scheduling(),
        capabilities(),
        hooks(),
        files(),
        isolation(),
        devices(),
        cpu(),
        memory(),
        block(),
        other_resources(),
        filters(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Names that Docker's default profile allows, but those that make directories.
fn all_but_mkdir() -> Vec<String> {
    let published = include_str!("../../crates/plan/tests/plans/docker-seccomp.json");
    let published: Value = serde_json::from_str(published).expect("a document");
    let rules = published["linux"]["seccomp"]["syscalls"].as_array().expect("rules").iter();
    let names = rules.flat_map(|rule| rule["names"].as_array().expect("names"));
    let names = names.map(|name| name.as_str().expect("a name").to_owned());
    names.filter(|name| !name.starts_with("mkdir")).collect()
}

fn filters() -> Vec<Entry> {
    vec![
        entry(
            &[
                "linux.seccomp",
                "linux.seccomp.defaultAction",
                "linux.seccomp.syscalls",
                "linux.seccomp.syscalls.names",
                "linux.seccomp.syscalls.action",
            ],
            |config, _| {
                config["linux"]["seccomp"] = json!({
                    "defaultAction": "SCMP_ACT_ERRNO",
                    "syscalls": [{"names": all_but_mkdir(), "action": "SCMP_ACT_ALLOW"}],
                });
            },
            Look::Inside("mkdir /dev/made 2>&1; echo $?"),
            "mkdir: can't create directory '/dev/made': Operation not permitted\n1",
        ),
        entry(
            &["linux.seccomp.defaultErrnoRet"],
            |config, _| {
                config["linux"]["seccomp"] = json!({
                    "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 95,
                    "syscalls": [{"names": all_but_mkdir(), "action": "SCMP_ACT_ALLOW"}],
                });
            },
            Look::Inside("mkdir /dev/made 2>&1; echo $?"),
            "mkdir: can't create directory '/dev/made': Operation not supported\n1",
        ),
        entry(
            &["linux.seccomp.syscalls.errnoRet"],
            |config, _| {
                config["linux"]["seccomp"] = json!({
                    "defaultAction": "SCMP_ACT_ALLOW",
                    "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}],
                });
            },
            Look::Inside("mkdir /dev/made 2>&1; echo $?"),
            "mkdir: can't create directory '/dev/made': Operation not supported\n1",
        ),
        entry(
            &[
                "linux.seccomp.syscalls.args",
                "linux.seccomp.syscalls.args.index",
                "linux.seccomp.syscalls.args.op",
                "linux.seccomp.syscalls.args.value",
                "linux.seccomp.syscalls.args.valueTwo",
            ],
            |config, _| {
                // No file becomes set-user-ID; other modes pass.
                let rule = |name: &str, index: u32| {
                    let bit = json!({"index": index, "value": 0o4000, "valueTwo": 0o4000, "op": "SCMP_CMP_MASKED_EQ"});
                    json!({"names": [name], "action": "SCMP_ACT_ERRNO", "args": [bit]})
                };
                config["linux"]["seccomp"] = json!({
                    "defaultAction": "SCMP_ACT_ALLOW",
                    "syscalls": [rule("chmod", 1), rule("fchmod", 1), rule("fchmodat", 2)],
                });
            },
            Look::Inside("touch /dev/made; chmod 755 /dev/made && chmod 4755 /dev/made 2>&1; echo $?"),
            "chmod: /dev/made: Operation not permitted\n1",
        ),
        entry(
            &["linux.seccomp.listenerPath", "linux.seccomp.listenerMetadata"],
            |config, bundle| {
                config["linux"]["seccomp"]["listenerPath"] = json!(bundle.dir().join("agent"));
                config["linux"]["seccomp"]["listenerMetadata"] = json!("for the agent");
                config["linux"]["seccomp"]["syscalls"][0]["action"] = json!("SCMP_ACT_NOTIFY");
            },
            Look::Answered("mkdir /dev/made 2>&1; echo $?"),
            "mkdir: can't create directory '/dev/made': No medium found
1
for the agent",
        )
        .on(|config, _| {
            let names = json!(["mkdir", "mkdirat"]);
            config["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": names, "action": "SCMP_ACT_ERRNO"}],
            });
        }),
        entry(
            &["linux.seccomp.architectures"],
            |config, _| config["linux"]["seccomp"]["architectures"] = json!(["SCMP_ARCH_X86"]),
            if cfg!(target_arch = "x86_64") {
                Look::Printed
            } else {
                Look::Nowhere("this machine runs no programs of x86".into())
            },
            "of 32 bits",
        )
        .on(|config, bundle| {
            fs::write(bundle.rootfs().join("narrow"), NARROW).expect("the root is ours");
            let all = fs::Permissions::from_mode(0o755);
            fs::set_permissions(bundle.rootfs().join("narrow"), all).expect("the root is ours");
            config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW"});
            config["process"]["args"] = json!(["/bin/sh", "-c", "/narrow || echo killed"]);
        }),
    ]
}

/// A program for x86 that writes `of 32 bits` and ends: an ELF header, one segment, and the code.
const NARROW: &[u8] =
    b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x03\0\x01\0\0\0\x54\x80\x04\x08\x34\0\0\0\
    \0\0\0\0\0\0\0\0\x34\0\x20\0\x01\0\0\0\0\0\0\0\
    \x01\0\0\0\0\0\0\0\0\x80\x04\x08\0\x80\x04\x08\x81\0\0\0\x81\0\0\0\x05\0\0\0\0\x10\0\0\
    \xb8\x04\0\0\0\xbb\x01\0\0\0\xb9\x76\x80\x04\x08\xba\x0b\0\0\0\xcd\x80\
    \xb8\x01\0\0\0\x31\xdb\xcd\x80\x90\x90\x90of 32 bits\n";

/// What each kind of hook is given, and how long.
macro_rules! of_each_kind {
    ($($kind:literal),+) => {
        vec![$(
            entry(
                &[
                    "hooks",
                    concat!("hooks.", $kind),
                    concat!("hooks.", $kind, ".path"),
                    concat!("hooks.", $kind, ".args"),
                    concat!("hooks.", $kind, ".env"),
                ],
                |config, bundle| config["hooks"][$kind] = hook($kind, bundle, "echo $0 $A > $1"),
                Look::Said,
                "zero one two",
            )
            .on(provide_seen),
            entry(
                &[concat!("hooks.", $kind, ".timeout")],
                |config, _| config["hooks"][$kind][0]["timeout"] = json!(1),
                Look::Said,
                "begun",
            )
            .on(|config, bundle| {
                provide_seen(config, bundle);
                let line = "echo begun > $1; /bin/busybox sleep 2; echo ended > $1";
                config["hooks"][$kind] = hook($kind, bundle, line);
            }),
        )+]
    };
}

fn hooks() -> Vec<Entry> {
    of_each_kind!("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
}

/// Runs a line for the shell, with the file to write to as `$1`.
fn hook(kind: &str, bundle: &Bundle, line: &str) -> Value {
    let place = if kind == "startContainer" { "/seen/said".into() } else { bundle.dir().join("seen/said") };
    json!([{"path": "/bin/sh", "args": ["sh", "-c", line, "zero", place], "env": ["A=one two"]}])
}

/// A directory that hooks reach from the host and from within.
fn provide_seen(config: &mut Value, bundle: &Bundle) {
    let seen = bundle.dir().join("seen");
    fs::create_dir_all(&seen).expect("a directory");
    push(
        &mut config["mounts"],
        json!({"destination": "/seen", "type": "none", "source": seen, "options": ["bind"]}),
    );
}

fn process() -> Vec<Entry> {
    vec![
        entry(
            &["process", "process.args"],
            |config, _| config["process"]["args"] = json!(["/bin/echo", "one", "two  words"]),
            Look::Printed,
            "one two  words",
        ),
        entry(
            &["process.cwd"],
            |config, _| config["process"]["cwd"] = json!("/tmp/made/here"),
            Look::Inside("pwd"),
            "/tmp/made/here",
        ),
        entry(
            &["process.env"],
            |config, _| push(&mut config["process"]["env"], json!("SHOWN=a b=c")),
            Look::Inside("echo \"$SHOWN\""),
            "a b=c",
        ),
        entry(
            &["process.user", "process.user.uid"],
            |config, _| config["process"]["user"] = json!({"uid": 1234, "gid": 0}),
            Look::Inside("id -u"),
            "1234",
        ),
        entry(
            &["process.user.gid"],
            |config, _| config["process"]["user"] = json!({"uid": 0, "gid": 1235}),
            Look::Inside("id -g"),
            "1235",
        ),
        entry(
            &["process.user.additionalGids"],
            |config, _| config["process"]["user"]["additionalGids"] = json!([77, 5]),
            Look::Inside("id -G"),
            "0 5 77",
        ),
        entry(
            &["process.user.umask"],
            |config, _| config["process"]["user"]["umask"] = json!(0o027),
            Look::Inside("umask"),
            "0027",
        ),
        entry(
            &["process.noNewPrivileges"],
            |config, _| config["process"]["noNewPrivileges"] = json!(false),
            Look::Inside("grep NoNewPrivs /proc/self/status"),
            "NoNewPrivs:\t0",
        ),
        entry(
            &["process.oomScoreAdj"],
            |config, _| config["process"]["oomScoreAdj"] = json!(321),
            Look::Inside("cat /proc/self/oom_score_adj"),
            "321",
        ),
        entry(
            &["process.rlimits", "process.rlimits.type", "process.rlimits.soft", "process.rlimits.hard"],
            |config, _| {
                config["process"]["rlimits"] = json!([{"type": "RLIMIT_SIGPENDING", "soft": 77, "hard": 88}]);
            },
            Look::Inside("grep pending /proc/self/limits | tr -s ' '"),
            "Max pending signals 77 88 signals",
        ),
    ]
}

fn ids() -> Vec<Entry> {
    let map = |which: &'static str| {
        let fields: [&'static [&'static str]; 2] = [
            &[
                "linux.uidMappings",
                "linux.uidMappings.containerID",
                "linux.uidMappings.hostID",
                "linux.uidMappings.size",
            ],
            &[
                "linux.gidMappings",
                "linux.gidMappings.containerID",
                "linux.gidMappings.hostID",
                "linux.gidMappings.size",
            ],
        ];
        let edit: fn(&mut Value, &Bundle) = |config, _| {
            push(&mut config["linux"]["namespaces"], json!({"type": "user"}));
            config["linux"]["uidMappings"] = json!([
                {"containerID": 0, "hostID": 200_000, "size": 10}, {"containerID": 50, "hostID": 300_000, "size": 5},
            ]);
            config["linux"]["gidMappings"] = json!([{"containerID": 0, "hostID": 400_000, "size": 7}]);
        };
        match which {
            "users" => entry(
                fields[0],
                edit,
                Look::Inside("xargs -n3 < /proc/self/uid_map"),
                "0 200000 10\n50 300000 5",
            ),
            _ => entry(fields[1], edit, Look::Inside("xargs -n3 < /proc/self/gid_map"), "0 400000 7"),
        }
    };
    let clocks = entry(
        &["linux.timeOffsets", "linux.timeOffsets.secs", "linux.timeOffsets.nanosecs"],
        |config, _| {
            push(&mut config["linux"]["namespaces"], json!({"type": "time"}));
            config["linux"]["timeOffsets"] = json!({
                "monotonic": {"secs": 7200, "nanosecs": 5}, "boottime": {"secs": -3, "nanosecs": 0},
            });
        },
        Look::Inside("tr -s ' ' < /proc/self/timens_offsets"),
        "monotonic 7200 5\nboottime -3 0",
    );
    let mapped = |which: &'static str| {
        let fields: [&'static [&'static str]; 2] = [
            &[
                "mounts.uidMappings",
                "mounts.uidMappings.containerID",
                "mounts.uidMappings.hostID",
                "mounts.uidMappings.size",
            ],
            &[
                "mounts.gidMappings",
                "mounts.gidMappings.containerID",
                "mounts.gidMappings.hostID",
                "mounts.gidMappings.size",
            ],
        ];
        let bind = |config: &mut Value, bundle: &Bundle| {
            let source = bundle.dir().join("mapped");
            fs::create_dir_all(&source).expect("a directory");
            push(
                &mut config["mounts"],
                json!({"destination": "/tmp", "source": source, "options": ["bind"]}),
            );
            std::os::unix::fs::chown(&source, Some(5), Some(6)).expect("give it away");
        };
        let edit: fn(&mut Value, &Bundle) = |config, _| {
            let mount = config["mounts"].as_array_mut().and_then(|list| list.last_mut()).expect("a mount");
            mount["uidMappings"] = json!([{"containerID": 0, "hostID": 300, "size": 10}]);
            mount["gidMappings"] = json!([{"containerID": 6, "hostID": 400, "size": 1}]);
        };
        match which {
            "users" => entry(fields[0], edit, Look::Inside("stat -c %u /tmp"), "305").on(bind),
            _ => entry(fields[1], edit, Look::Inside("stat -c %g /tmp"), "400").on(bind),
        }
    };
    vec![map("users"), map("groups"), mapped("users"), mapped("groups"), clocks]
}

fn scheduling() -> Vec<Entry> {
    const CHRT: &[&str] = &["chrt", "-p", "NUMBER"];
    let told = |policy: &str, priority: &str, rest: &str| {
        let line = |what: &str, value: &str| format!("pid NUMBER's current {what}: {value}");
        let (policy, priority) = (line("scheduling policy", policy), line("scheduling priority", priority));
        let rest =
            if rest.is_empty() { String::new() } else { line("runtime/deadline/period parameters", rest) };
        [policy, priority, rest].into_iter().filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
    };
    let is_alone = std::thread::available_parallelism().is_ok_and(|count| count.get() == 1);
    let cpus = |look: Look| if is_alone { Look::Nowhere("there is one CPU".into()) } else { look };
    vec![
        entry(
            &["process.scheduler", "process.scheduler.policy", "process.scheduler.flags"],
            |config, _| {
                config["process"]["scheduler"] =
                    json!({"policy": "SCHED_BATCH", "flags": ["SCHED_FLAG_RESET_ON_FORK"]});
            },
            Look::Asked(CHRT),
            told("SCHED_BATCH|SCHED_RESET_ON_FORK", "0", ""),
        ),
        entry(
            &["process.scheduler.nice"],
            |config, _| config["process"]["scheduler"] = json!({"policy": "SCHED_OTHER", "nice": 7}),
            Look::Inside("cut -d' ' -f 19 /proc/self/stat"),
            "7",
        ),
        entry(
            &["process.scheduler.priority"],
            |config, _| config["process"]["scheduler"] = json!({"policy": "SCHED_RR", "priority": 7}),
            Look::Asked(CHRT),
            told("SCHED_RR", "7", ""),
        )
        .on(|config, _| {
            // Version 1 lets nobody into realtime whose group has none of it.
            if !is_unified() {
                config["linux"]["resources"]["cpu"] = json!({"realtimeRuntime": 1000});
            }
        }),
        entry(
            &["process.scheduler.runtime", "process.scheduler.deadline", "process.scheduler.period"],
            |config, _| {
                config["process"]["scheduler"] = json!({
                    "policy": "SCHED_DEADLINE", "runtime": 10_000_000, "deadline": 20_000_000, "period": 30_000_000,
                });
            },
            Look::Asked(CHRT),
            told("SCHED_DEADLINE", "0", "10000000/20000000/30000000"),
        ),
        entry(
            &["process.ioPriority", "process.ioPriority.class", "process.ioPriority.priority"],
            |config, _| {
                config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 6});
            },
            Look::Inside("ionice -p $$"),
            "best-effort: prio 6",
        ),
        entry(
            &["process.execCPUAffinity", "process.execCPUAffinity.final"],
            |config, _| config["process"]["execCPUAffinity"] = json!({"final": "1"}),
            cpus(Look::Joined("grep -o 'Cpus_allowed_list.*' /proc/self/status")),
            "Cpus_allowed_list:\t1",
        ),
        entry(
            &["process.execCPUAffinity.initial"],
            |config, _| config["process"]["execCPUAffinity"] = json!({"initial": "1"}),
            cpus(Look::Joiner("Cpus_allowed_list")),
            "1",
        ),
        entry(
            &[
                "linux.memoryPolicy",
                "linux.memoryPolicy.mode",
                "linux.memoryPolicy.nodes",
                "linux.memoryPolicy.flags",
            ],
            |config, _| {
                config["linux"]["memoryPolicy"] =
                    json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]});
            },
            Look::Inside("head -n 1 /proc/self/numa_maps | cut -d' ' -f 2"),
            "bind=static:0",
        ),
        entry(
            &["linux.personality", "linux.personality.domain"],
            |config, _| config["linux"]["personality"] = json!({"domain": "LINUX32"}),
            Look::Inside("uname -m"),
            "i686",
        ),
    ]
}

fn capabilities() -> Vec<Entry> {
    let cap = |set: &'static str, line: &'static str, edit, sees: &str| {
        let fields: &'static [&'static str] = match set {
            "bounding" => &["process.capabilities", "process.capabilities.bounding"],
            "effective" => &["process.capabilities.effective"],
            "permitted" => &["process.capabilities.permitted"],
            "inheritable" => &["process.capabilities.inheritable"],
            _ => &["process.capabilities.ambient"],
        };
        entry(fields, edit, Look::Waiting(line), sees)
    };
    vec![
        cap(
            "bounding",
            "CapBnd",
            |config, _| config["process"]["capabilities"]["bounding"] = json!(["CAP_CHOWN", "CAP_KILL"]),
            "0000000000000021",
        ),
        cap(
            "effective",
            "CapEff",
            |config, _| config["process"]["capabilities"]["effective"] = json!(["CAP_KILL"]),
            "0000000000000020",
        ),
        cap(
            "permitted",
            "CapPrm",
            |config, _| {
                let sets = &mut config["process"]["capabilities"];
                push(&mut sets["permitted"], json!("CAP_CHOWN"));
            },
            "0000000020000421",
        ),
        cap(
            "inheritable",
            "CapInh",
            |config, _| config["process"]["capabilities"]["inheritable"] = json!(["CAP_KILL"]),
            "0000000000000020",
        ),
        Entry {
            base: |config, _| config["process"]["capabilities"]["inheritable"] = json!(["CAP_KILL"]),
            ..cap(
                "ambient",
                "CapAmb",
                |config, _| config["process"]["capabilities"]["ambient"] = json!(["CAP_KILL"]),
                "0000000000000020",
            )
        },
    ]
}

fn files() -> Vec<Entry> {
    let writable = |config: &mut Value, _: &Bundle| config["root"]["readonly"] = json!(false);
    vec![
        entry(
            &["root", "root.path"],
            |config, bundle| {
                let other = bundle.dir().join("other");
                fs::create_dir_all(other.join("bin")).expect("make another root");
                for name in ["busybox", "sh", "ls"] {
                    copy_program("/bin/busybox", other.join("bin").join(name));
                }
                fs::write(other.join("only-here"), "").expect("make a file");
                config["root"] = json!({"path": other});
            },
            Look::Inside("ls -d /only-here 2>&1"),
            "/only-here",
        ),
        entry(
            &["root.readonly"],
            |config, _| config["root"]["readonly"] = json!(false),
            Look::Inside("touch /written 2>/dev/null && echo written"),
            "written",
        ),
        entry(
            &["mounts", "mounts.destination", "mounts.type", "mounts.source", "mounts.options"],
            |config, _| {
                let mount = json!({
                    "destination": "/mnt", "type": "tmpfs", "source": "mine", "options": ["noexec", "size=1m"],
                });
                push(&mut config["mounts"], mount);
            },
            Look::Inside(
                r"sed -n 's/.* \/mnt \([^ ]*\) .*- \([^ ]* [^ ]*\) .*\(size=[^,]*\).*/\1 \2 \3/p' /proc/self/mountinfo",
            ),
            "rw,noexec,relatime tmpfs mine size=1024k",
        ),
        entry(
            &["linux", "linux.maskedPaths"],
            |config, _| push(&mut config["linux"]["maskedPaths"], json!("/etc/passwd")),
            Look::Inside("wc -c < /etc/passwd"),
            "0",
        ),
        entry(
            &["linux.readonlyPaths"],
            |config, _| push(&mut config["linux"]["readonlyPaths"], json!("/tmp")),
            Look::Inside("touch /tmp/written 2>/dev/null || echo no"),
            "no",
        )
        .on(writable),
        entry(
            &["linux.rootfsPropagation"],
            |config, _| config["linux"]["rootfsPropagation"] = json!("unbindable"),
            Look::Inside(
                r"sed -n 's/^[^ ]* [^ ]* [^ ]* [^ ]* \/ [^ ]* \(.*\)- .*/\1/p' /proc/self/mountinfo",
            ),
            "unbindable",
        ),
        entry(
            &["annotations"],
            |config, _| config["annotations"] = json!({"org.example.key": "value"}),
            Look::Told("annotations"),
            r#"{"org.example.key":"value"}"#,
        ),
    ]
}

fn isolation() -> Vec<Entry> {
    let own = |kind: &str| {
        let link = fs::read_link(format!("/proc/self/ns/{kind}")).expect("a namespace");
        link.to_str().expect("text").to_owned()
    };
    vec![
        entry(
            &["hostname"],
            |config, _| config["hostname"] = json!("shown.example"),
            Look::Inside("hostname"),
            "shown.example",
        ),
        entry(
            &["linux.netDevices", "linux.netDevices.name"],
            |config, _| config["linux"]["netDevices"] = json!({"left": {"name": "shown0"}}),
            Look::OnHost("ip -o link | grep -o 'shown0'"),
            "shown0",
        ),
        entry(
            &["domainname"],
            |config, _| config["domainname"] = json!("shown.nis"),
            Look::Inside("cat /proc/sys/kernel/domainname"),
            "shown.nis",
        ),
        entry(
            &["linux.namespaces", "linux.namespaces.type"],
            |config, _| {
                let list = config["linux"]["namespaces"].as_array_mut().expect("a list");
                list.retain(|namespace| namespace["type"] != "network");
            },
            Look::Inside("readlink /proc/self/ns/net"),
            own("net"),
        ),
        entry(
            &["linux.namespaces.path"],
            |config, _| {
                let list = config["linux"]["namespaces"].as_array_mut().expect("a list");
                let path = format!("/proc/{}/ns/ipc", std::process::id());
                for namespace in list.iter_mut().filter(|namespace| namespace["type"] == "ipc") {
                    namespace["path"] = json!(path);
                }
            },
            Look::Inside("readlink /proc/self/ns/ipc"),
            own("ipc"),
        ),
        entry(
            &["linux.sysctl"],
            |config, _| config["linux"]["sysctl"] = json!({"kernel.msgmax": "12345"}),
            Look::Inside("cat /proc/sys/kernel/msgmax"),
            "12345",
        ),
        entry(
            &["linux.cgroupsPath"],
            |config, bundle| config["linux"]["cgroupsPath"] = json!(format!("/{}.elsewhere", bundle.id())),
            Look::Inside("sed -n '/:pids:/s/.*://p;/^0::/s/.*://p' /proc/self/cgroup | head -n 1"),
            "/ID.elsewhere",
        ),
    ]
}

fn devices() -> Vec<Entry> {
    let loop_device = |config: &mut Value, _: &Bundle| {
        config["linux"]["devices"] = json!([{"path": "/dev/one", "type": "b", "major": 7, "minor": 0}]);
    };
    vec![
        entry(
            &[
                "linux.devices",
                "linux.devices.path",
                "linux.devices.type",
                "linux.devices.major",
                "linux.devices.minor",
                "linux.devices.fileMode",
                "linux.devices.uid",
                "linux.devices.gid",
            ],
            |config, _| {
                config["linux"]["devices"] = json!([{
                    "path": "/dev/deep/mine", "type": "b", "major": 7, "minor": 3, "fileMode": 0o640, "uid": 5, "gid": 6,
                }]);
            },
            Look::Inside("stat -c '%F %a %u:%g %t:%T' /dev/deep/mine 2>&1"),
            "block special file 640 5:6 7:3",
        ),
        entry(
            &[
                "linux.resources",
                "linux.resources.devices",
                "linux.resources.devices.allow",
                "linux.resources.devices.type",
                "linux.resources.devices.major",
                "linux.resources.devices.minor",
                "linux.resources.devices.access",
            ],
            |config, _| {
                let rule = json!({"allow": true, "type": "b", "major": 7, "minor": 0, "access": "r"});
                push(&mut config["linux"]["resources"]["devices"], rule);
            },
            Look::Inside(
                "dd if=/dev/one of=/dev/null count=0 2>/dev/null && echo read; \
                 dd if=/dev/null of=/dev/one count=0 conv=notrunc 2>/dev/null && echo written; true",
            ),
            "read",
        )
        .on(loop_device),
    ]
}

fn cpu() -> Vec<Entry> {
    let nodes = if Path::new("/sys/devices/system/node/node1").exists() {
        Look::Group(Some(("cpuset", "cpuset.mems")), Some(("cpuset.mems", "0")))
    } else {
        Look::Nowhere("there is one memory node".into())
    };
    let cpus = if std::thread::available_parallelism().is_ok_and(|count| count.get() > 1) {
        Look::Group(Some(("cpuset", "cpuset.cpus")), Some(("cpuset.cpus", "0")))
    } else {
        Look::Nowhere("there is one CPU".into())
    };
    let at = |file| Some(("cpu", file));
    vec![
        entry(
            &["linux.resources.cpu", "linux.resources.cpu.shares"],
            |config, _| config["linux"]["resources"]["cpu"] = json!({"shares": 512}),
            Look::Group(at("cpu.shares"), Some(("cpu.weight", "59"))),
            "512",
        ),
        entry(
            &["linux.resources.cpu.quota"],
            |config, _| config["linux"]["resources"]["cpu"] = json!({"quota": 25000}),
            Look::Group(at("cpu.cfs_quota_us"), Some(("cpu.max", "25000 100000"))),
            "25000",
        ),
        entry(
            &["linux.resources.cpu.period"],
            |config, _| config["linux"]["resources"]["cpu"] = json!({"quota": 25000, "period": 50000}),
            Look::Group(at("cpu.cfs_period_us"), Some(("cpu.max", "25000 50000"))),
            "50000",
        ),
        entry(
            &["linux.resources.cpu.burst"],
            |config, _| config["linux"]["resources"]["cpu"] = json!({"quota": 25000, "burst": 10000}),
            Look::Group(at("cpu.cfs_burst_us"), Some(("cpu.max.burst", "10000"))),
            "10000",
        ),
        entry(
            &["linux.resources.cpu.idle"],
            |config, _| config["linux"]["resources"]["cpu"] = json!({"idle": 1}),
            Look::Group(at("cpu.idle"), Some(("cpu.idle", "1"))),
            "1",
        ),
        entry(
            &["linux.resources.cpu.realtimePeriod"],
            |config, _| config["linux"]["resources"]["cpu"] = json!({"realtimePeriod": 900_000}),
            Look::Group(at("cpu.rt_period_us"), None),
            "900000",
        ),
        entry(
            &["linux.resources.cpu.realtimeRuntime"],
            |config, _| config["linux"]["resources"]["cpu"] = json!({"realtimeRuntime": 1000}),
            Look::Group(at("cpu.rt_runtime_us"), None),
            "1000",
        ),
        entry(
            &["linux.resources.cpu.cpus"],
            |config, _| config["linux"]["resources"]["cpu"] = json!({"cpus": "0"}),
            cpus,
            "0",
        ),
        entry(
            &["linux.resources.cpu.mems"],
            |config, _| config["linux"]["resources"]["cpu"] = json!({"mems": "0"}),
            nodes,
            "0",
        ),
    ]
}

fn memory() -> Vec<Entry> {
    let at = |file| Some(("memory", file));
    vec![
        entry(
            &["linux.resources.memory", "linux.resources.memory.limit"],
            |config, _| config["linux"]["resources"]["memory"] = json!({"limit": 67_108_864}),
            Look::Group(at("memory.limit_in_bytes"), Some(("memory.max", "67108864"))),
            "67108864",
        ),
        entry(
            &["linux.resources.memory.reservation"],
            |config, _| config["linux"]["resources"]["memory"] = json!({"reservation": 33_554_432}),
            Look::Group(at("memory.soft_limit_in_bytes"), Some(("memory.low", "33554432"))),
            "33554432",
        ),
        entry(
            &["linux.resources.memory.swap"],
            |config, _| {
                config["linux"]["resources"]["memory"] = json!({"limit": 67_108_864, "swap": 134_217_728});
            },
            Look::Group(at("memory.memsw.limit_in_bytes"), Some(("memory.swap.max", "67108864"))),
            "134217728",
        ),
        entry(
            &["linux.resources.memory.swappiness"],
            |config, _| config["linux"]["resources"]["memory"] = json!({"swappiness": 7}),
            Look::Group(at("memory.swappiness"), None),
            "7",
        ),
        entry(
            &["linux.resources.memory.disableOOMKiller"],
            |config, _| config["linux"]["resources"]["memory"] = json!({"disableOOMKiller": true}),
            Look::Group(at("memory.oom_control"), None),
            "oom_kill_disable 1",
        ),
    ]
}

fn throttle(config: &mut Value, kind: &str) {
    let (major, minor, _) = disk().expect("there is a disk");
    config["linux"]["resources"]["blockIO"] =
        json!({kind: [{"major": major, "minor": minor, "rate": 1_048_576}]});
}

fn block() -> Vec<Entry> {
    let numbers = disk().map(|(major, minor, _)| format!("{major}:{minor}"));
    let on_disk = |file: &'static str, unified: Option<(&'static str, &'static str)>| match &numbers {
        Some(_) => Look::Group(Some(("blkio", file)), unified),
        None => Look::Nowhere("there is no disk".into()),
    };
    let most = |name: &str| {
        let limits = ["rbps", "wbps", "riops", "wiops"]
            .map(|known| format!("{known}={}", if known == name { "1048576" } else { "max" }));
        let line = format!("{} {}", numbers.clone().unwrap_or_default(), limits.join(" "));
        Some(("io.max", &*line.leak()))
    };
    let shown = format!("{} 1048576", numbers.clone().unwrap_or_default());
    let scheduler =
        disk().and_then(|(_, _, name)| fs::read_to_string(format!("/sys/block/{name}/queue/scheduler")).ok());
    let by_device = if scheduler.is_some_and(|name| name.contains("[bfq]")) {
        on_disk("blkio.bfq.weight_device", None)
    } else {
        Look::Nowhere("no disk is scheduled by BFQ, which alone knows weights of devices".into())
    };
    vec![
        entry(
            &[
                "linux.resources.blockIO",
                "linux.resources.blockIO.throttleReadBpsDevice",
                "linux.resources.blockIO.throttleReadBpsDevice.major",
                "linux.resources.blockIO.throttleReadBpsDevice.minor",
                "linux.resources.blockIO.throttleReadBpsDevice.rate",
            ],
            |config, _| throttle(config, "throttleReadBpsDevice"),
            on_disk("blkio.throttle.read_bps_device", most("rbps")),
            shown.clone(),
        ),
        entry(
            &[
                "linux.resources.blockIO.throttleWriteBpsDevice",
                "linux.resources.blockIO.throttleWriteBpsDevice.major",
                "linux.resources.blockIO.throttleWriteBpsDevice.minor",
                "linux.resources.blockIO.throttleWriteBpsDevice.rate",
            ],
            |config, _| throttle(config, "throttleWriteBpsDevice"),
            on_disk("blkio.throttle.write_bps_device", most("wbps")),
            shown.clone(),
        ),
        entry(
            &[
                "linux.resources.blockIO.throttleReadIOPSDevice",
                "linux.resources.blockIO.throttleReadIOPSDevice.major",
                "linux.resources.blockIO.throttleReadIOPSDevice.minor",
                "linux.resources.blockIO.throttleReadIOPSDevice.rate",
            ],
            |config, _| throttle(config, "throttleReadIOPSDevice"),
            on_disk("blkio.throttle.read_iops_device", most("riops")),
            shown.clone(),
        ),
        entry(
            &[
                "linux.resources.blockIO.throttleWriteIOPSDevice",
                "linux.resources.blockIO.throttleWriteIOPSDevice.major",
                "linux.resources.blockIO.throttleWriteIOPSDevice.minor",
                "linux.resources.blockIO.throttleWriteIOPSDevice.rate",
            ],
            |config, _| throttle(config, "throttleWriteIOPSDevice"),
            on_disk("blkio.throttle.write_iops_device", most("wiops")),
            shown,
        ),
        entry(
            &["linux.resources.blockIO.weight"],
            |config, _| config["linux"]["resources"]["blockIO"] = json!({"weight": 321}),
            Look::Group(Some(("blkio", "blkio.bfq.weight")), Some(("io.bfq.weight", "default 321"))),
            "321",
        ),
        entry(
            &[
                "linux.resources.blockIO.weightDevice",
                "linux.resources.blockIO.weightDevice.major",
                "linux.resources.blockIO.weightDevice.minor",
                "linux.resources.blockIO.weightDevice.weight",
            ],
            |config, _| {
                let (major, minor, _) = disk().expect("there is a disk");
                config["linux"]["resources"]["blockIO"] =
                    json!({"weightDevice": [{"major": major, "minor": minor, "weight": 321}]});
            },
            by_device,
            format!("{} 321", numbers.unwrap_or_default()),
        ),
    ]
}

fn other_resources() -> Vec<Entry> {
    vec![
        entry(
            &["linux.resources.pids", "linux.resources.pids.limit"],
            |config, _| config["linux"]["resources"]["pids"] = json!({"limit": 77}),
            Look::Group(Some(("pids", "pids.max")), Some(("pids.max", "77"))),
            "77",
        ),
        entry(
            &[
                "linux.resources.hugepageLimits",
                "linux.resources.hugepageLimits.pageSize",
                "linux.resources.hugepageLimits.limit",
            ],
            |config, _| {
                config["linux"]["resources"]["hugepageLimits"] =
                    json!([{"pageSize": "2MB", "limit": 4_194_304}]);
            },
            Look::Group(
                Some(("hugetlb", "hugetlb.2MB.limit_in_bytes")),
                Some(("hugetlb.2MB.max", "4194304")),
            ),
            "4194304",
        ),
        entry(
            &["linux.resources.network", "linux.resources.network.classID"],
            |config, _| config["linux"]["resources"]["network"] = json!({"classID": 1_048_577}),
            Look::Group(Some(("net_cls", "net_cls.classid")), None),
            "1048577",
        ),
        entry(
            &[
                "linux.resources.network.priorities",
                "linux.resources.network.priorities.name",
                "linux.resources.network.priorities.priority",
            ],
            |config, _| {
                config["linux"]["resources"]["network"] =
                    json!({"priorities": [{"name": "lo", "priority": 7}]});
            },
            Look::Group(Some(("net_prio", "net_prio.ifpriomap")), None),
            "lo 7",
        ),
        entry(
            &["linux.resources.rdma", "linux.resources.rdma.hcaHandles", "linux.resources.rdma.hcaObjects"],
            |config, _| {
                config["linux"]["resources"]["rdma"] =
                    json!({"mlx5_0": {"hcaHandles": 3, "hcaObjects": 10_000}});
            },
            if Path::new("/sys/class/infiniband/mlx5_0").exists() {
                Look::Group(
                    Some(("rdma", "rdma.max")),
                    Some(("rdma.max", "mlx5_0 hca_handle=3 hca_object=10000")),
                )
            } else {
                Look::Nowhere(NO_RDMA.into())
            },
            "mlx5_0 hca_handle=3 hca_object=10000",
        ),
        entry(
            &["linux.resources.unified"],
            |config, _| config["linux"]["resources"]["unified"] = json!({"memory.high": "67108864"}),
            Look::Group(None, Some(("memory.high", "67108864"))),
            "67108864",
        ),
    ]
}

fn push(list: &mut Value, entry: Value) {
    match list {
        Value::Array(entries) => entries.push(entry),
        other => *other = json!([entry]),
    }
}
