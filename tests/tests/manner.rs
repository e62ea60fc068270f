//! In which manner processes run: what the container was given holds for those that join it too, and what the kernel
//! does not grant is told.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;

use serde_json::{Value, json};
use tests::{Bundle, Container, Runtime, Snapshot, needs};

/// Personality, disk priority, nice value and memory policy of the shell that prints them.
const MANNER: &str = "uname -m; ionice -p $$; cut -d' ' -f 19 /proc/self/stat; head -n 1 /proc/self/numa_maps | cut -d' ' -f 2";

fn mannered() -> Bundle {
    Bundle::new("manner").shell("exec sleep 1000").edit(|config| {
        config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 6});
        config["process"]["scheduler"] = json!({"policy": "SCHED_OTHER", "nice": 5});
        config["linux"]["personality"] = json!({"domain": "LINUX32"});
        config["linux"]["memoryPolicy"] = json!({"mode": "MPOL_INTERLEAVE", "nodes": "0"});
    })
}

fn exec(container: &Container<'_>, bundle: &Bundle, process: &Value) -> String {
    let path = bundle.dir().join("process.json");
    fs::write(&path, process.to_string()).expect("write process.json");
    let file = path.display().to_string();
    container.call(&["exec", "--process", &file, "ID"]).success().stdout.clone()
}

#[test]
fn root_exec_takes_the_containers_manner_where_its_own_document_is_silent() {
    needs!(Root, Busybox);
    let bundle = mannered();
    let before = Snapshot::take(&bundle);
    {
        let runtime = Runtime::under_test();
        let container = bundle.container(&runtime);
        container.create().success();
        container.start().success();
        let joined = container.call(&["exec", "ID", "/bin/sh", "-c", MANNER]).success().stdout.clone();
        assert_eq!(joined, "i686\nbest-effort: prio 6\n5\ninterleave:0\n");
        let mut process = json!({
            "user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["/bin/sh", "-c", MANNER],
            "env": ["PATH=/bin"],
        });
        assert_eq!(exec(&container, &bundle, &process), joined, "a document that says nothing of it");
        process["ioPriority"] = json!({"class": "IOPRIO_CLASS_IDLE"});
        process["scheduler"] = json!({"policy": "SCHED_OTHER", "nice": 9});
        assert_eq!(exec(&container, &bundle, &process), "i686\nidle\n9\ninterleave:0\n");
    }
    before.assert_same();
}

/// A change of a document.
type Edit = fn(&mut Value);

#[test]
fn root_what_the_kernel_does_not_grant_is_told() {
    needs!(Root, Busybox);
    let edits: [(Edit, &str); 5] = [
        (
            |config| config["process"]["scheduler"] = json!({"policy": "SCHED_DEADLINE"}),
            "set the scheduler: sched_setattr(policy 6, flags 0x0): invalid argument (os error 22)",
        ),
        (
            |config| config["process"]["scheduler"] = json!({"policy": "SCHED_ISO"}),
            "set the scheduler: sched_setattr(policy 4, flags 0x0): invalid argument (os error 22)",
        ),
        (
            |config| {
                let one = json!({"policy": "SCHED_DEADLINE", "runtime": 1_000_000, "deadline": 100_000_000});
                config["process"]["scheduler"] = one;
                config["linux"]["resources"]["cpu"] = json!({"cpus": "0"});
            },
            "set the scheduler (SCHED_DEADLINE needs CAP_SYS_NICE, and no cpuset that leaves out CPUs): \
             sched_setattr(policy 6, flags 0x0): operation not permitted (os error 1)",
        ),
        (
            |config| config["linux"]["memoryPolicy"] = json!({"mode": "MPOL_BIND", "nodes": "900"}),
            "set the memory policy: set_mempolicy(mode 0x2, ",
        ),
        (
            |config| {
                let both = json!(["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"]);
                config["linux"]["memoryPolicy"] = json!({"mode": "MPOL_BIND", "nodes": "0", "flags": both});
            },
            "set the memory policy: set_mempolicy(mode 0xc002, [1]): invalid argument (os error 22)",
        ),
    ];
    let is_alone = std::thread::available_parallelism().is_ok_and(|count| count.get() == 1);
    for (edit, told) in edits {
        if is_alone && told.contains("cpuset") {
            continue;
        }
        let bundle = Bundle::new("ungranted").edit(edit);
        let before = Snapshot::take(&bundle);
        let run = bundle.container(&Runtime::under_test()).run();
        run.code(1);
        assert_eq!(run.stderr.lines().count(), 1, "{run}");
        assert!(run.stderr.contains(told), "{told}: {run}");
        before.assert_same();
    }
}

#[test]
fn root_exec_on_a_cpu_that_is_not_there_is_told() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("no-cpu").shell("exec sleep 1000").edit(|config| {
        config["process"]["execCPUAffinity"] = json!({"final": "900"});
    });
    let container = bundle.container(&Runtime::under_test());
    container.create().success();
    let output = container.call(&["exec", "ID", "/bin/true"]);
    output.code(255);
    let told = "set the CPU affinity: sched_setaffinity(900): invalid argument (os error 22)\n";
    assert!(output.stderr.ends_with(told), "{output}");
}
