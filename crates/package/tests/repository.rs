//! Repositories: what is taken in, what is refused, and what stays as it is.
#![allow(clippy::expect_used, clippy::panic, reason = "a test states what it expects")]

mod common;

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use common::{image, key, package, package_of, public};
use package::repository::{Install, Repository, Rules, Scan, sweep};
use package::{Error, Kind, SecretKey};
use rustix::fs::{CWD, FileType, FlockOperation, Mode, flock, mknodat};
use tempfile::TempDir;

const HELLO: &str = "hello:0.0.1";
const FILE: &str = "hello:0.0.1.npk";

fn keyed() -> Rules {
    Rules { key: Some(public().clone()), ..Rules::default() }
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

fn open(directory: &TempDir, rules: Rules) -> (Repository, Scan) {
    Repository::open(directory.path(), rules).expect("a directory that can be listed")
}

/// A signed package, and one of that name and version.
fn hello() -> Vec<u8> {
    package(&image(2), Some(&key()))
}

fn named(name: &str, version: &str) -> Vec<u8> {
    let manifest = format!("name: {name}\nversion: {version}\ninit: /hello\nuid: 1000\ngid: 1000\n");
    package_of(manifest.as_bytes(), &image(1), Some(&key()))
}

/// Installs in pieces of odd sizes.
fn install(repository: &mut Repository, bytes: &[u8]) -> Result<String, Error> {
    let mut install = repository.begin(bytes.len() as u64)?;
    for piece in bytes.chunks(1021) {
        install.write(piece)?;
    }
    let ready = install.close(|_| ())?;
    repository.accept(ready)
}

/// The names of all that is in a directory.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn told(error: &Error) -> (Kind, String) {
    (error.kind(), error.to_string())
}

/// What was skipped, and why.
fn skipped(scan: &Scan) -> Vec<(String, String)> {
    let told = |skipped: &package::repository::Skipped| {
        (skipped.file.to_string_lossy().into_owned(), skipped.reason.to_string())
    };
    scan.skipped.iter().map(told).collect()
}

#[test]
fn what_is_installed_is_found_again() {
    let place = directory();
    let (mut repository, scan) = open(&place, keyed());
    assert!(scan.skipped.is_empty() && scan.removed.is_empty(), "{scan:?}");
    let bytes = hello();
    assert_eq!(install(&mut repository, &bytes).as_deref(), Ok(HELLO));
    assert_eq!(names(place.path()), [FILE]);
    assert_eq!(fs::read(place.path().join(FILE)).expect("a file"), bytes);
    for repository in [repository, open(&place, keyed()).0] {
        let entry = &repository.entries()[HELLO];
        assert_eq!((entry.manifest.name.as_str(), entry.size), ("hello", bytes.len() as u64));
        let opened = repository.package(HELLO).expect("it is verified");
        assert!(opened.verity.is_some());
        opened.package.check(|_| ()).expect("it is whole");
    }
    let (repository, _) = open(&place, Rules::default());
    assert_eq!(repository.package(HELLO).expect("it is read").verity, None);
}

#[test]
fn memory_keeps_what_nobody_can_change() {
    let mut repository = Repository::in_memory(keyed());
    let bytes = hello();
    assert_eq!(install(&mut repository, &bytes).as_deref(), Ok(HELLO));
    let opened = repository.package(HELLO).expect("it is verified");
    let file = opened.package.file();
    let mut kept = vec![0; bytes.len()];
    file.read_exact_at(&mut kept, 0).expect("its bytes");
    assert_eq!(kept, bytes);
    assert!(file.write_at(b"x", 5000).is_err() && file.set_len(0).is_err());
    let by_path = File::options().write(true).open(format!("/proc/self/fd/{}", file.as_raw_fd()));
    assert!(by_path.and_then(|file| file.write_at(b"x", 5000)).is_err());
    let again = install(&mut repository, &bytes).expect_err("it is there");
    assert_eq!(told(&again), (Kind::Exists, format!("{HELLO} is installed")));
    assert_eq!(repository.uninstall(HELLO, None), Ok(()));
    assert!(repository.entries().is_empty());
    opened.package.check(|_| ()).expect("whoever has it mounted keeps it");
}

