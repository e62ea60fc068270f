//! Several hosts, and what is told of each: tests/golden/check. `BLESS=1 cargo test -p cofferdam check` writes them anew.
#![allow(clippy::expect_used, reason = "a test may end where its files are not there")]

use std::fs;
use std::path::Path;

use plan::cgroup::{HostCgroups, HostHierarchy, HostUnified};
use plan::systemd::Manager;
use probe::survey::{Caller, Callers, Docker, Groups, Mapper, Namespace, People, Users};
use sys::{Answer, Call};

use super::*;

const ALL: u64 = (1 << 41) - 1;

const CALLS: [Call; 12] = [
    Call::Clone3,
    Call::CloneIntoCgroup,
    Call::PidfdOpen,
    Call::PidfdSendSignal,
    Call::OpenTree,
    Call::MountSetattr,
    Call::Openat2,
    Call::CloseRange,
    Call::Keyctl,
    Call::Bpf,
    Call::Seccomp,
    Call::Landlock,
];

/// The calls that are there, and the answer of all others.
fn calls(there: &[Call], other: Answer) -> Vec<(Call, Answer)> {
    let answer = |call: &Call| if there.contains(call) { Answer::There } else { other };
    CALLS.iter().map(|call| (*call, answer(call))).collect()
}

fn namespaces(limit: u64) -> Vec<Namespace> {
    let names = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];
    names.map(|name| Namespace { name, is_there: true, limit: Some(limit) }).to_vec()
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// A current distribution with systemd, where nothing is in the way.
fn whole() -> Survey {
    Survey {
        release: "6.12.9-200.fc41.x86_64".into(),
        machine: "x86_64".into(),
        calls: calls(&CALLS, Answer::There),
        has_pidfs: true,
        memfd_noexec: Some(0),
        caller: Caller { is_first: true, effective: ALL, bounding: ALL, last: 40, ..Caller::default() },
        namespaces: namespaces(63_000),
        users: Users::default(),
        cgroups: Ok(HostCgroups {
            unified: Some(HostUnified {
                mount: "/sys/fs/cgroup".into(),
                own: "/user.slice/session-1.scope".into(),
                controllers: words("cpuset cpu io memory hugetlb pids rdma misc"),
            }),
            ..HostCgroups::default()
        }),
        groups: Groups { has_kill: Some(true), is_ours: true },
        modules: Some(words("lockdown capability yama selinux bpf landlock")),
        file_systems: words("sysfs tmpfs proc cgroup2 devpts mqueue ext4 overlay squashfs"),
        has_systemd: true,
        manager: Some(Ok(Manager { version: 257, ..Manager::default() })),
        people: People::default(),
        criu: Some("/usr/sbin/criu".into()),
        callers: Callers {
            docker: Docker {
                is_there: true,
                configuration: Some(
                    r#"{"default-runtime": "box", "runtimes": {"box": {"path": "/usr/local/bin/cofferdam"}}}"#
                        .into(),
                ),
            },
            podman: Some("/etc/containers/containers.conf".into()),
        },
    }
}

/// Where this was written: both generations of control groups, no systemd, and a capability less.
fn hybrid() -> Survey {
    let hierarchies = ["cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids"];
    let hierarchy = |name: &str| HostHierarchy {
        controllers: vec![name.to_owned()],
        name: None,
        mount: format!("/sys/fs/cgroup/{name}"),
        own: "/".into(),
    };
    let set = ALL & !(1 << 24);
    Survey {
        release: "6.18.44".into(),
        caller: Caller { effective: set, bounding: set, ..whole().caller },
        cgroups: Ok(HostCgroups {
            hierarchies: hierarchies.map(hierarchy).to_vec(),
            unified: Some(HostUnified {
                mount: "/sys/fs/cgroup/unified".into(),
                own: "/".into(),
                controllers: Vec::new(),
            }),
            ..HostCgroups::default()
        }),
        modules: None,
        has_systemd: false,
        manager: None,
        criu: None,
        callers: Callers::default(),
        ..whole()
    }
}

/// A kernel from before all that is needed.
fn old() -> Survey {
    use Call::{Bpf, Keyctl, PidfdSendSignal, Seccomp};
    Survey {
        release: "4.19.0-27-amd64".into(),
        calls: calls(&[Keyctl, PidfdSendSignal, Seccomp, Bpf], Answer::Lacking),
        has_pidfs: false,
        memfd_noexec: None,
        namespaces: namespaces(63_000)
            .into_iter()
            .map(|kind| Namespace { is_there: kind.name != "time", ..kind })
            .collect(),
        groups: Groups { has_kill: Some(false), ..Groups::default() },
        file_systems: words("sysfs tmpfs proc cgroup2 devpts mqueue ext4"),
        ..whole()
    }
}

