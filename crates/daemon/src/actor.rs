//! The actor: which container is in which state, and what is done about it.
//!
//! Touches: nothing. An event comes in with its time, actions go out.
//! Never:   asks a clock, waits, or believes that what it ordered is done before it was told so.
//! Begin with [`Actor::new`], then [`Actor::hear`] for each event, and once more when [`Actor::due`] has come.
//!
//! ```text
//!            mount            start             started
//! installed ──────▶ mounted ──────▶ starting ─────────▶ running ──▶ waiting to be started anew
//!           ◀──────         ◀───────────────────────────┘ exit ◀────┘
//!            umount
//! ```
//!
//! A request that takes the guard's help is answered when the guard has told how that ended; others are answered at once. So
//! nobody waits for what another has asked.

mod end;
mod images;
mod restart;
mod starts;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod whirl;
mod words;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use package::Manifest;
use serde_json::Value;
use wire::{
    Container, Data, Error, Inspected, Name, Notification, Outcome, Permissions, Process, Request, Response,
    Start, Status,
};

use self::end::Ending;
use self::restart::Row;
use crate::words::{Failure, Installed, Kind, Told, Word};

/// The state of all containers.
#[derive(Debug)]
pub struct Actor {
    packages: BTreeMap<Container, Package>,
    repositories: Vec<String>,
    /// What the guard was asked and has not answered, by its number.
    under_way: BTreeMap<u64, Doing>,
    last: u64,
    /// Requests about several containers.
    lists: BTreeMap<u64, List>,
    /// Who is to be started by itself, and waits for his turn.
    queue: VecDeque<Container>,
    ending: Option<Ending>,
    actions: Vec<Action>,
}

/// What there is when an actor begins.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The repositories' names.
    pub repositories: Vec<String>,
    /// All packages.
    pub packages: Vec<Installed>,
    /// Repositories whose packages are mounted as the daemon starts.
    pub mounted: BTreeSet<String>,
    /// Whether the daemon starts, and this is no talker in another's place: then nothing is mounted or started by itself.
    pub is_first: bool,
}

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// Somebody asks.
    Call {
        /// What the answer goes by.
        call: u64,
        /// What.
        request: Request,
    },
    /// The guard answers, or tells.
    Told {
        /// The number of the word.
        number: u64,
        /// What.
        told: Told,
    },
    /// Time has passed.
    Due,
}

/// What the actor wants to be done, in this order.
#[derive(Debug, PartialEq)]
pub enum Action {
    /// Ask the guard.
    Say {
        /// What the answer bears.
        number: u64,
        /// What for.
        word: Word,
    },
    /// Ask the guard to install what comes with a call.
    Install {
        /// What the answer bears.
        number: u64,
        /// Whose package.
        call: u64,
        /// Where to.
        repository: String,
        /// Bytes.
        size: u64,
    },
    /// Answer somebody.
    Answer {
        /// Whom.
        call: u64,
        /// What.
        response: Response,
    },
    /// Tell everybody who wants to hear.
    Notify(Notification),
    /// Write it down.
    Log(Level, String),
    /// All is over. An error is what the daemon ends for.
    Over(Result<(), String>),
}

/// How much a line of the log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// It happened.
    Info,
    /// Somebody should look at it.
    Warning,
}

#[derive(Debug)]
struct Package {
    manifest: Manifest,
    /// The same for clients.
    json: Value,
    repository: String,
    image: Image,
    life: Life,
    row: Row,
}

#[derive(Debug)]
enum Image {
    Away,
    /// Being mounted, for these.
    Coming(Vec<Waiter>),
    There,
    /// Being unmounted, for this one.
    Going(Waiter),
    /// The package is being uninstalled.
    Leaving,
}

/// Who wants to hear how an image was mounted, or unmounted.
#[derive(Clone, Debug)]
enum Waiter {
    /// A container that is to start.
    Start(Container),
    /// A request, and the place in its list.
    Call(u64, usize),
    /// Who uninstalls it, and whether data is wiped.
    Uninstall(u64, bool),
    /// Nobody in particular.
    Nobody,
}

#[derive(Debug)]
enum Life {
    Down,
    /// Down, and started anew at this time.
    Waiting(Duration),
    Starting(Box<Starting>),
    Running(Running),
}

#[derive(Debug)]
struct Starting {
    by: By,
    start: Start,
    resources: BTreeMap<String, Container>,
    /// Images that are not there yet.
    needs: BTreeSet<Container>,
    /// The first thing that went wrong.
    failed: Option<Error>,
}

