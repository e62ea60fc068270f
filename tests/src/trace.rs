//! A runtime and its child under ptrace: ended after the N-th system call, answered in the kernel's place, looked at
//! wherever they stand.

use std::thread;

use nix::sys::ptrace::{self, Event as Kind, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::{Invocation, LIMIT, Output, Process, ready_within};

/// How a traced command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was killed as it returned from the system call with this number (x86-64's, or the machine's own).
    Killed {
        /// The number of the last system call.
        call: u64,
    },
    /// It came to its end first, after as many system calls as are told here.
    Ended {
        /// Its exit code, or 128 and the number of a signal.
        code: i32,
        /// The system calls it returned from.
        calls: usize,
    },
}

/// The launcher: stops, so that the tracer can take hold before the runtime's first instruction, then becomes it.
const LAUNCHER: &[&str] = &["/bin/sh", "-c", r#"kill -STOP $$; exec "$@""#, "sh"];

/// Runs the command and kills it, and it alone, as it returns from its `count`-th system call. Those of its first
/// thread count, across an exec of itself; children run free.
pub fn kill_after(command: Invocation<'_>, count: usize) -> Fate {
    signal_after(command, count, Signal::SIGKILL)
}

/// The same with another signal, which the command may keep waiting: it is killed if that is what ends it.
pub fn signal_after(command: Invocation<'_>, count: usize, signal: Signal) -> Fate {
    let mut process = command.then_launched_by(LAUNCHER).spawn();
    let fate = by_the_clock(&process, || follow(&process, count, signal));
    process.reaped();
    fate
}

/// Runs `work`, which waits for the traced process in waitpid, and so knows no limit: somebody else holds the clock.
fn by_the_clock<T>(process: &Process, work: impl FnOnce() -> T) -> T {
    thread::scope(|scope| {
        let (over, is_over) = std::io::pipe().map(|(read, write)| (write, read)).expect("a pipe");
        let clock = scope.spawn(move || {
            let ended = ready_within(&is_over, LIMIT);
            if !ended {
                process.signal(rustix::process::Signal::KILL);
            }
            ended
        });
        let done = work();
        drop(over);
        let ended = clock.join().expect("the clock does not panic");
        assert!(ended, "still ran after {LIMIT:?}: {}", process.told());
        done
    })
}

/// Takes hold of a process that [`LAUNCHER`] started. All ptrace calls for one process come from one thread: the
/// caller's.
fn seize(process: &Process, more: Options) -> Pid {
    let pid = Pid::from_raw(process.pid());
    let stopped = waitpid(pid, Some(WaitPidFlag::WUNTRACED)).expect("wait for the launcher");
    assert_eq!(stopped, WaitStatus::Stopped(pid, Signal::SIGSTOP), "{}", process.complaint());
    let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACEEXEC | Options::PTRACE_O_EXITKILL;
    ptrace::seize(pid, options | more).expect("seize the launcher");
    kill(pid, Signal::SIGCONT).expect("continue the launcher");
    pid
}

fn follow(process: &Process, count: usize, signal: Signal) -> Fate {
    let pid = seize(process, Options::empty());
    let mut is_runtime = false;
    // The first return is from the launcher's exec, and not the runtime's.
    let mut returns: usize = 0;
    let mut has_returned = false;
    loop {
        let status = waitpid(pid, Some(WaitPidFlag::__WALL)).expect("wait for the traced runtime");
        let pass_on = match status {
            WaitStatus::Exited(_, code) => return Fate::Ended { code, calls: returns.saturating_sub(1) },
            WaitStatus::Signaled(_, signal, _) => {
                return Fate::Ended { code: 128 + signal as i32, calls: returns.saturating_sub(1) };
            }
            WaitStatus::PtraceEvent(_, _, event) => {
                is_runtime |= event == Kind::PTRACE_EVENT_EXEC as i32;
                None
            }
            WaitStatus::Stopped(_, signal) => Some(signal),
            WaitStatus::PtraceSyscall(_) => {
                // These stops come in pairs, before and behind a call; the first is the one behind the launcher's exec.
                has_returned = !has_returned;
                if has_returned {
                    returns += 1;
                    if returns > count {
                        let call = number(pid);
                        kill(pid, signal).expect("kill the traced runtime");
                        return end(pid, signal, Fate::Killed { call }, returns - 1);
                    }
                }
                None
            }
            WaitStatus::Continued(_) | WaitStatus::StillAlive => continue,
        };
        let resumed = if is_runtime { ptrace::syscall(pid, pass_on) } else { ptrace::cont(pid, pass_on) };
        assert!(matches!(resumed, Ok(()) | Err(nix::Error::ESRCH)), "resume {pid}: {resumed:?}");
    }
}

/// Waits for the end of a process that got this signal.
fn end(pid: Pid, signal: Signal, killed: Fate, calls: usize) -> Fate {
    let mut pass_on = None;
    loop {
        if signal != Signal::SIGKILL {
            let resumed = ptrace::cont(pid, pass_on.take());
            assert!(matches!(resumed, Ok(()) | Err(nix::Error::ESRCH)), "resume {pid}: {resumed:?}");
        }
        match waitpid(pid, Some(WaitPidFlag::__WALL)).expect("wait for the killed runtime") {
            WaitStatus::Signaled(_, by, _) if by == signal => return killed,
            WaitStatus::Exited(_, code) if signal == Signal::SIGKILL => {
                panic!("{pid} was killed and exited with {code}")
            }
            WaitStatus::Exited(_, code) => return Fate::Ended { code, calls },
            WaitStatus::Stopped(_, other) => pass_on = Some(other),
            _ => {}
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn number(pid: Pid) -> u64 {
    ptrace::getregs(pid).expect("read the registers of a stopped process").orig_rax
}

#[cfg(target_arch = "aarch64")]
fn number(pid: Pid) -> u64 {
    ptrace::getregs(pid).expect("read the registers of a stopped process").regs[8]
}

/// Runs the command, and answers one of its system calls in the kernel's place: the first of this number that its first
/// thread makes fails with `errno`, and never reaches the kernel. So is walked what no filter can deny, since it is told
/// behind a pointer.
#[cfg(target_arch = "x86_64")]
pub fn answer(command: Invocation<'_>, call: libc::c_long, errno: i32) -> Output {
    answer_nth(command, call, 1, errno)
}

/// The same with the N-th call of this number, from 1 on.
#[cfg(target_arch = "x86_64")]
pub fn answer_nth(command: Invocation<'_>, call: libc::c_long, nth: usize, errno: i32) -> Output {
    let process = command.then_launched_by(LAUNCHER).spawn();
    by_the_clock(&process, || {
        let pid = seize(&process, Options::empty());
        let mut stops = Stops::default();
        let (mut count, mut is_denied) = (0, false);
        while let Some(event) = stops.next(pid, &process) {
            if matches!(event, Event::Called(number) if number == call) {
                count += 1;
            }
            match event {
                Event::Called(number) if number == call && count == nth => {
                    let mut registers = ptrace::getregs(pid).expect("read the registers");
                    registers.orig_rax = u64::MAX;
                    ptrace::setregs(pid, registers).expect("take the call away");
                    is_denied = true;
                }
                Event::Returned if is_denied => {
                    let mut registers = ptrace::getregs(pid).expect("read the registers");
                    registers.rax = i64::from(-errno).cast_unsigned();
                    ptrace::setregs(pid, registers).expect("answer the call");
                    ptrace::detach(pid, None).expect("let go of the runtime");
                    return;
                }
                _ => {}
            }
        }
        panic!("made call {call} {count} times: {}", process.told());
    });
    process.wait()
}

/// A runtime's child that stands behind one of its system calls.
#[cfg(target_arch = "x86_64")]
#[derive(Debug)]
pub struct Standing {
    pid: Pid,
    /// The number of the call that it comes back from; none at its birth.
    pub call: Option<i64>,
}

#[cfg(target_arch = "x86_64")]
impl Standing {
    /// Its number on the host.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Makes it make another system call with these arguments, and leaves no trace of that: what the call returned.
    pub fn make(&self, call: libc::c_long, arguments: [u64; 2]) -> i64 {
        let pid = self.pid;
        let before = ptrace::getregs(pid).expect("read the registers");
        let mut other = before;
        // It has just come back from the kernel: the instruction that led there is two bytes long, and right behind it.
        other.rip -= 2;
        (other.rax, other.orig_rax) = (call.cast_unsigned(), u64::MAX);
        (other.rdi, other.rsi) = (arguments[0], arguments[1]);
        (other.rdx, other.r10, other.r8) = (0, 0, 0);
        ptrace::setregs(pid, other).expect("lead it to another call");
        for _ in ["before the call", "behind it"] {
            ptrace::syscall(pid, None).expect("let it go");
            let status = waitpid(pid, Some(WaitPidFlag::__WALL)).expect("wait for the traced child");
            assert_eq!(status, WaitStatus::PtraceSyscall(pid), "it does what it is made to do");
        }
        let told = ptrace::getregs(pid).expect("read the registers").rax.cast_signed();
        ptrace::setregs(pid, before).expect("lead it back");
        told
    }
}

/// Runs the command, and stops its first child at its birth and behind each of its system calls until it is the program:
/// `look` is called each time. The runtime itself runs free.
#[cfg(target_arch = "x86_64")]
pub fn look_at_child(command: Invocation<'_>, mut look: impl FnMut(&Standing)) -> Output {
    let process = command.then_launched_by(LAUNCHER).spawn();
    by_the_clock(&process, || {
        let pid = seize(&process, Options::PTRACE_O_TRACEFORK | Options::PTRACE_O_TRACECLONE);
        let mut stops = Stops::default();
        let child = loop {
            match stops.next(pid, &process) {
                Some(Event::Born(child)) => break child,
                Some(_) => {}
                None => panic!("has no child: {}\n{}", process.told(), process.complaint()),
            }
        };
        ptrace::detach(pid, None).expect("let go of the runtime");
        let _held = Held(child);
        let mut stops = Stops { is_runtime: true, ..Stops::default() };
        let mut call = None;
        while let Some(event) = stops.next(child, &process) {
            match event {
                Event::Called(number) => call = Some(number),
                Event::Returned => look(&Standing { pid: child, call }),
                Event::Born(_) => {}
                Event::Executed => {
                    ptrace::detach(child, None).expect("let go of the program");
                    break;
                }
            }
        }
    });
    process.wait()
}

/// A traced child. A test that fails while it holds one ends it: it could not be reaped otherwise.
#[cfg(target_arch = "x86_64")]
struct Held(Pid);

#[cfg(target_arch = "x86_64")]
impl Drop for Held {
    fn drop(&mut self) {
        if thread::panicking() && kill(self.0, Signal::SIGKILL).is_ok() {
            while let Ok(status) = waitpid(self.0, Some(WaitPidFlag::__WALL)) {
                if matches!(status, WaitStatus::Signaled(..) | WaitStatus::Exited(..)) {
                    break;
                }
            }
        }
    }
}

/// What a traced process came to.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug)]
enum Event {
    /// It is about to make this system call.
    Called(i64),
    /// It comes back from one.
    Returned,
    /// It has a child, which is traced too.
    Born(Pid),
    /// It became another program.
    Executed,
}

/// Leads a traced process from stop to stop.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Default)]
struct Stops {
    /// Whether the launcher has become the runtime: before that nothing is told but this.
    is_runtime: bool,
    pass_on: Option<Signal>,
    is_stopped: bool,
    is_inside: bool,
}

#[cfg(target_arch = "x86_64")]
impl Stops {
    /// The next event; none once the process is no more.
    fn next(&mut self, pid: Pid, process: &Process) -> Option<Event> {
        loop {
            if std::mem::take(&mut self.is_stopped) {
                let pass_on = self.pass_on.take();
                let resumed =
                    if self.is_runtime { ptrace::syscall(pid, pass_on) } else { ptrace::cont(pid, pass_on) };
                assert!(
                    matches!(resumed, Ok(()) | Err(nix::Error::ESRCH)),
                    "{}: {resumed:?}",
                    process.told()
                );
            }
            let status = waitpid(pid, Some(WaitPidFlag::__WALL)).expect("wait for a traced process");
            self.is_stopped = true;
            match status {
                WaitStatus::Exited(..) | WaitStatus::Signaled(..) => return None,
                // The launcher's exec makes the runtime; an exec of itself goes on behind its call.
                WaitStatus::PtraceEvent(_, _, event)
                    if event == Kind::PTRACE_EVENT_EXEC as i32
                        && std::mem::replace(&mut self.is_runtime, true) =>
                {
                    return Some(Event::Executed);
                }
                WaitStatus::PtraceEvent(_, _, event)
                    if event == Kind::PTRACE_EVENT_FORK as i32
                        || event == Kind::PTRACE_EVENT_CLONE as i32 =>
                {
                    let born = ptrace::getevent(pid).expect("ask who was born");
                    return Some(Event::Born(Pid::from_raw(i32::try_from(born).expect("a process id"))));
                }
                WaitStatus::Stopped(_, signal) => self.pass_on = Some(signal),
                WaitStatus::PtraceSyscall(_) => {
                    let registers = ptrace::getregs(pid).expect("read the registers of a stopped process");
                    // Before a call the kernel keeps this there for one that it will not know. A child begins behind one.
                    let may_be_before = registers.rax.cast_signed() == -i64::from(libc::ENOSYS);
                    self.is_inside = may_be_before && !self.is_inside;
                    return Some(if self.is_inside {
                        Event::Called(registers.orig_rax.cast_signed())
                    } else {
                        Event::Returned
                    });
                }
                _ => {}
            }
        }
    }
}
