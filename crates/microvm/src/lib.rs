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
mod error;
mod figures;
mod host;
mod overhead;
mod record;
mod show;
mod threads;
mod update;
mod watch;

use state::{Entry, Store};

pub use apply::{Applied, Order, Subject};
pub use birth::Program;
pub use destroy::Swept;
pub use error::{Error, Kind};
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

    fn claim(&self, id: &str) -> Result<Entry, Error> {
        check_id(id)?;
        Ok(Store::provide(&self.root, self.is_sticky)?.claim(id)?)
    }

    fn lock(&self, id: &str) -> Result<Entry, Error> {
        check_id(id)?;
        let store = Store::open(&self.root)?.ok_or_else(Error::not_found)?;
        Ok(store.lock(id)?)
    }

    fn look(&self, id: &str) -> Result<Entry, Error> {
        check_id(id)?;
        let store = Store::open(&self.root)?.ok_or_else(Error::not_found)?;
        Ok(store.look(id)?)
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
