//! Limits for a virtual machine's monitor, point by point as docs/sandbox-limits.md lists them: on this host, whatever it has,
//! and in the virtual machine with version 2 and systemd. A stand-in has the threads, the memory and the devices of a monitor;
//! qemu itself is there where it is installed.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{PipeWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::trace::{Fate, kill_after};
use tests::{
    AS_GUEST_USER, Bundle, Delegated, GUEST_USER, Groups, Invocation, LIMIT, Lines, Output, Process, Runtime,
    Snapshot, channel, figure, gone_within, needs, until,
};

const STANDIN: &str = env!("CARGO_BIN_EXE_standin");
const M: u64 = 1 << 20;

/// A sandbox of a bundle's name, in groups of that name.
struct Sandbox<'a> {
    bundle: &'a Bundle,
    id: String,
}

/// A monitor in its sandbox, and the line to it.
struct Monitor {
    pid: i32,
    orders: PipeWriter,
    answers: Lines,
}

impl<'a> Sandbox<'a> {
    fn new(bundle: &'a Bundle) -> Self {
        Self { bundle, id: bundle.id().to_owned() }
    }

    fn command(&self, action: &str, words: &[&str]) -> Invocation<'a> {
        let mut all = vec!["sandbox", "limits", action, &self.id];
        all.extend(words);
        Runtime::under_test().command(self.bundle, &all).within(LIMIT * 5)
    }

    fn call(&self, action: &str, words: &[&str]) -> Output {
        self.command(action, words).run()
    }

    /// Has a stand-in born in limits. `words` are flags.
    fn apply(&self, words: &[&str], told: &[&str]) -> Monitor {
        let (orders, stdin) = orders();
        let (mut answers, stdout) = channel();
        let mut all = vec!["--accel", "tcg"];
        all.extend(words);
        all.extend(["--", STANDIN]);
        all.extend(told);
        let output = self.command("apply", &all).stdin(stdin).stdout(stdout).run();
        output.success();
        let mut pid = None;
        // The runtime's own line is a number; the stand-in may have said something before it.
        let mut left = told.len();
        while pid.is_none() || left > 0 {
            let line = answers.next_within(LIMIT).expect("a line");
            match line.parse() {
                Ok(number) => pid = Some(number),
                Err(_) => left -= 1,
            }
        }
        Monitor { pid: pid.expect("a number"), orders, answers }
    }

    fn shown(&self) -> Value {
        let output = self.call("show", &["--format", "json"]);
        serde_json::from_str(&output.success().stdout).expect("show prints JSON")
    }

    /// What happens to it from now on, line by line.
    fn watch(&self) -> (Lines, Process) {
        let (mut lines, stdout) = channel();
        let watch = self.command("watch", &[]).stdout(stdout).spawn();
        assert!(lines.next_within(LIMIT).is_some_and(|line| line.starts_with("watching process ")));
        (lines, watch)
    }

    fn destroy(&self) {
        self.call("destroy", &[]).success();
    }
}

impl Drop for Sandbox<'_> {
    fn drop(&mut self) {
        if self.bundle.state_root().join(".sandboxes").join(&self.id).exists() {
            // What this fails to remove, the bundle will find and report.
            let _: Output = self.call("destroy", &[]);
        }
    }
}

fn orders() -> (PipeWriter, Stdio) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    (writer, reader.into())
}

impl Monitor {
    /// A stand-in that nobody has limited: a child of the test's.
    fn free(told: &[&str], marker: &str) -> (Child, Self) {
        Self::launched_by(&[], told, marker)
    }

    /// The same, by a launcher.
    fn launched_by(launcher: &[&str], told: &[&str], marker: &str) -> (Child, Self) {
        let (orders, stdin) = orders();
        let (mut answers, stdout) = channel();
        let words = [launcher, &[STANDIN], told].concat();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).env(tests::MARKER, marker).stdin(stdin).stdout(stdout);
        let child = command.spawn();
        let child = child.expect("start the stand-in");
        for _ in told {
            answers.next_within(LIMIT).expect("an answer");
        }
        let pid = i32::try_from(child.id()).expect("a number");
        (child, Self { pid, orders, answers })
    }

    /// Tells it to do something; what it says.
    fn told(&mut self, order: &str) -> String {
        self.orders.write_all(format!("{order}\n").as_bytes()).expect("it listens");
        self.answers.next_within(LIMIT).expect("it answers")
    }
}

/// Which groups a thread is in, in the words of /proc.
fn groups_of(pid: i32, tid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/task/{tid}/cgroup")).expect("a thread")
}

fn threads(pid: i32) -> Vec<(i32, String)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("a process").flatten();
    let tids = tasks.filter_map(|task| task.file_name().to_string_lossy().parse().ok());
    let name = |tid: i32| {
        let name = fs::read_to_string(format!("/proc/{pid}/task/{tid}/comm")).expect("a thread");
        (tid, name.trim_end().to_owned())
    };
    tids.map(name).collect()
}

/// The group of a controller, as a thread has it.
fn group_of(pid: i32, tid: i32, controller: &str) -> String {
    let text = groups_of(pid, tid);
    let wanted = if Groups::unified_only() { "" } else { controller };
    let line = text.lines().find_map(|line| {
        let (names, path) = line.split_once(':')?.1.split_once(':')?;
        names.split(',').any(|name| name == wanted).then(|| path.to_owned())
    });
    line.unwrap_or_else(|| panic!("no {controller} in {text}"))
}

/// What a file of the sandbox's own group shows.
fn file_of(monitor: i32, file: &str) -> Option<String> {
    let directory = sandbox_group(monitor, file.split('.').next().expect("a controller"))?;
    Some(fs::read_to_string(directory.join(file)).ok()?.trim().to_owned())
}

/// On version 2 the monitor lives in a leaf of the sandbox's group.
fn sandbox_group(monitor: i32, controller: &str) -> Option<PathBuf> {
    let directory = Groups::of(monitor).directory(controller)?;
    let is_leaf = Groups::unified_only() && directory.file_name().is_some_and(|name| name == "vmm");
    Some(if is_leaf { directory.parent()?.to_owned() } else { directory })
}

/// Every directory of a control group that has this in its name.
fn directories(marker: &str) -> BTreeSet<PathBuf> {
    let (mut open, mut found) = (vec![PathBuf::from("/sys/fs/cgroup")], BTreeSet::new());
    while let Some(directory) = open.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            open.push(entry.path());
        }
        if directory.to_string_lossy().contains(marker) {
            found.insert(directory);
        }
    }
    found
}

#[test]
fn root_point_03_what_is_not_named_is_denied_and_what_is_given_can_be_taken() {
    needs!(Root, Busybox, Groups);
    let bundle = Bundle::new("devices");
    let sandbox = Sandbox::new(&bundle);
    let mut monitor = sandbox.apply(&["--tun"], &["open /dev/null"]);
    let eperm = rustix::io::Errno::PERM.raw_os_error();
    assert_eq!(monitor.told("open /dev/zero"), "open /dev/zero ok");
    assert_eq!(monitor.told("open /dev/net/tun"), "open /dev/net/tun ok");
    let denied = "/dev/kmsg";
    assert_eq!(monitor.told(&format!("open {denied}")), format!("open {denied} {eperm}"));

    sandbox.call("update", &["--device", denied]).success();
    assert_eq!(monitor.told(&format!("open {denied}")), format!("open {denied} ok"));
    // Twice given, it is there until it was taken twice.
    sandbox.call("update", &["--device", denied]).success();
    sandbox.call("update", &["--remove-device", denied]).success();
    assert_eq!(monitor.told(&format!("open {denied}")), format!("open {denied} ok"));
    sandbox.call("update", &["--remove-device", denied]).success();
    assert_eq!(monitor.told(&format!("open {denied}")), format!("open {denied} {eperm}"));
    let refused = sandbox.call("update", &["--remove-device", denied]);
    refused.code(1);
    assert!(refused.stderr.contains("the guest was not given it"), "{refused}");
    // The monitor's own is not the guest's.
    sandbox.call("update", &["--remove-device", "/dev/net/tun"]).code(1);
    assert_eq!(monitor.told("open /dev/net/tun"), "open /dev/net/tun ok");
    assert_eq!(
        monitor.told("open /dev/urandom"),
        "open /dev/urandom ok",
        "what all may use is there all the time"
    );
    sandbox.destroy();
}

