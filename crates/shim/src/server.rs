//! The server: one process of one thread, which takes calls, hears of exits, and waits.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener as StdListener;
use std::rc::Rc;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, flock, openat, unlinkat};
use rustix::process::{getpid, set_child_subreaper};
use rustix::stdio::dup2_stdin;
use sys::{Called, Errno, Failed, Pidfd, SIGCHLD, SIGINT, SIGTERM, SIGUSR1, SignalFd};
use tokio::net::UnixListener;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::timeout;

use crate::Surroundings;
use crate::arguments::Arguments;
use crate::events::Events;
use crate::log::Log;
use crate::pending::Pending;
use crate::ready::{lost, to_read};
use crate::task::Service;
use crate::wire;

/// How long what was begun, and events that are left, may take when we go.
const LAST_WORDS: Duration = Duration::from_secs(5);

pub(crate) fn serve(arguments: &Arguments, surroundings: &Surroundings) -> Result<(), String> {
    let told = |failed: Failed| format!("serve: {failed}");
    // What runs in a container finds no file of ours that it could write: `start` has seen to that, others had not.
    sys::seal().map_err(told)?;
    if arguments.socket.is_empty() {
        return Err("serve: -socket: there is no socket: containerd calls `start` first".to_owned());
    }
    let listener = listener().map_err(told)?;
    let mask = sys::block_signals().map_err(told)?;
    set_child_subreaper(Some(getpid())).called(|| "prctl(PR_SET_CHILD_SUBREAPER)").map_err(told)?;
    let log = Rc::new(Log::open(arguments.debug));
    let events = arguments.events.clone();
    let events = Some(events).filter(|events| !events.is_empty()).or_else(|| surroundings.events.clone());
    let events = Rc::new(Events::new(events, arguments.namespace.clone(), Rc::clone(&log)));
    let service = Service::new(arguments.namespace.clone(), mask, surroundings.bus.clone(), events, log);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    let runtime = runtime.map_err(|why| format!("serve: {why}"))?;
    LocalSet::new().block_on(&runtime, attend(service, listener, &arguments.socket))
}

/// The listener, which `start` has left at standard input.
fn listener() -> Result<OwnedFd, Failed> {
    let listener =
        rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).called(|| "fcntl(F_DUPFD_CLOEXEC)")?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let null = openat(CWD, "/dev/null", flags, Mode::empty()).called(|| "open(\"/dev/null\")")?;
    dup2_stdin(&null).called(|| "dup2(0)")?;
    Ok(listener)
}

async fn attend(service: Rc<Service>, listener: OwnedFd, socket: &str) -> Result<(), String> {
    let listener = StdListener::from(listener);
    let listener = listener.set_nonblocking(true).and_then(|()| UnixListener::from_std(listener));
    let listener = listener.map_err(|why| format!("serve: listen: {why}"))?;
    let events = Rc::clone(&service.events);
    let telling = spawn_local(async move { events.tell().await });
    let hearing = spawn_local(hear(Rc::clone(&service)));
    let owed = Rc::new(Pending::default());
    let log = Rc::clone(&service.log);
    let calls = spawn_local(wire::listen(listener, Rc::clone(&service), Rc::clone(&owed), log));
    service.log.debug(|| format!("serving at {socket}"));
    service.stop.notified().await;
    // Nobody calls any more, and whoever comes to start one of this group finds no socket.
    let taken_away = take_away(socket);
    calls.abort();
    let last_words = async {
        owed.over().await;
        service.events.flushed().await;
    };
    if timeout(LAST_WORDS, last_words).await.is_err() {
        service.log.error("calls are left that were not answered, or events that containerd has not taken");
    }
    telling.abort();
    hearing.abort();
    taken_away.map_err(|failed| format!("serve: {failed}"))
}

/// Under the lock by which servers are started.
fn take_away(socket: &str) -> Result<(), Failed> {
    let directory = socket.rsplit_once('/').map_or(".", |(directory, _)| directory);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let lock = openat(CWD, directory, flags, Mode::empty()).called(|| format!("open({directory:?})"))?;
    flock(&lock, FlockOperation::LockExclusive).called(|| format!("flock({directory:?})"))?;
    match unlinkat(CWD, socket, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(Failed::call(format!("unlink({socket:?})"), errno)),
    }
}

/// Hears signals, for ever.
async fn hear(service: Rc<Service>) {
    if let Err(failed) = hear_until_failure(&service).await {
        service.log.error(&format!("hear signals: {failed}"));
        service.end();
    }
}

async fn hear_until_failure(service: &Service) -> Result<(), Failed> {
    let signals = SignalFd::open()?;
    rustix::io::ioctl_fionbio(&signals, true).called(|| "ioctl(FIONBIO)")?;
    let ready = to_read(signals.as_fd())?;
    loop {
        let mut readable = ready.readable().await.map_err(|why| lost(&why))?;
        match signals.next_signal() {
            Ok(SIGCHLD) => service.children.reap_strangers(&service.log),
            Ok(SIGTERM | SIGINT) => service.end(),
            Ok(SIGUSR1) => service.tell_state(),
            // SIGPIPE and all others say nothing to us.
            Ok(_) => {}
            Err(failed) if failed.errno() == Some(Errno::AGAIN) => readable.clear_ready(),
            Err(failed) => return Err(failed),
        }
    }
}

/// Our children: those whose exit somebody of us waits for, and strangers, whose parents have gone.
#[derive(Debug, Default)]
pub(crate) struct Children {
    /// Numbers of those that were told to us and not reaped: each is its own as long as it stands here.
    known: RefCell<BTreeSet<i32>>,
    /// Workers under way that may still tell of one.
    expecting: Cell<usize>,
}

impl Children {
    /// A worker begins that will bear somebody. It has, or will not, when the value is dropped.
    pub(crate) fn expect<'a>(&'a self, log: &'a Log) -> Expected<'a> {
        self.expecting.set(self.expecting.get() + 1);
        Expected { children: self, log }
    }

    pub(crate) fn add(&self, pid: i32) {
        self.known.borrow_mut().insert(pid);
    }

    /// It was reaped.
    pub(crate) fn remove(&self, pid: i32, log: &Log) {
        self.known.borrow_mut().remove(&pid);
        self.reap_strangers(log);
    }

    /// Reaps whoever nobody waits for. The kernel shows one at a time, and no other before that one is gone: where it is one
    /// that somebody waits for, or may be about to be told of, this goes on when that has happened. The dead do no harm
    /// meanwhile, and are few: those of a container with pids of its own are reaped by its first process.
    pub(crate) fn reap_strangers(&self, log: &Log) {
        loop {
            match sys::exited_child() {
                Ok(Some(pid)) if self.known.borrow().contains(&pid) || self.expecting.get() > 0 => return,
                Ok(Some(pid)) => {
                    if let Err(failed) = Pidfd::open(pid).and_then(|stranger| stranger.reap()) {
                        return log.error(&format!("reap {pid}: {failed}"));
                    }
                }
                Ok(None) => return,
                Err(failed) => return log.error(&failed.to_string()),
            }
        }
    }
}

/// A birth that is expected.
#[derive(Debug)]
pub(crate) struct Expected<'a> {
    children: &'a Children,
    log: &'a Log,
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        self.children.expecting.set(self.children.expecting.get().saturating_sub(1));
        self.children.reap_strangers(self.log);
    }
}
