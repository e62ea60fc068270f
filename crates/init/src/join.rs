//! Namespaces that are there already, opened before any is joined.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use path::open_host;
use rustix::fs::OFlags;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use spec::NamespaceKind;
use sys::{Called, Doing, Errno, Failed, kind_of_namespace, namespace};

/// A namespace of the host's, or another container's.
#[derive(Debug)]
pub struct Opened {
    kind: NamespaceKind,
    field: String,
    path: String,
    handle: OwnedFd,
}

impl AsRawFd for Opened {
    fn as_raw_fd(&self) -> RawFd {
        self.handle.as_raw_fd()
    }
}

impl From<Opened> for OwnedFd {
    fn from(opened: Opened) -> Self {
        opened.handle
    }
}

impl Opened {
    /// Opens a path of the host, links followed; `field` of the document names it.
    pub fn open(kind: NamespaceKind, path: &str, field: &str) -> Result<Self, Failed> {
        let handle =
            open_host(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY).doing(|| told(field))?;
        Ok(Self { kind, field: field.to_owned(), path: path.to_owned(), handle })
    }

    /// What it should be one of.
    pub fn kind(&self) -> NamespaceKind {
        self.kind
    }

    /// Moves the calling process there; for a pid namespace, those that it bears from now on.
    pub fn join(&self) -> Result<(), Failed> {
        let joined = match move_into_link_name_space(self.handle.as_fd(), Some(type_of(self.kind))) {
            Err(Errno::INVAL) => Err(self.why_not()),
            joined => joined.called(|| "setns()"),
        };
        joined
            .doing(|| format!("join {} namespace {}", self.kind.name(), self.path))
            .doing(|| told(&self.field))
    }

    /// The kernel has one answer for a file that is no namespace, for another kind, and for one that is not ours to join.
    fn why_not(&self) -> Failed {
        match kind_of_namespace(self.handle.as_fd()) {
            Ok(kind) if kind == bit(self.kind) => Failed::call("setns()", Errno::INVAL),
            Ok(kind) => match KINDS.iter().find(|known| bit(**known) == kind) {
                Some(other) => Failed::refused(format!("is a namespace of another kind: {}", other.name())),
                None => Failed::refused("is a namespace of another kind"),
            },
            Err(_) => Failed::refused("is no namespace"),
        }
    }

    /// Whether it is the one that the calling process is in.
    pub(crate) fn is_ours(&self, ours: BorrowedFd<'_>) -> Result<bool, Failed> {
        let (this, ours) = (rustix::fs::fstat(&self.handle), rustix::fs::fstat(ours));
        let (this, ours) = (this.called(|| "fstat(namespace)")?, ours.called(|| "fstat(namespace)")?);
        Ok((this.st_dev, this.st_ino) == (ours.st_dev, ours.st_ino))
    }

    /// Refuses a mount namespace that the calling process lives in: whoever goes into a root there takes everybody along.
    pub(crate) fn refuse_ours(&self) -> Result<(), Failed> {
        let ours = open_host("/proc/self/ns/mnt", OFlags::RDONLY)?;
        if self.is_ours(ours.as_fd())? {
            return Err(Failed::refused("is our own: every mount would be the host's"))
                .doing(|| told(&self.field));
        }
        Ok(())
    }
}

fn told(field: &str) -> String {
    format!("config.json: {field}")
}

const KINDS: [NamespaceKind; 8] = [
    NamespaceKind::Cgroup,
    NamespaceKind::Ipc,
    NamespaceKind::Mount,
    NamespaceKind::Network,
    NamespaceKind::Pid,
    NamespaceKind::Time,
    NamespaceKind::User,
    NamespaceKind::Uts,
];

/// The `CLONE_NEW*` bit of a kind.
pub fn bit(kind: NamespaceKind) -> u64 {
    match kind {
        NamespaceKind::Cgroup => namespace::CGROUP,
        NamespaceKind::Ipc => namespace::IPC,
        NamespaceKind::Mount => namespace::MOUNT,
        NamespaceKind::Network => namespace::NETWORK,
        NamespaceKind::Pid => namespace::PID,
        NamespaceKind::Time => namespace::TIME,
        NamespaceKind::User => namespace::USER,
        NamespaceKind::Uts => namespace::UTS,
    }
}

fn type_of(kind: NamespaceKind) -> LinkNameSpaceType {
    match kind {
        NamespaceKind::Cgroup => LinkNameSpaceType::ControlGroup,
        NamespaceKind::Ipc => LinkNameSpaceType::InterProcessCommunication,
        NamespaceKind::Mount => LinkNameSpaceType::Mount,
        NamespaceKind::Network => LinkNameSpaceType::Network,
        NamespaceKind::Pid => LinkNameSpaceType::ProcessID,
        NamespaceKind::Time => LinkNameSpaceType::Time,
        NamespaceKind::User => LinkNameSpaceType::User,
        NamespaceKind::Uts => LinkNameSpaceType::HostNameAndNISDomainName,
    }
}
