//! How long a filter takes that is compiled, that is kept, and that libseccomp makes; and how far a call has to go in it.
//! Nothing is asserted of time: `cargo test --release -p state --test figures -- --nocapture` prints the tables of
//! docs/bench.md.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a test states what it expects, and tells what it measured"
)]

#[path = "../../filter/tests/engine/mod.rs"]
mod engine;
#[path = "../../filter/tests/machine/mod.rs"]
mod machine;
#[path = "../../filter/tests/peer/mod.rs"]
mod peer;

use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};

use filter::seccomp::{Arch, Instruction, Key, Profile, compile, key, pack, unpack};
use machine::{Call, run};
use state::Kept;

/// What servers and shells ask most.
const FREQUENT: [&str; 10] =
    ["read", "write", "futex", "epoll_wait", "recvfrom", "sendto", "openat", "close", "mmap", "ioctl"];

/// Named in the environment of a process that measures one thing once, as a command does: nothing is warm.
const ONCE: &str = "COFFERDAM_FIGURE";

const MEASURED: [&str; 3] = ["libseccomp", "compiled", "kept"];

fn docker(published: &serde_json::Value) -> Profile<'_> {
    engine::profile(published, Arch::X86_64, "amd64", |cap| engine::USUAL.contains(&cap))
}

/// What a command does for a filter that is kept: its key, the file with all that is looked at, and what is in it.
fn found(root: &str, profile: &Profile) -> Option<Vec<Instruction>> {
    let key = key(profile, Arch::X86_64);
    let kept = Kept::open(root).expect("a look")?;
    unpack(&key, &kept.find(&key.to_string()).expect("a look")?)
}

fn make(how: &str, root: &str, profile: &Profile) -> Vec<Instruction> {
    match how {
        "libseccomp" => peer::compile(profile, Arch::X86_64).expect("libseccomp takes it"),
        "compiled" => compile(profile, Arch::X86_64).expect("a filter"),
        _ => found(root, profile).expect("it is kept"),
    }
}

/// How long it takes a process that has done nothing before, and one that has done it often: medians.
fn took(how: &str, root: &str, profile: &Profile) -> [Duration; 2] {
    let median = |mut all: Vec<Duration>| {
        all.sort_unstable();
        all[all.len() / 2]
    };
    let ourselves = std::env::current_exe().expect("a program");
    let cold = (0..25).map(|_| {
        let mut command = Command::new(&ourselves);
        command
            .args(["--exact", "filters_by_time_and_steps", "--nocapture"])
            .env(ONCE, format!("{how} {root}"));
        let output = command.output().expect("ourselves, once more");
        let text = String::from_utf8(output.stdout).expect("text");
        let line = text.lines().find_map(|line| line.split_once("nanoseconds: "));
        Duration::from_nanos(line.expect("a figure").1.parse().expect("a number"))
    });
    let cold = median(cold.collect());
    let warm = (0..50).map(|_| {
        let started = Instant::now();
        black_box(make(how, root, profile));
        started.elapsed()
    });
    [cold, median(warm.collect())]
}

#[test]
fn filters_by_time_and_steps() {
    let published = engine::published();
    let (_, published) = &published[0];
    let mut profile = docker(published);
    // What libseccomp does not know it has not to compile.
    profile.rules.iter_mut().for_each(|rule| rule.names.retain(|name| peer::knows(name)));
    profile.rules.retain(|rule| !rule.names.is_empty());
    if let Ok(asked) = std::env::var(ONCE) {
        let (how, root) = asked.split_once(' ').expect("what, and where");
        let started = Instant::now();
        black_box(make(how, root, &profile));
        println!("\nnanoseconds: {}", started.elapsed().as_nanos());
        return;
    }
    let place = tempfile::tempdir().expect("a directory");
    let root = place.path().to_str().expect("a plain path");
    let key: Key = key(&profile, Arch::X86_64);
    let ours = compile(&profile, Arch::X86_64).expect("a filter");
    let kept = Kept::provide(root).expect("a directory").expect("it is ours");
    assert!(kept.keep(&key.to_string(), &pack(&key, &ours)).expect("kept"));
    assert_eq!(found(root, &profile).as_ref(), Some(&ours));

    println!("| Docker's profile | instructions | in a new process | warm |\n|---|---|---|---|");
    for how in MEASURED {
        let length = make(how, root, &profile).len();
        let [cold, warm] = took(how, root, &profile).map(|took| took.as_nanos() / 1000);
        println!("| {how} | {length} | {cold} us | {warm} us |");
    }
    let theirs = make("libseccomp", root, &profile);
    println!("\n| call | ours | libseccomp |\n|---|---|---|");
    let mut sums = [0, 0];
    for name in FREQUENT {
        let number = Arch::X86_64.call(name).expect("a call");
        let call = Call { number, audit: Arch::X86_64.audit(), arguments: [0; 6] };
        let steps = [&ours, &theirs].map(|program| run(program, &call).steps);
        sums = [sums[0] + steps[0], sums[1] + steps[1]];
        println!("| {name} | {} | {} |", steps[0], steps[1]);
    }
    println!("| all ten | {} | {} |", sums[0], sums[1]);
    assert!(sums[0] < sums[1], "a balanced tree is the shorter way: {sums:?}");
}
