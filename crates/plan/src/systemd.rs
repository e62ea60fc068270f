//! Control groups that a service manager makes (`--systemd-cgroup`): a transient unit for each container, with a property
//! for each limit. What is asked of the manager is decided here, in its own words.

mod name;
mod properties;
mod text;

use std::fmt;

use dbus::Value;
use filter::device::List;
use serde::{Deserialize, Serialize};
use spec::{Resources, Spec};

use crate::cgroup::Mode;
use crate::{Refused, resources};

pub use name::expand;
pub use properties::{changes, device_changes, unlimited};
pub(crate) use properties::{device_list_changes, in_its_scale, rounded};

/// Where a service manager is spoken to.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Bus {
    /// A D-Bus address, `unix:path=/run/systemd/private`.
    pub address: String,
    /// Whether the manager itself is at the other end, and not a bus that it is on.
    pub is_direct: bool,
    /// Whether it is a user's manager, and not the host's.
    pub is_user: bool,
}

/// A service manager, as it tells of itself.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Manager {
    /// Where it was reached.
    pub bus: Bus,
    /// Its version, 257.
    pub version: u32,
    /// The control group that all of its units are in, without a slash at its end: of the host's manager none.
    pub group: String,
    /// The controllers that it may hand on; none where that is not known.
    pub controllers: Option<Vec<String>>,
}

/// A unit in the making.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unit {
    /// What is kept of it.
    #[serde(flatten)]
    pub held: Held,
    /// The control group that it gets, from the root of the hierarchy on.
    pub group: String,
    /// What is asked for.
    pub properties: Vec<Property>,
}

/// What must be known of a unit after it was made.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Held {
    /// Its name, `cofferdam-web.scope`.
    pub unit: String,
    /// Its manager.
    pub bus: Bus,
    /// The manager's version.
    pub version: u32,
    /// How it is described: a unit of this name that is described otherwise is not ours.
    pub description: String,
}

/// A property of a unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Property {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Value,
}

impl Property {
    pub(crate) fn new(name: &str, value: Value) -> Self {
        Self { name: name.into(), value }
    }
}

impl fmt::Display for Property {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}={}", self.name, self.value)
    }
}

impl Held {
    /// Whether there are processes in it from its beginning on, by whom it lives; a slice has none.
    pub fn is_scope(&self) -> bool {
        self.unit.strip_suffix(".scope").is_some()
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = if self.held.bus.is_user { "the user's" } else { "the host's" };
        write!(to, "{} by {whose} systemd", self.held.unit)?;
        for (number, property) in self.properties.iter().enumerate() {
            write!(to, "{}{property}", if number == 0 { "  " } else { ", " })?;
        }
        Ok(())
    }
}

/// The controllers of version 2 that systemd knows, and hands down to units that delegate.
pub(crate) const CONTROLLERS: [&str; 5] = ["cpuset", "cpu", "io", "memory", "pids"];

/// Properties of a unit that have a meaning for who made it, and are not for a document to set.
const OURS: [&str; 6] = ["Delegate", "Description", "PIDFDs", "PIDs", "Slice", "Wants"];

/// The annotations that name properties begin so.
const ANNOTATION: &str = "org.systemd.property.";

/// The unit of a container.
pub(crate) fn unit(
    spec: &Spec,
    given: Option<&str>,
    manager: &Manager,
    mode: Mode,
    id: &str,
) -> Result<Unit, Refused> {
    let none = Resources::default();
    let resources = spec.linux.as_ref().and_then(|linux| linux.resources.as_ref()).unwrap_or(&none);
    let devices = resources::device_list(resources)?;
    let mut unit = described(&format!("Cofferdam container {id}"), given, manager, mode, id)?;
    unit.properties.extend(properties::limits(resources, &devices, manager, mode)?);
    for (key, text) in &spec.annotations {
        let Some(name) = key.strip_prefix(ANNOTATION) else { continue };
        let property =
            annotated(name, text).map_err(|why| Refused::new(format!("annotations[{key:?}]"), why))?;
        // The last word is the document's.
        unit.properties.retain(|known| known.name != property.name);
        unit.properties.push(property);
    }
    Ok(unit)
}

/// The unit of a sandbox: a scope, as its processes are not systemd's to start.
pub(crate) fn unit_of_sandbox(
    id: &str,
    given: &str,
    manager: &Manager,
    mode: Mode,
    resources: &Resources,
    devices: &List,
) -> Result<Unit, Refused> {
    let mut unit = described(&format!("Cofferdam sandbox {id}"), Some(given), manager, mode, id)?;
    unit.properties.extend(properties::limits(resources, devices, manager, mode)?);
    Ok(unit)
}

/// A unit with all properties but those of limits.
fn described(
    description: &str,
    given: Option<&str>,
    manager: &Manager,
    mode: Mode,
    id: &str,
) -> Result<Unit, Refused> {
    let name::Place { unit, slice, group } = name::place(given, manager, id)?;
    let held = Held {
        unit,
        bus: manager.bus.clone(),
        version: manager.version,
        description: description.to_owned(),
    };
    let mut properties = vec![Property::new("Description", Value::Text(held.description.clone()))];
    if held.is_scope() {
        properties.push(Property::new("Slice", Value::Text(slice)));
        properties.push(Property::new("Delegate", Value::Bool(true)));
        // A unit that failed would stay until somebody resets it, and its name with it.
        properties.push(Property::new("CollectMode", Value::Text("inactive-or-failed".into())));
    } else {
        properties.push(Property::new("Wants", Value::texts(&[&slice])));
    }
    properties.push(Property::new("DefaultDependencies", Value::Bool(false)));
    let blocks = if mode == Mode::V2 { "IOAccounting" } else { "BlockIOAccounting" };
    for counted in ["CPUAccounting", blocks, "MemoryAccounting", "TasksAccounting"] {
        properties.push(Property::new(counted, Value::Bool(true)));
    }
    Ok(Unit { held, group, properties })
}

/// A property of an annotation, in the text form of GVariant; seconds become the microseconds that the manager wants.
fn annotated(name: &str, text: &str) -> Result<Property, String> {
    if name.len() < 3 || !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Err(format!("{name:?} is no name of a property"));
    }
    let in_seconds =
        name.strip_suffix("Sec").filter(|rest| rest.ends_with(|last: char| last.is_ascii_lowercase()));
    let property = match in_seconds {
        Some(stem) => Property::new(&format!("{stem}USec"), text::microseconds(text)?),
        None => Property::new(name, text::value(text)?),
    };
    if OURS.contains(&property.name.as_str()) {
        return Err("is for us to set".into());
    }
    Ok(property)
}
