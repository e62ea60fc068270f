//! What holds of every record, whoever wrote the bytes.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a property that does not hold ends the test, or the fuzzer"
)]

use cgroup::Paths;
use state::Record;

/// Reads the bytes as a record: what is taken comes back as it was, and what is not is told in one line.
pub(crate) fn hold(bytes: &[u8]) -> Result<(), String> {
    match Record::<Paths>::parse(bytes) {
        Ok(record) => {
            let text = serde_json::to_vec(&record).expect("a record can be written");
            assert_eq!(Record::parse(&text).as_ref(), Ok(&record), "it comes back as it was");
            Ok(())
        }
        Err(why) => {
            assert!(!why.is_empty() && !why.contains(char::is_control), "one line: {why:?}");
            Err(why)
        }
    }
}
