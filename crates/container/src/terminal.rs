//! The foreground terminal: our caller's and the program's, with us between.
//!
//! Our caller's terminal is made raw: it passes every byte on, and the program's own terminal is what echoes, edits
//! lines and turns Ctrl-C into a signal, inside. One thread copies both ways, and never waits for anything but poll(2).

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{fcntl_dupfd_cloexec, read, write};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer};
use rustix::termios::{
    OptionalActions, OutputModes, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};
use sys::{Called, Doing, Errno, Failed, SIGCHLD, SIGURG, SIGWINCH, SignalFd};

use crate::guard::Guard;
use crate::ready::Ready;

/// Our caller's terminal, as it was.
#[derive(Debug)]
pub(crate) struct Caller {
    tty: OwnedFd,
    before: Termios,
    /// Sets it back should we not live to.
    guard: Option<Guard>,
    input: OwnedFd,
    output: OwnedFd,
    /// Whether what is printed goes to a terminal.
    shows: bool,
}

impl Caller {
    /// The first terminal among the standard streams, or else the session's own.
    pub(crate) fn find() -> Result<Self, Failed> {
        let (stdin, stdout, stderr) =
            (rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr());
        let tty = match [stderr, stdout, stdin].into_iter().find(|stream| isatty(stream)) {
            Some(stream) => fcntl_dupfd_cloexec(stream, 3).called(|| "dup()")?,
            None => openat(CWD, "/dev/tty", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
                .called(|| "open(\"/dev/tty\")")?,
        };
        let before = tcgetattr(&tty).called(|| "ioctl(TCGETS)")?;
        let guard = Some(Guard::set(&tty, &before)?);
        Ok(Self { input: own(stdin)?, output: own(stdout)?, shows: isatty(stdout), guard, before, tty })
    }

    fn make_raw(&self) -> Result<(), Failed> {
        let mut raw = self.before.clone();
        raw.make_raw();
        tcsetattr(&self.tty, OptionalActions::Now, &raw).called(|| "ioctl(TCSETS, raw)")
    }

    /// Sets it as it was.
    fn restore(&mut self) -> Result<(), Failed> {
        let Some(guard) = self.guard.take() else { return Ok(()) };
        match tcsetattr(&self.tty, OptionalActions::Now, &self.before) {
            // It has hung up: nobody looks at it any more.
            Ok(()) | Err(Errno::IO) => guard.dismiss(),
            Err(errno) => Err(Failed::call("ioctl(TCSETS)", errno)).doing(|| "set the terminal as it was"),
        }
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        // On the way out of a failure, which is what is told.
        let _second = self.restore();
    }
}

/// A stream that never waits. The description of a terminal is shared with our caller, who would not like it to change:
/// it is opened once more. Other streams are written only as far as poll(2) says.
fn own(stream: BorrowedFd<'_>) -> Result<OwnedFd, Failed> {
    if isatty(stream) {
        let name = format!("/proc/self/fd/{}", stream.as_raw_fd());
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        if let Ok(again) = openat(CWD, name.as_str(), flags, Mode::empty()) {
            return Ok(again);
        }
    }
    fcntl_dupfd_cloexec(stream, 3).called(|| "dup()")
}

/// A pipe takes this much at once where poll(2) says that it takes anything (pipe(7), `PIPE_BUF`).
const PIECE: usize = 4096;

/// What was read and not yet written.
#[derive(Debug)]
struct Held {
    bytes: [u8; PIECE],
    from: usize,
    to: usize,
}

impl Held {
    fn none() -> Self {
        Self { bytes: [0; PIECE], from: 0, to: 0 }
    }

    fn is_empty(&self) -> bool {
        self.from == self.to
    }

    /// Reads one piece; false at the end of the stream.
    fn fill(&mut self, stream: &OwnedFd) -> Result<bool, Errno> {
        match read(stream, &mut self.bytes) {
            Ok(length) => {
                (self.from, self.to) = (0, length);
                Ok(length > 0)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(true),
            Err(errno) => Err(errno),
        }
    }

    /// Writes what the stream takes now.
    fn pour(&mut self, stream: &OwnedFd) -> Result<(), Errno> {
        match write(stream, self.bytes.get(self.from..self.to).unwrap_or_default()) {
            Ok(length) => {
                self.from += length;
                Ok(())
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(errno) => {
                self.from = self.to;
                Err(errno)
            }
        }
    }
}

/// What there is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// A signal.
    Signal,
    /// What the program says to its service manager.
    Word,
}

/// Both terminals, and what is on its way between them.
#[derive(Debug)]
pub(crate) struct Terminal {
    caller: Caller,
    master: OwnedFd,
    /// The program's end, so that the master end stays readable while the program has it closed.
    slave: OwnedFd,
    /// Whether our caller may still type something.
    hears: bool,
    typed: Held,
    printed: Held,
    /// Why what is printed is not read by anybody any more.
    deaf: Option<Errno>,
}

impl Terminal {
    /// Makes our caller's terminal raw and the program's as large as it.
    pub(crate) fn between(caller: Caller, master: OwnedFd) -> Result<Self, Failed> {
        rustix::fs::fcntl_setfl(&master, OFlags::RDWR | OFlags::NONBLOCK).called(|| "fcntl(F_SETFL)")?;
        if !caller.shows {
            // What goes into a file or a pipe ends its lines as files do.
            let mut modes = tcgetattr(&master).called(|| "ioctl(TCGETS)")?;
            modes.output_modes.remove(OutputModes::ONLCR);
            tcsetattr(&master, OptionalActions::Now, &modes).called(|| "ioctl(TCSETS)")?;
        }
        let slave = peer(&master)?;
        let terminal = Self {
            caller,
            master,
            slave,
            hears: true,
            typed: Held::none(),
            printed: Held::none(),
            deaf: None,
        };
        terminal.caller.make_raw().doing(|| "make the caller's terminal raw")?;
        terminal.resize();
        Ok(terminal)
    }

