//! containerd's shims beside each other: what each call of a task's life takes, and what a shim weighs.
//!
//! The bench plays containerd, except for `ctr run`, for which it starts one of its own. All in turns, in one run: this
//! machine's pace changes by the minute.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use containerd_shim_protos::api::{
    ConnectRequest, ConnectResponse, CreateTaskRequest, CreateTaskResponse, DeleteRequest, DeleteResponse,
    Empty, ExecProcessRequest, KillRequest, ShutdownRequest, StartRequest, StartResponse, WaitRequest,
    WaitResponse,
};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::ttrpc::{Client, Request};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};
use rustix::mount::{MountFlags, mount};
use serde_json::{Value, json};

use crate::place::Place;
use crate::report::Row;
use crate::{Arguments, Error, say};

/// containerd's name for everything that is made here.
const NAMESPACE: &str = "bench";

/// Grouped containers that a shim is weighed with.
const GROUP: u32 = 10;

/// Tasks that are started at the same time.
const AT_ONCE: u32 = 50;

/// A shim to be measured.
struct Shim {
    name: String,
    path: PathBuf,
    /// What containerd calls it.
    runtime: String,
    /// Milliseconds by what they were spent on.
    took: BTreeMap<&'static str, Vec<f64>>,
    weight: Vec<String>,
}

