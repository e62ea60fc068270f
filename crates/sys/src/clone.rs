//! Birth of a process, in the namespaces and the cgroup that it will live in.

use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::{Called, Errno, Failed, Pidfd, last_errno};

/// The `CLONE_NEW*` bits of clone(2).
#[allow(missing_docs, reason = "the names are the man page's")]
pub mod namespace {
    pub const CGROUP: u64 = 0x0200_0000;
    pub const IPC: u64 = 0x0800_0000;
    pub const MOUNT: u64 = 0x0002_0000;
    pub const NETWORK: u64 = 0x4000_0000;
    pub const PID: u64 = 0x2000_0000;
    pub const TIME: u64 = 0x0000_0080;
    pub const USER: u64 = 0x1000_0000;
    pub const UTS: u64 = 0x0400_0000;
}

/// Which kind of namespace this is a handle of, as a [`namespace`] bit (ioctl_ns(2)); `ENOTTY` where it is of none.
pub fn kind_of_namespace(handle: BorrowedFd<'_>) -> Result<u64, Errno> {
    const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
    // SAFETY: the call takes no argument, and writes nothing.
    let kind = unsafe { libc::ioctl(handle.as_raw_fd(), NS_GET_NSTYPE) };
    u64::try_from(kind).map_err(|_| last_errno())
}

/// How a process is born.
#[derive(Clone, Copy, Debug, Default)]
pub struct Birth<'a> {
    /// New namespaces: [`namespace`] bits.
    pub namespaces: u64,
    /// Directory of the unified cgroup that it is born in (`CLONE_INTO_CGROUP`, Linux 5.7).
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Whether our parent becomes its parent too (`CLONE_PARENT`).
    pub sibling: bool,
}

/// Who came back from [`fork_into`].
#[derive(Debug)]
pub enum Side {
    /// The new process.
    Child(Newborn),
    /// The process that called, with its child: the number for printing, the descriptor for acting.
    Parent(i32, Pidfd),
}

/// The child of a fork that was born just now, with copies of all that its parent had.
#[derive(Debug)]
pub struct Newborn(());

impl Newborn {
    /// Closes every descriptor from `first` on but those that are kept, and gives up the newborn's part in everything
    /// else that it was born with: a lock that its parent holds, say, would otherwise be held by it too.
    ///
    /// For a child that goes on with what it keeps alone, and ends by execve(2) or [`crate::leave`]: whoever owned the
    /// others, in the parent or here, is not run any more.
    pub fn keep(&self, first: u32, kept: &mut [u32]) -> Result<(), Failed> {
        kept.sort_unstable();
        let mut from = first;
        for &number in kept.iter().filter(|&&number| number >= first) {
            if number > from {
                close_between(from, number - 1)?;
            }
            from = number + 1;
        }
        close_between(from, u32::MAX)
    }

    /// Puts descriptors at the numbers from `first` on, in their order, for the program that is executed next, and closes
    /// every other one above but `kept`, which must not be one of these numbers. They are open in that program.
    pub fn place(&self, first: u32, fds: &[BorrowedFd<'_>], kept: &OwnedFd) -> Result<(), Failed> {
        let count = u32::try_from(fds.len()).map_err(|_| Errno::INVAL).called(|| "dup2()")?;
        let above = first + count;
        if (first..above).contains(&kept.as_raw_fd().cast_unsigned()) {
            return Err(Failed::refused("a descriptor that is kept is where another one goes"));
        }
        let mut moved = Vec::with_capacity(fds.len());
        for fd in fds {
            // Out of the way of each other.
            // SAFETY: F_DUPFD takes an open descriptor and a plain number, and changes nothing of ours.
            match unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD, above) } {
                -1 => return Err(Failed::call(format!("fcntl(F_DUPFD, {above})"), last_errno())),
                number => moved.push(number),
            }
        }
        for (number, to) in moved.into_iter().zip(first..) {
            // SAFETY: what is at `to` now is closed by it: the caller is a newborn child, whose owners of descriptors are
            // not run any more (see `Newborn`).
            if unsafe { libc::dup2(number, to.cast_signed()) } == -1 {
                return Err(Failed::call(format!("dup2({to})"), last_errno()));
            }
        }
        self.keep(above, &mut [kept.as_raw_fd().cast_unsigned()])
    }

    /// Takes over a descriptor that was kept under this number, and that nobody owns but this process as a whole. The number
    /// is free afterwards.
    pub fn take(&self, number: u32) -> Result<OwnedFd, Failed> {
        // SAFETY: F_DUPFD_CLOEXEC takes an open descriptor, or fails, and a plain number; it changes nothing of ours.
        let taken = unsafe { libc::fcntl(number.cast_signed(), libc::F_DUPFD_CLOEXEC, 3) };
        if taken == -1 {
            return Err(Failed::call(format!("fcntl({number}, F_DUPFD_CLOEXEC)"), last_errno()));
        }
        // SAFETY: the call succeeded: a new descriptor, owned by nobody else.
        let taken = unsafe { OwnedFd::from_raw_fd(taken) };
        close_between(number, number)?;
        Ok(taken)
    }

    /// Forks as [`fork`] does, without asking the kernel whether there is a second thread: a filter of system calls may
    /// forbid the question. A newborn has one thread; whoever got hold of this value starts no other.
    pub fn fork(&self) -> Result<Side, Failed> {
        copy()
    }
}

