//! containerd as a test plays it: what it puts into a bundle, how it starts a shim, what it asks and what it is told.
//!
//! No containerd is needed for this, so that a test can ask in an order, and at a moment, in which none would.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use containerd_shim_protos::api::{
    CheckpointTaskRequest, CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest,
    CreateTaskResponse, DeleteRequest, DeleteResponse, Empty, ExecProcessRequest, KillRequest, Mount,
    PauseRequest, PidsRequest, PidsResponse, ResizePtyRequest, ResumeRequest, ShutdownRequest, StartRequest,
    StartResponse, StateRequest, StateResponse, StatsRequest, StatsResponse, UpdateTaskRequest, WaitRequest,
    WaitResponse,
};
use containerd_shim_protos::bootstrap_api::{BootstrapParams, BootstrapResult};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use rustix::fs::{FileType, Mode, OFlags};
use serde_json::{Value, json};

use crate::{
    Apart, Bundle, LIMIT, Lines, MARKER, Pending, Publisher, Refused, Shim, gone_within, patience,
    ready_within, rpc,
};

/// The task service by the name that all but the newest call it.
pub const TASKS: &str = "containerd.task.v2.Task";

/// Which containerd is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// 1.6: runtime options on standard input, nothing else told.
    Old,
    /// 1.7 to 2.2: likewise, with `GRPC_ADDRESS` and its kin.
    Middle,
    /// 2.3: parameters on standard input.
    Bootstrap,
}

/// A test that plays containerd, in a mount namespace of its own, until this value goes.
#[derive(Debug)]
pub struct Player {
    /// What shims tell.
    pub publisher: Publisher,
    // Goes before the bundle looks for what is left.
    apart: Apart,
    bundle: Bundle,
    shim: Shim,
    call: Call,
    count: AtomicU32,
    /// Keeps each bundle's log open, as containerd does.
    logs: Mutex<Vec<File>>,
}

impl Player {
    /// Plays the containerd of 1.7 before this shim.
    pub fn new(shim: &Shim, name: &str) -> Self {
        Self::playing(shim, name, Call::Middle)
    }

    /// Plays this containerd.
    pub fn playing(shim: &Shim, name: &str, call: Call) -> Self {
        let bundle = Bundle::new(name);
        let apart = Apart::of(&bundle);
        Self::within(bundle, apart, shim, call)
    }

    /// The same where so few pids go round. All pids are those of a namespace that is not the host's.
    pub fn with_few_pids(shim: &Shim, name: &str, few: u32) -> Self {
        let bundle = Bundle::new(name);
        let apart = Apart::with_few_pids(&bundle, few);
        Self::within(bundle, apart, shim, Call::Middle)
    }

    fn within(bundle: Bundle, apart: Apart, shim: &Shim, call: Call) -> Self {
        let publisher = Publisher::at(&bundle.dir().join("c.sock.ttrpc"));
        fs::create_dir(bundle.dir().join("tasks")).expect("make a directory for bundles");
        let logs = Mutex::default();
        Self { publisher, apart, bundle, shim: shim.clone(), call, count: AtomicU32::new(0), logs }
    }

    /// Its directory, which the host and shims see by the same name.
    pub fn dir(&self) -> &Path {
        self.bundle.dir()
    }

    /// containerd's namespace; also the name that everything of it carries.
    pub fn namespace(&self) -> &str {
        self.bundle.id()
    }

    /// The root file system of every container.
    pub fn rootfs(&self) -> PathBuf {
        self.bundle.rootfs()
    }

    /// Where shims run.
    pub fn apart(&self) -> &Apart {
        &self.apart
    }

    /// A bundle, as containerd makes one: the default configuration with a line for the shell.
    pub fn place(&self, line: &str) -> Place {
        self.place_with(line, |_| ())
    }

