//! `start`: the address of the group's server, which is made if there is none.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use containerd_shim_protos::ttrpc::proto::{MESSAGE_TYPE_REQUEST, Request};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{
    AtFlags, CWD, FlockOperation, Mode, OFlags, flock, mkdirat, openat, renameat, statfs, unlinkat,
};
use rustix::io::{read, write};
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, send,
    socket_with,
};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, getppid, setpgid, umask};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use serde::Deserialize;
use sys::{Called, Doing, Errno, Failed, Side, Strings, read_whole};

use crate::Surroundings;
use crate::address;
use crate::arguments::Arguments;
use crate::bootstrap::Wanted;
use crate::wire::frame;

/// What comes on standard input is no more than this, or no message.
const LARGEST: usize = 10 << 20;

pub(crate) fn start(arguments: &Arguments, surroundings: &Surroundings) -> Result<(), String> {
    let told = |failed: Failed| format!("start {}: {failed}", arguments.id);
    let wanted = Wanted::read(&input().map_err(told)?, arguments, surroundings)?;
    wanted.options.check_name()?;
    let socket =
        address::path(&wanted.directory, &arguments.address, &arguments.namespace, &group(&arguments.id));
    let started = || {
        let directory = provide(&wanted.directory)?;
        // Two that are started at once for one pod find one server, and nobody takes a socket away that has just been made.
        flock(&directory, FlockOperation::LockExclusive)
            .called(|| format!("flock({:?})", wanted.directory))?;
        if let Some(listener) = claim(&socket)? {
            let server = Server { listener, socket: &socket, arguments, surroundings, wanted: &wanted };
            server.begin().inspect_err(|_| {
                // The first failure is the one to tell.
                let _second = unlinkat(CWD, socket.as_str(), AtFlags::empty());
            })?;
        }
        drop(directory);
        Ok(())
    };
    started().map_err(told)?;
    let answer = wanted.answer(&socket)?;
    remember(&answer).map_err(told)?;
    write(rustix::stdio::stdout(), &answer).called(|| "write(stdout)").map_err(told)?;
    Ok(())
}

fn input() -> Result<Vec<u8>, Failed> {
    let stdin = rustix::stdio::stdin();
    if rustix::termios::isatty(stdin) {
        return Ok(Vec::new());
    }
    match read_whole(stdin, "standard input", 4096, LARGEST) {
        Err(failed) if failed.errno() == Some(Errno::BADF) => Ok(Vec::new()),
        read => read,
    }
}

/// The part of a config.json that tells who belongs together.
#[derive(Default, Deserialize)]
struct Document {
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

/// Whom a container shares its server with. A document that is missing, or no document, is for `Create` to complain of.
fn group(id: &str) -> String {
    let document: Document = std::fs::read("config.json")
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default();
    let mut annotations = document.annotations.unwrap_or_default();
    let named = ["io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id"];
    named.iter().find_map(|name| annotations.remove(*name)).unwrap_or_else(|| id.to_owned())
}

fn provide(path: &str) -> Result<OwnedFd, Failed> {
    let open = || openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    match open() {
        Err(Errno::NOENT) => {}
        opened => return opened.called(|| format!("open({path:?})")),
    }
    for (at, _) in path.match_indices('/').skip(1).chain([(path.len(), "")]) {
        let above = path.get(..at).unwrap_or_default();
        let mode = if above == path { 0o700 } else { 0o711 };
        match mkdirat(CWD, above, Mode::from_raw_mode(mode)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(Failed::call(format!("mkdir({above:?})"), errno)),
        }
    }
    open().called(|| format!("open({path:?})"))
}

fn unix_socket() -> Result<OwnedFd, Failed> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).called(|| "socket(AF_UNIX)")
}