/// Why a container is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// Somebody asked.
    Call(u64),
    /// The manifest says so.
    Itself,
    /// It had ended.
    Restart,
}

#[derive(Debug)]
struct Running {
    pid: u32,
    since: Duration,
    resources: BTreeSet<Container>,
    /// Somebody has asked it to end.
    was_asked: bool,
    /// It is killed at this time.
    killed_at: Option<Duration>,
}

/// What the guard does for us.
#[derive(Debug)]
enum Doing {
    Mount(Container),
    Umount(Container),
    Start(Container),
    /// A signal, and who is answered.
    Signal(Container, Option<u64>),
    Statistics(Container, u64),
    Install(u64, String),
    Uninstall(Container, u64),
}

/// A request about several containers: an outcome for each, in the order in which they were named.
#[derive(Debug)]
struct List {
    response: fn(Vec<Outcome>) -> Response,
    outcomes: Vec<Option<Outcome>>,
}

impl Actor {
    /// An actor with what was found. `now` is on a clock that never goes back, here as later.
    pub fn new(now: Duration, found: Found) -> Self {
        let mut actor = Self {
            packages: BTreeMap::new(),
            repositories: found.repositories,
            under_way: BTreeMap::new(),
            last: 0,
            lists: BTreeMap::new(),
            queue: VecDeque::new(),
            ending: None,
            actions: Vec::new(),
        };
        let mut ended = Vec::new();
        for installed in found.packages {
            let told = installed.ended;
            match actor.add(now, installed) {
                Ok(container) => ended.extend(told.map(|told| (container, told))),
                Err(why) => actor.log(Level::Warning, why),
            }
        }
        if found.is_first {
            actor.mount_at_start(&found.mounted);
            actor.queue_autostarts();
        }
        for (container, ended) in ended {
            actor.take_up(now, &container, ended);
        }
        actor
    }

    /// What is to be done before the first event.
    pub fn begin(&mut self, now: Duration) -> Vec<Action> {
        self.take_turns(now);
        self.log(Level::Info, format!("up and running, with {} packages", self.packages.len()));
        std::mem::take(&mut self.actions)
    }

    /// What is to be done about an event.
    pub fn hear(&mut self, now: Duration, event: Event) -> Vec<Action> {
        match event {
            Event::Call { call, request } => self.call(now, call, request),
            Event::Told { number, told } => self.told(now, number, told),
            Event::Due => {}
        }
        self.restart_who_waited(now);
        self.take_turns(now);
        self.kill_who_lingers(now);
        self.end_if_over(now);
        std::mem::take(&mut self.actions)
    }

    /// What a container may ask of us by a line of its own; none if it gets none.
    pub fn console_of(&self, container: &str) -> Option<Permissions> {
        let package = self.packages.get(&named(container).ok()?)?;
        let words = package.manifest.console.clone()?;
        serde_json::from_value(Value::from(words)).ok()
    }

    /// When there is something to do even if nothing happens.
    pub fn due(&self) -> Option<Duration> {
        let times = self.packages.values().filter_map(|package| match &package.life {
            Life::Waiting(at) => Some(*at),
            Life::Running(running) => running.killed_at,
            _ => None,
        });
        times.chain(self.ending.as_ref().and_then(Ending::due)).min()
    }

    fn call(&mut self, now: Duration, call: u64, request: Request) {
        match request {
            Request::List => {
                let all = self.packages.keys().cloned().collect();
                self.answer(call, Response::List(all));
            }
            Request::Repositories => self.answer(call, Response::Repositories(self.repositories.clone())),
            Request::Inspect { container } => self.inspect(call, container),
            Request::Kill { container, signal } => {
                if let Err(error) = self.kill(now, call, &container, signal) {
                    self.answer(call, Response::Kill((container, Err(error)).into()));
                }
            }
            Request::Start(start) => {
                let container = start.container.clone();
                if let Err(error) = self.begin_start(start, By::Call(call)) {
                    self.answer(call, Response::Start((container, Err(error)).into()));
                }
            }
            Request::Mount { containers } => self.mount_all(call, &containers),
            Request::Umount { containers } => self.umount_all(call, &containers),
            Request::Install { repository, size } => self.install(call, repository, size),
            Request::Uninstall { container, wipe } => self.uninstall(call, container, wipe),
            Request::Shutdown => {
                self.answer(call, Response::Shutdown);
                self.end(now, Ok(()));
            }
            // The console knows who asks, and answers these itself.
            request @ (Request::Ident | Request::TokenCreate { .. } | Request::TokenVerify { .. }) => {
                self.answer(call, Response::PermissionDenied(request));
            }
        }
    }

