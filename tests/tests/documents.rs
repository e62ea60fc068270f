//! What the documents tell of texts and files that others read is so.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;
use tests::{Agent, Answer, Bundle, Conduct, Output, Runtime, needs};

fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    fs::read_to_string(&path).expect("read the document")
}

/// The cells of the table that begins with this head; `\|` does not occur in these.
fn table(document: &str, head: &str) -> Vec<Vec<String>> {
    let rows: Vec<Vec<String>> = document
        .lines()
        .skip_while(|line| !line.starts_with(head))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect())
        .collect();
    assert!(!rows.is_empty(), "there is no table {head}");
    rows
}

/// Brings a situation about; what was said on standard error, and in the JSON log.
fn bring_about(situation: &str) -> (Output, String) {
    let bundle = Bundle::new("words");
    let run = &["run", "--bundle", "BUNDLE", "ID"] as &[_];
    let (bundle, words) = match situation {
        "`kill` of a stopped container" | "`kill` of no container" => (bundle, &["kill", "ID"] as &[_]),
        "`state` of no container" => (bundle, &["state", "ID"] as &[_]),
        "a program that is not in PATH" => (bundle.args(&["no-such-program"]), run),
        "a program whose path is not there" => (bundle.args(&["/no/such/program"]), run),
        "a program that is not executable" => (bundle.args(&["/etc/passwd"]), run),
        "a program that is a directory" => (bundle.args(&["/etc"]), run),
        "a directory mounted on a file" => (bundle.mount("/etc/passwd", "bind", "/usr", &["bind"]), run),
        other => panic!("docs/errors.md names a situation that no test knows: {other}"),
    };
    let container = bundle.container(&Runtime::under_test());
    if situation == "`kill` of a stopped container" {
        container.create().success();
        container.start().success();
        assert!(container.ended());
    }
    let log = bundle.dir().join("log");
    let output =
        container.command(words).global("--log").global(&log).global("--log-format").global("json").run();
    let log = fs::read_to_string(&log).expect("read the log");
    let last = log.lines().rfind(|line| line.contains("\"level\":\"error\"")).expect("an error is logged");
    let last: Value = serde_json::from_str(last).expect("the log is JSON");
    (output, last["msg"].as_str().expect("msg is text").to_owned())
}

#[test]
fn root_words_that_others_look_for_are_there() {
    needs!(Root, Busybox);
    for row in table(&document("errors.md"), "| words |") {
        let [words, _who, _what, situation] = row.as_slice() else { panic!("{row:?}: has not four cells") };
        let words = words.trim_matches('`');
        let (output, logged) = bring_about(situation);
        output.code(1);
        assert!(output.stderr.contains(words), "{situation}: {words}: {output}");
        assert!(logged.contains(words), "{situation}: {words}: {logged}");
    }
}

/// Every key in a document, with its way there.
fn keys(value: &Value, way: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let way = if way.is_empty() { key.clone() } else { format!("{way}.{key}") };
                found.insert(way.clone());
                keys(value, &way, found);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| keys(value, &format!("{way}[]"), found)),
        _ => {}
    }
}

#[test]
fn root_the_record_has_the_fields_that_are_documented() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("record");
    let agent = Agent::new(&bundle, Conduct::Answers(|_| Answer::Continue));
    let bundle = bundle.edit(|config| {
        // In a group below one that is not there; and a word that is ignored with a warning.
        let path =
            format!("/{}/group", config["process"]["env"][2].as_str().expect("the marker").replace('=', "-"));
        config["linux"]["cgroupsPath"] = path.into();
        config["process"]["capabilities"]["bounding"] = serde_json::json!(["CAP_MOON"]);
        config["process"]["capabilities"]["effective"] = serde_json::json!([]);
        config["process"]["capabilities"]["permitted"] = serde_json::json!([]);
        config["linux"]["seccomp"] = serde_json::json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": agent.path(),
            "syscalls": [{"names": ["acct"], "action": "SCMP_ACT_NOTIFY"}],
        });
    });
    let container = bundle.container(&Runtime::under_test());
    container.create().success();
    let directory = bundle.state_root().join(bundle.id());
    let mut names: Vec<_> = fs::read_dir(&directory)
        .expect("read the container's directory")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["gate", "state.json"]);
    let record = fs::read_to_string(directory.join("state.json")).expect("read the record");
    assert!(!record.ends_with('\n'));
    let mut written = BTreeSet::new();
    keys(&serde_json::from_str(&record).expect("the record is JSON"), "", &mut written);

    let rows = table(&document("state.md"), "| field |");
    let told: BTreeSet<_> = rows.iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    let untold: Vec<_> = written.difference(&told).collect();
    assert!(untold.is_empty(), "written and not documented: {untold:?}");
    // What a newer or an older kernel has, a document with annotations, groups of a service manager, a device's daemon.
    let mut absent: BTreeSet<_> = told.difference(&written).map(String::as_str).collect();
    for optional in [
        "annotations",
        "attended",
        "init.birthmark",
        "init.start_time",
        "unit.bus",
        "unit.description",
        "unit.unit",
        "unit.version",
    ] {
        absent.remove(optional);
    }
    assert!(absent.is_empty(), "documented and not written: {absent:?}");
    container.delete().success();
}
