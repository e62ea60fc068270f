//! Bytes as values. Whatever the bytes say, no more is made than they hold.

use crate::Malformed;
use crate::signature::{DEEPEST, alignment, first};
use crate::value::Value;

/// Reads on from where it is.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    is_big: bool,
}

impl<'a> Reader<'a> {
    /// `bytes` begin at a multiple of 8 of their message.
    pub(crate) fn new(bytes: &'a [u8], is_big: bool) -> Self {
        Self { bytes, at: 0, is_big }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// All values of a signature, and nothing behind them.
    pub(crate) fn values(mut self, mut signature: &str) -> Result<Vec<Value>, Malformed> {
        let mut values = Vec::new();
        while !signature.is_empty() {
            let (one, rest) = first(signature)?;
            values.push(self.value(one, 0)?);
            signature = rest;
        }
        if self.at == self.bytes.len() {
            Ok(values)
        } else {
            Err(Malformed("a body is longer than its values"))
        }
    }

    pub(crate) fn value(&mut self, signature: &str, depth: usize) -> Result<Value, Malformed> {
        if depth > DEEPEST {
            return Err(Malformed("a value lies too deep in others"));
        }
        let inner = signature.get(1..).unwrap_or_default();
        Ok(match signature.as_bytes().first() {
            Some(b'y') => Value::Byte(u8::from_le_bytes(self.take()?)),
            Some(b'b') => match self.number()? {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                _ => return Err(Malformed("neither true nor false")),
            },
            Some(b'n') => Value::Int16(self.wide16()?.cast_signed()),
            Some(b'q') => Value::Uint16(self.wide16()?),
            Some(b'i') => Value::Int32(self.number()?.cast_signed()),
            Some(b'u') => Value::Uint32(self.number()?),
            Some(b'h') => Value::Handle(self.number()?),
            Some(b'x') => Value::Int64(self.wide64()?.cast_signed()),
            Some(b't') => Value::Uint64(self.wide64()?),
            Some(b'd') => Value::Double(self.wide64()?),
            Some(b's') => Value::Text(self.text()?),
            Some(b'o') => Value::Path(self.text()?),
            Some(b'g') => Value::Signature(self.signature()?),
            Some(b'v') => {
                let signature = self.signature()?;
                let (one, rest) = first(&signature)?;
                if !rest.is_empty() {
                    return Err(Malformed("a variant has more than one type"));
                }
                Value::Variant(Box::new(self.value(one, depth + 1)?))
            }
            Some(b'a') => {
                let length = self.number()?;
                self.align(alignment(inner))?;
                let end = self.at.checked_add(length as usize).filter(|end| *end <= self.bytes.len());
                let end = end.ok_or(Malformed("an array is longer than its message"))?;
                let mut values = Vec::new();
                // No type is of no bytes, so this ends.
                while self.at < end {
                    values.push(self.value(inner, depth + 1)?);
                }
                if self.at != end {
                    return Err(Malformed("an array ends within an element"));
                }
                Value::Array(inner.to_owned(), values)
            }
            Some(b'(') => {
                self.align(8)?;
                let mut fields = Vec::new();
                let mut rest = inner.strip_suffix(')').unwrap_or(inner);
                while !rest.is_empty() {
                    let (one, after) = first(rest)?;
                    fields.push(self.value(one, depth + 1)?);
                    rest = after;
                }
                Value::Struct(fields)
            }
            Some(b'{') => {
                self.align(8)?;
                let (key, rest) = first(inner)?;
                let key = self.value(key, depth + 1)?;
                let value = self.value(rest.strip_suffix('}').unwrap_or(rest), depth + 1)?;
                Value::Entry(Box::new(key), Box::new(value))
            }
            _ => return Err(Malformed("a signature has a letter that is no type")),
        })
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let bytes = self.some(N)?;
        bytes.try_into().map_err(|_| SHORT)
    }

    fn some(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(count).ok_or(SHORT)?;
        let bytes = self.bytes.get(self.at..end).ok_or(SHORT)?;
        self.at = end;
        Ok(bytes)
    }

    pub(crate) fn align(&mut self, to: usize) -> Result<(), Malformed> {
        let next = self.at.next_multiple_of(to);
        let padding = self.some(next - self.at)?;
        if padding.iter().all(|byte| *byte == 0) {
            Ok(())
        } else {
            Err(Malformed("padding that is not zero"))
        }
    }

    fn wide16(&mut self) -> Result<u16, Malformed> {
        self.align(2)?;
        let bytes = self.take()?;
        Ok(if self.is_big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    pub(crate) fn number(&mut self) -> Result<u32, Malformed> {
        self.align(4)?;
        let bytes = self.take()?;
        Ok(if self.is_big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn wide64(&mut self) -> Result<u64, Malformed> {
        self.align(8)?;
        let bytes = self.take()?;
        Ok(if self.is_big { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) })
    }

    fn text(&mut self) -> Result<String, Malformed> {
        let length = self.number()? as usize;
        self.ended(length)
    }

    fn signature(&mut self) -> Result<String, Malformed> {
        let [length] = self.take()?;
        self.ended(length.into())
    }

    /// As many bytes of text, and a zero behind them.
    fn ended(&mut self, length: usize) -> Result<String, Malformed> {
        let text = self.some(length)?;
        let [end] = self.take()?;
        let text = std::str::from_utf8(text).map_err(|_| Malformed("a text is not UTF-8"))?;
        if end != 0 || text.contains('\0') {
            return Err(Malformed("a text has its end elsewhere"));
        }
        Ok(text.to_owned())
    }
}

const SHORT: Malformed = Malformed("a message ends too early");
