//! In which manner processes of a container run: scheduled, labelled, and placed in memory.

use serde::{Deserialize, Serialize};
use spec::{CpuAffinity, IoPriority, MemoryPolicy, Personality, Process, Scheduler, Spec, numbers};

use crate::Refused;
use crate::step::{Numbers, Scheduling, Step};

/// What the first process of a container was given, and each later one gets too whose own document does not say
/// otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Manner {
    /// An AppArmor profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apparmor_profile: Option<String>,
    /// An SELinux label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selinux_label: Option<String>,
    /// `sched_setattr(2)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<Scheduler>,
    /// `ioprio_set(2)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_priority: Option<IoPriority>,
    /// CPUs of processes that join.
    #[serde(default, rename = "execCPUAffinity", skip_serializing_if = "Option::is_none")]
    pub cpu_affinity: Option<CpuAffinity>,
    /// personality(2), which only a container has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub personality: Option<Personality>,
    /// `set_mempolicy(2)`, which only a container has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_policy: Option<MemoryPolicy>,
}

impl Manner {
    /// What a document asks for.
    pub fn of(spec: &Spec) -> Self {
        let linux = spec.linux.as_ref();
        let mut manner = Self {
            personality: linux.and_then(|linux| linux.personality.clone()),
            memory_policy: linux.and_then(|linux| linux.memory_policy.clone()),
            ..Self::default()
        };
        if let Some(process) = &spec.process {
            manner.take(process);
        }
        manner
    }

    /// The same for a process that says something of its own.
    #[must_use]
    pub fn with(&self, process: &Process) -> Self {
        let mut manner = self.clone();
        manner.take(process);
        manner
    }

    fn take(&mut self, process: &Process) {
        replace(
            &mut self.apparmor_profile,
            process.apparmor_profile.as_ref().filter(|name| !name.is_empty()),
        );
        replace(&mut self.selinux_label, process.selinux_label.as_ref().filter(|label| !label.is_empty()));
        replace(&mut self.scheduler, process.scheduler.as_ref());
        replace(&mut self.io_priority, process.io_priority.as_ref());
        replace(&mut self.cpu_affinity, process.exec_cpu_affinity.as_ref());
    }

    /// How it is scheduled and placed. It comes while privileges are there, and after the cgroups: what a cpuset
    /// forbids is then refused.
    pub(crate) fn steps(&self) -> Result<Vec<Step>, Refused> {
        let mut steps = Vec::new();
        if let Some(of) = &self.scheduler {
            steps.push(Step::Scheduler(scheduling(of)?));
        }
        if let Some(IoPriority { class, priority }) = &self.io_priority {
            let class = 1 + position(IO_CLASSES, class, "process.ioPriority.class")?;
            let level = u16::try_from(*priority)
                .map_err(|_| Refused::new("process.ioPriority.priority", "is no priority"))?;
            steps.push(Step::IoPriority { class, level });
        }
        if let Some(Personality { domain, .. }) = &self.personality {
            let domain = if domain == "LINUX32" { PER_LINUX32 } else { 0 };
            steps.push(Step::Personality(domain));
        }
        if let Some(policy) = &self.memory_policy {
            steps.push(memory(policy)?);
        }
        Ok(steps)
    }

    /// What was asked and has no effect.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let flags = self.personality.iter().flat_map(|of| &of.flags);
        flags.map(|flag| format!("linux.personality.flags: ignoring {flag}: none are defined")).collect()
    }

    /// CPUs for the caller until the process is in its cgroup, and for the process from then on.
    pub(crate) fn cpus(&self) -> Result<(Option<Numbers>, Option<Numbers>), Refused> {
        let Some(CpuAffinity { initial, last }) = &self.cpu_affinity else { return Ok((None, None)) };
        Ok((
            list(initial.as_deref(), "process.execCPUAffinity.initial")?,
            list(last.as_deref(), "process.execCPUAffinity.final")?,
        ))
    }
}

fn replace<T: Clone>(known: &mut Option<T>, said: Option<&T>) {
    if let Some(said) = said {
        *known = Some(said.clone());
    }
}

fn list(text: Option<&str>, path: &str) -> Result<Option<Numbers>, Refused> {
    let entries = numbers(text.unwrap_or_default())
        .map_err(|entry| Refused::new(path, format!("{entry:?} is no number or range")))?;
    Ok((!entries.is_empty()).then_some(Numbers(entries)))
}

