//! Attacks that container runtimes have met, each tried on a real container, and judged from the host's side.
//!
//! Beside each test NAME lies `tests/attacks/NAME.patch`, which takes the defence out: `make attacks` shows that the
//! attack then succeeds. docs/threats.md says which fault each one is, and what stands against it.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::fs::{CWD, FileType, Mode, RenameFlags, mknodat, renameat_with};
use serde_json::{Value, json};
use tests::{
    Bundle, Delegated, Home, LIMIT, Lines, Output, Receiver, Runtime, channel, copy_program, gone_within,
    needs,
};

/// What lies on the host, outside the root, and must never be read from inside.
const SECRET: &str = "the host's own";

/// A directory of the host beside the root file system, with a secret in it.
fn outside(bundle: &Bundle) -> PathBuf {
    let dir = bundle.dir().join("outside");
    fs::create_dir(&dir).expect("make a directory outside the root");
    fs::write(dir.join("secret"), SECRET).expect("write the secret");
    dir
}

/// Fails the test if there is anything in the directory but the secret, unchanged.
#[track_caller]
fn assert_untouched(outside: &Path, what: &str) {
    let entries = fs::read_dir(outside).expect("list the directory outside").flatten();
    let names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
    assert_eq!(names, ["secret"], "{what}: something was made outside the root");
    let secret = fs::read_to_string(outside.join("secret")).expect("read the secret");
    assert_eq!(secret, SECRET, "{what}: a file outside the root was written");
}

/// Of the default's mounts only those on these places.
fn only_mounts(config: &mut Value, places: &[&str]) {
    let mounts = config["mounts"].as_array_mut().expect("the default has mounts");
    mounts.retain(|mount| mount["destination"].as_str().is_some_and(|place| places.contains(&place)));
}

fn writable(config: &mut Value) {
    config["root"]["readonly"] = json!(false);
}

fn run_from_a_file(bundle: &Bundle) -> Output {
    let stdin = File::open(bundle.dir().join("config.json")).expect("open some file to read from");
    let container = bundle.another(&Runtime::under_test());
    container.command(&["run", "--bundle", "BUNDLE", "ID"]).stdin(stdin).run()
}

/// A shell inside a container that does what it is told through a pipe in its root file system, a line at a time.
struct Puppet {
    pipe: File,
    lines: Lines,
}

impl Puppet {
    /// Makes the pipe; to be called before the container is created with `/go` as its program's orders.
    fn of(bundle: &Bundle, lines: Lines) -> Self {
        let path = bundle.rootfs().join("go");
        mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("make a pipe");
        // Open for both, so that neither side waits for the other to come.
        let pipe = File::options().read(true).write(true).open(&path).expect("open the pipe");
        Self { pipe, lines }
    }

    fn tell(&mut self, line: &str) -> String {
        writeln!(self.pipe, "{line}").expect("write to the pipe");
        self.lines.next_within(LIMIT).expect("the attacker answers")
    }
}

/// The number that a process has in its innermost pid namespace.
fn inner_pid(pid: i32) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("read the status of init");
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:")).expect("the kernel tells NSpid");
    line.split_whitespace().next_back().expect("at least one number").to_owned()
}

/// The attacker has root in a container whose pid namespace another container joins. It takes a handle of that one's
/// executable while it is still the runtime, waits until nobody runs it any more, and writes to the host's binary.
#[test]
fn attack_cve_2019_5736() {
    needs!(Root, Busybox);
    let (lines, stdout) = channel();
    let mut attacker = Bundle::new("attacker")
        .shell(
            "exec 8</go; while read pid <&8; do \
             exec 7</proc/$pid/exe; echo held; \
             read now <&8; if (printf X >>/proc/self/fd/7); then echo wrote; else echo refused; fi; \
             done",
        )
        .edit(writable);
    for cap in ["CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_FOWNER"] {
        attacker = attacker.cap(cap);
    }
    let mut puppet = Puppet::of(&attacker, lines);
    let inside = attacker.container(&Runtime::under_test());
    inside.command(&["run", "--detach", "--bundle", "BUNDLE", "ID"]).stdout(stdout).run().success();
    let pids = format!("/proc/{}/ns/pid", inside.pid().expect("the attacker runs"));

    let bundle = Bundle::new("victim").edit(|config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().expect("the default has namespaces");
        namespaces.retain(|namespace| namespace["type"] != "pid");
        namespaces.push(json!({"type": "pid", "path": pids}));
    });
    let victim = bundle.dir().join("victim");
    copy_program(Runtime::under_test().program(), &victim);
    let good = fs::read(&victim).expect("read the copy");
    let log = bundle.rootfs().join("log");
    mknodat(CWD, &log, FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("make a pipe");
    let script = bundle.rootfs().join("script");
    fs::write(&script, "#!/proc/self/exe --log=/log\n").expect("write the script");
    rustix::fs::chmod(&script, Mode::from_raw_mode(0o755)).expect("make it executable");
    symlink("/proc/self/exe", bundle.rootfs().join("link")).expect("link to /proc/self/exe");

    // While it waits for `start`; and once more after the container made the runtime execute itself: the pipe that it
    // is to log to holds it there.
    let programs: [(&[&str], bool); 3] =
        [(&["/bin/true"], false), (&["/script"], true), (&["/link", "--log=/log", "attack"], true)];
    let mut bundle = bundle;
    for (program, executes_itself) in programs {
        bundle.change(|config| config["process"]["args"] = json!(program));
        let container = bundle.another(&Runtime::at(&victim));
        container.create().success();
        let pid = container.pid().expect("it was created");
        if executes_itself {
            let start = container.start();
            assert_eq!(
                start.code, 0,
                "only a static runtime can execute itself in there: is it one? {start}"
            );
        }
        assert_eq!(puppet.tell(&inner_pid(pid)), "held", "{program:?}");
        if executes_itself {
            // Whoever opens the pipe lets it go on.
            let _both = File::options().read(true).write(true).open(&log).expect("open the pipe");
            assert!(gone_within(pid, LIMIT), "{program:?}");
        } else {
            container.start().success();
            assert!(gone_within(pid, LIMIT), "{program:?}");
        }
        container.delete().success();
        assert_eq!(puppet.tell("now"), "refused", "{program:?}: a file of the host was opened for writing");
        assert!(fs::read(&victim).expect("read the copy") == good, "{program:?}: the binary was changed");
    }
}

