//! `events`.

use std::time::Instant;

use container::{Containers, Event, Watched};

use super::{Complaint, Outcome, print};
use crate::figures::Line;
use crate::invocation::Events;

pub(super) fn events(containers: &Containers, events: &Events) -> Outcome {
    let told = |error: container::Error| Complaint::from(error.while_doing(&format!("events {}", events.id)));
    let watched = containers.watched(&events.id).map_err(told)?;
    if events.once {
        return figures(&events.id, &watched);
    }
    let coming = if events.details { watched.close_events() } else { watched.events() };
    let mut coming = coming.map_err(told)?;
    let mut next = Instant::now() + events.interval;
    loop {
        match coming.wait_until(next).map_err(told)? {
            Some(Event::Ended) => return Ok(0),
            Some(Event::OutOfMemory) => {
                let memory = if events.details { watched.memory().map_err(told)? } else { None };
                tell(&Line::out_of_memory(&events.id, memory))?;
            }
            Some(Event::Pressure { strain, times }) => {
                tell(&Line::pressure(&events.id, strain, times))?;
            }
            Some(Event::Frozen) => drop(tell(&Line::frozen(&events.id))?),
            Some(Event::Thawed) => drop(tell(&Line::thawed(&events.id))?),
            None => {
                figures(&events.id, &watched)?;
                // As a clock ticks; what could not be told in time is left out.
                next = (next + events.interval).max(Instant::now());
            }
        }
    }
}

fn figures(id: &str, watched: &Watched) -> Outcome {
    let told = |error: container::Error| Complaint::from(error.while_doing(&format!("events {id}")));
    let all = watched.statistics().map_err(told)?;
    tell(&Line::figures(id, &all))
}

fn tell(line: &Line<'_>) -> Outcome {
    let text = line.to_text().map_err(|error| Complaint::new(error.to_string()))?;
    print(&(text + "\n"))
}