    /// The same with changes.
    pub fn place_with(&self, line: &str, change: impl FnOnce(&mut Value)) -> Place {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let id = format!("t{number}");
        let dir = self.dir().join("tasks").join(&id);
        DirBuilder::new().mode(0o700).create(&dir).expect("make a bundle");
        DirBuilder::new().mode(0o711).create(dir.join("rootfs")).expect("make a place for the root");
        let mut config = self.bundle.config().clone();
        config["process"]["args"] = json!(["/bin/sh", "-c", line]);
        config["root"]["path"] = json!(self.rootfs());
        config["linux"]["cgroupsPath"] = json!(format!("/{}/{id}", self.namespace()));
        change(&mut config);
        fs::write(dir.join("config.json"), config.to_string()).expect("write config.json");
        fifo(&dir.join("log"));
        let log = open(&dir.join("log"), OFlags::RDWR);
        self.logs.lock().expect("nobody panics with it").push(log.into());
        Place { id, dir }
    }

    /// What shims have written to their bundles' logs and nobody has read yet.
    pub fn logs(&self) -> String {
        let mut told = Vec::new();
        for mut log in self.logs.lock().expect("nobody panics with it").iter() {
            // It is open for writing here as well: it comes to no end, but to EAGAIN.
            let _empty = log.read_to_end(&mut told);
        }
        String::from_utf8_lossy(&told).into_owned()
    }

    /// Runs the action `start` for a bundle, which must succeed, and calls the shim at the address that it answers.
    #[track_caller]
    pub fn start(&self, place: &Place) -> Service {
        let answer = self.start_with(place, None);
        let heard = answer.read(self.call);
        // Those of 2.x serve the newer name alone; ours serves both, and says the older one where it cannot know.
        let told = String::from_utf8_lossy(&answer.said);
        let newer = self.shim.is_stock() && told.contains("\"version\":3");
        self.connect(&heard, if newer { "containerd.task.v3.Task" } else { TASKS })
    }

    /// Runs the action `start` with these options, and returns whatever it said.
    pub fn start_with(&self, place: &Place, options: Option<Any>) -> Answer {
        let stdin = match self.call {
            Call::Bootstrap => {
                let mut params = BootstrapParams::new();
                params.instance_id.clone_from(&place.id);
                params.namespace = self.namespace().into();
                params.containerd_version = "2.3.0".into();
                params.containerd_ttrpc_address = self.publisher.path().display().to_string();
                params.containerd_grpc_address = self.address();
                params.containerd_binary = "/usr/bin/containerd".into();
                if let Some(option) = options {
                    let mut extension = containerd_shim_protos::bootstrap_api::Extension::new();
                    extension.value = MessageField::some(option);
                    params.extensions.push(extension);
                }
                params.write_to_bytes().expect("a message has bytes")
            }
            _ => options.map_or(Vec::new(), |options| options.write_to_bytes().expect("a message has bytes")),
        };
        let mut words = self.words(place);
        words.push("start".into());
        self.act(place, &words, &stdin)
    }

    /// Runs the action `delete` for a bundle.
    pub fn delete(&self, place: &Place) -> Answer {
        let mut words = self.words(place);
        words.extend(["-bundle".into(), place.dir.display().to_string(), "delete".into()]);
        self.act(place, &words, &[])
    }

    /// Runs the shim with these words and this on its standard input, as containerd does: nothing is heard before both of its
    /// output streams have come to their end.
    pub fn act(&self, place: &Place, words: &[String], stdin: &[u8]) -> Answer {
        let input = place.dir.join("stdin");
        fs::write(&input, stdin).expect("write what the shim reads");
        let (reader, writer) = io::pipe().expect("pipe");
        let errors = File::create(place.dir.join("stderr")).expect("make a file for complaints");
        let launcher = self.apart.launcher(&place.dir);
        let mut command = Command::new(&launcher[0]);
        command
            .args(&launcher[1..])
            .arg(self.shim.program())
            .args(words)
            .env(MARKER, self.bundle.id())
            .env("TTRPC_ADDRESS", self.publisher.path())
            .env("GOMAXPROCS", "2")
            .stdin(File::open(&input).expect("it was written"))
            .stdout(Stdio::from(writer))
            .stderr(errors.try_clone().expect("dup"));
        if self.call != Call::Old {
            command
                .env("GRPC_ADDRESS", self.address())
                .env("NAMESPACE", self.namespace())
                .env("MAX_SHIM_VERSION", "2");
        }
        let mut child = command.spawn().expect("run the shim");
        drop(command);
        let reader = OwnedFd::from(reader);
        let mut said = Vec::new();
        let mut from = File::from(reader.try_clone().expect("dup"));
        loop {
            assert!(
                ready_within(&reader, LIMIT),
                "{words:?}: its standard output does not come to an end; so far: {:?}, {}",
                String::from_utf8_lossy(&said),
                text(&place.dir.join("stderr"))
            );
            let mut piece = [0; 4096];
            match from.read(&mut piece).expect("read what the shim says") {
                0 => break,
                count => said.extend_from_slice(&piece[..count]),
            }
        }
        let status = child.wait().expect("wait for our own child");
        Answer { said, complaint: text(&place.dir.join("stderr")), code: status.code().unwrap_or(-1) }
    }

