//! The other way to hold a guest: a virtual machine, whose monitor (VMM) is a process of the host's and lives in limits of its
//! own. This is those limits; the machine itself is still to come.
//!
//! Touches: one VMM and its helpers, the control groups that were made for them, and their record below the state root.
//! Never:   moves anybody but who was named, and itself; ends anybody outside of groups that it made, but the monitor
//!          where there are none.
//! Begin with [`Sandboxes::apply`].

mod apply;
mod birth;
mod destroy;
mod figures;
mod host;
mod overhead;
mod record;
mod show;
mod threads;
mod update;
mod watch;

use container::{Error, Kind};
use state::{Entry, Store};
use sys::Failed;

pub use apply::{Applied, Order, Subject};
pub use birth::Program;
pub use destroy::Swept;
pub use figures::{Figures, GuestFigures, HostFigures, Killer, figures, killer};
pub use host::{Asked, plan};
pub use overhead::{Overhead, Split, of_process as measure};
pub use record::{Phase, Record};
pub use show::{Shown, Vcpu};
pub use update::Change;
pub use watch::{Events, Happened, Watched};

/// All sandboxes under one state root.
#[derive(Debug)]
pub struct Sandboxes {
    root: String,
    is_sticky: bool,
}

/// Below the state root: containers' ids begin with no dot.
const DIRECTORY: &str = ".sandboxes";

/// Ids name directories and control groups, and this is as long as either may be.
const LONGEST: usize = 200;

impl Sandboxes {
    /// Those whose state is below this directory, which need not exist yet.
    pub fn under(root: &str, is_sticky: bool) -> Self {
        Self { root: format!("{root}/{DIRECTORY}"), is_sticky }
    }

    /// Their ids, sorted.
    pub fn ids(&self) -> Result<Vec<String>, Error> {
        let Some(store) = Store::open(&self.root)? else { return Ok(Vec::new()) };
        Ok(store.ids()?.into_iter().map(|(id, _)| id).collect())
    }

    /// Again, if a sweep has taken the new directory for one that a killed command has left, before it was locked.
    fn claim(&self, id: &str) -> Result<Entry, Error> {
        const TRIES: usize = 64;
        check_id(id)?;
        for _ in 0..TRIES {
            match Store::provide(&self.root, self.is_sticky)?.claim(id) {
                Err(state::Error::NotFound) => {}
                claimed => return claimed.map_err(told),
            }
        }
        Err(Failed::refused(format!("{id} is swept away as often as it is claimed")).into())
    }

    fn lock(&self, id: &str) -> Result<Entry, Error> {
        check_id(id)?;
        self.store()?.lock(id).map_err(told)
    }

    fn look(&self, id: &str) -> Result<Entry, Error> {
        check_id(id)?;
        self.store()?.look(id).map_err(told)
    }

    fn store(&self) -> Result<Store, Error> {
        Store::open(&self.root)?.ok_or_else(not_found)
    }
}

fn not_found() -> Error {
    Error::new(Kind::NotFound, "there is no such sandbox")
}

/// What the state directory says, of a sandbox.
fn told(error: state::Error) -> Error {
    match error {
        state::Error::Exists => Error::new(Kind::Exists, "there is a sandbox of this id already"),
        state::Error::NotFound => not_found(),
        other => other.into(),
    }
}

/// Letters, digits, `_`, `+`, `-` and `.`, and no dot first: as containers are called.
pub fn check_id(id: &str) -> Result<(), Error> {
    let is_good = |byte: &u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(byte);
    match id {
        "" => Err(Error::new(Kind::Invalid, "a sandbox's id cannot be empty")),
        _ if id.starts_with('.') || !id.as_bytes().iter().all(is_good) => {
            Err(Error::new(Kind::Invalid, format!("{id:?} is no id of a sandbox")))
        }
        _ if id.len() > LONGEST => {
            Err(Error::new(Kind::Invalid, format!("a sandbox's id has at most {LONGEST} bytes")))
        }
        _ => Ok(()),
    }
}
