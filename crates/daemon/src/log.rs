//! The daemon's log: lines on standard error, of both halves and of the containers whose output goes there.
//!
//! A line is written whole or not at all, and nothing ever waits for it: what nobody takes is counted, and the count is told
//! as soon as somebody does.

use std::fmt::Write as _;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// One write of so much is not mixed with another's, and does not wait where there is room at all (`PIPE_BUF`).
pub const WHOLE: usize = 4096;

static LOST: AtomicU64 = AtomicU64::new(0);

/// Writes a line of the daemon's own.
pub fn say(text: &str) {
    line("cofferdamd", text);
}

/// Writes a line of somebody's. What is no text, or would begin another line, is escaped; what is too long is cut.
pub fn line(who: &str, text: &str) {
    let stream = rustix::stdio::stderr();
    if !has_room(stream) {
        LOST.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let lost = LOST.swap(0, Ordering::Relaxed);
    let before = if lost == 0 { String::new() } else { format!("cofferdamd: {lost} lines were lost\n") };
    // Nobody may be left to hear it.
    let _unheard = rustix::io::write(stream, composed(before, who, text).as_bytes());
}

/// Whether a line can be written without waiting, or nobody will ever take one: both are no reason to wait.
pub fn has_room(stream: BorrowedFd<'_>) -> bool {
    let mut asked = [PollFd::new(&stream, PollFlags::OUT)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    !matches!(poll(&mut asked, Some(&now)), Ok(0))
}

fn composed(mut line: String, who: &str, text: &str) -> String {
    // Writing to a string cannot fail.
    let _always = write!(line, "{who}: ");
    for letter in text.chars() {
        let before = line.len();
        if letter.is_control() && letter != '\t' {
            line.extend(letter.escape_default());
        } else {
            line.push(letter);
        }
        if line.len() >= WHOLE {
            line.truncate(before);
            break;
        }
    }
    line.truncate(line.floor_char_boundary(WHOLE - 1));
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_and_no_longer_than_is_written_at_once() {
        assert_eq!(composed(String::new(), "a:1.0.0", "x\ty\n\u{1b}[0mé"), "a:1.0.0: x\ty\\n\\u{1b}[0mé\n");
        let long = composed(String::new(), "a", &"é".repeat(5000));
        assert!(long.len() <= WHOLE && long.ends_with("é\n"), "{}", long.len());
    }
}
