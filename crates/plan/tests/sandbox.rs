//! Plans for sandboxes, as `cofferdam sandbox limits plan` prints them, and what is asked of them point by point.
//! `BLESS=1 cargo test -p plan` writes the files anew.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use filter::device::{Access, Kind};
use plan::cgroup::{HostCgroups, HostHierarchy, HostUnified};
use plan::sandbox::{
    Asked, Device, DeviceTable, Disk, Driver, Handed, Host, Layout, Needs, Node, Origin, Share, Vcpus, Wish,
    compile,
};
use plan::systemd::{Bus, Manager};
use spec::{DeviceRule, Resources};

const M: u64 = 1 << 20;

fn hybrid() -> HostCgroups {
    let hierarchy = |controllers: &str, name: Option<&str>, own: &str| HostHierarchy {
        controllers: controllers.split(',').filter(|one| !one.is_empty()).map(str::to_owned).collect(),
        name: name.map(str::to_owned),
        mount: format!("/sys/fs/cgroup/{}", if controllers.is_empty() { "systemd" } else { controllers }),
        own: own.to_owned(),
    };
    HostCgroups {
        hierarchies: vec![
            hierarchy("cpu,cpuacct", None, "/"),
            hierarchy("cpuset", None, "/"),
            hierarchy("memory", None, "/jobs"),
            hierarchy("devices", None, "/"),
            hierarchy("", Some("systemd"), "/"),
        ],
        unified: Some(HostUnified {
            mount: "/sys/fs/cgroup/unified".into(),
            own: "/".into(),
            controllers: Vec::new(),
        }),
        ..HostCgroups::default()
    }
}

fn v2() -> HostCgroups {
    let controllers = "cpuset cpu io memory hugetlb pids";
    HostCgroups {
        unified: Some(HostUnified {
            mount: "/sys/fs/cgroup".into(),
            own: "/user.slice/session-1.scope".into(),
            controllers: controllers.split(' ').map(str::to_owned).collect(),
        }),
        ..HostCgroups::default()
    }
}

fn managed() -> HostCgroups {
    let bus = Bus { address: "unix:path=/run/systemd/private".into(), is_direct: true, is_user: false };
    let manager = Manager { bus, version: 257, group: String::new(), controllers: None };
    HostCgroups { systemd: Some(manager), ..v2() }
}

fn host(cgroups: HostCgroups) -> Host {
    let node = |is_block, major, minor| Ok(Node { is_block, major, minor });
    let nodes = [
        ("/dev/kvm", node(false, 10, 232)),
        ("/dev/vhost-net", node(false, 10, 238)),
        ("/dev/vhost-vsock", node(false, 10, 241)),
        ("/dev/net/tun", node(false, 10, 200)),
        ("/dev/vfio/vfio", node(false, 10, 196)),
        ("/dev/vfio/7", node(false, 511, 0)),
        ("/dev/sdb", node(true, 8, 16)),
        ("/dev/mapper/vm", node(true, 252, 3)),
        ("/dev/mapper/old", node(true, 253, 3)),
        ("/dev/snd/timer", node(false, 116, 33)),
    ];
    let nodes = nodes.into_iter().map(|(path, node)| (path.to_owned(), node)).collect();
    Host { cgroups, nodes, device_mapper: Some(252) }
}

/// A monitor that computes, and so needs nothing.
fn plain() -> Wish {
    Wish { id: "vm1".into(), needs: Needs { computes: true, ..Needs::default() }, ..Wish::default() }
}

fn rule(allow: bool, kind: &str, major: Option<i64>, minor: Option<i64>, access: &str) -> DeviceRule {
    DeviceRule { allow, kind: Some(kind.into()), major, minor, access: Some(access.into()) }
}

