//! The notify socket: what the container sees of the directory that it lies in.

use spec::{Mount, Spec};

/// Where the program finds it.
pub(crate) const SOCKET: &str = "/run/notify/notify.sock";

/// The document with the directory mounted, after all that it mounts itself.
pub(crate) fn mount(spec: &Spec, directory: &str) -> Spec {
    let mut spec = spec.clone();
    spec.mounts.push(Mount {
        destination: "/run/notify".to_owned(),
        source: Some(directory.to_owned()),
        options: ["bind", "nosuid", "noexec", "nodev", "ro"].map(str::to_owned).to_vec(),
        ..Mount::default()
    });
    spec
}
