//! Which of the host's devices a sandbox may use, and for whom: the same device may be wanted twice, and stays until nobody
//! wants it any more.

use std::fmt;
use std::str::FromStr;

use filter::device::{Access, Devices, Exception, Kind, List, Rule};
use serde::{Deserialize, Serialize};

use super::{Host, Node, Wish};
use crate::{Refused, resources};

/// Devices by kind and number, and what may be done with them: `c 10:232 rw`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Device(Exception);

/// Who wants a device.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Every program does.
    Default,
    /// A rule of the caller's document.
    Caller,
    /// The guest, who was given it when the sandbox was made.
    Handed,
    /// The monitor.
    Vmm,
    /// The guest, who was given it later.
    Added,
}

/// A device and all who want it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Held {
    /// Which.
    pub device: Device,
    /// One entry for each use.
    pub by: Vec<Origin>,
}

/// All devices that a sandbox may use; every other one is denied.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct DeviceTable {
    /// In the order in which they were first wanted.
    pub held: Vec<Held>,
}

/// A device that is handed to the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handed {
    /// The one behind a node of the host's.
    Node {
        /// Its path.
        path: String,
        /// `r`, `w` and `m`.
        access: String,
    },
    /// By number.
    Numbers(Device),
}

/// What the monitor itself needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Whether it computes the guest's processors, and does without KVM.
    pub computes: bool,
    /// Whether the kernel carries the guest's network packets.
    pub vhost_net: bool,
    /// Whether the guest has sockets to the host by vhost.
    pub vhost_vsock: bool,
    /// Whether it opens tap devices.
    pub tun: bool,
    /// Groups of VFIO, by number.
    pub vfio: Vec<u32>,
    /// Block devices that are the guest's disks.
    pub disks: Vec<Disk>,
}

/// A block device that is a disk of the guest's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Its node.
    pub path: String,
    /// Whether the guest may not write to it.
    pub read_only: bool,
}

/// Nodes without which nothing runs. None is made: a monitor opens what its host has.
const DEFAULT: [(u32, Option<u32>); 8] = [
    (1, Some(3)), // null
    (1, Some(5)), // zero
    (1, Some(7)), // full
    (1, Some(8)), // random
    (1, Some(9)), // urandom
    (5, Some(0)), // tty
    (5, Some(2)), // ptmx
    (136, None),  // pts
];

const KVM: &str = "/dev/kvm";
const VHOST_NET: &str = "/dev/vhost-net";
const VHOST_VSOCK: &str = "/dev/vhost-vsock";
const TUN: &str = "/dev/net/tun";
const VFIO: &str = "/dev/vfio/vfio";

impl Needs {
    /// Nodes that must be looked at.
    pub(super) fn nodes(&self) -> Vec<String> {
        let named = self.named().into_iter().map(|(path, _)| path);
        named.chain(self.disks.iter().map(|disk| disk.path.clone())).collect()
    }

    /// Character devices, each with the flag that asks for it.
    fn named(&self) -> Vec<(String, &'static str)> {
        let wanted = [
            (!self.computes, KVM, "KVM (--accel tcg does without)"),
            (self.vhost_net, VHOST_NET, "--vhost-net"),
            (self.vhost_vsock, VHOST_VSOCK, "--vhost-vsock"),
            (self.tun, TUN, "--tun"),
            (!self.vfio.is_empty(), VFIO, "--vfio"),
        ];
        let wanted = wanted.into_iter().filter(|(is_wanted, ..)| *is_wanted);
        let groups = self.vfio.iter().map(|group| (format!("/dev/vfio/{group}"), "--vfio"));
        wanted.map(|(_, path, flag)| (path.to_owned(), flag)).chain(groups).collect()
    }
}

impl Handed {
    /// The node that must be looked at.
    pub(super) fn path(&self) -> Option<String> {
        match self {
            Self::Node { path, .. } => Some(path.clone()),
            Self::Numbers(_) => None,
        }
    }

    /// The device, as the host has it.
    pub fn device(&self, host: &Host) -> Result<Device, Refused> {
        match self {
            Self::Numbers(device) => Ok(*device),
            Self::Node { path, access } => {
                let node = node(host, path, "--device")?;
                let access = Access::parse(access).ok_or_else(|| {
                    Refused::asked(format!("--device {path}: {access:?} has none of r, w and m"))
                })?;
                Ok(node.device(access))
            }
        }
    }
}

impl FromStr for Handed {
    type Err = Refused;

