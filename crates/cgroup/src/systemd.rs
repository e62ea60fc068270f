//! A service manager that makes control groups for others, and how it is asked: one call after the other, each with a
//! deadline, by a thread that has nothing else to do.

mod bus;
mod change;
mod unit;

use std::time::Duration;

use dbus::Value;
use plan::systemd::{Bus, Manager};
use sys::{Doing, Errno, Failed};

use bus::{Connection, Told};

pub use change::UnitChange;

use crate::wait::Missing;

/// The manager's name on a bus, and its one object.
const NAME: &str = "org.freedesktop.systemd1";
const OBJECT: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// How long a manager may take for one thing: to answer, or to have a unit started or stopped. It answers nobody while it
/// is reloaded, which takes long on a busy host; it gives its own units as much.
const PATIENCE: Duration = Duration::from_secs(90);

/// A line to a service manager.
#[derive(Debug)]
pub struct Systemd {
    bus: Bus,
    connection: Connection,
}

impl Systemd {
    /// Connects to a manager.
    pub fn reach(bus: &Bus) -> Result<Self, Failed> {
        Ok(Self { bus: bus.clone(), connection: Connection::open(bus)? })
    }

    /// The first manager of a list that can be reached, and what it tells of itself. The error names each of them.
    pub fn look(buses: &[Bus]) -> Result<Manager, Failed> {
        let mut refused: Option<Failed> = None;
        for bus in buses {
            match Self::reach(bus).and_then(|mut systemd| systemd.tell()) {
                Ok(manager) => return Ok(manager),
                Err(failed) => {
                    refused = Some(match refused {
                        Some(before) => failed.while_doing(&before.to_string()),
                        None => failed,
                    });
                }
            }
        }
        let refused = refused.unwrap_or_else(|| Failed::refused("nobody says where it listens"));
        Err(refused).doing(|| "systemd is not running here, or cannot be reached")
    }

    /// What a manager tells of itself.
    fn tell(&mut self) -> Result<Manager, Failed> {
        let version = self.manager_property("Version")?;
        let version = version
            .as_text()
            .and_then(number)
            .ok_or_else(|| Failed::refused(format!("systemd says that its version is {version}")))?;
        let group = self.manager_property("ControlGroup")?;
        let group = group.as_text().unwrap_or_default().trim_end_matches('/').to_owned();
        if !group.is_empty() && (!group.starts_with('/') || group.split('/').any(|part| part == "..")) {
            return Err(Failed::refused(format!(
                "systemd's own control group is {group:?}, outside of ours"
            )));
        }
        let controllers = if self.bus.is_user { controllers(&group)? } else { None };
        Ok(Manager { bus: self.bus.clone(), version, group, controllers })
    }

    /// A call that may be made twice. A manager that executes itself anew hangs up, and is asked again.
    fn ask(
        &mut self,
        object: &str,
        interface: &str,
        member: &str,
        arguments: &[Value],
    ) -> Result<Told<Vec<Value>>, Failed> {
        let mut pauses = Missing::ListenerOfBus.back_off_within(PATIENCE);
        loop {
            let told = self.connection.call(NAME, object, interface, member, arguments);
            if !is_absence(&told) || pauses.pause().is_err() {
                return told;
            }
            self.again()?;
        }
    }

    /// Another line to the same manager. As long as it does not listen the old one stays, which is dead, and says so.
    fn again(&mut self) -> Result<(), Failed> {
        let is_subscribed = self.connection.is_subscribed();
        let opened = Connection::open(&self.bus).and_then(|mut connection| {
            if is_subscribed {
                connection.subscribe()?;
            }
            Ok(connection)
        });
        match opened {
            Err(failed) if failed.errno().is_some_and(is_hanging_up) => Ok(()),
            opened => opened.map(|connection| self.connection = connection),
        }
    }

    fn manager_property(&mut self, name: &str) -> Result<Value, Failed> {
        match self.property(OBJECT, MANAGER, name)? {
            Told::Values(value) => Ok(value),
            Told::Error(error) => Err(error.failed(name)),
        }
    }

    fn property(&mut self, object: &str, interface: &str, name: &str) -> Result<Told<Value>, Failed> {
        let arguments = [Value::Text(interface.into()), Value::Text(name.into())];
        let told = self.ask(object, PROPERTIES, "Get", &arguments)?;
        Ok(match told {
            Told::Values(values) => match values.into_iter().next() {
                Some(Value::Variant(value)) => Told::Values(*value),
                _ => return Err(Failed::refused(format!("systemd tells no value of {name}"))),
            },
            Told::Error(error) => Told::Error(error),
        })
    }
}

/// What the kernel says of a line to somebody who is being executed anew.
fn is_hanging_up(errno: Errno) -> bool {
    matches!(errno, Errno::CONNRESET | Errno::PIPE | Errno::CONNREFUSED)
}

/// Whether the manager is not there just now.
fn is_absence(told: &Result<Told<Vec<Value>>, Failed>) -> bool {
    match told {
        Err(failed) => failed.errno().is_some_and(is_hanging_up),
        Ok(Told::Error(error)) => error.is_absence(),
        Ok(Told::Values(_)) => false,
    }
}

/// `257.8-1~deb13u2`, `v245`.
fn number(version: &str) -> Option<u32> {
    let version = version.trim_start_matches("systemd ").trim_start_matches('v');
    let end = version.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(version.len());
    version.get(..end)?.parse().ok()
}

/// What a user's manager may hand on, where the host has the unified tree alone.
fn controllers(group: &str) -> Result<Option<Vec<String>>, Failed> {
    match text(&format!("/sys/fs/cgroup{group}/cgroup.controllers")) {
        Ok(text) => Ok(Some(text.split_whitespace().map(str::to_owned).collect())),
        Err(failed) if failed.errno() == Some(Errno::NOENT) => Ok(None),
        Err(failed) => Err(failed),
    }
}

/// A small file of the kernel's.
fn text(path: &str) -> Result<String, Failed> {
    Ok(String::from_utf8_lossy(&sys::read_path(path, 4096, 1 << 16)?).into_owned())
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn a_version_begins_with_its_number() {
        for (text, told) in
            [("257.8-1~deb13u2", Some(257)), ("v245.4", Some(245)), ("239", Some(239)), ("", None)]
        {
            assert_eq!(number(text), told, "{text}");
        }
    }
}
