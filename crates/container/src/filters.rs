//! Compiled filters, kept below the state root for the next container that asks for the same one.
//!
//! A filter that cannot be read or written is compiled, and nobody is told: the container is the same one.

use plan::{Kept, Plan};
use sys::Failed;

use crate::Containers;

impl Containers {
    /// What is kept under a key. Whether it is whole the plan finds out.
    pub(crate) fn kept_filter(&self, key: &str) -> Kept {
        let found = state::Kept::open(&self.root).and_then(|kept| match kept {
            Some(kept) => kept.find(key),
            None => Ok(None),
        });
        // A failure costs the time to compile, and nothing else.
        found.ok().flatten().map_or(Kept::Missing, Kept::Found)
    }

    /// Keeps the filter of a plan; whether that was done. Who cannot, goes without.
    pub(crate) fn keep_filter(&self, key: &str, plan: &Plan) -> Result<bool, Failed> {
        let bytes = plan.filter().and_then(|filter| filter.pack(key));
        match (bytes, state::Kept::provide(&self.root)?) {
            (Some(bytes), Some(kept)) => kept.keep(key, &bytes),
            _ => Ok(false),
        }
    }
}
