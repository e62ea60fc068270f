//! A worker: a fork of ours that does one thing, and says what came of it.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use container::Door;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketFlags, SocketType,
    recvmsg, send, socketpair,
};
use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};
use sys::{Called, Doing, Errno, Failed, Mask, Newborn, Pidfd, SIGKILL, Side, receive_fd, restore_mask};

use crate::task::Streams;
use crate::{Error, Kind};

/// Work under way. It goes on when this is let go of, but not when we end. Its descriptor can be read once [`Work::hear`]
/// has something.
#[derive(Debug)]
pub struct Work {
    worker: Pidfd,
    line: OwnedFd,
    console: Option<OwnedFd>,
}

/// What a worker says.
#[derive(Debug)]
pub enum Word {
    /// A child of ours was born: its number, for printing, and itself. It does not run its program yet.
    Born(i32, Pidfd),
    /// What it has to tell on its way.
    Told(String),
    /// All was done; what was not done as asked.
    Done(Vec<String>),
    /// It was not done, and what had been done was taken back.
    Failed(Error),
    /// It says nothing more, and has not said its last word: it was killed. Where it was to execute a program in the end, it has.
    Gone(Error),
}

/// The worker's side.
#[derive(Debug)]
pub struct Bench {
    line: OwnedFd,
    console: Option<OwnedFd>,
}

const DONE: char = 'd';
const FAILED: char = 'f';
const TOLD: char = 't';

/// The longest word. What is longer is cut.
const WORD: usize = 16 << 10;

impl Work {
    /// Forks a worker for something of the caller's own that may block. It keeps the standard streams and the descriptors
    /// that are told, and nothing else of ours; its signal mask is `mask`. It works on a copy of all that we have in memory:
    /// a value whose going removes a file removes it for us too.
    pub fn run(
        mask: &Mask,
        kept: &[BorrowedFd<'_>],
        act: impl FnOnce(&mut Bench) -> Result<Vec<String>, Error>,
    ) -> Result<Self, Error> {
        Self::fork(&Streams::default(), kept, false, mask, |bench| {
            act(bench).map(|warnings| (warnings, || Ok(())))
        })
    }

    /// The same, with something to do after it was said that all is done: nobody waits for that, or hears what came of it.
    /// It may be ended at any time ([`Work::end`]).
    pub fn run_then<A: FnOnce() -> Result<(), Failed>>(
        mask: &Mask,
        kept: &[BorrowedFd<'_>],
        act: impl FnOnce(&mut Bench) -> Result<(Vec<String>, A), Error>,
    ) -> Result<Self, Error> {
        Self::fork(&Streams::default(), kept, false, mask, act)
    }

    /// Forks a worker. It gets the standard streams that are told, and nothing else of ours; its signal mask is `mask`, and
    /// whoever it bears gets that one too. Nobody need reap it in particular.
    pub(crate) fn begin(
        streams: &Streams<'_>,
        has_console: bool,
        mask: &Mask,
        act: impl FnOnce(&mut Bench) -> Result<Vec<String>, Error>,
    ) -> Result<Self, Error> {
        Self::fork(streams, &[], has_console, mask, |bench| act(bench).map(|warnings| (warnings, || Ok(()))))
    }

    fn fork<A: FnOnce() -> Result<(), Failed>>(
        streams: &Streams<'_>,
        kept: &[BorrowedFd<'_>],
        has_console: bool,
        mask: &Mask,
        act: impl FnOnce(&mut Bench) -> Result<(Vec<String>, A), Error>,
    ) -> Result<Self, Error> {
        let (line, theirs) = pair(SocketType::SEQPACKET)?;
        let (console, terminal) = match has_console.then(|| pair(SocketType::STREAM)).transpose()? {
            Some((ours, theirs)) => (Some(ours), Some(theirs)),
            None => (None, None),
        };
        rustix::io::ioctl_fionbio(&line, true).called(|| "ioctl(FIONBIO)")?;
        let parent = getpid();
        match sys::fork().doing(|| "fork a worker")? {
            Side::Child(newborn) => {
                let mut bench = Bench { line: theirs, console: terminal };
                let outcome = bench.settle(&newborn, parent, streams, kept, mask).map_err(Error::from);
                let (outcome, after) = match outcome.and_then(|()| act(&mut bench)) {
                    Ok((warnings, after)) => (Ok(warnings), Some(after)),
                    Err(error) => (Err(error), None),
                };
                let is_heard = bench.say(outcome).is_ok();
                let is_done = after.filter(|_| is_heard).is_none_or(|after| after().is_ok());
                sys::leave(u8::from(!is_heard || !is_done))
            }
            Side::Parent(_, worker) => Ok(Self { worker, line, console }),
        }
    }

    /// Its next word; none where it has not said one yet. A worker that went without its last word was killed.
    pub fn hear(&self) -> Result<Option<Word>, Error> {
        let mut words = vec![0; WORD + 1];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let buffer = &mut [IoSliceMut::new(&mut words)];
            match recvmsg(&self.line, buffer, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::CONNRESET) => break 0,
                received => break received.called(|| "recvmsg(worker)")?.bytes,
            }
        };
        let process = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
            _ => None,
        });
        let text = String::from_utf8_lossy(words.get(..received).unwrap_or_default());
        let mut letters = text.chars();
        Ok(Some(match (process, letters.next()) {
            (Some(process), _) => Word::Born(text.parse().unwrap_or(0), Pidfd::from(process)),
            (None, Some(TOLD)) => Word::Told(letters.as_str().to_owned()),
            (None, Some(DONE)) => Word::Done(letters.as_str().lines().map(str::to_owned).collect()),
            (None, Some(FAILED)) => Word::Failed(Error::heard(letters.as_str())),
            (None, _) => Word::Gone(Error::new(Kind::Other, "the worker was killed before it was done")),
        }))
    }

    /// Ends it in the middle of whatever it does. The hook that it may be running goes with it; what it has made stays, for
    /// [`crate::Task::delete`].
    pub fn end(&self) {
        // Who has come to his end is as good as killed.
        let _ended = self.worker.signal(SIGKILL);
    }

    /// The worker itself.
    pub fn process(&self) -> &Pidfd {
        &self.worker
    }

    /// The master end of the terminal that was asked for, once the work is done.
    pub fn console(&self) -> Result<OwnedFd, Error> {
        let line = self.console.as_ref();
        let line = line.ok_or_else(|| Error::new(Kind::Other, "no terminal was asked for"))?;
        Ok(receive_fd(line.as_fd()).doing(|| "receive the master end")?)
    }
}

