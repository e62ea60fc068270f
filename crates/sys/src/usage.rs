//! What processes used.

use std::mem::MaybeUninit;

use crate::{Called, Failed, last_errno};

/// The largest resident set of any child that was waited for, and of those that it waited for, in KiB
/// (getrusage(2)). Each process begins with the size of the one that it was forked from.
pub fn peak_of_children() -> Result<u64, Failed> {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` lives on this frame and is as large as the kernel writes.
    let result = unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr()) };
    let answer = if result == -1 { Err(last_errno()) } else { Ok(()) };
    answer.called(|| "getrusage(RUSAGE_CHILDREN)")?;
    // SAFETY: the call succeeded and filled `usage`; all zeroes would be valid too.
    let usage = unsafe { usage.assume_init() };
    Ok(u64::try_from(usage.ru_maxrss).unwrap_or(0))
}
