//! Every limit of config.json, as the kernel's files show it on both generations of control groups; and again after a
//! live update.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::fs::{major as major_of, minor as minor_of};
use serde_json::{Value, json};
use tests::{Bundle, Container, Groups, LIMIT, Runtime, Snapshot, channel, figure, needs};

/// A field, what is asked for at first and then, and what the files show: a file, and its text both times.
struct Row {
    field: &'static str,
    first: Value,
    then: Value,
    v1: &'static [(&'static str, &'static str, &'static str)],
    v2: &'static [(&'static str, &'static str, &'static str)],
}

const M: u64 = 1 << 20;

/// Whether the kernel has the scheduler of disks whose weights are in files of its own.
fn knows_bfq() -> bool {
    let disks = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let mut schedulers =
        disks.filter_map(|disk| fs::read_to_string(disk.path().join("queue/scheduler")).ok());
    schedulers.any(|names| names.contains("bfq"))
}

#[allow(clippy::too_many_lines, reason = "a table")]
fn rows() -> Vec<Row> {
    let (major, minor) = disk().unwrap_or((0, 0));
    let rate =
        |name: &str, rate: u64| json!({"blockIO": {name: [{"major": major, "minor": minor, "rate": rate}]}});
    let weight = |weight: u16| json!({"blockIO": {"weightDevice": [{"major": major, "minor": minor, "weight": weight}]}});
    let row = |field, first, then, v1, v2| Row { field, first, then, v1, v2 };
    vec![
        row(
            "memory.limit",
            json!({"memory": {"limit": 64 * M}}),
            json!({"memory": {"limit": 32 * M}}),
            &[("memory.limit_in_bytes", "67108864", "33554432")],
            &[("memory.max", "67108864", "33554432")],
        ),
        row(
            "memory.swap",
            json!({"memory": {"limit": 64 * M, "swap": 96 * M}}),
            json!({"memory": {"limit": 32 * M, "swap": 128 * M}}),
            &[
                ("memory.limit_in_bytes", "67108864", "33554432"),
                ("memory.memsw.limit_in_bytes", "100663296", "134217728"),
            ],
            &[("memory.max", "67108864", "33554432"), ("memory.swap.max", "33554432", "100663296")],
        ),
        row(
            "memory.limit -1",
            json!({"memory": {"limit": 64 * M, "swap": 64 * M}}),
            json!({"memory": {"limit": -1}}),
            &[
                ("memory.limit_in_bytes", "67108864", "9223372036854771712"),
                ("memory.memsw.limit_in_bytes", "67108864", "9223372036854771712"),
            ],
            &[("memory.max", "67108864", "max"), ("memory.swap.max", "0", "max")],
        ),
        row(
            "memory.reservation",
            json!({"memory": {"reservation": 16 * M}}),
            json!({"memory": {"reservation": 24 * M}}),
            &[("memory.soft_limit_in_bytes", "16777216", "25165824")],
            &[("memory.low", "16777216", "25165824")],
        ),
        row(
            "memory.swappiness",
            json!({"memory": {"swappiness": 7}}),
            json!({"memory": {"swappiness": 0}}),
            &[("memory.swappiness", "7", "0")],
            &[],
        ),
        row(
            "memory.disableOOMKiller",
            json!({"memory": {"disableOOMKiller": true}}),
            json!({"memory": {"disableOOMKiller": false}}),
            &[("memory.oom_control", "oom_kill_disable 1", "oom_kill_disable 0")],
            &[],
        ),
        row(
            "cpu.shares",
            json!({"cpu": {"shares": 512}}),
            json!({"cpu": {"shares": 2048}}),
            &[("cpu.shares", "512", "2048")],
            &[("cpu.weight", "59", "174")],
        ),
        row(
            "cpu.quota",
            json!({"cpu": {"quota": 50_000}}),
            json!({"cpu": {"quota": -1}}),
            &[("cpu.cfs_quota_us", "50000", "-1"), ("cpu.cfs_period_us", "100000", "100000")],
            &[("cpu.max", "50000 100000", "max 100000")],
        ),
        row(
            "cpu.period",
            json!({"cpu": {"quota": 20_000, "period": 50_000}}),
            json!({"cpu": {"period": 40_000}}),
            &[("cpu.cfs_quota_us", "20000", "20000"), ("cpu.cfs_period_us", "50000", "40000")],
            &[("cpu.max", "20000 50000", "20000 40000")],
        ),
        row(
            "cpu.burst",
            json!({"cpu": {"quota": 50_000, "burst": 10_000}}),
            json!({"cpu": {"burst": 20_000}}),
            &[("cpu.cfs_burst_us", "10000", "20000")],
            &[("cpu.max.burst", "10000", "20000")],
        ),
        row(
            "cpu.idle",
            json!({"cpu": {"idle": 1}}),
            json!({"cpu": {"idle": 0}}),
            &[("cpu.idle", "1", "0")],
            &[("cpu.idle", "1", "0")],
        ),
        row(
            "cpu.realtimeRuntime",
            json!({"cpu": {"realtimePeriod": 500_000, "realtimeRuntime": 1000}}),
            json!({"cpu": {"realtimeRuntime": 2000}}),
            &[("cpu.rt_runtime_us", "1000", "2000"), ("cpu.rt_period_us", "500000", "500000")],
            &[],
        ),
        row(
            "cpu.cpus",
            json!({"cpu": {"cpus": "0"}}),
            json!({"cpu": {"cpus": "0-1"}}),
            &[("cpuset.cpus", "0", "0-1")],
            &[("cpuset.cpus", "0", "0-1")],
        ),
        row(
            "cpu.mems",
            json!({"cpu": {"mems": "0"}}),
            json!({"cpu": {"mems": "0"}}),
            &[("cpuset.mems", "0", "0")],
            &[("cpuset.mems", "0", "0")],
        ),
        row(
            "pids.limit",
            json!({"pids": {"limit": 50}}),
            json!({"pids": {"limit": -1}}),
            &[("pids.max", "50", "max")],
            &[("pids.max", "50", "max")],
        ),
        row(
            "blockIO.weight",
            json!({"blockIO": {"weight": 300}}),
            json!({"blockIO": {"weight": 1000}}),
            &[("blkio.bfq.weight", "300", "1000")],
            if knows_bfq() {
                &[("io.bfq.weight", "default 300", "default 1000")]
            } else {
                &[("io.weight", "default 2930", "default 10000")]
            },
        ),
        row(
            "blockIO.weightDevice",
            weight(321),
            weight(654),
            &[("blkio.bfq.weight_device", "DISK 321", "DISK 654")],
            if knows_bfq() {
                &[("io.bfq.weight", "DISK 321", "DISK 654")]
            } else {
                &[("io.weight", "DISK 3142", "DISK 6505")]
            },
        ),
        row(
            "blockIO.throttleReadBpsDevice",
            rate("throttleReadBpsDevice", M),
            rate("throttleReadBpsDevice", 2 * M),
            &[("blkio.throttle.read_bps_device", "DISK 1048576", "DISK 2097152")],
            &[(
                "io.max",
                "DISK rbps=1048576 wbps=max riops=max wiops=max",
                "DISK rbps=2097152 wbps=max riops=max wiops=max",
            )],
        ),
        row(
            "blockIO.throttleWriteBpsDevice",
            rate("throttleWriteBpsDevice", M),
            rate("throttleWriteBpsDevice", 2 * M),
            &[("blkio.throttle.write_bps_device", "DISK 1048576", "DISK 2097152")],
            &[(
                "io.max",
                "DISK rbps=max wbps=1048576 riops=max wiops=max",
                "DISK rbps=max wbps=2097152 riops=max wiops=max",
            )],
        ),
        row(
            "blockIO.throttleReadIOPSDevice",
            rate("throttleReadIOPSDevice", 100),
            rate("throttleReadIOPSDevice", 200),
            &[("blkio.throttle.read_iops_device", "DISK 100", "DISK 200")],
            &[(
                "io.max",
                "DISK rbps=max wbps=max riops=100 wiops=max",
                "DISK rbps=max wbps=max riops=200 wiops=max",
            )],
        ),
        row(
            "blockIO.throttleWriteIOPSDevice",
            rate("throttleWriteIOPSDevice", 100),
            rate("throttleWriteIOPSDevice", 0),
            &[("blkio.throttle.write_iops_device", "DISK 100", "")],
            &[("io.max", "DISK rbps=max wbps=max riops=max wiops=100", "")],
        ),
        row(
            "hugepageLimits",
            json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4 * M}]}),
            json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 8 * M}]}),
            &[
                ("hugetlb.2MB.limit_in_bytes", "4194304", "8388608"),
                ("hugetlb.2MB.rsvd.limit_in_bytes", "4194304", "8388608"),
            ],
            &[("hugetlb.2MB.max", "4194304", "8388608"), ("hugetlb.2MB.rsvd.max", "4194304", "8388608")],
        ),
        row(
            "network.classID",
            json!({"network": {"classID": 1_048_577}}),
            json!({"network": {"classID": 1_048_578}}),
            &[("net_cls.classid", "1048577", "1048578")],
            &[],
        ),
        row(
            "network.priorities",
            json!({"network": {"priorities": [{"name": "lo", "priority": 5}]}}),
            json!({"network": {"priorities": [{"name": "lo", "priority": 6}]}}),
            &[("net_prio.ifpriomap", "lo 5", "lo 6")],
            &[],
        ),
        row(
            "unified",
            json!({"unified": {"memory.high": "16777216", "cgroup.max.depth": "3", "pids.max": "77"}}),
            json!({"unified": {"memory.high": "33554432", "pids.max": "78"}}),
            &[],
            &[
                ("memory.high", "16777216", "33554432"),
                ("pids.max", "77", "78"),
                ("cgroup.max.depth", "3", "3"),
            ],
        ),
    ]
}

