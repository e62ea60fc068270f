//! Ends a runtime after its N-th system call, by ptrace.

use std::thread;

use nix::sys::ptrace::{self, Event, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::{Invocation, LIMIT, Process, ready_within};

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
    let mut process = command.launched_by(LAUNCHER).spawn();
    let fate = thread::scope(|scope| {
        let process = &process;
        // The tracer waits in waitpid, which knows no limit: somebody else holds the clock.
        let clock = scope.spawn(move || {
            let ended = ready_within(process, LIMIT);
            if !ended {
                process.signal(rustix::process::Signal::KILL);
            }
            ended
        });
        let fate = follow(process, count);
        assert!(
            clock.join().expect("the clock does not panic"),
            "still ran after {LIMIT:?}: {}",
            process.told()
        );
        fate
    });
    process.reaped();
    fate
}

/// All ptrace calls for one process come from one thread: the caller's.
fn follow(process: &Process, count: usize) -> Fate {
    let pid = Pid::from_raw(process.pid());
    let stopped = waitpid(pid, Some(WaitPidFlag::WUNTRACED)).expect("wait for the launcher");
    assert_eq!(stopped, WaitStatus::Stopped(pid, Signal::SIGSTOP), "{}", process.complaint());
    let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACEEXEC | Options::PTRACE_O_EXITKILL;
    ptrace::seize(pid, options).expect("seize the launcher");
    kill(pid, Signal::SIGCONT).expect("continue the launcher");

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
                is_runtime |= event == Event::PTRACE_EVENT_EXEC as i32;
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
                        kill(pid, Signal::SIGKILL).expect("kill the traced runtime");
                        return end(pid, call);
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

/// Waits for the end of a process that was killed.
fn end(pid: Pid, call: u64) -> Fate {
    loop {
        match waitpid(pid, Some(WaitPidFlag::__WALL)).expect("wait for the killed runtime") {
            WaitStatus::Signaled(_, Signal::SIGKILL, _) => return Fate::Killed { call },
            WaitStatus::Exited(_, code) => panic!("{pid} was killed and exited with {code}"),
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
