//! Values as bytes, in the byte order of most machines.

use crate::signature::alignment;
use crate::value::Value;

/// Zeros up to the next multiple.
pub(crate) fn pad(to: &mut Vec<u8>, alignment: usize) {
    to.resize(to.len().next_multiple_of(alignment), 0);
}

/// A length of something that [`crate::LARGEST`] bounds.
fn length(number: usize) -> [u8; 4] {
    u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes()
}

/// Appends a value where `to` begins at a multiple of 8.
pub(crate) fn put(to: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Byte(byte) => to.push(*byte),
        Value::Bool(flag) => fixed(to, &u32::from(*flag).to_le_bytes()),
        Value::Int16(number) => fixed(to, &number.to_le_bytes()),
        Value::Uint16(number) => fixed(to, &number.to_le_bytes()),
        Value::Int32(number) => fixed(to, &number.to_le_bytes()),
        Value::Uint32(number) | Value::Handle(number) => fixed(to, &number.to_le_bytes()),
        Value::Int64(number) => fixed(to, &number.to_le_bytes()),
        Value::Uint64(number) | Value::Double(number) => fixed(to, &number.to_le_bytes()),
        Value::Text(text) | Value::Path(text) => {
            fixed(to, &length(text.len()));
            to.extend_from_slice(text.as_bytes());
            to.push(0);
        }
        Value::Signature(text) => signature(to, text),
        Value::Array(element, values) => {
            pad(to, 4);
            let at = to.len();
            to.extend_from_slice(&[0; 4]);
            pad(to, alignment(element));
            let start = to.len();
            for value in values {
                put(to, value);
            }
            let length = length(to.len() - start);
            if let Some(place) = to.get_mut(at..at + 4) {
                place.copy_from_slice(&length);
            }
        }
        Value::Struct(fields) => {
            pad(to, 8);
            for field in fields {
                put(to, field);
            }
        }
        Value::Entry(key, value) => {
            pad(to, 8);
            put(to, key);
            put(to, value);
        }
        Value::Variant(value) => {
            signature(to, &value.signature());
            put(to, value);
        }
    }
}

/// Numbers are aligned to their own size.
fn fixed(to: &mut Vec<u8>, bytes: &[u8]) {
    pad(to, bytes.len());
    to.extend_from_slice(bytes);
}

fn signature(to: &mut Vec<u8>, text: &str) {
    to.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    to.extend_from_slice(text.as_bytes());
    to.push(0);
}
