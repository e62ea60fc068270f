//! What a test needs of its host, and the record of those that did not find it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use crate::{Age, debian};

/// Returns from the test, on the record, unless the host has everything that is named.
///
/// `needs!(Root, Runc)` stands first in a test; see [`Need`] for the names.
#[macro_export]
macro_rules! needs {
    ($($need:ident),+ $(,)?) => {
        $(
            if let Some(lacking) = $crate::Need::$need.lacking() {
                $crate::skipped(&lacking);
                return;
            }
        )+
    };
}

/// Something that a host may lack.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    /// User 0 in the initial user namespace, with the right to mount.
    Root,
    /// Debian's static busybox, which all small bundles are made of.
    Busybox,
    /// The program for packages, beside the runtime under test.
    Cofferctl,
    /// The daemon of devices, beside the runtime under test.
    Cofferdamd,
    /// Northstar's published client.
    Nstar,
    /// A runc to compare with.
    Runc,
    /// The cached Debian root file system, or what it takes to make it.
    Debian,
    /// Debian's dockerd and client.
    Docker,
    /// Debian's containerd, its client and its shim.
    Containerd,
    /// The containerd of the next Debian, 1.7.
    Containerd17,
    /// The newest containerd that Debian has.
    ContainerdNewest,
    /// A containerd shim to test: ours, or the one that `COFFERDAM_SHIM` names.
    Shim,
    /// Debian's podman.
    Podman,
    /// slirp4netns(1), an ordinary user's network.
    Slirp,
    /// Podman's own maker of networks.
    Netavark,
    /// The DNS server of Podman's networks.
    Aardvark,
    /// The plugins of the container network interface.
    Cni,
    /// docker-compose(1)
    Compose,
    /// bash(1), whose completion is driven.
    Bash,
    /// fish(1), likewise.
    Fish,
    /// zsh(1), likewise.
    Zsh,
    /// make(1)
    Make,
    /// man(1) of man-db, and groff(1) below it.
    Man,
    /// mandoc(1), the stricter reader of man pages.
    Mandoc,
    /// The programs that hand out subordinate ids.
    Uidmap,
    /// Control groups of version 1, with the controllers whose files the tests of limits read.
    GroupsV1,
    /// Control groups of either version, with controllers for memory, processors and processes.
    Groups,
    /// The unified tree of version 2, and nothing else.
    GroupsV2,
    /// A freezer: version 1's controller, or version 2.
    Freezer,
    /// The virtual machine of `make test-vm`, where everything is and may be changed. Such a test's name begins with `vm_`.
    Vm,
}

