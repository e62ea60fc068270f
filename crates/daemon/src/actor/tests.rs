use std::time::Duration;

use super::*;
use crate::words;

const SECOND: Duration = Duration::from_secs(1);

/// An actor, and what it has said.
struct Play {
    actor: Actor,
    now: Duration,
    said: Vec<Action>,
}

/// A package of this name and version, with more lines in its manifest.
fn package(container: &str, more: &str) -> Installed {
    let (name, version) = container.split_once(':').unwrap_or((container, "1.0.0"));
    let manifest = format!("name: {name}\nversion: {version}\nuid: 1\ngid: 1\n{more}");
    Installed {
        container: format!("{name}:{version}"),
        repository: "main".to_owned(),
        manifest,
        is_mounted: false,
        process: None,
        ended: None,
    }
}

fn program(container: &str, more: &str) -> Installed {
    package(container, &format!("init: /a\n{more}"))
}

fn play(packages: Vec<Installed>) -> Play {
    let found = Found { repositories: vec!["main".to_owned()], packages, is_first: true, ..Found::default() };
    Play::of(found)
}

fn container(name: &str) -> Container {
    let name = if name.contains(':') { name.to_owned() } else { format!("{name}:1.0.0") };
    named(&name).unwrap_or_else(|why| unreachable!("{why}"))
}

impl Play {
    fn of(found: Found) -> Self {
        let now = 1000 * SECOND;
        let mut actor = Actor::new(now, found);
        let said = actor.begin(now);
        Self { actor, now, said }
    }

    fn ask(&mut self, call: u64, request: Request) {
        let said = self.actor.hear(self.now, Event::Call { call, request });
        self.said.extend(said);
    }

    fn start(&mut self, call: u64, name: &str) {
        self.ask(call, Request::Start(Start::plain(container(name))));
    }

    fn kill(&mut self, call: u64, name: &str, signal: i32) {
        self.ask(call, Request::Kill { container: container(name), signal });
    }

    fn tell(&mut self, number: u64, told: Told) {
        let said = self.actor.hear(self.now, Event::Told { number, told });
        self.said.extend(said);
    }

    /// All time that passes until something is due, and a little more of it where nothing is.
    fn wait(&mut self) -> Duration {
        let due = self.actor.due().unwrap_or(self.now);
        let waited = due.saturating_sub(self.now);
        self.now = self.now.max(due);
        let said = self.actor.hear(self.now, Event::Due);
        self.said.extend(said);
        waited
    }

    /// What the guard was asked since this was asked last, as lines.
    fn words(&mut self) -> Vec<String> {
        self.numbered().into_iter().map(|(_, word)| word).collect()
    }

    fn numbered(&mut self) -> Vec<(u64, String)> {
        let (words, rest) = std::mem::take(&mut self.said)
            .into_iter()
            .partition(|action| matches!(action, Action::Say { .. } | Action::Install { .. }));
        self.said = rest;
        let words: Vec<Action> = words;
        words.iter().filter_map(line).collect()
    }

    /// Answers what the guard was asked, each by what `told` makes of it, and so on until it is asked nothing more.
    fn guard(&mut self, told: impl Fn(&str) -> Told) {
        loop {
            let words = self.numbered();
            if words.is_empty() {
                return;
            }
            for (number, word) in words {
                self.tell(number, told(&word));
            }
        }
    }

    /// The guard does whatever it is asked.
    fn guard_does(&mut self) {
        self.guard(well);
    }

    fn ends(&mut self, name: &str, status: words::Status) {
        self.tell(words::UNASKED, Told::Exited { container: container(name).to_string(), status });
    }

    /// What this call was answered.
    fn answer(&self, call: u64) -> Option<&Response> {
        self.said.iter().find_map(|action| match action {
            Action::Answer { call: answered, response } if *answered == call => Some(response),
            _ => None,
        })
    }

    #[track_caller]
    fn assert_refused(&self, call: u64, error: &Error) {
        let told = match self.answer(call) {
            Some(
                Response::Start(Outcome::Error { error, .. })
                | Response::Kill(Outcome::Error { error, .. })
                | Response::Uninstall(Outcome::Error { error, .. })
                | Response::Install(wire::Installed::Error { error })
                | Response::Inspect(Inspected::Error { error, .. }),
            ) => Some(error),
            Some(Response::Mount(all) | Response::Umount(all)) => {
                all.iter().find_map(|outcome| match outcome {
                    Outcome::Error { error, .. } => Some(error),
                    Outcome::Ok { .. } => None,
                })
            }
            _ => None,
        };
        assert_eq!(told, Some(error), "{:?}", self.answer(call));
    }

