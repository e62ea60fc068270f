//! A directory that somebody else may write to changes while we resolve paths in it: 20,000 rounds against a thread that
//! renames as fast as the kernel does it, with openat2(2) and, where that is denied, by hand.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use path::{Root, Wanted};
use rustix::fs::{CWD, RenameFlags, fstat, renameat_with};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

const ROUNDS: usize = 20_000;

/// A root with a directory that is a link half of the time, and beside the root what no path may reach.
struct Stage {
    dir: PathBuf,
    outside: PathBuf,
}

impl Stage {
    fn set(links_to: impl FnOnce(&Path) -> PathBuf) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("cofferdam-race-{}-{count}", std::process::id()));
        let outside = dir.join("outside");
        for path in ["root/a/swapped/deep/er", "root/b", "outside/deep/er"] {
            fs::create_dir_all(dir.join(path)).expect("make the stage");
        }
        symlink(links_to(&outside), dir.join("root/a/link")).expect("make a link");
        Self { dir, outside }
    }

    fn root(&self) -> Root {
        Root::from(OwnedFd::from(File::open(self.dir.join("root")).expect("open the root")))
    }

    /// The inodes of all directories outside: the device is the same.
    fn forbidden(&self) -> Vec<u64> {
        let dirs =
            [self.dir.clone(), self.outside.clone(), self.outside.join("deep"), self.outside.join("deep/er")];
        dirs.iter().map(|dir| fs::metadata(dir).expect("stat what is outside").ino()).collect()
    }

    /// Runs `work` while another thread exchanges the directory and the link, and moves what lies below to and fro, so
    /// that `..` of it leads elsewhere.
    fn while_changing(&self, work: impl FnOnce()) {
        struct Ended<'a>(&'a AtomicBool);
        impl Drop for Ended<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let ended = AtomicBool::new(false);
        let at = |path: &str| self.dir.join(path);
        let (directory, link) = (at("root/a/swapped"), at("root/a/link"));
        // A directory that wanders out of the root and back while somebody is in it.
        let (inside, wandering) = (at("root/b/wanderer"), at("outside/wanderer"));
        fs::create_dir(&inside).expect("make a wanderer");
        thread::scope(|scope| {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    renameat_with(CWD, &directory, CWD, &link, RenameFlags::EXCHANGE).expect("exchange");
                    fs::rename(&inside, &wandering).expect("move out");
                    fs::rename(&wandering, &inside).expect("move in");
                }
            });
            let _ended = Ended(&ended);
            work();
        });
        fs::remove_dir_all(&inside).expect("take the wanderer away");
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.dir).expect("strike the stage");
    }
}

/// Denies openat2(2) to this thread alone: what is left is the walk by hand.
fn deny_openat2() {
    let rules = BTreeMap::from([(libc_openat2(), Vec::new())]);
    let answer = SeccompAction::Errno(rustix::io::Errno::NOSYS.raw_os_error().cast_unsigned());
    let arch = std::env::consts::ARCH.try_into().expect("an architecture with filters");
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, answer, arch).expect("a filter");
    apply_filter(&BpfProgram::try_from(filter).expect("compile the filter")).expect("apply the filter");
}

/// The number of openat2(2), the same on all architectures.
fn libc_openat2() -> i64 {
    437
}

/// Resolves each path in turn, and fails if one ever led outside. Most rounds must get somewhere.
fn race(stage: &Stage, paths: &[&str]) {
    let root = stage.root();
    let forbidden = stage.forbidden();
    let mut reached = 0;
    stage.while_changing(|| {
        for round in 0..ROUNDS {
            let path = paths[round % paths.len()];
            if let Ok(found) = root.resolve(path) {
                let inode = fstat(&found).expect("stat what was found").st_ino;
                assert!(!forbidden.contains(&inode), "round {round}: {path} led outside");
                reached += 1;
            }
        }
    });
    assert!(reached > ROUNDS / 20, "only {reached} rounds got anywhere: nothing was tried");
}

