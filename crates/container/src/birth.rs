//! Birth: a process forked into its cgroup, and what it says until it is the program.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cgroup::{Cgroup, Systemd};
use init::{Inherited, Listener, Parent, Report, Word};
use plan::{Step, Walk};
use rustix::event::{PollFd, PollFlags, poll};
use sys::{Birth, Called, Errno, Failed, Pidfd, Side, SignalFd, Spent, fork_into};

use crate::door::{Door, end};
use crate::{Error, Kind};

/// A child of ours that walks its plan, and the line to it.
#[derive(Debug)]
pub(crate) struct Born {
    /// Its number, for printing.
    pub(crate) pid: i32,
    /// Itself, for acting.
    pub(crate) process: Pidfd,
    line: Parent,
    /// Whether its parent is not us, but the one that we work for.
    is_sibling: bool,
}

/// Where a process is born: in new namespaces ([`sys::namespace`] bits) and in its cgroup of the unified tree, if there
/// is one.
pub(crate) struct Birthplace<'a> {
    pub(crate) namespaces: u64,
    /// What a forerunner walks, if init is born of one.
    pub(crate) forerunner: Option<Walk<'a>>,
    pub(crate) groups: &'a Cgroup,
    pub(crate) unified: Option<OwnedFd>,
    /// Init of a container that is there already, to be joined in its own cgroup where the container's takes nobody.
    pub(crate) init: Option<i32>,
    /// Who has made the cgroup, and may move into it where we may not.
    pub(crate) mover: Option<Mover<'a>>,
    /// Where the one that we work for, if there is one, is told whom it has got as a child.
    pub(crate) births: Option<BorrowedFd<'a>>,
}

/// A service manager, its unit, and the group below it, `/a`, that somebody is to be moved into.
pub(crate) struct Mover<'a> {
    pub(crate) systemd: &'a mut Systemd,
    pub(crate) unit: String,
    pub(crate) below: String,
}

/// How a child comes to be in its cgroup.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Born,
    MovedByUs,
    MovedByManager,
}

impl Birthplace<'_> {
    /// Forks. The child walks and ends here; its parent lets go of all that was made for it.
    ///
    /// Where the kernel or a filter around us does not know birth into a cgroup, the parent moves the child.
    pub(crate) fn bear(
        mut self,
        walk: &Walk<'_>,
        inherited: Inherited,
        line: Parent,
    ) -> Result<Born, Failed> {
        let telling = if self.forerunner.is_some() { Some(Report::pair()?) } else { None };
        let awaits = self.forerunner.as_ref().unwrap_or(walk).steps.contains(&Step::AwaitGroup);
        let (side, way) = match self.fork(self.unified.as_ref()) {
            Err(failed) if self.unified.is_some() && Birth::cgroup_unknown(&failed) => {
                (self.fork(None)?, Way::MovedByUs)
            }
            // From our group to a unit of the user's manager there is no way for the user.
            Err(failed) if self.mover.is_some() && failed.errno() == Some(Errno::ACCESS) => {
                (self.fork(None)?, Way::MovedByManager)
            }
            // One process is allowed, and the unit was made around it: the kernel counts whom it forks, and not whom it moves.
            Err(failed) if awaits && failed.errno() == Some(Errno::AGAIN) => {
                (self.fork(None)?, Way::MovedByUs)
            }
            Err(failed) if takes_nobody(&failed) => (self.fork_beside_init(failed)?, Way::Born),
            side => (side?, Way::Born),
        };
        let (forked, process) = match side {
            Side::Child(newborn) => sys::leave(match (&self.forerunner, &telling) {
                (Some(before), Some((birth, _))) => {
                    init::forerun(before, walk, self.namespaces, newborn, inherited, birth)
                }
                _ => init::run(walk, newborn, inherited),
            }),
            Side::Parent(pid, process) => (pid, process),
        };
        let is_sibling = self.births.is_some();
        // Who waits for it is moved before it goes on, and before it bears anybody.
        if awaits {
            let placed = self.place(way, forked).and_then(|()| line.go());
            placed.or_else(|failed| ended(&process, is_sibling, failed))?;
        }
        let (pid, process) = match telling {
            Some((birth, line)) => {
                drop(birth);
                borne_by(&process, is_sibling, &line)?
            }
            None => (forked, process),
        };
        if let Some(births) = self.births {
            Door::announce(births, pid, &process).or_else(|failed| ended(&process, is_sibling, failed))?;
        }
        Spent::default().extend(inherited.into_handles().chain(self.unified.take()));
        if !awaits {
            self.place(way, pid).or_else(|failed| ended(&process, is_sibling, failed))?;
        }
        Ok(Born { pid, process, line, is_sibling })
    }

    /// Moves a child to where it was not born.
    fn place(&mut self, way: Way, pid: i32) -> Result<(), Failed> {
        match (way, &mut self.mover) {
            (Way::Born, _) => Ok(()),
            (Way::MovedByManager, Some(Mover { systemd, unit, below })) => systemd.attach(unit, below, pid),
            _ => join(self.groups, self.init, pid),
        }
    }

    fn fork(&self, cgroup: Option<&OwnedFd>) -> Result<Side, Failed> {
        // A forerunner goes into what is there, and makes the rest for init.
        let namespaces = if self.forerunner.is_some() { 0 } else { self.namespaces };
        fork_into(&Birth { namespaces, cgroup: cgroup.map(AsFd::as_fd), sibling: self.births.is_some() })
    }

    /// The first failure is the one to tell: it is about the group that was asked for.
    fn fork_beside_init(&self, failed: Failed) -> Result<Side, Failed> {
        let Some(held) = beside(self.groups, self.init)? else { return Err(failed) };
        self.fork(held.unified_dir()?.as_ref()).map_err(|_| failed)
    }
}

