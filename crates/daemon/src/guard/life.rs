//! Containers: each from the word to start it until nothing is left of it.

use std::collections::BTreeSet;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Instant;

use engine::Work;
use package::{Manifest, Mount};
use semver::VersionReq;
use sys::{Called as _, Errno, Failed, SIGCONT, SIGKILL, SIGSTOP};

use super::run::{self, Container, Order, Phase};
use super::shutdown::Ending;
use super::{Answer, Asked, Guard, Image, Task, debug, house, memory, output};
use crate::log;
use crate::words::{Ended, Failure, Kind, Start, Status, Told, UNASKED};

const ABOUT_TO_END: &str = "the daemon is about to end";

impl Guard<'_> {
    pub(super) fn start(&mut self, asked: Asked, start: &Start, console: Option<OwnedFd>) -> Answer {
        if self.ending.is_some() {
            return Err(Failure::new(Kind::Busy, ABOUT_TO_END));
        }
        let manifest = self.package(&start.container)?.1.clone();
        if let Some(other) = self.containers.get(&manifest.name) {
            let told = format!("{} is there already", other.package);
            return Err(Failure::new(Kind::Running, told).about(other.package.clone()));
        }
        self.check_mounted(&start.container)?;
        self.check_resources(&manifest, start)?;
        check_console(&manifest, console.as_ref())?;
        let name = manifest.name.clone();
        let order = Order {
            manifest,
            start,
            console,
            null: self.null.as_fd(),
            is_accompanied: !self.commands.is_empty(),
            asked,
        };
        let begun = Container::begin(&self.house, order);
        let (container, work) = begun.map_err(|failure| Failure { kind: Kind::Start, ..failure })?;
        self.containers.insert(name.clone(), container);
        self.hire(work, None, Task::Make(name));
        Ok(None)
    }

    fn check_mounted(&self, container: &str) -> Result<(), Failure> {
        match self.images.get(container) {
            Some(Image::Mounted) => Ok(()),
            _ => Err(Failure::new(Kind::NotMounted, format!("{container} is not mounted")).about(container)),
        }
    }

    /// Each resource that the manifest names is lent by a package that may be the one that is meant, and is mounted.
    fn check_resources(&self, manifest: &Manifest, start: &Start) -> Result<(), Failure> {
        let mut meant = BTreeSet::new();
        for (target, mount) in &manifest.mounts {
            let Mount::Resource { name, version, .. } = mount else { continue };
            let lender = start.resources.get(target).ok_or_else(|| {
                Failure::new(Kind::Invalid, format!("no package was named for the resource on {target}"))
            })?;
            let lent = self.package(lender)?.1;
            if lent.name != *name || !is_within(lent, version) {
                let told = format!("{lender} is not {name} {version}, which is to be on {target}");
                return Err(Failure::new(Kind::Invalid, told).about(lender.clone()));
            }
            self.check_mounted(lender)?;
            meant.insert(target);
        }
        match start.resources.keys().find(|target| !meant.contains(target)) {
            Some(target) => Err(Failure::new(Kind::Invalid, format!("no resource is to be on {target:?}"))),
            None => Ok(()),
        }
    }

    pub(super) fn running(&mut self, container: &str) -> Result<&mut Container, Failure> {
        let name = self.package(container)?.1.name.clone();
        let running = self.containers.get_mut(&name);
        let running = running.filter(|one| one.package == container && one.phase == Phase::Running);
        running.ok_or_else(|| Failure::new(Kind::NotRunning, format!("{container} does not run")))
    }

    pub(super) fn signal(&mut self, asked: Asked, container: &str, signal: i32) -> Answer {
        if !(1..=31).contains(&signal) {
            return Err(Failed::call(format!("kill({container}, {signal})"), Errno::INVAL).into());
        }
        let asks = self.package(container)?.1.upkeep.stop.is_asked_by(signal);
        let running = self.running(container)?;
        running.was_asked |= asks;
        if signal == SIGSTOP || signal == SIGCONT && running.is_frozen {
            // It would stop the attendant, and nobody else.
            return self.freeze(asked, container, signal == SIGSTOP);
        }
        if signal == SIGKILL && running.is_frozen {
            let work = running.task.kill(signal, false)?;
            self.hire(work, None, Task::Kill(container.to_owned()));
        } else if let Some((_, init)) = &running.init {
            run::signal(init, signal)?;
        }
        Ok(Some(Told::Done))
    }

    /// The next talker hears it too.
    pub(super) fn rest(&mut self, container: &str) -> Answer {
        let ended = self.ended.get_mut(container);
        let ended =
            ended.ok_or_else(|| Failure::new(Kind::NotRunning, format!("{container} has not run")))?;
        ended.was_asked = true;
        Ok(Some(Told::Done))
    }

    pub(super) fn freeze(&mut self, asked: Asked, container: &str, is_on: bool) -> Answer {
        let running = self.running(container)?;
        let work = if is_on { running.task.pause()? } else { running.task.resume()? };
        // Said before it is so: who kills it looks here, and one who thaws too much harms nobody.
        running.is_frozen |= is_on;
        self.hire(work, Some(asked), Task::Freeze(container.to_owned(), is_on));
        Ok(None)
    }

    pub(super) fn statistics(&mut self, container: &str) -> Answer {
        let watched = self.running(container)?.task.watched()?;
        let (figures, details) = (watched.statistics().map_err(engine::Error::from)?, watched.details());
        let details = details.map_err(engine::Error::from)?;
        Ok(Some(Told::Statistics(engine::metrics::northstar::statistics(&figures, &details))))
    }

    /// Its program runs; or its first process is there and waits, for its memory is to be watched from the first page on.
    pub(super) fn made(&mut self, name: &str, outcome: Result<(), Failure>) {
        if let Err(failure) = outcome {
            return self.give_up(name, failure);
        }
        let Some(container) = self.containers.get_mut(name) else { return };
        if !container.awaits_watch {
            let runs = self.commands.is_empty();
            return if runs { self.started(name, Ok(())) } else { self.launch(name) };
        }
        container.phase = Phase::Watching;
        let task = container.task.clone();
        match Work::run(&self.mask, &[], |bench| memory::watch(&task, bench)) {
            Ok(work) => {
                container.is_watched = true;
                self.hire(work, None, Task::Watch(name.to_owned()));
            }
            Err(error) => self.give_up(name, error.into()),
        }
    }

    /// Who watches a container's memory has something to tell: first, that it watches.
    pub(super) fn heed_watch(&mut self, name: &str, text: &str) {
        let Some(container) = self.containers.get(name) else { return };
        if container.phase == Phase::Watching {
            if !text.is_empty() {
                log::say(&format!("{}: no pressure will be told: {text}", container.package));
            }
            return self.launch(name);
        }
        // Our own worker wrote it, next to the container's groups: not in the container.
        if let Ok(counts) = serde_json::from_str::<wire::Memory>(text) {
            let container = container.package.clone();
            if counts.pressure.is_none() {
                log::say(&format!("{container} is out of memory"));
            }
            self.tell(UNASKED, &Told::Memory { container, counts });
        }
    }

    pub(super) fn unwatched(&mut self, name: &str, outcome: Result<(), Failure>) {
        let Some(container) = self.containers.get_mut(name) else { return };
        container.is_watched = false;
        if let Err(failure) = outcome {
            log::say(&format!("watch the memory of {}: {failure}", container.package));
        }
        match container.phase {
            Phase::Watching => self.launch(name),
            Phase::Ending => self.remove(name),
            _ => {}
        }
    }

    pub(super) fn launch(&mut self, name: &str) {
        let Some(container) = self.containers.get_mut(name) else { return };
        if container.phase != Phase::Accompanying && !self.commands.is_empty() {
            return self.accompany(name);
        }
        container.phase = Phase::Starting;
        if self.ending.is_some() {
            return self.give_up(name, Failure::new(Kind::Busy, ABOUT_TO_END));
        }
        match container.task.start() {
            Ok(work) => self.hire(work, None, Task::Start(name.to_owned())),
            Err(error) => self.give_up(name, error.into()),
        }
    }

    pub(super) fn started(&mut self, name: &str, outcome: Result<(), Failure>) {
        if let Err(failure) = outcome {
            return self.give_up(name, failure);
        }
        if self.ending.as_ref().is_some_and(Ending::is_tearing_down) {
            // Nobody would end it any more.
            return self.give_up(name, Failure::new(Kind::Busy, ABOUT_TO_END));
        }
        let Some(container) = self.containers.get_mut(name) else { return };
        container.phase = Phase::Running;
        container.since = Instant::now();
        // As long as it does not run, it is known how it has run before.
        self.ended.remove(&container.package);
        let (asked, pid) = (container.asked.take(), container.pid.unsigned_abs());
        log::say(&format!("started {}, process {pid}", container.package));
        let has_ended = container.status.is_some();
        self.answer(asked, &Told::Started { pid });
        if has_ended {
            self.end(name);
        }
    }

    /// It does not come to run.
    pub(super) fn give_up(&mut self, name: &str, failure: Failure) {
        if let Some(container) = self.containers.get_mut(name) {
            container.failure = Some(Failure { kind: Kind::Start, ..failure });
            self.end(name);
        }
    }

    /// The program is no more: the rest of its container goes while its attendant does.
    pub(super) fn heed_end(&mut self, name: &str) {
        let Some(container) = self.containers.get_mut(name) else { return };
        container.hear_end();
        if container.status.is_some() && container.phase == Phase::Running {
            self.end(name);
        }
    }

    pub(super) fn heed_exit(&mut self, name: &str) {
        let Some(container) = self.containers.get_mut(name) else { return };
        let Some((_, process)) = container.init.take() else { return };
        let exit = process.reap().or_else(|failed| match process.exit() {
            // Somebody reaped it before we knew whose it was.
            Ok(Some(exit)) => Ok(exit),
            _ => Err(failed),
        });
        let unknown = |failed: Failed| {
            log::say(&format!("how {} ended is not known: {failed}", container.package));
            Status::Signal(SIGKILL)
        };
        let status = exit.map_or_else(unknown, Status::from);
        container.hear_end_of(status);
        if container.phase == Phase::Running {
            self.end(name);
        }
    }

    /// Its program is no more, or will never be.
    fn end(&mut self, name: &str) {
        let Some(container) = self.containers.get_mut(name) else { return };
        container.phase = Phase::Ending;
        if container.failure.is_some()
            && let Some((_, init)) = &container.init
            && let Err(failed) = run::signal(init, SIGKILL)
        {
            log::say(&format!("kill {}: {failed}", container.package));
        }
        // What its memory has come to is told before its end.
        if !container.is_watched {
            self.remove(name);
        }
    }

    fn remove(&mut self, name: &str) {
        let Some(container) = self.containers.get(name) else { return };
        let (task, bundle) = (container.task.clone(), container.bundle.clone());
        let work = Work::run(&self.mask, &[], |_| {
            let mut warnings = task.delete_now(None)?;
            warnings.extend(house::remove_bundle(&bundle).err().map(|failed| failed.to_string()));
            Ok(warnings)
        });
        match work {
            Ok(work) => self.hire(work, None, Task::Delete(name.to_owned())),
            Err(error) => self.deleted(name, Err(error.into())),
        }
    }

    /// Nothing is left of it; or what is left, the next start finds.
    pub(super) fn deleted(&mut self, name: &str, outcome: Result<(), Failure>) {
        let Some(mut container) = self.containers.remove(name) else { return };
        if let Err(failure) = outcome {
            log::say(&format!("remove {}: {failure}", container.package));
        }
        if let Some((_, init)) = &container.init {
            // Deleted, it is dead; it is reaped with the strays.
            match init.exit().ok().flatten() {
                Some(exit) => container.hear_end_of(exit.into()),
                None => container.hear_end(),
            }
        }
        if let Some(output) = container.outputs.remove(debug::OUTPUT) {
            self.parting.push(debug::Parting::begin(std::mem::take(&mut container.companions), output));
        }
        std::mem::take(&mut container.outputs).into_values().for_each(output::Output::finish);
        let (package, asked) = (container.package.clone(), container.asked);
        let (failure, status, was_asked) = (container.failure.take(), container.status, container.was_asked);
        // The sockets go before anybody hears that it is gone.
        drop(container);
        if let Some(failure) = failure {
            log::say(&format!("start {package}: {failure}"));
            self.answer(asked, &Told::Failed(failure));
        } else {
            let status = status.unwrap_or(Status::Signal(SIGKILL));
            log::say(&format!("{package} has ended: {status}"));
            self.ended.insert(package.clone(), Ended { status, was_asked });
            self.tell(UNASKED, &Told::Exited { container: package, status });
        }
    }

    pub(super) fn heed_output(&mut self, name: &str, stream: &'static str) {
        let Some(container) = self.containers.get_mut(name) else { return };
        let is_over = container.outputs.get_mut(stream).is_some_and(|output| !output.pass());
        if is_over {
            container.outputs.remove(stream);
        }
    }
}

fn is_within(manifest: &Manifest, versions: &str) -> bool {
    VersionReq::parse(versions).is_ok_and(|versions| manifest.version.satisfies(&versions))
}

/// The descriptor that a container gets as its console, where it has one: a connected stream socket.
fn check_console(manifest: &Manifest, console: Option<&OwnedFd>) -> Result<(), Failure> {
    let invalid = |text: &str| Err(Failure::new(Kind::Invalid, text));
    match (&manifest.console, console) {
        (None, None) => Ok(()),
        (None, Some(_)) => invalid("a socket came with the word, and the manifest has no console"),
        (Some(_), None) => invalid("the manifest has a console, and no socket came with the word"),
        (Some(_), Some(console)) => {
            use rustix::net::sockopt::{socket_domain, socket_type};
            let is_stream = socket_type(console) == Ok(rustix::net::SocketType::STREAM)
                && socket_domain(console) == Ok(rustix::net::AddressFamily::UNIX);
            if !is_stream {
                return invalid("what came with the word is no stream socket");
            }
            // As programs expect what they inherit: who wants it otherwise says so.
            Ok(rustix::io::ioctl_fionbio(console, false).called(|| "ioctl(FIONBIO)")?)
        }
    }
}
