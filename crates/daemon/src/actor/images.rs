//! Images: mounted, unmounted, and taken away with their packages.

use std::time::Duration;

use super::{
    Actor, BTreeSet, Container, Doing, Error, Failure, Image, Level, Life, List, Notification, Outcome,
    Package, Response, Waiter, Word, words,
};

impl Actor {
    pub(super) fn mount_at_start(&mut self, repositories: &BTreeSet<String>) {
        let flagged = |package: &&Package| {
            matches!(package.image, Image::Away) && repositories.contains(&package.repository)
        };
        let all = self.packages.iter().filter(|(_, package)| flagged(package));
        for container in all.map(|(container, _)| container.clone()).collect::<Vec<_>>() {
            self.mount(&container, Waiter::Nobody);
        }
    }

    /// Has an image mounted that is away, for one more who waits.
    pub(super) fn mount(&mut self, container: &Container, waiter: Waiter) {
        let Some(package) = self.packages.get_mut(container) else { return };
        if let Image::Coming(waiters) = &mut package.image {
            return waiters.push(waiter);
        }
        let is_to_run = matches!(&waiter, Waiter::Start(user) if user == container);
        package.image = Image::Coming(vec![waiter]);
        let word = Word::Mount { container: container.to_string(), is_to_run };
        self.say(word, Doing::Mount(container.clone()));
    }

    pub(super) fn mounted(&mut self, now: Duration, container: &Container, outcome: &Result<(), Failure>) {
        let Some(package) = self.packages.get_mut(container) else { return };
        let image = if outcome.is_ok() { Image::There } else { Image::Away };
        let Image::Coming(waiters) = std::mem::replace(&mut package.image, image) else { return };
        for waiter in waiters {
            let outcome = outcome.clone().map_err(|failure| words::not_mounted(container, failure));
            match waiter {
                Waiter::Start(user) => self.has_image(now, &user, container, outcome),
                Waiter::Call(call, place) => self.enter(call, place, container, outcome),
                Waiter::Uninstall(..) | Waiter::Nobody => {
                    if let Err(error) = outcome {
                        self.log(Level::Warning, error.to_string());
                    }
                }
            }
        }
    }

    pub(super) fn mount_all(&mut self, call: u64, containers: &[Container]) {
        self.begin_list(call, Response::Mount, containers.len());
        for (place, container) in containers.iter().enumerate() {
            match self.may_mount(container) {
                Ok(()) => self.mount(container, Waiter::Call(call, place)),
                Err(error) => self.enter(call, place, container, Err(error)),
            }
        }
    }

    fn may_mount(&self, container: &Container) -> Result<(), Error> {
        self.is_serving()?;
        let container = container.clone();
        match self.packages.get(&container).map(|package| &package.image) {
            None | Some(Image::Leaving) => Err(Error::InvalidContainer { container }),
            Some(Image::Away) => Ok(()),
            Some(Image::Coming(_) | Image::There | Image::Going(_)) => Err(Error::MountBusy { container }),
        }
    }

    pub(super) fn umount_all(&mut self, call: u64, containers: &[Container]) {
        self.begin_list(call, Response::Umount, containers.len());
        for (place, container) in containers.iter().enumerate() {
            match self.may_umount(container) {
                Ok(()) => self.umount(container, Waiter::Call(call, place)),
                Err(error) => self.enter(call, place, container, Err(error)),
            }
        }
    }

    fn may_umount(&self, container: &Container) -> Result<(), Error> {
        let package = self.packages.get(container);
        let package = package.ok_or_else(|| Error::InvalidContainer { container: container.clone() })?;
        if let Some(user) = self.user_of(container) {
            return Err(Error::UmountBusy { container: user });
        }
        match package.image {
            Image::There => Ok(()),
            _ => Err(Error::UmountBusy { container: container.clone() }),
        }
    }

