//! Control group hierarchies: which there are, where they are mounted, and where we are in them.

use plan::cgroup::{HostCgroups, HostHierarchy, HostUnified};
use rustix::fs::{CWD, Mode, OFlags, RawDir, openat, statfs};
use sys::{Called, Errno, Failed};

use crate::read_text;

const ROOT: &str = "/sys/fs/cgroup";

/// Of linux/magic.h; rustix has it for other systems only.
const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;

/// /proc/self/cgroup says which hierarchies there are; where they are mounted is where everybody mounts them, and only
/// a host that does otherwise makes us read its mount table.
pub(crate) fn probe(rootless: bool) -> Result<HostCgroups, Failed> {
    let text = read_text("/proc/self/cgroup")?;
    let lines = memberships(&text);
    let is_unified = is_cgroup2(ROOT)?;
    let mut host = HostCgroups { rootless, ..HostCgroups::default() };
    let there = names_in(ROOT)?;
    if is_unified {
        let own = lines.iter().find(|line| line.is_unified()).map_or("/", |line| line.own);
        host.unified = Some(unified(ROOT, own)?);
        return Ok(host);
    }
    for line in &lines {
        if line.is_unified() {
            let mount = format!("{ROOT}/unified");
            if is_cgroup2(&mount)? {
                host.unified = Some(unified(&mount, line.own)?);
            }
        } else if let Some(mount) = line.mount(&there)? {
            host.hierarchies.push(line.hierarchy(mount));
        }
    }
    Ok(host)
}

/// One line of /proc/self/cgroup: `4:cpu,cpuacct:/user.slice`.
struct Membership<'a> {
    controllers: &'a str,
    own: &'a str,
}

fn memberships(text: &str) -> Vec<Membership<'_>> {
    let lines = text.lines().filter_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, own) = rest.split_once(':')?;
        Some(Membership { controllers, own })
    });
    lines.collect()
}

impl Membership<'_> {
    fn is_unified(&self) -> bool {
        self.controllers.is_empty()
    }

    /// Where it is mounted, if it is; one that nobody mounted, nobody can use.
    fn mount(&self, there: &[String]) -> Result<Option<String>, Failed> {
        let directory = self.controllers.strip_prefix("name=").unwrap_or(self.controllers);
        if there.iter().any(|name| name == directory) {
            return Ok(Some(format!("{ROOT}/{directory}")));
        }
        self.mounted_elsewhere()
    }

    fn mounted_elsewhere(&self) -> Result<Option<String>, Failed> {
        let table = read_text("/proc/self/mountinfo")?;
        let wanted: Vec<&str> = self.controllers.split(',').collect();
        let mount = table.lines().find_map(|line| {
            // "36 35 98:0 /root /mount/point options - cgroup source super,options", proc_pid_mountinfo(5).
            let (before, after) = line.split_once(" - ")?;
            let mut after = after.split(' ');
            let is_v1 = after.next()? == "cgroup";
            let options: Vec<&str> = after.nth(1)?.split(',').collect();
            let is_it = is_v1 && wanted.iter().all(|name| options.contains(name));
            is_it.then(|| before.split(' ').nth(4)).flatten().map(str::to_owned)
        });
        Ok(mount)
    }

    fn hierarchy(&self, mount: String) -> HostHierarchy {
        let (controllers, name) = match self.controllers.strip_prefix("name=") {
            Some(name) => (Vec::new(), Some(name.to_owned())),
            None => (self.controllers.split(',').map(str::to_owned).collect(), None),
        };
        HostHierarchy { controllers, name, mount, own: self.own.to_owned() }
    }
}

/// What stands where hierarchies are mounted, without a call for each of them.
fn names_in(path: &str) -> Result<Vec<String>, Failed> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = match openat(CWD, path, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(Vec::new()),
        opened => opened.called(|| format!("open({path:?})"))?,
    };
    let mut names = Vec::new();
    let mut room = Vec::with_capacity(4096);
    let mut entries = RawDir::new(&directory, room.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry.called(|| format!("getdents({path:?})"))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

fn is_cgroup2(path: &str) -> Result<bool, Failed> {
    match statfs(path) {
        Ok(fs) => Ok(fs.f_type == CGROUP2_SUPER_MAGIC),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno).called(|| format!("statfs({path:?})")),
    }
}

fn unified(mount: &str, own: &str) -> Result<HostUnified, Failed> {
    let controllers =
        if mount == ROOT { read_text(&format!("{mount}/cgroup.controllers"))? } else { String::new() };
    Ok(HostUnified {
        mount: mount.to_owned(),
        own: own.to_owned(),
        controllers: controllers.split_whitespace().map(str::to_owned).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_membership_is_a_named_hierarchy_or_controllers() {
        let lines = memberships("5:cpu,cpuacct:/a/b:c\n1:name=systemd:/\n0::/unified\n");
        let hierarchies: Vec<HostHierarchy> = lines
            .iter()
            .filter(|line| !line.is_unified())
            .map(|line| line.hierarchy(String::new()))
            .collect();
        assert_eq!(hierarchies.len(), 2);
        assert_eq!(hierarchies[0].controllers, ["cpu", "cpuacct"]);
        assert_eq!(hierarchies[0].own, "/a/b:c");
        assert_eq!(hierarchies[1].name.as_deref(), Some("systemd"));
        assert_eq!(hierarchies[1].controllers, Vec::<String>::new());
    }
}
