//! `update`: other limits for a container that is there, as the kernel's files show them.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::path::PathBuf;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};
use tests::trace::{Fate, kill_after};
use tests::{Bundle, Container, LIMIT, Output, Runtime, Snapshot, channel, figure, needs};

/// A bundle that has limits from the beginning.
fn limited(name: &str) -> Bundle {
    Bundle::new(name).shell("exec sleep 1000").edit(|config| {
        config["linux"]["resources"]["memory"] = json!({"limit": 64 << 20, "swap": 96 << 20});
        config["linux"]["resources"]["cpu"] = json!({"shares": 512, "quota": 50_000, "period": 100_000});
        config["linux"]["resources"]["pids"] = json!({"limit": 50});
    })
}

fn running<'a>(bundle: &'a Bundle, runtime: &Runtime) -> Container<'a> {
    let container = bundle.container(runtime);
    container.create().success();
    container.start().success();
    container
}

/// A file of the container's group, `memory/memory.limit_in_bytes`.
fn file(bundle: &Bundle, name: &str) -> PathBuf {
    let (controller, name) = name.split_once('/').expect("a controller and a file");
    let own = fs::read_to_string("/proc/self/cgroup").expect("our own groups");
    let line = own.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        controllers.split(',').any(|one| one == controller).then_some(path)
    });
    let below = line.expect("the hierarchy is there").trim_start_matches('/');
    PathBuf::from("/sys/fs/cgroup").join(controller).join(below).join(bundle.id()).join(name)
}

fn shown(bundle: &Bundle, name: &str) -> String {
    fs::read_to_string(file(bundle, name)).expect("a file of the group").trim().to_owned()
}

/// All files that the tests change.
const FILES: &[&str] = &[
    "memory/memory.limit_in_bytes",
    "memory/memory.memsw.limit_in_bytes",
    "memory/memory.soft_limit_in_bytes",
    "memory/memory.swappiness",
    "memory/memory.oom_control",
    "cpu/cpu.shares",
    "cpu/cpu.cfs_period_us",
    "cpu/cpu.cfs_quota_us",
    "cpu/cpu.cfs_burst_us",
    "cpu/cpu.idle",
    "cpuset/cpuset.cpus",
    "cpuset/cpuset.mems",
    "pids/pids.max",
    "blkio/blkio.bfq.weight",
    "blkio/blkio.throttle.read_bps_device",
    "devices/devices.list",
];

/// What they show; a file that this kernel lacks shows nothing.
fn all(bundle: &Bundle) -> Vec<(&'static str, String)> {
    let show = |name| {
        let text = fs::read_to_string(file(bundle, name)).unwrap_or_default();
        // The kernel lists devices in the order in which they were allowed.
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        lines.join("\n")
    };
    FILES.iter().map(|name| (*name, show(name))).collect()
}

/// `update` with a document on standard input.
fn update(container: &Container<'_>, document: &Value) -> Output {
    let path = PathBuf::from(format!("/tmp/{}.resources", container.id()));
    fs::write(&path, document.to_string()).expect("write the document");
    let stdin = File::open(&path).expect("open the document");
    fs::remove_file(&path).expect("remove the document's name");
    container.command(&["update", "--resources", "-", "ID"]).stdin(stdin).run()
}

/// The limits as the record has them.
fn recorded(bundle: &Bundle) -> Value {
    let path = bundle.state_root().join(bundle.id()).join("state.json");
    let text = fs::read_to_string(path).expect("the record");
    let record: Value = serde_json::from_str(&text).expect("it is JSON");
    record["limits"].clone()
}

