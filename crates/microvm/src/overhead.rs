//! What a monitor takes beside the guest's memory, measured of one that runs.

use serde::Serialize;
use sys::{Doing, Failed};

/// Memory of one process, in bytes that are there and not merely mapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Overhead {
    /// All of it.
    pub resident: u64,
    /// What of it is the guest's.
    pub guest: u64,
    /// The rest.
    pub overhead: u64,
}

/// Measures a process whose guest has so much memory; none once it is gone.
///
/// The guest's memory is one mapping, or several that follow each other: of all that are large enough to hold it, the smallest;
/// where there is none, the largest ones until they are as large.
pub fn of_process(pid: i32, guest: u64) -> Result<Option<Overhead>, Failed> {
    match probe::read_text(&format!("/proc/{pid}/smaps")) {
        Err(failed) if matches!(failed.errno(), Some(sys::Errno::NOENT | sys::Errno::SRCH)) => Ok(None),
        Err(failed) => Err(failed).doing(|| "measure the monitor"),
        Ok(text) => Ok(Some(measured(&text, guest))),
    }
}

fn measured(smaps: &str, guest: u64) -> Overhead {
    let mappings = mappings(smaps);
    let resident = mappings.iter().map(|mapping| mapping.resident).sum();
    let whole = mappings.iter().filter(|mapping| mapping.size >= guest && guest > 0);
    let found = match whole.min_by_key(|mapping| mapping.size) {
        Some(mapping) => mapping.resident.min(guest),
        None => pieces(mappings, guest),
    };
    Overhead { resident, guest: found, overhead: resident - found.min(resident) }
}

/// The largest mappings, until they are as large as the guest's memory.
fn pieces(mut mappings: Vec<Mapping>, guest: u64) -> u64 {
    mappings.sort_by_key(|mapping| std::cmp::Reverse(mapping.size));
    let (mut size, mut resident) = (0, 0);
    for mapping in mappings {
        if size + mapping.size > guest {
            continue;
        }
        size += mapping.size;
        resident += mapping.resident;
    }
    resident
}

#[derive(Clone, Copy, Debug)]
struct Mapping {
    size: u64,
    resident: u64,
}

fn mappings(smaps: &str) -> Vec<Mapping> {
    let kilobytes = |text: &str| text.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok();
    let mut mappings: Vec<Mapping> = Vec::new();
    for line in smaps.lines() {
        if let Some(size) = line.strip_prefix("Size:").and_then(kilobytes) {
            mappings.push(Mapping { size: size << 10, resident: 0 });
        } else if let Some(resident) = line.strip_prefix("Rss:").and_then(kilobytes)
            && let Some(mapping) = mappings.last_mut()
        {
            mapping.resident = resident << 10;
        }
    }
    mappings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guests_mapping_is_the_smallest_that_holds_it() {
        let mapping = |size: u64, resident: u64| {
            format!(
                "7f0000000000-7f0000001000 rw-p 0 00:00 0\nSize: {size:>10} kB\nKernelPageSize: 4 kB\nRss: {resident} kB\nPss: 1 kB\n"
            )
        };
        let text = [mapping(1024, 512), mapping(65536, 32768), mapping(200_000, 100), mapping(4, 4)].concat();
        let told = measured(&text, 64 << 20);
        assert_eq!(told, Overhead { resident: 33384 << 10, guest: 32 << 20, overhead: 616 << 10 });
        // A gap in the middle of the guest's memory makes two of it.
        let text = [mapping(3 << 20, 1000), mapping(1 << 20, 500), mapping(100, 10)].concat();
        assert_eq!(measured(&text, 4 << 30).guest, 1500 << 10);
        assert_eq!(measured("", 1), Overhead::default());
        assert_eq!(measured(&text, 0).guest, 0, "without a guest's memory all is overhead");
    }
}
