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
        token_validity: Duration::from_mins(1),
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
    refused(
        "runs = 1",
        "a.toml:5:1: runs: unknown field `runs`, expected one of `run_dir`, `data_dir`, `socket_dir`, `cgroup`, `event_buffer_size`, `notification_buffer_size`, `loop_device_timeout`, `user`, `group`, `console`, `repositories`, `debug`",
    );
    refused(
        "[console]\nbind = \"tcp://a\"",
        "a.toml:6:1: console.bind: unknown field `bind`, expected `global` or `options`",
    );
    refused(
        "[console.options]\nmax_request_per_sec = 1",
        "a.toml:6:1: console.options.max_request_per_sec: unknown field `max_request_per_sec`, expected one of `token_validity`, `max_requests_per_sec`, `max_request_size`, `max_npk_install_size`, `npk_stream_timeout`",
    );
    refused(
        "[repositories.a]\ntype = \"mem\"\nsize = 1",
        "a.toml:7:1: repositories.a.size: unknown field `size`, expected one of `type`, `key`, `mount_on_start`, `capacity_num`, `capacity_size`",
    );
    refused(
        "[repositories.a]\ntype = { fs = { dir = \"/x\", rw = true } }",
        "a.toml:6:29: repositories.a.type.fs: unexpected keys in table: rw, available keys: dir",
    );
    refused(
        "[debug]\nconsole = \"tcp://a\"",
        "a.toml:6:1: debug.console: unknown field `console`, expected `commands`",
    );
    // As the reference has it.
    let lenient = "[console.global]\nbind = \"tcp://a\"\npermissions = []\nmotd = \"hello\"\n";
    Config::parse("a.toml", &format!("{LEAST}{lenient}")).unwrap();
}

#[test]
fn values_have_rules() {
    refused("user = 0", "a.toml:5:8: user: 0 is root, and has privileges");
    refused("event_buffer_size = 0", "a.toml:5:21: event_buffer_size: 0 is not within 1 and 65536");
    refused(
        "notification_buffer_size = 65537",
        "a.toml:5:28: notification_buffer_size: 65537 is not within 1 and 65536",
    );
    refused(
        "loop_device_timeout = 10",
        "a.toml:5:23: loop_device_timeout: invalid type: integer `10`, expected a string",
    );
    refused(
        "loop_device_timeout = \"soon\"",
        "a.toml:5:23: loop_device_timeout: \"soon\" is no time, such as 10s: expected number at 0",
    );
    refused(
        "[console.options]\nmax_request_size = 1048576",
        "a.toml:6:20: console.options.max_request_size: invalid type: integer `1048576`, expected a string",
    );
    refused(
        "[console.options]\nmax_request_size = \"much\"",
        "a.toml:6:20: console.options.max_request_size: \"much\" is no size, such as \"4096\", \"20M\" or \"20MiB\"",
    );
    refused(
        "[console.options]\nmax_requests_per_sec = 0",
        "a.toml:6:24: console.options.max_requests_per_sec: 0 is not within 1 and 1000000",
    );
    refused(
        "[console.global]\nbind = \"http://a\"\npermissions = \"full\"",
        "a.toml:6:8: console.global.bind: \"http://a\": tcp://HOST:PORT or unix:///PATH is due",
    );
    refused(
        "[console.global]\nbind = \"tcp://a\"\npermissions = [\"root\"]",
        "a.toml:7:16: console.global.permissions[0]: unknown variant `root`, expected one of `ident`, `inspect`, `install`, `kill`, `list`, `mount`, `notifications`, `repositories`, `shutdown`, `start`, `start_command`, `token_create`, `token_verification`, `umount`, `uninstall`",
    );
    refused(
        "[console.global]\nbind = \"tcp://a\"",
        "a.toml:5:1: console.global: missing field `permissions`",
    );
    refused(
        "[console.global]\nbind = \"tcp://a\"\npermissions = \"full\"\nmode = 0o7777",
        "a.toml:8:8: console.global.mode: 0o7777 is no mode, such as 0o660",
    );
    refused(
        "[repositories.a]\ntype = \"tape\"",
        "a.toml:6:8: repositories.a.type: unknown variant `tape`, expected `mem` or `fs`",
    );
    refused(
        "[repositories.a]\ntype = { fs = { dir = \"x\" } }",
        "a.toml:6:23: repositories.a.type.fs.dir: \"x\": an absolute path without \"..\" is due",
    );
    refused(
        "[repositories.\"\"]\ntype = \"mem\"",
        "a.toml:5:2: repositories: \"\" is no name of a repository",
    );
    refused(
        "loop_device_timeout = \"500000000000y\"",
        "a.toml:5:23: loop_device_timeout: \"500000000000y\" is longer than 365 days",
    );
    refused("[debug]\ncommands = [\"strace\", \" \"]", "a.toml:6:12: debug.commands: \" \" is no command");
    refused("[console", "a.toml:5:9: unclosed table, expected `]`");
}

#[test]
fn what_must_be_there_is_missed() {
    let error = Config::parse("a.toml", "run_dir = \"/a\"").expect_err("nothing else").to_string();
    assert_eq!(error, "a.toml:1:1: missing field `data_dir`");
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
