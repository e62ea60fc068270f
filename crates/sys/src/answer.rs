//! Whether the kernel has a call: asked by making it, in a form that can do nothing.

use std::ffi::c_long;

use crate::Errno;
use crate::clone::ask_into_cgroup;

/// A call that a container is made with, if the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// bpf(2)
    Bpf,
    /// clone3(2)
    Clone3,
    /// clone3(2) with `CLONE_INTO_CGROUP`, which is a flag and so another question
    CloneIntoCgroup,
    /// close_range(2)
    CloseRange,
    /// keyctl(2)
    Keyctl,
    /// landlock_create_ruleset(2)
    Landlock,
    /// mount_setattr(2)
    MountSetattr,
    /// openat2(2)
    Openat2,
    /// open_tree(2), which stands for fsopen(2) and the others that came with it; those are refused to ordinary users
    /// before anything else about them is looked at
    OpenTree,
    /// pidfd_open(2)
    PidfdOpen,
    /// pidfd_send_signal(2)
    PidfdSendSignal,
    /// seccomp(2)
    Seccomp,
}

/// What the kernel said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It has the call.
    There,
    /// It does not know it, or a filter says so in its name.
    Lacking,
    /// It may not be made, be it there or not: a filter, mostly.
    Denied,
}

impl Call {
    /// Asks the kernel. Nothing is made, changed or opened by it.
    pub fn answer(self) -> Answer {
        const NONE: c_long = -1;
        const UNKNOWN: c_long = 0x7fff_ffff;
        let outcome = match self {
            Self::Bpf => ask(libc::SYS_bpf, [UNKNOWN, 0, 0, 0, 0]),
            Self::Clone3 => ask(libc::SYS_clone3, [0, 0, 0, 0, 0]),
            Self::CloneIntoCgroup => match ask_into_cgroup() {
                // It looked for the cgroup: it knows what the flag means. An older one refuses the flag itself.
                Errno::BADF => Err(Errno::BADF),
                Errno::PERM => Err(Errno::PERM),
                _ => Err(Errno::NOSYS),
            },
            Self::CloseRange => ask(libc::SYS_close_range, [1, 0, 0, 0, 0]),
            Self::Keyctl => ask(libc::SYS_keyctl, [UNKNOWN, 0, 0, 0, 0]),
            // The version, which it tells where it is asked with neither rules nor a size.
            Self::Landlock => ask(libc::SYS_landlock_create_ruleset, [0, 0, 1, 0, 0]),
            Self::MountSetattr => ask(libc::SYS_mount_setattr, [NONE, 0, 0, 0, 0]),
            Self::Openat2 => ask(libc::SYS_openat2, [NONE, 0, 0, 0, 0]),
            Self::OpenTree => ask(libc::SYS_open_tree, [NONE, 0, UNKNOWN, 0, 0]),
            Self::PidfdOpen => ask(libc::SYS_pidfd_open, [0, 0, 0, 0, 0]),
            Self::PidfdSendSignal => ask(libc::SYS_pidfd_send_signal, [NONE, 0, 0, UNKNOWN, 0]),
            Self::Seccomp => ask(libc::SYS_seccomp, [UNKNOWN, 0, 0, 0, 0]),
        };
        match outcome {
            Err(Errno::NOSYS) => Answer::Lacking,
            // It was built, and not switched on.
            Err(Errno::OPNOTSUPP) if self == Self::Landlock => Answer::Lacking,
            Err(Errno::PERM | Errno::ACCESS) => Answer::Denied,
            _ => Answer::There,
        }
    }
}

/// The arguments are all plain numbers, and 0 where the kernel wants a pointer.
fn ask(number: c_long, with: [c_long; 5]) -> Result<(), Errno> {
    // SAFETY: no argument points at memory: the kernel reads a null pointer at most, which it answers with EFAULT. Each
    // set of arguments above is one that its manual page refuses (an unknown command or flag, a size of 0, a range that
    // ends before it begins, no process 0), or, for landlock, one that only asks.
    if unsafe { libc::syscall(number, with[0], with[1], with[2], with[3], with[4]) } == -1 {
        Err(crate::last_errno())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a kernel that runs these tests at all (5.9, for `close_range`), outside of sandboxes.
    #[test]
    fn calls_that_we_make_ourselves_are_there() {
        for call in [Call::Clone3, Call::Openat2, Call::OpenTree, Call::PidfdOpen, Call::PidfdSendSignal] {
            assert_eq!(call.answer(), Answer::There, "{call:?}");
        }
    }

    #[test]
    fn a_call_that_no_kernel_has_is_lacking() {
        assert_eq!(ask(0x3fff, [0; 5]), Err(Errno::NOSYS));
    }
}
