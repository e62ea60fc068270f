//! Errors as callers of the program find them: on the stream, in the file, and in the exit status.
#![allow(clippy::expect_used)] // A test may end where its files or its program are not there.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};
use std::{env, fs};

fn cofferdam(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cofferdam")).args(arguments).output().expect("the program starts")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_stream_has_the_error_and_a_hint() {
    let output = cofferdam(&["list", "a"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    assert_eq!(
        stderr(&output),
        "cofferdam: \"list\" requires exactly 0 argument(s)\nhint: see \"cofferdam list --help\"\n"
    );
}

#[test]
fn the_statuses_are_runcs() {
    for (arguments, status) in
        [(&["exec", "a", "b"][..], 255), (&["exec"], 1), (&["nonsense"], 3), (&["-x"], 1), (&[], 0)]
    {
        assert_eq!(cofferdam(arguments).status.code(), Some(status), "{arguments:?}");
    }
}

#[test]
fn the_file_is_appended_to() {
    let path = env::temp_dir().join(format!("cofferdam-log-{}", std::process::id()));
    let log = path.to_str().expect("the path is text");
    assert_eq!(cofferdam(&["--log", log, "--log-format", "json", "nonsense"]).status.code(), Some(3));
    let output = cofferdam(&["--log", log, "list", "a"]);
    assert!(stderr(&output).starts_with("cofferdam: \"list\" requires"), "{output:?}");
    let text = fs::read_to_string(&path).expect("the log is there");
    let mode = fs::metadata(&path).expect("the log is there").permissions().mode();
    fs::remove_file(&path).expect("the log can be removed");
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    let json: serde_json::Value = serde_json::from_str(lines[0]).expect("the first line is JSON");
    assert_eq!(json["level"], "error");
    assert_eq!(json["msg"], "No help topic for 'nonsense'");
    assert!(lines[1].ends_with("level=error msg=\"\\\"list\\\" requires exactly 0 argument(s)\""), "{text}");
    assert_eq!(mode & 0o7133, 0, "{mode:o}");
}

#[test]
fn json_goes_to_the_stream_where_there_is_no_file() {
    let output = cofferdam(&["--log-format=json", "list", "a"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stderr).expect("the stream has JSON");
    assert_eq!(json["msg"], "\"list\" requires exactly 0 argument(s)");
}

#[test]
fn a_log_that_cannot_be_opened_ends_the_command() {
    let output = cofferdam(&["--log", "/proc/none", "--version"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).starts_with("cofferdam: --log: open(\"/proc/none\"): "), "{output:?}");
}
