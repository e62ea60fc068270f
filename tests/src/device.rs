//! A device: the daemon with a repository, a console, and clients of it.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::{LIMIT, MARKER, Packages, Runtime, gone_within, patience, until};

/// A device below a directory of its own, which goes with it.
#[derive(Debug)]
pub struct Device {
    /// Where packages are made; the key is `k.pub`, and no repository has one unless told.
    pub packages: Packages,
    daemon: Option<Child>,
}

/// A client of the console.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
    /// What came in between.
    pub news: Vec<Value>,
}

impl Device {
    /// A device with a repository `default` in a directory and `memory` in memory, whose daemon does not run yet.
    pub fn new() -> Self {
        let device = Self { packages: Packages::new(), daemon: None };
        for name in ["run", "sockets", "store"] {
            fs::create_dir(device.path(name)).expect("a directory");
        }
        for applet in ["cat", "head", "ls", "sleep", "touch", "tr", "wc"] {
            symlink("busybox", device.path("root/bin").join(applet)).expect("a link");
        }
        device.configure("");
        device
    }

    /// The daemon's program: beside the runtime under test.
    pub fn program() -> PathBuf {
        Runtime::under_test().program().with_file_name("cofferdamd")
    }

    /// A path in the device's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.packages.path(name)
    }

    /// The name of its control group, and of its directory.
    pub fn id(&self) -> &str {
        &self.packages.id
    }

    /// Writes the configuration, with more of it at the end.
    pub fn configure(&self, more: &str) {
        let place = |name: &str| self.path(name).display().to_string();
        let text = format!(
            "run_dir = {:?}\ndata_dir = {:?}\nsocket_dir = {:?}\ncgroup = {:?}\n\
             [console.global]\nbind = \"unix://{}\"\npermissions = \"full\"\n\
             [repositories.default]\ntype = {{ fs = {{ dir = {:?} }} }}\n[repositories.memory]\ntype = \"mem\"\n{more}",
            place("run"),
            place("data"),
            place("sockets"),
            self.id(),
            place("console"),
            place("store"),
        );
        fs::write(self.path("device.toml"), text).expect("a configuration");
    }

    /// Packs a program: a script of busybox's shell, with more lines in its manifest. The package is `NAME.npk`.
    pub fn pack(&self, name: &str, script: &str, more: &str) -> PathBuf {
        let text = format!(
            "name: {name}\nversion: 1.0.0\ninit: /bin/sh\nargs: [-c, {script:?}]\nenv: {{PATH: /bin}}\nuid: 1000\ngid: 1000\n{more}"
        );
        self.pack_manifest(name, &text, &[])
    }

    /// Packs a manifest with the files of `root`.
    pub fn pack_manifest(&self, name: &str, text: &str, flags: &[&str]) -> PathBuf {
        let (manifest, package) = (format!("{name}.yaml"), format!("{name}.npk"));
        fs::write(self.path(&manifest), text).expect("a manifest");
        let all = [&["pack", "-m", &manifest, "-r", "root", "-o", &package], flags].concat();
        self.packages.expect(&all);
        self.path(&package)
    }

    /// The same, right into the repository: for before the daemon begins.
    pub fn add(&self, name: &str, script: &str, more: &str) {
        let package = self.pack(name, script, more);
        fs::copy(package, self.path("store").join(format!("{name}.npk"))).expect("copy a package");
    }

    /// Starts the daemon, and waits until it answers.
    #[track_caller]
    pub fn begin(&mut self) {
        self.begin_by(&[]);
    }

    /// The same by a program that executes the command line appended to it.
    #[track_caller]
    pub fn begin_by(&mut self, launcher: &[&str]) {
        self.spawn_by(launcher);
        until(|| Client::try_connect(&self.path("console")).is_some() || !self.is_there(), || self.log());
        assert!(self.is_there(), "the daemon has ended: {}", self.log());
    }

    /// Starts the daemon, whatever becomes of it.
    pub fn spawn(&mut self) {
        self.spawn_by(&[]);
    }

    fn spawn_by(&mut self, launcher: &[&str]) {
        let log = File::options().create(true).append(true).open(self.path("log")).expect("a log");
        let program = Self::program();
        let mut words = launcher.iter().map(Path::new).chain([program.as_path()]);
        let mut command = Command::new(words.next().expect("a program"));
        command.args(words).arg("-c").arg(self.path("device.toml")).env(MARKER, self.id());
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("dup")).stderr(log);
        self.daemon = Some(command.spawn().expect("start the daemon"));
    }

    fn is_there(&self) -> bool {
        !gone_within(self.pid(), Duration::ZERO)
    }

    /// The daemon's first process, which is the guard.
    pub fn pid(&self) -> i32 {
        let daemon = self.daemon.as_ref().expect("it was started");
        daemon.id().try_into().expect("a process id is an i32")
    }

    /// The talker; one that is gone is awaited.
    #[track_caller]
    pub fn talker(&self) -> i32 {
        let found = Cell::new(None);
        let is_there = || {
            found.set(self.find_talker());
            found.get().is_some()
        };
        until(is_there, || self.log());
        found.get().expect("it was found")
    }

    /// Workers and containers are the guard's children, too: the talker is the one who is nobody.
    fn find_talker(&self) -> Option<i32> {
        let of = |name: &str| fs::read_to_string(name).unwrap_or_default();
        let children = of(&format!("/proc/{0}/task/{0}/children", self.pid()));
        let is_talker = |pid: &&str| of(&format!("/proc/{pid}/status")).contains("Uid:\t65534");
        children.split_whitespace().find(is_talker)?.parse().ok()
    }

    /// What the daemon has written.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// A client who has said who he is.
    #[track_caller]
    pub fn client(&self) -> Client {
        Client::connect(&self.path("console"), false)
    }

    /// One who hears of what happens.
    #[track_caller]
    pub fn listener(&self) -> Client {
        Client::connect(&self.path("console"), true)
    }

    /// Sends a signal to the guard.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid()).expect("a process has a number");
        kill_process(pid, signal).expect("kill");
    }

    /// Waits for the daemon's end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        assert!(gone_within(self.pid(), LIMIT * patience()), "the daemon does not end: {}", self.log());
        self.daemon.take().expect("it was started").wait().expect("wait")
    }

    /// Ends the daemon in order; nothing may be left.
    #[track_caller]
    pub fn end(&mut self) {
        self.signal(Signal::TERM);
        let status = self.wait();
        assert_eq!(status.code(), Some(0), "{}", self.log());
        self.assert_nothing_is_left();
    }

    /// Fails where anything is left of what the daemon made.
    #[track_caller]
    pub fn assert_nothing_is_left(&self) {
        let left = self.left();
        assert!(left.is_empty(), "left: {left:#?}\n{}", self.log());
    }

    /// What is left of what the daemon made: mounts, loop devices, control groups, sockets, entries of the run directory.
    pub fn left(&self) -> Vec<String> {
        let mut left: Vec<String> = Vec::new();
        let directory = self.path("");
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        let below = |line: &&str| line.contains(&directory.display().to_string());
        left.extend(mounts.lines().filter(below).map(|line| format!("mount {line}")));
        for entry in fs::read_dir("/sys/block").expect("block devices").flatten() {
            let file = fs::read_to_string(entry.path().join("loop/backing_file")).unwrap_or_default();
            if Path::new(file.trim()).starts_with(&directory) {
                left.push(format!("{} of {}", entry.path().display(), file.trim()));
            }
        }
        let found =
            Command::new("find").args(["/sys/fs/cgroup", "-name", self.id()]).output().expect("run find");
        left.extend(String::from_utf8_lossy(&found.stdout).lines().map(|line| format!("group {line}")));
        for place in ["run", "sockets"] {
            let found = Command::new("find")
                .args([place, "-mindepth", "1", "(", "-name", ".filters", "-prune", "-o", "-print", ")"])
                .current_dir(&directory)
                .output();
            let found = found.expect("run find").stdout;
            // Directories for everything are there for good.
            let lines = String::from_utf8_lossy(&found).lines().map(str::to_owned).collect::<Vec<_>>();
            left.extend(
                lines.into_iter().filter(|line| !directory.join(line).is_dir() || line.contains(':')),
            );
        }
        left
    }
}

