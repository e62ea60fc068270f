//! Other limits of a unit that is there, and the way back.

use plan::systemd::{Held, Property};
use sys::Failed;

use super::Systemd;

/// Properties of a unit that are set together.
#[derive(Debug)]
pub struct UnitChange {
    /// The unit.
    pub held: Held,
    /// What they are to be.
    pub wanted: Vec<Property>,
    /// What they were.
    pub former: Vec<Property>,
}

impl UnitChange {
    /// Sets them; its manager is asked only where there are any.
    pub fn make(&self) -> Result<(), Failed> {
        self.say(&self.wanted)
    }

    /// Sets them to what they were.
    pub fn take_back(&self) -> Result<(), Failed> {
        self.say(&self.former)
    }

    fn say(&self, properties: &[Property]) -> Result<(), Failed> {
        if properties.is_empty() {
            return Ok(());
        }
        Systemd::reach(&self.held.bus)?.change(&self.held.unit, properties)
    }
}
