//! Becoming another program, and becoming ourselves from a file that nobody inside can write.

use std::ffi::{CStr, CString, NulError, c_char};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr;

use rustix::fs::{
    CWD, MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, memfd_create, open,
    sendfile, stat, statfs,
};
use rustix::mount::{MountAttrFlags, OpenTreeFlags, open_tree};
use rustix::process::geteuid;

use crate::{Called, Errno, Failed, change_mount, last_errno};

/// An argument vector or an environment, laid out as execve(2) wants it.
#[derive(Debug)]
pub struct Strings {
    owned: Vec<CString>,
    pointers: Vec<*const c_char>,
    /// The file that is executed, where it is not the first string itself.
    program: Option<CString>,
}

impl Strings {
    /// The strings in order. Fails where one holds a NUL byte, which no program could receive.
    pub fn new<S: AsRef<str>>(strings: &[S]) -> Result<Self, NulError> {
        let owned = strings.iter().map(|s| CString::new(s.as_ref())).collect::<Result<Vec<_>, _>>()?;
        Ok(Self::from(owned))
    }

    /// Adds one string at the end.
    pub fn push(&mut self, string: CString) {
        self.owned.push(string);
        self.pointers = lay_out(&self.owned);
    }

    /// Names the file that [`Strings::execute`] executes; the first string stays what the program sees as its name.
    pub fn program(&mut self, file: CString) {
        self.program = Some(file);
    }

    /// execve(2) with this argument vector: comes back only with the reason why not.
    pub fn execute(&self, environment: &Self) -> Errno {
        match self.program.as_ref().or(self.owned.first()) {
            Some(file) => execute(file, self, environment),
            None => Errno::NOENT,
        }
    }

    /// The strings.
    pub fn iter(&self) -> impl Iterator<Item = &CStr> {
        self.owned.iter().map(CString::as_c_str)
    }
}

impl From<Vec<CString>> for Strings {
    fn from(owned: Vec<CString>) -> Self {
        let pointers = lay_out(&owned);
        Self { owned, pointers, program: None }
    }
}

fn lay_out(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
}

/// This process's own environment, byte for byte.
pub fn environment() -> Strings {
    use std::os::unix::ffi::OsStringExt;
    let pairs = std::env::vars_os().filter_map(|(name, value)| {
        let mut pair = name.into_vec();
        pair.push(b'=');
        pair.extend(value.into_vec());
        CString::new(pair).ok()
    });
    Strings::from(pairs.collect::<Vec<_>>())
}

/// execve(2): comes back only with the reason why not.
pub fn execute(program: &CStr, arguments: &Strings, environment: &Strings) -> Errno {
    // SAFETY: `program` is a C string; both vectors end in a null pointer and point to C strings that they own
    // themselves, all of them borrowed for the time of the call.
    unsafe { libc::execve(program.as_ptr(), arguments.pointers.as_ptr(), environment.pointers.as_ptr()) };
    last_errno()
}

/// execveat(2) of an open file: comes back only with the reason why not.
pub fn execute_fd(program: BorrowedFd<'_>, arguments: &Strings, environment: &Strings) -> Errno {
    // SAFETY: as in `execute`; the empty path with AT_EMPTY_PATH names the descriptor itself.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            arguments.pointers.as_ptr(),
            environment.pointers.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    last_errno()
}

const OURSELVES: &CStr = c"/proc/self/exe";

/// `ST_RDONLY` of statfs(2).
const READ_ONLY: u64 = 1;

/// `TMPFS_MAGIC` of linux/magic.h: the file system that memfds are of.
const TMPFS: i64 = 0x0102_1994;

