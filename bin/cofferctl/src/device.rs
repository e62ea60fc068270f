//! Commands for the device daemon.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;
use usage::signal;
use wire::{
    Address, Bytes, Container, Data, Error, Inspected, Installed, Message, Name, Notification, Outcome,
    Request, Response, Start, Token, Verdict,
};

use crate::client::Client;
use crate::progress::Bar;
use crate::told;
use cofferctl::flags::Given;
use sys::{SIGKILL, SIGTERM, print};

/// Where the daemon is, if nobody says otherwise.
const CONSOLE: &str = "unix:///run/cofferdamd.sock";
/// How long it may take to answer, likewise, and a container to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether a command is for the daemon.
pub(crate) fn is_meant(verb: &str, given: &Given) -> bool {
    match verb {
        "inspect" => given.value("url").is_some() || is_container(&given.argument(0)),
        "pack" | "unpack" | "verify" | "sign" | "gen-key" => false,
        _ => true,
    }
}

/// Whether this can be nothing else than a container: no file of that name is there, or would be looked for.
fn is_container(typed: &Path) -> bool {
    let is_file = typed.parent() != Some(Path::new("")) || typed.extension() == Some(OsStr::new("npk"));
    !is_file && !typed.exists()
}

/// Does what was typed; the exit status.
pub(crate) fn run(verb: &str, given: &Given) -> Result<u8, String> {
    let mut asking = Asking::new(verb, given)?;
    match verb {
        "list" => asking.list(),
        "inspect" => asking.inspect(),
        "start" => asking.start(),
        "stop" => asking.stop(),
        "kill" => asking.kill(),
        "install" => asking.install(),
        "uninstall" => asking.uninstall(),
        "mount" => asking.mount(|containers| Request::Mount { containers }),
        "umount" => asking.mount(|containers| Request::Umount { containers }),
        "repositories" => asking.repositories(),
        "notifications" => asking.notifications(),
        "ident" => asking.ident(),
        "token" => asking.token(),
        "verify-token" => asking.verify_token(),
        _ => asking.shutdown(),
    }
}

/// What may be typed for a container behind these words: its name, with the version where there are several of them. None
/// where no daemon answers, for somebody waits at a keyboard.
pub(crate) fn names(words: &[String]) -> Vec<String> {
    let behind = |flag: &str| words.iter().position(|word| word == flag).and_then(|at| words.get(at + 1));
    let joined = words.iter().find_map(|word| word.strip_prefix("--url="));
    let url = joined.or(behind("--url").or(behind("-u")).map(String::as_str)).unwrap_or(CONSOLE);
    let all = url.parse::<Address>().map_err(told).and_then(|address| {
        match Client::connect(&address, KEYBOARD, false)?.ask(Request::List)? {
            Response::List(all) => Ok(all),
            other => Err(another(&other)),
        }
    });
    let mut all = all.unwrap_or_default();
    all.sort();
    let is_one = |name: &Name| all.iter().filter(|container| container.name == *name).count() == 1;
    let typed = |container: &Container| {
        if is_one(&container.name) { container.name.to_string() } else { container.to_string() }
    };
    all.iter().map(typed).collect()
}

/// How long somebody at a keyboard waits.
const KEYBOARD: Duration = Duration::from_millis(500);

/// What was typed, and a line to the daemon.
struct Asking<'a> {
    given: &'a Given,
    client: Client,
    is_json: bool,
}

impl<'a> Asking<'a> {
    fn new(verb: &str, given: &'a Given) -> Result<Self, String> {
        let url = given.value("url").map_or(CONSOLE.into(), |url| url.to_string_lossy());
        let address: Address = url.parse().map_err(|error| format!("--url: {error}"))?;
        let client =
            Client::connect(&address, time(given, "timeout")?, ["stop", "notifications"].contains(&verb))?;
        Ok(Self { given, client, is_json: given.value("json").is_some() })
    }

