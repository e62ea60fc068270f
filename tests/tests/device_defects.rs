//! What the reference fell over, got wrong or left open, each in a test of its own. The letters are those of the list of its weak
//! points: W for what ended its whole daemon, L for what kept it waiting, R for wrong results, S for security.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::{Client, Device, needs, until};

const WAITS: &str = "exec sleep 1000000";
const DATA: &str = "mounts: {/data: {type: persist}}\n";

/// Why a container did not start.
#[track_caller]
fn refusal(answer: &Value) -> String {
    let error = &answer["start"]["error"]["error"];
    let told =
        error["start_container_failed"]["error"].as_str().or_else(|| error["unexpected"]["error"].as_str());
    told.unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// A container does not start, for this reason; the daemon lives, and nothing is left of the try.
#[track_caller]
fn is_refused(manifest: &str, told: &str) {
    let mut device = Device::new();
    device.add("a", "exit 0", manifest);
    device.add("other", WAITS, "");
    device.begin();
    let mut client = device.client();
    client.start("other:1.0.0");
    for _ in 0..2 {
        let refusal = refusal(&client.try_start("a:1.0.0"));
        assert!(refusal.contains(told), "{refusal}");
    }
    assert!(client.inspect("other:1.0.0")["process"]["pid"].is_u64());
    device.end();
}

#[test]
fn root_w1_a_long_line_of_output_is_cut() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    let mut device = Device::new();
    let script =
        "head -c 70000 /dev/zero | tr '\\0' x; echo; head -c 500000 /dev/zero | tr '\\0' y; echo; echo end";
    device.add("a", script, "io: {stdout: pipe, stderr: pipe}\n");
    device.begin();
    let mut listener = device.listener();
    listener.start("a:1.0.0");
    assert_eq!(listener.hears_exit("a:1.0.0"), json!({"exit": {"code": 0}}));
    until(|| device.log().contains("a:1.0.0: end"), || device.log());
    assert!(device.log().lines().all(|line| line.len() <= 4096));
    device.end();
}

#[test]
fn root_w2_a_mount_that_fails_is_a_start_that_fails() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    // The image has a directory there, and the host a file.
    is_refused("mounts: {/x: {type: bind, host: /etc/passwd}}\n", "mount /etc/passwd on /x: ");
}

#[test]
fn root_w2_a_file_of_the_hosts_is_bound() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    let mut device = Device::new();
    fs::write(device.path("root/file"), "").expect("a place");
    fs::write(device.path("hosts"), "of the host's\n").expect("a file");
    let mounts = format!(
        "mounts: {{/data: {{type: persist}}, /file: {{type: bind, host: {:?}}}}}\n",
        device.path("hosts")
    );
    device.add("a", "cat /file > /data/x", &mounts);
    device.begin();
    let mut listener = device.listener();
    listener.start("a:1.0.0");
    listener.hears_exit("a:1.0.0");
    assert_eq!(fs::read_to_string(device.path("data/a/x")).expect("what it read"), "of the host's\n");
    device.end();
}

#[test]
fn root_w3_too_little_memory_is_a_start_that_fails() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd, Groups);
    let mut device = Device::new();
    device.add("a", WAITS, "cgroups: {memory: {memory_hard_limit: 4096}}\n");
    device.begin();
    let mut listener = device.listener();
    // It is for the kernel to say when it runs out: before the program, or in it.
    let answer = listener.try_start("a:1.0.0");
    if answer["start"]["ok"].is_object() {
        assert_eq!(listener.hears_exit("a:1.0.0"), json!({"signalled": {"signal": 9}}));
    } else {
        refusal(&answer);
    }
    assert_eq!(listener.inspect("a:1.0.0")["process"], Value::Null);
    device.end();
}

#[test]
fn root_w4_a_limit_above_what_we_may_give_is_a_start_that_fails() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    // Above what the kernel has for anybody.
    is_refused("rlimits: {nofile: {soft: 10000000000, hard: 10000000000}}\n", "set rlimit nofile: ");
}