    #[track_caller]
    fn assert_started(&self, call: u64, name: &str) {
        let response = Response::Start(Outcome::Ok { container: container(name) });
        assert_eq!(self.answer(call), Some(&response));
    }

    fn heard(&self) -> Vec<String> {
        let told = self.said.iter().filter_map(|action| match action {
            Action::Notify(notification) => Some(format!("{notification:?}")),
            _ => None,
        });
        told.collect()
    }

    fn over(&self) -> Option<Result<(), String>> {
        self.said.iter().find_map(|action| match action {
            Action::Over(outcome) => Some(outcome.clone()),
            _ => None,
        })
    }
}

fn line(action: &Action) -> Option<(u64, String)> {
    let (number, word) = match action {
        Action::Say { number, word } => (*number, word),
        Action::Install { number, repository, .. } => {
            return Some((*number, format!("install {repository}")));
        }
        _ => return None,
    };
    let text = match word {
        Word::Mount { container, .. } => format!("mount {container}"),
        Word::Umount { container } => format!("umount {container}"),
        Word::Start(start) => {
            let resources = start.resources.iter().map(|(target, used)| format!(" {target}={used}"));
            format!("start {}{}", start.container, resources.collect::<String>())
        }
        Word::Signal { container, signal } => format!("signal {container} {signal}"),
        Word::Uninstall { container, wipe } => format!("uninstall {container} {wipe}"),
        Word::Rest { container } => format!("rest {container}"),
        Word::Statistics { container } => format!("statistics {container}"),
        other => format!("{other:?}"),
    };
    Some((number, text))
}

fn well(word: &str) -> Told {
    match word.split(' ').next() {
        Some("start") => Told::Started { pid: 7 },
        Some("statistics") => Told::Statistics(serde_json::json!({"cpu": {}})),
        _ => Told::Done,
    }
}

fn failed(kind: Kind) -> Told {
    Told::Failed(Failure::new(kind, "mount: EIO"))
}

#[test]
fn a_start_mounts_what_it_needs_and_then_starts() {
    let needs = "mounts: {/r: {type: resource, name: r, version: '>=1', dir: /}}\n";
    let mut play = play(vec![program("a", needs), package("r", "")]);
    play.start(1, "a");
    let words = play.numbered();
    let lines: Vec<_> = words.iter().map(|(_, word)| word.as_str()).collect();
    assert_eq!(lines, ["mount a:1.0.0", "mount r:1.0.0"]);
    play.tell(words[1].0, Told::Done);
    assert!(play.words().is_empty(), "one image is still missing");
    play.tell(words[0].0, Told::Done);
    let words = play.numbered();
    assert_eq!(words[0].1, "start a:1.0.0 /r=r:1.0.0");
    assert_eq!(play.answer(1), None);
    play.tell(words[0].0, Told::Started { pid: 7 });
    play.assert_started(1, "a");
    assert_eq!(play.heard(), [format!("{:?}", Notification::Started(container("a")))]);
}

#[test]
fn the_highest_version_of_a_resource_is_taken() {
    let needs = "mounts: {/r: {type: resource, name: r, version: '>=1.0.0, <3.0.0', dir: /}}\n";
    let versions = ["r:0.9.0", "r:1.0.0", "r:2.10.0", "r:2.9.0", "r:3.0.0"].map(|name| package(name, ""));
    let mut play = play([vec![program("a", needs)], versions.to_vec()].concat());
    play.start(1, "a");
    assert_eq!(play.words(), ["mount a:1.0.0", "mount r:2.10.0"]);
}

