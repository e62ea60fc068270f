//! One line.

use std::fmt;

use semver::Version;
use serde::{Deserialize, Deserializer, Serialize};

use crate::notification::Notification;
use crate::request::Request;
use crate::response::Response;

/// One message: an object with one key. What else a client puts beside it is let be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", try_from = "Envelope")]
pub enum Message {
    /// The first that a client says.
    Connect(Connect),
    /// The client is welcome. It insists on `null`.
    ConnectAck(()),
    /// The client is not, and the line ends.
    ConnectNack(Nack),
    /// The client asks.
    Request(Request),
    /// The daemon answers.
    Response(Response),
    /// The daemon tells.
    Notification(Notification),
}

/// The first that a client says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connect {
    /// The protocol that it speaks.
    pub version: Version,
    /// Whether it wants to hear of what happens.
    pub subscribe_notifications: bool,
}

/// Why a client is not welcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Nack {
    /// It is too old.
    InvalidProtocolVersion {
        /// What is spoken here.
        version: Version,
    },
    /// It wants to hear what it may not.
    PermissionDenied,
}

/// A line that is no message, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed(String);

impl Message {
    /// Reads one line, with or without its end.
    pub fn read(line: &[u8]) -> Result<Self, Malformed> {
        serde_json::from_slice(line).map_err(|error| Malformed::told(&error))
    }

    /// The message as a line, with its end.
    pub fn line(&self) -> Result<Vec<u8>, Malformed> {
        let mut line = serde_json::to_vec(self).map_err(|error| Malformed::told(&error))?;
        line.push(b'\n');
        Ok(line)
    }
}

impl Malformed {
    /// What is wrong often quotes what was said, which may be long, and may command a terminal.
    fn told(error: &serde_json::Error) -> Self {
        let told = error.to_string();
        let short: String = told.chars().take(MOST).flat_map(char::escape_debug).collect();
        Self(if told.chars().nth(MOST).is_some() { short + "..." } else { short })
    }
}

/// Letters of an error.
const MOST: usize = 200;

/// The same with every key there may be.
#[derive(Deserialize)]
struct Envelope {
    connect: Option<Connect>,
    #[serde(default, deserialize_with = "null")]
    connect_ack: Option<()>,
    connect_nack: Option<Nack>,
    request: Option<Request>,
    response: Option<Response>,
    notification: Option<Notification>,
}

/// A `null` that is there; one that is not is none.
fn null<'de, D: Deserializer<'de>>(from: D) -> Result<Option<()>, D::Error> {
    <()>::deserialize(from).map(Some)
}

impl TryFrom<Envelope> for Message {
    type Error = Malformed;

    fn try_from(envelope: Envelope) -> Result<Self, Malformed> {
        let Envelope { connect, connect_ack, connect_nack, request, response, notification } = envelope;
        None.or(connect.map(Self::Connect))
            .or(connect_ack.map(Self::ConnectAck))
            .or(connect_nack.map(Self::ConnectNack))
            .or(request.map(Self::Request))
            .or(response.map(Self::Response))
            .or(notification.map(Self::Notification))
            .ok_or_else(|| Malformed("an object without a message".to_owned()))
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&self.0)
    }
}

impl std::error::Error for Malformed {}