/// At no moment is a sandbox without its rules, or without the devices that stay.
#[test]
fn root_point_03_others_devices_stay_as_they_are_while_one_comes_and_goes() {
    needs!(Root, Busybox, Groups);
    let bundle = Bundle::new("steady");
    let sandbox = Sandbox::new(&bundle);
    let mut monitor = sandbox.apply(&[], &["open /dev/null"]);
    let mut updates = 0;
    for (path, is_allowed) in [("/dev/null", true), ("/dev/net/tun", false)] {
        let time = 500 * tests::patience();
        monitor.orders.write_all(format!("tries {time} {path}\n").as_bytes()).expect("it listens");
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(time.into()) {
            sandbox.call("update", &["--device", "/dev/kmsg"]).success();
            sandbox.call("update", &["--remove-device", "/dev/kmsg"]).success();
            updates += 2;
        }
        let told = monitor.answers.next_within(LIMIT).expect("an answer");
        let mut counts = told.split(' ').skip(1).map(|count| count.parse::<u64>().expect("a count"));
        let (opened, refused) = (counts.next().expect("opened"), counts.next().expect("refused"));
        let (right, wrong) = if is_allowed { (opened, refused) } else { (refused, opened) };
        assert!(right > 100 && wrong == 0, "{path}: {told}");
    }
    figure(&format!("{updates} changes of one device, and no other noticed"));
    sandbox.destroy();
}

/// Memory that a process has touched and nobody shares, in bytes.
fn own_memory(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("RssAnon");
    line.trim().strip_suffix(" kB").and_then(|number| number.trim().parse::<u64>().ok()).expect("kilobytes")
        << 10
}

/// The same, as its group was charged.
fn charged(monitor: i32) -> u64 {
    let text = file_of(monitor, "memory.stat").expect("memory.stat");
    // v1 counts for the group alone by `rss`, v2 for all below it by `anon`.
    let word = if Groups::unified_only() { "anon " } else { "rss " };
    text.lines().find_map(|line| line.strip_prefix(word)?.parse().ok()).expect("a figure")
}

#[test]
fn root_point_06_a_monitor_is_born_where_it_is_charged() {
    needs!(Root, Busybox, Groups);
    let bundle = Bundle::new("born");
    let sandbox = Sandbox::new(&bundle);
    let guest = format!("guest {}", 32 * M);
    let monitor = sandbox.apply(&["--memory", "256m"], &[&guest]);
    let (own, charged_to) = (own_memory(monitor.pid), charged(monitor.pid));
    assert!(own > 32 * M, "{own}");
    // The kernel charges in batches: by as much the two may differ for a moment.
    assert!(charged_to + M >= own, "touched {own}, charged {charged_to}: something was touched elsewhere");
    sandbox.destroy();

    // One that is moved has left its memory behind, and that is said.
    let (mut child, moved) = Monitor::free(&[&guest], bundle.id());
    let pid = moved.pid.to_string();
    sandbox.call("apply", &["--accel", "tcg", "--memory", "256m", "--pid", &pid]).success();
    assert!(charged(moved.pid) < 16 * M, "pages are not moved");
    sandbox.destroy();
    child.wait().expect("destroy has ended it");
}

#[test]
fn root_point_06_nobody_is_moved_where_a_child_can_be_born() {
    needs!(Root, Busybox, Groups);
    let bundle = Bundle::new("moves");
    let sandbox = Sandbox::new(&bundle);
    let trace = bundle.dir().join("trace");
    if Runtime::find("strace").is_none() {
        tests::skipped("no strace in PATH (package strace)");
        return;
    }
    let strace = ["strace", "-y", "-e", "trace=write,clone3", "-o", trace.to_str().expect("ASCII")];
    let words = ["--accel", "tcg", "--", STANDIN, "stay"];
    sandbox.command("apply", &words).launched_by(&strace).run().success();
    let text = fs::read_to_string(&trace).expect("a trace");
    let moves: Vec<&str> = text.lines().filter(|line| line.contains("cgroup.procs>")).collect();
    assert!(moves.is_empty(), "somebody was moved: {moves:?}");
    sandbox.destroy();
}

#[test]
fn root_point_07_processors_go_where_the_layout_says() {
    needs!(Root, Busybox, Groups);
    let bundle = Bundle::new("layout");
    let sandbox = Sandbox::new(&bundle);
    let is_v2 = Groups::unified_only();
    let all_in_one = sandbox.apply(&["--cpus", "0"], &["vcpus 2"]);
    for (tid, name) in threads(all_in_one.pid) {
        let group = group_of(all_in_one.pid, tid, "cpuset");
        let leaf = if is_v2 { format!("{}/vmm", bundle.id()) } else { bundle.id().to_owned() };
        assert!(group.ends_with(&leaf), "{name}: {group}");
    }
    sandbox.destroy();

    let mut words =
        vec!["--layout", "overhead-elsewhere", "--cpus", "0", "--cpu-quota", "50000", "--vcpu-count", "2"];
    if is_v2 {
        words.extend(["--vcpus", "threaded"]);
    }
    let mut monitor = sandbox.apply(&words, &["vcpus 2"]);
    let is_processor = |name: &str| name.starts_with("CPU ");
    let look = |monitor: &Monitor| {
        for (tid, name) in threads(monitor.pid) {
            let group = group_of(monitor.pid, tid, "cpu");
            let memory = group_of(monitor.pid, tid, "memory");
            let place = match (is_v2, is_processor(&name)) {
                (true, true) => format!("/{}/vmm/vcpus", bundle.id()),
                (true, false) => format!("/{}/vmm", bundle.id()),
                (false, true) => format!("/{}", bundle.id()),
                (false, false) => format!("/cofferdam-overhead/{}", bundle.id()),
            };
            assert!(group.ends_with(&place), "{name}: {group}, not {place}");
            assert!(is_v2 || memory.ends_with(&format!("/{}", bundle.id())), "{name}: {memory}");
        }
    };
    look(&monitor);
    // Those that come later are placed when they are looked for.
    assert_eq!(monitor.told("vcpus 3"), "vcpus 3");
    sandbox.call("update", &[]).success();
    look(&monitor);
    let shown = sandbox.shown();
    let apart = shown["vcpus"].as_array().expect("processors");
    assert!(apart.len() == 3 && apart.iter().all(|one| one["isApart"] == true), "{shown}");
    sandbox.destroy();

    if is_v2 {
        // Without a threaded group they are together, and that is said.
        let together = sandbox.call(
            "apply",
            &["--accel", "tcg", "--layout", "overhead-elsewhere", "--", STANDIN, "vcpus 1", "stay"],
        );
        together.success();
        assert!(together.stderr.contains("are not apart from their monitor"), "{together}");
        sandbox.destroy();
    }
}

/// The directory of all overheads: the sandbox that made it is not the last one in it.
#[test]
fn root_who_leaves_last_removes_the_directory_of_overheads() {
    needs!(Root, Busybox, Groups);
    let bundles = ["first", "second"].map(Bundle::new);
    let sandboxes = bundles.each_ref().map(Sandbox::new);
    let words = ["--layout", "overhead-elsewhere", "--cpus", "0", "--vcpu-count", "1"];
    let words =
        if Groups::unified_only() { [&words[..], &["--vcpus", "threaded"]].concat() } else { words.to_vec() };
    let _monitors = sandboxes.each_ref().map(|sandbox| sandbox.apply(&words, &["vcpus 1"]));
    sandboxes.iter().for_each(Sandbox::destroy);
    // Other tests may have sandboxes in it.
    let is_empty = |directory: &Path| {
        fs::read_dir(directory).is_ok_and(|all| all.flatten().all(|entry| !entry.path().is_dir()))
    };
    let left = || {
        let all = directories("cofferdam-overhead").into_iter();
        all.filter(|one| one.ends_with("cofferdam-overhead") && is_empty(one)).collect::<Vec<_>>()
    };
    until(|| left().is_empty(), || format!("{:?}", left()));
}

