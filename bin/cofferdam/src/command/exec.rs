//! `exec`.

use container::{Containers, ExecOrder};

use super::{Complaint, Outcome, absolute, text};
use crate::invocation::Exec;
use crate::log::Log;

/// The status of a failure of our own, which no program's failure is likely to be.
pub(super) const FAILURE: u8 = 255;

pub(super) fn exec(containers: &Containers, exec: Exec, log: &mut Log) -> Outcome {
    run(containers, exec, log).map_err(|complaint| Complaint { status: FAILURE, ..complaint })
}

fn run(containers: &Containers, exec: Exec, log: &mut Log) -> Outcome {
    sys::seal()?;
    let what = format!("exec {}", exec.id);
    let detach = exec.detach;
    let order = ExecOrder {
        document: exec.process.as_deref().map(|path| text(path, "--process")).transpose()?,
        pid_file: exec.pid_file.as_deref().map(|path| absolute(path, "--pid-file")).transpose()?,
        console_socket: exec
            .console_socket
            .as_deref()
            .map(|path| text(path, "--console-socket"))
            .transpose()?,
        pidfd_socket: exec.pidfd_socket.as_deref().map(|path| text(path, "--pidfd-socket")).transpose()?,
        id: exec.id,
        args: exec.command,
        cwd: exec.cwd,
        env: exec.env,
        uid: exec.uid,
        gid: exec.gid,
        additional_gids: exec.additional_gids,
        apparmor: exec.apparmor,
        process_label: exec.process_label,
        capabilities: exec.capabilities,
        no_new_privileges: exec.no_new_privileges,
        preserve_fds: exec.preserve_fds,
        cgroups: exec.cgroups,
        ignore_paused: exec.ignore_paused,
        terminal: exec.tty,
        detached: detach,
        text: None,
        console_line: false,
    };
    let mut run = || {
        let executed = containers.exec(&order)?;
        log.debug(|| format!("container {}: process {} executes", order.id, executed.pid));
        executed.warnings.iter().for_each(|warning| log.warning(warning));
        if detach {
            executed.leave()?;
            return Ok(0);
        }
        Ok(executed.supervise()?.code())
    };
    run().map_err(|error: container::Error| error.while_doing(&what).into())
}
