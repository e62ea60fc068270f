//! `delete`: what a server left that is gone, or nothing.

use std::path::Path;

use containerd_shim_protos::api::DeleteResponse;
use containerd_shim_protos::protobuf::{Message as _, MessageField};
use engine::{Here, Task};

use crate::arguments::Arguments;
use crate::stats::timestamp;
use crate::task::ROOT_FILE;
use crate::{Surroundings, bootstrap, info, start, state_root};

/// As a shell tells of a process that SIGKILL has ended.
const KILLED: u32 = 137;

pub(crate) fn delete(arguments: &Arguments, surroundings: &Surroundings) -> Result<(), String> {
    let id = &arguments.id;
    let here = std::env::current_dir().map_err(|why| format!("delete {id}: getcwd(): {why}"))?;
    let bundle = here.parent().unwrap_or(Path::new("/")).join(id);
    let text = |name: &str| std::fs::read_to_string(bundle.join(name)).unwrap_or_default();
    let prefix = text(ROOT_FILE);
    let mask = sys::block_signals().map_err(|failed| failed.to_string())?;
    let task = Task::Here(Here {
        root: state_root(prefix.trim_end(), &arguments.namespace),
        id: id.clone(),
        mask,
        bus: surroundings.bus.clone(),
    });
    let rootfs = bundle.join("rootfs").to_string_lossy().into_owned();
    match task.delete_now(Some(&rootfs)) {
        Ok(warnings) => warnings.iter().for_each(|warning| complain(warning)),
        // containerd keeps the bundle where we fail, and calls nobody again: it is told, and goes on.
        Err(error) => complain(&format!("delete {id}: {error}")),
    }
    let socket = std::fs::read(bundle.join("address")).ok().and_then(|answer| bootstrap::socket_of(&answer));
    if let Some(socket) = socket
        && let Err(failed) = start::withdraw(&socket)
    {
        complain(&format!("delete {id}: {failed}"));
    }
    let answer = DeleteResponse {
        pid: text("init.pid").trim().parse().unwrap_or(0),
        exit_status: KILLED,
        exited_at: MessageField::some(timestamp(state::Moment::now())),
        ..DeleteResponse::default()
    };
    info::tell(&answer.write_to_bytes().map_err(|why| why.to_string())?)
}

/// containerd prints what comes here as a warning of its own.
fn complain(what: &str) {
    // Nobody may be left to hear it.
    let _unheard = rustix::io::write(rustix::stdio::stderr(), format!("{what}\n").as_bytes());
}
