//! How a process gets into its groups without anybody waiting for `cgroup_threadgroup_rwsem`.
//!
//! Whoever writes a number to `cgroup.procs`, or to `tasks` for somebody else, takes that lock for writing: it
//! stops every fork and exit of the machine and waits for an RCU grace period, some 10 ms. The kernel spares a
//! thread that writes `0` to `tasks`, since it moves itself alone; and one that is born in its group moves not at
//! all. So the unified group is given to clone3(2), and the v1 groups are joined by the child.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use plan::cgroup::Version;
use rustix::fs::OFlags;
use sys::{Called, Doing, Failed, Spent};

use crate::{Cgroup, Group};

/// The door to one v1 group.
#[derive(Debug)]
pub struct Join {
    tasks: OwnedFd,
    /// `write("/sys/fs/cgroup/cpu/web/tasks", "0")`, written beforehand: the child allocates nothing.
    call: String,
}

impl AsFd for Join {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tasks.as_fd()
    }
}

impl From<Join> for OwnedFd {
    fn from(door: Join) -> Self {
        door.tasks
    }
}

/// Moves the calling thread into the groups. For a child with one thread: of several, only this one would move.
pub fn join_self(doors: Vec<Join>) -> Result<(), Failed> {
    for door in &doors {
        rustix::io::write(&door.tasks, b"0").called(|| door.call.as_str())?;
    }
    Spent::default().extend(doors.into_iter().map(OwnedFd::from));
    Ok(())
}

impl Cgroup {
    /// The doors to the v1 groups, to be opened by the parent and walked through by the child.
    pub fn join_handles(&self) -> Result<Vec<Join>, Failed> {
        let mut doors = Vec::with_capacity(self.groups.len());
        for group in self.groups.iter().filter(|group| group.version == Version::V1) {
            let call = format!("write(\"{}/{}/tasks\", \"0\")", group.place.mounted(), group.place.path());
            doors.push(Join { tasks: group.place.file("tasks", OFlags::WRONLY)?, call });
        }
        Ok(doors)
    }

    /// The group in the unified tree, for `CLONE_INTO_CGROUP`; none on a host without that tree.
    pub fn unified_dir(&self) -> Result<Option<OwnedFd>, Failed> {
        self.unified().map(|group| group.place.directory()).transpose()
    }

    /// The unified group that this process of the container is in: the container's own, or one below it. None if it is
    /// in neither, or there is no unified tree.
    ///
    /// On v2 an init that hands controllers on to its children has left the container's group itself, and nobody can be
    /// born there any more.
    pub fn holding(&self, pid: i32) -> Result<Option<Self>, Failed> {
        let Some(group) = self.unified() else { return Ok(None) };
        let Some(path) = group.holding(pid)? else { return Ok(None) };
        let held = Group {
            version: group.version,
            controllers: group.controllers.clone(),
            place: group.place.beside(path),
            ancestors: Vec::new(),
            is_new: false,
        };
        Ok(Some(Self { groups: vec![held], omitted: Vec::new() }))
    }

    /// Moves a process into the unified group where `CLONE_INTO_CGROUP` could not be had (before Linux 5.7, or
    /// denied by a filter). This waits for the lock.
    pub fn join_unified(&self, pid: i32) -> Result<(), Failed> {
        match self.unified() {
            Some(group) => {
                group.place.write("cgroup.procs", &pid.to_string()).doing(|| "join the unified group")
            }
            None => Ok(()),
        }
    }

    /// Moves a process that runs already, with all its threads, into every group. What it has used before stays where it
    /// was charged: the kernel moves processes, not pages. This waits for the lock.
    pub fn adopt(&self, pid: i32) -> Result<(), Failed> {
        self.groups.iter().try_for_each(|group| group.place.write("cgroup.procs", &pid.to_string()))
    }

    /// Moves a thread of a process that has others elsewhere: into v1 groups, and into threaded ones of the unified tree.
    /// One that is gone fails with `ESRCH`.
    pub fn adopt_thread(&self, tid: i32) -> Result<(), Failed> {
        let file = |group: &Group| if group.version == Version::V1 { "tasks" } else { "cgroup.threads" };
        self.groups.iter().try_for_each(|group| group.place.write(file(group), &tid.to_string()))
    }

    /// Threads in these groups themselves, not below them.
    pub fn threads(&self) -> Result<Vec<i32>, Failed> {
        let Some(group) = self.groups.first() else { return Ok(Vec::new()) };
        group.threads()
    }

    /// Says in which of the groups a process is not that should be in all of them.
    pub fn check_holds(&self, pid: i32) -> Result<(), Failed> {
        for group in &self.groups {
            if !group.members(group.place.path())?.contains(&pid) {
                let place = format!("{}/{}", group.place.mounted(), group.place.path());
                return Err(Failed::refused(format!("process {pid} is not in {place}")));
            }
        }
        Ok(())
    }

    /// Moves this process out of the groups, and out of those below them, to the nearest above that takes it: whoever is
    /// about to kill all inside should not be one of them. Nobody else is moved, and nobody escapes limits by it.
    pub fn step_out(&self) -> Result<(), Failed> {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        self.groups.iter().try_for_each(|group| group.step_out(own))
    }
}

impl Group {
    /// Again, until it is found in none of them: somebody may move it back meanwhile, but not for ever.
    fn step_out(&self, own: i32) -> Result<(), Failed> {
        const TRIES: usize = 8;
        for _ in 0..TRIES {
            if self.holding(own)?.is_none() {
                return Ok(());
            }
            let above: Vec<&str> = self.place.above().collect();
            let mut refused = None;
            // The nearest first; on v2 those that hand controllers on take nobody, all but the topmost.
            for path in above.into_iter().rev().chain([""]) {
                match self.place.write_at(path, "cgroup.procs", "0") {
                    Ok(()) => {
                        refused = None;
                        break;
                    }
                    Err(failed) => _ = refused.get_or_insert(failed),
                }
            }
            if let Some(failed) = refused {
                return Err(failed).doing(|| "leave the groups ourselves");
            }
        }
        Err(Failed::refused(format!("we are moved back into {} as often as we leave it", self.place.path())))
    }
}
