//! Compares `rooms.toml` with the workspace that cargo knows, with the map in `ARCHITECTURE.md`, and with the
//! sources: which rooms there are, which way they lean on each other, and where `unsafe` lives.
#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot read the tree must fail")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// One room as `rooms.toml` tells it.
#[derive(Debug, Default)]
struct Room {
    name: String,
    floor: u64,
    uses: BTreeSet<String>,
    is: String,
    touches: String,
}

/// One package of the workspace as cargo tells it.
#[derive(Debug)]
struct Package {
    /// Stands in `crates/` or `bin/`.
    room: bool,
    /// The workspace packages that the built thing depends on, not its tests.
    uses: BTreeSet<String>,
}

fn tree() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .expect("the tree that this was built from")
}

fn text(file: &str) -> String {
    fs::read_to_string(tree().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Reads the small part of TOML that `rooms.toml` keeps to: tables of one word, and values of one line that
/// are written the same in JSON.
fn rooms() -> Vec<Room> {
    let mut rooms = Vec::<Room>::new();
    for (number, line) in text("rooms.toml").lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            rooms.push(Room { name: name.into(), ..Room::default() });
            continue;
        }
        let place = format!("rooms.toml:{}: {line}", number + 1);
        let (key, value) =
            line.split_once(" = ").unwrap_or_else(|| panic!("{place}: neither a room nor a value"));
        let value: Value = serde_json::from_str(value).unwrap_or_else(|error| panic!("{place}: {error}"));
        let room = rooms.last_mut().unwrap_or_else(|| panic!("{place}: stands before the first room"));
        match key {
            "floor" => room.floor = value.as_u64().expect(&place),
            "uses" => room.uses = words(&value),
            "is" => room.is = value.as_str().expect(&place).into(),
            "touches" => room.touches = value.as_str().expect(&place).into(),
            _ => panic!("{place}: no such key"),
        }
    }
    rooms
}

fn words(list: &Value) -> BTreeSet<String> {
    list.as_array().expect("a list").iter().map(|word| word.as_str().expect("a word").into()).collect()
}

fn packages() -> BTreeMap<String, Package> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(tree())
        .output()
        .expect("cargo metadata");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("what cargo metadata prints");
    let packages = metadata["packages"].as_array().expect("packages");
    let name = |package: &Value| package["name"].as_str().expect("a name").to_owned();
    let members: BTreeSet<String> = packages.iter().map(name).collect();

    let described = packages.iter().map(|package| {
        let manifest = Path::new(package["manifest_path"].as_str().expect("a manifest"));
        let place = manifest.strip_prefix(tree()).expect("a manifest in the tree");
        let dependencies = package["dependencies"].as_array().expect("dependencies").iter();
        // Tests may lean on anything; a build script runs before the room is there at all.
        let built = dependencies.filter(|dependency| dependency["kind"].as_str() != Some("dev"));
        let uses = built.map(name).filter(|used| members.contains(used)).collect();
        (name(package), Package { room: place.starts_with("crates") || place.starts_with("bin"), uses })
    });
    described.collect()
}

#[test]
fn every_room_is_listed_and_none_is_invented() {
    let listed: Vec<String> = rooms().into_iter().map(|room| room.name).collect();
    let set: BTreeSet<String> = listed.iter().cloned().collect();
    assert_eq!(set.len(), listed.len(), "rooms.toml lists a room twice: {listed:?}");

    let real: BTreeSet<String> =
        packages().into_iter().filter(|(_, package)| package.room).map(|(name, _)| name).collect();
    let unlisted: Vec<_> = real.difference(&set).collect();
    let invented: Vec<_> = set.difference(&real).collect();
    assert!(unlisted.is_empty(), "in the workspace, not in rooms.toml: {unlisted:?}");
    assert!(invented.is_empty(), "in rooms.toml, not in the workspace: {invented:?}");
}

