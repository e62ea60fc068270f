//! What holds for any bytes that somebody sends.

use dbus::{LARGEST, Message, addresses, answered};

/// They are a message or they are not; one that is read and written again is read as the same. Nothing is larger than what
/// it was made of allows.
pub(crate) fn hold(bytes: &[u8]) {
    if let Ok(Some(length)) = answered(bytes) {
        assert!(length <= bytes.len());
    }
    drop(addresses(&String::from_utf8_lossy(bytes)));
    match Message::length(bytes) {
        Ok(Some(length)) => assert!(length <= LARGEST),
        Ok(None) => assert!(bytes.len() < 16),
        Err(_) => return assert!(Message::decode(bytes).is_err()),
    }
    let Ok(message) = Message::decode(bytes) else { return };
    let Ok(values) = message.values() else { return };
    let mut again =
        Message::call(&message.destination, &message.path, &message.interface, &message.member, &values);
    (again.kind, again.serial, again.answers) = (message.kind, message.serial, message.answers);
    again.error.clone_from(&message.error);
    again.sender.clone_from(&message.sender);
    // What was as large as may be can be larger in our own order of fields.
    let Ok(written) = again.encode() else { return };
    match Message::decode(&written) {
        Ok(read) => assert_eq!((read.values(), read.member), (Ok(values), message.member)),
        Err(why) => panic!("{why}: {values:?}"),
    }
}
