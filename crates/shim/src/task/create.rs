//! What makes processes: Create, Start and Exec.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use containerd_shim_protos::api::{
    CreateTaskRequest, CreateTaskResponse, Empty, ExecProcessRequest, Mount, StartRequest, StartResponse,
};
use containerd_shim_protos::events::task::{
    TaskCreate, TaskExecAdded, TaskExecStarted, TaskIO, TaskOOM, TaskStart,
};
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::ttrpc::proto::Code;
use engine::{Create, Exec, Layer, Work};
use state::Moment;
use sys::SIGKILL;
use tokio::sync::Notify;

use super::memory::Watching;
use super::process::{Exited, Phase, Process};
use super::{Container, Pause, ROOT_FILE, Service, heard, refusal, work};
use crate::options::{Options, last_segment};
use crate::streams::{Ends, Given, Owner, Plumbing};
use crate::wire::{First, Refusal, first};

/// What a shell tells of a program that it could not start.
const NOT_STARTED: u32 = 255;

impl Service {
    pub(super) async fn create(
        self: &Rc<Self>,
        asked: CreateTaskRequest,
    ) -> Result<CreateTaskResponse, Refusal> {
        let invalid = |why: String| Refusal::new(Code::INVALID_ARGUMENT, why);
        let options = Options::of(asked.options.as_ref()).map_err(invalid)?;
        options.check_name().map_err(invalid)?;
        if !asked.checkpoint.is_empty() {
            return Err(Refusal::new(Code::UNIMPLEMENTED, "a task from a checkpoint is not implemented yet"));
        }
        let container = self.reserve(&asked, options)?;
        let made = match first(self.make(&container, &asked), container.unwanted.notified()).await {
            First::One(made) => made,
            First::Other(()) => Err(self.take_back(&container).await),
        };
        container.maker.take();
        let answer = match made {
            Ok(()) => {
                self.publish_create(&container, asked);
                container.init.phase.set(Phase::Created);
                self.settle_early(&container, &container.init);
                Ok(CreateTaskResponse { pid: container.init.number(), ..CreateTaskResponse::default() })
            }
            Err(refusal) => {
                container.init.phase.set(Phase::Stopped);
                container.init.close_streams().await;
                self.containers.borrow_mut().remove(&container.id);
                Err(refusal)
            }
        };
        container.made.notify_waiters();
        answer
    }

    /// Ends the making of a container, wherever it is stuck, and takes away what there is of it.
    async fn take_back(&self, container: &Container) -> Refusal {
        if let Some(maker) = container.maker.take() {
            maker.end();
        }
        if container.init.handle.borrow().is_some() {
            // It may have ended just now.
            let _gone = container.init.signal(SIGKILL);
        }
        let rootfs = container.has_layers.then(|| format!("{}/rootfs", container.bundle));
        if let Err(error) = work(container.task.delete(rootfs.as_deref())).await {
            self.log.error(&format!("take back {}: {error}", container.id));
        }
        Refusal::new(Code::ABORTED, "OCI runtime create failed: it was deleted before it was created")
    }

    /// From here on the id is taken.
    fn reserve(&self, asked: &CreateTaskRequest, options: Options) -> Result<Rc<Container>, Refusal> {
        if self.is_ending.get() {
            return Err(Refusal::new(Code::UNAVAILABLE, "the shim is about to end"));
        }
        let mut containers = self.containers.borrow_mut();
        if containers.contains_key(&asked.id) {
            return Err(Refusal::new(Code::ALREADY_EXISTS, format!("task {}: already exists", asked.id)));
        }
        let given = Given {
            stdin: asked.stdin.clone(),
            stdout: asked.stdout.clone(),
            stderr: asked.stderr.clone(),
            terminal: asked.terminal,
        };
        let container = Rc::new(Container {
            task: self.task(&asked.id, &options),
            id: asked.id.clone(),
            bundle: asked.bundle.clone(),
            options,
            init: Rc::new(Process::new(String::new(), given, Vec::new(), Phase::Making)),
            added: RefCell::new(BTreeMap::new()),
            running: Cell::new(0),
            all_over: Notify::new(),
            is_ending: Cell::new(false),
            has_own_pids: Cell::new(true),
            pause: Cell::new(Pause::No),
            memory: RefCell::new(None),
            has_layers: !asked.rootfs.is_empty(),
            maker: RefCell::new(None),
            unwanted: Notify::new(),
            made: Notify::new(),
            is_deleting: Cell::new(false),
            deleted: Notify::new(),
        });
        containers.insert(asked.id.clone(), Rc::clone(&container));
        Ok(container)
    }

