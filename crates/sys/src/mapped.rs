//! Whose numbers of users ours are.

use rustix::fs::stat;

use crate::{Called, Errno, Failed, read_path};

/// Whether we are in a user namespace that somebody made, and in which the numbers of users mean others: its root is not the
/// host's (user_namespaces(7)).
pub fn is_mapped() -> Result<bool, Failed> {
    const NAMESPACE: &str = "/proc/self/ns/user";
    match stat(NAMESPACE) {
        Ok(first) if first.st_ino == USER_NS_INIT_INO => Ok(false),
        // A kernel without user namespaces.
        Err(Errno::NOENT) => Ok(false),
        other => {
            other.called(|| format!("stat({NAMESPACE:?})"))?;
            Ok(!is_first_map(&read_path("/proc/self/uid_map", 8192, usize::MAX)?))
        }
    }
}

/// <linux/nsfs.h>: the number of the user namespace that the kernel starts with.
const USER_NS_INIT_INO: u64 = 0xefff_fffd;

/// Whether a `uid_map` is the one that the kernel starts with: every user is itself.
pub fn is_first_map(map: &[u8]) -> bool {
    map.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).eq([&b"0"[..], b"0", b"4294967295"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_map_is_recognised() {
        assert!(is_first_map(b"         0          0 4294967295\n"));
        assert!(!is_first_map(b"         0       1000          1\n"));
        assert!(!is_first_map(b"         0          0 4294967295\n 1 1 1\n"));
        assert!(!is_first_map(b""));
    }
}
