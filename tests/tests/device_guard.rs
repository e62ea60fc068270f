//! The daemon's guard alone: what it does when it is asked, and what it leaves.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use daemon::words::{Command, Kind, Start, Status, Told, Word};
use tests::{Groups, Guard, Packages, needs, patience, until};
use wire::Pressure;

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_guard"))
}

/// A package `NAME:1.0.0` with a script as its program; what is not told keeps its default.
fn pack(packages: &Packages, name: &str, script: &str, more: &str) {
    let text = format!(
        "name: {name}\nversion: 1.0.0\ninit: /bin/sh\nargs: [-c, '{script}']\nenv: {{PATH: /bin}}\nuid: 1000\ngid: 1000\n\
         io: {{stdout: pipe, stderr: pipe}}\n{more}"
    );
    fs::write(packages.path("a.yaml"), text).expect("a manifest");
    let file = format!("{name}.npk");
    packages.expect(&["pack", "-m", "a.yaml", "-r", "root", "-k", "k.key", "-o", &file]);
}

fn signal(container: &str, signal: i32) -> Word {
    Word::Signal { container: container.to_owned(), signal }
}

fn umount(container: &str) -> Word {
    Word::Umount { container: container.to_owned() }
}

fn mount(container: &str) -> Word {
    Word::Mount { container: container.to_owned(), is_to_run: true }
}

/// Nothing of the daemon's is left: no process, no group, no device, no mount, no socket.
#[track_caller]
fn assert_gone(packages: &Packages) {
    // Mapped devices, and the loop devices below them, go a little after who had them open.
    until(|| packages.left().is_empty(), || format!("{:?}", packages.left()));
    for directory in ["run", "socket"] {
        let left: Vec<_> = fs::read_dir(packages.path(directory)).expect("a directory").flatten().collect();
        let left = left.iter().filter(|entry| entry.file_name() != ".cofferdam");
        assert_eq!(left.map(fs::DirEntry::path).collect::<Vec<_>>(), Vec::<std::path::PathBuf>::new());
    }
    for directory in ["state", "bundle"] {
        let path = packages.path("run/.cofferdam").join(directory);
        let left = fs::read_dir(path)
            .expect("a directory")
            .flatten()
            .filter(|entry| entry.file_name() != ".filters");
        assert_eq!(left.map(|entry| entry.path()).collect::<Vec<_>>(), Vec::<std::path::PathBuf>::new());
    }
    let marker = format!("COFFERDAM_TEST={}", packages.id);
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        let is_ours = environment.split(|byte| *byte == 0).any(|one| one == marker.as_bytes());
        assert!(!is_ours, "{} is left", entry.path().display());
    }
}

#[test]
fn root_a_package_lives_and_dies_by_the_guards_words() {
    needs!(Root, Busybox, Cofferctl);
    let packages = Packages::new();
    pack(&packages, "a", "echo $NORTHSTAR_CONTAINER; busybox id -u; exit 7", "");
    let mut guard = Guard::begin(&packages, program());
    assert_eq!(guard.install("a.npk", "repo"), Ok("a:1.0.0".to_owned()));
    assert!(packages.path("repo/a:1.0.0.npk").is_file());
    assert_eq!(guard.refused(&umount("a:1.0.0")).kind, Kind::NotMounted);
    guard.start("a:1.0.0");
    assert_eq!(guard.ended("a:1.0.0"), Status::Exit(7));
    // That it was started may be told between them.
    guard.logs("a:1.0.0: 1000\n");
    let log = guard.log();
    assert!(
        log.find("a:1.0.0: a:1.0.0\n") < log.find("a:1.0.0: 1000\n") && log.contains("a:1.0.0: a:1.0.0\n"),
        "{log}"
    );
    assert_eq!(guard.refused(&mount("a:1.0.0")).kind, Kind::Mounted);
    let all = guard.survey();
    assert_eq!(all.len(), 1);
    assert!(all[0].is_mounted && all[0].process.is_none() && all[0].repository == "repo");
    guard.done(&umount("a:1.0.0"));
    guard.done(&Word::Uninstall { container: "a:1.0.0".to_owned(), wipe: false });
    assert_eq!(guard.refused(&mount("a:1.0.0")).kind, Kind::NotInstalled);
    assert_eq!(guard.leave(None), Some(0));
    assert_gone(&packages);
}

