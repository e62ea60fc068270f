//! The guard: the half that may do everything, and knows few words.
//!
//! Touches: the directories of its configuration, repositories, loop and mapped devices, mounts, containers; the line to the
//!          talker.
//! Never:   believes the talker anything; waits for what may block, which workers do (room `engine`); starts a thread.
//! Begin with [`run()`].
//!
//! One thread, one poll(2). What is asked over the line is checked against what is known here, and either done at once or
//! given to a worker; a worker's end is one more thing to be heard. If the talker dies, another one is forked, and asks
//! for all that is: containers do not notice. If the guard dies, so do the talker and the workers; containers live on
//! until the next guard finds and removes them (`house`).

mod debug;
mod files;
mod house;
mod images;
mod memory;
mod output;
mod run;
mod shutdown;
mod sockets;
mod talker;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Instant;

use engine::{Word as Said, Work};
use package::repository::{Aside, Install, Repository, Rules, Scan};
use package::{Manifest, Mount, PublicKey};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use semver::VersionReq;
use sys::{
    Called as _, Errno, Failed, Mask, SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGKILL, SIGSTOP, SIGTERM, SignalFd,
    block_signals,
};

use self::house::House;
use self::run::{Container, Order, Phase};
use self::shutdown::Ending;
use self::talker::Talker;
use crate::config::{self, Config, RepositoryKind};
use crate::log;
use crate::words::{
    Ended, Failure, Heard, Installed, Kind, Numbered, Process, Start, Status, Told, UNASKED, Word,
};

pub use talker::{Talk, Turn};

/// What is not in the configuration.
#[derive(Debug, Default)]
pub struct Setting {
    /// Sockets that clients connect to, for the talker alone.
    pub listeners: Vec<OwnedFd>,
    /// Whether images are mounted where the host sees them. Otherwise they are in a mount namespace of our own, and go with
    /// us however we end.
    pub shares_mounts: bool,
}

/// Forks the talker, which runs `talk`, and does what it asks for until the daemon is to end; the exit status.
///
/// The caller has one thread, and what executes us cannot be written by a container ([`sys::seal`]).
pub fn run(config: &Config, setting: Setting, talk: Talk<'_>) -> u8 {
    match Guard::begin(config, setting, talk).and_then(Guard::stand) {
        Ok(()) => 0,
        Err(failure) => {
            log::say(&failure.to_string());
            1
        }
    }
}

struct Guard<'a> {
    mask: Mask,
    signals: SignalFd,
    null: OwnedFd,
    talker: Talker<'a>,
    house: House,
    repositories: BTreeMap<String, Repository>,
    /// The repository of each package; of two with the same package, that counts whose name comes first.
    packages: BTreeMap<String, String>,
    /// Packages whose image is mounted, or whose mount is under way.
    images: BTreeMap<String, Image>,
    /// By name: of all versions of a package one runs at a time.
    containers: BTreeMap<String, Container>,
    /// How those ended that ran and run no more, by package: for the next talker.
    ended: BTreeMap<String, Ended>,
    jobs: BTreeMap<u64, Job>,
    next_job: u64,
    surveys: Vec<Asked>,
    /// What is run beside each container.
    commands: Vec<String>,
    parting: Vec<debug::Parting>,
    ending: Option<Ending>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Image {
    UnderWay,
    Mounted,
}

/// Who asked for something, and will hear of it if it is still there.
#[derive(Clone, Copy, Debug)]
struct Asked {
    round: u64,
    number: u64,
}

/// A worker, and what it is at.
struct Job {
    work: Work,
    asked: Option<Asked>,
    task: Task,
}

enum Task {
    Mount(String),
    /// A mount is there, and its program read ahead.
    Read(String),
    Umount(String),
    Install(Box<Install>, String),
    Wipe(String),
    Make(String),
    Watch(String),
    Accompany(String),
    Start(String),
    Freeze(String, bool),
    Kill(String),
    Delete(String),
}

