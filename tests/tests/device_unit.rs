//! The daemon of devices as a service: the unit that is installed with it, under a real systemd.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use tests::{Client, Device, LIMIT, gone_within, needs, until};

const UNIT: &str = include_str!("../../bin/cofferdamd/cofferdamd.service");

/// What a program says that must succeed.
#[track_caller]
fn says(words: &[&str]) -> String {
    let output = Command::new(words[0]).args(&words[1..]).output().expect("start a program");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{words:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

fn journal() -> String {
    says(&["journalctl", "--unit=cofferdamd", "--output=cat", "--no-pager"])
}

fn property(name: &str) -> String {
    says(&["systemctl", "show", "cofferdamd", "--value", "--property", name]).trim().to_owned()
}

/// The first process of `a` once it runs, and is another than before.
#[track_caller]
fn runs(device: &Device, before: i32) -> i32 {
    let found = Cell::new(None);
    let is_there = || {
        let told = Client::try_connect(&device.path("console")).map(|mut client| client.inspect("a:1.0.0"));
        let pid =
            told.and_then(|data| data["process"]["pid"].as_i64()).and_then(|pid| i32::try_from(pid).ok());
        found.set(pid.filter(|pid| *pid != before));
        found.get().is_some()
    };
    until(is_there, journal);
    assert!(gone_within(before, LIMIT), "the one before is still there");
    found.get().expect("it was found")
}

/// Mapped devices of a daemon's.
fn mapped() -> Vec<String> {
    let blocks = fs::read_dir("/sys/block").expect("block devices").flatten();
    let names = blocks.filter_map(|entry| fs::read_to_string(entry.path().join("dm/name")).ok());
    names.filter(|name| name.starts_with("cofferdamd-")).collect()
}

#[test]
fn vm_the_unit_starts_restarts_and_stops_the_daemon() {
    needs!(Vm, Busybox, Cofferctl, Cofferdamd);
    let device = Device::new();
    fs::create_dir(device.path("checked")).expect("a directory");
    let place = |name: &str| device.path(name).display().to_string();
    device.configure(&format!(
        "[repositories.checked]\ntype = {{ fs = {{ dir = {:?} }} }}\nkey = {:?}\n",
        place("checked"),
        place("k.pub")
    ));
    let manifest = "name: a\nversion: 1.0.0\ninit: /bin/sh\nargs: [-c, echo up with $(ulimit -Sn); exec sleep 1000000]\nenv: {PATH: /bin}\n\
                    uid: 1000\ngid: 1000\nautostart: critical\nio: {stdout: pipe, stderr: pipe}\n\
                    sockets: {s: {type: stream, mode: 0o600}}\nmounts: {/t: {type: tmpfs, size: 1MiB}}\n";
    let package = device.pack_manifest("a", manifest, &["-k", "k.key"]);
    fs::rename(package, device.path("checked/a.npk")).expect("put a package into its place");

    let bin = Device::program().parent().expect("a directory of programs").to_owned();
    let prefix = bin.parent().expect("what `make install` calls PREFIX").display().to_string();
    fs::write("/run/systemd/system/cofferdamd.service", UNIT.replace("@PREFIX@", &prefix)).expect("the unit");
    fs::create_dir_all("/etc/cofferdam").expect("a directory");
    symlink(device.path("device.toml"), "/etc/cofferdam/cofferdamd.toml").expect("a link");
    says(&["systemctl", "daemon-reload"]);

    says(&["systemctl", "start", "cofferdamd"]);
    let first = runs(&device, 0);
    until(|| journal().contains("a:1.0.0: up with 1024"), journal);
    assert!(journal().contains("at most 524288 files may be open"), "{}", journal());
    assert!(journal().contains(&format!("started a:1.0.0, process {first}")), "{}", journal());
    assert_eq!(mapped().len(), 1);

    says(&["systemctl", "restart", "cofferdamd"]);
    let second = runs(&device, first);
    assert_eq!(journal().matches("all is over").count(), 1, "{}", journal());

    let main = property("MainPID");
    says(&["systemctl", "kill", "--kill-whom=main", "--signal=KILL", "cofferdamd"]);
    runs(&device, second);
    assert_eq!((property("NRestarts").as_str(), property("MainPID") == main), ("1", false));
    let left = "removed the container a, which an earlier daemon left";
    assert_eq!(journal().matches(left).count(), 1, "{}", journal());
    assert_eq!(mapped().len(), 1, "the killed one's is gone");

    let group = format!("/sys/fs/cgroup{}", property("ControlGroup"));
    says(&["systemctl", "stop", "cofferdamd"]);
    for (name, value) in [("ActiveState", "inactive"), ("Result", "success"), ("ExecMainStatus", "0")] {
        assert_eq!(property(name), value, "{name}: {}", journal());
    }
    device.assert_nothing_is_left();
    assert_eq!(mapped(), Vec::<String>::new());
    assert!(!Path::new(&group).exists() && !device.path("console").exists());
    assert_eq!(journal().matches("all is over").count(), 2, "{}", journal());
}
