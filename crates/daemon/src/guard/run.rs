//! A container: from a package that is mounted to a program that runs, and to nothing again.
//!
//! ```text
//! start ─▶ Making ─────────────────────────────────────────▶ Running ─▶ Ending ─▶ gone
//!             ├────▶ Watching ─▶ Accompanying ─▶ Starting ───▲             ▲
//!             └───────────┴───────────┴─────────────┴─ what fails ─────────┘
//! ```
//!
//! Each arrow is a worker's end, or the program's. One worker makes a container and lets its program run; where its memory
//! is to be watched, or somebody is to be beside it, the program waits until they are there.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use engine::{Create, Streams, Task, Work};
use package::places::{lacking, survey};
use package::{Manifest, Mount, RESERVED};
use path::{Root, open_host};
use rustix::fs::{OFlags, readlink};
use rustix::pipe::{PipeFlags, pipe_with};
use sys::{Called as _, Errno, Exit, Failed, Pidfd};

use super::Asked;
use super::house::{House, provide};
use super::output::{self, Output};
use super::sockets::Sockets;
use crate::words::{Command, Failure, Kind, Start, Status};

/// A container that is there, in whatever state.
#[derive(Debug)]
pub(super) struct Container {
    /// `NAME:VERSION` of its package.
    pub(super) package: String,
    /// Those that lend it their directories, by target.
    pub(super) resources: BTreeMap<String, String>,
    pub(super) task: Task,
    pub(super) phase: Phase,
    /// Who waits to hear that it runs.
    pub(super) asked: Option<Asked>,
    /// Which talker that is, or was.
    pub(super) round: u64,
    /// Its first process, until that was reaped.
    pub(super) init: Option<(i32, Pidfd)>,
    pub(super) pid: i32,
    pub(super) since: Instant,
    /// Whether somebody has asked it to end.
    pub(super) was_asked: bool,
    /// How the program ended.
    pub(super) status: Option<Status>,
    /// Where its attendant says that, until it was heard.
    told: Option<OwnedFd>,
    /// Why it was not started.
    pub(super) failure: Option<Failure>,
    pub(super) outputs: BTreeMap<&'static str, Output>,
    /// Programs of `debug.commands` that are there, and how many are not yet.
    pub(super) companions: Vec<Work>,
    pub(super) awaited: usize,
    /// Whether its program waits until somebody watches its memory.
    pub(super) awaits_watch: bool,
    /// Whether somebody still does.
    pub(super) is_watched: bool,
    pub(super) is_frozen: bool,
    pub(super) bundle: String,
    _sockets: Sockets,
}

/// What it is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Making,
    Watching,
    Accompanying,
    Starting,
    Running,
    Ending,
}

/// What a container needs that the caller has found.
pub(super) struct Order<'a> {
    pub(super) manifest: Manifest,
    pub(super) start: &'a Start,
    pub(super) console: Option<OwnedFd>,
    pub(super) null: BorrowedFd<'a>,
    /// Whether others are to be there before its program runs.
    pub(super) is_accompanied: bool,
    pub(super) asked: Asked,
}

impl Container {
    /// Begins to make it: what is left to do, a worker does.
    pub(super) fn begin(house: &House, order: Order<'_>) -> Result<(Self, Work), Failure> {
        let Order { mut manifest, start, console, null, is_accompanied, asked } = order;
        if let Some(command) = &start.command {
            replace(&mut manifest, command)?;
        }
        let mut sockets = Sockets::make(&house.sockets, &manifest)?;
        let [stdout, stderr] = [(manifest.io.stdout, false), (manifest.io.stderr, true)]
            .map(|(way, is_stderr)| output::open(way, is_stderr, &start.container));
        let (stdout, stderr) = (stdout?, stderr?);
        let (end, theirs) = pipe_with(PipeFlags::CLOEXEC).called(|| "pipe2()")?;
        rustix::io::ioctl_fionbio(&end, true).called(|| "ioctl(FIONBIO)")?;
        let lent = console.iter().map(AsFd::as_fd).chain(sockets.handles());
        let more: Vec<BorrowedFd<'_>> = lent.chain([theirs.as_fd()]).collect();
        let streams = Streams {
            stdin: Some(null),
            stdout: Some(stdout.as_ref().map_or(null, |(end, _)| end.as_fd())),
            stderr: Some(stderr.as_ref().map_or(null, |(end, _)| end.as_fd())),
            more: &more,
        };
        let bundle = house.bundle(&manifest.name);
        let task = house.task(&manifest.name);
        let awaits_watch = manifest.cgroups.as_ref().is_some_and(|cgroups| cgroups.oom_monitor);
        let at_once = !awaits_watch && !is_accompanied;
        let create = Create { bundle: bundle.clone(), attended: true, at_once, ..Create::default() };
        let has_console = console.is_some();
        let work = task.create_after(create, &streams, || {
            prepare(house, &manifest, start, has_console)
                .map_err(|error| engine::Error::new(engine::Kind::Invalid, error.to_string()))
        })?;
        sockets.hand_over();
        let outputs = [("stdout", stdout), ("stderr", stderr)];
        let outputs = outputs.into_iter().filter_map(|(name, stream)| Some((name, stream?.1))).collect();
        let container = Self {
            package: start.container.clone(),
            resources: start.resources.clone(),
            task,
            phase: Phase::Making,
            was_asked: false,
            asked: Some(asked),
            round: asked.round,
            init: None,
            pid: 0,
            since: Instant::now(),
            status: None,
            told: Some(end),
            failure: None,
            outputs,
            companions: Vec::new(),
            awaited: 0,
            awaits_watch,
            is_watched: false,
            is_frozen: false,
            bundle,
            _sockets: sockets,
        };
        Ok((container, work))
    }
}

