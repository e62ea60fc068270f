//! From the flags to config.json.

use std::path::{Path, PathBuf};

use spec::{
    Capabilities, Cpu, Linux, Memory, Mount, Namespace, NamespaceKind, Pids, Process, Root, Spec, User,
};

use super::{alone, skeleton};
use crate::command::{Complaint, text};
use crate::invocation::Try;

/// What Docker leaves to the root of its containers, so that apt, su and their kin work: no mounting, no modules, no
/// tracing of others, no network set-up.
const CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// What runs where somebody typed no command.
const SHOW: &str = include_str!("show.sh");

/// A configuration that lacks only what the root file system brings along.
pub(super) struct Draft(Spec);

impl Draft {
    /// Reads what was typed; paths in it are relative to the working directory.
    pub(super) fn of(attempt: &Try, id: &str, is_alone: bool) -> Result<Self, Complaint> {
        let mut spec = Spec::template(true);
        if is_alone {
            alone::adapt(&mut spec);
        }
        let path = match &attempt.rootfs {
            Some(directory) => root_in(directory)?,
            None => "rootfs".to_owned(),
        };
        spec.root = Some(Root { path, readonly: attempt.read_only });
        // The kernel's limit; a longer name is cut, and stays the container's id.
        spec.hostname = Some(id.chars().take(64).collect());
        spec.process = Some(process(attempt, id));
        for volume in &attempt.volumes {
            let source = existing(&volume.source, "--volume")?;
            let target = text(&volume.target, "--volume")?;
            if volume.read_only {
                spec.mounts.extend(skeleton::read_only(&source, &target)?);
            } else {
                spec.mounts.push(bind(&source, &target, &["rbind", "rprivate"]));
            }
        }
        limit(spec.linux.get_or_insert_default(), attempt);
        Ok(Self(spec))
    }

    /// With the mounts of the root file system, which come first.
    pub(super) fn finish(self, mounts: Vec<Mount>) -> Spec {
        let Self(mut spec) = self;
        spec.mounts.splice(..0, mounts);
        spec
    }
}

/// One path of the host, seen in the container.
pub(super) fn bind(source: &str, target: &str, options: &[&str]) -> Mount {
    Mount {
        destination: target.to_owned(),
        kind: Some("bind".to_owned()),
        source: Some(source.to_owned()),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
        ..Mount::default()
    }
}

fn root_in(directory: &Path) -> Result<String, Complaint> {
    let path = existing(directory, "--rootfs")?;
    if !Path::new(&path).is_dir() {
        return Err(Complaint::new(format!("try: --rootfs {path}: is no directory")));
    }
    if path == "/" {
        return Err(Complaint {
            hint: Some("leave --rootfs out to see the host's programs read-only".to_owned()),
            ..Complaint::new("try: --rootfs /: is the host's own root, which nobody throws away")
        });
    }
    Ok(path)
}

fn existing(path: &Path, flag: &str) -> Result<String, Complaint> {
    let found: PathBuf = std::fs::canonicalize(path)
        .map_err(|error| Complaint::new(format!("try: {flag} {}: {error}", path.display())))?;
    text(&found, flag)
}

fn process(attempt: &Try, id: &str) -> Process {
    let user = User { uid: attempt.user.uid, gid: attempt.user.gid, ..User::default() };
    let given: Vec<String> = CAPABILITIES.iter().map(|&name| name.to_owned()).collect();
    // Who is not root begins with none, and gains no more than these by su.
    let own = if user.uid == 0 { given.clone() } else { Vec::new() };
    Process {
        args: if attempt.command.is_empty() { show() } else { attempt.command.clone() },
        env: environment(attempt, id),
        capabilities: Some(Capabilities {
            bounding: given,
            effective: own.clone(),
            permitted: own,
            ..Capabilities::default()
        }),
        cwd: "/".to_owned(),
        terminal: attempt.tty,
        user,
        ..Process::default()
    }
}