    fn told(&mut self, now: Duration, number: u64, told: Told) {
        match told {
            Told::Exited { container, status } => self.exited(now, &container, status.into()),
            Told::Memory { container, counts } => self.pressed(&container, counts),
            Told::Shutdown => self.end(now, Ok(())),
            told => match self.under_way.remove(&number) {
                Some(doing) => self.done(now, doing, told),
                None => self.log(Level::Warning, format!("the guard answers what nobody asked: {number}")),
            },
        }
    }

    fn done(&mut self, now: Duration, doing: Doing, told: Told) {
        let outcome = match told {
            Told::Failed(failure) => Err(failure),
            told => Ok(told),
        };
        match doing {
            Doing::Mount(container) => self.mounted(now, &container, &outcome.map(drop)),
            Doing::Umount(container) => self.umounted(&container, outcome.map(drop)),
            Doing::Start(container) => self.started(now, &container, outcome),
            Doing::Signal(container, call) => self.signalled(container, call, outcome.map(drop)),
            Doing::Statistics(container, call) => self.inspected(now, container, call, outcome.ok()),
            Doing::Install(call, repository) => self.installed(now, call, repository, outcome),
            Doing::Uninstall(container, call) => self.uninstalled(container, call, outcome.map(drop)),
        }
    }

    fn add(&mut self, now: Duration, installed: Installed) -> Result<Container, String> {
        let told = |error: package::Error| error.to_string();
        let text = installed.manifest.as_bytes();
        let manifest = Manifest::read("manifest.yaml", text).map_err(told)?;
        let json = Manifest::json(text).map_err(told)?;
        let container = named(&installed.container)?;
        if let Some(other) = self.packages.get(&container) {
            let (kept, left) = (&other.repository, &installed.repository);
            return Err(format!("{container} is in the repositories {kept} and {left}: the first counts"));
        }
        let life = match installed.process {
            None => Life::Down,
            Some(process) => Life::Running(Running {
                pid: process.pid,
                since: now.saturating_sub(Duration::from_nanos(process.uptime)),
                resources: process.resources.values().map(|name| named(name)).collect::<Result<_, _>>()?,
                was_asked: false,
                killed_at: None,
            }),
        };
        let image = if installed.is_mounted { Image::There } else { Image::Away };
        let repository = installed.repository;
        let package = Package { manifest, json, repository, image, life, row: Row::default() };
        self.packages.insert(container.clone(), package);
        Ok(container)
    }

    fn install(&mut self, call: u64, repository: String, size: u64) {
        let known = self.repositories.contains(&repository);
        match self.is_serving() {
            Ok(()) if known => {
                let number = self.number(Doing::Install(call, repository.clone()));
                self.actions.push(Action::Install { number, call, repository, size });
            }
            Ok(()) => {
                self.answer(call, Response::Install(Err(Error::InvalidRepository { repository }).into()));
            }
            Err(error) => self.answer(call, Response::Install(Err(error).into())),
        }
    }

    fn installed(&mut self, now: Duration, call: u64, repository: String, outcome: Result<Told, Failure>) {
        let outcome = match outcome {
            Ok(Told::Installed(installed)) => self.add(now, installed).map_err(Error::unexpected),
            Ok(_) => Err(Error::unexpected("the guard told no package")),
            Err(failure) => Err(words::not_installed(repository, failure)),
        };
        if let Ok(container) = &outcome {
            self.notify(Notification::Install(container.clone()));
        }
        self.answer(call, Response::Install(outcome.into()));
    }

    fn inspect(&mut self, call: u64, container: Container) {
        let life = self.packages.get(&container).map(|package| &package.life);
        if let Some(Life::Running(_)) = life {
            let word = Word::Statistics { container: container.to_string() };
            return self.say(word, Doing::Statistics(container, call));
        }
        self.inspected(Duration::ZERO, container, call, None);
    }

