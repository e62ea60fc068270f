//! The daemon's configuration: every default, every rule, and where an error is.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test states what it expects")]

mod hold;

use std::path::{Path, PathBuf};
use std::time::Duration;

use daemon::config::{Config, Repository, RepositoryKind};
use daemon::console::Options;
use wire::{Address, Permission, Permissions};

const LEAST: &str = "run_dir = \"/a\"\ndata_dir = \"/b\"\nsocket_dir = \"/c\"\ncgroup = \"d\"\n";

fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/daemon").join(name)
}

#[test]
fn what_is_not_said_has_a_default() {
    let config = Config::parse("a.toml", LEAST).unwrap();
    assert_eq!(config.run_dir, Path::new("/a"));
    assert_eq!(config.data_dir, Path::new("/b"));
    assert_eq!(config.socket_dir, Path::new("/c"));
    assert_eq!(config.cgroup, "d");
    assert_eq!((config.event_buffer_size, config.notification_buffer_size), (256, 128));
    assert_eq!(config.loop_device_timeout, Duration::from_secs(10));
    assert_eq!((config.user, config.group), (65534, 65534));
    assert!(config.console.global.is_none() && config.repositories.is_empty());
    let options = Options {
        token_validity: Duration::from_secs(60),
        max_requests_per_sec: 1000,
        max_request_size: 1_048_576,
        max_npk_install_size: 268_435_456,
        npk_stream_timeout: Duration::from_secs(10),
    };
    assert_eq!(config.console.options, options);
}

#[test]
fn all_fields_are_read() {
    let config = Config::read(&corpus("full")).unwrap();
    let global = config.console.global.unwrap();
    assert_eq!(global.bind, Address::Tcp { host: "localhost".into(), port: 4200 });
    assert_eq!(global.permissions, Permissions::full());
    assert_eq!(global.max_connections, 16);
    assert_eq!(global.mode, 0o600);
    let options = Options { max_requests_per_sec: 2000, max_request_size: 2 << 20, ..Options::default() };
    assert_eq!(global.options, options);
    assert_eq!(config.console.options.token_validity, Duration::from_secs(90));
    assert_eq!(config.console.options.npk_stream_timeout, Duration::from_millis(500));
    assert_eq!(config.console.options.max_npk_install_size, 1_500_000_000);
    let memory = Repository {
        kind: RepositoryKind::Memory,
        key: Some("/etc/cofferdam/vendor.pub".into()),
        mount_on_start: false,
        capacity_num: Some(10),
        capacity_size: Some(100_000_000),
    };
    assert_eq!(config.repositories["memory"], memory);
    let directory = Repository {
        kind: RepositoryKind::Directory { dir: "/var/lib/cofferdamd/packages".into() },
        key: None,
        mount_on_start: true,
        capacity_num: None,
        capacity_size: None,
    };
    assert_eq!(config.repositories["default"], directory);
}

#[test]
fn permissions_may_be_a_list() {
    let config = Config::read(&corpus("list")).unwrap();
    let global = config.console.global.unwrap();
    assert_eq!(global.permissions, Permissions::of([Permission::List, Permission::Kill]));
    assert_eq!((global.bind, global.mode), (Address::Unix("/run/c".into()), 0o660));
}

/// `text` stands behind the least that there must be.
#[track_caller]
fn refused(text: &str, told: &str) {
    let error = Config::parse("a.toml", &format!("{LEAST}{text}")).expect_err(text).to_string();
    assert_eq!(error, told, "{text}");
}

#[test]
fn what_nobody_knows_is_an_error() {
    refused("runs = 1", "@1");
    refused("[console]\nbind = \"tcp://a\"", "@2");
    refused("[console.options]\nmax_request_per_sec = 1", "@3");
    refused("[repositories.a]\ntype = \"mem\"\nsize = 1", "@4");
    refused("[repositories.a]\ntype = { fs = { dir = \"/x\", rw = true } }", "@5");
    refused("[debug]\nconsole = \"tcp://a\"", "@6");
    // As the reference has it.
    let lenient = "[console.global]\nbind = \"tcp://a\"\npermissions = []\nmotd = \"hello\"\n";
    Config::parse("a.toml", &format!("{LEAST}{lenient}")).unwrap();
}

#[test]
fn values_have_rules() {
    refused("user = 0", "@7");
    refused("event_buffer_size = 0", "@8");
    refused("notification_buffer_size = 65537", "@9");
    refused("loop_device_timeout = 10", "@10");
    refused("loop_device_timeout = \"soon\"", "@11");
    refused("[console.options]\nmax_request_size = 1048576", "@12");
    refused("[console.options]\nmax_request_size = \"much\"", "@13");
    refused("[console.options]\nmax_requests_per_sec = 0", "@14");
    refused("[console.global]\nbind = \"http://a\"\npermissions = \"full\"", "@15");
    refused("[console.global]\nbind = \"tcp://a\"\npermissions = [\"root\"]", "@16");
    refused("[console.global]\nbind = \"tcp://a\"", "@17");
    refused("[console.global]\nbind = \"tcp://a\"\npermissions = \"full\"\nmode = 0o7777", "@18");
    refused("[repositories.a]\ntype = \"tape\"", "@19");
    refused("[repositories.a]\ntype = { fs = { dir = \"x\" } }", "@20");
    refused("[repositories.\"\"]\ntype = \"mem\"", "@21");
    refused("[debug]\ncommands = [\"strace\"]", "@22");
    refused("[console", "@23");
}

#[test]
fn what_must_be_there_is_missed() {
    let error = Config::parse("a.toml", "run_dir = \"/a\"").expect_err("nothing else").to_string();
    assert_eq!(error, "@24");
    for wrong in ["run_dir = \"a\"", "run_dir = \"/a/../b\"", "cgroup = \"\"", "cgroup = \"a/../b\""] {
        let text = LEAST.replace(&LEAST[..15], "").replace("cgroup = \"d\"\n", "");
        let other = if wrong.starts_with('r') { "cgroup = \"d\"\n" } else { "run_dir = \"/a\"\n" };
        let error = Config::parse("a.toml", &format!("{wrong}\n{other}{text}")).expect_err(wrong).to_string();
        assert!(error.starts_with("a.toml:1:"), "{error}");
    }
}

#[test]
fn no_directory_is_in_another() {
    for (wrong, told) in [
        ("run_dir = \"/b/a\"", "a.toml: data_dir: /b and run_dir, /b/a, overlap"),
        ("run_dir = \"/b\"", "a.toml: data_dir: /b and run_dir, /b, overlap"),
    ] {
        let error = Config::parse("a.toml", &LEAST.replace("run_dir = \"/a\"", wrong)).expect_err(wrong);
        assert_eq!(error.to_string(), told);
    }
    refused(
        "[repositories.x]\ntype = { fs = { dir = \"/b/packages\" } }",
        "a.toml: repositories.x.type.fs.dir: /b/packages and data_dir, /b, overlap",
    );
    // A name that begins like another is another.
    let near = LEAST.replace("run_dir = \"/a\"", "run_dir = \"/bb\"");
    Config::parse("a.toml", &near).unwrap();
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Config::read(Path::new("/nowhere/a.toml")).expect_err("no such file").to_string();
    assert_eq!(error, "read(\"/nowhere/a.toml\"): no such file or directory (os error 2)");
}

#[test]
fn the_corpus_holds() {
    for entry in std::fs::read_dir(corpus("")).unwrap() {
        hold::config(&std::fs::read(entry.unwrap().path()).unwrap());
    }
}
