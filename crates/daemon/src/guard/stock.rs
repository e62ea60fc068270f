//! What there is: packages that come, are mounted, unmounted and go.

use std::os::fd::OwnedFd;

use engine::Work;
use package::Manifest;
use package::repository::{Aside, Install, Repository};
use rustix::fs::{FileType, fstat};
use sys::{Called as _, Mask};

use super::run::{Container, Phase};
use super::{Answer, Asked, Guard, Image, Job, Task, images};
use crate::log;
use crate::words::{Failure, Installed, Kind, Process, Told};

/// So many packages are installed at a time.
const MOST_INSTALLS: usize = 16;

impl Guard<'_> {
    /// Answers those who want to know what is there, once nothing is under way any more that another talker has asked for:
    /// nobody would tell what becomes of it.
    pub(super) fn answer_surveys(&mut self) {
        let round = self.talker.round;
        let is_old = |asked: Option<Asked>| asked.is_some_and(|asked| asked.round < round);
        let is_unsettled = self.jobs.values().any(|job| is_old(job.asked))
            || self.containers.values().any(|one| one.round < round && one.phase != Phase::Running);
        if is_unsettled {
            return;
        }
        for asked in std::mem::take(&mut self.surveys) {
            if asked.round == round {
                let told = self.survey(asked.number);
                self.answer(Some(asked), &told);
            }
        }
    }

    fn survey(&mut self, number: u64) -> Told {
        let all: Vec<String> = self.packages.keys().cloned().collect();
        for container in all {
            if let Some(installed) = self.told(&container) {
                self.tell(number, &Told::Package(installed));
            }
        }
        Told::Surveyed { repositories: self.repositories.keys().cloned().collect() }
    }

    /// All that there is to say of a package.
    fn told(&self, container: &str) -> Option<Installed> {
        let repository = self.packages.get(container)?;
        let entry = self.repositories.get(repository)?.entries().get(container)?;
        let running = self.containers.get(&entry.manifest.name);
        let running = running.filter(|one| one.package == container && one.phase == Phase::Running);
        Some(Installed {
            container: container.to_owned(),
            repository: repository.clone(),
            manifest: String::from_utf8_lossy(&entry.text).into_owned(),
            is_mounted: self.images.get(container) == Some(&Image::Mounted),
            process: running.map(|one| Process {
                pid: one.pid.unsigned_abs(),
                uptime: u64::try_from(one.since.elapsed().as_nanos()).unwrap_or(u64::MAX),
                resources: one.resources.clone(),
            }),
            ended: self.ended.get(container).copied(),
        })
    }

    /// A package's repository, and its manifest.
    pub(super) fn package(&self, container: &str) -> Result<(&Repository, &Manifest), Failure> {
        let store = self.packages.get(container).and_then(|repository| self.repositories.get(repository));
        let entry = store.and_then(|store| Some((store, &store.entries().get(container)?.manifest)));
        entry.ok_or_else(|| Failure::new(Kind::NotInstalled, format!("{container:?} is not installed")))
    }

    /// Who uses a package's mount, for whatever.
    fn user_of(&self, container: &str) -> Option<&str> {
        let mut all = self.containers.values();
        let uses =
            |one: &&Container| one.package == container || one.resources.values().any(|of| of == container);
        all.find(uses).map(|one| one.package.as_str())
    }

    pub(super) fn install(
        &mut self,
        asked: Asked,
        repository: String,
        size: u64,
        pipe: Option<OwnedFd>,
    ) -> Answer {
        let pipe = pipe.ok_or_else(|| Failure::new(Kind::Invalid, "no pipe came with the word"))?;
        let told = fstat(&pipe).called(|| "fstat(pipe)")?;
        if FileType::from_raw_mode(told.st_mode) != FileType::Fifo {
            return Err(Failure::new(Kind::Invalid, "what came with the word is no pipe"));
        }
        if self.jobs.values().filter(|job| matches!(job.task, Task::Install(..))).count() >= MOST_INSTALLS {
            return Err(Failure::new(
                Kind::Busy,
                format!("{MOST_INSTALLS} packages are being installed already"),
            ));
        }
        let store = self.repositories.get_mut(&repository).ok_or_else(|| {
            Failure::new(Kind::NoRepository, format!("there is no repository {repository:?}"))
        })?;
        let install = Box::new(store.begin(size)?);
        let work = images::receive(&self.mask, &pipe, &install)?;
        self.hire(work, Some(asked), Task::Install(install, repository));
        Ok(None)
    }

    /// A fork of ours has written and checked it.
    pub(super) fn installed(&mut self, install: Install, repository: &str) -> Result<Told, Failure> {
        let ready = install.close_forked()?;
        let container = ready.container();
        if let Some(other) = self.packages.get(&container) {
            let told = format!("{container} is installed already, in {other}");
            return Err(Failure::new(Kind::Duplicate, told).about(container));
        }
        let store = self.repositories.get_mut(repository);
        let store = store.ok_or_else(|| Failure::new(Kind::NoRepository, format!("{repository} is gone")))?;
        store.accept(ready)?;
        self.packages.insert(container.clone(), repository.to_owned());
        log::say(&format!("installed {container} in {repository}"));
        let installed = self.told(&container);
        installed
            .map(Told::Installed)
            .ok_or_else(|| Failure::new(Kind::Other, format!("{container} is gone")))
    }

    pub(super) fn uninstall(&mut self, asked: Asked, container: &str, wipe: bool) -> Answer {
        let name = self.package(container)?.1.name.clone();
        if self.images.contains_key(container) {
            return Err(Failure::new(Kind::Mounted, format!("{container} is mounted")));
        }
        if let Some(other) = self.containers.get(&name).filter(|_| wipe) {
            let told = format!("{} uses what containers of its name have kept", other.package);
            return Err(Failure::new(Kind::Busy, told).about(other.package.clone()));
        }
        let repository = self.packages.get(container).cloned().unwrap_or_default();
        let data = std::path::PathBuf::from(&self.house.data);
        let store = self.repositories.get_mut(&repository);
        let store = store.ok_or_else(|| Failure::new(Kind::NoRepository, format!("{repository} is gone")))?;
        let aside = store.take_out(container, wipe.then_some(data.as_path()))?;
        self.packages.remove(container);
        self.ended.remove(container);
        log::say(&format!("uninstalled {container} from {repository}"));
        let Some(aside) = aside else { return Ok(Some(Told::Done)) };
        let work = wiping(&self.mask, aside)?;
        self.hire(work, Some(asked), Task::Wipe(container.to_owned()));
        Ok(None)
    }

    pub(super) fn mount(&mut self, asked: Asked, container: String, is_to_run: bool) -> Answer {
        let (store, _) = self.package(&container)?;
        match self.images.get(&container) {
            None => {}
            Some(Image::Mounted) => {
                return Err(Failure::new(Kind::Mounted, format!("{container} is mounted already")));
            }
            Some(Image::UnderWay) => {
                return Err(Failure::new(Kind::Busy, format!("{container} is being mounted or unmounted")));
            }
        }
        let work = images::mount(&self.mask, &self.house, store, &container, is_to_run)?;
        self.images.insert(container.clone(), Image::UnderWay);
        self.hire(work, Some(asked), Task::Mount(container));
        Ok(None)
    }

    pub(super) fn umount(&mut self, asked: Asked, container: String) -> Answer {
        self.package(&container)?;
        match self.images.get(&container) {
            Some(Image::Mounted) => {}
            Some(Image::UnderWay) => {
                return Err(Failure::new(Kind::Busy, format!("{container} is being mounted or unmounted")));
            }
            None => return Err(Failure::new(Kind::NotMounted, format!("{container} is not mounted"))),
        }
        if let Some(user) = self.user_of(&container) {
            return Err(Failure::new(Kind::Busy, format!("{container} is used by {user}")).about(user));
        }
        let reads = |job: &&Job| matches!(&job.task, Task::Read(of) if *of == container);
        let reader = self.jobs.values().find(reads).map(|job| &job.work);
        let work = images::umount(&self.mask, &self.house, &container, reader)?;
        self.images.insert(container.clone(), Image::UnderWay);
        self.hire(work, Some(asked), Task::Umount(container));
        Ok(None)
    }
}

fn wiping(mask: &Mask, aside: Aside) -> Result<Work, Failure> {
    let mut aside = Some(aside);
    Ok(Work::run(mask, &[], |_| {
        let wiped = aside.take().map_or(Ok(()), Aside::remove);
        wiped.map(|()| Vec::new()).map_err(images::refused)
    })?)
}
