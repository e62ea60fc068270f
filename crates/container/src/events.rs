//! What a container uses, and what happens to it.

use std::time::{Duration, Instant};

use cgroup::statistics::{Details, Gauge};
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

/// How often somebody looks whether those are gone that outlive the first process, where no event tells it.
const AGAIN: Duration = Duration::from_secs(1);

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

    /// What is set, and what few ask for: what Northstar's console tells beside the figures.
    pub fn details(&self) -> Result<Details, Error> {
        Ok(self.groups.details().doing(|| "read the statistics")?)
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

    /// Waits for the next event, however long that takes.
    pub fn wait(&mut self) -> Result<Event, Error> {
        loop {
            if let Some(event) = self.next(None)? {
                return Ok(event);
            }
        }
    }

    /// Waits for the next event; none when the deadline came first.
    pub fn wait_until(&mut self, deadline: Instant) -> Result<Option<Event>, Error> {
        self.next(Some(deadline))
    }

    fn next(&mut self, deadline: Option<Instant>) -> Result<Option<Event>, Error> {
        loop {
            if let Some(event) = self.watch.take()? {
                return Ok(Some(event));
            }
            // v1 alone has no event for "nobody is left": there, the first process is waited for, and whoever outlives
            // it is looked for.
            let is_silent = !self.watch.tells_the_end();
            let has_orphans = is_silent && self.watched.init.has_exited()?;
            if has_orphans && self.watched.groups.processes()?.is_empty() {
                return Ok(Some(Event::Ended));
            }
            let look = has_orphans.then(|| Instant::now() + AGAIN);
            self.sleep(deadline.into_iter().chain(look).min(), is_silent && !has_orphans)?;
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Ok(self.watch.take()?);
            }
        }
    }

    /// Until something happens, or the time has come.
    fn sleep(&mut self, until: Option<Instant>, watches_init: bool) -> Result<(), Failed> {
        let mut sources = self.watch.sources();
        if watches_init {
            sources.push(PollFd::new(&self.watched.init, PollFlags::IN));
        }
        let left = until.map(|until| Timespec::try_from(until.saturating_duration_since(Instant::now())));
        let left = left.transpose().map_err(|_| Errno::INVAL).called(|| "poll(events)")?;
        match poll(&mut sources, left.as_ref()) {
            Err(Errno::INTR) => return Ok(()),
            told => told.called(|| "poll(events)")?,
        };
        let answers: Vec<PollFlags> = sources.iter().map(PollFd::revents).collect();
        self.watch.hear(&answers);
        Ok(())
    }
}
