//! Names of kernel parameters, and the namespace that each belongs to.

use crate::NamespaceKind;

/// The path below /proc/sys of a parameter, from either way of writing it: `net.ipv4.conf.eth0/1.rp_filter` and
/// `net/ipv4/conf/eth0.1/rp_filter` are the same one, since the first separator decides which is which. None if a
/// part is empty or would climb.
pub fn sysctl_path(name: &str) -> Option<String> {
    let dotted = name.find(['.', '/']).is_some_and(|at| name.as_bytes().get(at) == Some(&b'.'));
    let path: String = if dotted { name.chars().map(swapped).collect() } else { name.to_owned() };
    let climbs = path.split('/').any(|part| matches!(part, "" | "." | "..") || part.contains('\0'));
    (!climbs).then_some(path)
}

fn swapped(letter: char) -> char {
    match letter {
        '.' => '/',
        '/' => '.',
        _ => letter,
    }
}

/// The kind of namespace that a parameter (a path below /proc/sys) belongs to; none for those of the whole host.
pub(crate) fn home(path: &str) -> Option<NamespaceKind> {
    match path {
        "kernel/msgmax"
        | "kernel/msgmnb"
        | "kernel/msgmni"
        | "kernel/sem"
        | "kernel/shmall"
        | "kernel/shmmax"
        | "kernel/shmmni"
        | "kernel/shm_rmid_forced" => Some(NamespaceKind::Ipc),
        "kernel/domainname" => Some(NamespaceKind::Uts),
        _ if path.starts_with("fs/mqueue/") => Some(NamespaceKind::Ipc),
        _ if path.starts_with("net/") => Some(NamespaceKind::Network),
        _ if path.starts_with("user/") => Some(NamespaceKind::User),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_writing_lead_to_one_path() {
        let vlan = Some("net/ipv4/conf/eth0.1/rp_filter".to_owned());
        assert_eq!(sysctl_path("net.ipv4.conf.eth0/1.rp_filter"), vlan);
        assert_eq!(sysctl_path("net/ipv4/conf/eth0.1/rp_filter"), vlan);
        assert_eq!(sysctl_path("kernel.sem").as_deref(), Some("kernel/sem"));
    }

    #[test]
    fn no_name_climbs() {
        for name in [
            "",
            ".",
            "net.",
            "net..x",
            "net/../kernel/core_pattern",
            "net/./x",
            "/etc/passwd",
            "net.//.kernel",
        ] {
            assert_eq!(sysctl_path(name), None, "{name}");
        }
    }
}
