//! The one place where errors and warnings are written down.
//!
//! An error goes to the standard error stream, and beside it to the file of `--log`: containerd's shim
//! reads the last line with `level` error there, so level, msg and time are as logrus writes them.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use sys::{Errno, Failed};

use crate::invocation::{Global, LogFormat};
use state::Moment;

/// Where errors and warnings go.
#[derive(Debug, Default)]
pub struct Log {
    format: LogFormat,
    file: Option<(PathBuf, File)>,
    debug: bool,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Debug,
    Error,
    Warning,
}

impl Log {
    /// Opens what `--log` names.
    pub fn open(global: &Global) -> Result<Self, Failed> {
        let file = match &global.log {
            None => None,
            Some(path) => {
                let file =
                    OpenOptions::new().append(true).create(true).mode(0o644).open(path).map_err(|error| {
                        let call = format!("open(\"{}\")", path.display());
                        match error.raw_os_error() {
                            Some(errno) => Failed::call(call, Errno::from_raw_os_error(errno)),
                            None => Failed::refused(format!("{call}: {error}")),
                        }
                        .while_doing("--log")
                    })?;
                Some((path.clone(), file))
            }
        };
        Ok(Self { format: global.log_format, file, debug: global.debug })
    }

    /// Writes down why the command ended, and what may help.
    pub fn error(&mut self, told: &str, hint: Option<&str>) {
        self.append(Level::Error, told);
        // Without a file, a caller that asked for JSON reads it from the stream, as it does from runc.
        if self.file.is_none() && self.format == LogFormat::Json {
            say(&line(self.format, Level::Error, told, Moment::now()));
        } else {
            say(&spoken("", told, hint));
        }
    }

    /// Writes down what was not as asked, where the command goes on.
    pub fn warning(&mut self, told: &str) {
        self.remark(Level::Warning, told);
    }

    /// Writes down what `state` will tell: in the file alone.
    pub fn note(&mut self, told: &str) {
        self.append(Level::Warning, told);
    }

    /// Writes down what only `--debug` wants to know.
    pub fn debug(&mut self, told: impl FnOnce() -> String) {
        if self.debug {
            self.remark(Level::Debug, &told());
        }
    }

    fn remark(&mut self, level: Level, told: &str) {
        if self.file.is_some() {
            self.append(level, told);
        } else if self.format == LogFormat::Json || level == Level::Debug {
            // What `--debug` adds is for those who measure and sift: with its time and level, also on the stream.
            say(&line(self.format, level, told, Moment::now()));
        } else {
            say(&spoken(level.prefix(), told, None));
        }
    }

    fn append(&mut self, level: Level, told: &str) {
        let Some((path, file)) = &mut self.file else { return };
        // One write for the whole line: others may append to the same file.
        if let Err(error) = file.write_all(line(self.format, level, told, Moment::now()).as_bytes()) {
            say(&spoken("", &format!("--log: write(\"{}\"): {error}", path.display()), None));
        }
    }
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::Debug | Self::Error => "",
            Self::Warning => "warning: ",
        }
    }
}

/// The lines for a person. A name may hold anything, and is an image's own: a line's end of its would look like one of ours,
/// and a terminal does what it is told by it.
fn spoken(prefix: &str, told: &str, hint: Option<&str>) -> String {
    let mut text = format!("cofferdam: {prefix}");
    for character in told.chars() {
        if character.is_control() {
            text.extend(character.escape_debug());
        } else {
            text.push(character);
        }
    }
    text.push('\n');
    if let Some(hint) = hint {
        text.push_str("hint: ");
        text.push_str(hint);
        text.push('\n');
    }
    text
}

fn say(text: &str) {
    // Nobody is left to be told that the stream for telling is closed.
    _ = io::stderr().write_all(text.as_bytes());
}

fn line(format: LogFormat, level: Level, told: &str, when: Moment) -> String {
    let (level, when) = (level.name(), when.rfc3339());
    match format {
        LogFormat::Json => format!("{{\"level\":\"{level}\",\"msg\":{},\"time\":\"{when}\"}}\n", json(told)),
        LogFormat::Text if is_plain(told) => format!("time=\"{when}\" level={level} msg={told}\n"),
        LogFormat::Text => format!("time=\"{when}\" level={level} msg={}\n", quoted(told)),
    }
}

/// Whether logrus leaves a value without quotes.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._/@^+".contains(&byte))
}

