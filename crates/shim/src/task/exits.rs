//! Exits: heard of through the pidfd of each process, and told in their order.
//!
//! A process that ends while it is still being made or started leaves its exit behind in its record (`early`); whoever makes or
//! starts it tells first what came first, and then that. The exit of the first process comes last of all: it waits for those of
//! the others, and takes them with it where the kernel does not.

use std::os::fd::AsFd;
use std::rc::Rc;

use containerd_shim_protos::events::task::TaskExit;
use sys::{Pidfd, SIGKILL};
use tokio::task::spawn_local;

use super::process::{Exited, Phase, Process};
use super::{Container, Service, work};
use crate::events::EXIT;
use crate::ready::to_read;

impl Service {
    /// A child was born: it is waited for from now on.
    pub(super) fn adopt(
        self: &Rc<Self>,
        container: &Rc<Container>,
        process: &Rc<Process>,
        pid: i32,
        handle: Pidfd,
    ) {
        self.children.add(pid);
        let handle = Rc::new(handle);
        process.pid.set(pid);
        *process.handle.borrow_mut() = Some(Rc::clone(&handle));
        let (service, container, process) = (Rc::clone(self), Rc::clone(container), Rc::clone(process));
        spawn_local(async move {
            match reaped(&handle).await {
                Ok(exited) => {
                    service.children.remove(pid, &service.log);
                    service.ended(&container, &process, exited).await;
                }
                Err(why) => service.log.error(&format!("wait for {pid}: {why}")),
            }
        });
    }

    async fn ended(self: &Rc<Self>, container: &Rc<Container>, process: &Rc<Process>, exited: Exited) {
        match process.phase.get() {
            Phase::Making | Phase::Starting => process.early.set(Some(exited)),
            Phase::Created | Phase::Running => self.settle(container, process, exited).await,
            // It could not be started, and that was told.
            Phase::Stopped => {}
        }
    }

    /// Tells an exit that was seen too early, if there is one, now that it is not.
    pub(super) fn settle_early(self: &Rc<Self>, container: &Rc<Container>, process: &Rc<Process>) {
        if let Some(exited) = process.early.take() {
            let (service, container, process) = (Rc::clone(self), Rc::clone(container), Rc::clone(process));
            spawn_local(async move { service.settle(&container, &process, exited).await });
        }
    }

    async fn settle(self: &Rc<Self>, container: &Rc<Container>, process: &Rc<Process>, exited: Exited) {
        if process.exec_id.is_empty() {
            self.end_all(container).await;
        }
        process.end(exited);
        let id = if process.exec_id.is_empty() { &container.id } else { &process.exec_id };
        let event = TaskExit {
            container_id: container.id.clone(),
            id: id.clone(),
            pid: process.number(),
            exit_status: exited.status,
            exited_at: exited.at(),
            ..TaskExit::default()
        };
        self.events.publish(EXIT, "containerd.events.TaskExit", &event);
        if !process.exec_id.is_empty() {
            container.one_less();
        }
    }

    /// The first process is no more: nobody is added from now on, and all others go before that is told.
    async fn end_all(self: &Rc<Self>, container: &Rc<Container>) {
        container.is_ending.set(true);
        let is_shared = !container.has_own_pids.get();
        if (is_shared || container.is_paused())
            && let Err(error) = work(container.task.kill(SIGKILL, true)).await
        {
            self.log.warning(&format!("kill what is left of {}: {error}", container.id));
        }
        while container.running.get() > 0 {
            container.all_over.notified().await;
        }
        let watching = container.memory.borrow_mut().take();
        if let Some(watching) = watching {
            watching.end().await;
        }
    }
}

async fn reaped(handle: &Pidfd) -> Result<Exited, String> {
    let ready = to_read(handle.as_fd()).map_err(|why| why.to_string())?;
    drop(ready.readable().await.map_err(|why| why.to_string())?);
    handle.reap().map(Exited::now).map_err(|failed| failed.to_string())
}
