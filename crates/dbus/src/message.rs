//! Messages: a header and a body.

use crate::Malformed;
use crate::read::Reader;
use crate::value::Value;
use crate::write::{pad, put};

/// No message that we send or take is longer, in bytes. The specification allows 128 MiB; what a service manager says to
/// somebody who started a unit is some hundred bytes long.
pub const LARGEST: usize = 1 << 20;

/// What a message is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A call of a method.
    #[default]
    Call,
    /// Its answer.
    Return,
    /// Why there is none.
    Error,
    /// Something that happened.
    Signal,
    /// Of a kind that is to come, and to be passed over.
    Other(u8),
}

/// One message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// Its number among its sender's; set by whoever sends it.
    pub serial: u32,
    /// What it answers.
    pub answers: Option<u32>,
    /// The object.
    pub path: String,
    /// The interface of the object.
    pub interface: String,
    /// The method or signal.
    pub member: String,
    /// Of an error, its name.
    pub error: String,
    /// To whom; empty on a line with nobody between.
    pub destination: String,
    /// From whom.
    pub sender: String,
    /// The types of the body.
    pub signature: String,
    body: Vec<u8>,
    is_big: bool,
}

const LITTLE: u8 = b'l';
const BIG: u8 = b'B';
const VERSION: u8 = 1;

/// The fixed part of a header, with the length of the array that follows.
const FIXED: usize = 16;

impl Message {
    /// A call.
    pub fn call(destination: &str, path: &str, interface: &str, member: &str, arguments: &[Value]) -> Self {
        let mut body = Vec::new();
        for argument in arguments {
            put(&mut body, argument);
        }
        Self {
            destination: destination.into(),
            path: path.into(),
            interface: interface.into(),
            member: member.into(),
            signature: arguments.iter().map(Value::signature).collect(),
            body,
            ..Self::default()
        }
    }

    /// As bytes.
    pub fn encode(&self) -> Result<Vec<u8>, Malformed> {
        let kind = match self.kind {
            Kind::Call => 1,
            Kind::Return => 2,
            Kind::Error => 3,
            Kind::Signal => 4,
            Kind::Other(kind) => kind,
        };
        let length = u32::try_from(self.body.len()).map_err(|_| LARGE)?;
        let mut bytes = vec![LITTLE, kind, 0, VERSION];
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&self.serial.to_le_bytes());
        let field =
            |code: u8, value: Value| Value::Struct(vec![Value::Byte(code), Value::Variant(Box::new(value))]);
        let mut fields = Vec::new();
        let texts = [
            (1, &self.path, Value::Path as fn(String) -> Value),
            (2, &self.interface, Value::Text),
            (3, &self.member, Value::Text),
            (4, &self.error, Value::Text),
            (6, &self.destination, Value::Text),
            (7, &self.sender, Value::Text),
            (8, &self.signature, Value::Signature),
        ];
        for (code, text, of) in texts {
            if !text.is_empty() {
                fields.push(field(code, of(text.clone())));
            }
        }
        fields.extend(self.answers.map(|serial| field(5, Value::Uint32(serial))));
        put(&mut bytes, &Value::Array("(yv)".into(), fields));
        pad(&mut bytes, 8);
        bytes.extend_from_slice(&self.body);
        if bytes.len() > LARGEST || self.signature.len() > 255 { Err(LARGE) } else { Ok(bytes) }
    }

    /// How long the message is that begins here; none while there are too few bytes to tell.
    pub fn length(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        let Some(fixed) = bytes.get(..FIXED) else { return Ok(None) };
        let is_big = order(fixed)?;
        let mut reader = Reader::new(fixed, is_big);
        let (_, body) = (reader.number()?, reader.number()?);
        let (_, fields) = (reader.number()?, reader.number()?);
        let (fields, body) = (fields as usize, body as usize);
        if fields > LARGEST || body > LARGEST {
            return Err(LARGE);
        }
        let length = (FIXED + fields).next_multiple_of(8) + body;
        if length > LARGEST { Err(LARGE) } else { Ok(Some(length)) }
    }

    /// The message that these bytes are, all of them.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        if Self::length(bytes)? != Some(bytes.len()) {
            return Err(Malformed("a message is of another length than it says"));
        }
        let is_big = order(bytes)?;
        let kind = match bytes.get(1) {
            Some(1) => Kind::Call,
            Some(2) => Kind::Return,
            Some(3) => Kind::Error,
            Some(4) => Kind::Signal,
            Some(0) | None => return Err(Malformed("a message of no kind")),
            Some(other) => Kind::Other(*other),
        };
        let mut reader = Reader::new(bytes, is_big);
        let (_, _, serial) = (reader.number()?, reader.number()?, reader.number()?);
        let mut message = Self { kind, serial, is_big, ..Self::default() };
        if let Value::Array(_, fields) = reader.value("a(yv)", 0)? {
            fields.into_iter().try_for_each(|field| message.take(field))?;
        }
        reader.align(8)?;
        message.body = bytes.get(reader.at()..).unwrap_or_default().to_vec();
        Ok(message)
    }

    fn take(&mut self, field: Value) -> Result<(), Malformed> {
        let Value::Struct(field) = field else { return Err(ODD) };
        let [Value::Byte(code), Value::Variant(value)] = field.as_slice() else { return Err(ODD) };
        match (code, &**value) {
            (1, Value::Path(text)) => self.path.clone_from(text),
            (2, Value::Text(text)) => self.interface.clone_from(text),
            (3, Value::Text(text)) => self.member.clone_from(text),
            (4, Value::Text(text)) => self.error.clone_from(text),
            (5, Value::Uint32(serial)) => self.answers = Some(*serial),
            (6, Value::Text(text)) => self.destination.clone_from(text),
            (7, Value::Text(text)) => self.sender.clone_from(text),
            (8, Value::Signature(text)) => self.signature.clone_from(text),
            (1..=8, _) => return Err(ODD),
            // To be passed over, says the specification.
            _ => {}
        }
        Ok(())
    }

    /// The values of the body.
    pub fn values(&self) -> Result<Vec<Value>, Malformed> {
        Reader::new(&self.body, self.is_big).values(&self.signature)
    }
}

/// Whether numbers have their highest byte first.
fn order(bytes: &[u8]) -> Result<bool, Malformed> {
    match (bytes.first(), bytes.get(3)) {
        (Some(&LITTLE), Some(&VERSION)) => Ok(false),
        (Some(&BIG), Some(&VERSION)) => Ok(true),
        _ => Err(Malformed("this is no message of D-Bus, version 1")),
    }
}

const ODD: Malformed = Malformed("a field of a header has another type than it should");
const LARGE: Malformed = Malformed("a message is too large");
