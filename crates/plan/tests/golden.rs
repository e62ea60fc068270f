//! Plans of documents that engines write, as `cofferdam plan` prints them, on two hosts. `BLESS=1 cargo test -p plan`
//! writes them anew; the difference is then for a reader to judge.
#![allow(clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "a test fails by panicking")]

mod property;

use std::fs;
use std::path::{Path, PathBuf};

use plan::cgroup::HostCgroups;
use plan::systemd::{Bus, Manager};
use plan::{Caller, Host, Inner, Modules, Source, Step};
use property::{hold, hosts, plan, request};

fn documents(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let files = fs::read_dir(&folder).expect("the folder is there");
    let mut files: Vec<PathBuf> = files.map(|file| file.expect("the folder can be read").path()).collect();
    files.sort();
    files
}

fn goldens() -> impl Iterator<Item = PathBuf> {
    documents("tests/plans").into_iter().filter(|file| file.extension().is_some_and(|end| end == "json"))
}

/// Documents with labels are planned for a host that runs both security modules, too.
fn hosts_of(document: &Path) -> Vec<(&'static str, Host)> {
    let mut hosts = Vec::from(hosts());
    if document.ends_with("labels.json") {
        let (_, plain) = hosts.last().expect("there are hosts").clone();
        hosts.push((LABELLED, Host { modules: Modules { apparmor: true, selinux: true }, ..plain }));
    }
    if document.ends_with("rootless.json") {
        let caller = Caller { uid: 1000, gid: 1000 };
        for (name, host) in Vec::from(property::hosts()) {
            let cgroups = HostCgroups { rootless: true, ..host.cgroups };
            let name = if name == "v2" { "user-v2" } else { "user-hybrid" };
            hosts.push((name, Host { caller: Some(caller), cgroups, ..host }));
        }
        // Root of a user namespace in which groups cannot be set.
        let (_, host) = property::hosts()[0].clone();
        let cgroups = HostCgroups { rootless: true, ..host.cgroups };
        hosts.push(("inner-hybrid", Host { inner: Some(Inner { denies_groups: true }), cgroups, ..host }));
    }
    if document.file_name().is_some_and(|name| name.to_string_lossy().starts_with("systemd")) {
        hosts = managed();
    }
    hosts
}

/// Hosts with a service manager that is asked for the groups: a new one, an old one on a hybrid host, and a user's.
fn managed() -> Vec<(&'static str, Host)> {
    let [(_, hybrid), (_, v2)] = property::hosts();
    let with = |host: &Host, bus: Bus, version: u32, group: &str, controllers: Option<&str>| {
        let controllers = controllers.map(|list| list.split(' ').map(str::to_owned).collect());
        let manager = Manager { bus, version, group: group.into(), controllers };
        Host { cgroups: HostCgroups { systemd: Some(manager), ..host.cgroups.clone() }, ..host.clone() }
    };
    let direct = Bus { address: "unix:path=/run/systemd/private".into(), is_direct: true, is_user: false };
    let user = Bus { address: "unix:path=/run/user/1000/bus".into(), is_direct: false, is_user: true };
    let mut rootless =
        with(&v2, user, 257, "/user.slice/user-1000.slice/user@1000.service", Some("memory pids"));
    rootless.caller = Some(Caller { uid: 1000, gid: 1000 });
    rootless.cgroups.rootless = true;
    vec![
        ("systemd-v2", with(&v2, direct.clone(), 257, "", None)),
        ("systemd-hybrid", with(&hybrid, direct, 241, "", None)),
        ("systemd-user", rootless),
    ]
}

const LABELLED: &str = "lsm";

/// What stands where: the program is labelled after the root is entered and before privilege goes, through a procfs that
/// was taken before; keys are labelled around the keyring.
#[test]
fn labels_are_planned_where_the_host_has_them() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans/labels.json");
    let bytes = fs::read(&document).expect("the document can be read");
    let hosts = hosts_of(&document);
    let (_, host) = hosts.last().expect("the one with modules");
    let (_, plan) = plan(&bytes, host, &request()).expect("it is planned");
    let at = |wanted: fn(&Step) -> bool| plan.steps.iter().position(wanted).expect("there is such a step");
    let label = |kind: &str| {
        let is_it =
            |step: &Step| matches!(step, Step::Label(label) if format!("{label:?}").starts_with(kind));
        plan.steps.iter().position(is_it).expect("there is such a label")
    };
    let keyring = at(|step| matches!(step, Step::Keyring { .. }));
    assert_eq!((label("Keys(\"s"), label("Keys(\"\")")), (keyring - 1, keyring + 1));
    assert!(at(|step| matches!(step, Step::Procfs)) < keyring);
    let (pivot, bound) = (at(|step| *step == Step::Pivot), at(|step| matches!(step, Step::Bound(_))));
    assert!(pivot < label("Profile") && label("Profile") < bound, "{plan:#?}");
    assert!(pivot < label("Program") && label("Program") < bound, "{plan:#?}");
    let labelled = |target: &str| {
        plan.steps.iter().any(|step| match step {
            Step::Mount(mount) if mount.target == target => match &mount.source {
                Source::New { data, .. } => data.iter().any(|(key, _)| key == "context"),
                Source::Bind { .. } | Source::Mapped(_) => false,
            },
            _ => false,
        })
    };
    let targets = ["/proc", "/dev", "/dev/pts", "/dev/mqueue", "/sys", "/mnt", "/own"];
    assert_eq!(targets.map(labelled), [false, true, true, false, false, false, false]);
}