fn close_between(first: u32, last: u32) -> Result<(), Failed> {
    // SAFETY: the caller is a newborn child that will not use what it does not keep: see `Newborn::keep`.
    if unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } == 0 {
        return Ok(());
    }
    match last_errno() {
        // Before Linux 5.9, or denied: by hand, as far as descriptors can go.
        Errno::NOSYS | Errno::PERM => {
            let end = last.min(
                rustix::process::getrlimit(rustix::process::Resource::Nofile)
                    .current
                    .map_or(1 << 20, |most| u32::try_from(most).unwrap_or(1 << 20)),
            );
            for number in first..=end {
                // SAFETY: as above.
                unsafe { libc::close(number.cast_signed()) };
            }
            Ok(())
        }
        errno => Err(Failed::call(format!("close_range({first}, {last})"), errno)),
    }
}

/// struct clone_args of clone3(2), as of Linux 5.7.
#[repr(C, align(8))]
#[derive(Default)]
struct Args {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_VM: i32 = 0x0100;
const CLONE_PIDFD: u64 = 0x1000;
const CLONE_PARENT: u64 = 0x8000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Forks into new namespaces and a cgroup.
///
/// Refused with `EINVAL` while this process has a second thread: a lock that it holds now would stay held in
/// the child for ever. See clone3(2) for the other errors.
pub fn fork_into(birth: &Birth<'_>) -> Result<Side, Failed> {
    // SAFETY: with CLONE_VM alone unshare(2) changes nothing; it fails unless we are the only thread.
    if unsafe { libc::unshare(CLONE_VM) } == -1 {
        return Err(Failed::call("unshare(CLONE_VM)", last_errno()));
    }
    let mut pidfd: i32 = -1;
    let mut args = Args {
        flags: birth.namespaces | CLONE_PIDFD,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..Args::default()
    };
    if let Some(cgroup) = birth.cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd().cast_unsigned().into();
    }
    if birth.sibling {
        // The exit signal is then the caller's own; clone3(2) wants none named.
        args.flags |= CLONE_PARENT;
        args.exit_signal = 0;
    }
    // SAFETY: `args` and `pidfd` live on this frame until the call returns and the size passed is theirs.
    // Without CLONE_VM the child works on a copy, and no other thread exists whose locks it could inherit.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<Args>()) };
    match i32::try_from(pid) {
        Ok(0) => Ok(Side::Child(Newborn(()))),
        Ok(pid) if pid > 0 => {
            // SAFETY: the call succeeded with CLONE_PIDFD: a new descriptor is in `pidfd`, owned by nobody else.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Side::Parent(pid, Pidfd::from(pidfd)))
        }
        _ => Err(Failed::call(told(birth), last_errno())),
    }
}

/// Asks to be born into a cgroup that is not there: the error tells whether the kernel knows what that means.
pub(crate) fn ask_into_cgroup() -> Errno {
    let mut args = Args {
        flags: CLONE_INTO_CGROUP,
        exit_signal: libc::SIGCHLD as u64,
        // No descriptor has this number: the kernel gives none above its nr_open, which is smaller.
        cgroup: i32::MAX as u64,
        ..Args::default()
    };
    // SAFETY: `args` lives on this frame until the call returns and the size passed is its own. A kernel without any
    // cgroups would overlook the flag and make a child, which works on a copy of everything and leaves at once.
    match unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<Args>()) } {
        -1 => last_errno(),
        // SAFETY: _exit(2) runs nothing of ours on its way.
        0 => unsafe { libc::_exit(0) },
        child => {
            // SAFETY: no status is asked for; the child is ours, and nobody else knows its number.
            unsafe { libc::waitpid(i32::try_from(child).unwrap_or(-1), std::ptr::null_mut(), 0) };
            Errno::NOSYS
        }
    }
}

/// Forks into the namespaces and cgroups that this process is in, by clone(2), which filters of system calls know that
/// refuse clone3(2). Refused with `EINVAL` while this process has a second thread, as [`fork_into`] is.
pub fn fork() -> Result<Side, Failed> {
    // SAFETY: with CLONE_VM alone unshare(2) changes nothing; it fails unless we are the only thread.
    if unsafe { libc::unshare(CLONE_VM) } == -1 {
        return Err(Failed::call("unshare(CLONE_VM)", last_errno()));
    }
    copy()
}

/// clone(2) in a process of one thread.
fn copy() -> Result<Side, Failed> {
    let mut pidfd: i32 = -1;
    let flags = CLONE_PIDFD | libc::SIGCHLD as u64;
    // SAFETY: no stack is named, so the child goes on with a copy of ours; the third argument, on x86-64 and aarch64
    // alike, is where the kernel writes the pidfd, and it lives on this frame. The other two are not looked at.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, &raw mut pidfd, 0, 0) };
    match i32::try_from(pid) {
        Ok(0) => Ok(Side::Child(Newborn(()))),
        Ok(pid) if pid > 0 => {
            // SAFETY: the call succeeded with CLONE_PIDFD: a new descriptor is in `pidfd`, owned by nobody else.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Side::Parent(pid, Pidfd::from(pidfd)))
        }
        _ => Err(Failed::call("clone()", last_errno())),
    }
}

fn told(birth: &Birth<'_>) -> String {
    let into = if birth.cgroup.is_some() { ", CLONE_INTO_CGROUP" } else { "" };
    format!("clone3({:#x}{into})", birth.namespaces)
}

impl Birth<'_> {
    /// Whether this error says that the kernel, or a filter around us, does not know `CLONE_INTO_CGROUP`.
    pub fn cgroup_unknown(failed: &Failed) -> bool {
        matches!(failed.errno(), Some(Errno::INVAL | Errno::TOOBIG | Errno::NOSYS))
    }
}
