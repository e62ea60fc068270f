//! What looks at processes, or changes those that are there.

use std::rc::Rc;

use containerd_shim_protos::api::{
    CloseIORequest, ConnectRequest, ConnectResponse, DeleteRequest, DeleteResponse, Empty, KillRequest,
    PauseRequest, PidsRequest, PidsResponse, ProcessInfo, ResizePtyRequest, ResumeRequest, StateRequest,
    StateResponse, StatsRequest, StatsResponse, Status, UpdateTaskRequest, WaitRequest, WaitResponse,
};
use containerd_shim_protos::events::task::{TaskDelete, TaskPaused, TaskResumed};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{EnumOrUnknown, Message as _, MessageField};
use containerd_shim_protos::shim::oci::ProcessDetails;
use containerd_shim_protos::ttrpc::proto::Code;
use engine::Kind;
use sys::SIGKILL;

use super::create::wrong;
use super::process::{Exited, Phase, finished};
use super::{Container, Pause, Service, refusal, work};
use crate::stats;
use crate::wire::Refusal;

/// Signals have numbers up to this one.
const LAST_SIGNAL: u32 = 64;

impl Service {
    pub(super) fn state(&self, asked: &StateRequest) -> Result<StateResponse, Refusal> {
        let container = self.container(&asked.id)?;
        let process = container.process(&asked.exec_id)?;
        let status = match (process.phase.get(), container.pause.get()) {
            (Phase::Stopped, _) => Status::STOPPED,
            (_, Pause::Pausing) => Status::PAUSING,
            (_, Pause::Yes) => Status::PAUSED,
            (Phase::Running, Pause::No) => Status::RUNNING,
            (Phase::Making | Phase::Created | Phase::Starting, Pause::No) => Status::CREATED,
        };
        let exited = process.exited.get();
        let id = if asked.exec_id.is_empty() { &container.id } else { &process.exec_id };
        Ok(StateResponse {
            id: id.clone(),
            bundle: container.bundle.clone(),
            pid: process.number(),
            status: EnumOrUnknown::new(status),
            stdin: process.given.stdin.clone(),
            stdout: process.given.stdout.clone(),
            stderr: process.given.stderr.clone(),
            terminal: process.given.terminal,
            exit_status: exited.map_or(0, |exited| exited.status),
            exited_at: exited.map_or_else(MessageField::none, Exited::at),
            exec_id: process.exec_id.clone(),
            ..StateResponse::default()
        })
    }

    pub(super) fn pids(&self, asked: &PidsRequest) -> Result<PidsResponse, Refusal> {
        let container = self.container(&asked.id)?;
        if container.init.phase.get() == Phase::Stopped {
            return Ok(PidsResponse::default());
        }
        let pids = container.task.processes().map_err(|error| refusal(&error))?;
        let processes = pids.into_iter().map(|pid| details(&container, pid)).collect::<Result<_, _>>()?;
        Ok(PidsResponse { processes, ..PidsResponse::default() })
    }

    pub(super) async fn pause(self: &Rc<Self>, asked: &PauseRequest) -> Result<Empty, Refusal> {
        let container = self.container(&asked.id)?;
        match (container.init.phase.get(), container.pause.get()) {
            (Phase::Running, Pause::No) => {}
            (Phase::Running, _) => {
                return Err(Refusal::new(Code::FAILED_PRECONDITION, "cannot pause a paused container"));
            }
            (phase, _) => return Err(wrong("pause", phase)),
        }
        container.pause.set(Pause::Pausing);
        let paused = work(container.task.pause()).await;
        container.pause.set(if paused.is_ok() { Pause::Yes } else { Pause::No });
        paused.map_err(|error| refusal(&error))?;
        let event = TaskPaused { container_id: container.id.clone(), ..TaskPaused::default() };
        self.events.publish("/tasks/paused", "containerd.events.TaskPaused", &event);
        Ok(Empty::default())
    }

    pub(super) async fn resume(self: &Rc<Self>, asked: &ResumeRequest) -> Result<Empty, Refusal> {
        let container = self.container(&asked.id)?;
        match (container.init.phase.get(), container.pause.get()) {
            (Phase::Running, Pause::Yes) => {}
            (Phase::Running, _) => {
                return Err(Refusal::new(
                    Code::FAILED_PRECONDITION,
                    "cannot resume a container that is not paused",
                ));
            }
            (phase, _) => return Err(wrong("resume", phase)),
        }
        work(container.task.resume()).await.map_err(|error| refusal(&error))?;
        container.pause.set(Pause::No);
        let event = TaskResumed { container_id: container.id.clone(), ..TaskResumed::default() };
        self.events.publish("/tasks/resumed", "containerd.events.TaskResumed", &event);
        Ok(Empty::default())
    }

