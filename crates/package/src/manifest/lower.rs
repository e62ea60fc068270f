//! From a manifest to the document that the engine plans: a package and an OCI bundle run by the same code.

use std::collections::BTreeMap;

use spec::{
    Capabilities, DeviceRule, Linux, Mount, Namespace, NamespaceKind, Process, Resources, Rlimit, RlimitKind,
    Root, Spec, User, VERSION,
};

use super::{Manifest, Mount as Kind, Network, Options, seccomp};
use crate::error::Error;

/// What the host has for a package: everything that its manifest names and does not bring along.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Where the image is mounted.
    pub rootfs: String,
    /// The directory that outlives the container.
    pub data: Option<String>,
    /// The directories of resources, by the target that they are mounted on. Each was resolved inside of its package: a
    /// link there must not lead to a path of the host's.
    pub resources: BTreeMap<String, String>,
    /// The numbers of supplementary groups, by name.
    pub groups: BTreeMap<String, u32>,
    /// The group above the container's, for those that name none; the engine's own rule without it.
    pub cgroup: Option<String>,
    /// Paths that the host has, of those that the manifest binds; others are not mounted.
    pub present: Vec<String>,
    /// Whether whoever runs it is spared when memory runs out.
    pub is_spared: bool,
    /// How many files a program may have open whose manifest does not say, softly and hard: where whoever runs it has raised that
    /// for himself.
    pub files: Option<(u64, u64)>,
    /// The descriptor by which the program talks to a daemon, if one is there.
    pub console: Option<u32>,
    /// The descriptors of the sockets that were made for it, by name.
    pub sockets: BTreeMap<String, u32>,
    /// The directory where the sockets of all containers are, if somebody makes them.
    pub socket_directory: Option<String>,
}

impl Manifest {
    /// What the engine is to do, once all that the host lends is in its place.
    pub fn to_spec(&self, places: &Places) -> Result<Spec, Error> {
        let init = self.init.as_ref().ok_or_else(|| {
            Error::invalid(format!("{} is a resource: it has no program that could be run", self.container()))
        })?;
        if self.sched.as_ref().is_some_and(|sched| sched.policy == "SCHED_DEADLINE") {
            return Err(Error::unsupported(
                "sched.policy: deadline: the format has no place for its runtime and period",
            ));
        }
        if self.sockets.keys().any(|name| !places.sockets.contains_key(name)) {
            return Err(Error::unsupported("sockets: nobody here makes them; that is a daemon's work"));
        }
        if self.console.is_some() && places.console.is_none() {
            return Err(Error::unsupported("console: there is no daemon here that could answer"));
        }
        // The engine makes the six devices of a `dev` mount, and some links, in every container. They are in the image
        // too, where it was packed with such a mount; but an image is read-only, and these are nobody's who signed.
        let mut mounts = vec![devices_mount()];
        for (target, mount) in &self.mounts {
            mounts.extend(lower(target, mount, places)?);
        }
        Ok(Spec {
            oci_version: VERSION.into(),
            process: Some(self.process(init, places)?),
            root: Some(Root { path: places.rootfs.clone(), readonly: true }),
            mounts,
            linux: Some(self.linux(places)),
            ..Spec::default()
        })
    }

    fn process(&self, init: &str, places: &Places) -> Result<Process, Error> {
        let group = |name: &String| {
            places.groups.get(name).copied().ok_or_else(|| {
                Error::invalid(format!("suppl_groups: this host has no group {}", spec::quoted(name)))
            })
        };
        let mut env: Vec<String> = self.env.iter().map(|(key, value)| format!("{key}={value}")).collect();
        env.push(format!("NORTHSTAR_CONTAINER={}", self.container()));
        env.push(format!("NORTHSTAR_NAME={}", self.name));
        env.push(format!("NORTHSTAR_VERSION={}", self.version));
        let console = places.console.filter(|_| self.console.is_some());
        env.extend(console.map(|descriptor| format!("NORTHSTAR_CONSOLE={descriptor}")));
        let sockets = places.sockets.iter().filter(|(name, _)| self.sockets.contains_key(*name));
        env.extend(sockets.map(|(name, descriptor)| format!("NORTHSTAR_SOCKET_{name}={descriptor}")));
        let given = self.capabilities.clone();
        Ok(Process {
            user: User {
                uid: self.uid.into(),
                gid: self.gid.into(),
                additional_gids: self.suppl_groups.iter().map(group).collect::<Result<_, Error>>()?,
                ..User::default()
            },
            args: std::iter::once(init.to_owned()).chain(self.args.iter().cloned()).collect(),
            env,
            cwd: self.cwd.clone(),
            capabilities: Some(Capabilities {
                bounding: given.clone(),
                effective: given.clone(),
                inheritable: given.clone(),
                permitted: given.clone(),
                ambient: given,
            }),
            rlimits: self.limits(places),
            no_new_privileges: true,
            scheduler: self.sched.clone(),
            // A program is not spared for its daemon's sake. To give it less than we have ourselves takes no right.
            oom_score_adj: places.is_spared.then_some(0),
            selinux_label: self.selinux.as_ref().and_then(|selinux| selinux.exec.clone()),
            ..Process::default()
        })
    }

