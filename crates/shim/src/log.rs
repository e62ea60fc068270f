//! Our log: lines in logrus's form, into the FIFO that containerd reads.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::write;
use state::Moment;

/// Whoever listens, or nobody. What cannot be said at once is not said: nothing ever waits for a log.
#[derive(Debug, Default)]
pub(crate) struct Log {
    fifo: RefCell<Option<OwnedFd>>,
    pub(crate) debug: bool,
}

/// One write of so much is not mixed with another's (`PIPE_BUF`).
const WHOLE: usize = 4096;

impl Log {
    /// The FIFO `log` of the bundle that is the working directory.
    pub(crate) fn open(debug: bool) -> Self {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        // Nobody reads it, or nobody has made it: then nobody wants to hear.
        Self { fifo: RefCell::new(openat(CWD, "log", flags, Mode::empty()).ok()), debug }
    }

    pub(crate) fn error(&self, message: &str) {
        self.say("error", message);
    }

    pub(crate) fn warning(&self, message: &str) {
        self.say("warning", message);
    }

    pub(crate) fn info(&self, message: &str) {
        self.say("info", message);
    }

    pub(crate) fn debug(&self, message: impl FnOnce() -> String) {
        if self.debug {
            self.say("debug", &message());
        }
    }

    fn say(&self, level: &str, message: &str) {
        if let Some(fifo) = self.fifo.borrow().as_ref() {
            // Full, or nobody reads any more. There is no other place to say so.
            let _unheard = write(fifo, line(&Moment::now().rfc3339_nano(), level, message).as_bytes());
        }
    }
}

fn line(time: &str, level: &str, message: &str) -> String {
    let mut line = format!("time=\"{time}\" level={level} msg=\"");
    for letter in message.chars() {
        let before = line.len();
        // Writing to a string cannot fail.
        let _always = match letter {
            '"' | '\\' => write!(line, "\\{letter}"),
            '\n' => write!(line, "\\n"),
            letter if letter.is_control() => write!(line, "{}", letter.escape_default()),
            letter => write!(line, "{letter}"),
        };
        if line.len() > WHOLE - 2 {
            line.truncate(before);
            break;
        }
    }
    line.push_str("\"\n");
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_logruss() {
        let told = line("2026-08-01T00:00:00Z", "info", "a \"b\"\nc\\ \u{1b}[0m");
        let wanted = "time=\"2026-08-01T00:00:00Z\" level=info msg=\"a \\\"b\\\"\\nc\\\\ \\u{1b}[0m\"\n";
        assert_eq!(told, wanted);
    }

    #[test]
    fn a_line_is_written_whole_or_cut() {
        let told = line("t", "info", &"é".repeat(5000));
        assert!(told.len() <= WHOLE && told.ends_with("\"\n"), "{}", told.len());
    }
}
