//! A listener outlives a shortage of descriptors. In a process of its own, where they run out for nobody else.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test states what it expects")]

use std::fs::File;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daemon::console::{Buffer, Console, Listener, Options, Rules, bind};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use wire::{Address, Key, Permissions};

#[test]
fn a_listener_lasts_when_descriptors_run_out() {
    // The clock goes on by itself when nobody has anything to do.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.unwrap().block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("console");
        let told = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&told);
        let (console, _calls) = Console::new(
            Key::new([0; 32]),
            Buffer { calls: 1, notifications: 1 },
            Arc::new(move |line| log.lock().unwrap().push(line.to_string())),
        );
        let listener = Listener::new(bind(&Address::Unix(path.clone()), 0o600).unwrap()).unwrap();
        console.listen(listener, Rules { permissions: Permissions::full(), options: Options::default() }, 8);

        let socket =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK, None).unwrap();
        let mut client = UnixStream::from_std(StdStream::from(socket.try_clone().unwrap())).unwrap();
        setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum: Some(64) }).unwrap();
        let full: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
        assert!(!full.is_empty());
        connect(&socket, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        let heard = told.lock().unwrap().clone();
        assert_eq!(heard, ["console: accept: Too many open files (os error 24)"], "once, and not each time");

        drop(full);
        let greeting = b"{\"connect\":{\"version\":\"0.9.2\",\"subscribe_notifications\":false}}\n";
        client.write_all(greeting).await.unwrap();
        let mut answer = [0; 21];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"{\"connect_ack\":null}\n");
    });
}
