//! Values with their types.

use std::fmt;

use serde::Serialize;

/// One value. An array knows the type of its elements, since it may have none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Value {
    /// `y`
    Byte(u8),
    /// `b`
    Bool(bool),
    /// `n`
    Int16(i16),
    /// `q`
    Uint16(u16),
    /// `i`
    Int32(i32),
    /// `u`
    Uint32(u32),
    /// `x`
    Int64(i64),
    /// `t`
    Uint64(u64),
    /// `d`, by its bits.
    Double(u64),
    /// `s`
    Text(String),
    /// `o`
    Path(String),
    /// `g`
    Signature(String),
    /// `h`, an index among the descriptors that came along.
    Handle(u32),
    /// `a`, with the type of its elements.
    Array(String, Vec<Value>),
    /// `(...)`
    Struct(Vec<Value>),
    /// `{..}`, an element of an array that is a dictionary.
    Entry(Box<Value>, Box<Value>),
    /// `v`
    Variant(Box<Value>),
}

impl Value {
    /// Bytes, `ay`.
    pub fn bytes(bytes: &[u8]) -> Self {
        Self::Array("y".into(), bytes.iter().copied().map(Self::Byte).collect())
    }

    /// Texts, `as`.
    pub fn texts(texts: &[&str]) -> Self {
        Self::Array("s".into(), texts.iter().map(|&text| Self::Text(text.into())).collect())
    }

    /// Its type, as D-Bus writes it.
    pub fn signature(&self) -> String {
        match self {
            Self::Byte(_) => "y".into(),
            Self::Bool(_) => "b".into(),
            Self::Int16(_) => "n".into(),
            Self::Uint16(_) => "q".into(),
            Self::Int32(_) => "i".into(),
            Self::Uint32(_) => "u".into(),
            Self::Int64(_) => "x".into(),
            Self::Uint64(_) => "t".into(),
            Self::Double(_) => "d".into(),
            Self::Text(_) => "s".into(),
            Self::Path(_) => "o".into(),
            Self::Signature(_) => "g".into(),
            Self::Handle(_) => "h".into(),
            Self::Array(element, _) => format!("a{element}"),
            Self::Struct(fields) => format!("({})", fields.iter().map(Self::signature).collect::<String>()),
            Self::Entry(key, value) => format!("{{{}{}}}", key.signature(), value.signature()),
            Self::Variant(_) => "v".into(),
        }
    }

    /// The text of a text or a path.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Path(text) => Some(text),
            _ => None,
        }
    }
}

/// As systemd's own tools show properties: no limit is `infinity`, bytes are a mask in hexadecimal, the highest first.
impl fmt::Display for Value {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Byte(number) => number.fmt(to),
            Self::Bool(value) => value.fmt(to),
            Self::Int16(number) => number.fmt(to),
            Self::Uint16(number) => number.fmt(to),
            Self::Int32(number) => number.fmt(to),
            Self::Uint32(number) | Self::Handle(number) => number.fmt(to),
            Self::Int64(number) => number.fmt(to),
            Self::Uint64(u64::MAX) => to.write_str("infinity"),
            Self::Uint64(number) => number.fmt(to),
            Self::Double(bits) => f64::from_bits(*bits).fmt(to),
            Self::Text(text) | Self::Path(text) | Self::Signature(text) => to.write_str(text),
            Self::Array(element, values) if element == "y" => {
                to.write_str("0x")?;
                values.iter().rev().try_for_each(|value| match value {
                    Self::Byte(byte) => write!(to, "{byte:02x}"),
                    other => other.fmt(to),
                })
            }
            Self::Array(_, values) => listed(to, values, ("[", ", ", "]")),
            Self::Struct(fields) => listed(to, fields, ("", " ", "")),
            Self::Entry(key, value) => write!(to, "{key}: {value}"),
            Self::Variant(value) => value.fmt(to),
        }
    }
}

fn listed(
    to: &mut fmt::Formatter<'_>,
    values: &[Value],
    (open, between, close): (&str, &str, &str),
) -> fmt::Result {
    to.write_str(open)?;
    for (number, value) in values.iter().enumerate() {
        let before = if number == 0 { "" } else { between };
        write!(to, "{before}{value}")?;
    }
    to.write_str(close)
}
