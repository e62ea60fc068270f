//! The talker: the half that talks to the world, and decides. It joins the console, the [actor](crate::actor) and the line
//! to the guard.
//!
//! Touches: the line, the listeners and the log that it is given; pipes and socket pairs of its own making.
//! Never:   opens a file, starts a process, or waits for one peer while another has something to say.
//! Begin with [`talk`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::time::{ClockId, clock_gettime};
use sys::{Called as _, Doing as _, Failed};
use tokio::io::AsyncWriteExt as _;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe::Sender;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::sleep;
use wire::{Container, Key, Response};

use crate::actor::{Action, Actor, Event, Found, Level};
use crate::console::{self, Body, Buffer, Call, Console, Listener, Log, Options, Rules};
use crate::race::{First, first};
use crate::words::{Heard, LARGEST_TOLD, Line, Told, UNASKED, Word};

/// What a talker begins with.
pub struct Beginning {
    /// Its end of the line to the guard.
    pub line: OwnedFd,
    /// Sockets that clients connect to, and what they may do who come by them.
    pub listeners: Vec<(OwnedFd, Rules)>,
    /// The limits of containers' consoles.
    pub options: Options,
    /// How many clients may be there at once, by each listener.
    pub clients: usize,
    /// How much may wait.
    pub buffer: Buffer,
    /// Repositories whose packages are mounted as the daemon starts.
    pub mounted: BTreeSet<String>,
    /// Whether the daemon starts, and this is no talker in another's place.
    pub is_first: bool,
    /// Where lines for the log go.
    pub log: Log,
}

/// Talks until all is over, or the guard is gone.
pub fn talk(beginning: Beginning) -> Result<(), Failed> {
    // A pipe whose reader has gone is an error of the write, and no end of ours.
    sys::block_signals()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    let runtime = runtime.map_err(|why| Failed::refused(format!("begin to talk: {why}")))?;
    LocalSet::new().block_on(&runtime, attend(beginning))
}

async fn attend(beginning: Beginning) -> Result<(), Failed> {
    let mut guard = Guard::new(beginning.line)?;
    let (mut found, unasked) = survey(&mut guard).await.doing(|| "survey")?;
    (found.mounted, found.is_first) = (beginning.mounted, beginning.is_first);
    let mut key = [0; 32];
    let filled =
        rustix::rand::getrandom(&mut key, rustix::rand::GetRandomFlags::empty()).called(|| "getrandom()")?;
    if filled < key.len() {
        return Err(Failed::refused("getrandom(): too few bytes"));
    }
    let (console, calls) = Console::new(Key::new(key), beginning.buffer, beginning.log.clone());
    let mut talk = Talk {
        actor: Actor::new(now(), found),
        guard,
        console,
        asked: BTreeMap::new(),
        last: 0,
        lines: BTreeMap::new(),
        starting: BTreeMap::new(),
        options: beginning.options,
        log: beginning.log,
        over: None,
    };
    for (socket, rules) in beginning.listeners {
        let listener = Listener::new(socket).map_err(|why| Failed::refused(format!("listen: {why}")))?;
        talk.console.listen(listener, rules, beginning.clients);
    }
    let actions = talk.actor.begin(now());
    talk.act(actions)?;
    for told in unasked {
        talk.hear(Event::Told { number: UNASKED, told })?;
    }
    talk.serve(calls).await
}

/// Everything that there is, and what happened while that was told.
async fn survey(guard: &mut Guard) -> Result<(Found, Vec<Told>), Failed> {
    // The actor counts from 1 on, and begins when this is answered.
    guard.say(SURVEY, &Word::Survey, Vec::new())?;
    let (mut found, mut unasked) = (Found::default(), Vec::new());
    loop {
        let Some((number, told)) = guard.next().await? else {
            return Err(Failed::refused("the guard is gone"));
        };
        match told {
            Told::Package(package) => found.packages.push(package),
            Told::Surveyed { repositories } => {
                found.repositories = repositories;
                return Ok((found, unasked));
            }
            Told::Failed(failure) if number == SURVEY => return Err(Failed::refused(failure.text)),
            told => unasked.push(told),
        }
    }
}