/// A listener at this path; none where a server listens there already. A socket that nobody listens at any more is replaced.
fn claim(path: &str) -> Result<Option<OwnedFd>, Failed> {
    let name = SocketAddrUnix::new(path).called(|| format!("sockaddr_un({path:?})"))?;
    let listener = unix_socket()?;
    let before = umask(Mode::from_raw_mode(0o177));
    let mut bound = bind(&listener, &name);
    if bound == Err(Errno::ADDRINUSE) {
        if is_heard(&name)? {
            umask(before);
            return Ok(None);
        }
        unlinkat(CWD, path, AtFlags::empty()).called(|| format!("unlink({path:?})"))?;
        bound = bind(&listener, &name);
    }
    umask(before);
    bound.called(|| format!("bind({path:?})"))?;
    listen(&listener, 128).called(|| "listen()")?;
    Ok(Some(listener))
}

/// How long a server may take to say a word. One that has none by then is there all the same.
const WORD: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// Whether somebody listens, and answers: the socket of one that was killed takes connections until it is gone.
fn is_heard(name: &SocketAddrUnix) -> Result<bool, Failed> {
    let socket = unix_socket()?;
    match connect(&socket, name) {
        Ok(()) => {}
        // A full queue is somebody's.
        Err(Errno::AGAIN) => return Ok(true),
        Err(Errno::CONNREFUSED | Errno::NOENT) => return Ok(false),
        Err(errno) => return Err(Failed::call("connect()", errno)),
    }
    let question = Request {
        service: "containerd.task.v2.Task".to_owned(),
        method: "Connect".to_owned(),
        ..Request::default()
    };
    let question = frame(1, MESSAGE_TYPE_REQUEST, &question).unwrap_or_default();
    match send(&socket, &question, SendFlags::NOSIGNAL) {
        Ok(_) => {}
        Err(Errno::PIPE | Errno::CONNRESET) => return Ok(false),
        Err(errno) => return Err(Failed::call("send(server)", errno)),
    }
    let mut answers = [PollFd::new(&socket, PollFlags::IN)];
    if poll(&mut answers, Some(&WORD)).called(|| "poll(server)")? == 0 {
        return Ok(true);
    }
    match read(&socket, &mut [0; 1]) {
        Ok(0) | Err(Errno::CONNRESET) => Ok(false),
        Ok(_) => Ok(true),
        Err(errno) => Err(Failed::call("read(server)", errno)),
    }
}

/// Removes a socket that nobody listens at any more: a server that was killed leaves its own.
pub(crate) fn withdraw(socket: &str) -> Result<(), Failed> {
    let Some((directory, _)) = socket.rsplit_once('/') else { return Ok(()) };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = match openat(CWD, directory, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        opened => opened.called(|| format!("open({directory:?})"))?,
    };
    // Whoever starts one just now has it to itself.
    flock(&directory, FlockOperation::LockExclusive).called(|| format!("flock(beside {socket:?})"))?;
    let name = SocketAddrUnix::new(socket).called(|| format!("sockaddr_un({socket:?})"))?;
    if is_heard(&name)? {
        return Ok(());
    }
    match unlinkat(CWD, socket, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(Failed::call(format!("unlink({socket:?})"), errno)),
    }
}

/// containerd before 2.0 finds us again by this file once it was restarted.
fn remember(answer: &[u8]) -> Result<(), Failed> {
    let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let put = || {
        let draft =
            openat(CWD, ".address", flags, Mode::from_raw_mode(0o600)).called(|| "open(\".address\")")?;
        write(&draft, answer).called(|| "write(\".address\")")?;
        renameat(CWD, ".address", CWD, "address").called(|| "rename(\".address\")")
    };
    put().doing(|| "write down the address")
}

/// A server that is to be.
struct Server<'a> {
    listener: OwnedFd,
    socket: &'a str,
    arguments: &'a Arguments,
    surroundings: &'a Surroundings,
    wanted: &'a Wanted,
}

