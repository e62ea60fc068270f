//! The command line as values: what was asked, with nothing left to parse.

mod attempt;
mod events;
mod exec;
mod sandbox;
mod update;

use std::ffi::OsString;
use std::path::PathBuf;

pub use attempt::{Try, User, Volume};
pub use events::Events;
pub use exec::Exec;
pub use sandbox::{Action, Sandbox, Subject, Wished};
pub use update::{Limits, Update};

use crate::flags::{self, GLOBAL, Given, Misuse, TABLE, Verb, boolean, text};
use usage::complete::Shell;

/// One call of the program.
///
/// The global flags stand beside the command and its misuse, since they say where a misuse is logged.
#[derive(Debug)]
pub struct Invocation {
    /// The flags before the command.
    pub global: Global,
    /// The command, or why there is none.
    pub command: Result<Command, Misuse>,
}

/// The flags before the command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Global {
    /// Log more.
    pub debug: bool,
    /// Where errors and warnings are appended.
    pub log: Option<PathBuf>,
    /// How they are written there.
    pub log_format: LogFormat,
    /// Where state is kept, as it was typed; [`crate::root::StateRoot::find`] has the rule.
    pub root: Option<PathBuf>,
    /// Whether systemd is to make the control groups.
    pub systemd_cgroup: bool,
    /// Whether missing rights on control groups are ignored; none where that is found out.
    pub rootless: Option<bool>,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// An object on each line.
    Json,
    /// Words with their values.
    #[default]
    Text,
}

/// What a list is printed as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For machines.
    Json,
    /// For people.
    #[default]
    Table,
}

/// A command with what it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Tell what this host can do.
    Check {
        /// As what.
        format: Format,
    },
    /// Print what completes command lines, or what completes this one.
    Completion {
        /// For which shell.
        shell: Shell,
        /// The command line without the program's name; none for the script.
        words: Option<Vec<String>>,
    },
    /// Create a container.
    Create(Create),
    /// Delete a container.
    Delete {
        /// Kill it first; no error if there is none.
        force: bool,
        /// Which.
        id: String,
    },
    /// Print what a container uses, and what happens to it.
    Events(Events),
    /// Run another process in a container.
    Exec(Exec),
    /// Print what this runtime can do.
    Features,
    /// Print this text.
    Help(String),
    /// Send a signal.
    Kill {
        /// No error if the container is not running.
        all: bool,
        /// To which.
        id: String,
        /// The signal as typed, for [`usage::signal::parse`]: runc looks for the container first.
        signal: String,
    },
    /// List the containers.
    List {
        /// As what.
        format: Format,
        /// The ids alone.
        quiet: bool,
    },
    /// Freeze a container.
    Pause {
        /// Which.
        id: String,
    },
    /// Print what create would do.
    Plan {
        /// The bundle.
        bundle: PathBuf,
        /// The name to plan for.
        id: Option<String>,
        /// For machines.
        json: bool,
    },
    /// List the processes of a container.
    Ps {
        /// What the host's ps is called with; not empty.
        arguments: Vec<OsString>,
        /// As what.
        format: Format,
        /// Which.
        id: String,
    },
    /// Thaw a container.
    Resume {
        /// Which.
        id: String,
    },
    /// Create a container and start it.
    Run(Run),
    /// Limits for a virtual machine's monitor.
    Sandbox(Sandbox),
    /// Write a config.json.
    Spec {
        /// Where to.
        bundle: Option<PathBuf>,
        /// For use without root's rights.
        rootless: bool,
    },
    /// Start a created container.
    Start {
        /// Which.
        id: String,
    },
    /// Wait until a container has ended, and print its exit status.
    Wait {
        /// Which.
        id: String,
    },
    /// Print the state of a container.
    State {
        /// Which.
        id: String,
    },
    /// Remove the control groups of containers whose record is lost.
    Sweep {
        /// Only say which there are.
        dry_run: bool,
    },
    /// Run a command in a throw-away container.
    Try(Try),
    /// Change the limits of a container.
    Update(Update),
    /// Print the version.
    Version,
}

/// What `create` needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Create {
    /// The container.
    pub id: String,
    /// The bundle; the current directory where there is none.
    pub bundle: Option<PathBuf>,
    /// Who is sent the terminal's master end.
    pub console_socket: Option<PathBuf>,
    /// Who is sent a pidfd of init.
    pub pidfd_socket: Option<PathBuf>,
    /// Keep the caller's session keyring.
    pub no_new_keyring: bool,
    /// Keep the exit status for those who ask when it is over.
    pub keep_status: bool,
    /// Move the root mount instead of `pivot_root`.
    pub no_pivot: bool,
    /// Where the process id is written.
    pub pid_file: Option<PathBuf>,
    /// How many descriptors are handed on after stdio and `$LISTEN_FDS`.
    pub preserve_fds: u32,
}