#[test]
fn root_a_signal_is_told_as_a_signal() {
    needs!(Root, Busybox, Cofferctl);
    let packages = Packages::new();
    pack(&packages, "a", "exec busybox sleep 1000", "");
    let mut guard = Guard::begin(&packages, program());
    guard.install("a.npk", "mem").expect("a package");
    guard.start("a:1.0.0");
    assert_eq!(guard.refused(&umount("a:1.0.0")).container.as_deref(), Some("a:1.0.0"));
    assert!(guard.refused(&signal("a:1.0.0", 99)).text.contains("invalid argument"));
    // Programs die of signals that they do not catch, as they do on a host: they are no first process of theirs.
    for number in [1, 2, 6, 9, 15] {
        guard.done(&signal("a:1.0.0", number));
        assert_eq!(guard.ended("a:1.0.0"), Status::Signal(number), "{}", guard.log());
        assert_eq!(guard.refused(&signal("a:1.0.0", 9)).kind, Kind::NotRunning);
        guard.start_mounted(Start { container: "a:1.0.0".to_owned(), ..Start::default() }, Vec::new());
    }
    // What still runs is killed.
    assert_eq!(guard.leave(Some("critical")), Some(1));
    assert_gone(&packages);
}

#[test]
fn root_a_program_that_cannot_be_executed_is_not_started() {
    needs!(Root, Busybox, Cofferctl);
    let packages = Packages::new();
    pack(&packages, "a", "true", "");
    let mut guard = Guard::begin(&packages, program());
    guard.install("a.npk", "repo").expect("a package");
    guard.done(&mount("a:1.0.0"));
    let command = Command { init: "/bin/none".to_owned(), ..Command::default() };
    let start = Start { container: "a:1.0.0".to_owned(), command: Some(command), ..Start::default() };
    let failure = guard.refused(&Word::Start(start));
    assert_eq!(failure.kind, Kind::Start, "{failure}");
    assert!(failure.text.contains("/bin/none"), "{failure}");
    // And nothing of it is in the way of the next.
    guard.start_mounted(Start { container: "a:1.0.0".to_owned(), ..Start::default() }, Vec::new());
    assert_eq!(guard.ended("a:1.0.0"), Status::Exit(0));
    assert_eq!(guard.leave(None), Some(0));
    assert_gone(&packages);
}

#[test]
fn root_containers_outlive_the_talker() {
    needs!(Root, Busybox, Cofferctl);
    let packages = Packages::new();
    pack(&packages, "a", "exec busybox sleep 1000", "");
    let mut guard = Guard::begin(&packages, program());
    guard.install("a.npk", "repo").expect("a package");
    let pid = guard.start("a:1.0.0");
    // What nobody of ours would ever say.
    guard.say_nonsense();
    guard.next_talker();
    let all = guard.survey();
    let process = all[0].process.as_ref().expect("a process");
    assert_eq!(i32::try_from(process.pid), Ok(pid));
    guard.done(&signal("a:1.0.0", 9));
    assert_eq!(guard.ended("a:1.0.0"), Status::Signal(9));
    assert_eq!(guard.leave(None), Some(0));
    assert_gone(&packages);
}

#[test]
fn root_what_persists_is_the_containers_alone() {
    needs!(Root, Busybox, Cofferctl);
    let packages = Packages::new();
    pack(&packages, "a", "busybox touch /keep/x", "mounts:\n  /keep: {type: persist}\n");
    let mut guard = Guard::begin(&packages, program());
    guard.install("a.npk", "repo").expect("a package");
    guard.start("a:1.0.0");
    assert_eq!(guard.ended("a:1.0.0"), Status::Exit(0), "{}", guard.log());
    let kept = packages.path("data/a/x").metadata().expect("what persists");
    assert_eq!((kept.uid(), kept.gid()), (1000, 1000));
    guard.done(&umount("a:1.0.0"));
    guard.done(&Word::Uninstall { container: "a:1.0.0".to_owned(), wipe: true });
    assert!(!packages.path("data/a").exists() && !packages.path("repo/a:1.0.0.npk").exists());
    assert_eq!(guard.leave(None), Some(0));
    assert_gone(&packages);
}

/// What a container has written into the log, line by line.
fn said(guard: &Guard<'_>, container: &str) -> Vec<String> {
    let who = format!("{container}: ");
    guard.log().lines().filter_map(|line| line.strip_prefix(&who).map(str::to_owned)).collect()
}

