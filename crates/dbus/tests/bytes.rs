//! Messages as other programs write them, and what is no message.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use dbus::{Address, Kind, LARGEST, Message, Value, addresses, answered, greeting};

/// As jeepney, another implementation, writes them: a question for the manager's version, a unit that is asked for, and a
/// signal with the highest byte first.
const GET: &[u8] =
    b"l\x01\x00\x014\x00\x00\x00\x02\x00\x00\x00\x90\x00\x00\x00\x01\x01o\x00\x19\x00\x00\x00/org\
/freedesktop/systemd1\x00\x00\x00\x00\x00\x00\x00\x02\x01s\x00\x1f\x00\x00\x00org.freedeskt\
op.DBus.Properties\x00\x03\x01s\x00\x03\x00\x00\x00Get\x00\x00\x00\x00\x00\x06\x01s\x00\x18\
\x00\x00\x00org.freedesktop.systemd1\x00\x00\x00\x00\x00\x00\x00\x00\x08\x01g\x00\x02ss\x00\
\x20\x00\x00\x00org.freedesktop.systemd1.Manager\x00\x00\x00\x00\x07\x00\x00\x00Version\x00";
const START: &[u8] =
    b"l\x01\x00\x01\xd0\x00\x00\x00\x03\x00\x00\x00\xb6\x00\x00\x00\x01\x01o\x00\x19\x00\x00\x00/\
org/freedesktop/systemd1\x00\x00\x00\x00\x00\x00\x00\x02\x01s\x00 \x00\x00\x00org.freedeskt\
op.systemd1.Manager\x00\x00\x00\x00\x00\x00\x00\x00\x03\x01s\x00\x12\x00\x00\x00StartTransi\
entUnit\x00\x00\x00\x00\x00\x00\x06\x01s\x00\x18\x00\x00\x00org.freedesktop.systemd1\x00\x00\
\x00\x00\x00\x00\x00\x00\x08\x01g\x00\x10ssa(sv)a(sa(sv))\x00\x00\x00\x07\x00\x00\x00a.scop\
e\x00\x07\x00\x00\x00replace\x00\xa8\x00\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00PIDs\x00\x02\
au\x00\x00\x00\x00\x04\x00\x00\x00\x07\x00\x00\x00\x08\x00\x00\x00Delegate\x00\x01b\x00\x01\
\x00\x00\x00\x00\x00\x00\x00\x0b\x00\x00\x00DeviceAllow\x00\x05a(ss)\x00\x00\x12\x00\x00\x00\
\x00\x00\x00\x00\x06\x00\x00\x00char-*\x00\x00\x01\x00\x00\x00m\x00\x00\x00\x00\x00\x00\x00\
\x0b\x00\x00\x00AllowedCPUs\x00\x02ay\x00\x01\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\x09\
\x00\x00\x00MemoryMax\x00\x01t\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\
\x00\x00\x00\x00\x00\x00\x00\x00";
const REMOVED: &[u8] =
    b"B\x04\x00\x01\x00\x00\x00=\x00\x00\x00\x04\x00\x00\x00z\x01\x01o\x00\x00\x00\x00\x19/org/fr\
eedesktop/systemd1\x00\x00\x00\x00\x00\x00\x00\x02\x01s\x00\x00\x00\x00 org.freedesktop.sys\
temd1.Manager\x00\x00\x00\x00\x00\x00\x00\x00\x03\x01s\x00\x00\x00\x00\x0aJobRemoved\x00\x00\
\x00\x00\x00\x00\x08\x01g\x00\x04uoss\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\
\x1f/org/freedesktop/systemd1/job/5\x00\x00\x00\x00\x07a.scope\x00\x00\x00\x00\x04done\x00";

fn get() -> Message {
    let arguments = ["org.freedesktop.systemd1.Manager", "Version"].map(|text| Value::Text(text.into()));
    let mut message = Message::call(
        "org.freedesktop.systemd1",
        "/org/freedesktop/systemd1",
        "org.freedesktop.DBus.Properties",
        "Get",
        &arguments,
    );
    message.serial = 2;
    message
}

/// One of everything, and each of them within others.
fn everything() -> Vec<Value> {
    let entry =
        Value::Entry(Box::new(Value::Text("k".into())), Box::new(Value::Variant(Box::new(Value::Byte(1)))));
    let pair = |text: &str| Value::Struct(vec![Value::Text(text.into()), Value::Uint64(7)]);
    vec![
        Value::Byte(1),
        Value::Bool(true),
        Value::Int16(-2),
        Value::Uint16(3),
        Value::Int32(-4),
        Value::Uint32(5),
        Value::Int64(-6),
        Value::Uint64(u64::MAX),
        Value::Double(1.5_f64.to_bits()),
        Value::Text("t\u{e9}xt".into()),
        Value::Path("/p".into()),
        Value::Signature("a(sa(sv))".into()),
        Value::Handle(8),
        Value::bytes(&[9, 10, 11]),
        Value::texts(&["a", "bc"]),
        Value::Array("(st)".into(), vec![pair("x"), pair("")]),
        Value::Array("{sv}".into(), vec![entry]),
        Value::Array("(sa(sv))".into(), Vec::new()),
        Value::Variant(Box::new(Value::Variant(Box::new(Value::texts(&[]))))),
    ]
}

fn property(name: &str, value: Value) -> Value {
    Value::Struct(vec![Value::Text(name.into()), Value::Variant(Box::new(value))])
}

