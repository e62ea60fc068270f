//! A terminal with a test in front of it: what is typed goes in, what is shown is waited for.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::io::{Errno, read, write};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcgetwinsize, tcsetwinsize};

use crate::{LIMIT, ready_within};

/// The end that people sit at. The terminal is the host's own, or one that came over a console socket.
#[derive(Debug)]
pub struct Screen {
    master: OwnedFd,
    seen: Vec<u8>,
}

impl From<OwnedFd> for Screen {
    fn from(master: OwnedFd) -> Self {
        Self { master, seen: Vec::new() }
    }
}

impl AsFd for Screen {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.master.as_fd()
    }
}

impl Screen {
    /// A new terminal of the host's with a window of this size, and its other end.
    pub fn open(rows: u16, columns: u16) -> (Self, OwnedFd) {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("its other end may be opened");
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave = ioctl_tiocgptpeer(&master, flags).expect("its other end");
        let screen = Self::from(master);
        screen.resize(rows, columns);
        (screen, slave)
    }

    /// Changes the size of the window.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.master, size).expect("resize a terminal");
    }

    /// Rows and columns.
    pub fn size(&self) -> (u16, u16) {
        let size = tcgetwinsize(&self.master).expect("a size");
        (size.ws_row, size.ws_col)
    }

    /// How it edits lines, echoes and the like.
    pub fn modes(&self) -> Modes {
        Modes::from(&tcgetattr(&self.master).expect("modes"))
    }

    /// Types.
    pub fn types(&self, keys: &str) {
        let mut rest = keys.as_bytes();
        while !rest.is_empty() {
            let written = write(&self.master, rest).expect("type");
            rest = &rest[written..];
        }
    }

    /// Waits until this is shown; all up to its end, which is not looked at again.
    pub fn shows(&mut self, text: &str) -> String {
        let end = Instant::now() + LIMIT;
        loop {
            let at = self.seen.windows(text.len()).position(|window| window == text.as_bytes());
            if let Some(at) = at {
                let shown: Vec<u8> = self.seen.drain(..at + text.len()).collect();
                return String::from_utf8_lossy(&shown).into_owned();
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(
                self.more(left),
                "{text:?} is not shown; what is: {}",
                String::from_utf8_lossy(&self.seen)
            );
        }
    }

    /// Whether this is shown within this limit. It stays there to be looked at again.
    pub fn shows_within(&mut self, text: &str, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        loop {
            if self.seen.windows(text.len()).any(|window| window == text.as_bytes()) {
                return true;
            }
            let left = end.saturating_duration_since(Instant::now());
            if !ready_within(&self.master, left) || !self.more(LIMIT) {
                return false;
            }
        }
    }

    /// All that is shown until the other end is closed by everybody.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.more(LIMIT) {}
        std::mem::take(&mut self.seen)
    }

    fn more(&mut self, limit: Duration) -> bool {
        assert!(
            ready_within(&self.master, limit),
            "nothing more is shown, after: {}",
            String::from_utf8_lossy(&self.seen)
        );
        let mut piece = vec![0; 1 << 16];
        match read(&self.master, &mut piece) {
            // Nobody has the other end open any more.
            Err(Errno::IO) | Ok(0) => false,
            Err(errno) => panic!("read a terminal: {errno}"),
            Ok(length) => {
                self.seen.extend_from_slice(&piece[..length]);
                true
            }
        }
    }
}

/// The modes of a terminal: input, output, control, local.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modes([u32; 4]);

impl From<&Termios> for Modes {
    fn from(termios: &Termios) -> Self {
        let Termios { input_modes, output_modes, control_modes, local_modes, .. } = termios;
        Self([input_modes.bits(), output_modes.bits(), control_modes.bits(), local_modes.bits()])
    }
}

/// One end of a terminal as a standard stream.
pub fn stream(slave: &OwnedFd) -> Stdio {
    File::from(slave.try_clone().expect("dup")).into()
}

/// The launcher that makes a command's standard input the terminal of its session.
pub const SESSION: [&str; 2] = ["setsid", "--ctty"];