    /// `/dev/NODE[:ACCESS]`, or `c 10:200 rw`; read and write, where nothing is said.
    fn from_str(text: &str) -> Result<Self, Refused> {
        if !text.starts_with('/') {
            return text.parse().map(Self::Numbers);
        }
        let (path, access) = match text.rsplit_once(':') {
            Some((path, access)) if !access.is_empty() && access.chars().all(|one| "rwm".contains(one)) => {
                (path, access)
            }
            _ => (text, "rw"),
        };
        Ok(Self::Node { path: path.to_owned(), access: access.to_owned() })
    }
}

impl Node {
    fn device(self, access: Access) -> Device {
        let kind = if self.is_block { Kind::Block } else { Kind::Char };
        Device(Exception {
            devices: Devices { kind, major: Some(self.major), minor: Some(self.minor) },
            access,
        })
    }
}

fn node(host: &Host, path: &str, wanted: &str) -> Result<Node, Refused> {
    match host.nodes.get(path) {
        Some(Ok(node)) => Ok(*node),
        Some(Err(why)) => Err(Refused::asked(format!("{wanted}: {path}: {why}"))),
        None => Err(Refused::asked(format!("{wanted}: {path}: was not looked at"))),
    }
}

const READ_WRITE: Access = Access::READ.with(Access::WRITE);

impl DeviceTable {
    /// Everybody's nodes, the caller's rules in their order, what is handed to the guest, and what its monitor needs.
    pub(super) fn of(wish: &Wish, host: &Host, notes: &mut Vec<String>) -> Result<Self, Refused> {
        let mut table = Self::default();
        for (major, minor) in DEFAULT {
            let devices = Devices { kind: Kind::Char, major: Some(major), minor };
            table.hold(Device(Exception { devices, access: READ_WRITE }), Origin::Default);
        }
        let callers = callers(&wish.resources)?;
        for exception in callers.exceptions {
            table.hold(Device(exception), Origin::Caller);
        }
        for handed in &wish.handed {
            table.hold(handed.device(host)?, Origin::Handed);
        }
        for (path, flag) in wish.needs.named() {
            let node = node(host, &path, flag)?;
            if node.is_block {
                return Err(Refused::asked(format!("{flag}: {path}: is a block device")));
            }
            table.hold(node.device(READ_WRITE), Origin::Vmm);
        }
        for disk in &wish.needs.disks {
            table.hold(disk.device(host)?, Origin::Vmm);
        }
        table.tell_denied(&wish.resources, notes)?;
        Ok(table)
    }

    fn hold(&mut self, device: Device, by: Origin) {
        match self.held.iter_mut().find(|held| held.device == device) {
            Some(held) => held.by.push(by),
            None => self.held.push(Held { device, by: vec![by] }),
        }
    }

    /// One more use of a device.
    pub fn add(&mut self, device: Device) {
        self.hold(device, Origin::Added);
    }

    /// One use less. The device stays as long as somebody else has one.
    pub fn remove(&mut self, device: Device) -> Result<(), Refused> {
        let missing = || Refused::asked(format!("{device}: the guest was not given it"));
        let at = self.held.iter().position(|held| held.device == device).ok_or_else(missing)?;
        let held = self.held.get_mut(at).ok_or_else(missing)?;
        let is_guests = |by: &Origin| matches!(by, Origin::Handed | Origin::Added);
        let Some(last) = held.by.iter().rposition(is_guests) else { return Err(missing()) };
        held.by.remove(last);
        if held.by.is_empty() {
            self.held.remove(at);
        }
        Ok(())
    }

    /// What the kernel is told.
    pub fn list(&self) -> List {
        let nothing = Devices { kind: Kind::All, major: None, minor: None };
        let deny = Rule { allow: false, devices: nothing, access: Access::ALL };
        let allow = |held: &Held| {
            let Exception { devices, access } = held.device.0;
            Rule { allow: true, devices, access }
        };
        let rules: Vec<Rule> = std::iter::once(deny).chain(self.held.iter().map(allow)).collect();
        // Rules that allow cut no hole into anything; and the list that is empty denies.
        List::of(&rules).unwrap_or_default()
    }

