//! A line to a bus, or to a service manager itself: calls and their answers, and signals that come in between.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use dbus::{Address, Kind, Message, Value, addresses, answered, greeting};
use plan::systemd::Bus;
use rustix::event::PollFlags;
use rustix::io::{Errno, read};
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, send, socket_with,
};
use sys::{Called, Doing, Failed, peer};

use super::{MANAGER, NAME, OBJECT, PATIENCE, text};
use crate::wait::{Deadline, Missing};

/// An open line.
#[derive(Debug)]
pub(super) struct Connection {
    socket: OwnedFd,
    /// What came and was not taken yet.
    room: Vec<u8>,
    serial: u32,
    /// Whether it is told of what happens to units and jobs.
    is_subscribed: bool,
    is_direct: bool,
    /// Signals that came while something else was waited for.
    signals: Vec<Message>,
}

/// How long somebody may take to listen again at a socket that is there.
const REACH: Duration = Duration::from_secs(20);

/// An answer.
#[derive(Debug)]
pub(super) enum Told<T> {
    Values(T),
    Error(Refusal),
}

/// What the other end has against it.
#[derive(Debug)]
pub(super) struct Refusal {
    /// `org.freedesktop.systemd1.NoSuchUnit`
    pub(super) name: String,
    words: String,
}

impl Refusal {
    /// Whether it comes from the bus, since the one who was asked is not there just now.
    pub(super) fn is_absence(&self) -> bool {
        ["NoReply", "Disconnected", "NameHasNoOwner", "ServiceUnknown"].iter().any(|name| self.is(name))
    }

    pub(super) fn is(&self, last: &str) -> bool {
        self.name.rsplit('.').next() == Some(last)
    }

    pub(super) fn failed(self, call: &str) -> Failed {
        let Self { name, words } = self;
        Failed::refused(if words.is_empty() { format!("{call}: {name}") } else { format!("{call}: {words}") })
    }
}

impl Connection {
    /// Connects, says who we are, and where it is a bus, hello.
    pub(super) fn open(bus: &Bus) -> Result<Self, Failed> {
        let mut refused = Failed::refused("is no address of a socket on this host");
        for address in addresses(&bus.address) {
            match Self::open_at(&address, bus.is_direct) {
                Ok(connection) => return Ok(connection),
                Err(failed) => refused = failed,
            }
        }
        Err(refused).doing(|| bus.address.trim_start_matches("unix:path=").to_owned())
    }

    fn open_at(address: &Address, is_direct: bool) -> Result<Self, Failed> {
        let is_cut = |failed: &Failed| matches!(failed.errno(), Some(Errno::CONNRESET | Errno::PIPE));
        let mut pauses = Missing::ListenerOfBus.back_off_within(REACH);
        loop {
            let mut connection = Self {
                socket: reach(address, is_direct)?,
                room: Vec::new(),
                serial: 0,
                is_subscribed: false,
                is_direct,
                signals: Vec::new(),
            };
            match connection.greet() {
                // It took the call just before it executed itself anew.
                Err(failed) if is_direct && is_cut(&failed) && pauses.pause().is_ok() => {}
                greeted => return greeted.map(|()| connection),
            }
        }
    }

    fn greet(&mut self) -> Result<(), Failed> {
        let deadline = Deadline::after(PATIENCE);
        self.check_peer()?;
        // In a user namespace our id is another than the one that the other end sees.
        let uid = (!sys::is_mapped()?).then(|| rustix::process::geteuid().as_raw());
        self.put(&greeting(uid), deadline)?;
        loop {
            if let Some(length) =
                answered(&self.room).map_err(|why| malformed(&why)).doing(|| "authenticate")?
            {
                self.room.drain(..length);
                break;
            }
            self.fill(deadline).doing(|| "authenticate")?;
        }
        if self.is_direct {
            return Ok(());
        }
        let bus = "org.freedesktop.DBus";
        match self.call(bus, "/org/freedesktop/DBus", bus, "Hello", &[])? {
            Told::Values(_) => Ok(()),
            Told::Error(error) => Err(error.failed("Hello")),
        }
    }

    /// Processes are told to the manager by their numbers, which mean others in another pid namespace.
    fn check_peer(&self) -> Result<(), Failed> {
        let depth = |pid: &str| {
            let status = text(&format!("/proc/{pid}/status"))?;
            let line = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
            Ok::<usize, Failed>(line.split_whitespace().count())
        };
        let pid = peer(self.socket.as_fd())?;
        if pid > 0 && depth(&pid.to_string())? == depth("self")? {
            return Ok(());
        }
        Err(Failed::refused("is of another pid namespace than ours"))
    }

