//! Updates as they are compiled: what is written, what is in force afterwards, and what is refused.
#![allow(clippy::expect_used, clippy::panic, reason = "a test ends where it is surprised")]

use plan::cgroup::{Mode, Rule, Setting, Version};
use plan::systemd::changes;
use plan::{DeviceChange, Hierarchy, Refused, Update, compile_managed_update, compile_update};
use spec::Resources;

const V1: &[(Version, &[&str])] = &[
    (Version::V1, &["name=systemd"]),
    (Version::V1, &["pids"]),
    (Version::V1, &["blkio"]),
    (Version::V1, &["devices"]),
    (Version::V1, &["memory"]),
    (Version::V1, &["cpuset"]),
    (Version::V1, &["cpu", "cpuacct"]),
    (Version::V2, &[]),
];

const V2: &[(Version, &[&str])] =
    &[(Version::V2, &["cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma"])];

fn limits(text: &str) -> Resources {
    Resources::parse(text.as_bytes()).expect("resources")
}

fn update(on: &[(Version, &[&str])], asked: &str, in_force: &str) -> Result<Update, Refused> {
    let owned: Vec<(Version, Vec<String>)> = on
        .iter()
        .map(|(version, names)| (*version, names.iter().map(ToString::to_string).collect()))
        .collect();
    let hierarchies: Vec<_> =
        owned.iter().map(|(version, controllers)| Hierarchy { version: *version, controllers }).collect();
    let update = compile_update(&limits(asked), &limits(in_force), &hierarchies)?;
    assert_eq!(update.settings.len(), hierarchies.len(), "a list for each hierarchy");
    Ok(update)
}

fn writes(on: &[(Version, &[&str])], asked: &str, in_force: &str) -> Vec<String> {
    let update = update(on, asked, in_force).expect("an update");
    update.settings.iter().flatten().map(|setting| format!("{}={}", setting.file, setting.value)).collect()
}

fn refusal(on: &[(Version, &[&str])], asked: &str, in_force: &str) -> String {
    let Refused { path, reason } = update(on, asked, in_force).expect_err("a refusal");
    format!("{path}: {reason}")
}

fn after(asked: &str, in_force: &str) -> Resources {
    update(V1, asked, in_force).expect("an update").limits
}

#[test]
fn nothing_asked_is_nothing_written() {
    let rich = r#"{"memory":{"limit":5,"swap":9},"cpu":{"shares":9,"quota":2000},"pids":{"limit":7}}"#;
    let nothing = r#"{"memory":{"limit":0,"swap":0},"cpu":{"shares":0,"quota":0,"period":0,"cpus":""},
        "pids":{"limit":0},"blockIO":{"weight":0}}"#;
    for on in [V1, V2] {
        for asked in ["{}", nothing] {
            assert_eq!(writes(on, asked, rich), [""; 0]);
        }
    }
    let kept = after(nothing, rich);
    assert_eq!((kept.memory, kept.pids), (limits(rich).memory, limits(rich).pids));
}

