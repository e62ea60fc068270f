//! Standard streams: from what a caller names to what a process gets, and the copying between.
//!
//! A process gets pipes of ours, not the fifos: one that it leaves behind could hold a fifo open for ever, and a caller that
//! goes would end it by SIGPIPE. We hold both ends of each fifo. So nothing is lost while nobody reads, and a caller that comes
//! back to the same name goes on where it was.

mod copy;
mod logger;

use std::cell::RefCell;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use containerd_shim_protos::ttrpc::proto::Code;
use engine::Streams;
use rustix::fs::{CWD, FileType, Gid, Mode, OFlags, Uid, fchown, mkdirat, openat, stat};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::{Winsize, tcsetwinsize};
use sys::{Called, Doing, Errno, Failed};
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::timeout;

use crate::pending::Pending;
use crate::wire::Refusal;
use logger::Logger;

/// What a caller names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) stdin: String,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) terminal: bool,
}

/// Whose streams they are: for a logger, and for who may open them again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) id: &'a str,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// The ends that a process gets.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

impl Ends {
    pub(crate) fn streams(&self) -> Streams<'_> {
        Streams {
            stdin: self.stdin.as_ref().map(AsFd::as_fd),
            stdout: self.stdout.as_ref().map(AsFd::as_fd),
            stderr: self.stderr.as_ref().map(AsFd::as_fd),
            more: &[],
        }
    }
}

/// Our side of a process's streams.
#[derive(Debug, Default)]
pub(crate) struct Plumbing {
    /// Copies of what the process writes, and how many of them have not come to its end.
    outputs: RefCell<Vec<AbortHandle>>,
    speaking: Rc<Pending>,
    input: RefCell<Option<AbortHandle>>,
    /// Our own writing end of the fifo: as long as it is open the process hears of no end.
    keeper: RefCell<Option<OwnedFd>>,
    master: RefCell<Option<Rc<OwnedFd>>>,
    /// A terminal's fifos, until the terminal is there.
    waiting: RefCell<(Option<OwnedFd>, Option<Sink>)>,
    logger: RefCell<Option<Logger>>,
}

/// Where output goes: the end that is written, and the other one, held so that nobody's going is ours.
#[derive(Debug)]
pub(crate) struct Sink {
    to: OwnedFd,
    held: Option<OwnedFd>,
}

/// How long who deletes waits for output that is still to come: nobody whom the process left behind can hold us up longer.
const DRAINING: Duration = Duration::from_secs(3);

impl Plumbing {
    /// Opens what is named, and begins to copy. Whatever comes of it, [`Plumbing::close`] ends it.
    pub(crate) async fn open(&self, given: &Given, owner: Owner<'_>) -> Result<Ends, Refusal> {
        let mut ends = Ends::default();
        let failed = |failed: Failed| Refusal::new(Code::UNKNOWN, format!("open the streams: {failed}"));
        match given.stdout.split_once("://") {
            None | Some(("fifo", _)) => {
                let name = |name: &str| name.strip_prefix("fifo://").unwrap_or(name).to_owned();
                let (stdout, stderr) = (name(&given.stdout), name(&given.stderr));
                if given.terminal {
                    self.waiting.borrow_mut().1 = sink(&stdout).map_err(failed)?;
                } else {
                    ends.stdout = self.output(&stdout, owner).map_err(failed)?;
                    ends.stderr = if stderr == stdout && !is_fifo(&stderr) {
                        duplicate(ends.stdout.as_ref()).map_err(failed)?
                    } else {
                        self.output(&stderr, owner).map_err(failed)?
                    };
                }
            }
            Some(("file", path)) => {
                let file = log_file(path).map_err(failed)?;
                if given.terminal {
                    self.waiting.borrow_mut().1 = Some(Sink { to: file, held: None });
                } else {
                    ends.stderr = duplicate(Some(&file)).map_err(failed)?;
                    ends.stdout = Some(file);
                }
            }
            Some((scheme @ ("binary" | "binary-v2"), rest)) => {
                let (logger, stdout, stderr) = Logger::begin(rest, owner).map_err(failed)?;
                let logger = self.logger.borrow_mut().insert(logger).clone();
                logger.ready(scheme == "binary-v2").await?;
                if given.terminal {
                    self.waiting.borrow_mut().1 = Some(Sink { to: stdout, held: None });
                } else {
                    (ends.stdout, ends.stderr) = (Some(stdout), Some(stderr));
                }
            }
            Some(("ttrpc+unix", _)) => {
                return Err(Refusal::new(
                    Code::UNIMPLEMENTED,
                    "streaming of standard streams is not implemented yet",
                ));
            }
            Some((scheme, _)) => {
                return Err(Refusal::new(Code::INVALID_ARGUMENT, format!("unknown STDIO scheme {scheme}")));
            }
        }
        if !given.stdin.is_empty() {
            let (from, keeper) = source(&given.stdin).map_err(failed)?;
            *self.keeper.borrow_mut() = Some(keeper);
            if given.terminal {
                self.waiting.borrow_mut().0 = Some(from);
            } else {
                ends.stdin = Some(self.input(from, owner).map_err(failed)?);
            }
        }
        Ok(ends)
    }

    /// The end that a process writes to.
    fn output(&self, name: &str, owner: Owner<'_>) -> Result<Option<OwnedFd>, Failed> {
        if !name.is_empty() && !is_fifo(name) {
            return existing(name).map(Some);
        }
        let Some(sink) = sink(name)? else { return Ok(None) };
        let (ours, theirs) = pipe(owner)?;
        nonblocking(&ours)?;
        self.copy_out(async move { copy::spliced(ours, sink).await });
        Ok(Some(theirs))
    }