#[test]
fn root_w5_a_quota_that_the_kernel_refuses_is_a_start_that_fails() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd, Groups);
    is_refused("cgroups: {cpu: {quota: 1, period: 1}}\n", "cpu");
}

#[test]
fn root_w6_names_of_sockets_are_looked_at() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    let device = Device::new();
    let slash =
        "name: a\nversion: 1.0.0\ninit: /a\nuid: 1\ngid: 1\nsockets: {x/y: {type: stream, mode: 0}}\n";
    fs::write(device.path("s.yaml"), slash).expect("a manifest");
    device.packages.refuse(&["pack", "-m", "s.yaml", "-r", "root"], "is no name of a socket");
    // And one whose path is longer than a socket's may be.
    let name = "s".repeat(64);
    let long = format!("sockets: {{{name}: {{type: stream, mode: 0o600}}}}\n");
    let mut device = Device::new();
    let text = format!(
        "name: {}\nversion: 1.0.0\ninit: /bin/sh\nargs: [-c, exit 0]\nuid: 1000\ngid: 1000\n{long}",
        "n".repeat(60)
    );
    let package = device.pack_manifest("long", &text, &[]);
    device.begin();
    let mut client = device.client();
    let container = client.install(&package, "memory")["install"]["ok"]["container"].clone();
    let container = container.as_str().expect("a container");
    let answer = client.try_start(container);
    if answer["start"]["ok"].is_null() {
        refusal(&answer);
    }
    drop(client);
    device.end();
}

#[test]
fn root_w7_three_hundred_sockets_are_made() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    let mut device = Device::new();
    let sockets = (0..300).map(|number| format!("s{number}: {{type: datagram, mode: 0o600}}"));
    let sockets = sockets.collect::<Vec<_>>().join(", ");
    device.add(
        "a",
        "ls /proc/self/fd | wc -l > /data/x",
        &format!("sockets: {{{sockets}}}\nmounts: {{/data: {{type: persist}}, /proc: {{type: proc}}}}\n"),
    );
    device.begin();
    let mut listener = device.listener();
    let answer = listener.try_start("a:1.0.0");
    if answer["start"]["ok"].is_object() {
        listener.hears_exit("a:1.0.0");
        let count = fs::read_to_string(device.path("data/a/x")).expect("a count");
        assert!(count.trim().parse::<u32>().is_ok_and(|count| count >= 303), "{count}");
    } else {
        refusal(&answer);
    }
    device.end();
}

#[test]
fn root_w8_a_superblock_with_absurd_fields_is_no_packages() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    let mut device = with_key();
    let whole = fs::read(signed(&device, "k", "a")).expect("a package");
    let superblock = whole.windows(8).rposition(|bytes| bytes == b"verity\0\0").expect("a superblock");
    // No signature covers it: the size of the salt, and of a block, by which somebody divides.
    for (field, value) in [(80, [0xff, 0xff]), (64, [0, 0])] {
        let mut bytes = whole.clone();
        bytes[superblock + field..][..2].copy_from_slice(&value);
        fs::write(device.path("signed/stray.npk"), &bytes).expect("a package");
        device.begin();
        assert!(device.log().contains("stray.npk"), "it is told: {}", device.log());
        let mut client = device.client();
        let answer = client.install_bytes(&bytes, "signed");
        let error = answer["install"]["error"]["error"]["unexpected"]["error"].as_str().expect("a reason");
        assert!(error.contains("superblock"), "{error}");
        assert_eq!(client.ask(&json!("list")), json!({"list": []}));
        device.end();
    }
}

#[test]
fn root_w9_the_name_of_a_peer_is_never_read() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    let mut device = Device::new();
    device.begin();
    let socket = rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM, None);
    let socket = socket.expect("a socket");
    let name = rustix::net::SocketAddrUnix::new_abstract_name(b"a:b:c\xff").expect("a name");
    rustix::net::bind(&socket, &name).expect("bind");
    let to = rustix::net::SocketAddrUnix::new(device.path("console")).expect("a name");
    rustix::net::connect(&socket, &to).expect("connect");
    let mut client = Client::of(UnixStream::from(socket));
    client.say(&json!({"connect": {"version": "0.9.2", "subscribe_notifications": false}}));
    assert_eq!(client.ask(&json!("ident")), json!({"ident": "extern:0.0.0"}));
    drop(client);
    device.end();
}

