//! The device daemon: packages installed, started, supervised; the console.
//!
//! Two processes: the [guard], which may do everything and knows few words, and the [talker](talk), which may do nothing and
//! talks to the world. [`words`] is all that they say to each other.
//!
//! Touches: its configuration, and what that names: directories, repositories, sockets; what the engine touches.
//! Never:   lets who talks to the world act, or who may act talk to it; starts a thread.
//! Begin with [`run`].

pub mod actor;
pub mod config;
pub mod console;
pub mod guard;
pub mod log;
mod race;
pub mod talk;
pub mod words;

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use sys::{Called as _, Errno, Failed};
use wire::Address;

use crate::config::{Config, Global};
use crate::console::{Buffer, Rules, bind};
use crate::guard::{Setting, Turn};
use crate::talk::Beginning;

/// Reads a configuration, and says what is wrong with it.
pub fn check(config: &Path) -> Result<(), Failed> {
    Config::read(config).map(drop)
}

/// Is the daemon, by this configuration, until it is told to end; the exit status. The caller has one thread. Images are
/// mounted where the host sees them if it `shares_mounts`.
pub fn run(config: &Path, shares_mounts: bool) -> Result<u8, Failed> {
    // What runs in a container finds no file of ours that it could write.
    sys::seal()?;
    let config = Config::read(config)?;
    for directory in [&config.run_dir, &config.data_dir, &config.socket_dir] {
        std::fs::create_dir_all(directory)
            .map_err(|error| Failed::io(format!("mkdir({:?})", directory.display()), &error))?;
    }
    let global = config.console.global.as_ref();
    let listeners = global.map(listen).transpose()?.into_iter().collect();
    let status = guard::run(&config, Setting { listeners, shares_mounts }, &|turn| {
        let talked = begin(&config, turn).and_then(talk::talk);
        talked.map_or_else(
            |failed| {
                log::say(&format!("talk: {failed}"));
                1
            },
            |()| 0,
        )
    });
    if let Some(Address::Unix(path)) = global.map(|global| &global.bind) {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                log::say(&format!("remove {}: {error}", path.display()));
            }
            _ => {}
        }
    }
    Ok(status)
}

/// Opens the way in for clients from outside. Whoever may connect to a socket with this mode may ask what it allows.
fn listen(global: &Global) -> Result<OwnedFd, Failed> {
    let name = &global.bind;
    bind(name, global.mode).map_err(|error| Failed::io(format!("bind({name})"), &error))
}

/// What a talker begins with: of the configuration, what is its.
fn begin(config: &Config, turn: Turn<'_>) -> Result<Beginning, Failed> {
    let Turn { line, listeners, is_first } = turn;
    let rules = config
        .console
        .global
        .as_ref()
        .map(|global| Rules { permissions: global.permissions.clone(), options: global.options });
    let listeners = listeners.iter().zip(rules).map(|(socket, rules)| {
        Ok((socket.as_fd().try_clone_to_owned().map_err(|_| Errno::MFILE).called(|| "dup(listener)")?, rules))
    });
    let mounted = config.repositories.iter().filter(|(_, repository)| repository.mount_on_start);
    Ok(Beginning {
        line,
        listeners: listeners.collect::<Result<_, Failed>>()?,
        options: config.console.options,
        clients: config.console.global.as_ref().map_or(0, |global| global.max_connections),
        buffer: Buffer { calls: config.event_buffer_size, notifications: config.notification_buffer_size },
        mounted: mounted.map(|(name, _)| name.clone()).collect(),
        is_first,
        log: Arc::new(|told| log::say(&told.to_string())),
    })
}