const SURVEY: u64 = 1;

/// The state of the talker.
struct Talk {
    actor: Actor,
    guard: Guard,
    console: Console,
    /// Who waits for an answer, by the number of his call.
    asked: BTreeMap<u64, Asked>,
    last: u64,
    /// Lines of containers that run.
    lines: BTreeMap<String, console::Line>,
    /// Whose start is under way, by the number of the word: with it, or without, the line goes.
    starting: BTreeMap<u64, String>,
    options: Options,
    log: Log,
    /// All is over, and for what.
    over: Option<Result<(), String>>,
}

/// Who waits for an answer.
struct Asked {
    answer: oneshot::Sender<Response>,
    /// A package that he brings.
    body: Option<Body>,
}

impl Talk {
    async fn serve(mut self, mut calls: mpsc::Receiver<Call>) -> Result<(), Failed> {
        while self.over.is_none() {
            let due = self.actor.due();
            let time = async {
                match due {
                    Some(due) => sleep(due.saturating_sub(now())).await,
                    None => std::future::pending().await,
                }
            };
            let came = {
                let said = async { first(pin!(self.guard.next()), pin!(calls.recv())).await };
                first(pin!(said), pin!(time)).await
            };
            match came {
                First::This(First::This(heard)) => match heard? {
                    Some((number, told)) => self.told(number, told)?,
                    None => return Err(Failed::refused("the guard is gone")),
                },
                First::This(First::That(Some(call))) => self.called(call)?,
                First::This(First::That(None)) => return Err(Failed::refused("the console is gone")),
                First::That(()) => self.hear(Event::Due)?,
            }
        }
        self.leave().await
    }

    fn called(&mut self, call: Call) -> Result<(), Failed> {
        self.last += 1;
        self.asked.insert(self.last, Asked { answer: call.answer, body: call.body });
        self.hear(Event::Call { call: self.last, request: call.request })
    }

    fn told(&mut self, number: u64, told: Told) -> Result<(), Failed> {
        // A line ends with its container, whoever else may hold the other end.
        match &told {
            Told::Exited { container, .. } => drop(self.lines.remove(container)),
            Told::Started { .. } => drop(self.starting.remove(&number)),
            Told::Failed(_) => {
                if let Some(container) = self.starting.remove(&number) {
                    self.lines.remove(&container);
                }
            }
            _ => {}
        }
        self.hear(Event::Told { number, told })
    }

    fn hear(&mut self, event: Event) -> Result<(), Failed> {
        let actions = self.actor.hear(now(), event);
        self.act(actions)
    }

    fn act(&mut self, actions: Vec<Action>) -> Result<(), Failed> {
        for action in actions {
            match action {
                Action::Say { number, word } => self.say(number, &word)?,
                Action::Install { number, call, repository, size } => {
                    self.install(number, call, &Word::Install { repository, size })?;
                }
                Action::Answer { call, response } => {
                    if let Some(asked) = self.asked.remove(&call) {
                        // Who has gone meanwhile does not want it any more.
                        drop(asked.answer.send(response));
                    }
                }
                Action::Notify(notification) => self.console.notify(notification),
                Action::Log(Level::Info, line) => (self.log)(&line),
                Action::Log(Level::Warning, line) => (self.log)(&format_args!("warning: {line}")),
                Action::Over(outcome) => self.over = Some(outcome),
            }
        }
        Ok(())
    }

    fn say(&mut self, number: u64, word: &Word) -> Result<(), Failed> {
        let mut with = Vec::new();
        if let Word::Start(start) = word {
            with.extend(self.open_line(number, &start.container)?);
        }
        self.guard.say(number, word, with)
    }