#[test]
fn root_update_changes_what_its_flags_name() {
    needs!(Root, Busybox, GroupsV1);
    let bundle = limited("update-flags");
    let before = Snapshot::take(&bundle);
    let container = running(&bundle, &Runtime::under_test());
    for (flags, changes) in [
        (&["--memory", "32m"][..], &[("memory/memory.limit_in_bytes", "33554432")][..]),
        (&["--memory-swap", "128M"], &[("memory/memory.memsw.limit_in_bytes", "134217728")]),
        (&["--memory-reservation", "1.5m"], &[("memory/memory.soft_limit_in_bytes", "1572864")]),
        (&["--cpu-share", "300"], &[("cpu/cpu.shares", "300")]),
        (&["--cpu-quota", "20000"], &[("cpu/cpu.cfs_quota_us", "20000")]),
        (&["--cpu-period=50000"], &[("cpu/cpu.cfs_period_us", "50000")]),
        (&["--cpu-burst", "5000"], &[("cpu/cpu.cfs_burst_us", "5000")]),
        (&["--cpuset-cpus", "0"], &[("cpuset/cpuset.cpus", "0")]),
        (&["--cpuset-mems", "0"], &[("cpuset/cpuset.mems", "0")]),
        (&["--pids-limit", "20"], &[("pids/pids.max", "20")]),
        (&["--blkio-weight", "500"], &[("blkio/blkio.bfq.weight", "500")]),
        // Ending to be idle, a group has the kernel's own share again.
        (&["--cpu-idle", "1"], &[("cpu/cpu.idle", "1"), ("cpu/cpu.shares", "3")]),
        (&["--cpu-idle", "0"], &[("cpu/cpu.idle", "0"), ("cpu/cpu.shares", "1024")]),
        (&["--cpu-quota", "-1"], &[("cpu/cpu.cfs_quota_us", "-1")]),
        (&["--pids-limit", "-1"], &[("pids/pids.max", "max")]),
        (&["--kernel-memory", "5m", "--kernel-memory-tcp", "5m"], &[]),
        (&["--pids-limit", "0", "--memory", "0", "--cpu-share", "0", "--cpuset-cpus", ""], &[]),
        (&[], &[]),
    ] {
        let mut wanted = all(&bundle);
        for (name, value) in changes {
            let entry = wanted.iter_mut().find(|(file, _)| file == name).expect("a file of the list");
            // The soft spot of idle: its weight is the kernel's business.
            let value = if *value == "3" { shown_idle(&container, &bundle) } else { (*value).to_owned() };
            // A kernel without that file has nothing to show.
            if !entry.1.is_empty() {
                entry.1 = value;
            }
        }
        container.call(&[&["update"], flags, &["ID"]].concat()).success();
        assert_eq!(all(&bundle), wanted, "{flags:?}");
    }
    container.call(&["update", "--memory", "-1", "ID"]).success();
    assert_eq!(shown(&bundle, "memory/memory.limit_in_bytes"), "9223372036854771712");
    assert_eq!(shown(&bundle, "memory/memory.memsw.limit_in_bytes"), "9223372036854771712");
    assert_eq!(container.status().as_deref(), Some("running"));
    container.delete_force().success();
    before.assert_same();
}

/// The share of an idle group, on this kernel.
fn shown_idle(container: &Container<'_>, bundle: &Bundle) -> String {
    container.call(&["update", "--cpu-idle", "1", "ID"]).success();
    shown(bundle, "cpu/cpu.shares")
}

#[test]
fn root_update_reads_a_document_as_runc_does() {
    needs!(Root, Busybox, GroupsV1);
    needs!(Runc);
    let whole = |bundle: &Bundle, runtime: &Runtime| {
        let container = running(bundle, runtime);
        let mut seen = Vec::new();
        for document in [
            json!({}),
            json!({"memory": {"limit": 32 << 20}, "unknown": [1, {"x": null}]}),
            json!({"memory": {"limit": 128 << 20, "swap": 256 << 20, "reservation": 16 << 20}}),
            json!({"memory": {"limit": 16 << 20, "swap": 16 << 20}}),
            json!({"cpu": {"quota": 30000}}),
            json!({"cpu": {"period": 60000}}),
            json!({"cpu": {"quota": 4000, "period": 5000}}),
            json!({"cpu": {"quota": 900_000, "period": 1_000_000}}),
            json!({"cpu": {"shares": 77, "cpus": "0", "mems": "0"}, "pids": {"limit": 9}}),
            json!({"cpu": {"shares": 0, "quota": 0, "cpus": ""}, "pids": {"limit": 0}, "memory": {}}),
            json!({"blockIO": {"weight": 200}}),
            json!({"pids": {"limit": 11}}),
            json!({"memory": {"limit": -1}}),
            json!({"memory": {"limit": 32 << 20, "swap": -1}}),
        ] {
            let output = update(&container, &document);
            seen.push((document.to_string(), output.code, all(bundle)));
        }
        container.delete_force().success();
        seen
    };
    let (ours, theirs) = (limited("update-document"), limited("update-runc").may_leave());
    let (ours, theirs) = (whole(&ours, &Runtime::under_test()), whole(&theirs, &Runtime::runc()));
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours, theirs);
        assert_eq!(ours.1, 0, "{}", ours.0);
    }
}

