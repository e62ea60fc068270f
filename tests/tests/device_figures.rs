//! What the daemon of devices takes, in time and memory: counted here as it was counted of the reference.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::io::Read as _;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, mknodat};
use serde_json::json;
use tests::{Client, Device, figure, needs};

const ROUNDS: usize = 40;

/// Least, middle, and what 95 of 100 do not exceed.
fn told(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1000.0;
    figure(&format!("{what}: least {:.2} ms, middle {:.2} ms, 95 of 100 {:.2} ms", at(0), at(50), at(95)));
}

fn timed(act: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    act();
    begun.elapsed()
}

fn umount(client: &mut Client) {
    let answer = client.ask(&json!({"umount": {"containers": ["a:1.0.0"]}}));
    assert!(answer["umount"][0]["ok"].is_object(), "{answer}");
}

fn mount(client: &mut Client) {
    let answer = client.ask(&json!({"mount": {"containers": ["a:1.0.0"]}}));
    assert!(answer["mount"][0]["ok"].is_object(), "{answer}");
}

/// Kilobytes of a line of smaps_rollup.
fn memory(pid: i32, line: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("its memory");
    let line = text.lines().find_map(|told| told.strip_prefix(line)).expect("a line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn root_figures_of_a_device() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    let mut device = Device::new();
    device.add("a", "echo > /data/fifo; exec sleep 1000", "mounts: {/data: {type: persist}}\n");
    let fifo = device.path("data/a/fifo");
    fs::create_dir_all(device.path("data/a")).expect("a directory");
    mknodat(CWD, &fifo, FileType::Fifo, 0o666.into(), 0).expect("mkfifo");
    std::os::unix::fs::chown(&fifo, Some(1000), Some(1000)).expect("chown");
    device.begin();
    let mut client = device.client();
    let mut listener = device.listener();

    let idents = (0..1000).map(|_| timed(|| drop(client.ask(&json!("ident")))));
    told("ident, there and back", idents.collect());

    // Both ways: with the image mounted, and not.
    for is_mounted in [true, false] {
        let (mut answered, mut ran, mut ended) = (Vec::new(), Vec::new(), Vec::new());
        if is_mounted {
            mount(&mut client);
        }
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            let path = fifo.clone();
            let reader = std::thread::spawn(move || {
                File::open(path).expect("a fifo").read_exact(&mut [0]).expect("a line");
                Instant::now()
            });
            client.start("a:1.0.0");
            answered.push(begun.elapsed());
            ran.push(reader.join().expect("it reads") - begun);
            let begun = Instant::now();
            client.kill("a:1.0.0", 15);
            listener.hears_exit("a:1.0.0");
            ended.push(begun.elapsed());
            if !is_mounted {
                umount(&mut client);
            }
        }
        let with = if is_mounted { "mounted before" } else { "with its mount" };
        told(&format!("start to answer, {with}"), answered);
        told(&format!("start to the program's first line, {with}"), ran);
        told(&format!("SIGTERM to the notification of the end, {with}"), ended);
        if is_mounted {
            umount(&mut client);
        }
    }
    let (mut mounts, mut umounts) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        mounts.push(timed(|| mount(&mut client)));
        umounts.push(timed(|| umount(&mut client)));
    }
    told("mount", mounts);
    told("umount", umounts);

    let reader = std::thread::spawn(move || File::open(fifo).expect("a fifo").read_exact(&mut [0]));
    client.start("a:1.0.0");
    reader.join().expect("it reads").expect("a line");
    let init = client.inspect("a:1.0.0")["process"]["pid"].as_i64().expect("a process");
    let init = i32::try_from(init).expect("a number");
    for (who, pid) in
        [("guard", device.pid()), ("talker", device.talker()), ("first process of a container", init)]
    {
        let [rss, pss, dirty] = ["Rss:", "Pss:", "Private_Dirty:"].map(|line| memory(pid, line));
        figure(&format!("{who}: {rss} kB resident, {pss} kB proportional, {dirty} kB its own and written"));
    }
    device.end();
}
