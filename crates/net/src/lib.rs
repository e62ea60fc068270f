//! Network devices: moved into a container's network namespace, and back when it comes to nothing.
//!
//! Touches: two network namespaces, over a netlink socket in each.
//! Never:   makes a device or removes one; looks for one by itself; leaves the calling thread elsewhere than it was.
//! Begin with [`Namespace::own`], [`Namespace::of`] and [`attach`].

mod message;

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use sys::{Called, Doing, Errno, Failed};

use message::{Line, Message, attributes, text};

/// A network namespace, and a line to it.
#[derive(Debug)]
pub struct Namespace {
    handle: OwnedFd,
    line: Line,
}

/// A device that was moved: all that it takes to move it back.
#[derive(Debug)]
pub struct Moved {
    /// What it was called.
    name: String,
    /// Its number where it is now.
    index: u32,
    was_up: bool,
    addresses: Vec<Address>,
}

/// An address of a device, as the kernel wrote it.
#[derive(Clone, Debug)]
struct Address {
    family: u8,
    prefix: u8,
    local: Option<Vec<u8>>,
    peer: Option<Vec<u8>>,
    broadcast: Option<Vec<u8>>,
}

/// A device as the kernel tells it.
#[derive(Debug)]
struct Link {
    index: u32,
    is_up: bool,
    name: String,
}

impl Namespace {
    /// The calling thread's.
    pub fn own() -> Result<Self, Failed> {
        let path = "/proc/thread-self/ns/net";
        let handle = openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .called(|| format!("open({path:?})"))?;
        Ok(Self { handle, line: Line::open()? })
    }

    /// Another one. The calling thread, which must be the only one, goes there for as long as it takes to open a socket.
    pub fn of(handle: OwnedFd, own: &Self) -> Result<Self, Failed> {
        let enter = |to: &OwnedFd| {
            move_into_link_name_space(to.as_fd(), Some(LinkNameSpaceType::Network))
                .called(|| "setns(CLONE_NEWNET)")
        };
        enter(&handle)?;
        let line = Line::open();
        enter(&own.handle)?;
        Ok(Self { handle, line: line? })
    }

    fn links(&self) -> Result<Vec<Link>, Failed> {
        let answers = self.line.ask(&Message::dump(message::GETLINK, &[0; LINK]))?;
        Ok(answers.iter().filter_map(|answer| Link::read(answer)).collect())
    }

    fn link(&self, name: &str) -> Result<Link, Failed> {
        let mut message = Message::new(message::GETLINK, 0, &[0; LINK]);
        message.attribute(IFNAME, &text(name));
        let answers = self.line.ask(&message)?;
        let found = answers.iter().find_map(|answer| Link::read(answer));
        found.ok_or_else(|| Failed::call(format!("rtnetlink(GETLINK {name})"), Errno::NODEV))
    }

    /// What stays with a device: addresses that somebody gave it for good, and that are not of the link alone.
    fn addresses(&self, index: u32) -> Result<Vec<Address>, Failed> {
        let answers = self.line.ask(&Message::dump(message::GETADDR, &[0; ADDRESS]))?;
        Ok(answers.iter().filter_map(|answer| Address::read(answer, index)).collect())
    }

    fn set_up(&self, index: u32, up: bool) -> Result<(), Failed> {
        let message = Message::new(message::NEWLINK, 0, &header(index, u32::from(up), IFF_UP));
        self.line.ask(&message).map(drop)
    }

    /// Sends a device to another namespace, where it gets a name.
    fn send(&self, index: u32, to: &Self, name: &str) -> Result<(), Failed> {
        let mut message = Message::new(message::NEWLINK, 0, &header(index, 0, 0));
        message.attribute(NET_NS_FD, &to.handle.as_raw_fd().to_ne_bytes());
        message.attribute(IFNAME, &text(name));
        self.line.ask(&message).map(drop)
    }

    fn settle(&self, index: u32, addresses: &[Address], up: bool) -> Result<(), Failed> {
        for address in addresses {
            self.line.ask(&address.told(index)).doing(|| "give it its address again")?;
        }
        if up { self.set_up(index, true).doing(|| "bring it up") } else { Ok(()) }
    }
}

/// Moves a device in, under a name that may hold `%d` for a number that the kernel finds. It keeps its lasting addresses, and
/// is up afterwards. What fails half-way is undone.
pub fn attach(host: &Namespace, inside: &Namespace, name: &str, wanted: &str) -> Result<Moved, Failed> {
    let link = host.link(name)?;
    let addresses = host.addresses(link.index)?;
    let known = if wanted.contains("%d") { inside.links()? } else { Vec::new() };
    if link.is_up {
        host.set_up(link.index, false).doing(|| "bring it down")?;
    }
    if let Err(failed) = host.send(link.index, inside, wanted) {
        let failed = failed.while_doing(&format!("move it in as {wanted}"));
        return Err(match stay(host, inside, name, &link, addresses) {
            Ok(()) => failed,
            Err(second) => failed.while_doing(&format!("({second})")),
        });
    }
    let index = inside.arrived(wanted, &known)?;
    let moved = Moved { name: name.to_owned(), index, was_up: link.is_up, addresses };
    match inside.settle(index, &moved.addresses, true) {
        Ok(()) => Ok(moved),
        Err(failed) => Err(match moved.back(host, inside) {
            Ok(()) => failed,
            Err(second) => failed.while_doing(&format!("({second})")),
        }),
    }
}

