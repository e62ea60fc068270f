//! A runtime that is killed after any of its system calls leaves nothing that `delete --force` does not remove.
//!
//! For every N until the command comes to its end: the command runs under ptrace and gets SIGKILL as it returns from
//! its N-th system call; then `delete --force`; then nothing may be there that carries the container's name. A container
//! that the command only visited goes on before that. Two workers share the points of a command.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use serde_json::json;
use tests::trace::{Fate, kill_after};
use tests::{Agent, Answer, Bundle, Conduct, Container, Runtime, Snapshot, figure, needs};

const WORKERS: usize = 2;

/// So many failed points tell enough of one command.
const ENOUGH: usize = 20;

/// A command, and the life that its container has had before.
struct Victim {
    told: &'static str,
    words: &'static [&'static str],
    program: &'static [&'static str],
    before: fn(&Container<'_>),
    shape: Shape,
}

/// What a container has beside the default.
#[derive(Clone, Copy)]
enum Shape {
    Plain,
    Hooks,
    /// A user namespace, another namespace that is joined beside it, and a mount with maps of its own: all that it takes
    /// more processes and descriptors for.
    Users,
    /// A filter with an agent, whom our own calls on the way to the program are its to answer.
    Agent,
}

const SLEEP: &[&str] = &["/bin/sleep", "1000"];

const VICTIMS: &[Victim] = &[
    Victim {
        told: "create",
        words: &["create", "--bundle", "BUNDLE", "ID"],
        program: SLEEP,
        before: |_| {},
        shape: Shape::Plain,
    },
    Victim { told: "start", words: &["start", "ID"], program: SLEEP, before: created, shape: Shape::Plain },
    Victim {
        told: "run",
        words: &["run", "--bundle", "BUNDLE", "ID"],
        program: &["/bin/true"],
        before: |_| {},
        shape: Shape::Plain,
    },
    Victim {
        told: "run --detach",
        words: &["run", "--detach", "--bundle", "BUNDLE", "ID"],
        program: SLEEP,
        before: |_| {},
        shape: Shape::Plain,
    },
    Victim {
        told: "kill",
        words: &["kill", "ID", "KILL"],
        program: SLEEP,
        before: running,
        shape: Shape::Plain,
    },
    Victim {
        told: "delete",
        words: &["delete", "ID"],
        program: &["/bin/true"],
        before: stopped,
        shape: Shape::Plain,
    },
    Victim {
        told: "delete --force",
        words: &["delete", "--force", "ID"],
        program: SLEEP,
        before: running,
        shape: Shape::Plain,
    },
    Victim {
        told: "exec",
        words: &["exec", "ID", "/bin/true"],
        program: SLEEP,
        before: running,
        shape: Shape::Plain,
    },
    Victim {
        told: "exec --detach",
        words: &["exec", "--detach", "ID", "/bin/true"],
        program: SLEEP,
        before: running,
        shape: Shape::Plain,
    },
    Victim {
        told: "create with hooks",
        words: &["create", "--bundle", "BUNDLE", "ID"],
        program: SLEEP,
        before: |_| {},
        shape: Shape::Hooks,
    },
    Victim {
        told: "create with user namespaces",
        words: &["create", "--bundle", "BUNDLE", "ID"],
        program: SLEEP,
        before: |_| {},
        shape: Shape::Users,
    },
    Victim {
        told: "exec into user namespaces",
        words: &["exec", "ID", "/bin/true"],
        program: SLEEP,
        before: running,
        shape: Shape::Users,
    },
    Victim {
        told: "start with hooks",
        words: &["start", "ID"],
        program: SLEEP,
        before: created,
        shape: Shape::Hooks,
    },
    Victim {
        told: "delete with hooks",
        words: &["delete", "ID"],
        program: SLEEP,
        before: created,
        shape: Shape::Hooks,
    },
    Victim {
        told: "create with an agent",
        words: &["create", "--bundle", "BUNDLE", "ID"],
        program: SLEEP,
        before: |_| {},
        shape: Shape::Agent,
    },
    Victim {
        told: "run with an agent",
        words: &["run", "--bundle", "BUNDLE", "ID"],
        program: &["/bin/true"],
        before: |_| {},
        shape: Shape::Agent,
    },
    Victim {
        told: "exec with an agent",
        words: &["exec", "ID", "/bin/true"],
        program: SLEEP,
        before: running,
        shape: Shape::Agent,
    },
];

impl Victim {
    /// Whether the command only visits the container, which goes on whatever becomes of it.
    fn is_visit(&self) -> bool {
        self.words.first() == Some(&"exec")
    }

    /// Whoever is asked about the container's calls.
    fn agent(&self, bundle: &Bundle) -> Option<Agent> {
        let is_asked = matches!(self.shape, Shape::Agent);
        is_asked.then(|| Agent::new(bundle, Conduct::Answers(|_| Answer::Continue)))
    }

    fn bundle(&self) -> Bundle {
        let bundle = Bundle::new("point").args(self.program).may_leave();
        match self.shape {
            Shape::Plain => bundle,
            Shape::Hooks => with_hooks(bundle),
            Shape::Users => with_users(bundle),
            Shape::Agent => with_agent(bundle),
        }
    }
}

fn with_hooks(bundle: Bundle) -> Bundle {
    let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", "read line; true"], "timeout": 20}]);
    bundle.edit(|config| {
        for kind in
            ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
        {
            config["hooks"][kind] = hook.clone();
        }
    })
}

