//! The console, over real sockets: framing, limits, order, time-outs, closing.
//!
//! The clock is the test's own: it goes on by itself whenever nobody has anything else to do, so that ten seconds of
//! silence take no time, and are ten seconds all the same.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test states what it expects"
)]

use std::future::Future;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use daemon::console::{Body, Buffer, Call, Console, Cut, Line, Listener, Options, Peer, Rules, bind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use wire::{
    Address, Container, Error, Installed, Key, Message, Notification, Permission, Permissions, Request,
    Response, Verdict,
};

/// Runs a test, its clock standing still while there is something to do.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime").block_on(test);
}

fn console() -> (Console, mpsc::Receiver<Call>) {
    console_of(Buffer { calls: 8, notifications: 8 })
}

fn console_of(buffer: Buffer) -> (Console, mpsc::Receiver<Call>) {
    Console::new(Key::new([7; 32]), buffer, Arc::new(|line| eprintln!("{line}")))
}

fn rules(options: Options) -> Rules {
    Rules { permissions: Permissions::full(), options }
}

fn a() -> Container {
    "a:1.0.0".parse().expect("a container")
}

/// Our end of a line.
struct Client {
    stream: UnixStream,
    heard: Vec<u8>,
    line: Option<Line>,
}

impl Client {
    /// A container's.
    fn inside(console: &Console, rules: Rules) -> Self {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let line = console.attach(OwnedFd::from(theirs), a(), rules).unwrap();
        Self { stream: UnixStream::from_std(ours).unwrap(), heard: Vec::new(), line: Some(line) }
    }

    /// The same, greeted.
    async fn welcome(console: &Console, rules: Rules) -> Self {
        let mut client = Self::inside(console, rules);
        client.greet(false).await;
        client
    }

