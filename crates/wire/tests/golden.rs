//! Every message, byte for byte as Northstar 0.9.2 reads and writes it.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test states what it expects")]

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use wire::{
    Bytes, Connect, Container, Data, Error, Inspected, Installed, Key, Maker, Memory, Message, Nack, Name,
    Notification, Outcome, Permission, Permissions, Pressed, Pressure, Process, Request, Response, Start,
    Status, Token, Verdict, Version,
};

fn container(text: &str) -> Container {
    text.parse().expect(text)
}

fn name(text: &str) -> Name {
    text.parse().expect(text)
}

fn a() -> Container {
    container("a:1.0.0")
}

/// 40 bytes of zeroes.
const ZEROES: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==";

fn zeroes() -> Token {
    Token::try_from(ZEROES.to_owned()).expect("a token")
}

#[track_caller]
fn same(text: &str, message: &Message) {
    assert_eq!(Message::read(text.as_bytes()).as_ref(), Ok(message), "{text}");
    assert_eq!(message.line().map(|line| String::from_utf8(line).unwrap()), Ok(format!("{text}\n")));
}

#[test]
fn clients_are_greeted() {
    same(
        r#"{"connect":{"version":"0.9.2","subscribe_notifications":false}}"#,
        &Message::Connect(Connect { version: Version::new(0, 9, 2), subscribe_notifications: false }),
    );
    same(r#"{"connect_ack":null}"#, &Message::ConnectAck(()));
    same(
        r#"{"connect_nack":{"invalid_protocol_version":{"version":"0.9.2"}}}"#,
        &Message::ConnectNack(Nack::InvalidProtocolVersion { version: wire::VERSION }),
    );
    same(r#"{"connect_nack":"permission_denied"}"#, &Message::ConnectNack(Nack::PermissionDenied));
}

#[test]
fn versions_before_ours_are_not_understood() {
    for (version, is) in [
        ("0.8.9", false),
        ("0.9.0-pre", true),
        ("0.9.0", true),
        ("0.9.2", true),
        ("0.10.0", true),
        ("1.0.0", true),
        ("99.1.1", true),
    ] {
        assert_eq!(wire::is_understood(&Version::parse(version).unwrap()), is, "{version}");
    }
}

fn requests() -> Vec<(&'static str, Request, Permission)> {
    let (target, shared) = (name("srv"), Bytes(b"hello!".to_vec()));
    vec![
        (r#""ident""#, Request::Ident, Permission::Ident),
        (r#"{"inspect":{"container":"a:1.0.0"}}"#, Request::Inspect { container: a() }, Permission::Inspect),
        (
            r#"{"install":{"repository":"default","size":351805}}"#,
            Request::Install { repository: "default".into(), size: 351_805 },
            Permission::Install,
        ),
        (
            r#"{"kill":{"container":"a:1.0.0","signal":15}}"#,
            Request::Kill { container: a(), signal: 15 },
            Permission::Kill,
        ),
        (r#""list""#, Request::List, Permission::List),
        (
            r#"{"mount":{"containers":["a:1.0.0","a:1.0.0"]}}"#,
            Request::Mount { containers: vec![a(), a()] },
            Permission::Mount,
        ),
        (r#""repositories""#, Request::Repositories, Permission::Repositories),
        (r#""shutdown""#, Request::Shutdown, Permission::Shutdown),
        (
            r#"{"start":{"container":"a:1.0.0","init":null,"arguments":[],"environment":{}}}"#,
            Request::Start(Start::plain(a())),
            Permission::Start,
        ),
        (
            r#"{"start":{"container":"a:1.0.0","init":"<INIT>","arguments":["x"],"environment":{"A":"b"}}}"#,
            Request::Start(Start {
                container: a(),
                init: Some("<INIT>".into()),
                arguments: vec!["x".into()],
                environment: BTreeMap::from([("A".into(), "b".into())]),
            }),
            Permission::StartCommand,
        ),
        (
            r#"{"token_create":{"target":"srv","shared":"aGVsbG8h"}}"#,
            Request::TokenCreate { target, shared: shared.clone() },
            Permission::TokenCreate,
        ),
        (
            r#"{"token_verify":{"token":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==","user":"cli","shared":"aGVsbG8h"}}"#,
            Request::TokenVerify { token: zeroes(), user: name("cli"), shared },
            Permission::TokenVerification,
        ),
        (r#"{"umount":{"containers":[]}}"#, Request::Umount { containers: Vec::new() }, Permission::Umount),
        (
            r#"{"uninstall":{"container":"a:1.0.0","wipe":true}}"#,
            Request::Uninstall { container: a(), wipe: true },
            Permission::Uninstall,
        ),
    ]
}

#[test]
fn requests_are_asked_and_denied() {
    for (text, request, permission) in requests() {
        assert_eq!(request.permission(), permission, "{text}");
        same(&format!(r#"{{"request":{text}}}"#), &Message::Request(request.clone()));
        same(
            &format!(r#"{{"response":{{"permission_denied":{text}}}}}"#),
            &Message::Response(Response::PermissionDenied(request)),
        );
    }
}

#[test]
fn whoever_starts_otherwise_than_the_manifest_has_it_needs_another_permission() {
    let plain = || Start::plain(a());
    for start in [
        Start { init: Some("x".into()), ..plain() },
        Start { arguments: vec![String::new()], ..plain() },
        Start { environment: BTreeMap::from([("A".into(), String::new())]), ..plain() },
    ] {
        assert_eq!(Request::Start(start).permission(), Permission::StartCommand);
    }
}

fn errors() -> Vec<(&'static str, Error)> {
    let container = a();
    vec![
        (r#"{"configuration":{"context":"x"}}"#, Error::Configuration { context: "x".into() }),
        (r#"{"duplicate_container":{"container":"a:1.0.0"}}"#, Error::DuplicateContainer { container: a() }),
        (r#"{"invalid_container":{"container":"a:1.0.0"}}"#, Error::InvalidContainer { container: a() }),
        (r#"{"invalid_arguments":{"cause":"x"}}"#, Error::InvalidArguments { cause: "x".into() }),
        (r#"{"mount_busy":{"container":"a:1.0.0"}}"#, Error::MountBusy { container: a() }),
        (r#"{"umount_busy":{"container":"a:1.0.0"}}"#, Error::UmountBusy { container: a() }),
        (
            r#"{"start_container_started":{"container":"a:1.0.0"}}"#,
            Error::StartContainerStarted { container: a() },
        ),
        (
            r#"{"start_container_resource":{"container":"a:1.0.0"}}"#,
            Error::StartContainerResource { container: a() },
        ),
        (
            r#"{"start_container_missing_resource":{"container":"a:1.0.0","resource":"name","version":">=1.0.0"}}"#,
            Error::StartContainerMissingResource {
                container: a(),
                resource: name("name"),
                version: ">=1.0.0".into(),
            },
        ),
        (
            r#"{"start_container_failed":{"container":"a:1.0.0","error":"x"}}"#,
            Error::StartContainerFailed { container: a(), error: "x".into() },
        ),
        (
            r#"{"stop_container_not_started":{"container":"a:1.0.0"}}"#,
            Error::StopContainerNotStarted { container: a() },
        ),
        (
            r#"{"invalid_repository":{"repository":"id"}}"#,
            Error::InvalidRepository { repository: "id".into() },
        ),
        (r#"{"install_duplicate":{"container":"a:1.0.0"}}"#, Error::InstallDuplicate { container: a() }),
        (
            r#"{"critical_container":{"container":"a:1.0.0","status":{"exit":{"code":1}}}}"#,
            Error::CriticalContainer { container, status: Status::Exit { code: 1 } },
        ),
        (r#"{"unexpected":{"error":"x"}}"#, Error::unexpected("x")),
    ]
}

#[test]
fn responses_are_given() {
    let outcome = |error| Outcome::from((a(), error));
    for (text, response) in [
        (r#"{"ident":"extern:0.0.0"}"#, Response::Ident(Container::outside())),
        (
            r#"{"install":{"ok":{"container":"a:1.0.0"}}}"#,
            Response::Install(Installed::Ok { container: a() }),
        ),
        (r#"{"kill":{"ok":{"container":"a:1.0.0"}}}"#, Response::Kill(outcome(Ok(())))),
        (r#"{"list":["a:1.0.0","b:0.0.1"]}"#, Response::List(vec![a(), container("b:0.0.1")])),
        (
            r#"{"mount":[{"ok":{"container":"a:1.0.0"}},{"error":{"container":"a:1.0.0","error":{"unexpected":{"error":"x"}}}}]}"#,
            Response::Mount(vec![outcome(Ok(())), outcome(Err(Error::unexpected("x")))]),
        ),
        (
            r#"{"repositories":["default","memory"]}"#,
            Response::Repositories(vec!["default".into(), "memory".into()]),
        ),
        (r#""shutdown""#, Response::Shutdown),
        (r#"{"start":{"ok":{"container":"a:1.0.0"}}}"#, Response::Start(outcome(Ok(())))),
        (
            r#"{"token":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=="}"#,
            Response::Token(zeroes()),
        ),
        (r#"{"token_verification":"Ok"}"#, Response::TokenVerification(Verdict::Ok)),
        (r#"{"token_verification":"Invalid"}"#, Response::TokenVerification(Verdict::Invalid)),
        (r#"{"token_verification":"Expired"}"#, Response::TokenVerification(Verdict::Expired)),
        (r#"{"token_verification":"Future"}"#, Response::TokenVerification(Verdict::Future)),
        (r#"{"umount":[]}"#, Response::Umount(Vec::new())),
        (r#"{"uninstall":{"ok":{"container":"a:1.0.0"}}}"#, Response::Uninstall(outcome(Ok(())))),
    ] {
        same(&format!(r#"{{"response":{text}}}"#), &Message::Response(response));
    }
}

#[test]
fn containers_are_described() {
    let data = |process| {
        let manifest = json!({"name": "a"});
        let data = Box::new(Data { manifest, repository: "default".into(), mounted: true, process });
        Message::Response(Response::Inspect(Inspected::Ok { container: a(), data }))
    };
    same(
        r#"{"response":{"inspect":{"ok":{"container":"a:1.0.0","data":{"manifest":{"name":"a"},"repository":"default","mounted":true,"process":null}}}}}"#,
        &data(None),
    );
    let process = Process { pid: 123, uptime: 506_580_831, statistics: json!({"cpu": {"stat": "x"}}) };
    same(
        r#"{"response":{"inspect":{"ok":{"container":"a:1.0.0","data":{"manifest":{"name":"a"},"repository":"default","mounted":true,"process":{"pid":123,"uptime":506580831,"statistics":{"cpu":{"stat":"x"}}}}}}}}"#,
        &data(Some(process)),
    );
}

#[test]
fn failures_are_of_the_kinds_that_the_client_knows() {
    for (text, error) in errors() {
        assert!(!error.to_string().is_empty());
        same(
            &format!(r#"{{"response":{{"install":{{"error":{{"error":{text}}}}}}}}}"#),
            &Message::Response(Response::Install(Installed::Error { error: error.clone() })),
        );
        same(
            &format!(r#"{{"response":{{"inspect":{{"error":{{"container":"a:1.0.0","error":{text}}}}}}}}}"#),
            &Message::Response(Response::Inspect(Inspected::Error { container: a(), error })),
        );
    }
}

#[test]
fn notifications_are_told() {
    let memory = Pressed::Memory(Memory { oom: Some(1), ..Memory::default() });
    let hard_to_find =
        Pressed::Memory(Memory { high: Some(7), pressure: Some(Pressure::Full), ..Memory::default() });
    for (text, notification) in [
        (r#"{"started":"a:1.0.0"}"#, Notification::Started(a())),
        (r#"{"exit":["a:1.0.0",{"exit":{"code":-1}}]}"#, Notification::Exit(a(), Status::Exit { code: -1 })),
        (
            r#"{"exit":["a:1.0.0",{"signalled":{"signal":9}}]}"#,
            Notification::Exit(a(), Status::Signalled { signal: 9 }),
        ),
        (r#"{"install":"a:1.0.0"}"#, Notification::Install(a())),
        (r#"{"uninstall":"a:1.0.0"}"#, Notification::Uninstall(a())),
        (r#""shutdown""#, Notification::Shutdown),
        (
            r#"{"c_group":["a:1.0.0",{"memory":{"low":null,"high":null,"max":null,"oom":1,"oom_kill":null}}]}"#,
            Notification::CGroup(a(), memory),
        ),
        (
            r#"{"c_group":["a:1.0.0",{"memory":{"low":null,"high":7,"max":null,"oom":null,"oom_kill":null,"pressure":"full"}}]}"#,
            Notification::CGroup(a(), hard_to_find),
        ),
    ] {
        assert!(!notification.to_string().is_empty());
        same(&format!(r#"{{"notification":{text}}}"#), &Message::Notification(notification));
    }
}

#[test]
fn what_clients_may_write_otherwise_is_read() {
    let start = Message::Request(Request::Start(Start::plain(a())));
    for (text, message) in [
        ("  {\"request\" : \"list\"}\r\n", Message::Request(Request::List)),
        (r#"{"request":{"list":null}}"#, Message::Request(Request::List)),
        (r#"{"more":[1],"request":"list","response_":0}"#, Message::Request(Request::List)),
        (r#"{"request":{"start":{"environment":{},"arguments":[],"container":"a:1.0.0"}}}"#, start),
        (
            r#"{"request":{"inspect":{"container":"a:1.0.0-rc1+x","why":1}}}"#,
            Message::Request(Request::Inspect { container: a() }),
        ),
        (
            r#"{"request":{"token_create":{"target":"srv","shared":""}}}"#,
            Message::Request(Request::TokenCreate { target: name("srv"), shared: Bytes::default() }),
        ),
        (
            r#"{"notification":{"c_group":["a:1.0.0",{"memory":{"oom_group_kill":2}}]}}"#,
            Message::Notification(Notification::CGroup(a(), Pressed::Memory(Memory::default()))),
        ),
    ] {
        assert_eq!(Message::read(text.as_bytes()), Ok(message), "{text}");
    }
}

#[test]
fn what_is_no_message_is_refused() {
    let deep = format!("{{\"request\":{}", "[".repeat(100_000));
    for text in [
        "",
        "{}",
        "null",
        "list",
        r#"{"request":"list"} x"#,
        r#"{"request":"reboot"}"#,
        r#"{"request":{"list":null,"ident":null}}"#,
        r#"{"connect":{"version":"0.9.2"}}"#,
        r#"{"connect":{"subscribe_notifications":true}}"#,
        r#"{"connect":{"version":"new","subscribe_notifications":true}}"#,
        r#"{"connect_ack":{}}"#,
        r#"{"request":{"inspect":{"container":"a"}}}"#,
        r#"{"request":{"inspect":{"container":"a:1"}}}"#,
        r#"{"request":{"inspect":{"container":"..:1.0.0"}}}"#,
        r#"{"request":{"inspect":{"container":"a/b:1.0.0"}}}"#,
        r#"{"request":{"install":{"repository":"a\u0000b","size":1}}}"#,
        r#"{"request":{"install":{"repository":"a","size":-1}}}"#,
        r#"{"request":{"install":{"repository":"a","size":18446744073709551616}}}"#,
        r#"{"request":{"kill":{"container":"a:1.0.0","signal":2147483648}}}"#,
        r#"{"request":{"start":{"container":"a:1.0.0","arguments":[]}}}"#,
        r#"{"request":{"start":{"container":"a:1.0.0","init":"\u0000","arguments":[],"environment":{}}}}"#,
        r#"{"request":{"start":{"container":"a:1.0.0","arguments":["\u0000"],"environment":{}}}}"#,
        r#"{"request":{"start":{"container":"a:1.0.0","arguments":[],"environment":{"\u0000":""}}}}"#,
        r#"{"request":{"token_create":{"target":"","shared":""}}}"#,
        r#"{"request":{"token_create":{"target":"a","shared":"x"}}}"#,
        r#"{"request":{"token_verify":{"token":"AAAA","user":"a","shared":""}}}"#,
        deep.as_str(),
    ] {
        assert!(Message::read(text.as_bytes()).is_err(), "{text:.100}");
    }
    assert!(Message::read(b"{\"request\":\"\xff\"}").is_err());
    // Nobody writes into the log by what he gets wrong, or fills it.
    let long = format!(r#"{{"request":"\n\u001b[2J{}"}}"#, "x".repeat(1_000_000));
    let told = Message::read(long.as_bytes()).expect_err("no request").to_string();
    assert!(told.starts_with(r"unknown variant `\n\u{1b}[2Jxxx") && told.len() < 1000, "{told:.1000}");
}

#[test]
fn permissions_are_all_or_a_list() {
    let full: Permissions = serde_json::from_value(json!("full")).unwrap();
    assert_eq!(full, Permissions::full());
    assert_eq!(serde_json::to_value(Permissions::of(Permission::ALL)).unwrap(), json!("full"));
    let two: Permissions = serde_json::from_value(json!(["start_command", "kill", "kill"])).unwrap();
    assert_eq!(two, Permissions::of([Permission::Kill, Permission::StartCommand]));
    assert!(two.allow(Permission::Kill) && !two.allow(Permission::Start));
    assert_eq!(serde_json::to_value(&two).unwrap(), json!(["kill", "start_command"]));
    for wrong in [json!("some"), json!(["root"]), json!(null), json!({"full": null})] {
        assert!(serde_json::from_value::<Permissions>(wrong.clone()).is_err(), "{wrong}");
    }
}

/// The construction of 7.9, computed by another program: Python's hmac over these bytes.
#[test]
fn tokens_are_those_of_the_reference() {
    let key = Key::new(*b"0123456789abcdef0123456789abcdef");
    let (user, target) = (name("cli"), name("srv"));
    let maker = Maker { user: &user, target: &target, shared: b"hello!" };
    let token = key.create(Duration::from_millis(7_900), &maker);
    assert_eq!(token.to_string(), "AAAAAAAAAAchK6YPcWh74jKI0Gab83GnPAtOOJiONw3C7tkI1uFtDw==");
}

#[test]
fn tokens_are_good_for_those_they_were_made_for_and_not_for_ever() {
    let (key, other) = (Key::new([1; 32]), Key::new([2; 32]));
    let (user, target) = (name("cli"), name("srv"));
    let maker = Maker { user: &user, target: &target, shared: b"s" };
    let at = Duration::from_secs;
    let token = key.create(at(100), &maker);
    let verify = |now, maker: &Maker<'_>| key.verify(now, at(60), &token, maker);
    assert_eq!(verify(at(100), &maker), Verdict::Ok);
    assert_eq!(verify(at(160) + Duration::from_millis(900), &maker), Verdict::Ok);
    assert_eq!(verify(at(161), &maker), Verdict::Expired);
    assert_eq!(verify(at(99), &maker), Verdict::Future);
    for wrong in [
        Maker { user: &target, ..maker },
        Maker { target: &user, ..maker },
        Maker { user: &target, target: &user, ..maker },
        Maker { shared: b"", ..maker },
    ] {
        assert_eq!(verify(at(100), &wrong), Verdict::Invalid);
    }
    assert_eq!(other.verify(at(100), at(60), &token, &maker), Verdict::Invalid);
    // A forged time tells nothing of the clock.
    for now in [at(0), at(u64::MAX)] {
        assert_eq!(key.verify(now, at(60), &zeroes(), &maker), Verdict::Invalid);
    }
}
