//! The sockets that manifests ask for: made before the program starts, and gone with it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use package::{Manifest, Socket};
use path::open_host;
use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Uid, chmodat, chownat, unlinkat};
use rustix::net::sockopt::set_socket_passcred;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
use rustix::process::umask;
use sys::{Called as _, Doing as _, Errno, Failed};

/// As many as the kernel lets wait (`SOMAXCONN`).
const BACKLOG: i32 = 4096;

/// The sockets of a container, in the order of their names. If this value goes, their files do.
#[derive(Debug)]
pub(super) struct Sockets {
    directory: OwnedFd,
    files: Vec<String>,
    made: Vec<OwnedFd>,
}

impl Sockets {
    /// Makes all of them, or none.
    pub(super) fn make(directory: &str, manifest: &Manifest) -> Result<Self, Failed> {
        let mut sockets = Self { directory: open(directory)?, files: Vec::new(), made: Vec::new() };
        for (name, socket) in &manifest.sockets {
            sockets.add(&manifest.container(), name, socket).doing(|| format!("make the socket {name}"))?;
        }
        Ok(sockets)
    }

    fn add(&mut self, container: &str, name: &str, wanted: &Socket) -> Result<(), Failed> {
        let file = format!("{container}:{name}");
        let kind = match wanted.kind.as_str() {
            "stream" => SocketType::STREAM,
            "datagram" => SocketType::DGRAM,
            _ => SocketType::SEQPACKET,
        };
        let socket = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)
            .called(|| "socket(AF_UNIX)")?;
        if wanted.passcred {
            set_socket_passcred(&socket, true).called(|| "setsockopt(SO_PASSCRED)")?;
        }
        remove(self.directory.as_fd(), &file)?;
        // The directory's own path may be longer than a socket's name can be.
        let path = format!("/proc/self/fd/{}/{file}", self.directory.as_raw_fd());
        let address = SocketAddrUnix::new(path.as_str()).called(|| format!("sockaddr_un({file:?})"))?;
        // Nobody connects before it is whose it is to be.
        let before = umask(Mode::from_raw_mode(0o777));
        let bound = bind(&socket, &address);
        umask(before);
        bound.called(|| format!("bind({file:?})"))?;
        self.files.push(file.clone());
        let (user, group) = (wanted.uid.map(Uid::from_raw), wanted.gid.map(Gid::from_raw));
        chownat(&self.directory, &file, user, group, AtFlags::SYMLINK_NOFOLLOW)
            .called(|| format!("chown({file:?})"))?;
        chmodat(&self.directory, &file, Mode::from_raw_mode(wanted.mode), AtFlags::empty())
            .called(|| format!("chmod({file:?})"))?;
        if kind != SocketType::DGRAM {
            listen(&socket, BACKLOG).called(|| format!("listen({file:?})"))?;
        }
        self.made.push(socket);
        Ok(())
    }

    /// The sockets themselves, for the program.
    pub(super) fn handles(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.made.iter().map(AsFd::as_fd)
    }

    /// The program has them now.
    pub(super) fn hand_over(&mut self) {
        self.made.clear();
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        for file in &self.files {
            // What is left of them, the next start removes.
            remove(self.directory.as_fd(), file).unwrap_or_default();
        }
    }
}

/// Removes the sockets of containers that are no more: those that are called as ours are. The names of those that went.
pub(super) fn sweep(directory: &str) -> Result<Vec<String>, Failed> {
    let at = open(directory)?;
    let mut removed = Vec::new();
    for entry in Dir::read_from(&at).called(|| format!("open({directory:?})"))? {
        let entry = entry.called(|| format!("getdents64({directory:?})"))?;
        let file = entry.file_name().to_string_lossy();
        if entry.file_type() == FileType::Socket && file.split(':').count() == 3 {
            remove(at.as_fd(), &file)?;
            removed.push(file.into_owned());
        }
    }
    Ok(removed)
}

fn open(directory: &str) -> Result<OwnedFd, Failed> {
    open_host(directory, OFlags::RDONLY | OFlags::DIRECTORY)
}

fn remove(directory: BorrowedFd<'_>, file: &str) -> Result<(), Failed> {
    match unlinkat(directory, file, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        removed => removed.called(|| format!("unlink({file:?})")),
    }
}
