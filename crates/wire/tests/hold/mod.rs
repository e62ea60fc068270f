//! What holds of any bytes at all. A fuzz target and a test over its corpus share it.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each of the two takes what it is for")]

use wire::{Message, Response};

/// A line that is read is written as one that reads the same; one that is not is refused in one line.
pub fn message(bytes: &[u8]) {
    match Message::read(bytes) {
        Err(error) => assert!(!error.to_string().contains('\n'), "{error:?}"),
        Ok(message) => {
            let line = message.line().unwrap_or_else(|error| panic!("{message:?}: {error}"));
            assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1), "{message:?}");
            let again = Message::read(&line);
            // A manifest or statistics may hold a fraction that is no sum of powers of two.
            match &message {
                Message::Response(Response::Inspect(_)) => assert!(again.is_ok(), "{again:?}"),
                message => assert_eq!(again.as_ref(), Ok(message)),
            }
        }
    }
}
