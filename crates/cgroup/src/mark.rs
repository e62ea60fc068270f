//! The mark on groups that we made: whose they are, for the day on which the record of that is lost.
//!
//! An extended attribute of one directory, the last group of the plan: in the unified tree where there is one. It is made first
//! of all and removed last, and its mark names the others. One system call for each container, whoever is killed when.

use plan::cgroup::HostCgroups;
use plan::systemd::Held;
use rustix::fs::{XattrFlags, fstat, lgetxattr, lsetxattr};
use serde::{Deserialize, Serialize};
use sys::{Called, Errno, Failed};

use crate::place::{Bases, Place, is_gone};
use crate::{Cgroup, Group, Paths};

/// Whose groups these are.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Mark {
    /// The state root that has the container's record.
    pub root: String,
    /// The device number of the root's file system: the same path elsewhere, in a container say, is another root.
    pub device: u64,
    /// The container's id.
    pub id: String,
    /// All of its groups.
    pub groups: Paths,
    /// The unit of a service manager's that they belong to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<Held>,
}

/// What only the host's root can set and see, and what everybody can on groups of his own (Linux 5.7, version 2).
const TRUSTED: &str = "trusted.cofferdam";
const USER: &str = "user.cofferdam";

/// As much as an attribute can hold.
const LONGEST: usize = 1 << 16;

impl Mark {
    /// All marks on this host that we may act upon. Root's are set by root; the others, only on groups that are ours, and
    /// then they speak for the one directory that bears them.
    pub fn all(host: &HostCgroups) -> Result<Vec<Self>, Failed> {
        let is_root = rustix::process::geteuid().is_root() && !sys::is_mapped()?;
        let v1 = host.hierarchies.iter().map(|hierarchy| &hierarchy.mount);
        let mut found = Vec::new();
        for mount in v1.chain(host.unified.iter().map(|unified| &unified.mount)) {
            let top = Bases::default().place(mount, "")?;
            for path in top.tree()?.into_iter().skip(1) {
                let place = top.beside(path);
                found.extend(if is_root { Self::trusted_on(&place)? } else { Self::own_on(&place)? });
            }
        }
        Ok(found)
    }

    fn trusted_on(place: &Place) -> Result<Option<Self>, Failed> {
        Ok(read(place, TRUSTED)?.filter(|mark| mark.names(place)))
    }

    /// Somebody in a container may have the right to write it, so it is not taken at its word.
    fn own_on(place: &Place) -> Result<Option<Self>, Failed> {
        let Some(mut mark) = read(place, USER)?.filter(|mark| mark.names(place)) else { return Ok(None) };
        let Some(directory) = alive(place.directory())? else { return Ok(None) };
        if fstat(&directory).called(|| "fstat(control group)")?.st_uid != rustix::process::geteuid().as_raw()
        {
            return Ok(None);
        }
        mark.groups.groups.retain(|group| group.mount == place.mounted() && group.path == place.path());
        for group in &mut mark.groups.groups {
            group.ancestors.retain(|above| place.above().any(|there| there == above));
        }
        mark.unit = None;
        Ok(Some(mark))
    }

    /// Whether it stands where it says: v1 lets groups be renamed, and their marks with them.
    fn names(&self, place: &Place) -> bool {
        self.groups.groups.iter().any(|group| group.mount == place.mounted() && group.path == place.path())
    }

    fn owner(&self) -> (&str, u64, &str) {
        (&self.root, self.device, &self.id)
    }

    /// The groups, if the mark still stands: whoever has made others of the same name since has set another.
    pub fn groups(&self) -> Result<Option<Cgroup>, Failed> {
        let cgroup = Cgroup::open(&self.groups)?;
        for group in &cgroup.groups {
            for attribute in [TRUSTED, USER] {
                if read(&group.place, attribute)?.is_some_and(|now| now.owner() == self.owner()) {
                    return Ok(Some(cgroup));
                }
            }
        }
        Ok(None)
    }
}

impl Group {
    /// Sets the mark. A kernel that has none for us (before 5.7 there is none for ordinary users) is no reason to have no
    /// container: its record is what counts.
    pub(crate) fn mark(&self, mark: &Mark) -> Result<(), Failed> {
        let text = serde_json::to_vec(mark).map_err(|why| Failed::refused(format!("mark a group: {why}")))?;
        let path = self.place.full();
        let set = |attribute| lsetxattr(path.as_str(), attribute, &text, XattrFlags::empty());
        let told = match set(TRUSTED) {
            Err(Errno::PERM) => set(USER),
            told => told,
        };
        match told {
            Ok(()) | Err(Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP | Errno::NOSPC) => Ok(()),
            Err(errno) => Err(Failed::call(format!("setxattr({path:?})"), errno)),
        }
    }

    /// Whether there is a mark of ours.
    pub(crate) fn is_marked(&self) -> Result<bool, Failed> {
        Ok(has(&self.place, TRUSTED)? || has(&self.place, USER)?)
    }
}

fn has(place: &Place, attribute: &str) -> Result<bool, Failed> {
    Ok(text_of(place, attribute)?.is_some())
}

/// What is not a mark of this build's, or not whole, is none.
fn read(place: &Place, attribute: &str) -> Result<Option<Mark>, Failed> {
    Ok(text_of(place, attribute)?.and_then(|text| serde_json::from_slice(&text).ok()))
}

fn text_of(place: &Place, attribute: &str) -> Result<Option<Vec<u8>>, Failed> {
    let path = place.full();
    let mut room = vec![0; LONGEST];
    match lgetxattr(path.as_str(), attribute, room.as_mut_slice()) {
        Ok(length) => {
            room.truncate(length);
            Ok(Some(room))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM | Errno::ACCESS | Errno::NOENT | Errno::NODEV) => {
            Ok(None)
        }
        Err(errno) => Err(Failed::call(format!("getxattr({path:?}, {attribute:?})"), errno)),
    }
}

/// None where the directory has gone.
fn alive<T>(opened: Result<T, Failed>) -> Result<Option<T>, Failed> {
    match opened {
        Err(failed) if is_gone(&failed) => Ok(None),
        opened => opened.map(Some),
    }
}

impl Cgroup {
    /// Whether any process is in the groups or below them, and those that we can name: one of another pid namespace has no
    /// number here.
    pub fn inhabitants(&self) -> Result<Option<Vec<i32>>, Failed> {
        let (mut is_inhabited, mut known) = (false, Vec::new());
        for group in &self.groups {
            is_inhabited |= group.is_inhabited()?;
            known.extend(group.processes()?);
        }
        known.sort_unstable();
        known.dedup();
        Ok(is_inhabited.then_some(known))
    }

    /// The directories that are there.
    pub fn directories(&self) -> Result<Vec<String>, Failed> {
        let there = self.groups.iter().filter_map(|group| match group.place.is_there(group.place.path()) {
            Ok(true) => Some(Ok(group.place.full())),
            Ok(false) => None,
            Err(failed) => Some(Err(failed)),
        });
        there.collect()
    }
}
