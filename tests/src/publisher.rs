//! Where shims publish: containerd's events service, which writes down what it hears in the order in which it came.

use std::collections::BTreeMap;
use std::fs;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use containerd_shim_protos::events::task::{
    TaskCreate, TaskDelete, TaskExecAdded, TaskExecStarted, TaskExit, TaskOOM, TaskPaused, TaskResumed,
    TaskStart,
};
use containerd_shim_protos::protobuf::well_known_types::timestamp::Timestamp;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::shim::events::ForwardRequest;
use containerd_shim_protos::ttrpc::proto::{Request, Response};

use crate::rpc::{Frame, RESPONSE};
use crate::{LIMIT, patience};

/// One event, as it was published.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Event {
    /// `/tasks/exit` and the like.
    pub topic: String,
    /// The namespace of its envelope.
    pub namespace: String,
    /// Which container.
    pub container: String,
    /// Which exec of it; empty for its init.
    pub exec: String,
    /// The process, where the event has one.
    pub pid: u32,
    /// How it ended, where the event says so.
    pub status: u32,
    /// When it ended, likewise.
    pub exited_at: Option<Timestamp>,
    /// What else a creation tells: the bundle, and the path for standard output.
    pub told: Vec<String>,
}

impl Event {
    /// `exit web e1 7`: for lists that people read.
    pub fn line(&self) -> String {
        format!(
            "{} {} {} {}",
            self.topic.trim_start_matches("/tasks/"),
            self.container,
            self.exec,
            self.status
        )
    }

    fn read(request: &ForwardRequest) -> Self {
        let envelope = request.envelope.get_or_default();
        let any = envelope.event.get_or_default();
        let mut event =
            Self { topic: envelope.topic.clone(), namespace: envelope.namespace.clone(), ..Self::default() };
        assert!(envelope.timestamp.get_or_default().seconds > 0, "an event has a time: {envelope}");
        let bytes = &any.value[..];
        let kind = any.type_url.as_str();
        let wanted = match event.topic.as_str() {
            "/tasks/create" => {
                let it: TaskCreate = parse(bytes);
                event.container = it.container_id;
                event.pid = it.pid;
                event.told = vec![it.bundle, it.io.get_or_default().stdout.clone()];
                "TaskCreate"
            }
            "/tasks/start" => {
                let it: TaskStart = parse(bytes);
                (event.container, event.pid) = (it.container_id, it.pid);
                "TaskStart"
            }
            "/tasks/exit" => {
                let it: TaskExit = parse(bytes);
                assert!(!it.id.is_empty(), "an exit names its process: {it}");
                event.exec = if it.id == it.container_id { String::new() } else { it.id };
                (event.container, event.pid, event.status) = (it.container_id, it.pid, it.exit_status);
                event.exited_at = it.exited_at.into_option();
                "TaskExit"
            }
            "/tasks/delete" => {
                let it: TaskDelete = parse(bytes);
                event.exec = if it.id == it.container_id { String::new() } else { it.id };
                (event.container, event.pid, event.status) = (it.container_id, it.pid, it.exit_status);
                event.exited_at = it.exited_at.into_option();
                "TaskDelete"
            }
            "/tasks/exec-added" => {
                let it: TaskExecAdded = parse(bytes);
                (event.container, event.exec) = (it.container_id, it.exec_id);
                "TaskExecAdded"
            }
            "/tasks/exec-started" => {
                let it: TaskExecStarted = parse(bytes);
                (event.container, event.exec, event.pid) = (it.container_id, it.exec_id, it.pid);
                "TaskExecStarted"
            }
            "/tasks/oom" => {
                event.container = parse::<TaskOOM>(bytes).container_id;
                "TaskOOM"
            }
            "/tasks/paused" => {
                event.container = parse::<TaskPaused>(bytes).container_id;
                "TaskPaused"
            }
            "/tasks/resumed" => {
                event.container = parse::<TaskResumed>(bytes).container_id;
                "TaskResumed"
            }
            other => panic!("an event of a topic that containerd does not know: {other}"),
        };
        assert_eq!(kind, format!("containerd.events.{wanted}"), "of {}", event.topic);
        event
    }
}

