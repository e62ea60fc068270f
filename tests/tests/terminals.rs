//! Terminals: the one that the program gets, the one that its caller sits at, and what goes between.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::os::fd::AsFd;

use rustix::fs::{fstat, major, minor};
use serde_json::json;
use tests::pty::Screen;
use tests::{Bundle, Container, Received, Receiver, Runtime, Snapshot, needs};

/// A bundle whose program has a terminal.
fn bundle(name: &str) -> Bundle {
    Bundle::new(name).edit(|config| config["process"]["terminal"] = json!(true))
}

/// What came over a console socket: one message, one descriptor.
fn screen(received: Received) -> Screen {
    let Received { words, messages, mut fds } = received;
    assert_eq!((words.as_slice(), messages, fds.len()), (&b"/dev/ptmx"[..], 1, 1));
    let master = fds.remove(0);
    let stat = fstat(&master).expect("stat");
    assert_eq!((major(stat.st_rdev), minor(stat.st_rdev), stat.st_ino), (5, 2, 2), "a multiplexer's own end");
    Screen::from(master)
}

fn create(container: &Container<'_>, receiver: &Receiver) -> Screen {
    let made = container
        .command(&["create", "--bundle", "BUNDLE", "--console-socket", receiver.path(), "ID"])
        .spawn();
    let screen = screen(receiver.receive());
    made.wait().success();
    screen
}

#[test]
fn root_a_terminal_goes_to_the_console_socket() {
    needs!(Root, Busybox);
    let bundle = bundle("socket")
        .edit(|config| config["process"]["consoleSize"] = json!({"height": 33, "width": 101}))
        .shell("tty; ls -l /dev/console | cut -c1-10; stty size; read line; echo \"<$line>\"");
    let before = Snapshot::take(&bundle);
    let container = bundle.container(&Runtime::under_test());
    let receiver = Receiver::new(&bundle, "console");
    let mut screen = create(&container, &receiver);
    assert_eq!(screen.size(), (33, 101));
    container.start().success();
    assert_eq!(screen.shows("33 101\r\n"), "/dev/pts/0\r\ncrw--w----\r\n33 101\r\n");
    screen.types("abc\x7fd\n");
    screen.shows("<abd>");
    assert!(container.ended());
    assert_eq!(screen.rest(), b"\r\n");
    container.delete().success();
    drop(receiver);
    before.assert_same();
}

/// All three streams, the session's own terminal, and the console are one device.
#[test]
fn root_the_terminal_is_everywhere_where_programs_look() {
    needs!(Root, Busybox);
    let bundle = bundle("everywhere").shell(
        "for at in /proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2 /dev/console /dev/pts/0; do stat -L -c '%n %t:%T' $at; done; \
         echo to the console > /dev/console; echo to the session > /dev/tty; \
         cut -d' ' -f5-8 /proc/1/stat; grep console /proc/self/mountinfo | cut -d' ' -f4,5",
    );
    let container = bundle.container(&Runtime::under_test());
    let receiver = Receiver::new(&bundle, "console");
    let mut screen = create(&container, &receiver);
    container.start().success();
    let shown = String::from_utf8(screen.rest()).expect("text");
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[..5].iter().all(|line| line.ends_with(" 88:0")), "{shown}");
    assert_eq!(lines[5..7], ["to the console", "to the session"]);
    // Process group, session, terminal, and the group in front.
    assert_eq!(lines[7], "1 1 34816 1", "{shown}");
    assert_eq!(lines[8..], ["/0 /dev/console"], "{shown}");
    drop(receiver);
}

#[test]
fn root_a_size_that_is_not_told_is_zero() {
    needs!(Root, Busybox);
    for size in [json!(null), json!({"height": 0, "width": 80})] {
        let bundle = bundle("size").edit(|config| config["process"]["consoleSize"] = size).shell("stty size");
        let container = bundle.container(&Runtime::under_test());
        let receiver = Receiver::new(&bundle, "console");
        assert_eq!(create(&container, &receiver).size(), (0, 0));
    }
}

