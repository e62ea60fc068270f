//! What a peer may ask.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// One thing that may be asked, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// What one is called.
    Ident,
    /// What there is to know of a container.
    Inspect,
    /// To bring a package.
    Install,
    /// To send a signal.
    Kill,
    /// Which containers there are.
    List,
    /// To mount.
    Mount,
    /// To hear of what happens.
    Notifications,
    /// Which repositories there are.
    Repositories,
    /// To end the daemon.
    Shutdown,
    /// To start as the manifest has it.
    Start,
    /// To start another program, or with other arguments or another environment.
    StartCommand,
    /// To have a token made.
    TokenCreate,
    /// To have a token looked at.
    TokenVerification,
    /// To unmount.
    Umount,
    /// To take a package away.
    Uninstall,
}

impl Permission {
    /// All that there are.
    pub const ALL: [Self; 15] = [
        Self::Ident,
        Self::Inspect,
        Self::Install,
        Self::Kill,
        Self::List,
        Self::Mount,
        Self::Notifications,
        Self::Repositories,
        Self::Shutdown,
        Self::Start,
        Self::StartCommand,
        Self::TokenCreate,
        Self::TokenVerification,
        Self::Umount,
        Self::Uninstall,
    ];
}

/// Those that a peer has: in a document the word `full`, or a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions(BTreeSet<Permission>);

impl Permissions {
    /// All.
    pub fn full() -> Self {
        Self(Permission::ALL.into_iter().collect())
    }

    /// These.
    pub fn of(permissions: impl IntoIterator<Item = Permission>) -> Self {
        Self(permissions.into_iter().collect())
    }

    /// Whether this one is among them.
    pub fn allow(&self, permission: Permission) -> bool {
        self.0.contains(&permission)
    }

    /// Those that there are, in the order of the alphabet.
    pub fn iter(&self) -> impl Iterator<Item = Permission> {
        self.0.iter().copied()
    }
}

impl Serialize for Permissions {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if self.0.len() == Permission::ALL.len() { to.serialize_str("full") } else { self.0.serialize(to) }
    }
}

impl<'de> Deserialize<'de> for Permissions {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> de::Visitor<'de> for Either {
            type Value = Permissions;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("\"full\", or a list of permissions")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<Permissions, E> {
                match word {
                    "full" => Ok(Permissions::full()),
                    _ => Err(E::invalid_value(de::Unexpected::Str(word), &self)),
                }
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Permissions, A::Error> {
                let mut all = BTreeSet::new();
                while let Some(permission) = list.next_element()? {
                    all.insert(permission);
                }
                Ok(Permissions(all))
            }
        }

        from.deserialize_any(Either)
    }
}