/// The default command: a script, and the host's namespaces for it to compare its own with.
fn show() -> Vec<String> {
    let mut args: Vec<String> = ["/bin/sh", "-c", SHOW, "try"].map(str::to_owned).to_vec();
    for name in ["mnt", "pid", "net", "ipc", "uts", "cgroup", "user"] {
        // A namespace that this kernel lacks is none to tell of.
        if let Ok(link) = std::fs::read_link(format!("/proc/self/ns/{name}")) {
            args.push(link.display().to_string());
        }
    }
    args
}

fn environment(attempt: &Try, id: &str) -> Vec<String> {
    let home = if attempt.user.uid == 0 { "/root" } else { "/" };
    let term = std::env::var("TERM").unwrap_or_else(|_| "xterm".to_owned());
    let mut all = vec![
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        format!("HOME={home}"),
        format!("HOSTNAME={id}"),
        format!("TERM={term}"),
    ];
    for variable in &attempt.env {
        let name = variable.split_inclusive('=').next().unwrap_or(variable);
        all.retain(|known| !known.starts_with(name));
        all.push(variable.clone());
    }
    all
}

fn limit(linux: &mut Linux, attempt: &Try) {
    if !linux.namespaces.iter().any(|one| one.kind == NamespaceKind::Cgroup) {
        linux.namespaces.push(Namespace { kind: NamespaceKind::Cgroup, path: None });
    }
    let resources = linux.resources.get_or_insert_default();
    if let Some(bytes) = attempt.memory.and_then(|bytes| i64::try_from(bytes).ok()) {
        resources.memory = Some(Memory { limit: Some(bytes), ..Memory::default() });
    }
    if let Some(thousandths) = attempt.cpus {
        // The kernel gives out no less than a millisecond, and its longest period is a second.
        let period: u32 = if thousandths < 10 { 1_000_000 } else { 100_000 };
        let quota = i64::from(thousandths) * i64::from(period / 1000);
        resources.cpu = Some(Cpu { quota: Some(quota), period: Some(period.into()), ..Cpu::default() });
    }
    if let Some(count) = attempt.pids {
        resources.pids = Some(Pids { limit: Some(count.into()) });
    }
}

#[cfg(test)]
#[allow(clippy::expect_used, reason = "a test states what it expects")]
mod tests {
    use super::*;

    fn spec(attempt: &Try) -> Spec {
        let Ok(Draft(spec)) = Draft::of(attempt, "web", false) else { unreachable!("no path is in it") };
        spec
    }

    #[test]
    fn what_is_written_passes_its_check() {
        assert_eq!(spec(&Try::default()).check(), Ok(()));
    }

    #[test]
    fn a_thousandth_of_a_processor_is_within_the_kernels_bounds() {
        for (cpus, quota, period) in
            [(1, 1000, 1_000_000), (9, 9000, 1_000_000), (10, 1000, 100_000), (1500, 150_000, 100_000)]
        {
            let linux = spec(&Try { cpus: Some(cpus), ..Try::default() }).linux.expect("it is there");
            let cpu = linux.resources.and_then(|resources| resources.cpu).expect("it is limited");
            assert_eq!((cpu.quota, cpu.period), (Some(quota), Some(period)), "{cpus}");
        }
    }

    #[test]
    fn a_variable_is_set_once() {
        let attempt =
            Try { env: vec!["HOME=/a".into(), "HO=b".into(), "HOME=/c=d".into()], ..Try::default() };
        let env = environment(&attempt, "web");
        assert_eq!(
            env.iter().filter(|one| one.starts_with("HO")).collect::<Vec<_>>(),
            ["HOSTNAME=web", "HO=b", "HOME=/c=d"]
        );
    }

    #[test]
    fn only_root_begins_with_capabilities() {
        let of = |uid| {
            let user = crate::invocation::User { uid, gid: 0 };
            let process = spec(&Try { user, ..Try::default() }).process.expect("it is there");
            process.capabilities.expect("they are there")
        };
        assert_eq!(of(0).effective.len(), 14);
        assert_eq!((of(1000).effective.len(), of(1000).bounding.len()), (0, 14));
    }
}