#[test]
fn plans_are_as_they_were_blessed() {
    let bless = std::env::var_os("BLESS").is_some_and(|value| value == "1");
    let mut wrong = Vec::new();
    let mut count = 0;
    for document in goldens() {
        let bytes = fs::read(&document).expect("a document can be read");
        for (name, host) in hosts_of(&document) {
            let told = match plan(&bytes, &host, &request()) {
                Ok((_, plan)) => plan.to_string(),
                Err(refusal) => refusal + "\n",
            };
            let golden = document.with_extension(format!("{name}.txt"));
            count += 1;
            if bless {
                fs::write(&golden, &told).expect("a plan can be written");
            } else if fs::read_to_string(&golden).ok().as_deref() != Some(&told) {
                eprintln!("{} would be:\n{told}", golden.display());
                wrong.push(golden);
            }
        }
    }
    assert!(count >= 28, "only {count} plans were made");
    assert!(wrong.is_empty(), "other than blessed (BLESS=1 writes them anew): {wrong:#?}");
}

/// A plan that nobody reads any more would never be found wrong.
#[test]
fn every_blessed_plan_has_its_document() {
    for file in documents("tests/plans") {
        let name = file.file_name().and_then(|name| name.to_str()).expect("names are text");
        let stem = name.strip_suffix(".json").or_else(|| {
            [
                "systemd-hybrid",
                "systemd-user",
                "systemd-v2",
                "inner-hybrid",
                "user-hybrid",
                "user-v2",
                "hybrid",
                "v2",
                LABELLED,
            ]
            .iter()
            .find_map(|host| name.strip_suffix(".txt")?.strip_suffix(host)?.strip_suffix('.'))
        });
        let stem = stem.unwrap_or_else(|| panic!("{name} is neither a document nor a plan"));
        assert!(file.with_file_name(format!("{stem}.json")).exists(), "{name} has no document");
    }
}

#[test]
fn what_engines_write_keeps_every_promise() {
    for document in goldens() {
        hold(&fs::read(&document).expect("a document can be read"));
    }
}

#[test]
fn the_corpus_keeps_every_promise() {
    let mut count = 0;
    for folder in ["../../fuzz/corpus/config", "../../fuzz/corpus/plan"] {
        for document in documents(folder) {
            count += 1;
            hold(&fs::read(&document).expect("an input can be read"));
        }
    }
    assert!(count >= 60, "only {count} inputs");
}

/// Each string of a document replaced by a strange one: what comes out is a plan or one line.
#[test]
fn documents_with_one_value_changed_keep_every_promise() {
    let mut count = 0;
    // The others say nothing that these do not.
    let rich = ["k8s-app.json", "sysctls.json"];
    for document in goldens().filter(|document| rich.iter().any(|name| document.ends_with(name))) {
        let bytes = fs::read(&document).expect("a document can be read");
        let whole: serde_json::Value = serde_json::from_slice(&bytes).expect("it is JSON");
        for strange in ["", "/../..//x", "a\u{1b}[2Jb\n"] {
            for number in 0.. {
                let mut changed = whole.clone();
                let mut left = number;
                if !replace(&mut changed, &mut left, strange) {
                    break;
                }
                count += 1;
                hold(changed.to_string().as_bytes());
            }
        }
    }
    assert!(count > 400, "only {count} documents");
}

/// Replaces the string number `left`; false if there are not so many.
fn replace(value: &mut serde_json::Value, left: &mut usize, strange: &str) -> bool {
    match value {
        serde_json::Value::String(text) if *left == 0 => {
            strange.clone_into(text);
            true
        }
        serde_json::Value::String(_) => {
            *left -= 1;
            false
        }
        serde_json::Value::Array(list) => list.iter_mut().any(|value| replace(value, left, strange)),
        serde_json::Value::Object(map) => map.values_mut().any(|value| replace(value, left, strange)),
        _ => false,
    }
}
