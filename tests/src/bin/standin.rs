//! A stand-in for a virtual machine's monitor: it has threads that are named like a guest's processors, memory that could be
//! a guest's, and opens the devices that it is told to. What it is told stands in its arguments, then in the lines of its
//! standard input; it answers each with a line, and ends with its input, unless it is told to `stay`.
//!
//! | told | does | answers |
//! |---|---|---|
//! | `vcpus N` | has processors 0 to N-1, each a thread that waits | `vcpus N` |
//! | `drop` | ends the last of them | `vcpus N` |
//! | `churn N` | N threads, one after the other, that are named like processors and end at once | `churned N` |
//! | `guest BYTES` | maps memory and touches it | `guest BYTES` |
//! | `open PATH` | opens a file to read | `open PATH ok`, or the number of the error |
//! | `tries MILLISECONDS PATH` | opens a file to read, again and again | `tries OPENED REFUSED` |
//! | `fork` | has a child that waits for ever | `fork PID` |
//! | `burn N` | has processor 0 count for N milliseconds of its own time | `burnt` |
//! | `die CODE` | ends | |
//! | `stay` | waits for ever | |
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    reason = "it answers whoever tells it what to do"
)]

use std::fs::File;
use std::io::{BufRead, Write};
use std::process::{Child, Command, ExitCode};
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

fn main() -> ExitCode {
    let mut monitor = Monitor::default();
    let stdin = std::io::stdin().lock();
    let told = std::env::args().skip(1).map(Ok).chain(stdin.lines());
    for line in told {
        let Ok(line) = line else { break };
        match monitor.does(&line) {
            Ok(answer) => {
                // Who does not listen need not be told.
                let _unheard = std::io::stdout().write_all(format!("{answer}\n").as_bytes());
            }
            Err(why) => {
                eprintln!("standin: {line}: {why}");
                return ExitCode::FAILURE;
            }
        }
    }
    monitor.end();
    ExitCode::SUCCESS
}

#[derive(Default)]
struct Monitor {
    vcpus: Vec<(Sender<u64>, JoinHandle<()>)>,
    children: Vec<Child>,
    memory: Vec<Vec<u8>>,
}

impl Monitor {
    fn does(&mut self, line: &str) -> Result<String, String> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let number = || rest.parse::<usize>().map_err(|error| error.to_string());
        match word {
            "vcpus" => {
                while self.vcpus.len() < number()? {
                    let vcpu = processor(self.vcpus.len())?;
                    self.vcpus.push(vcpu);
                }
                Ok(line.to_owned())
            }
            "drop" => {
                if let Some((orders, thread)) = self.vcpus.pop() {
                    drop(orders);
                    thread.join().map_err(|_| "a processor panicked".to_owned())?;
                }
                Ok(format!("vcpus {}", self.vcpus.len()))
            }
            "churn" => {
                for _ in 0..number()? {
                    let (orders, thread) = processor(99)?;
                    drop(orders);
                    thread.join().map_err(|_| "a processor panicked".to_owned())?;
                }
                Ok(format!("churned {rest}"))
            }
            "guest" => {
                let mut memory = vec![0_u8; number()?];
                memory.iter_mut().step_by(4096).for_each(|page| *page = 1);
                self.memory.push(memory);
                Ok(line.to_owned())
            }
            "open" => Ok(match File::open(rest) {
                Ok(_) => format!("open {rest} ok"),
                Err(error) => format!("open {rest} {}", error.raw_os_error().unwrap_or(-1)),
            }),
            "tries" => {
                let (limit, path) = rest.split_once(' ').ok_or("how long, and what?")?;
                let limit = Duration::from_millis(limit.parse().map_err(|_| "no time")?);
                let (mut opened, mut refused, begun) = (0, 0, Instant::now());
                while begun.elapsed() < limit {
                    *(if File::open(path).is_ok() { &mut opened } else { &mut refused }) += 1;
                }
                Ok(format!("tries {opened} {refused}"))
            }
            "fork" => {
                let child = Command::new("sleep").arg("1000").spawn().map_err(|error| error.to_string())?;
                let told = format!("fork {}", child.id());
                self.children.push(child);
                Ok(told)
            }
            "burn" => {
                let (orders, _) = self.vcpus.first().ok_or("there is no processor")?;
                orders.send(u64::try_from(number()?).unwrap_or(0)).map_err(|error| error.to_string())?;
                Ok("burnt".to_owned())
            }
            "die" => std::process::exit(i32::try_from(number()?).unwrap_or(1)),
            "stay" => loop {
                thread::park();
            },
            _ => Err("nobody understands that".into()),
        }
    }

    fn end(&mut self) {
        for child in &mut self.children {
            // One that is gone was ended by somebody else.
            let _ended = child.kill().and_then(|()| child.wait());
        }
    }
}

/// A thread that is named as qemu names its own, and lives as long as somebody may give it orders.
fn processor(number: usize) -> Result<(Sender<u64>, JoinHandle<()>), String> {
    let (orders, take) = channel::<u64>();
    let work = move || {
        while let Ok(milliseconds) = take.recv() {
            let begun = own_time();
            while own_time() - begun < milliseconds {}
        }
    };
    let named = thread::Builder::new().name(format!("CPU {number}/TCG")).spawn(work);
    named.map(|thread| (orders, thread)).map_err(|error| error.to_string())
}

/// Milliseconds that this thread has run.
fn own_time() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec * 1000 + time.tv_nsec / 1_000_000).unwrap_or(0)
}