#[test]
fn what_goes_together_is_written_together() {
    // Asked, in force, on v1, on v2.
    for (asked, in_force, v1, v2) in [
        (
            r#"{"cpu":{"quota":50000}}"#,
            r#"{"cpu":{"period":200000,"quota":7000}}"#,
            &["cpu.cfs_period_us=200000", "cpu.cfs_quota_us=50000"][..],
            &["cpu.max=50000 200000"][..],
        ),
        (
            r#"{"cpu":{"period":50000}}"#,
            r#"{"cpu":{"period":200000,"quota":7000}}"#,
            &["cpu.cfs_period_us=50000", "cpu.cfs_quota_us=7000"],
            &["cpu.max=7000 50000"],
        ),
        (r#"{"cpu":{"quota":-1}}"#, "{}", &["cpu.cfs_quota_us=-1"], &["cpu.max=max 100000"]),
        (
            r#"{"memory":{"limit":100}}"#,
            r#"{"memory":{"limit":300,"swap":300}}"#,
            &["memory.limit_in_bytes=100", "memory.memsw.limit_in_bytes=300"],
            &["memory.swap.max=200", "memory.max=100"],
        ),
        (
            r#"{"memory":{"swap":500}}"#,
            r#"{"memory":{"limit":300,"swap":300}}"#,
            &["memory.limit_in_bytes=300", "memory.memsw.limit_in_bytes=500"],
            &["memory.swap.max=200", "memory.max=300"],
        ),
        (
            r#"{"memory":{"limit":-1}}"#,
            r#"{"memory":{"limit":300,"swap":300}}"#,
            &["memory.limit_in_bytes=-1", "memory.memsw.limit_in_bytes=-1"],
            &["memory.swap.max=max", "memory.max=max"],
        ),
        (
            r#"{"cpu":{"shares":1024}}"#,
            r#"{"cpu":{"quota":7000}}"#,
            &["cpu.shares=1024"],
            &["cpu.weight=100"],
        ),
        // An idle group has no weight to change on v2; ending to be idle, it may have one again.
        (
            r#"{"cpu":{"shares":1024}}"#,
            r#"{"cpu":{"idle":1}}"#,
            &["cpu.shares=1024", "cpu.idle=1"],
            &["cpu.idle=1"],
        ),
        (
            r#"{"cpu":{"shares":1024,"idle":0}}"#,
            r#"{"cpu":{"idle":1}}"#,
            &["cpu.shares=1024", "cpu.idle=0"],
            &["cpu.weight=100", "cpu.idle=0"],
        ),
        (r#"{"pids":{"limit":-1}}"#, r#"{"pids":{"limit":4}}"#, &["pids.max=max"], &["pids.max=max"]),
        (
            r#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":9}]}}"#,
            r#"{"blockIO":{"weight":5,"throttleReadBpsDevice":[{"major":8,"minor":16,"rate":7}]}}"#,
            &["blkio.throttle.read_bps_device=8:0 9"],
            &["io.max=8:0 rbps=9"],
        ),
        (
            r#"{"memory":{"disableOOMKiller":false}}"#,
            r#"{"memory":{"disableOOMKiller":true}}"#,
            &["memory.oom_control=0"],
            &[],
        ),
        (r#"{"memory":{"disableOOMKiller":false}}"#, "{}", &[], &[]),
    ] {
        assert_eq!(writes(V1, asked, in_force), v1, "{asked} on v1");
        assert_eq!(writes(V2, asked, in_force), v2, "{asked} on v2");
    }
}

#[test]
fn what_is_in_force_afterwards_is_the_sum() {
    for (asked, in_force, expected) in [
        (r#"{"cpu":{"quota":5000}}"#, r#"{"cpu":{"period":9}}"#, r#"{"cpu":{"period":9,"quota":5000}}"#),
        (r#"{"memory":{"limit":-1}}"#, r#"{"memory":{"swap":9}}"#, r#"{"memory":{"limit":-1,"swap":-1}}"#),
        (r#"{"cpu":{"idle":1}}"#, r#"{"cpu":{"shares":9}}"#, r#"{"cpu":{"idle":1}}"#),
        (
            r#"{"blockIO":{"weightDevice":[{"major":8,"minor":0,"weight":9},{"major":8,"minor":1,"weight":3}]}}"#,
            r#"{"blockIO":{"weightDevice":[{"major":8,"minor":0,"weight":7}]}}"#,
            r#"{"blockIO":{"weightDevice":[{"major":8,"minor":0,"weight":9},{"major":8,"minor":1,"weight":3}]}}"#,
        ),
        // The same device twice: the last one is written last, and holds.
        (
            r#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":9},{"major":8,"minor":0,"rate":3}]}}"#,
            "{}",
            r#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":3}]}}"#,
        ),
    ] {
        assert_eq!(after(asked, in_force), limits(expected), "{asked} over {in_force}");
    }
}

/// The devices of an update: what is written there, what leads back, or what the program is for.
fn devices(on: &[(Version, &[&str])], asked: &str, in_force: &str) -> Vec<String> {
    let told = |settings: &[Setting]| {
        let one = |setting: &Setting| format!("{}={}", setting.file, setting.value);
        settings.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    match update(on, asked, in_force).expect("an update").devices {
        None => Vec::new(),
        Some(DeviceChange::Files { there, back, turns }) => {
            vec![told(&there), told(&back), if turns { "turns" } else { "stays" }.to_owned()]
        }
        Some(DeviceChange::Program(program)) => {
            vec![program.default.to_owned(), program.exceptions.join(", ")]
        }
    }
}

const SHUT: &str = r#"{"allow":false,"access":"rwm"}"#;
const FUSE: &str = r#"{"allow":true,"type":"c","major":10,"minor":229,"access":"rwm"}"#;
const DISK: &str = r#"{"allow":true,"type":"b","major":8,"minor":0,"access":"r"}"#;

#[test]
fn the_same_devices_again_are_no_change() {
    let with_fuse = format!(r#"{{"devices":[{SHUT},{FUSE}]}}"#);
    // Written otherwise, it is the same list; and who asks for something else only says nothing of devices.
    let twice = format!(r#"{{"devices":[{SHUT},{FUSE},{FUSE}],"pids":{{"limit":5}}}}"#);
    for on in [V1, V2] {
        for asked in [&with_fuse, &twice, "{}", r#"{"devices":[]}"#, r#"{"pids":{"limit":5}}"#] {
            assert_eq!(devices(on, asked, &with_fuse), [""; 0], "{asked}");
        }
    }
    assert_eq!(after(r#"{"pids":{"limit":5}}"#, &with_fuse).devices, limits(&with_fuse).devices);
}

#[test]
fn other_devices_take_the_place_of_those_in_force() {
    let (fuse, disk) =
        (format!(r#"{{"devices":[{SHUT},{FUSE}]}}"#), format!(r#"{{"devices":[{SHUT},{DISK}]}}"#));
    let open = r#"{"devices":[{"allow":true,"access":"rwm"}]}"#;
    // On v1 nothing that stays is written.
    assert_eq!(
        devices(V1, &disk, &fuse),
        [
            "devices.allow=b 8:0 r, devices.deny=c 10:229 rwm",
            "devices.allow=c 10:229 rwm, devices.deny=b 8:0 r",
            "stays"
        ]
    );
    assert_eq!(after(&disk, &fuse).devices, limits(&disk).devices);
    let opened = devices(V1, open, &fuse);
    assert_eq!((opened[0].as_str(), opened[2].as_str()), ("devices.allow=a", "turns"));
    assert!(opened[1].starts_with("devices.deny=a, devices.allow=c 10:229 rwm, "), "{opened:?}");
    let program = devices(V2, &disk, &fuse);
    assert_eq!(program[0], "deny");
    assert!(program[1].starts_with("b 8:0 r, c *:* m, ") && !program[1].contains("10:229"), "{program:?}");
    assert_eq!(devices(V2, open, &fuse)[0], "allow");
}

/// systemd writes both files of weights from its property; ours say the same before it does. 357 for 300 was seen where they did not.
#[test]
fn a_weight_is_the_same_whoever_writes_last() {
    let controllers = ["io".to_owned()];
    let hierarchies = [Hierarchy { version: Version::V2, controllers: &controllers }];
    for (weight, shown, on_its_scale) in
        [(10, "10", 10), (100, "100", 100), (101, "101", 111), (300, "300", 2300), (1000, "1000", 10_000)]
    {
        let asked = limits(&format!(r#"{{"blockIO":{{"weight":{weight}}}}}"#));
        let update = compile_managed_update(&asked, &limits("{}"), &hierarchies).expect("an update");
        let [Setting { file, value, rule, .. }] = &*update.settings[0] else { panic!("{update:?}") };
        assert_eq!((file.as_str(), value.as_str()), ("io.bfq.weight", shown));
        let other = Rule::OrElse { file: "io.weight".into(), value: on_its_scale.to_string() };
        assert_eq!(*rule, other);
        let properties = changes(&update.written, 257, Mode::V2).expect("properties");
        let told = properties.iter().find(|property| property.name == "IOWeight").expect("a weight");
        assert_eq!(told.value.to_string(), on_its_scale.to_string());
        // As systemd's cgroup.c has it, BFQ's weight of its own: 1 to 1000, and 100 in the middle of both scales.
        let its = if on_its_scale <= 100 { on_its_scale } else { 100 + (on_its_scale - 100) * 900 / 9900 };
        assert_eq!(its, weight);
    }
}

#[test]
fn the_kernels_order_is_found_by_trying() {
    let asked = r#"{"cpu":{"quota":5000,"period":9000,"burst":10,"shares":5}}"#;
    for on in [V1, V2] {
        let update = update(on, asked, "{}").expect("an update");
        for setting in update.settings.iter().flatten() {
            let waits = matches!(setting.rule, Rule::Again | Rule::MayLack);
            assert!(waits, "{}: {:?}", setting.file, setting.rule);
        }
    }
    let update = update(V1, r#"{"memory":{"limit":5,"swap":9}}"#, "{}").expect("an update");
    assert_eq!(update.settings[4][0].rule, Rule::Again, "memory may wait for memory and swap");
}

#[test]
fn less_memory_than_is_used_is_refused_where_v2_is_asked_to_look() {
    for (asked, in_force) in [
        (r#"{"memory":{"limit":5,"checkBeforeUpdate":true}}"#, "{}"),
        (r#"{"memory":{"limit":5}}"#, r#"{"memory":{"checkBeforeUpdate":true}}"#),
    ] {
        let update = update(V2, asked, in_force).expect("an update");
        let rule = Rule::AboveUse { file: "memory.current".into(), limit: 5 };
        assert_eq!(update.settings[0][0].rule, rule, "{asked} over {in_force}");
    }
}

#[test]
fn refusals_name_the_field_of_the_resources() {
    for (on, asked, in_force, told) in [
        (V1, r#"{"memory":{"limit":-5}}"#, "{}", "memory.limit: -5 is neither -1 nor a number of bytes"),
        (
            V1,
            r#"{"devices":[{"allow":false,"type":"x","access":"rwm"}]}"#,
            "{}",
            r#"devices[0].type: "x" is none of a, b and c"#,
        ),
        (
            V2,
            r#"{"devices":[{"allow":true,"type":"c","major":1,"access":"q"}]}"#,
            "{}",
            r#"devices[0].access: "q" has none of r, w and m"#,
        ),
        (
            &[(Version::V1, &["memory"])],
            r#"{"devices":[{"allow":true,"type":"c","major":1,"access":"r"}]}"#,
            "{}",
            "devices: this container has no control group that guards devices",
        ),
        (
            V1,
            r#"{"memory":{"limit":500}}"#,
            r#"{"memory":{"limit":100,"swap":200}}"#,
            "memory.swap: 200 is less than the memory limit 500, which it includes",
        ),
        (
            V2,
            r#"{"memory":{"limit":500}}"#,
            r#"{"memory":{"limit":100,"swap":200}}"#,
            "memory.swap: 200 is less than the memory limit 500, which it includes",
        ),
        (V2, r#"{"memory":{"swap":5}}"#, "{}", "memory.swap: needs a limit of memory, which it includes"),
        (V1, r#"{"cpu":{"shares":1}}"#, "{}", "cpu.shares: the minimum allowed cpu-shares is 2"),
        (V1, r#"{"cpu":{"idle":2}}"#, "{}", "cpu.idle: 2 is neither 0 nor 1"),
        (
            V1,
            r#"{"unified":{"memory.high":"5"}}"#,
            "{}",
            "unified: invalid configuration: the controllers of this host are on cgroup v1",
        ),
        (V2, r#"{"unified":{"a/b":"5"}}"#, "{}", r#"unified["a/b"]: is no name of a control group file"#),
        (
            V2,
            r#"{"unified":{"misc.max":"x 5"}}"#,
            "{}",
            r#"unified["misc.max"]: this host has no misc controller"#,
        ),
        (
            V2,
            r#"{"cpu":{"realtimePeriod":5}}"#,
            "{}",
            "cpu.realtimePeriod: cgroup v2 has no real-time budgets",
        ),
        (
            V1,
            r#"{"hugepageLimits":[{"pageSize":"2MB","limit":5}]}"#,
            "{}",
            "hugepageLimits[0]: this host has no hugetlb controller",
        ),
        (V1, r#"{"network":{"classID":5}}"#, "{}", "network.classID: this host has no net_cls controller"),
    ] {
        assert_eq!(refusal(on, asked, in_force), told);
    }
}

#[test]
fn what_has_no_effect_is_a_warning() {
    let update = update(V1, r#"{"memory":{"kernel":5}}"#, "{}").expect("an update");
    assert_eq!(update.warnings, ["memory.kernel: ignored: the kernel has no such limit any more"]);
    assert_eq!(update.settings.iter().flatten().count(), 0);
}

/// What engines write, and what breaks parsers, as updates of each other: refused in one line, or compiled into writes
/// to plain files; what is in force afterwards is stable, and asking for it again changes nothing of it.
#[test]
fn every_document_of_the_corpus_is_an_update_or_a_line() {
    let mut documents: Vec<Resources> = Vec::new();
    for folder in ["tests/plans", "../../fuzz/corpus/config", "../../fuzz/corpus/plan"] {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        for file in std::fs::read_dir(folder).expect("the folder is there") {
            let bytes = std::fs::read(file.expect("an entry").path()).expect("an input");
            let resources = spec::Spec::parse(&bytes).ok().and_then(|spec| spec.linux?.resources);
            documents.extend(resources.filter(|resources| *resources != Resources::default()));
        }
    }
    assert!(documents.len() >= 20, "only {} documents", documents.len());
    let (mut updates, mut refusals) = (0, 0);
    for (asked, in_force) in documents.iter().flat_map(|one| documents.iter().map(move |other| (one, other)))
    {
        for on in [V1, V2] {
            let owned: Vec<(Version, Vec<String>)> = on
                .iter()
                .map(|(version, names)| (*version, names.iter().map(ToString::to_string).collect()))
                .collect();
            let hierarchies: Vec<_> = owned
                .iter()
                .map(|(version, controllers)| Hierarchy { version: *version, controllers })
                .collect();
            match compile_update(asked, in_force, &hierarchies) {
                Ok(update) => {
                    updates += 1;
                    for setting in update.settings.iter().flatten() {
                        assert!(!setting.file.contains(['/', '\0']) && !setting.file.starts_with("devices."));
                        assert!(
                            !setting.value.is_empty() && !setting.field.starts_with("linux."),
                            "{setting:?}"
                        );
                    }
                    let again = compile_update(asked, &update.limits, &hierarchies).expect("the same again");
                    assert_eq!(again.limits, update.limits, "{asked:?} over {in_force:?}");
                }
                Err(refused) => {
                    refusals += 1;
                    let told = format!("{}: {}", refused.path, refused.reason);
                    assert!(!told.contains('\n') && !refused.path.starts_with("linux."), "{told:?}");
                }
            }
        }
    }
    assert!(updates > 100 && refusals > 100, "{updates} updates, {refusals} refusals");
}