#[test]
fn rooms_lean_only_on_what_they_may_use() {
    let rooms = rooms();
    let packages = packages();
    let mut wrong = Vec::new();
    for (name, package) in &packages {
        if let Some(room) = rooms.iter().find(|room| room.name == *name) {
            wrong
                .extend(package.uses.difference(&room.uses).map(|used| format!("{name} may not use {used}")));
        }
        for used in &package.uses {
            if packages.get(used).is_none_or(|package| !package.room) {
                wrong.push(format!("{name} uses {used}, which is no room"));
            }
        }
    }
    assert!(wrong.is_empty(), "against rooms.toml:\n{}", wrong.join("\n"));
}

#[test]
fn no_arrow_points_up_or_in_a_circle() {
    // Every room stands after all that it may use: so the list is a staircase, and a circle cannot be written.
    let mut below = BTreeMap::<String, u64>::new();
    for room in rooms() {
        for used in &room.uses {
            let floor = below.get(used);
            assert!(floor.is_some(), "{} may use {used}, which does not stand before it", room.name);
            assert!(
                floor <= Some(&room.floor),
                "{} on floor {} may use {used} above it",
                room.name,
                room.floor
            );
        }
        // The rooms of floor 2 do not know each other, and neither do the binaries.
        if room.floor == 2 || room.floor == 5 {
            let beside: Vec<_> =
                room.uses.iter().filter(|used| below.get(*used) == Some(&room.floor)).collect();
            assert!(beside.is_empty(), "{} knows its neighbours {beside:?}", room.name);
        }
        let last = below.values().max().copied().unwrap_or(0);
        assert!(room.floor >= last, "{} stands below the room before it", room.name);
        below.insert(room.name, room.floor);
    }
}

#[test]
fn only_sys_may_be_unsafe() {
    // Written in two halves, so that this file does not find itself.
    let allowance = concat!("unsafe", "_code");
    let mut found = Vec::new();
    for top in ["crates", "bin", "tests", "bench"] {
        if !tree().join(top).is_dir() {
            continue;
        }
        for file in files(&tree().join(top)) {
            let place = file.strip_prefix(tree()).expect("a file in the tree").to_owned();
            if place.starts_with("crates/sys") {
                continue;
            }
            if file.extension().is_some_and(|extension| extension == "rs") {
                let source = fs::read_to_string(&file).expect("a source");
                if source.contains(allowance) {
                    found.push(format!("{}: speaks of {allowance}", place.display()));
                }
            } else if file.file_name().is_some_and(|name| name == "Cargo.toml") {
                let manifest = fs::read_to_string(&file).expect("a manifest");
                if !manifest.contains("[lints]\nworkspace = true") {
                    found.push(format!("{}: does not take the workspace's lints", place.display()));
                }
            }
        }
    }
    assert!(
        text("Cargo.toml").contains(&format!("{allowance} = \"deny\"")),
        "the workspace denies {allowance}"
    );
    assert!(found.is_empty(), "only crates/sys may allow it:\n{}", found.join("\n"));
}

/// All files below a directory, but for what was built and what begins with a dot.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of the tree") {
        let entry = entry.expect("an entry");
        let name = entry.file_name();
        let kind = entry.file_type().expect("its type");
        if kind.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
            found.extend(files(&entry.path()));
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    found
}

#[test]
fn the_map_in_architecture_is_the_list_of_rooms() {
    let mut expected =
        String::from("| floor | room | what it is | may use | touches |\n|---|---|---|---|---|\n");
    for room in rooms().iter().rev() {
        let uses = room.uses.iter().map(|used| format!("`{used}`")).collect::<Vec<_>>().join(" ");
        let uses = if uses.is_empty() { "nothing".into() } else { uses };
        let Room { name, floor, is, touches, .. } = room;
        writeln!(expected, "| {floor} | `{name}` | {is} | {uses} | {touches} |")
            .expect("writing to a string");
    }

    let architecture = text("ARCHITECTURE.md");
    let printed = architecture
        .split_once("<!-- rooms.toml -->\n")
        .and_then(|(_, rest)| rest.split_once("<!-- end of rooms.toml -->"))
        .map(|(table, _)| table);
    assert!(
        printed == Some(expected.as_str()),
        "ARCHITECTURE.md should hold, between its two marks:\n\n{expected}"
    );
}
