//! What `oci-spec` accepts we accept, and what both keep is equal.
#![allow(clippy::expect_used, clippy::panic, reason = "a test states what it expects")]

use std::fs;
use std::path::Path;

use serde_json::Value;
use spec::Spec;

/// Documents that engines write, each with the name of its file.
fn documents() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut documents: Vec<_> = fs::read_dir(folder)
        .expect("the fixtures are there")
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| !path.ends_with("runc-1.1.5-features.json"))
        .map(|path| (path.display().to_string(), fs::read(&path).expect("a fixture can be read")))
        .collect();
    documents.push(("our template".into(), Spec::template(true).to_pretty().into_bytes()));
    documents.push((
        "our rootless template".into(),
        Spec::template(false).rootless(1, 1).to_pretty().into_bytes(),
    ));
    documents
}

#[test]
fn what_the_oracle_accepts_we_accept_and_check() {
    for (name, bytes) in documents() {
        serde_json::from_slice::<oci_spec::runtime::Spec>(&bytes)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let spec = Spec::parse(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(spec.check(), Ok(()), "{name}");
    }
}

#[test]
fn what_both_keep_is_equal() {
    let mut compared = 0;
    for (name, bytes) in documents() {
        let theirs: oci_spec::runtime::Spec = serde_json::from_slice(&bytes).expect("the oracle accepts it");
        let theirs = serde_json::to_value(theirs).expect("it can be written");
        let ours =
            serde_json::to_value(Spec::parse(&bytes).expect("we accept it")).expect("it can be written");
        compare(&ours, &theirs, &name, &mut compared);
    }
    assert!(compared > 500, "only {compared} values were compared");
}

fn compare(ours: &Value, theirs: &Value, path: &str, compared: &mut usize) {
    match (ours, theirs) {
        (Value::Object(one), Value::Object(other)) => {
            for (key, value) in one {
                if let Some(twin) = other.get(key) {
                    compare(value, twin, &format!("{path}.{key}"), compared);
                }
            }
        }
        (Value::Array(one), Value::Array(other)) => {
            // The oracle keeps capabilities as sets, in no order.
            if path.contains(".capabilities.") {
                let sorted = |list: &[Value]| {
                    let mut words: Vec<String> = list.iter().map(Value::to_string).collect();
                    words.sort();
                    words
                };
                assert_eq!(sorted(one), sorted(other), "{path}");
                *compared += one.len();
                return;
            }
            assert_eq!(one.len(), other.len(), "{path}");
            for (index, (value, twin)) in one.iter().zip(other).enumerate() {
                compare(value, twin, &format!("{path}[{index}]"), compared);
            }
        }
        _ => {
            assert_eq!(ours, theirs, "{path}");
            *compared += 1;
        }
    }
}

/// Nothing is lost on the way through our types: what a document holds comes out as it went in, but for sections
/// of other systems, and for what Go would leave out.
#[test]
fn what_goes_in_comes_out() {
    for (name, bytes) in documents() {
        let before: Value = serde_json::from_slice(&bytes).expect("it is JSON");
        let after =
            serde_json::to_value(Spec::parse(&bytes).expect("we accept it")).expect("it can be written");
        kept(&before, &after, &name);
    }
}

fn kept(before: &Value, after: &Value, path: &str) {
    match (before, after) {
        (Value::Object(one), Value::Object(other)) => {
            for (key, value) in
                one.iter().filter(|(key, value)| !absent(value) && !FOREIGN.contains(&key.as_str()))
            {
                let twin = other.get(key).unwrap_or_else(|| panic!("{path}.{key} is lost"));
                kept(value, twin, &format!("{path}.{key}"));
            }
        }
        (Value::Array(one), Value::Array(other)) => {
            assert_eq!(one.len(), other.len(), "{path}");
            for (index, (value, twin)) in one.iter().zip(other).enumerate() {
                kept(value, twin, &format!("{path}[{index}]"));
            }
        }
        _ => assert_eq!(before, after, "{path}"),
    }
}

fn absent(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

const FOREIGN: &[&str] = &["windows", "vm", "solaris", "zos", "freebsd", "x-unknown"];

#[test]
fn sections_of_other_systems_are_skipped() {
    let spec = Spec::parse(
        br#"{"ociVersion":"1.3.0","root":{"path":"r"},"process":{"args":["a"],"cwd":"/","user":{"username":"u"},
            "commandLine":"c"},"windows":{"layerFolders":7},"vm":[],"solaris":null,"zos":{},"freebsd":{"jail":{}}}"#,
    )
    .expect("they are not looked at");
    assert_eq!(spec.check(), Ok(()));
}

/// Documents that runc takes and the oracle does not: the reason why it is an oracle here and no dependency
/// (docs/decisions/0001-parse-config-ourselves.md). One that it has learned to take fails here.
#[test]
fn where_the_oracle_refuses_runc_does_not() {
    for process in [
        r#"{"args":["a"],"cwd":"/","user":{"uid":0,"gid":0},"capabilities":{"bounding":["CAP_OF_TOMORROW"]}}"#,
        r#"{"args":["a"],"cwd":"/","user":{"uid":0,"gid":0},"scheduler":{"policy":"SCHED_OTHER","flags":["SCHED_FLAG_RESET_ON_FORK"]}}"#,
        r#"{"args":["a"],"cwd":"/","user":{"uid":0,"gid":0},"scheduler":{"policy":"SCHED_OTHER","flags":["SCHED_FLAG_DL_OVERRUN"]}}"#,
        r#"{"args":["a"],"cwd":"/","user":null}"#,
        r#"{"args":["a"],"cwd":"/"}"#,
    ] {
        let document = format!(r#"{{"ociVersion":"1.3.0","root":{{"path":"r"}},"process":{process}}}"#);
        assert!(serde_json::from_str::<oci_spec::runtime::Spec>(&document).is_err(), "taken now: {process}");
        let spec = Spec::parse(document.as_bytes()).expect("we take it");
        assert_eq!(spec.check(), Ok(()), "{process}");
    }
}
