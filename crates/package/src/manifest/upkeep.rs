//! What a manifest asks of a daemon that looks after the container, in `custom.cofferdam`: the format has no place for it.

use std::time::Duration;

use sys::{SIGKILL, asks_to_end};

use crate::error::Error;
use crate::field::{Field, Object};

/// What the daemon does when the container ends, and how it ends it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upkeep {
    /// When it is started anew.
    pub restart: Restart,
    /// How it is stopped.
    pub stop: Stop,
}

/// When a container that has ended is started anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restart {
    /// After which ends.
    pub when: When,
    /// How long it stays down the first time; each further time twice as long.
    pub delay: Duration,
    /// How long at most. Who has run for as long as this, begins with [`Restart::delay`] again.
    pub most: Duration,
    /// How many times in a row it may end sooner than that, before it stays down; without end where none is told.
    pub attempts: Option<u32>,
}

/// After which ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    /// After none.
    #[default]
    Never,
    /// After one that is a failure: a status other than 0, or a signal.
    OnFailure,
    /// After any, but for who was asked to end.
    Always,
}

/// How a container is stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// The signal that asks it to end.
    pub signal: i32,
    /// How long it may take, whoever sends that signal. Then it is killed.
    pub timeout: Option<Duration>,
}

impl Stop {
    /// Whether this is a signal by which one asks a program to end: SIGHUP, SIGINT, SIGQUIT, SIGKILL, SIGTERM, or its own.
    pub fn is_asked_by(&self, signal: i32) -> bool {
        asks_to_end(signal) || [SIGKILL, self.signal].contains(&signal)
    }
}

impl Default for Restart {
    fn default() -> Self {
        Self {
            when: When::Never,
            delay: Duration::from_secs(1),
            most: Duration::from_mins(1),
            attempts: None,
        }
    }
}

impl Default for Stop {
    /// SIGTERM.
    fn default() -> Self {
        Self { signal: 15, timeout: None }
    }
}

const FIELDS: [&str; 7] =
    ["cwd", "restart", "restart_delay", "restart_most", "restart_attempts", "stop_signal", "stop_timeout"];

/// `custom.cofferdam`, where both are maps.
pub(super) fn ours<'a>(all: &Object<'a>) -> Result<Option<Object<'a>>, Error> {
    let custom = all.find("custom").filter(Field::is_map);
    let ours =
        custom.map(|custom| custom.object(&[])).transpose()?.and_then(|custom| custom.find("cofferdam"));
    ours.map(|ours| ours.object(&FIELDS)).transpose()
}

pub(super) fn cwd(ours: Option<&Object<'_>>) -> Result<String, Error> {
    let cwd = ours.map(|ours| ours.maybe("cwd", |cwd| cwd.path().map(str::to_owned))).transpose()?;
    Ok(cwd.flatten().unwrap_or_else(|| "/".to_owned()))
}

pub(super) fn upkeep(ours: Option<&Object<'_>>) -> Result<Upkeep, Error> {
    let (restart, stop) = (Restart::default(), Stop::default());
    let Some(ours) = ours else { return Ok(Upkeep { restart, stop }) };
    let when = ours.maybe("restart", |field| {
        Ok(match field.word(&["never", "on-failure", "always"])? {
            "never" => When::Never,
            "on-failure" => When::OnFailure,
            _ => When::Always,
        })
    })?;
    let delay = ours.maybe("restart_delay", Field::duration)?.unwrap_or(restart.delay);
    Ok(Upkeep {
        restart: Restart {
            when: when.unwrap_or_default(),
            delay,
            most: ours.maybe("restart_most", Field::duration)?.unwrap_or(restart.most).max(delay),
            attempts: ours.maybe("restart_attempts", Field::number)?,
        },
        stop: Stop {
            signal: ours.maybe("stop_signal", |field| field.number_in(1..=31))?.unwrap_or(stop.signal),
            timeout: ours.maybe("stop_timeout", Field::duration)?,
        },
    })
}
