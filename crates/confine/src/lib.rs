//! What a process gives up before it is the container's program: capabilities, identity, limits, privileges to come, system
//! calls; and how it is scheduled and placed.
//!
//! Touches: the calling thread, which must be the only one.
//! Never:   gives anything back; goes on when something could not be given up.
//! Begin with [`bound`], then [`become_user`], then [`keep`].

mod label;
mod schedule;

pub use label::label;
pub use schedule::{behave, place, schedule, serve, stay_on};

use std::os::fd::OwnedFd;

use plan::Capabilities;
use rustix::fs::{Mode, OFlags};
use rustix::process::{DumpableBehavior, Gid, Uid, set_dumpable_behavior, umask};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities, set_no_new_privs,
    set_thread_res_gid, set_thread_res_uid,
};
use spec::RlimitKind;
use sys::{Called, Errno, Failed, raise_limit, set_groups, set_limit};

/// Drops capabilities from the bounding set: bit n for capability n.
pub fn bound(dropped: u64) -> Result<(), Failed> {
    for bit in (0..64).filter(|bit| dropped & (1 << bit) != 0) {
        match remove_capability_from_bounding_set(one(bit)) {
            // One that this kernel does not have, nobody has.
            Err(Errno::INVAL) => {}
            dropped => dropped.called(|| format!("prctl(PR_CAPBSET_DROP, {bit})"))?,
        }
    }
    Ok(())
}

fn one(bit: u32) -> CapabilitySet {
    CapabilitySet::from_bits_retain(1 << bit)
}

/// Becomes user and group. Permitted capabilities stay until [`keep`] takes its turn.
///
/// Without `groups` those of our caller stay.
pub fn become_user(uid: u32, gid: u32, groups: Option<&[u32]>) -> Result<(), Failed> {
    if uid != 0 {
        // Leaving uid 0 would clear every capability.
        set_keep_capabilities(true).called(|| "prctl(PR_SET_KEEPCAPS, 1)")?;
    }
    groups.map_or(Ok(()), set_groups)?;
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
    set_thread_res_gid(Some(group), Some(group), Some(group)).called(|| format!("setresgid({gid})"))?;
    set_thread_res_uid(Some(user), Some(user), Some(user)).called(|| format!("setresuid({uid})"))?;
    if uid != 0 {
        set_keep_capabilities(false).called(|| "prctl(PR_SET_KEEPCAPS, 0)")?;
    }
    Ok(())
}

/// Becomes the root of the user namespace that we came into, whose ids are mapped by now, and a member of no other group,
/// unless our caller's are to stay.
pub fn become_root(keeps_groups: bool) -> Result<(), Failed> {
    let (user, group) = (Uid::ROOT, Gid::ROOT);
    if !keeps_groups {
        set_groups(&[])?;
    }
    set_thread_res_gid(Some(group), Some(group), Some(group)).called(|| "setresgid(0)")?;
    set_thread_res_uid(Some(user), Some(user), Some(user)).called(|| "setresuid(0)")
}

/// Keeps exactly these capabilities, or fails.
pub fn keep(kept: &Capabilities) -> Result<(), Failed> {
    let set = CapabilitySet::from_bits_retain;
    let sets = CapabilitySets {
        effective: set(kept.effective),
        permitted: set(kept.permitted),
        inheritable: set(kept.inheritable),
    };
    set_capabilities(None, sets).called(|| {
        let Capabilities { effective, permitted, inheritable, .. } = kept;
        format!("capset(effective {effective:#x}, permitted {permitted:#x}, inheritable {inheritable:#x})")
    })?;
    clear_ambient_capability_set().called(|| "prctl(PR_CAP_AMBIENT_CLEAR_ALL)")?;
    for bit in (0..64).filter(|bit| kept.ambient & (1 << bit) != 0) {
        configure_capability_in_ambient_set(one(bit), true)
            .called(|| format!("prctl(PR_CAP_AMBIENT_RAISE, {bit})"))?;
    }
    Ok(())
}

/// Becomes a user who can do nothing that this one could: without any capability, or a way to any, for ever, and without
/// supplementary groups. Nobody of that user may look into this process.
pub fn renounce(uid: u32, gid: u32) -> Result<(), Failed> {
    bound(u64::MAX)?;
    become_user(uid, gid, Some(&[]))?;
    keep(&Capabilities::default())?;
    lock()?;
    conceal()
}

/// Gives up gaining privileges by execve(2), for ever.
pub fn lock() -> Result<(), Failed> {
    set_no_new_privs(true).called(|| "prctl(PR_SET_NO_NEW_PRIVS)")
}

/// Has this thread's system calls filtered, for ever: instructions as the plan packs them. Without no_new_privs it takes
/// CAP_SYS_ADMIN in the thread's user namespace. Where an agent is to answer some of them, that is the listener it needs.
pub fn filter(filter: &plan::Filter) -> Result<Option<OwnedFd>, Failed> {
    sys::load_filter(&filter.program, filter.flags)
}

/// Lets nobody trace this process, or look into its memory and at what it has open, who has no power over the host
/// itself: until execve(2), or until its ids change.
pub fn conceal() -> Result<(), Failed> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).called(|| "prctl(PR_SET_DUMPABLE, 0)")
}

/// Sets a resource limit; `u64::MAX` is "no limit".
pub fn limit(kind: RlimitKind, soft: u64, hard: u64) -> Result<(), Failed> {
    set_limit(resource(kind), soft, hard)
}

/// Makes sure that our own hard limit is no lower than this, for children that could not raise theirs.
pub fn raise(kind: RlimitKind, hard: u64) -> Result<(), Failed> {
    raise_limit(resource(kind), hard)
}

/// Sets the file mode creation mask.
pub fn mask_modes(mask: u32) {
    umask(Mode::from_raw_mode(mask));
}

/// The kernel's numbers of getrlimit(2), as x86 and arm have them.
fn resource(kind: RlimitKind) -> u32 {
    match kind {
        RlimitKind::Cpu => 0,
        RlimitKind::Fsize => 1,
        RlimitKind::Data => 2,
        RlimitKind::Stack => 3,
        RlimitKind::Core => 4,
        RlimitKind::Rss => 5,
        RlimitKind::Nproc => 6,
        RlimitKind::Nofile => 7,
        RlimitKind::Memlock => 8,
        RlimitKind::As => 9,
        RlimitKind::Locks => 10,
        RlimitKind::Sigpending => 11,
        RlimitKind::Msgqueue => 12,
        RlimitKind::Nice => 13,
        RlimitKind::Rtprio => 14,
        RlimitKind::Rttime => 15,
    }
}

/// Writes the calling process's `oom_score_adj`, -1000 to 1000.
pub fn score(proc: &path::Procfs, score: i32) -> Result<(), Failed> {
    proc.write("self/oom_score_adj", &score.to_string())
}

/// Writes a kernel parameter; `key` is a path below /proc/sys.
pub fn tune(proc: &path::Procfs, key: &str, value: &str) -> Result<(), Failed> {
    let file = proc.open(&format!("sys/{key}"), OFlags::WRONLY)?;
    rustix::io::write(&file, value.as_bytes())
        .map(drop)
        .called(|| format!("write(\"/proc/sys/{key}\", {value:?})"))
}
