//! A person at a terminal: `run`, `exec -t` and `try -t` in the foreground.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, write};
use rustix::process::Signal;
use serde_json::json;
use tests::pty::{SESSION, Screen, stream};
use tests::{Bundle, Container, Invocation, LIMIT, Process, Runtime, Snapshot, gone_within, needs};

/// A bundle whose program has a terminal.
fn bundle(name: &str) -> Bundle {
    Bundle::new(name).edit(|config| config["process"]["terminal"] = json!(true))
}

/// An interactive shell that says so by its prompt.
fn shell(name: &str) -> Bundle {
    bundle(name).env("PS1=ready> ").args(&["/bin/sh", "-i"])
}

/// In front of a terminal, which is its session's own.
fn seat(command: Invocation<'_>, slave: &OwnedFd) -> Process {
    command.launched_by(&SESSION).stdin(stream(slave)).stdout(stream(slave)).spawn()
}

fn run(container: &Container<'_>, slave: &OwnedFd) -> Process {
    seat(container.command(&["run", "--bundle", "BUNDLE", "ID"]), slave)
}

#[test]
fn root_a_shell_controls_its_jobs() {
    needs!(Root, Busybox);
    let bundle = shell("jobs");
    let before = Snapshot::take(&bundle);
    let container = bundle.container(&Runtime::under_test());
    let (mut screen, slave) = Screen::open(24, 80);
    let run = run(&container, &slave);
    screen.shows("ready> ");
    screen.types("sh -c 'echo wai''ting; sleep 1000'\n");
    screen.shows("waiting");
    screen.types("\x03");
    screen.shows("ready> ");
    screen.types("echo status $?\n");
    screen.shows("status 130");
    screen.types("sh -c 'echo wai''ting; read line; echo got $line'\n");
    screen.shows("waiting");
    screen.types("\x1a");
    screen.shows("Stopped");
    screen.shows("ready> ");
    screen.types("jobs\n");
    screen.shows("Stopped");
    screen.shows("ready> ");
    screen.types("fg\n");
    // It says what goes on; until then what is typed may be its own.
    screen.shows("echo got");
    screen.types("something\n");
    screen.shows("got something");
    screen.shows("ready> ");
    screen.types("\x04");
    run.wait().code(0);
    before.assert_same();
}

#[test]
fn root_the_window_is_as_large_as_its_callers() {
    needs!(Root, Busybox);
    // What the caller sees is what counts, not what the document says.
    let bundle = bundle("window")
        .edit(|config| config["process"]["consoleSize"] = json!({"height": 1, "width": 2}))
        .shell("trap 'stty size' WINCH; stty size; while ! read line; do :; done; echo end");
    let container = bundle.container(&Runtime::under_test());
    let (mut screen, slave) = Screen::open(33, 101);
    let run = run(&container, &slave);
    screen.shows("33 101");
    for (rows, columns) in [(20, 60), (50, 132)] {
        screen.resize(rows, columns);
        screen.shows(&format!("{rows} {columns}"));
    }
    screen.types("\n");
    screen.shows("end");
    run.wait().code(0);
}

#[test]
fn root_a_full_screen_program_edits_a_file() {
    needs!(Root, Busybox);
    let bundle = bundle("vi").edit(|config| config["root"]["readonly"] = json!(false)).args(&[
        "/bin/busybox",
        "vi",
        "/tmp/text",
    ]);
    let text = bundle.rootfs().join("tmp/text");
    fs::write(&text, "one\ntwo\nthree\n").expect("write a file");
    let container = bundle.container(&Runtime::under_test());
    let (mut screen, slave) = Screen::open(24, 80);
    let run = run(&container, &slave);
    // It fills the screen: what is below the text are lines of tildes.
    screen.shows("three");
    screen.shows("~");
    screen.types("jdwione more");
    screen.shows("one more");
    screen.types("\x1b");
    // The status line: no longer I for insert.
    screen.shows("- /tmp/text [Modified]");
    screen.types(":wq\r");
    run.wait().code(0);
    assert_eq!(fs::read_to_string(&text).expect("read it"), "one\none more\nthree\n");
}

#[test]
fn root_the_callers_terminal_is_set_as_it_was() {
    needs!(Root, Busybox);
    for (line, code) in [("read line; exit 7", 7), ("read line; kill -9 $$", 0), ("", 1)] {
        let bundle = if line.is_empty() {
            bundle("restored").args(&["/nosuch"])
        } else {
            bundle("restored").shell(&format!("echo up; sh -c '{line}'"))
        };
        let container = bundle.container(&Runtime::under_test());
        let (mut screen, slave) = Screen::open(24, 80);
        let before = screen.modes();
        let run = run(&container, &slave);
        if !line.is_empty() {
            screen.shows("up");
            assert_ne!(screen.modes(), before, "every byte is passed on");
            screen.types("\n");
        }
        let output = run.wait();
        assert!(output.code == code || code == 0, "{output}");
        assert_eq!(screen.modes(), before, "{line:?}");
    }
}