#[test]
fn what_must_not_be_taken_is_refused_and_leaves_nothing() {
    let good = hello();
    let mut flipped = good.clone();
    flipped[4096 + 5000] ^= 1;
    let other = SecretKey::generate().expect("a key");
    let cases: [(&str, Vec<u8>, Kind, &str); 7] = [
        ("nothing", Vec::new(), Kind::Damaged, ""),
        ("no package", vec![b'x'; 9000], Kind::Damaged, ""),
        ("half a package", good[..good.len() / 2].to_vec(), Kind::Damaged, ""),
        ("more behind it", [good.as_slice(), b"more"].concat(), Kind::Damaged, ""),
        ("a flipped bit", flipped, Kind::Damaged, "block 1 of the image and its hash in the tree differ"),
        ("unsigned", package(&image(2), None), Kind::Untrusted, "is not signed"),
        (
            "another's",
            package(&image(2), Some(&other)),
            Kind::Untrusted,
            "signature.yaml: the signature is not by this key, or not over this text",
        ),
    ];
    let place = directory();
    for mut repository in [open(&place, keyed()).0, Repository::in_memory(keyed())] {
        for (what, bytes, kind, text) in &cases {
            let error = install(&mut repository, bytes).expect_err(what);
            assert!(error.kind() == *kind && error.to_string().contains(text), "{what}: {error}");
            assert!(repository.entries().is_empty(), "{what}");
            assert_eq!(names(place.path()), Vec::<String>::new(), "{what}");
        }
    }
    assert_eq!(install(&mut open(&place, keyed()).0, &good).as_deref(), Ok(HELLO));
}

#[test]
fn a_length_is_kept_to_the_byte() {
    let good = hello();
    let size = good.len() as u64;
    let place = directory();
    for mut repository in [open(&place, keyed()).0, Repository::in_memory(keyed())] {
        let mut long = repository.begin(size - 1).expect("room");
        let error = long.write(&good).expect_err("a byte too many");
        assert_eq!(
            told(&error),
            (Kind::Invalid, format!("is longer than the {} bytes that were told of it", size - 1))
        );
        // What was broken off takes nothing more, and ends as nothing.
        assert_eq!(names(place.path()), Vec::<String>::new());
        assert!(long.write(b"").is_err() && long.close(|_| ()).is_err());

        let mut short = repository.begin(size + 1).expect("room");
        short.write(&good).expect("less than told");
        let error = short.close(|_| ()).expect_err("a byte too few");
        assert_eq!(told(&error), (Kind::Damaged, format!("ends after {size} of {} bytes", size + 1)));
        assert_eq!(names(place.path()), Vec::<String>::new());
    }
}

#[test]
fn a_package_that_ends_anywhere_is_refused() {
    let good = hello();
    let place = directory();
    let (mut repository, _) = open(&place, keyed());
    let all = (0..good.len()).filter(|end| *end < 700 || end % 97 == 0 || end + 700 > good.len());
    for end in all {
        assert!(install(&mut repository, &good[..end]).is_err(), "{end} bytes are no package");
    }
    assert_eq!(names(place.path()), Vec::<String>::new());
}

#[test]
fn who_goes_away_leaves_nothing() {
    let good = hello();
    let place = directory();
    let (mut repository, _) = open(&place, Rules { packages: Some(1), ..keyed() });
    let begun = |repository: &mut Repository| -> Install {
        let mut install = repository.begin(good.len() as u64).expect("room");
        install.write(&good).expect("all of it");
        install
    };
    drop(begun(&mut repository));
    drop(begun(&mut repository).close(|_| ()).expect("it is whole"));
    assert_eq!(names(place.path()), Vec::<String>::new());
    // The room is free again too.
    drop(begun(&mut repository));
}

#[test]
fn a_repository_takes_only_its_own() {
    let good = hello();
    let (mut one, mut other) = (Repository::in_memory(keyed()), Repository::in_memory(keyed()));
    let mut install = one.begin(good.len() as u64).expect("room");
    install.write(&good).expect("all of it");
    let ready = install.close(|_| ()).expect("it is whole");
    let error = other.accept(ready).expect_err("another's");
    assert_eq!(error.to_string(), "was written for another repository");
}

