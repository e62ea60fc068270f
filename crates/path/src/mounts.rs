//! The table of mounts, /proc/PID/mountinfo, as the kernel writes it (proc_pid_mountinfo(5)).

/// Where something is mounted, in the order of the table.
pub fn mount_points(table: &str) -> impl Iterator<Item = Vec<u8>> {
    table.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape)
}

/// A field of the table: a backslash and three octal digits stand in it for what would end it.
pub fn unescape(field: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match tail {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] if *first == b'\\' => {
                Some((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'))
            }
            _ => None,
        };
        bytes.push(escaped.unwrap_or(*first));
        rest = tail.get(if escaped.is_some() { 3 } else { 0 }..).unwrap_or_default();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_unescaped() {
        for (written, meant) in
            [("/a", "/a"), (r"/a\040b", "/a b"), (r"\134\011", "\\\t"), (r"/\4", r"/\4"), ("/é", "/é")]
        {
            assert_eq!(unescape(written), meant.as_bytes(), "{written}");
        }
    }

    #[test]
    fn mount_points_are_read_as_the_kernel_writes_them() {
        let text = "22 1 0:20 / /run rw shared:3 - tmpfs tmpfs rw\n\
                    23 22 7:0 / /run/a\\040b\\134c/x:1.0.0 ro,nosuid - squashfs /dev/loop0 ro\n";
        let points: Vec<Vec<u8>> = mount_points(text).collect();
        assert_eq!(points, [b"/run".to_vec(), b"/run/a b\\c/x:1.0.0".to_vec()]);
    }
}
