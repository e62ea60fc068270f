//! The control groups of a process, as the host's files show them: the same question for both generations.

use std::fs;
use std::path::{Path, PathBuf};

const MOUNTS: &str = "/sys/fs/cgroup";

/// The control groups that a process is in.
#[derive(Clone, Debug)]
pub struct Groups(Vec<(String, String)>);

impl Groups {
    /// Whether this host has the unified tree and nothing else.
    pub fn unified_only() -> bool {
        Path::new(MOUNTS).join("cgroup.controllers").exists()
    }

    /// Those of a process.
    pub fn of(pid: i32) -> Self {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("the groups of a process");
        let line = |line: &str| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            Some((controllers.to_owned(), path.to_owned()))
        };
        Self(text.lines().filter_map(line).collect())
    }

    /// The directory with a controller's files; the unified tree's, by the name of "".
    pub fn directory(&self, controller: &str) -> Option<PathBuf> {
        let wanted = if Self::unified_only() { "" } else { controller };
        let (_, path) = self.0.iter().find(|(names, _)| names.split(',').any(|one| one == wanted))?;
        let mount = match (Self::unified_only(), controller) {
            (true, _) => MOUNTS.into(),
            (false, "") => Path::new(MOUNTS).join("unified"),
            (false, controller) => Path::new(MOUNTS).join(controller),
        };
        Some(mount.join(path.trim_start_matches('/')))
    }

    /// What a file shows, `memory.max` or `cpu.cfs_quota_us`; none where this host does not have it.
    pub fn shown(&self, file: &str) -> Option<String> {
        let controller = match file.split('.').next()? {
            "cgroup" => "",
            controller => controller,
        };
        Some(fs::read_to_string(self.directory(controller)?.join(file)).ok()?.trim().to_owned())
    }
}