#[test]
fn of_two_that_install_the_same_the_first_wins() {
    let good = hello();
    let place = directory();
    let (mut repository, _) = open(&place, keyed());
    let mut begun = Vec::new();
    for _ in 0..2 {
        let mut install = repository.begin(good.len() as u64).expect("room");
        install.write(&good).expect("all of it");
        begun.push(install.close(|_| ()).expect("it is whole"));
    }
    // Another process, which looked before any of them was there.
    let (mut elsewhere, _) = open(&place, keyed());
    assert_eq!(names(place.path()).len(), 2, "a scan leaves drafts that are locked");
    let mut begun = begun.into_iter();
    assert_eq!(repository.accept(begun.next().expect("two")).as_deref(), Ok(HELLO));
    let error = repository.accept(begun.next().expect("two")).expect_err("it is there");
    assert_eq!(told(&error), (Kind::Exists, format!("{HELLO} is installed, as {FILE:?}")));
    let error = install(&mut elsewhere, &good).expect_err("it is there");
    assert_eq!(told(&error), (Kind::Exists, format!("a file {FILE:?} is there already")));
    assert_eq!(names(place.path()), [FILE]);
}

#[test]
fn there_is_no_more_room_than_was_given() {
    let [first, second] = ["1.0.0", "2.0.0"].map(|version| named("a", version));
    let size = first.len() as u64;
    let place = directory();
    let few = Rules { packages: Some(1), ..keyed() };
    let small = Rules { bytes: Some(2 * size), ..keyed() };
    for mut repository in [open(&place, few.clone()).0, Repository::in_memory(few)] {
        let held = repository.begin(size).expect("room for one");
        let error = repository.begin(size).expect_err("that one is awaited");
        assert_eq!(told(&error), (Kind::Full, "the repository takes 1 packages, and has or awaits 1".into()));
        drop(held);
        install(&mut repository, &first).expect("room for one");
        assert_eq!(install(&mut repository, &second).expect_err("full").kind(), Kind::Full);
        repository.uninstall("a:1.0.0", None).expect("it is there");
        install(&mut repository, &second).expect("room again");
        repository.uninstall("a:2.0.0", None).expect("it is there");
    }
    for mut repository in [open(&place, small.clone()).0, Repository::in_memory(small)] {
        install(&mut repository, &first).expect("half of it");
        let held = repository.begin(size).expect("it is full to the byte");
        let error = repository.begin(1).expect_err("and not a byte more");
        let text = format!("the repository takes {0} bytes, and has or awaits {0}: no room for 1", 2 * size);
        assert_eq!(told(&error), (Kind::Full, text));
        drop(held);
        assert_eq!(repository.begin(u64::MAX).expect_err("absurd").kind(), Kind::Full);
        repository.uninstall("a:1.0.0", None).expect("it is there");
    }
    let mut boundless = Repository::in_memory(keyed());
    let _held = boundless.begin(1).expect("room");
    assert_eq!(boundless.begin(u64::MAX).expect_err("absurd").kind(), Kind::Invalid);
}

