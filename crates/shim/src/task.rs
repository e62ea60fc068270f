//! The task service: what is asked of containers, and what they are at.
//!
//! Two packages have this service, `containerd.task.v2` and `v3`, with the same messages. Whoever asks gets an answer from what is
//! known here, at once, for what only looks; what acts is done by a worker, and waited for without holding anything.

mod calls;
mod create;
mod exits;
mod memory;
mod process;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::os::fd::AsFd;
use std::rc::Rc;

use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::ttrpc::proto::{Code, Request};
use engine::{Error, Here, Kind, Task, Word, Work};
use sys::{Mask, Pidfd};
use tokio::sync::Notify;

use crate::events::Events;
use crate::log::Log;
use crate::options::Options;
use crate::ready::to_read;
use crate::server::Children;
use crate::wire::Refusal;
use memory::Watching;
use process::{Phase, Process};

/// Where the prefix of a state root is kept that is not the usual one, for `delete`.
pub(crate) const ROOT_FILE: &str = "cofferdam.root";

/// All tasks of this server.
#[derive(Debug)]
pub(crate) struct Service {
    namespace: String,
    mask: Mask,
    bus: Option<String>,
    containers: RefCell<HashMap<String, Rc<Container>>>,
    pub(crate) events: Rc<Events>,
    pub(crate) log: Rc<Log>,
    pub(crate) children: Children,
    /// Somebody has told us to go.
    pub(crate) stop: Notify,
    is_ending: Cell<bool>,
    /// Ourselves, for what goes on when a request has been answered.
    this: std::rc::Weak<Self>,
}

/// One task.
#[derive(Debug)]
struct Container {
    id: String,
    bundle: String,
    task: Task,
    options: Options,
    init: Rc<Process>,
    added: RefCell<BTreeMap<String, Rc<Process>>>,
    /// How many that were added are being started, or run.
    running: Cell<usize>,
    /// None of them does any more.
    all_over: Notify,
    /// The first process is no more.
    is_ending: Cell<bool>,
    has_own_pids: Cell<bool>,
    pause: Cell<Pause>,
    memory: RefCell<Option<Watching>>,
    /// Whether its root was mounted by us.
    has_layers: bool,
    /// Who makes it, as long as that lasts.
    maker: RefCell<Option<Rc<Work>>>,
    /// Nobody wants it any more, although it is still being made.
    unwanted: Notify,
    /// It was made, or that has failed.
    made: Notify,
    is_deleting: Cell<bool>,
    /// It was deleted, or that has failed.
    deleted: Notify,
}

/// Whether it is frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    No,
    Pausing,
    Yes,
}

impl Container {
    fn is_paused(&self) -> bool {
        self.pause.get() != Pause::No
    }

    /// One that was added is no more, or never came to be.
    fn one_less(&self) {
        self.running.set(self.running.get().saturating_sub(1));
        if self.running.get() == 0 {
            self.all_over.notify_waiters();
        }
    }

    /// The first process, or one that was added.
    fn process(&self, exec_id: &str) -> Result<Rc<Process>, Refusal> {
        if exec_id.is_empty() {
            return Ok(Rc::clone(&self.init));
        }
        let added = self.added.borrow().get(exec_id).cloned();
        added.ok_or_else(|| Refusal::new(Code::NOT_FOUND, format!("process {exec_id}: not found")))
    }
}

impl Service {
    pub(crate) fn new(
        namespace: String,
        mask: Mask,
        bus: Option<String>,
        events: Rc<Events>,
        log: Rc<Log>,
    ) -> Rc<Self> {
        Rc::new_cyclic(|this| Self {
            namespace,
            mask,
            bus,
            containers: RefCell::default(),
            events,
            log,
            children: Children::default(),
            stop: Notify::new(),
            is_ending: Cell::new(false),
            this: this.clone(),
        })
    }

    /// Goes, once what was begun is done. Nothing more is created.
    pub(crate) fn end(&self) {
        self.is_ending.set(true);
        self.stop.notify_one();
    }

    fn here(&self) -> Result<Rc<Self>, Refusal> {
        self.this.upgrade().ok_or_else(|| Refusal::new(Code::UNAVAILABLE, "the shim is about to end"))
    }

    /// One that was created whole.
    fn container(&self, id: &str) -> Result<Rc<Container>, Refusal> {
        let container = self.containers.borrow().get(id).cloned();
        container
            .filter(|container| container.init.phase.get() != Phase::Making)
            .ok_or_else(|| Refusal::new(Code::NOT_FOUND, "container not created"))
    }

    fn task(&self, id: &str, options: &Options) -> Task {
        Task::Here(Here {
            root: crate::state_root(&options.root, &self.namespace),
            id: id.to_owned(),
            mask: self.mask,
            bus: self.bus.clone(),
        })
    }