    async fn make(
        self: &Rc<Self>,
        container: &Rc<Container>,
        asked: &CreateTaskRequest,
    ) -> Result<(), Refusal> {
        let Container { id, bundle, options, init, .. } = &**container;
        if !options.root.is_empty() {
            std::fs::write(format!("{bundle}/{ROOT_FILE}"), &options.root)
                .map_err(|why| Refusal::new(Code::UNKNOWN, format!("write {bundle}/{ROOT_FILE}: {why}")))?;
        }
        let ends = self.lay(container, init, id).await?;
        let order = Create {
            bundle: bundle.clone(),
            layers: asked.rootfs.iter().map(layer).collect(),
            systemd: options.systemd_cgroup,
            keep_keyring: options.no_new_keyring,
            no_pivot: options.no_pivot_root,
            pid_file: true,
            terminal: asked.terminal,
            ..Create::default()
        };
        let failed = |refusal: Refusal| Refusal {
            text: format!("OCI runtime create failed: {}", refusal.text),
            ..refusal
        };
        let begun = container.task.create(order, &ends.streams()).map_err(|error| failed(refusal(&error)))?;
        let begun = Rc::new(begun);
        *container.maker.borrow_mut() = Some(Rc::clone(&begun));
        self.bear(container, init, &begun).await.map_err(failed)?;
        let told = |error: engine::Error| self.log.warning(&format!("{id}: {error}"));
        container.task.has_own_pids().map_or_else(told, |own| container.has_own_pids.set(own));
        self.watch_memory(container);
        Ok(())
    }

    /// Opens the streams of a process.
    async fn lay(&self, container: &Container, process: &Process, id: &str) -> Result<Ends, Refusal> {
        let Options { io_uid, io_gid, .. } = container.options;
        let owner = Owner { namespace: &self.namespace, id, uid: io_uid, gid: io_gid };
        let plumbing = Rc::new(Plumbing::default());
        *process.plumbing.borrow_mut() = Some(Rc::clone(&plumbing));
        let ends = plumbing.open(&process.given, owner).await?;
        if process.is_stdin_closed.get() {
            plumbing.close_stdin();
        }
        Ok(ends)
    }

    /// Waits for a worker that bears a process, and takes over its terminal.
    async fn bear(
        self: &Rc<Self>,
        container: &Rc<Container>,
        process: &Rc<Process>,
        begun: &Work,
    ) -> Result<(), Refusal> {
        let mut expected = Some(self.children.expect(&self.log));
        let outcome = heard(begun, |pid, handle| {
            self.adopt(container, process, pid, handle);
            expected.take();
        });
        let outcome = outcome.await;
        drop(expected);
        for warning in outcome.map_err(|error| refusal(&error))? {
            self.log.warning(&format!("{}: {warning}", container.id));
        }
        let plumbing = process.plumbing();
        if let Some(plumbing) = plumbing.filter(|_| process.given.terminal) {
            let attached = begun.console().map_err(|error| refusal(&error)).and_then(|master| {
                plumbing.attach(master).map_err(|failed| Refusal::new(Code::UNKNOWN, failed.to_string()))
            });
            if let Err(refusal) = attached {
                // Nobody could ever see it.
                let _gone = process.signal(SIGKILL);
                return Err(refusal);
            }
        }
        Ok(())
    }

    fn watch_memory(self: &Rc<Self>, container: &Rc<Container>) {
        match container.task.watched() {
            Ok(watched) => {
                let (service, id) = (Rc::downgrade(self), container.id.clone());
                let tell = move || {
                    let event = TaskOOM { container_id: id.clone(), ..TaskOOM::default() };
                    if let Some(service) = service.upgrade() {
                        service.events.publish("/tasks/oom", "containerd.events.TaskOOM", &event);
                    }
                };
                *container.memory.borrow_mut() = Some(Watching::begin(watched, Rc::clone(&self.log), tell));
            }
            Err(error) => self.log.warning(&format!("{}: watch memory: {error}", container.id)),
        }
    }

    fn publish_create(&self, container: &Container, asked: CreateTaskRequest) {
        let io = TaskIO {
            stdin: asked.stdin,
            stdout: asked.stdout,
            stderr: asked.stderr,
            terminal: asked.terminal,
            ..TaskIO::default()
        };
        let event = TaskCreate {
            container_id: asked.id,
            bundle: asked.bundle,
            rootfs: asked.rootfs,
            io: MessageField::some(io),
            checkpoint: asked.checkpoint,
            pid: container.init.number(),
            ..TaskCreate::default()
        };
        self.events.publish("/tasks/create", "containerd.events.TaskCreate", &event);
    }

    pub(super) async fn start(self: &Rc<Self>, asked: StartRequest) -> Result<StartResponse, Refusal> {
        let container = self.container(&asked.id)?;
        let process = container.process(&asked.exec_id)?;
        if asked.exec_id.is_empty() {
            self.start_init(&container).await?;
        } else {
            self.start_added(&container, &process).await?;
        }
        Ok(StartResponse { pid: process.number(), ..StartResponse::default() })
    }