    pub(super) async fn kill(self: &Rc<Self>, asked: &KillRequest) -> Result<Empty, Refusal> {
        let container = self.container(&asked.id)?;
        let process = container.process(&asked.exec_id)?;
        let signal = i32::try_from(asked.signal).ok().filter(|_| asked.signal <= LAST_SIGNAL);
        let signal = signal
            .ok_or_else(|| Refusal::new(Code::INVALID_ARGUMENT, format!("{} is no signal", asked.signal)))?;
        if process.phase.get() == Phase::Stopped {
            return Err(finished());
        }
        let is_init = asked.exec_id.is_empty();
        if !is_init || (signal != SIGKILL && !asked.all) {
            process.signal(signal)?;
            return Ok(Empty::default());
        }
        match work(container.task.kill(signal, asked.all)).await {
            Ok(_) => {
                // Who kills a frozen container thaws it.
                if signal == SIGKILL {
                    container.pause.set(Pause::No);
                }
                Ok(Empty::default())
            }
            Err(error) if matches!(error.kind(), Kind::State | Kind::NotFound) => Err(finished()),
            Err(error) => Err(refusal(&error)),
        }
    }

    pub(super) async fn delete(self: &Rc<Self>, asked: &DeleteRequest) -> Result<DeleteResponse, Refusal> {
        if asked.exec_id.is_empty() {
            self.end_creation(&asked.id).await;
        }
        let container = self.container(&asked.id)?;
        let process = container.process(&asked.exec_id)?;
        if asked.exec_id.is_empty() {
            self.delete_all(&container).await?;
        } else {
            if !matches!(process.phase.get(), Phase::Created | Phase::Stopped) {
                return Err(wrong("delete", process.phase.get()));
            }
            // Whoever deletes it a second time finds none.
            container.added.borrow_mut().remove(&asked.exec_id);
            if let Some(plumbing) = process.plumbing() {
                plumbing.drain().await;
                plumbing.close().await;
            }
        }
        let exited = process.exited.get();
        Ok(DeleteResponse {
            pid: process.number(),
            exit_status: exited.map_or(0, |exited| exited.status),
            exited_at: exited.map_or_else(MessageField::none, Exited::at),
            ..DeleteResponse::default()
        })
    }

    /// Whoever deletes what is still being created has given up waiting for it.
    async fn end_creation(&self, id: &str) {
        let container = self.containers.borrow().get(id).cloned();
        if let Some(container) = container.filter(|container| container.init.phase.get() == Phase::Making) {
            container.unwanted.notify_one();
            container.made.notified().await;
        }
    }

    async fn delete_all(self: &Rc<Self>, container: &Rc<Container>) -> Result<(), Refusal> {
        if container.is_deleting.get() {
            // Somebody else does it; there is none left once that is done.
            container.deleted.notified().await;
            return Err(Refusal::new(Code::NOT_FOUND, "container not created"));
        }
        match container.init.phase.get() {
            Phase::Created => {
                container.is_deleting.set(true);
                // It may have ended just now.
                let _gone = container.init.signal(SIGKILL);
                container.init.wait().await;
            }
            Phase::Stopped => container.is_deleting.set(true),
            phase => return Err(wrong("delete", phase)),
        }
        if let Some(plumbing) = container.init.plumbing() {
            plumbing.drain().await;
            plumbing.close().await;
        }
        let rootfs = container.has_layers.then(|| format!("{}/rootfs", container.bundle));
        match work(container.task.delete(rootfs.as_deref())).await {
            Ok(warnings) => {
                for warning in warnings {
                    self.log.warning(&format!("{}: {warning}", container.id));
                }
            }
            // The process is gone. What is left is for containerd's `delete` to try again, which it calls next.
            Err(error) => self.log.error(&format!("delete {}: {error}", container.id)),
        }
        let left: Vec<_> = container.added.borrow().values().cloned().collect();
        for process in left {
            process.close_streams().await;
        }
        self.containers.borrow_mut().remove(&container.id);
        self.publish_delete(container);
        container.deleted.notify_waiters();
        Ok(())
    }

