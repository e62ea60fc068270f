//! What containers are called.

use std::fmt;
use std::str::FromStr;

use semver::Version;
use serde::{Deserialize, Serialize};

/// A name: 1 to 1024 letters, digits, `.`, `_` and `-`; neither `.` nor `..`, because it becomes a directory's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// A container, `NAME:MAJOR.MINOR.PATCH`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Container {
    /// What it is called.
    pub name: Name,
    /// Which of that name; without what may follow the third number, which is accepted and dropped.
    pub version: Version,
}

/// A text that names no container, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unnamed(String);

impl Container {
    /// A container of that name and version.
    pub fn new(name: Name, version: &Version) -> Self {
        Self { name, version: Version::new(version.major, version.minor, version.patch) }
    }

    /// What those are called who come by a listener, and not out of a container: `extern:0.0.0`.
    pub fn outside() -> Self {
        Self { name: Name::outside(), version: Version::new(0, 0, 0) }
    }
}

impl Name {
    /// The name in [`Container::outside`], which no container is kept from having too.
    pub fn outside() -> Self {
        Self("extern".to_owned())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = Unnamed;

    fn from_str(text: &str) -> Result<Self, Unnamed> {
        let is_name = (1..=1024).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
            && ![".", ".."].contains(&text);
        if is_name { Ok(Self(text.to_owned())) } else { Err(Unnamed(format!("{text:?} is no name"))) }
    }
}

impl FromStr for Container {
    type Err = Unnamed;

    fn from_str(text: &str) -> Result<Self, Unnamed> {
        let parts = text.split_once(':');
        let (name, version) = parts.ok_or_else(|| Unnamed(format!("{text:?} is no NAME:VERSION")))?;
        let version = Version::parse(version)
            .map_err(|error| Unnamed(format!("{text:?}: {version:?} is no version: {error}")))?;
        Ok(Self::new(name.parse()?, &version))
    }
}

impl TryFrom<String> for Name {
    type Error = Unnamed;

    fn try_from(text: String) -> Result<Self, Unnamed> {
        text.parse()
    }
}

impl TryFrom<String> for Container {
    type Error = Unnamed;

    fn try_from(text: String) -> Result<Self, Unnamed> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl From<Container> for String {
    fn from(container: Container) -> Self {
        container.to_string()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&self.0)
    }
}

impl fmt::Display for Container {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}:{}", self.name, self.version)
    }
}

impl fmt::Display for Unnamed {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&self.0)
    }
}

impl std::error::Error for Unnamed {}