    /// A line for a container that is to have one: its end.
    fn open_line(&mut self, number: u64, container: &str) -> Result<Option<OwnedFd>, Failed> {
        let (Some(permissions), Ok(name)) =
            (self.actor.console_of(container), container.parse::<Container>())
        else {
            return Ok(None);
        };
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .called(|| "socketpair(AF_UNIX)")?;
        let line = self.console.attach(ours, name, Rules { permissions, options: self.options });
        let line = line.map_err(|why| Failed::refused(format!("attend to {container}: {why}")))?;
        self.lines.insert(container.to_owned(), line);
        self.starting.insert(number, container.to_owned());
        Ok(Some(theirs))
    }

    fn install(&mut self, number: u64, call: u64, word: &Word) -> Result<(), Failed> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).called(|| "pipe2(O_CLOEXEC)")?;
        if let Some(body) = self.asked.get_mut(&call).and_then(|asked| asked.body.take()) {
            let sender = Sender::from_owned_fd(writer);
            let sender = sender.map_err(|why| Failed::refused(format!("install: {why}")))?;
            spawn_local(bring(body, sender));
        }
        self.guard.say(number, word, vec![reader])
    }

    /// Lets everybody hear the last words, and tells the guard.
    async fn leave(mut self) -> Result<(), Failed> {
        self.console.close().await;
        let failure = self.over.take().and_then(Result::err);
        self.guard.say(UNASKED, &Word::Leave { failure }, Vec::new())?;
        while self.guard.next().await?.is_some() {}
        Ok(())
    }
}

/// Hands a package over to the guard. Who has heard enough of it closes his end: what is left is then let go of, and the
/// console reads it to its end.
async fn bring(mut body: Body, mut sender: Sender) {
    while let Ok(Some(piece)) = body.next().await {
        if sender.write_all(&piece).await.is_err() {
            return;
        }
    }
}

/// The guard, over the line.
struct Guard(AsyncFd<Line>);

impl Guard {
    // The library's form that is not deprecated is unsafe, since a number of no descriptor could be registered. Here it is
    // the number of one that is owned, by its type.
    #[allow(deprecated, reason = "the type says that it is a descriptor")]
    fn new(line: OwnedFd) -> Result<Self, Failed> {
        let line = AsyncFd::new(Line::of(line, LARGEST_TOLD)?);
        line.map(Self).map_err(|why| lost(&why))
    }

    fn say(&mut self, number: u64, word: &Word, with: Vec<OwnedFd>) -> Result<(), Failed> {
        self.0.get_mut().say(number, word, with)
    }

    /// What it says next; none once it is gone. Nothing is lost if this is given up.
    async fn next(&mut self) -> Result<Option<(u64, Told)>, Failed> {
        loop {
            let line = self.0.get_mut();
            line.flush()?;
            match line.hear()? {
                Heard::Word(told, _) => return Ok(Some((told.number, told.what))),
                Heard::End => return Ok(None),
                Heard::Nothing => {}
            }
            self.ready().await?;
        }
    }

    /// Waits until there is something to hear, or room for what waits to be said.
    async fn ready(&mut self) -> Result<(), Failed> {
        let is_full = self.0.get_ref().is_full();
        let line = &self.0;
        let room = async {
            if is_full {
                line.writable().await.map(|mut room| room.clear_ready())
            } else {
                std::future::pending().await
            }
        };
        let heard = async { line.readable().await.map(|mut heard| heard.clear_ready()) };
        match first(pin!(heard), pin!(room)).await {
            First::This(ready) | First::That(ready) => ready.map_err(|why| lost(&why)),
        }
    }
}

fn lost(why: &io::Error) -> Failed {
    Failed::refused(format!("wait for the guard: {why}"))
}

/// The time since the machine was started, asleep or not.
fn now() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::try_from(now).unwrap_or_default()
}

impl fmt::Debug for Beginning {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Beginning").field("is_first", &self.is_first).finish_non_exhaustive()
    }
}
