//! What is wrong with a document, and where.

use std::fmt;

/// One thing that is wrong, with the JSON path of the field: `linux.namespaces[2]: "mount" is listed twice`.
/// Always a single line, whatever bytes the document held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// `linux.namespaces[2].type`; empty where the document as a whole is meant.
    pub path: String,
    /// What is wrong, in words that follow the path.
    pub reason: String,
}

impl Invalid {
    /// `reason` follows the path and a colon: lower case, no full stop, foreign text by [`quoted`].
    pub fn new(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { path: path.into(), reason: reason.into() }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => to.write_str(&self.reason),
            path => write!(to, "{path}: {}", self.reason),
        }
    }
}

impl std::error::Error for Invalid {}

/// Foreign text in quotes, for a message: on one line, and cut where it would fill the screen.
pub fn quoted(text: &str) -> String {
    format!("\"{}\"", tame(text))
}

/// A key of a map as a step of a JSON path: `.memory` where it is a plain word, `["net.ipv4.ip_forward"]` else.
pub fn step(key: &str) -> String {
    let plain = !key.is_empty()
        && key.len() <= LONGEST
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    if plain { format!(".{key}") } else { format!("[{}]", quoted(key)) }
}

/// Foreign text on one line: what would not print, or would print over its neighbours, is escaped.
pub fn tame(text: &str) -> String {
    let mut line = String::new();
    for (count, letter) in text.chars().enumerate() {
        if count == LONGEST {
            line.push('…');
            break;
        }
        match letter {
            '"' | '\'' | '\\' => line.push(letter),
            _ => line.extend(letter.escape_debug()),
        }
    }
    line
}

/// Characters of foreign text that a message repeats.
const LONGEST: usize = 160;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_whatever_the_document_held() {
        assert_eq!(quoted("a\nb\u{202e}c\0"), r#""a\nb\u{202e}c\0""#);
        assert_eq!(quoted(&"x".repeat(1000)).chars().count(), LONGEST + 3);
    }

    #[test]
    fn a_key_that_is_no_plain_word_stands_in_brackets() {
        assert_eq!(step("memory"), ".memory");
        assert_eq!(step("net.ipv4.ip_forward"), r#"["net.ipv4.ip_forward"]"#);
        assert_eq!(step(""), r#"[""]"#);
    }
}