#[test]
fn root_a_program_is_attended_and_finds_itself_clean() {
    needs!(Root, Busybox, Cofferctl);
    let packages = Packages::new();
    let script = "echo pid $$ parent $PPID; busybox ls /proc/self/fd; busybox grep -E \"^(Sig[BIC]|Cap)\" /proc/self/status; \
                  busybox sh -c \"busybox sleep 0.1 &\"; busybox sleep 0.3; busybox grep -l zombie /proc/[0-9]*/status; \
                  echo first; busybox grep -E \"^(Uid|Cap...|NoNewPrivs):\" /proc/1/status; busybox ls /proc/1/fd";
    pack(&packages, "a", script, "mounts:\n  /proc: {type: proc}\nseccomp: {profile: default}\n");
    let mut guard = Guard::begin(&packages, program());
    guard.install("a.npk", "repo").expect("a package");
    guard.start("a:1.0.0");
    guard.ended("a:1.0.0");
    let said = said(&guard, "a:1.0.0");
    let nothing = "0000000000000000";
    let clean = ["SigBlk", "SigIgn", "SigCgt", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];
    let clean: Vec<String> = clean.iter().map(|name| format!("{name}:\t{nothing}")).collect();
    // The fourth is the directory that ls(1) reads.
    let fds: Vec<String> = (0..4).map(|number| number.to_string()).collect();
    let mut wanted = vec!["pid 2 parent 1".to_owned()];
    wanted.extend(fds.into_iter().chain(clean.clone()));
    // No zombie; and the first process can do no more than the program, which may not look into it.
    wanted.extend(["first".to_owned(), "Uid:\t1000\t1000\t1000\t1000".to_owned()]);
    wanted.extend(clean.iter().filter(|line| line.starts_with("Cap")).cloned());
    wanted.push("NoNewPrivs:\t1".to_owned());
    let (errors, mut rest): (Vec<String>, Vec<String>) =
        said.into_iter().partition(|line| line.contains("/proc/1/fd"));
    rest.sort();
    wanted.sort();
    assert_eq!(rest, wanted, "{}", guard.log());
    assert_eq!(errors, ["ls: can't open '/proc/1/fd': Permission denied"]);
    assert_eq!(guard.leave(None), Some(0));
    assert_gone(&packages);
}

/// Whatever the guard is at when it is killed, the next one finds what is left. `point` is told the guard, which has a
/// package `a` that sleeps.
#[track_caller]
fn killed_at(shares_mounts: bool, point: impl FnOnce(&mut Guard<'_>)) {
    let packages = Packages::new();
    let more = "sockets: {in: {type: stream, mode: 0o660}}\nmounts: {/keep: {type: persist}}\ncgroups: {memory: {oom_monitor: true}}\n";
    pack(&packages, "a", "exec busybox sleep 1000", more);
    let flags: &[&str] = if shares_mounts { &["-d"] } else { &[] };
    let mut guard = Guard::begin_with(&packages, program(), flags);
    guard.install("a.npk", "repo").expect("a package");
    point(&mut guard);
    guard.kill();
    let mut next = Guard::begin_with(&packages, program(), flags);
    let all = next.survey();
    assert!(all.iter().all(|one| !one.is_mounted && one.process.is_none()), "{all:?}");
    let left: Vec<_> = fs::read_dir(packages.path("socket")).expect("a directory").collect();
    assert!(left.is_empty(), "{left:?}: {}", next.log());
    // And all goes on as if nothing had been.
    next.start("a:1.0.0");
    next.done(&signal("a:1.0.0", 15));
    assert_eq!(next.ended("a:1.0.0"), Status::Signal(15));
    assert_eq!(next.leave(None), Some(0));
    assert_gone(&packages);
}

#[test]
fn root_a_guard_that_is_killed_at_rest_leaves_nothing() {
    needs!(Root, Busybox, Cofferctl);
    for shares_mounts in [false, true] {
        killed_at(shares_mounts, |guard| {
            guard.done(&mount("a:1.0.0"));
        });
        killed_at(shares_mounts, |guard| {
            guard.start("a:1.0.0");
        });
        killed_at(shares_mounts, |guard| {
            guard.start("a:1.0.0");
            guard.done(&Word::Freeze { container: "a:1.0.0".to_owned() });
        });
    }
}

#[test]
fn root_a_guard_that_is_killed_at_work_leaves_nothing() {
    needs!(Root, Busybox, Cofferctl);
    // Killed at once, and later and later, until what was asked for is done: a mount, and a start after it.
    // On a machine that is computed by another, each takes longer, and there are fewer.
    let rounds = if patience() > 1 { 6 } else { 12 };
    for late in 0..rounds {
        let pause = patience() * std::time::Duration::from_millis(late * late);
        killed_at(late % 2 == 0, |guard| {
            guard.say(&mount("a:1.0.0"), Vec::new());
            std::thread::sleep(pause);
        });
        killed_at(late % 2 == 1, |guard| {
            guard.done(&mount("a:1.0.0"));
            let start = Start { container: "a:1.0.0".to_owned(), ..Start::default() };
            guard.say(&Word::Start(start), Vec::new());
            std::thread::sleep(pause);
        });
    }
}

#[test]
fn root_an_installation_that_is_killed_leaves_nothing() {
    needs!(Root, Busybox, Cofferctl);
    killed_at(false, |guard| {
        let (read, write) = rustix::pipe::pipe().expect("a pipe");
        guard.say(&Word::Install { repository: "repo".to_owned(), size: 1 << 20 }, vec![read]);
        rustix::io::write(&write, &[0; 4096]).expect("a piece");
        guard.drafts(1);
    });
}

#[test]
fn root_a_stalled_installation_stalls_nobody() {
    needs!(Root, Busybox, Cofferctl);
    let packages = Packages::new();
    pack(&packages, "a", "exit 3", "");
    let mut guard = Guard::begin(&packages, program());
    let (read, write) = rustix::pipe::pipe().expect("a pipe");
    let stalled = guard.say(&Word::Install { repository: "repo".to_owned(), size: 1 << 20 }, vec![read]);
    assert_eq!(guard.install("a.npk", "repo"), Ok("a:1.0.0".to_owned()));
    guard.start("a:1.0.0");
    assert_eq!(guard.ended("a:1.0.0"), Status::Exit(3));
    drop(write);
    match guard.answer(stalled) {
        Told::Failed(failure) => assert!(failure.text.contains("ends after 0 of 1048576 bytes"), "{failure}"),
        told => panic!("{told:?}"),
    }
    guard.drafts(0);
    assert_eq!(guard.leave(None), Some(0));
    assert_gone(&packages);
}

#[test]
fn root_what_cannot_be_installed_is_told_why() {
    needs!(Root, Busybox, Cofferctl);
    let packages = Packages::new();
    pack(&packages, "a", "true", "");
    pack(&packages, "b", "true", "");
    fs::write(packages.path("garbage.npk"), [7; 5000]).expect("a file");
    let mut guard = Guard::begin(&packages, program());
    let refused = |guard: &mut Guard<'_>, file: &str, repository: &str| {
        guard.install(file, repository).expect_err("it is refused")
    };
    assert_eq!(refused(&mut guard, "a.npk", "none").kind, Kind::NoRepository);
    let garbage = refused(&mut guard, "garbage.npk", "repo");
    assert!(garbage.text.starts_with("install in repo: "), "{garbage}");
    guard.install("a.npk", "mem").expect("a package");
    let twice = refused(&mut guard, "a.npk", "repo");
    assert_eq!((twice.kind, twice.container.as_deref()), (Kind::Duplicate, Some("a:1.0.0")));
    assert_eq!(refused(&mut guard, "b.npk", "mem").kind, Kind::Full);
    guard.drafts(0);
    // In memory nothing outlives the daemon, and what is there is mounted as well.
    guard.start("a:1.0.0");
    assert_eq!(guard.ended("a:1.0.0"), Status::Exit(0));
    assert_eq!(guard.leave(None), Some(0));
    assert_gone(&packages);
}

