//! The daemon's configuration: Northstar's file, with what is ours beside it.
//!
//! Whatever is wrong in it is told with its line and its field, and nothing is ever taken for something else: a field that
//! nobody knows is an error. Begin with [`Config::read`].

pub(crate) mod values;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use sys::{Called as _, Errno, Failed};
use wire::{Address, Permissions};

use crate::console::Options;

/// All of it. Fields without a default must be there.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where images are mounted.
    #[serde(deserialize_with = "values::place")]
    pub run_dir: PathBuf,
    /// What containers keep.
    #[serde(deserialize_with = "values::place")]
    pub data_dir: PathBuf,
    /// Where the sockets of manifests are.
    #[serde(deserialize_with = "values::place")]
    pub socket_dir: PathBuf,
    /// The group above all containers', below the root of all groups: without a slash at its head.
    #[serde(deserialize_with = "values::group")]
    pub cgroup: String,
    /// How many requests may wait; 256.
    #[serde(default = "events", deserialize_with = "values::count")]
    pub event_buffer_size: usize,
    /// How far behind a subscriber may be with its notifications; 128.
    #[serde(default = "notifications", deserialize_with = "values::count")]
    pub notification_buffer_size: usize,
    /// How long to wait for a loop device; 10 s.
    #[serde(default = "loops", deserialize_with = "values::time")]
    pub loop_device_timeout: Duration,
    /// Ours: the user that the half without privilege runs as; 65534, which is nobody.
    #[serde(default = "nobody", deserialize_with = "values::nobody")]
    pub user: u32,
    /// Ours: its group; 65534.
    #[serde(default = "nobody", deserialize_with = "values::nobody")]
    pub group: u32,
    /// Who may ask, and how much.
    #[serde(default)]
    pub console: Console,
    /// Where packages are, by names of the administrator's.
    #[serde(default, deserialize_with = "values::repositories")]
    pub repositories: BTreeMap<String, Repository>,
    /// For those who look for faults.
    #[serde(default)]
    pub debug: Debug,
}

/// `console`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Console {
    /// For clients from outside; without it there is no way in.
    pub global: Option<Global>,
    /// The limits of containers' lines.
    #[serde(default)]
    pub options: Options,
}

/// `console.global`. The reference lets be what it does not know here, so that a file with what is ours serves both.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Global {
    /// Where they come in.
    pub bind: Address,
    /// What they may ask.
    pub permissions: Permissions,
    /// Limits of each connection.
    #[serde(default)]
    pub options: Options,
    /// Ours: how many may be connected at a time; 256.
    #[serde(default = "clients", deserialize_with = "values::count")]
    pub max_connections: usize,
    /// Ours: the mode of a Unix socket; 0600.
    #[serde(default = "mode", deserialize_with = "values::mode")]
    pub mode: u32,
}

/// `repositories.NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repository {
    /// Where its packages are.
    #[serde(rename = "type")]
    pub kind: RepositoryKind,
    /// Whose packages it takes; anybody's without a key.
    #[serde(default, deserialize_with = "values::maybe_place")]
    pub key: Option<PathBuf>,
    /// Whether they are mounted when the daemon starts.
    #[serde(default)]
    pub mount_on_start: bool,
    /// How many it takes.
    pub capacity_num: Option<u32>,
    /// How many bytes.
    #[serde(default, deserialize_with = "values::maybe_size")]
    pub capacity_size: Option<u64>,
}

/// `repositories.NAME.type`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum RepositoryKind {
    /// In memory: gone with the daemon.
    #[serde(rename = "mem")]
    Memory,
    /// In a directory.
    #[serde(rename = "fs")]
    Directory {
        /// Which.
        #[serde(deserialize_with = "values::place")]
        dir: PathBuf,
    },
}

/// `debug`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Debug {
    /// What is run beside every container.
    #[serde(default, deserialize_with = "values::commands")]
    pub commands: Vec<String>,
}

fn events() -> usize {
    256
}

fn notifications() -> usize {
    128
}

fn loops() -> Duration {
    Duration::from_secs(10)
}

fn nobody() -> u32 {
    65534
}

fn clients() -> usize {
    256
}

fn mode() -> u32 {
    0o600
}

impl Config {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, Failed> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|error| Errno::from_io_error(&error).ok_or(error));
        match text {
            Ok(text) => Self::parse(&name, &text),
            Err(Ok(errno)) => Err(errno).called(|| format!("read({name:?})")),
            Err(Err(error)) => Err(Failed::refused(format!("{name}: {error}"))),
        }
    }

    /// Reads a text. `file` is what errors call it: `cofferdamd.toml:3:1: run_dir: ...`.
    pub fn parse(file: &str, text: &str) -> Result<Self, Failed> {
        let wrong = |error: &toml::de::Error, field: &str| {
            let (line, column) = place(text, error.span().map_or(0, |span| span.start));
            let field = if field.is_empty() || field == "." { String::new() } else { format!("{field}: ") };
            let what = error.message().replace('\n', ", ");
            Failed::refused(format!("{file}:{line}:{column}: {field}{what}"))
        };
        let document = toml::Deserializer::parse(text).map_err(|error| wrong(&error, ""))?;
        let config: Self = serde_path_to_error::deserialize(document)
            .map_err(|error| wrong(error.inner(), &error.path().to_string()))?;
        config.check().map_err(|what| Failed::refused(format!("{file}: {what}")))?;
        Ok(config)
    }

    /// What no field can tell by itself: that no two of these directories are the same, and none is in another.
    fn check(&self) -> Result<(), String> {
        let mut places = vec![
            ("run_dir".to_owned(), &self.run_dir),
            ("data_dir".to_owned(), &self.data_dir),
            ("socket_dir".to_owned(), &self.socket_dir),
        ];
        for (name, repository) in &self.repositories {
            if let RepositoryKind::Directory { dir } = &repository.kind {
                places.push((format!("repositories.{name}.type.fs.dir"), dir));
            }
        }
        for (index, (field, place)) in places.iter().enumerate() {
            for (other, at) in &places[..index] {
                if place.starts_with(at) || at.starts_with(place) {
                    return Err(format!(
                        "{field}: {} and {other}, {}, overlap",
                        place.display(),
                        at.display()
                    ));
                }
            }
        }
        Ok(())
    }
}

/// Line and column of a byte, both from 1 on.
fn place(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}
