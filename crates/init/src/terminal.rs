//! The program's terminal: a pair of ends, one for it, one for whoever looks at it.
//!
//! Nothing is opened by a name that somebody inside could have put something else under (CVE-2025-52565): the directory
//! is reached without a link and proven to be a devpts, the multiplexer in it is proven to be one, and the other end
//! comes from the first one itself.

use std::os::fd::{AsFd, OwnedFd};

use path::Root;
use rustix::fs::{FileType, Mode, OFlags, fcntl_setfl, fstat, fstatfs, major, minor, openat};
use rustix::process::ioctl_tiocsctty;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::termios::{Winsize, tcsetwinsize};
use sys::{Called, Doing, Failed, send_fd};

/// Both ends.
pub(crate) struct Terminal {
    master: OwnedFd,
    /// The program's end.
    pub(crate) slave: OwnedFd,
}

/// What the message says that carries the master end: the name by which runc's callers know it.
const NAME: &str = "/dev/ptmx";

/// `DEVPTS_SUPER_MAGIC` of linux/magic.h.
const DEVPTS: i64 = 0x1cd1;

/// The inode of every devpts's own multiplexer.
const PTMX_INODE: u64 = 2;

impl Terminal {
    /// A new one of the container's own devpts.
    pub(crate) fn open(root: &Root) -> Result<Self, Failed> {
        let master = open_master(root).doing(|| "open /dev/pts/ptmx")?;
        unlockpt(&master).called(|| "ioctl(TIOCSPTLCK)")?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave = ioctl_tiocgptpeer(&master, flags).called(|| "ioctl(TIOCGPTPEER)")?;
        Ok(Self { master, slave })
    }

    /// Says how large the window is.
    pub(crate) fn resize(&self, rows: u16, columns: u16) -> Result<(), Failed> {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.master, size).called(|| format!("ioctl(TIOCSWINSZ, {rows}, {columns})"))
    }

    /// Hands the master end over, and makes the other one the session's terminal and the standard streams.
    pub(crate) fn settle(self, line: &OwnedFd) -> Result<(), Failed> {
        send_fd(line.as_fd(), NAME, self.master.as_fd()).doing(|| "send the master end")?;
        let Self { slave, .. } = self;
        ioctl_tiocsctty(&slave).called(|| "ioctl(TIOCSCTTY)")?;
        dup2_stdin(&slave)
            .and_then(|()| dup2_stdout(&slave))
            .and_then(|()| dup2_stderr(&slave))
            .called(|| "dup2()")
    }
}

/// The multiplexer. It is opened only in a directory that is a devpts, so that what stands there is one of its own, or
/// something mounted over it; that is found out by what was opened.
fn open_master(root: &Root) -> Result<OwnedFd, Failed> {
    let directory = root.resolve_plain("/dev/pts")?;
    if fstatfs(&directory).called(|| "fstatfs(\"/dev/pts\")")?.f_type != DEVPTS {
        return Err(Failed::refused("/dev/pts is no devpts"));
    }
    // Whatever is mounted over it does not hold us up, nor become our terminal.
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let master = openat(&directory, "ptmx", flags, Mode::empty()).called(|| "openat(\"ptmx\")")?;
    let stat = fstat(&master).called(|| "fstat(\"ptmx\")")?;
    let is_multiplexer = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && (major(stat.st_rdev), minor(stat.st_rdev)) == (5, 2)
        && stat.st_ino == PTMX_INODE
        && fstatfs(&master).called(|| "fstatfs(\"ptmx\")")?.f_type == DEVPTS;
    if !is_multiplexer {
        return Err(Failed::refused("it is not the multiplexer of a devpts"));
    }
    // Whoever gets it expects it to wait, as every file does at first.
    fcntl_setfl(&master, OFlags::RDWR).called(|| "fcntl(F_SETFL)")?;
    Ok(master)
}