#[test]
fn root_w10_a_signal_to_all_of_the_daemon_is_an_end_in_order() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    let mut device = Device::new();
    device.add("a", WAITS, "");
    device.begin();
    device.client().start("a:1.0.0");
    // As systemd does with KillMode=control-group.
    let talker = rustix::process::Pid::from_raw(device.talker()).expect("a number");
    rustix::process::kill_process(talker, Signal::TERM).expect("kill");
    device.end();
}

#[test]
fn root_w11_what_is_no_package_is_skipped() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    let mut device = Device::new();
    device.add("a", WAITS, "");
    let store = device.path("store");
    fs::create_dir(store.join("lost+found")).expect("a directory");
    fs::write(store.join("README"), "hello").expect("a file");
    let half = fs::read(store.join("a.npk")).expect("a package");
    fs::write(store.join("half.npk"), &half[..half.len() / 2]).expect("a file");
    device.begin();
    assert_eq!(device.client().ask(&json!("list")), json!({"list": ["a:1.0.0"]}));
    for name in ["lost+found", "README", "half.npk"] {
        assert!(device.log().contains(name), "{}", device.log());
    }
    device.end();
}

/// A device with one more repository, `signed`, which has a key.
fn with_key() -> Device {
    let device = Device::new();
    fs::create_dir(device.path("signed")).expect("a directory");
    let [store, key] = ["signed", "k.pub"].map(|name| device.path(name).display().to_string());
    device.configure(&format!(
        "[repositories.signed]\ntype = {{ fs = {{ dir = {store:?} }} }}\nkey = {key:?}\n"
    ));
    device
}

/// The same package, signed by the key of that name.
fn signed(device: &Device, key: &str, name: &str) -> PathBuf {
    device.pack(name, "exit 3", "");
    let (plain, signed) = (format!("{name}.npk"), format!("{name}-{key}.npk"));
    device.packages.expect(&["sign", &plain, "-k", &format!("{key}.key"), "-o", &signed]);
    device.path(&signed)
}

#[test]
fn root_w12_a_key_is_asked_for_and_the_kernel_checks_each_block() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    let mut device = with_key();
    device.packages.expect(&["gen-key", "other", "--out", "."]);
    let (good, bad, unsigned) =
        (signed(&device, "k", "a"), signed(&device, "other", "b"), device.pack("c", "exit 0", ""));
    let damaged = signed(&device, "k", "d");
    device.begin();
    let mut listener = device.listener();
    for (package, told) in [(&bad, "the signature is not by this key"), (&unsigned, "is not signed")] {
        let answer = listener.install(package, "signed");
        let error = answer["install"]["error"]["error"]["unexpected"]["error"].as_str().expect("a reason");
        assert!(error.contains(told), "{error}");
    }
    for package in [&good, &damaged] {
        assert!(listener.install(package, "signed")["install"]["ok"].is_object());
    }
    // Behind our back, after it was taken in: a byte in the middle of the program.
    let file = device.path("signed/d:1.0.0.npk");
    let mut bytes = fs::read(&file).expect("a package");
    for byte in &mut bytes[60_000..600_000] {
        *byte ^= 0x55;
    }
    fs::write(&file, bytes).expect("a package");
    if Path::new("/dev/mapper/control").exists() {
        listener.start("a:1.0.0");
        assert_eq!(listener.hears_exit("a:1.0.0"), json!({"exit": {"code": 3}}));
        // Whoever asks for that block hears of an error.
        let answer = listener.try_start("d:1.0.0");
        if answer["start"]["ok"].is_object() {
            assert_ne!(listener.hears_exit("d:1.0.0"), json!({"exit": {"code": 3}}));
        }
    } else {
        // The reference does not even begin on such a host.
        let refusal = refusal(&listener.try_start("a:1.0.0"));
        assert!(refusal.contains("/dev/mapper/control"), "{refusal}");
    }
    device.end();
}