#[test]
fn root_point_07_helpers_have_a_group_and_a_limit_of_their_own() {
    needs!(Root, Busybox, Groups);
    let bundle = Bundle::new("helpers");
    let sandbox = Sandbox::new(&bundle);
    let _monitor = sandbox.apply(&["--helpers", "--memory", "256m", "--helper-memory", "64m"], &[]);
    let born = sandbox.call("helper", &["--", "/bin/sleep", "1000"]);
    let pid: i32 = born.success().stdout.trim().parse().expect("a number");
    let directory = Groups::of(pid).directory("memory").expect("a group");
    assert!(directory.ends_with(format!("{}/overhead", bundle.id())), "{}", directory.display());
    let file = if Groups::unified_only() { "memory.max" } else { "memory.limit_in_bytes" };
    assert_eq!(fs::read_to_string(directory.join(file)).expect("a limit").trim(), (64 * M).to_string());
    let unknown = sandbox.call("helper", &["--", "/nonexistent/virtiofsd"]);
    unknown.code(1);
    assert!(unknown.stderr.contains("/nonexistent/virtiofsd"), "{unknown}");
    // One that takes more than all helpers may: it is the host's to count, and the monitor goes on.
    let large = sandbox.call("helper", &["--", STANDIN, &format!("guest {}", 128 * M), "stay"]);
    let large: i32 = large.success().stdout.trim().parse().expect("a number");
    assert!(gone_within(large, LIMIT), "the helpers' limit was passed");
    let shown = sandbox.shown();
    assert_eq!(
        (&shown["figures"]["killer"], &shown["status"]),
        (&"host".into(), &"running".into()),
        "{shown}"
    );
    sandbox.destroy();
    assert!(gone_within(pid, LIMIT), "helpers end with their sandbox");
}

#[test]
fn root_point_08_the_kernels_limit_is_the_sum_and_less_is_refused() {
    needs!(Root, Busybox, Groups);
    let bundle = Bundle::new("memory");
    let sandbox = Sandbox::new(&bundle);
    let refused = sandbox.call(
        "apply",
        &[
            "--accel",
            "tcg",
            "--guest-memory",
            "64m",
            "--overhead",
            "32m",
            "--memory",
            "80m",
            "--",
            STANDIN,
            "stay",
        ],
    );
    refused.code(1);
    assert!(refused.stderr.contains("less than this sandbox needs: 100663296"), "{refused}");
    assert!(directories(bundle.id()).is_empty(), "nothing was made");

    let told = format!("guest {}", 64 * M);
    let mut monitor = sandbox.apply(&["--guest-memory", "64m", "--overhead", "32m"], &[&told]);
    let file = if Groups::unified_only() { "memory.max" } else { "memory.limit_in_bytes" };
    assert_eq!(file_of(monitor.pid, file), Some((96 * M).to_string()));
    let shown = sandbox.shown();
    let measured = &shown["measured"];
    assert_eq!(measured["guest"].as_u64().map(|bytes| bytes / M), Some(64), "{shown}");
    assert!(measured["overhead"].as_u64().is_some_and(|bytes| bytes > 0 && bytes < 32 * M), "{shown}");

    // More than there may be: the host kills, and that is told apart from what the guest's kernel does.
    assert_eq!(shown["figures"]["killer"], "nobody");
    let guest = bundle.dir().join("guest.json");
    fs::write(&guest, r#"{"memory": 1000, "cpu": 5, "oomKills": 2}"#).expect("write a file");
    let path = guest.to_str().expect("ASCII");
    let in_guest = sandbox.call("show", &["--guest", path, "--format", "json"]);
    let value: Value = serde_json::from_str(&in_guest.success().stdout).expect("JSON");
    assert_eq!(
        (&value["figures"]["killer"], &value["figures"]["guest"]["memory"]),
        (&"guest".into(), &1000.into())
    );
    let host = value["figures"]["host"]["memory"].as_u64().expect("a figure");
    assert_eq!(value["figures"]["memoryOverhead"].as_u64(), Some(host - 1000));

    let (mut heard, watch) = sandbox.watch();
    monitor.orders.write_all(format!("guest {}\n", 200 * M).as_bytes()).expect("it listens");
    assert!(gone_within(monitor.pid, LIMIT), "the limit was passed");
    assert_eq!(heard.next_within(LIMIT).as_deref(), Some("out of memory: the limit on the host was reached"));
    let last = "ended; killed for memory: 1 by the host, at the sandbox's limit";
    assert_eq!(heard.next_within(LIMIT).as_deref(), Some(last));
    watch.wait().success();
    let dead = sandbox.shown();
    assert_eq!((&dead["status"], &dead["figures"]["killer"]), (&"ended".into(), &"host".into()), "{dead}");
    let both = sandbox.call("show", &["--guest", path]);
    assert!(both.success().stdout.contains("by the host, at the sandbox's limit; 2 in the guest"), "{both}");
    sandbox.destroy();
}

#[test]
fn root_point_09_sets_are_united_changed_and_rolled_back() {
    needs!(Root, Busybox, Groups);
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        tests::skipped("one processor");
        return;
    }
    let bundle = Bundle::new("cpus");
    let sandbox = Sandbox::new(&bundle);
    let words = [
        "--cpus",
        "web=0",
        "--cpus",
        "db=1",
        "--cpu-quota",
        "web=20000",
        "--cpu-quota",
        "db=30000/50000",
        "--pin",
        "--vcpu-count",
        "2",
    ];
    let monitor = sandbox.apply(&words, &["vcpus 2"]);
    let is_v2 = Groups::unified_only();
    let quota = |quota: i64| {
        if is_v2 {
            let quota = if quota < 0 { "max".to_owned() } else { quota.to_string() };
            assert_eq!(file_of(monitor.pid, "cpu.max"), Some(format!("{quota} 100000")));
        } else {
            assert_eq!(file_of(monitor.pid, "cpu.cfs_quota_us"), Some(quota.to_string()));
        }
    };
    let cpus = || file_of(monitor.pid, "cpuset.cpus").expect("a set");
    assert_eq!(cpus(), "0-1");
    quota(80_000);
    let allowed = || -> Vec<String> {
        let mut lists: Vec<_> =
            threads(monitor.pid).into_iter().filter(|(_, name)| name.starts_with("CPU ")).collect();
        lists.sort_by(|one, other| one.1.cmp(&other.1));
        let list = |(tid, _): (i32, String)| {
            let text =
                fs::read_to_string(format!("/proc/{}/task/{tid}/status", monitor.pid)).expect("a thread");
            let list = text.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("a list");
            list.trim().to_owned()
        };
        lists.into_iter().map(list).collect()
    };
    assert_eq!(allowed(), ["0", "1"], "as many of the host's as of the guest's: one for each");

    sandbox.call("update", &["--cpus", "db=", "--cpu-quota", "db="]).success();
    assert_eq!(cpus(), "0");
    quota(20_000);
    assert_eq!(allowed(), ["0", "0"], "not as many any more");
    // The second file is refused, and the first is as it was.
    let refused = sandbox.call("update", &["--cpus", "web=0-1", "--mems", "web=77"]);
    refused.code(1);
    assert!(refused.stderr.contains("cpuset.mems"), "{refused}");
    assert_eq!(cpus(), "0");
    quota(20_000);
    assert_eq!(sandbox.shown()["limits"]["cpuset.cpus"], "0");
    let unknown = sandbox.call("update", &["--cpus", "nobody="]);
    unknown.code(1);
    assert!(unknown.stderr.contains("\"nobody\""), "{unknown}");
    // A container without a limit leaves none.
    sandbox.call("update", &["--cpus", "free=0"]).success();
    quota(-1);
    sandbox.destroy();
}

