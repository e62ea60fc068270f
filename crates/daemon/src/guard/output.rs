//! What containers write: into the log line by line, or as it comes to where our own output goes.
//!
//! Whoever writes more than is taken waits, as on any pipe; nobody else does. What is kept of a line that does not end is
//! bounded, and bytes that are no text are escaped.

use std::fmt::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use package::Output as Way;
use rustix::pipe::{PipeFlags, pipe_with};
use sys::{Called as _, Errno, Failed};

use crate::log;

/// One stream of a container's.
#[derive(Debug)]
pub(super) struct Output {
    from: OwnedFd,
    to: To,
    /// Nobody takes what would come next: the other side is to be waited for.
    is_held_up: bool,
}

#[derive(Debug)]
enum To {
    Log(Lines),
    Stdout,
    Stderr,
}

/// Lines in the making.
#[derive(Debug)]
struct Lines {
    who: String,
    kept: Vec<u8>,
}

/// What is read at once, and what is kept of a line at most.
const PIECE: usize = 2048;
/// How much of it one line of the log takes; more, where much had to be escaped, becomes several.
const WIDTH: usize = 3000;
/// What a pipe can hold, of those that an ordinary user may make it hold.
const LEFT: usize = 1 << 20;
/// What is read at once of a stream that goes on as it is.
const BLOCK: usize = 4096;

/// What a program gets as a stream, and what we read of it; nothing of either where it is discarded.
pub(super) fn open(way: Way, is_stderr: bool, container: &str) -> Result<Option<(OwnedFd, Output)>, Failed> {
    let to = match way {
        Way::Discard => return Ok(None),
        Way::Pipe => return piped(container).map(Some),
        Way::Inherit if is_stderr => To::Stderr,
        Way::Inherit => To::Stdout,
    };
    open_to(to).map(Some)
}

/// The same for what goes into the log, line by line.
pub(super) fn piped(container: &str) -> Result<(OwnedFd, Output), Failed> {
    open_to(To::Log(Lines { who: container.to_owned(), kept: Vec::new() }))
}

fn open_to(to: To) -> Result<(OwnedFd, Output), Failed> {
    let (from, theirs) = pipe_with(PipeFlags::CLOEXEC).called(|| "pipe2()")?;
    rustix::io::ioctl_fionbio(&from, true).called(|| "ioctl(FIONBIO)")?;
    Ok((theirs, Output { from, to, is_held_up: false }))
}

impl Output {
    /// What to wait for: something to read, or, with true, room where it goes.
    pub(super) fn source(&self) -> (BorrowedFd<'_>, bool) {
        if self.is_held_up { (self.to.descriptor(), true) } else { (self.from.as_fd(), false) }
    }

    /// Passes on what is there, but not for ever; whether more may come.
    pub(super) fn pass(&mut self) -> bool {
        for _ in 0..16 {
            self.is_held_up = !log::has_room(self.to.descriptor());
            if self.is_held_up {
                return true;
            }
            match self.pass_piece() {
                Piece::Some => {}
                Piece::None => return true,
                Piece::End => return false,
            }
        }
        true
    }

    fn pass_piece(&mut self) -> Piece {
        let mut piece = [0; BLOCK];
        let room = match &self.to {
            To::Log(lines) => PIECE.saturating_sub(lines.kept.len()).max(1),
            _ => BLOCK,
        };
        let piece = match rustix::io::read(&self.from, piece.get_mut(..room).unwrap_or_default()) {
            Ok(count) if count > 0 => piece.get(..count).unwrap_or_default(),
            Err(Errno::INTR) => return Piece::Some,
            Err(Errno::AGAIN) => return Piece::None,
            _ => {
                if let To::Log(lines) = &mut self.to {
                    lines.end();
                }
                return Piece::End;
            }
        };
        match &mut self.to {
            To::Log(lines) => lines.add(piece),
            // There is room. Who does not take it all the same has gone, and nobody else wants it.
            to => drop(rustix::io::write(to.descriptor(), piece)),
        }
        Piece::Some
    }

    /// Passes on what is left when the container is gone; what the other side has no room for is lost, and what somebody
    /// writes who got hold of the other end.
    pub(super) fn finish(mut self) {
        let most = LEFT / PIECE;
        let _left = (0..most).find(|_| !matches!(self.pass_piece(), Piece::Some));
        if let To::Log(lines) = &mut self.to {
            lines.end();
        }
    }
}

enum Piece {
    Some,
    None,
    End,
}

impl To {
    fn descriptor(&self) -> BorrowedFd<'static> {
        match self {
            Self::Stdout => rustix::stdio::stdout(),
            Self::Log(_) | Self::Stderr => rustix::stdio::stderr(),
        }
    }
}

impl Lines {
    fn add(&mut self, piece: &[u8]) {
        self.kept.extend_from_slice(piece);
        while let Some(end) = self.kept.iter().position(|byte| *byte == b'\n') {
            let rest = self.kept.split_off(end + 1);
            self.kept.pop();
            self.write();
            self.kept = rest;
        }
        if self.kept.len() >= PIECE {
            // Not through the middle of a letter.
            let rest = self.kept.split_off(whole_letters(&self.kept));
            self.write();
            self.kept = rest;
        }
    }

    fn write(&self) {
        let text = shown(&self.kept);
        let mut rest = text.as_str();
        while rest.len() > WIDTH {
            let (line, more) = rest.split_at(rest.floor_char_boundary(WIDTH));
            log::line(&self.who, line);
            rest = more;
        }
        log::line(&self.who, rest);
    }

    fn end(&mut self) {
        if !self.kept.is_empty() {
            self.write();
            self.kept.clear();
        }
    }
}

/// How many bytes there are before a letter that is not whole yet; all of them where the end is no letter at all.
fn whole_letters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() && error.valid_up_to() > 0 => error.valid_up_to(),
        _ => bytes.len(),
    }
}

/// Bytes as text; those that are none as `\xff`, and what moves a terminal's cursor as a program would write it.
fn shown(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            if letter.is_control() && letter != '\t' {
                text.extend(letter.escape_default());
            } else {
                text.push(letter);
            }
        }
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _always = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_are_shown() {
        assert_eq!(shown(b"a\xff\xfe\xc3\xa9"), "a\\xff\\xfe\u{e9}");
    }

    #[test]
    fn a_line_that_does_not_end_is_cut_between_letters() {
        let mut lines = Lines { who: "a:1.0.0".to_owned(), kept: Vec::new() };
        lines.add("é".repeat(PIECE / 2).as_bytes());
        assert!(lines.kept.is_empty());
        lines.add(&[b'x'; PIECE - 1]);
        lines.add(&"é".as_bytes()[..1]);
        assert_eq!(lines.kept, "é".as_bytes()[..1]);
    }
}
