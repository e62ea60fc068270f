//! Where a group's server listens.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// Where sockets lie unless containerd says otherwise.
pub(crate) const DIRECTORY: &str = "/run/containerd/s";

/// The path of a group's socket: a digest of containerd's address, the namespace and the group, as containerd's own tools
/// compute it.
pub(crate) fn path(directory: &str, address: &str, namespace: &str, group: &str) -> String {
    let digest = Sha256::digest(joined(&[address, namespace, group]).as_bytes());
    let mut path = format!("{}/", directory.trim_end_matches('/'));
    for byte in digest {
        // Writing to a string cannot fail.
        let _always = write!(path, "{byte:02x}");
    }
    path
}

/// Go's filepath.Join: empty elements are left out, and what is left is cleaned.
fn joined(elements: &[&str]) -> String {
    let whole = elements.iter().filter(|element| !element.is_empty()).copied().collect::<Vec<_>>().join("/");
    let is_absolute = whole.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => _ = parts.pop(),
            ".." if is_absolute => {}
            part => parts.push(part),
        }
    }
    format!("{}{}", if is_absolute { "/" } else { "" }, parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf /run/containerd/containerd.sock/default/web | sha256sum`.
    #[test]
    fn the_socket_is_where_containerd_looks() {
        let path = path(DIRECTORY, "/run/containerd/containerd.sock", "default", "web");
        let wanted = "/run/containerd/s/2cde4450fa38c74f53603e01d2afd903b315a27a596f12a151414cd59897d883";
        assert_eq!(path, wanted);
    }

    #[test]
    fn elements_are_joined_as_go_does() {
        for (elements, wanted) in [
            (["/a/", "b", "c"], "/a/b/c"),
            (["/a", "", "../c"], "/c"),
            (["", "b", "c/"], "b/c"),
            (["/..", "a//b", "./c"], "/a/b/c"),
        ] {
            assert_eq!(joined(&elements), wanted);
        }
    }
}