#[test]
fn root_update_finds_the_order_that_the_kernel_takes() {
    needs!(Root, Busybox, GroupsV1);
    let bundle = limited("update-order");
    let container = running(&bundle, &Runtime::under_test());
    let m = |bytes: u64| bytes << 20;
    for (limit, swap) in [(m(64), m(64)), (m(256), m(256)), (m(16), m(512)), (m(512), m(512)), (m(16), m(16))]
    {
        update(&container, &json!({"memory": {"limit": limit, "swap": swap}})).success();
        assert_eq!(shown(&bundle, "memory/memory.limit_in_bytes"), limit.to_string());
        assert_eq!(shown(&bundle, "memory/memory.memsw.limit_in_bytes"), swap.to_string());
    }
    for (quota, period, burst) in [
        (5000, 10000, 4000),
        (90000, 100_000, 80000),
        (2000, 1_000_000, 1000),
        (9000, 10000, 9000),
        (1000, 2000, 0),
    ] {
        update(&container, &json!({"cpu": {"quota": quota, "period": period, "burst": burst}})).success();
        assert_eq!(shown(&bundle, "cpu/cpu.cfs_quota_us"), quota.to_string());
        assert_eq!(shown(&bundle, "cpu/cpu.cfs_period_us"), period.to_string());
        assert_eq!(shown(&bundle, "cpu/cpu.cfs_burst_us"), burst.to_string());
    }
    // A share is refused to an idle group, and given to one that is idle no more.
    update(&container, &json!({"cpu": {"idle": 1}})).success();
    update(&container, &json!({"cpu": {"idle": 0, "shares": 700}})).success();
    assert_eq!(shown(&bundle, "cpu/cpu.shares"), "700");
    container.delete_force().success();
}

