//! What a service manager hands us for the container: sockets that it listens at already, and where to say "ready".
//!
//! Read once, from our own environment, whose words are sd_listen_fds(3)'s and sd_notify(3)'s.

use std::ffi::OsString;

/// How many descriptors from 3 on are the container's (`LISTEN_FDS`): none unless `LISTEN_PID` says that we are meant,
/// since whoever started us may have been meant itself.
pub fn listen_fds() -> u32 {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    match number("LISTEN_PID") {
        None => 0,
        pid => counted(pid, number("LISTEN_FDS"), std::process::id()),
    }
}

fn counted(pid: Option<u32>, count: Option<u32>, ours: u32) -> u32 {
    count.filter(|_| pid == Some(ours)).unwrap_or(0)
}

/// Where the service manager hears that a service is ready (`NOTIFY_SOCKET`).
pub fn notify_socket() -> Option<OsString> {
    std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty())
}

#[cfg(test)]
mod tests {
    use super::counted;

    #[test]
    fn descriptors_are_for_whom_they_are_meant() {
        assert_eq!(counted(Some(7), Some(2), 7), 2);
        for (pid, count) in [(None, Some(2)), (Some(8), Some(2)), (Some(7), None)] {
            assert_eq!(counted(pid, count, 7), 0, "{pid:?} {count:?}");
        }
    }
}