    /// Writes down what every task is at, for people.
    pub(crate) fn tell_state(&self) {
        let all = self.containers.borrow();
        self.log.info(&format!("state: {} containers", all.len()));
        for container in all.values() {
            let Container { id, init, running, pause, .. } = &**container;
            let (phase, pid, pause) = (init.phase.get(), init.pid.get(), pause.get());
            self.log.info(&format!(
                "state: {id}: init {pid} {phase:?}, pause {pause:?}, {} execs run",
                running.get()
            ));
            for (exec, process) in container.added.borrow().iter() {
                self.log.info(&format!(
                    "state: {id}: {exec}: {} {:?}",
                    process.pid.get(),
                    process.phase.get()
                ));
            }
        }
    }
}

impl crate::wire::Service for Service {
    async fn answer(&self, request: &Request) -> Result<Vec<u8>, Refusal> {
        let Request { service, method, payload, .. } = request;
        if !matches!(service.as_str(), "containerd.task.v2.Task" | "containerd.task.v3.Task") {
            return Err(Refusal::new(Code::UNIMPLEMENTED, format!("service {service}")));
        }
        self.log.debug(|| method.clone());
        let this = self.here()?;
        let answer = match method.as_str() {
            "Create" => bytes(&this.create(read(payload)?).await?),
            "Start" => bytes(&this.start(read(payload)?).await?),
            "Exec" => bytes(&this.exec(read(payload)?)?),
            "State" => bytes(&this.state(&read(payload)?)?),
            "Pids" => bytes(&this.pids(&read(payload)?)?),
            "Pause" => bytes(&this.pause(&read(payload)?).await?),
            "Resume" => bytes(&this.resume(&read(payload)?).await?),
            "Kill" => bytes(&this.kill(&read(payload)?).await?),
            "Delete" => bytes(&this.delete(&read(payload)?).await?),
            "ResizePty" => bytes(&this.resize(&read(payload)?)?),
            "CloseIO" => bytes(&this.close_io(&read(payload)?)?),
            "Update" => bytes(&this.update(&read(payload)?).await?),
            "Wait" => bytes(&this.wait(&read(payload)?).await?),
            "Stats" => bytes(&this.stats(&read(payload)?)?),
            "Connect" => bytes(&this.connect(&read(payload)?)),
            "Shutdown" => bytes(&this.shutdown()),
            "Checkpoint" => Err(Refusal::new(Code::UNIMPLEMENTED, "checkpoints are not implemented yet")),
            _ => Err(Refusal::new(Code::UNIMPLEMENTED, format!("method {method}"))),
        };
        answer.inspect_err(|refusal| self.log.debug(|| format!("{method}: {}", refusal.text)))
    }

    fn only_waits(&self, request: &Request) -> bool {
        request.method == "Wait"
    }
}

fn read<M: Message>(payload: &[u8]) -> Result<M, Refusal> {
    M::parse_from_bytes(payload).map_err(|why| Refusal::new(Code::INVALID_ARGUMENT, why.to_string()))
}

fn bytes(message: &impl Message) -> Result<Vec<u8>, Refusal> {
    message.write_to_bytes().map_err(|why| Refusal::new(Code::INTERNAL, why.to_string()))
}

/// What a failure of the engine's is to containerd.
fn refusal(error: &Error) -> Refusal {
    let code = match error.kind() {
        Kind::Exists => Code::ALREADY_EXISTS,
        Kind::Invalid => Code::INVALID_ARGUMENT,
        Kind::NotFound => Code::NOT_FOUND,
        Kind::State => Code::FAILED_PRECONDITION,
        Kind::Other => Code::UNKNOWN,
    };
    Refusal::new(code, error.to_string())
}

/// Waits for a worker that bears nobody.
async fn work(begun: Result<Work, Error>) -> Result<Vec<String>, Error> {
    heard(&begun?, |_, _| ()).await
}

/// Waits for a worker; `born` is told whom it bears.
async fn heard(work: &Work, mut born: impl FnMut(i32, Pidfd)) -> Result<Vec<String>, Error> {
    let lost = |why: std::io::Error| Error::new(Kind::Other, format!("wait for a worker: {why}"));
    let ready = to_read(work.as_fd())?;
    loop {
        let mut readable = ready.readable().await.map_err(lost)?;
        match work.hear()? {
            None => readable.clear_ready(),
            Some(Word::Born(pid, handle)) => born(pid, handle),
            // Nobody who works for a task has more to tell than how it ended.
            Some(Word::Told(_)) => {}
            Some(Word::Done(warnings)) => return Ok(warnings),
            Some(Word::Failed(error) | Word::Gone(error)) => return Err(error),
        }
    }
}