/// Why it was not moved is what to tell; one that cannot be ended is an orphan that hears our end.
fn ended(process: &Pidfd, is_sibling: bool, failed: Failed) -> Result<(), Failed> {
    Err(match end(process, is_sibling) {
        Ok(()) => failed,
        Err(second) => failed.while_doing(&format!("{second}; before that")),
    })
}

/// Whether a cgroup is one that no process may be in: it hands controllers on (`EBUSY`), is or is below a threaded one
/// (`EOPNOTSUPP`), or was left to init's own rule (`EACCES`).
fn takes_nobody(failed: &Failed) -> bool {
    matches!(failed.errno(), Some(Errno::BUSY | Errno::OPNOTSUPP | Errno::ACCESS))
}

/// The group below the container's that its init has gone to.
fn beside(groups: &Cgroup, init: Option<i32>) -> Result<Option<Cgroup>, Failed> {
    init.map_or(Ok(None), |init| groups.holding(init))
}

/// Moves the child, as the last way.
fn join(groups: &Cgroup, init: Option<i32>, pid: i32) -> Result<(), Failed> {
    match groups.join_unified(pid) {
        Err(failed) if takes_nobody(&failed) => match beside(groups, init)? {
            Some(held) => held.join_unified(pid).map_err(|_| failed),
            None => Err(failed),
        },
        joined => joined,
    }
}

/// Whom a forerunner has borne, once it is gone itself.
fn borne_by(forerunner: &Pidfd, is_sibling: bool, line: &Parent) -> Result<(i32, Pidfd), Failed> {
    let borne = match line.listen_and_take()? {
        Word::Bore(pid, process) => Ok((pid, process)),
        Word::Failed(why) => Err(Failed::refused(why)),
        _ => Err(Failed::refused("what should bear init was killed before it had")),
    };
    let gone = if is_sibling { forerunner.wait_exit(None).map(drop) } else { forerunner.reap().map(drop) };
    match gone {
        Ok(()) => borne,
        Err(second) => borne.and(Err(second)),
    }
}