/// What `run` needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// What `create` needs.
    pub create: Create,
    /// Do not wait for the process.
    pub detach: bool,
    /// Do not delete the container after it exits.
    pub keep: bool,
    /// Leave orphans to the host's init.
    pub no_subreaper: bool,
}

impl Invocation {
    /// Reads the arguments, the program's own name left out.
    pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Self {
        let mut arguments = arguments.into_iter();
        let (given, word, outcome) = Given::leading(GLOBAL, &mut arguments);
        let (global, valid) = Global::of(&given);
        let command = match outcome.map_err(|misuse| misuse.hinting("see \"cofferdam --help\"")) {
            Err(misuse) => Err(misuse),
            Ok(()) if given.is_help() => Ok(Command::Help(flags::of_program())),
            Ok(()) if given.is_on("version") => Ok(Command::Version),
            Ok(()) => match word {
                None => Ok(Command::Help(flags::of_program())),
                Some(word) => valid.and_then(|()| Command::read(word, arguments)),
            },
        };
        Self { global, command }
    }
}

impl Global {
    fn of(given: &Given) -> (Self, Result<(), Misuse>) {
        let mut global = Self {
            debug: given.is_on("debug"),
            log: given.path("log"),
            // An empty one is kept, to be refused: it is a variable that was not set.
            root: given.paths("root").last().map(PathBuf::from),
            systemd_cgroup: given.is_on("systemd-cgroup"),
            ..Self::default()
        };
        let mut valid = Ok(());
        match given.text("rootless").unwrap_or("auto") {
            auto if auto.eq_ignore_ascii_case("auto") => {}
            other => match boolean(other.as_bytes()) {
                Some(rootless) => global.rootless = Some(rootless),
                None => {
                    valid =
                        Err(Misuse::new(format!("--rootless: {other:?} is none of true, false and auto")));
                }
            },
        }
        match given.text("log-format").unwrap_or("text") {
            "" | "text" => {}
            "json" => global.log_format = LogFormat::Json,
            other => valid = Err(Misuse::new(format!("invalid log-format: {other}"))),
        }
        (global, valid)
    }
}

impl Command {
    fn read(word: OsString, arguments: impl Iterator<Item = OsString>) -> Result<Self, Misuse> {
        let name = text(word)?;
        let verb = find(&name)?;
        let told = |misuse: Misuse| misuse.hinting(format!("see \"cofferdam {} --help\"", verb.name));
        let mut given = Given::read(verb, arguments).map_err(told)?;
        if given.is_help() {
            return Ok(Self::Help(flags::of_verb(verb)));
        }
        counted(verb, given.count()).map_err(told)?;
        if verb.unbuilt {
            return Err(Misuse::unbuilt(verb.name).exiting(verb.failure));
        }
        if let Some(flag) = given.unbuilt() {
            return Err(Misuse::unbuilt(format!("{}: --{}", verb.name, flag.long)).exiting(verb.failure));
        }
        let words = given.words();
        Self::typed(verb, &given, words).map_err(|misuse| {
            // A status of its own is kept.
            told(if misuse.status == 1 { misuse.exiting(verb.failure) } else { misuse })
        })
    }

