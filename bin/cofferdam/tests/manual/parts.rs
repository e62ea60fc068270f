//! The parts of a page, for any program: what the table has, and what was written by hand, in the language of man(7).

use usage::{Flag, Takes, Verb};

use super::roff::{blocks, literal, sentence, text};
use super::source::Source;

/// When the pages were last gone through as a whole.
const DATE: &str = "2026-11-21";

/// `of` is the folder of the program.
pub(crate) fn head(of: &str, title: &str) -> String {
    head_of_section(of, title, 1)
}

/// The same of a page in another section of the manual than that of commands.
pub(crate) fn head_of_section(of: &str, title: &str, section: u8) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(
        ".\\\" Made from the table of flags and from pages/: see bin/{of}/tests/manual.rs.\n\
         .TH {title} {section} {DATE} \"Cofferdam {version}\" \"Containers\"\n"
    )
}

pub(crate) fn section(name: &str, text: &str) -> String {
    // The first paragraph needs no request of its own, and mandoc(1) complains of one.
    format!(".SH {name}\n{}", text.strip_prefix(".PP\n").unwrap_or(text))
}

/// The usage line, its own words in bold and what stands for others in italics.
pub(crate) fn synopsis(program: &str, verb: &Verb) -> String {
    let mut line = format!("\\fB{program} {}\\fR", literal(verb.name));
    if !verb.flags.is_empty() {
        line += " [\\fIFLAGS\\fR]";
    }
    for word in verb.usage.split_whitespace() {
        let bare = word.trim_matches(['[', ']']);
        let font = if bare.chars().any(char::is_alphabetic) { 'I' } else { 'B' };
        let shown = word.replace(bare, &format!("\\f{font}{}\\fR", literal(bare)));
        line = line + " " + &shown;
    }
    line + "\n"
}

pub(crate) fn flags(flags: impl Iterator<Item = &'static Flag>, source: &Source) -> String {
    let items = flags.filter(|flag| !flag.hidden).map(|flag| {
        let more = blocks(source.section(&format!("--{}", flag.long)));
        // In the same paragraph: it goes on with the sentence of the table.
        format!(".TP\n{}\n{}\n{}", typed(flag), told(flag), more.strip_prefix(".PP\n").unwrap_or(&more))
    });
    items.collect()
}

fn typed(flag: &Flag) -> String {
    let short = flag.short.map_or(String::new(), |short| format!("\\fB\\-{short}\\fR, "));
    let value = match flag.takes {
        Takes::Nothing => String::new(),
        Takes::Text(value) | Takes::Path(value) | Takes::Number(value) => {
            format!(" \\fI{}\\fR", literal(value))
        }
    };
    format!("{short}\\fB\\-\\-{}\\fR{value}", literal(flag.long))
}

fn told(flag: &Flag) -> String {
    let mut told = text(&sentence(flag.help));
    if flag.repeats {
        told += " May be repeated.";
    }
    if !flag.default.is_empty() {
        told.extend([" Without it: ", &literal(flag.default), "."]);
    }
    if flag.unbuilt {
        told += " Not built yet: giving it is refused.";
    }
    told
}

pub(crate) fn see_also(mut pages: Vec<String>) -> String {
    pages.sort();
    pages.dedup();
    let last = pages.len().saturating_sub(1);
    let lines = pages.iter().enumerate().map(|(at, page)| {
        let (name, section) = page.split_once('(').expect("a page has a section");
        format!(".BR {} ({section}{}\n", literal(name), if at == last { "" } else { "," })
    });
    lines.collect()
}
