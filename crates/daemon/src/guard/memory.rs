//! The memory of a container, watched by a worker.

use std::time::{Duration, Instant};

use engine::{Bench, Error, Event, Kind, Strain, Task, Watched};
use wire::{Memory, Pressure};

/// Pressure is told once in this time at most: while it lasts, the kernel says so without end.
const SELDOM: Duration = Duration::from_secs(1);

/// Watches until the container is no more, and tells the counts whenever its memory runs out or is hard to find. What is
/// told first is that it watches, and why it will tell of no pressure, where it cannot.
pub(super) fn watch(task: &Task, bench: &Bench) -> Result<Vec<String>, Error> {
    let watched = task.watched()?;
    let (mut events, lacking) = match watched.close_events() {
        Ok(events) => (events, String::new()),
        Err(error) => (watched.events()?, error.to_string()),
    };
    bench.tell(&lacking)?;
    let mut lacks = 0;
    let mut last: Option<Instant> = None;
    loop {
        let pressure = match events.wait()? {
            Event::Ended => return Ok(Vec::new()),
            Event::OutOfMemory => {
                lacks += 1;
                None
            }
            Event::Pressure { strain, .. } if last.is_none_or(|last| last.elapsed() >= SELDOM) => {
                let Some(pressure) = worth_telling(strain) else { continue };
                last = Some(Instant::now());
                Some(pressure)
            }
            _ => continue,
        };
        let counts = Memory { pressure, ..counts(&watched, lacks)? };
        let text = serde_json::to_string(&counts).map_err(|why| Error::new(Kind::Other, why.to_string()))?;
        bench.tell(&text)?;
    }
}

/// What the kernel has counted; of a lack what we have, where it does not.
fn counts(watched: &Watched, lacks: u64) -> Result<Memory, Error> {
    let counted = watched.statistics()?.memory.events;
    let of = |name: &str| counted.get(name).copied();
    Ok(Memory {
        low: of("low"),
        high: of("high"),
        max: of("max"),
        oom: of("oom").or((lacks > 0).then_some(lacks)),
        oom_kill: of("oom_kill"),
        pressure: None,
    })
}

/// That memory is reclaimed at all, which v1 tells too, is everyday life.
fn worth_telling(strain: Strain) -> Option<Pressure> {
    match strain {
        Strain::Low => None,
        Strain::Medium => Some(Pressure::Medium),
        Strain::Critical => Some(Pressure::Critical),
        Strain::Some { .. } => Some(Pressure::Some),
        Strain::Full { .. } => Some(Pressure::Full),
    }
}
