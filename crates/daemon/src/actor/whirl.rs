//! Clients, a guard and the time that do anything in any order: what holds whatever happens.
//!
//! The guard here keeps its own books, and refuses what the real one would take for a fault of ours. Each call is answered
//! once, and the end comes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use wire::{Container, Request, Response, Start};

use super::{Action, Actor, Event, Found, named};
use crate::words::{self, Failure, Installed, Kind, Told, Word};

/// The numbers of xorshift: the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap_or_default() % end
    }

    fn one_in(&mut self, end: usize) -> bool {
        self.below(end) == 0
    }

    fn of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

struct Whirl {
    dice: Dice,
    actor: Actor,
    now: Duration,
    /// Words that the guard has not answered.
    asked: Vec<(u64, Word)>,
    installed: BTreeSet<String>,
    mounted: BTreeSet<String>,
    /// With what each has mounted of others.
    running: BTreeMap<String, BTreeSet<String>>,
    /// Calls, and how often each was answered.
    calls: BTreeMap<u64, u32>,
    over: u32,
}

const NAMES: [&str; 6] = ["a:1.0.0", "a:2.0.0", "b:1.0.0", "c:1.0.0", "r:1.0.0", "r:1.5.0"];

fn manifest(container: &str) -> String {
    let (name, version) = container.split_once(':').unwrap_or((container, "1.0.0"));
    let more = match name {
        "r" => "",
        "b" => "init: /b\nautostart: critical\ncustom: {cofferdam: {restart: always, restart_delay: 1s}}\n",
        "c" => "init: /c\nmounts: {/r: {type: resource, name: r, version: '1', dir: /}}\n",
        _ => "init: /a\ncustom: {cofferdam: {restart: on-failure, restart_attempts: 2, stop_timeout: 2s}}\n",
    };
    format!("name: {name}\nversion: {version}\nuid: 1\ngid: 1\n{more}")
}

fn installed(container: &str) -> Installed {
    Installed {
        container: container.to_owned(),
        repository: "main".to_owned(),
        manifest: manifest(container),
        is_mounted: false,
        process: None,
        ended: None,
    }
}

