//! An ordinary user's throw-away container: its bundle is made by root of a user namespace, who is him.

use rustix::process::{getegid, geteuid};
use spec::{IdMapping, Namespace, NamespaceKind, Spec};
use sys::{Doing, Failed};

/// Becomes root of a new user namespace, in which nobody else is: then the rest is as for root, who may mount a tmpfs.
pub(super) fn leave_users() -> Result<(), Failed> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    sys::unshare_users()
        .doing(|| "make a user namespace (cofferdam check tells what keeps an ordinary user from it)")?;
    write("setgroups", "deny")?;
    write("uid_map", &format!("0 {uid} 1"))?;
    write("gid_map", &format!("0 {gid} 1"))
}

fn write(file: &str, text: &str) -> Result<(), Failed> {
    let path = format!("/proc/self/{file}");
    std::fs::write(&path, text)
        .map_err(|error| Failed::refused(format!("write({path:?}, {text:?}): {error}")))
}

/// Gives the container a user namespace of its own below that, where there is nobody but root either.
pub(super) fn adapt(spec: &mut Spec) {
    let linux = spec.linux.get_or_insert_default();
    linux.namespaces.push(Namespace { kind: NamespaceKind::User, path: None });
    let map = vec![IdMapping { container_id: 0, host_id: 0, size: 1 }];
    linux.uid_mappings.clone_from(&map);
    linux.gid_mappings = map;
    for mount in &mut spec.mounts {
        mount.options.retain(|option| !option.starts_with("uid=") && !option.starts_with("gid="));
    }
}
