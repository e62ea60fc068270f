//! The greeting: who we are, before the first message. The kernel vouches for it (`EXTERNAL`).

use crate::Malformed;

/// All that is said before the first message, in one piece: whoever listens takes it line by line.
///
/// Without a user it is left to the other end to look at the socket: ids differ between user namespaces.
pub fn greeting(uid: Option<u32>) -> Vec<u8> {
    let who = match uid {
        // Each digit of the decimal number, in hexadecimal.
        Some(uid) => format!(
            " {}\r\n",
            uid.to_string().bytes().map(|digit| format!("{digit:02x}")).collect::<String>()
        ),
        None => "\r\nDATA\r\n".to_owned(),
    };
    format!("\0AUTH EXTERNAL{who}BEGIN\r\n").into_bytes()
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
