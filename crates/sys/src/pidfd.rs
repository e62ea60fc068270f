//! Processes as descriptors.

use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{fstat, fstatfs};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::{Called, Errno, Failed, last_errno};

/// A process that cannot be mistaken for another: its number may be reused, this handle is not.
#[derive(Debug)]
pub struct Pidfd(OwnedFd);

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By exit(2), with this status.
    Status(i32),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    /// The exit status that a shell would show: 128 and the signal's number for a process killed by one.
    pub fn code(self) -> u8 {
        match self {
            Self::Status(status) => u8::try_from(status & 0xff).unwrap_or(u8::MAX),
            Self::Signal(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        }
    }
}

impl Exit {
    /// As one process says it to another; in one write, and understood by [`Exit::heard`].
    pub fn said(self) -> [u8; 2] {
        let (kind, number) = match self {
            Self::Status(status) => (b'e', status),
            Self::Signal(signal) => (b's', signal),
        };
        [kind, u8::try_from(number & 0xff).unwrap_or(u8::MAX)]
    }

    /// What was [`said`](Exit::said); none of anything else.
    pub fn heard(said: &[u8]) -> Option<Self> {
        match *said {
            [b'e', status] => Some(Self::Status(status.into())),
            [b's', signal] => Some(Self::Signal(signal.into())),
            _ => None,
        }
    }

    /// From a status as wait(2) has it; none if that is of a process that lives.
    pub fn of_wait(status: i32) -> Option<Self> {
        match status & 0x7f {
            0 => Some(Self::Status((status >> 8) & 0xff)),
            0x7f => None,
            signal => Some(Self::Signal(signal)),
        }
    }

    /// # Safety
    /// The siginfo must be one that waitid(2) filled as for SIGCHLD.
    unsafe fn told(info: &libc::siginfo_t) -> Self {
        // SAFETY: the caller's promise is that of `si_status`.
        let status = unsafe { info.si_status() };
        if info.si_code == libc::CLD_EXITED { Self::Status(status) } else { Self::Signal(status) }
    }
}

impl From<OwnedFd> for Pidfd {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl AsRef<OwnedFd> for Pidfd {
    fn as_ref(&self) -> &OwnedFd {
        &self.0
    }
}

impl AsFd for Pidfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// struct pidfd_info of linux/pidfd.h, as of Linux 6.13; later ones are longer, and the kernel fills what fits.
#[repr(C)]
#[derive(Default)]
struct Info {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_code: i32,
}

/// `PIDFD_INFO_EXIT`, since Linux 6.15.
const INFO_EXIT: u64 = 1 << 3;

/// `PIDFD_GET_INFO`: _IOWR(0xFF, 11, struct pidfd_info), which is 64 bytes long.
const GET_INFO: u64 = 3 << 30 | (size_of::<Info>() as u64) << 16 | 0xff << 8 | 0xb;

/// `PID_FS_MAGIC` of linux/magic.h, since Linux 6.9.
const PIDFS: i64 = 0x5049_4446;

impl Pidfd {
    /// The process with this number now; `ESRCH` if there is none. Whoever read the number from a file must then
    /// compare [`Pidfd::birthmark`].
    pub fn open(pid: i32) -> Result<Self, Failed> {
        let call = || format!("pidfd_open({pid})");
        let pid = Pid::from_raw(pid).ok_or(Errno::SRCH).called(call)?;
        // EINVAL: no process, but the number lives on as that of a session or a group (before Linux 6.15), or it is a
        // thread's. In both cases the process that it was of has gone.
        let opened = pidfd_open(pid, PidfdFlags::empty());
        opened.map_err(|errno| if errno == Errno::INVAL { Errno::SRCH } else { errno }).map(Self).called(call)
    }

    /// A number that no other process of this boot has: the inode of the descriptor on Linux 6.9 and later, none
    /// before.
    pub fn birthmark(&self) -> Result<Option<u64>, Failed> {
        let fs = fstatfs(&self.0).called(|| "fstatfs(pidfd)")?;
        if fs.f_type != PIDFS {
            return Ok(None);
        }
        fstat(&self.0).map(|stat| Some(stat.st_ino)).called(|| "fstat(pidfd)")
    }

    /// Sends a signal by number; 0 only asks. `ESRCH` once the process was reaped.
    pub fn signal(&self, signal: i32) -> Result<(), Failed> {
        // SAFETY: pidfd_send_signal(2) reads nothing through the null siginfo pointer.
        let result = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                signal,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        if result == -1 {
            Err(Failed::call(format!("pidfd_send_signal({signal})"), last_errno()))
        } else {
            Ok(())
        }
    }

    /// Kills our child and reaps it.
    pub fn end(&self) -> Result<(), Failed> {
        self.signal(libc::SIGKILL)?;
        self.reap().map(drop)
    }

