//! The line between the child and its parent: one report up, one word down.

use std::borrow::Cow;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use plan::{Agent, Discard, Handover};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{DupFlags, dup3};
use rustix::io::{read, write};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv, recvmsg, sendmsg, socketpair,
};
use sys::{Called, Errno, Failed, Pidfd};

/// The child's end.
#[derive(Debug)]
pub struct Report(OwnedFd);

/// The parent's end.
#[derive(Debug)]
pub struct Parent {
    line: OwnedFd,
}

impl AsRawFd for Report {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for Parent {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.line.as_fd()
    }
}

impl From<Report> for OwnedFd {
    fn from(report: Report) -> Self {
        report.0
    }
}

/// What the child says.
#[derive(Debug)]
pub enum Word {
    /// A forerunner says whom it has borne: its number, and itself.
    Bore(i32, Pidfd),
    /// The mounts are made; it waits for what its parent has to do with them.
    Met,
    /// It is filtered, and waits until the agent that answers for it has been reached.
    Filtered(Listener),
    /// All is in place; what was done by a second way.
    Ready(Vec<String>),
    /// It waits for what its parent alone can do: [`Parent::hand`].
    Waits,
    /// A step failed: why.
    Failed(String),
    /// The line is closed: the child became the program, or is no more.
    Closed,
}

/// At which an agent hears and answers calls.
#[derive(Debug)]
pub enum Listener {
    /// The child sent it.
    Sent(OwnedFd),
    /// The child has it open under this number.
    Told(i32),
}

const MET: u8 = b'm';
const FILTERED: u8 = b'l';
const READY: u8 = b'r';
const FAILED: u8 = b'f';
const WAITS: u8 = b'w';
const BORE: u8 = b'b';
const GO: &[u8] = b"g";
const MORE: &[u8] = b"h";

/// Descriptors in one message; the kernel takes 253.
const AT_ONCE: usize = 64;

/// Longer words than these are cut.
const WORDS: usize = 8192;

impl Report {
    /// Both ends, to be made before the child is born. As long as the parent's end is open in the child too, the
    /// parent's death is not heard: `Inherited::keep_only` sees to that.
    pub fn pair() -> Result<(Self, Parent), Failed> {
        let (child, parent) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .called(|| "socketpair(AF_UNIX)")?;
        Ok((Self(child), Parent { line: parent }))
    }

    /// Fails if the parent is gone already.
    pub(crate) fn parent_lives(&self) -> Result<(), Failed> {
        let mut nothing = [0u8; 1];
        match recv(&self.0, &mut nothing[..], RecvFlags::DONTWAIT | RecvFlags::PEEK) {
            Err(Errno::AGAIN) => Ok(()),
            // It has said something already, which does not tell whether it has gone since.
            Ok((1, _)) if !self.has_hung_up()? => Ok(()),
            _ => Err(Failed::refused("the parent is gone")),
        }
    }

