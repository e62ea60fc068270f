//! Signals: masks, dispositions, and signals as a descriptor.

use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::{Errno, Failed, last_errno};

/// The terminal is gone, or what is configured has changed; signal(7), as for all of these.
pub const SIGHUP: i32 = libc::SIGHUP;
/// Somebody has pressed Ctrl-C.
pub const SIGINT: i32 = libc::SIGINT;
/// Ends a process, whatever it thinks of that.
pub const SIGKILL: i32 = libc::SIGKILL;
/// Means what a program wants it to mean.
pub const SIGUSR1: i32 = libc::SIGUSR1;
/// Asks a process to end.
pub const SIGTERM: i32 = libc::SIGTERM;
/// A child changed its state.
pub const SIGCHLD: i32 = libc::SIGCHLD;
/// Who was stopped goes on.
pub const SIGCONT: i32 = libc::SIGCONT;
/// Stops a process, whatever it thinks of that.
pub const SIGSTOP: i32 = libc::SIGSTOP;
/// Urgent data came; ignored by default.
pub const SIGURG: i32 = libc::SIGURG;
/// The window has another size.
pub const SIGWINCH: i32 = libc::SIGWINCH;

/// Those by which a person or a service manager ends a program, bit n-1 for signal n.
pub const ENDING: u64 = bit(libc::SIGHUP) | bit(libc::SIGINT) | bit(libc::SIGQUIT) | bit(libc::SIGTERM);

/// Whether it is one of [`ENDING`].
pub fn asks_to_end(signal: i32) -> bool {
    (1..=64).contains(&signal) && ENDING & bit(signal) != 0
}

const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// A signal mask, to be restored later.
#[derive(Clone, Copy)]
pub struct Mask(libc::sigset_t);

impl std::fmt::Debug for Mask {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("Mask")
    }
}

impl Mask {
    /// The same without these signals: bit n-1 for signal n.
    #[must_use]
    pub fn without(mut self, which: u64) -> Self {
        for signal in (1..=64).filter(|signal| which & (1 << (signal - 1)) != 0) {
            // SAFETY: the set is a whole one; a number that the C library keeps for itself is refused, and is never
            // in a mask that came through it.
            unsafe { libc::sigdelset(&raw mut self.0, signal) };
        }
        self
    }
}

fn empty_set() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset(3) initialises the whole set that it is given.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    }
}

fn every_signal() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigfillset(3) initialises the whole set that it is given.
    unsafe {
        libc::sigfillset(set.as_mut_ptr());
        set.assume_init()
    }
}

/// Blocks every signal in this thread and returns the mask from before.
pub fn block_signals() -> Result<Mask, Failed> {
    let every = every_signal();
    let mut before = MaybeUninit::uninit();
    // SAFETY: both sets live on this frame; the second is written whole when the call succeeds.
    unsafe {
        if libc::sigprocmask(libc::SIG_SETMASK, &raw const every, before.as_mut_ptr()) == -1 {
            return Err(Failed::call("sigprocmask(SIG_SETMASK)", last_errno()));
        }
        Ok(Mask(before.assume_init()))
    }
}

/// Puts a mask back.
pub fn restore_mask(mask: &Mask) -> Result<(), Failed> {
    // SAFETY: the set is a whole one, made by the kernel; nothing is written through the null pointer.
    if unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const mask.0, std::ptr::null_mut()) } == -1 {
        return Err(Failed::call("sigprocmask(SIG_SETMASK)", last_errno()));
    }
    Ok(())
}

/// Blocks no signal in this thread, whatever was blocked before.
pub fn unblock_signals() -> Result<(), Failed> {
    let none = empty_set();
    // SAFETY: the set is a whole one; nothing is written through the null pointer.
    let result = unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()) };
    if result == -1 { Err(Failed::call("sigprocmask(SIG_SETMASK)", last_errno())) } else { Ok(()) }
}

/// Signals that are kept from this thread as long as this lives. Whichever came meanwhile comes then.
#[derive(Debug)]
pub struct Held {
    before: Mask,
    which: u64,
}

impl Held {
    /// Keeps those of `which` (bit n-1 for signal n) that are not ignored: the kernel would hold even these, and who waits for
    /// one would take it for meant.
    pub fn take(which: u64) -> Result<Self, Failed> {
        let mut held = 0;
        let mut set = empty_set();
        for signal in (1..=64).filter(|signal| which & bit(*signal) != 0) {
            let mut action = MaybeUninit::<libc::sigaction>::uninit();
            // SAFETY: nothing is read through the null pointer; `action` is written whole when the call succeeds.
            let asked = unsafe { libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) };
            if asked == -1 {
                return Err(Failed::call(format!("sigaction({signal})"), last_errno()));
            }
            // SAFETY: the call succeeded.
            if unsafe { action.assume_init() }.sa_sigaction != libc::SIG_IGN {
                held |= bit(signal);
                // SAFETY: the set is a whole one.
                unsafe { libc::sigaddset(&raw mut set, signal) };
            }
        }
        let mut before = MaybeUninit::uninit();
        // SAFETY: both sets live on this frame; the second is written whole when the call succeeds.
        let before = unsafe {
            if libc::sigprocmask(libc::SIG_BLOCK, &raw const set, before.as_mut_ptr()) == -1 {
                return Err(Failed::call("sigprocmask(SIG_BLOCK)", last_errno()));
            }
            Mask(before.assume_init())
        };
        Ok(Self { before, which: held })
    }

    /// One of them that has come; none if none has.
    pub fn waiting(&self) -> Result<Option<i32>, Failed> {
        let mut pending = empty_set();
        // SAFETY: the set is a whole one, and written by the call.
        if unsafe { libc::sigpending(&raw mut pending) } == -1 {
            return Err(Failed::call("sigpending()", last_errno()));
        }
        // SAFETY: the set is a whole one, and read only.
        let is_waiting = |signal: &i32| unsafe { libc::sigismember(&raw const pending, *signal) } == 1;
        Ok((1..=64).filter(|signal| self.which & bit(*signal) != 0).find(is_waiting))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // The mask came from the kernel, and is taken back by it.
        restore_mask(&self.before).unwrap_or_default();
    }
}

