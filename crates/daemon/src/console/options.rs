//! What is allowed on one line.

use std::time::Duration;

use serde::Deserialize;

use crate::config::values;

/// The limits of a console's connections. Each connection has them for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// How long a token is good; 60 s.
    #[serde(deserialize_with = "values::time")]
    pub token_validity: Duration,
    /// Messages within any second, at least 1; 1000.
    #[serde(deserialize_with = "values::rate")]
    pub max_requests_per_sec: usize,
    /// Bytes of a line, without its end; 1 MiB.
    #[serde(deserialize_with = "values::line")]
    pub max_request_size: usize,
    /// Bytes of a package; 256 MiB.
    #[serde(deserialize_with = "values::size")]
    pub max_npk_install_size: u64,
    /// How long a client may take between two pieces of a package; 10 s.
    #[serde(deserialize_with = "values::time")]
    pub npk_stream_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            token_validity: Duration::from_mins(1),
            max_requests_per_sec: 1000,
            max_request_size: 1 << 20,
            max_npk_install_size: 256 << 20,
            npk_stream_timeout: Duration::from_secs(10),
        }
    }
}
