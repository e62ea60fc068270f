//! The hook runner: one program at a time, with the state on its stdin and its time counted.
//!
//! The hook gets three descriptors and nothing more: the state to read, and one pipe for both of its outputs, of which the
//! end is kept for the error. It leads a process group of its own, so that what it forked dies with it when its time is
//! up, and it dies with whoever runs it, so that a killed command leaves no hook behind.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use plan::Hook;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{read, write};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, fchdir, kill_process_group, set_parent_process_death_signal, setpgid};
use spec::State;
use sys::{Called, Doing, Errno, Exit, Failed, Mask, Newborn, Pidfd, Side, SignalFd, Strings, restore_mask};

/// What a hook is run with, beside what its document says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner<'a> {
    /// Where it starts; where we are, without it.
    pub cwd: Option<BorrowedFd<'a>>,
    /// Its signal mask; ours, without it.
    pub mask: Option<&'a Mask>,
    /// The environment of a hook that says nothing of one.
    pub environment: Option<&'a Strings>,
    /// What says that we have one thread, where a filter may be in force already.
    pub newborn: Option<&'a Newborn>,
    /// Signals that are blocked here, and end the hook and the waiting for it.
    pub signals: Option<&'a SignalFd>,
}

/// SIGHUP, SIGINT, SIGQUIT and SIGTERM: who sends one of these does not want to wait for a hook any longer.
pub const IMPATIENCE: u64 = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14;

/// So much of what a hook said last is kept for the error.
const KEPT: usize = 2048;

/// A hook that has ended may have left somebody who goes on writing: after so much more nobody listens.
const REST: usize = 1 << 20;

/// Runs hooks one after the other, until one fails.
pub fn run_hooks<'a>(
    hooks: impl IntoIterator<Item = &'a Hook>,
    state: &State,
    manner: Manner<'_>,
) -> Result<(), Failed> {
    hooks.into_iter().try_for_each(|hook| run_hook(hook, state, manner))
}

/// Runs one hook and waits for its end; an error is whatever is not exit status 0.
pub fn run_hook(hook: &Hook, state: &State, manner: Manner<'_>) -> Result<(), Failed> {
    let run = || {
        let mut running = Running::begin(hook, state, manner)?;
        let ended = running.watch(hook.timeout.map(Duration::from_secs), manner.signals);
        if ended.is_err() {
            running.kill();
        }
        running.finish(ended)
    };
    run().doing(|| format!("error running {}: {}", hook.words(), hook.path))
}

/// A hook that runs, and our ends of its pipes.
struct Running {
    pid: i32,
    process: Pidfd,
    /// What is left to tell it, and where; both ends, so that writing never fails for want of a reader.
    input: Option<(OwnedFd, OwnedFd)>,
    state: Vec<u8>,
    told: usize,
    output: OwnedFd,
    /// Why it did not come to be the hook.
    refusal: OwnedFd,
    said: Vec<u8>,
}

impl Running {
    fn begin(hook: &Hook, state: &State, manner: Manner<'_>) -> Result<Self, Failed> {
        let nul = |_| Failed::refused("an argument holds a NUL byte");
        let program = CString::new(hook.path.as_str()).map_err(nul)?;
        let arguments = Strings::new(&hook.args).map_err(nul)?;
        let own = hook.env.as_deref().map(Strings::new).transpose().map_err(nul)?;
        let environment = own
            .as_ref()
            .or(manner.environment)
            .ok_or_else(|| Failed::refused("the plan leaves the environment to nobody"))?;
        let (input, to_input) = pipe()?;
        let (output, to_output) = pipe()?;
        let (refusal, to_refusal) = pipe()?;
        let side = manner.newborn.map_or_else(sys::fork, Newborn::fork)?;
        let (pid, process) = match side {
            Side::Child(newborn) => {
                let streams = [input.as_fd(), to_output.as_fd(), to_output.as_fd()];
                let failed = match settle(&newborn, streams, &to_refusal, manner) {
                    Ok(()) => Failed::call("execve()", sys::execute(&program, &arguments, environment)),
                    Err(failed) => failed,
                };
                // Nobody may be left to hear it.
                let _unheard = write(&to_refusal, failed.to_string().as_bytes());
                sys::leave(1)
            }
            Side::Parent(pid, process) => (pid, process),
        };
        for end in [&to_input, &output, &refusal] {
            rustix::io::ioctl_fionbio(end, true).called(|| "ioctl(FIONBIO)")?;
        }
        Ok(Self {
            pid,
            process,
            input: Some((to_input, input)),
            state: state.to_line().into_bytes(),
            told: 0,
            output,
            refusal,
            said: Vec::new(),
        })
    }