    fn typed(verb: &'static Verb, given: &Given, words: Vec<OsString>) -> Result<Self, Misuse> {
        let mut words = words.into_iter();
        // The table has counted them: a command that takes an id has one by now.
        let mut word = || words.next().map(text).transpose().map(Option::unwrap_or_default);
        Ok(match verb.name {
            "check" => Self::Check { format: format(given)? },
            "completion" => completion(&word()?, words)?,
            "create" => Self::Create(Create {
                keep_status: given.is_on("keep-status"),
                ..Create::of(given, word()?)?
            }),
            "delete" => Self::Delete { force: given.is_on("force"), id: word()? },
            "events" => Self::Events(Events::of(given, word()?)?),
            "exec" => Self::Exec(Exec::of(given, word()?, words)?),
            "features" => Self::Features,
            "help" => match words.next() {
                None => Self::Help(flags::of_program()),
                Some(name) => Self::Help(flags::of_verb(find(&text(name)?)?)),
            },
            "kill" => {
                let (id, signal) = (word()?, word()?);
                let signal = if signal.is_empty() { "SIGTERM".into() } else { signal };
                Self::Kill { all: given.is_on("all"), id, signal }
            }
            "list" => Self::List { format: format(given)?, quiet: given.is_on("quiet") },
            "pause" => Self::Pause { id: word()? },
            "plan" => Self::Plan {
                bundle: words.next().unwrap_or_else(|| ".".into()).into(),
                id: given.text("id").map(str::to_owned),
                json: given.is_on("json"),
            },
            "ps" => {
                let (id, format) = (word()?, format(given)?);
                let mut arguments: Vec<_> = words.collect();
                if arguments.is_empty() {
                    arguments.push("-ef".into());
                }
                Self::Ps { arguments, format, id }
            }
            "resume" => Self::Resume { id: word()? },
            "run" => Self::Run(Run {
                create: Create::of(given, word()?)?,
                detach: given.is_on("detach"),
                keep: given.is_on("keep"),
                no_subreaper: given.is_on("no-subreaper"),
            }),
            "sandbox" => Self::Sandbox(Sandbox::of(given, words)?),
            "spec" => Self::Spec { bundle: given.path("bundle"), rootless: given.is_on("rootless") },
            "start" => Self::Start { id: word()? },
            "wait" => Self::Wait { id: word()? },
            "state" => Self::State { id: word()? },
            "sweep" => Self::Sweep { dry_run: given.is_on("dry-run") },
            "try" => Self::Try(Try::of(given, words)?),
            "update" => Self::Update(Update::of(given, word()?)?),
            other => return Err(Misuse::unbuilt(other)),
        })
    }
}

impl Create {
    fn of(given: &Given, id: String) -> Result<Self, Misuse> {
        Ok(Self {
            id,
            bundle: given.path("bundle"),
            console_socket: given.path("console-socket"),
            pidfd_socket: given.path("pidfd-socket"),
            no_new_keyring: given.is_on("no-new-keyring"),
            keep_status: false,
            no_pivot: given.is_on("no-pivot"),
            pid_file: given.path("pid-file"),
            preserve_fds: preserved(given)?,
        })
    }
}

fn completion(shell: &str, mut words: impl Iterator<Item = OsString>) -> Result<Command, Misuse> {
    let shell = Shell::named(shell).ok_or_else(|| {
        Misuse::new(format!("completion: {shell:?} is none of {}", Shell::NAMES.join(", ")))
    })?;
    // A word that is not UTF-8 is none of the table's, and may be shown as it can be.
    let lossy = |word: OsString| word.to_string_lossy().into_owned();
    match words.next() {
        None => Ok(Command::Completion { shell, words: None }),
        Some(end) if end == "--" => {
            Ok(Command::Completion { shell, words: Some(words.map(lossy).collect()) })
        }
        Some(word) => Err(Misuse::new(format!("completion: {:?}: the words stand after --", lossy(word)))),
    }
}

/// Below zero is none, as runc counts.
fn preserved(given: &Given) -> Result<u32, Misuse> {
    let count = given.number("preserve-fds").unwrap_or(0).max(0);
    u32::try_from(count).map_err(|_| {
        Misuse::new(format!("invalid value \"{count}\" for flag -preserve-fds: value out of range"))
    })
}

fn find(name: &str) -> Result<&'static Verb, Misuse> {
    TABLE.find(if name == "h" { "help" } else { name }).ok_or_else(|| {
        // Both the words and the status are runc's.
        Misuse::new(format!("No help topic for '{name}'"))
            .hinting("\"cofferdam help\" prints the commands")
            .exiting(3)
    })
}

fn counted(verb: &Verb, count: usize) -> Result<(), Misuse> {
    let name = verb.name;
    match verb.most {
        Some(most) if most == verb.least && count != most => {
            Err(Misuse::new(format!("{name:?} requires exactly {most} argument(s)")))
        }
        _ if count < verb.least => {
            Err(Misuse::new(format!("{name:?} requires a minimum of {} argument(s)", verb.least)))
        }
        Some(most) if count > most => {
            Err(Misuse::new(format!("{name:?} requires a maximum of {most} argument(s)")))
        }
        _ => Ok(()),
    }
}

fn format(given: &Given) -> Result<Format, Misuse> {
    match given.text("format").unwrap_or("table") {
        "json" => Ok(Format::Json),
        "table" => Ok(Format::Table),
        _ => Err(Misuse::new("invalid format option")),
    }
}

#[cfg(test)]
mod tests;