    /// Makes the program's terminal as large as our caller's. One that has gone has no size to tell.
    pub(crate) fn resize(&self) {
        let _gone = tcgetwinsize(&self.caller.tty).and_then(|size| tcsetwinsize(&self.master, size));
    }

    /// Copies both ways until there is something else to do.
    pub(crate) fn copy(&mut self, signals: &SignalFd, ready: Option<&Ready>) -> Result<Woken, Failed> {
        loop {
            if let Some(woken) = self.step(signals, ready)? {
                return Ok(woken);
            }
        }
    }

    /// Waits for whatever comes first and does it; says what is not its own.
    fn step(&mut self, signals: &SignalFd, ready: Option<&Ready>) -> Result<Option<Woken>, Failed> {
        let idle = || PollFd::new(signals, PollFlags::empty());
        let on = |is_wanted: bool, stream, flags| if is_wanted { PollFd::new(stream, flags) } else { idle() };
        let mut master = PollFlags::empty();
        master.set(PollFlags::IN, self.printed.is_empty());
        master.set(PollFlags::OUT, !self.typed.is_empty());
        let mut fds = [
            PollFd::new(signals, PollFlags::IN),
            ready.map_or_else(idle, |ready| PollFd::new(ready, PollFlags::IN)),
            on(self.hears && self.typed.is_empty(), &self.caller.input, PollFlags::IN),
            on(!master.is_empty(), &self.master, master),
            on(!self.printed.is_empty(), &self.caller.output, PollFlags::OUT),
        ];
        match poll(&mut fds, None) {
            Err(Errno::INTR) => return Ok(None),
            polled => polled.called(|| "poll(terminals)")?,
        };
        let [signal, word, input, master, output] = fds.map(|fd| fd.revents());
        if !input.is_empty() {
            self.hear();
        }
        if master.contains(PollFlags::OUT) && self.typed.pour(&self.master).is_err() {
            self.hears = false;
        }
        if master.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) && self.printed.is_empty() {
            self.look()?;
        }
        if !output.is_empty() {
            self.show();
        }
        let woken = (!signal.is_empty()).then_some(Woken::Signal);
        Ok(woken.or((!word.is_empty()).then_some(Woken::Word)))
    }

    /// At the end of what is typed nothing more is read; the program is not told.
    fn hear(&mut self) {
        // A terminal that hung up, or that is another job's now, has nothing more to say.
        self.hears = self.typed.fill(&self.caller.input).unwrap_or(false);
    }

    /// `EIO`: the program's end was hung up, by itself. It may open it again, and we stay.
    fn look(&mut self) -> Result<(), Failed> {
        match self.printed.fill(&self.master) {
            Ok(_) => Ok(()),
            Err(Errno::IO) => peer(&self.master).map(|slave| self.slave = slave),
            Err(errno) => Err(Failed::call("read(master)", errno)),
        }
    }

    /// Where nobody reads what is printed, the program goes on as if somebody did.
    fn show(&mut self) {
        if self.deaf.is_some() {
            self.printed = Held::none();
        } else if let Err(errno) = self.printed.pour(&self.caller.output) {
            self.deaf = Some(errno);
        }
    }

    /// Prints what the program left on its way, and sets our caller's terminal as it was. A signal that would end us
    /// ends the printing.
    pub(crate) fn end(mut self, signals: &SignalFd) -> Result<(), Failed> {
        let mut most = IN_FLIGHT;
        self.hears = false;
        self.typed = Held::none();
        loop {
            if self.printed.is_empty() {
                // The kernel hands over what is in flight before it says that there is nothing.
                let there = self.printed.fill(&self.master);
                if there.is_err() || self.printed.is_empty() || most == 0 {
                    break;
                }
                most = most.saturating_sub(self.printed.to);
            }
            if self.step(signals, None)?.is_some() && is_enough(signals.next_signal()?) {
                break;
            }
        }
        self.caller.restore()?;
        match self.deaf {
            // Whoever read it has left, as they may.
            None | Some(Errno::PIPE | Errno::IO) => Ok(()),
            Some(errno) => Err(Failed::call("write(stdout)", errno)),
        }
    }
}

/// More than a terminal's buffers hold: what comes beyond was printed by somebody who is still there.
const IN_FLIGHT: usize = 1 << 18;

fn is_enough(signal: i32) -> bool {
    !matches!(signal, SIGCHLD | SIGWINCH | SIGURG)
}

fn peer(master: &OwnedFd) -> Result<OwnedFd, Failed> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    ioctl_tiocgptpeer(master, flags).called(|| "ioctl(TIOCGPTPEER)")
}
