//! What holds of any bytes at all. A fuzz target and a test over its corpus share it.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each of the two takes what it is for")]

use daemon::config::Config;

/// A configuration is read, or refused in one line that names the file.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err(error) = Config::parse("a.toml", text) {
        let told = error.to_string();
        assert!(told.starts_with("a.toml:") && !told.contains('\n'), "{told:?}");
    }
}
