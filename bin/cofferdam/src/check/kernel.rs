//! The kernel: docs/kernel.md, asked of this one.

use probe::survey::Survey;
use sys::{Answer, Call};

use super::Grade::{Degraded, Missing, Note, Ok};
use super::{Grade, Line, Lines};

/// The oldest that is known.
const OLDEST: (u32, u32) = (5, 4);

/// A call, and what is without it.
struct Asked {
    call: Call,
    name: &'static str,
    since: (u32, u32),
    used: &'static str,
    otherwise: Grade,
    without: &'static str,
}

const CALLS: [Asked; 11] = [
    Asked {
        call: Call::Clone3,
        name: "clone3",
        since: (5, 3),
        used: "all namespaces in one call",
        otherwise: Missing,
        without: "no container is made without it",
    },
    Asked {
        call: Call::CloneIntoCgroup,
        name: "clone3 into a cgroup",
        since: (5, 7),
        used: "born where it belongs",
        otherwise: Degraded,
        without: "moved there after its birth, some 10 ms slower",
    },
    Asked {
        call: Call::PidfdOpen,
        name: "pidfd_open",
        since: (5, 3),
        used: "processes without a race for their number",
        otherwise: Missing,
        without: "no process is touched by its number alone",
    },
    Asked {
        call: Call::PidfdSendSignal,
        name: "pidfd_send_signal",
        since: (5, 1),
        used: "signals likewise",
        otherwise: Missing,
        without: "no process is signalled by its number alone",
    },
    Asked {
        call: Call::OpenTree,
        name: "open_tree, fsopen",
        since: (5, 2),
        used: "mounts are born detached",
        otherwise: Degraded,
        without: "mount(2), by way of a tmpfs that no container sees",
    },
    Asked {
        call: Call::MountSetattr,
        name: "mount_setattr",
        since: (5, 12),
        used: "read-only before it is seen; idmapped mounts",
        otherwise: Degraded,
        without: "mount(2) instead; idmapped mounts are refused",
    },
    Asked {
        call: Call::Openat2,
        name: "openat2",
        since: (5, 6),
        used: "paths inside a container in one call",
        otherwise: Degraded,
        without: "paths are walked name by name",
    },
    Asked {
        call: Call::CloseRange,
        name: "close_range",
        since: (5, 9),
        used: "descriptors closed in one call",
        otherwise: Degraded,
        without: "descriptors are closed one by one",
    },
    Asked {
        call: Call::Keyctl,
        name: "session keyrings",
        since: (2, 6),
        used: "a container does not share its caller's keys",
        otherwise: Note,
        without: "no keys in this kernel: none to share",
    },
    Asked {
        call: Call::Seccomp,
        name: "seccomp",
        since: (3, 17),
        used: "system calls can be filtered",
        otherwise: Degraded,
        without: "system calls cannot be filtered",
    },
    Asked {
        call: Call::Landlock,
        name: "landlock",
        since: (5, 13),
        used: "nothing uses it yet",
        otherwise: Note,
        without: "nothing would use it yet",
    },
];

pub(super) fn lines(survey: &Survey) -> Vec<Line> {
    let mut lines = Lines::new("kernel");
    version(survey, &mut lines);
    for asked in &CALLS {
        call(survey, asked, &mut lines);
    }
    if survey.has_pidfs {
        lines.add(Ok, "pidfs", "a process is known again by its pidfd's inode");
    } else {
        lines.add(Degraded, "pidfs", "since Linux 6.9; a process is known again by its start time");
    }
    noexec(survey, &mut lines);
    file_systems(survey, &mut lines);
    modules(survey, &mut lines);
    lines.lines
}

fn version(survey: &Survey, lines: &mut Lines) {
    let told = format!("{} {}", survey.release, survey.machine);
    match parsed(&survey.release) {
        Some(version) if version < OLDEST => {
            lines.add(Missing, "version", format!("{told}; boot Linux 5.4 or newer"));
        }
        Some(_) => lines.add(Ok, "version", told),
        None => lines.add(Note, "version", format!("{told}, which is no number that is understood")),
    }
}

