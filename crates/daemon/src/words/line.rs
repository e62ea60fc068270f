//! The line: words as packets of a socket, with descriptors.
//!
//! A word is JSON, cut into packets. The first byte of each says whether more of the same word follow; descriptors come
//! with the first.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sys::{Called as _, Errno, Failed};

use super::Numbered;

/// The longest word of the talker's, in bytes of JSON: a client's request is shorter.
pub const LARGEST_WORD: usize = 8 << 20;
/// The longest of the guard's: a manifest has a megabyte at most, and six bytes of JSON for each of its bytes at worst.
pub const LARGEST_TOLD: usize = 8 << 20;
/// How many descriptors come with a word at most.
pub const MOST_DESCRIPTORS: usize = 3;

/// What of a word is in one packet; the kernel's own limit is some 200 KiB.
const PIECE: usize = 64 << 10;
const MORE: u8 = b'+';
const LAST: u8 = b'.';
/// Packets that wait to be sent. Who has let this many pile up does not listen.
const MOST_WAITING: usize = 4096;

/// One end of the socket between the halves. It never waits: what cannot be sent now is kept for [`Line::flush`].
#[derive(Debug)]
pub struct Line {
    socket: OwnedFd,
    coming: Assembly,
    with: Vec<OwnedFd>,
    going: VecDeque<Packet>,
}

#[derive(Debug)]
struct Packet {
    bytes: Vec<u8>,
    with: Vec<OwnedFd>,
}

/// What came over the line.
#[derive(Debug)]
pub enum Heard<T> {
    /// A word, and what came with it.
    Word(Numbered<T>, Vec<OwnedFd>),
    /// Nothing yet.
    Nothing,
    /// The other half is gone.
    End,
}

impl Line {
    /// Both ends: the guard's, and the talker's.
    pub fn pair() -> Result<(Self, OwnedFd), Failed> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .called(|| "socketpair(AF_UNIX, SOCK_SEQPACKET)")?;
        Ok((Self::of(ours, LARGEST_WORD)?, theirs))
    }

    /// One end; what is heard over it has at most `largest` bytes.
    pub fn of(socket: OwnedFd, largest: usize) -> Result<Self, Failed> {
        rustix::io::ioctl_fionbio(&socket, true).called(|| "ioctl(FIONBIO)")?;
        Ok(Self { socket, coming: Assembly::up_to(largest), with: Vec::new(), going: VecDeque::new() })
    }

    /// Says something, or keeps it until there is room for it.
    ///
    /// `EPIPE` or `ECONNRESET` where nobody is there any more; an error without a number where nobody has listened for
    /// long, or too many descriptors were to come along.
    pub fn say<T: Serialize>(&mut self, number: u64, what: &T, with: Vec<OwnedFd>) -> Result<(), Failed> {
        #[derive(Serialize)]
        struct Said<'a, T> {
            number: u64,
            what: &'a T,
        }
        if with.len() > MOST_DESCRIPTORS {
            return Err(Failed::refused(format!("{} descriptors with a word", with.len())));
        }
        let bytes = serde_json::to_vec(&Said { number, what })
            .map_err(|error| Failed::refused(format!("write a word: {error}")))?;
        let mut with = Some(with);
        for bytes in packets(&bytes) {
            self.going.push_back(Packet { bytes, with: with.take().unwrap_or_default() });
        }
        self.flush()?;
        if self.going.len() > MOST_WAITING {
            return Err(Failed::refused("the other half does not listen"));
        }
        Ok(())
    }

    /// Sends what waits, as far as there is room.
    pub fn flush(&mut self) -> Result<(), Failed> {
        while let Some(packet) = self.going.front() {
            match packet.send(self.socket.as_fd()) {
                Ok(()) => drop(self.going.pop_front()),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(errno) => return Err(Failed::call("sendmsg(line)", errno)),
            }
        }
        Ok(())
    }

    /// Whether something waits to be sent: then the socket's becoming writable is worth waiting for.
    pub fn is_full(&self) -> bool {
        !self.going.is_empty()
    }

    /// The next word. What cannot be a word is an error, and the line is of no more use after it.
    pub fn hear<T: DeserializeOwned>(&mut self) -> Result<Heard<T>, Failed> {
        let mut packet = vec![0; PIECE + 1];
        loop {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
            let buffer = &mut [IoSliceMut::new(&mut packet)];
            let received = match recvmsg(&self.socket, buffer, &mut ancillary, flags) {
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return Ok(Heard::Nothing),
                Err(Errno::CONNRESET) => return Ok(Heard::End),
                received => received.called(|| "recvmsg(line)")?,
            };
            for message in ancillary.drain() {
                if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                    self.with.extend(descriptors);
                }
            }
            if received.bytes == 0 {
                return Ok(Heard::End);
            }
            if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
                || self.with.len() > MOST_DESCRIPTORS
            {
                return Err(Failed::refused("a packet with more than belongs into one"));
            }
            let piece = packet.get(..received.bytes).unwrap_or_default();
            if let Some(whole) = self.coming.push(piece)? {
                return Ok(Heard::Word(read(&whole)?, std::mem::take(&mut self.with)));
            }
        }
    }
}