impl Server<'_> {
    /// Forks it, and returns once it executes: from a view of our own file that no container can write to.
    fn begin(self) -> Result<(), Failed> {
        let view = sys::protected_view().doing(|| "protect our own executable")?;
        let line = Strings::from(self.line()?);
        let score = score();
        let (heard, said) = pipe_with(PipeFlags::CLOEXEC).called(|| "pipe2()")?;
        match sys::fork()? {
            Side::Child(_) => {
                let failed = match self.settle(score.as_deref()) {
                    Ok(()) => {
                        let errno = sys::execute_fd(view.as_fd(), &line, &sys::environment());
                        Failed::call("execveat(ourselves)", errno)
                    }
                    Err(failed) => failed,
                };
                // If our parent is gone, nobody else wants to hear it.
                let _unheard = write(&said, failed.to_string().as_bytes());
                sys::leave(1)
            }
            Side::Parent(_, process) => {
                drop(said);
                let mut why = [0; 1024];
                let length = read(&heard, &mut why).called(|| "read(server)")?;
                if length == 0 {
                    return Ok(());
                }
                process.reap()?;
                let why = String::from_utf8_lossy(why.get(..length).unwrap_or_default()).into_owned();
                Err(Failed::refused(why).while_doing("start the server"))
            }
        }
    }

    fn line(&self) -> Result<Vec<CString>, Failed> {
        let Arguments { namespace, id, address, .. } = self.arguments;
        let mut words =
            vec!["containerd-shim-cofferdam-v2", "-namespace", namespace, "-id", id, "-address", address];
        words.extend(["-socket", self.socket]);
        if let Some(events) = &self.wanted.events {
            words.extend(["-events", events]);
        }
        if self.wanted.debug {
            words.push("-debug");
        }
        let words = words.into_iter().map(CString::new).collect::<Result<_, _>>();
        words.map_err(|_| Failed::refused("an argument holds a NUL byte"))
    }

    /// Nothing of containerd's stays open: it waits for the end of what it reads from `start`. The listener is handed over as
    /// standard input.
    fn settle(&self, score: Option<&str>) -> Result<(), Failed> {
        setpgid(None, None::<Pid>).called(|| "setpgid()")?;
        if self.surroundings.core_scheduling {
            sys::share_cores_with_nobody()?;
        }
        if let Some(score) = score {
            std::fs::write("/proc/self/oom_score_adj", score)
                .map_err(|why| Failed::refused(format!("write(\"/proc/self/oom_score_adj\"): {why}")))?;
        }
        join(&self.wanted.options.shim_cgroup).doing(|| "ShimCgroup")?;
        let null = openat(CWD, "/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .called(|| "open(\"/dev/null\")")?;
        dup2_stdin(&self.listener).called(|| "dup2(0)")?;
        dup2_stdout(&null).called(|| "dup2(1)")?;
        dup2_stderr(&null).called(|| "dup2(2)")
    }
}

/// One more than containerd's own: of the two, the server goes first.
fn score() -> Option<String> {
    let parent = getppid()?;
    let score = std::fs::read_to_string(format!("/proc/{}/oom_score_adj", parent.as_raw_pid())).ok()?;
    let score: i32 = score.trim().parse().ok()?;
    Some((score + 1).min(1000).to_string())
}

/// Moves the calling process into a control group: on v2 the one of that name, on v1 every controller's that has it.
fn join(group: &str) -> Result<(), Failed> {
    const MOUNT: &str = "/sys/fs/cgroup";
    const CGROUP2: i64 = 0x6367_7270;
    let group = group.trim_matches('/');
    if group.is_empty() {
        return Ok(());
    }
    let enter = |directory: &str| {
        let path = format!("{directory}/{group}/cgroup.procs");
        let procs = openat(CWD, path.as_str(), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .called(|| format!("open({path:?})"))?;
        write(&procs, b"0").map(drop).called(|| format!("write({path:?})"))
    };
    if statfs(MOUNT).called(|| format!("statfs({MOUNT:?})"))?.f_type == CGROUP2 {
        return enter(MOUNT);
    }
    let hierarchies = std::fs::read_dir(MOUNT)
        .map_err(|why| Failed::refused(format!("read_dir({MOUNT:?}): {why}")))?
        .flatten()
        .filter(|entry| entry.path().join(group).join("cgroup.procs").exists());
    let mut has_joined = false;
    for hierarchy in hierarchies {
        enter(&hierarchy.path().to_string_lossy())?;
        has_joined = true;
    }
    if has_joined { Ok(()) } else { Err(Failed::refused(format!("no hierarchy has the group {group:?}"))) }
}