fn parse<M: Message>(bytes: &[u8]) -> M {
    M::parse_from_bytes(bytes).expect("an event is of its topic's kind")
}

#[derive(Debug, Default)]
struct Record {
    events: Vec<Event>,
    lines: Vec<UnixStream>,
    is_held: bool,
    is_over: bool,
}

#[derive(Debug, Default)]
struct Shared {
    record: Mutex<Record>,
    changed: Condvar,
}

impl Shared {
    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().expect("nobody panics with it")
    }
}

/// The service, as long as this value.
#[derive(Debug)]
pub struct Publisher {
    path: PathBuf,
    shared: Arc<Shared>,
    listening: Option<(UnixListener, JoinHandle<()>)>,
}

impl Publisher {
    /// Listens there.
    pub fn at(path: &Path) -> Self {
        let mut publisher = Self { path: path.to_owned(), shared: Arc::default(), listening: None };
        publisher.comes_back();
        publisher
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Everything so far.
    pub fn events(&self) -> Vec<Event> {
        self.shared.record().events.clone()
    }

    /// Everything so far of one container.
    pub fn of(&self, container: &str) -> Vec<Event> {
        let record = self.shared.record();
        record.events.iter().filter(|event| event.container == container).cloned().collect()
    }

    /// Topics of one container, the exec's id behind a colon.
    pub fn topics(&self, container: &str) -> Vec<String> {
        let told = |event: Event| {
            let topic = event.topic.trim_start_matches("/tasks/").to_owned();
            if event.exec.is_empty() { topic } else { format!("{topic}:{}", event.exec) }
        };
        self.of(container).into_iter().map(told).collect()
    }

    /// Waits until so many events are as `is_it` says.
    #[track_caller]
    pub fn await_many(&self, count: usize, limit: Duration, is_it: impl Fn(&Event) -> bool) {
        let end = Instant::now() + limit * patience();
        let mut record = self.shared.record();
        while record.events.iter().filter(|event| is_it(event)).count() < count {
            let left = end.saturating_duration_since(Instant::now());
            let found = record.events.iter().filter(|event| is_it(event)).count();
            let last: Vec<String> = record.events.iter().rev().take(12).map(Event::line).collect();
            assert!(!left.is_zero(), "{found} events of {count} after {limit:?}; the last: {last:#?}");
            (record, _) = self.shared.changed.wait_timeout(record, left).expect("nobody panics with it");
        }
    }

    /// Waits for one event of a container, `exit:e1` as [`Self::topics`] tells it, and returns it.
    #[track_caller]
    pub fn await_one(&self, container: &str, wanted: &str) -> Event {
        let (topic, exec) = wanted.split_once(':').unwrap_or((wanted, ""));
        let topic = format!("/tasks/{topic}");
        let is_it =
            |event: &Event| event.container == container && event.topic == topic && event.exec == exec;
        self.await_many(1, LIMIT, is_it);
        self.events().into_iter().find(is_it).expect("it was seen")
    }

    /// Stops answering, as a containerd that somebody has stopped: what is sent stays in the sockets.
    pub fn hold(&self) {
        self.shared.record().is_held = true;
    }

    /// Goes on.
    pub fn release(&self) {
        self.shared.record().is_held = false;
        self.shared.changed.notify_all();
    }

    /// Ends, as a containerd that was killed: nobody listens, and every line is down.
    pub fn goes_away(&mut self) {
        let Some((listener, thread)) = self.listening.take() else { return };
        {
            let mut record = self.shared.record();
            record.is_over = true;
            for line in record.lines.drain(..) {
                // A shim that has gone has closed it before.
                let _down = line.shutdown(Shutdown::Both);
            }
        }
        self.shared.changed.notify_all();
        // accept(2) on a socket that was shut down comes back.
        rustix::net::shutdown(&listener, rustix::net::Shutdown::Both).expect("shut our own socket down");
        let ended = thread.join();
        assert!(ended.is_ok() || thread::panicking(), "the publisher panicked");
        fs::remove_file(&self.path).expect("it was bound here");
    }

    /// Listens again.
    pub fn comes_back(&mut self) {
        let listener = UnixListener::bind(&self.path).expect("listen for events");
        self.shared.record().is_over = false;
        let (shared, own) = (Arc::clone(&self.shared), listener.try_clone().expect("dup"));
        let thread = thread::spawn(move || {
            let mut servers = Vec::new();
            while let Ok((line, _)) = own.accept() {
                let mut record = shared.record();
                if record.is_over {
                    break;
                }
                record.lines.push(line.try_clone().expect("dup"));
                drop(record);
                let shared = Arc::clone(&shared);
                servers.push(thread::spawn(move || serve(line, &shared)));
            }
            for server in servers {
                let ended = server.join();
                assert!(ended.is_ok(), "a server of events panicked");
            }
        });
        self.listening = Some((listener, thread));
    }

    /// What is wrong with the order of everything so far: each container's life on its own.
    pub fn disorder(&self) -> Vec<String> {
        let mut lives: BTreeMap<String, Vec<Event>> = BTreeMap::new();
        for event in self.events() {
            lives.entry(event.container.clone()).or_default().push(event);
        }
        lives.iter().flat_map(|(container, events)| disorder(container, events)).collect()
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.goes_away();
    }
}

fn serve(mut line: UnixStream, shared: &Shared) {
    while let Ok(Some(frame)) = Frame::read(&mut line) {
        let mut record = shared.record();
        while record.is_held && !record.is_over {
            record = shared.changed.wait(record).expect("nobody panics with it");
        }
        if record.is_over {
            return;
        }
        let request = Request::parse_from_bytes(&frame.body).expect("a request");
        assert_eq!(
            (request.service.as_str(), request.method.as_str()),
            ("containerd.services.events.ttrpc.v1.Events", "Forward")
        );
        let forward = ForwardRequest::parse_from_bytes(&request.payload).expect("an envelope in a request");
        let mut response = Response::new();
        response.status = MessageField::some(containerd_shim_protos::ttrpc::proto::Status::new());
        let body = response.write_to_bytes().expect("a message has bytes");
        // Whoever hung up knows that it has no answer.
        let _gone = Frame { stream: frame.stream, kind: RESPONSE, body }.write(&mut line);
        // Whoever finds it here, and lets the publisher go away at once, finds it answered.
        record.events.push(Event::read(&forward));
        drop(record);
        shared.changed.notify_all();
    }
}

/// The order that holds for each container: create, start, exit, delete, each once; of an exec: added, started, exit, each once,
/// and all of it before init's exit.
fn disorder(container: &str, events: &[Event]) -> Vec<String> {
    let mut wrong = Vec::new();
    let at = |topic: &str, exec: &str| -> Vec<usize> {
        let topic = format!("/tasks/{topic}");
        let is_it = |event: &Event| event.topic == topic && event.exec == exec;
        events.iter().enumerate().filter(|(_, event)| is_it(event)).map(|(at, _)| at).collect()
    };
    let mut in_order = |names: &[&str], exec: &str| {
        let mut last: Option<(usize, &str)> = None;
        for name in names {
            let found = at(name, exec);
            if found.len() > 1 {
                wrong.push(format!("{container}: {} times {name} {exec}", found.len()));
            }
            if let Some(&at) = found.first() {
                if let Some((before, earlier)) = last.filter(|(before, _)| *before > at) {
                    wrong.push(format!("{container}: {name} {exec} ({at}) before {earlier} ({before})"));
                }
                last = Some((at, name));
            }
        }
    };
    in_order(&["create", "start", "exit", "delete"], "");
    let mut execs: Vec<&str> = events.iter().map(|event| event.exec.as_str()).collect();
    execs.sort_unstable();
    execs.dedup();
    for exec in execs.into_iter().filter(|exec| !exec.is_empty()) {
        in_order(&["exec-added", "exec-started", "exit"], exec);
    }
    let init = at("exit", "").first().copied();
    for (at, event) in events.iter().enumerate().filter(|(_, event)| !event.exec.is_empty()) {
        let is_of_life = event.topic != "/tasks/exec-added";
        if is_of_life && init.is_some_and(|init| init < at) {
            wrong.push(format!("{container}: {} after init's exit", event.line()));
        }
    }
    if let Some(first) = events.first().filter(|first| first.topic != "/tasks/create") {
        wrong.push(format!("{container}: {} comes first", first.line()));
    }
    wrong
}