/// A disk that can be throttled.
fn disk() -> Option<(u64, u64)> {
    let disks = fs::read_dir("/sys/block").expect("the block devices").flatten();
    let real = disks.filter(|disk| disk.path().join("device").exists());
    let number = real.filter_map(|disk| fs::read_to_string(disk.path().join("dev")).ok()).min()?;
    let (major, minor) = number.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn update(container: &Container<'_>, document: &Value) {
    let path = PathBuf::from(format!("/tmp/{}.resources", container.id()));
    fs::write(&path, document.to_string()).expect("write the document");
    let stdin = File::open(&path).expect("open the document");
    fs::remove_file(&path).expect("remove the document's name");
    container.command(&["update", "--resources", "-", "ID"]).stdin(stdin).run().success();
}

/// Whether the file shows the text: as a whole, or as one of its lines, but nothing at all where that is what is meant.
fn shows(seen: &str, expected: &str) -> bool {
    if expected.is_empty() { seen.is_empty() } else { seen.lines().any(|line| line == expected) }
}

/// Carries out the table; which fields this host has no files for.
fn carry_out(name: &str, flags: &[&str], adapt: impl Fn(&mut Value, &str)) -> Vec<&'static str> {
    let mut lacking = Vec::new();
    let disk = disk().map_or_else(|| "no disk".to_owned(), |(major, minor)| format!("{major}:{minor}"));
    for (number, row) in rows().into_iter().enumerate() {
        let files = if Groups::unified_only() { row.v2 } else { row.v1 };
        let bundle = Bundle::new(&format!("{name}-{number}")).shell("exec sleep 1000").edit(|config| {
            let resources = config["linux"]["resources"].as_object_mut().expect("resources");
            resources.extend(row.first.as_object().expect("an object").clone());
        });
        let id = bundle.id().to_owned();
        let bundle = bundle.edit(|config| adapt(config, &id));
        let before = Snapshot::take(&bundle);
        let own = Groups::of(rustix::process::getpid().as_raw_nonzero().get());
        let is_there = |file: &str| own.directory(file.split('.').next().expect("a controller")).is_some();
        if files.is_empty() || (row.field.ends_with("Device") && disk == "no disk") {
            lacking.push(row.field);
            continue;
        }
        let container = bundle.container(&Runtime::under_test());
        let created = flags
            .iter()
            .fold(container.command(&["create", "--bundle", "BUNDLE", "ID"]), |call, flag| call.global(*flag))
            .run();
        // A controller that is not there is refused by the name of the field; so is a file that this kernel was built without.
        if created.code != 0 {
            let field = row.field.split(' ').next().expect("a field");
            // A disk's weight is BFQ's, and another scheduler's disk has none.
            let has_none =
                row.field == "blockIO.weightDevice" && created.stderr.contains("operation not supported");
            assert!(
                !is_there(files[0].0)
                    || has_none
                    || created.stderr.contains("No such file")
                    || created.stderr.contains("no such file"),
                "{}: {created}",
                row.field
            );
            assert!(
                created
                    .stderr
                    .contains(&format!("linux.resources.{}", field.split('.').next().expect("a group"))),
                "{created}"
            );
            lacking.push(row.field);
            continue;
        }
        let groups = Groups::of(container.pid().expect("a pid"));
        let compare = |texts: &[(&str, String)]| {
            for (file, expected) in texts {
                let seen =
                    groups.shown(file).unwrap_or_else(|| panic!("{}: no {file} in {groups:?}", row.field));
                assert!(shows(&seen, expected), "{}: {file}: {seen:?}, not {expected:?}", row.field);
            }
        };
        let first: Vec<_> =
            files.iter().map(|(file, first, _)| (*file, first.replace("DISK", &disk))).collect();
        let then: Vec<_> = files.iter().map(|(file, _, then)| (*file, then.replace("DISK", &disk))).collect();
        compare(&first);
        container.start().success();
        update(&container, &row.then);
        compare(&then);
        update(&container, &row.first);
        compare(&first);
        assert_eq!(container.status().as_deref(), Some("running"), "{}", row.field);
        container.delete_force().success();
        before.assert_same();
    }
    figure(&format!("limits: no files here for {lacking:?}"));
    lacking
}

