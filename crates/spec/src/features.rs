//! What this engine can do, for engines that ask before they use it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::check::{ACTIONS, ARCHITECTURES, FILTER_FLAGS, OPERATORS};
use crate::check::{MEMORY_FLAGS, MEMORY_MODES};
use crate::pretty::pretty;
use crate::{CAPABILITIES, MountOption, VERSION, options};

/// The features document. An absent list means "not known", an empty one "none".
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Features {
    /// The oldest version of the specification that is understood.
    pub oci_version_min: String,
    /// The newest.
    pub oci_version_max: String,
    /// Kinds of hook that are run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Vec<String>>,
    /// Mount options that are understood, sorted; those of file systems are not among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount_options: Option<Vec<String>>,
    /// What only Linux has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linux: Option<LinuxFeatures>,
    /// Words for programs that know us.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Annotations in config.json that change what happens; one that ends in a dot stands for all that begin so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub potentially_unsafe_config_annotations: Vec<String>,
}

/// What only Linux has.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinuxFeatures {
    /// Kinds of namespace, sorted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Vec<String>>,
    /// Capabilities that are known by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Vec<String>>,
    /// Control groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<CgroupFeatures>,
    /// System call filters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<SeccompFeatures>,
    /// AppArmor profiles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apparmor: Option<Enabled>,
    /// SELinux labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selinux: Option<Enabled>,
    /// Intel RDT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intel_rdt: Option<RdtFeatures>,
    /// NUMA policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_policy: Option<MemoryFeatures>,
    /// What mounts can do beyond options.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount_extensions: Option<MountExtensions>,
    /// Network devices moved in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub net_devices: Option<Enabled>,
}

/// Whether something is there.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Enabled {
    /// Compiled in; the host may lack it all the same.
    pub enabled: bool,
}

/// Control groups.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CgroupFeatures {
    /// One hierarchy for each controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v1: Option<bool>,
    /// The unified hierarchy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v2: Option<bool>,
    /// Through systemd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub systemd: Option<bool>,
    /// Through a user's systemd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub systemd_user: Option<bool>,
    /// The RDMA controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rdma: Option<bool>,
}

/// System call filters.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SeccompFeatures {
    /// Whether filters are loaded.
    pub enabled: bool,
    /// `SCMP_ACT_*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actions: Option<Vec<String>>,
    /// `SCMP_CMP_*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operators: Option<Vec<String>>,
    /// `SCMP_ARCH_*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archs: Option<Vec<String>>,
    /// `SECCOMP_FILTER_FLAG_*` that are understood...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_flags: Option<Vec<String>>,
    /// ...and those that this kernel takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supported_flags: Option<Vec<String>>,
}

/// Intel RDT.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RdtFeatures {
    /// Classes of service.
    pub enabled: bool,
    /// `schemata`, the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schemata: Option<bool>,
    /// Monitoring groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitoring: Option<bool>,
}

/// NUMA policy.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct MemoryFeatures {
    /// `MPOL_*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modes: Option<Vec<String>>,
    /// `MPOL_F_*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<Vec<String>>,
}

/// What mounts can do beyond options.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct MountExtensions {
    /// Mapped ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idmap: Option<Enabled>,
}

/// In the order in which they are run.
const HOOKS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

impl Features {
    /// What is compiled in. A field that is refused by name is not announced here, so this changes together with
    /// docs/fields.md.
    pub fn own() -> Self {
        Self {
            oci_version_min: "1.0.0".into(),
            oci_version_max: VERSION.into(),
            hooks: Some(HOOKS.map(Into::into).into()),
            mount_options: Some(
                options()
                    .iter()
                    .filter(|(_, meaning)| honoured(*meaning))
                    .map(|(name, _)| (*name).into())
                    .collect(),
            ),
            linux: Some(LinuxFeatures {
                namespaces: Some(words(NAMESPACES)),
                capabilities: Some(words(CAPABILITIES)),
                cgroup: Some(CgroupFeatures {
                    v1: Some(true),
                    v2: Some(true),
                    systemd: Some(true),
                    systemd_user: Some(true),
                    rdma: Some(false),
                }),
                seccomp: Some(SeccompFeatures {
                    enabled: true,
                    actions: Some(words(ACTIONS)),
                    operators: Some(words(OPERATORS)),
                    archs: Some(words(ARCHITECTURES)),
                    known_flags: Some(words(FILTER_FLAGS)),
                    // For whoever can ask the kernel.
                    supported_flags: None,
                }),
                apparmor: Some(Enabled { enabled: true }),
                selinux: Some(Enabled { enabled: true }),
                intel_rdt: Some(RdtFeatures::default()),
                memory_policy: Some(MemoryFeatures {
                    modes: Some(words(MEMORY_MODES)),
                    flags: Some(words(MEMORY_FLAGS)),
                }),
                mount_extensions: Some(MountExtensions { idmap: Some(Enabled { enabled: true }) }),
                net_devices: Some(Enabled { enabled: true }),
            }),
            annotations: BTreeMap::new(),
            potentially_unsafe_config_annotations: vec!["org.systemd.property.".into()],
        }
    }

    /// As runc prints it: four spaces for each level, no newline at the end.
    pub fn to_pretty(&self) -> String {
        pretty(self, b"    ")
    }
}

/// Whether mounts are made with such an option; the others are refused by name.
fn honoured(meaning: MountOption) -> bool {
    match meaning {
        MountOption::Nothing
        | MountOption::Flag(_)
        | MountOption::Propagation { .. }
        | MountOption::Bind { .. }
        | MountOption::Idmap { .. }
        | MountOption::Remount
        | MountOption::Recursive { .. }
        | MountOption::CopyUp
        | MountOption::Link(_) => true,
    }
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).into()).collect()
}

/// Kinds of namespace that containers get.
const NAMESPACES: &[&str] = &["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"];

#[cfg(test)]
#[allow(clippy::expect_used, reason = "a test states what it expects")]
mod tests {
    use super::*;

    /// What Debian's runc 1.1.5 printed passes through our types unchanged, order of keys and indent included.
    #[test]
    fn the_document_has_runcs_keys_in_runcs_order() {
        let written = include_str!("../tests/fixtures/runc-1.1.5-features.json").trim_end();
        let features: Features = serde_json::from_str(written).expect("runc writes what we read");
        assert_eq!(features.to_pretty(), written);
    }

    #[test]
    fn what_is_refused_is_not_announced() {
        let own = Features::own();
        let announced = own.mount_options.expect("they are known");
        assert!(announced.is_sorted());
        for name in
            ["ro", "rbind", "rslave", "nosymfollow", "rro", "tmpcopyup", "copy-symlink", "idmap", "ridmap"]
        {
            assert!(announced.iter().any(|known| known == name), "{name}");
        }
    }

    #[test]
    fn lists_are_written_a_line_for_each() {
        let written = Features::own().to_pretty();
        assert!(written.starts_with(
            "{\n    \"ociVersionMin\": \"1.0.0\",\n    \"ociVersionMax\": \"1.3.0\",\n    \"hooks\": [\n        \"prestart\",\n"
        ));
        assert!(written.contains("\"seccomp\": {\n            \"enabled\": true,\n            \"actions\": [\n                \"SCMP_ACT_ALLOW\",\n"));
    }
}