fn full() -> Wish {
    let needs = Needs {
        computes: false,
        vhost_net: true,
        vhost_vsock: true,
        tun: true,
        vfio: vec![7],
        disks: vec!["/dev/sdb:ro".parse().expect("a disk"), "/dev/mapper/vm".parse().expect("a disk")],
    };
    let share = |cpus: &str, quota| Share { cpus: Some(cpus.into()), quota: Some(quota), ..Share::default() };
    let resources = Resources {
        devices: vec![rule(false, "a", None, None, "rwm"), rule(true, "c", Some(10), Some(229), "rw")],
        ..Resources::default()
    };
    Wish {
        memory: Asked { guest: Some(512 * M), overhead: Some(128 * M), limit: None, helpers: Some(64 * M) },
        shares: BTreeMap::from([("web".into(), share("0-1", 50_000)), ("db".into(), share("2", 100_000))]),
        handed: vec!["/dev/snd/timer:r".parse().expect("a device")],
        helpers: true,
        needs,
        resources,
        ..plain()
    }
}

fn compared(name: &str, wish: &Wish, cgroups: HostCgroups) {
    let plan = compile(wish, &host(cgroups)).unwrap_or_else(|why| panic!("{name}: {why}"));
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/sandboxes/{name}.txt"));
    let text = plan.to_string();
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &text).expect("the golden file can be written");
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, golden, "{name}");
}

#[test]
fn plans_are_as_they_were() {
    let elsewhere = Wish { layout: Layout::OverheadElsewhere, ..full() };
    let threaded = Wish { vcpus: Vcpus::Threaded, ..full() };
    let apart = Wish { vcpus: Vcpus::Threaded, ..elsewhere.clone() };
    let unit = Wish { path: Some("machine-vms.slice:vm:1".into()), ..full() };
    compared("plain.hybrid", &plain(), hybrid());
    compared("plain.v2", &plain(), v2());
    compared("full.hybrid", &full(), hybrid());
    compared("full.v2", &full(), v2());
    compared("elsewhere.hybrid", &elsewhere, hybrid());
    compared("elsewhere.v2", &elsewhere, v2());
    compared("threaded.v2", &threaded, v2());
    compared("apart.v2", &apart, v2());
    compared("unit.v2", &unit, managed());
}

/// What the table says, line by line: the device and who wants it.
fn told(table: &DeviceTable) -> Vec<String> {
    let line = |held: &plan::sandbox::Held| {
        let by: Vec<&str> = held.by.iter().map(|by| by.name()).collect();
        format!("{} {}", held.device, by.join("+"))
    };
    table.held.iter().map(line).collect()
}

fn devices(wish: &Wish) -> Result<DeviceTable, String> {
    compile(wish, &host(v2())).map(|plan| plan.devices).map_err(|why| why.to_string())
}

#[test]
fn point_01_devices_come_in_their_order_and_go_by_value() {
    let mut wish = full();
    // The same as everybody's, and the same twice: one line each, with all who want it.
    wish.resources.devices.push(rule(true, "c", Some(1), Some(3), "rw"));
    wish.handed.push("c 10:229 rw".parse().expect("a device"));
    let before = wish.clone();
    let mut table = devices(&wish).expect("a plan");
    assert_eq!(wish, before, "the input is never changed");
    assert_eq!(
        told(&table),
        [
            "c 1:3 rw default+caller",
            "c 1:5 rw default",
            "c 1:7 rw default",
            "c 1:8 rw default",
            "c 1:9 rw default",
            "c 5:0 rw default",
            "c 5:2 rw default",
            "c 136:* rw default",
            "c 10:229 rw caller+handed",
            "c 116:33 r handed",
            "c 10:232 rw vmm",
            "c 10:238 rw vmm",
            "c 10:241 rw vmm",
            "c 10:200 rw vmm",
            "c 10:196 rw vmm",
            "c 511:0 rw vmm",
            "b 8:16 r vmm",
            "b 252:3 rw vmm",
        ]
    );
    let list = table.list();
    assert!(!list.allow, "what is not named is denied");
    assert!(!list.permits(Kind::Char, 10, 1, Access::READ) && !list.permits(Kind::Block, 8, 0, Access::READ));
    // Nobody needs to make a node, and nobody may.
    assert!(!list.permits(Kind::Char, 1, 3, Access::MKNOD));
    assert!(!list.exceptions.iter().any(|one| one.access.meets(Access::MKNOD)), "no blanket mknod");

    let device: Device = "c 116:33 r".parse().expect("a device");
    table.add(device);
    table.remove(device).expect("held twice");
    assert!(table.list().permits(Kind::Char, 116, 33, Access::READ), "somebody else holds it still");
    table.remove(device).expect("held once");
    assert!(!table.list().permits(Kind::Char, 116, 33, Access::READ));
    assert!(table.remove(device).is_err(), "held by nobody");
    let kvm: Device = "c 10:232 rw".parse().expect("a device");
    table.add(kvm);
    table.remove(kvm).expect("the guest's own use");
    assert!(
        table.list().permits(Kind::Char, 10, 232, Access::READ),
        "the monitor's use is not the guest's to take"
    );
    assert!(table.remove(kvm).is_err_and(|why| why.to_string().contains("c 10:232 rw")));
}

