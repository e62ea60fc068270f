//! A page: what the table has and what was written by hand, in the order of man-pages(7).

use cofferdam::flags::{Flag, GLOBAL, HELP, Takes, VERBS, Verb};

use super::roff::{blocks, literal, sentence, text, wrapped};
use super::source::Source;

/// When the pages were last gone through as a whole.
const DATE: &str = "2026-11-21";

pub(crate) fn of_program(source: &Source) -> String {
    let mut page = head("COFFERDAM");
    page += &section("NAME", "cofferdam \\- run containers on Linux\n");
    page += &section(
        "SYNOPSIS",
        "\\fBcofferdam\\fR [\\fIFLAGS\\fR] \\fICOMMAND\\fR [\\fIFLAGS\\fR] [\\fIARGUMENTS\\fR]\n",
    );
    page += &section("DESCRIPTION", &blocks(source.section("DESCRIPTION")));
    page += &section("COMMANDS", &commands());
    page += &section("OPTIONS", &flags(GLOBAL.iter(), source));
    for name in ["EXIT STATUS", "FILES", "ENVIRONMENT", "EXAMPLES"] {
        page += &section(name, &blocks(source.section(name)));
    }
    let pages = VERBS.iter().map(|verb| format!("cofferdam-{}(1)", verb.name));
    wrapped(&(page + &section("SEE ALSO", &see_also(pages.chain(source.see_also()).collect()))))
}

pub(crate) fn of_verb(verb: &Verb, source: &Source) -> String {
    let mut page = head(&format!("COFFERDAM-{}", verb.name.to_uppercase()));
    page += &section("NAME", &format!("cofferdam\\-{} \\- {}\n", verb.name, verb.about));
    page += &section("SYNOPSIS", &synopsis(verb));
    let long = Source::read(&format!("# DESCRIPTION\n\n{}\n", verb.long));
    let told = [&long, source].map(|text| blocks(text.section("DESCRIPTION")));
    page += &section("DESCRIPTION", &told.concat());
    page += &section("OPTIONS", &flags(verb.flags.iter().chain([&HELP]), source));
    let mut other = |name, otherwise: &str| match source.section(name) {
        [] if otherwise.is_empty() => {}
        [] => page += &section(name, &blocks(Source::read(otherwise).section(name))),
        own => page += &section(name, &blocks(own)),
    };
    let is_of_containers = is_of_containers(verb);
    other("EXIT STATUS", EXIT_STATUS);
    other("FILES", if is_of_containers { FILES } else { "" });
    other("ENVIRONMENT", if is_of_containers { ENVIRONMENT } else { "" });
    other("EXAMPLES", "");
    let pages = ["cofferdam(1)".to_owned()].into_iter().chain(source.see_also());
    wrapped(&(page + &section("SEE ALSO", &see_also(pages.collect()))))
}

/// A command that is refused by its name: what it will take, so that nobody looks for it elsewhere.
pub(crate) fn of_unbuilt(verb: &Verb) -> String {
    const TEXT: &str = "# DESCRIPTION\n\nThis command is not built yet: it is refused by its name. Its flags are those of runc(8).\n";
    of_verb(verb, &Source::read(TEXT))
}

/// Whether it looks into the state root.
pub(crate) fn is_of_containers(verb: &Verb) -> bool {
    verb.usage.starts_with("ID") || ["list", "try"].contains(&verb.name)
}

const EXIT_STATUS: &str =
    "# EXIT STATUS\n\n- `0`: it is done.\n- `1`: it is not; the reason stands on standard error.\n";
const FILES: &str =
    "# FILES\n\n- `/run/cofferdam/ID`: the container's record, if `--root` names no other place.\n";
const ENVIRONMENT: &str =
    "# ENVIRONMENT\n\n- `XDG_RUNTIME_DIR`: for others than root, what is in `/run` is in this directory.\n";

fn head(title: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(
        ".\\\" Made from the table of flags and from pages/: see bin/cofferdam/tests/manual.rs.\n\
         .TH {title} 1 {DATE} \"Cofferdam {version}\" \"Containers\"\n"
    )
}

fn section(name: &str, text: &str) -> String {
    // The first paragraph needs no request of its own, and mandoc(1) complains of one.
    format!(".SH {name}\n{}", text.strip_prefix(".PP\n").unwrap_or(text))
}

/// The usage line, its own words in bold and what stands for others in italics.
fn synopsis(verb: &Verb) -> String {
    let mut line = format!("\\fBcofferdam {}\\fR", literal(verb.name));
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

fn commands() -> String {
    let items = VERBS.iter().map(|verb| {
        let note = if verb.unbuilt { " Not built yet." } else { "" };
        format!(".TP\n\\fBcofferdam\\-{}\\fR(1)\n{}{note}\n", verb.name, text(&sentence(verb.about)))
    });
    items.collect()
}

fn flags(flags: impl Iterator<Item = &'static Flag>, source: &Source) -> String {
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

fn see_also(mut pages: Vec<String>) -> String {
    pages.sort();
    pages.dedup();
    let last = pages.len().saturating_sub(1);
    let lines = pages.iter().enumerate().map(|(at, page)| {
        let (name, section) = page.split_once('(').expect("a page has a section");
        format!(".BR {} ({section}{}\n", literal(name), if at == last { "" } else { "," })
    });
    lines.collect()
}