#[test]
fn root_point_10_whoever_may_make_no_groups_is_told_so() {
    needs!(Root, Busybox, Groups);
    let bundle = Bundle::new("rootless");
    let state = bundle.dir().join("state");
    fs::create_dir(&state).expect("make the state root");
    std::os::unix::fs::chown(&state, Some(tests::USER), Some(tests::USER)).expect("give it away");
    let user = tests::USER.to_string();
    let as_user = ["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"];
    let sandbox = Sandbox::new(&bundle);
    let limited = sandbox
        .command("apply", &["--accel", "tcg", "--memory", "64m", "--", STANDIN, "stay"])
        .launched_by(&as_user)
        .run();
    limited.code(1);
    assert!(
        limited
            .stderr
            .contains("the limits of this sandbox: needs control groups, and these the caller may not make"),
        "{limited}"
    );
    assert!(directories(bundle.id()).is_empty());

    let free =
        sandbox.command("apply", &["--accel", "tcg", "--", STANDIN, "stay"]).launched_by(&as_user).run();
    free.success();
    assert!(
        free.stderr.contains("not enforced: there are no groups, as the caller may not make any"),
        "{free}"
    );
    let shown = sandbox.call("show", &[]);
    assert!(shown.success().stdout.contains("not enforced: "), "{shown}");
    sandbox.command("destroy", &[]).launched_by(&as_user).run().success();
    let pid: i32 = free.stdout.trim().parse().expect("a number");
    // Nobody could shut it in, and so nobody can find all that is its: the monitor itself is known.
    assert!(gone_within(pid, LIMIT), "the monitor is ended all the same");
}

#[test]
fn root_point_10_a_delegated_tree_has_the_limits() {
    needs!(Root, Busybox, Groups);
    let bundle = Bundle::new("delegated");
    let state = bundle.dir().join("state");
    fs::create_dir(&state).expect("make the state root");
    std::os::unix::fs::chown(&state, Some(tests::USER), Some(tests::USER)).expect("give it away");
    let tree = format!("{}-tree", bundle.id());
    let delegated = Delegated::to_user(&tree);
    let user = tests::USER.to_string();
    let mut launcher = delegated.launcher();
    launcher.extend(["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"].map(str::to_owned));
    let sandbox = Sandbox::new(&bundle);
    let path = format!("/{tree}/vm");
    let words = ["--accel", "tcg", "--cgroup", &path, "--memory", "64m", "--", STANDIN, "stay"];
    let applied = sandbox.command("apply", &words).launched_by(&launcher).run();
    let pid: i32 = applied.success().stdout.trim().parse().expect("a number");
    let file = if Groups::unified_only() { "memory.max" } else { "memory.limit_in_bytes" };
    assert_eq!(file_of(pid, file), Some((64 * M).to_string()), "{applied}");
    // Rules of devices take root's rights, and that they do not hold is told.
    assert!(applied.stderr.contains("not enforced: "), "{applied}");
    assert!(sandbox.shown()["notEnforced"].as_array().is_some_and(|told| !told.is_empty()));
    sandbox.command("destroy", &[]).launched_by(&launcher).run().success();
    assert!(gone_within(pid, LIMIT));
}

#[test]
fn root_point_11_destroy_ends_all_and_can_be_repeated() {
    needs!(Root, Busybox, Groups);
    let bundle = Bundle::new("destroy");
    let sandbox = Sandbox::new(&bundle);
    let mut monitor = sandbox.apply(&["--helpers"], &["vcpus 2"]);
    let mut pids = vec![monitor.pid];
    for _ in 0..3 {
        let told = monitor.told("fork");
        pids.push(told.trim_start_matches("fork ").parse().expect("a number"));
    }
    // A group that somebody has made below, and somebody in it.
    let inner = sandbox_group(monitor.pid, "pids").expect("a group").join("inner");
    fs::create_dir(&inner).expect("make a group");
    let moved = fs::write(inner.join("cgroup.procs"), pids[1].to_string());
    assert!(moved.is_ok() || Groups::unified_only(), "{moved:?}");
    let record = bundle.state_root().join(".sandboxes").join(bundle.id()).join("state.json");
    let text = fs::read(&record).expect("a record");
    sandbox.destroy();
    for pid in pids {
        assert!(gone_within(pid, LIMIT), "{pid}");
    }
    assert!(directories(bundle.id()).is_empty());
    let again = sandbox.call("destroy", &[]);
    again.code(1);
    assert!(again.stderr.contains("there is no such sandbox"), "{again}");
    // A record whose groups are gone already is no error.
    fs::create_dir(record.parent().expect("a directory")).expect("make it again");
    fs::write(&record, text).expect("write it again");
    sandbox.destroy();
}

#[test]
fn root_point_11_whoever_destroys_from_inside_survives_it() {
    needs!(Root, Busybox, Groups);
    let bundle = Bundle::new("inside");
    let sandbox = Sandbox::new(&bundle);
    let monitor = sandbox.apply(&["--helpers"], &[]);
    let (root, done) = (bundle.state_root(), bundle.dir().join("done"));
    // The shell ends with the sandbox, as it should; the command that it runs steps out, and writes what came of it.
    let script = format!(
        "{} --root {} sandbox limits destroy {} 2>{}; echo $? >>{}",
        Runtime::under_test().program().display(),
        root.display(),
        sandbox.id,
        done.display(),
        done.display()
    );
    let helper = sandbox.call("helper", &["--", "/bin/sh", "-c", &script]);
    let shell: i32 = helper.success().stdout.trim().parse().expect("a number");
    assert!(gone_within(shell, LIMIT) && gone_within(monitor.pid, LIMIT));
    // The command outlives its shell for a moment: the lock tells when it is through.
    let last = sandbox.call("destroy", &[]);
    assert!(last.code == 0 || last.stderr.contains("no such sandbox"), "{last}");
    assert_eq!(fs::read_to_string(&done).expect("what it said"), "", "it complained of nothing");
    assert!(directories(bundle.id()).is_empty());
}

#[test]
fn root_point_12_what_fails_leaves_nothing_and_others_groups_are_theirs() {
    needs!(Root, Busybox, Groups);
    let bundle = Bundle::new("fails");
    let sandbox = Sandbox::new(&bundle);
    let host = Snapshot::take(&bundle);
    let refused = |words: &[&str], told: &str| {
        let mut all = vec!["--accel", "tcg"];
        all.extend(words);
        let output = sandbox.call("apply", &all);
        output.code(1);
        assert!(output.stderr.contains(told), "{words:?}: {output}");
        assert!(output.stderr.trim_end().lines().count() <= 2, "one clear error: {output}");
        host.assert_same();
    };
    refused(&["--", "/nonexistent/vmm"], "execve(\"/nonexistent/vmm\")");
    refused(&["--cpus", "999", "--", STANDIN, "stay"], "cpuset.cpus");
    refused(&["--cgroup", "a.slice:b", "--", STANDIN], "is neither a path nor slice:prefix:name");
    refused(&["--cgroup", "../x", "--", STANDIN], "climbs");
    refused(&["--device", "/dev/nothing-of-that-name", "--", STANDIN], "/dev/nothing-of-that-name");
    refused(&["--disk", "/dev/null", "--", STANDIN], "is no block device");
    refused(&["--vfio", "4000", "--", STANDIN], "/dev/vfio");
    refused(&["--pid", "2147483647"], "there is no such process");
    refused(&["--pin", "--vcpu-count", "2", "--", STANDIN, "die 3"], "ended");
    refused(&["--memory", "1k", "--overhead", "1m", "--", STANDIN], "is less than this sandbox needs");

    // A group of somebody else's at our place: it is his, before and after.
    let (_, theirs) = somebody_elses(bundle.id());
    let taken = sandbox.call("apply", &["--accel", "tcg", "--", STANDIN, "stay"]);
    taken.code(1);
    assert!(taken.stderr.contains("is there already, and is not ours"), "{taken}");
    assert!(theirs.exists(), "others' groups are theirs");
    fs::remove_dir(&theirs).expect("it is empty");
    host.assert_same();

    let first = sandbox.apply(&[], &[]);
    let second = sandbox.call("apply", &["--accel", "tcg", "--", STANDIN, "stay"]);
    second.code(1);
    assert!(second.stderr.contains("there is a sandbox of this id already"), "{second}");
    assert_eq!(sandbox.shown()["pid"].as_i64(), Some(first.pid.into()), "the first is as it was");
    sandbox.destroy();
}

