//! The first process of a container whose program is another one.
//!
//! It has given up by now what the program gives up, and has nothing open but the line by which it tells the end. It executes
//! nothing: what it runs cannot be written by anybody (`sys::seal`), and nobody inside may look into it.

use std::os::fd::{AsRawFd, OwnedFd};

use sys::{Exit, Failed, Newborn, Pidfd, Reaped, SIGCHLD, SignalFd, block_signals, reap_any};

/// Looks after the program until it ends; the exit status.
pub(crate) fn attend(newborn: &Newborn, line: &OwnedFd, pid: i32, program: &Pidfd) -> u8 {
    match look_after(newborn, line, pid, program) {
        Ok(exit) => exit.code(),
        // All others die with us; and nobody is left to hear why but who sees this.
        Err(_) => u8::MAX,
    }
}

fn look_after(newborn: &Newborn, line: &OwnedFd, pid: i32, program: &Pidfd) -> Result<Exit, Failed> {
    block_signals()?;
    confine::conceal()?;
    let mut kept = [line, program.as_ref()].map(|fd| fd.as_raw_fd().cast_unsigned());
    newborn.keep(0, &mut kept)?;
    let signals = SignalFd::open()?;
    loop {
        // Whoever has ended before we listened is found first.
        while let Reaped::Process(number, exit) = reap_any()? {
            if number == pid {
                // Who wanted to hear it may be gone; the exit status says nearly the same.
                let _unheard = rustix::io::write(line, &exit.said());
                return Ok(exit);
            }
        }
        match signals.next_signal()? {
            SIGCHLD => {}
            // It may have ended just now.
            signal => program.signal(signal).unwrap_or_default(),
        }
    }
}