#[test]
fn root_a_signal_ends_the_daemon_in_order_or_at_once() {
    needs!(Root, Busybox, Cofferctl);
    let packages = Packages::new();
    pack(&packages, "a", "exec busybox sleep 1000", "");
    let mut guard = Guard::begin(&packages, program());
    guard.install("a.npk", "repo").expect("a package");
    guard.start("a:1.0.0");
    guard.kill_by(15);
    assert_eq!(guard.news(), Told::Shutdown);
    // The talker stops what runs, in its own time.
    guard.done(&signal("a:1.0.0", 15));
    assert_eq!(guard.ended("a:1.0.0"), Status::Signal(15));
    assert_eq!(guard.leave(None), Some(0));
    assert_gone(&packages);

    let mut guard = Guard::begin(&packages, program());
    guard.start("a:1.0.0");
    guard.kill_by(2);
    assert_eq!(guard.news(), Told::Shutdown);
    guard.kill_by(2);
    assert_eq!(guard.wait(), Some(0), "{}", guard.log());
    assert_gone(&packages);
}

#[test]
fn root_what_a_container_writes_never_harms_the_daemon() {
    needs!(Root, Busybox, Cofferctl);
    let packages = Packages::new();
    // A line of 70000 bytes, one of 500000, bytes that are no text, and then one that all can read.
    let script = "busybox dd if=/dev/zero bs=70000 count=1 2>/dev/null | busybox tr \"\\\\0\" x; echo; \
                  busybox dd if=/dev/zero bs=500000 count=1 2>/dev/null | busybox tr \"\\\\0\" y; echo; \
                  busybox printf \"a\\\\377\\\\033[0mb\\\\n\"; echo last";
    pack(&packages, "a", script, "");
    let mut guard = Guard::begin(&packages, program());
    guard.install("a.npk", "repo").expect("a package");
    guard.start("a:1.0.0");
    assert_eq!(guard.ended("a:1.0.0"), Status::Exit(0));
    let said = said(&guard, "a:1.0.0");
    let count = |letter: char| said.iter().flat_map(|line| line.chars()).filter(|one| *one == letter).count();
    assert_eq!((count('x') - 1, count('y')), (70_000, 500_000));
    assert!(said.iter().all(|line| line.len() <= 4096));
    assert_eq!(said[said.len() - 2..], ["a\\xff\\u{1b}[0mb", "last"]);
    assert_eq!(guard.leave(None), Some(0));
    assert_gone(&packages);
}

