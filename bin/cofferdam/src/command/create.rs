//! `create` and `run`.

use container::{Containers, Created, Order, Removed};

use super::{Complaint, Outcome, absolute, text};
use crate::activation;
use crate::invocation::{Create, Global, Run};
use crate::log::Log;

fn order(
    global: &Global,
    containers: &Containers,
    create: Create,
    gated: bool,
    detached: bool,
) -> Result<Order, Complaint> {
    Ok(Order {
        rootless: global.rootless,
        systemd: super::systemd(global)?,
        notify: activation::notify_socket().map(|_| containers.notify_directory(&create.id)),
        bundle: create.bundle.as_deref().map(|path| text(path, "--bundle")).transpose()?,
        keep_keyring: create.no_new_keyring,
        no_pivot: create.no_pivot,
        preserve_fds: create.preserve_fds,
        attended: false,
        listen_fds: activation::listen_fds(),
        pid_file: create.pid_file.as_deref().map(|path| absolute(path, "--pid-file")).transpose()?,
        console_socket: create
            .console_socket
            .as_deref()
            .map(|path| text(path, "--console-socket"))
            .transpose()?,
        console_line: false,
        pidfd_socket: create.pidfd_socket.as_deref().map(|path| text(path, "--pidfd-socket")).transpose()?,
        id: create.id,
        // Who creates is init's parent, or knows who is; who runs it detached leaves, and nobody is.
        keep_status: create.keep_status || (detached && !gated),
        gated,
        detached,
    })
}

pub(super) fn create(global: &Global, create: Create, log: &mut Log) -> Outcome {
    let containers = super::containers(global)?;
    sys::seal()?;
    let what = format!("create {}", create.id);
    let order = order(global, &containers, create, true, true)?;
    let created = make(&containers, &order, log).map_err(|error| error.while_doing(&what))?;
    // Our standard error is the container's: what engines read there, and keep as its output, it says alone.
    created.warnings.iter().for_each(|warning| log.note(warning));
    created.leave()?;
    Ok(0)
}

/// Plans and creates.
fn make(containers: &Containers, order: &Order, log: &mut Log) -> Result<Created, container::Error> {
    let plan = containers.plan(order)?;
    let (steps, acts) = (plan.forerunner.len() + plan.steps.len(), plan.acts.len());
    log.debug(|| format!("container {}: planned, {steps} steps inside and {acts} acts outside", plan.id));
    for step in &plan.steps {
        if let plan::Step::Filter(filter) = step {
            log.debug(|| format!("seccomp filter flags: {}", filter.flags));
            let is_new = plan.acts.iter().any(|act| matches!(act, plan::Act::Remember(_)));
            let (length, how) = (filter.program.len(), if is_new { "compiled" } else { "kept from before" });
            log.debug(|| format!("seccomp filter: {length} instructions, {how}"));
        }
    }
    let created = containers.create(&plan)?;
    log.debug(|| format!("container {}: created, init is {}", created.id, created.pid));
    Ok(created)
}

pub(super) fn start(global: &Global, id: &str) -> Outcome {
    let started = super::containers(global)?.start(id, activation::notify_socket().as_deref());
    super::told("start", id, started)
}

pub(super) fn run(global: &Global, run: Run, log: &mut Log) -> Outcome {
    let containers = super::containers(global)?;
    sys::seal()?;
    let what = format!("run {}", run.create.id);
    let order = order(global, &containers, run.create, false, run.detach)?;
    if !run.detach && !run.no_subreaper {
        containers.adopt_orphans()?;
    }
    let status = supervise(&containers, &order, run.detach, run.keep, log)
        .map_err(|error| error.while_doing(&what))?;
    Ok(status)
}

/// Creates a container whose program runs at once, and stays with it unless told not to.
pub(super) fn supervise(
    containers: &Containers,
    order: &Order,
    detach: bool,
    keep: bool,
    log: &mut Log,
) -> Result<u8, container::Error> {
    let mut created = make(containers, order, log)?;
    created.warnings.iter().for_each(|warning| log.warning(warning));
    if order.notify.is_some()
        && let Some(address) = activation::notify_socket()
        && let Err(error) = created.report_to(&address)
    {
        // The program runs, and need not stop for that.
        log.warning(&error.to_string());
    }
    if detach {
        created.leave()?;
        return Ok(0);
    }
    let exit = containers.supervise(&mut created);
    if let Ok(exit) = &exit {
        log.debug(|| format!("container {}: ended with {}", order.id, exit.code()));
    }
    if keep {
        exit.as_ref().map_or(Ok(()), |exit| containers.keep(&order.id, *exit))?;
    } else if let Removed::Whole(warnings) = containers.delete(&order.id, true)? {
        for warning in warnings {
            log.warning(&warning);
        }
    }
    Ok(exit?.code())
}
