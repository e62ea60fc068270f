//! Where a sandbox's groups are, and who makes them: two forms of one text, told apart strictly.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Refused;
use crate::systemd::expand;

/// Who makes the groups.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// We, as directories.
    Cgroupfs,
    /// systemd, as a scope.
    Systemd,
}

impl Driver {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cgroupfs => "cgroupfs",
            Self::Systemd => "systemd",
        }
    }
}

/// A path that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Path {
    /// A directory in each hierarchy.
    Groups {
        /// Without a slash at either end; no `.`, no `..`, nothing empty.
        path: String,
        /// Whether it begins at the mount, and not where we are.
        is_absolute: bool,
        /// Whether somebody asked for it.
        is_given: bool,
    },
    /// A scope of systemd's, `slice:prefix:name`.
    Unit(String),
}

impl fmt::Display for Path {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Groups { path, is_absolute: true, .. } => write!(to, "/{path}"),
            Self::Groups { path, .. } => to.write_str(path),
            Self::Unit(unit) => to.write_str(unit),
        }
    }
}

impl Path {
    /// Reads a path. What has a colon is systemd's or nobody's: no directory of such a name is ever made, as a manager of
    /// groups that mistook one form for the other has left `x.slice:cri-containerd:id` behind.
    pub fn parse(given: Option<&str>, driver: Option<Driver>, id: &str) -> Result<Self, Refused> {
        let refused = |why: &str| Refused::asked(format!("--cgroup {:?}: {why}", given.unwrap_or_default()));
        let Some(path) = given else {
            return Ok(match driver {
                Some(Driver::Systemd) => Self::Unit(format!(":cofferdam:{id}")),
                _ => Self::Groups { path: id.to_owned(), is_absolute: false, is_given: false },
            });
        };
        if path.is_empty() {
            return Err(refused("is empty"));
        }
        if path.chars().any(char::is_control) {
            return Err(refused("has a character that no control group may have"));
        }
        match (path.contains(':'), driver) {
            (true, Some(Driver::Cgroupfs)) => {
                Err(refused("is slice:prefix:name, and the driver cgroupfs takes a path"))
            }
            (false, Some(Driver::Systemd)) => {
                Err(refused("is a path, and the driver systemd takes slice:prefix:name"))
            }
            (true, _) => unit(path).map_err(|why| refused(&why)),
            (false, _) => groups(path).map_err(refused),
        }
    }

    /// Who makes what it names.
    pub fn driver(&self) -> Driver {
        match self {
            Self::Groups { .. } => Driver::Cgroupfs,
            Self::Unit(_) => Driver::Systemd,
        }
    }
}

fn groups(path: &str) -> Result<Path, &'static str> {
    let is_absolute = path.starts_with('/');
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if parts.iter().any(|part| matches!(*part, "." | "..")) {
        return Err("climbs: . and .. have no place in it");
    }
    if parts.is_empty() {
        return Err("is no group of the sandbox's own");
    }
    if parts.iter().any(|part| part.len() > 255) {
        return Err("has a name of more than 255 bytes");
    }
    Ok(Path::Groups { path: parts.join("/"), is_absolute, is_given: true })
}

fn unit(path: &str) -> Result<Path, String> {
    let parts: Vec<&str> = path.split(':').collect();
    let [slice, prefix, name] = parts[..] else {
        return Err("is neither a path nor slice:prefix:name".into());
    };
    let is_good = |letter: char| letter.is_ascii_alphanumeric() || "-_.\\@".contains(letter);
    for part in [slice, prefix, name] {
        if !part.chars().all(is_good) {
            return Err(format!("{part:?} has a character that no unit may have"));
        }
    }
    if !slice.is_empty() && expand(slice).is_none() {
        return Err(format!("{slice:?} is no name of a slice"));
    }
    if name.is_empty() {
        return Err("a unit needs a name".into());
    }
    if name.strip_suffix(".slice").is_some() {
        return Err("a sandbox is a scope, and no slice: its processes are not systemd's to start".into());
    }
    Ok(Path::Unit(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(given: &str, driver: Option<Driver>) -> Result<String, String> {
        Path::parse(Some(given), driver, "vm")
            .map(|path| format!("{:?} {path}", path.driver()))
            .map_err(|no| no.to_string())
    }

    /// Point 4 of the sandbox's list: the driver is the path's or the caller's, and they agree.
    #[test]
    fn point_04_a_path_is_read_strictly() {
        use Driver::{Cgroupfs, Systemd};
        for (given, driver, read) in [
            ("vms/one", None, "Cgroupfs vms/one"),
            ("/vms//one/", None, "Cgroupfs /vms/one"),
            ("vm", Some(Cgroupfs), "Cgroupfs vm"),
            (
                "kubepods-pod12_3.slice:cri-containerd:0af",
                None,
                "Systemd kubepods-pod12_3.slice:cri-containerd:0af",
            ),
            ("::one", None, "Systemd ::one"),
            ("-.slice::one", Some(Systemd), "Systemd -.slice::one"),
            ("a-b.slice:p:x@y\\x2d1", None, "Systemd a-b.slice:p:x@y\\x2d1"),
        ] {
            assert_eq!(told(given, driver), Ok(read.to_owned()), "{given}");
        }
        let long = "a".repeat(256);
        for (given, driver) in [
            ("", None),
            ("/", None),
            ("//", None),
            ("..", None),
            ("a/../b", None),
            ("a/./b", None),
            ("/a/..", None),
            ("a\0b", None),
            ("a\nb", None),
            (&long, None),
            ("a.slice:b", None),
            ("a.slice:b:c:d", None),
            ("a:b:c", None),
            ("/x.slice:cri-containerd:id", None),
            ("x.slice/y:cri:id", None),
            ("a.slice:b:", None),
            ("a.slice:b:c/d", None),
            ("a.slice:b c:d", None),
            ("a--b.slice:b:c", None),
            (".slice:b:c", None),
            ("a.slice:b:c.slice", None),
            ("a.slice:\0:c", None),
            ("a.slice:b:ü", None),
            // The form and the driver disagree.
            ("a.slice:b:c", Some(Cgroupfs)),
            ("vms/one", Some(Systemd)),
            ("/vms/one", Some(Systemd)),
        ] {
            let told = told(given, driver);
            assert!(told.as_ref().is_err_and(|why| why.starts_with("--cgroup ")), "{given:?}: {told:?}");
        }
        assert_eq!(
            Path::parse(None, Some(Systemd), "vm").map(|path| path.to_string()),
            Ok(":cofferdam:vm".into())
        );
        assert_eq!(Path::parse(None, None, "vm").map(|path| path.driver()), Ok(Cgroupfs));
    }
}
