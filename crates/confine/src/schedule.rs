//! Where and when a process runs, and where its memory lies.

use plan::{Numbers, Scheduling};
use rustix::thread::{CpuSet, sched_setaffinity};
use sys::{Called, Doing, Errno, Failed};

/// Confines the calling thread to these CPUs; the kernel takes from them what its cpuset allows, and refuses none.
pub fn stay_on(cpus: &Numbers) -> Result<(), Failed> {
    let stay = || {
        let mut set = CpuSet::new();
        for cpu in cpus.each().map(usize::from) {
            if cpu >= CpuSet::MAX_CPU {
                return Err(Failed::refused(format!("CPU {cpu} is beyond the {} known", CpuSet::MAX_CPU)));
            }
            set.set(cpu);
        }
        sched_setaffinity(None, &set).called(|| format!("sched_setaffinity({cpus})"))
    };
    stay().doing(|| "set the CPU affinity")
}

/// Takes a policy of scheduling.
pub fn schedule(how: &Scheduling) -> Result<(), Failed> {
    let Scheduling { policy, flags, nice, priority, runtime, deadline, period } = *how;
    let asked = sys::Scheduling { policy, flags, nice, priority, runtime, deadline, period };
    sys::set_scheduler(&asked).map_err(|failed| {
        // The kernel has one answer for two reasons, and the second is hard to guess.
        let hint = match (failed.errno(), policy) {
            (Some(Errno::PERM), SCHED_DEADLINE) => {
                " (SCHED_DEADLINE needs CAP_SYS_NICE, and no cpuset that leaves out CPUs)"
            }
            (Some(Errno::PERM), SCHED_FIFO | SCHED_RR) => {
                " (realtime needs CAP_SYS_NICE, and realtime left in the cpu cgroup)"
            }
            _ => "",
        };
        failed.while_doing(&format!("set the scheduler{hint}"))
    })
}

const SCHED_FIFO: u32 = 1;
const SCHED_RR: u32 = 2;
const SCHED_DEADLINE: u32 = 6;

/// Has the disk operations of the calling thread served in this order.
pub fn serve(class: u16, level: u16) -> Result<(), Failed> {
    sys::set_io_priority(class, level).doing(|| "set the I/O priority")
}

/// Places the memory of the calling thread, and of the program that it becomes.
pub fn place(mode: u32, nodes: &Numbers) -> Result<(), Failed> {
    let mut mask: Vec<u64> = Vec::new();
    for node in nodes.each() {
        let (word, bit) = (usize::from(node / 64), node % 64);
        if mask.len() <= word {
            mask.resize(word + 1, 0);
        }
        if let Some(word) = mask.get_mut(word) {
            *word |= 1 << bit;
        }
    }
    sys::set_memory_policy(mode, &mask).doing(|| "set the memory policy")
}

/// Takes an execution domain.
pub fn behave(domain: u32) -> Result<(), Failed> {
    sys::set_personality(domain).doing(|| "set the personality")
}