    async fn greet(&mut self, subscribe: bool) {
        let text = format!(r#"{{"connect":{{"version":"0.9.2","subscribe_notifications":{subscribe}}}}}"#);
        self.say(&text).await;
        assert_eq!(self.hear().await.as_deref(), Some(r#"{"connect_ack":null}"#));
    }

    async fn say(&mut self, line: &str) {
        self.send(format!("{line}\n").as_bytes()).await;
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next line; none at the end.
    async fn hear(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
                let line = self.heard.drain(..=end).take(end).collect();
                return Some(String::from_utf8(line).unwrap());
            }
            // A peer that closes with bytes of ours unread resets the line: that is an end too.
            if self.stream.read_buf(&mut self.heard).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    async fn ask(&mut self, request: &str) -> String {
        self.say(&format!(r#"{{"request":{request}}}"#)).await;
        self.hear().await.expect("a response")
    }
}

fn said(response: Response) -> String {
    let line = Message::Response(response).line().unwrap();
    String::from_utf8(line).unwrap().trim_end().to_owned()
}

/// Answers `list` with nothing, for ever.
async fn answer_lists(mut calls: mpsc::Receiver<Call>) {
    while let Some(call) = calls.recv().await {
        assert_eq!(call.request, Request::List);
        drop(call.answer.send(Response::List(Vec::new())));
    }
}

#[test]
fn clients_of_these_versions_are_welcome() {
    run(async {
        let (console, _calls) = console();
        for (version, answer) in [
            ("0.9.0", r#"{"connect_ack":null}"#),
            ("99.1.1", r#"{"connect_ack":null}"#),
            ("0.8.9", r#"{"connect_nack":{"invalid_protocol_version":{"version":"0.9.2"}}}"#),
        ] {
            let mut client = Client::inside(&console, rules(Options::default()));
            client
                .say(&format!(r#"{{"connect":{{"version":"{version}","subscribe_notifications":false}}}}"#))
                .await;
            assert_eq!(client.hear().await.as_deref(), Some(answer), "{version}");
            if answer.contains("nack") {
                assert_eq!(client.hear().await, None);
            }
        }
    });
}

#[test]
fn nobody_subscribes_without_permission() {
    run(async {
        let (console, _calls) = console();
        let rules = Rules { permissions: Permissions::of([Permission::List]), options: Options::default() };
        let mut client = Client::inside(&console, rules);
        client.say(r#"{"connect":{"version":"0.9.2","subscribe_notifications":true}}"#).await;
        assert_eq!(client.hear().await.as_deref(), Some(r#"{"connect_nack":"permission_denied"}"#));
        assert_eq!(client.hear().await, None);
    });
}

#[test]
fn a_line_that_is_no_request_ends_the_line() {
    run(async {
        let (console, _calls) = console();
        for wrong in [
            "x",
            "",
            "{}",
            r#"{"request":"reboot"}"#,
            r#"{"response":"shutdown"}"#,
            r#"{"connect":{"version":"0.9.2","subscribe_notifications":false}}"#,
        ] {
            let mut client = Client::welcome(&console, rules(Options::default())).await;
            client.say(wrong).await;
            assert_eq!(client.hear().await, None, "{wrong}");
        }
        let mut client = Client::inside(&console, rules(Options::default()));
        client.say(r#"{"request":"ident"}"#).await;
        assert_eq!(client.hear().await, None, "a request before the greeting");
    });
}

#[test]
fn a_line_has_a_longest_length_without_its_end() {
    run(async {
        let (console, _calls) = console();
        let options = Options { max_request_size: 100, ..Options::default() };
        let line = |length: usize| format!("{:length$}", r#"{"request":"ident"}"#);
        let mut client = Client::welcome(&console, rules(options)).await;
        client.say(&line(100)).await;
        assert_eq!(client.hear().await.as_deref(), Some(r#"{"response":{"ident":"a:1.0.0"}}"#));
        client.say(&line(101)).await;
        assert_eq!(client.hear().await, None);
        // One that has no end is not waited for.
        let mut client = Client::welcome(&console, rules(options)).await;
        client.send(&[b' '; 101]).await;
        assert_eq!(client.hear().await, None);
    });
}

#[test]
fn a_line_may_come_in_pieces_and_many_in_one() {
    run(async {
        let (console, calls) = console();
        tokio::spawn(answer_lists(calls));
        let mut client = Client::welcome(&console, rules(Options::default())).await;
        for byte in b"{\"request\":\"list\"}\r\n" {
            client.send(&[*byte]).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(client.hear().await.as_deref(), Some(r#"{"response":{"list":[]}}"#));
        client
            .say(&[r#"{"request":"ident"}"#, r#"{"request":"list"}"#, r#" {"request":"ident"} "#].join("\n"))
            .await;
        for answer in [r#"{"ident":"a:1.0.0"}"#, r#"{"list":[]}"#, r#"{"ident":"a:1.0.0"}"#] {
            assert_eq!(client.hear().await, Some(format!(r#"{{"response":{answer}}}"#)));
        }
    });
}

#[test]
fn requests_are_answered_one_after_the_other() {
    run(async {
        let (console, mut calls) = console();
        let mut client = Client::welcome(&console, rules(Options::default())).await;
        client.say(r#"{"request":"repositories"}"#).await;
        client.say(r#"{"request":"list"}"#).await;
        client.say(r#"{"request":"ident"}"#).await;
        let first = calls.recv().await.unwrap();
        assert_eq!((&first.request, &first.peer), (&Request::Repositories, &Peer::Container(a())));
        // Time goes on when nothing else does: had the second come, it would be there.
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(calls.try_recv().is_err(), "a second request before the first is answered");
        first.answer.send(Response::Repositories(Vec::new())).unwrap();
        let second = calls.recv().await.unwrap();
        assert_eq!(second.request, Request::List);
        second.answer.send(Response::List(Vec::new())).unwrap();
        for answer in [r#"{"repositories":[]}"#, r#"{"list":[]}"#, r#"{"ident":"a:1.0.0"}"#] {
            assert_eq!(client.hear().await, Some(format!(r#"{{"response":{answer}}}"#)));
        }
    });
}

#[test]
fn a_client_that_shuts_its_side_is_still_answered() {
    run(async {
        let (console, calls) = console();
        tokio::spawn(answer_lists(calls));
        let mut client = Client::welcome(&console, rules(Options::default())).await;
        client.say("{\"request\":\"list\"}\n{\"request\":\"list\"}").await;
        client.stream.shutdown().await.unwrap();
        for _ in 0..2 {
            assert_eq!(client.hear().await.as_deref(), Some(r#"{"response":{"list":[]}}"#));
        }
        assert_eq!(client.hear().await, None);
    });
}

#[test]
fn what_nobody_answers_ends_the_line() {
    run(async {
        let (console, mut calls) = console();
        let mut client = Client::welcome(&console, rules(Options::default())).await;
        client.say(r#"{"request":"list"}"#).await;
        drop(calls.recv().await.unwrap());
        assert_eq!(client.hear().await, None);
    });
}

#[test]
fn requests_without_permission_come_back() {
    run(async {
        let (console, mut calls) = console();
        let permissions = Permissions::of([Permission::Ident, Permission::Start]);
        let mut client = Client::welcome(&console, Rules { permissions, options: Options::default() }).await;
        for denied in [
            r#""repositories""#,
            r#"{"kill":{"container":"a:1.0.0","signal":9}}"#,
            r#"{"start":{"container":"a:1.0.0","init":null,"arguments":["x"],"environment":{}}}"#,
            r#"{"token_create":{"target":"b","shared":""}}"#,
        ] {
            let answer = client.ask(denied).await;
            assert_eq!(answer, format!(r#"{{"response":{{"permission_denied":{denied}}}}}"#));
        }
        // What is brought all the same is read to its end, and the next request found behind it.
        let denied = r#"{"install":{"repository":"m","size":6}}"#;
        client.send(format!("{{\"request\":{denied}}}\n{{}}\nxyz").as_bytes()).await;
        assert_eq!(client.hear().await, Some(format!(r#"{{"response":{{"permission_denied":{denied}}}}}"#)));
        assert_eq!(client.ask(r#""ident""#).await, r#"{"response":{"ident":"a:1.0.0"}}"#);
        assert!(calls.try_recv().is_err(), "a request that was denied went on");
    });
}

/// All that is left of a package.
async fn rest(body: &mut Body) -> Result<Vec<u8>, Cut> {
    let mut all = Vec::new();
    while let Some(chunk) = body.next().await? {
        assert!(!chunk.is_empty());
        all.extend(chunk);
    }
    Ok(all)
}

const INSTALL: &str = r#"{"request":{"install":{"repository":"m","size":300000}}}"#;

fn installed() -> Response {
    Response::Install(Installed::Ok { container: a() })
}

#[test]
fn packages_come_through_and_the_next_request_behind_them() {
    run(async {
        let (console, mut calls) = console();
        let mut client = Client::welcome(&console, rules(Options::default())).await;
        let bytes: Vec<u8> = (0..300_000u32).map(|at| (at % 251) as u8).collect();
        let expected = bytes.clone();
        let server = tokio::spawn(async move {
            let mut call = calls.recv().await.unwrap();
            assert_eq!(call.request, Request::Install { repository: "m".into(), size: 300_000 });
            let all = rest(call.body.as_mut().unwrap()).await.unwrap();
            assert!(all == expected, "{} bytes came", all.len());
            call.answer.send(installed()).unwrap();
        });
        client.say(INSTALL).await;
        client.send(&bytes).await;
        client.say(r#"{"request":"ident"}"#).await;
        assert_eq!(client.hear().await, Some(said(installed())));
        assert_eq!(client.hear().await.as_deref(), Some(r#"{"response":{"ident":"a:1.0.0"}}"#));
        server.await.unwrap();
    });
}

#[test]
fn a_package_that_nobody_wants_is_read_to_its_end() {
    run(async {
        let (console, mut calls) = console();
        let mut client = Client::welcome(&console, rules(Options::default())).await;
        let wrong = Error::InvalidRepository { repository: "m".into() };
        let answer = Response::Install(Installed::Error { error: wrong });
        let response = answer.clone();
        tokio::spawn(async move {
            let call = calls.recv().await.unwrap();
            drop(call.body);
            call.answer.send(response).unwrap();
        });
        client.say(INSTALL).await;
        client.send(&vec![b'\n'; 300_000]).await;
        assert_eq!(client.hear().await, Some(said(answer)));
        assert_eq!(client.ask(r#""ident""#).await, r#"{"response":{"ident":"a:1.0.0"}}"#);
    });
}

#[test]
fn an_empty_package_is_whole() {
    run(async {
        let (console, mut calls) = console();
        let mut client = Client::welcome(&console, rules(Options::default())).await;
        client.say(r#"{"request":{"install":{"repository":"m","size":0}}}"#).await;
        let mut call = calls.recv().await.unwrap();
        assert_eq!(call.body.as_mut().unwrap().next().await, Ok(None));
        call.answer.send(installed()).unwrap();
        assert_eq!(client.hear().await, Some(said(installed())));
    });
}

#[test]
fn a_package_that_is_too_large_ends_the_line() {
    run(async {
        let (console, mut calls) = console();
        let options = Options { max_npk_install_size: 299_999, ..Options::default() };
        let mut client = Client::welcome(&console, rules(options)).await;
        client.say(INSTALL).await;
        let told = client.hear().await.unwrap();
        assert!(told.contains(r#"{"unexpected":{"error":"a package of 300000 bytes"#), "{told}");
        assert_eq!(client.hear().await, None);
        assert!(calls.try_recv().is_err(), "a request that is too large went on");
    });
}

#[test]
fn a_package_that_stops_coming_ends_the_line() {
    run(async {
        let (console, mut calls) = console();
        let options = Options { npk_stream_timeout: Duration::from_secs(5), ..Options::default() };
        let mut client = Client::welcome(&console, rules(options)).await;
        client.say(INSTALL).await;
        let mut call = calls.recv().await.unwrap();
        // Slow is not stalled.
        for _ in 0..3 {
            client.send(&[0; 100]).await;
            tokio::time::sleep(Duration::from_secs(4)).await;
        }
        let began = Instant::now();
        assert_eq!(rest(call.body.as_mut().unwrap()).await, Err(Cut { missing: 299_700 }));
        assert_eq!(client.hear().await, None);
        assert!((Duration::from_millis(900)..Duration::from_secs(5)).contains(&began.elapsed()));
    });
}

#[test]
fn a_repository_may_take_its_time() {
    run(async {
        let (console, mut calls) = console();
        let mut client = Client::welcome(&console, rules(Options::default())).await;
        let sending = tokio::spawn(async move {
            client.say(INSTALL).await;
            client.send(&vec![0; 300_000]).await;
            client
        });
        let mut call = calls.recv().await.unwrap();
        tokio::time::sleep(Duration::from_hours(1)).await;
        assert_eq!(rest(call.body.as_mut().unwrap()).await.map(|all| all.len()), Ok(300_000));
        call.answer.send(installed()).unwrap();
        assert_eq!(sending.await.unwrap().hear().await, Some(said(installed())));
    });
}

#[test]
fn a_package_may_be_cut_off() {
    run(async {
        let (console, mut calls) = console();
        let mut client = Client::welcome(&console, rules(Options::default())).await;
        client.say(INSTALL).await;
        client.send(&[0; 1000]).await;
        drop(client.stream);
        let mut call = calls.recv().await.unwrap();
        assert_eq!(rest(call.body.as_mut().unwrap()).await, Err(Cut { missing: 299_000 }));
    });
}

#[test]
fn a_package_that_stalls_stalls_nobody_else() {
    run(async {
        let (console, mut calls) = console();
        let mut slow = Client::welcome(&console, rules(Options::default())).await;
        slow.say(INSTALL).await;
        let _held = calls.recv().await.unwrap();
        let began = Instant::now();
        tokio::spawn(answer_lists(calls));
        let mut other = Client::welcome(&console, rules(Options::default())).await;
        assert_eq!(other.ask(r#""list""#).await, r#"{"response":{"list":[]}}"#);
        assert!(began.elapsed() < Duration::from_secs(1));
    });
}

#[test]
fn messages_are_so_many_a_second() {
    run(async {
        let (console, _calls) = console();
        let options = Options { max_requests_per_sec: 10, ..Options::default() };
        let mut client = Client::welcome(&console, rules(options)).await;
        let began = Instant::now();
        client.send("{\"request\":\"ident\"}\n".repeat(25).as_bytes()).await;
        let mut times = Vec::new();
        for _ in 0..25 {
            assert!(client.hear().await.is_some());
            times.push(began.elapsed().as_millis());
        }
        // The greeting counts: 9 at once, 10 a second later, the rest after two.
        assert!(times[8] < 100, "{times:?}");
        assert!(times[9..19].iter().all(|time| (900..1100).contains(time)), "{times:?}");
        assert!(times[19..].iter().all(|time| (1900..2100).contains(time)), "{times:?}");
    });
}

#[test]
fn notifications_come_in_between() {
    run(async {
        let (console, mut calls) = console();
        let mut client = Client::inside(&console, rules(Options::default()));
        console.notify(Notification::Started(a()));
        client.greet(true).await;
        client.say(r#"{"request":"list"}"#).await;
        let call = calls.recv().await.unwrap();
        console.notify(Notification::Install(a()));
        assert_eq!(client.hear().await.as_deref(), Some(r#"{"notification":{"install":"a:1.0.0"}}"#));
        call.answer.send(Response::List(Vec::new())).unwrap();
        assert_eq!(client.hear().await.as_deref(), Some(r#"{"response":{"list":[]}}"#));
        // Nobody else hears of it.
        let mut other = Client::welcome(&console, rules(Options::default())).await;
        console.notify(Notification::Uninstall(a()));
        assert_eq!(client.hear().await.as_deref(), Some(r#"{"notification":{"uninstall":"a:1.0.0"}}"#));
        assert_eq!(other.ask(r#""ident""#).await, r#"{"response":{"ident":"a:1.0.0"}}"#);
    });
}

#[test]
fn a_subscriber_that_lags_is_let_go() {
    run(async {
        let (console, _calls) = console_of(Buffer { calls: 1, notifications: 4 });
        let mut lagging = Client::inside(&console, rules(Options::default()));
        lagging.greet(true).await;
        for _ in 0..9 {
            console.notify(Notification::Install(a()));
        }
        assert_eq!(lagging.hear().await, None);
    });
}

#[test]
fn who_does_not_read_is_let_go_and_stops_nobody() {
    run(async {
        let (console, calls) = console();
        tokio::spawn(answer_lists(calls));
        let mut deaf = Client::inside(
            &console,
            rules(Options { max_requests_per_sec: 1_000_000, ..Options::default() }),
        );
        deaf.greet(false).await;
        let mut other = Client::welcome(&console, rules(Options::default())).await;
        // Until both directions are full, and then for ever.
        let (mut from, mut to) = deaf.stream.into_split();
        let flood = tokio::spawn(async move {
            let lines = "{\"request\":\"ident\"}\n".repeat(1000);
            while to.write_all(lines.as_bytes()).await.is_ok() {}
        });
        assert_eq!(other.ask(r#""list""#).await, r#"{"response":{"list":[]}}"#);
        flood.await.unwrap();
        let mut all = Vec::new();
        drop(from.read_to_end(&mut all).await);
        assert!(all.starts_with(b"{\"response\":{\"ident\":"), "{} bytes", all.len());
        assert_eq!(other.ask(r#""list""#).await, r#"{"response":{"list":[]}}"#);
    });
}

#[test]
fn tokens_go_from_hand_to_hand() {
    run(async {
        let (console, _calls) = console();
        let options = Options { token_validity: Duration::from_mins(1), ..Options::default() };
        let mut maker = Client::welcome(&console, rules(options)).await;
        let told = maker.ask(r#"{"token_create":{"target":"a","shared":"aGVsbG8h"}}"#).await;
        let Ok(Message::Response(Response::Token(token))) = Message::read(told.as_bytes()) else {
            panic!("{told}");
        };
        let verify = |user: &str| {
            format!(r#"{{"token_verify":{{"token":"{token}","user":"{user}","shared":"aGVsbG8h"}}}}"#)
        };
        assert_eq!(maker.ask(&verify("a")).await, said(Response::TokenVerification(Verdict::Ok)));
        assert_eq!(maker.ask(&verify("b")).await, said(Response::TokenVerification(Verdict::Invalid)));
        tokio::time::sleep(Duration::from_secs(62)).await;
        assert_eq!(maker.ask(&verify("a")).await, said(Response::TokenVerification(Verdict::Expired)));
    });
}

#[test]
fn a_containers_line_ends_with_the_container() {
    run(async {
        let (console, _calls) = console();
        let mut client = Client::welcome(&console, rules(Options::default())).await;
        client.line = None;
        assert_eq!(client.hear().await, None);
    });
}

/// A listener on a socket of its own, which goes with this.
struct Entrance {
    directory: tempfile::TempDir,
}

impl Entrance {
    fn open(console: &Console, most: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let entrance = Self { directory };
        let socket = bind(&Address::Unix(entrance.path()), 0o600).unwrap();
        console.listen(Listener::new(socket).unwrap(), rules(Options::default()), most);
        entrance
    }

    fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("console")
    }

    async fn come(&self) -> Client {
        let stream = UnixStream::connect(self.path()).await.unwrap();
        Client { stream, heard: Vec::new(), line: None }
    }
}

#[test]
fn who_comes_from_outside_is_extern_and_may_be_silent_for_ten_seconds() {
    run(async {
        let (console, _calls) = console();
        let entrance = Entrance::open(&console, 8);
        let mut client = entrance.come().await;
        client.greet(false).await;
        assert_eq!(client.ask(r#""ident""#).await, r#"{"response":{"ident":"extern:0.0.0"}}"#);
        let (mut silent, began) = (entrance.come().await, Instant::now());
        silent.send(b"{").await;
        assert_eq!(silent.hear().await, None);
        let waited = began.elapsed();
        assert!((Duration::from_secs(10)..Duration::from_secs(11)).contains(&waited), "{waited:?}");
        // Once greeted, and from inside even before, one may wait.
        let mut inside = Client::inside(&console, rules(Options::default()));
        tokio::time::sleep(Duration::from_hours(1)).await;
        inside.greet(false).await;
        assert_eq!(client.ask(r#""ident""#).await, r#"{"response":{"ident":"extern:0.0.0"}}"#);
    });
}

#[test]
fn there_is_room_for_so_many_and_again_when_one_goes() {
    run(async {
        let (console, _calls) = console();
        let entrance = Entrance::open(&console, 2);
        let mut first = entrance.come().await;
        first.greet(false).await;
        let mut second = entrance.come().await;
        second.greet(false).await;
        assert_eq!(entrance.come().await.hear().await, None);
        drop(first);
        // The place is free when the console has seen it, and it says nothing of that.
        let mut third = loop {
            let mut third = entrance.come().await;
            if third
                .stream
                .write_all(b"{\"connect\":{\"version\":\"0.9.2\",\"subscribe_notifications\":false}}\n")
                .await
                .is_ok()
                && third.hear().await.is_some()
            {
                break third;
            }
        };
        assert_eq!(third.ask(r#""ident""#).await, r#"{"response":{"ident":"extern:0.0.0"}}"#);
    });
}

#[test]
fn the_same_by_tcp() {
    run(async {
        let (console, _calls) = console();
        let socket = bind(&Address::Tcp { host: "127.0.0.1".into(), port: 0 }, 0).unwrap();
        let listener = Listener::new(socket).unwrap();
        let Listener::Tcp(tcp) = &listener else { panic!("{listener:?}") };
        let address = tcp.local_addr().unwrap();
        console.listen(listener, rules(Options::default()), 8);
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let greeting = "{\"connect\":{\"version\":\"0.9.2\",\"subscribe_notifications\":false}}\n{\"request\":\"ident\"}\n";
        stream.write_all(greeting.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut all = String::new();
        stream.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "{\"connect_ack\":null}\n{\"response\":{\"ident\":\"extern:0.0.0\"}}\n");
    });
}

#[test]
fn last_words_are_said_before_the_console_closes() {
    run(async {
        let (console, mut calls) = console();
        let entrance = Entrance::open(&console, 8);
        let mut client = entrance.come().await;
        client.greet(false).await;
        let mut subscriber = Client::inside(&console, rules(Options::default()));
        subscriber.greet(true).await;
        client.say(r#"{"request":"shutdown"}"#).await;
        let call = calls.recv().await.unwrap();
        let began = Instant::now();
        call.answer.send(Response::Shutdown).unwrap();
        console.notify(Notification::Shutdown);
        console.close().await;
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        assert_eq!(client.hear().await.as_deref(), Some(r#"{"response":"shutdown"}"#));
        assert_eq!(client.hear().await, None);
        assert_eq!(subscriber.hear().await.as_deref(), Some(r#"{"notification":"shutdown"}"#));
        assert_eq!(subscriber.hear().await, None);
        assert!(UnixStream::connect(entrance.path()).await.is_err());
    });
}

#[test]
fn a_socket_that_was_left_is_taken_away_and_no_other_file_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a:b c");
    let address = Address::Unix(path.clone());
    drop(bind(&address, 0o600).unwrap());
    drop(bind(&address, 0o660).unwrap());
    let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
    assert_eq!(mode & 0o7777, 0o660);
    let file = directory.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    assert!(bind(&Address::Unix(file.clone()), 0o600).is_err());
    assert_eq!(std::fs::read(file).unwrap(), b"precious");
}
