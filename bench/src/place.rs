//! Where it is measured: a bundle on a tmpfs, in a mount namespace that nobody else sees.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use serde_json::{Value, json};

use crate::Error;

/// The bundles, and the cgroup hierarchies of this machine as the runtimes will see them.
pub(crate) struct Place {
    /// Runs /bin/true and says nothing.
    pub(crate) bundle: PathBuf,
    /// Says who it is, to prove that a runtime did not only exit with 0.
    pub(crate) proof: PathBuf,
    /// Where each runtime gets a state directory.
    pub(crate) state: PathBuf,
    /// Directories of v1 hierarchies below /sys/fs/cgroup.
    pub(crate) hierarchies: Vec<String>,
    /// Mount point of cgroup v2.
    pub(crate) unified: Option<String>,
    /// The same in words.
    pub(crate) view: String,
}

impl Place {
    /// To be called in a mount namespace of our own, with an empty directory.
    pub(crate) fn prepare(work: &Path, hybrid: bool) -> Result<Self, Error> {
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
            .map_err(|errno| format!("a mount namespace of its own: {errno}"))?;
        mount("tmpfs", work, "tmpfs", MountFlags::empty(), None)
            .map_err(|errno| format!("tmpfs on {}: {errno}", work.display()))?;

        let (hierarchies, mut unified) = hierarchies(&fs::read_to_string("/proc/self/mounts")?);
        if let Some(mount) = unified.take_if(|_| !hierarchies.is_empty() && !hybrid) {
            unmount(&mount, UnmountFlags::DETACH).map_err(|errno| format!("umount {mount}: {errno}"))?;
        }
        let view = match (hierarchies.len(), &unified) {
            (0, Some(_)) => "cgroup v2".into(),
            (count, Some(_)) => format!("cgroup hybrid, {count} hierarchies of v1 and the unified tree"),
            (count, None) => format!("cgroup v1, {count} hierarchies"),
        };

        let bundle = work.join("bundle");
        root_in(&bundle.join("rootfs"))?;
        let spec: Value = serde_json::from_str(include_str!("../config.json"))?;
        fs::write(bundle.join("config.json"), spec.to_string())?;

        let proof = work.join("proof");
        fs::create_dir(&proof)?;
        let mut proving = spec;
        proving["root"]["path"] = json!(bundle.join("rootfs"));
        proving["process"]["args"] = json!(["/bin/sh", "-c", "echo pid $$ on $(hostname)"]);
        fs::write(proof.join("config.json"), proving.to_string())?;

        let state = work.join("state");
        fs::create_dir(&state)?;
        Ok(Self { bundle, proof, state, hierarchies, unified, view })
    }
}

/// What the proving bundle prints.
pub(crate) const PROOF: &str = "pid 1 on bench\n";

/// The v1 hierarchies below /sys/fs/cgroup, and the mount point of v2, from /proc/self/mounts.
fn hierarchies(mounts: &str) -> (Vec<String>, Option<String>) {
    let mut first = Vec::new();
    let mut unified = None;
    for line in mounts.lines() {
        let mut fields = line.split(' ').skip(1);
        let (Some(target), Some(kind)) = (fields.next(), fields.next()) else { continue };
        match (kind, target.strip_prefix("/sys/fs/cgroup/")) {
            ("cgroup", Some(name)) => first.push(name.into()),
            ("cgroup2", _) if target.starts_with("/sys/fs/cgroup") => unified = Some(target.into()),
            _ => {}
        }
    }
    (first, unified)
}

/// A root file system of one static binary.
fn root_in(root: &Path) -> Result<(), Error> {
    for folder in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
        fs::create_dir_all(root.join(folder))?;
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|file| Path::new(file).is_file());
    let busybox = busybox.ok_or("there is no static busybox; script/bootstrap installs it")?;
    fs::copy(busybox, root.join("bin/busybox"))?;
    fs::set_permissions(root.join("bin/busybox"), fs::Permissions::from_mode(0o755))?;
    for name in ["true", "sh", "hostname"] {
        symlink("busybox", root.join("bin").join(name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::hierarchies;

    #[test]
    fn hierarchies_are_told_from_the_unified_tree() {
        let mounts = "proc /proc proc rw 0 0\n\
                      cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n\
                      cgroup /elsewhere/pids cgroup rw,pids 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(hierarchies(mounts), (vec!["cpu,cpuacct".into()], Some("/sys/fs/cgroup/unified".into())));
    }

    #[test]
    fn a_machine_of_v2_has_no_hierarchies() {
        let mounts = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n";
        assert_eq!(hierarchies(mounts), (vec![], Some("/sys/fs/cgroup".into())));
    }
}
