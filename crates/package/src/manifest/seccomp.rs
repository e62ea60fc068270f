//! The filter of system calls, as rules of the OCI specification.

use spec::{SeccompArg, SeccompRule};

use super::{Allowed, Manifest, Seccomp};

/// The filter that a manifest asks for. What it does not allow ends the program: the reference has it so.
pub(super) fn filter(of: &Seccomp, manifest: &Manifest) -> spec::Seccomp {
    let mut syscalls = vec![allow("execve", Vec::new())];
    if of.is_default {
        syscalls.extend(default(&manifest.capabilities));
    }
    for (name, allowed) in &of.allow {
        match allowed {
            Allowed::Any => syscalls.push(allow(name, Vec::new())),
            Allowed::Argument { index, values, mask } => {
                let masked = mask.map(|mask| without(*index, !mask));
                let equal = values.iter().map(|value| equal(*index, *value));
                syscalls.extend(equal.chain(masked).map(|condition| allow(name, vec![condition])));
            }
        }
    }
    spec::Seccomp {
        default_action: "SCMP_ACT_KILL_PROCESS".into(),
        architectures: vec![
            if cfg!(target_arch = "aarch64") { "SCMP_ARCH_AARCH64" } else { "SCMP_ARCH_X86_64" }.into(),
        ],
        syscalls,
        ..spec::Seccomp::default()
    }
}

/// What nearly every program needs, and what its capabilities are for.
fn default(capabilities: &[String]) -> Vec<SeccompRule> {
    let mut rules =
        vec![SeccompRule { names: words(DEFAULT), action: ALLOW.into(), ..SeccompRule::default() }];
    rules.extend(PERSONALITIES.map(|value| allow("personality", vec![equal(0, value)])));
    let has = |name: &str| capabilities.iter().any(|known| known == name);
    for (capability, names) in BY_CAPABILITY {
        if has(capability) {
            rules.push(SeccompRule { names: words(names), action: ALLOW.into(), ..SeccompRule::default() });
        }
    }
    if !has("CAP_SYS_ADMIN") {
        // Threads and processes, but no namespaces. The reference adds this only where there are capabilities, so that
        // without any of them every fork ends the program.
        rules.push(allow("clone", vec![without(0, 0x7e02_0000)]));
        // Its flags lie in memory, where no filter sees them: the C library falls back to clone(2).
        rules.push(SeccompRule {
            names: words("clone3"),
            action: "SCMP_ACT_ERRNO".into(),
            errno_ret: Some(38),
            ..SeccompRule::default()
        });
    }
    rules
}

fn allow(name: &str, args: Vec<SeccompArg>) -> SeccompRule {
    SeccompRule { names: vec![name.to_owned()], action: ALLOW.into(), args, ..SeccompRule::default() }
}

fn equal(index: u32, value: u64) -> SeccompArg {
    SeccompArg { index, value, op: "SCMP_CMP_EQ".into(), ..SeccompArg::default() }
}

/// None of these bits.
fn without(index: u32, bits: u64) -> SeccompArg {
    SeccompArg { index, value: bits, value_two: 0, op: "SCMP_CMP_MASKED_EQ".into() }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

const ALLOW: &str = "SCMP_ACT_ALLOW";
/// Linux, and those that debuggers set: no address randomisation, 32 bits, and the question which it is.
const PERSONALITIES: [u64; 5] = [0, 8, 0x20000, 0x20008, 0xffff_ffff];

const BY_CAPABILITY: [(&str, &str); 12] = [
    ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    (
        "CAP_SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount move_mount name_to_handle_at \
         open_tree perf_event_open quotactl setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    ("CAP_SYS_BOOT", "reboot"),
    ("CAP_SYS_CHROOT", "chroot"),
    ("CAP_SYS_MODULE", "delete_module init_module finit_module"),
    ("CAP_SYS_PACCT", "acct"),
    ("CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace"),
    ("CAP_SYS_RAWIO", "iopl ioperm"),
    ("CAP_SYS_TIME", "settimeofday stime clock_settime"),
    ("CAP_SYS_TTY_CONFIG", "vhangup"),
    ("CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy"),
    ("CAP_SYSLOG", "syslog"),
];

/// The system calls that the reference's profile allows to everybody, on the machines that we know.
const DEFAULT: &str = "_llseek _newselect accept accept4 access adjtimex alarm bind brk capget capset chdir chmod chown chown32 \
     clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep \
     clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 \
     epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit \
     exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchown \
     fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64 \
     fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_time64 futimesat get_robust_list \
     get_thread_area getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups \
     getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32 \
     getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid getuid32 \
     getxattr inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents \
     io_pgetevents io_pgetevents_time64 io_setup io_submit io_uring_enter io_uring_register io_uring_setup ioctl \
     ioprio_get ioprio_set ipc kill lchown lchown32 lgetxattr link linkat listen listxattr llistxattr lremovexattr \
     lseek lsetxattr lstat lstat64 madvise membarrier memfd_create mincore mkdir mkdirat mknod mknodat mlock mlock2 \
     mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend \
     mq_timedsend_time64 mq_unlink mremap msgctl msgget msgrcv msgsnd msync munlock munlockall munmap nanosleep \
     newfstatat open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 poll ppoll ppoll_time64 prctl \
     pread64 preadv preadv2 prlimit64 process_vm_readv process_vm_writev pselect6 pselect6_time64 ptrace pwrite64 \
     pwritev pwritev2 read readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg \
     remap_file_pages removexattr rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending \
     rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 \
     rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam \
     sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr \
     sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 \
     send sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list set_thread_area set_tid_address setfsgid \
     setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid \
     setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid \
     setuid32 setxattr shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn socket \
     socketcall socketpair splice stat stat64 statfs statfs64 statx symlink symlinkat sync sync_file_range syncfs \
     sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime \
     timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill \
     truncate truncate64 ugetrlimit umask uname unlink unlinkat utime utimensat utimensat_time64 utimes vfork \
     vmsplice wait4 waitid waitpid write writev \
     arch_prctl modify_ldt arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls";
