//! What the commands for the daemon say to it, and make of what it says: over a real socket, with both sides' words
//! written down.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test states what it expects")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;

/// What the daemon does next.
enum Turn {
    /// It hears this request, if it is one, and says that, if it is anything.
    Asked(&'static str, String),
    /// It hears so many bytes of a package.
    Brought(usize),
    /// It closes the line.
    Closed,
}

use Turn::{Asked, Brought, Closed};

fn asked(request: &'static str, response: &str) -> Turn {
    Asked(request, format!(r#"{{"response":{response}}}"#))
}

struct Talk {
    status: Option<i32>,
    out: String,
    err: String,
}

/// Runs a command against a daemon that answers like this, and is not asked anything else.
fn talk(words: &[&str], turns: Vec<Turn>) -> Talk {
    talk_as(words, false, turns)
}

fn talk_as(words: &[&str], subscribes: bool, turns: Vec<Turn>) -> Talk {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("console");
    let listener = UnixListener::bind(&socket).unwrap();
    let server = thread::spawn(move || serve(&listener, subscribes, turns));
    let (verb, rest) = words.split_first().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_cofferctl"))
        .arg(verb)
        .arg(format!("--url=unix://{}", socket.display()))
        .args(rest)
        .current_dir(directory.path())
        .output()
        .unwrap();
    server.join().unwrap();
    told(output)
}

fn told(output: Output) -> Talk {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Talk { status: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

fn serve(listener: &UnixListener, subscribes: bool, turns: Vec<Turn>) {
    let (mut stream, _) = listener.accept().unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap());
    let mut hear = || {
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        line
    };
    let greeting =
        format!("{{\"connect\":{{\"version\":\"0.9.2\",\"subscribe_notifications\":{subscribes}}}}}\n");
    assert_eq!(hear(), greeting);
    writeln!(stream, r#"{{"connect_ack":null}}"#).unwrap();
    for turn in turns {
        match turn {
            Asked("", answer) => writeln!(stream, "{answer}").unwrap(),
            Asked(request, answer) => {
                let mut line = String::new();
                lines.read_line(&mut line).unwrap();
                assert_eq!(line, format!("{{\"request\":{request}}}\n"));
                if !answer.is_empty() {
                    writeln!(stream, "{answer}").unwrap();
                }
            }
            Closed => return,
            Brought(size) => {
                let mut bytes = vec![0; size];
                lines.read_exact(&mut bytes).unwrap();
                assert!(bytes.iter().all(|byte| *byte == b'x'));
            }
        }
    }
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "", "another request");
}

#[track_caller]
fn good(talk: &Talk, out: &str) {
    assert_eq!((talk.status, talk.out.as_str(), talk.err.as_str()), (Some(0), out, ""));
}

#[track_caller]
fn bad(talk: &Talk, err: &str) {
    assert_eq!((talk.status, talk.out.as_str(), talk.err.as_str()), (Some(1), "", err));
}

const LIST: &str = r#"{"list":["b:1.0.0","a:1.0.0","a:0.9.0"]}"#;

fn list() -> Turn {
    asked(r#""list""#, LIST)
}

fn inspected(name: &'static str, answer: &str) -> Turn {
    asked(name, &format!(r#"{{"inspect":{answer}}}"#))
}

fn three() -> Vec<Turn> {
    vec![
        list(),
        inspected(
            r#"{"inspect":{"container":"a:0.9.0"}}"#,
            r#"{"ok":{"container":"a:0.9.0","data":{"manifest":{},"repository":"m","mounted":false,"process":null}}}"#,
        ),
        // One that was taken away meanwhile.
        inspected(
            r#"{"inspect":{"container":"a:1.0.0"}}"#,
            r#"{"error":{"container":"a:1.0.0","error":{"invalid_container":{"container":"a:1.0.0"}}}}"#,
        ),
        inspected(
            r#"{"inspect":{"container":"b:1.0.0"}}"#,
            r#"{"ok":{"container":"b:1.0.0","data":{"manifest":{"init":"/b"},"repository":"default","mounted":true,"process":{"pid":42,"uptime":3661999999999,"statistics":{}}}}}"#,
        ),
    ]
}

#[test]
fn packages_are_listed() {
    good(
        &talk(&["list"], three()),
        "NAME  VERSION  REPOSITORY  KIND      MOUNTED  PID  UPTIME\n\
         a     0.9.0    m           resource  no\n\
         b     1.0.0    default     program   yes      42   1h 1m 1s\n",
    );
    let json = talk(&["list", "--json"], three());
    assert!(json.out.starts_with(r#"{"a:0.9.0":{"manifest":{},"#), "{}", json.out);
}

#[test]
fn a_container_is_inspected() {
    let answer = r#"{"ok":{"container":"b:1.0.0","data":{"manifest":{"name":"b"},"repository":"m","mounted":true,"process":null}}}"#;
    let turn = || vec![inspected(r#"{"inspect":{"container":"b:1.0.0"}}"#, answer)];
    good(
        &talk(&["inspect", "b:1.0.0", "-j"], turn()),
        "{\"manifest\":{\"name\":\"b\"},\"repository\":\"m\",\"mounted\":true,\"process\":null}\n",
    );
    good(&talk(&["inspect", "b:1.0.0", "-m"], turn()), "{\n  \"name\": \"b\"\n}\n");
}

#[test]
fn a_name_is_enough_where_there_is_one_version() {
    let killed = || {
        asked(r#"{"kill":{"container":"b:1.0.0","signal":10}}"#, r#"{"kill":{"ok":{"container":"b:1.0.0"}}}"#)
    };
    good(&talk(&["kill", "b", "usr1"], vec![list(), killed()]), "");
    bad(&talk(&["kill", "a"], vec![list()]), "cofferctl: kill: a: which version: 0.9.0, 1.0.0?\n");
    bad(&talk(&["kill", "c"], vec![list()]), "cofferctl: kill: c: no such container\n");
    bad(&talk(&["kill", "c", "HUH"], vec![]), "cofferctl: kill: unknown signal \"HUH\"\n");
    bad(
        &talk(&["kill", "c:1"], vec![]),
        "cofferctl: kill: \"c:1\": \"1\" is no version: unexpected end of input while parsing major version number\n",
    );
}

#[test]
fn containers_are_started() {
    let started = r#"{"start":{"ok":{"container":"b:1.0.0"}}}"#;
    let plain = r#"{"start":{"container":"b:1.0.0","init":null,"arguments":[],"environment":{}}}"#;
    good(&talk(&["start", "b:1.0.0"], vec![asked(plain, started)]), "");
    let other = r#"{"start":{"container":"b:1.0.0","init":"<INIT>","arguments":["-x","--json"],"environment":{"A":"=","B":""}}}"#;
    good(
        &talk(
            &["start", "-i", "<INIT>", "-e", "A==", "--env=B=", "b:1.0.0", "-x", "--json"],
            vec![asked(other, started)],
        ),
        "",
    );
    let failed = r#"{"start":{"error":{"container":"b:1.0.0","error":{"start_container_missing_resource":{"container":"b:1.0.0","resource":"r","version":">=2"}}}}}"#;
    bad(
        &talk(&["start", "b:1.0.0"], vec![asked(plain, failed)]),
        "cofferctl: start: b:1.0.0 needs r >=2, which is not installed\n",
    );
    bad(
        &talk(&["start", "-e", "A", "b:1.0.0"], vec![]),
        "cofferctl: start: --env: \"A\": NAME=VALUE is due\n",
    );
}

#[test]
fn a_container_is_stopped_when_it_has_ended() {
    let kill = |signal: &'static str| asked(signal, r#"{"kill":{"ok":{"container":"b:1.0.0"}}}"#);
    let term = || kill(r#"{"kill":{"container":"b:1.0.0","signal":15}}"#);
    let exit = |container: &str| {
        Asked("", format!(r#"{{"notification":{{"exit":["{container}",{{"exit":{{"code":0}}}}]}}}}"#))
    };
    let stop = &["stop", "b:1.0.0", "--kill-after", "30s"];
    good(&talk_as(stop, true, vec![term(), exit("a:1.0.0"), exit("b:1.0.0")]), "");
    // The end may be told before the answer.
    let early = vec![
        Asked(r#"{"kill":{"container":"b:1.0.0","signal":15}}"#, String::new()),
        exit("b:1.0.0"),
        Asked("", r#"{"response":{"kill":{"ok":{"container":"b:1.0.0"}}}}"#.into()),
    ];
    good(&talk_as(stop, true, early), "");
    let late = vec![term(), kill(r#"{"kill":{"container":"b:1.0.0","signal":9}}"#), exit("b:1.0.0")];
    let talk = talk_as(&["stop", "b:1.0.0", "-k", "50ms"], true, late);
    assert_eq!(
        (talk.status, talk.err.as_str()),
        (Some(0), "cofferctl: warning: b:1.0.0 did not end by itself: killed\n")
    );
}

#[test]
fn packages_are_brought() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), vec![b'x'; 3_000_000]).unwrap();
    let path = file.path().to_str().unwrap();
    let bring = |answer: &str| {
        vec![
            Asked(r#"{"install":{"repository":"m","size":3000000}}"#, String::new()),
            Brought(3_000_000),
            Asked("", format!(r#"{{"response":{{"install":{answer}}}}}"#)),
        ]
    };
    good(&talk(&["install", path, "m"], bring(r#"{"ok":{"container":"b:1.0.0"}}"#)), "b:1.0.0\n");
    let mut only = vec![asked(r#""repositories""#, r#"{"repositories":["m"]}"#)];
    only.extend(bring(r#"{"ok":{"container":"b:1.0.0"}}"#));
    good(&talk(&["install", path], only), "b:1.0.0\n");
    bad(
        &talk(&["install", path], vec![asked(r#""repositories""#, r#"{"repositories":["n","m"]}"#)]),
        "cofferctl: install: REPOSITORY is missing: there are m, n\n",
    );
    bad(
        &talk(&["install", path, "m"], bring(r#"{"error":{"error":{"unexpected":{"error":"is full"}}}}"#)),
        "cofferctl: install: is full\n",
    );
    // It was refused before it was read: the reason is told, and not that nobody reads.
    let refused = vec![Asked(
        r#"{"install":{"repository":"m","size":3000000}}"#,
        r#"{"response":{"install":{"error":{"error":{"unexpected":{"error":"is too large"}}}}}}"#.into(),
    )];
    bad(&refused_talk(path, refused), "cofferctl: install: is too large\n");
}

/// The daemon closes without having read the package.
fn refused_talk(path: &str, turns: Vec<Turn>) -> Talk {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("console");
    let listener = UnixListener::bind(&socket).unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut greeting = [0; 64];
        let read = stream.read(&mut greeting).unwrap();
        assert!(read > 0);
        writeln!(stream, r#"{{"connect_ack":null}}"#).unwrap();
        for turn in turns {
            let Asked(_, answer) = turn else { continue };
            let mut first = [0; 1];
            stream.read_exact(&mut first).unwrap();
            writeln!(stream, "{answer}").unwrap();
        }
    });
    let output = Command::new(env!("CARGO_BIN_EXE_cofferctl"))
        .args(["install", "-u", &format!("unix://{}", socket.display()), path, "m"])
        .output()
        .unwrap();
    server.join().unwrap();
    told(output)
}

#[test]
fn packages_are_taken_away() {
    let gone = r#"{"uninstall":{"ok":{"container":"b:1.0.0"}}}"#;
    for (flag, request) in [
        ("--", r#"{"uninstall":{"container":"b:1.0.0","wipe":false}}"#),
        ("--wipe", r#"{"uninstall":{"container":"b:1.0.0","wipe":true}}"#),
    ] {
        good(&talk(&["uninstall", flag, "b:1.0.0"], vec![asked(request, gone)]), "");
    }
}

#[test]
fn images_are_mounted_and_each_failure_is_told() {
    let answer = r#"{"mount":[{"ok":{"container":"b:1.0.0"}},{"error":{"container":"a:1.0.0","error":{"mount_busy":{"container":"a:1.0.0"}}}}]}"#;
    let request = r#"{"mount":{"containers":["b:1.0.0","a:1.0.0"]}}"#;
    bad(
        &talk(&["mount", "b", "a:1.0.0"], vec![list(), asked(request, answer)]),
        "cofferctl: mount: a:1.0.0: a:1.0.0 is mounted already\n",
    );
    let answer = r#"{"umount":[{"ok":{"container":"b:1.0.0"}}]}"#;
    let request = r#"{"umount":{"containers":["b:1.0.0"]}}"#;
    good(&talk(&["umount", "b:1.0.0"], vec![asked(request, answer)]), "");
    good(
        &talk(&["umount", "-j", "b:1.0.0"], vec![asked(request, answer)]),
        "[{\"ok\":{\"container\":\"b:1.0.0\"}}]\n",
    );
}

#[test]
fn the_small_questions_are_answered() {
    good(&talk(&["ident"], vec![asked(r#""ident""#, r#"{"ident":"extern:0.0.0"}"#)]), "extern:0.0.0\n");
    good(
        &talk(&["repositories"], vec![asked(r#""repositories""#, r#"{"repositories":["n","m"]}"#)]),
        "m\nn\n",
    );
    good(&talk(&["shutdown"], vec![asked(r#""shutdown""#, r#""shutdown""#)]), "");
    // As the reference does: the daemon ends before it has answered.
    good(&talk(&["shutdown"], vec![Asked(r#""shutdown""#, String::new()), Closed]), "");
}

#[test]
fn tokens_are_made_and_looked_at() {
    const TOKEN: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==";
    let made = asked(
        r#"{"token_create":{"target":"srv","shared":"aGVsbG8h"}}"#,
        r#"{"token":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=="}"#,
    );
    good(&talk(&["token", "srv", "hello!"], vec![made]), &format!("{TOKEN}\n"));
    for (verdict, status) in [("Ok", 0), ("Expired", 1)] {
        let looked = asked(
            r#"{"token_verify":{"token":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==","user":"cli","shared":"aGVsbG8h"}}"#,
            &format!(r#"{{"token_verification":"{verdict}"}}"#),
        );
        let talk = talk(&["verify-token", TOKEN, "cli", "hello!"], vec![looked]);
        assert_eq!((talk.status, talk.out), (Some(status), format!("{verdict}\n")));
    }
    bad(
        &talk(&["verify-token", "x", "cli", "y"], vec![]),
        "cofferctl: verify-token: no token: base64 of 40 bytes is due\n",
    );
}

#[test]
fn what_happens_is_told() {
    let happens = || {
        ["{\"started\":\"b:1.0.0\"}", r#"{"exit":["b:1.0.0",{"signalled":{"signal":9}}]}"#]
            .map(|what| Asked("", format!(r#"{{"notification":{what}}}"#)))
            .into()
    };
    good(
        &talk_as(&["notifications", "-n", "2"], true, happens()),
        "b:1.0.0 was started\nb:1.0.0 was ended by signal 9\n",
    );
    good(
        &talk_as(&["notifications", "--number=2", "-j"], true, happens()),
        "{\"started\":\"b:1.0.0\"}\n{\"exit\":[\"b:1.0.0\",{\"signalled\":{\"signal\":9}}]}\n",
    );
}

#[test]
fn what_is_denied_and_what_does_not_come_is_told() {
    let denied = asked(r#""list""#, r#"{"permission_denied":"list"}"#);
    bad(&talk(&["list"], vec![denied]), "cofferctl: list: permission denied: list is missing\n");
    let start = r#"{"start":{"container":"b:1.0.0","init":null,"arguments":["x"],"environment":{}}}"#;
    let denied = asked(start, &format!(r#"{{"permission_denied":{start}}}"#));
    bad(
        &talk(&["start", "b:1.0.0", "x"], vec![denied]),
        "cofferctl: start: permission denied: start_command is missing\n",
    );
    let silent = vec![Asked(r#""ident""#, String::new())];
    bad(&talk(&["ident", "-t", "50ms"], silent), "cofferctl: ident: the daemon does not answer\n");
    let another = asked(r#""ident""#, r#"{"list":[]}"#);
    bad(
        &talk(&["ident"], vec![another]),
        "cofferctl: ident: the daemon answered another question: {\"list\":[]}\n",
    );
}

#[test]
fn containers_are_offered_at_the_keyboard() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("console");
    let url = format!("unix://{}", socket.display());
    let offered = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cofferctl"));
        told(command.args(["completion", "bash", "--"]).args(words).output().unwrap())
    };
    good(&offered(&["stop", "--url", &url, ""]), "words\n");
    let listener = UnixListener::bind(&socket).unwrap();
    for flag in [["-u".to_owned(), url.clone()].as_slice(), &[format!("--url={url}")]] {
        let listener = listener.try_clone().unwrap();
        let server = thread::spawn(move || serve(&listener, false, vec![list()]));
        let words: Vec<_> = ["stop"].into_iter().chain(flag.iter().map(String::as_str)).chain([""]).collect();
        good(&offered(&words), "words\na:0.9.0\na:1.0.0\nb\n");
        server.join().unwrap();
    }
}

#[test]
fn where_no_daemon_is_the_address_is_told() {
    let output =
        |words: &[&str]| told(Command::new(env!("CARGO_BIN_EXE_cofferctl")).args(words).output().unwrap());
    bad(
        &output(&["list", "-u", "unix:///nowhere/console"]),
        "cofferctl: list: unix:///nowhere/console: No such file or directory (os error 2)\n",
    );
    bad(
        &output(&["list", "-u", "nowhere"]),
        "cofferctl: list: --url: \"nowhere\": tcp://HOST:PORT or unix:///PATH is due\n",
    );
    bad(&output(&["list", "-t", "0s"]), "cofferctl: list: --timeout: \"0s\": a time such as 10s is due\n");
    // What can be nothing but a file is looked for as one.
    assert!(!Path::new("missing.npk").exists());
    bad(
        &output(&["inspect", "missing.npk"]),
        "cofferctl: inspect: missing.npk: No such file or directory (os error 2)\n",
    );
}
