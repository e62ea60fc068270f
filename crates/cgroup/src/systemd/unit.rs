//! Units: made, changed, and taken away again.

use std::time::Duration;

use dbus::Value;
use plan::systemd::{Held, Property, Unit};
use sys::{Doing, Errno, Failed};

use super::bus::Told;
use super::{MANAGER, NAME, OBJECT, PATIENCE, Systemd, is_absence, is_hanging_up, text};
use crate::wait::{Deadline, Missing};

const UNIT: &str = "org.freedesktop.systemd1.Unit";

/// How often a manager is asked that may have forgotten us.
const NOW_AND_THEN: Duration = Duration::from_millis(100);

/// A job as the manager names it: an object.
struct Job(String);

impl Systemd {
    /// Starts a transient unit, a scope around the process with this number, and waits until it is there. One of this name
    /// that is there already makes room if it is ours and nobody lives in it; any other is left alone, which is an error.
    pub fn start(&mut self, unit: &Unit, pid: Option<i32>) -> Result<(), Failed> {
        self.begin(unit, pid).doing(|| format!("start {}", unit.held.unit))
    }

    fn begin(&mut self, unit: &Unit, pid: Option<i32>) -> Result<(), Failed> {
        self.connection.subscribe()?;
        let mut properties: Vec<Value> = unit.properties.iter().map(pair).collect();
        if let Some(pid) = pid {
            let pids = Value::Array("u".into(), vec![Value::Uint32(pid.cast_unsigned())]);
            properties.push(pair(&Property { name: "PIDs".into(), value: pids }));
        }
        let arguments = [
            Value::Text(unit.held.unit.clone()),
            Value::Text("replace".into()),
            Value::Array("(sv)".into(), properties),
            Value::Array("(sa(sv))".into(), Vec::new()),
        ];
        let mut has_made_room = false;
        let mut pauses = Missing::ListenerOfBus.back_off_within(PATIENCE);
        let job = loop {
            let told = self.connection.call(NAME, OBJECT, MANAGER, "StartTransientUnit", &arguments);
            if is_absence(&told) && pauses.pause().is_ok() {
                // Executed anew in the middle of it: it may have heard us before.
                self.again()?;
                match self.state(&unit.held)? {
                    State::Ours(_) => break None,
                    _ => continue,
                }
            }
            match told? {
                Told::Error(error) if error.is("UnitExists") && !has_made_room => {
                    self.make_room(&unit.held)?;
                    has_made_room = true;
                }
                told => break Some(job(told, "StartTransientUnit")?),
            }
        };
        let started = self.wait(job.as_ref(), &unit.held).and_then(|()| self.verify(unit, pid));
        started.map_err(|failed| match self.stop(&unit.held) {
            Ok(()) => failed,
            Err(second) => failed.while_doing(&format!("(it could not be stopped: {second})")),
        })
    }

    /// The unit's group is the one that the plan has.
    fn verify(&mut self, unit: &Unit, pid: Option<i32>) -> Result<(), Failed> {
        let kind = if unit.held.is_scope() { "Scope" } else { "Slice" };
        let group = self.unit_property(&unit.held.unit, &format!("{NAME}.{kind}"), "ControlGroup")?;
        match group.as_text() {
            Some(group) if group == unit.group => {}
            _ => return Err(Failed::refused(format!("its control group is {group}, not {}", unit.group))),
        }
        let Some(pid) = pid else { return Ok(()) };
        let groups = text(&format!("/proc/{pid}/cgroup"))?;
        // The unified tree, or on version 1 the hierarchy that systemd keeps its books by.
        let is_in = |line: &str| {
            let (controllers, group) = line.split_once(':')?.1.split_once(':')?;
            Some(matches!(controllers, "" | "name=systemd") && group == unit.group)
        };
        if groups.lines().any(|line| is_in(line) == Some(true)) {
            return Ok(());
        }
        Err(Failed::refused(format!("its process is not in {}, but {:?}", unit.group, groups.trim_end())))
    }