    /// Feeds it and listens to it until it has ended, or its time is up.
    fn watch(&mut self, timeout: Option<Duration>, signals: Option<&SignalFd>) -> Result<(), Failed> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut listens = true;
        loop {
            self.feed()?;
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                let seconds = timeout.unwrap_or_default().as_secs();
                return Err(Failed::refused(format!("still running after {seconds} s, killed")));
            }
            let mut fds = Vec::with_capacity(4);
            fds.push(PollFd::new(&self.process, PollFlags::IN));
            let signal = signals.map(|signals| {
                fds.push(PollFd::new(signals, PollFlags::IN));
                fds.len() - 1
            });
            let output = listens.then(|| {
                fds.push(PollFd::new(&self.output, PollFlags::IN));
                fds.len() - 1
            });
            fds.extend(self.input.as_ref().map(|(input, _)| PollFd::new(input, PollFlags::OUT)));
            let wait = left.map(|left| Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            });
            match poll(&mut fds, wait.as_ref()) {
                Err(Errno::INTR) => continue,
                polled => polled.called(|| "poll(hook)")?,
            };
            let is_ready =
                |at: Option<usize>| at.and_then(|at| fds.get(at)).is_some_and(|fd| !fd.revents().is_empty());
            let (has_ended, is_called, has_said) = (is_ready(Some(0)), is_ready(signal), is_ready(output));
            if has_said {
                listens = self.listen()? != Heard::End;
            }
            if has_ended {
                return Ok(());
            }
            if is_called && let Some(signals) = signals {
                let signal = signals.next_signal()?;
                return Err(Failed::refused(format!("ended by signal {signal} to cofferdam")));
            }
        }
    }

    /// Tells it as much as fits into the pipe; the end of the state is the end of its stdin.
    fn feed(&mut self) -> Result<(), Failed> {
        while let Some((input, _)) = &self.input {
            match self.state.get(self.told..).unwrap_or_default() {
                [] => self.input = None,
                rest => match write(input, rest) {
                    Ok(length) => self.told += length,
                    Err(Errno::AGAIN) => return Ok(()),
                    Err(Errno::INTR) => {}
                    Err(errno) => return Err(Failed::call("write(the hook's stdin)", errno)),
                },
            }
        }
        Ok(())
    }

    /// Takes one piece of what it says, and keeps the last of it.
    fn listen(&mut self) -> Result<Heard, Failed> {
        let mut piece = [0; 16 << 10];
        match read(&self.output, &mut piece) {
            Ok(0) => Ok(Heard::End),
            Ok(length) => {
                self.said.extend_from_slice(piece.get(..length).unwrap_or_default());
                let surplus = self.said.len().saturating_sub(KEPT);
                self.said.drain(..surplus);
                Ok(Heard::Some(length))
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(Heard::Some(0)),
            Err(errno) => Err(Failed::call("read(the hook's output)", errno)),
        }
    }

    /// Ends it, and what it forked into its group. The number is still its own: it was not reaped.
    fn kill(&self) {
        if let Some(group) = Pid::from_raw(self.pid) {
            // No such group: it has not made one yet, and is alone.
            let _gone = kill_process_group(group, Signal::KILL);
        }
        // It cannot be gone before it is reaped, and what else could be wrong shows when it is.
        let _gone = self.process.signal(Signal::KILL.as_raw());
    }

    /// Reaps it, and says how it went.
    fn finish(mut self, ended: Result<(), Failed>) -> Result<(), Failed> {
        let exit = self.process.reap()?;
        let mut rest = 0;
        while rest < REST
            && let Heard::Some(length @ 1..) = self.listen()?
        {
            rest += length;
        }
        ended.map_err(|failed| self.with_words(&failed.to_string()))?;
        let mut words = [0; 512];
        if let Ok(length @ 1..) = read(&self.refusal, &mut words) {
            let refusal = String::from_utf8_lossy(words.get(..length).unwrap_or_default());
            return Err(Failed::refused(refusal));
        }
        match exit {
            Exit::Status(0) => Ok(()),
            Exit::Status(status) => Err(self.with_words(&format!("exit status {status}"))),
            // What a filter of system calls does.
            Exit::Signal(31) => Err(self.with_words("killed by signal 31, bad system call")),
            Exit::Signal(signal) => Err(self.with_words(&format!("killed by signal {signal}"))),
        }
    }

    /// With what it said last, on one line, and without what could steer a terminal.
    fn with_words(&self, why: &str) -> Failed {
        let said = String::from_utf8_lossy(&self.said);
        match said.trim() {
            "" => Failed::refused(why),
            said => Failed::refused(format!("{why}: {said:?}")),
        }
    }
}

#[derive(PartialEq, Eq)]
enum Heard {
    /// So many bytes; none for now.
    Some(usize),
    /// Nobody is left to say anything.
    End,
}

fn pipe() -> Result<(OwnedFd, OwnedFd), Failed> {
    pipe_with(PipeFlags::CLOEXEC).called(|| "pipe2()")
}

/// What the child does before it is the hook.
fn settle(
    newborn: &Newborn,
    [input, output, error]: [BorrowedFd<'_>; 3],
    refusal: &OwnedFd,
    manner: Manner<'_>,
) -> Result<(), Failed> {
    rustix::stdio::dup2_stdin(input).called(|| "dup2(0)")?;
    rustix::stdio::dup2_stdout(output).called(|| "dup2(1)")?;
    rustix::stdio::dup2_stderr(error).called(|| "dup2(2)")?;
    setpgid(None, None).called(|| "setpgid()")?;
    if let Some(cwd) = manner.cwd {
        fchdir(cwd).called(|| "fchdir()")?;
    }
    newborn.keep(3, &mut [refusal.as_raw_fd().cast_unsigned()])?;
    set_parent_process_death_signal(Some(Signal::KILL)).called(|| "prctl(PR_SET_PDEATHSIG)")?;
    // Whoever had the other end may have died before that: then nobody has it now.
    let mut ends = [PollFd::new(refusal, PollFlags::empty())];
    poll(&mut ends, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).called(|| "poll()")?;
    if ends.iter().any(|end| end.revents().contains(PollFlags::ERR)) {
        sys::leave(1);
    }
    manner.mask.map_or(Ok(()), restore_mask)
}
