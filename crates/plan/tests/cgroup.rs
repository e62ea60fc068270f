//! Groups as they are planned: paths, conversions and refusals, without any host.
#![allow(clippy::expect_used, reason = "a test ends where it is surprised")]

use plan::Refused;
use plan::cgroup::{CgroupPlan, HostCgroups, Mode, Version, compile};

/// Hybrid, as the kernel lists it; our own groups are `/user` everywhere but in memory, where it is `/svc/job`.
const HYBRID: &str = r#"{
    "hierarchies": [
        {"controllers": ["cpu", "cpuacct"], "mount": "/sys/fs/cgroup/cpu,cpuacct", "own": "/user"},
        {"controllers": ["cpuset"], "mount": "/sys/fs/cgroup/cpuset", "own": "/"},
        {"controllers": ["memory"], "mount": "/sys/fs/cgroup/memory", "own": "/svc/job"},
        {"controllers": ["devices"], "mount": "/sys/fs/cgroup/devices", "own": "/user"},
        {"controllers": ["blkio"], "mount": "/sys/fs/cgroup/blkio", "own": "/user"},
        {"controllers": ["pids"], "mount": "/sys/fs/cgroup/pids", "own": "/user"},
        {"name": "systemd", "mount": "/sys/fs/cgroup/systemd", "own": "/user"}
    ],
    "unified": {"mount": "/sys/fs/cgroup/unified", "own": "/user"}
}"#;

const V2: &str = r#"{
    "unified": {
        "mount": "/sys/fs/cgroup", "own": "/user.slice/shell.scope",
        "controllers": ["cpuset", "cpu", "io", "memory", "hugetlb", "pids", "misc", "dmem"]
    }
}"#;

fn host(text: &str) -> HostCgroups {
    serde_json::from_str(text).expect("a host")
}