/// The same through `exec`: the attacker is the container itself, and what it makes the runtime execute is the runtime. Once
/// it waits for a plain program's process to come in, and takes the handle while that is still the runtime.
#[test]
fn attack_exec_cve_2019_5736() {
    needs!(Root, Busybox);
    let (lines, stdout) = channel();
    let mut bundle = Bundle::new("entered")
        .shell(
            "exec 8</go; while read pid <&8; do \
             exec 7</proc/$pid/exe; echo held; \
             read now <&8; if (printf X >>/proc/self/fd/7); then echo wrote; else echo refused; fi; \
             done",
        )
        .edit(writable);
    for cap in ["CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_FOWNER"] {
        bundle = bundle.cap(cap);
    }
    let mut puppet = Puppet::of(&bundle, lines);
    let victim = bundle.dir().join("victim");
    copy_program(Runtime::under_test().program(), &victim);
    let good = fs::read(&victim).expect("read the copy");
    let log = bundle.rootfs().join("log");
    mknodat(CWD, &log, FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("make a pipe");
    let script = bundle.rootfs().join("script");
    fs::write(&script, "#!/proc/self/exe --log=/log\n").expect("write the script");
    rustix::fs::chmod(&script, Mode::from_raw_mode(0o755)).expect("make it executable");
    symlink("/proc/self/exe", bundle.rootfs().join("link")).expect("link to /proc/self/exe");
    let container = bundle.container(&Runtime::at(&victim));
    // Not `run --detach`, whose keeper would execute the same file, which the kernel lets nobody write to meanwhile.
    container.command(&["create", "--bundle", "BUNDLE", "ID"]).stdout(stdout).run().success();
    container.start().success();
    let file = bundle.dir().join("exec.pid");
    let told = source_of(&file);
    let assert_refused = |puppet: &mut Puppet, what: &str| {
        assert_eq!(puppet.tell("now"), "refused", "{what}: a file of the host was opened for writing");
        assert!(fs::read(&victim).expect("read the copy") == good, "{what}: the binary was changed");
    };
    for program in [&["/script"] as &[_], &["/link", "--log=/log", "attack"]] {
        let words = [&["exec", "--detach", "--pid-file", told, "ID"], program].concat();
        let exec = container.call(&words);
        assert_eq!(exec.code, 0, "only a static runtime can execute itself in there: is it one? {exec}");
        let pid = fs::read_to_string(&file).expect("the pid file").parse().expect("a number");
        assert_eq!(puppet.tell(&inner_pid(pid)), "held", "{program:?}");
        // Whoever opens the pipe lets it go on.
        let _both = File::options().read(true).write(true).open(&log).expect("open the pipe");
        assert!(gone_within(pid, LIMIT), "{program:?}");
        assert_refused(&mut puppet, program[0]);
    }
    #[cfg(target_arch = "x86_64")]
    {
        let exec = container.command(&["exec", "ID", "/bin/true"]);
        let entered = tests::trace::look_at_child(exec, |child| {
            if child.call == Some(libc::SYS_capset) {
                assert_eq!(puppet.tell(&inner_pid(child.pid())), "held");
            }
        });
        entered.success();
        assert_refused(&mut puppet, "entering");
    }
}

/// An attacker with root in the container and no capability that matters, which looks into processes: what it tells of one
/// whose number it reads is "refused" or what it got. The secret is a variable of the runtime's caller.
#[cfg(target_arch = "x86_64")]
const LOOKING: &str = "exec 8</go; while read pid <&8; do \
     if tr '\\000' '\\n' </proc/$pid/environ 2>/dev/null | grep -q '^SECRET='; then echo read its environment; \
     elif readlink /proc/$pid/fd/0 >/dev/null 2>&1; then echo saw its descriptors; \
     elif ls /proc/$pid/cwd/ >/dev/null 2>&1; then echo entered its directory; \
     elif head -c 1 /proc/$pid/maps 2>/dev/null | grep -q .; then echo read its memory map; \
     else echo refused; fi; done";

#[cfg(target_arch = "x86_64")]
const SECRETIVE: &[&str] = &["env", "SECRET=of-the-host"];

/// Holds the child of a command behind each of its system calls until it is the program, and lets the attacker look.
#[cfg(target_arch = "x86_64")]
fn assert_out_of_reach(puppet: &mut Puppet, command: tests::Invocation<'_>) {
    let mut looks = 0;
    tests::trace::look_at_child(command.launched_by(SECRETIVE), |child| {
        let told = puppet.tell(&inner_pid(child.pid()));
        assert_eq!(told, "refused", "behind call {:?}, the number {looks}", child.call);
        looks += 1;
    })
    .success();
    assert!(looks > 20, "only {looks} looks at it");
}

/// The attacker waits in the container for a process that comes in, and looks into it while it is still the runtime.
#[cfg(target_arch = "x86_64")]
#[test]
fn attack_exec_cve_2016_9962() {
    needs!(Root, Busybox);
    let (lines, stdout) = channel();
    let bundle = Bundle::new("entered").shell(LOOKING).edit(|config| {
        writable(config);
        // For this the runtime holds the host's /proc.
        config["process"]["oomScoreAdj"] = json!(100);
    });
    let mut puppet = Puppet::of(&bundle, lines);
    let container = bundle.container(&Runtime::under_test());
    container.command(&["run", "--detach", "--bundle", "BUNDLE", "ID"]).stdout(stdout).run().success();
    let own = inner_pid(container.pid().expect("the attacker runs"));
    assert_ne!(puppet.tell(&own), "refused", "it can look at all");
    assert_out_of_reach(&mut puppet, container.command(&["exec", "ID", "/bin/true"]));
}

/// The attacker's namespaces are joined by another container, whose first process it looks into while that is still the
/// runtime: its root is the host's then.
#[cfg(target_arch = "x86_64")]
#[test]
fn attack_joined_namespaces() {
    needs!(Root, Busybox);
    let (lines, stdout) = channel();
    let attacker = Bundle::new("attacker").shell(LOOKING).edit(writable);
    let mut puppet = Puppet::of(&attacker, lines);
    let inside = attacker.container(&Runtime::under_test());
    inside.command(&["run", "--detach", "--bundle", "BUNDLE", "ID"]).stdout(stdout).run().success();
    let pid = inside.pid().expect("the attacker runs");
    let bundle = Bundle::new("joins").edit(|config| {
        config["process"]["oomScoreAdj"] = json!(100);
        config["linux"]["namespaces"] = json!([
            {"type": "mount"},
            {"type": "pid", "path": format!("/proc/{pid}/ns/pid")},
            {"type": "network", "path": format!("/proc/{pid}/ns/net")},
            {"type": "ipc", "path": format!("/proc/{pid}/ns/ipc")},
            {"type": "uts", "path": format!("/proc/{pid}/ns/uts")},
        ]);
    });
    let container = bundle.container(&Runtime::under_test());
    let run = container.command(&["run", "--detach", "--bundle", "BUNDLE", "ID"]);
    assert_out_of_reach(&mut puppet, run);
    assert!(container.ended());
    container.delete().success();
    // Where it waits for `start` it is still the runtime.
    container.command(&["create", "--bundle", "BUNDLE", "ID"]).launched_by(SECRETIVE).run().success();
    let waiting = inner_pid(container.pid().expect("it was created"));
    assert_eq!(puppet.tell(&waiting), "refused", "at the gate");
    container.start().success();
    assert!(container.ended());
}

/// A caller that left a directory of the host open in the runtime.
const LEAKY: &[&str] = &["/bin/sh", "-c", r#"exec 9</; exec "$@""#, "sh"];

/// Prints the secret if it can be reached from the working directory or by a descriptor.
fn reach(bundle: &Bundle) -> String {
    let secret = bundle.dir().join("outside/secret");
    let path = secret.to_str().expect("the bundle's path is ASCII").trim_start_matches('/');
    let ups = ["", "../", "../../", "../../../", "../../../../", "../../../../../"];
    let here = ups.map(|up| format!("{up}{path} {up}outside/secret")).join(" ");
    format!("cat {here} /proc/$$/fd/*/{path} 2>/tmp/complaints; ls -l /proc/$$/fd; true")
}

/// The attacker writes the image's working directory: a link of the kernel's to whatever the runtime has open.
#[test]
fn attack_cve_2024_21626() {
    needs!(Root, Busybox);
    let mut bundle = Bundle::new("cwd").edit(|config| {
        writable(config);
        // For this the runtime opens the host's /proc, from which a link leads to the host's root.
        config["process"]["oomScoreAdj"] = json!(100);
    });
    outside(&bundle);
    let line = reach(&bundle);
    let mut bundle_with = |cwd: &str| {
        bundle.change(|config| {
            config["process"]["args"] = json!(["/bin/sh", "-c", line]);
            config["process"]["cwd"] = json!(cwd);
        });
        let run = bundle.another(&Runtime::under_test());
        let run = run.command(&["run", "--bundle", "BUNDLE", "ID"]).launched_by(LEAKY).run();
        assert!(!run.stdout.contains(SECRET), "{cwd}: {run}");
        let created = bundle.another(&Runtime::under_test());
        let create = created.command(&["create", "--bundle", "BUNDLE", "ID"]).launched_by(LEAKY).run();
        if create.code == 0 {
            created.start().success();
            assert!(created.ended());
            assert!(!create.printed().contains(SECRET), "{cwd}: {create}");
        }
        run
    };
    bundle_with("/").success();
    for number in 3..40 {
        for below in ["", "/1/root"] {
            let run = bundle_with(&format!("/proc/self/fd/{number}{below}"));
            assert_eq!(run.code, 1, "a descriptor of the runtime's is no working directory: {run}");
        }
    }
    bundle_with("/proc/self/fd/9/../tmp").code(1);
    bundle_with("/proc/self/cwd").code(1);
}

/// The same through `exec`, whose working directory the image, or whoever asks for it, says: the runtime is in the
/// container already, and has the host's /proc open, from which a link leads to the host's root.
#[test]
fn attack_exec_cve_2024_21626() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("cwd").shell("exec sleep 1000").edit(|config| {
        writable(config);
        config["process"]["oomScoreAdj"] = json!(100);
    });
    outside(&bundle);
    let line = reach(&bundle);
    let container = bundle.container(&Runtime::under_test());
    container.command(&["run", "--detach", "--bundle", "BUNDLE", "ID"]).launched_by(LEAKY).run().success();
    let exec_in = |cwd: &str| {
        let words = ["exec", "--cwd", cwd, "ID", "/bin/sh", "-c", line.as_str()];
        let exec = container.command(&words).launched_by(LEAKY).run();
        assert!(!exec.stdout.contains(SECRET), "{cwd}: {exec}");
        exec
    };
    exec_in("/").success();
    let mut within = 0;
    for number in 3..20 {
        for below in ["", "/1/root", "/1/cwd"] {
            let exec = exec_in(&format!("/proc/self/fd/{number}{below}"));
            // One handle is of the container's own root, and leads there.
            within += usize::from(exec.code == 0);
            assert!(matches!(exec.code, 0 | 255), "{exec}");
        }
    }
    assert!(within <= 2, "{within} handles lead somewhere");
    exec_in("/proc/self/fd/9/../tmp").code(255);
}

/// The attacker has only its own process, and looks for what the runtime, or the runtime's caller, left open in it.
#[test]
fn attack_leaked_descriptors() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("fds").edit(writable);
    outside(&bundle);
    let line = reach(&bundle);
    let bundle = bundle.shell(&line);
    let container = bundle.container(&Runtime::under_test());
    let run = container.command(&["run", "--bundle", "BUNDLE", "ID"]).launched_by(LEAKY).run();
    run.success();
    assert!(!run.stdout.contains(SECRET), "the secret was read through a descriptor: {run}");
    let links = run.stdout.lines().filter_map(|line| line.split_once(" -> "));
    let open: Vec<_> =
        links.filter_map(|(line, _)| line.split(' ').next_back()?.parse::<u32>().ok()).collect();
    assert_eq!(open, [0, 1, 2], "{run}");
}

