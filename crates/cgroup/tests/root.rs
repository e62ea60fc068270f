//! The groups of this machine's kernel: what is written is read back, and nothing stays behind.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends where it is surprised"
)]
#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use cgroup::{Cgroup, Paths, Strain, join_self};
use plan::cgroup::{
    CgroupPlan, DeviceProgram, Group, HostCgroups, HostHierarchy, HostUnified, Version, compile,
};

/// Leaves the test, saying why, where this host cannot show anything.
macro_rules! needs {
    ($($condition:expr, $reason:literal);+) => {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: not root");
            return;
        }
        $(if !$condition {
            eprintln!("skipped: {}", $reason);
            return;
        })+
    };
}

/// What is mounted here, and where we are in it.
fn host() -> HostCgroups {
    let own = fs::read_to_string("/proc/self/cgroup").expect("/proc/self/cgroup");
    let own = |wanted: &str| {
        let line = own.lines().find(|line| {
            line.split(':').nth(1).is_some_and(|names| names.split(',').any(|one| one == wanted))
        });
        line.and_then(|line| line.splitn(3, ':').nth(2)).unwrap_or("/").to_owned()
    };
    let mut host = HostCgroups::default();
    for line in fs::read_to_string("/proc/self/mountinfo").expect("mountinfo").lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let dash = words.iter().position(|word| *word == "-").expect("a dash");
        let mount = words[4].to_owned();
        match words[dash + 1] {
            "cgroup2" => {
                let controllers =
                    fs::read_to_string(format!("{mount}/cgroup.controllers")).expect("controllers");
                let controllers = controllers.split_whitespace().map(str::to_owned).collect();
                host.unified = Some(HostUnified { mount, own: own(""), controllers });
            }
            "cgroup" => {
                let options: Vec<&str> = words[dash + 3].split(',').collect();
                let name = options.iter().find_map(|option| option.strip_prefix("name=")).map(str::to_owned);
                let known = |option: &&&str| KNOWN.contains(*option);
                let controllers: Vec<String> =
                    options.iter().filter(known).map(|&option| option.to_owned()).collect();
                let own = match &name {
                    Some(name) => own(&format!("name={name}")),
                    None => own(&controllers[0]),
                };
                host.hierarchies.push(HostHierarchy { controllers, name, mount, own });
            }
            _ => {}
        }
    }
    host
}

const KNOWN: [&str; 14] = [
    "cpu",
    "cpuacct",
    "cpuset",
    "memory",
    "devices",
    "freezer",
    "blkio",
    "pids",
    "hugetlb",
    "net_cls",
    "net_prio",
    "perf_event",
    "rdma",
    "misc",
];

fn has(controller: &str) -> bool {
    host().hierarchies.iter().any(|hierarchy| hierarchy.controllers.iter().any(|one| one == controller))
}

fn is_v1() -> bool {
    !host().hierarchies.is_empty()
}

fn is_hybrid() -> bool {
    is_v1() && host().unified.is_some()
}

/// A group path of this test's own: two levels, so that a directory above is made too.
fn fresh() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("/cofferdam-test-{}-{count}/group", std::process::id())
}

