//! Single calls that rustix lacks, each named after what it is for.

use std::ffi::CStr;
use std::os::fd::AsRawFd;

use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::{Called, Errno, Failed, last_errno};

/// Brings the loopback interface of this network namespace up (netdevice(7), `SIOCSIFFLAGS`).
pub fn loopback_up() -> Result<(), Failed> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .called(|| "socket(AF_INET, SOCK_DGRAM)")?;
    // SAFETY: all zeroes is a valid ifreq: arrays of bytes and a union of plain numbers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    // A new interface has no flag but IFF_LOOPBACK, which cannot be set or cleared: nothing is lost by not asking.
    request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or(i16::MAX);
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which lives on this frame.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) } == -1 {
        return Err(Failed::call("ioctl(SIOCSIFFLAGS, \"lo\")", last_errno()));
    }
    Ok(())
}

/// Leaves this process's cgroups as roots of a new cgroup namespace.
pub fn unshare_cgroup() -> Result<(), Failed> {
    // SAFETY: CLONE_NEWCGROUP changes only what this process sees of /proc and new cgroup mounts.
    if unsafe { libc::unshare(libc::CLONE_NEWCGROUP) } == -1 {
        return Err(Failed::call("unshare(CLONE_NEWCGROUP)", last_errno()));
    }
    Ok(())
}

/// Leaves this process's user namespace for a new one, whose ids nobody has mapped yet. Refused with `EINVAL` to a process of
/// several threads.
pub fn unshare_users() -> Result<(), Failed> {
    // SAFETY: CLONE_NEWUSER changes only who this process is, and what it may.
    if unsafe { libc::unshare(libc::CLONE_NEWUSER) } == -1 {
        return Err(Failed::call("unshare(CLONE_NEWUSER)", last_errno()));
    }
    Ok(())
}

/// Gives the children of this process a time namespace of their own, which this process may enter afterwards.
pub fn unshare_time() -> Result<(), Failed> {
    const CLONE_NEWTIME: i32 = 0x80;
    // SAFETY: CLONE_NEWTIME changes only which clocks children of this process see.
    if unsafe { libc::unshare(CLONE_NEWTIME) } == -1 {
        return Err(Failed::call("unshare(CLONE_NEWTIME)", last_errno()));
    }
    Ok(())
}

/// Leaves the mount table that this process shares with others for a copy of its own. What the host mounts later still
/// arrives in it, and nothing that is mounted in it leaves.
pub fn unshare_mounts() -> Result<(), Failed> {
    // SAFETY: CLONE_NEWNS (which takes CLONE_FS with it) changes only which mounts this process sees, and how.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } == -1 {
        return Err(Failed::call("unshare(CLONE_NEWNS)", last_errno()));
    }
    mount_change(c"/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .called(|| "mount(\"/\", MS_SLAVE | MS_REC)")
}

/// Joins a new session keyring of this name (keyctl(2)), so that the container does not share its caller's.
///
/// Kernels without keys (`ENOSYS`) have nothing to share, which is as good.
///
/// `others`: whoever is not its user may search it too, for a process that comes from outside its user namespace.
pub fn join_keyring(name: &CStr, others: bool) -> Result<(), Failed> {
    const KEYCTL_JOIN_SESSION_KEYRING: i32 = 1;
    const KEYCTL_SETPERM: i32 = 5;
    // What the kernel gives a session keyring (the possessor everything but to change it, its user to see, read and
    // link it), and that its user, or everybody, may search it, as runc grants, so that exec finds it.
    const PERMISSIONS: u32 = 0x3f13_0000;
    let search: u32 = if others { 0x0000_0008 } else { 0x0008_0000 };
    // SAFETY: the name is a C string that the kernel copies.
    let key = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) };
    if key == -1 {
        return match last_errno() {
            Errno::NOSYS => Ok(()),
            errno => Err(Failed::call(format!("keyctl(JOIN_SESSION_KEYRING, {name:?})"), errno)),
        };
    }
    // SAFETY: plain numbers only.
    if unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_SETPERM, key, PERMISSIONS | search) } == -1 {
        return Err(Failed::call("keyctl(SETPERM)", last_errno()));
    }
    Ok(())
}

/// setgroups(2) of this thread, by number.
pub fn set_groups(groups: &[u32]) -> Result<(), Failed> {
    // SAFETY: the kernel reads `len` numbers from the slice.
    if unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) } == -1 {
        return Err(Failed::call(format!("setgroups({groups:?})"), last_errno()));
    }
    Ok(())
}

/// setrlimit(2) by the kernel's number of the resource; `u64::MAX` is "no limit".
pub fn set_limit(resource: u32, soft: u64, hard: u64) -> Result<(), Failed> {
    let limit = [soft, hard];
    // SAFETY: struct rlimit64 is two 64-bit numbers; the kernel reads them and writes nothing through null.
    let result = unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, resource, limit.as_ptr(), std::ptr::null_mut::<u64>())
    };
    if result == -1 {
        Err(Failed::call(format!("prlimit({resource}, {soft}, {hard})"), last_errno()))
    } else {
        Ok(())
    }
}

/// Raises this process's hard limit of a resource to `hard` where it is lower; the soft one stays.
pub fn raise_limit(resource: u32, hard: u64) -> Result<(), Failed> {
    let mut limit = [0u64; 2];
    // SAFETY: struct rlimit64 is two 64-bit numbers; the kernel writes them and reads nothing through null.
    let result = unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, resource, std::ptr::null::<u64>(), limit.as_mut_ptr())
    };
    if result == -1 {
        return Err(Failed::call(format!("prlimit({resource})"), last_errno()));
    }
    let [soft, ceiling] = limit;
    if ceiling >= hard { Ok(()) } else { set_limit(resource, soft, hard) }
}

/// Ends this process at once: for the child of a fork, whose parent's buffers and exit handlers are not its own.
pub fn leave(status: u8) -> ! {
    // SAFETY: _exit(2) takes a plain number and does not come back.
    unsafe { libc::_exit(status.into()) }
}

/// Opens the null device in place of each standard stream that our caller closed, lowest first, as it must be.
pub fn open_streams() -> Result<(), Failed> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::fs::{Mode, OFlags, open};
    let (stdin, stdout, stderr) = (rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr());
    let mut streams = [&stdin, &stdout, &stderr].map(|stream| PollFd::new(stream, PollFlags::empty()));
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut streams, Some(&now)).called(|| "poll(standard streams)")?;
    for stream in streams {
        if stream.revents().contains(PollFlags::NVAL) {
            let null = open("/dev/null", OFlags::RDWR, Mode::empty()).called(|| "open(\"/dev/null\")")?;
            // It is the stream now, and stays open as one.
            std::mem::forget(null);
        }
    }
    Ok(())
}

/// The lowest of `count` descriptors from `first` on that is not open.
///
/// What was opened since this process began may be among those that are: it is to be asked before anything is.
pub fn first_closed(first: u32, count: u32) -> Option<u32> {
    (first..=first.saturating_add(count.checked_sub(1)?)).find(|number| {
        // SAFETY: F_GETFD takes a plain number, open or not, and changes nothing.
        unsafe { libc::fcntl(number.cast_signed(), libc::F_GETFD) == -1 }
    })
}