impl Need {
    /// Why this host cannot serve; none if it can.
    pub fn lacking(self) -> Option<String> {
        match self {
            Self::Root => (!rustix::process::geteuid().is_root()).then(|| "not root".into()),
            Self::Busybox => missing("/bin/busybox", "busybox-static"),
            Self::Cofferctl => {
                let program = crate::Packages::program();
                (!program.exists()).then(|| format!("no {}", program.display()))
            }
            Self::Cofferdamd => {
                let program = crate::Device::program();
                (!program.exists()).then(|| format!("no {}", program.display()))
            }
            Self::Nstar => {
                let lacking = crate::Runtime::find("northstar-nstar").is_none();
                lacking.then(|| "no northstar-nstar in PATH (cargo install northstar-nstar)".into())
            }
            Self::Runc => crate::Runtime::find("runc").is_none().then(|| "no runc in PATH".into()),
            Self::Debian => debian::lacking(),
            Self::Docker => missing("/usr/sbin/dockerd", "docker.io"),
            Self::Containerd => missing("/usr/bin/containerd", "containerd"),
            Self::Containerd17 => beside(Age::Trixie),
            Self::ContainerdNewest => beside(Age::Sid),
            Self::Shim => crate::Shim::lacking(),
            Self::Podman => missing("/usr/bin/podman", "podman"),
            Self::Slirp => in_path("slirp4netns"),
            Self::Netavark => missing("/usr/lib/podman/netavark", "netavark"),
            Self::Aardvark => missing("/usr/lib/podman/aardvark-dns", "aardvark-dns"),
            Self::Cni => missing("/usr/lib/cni/bridge", "containernetworking-plugins"),
            Self::Compose => in_path("docker-compose"),
            Self::Bash => in_path("bash"),
            Self::Fish => in_path("fish"),
            Self::Zsh => in_path("zsh"),
            Self::Make => in_path("make"),
            Self::Man => in_path("man"),
            Self::Mandoc => in_path("mandoc"),
            Self::Uidmap => missing("/usr/bin/newuidmap", "uidmap"),
            Self::GroupsV1 => {
                let files = [
                    "memory/memory.limit_in_bytes",
                    "memory/cgroup.event_control",
                    "cpu/cpu.shares",
                    "cpuacct/cpuacct.usage",
                    "cpuset/cpuset.cpus",
                    "pids/tasks",
                ];
                let mut files = files.iter().map(|file| Path::new("/sys/fs/cgroup").join(file));
                files.find(|file| !file.exists()).map(|file| format!("no {}", file.display()))
            }
            Self::Groups => {
                let names = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
                let is_there = |name: &&str| {
                    names.split_whitespace().any(|there| there == *name)
                        || Path::new("/sys/fs/cgroup").join(name).join("cgroup.procs").exists()
                };
                let mut lacking = ["memory", "cpu", "pids"].into_iter().filter(|name| !is_there(name));
                lacking.next().map(|name| format!("no {name} controller"))
            }
            Self::GroupsV2 => {
                (!crate::Groups::unified_only()).then(|| "the unified tree is not all there is".into())
            }
            Self::Freezer => {
                let found = ["freezer/cgroup.procs", "cgroup.controllers"]
                    .iter()
                    .any(|file| Path::new("/sys/fs/cgroup").join(file).exists());
                (!found).then(|| "no cgroup freezer".into())
            }
            Self::Vm => {
                let inside = std::env::var_os("COFFERDAM_VM").is_some();
                (!inside).then(|| "for the virtual machine: make test-vm".into())
            }
        }
    }
}

fn beside(age: Age) -> Option<String> {
    let path = age.bin().join("containerd");
    (!path.exists()).then(|| format!("no {} (script/containerd-peers)", path.display()))
}

fn in_path(name: &str) -> Option<String> {
    crate::Runtime::find(name).is_none().then(|| format!("no {name} in PATH (package {name})"))
}

fn missing(path: &str, package: &str) -> Option<String> {
    (!Path::new(path).exists()).then(|| format!("no {path} (package {package})"))
}

/// Tells a figure that a test has counted, also when it passes: the test runner keeps back only what macros print.
pub fn figure(told: &str) {
    // Nobody may be listening, and that is no failure of the test.
    let _unheard = std::io::stderr().write_all(format!("figure: {told}\n").as_bytes());
}

/// Puts a skip of the running test on the record: on standard error, and as a line of the file that
/// `COFFERDAM_SKIPS` names. Fails the test instead where `COFFERDAM_NO_SKIPS` is 1.
pub fn skipped(reason: &str) {
    let thread = std::thread::current();
    let line = format!("{}: {reason}", thread.name().unwrap_or("unnamed test"));
    assert!(
        std::env::var_os("COFFERDAM_NO_SKIPS").is_none_or(|value| value != "1"),
        "may not be skipped: {line}"
    );
    eprintln!("skipped: {line}");
    if let Some(record) = std::env::var_os("COFFERDAM_SKIPS") {
        // One write in append mode: lines of tests that run side by side do not mix.
        let mut record =
            OpenOptions::new().create(true).append(true).open(&record).expect("open the record of skips");
        record.write_all(format!("{line}\n").as_bytes()).expect("write the record of skips");
    }
}