impl Whirl {
    fn new(seed: u64) -> Self {
        let known = &NAMES[..4];
        let found = Found {
            repositories: vec!["main".to_owned()],
            packages: known.iter().map(|name| installed(name)).collect(),
            mounted: if seed.is_multiple_of(2) {
                BTreeSet::from(["main".to_owned()])
            } else {
                BTreeSet::new()
            },
            is_first: true,
        };
        let mut whirl = Self {
            dice: Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            actor: Actor::new(Duration::ZERO, found),
            now: Duration::ZERO,
            asked: Vec::new(),
            installed: known.iter().map(|name| (*name).to_owned()).collect(),
            mounted: BTreeSet::new(),
            running: BTreeMap::new(),
            calls: BTreeMap::new(),
            over: 0,
        };
        let actions = whirl.actor.begin(Duration::ZERO);
        whirl.act(actions);
        whirl
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Say { number, word } => {
                    self.check(&word);
                    self.asked.push((number, word));
                }
                Action::Install { number, repository, size, .. } => {
                    self.asked.push((number, Word::Install { repository, size }));
                }
                Action::Answer { call, .. } => *self.calls.entry(call).or_default() += 1,
                Action::Over(_) => self.over += 1,
                Action::Notify(_) | Action::Log(..) => {}
            }
        }
    }

    /// What the guard would take for a fault of ours.
    fn check(&self, word: &Word) {
        let images = |word: &Word| match word {
            Word::Mount { container, .. }
            | Word::Umount { container }
            | Word::Uninstall { container, .. } => Some(container.clone()),
            _ => None,
        };
        if let Some(container) = images(word) {
            let twice =
                self.asked.iter().filter(|(_, other)| images(other).as_ref() == Some(&container)).count();
            assert_eq!(twice, 0, "two things are done to one image at once: {word:?}");
            assert!(self.installed.contains(&container), "{word:?}");
            assert!(self.running.values().all(|used| !used.contains(&container)), "in use: {word:?}");
        }
        match word {
            Word::Mount { container, .. } | Word::Uninstall { container, .. } => {
                assert!(!self.mounted.contains(container), "{word:?}");
            }
            Word::Umount { container } => assert!(self.mounted.contains(container), "{word:?}"),
            Word::Start(start) => {
                let name = |container: &str| container.split(':').next().map(str::to_owned);
                let is_up = self.running.keys().any(|other| name(other) == name(&start.container));
                assert!(!is_up, "{word:?}");
                let starts = |word: &Word| match word {
                    Word::Start(start) => name(&start.container),
                    _ => None,
                };
                assert!(
                    self.asked.iter().all(|(_, other)| starts(other) != name(&start.container)),
                    "{word:?}"
                );
                for image in start.resources.values().chain([&start.container]) {
                    assert!(self.mounted.contains(image), "{image} is not mounted: {word:?}");
                }
            }
            Word::Signal { container, .. } => assert!(self.installed.contains(container), "{word:?}"),
            _ => {}
        }
    }

    fn tell(&mut self, number: u64, told: Told) {
        let actions = self.actor.hear(self.now, Event::Told { number, told });
        self.act(actions);
    }

    fn call(&mut self, request: Request) {
        let call = self.calls.len() as u64 + 1;
        self.calls.insert(call, 0);
        let actions = self.actor.hear(self.now, Event::Call { call, request });
        self.act(actions);
    }

    fn container(&mut self) -> Container {
        let name = *self.dice.of(&NAMES);
        named(name).unwrap_or_else(|why| unreachable!("{why}"))
    }

    fn request(&mut self) -> Request {
        let container = self.container();
        match self.dice.below(10) {
            0 | 1 => Request::Start(Start::plain(container)),
            2 => Request::Start(Start { arguments: vec!["x".to_owned()], ..Start::plain(container) }),
            3 => Request::Kill { container, signal: *self.dice.of(&[9, 10, 15, 0]) },
            4 => Request::Mount { containers: vec![container, self.container()] },
            5 => Request::Umount { containers: vec![self.container(), container] },
            6 => Request::Uninstall { container, wipe: false },
            7 => Request::Inspect { container },
            8 => Request::List,
            _ => Request::Install { repository: "main".to_owned(), size: 1 },
        }
    }

    /// The guard answers one of the words, whichever.
    fn answer(&mut self) {
        if self.asked.is_empty() {
            return;
        }
        let at = self.dice.below(self.asked.len());
        let (number, word) = self.asked.swap_remove(at);
        if self.dice.one_in(6) {
            let kind = *self.dice.of(&[Kind::Other, Kind::Busy, Kind::Start]);
            return self.tell(number, Told::Failed(Failure::new(kind, "no")));
        }
        let told = match &word {
            Word::Mount { container, .. } => {
                self.mounted.insert(container.clone());
                Told::Done
            }
            Word::Umount { container } => {
                self.mounted.remove(container);
                Told::Done
            }
            Word::Uninstall { container, .. } => {
                self.installed.remove(container);
                Told::Done
            }
            Word::Start(start) => {
                let used = start.resources.values().chain([&start.container]).cloned().collect();
                self.running.insert(start.container.clone(), used);
                Told::Started { pid: 7 }
            }
            Word::Install { .. } => {
                let name = *self.dice.of(&NAMES);
                if self.installed.insert(name.to_owned()) {
                    Told::Installed(installed(name))
                } else {
                    Told::Failed(Failure::new(Kind::Duplicate, "there is one").about(name))
                }
            }
            Word::Statistics { .. } => Told::Statistics(serde_json::json!({})),
            Word::Signal { container, .. } if !self.running.contains_key(container) => {
                Told::Failed(Failure::new(Kind::NotRunning, "gone"))
            }
            _ => Told::Done,
        };
        self.tell(number, told);
    }

    fn exit(&mut self) {
        let running: Vec<String> = self.running.keys().cloned().collect();
        if running.is_empty() {
            return;
        }
        let container = self.dice.of(&running).clone();
        self.running.remove(&container);
        let status = words::Status::Exit(i32::try_from(self.dice.below(2)).unwrap_or_default());
        self.tell(words::UNASKED, Told::Exited { container, status });
    }

    fn pass(&mut self) {
        self.now += Duration::from_millis(300);
        let actions = self.actor.hear(self.now, Event::Due);
        self.act(actions);
    }
}

fn whirl(seed: u64) {
    let mut whirl = Whirl::new(seed);
    for _ in 0..400 {
        match whirl.dice.below(8) {
            0..=2 => {
                let request = whirl.request();
                whirl.call(request);
            }
            3..=5 => whirl.answer(),
            6 => whirl.exit(),
            _ => whirl.pass(),
        }
    }
    whirl.call(Request::Shutdown);
    // The guard answers whatever it was asked, and whoever runs ends in time.
    for _ in 0..400 {
        whirl.answer();
        if whirl.dice.one_in(3) {
            whirl.exit();
        }
        whirl.pass();
    }
    assert_eq!(whirl.over, 1, "seed {seed}: the end comes once");
    let unanswered: Vec<_> = whirl.calls.iter().filter(|(_, times)| **times != 1).collect();
    assert!(unanswered.is_empty(), "seed {seed}: each call is answered once: {unanswered:?}");
    assert!(whirl.asked.is_empty() && whirl.running.is_empty(), "seed {seed}");
}

#[test]
fn whatever_happens_each_call_is_answered_once_and_the_end_comes() {
    for seed in 1..=500 {
        whirl(seed);
    }
}

#[test]
fn what_is_asked_of_the_console_alone_is_answered_too() {
    let mut actor = Actor::new(Duration::ZERO, Found::default());
    let actions = actor.hear(Duration::ZERO, Event::Call { call: 1, request: Request::Ident });
    let expected = Action::Answer { call: 1, response: Response::PermissionDenied(Request::Ident) };
    assert_eq!(actions, [expected]);
}