/// A device that should have moved is as it was. The kernel moves first and renames then: with a name that is taken the
/// device is inside all the same, under its old one.
fn stay(
    host: &Namespace,
    inside: &Namespace,
    name: &str,
    link: &Link,
    addresses: Vec<Address>,
) -> Result<(), Failed> {
    match host.link(name) {
        Err(failed) if failed.errno() == Some(Errno::NODEV) => {
            let index = inside.link(name)?.index;
            Moved { name: name.to_owned(), index, was_up: link.is_up, addresses }.back(host, inside)
        }
        // Going down cost it what the kernel does not keep: addresses of IPv6.
        Ok(there) => host.settle(there.index, &host.lost(there.index, &addresses)?, link.is_up),
        Err(failed) => Err(failed),
    }
}

impl Namespace {
    /// The number of a device that has come under this name.
    fn arrived(&self, wanted: &str, known: &[Link]) -> Result<u32, Failed> {
        let Some((before, after)) = wanted.split_once("%d") else {
            return Ok(self.link(wanted)?.index);
        };
        let is_it = |link: &Link| {
            let number = link.name.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
            let is_numbered = number
                .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()));
            is_numbered && !known.iter().any(|one| one.index == link.index && one.name == link.name)
        };
        let links = self.links()?;
        let found = links.into_iter().find(is_it).map(|link| link.index);
        found.ok_or_else(|| Failed::refused(format!("no device {wanted} has arrived")))
    }

    /// Those of these addresses that a device does not have any more.
    fn lost(&self, index: u32, addresses: &[Address]) -> Result<Vec<Address>, Failed> {
        let now = self.addresses(index)?;
        let is_there =
            |one: &Address| now.iter().any(|there| there.local == one.local && there.peer == one.peer);
        Ok(addresses.iter().filter(|one| !is_there(one)).cloned().collect())
    }
}

impl Moved {
    /// Moves it back: its old name, its addresses, up if it was.
    pub fn back(&self, host: &Namespace, inside: &Namespace) -> Result<(), Failed> {
        let back = || {
            inside.set_up(self.index, false)?;
            inside.send(self.index, host, &self.name)?;
            let index = host.link(&self.name)?.index;
            host.settle(index, &self.addresses, self.was_up)
        };
        back().doing(|| format!("move network device {} back", self.name))
    }
}

impl Link {
    /// struct ifinfomsg, and the name.
    fn read(answer: &[u8]) -> Option<Self> {
        let index = u32::from_ne_bytes(answer.get(4..8)?.try_into().ok()?);
        let flags = u32::from_ne_bytes(answer.get(8..12)?.try_into().ok()?);
        let name = attributes(answer.get(LINK..)?).find(|(kind, _)| *kind == IFNAME)?.1;
        let name = std::str::from_utf8(name).ok()?.trim_end_matches('\0').to_owned();
        Some(Self { index, is_up: flags & IFF_UP != 0, name })
    }
}

impl Address {
    /// struct ifaddrmsg, and what it says of the device that is meant; none of what does not last.
    fn read(answer: &[u8], of: u32) -> Option<Self> {
        let &[family, prefix, flags, scope] = answer.first_chunk()?;
        let index = u32::from_ne_bytes(answer.get(4..8)?.try_into().ok()?);
        let mut flags = u32::from(flags);
        let mut address = Self { family, prefix, local: None, peer: None, broadcast: None };
        for (kind, value) in attributes(answer.get(ADDRESS..)?) {
            match kind {
                IFA_ADDRESS => address.peer = Some(value.to_vec()),
                IFA_LOCAL => address.local = Some(value.to_vec()),
                IFA_BROADCAST => address.broadcast = Some(value.to_vec()),
                IFA_FLAGS => flags = u32::from_ne_bytes(value.try_into().ok()?),
                _ => {}
            }
        }
        (index == of && scope == RT_SCOPE_UNIVERSE && flags & IFA_F_PERMANENT != 0).then_some(address)
    }

    fn told(&self, index: u32) -> Message {
        let mut head = vec![self.family, self.prefix, 0, RT_SCOPE_UNIVERSE];
        head.extend_from_slice(&index.to_ne_bytes());
        let mut message = Message::new(message::NEWADDR, message::CREATE | message::EXCL, &head);
        for (kind, value) in
            [(IFA_LOCAL, &self.local), (IFA_ADDRESS, &self.peer), (IFA_BROADCAST, &self.broadcast)]
        {
            if let Some(value) = value {
                message.attribute(kind, value);
            }
        }
        message
    }
}

/// struct ifinfomsg.
fn header(index: u32, flags: u32, change: u32) -> [u8; LINK] {
    let mut header = [0; LINK];
    for (at, number) in [(4, index), (8, flags), (12, change)] {
        for (to, from) in header.iter_mut().skip(at).zip(number.to_ne_bytes()) {
            *to = from;
        }
    }
    header
}

// Numbers of <linux/if_link.h>, <linux/if_addr.h>, <linux/if.h> and <linux/rtnetlink.h>.
const LINK: usize = 16;
const ADDRESS: usize = 8;
const IFNAME: u16 = 3;
const NET_NS_FD: u16 = 28;
const IFF_UP: u32 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFA_F_PERMANENT: u32 = 0x80;
const RT_SCOPE_UNIVERSE: u8 = 0;
