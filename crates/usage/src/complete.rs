//! What may stand in place of a word that is being typed: the answer to the scripts that `completion` prints.
//!
//! The scripts are short and the same for every version. What they offer is read from the table of flags, here, so a
//! flag that is taken is a flag that is offered. Begin with [`Asked::of`].

use crate::{Flag, HELP, Table, Takes, Verb};

/// The shells whose completion is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shell {
    /// bash(1)
    Bash,
    /// fish(1)
    Fish,
    /// zsh(1)
    Zsh,
}

/// What is to be typed next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The id of a container, of those kept in this state root.
    Container {
        /// The value of `--root`, if it was typed.
        root: Option<String>,
    },
    /// A directory.
    Directory,
    /// Any file.
    File,
    /// One of these words; none where nobody knows.
    Words(Vec<Word>),
}

/// A word to offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// As it would be typed.
    pub word: String,
    /// What it is, for shells that show it.
    pub told: &'static str,
}

/// A command line that ends where the cursor stands.
#[derive(Debug)]
pub struct Asked {
    /// What is wanted there.
    pub wanted: Wanted,
    shell: Shell,
    /// The word as far as it is typed.
    current: String,
}

impl Wanted {
    /// Nobody knows.
    pub fn nothing() -> Self {
        Self::Words(Vec::new())
    }

    /// One of these, which say themselves what they are.
    pub fn of_words(words: &[&str]) -> Self {
        Self::Words(words.iter().map(|word| Word { word: (*word).to_owned(), told: "" }).collect())
    }

    /// A command of the program.
    pub fn verbs(table: &Table) -> Self {
        let built = table.verbs.iter().filter(|verb| !verb.unbuilt);
        Self::Words(built.map(|verb| Word { word: verb.name.to_owned(), told: verb.about }).collect())
    }
}

impl Shell {
    /// Their names, as `completion` takes them.
    pub const NAMES: &'static [&'static str] = &["bash", "fish", "zsh"];

    /// The shell of this name.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "bash" => Self::Bash,
            "fish" => Self::Fish,
            "zsh" => Self::Zsh,
            _ => return None,
        })
    }

    /// The script that makes it ask this program.
    pub fn script(self, program: &str) -> String {
        let script = match self {
            Self::Bash => include_str!("../completions/bash"),
            Self::Fish => include_str!("../completions/fish"),
            Self::Zsh => include_str!("../completions/zsh"),
        };
        script.replace("PROGRAM", program)
    }
}

impl Asked {
    /// Reads the words after the program's name, the last of which is being typed.
    pub fn of(table: &'static Table, shell: Shell, words: &[String]) -> Self {
        let mut words = if shell == Shell::Bash { glued(words) } else { words.to_vec() };
        let current = words.pop().unwrap_or_default();
        let wanted = Line::read(table, &words).wanted(&current);
        Self { wanted, shell, current }
    }

    /// The answer: a line that says of what kind it is, and a line for each word. `ids` are the containers there are.
    pub fn answer(&self, ids: &[String]) -> String {
        let words = match &self.wanted {
            Wanted::Directory => return "directories\n".to_owned(),
            Wanted::File => return "files\n".to_owned(),
            Wanted::Container { .. } => {
                ids.iter().map(|id| Word { word: id.clone(), told: "container" }).collect()
            }
            Wanted::Words(words) => words.clone(),
        };
        let mut text = String::from("words\n");
        let (typed, begun) = (self.typed(), self.begun());
        for Word { word, told } in words {
            match self.shell {
                // It offers what it is given, and would not look whether that begins as the word does.
                Shell::Bash if word.starts_with(begun) => text.push_str(&word),
                Shell::Bash => continue,
                Shell::Zsh => text.extend([&word, "\t", told]),
                // It compares with the whole word, where the others look behind the equals sign.
                Shell::Fish => text.extend([typed, &word, "\t", told]),
            }
            text.push('\n');
        }
        text
    }

    /// The part of the word that stands fast: `--format=` of `--format=js`.
    fn typed(&self) -> &str {
        let end = self.current.find('=').filter(|_| self.current.starts_with('-'));
        end.map_or("", |end| self.current.get(..=end).unwrap_or(""))
    }