#[test]
fn a_scan_skips_what_is_foreign_and_leaves_it() {
    let place = directory();
    let path = |name: &str| place.path().join(name);
    let good = hello();
    let mut flipped = good.clone();
    let signature = flipped.windows(10).position(|text| text == b"signature:").expect("a signature");
    flipped[signature + 20] ^= 1;
    let other = SecretKey::generate().expect("a key");
    for (name, bytes) in [
        ("0-first.npk", good.as_slice()),
        ("README", b"to be read"),
        ("another's.npk", &package(&image(2), Some(&other))),
        ("broken.npk", &good[..good.len() - 1]),
        ("empty.npk", b""),
        ("flipped.npk", &flipped),
        (FILE, &good),
        ("unsigned.npk", &package(&image(2), None)),
        // Not quite the name of a draft.
        (".cofferdam-0123456789abcde.part", b"x"),
        (".cofferdam-0123456789ABCDEF.part", b"x"),
    ] {
        fs::write(path(name), bytes).expect("a file");
    }
    fs::create_dir(path("lost+found")).expect("a directory");
    fs::create_dir(path(".cofferdam-0123456789abcdee.part")).expect("a directory");
    symlink("0-first.npk", path("link.npk")).expect("a link");
    symlink("nowhere", path("dangling")).expect("a link");
    mknodat(CWD, path("fifo"), FileType::Fifo, Mode::from(0o600), 0).expect("a fifo");
    let _socket = UnixListener::bind(path("socket")).expect("a socket");
    let draft = ".cofferdam-0123456789abcdef.part";
    fs::write(path(draft), &good[..5000]).expect("a file");
    let before = names(place.path());

    let (repository, scan) = open(&place, keyed());
    assert_eq!(repository.entries().keys().collect::<Vec<_>>(), [HELLO]);
    assert_eq!(scan.removed, [draft]);
    let skipped = skipped(&scan);
    let expected = [
        (".cofferdam-0123456789ABCDEF.part", ""),
        (".cofferdam-0123456789abcde.part", ""),
        (".cofferdam-0123456789abcdee.part", "is a directory"),
        ("README", ""),
        ("another's.npk", "the signature is not by this key"),
        ("broken.npk", ""),
        ("dangling", "is a symbolic link"),
        ("empty.npk", ""),
        ("fifo", "is a fifo"),
        ("flipped.npk", "signature.yaml is not what its checksum tells"),
        (FILE, "hello:0.0.1 is installed, as \"0-first.npk\""),
        ("link.npk", "is a symbolic link"),
        ("lost+found", "is a directory"),
        ("socket", "is a socket"),
        ("unsigned.npk", "is not signed"),
    ];
    assert_eq!(skipped.len(), expected.len(), "{skipped:?}");
    for ((file, reason), (name, words)) in skipped.iter().zip(expected) {
        assert!(file == name && reason.contains(words) && !reason.is_empty(), "{file}: {reason}");
    }
    let after: Vec<_> = before.into_iter().filter(|name| name != draft).collect();
    assert_eq!(names(place.path()), after);
    let mut text = String::new();
    File::open(path("README")).expect("it is there").read_to_string(&mut text).expect("text");
    assert_eq!(text, "to be read");
}

#[test]
fn power_lost_at_any_byte_leaves_the_old_state() {
    let place = directory();
    let (mut repository, _) = open(&place, keyed());
    install(&mut repository, &named("a", "1.0.0")).expect("the old state");
    let new = named("a", "2.0.0");
    for end in (0..=new.len()).step_by(211).chain([new.len()]) {
        let draft = place.path().join(".cofferdam-00000000000000ff.part");
        fs::write(&draft, &new[..end]).expect("a draft");
        let (repository, scan) = open(&place, keyed());
        assert_eq!((scan.removed.len(), scan.skipped.len()), (1, 0), "{end} bytes: {scan:?}");
        assert_eq!(repository.entries().keys().collect::<Vec<_>>(), ["a:1.0.0"]);
        assert_eq!(names(place.path()), ["a:1.0.0.npk"]);
    }
}

#[test]
fn a_draft_that_is_locked_is_somebody_elses() {
    let place = directory();
    let name = ".cofferdam-0123456789abcdef.part";
    let mut draft = File::create(place.path().join(name)).expect("a file");
    draft.write_all(b"half").expect("a piece");
    flock(&draft, FlockOperation::LockExclusive).expect("nobody else has it");
    let (_, scan) = open(&place, keyed());
    assert_eq!(skipped(&scan), [(name.to_owned(), "is being written by an installation".to_owned())]);
    drop(draft);
    assert_eq!(open(&place, keyed()).1.removed, [name]);
}

