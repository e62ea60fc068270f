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
mod life;
mod memory;
mod output;
mod run;
mod shutdown;
mod sockets;
mod stock;
mod talker;

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Instant;

use engine::{Word as Said, Work};
use package::PublicKey;
use package::repository::{Install, Repository, Rules, Scan};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, openat};
use sys::{Called as _, Errno, Failed, Mask, SIGCHLD, SIGHUP, SIGINT, SIGTERM, SignalFd, block_signals};

use self::house::House;
use self::run::Container;
use self::shutdown::Ending;
use self::talker::Talker;
use crate::config::{self, Config, RepositoryKind};
use crate::log;
use crate::words::{Ended, Failure, Heard, Numbered, Told, Word};

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

/// So many words of the talker's are heard before others have their turn.
const MOST_WORDS: usize = 64;

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
        let held = self.containers.values().filter_map(|one| one.held_until).min();
        let deadline = [self.talker.due(), self.ending.as_ref().map(Ending::deadline), parting, held];
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
        self.let_run();
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

    fn hire(&mut self, work: Work, asked: Option<Asked>, task: Task) {
        self.next_job += 1;
        self.jobs.insert(self.next_job, Job { work, asked, task });
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
}
