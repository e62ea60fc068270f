//! Programs beside us: who calls us, and whom we call.

use probe::survey::Survey;
use serde_json::Value;

use super::Grade::{Degraded, Note, Ok};
use super::{Grade, Line, Lines};

pub(super) fn lines(survey: &Survey) -> Vec<Line> {
    let mut lines = Lines::new("programs");
    let (grade, told) = docker(survey);
    lines.add(grade, "Docker", told);
    match &survey.callers.podman {
        Some(file) => lines.add(Ok, "Podman", format!("{file} names cofferdam")),
        None => {
            lines.add(Note, "Podman", "not pointed here; podman --runtime cofferdam, or containers.conf(5)");
        }
    }
    match &survey.criu {
        Some(path) => lines.add(Note, "criu", format!("{path}; checkpoint and restore come later")),
        None => lines.add(Note, "criu", "not in PATH; checkpoint and restore, which need it, come later"),
    }
    lines.lines
}

fn docker(survey: &Survey) -> (Grade, String) {
    const ADD: &str =
        r#"{"runtimes": {"cofferdam": {"path": "/usr/local/bin/cofferdam"}}} in /etc/docker/daemon.json"#;
    let docker = &survey.callers.docker;
    let Some(text) = &docker.configuration else {
        let pointed = format!("not pointed here: {ADD}");
        return (Note, if docker.is_there { pointed } else { "not on this host".to_owned() });
    };
    let Result::Ok(configuration) = serde_json::from_str::<Value>(text) else {
        return (Degraded, "/etc/docker/daemon.json is no JSON: dockerd does not start with it".to_owned());
    };
    let runtimes = configuration["runtimes"].as_object().into_iter().flatten();
    let is_ours = |path: &str| path.rsplit('/').next() == Some("cofferdam");
    let ours: Vec<_> = runtimes
        .filter(|(_, runtime)| runtime["path"].as_str().is_some_and(is_ours))
        .map(|(name, _)| name.as_str())
        .collect();
    match (ours.first(), configuration["default-runtime"].as_str()) {
        (None, _) => (Note, format!("not pointed here: {ADD}")),
        (Some(name), Some(default)) if ours.contains(&default) || *name == default => {
            (Ok, format!("runtime \"{default}\" is cofferdam, and the default"))
        }
        (Some(name), _) => (Ok, format!("runtime \"{name}\" is cofferdam: docker run --runtime {name}")),
    }
}
