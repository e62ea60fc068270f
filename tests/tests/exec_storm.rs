//! A thousand processes into one container, twenty at a time: none stands in another's way, and nothing is left.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use tests::{Bundle, Runtime, Snapshot, figure, needs};

const EXECS: usize = 1000;
const AT_ONCE: usize = 20;

#[test]
fn root_a_thousand_execs_leave_nothing() {
    needs!(Root, Busybox);
    let host = Snapshot::whole();
    {
        let bundle = Bundle::new("storm").shell("exec sleep 1000");
        let container = bundle.container(&Runtime::under_test());
        container.create().success();
        container.start().success();
        let init = container.pid().expect("init lives");
        let (alive, open) = (Snapshot::take(&bundle), descriptors(init));
        let (next, taken) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(EXECS)));
        let work = || {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= EXECS {
                    break;
                }
                let begun = Instant::now();
                if number.is_multiple_of(10) {
                    container.call(&["exec", "--detach", "ID", "/bin/true"]).success();
                } else {
                    let told = container.call(&["exec", "ID", "/bin/echo", "in"]);
                    assert_eq!(told.success().stdout, "in\n");
                    taken.lock().expect("no worker panics with the lock").push(begun.elapsed());
                }
            }
        };
        thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(work);
            }
        });
        let mut taken = taken.into_inner().expect("no worker panics with the lock");
        taken.sort_unstable();
        let at = |share: usize| taken[taken.len() * share / 100];
        figure(&format!(
            "{EXECS} execs into one container, {AT_ONCE} at a time: median {:.1} ms, 99% {:.1} ms",
            at(50).as_secs_f64() * 1e3,
            at(99).as_secs_f64() * 1e3
        ));
        alive.assert_same();
        let left = container.call(&["ps", "--format", "json", "ID"]);
        assert_eq!(left.success().stdout.trim(), format!("[{init}]"));
        assert_eq!(descriptors(init), open, "init has what it had open");
        let us = i32::try_from(std::process::id()).expect("a process id is an i32");
        assert_eq!(zombies_of(&[init, us]), [""; 0]);
        container.delete_force().success();
    }
    host.assert_same();
}

fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).expect("list the descriptors of init").count()
}

/// The children of these that have exited and were not reaped.
fn zombies_of(parents: &[i32]) -> Vec<String> {
    let processes = fs::read_dir("/proc").expect("read /proc").flatten();
    let stats = processes.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    let is_one = |stat: &String| {
        let words: Vec<&str> = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ').collect();
        words.first() == Some(&"Z")
            && words.get(1).and_then(|word| word.parse().ok()).is_some_and(|pid| parents.contains(&pid))
    };
    stats.filter(is_one).collect()
}