    async fn start_init(self: &Rc<Self>, container: &Rc<Container>) -> Result<(), Refusal> {
        let init = &container.init;
        if init.phase.get() != Phase::Created || container.is_ending.get() || container.is_deleting.get() {
            return Err(wrong("start", init.phase.get()));
        }
        if container.is_paused() {
            return Err(Refusal::new(Code::FAILED_PRECONDITION, "cannot start a paused container"));
        }
        init.phase.set(Phase::Starting);
        let started = work(container.task.start()).await;
        if started.is_ok() {
            let event =
                TaskStart { container_id: container.id.clone(), pid: init.number(), ..TaskStart::default() };
            self.events.publish("/tasks/start", "containerd.events.TaskStart", &event);
            init.phase.set(Phase::Running);
        } else {
            init.phase.set(Phase::Created);
        }
        self.settle_early(container, init);
        started.map(drop).map_err(|error| refusal(&error))
    }

    async fn start_added(
        self: &Rc<Self>,
        container: &Rc<Container>,
        process: &Rc<Process>,
    ) -> Result<(), Refusal> {
        if process.phase.get() != Phase::Created {
            return Err(wrong("start", process.phase.get()));
        }
        if container.is_paused() {
            return Err(Refusal::new(Code::FAILED_PRECONDITION, "cannot exec in a paused container"));
        }
        if container.is_ending.get() || container.init.phase.get() == Phase::Stopped {
            return Err(Refusal::new(Code::FAILED_PRECONDITION, "container is not running"));
        }
        process.phase.set(Phase::Starting);
        container.running.set(container.running.get() + 1);
        let started = self.execute(container, process).await;
        match started {
            Ok(()) => {
                let event = TaskExecStarted {
                    container_id: container.id.clone(),
                    exec_id: process.exec_id.clone(),
                    pid: process.number(),
                    ..TaskExecStarted::default()
                };
                self.events.publish("/tasks/exec-started", "containerd.events.TaskExecStarted", &event);
                process.phase.set(Phase::Running);
                self.settle_early(container, process);
                Ok(())
            }
            Err(refusal) => {
                process.end(Exited { status: NOT_STARTED, at: Moment::now() });
                process.close_streams().await;
                container.one_less();
                Err(refusal)
            }
        }
    }

    async fn execute(
        self: &Rc<Self>,
        container: &Rc<Container>,
        process: &Rc<Process>,
    ) -> Result<(), Refusal> {
        let ends = self.lay(container, process, &process.exec_id).await?;
        let order = Exec { process: process.document.clone(), terminal: process.given.terminal };
        let begun = container.task.exec(order, &ends.streams()).map_err(|error| refusal(&error))?;
        self.bear(container, process, &begun).await
    }

    pub(super) fn exec(&self, asked: ExecProcessRequest) -> Result<Empty, Refusal> {
        let container = self.container(&asked.id)?;
        let mut added = container.added.borrow_mut();
        if added.contains_key(&asked.exec_id) {
            return Err(Refusal::new(Code::ALREADY_EXISTS, format!("id {}: already exists", asked.exec_id)));
        }
        let phase = container.init.phase.get();
        if phase == Phase::Stopped || container.is_ending.get() || container.is_paused() {
            return Err(Refusal::new(
                Code::FAILED_PRECONDITION,
                "cannot exec in a container that does not run",
            ));
        }
        let wrong = |why: &str| Refusal::new(Code::INVALID_ARGUMENT, why);
        if asked.exec_id.is_empty() {
            return Err(wrong("exec id cannot be empty"));
        }
        let document = asked.spec.0.ok_or_else(|| wrong("there is no process to execute"))?;
        if last_segment(&document.type_url) != "Process" {
            return Err(wrong("what is to be executed is no process"));
        }
        let ExecProcessRequest { exec_id, terminal, stdin, stdout, stderr, .. } = asked;
        let given = Given { stdin, stdout, stderr, terminal };
        let process = Process::new(exec_id.clone(), given, document.value, Phase::Created);
        let event = TaskExecAdded {
            container_id: container.id.clone(),
            exec_id: exec_id.clone(),
            ..TaskExecAdded::default()
        };
        added.insert(exec_id, Rc::new(process));
        self.events.publish("/tasks/exec-added", "containerd.events.TaskExecAdded", &event);
        Ok(Empty::default())
    }
}

fn layer(mount: &Mount) -> Layer {
    Layer {
        kind: mount.type_.clone(),
        source: mount.source.clone(),
        target: mount.target.clone(),
        options: mount.options.clone(),
    }
}

pub(super) fn wrong(verb: &str, phase: Phase) -> Refusal {
    let state = match phase {
        Phase::Making => "being created",
        Phase::Created => "created",
        Phase::Starting => "being started",
        Phase::Running => "running",
        Phase::Stopped => "stopped",
    };
    Refusal::new(Code::FAILED_PRECONDITION, format!("cannot {verb} a process that is {state}"))
}