/// A group with this name in one hierarchy, made by somebody else.
fn somebody_elses(name: &str) -> (String, PathBuf) {
    let own = Groups::of(i32::try_from(std::process::id()).expect("a number"));
    let mount = own.directory("pids").expect("a group");
    let base = if Groups::unified_only() { mount.parent().expect("a parent").to_owned() } else { mount };
    let theirs = base.join(name);
    fs::create_dir(&theirs).expect("make a group");
    (name.to_owned(), theirs)
}

#[test]
fn root_point_12_a_monitor_that_ran_before_goes_back_when_it_fails() {
    needs!(Root, Busybox, Groups);
    goes_back(&[]);
}

#[test]
fn vm_point_12_a_monitor_that_ran_before_goes_back_from_a_scope() {
    needs!(Vm);
    goes_back(&["--driver", "systemd"]);
}

fn goes_back(more: &[&str]) {
    let bundle = Bundle::new("back");
    let sandbox = Sandbox::new(&bundle);
    let (mut child, mut monitor) = Monitor::free(&["vcpus 1"], bundle.id());
    let before = groups_of(monitor.pid, monitor.pid);
    let pid = monitor.pid.to_string();
    let words = ["--accel", "tcg", "--pin", "--cpus", "0", "--vcpu-count", "7", "--pid", &pid];
    let failed = sandbox.call("apply", &[&words, more].concat());
    failed.code(1);
    assert!(
        failed.stderr.contains("has 1 threads that are named like a guest's processors, not 7"),
        "{failed}"
    );
    assert_eq!(monitor.told("open /dev/null"), "open /dev/null ok", "it lives");
    assert_eq!(groups_of(monitor.pid, monitor.pid), before, "where it was");
    assert!(directories(bundle.id()).is_empty());
    drop(monitor);
    child.wait().expect("it ends with its input");
}

/// A monitor may die at any moment while it is put into its place: then there is no sandbox, or a whole one of one that ended.
#[test]
fn root_point_12_a_monitor_that_dies_meanwhile_leaves_nothing() {
    needs!(Root, Busybox, Groups);
    let bundle = Bundle::new("dies");
    let sandbox = Sandbox::new(&bundle);
    let host = Snapshot::take(&bundle);
    let is_v2 = Groups::unified_only();
    let mut words = vec!["--accel", "tcg", "--layout", "overhead-elsewhere"];
    if is_v2 {
        words.extend(["--vcpus", "threaded"]);
    }
    let (mut refused, mut whole) = (0, 0);
    for round in 0..40 {
        let (mut child, monitor) = Monitor::free(&["vcpus 2"], bundle.id());
        let pid = monitor.pid.to_string();
        // Every other one waits for a thread that never comes, and so is killed before it is through.
        let count = if round % 2 == 0 { "3" } else { "2" };
        let apply =
            sandbox.command("apply", &[&words[..], &["--vcpu-count", count, "--pid", &pid]].concat()).spawn();
        // Later in each round: the points of an apply are some hundred microseconds apart.
        let begun = Instant::now();
        while begun.elapsed().as_micros() < 500 * round {
            thread::yield_now();
        }
        child.kill().expect("it is a child of ours");
        child.wait().expect("it ends");
        let output = apply.wait();
        if output.code == 0 {
            whole += 1;
            assert_eq!(sandbox.shown()["status"], "ended");
            sandbox.destroy();
        } else {
            refused += 1;
            let is_told = [&format!("process {pid}"), &format!("--pid {pid}")]
                .iter()
                .any(|who| output.stderr.contains(*who));
            assert!(is_told && output.stderr.lines().count() == 1, "one clear error: {output}");
        }
        host.assert_same();
    }
    figure(&format!("{refused} monitors died before they were in their place, {whole} after"));
    assert!(refused >= 20, "{refused}");
}

#[test]
fn root_point_12_the_stale_are_swept_and_nobody_else() {
    needs!(Root, Busybox, Groups);
    let bundle = Bundle::new("sweep");
    let sandbox = Sandbox::new(&bundle);
    let other = Sandbox { bundle: &bundle, id: format!("{}-other", bundle.id()) };
    let running = sandbox.apply(&[], &[]);
    let ended = other.apply(&[], &[]);
    let foreign = somebody_elses(&format!("{}-foreign", bundle.id())).1;
    drop(ended.orders);
    assert!(gone_within(ended.pid, LIMIT));
    let sweep = || Runtime::under_test().command(&bundle, &["sandbox", "limits", "sweep"]).run();
    let swept = sweep();
    assert_eq!(swept.success().stdout, format!("{}\n", other.id), "{swept}");
    assert_eq!(sweep().success().stdout, "", "nothing is left to sweep");
    assert_eq!(sandbox.shown()["pid"].as_i64(), Some(running.pid.into()));
    assert!(foreign.exists(), "what no record names is not ours");
    // A record that is lost: the groups are known by their mark, and nobody in them is ended.
    let record = bundle.state_root().join(".sandboxes").join(&sandbox.id);
    fs::remove_dir_all(&record).expect("lose the record");
    let inhabited = sweep();
    inhabited.code(1);
    assert!(inhabited.stderr.contains(&format!("processes [{}] live in", running.pid)), "{inhabited}");
    drop(running.orders);
    assert!(gone_within(running.pid, LIMIT));
    assert_eq!(sweep().success().stdout, format!("{}\n", sandbox.id));
    let left: BTreeSet<PathBuf> =
        directories(&sandbox.id).into_iter().filter(|path| *path != foreign).collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(foreign.exists());
    fs::remove_dir(&foreign).expect("it is empty");
}

/// Each `apply` sweeps what killed ones have left, and takes nobody's for that who is at work.
#[test]
fn root_point_12_many_at_once_do_not_sweep_each_other() {
    needs!(Root, Busybox, Groups);
    let bundle = Bundle::new("crowd");
    let host = Snapshot::take(&bundle);
    let rounds = if tests::patience() > 1 { 3 } else { 20 };
    let one = &|worker: usize| {
        for round in 0..rounds {
            let sandbox = Sandbox { bundle: &bundle, id: format!("{}-{worker}-{round}", bundle.id()) };
            let words = ["--accel", "tcg", "--memory", "64m", "--", "/bin/sleep", "1000"];
            let applied = sandbox.call("apply", &words);
            let pid = applied.success().stdout.trim();
            assert_eq!(sandbox.shown()["pid"].as_i64(), pid.parse().ok(), "it lives");
            sandbox.destroy();
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..6).map(|worker| scope.spawn(move || one(worker))).collect();
        for worker in workers {
            worker.join().expect("a worker");
        }
    });
    host.assert_same();
}