    fn begun(&self) -> &str {
        self.current.strip_prefix(self.typed()).unwrap_or(&self.current)
    }
}

/// bash takes words apart at `=` and `:`, and hands the sign on as a word of its own.
fn glued(words: &[String]) -> Vec<String> {
    let mut whole: Vec<String> = Vec::new();
    let mut joins = false;
    for word in words {
        let is_sign = !word.is_empty() && word.chars().all(|sign| sign == '=' || sign == ':');
        match whole.last_mut() {
            Some(last) if is_sign || joins => last.push_str(word),
            _ => whole.push(word.clone()),
        }
        joins = is_sign;
    }
    whole
}

/// What the words before the current one have settled.
struct Line {
    table: &'static Table,
    root: Option<String>,
    verb: Option<&'static Verb>,
    /// The flag that waits for its value.
    waits: Option<&'static Flag>,
    /// How many arguments the command has.
    count: usize,
    /// Whether what follows is no flag any more.
    ended: bool,
    is_unknown: bool,
}

impl Line {
    fn read(table: &'static Table, words: &[String]) -> Self {
        let mut line =
            Self { table, root: None, verb: None, waits: None, count: 0, ended: false, is_unknown: false };
        for word in words {
            line.take(word);
        }
        line
    }

    fn take(&mut self, word: &str) {
        if let Some(flag) = self.waits.take() {
            return self.give(flag, word);
        }
        if !self.ended && word == "--" {
            self.ended = true;
        } else if !self.ended && word.len() > 1 && word.starts_with('-') {
            let (name, value) =
                word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
            match (self.flag(name), value) {
                (Some(flag), Some(value)) => self.give(flag, value),
                (Some(flag), None) if flag.takes != Takes::Nothing => self.waits = Some(flag),
                _ => {}
            }
        } else if let Some(verb) = self.verb {
            self.count += 1;
            self.ended |= verb.stops;
        } else {
            self.verb = self.table.find(word);
            self.is_unknown = self.verb.is_none();
            self.ended = false;
        }
    }

    fn give(&mut self, flag: &Flag, value: &str) {
        if self.verb.is_none() && flag.long == "root" {
            self.root = Some(value.to_owned());
        }
    }

    fn flags(&self) -> impl Iterator<Item = &'static Flag> {
        self.verb.map_or(self.table.global, |verb| verb.flags).iter().chain(self.verb.map(|_| &HELP))
    }

    fn flag(&self, typed: &str) -> Option<&'static Flag> {
        let name = typed.trim_start_matches('-').as_bytes();
        self.flags().find(|flag| flag.is_named(name))
    }

    fn wanted(&self, current: &str) -> Wanted {
        if self.is_unknown {
            return Wanted::nothing();
        }
        if let Some(flag) = self.waits {
            return value(flag);
        }
        if !self.ended && current.starts_with('-') {
            return match current.split_once('=') {
                Some((name, _)) => self.flag(name).map_or(Wanted::nothing(), value),
                None => Wanted::Words(self.names()),
            };
        }
        match self.verb {
            None => Wanted::verbs(self.table),
            Some(verb) => self.argument(verb),
        }
    }

    /// The flags that may be given, by their long names.
    fn names(&self) -> Vec<Word> {
        let offered = self.flags().filter(|flag| !flag.hidden && !flag.unbuilt);
        offered.map(|flag| Word { word: format!("--{}", flag.long), told: flag.help }).collect()
    }

    /// The next argument of a command.
    fn argument(&self, verb: &'static Verb) -> Wanted {
        match (self.table.argument)(verb, self.count) {
            Wanted::Container { .. } => Wanted::Container { root: self.root.clone() },
            wanted => wanted,
        }
    }
}

fn value(flag: &'static Flag) -> Wanted {
    match flag.takes {
        Takes::Path("DIR") => Wanted::Directory,
        Takes::Path(_) => Wanted::File,
        _ => Wanted::of_words(flag.words),
    }
}
