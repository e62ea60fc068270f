//! Starts, ends, and starts anew.

use std::time::Duration;

use package::{Autostart, Mount, RESERVED, Version, When};

use super::restart::is_meant;
use super::{
    Actor, BTreeMap, BTreeSet, By, Container, Doing, Error, Failure, Image, Level, Life, Manifest, Name,
    Notification, Outcome, Package, Response, Running, Start, Starting, Status, Told, Waiter, Word, named,
    words,
};
use crate::words::Ended;

/// Who are started by themselves at the same time, at most: a start is mostly the kernel's work, on few processors.
const AT_ONCE: usize = 4;

impl Actor {
    /// Those that the daemon cannot live without come first, then the others, by their names.
    pub(super) fn queue_autostarts(&mut self) {
        for flag in [Autostart::Critical, Autostart::Relaxed] {
            let flagged = |package: &Package| {
                package.manifest.autostart == Some(flag) && matches!(package.life, Life::Down)
            };
            let all = self.packages.iter().filter(|(_, package)| flagged(package));
            self.queue.extend(all.map(|(container, _)| container.clone()));
        }
    }

    /// Lets those start whose turn it is.
    pub(super) fn take_turns(&mut self, now: Duration) {
        let by_itself = |package: &&Package| match &package.life {
            Life::Starting(starting) => starting.by == By::Itself,
            _ => false,
        };
        while self.packages.values().filter(by_itself).count() < AT_ONCE {
            let Some(container) = self.queue.pop_front() else { return };
            if let Err(error) = self.begin_start(Start::plain(container.clone()), By::Itself) {
                self.not_started(now, &container, By::Itself, error);
            }
        }
    }

    /// Checks all that can be checked, and has mounted what is not.
    pub(super) fn begin_start(&mut self, start: Start, by: By) -> Result<(), Error> {
        let container = start.container.clone();
        self.is_serving()?;
        let package = self.packages.get(&container);
        let package = package.ok_or_else(|| Error::InvalidContainer { container: container.clone() })?;
        if let Some(running) = self.running_of(&container.name) {
            return Err(Error::StartContainerStarted { container: running });
        }
        if RESERVED.iter().any(|name| start.environment.contains_key(*name)) {
            let cause = format!("env contains reserved key {}", RESERVED.join(" or "));
            return Err(Error::InvalidArguments { cause });
        }
        if start.init.is_none() && package.manifest.init.is_none() {
            return Err(Error::StartContainerResource { container });
        }
        let resources = self.resources(&container, &package.manifest)?;
        let needs: BTreeSet<Container> = resources.values().chain([&container]).cloned().collect();
        let mut away = BTreeSet::new();
        for needed in &needs {
            match self.packages.get(needed).map(|package| &package.image) {
                Some(Image::There) => {}
                Some(Image::Away | Image::Coming(_)) => {
                    away.insert(needed.clone());
                }
                // Somebody is about to take it away; whoever comes later may have it again.
                _ => return Err(Error::MountBusy { container: needed.clone() }),
            }
        }
        let starting = Starting { by, start, resources, needs: away.clone(), failed: None };
        if let Some(package) = self.packages.get_mut(&container) {
            package.life = Life::Starting(Box::new(starting));
        }
        for needed in &away {
            self.mount(needed, Waiter::Start(container.clone()));
        }
        if away.is_empty() {
            self.order_start(&container);
        }
        Ok(())
    }

    /// Which version of this name runs, or is about to: two of one name would share their groups and what they keep.
    fn running_of(&self, name: &Name) -> Option<Container> {
        let is_up = |package: &Package| matches!(package.life, Life::Starting(_) | Life::Running(_));
        let mut up = self.packages.iter().filter(|(known, package)| known.name == *name && is_up(package));
        up.next().map(|(container, _)| container.clone())
    }

    /// Whose files are mounted on which target: of those that would do, those of the highest version.
    pub(super) fn resources(
        &self,
        container: &Container,
        manifest: &Manifest,
    ) -> Result<BTreeMap<String, Container>, Error> {
        let mut all = BTreeMap::new();
        for (target, mount) in &manifest.mounts {
            let Mount::Resource { name, version, .. } = mount else { continue };
            let missing = || match name.parse() {
                Ok(resource) => Error::StartContainerMissingResource {
                    container: container.clone(),
                    resource,
                    version: version.clone(),
                },
                Err(error) => Error::unexpected(error),
            };
            let wanted = semver::VersionReq::parse(version).map_err(Error::unexpected)?;
            let would_do = |(known, package): &(&Container, &Package)| {
                known.name.as_str() == name
                    && package.manifest.version.satisfies(&wanted)
                    && !matches!(package.image, Image::Leaving)
            };
            let version = |package: &Package| -> Version { package.manifest.version };
            let best = self.packages.iter().filter(would_do).max_by_key(|(_, package)| version(package));
            all.insert(target.clone(), best.ok_or_else(missing)?.0.clone());
        }
        Ok(all)
    }

    /// One image more is there for a container that is to start, or is not to be had.
    pub(super) fn has_image(
        &mut self,
        now: Duration,
        user: &Container,
        image: &Container,
        outcome: Result<(), Error>,
    ) {
        let Some(starting) = self.starting(user) else { return };
        starting.needs.remove(image);
        if let Err(error) = outcome {
            starting.failed.get_or_insert(error);
        }
        if !starting.needs.is_empty() {
            return;
        }
        let (by, failed) = (starting.by, starting.failed.take());
        match failed.map_or_else(|| self.is_serving(), Err) {
            Ok(()) => self.order_start(user),
            Err(error) => self.not_started(now, user, by, error),
        }
    }