#[test]
fn root_update_that_fails_changes_nothing() {
    needs!(Root, Busybox, GroupsV1);
    let bundle = limited("update-fails");
    let before = Snapshot::take(&bundle);
    let container = running(&bundle, &Runtime::under_test());
    let disk = fs::read_to_string("/sys/class/block/vda/dev").ok();
    let (files, record) = (all(&bundle), recorded(&bundle));
    let mut failing = vec![
        (json!({"cpu": {"cpus": "4000"}}), "cpu.cpus: write("),
        (json!({"cpu": {"mems": "x"}}), "cpu.mems: write("),
        (json!({"cpu": {"quota": 1}}), "cpu.quota: write("),
        (json!({"cpu": {"quota": 20_000, "period": 10}}), "cpu.period: write("),
        (json!({"blockIO": {"weight": 5000}}), "blockIO.weight: write("),
        (json!({"memory": {"limit": 128 << 20, "swap": 64 << 20}}), "memory.swap: 67108864 is less than"),
        (json!({"memory": {"limit": 128 << 20}}), "memory.swap: 100663296 is less than"),
        (json!({"memory": {"limit": -7}}), "memory.limit: -7 is neither"),
        (json!({"cpu": {"shares": 1}}), "cpu.shares: the minimum allowed cpu-shares is 2"),
        (json!({"hugepageLimits": [{"pageSize": "../x", "limit": 5}]}), "hugepageLimits[0].pageSize: "),
        (
            json!({"unified": {"memory.high": "1"}}),
            "unified: invalid configuration: the controllers of this host are on cgroup v1",
        ),
        (json!({"network": {"priorities": [{"name": "a b", "priority": 1}]}}), "network.priorities[0]: "),
    ];
    if let Some(number) = disk.as_deref().and_then(|disk| disk.trim().split_once(':')) {
        let device = |number: (&str, &str), rate: u64| {
            let part = |part: &str| part.parse::<i64>().expect("a device number");
            json!({"major": part(number.0), "minor": part(number.1), "rate": rate})
        };
        let document = json!({"blockIO": {"throttleReadBpsDevice":
            [device(number, 1 << 20), {"major": 4095, "minor": 7, "rate": 5}]}});
        failing.push((document, "blockIO.throttleReadBpsDevice[1]: write("));
    }
    for (wrong, words) in failing {
        // Much that would work stands before it and after it.
        let mut document = json!({
            "memory": {"limit": 32 << 20, "swap": 48 << 20, "reservation": 8 << 20, "swappiness": 7,
                "disableOOMKiller": true},
            "cpu": {"shares": 99, "quota": 9000, "period": 10_000, "burst": 100, "cpus": "0"},
            "pids": {"limit": 7},
            "blockIO": {"weight": 77},
        });
        for (controller, limits) in wrong.as_object().expect("an object") {
            match limits.as_object().filter(|_| document[controller].is_object()) {
                Some(limits) => {
                    document[controller].as_object_mut().expect("an object").extend(limits.clone());
                }
                None => document[controller] = limits.clone(),
            }
        }
        if wrong["memory"]["limit"].is_i64() && wrong["memory"]["swap"].is_null() {
            document["memory"].as_object_mut().expect("an object").remove("swap");
        }
        let output = update(&container, &document);
        output.code(1);
        assert!(output.stderr.contains(words), "{words}: {}", output.stderr);
        assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
        assert_eq!(all(&bundle), files, "{wrong}");
        assert_eq!(recorded(&bundle), record, "{wrong}");
    }
    assert_eq!(container.status().as_deref(), Some("running"));
    container.delete_force().success();
    before.assert_same();
}

#[test]
fn root_update_refuses_less_memory_than_is_used() {
    needs!(Root, Busybox, GroupsV1);
    let (mut lines, stdout) = channel();
    let bundle = limited("update-used")
        .shell("dd if=/dev/zero of=/dev/shm/held bs=1M count=20 2>/dev/null; echo held; sleep 1000");
    let container = bundle.container(&Runtime::under_test());
    container.command(&["create", "--bundle", "BUNDLE", "ID"]).stdout(stdout).run().success();
    container.start().success();
    assert_eq!(lines.next_within(LIMIT).as_deref(), Some("held"));
    let files = all(&bundle);
    let output = container.call(&["update", "--pids-limit", "9", "--memory", "4m", "ID"]);
    output.code(1);
    let words = "memory.limit: unable to set memory limit to 4194304 (current usage: ";
    assert!(output.stderr.contains(words) && output.stderr.contains(", peak usage: "), "{}", output.stderr);
    assert_eq!(all(&bundle), files);
    assert_eq!(container.status().as_deref(), Some("running"));
    container.call(&["update", "--memory", "40m", "ID"]).success();
    container.delete_force().success();
}

/// Tries to open a device. Denied is denied; that nobody drives it, as /dev/kmem's number any more, is another answer.
const TRY: &str = "case $( (exec < /nodes/$device) 2>&1 ) in *permitted*) echo shut;; *) echo passes;; esac";

/// A shell that tries a device whenever it is asked to.
fn trying(name: &str) -> Bundle {
    // On a file system of its own: the bundle's may be mounted without devices.
    let bundle =
        limited(name).cap("CAP_MKNOD").mount("/nodes", "tmpfs", "tmpfs", &["mode=755"]).shell(&format!(
            "mknod /nodes/kmem c 1 2; mknod /nodes/null c 1 3; \
             while read device < /tmp/ask; do {TRY} > /tmp/tell; done"
        ));
    for name in ["ask", "tell"] {
        let path = bundle.rootfs().join("tmp").join(name);
        mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("make a fifo");
    }
    bundle
}