    fn list(&mut self) -> Result<u8, String> {
        let mut all = Vec::new();
        for container in self.containers()? {
            match self.look(&container)? {
                Ok(data) => all.push((container, data)),
                // It was taken away meanwhile.
                Err(Error::InvalidContainer { .. }) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        if self.is_json {
            let all: BTreeMap<String, &Data> =
                all.iter().map(|(container, data)| (container.to_string(), &**data)).collect();
            return self.json(&all);
        }
        let head = ["NAME", "VERSION", "REPOSITORY", "KIND", "MOUNTED", "PID", "UPTIME"].map(str::to_owned);
        let rows = all.iter().map(|(container, data)| row(container, data));
        print(&table(&[head].into_iter().chain(rows).collect::<Vec<_>>()))
    }

    fn inspect(&mut self) -> Result<u8, String> {
        let container = self.named(0)?;
        let data = self.look(&container)?.map_err(told)?;
        if self.given.value("manifest").is_some() {
            return self.json(&data.manifest);
        }
        self.json(&data)
    }

    fn start(&mut self) -> Result<u8, String> {
        let container = self.named(0)?;
        let mut start = Start::plain(container);
        start.init = self.given.value("init").map(text).transpose()?;
        for variable in self.given.values("env") {
            let variable = text(variable)?;
            let (name, value) = variable
                .split_once('=')
                .ok_or_else(|| format!("--env: {}: NAME=VALUE is due", spec::quoted(&variable)))?;
            start.environment.insert(name.to_owned(), value.to_owned());
        }
        let arguments = self.given.arguments().iter().skip(1).map(|word| text(word));
        start.arguments = arguments.collect::<Result<_, String>>()?;
        match self.client.ask(Request::Start(start))? {
            Response::Start(outcome) => self.outcome(&outcome),
            other => Err(another(&other)),
        }
    }

    /// Asks it to end, waits, and ends it.
    fn stop(&mut self) -> Result<u8, String> {
        let container = self.named(0)?;
        let patience = time(self.given, "kill-after")?;
        self.signal(&container, SIGTERM)?;
        if self.has_ended(&container, Some(Instant::now() + patience))? {
            return Ok(0);
        }
        crate::warn(&format!("{container} did not end by itself: killed"));
        match self.signal(&container, SIGKILL) {
            Ok(()) => self.has_ended(&container, None).map(|_| 0),
            // It has ended between the two.
            Err(_) if self.has_ended(&container, Some(Instant::now()))? => Ok(0),
            Err(error) => Err(error),
        }
    }

    fn signal(&mut self, container: &Container, signal: i32) -> Result<(), String> {
        match self.client.ask(Request::Kill { container: container.clone(), signal })? {
            Response::Kill(Outcome::Ok { .. }) => Ok(()),
            Response::Kill(Outcome::Error { error, .. }) => Err(error.to_string()),
            other => Err(another(&other)),
        }
    }

    /// Whether it has by then, or ever.
    fn has_ended(&mut self, container: &Container, until: Option<Instant>) -> Result<bool, String> {
        while let Some(notification) = self.client.news(until)? {
            if matches!(&notification, Notification::Exit(ended, _) if ended == container) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn kill(&mut self) -> Result<u8, String> {
        let typed = self.given.arguments().get(1).map_or(Ok("TERM".to_owned()), |word| text(word))?;
        let signal =
            signal::parse(&typed).ok_or_else(|| format!("unknown signal {}", spec::quoted(&typed)))?;
        let container = self.named(0)?;
        match self.client.ask(Request::Kill { container, signal })? {
            Response::Kill(outcome) => self.outcome(&outcome),
            other => Err(another(&other)),
        }
    }

    fn install(&mut self) -> Result<u8, String> {
        let path = self.given.argument(0);
        let in_path = |error: io::Error| format!("{}: {error}", path.display());
        let mut file = File::open(&path).map_err(in_path)?;
        let size = file.metadata().map_err(in_path)?.len();
        let repository = match self.given.arguments().get(1) {
            Some(name) => text(name)?,
            None => self.only_repository()?,
        };
        self.client.say(&Message::Request(Request::Install { repository, size })).map_err(told)?;
        let mut bar = Bar::new("sending", size);
        let mut buffer = vec![0; 1 << 20];
        let mut left = size;
        while left > 0 {
            let room = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let count = file.read(&mut buffer[..room]).map_err(in_path)?;
            if count == 0 {
                return Err(format!("{}: has become shorter", path.display()));
            }
            // Who has closed the line may have said why before.
            if self.client.send(&buffer[..count]).is_err() {
                break;
            }
            left -= count as u64;
            bar.advance(count as u64);
        }
        drop(bar);
        match self.client.response()? {
            Response::Install(Installed::Ok { container }) if self.is_json => self.json(&container),
            Response::Install(Installed::Ok { container }) => print(&format!("{container}\n")),
            Response::Install(Installed::Error { error }) => Err(error.to_string()),
            other => Err(another(&other)),
        }
    }

    fn only_repository(&mut self) -> Result<String, String> {
        let mut all = self.all_repositories()?;
        match (all.pop(), all.is_empty()) {
            (Some(only), true) => Ok(only),
            (None, _) => Err("the daemon has no repository".to_owned()),
            (Some(last), false) => {
                Err(format!("REPOSITORY is missing: there are {}, {last}", all.join(", ")))
            }
        }
    }

    fn all_repositories(&mut self) -> Result<Vec<String>, String> {
        match self.client.ask(Request::Repositories)? {
            Response::Repositories(mut all) => {
                all.sort();
                Ok(all)
            }
            other => Err(another(&other)),
        }
    }

    fn uninstall(&mut self) -> Result<u8, String> {
        let container = self.named(0)?;
        let wipe = self.given.value("wipe").is_some();
        match self.client.ask(Request::Uninstall { container, wipe })? {
            Response::Uninstall(outcome) => self.outcome(&outcome),
            other => Err(another(&other)),
        }
    }

    /// Several at once: all that fail are told, and one is enough to fail.
    fn mount(&mut self, request: fn(Vec<Container>) -> Request) -> Result<u8, String> {
        let containers = (0..self.given.arguments().len()).map(|at| self.named(at));
        let containers = containers.collect::<Result<Vec<_>, String>>()?;
        let (Response::Mount(all) | Response::Umount(all)) = self.client.ask(request(containers))? else {
            return Err("the daemon answered another question".to_owned());
        };
        if self.is_json {
            self.json(&all)?;
        }
        let failed = all.iter().filter_map(|outcome| match outcome {
            Outcome::Ok { .. } => None,
            Outcome::Error { container, error } => Some(format!("{container}: {error}")),
        });
        let failed: Vec<_> = failed.collect();
        if failed.is_empty() { Ok(0) } else { Err(failed.join("; ")) }
    }

    fn repositories(&mut self) -> Result<u8, String> {
        let all = self.all_repositories()?;
        if self.is_json {
            return self.json(&all);
        }
        print(&all.into_iter().map(|name| name + "\n").collect::<String>())
    }

    fn notifications(&mut self) -> Result<u8, String> {
        let number = self.given.value("number").map(|number| {
            let number = number.to_string_lossy();
            number.parse::<u64>().map_err(|_| format!("--number: {}: a number is due", spec::quoted(&number)))
        });
        let mut left = number.transpose()?;
        while left != Some(0) {
            let Some(notification) = self.client.news(None)? else { break };
            if self.is_json {
                self.json(&notification)?;
            } else {
                print(&format!("{notification}\n"))?;
            }
            left = left.map(|left| left - 1);
        }
        Ok(0)
    }

    fn ident(&mut self) -> Result<u8, String> {
        match self.client.ask(Request::Ident)? {
            Response::Ident(container) if self.is_json => self.json(&container),
            Response::Ident(container) => print(&format!("{container}\n")),
            other => Err(another(&other)),
        }
    }

    fn token(&mut self) -> Result<u8, String> {
        let (target, shared) = (self.name(0)?, self.bytes(1));
        match self.client.ask(Request::TokenCreate { target, shared })? {
            Response::Token(token) if self.is_json => self.json(&token),
            Response::Token(token) => print(&format!("{token}\n")),
            other => Err(another(&other)),
        }
    }

    fn verify_token(&mut self) -> Result<u8, String> {
        let token = self.given.argument(0).to_string_lossy().into_owned();
        let token = Token::try_from(token).map_err(told)?;
        let (user, shared) = (self.name(1)?, self.bytes(2));
        match self.client.ask(Request::TokenVerify { token, user, shared })? {
            Response::TokenVerification(verdict) => {
                if self.is_json {
                    self.json(&verdict)?;
                } else {
                    print(&format!("{verdict}\n"))?;
                }
                Ok(u8::from(verdict != Verdict::Ok))
            }
            other => Err(another(&other)),
        }
    }

    fn shutdown(&mut self) -> Result<u8, String> {
        match self.client.last(Request::Shutdown)? {
            Some(Response::Shutdown) | None => Ok(0),
            Some(other) => Err(another(&other)),
        }
    }

    /// The container of this argument: `NAME:VERSION`, or `NAME` where there is one version of it alone.
    fn named(&mut self, at: usize) -> Result<Container, String> {
        let typed = self.given.argument(at).to_string_lossy().into_owned();
        if typed.contains(':') {
            return typed.parse().map_err(told);
        }
        let name: Name = typed.parse().map_err(told)?;
        let mut all = self.containers()?;
        all.retain(|container| container.name == name);
        match all.as_slice() {
            [] => Err(format!("{name}: no such container")),
            [only] => Ok(only.clone()),
            several => {
                let versions: Vec<_> =
                    several.iter().map(|container| container.version.to_string()).collect();
                Err(format!("{name}: which version: {}?", versions.join(", ")))
            }
        }
    }

    /// All that are installed, in the order of their names and versions.
    fn containers(&mut self) -> Result<Vec<Container>, String> {
        match self.client.ask(Request::List)? {
            Response::List(mut all) => {
                all.sort();
                Ok(all)
            }
            other => Err(another(&other)),
        }
    }

    fn look(&mut self, container: &Container) -> Result<Result<Box<Data>, Error>, String> {
        match self.client.ask(Request::Inspect { container: container.clone() })? {
            Response::Inspect(Inspected::Ok { data, .. }) => Ok(Ok(data)),
            Response::Inspect(Inspected::Error { error, .. }) => Ok(Err(error)),
            other => Err(another(&other)),
        }
    }

    fn outcome(&self, outcome: &Outcome) -> Result<u8, String> {
        if self.is_json {
            self.json(outcome)?;
        }
        match outcome {
            Outcome::Ok { .. } => Ok(0),
            Outcome::Error { error, .. } => Err(error.to_string()),
        }
    }

    fn name(&self, at: usize) -> Result<Name, String> {
        self.given.argument(at).to_string_lossy().parse().map_err(told)
    }

    fn bytes(&self, at: usize) -> Bytes {
        Bytes(self.given.argument(at).into_os_string().into_vec())
    }

    /// Prints a value: on one line where that was asked for, and for people's eyes otherwise.
    fn json(&self, value: &impl Serialize) -> Result<u8, String> {
        let text =
            if self.is_json { serde_json::to_string(value) } else { serde_json::to_string_pretty(value) };
        print(&(text.map_err(told)? + "\n"))
    }
}

fn row(container: &Container, data: &Data) -> [String; 7] {
    let kind =
        if data.manifest.get("init").is_some_and(|init| !init.is_null()) { "program" } else { "resource" };
    let mounted = if data.mounted { "yes" } else { "no" };
    let (pid, uptime) = match &data.process {
        Some(process) => {
            let seconds = Duration::from_secs(Duration::from_nanos(process.uptime).as_secs());
            (process.pid.to_string(), humantime::format_duration(seconds).to_string())
        }
        None => (String::new(), String::new()),
    };
    [
        container.name.to_string(),
        container.version.to_string(),
        data.repository.clone(),
        kind.to_owned(),
        mounted.to_owned(),
        pid,
        uptime,
    ]
}

/// Columns as wide as they must be, with two blanks between them.
fn table<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let wide = |cell: &String| cell.chars().count();
    let widths: [usize; COLUMNS] =
        std::array::from_fn(|column| rows.iter().map(|row| wide(&row[column])).max().unwrap_or_default());
    let line = |row: &[String; COLUMNS]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

fn time(given: &Given, flag: &str) -> Result<Duration, String> {
    let Some(typed) = given.value(flag) else { return Ok(PATIENCE) };
    let typed = typed.to_string_lossy();
    let wrong = || format!("--{flag}: {}: a time such as 10s is due", spec::quoted(&typed));
    match humantime::parse_duration(&typed) {
        Ok(time) if !time.is_zero() => Ok(time),
        _ => Err(wrong()),
    }
}

fn text(word: &OsStr) -> Result<String, String> {
    let told = || format!("{}: is not UTF-8", spec::quoted(&word.to_string_lossy()));
    word.to_str().map(str::to_owned).ok_or_else(told)
}

/// A response to something else than what was asked.
fn another(response: &Response) -> String {
    let text = serde_json::to_string(response).unwrap_or_default();
    format!("the daemon answered another question: {text}")
}
