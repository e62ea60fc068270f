//! `setkey SOCKET ID`: a hook in the shape of Docker's `libnetwork-setkey`. It reads the state from its stdin, tells the
//! engine behind the socket where the container's network namespace is, and waits until that has set it up.
#![allow(clippy::print_stderr, reason = "what a hook says is told by the runtime")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use serde_json::{Value, json};

fn main() -> ExitCode {
    match set_key() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("setkey: {why}");
            ExitCode::FAILURE
        }
    }
}

fn set_key() -> Result<(), String> {
    let words: Vec<String> = std::env::args().collect();
    let [name, socket, id] = words.as_slice() else { return Err(format!("called as {words:?}")) };
    if name != "libnetwork-setkey" {
        return Err(format!("called as {name}"));
    }
    let state: Value =
        serde_json::from_reader(std::io::stdin()).map_err(|error| format!("state: {error}"))?;
    let pid = state["pid"].as_i64().ok_or_else(|| format!("no pid in {state}"))?;
    let key = format!("/proc/{pid}/ns/net");
    let mut engine = UnixStream::connect(socket).map_err(|error| format!("{socket}: {error}"))?;
    let told = json!({"ContainerID": id, "Key": key}).to_string();
    engine.write_all(told.as_bytes()).map_err(|error| error.to_string())?;
    engine.shutdown(std::net::Shutdown::Write).map_err(|error| error.to_string())?;
    let mut answer = String::new();
    engine.read_to_string(&mut answer).map_err(|error| error.to_string())?;
    if answer == "success" { Ok(()) } else { Err(format!("the engine says {answer:?}")) }
}