/// The attacker's image brings a /dev in which the console is a link, or a volume on /dev/pts whose multiplexer and
/// terminals are links, or something else altogether; and later, from inside, the same for `exec`. A terminal that
/// followed them would be mounted where the link leads, or would be what the link names.
#[test]
fn attack_cve_2025_52565() {
    needs!(Root, Busybox);
    let terminal = |bundle: Bundle| {
        bundle.cap("CAP_SYS_ADMIN").edit(|config| {
            writable(config);
            config["process"]["terminal"] = json!(true);
        })
    };
    let create = |bundle: &Bundle, why: &str| {
        let receiver = Receiver::new(bundle, "console");
        let container = bundle.another(&Runtime::under_test());
        let made =
            container.call(&["create", "--bundle", "BUNDLE", "--console-socket", receiver.path(), "ID"]);
        if let Some(pid) = container.pid() {
            let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).expect("it has mounts");
            panic!("{why}: there is a terminal all the same:\n{mounts}");
        }
        made.code(1);
        assert!(made.stderr.contains(why), "{why}: {made}");
    };

    let bundle = terminal(Bundle::new("console")).edit(|config| only_mounts(config, &["/proc", "/dev/pts"]));
    fs::write(bundle.rootfs().join("etc/victim"), SECRET).expect("write the victim");
    let console = bundle.rootfs().join("dev/console");
    for target in ["../etc/victim", "../proc/sys/net/ipv4/ip_forward", "nowhere"] {
        symlink(target, &console).expect("make a link");
        create(&bundle, "mount it on /dev/console: it is a link");
        fs::remove_file(&console).expect("take the link away");
    }
    assert!(!bundle.rootfs().join("dev/nowhere").exists(), "something was made where the link leads");
    drop(bundle);

    let bundle = terminal(Bundle::new("volume")).edit(|config| only_mounts(config, &["/proc", "/dev"]));
    let outside = outside(&bundle);
    let volume = bundle.dir().join("volume");
    fs::create_dir(&volume).expect("make the volume");
    let bundle = bundle.mount("/real", "devpts", "devpts", &["newinstance", "ptmxmode=0666"]).mount(
        "/dev/pts",
        "bind",
        volume.to_str().expect("ASCII"),
        &["bind"],
    );
    symlink("/real/ptmx", volume.join("ptmx")).expect("make a link");
    symlink("/proc/sys/net/ipv4/ip_forward", volume.join("0")).expect("make a link");
    create(&bundle, "/dev/pts is no devpts");
    fs::remove_file(volume.join("ptmx")).expect("take the link away");
    mknodat(CWD, volume.join("ptmx"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("make a pipe");
    create(&bundle, "/dev/pts is no devpts");
    assert_untouched(&outside, "a volume on /dev/pts");
    drop(bundle);

    // A genuine one, with something mounted over its multiplexer.
    let bundle = terminal(Bundle::new("over"));
    fs::write(bundle.dir().join("file"), SECRET).expect("write a file");
    let file = bundle.dir().join("file");
    let bundle = bundle.mount("/dev/pts/ptmx", "bind", file.to_str().expect("ASCII"), &["bind"]);
    create(&bundle, "it is not the multiplexer of a devpts");
    drop(bundle);

    let (mut lines, stdout) = channel();
    let bundle = Bundle::new("inside").cap("CAP_SYS_ADMIN").shell(
        "mount -t tmpfs none /dev/pts && mkfifo /dev/pts/ptmx && ln -s /proc/1/mem /dev/pts/0 && echo ready; exec sleep 1000",
    );
    let container = bundle.container(&Runtime::under_test());
    container.command(&["run", "--detach", "--bundle", "BUNDLE", "ID"]).stdout(stdout).run().success();
    assert_eq!(lines.next_within(LIMIT).as_deref(), Some("ready"));
    let receiver = Receiver::new(&bundle, "console");
    let exec = container.call(&["exec", "-t", "-d", "--console-socket", receiver.path(), "ID", "true"]);
    exec.code(255);
    assert!(exec.stderr.contains("/dev/pts is no devpts"), "{exec}");
}

/// The attacker owns the volume on /dev, and leaves a link where the null device was: what hides a file is then what
/// the link names. A second process of it exchanges the two while containers are made.
#[test]
fn attack_cve_2025_31133() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("null").shell("cat /hidden; echo owned >/hidden").edit(|config| {
        writable(config);
        only_mounts(config, &["/proc"]);
        config["linux"]["maskedPaths"] = json!(["/hidden"]);
    });
    let dev = bundle.dir().join("volume");
    fs::create_dir(&dev).expect("make the volume");
    let bundle = bundle.mount("/dev", "bind", dev.to_str().expect("ASCII"), &["rbind", "rw"]);
    let target = bundle.rootfs().join("target");
    fs::write(bundle.rootfs().join("hidden"), SECRET).expect("write what is to be hidden");
    fs::write(&target, "not for writing").expect("write the target");
    let assert_hidden = |run: &Output, what: &str| {
        for shown in [SECRET, "not for writing"] {
            assert!(!run.stdout.contains(shown), "{what}: the masked path shows {shown:?}: {run}");
        }
        let now = fs::read_to_string(&target).expect("read the target");
        assert_eq!(now, "not for writing", "{what}: was written through the mask");
        let hidden = fs::read_to_string(bundle.rootfs().join("hidden")).expect("read what is hidden");
        assert_eq!(hidden, SECRET, "{what}: the masked path was written");
    };
    let device = |name: &str, minor| {
        let number = rustix::fs::makedev(1, minor);
        mknodat(CWD, dev.join(name), FileType::CharacterDevice, Mode::from_raw_mode(0o666), number)
            .expect("make a device");
    };
    let null = dev.join("null");

    symlink("/target", &null).expect("make a link");
    let run = run_from_a_file(&bundle);
    assert_hidden(&run, "a link");
    run.code(1);
    fs::rename(&null, dev.join("link")).expect("put the link aside");

    fs::write(&null, "not for writing").expect("write a file");
    let run = run_from_a_file(&bundle);
    assert_hidden(&run, "a file");
    run.code(1);
    fs::remove_file(&null).expect("take the file away");

    device("null", 5);
    let run = run_from_a_file(&bundle);
    assert_hidden(&run, "another device");
    run.code(1);
    fs::remove_file(&null).expect("take the device away");

    device("null", 3);
    let run = run_from_a_file(&bundle);
    run.success();
    assert_hidden(&run, "the null device");
    while_exchanging(&null, &dev.join("link"), || {
        for round in 0..20 {
            let run = run_from_a_file(&bundle);
            assert_hidden(&run, &format!("round {round}"));
        }
    });
}