#[test]
fn root_threads_that_come_and_go_disturb_nobody() {
    needs!(Root, Busybox, Groups);
    let bundle = Bundle::new("churn");
    let sandbox = Sandbox::new(&bundle);
    let mut words = vec!["--layout", "overhead-elsewhere", "--vcpu-count", "2"];
    if Groups::unified_only() {
        words.extend(["--vcpus", "threaded"]);
    }
    let mut monitor = sandbox.apply(&words, &["vcpus 2"]);
    monitor.orders.write_all(b"churn 3000\n").expect("it listens");
    let mut rounds = 0;
    for _ in 0..20 {
        let updated = sandbox.call("update", &[]);
        // A thread is gone as fast as it came: then none is missed; or they come faster than anybody looks, which is told.
        assert!(updated.code == 0 || updated.stderr.contains("as fast as they are placed"), "{updated}");
        rounds += 1;
    }
    assert_eq!(monitor.answers.next_within(LIMIT * 2).as_deref(), Some("churned 3000"));
    sandbox.call("update", &[]).success();
    figure(&format!("{rounds} updates while 3000 threads came and went"));
    let shown = sandbox.shown();
    assert_eq!(shown["vcpus"].as_array().map(Vec::len), Some(2), "{shown}");
    sandbox.destroy();
}

#[test]
fn root_200_are_made_and_destroyed_without_a_leak() {
    needs!(Root, Busybox, Groups);
    make_many(if tests::patience() > 1 { 60 } else { 200 }, &[]);
}

/// As many as are asked for, one after the other; every other one has a group for helpers.
fn make_many(rounds: u32, more: &[&str]) {
    let bundle = Bundle::new("many");
    let sandbox = Sandbox::new(&bundle);
    let host = Snapshot::take(&bundle);
    let begun = Instant::now();
    for round in 0..rounds {
        let helpers = if round % 2 == 0 { &["--helpers"][..] } else { &[] };
        let words = ["--accel", "tcg", "--memory", "64m"];
        let words = [&words, helpers, more, &["--", "/bin/sleep", "1000"]].concat();
        sandbox.call("apply", &words).success();
        sandbox.destroy();
    }
    figure(&format!("{rounds} sandboxes in {} ms each", (begun.elapsed() / rounds).as_millis()));
    host.assert_same();
}

const QEMU: &str = "qemu-system-x86_64";

/// qemu's command line for a bare machine that stands still, with so many processors and 64 MiB that are touched from the start.
/// It listens to its standard input, and ends with it.
fn qemu(name: &str, accel: &str, processors: &str) -> Vec<String> {
    let name = format!("{name},debug-threads=on");
    let words = [
        QEMU,
        "-name",
        &name,
        "-accel",
        accel,
        "-smp",
        processors,
        "-m",
        "64",
        "-S",
        "-qmp",
        "stdio",
        "-object",
        "memory-backend-ram,id=ram,size=64M,prealloc=on",
        "-machine",
        "pc,memory-backend=ram",
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
    ];
    words.map(str::to_owned).to_vec()
}

fn has_qemu() -> bool {
    let has = Runtime::find(QEMU).is_some();
    if !has {
        tests::skipped("no qemu-system-x86_64 in PATH (package qemu-system-x86)");
    }
    has
}

impl Sandbox<'_> {
    /// Has a qemu born in limits.
    fn apply_qemu(&self, words: &[&str], qemu: &[String]) -> Monitor {
        let (orders, stdin) = orders();
        let (mut answers, stdout) = channel();
        let mut all = words.to_vec();
        all.push("--");
        all.extend(qemu.iter().map(String::as_str));
        self.command("apply", &all).stdin(stdin).stdout(stdout).run().success();
        // The number is the runtime's, and the greeting is qemu's.
        let lines = [(); 2].map(|()| answers.next_within(LIMIT * 5).expect("a line"));
        let pid = lines.iter().find_map(|line| line.parse().ok()).expect("a number");
        let mut monitor = Monitor { pid, orders, answers };
        assert!(monitor.told(r#"{"execute": "qmp_capabilities"}"#).contains("return"));
        monitor
    }
}

#[test]
fn root_qemu_lives_in_its_limits() {
    needs!(Root, Busybox, Groups);
    if !has_qemu() {
        return;
    }
    let bundle = Bundle::new("qemu");
    let sandbox = Sandbox::new(&bundle);
    let is_v2 = Groups::unified_only();
    let mut words =
        vec!["--accel", "tcg", "--layout", "overhead-elsewhere", "--cpus", "0", "--vcpu-count", "2"];
    if is_v2 {
        words.extend(["--vcpus", "threaded"]);
    }
    words.extend(["--guest-memory", "64m", "--overhead", "192m"]);
    let mut monitor = sandbox.apply_qemu(&words, &qemu(bundle.id(), "tcg,thread=multi", "2"));
    let pid = monitor.pid;
    let shown = sandbox.shown();
    let vcpus = shown["vcpus"].as_array().expect("processors");
    assert!(vcpus.len() == 2 && vcpus.iter().all(|one| one["isApart"] == true), "{shown}");
    let all = threads(pid);
    for (tid, name) in &all {
        let group = group_of(pid, *tid, "cpu");
        let place = match (is_v2, name.starts_with("CPU ")) {
            (true, true) => format!("{}/vmm/vcpus", bundle.id()),
            (true, false) => format!("{}/vmm", bundle.id()),
            (false, true) => format!("/{}", bundle.id()),
            (false, false) => format!("/cofferdam-overhead/{}", bundle.id()),
        };
        assert!(group.ends_with(&place), "{name}: {group}");
    }
    assert!(all.len() > 2, "some of qemu's threads are not the guest's: {all:?}");

    // All that it has touched is in its sandbox's account, the guest's memory first of all.
    let (own, charged_to) = (own_memory(pid), charged(pid));
    assert!(own >= 64 * M && charged_to + M >= own, "touched {own}, charged {charged_to}");
    assert_eq!(shown["measured"]["guest"].as_u64(), Some(64 * M), "{shown}");
    let overhead = shown["measured"]["overhead"].as_u64().expect("it was measured");
    figure(&format!("qemu's overhead beside 64 MiB of a guest that stands still: {} MiB", overhead / M));
    assert!(overhead > M && overhead < 192 * M, "{shown}");
    let file = if is_v2 { "memory.max" } else { "memory.limit_in_bytes" };
    assert_eq!(shown["limits"][file], (256 * M).to_string());
    assert_eq!(shown["figures"]["killer"], "nobody");

    // More memory for the guest than there may be: the host kills.
    let (mut heard, watch) = sandbox.watch();
    let more = r#"{"execute": "object-add", "arguments":
        {"qom-type": "memory-backend-ram", "id": "more", "size": 536870912, "prealloc": true}}"#;
    monitor.orders.write_all(more.replace('\n', "").as_bytes()).expect("it listens");
    assert!(gone_within(pid, LIMIT), "the limit was passed");
    assert!(heard.next_within(LIMIT).is_some_and(|line| line.starts_with("out of memory")));
    watch.wait().success();
    let dead = sandbox.shown();
    assert_eq!((&dead["status"], &dead["figures"]["killer"]), (&"ended".into(), &"host".into()), "{dead}");
    sandbox.destroy();
    assert!(directories(bundle.id()).is_empty());
}

#[test]
fn root_qemu_that_runs_already_is_measured_and_pinned() {
    needs!(Root, Busybox, Groups);
    if !has_qemu() {
        return;
    }
    let bundle = Bundle::new("runs");
    let sandbox = Sandbox::new(&bundle);
    let (orders, stdin) = orders();
    let (mut answers, stdout) = channel();
    let words = qemu(bundle.id(), "tcg", "1");
    let mut child = Command::new(QEMU)
        .args(&words[1..])
        .env(tests::MARKER, bundle.id())
        .stdin(stdin)
        .stdout(stdout)
        .spawn()
        .expect("start qemu");
    assert!(answers.next_within(LIMIT * 5).is_some_and(|line| line.contains("QMP")), "it is up");
    let pid = child.id().to_string();
    let guess = sandbox.call("apply", &["--accel", "tcg", "--guest-memory", "1g", "--pid", &pid]);
    guess.code(1);
    assert!(guess.stderr.contains("has no memory yet that is as large as its guest's"), "{guess}");
    let words = [
        "--accel",
        "tcg",
        "--guest-memory",
        "64m",
        "--pin",
        "--cpus",
        "0",
        "--vcpu-count",
        "1",
        "--pid",
        &pid,
    ];
    sandbox.call("apply", &words).success();
    let shown = sandbox.shown();
    let file = if Groups::unified_only() { "memory.max" } else { "memory.limit_in_bytes" };
    let limit: u64 = shown["limits"][file].as_str().and_then(|limit| limit.parse().ok()).expect("a limit");
    assert!(limit > 64 * M && limit < 256 * M, "the guest's and what was measured: {limit}");
    let (tid, _) = threads(child.id().try_into().expect("a number"))
        .into_iter()
        .find(|(_, name)| name == "CPU 0/TCG")
        .expect("a processor");
    let status = fs::read_to_string(format!("/proc/{pid}/task/{tid}/status")).expect("a thread");
    assert!(status.contains("Cpus_allowed_list:\t0\n"), "{status}");
    sandbox.destroy();
    child.wait().expect("destroy has ended it");
    drop(orders);
}