/// The agent is asked about calls on our own way to the program.
fn with_agent(bundle: Bundle) -> Bundle {
    let path = bundle.dir().join("agent");
    bundle.edit(|config| {
        config["process"]["noNewPrivileges"] = json!(false);
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path,
            "syscalls": [{"names": ["capset", "read", "close", "execve", "mkdir"], "action": "SCMP_ACT_NOTIFY"}],
        });
    })
}

fn with_users(bundle: Bundle) -> Bundle {
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 1000}]);
    let mount = json!({
        "destination": "/tmp", "source": bundle.rootfs().join("tmp"), "options": ["rbind", "idmap"],
        "uidMappings": [{"containerID": 0, "hostID": 100_005, "size": 10}],
        "gidMappings": [{"containerID": 0, "hostID": 100_005, "size": 10}],
    });
    bundle.given_to(100_000).namespace("user").edit(|config| {
        config["linux"]["uidMappings"] = map.clone();
        config["linux"]["gidMappings"] = map;
        config["mounts"].as_array_mut().expect("a list").push(mount);
        // The host's own: nobody has to hold it, and nothing is changed in it.
        let list = config["linux"]["namespaces"].as_array_mut().expect("a list");
        list.retain(|one| one["type"] != "uts");
        list.push(json!({"type": "uts", "path": "/proc/self/ns/uts"}));
        config.as_object_mut().expect("a document").remove("hostname");
    })
}

/// The container is what it was, with nobody new in it, and another process can be run in it.
fn goes_on(container: &Container<'_>, before: &Snapshot) -> Vec<String> {
    // Whoever is on its way out is waited for: a process that only half joined would stay.
    let mut wrong = before.changes();
    let status = container.status();
    if status.as_deref() != Some("running") {
        wrong.push(format!("the container is {status:?}"));
    }
    let again = container.call(&["exec", "ID", "/bin/echo", "again"]);
    if again.code != 0 || again.stdout != "again\n" {
        wrong.push(format!("no other process can be run in it: {again}"));
    }
    wrong
}

fn created(container: &Container<'_>) {
    container.create().success();
}

fn running(container: &Container<'_>) {
    created(container);
    container.start().success();
}

fn stopped(container: &Container<'_>) {
    running(container);
    assert!(container.ended());
}

#[test]
fn root_a_runtime_killed_at_any_point_leaves_nothing() {
    needs!(Root, Busybox);
    let host = Snapshot::whole();
    let reports: Vec<Report> = VICTIMS.iter().map(Report::of).collect();
    let points: usize = reports.iter().map(|report| report.points).sum();
    figure(&format!("{points} points at which a runtime was killed"));
    for report in &reports {
        // A tracer that lost its tracee would find nothing wrong with anything.
        assert!(report.points > 20, "{}: only {} points", report.told, report.points);
    }
    let failures: Vec<_> = reports.iter().flat_map(|report| &report.failures).map(String::as_str).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    host.assert_same();
}

/// How one command fared.
struct Report {
    told: &'static str,
    points: usize,
    failures: Vec<String>,
}

impl Report {
    fn of(victim: &Victim) -> Self {
        let (next, ended) = (AtomicUsize::new(0), AtomicBool::new(false));
        let (points, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let work = || {
            let mut bundle = victim.bundle();
            let mut _agent = victim.agent(&bundle);
            while !ended.load(Ordering::Relaxed) {
                let count = next.fetch_add(1, Ordering::Relaxed);
                let (fate, left) = point(victim, &bundle, count);
                let Fate::Killed { call } = fate else {
                    assert!(
                        matches!(fate, Fate::Ended { code: 0, .. }),
                        "{}, not killed: {fate:?}",
                        victim.told
                    );
                    ended.store(true, Ordering::Relaxed);
                    continue;
                };
                points.fetch_add(1, Ordering::Relaxed);
                if left.is_empty() {
                    continue;
                }
                let mut failures = failures.lock().expect("no worker panics with the lock");
                failures.push(format!(
                    "{}, killed after {count} calls, the last number {call}:\n    {}",
                    victim.told,
                    left.join("\n    ")
                ));
                ended.fetch_or(failures.len() >= ENOUGH, Ordering::Relaxed);
                // What was left must not disturb the next point: this bundle sweeps as it goes.
                bundle = victim.bundle();
                _agent = victim.agent(&bundle);
            }
        };
        thread::scope(|scope| {
            for _ in 0..WORKERS {
                scope.spawn(work);
            }
        });
        let failures = failures.into_inner().expect("no worker panics with the lock");
        let report = Self { told: victim.told, points: points.into_inner(), failures };
        let Self { told, points, failures } = &report;
        figure(&format!("{told}: {points} points, {} with something left", failures.len()));
        report
    }
}

/// One point: how the command ended, and what was there after `delete --force`.
fn point(victim: &Victim, bundle: &Bundle, count: usize) -> (Fate, Vec<String>) {
    let container = bundle.container(&Runtime::under_test());
    let host = Snapshot::take(bundle);
    (victim.before)(&container);
    let alive = Snapshot::take(bundle);
    let fate = kill_after(container.command(victim.words), count);
    let mut left = if victim.is_visit() { goes_on(&container, &alive) } else { Vec::new() };
    let deleted = container.delete_force();
    left.extend(host.changes());
    if deleted.code != 0 {
        left.push(format!("delete --force: {deleted}"));
    }
    (fate, left)
}