#[test]
fn root_sockets_and_a_console_reach_the_program() {
    needs!(Root, Busybox, Cofferctl);
    let packages = Packages::new();
    let more = "console: {permissions: full}\nsockets:\n  one: {type: stream, mode: 0o600, uid: 2000, gid: 2001}\n  two: {type: datagram, mode: 0o666}\n\
                mounts: {/proc: {type: proc}, /sockets: {type: sockets}}\n";
    let script = "echo $NORTHSTAR_CONSOLE $NORTHSTAR_SOCKET_one $NORTHSTAR_SOCKET_two; busybox ls /sockets; busybox touch /sockets/x; \
                  busybox readlink /proc/self/fd/3 | busybox cut -d: -f1; echo hello >&3; read word <&3; echo $word";
    pack(&packages, "a", script, more);
    let mut guard = Guard::begin(&packages, program());
    guard.install("a.npk", "repo").expect("a package");
    guard.done(&mount("a:1.0.0"));
    let start = Start { container: "a:1.0.0".to_owned(), ..Start::default() };
    assert_eq!(guard.refused(&Word::Start(start.clone())).kind, Kind::Invalid);
    let (mut console, theirs) = std::os::unix::net::UnixStream::pair().expect("a pair of sockets");
    guard.start_mounted(start, vec![theirs.into()]);
    let one = packages.path("socket/a:1.0.0:one").metadata().expect("a socket");
    assert_eq!((one.mode() & 0o7777, one.uid(), one.gid()), (0o600, 2000, 2001));
    let two = packages.path("socket/a:1.0.0:two").metadata().expect("a socket");
    assert_eq!((two.mode() & 0o7777, two.uid()), (0o666, 0));
    std::os::unix::net::UnixStream::connect(packages.path("socket/a:1.0.0:one")).expect("somebody listens");
    let mut heard = [0; 6];
    std::io::Read::read_exact(&mut console, &mut heard).expect("a word");
    assert_eq!(&heard, b"hello\n");
    std::io::Write::write_all(&mut console, b"answer\n").expect("say a word");
    assert_eq!(guard.ended("a:1.0.0"), Status::Exit(0));
    let said = said(&guard, "a:1.0.0");
    for wanted in ["3 4 5", "a:1.0.0:one", "a:1.0.0:two", "socket", "answer"] {
        assert!(said.iter().any(|line| line == wanted), "{wanted}: {said:?}");
    }
    assert!(said.iter().any(|line| line.contains("Read-only file system")), "{said:?}");
    assert!(fs::read_dir(packages.path("socket")).expect("a directory").next().is_none());
    assert_eq!(guard.leave(None), Some(0));
    assert_gone(&packages);
}

#[test]
fn root_a_resource_is_a_directory_of_its_package_and_of_no_other() {
    needs!(Root, Busybox, Cofferctl);
    let packages = Packages::new();
    fs::create_dir_all(packages.path("lent/data")).expect("directories");
    fs::write(packages.path("lent/data/hello"), "hello\n").expect("a file");
    std::os::unix::fs::symlink("/etc", packages.path("lent/out")).expect("a link");
    std::os::unix::fs::symlink("/data", packages.path("lent/in")).expect("a link");
    let text = "name: lent\nversion: 2.1.0\nuid: 1000\ngid: 1000\n";
    fs::write(packages.path("lent.yaml"), text).expect("a manifest");
    packages.expect(&["pack", "-m", "lent.yaml", "-r", "lent", "-k", "k.key", "-o", "lent.npk"]);
    let mount_of =
        |dir: &str| format!("mounts: {{/r: {{type: resource, name: lent, version: \">=2\", dir: {dir}}}}}\n");
    for (name, dir) in [("in", "/data"), ("link", "/in"), ("out", "/out")] {
        pack(&packages, name, "busybox cat /r/hello; busybox touch /r/x; exit 5", &mount_of(dir));
    }
    let mut guard = Guard::begin(&packages, program());
    for name in ["in", "link", "out", "lent"] {
        guard.install(&format!("{name}.npk"), "repo").expect("a package");
    }
    for name in ["in", "link", "out"] {
        guard.done(&mount(&format!("{name}:1.0.0")));
    }
    let start = |name: &str, lender: &str| Start {
        container: format!("{name}:1.0.0"),
        resources: [("/r".to_owned(), lender.to_owned())].into(),
        ..Start::default()
    };
    let not_mounted = guard.refused(&Word::Start(start("in", "lent:2.1.0")));
    assert_eq!((not_mounted.kind, not_mounted.container.as_deref()), (Kind::NotMounted, Some("lent:2.1.0")));
    guard.done(&mount("lent:2.1.0"));
    assert_eq!(guard.refused(&Word::Start(start("in", "link:1.0.0"))).kind, Kind::Invalid);
    for name in ["in", "link"] {
        guard.start_mounted(start(name, "lent:2.1.0"), Vec::new());
        let container = format!("{name}:1.0.0");
        // It may have ended by now, and then nobody uses it any more.
        assert_eq!(guard.ended(&container), Status::Exit(5), "{}", guard.log());
        let mut said = said(&guard, &container);
        // Two streams come in any order.
        said.sort_by_key(String::len);
        assert_eq!(said[0], "hello");
        assert!(said[1].contains("Read-only file system"), "{said:?}");
    }
    // A link that leads out of it leads to nothing.
    let out = guard.refused(&Word::Start(start("out", "lent:2.1.0")));
    assert!(out.kind == Kind::Start && out.text.contains("the directory /out of lent:2.1.0"), "{out}");
    assert_eq!(guard.leave(None), Some(0));
    assert_gone(&packages);
}

