//! What a monitor takes beside the guest's memory, measured of one that runs.

use serde::Serialize;
use sys::{Doing, Failed};

/// Memory of one process, in bytes that are there and not merely mapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Overhead {
    /// All of it.
    pub resident: u64,
    /// Whose it is; none where no memory of it looks like the guest's, as when it has just begun.
    #[serde(flatten)]
    pub split: Option<Split>,
}

/// Whose memory it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Split {
    /// What is the guest's.
    pub guest: u64,
    /// The rest.
    pub overhead: u64,
}

/// Measures a process whose guest has so much memory; none once it is gone.
///
/// The guest's memory is one mapping of its size, or a little larger, as the kernel may have joined it with a neighbour; or several
/// that are as large together. One that is much larger is something else, and so is one that is executed: qemu has room for a gigabyte
/// of code that it has translated.
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
    let data: Vec<Mapping> = mappings.into_iter().filter(|mapping| mapping.is_data).collect();
    let fits = |mapping: &&Mapping| (guest..=guest.saturating_add(guest / 8)).contains(&mapping.size);
    let found = match data.iter().filter(fits).min_by_key(|mapping| mapping.size) {
        _ if guest == 0 => Some(0),
        Some(mapping) => Some(mapping.resident.min(guest)),
        None => pieces(data, guest),
    };
    Overhead { resident, split: found.map(|guest| Split { guest, overhead: resident - guest.min(resident) }) }
}

/// What is resident of the largest mappings, until they are as large as the guest's memory; none where they are never that.
fn pieces(mut mappings: Vec<Mapping>, guest: u64) -> Option<u64> {
    mappings.sort_by_key(|mapping| std::cmp::Reverse(mapping.size));
    let (mut size, mut resident) = (0, 0);
    for mapping in mappings {
        if size + mapping.size <= guest {
            size += mapping.size;
            resident += mapping.resident;
        }
    }
    (size == guest).then_some(resident)
}

#[derive(Clone, Copy, Debug, Default)]
struct Mapping {
    size: u64,
    resident: u64,
    /// Whether it is read and written, and not executed.
    is_data: bool,
}

/// The mappings in the text of /proc/PID/smaps: each a line with its permissions, then its figures (proc_pid_smaps(5)).
fn mappings(smaps: &str) -> Vec<Mapping> {
    let bytes =
        |text: &str| text.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|number| number << 10);
    let mut mappings: Vec<Mapping> = Vec::new();
    for line in smaps.lines() {
        match (line.split_once(':'), mappings.last_mut()) {
            (Some(("Size", size)), Some(mapping)) => mapping.size = bytes(size).unwrap_or(0),
            (Some(("Rss", resident)), Some(mapping)) => mapping.resident = bytes(resident).unwrap_or(0),
            // The name of a figure is one word; the line of a mapping has blanks before its first colon.
            (Some((name, _)), _) if name.contains(' ') => {
                mappings.push(Mapping { is_data: name.contains(" rw-"), ..Mapping::default() });
            }
            _ => {}
        }
    }
    mappings
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;

    /// Mappings by their sizes and what is resident of them, in KiB.
    fn smaps(mappings: &[(u64, u64)]) -> String {
        let told = |&(size, resident): &(u64, u64)| {
            format!(
                "7f0000000000-7f0000001000 rw-p 00000000 00:00 0 \nSize: {size:>10} kB\nKernelPageSize: 4 kB\nRss: {resident} kB\nPss: 1 kB\n"
            )
        };
        mappings.iter().map(told).collect()
    }

    fn split(mappings: &[(u64, u64)], guest: u64) -> Option<Split> {
        measured(&smaps(mappings), guest).split
    }

    #[test]
    fn the_guests_mapping_is_the_one_of_its_size() {
        let code = "7f0000000000-7f0000001000 rwxp 00000000 00:00 0 \nSize: 65536 kB\nRss: 100 kB\n";
        let text = smaps(&[(1024, 512), (65_540, 32_768), (200_000, 0), (4, 4)]) + code;
        let told = measured(&text, 64 * MIB);
        let split = Split { guest: 32 * MIB, overhead: 616 * KIB };
        assert_eq!(told, Overhead { resident: 33_384 * KIB, split: Some(split) });
        assert_eq!(measured("", 0).split, Some(Split::default()), "without a guest's memory all is overhead");
    }

    #[test]
    fn a_gap_in_the_middle_makes_two_of_it() {
        let mappings = [(3 << 20, 1000), (1 << 20, 500), (100, 10)];
        assert_eq!(split(&mappings, 4096 * MIB), Some(Split { guest: 1500 * KIB, overhead: 10 * KIB }));
    }

    /// Libraries that a monitor begins with are not its guest's, whatever their sizes add up to.
    #[test]
    fn a_guest_that_is_not_there_yet_is_not_made_up() {
        assert_eq!(split(&[(20_000, 20_000), (5_000, 5_000)], 64 * MIB), None);
        assert_eq!(split(&[(1 << 20, 900)], 64 * MIB), None, "a reserve of a gigabyte is no guest of 64 MiB");
        assert_eq!(split(&[], 1), None);
    }
}