    fn words(&self, place: &Place) -> Vec<String> {
        let flags = [
            ("-namespace", self.namespace().to_owned()),
            ("-address", self.address()),
            ("-publish-binary", "/usr/bin/containerd".into()),
            ("-id", place.id.clone()),
        ];
        flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect()
    }

    /// Where the containerd that is played would listen.
    pub fn address(&self) -> String {
        self.dir().join("c.sock").display().to_string()
    }

    /// Calls the shim at an address, and asks this service.
    #[track_caller]
    pub fn connect(&self, address: &str, service: &'static str) -> Service {
        let path = address.strip_prefix("unix://").expect("an address is a socket's");
        let line = rpc::Line::connect(&self.apart.path(path));
        let line = line.unwrap_or_else(|error| panic!("{address}: {error}\n{}", self.logs()));
        Service { line, name: service, address: address.to_owned() }
    }

    /// Ends a task in whatever state it is, and removes it.
    #[track_caller]
    pub fn finish(&self, service: &Service, place: &Place) {
        // It may have ended by itself.
        let _ended = service.kill(&place.id, "", 9, true);
        service.wait(&place.id, "").get().expect("wait for what is to end");
        service.delete(&place.id, "").expect("a stopped task is deleted");
    }

    /// Asks the shim to end, which must have nothing left to do, and cleans up by the action `delete`, as containerd does
    /// after every task.
    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "nobody has a use for it afterwards")]
    pub fn close(&self, service: Service, places: &[&Place]) {
        let pid = service.who("").shim_pid;
        service.shutdown(&places[0].id);
        assert!(service.ended(), "the shim hangs up");
        if !self.apart.owns_pids() {
            assert!(gone_within(i32::try_from(pid).expect("a pid"), LIMIT), "the shim ends");
        }
        if self.shim.is_stock() {
            // It does not always take its socket with it.
            let _gone = fs::remove_file(self.apart.path(service.address.trim_start_matches("unix://")));
        }
        for place in places {
            let answer = self.delete(place);
            // Of what was never created containerd's own knows nothing, and says so by an error.
            assert!(answer.code == 0 || self.shim.is_stock(), "{answer:?}");
        }
    }

    /// Fails the test if a shim has left something behind.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        let left = self.apart.left();
        assert!(left.is_empty(), "left behind:\n  {}\n{}", left.join("\n  "), self.logs());
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("logs of shims:\n{}", self.logs());
        } else {
            self.assert_nothing_left();
        }
        // Nobody removes these: what containers left in them is found.
        crate::groups::forget(self.namespace());
    }
}

/// A bundle's directory.
#[derive(Clone, Debug)]
pub struct Place {
    /// The task's id.
    pub id: String,
    /// Where it lies.
    pub dir: PathBuf,
}

/// What an action said.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Standard output, to the byte.
    pub said: Vec<u8>,
    /// Standard error.
    pub complaint: String,
    /// How it ended.
    pub code: i32,
}

impl Answer {
    /// Fails the test unless the action succeeded.
    #[track_caller]
    pub fn success(&self) -> &Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    /// The address, as this containerd would read the answer of a `start`; on success nothing else may be said.
    #[track_caller]
    pub fn read(&self, call: Call) -> String {
        self.success();
        assert_eq!(self.complaint, "", "on success nothing is written to standard error");
        match call {
            Call::Bootstrap => self.result().address,
            Call::Old => text_of(&self.said),
            Call::Middle => match serde_json::from_slice::<Value>(&self.said) {
                Ok(told) => {
                    assert_eq!(told["protocol"], "ttrpc", "{told}");
                    told["address"].as_str().expect("an address").to_owned()
                }
                Err(_) => text_of(&self.said),
            },
        }
    }