#[test]
fn root_limits_are_in_the_kernels_files_and_change_live() {
    needs!(Root, Busybox, Groups);
    assert_known(&carry_out("limits", &[], |_, _| {}));
}

/// The same by systemd's hands and ours: what it knows as a property, and what it does not.
#[test]
fn vm_limits_of_a_scope_are_in_the_kernels_files_and_change_live() {
    needs!(Vm);
    let lacking = carry_out("limits-scope", &["--systemd-cgroup"], |config, id| {
        config["linux"]["cgroupsPath"] = json!(format!("system.slice:cdt:{id}"));
    });
    assert_known(&lacking);
    assert!(!lacking.contains(&"blockIO.weightDevice"), "the disks of this machine have weights");
}

/// Fails if another field lacked its files than one that this generation has no word for, or that takes hardware or a kernel built
/// for it.
#[track_caller]
fn assert_known(lacking: &[&str]) {
    let may_lack = [
        "memory.swappiness",
        "memory.disableOOMKiller",
        "cpu.realtimeRuntime",
        "blockIO.weight",
        "blockIO.weightDevice",
        "hugepageLimits",
        "network.classID",
        "network.priorities",
        "unified",
    ];
    for field in lacking {
        assert!(may_lack.contains(field), "{field} could not be seen");
    }
}

