//! Whoever is ended while he makes a package, a pair of keys or a directory leaves nothing that is half of it.
//!
//! For every N until the command comes to its end: it gets a signal as it returns from its N-th system call. Then there is
//! what was there before, or all of what was to be; and what force alone leaves behind is hidden, and gone with the next.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use tests::trace::{Fate, signal_after};
use tests::{Bundle, Invocation, Packages, Runtime, figure, needs};

const DENY: &str = env!("CARGO_BIN_EXE_deny");

const PACK: &[&str] = &["pack", "-m", "../a.yaml", "-r", "../root", "-k", "../k.key"];
const UNPACK: &[&str] = &["unpack", "../b.npk", "to", "-k", "../k.pub"];
/// A file system that knows no files without names.
const NAMED: &[&str] = &[DENY, "EOPNOTSUPP", "openat-tmpfile", "--"];

/// A command in an empty directory, or one with a package in it.
struct Victim {
    told: &'static str,
    words: &'static [&'static str],
    launcher: &'static [&'static str],
    /// A file that is there before, under the name of what is made.
    is_replaced: bool,
    /// Whether SIGTERM too finds it with a draft that has a name: nobody is asked while a package is made.
    leaves_draft: bool,
}

const VICTIMS: &[Victim] = &[
    Victim { told: "pack", words: PACK, launcher: &[], is_replaced: false, leaves_draft: false },
    Victim { told: "pack over another", words: PACK, launcher: &[], is_replaced: true, leaves_draft: false },
    Victim {
        told: "pack without nameless files",
        words: PACK,
        launcher: NAMED,
        is_replaced: false,
        leaves_draft: true,
    },
    Victim {
        told: "gen-key",
        words: &["gen-key", "pair"],
        launcher: &[],
        is_replaced: false,
        leaves_draft: false,
    },
    Victim { told: "unpack", words: UNPACK, launcher: &[], is_replaced: false, leaves_draft: false },
];

/// Where a victim works.
struct Scene {
    bundle: Bundle,
    work: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let bundle = Bundle::new("packages-killed");
        let scene = Self { work: bundle.dir().join("work"), bundle };
        let dir = scene.bundle.dir();
        fs::create_dir_all(dir.join("root/d/e")).expect("directories");
        for (name, content) in [("a", "1"), ("d/b", ""), ("d/e/c", "33")] {
            fs::write(dir.join("root").join(name), content).expect("a file");
        }
        let manifest = "name: a\nversion: 1.2.3\ninit: /a\nuid: 1000\ngid: 1000\n";
        fs::write(dir.join("a.yaml"), manifest).expect("a manifest");
        scene.renew();
        scene.command(&["gen-key", "k", "-o", ".."], &[]).run().success();
        scene.command(&[PACK, &["-o", "../b.npk"]].concat(), &[]).run().success();
        scene
    }

    /// An empty directory.
    fn renew(&self) {
        if self.work.exists() {
            fs::remove_dir_all(&self.work).expect("remove what the last has left");
        }
        fs::create_dir(&self.work).expect("a directory");
    }

    fn command(&self, words: &[&str], launcher: &[&str]) -> Invocation<'_> {
        let command = Runtime::at(&Packages::program()).command(&self.bundle, words).without_globals();
        command.launched_by(launcher).dir(&self.work)
    }

    /// Every path below, with its mode and its content.
    fn shows(&self) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
        let mut shows = BTreeMap::new();
        let mut open = vec![self.work.clone()];
        while let Some(directory) = open.pop() {
            for entry in fs::read_dir(&directory).expect("a directory").flatten() {
                let (path, stat) = (entry.path(), entry.metadata().expect("a file"));
                if stat.is_dir() {
                    open.push(path.clone());
                }
                let content = if stat.is_dir() { Vec::new() } else { fs::read(&path).expect("a file") };
                let name = path.strip_prefix(&self.work).expect("it is below").to_owned();
                shows.insert(name, (stat.mode(), content));
            }
        }
        shows
    }
}

fn is_hidden(path: &Path) -> bool {
    path.to_string_lossy().starts_with(".cofferdam-")
}