#[test]
fn a_callers_rules_hold_in_their_order() {
    let with = |rules: Vec<DeviceRule>| {
        let resources = Resources { devices: rules, ..Resources::default() };
        let wish = Wish { resources, ..plain() };
        compile(&wish, &host(v2())).map(|plan| {
            let callers = |held: &&plan::sandbox::Held| held.by.contains(&Origin::Caller);
            let told: Vec<String> =
                plan.devices.held.iter().filter(callers).map(|held| held.device.to_string()).collect();
            (told, plan.notes)
        })
    };
    let (told, _) = with(vec![
        rule(true, "c", Some(7), Some(1), "rw"),
        rule(false, "a", None, None, "rwm"),
        rule(true, "c", Some(7), Some(2), "rwm"),
        rule(false, "c", Some(7), Some(2), "m"),
        rule(true, "b", Some(8), None, "r"),
    ])
    .expect("a plan");
    assert_eq!(told, ["c 7:2 rw", "b 8:* r"], "what was allowed before all was denied is denied");
    let (_, notes) = with(vec![rule(false, "c", Some(1), Some(3), "rw")]).expect("a plan");
    assert!(notes.iter().any(|note| note.contains("devices[0] denies c 1:3 rw")), "{notes:?}");
    for rules in [
        vec![rule(true, "a", None, None, "rwm")],
        vec![rule(true, "c", Some(7), None, "rw"), rule(false, "c", Some(7), Some(1), "rw")],
        vec![rule(true, "x", None, None, "rwm")],
        vec![rule(true, "c", Some(-7), None, "rwm")],
        vec![rule(true, "c", Some(7), None, "")],
    ] {
        let why = with(rules).expect_err("refused").to_string();
        assert!(why.starts_with("devices"), "{why}");
    }
}

#[test]
fn point_02_a_monitor_is_given_what_it_uses_and_nothing_else() {
    let kvm = Wish { needs: Needs::default(), ..plain() };
    assert_eq!(
        devices(&kvm).expect("a plan").held.last().map(|held| held.device.to_string()),
        Some("c 10:232 rw".into())
    );
    assert_eq!(devices(&plain()).expect("a plan").held.len(), 8, "who computes needs no KVM");

    let mut none = host(v2());
    let gone = "stat(): No such file or directory (os error 2)";
    none.nodes.insert("/dev/kvm".into(), Err(gone.into()));
    let why = compile(&kvm, &none).expect_err("refused").to_string();
    assert_eq!(why, format!("KVM (--accel tcg does without): /dev/kvm: {gone}"), "the path and the reason");
    assert!(compile(&plain(), &none).is_ok());

    let disk = |text: &str| {
        let disks = vec![text.parse::<Disk>().expect("a disk")];
        let needs = Needs { computes: true, disks, ..Needs::default() };
        devices(&Wish { needs, ..plain() }).map(|table| table.held.last().map(|held| held.device.to_string()))
    };
    assert_eq!(
        disk("/dev/mapper/vm"),
        Ok(Some("b 252:3 rw".into())),
        "the one disk, and not its driver's all"
    );
    assert_eq!(disk("/dev/sdb:ro"), Ok(Some("b 8:16 r".into())));
    assert!(
        disk("/dev/mapper/old").is_err_and(|why| why.contains("has major number 253") && why.contains("252"))
    );
    assert!(disk("/dev/kvm").is_err_and(|why| why.contains("no block device")));
    assert!(disk("/dev/none").is_err_and(|why| why.contains("/dev/none")));
    let mut unloaded = host(v2());
    unloaded.device_mapper = None;
    let mapped =
        Needs { computes: true, disks: vec!["/dev/mapper/vm".parse().expect("a disk")], ..Needs::default() };
    let why = compile(&Wish { needs: mapped, ..plain() }, &unloaded).expect_err("refused").to_string();
    assert!(why.contains("no device mapper"), "{why}");
    let vfio =
        devices(&Wish { needs: Needs { computes: true, vfio: vec![7], ..Needs::default() }, ..plain() });
    let last: Vec<String> = told(&vfio.expect("a plan")).split_off(8);
    assert_eq!(last, ["c 10:196 rw vmm", "c 511:0 rw vmm"], "the group, and what all groups are opened by");
}

