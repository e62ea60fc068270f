//! Those who look for faults: programs beside each container, and what is told of one that runs.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};
use tests::{Device, LIMIT, gone_within, needs, until};

#[test]
fn root_programs_run_beside_a_container_and_end_with_it() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    let mut device = Device::new();
    device.add("a", "echo mine; exec sleep 1000000", "io: {stdout: pipe, stderr: discard}\n");
    let watcher = device.path("watch");
    let script = "#!/bin/sh\ntrap 'echo what was seen of $1; exit' TERM\necho watcher $$ of process $2\nwhile :; do sleep 0.01; done\n";
    std::fs::write(&watcher, script).expect("a script");
    std::fs::set_permissions(&watcher, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode");
    device.configure(&format!(
        "[debug]\ncommands = [\"{} <CONTAINER> <PID>\", \"echo at <PID>\"]\n",
        watcher.display()
    ));
    device.begin();
    let mut listener = device.listener();
    for _ in 0..2 {
        std::fs::write(device.path("log"), "").expect("a log");
        listener.start("a:1.0.0");
        let pid = listener.inspect("a:1.0.0")["process"]["pid"].as_i64().expect("a process");
        let lines = [format!("of process {pid}"), format!("a:1.0.0: at {pid}"), "a:1.0.0: mine".to_owned()];
        until(|| lines.iter().all(|line| device.log().contains(line)), || device.log());
        let log = device.log();
        let told = log.lines().find_map(|line| line.strip_prefix("a:1.0.0: watcher ")).expect("its line");
        let watcher: i32 = told.split(' ').next().and_then(|pid| pid.parse().ok()).expect("a number");
        assert!(Path::new(&format!("/proc/{watcher}")).exists());
        listener.kill("a:1.0.0", 9);
        listener.hears_exit("a:1.0.0");
        until(|| device.log().contains("a:1.0.0: what was seen of a:1.0.0"), || device.log());
        assert!(gone_within(watcher, LIMIT));
    }
    device.end();
}

/// A daemon that is killed takes them along; one that ends in order too, whatever they make of it.
#[test]
fn root_programs_beside_a_container_end_with_the_daemon() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    for signal in [rustix::process::Signal::KILL, rustix::process::Signal::TERM] {
        let mut device = Device::new();
        device.add("a", "exec sleep 1000000", "");
        device.configure("[debug]\ncommands = [\"env --ignore-signal=TERM sleep 7777777\"]\n");
        device.begin();
        device.client().start("a:1.0.0");
        let children = || {
            let pid = device.pid();
            let all =
                std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("its children");
            all.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()).find(|pid| {
                std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.ends_with(b"7777777\0"))
            })
        };
        let program = children().expect("it runs");
        device.signal(signal);
        device.wait();
        assert!(gone_within(program, LIMIT));
        if signal == rustix::process::Signal::KILL {
            device.begin();
            device.end();
        }
        device.assert_nothing_is_left();
    }
}

#[test]
fn root_a_program_that_is_not_there_is_told_and_nothing_is_left() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    let mut device = Device::new();
    device.add("a", "exec sleep 1000000", "");
    device.configure("[debug]\ncommands = [\"sleep 7777777\", \"no-such-program -p <PID>\"]\n");
    device.begin();
    let mut client = device.client();
    for _ in 0..2 {
        let told = client.try_start("a:1.0.0");
        let text =
            told["start"]["error"]["error"]["start_container_failed"]["error"].as_str().expect("an error");
        assert!(text.starts_with("debug.commands: no-such-program -p "), "{text}");
        assert!(text.ends_with("No such file or directory (os error 2)"), "{text}");
    }
    device.end();
}

/// The names below `statistics`, as Northstar 0.9.2 has them.
#[test]
fn root_inspect_tells_what_the_reference_tells() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd, Groups);
    let mut device = Device::new();
    device.add("a", "exec sleep 1000000", "");
    device.begin();
    let mut client = device.client();
    client.start("a:1.0.0");
    let mut told = client.inspect("a:1.0.0")["process"]["statistics"].take();
    assert_eq!(keys(&told), words("blkio cpu memory"));
    assert_eq!(keys(&told["cpu"]), words("stat"));
    assert!(told["cpu"]["stat"].as_str().is_some_and(|stat| stat.contains("nr_periods")), "{told}");

    let memory = &mut told["memory"];
    assert_eq!(keys(memory), words("memory kmem kmem_tcp"));
    let gauge = "fail_cnt limit_in_bytes max_usage_in_bytes usage_in_bytes";
    assert_eq!(keys(&memory["kmem_tcp"]), words(gauge));
    assert_eq!(keys(&memory["kmem"]), words(&format!("{gauge} slabinfo")));
    let memory = &mut memory["memory"];
    let more =
        "move_charge_at_immigrate numa_stat oom_control soft_limit_in_bytes stat swappiness use_hierarchy";
    assert_eq!(keys(memory), words(&format!("{gauge} {more}")));
    assert!(memory["usage_in_bytes"].as_u64().is_some_and(|usage| usage > 0), "{memory}");
    assert_eq!(keys(&memory["oom_control"]), words("oom_kill_disable under_oom oom_kill"));
    let pages = ["", "hierarchical_"].map(|prefix| {
        ["total", "file", "anon", "unevictable"]
            .map(|kind| format!("{prefix}{kind}_pages {prefix}{kind}_pages_per_node"))
            .join(" ")
    });
    assert_eq!(keys(&memory["numa_stat"]), words(&pages.join(" ")));
    let stat = "cache rss rss_huge shmem mapped_file dirty writeback swap pgpgin pgpgout pgfault pgmajfault inactive_anon active_anon \
                inactive_file active_file unevictable";
    let total = words(stat).into_iter().map(|name| format!("total_{name}")).collect::<Vec<_>>().join(" ");
    let rest = "hierarchical_memory_limit hierarchical_memsw_limit raw";
    assert_eq!(keys(&memory["stat"]), words(&format!("{stat} {total} {rest}")));
    assert!(memory["stat"]["raw"].as_object().is_some_and(|raw| raw.contains_key("pgfault")), "{memory}");

    let counts = "io_merged io_queued io_service_bytes io_serviced io_service_time io_wait_time";
    let block = &told["blkio"];
    let rest = "leaf_weight leaf_weight_device sectors sectors_recursive throttle time time_recursive weight weight_device io_stat";
    assert_eq!(keys(block), words(&format!("{} {rest}", counted(counts))));
    let devices = "read_bps_device read_iops_device write_bps_device write_iops_device";
    assert_eq!(
        keys(&block["throttle"]),
        words(&format!("{} {devices}", counted("io_service_bytes io_serviced")))
    );
    client.kill("a:1.0.0", 9);
    device.end();
    assert_eq!(told["gone"], json!(null));
}

fn words(text: &str) -> BTreeSet<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().expect("an object").keys().cloned().collect()
}

/// Lists, with and without what is below, and the sum of each.
fn counted(names: &str) -> String {
    let of = |name: &str| format!("{name} {name}_total {name}_recursive {name}_recursive_total");
    names.split_whitespace().map(of).collect::<Vec<_>>().join(" ")
}
