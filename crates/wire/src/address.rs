//! Where a console is found.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;

/// `tcp://HOST[:PORT]` or `unix:///PATH`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Address {
    /// A port of TCP.
    Tcp {
        /// A name or a number; one of IPv6 without its brackets.
        host: String,
        /// 4200, if nothing else is said.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

/// A text that is no address, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoAddress(String);

const PORT: u16 = 4200;

/// The longest path that the kernel takes: `sun_path` has 108 bytes, of which one ends it.
const LONGEST: usize = 107;

impl FromStr for Address {
    type Err = NoAddress;

    fn from_str(text: &str) -> Result<Self, NoAddress> {
        let wrong = |what: &str| NoAddress(format!("{text:?}: {what}"));
        match text.split_once("://") {
            Some(("unix", path)) if !path.starts_with('/') => {
                Err(wrong("an absolute path is due, as in unix:///run/cofferdamd/console"))
            }
            Some(("unix", path)) if path.contains('\0') => Err(wrong("holds a NUL")),
            Some(("unix", path)) if path.len() > LONGEST => {
                Err(wrong("a socket's path has no more than 107 bytes"))
            }
            Some(("unix", path)) => Ok(Self::Unix(path.into())),
            Some(("tcp", rest)) => {
                tcp(rest.strip_suffix('/').unwrap_or(rest)).ok_or_else(|| wrong("HOST or HOST:PORT is due"))
            }
            _ => Err(wrong("tcp://HOST:PORT or unix:///PATH is due")),
        }
    }
}

fn tcp(text: &str) -> Option<Address> {
    let (host, port) = match text.strip_prefix('[') {
        Some(text) => {
            let (host, rest) = text.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let is_host =
        !host.is_empty() && !host.contains(|letter: char| letter.is_control() || " /@?#".contains(letter));
    let port = port.map_or(Some(PORT), |port| port.parse().ok())?;
    is_host.then(|| Address::Tcp { host: host.to_owned(), port })
}

impl TryFrom<String> for Address {
    type Error = NoAddress;

    fn try_from(text: String) -> Result<Self, NoAddress> {
        text.parse()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(to, "tcp://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(to, "tcp://{host}:{port}"),
            Self::Unix(path) => write!(to, "unix://{}", path.display()),
        }
    }
}

impl fmt::Display for NoAddress {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&self.0)
    }
}

impl std::error::Error for NoAddress {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_of_two_kinds() {
        let tcp = |host: &str, port| Some(Address::Tcp { host: host.into(), port });
        for (text, address) in [
            ("tcp://localhost", tcp("localhost", 4200)),
            ("tcp://localhost/", tcp("localhost", 4200)),
            ("tcp://10.0.0.1:99", tcp("10.0.0.1", 99)),
            ("tcp://[::1]:99", tcp("::1", 99)),
            ("tcp://[::1]", tcp("::1", 4200)),
            ("unix:///run/a", Some(Address::Unix("/run/a".into()))),
            ("unix://run/a", None),
            ("tcp://", None),
            ("tcp://:99", None),
            ("tcp://a:99999", None),
            ("tcp://::1", None),
            ("tcp://[x]:1", None),
            ("tcp://[::1]1", None),
            ("http://a", None),
            ("/run/a", None),
        ] {
            assert_eq!(text.parse().ok(), address, "{text}");
        }
        assert!(format!("unix:///{}", "a".repeat(107)).parse::<Address>().is_err());
    }

    #[test]
    fn an_address_is_told_as_it_is_read() {
        for text in ["tcp://a:4200", "tcp://[::1]:1", "unix:///run/a"] {
            assert_eq!(text.parse::<Address>().map(|address| address.to_string()).as_deref(), Ok(text));
        }
    }
}
