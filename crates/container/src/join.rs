//! Into the namespaces of a process.

use std::os::fd::{AsFd, OwnedFd};

use path::open_host;
use rustix::fs::{OFlags, stat};
use rustix::thread::{
    LinkNameSpaceType, ThreadNameSpaceType, move_into_link_name_space, move_into_thread_name_spaces,
};
use sys::{Called, Doing, Errno, Failed, Pidfd};

/// The namespaces in which a process is and we are not.
#[derive(Debug)]
pub(crate) struct Others {
    pid: i32,
    kinds: Vec<Kind>,
    /// Its cgroup namespace: for the child, which joins it after the cgroups. From inside, a host that delegates by
    /// namespaces (`nsdelegate`) lets nobody be born into a cgroup that he comes to from outside.
    pub(crate) cgroup: Option<OwnedFd>,
}

type Kind = (&'static str, ThreadNameSpaceType, LinkNameSpaceType);

/// In the order of joining one by one: the user namespace last, since it takes our rights over the others.
const KINDS: [Kind; 7] = [
    ("ipc", ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION, LinkNameSpaceType::InterProcessCommunication),
    ("uts", ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME, LinkNameSpaceType::HostNameAndNISDomainName),
    ("net", ThreadNameSpaceType::NETWORK, LinkNameSpaceType::Network),
    ("pid", ThreadNameSpaceType::PROCESS_ID, LinkNameSpaceType::ProcessID),
    ("time", ThreadNameSpaceType::TIME, LinkNameSpaceType::Time),
    ("mnt", ThreadNameSpaceType::MOUNT, LinkNameSpaceType::Mount),
    ("user", ThreadNameSpaceType::USER, LinkNameSpaceType::User),
];

impl Others {
    /// Compares ours with those of the process, which must be known to live by its pidfd afterwards.
    pub(crate) fn of(pid: i32) -> Result<Self, Failed> {
        let mut kinds = Vec::new();
        for kind in KINDS {
            if differs(pid, kind.0)? {
                kinds.push(kind);
            }
        }
        let cgroup = if differs(pid, "cgroup")? { Some(open(pid, "cgroup")?) } else { None };
        Ok(Self { pid, kinds, cgroup })
    }

    /// Whether its user namespace is another one.
    pub(crate) fn has_users(&self) -> bool {
        self.kinds.iter().any(|kind| kind.0 == "user")
    }

    /// Joins all of them but the cgroup namespace: one call on Linux 5.8, one by one before. Our root and working
    /// directory are the container's afterwards; our children are born in its pid namespace.
    ///
    /// From before that on, nobody inside may trace us or our child, or reach what we have open (CVE-2016-9962).
    pub(crate) fn join(&self, process: &Pidfd) -> Result<(), Failed> {
        confine::conceal()?;
        let all = self.kinds.iter().fold(ThreadNameSpaceType::empty(), |all, kind| all | kind.1);
        if all.is_empty() {
            return Ok(());
        }
        match move_into_thread_name_spaces(process.as_fd(), all) {
            Err(Errno::INVAL | Errno::NOSYS) => self.join_each(),
            joined => joined.called(|| format!("setns(pidfd, {:#x})", all.bits())),
        }
        .doing(|| "join the container's namespaces")?;
        // The rights that came with a user namespace took it back, where `fs.suid_dumpable` says so.
        if all.contains(ThreadNameSpaceType::USER) { confine::conceal() } else { Ok(()) }
    }

    /// All handles are opened before the first is used: /proc is the container's after that.
    fn join_each(&self) -> Result<(), Failed> {
        let opened = |kind: &Kind| Ok((*kind, open(self.pid, kind.0)?));
        let handles: Vec<(Kind, OwnedFd)> = self.kinds.iter().map(opened).collect::<Result<_, Failed>>()?;
        let mut denied = Vec::new();
        for (kind, handle) in &handles {
            match move_into_link_name_space(handle.as_fd(), Some(kind.2)) {
                // What only its own user namespace allows, after that one.
                Err(Errno::PERM) if kind.0 != "user" => denied.push((kind, handle)),
                joined => joined.called(|| format!("setns({})", kind.0))?,
            }
        }
        denied.into_iter().try_for_each(|(kind, handle)| {
            move_into_link_name_space(handle.as_fd(), Some(kind.2)).called(|| format!("setns({})", kind.0))
        })
    }
}

/// A kind that this kernel lacks differs for nobody.
fn differs(pid: i32, kind: &str) -> Result<bool, Failed> {
    let look = |whose: &str| {
        let path = format!("/proc/{whose}/ns/{kind}");
        stat(path.as_str()).map(|stat| (stat.st_dev, stat.st_ino)).called(|| format!("stat({path:?})"))
    };
    let ours = match look("self") {
        Err(failed) if failed.errno() == Some(Errno::NOENT) => return Ok(false),
        ours => ours?,
    };
    Ok(look(&pid.to_string())? != ours)
}

fn open(pid: i32, kind: &str) -> Result<OwnedFd, Failed> {
    open_host(&format!("/proc/{pid}/ns/{kind}"), OFlags::RDONLY)
}