#[test]
fn root_qemu_is_denied_what_its_sandbox_does_not_need() {
    needs!(Root, Busybox, Groups);
    if !has_qemu() {
        return;
    }
    if fs::File::open("/dev/kvm").is_err() {
        tests::skipped("no /dev/kvm, which qemu would be denied");
        return;
    }
    let bundle = Bundle::new("denied");
    let sandbox = Sandbox::new(&bundle);
    let mut words = vec!["--accel", "tcg", "--pin", "--vcpu-count", "1", "--"];
    let qemu = qemu(bundle.id(), "kvm", "1");
    words.extend(qemu.iter().map(String::as_str));
    let output = sandbox.call("apply", &words);
    output.code(1);
    assert!(
        output.stderr.contains("Could not access KVM kernel module: Operation not permitted"),
        "{output}"
    );
    assert!(output.stderr.contains("ended at once"), "{output}");
    assert!(directories(bundle.id()).is_empty());
}

/// A command on a sandbox, and what was there before.
struct Victim {
    told: &'static str,
    action: &'static str,
    words: &'static [&'static str],
    before: fn(&Sandbox<'_>),
}

#[test]
fn root_point_12_a_command_killed_at_any_point_leaves_nothing() {
    needs!(Root, Busybox, Groups);
    let apply: &[&str] =
        &["--accel", "tcg", "--helpers", "--memory", "64m", "--cpus", "0", "--", "/bin/sleep", "1000"];
    let made = |sandbox: &Sandbox<'_>| {
        sandbox.call("apply", &["--accel", "tcg", "--helpers", "--", "/bin/sleep", "1000"]).success();
    };
    let victims = [
        Victim { told: "apply", action: "apply", words: apply, before: |_| {} },
        Victim { told: "destroy", action: "destroy", words: &[], before: made },
        Victim {
            told: "update",
            action: "update",
            words: &["--device", "/dev/kmsg", "--cpus", "0"],
            before: made,
        },
    ];
    let reports = victims.each_ref().map(|victim| {
        // Two workers share the points of a command.
        let (next, ended) = (AtomicUsize::new(0), AtomicBool::new(false));
        let work = || points_of(victim, &next, &ended);
        thread::scope(|scope| {
            let workers = [scope.spawn(work), scope.spawn(work)];
            workers.into_iter().map(|worker| worker.join().expect("a worker")).sum::<usize>()
        })
    });
    for (victim, points) in victims.iter().zip(reports) {
        figure(&format!("{}: {points} points", victim.told));
        // In the virtual machine every seventh is one, and a release build has fewer calls.
        assert!(points > 5, "{}: only {points} points", victim.told);
    }
    figure(&format!(
        "{} points at which a command about sandboxes was killed",
        reports.iter().sum::<usize>()
    ));
}

/// Kills a command at one point after the other, and looks what `destroy` has left each time.
fn points_of(victim: &Victim, next: &AtomicUsize, ended: &AtomicBool) -> usize {
    let bundle = Bundle::new("point").may_leave();
    let sandbox = Sandbox::new(&bundle);
    let host = Snapshot::take(&bundle);
    // A machine that is computed is given a part of the points; of the same size each, as commands differ in their calls.
    let step = if tests::patience() > 1 { 7 } else { 1 };
    let mut points = 0;
    while !ended.load(Ordering::Relaxed) {
        let count = next.fetch_add(step, Ordering::Relaxed);
        (victim.before)(&sandbox);
        let fate = kill_after(sandbox.command(victim.action, victim.words), count);
        let destroyed = sandbox.call("destroy", &[]);
        let left = host.changes();
        let is_gone = destroyed.code == 0 || destroyed.stderr.contains("no such sandbox");
        assert!(
            is_gone && left.is_empty(),
            "{} killed after {count} calls ({fate:?}): {destroyed}\n  {}",
            victim.told,
            left.join("\n  ")
        );
        match fate {
            Fate::Killed { .. } => points += 1,
            Fate::Ended { code, .. } => {
                assert_eq!(code, 0, "{}, not killed: {destroyed}", victim.told);
                ended.store(true, Ordering::Relaxed);
            }
        }
    }
    points
}

/// A monitor that ran before is not ended by an `apply` that was killed before it was through.
#[test]
fn root_point_12_a_monitor_that_ran_before_survives_a_killed_apply() {
    needs!(Root, Busybox, Groups);
    let bundle = Bundle::new("survives").may_leave();
    let sandbox = Sandbox::new(&bundle);
    let host = Snapshot::take(&bundle);
    let (mut put_back, mut ended) = (0, 0);
    for count in (0..).step_by(7) {
        let (mut child, mut monitor) = Monitor::free(&[], bundle.id());
        let before = groups_of(monitor.pid, monitor.pid);
        let pid = monitor.pid.to_string();
        let words = ["--accel", "tcg", "--memory", "64m", "--pid", &pid];
        let fate = kill_after(sandbox.command("apply", &words), count);
        // The next one to come sweeps what was left, whoever it is for.
        let other = Sandbox { bundle: &bundle, id: format!("{}-other", sandbox.id) };
        other.call("apply", &["--accel", "tcg", "--", "/bin/sleep", "1000"]).success();
        other.destroy();
        let is_there = bundle.state_root().join(".sandboxes").join(&sandbox.id).exists();
        if is_there {
            ended += 1;
            sandbox.destroy();
        } else {
            put_back += 1;
            assert_eq!(monitor.told("open /dev/null"), "open /dev/null ok", "{count}: it lives");
            assert_eq!(groups_of(monitor.pid, monitor.pid), before, "{count}: where it was");
        }
        drop(monitor);
        child.wait().expect("it ends");
        let left = host.changes();
        assert!(left.is_empty(), "{count}: {}", left.join("\n"));
        if let Fate::Ended { code, .. } = fate {
            assert_eq!((code, is_there), (0, true));
            break;
        }
    }
    figure(&format!("{put_back} monitors put back, {ended} ended with their whole sandbox"));
    assert!(put_back > 10 && ended > 0, "{put_back} put back, {ended} ended");
}