    fn make_room(&mut self, held: &Held) -> Result<(), Failed> {
        let state = match self.state(held)? {
            State::Gone => return Ok(()),
            State::Strange(description) => {
                let why = format!("a unit of this name is there already, and is not ours: {description:?}");
                return Err(Failed::refused(why));
            }
            State::Ours(state) => state,
        };
        if !matches!(state.as_str(), "failed" | "inactive") {
            let told = self.manager("GetUnitProcesses", &[Value::Text(held.unit.clone())])?;
            if let Told::Values(values) = told
                && let Some(Value::Array(_, processes)) = values.first()
                && !processes.is_empty()
            {
                let count = processes.len();
                return Err(Failed::refused(format!("it is there already, with {count} process(es) in it")));
            }
        }
        self.stop(held)?;
        let deadline = Deadline::after(PATIENCE);
        // One that is not needed any more goes when the manager gets to it, and it says so.
        while let State::Ours(_) = self.state(held)? {
            let is_it = |value: Option<&Value>| value.and_then(Value::as_text) == Some(&held.unit);
            loop {
                let Some(signal) = self.connection.signal(deadline)? else {
                    return Err(Failed::call(
                        "an earlier one of this name does not go away",
                        Errno::TIMEDOUT,
                    ));
                };
                if signal.member == "UnitRemoved" && signal.values().is_ok_and(|values| is_it(values.first()))
                {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Stops a unit, waits until that is done, and forgets how it ended. One that is gone is no error, and one of the same
    /// name that is not ours is left alone.
    pub fn stop(&mut self, held: &Held) -> Result<(), Failed> {
        self.end(held).doing(|| format!("stop {}", held.unit))
    }

    fn end(&mut self, held: &Held) -> Result<(), Failed> {
        self.connection.subscribe()?;
        let State::Ours(state) = self.state(held)? else { return Ok(()) };
        let name = Value::Text(held.unit.clone());
        if !matches!(state.as_str(), "failed" | "inactive") {
            match self.manager("StopUnit", &[name.clone(), Value::Text("replace".into())])? {
                Told::Error(error) if error.is("NoSuchUnit") => return Ok(()),
                told => {
                    let job = job(told, "StopUnit")?;
                    self.wait(Some(&job), held)?;
                }
            }
        }
        match self.manager("ResetFailedUnit", &[name])? {
            Told::Error(error) if !error.is("NoSuchUnit") => Err(error.failed("ResetFailedUnit")),
            _ => Ok(()),
        }
    }

    /// Sets properties of a unit until it ends.
    pub fn change(&mut self, unit: &str, properties: &[Property]) -> Result<(), Failed> {
        let properties = Value::Array("(sv)".into(), properties.iter().map(pair).collect());
        let arguments = [Value::Text(unit.into()), Value::Bool(true), properties];
        match self.manager("SetUnitProperties", &arguments)? {
            Told::Values(_) => Ok(()),
            Told::Error(error) => Err(error.failed("SetUnitProperties")).doing(|| format!("change {unit}")),
        }
    }

    /// Moves a process into a unit's group, or into one below it, `/a`.
    pub fn attach(&mut self, unit: &str, below: &str, pid: i32) -> Result<(), Failed> {
        let pids = Value::Array("u".into(), vec![Value::Uint32(pid.cast_unsigned())]);
        let arguments = [Value::Text(unit.into()), Value::Text(below.into()), pids];
        match self.manager("AttachProcessesToUnit", &arguments)? {
            Told::Values(_) => Ok(()),
            Told::Error(error) => Err(error.failed("AttachProcessesToUnit")).doing(|| format!("join {unit}")),
        }
    }

    /// Waits until a job is over, and well. Of one whose name was not heard it is asked now and then whether it is over.
    fn wait(&mut self, job: Option<&Job>, held: &Held) -> Result<(), Failed> {
        let deadline = Deadline::after(PATIENCE);
        let mut is_told = job.is_some();
        loop {
            let next = if is_told { deadline } else { Deadline::after(NOW_AND_THEN) };
            match self.connection.signal(next) {
                Ok(Some(signal)) if signal.member == "JobRemoved" => {
                    let Ok(values) = signal.values() else { continue };
                    // Number, object, unit, result.
                    let [_, object, _, result] = values.as_slice() else { continue };
                    if job.is_none_or(|job| object.as_text() != Some(&job.0)) {
                        continue;
                    }
                    self.connection.forget();
                    return match result.as_text() {
                        Some("done") => Ok(()),
                        _ => Err(Failed::refused(format!("its job ended as {result}"))),
                    };
                }
                Ok(None) if self.has_settled(held)? => return Ok(()),
                Ok(None) if is_told || deadline.is_over() => {
                    return Err(Failed::call("its job does not end", Errno::TIMEDOUT));
                }
                Ok(_) => {}
                // A manager that executes itself anew forgets whom it owes a signal.
                Err(failed) if failed.errno().is_some_and(is_hanging_up) && !deadline.is_over() => {
                    self.again()?;
                    is_told = false;
                }
                Err(failed) => return Err(failed),
            }
        }
    }

    /// Whether no job of the unit's is left.
    fn has_settled(&mut self, held: &Held) -> Result<bool, Failed> {
        if matches!(self.state(held)?, State::Gone) {
            return Ok(true);
        }
        let job = self.unit_property(&held.unit, UNIT, "Job")?;
        match job {
            Value::Struct(fields) => Ok(fields.first() == Some(&Value::Uint32(0))),
            _ => Err(Failed::refused("systemd tells no job of a unit")),
        }
    }

    /// What is known of a unit of this name.
    fn state(&mut self, held: &Held) -> Result<State, Failed> {
        match self.manager("GetUnit", &[Value::Text(held.unit.clone())])? {
            Told::Error(error) if error.is("NoSuchUnit") => return Ok(State::Gone),
            Told::Error(error) => return Err(error.failed("GetUnit")),
            Told::Values(_) => {}
        }
        let description = self.unit_property(&held.unit, UNIT, "Description")?;
        let state = self.unit_property(&held.unit, UNIT, "ActiveState")?;
        Ok(match (description.as_text(), state.as_text()) {
            (Some(description), Some(state)) if description == held.description => {
                State::Ours(state.to_owned())
            }
            // One that went away between two questions is described by its name, and is loaded by being asked for.
            (Some(description), Some("inactive")) if description == held.unit => State::Gone,
            _ => State::Strange(description.to_string()),
        })
    }

    fn manager(&mut self, member: &str, arguments: &[Value]) -> Result<Told<Vec<Value>>, Failed> {
        self.ask(OBJECT, MANAGER, member, arguments)
    }

    fn unit_property(&mut self, unit: &str, interface: &str, name: &str) -> Result<Value, Failed> {
        match self.property(&object(unit), interface, name)? {
            Told::Values(value) => Ok(value),
            Told::Error(error) => Err(error.failed(name)),
        }
    }
}

enum State {
    Gone,
    /// With its `ActiveState`.
    Ours(String),
    /// With its description.
    Strange(String),
}

fn pair(property: &Property) -> Value {
    let value = Value::Variant(Box::new(property.value.clone()));
    Value::Struct(vec![Value::Text(property.name.clone()), value])
}

fn job(told: Told<Vec<Value>>, call: &str) -> Result<Job, Failed> {
    match told {
        Told::Error(error) => Err(error.failed(call)),
        Told::Values(values) => match values.first().and_then(Value::as_text) {
            Some(job) => Ok(Job(job.to_owned())),
            None => Err(Failed::refused(format!("{call}: systemd names no job"))),
        },
    }
}

/// The object that stands for a unit: what is neither letter nor digit is written in hexadecimal.
fn object(unit: &str) -> String {
    let mut object = format!("{OBJECT}/unit/");
    for (at, byte) in unit.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (at > 0 && byte.is_ascii_digit()) {
            object.push(byte.into());
        } else {
            object.push('_');
            for half in [byte >> 4, byte & 15] {
                object.extend(char::from_digit(half.into(), 16));
            }
        }
    }
    object
}

#[cfg(test)]
mod tests {
    use super::object;

    #[test]
    fn a_unit_is_an_object_with_a_name_of_letters_and_digits() {
        assert_eq!(object("4a-b.scope"), "/org/freedesktop/systemd1/unit/_34a_2db_2escope");
        assert_eq!(object("cups.service"), "/org/freedesktop/systemd1/unit/cups_2eservice");
    }
}