    fn has_hung_up(&self) -> Result<bool, Failed> {
        let mut line = [PollFd::new(&self.0, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut line, Some(&now)).called(|| "poll(report)")?;
        let [line] = &line;
        Ok(line.revents().contains(PollFlags::HUP))
    }

    /// Says that the mounts are made and waits for the parent's word; fails if the parent is gone.
    pub(crate) fn meet(&self) -> Result<(), Failed> {
        self.say_and_wait(&[MET])
    }

    /// Says that all is in place and waits for the parent's word; fails if the parent is gone.
    pub(crate) fn ready(&self, fallbacks: &[&'static str]) -> Result<(), Failed> {
        let mut words = vec![READY];
        words.extend_from_slice(fallbacks.join("\n").as_bytes());
        self.say_and_wait(&words)
    }

    fn say_and_wait(&self, words: &[u8]) -> Result<(), Failed> {
        write(&self.0, words).called(|| "write(report)")?;
        self.pause()
    }

    /// Waits for the parent's word without having said anything; fails if the parent is gone.
    pub(crate) fn pause(&self) -> Result<(), Failed> {
        let mut word = [0u8; 1];
        loop {
            match read(&self.0, &mut word) {
                Err(Errno::INTR) => {}
                Ok(1) => return Ok(()),
                Ok(_) | Err(Errno::CONNRESET) => return Err(Failed::refused("the parent is gone")),
                Err(errno) => return Err(Failed::call("read(report)", errno)),
            }
        }
    }

    /// Hands over the listener of the filter that has just been loaded, and waits until the agent has it; fails if the
    /// parent is gone. The plan says how: by calls that this filter lets pass. What comes after the hand-over the agent
    /// may be asked about, and it can answer.
    ///
    /// Our own copy goes: the kernel tells that an agent is no more by that nobody has the listener open.
    pub(crate) fn filtered(&self, listener: OwnedFd, agent: &Agent) -> Result<(), Failed> {
        match agent.handover {
            Handover::Send => {
                send(&self.0, &[FILTERED], &[listener.as_fd()])?;
                self.discard(listener, agent.discard)?;
                self.pause()
            }
            Handover::Tell => {
                let mut words = vec![FILTERED];
                words.extend_from_slice(listener.as_raw_fd().to_string().as_bytes());
                self.say_and_wait(&words)?;
                self.discard(listener, agent.discard)
            }
        }
    }

    fn discard(&self, mut listener: OwnedFd, how: Discard) -> Result<(), Failed> {
        if how == Discard::Replace {
            dup3(&self.0, &mut listener, DupFlags::CLOEXEC).called(|| "dup3(report)")?;
            // It is one more end of the line now, and goes with that one.
            std::mem::forget(listener);
        }
        Ok(())
    }

    /// Asks the parent for what it alone can do, and waits: the descriptors that it hands over.
    pub(crate) fn wait(&self) -> Result<Vec<OwnedFd>, Failed> {
        write(&self.0, &[WAITS]).called(|| "write(report)")?;
        let mut handles = Vec::new();
        loop {
            let mut word = [0u8; 1];
            let length = receive(&self.0, &mut word, &mut handles)?;
            match word.get(..length) {
                Some(MORE) => {}
                Some(GO) => return Ok(handles),
                _ => return Err(Failed::refused("the parent is gone")),
            }
        }
    }

    /// Says whom a forerunner has borne.
    pub(crate) fn bore(&self, pid: i32, process: &Pidfd) -> Result<(), Failed> {
        let mut words = vec![BORE];
        words.extend_from_slice(pid.to_string().as_bytes());
        send(&self.0, &words, &[process.as_fd()])
    }

    /// Says why there will be no program. Nobody may be left to hear it, and then there is nobody to tell that either.
    pub(crate) fn failed(&self, failed: &Failed) {
        let mut words = vec![FAILED];
        words.extend_from_slice(shortened(&failed.to_string(), WORDS - 1).as_bytes());
        let _unheard = write(&self.0, &words);
    }
}

/// The same, over the line to `start`; it may have been killed.
pub(crate) fn tell_start(line: &OwnedFd, failed: &Failed) {
    let _unheard = write(line, shortened(&failed.to_string(), 4096).as_bytes());
}

/// At most so many bytes of a text: where a path of thousands makes it longer, the middle goes, and who reads it still
/// learns what was wished for and what the kernel said.
fn shortened(text: &str, most: usize) -> Cow<'_, str> {
    const GAP: &str = " … ";
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    let half = most.saturating_sub(GAP.len()) / 2;
    let (first, _) = text.split_at(text.floor_char_boundary(half));
    let (_, last) = text.split_at(text.ceil_char_boundary(text.len() - half));
    Cow::Owned([first, GAP, last].concat())
}

impl Parent {
    /// Waits for the child's next word.
    pub fn listen(&self) -> Result<Word, Failed> {
        let mut words = vec![0u8; WORDS];
        let length = loop {
            match read(&self.line, words.as_mut_slice()) {
                // It went without having read ours, as one does whose read(2) its filter forbids: said once, before what it
                // may have written.
                Err(Errno::INTR | Errno::CONNRESET) => {}
                read => break read.called(|| "read(report)")?,
            }
        };
        Ok(understood(words.get(..length).unwrap_or_default(), Vec::new()))
    }

