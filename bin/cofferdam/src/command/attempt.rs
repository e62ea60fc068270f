//! `try`: a throw-away container.

use container::Containers;

use super::{Complaint, Outcome};
use crate::invocation::Try;
use crate::log::Log;

pub(super) fn run(_containers: &Containers, _attempt: Try, _log: &mut Log) -> Outcome {
    Err(Complaint::new("try: not built yet, see docs/roadmap.md"))
}