/// The seventh process is refused to whoever may have six, and after an update there is room for it.
#[test]
fn root_a_limit_of_processes_is_kept() {
    needs!(Root, Busybox, Groups);
    let bundle = Bundle::new("limits-pids")
        .shell("exec sleep 1000")
        .edit(|config| config["linux"]["resources"]["pids"] = json!({"limit": 6}));
    let before = Snapshot::take(&bundle);
    let container = bundle.container(&Runtime::under_test());
    container.create().success();
    let groups = Groups::of(container.pid().expect("a pid"));
    container.start().success();
    // Init and this shell are two.
    let line = "for one in 1 2 3 4 5; do sleep 1000 & done; echo all";
    let refused = container.call(&["exec", "ID", "/bin/sh", "-c", line]);
    assert!(refused.code != 0 && refused.stderr.contains("can't fork"), "{refused}");
    let denials = |groups: &Groups| {
        let text = groups.shown("pids.events").expect("pids.events");
        text.lines().find_map(|line| line.strip_prefix("max ")?.parse::<u64>().ok()).expect("a number")
    };
    assert_eq!(denials(&groups), 1);
    // Four are there besides init, and six more come.
    update(&container, &json!({"pids": {"limit": 11}}));
    let passes = container.call(&["exec", "ID", "/bin/sh", "-c", line]);
    assert_eq!(passes.success().stdout, "all\n");
    assert_eq!(denials(&groups), 1, "nothing was refused any more");
    container.delete_force().success();
    before.assert_same();
}

