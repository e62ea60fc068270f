//! Between the guard's words and the client's.

use package::Manifest;
use wire::{Container, Error, Start, Status};

use crate::words::{self, Command, Failure, Kind};

/// What runs in place of what the manifest says; none where that is what runs.
pub(super) fn command(manifest: &Manifest, start: &Start) -> Option<Command> {
    if start.is_plain() {
        return None;
    }
    let own = manifest.init.as_deref().unwrap_or_default();
    let init = start.init.as_ref().map_or_else(|| own.to_owned(), |init| init.replace("<INIT>", own));
    let arguments = if start.arguments.is_empty() { &manifest.args } else { &start.arguments };
    let mut environment = manifest.env.clone();
    environment.extend(start.environment.clone());
    Some(Command { init, arguments: arguments.clone(), environment })
}

pub(super) fn not_mounted(container: &Container, failure: Failure) -> Error {
    match failure.kind {
        Kind::Mounted | Kind::Busy => Error::MountBusy { container: container.clone() },
        Kind::NotInstalled => Error::InvalidContainer { container: container.clone() },
        _ => Error::unexpected(failure.while_doing(&format!("mount {container}"))),
    }
}

pub(super) fn not_unmounted(container: &Container, failure: Failure) -> Error {
    match failure.kind {
        Kind::NotMounted | Kind::Mounted | Kind::Busy | Kind::Running => {
            Error::UmountBusy { container: about(container, &failure) }
        }
        Kind::NotInstalled => Error::InvalidContainer { container: container.clone() },
        _ => Error::unexpected(failure),
    }
}

pub(super) fn not_started(container: &Container, failure: Failure) -> Error {
    match failure.kind {
        Kind::NotInstalled => Error::InvalidContainer { container: container.clone() },
        Kind::Running => Error::StartContainerStarted { container: about(container, &failure) },
        _ => Error::StartContainerFailed { container: container.clone(), error: failure.text },
    }
}

pub(super) fn not_signalled(container: &Container, failure: Failure) -> Error {
    match failure.kind {
        Kind::NotRunning => Error::StopContainerNotStarted { container: container.clone() },
        _ => Error::unexpected(failure),
    }
}

pub(super) fn not_installed(repository: String, failure: Failure) -> Error {
    let container = failure.container.as_deref().and_then(|name| name.parse().ok());
    match (failure.kind, container) {
        (Kind::NoRepository, _) => Error::InvalidRepository { repository },
        (Kind::Duplicate, Some(container)) => Error::InstallDuplicate { container },
        _ => Error::unexpected(failure),
    }
}

/// Whom a failure names, or the one that was asked for.
fn about(container: &Container, failure: &Failure) -> Container {
    let other = failure.container.as_deref().and_then(|name| name.parse().ok());
    other.unwrap_or_else(|| container.clone())
}

impl From<words::Status> for Status {
    fn from(status: words::Status) -> Self {
        match status {
            words::Status::Exit(code) => Self::Exit { code },
            words::Status::Signal(signal) => Self::Signalled { signal: signal.unsigned_abs() },
        }
    }
}