#[test]
fn root_the_terminal_belongs_to_its_user() {
    needs!(Root, Busybox);
    let bundle = bundle("user")
        .edit(|config| config["process"]["user"] = json!({"uid": 1000, "gid": 1000}))
        .shell("stat -L -c '%u:%g %a' /proc/self/fd/0 /dev/console; echo again > /proc/self/fd/1; echo tty > /dev/tty");
    let container = bundle.container(&Runtime::under_test());
    let receiver = Receiver::new(&bundle, "console");
    let mut screen = create(&container, &receiver);
    container.start().success();
    let shown = String::from_utf8(screen.rest()).expect("text");
    assert_eq!(shown, "1000:5 620\r\n1000:5 620\r\nagain\r\ntty\r\n");
}

#[test]
fn root_a_console_socket_that_fails_undoes_everything() {
    needs!(Root, Busybox);
    let bundle = bundle("undone");
    let before = Snapshot::take(&bundle);
    let container = bundle.container(&Runtime::under_test());
    let file = bundle.dir().join("file");
    fs::write(&file, "").expect("make a file");
    let receiver = Receiver::new(&bundle, "early");
    let long = format!("/{}", "x".repeat(200));
    let refused = |path: &str| {
        let made =
            container.command(&["create", "--bundle", "BUNDLE", "--console-socket", path, "ID"]).spawn();
        if path == receiver.path() {
            // Whoever took the call hangs up before anything came.
            drop(receiver.caller());
        }
        let output = made.wait();
        output.code(1);
        assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
        assert!(container.state().is_none());
        output.stderr
    };
    for (path, why) in [
        (file.to_str().expect("ASCII"), "connection refused"),
        ("/nonexistent/socket", "no such file or directory"),
        (&long, "no such file or directory"),
        (bundle.dir().to_str().expect("ASCII"), "connection refused"),
        (receiver.path(), "broken pipe"),
    ] {
        let told = refused(path);
        assert!(told.contains(why), "{path}: {told}");
    }
    // A listener that has gone leaves its name behind.
    let gone = bundle.dir().join("gone");
    drop(std::os::unix::net::UnixListener::bind(&gone).expect("listen"));
    assert!(refused(gone.to_str().expect("ASCII")).contains("connection refused"));
    for left in [file, gone] {
        fs::remove_file(left).expect("remove it");
    }
    drop(receiver);
    before.assert_same();
}

/// The path of a socket may be longer than a socket's address.
#[test]
fn root_a_console_socket_may_lie_deep() {
    needs!(Root, Busybox);
    let bundle = bundle("deep").args(&["/bin/true"]);
    let deep = bundle.dir().join("d".repeat(120));
    fs::create_dir(&deep).expect("make a directory");
    let receiver = Receiver::new(&bundle, "console");
    let path = deep.join("console");
    fs::rename(receiver.place(), &path).expect("move the socket");
    let container = bundle.container(&Runtime::under_test());
    let path = path.to_str().expect("ASCII").to_owned();
    let made = container.command(&["create", "--bundle", "BUNDLE", "--console-socket", &path, "ID"]).spawn();
    // A terminal that is gone ends init with SIGHUP, also while it waits.
    let _screen = screen(receiver.receive());
    made.wait().success();
}

#[test]
fn root_whoever_detaches_says_who_gets_the_terminal() {
    needs!(Root, Busybox);
    let with = bundle("with");
    let without = Bundle::new("without");
    let lacking = "cannot allocate tty if cofferdam will detach without setting console socket";
    let superfluous = "cannot use console socket if cofferdam will not detach or allocate tty";
    for (bundle, words, why) in [
        (&with, &["create", "--bundle", "BUNDLE", "ID"][..], lacking),
        (&with, &["run", "--detach", "--bundle", "BUNDLE", "ID"], lacking),
        (&with, &["run", "--console-socket", "/x", "--bundle", "BUNDLE", "ID"], superfluous),
        (&without, &["create", "--console-socket", "/x", "--bundle", "BUNDLE", "ID"], superfluous),
        (&without, &["run", "-d", "--console-socket", "/x", "--bundle", "BUNDLE", "ID"], superfluous),
    ] {
        let container = bundle.container(&Runtime::under_test());
        let output = container.call(words);
        output.code(1);
        assert!(output.stderr.trim_end().ends_with(why), "{words:?}: {}", output.stderr);
        assert!(container.state().is_none());
    }
}