    /// What the process has open under this number, as a descriptor of our own (`pidfd_getfd(2)`, since Linux 5.6). It
    /// takes the right to trace it.
    pub fn take_fd(&self, number: i32) -> Result<OwnedFd, Failed> {
        pidfd_getfd(&self.0, number, PidfdGetfdFlags::empty()).called(|| format!("pidfd_getfd({number})"))
    }

    /// Whether the process is no more than a zombie.
    pub fn has_exited(&self) -> Result<bool, Failed> {
        self.wait_exit(Some(0))
    }

    /// Waits until the process has exited, at most `milliseconds`; says whether it has. Does not reap it.
    pub fn wait_exit(&self, milliseconds: Option<u32>) -> Result<bool, Failed> {
        let limit = milliseconds
            .map(|ms| Timespec { tv_sec: (ms / 1000).into(), tv_nsec: i64::from(ms % 1000) * 1_000_000 });
        loop {
            let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
            match poll(&mut fds, limit.as_ref()) {
                Err(Errno::INTR) => {}
                ready => return ready.map(|n| n > 0).called(|| "poll(pidfd)"),
            }
        }
    }

    /// How the process ended, whoever its parent is. The kernel tells once it was reaped, to those who had a descriptor
    /// before that, since Linux 6.15; none while it was not, or before that version.
    pub fn exit(&self) -> Result<Option<Exit>, Failed> {
        let mut info = Info { mask: INFO_EXIT, ..Info::default() };
        // SAFETY: PIDFD_GET_INFO reads and writes one pidfd_info of the size that its number tells, which lives on this
        // frame.
        if unsafe { libc::ioctl(self.0.as_raw_fd(), GET_INFO as libc::Ioctl, &raw mut info) } == -1 {
            return match last_errno() {
                // No such request; no such flag of it, and the process is gone; a process of another pid namespace.
                Errno::NOTTY | Errno::INVAL | Errno::SRCH | Errno::PERM | Errno::NOSYS => Ok(None),
                errno => Err(Failed::call("ioctl(PIDFD_GET_INFO)", errno)),
            };
        }
        Ok(if info.mask & INFO_EXIT == 0 { None } else { Exit::of_wait(info.exit_code) })
    }

    /// Whether the process was reaped: its number may be another's by now.
    pub fn is_reaped(&self) -> Result<bool, Failed> {
        match self.signal(0) {
            Err(failed) if failed.errno() == Some(Errno::SRCH) => Ok(true),
            Err(failed) if failed.errno() == Some(Errno::PERM) => Ok(false),
            sent => sent.map(|()| false),
        }
    }

    /// Waits for our child and reaps it. Others of our children are left alone.
    pub fn reap(&self) -> Result<Exit, Failed> {
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        loop {
            // SAFETY: `info` lives on this frame and is as large as the kernel writes.
            let result = unsafe {
                libc::waitid(
                    libc::P_PIDFD,
                    self.0.as_raw_fd().cast_unsigned(),
                    info.as_mut_ptr(),
                    libc::WEXITED,
                )
            };
            match result {
                -1 if last_errno() == Errno::INTR => {}
                -1 => return Err(Failed::call("waitid(P_PIDFD)", last_errno())),
                _ => break,
            }
        }
        // SAFETY: waitid(2) succeeded without WNOHANG, so it filled `info` as for SIGCHLD.
        Ok(unsafe { Exit::told(&info.assume_init()) })
    }
}

/// What [`reap_any`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaped {
    /// This child, which ended so.
    Process(i32, Exit),
    /// We have children, and all live.
    NoneYet,
    /// We have no child.
    NoChild,
}

/// The number of a child that has exited and was not reaped; none where there is none. Never waits, and reaps nobody: the
/// number stays its own.
pub fn exited_child() -> Result<Option<i32>, Failed> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let how = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` lives on this frame and is as large as the kernel writes.
    if unsafe { libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), how) } == -1 {
        return match last_errno() {
            Errno::CHILD => Ok(None),
            errno => Err(Failed::call("waitid(P_ALL, WNOWAIT)", errno)),
        };
    }
    // SAFETY: all zeroes is a valid siginfo_t, and what waitid(2) wrote over it is one as for SIGCHLD.
    let pid = unsafe { info.assume_init().si_pid() };
    Ok((pid != 0).then_some(pid))
}

/// Reaps one child that has exited, whichever; never waits.
pub fn reap_any() -> Result<Reaped, Failed> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: `info` lives on this frame and is as large as the kernel writes.
    let result = unsafe { libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), libc::WEXITED | libc::WNOHANG) };
    if result == -1 {
        return match last_errno() {
            Errno::CHILD => Ok(Reaped::NoChild),
            errno => Err(Failed::call("waitid(P_ALL)", errno)),
        };
    }
    // SAFETY: all zeroes is a valid siginfo_t, and what waitid(2) wrote over it is one as for SIGCHLD.
    unsafe {
        let info = info.assume_init();
        Ok(match info.si_pid() {
            0 => Reaped::NoneYet,
            pid => Reaped::Process(pid, Exit::told(&info)),
        })
    }
}
