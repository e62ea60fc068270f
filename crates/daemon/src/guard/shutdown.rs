//! The end: asked for by a signal, and carried out in order by the talker; or without it.

use std::time::{Duration, Instant};

use sys::{SIGCHLD, SIGKILL};

use super::{Container, Guard, Image, Task, house, run};
use crate::log;
use crate::words::{Failure, Kind, Told, UNASKED};

/// How the end is getting on.
#[derive(Debug)]
pub(super) struct Ending {
    deadline: Instant,
    /// Nobody is asked any more.
    is_tearing_down: bool,
    failure: Option<String>,
}

/// How long the talker may take to stop everything in order, beside the time that containers have.
const ORDER: Duration = Duration::from_mins(1);
/// How long what was killed may take to be gone.
const DEATH: Duration = Duration::from_secs(20);

impl Ending {
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(super) fn is_tearing_down(&self) -> bool {
        self.is_tearing_down
    }
}

impl Guard<'_> {
    /// A child's end is looked for after every wait; any other signal is a wish that we end, and the second one impatience.
    pub(super) fn heed_signal(&mut self) -> Result<(), Failure> {
        let signal = self.signals.next_signal()?;
        if signal == SIGCHLD {
            return Ok(());
        }
        if self.ending.is_some() {
            log::say(&format!("signal {signal} once more: everything is ended at once"));
            self.tear_down(None);
            return Ok(());
        }
        log::say(&format!("signal {signal}: the daemon is to end"));
        let deadline = Instant::now() + order(self.containers.values().map(|one| self.stop_timeout(one)));
        self.ending = Some(Ending { deadline, is_tearing_down: false, failure: None });
        if self.talker.line().is_some() {
            self.tell(UNASKED, &Told::Shutdown);
        }
        Ok(())
    }

    /// How long a container may take to end, where its manifest says so.
    fn stop_timeout(&self, container: &Container) -> Option<Duration> {
        self.package(&container.package).ok()?.1.upkeep.stop.timeout
    }

    /// The talker has nothing more to ask.
    pub(super) fn leave(&mut self, failure: Option<String>) {
        if let Some(failure) = &failure {
            log::say(&format!("the daemon ends: {failure}"));
        }
        self.tear_down(failure);
    }

    /// Kills whatever runs. The rest follows when that is gone.
    fn tear_down(&mut self, failure: Option<String>) {
        let failure = failure.or_else(|| self.ending.take().and_then(|ending| ending.failure));
        self.ending = Some(Ending { deadline: Instant::now() + DEATH, is_tearing_down: true, failure });
        let mut frozen = Vec::new();
        for container in self.containers.values() {
            if container.is_frozen {
                frozen.push((container.package.clone(), container.task.kill(SIGKILL, false)));
            } else if let Some((_, init)) = &container.init
                && let Err(failed) = run::signal(init, SIGKILL)
            {
                log::say(&format!("kill {}: {failed}", container.package));
            }
        }
        for (package, work) in frozen {
            match work {
                Ok(work) => self.hire(work, None, Task::Kill(package)),
                Err(error) => log::say(&format!("kill {package}: {error}")),
            }
        }
        for job in self.jobs.values().filter(|job| matches!(job.task, Task::Install(..) | Task::Read(_))) {
            job.work.end();
        }
    }

    /// Whether all is over.
    pub(super) fn go_on_ending(&mut self) -> bool {
        let Some(ending) = &self.ending else { return false };
        let is_due = ending.deadline <= Instant::now();
        if ending.is_tearing_down {
            return self.containers.is_empty() && self.jobs.is_empty() || is_due;
        }
        if is_due || self.talker.line().is_none() {
            log::say("the talker has not ended everything in order: it is ended without it");
            self.tear_down(None);
        }
        false
    }

    /// Takes away what is left, and goes.
    pub(super) fn close(mut self) -> Result<(), Failure> {
        let mut left: Vec<String> = self.containers.values().map(|one| one.package.clone()).collect();
        for (container, image) in std::mem::take(&mut self.images) {
            if image == Image::UnderWay {
                continue;
            }
            let place = self.house.image(&container);
            let gone = engine::detach_rootfs(&place).and_then(|()| house::remove_directory(&place));
            if let Err(failed) = gone {
                left.push(failed.to_string());
            }
        }
        self.part(true);
        self.talker.dismiss();
        if let Err(failed) = engine::remove_group(&self.house.cgroup) {
            left.push(failed.to_string());
        }
        let failure = self.ending.take().and_then(|ending| ending.failure);
        if !left.is_empty() {
            return Err(Failure::new(Kind::Other, format!("what is left: {}", left.join("; "))));
        }
        log::say("all is over");
        failure.map_or(Ok(()), |failure| Err(Failure::new(Kind::Other, failure)))
    }
}

/// How long the end may take in order: nobody is cut short who has longer than the others.
fn order(timeouts: impl Iterator<Item = Option<Duration>>) -> Duration {
    timeouts.flatten().max().unwrap_or_default() + ORDER
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_waits_for_who_has_longest() {
        let [short, long] = [3, 3600].map(Duration::from_secs);
        assert_eq!(order([].into_iter()), ORDER);
        assert_eq!(order([None, Some(short), Some(long), None].into_iter()), long + ORDER);
    }
}
