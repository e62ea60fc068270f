//! Addresses: `unix:path=/run/dbus/system_bus_socket;unix:abstract=...`.

/// Where somebody listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// At a socket of this name in the file system.
    Path(String),
    /// At one that has its name in the network namespace.
    Abstract(Vec<u8>),
}

/// Those of a list that can be connected to, in their order: sockets of this host. What is no address is none of them.
pub fn addresses(list: &str) -> Vec<Address> {
    list.split(';').filter_map(address).collect()
}

fn address(text: &str) -> Option<Address> {
    let pairs = text.strip_prefix("unix:")?;
    pairs.split(',').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        let value = unescaped(value).filter(|value| !value.is_empty())?;
        match key {
            "path" if value.starts_with(b"/") => String::from_utf8(value).ok().map(Address::Path),
            "abstract" => Some(Address::Abstract(value)),
            _ => None,
        }
    })
}

/// `%2f` is a slash.
fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'%' => {
                let (high, low) = (char::from(bytes.next()?), char::from(bytes.next()?));
                u8::try_from(high.to_digit(16)? * 16 + low.to_digit(16)?).ok()?
            }
            0 => return None,
            byte => byte,
        });
    }
    Some(plain)
}
