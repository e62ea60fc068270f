//! An archive as the root file system.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use sys::Errno;
use tar::{Archive, EntryType};

use super::Interrupt;
use crate::command::Complaint;
use crate::log::Log;

/// Packings by their first bytes, with the program that takes each off.
const PACKINGS: [(&[u8], &str, &str); 4] = [
    (b"\xfd7zXZ\0", "xz", "xz -dc"),
    (b"\x28\xb5\x2f\xfd", "zstd", "zstd -dc"),
    (b"BZh", "bzip2", "bzip2 -dc"),
    (b"\x04\x22\x4d\x18", "lz4", "lz4 -dc"),
];

/// Unpacks a tar archive, plain or by gzip, into an empty directory. Owners, modes and times are the archive's;
/// extended attributes are not taken, so a file has no capabilities of its own.
pub(super) fn unpack(
    file: &Path,
    rootfs: &Path,
    interrupt: &Interrupt,
    log: &mut Log,
) -> Result<(), Complaint> {
    let told = |why: &dyn std::fmt::Display| Complaint::new(format!("try: --tar {}: {why}", file.display()));
    let mut reader = BufReader::new(File::open(file).map_err(|error| told(&error))?);
    let head = reader.fill_buf().map_err(|error| told(&error))?;
    if let Some((_, name, program)) = PACKINGS.iter().find(|(magic, ..)| head.starts_with(magic)) {
        return Err(Complaint {
            hint: Some(format!("{program} {} | cofferdam try --tar /dev/stdin", file.display())),
            ..told(&format!("is packed by {name}, which is not built in"))
        });
    }
    let archive: Box<dyn Read> =
        if head.starts_with(b"\x1f\x8b") { Box::new(MultiGzDecoder::new(reader)) } else { Box::new(reader) };
    let mut archive = Archive::new(archive);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(true);
    let mut count = 0;
    let entries = archive.entries().map_err(|error| told(&error))?;
    for entry in entries {
        interrupt.check()?;
        let mut entry = entry.map_err(|error| match count {
            0 => told(&"is no tar archive"),
            _ => told(&format!("breaks off or is damaged: {}", error.to_string().escape_debug())),
        })?;
        count += 1;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        match entry.header().entry_type() {
            // /dev is made anew in every container; elsewhere somebody may miss them.
            EntryType::Block | EntryType::Char | EntryType::Fifo => {
                if !name.trim_start_matches(['.', '/']).starts_with("dev/") {
                    log.warning(&format!(
                        "try: --tar {}: {name:?} is a device or a pipe: left out",
                        file.display()
                    ));
                }
                continue;
            }
            _ => {}
        }
        let is_inside = entry.unpack_in(rootfs).map_err(|error| {
            let (why, hint) = unpacking(&name, &error);
            Complaint { hint, ..told(&why) }
        })?;
        if !is_inside {
            return Err(told(&format!("{name:?} would lie outside of the root file system")));
        }
    }
    if count == 0 {
        return Err(told(&"holds nothing"));
    }
    Ok(())
}

/// What is at the bottom of a failure to unpack `name`. The library's errors name our own directory at each link, and
/// they quote the archive, which may hold anything.
fn unpacking(name: &str, error: &std::io::Error) -> (String, Option<String>) {
    let mut cause: &dyn std::error::Error = error;
    let mut leaves = cause.to_string().contains(OUTSIDE);
    while let Some(next) = cause.source() {
        cause = next;
        leaves |= cause.to_string().contains(OUTSIDE);
    }
    if leaves {
        return (format!("{name:?} would lie outside of the root file system"), None);
    }
    let errno = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
    let hint = match errno {
        Some(errno) if errno == Errno::NOSPC.raw_os_error() => {
            Some("it is unpacked in memory, half of which it may take; unpack it on a disk, and use --rootfs")
        }
        Some(_) => None,
        None => Some("is the archive whole?"),
    };
    (format!("unpack {name:?}: {}", cause.to_string().escape_debug()), hint.map(str::to_owned))
}

/// How the library words its refusal to follow a link out of the directory that it unpacks into.
const OUTSIDE: &str = "outside of destination path";