    fn order_start(&mut self, container: &Container) {
        let Some(package) = self.packages.get(container) else { return };
        let Life::Starting(starting) = &package.life else { return };
        let resources = starting.resources.iter().map(|(target, used)| (target.clone(), used.to_string()));
        let start = crate::words::Start {
            container: container.to_string(),
            command: words::command(&package.manifest, &starting.start),
            resources: resources.collect(),
        };
        self.say(Word::Start(start), Doing::Start(container.clone()));
    }

    fn starting(&mut self, container: &Container) -> Option<&mut Starting> {
        match &mut self.packages.get_mut(container)?.life {
            Life::Starting(starting) => Some(starting),
            _ => None,
        }
    }

    pub(super) fn started(&mut self, now: Duration, container: &Container, outcome: Result<Told, Failure>) {
        let Some(starting) = self.starting(container) else { return };
        let by = starting.by;
        let pid = match outcome {
            Ok(Told::Started { pid }) => pid,
            Ok(_) => {
                return self.not_started(now, container, by, Error::unexpected("the guard told no process"));
            }
            Err(failure) => {
                return self.not_started(now, container, by, words::not_started(container, failure));
            }
        };
        let resources = starting.resources.values().cloned().collect();
        if let Some(package) = self.packages.get_mut(container) {
            let running = Running { pid, since: now, resources, was_asked: false, killed_at: None };
            package.life = Life::Running(running);
        }
        self.notify(Notification::Started(container.clone()));
        if let By::Call(call) = by {
            self.answer(call, Response::Start(Outcome::Ok { container: container.clone() }));
        }
        self.stop_if_ending(now, container);
    }

    /// A start that came to nothing.
    pub(super) fn not_started(&mut self, now: Duration, container: &Container, by: By, error: Error) {
        let Some(package) = self.packages.get_mut(container) else { return };
        if matches!(package.life, Life::Starting(_)) {
            package.life = Life::Down;
        }
        let is_critical = package.manifest.autostart == Some(Autostart::Critical);
        match by {
            By::Call(call) => {
                self.answer(call, Response::Start((container.clone(), Err(error)).into()));
            }
            By::Itself if is_critical => self.end(now, Err(format!("{container} is critical: {error}"))),
            By::Itself => self.log(Level::Warning, format!("start {container}: {error}")),
            By::Restart => {
                self.log(Level::Warning, format!("start {container} anew: {error}"));
                // As bad as an end.
                self.stays_down(now, container, Duration::ZERO, &error.to_string());
            }
        }
    }

    pub(super) fn exited(&mut self, now: Duration, container: &str, status: Status) {
        let Ok(container) = &named(container) else { return };
        let Some(package) = self.packages.get_mut(container) else { return };
        let (ran, was_asked) = match &package.life {
            Life::Running(running) => (now.saturating_sub(running.since), running.was_asked),
            // It was told in another way.
            Life::Down | Life::Starting(_) | Life::Waiting(_) => return,
        };
        package.life = Life::Down;
        self.notify(Notification::Exit(container.clone(), status));
        self.follow(now, container, ran, status, was_asked);
    }

    /// A container that has ended before we were there.
    pub(super) fn take_up(&mut self, now: Duration, container: &Container, ended: Ended) {
        let is_down = |package: &Package| matches!(package.life, Life::Down);
        if self.packages.get(container).is_some_and(is_down) {
            self.follow(now, container, Duration::ZERO, ended.status.into(), ended.was_asked);
        }
    }

    /// What follows an end.
    fn follow(
        &mut self,
        now: Duration,
        container: &Container,
        ran: Duration,
        status: Status,
        was_asked: bool,
    ) {
        let Some(package) = self.packages.get(container).filter(|_| self.ending.is_none()) else { return };
        let is_critical = package.manifest.autostart == Some(Autostart::Critical);
        let is_restarted = is_meant(package.manifest.upkeep.restart.when, status, was_asked);
        if is_restarted {
            self.stays_down(now, container, ran, &status.to_string());
        } else if is_critical && !status.is_success() {
            self.end(now, Err(format!("{container} is critical: it {status}")));
        }
    }

    /// A container is down that is to be started anew: after a while, or never again.
    fn stays_down(&mut self, now: Duration, container: &Container, ran: Duration, why: &str) {
        let Some(package) = self.packages.get_mut(container) else { return };
        let rule = &package.manifest.upkeep.restart;
        if rule.when == When::Never || self.ending.is_some() {
            return;
        }
        if let Some(delay) = package.row.delay(rule, ran) {
            package.life = Life::Waiting(now + delay);
            return self.log(Level::Info, format!("{container} is started anew in {} ms", delay.as_millis()));
        }
        let is_critical = package.manifest.autostart == Some(Autostart::Critical);
        self.log(Level::Warning, format!("{container} has ended too often, and stays down"));
        if is_critical {
            self.end(now, Err(format!("{container} is critical, and has ended too often: {why}")));
        }
    }

    pub(super) fn restart_who_waited(&mut self, now: Duration) {
        let is_due = |package: &Package| matches!(package.life, Life::Waiting(at) if at <= now);
        let due = self.packages.iter().filter(|(_, package)| is_due(package));
        for container in due.map(|(container, _)| container.clone()).collect::<Vec<_>>() {
            if let Some(package) = self.packages.get_mut(&container) {
                package.life = Life::Down;
            }
            if let Err(error) = self.begin_start(Start::plain(container.clone()), By::Restart) {
                self.not_started(now, &container, By::Restart, error);
            }
        }
    }
}