fn scheduling(of: &Scheduler) -> Result<Scheduling, Refused> {
    let mut flags = 0;
    for (index, flag) in of.flags.iter().enumerate() {
        flags |= 1 << position(SCHEDULER_FLAGS, flag, &format!("process.scheduler.flags[{index}]"))?;
    }
    Ok(Scheduling {
        policy: position(POLICIES, &of.policy, "process.scheduler.policy")?.into(),
        flags,
        nice: of.nice.unwrap_or(0),
        priority: u32::try_from(of.priority.unwrap_or(0))
            .map_err(|_| Refused::new("process.scheduler.priority", "is below 0"))?,
        runtime: of.runtime.unwrap_or(0),
        deadline: of.deadline.unwrap_or(0),
        period: of.period.unwrap_or(0),
    })
}

fn memory(policy: &MemoryPolicy) -> Result<Step, Refused> {
    let mut mode = u32::from(position(MEMORY_MODES, &policy.mode, "linux.memoryPolicy.mode")?);
    for (index, flag) in policy.flags.iter().enumerate() {
        let at = format!("linux.memoryPolicy.flags[{index}]");
        mode |= 1 << (13 + position(MEMORY_FLAGS, flag, &at)?);
    }
    let nodes = list(Some(&policy.nodes), "linux.memoryPolicy.nodes")?;
    Ok(Step::MemoryPolicy { mode, nodes: nodes.unwrap_or_default() })
}

/// Where a word stands in a list of the kernel's, in the order of the kernel's numbers.
fn position(list: &[&str], word: &str, path: &str) -> Result<u16, Refused> {
    let at = list.iter().position(|known| *known == word).and_then(|at| u16::try_from(at).ok());
    at.ok_or_else(|| Refused::new(path, format!("{word:?} is not known")))
}

/// By number, <linux/sched.h>.
pub(crate) const POLICIES: &[&str] =
    &["SCHED_OTHER", "SCHED_FIFO", "SCHED_RR", "SCHED_BATCH", "SCHED_ISO", "SCHED_IDLE", "SCHED_DEADLINE"];

/// By bit, <linux/sched.h>.
const SCHEDULER_FLAGS: &[&str] = &[
    "SCHED_FLAG_RESET_ON_FORK",
    "SCHED_FLAG_RECLAIM",
    "SCHED_FLAG_DL_OVERRUN",
    "SCHED_FLAG_KEEP_POLICY",
    "SCHED_FLAG_KEEP_PARAMS",
    "SCHED_FLAG_UTIL_CLAMP_MIN",
    "SCHED_FLAG_UTIL_CLAMP_MAX",
];

/// By number from 1 on, <linux/ioprio.h>.
pub(crate) const IO_CLASSES: &[&str] = &["IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE"];

/// By number, <linux/mempolicy.h>.
pub(crate) const MEMORY_MODES: &[&str] = &[
    "MPOL_DEFAULT",
    "MPOL_PREFERRED",
    "MPOL_BIND",
    "MPOL_INTERLEAVE",
    "MPOL_LOCAL",
    "MPOL_PREFERRED_MANY",
    "MPOL_WEIGHTED_INTERLEAVE",
];

/// By bit from 13 on, <linux/mempolicy.h>.
const MEMORY_FLAGS: &[&str] = &["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"];

/// <linux/personality.h>.
const PER_LINUX32: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_the_kernels_numbers() -> Result<(), Refused> {
        let manner = Manner {
            scheduler: Some(Scheduler {
                policy: "SCHED_DEADLINE".into(),
                flags: vec!["SCHED_FLAG_RESET_ON_FORK".into(), "SCHED_FLAG_UTIL_CLAMP_MAX".into()],
                runtime: Some(1),
                ..Scheduler::default()
            }),
            io_priority: Some(IoPriority { class: "IOPRIO_CLASS_IDLE".into(), priority: 7 }),
            personality: Some(Personality { domain: "LINUX32".into(), flags: Vec::new() }),
            memory_policy: Some(MemoryPolicy {
                mode: "MPOL_BIND".into(),
                nodes: "0-1,3".into(),
                flags: vec!["MPOL_F_STATIC_NODES".into()],
            }),
            ..Manner::default()
        };
        let scheduling = Scheduling { policy: 6, flags: 0x41, runtime: 1, ..Scheduling::default() };
        let nodes = Numbers(vec![(0, 1), (3, 3)]);
        assert_eq!(
            manner.steps()?,
            [
                Step::Scheduler(scheduling),
                Step::IoPriority { class: 3, level: 7 },
                Step::Personality(8),
                Step::MemoryPolicy { mode: 0x8002, nodes },
            ]
        );
        Ok(())
    }

    #[test]
    fn a_later_process_replaces_what_it_names() {
        let first = Manner {
            apparmor_profile: Some("first".into()),
            personality: Some(Personality::default()),
            ..Manner::default()
        };
        let says = Process { apparmor_profile: Some("second".into()), ..Process::default() };
        assert_eq!(first.with(&says).apparmor_profile.as_deref(), Some("second"));
        let silent = Process { apparmor_profile: Some(String::new()), ..Process::default() };
        assert_eq!(first.with(&silent), first);
    }
}
