//! Figures of the host's side and of the guest's, each by itself, and what lies between them.

use cgroup::Statistics;
use serde::{Deserialize, Serialize};

/// What the guest tells of its containers. A monitor by hand has nobody who asks the guest: it is given.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GuestFigures {
    /// Bytes of memory in use.
    #[serde(default)]
    pub memory: u64,
    /// Nanoseconds of processor time.
    #[serde(default)]
    pub cpu: u64,
    /// Processes that the guest's kernel has killed for memory.
    #[serde(default)]
    pub oom_kills: u64,
}

/// What the host counts of the whole sandbox.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostFigures {
    /// Bytes of memory in use.
    pub memory: u64,
    /// The most that were in use; 0 where the kernel does not keep it.
    pub peak: u64,
    /// Nanoseconds of processor time.
    pub cpu: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Processes that the host's kernel has killed because the sandbox's limit was reached.
    pub oom_kills: u64,
}

/// Both, and the difference.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// The sandbox's.
    pub host: HostFigures,
    /// The containers' in the guest; none where nobody has told them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<GuestFigures>,
    /// Memory that the containers do not see: the host's figure without theirs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_overhead: Option<u64>,
    /// Processor time that they do not see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_overhead: Option<u64>,
    /// Whose limit has killed.
    pub killer: Killer,
}

/// Whose limit of memory has killed somebody.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Killer {
    /// Nobody's.
    #[default]
    Nobody,
    /// The sandbox's, on the host: the monitor, or a helper of its, is gone.
    Host,
    /// A container's, in the guest: the monitor goes on.
    Guest,
    /// Both.
    Both,
}

/// Puts them side by side.
pub fn figures(host: HostFigures, guest: Option<GuestFigures>) -> Figures {
    Figures {
        host,
        guest,
        memory_overhead: guest.map(|guest| host.memory.saturating_sub(guest.memory)),
        cpu_overhead: guest.map(|guest| host.cpu.saturating_sub(guest.cpu)),
        killer: killer(host.oom_kills, guest.map_or(0, |guest| guest.oom_kills)),
    }
}

/// Who has killed, by the two counts.
pub fn killer(on_host: u64, in_guest: u64) -> Killer {
    match (on_host > 0, in_guest > 0) {
        (false, false) => Killer::Nobody,
        (true, false) => Killer::Host,
        (false, true) => Killer::Guest,
        (true, true) => Killer::Both,
    }
}

impl HostFigures {
    /// What a group has used; whom the kernel has killed is counted apart.
    pub(crate) fn of(statistics: &Statistics) -> Self {
        Self {
            memory: statistics.memory.usage.usage,
            peak: statistics.memory.usage.max,
            cpu: statistics.cpu.total,
            pids: statistics.pids.current,
            oom_kills: 0,
        }
    }

    /// With what is counted elsewhere.
    pub(crate) fn with(self, other: Self) -> Self {
        Self {
            memory: self.memory + other.memory,
            peak: self.peak,
            cpu: self.cpu + other.cpu,
            pids: self.pids + other.pids,
            oom_kills: self.oom_kills + other.oom_kills,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Point 14 of the sandbox's list, and the telling apart of point 8.
    #[test]
    fn point_14_host_and_guest_are_two_figures() {
        let host = HostFigures { memory: 700, peak: 800, cpu: 50, pids: 9, oom_kills: 0 };
        let guest = GuestFigures { memory: 600, cpu: 60, oom_kills: 2 };
        let told = figures(host, Some(guest));
        assert_eq!((told.host, told.guest), (host, Some(guest)));
        assert_eq!((told.memory_overhead, told.cpu_overhead), (Some(100), Some(0)));
        assert_eq!(told.killer, Killer::Guest);
        assert_eq!(figures(host, None), Figures { host, ..Figures::default() }, "what nobody told is not 0");
        assert_eq!(
            [killer(0, 0), killer(1, 0), killer(0, 1), killer(1, 1)],
            [Killer::Nobody, Killer::Host, Killer::Guest, Killer::Both]
        );
    }
}