#[test]
fn root_a_lack_of_memory_is_told_before_the_end() {
    needs!(Root, Busybox, Cofferctl, Groups);
    let packages = Packages::new();
    let more = "cgroups: {memory: {oom_monitor: true, memory_hard_limit: 8000000}}\nmounts: {/tmp: {type: tmpfs, size: 100M}}\n";
    pack(&packages, "a", "exec busybox dd if=/dev/zero of=/tmp/x bs=1M count=90", more);
    let mut guard = Guard::begin(&packages, program());
    guard.install("a.npk", "repo").expect("a package");
    guard.start("a:1.0.0");
    // As often as the kernel says so: it may look for memory more than once before it kills. On v2 the count is its own, and
    // may tell of both by the time that the first is told.
    let mut lacks = 0;
    let status = loop {
        match guard.news() {
            Told::Memory { container, counts } => {
                assert_eq!(container, "a:1.0.0");
                if counts.pressure.is_some() {
                    continue;
                }
                let least = if Groups::unified_only() { lacks.max(1) } else { lacks + 1 };
                assert!(counts.oom.is_some_and(|count| count >= least), "{counts:?} after {lacks}");
                lacks = counts.oom.unwrap_or_default();
            }
            Told::Exited { container, status } if container == "a:1.0.0" => break status,
            told => panic!("{told:?}: {}", guard.log()),
        }
    };
    assert!(lacks > 0 && status == Status::Signal(9), "{lacks} {status:?}");
    assert_eq!(guard.leave(None), Some(0));
    assert_gone(&packages);
}

/// Nobody is killed for it: on v1 pages of files come and go at the limit, on v2 who passes the high mark is held back.
#[test]
fn root_pressure_on_memory_is_told() {
    needs!(Root, Busybox, Cofferctl, Groups);
    let packages = Packages::new();
    let expected: &[Pressure] = if Groups::unified_only() {
        let more = "cgroups: {memory: {oom_monitor: true, attrs: {memory.high: \"8388608\"}}}\nmounts: {/tmp: {type: tmpfs, size: 100M}}\n";
        pack(
            &packages,
            "a",
            "busybox dd if=/dev/zero of=/tmp/x bs=1M count=24; exec busybox sleep 1000",
            more,
        );
        &[Pressure::Some, Pressure::Full]
    } else {
        let more = "cgroups: {memory: {oom_monitor: true, memory_hard_limit: 8388608}}\nmounts: {/data: {type: persist}}\n";
        let work = "while true; do busybox dd if=/dev/zero of=/data/x bs=1M count=64; busybox cat /data/x; done > /dev/null 2>&1";
        pack(&packages, "a", work, more);
        &[Pressure::Some, Pressure::Full, Pressure::Medium, Pressure::Critical]
    };
    let mut guard = Guard::begin(&packages, program());
    guard.install("a.npk", "repo").expect("a package");
    guard.start("a:1.0.0");
    match guard.news() {
        Told::Memory { container, counts } => {
            assert_eq!(container, "a:1.0.0");
            assert!(counts.pressure.is_some_and(|pressure| expected.contains(&pressure)), "{counts:?}");
            assert_eq!(counts.oom_kill.unwrap_or_default(), 0, "{counts:?}");
        }
        told => panic!("{told:?}: {}", guard.log()),
    }
    guard.done(&signal("a:1.0.0", 9));
    let status = loop {
        match guard.news() {
            Told::Memory { .. } => {}
            Told::Exited { status, .. } => break status,
            told => panic!("{told:?}: {}", guard.log()),
        }
    };
    assert_eq!(status, Status::Signal(9));
    assert_eq!(guard.leave(None), Some(0));
    assert_gone(&packages);
}

#[test]
fn root_what_fails_of_one_container_fails_for_it_alone() {
    needs!(Root, Busybox, Cofferctl);
    let packages = Packages::new();
    for (name, more) in [
        ("file", "mounts: {/x: {type: bind, host: /etc/passwd}}\n"),
        ("memory", "cgroups: {memory: {memory_hard_limit: 4096}}\n"),
        ("cpu", "cgroups: {cpu: {quota: 1, period: 7}}\n"),
        ("net", "network: !namespace nobody-has-this\n"),
        ("limit", "rlimits: {nofile: {soft: 4000000000, hard: 4000000000}}\n"),
        (
            "socket",
            "sockets: {s123456789012345678901234567890123456789012345678901234567890: {type: stream, mode: 0}, \
                    t123456789012345678901234567890123456789012345678901234567890: {type: stream, mode: 0}}\n",
        ),
    ] {
        pack(&packages, name, "true", more);
    }
    let mut guard = Guard::begin(&packages, program());
    for (name, told) in [("file", "mount"), ("memory", "memory"), ("cpu", "cpu"), ("net", "nobody-has-this")]
    {
        let container = guard.install(&format!("{name}.npk"), "repo").expect("a package");
        guard.done(&mount(&container));
        let start = Start { container: container.clone(), ..Start::default() };
        let failure = guard.refused(&Word::Start(start));
        assert_eq!(failure.kind, Kind::Start);
        assert!(failure.text.contains(told), "{name}: {failure}");
        guard.done(&umount(&container));
    }
    assert_eq!(guard.leave(None), Some(0));
    assert_gone(&packages);
}

