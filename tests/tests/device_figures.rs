//! What the daemon of devices takes, in time and memory: counted here as it was counted of the reference.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::JoinHandle;
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

fn umount(client: &mut Client, container: &str) {
    let answer = client.ask(&json!({"umount": {"containers": [container]}}));
    assert!(answer["umount"][0]["ok"].is_object(), "{answer}");
}

fn mount(client: &mut Client, container: &str) {
    let answer = client.ask(&json!({"mount": {"containers": [container]}}));
    assert!(answer["mount"][0]["ok"].is_object(), "{answer}");
}

/// What the reference was measured with: a static program of three quarters of a megabyte that writes from `main`.
const WRITES: &str = "#include <fcntl.h>\n#include <unistd.h>\nint main(void) {\n int to = open(\"/data/fifo\", O_WRONLY);\n \
     if (to < 0 || write(to, \"\\n\", 1) != 1) return 1;\n for (;;) pause();\n}\n";
/// The same by a shell, of two megabytes.
const SHELL: &str = "echo > /data/fifo; exec sleep 1000";

/// Makes that program; whether there is a compiler for it. What it is, is told.
fn make_program(device: &Device) -> bool {
    let (source, program) = (device.path("line.c"), device.path("root/bin/line"));
    fs::write(&source, WRITES).expect("a source");
    let made = Command::new("cc").args(["-static", "-O2", "-o"]).arg(&program).arg(&source).status();
    if !made.is_ok_and(|status| status.success()) {
        figure("no compiler that links statically: busybox' shell is the only program");
        return false;
    }
    let bytes = fs::metadata(program).expect("a program").len();
    figure(&format!("the program: {bytes} bytes, static; beside it busybox' shell"));
    true
}

/// A package of that program, or of the shell.
fn pack(device: &Device, name: &str, is_shell: bool, more: &str, flags: &[&str]) -> PathBuf {
    let program = if is_shell {
        format!("init: /bin/sh\nargs: [-c, {SHELL:?}]\nenv: {{PATH: /bin}}")
    } else {
        "init: /bin/line".to_owned()
    };
    let text = format!(
        "name: {name}\nversion: 1.0.0\n{program}\nuid: 1000\ngid: 1000\nmounts: {{/data: {{type: persist}}}}\n{more}"
    );
    device.pack_manifest(name, &text, flags)
}

/// Where it writes.
fn make_fifo(device: &Device, name: &str) -> PathBuf {
    let fifo = device.path("data").join(name).join("fifo");
    fs::create_dir_all(fifo.parent().expect("a directory")).expect("a directory");
    mknodat(CWD, &fifo, FileType::Fifo, 0o666.into(), 0).expect("mkfifo");
    std::os::unix::fs::chown(&fifo, Some(1000), Some(1000)).expect("chown");
    fifo
}

/// Waits for a line; when it came.
fn line(fifo: &Path) -> JoinHandle<Instant> {
    let fifo = fifo.to_owned();
    std::thread::spawn(move || {
        File::open(fifo).expect("a fifo").read_exact(&mut [0]).expect("a line");
        Instant::now()
    })
}

/// A device whose `run_dir` is in memory, as /run is. It goes with the value.
struct InMemory {
    device: Device,
    run: PathBuf,
}

impl InMemory {
    fn new() -> Self {
        let device = Device::new();
        let run = Path::new("/dev/shm").join(device.id());
        fs::create_dir(&run).expect("a directory");
        let file = device.path("device.toml");
        let text = fs::read_to_string(&file).expect("a configuration");
        let place = |path: &Path| format!("run_dir = {:?}", path.display().to_string());
        let told = text.replace(&place(&device.path("run")), &place(&run));
        assert_ne!(told, text, "the configuration names another run_dir");
        fs::write(file, told).expect("a configuration");
        Self { device, run }
    }
}

impl Drop for InMemory {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.run).unwrap_or_default();
    }
}

