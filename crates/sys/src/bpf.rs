//! Device programs of control groups, by bpf(2).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{Called, Doing, Errno, Failed, last_errno};

// linux/bpf.h
const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const PROG_QUERY: libc::c_int = 16;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;
const REPLACE: u32 = 4;

/// What our programs are called.
const NAME: &[u8] = b"cofferdam";

/// `BPF_PROG_LOAD` up to `expected_attach_type`.
#[repr(C)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

#[allow(clippy::struct_field_names, reason = "the names are the kernel's")]
/// `BPF_PROG_ATTACH` and `BPF_PROG_DETACH`.
#[repr(C)]
struct Attach {
    target_fd: i32,
    attach_bpf_fd: i32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: i32,
}

#[allow(clippy::struct_field_names, reason = "the names are the kernel's")]
/// `BPF_PROG_QUERY`.
#[repr(C)]
struct Query {
    target_fd: i32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    /// The kernel refuses what it does not know unless it is zero, padding included.
    padding: u32,
}

/// `BPF_PROG_GET_FD_BY_ID`.
#[repr(C)]
struct ById {
    prog_id: u32,
    next_id: u32,
    open_flags: u32,
}

/// `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
struct InfoOf {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// `struct bpf_prog_info` up to the name, whatever is before it left unread.
#[repr(C)]
struct Info {
    before: [u64; 8],
    name: [u8; 16],
}

/// A device program that the kernel has verified. It lives as long as this, or as a group that it is attached to.
#[derive(Debug)]
pub struct DeviceFilter(OwnedFd);

impl AsFd for DeviceFilter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl DeviceFilter {
    /// Has the kernel verify a program; each instruction is a `struct bpf_insn`. What the verifier has to say
    /// against it is in the error.
    pub fn load(program: &[u64]) -> Result<Self, Failed> {
        let call = || format!("bpf(BPF_PROG_LOAD, {} instructions)", program.len());
        match load(program, &mut []) {
            Ok(fd) => Ok(Self(fd)),
            // Before Linux 5.11 programs counted as locked memory.
            Err(Errno::PERM) => load_beyond_limit(program).called(call).map(Self),
            Err(errno) => {
                let mut log = vec![0; 16 * 1024];
                match load(program, &mut log) {
                    Ok(fd) => Ok(Self(fd)),
                    Err(_) => Err(Failed::call(call(), errno)).doing(|| said(&log)),
                }
            }
        }
    }

    /// Attaches it to a v2 group, beside what is attached there. A use of a device must pass every program.
    pub fn attach(&self, group: BorrowedFd<'_>) -> Result<(), Failed> {
        attach(group, self.as_fd(), None).called(|| "bpf(BPF_PROG_ATTACH, BPF_CGROUP_DEVICE)")
    }

    /// Attaches it in the place of one that is attached: at no moment is the group without either.
    pub fn replace(&self, group: BorrowedFd<'_>, old: &Self) -> Result<(), Failed> {
        let call = || "bpf(BPF_PROG_ATTACH, BPF_CGROUP_DEVICE, BPF_F_REPLACE)";
        match attach(group, self.as_fd(), Some(old.as_fd())) {
            // BPF_F_REPLACE is there since Linux 5.6. Until then both hold for a moment.
            Err(Errno::INVAL) => {
                self.attach(group)?;
                old.detach(group)
            }
            result => result.called(call),
        }
    }

    /// Whether it bears the name that [`DeviceFilter::load`] gives.
    pub fn is_ours(&self) -> Result<bool, Failed> {
        let mut info = Info { before: [0; 8], name: [0; 16] };
        let mut attr = InfoOf {
            bpf_fd: self.0.as_raw_fd().cast_unsigned(),
            info_len: u32::try_from(size_of::<Info>()).unwrap_or(u32::MAX),
            info: std::ptr::from_mut(&mut info) as u64,
        };
        bpf(OBJ_GET_INFO_BY_FD, &mut attr).called(|| "bpf(BPF_OBJ_GET_INFO_BY_FD)")?;
        let end = info.name.iter().position(|byte| *byte == 0).unwrap_or(info.name.len());
        Ok(&info.name[..end] == NAME)
    }

    /// Takes it off a group.
    pub fn detach(&self, group: BorrowedFd<'_>) -> Result<(), Failed> {
        let mut attr = Attach {
            target_fd: group.as_raw_fd(),
            attach_bpf_fd: self.0.as_raw_fd(),
            attach_type: CGROUP_DEVICE,
            attach_flags: 0,
            replace_bpf_fd: 0,
        };
        bpf(PROG_DETACH, &mut attr).called(|| "bpf(BPF_PROG_DETACH, BPF_CGROUP_DEVICE)")?;
        Ok(())
    }

