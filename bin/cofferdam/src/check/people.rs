//! Namespaces, and who asks for them.

use probe::survey::{Mapper, Survey};
use spec::CAPABILITIES;

use super::Grade::{Degraded, Missing, Note, Ok};
use super::{Grade, Line, Lines};

/// Without these root makes no container with the namespaces that most configurations ask for. Each was taken away
/// from a `run` of the template of `spec`; tests/tests/check.rs does it again.
const NEEDED: [&str; 5] = ["CAP_DAC_OVERRIDE", "CAP_NET_ADMIN", "CAP_SETGID", "CAP_SETPCAP", "CAP_SYS_ADMIN"];

pub(super) fn namespaces(survey: &Survey) -> Vec<Line> {
    let mut lines = Lines::new("namespaces");
    let is_free = |limit: Option<u64>| limit != Some(0);
    let (usable, not): (Vec<_>, Vec<_>) =
        survey.namespaces.iter().partition(|kind| kind.is_there && is_free(kind.limit));
    let names: Vec<_> = usable.iter().map(|kind| kind.name).collect();
    if !names.is_empty() {
        lines.add(Ok, "kinds", names.join(", "));
    }
    for kind in not {
        // What every configuration asks for, and what a few do.
        let grade = match kind.name {
            "mnt" | "pid" => Missing,
            "user" if survey.caller.uid != 0 => Missing,
            _ => Degraded,
        };
        let told = if kind.is_there {
            format!("user.max_{}_namespaces is 0; sysctl user.max_{0}_namespaces=1000", kind.name)
        } else {
            "not in this kernel; a configuration that asks for one is refused".to_owned()
        };
        lines.add(grade, kind.name, told);
    }
    barriers(survey, &mut lines);
    lines.lines
}

/// What distributions put before namespaces of ordinary users. Root passes.
fn barriers(survey: &Survey, lines: &mut Lines) {
    let grade = if survey.caller.uid == 0 { Note } else { Missing };
    if survey.users.may_clone == Some(false) {
        let told = "0 keeps ordinary users from it; sysctl kernel.unprivileged_userns_clone=1";
        lines.add(grade, "unprivileged users", format!("kernel.unprivileged_userns_clone={told}"));
    }
    if survey.users.is_restricted == Some(true) {
        let told = "apparmor_restrict_unprivileged_userns=1 asks for an AppArmor profile that allows userns to cofferdam";
        lines.add(grade, "unprivileged users", format!("kernel.{told}, or 0"));
    }
}

pub(super) fn caller(survey: &Survey) -> Vec<Line> {
    let mut lines = Lines::new("caller");
    let caller = &survey.caller;
    match (caller.uid, caller.is_first) {
        (0, true) => lines.add(Ok, "user", "root"),
        (0, false) => {
            let told =
                "root of a user namespace: no device rules, and limits only in groups that it was given";
            lines.add(Degraded, "user", told);
        }
        (uid, _) => {
            let name = survey.people.name.as_ref().map_or(String::new(), |name| format!(" ({name})"));
            lines.add(Ok, "user", format!("{uid}{name}: containers that have a user namespace"));
        }
    }
    if caller.uid == 0 {
        capabilities(survey, &mut lines);
    } else {
        maps(survey, &mut lines);
    }
    if caller.is_filtered {
        lines.add(Note, "sandbox", "a seccomp filter is upon us, and will be upon every container");
    }
    lines.lines
}

fn capabilities(survey: &Survey, lines: &mut Lines) {
    let lacking = |set: u64| {
        let known = CAPABILITIES.iter().zip(0..=survey.caller.last);
        known.filter(move |(_, number)| set & (1 << number) == 0).map(|(name, _)| *name)
    };
    // The kernel closes the top of each hierarchy of groups to its owner too; a service's own group it does not.
    let is_spared = |name: &str| name == "CAP_DAC_OVERRIDE" && survey.groups.is_ours;
    let is_needed = |name: &&str| NEEDED.contains(name) && !is_spared(name);
    let needed: Vec<_> = lacking(survey.caller.effective).filter(is_needed).collect();
    if !needed.is_empty() {
        let told = format!("lacking {}; whoever started us took them away", needed.join(", "));
        lines.add(Missing, "capabilities", told);
    }
    let lost: Vec<_> = lacking(survey.caller.bounding).filter(|name| !is_needed(name)).collect();
    match lost.as_slice() {
        [] if needed.is_empty() => lines.add(Ok, "capabilities", "all"),
        [] => {}
        ["CAP_SYS_RESOURCE"] => {
            let told = "without CAP_SYS_RESOURCE: no limits above our own, no lower oom_score_adj";
            lines.add(Degraded, "capabilities", told);
        }
        many if many.len() > 8 => {
            let told = format!("{} that are not ours, and of no container's: see capsh --print", many.len());
            lines.add(Degraded, "capabilities", told);
        }
        few => lines.add(Degraded, "capabilities", format!("without {}: of no container's", few.join(", "))),
    }
}

/// More ids than one, for an ordinary user.
fn maps(survey: &Survey, lines: &mut Lines) {
    let people = &survey.people;
    let who = people.name.clone().unwrap_or_else(|| survey.caller.uid.to_string());
    for (file, count) in [("/etc/subuid", people.subuids), ("/etc/subgid", people.subgids)] {
        let option = if file.ends_with("uid") { "uids" } else { "gids" };
        match count {
            0 => {
                let told = format!(
                    "no ids for {who}: one user alone; usermod --add-sub{option} 100000-165535 {who}"
                );
                lines.add(Degraded, file, told);
            }
            few if few < 65536 => {
                lines.add(Degraded, file, format!("{few} ids: images with higher ones do not fit"));
            }
            enough => lines.add(Ok, file, format!("{enough} ids")),
        }
    }
    for (name, mapper) in [("newuidmap", &people.newuidmap), ("newgidmap", &people.newgidmap)] {
        let (grade, told) = mapped(mapper.as_ref(), survey.caller.no_new_privs);
        lines.add(grade, name, told);
    }
}

fn mapped(mapper: Option<&Mapper>, no_new_privs: bool) -> (Grade, String) {
    match mapper {
        None => (
            Degraded,
            "not in PATH: one user alone; install uidmap (shadow-utils on Fedora and its kin)".to_owned(),
        ),
        Some(Mapper { path, has_power: false }) => {
            (Degraded, format!("{path} is not set-uid root and has no capability: chmod u+s {path}"))
        }
        Some(Mapper { path, .. }) if no_new_privs => {
            (Degraded, format!("{path} has no power here: no_new_privs is set"))
        }
        Some(Mapper { path, .. }) => (Ok, path.clone()),
    }
}
