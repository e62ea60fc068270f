//! What is said to a service manager, and what is made of its answers: an exchange of messages with a list of answers.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread::{self, JoinHandle};

use cgroup::Systemd;
use dbus::{Kind, Message, Value};
use plan::systemd::{Bus, Held, Unit};

const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// What comes back for a call.
#[derive(Clone)]
enum Answer {
    Values(Vec<Value>),
    /// The value of a property.
    Value(Value),
    Error(&'static str),
    /// A job, and before the call is answered what became of other jobs; then what became of it.
    Job(&'static str),
    Bytes(&'static [u8]),
    HangsUp,
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

/// Listens, and answers calls of these members in this order; what was asked for is not what was said otherwise.
fn answering(name: &str, script: Vec<(&'static str, Answer)>) -> (Bus, JoinHandle<Vec<Message>>) {
    let path = std::env::temp_dir().join(format!("cofferdam-dbus-{}-{name}", std::process::id()));
    let listener = UnixListener::bind(&path).expect("a socket");
    let bus = Bus { address: format!("unix:path={}", path.display()), is_direct: true, is_user: false };
    (bus, thread::spawn(move || serve(&listener, &path, script)))
}

fn serve(listener: &UnixListener, path: &PathBuf, script: Vec<(&'static str, Answer)>) -> Vec<Message> {
    let (mut line, mut room) = welcome(listener);
    let mut heard = Vec::new();
    for (member, answer) in script {
        let call = take(&mut line, &mut room);
        assert_eq!(call.member, member, "{:?}", call.values());
        let mut reply = |kind: Kind, error: &str, values: &[Value]| {
            let mut reply = Message::call("", "", "", "", values);
            (reply.kind, reply.answers, reply.serial) = (kind, Some(call.serial), 7);
            error.clone_into(&mut reply.error);
            line.write_all(&reply.encode().expect("an answer")).expect("answer");
        };
        match answer {
            Answer::Values(values) => reply(Kind::Return, "", &values),
            Answer::Value(value) => reply(Kind::Return, "", &[Value::Variant(Box::new(value))]),
            Answer::Error(name) => {
                reply(Kind::Error, &format!("org.freedesktop.systemd1.{name}"), &[text("why")]);
            }
            Answer::Job(result) => {
                let removed = |number: u32, result: &str| {
                    let job = Value::Path(format!("/org/freedesktop/systemd1/job/{number}"));
                    let values = [Value::Uint32(number), job, text("a.slice"), text(result)];
                    let mut signal =
                        Message::call("", "/org/freedesktop/systemd1", MANAGER, "JobRemoved", &values);
                    (signal.kind, signal.serial) = (Kind::Signal, 8);
                    signal.encode().expect("a signal")
                };
                let before = removed(4, "canceled");
                let after = removed(5, result);
                let mut reply =
                    Message::call("", "", "", "", &[Value::Path("/org/freedesktop/systemd1/job/5".into())]);
                (reply.kind, reply.answers, reply.serial) = (Kind::Return, Some(call.serial), 9);
                let all = [before, reply.encode().expect("an answer"), after].concat();
                // Never in the pieces that it was made of.
                for piece in all.chunks(7) {
                    line.write_all(piece).expect("answer");
                }
            }
            Answer::Bytes(bytes) => line.write_all(bytes).expect("answer"),
            Answer::HangsUp => {
                (line, room) = {
                    drop(line);
                    welcome(listener)
                }
            }
        }
        heard.push(call);
    }
    std::fs::remove_file(path).expect("remove the socket");
    heard
}

fn welcome(listener: &UnixListener) -> (UnixStream, Vec<u8>) {
    let (mut line, _) = listener.accept().expect("somebody comes");
    let mut greeting = Vec::new();
    while !greeting.ends_with(b"BEGIN\r\n") {
        let mut byte = [0];
        line.read_exact(&mut byte).expect("a greeting");
        greeting.extend(byte);
    }
    assert!(greeting.starts_with(b"\0AUTH EXTERNAL"));
    line.write_all(b"OK 00112233445566778899aabbccddeeff\r\n").expect("answer");
    (line, Vec::new())
}

fn take(line: &mut UnixStream, room: &mut Vec<u8>) -> Message {
    loop {
        if let Some(length) = Message::length(room).expect("a message")
            && room.len() >= length
        {
            let message: Vec<u8> = room.drain(..length).collect();
            return Message::decode(&message).expect("a message");
        }
        let mut more = [0; 512];
        let count = line.read(&mut more).expect("a message");
        assert!(count > 0, "it hung up");
        room.extend_from_slice(&more[..count]);
    }
}

fn unit(bus: &Bus) -> Unit {
    let held = Held { unit: "a.slice".into(), bus: bus.clone(), version: 257, description: "ours".into() };
    Unit { held, group: "/a.slice".into(), properties: Vec::new() }
}

fn start(name: &str, script: Vec<(&'static str, Answer)>) -> (Result<(), String>, Vec<Message>) {
    let (bus, peer) = answering(name, script);
    let started = Systemd::reach(&bus).and_then(|mut systemd| systemd.start(&unit(&bus), None));
    (started.map_err(|failed| failed.to_string()), peer.join().expect("all was asked"))
}

#[test]
fn a_manager_tells_of_itself() {
    let script = vec![("Get", Answer::Value(text("257.8-1~deb13u2"))), ("Get", Answer::Value(text("/")))];
    let (bus, peer) = answering("tells", script);
    let absent = Bus { address: "unix:path=/nonexistent".into(), ..bus.clone() };
    let manager = Systemd::look(&[absent, bus]).expect("it is there");
    assert_eq!((manager.version, manager.group.as_str(), manager.controllers), (257, "", None));
    let asked = peer.join().expect("all was asked");
    assert_eq!(asked[0].values(), Ok(vec![text(MANAGER), text("Version")]));
}

#[test]
fn a_job_is_waited_for_and_its_group_looked_at() {
    let (started, heard) = start(
        "starts",
        vec![("StartTransientUnit", Answer::Job("done")), ("Get", Answer::Value(text("/a.slice")))],
    );
    assert_eq!(started, Ok(()));
    let values = heard[0].values().expect("arguments");
    assert_eq!(values[..2], [text("a.slice"), text("replace")]);
}

#[test]
fn what_goes_wrong_is_told_and_taken_back() {
    let gone = || ("GetUnit", Answer::Error("NoSuchUnit"));
    for (name, script, told) in [
        ("fails", vec![("StartTransientUnit", Answer::Job("failed")), gone()], "its job ended as failed"),
        (
            "elsewhere",
            vec![
                ("StartTransientUnit", Answer::Job("done")),
                ("Get", Answer::Value(text("/b.slice"))),
                gone(),
            ],
            "its control group is /b.slice, not /a.slice",
        ),
        ("refuses", vec![("StartTransientUnit", Answer::Error("TransactionJobFailed"))], "why"),
        ("jobless", vec![("StartTransientUnit", Answer::Values(Vec::new()))], "systemd names no job"),
        (
            "strange",
            vec![
                ("StartTransientUnit", Answer::Error("UnitExists")),
                ("GetUnit", Answer::Values(vec![Value::Path("/u".into())])),
                ("Get", Answer::Value(text("another's"))),
                ("Get", Answer::Value(text("active"))),
            ],
            "is not ours: \"another's\"",
        ),
        (
            "garbage",
            vec![("StartTransientUnit", Answer::Bytes(b"HTTP/1.1 400 Bad Request\r\n"))],
            "cannot be read",
        ),
        (
            "huge",
            vec![("StartTransientUnit", Answer::Bytes(b"l\x02\x00\x01\xff\xff\xff\xff\x01\0\0\0\0\0\0\0"))],
            "too large",
        ),
    ] {
        let (started, _) = start(name, script);
        let why = started.expect_err(name);
        assert!(why.starts_with("start a.slice: ") && why.contains(told), "{name}: {why}");
    }
}

/// A manager that executes itself anew hangs up; what it was told before that is asked of the one that comes after.
#[test]
fn one_that_hangs_up_is_asked_again() {
    let ours = |state: &str| {
        vec![
            ("GetUnit", Answer::Values(vec![Value::Path("/u".into())])),
            ("Get", Answer::Value(text("ours"))),
            ("Get", Answer::Value(text(state))),
        ]
    };
    let no_job = Value::Struct(vec![Value::Uint32(0), Value::Path("/".into())]);
    let mut script = vec![("StartTransientUnit", Answer::HangsUp)];
    script.extend(ours("active"));
    script.extend(ours("active"));
    script.push(("Get", Answer::Value(no_job)));
    script.push(("Get", Answer::HangsUp));
    script.push(("Get", Answer::Value(text("/a.slice"))));
    assert_eq!(start("anew", script).0, Ok(()));
}

/// It may hang up before it has said a word, more than once.
#[test]
fn one_that_hangs_up_before_it_greets_is_asked_again() {
    let path = std::env::temp_dir().join(format!("cofferdam-dbus-{}-mute", std::process::id()));
    let listener = UnixListener::bind(&path).expect("a socket");
    let bus = Bus { address: format!("unix:path={}", path.display()), is_direct: true, is_user: false };
    let peer = thread::spawn(move || {
        for _ in 0..3 {
            drop(listener.accept().expect("somebody comes"));
        }
        let script = vec![("Get", Answer::Value(text("257.8-1~deb13u2"))), ("Get", Answer::Value(text("/")))];
        serve(&listener, &path, script)
    });
    assert_eq!(Systemd::look(&[bus]).expect("it is there").version, 257);
    peer.join().expect("all was asked");
}

/// One of ours that failed makes room; the manager tells when it is gone.
#[test]
fn what_is_left_of_ours_makes_room() {
    let path = || Answer::Values(vec![Value::Path("/u".into())]);
    let script = vec![
        ("StartTransientUnit", Answer::Error("UnitExists")),
        ("GetUnit", path()),
        ("Get", Answer::Value(text("ours"))),
        ("Get", Answer::Value(text("failed"))),
        ("GetUnit", path()),
        ("Get", Answer::Value(text("ours"))),
        ("Get", Answer::Value(text("failed"))),
        ("ResetFailedUnit", Answer::Values(Vec::new())),
        ("GetUnit", Answer::Error("NoSuchUnit")),
        ("StartTransientUnit", Answer::Job("done")),
        ("Get", Answer::Value(text("/a.slice"))),
    ];
    assert_eq!(start("room", script).0, Ok(()));
}
