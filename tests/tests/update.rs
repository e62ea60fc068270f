//! `update`: other limits for a container that is there, as the kernel's files show them.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::path::PathBuf;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};
use tests::trace::{Fate, kill_after};
use tests::{Bundle, Container, Groups, Limit, Output, Runtime, Snapshot, figure, needs};

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

/// The groups that a container has, for as long as they are there.
fn groups(container: &Container<'_>) -> Groups {
    Groups::of(container.pid().expect("a pid"))
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
    needs!(Root, Busybox, Groups);
    let bundle = limited("update-flags");
    let before = Snapshot::take(&bundle);
    let container = running(&bundle, &Runtime::under_test());
    let groups = groups(&container);
    // Ending to be idle, a group has the kernel's own share again; which one it has meanwhile is the kernel's business.
    let share = |shares| (Limit::Share, Limit::share(shares));
    container.call(&["update", "--cpu-idle", "1", "ID"]).success();
    let idle = (Limit::Share, groups.limit(Limit::Share));
    container.call(&["update", "--cpu-idle", "0", "ID"]).success();
    let weight = Limit::block_weight(500, &groups);
    let one = |limit: Limit, value: &str| vec![(limit, value.to_owned())];
    for (flags, changes) in [
        (&["--memory", "32m"][..], one(Limit::Memory, "33554432")),
        (&["--memory-swap", "128M"], one(Limit::Swap, "134217728")),
        (&["--memory-reservation", "1.5m"], one(Limit::Reservation, "1572864")),
        (&["--cpu-share", "300"], vec![share(300)]),
        (&["--cpu-quota", "20000"], one(Limit::Quota, "20000")),
        (&["--cpu-period=50000"], one(Limit::Period, "50000")),
        (&["--cpu-burst", "5000"], one(Limit::Burst, "5000")),
        (&["--cpuset-cpus", "0"], one(Limit::Cpus, "0")),
        (&["--cpuset-mems", "0"], one(Limit::Mems, "0")),
        (&["--pids-limit", "20"], one(Limit::Pids, "20")),
        (&["--blkio-weight", "500"], one(Limit::BlockWeight, &weight)),
        (&["--cpu-idle", "1"], vec![(Limit::Idle, "1".into()), idle]),
        (&["--cpu-idle", "0"], vec![(Limit::Idle, "0".into()), share(1024)]),
        (&["--cpu-quota", "-1"], one(Limit::Quota, "-1")),
        (&["--pids-limit", "-1"], one(Limit::Pids, "-1")),
        (&["--kernel-memory", "5m", "--kernel-memory-tcp", "5m"], vec![]),
        (&["--pids-limit", "0", "--memory", "0", "--cpu-share", "0", "--cpuset-cpus", ""], vec![]),
        (&[], vec![]),
    ] {
        let mut wanted = groups.limits();
        for (limit, value) in changes {
            let entry = wanted.iter_mut().find(|(one, _)| *one == limit).expect("one of all");
            // A kernel without that file has nothing to show, but for cpusets that say nothing of their own yet.
            if !entry.1.is_empty() || matches!(limit, Limit::Cpus | Limit::Mems) {
                entry.1 = value;
            }
        }
        container.call(&[&["update"], flags, &["ID"]].concat()).success();
        assert_eq!(groups.limits(), wanted, "{flags:?}");
    }
    container.call(&["update", "--memory", "-1", "ID"]).success();
    assert_eq!([Limit::Memory, Limit::Swap].map(|limit| groups.limit(limit)), ["-1", "-1"]);
    assert_eq!(container.status().as_deref(), Some("running"));
    container.delete_force().success();
    before.assert_same();
}

/// What runc and we agree on. On version 2 its program for devices is another; its weight for a share was another before 1.3.2, and
/// before 1.2 a document that spoke of memory alone left swap as it was, not memory and swap together.
fn comparable(groups: &Groups, document: &Value) -> Vec<(Limit, String)> {
    let mut limits = groups.limits();
    let is_alike = |limit: Limit| match limit {
        Limit::Share | Limit::Devices => false,
        Limit::Swap => document["memory"]["swap"].is_i64(),
        _ => true,
    };
    limits.retain(|(limit, _)| !Groups::unified_only() || is_alike(*limit));
    limits
}

