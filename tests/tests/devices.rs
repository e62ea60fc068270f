//! Network devices of the host's in a container. Host and devices are made here: a network namespace in which the runtime
//! runs, with pairs of virtual devices.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::process::Command;

use serde_json::{Value, json};
use tests::{Bundle, Container, Output, Runtime, needs, skipped};

/// Makes the host: `left` and `other` have peers; `left` is up and has addresses, of which one does not last.
const HOST: &str = "ip link add left type veth peer name right && ip link add other type veth peer name rest && \
    ip addr add 192.0.2.7/24 dev left && ip addr add 2001:db8::7/64 dev left nodad && \
    ip addr add 198.51.100.7/24 dev left valid_lft 1000 preferred_lft 1000 && ip link set left up && \
    ip link set right up";

/// Runs the runtime on such a host, and tells what the host's devices are afterwards.
fn on_host(container: &Container<'_>, words: &[&str]) -> (Output, String) {
    let script = format!(
        "{HOST} && echo ready >&2 && \"$@\"; status=$?; ip -o link >&2; ip -o addr >&2; exit $status"
    );
    let launcher = ["unshare", "--net", "sh", "-c", &script, "sh"];
    let mut output = container.command(words).launched_by(&launcher).run();
    assert!(output.stderr.contains("ready\n"), "the host is not there: {output}");
    let (told, devices) = split(&output.stderr);
    output.stderr = told;
    (output, devices)
}

/// What the runtime said, and the lines of ip(8).
fn split(stderr: &str) -> (String, String) {
    let lines = stderr.lines().filter(|line| *line != "ready");
    let is_ip = |line: &&str| line.split_once(": ").is_some_and(|(number, _)| number.parse::<u32>().is_ok());
    let (devices, told): (Vec<&str>, Vec<&str>) = lines.partition(is_ip);
    (told.join("\n"), devices.join("\n"))
}

/// Whether this machine has pairs of virtual devices, and the program that makes them.
fn lacks_pairs() -> bool {
    let mut made = Command::new("unshare");
    made.args(["--net", "ip", "link", "add", "one", "type", "veth", "peer", "name", "two"]);

    let lacks = !made.output().is_ok_and(|output| output.status.success());
    if lacks {
        skipped("no pairs of virtual network devices (veth), or no ip(8)");
    }
    lacks
}

fn bundle(name: &str, devices: Value, line: &str) -> Bundle {
    Bundle::new(name).shell(line).edit(|config| config["linux"]["netDevices"] = devices)
}

#[test]
fn root_a_device_moves_in_with_what_lasts() {
    needs!(Root, Busybox);
    if lacks_pairs() {
        return;
    }
    let shown = "ip -o link | grep -o ': [a-z0-9]*[@:].*UP' | cut -d'@' -f1; ip -o addr | grep -o 'eth0.*'; \
                 cat /proc/sys/net/ipv4/conf/eth0/forwarding";
    let bundle = bundle("moved", json!({"left": {"name": "eth0"}, "other": {}}), shown).edit(|config| {
        // The device is there before its parameters are written.
        config["linux"]["sysctl"] = json!({"net.ipv4.conf.eth0.forwarding": "1"});
    });
    let container = bundle.container(&Runtime::under_test());
    let (output, devices) = on_host(&container, &["run", "--bundle", "BUNDLE", "ID"]);
    assert_eq!(output.code, 0, "{output}");
    let stdout = &output.stdout;
    for told in [": eth0", ": other", "inet 192.0.2.7/24", "inet6 2001:db8::7/64"] {
        assert!(stdout.contains(told), "{told}: {stdout}\n{devices}");
    }
    assert!(!stdout.contains("198.51.100.7"), "an address that does not last: {stdout}");
    assert!(stdout.ends_with("\n1\n"), "{stdout}");
    assert!(!devices.contains("left") && !devices.contains("other"), "{devices}");
}