/// Runs `work` while another thread exchanges two names as fast as the kernel does it.
fn while_exchanging(one: &Path, other: &Path, work: impl FnOnce()) {
    struct Ended<'a>(&'a AtomicBool);
    impl Drop for Ended<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).expect("exchange two names");
            }
        });
        // Also when an assertion ends the work: the scope waits for the thread.
        let _ended = Ended(&ended);
        work();
    });
}

/// The attacker has laid a file over the part of /proc that the runtime will write to, or ships a /proc of its own.
#[test]
fn attack_cve_2025_52881() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("procfs")
        .shell("cat /proc/sys/kernel/domainname /proc/self/oom_score_adj")
        .edit(|config| {
            writable(config);
            config["linux"]["sysctl"] = json!({"kernel.domainname": "tuned"});
            config["process"]["oomScoreAdj"] = json!(321);
        });
    // As an image: files and links where the real ones would be.
    let fake = bundle.rootfs().join("proc");
    fs::create_dir_all(fake.join("self")).expect("make a /proc");
    fs::write(fake.join("self/oom_score_adj"), "as it was").expect("write a file");
    let away = outside(&bundle);
    symlink(&away, fake.join("sys")).expect("make a link");
    let run = bundle.another(&Runtime::under_test()).run();
    run.success();
    assert_eq!(run.stdout, "tuned\n321\n", "the kernel has what was asked for");
    let file = fs::read_to_string(fake.join("self/oom_score_adj")).expect("read the file");
    assert_eq!(file, "as it was", "a file of the image was written in place of the kernel's");
    assert_untouched(&away, "a link in the image's /proc");

    // As a mount that is in the runtime's way: a file, or a directory of files.
    let file = bundle.dir().join("decoy");
    fs::write(&file, "as it was").expect("write a decoy");
    let directory = bundle.dir().join("decoys");
    fs::create_dir(&directory).expect("make a directory of decoys");
    fs::write(directory.join("domainname"), "as it was").expect("write a decoy");
    let decoys = [(&file, &file, "domainname"), (&directory, &directory.join("domainname"), "")];
    for (source, written, below) in decoys {
        let source = source.to_str().expect("ASCII");
        let script = r#"mount --bind "$1" "/proc/sys/kernel/$2" && shift 2 && exec "$@""#;
        let launcher = ["unshare", "--mount", "sh", "-c", script, "sh", source, below];
        let container = bundle.another(&Runtime::under_test());
        let run = container.command(&["run", "--bundle", "BUNDLE", "ID"]).launched_by(&launcher).run();
        let decoy = fs::read_to_string(written).expect("read the decoy");
        assert_eq!(decoy, "as it was", "a value for the kernel went elsewhere: {run}");
        run.code(1);
        assert!(run.stderr.contains("kernel/domainname"), "{run}");
    }

    // As a link of the image that leads a mount of the configuration there.
    for place in ["/link/attr", "/link"] {
        let bundle = Bundle::new("link").mount(place, "tmpfs", "tmpfs", &[]).edit(writable);
        symlink("/proc/self", bundle.rootfs().join("link")).expect("make a link");
        let run = bundle.another(&Runtime::under_test()).run();
        run.code(1);
        assert!(run.stderr.contains("leads into /proc"), "{run}");
    }

    // As mounts of the configuration, refused by name before anything is made.
    for place in ["/proc/self/oom_score_adj", "/proc/sys", "/proc/sys/kernel/domainname", "/proc/self/attr"] {
        let bundle = Bundle::new("over").mount(place, "bind", source_of(&directory), &["bind"]);
        let run = bundle.another(&Runtime::under_test()).run();
        run.code(1);
        assert!(run.stderr.contains("mounts[7]") && run.stderr.contains(place), "{run}");
    }
}

