//! Kernel parameters: from names with dots to paths below /proc/sys.

/// `net.ipv4.ip_forward`, or `net/ipv4/conf/eth0.100/forwarding` where a name itself holds a dot, as sysctl(8) has it:
/// the first separator decides which one it is.
pub(crate) fn path(key: &str) -> String {
    match key.find(['.', '/']) {
        Some(at) if key.as_bytes()[at] == b'.' => key
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect(),
        _ => key.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::path;

    #[test]
    fn the_first_separator_decides() {
        for (key, expected) in [
            ("kernel.msgmax", "kernel/msgmax"),
            ("net/ipv4/conf/eth0.100/forwarding", "net/ipv4/conf/eth0.100/forwarding"),
            ("net.ipv4.conf.eth0/100.forwarding", "net/ipv4/conf/eth0.100/forwarding"),
        ] {
            assert_eq!(path(key), expected);
        }
    }
}
