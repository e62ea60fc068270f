//! The greeting: who we are, before the first message. The kernel vouches for it (`EXTERNAL`).

use crate::Malformed;

/// All that is said before the first message, in one piece: whoever listens takes it line by line.
///
/// Without a user it is left to the other end to look at the socket: ids differ between user namespaces.
pub fn greeting(uid: Option<u32>) -> Vec<u8> {
    let mut said = "\0AUTH EXTERNAL".to_owned();
    match uid {
        Some(uid) => {
            said.push(' ');
            // Each digit of the decimal number, in hexadecimal.
            for digit in uid.to_string().bytes() {
                said.push('3');
                said.push(char::from(digit));
            }
            said.push_str("\r\n");
        }
        None => said.push_str("\r\nDATA\r\n"),
    }
    said.push_str("BEGIN\r\n");
    said.into_bytes()
}

/// How many bytes of what came back are the answer, if we are let in; none as long as there must come more.
pub fn answered(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    let mut at = 0;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let Some(end) = rest.windows(2).position(|two| two == b"\r\n") else {
            return if rest.len() > LINE { Err(Malformed("the answer has no end")) } else { Ok(None) };
        };
        let line = rest.get(..end).unwrap_or_default();
        at += end + 2;
        match line.split(|byte| *byte == b' ').next() {
            Some(b"OK") => return Ok(Some(at)),
            // It asks for the name that was not said, and gets an empty one.
            Some(b"DATA") if at <= LINE => {}
            Some(b"REJECTED") => return Err(Malformed("we are not let in")),
            _ => return Err(Malformed("this is no answer to a greeting")),
        }
    }
}

/// No line is longer.
const LINE: usize = 512;