    /// The limits of the manifest, and those that are nobody's but the program's.
    fn limits(&self, places: &Places) -> Vec<Rlimit> {
        let mut all = self.rlimits.clone();
        let kind = RlimitKind::Nofile;
        if let Some((soft, hard)) = places.files.filter(|_| all.iter().all(|limit| limit.kind != kind)) {
            all.push(Rlimit { kind, hard, soft });
        }
        all
    }

    fn linux(&self, places: &Places) -> Linux {
        use NamespaceKind::{Cgroup, Ipc, Mount, Network as Net, Pid, Uts};
        let mut namespaces: Vec<Namespace> =
            [Mount, Pid, Ipc, Uts, Cgroup].map(|kind| Namespace { kind, path: None }).to_vec();
        match &self.network {
            Network::Host => {}
            Network::Own => namespaces.push(Namespace { kind: Net, path: None }),
            Network::Named(name) => {
                namespaces.push(Namespace { kind: Net, path: Some(format!("/run/netns/{name}")) });
            }
        }
        let cgroups = self.cgroups.clone().unwrap_or_default();
        let parent = cgroups.parent.or_else(|| places.cgroup.clone());
        Linux {
            namespaces,
            cgroups_path: parent.map(|parent| format!("/{}/{}", parent.trim_matches('/'), self.name)),
            resources: Some(Resources {
                // Devices are in the image, and who put them there signed it: the six of a `dev` mount, and no others.
                devices: devices(),
                cpu: cgroups.cpu,
                memory: cgroups.memory,
                block_io: cgroups.block_io,
                unified: cgroups.attrs,
                ..Resources::default()
            }),
            seccomp: self.seccomp.as_ref().map(|of| seccomp::filter(of, self)),
            ..Linux::default()
        }
    }
}

fn lower(target: &str, mount: &Kind, places: &Places) -> Result<Option<Mount>, Error> {
    let described = |kind: &str, options: &[&str]| Mount {
        destination: target.to_owned(),
        kind: Some(kind.to_owned()),
        source: Some(kind.to_owned()),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
        ..Mount::default()
    };
    let bound = |source: &str, options: Options, is_writable: bool| Mount {
        destination: target.to_owned(),
        kind: Some("bind".to_owned()),
        source: Some(source.to_owned()),
        options: words(options, is_writable),
        ..Mount::default()
    };
    Ok(match mount {
        Kind::Dev => None,
        Kind::Proc => Some(described("proc", &["ro", "nosuid", "noexec", "nodev"])),
        Kind::Sysfs => Some(described("sysfs", &["ro", "nosuid", "noexec", "nodev"])),
        Kind::Tmpfs { size } => {
            let size = format!("size={size}");
            Some(described("tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", &size]))
        }
        // What the host does not have is not mounted: so the reference has it.
        Kind::Bind { host, options } => {
            places.present.contains(host).then(|| bound(host, *options, options.rw))
        }
        Kind::Persist => {
            let data = places.data.as_ref();
            let data = data.ok_or_else(|| {
                Error::invalid(format!("mounts{}: a directory for what persists is due", spec::step(target)))
            })?;
            let closed = Options { rw: true, noexec: true, nosuid: true, nodev: true, rec: false };
            Some(bound(data, closed, true))
        }
        Kind::Resource { name, version, options, .. } => {
            let directory = places.resources.get(target).ok_or_else(|| {
                Error::invalid(format!("mounts{}: there is no package {name} {version}", spec::step(target)))
            })?;
            Some(bound(directory, *options, false))
        }
        // To connect to a socket nobody need write to the directory.
        Kind::Sockets => {
            let directory = places.socket_directory.as_ref().ok_or_else(|| {
                Error::unsupported(format!(
                    "mounts{}: sockets: there is no daemon here that could have made any",
                    spec::step(target)
                ))
            })?;
            let closed = Options { rw: false, noexec: true, nosuid: true, nodev: true, rec: false };
            Some(bound(directory, closed, false))
        }
    })
}

fn devices_mount() -> Mount {
    Mount {
        destination: "/dev".to_owned(),
        kind: Some("tmpfs".to_owned()),
        source: Some("tmpfs".to_owned()),
        options: ["nosuid", "noexec", "mode=755", "size=64k"].map(str::to_owned).to_vec(),
        ..Mount::default()
    }
}

fn words(options: Options, is_writable: bool) -> Vec<String> {
    let mut words = vec![if options.rec { "rbind" } else { "bind" }, "rprivate"];
    words.push(if is_writable { "rw" } else { "ro" });
    words.extend(options.noexec.then_some("noexec"));
    words.extend(options.nosuid.then_some("nosuid"));
    words.extend(options.nodev.then_some("nodev"));
    words.into_iter().map(str::to_owned).collect()
}

fn devices() -> Vec<DeviceRule> {
    let allow = |(major, minor)| DeviceRule {
        allow: true,
        kind: Some("c".to_owned()),
        major: Some(major),
        minor: Some(minor),
        access: Some("rw".to_owned()),
    };
    let none = DeviceRule { access: Some("rwm".to_owned()), ..DeviceRule::default() };
    let nodes = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0)];
    std::iter::once(none).chain(nodes.map(allow)).collect()
}