/// The lines of /proc/PID/status that begin so.
fn status_of(pid: i32, names: &[&str]) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let wanted = |line: &&str| names.iter().any(|name| line.starts_with(name));
    text.lines().filter(wanted).map(str::to_owned).collect()
}

#[test]
fn root_the_talker_can_do_nothing() {
    needs!(Root, Busybox, Cofferctl);
    let packages = Packages::new();
    pack(&packages, "a", "exec busybox sleep 1000", "");
    let mut guard = Guard::begin(&packages, program());
    let talker = guard.talker();
    let nothing = "0000000000000000";
    let wanted = [
        "Uid:\t65534\t65534\t65534\t65534".to_owned(),
        "Gid:\t65534\t65534\t65534\t65534".to_owned(),
        "Groups:\t ".to_owned(),
        format!("CapInh:\t{nothing}"),
        format!("CapPrm:\t{nothing}"),
        format!("CapEff:\t{nothing}"),
        format!("CapBnd:\t{nothing}"),
        format!("CapAmb:\t{nothing}"),
        "NoNewPrivs:\t1".to_owned(),
    ];
    assert_eq!(status_of(talker, &["Uid", "Gid", "Groups", "Cap", "NoNewPrivs"]), wanted);
    // The three streams and the socket over which the line went.
    let fds = || fs::read_dir(format!("/proc/{talker}/fd")).expect("descriptors").count();
    until(|| fds() == 4, || format!("four descriptors, of which there are {}", fds()));
    assert_eq!(fs::read_link(format!("/proc/{talker}/cwd")).expect("a directory"), Path::new("/"));
    let stat = fs::read_to_string(format!("/proc/{talker}/stat")).expect("a process");
    let session = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(3));
    assert_eq!(session.and_then(|session| session.parse().ok()), Some(talker));
    // What it has open is root's to look at, and not that user's.
    assert_eq!(fs::metadata(format!("/proc/{talker}/fd")).expect("a process").uid(), 0);
    // What it asks for is not believed.
    for word in [
        mount("../../etc"),
        mount("a:1.0.0"),
        Word::Start(Start { container: "../a".to_owned(), ..Start::default() }),
        Word::Install { repository: "repo".to_owned(), size: 3 },
        Word::Uninstall { container: "/".to_owned(), wipe: true },
        Word::Statistics { container: String::new() },
    ] {
        guard.refused(&word);
    }
    let (socket, _other) = std::os::unix::net::UnixStream::pair().expect("a pair of sockets");
    let number = guard.say(&Word::Install { repository: "repo".to_owned(), size: 3 }, vec![socket.into()]);
    assert!(matches!(guard.answer(number), Told::Failed(failure) if failure.text.contains("no pipe")));
    // Killed, it has a successor, and the container does not notice.
    guard.install("a.npk", "repo").expect("a package");
    let pid = guard.start("a:1.0.0");
    sys::Pidfd::open(talker).and_then(|talker| talker.signal(9)).expect("kill the talker");
    guard.next_talker();
    assert!(guard.talker() != talker);
    let all = guard.survey();
    assert_eq!(all[0].process.as_ref().map(|process| process.pid), u32::try_from(pid).ok());
    assert_eq!(guard.leave(None), Some(0));
    assert_gone(&packages);
}

#[test]
fn root_a_survey_waits_for_what_another_talker_has_begun() {
    needs!(Root, Busybox, Cofferctl);
    let packages = Packages::new();
    pack(&packages, "a", "exec busybox sleep 1000", "");
    let mut guard = Guard::begin(&packages, program());
    guard.install("a.npk", "repo").expect("a package");
    guard.done(&mount("a:1.0.0"));
    guard.say(&Word::Start(Start { container: "a:1.0.0".to_owned(), ..Start::default() }), Vec::new());
    guard.say_nonsense();
    guard.next_talker();
    let all = guard.survey();
    assert!(all[0].process.is_some(), "{}", guard.log());
    assert_eq!(guard.leave(None), Some(0));
    assert_gone(&packages);
}