/// What is found by the shell that has run all the while, and by a process that comes now.
fn tried(container: &Container<'_>, device: &str) -> [String; 2] {
    [format!("echo {device} > /tmp/ask; cat /tmp/tell"), format!("device={device}; {TRY}")].map(|script| {
        let output = container.call(&["exec", "ID", "/bin/sh", "-c", &script]);
        output.success();
        output.stdout.trim().to_owned()
    })
}

#[test]
fn root_update_allows_and_denies_devices_of_a_container_that_runs() {
    needs!(Root, Busybox, Groups, Freezer);
    let bundle = trying("update-devices");
    let before = Snapshot::take(&bundle);
    let container = running(&bundle, &Runtime::under_test());
    let shut = json!({"allow": false, "access": "rwm"});
    let device = json!({"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwm"});
    let kmem = json!({"allow": true, "type": "c", "major": 1, "minor": 2, "access": "r"});
    let all = json!({"allow": true, "access": "rwm"});
    let no_kmem = json!({"allow": false, "type": "c", "major": 1, "minor": 2, "access": "rwm"});
    assert_eq!(tried(&container, "kmem"), ["shut", "shut"]);
    for (devices, passes) in [
        (vec![], false),
        (vec![&shut, &kmem], true),
        (vec![&shut, &device], false),
        (vec![&shut, &device, &kmem], true),
        (vec![&shut], false),
        (vec![&all], true),
        (vec![&all, &no_kmem], false),
        (vec![&all, &no_kmem, &all], true),
        (vec![&shut, &kmem], true),
        // The same again, and something else only.
        (vec![&shut, &kmem], true),
        (vec![], true),
        (vec![&shut], false),
    ] {
        let document = json!({"devices": devices, "pids": {"limit": 60}});
        update(&container, &document).success();
        let expected = if passes { "passes" } else { "shut" };
        assert_eq!(tried(&container, "kmem"), [expected, expected], "{document}");
        assert_eq!(tried(&container, "null"), ["passes", "passes"], "{document}");
        if !devices.is_empty() {
            assert_eq!(recorded(&bundle)["devices"].as_array().map(Vec::len), Some(devices.len()));
        }
        assert_eq!(container.status().as_deref(), Some("running"));
    }
    // Paused it was, paused it stays.
    container.call(&["pause", "ID"]).success();
    update(&container, &json!({"devices": [all]})).success();
    assert_eq!(container.status().as_deref(), Some("paused"));
    container.call(&["resume", "ID"]).success();
    container.delete_force().success();
    before.assert_same();
}

#[test]
fn root_update_of_devices_leaves_what_others_have_allowed() {
    needs!(Root, Busybox, GroupsV1);
    let bundle = limited("update-devices-others");
    let container = running(&bundle, &Runtime::under_test());
    let shut = json!({"allow": false, "access": "rwm"});
    let fuse = json!({"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwm"});
    let has = |line: &str| shown(&bundle, "devices/devices.list").lines().any(|one| one == line);
    // As a hook for a graphics card does it.
    fs::write(file(&bundle, "devices/devices.allow"), "c 195:* rwm").expect("allow a card");
    for (devices, allows_fuse) in [
        (json!([shut, fuse]), true),
        (json!([shut, fuse]), true),
        (json!([shut]), false),
        // One that names no device says nothing of them.
        (json!([]), false),
    ] {
        update(&container, &json!({"devices": devices})).success();
        assert_eq!((has("c 10:229 rwm"), has("c 195:* rwm")), (allows_fuse, true), "{devices}");
        assert!(has("c 1:3 rwm") && has("c 136:* rwm"), "everybody's devices stay");
    }
    container.delete_force().success();
}

#[test]
fn root_update_of_devices_is_taken_back() {
    needs!(Root, Busybox, GroupsV1);
    let bundle = limited("update-devices-back");
    let container = running(&bundle, &Runtime::under_test());
    let (files, record) = (all(&bundle), recorded(&bundle));
    // The record cannot be written: by then, all limits are.
    let draft = bundle.state_root().join(bundle.id()).join(".state.json");
    fs::create_dir(&draft).expect("stand in the draft's way");
    for devices in [
        json!([{"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwm"}]),
        json!([{"allow": true, "access": "rwm"}]),
    ] {
        let output = update(&container, &json!({"devices": devices, "pids": {"limit": 9}}));
        assert_eq!(output.code, 1, "{output}");
        assert_eq!(all(&bundle), files, "{devices}");
    }
    fs::remove_dir(&draft).expect("go out of its way");
    assert_eq!(recorded(&bundle), record);
    container.delete_force().success();
}

