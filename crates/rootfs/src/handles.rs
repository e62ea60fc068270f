//! What of the host somebody else opened for us: whoever is root of a user namespace alone reaches few paths by name, and
//! maps no mount.

use std::os::fd::OwnedFd;

use plan::{Handle, Idmap};
use sys::Failed;

/// Handles by what they were opened for, all in the mount namespace that uses them.
#[derive(Debug, Default)]
pub struct Handles(Vec<(Handle, OwnedFd)>);

impl FromIterator<(Handle, OwnedFd)> for Handles {
    fn from_iter<I: IntoIterator<Item = (Handle, OwnedFd)>>(opened: I) -> Self {
        Self(opened.into_iter().collect())
    }
}

impl Handles {
    /// The handle of a path; none where the path is for its user to open.
    pub(crate) fn find(&self, path: &str) -> Option<&OwnedFd> {
        let is_it = |handle: &Handle| matches!(handle, Handle::Path(at) if at == path);
        self.0.iter().find(|(handle, _)| is_it(handle)).map(|(_, fd)| fd)
    }

    /// A mount that was made and mapped for us, to be attached once.
    pub(crate) fn take(&mut self, idmap: &Idmap) -> Result<OwnedFd, Failed> {
        let is_it = |handle: &Handle| matches!(handle, Handle::Mapped(known) if known == idmap);
        let at = self.0.iter().position(|(handle, _)| is_it(handle));
        at.map(|at| self.0.remove(at).1)
            .ok_or_else(|| Failed::refused("the plan binds a mapped mount that nobody made"))
    }
}