    /// One call, and its answer.
    pub(super) fn call(
        &mut self,
        to: &str,
        object: &str,
        interface: &str,
        member: &str,
        arguments: &[Value],
    ) -> Result<Told<Vec<Value>>, Failed> {
        // A serial is never 0.
        self.serial = self.serial.checked_add(1).unwrap_or(1);
        let to = if self.is_direct { "" } else { to };
        let mut message = Message::call(to, object, interface, member, arguments);
        message.serial = self.serial;
        let mut exchange = || {
            let deadline = Deadline::after(PATIENCE);
            self.put(&message.encode().map_err(|why| malformed(&why))?, deadline)?;
            loop {
                let answer = self.next(deadline)?;
                match answer.kind {
                    Kind::Signal => self.signals.push(answer),
                    Kind::Return if answer.answers == Some(message.serial) => {
                        return Ok(Told::Values(answer.values().map_err(|why| malformed(&why))?));
                    }
                    Kind::Error if answer.answers == Some(message.serial) => {
                        // An error may come without words, or with others than text.
                        let values = answer.values().unwrap_or_default();
                        let words = values.first().and_then(Value::as_text).unwrap_or_default().to_owned();
                        return Ok(Told::Error(Refusal { name: answer.error, words }));
                    }
                    _ => {}
                }
            }
        };
        exchange().doing(|| member)
    }

    pub(super) fn is_subscribed(&self) -> bool {
        self.is_subscribed
    }

    /// From here on signals of the manager come: of units and of jobs. Whoever speaks to it directly hears them all.
    pub(super) fn subscribe(&mut self) -> Result<(), Failed> {
        if self.is_subscribed || self.is_direct {
            return Ok(());
        }
        let bus = "org.freedesktop.DBus";
        for member in ["JobRemoved", "UnitRemoved"] {
            let rule = format!(
                "type='signal',sender='{NAME}',path='{OBJECT}',interface='{MANAGER}',member='{member}'"
            );
            let told = self.call(bus, "/org/freedesktop/DBus", bus, "AddMatch", &[Value::Text(rule)])?;
            if let Told::Error(error) = told {
                return Err(error.failed("AddMatch"));
            }
        }
        match self.call(NAME, OBJECT, MANAGER, "Subscribe", &[])? {
            Told::Error(error) if !error.is("AlreadySubscribed") => Err(error.failed("Subscribe")),
            _ => {
                self.is_subscribed = true;
                Ok(())
            }
        }
    }

    /// The next signal of the manager's; none once the deadline is over.
    pub(super) fn signal(&mut self, deadline: Deadline) -> Result<Option<Message>, Failed> {
        loop {
            let message =
                if self.signals.is_empty() { self.next(deadline) } else { Ok(self.signals.remove(0)) };
            match message {
                Ok(message) if message.kind == Kind::Signal && message.interface == MANAGER => {
                    return Ok(Some(message));
                }
                Ok(_) => {}
                Err(failed) if failed.errno() == Some(Errno::TIMEDOUT) => return Ok(None),
                Err(failed) => return Err(failed),
            }
        }
    }

    /// What was heard is not of interest any more.
    pub(super) fn forget(&mut self) {
        self.signals.clear();
    }

    fn next(&mut self, deadline: Deadline) -> Result<Message, Failed> {
        loop {
            if let Some(length) = Message::length(&self.room).map_err(|why| malformed(&why))?
                && let Some(bytes) = self.room.get(..length)
            {
                let message = Message::decode(bytes).map_err(|why| malformed(&why));
                self.room.drain(..length);
                return message;
            }
            self.fill(deadline)?;
        }
    }

    fn put(&self, mut bytes: &[u8], deadline: Deadline) -> Result<(), Failed> {
        while !bytes.is_empty() {
            match send(&self.socket, bytes, SendFlags::NOSIGNAL) {
                Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
                Err(Errno::AGAIN) => deadline.poll(&self.socket, PollFlags::OUT, "poll(D-Bus)")?,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Failed::call("send(D-Bus)", errno)),
            }
        }
        Ok(())
    }

    fn fill(&mut self, deadline: Deadline) -> Result<(), Failed> {
        let mut room = [0; 4096];
        loop {
            match read(&self.socket, &mut room) {
                Ok(0) => return Err(Failed::call("read(D-Bus)", Errno::CONNRESET)),
                Ok(length) => {
                    self.room.extend_from_slice(room.get(..length).unwrap_or_default());
                    return Ok(());
                }
                Err(Errno::AGAIN) => deadline.poll(&self.socket, PollFlags::IN, "poll(D-Bus)")?,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Failed::call("read(D-Bus)", errno)),
            }
        }
    }
}

fn malformed(why: &dbus::Malformed) -> Failed {
    Failed::refused(format!("the answer cannot be read: {why}"))
}

/// A socket whose listener has its hands full says `EAGAIN`, and the kernel does not tell when that is over.
fn reach(address: &Address, is_direct: bool) -> Result<OwnedFd, Failed> {
    let (name, to) = match address {
        Address::Path(path) => (path.clone(), SocketAddrUnix::new(path.as_str())),
        Address::Abstract(name) => {
            (String::from_utf8_lossy(name).into_owned(), SocketAddrUnix::new_abstract_name(name))
        }
    };
    let call = || format!("connect({name:?})");
    let to = to.called(call)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket =
        socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).called(|| "socket(AF_UNIX)")?;
    let mut pauses = Missing::ListenerOfBus.back_off_within(REACH);
    loop {
        match connect(&socket, &to) {
            Ok(()) => return Ok(socket),
            Err(Errno::AGAIN) if pauses.pause().is_ok() => {}
            // Whoever listened there is being executed anew, or is gone and has left its socket.
            Err(Errno::CONNREFUSED) if is_direct && pauses.pause().is_ok() => {}
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).called(call),
        }
    }
}
