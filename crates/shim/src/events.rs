//! Events, told to containerd in the order in which they happened.
//!
//! Whoever has an event leaves it here and goes on. One sender takes them from the front, and stays with the first one until
//! containerd has it: over a new connection if need be, and for as long as containerd is away. What is bounded is how many wait.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use containerd_shim_protos::api::ForwardRequest;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::shim::event::Envelope;
use containerd_shim_protos::ttrpc::proto::{Code, KeyValue, MESSAGE_TYPE_REQUEST, Request, Response};
use state::Moment;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::log::Log;
use crate::stats::timestamp;
use crate::wire::{frame, read_frame};

/// What waits to be told.
#[derive(Debug)]
pub(crate) struct Events {
    socket: Option<String>,
    namespace: String,
    queue: RefCell<VecDeque<Event>>,
    /// Something was left.
    left: Notify,
    /// Nothing waits any more.
    empty: Notify,
    log: Rc<Log>,
}

#[derive(Debug)]
struct Event {
    topic: &'static str,
    envelope: Envelope,
}

/// So many wait at most. More happen only while containerd is away, and it asks for the state of everything when it is back.
const MOST: usize = 2048;

/// How long containerd may take for one.
const PATIENCE: Duration = Duration::from_secs(5);

/// No event tells that containerd listens again. It is tried after this long, and twice as long each time, up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_secs(2);

/// How often one is told that containerd refuses.
const TRIES: u32 = 5;

pub(crate) const EXIT: &str = "/tasks/exit";

/// A connection, and the number of its next request.
struct Line {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    next: u32,
}

impl Events {
    pub(crate) fn new(socket: Option<String>, namespace: String, log: Rc<Log>) -> Self {
        let queue = RefCell::new(VecDeque::new());
        Self { socket, namespace, queue, left: Notify::new(), empty: Notify::new(), log }
    }

    /// Leaves an event; `name` is that of its message.
    pub(crate) fn publish(&self, topic: &'static str, name: &str, event: &impl Message) {
        let value = match event.write_to_bytes() {
            Ok(value) => value,
            Err(why) => return self.log.error(&format!("event {topic}: {why}")),
        };
        let event = Any { type_url: name.to_owned(), value, ..Any::default() };
        let envelope = Envelope {
            timestamp: MessageField::some(timestamp(Moment::now())),
            namespace: self.namespace.clone(),
            topic: topic.to_owned(),
            event: MessageField::some(event),
            ..Envelope::default()
        };
        let mut queue = self.queue.borrow_mut();
        if queue.len() >= MOST {
            // An exit is what somebody waits for.
            // The first one may be on its way.
            let at = queue.iter().skip(1).position(|waiting| waiting.topic != EXIT).unwrap_or(0) + 1;
            if let Some(lost) = queue.remove(at) {
                self.log
                    .error(&format!("event {}: lost: containerd takes none, and {MOST} wait", lost.topic));
            }
        }
        queue.push_back(Event { topic, envelope });
        self.left.notify_one();
    }

    /// Waits until all were told.
    pub(crate) async fn flushed(&self) {
        while !self.queue.borrow().is_empty() {
            self.empty.notified().await;
        }
    }

    /// Tells them, for ever.
    pub(crate) async fn tell(&self) {
        let Some(socket) = &self.socket else {
            // Nobody wants to hear any.
            return self.forget().await;
        };
        let mut line: Option<Line> = None;
        loop {
            let mut pause = FIRST_PAUSE;
            let mut tries = 0;
            while let Some(request) = self.next_request() {
                let told = match line.as_mut() {
                    Some(line) => send(line, &request).await,
                    None => match dial(socket).await {
                        Some(new) => send(line.insert(new), &request).await,
                        None => Told::Unheard,
                    },
                };
                match told {
                    Told::Yes => self.done(&mut pause, &mut tries),
                    Told::Refused(why) if tries >= TRIES => {
                        self.log.error(&format!("an event is refused by containerd: {why}"));
                        self.done(&mut pause, &mut tries);
                    }
                    Told::Refused(_) => {
                        tries += 1;
                        sleep(pause).await;
                        pause = (pause * 2).min(LAST_PAUSE);
                    }
                    // The line that was there may be that to a containerd that is gone: the next is tried at once.
                    Told::Unheard if line.take().is_some() => {}
                    Told::Unheard => {
                        sleep(pause).await;
                        pause = (pause * 2).min(LAST_PAUSE);
                    }
                }
            }
            self.empty.notify_waiters();
            self.left.notified().await;
        }
    }

    async fn forget(&self) {
        loop {
            self.queue.borrow_mut().clear();
            self.empty.notify_waiters();
            self.left.notified().await;
        }
    }

    fn done(&self, pause: &mut Duration, tries: &mut u32) {
        self.queue.borrow_mut().pop_front();
        (*pause, *tries) = (FIRST_PAUSE, 0);
    }

    fn next_request(&self) -> Option<Request> {
        let queue = self.queue.borrow();
        let request = ForwardRequest {
            envelope: MessageField::some(queue.front()?.envelope.clone()),
            ..ForwardRequest::default()
        };
        let namespace = KeyValue {
            key: "containerd-namespace-ttrpc".to_owned(),
            value: self.namespace.clone(),
            ..KeyValue::default()
        };
        Some(Request {
            service: "containerd.services.events.ttrpc.v1.Events".to_owned(),
            method: "Forward".to_owned(),
            payload: request.write_to_bytes().ok()?,
            timeout_nano: i64::try_from(PATIENCE.as_nanos()).unwrap_or(i64::MAX),
            metadata: vec![namespace],
            ..Request::default()
        })
    }
}

enum Told {
    Yes,
    /// containerd says no.
    Refused(String),
    /// Nobody has answered.
    Unheard,
}

async fn dial(socket: &str) -> Option<Line> {
    let stream = timeout(PATIENCE, UnixStream::connect(socket)).await.ok()?.ok()?;
    let (reader, writer) = stream.into_split();
    Some(Line { reader, writer, next: 1 })
}

/// One request at a time: the next answer is its own.
async fn send(line: &mut Line, request: &Request) -> Told {
    let talk = async {
        let frame = frame(line.next, MESSAGE_TYPE_REQUEST, request)?;
        // Numbers of a caller's are odd, and grow.
        line.next += 2;
        line.writer.write_all(&frame).await.ok()?;
        let (_, payload) = read_frame(&mut line.reader).await?;
        Response::parse_from_bytes(&payload?).ok()
    };
    match timeout(PATIENCE, talk).await {
        Ok(Some(response)) => match response.status.as_ref() {
            Some(status) if status.code.enum_value() != Ok(Code::OK) => Told::Refused(status.message.clone()),
            _ => Told::Yes,
        },
        _ => Told::Unheard,
    }
}
