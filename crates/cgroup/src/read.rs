//! What the kernel tells about a group.

use plan::cgroup::Version;
use sys::{Errno, Failed};

use crate::place::is_gone;
use crate::{Cgroup, Group};

impl Cgroup {
    /// Every process of the container, its groups' children included, in order. None once the groups are gone.
    ///
    /// Asked of the unified tree where there is one; else of the hierarchy that a process inside is least able to
    /// leave.
    pub fn processes(&self) -> Result<Vec<i32>, Failed> {
        let whole = self
            .unified()
            .or_else(|| ["devices", "freezer", "pids"].iter().find_map(|one| self.managing(one)));
        whole.or(self.groups.first()).map_or(Ok(Vec::new()), Group::processes)
    }

    /// Every process that is in any of the groups, of whichever hierarchy, or below them.
    pub fn everybody(&self) -> Result<Vec<i32>, Failed> {
        let mut all = Vec::new();
        for group in &self.groups {
            all.extend(group.processes()?);
        }
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }

    /// What a file of the group shows that manages `controller`, `cpu.max` for instance; none where this host does not have it, or
    /// the group is gone.
    pub fn shown(&self, controller: &str, file: &str) -> Result<Option<String>, Failed> {
        let shown = self.managing(controller).map_or(Ok(None), |group| group.shown(file))?;
        Ok(shown.map(|text| text.trim().to_owned()))
    }

    /// What a file of the group above that one shows.
    pub fn shown_above(&self, controller: &str, file: &str) -> Result<Option<String>, Failed> {
        let Some(group) = self.managing(controller) else { return Ok(None) };
        let above = group.place.path().rsplit_once('/').map_or("", |(above, _)| above);
        group.place.read_at(above, file).map(|text| Some(text.trim().to_owned()))
    }

    /// How many processes the kernel has killed because the memory limit was reached. None without a memory
    /// controller.
    pub fn oom_kills(&self) -> Result<u64, Failed> {
        let Some(group) = self.managing("memory") else { return Ok(0) };
        let file = match group.version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        match group.place.read(file) {
            Ok(text) => Ok(value_of(&text, "oom_kill").unwrap_or(0)),
            Err(failed) if is_gone(&failed) => Ok(0),
            Err(failed) => Err(failed),
        }
    }
}

impl Group {
    pub(crate) fn processes(&self) -> Result<Vec<i32>, Failed> {
        let mut all = Vec::new();
        for path in self.place.tree()? {
            all.extend(self.members(&path)?);
        }
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }

    /// Whether any process is in it or below it, also one that has no number here.
    pub(crate) fn is_inhabited(&self) -> Result<bool, Failed> {
        if self.version == Version::V2 {
            return match self.place.read("cgroup.events") {
                Ok(text) => Ok(value_of(&text, "populated") != Some(0)),
                Err(failed) if is_gone(&failed) => Ok(false),
                Err(failed) => Err(failed),
            };
        }
        for path in self.place.tree()? {
            match self.place.list_at(&path, "cgroup.procs") {
                Ok(text) if text.is_empty() => {}
                Ok(_) => return Ok(true),
                Err(failed) if is_gone(&failed) => {}
                Err(failed) => return Err(failed),
            }
        }
        Ok(false)
    }

    /// The directory, this one or one below it, that the process is in.
    pub(crate) fn holding(&self, pid: i32) -> Result<Option<String>, Failed> {
        for path in self.place.tree()? {
            if self.members(&path)?.contains(&pid) {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    /// The threads of this directory alone; none once it is gone.
    pub(crate) fn threads(&self) -> Result<Vec<i32>, Failed> {
        let file = if self.version == Version::V1 { "tasks" } else { "cgroup.threads" };
        match self.place.list_at(self.place.path(), file) {
            Ok(text) => Ok(numbers(&text).collect()),
            Err(failed) if is_gone(&failed) => Ok(Vec::new()),
            Err(failed) => Err(failed),
        }
    }

    /// The processes of one directory; none once it is gone.
    pub(crate) fn members(&self, path: &str) -> Result<Vec<i32>, Failed> {
        let listed = match self.place.list_at(path, "cgroup.procs") {
            // A threaded group of v2 has no processes of its own to show.
            Err(failed) if failed.errno() == Some(Errno::OPNOTSUPP) => {
                self.place.list_at(path, "cgroup.threads")
            }
            listed => listed,
        };
        match listed {
            Ok(text) => Ok(numbers(&text).collect()),
            Err(failed) if is_gone(&failed) => Ok(Vec::new()),
            Err(failed) => Err(failed),
        }
    }
}

/// The numbers of a `cgroup.procs`. A 0 stands for a process outside our pid namespace: nobody we could name.
fn numbers(text: &str) -> impl Iterator<Item = i32> {
    text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0)
}

/// The number after a word, in a file of `word number` lines.
pub(crate) fn value_of(text: &str, word: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_found_whole() {
        let text = "low 0\nhigh 0\noom 3\noom_kill 2\noom_group_kill 7\n";
        assert_eq!(value_of(text, "oom_kill"), Some(2));
        assert_eq!(value_of(text, "oom"), Some(3));
        assert_eq!(value_of(text, "max"), None);
    }

    #[test]
    fn strangers_are_left_out_of_a_list() {
        assert_eq!(numbers("12\n0\n7\n\n").collect::<Vec<_>>(), [12, 7]);
    }
}