/// Makes directories and files below the changing one, and fails if anything appears outside.
fn race_to_make(stage: &Stage) {
    let root = stage.root();
    let mut made = 0;
    stage.while_changing(|| {
        for round in 0..ROUNDS {
            let (path, wanted) = match round % 3 {
                0 => (format!("a/swapped/new{}/dir", round % 97), Wanted::Directory),
                1 => (format!("a/swapped/deep/new{}", round % 97), Wanted::File),
                _ => (format!("a/link/new{}/dir", round % 97), Wanted::Directory),
            };
            made += usize::from(root.provide(&path, wanted).is_ok());
        }
    });
    assert!(made > ROUNDS / 20, "only {made} rounds made anything");
    let names = |dir: &Path| -> Vec<_> {
        fs::read_dir(dir).expect("list what is outside").flatten().map(|entry| entry.file_name()).collect()
    };
    assert_eq!(names(&stage.outside), ["deep"], "something was made outside");
    assert_eq!(names(&stage.outside.join("deep")), ["er"], "something was made outside");
}

const PATHS: &[&str] = &[
    "a/swapped/deep/er",
    "a/link/deep/er",
    "/a/swapped/../../../../outside",
    "a/swapped/deep/../../../../outside/deep",
    "b/wanderer/../../outside",
    "b/wanderer/../../../outside/deep",
    "../../outside",
];

fn absolute(outside: &Path) -> PathBuf {
    outside.to_owned()
}

fn climbing(_: &Path) -> PathBuf {
    PathBuf::from("../../../outside")
}

#[test]
fn an_absolute_link_never_leads_out() {
    race(&Stage::set(absolute), PATHS);
}

#[test]
fn a_climbing_link_never_leads_out() {
    race(&Stage::set(climbing), PATHS);
}

#[test]
fn by_hand_an_absolute_link_never_leads_out() {
    deny_openat2();
    race(&Stage::set(absolute), PATHS);
}

#[test]
fn by_hand_a_climbing_link_never_leads_out() {
    deny_openat2();
    race(&Stage::set(climbing), PATHS);
}

#[test]
fn nothing_is_made_outside() {
    race_to_make(&Stage::set(absolute));
    race_to_make(&Stage::set(climbing));
}

#[test]
fn by_hand_nothing_is_made_outside() {
    deny_openat2();
    race_to_make(&Stage::set(absolute));
    race_to_make(&Stage::set(climbing));
}

#[test]
fn both_ways_say_the_same() {
    let stage = Stage::set(climbing);
    let root = stage.dir.join("root");
    symlink("a/link/..", root.join("up")).expect("make a link");
    symlink("loop", root.join("loop")).expect("make a link");
    symlink("/missing/end", root.join("dangling")).expect("make a link");
    fs::write(root.join("file"), "").expect("write a file");
    let paths = [
        "/",
        "",
        ".",
        "..",
        "a",
        "a/",
        "a/link",
        "up",
        "up/..",
        "loop",
        "dangling",
        "file",
        "file/",
        "file/x",
        "file/..",
        "missing",
        "a/../b",
        "/../../a/swapped/deep",
        "b/./.",
    ];
    let look = || -> Vec<_> {
        let root = stage.root();
        paths
            .iter()
            .map(|path| {
                let told = |found: Result<OwnedFd, sys::Failed>| match found {
                    Ok(fd) => Ok(fstat(&fd).expect("stat").st_ino),
                    Err(failed) => Err(failed.errno()),
                };
                (
                    *path,
                    told(root.resolve(path)),
                    told(root.resolve_link(path)),
                    told(root.resolve_plain(path)),
                )
            })
            .collect()
    };
    let kernel = look();
    let by_hand = thread::scope(|scope| {
        let denied = scope.spawn(|| {
            deny_openat2();
            look()
        });
        denied.join().expect("the thread that walks by hand")
    });
    for (kernel, by_hand) in kernel.iter().zip(&by_hand) {
        assert_eq!(kernel, by_hand);
    }
}
