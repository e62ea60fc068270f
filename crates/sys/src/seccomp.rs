//! seccomp(2): filters of system calls.

use std::os::fd::{FromRawFd, OwnedFd};

use crate::{Errno, Failed, last_errno};

/// `SECCOMP_FILTER_FLAG_NEW_LISTENER`: the kernel answers with a descriptor at which calls are heard and answered. Since
/// Linux 5.0.
const NEW_LISTENER: u32 = 1 << 3;

/// Loads a filter for this thread, for ever. Each instruction is a `struct sock_filter`: code in the lowest 16 bits, then
/// 8 of `jt`, 8 of `jf`, 32 of `k`. `flags` are `SECCOMP_FILTER_FLAG_*`; where they ask for a listener, it is returned: an
/// agent hears and answers calls there (`seccomp_unotify(2)`).
///
/// `EACCES` without no_new_privs and without CAP_SYS_ADMIN in the thread's user namespace; `EINVAL` for an instruction or
/// a flag that this kernel does not know; `EBUSY` for a listener where a filter around us has one already.
pub fn load_filter(program: &[u64], flags: u32) -> Result<Option<OwnedFd>, Failed> {
    let call = || format!("seccomp(SECCOMP_SET_MODE_FILTER, {flags:#x}, {} instructions)", program.len());
    let Ok(len) = u16::try_from(program.len()) else {
        return Err(Failed::call(call(), Errno::INVAL));
    };
    let mut code: Vec<libc::sock_filter> = program.iter().map(|packed| unpack(*packed)).collect();
    let program = libc::sock_fprog { len, filter: code.as_mut_ptr() };
    // SAFETY: the kernel reads `len` instructions from `code`, which lives until the call has returned, and writes nothing.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    if result == -1 {
        return Err(Failed::call(call(), last_errno()));
    }
    let number = i32::try_from(result).ok().filter(|_| flags & NEW_LISTENER != 0);
    // SAFETY: the call succeeded with the flag: the kernel answered with a new descriptor, owned by nobody else.
    Ok(number.map(|number| unsafe { OwnedFd::from_raw_fd(number) }))
}

/// Whether this kernel takes these flags of seccomp(2), `SECCOMP_FILTER_FLAG_*`, together. Nothing is loaded.
pub fn has_filter_flags(flags: u32) -> bool {
    let nothing = std::ptr::null::<libc::sock_fprog>();
    // SAFETY: the kernel looks at the flags first, and answers EFAULT for the program that is not there.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, nothing) };
    result == -1 && last_errno() == Errno::FAULT
}

fn unpack(packed: u64) -> libc::sock_filter {
    let [code_low, code_high, jt, jf, k @ ..] = packed.to_le_bytes();
    libc::sock_filter { code: u16::from_le_bytes([code_low, code_high]), jt, jf, k: u32::from_le_bytes(k) }
}