impl Born {
    /// Kills it, and waits for its end.
    pub(crate) fn end(&self) -> Result<(), Failed> {
        end(&self.process, self.is_sibling)
    }

    /// Waits until its mounts are made and it waits for us.
    pub(crate) fn meet(&self, signals: Option<&SignalFd>, died: impl FnOnce() -> Error) -> Result<(), Error> {
        match self.listen(signals)? {
            Word::Met => Ok(()),
            word => Err(unexpected(word, died)),
        }
    }

    /// Waits until it asks for what we alone can do, and hands it over.
    pub(crate) fn hand(
        &self,
        provide: impl FnOnce() -> Result<Vec<OwnedFd>, Failed>,
        died: impl FnOnce() -> Error,
    ) -> Result<(), Error> {
        match self.line.listen()? {
            Word::Waits => Ok(self.line.hand(&provide()?)?),
            word => Err(unexpected(word, died)),
        }
    }

    /// Waits until it is filtered: the listener, for the agent that it waits for.
    pub(crate) fn listener(
        &self,
        signals: Option<&SignalFd>,
        died: impl FnOnce() -> Error,
    ) -> Result<OwnedFd, Error> {
        self.wait(signals)?;
        match self.line.listen_and_take()? {
            Word::Filtered(Listener::Sent(listener)) => Ok(listener),
            Word::Filtered(Listener::Told(number)) => Ok(self.process.take_fd(number)?),
            word => Err(unexpected(word, died)),
        }
    }

    /// Its next word.
    fn listen(&self, signals: Option<&SignalFd>) -> Result<Word, Failed> {
        self.wait(signals)?;
        self.line.listen()
    }

    /// Waits until it says something, where there is somebody else to listen to meanwhile: it may be running hooks, or an
    /// agent be asked about its calls, for which nobody has to wait. Who is tired of it ends us.
    fn wait(&self, signals: Option<&SignalFd>) -> Result<(), Failed> {
        if let Some(signals) = signals {
            let mut fds = [PollFd::new(&self.line, PollFlags::IN), PollFd::new(signals, PollFlags::IN)];
            loop {
                match poll(&mut fds, None) {
                    Err(Errno::INTR) => {}
                    polled => break polled.map(drop).called(|| "poll(report)")?,
                }
            }
            let [line, _] = &fds;
            if line.revents().is_empty() {
                return Err(Failed::refused(format!("ended by signal {}", signals.next_signal()?)));
            }
        }
        Ok(())
    }

    /// Waits until all is in place but the program; what was not done the first way. Death without a word is the
    /// caller's to explain.
    pub(crate) fn ready(
        &self,
        signals: Option<&SignalFd>,
        died: impl FnOnce() -> Error,
    ) -> Result<Vec<String>, Error> {
        match self.listen(signals)? {
            Word::Ready(ways) => Ok(ways.into_iter().map(|way| format!("done by {way}")).collect()),
            word => Err(unexpected(word, died)),
        }
    }

    /// Lets it go on, to the gate or from a meeting.
    pub(crate) fn release(&self) -> Result<(), Failed> {
        self.line.go()
    }

    /// Lets it become the program: the next word is why it is not, or silence once it is.
    pub(crate) fn execute(&self, signals: Option<&SignalFd>) -> Result<(), Error> {
        self.line.go()?;
        match self.listen(signals)? {
            Word::Closed => Ok(()),
            Word::Failed(why) => Err(Error::new(Kind::Program, why)),
            word => Err(unplanned(&word)),
        }
    }
}

/// Why the word that was waited for did not come: a step failed, it was killed, or it says something else.
fn unexpected(word: Word, died: impl FnOnce() -> Error) -> Error {
    match word {
        Word::Failed(why) => Error::new(Kind::Kernel(None), why),
        Word::Closed => died(),
        word => unplanned(&word),
    }
}

/// It says what its plan does not have at this place.
fn unplanned(word: &Word) -> Error {
    Failed::refused(format!("the process goes another way than planned: {word:?}")).into()
}
