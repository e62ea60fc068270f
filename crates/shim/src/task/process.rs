//! A process of a task: its first one, or one that was added. Each has a record of its own.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::protobuf::well_known_types::timestamp::Timestamp;
use containerd_shim_protos::ttrpc::proto::Code;
use state::Moment;
use sys::{Errno, Exit, Pidfd};
use tokio::sync::Notify;

use crate::stats::timestamp;
use crate::streams::{Given, Plumbing};
use crate::wire::Refusal;

/// How far a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It is being made.
    Making,
    /// It is there, or described, and waits to be started.
    Created,
    /// It is being started.
    Starting,
    /// It was started.
    Running,
    /// It is no more.
    Stopped,
}

/// How a process ended, and when that was seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exited {
    pub(super) status: u32,
    pub(super) at: Moment,
}

impl Exited {
    pub(super) fn now(exit: Exit) -> Self {
        Self { status: u32::from(exit.code()), at: Moment::now() }
    }

    pub(super) fn at(self) -> MessageField<Timestamp> {
        MessageField::some(timestamp(self.at))
    }
}

/// One process.
#[derive(Debug)]
pub(super) struct Process {
    /// Empty for the first one.
    pub(super) exec_id: String,
    pub(super) given: Given,
    /// The document of one that was added.
    pub(super) document: Vec<u8>,
    pub(super) phase: Cell<Phase>,
    /// Its number, for telling; 0 until it is born.
    pub(super) pid: Cell<i32>,
    /// Itself.
    pub(super) handle: RefCell<Option<Rc<Pidfd>>>,
    /// How it ended, once everybody was told what came before that.
    pub(super) exited: Cell<Option<Exited>>,
    /// The same while somebody still has something to tell first.
    pub(super) early: Cell<Option<Exited>>,
    /// It is no more.
    pub(super) over: Notify,
    pub(super) plumbing: RefCell<Option<Rc<Plumbing>>>,
    /// Nobody writes to its standard input any more, which was told before there was one.
    pub(super) is_stdin_closed: Cell<bool>,
}

impl Process {
    pub(super) fn new(exec_id: String, given: Given, document: Vec<u8>, phase: Phase) -> Self {
        Self {
            exec_id,
            given,
            document,
            phase: Cell::new(phase),
            pid: Cell::new(0),
            handle: RefCell::new(None),
            exited: Cell::new(None),
            early: Cell::new(None),
            over: Notify::new(),
            plumbing: RefCell::new(None),
            is_stdin_closed: Cell::new(false),
        }
    }

    /// Its number as messages have it.
    pub(super) fn number(&self) -> u32 {
        u32::try_from(self.pid.get()).unwrap_or(0)
    }

    pub(super) fn plumbing(&self) -> Option<Rc<Plumbing>> {
        self.plumbing.borrow().clone()
    }

    /// Waits until it is no more.
    pub(super) async fn wait(&self) -> Exited {
        loop {
            if let Some(exited) = self.exited.get() {
                return exited;
            }
            self.over.notified().await;
        }
    }

    /// Writes down that it is no more, and tells who waits for that.
    pub(super) fn end(&self, exited: Exited) {
        self.exited.set(Some(exited));
        self.phase.set(Phase::Stopped);
        self.over.notify_waiters();
    }

    /// Sends a signal to it alone.
    pub(super) fn signal(&self, signal: i32) -> Result<(), Refusal> {
        let handle = self.handle.borrow().clone();
        match (self.phase.get(), handle) {
            (Phase::Stopped, _) => Err(finished()),
            (_, Some(handle)) => match handle.signal(signal) {
                Err(failed) if failed.errno() == Some(Errno::SRCH) => Err(finished()),
                Err(failed) => Err(Refusal::new(Code::UNKNOWN, failed.to_string())),
                Ok(()) => Ok(()),
            },
            (_, None) => Err(Refusal::new(Code::FAILED_PRECONDITION, "process not created")),
        }
    }

    pub(super) async fn close_streams(&self) {
        if let Some(plumbing) = self.plumbing() {
            plumbing.close().await;
        }
    }
}

/// containerd takes the code for what it wanted, and shows the words to people.
pub(super) fn finished() -> Refusal {
    Refusal::new(Code::NOT_FOUND, "process already finished")
}
