//! A task, and what can be asked of it.

use std::os::fd::BorrowedFd;

use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use sys::{Called, Failed};

use crate::layers::Layer;
use crate::{Error, Here, Watched, Work};

/// One container, wherever it is held. Nothing but this crate tells one kind from another.
#[derive(Clone, Debug)]
pub enum Task {
    /// On this kernel, in namespaces.
    Here(Here),
}

/// The standard streams of a process; the caller's own for each that is none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Streams<'a> {
    /// What it reads.
    pub stdin: Option<BorrowedFd<'a>>,
    /// What it writes.
    pub stdout: Option<BorrowedFd<'a>>,
    /// What it complains to.
    pub stderr: Option<BorrowedFd<'a>>,
    /// What else it has open, from descriptor 3 on. Only [`Task::create`] takes them, for a program without a terminal.
    pub more: &'a [BorrowedFd<'a>],
}

impl Streams<'_> {
    /// Makes them the calling process's own, whose streams are the null device.
    pub(crate) fn take(&self) -> Result<(), Failed> {
        let call = || "dup2()";
        self.stdin.map_or(Ok(()), dup2_stdin).called(call)?;
        self.stdout.map_or(Ok(()), dup2_stdout).called(call)?;
        self.stderr.map_or(Ok(()), dup2_stderr).called(call)
    }
}

/// What is asked of [`Task::create`].
#[derive(Clone, Debug, Default)]
pub struct Create {
    /// The bundle's directory, absolute.
    pub bundle: String,
    /// What is mounted on the bundle's `rootfs`, in order; nothing where the document's root is somebody else's work.
    pub layers: Vec<Layer>,
    /// The control groups are made by the host's systemd, whose bus [`Here`] tells; by our own hands without it.
    pub systemd: bool,
    /// Keep our session keyring.
    pub keep_keyring: bool,
    /// Move the root instead of pivoting into it.
    pub no_pivot: bool,
    /// Whether the first process's number is written to the bundle's `init.pid`.
    pub pid_file: bool,
    /// Whether the program has a terminal, whose master end comes to us.
    pub terminal: bool,
    /// Whether the program is looked after by a first process of ours: it dies of signals as it would on the host, and who
    /// loses his parent there is reaped. The last of [`Streams::more`] is then not the program's: [`sys::Exit::heard`]
    /// understands what is said over it before the first process ends.
    pub attended: bool,
    /// Whether the program runs once the work is done, and nobody has to ask for that by [`Task::start`].
    pub at_once: bool,
}

/// What is asked of [`Task::exec`].
#[derive(Clone, Debug, Default)]
pub struct Exec {
    /// The document of the process, JSON.
    pub process: Vec<u8>,
    /// Whether it has a terminal, in place of the document's word.
    pub terminal: bool,
}

impl Task {
    /// Makes the container: mounts its root, and bears its first process, which waits for [`Task::start`] unless it is to
    /// run at once.
    pub fn create(&self, order: Create, streams: &Streams<'_>) -> Result<Work, Error> {
        self.create_after(order, streams, || Ok(()))
    }

    /// The same, after the worker has made the bundle that the order names: what may block there holds up nobody else.
    pub fn create_after(
        &self,
        order: Create,
        streams: &Streams<'_>,
        prepare: impl FnOnce() -> Result<(), Error>,
    ) -> Result<Work, Error> {
        let Self::Here(here) = self;
        here.create(order, streams, prepare)
    }

    /// Lets the first process become the program.
    pub fn start(&self) -> Result<Work, Error> {
        let Self::Here(here) = self;
        here.start()
    }

    /// Runs one more process in the container.
    pub fn exec(&self, order: Exec, streams: &Streams<'_>) -> Result<Work, Error> {
        let Self::Here(here) = self;
        here.exec(order, streams)
    }

    /// Sends a signal: to the first process, or to all.
    pub fn kill(&self, signal: i32, all: bool) -> Result<Work, Error> {
        let Self::Here(here) = self;
        here.kill(signal, all)
    }

    /// Freezes all processes.
    pub fn pause(&self) -> Result<Work, Error> {
        let Self::Here(here) = self;
        here.pause()
    }

    /// Thaws all processes.
    pub fn resume(&self) -> Result<Work, Error> {
        let Self::Here(here) = self;
        here.resume()
    }

    /// Changes limits, as a document of `linux.resources` says.
    pub fn update(&self, resources: &[u8]) -> Result<Work, Error> {
        let Self::Here(here) = self;
        here.update(resources)
    }

    /// Takes away whatever there is of it, whatever state it is in; nothing is no error. With `rootfs`, what is mounted
    /// there goes too.
    pub fn delete(&self, rootfs: Option<&str>) -> Result<Work, Error> {
        let Self::Here(here) = self;
        here.delete(rootfs)
    }

    /// [`Task::delete`] by the calling process itself, which may wait for it: what was not done as asked.
    pub fn delete_now(&self, rootfs: Option<&str>) -> Result<Vec<String>, Error> {
        let Self::Here(here) = self;
        here.delete_now(rootfs)
    }

    /// Whether there is anything of it.
    pub fn is_there(&self) -> Result<bool, Error> {
        let Self::Here(here) = self;
        here.is_there()
    }

    /// Whether its first process has a pid namespace of its own, and all others die with it.
    pub fn has_own_pids(&self) -> Result<bool, Error> {
        let Self::Here(here) = self;
        here.has_own_pids()
    }

    /// Numbers of all its processes.
    pub fn processes(&self) -> Result<Vec<i32>, Error> {
        let Self::Here(here) = self;
        here.processes()
    }

    /// Its groups, for who wants to know what it uses and what happens to it.
    pub fn watched(&self) -> Result<Watched, Error> {
        let Self::Here(here) = self;
        here.watched()
    }
}
