//! Sessions at a terminal, for two runtimes to be compared by what is shown.

use std::fmt::Write;

use serde_json::json;
use tests::pty::{SESSION, Screen, stream};
use tests::{Bundle, Container, Output, Receiver, until};

/// A session: who sits where, and what is typed at what.
#[derive(Clone, Copy)]
pub(crate) struct Session {
    /// For docs/differences.md.
    pub(crate) told: &'static str,
    /// The command; `SOCKET` in it is where somebody waits for the terminal, and without it we sit at our own.
    words: &'static [&'static str],
    /// What the container's program is, for the shell.
    line: &'static str,
    /// What is waited for, and typed then.
    steps: &'static [(&'static str, &'static str)],
}

const LOOK: &str = "tty; stty size; stty -a | sed 1,2d; stat -L -c '%n %t:%T %u:%g %a' /dev/console /dev/pts/0; read line; echo \"<$line>\"; exit 3";

pub(crate) const SESSIONS: &[Session] = &[
    Session {
        told: "terminal: create over a socket",
        words: &["create", "--bundle", "BUNDLE", "--console-socket", "SOCKET", "ID"],
        line: LOOK,
        steps: &[("/dev/pts/0 88:0", "typed\x7f\n")],
    },
    Session {
        told: "terminal: run --detach over a socket",
        words: &["run", "--detach", "--bundle", "BUNDLE", "--console-socket", "SOCKET", "ID"],
        line: LOOK,
        steps: &[("/dev/pts/0 88:0", "typed\x7f\n")],
    },
    Session {
        told: "terminal: exec --detach over a socket",
        words: &["exec", "--tty", "--detach", "--console-socket", "SOCKET", "ID", "sh", "-c", LOOK],
        line: "exec sleep 1000",
        steps: &[("/dev/pts/0 88:0", "typed\x7f\n")],
    },
    Session {
        told: "terminal: run at ours",
        words: &["run", "--bundle", "BUNDLE", "ID"],
        line: "read go; tty; stty size; read line; echo \"<$line>\"; cat; exit 3",
        steps: &[("33 101", "typed\x7f\n"), ("<type>", "more\n\x04")],
    },
    Session {
        told: "terminal: exec at ours",
        words: &[
            "exec",
            "--tty",
            "ID",
            "sh",
            "-c",
            "read go; tty; read line; echo \"<$line>\"; kill -INT $$",
        ],
        line: "exec sleep 1000",
        steps: &[("/dev/pts/0", "typed\x7f\n")],
    },
    Session {
        told: "terminal: Ctrl-C at ours",
        words: &["run", "--bundle", "BUNDLE", "ID"],
        line: "read go; sh -c 'echo up; sleep 1000'; echo status $?",
        steps: &[("up", "\x03")],
    },
    Session {
        told: "terminal: an editor at ours",
        words: &["run", "--bundle", "BUNDLE", "ID"],
        line: "read go; printf 'one\\ntwo\\n' > /dev/shm/text; busybox vi /dev/shm/text; cat /dev/shm/text",
        steps: &[("1/2 50%", "jdwione more"), ("one more", "\x1b"), ("[Modified]", ":wq\r")],
    },
];

impl Session {
    /// A bundle for it.
    pub(crate) fn bundle(self, bundle: Bundle) -> Bundle {
        let is_exec = self.words[0] == "exec";
        bundle.shell(self.line).edit(|config| {
            if !is_exec {
                config["process"]["terminal"] = json!(true);
                config["process"]["consoleSize"] = json!({"height": 33, "width": 101});
            }
        })
    }

    /// Holds it; standard output is what was shown.
    pub(crate) fn hold(self, bundle: &Bundle, container: &Container<'_>) -> Result<Output, Output> {
        if self.words[0] == "exec" {
            container.create().success();
            container.start().success();
        }
        if self.words.contains(&"SOCKET") {
            self.over_socket(bundle, container)
        } else {
            self.at_ours(container)
        }
    }

    fn over_socket(self, bundle: &Bundle, container: &Container<'_>) -> Result<Output, Output> {
        let receiver = Receiver::new(bundle, "console");
        let words: Vec<&str> =
            self.words.iter().map(|word| if *word == "SOCKET" { receiver.path() } else { word }).collect();
        let process = container.command(&words).spawn();
        let mut call = receiver.receive();
        let mut shown = String::new();
        let (said, messages, count) = (&call.words, call.messages, call.fds.len());
        writeln!(shown, "{:?} {messages} {count}", String::from_utf8_lossy(said)).expect("text");
        let mut screen = Screen::from(call.fds.remove(0));
        let mut outcome = process.outcome()?;
        if self.words[0] == "create" {
            container.start().success();
        }
        let (rows, columns) = screen.size();
        writeln!(shown, "{rows} {columns}").expect("text");
        shown += &self.sit(&mut screen);
        assert!(self.words[0] == "exec" || container.ended());
        outcome.stdout = shown;
        Ok(outcome)
    }

    fn at_ours(self, container: &Container<'_>) -> Result<Output, Output> {
        let (mut screen, slave) = Screen::open(33, 101);
        let before = screen.modes();
        let command = container.command(self.words).launched_by(&SESSION);
        let process = command.stdin(stream(&slave)).stdout(stream(&slave)).spawn();
        drop(slave);
        // runc's program may run before runc is ready for it: here nothing is shown until the terminal is raw, which
        // nobody tells, and which is asked again and again.
        until(|| screen.modes() != before, || format!("a raw terminal: {}", process.complaint()));
        screen.types("go\n");
        let shown = self.sit(&mut screen);
        let mut outcome = process.outcome()?;
        outcome.stdout = shown;
        Ok(outcome)
    }

    /// All that is shown.
    fn sit(self, screen: &mut Screen) -> String {
        let mut shown = String::new();
        for (text, keys) in self.steps {
            shown += &screen.shows(text);
            screen.types(keys);
        }
        shown += &String::from_utf8_lossy(&screen.rest());
        // What steers the screen is compared as text.
        let visible = |c: char| {
            if c.is_control() && c != '\n' { c.escape_default().to_string() } else { c.to_string() }
        };
        shown.chars().map(visible).collect()
    }
}