#[test]
fn root_update_goes_by_the_containers_state() {
    needs!(Root, Busybox, GroupsV1);
    needs!(Freezer);
    let bundle = limited("update-states");
    let before = Snapshot::take(&bundle);
    let container = bundle.container(&Runtime::under_test());
    let update = |limit: &str| container.call(&["update", "--pids-limit", limit, "ID"]);
    let refused = |limit: &str, words: &str| {
        let output = update(limit);
        output.code(1);
        assert!(output.stderr.contains(words), "{}", output.stderr);
    };
    let holds = |limit: &str| {
        update(limit).success();
        assert_eq!(shown(&bundle, "pids/pids.max"), limit);
    };
    refused("31", "container does not exist");
    container.create().success();
    holds("32");
    assert_eq!(container.status().as_deref(), Some("created"));
    container.start().success();
    holds("33");
    container.call(&["pause", "ID"]).success();
    holds("34");
    assert_eq!(container.status().as_deref(), Some("paused"));
    container.call(&["resume", "ID"]).success();
    container.kill("KILL").success();
    assert!(container.ended());
    refused("35", "container not running");
    assert_eq!(shown(&bundle, "pids/pids.max"), "34");
    container.delete().success();
    refused("36", "container does not exist");
    before.assert_same();
}

#[test]
fn root_update_leaves_devices_alone() {
    needs!(Root, Busybox, GroupsV1);
    let bundle = limited("update-devices");
    let container = running(&bundle, &Runtime::under_test());
    // As a plug-in for graphics cards does it.
    fs::write(file(&bundle, "devices/devices.allow"), "c 195:* rw").expect("allow a device");
    let list = shown(&bundle, "devices/devices.list");
    assert!(list.contains("c 195:* rw"), "{list}");
    update(&container, &json!({"devices": [{"allow": false, "access": "rwm"}], "pids": {"limit": 9}}))
        .success();
    assert_eq!(shown(&bundle, "devices/devices.list"), list);
    assert_eq!(shown(&bundle, "pids/pids.max"), "9");
    container.delete_force().success();
}

#[test]
fn root_update_goes_on_from_what_is_in_force() {
    needs!(Root, Busybox, GroupsV1);
    let bundle = limited("update-record");
    let container = running(&bundle, &Runtime::under_test());
    container.call(&["update", "--cpu-quota", "70000", "ID"]).success();
    container.call(&["update", "--memory-swap", "-1", "ID"]).success();
    container.call(&["update", "--memory", "80m", "--pids-limit", "-1", "ID"]).success();
    let expected = json!({
        "memory": {"limit": 80 << 20, "swap": -1},
        "cpu": {"shares": 512, "quota": 70_000, "period": 100_000},
        "pids": {"limit": -1},
        "blockIO": {},
        "devices": [{"allow": false, "access": "rwm"}],
    });
    assert_eq!(recorded(&bundle), expected);
    // A record from before limits were kept.
    let path = bundle.state_root().join(bundle.id()).join("state.json");
    let mut record: Value =
        serde_json::from_str(&fs::read_to_string(&path).expect("the record")).expect("it is JSON");
    record.as_object_mut().expect("an object").remove("limits");
    fs::write(&path, record.to_string()).expect("write the record");
    container.call(&["update", "--cpu-period", "50000", "ID"]).success();
    assert_eq!(shown(&bundle, "cpu/cpu.cfs_quota_us"), "70000");
    assert_eq!(recorded(&bundle)["cpu"], json!({"period": 50_000}));
    container.delete_force().success();
}