fn source_of(path: &Path) -> &str {
    path.to_str().expect("the bundle's path is ASCII")
}

/// The attacker ships an image whose /dev is a link: the runtime, which is root, would make devices where it leads.
#[test]
fn attack_dev_as_a_link() {
    needs!(Root, Busybox);
    for absolute in [true, false] {
        let bundle = Bundle::new("dev").edit(|config| {
            writable(config);
            only_mounts(config, &["/proc"]);
        });
        let host = outside(&bundle);
        let dev = bundle.rootfs().join("dev");
        fs::remove_dir(&dev).expect("take the directory away");
        let leads_to = if absolute { host.clone() } else { PathBuf::from("../outside") };
        symlink(&leads_to, &dev).expect("make a link");
        let run = bundle.another(&Runtime::under_test()).run();
        assert_untouched(&host, "/dev is a link");
        // Inside the root the link may lead wherever it wants.
        run.success();
        let inside = bundle.rootfs().join(leads_to.to_str().expect("ASCII").trim_start_matches(['/', '.']));
        assert!(inside.join("full").exists(), "{} has the devices", inside.display());
    }
}

/// The attacker ships an image whose /proc or /sys is a link, or owns the volume that is mounted there: what is then
/// hidden or made read-only by name is not what the container will see.
#[test]
fn attack_proc_as_a_link() {
    needs!(Root, Busybox);
    for (place, leads_to) in [("proc", "/fake"), ("proc", "../outside"), ("sys", "/fake")] {
        let bundle = Bundle::new("proc").shell("echo attack").edit(writable);
        let host = outside(&bundle);
        fs::create_dir(bundle.rootfs().join("fake")).expect("make a directory");
        fs::remove_dir(bundle.rootfs().join(place)).expect("take the directory away");
        symlink(leads_to, bundle.rootfs().join(place)).expect("make a link");
        let run = bundle.another(&Runtime::under_test()).run();
        assert_untouched(&host, place);
        run.code(1);
        assert_eq!(run.stdout, "", "{place} is a link, and the program ran");
        assert!(run.stderr.contains("must be mounted on ordinary directory"), "{run}");
    }
    let bundle = Bundle::new("volume").shell("echo attack").edit(|config| only_mounts(config, &["/dev"]));
    let volume = outside(&bundle);
    let bundle = bundle.mount("/proc", "bind", source_of(&volume), &["rbind"]);
    let run = bundle.another(&Runtime::under_test()).run();
    run.code(1);
    assert_eq!(run.stdout, "", "a volume stands on /proc, and the program ran");
    assert!(run.stderr.contains("/proc takes nothing but a procfs"), "{run}");
}