#[test]
fn root_l1_an_installation_that_stalls_keeps_nobody_waiting() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    let mut device = Device::new();
    device.add("a", WAITS, "");
    let package = device.pack("b", WAITS, "");
    device.begin();
    let bytes = fs::read(package).expect("a package");
    let mut slow = device.client();
    let request = json!({"request": {"install": {"repository": "default", "size": bytes.len()}}});
    slow.send(format!("{request}\n").as_bytes());
    slow.send(&bytes[..1000]);
    let begun = Instant::now();
    let mut client = device.client();
    client.start("a:1.0.0");
    assert_eq!(client.install_bytes(&bytes, "memory"), json!({"install": {"ok": {"container": "b:1.0.0"}}}));
    assert_eq!(client.ask(&json!("list")), json!({"list": ["a:1.0.0", "b:1.0.0"]}));
    assert!(begun.elapsed() < Duration::from_secs(8), "they were kept waiting");
    // And of two with the same, the first to be whole wins; the other is told so.
    slow.send(&bytes[1000..]);
    let answer = slow.response();
    assert_eq!(answer["install"]["error"]["error"]["install_duplicate"]["container"], "b:1.0.0", "{answer}");
    assert_eq!(slow.ask(&json!("ident")), json!({"ident": "extern:0.0.0"}));
    device.end();
}

#[test]
fn root_l3_one_client_too_many_harms_nobody() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    let mut device = Device::new();
    device.begin();
    let mut first = device.client();
    // Whoever says nothing holds a place, for ten seconds.
    let crowd: Vec<_> = (0..400).map_while(|_| UnixStream::connect(device.path("console")).ok()).collect();
    assert_eq!(first.ask(&json!("ident")), json!({"ident": "extern:0.0.0"}));
    drop(crowd);
    until(|| Client::try_connect(&device.path("console")).is_some(), || "a place");
    device.end();
}

#[test]
fn root_l5_orphans_are_reaped() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    let mut device = Device::new();
    let script = "i=0; while [ $i -lt 20 ]; do (sleep 0.01 &) ; i=$((i+1)); done; sleep 0.2; ls -d /proc/[0-9]* | wc -l > /data/x; exec sleep 1000";
    device.add("a", script, "mounts: {/data: {type: persist}, /proc: {type: proc}}\n");
    device.begin();
    device.client().start("a:1.0.0");
    let counted = device.path("data/a/x");
    until(|| fs::read_to_string(&counted).is_ok_and(|count| count.ends_with('\n')), || "a count");
    let count = fs::read_to_string(&counted).expect("a count");
    assert!(count.trim().parse::<u32>().is_ok_and(|count| count < 10), "{count} processes are left");
    device.end();
}

#[test]
fn root_l6_l7_output_of_any_bytes_and_without_end_goes_on() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    let mut device = Device::new();
    let script = "printf 'a\\377b\\n'; head -c 3000000 /dev/zero; printf '\\n'; echo after; echo ill >&2";
    device.add("a", script, "io: {stdout: pipe, stderr: pipe}\n");
    device.begin();
    let mut listener = device.listener();
    listener.start("a:1.0.0");
    assert_eq!(listener.hears_exit("a:1.0.0"), json!({"exit": {"code": 0}}));
    until(|| device.log().contains("a:1.0.0: after") && device.log().contains("a:1.0.0: ill"), || "the rest");
    device.end();
}

