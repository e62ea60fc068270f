//! What a sandbox needs of memory: the guest's, and what its monitor takes beside it.

use serde::{Deserialize, Serialize};

use crate::Refused;

/// What was asked for, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The guest's memory.
    pub guest: Option<u64>,
    /// What the monitor takes beside it, as it was measured.
    pub overhead: Option<u64>,
    /// The limit.
    pub limit: Option<u64>,
    /// The helpers' own limit.
    pub helpers: Option<u64>,
}

/// How it adds up, in bytes.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Sized {
    /// The guest's memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<u64>,
    /// What the monitor takes beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overhead: Option<u64>,
    /// The limit of all of it; none where none was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// The helpers' own limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helpers: Option<u64>,
}

impl Sized {
    pub(super) fn of(asked: &Asked, in_document: Option<u64>) -> Result<Self, Refused> {
        let Asked { guest, overhead, limit, helpers } = *asked;
        if guest.is_some() && overhead.is_none() {
            return Err(Refused::asked(
                "--guest-memory needs --overhead, what the monitor takes beside the guest's memory: \
                 \"sandbox limits show\" measures it of one that runs",
            ));
        }
        let needed = guest.unwrap_or(0).checked_add(overhead.unwrap_or(0));
        let needed =
            needed.ok_or_else(|| Refused::asked("--guest-memory and --overhead: more than there can be"))?;
        let limit = match limit.or(in_document) {
            Some(limit) if limit < needed => return Err(Refused::asked(too_low(limit, needed, asked))),
            Some(limit) => Some(limit),
            // Without the guest's there is nothing to add to.
            None => guest.map(|_| needed),
        };
        Ok(Self { guest, overhead, limit, helpers })
    }

    /// Whether nothing was asked for.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

fn too_low(limit: u64, needed: u64, asked: &Asked) -> String {
    let parts = match (asked.guest, asked.overhead) {
        (Some(guest), Some(overhead)) => {
            format!("{} for the guest and {} for its monitor", told(guest), told(overhead))
        }
        _ => "for the monitor alone".to_owned(),
    };
    format!("--memory {limit}: {} is less than this sandbox needs: {needed}, which is {parts}", told(limit))
}

/// Bytes for people, in whole units where they are whole.
pub fn told(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let whole = UNITS.iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit));
    match whole {
        Some((unit, name)) => format!("{} {name}", bytes / unit),
        None => format!("{bytes} bytes"),
    }
}

pub(super) fn signed(bytes: u64) -> Result<i64, Refused> {
    i64::try_from(bytes).map_err(|_| Refused::asked(format!("--memory {bytes}: more than there can be")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const M: u64 = 1 << 20;

    /// Point 8 of the sandbox's list, its arithmetic.
    #[test]
    fn point_08_the_limit_is_the_guest_and_its_monitor() {
        let asked = |guest, overhead, limit| Asked { guest, overhead, limit, helpers: None };
        let limit =
            |asked: Asked| Sized::of(&asked, None).map(|sized| sized.limit).map_err(|no| no.to_string());
        assert_eq!(limit(asked(Some(512 * M), Some(128 * M), None)), Ok(Some(640 * M)));
        assert_eq!(limit(asked(Some(512 * M), Some(128 * M), Some(640 * M))), Ok(Some(640 * M)));
        assert_eq!(limit(asked(Some(512 * M), Some(128 * M), Some(1024 * M))), Ok(Some(1024 * M)));
        assert_eq!(limit(asked(None, None, None)), Ok(None));
        assert_eq!(limit(asked(None, Some(M), None)), Ok(None), "an overhead alone is no wish for a limit");
        assert_eq!(
            limit(asked(Some(512 * M), Some(128 * M), Some(640 * M - 1))),
            Err("--memory 671088639: 671088639 bytes is less than this sandbox needs: 671088640, which is 512 MiB for \
                 the guest and 128 MiB for its monitor"
                .into())
        );
        let alone = limit(asked(None, Some(128 * M), Some(64 * M)));
        assert!(alone.is_err_and(|why| why.contains("needs: 134217728")), "a limit below the overhead");
        let document = Sized::of(&asked(Some(512 * M), Some(128 * M), None), Some(M));
        assert!(document.is_err(), "the document's limit counts too");
        assert!(limit(asked(Some(M), None, None)).is_err_and(|why| why.contains("--overhead")));
        assert!(limit(asked(Some(u64::MAX), Some(1), None)).is_err());
    }
}