/// The attacker has a volume that another container mounts too, and exchanges a directory of it with a link that leads
/// out, while that container is made with a mount below the directory.
#[test]
fn attack_mount_target_swapped() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("swap").shell("cat /proc/self/mountinfo").edit(writable);
    let host = outside(&bundle);
    let volume = bundle.dir().join("volume");
    fs::create_dir_all(volume.join("directory")).expect("make the volume");
    symlink(&host, volume.join("link")).expect("make a link");
    let bundle = bundle.mount("/vol", "bind", source_of(&volume), &["rbind", "rw"]);
    let bundle = bundle.mount("/vol/directory/below", "tmpfs", "tmpfs", &[]);
    let bundle = bundle.mount("/vol/directory/file", "bind", "/proc/version", &["bind", "ro"]);
    let mut made = 0;
    while_exchanging(&volume.join("directory"), &volume.join("link"), || {
        for round in 0..60 {
            let run = bundle.another(&Runtime::under_test()).run();
            assert_untouched(&host, &format!("round {round}"));
            made += usize::from(run.code == 0);
            assert!(run.code <= 1, "{run}");
            assert!(run.code == 0 || run.stderr.lines().count() == 1, "one clear error: {run}");
        }
    });
    assert!(made > 0, "not one container could be made: the attack stopped all, or nothing was tried");
}

