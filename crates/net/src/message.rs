//! Messages of rtnetlink(7), as bytes.

use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};
use sys::{Called, Errno, Failed};

pub(crate) const NEWLINK: u16 = 16;
pub(crate) const GETLINK: u16 = 18;
pub(crate) const NEWADDR: u16 = 20;
pub(crate) const GETADDR: u16 = 22;

pub(crate) const EXCL: u16 = 0x200;
pub(crate) const CREATE: u16 = 0x400;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;

const ERROR: u16 = 2;
const DONE: u16 = 3;

/// struct nlmsghdr.
const HEADER: usize = 16;

/// One request.
#[derive(Debug)]
pub(crate) struct Message {
    kind: u16,
    bytes: Vec<u8>,
}

impl Message {
    /// A request that is answered by what it asks for, if anything, and by whether it was done.
    pub(crate) fn new(kind: u16, flags: u16, head: &[u8]) -> Self {
        Self::with(kind, flags | REQUEST | ACK, head)
    }

    /// A request for all there is.
    pub(crate) fn dump(kind: u16, head: &[u8]) -> Self {
        Self::with(kind, REQUEST | DUMP, head)
    }

    fn with(kind: u16, flags: u16, head: &[u8]) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        // A number to know the answer by, of which each line has one at a time, and who asks, which the kernel knows.
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(head);
        Self { kind, bytes }
    }

    /// One more thing that is said.
    pub(crate) fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn whole(&self) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        let mut bytes = self.bytes.clone();
        for (to, from) in bytes.iter_mut().zip(length.to_ne_bytes()) {
            *to = from;
        }
        bytes
    }

    fn told(&self) -> &'static str {
        match self.kind {
            NEWLINK => "rtnetlink(NEWLINK)",
            GETLINK => "rtnetlink(GETLINK)",
            NEWADDR => "rtnetlink(NEWADDR)",
            _ => "rtnetlink(GETADDR)",
        }
    }
}

/// A name as the kernel takes it.
pub(crate) fn text(name: &str) -> Vec<u8> {
    [name.as_bytes(), b"\0"].concat()
}

/// A socket in one network namespace, whichever the caller is in now.
#[derive(Debug)]
pub(crate) struct Line(OwnedFd);

impl Line {
    pub(crate) fn open() -> Result<Self, Failed> {
        socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)
            .map(Self)
            .called(|| "socket(AF_NETLINK)")
    }

    /// Asks, and hears all answers: each without its header.
    pub(crate) fn ask(&self, message: &Message) -> Result<Vec<Vec<u8>>, Failed> {
        send(&self.0, &message.whole(), SendFlags::empty()).called(|| message.told())?;
        let mut answers = Vec::new();
        // As large as the kernel's own pieces of a dump get.
        let mut piece = vec![0; 64 << 10];
        loop {
            let (length, _) = match recv(&self.0, piece.as_mut_slice(), RecvFlags::empty()) {
                Err(Errno::INTR) => continue,
                heard => heard.called(|| message.told())?,
            };
            if hear(piece.get(..length).unwrap_or_default(), &mut answers).called(|| message.told())? {
                return Ok(answers);
            }
        }
    }
}

/// Takes the answers out of one piece, and says whether it was the last one.
fn hear(mut piece: &[u8], answers: &mut Vec<Vec<u8>>) -> Result<bool, Errno> {
    while let Some((head, _)) = piece.split_at_checked(HEADER) {
        let number = |at: usize| head.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        let length = number(0).map_or(0, u32::from_ne_bytes);
        let kind = number(4).map_or(0, |bytes: [u8; 4]| u16::from_ne_bytes([bytes[0], bytes[1]]));
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let body = piece.get(HEADER..length).ok_or(Errno::BADMSG)?;
        match kind {
            DONE => return Ok(true),
            ERROR => {
                let answer = body.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
                return if answer == 0 { Ok(true) } else { Err(Errno::from_raw_os_error(-answer)) };
            }
            _ => answers.push(body.to_vec()),
        }
        piece = piece.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// What a message says after its head: kind and value.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let &[l0, l1, k0, k1] = bytes.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        // The two upper bits say how the value is written, not what it is.
        Some((u16::from_ne_bytes([k0, k1]) & 0x3fff, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut message = Message::new(NEWLINK, 0, &[7; 16]);
        message.attribute(3, &text("eth0"));
        message.attribute(28, &5_i32.to_ne_bytes());
        let bytes = message.whole();
        assert_eq!(bytes.len() % 4, 0);
        let mut answers = Vec::new();
        assert_eq!(hear(&bytes, &mut answers), Ok(false));
        let body = answers.first().map(Vec::as_slice).unwrap_or_default();
        assert_eq!(body.get(..16), Some(&[7; 16][..]));
        let said: Vec<_> = attributes(body.get(16..).unwrap_or_default()).collect();
        assert_eq!(said, [(3, &b"eth0\0"[..]), (28, &5_i32.to_ne_bytes()[..])]);
    }

    #[test]
    fn an_error_is_the_kernels_number_and_garbage_is_told() {
        let error = |number: i32| {
            let mut bytes = vec![20, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            bytes.extend_from_slice(&number.to_ne_bytes());
            bytes
        };
        assert_eq!(hear(&error(0), &mut Vec::new()), Ok(true));
        assert_eq!(hear(&error(-17), &mut Vec::new()), Err(Errno::EXIST));
        for garbage in [&[255; 16][..], &[0; 16], &[15, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(hear(garbage, &mut Vec::new()), Err(Errno::BADMSG));
        }
        assert_eq!(attributes(&[3, 0, 1, 0]).count(), 0);
        assert_eq!(attributes(&[9, 0, 1, 0, 1]).count(), 0);
    }
}