#[test]
fn root_an_image_goes_while_its_program_is_read_ahead() {
    needs!(Root, Busybox, Cofferctl);
    let packages = Packages::new();
    pack(&packages, "a", "exec busybox sleep 1000", "");
    let mut guard = Guard::begin(&packages, program());
    guard.install("a.npk", "repo").expect("a package");
    for _ in 0..20 {
        guard.done(&mount("a:1.0.0"));
        guard.done(&umount("a:1.0.0"));
    }
    guard.done(&mount("a:1.0.0"));
    assert_eq!(guard.leave(None), Some(0));
    assert_gone(&packages);
}

#[test]
fn root_a_container_starts_as_soon_as_it_has_ended() {
    needs!(Root, Busybox, Cofferctl);
    let packages = Packages::new();
    pack(&packages, "a", "exec busybox sleep 1000", "");
    let mut guard = Guard::begin(&packages, program());
    guard.install("a.npk", "repo").expect("a package");
    guard.done(&mount("a:1.0.0"));
    // Whose end is told by the program's attendant, and whose by the attendant's own end.
    for round in 0..60 {
        guard.start_mounted(Start { container: "a:1.0.0".to_owned(), ..Start::default() }, Vec::new());
        let number = if round % 2 == 0 { 15 } else { 9 };
        guard.done(&signal("a:1.0.0", number));
        assert_eq!(guard.ended("a:1.0.0"), Status::Signal(number));
    }
    assert!(!guard.log().contains("remove a:1.0.0"), "{}", guard.log());
    assert_eq!(guard.leave(None), Some(0));
    assert_gone(&packages);
}

#[test]
fn root_a_container_is_frozen_counted_and_alone_of_its_name() {
    needs!(Root, Busybox, Cofferctl, Freezer);
    let packages = Packages::new();
    pack(&packages, "a", "exec busybox sleep 1000", "");
    let text = fs::read_to_string(packages.path("a.yaml")).expect("a manifest").replace("1.0.0", "2.0.0");
    fs::write(packages.path("a.yaml"), text).expect("a manifest");
    packages.expect(&["pack", "-m", "a.yaml", "-r", "root", "-k", "k.key", "-o", "a2.npk"]);
    let mut guard = Guard::begin(&packages, program());
    guard.install("a.npk", "repo").expect("a package");
    guard.install("a2.npk", "repo").expect("a package");
    guard.start("a:1.0.0");
    guard.done(&mount("a:2.0.0"));
    let second = Start { container: "a:2.0.0".to_owned(), ..Start::default() };
    let other = guard.refused(&Word::Start(second));
    assert_eq!((other.kind, other.container.as_deref()), (Kind::Running, Some("a:1.0.0")));
    guard.done(&umount("a:2.0.0"));
    let wiped = guard.refused(&Word::Uninstall { container: "a:2.0.0".to_owned(), wipe: true });
    assert_eq!((wiped.kind, wiped.container.as_deref()), (Kind::Busy, Some("a:1.0.0")));
    let mounted = guard.refused(&Word::Uninstall { container: "a:1.0.0".to_owned(), wipe: false });
    assert_eq!(mounted.kind, Kind::Mounted);
    match guard.ask(&Word::Statistics { container: "a:1.0.0".to_owned() }, Vec::new()) {
        Told::Statistics(told) => {
            assert!(told["memory"]["memory"]["usage_in_bytes"].is_u64(), "{told}");
            assert!(told["cpu"]["stat"].as_str().is_some_and(|stat| stat.contains("nr_throttled")), "{told}");
        }
        told => panic!("{told:?}"),
    }
    guard.done(&Word::Freeze { container: "a:1.0.0".to_owned() });
    guard.done(&signal("a:1.0.0", 15));
    guard.done(&Word::Thaw { container: "a:1.0.0".to_owned() });
    assert_eq!(guard.ended("a:1.0.0"), Status::Signal(15));
    guard.start_mounted(Start { container: "a:1.0.0".to_owned(), ..Start::default() }, Vec::new());
    guard.done(&signal("a:1.0.0", 19));
    guard.done(&signal("a:1.0.0", 9));
    assert_eq!(guard.ended("a:1.0.0"), Status::Signal(9));
    assert_eq!(guard.leave(None), Some(0));
    assert_gone(&packages);
}

#[test]
fn root_the_group_above_all_goes_with_the_daemon() {
    needs!(Root, Busybox, Cofferctl);
    let packages = Packages::new();
    for name in ["a", "b"] {
        pack(&packages, name, "exec busybox sleep 1000", "");
    }
    let mut guard = Guard::begin(&packages, program());
    // The first makes it, and ends while the second is in it.
    for name in ["a", "b"] {
        guard.install(&format!("{name}.npk"), "repo").expect("a package");
        guard.start(&format!("{name}:1.0.0"));
    }
    for name in ["a", "b"] {
        let container = format!("{name}:1.0.0");
        guard.done(&signal(&container, 15));
        assert_eq!(guard.ended(&container), Status::Signal(15));
    }
    assert_eq!(guard.leave(None), Some(0));
    assert_gone(&packages);
}