#[test]
fn what_cannot_be_started_is_told_in_the_clients_words() {
    let needs = "mounts: {/r: {type: resource, name: r, version: '>=1', dir: /}}\n";
    let mut play =
        play(vec![program("a", ""), program("a:2.0.0", ""), program("b", needs), package("c", "")]);
    play.start(1, "nobody");
    play.assert_refused(1, &Error::InvalidContainer { container: container("nobody") });
    play.start(2, "b");
    let (user, resource) = (container("b"), container("r").name);
    let missing =
        Error::StartContainerMissingResource { container: user, resource, version: ">=1".to_owned() };
    play.assert_refused(2, &missing);
    play.start(3, "c");
    play.assert_refused(3, &Error::StartContainerResource { container: container("c") });
    let environment = BTreeMap::from([("NORTHSTAR_NAME".to_owned(), "x".to_owned())]);
    play.ask(4, Request::Start(Start { environment, ..Start::plain(container("a")) }));
    let cause = "env contains reserved key NORTHSTAR_NAME or NORTHSTAR_VERSION or NORTHSTAR_CONTAINER or NORTHSTAR_CONSOLE";
    play.assert_refused(4, &Error::InvalidArguments { cause: cause.to_owned() });
    assert!(play.words().is_empty());
    // Two of one name would share their groups: while the one is about to start, too.
    play.start(5, "a");
    for call in [6, 7] {
        play.start(call, "a:2.0.0");
        play.assert_refused(call, &Error::StartContainerStarted { container: container("a") });
        play.guard_does();
    }
}

#[test]
fn a_mount_that_fails_is_the_start_that_fails() {
    let needs = "mounts: {/r: {type: resource, name: r, version: '*', dir: /}}\n";
    let mut play = play(vec![program("a", needs), package("r", "")]);
    play.start(1, "a");
    play.guard(|word| if word == "mount r:1.0.0" { failed(Kind::Other) } else { well(word) });
    play.assert_refused(1, &Error::unexpected("mount r:1.0.0: mount: EIO"));
    // And it can be tried again.
    play.start(2, "a");
    play.guard_does();
    play.assert_started(2, "a");
}

#[test]
fn a_program_that_does_not_run_is_told() {
    let mut play = play(vec![program("a", "")]);
    play.start(1, "a");
    play.guard(|word| if word.starts_with("start") { failed(Kind::Start) } else { well(word) });
    let error = "mount: EIO".to_owned();
    play.assert_refused(1, &Error::StartContainerFailed { container: container("a"), error });
    assert!(play.heard().is_empty());
}

