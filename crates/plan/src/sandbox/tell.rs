//! A plan as text, for people.

use std::fmt;

use super::{Cpus, SandboxPlan, bytes_told, layout::Spot};
use crate::cgroup::CgroupPlan;

impl fmt::Display for SandboxPlan {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(to, "sandbox {}: {}, {}", self.id, self.driver.name(), self.layout.name())?;
        self.tell_sizes(to)?;
        writeln!(to, "devices: none, but")?;
        for held in &self.devices.held {
            let by: Vec<&str> = held.by.iter().map(|by| by.name()).collect();
            writeln!(to, "  {:<16} {}", held.device.to_string(), by.join(" "))?;
        }
        if let Some(unit) = &self.sandbox.unit {
            writeln!(to, "unit: {unit}")?;
        }
        let made = [
            ("limits", Some(&self.sandbox)),
            ("overhead", self.overhead.as_ref()),
            ("monitor", self.vmm.as_ref()),
            ("processors", self.vcpus.as_ref()),
        ];
        for (name, plan) in made {
            tell_groups(to, name, plan)?;
        }
        tell_spots(to, "the monitor is born in", &self.vmm_in)?;
        tell_spots(to, "threads that are the guest's processors go to", &self.threads_in)?;
        tell_spots(to, "helpers are in", &self.helpers_in)?;
        for note in &self.notes {
            writeln!(to, "note: {note}")?;
        }
        Ok(())
    }
}

impl SandboxPlan {
    fn tell_sizes(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(limit) = self.memory.limit {
            write!(to, "memory: {limit} bytes, {}", bytes_told(limit))?;
            for (part, what) in [(self.memory.guest, "the guest"), (self.memory.overhead, "its monitor")] {
                if let Some(part) = part {
                    write!(to, "; {} for {what}", bytes_told(part))?;
                }
            }
            writeln!(to)?;
        }
        // What was refused would not have come here.
        let Ok(Cpus { cpus, mems, quota }) = Cpus::of(&self.shares) else { return Ok(()) };
        for (name, list) in [("processors", cpus), ("memory nodes", mems)] {
            if let Some(list) = list {
                writeln!(to, "{name}: {list}")?;
            }
        }
        if let Some(quota) = quota {
            writeln!(to, "processor time: {quota} of each 100000 microseconds")?;
        }
        Ok(())
    }
}

fn tell_groups(to: &mut fmt::Formatter<'_>, name: &str, plan: Option<&CgroupPlan>) -> fmt::Result {
    let Some(plan) = plan else { return Ok(()) };
    writeln!(to, "{name}:")?;
    for group in &plan.groups {
        write!(to, "  {}/{}", group.mount, group.path)?;
        let mut separator = "  ";
        for setting in group.settings.iter().filter(|setting| !setting.file.starts_with("devices.")) {
            write!(to, "{separator}{}={}", setting.file, setting.value)?;
            separator = ", ";
        }
        if group.devices.is_some()
            || group.settings.iter().any(|setting| setting.file.starts_with("devices."))
        {
            write!(to, "  devices")?;
        }
        if group.threaded {
            write!(to, "  threaded")?;
        }
        writeln!(to)?;
    }
    Ok(())
}

fn tell_spots(to: &mut fmt::Formatter<'_>, name: &str, spots: &[Spot]) -> fmt::Result {
    if spots.is_empty() {
        return Ok(());
    }
    writeln!(to, "{name}:")?;
    for spot in spots {
        writeln!(to, "  {}/{}", spot.mount, spot.path)?;
    }
    Ok(())
}
