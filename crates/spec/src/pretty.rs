//! JSON with the indents that programs compare and people read.

use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};

/// Writes a document over several lines, without a newline after the last, as Go's `MarshalIndent` does.
pub(crate) fn pretty(document: &impl Serialize, indent: &[u8]) -> String {
    let mut bytes = Vec::new();
    let mut to = Serializer::with_formatter(&mut bytes, PrettyFormatter::with_indent(indent));
    // Neither can fail: the types of this room are plain data with strings for keys, a Vec takes any write, and
    // serde_json writes UTF-8 only.
    let written = document.serialize(&mut to).is_ok();
    debug_assert!(written);
    String::from_utf8(bytes).unwrap_or_default()
}
