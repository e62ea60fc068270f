//! `cofferctl` as the client of a device's daemon.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::json;
use tests::{Device, needs, until};

const WAITS: &str = "echo waits; exec sleep 1000000";

/// A device whose daemon has one repository alone, with these packages in it.
fn device(packages: &[(&str, &str, &str)]) -> Device {
    let mut device = Device::new();
    let config = fs::read_to_string(device.path("device.toml")).expect("a configuration");
    let one = config.replace("[repositories.memory]\ntype = \"mem\"\n", "");
    assert_ne!(one, config, "two repositories");
    fs::write(device.path("device.toml"), one).expect("a configuration");
    for (name, script, more) in packages {
        device.add(name, script, more);
    }
    device.begin();
    device
}

/// Runs a command for the daemon.
fn call(device: &Device, words: &[&str]) -> Output {
    let url = format!("--url=unix://{}", device.path("console").display());
    let (verb, rest) = words.split_first().expect("a command");
    device.packages.call(&[&[*verb, url.as_str()], rest].concat())
}

/// The same, which must succeed; what it printed.
#[track_caller]
fn expect(device: &Device, words: &[&str]) -> String {
    let output = call(device, words);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cofferctl {words:?}: {told}{}", device.log());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The same, which must fail with these words.
#[track_caller]
fn refuse(device: &Device, words: &[&str], told: &str) {
    let output = call(device, words);
    let line = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && line.contains(told), "cofferctl {words:?}: {line}");
}

#[test]
fn root_the_examples_of_the_page_work_on_a_device() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    let mut device = device(&[]);
    let manifest = format!(
        "name: hello\nversion: 0.0.1\ninit: /bin/sh\nargs: [-c, {WAITS:?}]\nenv: {{PATH: /bin}}\nuid: 1000\ngid: 1000\n"
    );
    device.pack_manifest("hello-0.0.1", &manifest, &[]);
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bin/cofferctl/pages/cofferctl.md");
    let page = fs::read_to_string(page).expect("the page's text");
    let lines = page.lines().filter_map(|line| line.strip_prefix("    cofferctl "));
    let lines: Vec<_> = lines.skip_while(|line| !line.starts_with("install ")).collect();
    assert_eq!(lines.len(), 6, "{lines:?}");
    for line in lines {
        expect(&device, &line.split(' ').collect::<Vec<_>>());
    }
    assert_eq!(expect(&device, &["list", "--json"]), "{}\n");
    device.end();
}

#[test]
fn root_what_is_listed_is_so() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    let mut device = device(&[("a", WAITS, ""), ("b", WAITS, "")]);
    expect(&device, &["start", "a"]);
    expect(&device, &["mount", "b"]);
    let list = expect(&device, &["list"]);
    let rows: Vec<Vec<_>> = list.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "VERSION", "REPOSITORY", "KIND", "MOUNTED", "PID", "UPTIME"], "{list}");
    assert_eq!(rows[1][..5], ["a", "1.0.0", "default", "program", "yes"], "{list}");
    assert_eq!(rows[2], ["b", "1.0.0", "default", "program", "yes"], "{list}");
    assert!(Path::new("/proc").join(rows[1][5]).exists(), "{list}");
    refuse(&device, &["mount", "b"], "b:1.0.0 is mounted already");
    refuse(&device, &["umount", "a"], "a:1.0.0");
    refuse(&device, &["start", "c"], "c: no such container");
    expect(&device, &["umount", "b"]);
    device.end();
}

#[test]
fn root_a_container_is_stopped_or_killed() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    let deaf = "trap '' TERM; touch /data/is; while :; do sleep 1000; done";
    let mut device = device(&[("a", WAITS, ""), ("deaf", deaf, "mounts: {/data: {type: persist}}\n")]);
    let mut listener = device.listener();
    expect(&device, &["start", "a"]);
    assert_eq!(expect(&device, &["stop", "a"]), "");
    assert_eq!(listener.hears_exit("a:1.0.0"), json!({"signalled": {"signal": 15}}));
    expect(&device, &["start", "deaf"]);
    until(|| device.path("data/deaf/is").exists(), || "it is deaf");
    let output = call(&device, &["stop", "--kill-after=100ms", "deaf"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && told.contains("did not end by itself: killed"), "{told}");
    assert_eq!(listener.hears_exit("deaf:1.0.0"), json!({"signalled": {"signal": 9}}));
    refuse(&device, &["stop", "a"], "a:1.0.0 does not run");
    device.end();
}
