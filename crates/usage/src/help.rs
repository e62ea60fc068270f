//! The table as text.

use std::fmt::Write as _;

use super::{Flag, HELP, Table, Takes, Verb};

impl Table {
    /// What `PROGRAM --help` prints.
    pub fn help(&self) -> String {
        let program = self.program;
        if self.verbs.is_empty() {
            let mut text = format!("{program}: {}\n\nUsage:\n  {program} [FLAGS]\n", self.about);
            flags(&mut text, self.global.iter());
            return text;
        }
        let mut text = format!(
            "{program}: {}\n\n\
             Usage:\n  {program} [FLAGS] COMMAND [FLAGS OF THE COMMAND] [ARGUMENTS]\n\n\
             Commands:\n",
            self.about
        );
        let width = self.verbs.iter().map(|verb| verb.name.len()).max().unwrap_or(0);
        for verb in self.verbs.iter().filter(|verb| !verb.unbuilt) {
            line(&mut text, verb.name, width, verb.about);
        }
        if self.verbs.iter().any(|verb| verb.unbuilt) {
            text.push_str("\nNot built yet, see docs/roadmap.md:\n");
        }
        for verb in self.verbs.iter().filter(|verb| verb.unbuilt) {
            line(&mut text, verb.name, width, verb.about);
        }
        flags(&mut text, self.global.iter());
        text + &format!("\n\"{program} help COMMAND\" prints the flags of one command.\n")
    }

    /// What `PROGRAM COMMAND --help` prints.
    pub fn help_of(&self, verb: &Verb) -> String {
        let (program, name) = (self.program, verb.name);
        let mut text = format!("{program} {name}: {}\n\nUsage:\n  {program} {name}", verb.about);
        if !verb.flags.is_empty() {
            text.push_str(" [FLAGS]");
        }
        if !verb.usage.is_empty() {
            text.push(' ');
            text.push_str(verb.usage);
        }
        text.push('\n');
        if !verb.long.is_empty() {
            text.push('\n');
            text.push_str(verb.long);
            text.push('\n');
        }
        if verb.unbuilt {
            text.push_str("\nNot built yet, see docs/roadmap.md.\n");
        }
        flags(&mut text, verb.flags.iter().chain([&HELP]));
        text
    }
}

fn flags(text: &mut String, flags: impl Iterator<Item = &'static Flag>) {
    let shown: Vec<_> = flags.filter(|flag| !flag.hidden).map(|flag| (typed(flag), told(flag))).collect();
    let width = shown.iter().map(|(typed, _)| typed.len()).max().unwrap_or(0);
    text.push_str("\nFlags:\n");
    for (typed, told) in &shown {
        line(text, typed, width, told);
    }
}

fn typed(flag: &Flag) -> String {
    let short = flag.short.map_or("    ".into(), |short| format!("-{short}, "));
    let value = match flag.takes {
        Takes::Nothing => String::new(),
        Takes::Text(value) | Takes::Path(value) | Takes::Number(value) => format!(" {value}"),
    };
    format!("{short}--{}{value}", flag.long)
}

fn told(flag: &Flag) -> String {
    let mut told = flag.help.to_owned();
    let notes = [
        (flag.unbuilt, "not built yet"),
        (flag.repeats, "may be repeated"),
        (!flag.default.is_empty(), "default: "),
    ];
    for (_, note) in notes.iter().filter(|(holds, _)| *holds) {
        let default = if note.ends_with(' ') { flag.default } else { "" };
        // Into a string: it cannot fail, and would be told by a missing note in the golden files.
        if write!(told, " ({note}{default})").is_err() {
            break;
        }
    }
    told
}

fn line(text: &mut String, left: &str, width: usize, right: &str) {
    let gap = width.saturating_sub(left.len()) + 2;
    text.push_str("  ");
    text.push_str(left);
    text.extend(std::iter::repeat_n(' ', gap));
    text.push_str(right);
    text.push('\n');
}