/// The signal after each of the victim's calls; how many there were.
fn walk(scene: &Scene, victim: &Victim, signal: Signal) -> usize {
    let before = |scene: &Scene| {
        scene.renew();
        if victim.is_replaced {
            fs::write(scene.work.join("a-1.2.3.npk"), "another").expect("a file");
        }
        scene.shows()
    };
    before(scene);
    scene.command(victim.words, victim.launcher).run().success();
    let whole = scene.shows();
    for count in 0.. {
        let before = before(scene);
        let told = format!("{}, {signal} after call {count}", victim.told);
        let fate = signal_after(scene.command(victim.words, victim.launcher), count, signal);
        let (hidden, shown): (BTreeMap<_, _>, BTreeMap<_, _>) =
            scene.shows().into_iter().partition(|(path, _)| is_hidden(path));
        let is_forced = signal == Signal::SIGKILL;
        // Keys are never the same twice: there are as many bytes of them. The public one may be there alone.
        let sizes = |all: &BTreeMap<PathBuf, (u32, Vec<u8>)>| -> Vec<(PathBuf, u32, usize)> {
            all.iter().map(|(path, (mode, content))| (path.clone(), *mode, content.len())).collect()
        };
        let is_half_pair = shown.len() == 1 && shown.contains_key(Path::new("pair.pub"));
        assert!(
            shown == before
                || shown == whole
                || victim.told == "gen-key" && (sizes(&shown) == sizes(&whole) || is_forced && is_half_pair),
            "{told}: {:?}",
            sizes(&shown)
        );
        assert!(hidden.is_empty() || is_forced || victim.leaves_draft, "{told}: {:?}", sizes(&hidden));
        if !hidden.is_empty() {
            let again = scene.command(victim.words, victim.launcher).run();
            assert!(
                again.stderr.is_empty() || again.stderr.contains("is not empty"),
                "{told}, again: {again}"
            );
            if again.stderr.is_empty() {
                let left: Vec<_> = scene.shows().into_keys().filter(|path| is_hidden(path)).collect();
                assert!(left.is_empty(), "{told}, again: {left:?}");
            }
        }
        match fate {
            Fate::Killed { .. } => {}
            Fate::Ended { code: 0, .. } => {
                assert!(sizes(&shown) == sizes(&whole), "{told}");
                return count;
            }
            Fate::Ended { code, .. } => panic!("{told}: ends with {code}"),
        }
    }
    unreachable!("a command comes to its end");
}

#[test]
fn root_who_is_killed_leaves_nothing_half_made() {
    needs!(Root, Busybox, Cofferctl);
    let scene = Scene::new();
    for victim in VICTIMS {
        for signal in [Signal::SIGKILL, Signal::SIGTERM] {
            let points = walk(&scene, victim, signal);
            figure(&format!("{}, {signal}: {points} points", victim.told));
        }
    }
}

/// Into a directory that is there files come one by one: whoever is asked to end takes them away again.
#[test]
fn root_a_directory_that_was_there_is_as_it_was() {
    needs!(Root, Busybox, Cofferctl);
    let scene = Scene::new();
    for count in 0.. {
        scene.renew();
        fs::create_dir(scene.work.join("to")).expect("a directory");
        let before = scene.shows();
        let fate = signal_after(scene.command(UNPACK, &[]), count, Signal::SIGINT);
        let shows = scene.shows();
        match fate {
            Fate::Killed { .. } if shows.len() == 1 => assert_eq!(shows, before, "after call {count}"),
            // It was done when it heard of it.
            _ => assert_eq!(shows.len(), 7, "after call {count}: {fate:?}, {:?}", shows.keys()),
        }
        if let Fate::Ended { code, .. } = fate {
            assert_eq!(code, 0);
            return;
        }
    }
}

/// Whoever was started by nohup(1) does not end when his terminal goes.
#[test]
fn root_a_signal_that_is_ignored_ends_nothing() {
    needs!(Root, Busybox, Cofferctl);
    let scene = Scene::new();
    let deaf = ["sh", "-c", "trap '' HUP; exec \"$@\"", "sh"];
    for count in (0..250).step_by(10) {
        scene.renew();
        let fate = signal_after(scene.command(UNPACK, &deaf), count, Signal::SIGHUP);
        assert!(matches!(fate, Fate::Ended { code: 0, .. }), "after call {count}: {fate:?}");
        assert!(scene.work.join("to/d/e/c").exists(), "after call {count}");
    }
}
