//! Files that are kept for the next container: found, not trusted, replaced, bounded, raced for.
#![allow(clippy::expect_used, clippy::panic, reason = "a test states what it expects")]

use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, SystemTime};

use state::Kept;
use tempfile::TempDir;

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn root(&self) -> &str {
        self.0.path().to_str().expect("a plain path")
    }

    fn directory(&self) -> PathBuf {
        self.0.path().join(".filters")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory().join(name)
    }

    /// The directory, made if it is missing.
    fn kept(&self) -> Kept {
        Kept::provide(self.root()).expect("a directory").expect("it is ours")
    }

    /// What a next command finds.
    fn find(&self, name: &str) -> Option<Vec<u8>> {
        Kept::open(self.root()).expect("a look")?.find(name).expect("a look")
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory()).expect("a directory").flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().into_string().expect("a plain name")).collect();
        names.sort();
        names
    }
}

#[test]
fn what_is_kept_is_found() {
    let place = Place::new();
    assert_eq!(place.find("one"), None);
    assert!(place.kept().keep("one", b"first").expect("kept"));
    assert_eq!(place.find("one").as_deref(), Some(&b"first"[..]));
    assert_eq!(place.find("other"), None);
    assert!(place.kept().keep("one", b"second").expect("kept"));
    assert_eq!(place.find("one").as_deref(), Some(&b"second"[..]));
    assert_eq!(place.names(), ["one"]);
    let mode = |path: PathBuf| fs::metadata(path).expect("it is there").mode() & 0o7777;
    assert_eq!((mode(place.directory()), mode(place.file("one"))), (0o700, 0o600));
}

#[test]
fn nothing_is_made_by_looking_or_where_there_is_no_root() {
    let place = Place::new();
    assert_eq!(place.find("one"), None);
    assert!(!place.directory().exists());
    let nowhere = format!("{}/nowhere", place.root());
    assert!(Kept::open(&nowhere).expect("a look").is_none());
    assert!(Kept::provide(&nowhere).is_err());
}

#[test]
fn what_others_could_have_written_is_not_looked_at() {
    let place = Place::new();
    place.kept().keep("one", b"first").expect("kept");
    for mode in [0o620, 0o602, 0o640, 0o604] {
        fs::set_permissions(place.file("one"), Permissions::from_mode(mode)).expect("it is ours");
        assert_eq!(place.find("one"), None, "a file of mode {mode:o}");
    }
    fs::set_permissions(place.file("one"), Permissions::from_mode(0o600)).expect("it is ours");
    for mode in [0o720, 0o702, 0o750, 0o701] {
        fs::set_permissions(place.directory(), Permissions::from_mode(mode)).expect("it is ours");
        assert!(Kept::provide(place.root()).expect("a look").is_none(), "a directory of mode {mode:o}");
    }
    fs::set_permissions(place.directory(), Permissions::from_mode(0o700)).expect("it is ours");
    assert!(place.find("one").is_some());
}

#[test]
fn root_what_belongs_to_others_is_not_looked_at() {
    let place = Place::new();
    place.kept().keep("one", b"first").expect("kept");
    chown(place.file("one"), Some(4711), None).expect("we are root");
    assert_eq!(place.find("one"), None);
    place.kept().keep("one", b"ours").expect("kept");
    assert_eq!(place.find("one").as_deref(), Some(&b"ours"[..]));
    chown(place.directory(), Some(4711), None).expect("we are root");
    assert!(Kept::open(place.root()).expect("a look").is_none());
}

#[test]
fn what_is_no_file_is_not_opened() {
    let place = Place::new();
    let kept = place.kept();
    kept.keep("one", b"first").expect("kept");
    symlink("one", place.file("link")).expect("a link");
    fs::create_dir(place.file("directory")).expect("a directory");
    rustix::fs::mkfifoat(rustix::fs::CWD, place.file("fifo"), 0o600.into()).expect("a fifo");
    File::create(place.file("large")).expect("a file").set_len(1 << 20).expect("it grows");
    for name in ["link", "directory", "fifo", "large"] {
        assert_eq!(place.find(name), None, "{name}");
    }
    // What can be replaced is; what cannot stays, and nothing of ours beside it.
    for name in ["link", "fifo", "large"] {
        assert!(kept.keep(name, b"ours").expect("kept"), "{name}");
        assert_eq!(place.find(name).as_deref(), Some(&b"ours"[..]));
    }
    assert!(kept.keep("directory", b"ours").is_err());
    assert_eq!(place.names(), ["directory", "fifo", "large", "link", "one"]);
}

#[test]
fn a_link_or_a_file_in_its_place_is_no_directory() {
    let place = Place::new();
    let elsewhere = Place::new();
    elsewhere.kept().keep("one", b"elsewhere").expect("kept");
    symlink(elsewhere.directory(), place.directory()).expect("a link");
    assert!(Kept::provide(place.root()).expect("a look").is_none());
    fs::remove_file(place.directory()).expect("it is ours");
    fs::write(place.directory(), "").expect("a file");
    assert!(Kept::provide(place.root()).expect("a look").is_none());
}

/// A writer that was killed leaves its draft and, with its last descriptor, the lock.
#[test]
fn a_draft_left_behind_goes_with_the_next_writer() {
    let place = Place::new();
    let kept = place.kept();
    fs::write(place.file(".draft"), vec![0; 5000]).expect("a draft");
    assert!(kept.keep("one", b"first").expect("kept"));
    assert_eq!(place.names(), ["one"]);
    assert_eq!(place.find("one").as_deref(), Some(&b"first"[..]));
}

#[test]
fn no_more_than_64_are_kept_and_the_oldest_go() {
    let place = Place::new();
    let kept = place.kept();
    let long_ago = SystemTime::now() - Duration::from_secs(1000);
    for at in 0..70 {
        let name = format!("{at:02}");
        assert!(kept.keep(&name, b"some").expect("kept"));
        let file = File::options().write(true).open(place.file(&name)).expect("it is there");
        let times = FileTimes::new().set_modified(long_ago + Duration::from_secs(at));
        file.set_times(times).expect("it is ours");
    }
    let names = place.names();
    assert_eq!((names.len(), names[0].as_str(), names[63].as_str()), (64, "06", "69"));
}

#[test]
fn who_finds_a_writer_goes_without() {
    let place = Place::new();
    let kept = place.kept();
    let held = File::open(place.directory()).expect("a directory");
    held.lock().expect("a lock");
    assert!(!kept.keep("one", b"first").expect("no failure"));
    assert_eq!(place.find("one"), None);
    drop(held);
    assert!(kept.keep("one", b"first").expect("kept"));
}

#[test]
fn writers_and_readers_race_and_nobody_sees_half() {
    let place = Place::new();
    let texts: Vec<Vec<u8>> = (0..4_u8).map(|byte| vec![byte; 30_000]).collect();
    // Who finds another at it leaves it to them, and may look before they have done it.
    place.kept().keep("one", &texts[0]).expect("no failure");
    thread::scope(|scope| {
        for text in &texts {
            let place = &place;
            scope.spawn(move || {
                for _ in 0..500 {
                    place.kept().keep("one", text).expect("no failure");
                    let found = place.find("one").expect("somebody's");
                    assert_eq!(found.len(), 30_000);
                    assert!(found.iter().all(|byte| *byte == found[0]), "half of one and half of another");
                }
            });
        }
    });
    assert_eq!(place.names(), ["one"]);
}