/// Something that has happened.
enum Event {
    Signals,
    TalkersEnd,
    Line,
    Job(u64),
    Said(String),
    Exit(String),
    Output(String, &'static str),
    /// Of programs whose container is gone, by their place among such.
    Parting(usize),
}

/// What can be answered at once; none where a worker will.
type Answer = Result<Option<Told>, Failure>;

/// So many packages are installed at a time.
const MOST_INSTALLS: usize = 16;
/// So many words of the talker's are heard before others have their turn.
const MOST_WORDS: usize = 64;

const ABOUT_TO_END: &str = "the daemon is about to end";

impl<'a> Guard<'a> {
    fn begin(config: &Config, setting: Setting, talk: Talk<'a>) -> Result<Self, Failure> {
        let mask = block_signals()?;
        let files = files::raise()?;
        let talker = Talker::begin(talk, setting.listeners, (config.user, config.group))?;
        if !setting.shares_mounts {
            sys::unshare_mounts()?;
        }
        let heard = [SIGHUP, SIGINT, SIGTERM, SIGCHLD].iter().fold(0, |set, signal| set | 1 << (signal - 1));
        let signals = SignalFd::of(heard)?;
        let null = openat(CWD, "/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .called(|| "open(\"/dev/null\")")?;
        let house = House::take(config, mask, files)?;
        let mut guard = Self {
            mask,
            signals,
            null,
            talker,
            house,
            repositories: BTreeMap::new(),
            packages: BTreeMap::new(),
            images: BTreeMap::new(),
            containers: BTreeMap::new(),
            ended: BTreeMap::new(),
            jobs: BTreeMap::new(),
            next_job: 0,
            surveys: Vec::new(),
            commands: config.debug.commands.clone(),
            parting: Vec::new(),
            ending: None,
        };
        for (name, repository) in &config.repositories {
            guard
                .open(name, repository)
                .map_err(|failure| failure.while_doing(&format!("repository {name}")))?;
        }
        guard.sweep_data()?;
        guard.house.provide_group()?;
        log::say(&format!("{} packages in {} repositories", guard.packages.len(), guard.repositories.len()));
        Ok(guard)
    }

    fn open(&mut self, name: &str, told: &config::Repository) -> Result<(), Failure> {
        let key = told.key.as_deref().map(PublicKey::read).transpose()?;
        let rules = Rules { key, packages: told.capacity_num, bytes: told.capacity_size };
        let (store, scan) = match &told.kind {
            RepositoryKind::Memory => (Repository::in_memory(rules), Scan::default()),
            RepositoryKind::Directory { dir } => Repository::open(dir, rules)?,
        };
        for skipped in scan.skipped {
            let file = skipped.file.to_string_lossy().into_owned();
            log::say(&format!("repository {name}: {file} is left alone: {}", skipped.reason));
        }
        for draft in scan.removed {
            log::say(&format!(
                "repository {name}: removed {}, which was never whole",
                draft.to_string_lossy()
            ));
        }
        for container in store.entries().keys() {
            if let Some(other) = self.packages.get(container) {
                log::say(&format!("repository {name}: {container} is left alone: it is in {other} too"));
            } else {
                self.packages.insert(container.clone(), name.to_owned());
            }
        }
        self.repositories.insert(name.to_owned(), store);
        Ok(())
    }

    /// Ends what an uninstallation has begun that was broken off.
    fn sweep_data(&self) -> Result<(), Failure> {
        let data = std::path::Path::new(&self.house.data);
        let swept = package::repository::sweep(data, |container| self.packages.contains_key(container))?;
        for skipped in swept.skipped {
            log::say(&format!("{}: {}", skipped.file.to_string_lossy(), skipped.reason));
        }
        Ok(())
    }

    /// Does what is asked until it is to end.
    fn stand(mut self) -> Result<(), Failure> {
        loop {
            self.wait()?;
            self.reap_strays()?;
            self.answer_surveys();
            if self.go_on_ending() {
                return self.close();
            }
            if self.ending.is_none() {
                self.talker.revive();
            }
        }
    }

    /// Waits until something happens, and heeds all that has.
    fn wait(&mut self) -> Result<(), Failure> {
        let parting = self.parting.iter().map(|one| one.until).min();
        let deadline = [self.talker.due(), self.ending.as_ref().map(Ending::deadline), parting];
        let left =
            deadline.into_iter().flatten().min().map(|at| at.saturating_duration_since(Instant::now()));
        let left = left.map(Timespec::try_from).transpose().map_err(|_| Errno::INVAL).called(|| "poll()")?;
        let sources = self.sources();
        let mut asked: Vec<PollFd<'_>> =
            sources.iter().map(|(fd, flags, _)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
        match poll(&mut asked, left.as_ref()) {
            Err(Errno::INTR) => return Ok(()),
            told => told.called(|| "poll()")?,
        };
        let ready: Vec<bool> = asked.iter().map(|asked| !asked.revents().is_empty()).collect();
        let events = sources.into_iter().zip(ready).filter(|(_, is_ready)| *is_ready);
        let events: Vec<Event> = events.map(|((_, _, event), _)| event).collect();
        for event in events {
            match event {
                Event::Signals => self.heed_signal()?,
                Event::TalkersEnd => self.talker.end("it ended"),
                Event::Line => self.heed_talker(),
                Event::Job(job) => self.heed_job(job),
                Event::Said(name) => self.heed_end(&name),
                Event::Exit(name) => self.heed_exit(&name),
                Event::Output(name, stream) => self.heed_output(&name, stream),
                Event::Parting(place) => self.heed_parting(place),
            }
        }
        self.part(false);
        Ok(())
    }

    fn sources(&self) -> Vec<(BorrowedFd<'_>, PollFlags, Event)> {
        let mut sources = vec![(self.signals.as_fd(), PollFlags::IN, Event::Signals)];
        if let Some((end, line, is_full)) = self.talker.sources() {
            let full = if is_full { PollFlags::OUT } else { PollFlags::empty() };
            sources.push((line, PollFlags::IN | full, Event::Line));
            sources.push((end, PollFlags::IN, Event::TalkersEnd));
        }
        sources.extend(self.jobs.iter().map(|(id, job)| (job.work.as_fd(), PollFlags::IN, Event::Job(*id))));
        for (name, container) in &self.containers {
            sources.extend(container.source().map(|said| (said, PollFlags::IN, Event::Said(name.clone()))));
            if let Some((_, process)) = &container.init {
                sources.push((process.as_fd(), PollFlags::IN, Event::Exit(name.clone())));
            }
            for (stream, output) in &container.outputs {
                let (fd, is_held_up) = output.source();
                let flags = if is_held_up { PollFlags::OUT } else { PollFlags::IN };
                sources.push((fd, flags, Event::Output(name.clone(), stream)));
            }
        }
        for (place, one) in self.parting.iter().enumerate() {
            let (fd, is_held_up) = one.output.source();
            let flags = if is_held_up { PollFlags::OUT } else { PollFlags::IN };
            sources.push((fd, flags, Event::Parting(place)));
        }
        sources
    }

    /// Children that nobody knows: workers that have said all they had to say, and who was born of one that was killed.
    fn reap_strays(&mut self) -> Result<(), Failed> {
        while let Some(pid) = sys::exited_child()? {
            let is_init =
                self.containers.values().any(|one| one.init.as_ref().is_some_and(|init| init.0 == pid));
            if is_init || self.talker.is(pid) {
                // It is heard by its own descriptor.
                break;
            }
            // As long as it was not reaped, the number is its own.
            sys::Pidfd::open(pid)?.reap()?;
        }
        Ok(())
    }

    /// Says something to the talker, if there is one.
    fn tell(&mut self, number: u64, told: &Told) {
        if let Some(Err(failed)) = self.talker.line().map(|line| line.say(number, told, Vec::new())) {
            self.talker.end(&failed.to_string());
        }
    }

    /// Answers who asked, unless another talker is there by now.
    fn answer(&mut self, asked: Option<Asked>, told: &Told) {
        if let Some(asked) = asked.filter(|asked| asked.round == self.talker.round) {
            self.tell(asked.number, told);
        }
    }

    fn heed_talker(&mut self) {
        for _ in 0..MOST_WORDS {
            let Some(line) = self.talker.line() else { return };
            match line.flush().and_then(|()| line.hear::<Word>()) {
                Ok(Heard::Word(Numbered { number, what }, with)) => self.obey(number, what, with),
                Ok(Heard::Nothing) => return,
                Ok(Heard::End) => self.talker.end("it hung up"),
                Err(failed) => self.talker.end(&failed.to_string()),
            }
        }
    }

    fn obey(&mut self, number: u64, word: Word, mut with: Vec<OwnedFd>) {
        let asked = Asked { round: self.talker.round, number };
        if self.ending.as_ref().is_some_and(Ending::is_tearing_down) {
            return;
        }
        let answer = match word {
            Word::Survey => {
                self.surveys.push(asked);
                Ok(None)
            }
            Word::Install { repository, size } => self.install(asked, repository, size, with.pop()),
            Word::Uninstall { container, wipe } => self.uninstall(asked, &container, wipe),
            Word::Mount { container, is_to_run } => self.mount(asked, container, is_to_run),
            Word::Umount { container } => self.umount(asked, container),
            Word::Start(start) => self.start(asked, &start, with.pop()),
            Word::Signal { container, signal } => self.signal(asked, &container, signal),
            Word::Rest { container } => self.rest(&container),
            Word::Freeze { container } => self.freeze(asked, &container, true),
            Word::Thaw { container } => self.freeze(asked, &container, false),
            Word::Statistics { container } => self.statistics(&container),
            Word::Leave { failure } => {
                self.leave(failure);
                return;
            }
        };
        match answer {
            Ok(Some(told)) => self.answer(Some(asked), &told),
            Ok(None) => {}
            Err(failure) => self.answer(Some(asked), &Told::Failed(failure)),
        }
    }

    /// Answers those who want to know what is there, once nothing is under way any more that another talker has asked for:
    /// nobody would tell what becomes of it.
    fn answer_surveys(&mut self) {
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
    fn package(&self, container: &str) -> Result<(&Repository, &Manifest), Failure> {
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

    fn hire(&mut self, work: Work, asked: Option<Asked>, task: Task) {
        self.next_job += 1;
        self.jobs.insert(self.next_job, Job { work, asked, task });
    }

    fn install(&mut self, asked: Asked, repository: String, size: u64, pipe: Option<OwnedFd>) -> Answer {
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
    fn installed(&mut self, install: Install, repository: &str) -> Result<Told, Failure> {
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

    fn uninstall(&mut self, asked: Asked, container: &str, wipe: bool) -> Answer {
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

    fn mount(&mut self, asked: Asked, container: String, is_to_run: bool) -> Answer {
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

    fn umount(&mut self, asked: Asked, container: String) -> Answer {
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

    fn start(&mut self, asked: Asked, start: &Start, console: Option<OwnedFd>) -> Answer {
        if self.ending.is_some() {
            return Err(Failure::new(Kind::Busy, ABOUT_TO_END));
        }
        let manifest = self.package(&start.container)?.1.clone();
        if let Some(other) = self.containers.get(&manifest.name) {
            let told = format!("{} is there already", other.package);
            return Err(Failure::new(Kind::Running, told).about(other.package.clone()));
        }
        self.check_mounted(&start.container)?;
        self.check_resources(&manifest, start)?;
        check_console(&manifest, console.as_ref())?;
        let name = manifest.name.clone();
        let order = Order {
            manifest,
            start,
            console,
            null: self.null.as_fd(),
            is_accompanied: !self.commands.is_empty(),
            asked,
        };
        let begun = Container::begin(&self.house, order);
        let (container, work) = begun.map_err(|failure| Failure { kind: Kind::Start, ..failure })?;
        self.containers.insert(name.clone(), container);
        self.hire(work, None, Task::Make(name));
        Ok(None)
    }

    fn check_mounted(&self, container: &str) -> Result<(), Failure> {
        match self.images.get(container) {
            Some(Image::Mounted) => Ok(()),
            _ => Err(Failure::new(Kind::NotMounted, format!("{container} is not mounted")).about(container)),
        }
    }

    /// Each resource that the manifest names is lent by a package that may be the one that is meant, and is mounted.
    fn check_resources(&self, manifest: &Manifest, start: &Start) -> Result<(), Failure> {
        let mut meant = BTreeSet::new();
        for (target, mount) in &manifest.mounts {
            let Mount::Resource { name, version, .. } = mount else { continue };
            let lender = start.resources.get(target).ok_or_else(|| {
                Failure::new(Kind::Invalid, format!("no package was named for the resource on {target}"))
            })?;
            let lent = self.package(lender)?.1;
            if lent.name != *name || !is_within(lent, version) {
                let told = format!("{lender} is not {name} {version}, which is to be on {target}");
                return Err(Failure::new(Kind::Invalid, told).about(lender.clone()));
            }
            self.check_mounted(lender)?;
            meant.insert(target);
        }
        match start.resources.keys().find(|target| !meant.contains(target)) {
            Some(target) => Err(Failure::new(Kind::Invalid, format!("no resource is to be on {target:?}"))),
            None => Ok(()),
        }
    }

    fn running(&mut self, container: &str) -> Result<&mut Container, Failure> {
        let name = self.package(container)?.1.name.clone();
        let running = self.containers.get_mut(&name);
        let running = running.filter(|one| one.package == container && one.phase == Phase::Running);
        running.ok_or_else(|| Failure::new(Kind::NotRunning, format!("{container} does not run")))
    }

    fn signal(&mut self, asked: Asked, container: &str, signal: i32) -> Answer {
        if !(1..=31).contains(&signal) {
            return Err(Failed::call(format!("kill({container}, {signal})"), Errno::INVAL).into());
        }
        let asks = self.package(container)?.1.upkeep.stop.is_asked_by(signal);
        let running = self.running(container)?;
        running.was_asked |= asks;
        if signal == SIGSTOP || signal == SIGCONT && running.is_frozen {
            // It would stop the attendant, and nobody else.
            return self.freeze(asked, container, signal == SIGSTOP);
        }
        if signal == SIGKILL && running.is_frozen {
            let work = running.task.kill(signal, false)?;
            self.hire(work, None, Task::Kill(container.to_owned()));
        } else if let Some((_, init)) = &running.init {
            run::signal(init, signal)?;
        }
        Ok(Some(Told::Done))
    }

    /// The next talker hears it too.
    fn rest(&mut self, container: &str) -> Answer {
        let ended = self.ended.get_mut(container);
        let ended =
            ended.ok_or_else(|| Failure::new(Kind::NotRunning, format!("{container} has not run")))?;
        ended.was_asked = true;
        Ok(Some(Told::Done))
    }

    fn freeze(&mut self, asked: Asked, container: &str, is_on: bool) -> Answer {
        let running = self.running(container)?;
        let work = if is_on { running.task.pause()? } else { running.task.resume()? };
        // Said before it is so: who kills it looks here, and one who thaws too much harms nobody.
        running.is_frozen |= is_on;
        self.hire(work, Some(asked), Task::Freeze(container.to_owned(), is_on));
        Ok(None)
    }

    fn statistics(&mut self, container: &str) -> Answer {
        let watched = self.running(container)?.task.watched()?;
        let (figures, details) = (watched.statistics().map_err(engine::Error::from)?, watched.details());
        let details = details.map_err(engine::Error::from)?;
        Ok(Some(Told::Statistics(engine::metrics::northstar::statistics(&figures, &details))))
    }

    fn heed_job(&mut self, id: u64) {
        let Some(job) = self.jobs.get(&id) else { return };
        let outcome = match job.work.hear() {
            Ok(None) => return,
            Ok(Some(Said::Born(pid, process))) => {
                if let Task::Make(name) = &job.task
                    && let Some(container) = self.containers.get_mut(name)
                {
                    container.pid = pid;
                    container.init = Some((pid, process));
                }
                return;
            }
            Ok(Some(Said::Told(text))) => {
                if let Task::Watch(name) = &job.task {
                    let name = name.clone();
                    self.heed_watch(&name, &text);
                }
                return;
            }
            Ok(Some(Said::Done(warnings))) => Ok(warnings),
            // It executes what it is to become.
            Ok(Some(Said::Gone(_))) if matches!(job.task, Task::Accompany(_)) => Ok(Vec::new()),
            Ok(Some(Said::Failed(error) | Said::Gone(error))) | Err(error) => Err(error),
        };
        let Some(Job { asked, task, work }) = self.jobs.remove(&id) else { return };
        if let Task::Accompany(name) = &task {
            return self.accompanied(name, work, outcome.map(drop).map_err(Failure::from));
        }
        match (&task, &outcome) {
            // It may have more to do; its end is heard.
            (Task::Mount(container), Ok(_)) => self.hire(work, None, Task::Read(container.clone())),
            // Whoever is answered finds nothing of it any more.
            _ => drop(work),
        }
        self.settle(asked, task, outcome);
    }

    /// A worker has come to its end.
    fn settle(&mut self, asked: Option<Asked>, task: Task, outcome: Result<Vec<String>, engine::Error>) {
        if let Ok(warnings) = &outcome {
            for warning in warnings {
                log::say(warning);
            }
        }
        let outcome = outcome.map(drop).map_err(Failure::from);
        let done = |outcome: Result<(), Failure>| outcome.map_or_else(Told::Failed, |()| Told::Done);
        match task {
            Task::Mount(container) => {
                match &outcome {
                    Ok(()) => self.images.insert(container, Image::Mounted),
                    Err(_) => self.images.remove(&container),
                };
                self.answer(asked, &done(outcome));
            }
            // What was not read ahead is read when it is needed; and who accompanies is more than an outcome.
            Task::Read(_) | Task::Accompany(_) => {}
            Task::Umount(container) => {
                match &outcome {
                    Ok(()) => self.images.remove(&container),
                    Err(_) => self.images.insert(container, Image::Mounted),
                };
                self.answer(asked, &done(outcome));
            }
            Task::Install(install, repository) => {
                let told = outcome.and_then(|()| self.installed(*install, &repository));
                let told = told.unwrap_or_else(|failure| {
                    Told::Failed(failure.while_doing(&format!("install in {repository}")))
                });
                self.answer(asked, &told);
            }
            Task::Wipe(container) => {
                let outcome = outcome
                    .map_err(|failure| failure.while_doing(&format!("wipe what {container} has kept")));
                self.answer(asked, &done(outcome));
            }
            Task::Freeze(container, is_on) => {
                if let (Ok(running), true) = (self.running(&container), outcome.is_ok()) {
                    running.is_frozen = is_on;
                }
                self.answer(asked, &done(outcome));
            }
            Task::Kill(container) => {
                if let Err(failure) = outcome {
                    log::say(&format!("kill {container}: {failure}"));
                }
            }
            Task::Make(name) => self.made(&name, outcome),
            Task::Watch(name) => self.unwatched(&name, outcome),
            Task::Start(name) => self.started(&name, outcome),
            Task::Delete(name) => self.deleted(&name, outcome),
        }
    }

    /// Its program runs; or its first process is there and waits, for its memory is to be watched from the first page on.
    fn made(&mut self, name: &str, outcome: Result<(), Failure>) {
        if let Err(failure) = outcome {
            return self.give_up(name, failure);
        }
        let Some(container) = self.containers.get_mut(name) else { return };
        if !container.awaits_watch {
            let runs = self.commands.is_empty();
            return if runs { self.started(name, Ok(())) } else { self.launch(name) };
        }
        container.phase = Phase::Watching;
        let task = container.task.clone();
        match Work::run(&self.mask, &[], |bench| memory::watch(&task, bench)) {
            Ok(work) => {
                container.is_watched = true;
                self.hire(work, None, Task::Watch(name.to_owned()));
            }
            Err(error) => self.give_up(name, error.into()),
        }
    }

    /// Who watches a container's memory has something to tell: first, that it watches.
    fn heed_watch(&mut self, name: &str, text: &str) {
        let Some(container) = self.containers.get(name) else { return };
        if container.phase == Phase::Watching {
            if !text.is_empty() {
                log::say(&format!("{}: no pressure will be told: {text}", container.package));
            }
            return self.launch(name);
        }
        // Our own worker wrote it, next to the container's groups: not in the container.
        if let Ok(counts) = serde_json::from_str::<wire::Memory>(text) {
            let container = container.package.clone();
            if counts.pressure.is_none() {
                log::say(&format!("{container} is out of memory"));
            }
            self.tell(UNASKED, &Told::Memory { container, counts });
        }
    }

    fn unwatched(&mut self, name: &str, outcome: Result<(), Failure>) {
        let Some(container) = self.containers.get_mut(name) else { return };
        container.is_watched = false;
        if let Err(failure) = outcome {
            log::say(&format!("watch the memory of {}: {failure}", container.package));
        }
        match container.phase {
            Phase::Watching => self.launch(name),
            Phase::Ending => self.remove(name),
            _ => {}
        }
    }

    fn launch(&mut self, name: &str) {
        let Some(container) = self.containers.get_mut(name) else { return };
        if container.phase != Phase::Accompanying && !self.commands.is_empty() {
            return self.accompany(name);
        }
        container.phase = Phase::Starting;
        if self.ending.is_some() {
            return self.give_up(name, Failure::new(Kind::Busy, ABOUT_TO_END));
        }
        match container.task.start() {
            Ok(work) => self.hire(work, None, Task::Start(name.to_owned())),
            Err(error) => self.give_up(name, error.into()),
        }
    }

    fn started(&mut self, name: &str, outcome: Result<(), Failure>) {
        if let Err(failure) = outcome {
            return self.give_up(name, failure);
        }
        if self.ending.as_ref().is_some_and(Ending::is_tearing_down) {
            // Nobody would end it any more.
            return self.give_up(name, Failure::new(Kind::Busy, ABOUT_TO_END));
        }
        let Some(container) = self.containers.get_mut(name) else { return };
        container.phase = Phase::Running;
        container.since = Instant::now();
        // As long as it does not run, it is known how it has run before.
        self.ended.remove(&container.package);
        let (asked, pid) = (container.asked.take(), container.pid.unsigned_abs());
        log::say(&format!("started {}, process {pid}", container.package));
        let has_ended = container.status.is_some();
        self.answer(asked, &Told::Started { pid });
        if has_ended {
            self.end(name);
        }
    }

    /// It does not come to run.
    fn give_up(&mut self, name: &str, failure: Failure) {
        if let Some(container) = self.containers.get_mut(name) {
            container.failure = Some(Failure { kind: Kind::Start, ..failure });
            self.end(name);
        }
    }

    /// The program is no more: the rest of its container goes while its attendant does.
    fn heed_end(&mut self, name: &str) {
        let Some(container) = self.containers.get_mut(name) else { return };
        container.hear_end();
        if container.status.is_some() && container.phase == Phase::Running {
            self.end(name);
        }
    }

    fn heed_exit(&mut self, name: &str) {
        let Some(container) = self.containers.get_mut(name) else { return };
        let Some((_, process)) = container.init.take() else { return };
        let exit = process.reap().or_else(|failed| match process.exit() {
            // Somebody reaped it before we knew whose it was.
            Ok(Some(exit)) => Ok(exit),
            _ => Err(failed),
        });
        let unknown = |failed: Failed| {
            log::say(&format!("how {} ended is not known: {failed}", container.package));
            Status::Signal(SIGKILL)
        };
        let status = exit.map_or_else(unknown, Status::from);
        container.hear_end_of(status);
        if container.phase == Phase::Running {
            self.end(name);
        }
    }

    /// Its program is no more, or will never be.
    fn end(&mut self, name: &str) {
        let Some(container) = self.containers.get_mut(name) else { return };
        container.phase = Phase::Ending;
        if container.failure.is_some()
            && let Some((_, init)) = &container.init
            && let Err(failed) = run::signal(init, SIGKILL)
        {
            log::say(&format!("kill {}: {failed}", container.package));
        }
        // What its memory has come to is told before its end.
        if !container.is_watched {
            self.remove(name);
        }
    }

    fn remove(&mut self, name: &str) {
        let Some(container) = self.containers.get(name) else { return };
        let (task, bundle) = (container.task.clone(), container.bundle.clone());
        let work = Work::run(&self.mask, &[], |_| {
            let mut warnings = task.delete_now(None)?;
            warnings.extend(house::remove_bundle(&bundle).err().map(|failed| failed.to_string()));
            Ok(warnings)
        });
        match work {
            Ok(work) => self.hire(work, None, Task::Delete(name.to_owned())),
            Err(error) => self.deleted(name, Err(error.into())),
        }
    }

    /// Nothing is left of it; or what is left, the next start finds.
    fn deleted(&mut self, name: &str, outcome: Result<(), Failure>) {
        let Some(mut container) = self.containers.remove(name) else { return };
        if let Err(failure) = outcome {
            log::say(&format!("remove {}: {failure}", container.package));
        }
        if let Some((_, init)) = &container.init {
            // Deleted, it is dead; it is reaped with the strays.
            match init.exit().ok().flatten() {
                Some(exit) => container.hear_end_of(exit.into()),
                None => container.hear_end(),
            }
        }
        if let Some(output) = container.outputs.remove(debug::OUTPUT) {
            self.parting.push(debug::Parting::begin(std::mem::take(&mut container.companions), output));
        }
        std::mem::take(&mut container.outputs).into_values().for_each(output::Output::finish);
        let (package, asked) = (container.package.clone(), container.asked);
        let (failure, status, was_asked) = (container.failure.take(), container.status, container.was_asked);
        // The sockets go before anybody hears that it is gone.
        drop(container);
        if let Some(failure) = failure {
            log::say(&format!("start {package}: {failure}"));
            self.answer(asked, &Told::Failed(failure));
        } else {
            let status = status.unwrap_or(Status::Signal(SIGKILL));
            log::say(&format!("{package} has ended: {status}"));
            self.ended.insert(package.clone(), Ended { status, was_asked });
            self.tell(UNASKED, &Told::Exited { container: package, status });
        }
    }

    fn heed_output(&mut self, name: &str, stream: &'static str) {
        let Some(container) = self.containers.get_mut(name) else { return };
        let is_over = container.outputs.get_mut(stream).is_some_and(|output| !output.pass());
        if is_over {
            container.outputs.remove(stream);
        }
    }
}

fn is_within(manifest: &Manifest, versions: &str) -> bool {
    VersionReq::parse(versions).is_ok_and(|versions| manifest.version.satisfies(&versions))
}

/// The descriptor that a container gets as its console, where it has one: a connected stream socket.
fn check_console(manifest: &Manifest, console: Option<&OwnedFd>) -> Result<(), Failure> {
    let invalid = |text: &str| Err(Failure::new(Kind::Invalid, text));
    match (&manifest.console, console) {
        (None, None) => Ok(()),
        (None, Some(_)) => invalid("a socket came with the word, and the manifest has no console"),
        (Some(_), None) => invalid("the manifest has a console, and no socket came with the word"),
        (Some(_), Some(console)) => {
            use rustix::net::sockopt::{socket_domain, socket_type};
            let is_stream = socket_type(console) == Ok(rustix::net::SocketType::STREAM)
                && socket_domain(console) == Ok(rustix::net::AddressFamily::UNIX);
            if !is_stream {
                return invalid("what came with the word is no stream socket");
            }
            // As programs expect what they inherit: who wants it otherwise says so.
            Ok(rustix::io::ioctl_fionbio(console, false).called(|| "ioctl(FIONBIO)")?)
        }
    }
}

fn wiping(mask: &Mask, aside: Aside) -> Result<Work, Failure> {
    let mut aside = Some(aside);
    Ok(Work::run(mask, &[], |_| {
        let wiped = aside.take().map_or(Ok(()), Aside::remove);
        wiped.map(|()| Vec::new()).map_err(images::refused)
    })?)
}
