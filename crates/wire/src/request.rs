//! What clients ask.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::bytes::Bytes;
use crate::container::{Container, Name};
use crate::permission::Permission;
use crate::token::Token;

/// One request. No text in it holds a NUL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// What am I called?
    Ident,
    /// What is there to know of this container?
    Inspect {
        /// Which.
        container: Container,
    },
    /// A package follows, right after the line.
    Install {
        /// Where it is to be kept.
        #[serde(deserialize_with = "text")]
        repository: String,
        /// How many bytes.
        size: u64,
    },
    /// Send a signal to a container's processes.
    Kill {
        /// To whose.
        container: Container,
        /// Its number.
        signal: i32,
    },
    /// Which containers are there?
    List,
    /// Mount these.
    Mount {
        /// In this order they are answered.
        containers: Vec<Container>,
    },
    /// Which repositories are there?
    Repositories,
    /// End, and everything with you.
    Shutdown,
    /// Start a container.
    Start(Start),
    /// Make a token with which I can show somebody who I am.
    TokenCreate {
        /// Whom it is shown to.
        target: Name,
        /// What both of us know.
        shared: Bytes,
    },
    /// I was shown a token: is it good?
    TokenVerify {
        /// The token.
        token: Token,
        /// Who claims to have had it made.
        user: Name,
        /// What both of us know.
        shared: Bytes,
    },
    /// Unmount these.
    Umount {
        /// In this order they are answered.
        containers: Vec<Container>,
    },
    /// Take a package away.
    Uninstall {
        /// Which.
        container: Container,
        /// And its data with it.
        wipe: bool,
    },
}

/// What is to be started, and how, if not as the manifest has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Which.
    pub container: Container,
    /// Another program than the manifest's, which `<INIT>` in it stands for.
    #[serde(default, deserialize_with = "maybe_text")]
    pub init: Option<String>,
    /// Other arguments, if there are any.
    #[serde(deserialize_with = "texts")]
    pub arguments: Vec<String>,
    /// Another environment, if it holds any.
    #[serde(deserialize_with = "text_by_text")]
    pub environment: BTreeMap<String, String>,
}

impl Request {
    /// What one must be allowed in order to ask this.
    pub fn permission(&self) -> Permission {
        match self {
            Self::Ident => Permission::Ident,
            Self::Inspect { .. } => Permission::Inspect,
            Self::Install { .. } => Permission::Install,
            Self::Kill { .. } => Permission::Kill,
            Self::List => Permission::List,
            Self::Mount { .. } => Permission::Mount,
            Self::Repositories => Permission::Repositories,
            Self::Shutdown => Permission::Shutdown,
            Self::Start(start) if start.is_plain() => Permission::Start,
            Self::Start(_) => Permission::StartCommand,
            Self::TokenCreate { .. } => Permission::TokenCreate,
            Self::TokenVerify { .. } => Permission::TokenVerification,
            Self::Umount { .. } => Permission::Umount,
            Self::Uninstall { .. } => Permission::Uninstall,
        }
    }
}

impl Start {
    /// As the manifest has it.
    pub fn plain(container: Container) -> Self {
        Self { container, init: None, arguments: Vec::new(), environment: BTreeMap::new() }
    }

    /// Whether it is as the manifest has it.
    pub fn is_plain(&self) -> bool {
        self.init.is_none() && self.arguments.is_empty() && self.environment.is_empty()
    }
}

/// A text for the kernel, to which a NUL is its end.
fn checked<E: de::Error>(text: String) -> Result<String, E> {
    if text.contains('\0') { Err(E::custom("a text holds a NUL")) } else { Ok(text) }
}

fn text<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    checked(String::deserialize(from)?)
}

fn maybe_text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Option::deserialize(from)?.map(checked).transpose()
}

fn texts<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Vec::deserialize(from)?.into_iter().map(checked).collect()
}

fn text_by_text<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    let all = BTreeMap::<String, String>::deserialize(from)?;
    all.into_iter().map(|(name, value)| Ok((checked(name)?, checked(value)?))).collect()
}
