//! The document that `spec` writes for somebody to begin with.

use crate::pretty::pretty;
use crate::{
    Capabilities, DeviceRule, IdMapping, Linux, Mount, Namespace, NamespaceKind, Process, Resources, Rlimit,
    RlimitKind, Root, Spec,
};

/// The version of the specification that we implement.
pub const VERSION: &str = "1.3.0";

impl Spec {
    /// A shell in a read-only root file system with its own namespaces, as `runc spec` writes it. A cgroup
    /// namespace is among them on hosts with the unified hierarchy alone.
    ///
    /// What differs from runc: the host name is our own.
    pub fn template(cgroup_namespace: bool) -> Self {
        let mut kinds = vec![
            NamespaceKind::Pid,
            NamespaceKind::Network,
            NamespaceKind::Ipc,
            NamespaceKind::Uts,
            NamespaceKind::Mount,
        ];
        kinds.extend(cgroup_namespace.then_some(NamespaceKind::Cgroup));
        Self {
            oci_version: VERSION.into(),
            process: Some(shell()),
            root: Some(Root { path: "rootfs".into(), readonly: true }),
            hostname: Some("cofferdam".into()),
            mounts: mounts(),
            linux: Some(Linux {
                resources: Some(Resources {
                    devices: vec![DeviceRule { access: Some("rwm".into()), ..DeviceRule::default() }],
                    ..Resources::default()
                }),
                namespaces: kinds.into_iter().map(|kind| Namespace { kind, path: None }).collect(),
                masked_paths: words(MASKED),
                readonly_paths: words(READONLY),
                ..Linux::default()
            }),
            ..Self::default()
        }
    }

    /// The same for somebody without privilege: a user namespace in which they are root, the host's network and
    /// /sys (a new one cannot be mounted without a network of one's own), no limits.
    #[must_use]
    pub fn rootless(mut self, uid: u32, gid: u32) -> Self {
        let linux = self.linux.get_or_insert_default();
        linux.namespaces.retain(|one| !matches!(one.kind, NamespaceKind::Network | NamespaceKind::User));
        linux.namespaces.push(Namespace { kind: NamespaceKind::User, path: None });
        linux.uid_mappings = vec![IdMapping { container_id: 0, host_id: uid, size: 1 }];
        linux.gid_mappings = vec![IdMapping { container_id: 0, host_id: gid, size: 1 }];
        linux.resources = None;
        for mount in &mut self.mounts {
            if mount.destination == "/sys" {
                *mount = described("/sys", "none", "/sys", &["rbind", "nosuid", "noexec", "nodev", "ro"]);
            }
            // One id is mapped; another cannot own anything.
            mount.options.retain(|option| !option.starts_with("uid=") && !option.starts_with("gid="));
        }
        self
    }

    /// As runc writes it: a tab for each level, no newline at the end.
    pub fn to_pretty(&self) -> String {
        pretty(self, b"\t")
    }
}

fn shell() -> Process {
    let given = words(&["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    Process {
        terminal: true,
        args: words(&["sh"]),
        env: words(&["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"]),
        cwd: "/".into(),
        capabilities: Some(Capabilities {
            bounding: given.clone(),
            effective: given.clone(),
            permitted: given,
            ..Capabilities::default()
        }),
        rlimits: vec![Rlimit { kind: RlimitKind::Nofile, hard: 1024, soft: 1024 }],
        no_new_privileges: true,
        ..Process::default()
    }
}

fn mounts() -> Vec<Mount> {
    let quiet = ["nosuid", "noexec", "nodev"];
    vec![
        described("/proc", "proc", "proc", &[]),
        described("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        described(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        described("/dev/shm", "tmpfs", "shm", &[&quiet[..], &["mode=1777", "size=65536k"]].concat()),
        described("/dev/mqueue", "mqueue", "mqueue", &quiet),
        described("/sys", "sysfs", "sysfs", &[&quiet[..], &["ro"]].concat()),
        described("/sys/fs/cgroup", "cgroup", "cgroup", &[&quiet[..], &["relatime", "ro"]].concat()),
    ]
}

fn described(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.into(),
        kind: Some(kind.into()),
        source: Some(source.into()),
        options: words(options),
        ..Mount::default()
    }
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).into()).collect()
}

/// They tell about the host, or let somebody inside talk to its kernel and hardware.
const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/proc/scsi",
];

/// They may be read, but writing reaches beyond the container.
const READONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

#[cfg(test)]
#[allow(clippy::expect_used, reason = "a test states what it expects")]
mod tests {
    use super::*;

    /// What Debian's runc 1.1.5 wrote, with what differs set to ours: the version, the host name, and the ambient
    /// capabilities, which runc itself left out later.
    fn runc(written: &str) -> String {
        let mut spec = Spec::parse(written.as_bytes()).expect("runc writes what we read");
        assert_eq!((spec.oci_version.as_str(), spec.hostname.as_deref()), ("1.0.2-dev", Some("runc")));
        spec.oci_version = VERSION.into();
        spec.hostname = Some("cofferdam".into());
        let set =
            spec.process.as_mut().and_then(|process| process.capabilities.as_mut()).expect("they are there");
        assert_eq!(set.ambient, set.bounding);
        set.ambient.clear();
        spec.to_pretty()
    }

    #[test]
    fn the_template_is_runcs() {
        let written = include_str!("../tests/fixtures/runc-1.1.5-spec.json");
        assert_eq!(Spec::template(false).to_pretty(), runc(written));
        let written = include_str!("../tests/fixtures/runc-1.1.5-spec-rootless.json");
        assert_eq!(Spec::template(false).rootless(0, 0).to_pretty(), runc(written));
    }

    #[test]
    fn what_we_write_is_byte_for_byte_what_runc_writes() {
        for written in [
            include_str!("../tests/fixtures/runc-1.1.5-spec.json"),
            include_str!("../tests/fixtures/runc-1.1.5-spec-rootless.json"),
        ] {
            assert_eq!(
                Spec::parse(written.as_bytes()).expect("runc writes what we read").to_pretty(),
                written
            );
        }
    }

    #[test]
    fn the_template_passes_its_own_check() {
        for cgroup in [false, true] {
            assert_eq!(Spec::template(cgroup).check(), Ok(()));
            assert_eq!(Spec::template(cgroup).rootless(1000, 1000).check(), Ok(()));
        }
        let kinds = Spec::template(true).linux.expect("it is there").namespaces;
        assert_eq!(kinds.last().map(|one| one.kind), Some(NamespaceKind::Cgroup));
    }
}