impl Default for Device {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let Some(daemon) = &mut self.daemon else { return };
        // The test has failed: what it left does not disturb the next.
        let pid = i32::try_from(daemon.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _gone = kill_process(pid, Signal::TERM);
            if !gone_within(pid.as_raw_nonzero().get(), Duration::from_secs(15)) {
                let _gone = kill_process(pid, Signal::KILL);
            }
        }
        drop(daemon.wait());
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log());
        }
    }
}

impl Client {
    /// Connects to a console's socket.
    #[track_caller]
    pub fn connect(socket: &Path, subscribes: bool) -> Self {
        let mut client = Self::silent(socket);
        let answer =
            client.say(&json!({"connect": {"version": "0.9.2", "subscribe_notifications": subscribes}}));
        assert_eq!(answer, json!({"connect_ack": null}));
        client
    }

    /// Connects to a console that may be gone at any time.
    pub fn try_connect(socket: &Path) -> Option<Self> {
        let mut client = Self::of(UnixStream::connect(socket).ok()?);
        let connect = json!({"connect": {"version": "0.9.2", "subscribe_notifications": false}});
        (client.try_send(format!("{connect}\n").as_bytes()) && client.message().is_some()).then_some(client)
    }

    /// Sends bytes to a console that may be gone at any time; whether it took them.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.get_mut().write_all(bytes).is_ok()
    }

    /// One who has said nothing yet.
    #[track_caller]
    pub fn silent(socket: &Path) -> Self {
        Self::of(UnixStream::connect(socket).expect("connect to the console"))
    }

    /// One by this line.
    pub fn of(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(LIMIT * patience())).expect("a limit");
        Self { stream: BufReader::new(stream), news: Vec::new() }
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("write to the console");
    }

    /// The next message; none where the console has closed the line.
    #[track_caller]
    pub fn message(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_str(&line).expect("a message")),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("read from the console: {error}"),
        }
    }

    /// Sends a message, and takes the next that comes.
    #[track_caller]
    pub fn say(&mut self, message: &Value) -> Value {
        self.send(format!("{message}\n").as_bytes());
        self.message().expect("an answer")
    }

    /// Asks; the response. What comes before it is news.
    #[track_caller]
    pub fn ask(&mut self, request: &Value) -> Value {
        self.send(format!("{}\n", json!({"request": request})).as_bytes());
        self.response()
    }

    /// The next response.
    #[track_caller]
    pub fn response(&mut self) -> Value {
        loop {
            let mut message = self.message().expect("an answer");
            match message.get_mut("response") {
                Some(response) => return response.take(),
                None => self.news.push(message["notification"].take()),
            }
        }
    }

    /// Waits for news of which this holds.
    #[track_caller]
    pub fn hears(&mut self, what: impl Fn(&Value) -> bool) -> Value {
        loop {
            if let Some(at) = self.news.iter().position(&what) {
                return self.news.remove(at);
            }
            let mut message = self.message().expect("news");
            self.news.push(message["notification"].take());
        }
    }

    /// Waits for the end of a container; how it ended.
    #[track_caller]
    pub fn hears_exit(&mut self, container: &str) -> Value {
        self.hears(|news| news["exit"][0] == container)["exit"][1].take()
    }

    /// Starts a container, which must succeed.
    #[track_caller]
    pub fn start(&mut self, container: &str) {
        let answer = self.try_start(container);
        assert_eq!(answer, json!({"start": {"ok": {"container": container}}}));
    }

    /// Asks for a start.
    #[track_caller]
    pub fn try_start(&mut self, container: &str) -> Value {
        self.ask(
            &json!({"start": {"container": container, "init": null, "arguments": [], "environment": {}}}),
        )
    }

    /// Sends a signal, which must succeed.
    #[track_caller]
    pub fn kill(&mut self, container: &str, signal: i32) {
        let answer = self.ask(&json!({"kill": {"container": container, "signal": signal}}));
        assert_eq!(answer, json!({"kill": {"ok": {"container": container}}}));
    }

    /// Installs a file's content.
    #[track_caller]
    pub fn install(&mut self, package: &Path, repository: &str) -> Value {
        let mut bytes = Vec::new();
        File::open(package).and_then(|mut file| file.read_to_end(&mut bytes)).expect("read a package");
        self.install_bytes(&bytes, repository)
    }

    /// Installs these bytes.
    #[track_caller]
    pub fn install_bytes(&mut self, bytes: &[u8], repository: &str) -> Value {
        let request = json!({"request": {"install": {"repository": repository, "size": bytes.len()}}});
        self.send(format!("{request}\n").as_bytes());
        self.send(bytes);
        self.response()
    }

    /// What is told of a container.
    #[track_caller]
    pub fn inspect(&mut self, container: &str) -> Value {
        self.ask(&json!({"inspect": {"container": container}}))["inspect"]["ok"]["data"].take()
    }
}