/// An ordinary user of a distribution that keeps user namespaces from him.
fn user() -> Survey {
    Survey {
        release: "6.8.0-51-generic".into(),
        has_pidfs: false,
        caller: Caller { uid: 1000, gid: 1000, is_first: true, bounding: ALL, last: 40, ..Caller::default() },
        users: Users { may_clone: Some(false), is_restricted: Some(true) },
        cgroups: whole().cgroups.map(|cgroups| HostCgroups { rootless: true, ..cgroups }),
        groups: Groups { has_kill: Some(true), is_ours: false },
        modules: Some(words("lockdown capability landlock yama apparmor")),
        people: People {
            name: Some("ann".into()),
            subuids: 65536,
            subgids: 0,
            newuidmap: Some(Mapper { path: "/usr/bin/newuidmap".into(), has_power: true }),
            newgidmap: Some(Mapper { path: "/usr/bin/newgidmap".into(), has_power: false }),
        },
        callers: Callers { docker: Docker { is_there: true, configuration: None }, podman: None },
        ..whole()
    }
}

/// Root of a container without privileges: few capabilities, a filter that denies, no group to write to.
fn inside() -> Survey {
    use Call::{CloseRange, Openat2, PidfdOpen, PidfdSendSignal, Seccomp};
    let set = 0xa804_25fb;
    Survey {
        calls: calls(&[CloseRange, Openat2, PidfdOpen, PidfdSendSignal, Seccomp], Answer::Denied),
        caller: Caller { effective: set, bounding: set, is_filtered: true, ..whole().caller },
        namespaces: namespaces(0),
        cgroups: Err("probe the host: open(\"/sys/fs/cgroup\"): permission denied (os error 13)".into()),
        groups: Groups::default(),
        memfd_noexec: Some(2),
        has_systemd: false,
        manager: None,
        modules: None,
        callers: Callers { docker: Docker { is_there: true, configuration: Some("{".into()) }, podman: None },
        ..whole()
    }
}

/// Root of a user namespace on such a host.
fn mapped() -> Survey {
    Survey {
        caller: Caller { is_first: false, ..whole().caller },
        groups: Groups { is_ours: false, ..whole().groups },
        cgroups: whole().cgroups.map(|cgroups| HostCgroups { rootless: true, ..cgroups }),
        has_systemd: false,
        manager: None,
        ..whole()
    }
}

fn compared(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/check").join(name);
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, text).expect("the golden file can be written");
    }
    assert_eq!(text, fs::read_to_string(&path).expect("the golden file is there"), "{name}");
}

#[test]
fn each_host_is_told_as_it_is() {
    for (name, survey, runs) in [
        ("whole", whole(), true),
        ("hybrid", hybrid(), true),
        ("old", old(), false),
        ("user", user(), false),
        ("inside", inside(), false),
        ("mapped", mapped(), true),
    ] {
        let report = Report::of(&survey);
        compared(&format!("{name}.txt"), &report.to_string());
        assert_eq!(report.runs, runs, "{name}");
    }
}

#[test]
fn a_program_reads_the_same() {
    compared("hybrid.json", &Report::of(&hybrid()).json().expect("a report is JSON"));
}

#[test]
fn what_is_not_well_tells_what_then() {
    for survey in [hybrid(), old(), user(), inside(), mapped()] {
        for line in Report::of(&survey).lines {
            assert!(!line.told.is_empty() && !line.told.ends_with('.'), "{line:?}");
            // Which is a fact, and which is a consequence or a remedy, is told apart by these.
            let has_two = line.told.contains([';', ':', ',']);
            assert!(has_two || line.grade == Grade::Ok || line.grade == Grade::Note, "{line:?}");
            assert!(line.told.chars().count() <= 120, "{line:?}");
        }
    }
}

#[test]
fn what_a_host_without_groups_lacks_is_named() {
    let told = |cgroups| {
        let report = Report::of(&Survey { cgroups: Ok(cgroups), ..whole() });
        let missing = report.lines.into_iter().filter(|line| line.grade == Grade::Missing);
        missing.map(|line| line.name).collect::<Vec<_>>()
    };
    assert_eq!(told(HostCgroups::default()), ["hierarchies"]);
    let mut v1 = hybrid().cgroups.expect("it has some");
    assert_eq!(told(v1.clone()), Vec::<String>::new());
    v1.hierarchies.retain(|hierarchy| !hierarchy.controllers.contains(&"devices".to_owned()));
    assert_eq!(told(v1), ["device rules"]);
}