#[test]
fn root_update_tells_bad_input_in_one_line() {
    needs!(Root, Busybox, GroupsV1);
    let bundle = limited("update-bad");
    let container = running(&bundle, &Runtime::under_test());
    let (files, record) = (all(&bundle), recorded(&bundle));
    let told = |output: &Output, words: &str| {
        output.code(1);
        assert!(output.stderr.contains(words), "{words}: {}", output.stderr);
        // A hint may follow.
        let lines = output.stderr.lines().count();
        assert!(lines == 1 || lines == 2 && output.stderr.contains("\nhint: "), "{}", output.stderr);
        assert_eq!((all(&bundle), recorded(&bundle)), (files.clone(), record.clone()), "{words}");
    };
    for (flag, value, words) in [
        ("--memory", "x", "invalid value for memory: invalid size: 'x'"),
        ("--memory", "1e3", "invalid size: '1e3'"),
        ("--memory", "9223372036854775808", "invalid size"),
        ("--memory-swap", "-2", "invalid value for memory-swap: invalid size: '-2'"),
        ("--memory-reservation", "5q", "invalid value for memory-reservation"),
        ("--kernel-memory", "5q", "invalid value for kernel-memory"),
        ("--cpu-share", "-1", "invalid value for cpu-share: \"-1\" is no whole number"),
        ("--cpu-quota", "1.5", "invalid value for cpu-quota"),
        ("--cpu-idle", "7", "cpu.idle: 7 is neither 0 nor 1"),
        ("--pids-limit", "x", "invalid value \"x\" for flag -pids-limit: parse error"),
        ("--blkio-weight", "70000", "invalid value for blkio-weight: 70000 is out of range"),
        ("--l3-cache-schema", "L3:0=f", "update: --l3-cache-schema: not built yet"),
        ("--mem-bw-schema", "MB:0=50", "update: --mem-bw-schema: not built yet"),
        ("--no-such-flag", "x", "flag provided but not defined: -no-such-flag"),
        ("--resources", "/no/such/file", "/no/such/file: there is no such file"),
        ("--resources", "/", "is a directory"),
    ] {
        told(&container.call(&["update", flag, value, "ID"]), words);
    }
    let document = bundle.dir().join("resources");
    let name = document.to_str().expect("the path is text");
    let deep = format!("{{\"cpu\":{}", "[".repeat(100_000));
    for (text, words) in [
        ("", "is empty"),
        ("{", "ends too early"),
        ("[]", "expected an object, not a list"),
        ("{} {}", "more text follows after the document"),
        (r#"{"memory":{"limit":"5m"}}"#, "memory.limit: expected a whole number"),
        (r#"{"memory":{"limit":1.5}}"#, "memory.limit: expected a whole number"),
        (r#"{"memory":{"limit":99999999999999999999}}"#, "memory.limit: expected a whole number"),
        (r#"{"pids":[5]}"#, "pids: expected an object, not a list"),
        (r#"{"pids":{"limit":1,"limit":2}}"#, "pids.limit: is given twice"),
        (r#"{"cpu":{"cpus":"0\u0000x"}}"#, "cpu.cpus: "),
        (r#"{"rdma":{"a b":{"hcaHandles":1}}}"#, "rdma[\"a b\"]: "),
        (&deep, "expected an object, not a list"),
    ] {
        fs::write(&document, text).expect("write the document");
        told(&container.call(&["update", "-r", name, "ID"]), words);
    }
    fs::write(&document, b"{\"x\": \"\xff\"}").expect("write the document");
    told(&container.call(&["update", "-r", name, "ID"]), "is not UTF-8");
    // With a document no flag counts, not even one that cannot be read.
    fs::write(&document, r#"{"pids":{"limit":44}}"#).expect("write the document");
    container.call(&["update", "-r", name, "--memory", "x", "--cpu-share", "5", "ID"]).success();
    assert_eq!(shown(&bundle, "pids/pids.max"), "44");
    assert_eq!(shown(&bundle, "cpu/cpu.shares"), "512");
    container.delete_force().success();
}

/// Limits of which each goes with the others.
fn matching(bundle: &Bundle, number: u64) -> Vec<String> {
    let path = bundle.dir().join(format!("{number}.json"));
    let document = json!({
        "memory": {"limit": number << 20, "swap": number << 20},
        "cpu": {"quota": number * 1000, "shares": number * 10},
        "pids": {"limit": number},
    });
    fs::write(&path, document.to_string()).expect("write the document");
    ["update", "--resources", path.to_str().expect("the path is text"), "ID"].map(str::to_owned).to_vec()
}

/// The number that each of the files, and the record, says.
fn numbers(bundle: &Bundle) -> [u64; 6] {
    let number = |name: &str| shown(bundle, name).parse::<u64>().expect("a number");
    [
        number("memory/memory.limit_in_bytes") >> 20,
        number("memory/memory.memsw.limit_in_bytes") >> 20,
        number("cpu/cpu.cfs_quota_us") / 1000,
        number("cpu/cpu.shares") / 10,
        number("pids/pids.max"),
        recorded(bundle)["pids"]["limit"].as_u64().expect("a number"),
    ]
}

fn spawn(container: &Container<'_>, words: &[String]) -> tests::Process {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    container.command(&words).spawn()
}

#[test]
fn root_updates_go_one_after_the_other() {
    needs!(Root, Busybox, GroupsV1);
    let bundle = limited("update-many");
    let before = Snapshot::take(&bundle);
    let container = running(&bundle, &Runtime::under_test());
    for _ in 0..3 {
        let updates: Vec<_> = (20..36).map(|number| spawn(&container, &matching(&bundle, number))).collect();
        for update in updates {
            update.wait().success();
        }
        let seen = numbers(&bundle);
        assert!((20..36).contains(&seen[0]), "{seen:?}");
        assert_eq!(seen, [seen[0]; 6], "all limits of one update");
    }
    // The delete comes somewhere among them; those that are later find no container, and nobody brings it back.
    let words: Vec<_> = (20..36).map(|number| matching(&bundle, number)).collect();
    let updates: Vec<_> = words[..6].iter().map(|words| spawn(&container, words)).collect();
    let delete = container.command(&["delete", "--force", "ID"]).spawn();
    let later: Vec<_> = words[6..].iter().map(|words| spawn(&container, words)).collect();
    for update in updates.into_iter().chain(later) {
        let output = update.wait();
        let words = ["container does not exist", "container not running"];
        let is_late = output.code == 1 && words.iter().any(|words| output.stderr.contains(words));
        assert!(output.code == 0 || is_late, "{output}");
    }
    delete.wait().success();
    container.call(&["update", "ID"]).code(1);
    before.assert_same();
}

/// Killed wherever it is, an update leaves each limit as it was or as it should be, and a container that runs; the
/// same update again leads to the end.
#[test]
fn root_an_update_killed_at_any_point_leaves_old_or_new() {
    needs!(Root, Busybox, GroupsV1);
    let bundle = limited("update-killed");
    let before = Snapshot::take(&bundle);
    let container = running(&bundle, &Runtime::under_test());
    let (old, new) = (matching(&bundle, 25), matching(&bundle, 30));
    let new: Vec<&str> = new.iter().map(String::as_str).collect();
    let pid = container.pid();
    let mut mixed = 0;
    for count in 0.. {
        spawn(&container, &old).wait().success();
        assert_eq!(numbers(&bundle), [25; 6]);
        let fate = kill_after(container.command(&new), count);
        let seen = numbers(&bundle);
        assert!(seen.iter().all(|number| [25, 30].contains(number)), "after {count} calls: {seen:?}");
        assert_eq!(
            (container.status().as_deref(), container.pid()),
            (Some("running"), pid),
            "after {count} calls"
        );
        if let Fate::Ended { code, .. } = fate {
            assert_eq!((code, seen), (0, [30; 6]));
            figure(&format!("update: {count} points, {mixed} with some limits old and some new"));
            assert!(count > 40 && mixed > 3, "a tracer that lost its tracee would find nothing");
            break;
        }
        mixed += u32::from(seen != [25; 6] && seen != [30; 6]);
        container.call(&new).success();
        assert_eq!(numbers(&bundle), [30; 6], "after {count} calls, and again");
    }
    container.delete_force().success();
    before.assert_same();
}
