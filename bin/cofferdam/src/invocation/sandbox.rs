//! What `sandbox limits` needs.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use microvm::{Change, Order};
use plan::sandbox::{Asked, Disk, Driver, Handed, Layout, Needs, Pattern, Share, Vcpus, Wish};

use super::update::size;
use super::{Format, format};
use crate::flags::{Given, Misuse, text};

/// One action, and the sandbox that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// The sandbox; empty for `sweep`.
    pub id: String,
    /// What to do.
    pub action: Action,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Print what would be made.
    Plan(Box<Wished>, Format),
    /// Make it.
    Apply {
        /// What is asked for.
        wished: Box<Wished>,
        /// For whom.
        subject: Subject,
        /// Which threads are processors.
        order: Order,
        /// Where the process id is written.
        pid_file: Option<PathBuf>,
    },
    /// Make it other.
    Update(Change),
    /// Put a helper beside the monitor.
    Helper(Subject),
    /// Print what there is.
    Show {
        /// What the guest counts.
        guest: Option<PathBuf>,
        /// As what.
        format: Format,
    },
    /// Print what happens to it, until its monitor has ended.
    Watch(Format),
    /// Remove it.
    Destroy,
    /// Remove all whose monitor has ended.
    Sweep,
}

/// Whom limits are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A process that runs.
    Running(i32),
    /// A program to be started, with its arguments.
    Program(Vec<OsString>),
}

/// What is asked for, and the document that has the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wished {
    /// From the flags.
    pub wish: Wish,
    /// Further limits and devices; `-` is standard input.
    pub resources: Option<PathBuf>,
}

/// Flags of a wish, which `plan` and `apply` take.
const OF_WISH: [&str; 21] = [
    "cgroup",
    "driver",
    "layout",
    "vcpus",
    "helpers",
    "guest-memory",
    "overhead",
    "memory",
    "helper-memory",
    "cpus",
    "mems",
    "cpu-quota",
    "pin",
    "resources",
    "device",
    "accel",
    "vhost-net",
    "vhost-vsock",
    "tun",
    "vfio",
    "disk",
];

impl Sandbox {
    pub(super) fn of(given: &Given, mut words: impl Iterator<Item = OsString>) -> Result<Self, Misuse> {
        let mut word = || words.next().map(text).transpose().map(Option::unwrap_or_default);
        let (subject, action, id) = (word()?, word()?, word()?);
        if subject != "limits" {
            return Err(Misuse::new(format!(
                "sandbox {subject}: there is \"limits\" alone, see docs/roadmap.md"
            )));
        }
        let program: Vec<OsString> = words.collect();
        let takes: &[&str] = match action.as_str() {
            "plan" | "watch" => &["format"],
            "apply" => &["pid", "pid-file", "vcpu", "vcpu-count"],
            "update" => &["device", "remove-device", "cpus", "mems", "cpu-quota"],
            "helper" => &["pid"],
            "show" => &["guest", "format"],
            "destroy" | "sweep" => &[],
            other => return Err(Misuse::new(format!("sandbox limits: there is no {other:?}"))),
        };
        let takes_wish = matches!(action.as_str(), "plan" | "apply");
        for name in given.names() {
            let is_taken = takes.contains(&name) || (takes_wish && OF_WISH.contains(&name));
            if !is_taken {
                return Err(Misuse::new(format!("sandbox limits {action}: takes no --{name}")));
            }
        }
        match (action.as_str(), id.is_empty()) {
            ("sweep", false) => return Err(Misuse::new("sandbox limits sweep: is about all sandboxes")),
            ("sweep", true) | (_, false) => {}
            (_, true) => return Err(Misuse::new(format!("sandbox limits {action}: of which sandbox?"))),
        }
        if !program.is_empty() && !matches!(action.as_str(), "apply" | "helper") {
            return Err(Misuse::new(format!("sandbox limits {action}: takes one sandbox and nothing else")));
        }
        let action = match action.as_str() {
            "plan" => Action::Plan(Box::new(wished(given, &id)?), format(given)?),
            "apply" => Action::Apply {
                wished: Box::new(wished(given, &id)?),
                subject: subject_of(given, program)?,
                order: order(given)?,
                pid_file: given.path("pid-file"),
            },
            "update" => Action::Update(change(given)?),
            "helper" => Action::Helper(subject_of(given, program)?),
            "show" => Action::Show { guest: given.path("guest"), format: format(given)? },
            "watch" => Action::Watch(format(given)?),
            "sweep" => Action::Sweep,
            _ => Action::Destroy,
        };
        Ok(Self { id, action })
    }
}

fn subject_of(given: &Given, program: Vec<OsString>) -> Result<Subject, Misuse> {
    match (given.number("pid"), program.is_empty()) {
        (Some(pid), true) => i32::try_from(pid)
            .ok()
            .filter(|pid| *pid > 0)
            .map(Subject::Running)
            .ok_or_else(|| Misuse::new(format!("--pid {pid}: is no process id"))),
        (None, false) => Ok(Subject::Program(program)),
        (Some(_), false) => Err(Misuse::new("--pid and a program: one of the two")),
        (None, true) => Err(Misuse::new("whom for? --pid PID, or -- PROGRAM [ARGUMENTS]")),
    }
}