#[test]
fn root_l8_a_start_that_fails_leaves_nothing() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    let mut device = Device::new();
    let text = "name: a\nversion: 1.0.0\ninit: /none\nuid: 1000\ngid: 1000\nconsole: {permissions: full}\n\
                sockets: {s: {type: stream, mode: 0o600}}\n";
    let package = device.pack_manifest("a", text, &[]);
    device.begin();
    let mut client = device.client();
    client.install(&package, "memory");
    let count =
        |device: &Device| fs::read_dir(format!("/proc/{}/fd", device.pid())).expect("descriptors").count();
    let mut before = None;
    // A start that mounts it, too, would have the program read ahead: by a worker who may be there a little longer.
    let mounted = client.ask(&json!({"mount": {"containers": ["a:1.0.0"]}}));
    assert!(mounted["mount"][0]["ok"].is_object(), "{mounted}");
    for _ in 0..5 {
        let refusal = refusal(&client.try_start("a:1.0.0"));
        // R2: and not a success, followed by an exit with 1.
        assert!(refusal.contains("/none") && refusal.contains("no such file or directory"), "{refusal}");
        assert!(fs::read_dir(device.path("sockets")).expect("sockets").next().is_none());
        assert_eq!(client.inspect("a:1.0.0")["process"], Value::Null);
        let now = count(&device);
        assert_eq!(*before.get_or_insert(now), now, "descriptors");
    }
    device.end();
}

#[test]
fn root_l9_a_critical_end_is_an_end_in_order() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    let mut device = Device::new();
    device.add("a", "read x < /data/fifo; exit 7", &format!("autostart: critical\n{DATA}"));
    device.add("b", WAITS, "autostart: relaxed\n");
    fs::create_dir_all(device.path("data/a")).expect("a directory");
    let fifo = device.path("data/a/fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o666.into(), 0).expect("mkfifo");
    std::os::unix::fs::chown(&fifo, Some(1000), Some(1000)).expect("chown");
    device.begin();
    until(|| device.log().contains("started b:1.0.0"), || device.log());
    fs::write(fifo, "go\n").expect("say so");
    assert_eq!(device.wait().code(), Some(1), "{}", device.log());
    assert!(device.log().contains("a:1.0.0 is critical: it exited with 7"), "{}", device.log());
    device.assert_nothing_is_left();
}

#[test]
fn root_l10_news_come_while_a_request_is_under_way() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    let mut device = Device::new();
    device.add("a", "exit 0", "");
    let package = device.pack("b", WAITS, "");
    device.begin();
    let bytes = fs::read(package).expect("a package");
    let mut listener = device.listener();
    let request = json!({"request": {"install": {"repository": "default", "size": bytes.len()}}});
    listener.send(format!("{request}\n").as_bytes());
    device.client().start("a:1.0.0");
    assert_eq!(listener.hears_exit("a:1.0.0"), json!({"exit": {"code": 0}}));
    listener.send(&bytes);
    assert!(listener.response()["install"]["ok"].is_object());
    device.end();
}

#[test]
fn root_r1_the_end_by_a_signal_is_told_as_one() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    let mut device = Device::new();
    device.add("a", WAITS, "");
    device.begin();
    let mut listener = device.listener();
    for signal in [9, 15, 2, 1, 6] {
        listener.start("a:1.0.0");
        listener.kill("a:1.0.0", signal);
        assert_eq!(listener.hears_exit("a:1.0.0"), json!({"signalled": {"signal": signal}}));
    }
    for code in [0, 1, 10, 127, 128, 255] {
        let start = json!({"start": {"container": "a:1.0.0", "init": null, "arguments": ["-c", format!("exit {code}")], "environment": {}}});
        assert!(listener.ask(&start)["start"]["ok"].is_object());
        assert_eq!(listener.hears_exit("a:1.0.0"), json!({"exit": {"code": code}}));
    }
    device.end();
}

#[test]
fn root_r3_r9_what_is_mounted_is_not_mounted_again() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    let mut device = Device::new();
    device.add("a", WAITS, "");
    device.begin();
    let mut client = device.client();
    let busy = json!({"error": {"container": "a:1.0.0", "error": {"mount_busy": {"container": "a:1.0.0"}}}});
    let ok = json!({"ok": {"container": "a:1.0.0"}});
    let mount = |client: &mut Client, count: usize| {
        client.ask(&json!({"mount": {"containers": vec!["a:1.0.0"; count]}}))["mount"].take()
    };
    assert_eq!(mount(&mut client, 2), json!([ok, busy]));
    assert_eq!(mount(&mut client, 1), json!([busy]));
    let umount = client.ask(&json!({"umount": {"containers": ["a:1.0.0"]}}));
    assert_eq!(umount["umount"], json!([ok]));
    device.end();
}