/// The attacker ships an image with links that lead out, where directories and files are missing that the
/// configuration needs.
#[test]
fn attack_mkdir_outside() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("mkdir").edit(writable);
    let host = outside(&bundle);
    let links = [
        ("absolute", host.clone()),
        (
            "relative",
            PathBuf::from("../../../../../../../../../../..").join(host.strip_prefix("/").expect("absolute")),
        ),
        ("beside", PathBuf::from("../outside")),
        ("missing", host.join("new")),
        ("magic", PathBuf::from("/proc/self/root").join(host.strip_prefix("/").expect("absolute"))),
        ("chain", PathBuf::from("absolute/../outside")),
    ];
    for (name, leads_to) in &links {
        symlink(leads_to, bundle.rootfs().join(name)).expect("make a link");
    }
    let mut bundle = bundle;
    let clean = bundle.config().clone();
    let mut try_with = |what: &str, change: &dyn Fn(&mut Value)| {
        bundle.change(|config| {
            *config = clean.clone();
            change(config);
        });
        let run = bundle.another(&Runtime::under_test()).run();
        assert_untouched(&host, what);
        assert!(run.code <= 1, "{what}: {run}");
    };
    let add = |config: &mut Value, mount: Value| {
        config["mounts"].as_array_mut().expect("the default has mounts").push(mount);
    };
    for (name, _) in &links {
        try_with(&format!("{name}: a directory"), &|config| {
            add(config, json!({"destination": format!("/{name}/a/b"), "type": "tmpfs", "source": "tmpfs"}));
        });
        try_with(&format!("{name}: a file"), &|config| {
            let options = json!(["bind"]);
            let place = format!("/{name}/a/file");
            add(
                config,
                json!({"destination": place, "type": "bind", "source": "/proc/version", "options": options}),
            );
        });
        try_with(&format!("{name}: the working directory"), &|config| {
            config["process"]["cwd"] = json!(format!("/{name}/work/here"));
        });
        try_with(&format!("{name}: a device"), &|config| {
            config["linux"]["devices"] =
                json!([{"path": format!("/{name}/nodes/zero"), "type": "c", "major": 1, "minor": 5}]);
        });
        try_with(&format!("{name}: a mask"), &|config| {
            config["linux"]["maskedPaths"] = json!([format!("/{name}"), format!("/{name}/secret")]);
        });
    }
}

