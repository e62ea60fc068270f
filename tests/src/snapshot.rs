//! What a host holds that a container could leave behind.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::{Bundle, MARKER, gone_within};

/// A process that is being killed is not left behind; one that still lives after this long is.
const DYING: Duration = Duration::from_secs(3);

/// Mounts, cgroups, devices, BPF programs, processes, state directories and, where nothing else runs in this process,
/// descriptors.
///
/// A BPF program lives as long as a descriptor, a cgroup or a name in a bpffs holds it. The first two go with processes and
/// cgroups; listed apart are the names, and how many programs each cgroup holds that the test did not make.
#[derive(Debug)]
pub struct Snapshot {
    scope: Scope,
    things: BTreeSet<String>,
    processes: BTreeMap<Process, String>,
}

#[derive(Clone, Debug)]
enum Scope {
    /// Only what carries the marker: other tests may run at the same time.
    Marked { marker: String, state: PathBuf },
    /// Everything but what carries the marker of another run of the tests.
    Whole,
}

/// A process by its number and the time of its start, in ticks since boot: a number alone may be used again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Process {
    pid: i32,
    start: u64,
}

impl Snapshot {
    /// What carries the bundle's name.
    pub fn take(bundle: &Bundle) -> Self {
        Self::of(Scope::Marked { marker: bundle.id().to_owned(), state: bundle.state_root() })
    }

    /// The whole host, and this process's own descriptors: for a test that runs alone in its binary.
    pub fn whole() -> Self {
        Self::of(Scope::Whole)
    }

    fn of(scope: Scope) -> Self {
        let processes = processes(&scope);
        let mut things = BTreeSet::new();
        things.extend(mounts(&scope));
        things.extend(cgroups(&scope).into_iter().map(|path| format!("cgroup {}", path.display())));
        things.extend(devices(&scope));
        things.extend(states(&scope));
        if matches!(scope, Scope::Whole) {
            things.extend(programs());
            things.extend(descriptors());
        }
        Self { scope, things, processes }
    }

    /// Everything in it, one line each; processes that are on their way out are waited for and left out.
    pub fn lines(&self) -> Vec<String> {
        let living = self.processes.iter().filter(|(process, _)| !gone_within(process.pid, DYING));
        self.things.iter().cloned().chain(living.map(|(process, told)| line(process, told))).collect()
    }

    /// What is there now and was not, and what was there and is not.
    pub fn changes(&self) -> Vec<String> {
        let now = Self::of(self.scope.clone());
        let mut changes: Vec<_> =
            now.things.difference(&self.things).map(|thing| format!("new: {thing}")).collect();
        changes.extend(self.things.difference(&now.things).map(|thing| format!("gone: {thing}")));
        let new = now.processes.iter().filter(|(process, _)| !self.processes.contains_key(process));
        let living = new.filter(|(process, _)| !gone_within(process.pid, DYING));
        changes.extend(living.map(|(process, told)| format!("new: {}", line(process, told))));
        changes
    }

    /// Fails the test if the host is not as it was.
    #[track_caller]
    pub fn assert_same(&self) {
        let changes = self.changes();
        assert!(changes.is_empty(), "the host is not as it was:\n  {}", changes.join("\n  "));
    }
}

fn line(process: &Process, told: &str) -> String {
    format!("process {} {told}", process.pid)
}

impl Scope {
    fn covers(&self, text: &str) -> bool {
        match self {
            Self::Marked { marker, .. } => text.contains(marker.as_str()),
            Self::Whole => !is_of_another_run(text),
        }
    }
}

/// True if `text` names a bundle that another process made.
fn is_of_another_run(text: &str) -> bool {
    let ours = format!("{}-", std::process::id());
    text.match_indices("cdt-").any(|(at, prefix)| {
        let rest = &text[at + prefix.len()..];
        rest.starts_with(|digit: char| digit.is_ascii_digit()) && !rest.starts_with(&ours)
    })
}

fn mounts(scope: &Scope) -> Vec<String> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").expect("read mountinfo");
    mountinfo.lines().filter(|line| scope.covers(line)).map(|line| format!("mount {line}")).collect()
}

