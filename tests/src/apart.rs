//! A mount namespace of a test's own, with a /run that is nobody else's.
//!
//! containerd and its shims keep sockets, FIFOs and state at fixed places below /run/containerd. Here they are the test's
//! alone: what is left there in the end was left by it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::runtime::Process;
use crate::{Bundle, LIMIT, Runtime, channel, patience};

/// Runs with the bundle's directory for `$1`. What containers ask of systemd they ask of the host's.
const FURNISH: &str = r#"
set -e
mkdir "$1/run"
mount --rbind /run "$1/run"
mount -t tmpfs -o mode=755 run /run
for kept in systemd dbus; do
    [ -d "$1/run/$kept" ] || continue
    mkdir "/run/$kept"
    mount --rbind "$1/run/$kept" "/run/$kept"
done
umount --lazy "$1/run"
rmdir "$1/run"
mkdir /run/containerd
[ -z "$2" ] || echo "$2" > /proc/sys/kernel/pid_max
echo ready
exec sleep infinity
"#;

/// The namespace, as long as this value.
#[derive(Debug)]
pub struct Apart {
    /// Its end is the namespace's.
    _keeper: Process,
    /// Which process, as the host counts, has the namespaces.
    inside: i32,
    mounts: BTreeSet<String>,
    owns_pids: bool,
}

impl Apart {
    /// Makes it. Its mounts are nobody else's.
    pub fn of(bundle: &Bundle) -> Self {
        Self::furnished(bundle, &["--mount", "--propagation", "private"], "")
    }

    /// The same with a pid namespace of its own, in which so few numbers go round. Its pids are not the host's.
    pub fn with_few_pids(bundle: &Bundle, few: u32) -> Self {
        let own = ["--mount", "--propagation", "private", "--pid", "--fork", "--mount-proc", "--kill-child"];
        Self::furnished(bundle, &own, &few.to_string())
    }

    fn furnished(bundle: &Bundle, own: &[&str], few: &str) -> Self {
        let launcher = [&["unshare"], own].concat();
        let dir = bundle.dir().display().to_string();
        let (mut lines, stdout) = channel();
        let keeper = Runtime::at(Path::new("/bin/sh"))
            .command(bundle, &["-c", FURNISH, "sh", &dir, few])
            .without_globals()
            .launched_by(&launcher)
            .stdout(stdout)
            .spawn();
        let ready = lines.next_within(LIMIT * patience());
        assert_eq!(ready.as_deref(), Some("ready"), "{}", keeper.complaint());
        let inside = if few.is_empty() { keeper.pid() } else { only_child(keeper.pid()) };
        let mut apart = Self { _keeper: keeper, inside, mounts: BTreeSet::new(), owns_pids: !few.is_empty() };
        apart.mounts = apart.mounted();
        apart
    }

    /// Runs the command line appended to it in here, in this directory.
    pub fn launcher(&self, dir: &Path) -> Vec<String> {
        let mut line = vec!["nsenter".to_owned(), format!("--mount=/proc/{}/ns/mnt", self.inside)];
        if self.owns_pids {
            line.push(format!("--pid=/proc/{}/ns/pid", self.inside));
        }
        line.extend(["env".into(), format!("--chdir={}", dir.display())]);
        if self.owns_pids {
            // So that whoever runs has a parent that it can see.
            line.extend(["sh", "-c", r#""$@"; exit $?"#, "sh"].map(str::to_owned));
        }
        line
    }

    /// Whether its pids are not the host's.
    pub fn owns_pids(&self) -> bool {
        self.owns_pids
    }

    /// How the test itself reaches a path in here.
    pub fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        let below = inside.as_ref().strip_prefix("/").expect("an absolute path").to_owned();
        Path::new("/proc").join(self.inside.to_string()).join("root").join(below)
    }

    /// Mounts that came since it was made, and all that lies below /run/containerd besides directories.
    pub fn left(&self) -> Vec<String> {
        let mounts = self.mounted();
        let mut left: Vec<String> =
            mounts.difference(&self.mounts).map(|mount| format!("mount {mount}")).collect();
        let mut open = vec![self.path("/run/containerd")];
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    open.push(entry.path());
                } else {
                    left.push(format!("file {}", entry.path().display()));
                }
            }
        }
        left
    }

    fn mounted(&self) -> BTreeSet<String> {
        let path = format!("/proc/{}/mountinfo", self.inside);
        let mountinfo = fs::read_to_string(path).expect("the keeper lives");
        let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
        points.map(str::to_owned).collect()
    }
}

fn only_child(pid: i32) -> i32 {
    let children =
        fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("its children are told");
    children.trim().parse().expect("it has one child")
}