/// The attacker runs a program with file capabilities as an ordinary user, and hopes for inheritable ones that nobody
/// gave to the container: left over from the runtime's caller, or made from what is permitted.
#[test]
fn attack_inheritable() {
    needs!(Root, Busybox);
    let launcher = ["setpriv", "--inh-caps", "+chown,+net_raw", "--"];
    for (uid, has_sets) in [(0, true), (1000, true), (0, false), (1000, false)] {
        let bundle = Bundle::new("caps").args(&["/bin/grep", "Cap", "/proc/self/status"]).edit(|config| {
            config["process"]["user"]["uid"] = json!(uid);
            if !has_sets {
                config["process"].as_object_mut().expect("an object").remove("capabilities");
            }
        });
        let container = bundle.another(&Runtime::under_test());
        let run = container.command(&["run", "--bundle", "BUNDLE", "ID"]).launched_by(&launcher).run();
        run.success();
        let none = "0000000000000000";
        for set in if has_sets {
            &["CapInh", "CapAmb"][..]
        } else {
            &["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]
        } {
            let line = format!("{set}:\t{none}");
            assert!(
                run.stdout.lines().any(|told| told == line),
                "user {uid}, sets {has_sets}: {set} is not empty: {run}"
            );
        }
    }
}

/// The same through `exec --cap`, which gives capabilities that the container did not have.
#[test]
fn attack_exec_inheritable() {
    needs!(Root, Busybox);
    let launcher = ["setpriv", "--inh-caps", "+chown,+net_raw", "--"];
    let bundle = Bundle::new("caps").shell("exec sleep 1000");
    let container = bundle.container(&Runtime::under_test());
    container.command(&["run", "--detach", "--bundle", "BUNDLE", "ID"]).run().success();
    for user in ["0", "1000"] {
        for flags in [&[][..], &["--cap", "CAP_NET_RAW"], &["--cap", "CAP_NET_RAW", "--cap", "CAP_CHOWN"]] {
            let words = [&["exec", "--user", user], flags, &["ID", "/bin/grep", "Cap", "/proc/self/status"]];
            let exec = container.command(&words.concat()).launched_by(&launcher).run();
            exec.success();
            for set in ["CapInh", "CapAmb"] {
                let line = format!("{set}:\t0000000000000000");
                let is_empty = exec.stdout.lines().any(|told| told == line);
                assert!(is_empty, "user {user}, {flags:?}: {set} is not empty: {exec}");
            }
        }
    }
}

/// A control group that was given to an ordinary user is his inside his container too, and there it is found below the
/// host's /sys, which is bound because he cannot mount one: by writing there a program leaves its own limits.
#[test]
fn attack_cve_2023_25809() {
    needs!(Root, Busybox);
    for word in ["ro", "rw"] {
        let home = Home::new("groups").edit(|config| {
            let mounts = config["mounts"].as_array_mut().expect("the default has mounts");
            mounts.retain(|mount| {
                !mount["destination"].as_str().is_some_and(|target| target.starts_with("/sys"))
            });
            mounts.push(json!({
                "destination": "/sys", "type": "none", "source": "/sys",
                "options": ["rbind", "nosuid", "noexec", "nodev", word],
            }));
        });
        let groups = Delegated::to_user(&format!("{}-own", home.bundle.id()));
        let tries: Vec<String> = groups
            .paths
            .iter()
            .map(|path| {
                let path = path.display();
                format!(
                    "ls {path}/cgroup.procs && mkdir {path}/escaped && rmdir {path}/escaped && echo wrote"
                )
            })
            .collect();
        let home = home.shell(&format!("{}; echo done", tries.join("; ")));
        let output = home.run();
        assert!(output.success().stdout.ends_with("done\n"), "{output}");
        assert!(!output.stdout.contains("wrote"), "{word}: a group of the host's was changed: {output}");
        assert_eq!(output.stdout.matches("cgroup.procs").count(), groups.paths.len(), "{output}");
        drop(groups);
    }
}