/// A container that works until its quota has stopped it, and then waits.
#[test]
fn root_a_quota_of_processor_time_is_kept() {
    needs!(Root, Busybox, Groups);
    let (mut lines, stdout) = channel();
    let bundle = Bundle::new("limits-quota")
        .shell("i=0; while [ $i -lt 12000 ]; do i=$((i+1)); done; echo done; exec sleep 1000")
        .edit(|config| config["linux"]["resources"]["cpu"] = json!({"quota": 2500, "period": 50_000}));
    let before = Snapshot::take(&bundle);
    let container = bundle.container(&Runtime::under_test());
    container.command(&["create", "--bundle", "BUNDLE", "ID"]).stdout(stdout).run().success();
    let groups = Groups::of(container.pid().expect("a pid"));
    container.start().success();
    assert_eq!(lines.next_within(LIMIT).as_deref(), Some("done"));
    let stat = groups.shown("cpu.stat").expect("cpu.stat");
    let value = |word: &str| -> u64 {
        let line = stat.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(' '));
        line.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no {word} in {stat}"))
    };
    let used = match groups.shown("cpuacct.usage").and_then(|text| text.parse::<u64>().ok()) {
        Some(nanoseconds) => nanoseconds / 1000,
        None => value("usage_usec"),
    };
    let (periods, throttled) = (value("nr_periods"), value("nr_throttled"));
    assert!(throttled > 0 && throttled <= periods, "{stat}");
    // Two and a half milliseconds in each period. A period may be begun and not counted, and each processor takes its slice of five
    // milliseconds from the quota in advance.
    let given = 2500 * (periods + 2) + 10_000;
    assert!(used <= given, "{used} µs of {given} in {periods} periods: {stat}");
    figure(&format!(
        "limits: {used} µs used, {given} allowed, {throttled} of {periods} periods at the limit"
    ));
    container.delete_force().success();
    before.assert_same();
}

/// Something to read from that is on a disk: a disk, or where nobody may open it, a file in the bundle.
fn readable(bundle: Bundle) -> Option<(Bundle, u32, u32)> {
    let (major, minor) = disk()?;
    let (major, minor) = (u32::try_from(major).ok()?, u32::try_from(minor).ok()?);
    if File::open(format!("/dev/block/{major}:{minor}")).is_ok() {
        let line = format!("mknod /nodes/disk b {major} {minor}; exec sleep 1000");
        let rules = json!([
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "b", "major": major, "minor": minor, "access": "rm"},
        ]);
        let bundle = bundle.cap("CAP_MKNOD").mount("/nodes", "tmpfs", "tmpfs", &["mode=755"]).shell(&line);
        return Some((bundle.edit(|config| config["linux"]["resources"]["devices"] = rules), major, minor));
    }
    let directory = bundle.dir().join("nodes");
    fs::create_dir(&directory).ok()?;
    fs::write(directory.join("disk"), vec![7; 8 << 20]).ok()?;
    File::open(directory.join("disk")).ok()?.sync_all().ok()?;
    let number = rustix::fs::stat(&directory).ok()?.st_dev;
    let source = directory.to_str()?.to_owned();
    let bundle = bundle.mount("/nodes", "bind", &source, &["bind"]).shell("exec sleep 1000");
    Some((bundle, major_of(number), minor_of(number)))
}

/// Reading two mebibytes at one mebibyte a second takes time, and after an update it takes less.
#[test]
fn root_a_limit_of_reading_from_a_disk_is_kept() {
    needs!(Root, Busybox, Groups);
    let Some((bundle, major, minor)) = readable(Bundle::new("limits-disk")) else {
        tests::skipped("no disk that could be read from");
        return;
    };
    let limit = |rate: u64| json!([{"major": major, "minor": minor, "rate": rate}]);
    let bundle = bundle.edit(|config| {
        config["linux"]["resources"]["blockIO"] = json!({"throttleReadBpsDevice": limit(1 << 20)});
    });
    let before = Snapshot::take(&bundle);
    let container = bundle.container(&Runtime::under_test());
    container.create().success();
    container.start().success();
    // Other blocks each time, and none through the page cache, which would not be throttled.
    let read = |from: u32| {
        let line = format!(
            "until [ -e /nodes/disk ]; do :; done; \
             dd if=/nodes/disk of=/dev/null bs=65536 skip={from} count=32 iflag=direct 2>&1"
        );
        let begin = Instant::now();
        container.call(&["exec", "ID", "/bin/sh", "-c", &line]).success();
        begin.elapsed()
    };
    let slow = read(0);
    // The first slice is given in advance.
    assert!(slow >= Duration::from_millis(1200), "2 MiB in {slow:?}");
    update(&container, &json!({"blockIO": {"throttleReadBpsDevice": limit(1 << 40)}}));
    let fast = read(64);
    assert!(fast < slow, "{fast:?} after {slow:?}");
    figure(&format!("limits: 2 MiB read in {slow:?} at 1 MiB/s, in {fast:?} without"));
    container.delete_force().success();
    before.assert_same();
}

