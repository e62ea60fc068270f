//! How many files we may have open: as many as we are let, and the programs as many as if we had asked for none.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sys::{Called as _, Failed};

use crate::log;

/// What the guard has open for a container at most, for as long as that is there: its first process, its sockets' directory, what its
/// attendant says of the end, two streams, a worker who watches its memory, another who is at something.
const EACH: u64 = 9;
/// What it has open beside that.
const OWN: u64 = 64;

/// Raises our soft limit to the hard one, and says how far that goes. What was before, softly and hard, where that is another:
/// programs are not to inherit ours.
pub(super) fn raise() -> Result<Option<(u64, u64)>, Failed> {
    let before = getrlimit(Resource::Nofile);
    let told = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
    let (soft, hard) = (told(before.current), told(before.maximum));
    if soft < hard {
        let raised = Rlimit { current: before.maximum, maximum: before.maximum };
        setrlimit(Resource::Nofile, raised).called(|| format!("setrlimit(RLIMIT_NOFILE, {hard})"))?;
    }
    log::say(&format!(
        "at most {hard} files may be open: enough for {} containers",
        hard.saturating_sub(OWN) / EACH
    ));
    Ok((soft < hard).then_some((soft, hard)))
}