impl AsFd for Work {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.line.as_fd()
    }
}

impl AsRawFd for Work {
    fn as_raw_fd(&self) -> i32 {
        self.line.as_raw_fd()
    }
}

impl Bench {
    /// Keeps what is told, and nothing else of the one that it was forked from.
    fn settle(
        &mut self,
        newborn: &Newborn,
        parent: Pid,
        streams: &Streams<'_>,
        others: &[BorrowedFd<'_>],
        mask: &Mask,
    ) -> Result<(), Failed> {
        // Whoever takes away what we have left, waits for the lock that a worker holds.
        set_parent_process_death_signal(Some(Signal::KILL)).called(|| "prctl(PR_SET_PDEATHSIG)")?;
        if getppid() != Some(parent) {
            return Err(Failed::refused("whom it works for is no more"));
        }
        streams.take()?;
        if streams.more.is_empty() {
            let kept = self.console.iter().map(AsRawFd::as_raw_fd).chain([self.line.as_raw_fd()]);
            let others = others.iter().map(AsRawFd::as_raw_fd);
            let mut kept: Vec<u32> = kept.chain(others).map(i32::cast_unsigned).collect();
            newborn.keep(3, &mut kept)?;
        } else {
            self.place(newborn, streams.more)?;
        }
        restore_mask(mask)
    }

    /// Puts the program's descriptors where it will find them.
    fn place(&mut self, newborn: &Newborn, more: &[BorrowedFd<'_>]) -> Result<(), Failed> {
        let above = i32::try_from(3 + more.len()).map_err(|_| Errno::INVAL).called(|| "dup2()")?;
        // Out of their way.
        let line = rustix::io::fcntl_dupfd_cloexec(&self.line, above).called(|| "fcntl(F_DUPFD_CLOEXEC)")?;
        newborn.place(3, more, &line)?;
        // Its old number is another's by now, or nobody's.
        std::mem::forget(std::mem::replace(&mut self.line, line));
        Ok(())
    }

    /// Tells something on the way. What is too long is cut.
    pub fn tell(&self, word: &str) -> Result<(), Error> {
        Ok(self.send(format!("{TOLD}{word}"))?)
    }

    /// What a worker's births are told over.
    pub(crate) fn door(&mut self) -> Result<Door, Failed> {
        let births = rustix::io::fcntl_dupfd_cloexec(&self.line, 3).called(|| "fcntl(F_DUPFD_CLOEXEC)")?;
        Ok(Door { births, console: self.console.take() })
    }

    fn say(&self, outcome: Result<Vec<String>, Error>) -> Result<(), Failed> {
        self.send(match outcome {
            Ok(warnings) => format!("{DONE}{}", warnings.join("\n")),
            Err(error) => format!("{FAILED}{}", error.said()),
        })
    }

    fn send(&self, mut word: String) -> Result<(), Failed> {
        word.truncate(word.floor_char_boundary(WORD));
        send(&self.line, word.as_bytes(), SendFlags::NOSIGNAL).map(drop).called(|| "send(worker)")
    }
}

fn pair(kind: SocketType) -> Result<(OwnedFd, OwnedFd), Failed> {
    socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).called(|| "socketpair(AF_UNIX)")
}