#[test]
fn root_a_pidfd_goes_to_its_socket() {
    needs!(Root, Busybox);
    let bundle = Bundle::new("pidfd").shell("exec sleep 1000");
    let before = Snapshot::take(&bundle);
    let container = bundle.container(&Runtime::under_test());
    let receiver = Receiver::new(&bundle, "pidfd");
    let made =
        container.command(&["create", "--bundle", "BUNDLE", "--pidfd-socket", receiver.path(), "ID"]).spawn();
    let Received { words, messages, fds } = receiver.receive();
    made.wait().success();
    assert_eq!((words.as_slice(), messages, fds.len()), (&b"standard"[..], 1, 1));
    assert_eq!(container.pid(), Some(pid_of(&fds[0])));
    container.start().success();
    let exec =
        container.command(&["exec", "--pidfd-socket", receiver.path(), "ID", "sh", "-c", "exit 3"]).spawn();
    let Received { words, messages, fds } = receiver.receive();
    assert_eq!((words.as_slice(), messages, fds.len()), (&b"setns"[..], 1, 1));
    exec.wait().code(3);
    for (verb, code) in [("exec", 255), ("create", 1)] {
        let words: &[&str] = match verb {
            "exec" => &["exec", "--pidfd-socket", "/nonexistent/socket", "ID", "true"],
            _ => &["create", "--bundle", "BUNDLE", "--pidfd-socket", "/nonexistent/socket", "other"],
        };
        let output = container.call(words);
        output.code(code);
        assert!(output.stderr.contains("pidfd socket /nonexistent/socket"), "{}", output.stderr);
    }
    container.delete_force().success();
    drop(receiver);
    before.assert_same();
}

fn pid_of(pidfd: &impl AsFd) -> i32 {
    use std::os::fd::AsRawFd;
    let info = format!("/proc/self/fdinfo/{}", pidfd.as_fd().as_raw_fd());
    let info = fs::read_to_string(info).expect("a descriptor of ours");
    let line = info.lines().find_map(|line| line.strip_prefix("Pid:")).expect("it is a pidfd");
    line.trim().parse().expect("a number")
}

/// Whoever goes before it into namespaces that clone(2) cannot make hands the line on.
#[test]
fn root_a_terminal_in_a_time_namespace() {
    needs!(Root, Busybox);
    let bundle = bundle("time").namespace("time").shell("tty; exit 4");
    let container = bundle.container(&Runtime::under_test());
    let receiver = Receiver::new(&bundle, "console");
    let mut first = create(&container, &receiver);
    container.start().success();
    assert_eq!(first.rest(), b"/dev/pts/0\r\n");
}

/// Its devpts is of its own user namespace, and so are the terminals in it: also one that `exec` opens later.
#[test]
fn root_a_terminal_in_a_user_namespace() {
    needs!(Root, Busybox);
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let bundle = bundle("users")
        .namespace("user")
        .shell("id -u; stat -L -c '%n %t:%T %u' /dev/console; tty; read end")
        .edit(|config| {
            config["linux"]["uidMappings"] = map.clone();
            config["linux"]["gidMappings"] = map;
        });
    let before = Snapshot::take(&bundle);
    let container = bundle.container(&Runtime::under_test());
    let receiver = Receiver::new(&bundle, "console");
    let mut first = create(&container, &receiver);
    container.start().success();
    first.shows("0\r\n/dev/console 88:0 0\r\n/dev/pts/0\r\n");
    let words = [
        "exec",
        "-t",
        "-d",
        "--console-socket",
        receiver.path(),
        "ID",
        "sh",
        "-c",
        "tty; id -u; stat -L -c %u $(tty)",
    ];
    let exec = container.command(&words).spawn();
    let mut second = screen(receiver.receive());
    exec.wait().success();
    assert_eq!(second.rest(), b"/dev/pts/1\r\n0\r\n0\r\n");
    first.types("\n");
    assert!(container.ended());
    container.delete().success();
    drop(receiver);
    before.assert_same();
}