#[test]
fn a_call_has_the_bytes_that_others_write() {
    assert_eq!(get().encode().as_deref(), Ok(GET));
    assert_eq!(Message::decode(GET), Ok(get()));
    let rule = Value::Struct(vec![Value::Text("char-*".into()), Value::Text("m".into())]);
    let properties = vec![
        property("PIDs", Value::Array("u".into(), vec![Value::Uint32(7)])),
        property("Delegate", Value::Bool(true)),
        property("DeviceAllow", Value::Array("(ss)".into(), vec![rule])),
        property("AllowedCPUs", Value::bytes(&[3])),
        property("MemoryMax", Value::Uint64(u64::MAX)),
    ];
    let arguments = [
        Value::Text("a.scope".into()),
        Value::Text("replace".into()),
        Value::Array("(sv)".into(), properties),
        Value::Array("(sa(sv))".into(), Vec::new()),
    ];
    let name = "org.freedesktop.systemd1";
    let manager = "org.freedesktop.systemd1.Manager";
    let mut start =
        Message::call(name, "/org/freedesktop/systemd1", manager, "StartTransientUnit", &arguments);
    start.serial = 3;
    assert_eq!(start.encode().as_deref(), Ok(START));
}

#[test]
fn what_was_written_is_read_again() {
    let mut message = Message::call("", "/a", "b.c", "D", &everything());
    (message.serial, message.answers) = (9, Some(8));
    let bytes = message.encode().expect("it can be sent");
    let read = Message::decode(&bytes).expect("it can be read");
    assert_eq!(read.values(), Ok(everything()));
    assert_eq!((read.answers, read.serial, read.member.as_str()), (Some(8), 9, "D"));
}

#[test]
fn both_byte_orders_are_read() {
    let signal = Message::decode(REMOVED).expect("a signal");
    assert_eq!((signal.kind, signal.serial, signal.member.as_str()), (Kind::Signal, 4, "JobRemoved"));
    let values = [
        Value::Uint32(5),
        Value::Path("/org/freedesktop/systemd1/job/5".into()),
        Value::Text("a.scope".into()),
        Value::Text("done".into()),
    ];
    assert_eq!(signal.values().as_deref(), Ok(&values[..]));
}

#[test]
fn whatever_is_cut_off_or_changed_is_told_and_no_more() {
    let bytes = Message::call("", "/a", "b.c", "D", &everything()).encode().expect("it can be sent");
    for end in 0..bytes.len() {
        assert!(Message::decode(&bytes[..end]).is_err(), "{end}");
    }
    for at in 0..bytes.len() {
        for value in [0, 1, 0x28, 0x61, 0x7f, 0xff] {
            let mut changed = bytes.clone();
            changed[at] = value;
            if let Ok(message) = Message::decode(&changed) {
                drop(message.values());
            }
        }
    }
}

#[test]
fn nothing_is_as_deep_or_as_large_as_it_says() {
    let mut deep = Message::call("", "/a", "b.c", "D", &[]);
    deep.signature = "a".repeat(200) + "y";
    let deep = Message::decode(&deep.encode().expect("it can be sent")).expect("a header");
    assert!(deep.values().is_err());
    let mut huge = GET[..16].to_vec();
    huge[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(Message::length(&huge).is_err());
    assert_eq!(Message::length(&GET[..15]), Ok(None));
    let long = Value::Text("x".repeat(LARGEST));
    assert!(Message::call("", "/a", "b.c", "D", &[long]).encode().is_err());
}

#[test]
fn addresses_are_those_of_sockets() {
    let list = "tcp:host=x;unix:path=/run/a%2cb,guid=1;unix:tmpdir=/tmp;unix:guid=2,abstract=c;unix:path=rel;unix:path=%zz";
    assert_eq!(addresses(list), [Address::Path("/run/a,b".into()), Address::Abstract(b"c".to_vec())]);
    assert_eq!(addresses(""), []);
}

#[test]
fn a_greeting_is_answered_by_lines() {
    assert_eq!(greeting(Some(1000)), b"\0AUTH EXTERNAL 31303030\r\nBEGIN\r\n");
    assert_eq!(greeting(None), b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n");
    assert_eq!(answered(b"OK 0123\r\nl\x02"), Ok(Some(9)));
    assert_eq!(answered(b"DATA\r\nOK 0123\r\n"), Ok(Some(15)));
    for part in [&b""[..], b"O", b"DATA\r\n", b"DATA\r\nOK 0", b"OK 0123\r"] {
        assert_eq!(answered(part), Ok(None), "{part:?}");
    }
    for wrong in [&b"REJECTED EXTERNAL\r\n"[..], b"ERROR\r\n", b"\r\n", b"HTTP/1.1 400\r\n", &[b'x'; 600]] {
        assert!(answered(wrong).is_err(), "{wrong:?}");
    }
    assert!(answered("DATA\r\n".repeat(200).as_bytes()).is_err());
}

mod heard;

#[test]
fn the_corpus_keeps_every_promise() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/dbus");
    let mut count = 0;
    for file in std::fs::read_dir(folder).expect("the folder is there") {
        let bytes = std::fs::read(file.expect("an entry").path()).expect("an input can be read");
        heard::hold(&bytes);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] = changed[at].wrapping_add(1);
            heard::hold(&changed);
            heard::hold(&bytes[..at]);
        }
        count += 1;
    }
    assert!(count >= 4, "only {count} inputs");
}