/// Gives each signal of `which` (bit n-1 for signal n, as /proc/PID/status prints) its default action again.
pub fn default_signals(which: u64) -> Result<(), Failed> {
    for signal in 1..=64 {
        if which & (1 << (signal - 1)) == 0 {
            continue;
        }
        // The kernel's own call: the C library refuses 32 and 33, which it keeps for itself, and callers do ignore them.
        // `struct sigaction` as the kernel has it, all zero: SIG_DFL, no flags, no restorer, an empty mask.
        let default = [0_u64; 4];
        // SAFETY: `default` is as long as the kernel's structure on 64-bit machines and lives until the call returns; it
        // is only read. SIG_DFL is a valid disposition of every signal; no handler of ours is involved.
        let result = unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                size_of::<u64>(),
            )
        };
        if result == -1 {
            return Err(Failed::call(format!("signal({signal}, SIG_DFL)"), last_errno()));
        }
    }
    Ok(())
}

/// Makes each signal of `which` (bit n-1 for signal n) end this process, and lets it through: the first process of a pid
/// namespace hears of none that it does not catch, SIGKILL from outside apart (pid_namespaces(7)). Its exit status is then
/// 128 and the signal's number. execve(2) gives all of them back their default action.
pub fn heed_signals(which: u64) -> Result<(), Failed> {
    let mut heeded = empty_set();
    for signal in (1..=64).filter(|signal| which & (1 << (signal - 1)) != 0) {
        // SAFETY: all zero is a whole `struct sigaction`: SIG_DFL, no flags, an empty mask.
        let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
        action.sa_sigaction = end_by as extern "C" fn(i32) as libc::sighandler_t;
        // SAFETY: the set is a whole one. `action` lives until the call returns, and the handler for all the time of the
        // process; it takes one number, as a handler without SA_SIGINFO does, and calls nothing but _exit(2), which is
        // safe in a handler. The null pointer asks for nothing.
        let result = unsafe {
            libc::sigaddset(&raw mut heeded, signal);
            libc::sigaction(signal, &raw const action, std::ptr::null_mut())
        };
        if result == -1 {
            return Err(Failed::call(format!("sigaction({signal})"), last_errno()));
        }
    }
    // SAFETY: the set is a whole one; nothing is written through the null pointer.
    if unsafe { libc::sigprocmask(libc::SIG_UNBLOCK, &raw const heeded, std::ptr::null_mut()) } == -1 {
        return Err(Failed::call("sigprocmask(SIG_UNBLOCK)", last_errno()));
    }
    Ok(())
}

extern "C" fn end_by(signal: i32) {
    // SAFETY: _exit(2) takes any number and does not return.
    unsafe { libc::_exit(128 + signal) }
}

/// Every signal that reaches this process, as a descriptor; they must be blocked.
#[derive(Debug)]
pub struct SignalFd(OwnedFd);

impl SignalFd {
    /// signalfd(2).
    pub fn open() -> Result<Self, Failed> {
        Self::of_set(&every_signal())
    }

    /// The same for some signals alone, bit n-1 for signal n: others stay pending for whoever waits for them.
    pub fn of(which: u64) -> Result<Self, Failed> {
        let mut set = every_signal();
        for signal in (1..=64).filter(|signal| which & (1 << (signal - 1)) == 0) {
            // SAFETY: the set is a whole one; a number that the C library keeps for itself is refused, and sigfillset(3)
            // has left it out already.
            unsafe { libc::sigdelset(&raw mut set, signal) };
        }
        Self::of_set(&set)
    }

    fn of_set(set: &libc::sigset_t) -> Result<Self, Failed> {
        // SAFETY: the set is read only; a descriptor that comes back belongs to nobody else.
        unsafe {
            match libc::signalfd(-1, &raw const *set, libc::SFD_CLOEXEC) {
                -1 => Err(Failed::call("signalfd()", last_errno())),
                fd => Ok(Self(OwnedFd::from_raw_fd(fd))),
            }
        }
    }

    /// Waits for the next signal: its number.
    pub fn next_signal(&self) -> Result<i32, Failed> {
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
        let size = size_of::<libc::signalfd_siginfo>();
        loop {
            // SAFETY: the buffer is as large as the size passed, and only whole records are read from a signalfd.
            let read = unsafe { libc::read(self.0.as_raw_fd(), info.as_mut_ptr().cast(), size) };
            if read == -1 {
                match last_errno() {
                    Errno::INTR => continue,
                    errno => return Err(Failed::call("read(signalfd)", errno)),
                }
            }
            // SAFETY: signalfd(2) returned a whole record.
            let number = unsafe { info.assume_init() }.ssi_signo;
            return i32::try_from(number).map_err(|_| Failed::refused(format!("{number} is no signal")));
        }
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