/// Nobody can answer SIGKILL but somebody else.
#[test]
fn root_the_callers_terminal_is_set_as_it_was_after_our_own_end() {
    needs!(Root, Busybox);
    for verb in ["run", "exec"] {
        let bundle = if verb == "run" { shell("killed") } else { background("killed") };
        let container = bundle.container(&Runtime::under_test());
        let (mut screen, slave) = Screen::open(24, 80);
        let before = screen.modes();
        let process = if verb == "run" {
            run(&container, &slave)
        } else {
            container.create().success();
            container.start().success();
            exec(&container, &slave, &["-e", "PS1=ready> "], &["/bin/sh", "-i"])
        };
        screen.shows("ready> ");
        assert_ne!(screen.modes(), before);
        process.signal(Signal::KILL);
        process.wait().code(137);
        // The guard is the last to have the terminal open.
        drop(slave);
        screen.rest();
        assert_eq!(screen.modes(), before, "{verb}");
        container.delete_force().success();
    }
}

/// A container without a terminal, for `exec`.
fn background(name: &str) -> Bundle {
    Bundle::new(name).shell("exec sleep 1000")
}

fn exec(container: &Container<'_>, slave: &OwnedFd, flags: &[&str], words: &[&str]) -> Process {
    seat(container.command(&[&["exec", "-t"], flags, &["ID"], words].concat()), slave)
}

/// What `seq` prints.
fn numbers(to: u32, end: &str) -> String {
    (1..=to).flat_map(|number| [number.to_string(), end.to_owned()]).collect()
}

#[test]
fn root_no_byte_is_lost() {
    needs!(Root, Busybox);
    let bundle = bundle("bytes").shell("seq 1 150000; echo last");
    let container = bundle.container(&Runtime::under_test());
    let (mut screen, slave) = Screen::open(24, 80);
    let process = run(&container, &slave);
    drop(slave);
    let shown = screen.rest();
    process.wait().code(0);
    let wanted = numbers(150_000, "\r\n") + "last\r\n";
    assert!(shown == wanted.as_bytes(), "{} bytes instead of {}", shown.len(), wanted.len());
}

/// Into a file, lines end as those of files do; what is typed comes from the terminal all the same.
#[test]
fn root_what_is_printed_may_go_elsewhere() {
    needs!(Root, Busybox);
    let bundle = bundle("elsewhere").shell("test -t 1 && read line && echo \"<$line>\" && seq 1 50000");
    let container = bundle.container(&Runtime::under_test());
    let (screen, slave) = Screen::open(24, 80);
    let before = screen.modes();
    let command = container.command(&["run", "--bundle", "BUNDLE", "ID"]);
    let process = command.launched_by(&SESSION).stdin(stream(&slave)).spawn();
    screen.types("typed\n");
    let printed = process.wait().code(0).printed();
    assert_eq!(printed, format!("typed\n<typed>\n{}", numbers(50_000, "\n")));
    assert_eq!(screen.modes(), before);
}

#[test]
fn root_nobody_need_read_what_is_printed() {
    needs!(Root, Busybox);
    let bundle = bundle("unread").shell("read line; seq 1 50000; exit 3");
    let container = bundle.container(&Runtime::under_test());
    let (screen, slave) = Screen::open(24, 80);
    let (lines, stdout) = tests::channel();
    drop(lines);
    let command = container.command(&["run", "--bundle", "BUNDLE", "ID"]);
    let process = command.launched_by(&SESSION).stdin(stream(&slave)).stdout(stdout).spawn();
    screen.types("\n");
    process.wait().code(3);
}

/// What is typed may end: the program is not told, as with runc; it hears of a Ctrl-D that a person types.
#[test]
fn root_the_end_of_what_is_typed() {
    needs!(Root, Busybox);
    let bundle = bundle("end").shell("cat; echo end of cat");
    let container = bundle.container(&Runtime::under_test());
    let (mut screen, slave) = Screen::open(24, 80);
    let process = run(&container, &slave);
    screen.types("line\n");
    screen.shows("line\r\nline\r\n");
    screen.types("\x04");
    screen.shows("end of cat");
    process.wait().code(0);

    let (mut screen, slave) = Screen::open(24, 80);
    let command = container.command(&["run", "--bundle", "BUNDLE", "ID"]);
    let input = bundle.dir().join("input");
    fs::write(&input, "from a file\n\x04").expect("write it");
    let file = fs::File::open(&input).expect("open it");
    let process = command.launched_by(&["setsid"]).stdin(file).stdout(stream(&slave)).spawn();
    screen.shows("from a file\r\nfrom a file\r\n");
    screen.shows("end of cat");
    process.wait().code(0);

    let (mut screen, slave) = Screen::open(24, 80);
    let command = container.command(&["run", "--bundle", "BUNDLE", "ID"]);
    fs::write(&input, "no end\n").expect("write it");
    let file = fs::File::open(&input).expect("open it");
    let process = command.launched_by(&["setsid"]).stdin(file).stdout(stream(&slave)).spawn();
    screen.shows("no end\r\nno end\r\n");
    let pid = container.pid().expect("it runs on");
    process.signal(Signal::INT);
    container.kill("KILL").success();
    assert!(gone_within(pid, LIMIT));
    process.wait().code(137);
}

