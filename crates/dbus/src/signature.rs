//! Signatures: lists of types, a letter or more for each.

use crate::Malformed;

/// How deep arrays and structures may lie in each other, the two counted together: the specification allows 32 of each.
pub(crate) const DEEPEST: usize = 64;

/// The first complete type of a signature, and what follows it.
pub(crate) fn first(signature: &str) -> Result<(&str, &str), Malformed> {
    let end = length(signature.as_bytes(), 0)?;
    Ok((signature.get(..end).unwrap_or_default(), signature.get(end..).unwrap_or_default()))
}

fn length(signature: &[u8], depth: usize) -> Result<usize, Malformed> {
    if depth > DEEPEST {
        return Err(Malformed("a type lies too deep in others"));
    }
    let rest = signature.get(1..).unwrap_or_default();
    match signature.first() {
        Some(
            b'y' | b'b' | b'n' | b'q' | b'i' | b'u' | b'x' | b't' | b'd' | b's' | b'o' | b'g' | b'h' | b'v',
        ) => Ok(1),
        Some(b'a') if rest.first() == Some(&b'{') => {
            let inner = rest.get(1..).unwrap_or_default();
            let key = length(inner, depth + 1)?;
            let value = length(inner.get(key..).unwrap_or_default(), depth + 1)?;
            let is_basic = !matches!(inner.first(), Some(b'a' | b'(' | b'v'));
            match inner.get(key + value) {
                Some(b'}') if is_basic => Ok(3 + key + value),
                _ => Err(Malformed("a dictionary has one key of a basic type and one value")),
            }
        }
        Some(b'a') => Ok(1 + length(rest, depth + 1)?),
        Some(b'(') => {
            let mut at = 0;
            loop {
                match rest.get(at) {
                    Some(b')') if at > 0 => return Ok(at + 2),
                    _ => at += length(rest.get(at..).unwrap_or_default(), depth + 1)?,
                }
            }
        }
        _ => Err(Malformed("a signature has a letter that is no type")),
    }
}

/// To how many bytes a value of this type is aligned.
pub(crate) fn alignment(signature: &str) -> usize {
    match signature.as_bytes().first() {
        Some(b'n' | b'q') => 2,
        Some(b'b' | b'i' | b'u' | b's' | b'o' | b'a' | b'h') => 4,
        Some(b'x' | b't' | b'd' | b'(' | b'{') => 8,
        _ => 1,
    }
}
