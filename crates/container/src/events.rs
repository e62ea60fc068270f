//! What a container uses, and what happens to it.

use std::time::Instant;

use cgroup::statistics::Gauge;
use cgroup::{Cgroup, Event, Statistics, Watch};
use plan::cgroup::Version;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use spec::Status;
use sys::{Called, Doing, Errno, Failed, Pidfd};

use crate::{Containers, Error};

/// A container that may be watched: as long as this is there, its first process and its groups are held.
#[derive(Debug)]
pub struct Watched {
    groups: Cgroup,
    init: Pidfd,
}

/// Its events, from when this was asked for.
#[derive(Debug)]
pub struct Events<'a> {
    watched: &'a Watched,
    watch: Watch<'a>,
}

impl Containers {
    /// A container to be watched; one that has stopped is none.
    pub fn watched(&self, id: &str) -> Result<Watched, Error> {
        let known = self.find(id)?;
        let groups = known.groups()?;
        match (known.status, known.init) {
            (Status::Created | Status::Running | Status::Paused, Some(init)) => Ok(Watched { groups, init }),
            _ => Err(Error::state(format!("container with id {id} is not running"))),
        }
    }
}

impl Watched {
    /// What the container has used, and uses now.
    pub fn statistics(&self) -> Result<Statistics, Error> {
        Ok(self.groups.statistics().doing(|| "read the statistics")?)
    }

    /// Whether all its groups are of version 2.
    pub fn is_unified(&self) -> bool {
        self.groups.paths().groups.iter().all(|group| group.version == Version::V2)
    }

    /// How much memory it may use, uses, and has used at most; none where that is not counted, or once it is gone.
    pub fn memory(&self) -> Result<Option<Gauge>, Error> {
        Ok(self.groups.memory().doing(|| "read the memory")?)
    }

    /// Begins to watch for a lack of memory and for the end.
    pub fn events(&self) -> Result<Events<'_>, Error> {
        Ok(Events { watched: self, watch: self.groups.watch()? })
    }

    /// The same, and for pressure and freezing too.
    pub fn close_events(&self) -> Result<Events<'_>, Error> {
        Ok(Events { watched: self, watch: self.groups.watch_closely()? })
    }
}

impl Events<'_> {
    /// What to wait for with poll(2), for who waits for more than this. [`Events::take`] tells then what it was.
    pub fn sources(&self) -> Vec<PollFd<'_>> {
        self.watch.sources()
    }

    /// What has happened and was not told yet; none where nothing has.
    pub fn take(&mut self) -> Result<Option<Event>, Error> {
        Ok(self.watch.take()?)
    }

    /// Waits for the next event; none when the deadline came first.
    pub fn wait_until(&mut self, deadline: Instant) -> Result<Option<Event>, Error> {
        loop {
            if let Some(event) = self.watch.take()? {
                return Ok(Some(event));
            }
            // v1 alone has no event for "nobody is left": there, the first process is waited for, and whoever outlives
            // it until the next deadline.
            let watches_init = !self.watch.tells_the_end() && !self.watched.init.has_exited()?;
            let is_v1_orphan = !self.watch.tells_the_end() && !watches_init;
            if is_v1_orphan && self.watched.groups.processes()?.is_empty() {
                return Ok(Some(Event::Ended));
            }
            if !self.wait(deadline, watches_init)? {
                return Ok(None);
            }
        }
    }

    /// Whether something happened before the deadline.
    fn wait(&mut self, deadline: Instant, watches_init: bool) -> Result<bool, Failed> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let mut sources = self.watch.sources();
        if watches_init {
            sources.push(PollFd::new(&self.watched.init, PollFlags::IN));
        }
        let left = Timespec::try_from(left).map_err(|_| Errno::INVAL).called(|| "poll(events)")?;
        let happened = match poll(&mut sources, Some(&left)) {
            Ok(count) => count > 0,
            Err(Errno::INTR) => true,
            Err(errno) => return Err(Failed::call("poll(events)", errno)),
        };
        let answers: Vec<PollFlags> = sources.iter().map(PollFd::revents).collect();
        self.watch.hear(&answers);
        Ok(happened)
    }
}
