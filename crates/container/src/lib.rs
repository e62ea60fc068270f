//! A container's life: create, start, signal, pause, delete, wait.
//!
//! Touches: processes it started, by pidfd; through the rooms below, namespaces, cgroups and the state directory.
//! Never:   acts on a process by its number; leaves something behind that its record does not name.
//! Begin with [`Containers::create`].
//!
//! Who waits for whom: `create`, `start`, `delete`, `pause`, `resume`, `sweep` and `update` hold the container's lock, and the first to
//! come goes first; the next one sees what it left. `state`, `list`, `ps`, `kill` and `wait` never wait for it.

mod agent;
mod birth;
mod bundle;
mod calm;
mod console;
mod create;
mod crowd;
mod delete;
mod devices;
mod door;
mod error;
mod events;
mod exec;
mod filters;
mod guard;
mod hooks;
pub mod identity;
mod join;
mod keeper;
mod lack;
mod life;
mod map;
mod mapper;
mod ready;
mod start;
mod supervise;
mod sweep;
mod terminal;
mod throwaway;
mod undo;
pub mod unit;
mod update;
mod wait;

use state::{Entry, Record, Store};

pub use bundle::{Order, host_buses, manager, plan_bundle, read_resources};
pub use calm::undisturbed;
pub use cgroup::{Event, Statistics, Strain, metrics, statistics};
pub use create::Created;
pub use delete::Removed;
pub use door::Door;
pub use error::{Error, Kind};
pub use events::{Events, Watched};
pub use exec::{ExecOrder, Executed};
pub use life::Known;
pub use plan::Plan;
pub use spec::Status;
pub use state::Ended;
pub use sweep::{Fate, Stray};
pub use throwaway::Throwaway;

/// All containers under one state root.
#[derive(Debug)]
pub struct Containers {
    root: String,
    is_sticky: bool,
    door: Option<Door>,
}

/// A record as this room keeps it.
pub type Written = Record<cgroup::Paths>;

impl Containers {
    /// Those whose state is below this directory, which need not exist yet.
    pub fn under(root: impl Into<String>) -> Self {
        Self { root: root.into(), is_sticky: false, door: None }
    }

    /// Where a container's notify socket lies, for [`Order::notify`].
    pub fn notify_directory(&self, id: &str) -> String {
        format!("{}/{id}/{}", self.root, state::NOTIFY)
    }

    /// Whether a state root that must be made gets the sticky bit: what cleans `$XDG_RUNTIME_DIR` spares it then.
    #[must_use]
    pub fn sticky(mut self, is_sticky: bool) -> Self {
        self.is_sticky = is_sticky;
        self
    }

    /// The same for a worker: whoever is born here is a child of the one that we work for, and is told to it.
    #[must_use]
    pub fn at(mut self, door: Door) -> Self {
        self.door = Some(door);
        self
    }

    fn store(&self) -> Result<Option<Store>, Error> {
        Ok(Store::open(&self.root)?)
    }

    /// One container's entry, locked.
    fn lock(&self, id: &str) -> Result<Entry, Error> {
        check_id(id)?;
        let store = self.store()?.ok_or_else(Error::not_found)?;
        Ok(store.lock(id)?)
    }

    /// One container's entry, for looking only.
    fn look(&self, id: &str) -> Result<Entry, Error> {
        check_id(id)?;
        let store = self.store()?.ok_or_else(Error::not_found)?;
        Ok(store.look(id)?)
    }
}

/// Ids name directories: letters, digits, `_`, `+`, `-` and `.`, and no dot first, which hides what is ours.
fn check_id(id: &str) -> Result<(), Error> {
    let is_good = |byte: &u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(byte);
    match id {
        "" => Err(Error::new(Kind::Invalid, "container id cannot be empty")),
        _ if id.starts_with('.') || !id.as_bytes().iter().all(is_good) => {
            Err(Error::new(Kind::Invalid, format!("invalid container ID format: {id:?}")))
        }
        _ if id.len() > MAX_ID => {
            Err(Error::new(Kind::Invalid, format!("a container id has at most {MAX_ID} bytes")))
        }
        _ => Ok(()),
    }
}

/// A file name may have 255 bytes; the cgroup of that name gets none of ours added.
const MAX_ID: usize = 255;
