//! `try`: a throw-away container.
//!
//! Its bundle lies in a tmpfs that is mounted in a mount namespace of this process alone: the host never sees it, and
//! the kernel takes it away when we end, however we end. All signals stay blocked from the first side effect to the
//! last undoing; while the program runs they are read and passed on, before that they are looked for.

mod alone;
mod archive;
mod document;
mod skeleton;

use container::{Containers, Order, Throwaway, plan_bundle};
use plan::systemd::Bus;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::geteuid;
use rustix::rand::{GetRandomFlags, getrandom};
use sys::{Called, Mask, SignalFd, asks_to_end, block_signals};

use super::{Complaint, Outcome, text};
use crate::invocation::{Global, Try};
use crate::log::Log;
use crate::root::{Origin, StateRoot};

pub(super) fn run(global: &Global, attempt: &Try, log: &mut Log) -> Outcome {
    sys::seal()?;
    let root = StateRoot::find(global.root.as_deref())?;
    let directory = text(&root.directory, "--root")?;
    let containers = Containers::under(directory.as_str()).sticky(root.origin == Origin::User);
    let id = match &attempt.name {
        Some(name) => name.clone(),
        None => made_up()?,
    };
    let is_alone = !geteuid().is_root();
    if is_alone {
        alone::leave_users().map_err(in_try)?;
    }
    let systemd = super::systemd(global)?;
    // What the caller typed is relative to here, and the bundle will be elsewhere.
    let document = document::Draft::of(attempt, &id, is_alone)?;

    let mask = block_signals()?;
    containers.adopt_orphans().map_err(|error| error.while_doing("try"))?;
    for warning in containers.sweep_throwaways(PREFIX) {
        log.warning(&format!("try: {warning}"));
    }
    let place = containers.throwaway(PREFIX, &id).map_err(in_try)?;
    let outcome =
        Run { attempt, containers: &containers, id: &id, mask, place: &place, systemd }.whole(document, log);
    match (outcome, place.remove()) {
        (outcome, Ok(())) => outcome,
        (Ok(_), Err(failed)) => Err(in_try(failed)),
        (Err(mut complaint), Err(failed)) => {
            complaint.told = format!("{}; undoing it: {failed}", complaint.told);
            Err(complaint)
        }
    }
}

/// What the directory of a throw-away bundle begins with.
const PREFIX: &str = ".try-";

/// One run, with the directory that it happens in.
struct Run<'a> {
    attempt: &'a Try,
    containers: &'a Containers,
    id: &'a str,
    mask: Mask,
    place: &'a Throwaway,
    systemd: Option<Vec<Bus>>,
}

impl Run<'_> {
    fn whole(&self, document: document::Draft, log: &mut Log) -> Outcome {
        let interrupt = Interrupt(SignalFd::open()?);
        let rootfs = self.place.rootfs();
        let spec = match (&self.attempt.rootfs, &self.attempt.tar) {
            (Some(_), _) => document.finish(Vec::new()),
            (None, Some(file)) => {
                archive::unpack(file, &rootfs, &interrupt, log)?;
                document.finish(Vec::new())
            }
            (None, None) => document
                .finish(skeleton::build(&rootfs, self.id).map_err(|why| Complaint::new(why.to_string()))?),
        };
        self.place.write_config(&spec).map_err(in_try)?;
        interrupt.check()?;
        self.live(log).map_err(|error| error.while_doing("try").into())
    }

    /// From the bundle to the program's end, and back to no container.
    fn live(&self, log: &mut Log) -> Result<u8, container::Error> {
        let bundle = Some(self.place.path().to_owned());
        let systemd = self.systemd.clone();
        let order = Order { id: self.id.to_owned(), bundle, systemd, ..Order::default() };
        let plan = plan_bundle(&order)?;
        let mut created = self.containers.create_blocked(&plan, self.mask)?;
        created.warnings.iter().for_each(|warning| log.warning(warning));
        let mut asked = None;
        let init = created.pid;
        let exit = self.containers.attend(&mut created, |signal| {
            if !asks_to_end(signal) {
                return Ok(signal);
            }
            // A shell keeps Ctrl-C for later while it waits for a command, which has not heard of it: there is no
            // terminal whose processes all would. Who asks a second time is not to wait for ever.
            let is_second = asked.replace(signal).is_some();
            Ok(if is_second || !is_handled(init, signal)? { KILL } else { signal })
        });
        let removed = self.containers.delete(self.id, true);
        let code = exit?.code();
        removed?;
        Ok(asked.filter(|_| code == status_of(KILL)).map_or(code, status_of))
    }
}

const KILL: i32 = 9;

/// Whether the program does anything of its own about a signal, be it to ignore it. The first process of a pid
/// namespace gets no signal that it has no handler for: what would end it elsewhere is lost there, and the person who
/// typed Ctrl-C waits for ever. The number is our unreaped child's, so it is nobody else's.
fn is_handled(pid: i32, signal: i32) -> Result<bool, container::Error> {
    let status = probe::read_text(&format!("/proc/{pid}/status"))?;
    let sets = ["SigCgt:", "SigIgn:"];
    let words = status.lines().filter_map(|line| sets.iter().find_map(|name| line.strip_prefix(name)));
    let handled =
        words.filter_map(|word| u64::from_str_radix(word.trim(), 16).ok()).fold(0, |all, set| all | set);
    Ok(handled & (1 << (signal - 1)) != 0)
}

/// What a shell makes of an end by signal.
fn status_of(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

/// Signals that came before there was anybody to pass them to.
struct Interrupt(SignalFd);

impl Interrupt {
    /// An error if somebody wants us to end.
    fn check(&self) -> Result<(), Complaint> {
        loop {
            let mut signals = [PollFd::new(&self.0, PollFlags::IN)];
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            if poll(&mut signals, Some(&now)).called(|| "poll(signalfd)")? == 0 {
                return Ok(());
            }
            let signal = self.0.next_signal()?;
            if asks_to_end(signal) {
                let told = format!("try: ended by signal {signal} before the program ran");
                return Err(Complaint { status: status_of(signal), ..Complaint::new(told) });
            }
        }
    }
}

fn made_up() -> Result<String, Complaint> {
    let mut bytes = [0; 4];
    getrandom(&mut bytes, GetRandomFlags::empty()).called(|| "getrandom()")?;
    Ok(format!("try-{:08x}", u32::from_ne_bytes(bytes)))
}

fn in_try(failed: sys::Failed) -> Complaint {
    failed.while_doing("try").into()
}
