//! What `--help` prints, compared whole with files, by the program as a process.
//!
//! `BLESS=1 cargo test -p cofferdam --test help` writes the files anew.
#![allow(clippy::expect_used)] // A test may end where its files or its program are not there.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use cofferdam::flags::VERBS;

fn cofferdam(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cofferdam")).args(arguments).output().expect("the program starts")
}

fn compared(name: &str, arguments: &[&str]) {
    let output = cofferdam(arguments);
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{arguments:?}");
    let text = String::from_utf8(output.stdout).expect("help is text");
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/help/{name}.txt"));
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &text).expect("the golden file can be written");
    }
    let golden = fs::read_to_string(&path).expect("the golden file is there");
    assert_eq!(text, golden, "{arguments:?}");
}

#[test]
fn every_command_has_its_text() {
    compared("cofferdam", &["--help"]);
    for verb in VERBS {
        compared(verb.name, &[verb.name, "--help"]);
        compared(verb.name, &["help", verb.name]);
    }
}

#[test]
fn no_text_is_left_over() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/help");
    let files = fs::read_dir(folder).expect("the folder is there").count();
    assert_eq!(files, VERBS.len() + 1);
}

#[test]
fn the_version_is_what_dockerd_parses() {
    let output = cofferdam(&["--version"]);
    let text = String::from_utf8(output.stdout).expect("the version is text");
    assert!(text.starts_with("cofferdam version "), "{text}");
    assert!(text.contains("\nspec: 1.3.0\n"), "{text}");
}