fn order(given: &Given) -> Result<Order, Misuse> {
    let mut order = Order::default();
    let named: Vec<Pattern> = given
        .texts("vcpu")
        .map(|name| name.parse().map_err(|why| Misuse::new(format!("--vcpu: {why}"))))
        .collect::<Result<_, _>>()?;
    if !named.is_empty() {
        order.patterns = named;
    }
    order.vcpus = given.number("vcpu-count").map(|count| positive("vcpu-count", count)).transpose()?;
    Ok(order)
}

fn positive(flag: &str, number: i64) -> Result<u32, Misuse> {
    u32::try_from(number)
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| Misuse::new(format!("--{flag} {number}: is out of range")))
}

fn wished(given: &Given, id: &str) -> Result<Wished, Misuse> {
    let wish = Wish {
        id: id.to_owned(),
        path: given.text("cgroup").map(str::to_owned),
        driver: one_of(given, "driver", &[("cgroupfs", Driver::Cgroupfs), ("systemd", Driver::Systemd)])?,
        layout: one_of(
            given,
            "layout",
            &[("all-in-one", Layout::AllInOne), ("overhead-elsewhere", Layout::OverheadElsewhere)],
        )?
        .unwrap_or_default(),
        vcpus: one_of(given, "vcpus", &[("together", Vcpus::Together), ("threaded", Vcpus::Threaded)])?
            .unwrap_or_default(),
        helpers: given.is_on("helpers"),
        memory: Asked {
            guest: bytes(given, "guest-memory")?,
            overhead: bytes(given, "overhead")?,
            limit: bytes(given, "memory")?,
            helpers: bytes(given, "helper-memory")?,
        },
        shares: shares(given)?.into_iter().filter_map(|(name, share)| Some((name, share?))).collect(),
        pin: given.is_on("pin"),
        handed: handed(given, "device")?,
        needs: needs(given)?,
        ..Wish::default()
    };
    Ok(Wished { wish, resources: given.path("resources") })
}

fn needs(given: &Given) -> Result<Needs, Misuse> {
    let disk = |text: &str| text.parse::<Disk>().map_err(|why| Misuse::new(why.to_string()));
    let group = |number: i64| {
        u32::try_from(number).map_err(|_| Misuse::new(format!("--vfio {number}: is no group's number")))
    };
    Ok(Needs {
        computes: one_of(given, "accel", &[("kvm", false), ("tcg", true)])?.unwrap_or(false),
        vhost_net: given.is_on("vhost-net"),
        vhost_vsock: given.is_on("vhost-vsock"),
        tun: given.is_on("tun"),
        vfio: given.numbers("vfio").map(group).collect::<Result<_, _>>()?,
        disks: given.texts("disk").map(disk).collect::<Result<_, _>>()?,
    })
}

fn change(given: &Given) -> Result<Change, Misuse> {
    Ok(Change {
        add: handed(given, "device")?,
        remove: handed(given, "remove-device")?,
        shares: shares(given)?.into_iter().collect(),
    })
}

fn handed(given: &Given, flag: &str) -> Result<Vec<Handed>, Misuse> {
    given
        .texts(flag)
        .map(|text| text.parse().map_err(|why: plan::Refused| Misuse::new(why.to_string())))
        .collect()
}

/// What is said of each container; nothing, where all that is said is empty.
fn shares(given: &Given) -> Result<BTreeMap<String, Option<Share>>, Misuse> {
    let mut shares: BTreeMap<String, Option<Share>> = BTreeMap::new();
    for flag in ["cpus", "mems", "cpu-quota"] {
        for text in given.texts(flag) {
            let (name, value) = text.split_once('=').unwrap_or(("guest", text));
            let share = shares.entry(name.to_owned()).or_default();
            if value.is_empty() {
                continue;
            }
            let share = share.get_or_insert_default();
            match flag {
                "cpus" => share.cpus = Some(value.to_owned()),
                "mems" => share.mems = Some(value.to_owned()),
                _ => (share.quota, share.period) = quota(text, value)?,
            }
        }
    }
    Ok(shares)
}

fn quota(text: &str, value: &str) -> Result<(Option<i64>, Option<u64>), Misuse> {
    let wrong = || Misuse::new(format!("--cpu-quota {text}: is not like 50000 or 50000/100000"));
    let (quota, period) = match value.split_once('/') {
        Some((quota, period)) => (quota, Some(period.parse().map_err(|_| wrong())?)),
        None => (value, None),
    };
    Ok((Some(quota.parse().map_err(|_| wrong())?), period))
}

fn bytes(given: &Given, flag: &str) -> Result<Option<u64>, Misuse> {
    let Some(text) = given.text(flag) else { return Ok(None) };
    let bytes = size(text).and_then(|bytes| u64::try_from(bytes).ok()).filter(|bytes| *bytes > 0);
    bytes.map(Some).ok_or_else(|| Misuse::new(format!("--{flag} {text}: is no size, such as 512m")))
}

fn one_of<T: Copy>(given: &Given, flag: &str, words: &[(&str, T)]) -> Result<Option<T>, Misuse> {
    let Some(text) = given.text(flag) else { return Ok(None) };
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(Some(*value));
    }
    let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    Err(Misuse::new(format!("--{flag} {text}: is none of {}", words.join(", "))))
}