    /// A denial of the caller's that others' wishes overrule is told.
    fn tell_denied(&self, resources: &spec::Resources, notes: &mut Vec<String>) -> Result<(), Refused> {
        let list = self.list();
        for (index, rule) in resources.devices.iter().enumerate().filter(|(_, rule)| !rule.allow) {
            let rule = resources::device_rule(index, rule).map_err(|refused| in_document(&refused))?;
            let Devices { kind, major: Some(major), minor: Some(minor) } = rule.devices else { continue };
            if list.permits(kind, major, minor, rule.access) {
                let told = Exception { devices: rule.devices, access: rule.access };
                notes.push(format!("devices[{index}] denies {told}, which this sandbox needs all the same"));
            }
        }
        Ok(())
    }
}

/// What the caller's rules, in their order, allow. That all is denied to begin with is so here anyway.
fn callers(resources: &spec::Resources) -> Result<List, Refused> {
    let mut rules = Vec::with_capacity(resources.devices.len());
    for (index, rule) in resources.devices.iter().enumerate() {
        rules.push(resources::device_rule(index, rule).map_err(|refused| in_document(&refused))?);
    }
    let list = List::of(&rules).map_err(|hole| Refused::asked(format!("devices[{}]: {hole}", hole.index)))?;
    if list.allow {
        return Err(Refused::asked(
            "devices: allows every device of the host: a sandbox is told which ones its guest may have",
        ));
    }
    Ok(list)
}

/// The document is not a config.json here.
fn in_document(refused: &Refused) -> Refused {
    let path = refused.path.strip_prefix("linux.resources.").unwrap_or(&refused.path).to_owned();
    Refused::asked(format!("{path}: {}", refused.reason))
}

impl Disk {
    fn device(&self, host: &Host) -> Result<Device, Refused> {
        let node = node(host, &self.path, "--disk")?;
        let refused = |why: String| Refused::asked(format!("--disk {}: {why}", self.path));
        if !node.is_block {
            return Err(refused("is no block device".into()));
        }
        // The number is given out when the module is loaded: a node from before that is somebody else's disk.
        if self.path.starts_with("/dev/mapper/") || self.path.starts_with("/dev/dm-") {
            match host.device_mapper {
                Some(major) if major == node.major => {}
                Some(major) => {
                    return Err(refused(format!(
                        "has major number {}, and the device mapper has {major} on this host",
                        node.major
                    )));
                }
                None => return Err(refused("this host has no device mapper".into())),
            }
        }
        Ok(node.device(if self.read_only { Access::READ } else { READ_WRITE }))
    }
}

impl FromStr for Disk {
    type Err = Refused;

    /// `/dev/NODE[:ro]`
    fn from_str(text: &str) -> Result<Self, Refused> {
        let (path, read_only) = match text.strip_suffix(":ro") {
            Some(path) => (path, true),
            None => (text, false),
        };
        if !path.starts_with('/') {
            return Err(Refused::asked(format!("--disk {text}: is no absolute path")));
        }
        Ok(Self { path: path.to_owned(), read_only })
    }
}

impl fmt::Display for Device {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(to)
    }
}

impl FromStr for Device {
    type Err = Refused;

    /// `c 10:200 rw`; read and write, where nothing is said. `*` is any number.
    fn from_str(text: &str) -> Result<Self, Refused> {
        let wrong = || {
            Refused::asked(format!("--device {text:?}: is neither a node's path nor like \"c 10:200 rw\""))
        };
        let mut words = text.split(' ');
        let kind = match words.next() {
            Some("b") => Kind::Block,
            Some("c") => Kind::Char,
            _ => return Err(wrong()),
        };
        let (major, minor) = words.next().and_then(|word| word.split_once(':')).ok_or_else(wrong)?;
        let number = |text: &str| match text {
            "*" => Ok(None),
            text if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                text.parse().map(Some).map_err(|_| wrong())
            }
            _ => Err(wrong()),
        };
        let access = match words.next() {
            None => READ_WRITE,
            Some(letters) if letters.chars().all(|one| "rwm".contains(one)) => {
                Access::parse(letters).ok_or_else(wrong)?
            }
            Some(_) => return Err(wrong()),
        };
        if words.next().is_some() {
            return Err(wrong());
        }
        Ok(Self(Exception {
            devices: Devices { kind, major: number(major)?, minor: number(minor)? },
            access,
        }))
    }
}

impl TryFrom<String> for Device {
    type Error = Refused;

    fn try_from(text: String) -> Result<Self, Refused> {
        text.parse()
    }
}

impl From<Device> for String {
    fn from(device: Device) -> Self {
        device.to_string()
    }
}

impl Origin {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Caller => "caller",
            Self::Handed => "handed",
            Self::Vmm => "vmm",
            Self::Added => "added",
        }
    }
}