#[test]
fn root_without_any_terminal_there_is_none_to_be_had() {
    needs!(Root, Busybox);
    let bundle = bundle("nowhere");
    let before = Snapshot::take(&bundle);
    let container = bundle.container(&Runtime::under_test());
    let output = container.command(&["run", "--bundle", "BUNDLE", "ID"]).launched_by(&["setsid", "-w"]).run();
    output.code(1);
    let why = "take the caller's terminal: open(\"/dev/tty\"): no such device or address";
    assert!(output.stderr.contains(why), "{}", output.stderr);
    before.assert_same();
}

/// Whoever does not look at the screen does not keep us from hearing signals.
#[test]
fn root_a_screen_that_nobody_looks_at_holds_nobody_up() {
    needs!(Root, Busybox);
    let bundle = bundle("stuck").shell("trap 'exit 5' TERM; echo up; yes & wait");
    let container = bundle.container(&Runtime::under_test());
    let (mut screen, slave) = Screen::open(24, 80);
    let process = run(&container, &slave);
    screen.shows("up");
    fill(&slave);
    process.signal(Signal::TERM);
    assert!(container.ended());
    drop(slave);
    screen.rest();
    process.wait().code(5);
}

/// Writes until there is no room. Waiting for the container to do it would be waiting for ever: room that comes without a
/// reader wakes no writer.
fn fill(slave: &OwnedFd) {
    let path = format!("/proc/self/fd/{}", slave.as_raw_fd());
    let flags = OFlags::WRONLY | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let slave = rustix::fs::open(path, flags, Mode::empty()).expect("open it once more");
    while write(&slave, &[b'.'; 256]) != Err(Errno::AGAIN) {}
}

#[test]
fn root_exec_gives_a_terminal() {
    needs!(Root, Busybox);
    let bundle = background("exec").env("PS1=ready> ");
    let before = Snapshot::take(&bundle);
    let container = bundle.container(&Runtime::under_test());
    container.create().success();
    for state in ["created", "running"] {
        assert_eq!(container.status().as_deref(), Some(state));
        let (mut screen, slave) = Screen::open(30, 90);
        let process = exec(&container, &slave, &["--user", "1000:1000"], &["/bin/sh", "-i"]);
        screen.shows("ready> ");
        screen.types("tty; stty size; id -u; stat -c %u $(tty); ls /dev/console\n");
        screen.shows("/dev/pts/0\r\n30 90\r\n1000\r\n1000\r\n");
        // It has one of its own, and the container has none.
        screen.shows("/dev/console: No such file");
        screen.resize(20, 60);
        screen.types("sh -c 'echo wai''ting; sleep 1000'\n");
        screen.shows("waiting");
        screen.types("\x03");
        screen.shows("ready> ");
        screen.types("stty size; exit 9\n");
        screen.shows("20 60");
        process.wait().code(9);
        if state == "created" {
            container.start().success();
        }
    }
    container.delete_force().success();
    before.assert_same();
}

#[test]
fn root_try_is_a_shell_with_job_control() {
    needs!(Root);
    let bundle = Bundle::new("try");
    let before = Snapshot::take(&bundle);
    let (mut screen, slave) = Screen::open(24, 80);
    let words = ["try", "-t", "-e", "PS1=ready> ", "--name", bundle.id(), "--", "/bin/sh", "-i"];
    let process = seat(Runtime::under_test().command(&bundle, &words), &slave);
    screen.shows("ready> ");
    screen.types("sh -c 'echo wai''ting; read line; echo got $line'\n");
    screen.shows("waiting");
    screen.types("\x1a");
    screen.shows("ready> ");
    screen.types("jobs\n");
    screen.shows("topped");
    screen.shows("ready> ");
    screen.types("fg\n");
    screen.shows("echo got");
    screen.types("something\n");
    screen.shows("got something");
    screen.shows("ready> ");
    screen.types("stty size; exit 4\n");
    screen.shows("24 80");
    process.wait().code(4);
    before.assert_same();
}