/// Makes sure that our own executable cannot be written through /proc/PID/exe by what runs in a container
/// (CVE-2019-5736): returns when that is so, and otherwise executes this program anew from a read-only view of
/// itself, or from a sealed copy where no such view can be had.
///
/// The proof is the kernel's own word, not an environment variable that a caller could set: the mount that we
/// were executed from is read-only, or the file is a memfd sealed against writing.
pub fn seal() -> Result<(), Failed> {
    let fs = statfs(OURSELVES).called(|| "statfs(\"/proc/self/exe\")")?;
    if fs.f_flags.cast_unsigned() & READ_ONLY != 0 || (fs.f_type == TMPFS && is_sealed_copy()?) {
        return Ok(());
    }
    let arguments = std::env::args_os().filter_map(|argument| {
        use std::os::unix::ffi::OsStringExt;
        CString::new(argument.into_vec()).ok()
    });
    let arguments = Strings::from(arguments.collect::<Vec<_>>());
    if is_out_of_reach()? {
        return Ok(());
    }
    let ourselves = protected_view()?;
    let errno = execute_fd(ourselves.as_fd(), &arguments, &environment());
    Err(Failed::call("execveat(ourselves)", errno))
}

/// Our own executable as nobody can write it through us: what a process executes that is to be found sealed by [`seal`].
pub fn protected_view() -> Result<rustix::fd::OwnedFd, Failed> {
    read_only_view().or_else(|_| sealed_copy())
}

/// Whether we are an ordinary user's, and our program root's, whom no container of that user's can become, and whose
/// files it may write no more than its maker may.
fn is_out_of_reach() -> Result<bool, Failed> {
    const WRITABLE_BY_OTHERS: u32 = 0o022;
    if geteuid().is_root() {
        return Ok(false);
    }
    let file = stat(OURSELVES).called(|| "stat(\"/proc/self/exe\")")?;
    // An access list shows its widest rights where the group's stand.
    Ok(file.st_uid == 0 && file.st_mode & WRITABLE_BY_OTHERS == 0)
}

/// Nothing is copied: a detached mount of the one file, read-only, that vanishes with its last user.
fn read_only_view() -> Result<rustix::fd::OwnedFd, Failed> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let view = open_tree(CWD, OURSELVES, flags).called(|| "open_tree(\"/proc/self/exe\")")?;
    let read_only = u64::from(MountAttrFlags::MOUNT_ATTR_RDONLY.bits());
    change_mount(view.as_fd(), read_only, 0, false)?;
    Ok(view)
}

const SEALS: SealFlags =
    SealFlags::SEAL.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::WRITE);

fn is_sealed_copy() -> Result<bool, Failed> {
    let file = open(OURSELVES, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .called(|| "open(\"/proc/self/exe\")")?;
    // EINVAL: the file's kind knows no seals, so it is no memfd.
    Ok(fcntl_get_seals(&file).is_ok_and(|seals| seals.contains(SEALS)))
}

fn sealed_copy() -> Result<rustix::fd::OwnedFd, Failed> {
    const EXECUTABLE: MemfdFlags = MemfdFlags::from_bits_retain(0x10);
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // MFD_EXEC is asked for where the kernel knows it (6.3), so that vm.memfd_noexec=1 does not bite.
    let copy = memfd_create("cofferdam", flags | EXECUTABLE)
        .or_else(|_| memfd_create("cofferdam", flags))
        .called(|| "memfd_create(\"cofferdam\")")?;
    let file = open(OURSELVES, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .called(|| "open(\"/proc/self/exe\")")?;
    let mut left = fstat(&file).called(|| "fstat(ourselves)")?.st_size.cast_unsigned();
    while left > 0 {
        match sendfile(&copy, &file, None, usize::try_from(left).unwrap_or(usize::MAX))
            .called(|| "sendfile(ourselves)")?
        {
            0 => {
                return Err(Failed::call(
                    "sendfile(ourselves)",
                    Errno::from_io_error(&io::ErrorKind::UnexpectedEof.into()).unwrap_or(Errno::IO),
                ));
            }
            sent => left = left.saturating_sub(sent as u64),
        }
    }
    fcntl_add_seals(&copy, SEALS).called(|| "fcntl(F_ADD_SEALS)")?;
    Ok(copy)
}