/// Measures the shims that are named, and containerd's own; prints the tables.
pub(crate) fn measure(arguments: &Arguments, work: &Path) -> Result<ExitCode, Error> {
    let place = Place::prepare(work, true)?;
    // Sockets, FIFOs and state of shims lie at fixed places, which are ours alone here.
    mount("tmpfs", "/run", "tmpfs", MountFlags::empty(), None)
        .map_err(|errno| format!("tmpfs on /run: {errno}"))?;
    let bench = Bench::prepare(&place, work)?;
    let mut shims = Vec::new();
    for (name, path) in &arguments.shims {
        let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let words = file.strip_prefix("containerd-shim-").ok_or_else(|| {
            format!("{}: containerd looks for shims by containerd-shim-NAME-vN", path.display())
        })?;
        let runtime = format!("io.containerd.{}", words.replacen('-', ".", 1));
        symlink(path, work.join("bin").join(&file))?;
        shims.push(Shim {
            name: name.clone(),
            path: path.clone(),
            runtime,
            took: BTreeMap::new(),
            weight: Vec::new(),
        });
    }
    let mut daemon = Daemon::start(work)?;
    let outcome = take_turns(&mut shims, &bench, arguments.rounds);
    daemon.child.kill()?;
    daemon.child.wait()?;
    outcome?;
    for shim in &mut shims {
        say(&format!("bench: memory of {}", shim.name));
        weigh(shim, &bench, arguments.idle)?;
    }
    forget();
    io::stdout().write_all(table(&shims, arguments.rounds, arguments.idle, &place)?.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn take_turns(shims: &mut [Shim], bench: &Bench, rounds: u32) -> Result<(), Error> {
    const WARM_UP: u32 = 3;
    let names = shims.iter().map(|shim| shim.name.as_str()).collect::<Vec<_>>().join(", ");
    say(&format!("bench: {rounds} rounds of a task's life: {names}"));
    let count = shims.len();
    for round in 0..WARM_UP + rounds {
        for turn in 0..count {
            let shim = &mut shims[(round as usize + turn) % count];
            let mut took = live(shim, bench, &format!("r{round}"))?;
            took.push(("ctr run --rm", bench.run(shim, &format!("c{round}"))?));
            if round % 10 == WARM_UP {
                took.push(("50 tasks started at once", crowd(shim, bench, &format!("m{round}-"))?));
            }
            if round >= WARM_UP {
                for (what, time) in took {
                    shim.took.entry(what).or_default().push(time.as_secs_f64() * 1000.0);
                }
            }
        }
    }
    Ok(())
}

/// One task from its shim's start to the end of everything.
fn live(shim: &Shim, bench: &Bench, id: &str) -> Result<Vec<(&'static str, Duration)>, Error> {
    let mut took = Vec::new();
    let mut time = |what: &'static str, began: Instant| took.push((what, began.elapsed()));
    let bundle = bench.bundle(id, None)?;

    let began = Instant::now();
    let address = bench.start(shim, id, &bundle)?;
    time("action start", began);
    let service = Service::connect(&address)?;

    let began = Instant::now();
    service.create(id, &bundle)?;
    time("Create", began);
    let began = Instant::now();
    service.start(id, "")?;
    time("Start", began);

    let began = Instant::now();
    service.exec(id, "e")?;
    service.start(id, "e")?;
    service.wait(id, "e")?;
    service.delete(id, "e")?;
    time("exec: Exec, Start, Wait, Delete", began);

    let began = Instant::now();
    service.kill(id)?;
    service.wait(id, "")?;
    time("Kill until its end", began);
    let began = Instant::now();
    service.delete(id, "")?;
    time("Delete", began);
    service.shutdown(id);
    drop(service);
    let began = Instant::now();
    bench.act(shim, id, &bundle, "delete")?;
    time("action delete", began);
    fs::remove_dir_all(&bundle)?;
    Ok(took)
}

/// Many tasks of one group; how long it takes to start all of them at once.
fn crowd(shim: &Shim, bench: &Bench, prefix: &str) -> Result<Duration, Error> {
    let tasks: Vec<String> = (0..AT_ONCE).map(|number| format!("{prefix}{number}")).collect();
    let bundles = tasks.iter().map(|id| bench.bundle(id, Some(prefix))).collect::<Result<Vec<_>, Error>>()?;
    let address = bench.start(shim, &tasks[0], &bundles[0])?;
    let service = Service::connect(&address)?;
    for (id, bundle) in tasks.iter().zip(&bundles) {
        service.create(id, bundle)?;
    }
    let began = Instant::now();
    let started = thread::scope(|scope| {
        let starts: Vec<_> = tasks
            .iter()
            .map(|id| scope.spawn(|| service.start(id, "").map_err(|error| error.to_string())))
            .collect();
        starts
            .into_iter()
            .map(|start| start.join().unwrap_or_else(|_| Err("a thread panicked".into())))
            .collect::<Result<Vec<_>, _>>()
    });
    let took = began.elapsed();
    started?;
    for (id, bundle) in tasks.iter().zip(&bundles) {
        service.end(id)?;
        fs::remove_dir_all(bundle)?;
    }
    service.shutdown(&tasks[0]);
    Ok(took)
}

/// What a shim weighs with one container, with ten of a group, and ten shims with one each.
fn weigh(shim: &mut Shim, bench: &Bench, idle: u64) -> Result<(), Error> {
    let tasks: Vec<String> = (0..GROUP).map(|number| format!("g{number}")).collect();
    let bundles = tasks.iter().map(|id| bench.bundle(id, Some("g"))).collect::<Result<Vec<_>, Error>>()?;
    let service = Service::connect(&bench.start(shim, &tasks[0], &bundles[0])?)?;
    let pid = service.pid()?;
    let mut memory = Vec::new();
    for (id, bundle) in tasks.iter().zip(&bundles) {
        service.create(id, bundle)?;
        service.start(id, "")?;
        memory.push(Memory::of(pid)?);
        if memory.len() == 1 && idle > 0 {
            let before = wake_ups(pid)?;
            // Nothing happens, and that is what is measured.
            thread::sleep(Duration::from_secs(idle));
            shim.weight.push(format!("{}", wake_ups(pid)? - before));
            memory[0] = Memory::of(pid)?;
        }
    }
    if idle == 0 {
        shim.weight.push("-".into());
    }
    let (one, ten) = (&memory[0], &memory[memory.len() - 1]);
    let further = (ten.pss.saturating_sub(one.pss)) / u64::from(GROUP - 1);
    shim.weight.extend([one.told(), ten.told(), format!("{further}")]);
    for (id, bundle) in tasks.iter().zip(&bundles) {
        service.end(id)?;
        fs::remove_dir_all(bundle)?;
    }
    service.shutdown(&tasks[0]);

    let mut singles = Vec::new();
    for number in 0..GROUP {
        let id = format!("s{number}");
        let bundle = bench.bundle(&id, None)?;
        let service = Service::connect(&bench.start(shim, &id, &bundle)?)?;
        service.create(&id, &bundle)?;
        service.start(&id, "")?;
        singles.push((id, bundle, service));
    }
    let each =
        singles.iter().map(|(.., service)| Memory::of(service.pid()?)).collect::<Result<Vec<_>, Error>>()?;
    let sum: u64 = each.iter().map(|memory| memory.pss).sum();
    shim.weight.push(format!("{}", sum / u64::from(GROUP)));
    for (id, bundle, service) in singles {
        service.end(&id)?;
        service.shutdown(&id);
        fs::remove_dir_all(bundle)?;
    }
    Ok(())
}

/// KiB, and a count of threads and descriptors.
struct Memory {
    rss: u64,
    pss: u64,
    threads: usize,
    descriptors: usize,
}

impl Memory {
    fn of(pid: u32) -> Result<Self, Error> {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let field = |name: &str| -> Result<u64, Error> {
            let line =
                text.lines().find_map(|line| line.strip_prefix(name)).ok_or("smaps_rollup is short")?;
            Ok(line.trim().trim_end_matches(" kB").parse()?)
        };
        Ok(Self {
            rss: field("Rss:")?,
            pss: field("Pss:")?,
            threads: fs::read_dir(format!("/proc/{pid}/task"))?.count(),
            descriptors: fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
        })
    }

    fn told(&self) -> String {
        format!("{} / {} / {} / {}", self.rss, self.pss, self.threads, self.descriptors)
    }
}

/// How often its threads went to sleep of their own accord.
fn wake_ups(pid: u32) -> Result<u64, Error> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = fs::read_to_string(thread?.path().join("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        sum += line.ok_or("no voluntary_ctxt_switches")?.trim().parse::<u64>()?;
    }
    Ok(sum)
}

/// Where tasks are made, and who hears of them.
struct Bench {
    work: PathBuf,
    rootfs: PathBuf,
    config: Value,
    logs: Mutex<Vec<OwnedFd>>,
}

impl Bench {
    fn prepare(place: &Place, work: &Path) -> Result<Self, Error> {
        for dir in ["bin", "tasks"] {
            fs::create_dir(work.join(dir))?;
        }
        let rootfs = place.bundle.join("rootfs");
        if !rootfs.join("bin/sleep").exists() {
            symlink("busybox", rootfs.join("bin/sleep"))?;
        }
        let listener = UnixListener::bind(work.join("events"))?;
        thread::spawn(move || {
            for line in listener.incoming().flatten() {
                thread::spawn(move || hear(line));
            }
        });
        let mut config: Value = serde_json::from_str(include_str!("../config.json"))?;
        config["root"]["path"] = json!(rootfs);
        config["process"]["args"] = json!(["/bin/sleep", "1000"]);
        Ok(Self { work: work.to_owned(), rootfs, config, logs: Mutex::default() })
    }

    fn bundle(&self, id: &str, group: Option<&str>) -> Result<PathBuf, Error> {
        let bundle = self.work.join("tasks").join(id);
        fs::create_dir(&bundle)?;
        let mut config = self.config.clone();
        config["linux"]["cgroupsPath"] = json!(format!("/cofferdam-bench-shims/{id}"));
        if let Some(group) = group {
            config["annotations"] = json!({"io.containerd.runc.v2.group": group});
        }
        fs::write(bundle.join("config.json"), config.to_string())?;
        let log = bundle.join("log");
        mknodat(CWD, &log, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
        // As containerd does, which would read it: the shim finds somebody at its other end.
        let held = open(&log, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        self.logs.lock().map_err(|_| "a thread panicked")?.push(held);
        Ok(bundle)
    }

    /// The action `start`; the address that it answers.
    fn start(&self, shim: &Shim, id: &str, bundle: &Path) -> Result<String, Error> {
        let said = self.act(shim, id, bundle, "start")?;
        let said = String::from_utf8(said)?;
        Ok(match serde_json::from_str::<Value>(&said) {
            Ok(told) => told["address"].as_str().ok_or("an answer without an address")?.to_owned(),
            Err(_) => said.trim().to_owned(),
        })
    }

    fn act(&self, shim: &Shim, id: &str, bundle: &Path, action: &str) -> Result<Vec<u8>, Error> {
        let output = Command::new(&shim.path)
            .args(["-namespace", NAMESPACE, "-address"])
            .arg(self.work.join("c.sock"))
            .args(["-publish-binary", "/usr/bin/containerd", "-id", id, "-bundle"])
            .arg(bundle)
            .arg(action)
            .current_dir(bundle)
            .env("TTRPC_ADDRESS", self.work.join("events"))
            .env("GRPC_ADDRESS", self.work.join("c.sock"))
            .env("GOMAXPROCS", "2")
            .stdin(Stdio::null())
            .output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(format!("{} {action}: {}: {}", shim.name, output.status, said.trim()).into());
        }
        Ok(output.stdout)
    }

    /// `ctr run --rm` of /bin/true.
    fn run(&self, shim: &Shim, id: &str) -> Result<Duration, Error> {
        let began = Instant::now();
        let output = Command::new("ctr")
            .arg("--address")
            .arg(self.work.join("c.sock"))
            .args([
                "--namespace",
                NAMESPACE,
                "run",
                "--rm",
                "--null-io",
                "--runtime",
                &shim.runtime,
                "--rootfs",
            ])
            .arg(&self.rootfs)
            .args([id, "/bin/true"])
            .output()
            .map_err(|error| format!("ctr: {error}"))?;
        let took = began.elapsed();
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(format!("ctr run by {}: {}: {}", shim.name, output.status, said.trim()).into());
        }
        Ok(took)
    }
}

/// Takes events, and says yes to each.
fn hear(mut line: UnixStream) {
    let mut head = [0_u8; 10];
    while line.read_exact(&mut head).is_ok() {
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let mut body = vec![0; length as usize];
        // An answer without a word is the answer that all went well.
        let answer = [0, 0, 0, 0, head[4], head[5], head[6], head[7], 2, 0];
        if line.read_exact(&mut body).is_err() || line.write_all(&answer).is_err() {
            break;
        }
    }
}

/// A containerd for `ctr run`.
struct Daemon {
    child: Child,
}

impl Daemon {
    fn start(work: &Path) -> Result<Self, Error> {
        let text = |below: &str| work.join(below).display().to_string();
        let configuration = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = {:?}\n[plugins.\"io.containerd.internal.v1.opt\"]\npath = {:?}\n",
            text("root"),
            text("containerd"),
            text("c.sock"),
            text("opt"),
        );
        fs::write(work.join("config.toml"), configuration)?;
        let notice = UnixDatagram::bind(work.join("notice"))?;
        notice.set_read_timeout(Some(Duration::from_secs(30)))?;
        let path = format!("{}:{}", text("bin"), std::env::var("PATH").unwrap_or_default());
        let child = Command::new("containerd")
            .args(["--config", &text("config.toml")])
            .env("PATH", path)
            .env("NOTIFY_SOCKET", work.join("notice"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(work.join("containerd.log"))?)
            .spawn()
            .map_err(|error| format!("containerd: {error}"))?;
        notice.recv(&mut [0; 64]).map_err(|error| format!("containerd is not ready: {error}"))?;
        Ok(Self { child })
    }
}

/// A shim's task service.
struct Service(Client);

impl Service {
    fn connect(address: &str) -> Result<Self, Error> {
        Ok(Self(Client::connect(address).map_err(|error| format!("{address}: {error}"))?))
    }

    fn ask<A: Message, B: Message>(&self, method: &str, words: &A) -> Result<B, Error> {
        let mut request = Request::new();
        // By the name that every containerd's own shim knows.
        request.service = "containerd.task.v2.Task".into();
        request.method = method.into();
        request.payload = words.write_to_bytes()?;
        let answer = self.0.request(request).map_err(|error| format!("{method}: {error}"))?;
        Ok(B::parse_from_bytes(&answer.payload)?)
    }

    fn create(&self, id: &str, bundle: &Path) -> Result<(), Error> {
        let request = CreateTaskRequest {
            id: id.into(),
            bundle: bundle.display().to_string(),
            ..CreateTaskRequest::default()
        };
        self.ask::<_, CreateTaskResponse>("Create", &request).map(drop)
    }

    fn start(&self, id: &str, exec: &str) -> Result<(), Error> {
        let request = StartRequest { id: id.into(), exec_id: exec.into(), ..StartRequest::default() };
        self.ask::<_, StartResponse>("Start", &request).map(drop)
    }

    fn exec(&self, id: &str, exec: &str) -> Result<(), Error> {
        let process = json!({
            "args": ["/bin/true"], "cwd": "/", "user": {"uid": 0, "gid": 0}, "env": ["PATH=/bin"],
        });
        let spec = Any {
            type_url: "types.containerd.io/opencontainers/runtime-spec/1/Process".into(),
            value: process.to_string().into_bytes(),
            ..Any::default()
        };
        let request = ExecProcessRequest {
            id: id.into(),
            exec_id: exec.into(),
            spec: MessageField::some(spec),
            ..ExecProcessRequest::default()
        };
        self.ask::<_, Empty>("Exec", &request).map(drop)
    }

    fn wait(&self, id: &str, exec: &str) -> Result<(), Error> {
        let request = WaitRequest { id: id.into(), exec_id: exec.into(), ..WaitRequest::default() };
        self.ask::<_, WaitResponse>("Wait", &request).map(drop)
    }

    fn kill(&self, id: &str) -> Result<(), Error> {
        let request = KillRequest { id: id.into(), signal: 9, ..KillRequest::default() };
        self.ask::<_, Empty>("Kill", &request).map(drop)
    }

    fn delete(&self, id: &str, exec: &str) -> Result<(), Error> {
        let request = DeleteRequest { id: id.into(), exec_id: exec.into(), ..DeleteRequest::default() };
        self.ask::<_, DeleteResponse>("Delete", &request).map(drop)
    }

    fn end(&self, id: &str) -> Result<(), Error> {
        self.kill(id)?;
        self.wait(id, "")?;
        self.delete(id, "")
    }

    fn pid(&self) -> Result<u32, Error> {
        Ok(self.ask::<_, ConnectResponse>("Connect", &ConnectRequest::default())?.shim_pid)
    }

    /// Whoever has nothing left to do may hang up before it has answered.
    fn shutdown(&self, id: &str) {
        let request = ShutdownRequest { id: id.into(), ..ShutdownRequest::default() };
        let _gone: Result<Empty, Error> = self.ask("Shutdown", &request);
    }
}

/// Removes the groups above those of tasks, which nobody else removes.
fn forget() {
    let mounts = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
    for group in mounts.chain([PathBuf::from("/sys/fs/cgroup")]) {
        for name in ["cofferdam-bench-shims", NAMESPACE] {
            // Where a hierarchy has no such group there is nothing to remove.
            let _none = fs::remove_dir(group.join(name));
        }
    }
}

const CALLS: [&str; 9] = [
    "action start",
    "Create",
    "Start",
    "exec: Exec, Start, Wait, Delete",
    "Kill until its end",
    "Delete",
    "action delete",
    "ctr run --rm",
    "50 tasks started at once",
];

fn table(shims: &[Shim], rounds: u32, idle: u64, place: &Place) -> Result<String, Error> {
    let mut told =
        format!("\ncontainerd shims in turns, {rounds} rounds, {} (ms: median, min)\n\n| |", place.view);
    for shim in shims {
        write!(told, " {} |", shim.name)?;
    }
    told += " first to last |\n|---|";
    told += &"---|".repeat(shims.len() + 1);
    told.push('\n');
    for call in CALLS {
        let rows: Vec<Option<Row>> =
            shims.iter().map(|shim| shim.took.get(call).and_then(|took| Row::of(took))).collect();
        write!(told, "| {call} |")?;
        for row in &rows {
            match row {
                Some(row) => write!(told, " {:.2}, {:.2} |", row.median, row.min)?,
                None => told += " - |",
            }
        }
        let ratio = match (rows.first(), rows.last()) {
            (Some(Some(first)), Some(Some(last))) => format!("{:.2}", first.median / last.median),
            _ => "-".into(),
        };
        writeln!(told, " {ratio} |")?;
    }
    let idle = format!("wake-ups in {idle} s with one container, idle");
    let weights = [
        idle.as_str(),
        "one container: RSS, PSS (KiB), threads, descriptors",
        "ten of a group, likewise",
        "each further container of a group, PSS",
        "ten shims with one each, PSS of each",
    ];
    for (number, what) in weights.into_iter().enumerate() {
        write!(told, "| {what} |")?;
        for shim in shims {
            write!(told, " {} |", shim.weight.get(number).map_or("-", String::as_str))?;
        }
        told += " |\n";
    }
    Ok(told)
}
