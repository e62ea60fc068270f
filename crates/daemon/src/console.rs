//! The console: clients that come by listeners, and containers by lines of their own.
//!
//! Every peer has a task, its own limits, and one request at a time; what it does not read is kept for it up to a bound and
//! then no longer, and nobody waits for it. What a peer may ask is decided here; what becomes of that is not: every request
//! that is allowed goes out as a [`Call`]. Begin with [`Console::new`].

mod call;
mod connection;
mod lines;
mod listener;
mod options;
mod throttle;

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};
use wire::{Container, Key, Notification, Permissions};

pub use call::{Body, Call, Cut, Peer};
pub use listener::{Listener, bind};
pub use options::Options;

/// The console's server. Clones are the same server.
#[derive(Clone, Debug)]
pub struct Console(Arc<Shared>);

/// What a peer may do.
#[derive(Clone, Debug)]
pub struct Rules {
    /// What it may ask.
    pub permissions: Permissions,
    /// How much, how fast.
    pub options: Options,
}

/// A container's line, which ends when this is dropped: whoever else may hold its other end by then.
#[derive(Debug)]
pub struct Line(AbortHandle);

/// Where lines for the log go.
pub type Log = Arc<dyn Fn(&dyn fmt::Display) + Send + Sync>;

struct Shared {
    calls: mpsc::Sender<Call>,
    news: broadcast::Sender<Notification>,
    /// Every task of ours listens to it as long as it lives.
    closing: watch::Sender<bool>,
    key: Key,
    /// What the time in tokens counts from.
    began: Instant,
    log: Log,
}

/// How long peers may take to read what was said to them before the console closed.
const LAST_WORDS: Duration = Duration::from_secs(2);

impl Console {
    /// A console that nobody is connected to, and where its calls come out. `key` is random and new; `buffer` is how many
    /// calls and how many notifications may wait, the latter for the slowest of their subscribers, each at least 1.
    pub fn new(key: Key, buffer: Buffer, log: Log) -> (Self, mpsc::Receiver<Call>) {
        let (calls, called) = mpsc::channel(buffer.calls);
        let (news, closing) = (broadcast::Sender::new(buffer.notifications), watch::Sender::new(false));
        (Self(Arc::new(Shared { calls, news, closing, key, began: Instant::now(), log })), called)
    }

    /// Tells all subscribers.
    pub fn notify(&self, notification: Notification) {
        // That nobody has subscribed is no failure.
        drop(self.0.news.send(notification));
    }

    /// Attends to a container by our end of its line.
    pub fn attach(&self, stream: OwnedFd, container: Container, rules: Rules) -> io::Result<Line> {
        let stream = StdStream::from(stream);
        stream.set_nonblocking(true)?;
        let stream = UnixStream::from_std(stream)?;
        Ok(Line(self.spawn(stream, Peer::Container(container), rules, ())))
    }

    /// Begins a peer's task, which holds something until it ends.
    fn spawn<S>(&self, stream: S, peer: Peer, rules: Rules, held: impl Send + 'static) -> AbortHandle
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let shared = Arc::clone(&self.0);
        tokio::spawn(async move {
            let _held = held;
            let log = Arc::clone(&shared.log);
            log(&format_args!("console: {peer} is connected"));
            let end = connection::attend(stream, shared, peer.clone(), rules).await;
            // An end in order says no more than the beginning did.
            if !end.is_in_order() {
                log(&format_args!("console: {peer} is disconnected: {end}"));
            }
        })
        .abort_handle()
    }

    /// Takes nobody in any more, and lets everybody go once they were told what was said before.
    pub async fn close(&self) {
        self.0.closing.send_replace(true);
        // Whoever is not gone by then does not read.
        drop(timeout(LAST_WORDS, self.0.closing.closed()).await);
    }
}

/// How much may wait.
#[derive(Clone, Copy, Debug)]
pub struct Buffer {
    /// Calls.
    pub calls: usize,
    /// Notifications.
    pub notifications: usize,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Shared")
            .field("calls", &self.calls)
            .field("news", &self.news)
            .finish_non_exhaustive()
    }
}
