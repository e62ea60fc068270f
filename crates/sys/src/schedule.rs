//! How the kernel schedules this thread, serves its disks and places its memory: calls that rustix lacks.

use std::mem::size_of;

use crate::{Called, Errno, Failed, last_errno};

/// What `sched_setattr(2)` is told: struct `sched_attr` without its size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scheduling {
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*` bits.
    pub flags: u64,
    /// -20 to 19, for the fair policies.
    pub nice: i32,
    /// For the realtime policies.
    pub priority: u32,
    /// Nanoseconds, for `SCHED_DEADLINE`.
    pub runtime: u64,
    /// Nanoseconds, for `SCHED_DEADLINE`.
    pub deadline: u64,
    /// Nanoseconds, for `SCHED_DEADLINE`.
    pub period: u64,
}

/// struct `sched_attr` of `sched_setattr(2)`, as of Linux 5.3; older kernels take it as long as what they do not know is 0.
#[repr(C)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
    util_min: u32,
    util_max: u32,
}

/// `SCHED_ATTR_SIZE_VER1`.
const SIZE: u32 = 56;
const _: () = assert!(size_of::<Attributes>() == SIZE as usize);

/// `sched_setattr(2)` of this thread.
pub fn set_scheduler(scheduling: &Scheduling) -> Result<(), Failed> {
    let Scheduling { policy, flags, nice, priority, runtime, deadline, period } = *scheduling;
    let attributes = Attributes {
        size: SIZE,
        policy,
        flags,
        nice,
        priority,
        runtime,
        deadline,
        period,
        util_min: 0,
        util_max: 0,
    };
    // SAFETY: `attributes` lives on this frame, tells its own size, and the kernel reads that much.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    answer(result).called(|| format!("sched_setattr(policy {policy}, flags {flags:#x})"))
}

/// `ioprio_set(2)` of this thread: a class and, within it, 0 (first) to 7.
pub fn set_io_priority(class: u16, level: u16) -> Result<(), Failed> {
    const IOPRIO_WHO_PROCESS: i32 = 1;
    const IOPRIO_CLASS_SHIFT: u16 = 13;
    let priority = i32::from(class << IOPRIO_CLASS_SHIFT | level);
    // SAFETY: plain numbers only.
    let result = unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, priority) };
    answer(result).called(|| format!("ioprio_set(class {class}, {level})"))
}

/// `set_mempolicy(2)` of this thread: `MPOL_*` with `MPOL_F_*` bits, and bit n of `nodes` for memory node n.
pub fn set_memory_policy(mode: u32, nodes: &[u64]) -> Result<(), Failed> {
    // The kernel takes one bit less than it is told.
    let bits = if nodes.is_empty() { 0 } else { nodes.len() * 64 + 1 };
    let mask = if nodes.is_empty() { std::ptr::null() } else { nodes.as_ptr() };
    // SAFETY: the kernel reads `bits - 1` bits from the slice, which has that many; nothing where there is none.
    let result = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode.cast_signed(), mask, bits) };
    answer(result).called(|| format!("set_mempolicy(mode {mode:#x}, {nodes:x?})"))
}

/// personality(2) of this thread, `PER_*`.
pub fn set_personality(domain: u32) -> Result<(), Failed> {
    // SAFETY: plain numbers only; the memory that is mapped already stays as it is.
    let result = unsafe { libc::personality(domain.into()) };
    answer(result.into()).called(|| format!("personality({domain:#x})"))
}

fn answer(result: i64) -> Result<(), Errno> {
    if result == -1 { Err(last_errno()) } else { Ok(()) }
}

/// Gives the calling process's group a core-scheduling cookie of its own: what runs beside it on a core is of that group
/// (prctl(2), `PR_SCHED_CORE`, Linux 5.14).
pub fn share_cores_with_nobody() -> Result<(), Failed> {
    const PR_SCHED_CORE: i32 = 62;
    const CREATE: libc::c_ulong = 1;
    const PIDTYPE_PGID: libc::c_ulong = 2;
    // SAFETY: plain numbers, and 0 where the call has an address to write to, which this command does not use.
    if unsafe { libc::prctl(PR_SCHED_CORE, CREATE, 0 as libc::c_ulong, PIDTYPE_PGID, 0 as libc::c_ulong) }
        == -1
    {
        return Err(Failed::call("prctl(PR_SCHED_CORE)", last_errno()));
    }
    Ok(())
}
