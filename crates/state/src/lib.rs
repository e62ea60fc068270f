//! The state directory: one directory a container, with its record, its lock, its start gate, and
//! the socket at which its program says that it is ready; beside them, files that are kept for the next container.
//!
//! Touches: the state root, by handle.
//! Never:   trusts a record of a newer version; leaves a half-written one; waits for a lock without being asked to.
//! Begin with [`Store::provide`].

mod exit;
mod gate;
mod kept;
mod notify;
mod record;
mod store;
mod time;

pub use exit::{Ended, Shelf};
pub use gate::{Gate, Knock};
pub use kept::Kept;
pub use notify::{Notify, ready};
pub use record::{Init, Phase, Record};
pub use store::{Entry, Error, NOTIFY, Store};
pub use time::Moment;