#[test]
fn root_r7_a_socket_is_its_owners() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    let mut device = Device::new();
    device.add("a", WAITS, "sockets: {s: {type: datagram, mode: 0o640, uid: 1234, gid: 4321}}\n");
    device.begin();
    let mut listener = device.listener();
    listener.start("a:1.0.0");
    let entries = fs::read_dir(device.path("sockets")).expect("sockets").flatten();
    let sockets: Vec<_> = entries.map(|entry| entry.path()).collect();
    let [socket] = sockets.as_slice() else { panic!("{sockets:?}") };
    let stat = socket.metadata().expect("a socket");
    assert_eq!((stat.mode() & 0o7777, stat.uid(), stat.gid()), (0o640, 1234, 4321));
    assert!(socket.ends_with("a:1.0.0:s"), "{}", socket.display());
    let sender = UnixDatagram::unbound().expect("a socket");
    let address = SocketAddr::from_pathname(socket).expect("a name");
    sender.send_to_addr(b"hello", &address).expect("somebody has it open");
    listener.kill("a:1.0.0", 9);
    listener.hears_exit("a:1.0.0");
    assert!(!socket.exists());
    device.end();
}

#[test]
fn root_r8_memory_that_runs_out_is_told() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd, Groups);
    let mut device = Device::new();
    device.add(
        "a",
        "x=x; while true; do x=$x$x; done",
        "cgroups: {memory: {oom_monitor: true, memory_hard_limit: 10000000}}\n",
    );
    device.begin();
    let mut listener = device.listener();
    listener.start("a:1.0.0");
    let ran_out = |news: &Value| news["c_group"][1]["memory"]["oom"].as_u64().is_some_and(|times| times > 0);
    listener.hears(|news| news["c_group"][0] == "a:1.0.0" && ran_out(news));
    assert_eq!(listener.hears_exit("a:1.0.0"), json!({"signalled": {"signal": 9}}));
    device.end();
}

#[test]
fn root_r13_the_environment_of_a_start_is_added_to_the_manifests() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    let mut device = Device::new();
    device.add("a", "echo $PATH $X $NORTHSTAR_NAME > /data/x", DATA);
    device.begin();
    let mut listener = device.listener();
    let start =
        json!({"start": {"container": "a:1.0.0", "init": null, "arguments": [], "environment": {"X": "y"}}});
    assert!(listener.ask(&start)["start"]["ok"].is_object());
    listener.hears_exit("a:1.0.0");
    assert_eq!(fs::read_to_string(device.path("data/a/x")).expect("what it said"), "/bin y a\n");
    device.end();
}

#[test]
fn root_s1_what_is_bound_keeps_its_flags() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    let mut device = Device::new();
    let host = device.path("host");
    fs::create_dir(&host).expect("a directory");
    let mounts = format!(
        "mounts:\n  /proc: {{type: proc}}\n  /data: {{type: persist}}\n  /host: {{type: bind, host: {host:?}, options: 'rw,nosuid,nodev,noexec'}}\n"
    );
    device.add("a", "cat /proc/self/mountinfo > /data/x", &mounts);
    device.begin();
    let mut listener = device.listener();
    listener.start("a:1.0.0");
    listener.hears_exit("a:1.0.0");
    let mounts = fs::read_to_string(device.path("data/a/x")).expect("its mounts");
    for (place, flags) in [
        (" /host ", "rw,nosuid,nodev,noexec"),
        (" /data ", "rw,nosuid,nodev,noexec"),
        (" /proc ", "ro,nosuid,nodev,noexec"),
    ] {
        let line = mounts.lines().find(|line| line.contains(place)).unwrap_or_else(|| panic!("{mounts}"));
        assert!(line.split(place).nth(1).is_some_and(|rest| rest.starts_with(flags)), "{line}");
    }
    device.end();
}

#[test]
fn root_s2_a_network_that_is_not_there_is_a_start_that_fails() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    is_refused("network: !namespace cdt-not-there\n", "/run/netns/cdt-not-there");
}