fn planned(path: &str, resources: &str) -> CgroupPlan {
    let document =
        format!(r#"{{"ociVersion":"1.0.2","linux":{{"cgroupsPath":"{path}","resources":{resources}}}}}"#);
    let spec: spec::Spec = serde_json::from_str(&document).expect("a document");
    compile(&spec, &host(), "unused").expect("a plan")
}

/// Groups that are removed when the test ends, however it ends.
struct Scratch {
    cgroup: Cgroup,
    plan: CgroupPlan,
}

impl Scratch {
    fn new(resources: &str) -> Self {
        Self::at(&fresh(), resources)
    }

    fn at(path: &str, resources: &str) -> Self {
        let plan = planned(path, resources);
        Self { cgroup: Cgroup::create(&plan).expect("groups"), plan }
    }

    fn directory(&self, controller: &str) -> PathBuf {
        let manages = |group: &&Group| group.controllers.iter().any(|one| one == controller);
        let group = self.plan.groups.iter().find(manages).expect(controller);
        Path::new(&group.mount).join(&group.path)
    }

    fn unified(&self) -> PathBuf {
        let group =
            self.plan.groups.iter().find(|group| group.version == Version::V2).expect("a unified tree");
        Path::new(&group.mount).join(&group.path)
    }

    fn read(&self, controller: &str, file: &str) -> String {
        let path = self.directory(controller).join(file);
        fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
            .trim()
            .to_owned()
    }

    /// A shell that walks into every group, as a container's first process does, and then runs `script`.
    fn shell(&self, script: &str) -> Process {
        use std::fmt::Write;
        let mut walk = String::from("set -e; ");
        for group in &self.plan.groups {
            let door = if group.version == Version::V1 { "tasks" } else { "cgroup.procs" };
            write!(walk, "echo 0 > {}/{}/{door}; ", group.mount, group.path).expect("a string");
        }
        let child = Command::new("sh")
            .args(["-c", &format!("{walk} echo in; set +e; {script}")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh");
        let mut process = Process(child);
        assert_eq!(process.line(), "in");
        process
    }

    /// No directory of ours is left in any hierarchy.
    fn assert_gone(&self) {
        for group in &self.plan.groups {
            let top = group.path.split('/').next().expect("a first part");
            let top = Path::new(&group.mount).join(top);
            assert!(!top.exists(), "{} is still there", top.display());
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let ended = self.cgroup.kill_all().and_then(|()| self.cgroup.remove());
        if let (Err(failed), false) = (ended, std::thread::panicking()) {
            panic!("{failed}");
        }
    }
}

struct Process(Child);

impl Process {
    fn line(&mut self) -> String {
        use std::io::Read;
        let mut text = Vec::new();
        let mut byte = [0];
        while self.0.stdout.as_mut().expect("a pipe").read(&mut byte).expect("a line") == 1 && byte != *b"\n"
        {
            text.push(byte[0]);
        }
        String::from_utf8(text).expect("text")
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).expect("a pid")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Killed already, most often; reaped in any case.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn root_every_limit_is_in_its_file() {
    needs!(is_v1(), "the controllers are not on v1");
    let scratch = Scratch::new(
        r#"{"memory":{"limit":67108864,"swap":134217728,"reservation":33554432,"swappiness":10,"disableOOMKiller":true},
            "cpu":{"shares":512,"quota":25000,"period":50000,"burst":10000,"cpus":"0"},
            "pids":{"limit":7}}"#,
    );
    for (controller, file, value) in [
        ("memory", "memory.limit_in_bytes", "67108864"),
        ("memory", "memory.memsw.limit_in_bytes", "134217728"),
        ("memory", "memory.soft_limit_in_bytes", "33554432"),
        ("memory", "memory.swappiness", "10"),
        ("cpu", "cpu.shares", "512"),
        ("cpu", "cpu.cfs_quota_us", "25000"),
        ("cpu", "cpu.cfs_period_us", "50000"),
        ("cpu", "cpu.cfs_burst_us", "10000"),
        ("cpuset", "cpuset.cpus", "0"),
        ("cpuset", "cpuset.mems", "0"),
        ("pids", "pids.max", "7"),
    ] {
        assert_eq!(scratch.read(controller, file), value, "{file}");
    }
    assert!(scratch.read("memory", "memory.oom_control").starts_with("oom_kill_disable 1"));
    assert!(scratch.cgroup.omitted().is_empty());
}

#[test]
fn root_unlimited_is_written_as_unlimited() {
    needs!(is_v1(), "the controllers are not on v1");
    let scratch = Scratch::new(r#"{"memory":{"limit":-1},"cpu":{"quota":-1,"idle":1},"pids":{"limit":-1}}"#);
    assert_eq!(scratch.read("memory", "memory.limit_in_bytes"), "9223372036854771712");
    assert_eq!(scratch.read("memory", "memory.memsw.limit_in_bytes"), "9223372036854771712");
    assert_eq!(scratch.read("cpu", "cpu.cfs_quota_us"), "-1");
    assert_eq!(scratch.read("cpu", "cpu.idle"), "1");
    assert_eq!(scratch.read("pids", "pids.max"), "max");
}

#[test]
fn root_block_devices_are_throttled() {
    needs!(has("blkio"), "no blkio controller on v1");
    let device = fs::read_dir("/sys/block")
        .expect("/sys/block")
        .filter_map(Result::ok)
        .find_map(|entry| fs::read_to_string(entry.path().join("dev")).ok());
    let Some(device) = device else {
        eprintln!("skipped: no block device");
        return;
    };
    let (major, minor) = device.trim().split_once(':').expect("a number");
    let limit = |rate: u32| format!(r#"[{{"major":{major},"minor":{minor},"rate":{rate}}}]"#);
    let scratch = Scratch::new(&format!(
        r#"{{"blockIO":{{"throttleReadBpsDevice":{},"throttleWriteBpsDevice":{},"throttleReadIOPSDevice":{},"throttleWriteIOPSDevice":{}}}}}"#,
        limit(1_048_576),
        limit(2_097_152),
        limit(100),
        limit(200)
    ));
    for (file, rate) in
        [("read_bps", 1_048_576), ("write_bps", 2_097_152), ("read_iops", 100), ("write_iops", 200)]
    {
        let shown = scratch.read("blkio", &format!("blkio.throttle.{file}_device"));
        assert_eq!(shown, format!("{major}:{minor} {rate}"));
    }
}

#[test]
fn root_the_device_list_is_the_planned_one() {
    needs!(has("devices"), "no devices controller on v1");
    let scratch = Scratch::new(
        r#"{"devices":[{"allow":false,"access":"rwm"},{"allow":true,"type":"b","major":8,"minor":0,"access":"r"}]}"#,
    );
    let list = scratch.read("devices", "devices.list");
    let mut lines: Vec<&str> = list.lines().collect();
    lines.sort_unstable();
    let mut expected = [
        "b 8:0 r",
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
    expected.sort_unstable();
    assert_eq!(lines, expected);
    let open = Scratch::new(r#"{"devices":[{"allow":true,"access":"rwm"}]}"#);
    assert_eq!(open.read("devices", "devices.list"), "a *:* rwm");
    // The default that nobody wrote into the document denies too.
    assert!(!Scratch::new("{}").read("devices", "devices.list").contains('a'));
}

#[test]
fn root_a_process_walks_in_by_itself() {
    needs!(is_v1(), "no v1 hierarchy");
    let scratch = Scratch::new("{}");
    let doors = scratch.cgroup.join_handles().expect("doors");
    let all = doors.len();
    let plan = &scratch.plan;
    let shown = std::thread::scope(|scope| {
        let walker = scope.spawn(|| {
            join_self(doors).expect("joined");
            fs::read_to_string("/proc/thread-self/cgroup").expect("cgroup")
        });
        walker.join().expect("the walker")
    });
    let mut joined = 0;
    for group in plan.groups.iter().filter(|group| group.version == Version::V1) {
        let line = format!(":{}:/{}\n", group.controllers.join(","), group.path);
        assert!(shown.contains(&line), "{line} in {shown}");
        joined += 1;
    }
    assert_eq!(joined, all);
}

#[test]
fn root_processes_of_children_are_listed() {
    needs!(is_hybrid(), "not a hybrid host");
    let scratch = Scratch::new("{}");
    assert_eq!(scratch.cgroup.processes().expect("a list"), [0; 0]);
    let outer = scratch.shell("exec sleep 1000");
    fs::create_dir(scratch.unified().join("below")).expect("a child group");
    let mut inner = Process(Command::new("sleep").arg("1000").spawn().expect("sleep"));
    fs::write(scratch.unified().join("below/cgroup.procs"), inner.pid().to_string()).expect("moved");
    let mut both = [outer.pid(), inner.pid()];
    both.sort_unstable();
    assert_eq!(scratch.cgroup.processes().expect("a list"), both);
    scratch.cgroup.kill_all().expect("killed");
    inner.0.wait().expect("reaped");
}

#[test]
fn root_a_group_with_processes_is_not_taken() {
    needs!(is_hybrid(), "not a hybrid host");
    let path = fresh();
    let scratch = Scratch::at(&path, "{}");
    let process = scratch.shell("exec sleep 1000");
    let taken = Cgroup::create(&planned(&path, "{}")).map(drop).map_err(|failed| failed.to_string());
    assert_eq!(taken, Err("container's cgroup is not empty: 1 process(es) found".into()));
    // Nothing of it was removed.
    assert_eq!(scratch.cgroup.processes().expect("a list"), [process.pid()]);
    scratch.cgroup.kill_all().expect("killed");
    drop(process);
    // Empty, it is taken; and what was frozen is not.
    drop(Scratch::at(&path, "{}"));
    let frozen = Scratch::at(&path, "{}");
    frozen.cgroup.freeze().expect("frozen");
    let taken = Cgroup::create(&planned(&path, "{}")).map(drop).map_err(|failed| failed.to_string());
    assert_eq!(taken, Err("container's cgroup unexpectedly frozen".into()));
    frozen.cgroup.thaw().expect("thawed");
}

#[test]
fn root_a_lower_limit_of_an_earlier_life_can_be_raised() {
    needs!(has("memory"), "no memory controller on v1");
    let path = fresh();
    let low = Scratch::at(&path, r#"{"memory":{"limit":33554432,"swap":33554432}}"#);
    let high = Scratch::at(
        &path,
        r#"{"memory":{"limit":67108864,"swap":67108864},"cpu":{"quota":1000,"period":1000}}"#,
    );
    assert_eq!(low.read("memory", "memory.limit_in_bytes"), "67108864");
    assert_eq!(high.read("memory", "memory.memsw.limit_in_bytes"), "67108864");
    let long = Scratch::at(&path, r#"{"cpu":{"quota":500000,"period":1000000}}"#);
    assert_eq!(long.read("cpu", "cpu.cfs_period_us"), "1000000");
}

#[test]
fn root_freezing_stops_and_thawing_lets_go() {
    needs!(is_hybrid(), "not a hybrid host");
    let scratch = Scratch::new("{}");
    let mut process = scratch.shell("n=0; while :; do n=$((n+1)); echo $n; done");
    assert!(!scratch.cgroup.is_frozen().expect("a state"));
    scratch.cgroup.freeze().expect("frozen");
    assert!(scratch.cgroup.is_frozen().expect("a state"));
    assert_eq!(scratch.read("freezer", "freezer.state"), "FROZEN");
    // A group below is frozen through us, not by itself.
    let mut below = scratch.cgroup.paths();
    for group in &mut below.groups {
        group.path.push_str("/below");
        group.ancestors.clear();
        fs::create_dir(Path::new(&group.mount).join(&group.path)).expect("a child");
    }
    assert!(!Cgroup::open(&below).expect("opened").is_frozen().expect("a state"));
    scratch.cgroup.thaw().expect("thawed");
    assert!(!scratch.cgroup.is_frozen().expect("a state"));
    for count in 1..1000 {
        assert_eq!(process.line(), count.to_string());
    }
}

/// Whoever comes first: nobody hangs, nobody is left frozen, and what is said to be frozen is.
#[test]
fn root_freezing_and_thawing_race_and_nobody_hangs() {
    needs!(has("freezer"), "no freezer");
    let scratch = Scratch::new("{}");
    let _forking = scratch.shell("while :; do /bin/true; done");
    scratch.cgroup.freeze().expect("frozen");
    scratch.cgroup.freeze().expect("frozen again");
    scratch.cgroup.thaw().expect("thawed");
    scratch.cgroup.thaw().expect("thawed again");
    let paths = scratch.cgroup.paths();
    let (mut froze, mut thawed) = (0, 0);
    std::thread::scope(|scope| {
        let work = |thaws: bool| {
            let paths = &paths;
            scope.spawn(move || {
                let groups = Cgroup::open(paths).expect("the groups");
                (0..200).filter(|_| if thaws { groups.thaw() } else { groups.freeze() }.is_ok()).count()
            })
        };
        let (one, two, other) = (work(false), work(false), work(true));
        froze = one.join().expect("a freezer") + two.join().expect("a freezer");
        thawed = other.join().expect("a thawer");
    });
    assert_eq!((froze, thawed), (400, 200), "each succeeds, whoever comes between");
    // Killed while it is frozen, removed while somebody freezes.
    scratch.cgroup.freeze().expect("frozen");
    std::thread::scope(|scope| {
        let freezing = scope.spawn(|| {
            let groups = Cgroup::open(&paths).expect("the groups");
            loop {
                match groups.freeze() {
                    Ok(()) => {}
                    Err(failed) => break failed.to_string(),
                }
            }
        });
        let begin = Instant::now();
        scratch.cgroup.kill_all().expect("killed");
        // Who freezes on and on may hold those who die; killing again lets them go.
        while !scratch.cgroup.processes().expect("a list").is_empty() {
            scratch.cgroup.kill_all().expect("killed again");
            assert!(begin.elapsed() < Duration::from_mins(1));
        }
        scratch.cgroup.remove().expect("removed");
        let told = freezing.join().expect("the freezer ends");
        assert!(told.starts_with("freeze: ") && told.contains("no such"), "{told}");
    });
}

#[test]
fn root_the_unified_tree_freezes_by_event() {
    needs!(is_hybrid(), "not a hybrid host");
    let scratch = Scratch::new("{}");
    let _process = scratch.shell("while :; do :; done");
    let mut only = scratch.cgroup.paths();
    only.groups.retain(|group| group.version == Version::V2);
    let only = Cgroup::open(&only).expect("opened");
    only.freeze().expect("frozen");
    let events = fs::read_to_string(scratch.unified().join("cgroup.events")).expect("events");
    assert!(events.contains("frozen 1"), "{events}");
    assert!(only.is_frozen().expect("a state"));
    only.thaw().expect("thawed");
}

/// A shell whose children have children, all the time.
const FORKING: &str = "f() { while :; do (:) & (sleep 0.01 &) ; done; }; f & f & f & f";

#[test]
fn root_all_are_killed_while_they_fork() {
    needs!(is_hybrid(), "not a hybrid host");
    let scratch = Scratch::new(r#"{"pids":{"limit":300}}"#);
    let _process = scratch.shell(FORKING);
    scratch.cgroup.kill_all().expect("killed");
    scratch.cgroup.remove().expect("removed");
    scratch.assert_gone();
}

#[test]
fn root_all_are_killed_one_by_one_without_cgroup_kill() {
    needs!(has("freezer"), "no freezer on v1");
    let scratch = Scratch::new(r#"{"pids":{"limit":300}}"#);
    let process = scratch.shell(FORKING);
    let mut old = scratch.cgroup.paths();
    old.groups.retain(|group| group.version == Version::V1);
    let v1 = Cgroup::open(&old).expect("opened");
    v1.kill_all().expect("killed");
    v1.remove().expect("removed by back-off");
    drop(process);
    // And without any freezer to hold them.
    let scratch = Scratch::new(r#"{"pids":{"limit":100}}"#);
    let _process = scratch.shell("for n in 1 2 3 4 5 6 7 8; do sleep 1000 & done; wait");
    let mut bare = scratch.cgroup.paths();
    bare.groups
        .retain(|group| group.version == Version::V1 && !group.controllers.contains(&"freezer".to_owned()));
    Cgroup::open(&bare).expect("opened").kill_all().expect("killed");
    assert_eq!(scratch.cgroup.processes().expect("a list"), [0; 0]);
}

#[test]
fn root_the_frozen_die_when_killed() {
    needs!(is_hybrid(), "not a hybrid host");
    let scratch = Scratch::new("{}");
    let _process = scratch.shell("while :; do :; done");
    scratch.cgroup.freeze().expect("frozen");
    scratch.cgroup.kill_all().expect("killed");
    scratch.cgroup.remove().expect("removed");
    scratch.assert_gone();
}

#[test]
fn root_removing_waits_for_who_dies_slowly() {
    needs!(is_hybrid(), "not a hybrid host");
    let scratch = Scratch::new("{}");
    let process = scratch.shell("exec sleep 0.3");
    let begin = Instant::now();
    scratch.cgroup.remove().expect("removed");
    assert!(begin.elapsed() >= Duration::from_millis(100), "{:?}", begin.elapsed());
    drop(process);
    scratch.assert_gone();
    // Twice is no error.
    scratch.cgroup.remove().expect("removed already");
}

#[test]
fn root_groups_made_inside_go_too() {
    needs!(is_v1(), "no v1 hierarchy");
    let scratch = Scratch::new("{}");
    for group in &scratch.plan.groups {
        fs::create_dir_all(Path::new(&group.mount).join(&group.path).join("a/b")).expect("children");
    }
    scratch.cgroup.remove().expect("removed");
    scratch.assert_gone();
}

#[test]
fn root_a_record_finds_the_groups_again() {
    needs!(is_v1(), "no v1 hierarchy");
    let scratch = Scratch::new("{}");
    let kept = serde_json::to_string(&scratch.cgroup.paths()).expect("a record");
    let paths: Paths = serde_json::from_str(&kept).expect("a record");
    assert_eq!(paths, scratch.cgroup.paths());
    Cgroup::open(&paths).expect("opened").remove().expect("removed");
    scratch.assert_gone();
}

#[test]
fn root_a_survey_names_what_will_be_made() {
    needs!(is_v1(), "no v1 hierarchy");
    let plan = planned(&fresh(), "{}");
    let before = Paths::survey(&plan).expect("a survey");
    let cgroup = Cgroup::create(&plan).expect("groups");
    assert_eq!(before, cgroup.paths());
    // As after a crash: only the survey is left.
    Cgroup::open(&before).expect("opened").remove().expect("removed");
    Scratch { cgroup, plan }.assert_gone();
}

#[test]
fn root_a_record_cannot_lead_out() {
    needs!(is_v1(), "no v1 hierarchy");
    let mut paths = Paths::survey(&planned(&fresh(), "{}")).expect("a survey");
    for path in ["", "/", "..", "a/../..", "/a", "a//b"] {
        path.clone_into(&mut paths.groups[0].path);
        assert!(Cgroup::open(&paths).is_err(), "{path:?}");
    }
}

#[test]
fn root_a_refused_limit_leaves_nothing_behind() {
    needs!(is_v1(), "no v1 hierarchy");
    let plan = planned(&fresh(), r#"{"cpu":{"cpus":"4095"}}"#);
    let failed =
        Cgroup::create(&plan).map(drop).map_err(|failed| failed.to_string()).expect_err("no such CPU");
    assert!(failed.starts_with("linux.resources.cpu.cpus: write(\""), "{failed}");
    let top = plan.groups[0].path.split('/').next().expect("a part").to_owned();
    for group in &plan.groups {
        assert!(!Path::new(&group.mount).join(&top).exists(), "{}", group.mount);
    }
}

#[test]
fn root_the_kernel_counts_what_it_kills() {
    needs!(has("memory"), "no memory controller on v1"; is_hybrid(), "not a hybrid host");
    let scratch = Scratch::new(r#"{"memory":{"limit":8388608,"swap":8388608}}"#);
    assert_eq!(scratch.cgroup.oom_kills().expect("a count"), 0);
    let mut process = scratch.shell("tail /dev/zero > /dev/null; echo ended");
    assert_eq!(process.line(), "ended");
    assert_eq!(scratch.cgroup.oom_kills().expect("a count"), 1);
}

#[test]
fn root_twenty_at_once_leave_nothing() {
    needs!(is_hybrid(), "not a hybrid host");
    let shared = fresh();
    let shared = shared.strip_suffix("/group").expect("a parent");
    std::thread::scope(|scope| {
        for number in 0..20 {
            scope.spawn(move || {
                for round in 0..5 {
                    let scratch =
                        Scratch::at(&format!("{shared}/{number}-{round}"), r#"{"pids":{"limit":50}}"#);
                    let _process = scratch.shell("sleep 1000 & wait");
                    scratch.cgroup.kill_all().expect("killed");
                    scratch.cgroup.remove().expect("removed");
                }
            });
        }
    });
    for group in planned(shared, "{}").groups {
        let directory = Path::new(&group.mount).join(&group.path);
        // Whoever made the directory above may have gone before the others: then it is left, empty.
        if directory.exists() {
            assert_eq!(
                fs::read_dir(&directory)
                    .expect("a directory")
                    .filter(|entry| { entry.as_ref().is_ok_and(|entry| entry.path().is_dir()) })
                    .count(),
                0
            );
            fs::remove_dir(&directory).expect("empty");
        }
    }
}

/// A plan with one group in the unified tree and a device program, as on a v2 host.
fn guarded(devices: &str) -> CgroupPlan {
    let mut host = host();
    host.hierarchies.clear();
    let path = fresh();
    let document = format!(
        r#"{{"ociVersion":"1.0.2","linux":{{"cgroupsPath":"{path}","resources":{{"devices":{devices}}}}}}}"#
    );
    let spec: spec::Spec = serde_json::from_str(&document).expect("a document");
    compile(&spec, &host, "unused").expect("a plan")
}

#[test]
fn root_a_device_program_guards_a_group() {
    needs!(host().unified.is_some(), "no unified tree");
    // Everything but reading /dev/full: allowed by default, so that the defaults change nothing.
    let all_but =
        r#"[{"allow":true,"access":"rwm"},{"allow":false,"type":"c","major":1,"minor":11,"access":"r"}]"#;
    let only = r#"[{"allow":false,"access":"rwm"}]"#;
    for (rules, kmsg) in [(all_but, "no"), (only, "no"), (r#"[{"allow":true,"access":"rwm"}]"#, "yes")] {
        let plan = guarded(rules);
        let cgroup = Cgroup::create(&plan).expect("a group");
        let scratch = Scratch { cgroup, plan };
        assert!(scratch.cgroup.omitted().is_empty(), "{:?}", scratch.cgroup.omitted());
        let directory = scratch.cgroup.unified_dir().expect("opened").expect("a unified tree");
        assert_eq!(sys::DeviceFilter::attached(directory.as_fd()).expect("a list").len(), 1);
        let mut process = scratch.shell(
            "if (: < /dev/null) ; then echo yes; else echo no; fi;
             if (: < /dev/kmsg) 2> /dev/null; then echo yes; else echo no; fi",
        );
        assert_eq!((process.line(), process.line()), ("yes".into(), kmsg.into()), "{rules}");
    }
}

#[test]
fn root_a_device_program_is_replaced_in_a_later_life() {
    needs!(host().unified.is_some(), "no unified tree");
    let plan = guarded("[]");
    let first = Scratch { cgroup: Cgroup::create(&plan).expect("a group"), plan: plan.clone() };
    let second = Scratch { cgroup: Cgroup::create(&plan).expect("the same group"), plan };
    let directory = second.cgroup.unified_dir().expect("opened").expect("a unified tree");
    assert_eq!(sys::DeviceFilter::attached(directory.as_fd()).expect("a list").len(), 1);
    drop(first);
}

#[test]
fn root_what_the_verifier_says_is_in_the_error() {
    needs!(host().unified.is_some(), "no unified tree");
    let mut plan = guarded("[]");
    let exit_without_answer = vec![0x95];
    plan.groups[0].devices = Some(DeviceProgram {
        default: "deny",
        exceptions: Vec::new(),
        program: exit_without_answer,
        optional: false,
    });
    let failed =
        Cgroup::create(&plan).map(drop).map_err(|failed| failed.to_string()).expect_err("no program");
    assert!(failed.starts_with("linux.resources.devices: the verifier said"), "{failed}");
    assert!(failed.contains("R0 !read_ok"), "{failed}");
    assert!(!Path::new(&plan.groups[0].mount).join(&plan.groups[0].path).exists());
}

/// What a host with the unified tree alone does, on this one's: the group and the files that the kernel lists belong to the
/// user, all others stay root's.
#[test]
fn root_a_group_is_handed_over_with_the_files_that_the_kernel_lists() {
    use std::os::unix::fs::MetadataExt;
    needs!(host().unified.is_some(), "no unified tree");
    let mut plan = planned(&fresh(), "{}");
    plan.groups.retain(|group| group.version == Version::V2);
    for group in &mut plan.groups {
        group.owner = Some(4321);
    }
    let scratch = Scratch { cgroup: Cgroup::create(&plan).expect("groups"), plan };
    let directory = scratch.unified();
    let listed = fs::read_to_string("/sys/kernel/cgroup/delegate").expect("the kernel's list");
    let mut seen = 0;
    for entry in fs::read_dir(&directory).expect("the group") {
        let entry = entry.expect("a file");
        let name = entry.file_name().into_string().expect("text");
        let is_listed = listed.lines().any(|line| line == name);
        seen += usize::from(is_listed);
        let shown = entry.metadata().expect("a file");
        assert_eq!((shown.uid(), shown.gid()), (if is_listed { 4321 } else { 0 }, 0), "{name}");
    }
    assert!(seen >= 3, "cgroup.procs, cgroup.threads and cgroup.subtree_control: {seen}");
    assert_eq!(fs::metadata(&directory).expect("the group").uid(), 4321);
}

/// A limit of processor time is one that the kernel may refuse to take back: a group below may need more by then.
#[test]
fn root_what_cannot_be_taken_back_is_told() {
    needs!(has("cpu") && has("pids"), "no cpu or pids hierarchy");
    let scratch = Scratch::new(r#"{"cpu":{"quota":20000,"period":100000},"pids":{"limit":5}}"#);
    let hierarchies: Vec<_> = scratch
        .plan
        .groups
        .iter()
        .map(|group| plan::Hierarchy { version: group.version, controllers: &group.controllers })
        .collect();
    let asked: spec::Resources =
        serde_json::from_str(r#"{"cpu":{"quota":90000},"pids":{"limit":7}}"#).expect("resources");
    let update = plan::compile_update(&asked, &scratch.plan.limits, &hierarchies).expect("an update");

    let mut change = scratch.cgroup.change();
    change.make(&update).expect("a change");
    assert_eq!(scratch.read("cpu", "cpu.cfs_quota_us"), "90000");
    assert_eq!(change.take_back(), []);
    assert_eq!(scratch.read("cpu", "cpu.cfs_quota_us"), "20000");
    assert_eq!(scratch.read("pids", "pids.max"), "5");

    let mut change = scratch.cgroup.change();
    change.make(&update).expect("a change");
    let below = scratch.directory("cpu").join("below");
    fs::create_dir(&below).expect("a group below");
    fs::write(below.join("cpu.cfs_quota_us"), "80000").expect("a limit below");
    let left = change.take_back();
    assert_eq!(left.len(), 1, "{left:?}");
    let told = left[0].to_string();
    assert!(told.contains("cpu.cfs_quota_us\", \"20000\"): invalid argument"), "{told}");
    // What could be taken back was.
    assert_eq!(scratch.read("pids", "pids.max"), "5");
}

#[test]
fn root_details_are_those_of_the_files() {
    needs!(is_v1(), "no version 1");
    let scratch = Scratch::new(r#"{"memory":{"reservation":33554432,"swappiness":7},"cpu":{"quota":20000}}"#);
    let details = scratch.cgroup.details().expect("details");
    assert_eq!(
        details.cpu,
        Some(fs::read_to_string(scratch.directory("cpu").join("cpu.stat")).expect("cpu.stat"))
    );
    let memory = details.memory.as_ref().expect("memory");
    assert_eq!((memory.soft_limit, memory.numbers["swappiness"]), (33_554_432, 7));
    assert!(memory.numa["total"].by_node.len() == 1 || memory.numa["total"].total == 0, "{:?}", memory.numa);
    assert_eq!(memory.oom_control["oom_kill"], 0);
    let told =
        cgroup::metrics::northstar::statistics(&scratch.cgroup.statistics().expect("statistics"), &details);
    assert_eq!(told["memory"]["memory"]["soft_limit_in_bytes"], 33_554_432);
    let stat = fs::read_to_string(scratch.directory("memory").join("memory.stat")).expect("memory.stat");
    let raw = told["memory"]["memory"]["stat"]["raw"].as_object().expect("an object");
    assert_eq!(raw.len(), stat.lines().count());
}

/// The unified tree by itself, as on a v2 host, as far as a hybrid host has anything in it.
#[test]
fn root_the_unified_tree_counts_and_tells_the_end() {
    needs!(host().unified.is_some(), "no unified tree");
    let scratch = Scratch::new("{}");
    let mut paths: Paths = scratch.cgroup.paths();
    paths.groups.retain(|group| group.version == Version::V2);
    let unified = Cgroup::open(&paths).expect("the group");
    let mut watch = unified.watch().expect("a watch");
    assert!(watch.tells_the_end());
    // Nobody is in it yet.
    assert_eq!(watch.take().expect("no event"), Some(cgroup::Event::Ended));

    let mut process =
        scratch.shell("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done; exec sleep 1000");
    let mut watch = unified.watch().expect("a watch");
    assert_eq!(process.line(), "done");
    assert_eq!(watch.take().expect("no event"), None);
    let used = unified.statistics().expect("statistics");
    assert!(used.cpu.total > 0 && used.cpu.user > 0, "{:?}", used.cpu);
    let shown = fs::read_to_string(scratch.unified().join("cpu.stat")).expect("cpu.stat");
    let now: u64 =
        shown.lines().next().and_then(|line| line.strip_prefix("usage_usec ")).unwrap().parse().unwrap();
    assert!(used.cpu.total <= now * 1000, "{shown}");
    if scratch.unified().join("cpu.pressure").exists() {
        assert!(used.cpu.pressure.and_then(|pressure| pressure.some).is_some(), "{:?}", used.cpu);
    }
    assert_eq!(used.memory.usage, cgroup::statistics::Gauge::default());

    scratch.cgroup.kill_all().expect("killed");
    let limit = rustix::event::Timespec { tv_sec: 10, tv_nsec: 0 };
    while watch.take().expect("an event").is_none() {
        let ready = rustix::event::poll(&mut watch.sources(), Some(&limit)).expect("poll");
        assert!(ready > 0, "nothing in ten seconds");
    }
    scratch.cgroup.remove().expect("removed");
    assert_eq!(watch.take().expect("an event"), Some(cgroup::Event::Ended), "and it stays so");
}

/// Waits for the next event that `wanted` takes, as a caller of poll(2) does.
fn await_event(watch: &mut cgroup::Watch<'_>, wanted: impl Fn(&cgroup::Event) -> bool) -> cgroup::Event {
    let limit = rustix::event::Timespec { tv_sec: 20, tv_nsec: 0 };
    loop {
        while let Some(event) = watch.take().expect("an event") {
            if wanted(&event) {
                return event;
            }
            assert_ne!(event, cgroup::Event::Ended);
        }
        let mut sources = watch.sources();
        let ready = rustix::event::poll(&mut sources, Some(&limit)).expect("poll");
        assert!(ready > 0, "nothing in twenty seconds");
        let answers: Vec<_> = sources.iter().map(rustix::event::PollFd::revents).collect();
        watch.hear(&answers);
    }
}

#[test]
fn root_the_unified_tree_tells_freezing_and_thawing() {
    needs!(host().unified.is_some(), "no unified tree");
    let scratch = Scratch::new("{}");
    let mut paths: Paths = scratch.cgroup.paths();
    paths.groups.retain(|group| group.version == Version::V2);
    let unified = Cgroup::open(&paths).expect("the group");
    let _process = scratch.shell("exec sleep 1000");
    let mut watch = unified.watch_closely().expect("a watch");
    assert_eq!(watch.take().expect("no event"), None);
    for _ in 0..3 {
        unified.freeze().expect("frozen");
        assert_eq!(await_event(&mut watch, |_| true), cgroup::Event::Frozen);
        assert_eq!(watch.take().expect("no event"), None);
        unified.thaw().expect("thawed");
        assert_eq!(await_event(&mut watch, |_| true), cgroup::Event::Thawed);
    }
    unified.kill_all().expect("killed");
    assert_eq!(await_event(&mut watch, |_| true), cgroup::Event::Ended);
}

/// Pages of files come and go at the limit: nobody is killed for that, and everybody waits.
#[test]
fn root_pressure_on_memory_is_told_by_level_and_by_time_lost() {
    needs!(is_hybrid() && has("memory"), "no memory hierarchy beside a unified tree");
    let scratch = Scratch::new(r#"{"memory":{"limit":8388608,"swap":8388608}}"#);
    let file = std::env::temp_dir().join(format!("{}.file", scratch.plan.groups[0].path.replace('/', "-")));
    let mut watch = scratch.cgroup.watch_closely().expect("a watch");
    assert_eq!(watch.take().expect("no event"), Some(cgroup::Event::Ended), "nobody is in it yet");
    let process = scratch.shell(&format!(
        "while :; do dd if=/dev/zero of={0} bs=1M count=64; cat {0}; done > /dev/null 2>&1",
        file.display()
    ));
    let mut watch = scratch.cgroup.watch_closely().expect("a watch");
    let is_level = |event: &cgroup::Event| {
        matches!(event, cgroup::Event::Pressure { strain: Strain::Low | Strain::Medium | Strain::Critical, times }
            if *times > 0)
    };
    await_event(&mut watch, is_level);
    let is_stall = |event: &cgroup::Event| matches!(event, cgroup::Event::Pressure { strain: Strain::Some { total }, .. } if *total >= 300_000);
    if watch.sources().len() > 5 {
        await_event(&mut watch, is_stall);
    }
    scratch.cgroup.kill_all().expect("killed");
    drop(process);
    // Who looks after the removal gets what is left, no signal of the removal for one, and the end.
    scratch.cgroup.remove().expect("removed");
    let begin = Instant::now();
    while watch.take().expect("an event") != Some(cgroup::Event::Ended) {}
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert_eq!(watch.take().expect("an event"), Some(cgroup::Event::Ended));
    fs::remove_file(&file).expect("the file goes");
}

#[test]
fn root_a_removal_is_no_pressure() {
    needs!(is_hybrid() && has("memory"), "no memory hierarchy beside a unified tree");
    let scratch = Scratch::new("{}");
    let mut process = scratch.shell("exit 0");
    let mut watch = scratch.cgroup.watch_closely().expect("a watch");
    process.0.wait().expect("the shell ends");
    scratch.cgroup.remove().expect("removed");
    assert_eq!(watch.take().expect("an event"), Some(cgroup::Event::Ended));
}

/// A watch that comes to look only after the groups are gone still tells what was before.
#[test]
fn root_a_late_watcher_is_told_of_the_memory_that_ran_out() {
    needs!(is_hybrid() && has("memory"), "no memory hierarchy beside a unified tree");
    for (script, expected) in [("tail /dev/zero", true), ("exit 0", false)] {
        let scratch = Scratch::new(r#"{"memory":{"limit":16777216,"swap":16777216}}"#);
        let go = std::env::temp_dir().join(format!("{}.go", scratch.plan.groups[0].path.replace('/', "-")));
        let mut process = scratch.shell(&format!("until [ -e {} ]; do :; done; {script}", go.display()));
        let mut watch = scratch.cgroup.watch().expect("a watch");
        fs::write(&go, "").expect("the word to go");
        process.0.wait().expect("the shell ends");
        fs::remove_file(&go).expect("the word is taken back");
        scratch.cgroup.remove().expect("removed");
        let mut count = 0;
        while watch.take().expect("an event") == Some(cgroup::Event::OutOfMemory) {
            count += 1;
        }
        assert_eq!(count > 0, expected, "{script}: {count}");
        assert_eq!(watch.take().expect("an event"), Some(cgroup::Event::Ended));
    }
}