    /// The programs that are attached to a group itself, not those of its ancestors. One that we may not open is
    /// left out: it is somebody else's, and what it denies stays denied.
    pub fn attached(group: BorrowedFd<'_>) -> Result<Vec<Self>, Failed> {
        let mut ids = vec![0_u32; 64];
        let count = loop {
            let mut attr = Query {
                target_fd: group.as_raw_fd(),
                attach_type: CGROUP_DEVICE,
                query_flags: 0,
                attach_flags: 0,
                prog_ids: ids.as_mut_ptr() as u64,
                prog_cnt: u32::try_from(ids.len()).unwrap_or(u32::MAX),
                padding: 0,
            };
            match bpf(PROG_QUERY, &mut attr) {
                Ok(_) => break attr.prog_cnt as usize,
                Err(Errno::NOSPC) if ids.len() < 4096 => ids.resize(ids.len() * 4, 0),
                Err(errno) => return Err(Failed::call("bpf(BPF_PROG_QUERY, BPF_CGROUP_DEVICE)", errno)),
            }
        };
        ids.truncate(count);
        let mut programs = Vec::with_capacity(ids.len());
        for id in ids {
            let mut attr = ById { prog_id: id, next_id: 0, open_flags: 0 };
            match bpf(PROG_GET_FD_BY_ID, &mut attr) {
                // SAFETY: the call succeeded: the number is a new descriptor that nobody else owns.
                Ok(fd) => programs.push(Self(unsafe { OwnedFd::from_raw_fd(fd) })),
                // Gone since the question, or not ours to open.
                Err(Errno::NOENT | Errno::PERM) => {}
                Err(errno) => return Err(Failed::call(format!("bpf(BPF_PROG_GET_FD_BY_ID, {id})"), errno)),
            }
        }
        Ok(programs)
    }
}

fn load(program: &[u64], log: &mut [u8]) -> Result<OwnedFd, Errno> {
    let mut prog_name = [0; 16];
    prog_name[..NAME.len()].copy_from_slice(NAME);
    let size = |length: usize| u32::try_from(length).map_err(|_| Errno::TOOBIG);
    let mut attr = Load {
        prog_type: PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: size(program.len())?,
        insns: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: u32::from(!log.is_empty()),
        log_size: size(log.len())?,
        log_buf: if log.is_empty() { 0 } else { log.as_mut_ptr() as u64 },
        kern_version: 0,
        prog_flags: 0,
        prog_name,
        prog_ifindex: 0,
        expected_attach_type: CGROUP_DEVICE,
    };
    let fd = bpf(PROG_LOAD, &mut attr)?;
    // SAFETY: the call succeeded: the number is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Once more with the limit of locked memory lifted, which is put back: the container inherits ours.
fn load_beyond_limit(program: &[u64]) -> Result<OwnedFd, Errno> {
    let before = getrlimit(Resource::Memlock);
    setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None }).map_err(|_| Errno::PERM)?;
    let loaded = load(program, &mut []);
    setrlimit(Resource::Memlock, before)?;
    loaded
}

fn attach(group: BorrowedFd<'_>, program: BorrowedFd<'_>, old: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
    let mut attr = Attach {
        target_fd: group.as_raw_fd(),
        attach_bpf_fd: program.as_raw_fd(),
        attach_type: CGROUP_DEVICE,
        attach_flags: ALLOW_MULTI | if old.is_some() { REPLACE } else { 0 },
        replace_bpf_fd: old.map_or(0, |old| old.as_raw_fd()),
    };
    bpf(PROG_ATTACH, &mut attr).map(drop)
}

/// The verifier's last word, on one line.
fn said(log: &[u8]) -> String {
    let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
    let text = String::from_utf8_lossy(&log[..end]);
    let last: Vec<&str> = text.lines().rev().filter(|line| !line.starts_with("processed")).take(3).collect();
    let words: Vec<&str> = last.into_iter().rev().collect();
    format!("the verifier said {:?}", words.join("; "))
}

/// `A` is one of the structs above: plain numbers without hidden padding.
fn bpf<A>(command: libc::c_int, attr: &mut A) -> Result<i32, Errno> {
    // SAFETY: `attr` is a live struct of the size passed, laid out as this command reads and writes it; the
    // pointers in it are to live buffers of the lengths beside them, and the kernel keeps none of them.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<A>()) };
    if answer == -1 { Err(last_errno()) } else { Ok(i32::try_from(answer).unwrap_or(-1)) }
}
