//! The other half: forked before anything else is done, and again whenever it is gone.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::process::{Signal, chdir, getpid, getppid, set_parent_process_death_signal, setsid};
use sys::{Called as _, Doing as _, Failed, Pidfd, SIGKILL, Side};

use crate::log;
use crate::words::{Line, Status};

/// What the talker runs; its exit status.
pub type Talk<'a> = &'a dyn Fn(Turn<'_>) -> u8;

/// What a talker begins with.
#[derive(Debug)]
pub struct Turn<'a> {
    /// Its end of the line.
    pub line: OwnedFd,
    /// The listeners, which those who come after it listen at too.
    pub listeners: &'a [OwnedFd],
    /// Whether the daemon starts, and this is no talker in another's place.
    pub is_first: bool,
}

/// The talker, or the time when there is to be another one.
pub(super) struct Talker<'a> {
    talk: Talk<'a>,
    listeners: Vec<OwnedFd>,
    user: (u32, u32),
    living: Option<Living>,
    /// How many there have been: who asked may be gone when the answer comes.
    pub(super) round: u64,
    next: Instant,
    delay: Duration,
}

struct Living {
    pid: i32,
    process: Pidfd,
    line: Line,
    since: Instant,
}

const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);
/// Who has lived so long has not died of what its predecessor died of.
const HEALTHY: Duration = Duration::from_mins(1);

impl<'a> Talker<'a> {
    /// Forks the first one.
    pub(super) fn begin(talk: Talk<'a>, listeners: Vec<OwnedFd>, user: (u32, u32)) -> Result<Self, Failed> {
        let mut talker =
            Self { talk, listeners, user, living: None, round: 0, next: Instant::now(), delay: SHORTEST };
        talker.fork()?;
        Ok(talker)
    }

    fn fork(&mut self) -> Result<(), Failed> {
        let (line, theirs) = Line::pair()?;
        let guard = getpid();
        match sys::fork().doing(|| "fork the talker")? {
            Side::Child(newborn) => {
                let kept = self.listeners.iter().map(AsRawFd::as_raw_fd).chain([theirs.as_raw_fd()]);
                let mut kept: Vec<u32> = kept.map(i32::cast_unsigned).collect();
                let settled = newborn.keep(3, &mut kept).and_then(|()| settle(self.user));
                let settled = settled.and_then(|()| {
                    if getppid() == Some(guard) { Ok(()) } else { Err(Failed::refused("the guard is gone")) }
                });
                sys::leave(match settled {
                    Ok(()) => (self.talk)(Turn {
                        line: theirs,
                        listeners: &self.listeners,
                        is_first: self.round == 0,
                    }),
                    Err(failed) => {
                        log::say(&format!("become the talker: {failed}"));
                        1
                    }
                })
            }
            Side::Parent(pid, process) => {
                self.round += 1;
                self.living = Some(Living { pid, process, line, since: Instant::now() });
                Ok(())
            }
        }
    }

    /// The line to it, while it lives.
    pub(super) fn line(&mut self) -> Option<&mut Line> {
        self.living.as_mut().map(|living| &mut living.line)
    }

    /// What to wait for: its end, and what it says; whether it is waited for until it listens.
    pub(super) fn sources(&self) -> Option<(BorrowedFd<'_>, BorrowedFd<'_>, bool)> {
        let living = self.living.as_ref()?;
        Some((living.process.as_fd(), living.line.as_fd(), living.line.is_full()))
    }

    /// Whether this is its number.
    pub(super) fn is(&self, pid: i32) -> bool {
        self.living.as_ref().is_some_and(|living| living.pid == pid)
    }

    /// It has said what nobody says, or listens no more: it is ended. Another one comes in its time.
    pub(super) fn end(&mut self, why: &str) {
        let Some((ended, age)) = self.kill() else { return };
        self.delay = if age < HEALTHY { (self.delay * 2).min(LONGEST) } else { SHORTEST };
        self.next = Instant::now() + self.delay;
        log::say(&format!("the talker is gone ({why}; {ended}); another begins in {:?}", self.delay));
    }

    /// All is over: it is ended, if it has not gone by itself.
    pub(super) fn dismiss(&mut self) {
        let _ended = self.kill();
    }

    /// How it ended, and how old it was.
    fn kill(&mut self) -> Option<(String, Duration)> {
        let living = self.living.take()?;
        if let Err(failed) = living.process.signal(SIGKILL) {
            log::say(&format!("kill the talker: {failed}"));
        }
        let ended = match living.process.reap() {
            Ok(exit) => Status::from(exit).to_string(),
            Err(failed) => failed.to_string(),
        };
        Some((ended, living.since.elapsed()))
    }

    /// When another one is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.living.is_none().then_some(self.next)
    }

    /// Forks another one if that is due.
    pub(super) fn revive(&mut self) {
        if self.due().is_none_or(|due| due > Instant::now()) {
            return;
        }
        if let Err(failed) = self.fork() {
            log::say(&failed.to_string());
            self.next = Instant::now() + self.delay;
        }
    }
}

/// Gives up everything that root can do, for ever, and hides from others of that user.
fn settle((uid, gid): (u32, u32)) -> Result<(), Failed> {
    chdir("/").called(|| "chdir(\"/\")")?;
    // The terminal that the daemon may have been started at is not the talker's: nothing is typed into it.
    setsid().called(|| "setsid()")?;
    confine::renounce(uid, gid)?;
    // Who becomes somebody else is not told of a parent's end any more: it is asked for again.
    set_parent_process_death_signal(Some(Signal::KILL)).called(|| "prctl(PR_SET_PDEATHSIG)")
}
