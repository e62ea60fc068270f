//! Refusals: by name, with the JSON path, before the first side effect.

use std::fmt;

use spec::Spec;

/// A field that cannot be done, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// JSON path in config.json: `linux.namespaces[2].path`; empty where the command line asked for it.
    pub path: String,
    /// Why.
    pub reason: String,
}

impl Refused {
    /// A field and the reason against it.
    pub fn new(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { path: path.into(), reason: reason.into() }
    }

    /// Not a field: what the command line asks for.
    pub(crate) fn asked(reason: impl Into<String>) -> Self {
        Self::new("", reason)
    }

    /// A field that is not done yet.
    pub(crate) fn unbuilt(path: impl Into<String>) -> Self {
        Self::new(path, "not built yet, see docs/roadmap.md")
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            return to.write_str(&self.reason);
        }
        write!(to, "config.json: {}: {}", self.path, self.reason)
    }
}

impl std::error::Error for Refused {}

/// Refuses what this version does not do yet. Nothing that asks for confinement is ever ignored.
pub(crate) fn unbuilt(spec: &Spec) -> Result<(), Refused> {
    match first_unbuilt(spec) {
        Some(path) => Err(Refused::unbuilt(path)),
        None => Ok(()),
    }
}

fn first_unbuilt(spec: &Spec) -> Option<String> {
    let mut linux = spec.linux.iter().flat_map(|linux| [(linux.intel_rdt.is_some(), "linux.intelRdt")]);
    let field = linux.find(|(asked, _)| *asked);
    field.map(|(_, path)| path.to_owned())
}
