//! The notify socket: where the program says that it is ready (sd_notify(3)), in a directory that the container sees.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, chmodat, mkdirat, unlinkat};
use rustix::io::read;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};
use sys::{Called, Doing, Errno, Failed};

use crate::store::{Entry, NOTIFY, NOTIFY_SOCKET};

/// The end that hears.
#[derive(Debug)]
pub struct Notify(OwnedFd);

/// Longer words are cut: what matters is the first line of one.
const WORDS: usize = 4096;

impl Notify {
    /// Makes the directory, for the container to be shown.
    pub fn provide(entry: &Entry) -> Result<(), Failed> {
        mkdirat(entry.directory(), NOTIFY, Mode::from_raw_mode(0o755))
            .called(|| format!("mkdirat({NOTIFY:?})"))
            .doing(|| "make the directory of the notify socket")
    }

    /// Listens in the directory; none where there is no directory, and so nobody who could speak.
    pub fn listen(entry: &Entry) -> Result<Option<Self>, Failed> {
        let make = || {
            let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
                .called(|| "socket(AF_UNIX)")?;
            // A socket's name may have 107 bytes, and a state root more: the directory goes by its descriptor.
            let path = format!("/proc/self/fd/{}/{NOTIFY_SOCKET}", entry.directory().as_raw_fd());
            let address = SocketAddrUnix::new(path.as_str()).called(|| format!("sockaddr_un({path:?})"))?;
            let bound = match bind(&socket, &address) {
                // Whoever listened here before was killed.
                Err(Errno::ADDRINUSE) => {
                    unlinkat(entry.directory(), NOTIFY_SOCKET, AtFlags::empty())
                        .called(|| format!("unlinkat({NOTIFY_SOCKET:?})"))?;
                    bind(&socket, &address)
                }
                bound => bound,
            };
            match bound {
                Err(Errno::NOENT) => return Ok(None),
                bound => bound.called(|| "bind(notify)")?,
            }
            // Whoever the program runs as may speak.
            chmodat(entry.directory(), NOTIFY_SOCKET, Mode::from_raw_mode(0o777), AtFlags::empty())
                .called(|| format!("fchmodat({NOTIFY_SOCKET:?})"))?;
            Ok(Some(Self(socket)))
        };
        make().doing(|| "set up the notify socket")
    }

    /// Reads what was said; waits for it. The first line, if it says that the program is ready.
    pub fn hear(&self) -> Result<Option<String>, Failed> {
        let mut words = vec![0; WORDS];
        let length = loop {
            match read(&self.0, words.as_mut_slice()) {
                Err(Errno::INTR) => {}
                heard => break heard.called(|| "read(notify)")?,
            }
        };
        Ok(ready(words.get(..length).unwrap_or_default()))
    }
}

impl AsFd for Notify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The line that says "ready" at the beginning of what somebody inside said: nothing else of it goes any further.
pub fn ready(words: &[u8]) -> Option<String> {
    let line = words.split(|&byte| byte == b'\n').next()?;
    let line = std::str::from_utf8(line).ok()?;
    line.starts_with("READY=").then(|| line.to_owned()).filter(|line| !line.contains(char::is_control))
}

#[cfg(test)]
mod tests {
    use super::ready;

    #[test]
    fn only_the_first_line_is_heard() {
        assert_eq!(ready(b"READY=1").as_deref(), Some("READY=1"));
        assert_eq!(ready(b"READY=1\nMAINPID=1\n").as_deref(), Some("READY=1"));
        for said in [&b""[..], b"\nREADY=1", b"STATUS=x\nREADY=1", b"XREADY=1", b"READY=\0", b"READY=\xff"] {
            assert_eq!(ready(said), None, "{said:?}");
        }
    }
}