    pub(super) fn umount(&mut self, container: &Container, waiter: Waiter) {
        if let Some(package) = self.packages.get_mut(container) {
            package.image = Image::Going(waiter);
            let word = Word::Umount { container: container.to_string() };
            self.say(word, Doing::Umount(container.clone()));
        }
    }

    pub(super) fn umounted(&mut self, container: &Container, outcome: Result<(), Failure>) {
        let Some(package) = self.packages.get_mut(container) else { return };
        let image = if outcome.is_ok() { Image::Away } else { Image::There };
        let Image::Going(waiter) = std::mem::replace(&mut package.image, image) else { return };
        let outcome = outcome.map_err(|failure| words::not_unmounted(container, failure));
        match (waiter, outcome) {
            (Waiter::Call(call, place), outcome) => self.enter(call, place, container, outcome),
            (Waiter::Uninstall(call, wipe), Ok(())) => self.remove(call, container, wipe),
            (Waiter::Uninstall(call, _), Err(error)) => {
                self.answer(call, Response::Uninstall((container.clone(), Err(error)).into()));
            }
            (Waiter::Start(_) | Waiter::Nobody, Err(error)) => self.log(Level::Warning, error.to_string()),
            (Waiter::Start(_) | Waiter::Nobody, Ok(())) => {}
        }
    }

    pub(super) fn uninstall(&mut self, call: u64, container: Container, wipe: bool) {
        match self.may_uninstall(&container) {
            Ok(true) => self.umount(&container, Waiter::Uninstall(call, wipe)),
            Ok(false) => self.remove(call, &container, wipe),
            Err(error) => self.answer(call, Response::Uninstall((container, Err(error)).into())),
        }
    }

    /// Whether its image must be unmounted before.
    fn may_uninstall(&self, container: &Container) -> Result<bool, Error> {
        self.is_serving()?;
        let package = self.packages.get(container);
        let package = package.ok_or_else(|| Error::InvalidContainer { container: container.clone() })?;
        if let Some(user) = self.user_of(container) {
            return Err(Error::UmountBusy { container: user });
        }
        match package.image {
            Image::Away => Ok(false),
            Image::There => Ok(true),
            Image::Coming(_) | Image::Going(_) => Err(Error::UmountBusy { container: container.clone() }),
            Image::Leaving => Err(Error::InvalidContainer { container: container.clone() }),
        }
    }

    fn remove(&mut self, call: u64, container: &Container, wipe: bool) {
        if let Some(package) = self.packages.get_mut(container) {
            (package.image, package.life) = (Image::Leaving, Life::Down);
            let word = Word::Uninstall { container: container.to_string(), wipe };
            self.say(word, Doing::Uninstall(container.clone(), call));
        }
    }

    pub(super) fn uninstalled(&mut self, container: Container, call: u64, outcome: Result<(), Failure>) {
        match &outcome {
            Ok(()) => {
                self.packages.remove(&container);
                self.notify(Notification::Uninstall(container.clone()));
            }
            Err(_) => {
                if let Some(package) = self.packages.get_mut(&container) {
                    package.image = Image::Away;
                }
            }
        }
        let outcome = outcome.map_err(|failure| words::not_unmounted(&container, failure));
        self.answer(call, Response::Uninstall((container, outcome).into()));
    }

    fn begin_list(&mut self, call: u64, response: fn(Vec<Outcome>) -> Response, length: usize) {
        if length == 0 {
            return self.answer(call, response(Vec::new()));
        }
        self.lists.insert(call, List { response, outcomes: vec![None; length] });
    }

    /// One outcome of several; with the last, all are answered.
    fn enter(&mut self, call: u64, place: usize, container: &Container, outcome: Result<(), Error>) {
        let Some(list) = self.lists.get_mut(&call) else { return };
        if let Some(entry) = list.outcomes.get_mut(place) {
            *entry = Some((container.clone(), outcome).into());
        }
        if list.outcomes.iter().all(Option::is_some)
            && let Some(List { response, outcomes }) = self.lists.remove(&call)
        {
            self.answer(call, response(outcomes.into_iter().flatten().collect()));
        }
    }
}
