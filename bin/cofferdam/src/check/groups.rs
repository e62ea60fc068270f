//! Control groups.

use plan::cgroup::HostCgroups;
use probe::survey::Survey;
use sys::{Answer, Call};

use super::Grade::{Degraded, Missing, Note, Ok};
use super::{Line, Lines, kernel};

/// Those that fields of config.json ask for, by their names on the unified hierarchy.
const WANTED: [&str; 7] = ["cpu", "cpuset", "freezer", "hugetlb", "io", "memory", "pids"];

pub(super) fn lines(survey: &Survey) -> Vec<Line> {
    let mut lines = Lines::new("control groups");
    match &survey.cgroups {
        Err(why) => lines.add(Missing, "hierarchies", why.clone()),
        Result::Ok(cgroups) => found(survey, cgroups, &mut lines),
    }
    lines.lines
}

fn found(survey: &Survey, cgroups: &HostCgroups, lines: &mut Lines) {
    match (&cgroups.unified, cgroups.hierarchies.is_empty()) {
        (None, true) => {
            let told = "none is mounted; mount -t cgroup2 cgroup2 /sys/fs/cgroup";
            lines.add(Missing, "hierarchies", told);
            return;
        }
        (Some(_), true) => lines.add(Ok, "hierarchies", "version 2"),
        (Some(_), false) => {
            lines.add(Ok, "hierarchies", "version 1 with an empty version 2 beside it (hybrid)");
        }
        (None, false) => lines.add(Ok, "hierarchies", "version 1"),
    }
    let is_v1 = !cgroups.hierarchies.is_empty();
    controllers(cgroups, is_v1, lines);
    if is_v1 {
        lines.add(
            Note,
            "events",
            "version 1 has no event for frozen and empty: they are waited for by looking",
        );
    } else if lacks_programs(survey) {
        let told = "no bpf(2): device rules, which every configuration has, are refused";
        lines.add(Missing, "device rules", told);
    }
    if survey.groups.has_kill == Some(false) {
        lines.add(
            Degraded,
            "cgroup.kill",
            "since Linux 5.14; a group is frozen, listed and killed one by one",
        );
    }
    delegation(survey, cgroups, lines);
    systemd(survey, lines);
}

/// Whether there is a manager for `--systemd-cgroup`.
fn systemd(survey: &Survey, lines: &mut Lines) {
    match &survey.manager {
        Some(Result::Ok(manager)) => {
            let whose = if manager.bus.is_user { "the user's" } else { "the host's" };
            let told =
                format!("{whose}, version {}; --systemd-cgroup has it make the groups", manager.version);
            lines.add(Ok, "systemd", told);
        }
        Some(Err(why)) if survey.has_systemd => {
            lines.add(Degraded, "systemd", format!("no --systemd-cgroup: {why}"));
        }
        _ => lines.add(Note, "systemd", "does not run here, so no --systemd-cgroup"),
    }
}

/// Rules of root's containers are programs there.
fn lacks_programs(survey: &Survey) -> bool {
    survey.caller.uid == 0 && kernel::answer(survey, Call::Bpf) != Answer::There
}

fn controllers(cgroups: &HostCgroups, is_v1: bool, lines: &mut Lines) {
    let unified = cgroups.unified.iter().flat_map(|unified| &unified.controllers);
    let first = cgroups.hierarchies.iter().flat_map(|hierarchy| &hierarchy.controllers);
    let mut there: Vec<&str> = unified.chain(first).map(String::as_str).collect();
    there.sort_unstable();
    let has = |name: &str| match name {
        // Version 2 freezes without a controller, and calls blkio io.
        "freezer" => !is_v1 || there.contains(&"freezer"),
        "io" => there.contains(&"io") || there.contains(&"blkio"),
        name => there.contains(&name),
    };
    let lacking: Vec<_> = WANTED.into_iter().filter(|name| !has(name)).collect();
    if lacking.is_empty() {
        lines.add(Ok, "controllers", there.join(", "));
    } else {
        let told = format!("{}; limits by {} are refused", there.join(", "), lacking.join(", "));
        lines.add(Degraded, "controllers", told);
    }
    if is_v1 && !there.contains(&"devices") {
        lines.add(
            Missing,
            "device rules",
            "no devices controller: rules, which every configuration has, are refused",
        );
    }
}

/// Whether there may be groups below our own. Where one that may not be made is left out, that is less; else it is the end.
fn delegation(survey: &Survey, cgroups: &HostCgroups, lines: &mut Lines) {
    let remedy = match (survey.groups.is_ours, cgroups.hierarchies.is_empty()) {
        (true, _) => return lines.add(Ok, "delegation", "groups may be made below our own"),
        (false, false) => "version 1 delegates nothing to others than root",
        (false, true) if survey.has_systemd => "systemd-run --user --scope -p Delegate=yes gives one",
        (false, true) => "let root chown it, and its cgroup.procs",
    };
    let grade = if cgroups.rootless { Degraded } else { Missing };
    lines.add(grade, "delegation", format!("none may be made below our own group, so no limits; {remedy}"));
}
