//! The daemon's guard without a talker: who runs us speaks in its place.
//!
//! `guard CONFIG [-d]`, with a Unix socket as standard input: over it comes the talker's end of the line, once for each talker
//! that the guard forks. With `-d` images are mounted where the host sees them.
#![cfg_attr(not(test), no_main)]

use std::os::fd::AsFd as _;
use std::path::Path;

use daemon::config::Config;
use daemon::guard::{Setting, Turn};

#[cfg(not(test))]
sys::entry!(entry);

#[cfg_attr(test, allow(dead_code, reason = "the test harness brings an entry of its own"))]
fn entry() -> u8 {
    match begin() {
        Ok(status) => status,
        Err(why) => {
            daemon::log::say(&why);
            1
        }
    }
}

fn begin() -> Result<u8, String> {
    sys::seal().map_err(|failed| failed.to_string())?;
    let file = std::env::args().nth(1).ok_or("a configuration is due")?;
    let config = Config::read(Path::new(&file)).map_err(|error| error.to_string())?;
    let socket =
        rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).map_err(|errno| errno.to_string())?;
    let shares_mounts = std::env::args().nth(2).is_some_and(|flag| flag == "-d");
    let setting = Setting { listeners: vec![socket], shares_mounts };
    Ok(daemon::guard::run(&config, setting, &hand_over))
}

/// Gives the line away, and lives until it is killed or nobody is there who has it.
fn hand_over(turn: Turn<'_>) -> u8 {
    let Turn { line, listeners, is_first } = turn;
    let Some(socket) = listeners.first() else { return 1 };
    if sys::send_fd(socket.as_fd(), if is_first { "first" } else { "next" }, line.as_fd()).is_err() {
        return 1;
    }
    drop(line);
    let mut byte = [0];
    loop {
        match rustix::io::read(socket, &mut byte) {
            Ok(1) => {}
            _ => return 0,
        }
    }
}