/// "6.1.0-18-amd64" is 6.1.
fn parsed(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|sign: char| !sign.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

pub(super) fn answer(survey: &Survey, call: Call) -> Answer {
    let found = survey.calls.iter().find(|(asked, _)| *asked == call);
    found.map_or(Answer::Lacking, |(_, answer)| *answer)
}

fn call(survey: &Survey, asked: &Asked, lines: &mut Lines) {
    let Asked { name, used, without, otherwise, .. } = *asked;
    let (major, minor) = asked.since;
    let is_old = parsed(&survey.release).is_some_and(|version| version < asked.since);
    match answer(survey, asked.call) {
        Answer::There => lines.add(Ok, name, used),
        // One is joined wherever the kernel has them.
        Answer::Denied if asked.call == Call::Keyctl => {
            let told = "denied by a sandbox around us; allow keyctl in it, or use --no-new-keyring each time";
            lines.add(Missing, name, told);
        }
        Answer::Denied => lines.add(otherwise, name, format!("denied by a sandbox around us; {without}")),
        Answer::Lacking if is_old => {
            lines.add(otherwise, name, format!("since Linux {major}.{minor}; {without}"));
        }
        Answer::Lacking if survey.caller.is_filtered => {
            lines.add(otherwise, name, format!("not there, by a sandbox around us it seems; {without}"));
        }
        Answer::Lacking => lines.add(otherwise, name, format!("not in this kernel; {without}")),
    }
}

/// What runs in a container's name runs from a read-only view of our own file, or else from a sealed copy.
fn noexec(survey: &Survey, lines: &mut Lines) {
    const NAME: &str = "vm.memfd_noexec";
    let has_view =
        [Call::OpenTree, Call::MountSetattr].into_iter().all(|call| answer(survey, call) == Answer::There);
    match survey.memfd_noexec {
        Some(2) if has_view => {
            lines.add(
                Note,
                NAME,
                "2 forbids a sealed copy of our executable; a read-only view serves as well",
            );
        }
        Some(2) => {
            lines.add(Missing, NAME, "2 forbids the sealed copy of our executable; sysctl vm.memfd_noexec=1");
        }
        _ => {}
    }
}

fn file_systems(survey: &Survey, lines: &mut Lines) {
    let lacks = |name: &&str| !survey.file_systems.iter().any(|known| known == *name);
    let needed: Vec<_> = ["proc", "sysfs", "tmpfs", "devpts", "mqueue"].into_iter().filter(lacks).collect();
    if !needed.is_empty() {
        let names = needed.join(", ");
        lines.add(Degraded, "file systems", format!("no {names}: what mounts one fails, as most bundles do"));
    }
    match ["overlay", "squashfs"].into_iter().filter(lacks).collect::<Vec<_>>().as_slice() {
        [] if needed.is_empty() => {
            lines.add(Ok, "file systems", "proc, sysfs, tmpfs, devpts, mqueue, overlay, squashfs");
        }
        [] => {}
        names => {
            let names = names.join(", ");
            let told =
                format!("no {names} so far; for images in layers or files: modprobe, where it is a module");
            lines.add(Note, "file systems", told);
        }
    }
}

fn modules(survey: &Survey, lines: &mut Lines) {
    const NAME: &str = "security modules";
    match &survey.modules {
        None => lines.add(Note, NAME, "not known: securityfs is not mounted on /sys/kernel/security"),
        Some(modules) => {
            let labels: Vec<_> = ["apparmor", "selinux"]
                .into_iter()
                .filter(|name| modules.iter().any(|module| module == name))
                .collect();
            let told = match labels.as_slice() {
                [] => "; no AppArmor and no SELinux: a configuration that names a label is refused",
                _ => "",
            };
            lines.add(Note, NAME, format!("{}{told}", modules.join(", ")));
        }
    }
}