#[test]
fn root_update_reads_a_document_as_runc_does() {
    needs!(Root, Busybox, Groups);
    needs!(Runc);
    let whole = |bundle: &Bundle, runtime: &Runtime| {
        let container = running(bundle, runtime);
        let groups = groups(&container);
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
            seen.push((document.to_string(), output.code, comparable(&groups, &document)));
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
    needs!(Root, Busybox, Groups);
    let bundle = limited("update-order");
    let container = running(&bundle, &Runtime::under_test());
    let groups = groups(&container);
    let m = |bytes: u64| bytes << 20;
    for (limit, swap) in [(m(64), m(64)), (m(256), m(256)), (m(16), m(512)), (m(512), m(512)), (m(16), m(16))]
    {
        update(&container, &json!({"memory": {"limit": limit, "swap": swap}})).success();
        assert_eq!(groups.limit(Limit::Memory), limit.to_string());
        assert_eq!(groups.limit(Limit::Swap), swap.to_string());
    }
    for (quota, period, burst) in [
        (5000, 10000, 4000),
        (90000, 100_000, 80000),
        (2000, 1_000_000, 1000),
        (9000, 10000, 9000),
        (1000, 2000, 0),
    ] {
        update(&container, &json!({"cpu": {"quota": quota, "period": period, "burst": burst}})).success();
        assert_eq!(groups.limit(Limit::Quota), quota.to_string());
        assert_eq!(groups.limit(Limit::Period), period.to_string());
        assert_eq!(groups.limit(Limit::Burst), burst.to_string());
    }
    // A share is refused to an idle group, and given to one that is idle no more.
    update(&container, &json!({"cpu": {"idle": 1}})).success();
    update(&container, &json!({"cpu": {"idle": 0, "shares": 700}})).success();
    assert_eq!(groups.limit(Limit::Share), Limit::share(700));
    container.delete_force().success();
}

#[test]
fn root_update_that_fails_changes_nothing() {
    needs!(Root, Busybox, Groups);
    let bundle = limited("update-fails").edit(|config| {
        let cpu = config["linux"]["resources"]["cpu"].as_object_mut().expect("an object");
        cpu.extend([("cpus".into(), json!("0-1")), ("mems".into(), json!("0"))]);
    });
    let before = Snapshot::take(&bundle);
    let container = running(&bundle, &Runtime::under_test());
    let groups = groups(&container);
    let disk = fs::read_to_string("/sys/class/block/vda/dev").ok();
    let (limits, record) = (groups.limits(), recorded(&bundle));
    // Version 2 has one file for both.
    let words_of_period = if Groups::unified_only() { "cpu.quota: write(" } else { "cpu.period: write(" };
    let mut failing = vec![
        (json!({"cpu": {"cpus": "4000"}}), "cpu.cpus: write("),
        (json!({"cpu": {"mems": "x"}}), "cpu.mems: write("),
        (json!({"cpu": {"quota": 1}}), "cpu.quota: write("),
        (json!({"cpu": {"quota": 20_000, "period": 10}}), words_of_period),
        (json!({"blockIO": {"weight": 5000}}), "blockIO.weight: write("),
        (json!({"memory": {"limit": 128 << 20, "swap": 64 << 20}}), "memory.swap: 67108864 is less than"),
        (json!({"memory": {"limit": 128 << 20}}), "memory.swap: 100663296 is less than"),
        (json!({"memory": {"limit": -7}}), "memory.limit: -7 is neither"),
        (json!({"hugepageLimits": [{"pageSize": "../x", "limit": 5}]}), "hugepageLimits[0].pageSize: "),
    ];
    failing.extend(if Groups::unified_only() {
        vec![
            (json!({"unified": {"memory.nonsense": "1"}}), "unified[\"memory.nonsense\"]: "),
            (json!({"network": {"classID": 5}}), "network"),
        ]
    } else {
        let words = "unified: invalid configuration: the controllers of this host are on cgroup v1";
        vec![
            (json!({"unified": {"memory.high": "1"}}), words),
            (json!({"cpu": {"shares": 1}}), "cpu.shares: the minimum allowed cpu-shares is 2"),
            (json!({"network": {"priorities": [{"name": "a b", "priority": 1}]}}), "network.priorities[0]: "),
        ]
    });
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
        assert_eq!(groups.limits(), limits, "{wrong}");
        assert_eq!(recorded(&bundle), record, "{wrong}");
    }
    assert_eq!(container.status().as_deref(), Some("running"));
    container.delete_force().success();
    before.assert_same();
}