fn systemctl(words: &[&str]) -> String {
    let output = Command::new("systemctl").args(words).output().expect("run systemctl");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn property(unit: &str, name: &str) -> String {
    systemctl(&["show", "--property", name, "--value", unit])
}

#[test]
fn vm_point_05_a_scope_is_waited_for_checked_and_forgotten() {
    needs!(Vm);
    let bundle = Bundle::new("scope");
    let sandbox = Sandbox::new(&bundle);
    let slice = format!("{}.slice", bundle.id().replace('-', ""));
    let path = format!("{slice}:vm:{}", bundle.id());
    let unit = format!("vm-{}.scope", bundle.id());
    let told = format!("guest {}", 16 * M);
    let words = [
        "--cgroup",
        &path,
        "--memory",
        "256m",
        "--cpus",
        "0",
        "--cpu-quota",
        "50000",
        "--vcpus",
        "threaded",
        "--vcpu-count",
        "2",
    ];
    let mut monitor = sandbox.apply(&words, &["vcpus 2", &told]);
    let group = format!("/{slice}/{unit}");
    assert_eq!(property(&unit, "ControlGroup"), group);
    assert_eq!(property(&unit, "Delegate"), "yes");
    assert_eq!(property(&unit, "MemoryMax"), (256 * M).to_string());
    assert_eq!(property(&unit, "AllowedCPUs"), "0");
    assert_eq!(group_of(monitor.pid, monitor.pid, ""), format!("{group}/vmm"));
    for (tid, name) in threads(monitor.pid) {
        let place = if name.starts_with("CPU ") { "/vmm/vcpus" } else { "/vmm" };
        assert_eq!(group_of(monitor.pid, tid, ""), format!("{group}{place}"), "{name}");
    }
    assert_eq!(file_of(monitor.pid, "memory.max"), Some((256 * M).to_string()));
    assert!(charged(monitor.pid) + M >= own_memory(monitor.pid), "born there");
    // Both programs decide about devices, systemd's and ours, and both follow.
    let eperm = rustix::io::Errno::PERM.raw_os_error();
    assert_eq!(monitor.told("open /dev/kmsg"), format!("open /dev/kmsg {eperm}"));
    sandbox.call("update", &["--device", "/dev/kmsg"]).success();
    assert_eq!(monitor.told("open /dev/kmsg"), "open /dev/kmsg ok");
    systemctl(&["daemon-reload"]);
    assert_eq!(monitor.told("open /dev/kmsg"), "open /dev/kmsg ok");
    sandbox
        .call("update", &["--remove-device", "/dev/kmsg", "--cpus", "guest=0-1", "--cpu-quota", "guest="])
        .success();
    assert_eq!(monitor.told("open /dev/kmsg"), format!("open /dev/kmsg {eperm}"));
    assert_eq!(
        (property(&unit, "AllowedCPUs"), file_of(monitor.pid, "cpuset.cpus")),
        ("0-1".into(), Some("0-1".into()))
    );
    assert_eq!(
        (property(&unit, "CPUQuotaPerSecUSec"), file_of(monitor.pid, "cpu.max")),
        ("infinity".into(), Some("max 100000".into()))
    );
    sandbox.destroy();
    let left = systemctl(&["list-units", "--all", "--full", "--plain", "--no-legend"]);
    assert!(!left.lines().any(|line| line.contains(&unit)), "{left}");
}

#[test]
fn vm_scopes_come_and_go_without_a_leak() {
    needs!(Vm);
    make_many(20, &["--driver", "systemd"]);
    let left =
        systemctl(&["list-units", "--all", "--full", "--plain", "--no-legend", "cofferdam-*-many.scope"]);
    assert_eq!(left, "");
}

#[test]
fn vm_point_05_a_unit_of_another_is_left_alone() {
    needs!(Vm);
    let bundle = Bundle::new("strange");
    let sandbox = Sandbox::new(&bundle);
    let unit = format!("vm-{}.scope", bundle.id());
    let mut theirs = Command::new("systemd-run")
        .args(["--scope", "--unit", &unit, "sleep", "1000"])
        .env(tests::MARKER, bundle.id())
        .stderr(Stdio::null())
        .spawn()
        .expect("start a scope");
    let mut is_there = false;
    for _ in 0..200 {
        is_there |= property(&unit, "ActiveState") == "active";
        if is_there {
            break;
        }
    }
    assert!(is_there, "their scope is there");
    let path = format!(":vm:{}", bundle.id());
    let refused = sandbox.call("apply", &["--accel", "tcg", "--cgroup", &path, "--", STANDIN, "stay"]);
    refused.code(1);
    assert!(refused.stderr.contains("is not ours"), "{refused}");
    assert_eq!(property(&unit, "ActiveState"), "active", "theirs goes on");
    assert!(theirs.try_wait().expect("their process").is_none());
    systemctl(&["stop", &unit]);
    theirs.wait().expect("it was stopped");
}

#[test]
fn vm_point_12_a_command_on_a_scope_killed_at_any_point_leaves_nothing() {
    needs!(Vm);
    let mut points = 0;
    let mut failures = Vec::new();
    // Every seventh point: a scope takes its time here.
    for count in (0..).step_by(7) {
        let bundle = Bundle::new("unit-point").may_leave();
        let sandbox = Sandbox::new(&bundle);
        let host = Snapshot::take(&bundle);
        let path = format!(":vm:{}", bundle.id());
        let words = ["--accel", "tcg", "--cgroup", &path, "--memory", "64m", "--", "/bin/sleep", "1000"];
        let fate = kill_after(sandbox.command("apply", &words), count);
        let destroyed = sandbox.call("destroy", &[]);
        let left = host.changes();
        let units = systemctl(&["list-units", "--all", "--full", "--plain", "--no-legend"]);
        let is_gone = destroyed.code == 0 || destroyed.stderr.contains("no such sandbox");
        if !is_gone || !left.is_empty() || units.contains(bundle.id()) {
            failures.push(format!(
                "killed after {count} calls ({fate:?}): {destroyed}\n  {}\n{units}",
                left.join("\n  ")
            ));
        }
        assert!(failures.len() < 3, "{}", failures.join("\n"));
        match fate {
            Fate::Killed { .. } => points += 1,
            Fate::Ended { code, .. } => {
                assert_eq!(code, 0, "{destroyed}");
                break;
            }
        }
    }
    figure(&format!("apply as a scope: {points} points"));
    assert!(points > 10 && failures.is_empty(), "{points} points: {}", failures.join("\n"));
}

#[test]
fn vm_point_10_a_user_has_limits_in_a_scope_of_his_own() {
    needs!(Vm);
    let bundle = Bundle::new("user");
    let state = bundle.dir().join("state");
    fs::create_dir(&state).expect("make the state root");
    std::os::unix::fs::chown(&state, Some(GUEST_USER), Some(GUEST_USER)).expect("give it away");
    let sandbox = Sandbox::new(&bundle);
    let path = format!(":vm:{}", bundle.id());
    let words = ["--accel", "tcg", "--cgroup", &path, "--memory", "64m", "--", STANDIN, "stay"];
    let applied = sandbox.command("apply", &words).launched_by(&AS_GUEST_USER).run();
    let pid: i32 = applied.success().stdout.trim().parse().expect("a number");
    assert_eq!(file_of(pid, "memory.max"), Some((64 * M).to_string()), "{applied}");
    assert!(applied.stderr.contains("not enforced: "), "device programs take root: {applied}");
    // Devices that were asked for by name are not passed over.
    let other = Sandbox { bundle: &bundle, id: format!("{}-2", bundle.id()) };
    let path = format!(":vm:{}", other.id);
    let words = ["--accel", "tcg", "--cgroup", &path, "--device", "/dev/null", "--", STANDIN, "stay"];
    other.command("apply", &words).launched_by(&AS_GUEST_USER).run().code(1);
    sandbox.command("destroy", &[]).launched_by(&AS_GUEST_USER).run().success();
    assert!(gone_within(pid, LIMIT));

    // One of his that runs elsewhere already: his manager moves it, which he may not.
    let (mut child, theirs) = Monitor::launched_by(&AS_GUEST_USER[2..], &["open /dev/null"], bundle.id());
    let pid = theirs.pid.to_string();
    let path = format!(":vm:{}", bundle.id());
    let words = ["--accel", "tcg", "--cgroup", &path, "--memory", "64m", "--pid", &pid];
    sandbox.command("apply", &words).launched_by(&AS_GUEST_USER).run().success();
    assert!(group_of(theirs.pid, theirs.pid, "").ends_with(&format!("/vm-{}.scope/vmm", bundle.id())));
    sandbox.command("destroy", &[]).launched_by(&AS_GUEST_USER).run().success();
    child.wait().expect("destroy has ended it");
    assert!(directories(bundle.id()).is_empty());
}