/// Quoted as Go's `%q` does.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => out.extend(['\\', char]),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            ' '..='~' => out.push(char),
            '\0'..='\x7f' => escape(&mut out, "\\x", 2, char),
            // An escape of Rust's is longer than the character: then Go finds it unprintable too. Behind
            // another character, so that one which joins it (an accent) is not escaped for standing alone.
            _ if format!("a{char}").escape_debug().nth(2).is_none() => out.push(char),
            _ if u32::from(char) > 0xffff => escape(&mut out, "\\U", 8, char),
            _ => escape(&mut out, "\\u", 4, char),
        }
    }
    out.push('"');
    out
}

/// Quoted as Go's encoder of JSON does, which keeps `<`, `>` and `&` away from web pages.
fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => out.extend(['\\', char]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\x1f' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                escape(&mut out, "\\u", 4, char);
            }
            _ => out.push(char),
        }
    }
    out.push('"');
    out
}

/// Appends the number of `char` in hexadecimal, `digits` long, behind `prefix`.
fn escape(out: &mut String, prefix: &str, digits: u32, char: char) {
    out.push_str(prefix);
    out.extend(
        (0..digits).rev().filter_map(|place| char::from_digit(u32::from(char) >> (4 * place) & 15, 16)),
    );
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test may end where its files are not there.
mod tests {
    use super::*;

    const WHEN: Moment = Moment { seconds: 1_767_323_045, nanoseconds: 0 };

    /// What runc 1.1.5 wrote with `--log-format json` for `kill web1 'a<b>"&\n'`, but for the time.
    #[test]
    fn json_is_as_logrus_writes_it() {
        assert_eq!(
            line(LogFormat::Json, Level::Error, r#"unknown signal "a<b>\"&\\n""#, WHEN),
            concat!(
                r#"{"level":"error","msg":"unknown signal \"a\u003cb\u003e\\\"\u0026\\\\n\"","#,
                r#""time":"2026-01-02T03:04:05Z"}"#,
                "\n"
            )
        );
        assert_eq!(json("\u{1}\u{7f}\u{2028}é"), "\"\\u0001\u{7f}\\u2028é\"");
    }

    /// What runc 1.1.5 wrote, but for the time.
    #[test]
    fn text_is_as_logrus_writes_it() {
        let text = |told| line(LogFormat::Text, Level::Error, told, WHEN);
        assert_eq!(
            text("container does not exist"),
            "time=\"2026-01-02T03:04:05Z\" level=error msg=\"container does not exist\"\n"
        );
        assert_eq!(
            text("invalid boolean value \"maybe\" for -force: parse error"),
            "time=\"2026-01-02T03:04:05Z\" level=error msg=\"invalid boolean value \\\"maybe\\\" for -force: parse error\"\n"
        );
        assert_eq!(text("a-b.c/d@e^f+1"), "time=\"2026-01-02T03:04:05Z\" level=error msg=a-b.c/d@e^f+1\n");
        assert_eq!(text(""), "time=\"2026-01-02T03:04:05Z\" level=error msg=\n");
    }

    #[test]
    fn what_cannot_be_printed_is_escaped_as_go_does() {
        assert_eq!(quoted("\x07\x08\x0c\n\r\t\x0b\\\"\x1b\x7f"), r#""\a\b\f\n\r\t\v\\\"\x1b\x7f""#);
        assert_eq!(quoted("é e\u{301} 日"), "\"é e\u{301} 日\"");
        assert_eq!(quoted("\u{a0}\u{200b}\u{e0001}"), r#""\u00a0\u200b\U000e0001""#);
    }

    #[test]
    fn a_person_reads_one_line_and_a_hint() {
        assert_eq!(
            spoken("", "create web1: no", Some("try so")),
            "cofferdam: create web1: no\nhint: try so\n"
        );
        assert_eq!(spoken("warning: ", "old", None), "cofferdam: warning: old\n");
        assert_eq!(spoken("", "make /a\nb\x1b[2J: é", None), "cofferdam: make /a\\nb\\u{1b}[2J: é\n");
    }

    #[test]
    fn a_log_that_cannot_be_opened_is_told_as_the_call() {
        let global = Global { log: Some("/proc/none/log".into()), ..Global::default() };
        let failed = Log::open(&global).unwrap_err();
        assert_eq!(
            failed.to_string(),
            "--log: open(\"/proc/none/log\"): no such file or directory (os error 2)"
        );
    }
}