#[test]
fn root_s3_a_resource_leads_nowhere_else() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    let mut device = Device::new();
    let manifest = "name: r\nversion: 1.0.0\nuid: 1000\ngid: 1000\n";
    std::os::unix::fs::symlink("/etc", device.path("root/etc")).expect("a link");
    fs::copy(device.pack_manifest("r", manifest, &[]), device.path("store/r.npk")).expect("copy a package");
    fs::remove_file(device.path("root/etc")).expect("remove a link");
    device.add("a", "exit 0", "mounts: {/r: {type: resource, name: r, version: '*', dir: /etc}}\n");
    device.begin();
    // Inside the package there is no such directory, whatever the host has.
    let refusal = refusal(&device.client().try_start("a:1.0.0"));
    assert!(refusal.contains("etc"), "{refusal}");
    let upwards = "name: b\nversion: 1.0.0\ninit: /a\nuid: 1\ngid: 1\nmounts: {/r: {type: resource, name: r, version: '*', dir: /../../etc}}\n";
    fs::write(device.path("b.yaml"), upwards).expect("a manifest");
    device.packages.refuse(&["pack", "-m", "b.yaml", "-r", "root"], "leads upwards");
    device.end();
}

#[test]
fn root_s5_s6_the_program_starts_clean() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    let mut device = Device::new();
    let more =
        "console: {permissions: [ident]}\nmounts: {/proc: {type: proc}}\nio: {stdout: pipe, stderr: pipe}\n";
    device.add("a", "ls /proc/self/fd", more);
    // Without a shell, which ignores SIGQUIT itself.
    let text = "name: b\nversion: 1.0.0\ninit: /bin/cat\nargs: [/proc/self/status]\nuid: 1000\ngid: 1000\n";
    let package = device.pack_manifest("b", &format!("{text}{more}"), &[]);
    device.begin();
    let mut listener = device.listener();
    listener.install(&package, "memory");
    for name in ["a:1.0.0", "b:1.0.0"] {
        listener.start(name);
        listener.hears_exit(name);
    }
    until(|| device.log().contains("b:1.0.0: nonvoluntary_ctxt_switches"), || device.log());
    let log = device.log();
    let of = |name: &str| -> String {
        log.lines().filter_map(|line| Some(line.strip_prefix(name)?.to_owned() + "\n")).collect()
    };
    // 0, 1, 2, the console, and the one that reads the directory.
    assert_eq!(of("a:1.0.0: "), "0\n1\n2\n3\n4\n");
    let status = of("b:1.0.0: ");
    for line in [
        "NSpid:\t2",
        "NSpgid:\t1",
        "NSsid:\t1",
        "PPid:\t1",
        "SigIgn:\t0000000000000000",
        "SigBlk:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Groups:\t \n",
    ] {
        assert!(status.contains(line), "{line}: {status}");
    }
    device.end();
}

#[test]
fn root_s8_the_consoles_socket_is_its_owners_and_nobodys_file_goes() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    let mut device = Device::new();
    device.begin();
    assert_eq!(device.path("console").metadata().expect("a socket").mode() & 0o7777, 0o600);
    device.end();
    assert!(!device.path("console").exists());
    fs::write(device.path("console"), "mine").expect("a file");
    device.spawn();
    assert_eq!(device.wait().code(), Some(1));
    assert!(device.log().contains("console"), "{}", device.log());
    assert_eq!(fs::read_to_string(device.path("console")).expect("it is there"), "mine");
}

#[test]
fn root_the_talker_has_no_power() {
    needs!(Root, Busybox, Cofferctl, Cofferdamd);
    let mut device = Device::new();
    device.begin();
    let status = fs::read_to_string(format!("/proc/{}/status", device.talker())).expect("its status");
    for line in [
        "Uid:\t65534\t65534\t65534\t65534",
        "Gid:\t65534\t65534\t65534\t65534",
        "CapPrm:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Threads:\t1",
    ] {
        assert!(status.contains(line), "{line}: {status}");
    }
    // Nobody of that user may look into it.
    let owner = Path::new(&format!("/proc/{}/environ", device.talker())).metadata().expect("a file").uid();
    assert_eq!(owner, 0);
    device.end();
}
