//! What is kept in the state directory so that a later command finds the groups again.

use plan::Below;
use plan::cgroup::{CgroupPlan, Version};
use plan::sandbox::Spot;
use serde::{Deserialize, Serialize};
use sys::{Errno, Failed};

use crate::place::Bases;
use crate::{Cgroup, Group};

/// Where the groups of a container are.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Paths {
    /// One per hierarchy.
    pub groups: Vec<Record>,
}

/// One group.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Record {
    /// Which generation.
    pub version: Version,
    /// Its controllers, or its `name=`.
    pub controllers: Vec<String>,
    /// Where the hierarchy is mounted.
    pub mount: String,
    /// The directory, relative to the mount.
    pub path: String,
    /// Directories above it that were made for it, the topmost first; they go when they are empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ancestors: Vec<String>,
}

impl Paths {
    /// Where the groups of a plan will be, for the record that is written before the first of them is made. A
    /// directory above one of them that is not there now counts as made for it.
    pub fn survey(plan: &CgroupPlan) -> Result<Self, Failed> {
        let mut bases = Bases::default();
        let mut groups = Vec::with_capacity(plan.groups.len());
        for group in &plan.groups {
            groups.push(Record {
                version: group.version,
                controllers: group.controllers.clone(),
                mount: group.mount.clone(),
                path: group.path.clone(),
                ancestors: if is_managed(plan, group) {
                    Vec::new()
                } else {
                    missing_above(group, &mut bases)?
                },
            });
        }
        Ok(Self { groups })
    }

    /// The first group of a plan that is there already, and that no service manager answers for: whose it is, nobody knows.
    pub fn taken(plan: &CgroupPlan) -> Result<Option<String>, Failed> {
        let mut bases = Bases::default();
        for group in plan.groups.iter().filter(|group| !is_managed(plan, group)) {
            if bases.place(&group.mount, &group.path)?.is_there(&group.path)? {
                return Ok(Some(format!("{}/{}", group.mount, group.path)));
            }
        }
        Ok(None)
    }

    /// The groups that a plan for a sandbox puts somebody in.
    pub fn of_spots(spots: &[Spot]) -> Self {
        let record = |spot: &Spot| Record {
            version: spot.version,
            controllers: spot.controllers.clone(),
            mount: spot.mount.clone(),
            path: spot.path.clone(),
            ancestors: Vec::new(),
        };
        Self { groups: spots.iter().map(record).collect() }
    }

    /// Those of these groups that were made.
    #[must_use]
    pub fn among(mut self, made: &Self) -> Self {
        self.groups.retain(|group| {
            made.groups.iter().any(|known| known.mount == group.mount && known.path == group.path)
        });
        self
    }

    /// The same, with the directory right above each, whoever made it: one that is ours by its name and shared by all, so that
    /// whoever goes last removes it.
    #[must_use]
    pub fn with_parents(mut self) -> Self {
        for group in &mut self.groups {
            if let Some((above, _)) = group.path.rsplit_once('/')
                && group.ancestors.last().is_none_or(|last| last != above)
            {
                group.ancestors.push(above.to_owned());
            }
        }
        self
    }

    /// Forgets those that were left out when the others were made.
    pub fn keep(&mut self, made: &Cgroup) {
        self.groups.retain(|known| {
            made.groups
                .iter()
                .any(|group| group.place.mounted() == known.mount && group.place.path() == known.path)
        });
    }

    /// The groups below these that `exec --cgroup` names; the error is the sentence for who named them.
    pub fn below(&self, named: &Below) -> Result<Self, String> {
        let v1 = self.groups.iter().filter(|group| group.version == Version::V1);
        named.knows(&v1.flat_map(|group| group.controllers.clone()).collect::<Vec<_>>())?;
        let place = |group: &Record| {
            let path = named.place(group.version, &group.controllers, &group.path)?;
            Ok(Record { path, ancestors: Vec::new(), ..group.clone() })
        };
        Ok(Self { groups: self.groups.iter().map(place).collect::<Result<_, String>>()? })
    }
}

/// Whether the directories above are a service manager's, to make and to remove.
fn is_managed(plan: &CgroupPlan, group: &plan::cgroup::Group) -> bool {
    const ON_V1: [&str; 7] = ["name=systemd", "cpu", "cpuacct", "blkio", "memory", "devices", "pids"];
    let is_its = |name: &String| ON_V1.contains(&name.as_str());
    plan.unit.is_some() && (group.version == Version::V2 || group.controllers.iter().any(is_its))
}

fn missing_above(group: &plan::cgroup::Group, bases: &mut Bases) -> Result<Vec<String>, Failed> {
    // Right below the mount there is nothing to ask.
    if !group.path.contains('/') {
        return Ok(Vec::new());
    }
    let place = bases.place(&group.mount, &group.path)?;
    let above: Vec<&str> = place.above().collect();
    for (there, path) in above.iter().enumerate().rev() {
        match place.is_there(path) {
            Ok(true) => return Ok(above[there + 1..].iter().map(|&path| path.to_owned()).collect()),
            Ok(false) => {}
            Err(failed) if failed.errno() == Some(Errno::ACCESS) => return Ok(Vec::new()),
            Err(failed) => return Err(failed),
        }
    }
    Ok(above.into_iter().map(str::to_owned).collect())
}

impl Cgroup {
    /// Where the groups are.
    pub fn paths(&self) -> Paths {
        let record = |group: &Group| Record {
            version: group.version,
            controllers: group.controllers.clone(),
            mount: group.place.mounted().to_owned(),
            path: group.place.path().to_owned(),
            ancestors: group.ancestors.clone(),
        };
        Paths { groups: self.groups.iter().map(record).collect() }
    }

    /// The groups of a container that is there already. They need not exist any more.
    pub fn open(paths: &Paths) -> Result<Self, Failed> {
        for record in &paths.groups {
            // A record is ours, but what it names will be removed: no way out of the mount, and not the mount.
            for path in record.ancestors.iter().chain([&record.path]) {
                if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
                    return Err(Failed::refused(format!("{path:?} is no path of a control group")));
                }
            }
        }
        Self::open_foreign(paths)
    }

    /// Groups of others, which nobody here removes: somebody is to be put back into them. The topmost is one of these.
    pub fn open_foreign(paths: &Paths) -> Result<Self, Failed> {
        let mut bases = Bases::default();
        let mut groups = Vec::with_capacity(paths.groups.len());
        for record in &paths.groups {
            groups.push(Group {
                version: record.version,
                controllers: record.controllers.clone(),
                place: bases.place(&record.mount, &record.path)?,
                ancestors: record.ancestors.clone(),
                is_new: false,
            });
        }
        Ok(Self { groups, omitted: Vec::new() })
    }
}