#[test]
fn device_texts_are_read_strictly() {
    for text in ["c 10:200 rw", "b 8:* r", "c *:* m", "c 10:200 rwm"] {
        let device: Device = text.parse().expect("a device");
        assert_eq!(device.to_string(), text);
    }
    for text in [
        "",
        "c",
        "c 10",
        "c 10:200 x",
        "a *:* rwm",
        "c 10:200 rw x",
        "c -1:0 rw",
        "c 10:+2 rw",
        "dev/kvm",
        "c 99999999999:1",
    ] {
        assert!(text.parse::<Handed>().is_err(), "{text:?}");
    }
    let node: Handed = "/dev/a:b:rw".parse().expect("a node");
    assert_eq!(node, Handed::Node { path: "/dev/a:b".into(), access: "rw".into() });
}

#[test]
fn what_does_not_go_together_is_refused() {
    let refused =
        |wish: &Wish, cgroups: HostCgroups| compile(wish, &host(cgroups)).expect_err("refused").to_string();
    let threaded = Wish { vcpus: Vcpus::Threaded, ..plain() };
    assert!(refused(&threaded, hybrid()).contains("--vcpus threaded"));
    let elsewhere = Wish { layout: Layout::OverheadElsewhere, ..plain() };
    let managed_elsewhere = Wish { driver: Some(Driver::Systemd), ..elsewhere };
    assert!(refused(&managed_elsewhere, managed()).contains("--layout overhead-elsewhere"));
    let helped = Wish { memory: Asked { helpers: Some(M), ..Asked::default() }, ..plain() };
    assert!(refused(&helped, v2()).contains("--helper-memory"));
    assert!(refused(&plain(), HostCgroups::default()).contains("no control groups"));
    let unit = Wish { path: Some("a.slice:b:c".into()), ..plain() };
    assert!(refused(&unit, v2()).contains("a.slice:b:c"), "a unit without systemd");
    let quota = Share { quota: Some(1), ..Share::default() };
    let tiny = Wish { shares: BTreeMap::from([("a".into(), quota)]), ..plain() };
    assert!(refused(&tiny, v2()).contains("--cpu-quota a=1"));
}

/// The list of docs/sandbox-limits.md: each of the 14 points has tests, and they are there under these names.
#[test]
fn each_point_of_the_manual_names_tests_that_there_are() {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let manual = fs::read_to_string(tree.join("docs/sandbox-limits.md")).expect("the manual");
    let sources = [
        "crates/plan/tests/sandbox.rs",
        "crates/plan/src/sandbox",
        "crates/microvm/src",
        "tests/tests/sandbox_limits.rs",
    ];
    let mut source = String::new();
    for path in sources.map(|path| tree.join(path)) {
        if path.is_dir() {
            for file in fs::read_dir(&path).expect("sources").flatten() {
                source += &fs::read_to_string(file.path()).expect("a source");
            }
        } else {
            source += &fs::read_to_string(&path).expect("a source");
        }
    }
    for point in 1..=14 {
        let begin = format!("| {point} |");
        let line = manual
            .lines()
            .find(|line| line.starts_with(&begin))
            .unwrap_or_else(|| panic!("no point {point}"));
        let names: Vec<&str> = line.split('`').filter(|name| name.contains("point_")).collect();
        assert!(!names.is_empty(), "point {point} names no test");
        for name in names {
            assert!(source.contains(&format!("fn {name}()")), "point {point}: there is no test {name}");
            assert!(name.contains(&format!("point_{point:02}_")), "point {point}: {name}");
        }
    }
}