    fn publish_delete(&self, container: &Container) {
        let exited = container.init.exited.get();
        let event = TaskDelete {
            container_id: container.id.clone(),
            pid: container.init.number(),
            exit_status: exited.map_or(0, |exited| exited.status),
            exited_at: exited.map_or_else(MessageField::none, Exited::at),
            id: container.id.clone(),
            ..TaskDelete::default()
        };
        self.events.publish("/tasks/delete", "containerd.events.TaskDelete", &event);
    }

    pub(super) fn resize(&self, asked: &ResizePtyRequest) -> Result<Empty, Refusal> {
        let process = self.container(&asked.id)?.process(&asked.exec_id)?;
        if process.phase.get() == Phase::Stopped {
            return Err(wrong("resize", Phase::Stopped));
        }
        if let Some(plumbing) = process.plumbing() {
            let resized = plumbing.resize(asked.width, asked.height);
            resized.map_err(|failed| Refusal::new(Code::UNKNOWN, failed.to_string()))?;
        }
        Ok(Empty::default())
    }

    pub(super) fn close_io(&self, asked: &CloseIORequest) -> Result<Empty, Refusal> {
        let process = self.container(&asked.id)?.process(&asked.exec_id)?;
        if asked.stdin {
            process.is_stdin_closed.set(true);
            if let Some(plumbing) = process.plumbing() {
                plumbing.close_stdin();
            }
        }
        Ok(Empty::default())
    }

    pub(super) async fn update(self: &Rc<Self>, asked: &UpdateTaskRequest) -> Result<Empty, Refusal> {
        let container = self.container(&asked.id)?;
        if container.init.phase.get() == Phase::Stopped {
            return Err(wrong("update", Phase::Stopped));
        }
        let resources = asked.resources.as_ref().map(|any| any.value.as_slice()).unwrap_or_default();
        let warnings = work(container.task.update(resources)).await.map_err(|error| refusal(&error))?;
        for warning in warnings {
            self.log.warning(&format!("{}: {warning}", container.id));
        }
        Ok(Empty::default())
    }

    pub(super) async fn wait(&self, asked: &WaitRequest) -> Result<WaitResponse, Refusal> {
        let process = self.container(&asked.id)?.process(&asked.exec_id)?;
        let exited = process.wait().await;
        Ok(WaitResponse { exit_status: exited.status, exited_at: exited.at(), ..WaitResponse::default() })
    }

    pub(super) fn stats(&self, asked: &StatsRequest) -> Result<StatsResponse, Refusal> {
        let container = self.container(&asked.id)?;
        let gone = |_| Refusal::new(Code::NOT_FOUND, "cgroup does not exist");
        let watched = container.task.watched().map_err(gone)?;
        let all = watched.statistics().map_err(|error| Refusal::new(Code::UNKNOWN, error.to_string()))?;
        let message =
            stats::message(&all, watched.is_unified()).map_err(|why| Refusal::new(Code::INTERNAL, why))?;
        Ok(StatsResponse { stats: MessageField::some(message), ..StatsResponse::default() })
    }

    /// Always answered: containerd finds out by it whether we are there.
    pub(super) fn connect(&self, asked: &ConnectRequest) -> ConnectResponse {
        let task_pid = self.container(&asked.id).map_or(0, |container| container.init.number());
        ConnectResponse {
            shim_pid: std::process::id(),
            task_pid,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..ConnectResponse::default()
        }
    }

    /// Nothing is done as long as any task is there.
    pub(super) fn shutdown(&self) -> Empty {
        if self.containers.borrow().is_empty() {
            self.end();
        }
        Empty::default()
    }
}

fn details(container: &Container, pid: i32) -> Result<ProcessInfo, Refusal> {
    let added = container.added.borrow();
    let named =
        added.values().find(|process| process.pid.get() == pid && process.phase.get() != Phase::Stopped);
    let info = named.map(|process| {
        let details = ProcessDetails { exec_id: process.exec_id.clone(), ..ProcessDetails::default() };
        let value = details.write_to_bytes().map_err(|why| Refusal::new(Code::INTERNAL, why.to_string()))?;
        let type_url = "containerd.runc.v1.ProcessDetails".to_owned();
        Ok(MessageField::some(Any { type_url, value, ..Any::default() }))
    });
    let info = info.transpose()?.unwrap_or_else(MessageField::none);
    Ok(ProcessInfo { pid: u32::try_from(pid).unwrap_or(0), info, ..ProcessInfo::default() })
}