/// Less memory than is used: v1's kernel refuses, v2's would kill, and so we are asked to look before.
#[test]
fn root_a_limit_below_the_use_is_refused_with_the_number() {
    needs!(Root, Busybox, Groups);
    let (mut lines, stdout) = channel();
    let bundle = Bundle::new("limits-used")
        .shell("dd if=/dev/zero of=/dev/shm/held bs=1M count=20 2>/dev/null; echo held; exec sleep 1000")
        .edit(|config| {
            config["linux"]["resources"]["memory"] =
                json!({"limit": 64 * M, "swap": 64 * M, "checkBeforeUpdate": true});
        });
    let container = bundle.container(&Runtime::under_test());
    container.command(&["create", "--bundle", "BUNDLE", "ID"]).stdout(stdout).run().success();
    let groups = Groups::of(container.pid().expect("a pid"));
    container.start().success();
    assert_eq!(lines.next_within(LIMIT).as_deref(), Some("held"));
    let file = if Groups::unified_only() { "memory.max" } else { "memory.limit_in_bytes" };
    for limit in ["4m", "16m"] {
        let output = container.call(&["update", "--pids-limit", "9", "--memory", limit, "ID"]);
        output.code(1);
        let words = if Groups::unified_only() {
            " bytes are in use, the limit would be "
        } else {
            "unable to set memory limit to "
        };
        let has_peak =
            output.stderr.contains(" (current usage: ") && output.stderr.contains(", peak usage: ");
        assert!(output.stderr.contains(words) && output.stderr.contains("memory.limit: "), "{output}");
        assert!(has_peak || Groups::unified_only(), "{output}");
        assert_eq!(groups.shown(file).as_deref(), Some("67108864"));
        assert_eq!(groups.shown("pids.max").as_deref(), Some("max"), "all or nothing");
    }
    assert_eq!(container.status().as_deref(), Some("running"));
    container.call(&["update", "--memory", "40m", "ID"]).success();
    assert_eq!(groups.shown(file).as_deref(), Some("41943040"));
    container.delete_force().success();
}

/// v2 refuses a container in a group whose neighbours are threaded, unless it is threaded too.
#[test]
fn root_a_container_lives_among_threaded_groups() {
    needs!(Root, Busybox, GroupsV2);
    let top = format!("cdt-{}-threads", std::process::id());
    let path = PathBuf::from("/sys/fs/cgroup").join(&top);
    fs::create_dir(&path).expect("make a group");
    let beside = path.join("beside");
    fs::create_dir(&beside).expect("make a group below");
    fs::write(beside.join("cgroup.type"), "threaded").expect("make it threaded");
    {
        let bundle = Bundle::new("limits-threads").shell("exec sleep 1000").edit(|config| {
            config["linux"]["cgroupsPath"] = json!(format!("/{top}/web"));
            config["linux"]["resources"]["pids"] = json!({"limit": 20});
            config["linux"]["resources"]["cpu"] = json!({"shares": 2048});
        });
        let container = bundle.container(&Runtime::under_test());
        container.create().success();
        container.start().success();
        let groups = Groups::of(container.pid().expect("a pid"));
        assert_eq!(groups.shown("cgroup.type").as_deref(), Some("threaded"));
        assert_eq!(groups.shown("pids.max").as_deref(), Some("20"));
        assert_eq!(groups.shown("cpu.weight").as_deref(), Some("174"));
        container.call(&["exec", "ID", "/bin/true"]).success();
        container.call(&["pause", "ID"]).success();
        assert_eq!(container.status().as_deref(), Some("paused"));
        container.call(&["resume", "ID"]).success();
        container.delete_force().success();
        assert!(!path.join("web").exists());
        drop(container);
        // Memory is counted by process, and nobody can limit it there.
        let bundle = bundle.edit(|config| config["linux"]["resources"]["memory"] = json!({"limit": 64 * M}));
        let output = bundle.container(&Runtime::under_test()).create();
        output.code(1);
        let words = "linux.resources.memory.limit: the memory controller is not enabled for this group";
        assert!(output.stderr.contains(words), "{output}");
        assert!(!path.join("web").exists());
    }
    fs::remove_dir(&beside).expect("remove the group below");
    fs::remove_dir(&path).expect("remove the group");
}
