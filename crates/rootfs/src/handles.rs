//! Paths of the host that somebody else opened for us: whoever is root of a user namespace alone reaches few by name.

use std::os::fd::OwnedFd;

/// Handles by the path that they were opened at, all in the mount namespace that uses them.
#[derive(Debug, Default)]
pub struct Handles(Vec<(String, OwnedFd)>);

impl FromIterator<(String, OwnedFd)> for Handles {
    fn from_iter<I: IntoIterator<Item = (String, OwnedFd)>>(opened: I) -> Self {
        Self(opened.into_iter().collect())
    }
}

impl Handles {
    /// The handle of a path; none where the path is for its user to open.
    pub(crate) fn find(&self, path: &str) -> Option<&OwnedFd> {
        self.0.iter().find(|(at, _)| at == path).map(|(_, handle)| handle)
    }
}