#[test]
fn a_command_takes_the_place_of_the_manifests() {
    let own = "args: [one]\nenv: {A: a, B: b}\n";
    let mut play = play(vec![Installed { is_mounted: true, ..program("a", own) }]);
    let start = Start {
        init: Some("/usr<INIT>".to_owned()),
        environment: BTreeMap::from([("B".to_owned(), "c".to_owned())]),
        ..Start::plain(container("a"))
    };
    play.ask(1, Request::Start(start));
    let command = play.said.iter().find_map(|action| match action {
        Action::Say { word: Word::Start(start), .. } => start.command.clone(),
        _ => None,
    });
    let environment = [("A", "a"), ("B", "c")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    let expected = words::Command {
        init: "/usr/a".to_owned(),
        arguments: vec!["one".to_owned()],
        environment: environment.into(),
    };
    assert_eq!(command, Some(expected));
}

#[test]
fn mounts_are_answered_in_the_order_in_which_they_were_named() {
    let mut play = play(vec![package("a", ""), package("b", "")]);
    let containers = ["b", "nobody", "a", "b"].map(container).to_vec();
    play.ask(1, Request::Mount { containers });
    let words = play.numbered();
    assert_eq!(words.len(), 2, "{words:?}");
    play.tell(words[1].0, Told::Done);
    assert_eq!(play.answer(1), None);
    play.tell(words[0].0, failed(Kind::Other));
    let told = |name: &str, error| Outcome::Error { container: container(name), error };
    let all = vec![
        told("b", Error::unexpected("mount b:1.0.0: mount: EIO")),
        told("nobody", Error::InvalidContainer { container: container("nobody") }),
        Outcome::Ok { container: container("a") },
        told("b", Error::MountBusy { container: container("b") }),
    ];
    assert_eq!(play.answer(1), Some(&Response::Mount(all)));
    play.ask(2, Request::Mount { containers: vec![container("a")] });
    play.assert_refused(2, &Error::MountBusy { container: container("a") });
    play.ask(3, Request::Mount { containers: Vec::new() });
    assert_eq!(play.answer(3), Some(&Response::Mount(Vec::new())));
}

#[test]
fn what_is_used_is_not_unmounted_and_its_user_is_named() {
    let needs = "mounts: {/r: {type: resource, name: r, version: '*', dir: /}}\n";
    let mut play = play(vec![program("a", needs), package("r", "")]);
    let umount = |name: &str| Request::Umount { containers: vec![container(name)] };
    play.ask(1, umount("a"));
    play.assert_refused(1, &Error::UmountBusy { container: container("a") });
    play.start(2, "a");
    play.guard_does();
    for (call, name) in [(3, "r"), (4, "a")] {
        play.ask(call, umount(name));
        play.assert_refused(call, &Error::UmountBusy { container: container("a") });
    }
    for (call, name) in [(5, "r"), (6, "a")] {
        play.ask(call, Request::Uninstall { container: container(name), wipe: false });
        play.assert_refused(call, &Error::UmountBusy { container: container("a") });
    }
    play.ends("a", words::Status::Exit(0));
    play.ask(7, umount("r"));
    play.guard_does();
    assert_eq!(play.answer(7), Some(&Response::Umount(vec![Outcome::Ok { container: container("r") }])));
    // Only what is missing is mounted anew.
    play.start(8, "a");
    assert_eq!(play.words(), ["mount r:1.0.0"]);
}

#[test]
fn a_package_is_unmounted_before_it_goes() {
    let mut play = play(vec![Installed { is_mounted: true, ..program("a", "") }]);
    play.ask(1, Request::Uninstall { container: container("a"), wipe: true });
    let words = play.numbered();
    assert_eq!(words[0].1, "umount a:1.0.0");
    play.tell(words[0].0, Told::Done);
    let words = play.numbered();
    assert_eq!(words[0].1, "uninstall a:1.0.0 true");
    play.start(2, "a");
    play.assert_refused(2, &Error::MountBusy { container: container("a") });
    play.tell(words[0].0, Told::Done);
    assert_eq!(play.answer(1), Some(&Response::Uninstall(Outcome::Ok { container: container("a") })));
    play.ask(3, Request::List);
    assert_eq!(play.answer(3), Some(&Response::List(Vec::new())));
    play.ask(4, Request::Uninstall { container: container("a"), wipe: false });
    play.assert_refused(4, &Error::InvalidContainer { container: container("a") });
}

#[test]
fn an_installation_is_answered_when_it_is_over() {
    let mut play = play(vec![]);
    play.ask(1, Request::Install { repository: "nowhere".to_owned(), size: 1 });
    play.assert_refused(1, &Error::InvalidRepository { repository: "nowhere".to_owned() });
    for call in [2, 3, 4] {
        play.ask(call, Request::Install { repository: "main".to_owned(), size: 1 });
    }
    let words = play.numbered();
    // Others are served meanwhile, and those that overtake them too.
    play.ask(5, Request::List);
    assert!(play.answer(5).is_some());
    play.tell(words[1].0, Told::Installed(program("a", "")));
    let ok = wire::Installed::Ok { container: container("a") };
    assert_eq!(play.answer(3), Some(&Response::Install(ok)));
    let duplicate = Failure::new(Kind::Duplicate, "a:1.0.0 is installed").about("a:1.0.0");
    play.tell(words[0].0, Told::Failed(duplicate));
    play.assert_refused(2, &Error::InstallDuplicate { container: container("a") });
    play.tell(words[2].0, Told::Failed(Failure::new(Kind::Full, "the repository takes 1 package")));
    play.assert_refused(4, &Error::unexpected("the repository takes 1 package"));
    assert_eq!(play.heard(), [format!("{:?}", Notification::Install(container("a")))]);
}

#[test]
fn a_signal_reaches_who_runs_and_no_other() {
    let mut play = play(vec![program("a", "")]);
    play.kill(1, "nobody", 15);
    play.assert_refused(1, &Error::InvalidContainer { container: container("nobody") });
    play.kill(2, "a", 15);
    play.assert_refused(2, &Error::StopContainerNotStarted { container: container("a") });
    play.start(3, "a");
    play.guard_does();
    for (call, signal) in [(4, 0), (5, 32), (6, -9)] {
        play.kill(call, "a", signal);
        play.assert_refused(
            call,
            &Error::unexpected(format!("signal {signal}: there are those from 1 to 31")),
        );
    }
    play.kill(7, "a", 10);
    assert_eq!(play.numbered()[0].1, "signal a:1.0.0 10");
    assert_eq!(play.actor.due(), None, "nobody has asked for more than a signal");
}

#[test]
fn what_runs_is_inspected_with_what_it_uses() {
    let mut play = play(vec![program("a", "custom: 5\n")]);
    let inspect = |call, play: &mut Play| {
        play.ask(call, Request::Inspect { container: container("a") });
        play.guard_does();
        match play.answer(call) {
            Some(Response::Inspect(Inspected::Ok { data, .. })) => Some(data.clone()),
            _ => None,
        }
    };
    let down = inspect(1, &mut play);
    let down =
        down.map(|data| (data.mounted, data.repository, data.process, data.manifest["custom"].clone()));
    assert_eq!(down, Some((false, "main".to_owned(), None, 5.into())));
    play.start(2, "a");
    play.guard_does();
    play.now += 3 * SECOND;
    let process = inspect(3, &mut play).and_then(|data| data.process);
    let told = process.map(|process| (process.pid, process.uptime, process.statistics));
    assert_eq!(told, Some((7, 3_000_000_000, serde_json::json!({"cpu": {}}))));
    // The container may end while the guard counts.
    play.ask(4, Request::Inspect { container: container("a") });
    let number = play.numbered()[0].0;
    play.ends("a", words::Status::Exit(0));
    play.tell(number, failed(Kind::NotRunning));
    let Some(Response::Inspect(Inspected::Ok { data, .. })) = play.answer(4) else {
        unreachable!("it is there")
    };
    assert_eq!(data.process, None);
}

#[test]
fn critical_ones_start_first_and_no_more_than_a_few_at_once() {
    let names = ["a", "b", "c", "d", "e"];
    let relaxed = names.map(|name| Installed { is_mounted: true, ..program(name, "autostart: relaxed\n") });
    let critical = Installed { is_mounted: true, ..program("z", "autostart: critical\n") };
    let mut play = play([relaxed.to_vec(), vec![critical]].concat());
    let words = play.numbered();
    let lines: Vec<_> = words.iter().map(|(_, word)| word.as_str()).collect();
    assert_eq!(lines, ["start z:1.0.0", "start a:1.0.0", "start b:1.0.0", "start c:1.0.0"]);
    play.tell(words[2].0, failed(Kind::Start));
    assert_eq!(play.words(), ["start d:1.0.0"], "a warning, and the next one's turn");
}

#[test]
fn who_takes_anothers_place_starts_nothing() {
    let process = words::Process { pid: 9, uptime: 5_000_000_000, resources: BTreeMap::new() };
    let packages = vec![
        Installed { is_mounted: true, process: Some(process), ..program("a", "") },
        program("b", "autostart: relaxed\n"),
    ];
    let mounted = BTreeSet::from(["main".to_owned()]);
    let mut play =
        Play::of(Found { repositories: vec!["main".to_owned()], packages, mounted, is_first: false });
    assert!(play.words().is_empty());
    play.start(1, "a");
    play.assert_refused(1, &Error::StartContainerStarted { container: container("a") });
    play.ends("a", words::Status::Exit(0));
    play.start(2, "a");
    play.guard_does();
    play.assert_started(2, "a");
}

#[test]
fn who_takes_anothers_place_takes_up_what_has_ended() {
    let ended = |name: &str, more: &str, status, was_asked| Installed {
        is_mounted: true,
        ended: Some(words::Ended { status, was_asked }),
        ..program(name, more)
    };
    let (ill, well) = (words::Status::Exit(1), words::Status::Exit(0));
    let packages =
        vec![ended("a", ANEW, ill, false), ended("b", ANEW, ill, true), ended("c", ANEW, well, false)];
    let mut play = Play::of(Found { packages, ..Found::default() });
    assert_eq!(play.wait(), SECOND);
    assert_eq!(play.words(), ["start a:1.0.0"]);
    let critical = ended("a", "autostart: critical\n", ill, false);
    let mut play = Play::of(Found { packages: vec![critical], ..Found::default() });
    play.guard_does();
    play.wait();
    play.guard_does();
    assert!(matches!(play.over(), Some(Err(_))), "{:?}", play.over());
}

#[test]
fn flagged_repositories_are_mounted_at_the_start() {
    let packages = vec![program("a", "autostart: relaxed\n"), package("b", "")];
    let other = Installed { repository: "other".to_owned(), ..package("c", "") };
    let found = Found {
        repositories: vec!["main".to_owned(), "other".to_owned()],
        packages: [packages, vec![other]].concat(),
        mounted: BTreeSet::from(["main".to_owned()]),
        is_first: true,
    };
    let mut play = Play::of(found);
    let words = play.numbered();
    let lines: Vec<_> = words.iter().map(|(_, word)| word.as_str()).collect();
    assert_eq!(lines, ["mount a:1.0.0", "mount b:1.0.0"]);
    // What cannot be mounted does no harm to the others.
    play.tell(words[1].0, failed(Kind::Other));
    play.tell(words[0].0, Told::Done);
    assert_eq!(play.words(), ["start a:1.0.0"]);
    assert_eq!(play.over(), None);
}

const ANEW: &str =
    "custom: {cofferdam: {restart: on-failure, restart_delay: 1s, restart_most: 4s, restart_attempts: 3}}\n";

#[test]
fn a_container_that_fails_is_started_anew_until_it_has_failed_too_often() {
    let mut play = play(vec![program("a", ANEW)]);
    play.start(1, "a");
    play.guard_does();
    for delay in [1, 2, 4] {
        play.ends("a", words::Status::Signal(11));
        assert_eq!(play.wait(), delay * SECOND);
        play.guard_does();
        play.start(2, "a");
        play.assert_refused(2, &Error::StartContainerStarted { container: container("a") });
        play.said.clear();
    }
    play.ends("a", words::Status::Exit(1));
    assert_eq!(play.actor.due(), None, "it stays down");
    play.start(3, "a");
    play.guard_does();
    play.assert_started(3, "a");
    play.ends("a", words::Status::Exit(0));
    assert_eq!(play.actor.due(), None, "that was no failure");
}

#[test]
fn a_start_anew_that_fails_counts_too() {
    let mut play = play(vec![Installed { is_mounted: true, ..program("a", ANEW) }]);
    play.start(1, "a");
    play.guard_does();
    play.ends("a", words::Status::Exit(1));
    for delay in [1, 2, 4] {
        assert_eq!(play.wait(), delay * SECOND);
        play.guard(|_| failed(Kind::Start));
    }
    assert_eq!(play.actor.due(), None);
}

#[test]
fn who_was_asked_to_end_stays_down() {
    let mut play = play(vec![program("a", ANEW)]);
    play.start(1, "a");
    play.guard_does();
    play.kill(2, "a", 15);
    play.guard_does();
    play.ends("a", words::Status::Signal(15));
    assert_eq!(play.actor.due(), None);
    // Also one that waits to be started anew.
    play.start(3, "a");
    play.guard_does();
    play.ends("a", words::Status::Exit(1));
    play.kill(4, "a", 10);
    play.assert_refused(4, &Error::StopContainerNotStarted { container: container("a") });
    play.kill(5, "a", 15);
    play.guard(|word| {
        assert_eq!(word, "rest a:1.0.0", "the guard is to know it, for the next talker");
        well(word)
    });
    assert_eq!(play.answer(5), Some(&Response::Kill(Outcome::Ok { container: container("a") })));
    assert_eq!(play.actor.due(), None);
}

#[test]
fn who_has_a_time_to_stop_in_is_killed_after_it() {
    let stop = "custom: {cofferdam: {stop_signal: 2, stop_timeout: 3s}}\n";
    let mut play = play(vec![program("a", stop)]);
    play.start(1, "a");
    play.guard_does();
    play.kill(2, "a", 15);
    assert_eq!(play.actor.due(), None, "that is not the signal by which it stops");
    play.kill(3, "a", 2);
    play.guard_does();
    assert_eq!(play.wait(), 3 * SECOND);
    assert_eq!(play.words(), ["signal a:1.0.0 9"]);
    assert_eq!(play.actor.due(), None, "once");
}

#[test]
fn the_daemon_ends_with_who_is_critical() {
    let mut play = play(vec![program("a", "autostart: critical\n"), program("b", "")]);
    play.guard_does();
    play.start(1, "b");
    play.guard_does();
    play.ends("a", words::Status::Exit(3));
    // And in good order.
    assert_eq!(play.words(), ["signal b:1.0.0 15"]);
    assert_eq!(play.over(), None);
    play.ends("b", words::Status::Signal(15));
    assert_eq!(play.over(), None, "the signal is still under way");
    play.tell(5, Told::Done);
    assert_eq!(play.words(), ["umount a:1.0.0", "umount b:1.0.0"]);
    play.tell(6, Told::Done);
    play.tell(7, failed(Kind::Busy));
    let over = play.over().unwrap_or(Ok(()));
    assert_eq!(over, Err("a:1.0.0 is critical: it exited with 3".to_owned()));
}

#[test]
fn a_critical_one_that_is_started_anew_ends_the_daemon_when_it_gives_up() {
    let mut play = play(vec![program("a", &format!("autostart: critical\n{ANEW}"))]);
    play.guard_does();
    for _ in 0..3 {
        play.ends("a", words::Status::Exit(1));
        assert_eq!(play.over(), None);
        play.wait();
        play.guard_does();
    }
    play.ends("a", words::Status::Exit(1));
    play.guard_does();
    assert!(matches!(play.over(), Some(Err(_))), "{:?}", play.over());
}

#[test]
fn a_critical_one_that_does_not_start_ends_the_daemon() {
    let mut play = play(vec![program("a", "autostart: critical\n")]);
    play.guard(|word| if word.starts_with("start") { failed(Kind::Start) } else { well(word) });
    let over = play.over().unwrap_or(Ok(()));
    assert!(over.is_err_and(|why| why.starts_with("a:1.0.0 is critical: ")));
}

#[test]
fn at_the_end_all_are_stopped_then_killed_and_nothing_new_begins() {
    let slow = "custom: {cofferdam: {stop_timeout: 2s}}\n";
    let mut play = play(vec![program("a", ""), program("b", slow), program("c", ANEW), program("d", "")]);
    for (call, name) in [(1, "a"), (2, "b"), (3, "c")] {
        play.start(call, name);
        play.guard_does();
    }
    play.ends("c", words::Status::Exit(1));
    play.start(4, "d");
    let mount = play.numbered()[0].0;
    play.ask(5, Request::Shutdown);
    assert_eq!(play.answer(5), Some(&Response::Shutdown));
    assert_eq!(play.heard().last().map(String::as_str), Some("Shutdown"));
    // Who was about to start does not.
    play.tell(mount, Told::Done);
    play.assert_refused(4, &Error::unexpected("the daemon shuts down"));
    play.start(6, "c");
    play.assert_refused(6, &Error::unexpected("the daemon shuts down"));
    let words = play.numbered();
    let lines: Vec<_> = words.iter().map(|(_, word)| word.as_str()).collect();
    assert_eq!(lines, ["signal a:1.0.0 15", "signal b:1.0.0 15"]);
    for (number, _) in words {
        play.tell(number, Told::Done);
    }
    assert_eq!(play.wait(), 2 * SECOND);
    assert_eq!(play.words(), ["signal b:1.0.0 9"]);
    play.ends("b", words::Status::Signal(9));
    assert_eq!(play.wait(), 8 * SECOND);
    assert_eq!(play.words(), ["signal a:1.0.0 9"]);
    // Whoever cannot even be killed does not keep us.
    assert_eq!(play.wait(), 5 * SECOND);
    assert_eq!(play.over(), Some(Ok(())));
    assert_eq!(play.actor.due(), None);
}

#[test]
fn nothing_runs_and_the_end_comes_at_once() {
    let mut play = play(vec![program("a", "")]);
    play.tell(words::UNASKED, Told::Shutdown);
    assert_eq!(play.over(), Some(Ok(())));
}

#[test]
fn memory_that_runs_out_is_told() {
    let mut play = play(vec![program("a", "")]);
    let counts = wire::Memory { oom: Some(1), ..wire::Memory::default() };
    play.tell(words::UNASKED, Told::Memory { container: "a:1.0.0".to_owned(), counts });
    assert_eq!(play.heard().len(), 1);
}

#[test]
fn of_two_repositories_with_one_package_the_first_counts() {
    let other = Installed { repository: "other".to_owned(), ..program("a", "") };
    let mut play = play(vec![program("a", ""), other]);
    play.ask(1, Request::Inspect { container: container("a") });
    let Some(Response::Inspect(Inspected::Ok { data, .. })) = play.answer(1) else {
        unreachable!("it is there")
    };
    assert_eq!(data.repository, "main");
}