    /// The end that a process reads from.
    fn input(&self, from: OwnedFd, owner: Owner<'_>) -> Result<OwnedFd, Failed> {
        let (theirs, ours) = pipe(owner)?;
        nonblocking(&ours)?;
        let task = spawn_local(async move { drop(copy::spliced(from, Sink { to: ours, held: None }).await) });
        *self.input.borrow_mut() = Some(task.abort_handle());
        Ok(theirs)
    }

    fn copy_out(&self, copying: impl Future<Output = Option<Sink>> + 'static) {
        let one = self.speaking.one();
        let task = spawn_local(async move {
            let sink = copying.await;
            // Nobody waits for a reader who may never come.
            drop(one);
            if let Some(sink) = sink {
                copy::left(sink).await;
            }
        });
        self.outputs.borrow_mut().push(task.abort_handle());
    }

    /// The terminal is there: copies between it and what was opened.
    pub(crate) fn attach(&self, master: OwnedFd) -> Result<(), Failed> {
        nonblocking(&master)?;
        let master = Rc::new(master);
        let (from, to) = std::mem::take(&mut *self.waiting.borrow_mut());
        let out = Rc::clone(&master);
        // Read it is in any case, or the process could not write.
        self.copy_out(async move { copy::shown(&out, to).await });
        if let Some(from) = from {
            let master = Rc::clone(&master);
            let task = spawn_local(async move { copy::typed(from, &master).await });
            *self.input.borrow_mut() = Some(task.abort_handle());
        }
        *self.master.borrow_mut() = Some(master);
        Ok(())
    }

    /// Tells the size of the window to a terminal, if there is one.
    pub(crate) fn resize(&self, width: u32, height: u32) -> Result<(), Failed> {
        let master = self.master.borrow();
        let Some(master) = master.as_ref() else { return Ok(()) };
        let short = |size: u32| u16::try_from(size).unwrap_or(u16::MAX);
        let size = Winsize { ws_row: short(height), ws_col: short(width), ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&**master, size).called(|| format!("ioctl(TIOCSWINSZ, {height}, {width})"))
    }

    /// Nothing more comes from us: standard input ends once its last writer has gone, and what was written before was read.
    pub(crate) fn close_stdin(&self) {
        self.keeper.borrow_mut().take();
    }

    /// Waits until what the process has written is where it should be, but not for ever.
    pub(crate) async fn drain(&self) {
        // Somebody who was left behind holds a stream open: it is cut.
        let _cut = timeout(DRAINING, self.speaking.over()).await;
    }

    /// Ends everything.
    pub(crate) async fn close(&self) {
        self.close_stdin();
        self.input.borrow_mut().take().iter().for_each(AbortHandle::abort);
        self.outputs.borrow_mut().drain(..).for_each(|task| task.abort());
        *self.waiting.borrow_mut() = (None, None);
        self.master.borrow_mut().take();
        let logger = self.logger.borrow_mut().take();
        if let Some(logger) = logger {
            logger.end().await;
        }
    }
}

fn pipe(owner: Owner<'_>) -> Result<(OwnedFd, OwnedFd), Failed> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).called(|| "pipe2()")?;
    if (owner.uid, owner.gid) != (0, 0) {
        // Both ends are of one inode.
        let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
        fchown(&reader, Some(uid), Some(gid)).called(|| "fchown(pipe)")?;
    }
    Ok((reader, writer))
}

fn nonblocking(fd: &OwnedFd) -> Result<(), Failed> {
    rustix::io::ioctl_fionbio(fd, true).called(|| "ioctl(FIONBIO)")
}

fn duplicate(fd: Option<&OwnedFd>) -> Result<Option<OwnedFd>, Failed> {
    fd.map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 3).called(|| "fcntl(F_DUPFD_CLOEXEC)")).transpose()
}

fn is_fifo(name: &str) -> bool {
    stat(name).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo)
}

/// Both ends of a fifo that output goes to; none where none is named. The end that reads comes first: neither waits then.
fn sink(name: &str) -> Result<Option<Sink>, Failed> {
    if name.is_empty() {
        return Ok(None);
    }
    if !is_fifo(name) {
        return Ok(Some(Sink { to: existing(name)?, held: None }));
    }
    let held = open(name, OFlags::RDONLY)?;
    Ok(Some(Sink { to: open(name, OFlags::WRONLY)?, held: Some(held) }))
}

/// A fifo that input comes from, and our own writing end of it.
fn source(name: &str) -> Result<(OwnedFd, OwnedFd), Failed> {
    Ok((open(name, OFlags::RDONLY)?, open(name, OFlags::WRONLY)?))
}

fn open(name: &str, how: OFlags) -> Result<OwnedFd, Failed> {
    let flags = how | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    openat(CWD, name, flags, Mode::empty()).called(|| format!("open({name:?})"))
}

/// A file, or whatever it is but a fifo, that is written at its end.
fn existing(name: &str) -> Result<OwnedFd, Failed> {
    appended(name, OFlags::empty())
}

/// Whatever it is, opening it does not wait; writing to it may.
fn appended(name: &str, more: OFlags) -> Result<OwnedFd, Failed> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = openat(CWD, name, flags | more, Mode::from_raw_mode(0o644));
    let file = file.called(|| format!("open({name:?})"))?;
    rustix::io::ioctl_fionbio(&file, false).called(|| "ioctl(FIONBIO)")?;
    Ok(file)
}

/// A file that is written at its end, with the directories above it.
fn log_file(path: &str) -> Result<OwnedFd, Failed> {
    for (at, _) in path.match_indices('/').skip(1) {
        let above = path.get(..at).unwrap_or_default();
        match mkdirat(CWD, above, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(Failed::call(format!("mkdir({above:?})"), errno)),
        }
    }
    appended(path, OFlags::CREATE).doing(|| "open a log")
}
