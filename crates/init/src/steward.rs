//! The steward: the first process of a container whose program is the second.
//!
//! The kernel keeps signals from the first process of a pid namespace that it does not catch, and leaves it every orphan to
//! reap (pid_namespaces(7)); few programs are written for either. A steward is: it passes signals on, reaps, and ends as the
//! program ends. It is this very process, before it becomes the program: no file of ours is needed inside. It has what the
//! program has and no capability, and holds nothing open.

use std::ffi::CString;
use std::os::fd::{AsFd as _, AsRawFd as _};

use plan::Capabilities;
use rustix::thread::set_name;
use sys::{Errno, Exit, Failed, Newborn, Pidfd, Reaped, SIGCHLD, SignalFd};

/// How the first process is called when its program was ended by a signal, with the signal's number behind it: no exit status
/// tells one that is 143 from SIGTERM.
const ENDED_BY: &str = "ended by ";

/// Stays until the program ends; the exit status, which is the program's.
///
/// All signals are blocked. What fails here fails for nobody who could be told: the container ends.
pub(crate) fn stay(newborn: &Newborn, pid: i32, program: &Pidfd) -> u8 {
    match attend(newborn, pid, program) {
        Ok(exit) => {
            if let Exit::Signal(signal) = exit
                && let Ok(name) = CString::new(format!("{ENDED_BY}{signal}"))
            {
                // Without the name, the number alone is told.
                let _nameless = set_name(&name);
            }
            exit.code()
        }
        Err(_) => 255,
    }
}

fn attend(newborn: &Newborn, pid: i32, program: &Pidfd) -> Result<Exit, Failed> {
    newborn.keep(0, &mut [program.as_fd().as_raw_fd().cast_unsigned()])?;
    confine::conceal()?;
    confine::keep(&Capabilities::default())?;
    let signals = SignalFd::open()?;
    loop {
        match signals.next_signal()? {
            SIGCHLD => {
                if let Some(exit) = reap(pid)? {
                    return Ok(exit);
                }
            }
            signal => match program.signal(signal) {
                // It has ended, and we are about to hear of it.
                Err(failed) if failed.errno() == Some(Errno::SRCH) => {}
                sent => sent?,
            },
        }
    }
}

/// Reaps whoever has ended; how the program did, if it was among them.
fn reap(program: i32) -> Result<Option<Exit>, Failed> {
    let mut ended = None;
    while let Reaped::Process(pid, exit) = sys::reap_any()? {
        if pid == program {
            ended = Some(exit);
        }
    }
    Ok(ended)
}

/// How a program ended whose steward ended so, and was called so: `/proc/PID/comm`, before it was reaped.
pub fn program_exit(steward: Exit, name: &str) -> Exit {
    let signal = name.trim_end().strip_prefix(ENDED_BY).and_then(|number| number.parse().ok());
    match (steward, signal) {
        (Exit::Status(status), Some(signal)) if status == 128 + signal => Exit::Signal(signal),
        _ => steward,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_by_a_signal_is_told_from_a_status() {
        for (steward, name, program) in [
            (Exit::Status(143), "ended by 15\n", Exit::Signal(15)),
            (Exit::Status(143), "sleep\n", Exit::Status(143)),
            (Exit::Status(0), "ended by 15\n", Exit::Status(0)),
            (Exit::Signal(9), "cofferdamd\n", Exit::Signal(9)),
            (Exit::Status(129), "ended by x\n", Exit::Status(129)),
        ] {
            assert_eq!(program_exit(steward, name), program, "{steward:?} {name}");
        }
    }
}