    /// The same where a descriptor may come with it: from a forerunner the process that it has borne, from a child the
    /// listener of its filter.
    pub fn listen_and_take(&self) -> Result<Word, Failed> {
        let (mut words, mut handles) = (vec![0u8; WORDS], Vec::new());
        let length = receive(&self.line, &mut words, &mut handles)?;
        Ok(understood(words.get(..length).unwrap_or_default(), handles))
    }

    /// Hands descriptors to a child that waits for them, in their order, and lets it go on.
    pub fn hand(&self, handles: &[OwnedFd]) -> Result<(), Failed> {
        for some in handles.chunks(AT_ONCE) {
            let some: Vec<BorrowedFd<'_>> = some.iter().map(AsFd::as_fd).collect();
            send(&self.line, MORE, &some).map_err(|failed| self.unheard(failed))?;
        }
        self.go()
    }

    /// Lets the child go on.
    pub fn go(&self) -> Result<(), Failed> {
        write(&self.line, GO).map(drop).called(|| "write(report)").map_err(|failed| self.unheard(failed))
    }

    /// Why the child did not hear us: if it is gone, what it said before that, if it said anything.
    fn unheard(&self, failed: Failed) -> Failed {
        match failed.errno() {
            Some(Errno::PIPE) => match self.listen() {
                Ok(Word::Failed(why)) => Failed::refused(why),
                _ => failed,
            },
            _ => failed,
        }
    }
}

fn understood(words: &[u8], handles: Vec<OwnedFd>) -> Word {
    let Some((first, rest)) = words.split_first() else { return Word::Closed };
    let text = String::from_utf8_lossy(rest).into_owned();
    match (*first, handles.into_iter().next()) {
        (MET, _) => Word::Met,
        (WAITS, _) => Word::Waits,
        (FILTERED, Some(listener)) => Word::Filtered(Listener::Sent(listener)),
        (FILTERED, None) => match text.parse() {
            Ok(number) => Word::Filtered(Listener::Told(number)),
            Err(_) => Word::Failed(format!("a listener of number {text:?}")),
        },
        (READY, _) => Word::Ready(text.lines().map(str::to_owned).collect()),
        (BORE, Some(process)) => match text.parse() {
            Ok(pid) => Word::Bore(pid, Pidfd::from(process)),
            Err(_) => Word::Failed(format!("a forerunner bore {text:?}")),
        },
        _ => Word::Failed(text),
    }
}

fn send(line: &OwnedFd, words: &[u8], handles: &[BorrowedFd<'_>]) -> Result<(), Failed> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(handles)) {
        return Err(Failed::refused("more descriptors than one message holds"));
    }
    sendmsg(line, &[IoSlice::new(words)], &mut ancillary, SendFlags::NOSIGNAL)
        .map(drop)
        .called(|| "sendmsg(report)")
}

/// One message, and the descriptors that came with it; no bytes once the other end is gone.
fn receive(line: &OwnedFd, words: &mut [u8], handles: &mut Vec<OwnedFd>) -> Result<usize, Failed> {
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(line, &mut [IoSliceMut::new(words)], &mut ancillary, RecvFlags::CMSG_CLOEXEC);
        let length = match received {
            Err(Errno::INTR | Errno::CONNRESET) => continue,
            received => received.called(|| "recvmsg(report)")?.bytes,
        };
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                handles.extend(rights);
            }
        }
        return Ok(length);
    }
}

#[cfg(test)]
mod tests {
    use super::shortened;

    #[test]
    fn what_is_too_long_loses_its_middle() {
        assert_eq!(shortened("open: no", 8), "open: no");
        assert_eq!(shortened("mount proc on /proc: no such file", 21), "mount pr … uch file");
        for most in 0..40 {
            let text = shortened("é日é日é日é日é日é日é日é日", most);
            assert!(text.len() <= most.max(5), "{most}: {text}");
        }
    }
}
