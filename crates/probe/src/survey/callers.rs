//! Whether Docker's and Podman's configuration names us.

use std::path::Path;

use crate::read_text;

/// Who would call us.
#[derive(Clone, Debug, Default)]
pub struct Callers {
    /// Docker's daemon.
    pub docker: Docker,
    /// The first of Podman's files that names us.
    pub podman: Option<String>,
}

/// Docker's daemon.
#[derive(Clone, Debug, Default)]
pub struct Docker {
    /// Whether it is on this host, as far as its configuration and its socket tell.
    pub is_there: bool,
    /// What /etc/docker/daemon.json says, if there is one that may be read.
    pub configuration: Option<String>,
}

pub(super) fn look(home: Option<&Path>) -> Callers {
    let docker = Docker {
        is_there: super::exists("/etc/docker") || super::exists("/run/docker.sock"),
        configuration: read_text("/etc/docker/daemon.json").ok(),
    };
    let own = home.map(|home| home.join(".config/containers/containers.conf"));
    let files = [own.as_deref(), Some(Path::new("/etc/containers/containers.conf"))];
    let mut files = files.into_iter().flatten().filter_map(Path::to_str);
    let podman = files.find(|file| read_text(file).is_ok_and(|text| names_us(&text))).map(str::to_owned);
    Callers { docker, podman }
}

/// containers.conf(5) is TOML; a line that is no comment and has our name in it is a line about us.
fn names_us(text: &str) -> bool {
    text.lines().any(|line| !line.trim_start().starts_with('#') && line.contains("cofferdam"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_is_no_configuration() {
        assert!(names_us("[engine.runtimes]\ncofferdam = [\"/usr/local/bin/cofferdam\"]\n"));
        assert!(!names_us("[engine]\n # runtime = \"cofferdam\"\nruntime = \"crun\"\n"));
    }
}
