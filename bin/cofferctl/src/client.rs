//! A client of the device daemon's console: one line, one request at a time, nothing asynchronous.

use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::net::{SendFlags, send};
use wire::{Address, Connect, Message, Nack, Notification, Request, Response};

use crate::told;

/// A line to the daemon.
pub(crate) struct Client {
    stream: BufReader<Stream>,
    patience: Duration,
    /// What was heard while a response was waited for.
    news: VecDeque<Notification>,
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);

impl Client {
    /// Connects; `patience` is how long the daemon may take to answer.
    pub(crate) fn connect(address: &Address, patience: Duration, subscribe: bool) -> Result<Self, String> {
        let stream = Stream::connect(address).map_err(|error| format!("{address}: {error}"))?;
        let mut client = Self { stream: BufReader::new(stream), patience, news: VecDeque::new() };
        let connect = Connect { version: wire::VERSION, subscribe_notifications: subscribe };
        client.say(&Message::Connect(connect)).map_err(|error| format!("{address}: {error}"))?;
        match client.hear(Some(patience)).map_err(|error| format!("{address}: {error}"))? {
            Message::ConnectAck(()) => Ok(client),
            Message::ConnectNack(Nack::PermissionDenied) => {
                Err("the daemon does not let us hear of what happens: permission notifications is missing"
                    .to_owned())
            }
            Message::ConnectNack(Nack::InvalidProtocolVersion { version }) => {
                Err(format!("the daemon speaks {version} and we {}", wire::VERSION))
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Asks; the response, whatever it is.
    pub(crate) fn ask(&mut self, request: Request) -> Result<Response, String> {
        self.say(&Message::Request(request)).map_err(told)?;
        self.response()
    }

    /// Asks for what may end the daemon before it has answered; the response, if one comes.
    pub(crate) fn last(&mut self, request: Request) -> Result<Option<Response>, String> {
        self.say(&Message::Request(request)).map_err(told)?;
        match self.next_response() {
            Ok(response) => response.map(Some),
            Err(error) if is_end(&error) => Ok(None),
            Err(error) => Err(told(error)),
        }
    }

    /// The response to what was asked.
    pub(crate) fn response(&mut self) -> Result<Response, String> {
        self.next_response().map_err(told)?
    }

    /// What comes of a response: the line's own failures, and in those that come what is no answer.
    fn next_response(&mut self) -> io::Result<Result<Response, String>> {
        loop {
            match self.hear(Some(self.patience))? {
                Message::Response(Response::PermissionDenied(request)) => {
                    let permission = serde_json::to_string(&request.permission())?;
                    let permission = permission.trim_matches('"');
                    return Ok(Err(format!("permission denied: {permission} is missing")));
                }
                Message::Response(response) => return Ok(Ok(response)),
                Message::Notification(notification) => self.news.push_back(notification),
                other => return Ok(Err(unexpected(&other))),
            }
        }
    }

    /// The next that happens; none where nothing has by then.
    pub(crate) fn news(&mut self, until: Option<Instant>) -> Result<Option<Notification>, String> {
        if let Some(notification) = self.news.pop_front() {
            return Ok(Some(notification));
        }
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Ok(None);
        }
        match self.hear(left) {
            Ok(Message::Notification(notification)) => Ok(Some(notification)),
            Ok(other) => Err(unexpected(&other)),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(None),
            Err(error) => Err(told(error)),
        }
    }

    /// Sends bytes that are no message: a package, behind its request. The daemon may have closed the line by now and have
    /// said before why: that is for who reads the response.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Sends a message.
    pub(crate) fn say(&mut self, message: &Message) -> io::Result<()> {
        let line = message.line().map_err(io::Error::other)?;
        self.send(&line)
    }

    /// The next message. A line that begins within that time is read to its end.
    fn hear(&mut self, patience: Option<Duration>) -> io::Result<Message> {
        self.stream.get_ref().set_patience(patience)?;
        let mut line = Vec::new();
        let read = self.stream.read_until(b'\n', &mut line).map_err(|error| match error.kind() {
            // The kernel's word for a receive timeout.
            io::ErrorKind::WouldBlock => {
                io::Error::new(io::ErrorKind::TimedOut, "the daemon does not answer")
            }
            _ => error,
        });
        if read? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the daemon has closed the line"));
        }
        Message::read(&line).map_err(io::Error::other)
    }
}

impl Stream {
    fn connect(address: &Address) -> io::Result<Self> {
        match address {
            Address::Unix(path) => UnixStream::connect(path).map(Self::Unix),
            Address::Tcp { host, port } => {
                let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "no address has this name");
                for address in (host.as_str(), *port).to_socket_addrs()? {
                    match TcpStream::connect_timeout(&address, CONNECT) {
                        Ok(stream) => return stream.set_nodelay(true).map(|()| Self::Tcp(stream)),
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
        }
    }

    fn set_patience(&self, patience: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(patience),
            Self::Unix(stream) => stream.set_read_timeout(patience),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A daemon that is gone is an error to tell, and no signal to die of.
        Ok(match self {
            Self::Tcp(stream) => send(stream, bytes, SendFlags::NOSIGNAL)?,
            Self::Unix(stream) => send(stream, bytes, SendFlags::NOSIGNAL)?,
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether the daemon has closed the line.
fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
}

fn unexpected(message: &Message) -> String {
    let line = message.line().unwrap_or_default();
    format!("the daemon said what it was not asked: {}", String::from_utf8_lossy(&line).trim_end())
}
