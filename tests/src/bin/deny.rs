//! `deny ERRNO CALL[,CALL…] -- COMMAND…`: executes the command with a filter that answers these system calls with this
//! error, as an older kernel does (`ENOSYS`, or `EINVAL` for a use and `ENOTTY` for a request that it does not know), or a
//! sandbox around us (`EPERM`).
//! So every second way is walked in a test. `setns-many` is setns(2) into several namespaces at once, as of Linux 5.8;
//! `openat-tmpfile` is openat(2) of a file without a name, `ioctl-loop-configure` the one ioctl(2) that is called so.
#![allow(clippy::print_stderr, reason = "it tells its caller what is wrong")]

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let told = match words.as_slice() {
        [errno, calls, dashes, command @ ..] if dashes == "--" && !command.is_empty() => {
            become_denied(errno, calls, command)
        }
        _ => "usage: deny ERRNO CALL[,CALL...] -- COMMAND...".to_owned(),
    };
    eprintln!("deny: {told}");
    ExitCode::from(125)
}

/// Comes back only with what went wrong.
fn become_denied(errno: &str, calls: &str, command: &[String]) -> String {
    let filter = match filter(errno, calls) {
        Ok(filter) => filter,
        Err(why) => return why,
    };
    if let Err(error) = apply_filter(&filter) {
        return format!("seccomp: {error}");
    }
    let (program, arguments) =
        command.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    format!("{program}: {}", Command::new(program).args(arguments).exec())
}

fn filter(errno: &str, calls: &str) -> Result<BpfProgram, String> {
    let errno = match errno {
        "EINVAL" => libc::EINVAL,
        "ENOSYS" => libc::ENOSYS,
        "ENOTTY" => libc::ENOTTY,
        "EOPNOTSUPP" => libc::EOPNOTSUPP,
        "EPERM" => libc::EPERM,
        other => return Err(format!("{other}: not an error that kernels or sandboxes answer with")),
    };
    let mut rules = BTreeMap::new();
    for call in calls.split(',') {
        let which = match call {
            "setns-many" => many_namespaces()?,
            "openat-tmpfile" => flags_of_openat(libc::O_TMPFILE)?,
            "ioctl-loop-configure" => request_of_ioctl(LOOP_CONFIGURE)?,
            _ => Vec::new(),
        };
        rules.insert(number(call).ok_or_else(|| format!("{call}: no such system call here"))?, which);
    }
    let arch = std::env::consts::ARCH.try_into().map_err(|error| format!("{error}"))?;
    let answer = SeccompAction::Errno(errno.cast_unsigned());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, answer, arch);
    filter.and_then(BpfProgram::try_from).map_err(|error| error.to_string())
}

/// The second argument is none of the bits that stand for one namespace.
fn many_namespaces() -> Result<Vec<SeccompRule>, String> {
    let single = [
        libc::CLONE_NEWCGROUP,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWNET,
        libc::CLONE_NEWNS,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWTIME,
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWUTS,
    ];
    let is_not = |bit: i32| {
        SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, bit.cast_unsigned().into())
    };
    let conditions = single.map(is_not).into_iter().collect::<Result<_, _>>();
    let rule = conditions.and_then(SeccompRule::new).map_err(|error| error.to_string())?;
    Ok(vec![rule])
}

/// <linux/loop.h>, as of 5.8.
const LOOP_CONFIGURE: u64 = 0x4c0a;

/// The third argument has all of these flags.
fn flags_of_openat(flags: i32) -> Result<Vec<SeccompRule>, String> {
    let flags = flags.cast_unsigned().into();
    only(SeccompCondition::new(2, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(flags), flags))
}

/// The second argument is this request.
fn request_of_ioctl(request: u64) -> Result<Vec<SeccompRule>, String> {
    only(SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, request))
}

fn only(condition: Result<SeccompCondition, seccompiler::BackendError>) -> Result<Vec<SeccompRule>, String> {
    let rule = condition.and_then(|condition| SeccompRule::new(vec![condition]));
    Ok(vec![rule.map_err(|error| error.to_string())?])
}

/// The system calls that we have a second way for, or an answer.
fn number(call: &str) -> Option<i64> {
    Some(match call {
        "clone3" => libc::SYS_clone3,
        "close_range" => libc::SYS_close_range,
        "faccessat2" => libc::SYS_faccessat2,
        "fsmount" => libc::SYS_fsmount,
        "fsopen" => libc::SYS_fsopen,
        "ioctl" | "ioctl-loop-configure" => libc::SYS_ioctl,
        "fspick" => libc::SYS_fspick,
        "keyctl" => libc::SYS_keyctl,
        "memfd_create" => libc::SYS_memfd_create,
        "mknodat" => libc::SYS_mknodat,
        "mount_setattr" => libc::SYS_mount_setattr,
        "move_mount" => libc::SYS_move_mount,
        "open_tree" => libc::SYS_open_tree,
        "openat-tmpfile" => libc::SYS_openat,
        "openat2" => libc::SYS_openat2,
        "pidfd_open" => libc::SYS_pidfd_open,
        "pidfd_send_signal" => libc::SYS_pidfd_send_signal,
        "sched_setaffinity" => libc::SYS_sched_setaffinity,
        "setns" | "setns-many" => libc::SYS_setns,
        "statx" => libc::SYS_statx,
        _ => return None,
    })
}
