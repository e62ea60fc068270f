//! The end: all are asked to stop, then killed; then images are unmounted, and the daemon may go.

use std::time::Duration;

use super::{Action, Actor, Container, Error, Image, Level, Life, Notification, Package, Waiter};

/// How long a container may take to stop whose manifest does not say.
const STOPPING: Duration = Duration::from_secs(10);

/// How long what was killed may take to be gone. Who hangs in the kernel, hangs without us.
const DYING: Duration = Duration::from_secs(5);

/// The daemon ends.
#[derive(Debug)]
pub(super) struct Ending {
    /// What it ends for.
    outcome: Result<(), String>,
    /// When it is given up to wait.
    given_up_at: Duration,
    has_unmounted: bool,
    is_told: bool,
}

impl Ending {
    pub(super) fn due(&self) -> Option<Duration> {
        (!self.is_told).then_some(self.given_up_at)
    }
}

impl Actor {
    pub(super) fn is_serving(&self) -> Result<(), Error> {
        if self.ending.is_some() { Err(Error::unexpected("the daemon shuts down")) } else { Ok(()) }
    }

    /// Begins to end. The first reason counts.
    pub(super) fn end(&mut self, now: Duration, outcome: Result<(), String>) {
        if self.ending.is_some() {
            return;
        }
        match &outcome {
            Ok(()) => self.log(Level::Info, "shutting down"),
            Err(why) => self.log(Level::Warning, format!("shutting down: {why}")),
        }
        self.notify(Notification::Shutdown);
        let timeouts =
            self.packages.values().map(|package| package.manifest.upkeep.stop.timeout.unwrap_or(STOPPING));
        let longest = timeouts.max().unwrap_or_default();
        self.ending = Some(Ending {
            outcome,
            given_up_at: now + longest + DYING,
            has_unmounted: false,
            is_told: false,
        });
        self.queue.clear();
        for container in self.packages.keys().cloned().collect::<Vec<_>>() {
            self.stop_if_ending(now, &container);
        }
    }

    /// Stops a container, also one that has come up only now.
    pub(super) fn stop_if_ending(&mut self, now: Duration, container: &Container) {
        let Some(package) = self.packages.get_mut(container).filter(|_| self.ending.is_some()) else {
            return;
        };
        let stop = &package.manifest.upkeep.stop;
        match &mut package.life {
            Life::Running(running) => {
                let timeout = stop.timeout.unwrap_or(STOPPING);
                running.was_asked = true;
                running.killed_at = Some(running.killed_at.map_or(now + timeout, |at| at.min(now + timeout)));
                let signal = stop.signal;
                self.signal(container, signal, None);
            }
            life @ Life::Waiting(_) => *life = Life::Down,
            Life::Down | Life::Starting(_) => {}
        }
    }

    pub(super) fn kill_who_lingers(&mut self, now: Duration) {
        let mut lingering = Vec::new();
        for (container, package) in &mut self.packages {
            if let Life::Running(running) = &mut package.life
                && running.killed_at.is_some_and(|at| at <= now)
            {
                running.killed_at = None;
                lingering.push(container.clone());
            }
        }
        for container in lingering {
            self.log(Level::Warning, format!("{container} has not stopped in its time, and is killed"));
            self.signal(&container, sys::SIGKILL, None);
        }
    }

    /// Unmounts what nobody uses any more, and says when all is over.
    pub(super) fn end_if_over(&mut self, now: Duration) {
        let Some(ending) = self.ending.as_ref().filter(|ending| !ending.is_told) else { return };
        let has_given_up = ending.given_up_at <= now;
        let is_up = |package: &Package| matches!(package.life, Life::Starting(_) | Life::Running(_));
        if !has_given_up && (self.packages.values().any(is_up) || !self.under_way.is_empty()) {
            return;
        }
        let there = self.packages.iter().filter(|(_, package)| matches!(package.image, Image::There));
        let there: Vec<_> = there.map(|(container, _)| container.clone()).collect();
        let Some(ending) = self.ending.as_mut() else { return };
        if !has_given_up && !ending.has_unmounted && !there.is_empty() {
            // Once: what could not be unmounted now is left to the guard, or to the next start.
            ending.has_unmounted = true;
            for container in there {
                self.umount(&container, Waiter::Nobody);
            }
            return;
        }
        ending.is_told = true;
        let outcome = ending.outcome.clone();
        let left = self.packages.iter().filter(|(_, package)| is_up(package));
        let left: Vec<_> = left.map(|(container, _)| container.to_string()).collect();
        if !left.is_empty() {
            self.log(Level::Warning, format!("still there, and left alone: {}", left.join(", ")));
        }
        self.actions.push(Action::Over(outcome));
    }
}