    /// The answer as the containerd of 2.3 reads it.
    #[track_caller]
    pub fn result(&self) -> BootstrapResult {
        BootstrapResult::parse_from_bytes(&self.said).expect("a BootstrapResult")
    }

    /// The answer of a `delete`.
    #[track_caller]
    pub fn deletion(&self) -> DeleteResponse {
        DeleteResponse::parse_from_bytes(&self.success().said).expect("a DeleteResponse")
    }
}

fn text_of(said: &[u8]) -> String {
    String::from_utf8(said.to_vec()).expect("an address is text").trim().to_owned()
}

/// Where a process reads and writes: paths, or nothing.
#[derive(Clone, Debug, Default)]
pub struct Streams {
    /// Standard input.
    pub stdin: String,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Whether all of it is a terminal.
    pub terminal: bool,
}

impl Streams {
    /// Nothing at all.
    pub fn none() -> Self {
        Self::default()
    }

    /// Standard output and error by one path.
    pub fn out(path: &Path) -> Self {
        let path = path.display().to_string();
        Self { stdout: path.clone(), stderr: path, ..Self::default() }
    }

    /// A terminal's input and output.
    pub fn terminal(stdin: &Path, stdout: &Path) -> Self {
        let (stdin, stdout) = (stdin.display().to_string(), stdout.display().to_string());
        Self { stdin, stdout, stderr: String::new(), terminal: true }
    }
}

/// A FIFO that a client made, for a shim to open.
#[derive(Debug)]
pub struct Fifo {
    path: PathBuf,
}

impl Fifo {
    /// Makes it in this directory.
    pub fn new(dir: &Path, name: &str) -> Self {
        let path = dir.join(name);
        fifo(&path);
        Self { path }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens it to read. Waits for no writer; a reader that comes before every writer waits for what it writes.
    pub fn reader(&self) -> Lines {
        Lines::from(open(&self.path, OFlags::RDONLY))
    }

    /// Opens it to write, which must find somebody who reads.
    pub fn writer(&self) -> File {
        let file = File::from(open(&self.path, OFlags::WRONLY));
        let flags = rustix::fs::fcntl_getfl(&file).expect("flags");
        rustix::fs::fcntl_setfl(&file, flags - OFlags::NONBLOCK).expect("let writes wait");
        file
    }

    /// Holds both of its ends open: until it goes, whoever opens one waits for nobody, and no reader comes to an end.
    pub fn holder(&self) -> File {
        open(&self.path, OFlags::RDWR).into()
    }

    /// Whether it is still there, and a FIFO.
    pub fn exists(&self) -> bool {
        self.path.symlink_metadata().is_ok_and(|found| found.file_type().is_fifo())
    }
}

fn fifo(path: &Path) {
    rustix::fs::mknodat(rustix::fs::CWD, path, FileType::Fifo, Mode::from_raw_mode(0o700), 0)
        .unwrap_or_else(|errno| panic!("mkfifo {}: {errno}", path.display()));
}

fn open(path: &Path, flags: OFlags) -> OwnedFd {
    let flags = flags | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).unwrap_or_else(|errno| panic!("{}: {errno}", path.display()))
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The task service of a shim, at the end of a line.
#[derive(Debug)]
pub struct Service {
    line: rpc::Line,
    name: &'static str,
    /// Where it is called.
    pub address: String,
}

impl Service {
    /// Asks, and does not wait for the answer.
    pub fn ask<A: Message, B: Message>(&self, method: &str, words: &A) -> Pending<B> {
        self.line.ask(self.name, method, words.write_to_bytes().expect("a message has bytes"), None)
    }

    /// Asks with a deadline that the shim is told of.
    pub fn ask_within<A: Message, B: Message>(
        &self,
        method: &str,
        words: &A,
        deadline: Duration,
    ) -> Pending<B> {
        let bytes = words.write_to_bytes().expect("a message has bytes");
        self.line.ask(self.name, method, bytes, Some(deadline))
    }

    /// Asks and waits.
    #[track_caller]
    pub fn call<A: Message, B: Message>(&self, method: &str, words: &A) -> Result<B, Refused> {
        self.ask(method, words).get()
    }

