//! Versions of packages, and what is asked of them.

use std::fmt;

use crate::error::Error;

/// `MAJOR.MINOR.PATCH`. What follows a `-` or `+` is accepted and dropped: so the reference has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Changes break what was.
    pub major: u64,
    /// Changes add to it.
    pub minor: u64,
    /// Changes mend it.
    pub patch: u64,
}

impl Version {
    /// Reads a version as semver.org words it.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let semver::Version { major, minor, patch, .. } = semver::Version::parse(text)
            .map_err(|error| Error::invalid(format!("{} is no version: {error}", spec::quoted(text))))?;
        Ok(Self { major, minor, patch })
    }

    /// Whether it is one that a requirement such as `>=1.0.0` asks for.
    pub fn satisfies(&self, requirement: &semver::VersionReq) -> bool {
        requirement.matches(&semver::Version::new(self.major, self.minor, self.patch))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}