impl Packet {
    fn send(&self, socket: BorrowedFd<'_>) -> Result<(), Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let with: Vec<BorrowedFd<'_>> = self.with.iter().map(AsFd::as_fd).collect();
        if !with.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&with)) {
            return Err(Errno::TOOMANYREFS);
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        sendmsg(socket, &[IoSlice::new(&self.bytes)], &mut ancillary, flags).map(drop)
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Line {
    fn as_raw_fd(&self) -> i32 {
        self.socket.as_raw_fd()
    }
}

/// A word from its bytes.
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<Numbered<T>, Failed> {
    serde_json::from_slice(bytes).map_err(|error| Failed::refused(format!("read a word: {error}")))
}

/// A word's bytes as packets.
pub fn packets(bytes: &[u8]) -> Vec<Vec<u8>> {
    let pieces: Vec<&[u8]> = bytes.chunks(PIECE).collect();
    let last = pieces.len().saturating_sub(1);
    let packet = |(at, piece): (usize, &&[u8])| {
        let mut packet = Vec::with_capacity(piece.len() + 1);
        packet.push(if at == last { LAST } else { MORE });
        packet.extend_from_slice(piece);
        packet
    };
    pieces.iter().enumerate().map(packet).collect()
}

/// Packets on their way to become a word.
#[derive(Debug)]
pub struct Assembly {
    bytes: Vec<u8>,
    largest: usize,
}

impl Assembly {
    /// Of words that have at most `largest` bytes.
    pub fn up_to(largest: usize) -> Self {
        Self { bytes: Vec::new(), largest }
    }

    /// Adds a packet; the whole word's bytes with its last.
    pub fn push(&mut self, packet: &[u8]) -> Result<Option<Vec<u8>>, Failed> {
        let Some((&mark, piece)) = packet.split_first() else {
            return Err(Failed::refused("an empty packet"));
        };
        if self.bytes.len() + piece.len() > self.largest {
            return Err(Failed::refused(format!("a word of more than {} bytes", self.largest)));
        }
        self.bytes.extend_from_slice(piece);
        match mark {
            LAST => Ok(Some(std::mem::take(&mut self.bytes))),
            MORE if !piece.is_empty() => Ok(None),
            _ => Err(Failed::refused("a packet that is no part of a word")),
        }
    }
}

#[cfg(test)]
#[allow(clippy::panic, reason = "a test fails by panicking")]
mod tests {
    use super::super::{Status, Told, Word};
    use super::*;

    #[test]
    fn a_word_comes_as_it_went_with_what_it_brought() -> Result<(), Failed> {
        let (mut guard, theirs) = Line::pair()?;
        let mut talker = Line::of(theirs, LARGEST_TOLD)?;
        let descriptor = talker.as_fd().try_clone_to_owned().map_err(|_| Failed::refused("dup"))?;
        let word = Word::Install { repository: "default".to_owned(), size: 3 };
        talker.say(5, &word, vec![descriptor])?;
        talker.say(6, &Word::Survey, Vec::new())?;
        match guard.hear::<Word>()? {
            Heard::Word(Numbered { number: 5, what }, with) => assert_eq!((what, with.len()), (word, 1)),
            other => panic!("{other:?}"),
        }
        assert!(
            matches!(guard.hear::<Word>()?, Heard::Word(Numbered { number: 6, what: Word::Survey }, with) if with.is_empty())
        );
        assert!(matches!(guard.hear::<Word>()?, Heard::Nothing));
        drop(talker);
        assert!(matches!(guard.hear::<Word>()?, Heard::End));
        Ok(())
    }

    #[test]
    fn what_has_no_room_waits_in_order() -> Result<(), Failed> {
        let (mut guard, theirs) = Line::pair()?;
        let mut talker = Line::of(theirs, LARGEST_TOLD)?;
        let manifest = "x".repeat(1 << 20);
        for number in 1..=4 {
            guard.say(number, &Told::Statistics(manifest.clone().into()), Vec::new())?;
        }
        assert!(guard.is_full());
        guard.say(9, &Told::Exited { container: String::new(), status: Status::Signal(9) }, Vec::new())?;
        let mut numbers = Vec::new();
        while numbers.len() < 5 {
            guard.flush()?;
            match talker.hear::<Told>()? {
                Heard::Word(told, _) => numbers.push(told.number),
                Heard::Nothing => {}
                Heard::End => panic!("the guard is gone"),
            }
        }
        assert_eq!(numbers, [1, 2, 3, 4, 9]);
        Ok(())
    }

    #[test]
    fn pieces_make_the_whole() -> Result<(), Failed> {
        let bytes = vec![7; 3 * PIECE + 1];
        let mut assembly = Assembly::up_to(bytes.len());
        let packets = packets(&bytes);
        let (last, first) = packets.split_last().ok_or_else(|| Failed::refused("no packet"))?;
        for packet in first {
            assert_eq!(assembly.push(packet)?, None);
        }
        assert_eq!(assembly.push(last)?, Some(bytes));
        Ok(())
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        for packet in [&b""[..], b"x", b"+", b"+12345"] {
            assert!(Assembly::up_to(4).push(packet).is_err(), "{packet:?}");
        }
    }
}