    /// Waits until the shim has hung up; false if it did not.
    pub fn ended(&self) -> bool {
        self.line.ended()
    }

    /// `Create`, with the root file system that the configuration names.
    pub fn creation(&self, place: &Place, streams: &Streams) -> CreateTaskRequest {
        let mut request = CreateTaskRequest::new();
        request.id.clone_from(&place.id);
        request.bundle = place.dir.display().to_string();
        request.terminal = streams.terminal;
        request.stdin.clone_from(&streams.stdin);
        request.stdout.clone_from(&streams.stdout);
        request.stderr.clone_from(&streams.stderr);
        request
    }

    /// `Create`; the pid.
    #[track_caller]
    pub fn create(&self, place: &Place, streams: &Streams) -> Result<u32, Refused> {
        let made: CreateTaskResponse = self.call("Create", &self.creation(place, streams))?;
        Ok(made.pid)
    }

    /// `Create` and `Start`, both of which must succeed; the pid.
    #[track_caller]
    pub fn run(&self, place: &Place, streams: &Streams) -> u32 {
        let pid = self.create(place, streams).expect("create");
        assert_eq!(self.start(&place.id, "").expect("start"), pid, "one init has one pid");
        pid
    }

    /// `Start`; the pid.
    #[track_caller]
    pub fn start(&self, id: &str, exec: &str) -> Result<u32, Refused> {
        self.starting(id, exec).get().map(|answer| answer.pid)
    }

    /// `Start`, not waited for.
    pub fn starting(&self, id: &str, exec: &str) -> Pending<StartResponse> {
        let mut request = StartRequest::new();
        (request.id, request.exec_id) = (id.into(), exec.into());
        self.ask("Start", &request)
    }

    /// `Exec` of a line for the shell.
    #[track_caller]
    pub fn exec(&self, id: &str, exec: &str, line: &str, streams: &Streams) -> Result<(), Refused> {
        self.execing(id, exec, &json!(["/bin/sh", "-c", line]), streams).get().map(drop)
    }

    /// `Exec` of these arguments, not waited for.
    pub fn execing(&self, id: &str, exec: &str, args: &Value, streams: &Streams) -> Pending<Empty> {
        let spec = json!({
            "args": args, "cwd": "/", "user": {"uid": 0, "gid": 0}, "terminal": streams.terminal,
            "env": ["PATH=/bin"],
        });
        let mut any = Any::new();
        any.type_url = "types.containerd.io/opencontainers/runtime-spec/1/Process".into();
        any.value = spec.to_string().into_bytes();
        let mut request = ExecProcessRequest::new();
        (request.id, request.exec_id) = (id.into(), exec.into());
        request.terminal = streams.terminal;
        request.stdin.clone_from(&streams.stdin);
        request.stdout.clone_from(&streams.stdout);
        request.stderr.clone_from(&streams.stderr);
        request.spec = MessageField::some(any);
        self.ask("Exec", &request)
    }

    /// `State`.
    #[track_caller]
    pub fn state(&self, id: &str, exec: &str) -> Result<StateResponse, Refused> {
        let mut request = StateRequest::new();
        (request.id, request.exec_id) = (id.into(), exec.into());
        self.call("State", &request)
    }

    /// The status of `State`, as a word: `RUNNING` and its kin.
    #[track_caller]
    pub fn status(&self, id: &str, exec: &str) -> String {
        let state = self.state(id, exec).expect("state");
        format!("{:?}", state.status.enum_value().expect("a status that is known"))
    }

    /// `Kill`.
    #[track_caller]
    pub fn kill(&self, id: &str, exec: &str, signal: u32, all: bool) -> Result<(), Refused> {
        let mut request = KillRequest::new();
        (request.id, request.exec_id) = (id.into(), exec.into());
        (request.signal, request.all) = (signal, all);
        self.call::<_, Empty>("Kill", &request).map(drop)
    }

    /// `Delete`.
    #[track_caller]
    pub fn delete(&self, id: &str, exec: &str) -> Result<DeleteResponse, Refused> {
        self.deleting(id, exec).get()
    }

    /// `Delete`, not waited for.
    pub fn deleting(&self, id: &str, exec: &str) -> Pending<DeleteResponse> {
        let mut request = DeleteRequest::new();
        (request.id, request.exec_id) = (id.into(), exec.into());
        self.ask("Delete", &request)
    }