    /// A container may have ended, or gone, while the guard counted what it uses.
    fn inspected(&mut self, now: Duration, container: Container, call: u64, told: Option<Told>) {
        let statistics = match told {
            Some(Told::Statistics(statistics)) => statistics,
            _ => Value::Object(serde_json::Map::new()),
        };
        let inspected = match self.packages.get(&container) {
            None => Inspected::Error {
                error: Error::InvalidContainer { container: container.clone() },
                container,
            },
            Some(package) => {
                let process = match &package.life {
                    Life::Running(running) => Some(Process {
                        pid: running.pid,
                        uptime: u64::try_from(now.saturating_sub(running.since).as_nanos())
                            .unwrap_or(u64::MAX),
                        statistics,
                    }),
                    _ => None,
                };
                let data = Data {
                    manifest: package.json.clone(),
                    repository: package.repository.clone(),
                    mounted: matches!(package.image, Image::There | Image::Going(_)),
                    process,
                };
                Inspected::Ok { container, data: Box::new(data) }
            }
        };
        self.answer(call, Response::Inspect(inspected));
    }

    fn kill(&mut self, now: Duration, call: u64, container: &Container, signal: i32) -> Result<(), Error> {
        let package = self.packages.get_mut(container);
        let package = package.ok_or_else(|| Error::InvalidContainer { container: container.clone() })?;
        if !(1..=31).contains(&signal) {
            return Err(Error::unexpected(format!("signal {signal}: there are those from 1 to 31")));
        }
        let stop = &package.manifest.upkeep.stop;
        let asks = stop.is_asked_by(signal);
        match &mut package.life {
            Life::Running(running) => {
                running.was_asked |= asks;
                if let Some(timeout) = stop.timeout.filter(|_| signal == stop.signal) {
                    running.killed_at.get_or_insert(now + timeout);
                }
            }
            // It is down, and who stops it means that it is to stay so: whoever comes after us hears it of the guard.
            life @ Life::Waiting(_) if asks => {
                *life = Life::Down;
                let word = Word::Rest { container: container.to_string() };
                self.say(word, Doing::Signal(container.clone(), Some(call)));
                return Ok(());
            }
            _ => return Err(Error::StopContainerNotStarted { container: container.clone() }),
        }
        self.signal(container, signal, Some(call));
        Ok(())
    }

    fn signal(&mut self, container: &Container, signal: i32, call: Option<u64>) {
        let word = Word::Signal { container: container.to_string(), signal };
        self.say(word, Doing::Signal(container.clone(), call));
    }

    fn signalled(&mut self, container: Container, call: Option<u64>, outcome: Result<(), Failure>) {
        match (call, outcome) {
            (Some(call), outcome) => {
                let outcome = outcome.map_err(|failure| words::not_signalled(&container, failure));
                self.answer(call, Response::Kill((container, outcome).into()));
            }
            // It has ended by itself, and we shall hear of it.
            (None, Ok(()) | Err(Failure { kind: Kind::NotRunning, .. })) => {}
            (None, Err(failure)) => self.log(Level::Warning, format!("stop {container}: {failure}")),
        }
    }

    fn pressed(&mut self, container: &str, memory: wire::Memory) {
        if let Ok(container) = named(container) {
            let notification = Notification::CGroup(container, wire::Pressed::Memory(memory));
            self.log(Level::Warning, notification.to_string());
            self.notify(notification);
        }
    }

    /// Who of those that run, or are about to, uses this one's image.
    fn user_of(&self, container: &Container) -> Option<Container> {
        let uses = |user: &Container, package: &Package| match &package.life {
            Life::Starting(starting) => {
                user == container || starting.resources.values().any(|used| used == container)
            }
            Life::Running(running) => user == container || running.resources.contains(container),
            Life::Down | Life::Waiting(_) => false,
        };
        let mut all = self.packages.iter().filter(|(user, package)| uses(user, package));
        all.next().map(|(user, _)| user.clone())
    }

    fn say(&mut self, word: Word, doing: Doing) {
        let number = self.number(doing);
        self.actions.push(Action::Say { number, word });
    }

    /// A number that no word has had; 0 is what nobody asked for.
    fn number(&mut self, doing: Doing) -> u64 {
        self.last += 1;
        self.under_way.insert(self.last, doing);
        self.last
    }

    fn answer(&mut self, call: u64, response: Response) {
        self.actions.push(Action::Answer { call, response });
    }

    fn notify(&mut self, notification: Notification) {
        self.actions.push(Action::Notify(notification));
    }

    fn log(&mut self, level: Level, line: impl Into<String>) {
        self.actions.push(Action::Log(level, line.into()));
    }
}

fn named(container: &str) -> Result<Container, String> {
    container.parse().map_err(|error: wire::Unnamed| error.to_string())
}
