//! The manual page and the completions, made from the table of flags and from the text in `pages/`, compared whole with `man/` and
//! `completions/`: `BLESS=1 cargo test -p cofferctl --test manual` writes them anew.
//!
//! The parts of a page are those of cofferdam's: one manner, one code.
#![allow(clippy::expect_used, clippy::panic)] // A test may end where its files are not there or not as they should be.

#[path = "../../cofferdam/tests/manual/parts.rs"]
mod parts;
#[path = "../../cofferdam/tests/manual/roff.rs"]
mod roff;
#[path = "../../cofferdam/tests/manual/source.rs"]
mod source;

use std::fs;
use std::path::PathBuf;

use cofferctl::flags::TABLE;
use parts::{flags, head, section, see_also, synopsis};
use roff::{blocks, text};
use source::Source;
use usage::complete::Shell;

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn source() -> Source {
    Source::read(&fs::read_to_string(path("pages/cofferctl.md")).expect("the page's text"))
}

/// One page for all commands: they are few, and read together.
fn page(source: &Source) -> String {
    let mut page = head("cofferctl", "COFFERCTL");
    page += &section("NAME", &format!("cofferctl \\- {}\n", TABLE.about));
    page += &section("SYNOPSIS", "\\fBcofferctl\\fR \\fICOMMAND\\fR [\\fIFLAGS\\fR] [\\fIARGUMENTS\\fR]\n");
    page += &section("DESCRIPTION", &blocks(source.section("DESCRIPTION")));
    page += ".SH COMMANDS\n";
    for verb in TABLE.verbs {
        let long = Source::read(&format!("# DESCRIPTION\n\n{}\n", verb.long));
        page.extend([".SS ", &synopsis("cofferctl", verb), &text(&roff::sentence(verb.about)), "\n"]);
        page.extend([long.section("DESCRIPTION"), source.section(verb.name)].map(blocks));
        page += &flags(verb.flags.iter(), source);
    }
    page += &section("OPTIONS", &flags(TABLE.global.iter(), source));
    for name in ["EXIT STATUS", "FILES", "EXAMPLES"] {
        page += &section(name, &blocks(source.section(name)));
    }
    roff::wrapped(&(page + &section("SEE ALSO", &see_also(source.see_also()))))
}

#[track_caller]
fn compared(name: &str, text: &str) {
    if std::env::var_os("BLESS").is_some() {
        fs::write(path(name), text).expect("it can be written");
    }
    let there = fs::read_to_string(path(name)).unwrap_or_default();
    assert_eq!(text, there, "{name}: BLESS=1 cargo test -p cofferctl --test manual");
}

#[test]
fn the_page_is_as_the_table_and_its_text_have_it() {
    let page = page(&source());
    for verb in TABLE.verbs {
        for flag in verb.flags {
            let long = format!("\\-\\-{}", flag.long.replace('-', "\\-"));
            assert!(page.contains(&long), "{}: --{}", verb.name, flag.long);
        }
    }
    compared("man/cofferctl.1", &page);
}

#[test]
fn no_flag_is_told_that_is_not_in_the_table() {
    for flag in source().flags() {
        assert!(TABLE.verbs.iter().any(|verb| verb.flags.iter().any(|known| known.long == flag)), "--{flag}");
    }
}

#[test]
fn the_scripts_are_those_that_the_program_prints() {
    for (shell, name) in
        [(Shell::Bash, "cofferctl.bash"), (Shell::Fish, "cofferctl.fish"), (Shell::Zsh, "_cofferctl")]
    {
        compared(&format!("completions/{name}"), &shell.script("cofferctl"));
    }
}
