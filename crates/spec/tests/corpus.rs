//! The corpus of the fuzz target, and documents too large to be kept.
#![allow(clippy::expect_used, clippy::panic, reason = "a test states what it expects")]

mod property;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use property::hold;
use spec::{Invalid, Spec};

#[test]
fn the_corpus_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/config");
    let (mut good, mut bad) = (0, 0);
    for entry in fs::read_dir(folder).expect("the corpus is there") {
        let path = entry.expect("the folder can be read").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("names are text").to_owned();
        let bytes = fs::read(&path).expect("an input can be read");
        let begun = Instant::now();
        let told = hold(&bytes);
        assert!(begun.elapsed() < Duration::from_secs(1), "{name} took {:?}", begun.elapsed());
        // Inputs that the fuzzer adds are named by their hash and may be either.
        match (name.split('-').next(), told) {
            (Some("good"), told) => {
                good += 1;
                assert_eq!(told.map(|_| ()), Ok(()), "{name}");
            }
            (Some("bad"), told) => {
                bad += 1;
                assert!(told.is_err(), "{name} passed");
            }
            _ => {}
        }
    }
    assert!(good >= 6 && bad >= 20, "the corpus has {good} good and {bad} bad inputs");
}

/// A document of more than 10 MB around what `repeated` and `last` say.
fn large(before: &str, repeated: &str, last: &str, after: &str) -> Vec<u8> {
    let times = 10_000_000 / repeated.len() + 1;
    [before, &repeated.repeat(times), last, after].concat().into_bytes()
}

/// Parses and checks; the way there and back is asked of small documents.
fn judge(bytes: &[u8]) -> Result<(), Invalid> {
    Spec::parse(bytes)?.check()
}

const HEAD: &str = r#"{"ociVersion":"1.3.0","root":{"path":"r"},"process":{"cwd":"/","#;

#[test]
fn ten_megabytes_of_arguments_pass() {
    let document = large(&format!("{HEAD}\"args\":["), "\"a\",", "\"a\"", "]}}");
    assert!(judge(&document).is_ok());
}

#[test]
fn the_fault_after_ten_megabytes_is_found_where_it_is() {
    let document = large(&format!("{HEAD}\"args\":["), "\"a\",", "7", "]}}");
    let told = judge(&document).expect_err("7 is no argument").to_string();
    assert_eq!(told, "process.args[2500001]: expected a string, not 7");
}

#[test]
fn ten_megabytes_of_limits_end_at_the_second() {
    let limit = r#"{"type":"RLIMIT_NOFILE","soft":1,"hard":1},"#;
    let document =
        large(&format!("{HEAD}\"args\":[\"a\"],\"rlimits\":["), limit, limit.trim_end_matches(','), "]}}");
    let told = judge(&document).expect_err("it is listed twice").to_string();
    assert_eq!(told, "process.rlimits[1]: RLIMIT_NOFILE is listed twice");
}

#[test]
fn a_word_of_ten_megabytes_is_not_repeated_in_the_error() {
    let document = large(r#"{"linux":{"namespaces":[{"type":""#, "mount", "", r#""}]}}"#);
    assert!(judge(&document).expect_err("there is no such namespace").to_string().len() < 400);
    let document = large(r#"{"annotations":{""#, "key", "", r#"":1}}"#);
    assert!(judge(&document).expect_err("1 is no annotation").to_string().len() < 400);
}

#[test]
fn mappings_by_the_hundred_thousand_are_too_many() {
    let line = r#"{"containerID":0,"hostID":0,"size":1},"#;
    let document = large(
        &format!("{HEAD}\"args\":[\"a\"]}},\"linux\":{{\"uidMappings\":["),
        line,
        line.trim_end_matches(','),
        "]}}",
    );
    let told = judge(&document).expect_err("the kernel takes 340").to_string();
    assert!(told.starts_with("linux.uidMappings: has "), "{told}");
}

#[test]
fn ten_megabytes_of_brackets_are_nested_too_deeply() {
    let told = judge(&large(r#"{"process":{"args":["#, "[", "", "")).expect_err("it never ends").to_string();
    assert_eq!(told, "process.args[0]: expected a string, not a list");
    assert!(judge(&large("", "[", "", "")).is_err());
    assert!(judge(&large("{\"x\":", "{\"x\":", "", "")).is_err());
}
