//! What the tests ask of Docker and Podman in the same words: their command lines agree where runc's callers do.

use std::os::fd::OwnedFd;

use crate::Process;
use crate::pty::Screen;

/// The limits that few people set, one flag each.
pub const RARE_LIMITS: [&str; 9] = [
    "--memory=64m",
    "--memory-swap=96m",
    "--memory-reservation=32m",
    "--memory-swappiness=10",
    "--oom-kill-disable",
    "--cpu-period=50000",
    "--cpu-quota=20000",
    "--cpuset-mems=0",
    "--device-cgroup-rule=c 42:* rwm",
];

/// A line for the shell that prints what [`RARE_LIMITS`] have become, as the container sees it on version 1.
pub const RARE_LIMITS_LOOK: &str = "cd /sys/fs/cgroup/memory; \
    cat memory.memsw.limit_in_bytes memory.soft_limit_in_bytes memory.swappiness; grep kill_disable memory.oom_control; \
    cd ..; cat cpu/cpu.cfs_period_us cpu/cpu.cfs_quota_us cpuset/cpuset.mems; grep 42: devices/devices.list";

/// What that prints.
pub const RARE_LIMITS_SEEN: [&str; 8] =
    ["100663296", "33554432", "10", "oom_kill_disable 1", "50000", "20000", "0", "c 42:* rwm"];

/// A person at a terminal: a shell with job control and the terminal's size, a second one joined from another terminal,
/// and the exit status of each. `seat` starts the client with these words in front of that terminal; `flags` are for
/// `run` alone.
pub fn sits_at_a_terminal(seat: impl Fn(&[&str], &OwnedFd) -> Process, flags: &[&str]) {
    let (mut screen, slave) = Screen::open(31, 91);
    let shell = ["-e", "PS1=ready> ", "--name", "seat", "box", "sh", "-i"];
    let run = seat(&[&["run", "--rm", "-it"], flags, &shell].concat(), &slave);
    screen.shows("ready> ");
    screen.types("sh -c 'echo wai''ting; sleep 1000'\n");
    screen.shows("waiting");
    screen.types("\x03");
    screen.shows("ready> ");
    // The client tells the size once the container runs; until then the shell's window has none.
    screen.types("until stty size | grep -v '^0 0'; do sleep 0.1; done\n");
    screen.shows("31 91");
    screen.shows("ready> ");

    let (mut second, other) = Screen::open(11, 41);
    let exec = seat(&["exec", "-it", "-e", "PS1=joined> ", "seat", "sh", "-i"], &other);
    second.shows("joined> ");
    second.types("test -t 0 && echo ter''minal\n");
    second.shows("terminal");
    second.types("exit 4\n");
    exec.wait().code(4);
    screen.types("exit 3\n");
    run.wait().code(3);
}