impl Container {
    /// Where its attendant, which is about to end then, says how a program that runs has ended.
    pub(super) fn source(&self) -> Option<BorrowedFd<'_>> {
        self.told.as_ref().filter(|_| self.phase == Phase::Running).map(AsFd::as_fd)
    }

    /// Hears how the program ended. An attendant that was killed before it could say so has hung up.
    pub(super) fn hear_end(&mut self) {
        let Some(told) = &self.told else { return };
        let mut said = [0; 2];
        match rustix::io::read(told, &mut said) {
            Err(Errno::AGAIN | Errno::INTR) => return,
            length => {
                let said = said.get(..length.unwrap_or_default()).unwrap_or_default();
                self.status = self.status.or(Exit::heard(said).map(Status::from));
            }
        }
        self.told = None;
    }

    /// How the program ended, of which we know how its attendant did.
    pub(super) fn hear_end_of(&mut self, attendant: Status) {
        self.hear_end();
        self.status.get_or_insert(attendant);
    }
}

/// What runs in place of what the manifest says. What a program's environment cannot hold is refused.
fn replace(manifest: &mut Manifest, command: &Command) -> Result<(), Failure> {
    let Command { init, arguments, environment } = command;
    let texts = arguments.iter().chain(environment.keys()).chain(environment.values()).chain([init]);
    if texts.into_iter().any(|text| text.contains('\0')) {
        return Err(Failure::new(Kind::Invalid, "an argument or a variable holds a NUL byte"));
    }
    if init.is_empty() {
        return Err(Failure::new(Kind::Invalid, "there is no program to be run"));
    }
    let is_ours = |name: &str| {
        let socket = name.strip_prefix("NORTHSTAR_SOCKET_");
        RESERVED.contains(&name) || socket.is_some_and(|socket| manifest.sockets.contains_key(socket))
    };
    let is_none = |name: &&String| name.is_empty() || name.contains('=') || is_ours(name);
    if let Some(name) = environment.keys().find(is_none) {
        return Err(Failure::new(
            Kind::Invalid,
            format!("{name:?} is no name of a variable of a container's"),
        ));
    }
    manifest.init = Some(init.clone());
    manifest.args.clone_from(arguments);
    manifest.env.clone_from(environment);
    Ok(())
}

/// Makes the bundle: in a worker, which may wait for slow disks.
fn prepare(house: &House, manifest: &Manifest, start: &Start, has_console: bool) -> Result<(), Failure> {
    let mut places = survey(manifest, Some(Path::new(&house.data)))?;
    places.rootfs = house.image(&start.container);
    if let Some(missing) = lacking(Path::new(&places.rootfs)) {
        let told = format!("the image has no directory {missing}, where every container has its devices");
        return Err(Failure::new(Kind::Invalid, told));
    }
    for (target, mount) in &manifest.mounts {
        let (Mount::Resource { dir, .. }, Some(lender)) = (mount, start.resources.get(target)) else {
            continue;
        };
        let directory = inside(&house.image(lender), dir)
            .map_err(|failed| failed.while_doing(&format!("the directory {dir} of {lender}")))?;
        places.resources.insert(target.clone(), directory);
    }
    places.cgroup = Some(house.cgroup.clone());
    places.files = house.files;
    places.socket_directory = Some(house.sockets.clone());
    places.console = has_console.then_some(3);
    let first = 3 + u32::from(has_console);
    places.sockets = manifest.sockets.keys().cloned().zip(first..).collect();
    let spec = manifest.to_spec(&places)?;
    let bundle = house.bundle(&manifest.name);
    provide(&bundle)?;
    let file = format!("{bundle}/config.json");
    Ok(std::fs::write(&file, spec.to_pretty())
        .map_err(|error| Failed::io(format!("write({file:?})"), &error))?)
}

/// A directory of a mounted image, by its path on the host: links lead nowhere but inside.
fn inside(image: &str, directory: &str) -> Result<String, Failed> {
    let root = Root::from(open_host(image, OFlags::PATH | OFlags::DIRECTORY)?);
    let found = root.open(directory, OFlags::PATH | OFlags::DIRECTORY)?;
    let link = format!("/proc/self/fd/{}", found.as_raw_fd());
    let path = readlink(link.as_str(), Vec::new()).called(|| format!("readlink({link:?})"))?;
    let path = path.into_string().map_err(|_| Failed::refused("its path is not UTF-8"))?;
    if Path::new(&path)
        .starts_with(std::fs::canonicalize(image).map_err(|error| Failed::io("realpath()", &error))?)
    {
        Ok(path)
    } else {
        Err(Failed::refused(format!("{path:?} is not in the image")))
    }
}

/// A signal to the first process; one that is gone has got it.
pub(super) fn signal(process: &Pidfd, signal: i32) -> Result<(), Failed> {
    match process.signal(signal) {
        Err(failed) if failed.errno() == Some(Errno::SRCH) => Ok(()),
        sent => sent,
    }
}