/// Where file systems of the kinds that begin with `kind` are mounted.
fn points(kind: &str) -> Vec<PathBuf> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").expect("read mountinfo");
    let is_it = |line: &&str| line.split_once(" - ").is_some_and(|(_, rest)| rest.starts_with(kind));
    mountinfo.lines().filter(is_it).filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from).collect()
}

/// The directories, and all directories below them.
fn below(dirs: &[PathBuf]) -> Vec<PathBuf> {
    let (mut open, mut found) = (dirs.to_vec(), Vec::new());
    while let Some(dir) = open.pop() {
        // A directory that went away meanwhile was not left behind.
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        let dirs = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        open.extend(dirs.map(|entry| entry.path()));
        found.push(dir);
    }
    found
}

/// The cgroups of all hierarchies, parents before children.
fn cgroups(scope: &Scope) -> Vec<PathBuf> {
    let mut found = below(&points("cgroup"));
    found.retain(|dir| scope.covers(&dir.to_string_lossy()));
    found.sort();
    found
}

/// Loop devices with a file behind them, and device-mapper devices.
fn devices(scope: &Scope) -> Vec<String> {
    let blocks = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let told = blocks.filter_map(|block| {
        let name = block.file_name().to_string_lossy().into_owned();
        let behind = ["loop/backing_file", "dm/name"]
            .iter()
            .find_map(|file| fs::read_to_string(block.path().join(file)).ok())?;
        Some(format!("device {name}: {}", behind.trim_end()))
    });
    told.filter(|device| scope.covers(device)).collect()
}

/// Names of BPF objects, and the device programs of each cgroup of version 2.
fn programs() -> Vec<String> {
    let mut told = Vec::new();
    for dir in below(&points("bpf")) {
        let names = fs::read_dir(&dir).into_iter().flatten().flatten().map(|entry| entry.path());
        told.extend(names.map(|name| format!("BPF object {}", name.display())));
    }
    for dir in below(&points("cgroup2")).into_iter().filter(|dir| Scope::Whole.covers(&dir.to_string_lossy()))
    {
        // A group that went away meanwhile holds nothing.
        let Ok(group) = fs::File::open(&dir) else { continue };
        let count = sys::DeviceFilter::attached(group.as_fd()).expect("ask a cgroup for its programs").len();
        if count > 0 {
            told.push(format!("{count} device programs of {}", dir.display()));
        }
    }
    told
}

fn states(scope: &Scope) -> Vec<String> {
    let roots = match scope {
        Scope::Marked { state, .. } => vec![state.clone()],
        Scope::Whole => {
            ["/run/cofferdam", "/run/cofferdamd", "/run/containerd/cofferdam"].map(PathBuf::from).to_vec()
        }
    };
    let roots = roots.iter().flat_map(|root| [root.clone(), root.join(".sandboxes")]);
    let entries = roots.filter_map(|root| fs::read_dir(root).ok()).flatten().flatten();
    entries
        // What is kept there is no container's, and no sandbox's: see docs/state.md.
        .filter(|entry| entry.file_name() != ".filters" && entry.file_name() != ".sandboxes")
        .map(|entry| format!("state {}", entry.path().display()))
        .filter(|told| scope.covers(told))
        .collect()
}

fn descriptors() -> Vec<String> {
    let entries = fs::read_dir("/proc/self/fd").expect("read our descriptors").flatten();
    // The descriptor that reads the list is in the list, and closed by the time it is looked at.
    entries
        .filter_map(|entry| {
            Some(format!(
                "descriptor {} {}",
                entry.file_name().display(),
                fs::read_link(entry.path()).ok()?.display()
            ))
        })
        .collect()
}

