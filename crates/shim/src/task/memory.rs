//! A lack of memory, heard of from before the program runs until after its end.

use std::os::fd::AsFd;
use std::rc::Rc;

use engine::{Event, Events, Watched};
use rustix::event::epoll;
use sys::{Called, Failed};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_local};

use crate::log::Log;
use crate::ready::to_read;
use crate::wire::first;

/// A watch under way.
#[derive(Debug)]
pub(super) struct Watching {
    stop: Rc<Notify>,
    task: JoinHandle<()>,
}

impl Watching {
    /// Begins; `tell` is called for each time that the kernel has killed somebody.
    pub(super) fn begin(watched: Watched, log: Rc<Log>, tell: impl Fn() + 'static) -> Self {
        let stop = Rc::new(Notify::new());
        let task = spawn_local({
            let stop = Rc::clone(&stop);
            async move {
                if let Err(why) = watch(&watched, &stop, tell).await {
                    log.warning(&format!("watch memory: {why}"));
                }
            }
        });
        Self { stop, task }
    }

    /// Looks once more, and ends: what was the reason of an exit is told before it.
    pub(super) async fn end(self) {
        self.stop.notify_one();
        // It does not panic, nor is it aborted.
        let _ended = self.task.await;
    }
}

async fn watch(watched: &Watched, stop: &Notify, tell: impl Fn()) -> Result<(), String> {
    let mut events = watched.events().map_err(|error| error.to_string())?;
    let all = together(&events).map_err(|failed| failed.to_string())?;
    let ready = to_read(all.as_fd()).map_err(|why| why.to_string())?;
    loop {
        if said(&mut events, &tell)? {
            return Ok(());
        }
        let woken = first(ready.readable(), stop.notified()).await;
        let crate::wire::First::One(readable) = woken else { return said(&mut events, &tell).map(drop) };
        let mut readable = readable.map_err(|why| why.to_string())?;
        let mut happened = Vec::with_capacity(4);
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        // What happens from here on makes it ready again.
        epoll::wait(&all, rustix::buffer::spare_capacity(&mut happened), Some(&now))
            .map_err(|errno| errno.to_string())?;
        readable.clear_ready();
    }
}

/// Tells what has happened; whether nothing more will.
fn said(events: &mut Events<'_>, tell: &impl Fn()) -> Result<bool, String> {
    while let Some(event) = events.take().map_err(|error| error.to_string())? {
        match event {
            Event::OutOfMemory => tell(),
            Event::Ended => return Ok(true),
            _ => {}
        }
    }
    Ok(false)
}

/// All sources behind one descriptor. A file of a control group can always be read; what counts is that it changes, and that
/// is an edge.
fn together(events: &Events<'_>) -> Result<std::os::fd::OwnedFd, Failed> {
    let all = epoll::create(epoll::CreateFlags::CLOEXEC).called(|| "epoll_create1()")?;
    let flags = epoll::EventFlags::IN | epoll::EventFlags::PRI | epoll::EventFlags::ET;
    for source in events.sources() {
        epoll::add(&all, source.as_fd(), epoll::EventData::new_u64(0), flags).called(|| "epoll_ctl()")?;
    }
    Ok(all)
}