#[test]
fn what_has_changed_since_is_seen() {
    let place = directory();
    let (mut repository, _) = open(&place, keyed());
    install(&mut repository, &hello()).expect("room");
    let path = place.path().join(FILE);
    fs::write(&path, package(&image(2), Some(&SecretKey::generate().expect("a key")))).expect("a file");
    assert_eq!(repository.package(HELLO).expect_err("another's").kind(), Kind::Untrusted);
    fs::write(&path, named("other", "1.0.0")).expect("a file");
    let error = repository.package(HELLO).expect_err("another");
    assert_eq!(told(&error), (Kind::Damaged, "the file of hello:0.0.1 has become other:1.0.0".into()));
    // Another file of that name is nobody's to remove.
    fs::write(place.path().join("x"), "foreign").expect("a file");
    fs::rename(place.path().join("x"), &path).expect("another file");
    let error = repository.uninstall(HELLO, None).expect_err("another file");
    assert_eq!(error.to_string(), format!("{FILE:?} is another file than the one that was installed"));
    assert_eq!(fs::read(&path).expect("it stays"), b"foreign");
    // One that is gone is gone.
    fs::remove_file(&path).expect("it is there");
    assert_eq!(repository.uninstall(HELLO, None), Ok(()));
    let error = repository.uninstall(HELLO, None).expect_err("once");
    assert_eq!(told(&error), (Kind::NotFound, "\"hello:0.0.1\" is not installed".into()));
}

/// A data directory where the containers `a` and `b` have kept something.
fn data() -> TempDir {
    let data = directory();
    for name in ["a", "b"] {
        fs::create_dir_all(data.path().join(name).join("deep")).expect("a directory");
        fs::write(data.path().join(name).join("deep/x"), "kept").expect("a file");
    }
    symlink(data.path().join("b"), data.path().join("a/link")).expect("a link");
    data
}

#[test]
fn wiping_takes_what_was_kept_and_nothing_else() {
    let place = directory();
    for mut repository in [open(&place, keyed()).0, Repository::in_memory(keyed())] {
        let data = data();
        install(&mut repository, &named("a", "1.0.0")).expect("room");
        repository.uninstall("a:1.0.0", None).expect("it is there");
        assert_eq!(names(data.path()), ["a", "b"]);
        install(&mut repository, &named("a", "1.0.0")).expect("room");
        repository.uninstall("a:1.0.0", Some(data.path())).expect("it is there");
        assert_eq!(names(data.path()), ["b"]);
        assert_eq!(names(&data.path().join("b")), ["deep"]);
        assert_eq!(names(place.path()), Vec::<String>::new());
        // Who has kept nothing is wiped too.
        install(&mut repository, &named("a", "1.0.0")).expect("room");
        repository.uninstall("a:1.0.0", Some(data.path())).expect("it is there");
    }
}

#[test]
fn what_cannot_be_uninstalled_is_not_wiped() {
    let (place, data) = (directory(), data());
    let (mut repository, _) = open(&place, keyed());
    install(&mut repository, &named("a", "1.0.0")).expect("room");
    fs::remove_file(place.path().join("a:1.0.0.npk")).expect("it is there");
    fs::write(place.path().join("a:1.0.0.npk"), "foreign").expect("a file");
    repository.uninstall("a:1.0.0", Some(data.path())).expect_err("another file");
    assert_eq!(names(data.path()), ["a", "b"]);
}

#[test]
fn a_sweep_ends_what_was_broken_off() {
    let data = data();
    let path = |name: &str| data.path().join(name);
    for name in [".wipe-c:1.0.0", ".wipe-b:2.0.0", ".wipe-", ".hidden"] {
        fs::create_dir(path(name)).expect("a directory");
    }
    fs::rename(path("a"), path(".wipe-a:1.0.0")).expect("set aside");
    let swept = sweep(data.path(), |container| container != "c:1.0.0").expect("a directory");
    assert_eq!((swept.wiped, swept.put_back), (vec![".wipe-c:1.0.0".into()], vec![".wipe-a:1.0.0".into()]));
    assert_eq!(swept.skipped.len(), 1, "{:?}", swept.skipped);
    assert!(swept.skipped[0].reason.to_string().ends_with("/b\" is there again"), "{:?}", swept.skipped);
    assert_eq!(names(data.path()), [".hidden", ".wipe-", ".wipe-b:2.0.0", "a", "b"]);
    assert_eq!(fs::read(path("a/deep/x")).expect("what was kept"), b"kept");
}
