//! What this build can do on this kernel, as other programs ask for it.

use spec::Features;

/// The features document.
pub fn features() -> Features {
    let mut features = Features::own();
    if let Some(seccomp) = features.linux.as_mut().and_then(|linux| linux.seccomp.as_mut()) {
        let known = seccomp.known_flags.iter().flatten().cloned();
        seccomp.supported_flags = Some(known.filter(|name| is_supported(name)).collect());
    }
    features
}

/// Whether this kernel knows a flag of seccomp(2) that we hand on.
fn is_supported(name: &str) -> bool {
    let flags = match name {
        "SECCOMP_FILTER_FLAG_TSYNC" => 1,
        "SECCOMP_FILTER_FLAG_LOG" => 1 << 1,
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => 1 << 2,
        // It goes with a listener (NEW_LISTENER), or not at all.
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => 1 << 5 | 1 << 3,
        _ => return false,
    };
    sys::has_filter_flags(flags)
}