fn plan(on: &str, linux: &str) -> Result<CgroupPlan, Refused> {
    let document = format!(r#"{{"ociVersion":"1.0.2","linux":{linux}}}"#);
    compile(&serde_json::from_str(&document).expect("a document"), &host(on), "web")
}

fn resources(on: &str, resources: &str) -> Result<CgroupPlan, Refused> {
    plan(on, &format!(r#"{{"cgroupsPath":"/web","resources":{resources}}}"#))
}

/// `file=value` of every group but devices.
fn writes(on: &str, wanted: &str) -> Result<Vec<String>, Refused> {
    let plan = resources(on, wanted)?;
    let settings = plan.groups.iter().flat_map(|group| &group.settings);
    let wanted = settings.filter(|setting| !setting.file.starts_with("devices."));
    Ok(wanted.map(|setting| format!("{}={}", setting.file, setting.value)).collect())
}

fn refusal<T: std::fmt::Debug>(result: Result<T, Refused>) -> String {
    let told = result.expect_err("a refusal").to_string();
    told.strip_prefix("config.json: ").expect("the document, by name").to_owned()
}

fn paths(on: &str, linux: &str) -> Result<Vec<String>, Refused> {
    Ok(plan(on, linux)?.groups.into_iter().map(|group| group.path).collect())
}

#[test]
fn the_mode_follows_from_what_is_mounted() {
    assert_eq!(host(HYBRID).mode(), Mode::Hybrid);
    assert_eq!(host(V2).mode(), Mode::V2);
    assert_eq!(HostCgroups { unified: None, ..host(HYBRID) }.mode(), Mode::V1);
    assert_eq!(HostCgroups::default().mode(), Mode::None);
}

#[test]
fn an_absolute_path_begins_at_the_mount() -> Result<(), Refused> {
    for given in ["/a/b", "//a/./b/", "/../a/x/../b"] {
        let linux = format!(r#"{{"cgroupsPath":"{given}"}}"#);
        assert_eq!(paths(HYBRID, &linux)?, ["a/b"; 8], "{given}");
        assert_eq!(paths(V2, &linux)?, ["a/b"]);
    }
    Ok(())
}

#[test]
fn a_relative_path_begins_at_our_own_group() -> Result<(), Refused> {
    let expected =
        ["user/a/b", "a/b", "svc/job/a/b", "user/a/b", "user/a/b", "user/a/b", "user/a/b", "user/a/b"];
    assert_eq!(paths(HYBRID, r#"{"cgroupsPath":"a/b"}"#)?, expected);
    // No way up and out of it.
    assert_eq!(paths(HYBRID, r#"{"cgroupsPath":"../../a/b"}"#)?, expected);
    // On v2 beside us: our own group has processes, its children get no controllers.
    assert_eq!(paths(V2, r#"{"cgroupsPath":"a/b"}"#)?, ["user.slice/a/b"]);
    Ok(())
}

#[test]
fn without_a_path_the_id_is_the_name() -> Result<(), Refused> {
    for linux in ["{}", r#"{"cgroupsPath":""}"#] {
        assert_eq!(paths(V2, linux)?, ["user.slice/web"]);
        assert_eq!(paths(HYBRID, linux)?[2], "svc/job/web");
    }
    Ok(())
}

#[test]
fn paths_that_are_no_group_of_ours_are_refused() {
    for given in ["/", ".", "/a/..", "a/.."] {
        let told = refusal(plan(HYBRID, &format!(r#"{{"cgroupsPath":"{given}"}}"#)));
        assert_eq!(told, format!("linux.cgroupsPath: {given:?} is no group of the container's own"));
    }
    let told = refusal(plan(V2, r#"{"cgroupsPath":"system.slice:docker:web"}"#));
    assert!(told.contains("only --systemd-cgroup understands"), "{told}");
    assert!(refusal(plan(V2, r#"{"cgroupsPath":"a\nb"}"#)).contains("no control group may have"));
    let bare = compile(&spec::Spec::default(), &HostCgroups::default(), "web");
    assert_eq!(refusal(bare), "linux.cgroupsPath: no control groups are mounted on this host");
}

#[test]
fn a_plan_reads_like_this() -> Result<(), Refused> {
    let plan = resources(
        HYBRID,
        r#"{"cpu":{"shares":512},"pids":{"limit":9},"devices":[{"allow":true,"access":"rwm"}]}"#,
    )?;
    assert_eq!(
        plan.to_string(),
        "/sys/fs/cgroup/cpu,cpuacct/web  cpu.shares=512\n\
         /sys/fs/cgroup/cpuset/web  cpuset of the parent\n\
         /sys/fs/cgroup/memory/web\n\
         /sys/fs/cgroup/devices/web  devices.allow=a\n\
         /sys/fs/cgroup/blkio/web\n\
         /sys/fs/cgroup/pids/web  pids.max=9\n\
         /sys/fs/cgroup/systemd/web\n\
         /sys/fs/cgroup/unified/web"
    );
    let v2 = resources(
        V2,
        r#"{"pids":{"limit":9},"devices":[{"allow":true,"access":"rwm"},{"allow":false,"type":"b","access":"w"}]}"#,
    )?;
    assert_eq!(v2.to_string(), "/sys/fs/cgroup/web  pids.max=9  devices: allow, but b *:* w");
    Ok(())
}

#[test]
fn a_plan_is_written_for_machines_too() -> Result<(), Refused> {
    let plan =
        plan(V2, r#"{"resources":{"memory":{"limit":4096},"devices":[{"allow":true,"access":"rwm"}]}}"#)?;
    let expected = serde_json::json!({"groups": [{
        "version": "v2",
        "controllers": ["cpuset", "cpu", "io", "memory", "hugetlb", "pids", "misc"],
        "mount": "/sys/fs/cgroup",
        "path": "user.slice/web",
        "settings": [{"file": "memory.max", "value": "4096", "field": "linux.resources.memory.limit"}],
        "devices": {"default": "allow", "exceptions": [], "optional": true},
        "required": true
    }]});
    assert_eq!(serde_json::to_value(plan).expect("a value"), expected);
    Ok(())
}

#[test]
fn shares_become_a_weight_that_keeps_the_default() -> Result<(), Refused> {
    for (shares, weight) in [
        (1_u64, 1),
        (2, 1),
        (3, 2),
        (102, 17),
        (512, 59),
        (1024, 100),
        (2048, 174),
        (10_240, 639),
        (262_143, 10_000),
        (262_144, 10_000),
        (1 << 40, 10_000),
    ] {
        let written = writes(V2, &format!(r#"{{"cpu":{{"shares":{shares}}}}}"#))?;
        assert_eq!(written, [format!("cpu.weight={weight}")], "{shares}");
    }
    assert!(writes(V2, r#"{"cpu":{"shares":0}}"#)?.is_empty());
    // An idle group has no weight.
    assert_eq!(writes(V2, r#"{"cpu":{"shares":512,"idle":1}}"#)?, ["cpu.idle=1"]);
    assert_eq!(writes(V2, r#"{"cpu":{"shares":512,"idle":0}}"#)?, ["cpu.weight=59", "cpu.idle=0"]);
    Ok(())
}

#[test]
fn shares_that_v1_would_clamp_are_refused() -> Result<(), Refused> {
    assert_eq!(writes(HYBRID, r#"{"cpu":{"shares":2}}"#)?, ["cpu.shares=2"]);
    let told = refusal(writes(HYBRID, r#"{"cpu":{"shares":1}}"#));
    assert_eq!(told, "linux.resources.cpu.shares: the minimum allowed cpu-shares is 2");
    let told = refusal(writes(HYBRID, r#"{"cpu":{"shares":262145}}"#));
    assert_eq!(told, "linux.resources.cpu.shares: the maximum allowed cpu-shares is 262144");
    Ok(())
}

#[test]
fn quota_period_and_burst() -> Result<(), Refused> {
    for (cpu, v2, v1) in [
        (r#"{"quota":50000}"#, &["cpu.max=50000 100000"][..], &["cpu.cfs_quota_us=50000"][..]),
        (r#"{"period":50000}"#, &["cpu.max=max 50000"], &["cpu.cfs_period_us=50000"]),
        (
            r#"{"quota":-1,"period":50000}"#,
            &["cpu.max=max 50000"],
            &["cpu.cfs_period_us=50000", "cpu.cfs_quota_us=-1"],
        ),
        (
            r#"{"quota":20000,"period":50000,"burst":10000}"#,
            &["cpu.max=20000 50000", "cpu.max.burst=10000"],
            &["cpu.cfs_period_us=50000", "cpu.cfs_quota_us=20000", "cpu.cfs_burst_us=10000"],
        ),
        (r#"{"quota":0,"period":0}"#, &[], &[]),
        (r#"{"cpus":"0-1","mems":""}"#, &["cpuset.cpus=0-1"], &["cpuset.cpus=0-1"]),
    ] {
        assert_eq!(writes(V2, &format!(r#"{{"cpu":{cpu}}}"#))?, v2, "{cpu}");
        assert_eq!(writes(HYBRID, &format!(r#"{{"cpu":{cpu}}}"#))?, v1, "{cpu}");
    }
    Ok(())
}

#[test]
fn real_time_budgets_are_v1s_alone() -> Result<(), Refused> {
    let cpu = r#"{"cpu":{"realtimePeriod":1000000,"realtimeRuntime":5000}}"#;
    assert_eq!(writes(HYBRID, cpu)?, ["cpu.rt_period_us=1000000", "cpu.rt_runtime_us=5000"]);
    let told = refusal(writes(V2, cpu));
    assert_eq!(told, "linux.resources.cpu.realtimePeriod: cgroup v2 has no real-time budgets");
    Ok(())
}

#[test]
fn memory_and_swap() -> Result<(), Refused> {
    const M1: &str = "memory.limit_in_bytes";
    const S1: &str = "memory.memsw.limit_in_bytes";
    for (memory, v2, v1) in [
        (r#"{"limit":100}"#, vec!["memory.max=100".to_owned()], vec![format!("{M1}=100")]),
        (
            r#"{"limit":100,"swap":150}"#,
            vec!["memory.swap.max=50".into(), "memory.max=100".into()],
            vec![format!("{M1}=100"), format!("{S1}=150")],
        ),
        (
            r#"{"limit":100,"swap":100}"#,
            vec!["memory.swap.max=0".into(), "memory.max=100".into()],
            vec![format!("{M1}=100"), format!("{S1}=100")],
        ),
        (
            r#"{"limit":100,"swap":-1}"#,
            vec!["memory.swap.max=max".into(), "memory.max=100".into()],
            vec![format!("{M1}=100"), format!("{S1}=-1")],
        ),
        (
            r#"{"limit":-1}"#,
            vec!["memory.swap.max=max".into(), "memory.max=max".into()],
            vec![format!("{M1}=-1"), format!("{S1}=-1")],
        ),
        // There is nothing to take off. v1's kernel refuses it.
        (
            r#"{"limit":-1,"swap":100}"#,
            vec!["memory.swap.max=100".into(), "memory.max=max".into()],
            vec![format!("{M1}=-1"), format!("{S1}=100")],
        ),
        (r#"{"limit":0,"swap":0}"#, vec![], vec![]),
        (r#"{"reservation":64}"#, vec!["memory.low=64".into()], vec!["memory.soft_limit_in_bytes=64".into()]),
    ] {
        assert_eq!(writes(V2, &format!(r#"{{"memory":{memory}}}"#))?, v2, "{memory}");
        assert_eq!(writes(HYBRID, &format!(r#"{{"memory":{memory}}}"#))?, v1, "{memory}");
    }
    Ok(())
}

/// A hierarchy of cpusets may be mounted with `noprefix`; the unified tree may not.
#[test]
fn cpusets_have_a_short_name_too() -> Result<(), Refused> {
    for (on, rule) in [
        (HYBRID, serde_json::json!({"or-else": {"file": "mems", "value": "0"}})),
        (V2, serde_json::json!("must")),
    ] {
        let plan = resources(on, r#"{"cpu":{"mems":"0"}}"#)?;
        let mut settings = plan.groups.iter().flat_map(|group| &group.settings);
        let setting = settings.find(|setting| setting.file == "cpuset.mems").expect("it is written");
        assert_eq!(serde_json::to_value(&setting.rule).expect("a rule"), rule);
    }
    Ok(())
}

#[test]
fn memory_that_makes_no_sense_is_refused() {
    for (on, memory, told) in [
        (V2, r#"{"swap":100}"#, "swap: needs a limit of memory, which it includes"),
        (V2, r#"{"limit":100,"swap":99}"#, "swap: 99 is less than the memory limit 100, which it includes"),
        (
            HYBRID,
            r#"{"limit":100,"swap":99}"#,
            "swap: 99 is less than the memory limit 100, which it includes",
        ),
        (HYBRID, r#"{"limit":-2}"#, "limit: -2 is neither -1 nor a number of bytes"),
        (HYBRID, r#"{"swappiness":101}"#, "swappiness: 101 is not between 0 and 100"),
    ] {
        assert_eq!(
            refusal(writes(on, &format!(r#"{{"memory":{memory}}}"#))),
            format!("linux.resources.memory.{told}")
        );
    }
}

#[test]
fn what_the_kernel_no_longer_has_is_a_warning() -> Result<(), Refused> {
    let memory = r#"{"memory":{"kernel":1,"kernelTCP":1,"swappiness":60,"disableOOMKiller":true}}"#;
    let v1 = resources(HYBRID, memory)?;
    assert_eq!(v1.warnings.len(), 2, "{:?}", v1.warnings);
    let v2 = resources(V2, memory)?;
    assert_eq!(v2.warnings.len(), 4, "{:?}", v2.warnings);
    assert_eq!(
        v2.warnings[0],
        "linux.resources.memory.disableOOMKiller: ignored: cgroup v2 has no such switch"
    );
    Ok(())
}

#[test]
fn numbers_of_processes() -> Result<(), Refused> {
    for (limit, value) in [("-1", "max"), ("0", "1"), ("7", "7")] {
        assert_eq!(writes(V2, &format!(r#"{{"pids":{{"limit":{limit}}}}}"#))?, [format!("pids.max={value}")]);
    }
    assert!(writes(V2, r#"{"pids":{}}"#)?.is_empty());
    Ok(())
}

#[test]
fn block_devices() -> Result<(), Refused> {
    let block = r#"{"blockIO":{"weight":500,
        "weightDevice":[{"major":8,"minor":0,"weight":1000}],
        "throttleReadBpsDevice":[{"major":8,"minor":0,"rate":10}],
        "throttleWriteIOPSDevice":[{"major":8,"minor":16,"rate":0}]}}"#;
    assert_eq!(
        writes(HYBRID, block)?,
        [
            "blkio.weight=500",
            "blkio.weight_device=8:0 1000",
            "blkio.throttle.read_bps_device=8:0 10",
            "blkio.throttle.write_iops_device=8:16 0"
        ]
    );
    assert_eq!(
        writes(V2, block)?,
        ["io.bfq.weight=500", "io.bfq.weight=8:0 1000", "io.max=8:0 rbps=10", "io.max=8:16 wiops=max"]
    );
    let plan = resources(V2, block)?;
    let otherwise = serde_json::to_value(&plan.groups[0].settings[0].rule).expect("a rule");
    assert_eq!(otherwise, serde_json::json!({"or-else": {"file": "io.weight", "value": "4950"}}));
    Ok(())
}

#[test]
fn leaf_weights_are_of_the_past() -> Result<(), Refused> {
    let all = r#"{"blockIO":{"leafWeight":10}}"#;
    let one = r#"{"blockIO":{"weightDevice":[{"major":8,"minor":0,"leafWeight":10}]}}"#;
    for (wanted, field) in [(all, "blockIO.leafWeight"), (one, "blockIO.weightDevice[0].leafWeight")] {
        let told = refusal(resources(HYBRID, wanted));
        assert_eq!(told, format!("linux.resources.{field}: leaf weights went with Linux 5.0"));
        let plan = resources(V2, wanted)?;
        assert_eq!(plan.warnings, [format!("linux.resources.{field}: ignored: cgroup v2 has no such value")]);
    }
    Ok(())
}

#[test]
fn huge_pages_are_limited_twice() -> Result<(), Refused> {
    assert_eq!(
        writes(V2, r#"{"hugepageLimits":[{"pageSize":"2MB","limit":4194304}]}"#)?,
        ["hugetlb.2MB.max=4194304", "hugetlb.2MB.rsvd.max=4194304"]
    );
    for size in ["2M", "MB", "../2MB", ""] {
        let limits = format!(r#"{{"hugepageLimits":[{{"pageSize":"{size}","limit":1}}]}}"#);
        assert!(refusal(writes(V2, &limits)).starts_with("linux.resources.hugepageLimits[0].pageSize: "));
    }
    Ok(())
}

#[test]
fn a_limit_without_a_controller_is_refused_by_name() {
    for (on, wanted, told) in [
        (
            HYBRID,
            r#"{"hugepageLimits":[{"pageSize":"2MB","limit":1}]}"#,
            "hugepageLimits[0]: this host has no hugetlb controller",
        ),
        (HYBRID, r#"{"network":{"classID":1}}"#, "network.classID: this host has no net_cls controller"),
        (
            HYBRID,
            r#"{"network":{"priorities":[{"name":"eth0","priority":1}]}}"#,
            "network.priorities[0]: this host has no net_prio controller",
        ),
        (
            HYBRID,
            r#"{"rdma":{"mlx5_1":{"hcaHandles":3}}}"#,
            "rdma[\"mlx5_1\"]: this host has no rdma controller",
        ),
        (
            HYBRID,
            r#"{"unified":{"memory.high":"1"}}"#,
            "unified: invalid configuration: the controllers of this host are on cgroup v1",
        ),
        (V2, r#"{"rdma":{"mlx5_1":{"hcaHandles":3}}}"#, "rdma[\"mlx5_1\"]: this host has no rdma controller"),
        (V2, r#"{"network":{"classID":1}}"#, "network.classID: cgroup v2 has no network classes"),
        (V2, r#"{"unified":{"rdma.max":"x"}}"#, "unified[\"rdma.max\"]: this host has no rdma controller"),
        (V2, r#"{"unified":{"../x.y":"1"}}"#, "unified[\"../x.y\"]: is no name of a control group file"),
    ] {
        assert_eq!(refusal(writes(on, wanted)), format!("linux.resources.{told}"));
    }
    // A container cannot be without the device list.
    let mut bare = host(HYBRID);
    bare.hierarchies.retain(|hierarchy| !hierarchy.controllers.contains(&"devices".to_owned()));
    let told = refusal(compile(&spec::Spec::default(), &bare, "web"));
    assert_eq!(told, "linux.resources.devices: this host has no devices controller");
}

#[test]
fn limits_go_to_whatever_controller_the_host_has() -> Result<(), Refused> {
    let v1 = r#"{"hierarchies": [
        {"controllers": ["devices"], "mount": "/sys/fs/cgroup/devices", "own": "/"},
        {"controllers": ["net_cls", "net_prio"], "mount": "/sys/fs/cgroup/net_cls,net_prio", "own": "/"},
        {"controllers": ["rdma"], "mount": "/sys/fs/cgroup/rdma", "own": "/"}
    ]}"#;
    let network = r#""network":{"classID":1048577,"priorities":[{"name":"eth0","priority":5}]}"#;
    let rdma = r#""rdma":{"mlx5_1":{"hcaHandles":3,"hcaObjects":10000}}"#;
    assert_eq!(
        writes(v1, &format!("{{{network},{rdma}}}"))?,
        [
            "net_cls.classid=1048577",
            "net_prio.ifpriomap=eth0 5",
            "rdma.max=mlx5_1 hca_handle=3 hca_object=10000"
        ]
    );
    let v2 = r#"{"unified": {"mount": "/sys/fs/cgroup", "own": "/", "controllers": ["rdma"]}}"#;
    assert_eq!(writes(v2, &format!("{{{rdma}}}"))?, ["rdma.max=mlx5_1 hca_handle=3 hca_object=10000"]);
    Ok(())
}

#[test]
fn unified_files_come_last_line_by_line() -> Result<(), Refused> {
    let wanted = r#"{"unified":{"memory.high":"5","io.max":"8:0 rbps=1\n8:16 rbps=2\n"},"pids":{"limit":3},"memory":{"limit":9}}"#;
    assert_eq!(
        writes(V2, wanted)?,
        ["pids.max=3", "memory.max=9", "io.max=8:0 rbps=1", "io.max=8:16 rbps=2", "memory.high=5"]
    );
    Ok(())
}

const EVERYBODY: [&str; 11] = [
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:8 rwm",
    "c 1:7 rwm",
    "c 5:0 rwm",
    "c 1:5 rwm",
    "c 1:9 rwm",
    "c 136:* rwm",
    "c 5:2 rwm",
    "c 10:200 rwm",
];

fn device_writes(devices: &str) -> Result<Vec<String>, Refused> {
    let plan = resources(HYBRID, &format!(r#"{{"devices":{devices}}}"#))?;
    let group = plan.groups.into_iter().find(|group| group.controllers == ["devices"]).expect("a group");
    Ok(group.settings.into_iter().map(|setting| format!("{} {}", setting.file, setting.value)).collect())
}

#[test]
fn everybody_gets_the_devices_without_which_nothing_runs() -> Result<(), Refused> {
    let mut expected = vec!["devices.deny a".to_owned()];
    expected.extend(EVERYBODY.map(|one| format!("devices.allow {one}")));
    assert_eq!(device_writes("[]")?, expected);
    assert_eq!(device_writes(r#"[{"allow":false,"access":"rwm"}]"#)?, expected);
    let v2 = resources(V2, "{}")?;
    let devices = v2.groups[0].devices.as_ref().expect("devices");
    assert_eq!((devices.default, devices.optional), ("deny", false));
    assert_eq!(devices.exceptions, EVERYBODY);
    Ok(())
}

#[test]
fn everything_allowed_is_one_write() -> Result<(), Refused> {
    assert_eq!(device_writes(r#"[{"allow":true,"access":"rwm"}]"#)?, ["devices.allow a"]);
    assert_eq!(
        device_writes(
            r#"[{"allow":true,"access":"rwm"},{"allow":false,"type":"b","major":8,"access":"w"}]"#
        )?,
        ["devices.allow a", "devices.deny b 8:* w"]
    );
    Ok(())
}

#[test]
fn device_rules_that_make_no_sense_are_refused() {
    for (rule, told) in [
        (r#"{"allow":true}"#, "[0].access: cannot be empty"),
        (r#"{"allow":true,"access":"xy"}"#, "[0].access: \"xy\" has none of r, w and m"),
        (r#"{"allow":true,"type":"p","access":"r"}"#, "[0].type: \"p\" is none of a, b and c"),
        (r#"{"allow":true,"type":"c","major":-2,"access":"r"}"#, "[0].major: -2 is no device number"),
        (
            r#"{"allow":true,"type":"c","major":1,"access":"r"},{"allow":false,"type":"c","major":1,"minor":3,"access":"r"}"#,
            "[1]: rule [c 1:3 r] cannot cut a hole into the wildcard rule [c 1:* r]",
        ),
        (
            r#"{"allow":true,"access":"rwm"},{"allow":false,"type":"c","major":1,"access":"r"}"#,
            ": rule [c 1:3 rwm] cannot cut a hole into the wildcard rule [c 1:* r]",
        ),
    ] {
        assert_eq!(refusal(device_writes(&format!("[{rule}]"))), format!("linux.resources.devices{told}"));
    }
}

#[test]
fn a_rootless_caller_needs_no_group_that_nobody_asked_for() -> Result<(), Refused> {
    let rootless = HostCgroups { rootless: true, ..host(HYBRID) };
    let required = |document: &str| {
        let spec = serde_json::from_str(document).expect("a document");
        compile(&spec, &rootless, "web").map(|plan| plan.groups.iter().all(|group| group.required))
    };
    assert!(!required(r#"{"ociVersion":"1.0.2"}"#)?);
    assert!(required(r#"{"ociVersion":"1.0.2","linux":{"cgroupsPath":"/web"}}"#)?);
    assert!(required(r#"{"ociVersion":"1.0.2","linux":{"resources":{"pids":{"limit":5}}}}"#)?);
    assert!(plan(HYBRID, "{}")?.groups.iter().all(|group| group.required));
    Ok(())
}

#[test]
fn a_check_before_the_limit_is_planned() -> Result<(), Refused> {
    let plan = resources(V2, r#"{"memory":{"limit":4096,"checkBeforeUpdate":true}}"#)?;
    let rule = serde_json::to_value(&plan.groups[0].settings[0].rule).expect("a rule");
    assert_eq!(rule, serde_json::json!({"above-use": {"file": "memory.current", "limit": 4096}}));
    assert_eq!(plan.groups[0].version, Version::V2);
    Ok(())
}
