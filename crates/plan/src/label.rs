//! Labels of security modules: on processes, on their keys, and on mounts.

use serde::{Deserialize, Serialize};
use spec::Spec;

use crate::mount::{Mount, Source};
use crate::step::Step;
use crate::{Host, Manner, Refused};

/// What a process writes into its own `attr` directory, proc_pid_attr(5).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Label {
    /// The AppArmor profile that the program gets.
    Profile(String),
    /// The SELinux label that the program gets.
    Program(String),
    /// The SELinux label that new keys get; empty: the usual one again.
    Keys(String),
}

/// Which security modules this host runs. Looked for only where a document names a label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Modules {
    /// AppArmor.
    pub apparmor: bool,
    /// SELinux.
    pub selinux: bool,
}

impl Manner {
    /// Whether it has a label, so that the host's modules must be known.
    pub fn has_labels(&self) -> bool {
        self.apparmor_profile.is_some() || self.selinux_label.is_some()
    }

    /// Refuses a label whose module this host does not run: nothing would come of it.
    pub(crate) fn check_labels(&self, host: &Host) -> Result<(), Refused> {
        let asked = [
            (self.apparmor_profile.is_some(), host.modules.apparmor, "process.apparmorProfile", APPARMOR),
            (self.selinux_label.is_some(), host.modules.selinux, "process.selinuxLabel", SELINUX),
        ];
        match asked.into_iter().find(|(is_asked, is_there, ..)| *is_asked && !is_there) {
            Some((.., path, reason)) => Err(Refused::new(path, reason)),
            None => Ok(()),
        }
    }

    pub(crate) fn profile(&self) -> Option<Step> {
        self.apparmor_profile.clone().map(|name| Step::Label(Label::Profile(name)))
    }

    pub(crate) fn program_label(&self) -> Option<Step> {
        self.selinux_label.clone().map(|label| Step::Label(Label::Program(label)))
    }

    /// The keyring that is joined, if any is, bears the program's label.
    pub(crate) fn keyring(&self, joined: Option<Step>) -> impl Iterator<Item = Step> + use<> {
        let label = self.selinux_label.clone().filter(|_| joined.is_some());
        let back = label.is_some().then(|| Step::Label(Label::Keys(String::new())));
        let label = label.map(|label| Step::Label(Label::Keys(label)));
        label.into_iter().chain(joined).chain(back)
    }
}

const APPARMOR: &str = "this host does not run AppArmor (/sys/module/apparmor/parameters/enabled)";
const SELINUX: &str = "this host does not run SELinux (/sys/fs/selinux)";

/// The label of a container's mounts.
pub(crate) fn of_mounts<'a>(spec: &'a Spec, host: &Host) -> Result<Option<&'a str>, Refused> {
    let label = spec.linux.as_ref().and_then(|linux| linux.mount_label.as_deref());
    match label.filter(|label| !label.is_empty()) {
        Some(_) if !host.modules.selinux => Err(Refused::new("linux.mountLabel", SELINUX)),
        label => Ok(label),
    }
}

/// Whether a document names a label.
pub fn has_labels(spec: &Spec) -> bool {
    let label = spec.linux.as_ref().and_then(|linux| linux.mount_label.as_deref());
    Manner::of(spec).has_labels() || label.is_some_and(|label| !label.is_empty())
}

/// Gives a new file system its label. One that stands for the kernel has labels of its own, and one for message queues
/// takes none as an option: its directory is labelled.
pub(crate) fn label(mount: &mut Mount, label: &str) {
    let Source::New { kind, data, .. } = &mut mount.source else { return };
    match kind.as_str() {
        "proc" | "sysfs" | "cgroup" | "cgroup2" => {}
        "mqueue" => mount.label = Some(label.to_owned()),
        _ if data.iter().any(|(key, _)| CONTEXTS.contains(&key.as_str())) => {}
        _ => data.push(("context".to_owned(), Some(label.to_owned()))),
    }
}

/// Options by which a document labels a file system itself.
const CONTEXTS: [&str; 4] = ["context", "fscontext", "defcontext", "rootcontext"];