/// The processes that belong to a test, with what is known of each.
fn processes(scope: &Scope) -> BTreeMap<Process, String> {
    let us = i32::try_from(std::process::id()).expect("a process id is an i32");
    let numbers = fs::read_dir("/proc").expect("read /proc").flatten();
    let looks =
        numbers.filter_map(|entry| look_at(entry.file_name().to_str()?.parse().ok()?)).collect::<Vec<_>>();
    let parents: BTreeMap<i32, i32> = looks.iter().map(|look| (look.process.pid, look.parent)).collect();
    let descends = |mut pid: i32| {
        while let Some(parent) = parents.get(&pid) {
            if *parent == us {
                return true;
            }
            pid = *parent;
        }
        false
    };
    let belongs = |look: &Look| match scope {
        Scope::Marked { marker, .. } => look.marks.contains(marker.as_str()),
        Scope::Whole => {
            let ours = look.marks.contains(MARKER) || look.name == "cofferdam" || descends(look.process.pid);
            ours && !is_of_another_run(&look.marks)
        }
    };
    looks
        .into_iter()
        .filter(|look| look.process.pid != us && belongs(look))
        .map(|look| (look.process, format!("({}, state {}) {}", look.name, look.state, look.line)))
        .collect()
}

/// What /proc says of one process.
struct Look {
    process: Process,
    parent: i32,
    name: String,
    state: String,
    line: String,
    /// Its environment, arguments and cgroups: whatever may carry a marker.
    marks: String,
}

/// Reads one process; none if it has gone, or is a kernel thread.
fn look_at(pid: i32) -> Option<Look> {
    let dir = Path::new("/proc").join(pid.to_string());
    let read = |file: &str| Some(String::from_utf8_lossy(&fs::read(dir.join(file)).ok()?).into_owned());
    // The name stands in parentheses and may hold any character: what follows begins after the last one.
    let stat = read("stat")?;
    let (head, tail) = stat.rsplit_once(") ")?;
    let name = head.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = tail.split(' ').collect();
    let parent: i32 = fields.get(1)?.parse().ok()?;
    if pid == 2 || parent == 2 {
        return None;
    }
    let line = read("cmdline")?.replace('\0', " ");
    let marks =
        format!("{} {line} {}", read("environ").unwrap_or_default(), read("cgroup").unwrap_or_default());
    let process = Process { pid, start: fields.get(19)?.parse().ok()? };
    Some(Look {
        process,
        parent,
        name,
        state: (*fields.first()?).to_owned(),
        line: line.trim_end().to_owned(),
        marks,
    })
}

/// Removes whatever carries the bundle's name, so that a test that failed does not disturb the next.
pub(crate) fn sweep(bundle: &Bundle) {
    let scope = Scope::Marked { marker: bundle.id().to_owned(), state: bundle.state_root() };
    let cgroups = cgroups(&scope);
    for dir in &cgroups {
        // A frozen process cannot be killed on version 1. Only one of the two files exists, or none.
        for (file, thaw) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
            if dir.join(file).exists() {
                fs::write(dir.join(file), thaw).expect("thaw a cgroup that was left behind");
            }
        }
    }
    for process in processes(&scope).keys() {
        let pid = Pid::from_raw(process.pid).expect("a process has a number above 0");
        let killed =
            pidfd_open(pid, PidfdFlags::empty()).and_then(|pidfd| pidfd_send_signal(pidfd, Signal::KILL));
        assert!(matches!(killed, Ok(()) | Err(Errno::SRCH)), "kill {pid:?}: {killed:?}");
        assert!(gone_within(process.pid, DYING), "{pid:?} was killed and lives on");
    }
    for dir in cgroups.iter().rev() {
        remove_cgroup(dir);
    }
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").expect("read mountinfo");
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
    let below: Vec<_> = points.filter(|point| Path::new(point).starts_with(bundle.dir())).collect();
    for point in below.iter().rev() {
        unmount(*point, UnmountFlags::DETACH).expect("unmount what was left behind");
    }
}

/// Removes a cgroup. The kernel takes a dead process out of its cgroup a moment after its pidfd tells of its end, and no
/// event says when: EBUSY is tried again, for a second at most.
fn remove_cgroup(dir: &Path) {
    for _ in 0..1000 {
        match fs::remove_dir(dir) {
            Err(error) if error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                panic!("rmdir {}: {error}", dir.display())
            }
            _ => return,
        }
    }
    panic!("rmdir {}: still busy after a second", dir.display());
}
