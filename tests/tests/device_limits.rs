//! The daemon of devices and what there is not enough of: descriptors, loop devices.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use tests::{Device, needs, until};

const MANY: usize = 24;

/// A service manager lets it have few at first; it takes what it may have, and its containers do not hear of that.
#[test]
fn root_many_containers_need_many_descriptors() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    let mut device = Device::new();
    let script = "echo $(ulimit -Sn) $(ulimit -Hn) > /data/x; exec sleep 1000000";
    let more = "mounts: {/data: {type: persist}}\nio: {stdout: pipe, stderr: pipe}\ncgroups: {memory: {oom_monitor: true}}\n";
    for number in 0..MANY {
        device.add(&format!("c{number}"), script, more);
    }
    device.add("own", script, &format!("{more}rlimits: {{nofile: {{soft: 50, hard: 60}}}}\n"));
    device.begin_by(&["prlimit", "--nofile=96:2000"]);
    assert!(
        device.log().contains("at most 2000 files may be open: enough for 215 containers"),
        "{}",
        device.log()
    );
    let mut client = device.client();
    let before = descriptors(device.pid());
    for number in 0..MANY {
        client.start(&format!("c{number}:1.0.0"));
    }
    client.start("own:1.0.0");
    let each = (descriptors(device.pid()) - before).div_ceil(MANY + 1);
    assert!(each <= 9, "{each} descriptors for each container");
    assert!(descriptors(device.pid()) > 96, "they would not have been enough");
    for (name, limits) in [("c0", "96 2000\n"), ("c23", "96 2000\n"), ("own", "50 60\n")] {
        let file = device.path(&format!("data/{name}/x"));
        until(|| fs::read_to_string(&file).is_ok_and(|text| text == limits), || format!("{name}: {limits}"));
    }
    device.end();
}

fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors").count()
}

/// The kernel has loop devices, and nobody has made their nodes yet, as on a device that has just been switched on.
#[test]
fn root_a_loop_device_is_waited_for_as_long_as_is_said() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    let bare = "mount -t tmpfs dev /mnt && cp -a /dev/null /dev/loop-control /mnt/ && mount --move /mnt /dev && exec \"$@\"";
    let launcher = ["unshare", "--mount", "sh", "-c", bare, "sh"];
    let mount = json!({"mount": {"containers": ["a:1.0.0"]}});
    let mut device = Device::new();
    device.add("a", "exit 0", "");

    let text = fs::read_to_string(device.path("device.toml")).expect("a configuration");
    fs::write(device.path("device.toml"), format!("loop_device_timeout = \"300ms\"\n{text}")).expect("write");
    device.begin_by(&launcher);
    let begun = Instant::now();
    let answer = device.client().ask(&mount);
    let told = answer["mount"][0]["error"]["error"]["unexpected"]["error"].as_str().expect("an error");
    assert!(told.contains("no loop device within 300ms: open(\"/dev/loop"), "{told}");
    assert!(begun.elapsed() >= Duration::from_millis(300));
    device.end();

    fs::write(device.path("device.toml"), text).expect("write");
    device.begin_by(&launcher);
    let mut client = device.client();
    client.send(format!("{}\n", json!({"request": mount})).as_bytes());
    let nodes = "for n in $(seq 0 255); do mknod /dev/loop$n b 7 $n || exit 1; done";
    let pid = device.pid().to_string();
    let made = Command::new("nsenter").args(["--mount", "--target", &pid, "sh", "-c", nodes]).status();
    assert!(made.expect("run nsenter").success());
    assert_eq!(client.response(), json!({"mount": [{"ok": {"container": "a:1.0.0"}}]}));
    device.end();
}