#[test]
fn root_a_device_gets_the_next_number_of_its_kind() {
    needs!(Root, Busybox);
    if lacks_pairs() {
        return;
    }
    let devices = json!({"left": {"name": "wan%d"}, "other": {"name": "wan%d"}});
    let bundle = bundle(
        "numbered",
        devices,
        "ip -o link | grep -o 'wan[0-9]*' | sort -u | tr '\\n' ' '; ip -o addr | grep -c 192.0.2.7",
    );
    let container = bundle.container(&Runtime::under_test());
    let (output, devices) = on_host(&container, &["run", "--bundle", "BUNDLE", "ID"]);
    assert_eq!((output.code, &*output.stdout), (0, "wan0 wan1 1\n"), "{output}\n{devices}");
}

#[test]
fn root_a_device_that_cannot_move_is_told() {
    needs!(Root, Busybox);
    if lacks_pairs() {
        return;
    }
    let rows = [
        (
            json!({"nosuch0": {}}),
            "linux.netDevices.nosuch0: rtnetlink(GETLINK): no such device (os error 19)",
        ),
        (
            json!({"left": {"name": "eth0"}, "other": {"name": "lo"}}),
            "linux.netDevices.other: move it in as lo: rtnetlink(NEWLINK): file exists (os error 17)",
        ),
    ];
    for (devices, told) in rows {
        let bundle = bundle("stuck", devices, "true");
        let container = bundle.container(&Runtime::under_test());
        let (output, devices) = on_host(&container, &["run", "--bundle", "BUNDLE", "ID"]);
        assert_eq!(output.code, 1, "{output}");
        assert!(output.stderr.ends_with(told), "{told}: {output}");
        assert_eq!(output.stderr.lines().count(), 1, "{output}");
        as_it_was(&devices);
        bundle.assert_nothing_left();
    }
}

/// The host's devices, and the addresses that last.
fn as_it_was(devices: &str) {
    for told in [": left@", ": right@", ": other@", "192.0.2.7/24", "2001:db8::7/64"] {
        assert!(devices.contains(told), "{told}: {devices}");
    }
    let left = devices.lines().find(|line| line.contains(": left@")).expect("a device");
    assert!(left.contains(",UP"), "it is up again: {left}");
    let other = devices.lines().find(|line| line.contains(": other@")).expect("a device");
    assert!(!other.contains(",UP"), "it is down as before: {other}");
}

/// What fails after the move takes the devices back first: with their namespace they would be gone.
#[test]
fn root_a_device_comes_back_when_create_fails() {
    needs!(Root, Busybox);
    if lacks_pairs() {
        return;
    }
    let devices = json!({"left": {"name": "eth0"}, "other": {"name": "eth%d"}});
    let bundle = bundle("back", devices, "true").args(&["/no/such/program"]);
    for words in [["run", "--bundle", "BUNDLE", "ID"], ["create", "--bundle", "BUNDLE", "ID"]] {
        let container = bundle.another(&Runtime::under_test());
        let (output, devices) = on_host(&container, &words);
        assert_eq!(output.code, 1, "{output}");
        assert!(output.stderr.contains("/no/such/program") && !output.stderr.contains("undoing"), "{output}");
        as_it_was(&devices);
        bundle.assert_nothing_left();
    }
}

#[test]
fn root_a_device_moves_into_a_namespace_that_is_joined() {
    needs!(Root, Busybox);
    if lacks_pairs() {
        return;
    }
    let holder = Bundle::new("holder");
    let held = holder.container(&Runtime::under_test());
    held.create().success();
    let path = format!("/proc/{}/ns/net", held.pid().expect("init waits"));
    let bundle =
        bundle("joined", json!({"left": {"name": "eth7"}}), "ip -o addr | grep -o 'eth7.*192.0.2.7'");
    let bundle = bundle.edit(|config| {
        for namespace in config["linux"]["namespaces"].as_array_mut().expect("a list") {
            if namespace["type"] == "network" {
                namespace["path"] = json!(path);
            }
        }
    });
    let container = bundle.container(&Runtime::under_test());
    let (output, devices) = on_host(&container, &["run", "--bundle", "BUNDLE", "ID"]);
    assert_eq!(output.code, 0, "{output}\n{devices}");
    assert!(output.stdout.contains("192.0.2.7"), "{output}");
}
