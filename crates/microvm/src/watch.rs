//! What happens to a sandbox while somebody watches: memory runs out, the monitor ends.

use cgroup::{Cgroup, Event, Watch};
use rustix::event::{PollFd, PollFlags, poll};
use serde::Serialize;
use sys::{Called, Errno, Failed, Pidfd};

use crate::show::counting;
use crate::update::alive;
use crate::{Error, Killer, Record, Sandboxes, killer};

/// A sandbox that may be watched: its groups and its monitor are held.
#[derive(Debug)]
pub struct Watched {
    groups: Vec<Cgroup>,
    pid: i32,
    monitor: Pidfd,
}

/// What happens to it, from when this was asked for.
#[derive(Debug)]
pub struct Events<'a> {
    watched: &'a Watched,
    watches: Vec<Watch<'a>>,
}

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "event")]
pub enum Happened {
    /// Somebody watches from now on; never told by [`Events::wait`].
    Watching {
        /// The monitor's number.
        pid: i32,
    },
    /// The sandbox's limit, or its helpers', was reached, and nothing could be reclaimed.
    OutOfMemory,
    /// The monitor has ended. Nothing comes after this.
    Ended {
        /// Whether the host's limit has killed somebody; what the guest's kernel does does not end its monitor.
        killer: Killer,
        /// How many.
        oom_kills: u64,
    },
}

impl Sandboxes {
    /// A sandbox to be watched; one whose monitor has ended is none.
    pub fn watched(&self, id: &str) -> Result<Watched, Error> {
        let entry = self.look(id)?;
        let (record, pid, monitor) = alive(Record::read(&entry)?)?;
        Ok(Watched { groups: counting(&record)?, pid, monitor })
    }
}

impl Watched {
    /// The monitor's number.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Begins to watch.
    pub fn events(&self) -> Result<Events<'_>, Error> {
        let watches = self.groups.iter().map(Cgroup::watch).collect::<Result<_, _>>()?;
        Ok(Events { watched: self, watches })
    }

    fn oom_kills(&self) -> Result<u64, Failed> {
        self.groups.iter().map(Cgroup::oom_kills).sum()
    }
}

impl Events<'_> {
    /// Waits for what happens next.
    pub fn wait(&mut self) -> Result<Happened, Error> {
        loop {
            // In this order: what has ended the monitor is told before that it has ended.
            let has_ended = self.watched.monitor.has_exited()?;
            // v1 tells those below of it too: what comes together is told once.
            let mut ran_out = false;
            for watch in &mut self.watches {
                while watch.take()? == Some(Event::OutOfMemory) {
                    ran_out = true;
                }
            }
            if ran_out {
                return Ok(Happened::OutOfMemory);
            }
            if has_ended {
                let oom_kills = self.watched.oom_kills()?;
                return Ok(Happened::Ended { killer: killer(oom_kills, 0), oom_kills });
            }
            self.sleep()?;
        }
    }

    /// Until something happens.
    fn sleep(&mut self) -> Result<(), Failed> {
        let mut sources: Vec<PollFd<'_>> = self.watches.iter().flat_map(Watch::sources).collect();
        sources.push(PollFd::new(&self.watched.monitor, PollFlags::IN));
        match poll(&mut sources, None) {
            Err(Errno::INTR) => Ok(()),
            told => told.map(drop).called(|| "poll(events)"),
        }
    }
}