/// Kilobytes of a line of smaps_rollup.
fn memory(pid: i32, line: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("its memory");
    let line = text.lines().find_map(|told| told.strip_prefix(line)).expect("a line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Starts and ends a container: with its image mounted before, and not.
fn lives(device: &Device, name: &str, what: &str) {
    let (mut client, mut listener) = (device.client(), device.listener());
    let (container, fifo) = (format!("{name}:1.0.0"), make_fifo(device, name));
    for is_mounted in [true, false] {
        let (mut answered, mut ran, mut ended) = (Vec::new(), Vec::new(), Vec::new());
        if is_mounted {
            mount(&mut client, &container);
        }
        for _ in 0..ROUNDS {
            let reader = line(&fifo);
            let begun = Instant::now();
            client.start(&container);
            answered.push(begun.elapsed());
            ran.push(reader.join().expect("it reads") - begun);
            let begun = Instant::now();
            client.kill(&container, 15);
            listener.hears_exit(&container);
            ended.push(begun.elapsed());
            if !is_mounted {
                umount(&mut client, &container);
            }
        }
        let with = if is_mounted { "mounted before" } else { "with its mount" };
        told(&format!("{what}: start to answer, {with}"), answered);
        told(&format!("{what}: start to the program's first line, {with}"), ran);
        told(&format!("{what}: SIGTERM to the notification of the end, {with}"), ended);
        if is_mounted {
            umount(&mut client, &container);
        }
    }
}

/// One after the other: they would disturb each other.
#[test]
fn root_figures_of_a_device() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    one();
    eighteen(false);
    if Path::new("/dev/mapper/control").exists() {
        eighteen(true);
    } else {
        figure("no device mapper: eighteen signed containers are not measured");
    }
}

fn one() {
    let mut place = InMemory::new();
    let device = &mut place.device;
    let store = device.path("store");
    let has_program = make_program(device);
    for (name, is_shell) in [("a", false), ("sh", true)] {
        if has_program || is_shell {
            fs::copy(pack(device, name, is_shell, "", &[]), store.join(format!("{name}.npk"))).expect("copy");
        }
    }
    device.begin();
    let mut client = device.client();

    let idents = (0..1000).map(|_| timed(|| drop(client.ask(&json!("ident")))));
    told("ident, there and back", idents.collect());
    if has_program {
        lives(device, "a", "static program");
    }
    lives(device, "sh", "shell");

    let (mut mounts, mut umounts) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        mounts.push(timed(|| mount(&mut client, "sh:1.0.0")));
        umounts.push(timed(|| umount(&mut client, "sh:1.0.0")));
    }
    told("mount", mounts);
    told("umount", umounts);

    let reader = line(&device.path("data/sh/fifo"));
    client.start("sh:1.0.0");
    reader.join().expect("it reads");
    let init = client.inspect("sh:1.0.0")["process"]["pid"].as_i64().expect("a process");
    let init = i32::try_from(init).expect("a number");
    for (who, pid) in
        [("guard", device.pid()), ("talker", device.talker()), ("first process of a container", init)]
    {
        let [rss, pss, dirty] = ["Rss:", "Pss:", "Private_Dirty:"].map(|line| memory(pid, line));
        figure(&format!("{who}: {rss} kB resident, {pss} kB proportional, {dirty} kB its own and written"));
    }
    device.end();
}

/// From the daemon's start until the last of eighteen containers runs, which start by themselves: packages that are not
/// signed, or signed ones through dm-verity.
fn eighteen(is_signed: bool) {
    const COUNT: usize = 18;
    let mut place = InMemory::new();
    let device = &mut place.device;
    let is_shell = !make_program(device);
    let store = device.path("store");
    if is_signed {
        let key = format!("key = {:?}\n", device.path("k.pub").display().to_string());
        let file = device.path("device.toml");
        let text = fs::read_to_string(&file).expect("a configuration");
        let told = text.replace("[repositories.default]\n", &format!("[repositories.default]\n{key}"));
        assert_ne!(told, text, "the configuration has no such repository");
        fs::write(file, told).expect("a configuration");
    }
    let flags: &[&str] = if is_signed { &["-k", "k.key"] } else { &[] };
    let fifos: Vec<PathBuf> = (0..COUNT)
        .map(|number| {
            let name = format!("a{number}");
            let package = pack(device, &name, is_shell, "autostart: relaxed\n", flags);
            fs::copy(package, store.join(format!("{name}.npk"))).expect("copy");
            make_fifo(device, &name)
        })
        .collect();
    let mut times = Vec::new();
    for _ in 0..5 {
        let readers: Vec<_> = fifos.iter().map(|fifo| line(fifo)).collect();
        let begun = Instant::now();
        device.spawn();
        let last = readers.into_iter().map(|reader| reader.join().expect("it reads")).max();
        times.push(last.expect("eighteen of them") - begun);
        device.end();
    }
    let how = if is_signed { "signed, through dm-verity" } else { "not signed" };
    told(&format!("eighteen containers from the daemon's start, {how}"), times);
}