/// A set of processors that was the parent's: version 2 lets no group with processes go back to that, so the way back leads to
/// the same processors by name.
#[test]
fn root_update_that_fails_leaves_all_processors() {
    needs!(Root, Busybox, Groups);
    let bundle = limited("update-processors");
    let container = running(&bundle, &Runtime::under_test());
    let groups = groups(&container);
    let files = if Groups::unified_only() { [".effective"; 2] } else { [""; 2] };
    let sets = || {
        [format!("cpuset.cpus{}", files[0]), format!("cpuset.mems{}", files[1])]
            .map(|file| groups.shown(&file))
    };
    let before = sets();
    assert!(before.iter().all(|set| set.as_ref().is_some_and(|set| !set.is_empty())), "{before:?}");
    // The quota stands before the sets, the group of pages after them.
    let document = json!({"cpu": {"cpus": "0", "mems": "0"}, "blockIO":
        {"throttleReadBpsDevice": [{"major": 4095, "minor": 7, "rate": 5}]}, "memory": {"limit": 128 << 20, "swap": 128 << 20}});
    let output = update(&container, &document);
    output.code(1);
    assert_eq!(sets(), before);
    assert_eq!(output.stderr.lines().count(), 1, "{output}");
    assert!(!output.stderr.contains("no space left"), "{output}");
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

/// Allows a device behind our back, where there is a list to do that in.
fn allow(groups: &Groups, device: &str) {
    let directory = groups.directory("devices").expect("the hierarchy is there");
    fs::write(directory.join("devices.allow"), device).expect("allow a device");
}

#[test]
fn root_update_of_devices_leaves_what_others_have_allowed() {
    needs!(Root, Busybox, GroupsV1);
    let bundle = limited("update-devices-others");
    let container = running(&bundle, &Runtime::under_test());
    let shut = json!({"allow": false, "access": "rwm"});
    let fuse = json!({"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwm"});
    let groups = groups(&container);
    let has = |line: &str| groups.limit(Limit::Devices).lines().any(|one| one == line);
    // As a hook for a graphics card does it.
    allow(&groups, "c 195:* rwm");
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

/// On version 2 one program takes the other's place, and the same rules are the same program.
#[test]
fn root_update_of_devices_replaces_the_program() {
    needs!(Root, Busybox, GroupsV2);
    let bundle = limited("update-devices-program");
    let container = running(&bundle, &Runtime::under_test());
    let groups = groups(&container);
    let shut = json!({"allow": false, "access": "rwm"});
    let fuse = json!({"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwm"});
    let first = groups.programs();
    let mut seen = vec![first.clone()];
    for devices in [json!([shut, fuse]), json!([shut, fuse]), json!([]), json!([shut])] {
        update(&container, &json!({"devices": devices})).success();
        seen.push(groups.programs());
    }
    assert!(seen.iter().all(|programs| programs.len() == 1), "{seen:?}");
    assert_ne!(seen[1], first);
    assert_eq!((&seen[2], &seen[3], &seen[4]), (&seen[1], &seen[1], &first));
    container.delete_force().success();
}

#[test]
fn root_update_of_devices_is_taken_back() {
    needs!(Root, Busybox, Groups);
    let bundle = limited("update-devices-back");
    let container = running(&bundle, &Runtime::under_test());
    let groups = groups(&container);
    let (limits, record) = (groups.limits(), recorded(&bundle));
    // The record cannot be written: by then, all limits are.
    let draft = bundle.state_root().join(bundle.id()).join(".state.json");
    fs::create_dir(&draft).expect("stand in the draft's way");
    for devices in [
        json!([{"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwm"}]),
        json!([{"allow": true, "access": "rwm"}]),
    ] {
        let output = update(&container, &json!({"devices": devices, "pids": {"limit": 9}}));
        assert_eq!(output.code, 1, "{output}");
        assert_eq!(groups.limits(), limits, "{devices}");
    }
    fs::remove_dir(&draft).expect("go out of its way");
    assert_eq!(recorded(&bundle), record);
    container.delete_force().success();
}

#[test]
fn root_update_goes_by_the_containers_state() {
    needs!(Root, Busybox, Groups);
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
    refused("31", "container does not exist");
    container.create().success();
    let groups = groups(&container);
    let holds = |limit: &str| {
        update(limit).success();
        assert_eq!(groups.limit(Limit::Pids), limit);
    };
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
    assert_eq!(groups.limit(Limit::Pids), "34");
    container.delete().success();
    refused("36", "container does not exist");
    before.assert_same();
}

#[test]
fn root_update_leaves_devices_alone() {
    needs!(Root, Busybox, Groups);
    let bundle = limited("update-devices");
    let container = running(&bundle, &Runtime::under_test());
    let groups = groups(&container);
    if !Groups::unified_only() {
        // As a plug-in for graphics cards does it.
        allow(&groups, "c 195:* rw");
    }
    let rules = groups.limit(Limit::Devices);
    assert!(!rules.is_empty());
    update(&container, &json!({"devices": [{"allow": false, "access": "rwm"}], "pids": {"limit": 9}}))
        .success();
    assert_eq!(groups.limit(Limit::Devices), rules);
    assert_eq!(groups.limit(Limit::Pids), "9");
    container.delete_force().success();
}

#[test]
fn root_update_goes_on_from_what_is_in_force() {
    needs!(Root, Busybox, Groups);
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
    container.delete_force().success();
}

/// A record from before limits were written down: what version 2 keeps in one file with the new limit is in force all the same.
#[test]
fn root_update_finds_what_the_record_does_not_have() {
    needs!(Root, Busybox, Groups);
    let bundle = limited("update-unrecorded");
    let container = running(&bundle, &Runtime::under_test());
    let forget = || {
        let path = bundle.state_root().join(bundle.id()).join("state.json");
        let mut record: Value =
            serde_json::from_str(&fs::read_to_string(&path).expect("the record")).expect("it is JSON");
        record.as_object_mut().expect("an object").remove("limits");
        fs::write(&path, record.to_string()).expect("write the record");
    };
    let groups = groups(&container);
    let shows = |limits: &[(Limit, &str)]| {
        for (limit, shown) in limits {
            assert_eq!(groups.limit(*limit), *shown, "{limit:?}");
        }
    };
    forget();
    container.call(&["update", "--cpu-period", "50000", "ID"]).success();
    shows(&[(Limit::Quota, "50000"), (Limit::Period, "50000")]);
    assert_eq!(recorded(&bundle)["cpu"]["period"], 50_000);
    forget();
    container.call(&["update", "--cpu-quota", "20000", "ID"]).success();
    shows(&[(Limit::Quota, "20000"), (Limit::Period, "50000")]);
    forget();
    container.call(&["update", "--memory-swap", "128m", "ID"]).success();
    shows(&[(Limit::Memory, "67108864"), (Limit::Swap, "134217728")]);
    // No quota is none with another period too.
    container.call(&["update", "--cpu-quota", "-1", "ID"]).success();
    forget();
    container.call(&["update", "--cpu-period", "20000", "ID"]).success();
    shows(&[(Limit::Quota, "-1"), (Limit::Period, "20000")]);
    container.delete_force().success();
}

#[test]
fn root_update_tells_bad_input_in_one_line() {
    needs!(Root, Busybox, Groups);
    let bundle = limited("update-bad");
    let container = running(&bundle, &Runtime::under_test());
    let groups = groups(&container);
    let (limits, record) = (groups.limits(), recorded(&bundle));
    let told = |output: &Output, words: &str| {
        output.code(1);
        assert!(output.stderr.contains(words), "{words}: {}", output.stderr);
        // A hint may follow.
        let lines = output.stderr.lines().count();
        assert!(lines == 1 || lines == 2 && output.stderr.contains("\nhint: "), "{}", output.stderr);
        assert_eq!((groups.limits(), recorded(&bundle)), (limits.clone(), record.clone()), "{words}");
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
    assert_eq!(groups.limit(Limit::Pids), "44");
    assert_eq!(groups.limit(Limit::Share), Limit::share(512));
    container.delete_force().success();
}

/// Limits of which each goes with the others.
fn matching(bundle: &Bundle, number: u64) -> Vec<String> {
    let path = bundle.dir().join(format!("{number}.json"));
    let document = json!({
        "memory": {"limit": number << 20, "swap": number << 20},
        "cpu": {"quota": number * 1000, "shares": shares_of(number)},
        "pids": {"limit": number},
    });
    fs::write(&path, document.to_string()).expect("write the document");
    ["update", "--resources", path.to_str().expect("the path is text"), "ID"].map(str::to_owned).to_vec()
}

/// So many that no two of those numbers have the same weight.
fn shares_of(number: u64) -> u32 {
    u32::try_from(number * 100).expect("a small number")
}

/// The number that each of the files, and the record, says.
fn numbers(bundle: &Bundle, groups: &Groups) -> [u64; 6] {
    let number = |limit| groups.limit(limit).parse::<u64>().expect("a number");
    let share = groups.limit(Limit::Share);
    let has_share = |number: &u64| Limit::share(shares_of(*number)) == share;
    [
        number(Limit::Memory) >> 20,
        number(Limit::Swap) >> 20,
        number(Limit::Quota) / 1000,
        (20..36).find(has_share).unwrap_or_else(|| panic!("a share of {share}")),
        number(Limit::Pids),
        recorded(bundle)["pids"]["limit"].as_u64().expect("a number"),
    ]
}

fn spawn(container: &Container<'_>, words: &[String]) -> tests::Process {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    container.command(&words).spawn()
}

#[test]
fn root_updates_go_one_after_the_other() {
    needs!(Root, Busybox, Groups);
    let bundle = limited("update-many");
    let before = Snapshot::take(&bundle);
    let container = running(&bundle, &Runtime::under_test());
    let groups = groups(&container);
    for _ in 0..3 {
        let updates: Vec<_> = (20..36).map(|number| spawn(&container, &matching(&bundle, number))).collect();
        for update in updates {
            update.wait().success();
        }
        let seen = numbers(&bundle, &groups);
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
    needs!(Root, Busybox, Groups);
    let bundle = limited("update-killed");
    let before = Snapshot::take(&bundle);
    let container = running(&bundle, &Runtime::under_test());
    let groups = groups(&container);
    let (old, new) = (matching(&bundle, 25), matching(&bundle, 30));
    let new: Vec<&str> = new.iter().map(String::as_str).collect();
    let pid = container.pid();
    let mut mixed = 0;
    // Where everything takes ten times as long, every fourth point.
    for count in (0..).step_by(if tests::patience() > 1 { 4 } else { 1 }) {
        spawn(&container, &old).wait().success();
        assert_eq!(numbers(&bundle, &groups), [25; 6]);
        let fate = kill_after(container.command(&new), count);
        let seen = numbers(&bundle, &groups);
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
        assert_eq!(numbers(&bundle, &groups), [30; 6], "after {count} calls, and again");
    }
    container.delete_force().success();
    before.assert_same();
}