    /// `Wait`, not waited for.
    pub fn wait(&self, id: &str, exec: &str) -> Pending<WaitResponse> {
        let mut request = WaitRequest::new();
        (request.id, request.exec_id) = (id.into(), exec.into());
        self.ask("Wait", &request)
    }

    /// `Pause`.
    #[track_caller]
    pub fn pause(&self, id: &str) -> Result<(), Refused> {
        let mut request = PauseRequest::new();
        request.id = id.into();
        self.call::<_, Empty>("Pause", &request).map(drop)
    }

    /// `Resume`.
    #[track_caller]
    pub fn resume(&self, id: &str) -> Result<(), Refused> {
        let mut request = ResumeRequest::new();
        request.id = id.into();
        self.call::<_, Empty>("Resume", &request).map(drop)
    }

    /// `Pids`.
    #[track_caller]
    pub fn pids(&self, id: &str) -> Result<PidsResponse, Refused> {
        let mut request = PidsRequest::new();
        request.id = id.into();
        self.call("Pids", &request)
    }

    /// `Stats`.
    #[track_caller]
    pub fn stats(&self, id: &str) -> Result<Any, Refused> {
        let mut request = StatsRequest::new();
        request.id = id.into();
        let answer: StatsResponse = self.call("Stats", &request)?;
        Ok(answer.stats.unwrap_or_default())
    }

    /// `Update`, with resources as the specification of the runtime writes them.
    #[track_caller]
    pub fn update(&self, id: &str, resources: &Value) -> Result<(), Refused> {
        let mut any = Any::new();
        any.type_url = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources".into();
        any.value = resources.to_string().into_bytes();
        let mut request = UpdateTaskRequest::new();
        request.id = id.into();
        request.resources = MessageField::some(any);
        self.call::<_, Empty>("Update", &request).map(drop)
    }

    /// `ResizePty`.
    #[track_caller]
    pub fn resize(&self, id: &str, exec: &str, width: u32, height: u32) -> Result<(), Refused> {
        let mut request = ResizePtyRequest::new();
        (request.id, request.exec_id) = (id.into(), exec.into());
        (request.width, request.height) = (width, height);
        self.call::<_, Empty>("ResizePty", &request).map(drop)
    }

    /// `CloseIO`.
    #[track_caller]
    pub fn close_io(&self, id: &str, exec: &str) -> Result<(), Refused> {
        let mut request = CloseIORequest::new();
        (request.id, request.exec_id) = (id.into(), exec.into());
        request.stdin = true;
        self.call::<_, Empty>("CloseIO", &request).map(drop)
    }

    /// `Checkpoint`.
    #[track_caller]
    pub fn checkpoint(&self, id: &str, path: &Path) -> Result<(), Refused> {
        let mut request = CheckpointTaskRequest::new();
        (request.id, request.path) = (id.into(), path.display().to_string());
        self.call::<_, Empty>("Checkpoint", &request).map(drop)
    }

    /// `Connect`, which always answers.
    #[track_caller]
    pub fn who(&self, id: &str) -> ConnectResponse {
        let mut request = ConnectRequest::new();
        request.id = id.into();
        self.call("Connect", &request).expect("connect")
    }

    /// `Shutdown`; a shim that has nothing left to do may hang up before it has answered.
    #[track_caller]
    pub fn shutdown(&self, id: &str) {
        let mut request = ShutdownRequest::new();
        request.id = id.into();
        if let Err(refused) = self.call::<_, Empty>("Shutdown", &request) {
            assert_eq!(refused.code, 0, "{refused:?}");
        }
    }
}

/// A mount of `Create`.
pub fn mount(kind: &str, source: &Path, options: &[&str]) -> Mount {
    let mut mount = Mount::new();
    mount.type_ = kind.into();
    mount.source = source.display().to_string();
    mount.options = options.iter().map(|&option| option.to_owned()).collect();
    mount
}

/// Writes all of it to a process's standard input.
pub fn say(to: &mut File, words: &str) {
    to.write_all(words.as_bytes()).expect("it reads");
}

/// Waits until nobody has it open to write any more.
pub fn hung_up(fd: impl AsFd) -> bool {
    ready_within(fd, LIMIT * patience())
}
