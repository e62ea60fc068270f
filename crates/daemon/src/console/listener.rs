//! Where clients come in.

use std::fs;
use std::io;
use std::net::ToSocketAddrs as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FileType, Mode, OFlags, chmod, fstat, open};
use rustix::io::ioctl_fionbio;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, listen, socket_with, sockopt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::time::sleep;
use wire::Address;

use super::call::Peer;
use super::{Console, Rules};
use crate::race::first;

/// After an error that may last: no event tells that there is room for one more descriptor again.
const BACK_OFF: Duration = Duration::from_millis(100);

/// A socket that clients connect to.
#[derive(Debug)]
pub enum Listener {
    /// By TCP.
    Tcp(TcpListener),
    /// By a Unix socket.
    Unix(UnixListener),
}

/// Opens a console's socket; for whoever may, before anybody is served.
///
/// A Unix socket has this mode before anybody can connect to it. One that is left of who listened there before is taken
/// away; any other file is not.
pub fn bind(address: &Address, mode: u32) -> io::Result<OwnedFd> {
    match address {
        Address::Tcp { host, port } => {
            let mut addresses = (host.as_str(), *port).to_socket_addrs()?;
            let first = addresses.next().ok_or(io::ErrorKind::AddrNotAvailable)?;
            Ok(std::net::TcpListener::bind(first)?.into())
        }
        Address::Unix(path) => {
            make_room(path)?;
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
            rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
            set_mode(path, mode)?;
            listen(&socket, BACKLOG)?;
            Ok(socket)
        }
    }
}

/// By the socket itself: in a directory of others', its name may be a link to another file by now.
fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    let file = open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::Socket {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "somebody has put another file in its place",
        ));
    }
    Ok(chmod(format!("/proc/self/fd/{}", file.as_raw_fd()), Mode::from_raw_mode(mode))?)
}

/// Clients that knock before they are let in; the kernel lowers it to what it allows.
const BACKLOG: i32 = 4096;

fn make_room(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(stat) if stat.file_type().is_socket() => fs::remove_file(path),
        Ok(_) => Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file is there that is no socket")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// A client's stream, of whichever kind.
type Client = Box<dyn Stream>;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Listener {
    /// A listening socket, as [`bind`] makes it.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        ioctl_fionbio(&socket, true)?;
        match sockopt::socket_domain(&socket)? {
            AddressFamily::UNIX => Ok(Self::Unix(UnixListener::from_std(socket.into())?)),
            _ => Ok(Self::Tcp(TcpListener::from_std(socket.into())?)),
        }
    }

    async fn accept(&self) -> io::Result<Client> {
        match self {
            Self::Unix(listener) => Ok(Box::new(listener.accept().await?.0)),
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // A message is written at once, and a peer that fell off the network is gone some day.
                stream.set_nodelay(true)?;
                sockopt::set_socket_keepalive(&stream, true)?;
                Ok(Box::new(stream))
            }
        }
    }
}

impl Console {
    /// Takes clients in, in a task of its own, until the console closes; no more than `most` at a time: who comes when there
    /// are as many is sent away at once, and may come again.
    pub fn listen(&self, listener: Listener, rules: Rules, most: usize) {
        let console = self.clone();
        tokio::spawn(async move {
            let mut closing = console.0.closing.subscribe();
            let closing = closing.wait_for(|closing| *closing);
            first(pin!(closing), pin!(console.take_in(&listener, &rules, most))).await;
        });
    }

    async fn take_in(&self, listener: &Listener, rules: &Rules, most: usize) {
        let log = &self.0.log;
        let places = Arc::new(Semaphore::new(most));
        let mut is_told = false;
        loop {
            match (listener.accept().await, Arc::clone(&places).try_acquire_owned()) {
                (Ok(client), Ok(place)) => {
                    is_told = false;
                    self.spawn(client, Peer::Outside, rules.clone(), place);
                }
                (Ok(_), Err(_)) => {
                    log(&format_args!("console: sent a client away: there are {most} already"));
                }
                (Err(error), _) => {
                    // Once is enough, until it is over.
                    if !is_told {
                        log(&format_args!("console: accept: {error}"));
                    }
                    is_told = true;
                    sleep(BACK_OFF).await;
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test states what it expects")]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_link_in_the_sockets_place_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let [file, link] = ["file", "link"].map(|name| directory.path().join(name));
        fs::write(&file, "precious").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
        symlink(&file, &link).unwrap();
        for path in [&link, &file] {
            assert!(set_mode(path, 0o666).is_err());
        }
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o7777, 0o400);
    }
}
