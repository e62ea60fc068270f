//! From bytes to a [`Spec`], and from what serde says to what a person understands.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use serde_path_to_error::{Path, Segment};

use crate::error::{step, tame};
use crate::{Invalid, Process, Resources, Spec};

impl Spec {
    /// Reads config.json. What the fields say is not looked at yet: that is [`Spec::check`].
    ///
    /// The path of what is wrong costs a second pass with bookkeeping, so it is asked for only when there is
    /// something wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, Invalid> {
        parse(bytes)
    }
}

impl Process {
    /// Reads a document that holds nothing but a process, as `exec --process` takes it. Paths of what is wrong begin
    /// with its fields.
    pub fn parse(bytes: &[u8]) -> Result<Self, Invalid> {
        parse(bytes)
    }
}

impl Resources {
    /// Reads a document that holds nothing but limits, as `update --resources` takes it. Paths of what is wrong begin
    /// with its fields.
    pub fn parse(bytes: &[u8]) -> Result<Self, Invalid> {
        parse(bytes)
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Invalid> {
    let text = std::str::from_utf8(bytes).map_err(|error| not_text(error.valid_up_to()))?;
    match serde_json::from_str(text) {
        Ok(document) => Ok(document),
        Err(error) => Err(located::<T>(text).unwrap_or_else(|| plain(&error))),
    }
}

fn not_text(byte: usize) -> Invalid {
    Invalid::new("", format!("byte {byte} is not UTF-8"))
}

/// Parses again, this time remembering the way; none if the fault lies after the document.
fn located<T: DeserializeOwned>(text: &str) -> Option<Invalid> {
    let mut json = serde_json::Deserializer::from_str(text);
    let mut track = serde_path_to_error::Track::new();
    // By the trait's name: the inherent function is the lax one (see `strictly` in config.rs).
    let error =
        <T as Deserialize>::deserialize(serde_path_to_error::Deserializer::new(&mut json, &mut track))
            .err()?;
    match error.classify() {
        Category::Data => Some(reworded(way(&track.path()), &bare(&error))),
        _ => None,
    }
}

/// A fault of the text itself, told with its place.
fn plain(error: &serde_json::Error) -> Invalid {
    if error.is_eof() && error.line() <= 1 && error.column() == 0 {
        return Invalid::new("", "is empty");
    }
    let reason = match (error.classify(), bare(error).as_str()) {
        (_, "recursion limit exceeded") => "nested too deeply".to_owned(),
        (Category::Eof, what) => format!("ends too early ({})", what.replace("EOF ", "")),
        (_, "trailing characters") => "more text follows after the document".to_owned(),
        (_, what) => what.to_owned(),
    };
    Invalid::new("", format!("line {}, column {}: {}", error.line(), error.column(), tame(&reason)))
}

/// What serde says, without where.
fn bare(error: &serde_json::Error) -> String {
    let mut said = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    if said.ends_with(&place) {
        said.truncate(said.len() - place.len());
    }
    said
}

fn way(path: &Path) -> String {
    let steps = path.iter().map(|segment| match segment {
        Segment::Seq { index } => format!("[{index}]"),
        Segment::Map { key } | Segment::Enum { variant: key } => step(key),
        Segment::Unknown => "[?]".to_owned(),
    });
    strip(steps.collect())
}

/// A path begins with a name, not with the dot before it.
fn strip(mut way: String) -> String {
    if way.starts_with('.') {
        way.remove(0);
    }
    way
}

/// The frequent cases in our own words. serde gives them as text only, so the text is taken apart; what it words
/// in another way is passed on as it is.
fn reworded(path: String, said: &str) -> Invalid {
    let named = |prefix: &str| said.strip_prefix(prefix).and_then(|rest| rest.strip_suffix('`'));
    if let Some(field) = named("missing field `") {
        return Invalid::new(strip(path + &step(field)), "is missing");
    }
    if let Some(field) = named("duplicate field `") {
        return Invalid::new(strip(path + &step(field)), "is given twice");
    }
    let words = said
        .strip_prefix("unknown variant `")
        .and_then(|rest| rest.rsplit_once("`, expected "))
        .map(|(given, known)| (format!("\"{given}\""), known.replace('`', "")));
    let kinds = said
        .strip_prefix("invalid type: ")
        .or_else(|| said.strip_prefix("invalid value: "))
        .and_then(|rest| rest.rsplit_once(", expected "))
        .map(|(given, wanted)| (found(given), wanted_kind(wanted)));
    match words.or(kinds) {
        Some((given, wanted)) => Invalid::new(path, format!("expected {wanted}, not {}", tame(&given))),
        None => Invalid::new(path, tame(said)),
    }
}

/// What stands in the document, as a person calls it.
fn found(given: &str) -> String {
    match given {
        "sequence" => "a list".to_owned(),
        "map" => "an object".to_owned(),
        _ => ["string ", "integer ", "floating point ", "boolean "]
            .iter()
            .find_map(|kind| given.strip_prefix(kind))
            .map_or_else(|| given.to_owned(), |value| value.trim_matches('`').to_owned()),
    }
}

/// What belongs there.
fn wanted_kind(wanted: &str) -> String {
    let range = |low: i128, high: u64| format!("a whole number from {low} to {high}");
    match wanted {
        "u16" => range(0, u16::MAX.into()),
        "u32" => range(0, u32::MAX.into()),
        "u64" => range(0, u64::MAX),
        "i32" => range(i32::MIN.into(), i32::MAX.unsigned_abs().into()),
        "i64" => range(i64::MIN.into(), i64::MAX.unsigned_abs()),
        "a boolean" => "true or false".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a map" => "an object".to_owned(),
        _ if wanted.starts_with("struct ") => "an object".to_owned(),
        _ => wanted.to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::expect_used, reason = "a test states what it expects")]
mod tests {
    use super::*;

    /// What is said about a document.
    fn said(document: &str) -> String {
        Spec::parse(document.as_bytes()).expect_err("the document is wrong").to_string()
    }

    #[test]
    fn each_frequent_mistake_is_told_in_our_words() {
        let table = [
            (
                r#"{"process":{"user":{"uid":"abc"}}}"#,
                r#"process.user.uid: expected a whole number from 0 to 4294967295, not "abc""#,
            ),
            (
                r#"{"process":{"user":{"uid":-1}}}"#,
                "process.user.uid: expected a whole number from 0 to 4294967295, not -1",
            ),
            (
                r#"{"process":{"user":{"uid":1.5}}}"#,
                "process.user.uid: expected a whole number from 0 to 4294967295, not 1.5",
            ),
            (r#"{"process":{"args":{}}}"#, "process.args: expected a list, not an object"),
            (r#"{"process":{"args":["a",null]}}"#, "process.args[1]: expected a string, not null"),
            (r#"{"process":{"terminal":1}}"#, "process.terminal: expected true or false, not 1"),
            (r#"{"root":["rootfs",true]}"#, "root: expected an object, not a list"),
            (r#"{"root":{}}"#, "root.path: is missing"),
            (r#"{"root":{"path":"a","path":"b"}}"#, "root.path: is given twice"),
            (r#"{"hostname":"a","hostname":"b"}"#, "hostname: is given twice"),
            (r#"{"annotations":{"a b":"","a b":""}}"#, r#"annotations["a b"]: is given twice"#),
            (r#"{"annotations":{"a":1}}"#, "annotations.a: expected a string, not 1"),
            (
                r#"{"linux":{"sysctl":{"net.ipv4.ip_forward":1}}}"#,
                r#"linux.sysctl["net.ipv4.ip_forward"]: expected a string, not 1"#,
            ),
            (
                r#"{"linux":{"namespaces":[{"type":"pid"},{"type":"mnt"}]}}"#,
                r#"linux.namespaces[1].type: expected one of cgroup, ipc, mount, network, pid, time, user, uts, not "mnt""#,
            ),
            (
                r#"{"linux":{"namespaces":[{"type":{"pid":null}}]}}"#,
                "linux.namespaces[0].type: expected a string, not an object",
            ),
            (
                r#"{"linux":{"namespaces":[{"type":"a`, expected \n`b"}]}}"#,
                r#"linux.namespaces[0].type: expected one of cgroup, ipc, mount, network, pid, time, user, uts, not "a`, expected \n`b""#,
            ),
            (
                r#"{"linux":{"resources":{"pids":{"limit":99999999999999999999}}}}"#,
                "linux.resources.pids.limit: expected a whole number from -9223372036854775808 to 9223372036854775807, not 1e+20",
            ),
            ("[]", "expected an object, not a list"),
            ("7", "expected an object, not 7"),
            ("", "is empty"),
            ("{\n\"root\" 1}", "line 2, column 8: expected `:`"),
            ("{} x", "line 1, column 4: more text follows after the document"),
            ("{\"a\":", "line 1, column 5: ends too early (while parsing a value)"),
            (
                "{\"a\": \"\0\"}",
                "line 1, column 7: control character (\\u0000-\\u001F) found while parsing a string",
            ),
        ];
        for (document, wanted) in table {
            assert_eq!(said(document), wanted, "{document}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_named_by_their_place() {
        let told = Spec::parse(b"{\"ignored\": \"\xff\"}").map_err(|invalid| invalid.to_string());
        assert_eq!(told, Err("byte 13 is not UTF-8".to_owned()));
    }

    #[test]
    fn null_and_the_empty_string_mean_absent() {
        let spec = Spec::parse(
            br#"{"ociVersion":"1.0.2","hostname":"","mounts":null,"process":{"env":null,"user":{"uid":null}},"linux":{"namespaces":[{"type":"pid","path":""}],"sysctl":null}}"#,
        )
        .expect("Go would take it");
        assert_eq!(spec.hostname, None);
        assert!(spec.mounts.is_empty());
        assert_eq!(spec.linux.expect("it is there").namespaces[0].path, None);
    }

    #[test]
    fn nesting_has_an_end() {
        let deep = format!("{{\"process\":{}", "[".repeat(1_000_000));
        assert_eq!(said(&deep), "process: expected an object, not a list");
        // An unknown key is skipped without recursion, however deep it goes; it must still be JSON.
        let unknown = format!("{{\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        let told = Spec::parse(unknown.as_bytes()).map(|_| ()).map_err(|invalid| invalid.to_string());
        assert_eq!(told, Ok(()));
    }
}
